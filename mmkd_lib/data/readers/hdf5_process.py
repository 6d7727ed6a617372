"""The process that opens HDF5 files for `hdf5.py`, which starts it by its path: it imports nothing of this package.

A damaged file can make the HDF5 library crash, or read for ever; here it takes nobody with it. One question is a line
of JSON on the input; the answer is a line of JSON, followed by the bytes of the arrays that it lists. No link but a
hard one is followed, no other file is opened, and no array is made before its promised size was held against the bytes
that the file stores for it.
"""

import json
import math
import sys
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

ENTRIES = 10**6  # of one group
MEMORY, FACTOR = 2**31, 8  # bytes that this process may take beside what it has, and how much more for a file's bytes


class Refused(Exception):
    """What is wrong with a file, in words."""


def look(file, inside, **_):
    """[[name, kind of type, shape]] of what a group holds; kind and shape are None for what is no array."""
    group = item(file, inside)
    if not isinstance(group, h5py.Group):
        raise Refused(f"it has no group {'/'.join(inside)[:80]!r}")
    if len(group) > ENTRIES:
        raise Refused(f"a group in it has {len(group)} entries, at most {ENTRIES} are read")
    items = {name: step(group, name) for name in group}
    return [
        [name, one.dtype.kind, one.shape] if isinstance(one, h5py.Dataset) else [name, None, None]
        for name, one in items.items()
    ], []


def arrays(file, places, kinds, size, most):
    """[[number of the place, type, shape]] of the places where something is, and these arrays."""
    listed, found, promised = [], [], 0
    for number, place in enumerate(places):
        if (one := item(file, place)) is None:
            continue
        promised += promise("/".join(place)[-80:], one, kinds, size, most)
        if promised > most:
            raise Refused(f"its arrays promise {promised} bytes or more, the file does not hold them")
        array = np.ascontiguousarray(one[()]).reshape(one.shape)
        listed.append([number, array.dtype.str, array.shape])
        found.append(array)
    return listed, found


def item(file, place):
    """What stands at a place, or None."""
    for name in place:
        file = step(file, name)
    return file


def step(group, name):
    """What stands under a name in a group; None if nothing does. h5py's own `in` and `get` would follow links."""
    key = name.encode()
    if not isinstance(group, h5py.Group) or b"/" in key or key in (b"", b".") or not group.id.links.exists(key):
        return None
    if group.id.links.get_info(key).type != h5py.h5l.TYPE_HARD:
        raise Refused(f"{name[:80]!r} in it is a link to another place, which is not followed")
    return group[name]


def promise(name, one, kinds, size, most):
    """Bytes that reading an array takes, refused where it is none of the wanted kind or the file cannot hold it."""
    if not isinstance(one, h5py.Dataset):
        raise Refused(f"{name!r} in it is no array")
    if one.external or one.is_virtual:
        raise Refused(f"{name!r} lies in other files, which are not opened")
    if one.shape is None or one.dtype.kind not in kinds:
        raise Refused(f"{name!r} has type {one.dtype} and shape {one.shape}, allowed are numbers")
    if not math.prod(one.shape):
        return 0
    promised = max(math.prod(one.shape), math.prod(one.chunks or (0,))) * one.dtype.itemsize
    if promised > most * min(one.id.get_storage_size() / max(size, 1), 1):
        raise Refused(f"{name!r} promises {promised} bytes of data, the file does not hold them")
    return promised


def limit(size):
    """Let this process take so much memory and no more, where the system can."""
    try:
        import resource
    except ImportError:
        return
    pages = Path("/proc/self/statm")
    used = int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 2**31
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = used + MEMORY + FACTOR * size
    with suppress(OSError, ValueError):  # some systems have the call and refuse it
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))


def answer(do, path, size, **question):
    """({"refused": why} or {"found": list}, arrays)."""
    try:
        limit(size)
        with h5py.File(path, "r", locking="best-effort") as file:  # network file systems may have no locks
            asked = question | {"size": size}
            found, made = (look if do == "look" else arrays)(file, **asked)
        return {"found": found}, made
    except Refused as refused:
        return {"refused": str(refused)}, []
    except Exception:  # on damaged bytes h5py raises half a dozen kinds of error
        return {"refused": None}, []


if __name__ == "__main__":
    for line in sys.stdin.buffer:
        said, made = answer(**json.loads(line))
        sys.stdout.buffer.write(json.dumps(said).encode() + b"\n")
        for array in made:
            sys.stdout.buffer.write(array.data if array.size else b"")
        sys.stdout.buffer.flush()
