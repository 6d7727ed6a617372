"""What a file holds, in one form for every family, and the checks that make a Benchmark of it.

The readers beside it translate a layout of the field into `Contents`; nothing is believed until it came through
`benchmark`. Knows no layout.
"""

import hashlib
from typing import NamedTuple

import numpy as np
import torch

from ..batch import Batch
from ..benchmark import PARTS, Benchmark
from ..metrics import TASKS
from ..missing import MODALITIES
from .arrays import refuse

LARGEST = 2**33  # numbers in one modality, about the memory of a large machine
AT_ONCE = 512  # utterances that are cleaned at a time: a large file must not be in memory twice


class Contents(NamedTuple):
    """What a reader found, under the names of the layout mmkd-npz/1 (data/README.md).

    arrays: `x_m` (N, T_m, d_m), or `ids_m` (N, T_m) and `table_m` (V, d_m); `len_m` (N,); `y`, `id`, `group`, `split`
    (N,); `fold` (N,) or `folds` (K, N) where there is a cross-validation. Arrays are the reader's own: they may be
    changed. meta: `task`; `score_range` or `classes`; `notes`, sentences about what the reader had to decide.
    """

    arrays: dict[str, np.ndarray]
    meta: dict


def stacked(pieces):
    """Sequences (T_i, d) of N utterances, padded at the end: (x (N, T, d) float32, lengths (N,)). None and sequences of
    no frame are utterances that lack the modality; a vector (d,) is one frame. Without any, x is (N, 1, 1) and zero."""
    sequences = [() if piece is None else np.atleast_2d(piece) for piece in pieces]
    length = np.array([len(sequence) for sequence in sequences], int)
    widths = {sequence.shape[1] for sequence in sequences if len(sequence)} or {1}
    if len(widths) > 1:
        raise ValueError(f"frames have {' and '.join(map(str, sorted(widths)))} columns")
    x = np.zeros((len(sequences), max(length.max(initial=1), 1), *widths), np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, and is counted
        for row, sequence in zip(x, sequences, strict=True):
            if len(sequence):
                row[: len(sequence)] = sequence
    return x, length


def held_out(group, stratum, share=0.1):
    """Validation utterances where the field names none, (N,) bool: of each stratum (a session, say) the given share of
    its groups (dialogues), at least one, those whose hashed names come first. No random numbers: it never changes."""
    chosen = set()
    for name in np.unique(stratum):
        names = sorted(set(group[stratum == name]), key=lambda text: hashlib.sha256(text.encode()).hexdigest())
        chosen |= set(names[: max(1, round(share * len(names)))])
    return np.isin(group, sorted(chosen))


def benchmark(path, contents, reader, fingerprint):
    """Check everything and make the Benchmark; refuses in one sentence. Cleans the arrays of `contents` in place."""
    arrays, meta = contents
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
    roles = _roles(path, arrays, n)
    if shared := _in_two_parts(group, split):
        findings["groups in two splits"] = len(shared)
    if roles is not None and (shared := set().union(*(_in_two_parts(group[r >= 0], r[r >= 0]) for r in roles))):
        findings["groups in two parts of a fold"] = len(shared)
    findings["notes"] = [" ".join(str(note).split()) for note in meta.get("notes", ())]
    return Benchmark(
        name=path.stem,
        task=task,
        classes=classes,
        batch=Batch(x, dict(frames), frames, torch.from_numpy(y), _dialogues(group)),
        split=split,
        roles=roles,
        ids=ids,
        fingerprint=fingerprint,
        measured_on=_phrase(path, n, findings),
        reader=reader,
        findings=findings,
    )


def _dialogues(group):
    """Which dialogue, or video, an utterance (N,) stands in; None where each has a name of its own."""
    names, number = np.unique(group, return_inverse=True)
    return torch.from_numpy(number) if len(names) < len(group) else None


def _phrase(path, n, findings):
    """What stands under tables: the file, and what the reader had to mend."""
    mended = sum(findings[m]["nan or inf"] for m in MODALITIES)
    leaks = [f"; {count} {kind}" for kind, count in findings.items() if kind not in (*MODALITIES, "notes")]
    zeroed = f"; {mended} NaN or inf set to zero" if mended else ""
    return f"{path.stem} ({n} utterances read from file{zeroed}{''.join(leaks)})"


def _array(path, arrays, name, ndim, n=None, kinds="biuf"):
    """An array that must be there, with its number of axes, its first length and its kind of type."""
    if name not in arrays:
        refuse(path, f"array {name!r} of mmkd-npz/1 is missing (it holds {', '.join(sorted(arrays)) or 'nothing'})")
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


def _modality(path, arrays, m, n):
    """Features (N, T, d) float32, frames (N, T) bool and findings; NaN and inf become zero and are counted."""
    length = _array(path, arrays, f"len_{m}", 1, n, kinds="iu")
    values = _features(path, arrays, m, n)
    steps = values.shape[1]
    if length.min() < 0 or length.max() > steps:
        refuse(path, f"len_{m} goes from {length.min()} to {length.max()}, the features have {steps} frames")
    shown, bad, empty = np.arange(steps) < length[:, None], 0, 0
    for begin in range(0, n, AT_ONCE):
        some, there = values[begin : begin + AT_ONCE], shown[begin : begin + AT_ONCE]
        finite = np.isfinite(some)
        bad += int((~finite & there[..., None]).sum())
        some[~finite] = 0
        some[~there] = 0
        empty += int((there & ~some.any(-1)).sum())
    findings = {
        "nan or inf": bad,
        "absent": float((length == 0).mean()),
        "all-zero frames": empty / max(int(shown.sum()), 1),
        "longest": int(length.max()),
        "mean length": float(length.mean()),
        "width": values.shape[2],
    }
    return values, shown, findings


def _features(path, arrays, m, n):
    """Features (N, T, d) float32, given as they are or as word ids and their vectors."""
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes inf, and is counted
        if f"ids_{m}" not in arrays:
            given = _array(path, arrays, f"x_{m}", 3, n, kinds="f")
            return given if given.dtype == np.float32 and given.flags.writeable else given.astype(np.float32)
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


def _roles(path, arrays, n):
    """The part of every utterance in every fold, (K, N) int8, or None: `folds` as it is, or from `fold` (N,): fold k
    tests, the next one validates (cyclic), the rest trains."""
    if "fold" in arrays:
        names, number = np.unique(_array(path, arrays, "fold", 1, n, kinds="iu"), return_inverse=True)
        if len(names) < 3:
            refuse(path, "fold has fewer than three folds (one each for train, valid and test)")
        tested = np.arange(len(names))[:, None]
        after = (tested + 1) % len(names)
        return np.select([number == tested, number == after], [np.int8(2), np.int8(1)], np.int8(0))
    if "folds" not in arrays:
        return None
    roles = _array(path, arrays, "folds", 2, kinds="i")
    if roles.shape[1] != n or not len(roles):
        refuse(path, f"array 'folds' has shape {roles.shape}, expected a row of {n} parts for each fold")
    if roles.min() < -1 or roles.max() >= len(PARTS):
        refuse(path, f"folds holds {roles.min()} to {roles.max()}, allowed are -1 (left out), 0, 1 and 2")
    for k, role in enumerate(roles):
        if empty := [name for part, name in enumerate(PARTS) if not (role == part).any()]:
            refuse(path, f"fold {k} names no {empty[0]} utterance")
    return roles.astype(np.int8)


def _in_two_parts(group, part):
    """The videos or dialogues that stand in more than one part."""
    pairs = np.unique(np.stack([group, part.astype(str)], 1), axis=0)
    names, counts = np.unique(pairs[:, 0], return_counts=True)
    return set(names[counts > 1])
