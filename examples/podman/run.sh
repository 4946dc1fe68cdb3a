#!/bin/sh
# run.sh IMAGE COMMAND…: runs COMMAND in a rootless podman container on IMAGE, with a writable layer of its own.
#
# The mount is made in podman's own user and mount namespace (podman unshare), where the caller's subordinate IDs are
# mapped; `--rootfs DIR:O` lays podman's overlay over it. CFS_SOCKET names another socket than the default; RUN_AS
# (default 1000:1000) is the user inside, who writes a file as proof; PODMAN_OPTIONS go to podman run.
set -eu
[ $# -ge 2 ] || { echo "usage: run.sh IMAGE COMMAND…" >&2; exit 2; }
image=$1
shift
root=$(mktemp -d)
trap 'rmdir "$root"' EXIT
# One `podman unshare` for all of it: the mount lives as long as its mount namespace.
podman unshare sh -euc '
  root=$1 image=$2
  shift 2
  mount -t cfs-delegated "$image" "$root" -o "idmap=caller${CFS_SOCKET:+,socket=$CFS_SOCKET}"
  trap "umount \"$root\"" EXIT
  podman run --rm --network=none --user "${RUN_AS:-1000:1000}" ${PODMAN_OPTIONS:-} --rootfs "$root:O" "$@"
' sh "$root" "$image" "$@"
