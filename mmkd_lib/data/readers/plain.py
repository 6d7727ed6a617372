"""The handbook's own layout mmkd-npz/1 (data/README.md): plain arrays in an npz."""

import json

import numpy as np

from .arrays import read, refuse
from .contents import Contents

NAME = "mmkd-npz/1"
LAYOUT = "NAME.npz with y, id, group, split, meta and, for each modality m, x_m and len_m"


def contents(path, use):
    """The arrays as they are, with `meta` as a dictionary."""
    if use:
        refuse(path, f"{NAME} holds one array for each modality, there is nothing to choose")
    arrays = read(path)
    return Contents(arrays, _meta(path, arrays.pop("meta", None)))


def _meta(path, array):
    if array is None or array.ndim or array.dtype.kind not in "US":
        found = "is missing" if array is None else f"has shape {array.shape} and type {array.dtype}"
        refuse(path, f"array 'meta' {found}, expected one text in JSON")
    try:
        meta = json.loads(array.item())
    except (ValueError, RecursionError, SystemError):
        meta = None
    if not isinstance(meta, dict) or meta.get("format") != NAME:
        refuse(path, f"meta does not say format {NAME!r}")
    return meta


def write(path, contents):
    """Write contents as an mmkd-npz/1 file; whole or not at all."""
    text = json.dumps({"format": NAME} | contents.meta)
    draft = path.with_name(f".{path.name}.draft")
    try:
        with draft.open("wb") as file:
            np.savez_compressed(file, **contents.arrays, meta=np.array(text))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


sample = write
