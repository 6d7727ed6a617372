"""What the readers of pickles in three parts share: features without a second copy, labels, ids and their groups.

Knows neither how a family pads its sequences nor what its labels mean. Refusals name file, part and key.
"""

import re

import numpy as np

from ..benchmark import PARTS
from .arrays import refuse
from .contents import LARGEST, Contents

KEYS = {"l": "text", "a": "audio", "v": "vision"}  # modality -> its key in every part of the file
AT_ONCE = 2**22  # numbers that are looked at or moved at a time: a large file must not be in memory twice
STRETCH = 8  # times the numbers of the file that may be made of them where parts differ in length
LONGEST = 200  # characters of an id: numpy gives every id the room of the longest
CLIP = re.compile(r"(.+)_(?:[FM](?:XX)?)?\d+")  # video_7, Ses01F_impro01_F000, Ses01F_impro05_MXX0


def holds(tree, *labels):
    """Whether a tree has a part with features and one of the given labels; what else it lacks, `check` says."""
    parts = [tree.get(part) for part in PARTS] if isinstance(tree, dict) else []
    found = [part.keys() for part in parts if isinstance(part, dict)]
    return any(keys & set(KEYS.values()) and keys & set(labels) for keys in found)


def check(path, tree, use):
    """Refuse a part that is missing, and a choice that the file does not offer. Makes the parts dicts of their own."""
    if use:
        refuse(path, "it holds one kind of features for each modality, there is no choice to `use`: leave it out")
    for part in PARTS:
        if not isinstance(tree.get(part), dict):
            refuse(path, f"it has no part {part!r}, files of its family have {', '.join(PARTS)}")
        tree[part] = dict(tree[part])


def has(path, tree, key):
    """Whether the parts hold `key`; refuses a file where only some of them do."""
    without = [part for part in PARTS if key not in tree[part]]
    if 0 < len(without) < len(PARTS):
        refuse(path, f"{without[0]!r} has no {key!r}, another part has")
    return not without


def numbers(path, tree, part, key, n=None, axes=None):
    """The array of numbers tree[part][key], of n utterances and so many axes; where axes are free, it may be a list."""
    value = tree[part].get(key)
    if isinstance(value, np.ndarray) and value.dtype.kind == "O" and axes is None:
        value = value.tolist()
    if isinstance(value, list | tuple) and axes is None:
        try:
            value = np.array(value)
        except ValueError:  # pieces of different lengths
            refuse(path, f"{key!r} of {part!r} is a list that makes no array of numbers")
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        found = f"type {value.dtype}" if isinstance(value, np.ndarray) else f"a value of type {type(value).__name__}"
        refuse(path, f"{key!r} of {part!r} has {found}, expected an array of numbers")
    if value.ndim != (axes or value.ndim or 1):
        refuse(path, f"{key!r} of {part!r} has shape {value.shape}, expected {axes or 'some'} axes")
    if n is not None and len(value) != n:
        refuse(path, f"{key!r} of {part!r} has {len(value)} utterances, its labels are {n}")
    return value


def column(path, tree, part, key, n=None, whole=False):
    """One number for each utterance, (n,); with `whole`, of type int."""
    array = numbers(path, tree, part, key, n)
    if array.size != len(array):
        refuse(path, f"{key!r} of {part!r} has shape {array.shape}, expected one number for each utterance")
    array = array.reshape(-1)
    if not whole:
        return array
    if not ((np.abs(array.astype(float)) < 2**31) & (array == np.floor(array))).all():
        refuse(path, f"{key!r} of {part!r} holds numbers that are not whole")
    return array.astype(int)


def shapes(path, tree, sizes):
    """modality -> (part -> steps, width), of those that the file has: no key, no step or no column is none."""
    found = {}
    for m, key in KEYS.items():
        if not has(path, tree, key):
            continue
        arrays = [numbers(path, tree, part, key, sizes[part], axes=3) for part in PARTS]
        steps, widths = [array.shape[1] for array in arrays], sorted({array.shape[2] for array in arrays})
        if len(widths) > 1:
            refuse(path, f"{key!r} has {' and '.join(map(str, widths))} columns in different parts")
        held, made = sum(array.size for array in arrays), sum(sizes.values()) * max(steps) * widths[0]
        if made > min(LARGEST, STRETCH * held + AT_ONCE):
            refuse(path, f"{key!r} has {' and '.join(map(str, steps))} steps, padded to the longest it is too large")
        if held:
            found[m] = dict(zip(PARTS, steps, strict=True)), widths[0]
    return found


