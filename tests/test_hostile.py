"""Pickles of the field are read as pickle reads them; of hostile ones nothing is executed, in bounded memory."""

import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from mutants import PLACE, mutate

from mmkd_lib.data.readers import unpickling
from mmkd_lib.support.errors import BadInput

PROTOCOLS = range(6)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles")


def load(folder, content):
    path = folder / "x.pkl"
    path.write_bytes(content)
    return unpickling.load(path)


def refusal(folder, content):
    """The one sentence with which the reader refuses a pickle: it names the file, is short and has no line breaks."""
    with pytest.raises(BadInput) as caught:
        load(folder, content)
    sentence = str(caught.value)
    assert sentence.startswith("x.pkl is refused: ")
    assert sentence.endswith(".")
    assert sentence.isprintable()
    assert len(sentence) < 400
    return sentence


def same(one, other):
    """Whether two objects are equal to types, order and the bits of every number; `one` in native byte order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        other = other.astype(other.dtype.newbyteorder("="))  # pickle itself does so in protocols 0 to 4 only
        alike = (one.shape, one.dtype.str) == (other.shape, other.dtype.str)
        if one.dtype.kind == "O":
            return alike and same(one.ravel().tolist(), other.ravel().tolist())
        return alike and one.flags.f_contiguous == other.flags.f_contiguous and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset):
        return same(sorted(one, key=repr), sorted(other, key=repr))
    return repr(one) == repr(other)


# ------------------------------------------------------------------ what the field's files hold

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(3, 4, 2)).astype(np.float32)
SHARED = [1, "two"]
PLAIN = {
    "like MMSA": {
        part: {
            "text": FEATURES,
            "audio": FEATURES.astype(np.float64),
            "id": np.array(["v$_$1", "ü", ""]),
            "raw_text": np.array(["A", "b\n", "ü"], dtype=object),
            "audio_lengths": [4, 3, 1],
            "regression_labels": np.array([-3, 0.5, np.nan]),
            "annotations": ["Positive", "Neutral", "Negative"],
        }
        for part in ("train", "valid", "test")
    },
    "like MulT": {"train": {"id": np.array([["v", "0.5", "1"], ["w", "1", "2"]], dtype=object), "labels": FEATURES}},
    "like GCNet": [{"v": ["v_1", "v_2"]}, {"v": [np.int64(2), 0]}, {"v": [FEATURES[0], FEATURES[1]]}, {"v"}, {"w"}],
    "float16 to float64": [FEATURES.astype(kind) for kind in ("<f2", ">f2", "<f4", ">f4", "<f8", ">f8")],
    "integers": [np.arange(-2, 3).astype(kind) for kind in ("i1", ">i2", "<i4", ">i8", "u1", "<u2", ">u4", "u8")],
    "truth": np.array([[True, False]]),
    "Fortran order": [np.asfortranarray(FEATURES), np.asfortranarray(FEATURES.astype(">i4"))],
    "other orders": [FEATURES.transpose(1, 0, 2), FEATURES.transpose(2, 0, 1), FEATURES[::2, :, 1], FEATURES[::-1]],
    "no length": [np.zeros(0), np.zeros((0, 5), np.int8), np.array([], dtype=object), np.array([], dtype="U3")],
    "no axis": [np.array(2.5), np.array("text"), np.array(None, dtype=object)],
    "text": [np.array(["a", "bcd", "\U0001f600"]), np.array(["a", "ü"], dtype=">U7"), np.array([[b"a", b"\xff\x00b"]])],
    "objects": [
        np.array(["a", b"b", 3, None, 2.5], dtype=object),
        np.asfortranarray(np.array([["a", "b", "c"], [1, 2, 3]], dtype=object)),
        np.fromiter([FEATURES, [1, 2], np.array(5), np.float32(1)], dtype=object),
    ],
    "numbers of numpy": [np.float32(1.5), np.float64(-0.0), np.int8(-1), np.uint64(2**64 - 1), np.bool_(True)],
    "numbers of other byte order": [np.array([1.5], ">f4")[0], np.array([7], ">i8")[0]],
    "text of numpy": [np.str_("ü"), np.str_(""), np.bytes_(b"\xff"), np.bytes_(b"")],
    "containers": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}, [[]], ([], {}), {"a": {"b": [({},)]}}],
    "sets": [set(), frozenset(), {1, "a", None, 2.5, b"b"}, frozenset({"x", np.float32(2)})],
    "keys": {"a": 1, b"b": 2, 3: 4, -5: 6, 2.5: 7, None: 8, True: 9, np.int64(10): 10, np.str_("s"): 11},
    "order": OrderedDict([("b", 1), ("a", OrderedDict([(2, [FEATURES])]))]),
    "bytes": [b"", b"\x00\xff", bytes(300), bytearray(), bytearray(b"\x80b"), bytearray(300)],
    "strings": ["", "a", "ü" * 200, "\U0001f600", "quote'\"\\ \n\r\t\x00\x1a", "\\u0041", "\ud800"],
    "whole numbers": [0, 1, -1, 255, 256, -128, 65536, 2**31, -(2**31), 2**63, -(2**63) - 1, 10**1000, -(10**1000)],
    "floats": [0.0, -0.0, 1e-320, 1.5, 1e300, float("inf"), float("-inf"), float("nan")],
    "constants": [None, True, False],
    "shared": [FEATURES, FEATURES, SHARED, SHARED, (SHARED, {"again": SHARED}), "a" * 99, "a" * 99],
    "many": [*range(3000), {i: str(i) for i in range(2500)}, set(range(2500)), tuple(range(300))],
    "a number": 3,
    "nothing": None,
    "an array": FEATURES,
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", PLAIN.values(), ids=PLAIN.keys())
def test_a_plain_pickle_loads_as_pickle_loads_it(tmp_path, value, protocol):
    content = pickle.dumps(value, protocol)
    result = load(tmp_path, content)
    assert same(result, pickle.loads(content))
    assert same(result, pickle.loads(content, encoding="latin1"))


def test_equality_of_these_tests_sees_differences():
    x = np.arange(6.0).reshape(2, 3)
    others = [x + 1, np.asfortranarray(x), x.ravel(), x.tolist(), x.astype("f4"), x.astype(object), -x + 0.0]
    assert same(x, x.astype(">f8"))
    assert not same(x.astype(">f8"), x)
    assert not any(same(x, other) for other in others)
    assert not same([1], [True])
    assert not same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert not same(np.array([1, "a"], object), np.array(["1", "a"], object))


def test_what_is_shared_stays_shared_and_arrays_cannot_be_changed(tmp_path):
    array, again, one, two, *_ = load(tmp_path, pickle.dumps(PLAIN["shared"]))
    assert array is again
    assert one is two
    arrays = [array, *load(tmp_path, pickle.dumps(PLAIN["objects"], 5)), *load(tmp_path, pickle.dumps([FEATURES], 5))]
    assert not any(array.flags.writeable for array in arrays)


def numpy_1(content):
    """The same pickle as numpy 1 wrote it: other names of modules, in protocols 4 and 5 with other lengths."""
    for module in (b"multiarray", b"numeric"):
        old, new = b"numpy.core." + module, b"numpy._core." + module
        content = content.replace(bytes([len(new)]) + new, bytes([len(old)]) + old).replace(new, old)
    if content[2:3] == b"\x95":  # one frame that goes to the end
        content = content[:3] + struct.pack("<Q", len(content) - 11) + content[11:]
    return content


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["like MMSA", "objects", "numbers of numpy", "Fortran order"])
def test_a_pickle_of_numpy_1_loads(tmp_path, name, protocol):
    content = numpy_1(pickle.dumps(PLAIN[name], protocol))
    assert b"numpy.core" in content
    assert b"_core" not in content
    assert same(load(tmp_path, content), pickle.loads(pickle.dumps(PLAIN[name], protocol)))


def array_2(dtype, state, shape, data, rest=b"I-1\nI-1\nI0\n", fortran=b"I00\n"):
    """An array as Python 2 wrote it in protocol 0; all parts are given as they stand in the file."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4\nRp5\n(I1\n("
        + shape
        + b"tp6\ncnumpy\ndtype\np7\n(S'"
        + dtype
        + b"'\np8\nI0\nI1\ntp9\nRp10\n(I3\nS'"
        + state
        + b"'\np11\nNNN"
        + rest
        + b"tp12\nb"
        + fortran
        + data
        + b"p13\ntp14\nb."
    )


