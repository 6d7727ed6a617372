"""Readers of the pickles of MMSA and MulT, and the refusal of MAG's: small files written by literal code.

An utterance is written as the values of its frames: [0, 0, 7, 8] are four frames, of which the first two are zero.
"""

import json
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd_lib.data.readers import files, mmsa, mult, splits, tuples
from mmkd_lib.data.readers.contents import Contents
from mmkd_lib.support.errors import BadInput

INF = float("inf")
PARTS = ("train", "valid", "test")
KEYS = {"l": "text", "a": "audio", "v": "vision"}
WIDTH = {"l": 4, "a": 3, "v": 2}
few = settings(max_examples=40, deadline=None, derandomize=True)


def features(utterances, width, dtype=np.float32):
    """(N, T, width): frame t of utterance i is utterances[i][t] times 1, 2, ..."""
    return np.array([[[v * (c + 1) for c in range(width)] for v in frames] for frames in utterances], dtype)


def write(folder, tree, name="data.pkl"):
    path = folder / name
    path.write_bytes(pickle.dumps(tree, protocol=4))
    return path


def read(path):
    """What `files.read` and `files.convert` make of a file: the benchmark, and the arrays and the meta of the npz."""
    benchmark = files.read(path)
    out = path.with_suffix(".npz")
    files.convert(path, out)
    with np.load(out) as archive:
        arrays = dict(archive)
    meta = json.loads(arrays.pop("meta").item())
    assert [bool((part == benchmark.split).sum()) for part in PARTS] == [True] * 3
    assert arrays["id"].tolist() == benchmark.ids.tolist()
    assert arrays["split"].tolist() == benchmark.split.tolist()
    return benchmark, arrays, meta


def frames_of(benchmark, m):
    """The first column of every utterance's frames, as lists; what does not exist must be zero and stand at the end."""
    x, there = benchmark.batch.x[m].numpy(), benchmark.batch.frames[m].numpy()
    for values, shown in zip(x, there, strict=True):
        assert (np.diff(shown.astype(int)) <= 0).all()
        assert not values[~shown].any()
        np.testing.assert_array_equal(values, values[:, :1] * np.arange(1, x.shape[2] + 1, dtype=np.float32))
    return [values[shown, 0].tolist() for values, shown in zip(x, there, strict=True)]


def refusal(path, use=None):
    """The one sentence with which the reader refuses a file: it names the file and ends with a full stop."""
    with pytest.raises(BadInput) as caught:
        files.read(path, use)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path.name} is refused: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


# ------------------------------------------------------------------ MMSA

