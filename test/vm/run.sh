#!/usr/bin/env bash
# run.sh [--kernel NAME] [--scratch DIR] [--timeout SECONDS] [--memory MIB] [--env NAME]… -- COMMAND…
#
# Runs COMMAND as root under another kernel (see kernel.sh; default uml), on this machine's own root, which the guest
# sees read-only beneath memory: Node and the tools run as they are. The current folder is visible read-write at its
# own path. --scratch (default /scratch) is where an empty ext4 made with fs-verity is mounted in the guest. Output
# (standard output and error in one) comes through as it is written, the exit status is COMMAND's; 124: the time limit
# (default 600 s); 125: the guest could not be run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$PWD kernel=uml scratch=/scratch limit=600 memory=2048 names=()
while [ $# -gt 0 ]; do
  case $1 in
    --kernel) kernel=$2 ;;
    --scratch) scratch=$2 ;;
    --timeout) limit=$2 ;;
    --memory) memory=$2 ;;
    --env) names+=("$2") ;;
    --) shift; break ;;
    *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 125 ;;
  esac
  shift 2
done
[ $# -gt 0 ] || { echo "run.sh: no command" >&2; exit 125; }
[ "$(id -u)" = 0 ] || { echo "run.sh: needs root" >&2; exit 125; }
"$here/kernel.sh" "$kernel" >&2 || { echo "run.sh: the $kernel kernel could not be made ready" >&2; exit 125; }
# Links resolved: in the guest, where the folder is looked up below the host's root, they would lead elsewhere.
folder=$(cd "$here/../../.cache/vm/$kernel" && pwd -P)

job=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)/cfs-vm.XXXXXX")
guest='' copier=''
finish() {
  [ -z "$guest" ] || kill "$guest" 2>/dev/null || true
  [ -z "$copier" ] || kill "$copier" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$job"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

mkdir "$job/job" "$job/out"
cp "$here/main.sh" "$job/job/main"
{
  printf 'kind=%q\nwork=%q\nscratch=%q\nmodules=%q\njob=%q\n' \
    "$([ "$kernel" = uml ] && echo uml || echo qemu)" "$work" "$scratch" "$folder/lib/modules" "$job/out"
  printf 'disk=%q\n' "$([ "$kernel" = uml ] && echo ubda || echo vda)"
} >"$job/job/variables"
{
  for name in PATH HOME LANG CI ${names[@]+"${names[@]}"}; do
    [ -z "${!name+set}" ] || printf 'export %s=%q\n' "$name" "${!name}"
  done
  printf 'export TMPDIR=%q CFS_VM=%q\ncd %q || exit 125\nexec' "$scratch" "$kernel" "$work"
  printf ' %q' "$@"
  echo
} >"$job/job/command"
(cd "$job" && find job | cpio -o -H newc --quiet) | cat "$folder/initrd" - >"$job/initrd"
truncate -s 2G "$job/scratch"
PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -O verity -b 4096 "$job/scratch"

if [ "$kernel" = uml ]; then
  : >"$job/out/output"
  timeout --foreground -k 5 "$limit" "$folder/vmlinuz" mem="${memory}M" ncpus=2 seccomp=on initrd="$job/initrd" \
    ubda="$job/scratch" con=null con0=null,fd:1 ssl=null quiet loglevel=4 panic=-1 >"$job/console" 2>&1 </dev/null &
  guest=$!
  tail -q -s 0.2 -c +1 -f --pid=$guest "$job/out/output" &
  copier=$!
else
  mkfifo "$job/out/output"
  cat "$job/out/output" &
  copier=$!
  # The reader must not wait for ever where the emulator never opens the pipe.
  exec 8<>"$job/out/output"
  timeout --foreground -k 5 "$limit" qemu-system-x86_64 -M q35 -m "$memory" -smp 2 -nodefaults -display none \
    -no-reboot -monitor none -rtc base=utc -accel tcg,thread=multi -cpu max,la57=off \
    -kernel "$folder/vmlinuz" -initrd "$job/initrd" \
    -append "console=ttyS0 quiet loglevel=4 panic=-1 nokaslr mitigations=off no_timer_check tsc=reliable audit=0" \
    -serial "file:$job/console" -device virtio-serial-pci -device virtio-rng-pci \
    -chardev "file,id=output,path=$job/out/output" -device virtserialport,chardev=output,nr=1 \
    -chardev "file,id=status,path=$job/out/status" -device virtserialport,chardev=status,nr=2 \
    -fsdev local,id=host,path=/,security_model=passthrough,readonly=on,multidevs=remap \
    -device virtio-9p-pci,fsdev=host,mount_tag=host \
    -fsdev "local,id=work,path=${work//,/,,},security_model=passthrough,multidevs=remap" \
    -device virtio-9p-pci,fsdev=work,mount_tag=work \
    -drive "file=$job/scratch,format=raw,if=virtio,cache=unsafe" >"$job/emulator" 2>&1 </dev/null 8>&- &
  guest=$!
fi
status=0
wait "$guest" || status=$?
guest=''
exec 8>&-
wait "$copier" 2>/dev/null || true
copier=''
if [ "$status" = 124 ] || [ "$status" = 137 ]; then
  echo "run.sh: stopped after $limit s" >&2
  exit 124
fi
if [ ! -s "$job/out/status" ]; then
  [ ! -e "$job/emulator" ] || cat "$job/emulator" >&2
  tail -n 30 "$job/console" >&2 || true
  echo "run.sh: the guest ended without an exit status" >&2
  exit 125
fi
exit "$(tr -d '\r\n' <"$job/out/status")"
