/** The options after `-o`, for the help of every program that takes them. */
export const mountOptionsHelp = `Options after -o, separated by commas (a comma within a value is written \\,):
  basedir=DIR[:DIR]…     directories with the files of a composefs image; one that is a store of the
                         policy is used as that store. Default: the stores of the policy's rule
  digest=HEX             the digest that the image must have; sets verity_check to 2 unless that is given
  verity_check=0|1|2     how files are checked as they are opened: never, where the image gives a digest
                         (default), always. The policy may demand more
  signature=FILE         a signature of the image; may be given more than once. Default: IMAGE.sig,
                         where it exists
  idmap=none|caller      whose user IDs the mount shows: the image's own, or those of the caller's user
                         namespace. Default: caller inside a user namespace, else none
  type=TYPE              composefs, erofs, squashfs, ext4, xfs, btrfs or ddi. Default: what the signature says
  socket=PATH            the service's socket. Default: /run/cfs-mountd/io.cfsmountd.MountDelegation
  unsigned               let a rule for unsigned images apply (root only)
  ro, nosuid, nodev, noexec, noatime, nosymfollow
                         attributes beyond those that the policy sets
  rw, defaults, suid, dev, exec, nofail, _netdev, auto, noauto, user, x-*, X-*
                         are taken and change nothing: the mount is read-only in any case`;

/** What `mount.cfs-delegated --help` prints. */
export function mountHelp(): string {
  return `Usage: mount -t cfs-delegated IMAGE DIR [-o OPTIONS]
       mount.cfs-delegated IMAGE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]

Has cfs-mountd verify and mount a signed filesystem image, and attaches it at DIR.

IMAGE is a file, or name:NAME or sha256:HEX for an image that the administrator installed. A file that
could change meanwhile is copied into memory first. Where DIR already is a mount of this image, nothing
is done. Attaching needs root of a mount namespace: run it within "podman unshare" or "unshare -rm".

  -o OPTIONS             see below; may be given more than once
  -t TYPE                the filesystem, as TYPE or cfs-delegated.TYPE; the same as -o type=TYPE
  -N NAMESPACE           attach in another mount namespace: of the process with this PID, or of a file
                         such as /proc/PID/ns/mnt
  -s                     pass over unknown options
  -f                     do everything but the mount: ask the service what it would decide
  -v                     say what was mounted, and by which rule
  -n                     is taken and changes nothing
  -h, --help             show this
  -V, --version          show the version

${mountOptionsHelp}

Exit codes are those of mount(8): 0 mounted, 1 wrong usage or no permission, 2 the service cannot be
reached, 32 the image was not mounted.`;
}