# Padding of language (the 9s) has vectors, as what BERT makes of [PAD] has; that of audio and vision is zero.
SENTENCES = {
    "train": ([[1, 2, 3, 4, 5, 6], [1, 2, 3, 9, 9, 9], [1, 2, 3, 4, 9, 9]], [6, 3, 4]),
    "valid": ([[1, 2, 9, 9, 9, 9], [1, 2, 3, 4, 5, 9]], [2, 5]),
    "test": ([[1, 2, 3, 4, 9, 9], [1, 2, 9, 9, 9, 9]], [4, 2]),
}
ALIGNED_AUDIO = {
    "train": [[0, 1, -INF, 3, 4, 0], [0, -INF, 0, 0, 0, 0], [5, 6, 0, 8, 0, 0]],
    "valid": [[1, 2, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
    "test": [[1, 2, 3, 4, 0, 0], [0, 2, 0, 0, 0, 0]],
}
ALIGNED_VISION = {part: [[7 * v for v in row] for row in rows] for part, rows in ALIGNED_AUDIO.items()}
ALIGNED_VISION["train"][0] = [0, 7, 7, 7, 7, 0]
ALIGNED_VISION["train"][1] = [0, 7, 0, 0, 0, 0]
UNALIGNED_AUDIO = {  # with its lengths: what stands in the file decides, not what is zero
    "train": ([[1, 2, 3, 4, 5, 6, 7, 8], [1, 0, 3, 0, 0, 0, 0, 0], [0] * 8], [8, 4, 0]),
    "valid": ([[-INF, 0, 0, 0, 0, 0, 0, 0], [1, 2, 0, 0, 0, 0, 0, 0]], [1, 2]),
    "test": ([[1, 2, 0, 0, 5, 0, 0, 0], [0] * 8], [2, 1]),
}
UNALIGNED_VISION = {
    "train": ([[1, 2, 3], [1, 2, 0], [1, 0, 0]], [3, 2, 1]),
    "valid": ([[0, 0, 0], [1, 2, 0]], [1, 2]),
    "test": ([[1, 2, 3], [1, 0, 0]], [3, 1]),
}
IDS = {
    "train": ["03bSnISJMiM$_$1", "03bSnISJMiM$_$13", "_dI--eQ6qVU$_$0"],
    "valid": ["G-xst2euQUc$_$3", "c5xsKMxpXnc$_$10"],
    "test": ["BvYR0L6f2Ig$_$2", "5W7Z1C_fDaE$_$7"],
}
SCORES = {"train": [2.4, -0.8, 0.0], "valid": [-3.0, 1.2], "test": [3.0, -1.75]}


def mmsa_tree(aligned=True, bert=True):
    """A file as MMSA's README lists it: 3, 2 and 2 utterances."""
    tree = {}
    for part in PARTS:
        sentences, words = SENTENCES[part]
        audio = ALIGNED_AUDIO[part] if aligned else UNALIGNED_AUDIO[part][0]
        vision = ALIGNED_VISION[part] if aligned else UNALIGNED_VISION[part][0]
        tree[part] = {
            "raw_text": np.array(["UMM I LIKED IT"] * len(words)),
            "audio": features(audio, 3, np.float64 if part == "train" else np.float32),
            "vision": features(vision, 2),
            "id": IDS[part],
            "text": features(sentences, 4),
            "annotations": ["Positive"] * len(words),
            "classification_labels": np.sign(SCORES[part]) + 1,
            "regression_labels": np.array(SCORES[part], np.float32),
        }
        if bert:
            mask = [[float(t < length) for t in range(6)] for length in words]
            ids = [[101.0, 7592.0, 102.0, 0.0, 0.0, 0.0]] * len(words)
            tree[part]["text_bert"] = np.stack([np.array(ids), np.array(mask), 0 * np.array(mask)], 1)
        if not aligned:
            tree[part]["audio_lengths"] = UNALIGNED_AUDIO[part][1]
            tree[part]["vision_lengths"] = UNALIGNED_VISION[part][1]
    return tree


def cut(utterances, lengths):
    """The first frames of utterances, -inf as zero, by a plain loop."""
    return [
        [0 if abs(v) == INF else v for v in frames[:length]] for frames, length in zip(utterances, lengths, strict=True)
    ]


def everything(column):
    return [row for part in PARTS for row in column[part]]


LANGUAGE = cut([row for part in PARTS for row in SENTENCES[part][0]], [n for part in PARTS for n in SENTENCES[part][1]])


def test_mmsa_aligned(tmp_path):
    """All modalities have the word pieces that the mask of text_bert shows, one that is zero throughout is absent."""
    benchmark, arrays, meta = read(write(tmp_path, mmsa_tree()))
    lengths = [6, 3, 4, 2, 5, 4, 2]
    assert frames_of(benchmark, "l") == LANGUAGE
    assert arrays["len_l"].tolist() == lengths
    heard = [*lengths[:4], 0, *lengths[5:]]  # the second utterance of valid is silent
    for m, column in (("a", ALIGNED_AUDIO), ("v", ALIGNED_VISION)):
        assert frames_of(benchmark, m) == cut(everything(column), heard)
        assert arrays[f"len_{m}"].tolist() == heard
    assert benchmark.findings["a"]["nan or inf"] == 6  # two frames of three columns
    assert benchmark.reader == "mmsa"
    assert benchmark.batch.y.tolist() == np.array(everything(SCORES), np.float32).tolist()
    assert benchmark.split.tolist() == ["train"] * 3 + ["valid"] * 2 + ["test"] * 2
    assert benchmark.ids.tolist() == everything(IDS)
    assert arrays["group"].tolist() == [
        *["03bSnISJMiM", "03bSnISJMiM", "_dI--eQ6qVU", "G-xst2euQUc", "c5xsKMxpXnc", "BvYR0L6f2Ig", "5W7Z1C_fDaE"]
    ]
    assert (meta["task"], meta["score_range"]) == ("regression", [-3, 3])
    assert benchmark.findings["notes"] == [
        "audio is zero in all its frames, so absent, in 1 utterances",
        "vision is zero in all its frames, so absent, in 1 utterances",
    ]


def test_mmsa_unaligned(tmp_path):
    """The lengths of the file count, also where a frame within is zero; a single zero frame is how it says absent."""
    benchmark, arrays, _ = read(write(tmp_path, mmsa_tree(aligned=False)))
    assert frames_of(benchmark, "l") == LANGUAGE
    audio = [row for part in PARTS for row in UNALIGNED_AUDIO[part][0]]
    vision = [row for part in PARTS for row in UNALIGNED_VISION[part][0]]
    assert arrays["len_a"].tolist() == [8, 4, 0, 1, 2, 2, 0]
    assert arrays["len_v"].tolist() == [3, 2, 1, 0, 2, 3, 1]
    assert frames_of(benchmark, "a") == cut(audio, [8, 4, 0, 1, 2, 2, 0])
    assert frames_of(benchmark, "v") == cut(vision, [3, 2, 1, 0, 2, 3, 1])
    assert benchmark.shape.lengths == {"l": 6, "a": 8, "v": 3}
    assert "audio has frames beyond its length in 1 utterances, not read" in benchmark.findings["notes"]
    assert "audio is zero in all its frames, so absent, in 1 utterances" in benchmark.findings["notes"]


def test_mmsa_without_text_bert(tmp_path):
    """Language goes to its last vector that is not zero; where that always is the last step, the reader says so."""
    tree = mmsa_tree(bert=False)
    benchmark, arrays, _ = read(write(tmp_path, tree, "full.pkl"))
    assert arrays["len_l"].tolist() == [6] * 7
    assert arrays["len_a"].tolist() == [6, 6, 6, 6, 0, 6, 6]
    assert "padding may have vectors too" in benchmark.findings["notes"][0]
    for part in PARTS:
        text = tree[part]["text"].copy()
        for i, length in enumerate(SENTENCES[part][1]):
            text[i, length:] = 0
        text[0, 0] = 0  # a word without a vector is a word
        tree[part]["text"] = text
    benchmark, arrays, _ = read(write(tmp_path, tree, "zero.pkl"))
    assert arrays["len_l"].tolist() == [6, 3, 4, 2, 5, 4, 2]
    assert arrays["len_v"].tolist() == [6, 3, 4, 2, 0, 4, 2]
    assert benchmark.findings["notes"][0].endswith("language goes to its last vector that is not zero")


def test_mmsa_without_lengths_of_unequal_steps(tmp_path):
    tree = mmsa_tree(aligned=False)
    for part in PARTS:
        del tree[part]["audio_lengths"], tree[part]["vision_lengths"]
    benchmark, arrays, _ = read(write(tmp_path, tree))
    assert arrays["len_a"].tolist() == [8, 3, 0, 1, 2, 5, 0]
    assert arrays["len_v"].tolist() == [3, 2, 1, 0, 2, 3, 1]
    assert any("no lengths of audio and vision" in note for note in benchmark.findings["notes"])


@pytest.mark.parametrize("largest", [1.0, 1.2])
def test_sims_is_told_by_its_labels_of_single_modalities(tmp_path, largest):
    tree = mmsa_tree(aligned=False)
    for i, part in enumerate(PARTS):
        y = np.array([0.2, -0.4, largest][: len(IDS[part])], np.float32)
        tree[part] |= {"regression_labels": y, **{f"regression_labels_{letter}": y for letter in "TAV"}}
        tree[part]["id"] = [f"video_000{i}$_$000{k}" for k in range(len(y))]
    _, arrays, meta = read(write(tmp_path, tree))
    assert meta["score_range"] == ([-1, 1] if largest == 1 else [-3, 3])
    assert arrays["group"].tolist() == ["video_0000"] * 3 + ["video_0001"] * 2 + ["video_0002"] * 2


def test_small_scores_alone_do_not_make_a_file_sims(tmp_path):
    tree = mmsa_tree()
    for part in PARTS:
        tree[part]["regression_labels"] = np.zeros((len(IDS[part]), 1)).tolist()
    benchmark, _, meta = read(write(tmp_path, tree))
    assert meta["score_range"] == [-3, 3]
    assert any("no score is beyond -1 and 1" in note for note in benchmark.findings["notes"])


def test_mmsa_of_classes_only(tmp_path):
    """Labels 1, 2, 3 as floats: classes are called by them, and none is made up."""
    tree = mmsa_tree()
    for part in PARTS:
        del tree[part]["regression_labels"]
        tree[part]["classification_labels"] = [float(1 + i) for i in range(len(IDS[part]))]
    benchmark, _, _ = read(write(tmp_path, tree))
    assert (benchmark.task, benchmark.classes) == ("classification", ("1", "2", "3"))
    assert benchmark.batch.y.tolist() == [0, 1, 2, 0, 1, 0, 1]


@pytest.mark.parametrize("lost", ["text", "audio", "vision"])
def test_a_modality_that_the_file_does_not_have_is_absent_for_everyone(tmp_path, lost):
    """Aligned lengths need no language as long as there is text_bert."""
    tree = mmsa_tree()
    for part in PARTS:
        del tree[part][lost]
    benchmark, arrays, _ = read(write(tmp_path, tree))
    m = next(m for m, key in KEYS.items() if key == lost)
    assert benchmark.batch.modalities == tuple(other for other in "lav" if other != m)
    assert arrays[f"len_{m}"].tolist() == [0] * 7
    for other in benchmark.batch.modalities:
        assert arrays[f"len_{other}"].tolist() == [6, 3, 4, 2, 5 if other == "l" else 0, 4, 2]


# ------------------------------------------------------------------ MulT

# In the file, aligned: zero at the front, some at the end, and in the middle where a word has no vector.
FRONT = {
    "train": {
        "text": [[0, 0, 1, 2, 3], [0, 1, 0, 3, 0], [1, 2, 3, 4, 5]],
        "audio": [[0, 4, 0, 5, 6], [0, 0, 0, 0, 0], [0, -INF, 3, 0, 0]],
        "vision": [[0, 0, 0, 0, 7], [0, 7, 8, 9, 9], [0, 0, 0, 0, 0]],
    },
    "valid": {"text": [[0, 0, 0, 0, 1], [0] * 5], "audio": [[0, 0, -INF, 0, 2], [0] * 5], "vision": [[0] * 5] * 2},
    "test": {"text": [[2, 0, 0, 0, 0], [0] * 5], "audio": [[0] * 5, [0, 0, 3, 0, 0]], "vision": [[1] * 5, [0] * 5]},
}
MOVED = {  # from the first to the last step where any modality is not zero; -inf is a value there, and zero afterwards
    "l": [[0, 1, 2, 3], [1, 0, 3, 0], [1, 2, 3, 4, 5], [0, 0, 1], [], [2, 0, 0, 0, 0], []],
    "a": [[4, 0, 5, 6], [], [0, 0, 3, 0, 0], [0, 0, 2], [], [], [3]],
    "v": [[0, 0, 0, 7], [7, 8, 9, 9], [], [], [], [1] * 5, []],
}
PLACES = {
    "train": [(b"03bSnISJMiM", b"17.2", b"21.9"), (b"03bSnISJMiM", b"30.4", b"33"), (b"_dI--eQ6qVU", b"1.5", b"4.0")],
    "valid": [(b"G-xst2euQUc", b"0.1", b"2.5"), (b"c5xsKMxpXnc", b"10", b"12")],
    "test": [(b"BvYR0L6f2Ig", b"2.25", b"7.125"), (b"5W7Z1C_fDaE", b"7.0", b"9.0")],
}


def mult_tree(dtype=np.float32):
    """A file as mosi_data.pkl: ids in bytes, labels (N, 1, 1)."""
    return {
        part: {
            **{KEYS[m]: features(FRONT[part][KEYS[m]], WIDTH[m], dtype) for m in KEYS},
            "labels": np.array(SCORES[part], np.float64)[:, None, None],
            "id": np.array(PLACES[part]),
        }
        for part in ("test", "train", "valid")  # the order in the file is not ours
    }


def check_moved(benchmark, moved):
    for m, expected in moved.items():
        assert frames_of(benchmark, m) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4", np.int16])
def test_mult_aligned(tmp_path, dtype):
    """MOSI: front padding goes, a step without a word stays, what is zero throughout is absent."""
    tree = mult_tree(np.float64)
    if dtype == np.int16:
        tree = {part: {**held, "audio": np.nan_to_num(held["audio"], neginf=-1)} for part, held in tree.items()}
    for part in PARTS:
        tree[part] |= {key: tree[part][key].astype(dtype) for key in KEYS.values()}
    benchmark, arrays, meta = read(write(tmp_path, tree))
    moved = MOVED
    if dtype == np.int16:  # -inf is a number then
        moved = MOVED | {"a": [[4, 0, 5, 6], [], [0, -1, 3, 0, 0], [-1, 0, 2], [], [], [3]]}
        for m in "lv":
            assert frames_of(benchmark, m) == moved[m]
        assert benchmark.batch.x["a"][:, :, 0].tolist() == [row + [0] * (5 - len(row)) for row in moved["a"]]
    else:
        check_moved(benchmark, moved)
        assert benchmark.findings["a"]["nan or inf"] == 6
    assert benchmark.reader == "mult"
    assert benchmark.batch.y.tolist() == np.array(everything(SCORES), np.float32).tolist()
    assert benchmark.ids[:2].tolist() == ["03bSnISJMiM[17.2-21.9]", "03bSnISJMiM[30.4-33]"]
    assert arrays["group"].tolist() == [video.decode() for video, _, _ in everything(PLACES)]
    assert benchmark.split.tolist() == ["train"] * 3 + ["valid"] * 2 + ["test"] * 2
    assert (meta["task"], meta["score_range"], meta["notes"][:-1]) == ("regression", [-3, 3], [])


def test_mult_not_aligned(tmp_path):
    """Steps differ between modalities: each goes from its own first to its own last frame that is not zero."""
    tree = mult_tree()
    for part in PARTS:
        audio = tree[part]["audio"]
        tree[part]["audio"] = np.concatenate([np.zeros_like(audio[:, :2]), audio], 1)  # two steps more
    benchmark, _, _ = read(write(tmp_path, tree))
    check_moved(
        benchmark,
        {
            "l": [[1, 2, 3], [1, 0, 3], [1, 2, 3, 4, 5], [1], [], [2], []],
            "a": [[4, 0, 5, 6], [], [0, 3], [0, 0, 2], [], [], [3]],
            "v": [[7], [7, 8, 9, 9], [], [], [], [1] * 5, []],
        },
    )
    assert benchmark.shape.lengths == {"l": 5, "a": 7, "v": 5}


def test_nan_frames_exist(tmp_path):
    """A frame of NaN at the beginning is a frame, whose values are set to zero and counted."""
    tree = mult_tree()
    audio = tree["test"]["audio"].copy()
    audio[1, 1] = np.nan
    tree["test"]["audio"] = audio
    benchmark, _, _ = read(write(tmp_path, tree))
    assert frames_of(benchmark, "a")[-1] == [0, 3]
    assert benchmark.findings["a"]["nan or inf"] == 9


YES = {  # neutral, happy, sad, angry
    "train": [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]],
    "valid": [[0, 0, 1, 0], [1, 1, 0, 0]],
    "test": [[1, 0, 1, 0], [1, 0, 0, 0]],
}


def iemocap_tree():
    """A file as iemocap_data.pkl: pairs (no, yes), no ids."""
    tree = mult_tree()
    for part in PARTS:
        del tree[part]["id"]
        tree[part]["labels"] = np.array([[[1 - yes, yes] for yes in row] for row in YES[part]], np.int64)
    return tree


def test_mult_with_pairs(tmp_path):
    """IEMOCAP: the emotion with its yes; utterances with two or without any are left out, wherever they stand."""
    benchmark, arrays, _ = read(write(tmp_path, iemocap_tree()))
    assert (benchmark.task, benchmark.classes) == ("classification", ("neutral", "happy", "sad", "angry"))
    assert benchmark.batch.y.tolist() == [1, 3, 2, 0]
    assert benchmark.ids.tolist() == ["train-0", "train-2", "valid-0", "test-1"]
    assert arrays["group"].tolist() == benchmark.ids.tolist()
    assert benchmark.split.tolist() == ["train", "train", "valid", "test"]
    check_moved(benchmark, {m: [rows[i] for i in (0, 2, 3, 6)] for m, rows in MOVED.items()})
    assert benchmark.findings["notes"] == [
        "left out, as not exactly one emotion has its yes: 1 in train, 1 in valid, 1 in test",
        "the file holds no ids: every utterance is a group of its own, so no session or dialogue can be left out",
    ]


def test_mult_with_pairs_of_other_emotions(tmp_path):
    tree = iemocap_tree()
    for part in PARTS:
        tree[part]["labels"] = tree[part]["labels"][:, 1:].astype(np.float32)
    benchmark, _, _ = read(write(tmp_path, tree))
    assert benchmark.classes == ("0", "1", "2")
    assert benchmark.batch.y.tolist() == [0, 2, 1, 0, 1]
    assert benchmark.ids.tolist() == ["train-0", "train-2", "valid-0", "valid-1", "test-0"]


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (-1, 1, 1), "list"])
def test_scores_of_any_shape(tmp_path, shape):
    tree = mult_tree()
    for part in PARTS:
        tree[part]["labels"] = SCORES[part] if shape == "list" else np.array(SCORES[part]).reshape(shape)
    assert files.read(write(tmp_path, tree)).batch.y.tolist() == np.array(everything(SCORES), np.float32).tolist()


