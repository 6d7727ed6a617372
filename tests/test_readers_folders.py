"""Readers of folders: GCNet's, MMIN's and the CMU SDK's, written here after their public layouts, good and hostile.

Nothing is written by the readers' own `sample` but in the tests of it; expected numbers come from plain loops.
"""

import json
import pickle
import tracemalloc

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd_lib.data.readers import csd, files, folders, gcnet, hdf5, mmin, sequences
from mmkd_lib.data.readers.contents import Contents
from mmkd_lib.support.errors import BadInput

PARTS = ("train", "valid", "test")


def rng(seed=0):
    return np.random.default_rng(seed)


def refused(path, match, use=None):
    """The file is refused in one sentence of one line that says `match`."""
    with pytest.raises(BadInput, match=match) as caught:
        files.read(path, use)
    assert "\n" not in str(caught.value)
    assert " is refused: " in str(caught.value)


def frames(data, m, name):
    """(T, d) frames of one utterance of a Benchmark."""
    row = data.ids.tolist().index(name)
    return data.batch.x[m][row][data.batch.valid[m][row]].numpy()


def part_of(data, name, fold=None):
    row = data.ids.tolist().index(name)
    return [part for part in PARTS if row in data.rows(part, fold)]


# ------------------------------------------------------------------ GCNet


def save_npy(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def mosi(folder, **changes):
    """GCNet's folder of MOSI: four videos, of which one has the bytes names that Python 2 left; language is a sequence
    of frames, audio a vector, vision a vector (1, d) or faces; b_2 has no audio. `changes` are to the seven items."""
    r = rng()
    items = {
        "ids": {"a": ["a_1", "a_2"], b"b": [b"b_1", b"b_2"], "c": ["c_1"], "d": ["d_1"], "e": ["e_1"]},
        "labels": {"a": [-3.0, 0.5], b"b": np.array([1.0, 2.4]), "c": [np.float32(-1.0)], "d": [3], "e": [0.0]},
        "speakers": {"a": ["", ""]},
        "sentences": {"a": ["good", "bad"]},
        "train": {"a", "c"},
        "valid": np.array(["d"]),
        "test": [b"b"],
    } | changes
    held = {}
    for name in ("a_1", "a_2", "b_1", "b_2", "c_1", "d_1", "e_1"):
        held["l", name] = r.normal(size=(r.integers(1, 4), 3)).astype(np.float32)
        held["a", name] = r.normal(size=2)
        held["v", name] = r.normal(size=(1, 4)).astype(np.float32)
        save_npy(folder / "features/deberta-large-4-UTT" / f"{name}.npy", held["l", name])
        save_npy(folder / "features/manet_UTT" / f"{name}.npy", held["v", name])
        if name != "b_2":
            save_npy(folder / "features/wav2vec-large-c-UTT" / f"{name}.npy", held["a", name])
    with (folder / "CMUMOSI_features_raw_2way.pkl").open("wb") as file:
        pickle.dump(list(items.values()), file, protocol=2)
    return held


def test_gcnet_mosi_reads_as_written(tmp_path):
    held = mosi(tmp_path)
    for path in (tmp_path, tmp_path / "CMUMOSI_features_raw_2way.pkl"):
        data = files.read(path)
        assert (data.task, data.reader) == ("regression", "gcnet")
        assert data.ids.tolist() == ["a_1", "a_2", "b_1", "b_2", "c_1", "d_1"]
        np.testing.assert_allclose(data.batch.y, np.float32([-3, 0.5, 1, 2.4, -1, 3]))
        assert [part_of(data, name) for name in data.ids] == [
            ["train"], ["train"], ["test"], ["test"], ["train"], ["valid"],
        ]  # fmt: skip
        for (m, name), array in held.items():
            if name == "e_1":
                assert name not in data.ids
            elif (m, name) == ("a", "b_2"):
                assert not len(frames(data, m, name))
            else:
                np.testing.assert_array_equal(frames(data, m, name), np.atleast_2d(array).astype(np.float32))
        assert data.folds == (None,)
        assert "groups in two splits" not in data.findings
        assert data.findings["notes"] == [
            "1 videos stand in none of its lists and are left out",
            "1 utterances have no file in features/wav2vec-large-c-UTT and lack modality a",
        ]


def test_gcnet_faces_are_averaged(tmp_path):
    """A folder of faces is one vector, in whatever shape each face was saved; an empty one is none."""
    mosi(tmp_path)
    faces = rng(1).normal(size=(3, 4))
    folder = tmp_path / "features/manet_UTT"
    for name in ("a_1", "a_2"):
        (folder / f"{name}.npy").unlink()
        (folder / name).mkdir()
    for i, face in enumerate(faces):
        np.save(folder / "a_1" / f"{i}.npy", face if i else face[None])
    data = files.read(tmp_path)
    np.testing.assert_allclose(frames(data, "v", "a_1"), [sum(faces) / 3], rtol=1e-6)
    assert not len(frames(data, "v", "a_2"))


def test_gcnet_several_folders_of_a_modality_are_a_choice(tmp_path):
    held = mosi(tmp_path)
    for name in ("chinese-hubert-large-UTT", "my own"):
        for utterance in ("a_1", "b_1", "c_1", "d_1"):
            save_npy(tmp_path / "features" / name / f"{utterance}.npy", held["a", utterance] + 1)
    refused(tmp_path, "chinese-hubert-large-UTT, wav2vec-large-c-UTT are all of modality a: choose .*--use a=NAME")
    refused(tmp_path, "there is no 'hubert' to take for a, there are .*hubert.*, manet_UTT, my own", {"a": "hubert"})
    for name in ("chinese-hubert-large-UTT", "my own"):
        data = files.read(tmp_path, {"a": name})
        np.testing.assert_allclose(frames(data, "a", "c_1")[0], held["a", "c_1"] + 1, rtol=1e-6)
        assert not len(frames(data, "a", "a_2"))
        assert any(note.startswith("not read: ") and "wav2vec" in note for note in data.findings["notes"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deberta-large-4-UTT", "l"),
        ("Roberta_base", "l"),
        ("chinese-hubert-large", "a"),
        ("WavLM", "a"),
        ("IS09_comparE", "a"),
        ("CMU_MOSI_Visual_Facet_41", "v"),
        ("FaceNet", "v"),
        ("CLIP-vit", "v"),
        ("CMU_MOSEI_TimestampedWordVectors glove_vectors", "l"),
        ("COAVAREP", "a"),
        ("wavlm_glove", None),
        ("my own", None),
    ],
)
def test_readers_know_features_by_the_longest_part_of_their_name(name, expected):
    assert folders.modality(name) == expected


def test_gcnet_two_label_pickles_are_a_choice(tmp_path):
    mosi(tmp_path)
    (tmp_path / "other.pkl").write_bytes((tmp_path / "CMUMOSI_features_raw_2way.pkl").read_bytes())
    refused(tmp_path, "CMUMOSI_features_raw_2way.pkl, other.pkl: give one of these")
    assert len(files.read(tmp_path / "other.pkl").ids) == 6
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"train": 1}))
    (tmp_path / "CMUMOSI_features_raw_2way.pkl").unlink()
    refused(tmp_path, "it is no label pickle of GCNet")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"valid": ["d", "a"]}, "video 'a' stands in the lists of train and of valid"),
        ({"test": ["b", "z"]}, "lists of videos name 'z'"),
        ({"labels": {"a": [1.0], "b": [1.0, 2.0], "c": [1.0], "d": [0.5]}}, "'a' has 2 utterances and 1 labels"),
        ({"labels": {"a": [1.0, 2.0], "c": [1.0], "d": [0.5]}}, "'b' has 2 utterances and 0 labels"),
        ({"labels": {"a": [1.0, "x"], "b": [1.0, 2.0], "c": [1.0], "d": [0.5]}}, "not one number for each"),
        ({"labels": {"a": [1.0, [2.0]], "b": [1.0, 2.0], "c": [1.0], "d": [0.5]}}, "not one number for each"),
        ({"labels": {"a": [1.0, 3.5], "b": [1.0, 2.0], "c": [1.0], "d": [0.5]}}, "outside the score range"),
        ({"labels": {"a": [1.0, np.nan], "b": [1.0, 2.0], "c": [1.0], "d": [0.5]}}, "NaN"),
        ({"ids": {"a": ["a_1", 2], "b": ["b_1", "b_2"], "c": ["c_1"], "d": ["d_1"]}}, "a int and no text"),
        ({"ids": {"a": ["a_1", b"\xff"], "b": ["b_1", "b_2"], "c": ["c_1"], "d": ["d_1"]}}, "a bytes and no text"),
        ({"ids": {"a": ["a_1", "a" * 201], "b": ["b_1", "b_2"], "c": ["c_1"], "d": ["d_1"]}}, "201 characters"),
        ({"ids": {"a": ["a_1", "b_1"], "b": ["b_1", "b_2"], "c": ["c_1"], "d": ["d_1"]}}, "id occurs twice"),
        ({"ids": {"a": "a_", "b": ["b_1", "b_2"], "c": ["c_1"], "d": ["d_1"]}}, "'a' has no plain list"),
    ],
)
def test_gcnet_labels_that_do_not_fit_are_refused(tmp_path, changes, match):
    mosi(tmp_path, **changes)
    refused(tmp_path, match)


