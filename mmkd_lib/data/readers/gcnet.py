"""GCNet's folders, which MoMKE and many others share: a file of features for each utterance, labels in one pickle.

    D/NAME.pkl                a list: videoIDs (video -> names of its utterances), videoLabels (video -> their labels),
                              videoSpeakers, videoSentences, then the names of the train, valid and test videos (MOSI,
                              MOSEI), or of the train and test dialogues only (IEMOCAP)
    D/features/FOLDER/UTT.npy one vector (d,), or a sequence of frames (T, d), which stays a sequence
    D/features/FOLDER/UTT/    a folder of faces, one .npy each: their average is the utterance's one vector
                              (in IEMOCAP that of both speakers; GCNet itself keeps two streams)

IEMOCAP's pickle names no validation part: a tenth of the training dialogues of each session are held out for it. Its
folds leave one session out each. Class names are GCNet's, in the order of its labels.
"""

import pickle
import re

import numpy as np

from ...support.errors import BadInput
from ..benchmark import PARTS
from ..missing import MODALITIES
from . import folders, unpickling
from .arrays import read_npy, refuse
from .contents import Contents, held_out

NAME = "GCNet / MoMKE"
LAYOUT = "GCNet: features/<name>/<utterance>.npy and a label pickle with a list of 7 (MOSI, MOSEI) or 6 (IEMOCAP) items"

FOUR = ["happy", "sad", "neutral", "angry"]
CLASSES = {4: FOUR, 6: [*FOUR, "excited", "frustrated"]}  # of IEMOCAP
SESSION = re.compile(r"Ses\d\d")
SAMPLE = {"l": "deberta-large-4-UTT", "a": "wav2vec-large-c-UTT", "v": "manet_UTT"}


def recognises(tree):
    """A list of 6 or 7 items: dictionaries of videos, then the videos of each part."""
    if not isinstance(tree, list | tuple) or len(tree) not in (6, 7):
        return False
    named = all(isinstance(names, list | tuple | set | frozenset | np.ndarray) for names in tree[4:])
    return named and all(isinstance(item, dict) for item in tree[:2])


def recognises_folder(path):
    return (path / "features").is_dir() and any(path.glob("*.pkl"))


def contents_of_folder(path, use):
    """The Contents of a folder that has one label pickle."""
    pickles = sorted(path.glob("*.pkl"))
    if len(pickles) > 1:
        refuse(
            path,
            f"it holds {', '.join(p.name for p in pickles)}: give one of these label pickles instead of the folder",
        )
    if not recognises(tree := unpickling.load(pickles[0])):
        refuse(pickles[0], "it is no label pickle of GCNet, a list of 6 or 7 items")
    return contents(pickles[0], tree, use)


def contents(path, tree, use):
    """The Contents of a label pickle and of `features/` beside it. use: modality -> name of its folder there."""
    part, videos, labels = _parts(path, tree[4:]), _by_video(path, tree[0]), _by_video(path, tree[1])
    if strange := sorted(set(part) - set(videos)):
        refuse(path, f"its lists of videos name {strange[0]!r}, which has no utterances in it")
    listed = [video for video in videos if video in part]
    for video in listed:
        if len(labels.get(video, ())) != len(videos[video]):
            refuse(path, f"{video!r} has {len(videos[video])} utterances and {len(labels.get(video, ()))} labels")
    notes = (
        [f"{count} videos stand in none of its lists and are left out"] if (count := len(videos) - len(listed)) else []
    )
    ids = np.array([folders.text(path, name) for video in listed for name in videos[video]], str)
    group = np.array([video for video in listed for _ in videos[video]], str)
    split = np.array([part[video] for video in group], str)
    y, meta = _labels(path, [label for video in listed for label in labels[video]], len(tree) == 6)
    arrays = {"y": y, "id": ids, "group": group, "split": split}
    if len(tree) == 6:
        arrays |= _sessions(group, split, notes)
    return Contents(arrays | _features(path, use, ids, notes), meta | {"notes": notes})


def _by_video(path, table):
    """video -> list of its utterances or labels, under names that are text."""
    videos = {folders.text(path, video): items for video, items in table.items()}
    for video, items in videos.items():
        if not isinstance(items, list | tuple | np.ndarray) or getattr(items, "ndim", 1) != 1:
            refuse(path, f"{video!r} has no plain list of utterances or of labels")
    return {video: list(items) for video, items in videos.items()}


def _parts(path, lists):
    """video -> train, valid or test. Two lists are train and test."""
    part = {}
    for name, videos in zip(PARTS if len(lists) == 3 else ("train", "test"), lists, strict=True):
        for video in {folders.text(path, video) for video in videos}:
            if part.setdefault(video, name) != name:
                refuse(path, f"video {video!r} stands in the lists of {part[video]} and of {name}")
    return part


def _labels(path, labels, iemocap):
    """y (N,) and its meta: whole numbers are classes, but for MOSI's if they are floats or below zero; else scores."""
    try:
        y = np.array(labels)
    except ValueError:
        y = np.array(None)
    y = y.reshape(-1) if y.size == len(labels) else y
    if y.ndim != 1 or y.dtype.kind not in "biuf":
        refuse(path, "its labels are not one number for each utterance")
    integers = y.dtype.kind in "biu"
    whole = integers or ((np.abs(y) < 1000) & (y == np.round(y))).all()
    if not (whole if iemocap else integers and y.min(initial=0) >= 0):
        return y.astype(float), {"task": "regression", "score_range": [-3, 3]}
    y = y.astype(int)
    count = int(y.max(initial=0)) + 1
    named = CLASSES.get(count) if iemocap else None
    return y, {"task": "classification"} | ({"classes": named} if named else {})


