"""Benchmarks: files of the layout mmkd-npz/1, good and hostile, and the synthetic stand-ins."""

import io
import json
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import EDITS, mutate
from scipy import stats

from mmkd_lib.data import benchmarks
from mmkd_lib.data.metrics import floor
from mmkd_lib.data.missing import frozen_mask
from mmkd_lib.data.readers import files
from mmkd_lib.data.synthetic import worlds
from mmkd_lib.support.errors import BadInput

# ------------------------------------------------------------------ small files, written by literal code

LENGTHS = {"l": [3, 2, 1, 3, 1, 2], "a": [4, 3, 2, 1, 0, 4], "v": [1, 1, 0, 1, 1, 1]}
GROUPS = ["p", "p", "q", "q", "r", "r"]


def members(says=(), **changes):
    """The arrays of a valid file: 6 utterances of 3 videos. Word ids for language, 4 frames of audio, one vector of
    vision. Padding holds rubbish. `says` are changes to the entries of meta, `changes` are changes to the arrays;
    None takes one out."""
    rng = np.random.default_rng(0)
    meta = {"format": "mmkd-npz/1", "task": "regression", "score_range": [-3, 3]} | dict(says)
    arrays = {
        "ids_l": np.array([[1, 2, 3], [4, 3, 4], [2, 4, 4], [1, 1, 1], [3, 4, 4], [2, 1, 4]], dtype=np.uint16),
        "table_l": rng.normal(size=(5, 3)).astype(np.float32),
        "x_a": rng.normal(size=(6, 4, 2)),
        "x_v": rng.normal(size=(6, 1, 2)).astype(np.float32),
        **{f"len_{m}": np.array(length) for m, length in LENGTHS.items()},
        "y": np.array([-3, -0.5, 0, 1, 2.5, 3], dtype=np.float32),
        "id": np.array(["p1", "p2", "q1", "q2", "r1", "r2"]),
        "group": np.array(GROUPS),
        "split": np.array(["train", "train", "valid", "valid", "test", "test"]),
        "meta": np.array(json.dumps({key: value for key, value in meta.items() if value is not None})),
    } | changes
    return {name: array for name, array in arrays.items() if array is not None}


def save(folder, name="small", compressed=False, **changes):
    path = folder / f"{name}.npz"
    (np.savez_compressed if compressed else np.savez)(path, **members(**changes))
    return path


CLASSES = {"task": "classification", "score_range": None, "classes": ["sad", "happy", "calm"]}
LABELS = np.array([0, 1, 2, 0, 1, 2])


def padded(values, lengths):
    """(N, T, d) values with zero where an utterance has no frame, frame by frame."""
    result = np.zeros(values.shape, np.float32)
    for i, length in enumerate(lengths):
        for t in range(length):
            result[i, t] = values[i, t]
    return result


@pytest.mark.parametrize("compressed", [False, True])
def test_a_regression_file_loads_as_written(tmp_path, compressed):
    """Features, frames, labels, splits, shape: equal to a direct loop; padding is zero whatever the file holds."""
    written = members()
    data = files.read(save(tmp_path, compressed=compressed))
    features = {"l": written["table_l"][written["ids_l"]], "a": written["x_a"], "v": written["x_v"]}
    assert data.batch.modalities == ("l", "a", "v")
    for m, values in features.items():
        np.testing.assert_array_equal(data.batch.x[m].numpy(), padded(values, LENGTHS[m]))
        frames = [[t < length for t in range(values.shape[1])] for length in LENGTHS[m]]
        assert data.batch.frames[m].tolist() == data.batch.valid[m].tolist() == frames
        assert data.batch.x[m].dtype == torch.float32
        assert data.findings[m]["absent"] == pytest.approx(LENGTHS[m].count(0) / 6)
        assert data.findings[m]["longest"] == max(LENGTHS[m])
    assert data.batch.y.tolist() == [-3, -0.5, 0, 1, 2.5, 3]
    assert data.batch.y.dtype == torch.float32
    assert data.shape == ({"l": 3, "a": 2, "v": 2}, {"l": 3, "a": 4, "v": 1}, "regression", ())
    assert [data.rows(part).tolist() for part in benchmarks.PARTS] == [[0, 1], [2, 3], [4, 5]]
    assert data.ids.tolist() == ["p1", "p2", "q1", "q2", "r1", "r2"]
    assert data.folds == (None,)
    assert not data.synthetic
    assert data.name == "small"


