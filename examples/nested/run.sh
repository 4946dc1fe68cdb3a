#!/bin/sh
# run.sh OUTER INNER COMMAND…: a container within a container. The image OUTER is the outer container's root; the
# socket's folder is bound into it, and in there, without any privilege from outside, the image INNER is mounted and
# COMMAND runs inside it.
#
# It is the folder that is bound and not the socket: so the container goes on after the daemon has been restarted.
# OUTER is a file or name:NAME, INNER is name:NAME. The inner mount is made by examples/python/cfs-mount.py; the outer
# container has the host's /usr for it (OUTER needs empty folders usr, lib, lib64, proc, dev, tmp, run and mnt).
# CFS_SOCKET names another socket than the default.
set -eu
[ $# -ge 3 ] || { echo "usage: run.sh OUTER INNER COMMAND…" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
outer=$1 inner=$2
shift 2
root=$(mktemp -d)
trap 'rmdir "$root"' EXIT
CFS_SOCKET=${CFS_SOCKET:-/run/cfs-mountd/io.cfsmountd.MountDelegation}
export CFS_SOCKET
unshare --user --map-root-user --mount -- sh -euc '
  root=$1 outer=$2 inner=$3 client=$4
  shift 4
  mount.cfs-delegated "$outer" "$root" -o "idmap=none,socket=$CFS_SOCKET"
  exec bwrap --unshare-pid --unshare-net --die-with-parent --cap-add ALL --bind "$root" / \
    --ro-bind /usr /usr --ro-bind /usr/lib /lib --ro-bind /usr/lib64 /lib64 \
    --proc /proc --dev /dev --tmpfs /tmp --tmpfs /run --tmpfs /mnt \
    --ro-bind "$(dirname "$CFS_SOCKET")" /run/cfs-mountd --ro-bind "$client" /run/cfs-mount.py \
    -- /usr/bin/unshare --user --map-root-user --mount -- \
    /usr/bin/python3 /run/cfs-mount.py --socket "/run/cfs-mountd/$(basename "$CFS_SOCKET")" \
    --chroot "$inner" /mnt "$@"
' sh "$root" "$outer" "$inner" "$here/../python/cfs-mount.py" "$@"
