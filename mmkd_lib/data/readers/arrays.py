"""Arrays out of an npz or npy that nobody vouches for: nothing is executed, no promise is believed, memory is bounded.

Every member's header is held against the size of the member and of the file before an array is made. What is wrong is
said in one sentence that names the file.
"""

import hashlib
import math
import warnings
import zipfile
from pathlib import Path

import numpy as np

from ...support.errors import BadInput

SQUEEZE = 2000  # deflate cannot shrink anything more than about 1000 times
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def refuse(path, why):
    """Refuse a file in one sentence, whatever lines its contents would smuggle into it."""
    raise BadInput(" ".join(f"{Path(path).name} is refused: {why}.".split()))


def read(path):
    """name -> array for every member of an npz; refuses what is none, is cut off, or holds pickled objects."""
    path = Path(path)
    if not path.is_file():
        refuse(path, "there is no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            return {info.filename.removesuffix(".npy"): _member(path, archive, info) for info in archive.infolist()}
    except BadInput:
        raise
    except Exception:  # on damaged bytes zipfile and its decoders raise a dozen kinds of error
        refuse(path, "it is not an npz archive, or it is cut off or damaged")


def read_npy(path):
    """The array of a .npy file; refuses what is none, is cut off, or holds pickled objects."""
    path = Path(path)
    if not path.is_file():
        refuse(path, "there is no such file")
    with path.open("rb") as stream:
        _check(path, "it", stream, path.stat().st_size)
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)


def _member(path, archive, info):
    with archive.open(info) as stream:
        _check(path, info.filename, stream, info.file_size)
    with archive.open(info) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _check(path, name, stream, size):
    """Refuse an array whose header promises what nobody wants, or what its `size` bytes cannot hold."""
    shape, dtype = _header(path, name, stream)
    promised = math.prod(map(int, shape)) * dtype.itemsize
    if dtype.hasobject:
        refuse(path, f"{name} holds pickled objects, which are never opened")
    if dtype.kind not in "biufUS" or 0 in (dtype.itemsize, *shape[1:]):
        refuse(path, f"{name} has type {dtype} and shape {shape}, allowed are numbers and text of some size")
    held = size - stream.tell()
    if min(shape, default=0) < 0 or promised != held or promised > SQUEEZE * path.stat().st_size:
        refuse(path, f"{name} promises {promised} bytes of data, the file does not hold them")


def _header(path, name, stream):
    """(shape, dtype) that the header of a member promises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns where it would repair a header of Python 2
            shape, _, dtype = HEADERS[np.lib.format.read_magic(stream)](stream)
    except Exception:  # numpy parses headers as Python literals, with all the errors that a parser has
        refuse(path, f"{name} is not a readable numpy array")
    return shape, dtype


def sha256(path):
    """Hex digest of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
