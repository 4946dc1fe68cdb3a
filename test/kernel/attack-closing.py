"""Descriptors whose closing hangs, and connections without end.

Usage: attack-closing.py SOCKET COUNT

Sends half a message with a TCP socket that waits in close(2) for an hour (SO_LINGER, and nobody reads what it has
sent), and goes away. Says "hanging", waits for a line, connects COUNT times and goes away each time, says "done", and
stays until its standard input ends.
"""

import array
import socket
import struct
import sys


def lingering():
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listening.bind(("127.0.0.1", 0))
    listening.listen(1)
    sending = socket.create_connection(listening.getsockname())
    receiving, _ = listening.accept()
    sending.setblocking(False)
    try:
        while True:
            sending.send(b"x" * 65536)
    except BlockingIOError:
        pass
    # Of a socket that does not block, close(2) does not wait either.
    sending.setblocking(True)
    sending.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    return sending, receiving


def connect():
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(sys.argv[1])
    return connection


sending, receiving = lingering()
with connect() as connection:
    rights = array.array("i", [sending.fileno()])
    connection.sendmsg([b"{"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    sending.close()
print("hanging", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    connect().close()
print("done", flush=True)
sys.stdin.read()