NAMED = {  # id in the file: (id, group)
    "03bSnISJMiM$_$1": ("03bSnISJMiM$_$1", "03bSnISJMiM"),
    "video[3]": ("video[3]", "video"),
    "Ses01F_impro01_F000": ("Ses01F_impro01_F000", "Ses01F_impro01"),
    "Ses05M_script03_2_MXX0": ("Ses05M_script03_2_MXX0", "Ses05M_script03_2"),
    "03bSnISJMiM_12": ("03bSnISJMiM_12", "03bSnISJMiM"),
    "5W7Z1C_fDaE": ("5W7Z1C_fDaE", "5W7Z1C_fDaE"),
    "_12": ("_12", "_12"),
    "[3]": ("[3]", "[3]"),
    b"Ses01F_impro01_M001": ("Ses01F_impro01_M001", "Ses01F_impro01"),
    1204: ("1204", "1204"),
    2.5: ("2.5", "2.5"),
    ("video", 1.5, 2.25): ("video[1.5-2.25]", "video"),
    (b"Ses01F_impro01_M001",): ("Ses01F_impro01_M001", "Ses01F_impro01"),
    ("video", "7"): ("video[7]", "video"),
}


FORMS = {
    "a list": lambda columns, other: [columns if len(columns) > 1 else columns[0], other],
    "a list of lists": lambda columns, other: [list(columns), [other]],
    "a list of arrays": lambda columns, other: [np.array(columns, object), other],
    "an array": lambda columns, other: np.array([columns, type(columns)([other] * len(columns))]),
    "an array of objects": lambda columns, other: np.array([columns, (other,) * len(columns)], object),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", NAMED, ids=str)
def test_ids_of_any_form(tmp_path, given, form):
    """An array of its own type is text, bytes or numbers throughout, whatever its columns were."""
    tree, columns = mult_tree(), given if isinstance(given, tuple) else (given,)
    other = (
        type(columns[0])(99)
        if isinstance(columns[0], int | float)
        else type(columns[0])(b"x" if isinstance(columns[0], bytes) else "x")
    )
    tree["test"]["id"] = FORMS[form](columns, other)
    benchmark, arrays, _ = read(write(tmp_path, tree))
    assert (benchmark.ids[5], arrays["group"][5]) == NAMED[given]


def test_ids_that_occur_again_get_their_place(tmp_path):
    """Within a part and across parts; the group stays."""
    tree = mult_tree()
    tree["train"]["id"] = ["a", "b", "a"]
    tree["test"]["id"] = ["c", "b"]
    benchmark, arrays, _ = read(write(tmp_path, tree))
    assert benchmark.ids.tolist()[:3] == ["a#0", "b#1", "a#2"]
    assert benchmark.ids.tolist()[5:] == ["c", "b#6"]
    assert arrays["group"].tolist()[:3] == ["a", "b", "a"]
    assert benchmark.findings["groups in two splits"] == 1
    assert any(note.startswith("4 utterances share their id") for note in benchmark.findings["notes"])


def test_parts_may_differ_in_length_and_be_one_dict(tmp_path):
    """Shorter parts are padded at the end; a file may name the same dict twice."""
    tree = mult_tree()
    for key in KEYS.values():
        tree["test"][key] = np.concatenate([np.zeros_like(tree["test"][key][:, :2]), tree["test"][key]], 1)
    benchmark = files.read(write(tmp_path, tree))
    assert benchmark.shape.lengths == {"l": 7, "a": 7, "v": 7}
    check_moved(benchmark, MOVED)
    tree = mult_tree()
    tree["valid"] = tree["test"] = tree["train"]
    benchmark = files.read(write(tmp_path, tree))
    check_moved(benchmark, {m: rows[:3] * 3 for m, rows in MOVED.items()})


# ------------------------------------------------------------------ refusals


def changed(tree, part, **changes):
    tree[part] |= changes
    tree[part] = {key: value for key, value in tree[part].items() if value is not None}
    return tree


ZERO = np.zeros
REFUSED = {  # what is wrong: (file, part, changes, words of the sentence)
    "objects": (mult_tree, "test", {"audio": np.array([[[None]], [["x"]]])}, ["'audio' of 'test'", "type object"]),
    "text": (mult_tree, "valid", {"vision": np.array([[["x"]]] * 2)}, ["'vision' of 'valid'", "type <U1"]),
    "a list": (mult_tree, "valid", {"text": [[[1.0]]] * 2}, ["'text' of 'valid'", "type list"]),
    "bool": (mult_tree, "valid", {"text": ZERO((2, 5, 4), bool)}, ["'text' of 'valid'", "type bool"]),
    "two axes": (mult_tree, "train", {"audio": ZERO((3, 5))}, ["'audio' of 'train'", "(3, 5)", "3 axes"]),
    "fewer utterances": (mult_tree, "train", {"audio": ZERO((2, 5, 3))}, ["'audio' of 'train' has 2", "are 3"]),
    "another width": (mult_tree, "test", {"vision": ZERO((2, 5, 9))}, ["'vision' has 2 and 9 columns"]),
    "a modality lost": (mult_tree, "test", {"audio": None}, ["'test' has no 'audio'"]),
    "labels lost": (mult_tree, "test", {"labels": None}, ["'labels' of 'test'", "NoneType"]),
    "labels of seven": (mult_tree, "test", {"labels": ZERO((2, 7))}, ["test (2, 7)", "(N, 1, 1)"]),
    "one pair": (mult_tree, "test", {"labels": ZERO((2, 1, 2))}, ["test (2, 1, 2)"]),
    "pairs in one part": (mult_tree, "test", {"labels": ZERO((2, 4, 2))}, ["test (2, 4, 2)", "in all parts"]),
    "other pairs": (iemocap_tree, "test", {"labels": ZERO((2, 5, 2))}, ["test (2, 5, 2)", "in all parts"]),
    "labels ragged": (mult_tree, "test", {"labels": [[1], [1, 2]]}, ["'labels' of 'test' is a list"]),
    "labels too large": (mult_tree, "test", {"labels": [10**400, 1.0]}, ["'labels' of 'test' has type object"]),
    "labels of text": (mult_tree, "test", {"labels": ["1", "2"]}, ["'labels' of 'test' has type <U1"]),
    "one label": (mult_tree, "test", {"labels": np.array(1.0)}, ["'labels' of 'test' has shape ()"]),
    "scores too large": (mult_tree, "test", {"labels": [3.5, 0]}, ["outside the score range -3 to 3"]),
    "nobody says yes": (iemocap_tree, "test", {"labels": ZERO((2, 4, 2))}, ["split names no test"]),
    "no ids in one part": (mult_tree, "valid", {"id": None}, ["'valid' has no 'id'"]),
    "fewer ids": (mult_tree, "valid", {"id": ["x"]}, ["'id' of 'valid' has 1 entries", "are 2"]),
    "ids of none": (mult_tree, "valid", {"id": ["x", None]}, ["'id' of 'valid' holds a NoneType"]),
    "ids of nothing": (mult_tree, "valid", {"id": ["x", []]}, ["'id' of 'valid' holds a list"]),
    "ids of bytes that are no text": (mult_tree, "valid", {"id": [b"x", b"\xff"]}, ["'id' of 'valid' holds a bytes"]),
    "a long id": (mult_tree, "valid", {"id": ["x", "y" * 201]}, ["'id' of 'valid' holds a str", "200"]),
    "no valid part": (mult_tree, "valid", None, ["no part 'valid'"]),
    "no part that is a dict": (mmsa_tree, "valid", [1, 2], ["no part 'valid'"]),
    "mmsa: fewer utterances": (mmsa_tree, "test", {"vision": ZERO((5, 6, 2))}, ["'vision' of 'test' has 5", "are 2"]),
    "mmsa: scores lost": (mmsa_tree, "test", {"regression_labels": None}, ["'test' has no 'regression_labels'"]),
    "mmsa: two scores": (mmsa_tree, "test", {"regression_labels": ZERO((2, 2))}, ["'regression_labels' of 'test'"]),
    "mmsa: mask of two": (mmsa_tree, "test", {"text_bert": ZERO((2, 2, 6))}, ["'text_bert' of 'test'", "(N, 3, T)"]),
    "mmsa: mask of other values": (mmsa_tree, "test", {"text_bert": ZERO((2, 3, 6)) + 2}, ["'text_bert' of 'test'"]),
    "mmsa: mask at the end": (
        *(mmsa_tree, "test", {"text_bert": np.stack([np.eye(6)[[5, 5]]] * 3, 1)}),
        ["'text_bert' of 'test'", "ones, then zeros"],
    ),
    "mmsa: mask too long": (mmsa_tree, "test", {"text_bert": ZERO((2, 3, 9)) + 1}, ["len_l goes from 2 to 9"]),
    "mmsa: one id twice": (mmsa_tree, "test", {"id": IDS["train"][:2]}, ["an utterance id occurs twice"]),
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused(tmp_path, why):
    make, part, changes, words = REFUSED[why]
    tree = make()
    if isinstance(changes, dict):
        changed(tree, part, **changes)
    else:
        tree[part] = changes
    sentence = refusal(write(tmp_path, tree))
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ([9, 1], "len_a goes from 0 to 9, the features have 8 frames"),
        ([-1, 1], "len_a goes from -1 to 8"),
        ([1.5, 1], "'audio_lengths' of 'test' holds numbers that are not whole"),
        ([np.nan, 1], "'audio_lengths' of 'test' holds numbers that are not whole"),
        ([1e300, 1], "'audio_lengths' of 'test' holds numbers that are not whole"),
        ([1], "'audio_lengths' of 'test' has 1 utterances, its labels are 2"),
        ([[1, 2], [1, 2]], "'audio_lengths' of 'test' has shape (2, 2)"),
        (None, "'test' has no 'audio_lengths'"),
    ],
)
def test_wrong_lengths_are_refused(tmp_path, lengths, words):
    path = write(tmp_path, changed(mmsa_tree(aligned=False), "test", audio_lengths=lengths))
    assert words in refusal(path)