def test_gcnet_without_features_is_refused(tmp_path):
    mosi(tmp_path)
    (tmp_path / "alone").mkdir()
    alone = tmp_path / "alone" / "labels.pkl"
    alone.write_bytes((tmp_path / "CMUMOSI_features_raw_2way.pkl").read_bytes())
    refused(alone, "the folder features/ is missing beside it")
    save_npy(tmp_path / "alone/features/mine/a_1.npy", np.ones(3))
    refused(alone, r"known feature \(mine\): use --use a=NAME")
    assert files.read(alone, {"v": "mine"}).batch.modalities == ("v",)


def test_gcnet_names_are_no_paths(tmp_path):
    """An utterance called ../../secret is looked up among the names of a folder: there is none."""
    ids = {"a": ["a_1", "../../secret"], "b": ["b_1", "b_2"], "c": ["c_1"], "d": [str(tmp_path / "secret")]}
    mosi(tmp_path, ids=ids)
    np.save(tmp_path / "secret.npy", np.ones(3))
    data = files.read(tmp_path)
    assert not any(len(frames(data, m, name)) for m in "lav" for name in ("../../secret", str(tmp_path / "secret")))


def header(shape, dtype="<f4"):
    """A .npy file that promises a shape and holds 16 bytes."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(16)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (np.array([{"a": 1}], dtype=object), "pickled objects, which are never opened"),
        (np.ones((2, 3, 4)), r"shape \(2, 3, 4\)"),
        (np.float32(1), r"shape \(\)"),
        (np.array(["a", "b", "c"]), "type <U1"),
        (np.ones(3, complex), "type complex128"),
        (np.ones((2, 7), np.float32), "in modality l frames have 3 and 7 columns"),
        (np.ones((2, 0), np.float32), "numbers and text of some size"),
        (header((10**6, 10**6)), "promises 4000000000000 bytes of data, the file does not hold them"),
        (header((-1, -4)), "promises 16 bytes|not a readable"),
        (header((2,)), "promises 8 bytes"),
        (b"nothing", "it is not a readable numpy array"),
        (b"", "it is not a readable numpy array"),
    ],
)
def test_gcnet_npy_that_cannot_be_is_refused(tmp_path, content, match):
    mosi(tmp_path)
    path = tmp_path / "features/deberta-large-4-UTT/a_2.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    refused(tmp_path, match)


def test_gcnet_padding_is_bounded(tmp_path):
    """One long utterance among many short ones must not fill the memory."""
    names = [f"{i:04}" for i in range(3000)]
    mosi(tmp_path, ids={"a": names[:2000], "b": names[2000:], "d": ["d_1"]}, train=["a"],
         labels={"a": [0.5] * 2000, "b": [0.5] * 1000, "d": [0.5]})  # fmt: skip
    save_npy(tmp_path / "features/deberta-large-4-UTT/0000.npy", np.zeros((20000, 3), np.float32))
    tracemalloc.start()
    refused(tmp_path, "60006 numbers of modality l become 180060000 when padded")
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


EMOTIONS = {4: ("happy", "sad", "neutral", "angry"), 6: ("happy", "sad", "neutral", "angry", "excited", "frustrated")}


def iemocap(folder, classes=4, sessions=5, dialogues=4, kind=int, name="Ses{s:02}F_impro{k:02}"):
    """GCNet's folder of IEMOCAP: dialogues of every session, four utterances each; the last session is tested."""
    ids, labels = {}, {}
    for s in range(1, sessions + 1):
        for k in range(dialogues):
            dialogue = name.format(s=s, k=k)
            ids[dialogue] = [f"{dialogue}_F{u:03}" for u in range(4)]
            labels[dialogue] = [kind((s + k + u) % classes) for u in range(4)]
            for utterance in ids[dialogue]:
                save_npy(folder / "features/wav2vec-large-c-UTT" / f"{utterance}.npy", rng(s).normal(size=3))
    test = {dialogue for dialogue in ids if dialogue.startswith(name.format(s=sessions, k=0)[:5])}
    items = [ids, labels, {}, {}, set(ids) - test, test]
    (folder / "IEMOCAP_features_raw.pkl").write_bytes(pickle.dumps(items, protocol=2))
    return ids, labels


