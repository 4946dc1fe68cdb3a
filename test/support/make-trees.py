"""Makes file trees as told: one JSON object per line on standard input, {"path", "entries"}, names in latin1."""
import json
import os
import stat
import sys

TYPES = {
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "character": stat.S_IFCHR,
    "block": stat.S_IFBLK,
}


def raw(text):
    return text.encode("latin1")


def make(path, entry):
    kind = entry["type"]
    if kind == "directory":
        os.makedirs(path, exist_ok=True)
    elif kind == "file":
        with open(path, "wb") as file:
            for offset, text in entry["data"]:
                file.seek(offset)
                file.write(raw(text))
            file.truncate(entry["size"])
    elif kind == "symlink":
        os.symlink(raw(entry["target"]), path)
    else:
        os.mknod(path, TYPES[kind] | 0o600, os.makedev(*entry.get("device", [0, 0])))


def dress(path, entry):
    link = entry["type"] == "symlink"
    os.chown(path, *entry["owner"], follow_symlinks=False)
    if not link:
        os.chmod(path, entry["mode"])
    for name, value in entry["xattrs"]:
        os.setxattr(path, raw(name), raw(value), follow_symlinks=False)


def stamp(path, entry):
    os.utime(path, ns=(0, int(entry["time"])), follow_symlinks=False)


for line in sys.stdin:
    tree = json.loads(line)
    root = os.fsencode(tree["path"])
    made = [(os.path.join(root, raw(entry["path"])), entry) for entry in tree["entries"]]
    for path, entry in made:
        if entry["type"] == "link":
            os.link(os.path.join(root, raw(entry["target"])), path, follow_symlinks=False)
        else:
            make(path, entry)
    made = [(path, entry) for path, entry in made if entry["type"] != "link"]
    for path, entry in made:
        dress(path, entry)
    # From the inside out: making what is inside a directory changes its time.
    for path, entry in reversed(made):
        stamp(path, entry)