def test_features_by_table_equal_features_written_out(tmp_path):
    """`ids_m` with `table_m` is another spelling of `x_m`."""
    written = members()
    plain = save(tmp_path, "plain", ids_l=None, table_l=None, x_l=written["table_l"][written["ids_l"]])
    one, other = files.read(save(tmp_path)), files.read(plain)
    assert torch.equal(one.batch.x["l"], other.batch.x["l"])
    assert one.fingerprint != other.fingerprint


def test_a_classification_file_loads(tmp_path):
    data = files.read(save(tmp_path, says=CLASSES, y=LABELS.astype(np.int8)))
    assert (data.task, data.classes) == ("classification", ("sad", "happy", "calm"))
    assert data.batch.y.tolist() == LABELS.tolist()
    assert data.batch.y.dtype == torch.int64
    perfect = data.score(np.eye(3, dtype=bool)[LABELS[4:]], data.rows("test"))
    assert perfect["acc_mean"] == perfect["f1_weighted_happy"] == 100


def test_folds_rotate(tmp_path):
    """Fold k tests on k, chooses on k + 1, trains on the rest; every utterance is tested exactly once."""
    fold = np.array([0, 0, 1, 1, 2, 2], dtype=np.int8)
    data = files.read(save(tmp_path, fold=fold))
    assert data.folds == (0, 1, 2)
    for k in data.folds:
        assert data.rows("test", k).tolist() == [2 * k, 2 * k + 1]
        assert fold[data.rows("valid", k)].tolist() == [(k + 1) % 3] * 2
        assert fold[data.rows("train", k)].tolist() == [(k + 2) % 3] * 2
    with pytest.raises(BadInput, match=r"no fold 3: choose one of \[0, 1, 2\]\.$"):
        data.rows("test", 3)


def test_a_group_that_stands_in_two_parts_is_counted(tmp_path):
    """A video on both sides of a split is a leak: the reader says how many there are, nothing if there is none."""
    clean = files.read(save(tmp_path, fold=np.array([0, 0, 1, 1, 2, 2])))
    assert not [finding for finding in clean.findings if finding.startswith("groups")]
    leaky = files.read(save(tmp_path, fold=np.array([0, 1, 1, 2, 2, 2])))
    assert leaky.findings["groups in two parts of a fold"] == 2
    assert "groups in two splits" not in leaky.findings


def test_a_modality_that_no_utterance_has_is_not_listed(tmp_path):
    data = files.read(save(tmp_path, len_v=np.zeros(6, int)))
    assert data.batch.modalities == tuple(data.shape.widths) == ("l", "a")
    assert data.findings["v"]["absent"] == 1


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_features_become_zero_and_are_counted(tmp_path, rubbish):
    """Counted where a frame exists (utterance 1 has 3 frames of audio); in padding they are zeroed in silence."""
    audio = members()["x_a"]
    audio[0, 0, 1] = audio[1, 2, 0] = audio[1, 3, 0] = audio[4, 0, 0] = rubbish
    data = files.read(save(tmp_path, x_a=audio))
    assert [data.findings[m]["nan or inf"] for m in "lav"] == [0, 2, 0]
    assert "2 NaN or inf set to zero" in data.measured_on
    finite = np.where(np.isfinite(audio), audio, 0)
    np.testing.assert_array_equal(data.batch.x["a"].numpy(), padded(finite, LENGTHS["a"]))


def test_features_too_large_for_single_precision_count_as_infinite(tmp_path):
    audio = members()["x_a"]
    audio[0, 0, 0] = 1e300
    data = files.read(save(tmp_path, x_a=audio))
    assert data.findings["a"]["nan or inf"] == 1
    assert data.batch.x["a"][0, 0, 0] == 0


