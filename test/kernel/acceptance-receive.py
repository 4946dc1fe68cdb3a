"""Calls SOCKET METHOD PARAMETERS, prints the reply, and becomes PROGRAM with the mount as descriptor 3 if one came.

usage: acceptance-receive.py SOCKET METHOD PARAMETERS [PROGRAM ARGUMENT…]"""

import array
import os
import socket
import sys

path, method, parameters, *program = sys.argv[1:]
connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(path)
call = f'{{"method":"io.cfsmountd.MountDelegation.{method}","parameters":{parameters}}}'
try:
    connection.sendall(call.encode() + b"\0")
except BrokenPipeError:
    pass  # Refused as it connected: why is there to be read.
reply, mounts = b"", []
while not reply.endswith(b"\0"):
    part, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(16))
    if not part:
        sys.exit("the service ended the connection")
    reply += part
    for _, _, data in ancillary:
        fds = array.array("i")
        fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        mounts.extend(fds)
print(reply[:-1].decode(), flush=True)
if program and mounts:
    if mounts[0] == 3:
        os.set_inheritable(3, True)
    else:
        os.dup2(mounts[0], 3)
    os.execvp(program[0], program)
