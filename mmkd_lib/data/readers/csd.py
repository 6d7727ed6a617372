"""The CMU Multimodal SDK's computational sequences: a folder of .csd files, which are HDF5.

    D/NAME.csd: <root name>/data/<video>/features (n, d), intervals (n, 2) in seconds, and <root name>/metadata
    D/*std_folds.py     the SDK's own lists standard_train_fold, standard_valid_fold, standard_test_fold of videos; or
    D/folds.json        the lists train, valid and test

Files are told apart by their names and root names. The label file's intervals are the utterances, called video[k];
sentiment is its first column. Frames are words: the rows of the language file whose midpoint lies in the utterance, in
the order of time; an audio or vision frame is the mean of the rows that overlap its word, zero where there are none.
Where a file has the key video[k] itself (a sequence that was aligned before), these rows are taken, not the video's.
"""

import ast
import json
import re
import warnings
from collections import defaultdict

import numpy as np

from ...support.errors import BadInput
from ..benchmark import PARTS
from ..missing import MODALITIES
from . import folders, hdf5
from .arrays import refuse
from .contents import Contents
from .sequences import Segment, Sequence, frames, rows, words

NAME = "CMU SDK"
LAYOUT = "CMU SDK: .csd files and the folds of the SDK (*std_folds.py)"

SEGMENT = re.compile(r"(.+)\[\d+\]", re.ASCII)
COLUMNS = (1, 7)  # of labels: MOSI's sentiment; MOSEI's sentiment and six emotions
LONGEST = 2**22  # bytes of a file of folds; MOSEI's has 46,028
WAY_OUT = "put the SDK's own *_std_folds.py beside the .csd files, or folds.json with the lists train, valid and test"


def recognises_folder(path):
    return any(path.glob("*.csd"))


def contents_of_folder(path, use):
    """The Contents of a folder of this family. use: modality -> name of its .csd file."""
    part, notes = _folds(path), []
    labels, files = _files(path, use, notes)
    everything = _segments(labels)
    segments = [segment for segment in everything if segment.video in part]
    if outside := {segment.video for segment in everything} - set(part):
        notes.append(f"{len(outside)} videos of the label file stand in no list of the folds and are left out")
    spans, found = words(files["l"], segments)
    if without := len(segments) - len(spans):
        notes.append(f"{without} utterances have no word, and so no frame of any modality")
    arrays = {
        "y": np.array([segment.y for segment in segments], float),
        "id": np.array([segment.id for segment in segments], str),
        "group": np.array([segment.video for segment in segments], str),
        "split": np.array([part[segment.video] for segment in segments], str),
    }
    for m in MODALITIES:
        if m != "l":
            found = frames(files[m], segments, spans) if m in files else {}
        arrays |= folders.padded(path, m, [found.get(segment.id) for segment in segments])
    return Contents(arrays, {"task": "regression", "score_range": [-3, 3], "notes": notes})


def _folds(path):
    """video -> train, valid or test."""
    found = sorted([*path.glob("*std_folds.py"), *path.glob("folds.json")])
    if len(found) != 1:
        refuse(path, f"one file of folds is needed, it has {', '.join(f.name for f in found) or 'none'}: {WAY_OUT}")
    part = {}
    for name, videos in zip(PARTS, _lists(found[0]), strict=True):
        if not isinstance(videos, list | tuple | set) or not all(isinstance(video, str) for video in videos):
            refuse(found[0], f"it has no list of names for {name}: {WAY_OUT}")
        for video in videos:
            if part.setdefault(video, name) != name:
                refuse(found[0], f"video {video!r} stands in the lists of {part[video]} and of {name}")
    return part


def _lists(file):
    """The three lists in a file of folds; a program is parsed, never run, and may only give names to literals."""
    try:
        if file.stat().st_size > LONGEST:
            raise ValueError("no list of names is as long")
        if file.suffix == ".json":
            held = json.loads(file.read_bytes())
            return [held.get(name) for name in PARTS]
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing that Python warns of belongs into lists of names
            lines = ast.parse(file.read_bytes()).body
        held = {target.id: ast.literal_eval(line.value) for line in lines for target in line.targets}
        return [held.get(f"standard_{name}_fold") for name in PARTS]
    except Exception:  # parsers raise half a dozen kinds of error, also where brackets are nested too deep
        refuse(file, f"it holds something else than lists of names: {WAY_OUT}")