@pytest.mark.parametrize("make", [mmsa_tree, mult_tree])
def test_a_choice_of_features_is_refused(tmp_path, make):
    assert "leave it out" in refusal(write(tmp_path, make()), {"a": "wav2vec"})


def test_a_small_file_does_not_unfold(tmp_path):
    """One long utterance in one part would pad all utterances of the others."""
    tree = mult_tree()
    tree["valid"] |= {"audio": ZERO((2, 40_000, 3), np.float32)}
    tree["train"] |= {key: ZERO((10_000, 1, WIDTH[m]), np.float32) for m, key in KEYS.items()}
    tree["train"] |= {"labels": ZERO(10_000), "id": [f"v_{i}" for i in range(10_000)]}
    assert "padded to the longest it is too large" in refusal(write(tmp_path, tree))


# ------------------------------------------------------------------ against plain loops, on random files


@st.composite
def trees(draw):
    """Random MulT files, aligned or not: frames are often zero, in whole or in a column, seldom NaN or infinite."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    aligned = draw(st.booleans())
    steps = dict.fromkeys("lav", draw(st.integers(1, 6))) if aligned else {"l": 3, "a": 6, "v": draw(st.integers(1, 5))}
    tree = {}
    for part in PARTS:
        n = draw(st.integers(1, 5))
        tree[part] = {"labels": rng.uniform(-3, 3, (n, 1, 1))}
        for m, key in KEYS.items():
            x = rng.choice([0, 0, 1, 2, np.nan, -INF], (n, steps[m], 2), p=[0.3, 0.3, 0.15, 0.15, 0.05, 0.05])
            tree[part][key] = np.where(rng.random((n, 1, 1)) < 0.8, x, 0)
    return tree, len(set(steps.values())) == 1


def by_loops(tree, aligned):
    """x and lengths of every utterance, frame by frame."""
    found = {m: [] for m in KEYS}
    for part in PARTS:
        for i in range(len(tree[part]["labels"])):
            shown = {m: [any(v != 0 for v in frame) for frame in tree[part][key][i]] for m, key in KEYS.items()}
            for m, key in KEYS.items():
                considered = [any(s) for s in zip(*shown.values(), strict=True)] if aligned else shown[m]
                steps = [t for t, exists in enumerate(considered) if exists]
                frames = tree[part][key][i][steps[0] : steps[-1] + 1] if any(shown[m]) else []
                found[m].append([[float(v) if np.isfinite(v) else 0.0 for v in frame] for frame in frames])
    return found


@few
@given(trees(), st.integers(1, 40))
def test_mult_equals_plain_loops(tmp_path_factory, made, at_once):
    """Whatever is zero where, and however many rows are moved at a time."""
    tree, aligned = made
    expected = by_loops(tree, aligned)
    path = write(tmp_path_factory.mktemp("loops"), tree)
    if not any(map(len, [rows for m in KEYS for rows in expected[m]])):
        assert "no frame of any modality" in refusal(path)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "AT_ONCE", at_once)
        batch = files.read(path).batch
    for m, utterances in expected.items():
        if not any(map(len, utterances)):
            assert m not in batch.x
            continue
        for x, shown, frames in zip(batch.x[m].numpy(), batch.frames[m].numpy(), utterances, strict=True):
            assert shown.tolist() == [t < len(frames) for t in range(len(shown))]
            assert x[: len(frames)].tolist() == frames


# ------------------------------------------------------------------ samples


@st.composite
def likes(draw, classes=False):
    """Contents of 3 to 9 utterances, in the order of the parts; frames are not zero."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    counts = [draw(st.integers(1, 3)) for _ in PARTS]
    n, aligned = sum(counts), draw(st.booleans())
    arrays = {"split": np.repeat(PARTS, counts)}
    shared = rng.integers(1, 5, n)
    for m, width in WIDTH.items():
        steps = 4 if aligned else {"l": 4, "a": 7, "v": 5}[m]
        length = shared * (rng.random(n) < 0.8) if aligned and draw(st.booleans()) else rng.integers(0, 5, n)
        x = rng.choice([-1, 1], (n, steps, width)) * rng.uniform(0.1, 1, (n, steps, width))
        arrays[f"x_{m}"] = np.where(np.arange(steps)[:, None] < length[:, None, None], x, 0).astype(np.float32)
        arrays[f"len_{m}"] = length
    arrays["len_l"] = np.maximum(arrays["len_l"], 1)
    arrays["x_l"][:, 0] = 1
    arrays["group"] = np.array([f"video{i % 4}" for i in range(n)])
    arrays["id"] = np.array([f"video{i % 4}[{i}.5-{i + 1}]" for i in range(n)])
    if classes:
        return Contents(arrays | {"y": rng.integers(0, 4, n)}, {"task": "classification", "classes": list("nhsa")})
    limits = draw(st.sampled_from([[-3, 3], [-1, 1]]))
    return Contents(
        arrays | {"y": rng.uniform(*limits, n).astype(np.float32)}, {"task": "regression", "score_range": limits}
    )


