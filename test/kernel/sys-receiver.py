"""What a receiver of a mount may try: descriptor 3 is the mount, the argument a folder to attach it at."""

import ctypes
import errno
import os
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
RO, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
AT_EMPTY_PATH = 0x1000


def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    return result if result >= 0 else -ctypes.get_errno()


def try_to_clear(when, fd):
    for name, bit in (("ro", RO), ("nosuid", NOSUID), ("nodev", NODEV), ("noexec", NOEXEC)):
        attributes = struct.pack("QQQQ", 0, bit, 0, 0)
        result = call(MOUNT_SETATTR, fd, b"", AT_EMPTY_PATH, attributes, len(attributes))
        print(when, name, errno.errorcode.get(-result, "allowed"))


mount, folder = 3, sys.argv[1].encode()
try_to_clear("detached", mount)
clone = call(OPEN_TREE, mount, b"", AT_EMPTY_PATH | 1 | os.O_CLOEXEC)
if clone < 0:
    # Before it is attached, a mount can be cloned only where the kernel lets detached mounts of others be cloned.
    clone = mount
try_to_clear("clone", clone)
assert call(MOVE_MOUNT, mount, b"", -100, folder, 4) == 0
attached = os.open(folder, os.O_PATH)
try_to_clear("attached", attached)
clone = call(OPEN_TREE, attached, b"", AT_EMPTY_PATH | 1 | os.O_CLOEXEC)
assert clone >= 0, errno.errorcode[-clone]
try_to_clear("clone of attached", clone)
print(open(folder + b"/hello").read().strip())
# The mount is the receiver's to take away again.
assert libc.umount2(folder, 2) == 0
assert not os.path.exists(folder + b"/hello")
