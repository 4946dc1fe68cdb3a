"""Root of a container: does what the lines of standard input say, and answers each with a line of JSON.

usage: upgrade-container.py FOLDER, in user and mount namespaces of its own; FOLDER, which holds the service's socket, is bound
at FOLDER/../bound, and everything is asked for there.

connect              a connection that stays: "connected", or the error's name
end                  what comes of it: "end", or the error's name
mount NAME AT        mounts the image NAME at AT
read PATH            what the file holds
clear PATH           clears nosuid of the mount at PATH: "cleared", or the error's name"""

import array
import ctypes
import errno
import json
import os
import socket
import struct
import sys

MOVE_MOUNT, MOUNT_SETATTR = 429, 442
AT_EMPTY_PATH, NOSUID = 0x1000, 2
MS_BIND = 0x1000
INTERFACE = "io.cfsmountd.MountDelegation"

libc = ctypes.CDLL(None, use_errno=True)
folder = sys.argv[1]
bound = os.path.join(os.path.dirname(folder), "bound")
os.makedirs(bound, exist_ok=True)
kept = []


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def connect():
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(os.path.join(bound, INTERFACE))
    return connection


def mount(name, at):
    with connect() as connection:
        call = {"method": f"{INTERFACE}.Mount", "parameters": {"image": {"name": name}}}
        connection.sendall(json.dumps(call).encode() + b"\0")
        reply, fds = b"", array.array("i")
        while not reply.endswith(b"\0"):
            part, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4))
            if not part:
                return "end"
            reply += part
            for _, _, data in ancillary:
                fds.frombytes(data)
        answer = json.loads(reply[:-1])
        if "error" in answer:
            return answer
        os.makedirs(at, exist_ok=True)
        check(libc.syscall(MOVE_MOUNT, fds[0], b"", -100, at.encode(), 4))
        os.close(fds[0])
        return "mounted"


def end():
    # The service ends the connection in order: nothing is reset.
    return "end" if kept.pop().recv(1) == b"" else "data"


def keep():
    kept.append(connect())
    return "connected"


def read(path):
    with open(path) as file:
        return file.read()


def clear(path):
    fd = os.open(path, os.O_PATH)
    attributes = struct.pack("QQQQ", 0, NOSUID, 0, 0)
    try:
        check(libc.syscall(MOUNT_SETATTR, fd, b"", AT_EMPTY_PATH, attributes, len(attributes)))
    finally:
        os.close(fd)
    return "cleared"


commands = {"connect": keep, "end": end, "mount": mount, "read": read, "clear": clear}
check(libc.mount(folder.encode(), bound.encode(), None, MS_BIND, None))
for line in sys.stdin:
    name, *arguments = line.split()
    try:
        answer = commands[name](*arguments)
    except OSError as error:
        answer = errno.errorcode[error.errno]
    print(json.dumps(answer), flush=True)