PYTHON_2 = {
    # what Python 2.7 wrote, and what it was
    "floats": (array_2(b"f4", b"<", b"I2\n", rb"S'\x00\x00\xc0?\x00\x00\x00\xc0'" + b"\n"), np.array([1.5, -2], "<f4")),
    "big endian": (array_2(b"i2", b">", b"I2\nI1\n", rb"S'\x01\x02\xff\xfe'" + b"\n"), np.array([[258], [-2]], ">i2")),
    "Fortran order": (
        array_2(b"i1", b"|", b"I2\nI3\n", rb"S'\x01\x04\x02\x05\x03\x06'" + b"\n", fortran=b"I01\n"),
        np.array([[1, 2, 3], [4, 5, 6]], "i1", order="F"),
    ),
    "text with signs": (
        array_2(b"S3", b"|", b"I2\n", rb"""S'\'\n\x00\\t"'""" + b"\n", b"I3\nI1\nI0\n"),
        np.array([b"'\n", b'\\t"']),
    ),
    "objects": (
        array_2(b"O8", b"|", b"I2\n", b"(lp15\nS'\\xe4'\naV\\u20ac\na", b"I-1\nI-1\nI63\n"),
        np.array(["ä", "€"], object),
    ),
    "protocol 2": (
        b"\x80\x02}q\x00(U\x05trainq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04"
        b"U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\x09U\x02f8q\x0aK\x00K\x01\x87q\x0bRq\x0c"
        b"(K\x03U\x01<q\x0dNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb\x89"
        b"T\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\xe0\xbfq\x0ftq\x10b"
        b"U\x03ageq\x11cnumpy.core.multiarray\nscalar\nq\x12h\x0cU\x08\x00\x00\x00\x00\x00\x00\x04@q\x13\x86q\x14Rq\x15u.",
        {"train": np.array([1, -0.5]), "age": np.float64(2.5)},
    ),
    "containers": (
        b"(dp0\nS'vid'\np1\n(lp2\nS'Ses01'\np3\naVSes\\u00e9\np4\naI1\naI01\naL12L\naF1.5\nasS'all'\np5\n"
        b"c__builtin__\nset\np6\n((lp7\nI3\naS'x'\natp8\nRp9\nsS'one'\n(g3\ntp10\ns.",
        {"vid": ["Ses01", "Sesé", 1, True, 12, 1.5], "all": {3, "x"}, "one": ("Ses01",)},
    ),
    "order": (
        b"ccollections\nOrderedDict\np0\n((lp1\n(lp2\nS'b'\naI1\naa(lp3\nS'a'\na(lp4\naatp5\nRp6\n.",
        OrderedDict([("b", 1), ("a", [])]),
    ),
    "bytearray": (b"c__builtin__\nbytearray\n(Va\xff\nS'latin-1'\ntR.", bytearray(b"a\xff")),
    "text that is latin-1": (b"(S'caf\\xe9'\nU\x02\xe9\xffT\x01\x00\x00\x00\xb5t.", ("café", "éÿ", "µ")),
}