def _chunks(values, rows):
    size = max(AT_ONCE // max(values[:1].size, 1), 1)
    return (rows[i : i + size] for i in range(0, len(rows), size))


def nonzero(values, rows):
    """(n, T) bool: the steps of the given rows of (N, T, d) where some column is not zero; NaN and inf are not zero."""
    some = [(values[chunk] != 0).any(-1) for chunk in _chunks(values, rows)]
    return np.concatenate([np.zeros((0, values.shape[1]), bool), *some])


def span(shown):
    """(begin, length), (n,) each: from the first to the last step that is shown, (n, T) bool; 0 and 0 without any."""
    step, steps = np.arange(shown.shape[1]), shown.shape[1]
    last = np.where(shown, step + 1, 0).max(1, initial=0)
    begin = np.minimum(np.where(shown, step, steps).min(1, initial=steps), last)
    return begin, last - begin


def assembled(tree, found, rows, begins, lengths, names, y, meta):
    """Contents of the given rows of each part. Features leave the tree as they are copied, moved forward by `begins`.

    found: as `shapes` returns it; rows: part -> (n,); begins, lengths: modality -> part -> (n,); names: id, group (N,).
    """
    n = sum(map(len, rows.values()))
    arrays = {"y": y, "split": np.repeat(PARTS, [len(rows[part]) for part in PARTS])} | names
    for m, key in KEYS.items():
        steps, width = found.get(m, ({"none": 1}, 1))
        x = arrays[f"x_{m}"] = np.zeros((n, max(steps.values()), width), np.float32)
        arrays[f"len_{m}"] = np.concatenate([lengths[m][part] for part in PARTS]) if m in found else np.zeros(n, int)
        first = 0
        for part in PARTS if m in found else ():
            values = tree[part].pop(key)
            for begin in np.unique(begins[m][part]):
                for chunk in _chunks(values, np.flatnonzero(begins[m][part] == begin)):
                    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, and is counted
                        x[first + chunk, : steps[part] - begin] = values[rows[part][chunk], begin:]
            first += len(rows[part])
    return Contents(arrays, meta)


def identities(path, tree, sizes):
    """({id, group} of all utterances, (N,) each, notes). An id is a text, bytes or a number, or a row of such: video,
    start, end. The group is the video or dialogue; without ids nobody knows which."""
    if not has(path, tree, "id"):
        ids = np.array([f"{part}-{i}" for part in PARTS for i in range(sizes[part])], str)
        note = "the file holds no ids: every utterance is a group of its own, so no session or dialogue can be left out"
        return {"id": ids, "group": ids}, [note]
    ids, groups = [], []
    for part in PARTS:
        value = tree[part]["id"]
        rows = value.tolist() if isinstance(value, np.ndarray) else value
        rows = rows if isinstance(rows, list | tuple) else [rows]
        if len(rows) != sizes[part]:
            refuse(path, f"'id' of {part!r} has {len(rows)} entries, its labels are {sizes[part]}")
        for row in rows:
            row = row.tolist() if isinstance(row, np.ndarray | np.generic) else row
            cells = row if isinstance(row, list | tuple) and row else [row]
            name, *place = [_text(path, part, cell) for cell in cells]
            ids.append(f"{name}[{'-'.join(place)}]" if place else name)
            groups.append(name if place else group_of(name))
    return {"id": np.array(ids, str), "group": np.array(groups, str)}, []


def _text(path, part, cell):
    cell = cell.item() if isinstance(cell, np.generic) else cell
    try:
        text = cell.decode() if isinstance(cell, bytes) else str(cell) if isinstance(cell, str | int | float) else None
    except ValueError:  # bytes that are not UTF-8, a number of more digits than Python prints
        text = None
    if text is None or len(text) > LONGEST:
        refuse(path, f"'id' of {part!r} holds a {type(cell).__name__} that is no name of at most {LONGEST} characters")
    return text


def group_of(name):
    """The video or dialogue of an utterance: what stands before `$_$`, `[`, or a last `_` with the number of a clip."""
    for mark in ("$_$", "["):
        before, found, _ = name.partition(mark)
        if before and found:
            return before
    clip = CLIP.fullmatch(name)
    return clip[1] if clip else name
