"""Root of its own namespaces: calls Verify with files of filesystems that its user has mounted, prints the answer to each.

usage: attack-overlay.py SOCKET
"""

import array
import ctypes
import json
import os
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)


def mount(kind, at, options=""):
    if libc.mount(kind.encode(), at.encode(), kind.encode(), 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount {kind}")


def ask(what, path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(sys.argv[1])
        fd = os.open(path, os.O_RDONLY)
        parameters = {"image": {"fileDescriptor": 0}}
        call = json.dumps({"method": "io.cfsmountd.MountDelegation.Verify", "parameters": parameters}).encode() + b"\0"
        client.sendmsg([call], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        reply = b""
        while not reply.endswith(b"\0"):
            reply += client.recv(65536)
    said = json.loads(reply[:-1])
    print(f"{what}: {said.get('error', 'allowed').split('.')[-1]} {said.get('parameters', {}).get('reason', '')}", flush=True)


mount("tmpfs", "/mnt")
for name in ("lower", "upper", "work", "merged"):
    os.mkdir(f"/mnt/{name}")
for name in ("lower/below", "lower/copied"):
    with open(f"/mnt/{name}", "wb") as file:
        file.write(b"x" * 4096)
mount("overlay", "/mnt/merged", "lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work,userxattr")
with open("/mnt/merged/copied", "ab") as file:
    file.write(b"x")
ask("of a filesystem in memory", "/mnt/lower/below")
ask("below an overlay", "/mnt/merged/below")
ask("changed in an overlay", "/mnt/merged/copied")
