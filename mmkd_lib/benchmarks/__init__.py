"""Benchmarks by name: synthetic stand-ins, and files of the data folder."""

from functools import lru_cache

from .. import paths
from ..errors import BadInput
from . import arrays, files, synthetic
from .benchmark import PARTS, Benchmark

REAL = ("mosi", "mosei", "iemocap")  # names that the papers use; their files are not ours to ship

__all__ = ["PARTS", "REAL", "Benchmark", "available", "check", "family", "fingerprint", "is_synthetic", "load"]


def is_synthetic(name):
    return synthetic.parse(name) is not None


def family(name):
    """Whose printed hyper-parameters fit: `mosi` for mosi, mosi-752 and synthetic-mosi."""
    return name.removeprefix("synthetic-").split("-")[0]


def available():
    """Names that `load` takes now: the synthetic ones, then the files in the data folder."""
    folder = paths.data_folder()
    return (*synthetic.NAMES, *sorted(file.stem for file in folder.glob("*.npz")))


def check(name):
    """Refuse a name that cannot be loaded: unknown, or known without its file. Cheap: nothing is read."""
    names = available()
    if name in names or is_synthetic(name):
        return name
    if name in REAL:
        raise BadInput(
            f"benchmark {name!r} needs its file: put {name}.npz (layout mmkd-npz/1, see data/README.md) into "
            f"{paths.data_folder()} or set MMKD_DATA to its folder; synthetic-{name} stands in until then."
        )
    raise BadInput(
        f"unknown benchmark {name!r}: choose one of {', '.join(names)}, or put {name}.npz into {paths.data_folder()}."
    )


def load(name, size="small", seed=0):
    """The benchmark `name`; `size` (a profile) and `seed` matter for synthetic ones only: their train is redrawn."""
    check(name)
    return _synthetic(name, size, seed) if is_synthetic(name) else _read(*_version(name))


def fingerprint(name, size="small"):
    """Names the data without reading it into arrays: the model that draws it, or the hash of the file."""
    check(name)
    return synthetic.fingerprint(name, size) if is_synthetic(name) else _hash(*_version(name))


def _version(name):
    """(path, time, bytes) of a file: what the caches below may rely on."""
    path = paths.data_folder() / f"{name}.npz"
    return path, path.stat().st_mtime_ns, path.stat().st_size


_synthetic = lru_cache(maxsize=4)(synthetic.load)
_read = lru_cache(maxsize=2)(lambda path, time, size: files.read(path))
_hash = lru_cache(maxsize=16)(lambda path, time, size: arrays.sha256(path)[:16])
