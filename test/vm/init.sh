#!/bin/busybox sh
# The guest's first process: shows the host's root, read-only beneath memory, with the work folder read-write at its
# own path and an empty ext4 with fs-verity for scratch; then runs /job/command and turns the machine off.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do [ ! -e "$module" ] || insmod "$module"; done
. /job/variables # kind, work, scratch, modules, job

share() { # TAG FOLDER ON OPTIONS: a folder of the host
  if [ "$kind" = uml ]; then
    mount -t hostfs -o "$4,$2" host "$3"
  else
    mount -t 9p -o "$4,trans=virtio,version=9p2000.L,msize=512000,cache=loose" "$1" "$3"
  fi
}
fail() {
  echo "init: $*" >/dev/console
  poweroff -f
}

new=/mnt/new
mkdir -p /mnt/host /mnt/memory $new
share host / /mnt/host ro || fail "cannot mount the host's root"
mount -t tmpfs memory /mnt/memory
mkdir -m 755 /mnt/memory/upper
mkdir /mnt/memory/work
mount -t overlay -o lowerdir=/mnt/host,upperdir=/mnt/memory/upper,workdir=/mnt/memory/work root $new ||
  fail "cannot mount the root overlay"
for folder in proc sys dev; do mount --move /$folder $new/$folder; done
cd $new
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mkdir -p dev/shm dev/pts lib/modules
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts dev/pts
mount -t cgroup2 cgroup sys/fs/cgroup
[ -e dev/fd ] || ln -s /proc/self/fd dev/fd
mount --bind "/mnt/host$modules" lib/modules
mkdir -p ".$work"
share work "$work" ".$work" rw || fail "cannot mount $work"
mkdir -p ".$scratch"
mount -t ext4 "dev/$disk" ".$scratch" || fail "cannot mount the scratch disk"
mkdir -p run/vm/out
cp /bin/busybox /job/* run/vm/
if [ "$kind" = uml ]; then
  share out "$job" run/vm/out rw,sync 2>/dev/null || mount -t hostfs -o "$job" out run/vm/out
else
  ln -s /dev/vport0p1 run/vm/out/output
  ln -s /dev/vport0p2 run/vm/out/status
fi
ifconfig lo up
hostname guest
exec switch_root $new /run/vm/busybox sh /run/vm/main
