#!/usr/bin/env bash
# kernel.sh NAME: makes the kernel NAME ready below .cache/vm/NAME (vmlinuz, lib/modules, initrd), once, as root on Debian.
#
#   trixie, forky, bookworm   that Debian release's stock kernel, for qemu
#   uml                       Debian forky's kernel source as user-mode Linux, with fs-verity: taken ready-made from
#                             $CFS_VM_UML (xz) or ../shared/vm where one is, else built (some ten minutes)
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/support/debian.sh

name=${1:?usage: kernel.sh NAME}
case $name in trixie | forky | bookworm | uml) ;; *) echo "kernel.sh: unknown kernel $name" >&2; exit 2 ;; esac
folder=$PWD/.cache/vm/$name
mkdir -p "$folder"
exec 9>"$PWD/.cache/vm/lock"
flock 9

say() { echo "kernel.sh: $*" >&2; }

# qemu 7.2, bookworm's own, crashes guests with two processors; 10.0 from its backports does not.
install_qemu() {
  if qemu-system-x86_64 --version 2>/dev/null | grep -qE 'version ([89]|[1-9][0-9])\.'; then return; fi
  local release
  release=$(. /etc/os-release && echo "$VERSION_CODENAME")
  if [ "$release" = bookworm ]; then
    private_apt "$PWD/.cache/vm/apt-backports" bookworm bookworm-updates bookworm-backports
    export APT_CONFIG=$PWD/.cache/vm/apt-backports/conf DEBIAN_FRONTEND=noninteractive
    retry apt-get -qq update
    retry apt-get -qq install -y --no-install-recommends -t bookworm-backports qemu-system-x86 >/dev/null
    unset APT_CONFIG
  else
    install_packages qemu-system-x86
  fi
}