def check_sample(folder, module, like):
    """What `read` makes of a sample: the arrays of `like`, without its padding."""
    module.sample(folder / "sample.pkl", like)
    benchmark, arrays, meta = read(folder / "sample.pkl")
    for m in KEYS:
        np.testing.assert_array_equal(arrays[f"len_{m}"], like.arrays[f"len_{m}"])
        if like.arrays[f"len_{m}"].any():
            steps = like.arrays[f"x_{m}"].shape[1]
            np.testing.assert_array_equal(arrays[f"x_{m}"][:, :steps], like.arrays[f"x_{m}"])
            assert not arrays[f"x_{m}"][:, steps:].any()
    np.testing.assert_array_equal(arrays["y"], like.arrays["y"])
    np.testing.assert_array_equal(arrays["split"], like.arrays["split"])
    assert meta["task"] == like.meta["task"]
    return benchmark, arrays, meta


@few
@given(likes())
def test_a_sample_of_mmsa_is_read_as_what_it_was_made_of(tmp_path_factory, like):
    benchmark, arrays, meta = check_sample(tmp_path_factory.mktemp("mmsa"), mmsa, like)
    assert benchmark.reader == "mmsa"
    assert meta["score_range"] == like.meta["score_range"]
    assert arrays["group"].tolist() == like.arrays["group"].tolist()
    assert all(name.split("$_$")[1] == like.arrays["id"][i] for i, name in enumerate(benchmark.ids))


