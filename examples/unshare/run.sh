#!/bin/sh
# run.sh IMAGE COMMAND…: runs COMMAND inside IMAGE, in a container made with unshare(1) alone.
#
# Needs no privileges: IMAGE (a file with IMAGE.sig beside it, or name:NAME) is mounted by cfs-mountd, and attached in
# the container's own mount namespace. CFS_SOCKET names another socket than the default.
set -eu
[ $# -ge 2 ] || { echo "usage: run.sh IMAGE COMMAND…" >&2; exit 2; }
image=$1
shift
root=$(mktemp -d)
trap 'rmdir "$root"' EXIT
unshare --user --map-root-user --mount --pid --fork -- sh -euc '
  root=$1 image=$2
  shift 2
  mount.cfs-delegated "$image" "$root" -o "idmap=none${CFS_SOCKET:+,socket=$CFS_SOCKET}"
  exec chroot "$root" "$@"
' sh "$root" "$image" "$@"
