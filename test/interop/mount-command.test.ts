import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { FileSystem } from '../../src/trust/file-system.ts';
import { makeDisk, testUuid } from '../support/disk-image.ts';
import { buildFileSystem, builtFileSystems, presentFileSystems } from '../support/file-systems.ts';
import { digestOf, Host, makePlace, Signer, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';

const here = presentFileSystems(builtFileSystems);
const types: readonly FileSystem[] =
  here.includes('squashfs') && process.arch === 'x64' ? [...here, 'ddi'] : here;

/** util-linux 2.38 or later. */
function hasMount(): boolean {
  const [, major, minor] =
    /util-linux (\d+)\.(\d+)/.exec(spawnSync('mount', ['--version']).stdout.toString()) ?? [];
  return Number(major) > 2 || (Number(major) === 2 && Number(minor) >= 38);
}

/**
 * As root, in a mount namespace of its own with the helper in /sbin: mounts by mount(8), by an entry of fstab, lays a writable overlay
 * over it, and unmounts. Arguments: the place, the type, the helper, Node, the socket.
 */
const script = `
set -eu
place=$1 type=$2 helper=$3 node=$4 socket=$5
cd "$place"
mkdir -p sbin-upper sbin-work mnt private
mount -t overlay -o "lowerdir=/usr/sbin,upperdir=$place/sbin-upper,workdir=$place/sbin-work" sbin /usr/sbin
printf '#!/bin/sh\\nexec "%s" "%s" "$@"\\n' "$node" "$helper" >/usr/sbin/mount.cfs-delegated
chmod 755 /usr/sbin/mount.cfs-delegated
mount -t tmpfs private private
mkdir private/upper private/work private/merged
image=$place/$type.img
shown() { while read -r _ _ _ _ at options rest; do [ "$at" != "$place/mnt" ] || { set -- \${rest#*- }; echo "$options $1 $2"; }; done </proc/self/mountinfo; }
# The service closes its own descriptor of the mount a moment after it has sent it: until then the mount is busy.
unmount() {
  for try in $(seq 600); do
    said=$(umount "$1" 2>&1) && return
    case $said in *busy*) sleep 0.1 ;; *) break ;; esac
  done
  echo "$said" >&2
  return 1
}

mount -t cfs-delegated "$image" mnt -o "type=$type,socket=$socket"
cat mnt/hello
shown
mount -t overlay -o "lowerdir=$place/mnt,upperdir=$place/private/upper,workdir=$place/private/work" container private/merged
echo written >private/merged/hello
cat private/merged/hello mnt/hello
umount private/merged
unmount "$place/mnt"
echo "left: $(shown)"

echo "$image $place/mnt cfs-delegated type=$type,socket=$socket,noexec,noauto,nofail 0 0" >private/fstab
[ -e /etc/fstab ] || touch /etc/fstab
mount --bind private/fstab /etc/fstab
mount "$place/mnt"
cat mnt/hello
shown
unmount "$place/mnt"
echo "left: $(shown)"
`;

describe.skipIf(needs('interop', isRoot && hasMount(), 'root is needed, and mount(8) of util-linux 2.38'))(
  'mount(8) on every filesystem',
  () => {
    let place: Place;
    let host: Host;
    const digests = new Map<string, string>();

    beforeAll(async () => {
      place = makePlace('mount-command');
      const signer = new Signer();
      const tree = join(place.folder, 'tree');
      mkdirSync(tree);
      writeFileSync(join(tree, 'hello'), 'hello\n');
      const path = (type: string): string => join(place.folder, `${type}.img`);
      for (const fileSystem of here) buildFileSystem(fileSystem, tree, path(fileSystem));
      if (types.includes('ddi')) writeFileSync(path('ddi'), diskOf(readFileSync(path('squashfs'))));
      for (const type of types) {
        const digest = digestOf(readFileSync(path(type)));
        digests.set(type, digest);
        writeFileSync(`${path(type)}.sig`, signer.sign(digest, `example/${type}`, { fileSystem: type }));
      }
      host = await Host.start({
        folder: place.folder,
        policy: {
          '10-site.toml': `
[[keys]]
id = "site"
file = "site.pub"
[[rules]]
name = "every filesystem"
signed-by = ["site"]
file-systems = ["erofs", "squashfs", "ext4", "xfs", "btrfs", "ddi"]
unscanned = true
`,
        },
        keys: { 'site.pub': signer.publicPem },
      });
    });

    afterAll(async () => {
      await host.stop();
      place.remove();
    });

    test.each(types)('%s: by its arguments and by fstab, a container’s overlay on top', (type) => {
      const helper = resolve(import.meta.dirname, '../../dist/cli/mount.cfs-delegated.cjs');
      const parameters = ['sh', place.folder, type, helper, process.execPath, host.socketPath];
      const ran = spawnSync(
        'unshare',
        ['--mount', '--propagation', 'private', '--', 'sh', '-c', script, ...parameters],
        { encoding: 'utf8' },
      );
      // The type is the filesystem's that the kernel has, the source says which image it is.
      const shown = `${type === 'ddi' ? 'squashfs' : type} ${digests.get(type) ?? ''}`;
      expect(ran.stderr).toBe('');
      expect(ran.stdout.split('\n')).toEqual([
        'hello',
        expect.stringMatching(new RegExp(`^ro,nosuid,nodev,\\S* ${shown}$`)) as string,
        ...['written', 'hello', 'left: '],
        'hello',
        expect.stringMatching(new RegExp(`^ro,nosuid,nodev,noexec,\\S* ${shown}$`)) as string,
        ...['left: ', ''],
      ]);
      expect(ran.status).toBe(0);
    });
  },
);

/** A disk image for x86-64 with a squashfs in root. */
function diskOf(squashfs: Buffer): Buffer {
  const content = Buffer.concat([squashfs, Buffer.alloc((512 - (squashfs.length % 512)) % 512)]);
  const last = 39 + content.length / 512;
  const type = '4f68bce3-e8cd-4db1-96e7-fbcaf984b709';
  return makeDisk({ blocks: last + 41, partitions: [{ type, uuid: testUuid(1), first: 40, last, content }] });
}
