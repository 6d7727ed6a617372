"""Reader of the plain layout mmkd-npz/1 (data/README.md). Nothing in a file is ever executed.

A file is checked member by member before an array is made: a header that promises more than the file holds, a
pickled object or a wrong shape is refused with the file's name and what is wrong.
"""

import hashlib
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from ..batch import Batch
from ..errors import BadInput
from ..metrics import TASKS
from ..missing import MODALITIES
from .benchmark import PARTS, Benchmark

FORMAT = "mmkd-npz/1"


def read(path):
    """Read one mmkd-npz/1 file into a Benchmark, or refuse it in one sentence."""
    path = Path(path)
    arrays = read_arrays(path)
    meta = _meta(path, arrays)
    n = len(_array(path, arrays, "y", 1))
    findings = {}
    x, frames = {}, {}
    for m in MODALITIES:
        values, shown = _modality(path, arrays, m, n, findings)
        if shown.any():  # a modality that exists for no utterance is not one of this benchmark
            x[m], frames[m] = torch.from_numpy(values), torch.from_numpy(shown)
        else:
            findings[m]["absent"] = 1.0
    if not x:
        _refuse(path, "it holds no frame of any modality (len_l, len_a and len_v are all zero)")
    task = meta.get("task")
    if task not in TASKS:
        _refuse(path, f"meta names the task {task!r}, allowed are {', '.join(TASKS)}")
    y, classes = _labels(path, arrays["y"], task, meta)
    split = _array(path, arrays, "split", 1, n, kinds="US").astype(str)
    if strange := sorted(set(split) - set(PARTS)):
        _refuse(path, f"split holds {strange[0]!r}, allowed are {', '.join(PARTS)}")
    if empty := [part for part in PARTS if not (split == part).any()]:
        _refuse(path, f"split names no {empty[0]} utterance")
    ids = _array(path, arrays, "id", 1, n, kinds="US").astype(str)
    if len(set(ids)) < n:
        _refuse(path, "an utterance id occurs twice in id")
    group = _array(path, arrays, "group", 1, n, kinds="US").astype(str)
    fold = _array(path, arrays, "fold", 1, n, kinds="iu") if "fold" in arrays else None
    if fold is not None and len(np.unique(fold)) < 3:
        _refuse(path, "fold has fewer than three folds (one each for train, valid and test)")
    for kind, part in (("split", split), ("fold", fold)):
        if part is not None and (shared := _shared_groups(group, part)):
            findings[f"groups in two {kind}s"] = shared
    return Benchmark(
        name=path.stem,
        task=task,
        classes=classes,
        batch=Batch(x, dict(frames), frames, torch.from_numpy(y)),
        split=split,
        fold=fold,
        ids=ids,
        fingerprint=sha256(path)[:16],
        measured_on=f"{path.stem} ({n} utterances read from file)",
        findings=findings,
    )


def read_arrays(path):
    """The members of an npz as arrays; refuses what is not one, is cut off, or holds pickled objects."""
    path = Path(path)
    if not path.is_file():
        _refuse(path, "there is no such file")
    try:
        with zipfile.ZipFile(path) as members:
            return {info.filename.removesuffix(".npy"): _member(path, members, info) for info in members.infolist()}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError):
        _refuse(path, "it is not an npz archive, or it is cut off or damaged")


def _member(path, members, info):
    """One array, after its header was held against the size of the member."""
    name = info.filename
    try:
        with members.open(info) as stream:
            version = np.lib.format.read_magic(stream)
            reader = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = reader(stream)
            promised = int(np.prod([int(side) for side in shape], dtype=object)) * dtype.itemsize
            if dtype.hasobject:
                _refuse(path, f"{name} holds pickled objects, which are never opened")
            if dtype.kind not in "biufUS":
                _refuse(path, f"{name} has type {dtype}, allowed are numbers, truth values and text")
            if any(side < 0 for side in shape) or promised != info.file_size - stream.tell():
                _refuse(path, f"{name} promises {promised} bytes of data, the archive holds {info.file_size}")
        with members.open(info) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except (ValueError, KeyError) as error:
        if isinstance(error, BadInput):
            raise
        _refuse(path, f"{name} is not a readable numpy array")


def sha256(path):
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse(path, why):
    raise BadInput(f"{Path(path).name} is refused: {why}.")


def _array(path, arrays, name, ndim, n=None, kinds="biuf"):
    """An array that must be there, with its number of axes, its first length and its kind of type."""
    if name not in arrays:
        _refuse(path, f"array {name!r} of {FORMAT} is missing (it holds {', '.join(sorted(arrays)) or 'nothing'})")
    array = arrays[name]
    if array.ndim != ndim or (n is not None and len(array) != n):
        wanted = f"{ndim} axes" + (f" and length {n}" if n is not None else "")
        _refuse(path, f"array {name!r} has shape {array.shape}, expected {wanted}")
    if array.dtype.kind not in kinds:
        _refuse(path, f"array {name!r} has type {array.dtype}")
    return array


