"""What the run store holds, what of it no notebook needs, and how that is removed."""

import os
import shutil
import socket
import time
from collections import Counter
from contextlib import suppress
from typing import NamedTuple

from ..support.errors import BadInput
from . import experiments
from .asked import keys
from .damage import damage, damaged

OLD = 24 * 3600  # seconds after which a draft of another machine is taken for left behind


class Holdings(NamedTuple):
    """What a store holds: damaged records with what is wrong with each, and by kind the number and bytes of the others;
    a kind: benchmark / size / method / stage."""

    damaged: dict  # key -> `damage`
    counts: Counter
    sizes: Counter


def holdings(store):
    """The `Holdings` of a store."""
    found = Holdings({}, Counter(), Counter())
    for record in store.records():
        if wrong := damage(record):
            found.damaged[record.key] = wrong
            continue
        config = record.config
        kind = " / ".join((config["benchmark"], config["size"] or "file", config["method"], config["supervision"]))
        found.counts[kind] += 1
        found.sizes[kind] += size(record.folder)
    return found


def needless(store, unasked=False):
    """why -> paths of what the store could lose; unasked: also what no executed notebook asked for."""
    broken = [r.folder for r in store.records() if damage(r)]
    sound = [r for r in store.records() if r.folder not in broken]
    outdated = [r.folder for r in sound if not experiments.is_of_today(r.config)]
    old = [path for path in store.drafts() if time.time() - path.stat().st_mtime > OLD]
    found = {
        "made by code or from data that changed since": outdated,
        "damaged": [*broken, *damaged(store)],
        "left half-written, for more than a day, by other machines": old,
    }
    if unasked:
        wanted = keys(store)
        if not wanted:
            raise BadInput("no notebook was executed on this store, so nobody asked for anything: leave --unasked out.")
        found["asked for by no executed notebook"] = [
            r.folder for r in sound if r.key not in wanted and r.folder not in outdated
        ]
    return found


def sweep(store):
    """Remove the drafts that killed processes of this machine left."""
    for draft in [*store.drafts(), *store.folder.glob("[!.]*/.draft-*")]:
        _, _, process, machine = [*draft.name.split("-", 3), "", "", ""][:4]  # `store.own_name`
        if machine == socket.gethostname() and process.isdecimal() and not _alive(int(process)):
            _remove(draft)


def size(path):
    """Bytes of a record, a draft or something set aside."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def forget(path):
    """Remove a record, a draft or something set aside; returns the bytes that this frees."""
    freed = size(path)
    with suppress(FileNotFoundError, NotADirectoryError):
        (path / "done").unlink()  # first: what is half removed is no record
    _remove(path)
    return freed


def _remove(path):
    with suppress(OSError):
        path.unlink() if path.is_file() else shutil.rmtree(path)


def _alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
