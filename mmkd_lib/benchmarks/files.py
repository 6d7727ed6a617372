"""Reader of the plain layout mmkd-npz/1 (data/README.md): from arrays to a Benchmark, or a refusal in one sentence."""

import json
from pathlib import Path

import numpy as np
import torch

from ..batch import Batch
from ..metrics import TASKS
from ..missing import MODALITIES
from . import arrays as npz
from .arrays import refuse
from .benchmark import PARTS, Benchmark

FORMAT = "mmkd-npz/1"
LARGEST = 2**33  # numbers in one modality, about the memory of a large machine


def read(path):
    """Read one mmkd-npz/1 file into a Benchmark, or refuse it."""
    path = Path(path)
    arrays = npz.read(path)
    meta = _meta(path, arrays)
    n = len(_array(path, arrays, "y", 1))
    if not n:
        refuse(path, "it holds no utterance")
    x, frames, findings = {}, {}, {}
    for m in MODALITIES:
        values, shown, findings[m] = _modality(path, arrays, m, n)
        if shown.any():  # a modality that exists for no utterance is not one of this benchmark
            x[m], frames[m] = torch.from_numpy(values), torch.from_numpy(shown)
    if not x:
        refuse(path, "it holds no frame of any modality (len_l, len_a and len_v are all zero)")
    task = meta.get("task")
    if task not in TASKS:
        refuse(path, f"meta names the task {task!r}, allowed are {', '.join(TASKS)}")
    y, classes = (_scores if task == "regression" else _classes)(path, arrays["y"], meta)
    split, ids, group = (_text(path, arrays, name, n) for name in ("split", "id", "group"))
    _check_split(path, split)
    if len(set(ids)) < n:
        refuse(path, "an utterance id occurs twice in id")
    fold = _array(path, arrays, "fold", 1, n, kinds="iu") if "fold" in arrays else None
    if fold is not None and len(np.unique(fold)) < 3:
        refuse(path, "fold has fewer than three folds (one each for train, valid and test)")
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
        fingerprint=npz.sha256(path)[:16],
        measured_on=_phrase(path, n, findings),
        findings=findings,
    )


def _phrase(path, n, findings):
    """What stands under tables: the file, and what the reader had to mend."""
    mended = sum(findings[m]["nan or inf"] for m in MODALITIES)
    leaks = [f"; {count} {kind}" for kind, count in findings.items() if kind not in MODALITIES]
    zeroed = f"; {mended} NaN or inf set to zero" if mended else ""
    return f"{path.stem} ({n} utterances read from file{zeroed}{''.join(leaks)})"


def _array(path, arrays, name, ndim, n=None, kinds="biuf"):
    """An array that must be there, with its number of axes, its first length and its kind of type."""
    if name not in arrays:
        refuse(path, f"array {name!r} of {FORMAT} is missing (it holds {', '.join(sorted(arrays)) or 'nothing'})")
    array = arrays[name]
    if array.ndim != ndim or (n is not None and len(array) != n):
        wanted = f"{ndim} axes" + (f" and length {n}" if n is not None else "")
        refuse(path, f"array {name!r} has shape {array.shape}, expected {wanted}")
    if array.dtype.kind not in kinds:
        refuse(path, f"array {name!r} has type {array.dtype}")
    return array


def _text(path, arrays, name, n):
    """An array (N,) of text."""
    array = _array(path, arrays, name, 1, n, kinds="US")
    try:
        return np.array(array.astype(str).tolist())  # the list: numpy holds code points that are none
    except (ValueError, SystemError):
        refuse(path, f"array {name!r} holds bytes that are not text")


def _meta(path, arrays):
    """The dictionary in `meta`."""
    array = _array(path, arrays, "meta", 0, kinds="US")
    try:
        meta = json.loads(array.item())
    except (ValueError, RecursionError, SystemError):
        meta = None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        refuse(path, f"meta does not say format {FORMAT!r}")
    return meta