def _meta(path, arrays):
    text = str(_array(path, arrays, "meta", 0, kinds="US"))
    try:
        meta = json.loads(text)
    except json.JSONDecodeError:
        meta = None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        _refuse(path, f"meta does not say format {FORMAT!r}")
    return meta


def _modality(path, arrays, m, n, findings):
    """Features (N, T, d) float32 and frames (N, T) bool of one modality; NaN and inf become zero and are counted."""
    if f"ids_{m}" in arrays:
        ids = _array(path, arrays, f"ids_{m}", 2, n, kinds="iu")
        table = _array(path, arrays, f"table_{m}", 2, kinds="f").astype(np.float32)
        if ids.size and (ids.min() < 0 or ids.max() >= len(table)):
            _refuse(path, f"ids_{m} points outside table_{m}, which has {len(table)} rows")
        values = table[ids]
    else:
        values = _array(path, arrays, f"x_{m}", 3, n, kinds="f").astype(np.float32)
    length = _array(path, arrays, f"len_{m}", 1, n, kinds="iu")
    steps = values.shape[1]
    if length.size and (length.min() < 0 or length.max() > steps):
        _refuse(path, f"len_{m} goes from {length.min()} to {length.max()}, the features have {steps} frames")
    shown = np.arange(steps) < length[:, None]
    bad = ~np.isfinite(values) & shown[..., None]
    values = np.where(shown[..., None] & np.isfinite(values), values, np.float32(0))
    uncovered = shown & ~values.any(-1)
    findings[m] = {
        "nan or inf": int(bad.sum()),
        "absent": float((length == 0).mean()),
        "all-zero frames": float(uncovered.sum() / max(shown.sum(), 1)),
        "longest": int(length.max(initial=0)),
        "mean length": float(length.mean()) if n else 0.0,
        "width": values.shape[2],
    }
    return values, shown


def _labels(path, y, task, meta):
    if not np.isfinite(y).all():
        _refuse(path, f"y holds {int((~np.isfinite(y)).sum())} labels that are NaN or inf")
    if task == "regression":
        low, high = meta.get("score_range", (-3, 3))
        if len(y) and (y.min() < low or y.max() > high):
            _refuse(path, f"y goes from {y.min():g} to {y.max():g}, outside the score range {low} to {high}")
        return y.astype(np.float32), ()
    if y.dtype.kind not in "iu":
        _refuse(path, f"y has type {y.dtype}, classes are integers")
    classes = tuple(str(c) for c in meta.get("classes", range(int(y.max(initial=0)) + 1)))
    if len(y) and (y.min() < 0 or y.max() >= len(classes)):
        _refuse(path, f"y goes from {y.min()} to {y.max()}, meta names {len(classes)} classes")
    return y.astype(np.int64), classes


def _shared_groups(group, part):
    """How many videos or dialogues stand in more than one part."""
    pairs = np.unique(np.stack([group, part.astype(str)], 1), axis=0)
    return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())


def describe(path):
    """Lines that say what a file holds; refuses what `read` refuses."""
    benchmark = read(path)
    n = len(benchmark.batch.y)
    yield f"file        {Path(path).name} ({FORMAT}), SHA-256 {sha256(path)}"
    yield f"task        {benchmark.task}{': ' + ', '.join(benchmark.classes) if benchmark.classes else ''}"
    yield f"utterances  {n}: " + ", ".join(f"{part} {(benchmark.split == part).sum()}" for part in PARTS)
    if benchmark.fold is not None:
        sizes = ", ".join(f"{k}: {(benchmark.fold == k).sum()}" for k in benchmark.folds)
        yield f"folds       {len(benchmark.folds)} ({sizes})"
    for m in MODALITIES:
        found = benchmark.findings[m]
        if m not in benchmark.batch.x:
            yield f"modality {m}  absent for every utterance"
            continue
        yield (
            f"modality {m}  {found['width']} columns, up to {found['longest']} frames "
            f"(mean {found['mean length']:.1f}), absent {100 * found['absent']:.1f} %, "
            f"all-zero frames {100 * found['all-zero frames']:.1f} %, NaN or inf {found['nan or inf']} (set to zero)"
        )
    y = benchmark.batch.y.numpy()
    if benchmark.task == "regression":
        signs = ", ".join(f"{name} {int(count)}" for name, count in _signs(y))
        yield f"labels      {y.min():g} to {y.max():g}, mean {y.mean():.3f}; {signs}"
    else:
        yield "labels      " + ", ".join(f"{c} {(y == i).sum()}" for i, c in enumerate(benchmark.classes))
    for kind, count in benchmark.findings.items():
        if kind not in MODALITIES:
            yield f"warning     {count} {kind}"


def _signs(y):
    return (("negative", (y < 0).sum()), ("zero", (y == 0).sum()), ("positive", (y > 0).sum()))
