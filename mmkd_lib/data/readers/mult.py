"""MulT (`mosi_data.pkl`, `mosei_senti_data.pkl`, `iemocap_data.pkl`, and `_noalign`): a dict of train, valid and test.

Each part is a dict of text (N, T, 300), audio, vision, labels, and, but for IEMOCAP, id (N, 3): video, start, end.
Labels are scores (N, 1, 1), or a pair (no, yes) for each of K emotions, (N, K, 2), in IEMOCAP neutral, happy, sad and
angry; utterances where not exactly one emotion has its yes are left out and counted.

Sequences are padded with zero at the front, some at the end. Where all T are equal the file is aligned: an utterance
goes from the first to the last step where any modality is not zero, and all modalities have these frames, except one
that is zero throughout, which the utterance lacks. Else each modality goes from its own first to its own last. Frames
are moved to the front of the array: in this handbook padding is at the end.
"""

import pickle
import re

import numpy as np

from ..benchmark import PARTS
from .arrays import refuse
from .splits import KEYS, assembled, check, column, holds, identities, nonzero, numbers, shapes, span

NAME = "MulT"
LAYOUT = "MulT: dict of train, valid, test with text, audio, vision and labels"
EMOTIONS = ["neutral", "happy", "sad", "angry"]


def recognises(tree):
    return holds(tree, "labels")


def contents(path, tree, use):
    """Contents of a MulT file. Empties the tree."""
    check(path, tree, use)
    y, rows, sizes, meta = _labels(path, tree)
    names, notes = _names(path, tree, rows, sizes)
    meta["notes"] += notes
    found = shapes(path, tree, sizes)
    begins, lengths = _spans(tree, found, rows)
    return assembled(tree, found, rows, begins, lengths, names, y, meta)


def _labels(path, tree):
    """(y of the rows that are read, part -> these rows, part -> utterances in the file, meta)."""
    labels = {part: numbers(path, tree, part, "labels") for part in PARTS}
    sizes = {part: len(label) for part, label in labels.items()}
    kinds = {label.shape[1:] for label in labels.values()}
    if all(kind in ((), (1,), (1, 1)) for kind in kinds):
        y = np.concatenate([column(path, tree, part, "labels") for part in PARTS])
        rows = {part: np.arange(size) for part, size in sizes.items()}
        return y, rows, sizes, {"task": "regression", "score_range": [-3, 3], "notes": []}
    emotions = max(kinds, key=len)[0]
    if kinds != {(emotions, 2)} or emotions < 2:
        shown = ", ".join(f"{part} {label.shape}" for part, label in labels.items())
        refuse(path, f"'labels' have the shapes {shown}, expected (N, 1, 1) scores or (N, K, 2) pairs in all parts")
    yes = {part: label[..., 1] > label[..., 0] for part, label in labels.items()}  # (N, K)
    rows = {part: np.flatnonzero(says.sum(1) == 1) for part, says in yes.items()}
    y = np.concatenate([yes[part][rows[part]].argmax(1) for part in PARTS])
    classes = EMOTIONS if emotions == len(EMOTIONS) else [str(k) for k in range(emotions)]
    left = ", ".join(f"{sizes[part] - len(rows[part])} in {part}" for part in PARTS)
    notes = [f"left out, as not exactly one emotion has its yes: {left}"] if len(y) < sum(sizes.values()) else []
    return y, rows, sizes, {"task": "classification", "classes": list(classes), "notes": notes}


def _names(path, tree, rows, sizes):
    """(id and group of the rows that are read, notes). An id that occurs again gets its place in the file."""
    names, notes = identities(path, tree, sizes)
    _, kind, count = np.unique(names["id"], return_inverse=True, return_counts=True)
    if (again := count[kind] > 1).any():
        names["id"] = np.array([f"{name}#{i}" if again[i] else name for i, name in enumerate(names["id"])])
        notes = [*notes, f"{int(again.sum())} utterances share their id with another one: their place was added to it"]
    starts = np.cumsum([0, *sizes.values()])
    read = np.concatenate([start + rows[part] for start, part in zip(starts, PARTS, strict=False)])
    return {key: array[read] for key, array in names.items()}, notes


def _spans(tree, found, rows):
    """(modality -> part -> first steps, modality -> part -> lengths), (n,) each."""
    aligned = all(len({steps[part] for steps, _ in found.values()}) == 1 for part in PARTS)
    begins, lengths = {m: {} for m in found}, {m: {} for m in found}
    for part in PARTS:
        shown = {m: nonzero(tree[part][KEYS[m]], rows[part]) for m in found}  # (n, T) each
        together = np.logical_or.reduce([*shown.values()]) if aligned else None
        for m, steps in shown.items():
            begins[m][part], length = span(together if aligned else steps)
            lengths[m][part] = np.where(steps.any(1), length, 0)
    return begins, lengths


def sample(path, like):
    """Write a tiny file of this layout out of Contents: scores with ids of bytes as MOSI, or pairs without ids as
    IEMOCAP. Where all T are equal but lengths are not, text gets a step more: else the file would be an aligned one."""
    arrays, meta = like
    there = [arrays[f"len_{m}"] for m in KEYS]
    equal = all(((one == other) | (one * other == 0)).all() for one in there for other in there)
    aligned = len({arrays[f"x_{m}"].shape[1] for m in KEYS}) == 1
    tree = {}
    for part in PARTS:
        rows = np.flatnonzero(arrays["split"] == part)
        tree[part] = {}
        for m, key in KEYS.items():
            values, length = arrays[f"x_{m}"][rows], arrays[f"len_{m}"][rows]
            moved = np.zeros((len(rows), values.shape[1] + (m == "l" and aligned and not equal), values.shape[2]), "f4")
            for row, frames, count in zip(moved, values, length, strict=True):
                row[len(row) - count :] = frames[:count]
            tree[part][key] = moved
        if meta["task"] == "classification":
            yes = np.eye(max(len(meta.get("classes", [])), arrays["y"].max() + 1, 2), dtype=int)[arrays["y"][rows]]
            tree[part]["labels"] = np.stack([1 - yes, yes], -1)
            continue
        tree[part]["labels"] = arrays["y"][rows].astype(np.float32)[:, None, None]
        tree[part]["id"] = np.array([_place(i, arrays["id"][i], arrays["group"][i]) for i in rows])
    path.write_bytes(pickle.dumps(tree, protocol=4))


def _place(i, name, group):
    """(video, start, end) in bytes: those that an id video[start-end] names, or made up."""
    found = re.fullmatch(re.escape(group) + r"\[([^-]+)-([^-]+)\]", name)
    start, end = found.groups() if found else (f"{i}.25", f"{i + 1}.5")
    return tuple(text.encode() for text in (str(group), start, end))
