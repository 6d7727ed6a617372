"""MMSA (`aligned_50.pkl`, `unaligned_50.pkl`, and the files of SIMS): a dict of train, valid and test, each a dict of

    text (N, T, 768), audio, vision   sequences padded at the end
    text_bert (N, 3, T)               word pieces, mask, segments; not in every file
    audio_lengths, vision_lengths     lists, only in unaligned files
    regression_labels                 scores; in SIMS, besides, those of single modalities: ..._T, ..._A, ..._V
    id                                "video$_$clip"
    raw_text, annotations, classification_labels

Language are the vectors `text`. Its frames are those that the mask of text_bert shows: padding has vectors that are
not zero. In an aligned file (no lengths, all T equal) the other modalities have the same frames. Lengths are taken as
they stand; they were made by going to the first frame that is zero and are never 0 (MMSA, data/getLengths.py), so that
a modality that is zero in all its frames counts as absent, and non-zero frames beyond a length are counted in a note.
"""

import pickle
from collections import Counter

import numpy as np

from ..benchmark import PARTS
from .arrays import refuse
from .splits import KEYS, assembled, check, column, has, holds, identities, nonzero, numbers, shapes, span

NAME = "MMSA"
LAYOUT = "MMSA: dict of train, valid, test with text, audio, vision and regression_labels"
SCORES, CLASSES = "regression_labels", "classification_labels"
UNIMODAL = [f"{SCORES}_{letter}" for letter in "TAV"]


def recognises(tree):
    return holds(tree, SCORES, CLASSES)


def contents(path, tree, use):
    """Contents of an MMSA file; a file without regression_labels is read as one of classes. Empties the tree."""
    check(path, tree, use)
    key = SCORES if has(path, tree, SCORES) else CLASSES
    labels = {part: column(path, tree, part, key, whole=key == CLASSES) for part in PARTS}
    sizes = {part: len(label) for part, label in labels.items()}
    y, meta = _labels(path, tree, np.concatenate([*labels.values()]), key)
    names, unnamed = identities(path, tree, sizes)
    found = shapes(path, tree, sizes)
    lengths, notes = _lengths(path, tree, found, sizes)
    rows = {part: np.arange(size) for part, size in sizes.items()}
    begins = {m: {part: np.zeros(size, int) for part, size in sizes.items()} for m in KEYS}
    meta["notes"] += unnamed + notes
    return assembled(tree, found, rows, begins, lengths, names, y, meta)


def _labels(path, tree, y, key):
    """(y, meta). SIMS, with scores from -1 to 1, is told by its labels of single modalities; else they go from -3 to 3:
    what a benchmark allows must not depend on which scores happen to be in a file."""
    if key == CLASSES:
        classes, y = np.unique(y, return_inverse=True)
        note = f"the file holds no {SCORES}: its {CLASSES} are read"
        return y, {"task": "classification", "classes": [str(label) for label in classes], "notes": [note]}
    small = bool((np.abs(y) <= 1).all())
    sims = small and all([has(path, tree, name) for name in UNIMODAL])
    notes = ["scores go from -1 to 1: none is larger, and there are labels of single modalities, as in SIMS"] * sims
    if small and not sims:
        notes = ["no score is beyond -1 and 1, but there are no labels of single modalities, as SIMS has: -3 to 3"]
    return y, {"task": "regression", "score_range": [-1, 1] if sims else [-3, 3], "notes": notes}