@few
@given(likes(), likes(classes=True))
def test_a_sample_of_mult_is_read_as_what_it_was_made_of(tmp_path_factory, like, classes):
    """Its padding is at the front, as that of the family."""
    folder = tmp_path_factory.mktemp("mult")
    benchmark, arrays, _ = check_sample(folder, mult, like)
    assert all(
        part["text"][:, -1].any(-1).all() for part in pickle.loads((folder / "sample.pkl").read_bytes()).values()
    )
    assert benchmark.reader == "mult"
    assert arrays["group"].tolist() == like.arrays["group"].tolist()
    assert benchmark.ids.tolist() == like.arrays["id"].tolist()
    benchmark, _, _ = check_sample(tmp_path_factory.mktemp("mult"), mult, classes)
    assert benchmark.classes == ("neutral", "happy", "sad", "angry")


def test_mmsa_has_no_sample_of_classes(tmp_path):
    with pytest.raises(BadInput, match=r"^data\.pkl is refused: .*task regression\.$"):
        mmsa.sample(tmp_path / "data.pkl", Contents({}, {"task": "classification"}))


# ------------------------------------------------------------------ memory


@pytest.mark.parametrize(("module", "make"), [(mmsa, mmsa_tree), (mult, mult_tree)])
def test_the_tree_gives_its_arrays_away(tmp_path, module, make):
    """Features are float32, C-contiguous, writable, memory of their own; those of the tree are gone."""
    tree = make()
    for part in PARTS:
        for key in KEYS.values():
            tree[part][key] = np.asfortranarray(tree[part][key])
            tree[part][key].flags.writeable = False
    held = [tree[part][key] for part in PARTS for key in KEYS.values()]
    arrays, _ = module.contents(tmp_path / "data.pkl", tree, {})
    for m in KEYS:
        x = arrays[f"x_{m}"]
        assert (x.dtype, x.flags.c_contiguous, x.flags.writeable, x.flags.owndata) == (np.float32, True, True, True)
        assert not any(np.shares_memory(x, given) for given in held)
    assert not any(key in tree[part] for part in PARTS for key in KEYS.values())


