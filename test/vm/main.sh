# Runs as the guest's first process after init.sh, inside the host's own root: the command's output goes through a
# pipe (the command never holds the port itself) to the host, then its exit status.
cd /
. /run/vm/variables
box=/run/vm/busybox
# Where it is a module, a machine that was booted by systemd has /dev/mapper/control from the start (kmod static-nodes).
modprobe -q dm-mod || true
$box mkfifo /run/vm/pipe
$box cat </run/vm/pipe >/run/vm/out/output &
copier=$!
$box setsid /bin/bash /run/vm/command </dev/null >/run/vm/pipe 2>&1
status=$?
# A process that is left behind may hold the pipe open: it is waited for two seconds at most.
tries=0
while kill -0 $copier 2>/dev/null && [ $tries -lt 20 ]; do
  $box sleep 0.1
  tries=$((tries + 1))
done
$box sync
echo $status >/run/vm/out/status
$box sync
$box poweroff -f