def _lengths(path, tree, found, sizes):
    """(modality -> part -> lengths (n,), notes)."""
    tokens = _tokens(path, tree, sizes) if has(path, tree, "text_bert") else {}
    given = [m for m in ("a", "v") if m in found and has(path, tree, f"{KEYS[m]}_lengths")]
    aligned = not given and all(len({steps[part] for steps, _ in found.values()}) == 1 for part in PARTS)
    lengths, absent, beyond = {m: {} for m in found}, Counter(), Counter()
    for part in PARTS:
        shown = {m: nonzero(tree[part][KEYS[m]], np.arange(sizes[part])) for m in found}  # (n, T) each
        last = {m: sum(span(steps)) for m, steps in shown.items()}  # begin + length
        longest = np.maximum.reduce([np.zeros(sizes[part], int), *last.values()])
        language = tokens.get(part, last.get("l", longest))
        for m, steps in shown.items():
            length = language if m == "l" or aligned else last[m]
            if m in given:
                length = column(path, tree, part, f"{KEYS[m]}_lengths", sizes[part], whole=True)
            inside = np.arange(steps.shape[1]) < length[:, None]
            empty = (length > 0) & (length <= steps.shape[1]) & ~(steps & inside).any(1)
            lengths[m][part] = np.where(empty, 0, length)
            absent[KEYS[m]] += int(empty.sum())
            beyond[KEYS[m]] += int((steps & ~inside).any(1).sum()) if m != "l" else 0  # padding of language has vectors
    notes = []
    if "l" in found and not tokens:
        full = all((lengths["l"][part] == steps).all() for part, steps in found["l"][0].items())
        warning = ", which is the last step in all utterances: padding may have vectors too" if full else ""
        notes = [f"the file holds no text_bert: language goes to its last vector that is not zero{warning}"]
    if guessed := [KEYS[m] for m in found if not (m == "l" or m in given or aligned)]:
        notes.append(f"the file holds no lengths of {' and '.join(guessed)}: up to the last frame that is not zero")
    notes += [f"{key} is zero in all its frames, so absent, in {count} utterances" for key, count in (+absent).items()]
    notes += [f"{key} has frames beyond its length in {count} utterances, not read" for key, count in (+beyond).items()]
    return lengths, notes


def _tokens(path, tree, sizes):
    """part -> word pieces of each utterance, (n,): the sum of the mask, which must begin with them."""
    tokens = {}
    for part in PARTS:
        bert = numbers(path, tree, part, "text_bert", sizes[part], axes=3)
        mask = bert[:, 1].astype(float) if bert.shape[1] == 3 else np.full((1, 1), np.nan)
        if not (np.isin(mask, (0, 1)).all() and (np.diff(mask) <= 0).all()):
            refuse(path, f"'text_bert' of {part!r} is not (N, 3, T) of ids, mask (ones, then zeros) and segments")
        tokens[part] = mask.sum(1).astype(int)
    return tokens


def sample(path, like):
    """Write a tiny unaligned file of this layout out of Contents of scores, or of SIMS where they go from -1 to 1."""
    arrays, meta = like
    if meta["task"] != "regression":
        refuse(path, "files of MMSA hold scores: a sample takes a benchmark of the task regression")
    tree = {}
    for part in PARTS:
        rows = np.flatnonzero(arrays["split"] == part)
        y, mask = arrays["y"][rows], np.arange(arrays["x_l"].shape[1]) < arrays["len_l"][rows, None]
        named = zip(arrays["group"][rows].tolist(), arrays["id"][rows].tolist(), strict=True)
        tree[part] = {
            "raw_text": [" ".join(["word"] * int(length)) for length in arrays["len_l"][rows]],
            **{key: arrays[f"x_{m}"][rows] for m, key in KEYS.items()},
            "id": [name if name.startswith(f"{group}$_$") else f"{group}$_${name}" for group, name in named],
            "text_bert": np.stack([2000 * mask, mask, 0 * mask], 1).astype(np.int64),
            **{f"{KEYS[m]}_lengths": arrays[f"len_{m}"][rows].tolist() for m in "av"},
            "annotations": np.array(["Negative", "Neutral", "Positive"])[np.sign(y).astype(int) + 1].tolist(),
            CLASSES: np.sign(y) + 1,
            SCORES: y.astype(np.float32),
            **(dict.fromkeys(UNIMODAL, y.astype(np.float32)) if meta.get("score_range") == [-1, 1] else {}),
        }
    path.write_bytes(pickle.dumps(tree, protocol=4))