def _files(path, use, notes):
    """(the label file, modality -> its file), told by names."""
    found, labels, guess, skipped = {}, [], defaultdict(list), []
    for file in sorted(path.glob("*.csd")):
        roots = [name for name, array in hdf5.look(file).items() if array is None]
        if len(roots) != 1:
            refuse(file, f"it has {len(roots)} root names, a .csd file has one")
        keys = sorted(hdf5.look(file, roots[0], "data"))
        first = hdf5.look(file, roots[0], "data", keys[0]) if keys else {}
        name = f"{file.stem} {roots[0]}".lower()
        if ("label" in name or "opinion" in name) and ("sentiment" in name or "emotion" not in name):
            labels.append(Sequence(file, roots[0], frozenset(keys)))
        elif "label" in name or (first.get("features") or "f")[0] not in "biuf":
            skipped.append(file.name)  # of emotions only; the words themselves, phonemes
        else:
            found[file.name] = Sequence(file, roots[0], frozenset(keys))
            guess[folders.modality(name)].append(file.name)
    if len(labels) != 1:
        names = ", ".join(label.path.name for label in labels) or "none"
        refuse(path, f"one file of labels is needed, with label or opinion in its name, it has {names}")
    chosen = {m: folders.chosen(path, m, use, sorted(found), guess[m]) for m in MODALITIES}
    if chosen["l"] is None:
        names = ", ".join(found) or "none"
        refuse(path, f"vectors of words are needed, words are its frames; it has {names}: use --use l=NAME")
    if skipped := skipped + [name for name in found if name not in chosen.values()]:
        notes.append(f"not read: {', '.join(skipped)}")
    return labels[0], {m: found[name] for m, name in chosen.items() if name is not None}


def _segments(labels):
    """The utterances of the label file, by video and number."""
    segments = []
    for key, scores, intervals in rows(labels, sorted(labels.keys)):
        named = SEGMENT.fullmatch(folders.text(labels.path, key))
        if scores.shape[1] not in COLUMNS or (named and len(scores) != 1):
            refuse(labels.path, f"{key!r} has labels {scores.shape}, expected a row for each utterance, 1 or 7 columns")
        for k, (row, (begin, end)) in enumerate(zip(scores.tolist(), intervals.tolist(), strict=True)):
            video = named[1] if named else key
            segments.append(Segment(key if named else f"{key}[{k}]", video, begin, end, row[0]))
    return segments


def sample(path, like):
    """Write a tiny folder of this family: word j of an utterance lasts the j-th second of it, and so does frame j of
    audio and vision. What comes after the last word is lost when it is read; words without a frame become zero."""
    import h5py

    arrays = like.arrays
    if like.meta["task"] != "regression" or not arrays["len_l"].any():
        raise BadInput(f"{NAME} keeps scores and words: for anything else write a sample of mult, gcnet or mmin.")
    path.mkdir(parents=True, exist_ok=True)
    scores = {"x_labels": arrays["y"].astype(np.float32)[:, None, None], "len_labels": np.ones(len(arrays["y"]), int)}
    step = max(arrays[f"x_{m}"].shape[1] for m in MODALITIES) + 1  # seconds from one utterance to the next
    groups = dict(zip(arrays["group"].tolist(), arrays["split"].tolist(), strict=True))
    for name, m in {"CMU_Labels": "labels", "WordVectors": "l", "COVAREP": "a", "VisualFacet": "v"}.items():
        x, length = ((arrays | scores)[f"{kind}_{m}"] for kind in ("x", "len"))
        with h5py.File(path / f"{name}.csd", "w") as file:
            file[f"{name}/metadata/root name"] = json.dumps(name)
            data = file.create_group(f"{name}/data")
            for group in groups:
                own = np.flatnonzero(arrays["group"] == group)
                if length[own].any():  # a video without any frame is not in the file
                    start = np.concatenate([step * k + np.arange(length[i]) for k, i in enumerate(own)]).astype(float)
                    data[f"{group}/features"] = np.concatenate([x[i, : length[i]] for i in own])
                    data[f"{group}/intervals"] = np.stack([start, start + (step if m == "labels" else 1)], 1)
    lists = [f"standard_{part}_fold={[g for g, own in groups.items() if own == part]!r}\n" for part in PARTS]
    (path / "sample_std_folds.py").write_text("\n".join(lists), encoding="utf-8")