@pytest.mark.parametrize(("content", "value"), PYTHON_2.values(), ids=PYTHON_2.keys())
def test_a_pickle_of_python_2_loads(tmp_path, content, value):
    result = load(tmp_path, content)
    assert same(result, value)
    assert same(result, pickle.loads(content, encoding="latin1"))


KEYS = st.none() | st.booleans() | st.integers(-(2**59), 2**59) | st.floats() | st.text() | st.binary()
NUMBERS = arrays_of.boolean_dtypes() | arrays_of.integer_dtypes() | arrays_of.floating_dtypes()
DTYPES = NUMBERS | arrays_of.unicode_string_dtypes(max_len=5) | arrays_of.byte_string_dtypes(max_len=5)
SHAPES = st.lists(st.integers(1, 4), max_size=3).map(tuple) | st.just((0,)) | st.just((0, 3))
ARRAYS = arrays_of.arrays(DTYPES, SHAPES) | arrays_of.arrays(NUMBERS, SHAPES).map(np.asfortranarray)
LEAVES = KEYS | st.integers() | st.binary().map(bytearray) | ARRAYS | arrays_of.arrays(NUMBERS, ()).map(lambda x: x[()])
TREES = st.recursive(
    LEAVES,
    lambda trees: (
        st.lists(trees)
        | st.lists(trees).map(tuple)
        | st.dictionaries(KEYS, trees)
        | st.dictionaries(KEYS, trees, dict_class=OrderedDict)
        | st.sets(KEYS)
        | st.frozensets(KEYS)
        | trees.map(lambda tree: [tree, (tree, {"again": tree})])
        | st.lists(trees).map(lambda items: np.fromiter(items, dtype=object, count=len(items)))
    ),
    max_leaves=12,
)


@given(tree=TREES, protocol=st.sampled_from(PROTOCOLS))
@settings(max_examples=250, deadline=None, derandomize=True)
def test_any_plain_tree_loads_as_pickle_loads_it(scratch, tree, protocol):
    content = pickle.dumps(tree, protocol)
    assert same(load(scratch, content), pickle.loads(content))


# ------------------------------------------------------------------ nothing is executed


