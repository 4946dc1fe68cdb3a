import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { loadPolicy } from '../../src/policy/load.ts';
import { parseCertificatePem } from '../../src/trust/certificate.ts';
import { absent } from '../support/needs.ts';

// What policy/README.md says of the kernel's keyrings, tried on a keyring of this process: add_key(2), KEYCTL_DESCRIBE and KEYCTL_READ.
const ask = `
import ctypes, errno, os, sys
add_key, keyctl = (248, 250) if os.uname().machine == "x86_64" else (217, 219)
libc = ctypes.CDLL(None, use_errno=True)
data = open(sys.argv[1], "rb").read()
key = libc.syscall(add_key, b"asymmetric", b"", data, ctypes.c_size_t(len(data)), ctypes.c_int(-2))
if key < 0: sys.exit(os.strerror(ctypes.get_errno()))
text = ctypes.create_string_buffer(4096)
libc.syscall(keyctl, 6, key, text, ctypes.c_size_t(4096))
read = libc.syscall(keyctl, 11, key, ctypes.create_string_buffer(4096), ctypes.c_size_t(4096))
print(text.value.decode().split(";")[4])
print("EOPNOTSUPP" if read < 0 and ctypes.get_errno() == errno.EOPNOTSUPP else (read, ctypes.get_errno()))
`;

const folder = mkdtempSync(join(tmpdir(), 'cfs-keyring-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function run(program: string, ...words: readonly string[]): string | undefined {
  const { status, stdout } = spawnSync(program, words, { cwd: folder, encoding: 'utf8' });
  return status === 0 ? stdout : undefined;
}

/** What the kernel says of a certificate in one of its keyrings; undefined where it takes none. */
function describeKey(): readonly string[] | undefined {
  const own = ['-keyout', 'key', '-out', 'vendor.crt', '-subj', '/CN=vendor', '-nodes', '-days', '30'];
  run('openssl', 'req', '-x509', '-newkey', 'rsa:2048', ...own);
  run('openssl', 'x509', '-in', 'vendor.crt', '-outform', 'der', '-out', 'vendor.der');
  return run('python3', '-c', ask, 'vendor.der')?.trim().split('\n');
}

const found = describeKey();

describe.skipIf(absent(found !== undefined, 'the kernel takes no certificates into keyrings here'))(
  "a certificate in the kernel's keyring",
  () => {
    const certificate = parseCertificatePem(readFileSync(join(folder, 'vendor.crt'), 'utf8'));

    test('shows its name and key identifier, and is not given back', () => {
      expect(found).toEqual([`vendor: ${certificate?.subjectKeyId ?? 'none'}`, 'EOPNOTSUPP']);
    });

    test('becomes a key of the policy from the file that it was added from', () => {
      mkdirSync(join(folder, 'keys.d'));
      mkdirSync(join(folder, 'policy.d'));
      run('openssl', 'x509', '-inform', 'der', '-in', 'vendor.der', '-out', 'keys.d/vendor.crt');
      const text =
        '[[keys]]\nid = "vendor"\nfile = "vendor.crt"\n[[rules]]\nname = "r"\nsigned-by = ["vendor"]\n' +
        'formats = ["fsverity-pkcs7"]\n';
      writeFileSync(join(folder, 'policy.d', '10.toml'), text);
      const key = loadPolicy([folder], { owners: 'warn' }).policy.keys.get('vendor');
      expect(key?.certificates.map(({ subjectKeyId }) => subjectKeyId)).toEqual([certificate?.subjectKeyId]);
    });
  },
);
