"""Calls Verify with odd descriptors as the image, one after another, and prints for each what it is and the answer.

usage: attack-images.py SOCKET
"""

import array
import ctypes
import fcntl
import json
import mmap
import os
import socket
import sys

F_ADD_SEALS = 1033
SHRINK, GROW, WRITE, FUTURE_WRITE = 2, 4, 8, 16
libc = ctypes.CDLL(None, use_errno=True)


def memfd(size, seals=SHRINK | GROW | WRITE, flags=0):
    fd = os.memfd_create("odd", os.MFD_ALLOW_SEALING | flags)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


def writable_mapping():
    fd = os.memfd_create("odd", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    writable_mapping.kept = mmap.mmap(fd, 4096)
    try:
        fcntl.fcntl(fd, F_ADD_SEALS, WRITE)
        sys.exit("the kernel sealed what can be written through a mapping")
    except OSError:
        fcntl.fcntl(fd, F_ADD_SEALS, FUTURE_WRITE | GROW | SHRINK)
    return fd


def with_flags():
    fd = memfd(4096)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)
    os.lseek(fd, 4096, os.SEEK_SET)
    return fd


def by_libc(name, *arguments):
    fd = getattr(libc, name)(*arguments)
    if fd < 0:
        raise OSError(ctypes.get_errno(), name)
    return fd


def in_memory():
    path = f"/dev/shm/odd-{os.getpid()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    os.write(fd, b"x" * 4096)
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)


kinds = {
    "hugetlb memfd": lambda: memfd(2 << 20, flags=os.MFD_HUGETLB),
    "sealed beside a writable mapping": writable_mapping,
    "sparse, 4 EiB": lambda: memfd(1 << 62),
    "empty": lambda: memfd(0),
    "appending, non-blocking, read to its end": with_flags,
    "epoll": lambda: by_libc("epoll_create1", 0),
    "eventfd": lambda: by_libc("eventfd", 0, 0),
    "timerfd": lambda: by_libc("timerfd_create", 1, 0),
    "inotify": lambda: by_libc("inotify_init1", 0),
    "pidfd": lambda: os.pidfd_open(os.getpid()),
    "pipe": lambda: os.pipe()[0],
    "internet socket": lambda: socket.socket().detach(),
    "memory of a process": lambda: os.open("/proc/self/mem", os.O_RDONLY),
    "zeros without end": lambda: os.open("/dev/zero", os.O_RDONLY),
    "file in memory": in_memory,
}
connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(sys.argv[1])
call = b'{"method":"io.cfsmountd.MountDelegation.Verify","parameters":{"image":{"fileDescriptor":0}}}\0'
for name, make in kinds.items():
    try:
        fd = make()
    except OSError as error:
        print(f"{name}: not here ({error.strerror})", flush=True)
        continue
    connection.sendmsg([call], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    os.close(fd)
    answer = b""
    while not answer.endswith(b"\0"):
        part = connection.recv(65536)
        if not part:
            sys.exit(f"{name}: the service ended the connection")
        answer += part
    error = json.loads(answer[:-1]).get("error", "none")
    print(f"{name}: {error.rsplit('.', 1)[-1]}", flush=True)
