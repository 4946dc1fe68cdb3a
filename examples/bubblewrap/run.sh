#!/bin/sh
# run.sh IMAGE COMMAND…: runs COMMAND inside IMAGE under bubblewrap.
#
# Whoever attaches a mount must be root of a user namespace, and bubblewrap attaches none by itself: an outer user
# namespace attaches the image, and bubblewrap binds it as the root of its sandbox (IMAGE, which is read-only, needs
# empty folders proc, dev and tmp). CFS_SOCKET names another socket than the default.
set -eu
[ $# -ge 2 ] || { echo "usage: run.sh IMAGE COMMAND…" >&2; exit 2; }
image=$1
shift
root=$(mktemp -d)
trap 'rmdir "$root"' EXIT
unshare --user --map-root-user --mount -- sh -euc '
  root=$1 image=$2
  shift 2
  mount.cfs-delegated "$image" "$root" -o "idmap=none${CFS_SOCKET:+,socket=$CFS_SOCKET}"
  exec bwrap --unshare-all --die-with-parent --bind "$root" / --proc /proc --dev /dev --tmpfs /tmp -- "$@"
' sh "$root" "$image" "$@"