class Trap:
    """Opening its pickle calls a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments

    def __call__(self):
        """pickle asks what it writes down as a function whether it can be called."""


class Behind:
    """The trap is in the state of a class that may be named."""

    def __init__(self, trap):
        self.trap = trap

    def __reduce__(self):
        return OrderedDict, (), {"state": self.trap}


TRAPS = {
    # the global that is asked for: what makes the file `marker` if it is called
    "posix.system": lambda marker: Trap(os.system, f"touch {marker}"),
    "subprocess.run": lambda marker: Trap(subprocess.run, ["touch", str(marker)]),
    "builtins.eval": lambda marker: Trap(eval, f"__import__('pathlib').Path({str(marker)!r}).touch()"),
    "builtins.exec": lambda marker: Trap(exec, f"__import__('pathlib').Path({str(marker)!r}).touch()"),
    "builtins.getattr": lambda marker: Trap(Trap(getattr, Path(marker), "touch")),
    "numpy.savetxt": lambda marker: Trap(np.savetxt, str(marker), [1]),
}
PLACES = {
    "alone": lambda trap: trap,
    "in a list": lambda trap: [1, [trap]],
    "as a value": lambda trap: {"train": FEATURES, "test": trap},
    "as a key": lambda trap: {trap: 1},
    "in a tuple": lambda trap: (trap,),
    "in a set": lambda trap: {trap},
    "in an array": lambda trap: np.array([None, trap], dtype=object),
    "in a state": Behind,
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("name", TRAPS)
def test_nothing_in_a_pickle_is_executed(tmp_path, name, place):
    marker = tmp_path / "executed"
    for protocol in PROTOCOLS:
        content = pickle.dumps(place(TRAPS[name](marker)), protocol, fix_imports=False)
        asked = f"it asks for the global {name}, and only numpy arrays and plain containers are read."
        assert refusal(tmp_path, content) == f"x.pkl is refused: {asked}"
        assert not marker.exists()
        try:
            pickle.loads(content)
        except (TypeError, AttributeError):
            assert place in (PLACES["as a key"], Behind), "what the trap returns fits in any place but these"
        assert marker.exists(), "the trap does not work, so this test proves nothing"
        marker.unlink()


def named(module, name):
    """STACK_GLOBAL, the only instruction that takes names with dots and names with line breaks."""
    texts = [b"X" + struct.pack("<I", len(text)) + text for text in (module.encode(), name.encode())]
    return b"\x80\x04" + b"".join(texts) + b"\x93"


FLOATS = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
TYPE = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR"
OBJECTS = TYPE.replace(b"f4", b"O8")
GLOBALS = [
    ("builtins", "eval.__call__"),
    ("builtins", "bytearray.fromhex"),
    ("builtins.set", "__init__"),
    ("__builtin__", "eval"),
    ("builtins", "type"),
    ("builtins", "object"),
    ("builtins", "list"),
    ("builtins", "__import__"),
    ("builtins", ""),
    ("", ""),
    ("numpy", "load"),
    ("numpy", "fromfile"),
    ("numpy", "memmap"),
    ("numpy", "ndarray.tofile"),
    ("numpy", "dtype.__new__"),
    ("numpy", "core.multiarray.scalar"),
    ("numpy", "f2py.capi_maps.load_f2cmap_file"),
    ("numpy", "record"),
    ("numpy.ma.core", "_mareconstruct"),
    ("numpy.testing._private.utils", "runstring"),
    ("numpy.distutils.exec_command", "exec_command"),
    ("numpy.random._pickle", "__generator_ctor"),
    ("_codecs", "decode"),
    ("_codecs", "lookup"),
    ("collections", "defaultdict"),
    ("copyreg", "_reconstructor"),
    ("copy_reg", "_reconstructor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch.storage", "_load_from_bytes"),
    ("pandas.core.frame", "DataFrame"),
    ("joblib.numpy_pickle", "NumpyArrayWrapper"),
    ("os", "system"),
]


@pytest.mark.parametrize(("module", "name"), GLOBALS, ids=map(".".join, GLOBALS))
def test_a_global_outside_the_table_is_refused_by_name(tmp_path, module, name):
    words = f"it asks for the global {module}.{name}, and only"
    assert words in refusal(tmp_path, named(module, name) + b".")
    assert words in refusal(tmp_path, b"]" + named(module, name)[2:] + b"(tRa.")
    if name and "." not in name:
        assert words in refusal(tmp_path, f"c{module}\n{name}\n(tR.".encode())


def test_a_name_cannot_break_or_fill_the_sentence(tmp_path):
    assert r"global os\n\x1b[2J.sys\u20ac\x00, and" in refusal(tmp_path, named("os\n\x1b[2J", "sys€\0") + b".")
    assert "global aaaaaaa" in refusal(tmp_path, named("a" * 10**6, "b") + b".")
    assert "global \\U0001f600" in refusal(tmp_path, named("\U0001f600" * 1000, "b") + b".")
    assert "instruction PERSID aaaa" in refusal(tmp_path, b"P" + b"a" * 3000 + b"\n.")


REFUSED = {
    # a pickle, and words of the sentence
    "codec rot13": (b"c_codecs\nencode\n(Va\nVrot13\ntR.", "it calls _codecs.encode with arguments that"),
    "codec zip": (b"c_codecs\nencode\n(Va\nVzip\ntR.", "it calls _codecs.encode"),
    "codec of bytes": (b"c_codecs\nencode\n(C\x01aVlatin1\ntR.", "it calls _codecs.encode"),
    "codec and errors": (b"c_codecs\nencode\n(Va\nVlatin1\nVignore\ntR.", "it calls _codecs.encode"),
    "not latin-1": (b"c_codecs\nencode\n(V\\u20ac\nVlatin1\ntR.", "not a readable pickle"),
    "bytes of a number": (b"cbuiltins\nbytes\n(I99\ntR.", "it calls builtins.bytes"),
    "bytearray of a number": (b"cbuiltins\nbytearray\n(L99999999999L\ntR.", "it calls builtins.bytearray"),
    "bytearray of a codec": (b"cbuiltins\nbytearray\n(Va\nVutf-8\ntR.", "it calls builtins.bytearray"),
    "set of text": (b"cbuiltins\nset\n(Vab\ntR.", "it calls builtins.set"),
    "pairs that are none": (b"ccollections\nOrderedDict\n((lI1\natR.", "not a readable pickle"),
    "call of a class": (b"cnumpy\nndarray\n((I1\nttR.", "it calls numpy.ndarray"),
    "call of text": (b"Vab\n(tR.", "it calls what is not a function"),
    "call of an array": (EMPTY + b"(tR.", "it calls what is not a function"),
    "call with a list": (b"cbuiltins\nset\n]R.", "it calls what is not a function"),
    "another class": (
        EMPTY.replace(b"numpy\nndarray", b"builtins\nset") + b".",
        "it calls numpy._core.multiarray._rec",
    ),
    "a class outside": (EMPTY.replace(b"numpy\nndarray", b"numpy\nmemmap") + b".", "global numpy.memmap"),
    "a first shape": (EMPTY.replace(b"I0", b"I9") + b".", "it calls numpy._core.multiarray._reconstruct"),
    "array without data": (EMPTY + b".", "it uses an array that has got no data"),
    "array without data in a list": (b"]" + EMPTY + b"a.", "it uses an array that has got no data"),
    **{
        f"dtype {text}": (TYPE.replace(b"f4", text) + b".", "it calls numpy.dtype with")
        for text in (
            b"V8",
            b"c8",
            b"M8[s]",
            b"m8",
            b"f4,f4",
            b"(2,)f4",
            b"O,O",
            b"object",
            b"f16",
            b"i3",
            b"<f4",
            b"",
            b"T",
        )
    },
    "dtype that is no copy": (TYPE.replace(b"I1", b"I0") + b".", "it calls numpy.dtype with"),
    "dtype that is aligned": (TYPE.replace(b"I0", b"I1") + b".", "it calls numpy.dtype with"),
    "dtype of a class": (b"cnumpy\ndtype\n(cnumpy\nndarray\nI0\nI1\ntR.", "it calls numpy.dtype"),
    "dtype with metadata": (TYPE + b"(I4\nS'<'\nNNNI-1\nI-1\nI0\n}tb.", "it sets a state"),
    "dtype with fields": (TYPE + b"(I3\nS'<'\nN(Va\nt}I-1\nI-1\nI0\ntb.", "it sets a state"),
    "dtype with a subarray": (TYPE + b"(I3\nS'<'\n(" + TYPE + b"(I2\nttNNI-1\nI-1\nI0\ntb.", "it sets a state"),
    "dtype of another size": (TYPE + b"(I3\nS'<'\nNNNI9\nI1\nI0\ntb.", "it sets a state"),
    "dtype of another alignment": (TYPE + b"(I3\nS'<'\nNNNI4\nI0\nI0\ntb.", "it sets a state"),
    "dtype that says it holds objects": (TYPE + b"(I3\nS'<'\nNNNI-1\nI-1\nI63\ntb.", "it sets a state"),
    "dtype of another order": (TYPE + b"(I3\nS'X'\nNNNI-1\nI-1\nI0\ntb.", "it sets a state"),
    "dtype built twice": (FLOATS + b"(I3\nS'>'\nNNNI-1\nI-1\nI0\ntb.", "it sets a state"),
    "dtype as data": (b"]" + FLOATS + b"a.", "a class, a function or a dtype where data belongs"),
    "dtype in a tuple": (FLOATS + b"\x85.", "a class, a function or a dtype where data belongs"),
    "class as data": (b"cnumpy\nndarray\n.", "a class, a function or a dtype where data belongs"),
    "class in tuples": (b"]cnumpy\nndarray\n\x85\x85a.", "a class, a function or a dtype where data belongs"),
    "class as a key": (b"}cnumpy\nndarray\nNs.", "a class, a function or a dtype where data belongs"),
    "state of a list": (b"]}Va\nNsb.", "it sets a state"),
    "state of a dict": (b"ccollections\nOrderedDict\n(tR}Va\nNsb.", "it sets a state"),
    "state of a function": (b"c_codecs\nencode\n}b.", "it sets a state"),
    "state that is a dict": (EMPTY + b"}b.", "it sets a state"),
    "state of a whole array": (EMPTY + 2 * (b"(I1\n(I1\nt" + FLOATS + b"I00\nC\x04aaaatb") + b".", "it sets a state"),
    "state of version 0": (EMPTY + b"(I0\n(I1\nt" + FLOATS + b"I00\nC\x04aaaatb.", "it sets a state"),
    "state without dtype": (EMPTY + b"(I1\n(I1\ntVf4\nI00\nC\x04aaaatb.", "it sets a state"),
    "list for bytes": (EMPTY + b"(I1\n(I1\nt" + FLOATS + b"I00\n(lI1\natb.", "promises 4 bytes"),
    "bytes for a list": (
        EMPTY + b"(I1\n(I1\nt" + OBJECTS + b"I00\nC\x08aaaaaaaatb.",
        "promises 8",
    ),
    "too few objects": (EMPTY + b"(I1\n(I3\nt" + OBJECTS + b"I00\n(lI1\natb.", "promises 24"),
    "scalar of an object": (
        b"cnumpy.core.multiarray\nscalar\n(" + OBJECTS + b"C\x08aaaaaaaatR.",
        "it calls numpy._core.multiarray.scalar",
    ),
    "scalar too short": (b"cnumpy.core.multiarray\nscalar\n(" + FLOATS + b"C\x02aatR.", "promises 4 bytes"),
    "buffer in no order": (
        b"cnumpy.core.numeric\n_frombuffer\n(C\x04aaaa" + FLOATS + b"(I1\ntVA\ntR.",
        "it calls numpy._core.numeric._frombuffer",
    ),
    "buffer with a wrong order of axes": (
        b"cnumpy.core.numeric\n_frombuffer\n(C\x04aaaa" + FLOATS + b"(I1\ntVK\n(I1\nttR.",
        "not a readable pickle",
    ),
    "truth that is 7": (
        EMPTY + b"(I1\n(I1\nt" + TYPE.replace(b"f4", b"b1") + b"I00\nC\x01\x07tb.",
        "values that this type has not",
    ),
    "characters that do not exist": (
        EMPTY + b"(I1\n(I1\nt" + FLOATS.replace(b"f4", b"U1") + b"I00\nC\x04\xff\xff\xff\x7ftb.",
        "values that this type has not",
    ),
    "tuple as a key": (b"}(I1\ntNs.", "a key or an element of a set"),
    "tuple in a set": (b"\x8f((I1\nt\x90.", "a key or an element of a set"),
    "tuple in a called set": (b"cbuiltins\nset\n((l(I1\ntatR.", "a key or an element of a set"),
    "tuple in a frozenset": (b"((I1\nt\x91.", "a key or an element of a set"),
    "list as a key": (b"}]Ns.", "a key or an element of a set"),
    "array as a key": (b"}" + EMPTY + b"(I1\n(I1\nt" + FLOATS + b"I00\nC\x04aaaatbNs.", "a key or an element of a set"),
    "large key": (b"}L" + str(2**61 - 1).encode() + b"L\nNs.", "a key or an element of a set"),
    "long key": (b"}V" + b"a" * 5000 + b"\nNs.", "a key or an element of a set"),
    "INST": (b"(S'id'\nios\nsystem\n.", "it uses the instruction INST os system, and only"),
    "OBJ": (b"(cos\nsystem\nS'id'\no.", "it asks for the global os.system, and only"),
    "OBJ of a known class": (b"(cbuiltins\nset\no.", "it uses the instruction OBJ, and only"),
    "NEWOBJ": (b"\x80\x02cbuiltins\nset\n)\x81.", "it uses the instruction NEWOBJ,"),
    "NEWOBJ_EX": (b"\x80\x04cbuiltins\nset\n)}\x92.", "it uses the instruction NEWOBJ_EX,"),
    "persistent id": (b"Pstorage\n.", "it uses the instruction PERSID storage,"),
    "binary persistent id": (b"K\x01Q.", "it uses the instruction BINPERSID,"),
    "extension": (b"\x80\x02\x82\x07.", "it uses the instruction EXT1 7,"),
    "long extension": (b"\x80\x02\x84\x07\x00\x00\x00.", "it uses the instruction EXT4 7,"),
    "buffer outside": (b"\x80\x05\x97.", "it uses the instruction NEXT_BUFFER,"),
    "buffer made read-only": (b"\x80\x05C\x01a\x98.", "it uses the instruction READONLY_BUFFER,"),
    "DUP": (b"N2.", "it uses the instruction DUP,"),
    "trailing bytes": (b"N.N", "1 bytes follow the end of the pickle"),
    "two pickles": (pickle.dumps(1) + pickle.dumps(2), "bytes follow the end of the pickle"),
    "two objects": (b"NN.", "not a readable pickle"),
    "an object below a mark": (b"N(.", "not a readable pickle"),
    "an object above a mark": (b"(N.", "not a readable pickle"),
    "nothing on the stack": (b".", "not a readable pickle"),
    "memo of nothing": (b"p0\nN.", "not a readable pickle"),
    "memo of a mark": (b"N(q\x001.", "not a readable pickle"),
    "nothing in the memo": (b"h\x00.", "not a readable pickle"),
    "append to nothing": (b"Na.", "not a readable pickle"),
    "append to text": (b"Va\nNa.", "not a readable pickle"),
    "append to a tuple": (b")Na.", "not a readable pickle"),
    "odd items": (b"}(Ve\nu.", "not a readable pickle"),
    "key for a list": (b"]NNs.", "not a readable pickle"),
    "numbers as a name": (b"\x80\x04K\x01K\x02\x93.", "not a readable pickle"),
    "no STOP": (b"N", "not a readable pickle"),
    "nothing": (b"", "not a readable pickle"),
    "text": (b"v_1,v_2\n", "not a readable pickle"),
    "no such instruction": (b"\xff.", "not a readable pickle"),
    "gzip": (b"\x1f\x8b\x08\x00", "it is not a pickle, it looks like a gzip archive: unpack it first"),
    "zip": (b"PK\x03\x04", "it looks like a zip archive, as numpy and torch write"),
    "old torch": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "it looks like a file that torch wrote"),
    "HDF5": (b"\x89HDF\r\n", "it looks like an HDF5 file"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\n", "it looks like a pointer of git-lfs"),
    "page": (b"<!DOCTYPE html>", "it looks like a web page"),
}


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_a_hostile_or_broken_pickle_is_refused(tmp_path, content, words):
    assert words in refusal(tmp_path, content)


def test_the_parts_of_hostile_pickles_are_harmless_by_themselves(tmp_path):
    """What is refused above is refused for what is wrong with it: these differ from it by that only."""
    whole = EMPTY + b"(I1\n(I1\nt" + FLOATS + b"I00\nC\x04\x00\x00\x80?tb."
    assert same(load(tmp_path, whole), np.array([1], np.float32))
    assert same(load(tmp_path, whole.replace(FLOATS, TYPE)), np.array([1], np.float32))
    objects = EMPTY + b"(I1\n(I1\nt" + OBJECTS + b"I00\n(lI1\natb."
    assert same(load(tmp_path, objects), np.array([1], object))
    assert load(tmp_path, b"c_codecs\nencode\n(Va\xff\nVlatin-1\ntR.") == b"a\xff"
    assert load(tmp_path, b"}(L" + str(2**60 - 1).encode() + b"L\nNV" + b"a" * 4000 + b"\nNu.")
    assert load(tmp_path, b"N(NN1]Na0.") is None, "POP and POP_MARK"
    assert load(tmp_path, numpy_1(pickle.dumps(np.ones(2), 5))).sum() == 2


def test_only_files_are_read(tmp_path):
    for path in (tmp_path / "nowhere.pkl", tmp_path):
        with pytest.raises(BadInput, match=rf"^{path.name} is refused: there is no such file\.$"):
            unpickling.load(path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_cut_anywhere_is_refused(tmp_path, protocol):
    whole = pickle.dumps([PLAIN["like MMSA"]["train"], 2**70], protocol)
    assert load(tmp_path, whole)
    for end in range(0, len(whole), 7):
        assert "cut off" in refusal(tmp_path, whole[:end])


def test_too_many_instructions_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpickling, "INSTRUCTIONS", 1000)
    assert load(tmp_path, b"N0" * 499 + b"N.") is None
    assert "it has more than 1000 instructions" in refusal(tmp_path, b"N0" * 500 + b"N.")


# ------------------------------------------------------------------ bombs


def nested(levels):
    return b"]" * levels + b"a" * (levels - 1) + b"."


def laughing(first, level):
    """Forty levels, each of which holds the one before it twice: 2**40 things."""
    levels = [first + b"q\x00", *(level % {b"last": bytes([i]), b"this": bytes([i + 1])} for i in range(40))]
    return b"".join(levels) + b"."


def numbers(shape, code=b"f4", data=b"C\x04aaaa"):
    """An array that promises more than the four bytes that it has."""
    sides = b"".join(b"L%dL\n" % side for side in shape)
    return EMPTY + b"(I1\n(" + sides + b"t" + TYPE.replace(b"f4", code) + b"I00\n" + data + b"tb."


def again(function, argument, count):
    """The same call again and again, with one argument that stands in the file once."""
    return function + b"p0\n0" + argument + b"p1\n0(" + b"h\x00(h\x01tR" * count + b"l."


INNER = b"cnumpy.core.multiarray\n_reconstruct\np0\n0cnumpy\nndarray\n(I0\ntVb\n\x87p1\n0"
INNER += OBJECTS + b"p2\n0"
BOMBS = {
    # a pickle, and words of the sentence; None: it loads
    "lists in lists": (nested(3 * 10**5), "more than 50 deep"),
    "tuples in tuples": (b")" + b"\x85" * 10**6 + b".", "more than 50 deep"),
    "dicts in dicts": (b"}N" * 10**5 + b"N" + b"s" * 10**5 + b".", "more than 50 deep"),
    "arrays in arrays": (INNER + b"h\x00h\x01R(K\x01K\x01\x85h\x02I00\n]" * 10**5 + b"Natb" * 10**5 + b".", "50 deep"),
    "marks": (b"(" * 10**6 + b"l" * 10**6 + b".", "more than 50 deep"),
    "a list in itself": (b"]q\x00h\x00a.", "a part of another one or of itself"),
    "a list in a tuple in itself": (b"]q\x00h\x00\x85a.", "a part of another one or of itself"),
    "a dict in itself": (b"}q\x00Nh\x00s.", "a part of another one or of itself"),
    "a list in an array in itself": (
        b"]q\x05" + INNER + b"h\x00h\x01R(K\x01K\x01\x85h\x02I00\n]h\x05atba.",
        "a part of another one or of itself",
    ),
    "two lists in each other": (b"]q\x00]q\x01h\x00a0h\x00h\x01a.", "a part of another one or of itself"),
    "laughing lists": (laughing(b"]", b"](h%(last)bh%(last)beq%(this)b"), "it shares unfolds to far more"),
    "laughing tuples": (laughing(b")", b"h%(last)bh%(last)b\x86q%(this)b"), "it shares unfolds to far more"),
    "laughing dicts": (laughing(b"}", b"}(Nh%(last)bK\x01h%(last)buq%(this)b"), "it shares unfolds to far more"),
    "laughing key": (b"}" + laughing(b")", b"h%(last)bh%(last)b\x86q%(this)b")[:-1] + b"Ns.", "unfolds"),
    "one array a thousand times": (
        numbers((10**6,), b"u1", b"B@B\x0f\x00" + bytes(10**6))[:-1] + b"p9\n0(" + b"h\t" * 1000 + b"l.",
        "unfolds",
    ),
    "memo index": (b"Nr\x00\x00\x00\x80r\xff\xff\xff\xff.", None),
    "endless memo": (b"N" + b"\x94" * 1600000 + b".", "far more memory"),
    "100 GB of bytes": (b"\x8e" + struct.pack("<Q", 10**11) + b"abc.", "damaged"),
    "100 GB of bytearray": (b"\x96" + struct.pack("<Q", 10**11) + b"abc.", "damaged"),
    "100 GB of text": (b"\x8d" + struct.pack("<Q", 10**11) + b"abc.", "damaged"),
    "2 GB of text of Python 2": (b"T\xff\xff\xff\x7fabc.", "damaged"),
    "negative length": (b"T\xff\xff\xff\xffabc.", "damaged"),
    "2 GB of number": (b"\x8b\xff\xff\xff\x7fabc.", "damaged"),
    "a million digits": (b"L" + b"9" * 10**6 + b"L\n.", "damaged"),
    "100 GB of array": (numbers((25 * 10**9,)), "promises 100000000000 bytes"),
    "overflow": (numbers((2**32, 2**32)), f"promises {2**66} bytes"),
    "overflow to what is there": (numbers((2**62 + 1,)), f"promises {2**64 + 4} bytes"),
    "a side that is no number of 64 bits": (numbers((2**64 + 1,)), "of impossible shape"),
    "negative side": (numbers((-1,)), "of impossible shape"),
    "two negative sides": (numbers((-1, -1)), "of impossible shape"),
    "a million sides": (numbers((1,) * 10**5), "of impossible shape"),
    "no width": (numbers((10**13, 0), data=b"C\x00"), "has no width"),
    "text of no width": (numbers((10**13,), b"U0", data=b"C\x00"), "has no width"),
    "endless items": (numbers((1,), b"S999999999"), "promises 999999999 bytes"),
    "endless objects": (numbers((10**13,), b"O8", data=b"]"), "promises 80000000000000 bytes"),
    "ten million lists": (b"(" + b"]" * 10**7 + b"l.", "far more memory"),
    "a million sets": (b"(" + b"\x8f" * 10**6 + b"l.", "far more memory"),
    "a million encoded texts": (
        again(b"c_codecs\nencode\n", b"V" + b"a" * 10**6 + b"\n", 500).replace(b"h\x01t", b"h\x01Vlatin1\nt"),
        "far more memory",
    ),
    "a million bytearrays": (again(b"cbuiltins\nbytearray\n", b"B@B\x0f\x00" + bytes(10**6), 500), "far more memory"),
    "a thousand sets of one list": (
        again(b"cbuiltins\nset\n", b"(" + b"".join(b"J%b" % struct.pack("<i", i) for i in range(10**5)) + b"l", 500),
        "far more memory",
    ),
    "keys of one hash": (
        b"}(" + b"".join(b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(10**5)) + b"u.",
        "a key",
    ),
}
CHILD = """
import json, pathlib, resource, sys, types