def _modality(path, arrays, m, n):
    """Features (N, T, d) float32, frames (N, T) bool and findings; NaN and inf become zero and are counted."""
    length = _array(path, arrays, f"len_{m}", 1, n, kinds="iu")
    values = _features(path, arrays, m, n)
    steps = values.shape[1]
    if length.min() < 0 or length.max() > steps:
        refuse(path, f"len_{m} goes from {length.min()} to {length.max()}, the features have {steps} frames")
    shown = np.arange(steps) < length[:, None]
    finite = np.isfinite(values)
    bad = int((~finite & shown[..., None]).sum())
    values = np.where(finite & shown[..., None], values, np.float32(0))
    findings = {
        "nan or inf": bad,
        "absent": float((length == 0).mean()),
        "all-zero frames": float((shown & ~values.any(-1)).sum() / max(shown.sum(), 1)),
        "longest": int(length.max()),
        "mean length": float(length.mean()),
        "width": values.shape[2],
    }
    return values, shown, findings


def _features(path, arrays, m, n):
    """Features (N, T, d) float32, given as they are or as word ids and their vectors."""
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes inf, and is counted
        if f"ids_{m}" not in arrays:
            return _array(path, arrays, f"x_{m}", 3, n, kinds="f").astype(np.float32)
        ids = _array(path, arrays, f"ids_{m}", 2, n, kinds="iu")
        table = _array(path, arrays, f"table_{m}", 2, kinds="f").astype(np.float32)
    if ids.size and (ids.min() < 0 or ids.max() >= len(table)):
        refuse(path, f"ids_{m} points outside table_{m}, which has {len(table)} rows")
    if ids.size * table.shape[1] > LARGEST:
        refuse(path, f"ids_{m} and table_{m} unfold to {ids.size * table.shape[1]} numbers, at most {LARGEST} are read")
    return table[ids]


def _scores(path, y, meta):
    """Labels of a regression benchmark: (y float32, no classes)."""
    if not np.isfinite(y).all():
        refuse(path, f"y holds {int((~np.isfinite(y)).sum())} labels that are NaN or inf")
    limits = meta.get("score_range", [-3, 3])
    numbers = isinstance(limits, list) and all(type(limit) in (int, float) for limit in limits)
    if not (numbers and len(limits) == 2 and limits[0] < limits[1]):
        refuse(path, f"score_range in meta is {limits!r}, expected two numbers, the smaller one first")
    if y.min() < limits[0] or y.max() > limits[1]:
        refuse(path, f"y goes from {y.min():g} to {y.max():g}, outside the score range {limits[0]} to {limits[1]}")
    return y.astype(np.float32), ()


def _classes(path, y, meta):
    """Labels of a classification benchmark: (y int64, class names)."""
    if y.dtype.kind not in "iu":
        refuse(path, f"y has type {y.dtype}, classes are integers")
    named = meta.get("classes", [str(c) for c in range(min(int(y.max()), 999) + 1)])
    if not isinstance(named, list) or len({str(c) for c in named}) < len(named):
        refuse(path, f"classes in meta are {named!r}, expected a list of different names")
    if y.min() < 0 or y.max() >= len(named):
        refuse(path, f"y goes from {y.min()} to {y.max()}, meta names {len(named)} classes")
    return y.astype(np.int64), tuple(str(c) for c in named)


def _check_split(path, split):
    if strange := sorted(set(split) - set(PARTS)):
        refuse(path, f"split holds {str(strange[0])!r}, allowed are {', '.join(PARTS)}")
    if empty := [part for part in PARTS if not (split == part).any()]:
        refuse(path, f"split names no {empty[0]} utterance")


def _shared_groups(group, part):
    """How many videos or dialogues stand in more than one part."""
    pairs = np.unique(np.stack([group, part.astype(str)], 1), axis=0)
    return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())


def describe(path):
    """Lines that say what a file holds; refuses what `read` refuses."""
    benchmark = read(path)
    n = len(benchmark.batch.y)
    yield f"file        {Path(path).name} ({FORMAT}), SHA-256 {npz.sha256(path)}"
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
