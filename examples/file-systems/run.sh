#!/bin/sh
# run.sh TREE KEY TYPE FOLDER: makes an image of TYPE (erofs, squashfs, ext4, btrfs or ddi) from TREE in FOLDER, signs it with KEY as
# example/TYPE, mounts it by mount(8) in a container of its own, lays a writable overlay over it, and shows what that holds.
#
# Needs no privileges but for files of other owners. CFS_SOCKET names another socket than the default. A rule has to take
# the filesystem; all but EROFS want `unscanned = true` in it.
set -eu
[ $# -eq 4 ] || { echo "usage: run.sh TREE KEY TYPE FOLDER" >&2; exit 2; }
tree=$1 key=$2 type=$3 folder=$4
image=$folder/tools.$type
case $type in
  erofs) mkfs.erofs -zlz4hc "$image" "$tree" >&2 ;;
  squashfs) mksquashfs "$tree" "$image" -comp zstd -noappend -quiet -no-progress >&2 ;;
  ext4) truncate -s 16M "$image" && mkfs.ext4 -q -d "$tree" "$image" ;;
  btrfs) truncate -s 16M "$image" && mkfs.btrfs -q --mixed --rootdir "$tree" "$image" >&2 ;;
  ddi) # A disk image with squashfs in its root partition, and its hashes for dm-verity. What is the caller's is root's in it.
    mkdir "$folder/repart.d"
    cat >"$folder/repart.d/10-root.conf" <<'END'
[Partition]
Type=root
Format=squashfs
CopyFiles=/
Minimize=best
Verity=data
VerityMatchKey=root
END
    cat >"$folder/repart.d/20-root-verity.conf" <<'END'
[Partition]
Type=root-verity
Minimize=best
Verity=hash
VerityMatchKey=root
END
    unshare --user --map-root-user systemd-repart --empty=create --size=auto --offline=yes --dry-run=no \
      --root="$tree" --definitions="$folder/repart.d" "$image" >&2
    cfs-mountctl inspect "$image" >&2
    ;;
  *) echo "run.sh: no recipe for $type" >&2; exit 2 ;;
esac
cfs-mountctl sign "$image" --key "$key" --name "example/$type" --file-system "$type" >&2
unshare --user --map-root-user --mount -- sh -euc '
  image=$1 type=$2
  mount -t tmpfs tmpfs /mnt
  mkdir /mnt/image /mnt/upper /mnt/work /mnt/merged
  mount.cfs-delegated "$image" /mnt/image -o "type=$type${CFS_SOCKET:+,socket=$CFS_SOCKET}"
  mount -t overlay -o lowerdir=/mnt/image,upperdir=/mnt/upper,workdir=/mnt/work,userxattr container /mnt/merged
  echo written > /mnt/merged/written
  ls /mnt/merged
  while read -r _ _ _ _ at _ rest; do
    [ "$at" != /mnt/image ] || { set -- ${rest#*- }; echo "$1 $2"; }
  done < /proc/self/mountinfo
  umount /mnt/merged
  umount /mnt/image
' sh "$image" "$type"
