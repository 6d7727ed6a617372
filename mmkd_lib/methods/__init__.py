"""The methods: one file per system of the literature, by name; and anybody's own, by `file.py:Class`."""

import importlib.util
from functools import lru_cache
from pathlib import Path

from ..support.errors import BadInput, one_of
from .base import Method
from .corrkd import CorrKD
from .dynkd import DynKD
from .hfgd import HFGD
from .mcur import MCUR
from .mmin import MMIN
from .mult import MulT
from .self_mm import SelfMM
from .umdf import UMDF

METHODS = {
    "corrkd": CorrKD,
    "umdf": UMDF,
    "hfgd": HFGD,
    "dynkd": DynKD,
    "mcur": MCUR,
    "mult": MulT,
    "self_mm": SelfMM,
    "mmin": MMIN,
}


def get(name):
    """The class of a method: a known name, or `file.py:Class`; what cannot be found or read is refused."""
    if not is_own(name):
        return METHODS[one_of("method", name, (*METHODS, "file.py:Class"))]
    file, _, kind = name.rpartition(":")
    path = Path(file).resolve()
    if not path.is_file():
        raise BadInput(f"method {name!r}: there is no file {file}; give its path as file.py:Class.")
    module = _module(path, path.stat().st_mtime_ns)
    found = getattr(module, kind, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        own = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Method) and v is not Method]
        raise BadInput(f"method {name!r}: {file} has no class {kind} of a Method; it has {', '.join(own) or 'none'}.")
    return found


def is_own(name):
    """Whether a name is that of a file outside of the library."""
    return ".py:" in name


def module_name(name):
    """The name of a method in records: no record knows in which folder somebody keeps a file."""
    return f"{Path(name.rpartition(':')[0]).name}:{name.rpartition(':')[2]}" if is_own(name) else name


def source_of(name):
    """What `code_fingerprint` calls the module of a method."""
    return str(Path(name.rpartition(":")[0]).resolve()) if is_own(name) else f"methods.{name}"


@lru_cache(maxsize=32)
def _module(path, _time):
    """The module of a file, executed once for each version of it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BadInput:
        raise
    except Exception as error:  # whatever somebody's file raises
        raise BadInput(f"{path.name} cannot be read: {type(error).__name__}: {' '.join(str(error).split())}.") from None
    return module
