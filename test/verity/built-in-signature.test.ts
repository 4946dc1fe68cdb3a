import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readVeritySignature } from '../../src/sys/verity.ts';
import { digestOf, Host, makePlace, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';

const tool = resolve(import.meta.dirname, '../../dist/cli/cfs-mountctl.cjs');

// The kernel enables fs-verity with a signature only by a certificate in its own keyring. Debian's keyctl is not needed for
// that: add_key(2) has the number 248 on x86_64, and 217 where the numbers are the generic ones.
const trust = `
import ctypes, os, sys
number = 248 if os.uname().machine == "x86_64" else 217
ring = next(int(line.split()[0], 16) for line in open("/proc/keys") if ".fs-verity" in line)
data = open(sys.argv[1], "rb").read()
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(number, b"asymmetric", b"", data, ctypes.c_size_t(len(data)), ctypes.c_int(ring)) < 0:
    sys.exit(os.strerror(ctypes.get_errno()))
`;

/** As policy/README.md closes the keyring: nothing more goes into it until the machine starts anew, so only in a machine of this test's own. */
const close = `
import ctypes, os, sys
number = 250 if os.uname().machine == "x86_64" else 219
ring = next(int(line.split()[0], 16) for line in open("/proc/keys") if ".fs-verity" in line)
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(number, 5, ring, 0x081b0000) < 0: sys.exit(os.strerror(ctypes.get_errno()))
`;

/** Whether fs-verity can be enabled here with a signature that is taken from the test's own key. */
function enables(): boolean {
  if (!isRoot) return false;
  const place = makePlace('built-in-probe');
  try {
    return prepare(place.folder, 'probe.cfs', smallImage({}));
  } finally {
    place.remove();
  }
}

function run(folder: string, program: string, ...words: readonly string[]): number | null {
  return spawnSync(program, words, { cwd: folder, stdio: 'pipe' }).status;
}

/** Signs an image as `fsverity sign` does, and enables fs-verity on it with that signature. */
function prepare(folder: string, name: string, image: Uint8Array): boolean {
  writeFileSync(join(folder, name), image);
  const own = ['-keyout', 'key', '-x509', '-out', 'crt', '-subj', '/CN=built in', '-nodes', '-days', '30'];
  return (
    run(folder, 'openssl', 'req', '-newkey', 'rsa:2048', ...own) === 0 &&
    run(folder, 'openssl', 'x509', '-in', 'crt', '-outform', 'der', '-out', 'der') === 0 &&
    run(folder, 'python3', '-c', trust, 'der') === 0 &&
    run(folder, 'fsverity', 'sign', name, `${name}.p7s`, '--key=key', '--cert=crt') === 0 &&
    run(folder, 'fsverity', 'enable', name, `--signature=${name}.p7s`) === 0
  );
}

describe.skipIf(needs('kernel', enables(), 'fs-verity with signatures is not here'))(
  'an image on which fs-verity was enabled with a signature',
  () => {
    let place: Place;
    let host: Host;
    const image = smallImage({ hello: 'hello\n' });
    const digest = digestOf(image);

    beforeAll(async () => {
      place = makePlace('built-in');
      mkdirSync(join(place.folder, 'images'), { mode: 0o755 });
      expect(prepare(place.folder, 'image.cfs', image)).toBe(true);
      const installed = join('images', 'installed.cfs');
      writeFileSync(join(place.folder, installed), image);
      expect(run(place.folder, 'fsverity', 'enable', installed, '--signature=image.cfs.p7s')).toBe(0);
      const policy = `
[[keys]]
id = "vendor"
file = "vendor.crt"
[[keys]]
id = "kernel"
keyring = ".fs-verity"
[[image-directories]]
path = "${join(place.folder, 'images')}"
[[rules]]
name = "by keyring"
users = ["*"]
signed-by = ["kernel"]
formats = ["fsverity-pkcs7"]
verity = "never"
[[rules]]
name = "built in"
users = ["*"]
signed-by = ["vendor"]
formats = ["fsverity-pkcs7"]
verity = "never"
`;
      host = await Host.start({
        folder: place.folder,
        policy: { '10.toml': policy },
        keys: { 'vendor.crt': readFileSync(join(place.folder, 'crt'), 'utf8') },
      });
    });
    afterAll(async () => {
      await host.stop();
      place.remove();
    });

    test('is let in by that signature alone, handed over or installed', async () => {
      const client = host.connect();
      const fd = openSync(join(place.folder, 'image.cfs'), 'r');
      try {
        expect(readVeritySignature(fd)).toEqual(
          new Uint8Array(readFileSync(join(place.folder, 'image.cfs.p7s'))),
        );
        const reply = await client.call('Verify', { image: { fileDescriptor: 0 } }, [fd]);
        expect(reply.parameters).toMatchObject({
          evidence: { digest, signers: ['vendor'], rule: 'built in' },
        });
      } finally {
        closeSync(fd);
      }
      const reply = await client.call('Verify', { image: { name: 'installed' } });
      expect(reply.parameters).toMatchObject({ evidence: { digest, signers: ['vendor'] } });
      client.close();
      const words = ['verify', join(place.folder, 'image.cfs'), '--policy', join(place.folder, 'policy')];
      const offline = spawnSync(process.execPath, [tool, ...words], { encoding: 'utf8' });
      expect(offline.stdout).toContain('allowed by rule "built in"');
    });

    test('is not let in where it was enabled without one', async () => {
      writeFileSync(join(place.folder, 'bare.cfs'), image);
      expect(run(place.folder, 'fsverity', 'enable', 'bare.cfs')).toBe(0);
      const client = host.connect();
      const fd = openSync(join(place.folder, 'bare.cfs'), 'r');
      try {
        expect(readVeritySignature(fd)).toBeUndefined();
        const reply = await client.call('Verify', { image: { fileDescriptor: 0 } }, [fd]);
        expect(reply.error).toContain('NotSigned');
      } finally {
        closeSync(fd);
      }
      client.close();
    });

    test.skipIf(needs('vm', process.env['CFS_VM'] !== undefined, 'the keyring of this machine stays open'))(
      "is let in by the kernel's keyring, once that is closed",
      async () => {
        expect(run(place.folder, 'python3', '-c', close)).toBe(0);
        const client = host.connect();
        const fd = openSync(join(place.folder, 'image.cfs'), 'r');
        try {
          const reply = await client.call('Verify', { image: { fileDescriptor: 0 } }, [fd]);
          expect(reply.parameters).toMatchObject({
            evidence: { digest, signers: ['kernel'], rule: 'by keyring' },
          });
        } finally {
          closeSync(fd);
          client.close();
        }
      },
    );
  },
);