def _sessions(group, split, notes):
    """The folds that leave one session out, if names show sessions. Takes validation out of train in `split`."""
    found = [SESSION.match(name) for name in group]
    session = np.array([match[0] if match else "" for match in found], str)
    train = np.flatnonzero(split == "train")
    split[train[held_out(group[train], session[train])]] = "valid"
    notes.append(
        f"it names no validation part: {len(set(group[split == 'valid']))} training dialogues are held out for it"
    )
    if not all(found) or len(set(session)) < 2:
        notes.append("its dialogues are not called Ses01... Ses05: there are no folds by session")
        return {}
    tested = session == np.unique(session)[:, None]  # (K, N)
    return {"folds": np.select([tested, held_out(group, session)], [np.int8(2), np.int8(1)], np.int8(0))}


def _features(path, use, ids, notes):
    """x_m and len_m of every modality, from the folder of features that is named after it."""
    root = path.parent / "features"
    if not root.is_dir():
        refuse(path, "the folder features/ is missing beside it")
    offered = sorted(folder.name for folder in root.iterdir() if folder.is_dir())
    arrays, taken = {}, set()
    for m in MODALITIES:
        name = folders.chosen(path, m, use, offered, [folder for folder in offered if folders.modality(folder) == m])
        pieces = [None] * len(ids)
        if name is not None:
            taken.add(name)
            held = {entry.name: entry for entry in (root / name).iterdir()}
            pieces = [_utterance(held, utterance) for utterance in ids]
            if absent := sum(piece is None for piece in pieces):
                notes.append(f"{absent} utterances have no file in features/{name} and lack modality {m}")
        arrays |= folders.padded(path, m, pieces)
    if not taken:
        refuse(path, f"no folder in features/ has the name of a known feature ({', '.join(offered)}): use --use a=NAME")
    if others := sorted(set(offered) - taken):
        notes.append(f"not read: {', '.join(others)}")
    return arrays


def _utterance(held, name):
    """Features of one utterance: (d,), (T, d), or None. held: name -> path of all in its folder; no path is made."""
    if f"{name}.npy" in held:
        return _checked(held[f"{name}.npy"])
    if name in held and held[name].is_dir():
        faces = [np.atleast_2d(_checked(face)) for face in sorted(held[name].glob("*.npy"))]
        faces = [face for face in faces if face.size]
        if len({face.shape[1] for face in faces}) > 1:
            refuse(held[name], "its faces have different numbers of columns")
        return np.concatenate(faces).mean(0, dtype=float) if faces else None
    return None


def _checked(file):
    array = read_npy(file)
    while array.ndim > 2 and len(array) == 1:
        array = array[0]
    if array.ndim not in (1, 2) or array.dtype.kind not in "biuf":
        refuse(file, f"it has shape {array.shape} and type {array.dtype}, expected numbers (d,) or (T, d)")
    return array


def sample(path, like):
    """Write a tiny folder of this family: one vector for each utterance, the mean of its frames. Classes are written as
    IEMOCAP is: the dialogues get names of up to five sessions, the last of which is tested."""
    arrays, emotions = like.arrays, like.meta["task"] == "classification"
    groups = list(dict.fromkeys(arrays["group"].tolist()))
    if emotions and len(groups) < 4:
        raise BadInput(f"a sample of {NAME} needs two dialogues in each of two sessions, there are {len(groups)}.")
    sessions = min(5, len(groups) // 2)
    named = {g: f"Ses{j % sessions + 1:02}F_impro{j:02}" if emotions else g for j, g in enumerate(groups)}
    videos, labels = {named[g]: [] for g in groups}, {named[g]: [] for g in groups}
    for g, y in zip(
        arrays["group"].tolist(), folders.numbered(like, CLASSES) if emotions else arrays["y"], strict=True
    ):
        videos[named[g]].append(f"{named[g]}_{len(videos[named[g]]):03}")
        labels[named[g]].append(y.item())
    place = dict.fromkeys(arrays["group"].tolist(), 0)
    for m, folder in SAMPLE.items():
        (path / "features" / folder).mkdir(parents=True, exist_ok=True)
        seen = dict(place)
        for g, frames, length in zip(arrays["group"].tolist(), arrays[f"x_{m}"], arrays[f"len_{m}"], strict=True):
            if length:
                np.save(path / "features" / folder / f"{videos[named[g]][seen[g]]}.npy", frames[:length].mean(0))
            seen[g] += 1
    part = dict(zip(arrays["group"].tolist(), arrays["split"].tolist(), strict=True))
    lists = [{named[g] for g in groups if part[g] == name} for name in PARTS]
    if emotions:
        tested = {video for video in videos if video.startswith(f"Ses{sessions:02}")}
        lists = [set(videos) - tested, tested]
    others = {video: [""] * len(names) for video, names in videos.items()}  # speakers, sentences
    with (path / ("IEMOCAP_features_raw.pkl" if emotions else "CMUMOSI_features_raw.pkl")).open("wb") as file:
        pickle.dump([videos, labels, others, others, *lists], file)
