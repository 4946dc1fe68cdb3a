"""What a receiver of a mount may not do, root of its own namespaces: descriptor 3 is the mount. Prints a line for each try."""

import ctypes
import errno
import os

libc = ctypes.CDLL(None, use_errno=True)
MOUNT = 3
AT_EMPTY_PATH, FSPICK_EMPTY_PATH = 0x1000, 8
FSCONFIG, FSPICK = 431, 433
FSCONFIG_CMD_RECONFIGURE = 7


def say(what, result):
    print(f"{what}: {result}", flush=True)


def tried(what, work):
    try:
        work()
        say(what, "allowed")
    except OSError as error:
        say(what, errno.errorcode[error.errno])


def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def change_superblock():
    # Who is root of some namespace may pick it, and only root of the superblock's own may change it.
    picked = call(FSPICK, MOUNT, b"", FSPICK_EMPTY_PATH)
    call(FSCONFIG, picked, FSCONFIG_CMD_RECONFIGURE, None, None, 0)


def by_handle():
    handle = ctypes.create_string_buffer(136)
    ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint))[0] = 128
    identifier = ctypes.c_int()
    if libc.name_to_handle_at(MOUNT, b"", handle, ctypes.byref(identifier), AT_EMPTY_PATH) < 0:
        raise OSError(ctypes.get_errno(), "")
    if libc.open_by_handle_at(MOUNT, handle, 0) < 0:
        raise OSError(ctypes.get_errno(), "")


def same(path):
    there, here = os.stat(path, dir_fd=MOUNT), os.stat(".", dir_fd=MOUNT)
    return "the mount" if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) else "elsewhere"


# Of the directory itself: a descriptor of fsmount(2) is O_PATH.
say("what is above it", same(".."))
say("what is above it, by /proc", same("/proc/self/fd/3/.."))
tried("changing the superblock", change_superblock)
tried("opening by a file handle", by_handle)
tried("reading what is root's", lambda: os.open("secret", os.O_RDONLY, dir_fd=MOUNT))
tried("writing", lambda: os.open("hello", os.O_WRONLY, dir_fd=MOUNT))
tried("creating", lambda: os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=MOUNT))
tried("setting attributes", lambda: os.setxattr("/proc/self/fd/3/hello", "user.x", b"x"))
tried("taking a file's rights", lambda: os.chmod("hello", 0o4777, dir_fd=MOUNT))
folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=MOUNT)
flags = os.fstatvfs(folder).f_flag
say("set-id files", "ignored" if flags & os.ST_NOSUID else "obeyed")
say("devices", "closed" if flags & os.ST_NODEV else "open")