def test_standardised_over_the_existing_frames_of_the_given_rows(tmp_path):
    """Mean 0 and deviation 1 there, columns that do not vary become zero, what does not exist stays zero."""
    audio = 5 + 3 * members()["x_a"]
    audio[:, :, 1] = 0.7
    data = files.read(save(tmp_path, x_a=audio))
    rows = data.rows("train")
    batch = data.standardised(rows)
    for m in ("l", "a"):
        seen = batch.x[m][rows][batch.valid[m][rows]].double().numpy()
        assert len(seen) == sum(LENGTHS[m][:2])
        varies = [True, False] if m == "a" else [True] * 3
        np.testing.assert_allclose(seen.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(seen.std(0), np.array(varies, float), atol=1e-6)
        assert not batch.x[m][~batch.valid[m]].any()
    assert not batch.x["a"][..., 1].any()
    # Other rows are moved by the same numbers.
    train = np.concatenate([audio[0, :4, 0], audio[1, :3, 0]])
    np.testing.assert_allclose(batch.x["a"][5, :, 0], (audio[5, :, 0] - train.mean()) / train.std(), rtol=1e-5)
    assert torch.equal(data.batch.x["a"], files.read(save(tmp_path, x_a=audio)).batch.x["a"]), "changed in place"


# ------------------------------------------------------------------ refusals


def refusal(path):
    """The one sentence with which the reader refuses a file: it names the file and ends with a full stop."""
    with pytest.raises(BadInput) as caught:
        files.read(path)
    sentence = str(caught.value)
    assert path.name in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


ZERO = np.zeros
REFUSED = {
    # what is wrong: (changes to a valid file, words of the sentence)
    **{f"no {name}": ({name: None}, f"'{'x_l' if name == 'ids_l' else name}'") for name in members()},
    "features with two axes": ({"x_a": ZERO((6, 4))}, r"'x_a' has shape \(6, 4\)"),
    "ids with one axis": ({"ids_l": ZERO(6, int)}, r"'ids_l' has shape \(6,\)"),
    "table with three axes": ({"table_l": ZERO((5, 3, 1))}, r"'table_l' has shape"),
    "labels with two axes": ({"y": ZERO((6, 1))}, r"'y' has shape \(6, 1\)"),
    "too few features": ({"x_a": ZERO((5, 4, 2))}, r"'x_a' has shape \(5, 4, 2\), expected 3 axes and length 6"),
    "too few lengths": ({"len_l": ZERO(5, int)}, "'len_l' has shape"),
    "too many ids": ({"id": np.array(list("abcdefg"))}, "'id' has shape"),
    "too few splits": ({"split": np.array(["train", "valid", "test"])}, "'split' has shape"),
    "too few groups": ({"group": np.array(["p"])}, "'group' has shape"),
    "too few folds": ({"fold": np.arange(5)}, "'fold' has shape"),
    "text for features": ({"x_a": np.full((6, 4, 2), "a")}, "'x_a' has type"),
    "float ids": ({"ids_l": ZERO((6, 3))}, "'ids_l' has type"),
    "float lengths": ({"len_l": np.ones(6)}, "'len_l' has type"),
    "float folds": ({"fold": np.arange(6.0)}, "'fold' has type"),
    "text labels": ({"y": np.array(list("abcdef"))}, "'y' has type"),
    "numbers for splits": ({"split": np.arange(6)}, "'split' has type"),
    "word id out of the table": ({"ids_l": np.full((6, 3), 5)}, "ids_l points outside table_l, which has 5 rows"),
    "negative word id": ({"ids_l": np.full((6, 3), -1)}, "ids_l points outside"),
    "empty table": ({"table_l": ZERO((0, 3))}, "which has 0 rows"),
    "length above T": ({"len_a": np.array([4, 3, 2, 1, 0, 5])}, "len_a goes from 0 to 5, the features have 4 frames"),
    "negative length": ({"len_a": np.array([4, 3, 2, 1, -1, 4])}, "len_a goes from -1 to 4"),
    "no frame at all": ({f"len_{m}": ZERO(6, int) for m in "lav"}, "holds no frame"),
    "score above the range": ({"y": np.array([0, 0, 0, 0, 0, 3.1])}, "y goes from 0 to 3.1, outside .* -3 to 3"),
    "score below the range": ({"y": np.array([0, 0, 0, 0, 0, -3.1])}, "y goes from -3.1"),
    **{f"score {bad}": ({"y": np.array([0, 0, 0, 0, bad, bad])}, "y holds 2 labels") for bad in (np.nan, -np.inf)},
    "unknown split": ({"split": np.array(["train"] * 3 + ["dev", "valid", "test"])}, "split holds 'dev'"),
    "no valid part": ({"split": np.array(["train"] * 3 + ["test"] * 3)}, "split names no valid utterance"),
    "id twice": ({"id": np.array(list("abcdea"))}, "occurs twice"),
    "two folds": ({"fold": np.array([0, 0, 0, 1, 1, 1])}, "fewer than three folds"),
    "no utterance": ({name: array[:0] for name, array in members().items() if name not in ("table_l", "meta")}, ""),
    "meta not json": ({"meta": np.array("a regression file")}, "meta does not say format"),
    "meta a list": ({"meta": np.array("[1]")}, "meta does not say format"),
    "meta an array of text": ({"meta": np.array(["{}"])}, "'meta' has shape"),
    "meta with endless brackets": ({"meta": np.array("[" * 100_000)}, "meta"),
    "meta with an endless number": ({"meta": np.array("9" * 5_000)}, "meta"),
    "other format": ({"says": {"format": "mmkd-npz/2"}}, "meta does not say format 'mmkd-npz/1'"),
    "unknown task": ({"says": {"task": "ranking"}}, "task 'ranking', allowed are regression, classification"),
    "no task": ({"says": {"task": None}}, "task None"),
    "score range not two numbers": ({"says": {"score_range": [3]}}, "score_range"),
    "score range of text": ({"says": {"score_range": ["low", "high"]}}, "score_range"),
    "score range of nothing": ({"says": {"score_range": [float("nan")] * 2}}, "score_range"),
    "class above": ({"says": CLASSES, "y": LABELS + 1}, "y goes from 1 to 3, meta names 3 classes"),
    "class below": ({"says": CLASSES, "y": LABELS - 1}, "y goes from -1 to 1"),
    "float classes": ({"says": CLASSES, "y": LABELS * 1.0}, "y has type float64, classes are integers"),
    "classes not a list": ({"says": CLASSES | {"classes": 3}, "y": LABELS}, "classes"),
    "a class named twice": ({"says": CLASSES | {"classes": ["sad"] * 3}, "y": LABELS}, "classes"),
    "bytes that are no text": ({"group": np.array([b"\xff"] * 6)}, "group"),
    # 6,000,000 ids times 1,000,000 columns are 24 TB, from a file of 8 MB
    "table without end": ({"ids_l": ZERO((6, 10**6), np.uint8), "table_l": ZERO((1, 10**6), np.float16)}, ""),
}


@pytest.mark.parametrize(("changes", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_what_is_wrong(tmp_path, changes, words):
    assert re.search(words, refusal(save(tmp_path, **changes)))


def test_a_name_with_line_breaks_does_not_break_the_sentence(tmp_path):
    refusal(save(tmp_path, y=None, **{"two\nlines": np.array(1)}))
    refusal(save(tmp_path, **{"two\nlines": np.array([None])}))


def test_what_is_not_an_archive_is_refused(tmp_path):
    for name, content in {"empty": b"", "text": b"x_l, x_a\n", "array": npy("<f8", (2,), bytes(16))}.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        assert "not an npz archive" in refusal(path)
    assert "no such file" in refusal(tmp_path / "nowhere.npz")
    assert "a folder of no known family" in refusal(tmp_path)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = save(tmp_path).read_bytes()
    path = tmp_path / "cut.npz"
    for end in range(0, len(whole), 13):
        path.write_bytes(whole[:end])
        assert "cut off" in refusal(path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("frames", [4, 50_000])
def test_a_flipped_bit_is_refused(tmp_path, compressed, frames):
    """The features are random bytes, so that only the checksum can tell; also where they are read in pieces."""
    audio = np.random.default_rng(1).normal(size=(6, frames, 2))
    path = save(tmp_path, compressed=compressed, x_a=audio)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("x_a.npy")
    damaged = bytearray(path.read_bytes())
    damaged[member.header_offset + member.compress_size // 2 + 100] ^= 1
    path.write_bytes(damaged)
    assert re.search("damaged|not a readable", refusal(path))


def npy(descr, shape, data=b"", header=None, version=(1, 0)):
    """The bytes of a .npy member whose header promises what we say (or is the text `header`)."""
    text = (header or str({"descr": descr, "fortran_order": False, "shape": shape})).encode() + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text)) + text + data


def save_member(folder, name, content, **changes):
    """A valid file in which the member `name` has the given bytes."""
    path = save(folder, **changes, **{name: None})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("shape", [(25 * 10**9,), (2**32, 2**32), (7,), (5,), (-6,), (-2, -3)], ids=str)
def test_a_header_that_promises_more_or_less_than_is_there_is_refused(tmp_path, shape):
    """24 bytes are there; 100 GB, 2**66 bytes (0 in 64-bit numbers), 28, 20 and negative sides are promised."""
    assert "y.npy promises" in refusal(save_member(tmp_path, "y", npy("<f4", shape, bytes(24))))


HOSTILE = {
    "endless text of no length": npy("<U0", (10**15,)),
    "objects": npy("|O", (1,), pickle.dumps([None])),
    "objects in a record": npy([("a", "<f4"), ("b", "|O")], (1,), bytes(12)),
    "record": npy([("a", "<f4")], (6,), bytes(24)),
    "times": npy("<M8[s]", (6,), bytes(48)),
    "void": npy("|V4", (6,), bytes(24)),
    "complex numbers": npy("<c8", (6,), bytes(48)),
    "no such type": npy("<q9", (6,), bytes(24)),
    "characters that do not exist": npy("<U1", (6,), b"\xff\xff\xff\x7f" * 6),
    "a pickle": pickle.dumps(np.zeros(6)),
    "nothing": b"",
    "magic only": b"\x93NUMPY",
    "unknown version": npy("<f4", (6,), bytes(24), version=(9, 9)),
    "header cut off": npy("<f4", (6,))[:20],
    "header empty": npy("", (), header=" "),
    "header with open bracket": npy("", (), header="{'descr': ("),
    "header with open quotes": npy("", (), header="'''"),
    "header of brackets": npy("", (), header="(" * 5000),
    "header of signs": npy("", (), header="-" * 9000 + "1"),
    "header with list as key": npy("", (), header="{[]: 1}"),
    "header of Python 2": npy("", (), bytes(24), header="{'descr': '<f4', 'fortran_order': False, 'shape': (6L,)}"),
    "header that is code": npy("", (), header="__import__('os').abort()"),
    "header not ASCII": npy("", (), header="{'descr': '\x80'}"),
    "header too long": npy("", (), header="{" + " " * 60_000 + "}"),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("name", ["y", "id"])
def test_a_hostile_member_is_refused(tmp_path, name, content):
    assert refusal(save_member(tmp_path, name, content))


def test_a_directory_that_promises_a_petabyte_is_refused(tmp_path):
    """Header and directory agree on 10**15 bytes that are not there: nothing of that size may be asked for."""
    path = save(tmp_path, y=None)
    with zipfile.ZipFile(path, "a") as archive:
        content = npy("<f4", (10**15 // 4,), bytes(24))
        archive.writestr("y.npy", content)
        archive.getinfo("y.npy").file_size = len(content) - 24 + 10**15
    refusal(path)


DIRECTORY = {
    # fields of a member's entry in the directory: (offset, bytes)
    "encrypted": [(8, b"\x01\x00")],
    "method bzip2": [(10, b"\x0c\x00")],
    "no such method": [(10, b"\x63\x00")],
    "name that is no text": [(8, b"\x00\x08"), (46, b"\xff")],
    "member behind the end": [(42, b"\xff\xff\xff\x7f")],
}


@pytest.mark.parametrize("fields", DIRECTORY.values(), ids=DIRECTORY.keys())
@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_directory_is_refused(tmp_path, compressed, fields):
    path = save(tmp_path, compressed=compressed)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    for offset, value in fields:
        content[entry + offset : entry + offset + len(value)] = value
    path.write_bytes(content)
    refusal(path)


def test_broken_lzma_is_refused(tmp_path):
    """A method that numpy never writes and zipfile reads: its decoder has errors of its own."""
    path = save_member(tmp_path, "y", b"\x09\x04\x05\x00" + b"\xff" * 40)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 10] = 14
    path.write_bytes(content)
    refusal(path)


def test_frames_without_width_do_not_count(tmp_path):
    """10**13 frames of width 0 take no byte in a file; asking for one mask bit each would take 60 TB."""
    refusal(save_member(tmp_path, "x_a", npy("<f4", (6, 10**13, 0))))


class Touch:
    """Opening its pickle makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["x_l", "y", "meta", "not_ours"])
def test_nothing_in_a_file_is_executed(tmp_path, name):
    marker = tmp_path / "executed"
    trap = np.array([Touch(marker)], dtype=object)
    path = save(tmp_path, **{name: trap})
    assert f"{name}.npy holds pickled objects, which are never opened" in refusal(path)
    path = save_member(tmp_path, name, pickle.dumps(Touch(marker)))
    assert "not a readable numpy array" in refusal(path)
    assert not marker.exists()
    with np.load(save(tmp_path, **{name: trap}), allow_pickle=True) as arrays:
        arrays[name]
    assert marker.exists(), "the trap does not work, so this test proves nothing"


# ------------------------------------------------------------------ fuzz


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def loads_or_refuses(path):
    try:
        data = files.read(path)
    except BadInput:
        return
    assert isinstance(data, benchmarks.Benchmark)
    for m in data.batch.modalities:
        assert data.batch.x[m].isfinite().all()
        assert not data.batch.x[m][~data.batch.valid[m]].any()


@given(compressed=st.booleans(), edits=EDITS)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_fuzz_the_bytes_of_a_file(scratch, compressed, edits):
    """Whatever is changed in a valid file: it loads or it is refused, and no other error comes out."""
    path = save(scratch, compressed=compressed)
    path.write_bytes(mutate(path.read_bytes(), edits))
    loads_or_refuses(path)


@given(name=st.sampled_from(sorted(members())), edits=EDITS)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_fuzz_the_bytes_of_a_member(scratch, name, edits):
    """The same one layer deeper: the archive is whole (checksums are right), one array in it is not."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, members()[name])
    loads_or_refuses(save_member(scratch, name, mutate(stream.getvalue(), edits)))


# ------------------------------------------------------------------ benchmarks by name


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MMKD_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("look", [benchmarks.check, benchmarks.load, benchmarks.fingerprint])
def test_an_unknown_name_is_refused_with_the_names_that_exist(data_folder, look):
    save(data_folder, "mine")
    with pytest.raises(BadInput) as caught:
        look("yours")
    sentence = str(caught.value)
    assert sentence.startswith("unknown benchmark 'yours': choose one of synthetic-mosi, ")
    assert "mine" in sentence
    assert sentence.endswith(f"put yours.npz into {data_folder}.")


@pytest.mark.parametrize("name", benchmarks.REAL)
def test_a_known_name_without_its_file_is_refused_with_the_way_out(data_folder, name):
    with pytest.raises(BadInput) as caught:
        benchmarks.load(name)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    for word in [f"{name}.npz", "mmkd-npz/1", "MMKD_DATA", str(data_folder), f"synthetic-{name}"]:
        assert word in sentence
    save(data_folder, name)
    assert benchmarks.check(name) == name
    assert benchmarks.load(name).name == name


def test_load_sees_that_a_file_was_replaced(data_folder):
    save(data_folder, "mine")
    first, name = benchmarks.load("mine"), benchmarks.fingerprint("mine")
    assert benchmarks.load("mine") is first, "an unchanged file is read once"
    assert first.fingerprint == name
    save(data_folder, "mine", y=np.zeros(6, np.float32))
    assert benchmarks.load("mine").batch.y.tolist() == [0] * 6
    assert benchmarks.load("mine").fingerprint == benchmarks.fingerprint("mine") != name


def test_available_and_family(data_folder):
    save(data_folder, "mosi-mine")
    assert benchmarks.available() == (*worlds.NAMES, "mosi-mine")
    families = [benchmarks.family(name) for name in ("mosi", "mosi-mine", "synthetic-mosi", "synthetic-iemocap")]
    assert families == ["mosi", "mosi", "mosi", "iemocap"]


# ------------------------------------------------------------------ real files, where a reader has them


# The reader's folder, asked for before the tests set their own.
REAL_FILES = Path(os.environ.get("MMKD_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def real(name):
    """A real file and its arrays; skips where there is none."""
    path = REAL_FILES / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"needs {name}.npz, which is not ours to ship: set MMKD_DATA to the folder that holds it")
    return files.read(path), np.load(path, allow_pickle=False)


def test_mosi_752():
    """752 utterances in five folds by video; no video stands in two folds."""
    data, arrays = real("mosi-752")
    assert data.shape == ({"l": 300, "a": 73, "v": 100}, {"l": 40, "a": 1, "v": 1}, "regression", ())
    assert [len(data.rows("test", k)) for k in data.folds] == [165, 149, 161, 128, 149]
    videos = [set(arrays["group"][data.rows("test", k)]) for k in data.folds]
    assert sum(map(len, videos)) == len(set.union(*videos)) == 31
    assert not [finding for finding in data.findings if finding.startswith("groups")]
    words = padded(arrays["table_l"][arrays["ids_l"]], arrays["len_l"])
    np.testing.assert_array_equal(data.batch.x["l"].numpy(), words)


def test_mosi_official():
    """The official split, a modality that never exists, and the floors that the papers print as results."""
    data, _ = real("mosi-official-la")
    assert data.batch.modalities == ("l", "a")
    assert [len(data.rows(part)) for part in benchmarks.PARTS] == [1284, 229, 686]
    test = data.rows("test")
    assert int((data.batch.y[test] == 0).sum()) == 30
    for constant, acc, f1 in [(1.0, 42.23, 25.07), (-1.0, 57.77, 42.31)]:
        scores = data.score(np.full(686, constant), test)
        found = scores["acc_nonzero"], scores["f1_weighted_nonzero"]
        assert found == pytest.approx((acc, f1), abs=0.005)
    assert floor("regression", (), data.batch.y.numpy()[test])["acc_nonzero"] == pytest.approx(57.77, abs=0.005)


# ------------------------------------------------------------------ synthetic stand-ins

PRIORS = {
    "synthetic-mosi": worlds.MOSI_PRIOR,
    "synthetic-mosei": worlds.MOSEI_PRIOR,
    "synthetic-iemocap": worlds.IEMOCAP_PRIOR,
    "synthetic-iemocap6": worlds.IEMOCAP6_PRIOR,
}
EMOTIONS = {
    "synthetic-iemocap": ("happy", "sad", "angry", "neutral"),
    "synthetic-iemocap6": ("happy", "sad", "neutral", "angry", "excited", "frustrated"),
}


def equal(one, other):
    """Whether two batches hold the same utterances."""
    fields = zip(one[:3], other[:3], strict=True)
    same = [torch.equal(field[m], with_it[m]) for field, with_it in fields for m in one.modalities]
    return all(same) and torch.equal(one.y, other.y)


def test_every_stand_in_is_tested_here():
    assert tuple(PRIORS) == worlds.NAMES


def test_what_stands_in_for_what():
    """DynKD's two versions of IEMOCAP have a stand-in each, and everybody has one."""
    stands_in = {name: benchmarks.stand_in(name) for name in benchmarks.known.KNOWN}
    assert stands_in.pop("iemocap6") == "synthetic-iemocap6"
    assert stands_in == {
        "mosi": "synthetic-mosi",
        "mosei": "synthetic-mosei",
        "iemocap": "synthetic-iemocap",
        "iemocap4": "synthetic-iemocap",
    }
    named = [
        ("synthetic-iemocap", "iemocap4"),
        ("synthetic-iemocap", "iemocap"),
        ("iemocap4", "iemocap4"),
        ("synthetic-iemocap6", "iemocap6"),
        ("synthetic-iemocap-m5", "iemocap-m5"),
    ]
    assert all(benchmarks.named(*pair) for pair in named)
    others = [("synthetic-iemocap6", "iemocap4"), ("synthetic-iemocap-m5", "iemocap4"), ("mosi", "mosei")]
    assert not any(benchmarks.named(*pair) for pair in others)


def test_six_emotions_are_mirrored_in_opposite_pairs():
    """Language shows the opposite corner of an octahedron under a flip: no emotion mirrors itself."""
    known = worlds.world("synthetic-iemocap6", "smoke")
    assert np.array_equal(known.embedding[known.mirror], -known.embedding)
    assert np.array_equal(known.mirror[known.mirror], np.arange(6))
    np.testing.assert_allclose(np.linalg.norm(known.embedding, axis=1), 1)


@pytest.mark.parametrize("size", ["smoke", "small"])
@pytest.mark.parametrize("name", worlds.NAMES)
def test_a_stand_in_is_what_its_size_says(name, size):
    """Numbers of utterances, widths, lengths, labels, and zero where an utterance has no frame."""
    data, scale = worlds.load(name, size), worlds.SIZES[name][size]
    assert [len(data.rows(part)) for part in benchmarks.PARTS] == [scale.train, scale.valid, scale.test]
    assert tuple(data.shape.widths.values()) == scale.widths
    assert set(data.shape.lengths.values()) == {scale.steps}
    assert data.folds == (None,)
    assert data.synthetic
    assert "not the real benchmark" in data.measured_on
    for m in data.batch.modalities:
        x, valid = data.batch.x[m], data.batch.valid[m]
        assert not x[~valid].any()
        assert x[valid].any(-1).all()
        assert x.isfinite().all()
        assert valid[:, 0].all()
        assert not valid.all()
    if name in EMOTIONS:
        assert data.classes == EMOTIONS[name]
        assert set(data.batch.y.tolist()) == set(range(len(EMOTIONS[name])))
        assert data.batch.y.dtype == torch.int64
    else:
        assert data.classes == ()
        assert set(data.batch.y.tolist()) == {step / 2 for step in range(-6, 7)}
        assert data.batch.y.dtype == torch.float32


@pytest.mark.parametrize("name", worlds.NAMES)
def test_a_stand_in_is_drawn_from_its_seed(name):
    """The same seed gives the same data; another seed redraws train and valid and keeps the test part."""
    one, again, other = (worlds.load(name, "smoke", seed) for seed in (1, 1, 2))
    assert equal(one.batch, again.batch)
    np.testing.assert_array_equal(one.truth, again.truth)
    for part in benchmarks.PARTS:
        rows = one.rows(part)
        assert equal(one.batch.take(rows), other.batch.take(rows)) == (part == "test")
    assert one.fingerprint == other.fingerprint == benchmarks.fingerprint(name, "smoke")


def test_the_parts_of_a_stand_in_are_drawn_apart():
    """No part begins with the utterances of another, also where both have the seed 0; another size is other data."""
    data = worlds.load("synthetic-mosi", "smoke", seed=0)
    train, valid, test = (data.batch.take(data.rows(part)[:40]) for part in benchmarks.PARTS)
    assert not equal(train, valid)
    assert not equal(train, test)
    assert not equal(valid, test)
    assert worlds.fingerprint("synthetic-mosi", "smoke") != worlds.fingerprint("synthetic-mosi", "small")


@pytest.mark.parametrize("name", worlds.NAMES)
def test_labels_follow_the_prior_and_the_annotators(name):
    """Latent and written labels are distributed as the prior says; they differ where an annotator guessed, and the
    guess (drawn from the same prior) is not right by chance."""
    data = worlds.load(name, "small")
    prior = np.array(PRIORS[name]) / sum(PRIORS[name])
    values = range(len(data.classes)) if data.task == "classification" else worlds.LEVELS
    for labels in (data.batch.y.numpy(), data.truth):
        counts = np.array([(labels == value).sum() for value in values])
        assert stats.chisquare(counts, prior * len(labels)).pvalue > 1e-4
    wrong = worlds.Strengths().annotator * (1 - (prior**2).sum())
    differ = data.batch.y.numpy() != data.truth
    assert abs(differ.mean() - wrong) < 4 * np.sqrt(wrong * (1 - wrong) / len(differ))


def test_more_modalities_and_lengths_that_differ():
    """-m5 adds generated modalities, -unaligned gives each modality a length of its own."""
    five = worlds.load("synthetic-mosi-m5", "smoke")
    assert five.batch.modalities == ("l", "a", "v", "m4", "m5")
    apart = worlds.load("synthetic-iemocap-unaligned", "smoke")
    assert apart.shape.lengths == {"l": 6, "a": 12, "v": 9}
    lengths = torch.stack([apart.batch.valid[m].sum(1) for m in "lav"])
    assert torch.corrcoef(lengths.double()).triu(1).abs().max() < 0.3
    assert benchmarks.is_synthetic("synthetic-mosei-unaligned-m4")
    for wrong in ("mosi-m3", "mosi-m44", "mosi-m4-m5", "mosi-x", "m4", "mosi-n0", "mosi-loud50-noise20"):
        assert not benchmarks.is_synthetic(f"synthetic-{wrong}")


def test_names_of_variants_say_what_they_change():
    """-n320, -noise50 and -loud75: training utterances, share of guessed labels, loudness; the test part stays."""
    few = worlds.load("synthetic-mosi-n320", "small")
    assert [len(few.rows(part)) for part in benchmarks.PARTS] == [320, 256, 2000]
    noisy, usual = worlds.world("synthetic-mosi-noise50"), worlds.world("synthetic-mosi")
    assert noisy.strengths.annotator == 0.5
    base, loud = worlds.load("synthetic-mosi", "small"), worlds.load("synthetic-mosi-loud100", "small")
    assert equal(loud.batch, base.batch)
    assert equal(few.batch.take(few.rows("test")), base.batch.take(base.rows("test")))
    assert equal(few.batch.take(few.rows("train")), base.batch.take(base.rows("train")[:320]))
    hashes = [
        [frozen_mask("frames=0.5", d.batch, d.rows(part), d.mask_key).hash for part in ("valid", "test")]
        for d in (few, base, loud)
    ]
    assert hashes[0] == hashes[1] == hashes[2]
    assert worlds.world("synthetic-mosi-loud75").strengths.cue[1] == 0.75 * usual.strengths.cue[1]
    assert worlds.fingerprint("synthetic-mosi-n320", "small") != worlds.fingerprint("synthetic-mosi", "small")


def test_unknown_stand_in_or_size_is_refused():
    with pytest.raises(BadInput, match="unknown synthetic benchmark 'mosi': synthetic-mosi, "):
        worlds.load("mosi")
    with pytest.raises(BadInput, match="unknown size 'large': choose one of smoke, small, paper"):
        worlds.load("synthetic-mosi", "large")