@pytest.mark.parametrize("module", [mmsa, mult])
def test_nothing_of_a_modality_is_copied_twice(tmp_path, module, monkeypatch):
    """The peak of what is allocated while reading is the result and some chunks, whatever the parts' begins are."""
    monkeypatch.setattr(splits, "AT_ONCE", 2**18)
    tree, rng = {}, np.random.default_rng(0)
    for part, n in zip(PARTS, (1600, 200, 200), strict=True):
        tree[part] = {key: np.ones((n, 50, width)) for key, width in (("text", 100), ("audio", 20), ("vision", 10))}
        for key in KEYS.values():
            tree[part][key][np.arange(50) < rng.integers(0, 40, n)[:, None]] = 0
        tree[part]["labels"] = tree[part]["regression_labels"] = np.zeros(n)
    made = 2000 * 50 * 130 * 4
    tracemalloc.start()
    try:
        module.contents(tmp_path / "data.pkl", tree, {})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made <= peak < 1.3 * made


# ------------------------------------------------------------------ tuples of MAG and CMAD


def tuples_tree():
    one = ((["i", "like", "it"], np.ones((3, 47)), np.ones((3, 74))), np.array([[2.4]]), "03bSnISJMiM[1]")
    return {"train": [one, one], "dev": [one], "test": [one]}


