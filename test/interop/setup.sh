#!/usr/bin/env bash
# Installs what the tests need beside Node, on Debian, as root: packages by apt, and into .cache/sid the programs of
# Debian sid that the host's own release is too old for (varlinkctl, systemd-repart and systemd-dissect of systemd 260 or
# later, the tools of composefs and of EROFS), and project Wycheproof's vectors.
# Running it again is quick: what is there stays.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "setup: needs root, to install packages" >&2; exit 1; }
. test/support/debian.sh

packages=(acl attr btrfs-progs bubblewrap busybox-static ca-certificates cpio cryptsetup-bin dmsetup e2fsprogs erofs-utils fsverity fuse3
  gcc keyutils kmod libc6-dev mmdebstrap openssh-client openssl podman python3 squashfs-tools systemd uidmap util-linux xfsprogs xz-utils zstd)
install_packages "${packages[@]}"

sid_packages=systemd,systemd-container,systemd-repart,libcryptsetup12,composefs,erofs-utils,golang-github-c2sp-wycheproof-dev
if [ "$(cat .cache/sid/ready 2>/dev/null)" != "$sid_packages" ]; then
  rm -rf .cache/sid
  mkdir -p .cache
  retry mmdebstrap --quiet --variant=extract "--include=$sid_packages" \
    --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Retries "3"' \
    sid .cache/sid "deb [signed-by=$debian_keyring] $(debian_mirror) sid main"
  echo "$sid_packages" >.cache/sid/ready
fi
