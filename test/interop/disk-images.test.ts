import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { memorySource } from '../support/memory-source.ts';
import { compareVersions } from '../../src/ddi/compare-versions.ts';
import { dissect } from '../../src/ddi/dissect.ts';
import { readPartitionTable } from '../../src/ddi/gpt.ts';
import { findMountedPartition } from '../../src/ddi/mounted-partition.ts';
import { kindName, partitionKind } from '../../src/ddi/partition-kinds.ts';
import { hasVerityTarget } from '../../src/sys/device-mapper.ts';
import { digestOf, Host, makePlace, Signer } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { Random } from '../support/random.ts';
import { repart } from '../support/repart.ts';
import { sid, sidMissing } from '../support/sid.ts';

/** What a program of sid's prints; throws where it fails. */
function run(program: string, ...parameters: readonly string[]): string {
  const [file = '', ...all] = sid(program, ...parameters) ?? [];
  return execFileSync(file, all, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

const available =
  sid('systemd-repart') !== undefined && sid('systemd-dissect') !== undefined && process.arch === 'x64';

describe.skipIf(needs('interop', available, sidMissing))('types and versions', () => {
  test('every type that systemd knows has its name here', () => {
    const known = JSON.parse(run('systemd-id128', 'show', '--json=short')) as { name: string; id: string }[];
    // Of the architectures that have several names the first is the specification's.
    const first = new Map(known.toReversed().map(({ name, id }) => [id, name]));
    for (const [id, name] of first) {
      const kind = partitionKind(id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'));
      expect([name, kind && kindName(kind)]).toEqual([name, name]);
    }
    expect(first.size).toBeGreaterThan(130);
  });

  test('versions are compared as systemd-analyze does', () => {
    const random = new Random(8);
    const parts = ['0', '1', '09', '10', 'a', 'B', 'ab', '~', '-', '^', '.', '_', 'rc'] as const;
    const version = (): string =>
      Array.from({ length: 1 + random.below(5) }, () => random.pick(parts)).join('');
    for (let round = 0; round < 60; round++) {
      const [a, b] = [version(), version()];
      const [file = '', ...all] = sid('systemd-analyze', 'compare-versions', '--', a, b) ?? [];
      // Its exit status: 0 equal, 11 the first is newer, 12 the second is.
      const { status } = spawnSync(file, all, { stdio: 'ignore' });
      const ours = compareVersions(a, b);
      expect([a, b, status]).toEqual([a, b, ours === 0 ? 0 : ours > 0 ? 11 : 12]);
    }
  });
});

describe.skipIf(
  needs('interop', available && isRoot, isRoot ? sidMissing : 'only root can use loop devices'),
)('images of systemd-repart', () => {
  let folder: string;
  let tree: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'disk-images-'));
    tree = join(folder, 'tree');
    mkdirSync(join(tree, 'usr/bin'), { recursive: true });
    mkdirSync(join(tree, 'etc'));
    writeFileSync(join(tree, 'etc/os-release'), 'ID=test\nVERSION_ID=1\n');
    writeFileSync(join(tree, 'usr/bin/tool'), '#!/bin/sh\n');
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-subj',
        '/CN=images',
        '-keyout',
        'key',
        '-out',
        'crt',
      ],
      { cwd: folder, stdio: 'ignore' },
    );
  });

  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  const root = ['Type=root', 'Format=squashfs', 'CopyFiles=/', 'Minimize=best'];
  const verity = (part: string): string[][] => [
    [`Type=${part}-verity`, 'Verity=hash', `VerityMatchKey=${part}`, 'Minimize=best'],
    [`Type=${part}-verity-sig`, 'Verity=signature', `VerityMatchKey=${part}`],
  ];
  const cases: readonly { name: string; sectorBytes?: number; partitions: string[][] }[] = [
    { name: 'root alone', partitions: [root] },
    { name: 'blocks of 4096 bytes', sectorBytes: 4096, partitions: [root] },
    {
      name: 'root with hashes and their signature',
      partitions: [[...root, 'Verity=data', 'VerityMatchKey=root'], ...verity('root')],
    },
    {
      name: 'usr with hashes and their signature beside root, home and esp',
      partitions: [
        ['Type=esp', 'SizeMinBytes=1M', 'SizeMaxBytes=1M'],
        ['Type=root', 'Format=ext4', 'CopyFiles=/', 'SizeMinBytes=8M', 'SizeMaxBytes=8M'],
        [
          'Type=usr',
          'Format=squashfs',
          'CopyFiles=/usr:/',
          'Minimize=best',
          'Verity=data',
          'VerityMatchKey=usr',
        ],
        ...verity('usr'),
        ['Type=home', 'Format=ext4', 'SizeMinBytes=8M', 'SizeMaxBytes=8M'],
      ],
    },
    {
      name: 'usr alone',
      partitions: [['Type=usr', 'Format=squashfs', 'CopyFiles=/usr:/', 'Minimize=best']],
    },
    {
      name: 'two versions, and one that is not to be mounted',
      partitions: [
        [...root, 'Label=os_9'],
        [...root, 'Label=os_10'],
        [...root, 'Label=os_11', 'NoAuto=yes'],
      ],
    },
    {
      name: 'read-only and growing',
      partitions: [
        ['Type=root', 'Format=ext4', 'CopyFiles=/', 'Minimize=guess', 'ReadOnly=yes', 'GrowFileSystem=no'],
      ],
    },
    {
      name: 'another architecture beside',
      partitions: [
        [...root.slice(1), 'Type=root-arm64'],
        [...root.slice(1), 'Type=root-x86'],
      ],
    },
  ];

  test.each(cases)('$name: seen as systemd-dissect sees it', ({ sectorBytes, partitions }) => {
    const work = mkdtempSync(join(folder, 'image-'));
    const image = repart({
      folder: work,
      tree,
      partitions,
      key: join(folder, 'key'),
      certificate: join(folder, 'crt'),
      ...(sectorBytes === undefined ? {} : { sectorBytes }),
    });
    const theirs = JSON.parse(run('systemd-dissect', '--json=short', join(work, 'image.raw'))) as {
      sectorSize: number;
      imageUuid: string;
      mounts: Record<string, unknown>[];
    };
    const table = readPartitionTable(memorySource(image));
    expect(table).toMatchObject({ sectorBytes: theirs.sectorSize, diskUuid: theirs.imageUuid });
    const ours = [...dissect(table, 'x86-64').values()].map((partition) => ({
      designator: partition.designator,
      partition_uuid: partition.uuid,
      partition_label: partition.label,
      architecture: partition.architecture ?? null,
      partno: partition.number,
    }));
    const order = (a: { designator: unknown }, b: { designator: unknown }): number =>
      String(a.designator) < String(b.designator) ? -1 : 1;
    const seen = theirs.mounts.map(
      ({ designator, partition_uuid, partition_label, architecture, partno }) => ({
        designator,
        partition_uuid,
        partition_label,
        architecture,
        partno,
      }),
    );
    expect(ours.sort(order)).toEqual(seen.sort(order));
    expect(ours.length).toBeGreaterThan(0);
  });

  test('with signed hashes: veritysetup takes the root hash found here, the policy its signature, and the service mounts it', async () => {
    const place = makePlace('disk-images-repart');
    const signer = new Signer();
    const image = repart({
      folder: mkdtempSync(join(folder, 'image-')),
      tree,
      partitions: [[...root, 'Verity=data', 'VerityMatchKey=root'], ...verity('root')],
      key: join(folder, 'key'),
      certificate: join(folder, 'crt'),
    });
    const { fileSystem, range, hashes, signed } = findMountedPartition(memorySource(image), 'x86-64');
    expect(fileSystem).toBe('squashfs');
    if (hashes === undefined || signed === undefined) throw new Error('no signed hashes were found');
    const [data, tops] = [range, hashes.range].map(({ offset, bytes }, index) => {
      const path = join(place.folder, `part${index}`);
      writeFileSync(path, image.subarray(offset, offset + bytes));
      return path;
    });
    execFileSync('veritysetup', ['verify', data ?? '', tops ?? '', hashes.table.rootHash], { stdio: 'pipe' });
    const host = await Host.start({
      folder: place.folder,
      policy: {
        '10-site.toml': `
[[keys]]
id = "site"
file = "site.pub"
[[rules]]
name = "disk images"
signed-by = ["site"]
file-systems = ["ddi"]
unscanned = true
[[keys]]
id = "vendor"
file = "vendor.pub"
[[rules]]
name = "signed root hashes"
signed-by = ["vendor"]
formats = ["dmverity-pkcs7"]
file-systems = ["ddi"]
unscanned = true
`,
      },
      keys: { 'site.pub': signer.publicPem, 'vendor.pub': readFileSync(join(folder, 'crt'), 'utf8') },
    });
    try {
      const path = join(place.folder, 'image.raw');
      writeFileSync(path, image);
      // What systemd-repart signed is enough, if dm-verity is there to check the rest.
      const tool = resolve(import.meta.dirname, '../../dist/cli/cfs-mountctl.cjs');
      const policy = ['--policy', join(place.folder, 'policy'), '--user', '1000'];
      const verified = spawnSync(
        process.execPath,
        [tool, 'verify', path, '--file-system', 'ddi', ...policy],
        {
          encoding: 'utf8',
        },
      );
      expect(verified.stdout + verified.stderr).toContain('allowed by rule "signed root hashes"');
      const helper = resolve(import.meta.dirname, '../../dist/cli/mount.cfs-delegated.cjs');
      const script = `node "$0" "$1" /mnt -o type=ddi,socket="$2" && cat /mnt/etc/os-release`;
      const mountIt = (): { stdout: string; stderr: string } =>
        spawnSync('unshare', ['-m', 'sh', '-c', script, helper, path, host.socketPath], { encoding: 'utf8' });
      const shown = 'ID=test\nVERSION_ID=1\n';
      const byRootHash = mountIt();
      if (hasVerityTarget()) expect(byRootHash).toMatchObject({ stdout: shown, stderr: '' });
      else expect(byRootHash.stderr).toMatch(/KernelUnsupported: .*dm-verity/);
      writeFileSync(`${path}.sig`, signer.sign(digestOf(image), 'example/disk', { fileSystem: 'ddi' }));
      expect(mountIt()).toMatchObject({ stdout: shown, stderr: '' });
    } finally {
      await host.stop();
      place.remove();
    }
  });
});
