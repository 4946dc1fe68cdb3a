"""Connections of many users, all held by one process.

Usage: attack-many-users.py SOCKET HOW USERS EACH

HOW is "userns" (in a user namespace that root makes), "pidns" (in a PID namespace that root makes, without a user
namespace), "plain", or "zero" (as user 0 alone, which has only what capabilities the caller left it). Connects EACH times as each of USERS users, says how many connections the service has not ended,
and stays until its standard input ends.
"""

import ctypes
import os
import resource
import select
import socket
import sys

path, how, users, each = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384))
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
first = 200000


def unshare(flags):
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def inside():
    """Goes on in the namespaces, as a child whose parent only waits."""
    ready, mapped = os.pipe(), os.pipe()
    if how == "pidns":
        unshare(CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        if how == "userns":
            unshare(CLONE_NEWUSER)
        os.write(ready[1], b"x")
        os.read(mapped[0], 1)
        return
    os.read(ready[0], 1)
    if how == "userns":
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write("0 200000 65536")
    os.write(mapped[1], b"x")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if how in ("userns", "pidns"):
    inside()
held = []
for user in range(1, users + 1):
    # The kernel notes the effective user ID of the moment of connecting.
    # Of user 0 there is one.
    os.setresuid(-1, 0 if how == "zero" else user if how == "userns" else first + user, 0)
    for number in range(each):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(path)
        held.append(connection)
    os.setresuid(-1, 0, 0)
# The last one is answered or refused once all others were taken or refused.
ended = select.poll()
for connection in held:
    ended.register(connection, select.POLLIN | select.POLLRDHUP)
held[-1].sendall(b'{"method":"org.varlink.service.GetInfo"}\0')
answer = held[-1].recv(65536)
# Where it is refused, its end follows.
while b"LimitExceeded" in answer and held[-1].recv(65536):
    pass
gone = sum(1 for _, events in ended.poll(0) if events & select.POLLRDHUP)
print(len(held) - gone, flush=True)
sys.stdin.read()
