#!/usr/bin/env python3
"""cfs-mount.py [--socket PATH] [--chroot] IMAGE DIR [COMMAND…]

A client of cfs-mountd in plain Python, with nothing but the interface's description to go by: IMAGE (a file, with
IMAGE.sig beside it, or name:NAME) is mounted by the service and attached at DIR, in this process's mount namespace;
then COMMAND runs, with --chroot inside DIR. To be run where the caller may attach mounts: as root of a user namespace,
say by `unshare --user --map-root-user --mount`.
"""

import argparse
import array
import base64
import ctypes
import fcntl
import json
import os
import socket
import sys

SOCKET = "/run/cfs-mountd/io.cfsmountd.MountDelegation"
INTERFACE = "io.cfsmountd.MountDelegation"
SYS_MOVE_MOUNT = 429  # the same number on every architecture
MOVE_MOUNT_F_EMPTY_PATH = 4
AT_FDCWD = -100
F_ADD_SEALS = 1033
SEAL_SHRINK_GROW_WRITE = 0x2 | 0x4 | 0x8
MESSAGE_BYTES_MAX = 1 << 20

libc = ctypes.CDLL(None, use_errno=True)


class VarlinkError(Exception):
    """The error that the service answered with: its name and its parameters."""


def sealed_copy(path):
    """A memfd that holds the file's bytes and can change no more."""
    memfd = os.memfd_create("image", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    with open(path, "rb") as image:
        while os.sendfile(memfd, image.fileno(), None, 1 << 20):
            pass
    fcntl.fcntl(memfd, F_ADD_SEALS, SEAL_SHRINK_GROW_WRITE)
    return memfd


def call(connection, method, parameters, descriptors):
    """One varlink call; returns the reply's parameters and the descriptors that came with it."""
    message = json.dumps({"method": f"{INTERFACE}.{method}", "parameters": parameters}).encode() + b"\0"
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sent = connection.sendmsg([message], ancillary)
    connection.sendall(message[sent:])
    answer, received = b"", []
    while not answer.endswith(b"\0"):
        data, fds, flags, _ = socket.recv_fds(connection, 65536, 16)
        if not data or flags & socket.MSG_CTRUNC or len(answer) > MESSAGE_BYTES_MAX:
            raise OSError("the service's answer ended early")
        answer += data
        received += fds
    reply = json.loads(answer[:-1])
    if "error" in reply:
        raise VarlinkError(reply["error"], reply.get("parameters", {}))
    return reply.get("parameters", {}), received


def mount(connection, image, id_map):
    """Asks for the image and returns the descriptor of its detached mount, and who vouched for it."""
    parameters, descriptors = {"idMap": id_map}, []
    if image.startswith("name:"):
        parameters["image"] = {"name": image[len("name:"):]}
    else:
        parameters["image"] = {"fileDescriptor": 0}
        descriptors.append(sealed_copy(image))
        if os.path.exists(image + ".sig"):
            with open(image + ".sig", "rb") as signature:
                parameters["signatures"] = [base64.b64encode(signature.read()).decode()]
    reply, received = call(connection, "Mount", parameters, descriptors)
    return received[reply["mountFileDescriptor"]], reply["evidence"]


def attach(descriptor, target):
    """move_mount(2): puts the detached mount at target."""
    result = libc.syscall(
        ctypes.c_long(SYS_MOVE_MOUNT), descriptor, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH
    )
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", default=SOCKET)
    parser.add_argument("--idmap", choices=["none", "caller"], default="none")
    parser.add_argument("--chroot", action="store_true", help="run COMMAND inside DIR")
    parser.add_argument("image")
    parser.add_argument("dir")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(options.socket)
    except OSError as error:
        sys.exit(f"cfs-mount.py: {options.socket}: {error}")
    try:
        descriptor, evidence = mount(connection, options.image, options.idmap)
        attach(descriptor, options.dir)
    except VarlinkError as error:
        name, parameters = error.args
        sys.exit(f"cfs-mount.py: {options.image}: {name.rpartition('.')[2]}: {json.dumps(parameters)}")
    except OSError as error:
        sys.exit(f"cfs-mount.py: {options.image}: {error}")
    print(json.dumps(evidence), file=sys.stderr)
    if options.command:
        if options.chroot:
            os.chroot(options.dir)
            os.chdir("/")
        os.execvp(options.command[0], options.command)


if __name__ == "__main__":
    main()