@pytest.mark.parametrize(("classes", "kind"), [(4, int), (6, int), (6, float), (6, np.int32), (3, float)])
def test_gcnet_iemocap_folds_leave_one_session_out(tmp_path, classes, kind):
    """Every utterance is tested exactly once, no dialogue stands in two parts of a fold, each session is held out."""
    ids, labels = iemocap(tmp_path, classes, kind=kind)
    data = files.read(tmp_path)
    assert (data.task, data.classes) == ("classification", EMOTIONS.get(classes, ("0", "1", "2")))
    assert data.batch.y.tolist() == [int(label) for dialogue in ids for label in labels[dialogue]]
    assert data.folds == (0, 1, 2, 3, 4)
    tested = np.concatenate([data.rows("test", fold) for fold in data.folds])
    assert sorted(tested) == list(range(80))
    for fold in (None, *data.folds):
        parts = {part: {data.ids[row][:14] for row in data.rows(part, fold)} for part in PARTS}
        assert {name[:5] for name in parts["test"]} == {f"Ses{5 if fold is None else fold + 1:02}"}
        assert len(parts["test"]) == len(parts["valid"]) == 4
        assert len({name[:5] for name in parts["valid"]} - {name[:5] for name in parts["test"]}) == 4
        assert set().union(*parts.values()) == set(ids)
        assert sum(map(len, parts.values())) == len(ids)
    held = {data.ids[row][:14] for fold in data.folds for row in data.rows("valid", fold)}
    assert len(held) == 5  # the same dialogue of a session validates in every fold
    assert not [finding for finding in data.findings if finding.startswith("groups")]
    assert data.findings["notes"][0] == "it names no validation part: 4 training dialogues are held out for it"


def test_gcnet_dialogues_without_sessions_have_no_folds(tmp_path):
    iemocap(tmp_path, name="talk{s}_{k}", dialogues=10)
    data = files.read(tmp_path)
    assert data.folds == (None,)
    assert len({data.ids[row].rpartition("_")[0] for row in data.rows("valid")}) == 4
    assert any("no folds by session" in note for note in data.findings["notes"])


def test_gcnet_lists_without_validation_may_hold_scores(tmp_path):
    ids, labels = iemocap(tmp_path, kind=lambda label: label - 1.5)
    data = files.read(tmp_path)
    assert data.task == "regression"
    assert data.batch.y.tolist() == [label for dialogue in ids for label in labels[dialogue]]


def test_gcnet_whole_scores_are_scores(tmp_path):
    """MOSI's labels stay scores when they happen to be whole, or integers below zero; other integers are classes."""
    scores = {"a": [-1.0, 2.0], "b": [1.0, 2.0], "c": [1.0], "d": [3.0]}
    mosi(tmp_path, labels=scores)
    assert files.read(tmp_path).task == "regression"
    mosi(tmp_path, labels={video: [int(score) for score in own] for video, own in scores.items()})
    assert files.read(tmp_path).task == "regression"
    mosi(tmp_path, labels={video: [abs(int(score)) for score in own] for video, own in scores.items()})
    data = files.read(tmp_path)
    assert (data.task, data.classes) == ("classification", ("0", "1", "2", "3"))


# ------------------------------------------------------------------ MMIN


NAMES = [f"Ses0{s}F_impro{k:02}_{speaker}{u:03}" for s in (1, 2, 3) for k in (1, 2) for speaker in "FM" for u in (0, 1)]


def targets(folder, fold, parts, label, form="one-hot"):
    """Write one fold of MMIN. parts: trn, val, tst -> names; form: of names and labels."""
    path = folder / "target" / fold
    path.mkdir(parents=True, exist_ok=True)
    for part, names in parts.items():
        y = np.array([label[name] for name in names], int)
        np.save(path / f"{part}_label.npy", np.eye(4)[y] if form == "one-hot" else y)
        np.save(path / f"{part}_int2name.npy", np.array(names, "S25")[:, None] if form == "one-hot" else names)


