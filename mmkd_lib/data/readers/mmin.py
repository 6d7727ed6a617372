"""MMIN's folders: an HDF5 file of frames for each modality, and the folds as lists of names and labels.

    D/{A,V,L}/NAME.h5                     name of an utterance -> frames (T, d); *_mean_std.h5 are not features
    D/target/FOLD/{trn,val,tst}_int2name.npy   names of the utterances of each part, (N,) or (N, 1), bytes or text
    D/target/FOLD/{trn,val,tst}_label.npy      their labels, one-hot (N, C) or class numbers (N,)

Folds are taken in the order of their numbers; the fixed split is that of the first one. Features are not normalised by
fold, as MMIN's second file would: the handbook standardises on the training part itself. A dialogue is what comes
before the last "_" of a name. MMIN splits the last session by speaker, so dialogues stand in valid and in test.
"""

import numpy as np

from ...support.errors import BadInput
from ..benchmark import PARTS
from ..missing import MODALITIES
from . import folders
from .arrays import read_npy, refuse
from .contents import Contents
from .hdf5 import arrays as read_arrays

NAME = "MMIN"
LAYOUT = "MMIN: A/, V/ and L/ with an HDF5 file each and target/<fold>/{trn,val,tst}_{label,int2name}.npy"

CLASSES = {4: ["angry", "happy", "sad", "neutral"]}  # of IEMOCAP
FILES = dict(zip(PARTS, ("trn", "val", "tst"), strict=True))
MOST = 100  # folds
SAMPLE = {"l": "bert_large", "a": "comparE", "v": "denseface"}


def recognises_folder(path):
    return (path / "target").is_dir() and any((path / m.upper()).is_dir() for m in MODALITIES)


def contents_of_folder(path, use):
    """The Contents of a folder of this family. use: modality -> name of its HDF5 file."""
    rotations = sorted(
        (f for f in (path / "target").iterdir() if f.name.isdecimal() and f.is_dir()), key=lambda f: int(f.name)
    )
    if not 0 < len(rotations) <= MOST:
        refuse(path, f"target/ has {len(rotations)} folders called by the number of a fold, expected 1 to {MOST}")
    part, label, width = {}, {}, 0  # (fold, name) -> index of its part; name -> class
    for fold, folder in enumerate(rotations):
        for index, name in enumerate(PARTS):
            names, classes, columns = _listed(path, folder, FILES[name])
            width = max(width, columns)
            for utterance, y in zip(names, classes, strict=True):
                if label.setdefault(utterance, y) != y:
                    refuse(
                        path, f"{utterance!r} is of class {label[utterance]}, but of class {y} in fold {folder.name}"
                    )
                if (fold, utterance) in part:
                    refuse(path, f"{utterance!r} stands in fold {folder.name} twice")
                part[fold, utterance] = index
    ids = sorted(label)
    folds = np.array([[part.get((fold, name), -1) for name in ids] for fold in range(len(rotations))], np.int8)
    notes = ["features are not normalised by fold; standardisation is on the training part"]
    if outside := int((folds[0] < 0).sum()):
        notes.append(f"{outside} utterances are in no part of fold {rotations[0].name}; its split has them in train")
    arrays = {
        "y": np.array([label[name] for name in ids], int),
        "id": np.array(ids, str),
        "group": np.array([name.rpartition("_")[0] or name for name in ids], str),
        "split": np.array([PARTS[max(index, 0)] for index in folds[0]], str),
        "folds": folds,
    }
    for m in MODALITIES:
        arrays |= folders.padded(path, m, _frames(path, m, use, ids, notes))
    count = max([width, *(y + 1 for y in label.values())])
    classes = CLASSES.get(count, [str(c) for c in range(min(count, 1000))])
    return Contents(arrays, {"task": "classification", "classes": classes, "notes": notes})


def _listed(path, folder, part):
    """(names, class numbers, columns of one-hot labels or 0) of one part of a fold."""
    name, label = (folder / f"{part}_{kind}.npy" for kind in ("int2name", "label"))
    names, labels = read_npy(name), read_npy(label)
    if names.dtype.kind not in "SU" or names.shape not in ((len(names),), (len(names), 1)):
        refuse(
            path, f"{name.name} of fold {folder.name} has shape {names.shape} and type {names.dtype}, expected N names"
        )
    one_hot = labels.ndim == 2 and labels.dtype.kind in "biuf"
    if not (one_hot or (labels.ndim == 1 and labels.dtype.kind in "iu")) or len(labels) != len(names):
        shape = f"shape {labels.shape} and type {labels.dtype}"
        refuse(path, f"{label.name} of fold {folder.name} has {shape} for {len(names)} names, expected classes")
    if one_hot and ((labels != 0).sum(1) != 1).any():
        refuse(path, f"{label.name} of fold {folder.name} has rows that name no class, or several")
    classes = (labels != 0).argmax(1) if one_hot else labels
    return (
        [folders.text(path, utterance) for utterance in names.ravel().tolist()],
        classes.tolist(),
        one_hot and labels.shape[1],
    )


def _frames(path, m, use, ids, notes):
    """Frames of one modality, (T, d) or None for each utterance."""
    folder = path / m.upper()
    held = {f.name: f for f in folder.iterdir() if f.suffix in (".h5", ".hdf5")} if folder.is_dir() else {}
    held = {name: file for name, file in held.items() if not file.stem.endswith("_mean_std")}
    name = folders.chosen(path, m, use, sorted(held), sorted(held))
    if name is None:
        return [None] * len(ids)
    frames = read_arrays(held[name], [(utterance,) for utterance in ids])
    for (utterance,), array in frames.items():
        if array.ndim not in (1, 2) or 0 in array.shape[1:]:
            refuse(held[name], f"{utterance!r} has shape {array.shape}, expected frames (T, d)")
    if absent := len(ids) - len(frames):
        notes.append(f"{absent} utterances are not in {folder.name}/{name} and lack modality {m}")
    return [frames.get((utterance,)) for utterance in ids]


def sample(path, like):
    """Write a tiny folder of this family, with ten folds: the first is the split of `like`, in the others its dialogues
    take turns at the parts. Utterances are called after their dialogue."""
    import h5py

    arrays = like.arrays
    if like.meta["task"] != "classification":
        raise BadInput(f"{NAME} keeps classes: for scores write a sample of mmsa, mult, gcnet or csd.")
    names = [f"{group}_{i:03}" for i, group in enumerate(arrays["group"])]
    for m, stem in SAMPLE.items():
        (path / m.upper()).mkdir(parents=True, exist_ok=True)
        with h5py.File(path / m.upper() / f"{stem}.h5", "w") as file:
            for i, length in enumerate(arrays[f"len_{m}"]):
                if length:
                    file[names[i]] = arrays[f"x_{m}"][i, :length]
    y = folders.numbered(like, CLASSES)
    labels = np.eye(max(len(like.meta.get("classes", [])), y.max() + 1), dtype=int)[y]
    groups = dict(zip(arrays["group"].tolist(), arrays["split"].tolist(), strict=True))
    for fold in range(10):
        folder = path / "target" / str(fold + 1)
        folder.mkdir(parents=True, exist_ok=True)
        turned = dict(zip(groups, np.roll(list(groups.values()), fold), strict=True))
        now = arrays["split"] if not fold else np.array([turned[group] for group in arrays["group"].tolist()])
        for name, stem in FILES.items():
            np.save(folder / f"{stem}_label.npy", labels[now == name])
            np.save(folder / f"{stem}_int2name.npy", np.array(names)[now == name].astype("S")[:, None])
