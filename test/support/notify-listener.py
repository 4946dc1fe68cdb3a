"""Binds the socket at sys.argv[1] and prints each datagram that comes as a line of JSON; systemd's part in sd_notify(3)."""

import json
import socket
import sys

listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
print(json.dumps("bound"), flush=True)
while True:
    print(json.dumps(listener.recv(65536).decode()), flush=True)
