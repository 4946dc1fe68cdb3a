#!/bin/sh
# as-user.sh FOLDER NODE COMMAND…: runs COMMAND as user 1000 without privileges, on a machine prepared for rootless
# containers, whatever this one looks like: an account with subordinate IDs, a home, a runtime folder and podman's
# settings for a machine without systemd; mount.cfs-delegated in /sbin, and cfs-mountctl and mount.cfs-delegated on
# PATH, from this checkout, wherever it lies. All of it is in a mount and a process namespace of its own, with its files
# in FOLDER (empty, on a filesystem that overlayfs takes), and gone with them. Run by root.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
if [ "${1:-}" != --inside ]; then
  exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc -- "$0" --inside "$here" "$@"
fi
checkout=$2 folder=$3 node=$4
shift 4

# podman warns where mounts do not propagate.
mount --make-rshared /
chmod 755 "$folder"
mkdir "$folder/project" "$folder/programs" "$folder/home" "$folder/runtime" "$folder/upper" "$folder/work"
: >"$folder/node"
mount --bind "$checkout" "$folder/project"
mount --bind "$node" "$folder/node"
for program in cfs-mountctl mount.cfs-delegated; do
  printf '#!/bin/sh\nexec "%s/node" "%s/project/dist/cli/%s.cjs" "$@"\n' "$folder" "$folder" "$program" \
    >"$folder/programs/$program"
  chmod 755 "$folder/programs/$program"
done
mount -t overlay -o "lowerdir=/usr/sbin,upperdir=$folder/upper,workdir=$folder/work" sbin /usr/sbin
cp "$folder/programs/mount.cfs-delegated" /usr/sbin/

{ grep -v '^[^:]*:[^:]*:1000:' /etc/passwd; echo "rootless:x:1000:1000::$folder/home:/bin/sh"; } >"$folder/passwd"
{ grep -v '^[^:]*:[^:]*:1000:' /etc/group; echo "rootless:x:1000:"; } >"$folder/group"
echo 'rootless:100000:65536' >"$folder/subordinate"
[ -e /etc/subuid ] || : >/etc/subuid
[ -e /etc/subgid ] || : >/etc/subgid
mount --bind "$folder/passwd" /etc/passwd
mount --bind "$folder/group" /etc/group
mount --bind "$folder/subordinate" /etc/subuid
mount --bind "$folder/subordinate" /etc/subgid

# crun takes no mixture of the two versions of control groups.
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "$folder/home/.config/containers"
cat >"$folder/home/.config/containers/containers.conf" <<'CONF'
[containers]
cgroups = "disabled"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
CONF
chown -R 1000:1000 "$folder/home" "$folder/runtime"
chmod 700 "$folder/runtime"
cd "$folder/home"
exec setpriv --reuid 1000 --regid 1000 --clear-groups -- env -i \
  PATH="$folder/programs:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME="$folder/home" \
  XDG_RUNTIME_DIR="$folder/runtime" LANG=C.UTF-8 ${CFS_SOCKET+"CFS_SOCKET=$CFS_SOCKET"} "$@"
