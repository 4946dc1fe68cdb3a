#!/usr/bin/env python3
"""A FUSE server without libraries whose answers can be held back.

Usage: mounting-fuse.py [--content PATH] [--verity HEX] [--released] FOLDER OPERATION...

In a mount namespace of its own it mounts on FOLDER a filesystem that holds one file, `file`, and a folder, `folder`. The file
holds what PATH does. With --verity, it says that the file has fs-verity, and HEX for its SHA-256 digest.
It says "ready", and leaves the operations named unanswered (each says "held OPERATION") until it reads "release" from
standard input; then it answers them and those that follow, as it does from the beginning with --released. "hold" has it leave them
unanswered again, and it says "holding". It ends with its standard input, and its mount with it.
"""

import argparse
import ctypes
import os
import select
import struct
import sys
import time

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT, OPENDIR, RELEASEDIR, INTERRUPT, IOCTL = (
    1, 2, 3, 14, 15, 17, 18, 25, 26, 27, 29, 36, 39)
NAMES = {GETATTR: 'getattr', OPEN: 'open', READ: 'read', STATFS: 'statfs', FLUSH: 'flush', IOCTL: 'ioctl'}
ENOENT, ENOSYS, ENOTTY = 2, 38, 25
ROOT, FILE, FOLDER = 1, 2, 3
FS_IOC_MEASURE_VERITY = 0xC0046686
SHA256 = 1
content = b'x' * 8192
verity = None

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def attributes(node):
    mode, size = (0o100644, len(content)) if node == FILE else (0o40755, 0)
    return struct.pack('<QQQQQQIIIIIIIIII', node, size, 16, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(device, unique, body=b'', error=0):
    os.write(device, struct.pack('<IiQ', 16 + len(body), -error, unique) + body)


def reply(device, opcode, unique, node, body):
    if opcode == INIT:
        answer(device, unique, struct.pack('<IIIIHHIIHHI28x', 7, 31, 65536, 0, 16, 12, 65536, 1, 0, 0, 0))
    elif opcode == LOOKUP:
        found = {b'file': FILE, b'folder': FOLDER}.get(body.rstrip(b'\0'))
        if found is None:
            answer(device, unique, error=ENOENT)
        else:
            # Valid for no time: the kernel asks again each time.
            answer(device, unique, struct.pack('<QQQQII', found, 0, 0, 0, 0, 0) + attributes(found))
    elif opcode == GETATTR:
        answer(device, unique, struct.pack('<QII', 0, 0, 0) + attributes(node))
    elif opcode in (OPEN, OPENDIR):
        answer(device, unique, struct.pack('<QII', 1, 0, 0))
    elif opcode == READ:
        offset, size = struct.unpack_from('<QI', body, 8)
        answer(device, unique, content[offset:offset + size])
    elif opcode == STATFS:
        answer(device, unique, struct.pack('<QQQQQIIII24x', 1, 0, 0, 1, 0, 4096, 255, 4096, 0))
    elif opcode in (RELEASE, RELEASEDIR, FLUSH):
        answer(device, unique)
    elif opcode == IOCTL:
        _, _, command, _, _, out_size = struct.unpack_from('<QIIQII', body)
        if command == FS_IOC_MEASURE_VERITY and verity is not None:
            measured = struct.pack('<HH', SHA256, len(verity)) + verity
            answer(device, unique, struct.pack('<iIII', 0, 0, 0, 0) + measured[:out_size])
        else:
            answer(device, unique, error=ENOTTY)
    elif opcode not in (FORGET, INTERRUPT):
        answer(device, unique, error=ENOSYS)


def main():
    global content, verity
    parser = argparse.ArgumentParser()
    parser.add_argument('--content')
    parser.add_argument('--verity', type=bytes.fromhex)
    parser.add_argument('--released', action='store_true')
    parser.add_argument('folder')
    parser.add_argument('operations', nargs='*')
    arguments = parser.parse_args()
    folder, verity = arguments.folder, arguments.verity
    held_operations = set() if arguments.released else set(arguments.operations)
    if arguments.content is not None:
        with open(arguments.content, 'rb') as file:
            content = file.read()
    check(libc.unshare(0x20000))
    check(libc.mount(b'none', b'/', None, 0x80000 | 0x4000, None))
    device = os.open('/dev/fuse', os.O_RDWR)
    options = f'fd={device},rootmode=40000,user_id=0,group_id=0,allow_other'.encode()
    check(libc.mount(b'held', folder.encode(), b'fuse', 0, options))
    print('ready', flush=True)
    held = []
    end = time.monotonic() + 300
    while time.monotonic() < end:
        readable, _, _ = select.select([device, sys.stdin.fileno()], [], [], 1)
        if sys.stdin.fileno() in readable:
            words = os.read(sys.stdin.fileno(), 4096).split()
            if not words:
                return
            if words[-1] == b'hold':
                held_operations = set(arguments.operations)
                print('holding', flush=True)
                continue
            held_operations.clear()
            for request in held:
                reply(device, *request)
            held.clear()
        if device in readable:
            request = os.read(device, 1 << 17)
            _, opcode, unique, node = struct.unpack_from('<IIQQ', request)
            if NAMES.get(opcode) in held_operations:
                held.append((opcode, unique, node, request[40:]))
                print('held', NAMES[opcode], flush=True)
            else:
                reply(device, opcode, unique, node, request[40:])


main()