def test_tuples_are_refused_with_the_way_out(tmp_path):
    sentence = refusal(write(tmp_path, tuples_tree(), "mosi.pkl"))
    assert "words and no vectors" in sentence
    assert "data/README.md" in sentence
    assert "mmkd data convert" in sentence


def test_the_lines_of_the_data_page_turn_tuples_into_a_file_that_is_read(tmp_path, monkeypatch, root):
    """As a user copies them: from data/README.md into a folder with a tuple pickle and word vectors."""
    write(tmp_path, tuples_tree(), "mosi.pkl")
    [_, lines] = (root / "data" / "README.md").read_text().split("```python\n")
    lines = lines.partition("```")[0]
    monkeypatch.chdir(tmp_path)
    vectors = {"i": np.full(300, 1.0), "like": np.full(300, 2.0)}
    exec(lines.replace("vectors = {}", "vectors = given"), {"given": vectors})
    data = files.read(tmp_path / "mosi_words.pkl")
    assert (data.reader, data.shape.widths) == ("mult", {"l": 300, "a": 74, "v": 47})
    assert data.batch.y.tolist() == pytest.approx([2.4] * 4)
    assert data.split.tolist() == ["train", "train", "valid", "test"]
    assert data.batch.x["l"][0, :3, 0].tolist() == [1, 2, 0]  # "it" has no vector
    assert data.batch.valid["l"].sum(1).tolist() == [3] * 4
    assert (data.batch.x["a"][0, :3] == 1).all()


@few
@given(likes())
def test_a_sample_of_tuples_is_one(tmp_path_factory, like):
    path = tmp_path_factory.mktemp("tuples") / "mosi.pkl"
    tuples.sample(path, like)
    tree = pickle.loads(path.read_bytes())
    assert list(tree) == ["train", "dev", "test"]
    (words, visual, acoustic), label, segment = tree["dev"][0]
    row = (like.arrays["split"] == "valid").argmax()
    assert len(words) == len(visual) == len(acoustic) == like.arrays["len_l"][row]
    assert label.item() == like.arrays["y"][row]
    assert segment.startswith(like.arrays["group"][row] + "[")
    assert "words and no vectors" in refusal(path)


@pytest.mark.parametrize(
    ("tree", "family"),
    [
        (mmsa_tree(), mmsa),
        (mmsa_tree(aligned=False, bert=False), mmsa),
        (mult_tree(), mult),
        (iemocap_tree(), mult),
        (tuples_tree(), tuples),
        *[(tree, None) for tree in ({}, [], {"train": {}}, {"train": {"text": 1}}, {"train": {"labels": 1}}, None, 7)],
        *[({"train": rows}, None) for rows in ([], [()], [((), 1)], [((1, 2), 1)], ["text"], [[["a"]]], [7])],
    ],
)
def test_each_family_knows_its_own_files(tree, family):
    assert [module for module in (mmsa, mult, tuples) if module.recognises(tree)] == [family] * (family is not None)
