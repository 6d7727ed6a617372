"""Benchmarks by name: synthetic stand-ins, files of the data folder, and word pieces of these (NAME-tokens)."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ..support import paths
from ..support.errors import BadInput
from . import known
from .benchmark import PARTS, Benchmark
from .readers import files, tokens
from .synthetic import worlds

REAL = ("mosi", "mosei", "iemocap")  # names that the papers use; their files are not ours to ship
USED = {"dynkd": ("iemocap4", "iemocap6", "mosei", "mosi")}  # paper -> those that it uses, where they are others

__all__ = [
    "PARTS",
    "REAL",
    "USED",
    "Benchmark",
    "available",
    "check",
    "family",
    "fingerprint",
    "is_synthetic",
    "load",
    "named",
    "place",
    "reader",
    "stand_in",
]


def is_synthetic(name):
    return worlds.parse(name) is not None


def family(name):
    """Whose printed hyper-parameters fit: `mosi` for mosi, mosi-752 and synthetic-mosi."""
    return known.base(name) or name.removeprefix("synthetic-").split("-")[0]


def stand_in(name):
    """The synthetic benchmark that stands in for a known one."""
    return next(s for s in (f"synthetic-{name}", f"synthetic-{known.base(name)}") if s in worlds.NAMES)


def named(name, short):
    """Whether a benchmark, or what it stands in for, has the short name: synthetic-iemocap is iemocap4 and iemocap,
    synthetic-iemocap-m5 is iemocap-m5."""
    return name in (short, f"synthetic-{short}") or (short in known.KNOWN and name == stand_in(short))


def available():
    """Names that `load` takes now: the synthetic ones, then those of files in the data folder, with NAME-tokens."""
    folder = paths.data_folder()
    own = {file.stem for ending in ("npz", "pkl") for file in folder.glob(f"*.{ending}")}
    own |= {inside.name for inside in folder.glob("[!.]*/") if files.is_family(inside)}
    own |= {name for name in known.KNOWN if files.find(name)}
    return (*worlds.NAMES, *sorted(own | {name + tokens.SUFFIX for name in own if _offers(files.find(name))}))


def check(name):
    """Refuse a name that cannot be loaded: unknown, or known without its file. Cheap: no array is read."""
    if is_synthetic(name) or (Path(name).name == name and files.find(name)):
        return name
    if base := _with_tokens(name):
        return _checked_tokens(name, base)
    if name in known.KNOWN:
        raise BadInput(
            f"benchmark {name!r} needs its file: put {name}.npz (layout mmkd-npz/1, see data/README.md), or a file in "
            f"another layout that `mmkd data list` names, into {paths.data_folder()} or set MMKD_DATA to its folder; "
            f"{stand_in(name)} stands in until then."
        )
    raise BadInput(
        f"unknown benchmark {name!r}: choose one of {', '.join(available())}, or put {name}.npz into "
        f"{paths.data_folder()}."
    )


def _with_tokens(name):
    """The benchmark whose word pieces a name asks for: mosi for mosi-tokens, unless a file has that very name; None."""
    base = name.removesuffix(tokens.SUFFIX)
    if base in ("", name) or Path(name).name != name or is_synthetic(base) or files.find(name):
        return None
    return base


def _checked_tokens(name, base):
    """Refuse NAME-tokens where the file of NAME is not there, or has no word pieces."""
    found, folder = files.find(base), paths.data_folder()
    if _offers(found):
        return name
    why = f"{found.name} holds none" if found else f"there is no file of {base!r}"
    other = f"{base}-mmsa" if found else base
    raise BadInput(
        f"benchmark {name!r} needs word pieces and {why}: put a pickle of MMSA that holds text_bert into {folder} as "
        f"{other}.pkl{f', and choose {other}{tokens.SUFFIX}' if found else ''}."
    )


def load(name, size="small", seed=0):
    """The benchmark `name`; `size` (a profile) and `seed` matter for synthetic ones only: their train is redrawn."""
    check(name)
    return _synthetic(name, size, seed) if is_synthetic(name) else _read(*_version(name))


def fingerprint(name, size="small"):
    """Names the data without reading it into arrays: the model that draws it, or the hash of the file."""
    check(name)
    return worlds.fingerprint(name, size) if is_synthetic(name) else _hash(*_version(name))


def reader(name):
    """Which family's reader reads the benchmark; None for synthetic ones, which nobody reads."""
    return None if is_synthetic(name) else load(name).reader


def place(name):
    """The file or folder that a benchmark is read from, or None: of NAME-tokens, that of NAME."""
    return files.find(_with_tokens(name) or name)


def _offers(path):
    """Whether a place, or None, may hold word pieces."""
    if path is None or not path.is_file():
        return False
    found = path.stat()
    return _offered(path, (found.st_mtime_ns, found.st_size))


def _version(name):
    """(name, path, (path, time, bytes) of each of its files): what the caches below may rely on."""
    path = place(name)
    stats = [(file, file.stat()) for file in files.sources(path)]
    return name, path, tuple((file, found.st_mtime_ns, found.st_size) for file, found in stats)


_synthetic = lru_cache(maxsize=4)(worlds.load)


def _reading(name):
    return tokens if _with_tokens(name) else files


_read = lru_cache(maxsize=2)(lambda name, path, versions: replace(_reading(name).read(path), name=name))
_hash = lru_cache(maxsize=16)(lambda name, path, versions: _reading(name).fingerprint(path))
_offered = lru_cache(maxsize=64)(lambda path, version: tokens.offered(path))
