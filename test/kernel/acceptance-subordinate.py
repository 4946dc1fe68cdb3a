"""Runs PROGRAM in a user namespace that user CREATOR makes, as that namespace's user UID. As newuidmap(1) would, root gives
the namespace subordinate IDs: its user n is user 100000 + n outside.

usage: acceptance-subordinate.py CREATOR UID PROGRAM [ARGUMENT…]"""

import ctypes
import os
import sys

CLONE_NEWUSER = 0x10000000
creator, uid, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
made_read, made_write = os.pipe()
mapped_read, mapped_write = os.pipe()
child = os.fork()
if child == 0:
    os.setgroups([])
    os.setresgid(creator, creator, creator)
    os.setresuid(creator, creator, creator)
    # os.unshare is in Python since 3.12.
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    os.write(made_write, b"x")
    os.read(mapped_read, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.execvp(program[0], program)
os.close(made_write)
if os.read(made_read, 1):
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{child}/{name}", "w") as file:
            file.write("0 100000 65536")
    os.write(mapped_write, b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