# A stock kernel: its image, uncompressed (an ELF image boots seconds sooner when emulated), and its modules.
fetch_debian() {
  local work=$folder/work package modules version compressed magic offset
  rm -rf "$work"
  mkdir -p "$work"
  private_apt "$work/apt" "$name"
  export APT_CONFIG=$work/apt/conf
  retry apt-get -qq update
  package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
  [ -n "$package" ] || { say "no kernel in $name"; exit 1; }
  # Newer releases split the image into a binary and a modules package.
  (cd "$work" && retry apt-get -qq download "$package" \
    $(apt-cache depends "$package" | sed -n 's/.*Depends: \(linux-\(base\|binary\|modules\)-[0-9].*\)/\1/p'))
  unset APT_CONFIG
  for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/root"; done
  modules=$(find "$work/root" -type d -path '*lib/modules/*' -name kernel | head -1)
  modules=${modules%/kernel}
  version=${modules##*/}
  compressed=$(find "$work/root" -name 'vmlinuz*' | head -1)
  [ -n "$compressed" ] || { say "no kernel image in linux-image of $name"; exit 1; }
  mkdir -p "$folder/lib/modules"
  cp "$compressed" "$folder/vmlinuz"
  for magic in 'zstd \x28\xb5\x2f\xfd' 'xz \xfd7zXZ\x00' 'gzip \x1f\x8b\x08'; do
    offset=$(LC_ALL=C grep -aobP "${magic#* }" "$compressed" | head -1 | cut -d: -f1) || true
    [ -n "$offset" ] || continue
    # The tool complains of what follows the compressed kernel; whether an ELF image came out is what counts.
    tail -c +$((offset + 1)) "$compressed" | ${magic%% *} -dc >"$work/vmlinux" 2>/dev/null || true
    if [ "$(head -c 4 "$work/vmlinux" | tail -c 3)" = ELF ]; then
      mv "$work/vmlinux" "$folder/vmlinuz"
      break
    fi
  done
  rm -rf "$folder/lib/modules/$version"
  mv "$modules" "$folder/lib/modules/"
  depmod -b "$folder" "$version" 2>/dev/null
  echo "$version" >"$folder/version"
  rm -rf "$work"
}

uml_options=(64BIT SMP PRINTK BUG FUTEX EPOLL SIGNALFD TIMERFD EVENTFD SHMEM AIO ADVISE_SYSCALLS MEMBARRIER
  POSIX_TIMERS HIGH_RES_TIMERS NO_HZ_IDLE SYSVIPC MULTIUSER FILE_LOCKING INOTIFY_USER BINFMT_ELF BINFMT_SCRIPT
  BLK_DEV_INITRD RD_GZIP BLOCK BLK_DEV BLK_DEV_LOOP BLK_DEV_UBD BLK_DEV_WRITE_MOUNTED MD BLK_DEV_DM DM_VERITY
  DM_VERITY_VERIFY_ROOTHASH_SIG KEYS ASYMMETRIC_KEY_TYPE CRYPTO CRYPTO_SHA256 CRYPTO_SHA512 EXT4_FS
  EXT4_FS_POSIX_ACL EXT4_FS_SECURITY FS_VERITY FS_VERITY_BUILTIN_SIGNATURES MISC_FILESYSTEMS EROFS_FS
  EROFS_FS_XATTR EROFS_FS_POSIX_ACL EROFS_FS_SECURITY EROFS_FS_BACKED_BY_FILE EROFS_FS_ZIP SQUASHFS
  SQUASHFS_XATTR SQUASHFS_XZ SQUASHFS_ZSTD SQUASHFS_ZLIB OVERLAY_FS FUSE_FS HOSTFS PROC_FS PROC_SYSCTL SYSFS
  TMPFS TMPFS_XATTR TMPFS_POSIX_ACL DEVTMPFS NAMESPACES USER_NS PID_NS NET_NS UTS_NS IPC_NS CGROUPS CGROUP_PIDS
  MEMCG NET UNIX AF_UNIX_OOB INET IPV6 SECURITY SECURITYFS SECURITY_NETWORK SECURITY_PATH SECCOMP SECCOMP_FILTER TTY
  UNIX98_PTYS STDERR_CONSOLE SSL NULL_CHAN HW_RANDOM UML_RANDOM UML_RTC POSIX_ACL)

fetch_uml() {
  local ready=${CFS_VM_UML:-} work=$folder/work package
  [ -n "$ready" ] || ready=$(ls ../shared/vm/linux-uml-*.xz 2>/dev/null | head -1 || true)
  mkdir -p "$folder/lib/modules"
  if [ -n "$ready" ]; then
    xz -dc "$ready" >"$folder/vmlinuz"
    chmod +x "$folder/vmlinuz"
    return
  fi
  install_packages gcc make flex bison bc perl libc6-dev libssl-dev libelf-dev xz-utils
  rm -rf "$work"
  mkdir -p "$work"
  private_apt "$work/apt" forky
  export APT_CONFIG=$work/apt/conf
  retry apt-get -qq update
  package=$(apt-cache --names-only search '^linux-source-[0-9.]+$' | sort -V | tail -1 | cut -d' ' -f1)
  [ -n "$package" ] || { say "no kernel source in forky"; exit 1; }
  (cd "$work" && retry apt-get -qq download "$package")
  unset APT_CONFIG
  dpkg-deb -x "$work"/linux-source-*.deb "$work"
  say "building user-mode Linux from $package, once: some ten minutes"
  tar -xf "$work"/usr/src/linux-source-*.tar.xz -C "$work"
  {
    printf 'CONFIG_%s=y\n' "${uml_options[@]}"
    printf 'CONFIG_%s\n' 'CON_ZERO_CHAN="fd:0,fd:1"' 'CON_CHAN="null"' 'SSL_CHAN="null"'
  } >"$work/options"
  (cd "$work"/linux-source-*/ &&
    KCONFIG_ALLCONFIG=$work/options make ARCH=um allnoconfig &&
    make -j"$(nproc)" ARCH=um linux) >"$folder/build.log" 2>&1 ||
    { tail -20 "$folder/build.log" >&2; say "the build failed: $folder/build.log"; exit 1; }
  strip -o "$folder/vmlinuz" "$work"/linux-source-*/linux
  rm -rf "$work"
}

# What the guest begins with: busybox, the modules without which it sees no disk and no host, and test/vm/init.sh.
make_initrd() {
  local root=$folder/initramfs module file number=0
  rm -rf "$root"
  mkdir -p "$root"/{bin,dev,proc,sys,mnt,modules}
  cp "$(command -v busybox)" "$root/bin/busybox"
  if [ "$name" != uml ]; then
    for module in 9p 9pnet_virtio virtio_pci virtio_console virtio_blk overlay loop erofs ext4 fuse; do
      modprobe -S "$(cat "$folder/version")" -d "$folder" --show-depends "$module" 2>/dev/null || true
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$folder/insmod"
    while read -r file; do
      number=$((number + 1))
      module=$root/modules/$(printf %03d $number).ko
      case $file in
        *.xz) xz -dc "$file" >"$module" ;;
        *.zst) zstd -qdc "$file" >"$module" ;;
        *) cp "$file" "$module" ;;
      esac
    done <"$folder/insmod"
  fi
  cp test/vm/init.sh "$root/init"
  chmod +x "$root/init"
  (cd "$root" && find . | cpio -o -H newc --quiet) >"$folder/initrd"
  rm -rf "$root"
}

install_packages busybox-static cpio e2fsprogs kmod xz-utils zstd
[ "$name" = uml ] || install_qemu
if [ ! -e "$folder/ready" ]; then
  if [ "$name" = uml ]; then fetch_uml; else fetch_debian; fi
  touch "$folder/ready"
fi
[ "$folder/initrd" -nt test/vm/init.sh ] && [ "$folder/initrd" -nt test/vm/kernel.sh ] || make_initrd
