# keyring.py NAME PERMISSIONS [--nested] [CERTIFICATE…]
#
# Holds a keyring of that name with certificates in DER (with --nested in a keyring of their own within it), and tells its serial number. Nobody
# else possesses it. Each line on standard input is done, and answered by what came of it: "revoke" revokes the certificates,
# "name TEXT" makes a key whose description is TEXT, with \n for line breaks. It ends with its input.
import ctypes
import os
import sys

PROCESS_KEYRING = -2
KEYCTL_REVOKE, KEYCTL_SETPERM = 3, 5
add_key, keyctl = (248, 250) if os.uname().machine == "x86_64" else (217, 219)
libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    return result


def add(kind, description, data, keyring):
    size = ctypes.c_size_t(len(data or b""))
    return check(libc.syscall(add_key, kind, description, data, size, ctypes.c_int(keyring)))


name, permissions, *files = sys.argv[1:]
ring = add(b"keyring", name.encode(), None, PROCESS_KEYRING)
holder = ring
if files[:1] == ["--nested"]:
    files.pop(0)
    holder = add(b"keyring", b"within", None, ring)
keys = [add(b"asymmetric", b"", open(file, "rb").read(), holder) for file in files]
if holder != ring:
    check(libc.syscall(keyctl, KEYCTL_SETPERM, holder, int(permissions, 16)))
check(libc.syscall(keyctl, KEYCTL_SETPERM, ring, int(permissions, 16)))
print(ring, flush=True)
for line in sys.stdin:
    command, _, text = line.strip().partition(" ")
    if command == "revoke":
        for key in keys:
            check(libc.syscall(keyctl, KEYCTL_REVOKE, key))
    elif command == "name":
        add(b"user", text.replace("\\n", "\n").encode(), b"x", PROCESS_KEYRING)
    print("done", flush=True)
