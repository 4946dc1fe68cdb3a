import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf, Host, makePlace, Signer, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { sid, sidMissing } from '../support/sid.ts';

const description = resolve(import.meta.dirname, '../../src/api/io.cfsmountd.MountDelegation.varlink');
const name = 'io.cfsmountd.MountDelegation';

/** Runs varlinkctl; returns what it printed. */
function varlinkctl(...parameters: string[]): { status: number | null; output: string; errors: string } {
  const [program = '', ...all] = sid('varlinkctl', '--no-pager', ...parameters) ?? [];
  const result = spawnSync(program, all, { encoding: 'utf8', timeout: 60_000 });
  return { status: result.status, output: result.stdout, errors: result.stderr };
}

const available = isRoot && sid('varlinkctl') !== undefined;

describe.skipIf(needs('interop', available, isRoot ? sidMissing : 'only root can mount'))(
  'varlinkctl',
  () => {
    let place: Place;
    let host: Host;
    const signer = new Signer();
    const image = smallImage({ hello: 'hello from the image\n' });

    beforeAll(async () => {
      place = makePlace('varlinkctl');
      const images = join(place.folder, 'images');
      mkdirSync(images);
      writeFileSync(join(images, 'tools.cfs'), image);
      writeFileSync(
        join(images, 'tools.cfs.sig'),
        signer.sign(digestOf(image), 'example/tools', { version: 3 }),
      );
      writeFileSync(join(images, 'unsigned.cfs'), smallImage({ other: 'x' }));
      host = await Host.start({
        folder: place.folder,
        policy: {
          '10-site.toml': `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${images}"
[[rules]]
name = "signed"
users = ["*"]
images = ["example/**"]
signed-by = ["site"]
verity = "never"
`,
        },
        keys: { 'site.pub': signer.publicPem },
      });
    });

    afterAll(async () => {
      await host.stop();
      place.remove();
    });

    test('info names the service and its interfaces', () => {
      const { status, output } = varlinkctl('info', host.socketPath);
      expect(status).toBe(0);
      expect(output).toContain('cfs-mountd');
      expect(output).toContain(name);
      expect(output).toContain('org.varlink.service');
    });

    test('list-interfaces', () => {
      const { output } = varlinkctl('list-interfaces', host.socketPath);
      expect(output.trim().split('\n').sort()).toEqual([name, 'org.varlink.service']);
    });

    test('list-methods', () => {
      const { output } = varlinkctl('list-methods', host.socketPath, name);
      const names = output.split('\n').map((line) => line.trim().split('.').at(-1));
      expect(names).toEqual(expect.arrayContaining(['Mount', 'Verify', 'Describe', 'Reload']));
    });

    test.each([name, 'org.varlink.service'])('introspect %s', (interfaceName) => {
      const { status, output, errors } = varlinkctl('introspect', host.socketPath, interfaceName);
      expect(errors).toBe('');
      expect(status).toBe(0);
      expect(output).toContain(`interface ${interfaceName}`);
    });

    test('validate-idl takes the description', () => {
      const { status, errors } = varlinkctl('validate-idl', description);
      expect(errors).toBe('');
      expect(status).toBe(0);
    });

    test('call Describe', () => {
      const { status, output } = varlinkctl(
        '--json=short',
        'call',
        host.socketPath,
        `${name}.Describe`,
        '{}',
      );
      expect(status).toBe(0);
      const reply: unknown = JSON.parse(output);
      expect(reply).toMatchObject({ policy: { digest: expect.any(String) as unknown } });
    });

    test('call --more: one reply ends it', () => {
      const { status } = varlinkctl('--more', 'call', host.socketPath, `${name}.Describe`, '{}');
      expect(status).toBe(0);
    });

    test('call --oneway', () => {
      const { status } = varlinkctl('--oneway', 'call', host.socketPath, `${name}.Describe`, '{}');
      expect(status).toBe(0);
    });

    test('call Verify: evidence, and an error with its parameters', () => {
      const verify = (image: string): ReturnType<typeof varlinkctl> =>
        varlinkctl(
          '--json=short',
          'call',
          host.socketPath,
          `${name}.Verify`,
          JSON.stringify({ image: { name: image } }),
        );
      const granted = verify('tools');
      expect(granted.errors).toBe('');
      expect(JSON.parse(granted.output)).toMatchObject({
        evidence: {
          name: 'example/tools',
          version: 3,
          signers: ['site'],
          rule: 'signed',
          digest: digestOf(image),
        },
      });
      const refused = verify('unsigned');
      expect(refused.status).not.toBe(0);
      expect(refused.errors).toContain(`${name}.NotSigned`);
    });

    test('call with parameters that do not fit', () => {
      const { status, errors } = varlinkctl(
        'call',
        host.socketPath,
        `${name}.Verify`,
        '{"image": {"name": 7}}',
      );
      expect(status).not.toBe(0);
      expect(errors).toMatch(/InvalidParameter|Invalid argument/);
    });

    test('call --push-fd: an image by descriptor, and --exec with the mount that comes back', () => {
      const file = join(place.folder, 'pushed.cfs');
      writeFileSync(file, image);
      // varlinkctl pushes files it opens itself: a plain file is none that the service takes.
      const parameters = JSON.stringify({ image: { fileDescriptor: 0 } });
      const refused = varlinkctl(`--push-fd=${file}`, 'call', host.socketPath, `${name}.Mount`, parameters);
      expect(refused.errors).toContain(`${name}.ImageNotImmutable`);

      const out = join(place.folder, 'from-mount');
      const mounted = varlinkctl(
        '--exec',
        'call',
        host.socketPath,
        `${name}.Mount`,
        JSON.stringify({ image: { name: 'tools' } }),
        '--',
        'sh',
        '-c',
        `cat /proc/self/fd/3/hello > ${out}`,
      );
      expect(mounted.errors).toBe('');
      expect(mounted.status).toBe(0);
      expect(readFileSync(out, 'utf8')).toBe('hello from the image\n');
    });
  },
);
