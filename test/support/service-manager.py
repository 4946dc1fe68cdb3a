"""A service manager's part in sd_notify(3) and sd_listen_fds(3).

`keep NOTIFY FETCH` binds both sockets and keeps what the service sends with FDSTORE=1, until FDSTOREREMOVE=1; it writes a line of
JSON, the names of what it keeps, at its start and after each change. `start FETCH COMMAND..` becomes the command, with
all that is kept handed over.
"""

import array
import json
import os
import select
import socket
import sys


def keep(notify, fetch):
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(notify)
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked.bind(fetch)
    asked.listen(4)
    kept = []
    print(json.dumps([]), flush=True)
    while True:
        ready, _, _ = select.select([told, asked], [], [])
        if asked in ready:
            peer, _ = asked.accept()
            fds = array.array("i", [fd for _, fd in kept])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
            peer.sendmsg([":".join(["", *[name for name, _ in kept]]).encode() or b":"], rights)
            peer.close()
        if told in ready:
            text, fds, _, _ = socket.recv_fds(told, 65536, 253)
            said = dict(line.split("=", 1) for line in text.decode().splitlines())
            name = said.get("FDNAME")
            if said.get("FDSTORE") == "1":
                kept += [(name, fd) for fd in fds]
            if said.get("FDSTOREREMOVE") == "1":
                for _, fd in [each for each in kept if each[0] == name]:
                    os.close(fd)
                kept = [each for each in kept if each[0] != name]
            if name is not None:
                print(json.dumps([name for name, _ in kept]), flush=True)


def start(fetch, command):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    manager.connect(fetch)
    text, fds, _, _ = socket.recv_fds(manager, 65536, 253)
    manager.close()
    names = text.decode().split(":")[1:]
    # Out of the way first: one of them may have another's number.
    high = [os.dup2(fd, 500 + index) for index, fd in enumerate(fds)]
    for index, fd in enumerate(high):
        os.dup2(fd, 3 + index, inheritable=True)
        os.close(fd)
    if fds:
        os.environ["LISTEN_FDS"] = str(len(fds))
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDNAMES"] = ":".join(names)
    os.closerange(3 + len(fds), 1024)
    os.execvp(command[0], command)


if sys.argv[1] == "keep":
    keep(*sys.argv[2:])
else:
    start(sys.argv[2], sys.argv[3:])