def mmin_folder(folder):
    """MMIN's folder: three sessions; in folds 1, 2 and 10 a session is split by speaker into val and tst, and the first
    utterance is in no part of fold 1. Audio and vision are frames, language lacks two utterances."""
    r, held = rng(), {}
    label = {name: (i + i // 4) % 4 for i, name in enumerate(NAMES)}
    for letter, name, width in (("A", "comparE", 5), ("V", "denseface", 3), ("L", "bert_large", 4)):
        (folder / letter).mkdir(parents=True)
        with h5py.File(folder / letter / f"{name}.h5", "w") as file:
            for utterance in NAMES[2:] if letter == "L" else NAMES:
                array = r.normal(size=(r.integers(1, 6), width)).astype(np.float32)
                held[letter.lower(), utterance] = file[utterance] = array
    with h5py.File(folder / "A/comparE_mean_std.h5", "w") as file:
        file["1/mean"] = np.zeros(5)
    for fold, session in (("10", "Ses03"), ("2", "Ses02"), ("1", "Ses01")):
        parts = {"trn": [n for n in NAMES if not n.startswith(session)]}
        parts |= {part: [n for n in NAMES if n.startswith(session) and f"_{speaker}0" in n]
                  for part, speaker in (("val", "F"), ("tst", "M"))}  # fmt: skip
        if fold == "1":
            parts["val"] = parts["val"][1:]
        targets(folder, fold, parts, label, "numbers" if fold == "2" else "one-hot")
    (folder / "target/notes").mkdir()
    return held, label


def test_mmin_reads_as_written(tmp_path):
    held, label = mmin_folder(tmp_path)
    data = files.read(tmp_path)
    assert (data.task, data.reader, data.folds) == ("classification", "mmin", (0, 1, 2))
    assert data.classes == ("angry", "happy", "sad", "neutral")
    assert sorted(data.ids) == sorted(NAMES)
    assert data.batch.y.tolist() == [label[name] for name in data.ids]
    for m in "lav":
        for name in NAMES:
            expected = held.get((m, name), np.zeros((0, 4)))
            np.testing.assert_array_equal(frames(data, m, name), expected)
    for fold, session in enumerate(("Ses01", "Ses02", "Ses03")):  # folder 10 comes after 2
        for name in NAMES:
            expected = "train" if not name.startswith(session) else {"F": "valid", "M": "test"}[name[-4]]
            left_out = fold == 0 and name == NAMES[0]
            assert part_of(data, name, fold) == ([] if left_out else [expected])
            if fold == 0:
                assert part_of(data, name) == (["train"] if left_out else [expected])
    assert data.findings["groups in two parts of a fold"] == 6  # the speakers of a dialogue: one validates, one tests
    assert data.findings["notes"] == [
        "features are not normalised by fold; standardisation is on the training part",
        "1 utterances are in no part of fold 1; its split has them in train",
        "2 utterances are not in L/bert_large.h5 and lack modality l",
    ]


def test_mmin_two_files_of_a_modality_are_a_choice(tmp_path):
    held, _ = mmin_folder(tmp_path)
    with h5py.File(tmp_path / "A/wav2vec.hdf5", "w") as file:
        for name in NAMES:
            file[name] = held["a", name][:, 0]
    refused(tmp_path, "comparE.h5, wav2vec.hdf5 are all of modality a: choose .*--use a=NAME")
    refused(tmp_path, "there is no 'wav2vec' to take for a, there are comparE.h5, wav2vec.hdf5", {"a": "wav2vec"})
    refused(tmp_path, "frames have", {"a": "wav2vec.hdf5"})  # vectors of different widths are no features
    np.testing.assert_array_equal(frames(files.read(tmp_path, {"a": "comparE.h5"}), "a", NAMES[0]), held["a", NAMES[0]])


def test_mmin_an_absent_modality_is_absent(tmp_path):
    mmin_folder(tmp_path)
    (tmp_path / "V/denseface.h5").unlink()
    assert files.read(tmp_path).batch.modalities == ("l", "a")


def test_mmin_targets_that_do_not_fit_are_refused(tmp_path):
    _, label = mmin_folder(tmp_path)
    target = tmp_path / "target"
    parts = {"trn": NAMES[:8], "val": NAMES[8:16], "tst": NAMES[16:]}

    def broken(match, changed=label, **changes):
        targets(tmp_path, "11", parts | changes, changed)
        refused(tmp_path, match)
        targets(tmp_path, "11", parts, label)

    broken(f"'{NAMES[0]}' is of class 0, but of class 3 in fold 11", changed=label | {NAMES[0]: 3})
    broken(f"'{NAMES[16]}' stands in fold 11 twice", val=NAMES[8:17])
    broken("fold 3 names no test utterance", tst=[])
    for content, match in [
        (np.ones((8, 4)), "rows that name no class, or several"),
        (np.zeros((8, 4)), "rows that name no class, or several"),
        (np.full((8, 4), np.nan), "rows that name no class, or several"),
        (np.ones((7, 4)), r"shape \(7, 4\) and type float64 for 8 names"),
        (np.ones(8), "type float64 for 8 names, expected classes"),
        (np.array([None] * 8), "pickled objects"),
    ]:
        np.save(target / "11/trn_label.npy", content, allow_pickle=True)
        refused(tmp_path, match)
    targets(tmp_path, "11", parts, label)
    np.save(target / "11/trn_int2name.npy", np.array([NAMES[:4], NAMES[4:8]]))
    refused(tmp_path, r"trn_int2name.npy of fold 11 has shape \(2, 4\)")
    (target / "11/trn_int2name.npy").unlink()
    refused(tmp_path, "trn_int2name.npy is refused: there is no such file")
    for fold in target.iterdir():
        fold.rename(target / f"fold-{fold.name}")
    refused(tmp_path, "target/ has 0 folders called by the number of a fold")


# ------------------------------------------------------------------ HDF5 that nobody vouches for


def with_audio(folder, write):
    """MMIN's folder whose first utterance's audio is what `write(file, name)` leaves in the file."""
    mmin_folder(folder)
    with h5py.File(folder / "A/comparE.h5", "r+") as file:
        del file[NAMES[0]]
        write(file, NAMES[0])


def other_file(folder, name="x"):
    with h5py.File(folder / "other.h5", "w") as file:
        file[name] = np.ones((2, 5), np.float32)
    (folder / "raw.bin").write_bytes(np.ones(10, np.float32).tobytes())
    return str(folder / "other.h5")


def virtual(file, name, source):
    layout = h5py.VirtualLayout((2, 5), "f4")
    layout[:] = h5py.VirtualSource(source, "x", (2, 5))
    file.create_virtual_dataset(name, layout)


def squeezed(file, name):
    """One row, in a chunk of 20 MB that was compressed twice and takes some hundred bytes."""
    space, form = h5py.h5s.create_simple((1, 5), (2**20, 5)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    form.set_chunk((2**20, 5))
    form.set_deflate(9)
    form.set_deflate(9)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_FLOAT, space, form)
    file[name][:] = np.zeros((1, 5), np.float32)


HUGE = (10**6, 10**6)
HOSTILE = {
    "chunked": (lambda f, n, p: f.create_dataset(n, HUGE, "f4", chunks=(10, 10)), "promises 4000000000000 bytes"),
    "contiguous": (lambda f, n, p: f.create_dataset(n, HUGE, "f4"), "promises 4000000000000 bytes"),
    "large fill": (lambda f, n, p: f.create_dataset(n, (10**7, 5), "f4", chunks=(10, 5)), "promises 200000000 bytes"),
    "overflow": (lambda f, n, p: f.create_dataset(n, (2**32, 2**31), "f8", chunks=(1, 1)), "promises 7378697629"),
    "one cell": (
        lambda f, n, p: f.create_dataset(n, (10**5, 5), "f4", chunks=(1, 5)).write_direct(np.ones((1, 5), "f4"),
                                                                                         dest_sel=np.s_[:1]),
        "promises 2000000 bytes",
    ),
    "large chunk": (lambda f, n, p: squeezed(f, n), "promises 20971520 bytes"),
    "soft link": (lambda f, n, p: f.__setitem__(n, h5py.SoftLink(f"/{NAMES[1]}")), "a link to another place"),
    "dangling link": (lambda f, n, p: f.__setitem__(n, h5py.SoftLink("/nowhere")), "a link to another place"),
    "external link": (lambda f, n, p: f.__setitem__(n, h5py.ExternalLink(other_file(p), "x")), "a link to another"),
    "external, to nothing": (lambda f, n, p: f.__setitem__(n, h5py.ExternalLink("no.h5", "x")), "a link to another"),
    "virtual": (lambda f, n, p: virtual(f, n, other_file(p)), "lies in other files, which are not opened"),
    "external data": (
        lambda f, n, p: (other_file(p), f.create_dataset(n, (2, 5), "f4", external=[(str(p / "raw.bin"), 0, 40)])),
        "lies in other files, which are not opened",
    ),
    "group": (lambda f, n, p: f.create_group(n), "is no array"),
    "named type": (lambda f, n, p: f.__setitem__(n, np.dtype("f4")), "is no array"),
    "text": (lambda f, n, p: f.__setitem__(n, np.array([[b"a"]])), r"type \|S1"),
    "strings": (lambda f, n, p: f.create_dataset(n, (2, 5), h5py.string_dtype()), "type object"),
    "compound": (lambda f, n, p: f.create_dataset(n, (2,), [("x", "f4")]), "has type"),
    "references": (lambda f, n, p: f.create_dataset(n, (2, 2), h5py.ref_dtype), "type object"),
    "null": (lambda f, n, p: f.__setitem__(n, h5py.Empty("f4")), "shape None"),
    "three axes": (lambda f, n, p: f.__setitem__(n, np.ones((1, 2, 5))), r"shape \(1, 2, 5\), expected frames"),
    "no column": (lambda f, n, p: f.__setitem__(n, np.ones((2, 0))), r"shape \(2, 0\), expected frames"),
    "other width": (lambda f, n, p: f.__setitem__(n, np.ones((2, 6))), "in modality a frames have 5 and 6 columns"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_readers_refuse_hostile_hdf5(tmp_path, case):
    """Refused before anything of the promised size is made, and without opening another file."""
    write, match = HOSTILE[case]
    with_audio(tmp_path, lambda file, name: write(file, name, tmp_path))
    tracemalloc.start()
    refused(tmp_path, match)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize("form", ["f2", "f8", ">f4", "i2", "gzip", "vector", "no frame"])
def test_readers_take_numbers_of_any_form(tmp_path, form):
    values = np.arange(-5, 5).reshape(2, 5)
    kinds = {"gzip": {"compression": "gzip", "shuffle": True, "fletcher32": True}}
    stored = {"gzip": values, "vector": values[0], "no frame": values[:0]}.get(form)
    stored = values.astype(form) if stored is None else stored
    with_audio(tmp_path, lambda file, name: file.create_dataset(name, data=stored, **kinds.get(form, {})))
    np.testing.assert_array_equal(frames(files.read(tmp_path), "a", NAMES[0]), np.atleast_2d(stored))


def test_readers_count_shared_arrays_each_time(tmp_path):
    """Many names of one compressed array must not multiply it."""
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("0", data=np.zeros((1000, 1000), np.float32), compression="gzip")
        for i in range(1, 1200):
            file[str(i)] = file["0"]
    with pytest.raises(BadInput, match="its arrays promise"):
        hdf5.arrays(tmp_path / "bomb.h5", [(str(i),) for i in range(10**6)])
    few = hdf5.arrays(tmp_path / "bomb.h5", [("0",), ("7",), ("none",), ("0", "x"), ("0/x",), (".",), ("",)])
    assert list(few) == [("0",), ("7",)]


def test_readers_refuse_what_is_no_hdf5(tmp_path):
    mmin_folder(tmp_path)
    path = tmp_path / "A/comparE.h5"
    whole = path.read_bytes()
    for content in (b"", b"nothing", whole[: len(whole) // 2], whole[:600]):
        path.write_bytes(content)
        refused(tmp_path, "comparE.h5 is refused: it is not a readable HDF5 file, or it is cut off or damaged")


def test_readers_do_not_step_through_links(tmp_path):
    """A link on the way is refused like one at the end; so is one in a listing."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["real/data/x"] = np.ones(3)
        file["root"] = h5py.SoftLink("/real")
        file["away"] = h5py.ExternalLink(other_file(tmp_path, "data/x"), "/")
    for inside in (("root", "data", "x"), ("away", "data", "x")):
        with pytest.raises(BadInput, match="a link to another place"):
            hdf5.arrays(tmp_path / "x.h5", [inside])
    with pytest.raises(BadInput, match="a link to another place"):
        hdf5.look(tmp_path / "x.h5")
    assert hdf5.look(tmp_path / "x.h5", "real", "data") == {"x": ("f", (3,))}
    with pytest.raises(BadInput, match="no group 'real/none'"):
        hdf5.look(tmp_path / "x.h5", "real", "none")


BAD_PROCESSES = {
    "dies": "import os; input(); os.abort()",
    "hangs": "input(); input()",
    "says nothing": "input()",
    "talks": "input(); print('hello', flush=True); input()",
    "says too little": 'input(); print(\'{"found": [[0, "<f4", [3]]]}\', flush=True)',
    "says too much": 'input(); print(\'{"found": [[0, "<f4", [100000000000]]]}\', flush=True); input()',
    "says objects": "input(); print('{\"found\": [[0, \"|O\", [1]]]}' + ' ' * 8, flush=True)",
}


@pytest.mark.parametrize("script", BAD_PROCESSES.values(), ids=BAD_PROCESSES.keys())
def test_readers_survive_the_process_that_opens_hdf5(tmp_path, monkeypatch, script):
    """Whatever a damaged file does to it: the file is refused in a sentence, and the next file is read."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.ones(3, np.float32)
    (tmp_path / "process.py").write_text(script)
    hdf5._process.stop()
    with monkeypatch.context() as patch:
        patch.setattr(hdf5, "PROCESS", tmp_path / "process.py")
        if script == BAD_PROCESSES["hangs"]:  # the others end, or say what is refused, by themselves
            patch.setattr(hdf5, "PATIENCE", 1)
        with pytest.raises(BadInput, match=r"^x\.h5 is refused: it is not a readable HDF5 file.*\.$"):
            hdf5.arrays(tmp_path / "x.h5", [("x",)])
    hdf5._process.stop()
    assert hdf5.arrays(tmp_path / "x.h5", [("x",)])["x",].tolist() == [1, 1, 1]


# ------------------------------------------------------------------ CMU SDK


def save_csd(folder, name, root, videos):
    """One .csd file. videos: key -> (features, intervals)."""
    with h5py.File(folder / f"{name}.csd", "w") as file:
        data = file.create_group(f"{root}/data")
        for key, (features, intervals) in videos.items():
            data[f"{key}/features"] = features
            data[f"{key}/intervals"] = np.array(intervals, float).reshape(-1, 2)
        text = file.create_dataset(f"{root}/metadata/root name", (1,), h5py.string_dtype())
        text[0] = json.dumps(root)


def rows(r, times, width):
    return r.normal(size=(len(times), width)), np.array(times, float).reshape(-1, 2)


def mosei(folder, **changes):
    """A folder of the SDK: videos p, q, r and s. Words are in disorder; audio has overlapping windows of all lengths in
    disorder, NaN and inf, and a hole; vision lacks q; r's second utterance has no word; s stands in no fold."""
    r = rng()
    words = {
        "p": rows(r, [(2, 3), (0, 0.5), (0.5, 1.2), (3.1, 3.4), (5, 5.5), (4.9, 5.0)], 3),
        "q": rows(r, [(0.2, 0.4), (0.4, 0.9), (1.5, 1.5)], 3),
        "r": rows(r, [(0, 1), (1, 2)], 3),
        "s": rows(r, [(0, 1)], 3),
    }
    starts = r.uniform(0, 5, 60)
    audio = {v: rows(r, np.stack([starts, starts + r.exponential(0.2, 60)], 1), 2) for v in "pqr"}
    for features, intervals in audio.values():
        features[::7] = np.nan
        features[3::11, 1] = -np.inf
        intervals[(intervals[:, 0] > 2.9) & (intervals[:, 0] < 3.6)] += 10  # nothing while (3.1, 3.4) is said
        intervals[intervals[:, 1] > 3.05, 0] = np.maximum(intervals[intervals[:, 1] > 3.05, 0], 3.5)
        intervals[:, 1] = np.maximum(intervals[:, 1], intervals[:, 0])
    vision = {v: rows(r, [(t / 4, (t + 1) / 4) for t in range(24)], 4) for v in "prs"}
    emotions = np.tile([0, 0, 2 / 3, 0, 0, 0], (3, 1))
    labels = {
        "p": (np.c_[[1, -3, 2 / 3], emotions], [(0, 1.5), (1.5, 4), (4, 6)]),
        "q": (np.c_[[0.0], emotions[:1]], [(0, 2)]),
        "r": (np.c_[[3.0, -1], emotions[:2]], [(0, 2), (2, 3)]),
        "s": (np.c_[[1.0], emotions[:1]], [(0, 2)]),
    }
    held = {"words": words, "audio": audio, "vision": vision, "labels": labels} | changes
    save_csd(folder, "CMU_MOSEI_TimestampedWordVectors", "glove_vectors", held["words"])
    save_csd(folder, "CMU_MOSEI_COVAREP", "COAVAREP", held["audio"])
    save_csd(folder, "CMU_MOSEI_VisualFacet42", "FACET 4.2", held["vision"])
    save_csd(folder, "CMU_MOSEI_Labels", "All Labels", held["labels"])
    save_csd(folder, "CMU_MOSEI_TimestampedWords", "words", {"p": (np.array([[b"good"]]), [(0, 1)])})
    folds = {"train": ["p", "absent"], "valid": ["q"], "test": ["r"]}
    (folder / "folds.json").write_text(json.dumps(folds))
    return held


def spoken(held, video, begin, end):
    """Words of an utterance, one by one: [(interval, vector)] in the order of time."""
    found = []
    for vector, (start, stop) in zip(*held["words"][video], strict=True):
        if begin <= (start + stop) / 2 < end:
            found.append(((start, stop), vector))
    return sorted(found, key=lambda word: word[0][0])


def heard(features, intervals, word):
    """The average over all rows that overlap a word, column by column, row by row."""
    average = []
    for column in range(features.shape[1]):
        values = []
        for row, (start, stop) in zip(features, intervals, strict=True):
            if start < word[1] and stop > word[0] and np.isfinite(row[column]):
                values.append(row[column])
        average.append(sum(values) / len(values) if values else 0.0)
    return average


def test_csd_reads_as_a_double_loop_does(tmp_path):
    held = mosei(tmp_path)
    data = files.read(tmp_path)
    assert (data.task, data.reader) == ("regression", "csd")
    assert data.ids.tolist() == ["p[0]", "p[1]", "p[2]", "q[0]", "r[0]", "r[1]"]
    np.testing.assert_allclose(data.batch.y, [1, -3, 2 / 3, 0, 3, -1], rtol=1e-6)
    assert [part_of(data, name) for name in data.ids] == [["train"]] * 3 + [["valid"]] + [["test"]] * 2
    seen, holes = [], 0
    for name in data.ids:
        video, k = name[0], int(name[2])
        words = spoken(held, video, *held["labels"][video][1][k])
        seen.append(len(words))
        expected = {"l": [vector for _, vector in words]}
        for m, kind in (("a", "audio"), ("v", "vision")):
            known = video in held[kind]
            expected[m] = [heard(*held[kind][video], interval) for interval, _ in words] if known else []
            holes += sum(not any(frame) for frame in expected[m])
        for m, values in expected.items():
            assert len(frames(data, m, name)) == len(values)
            if values:
                np.testing.assert_allclose(frames(data, m, name), values, rtol=1e-5, atol=1e-6)
    assert seen == [2, 2, 2, 3, 2, 0]
    assert holes > 1  # there are words without any row
    assert "groups in two splits" not in data.findings
    assert data.findings["notes"] == [
        "not read: CMU_MOSEI_TimestampedWords.csd",
        "1 videos of the label file stand in no list of the folds and are left out",
        "1 utterances have no word, and so no frame of any modality",
    ]
    assert files.read(tmp_path / "CMU_MOSEI_COVAREP.csd").ids.tolist() == data.ids.tolist()


times = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(times, times, st.integers(0, 10**6))
def test_csd_averages_equal_a_double_loop(starts, said, seed):
    """Rows of any length, in any overlap, of no length; words of no length, in any order."""
    intervals = np.array(sorted((start, start + length) for start, length in starts), float)
    words = np.array([(start, start + length) for start, length in said], float)
    features = rng(seed).normal(size=(len(intervals), 2)) * 10.0 ** rng(seed).integers(-3, 12)
    features[rng(seed).random(features.shape) < 0.2] = np.inf
    found = sequences.averages("x", features, intervals, words)
    np.testing.assert_allclose(found, [heard(features, intervals, word) for word in words], rtol=1e-12)


def test_csd_overlaps_are_bounded():
    """Rows that last for ever, times words that do, are refused before they are counted out."""
    forever = np.tile([0.0, 1e9], (10**5, 1))
    tracemalloc.start()
    with pytest.raises(BadInput, match="overlap in up to 10000000000 pairs"):
        sequences.averages("x", np.zeros((10**5, 1)), forever, forever)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_csd_rows_under_the_name_of_an_utterance_are_its_rows(tmp_path):
    """Sequences that were aligned before have keys video[k], as has the label file: they are not looked up by time."""
    r = rng(3)
    held = mosei(tmp_path)
    features, intervals = held["audio"]["p"]
    labels = {
        f"{video}[{k + 4}]": (scores[k : k + 1], spans[k : k + 1])
        for video, (scores, spans) in held["labels"].items()
        for k in range(len(spans))
        if video != "s"
    }
    own = rows(r, [(0, 0.6), (0.6, 1.2)], 2)
    mosei(
        tmp_path,
        labels=labels,
        words=held["words"] | {"p[4]": rows(r, [(7, 8), (0, 1)], 3)},
        audio=held["audio"] | {"p[5]": own},
    )  # fmt: skip
    data = files.read(tmp_path)
    assert data.ids.tolist() == ["p[4]", "p[5]", "p[6]", "q[4]", "r[4]", "r[5]"]
    assert {name[0]: part_of(data, name) for name in data.ids} == {"p": ["train"], "q": ["valid"], "r": ["test"]}
    assert len(frames(data, "l", "p[4]")) == 2  # in the order of time, wherever the label says the utterance is
    expected = [heard(features, intervals, word) for word in ((0, 1), (7, 8))]
    np.testing.assert_allclose(frames(data, "a", "p[4]"), expected, rtol=1e-5, atol=1e-6)
    words = spoken(held, "p", 1.5, 4)
    np.testing.assert_allclose(
        frames(data, "a", "p[5]"), [heard(*own, word) for word, _ in words], rtol=1e-5, atol=1e-6
    )


def test_csd_files_of_a_modality_are_a_choice(tmp_path):
    held = mosei(tmp_path)
    save_csd(
        tmp_path, "CMU_MOSEI_VisualOpenFace2", "OpenFace_2", {v: (f + 1, i) for v, (f, i) in held["vision"].items()}
    )
    refused(tmp_path, "CMU_MOSEI_VisualFacet42.csd, CMU_MOSEI_VisualOpenFace2.csd are all of modality v: choose")
    refused(tmp_path, "there is no 'openface' to take for v, there are CMU_MOSEI_COVAREP.csd, ", {"v": "openface"})
    one = files.read(tmp_path, {"v": "CMU_MOSEI_VisualFacet42.csd"})
    other = files.read(tmp_path, {"v": "CMU_MOSEI_VisualOpenFace2.csd"})
    np.testing.assert_allclose(frames(other, "v", "p[0]"), frames(one, "v", "p[0]") + 1, rtol=1e-5)
    words = {"l": "CMU_MOSEI_TimestampedWords.csd", "v": "CMU_MOSEI_VisualFacet42.csd"}
    refused(tmp_path, "there is no 'CMU_MOSEI_TimestampedWords.csd' to take for l", words)
    (tmp_path / "CMU_MOSEI_TimestampedWordVectors.csd").unlink()
    refused(tmp_path, "vectors of words are needed.*use --use l=NAME", {"v": "CMU_MOSEI_VisualFacet42.csd"})


def test_csd_labels_are_of_sentiment(tmp_path):
    """MOSI's one column is read, a file of emotions alone is not; two files of labels are refused."""
    held = mosei(tmp_path)
    mosei(tmp_path, labels={video: (scores[:, :1], spans) for video, (scores, spans) in held["labels"].items()})
    save_csd(tmp_path, "CMU_MOSEI_LabelsEmotions", "Emotion Labels", held["labels"])
    data = files.read(tmp_path)
    np.testing.assert_allclose(data.batch.y, [1, -3, 2 / 3, 0, 3, -1], rtol=1e-6)
    assert any("CMU_MOSEI_LabelsEmotions.csd" in note for note in data.findings["notes"])
    save_csd(tmp_path, "CMU_MOSEI_LabelsSentiment", "Sentiment Labels", held["labels"])
    refused(tmp_path, "one file of labels is needed.* CMU_MOSEI_Labels.csd, CMU_MOSEI_LabelsSentiment.csd")
    (tmp_path / "CMU_MOSEI_LabelsSentiment.csd").unlink()
    (tmp_path / "CMU_MOSEI_Labels.csd").unlink()
    refused(tmp_path, "one file of labels is needed, with label or opinion in its name, it has none")


@pytest.mark.parametrize(
    ("kind", "videos", "match"),
    [
        ("audio", {"p": (np.ones((3, 2)), [(0, 1)] * 2)}, r"COVAREP.csd .*'p' has features \(3, 2\) and intervals"),
        ("words", {"p": (np.ones((3, 2)), [(0, 1)] * 4)}, r"WordVectors.csd .*'p' has features \(3, 2\)"),
        ("audio", {"p": (np.ones(3), [(0, 1)] * 3)}, r"'p' has features \(3,\)"),
        ("audio", {"p": (np.ones((2, 2)), [(0, np.nan)] * 2)}, "'p' has intervals that are NaN or inf"),
        ("vision", {"p": (np.ones((2, 2)), [(0, 9)] * 2), "r": (np.ones((1, 3)), [(0, 9)])}, "have 2 and 3 columns"),
        ("labels", {"p": (np.ones((1, 6)), [(0, 1)])}, r"'p' has labels \(1, 6\)"),
        ("labels", {"p[1]": (np.ones((2, 1)), [(0, 1)] * 2)}, r"'p\[1\]' has labels \(2, 1\)"),
        ("labels", {"p": (np.full((1, 1), 4.0), [(0, 1)])}, "outside the score range"),
        ("labels", {"p": (np.ones((1, 1)), [(0, 1)]), "p[0]": (np.ones((1, 1)), [(0, 1)])}, "id occurs twice"),
        ("labels", {"p" * 201: (np.ones((1, 1)), [(0, 1)])}, "201 characters"),
    ],
)  # fmt: skip
def test_csd_that_does_not_fit_is_refused(tmp_path, kind, videos, match):
    held = mosei(tmp_path)
    mosei(tmp_path, **{kind: held[kind] | videos})
    refused(tmp_path, match)


def test_csd_missing_arrays_are_refused(tmp_path):
    mosei(tmp_path)
    with h5py.File(tmp_path / "CMU_MOSEI_COVAREP.csd", "r+") as file:
        del file["COAVAREP/data/q/intervals"]
    refused(tmp_path, r"'q' has features \(60, 2\) and intervals \(0,\)")
    with h5py.File(tmp_path / "CMU_MOSEI_COVAREP.csd", "r+") as file:
        file["another/data/q/intervals"] = np.ones((2, 2))
    refused(tmp_path, "COVAREP.csd is refused: it has 2 root names")


FOLDS = """# the SDK's lists
standard_train_fold=['p', 'absent']

standard_valid_fold = ["q"]
standard_test_fold=['r',
                    's']
"""


def test_csd_folds_of_the_sdk_are_parsed(tmp_path):
    mosei(tmp_path)
    (tmp_path / "folds.json").unlink()
    refused(tmp_path, r"one file of folds is needed, it has none: put the SDK's own \*_std_folds.py beside")
    (tmp_path / "cmu_mosei_std_folds.py").write_text(FOLDS)
    data = files.read(tmp_path)
    assert [part_of(data, name)[0] for name in data.ids] == ["train"] * 3 + ["valid"] + ["test"] * 3
    (tmp_path / "folds.json").write_text("{}")
    refused(tmp_path, "one file of folds is needed, it has cmu_mosei_std_folds.py, folds.json")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (FOLDS + "open('{0}', 'w')\n", "something else than lists of names"),
        (FOLDS.replace("['p', 'absent']", "[open('{0}', 'w').name]"), "something else than lists of names"),
        (FOLDS + "standard_train_fold += ['s']\n", "something else than lists of names"),
        (FOLDS + "import os\n", "something else than lists of names"),
        (FOLDS.replace("['p', 'absent']", "'p'"), "no list of names for train"),
        (FOLDS.replace("['p', 'absent']", "['p', 1]"), "no list of names for train"),
        (FOLDS.replace("'s'", "'p'"), "video 'p' stands in the lists of train and of test"),
        (FOLDS.replace("standard_valid_fold", "standard_dev_fold"), "no list of names for valid"),
        ("x=" + "[" * 10**5, "something else than lists of names"),
        ("x=" + "-" * 10**5 + "1", "something else than lists of names"),
        ("x=" + "'a'+" * 10**5 + "'a'", "something else than lists of names"),
        ("x='\\d'", "something else than lists of names"),
        ("\0", "something else than lists of names"),
        ("#" * 2**23, "something else than lists of names"),
    ],
)
def test_csd_folds_are_never_run(tmp_path, text, match):
    mosei(tmp_path)
    (tmp_path / "folds.json").unlink()
    (tmp_path / "x_std_folds.py").write_text(text.replace("{0}", str(tmp_path / "trace")))
    refused(tmp_path, match)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "text", ["[]", "{", "{}", '{"train": "p", "valid": ["q"], "test": ["r"]}', "[" * 10**5, "\udcff"]
)
def test_csd_folds_in_json_are_lists(tmp_path, text):
    mosei(tmp_path)
    (tmp_path / "folds.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(tmp_path, "lists? of names")


# ------------------------------------------------------------------ samples


def like(task, n=36, groups=12, classes=("happy", "sad", "angry", "neutral")):
    """Contents as any reader gives them: three utterances a video, lengths by modality, some absent."""
    r = rng(5)
    length = {m: r.integers(1, 5, n) for m in "lav"}
    length["a"][::5] = 0
    group = np.repeat([f"v{i:02}" for i in range(groups)], n // groups)
    arrays = {f"x_{m}": r.normal(size=(n, 4, d)).astype(np.float32) for m, d in zip("lav", (3, 2, 5), strict=True)}
    arrays |= {f"len_{m}": length[m] for m in "lav"}
    arrays |= {"id": np.array([f"{g}_{i}" for i, g in enumerate(group)]), "group": group}
    arrays["split"] = np.repeat(PARTS, [n // 3] * 3)
    if task == "regression":
        return Contents(arrays | {"y": r.uniform(-3, 3, n)}, {"task": task, "score_range": [-3, 3]})
    return Contents(arrays | {"y": np.arange(n) % len(classes)}, {"task": task, "classes": list(classes)})


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_gcnet_sample_is_read(tmp_path, task):
    given = like(task)
    gcnet.sample(tmp_path / "sample", given)
    data = files.read(tmp_path / "sample")
    assert (data.reader, data.task) == ("gcnet", task)
    assert data.shape.widths == {"l": 3, "a": 2, "v": 5}
    for i in range(36):
        for m in "lav":
            frame = (
                [given.arrays[f"x_{m}"][i, : given.arrays[f"len_{m}"][i]].mean(0)]
                if given.arrays[f"len_{m}"][i]
                else []
            )
            np.testing.assert_allclose(
                frames(data, m, data.ids[i]), np.reshape(frame, (-1, data.shape.widths[m])), rtol=1e-5
            )
    if task == "regression":
        np.testing.assert_allclose(data.batch.y, given.arrays["y"], rtol=1e-6)
        assert data.split.tolist() == given.arrays["split"].tolist()
        assert data.folds == (None,)
    else:
        named = [given.meta["classes"][y] for y in given.arrays["y"]]
        assert [data.classes[y] for y in data.batch.y] == named
        assert data.folds == (0, 1, 2, 3, 4)


def test_gcnet_sample_needs_dialogues(tmp_path):
    with pytest.raises(BadInput, match="two dialogues in each of two sessions, there are 3"):
        gcnet.sample(tmp_path / "sample", like("classification", groups=3))


@pytest.mark.parametrize("classes", [("happy", "sad", "angry", "neutral"), ("x", "y"), ("neutral", "sad", "x", "y")])
def test_mmin_sample_is_read(tmp_path, classes):
    given = like("classification", classes=classes)
    mmin.sample(tmp_path / "sample", given)
    data = files.read(tmp_path / "sample")
    assert (data.reader, data.folds) == ("mmin", tuple(range(10)))
    order = [data.ids.tolist().index(f"{group}_{i:03}") for i, group in enumerate(given.arrays["group"])]
    for row, i in zip(order, range(36), strict=True):
        for m in "lav":
            expected = given.arrays[f"x_{m}"][i, : given.arrays[f"len_{m}"][i]]
            np.testing.assert_array_equal(frames(data, m, data.ids[row]), expected)
    assert data.split[order].tolist() == given.arrays["split"].tolist()
    if set(classes) == set(data.classes):
        assert [data.classes[y] for y in data.batch.y[order]] == [classes[y] for y in given.arrays["y"]]
    else:
        assert data.batch.y[order].tolist() == given.arrays["y"].tolist()
    with pytest.raises(BadInput, match="for scores write a sample of mmsa, mult, gcnet or csd"):
        mmin.sample(tmp_path / "other", like("regression"))


def test_csd_sample_is_read(tmp_path):
    """Frames that have a word come back as they are; words without a frame are zero; frames without a word are lost."""
    given = like("regression")
    csd.sample(tmp_path / "sample", given)
    data = files.read(tmp_path / "sample")
    assert data.reader == "csd"
    assert data.split.tolist() == given.arrays["split"].tolist()
    np.testing.assert_allclose(data.batch.y, given.arrays["y"], rtol=1e-6)
    for i, name in enumerate(data.ids):
        words = given.arrays["len_l"][i]
        for m in "lav":
            expected = np.where(np.arange(4)[:, None] < given.arrays[f"len_{m}"][i], given.arrays[f"x_{m}"][i], 0)[
                :words
            ]
            np.testing.assert_array_equal(frames(data, m, name), expected)
    with pytest.raises(BadInput, match="write a sample of mult, gcnet or mmin"):
        csd.sample(tmp_path / "other", like("classification"))