import numpy, psutil

for name in ("mmkd_lib", "mmkd_lib.data", "mmkd_lib.data.readers"):
    package = types.ModuleType(name)
    package.__path__ = [str(pathlib.Path(*name.split(".")).resolve())]
    sys.modules[name] = package  # without what its __init__ imports, torch above all

from mmkd_lib.data.readers import unpickling
from mmkd_lib.support.errors import BadInput

sys.set_int_max_str_digits(0)  # some programs lift Python's own limit
limit = psutil.Process().memory_info().vms + 600 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
said = {}
try:
    bytes(700 * 2**20)
except MemoryError:
    said["limit"] = "holds"
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        unpickling.load(path)
        said[path.name] = None
    except BadInput as refusal:
        said[path.name] = str(refusal)
    path.unlink()
print(json.dumps(said))
"""


def test_bombs_take_neither_memory_nor_time(tmp_path):
    """All in one process that may take 600 MB; the slowest are the millions of containers, at some seconds each."""
    pytest.importorskip("resource")
    for name, (content, _) in BOMBS.items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("limit", None) == "holds", "memory was not limited, so this test proves nothing"
    assert said.keys() == BOMBS.keys()
    for name, (_, words) in BOMBS.items():
        assert (said[name] is None) if words is None else (said[name] and words in said[name]), name


def test_as_deep_as_allowed_and_as_shared_as_allowed(tmp_path):
    assert load(tmp_path, nested(unpickling.DEPTH)) is not None
    assert "more than 50 deep" in refusal(tmp_path, nested(unpickling.DEPTH + 1))
    array = np.zeros(10_000)
    assert len(load(tmp_path, pickle.dumps([array] * 1000))) == 1000


# ------------------------------------------------------------------ fuzz


def instructions(content):
    starts = [start for _, _, start in pickletools.genops(content)]
    return [content[start:end] for start, end in zip(starts, [*starts[1:], len(content)], strict=True)]


MANY = ("like GCNet", "sets", "order", "objects", "text of numpy", "containers", "bytes", "Fortran order", "shared")
WRITTEN = [pickle.dumps(PLAIN[name], protocol) for name in MANY for protocol in PROTOCOLS]
WHOLE = [*WRITTEN, *(content for content, _ in PYTHON_2.values())]
APART = [instructions(content) for content in WRITTEN]
BYTES = st.tuples(PLACE, st.integers(0, 4), st.binary(max_size=4)) | st.tuples(PLACE, st.integers(0, 40), st.just(b""))
PIECES = st.lists(st.sampled_from(sorted({piece for pieces in APART for piece in pieces})), max_size=2)
MUTANTS = st.one_of(
    st.builds(mutate, st.sampled_from(WHOLE), st.lists(BYTES, min_size=1, max_size=4)),
    st.builds(mutate, st.sampled_from(APART), st.lists(st.tuples(PLACE, st.integers(0, 2), PIECES), max_size=3)).map(
        b"".join
    ),
)


@given(content=MUTANTS)
@settings(max_examples=600, deadline=None, derandomize=True)
def test_fuzz(scratch, content):
    """Whatever is changed in a plain pickle: it is refused in a sentence, or it loads as pickle loads it."""
    try:
        result = load(scratch, content)
    except BadInput:
        refusal(scratch, content)
        return
    try:
        expected = pickle._loads(content, encoding="latin1")  # in Python: that of C makes a table for any memo index
    except (pickle.UnpicklingError, UserWarning):
        return  # frames that do not end where they say, and flags of a dtype that numpy warns of
    assert same(result, expected)
