#!/bin/bash
# on-btrfs.sh COMMAND…: runs COMMAND with TMPDIR on an empty btrfs, in a machine of run.sh.
set -e
modprobe btrfs
truncate -s 256M "$TMPDIR/disk"
mkfs.btrfs -q "$TMPDIR/disk"
mkdir "$TMPDIR/btrfs"
mount -o loop "$TMPDIR/disk" "$TMPDIR/btrfs"
export TMPDIR=$TMPDIR/btrfs
exec "$@"
