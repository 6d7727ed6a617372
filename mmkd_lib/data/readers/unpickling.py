"""Labels and features out of a pickle that nobody vouches for: it is read, not unpickled; nothing in it is executed.

A pickle is a program for a small stack machine. `pickletools` takes it apart, and the machine below knows only the
instructions that make numbers, text, plain containers and numpy arrays. The globals that numpy's own pickles name are
markers here, never the functions: what those would do is done by hand, after every argument has been checked.
"""

import codecs
import math
import re
import sys
from collections import OrderedDict
from enum import Enum
from pathlib import Path
from pickletools import genops
from types import NoneType

import numpy as np

from ...support.errors import BadInput
from .arrays import refuse

DEPTH = 50  # containers in containers: the field's files need fewer than 10
INSTRUCTIONS = 50_000_000  # some minutes; a file of arrays needs thousands
ROOM, FACTOR = 10**8, 30  # what may be made of a file beside its arrays: 100 MB and 30 times its size
BOX, MEMO = 80, 100  # bytes that a container takes here beside its own, and an entry of the memo
KEY = 4096  # bytes of a key: the same long key, hashed and compared again and again, would take for ever
BITS = 60  # of a number that is a key: larger ones can be made to have one hash, and a million of them take days

LATIN = ("latin1", "latin-1")
DTYPE = re.compile(r"b1|[iu][1248]|f[248]|O[48]?|[SU][0-9]{1,9}")
CEILING = {"b": ("u1", 1), "U": ("u4", sys.maxunicode)}  # larger values would fail later, where they are used
FLAGS = {"O": (63,), "U": (0, 8)}  # what numpy writes for a dtype of each kind, 0 for all others
LOOKS = {
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"PK\x03\x04": "a zip archive, as numpy and torch write",
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19": "a file that torch wrote",
    b"\x89HDF": "an HDF5 file",
    b"version https://git-lfs": "a pointer of git-lfs: fetch the file that it points to",
    b"<": "a web page: fetch the file again",
}

ONLY = "only numpy arrays and plain containers are read"
TEXT, BYTES = (str, bytes, bytearray), (bytes, bytearray)
KEYS = (str, bytes, int, float, NoneType, np.generic)
STATE_OF_DTYPE = (int, str, NoneType, NoneType, NoneType, int, int, int)
STATE_OF_ARRAY = (int, tuple, np.dtype, int, (*TEXT, list))


class Known(Enum):
    """The globals in the pickles of arrays and containers, as inert markers."""

    NDARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"
    RECONSTRUCT = "numpy._core.multiarray._reconstruct"
    SCALAR = "numpy._core.multiarray.scalar"
    FROM_BUFFER = "numpy._core.numeric._frombuffer"
    ENCODE = "_codecs.encode"
    BYTES = "builtins.bytes"
    BYTEARRAY = "builtins.bytearray"
    SET = "builtins.set"
    FROZENSET = "builtins.frozenset"
    ORDERED = "collections.OrderedDict"


OLD = {"": "", "numpy._core": "numpy.core", "builtins": "__builtin__"}  # names until numpy 1 and Python 2
GLOBALS = {tuple(known.value.replace(new, old).rsplit(".", 1)): known for known in Known for new, old in OLD.items()}


def load(path):
    """The object in a pickle file of any protocol: plain values, containers, and numpy arrays, which are read-only.

    Text of Python 2 is taken as latin-1. A file is refused if it asks for anything else, if a container in it contains
    itself, or if far more memory would be needed than the file has bytes.
    """
    path = Path(path)
    if not path.is_file():
        refuse(path, "there is no such file")
    try:
        with path.open("rb") as file:
            start = file.peek(32)
            for magic, looks in LOOKS.items():
                if start.startswith(magic):
                    refuse(path, f"it is not a pickle, it looks like {looks}")
            return _Machine(path, path.stat().st_size).run(file)
    except BadInput:
        raise
    except MemoryError:
        refuse(path, "it does not fit into memory")
    except Exception:  # on damaged bytes pickletools, the decoders and the stack below raise a dozen kinds of error
        refuse(path, "it is not a readable pickle, or it is cut off or damaged")


class _Stream:
    """A file as pickletools reads it, which is never asked for more than it has left."""

    def __init__(self, file, size):
        self.file, self.left, self.last = file, size, b""

    def read(self, count):
        if count > self.left:
            raise EOFError
        self.left -= count
        self.last = self.file.read(count)
        return self.last

    def readline(self):
        line = self.file.readline(-1 if self.last in b"SV" else KEY)  # text may be long, a name or a number may not
        self.left -= len(line)
        # In the text of Python 2 pickletools knows ASCII only: escapes pass it closed, and `STEPS` opens them.
        return line.replace(b"\\", b"\\\\") if self.last == b"S" else line


class _Box:
    """A container, array or dtype on the stack. `depth` counts containers in containers, `size` the bytes of what it
    unfolds to, `part` says that it can only be part of a call. It may stand in many others, but nothing is added to
    it (`open`) once it stands in one: so none can contain itself, and depth and size are exact or too large."""

    __slots__ = ("depth", "open", "part", "size", "value")

    def __init__(self, value=None, part=False):
        self.value, self.depth, self.size, self.part, self.open = value, 0, 8, part, True


def _fit(values, kinds):
    return len(values) == len(kinds) and all(map(isinstance, values, kinds))


def _short(name):
    return ascii(name[:100])[1:-1][:100]


def _size(item):
    if isinstance(item, TEXT):
        return 8 + len(item)
    return 8 + (item.itemsize if isinstance(item, np.generic) else item.bit_length() // 8 if type(item) is int else 0)


class _Machine:
    """The stack, the marks and the memo, and what the instructions do to them."""

    def __init__(self, path, size):
        self.path, self.bytes, self.room, self.spent = path, size, ROOM + FACTOR * size, 0
        self.stack, self.marks, self.memo = [], [], {}

    def run(self, file):
        stream = _Stream(file, self.bytes)
        for count, (instruction, argument, _) in enumerate(genops(stream)):
            step = STEPS.get(instruction.name)
            if step is None:
                asked = f"{instruction.name} {argument or ''}".strip()
                self.refuse(f"it uses the instruction {_short(asked)}, and {ONLY}")
            if count > INSTRUCTIONS:
                self.refuse(f"it has more than {INSTRUCTIONS} instructions")
            step(self, argument)
        if stream.left:
            self.refuse(f"{stream.left} bytes follow the end of the pickle")
        if self.marks or len(self.stack) != 1:
            raise ValueError
        return self.gather(_Box(), self.stack)[0]

    def refuse(self, why):
        refuse(self.path, why)

    def spend(self, count):
        self.spent += count
        if self.spent > self.room:
            self.refuse(f"reading its {self.bytes} bytes would take far more memory than they do")

    def push(self, item):
        self.stack.append(item)

    def hold(self, box):
        self.spend(BOX + sys.getsizeof(box.value))
        self.push(box)

    def take(self, count):
        """The topmost items, which leave the stack."""
        if count > len(self.stack):
            raise IndexError
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def items(self):
        """All items above the last mark, which goes with them."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self):
        if len(self.marks) > DEPTH:  # a container that waits for its items has one at most
            self.refuse(f"it nests containers more than {DEPTH} deep")
        self.marks.append(self.stack)
        self.stack = []

    def put(self, index):
        self.spend(MEMO)
        self.memo[index] = self.stack[-1]

    def gather(self, box, items, calls=False):
        """The values of `items`, which go into `box`; parts of calls may not, unless it is one itself."""
        values = []
        for item in items:
            if type(item) is _Box:
                if item.value is None:
                    self.refuse("it uses an array that has got no data")
                item.open = False
                box.depth = max(box.depth, item.depth + 1)
                box.size += item.size
                box.part |= item.part
                item = item.value
            else:
                box.size += _size(item)
                box.part |= type(item) is Known
            values.append(item)
        if box.part and not calls:
            self.refuse("it has a class, a function or a dtype where data belongs")
        if box.depth > DEPTH:
            self.refuse(f"it nests containers more than {DEPTH} deep")
        if box.size > self.room:
            self.refuse(f"what it shares unfolds to far more than its {self.bytes} bytes")
        return values

    def key(self, item):
        large = _size(item) > KEY or (type(item) is int and item.bit_length() > BITS)
        if large or not isinstance(item, KEYS):
            self.refuse(f"a key or an element of a set is not a number of {BITS} bits or a text of {KEY} bytes")
        return item

    def content(self, kind, values):
        """What a container of this kind is made of."""
        if issubclass(kind, dict):
            return zip(map(self.key, values[::2]), values[1::2], strict=True)
        return map(self.key, values) if kind in (set, frozenset) else values

    def make(self, kind, items):
        box = _Box()
        box.value = kind(self.content(kind, self.gather(box, items, calls=kind is tuple)))
        self.hold(box)

    def fill(self, items, *kinds):
        """Put items into the container below them."""
        box = self.stack[-1]
        kind = type(box.value)
        if kind not in kinds:
            raise TypeError
        values = self.content(kind, self.gather(box, items))
        if not box.open:
            self.refuse("it adds to a container that already is a part of another one or of itself")
        (box.value.extend if kind is list else box.value.update)(values)

    def find(self, names):
        if not _fit(names, (str, str)):
            raise TypeError
        if tuple(names) not in GLOBALS:
            self.refuse(f"it asks for the global {_short('.'.join(names))}, and {ONLY}")
        self.push(GLOBALS[tuple(names)])

    def reduce(self):
        marker, box = self.take(2)
        if type(marker) is not Known or type(box) is not _Box or type(box.value) is not tuple:
            self.refuse("it calls what is not a function")
        call, *signatures = CALLS.get(marker, [None])
        made = call(self, *box.value) if any(_fit(box.value, kinds) for kinds in signatures) else None
        if made is None:
            self.refuse(f"it calls {marker.value} with arguments that no plain array or container has")
        if type(made) is not _Box:
            return self.push(made)
        made.depth, made.size = box.depth, box.size
        self.hold(made)

    def build(self):
        box, state = self.take(2)
        if type(box) is not _Box or type(state) is not _Box or type(state.value) is not tuple:
            self.refuse("it sets a state that no plain array has")
        values = state.value
        if isinstance(box.value, np.dtype) and box.open and _fit(values, STATE_OF_DTYPE):
            dtype, (version, order, *_, itemsize, alignment, flags) = box.value, values
            sized = (itemsize, alignment) in ((-1, -1), (dtype.itemsize, dtype.alignment))
            if version == 3 and order in ("<", ">", "|") and sized and flags in FLAGS.get(dtype.kind, (0,)):
                box.value, box.open = dtype.newbyteorder(order), False
                return self.push(box)
        if box.value is None and _fit(values, STATE_OF_ARRAY) and values[0] == 1:
            box.value = self.array(*values[1:3], "F" if values[3] else "C", values[4])
            box.depth, box.size = state.depth, state.size
            return self.push(box)
        self.refuse("it sets a state that no plain array has")

    # ------------------------------------------------------------------ what calls do; None: not with these arguments

    def encode(self, text, encoding="latin-1"):
        """The bytes that were written as text; what is bytes already stays it."""
        if isinstance(text, str):
            self.spend(len(text))
            return text.encode("latin-1") if encoding in LATIN else None
        return text

    def bytearray(self, *values):
        data = self.encode(*values) if values else b""
        self.spend(len(data or b""))
        return None if data is None else bytearray(data)

    def dtype(self, text, align, copy):
        if DTYPE.fullmatch(text) and copy and not align:
            return _Box(np.dtype("O" if text[0] == "O" else text), part=True)

    def reconstruct(self, kind, shape, _):
        return _Box() if kind is Known.NDARRAY and shape == (0,) else None

    def scalar(self, dtype, data):
        self.spend(dtype.itemsize)
        if dtype.kind == "O":
            return None
        return self.array((), dtype, "C", data)[()] if dtype.itemsize else dtype.type()

    def from_buffer(self, data, dtype, shape, order, axes=()):
        array = self.array(shape, dtype, "F" if order == "F" else "C", data)
        if order == "K" and _fit(axes, [int] * len(shape)):
            return _Box(array.transpose(axes))
        return _Box(array) if order in ("C", "F") else None

    def array(self, shape, dtype, order, data):
        """A read-only array over the bytes in `data`, or of the objects in the list `data`."""
        if len(shape) > 32 or not all(type(side) is int and 0 <= side < 2**63 for side in shape):
            self.refuse("it has an array of impossible shape")
        if 0 in (dtype.itemsize, *shape[1:]):
            self.refuse(f"it has an array of type {dtype} and shape {shape}, which has no width")
        objects, promised = dtype.kind == "O", math.prod(shape) * dtype.itemsize
        data = data if objects else self.encode(data)
        held = len(data) * (dtype.itemsize if objects else 1)
        if objects != isinstance(data, list) or promised != held:
            self.refuse(f"an array of shape {shape} promises {promised} bytes of data, the file does not hold them")
        if objects:  # in the order of C whatever their state says: numpy lists them so
            self.spend(held)
            array = np.fromiter(data, dtype, len(data)).reshape(shape)
        else:
            array = np.frombuffer(data, dtype).reshape(shape, order=order)
        if dtype.kind in CEILING:
            code, ceiling = CEILING[dtype.kind]
            if np.frombuffer(data, np.dtype(code).newbyteorder(dtype.byteorder)).max(initial=0) > ceiling:
                self.refuse(f"it has an array of type {dtype} with values that this type has not")
        if not dtype.isnative:  # as numpy does; torch takes no other
            self.spend(promised)
            array = array.astype(dtype.newbyteorder("="))
        array.flags.writeable = False
        return array


# Which arguments the calls in real pickles have, and who answers them.
CALLS = {
    Known.DTYPE: (_Machine.dtype, (str, int, int)),
    Known.RECONSTRUCT: (_Machine.reconstruct, (Known, tuple, (str, bytes))),
    Known.SCALAR: (_Machine.scalar, (np.dtype, (str, bytes))),
    Known.FROM_BUFFER: (_Machine.from_buffer, (BYTES, np.dtype, tuple, str), (BYTES, np.dtype, tuple, str, tuple)),
    Known.ENCODE: (_Machine.encode, (str, str)),
    Known.BYTES: (lambda machine, data=b"": data, (), (bytes,)),
    Known.BYTEARRAY: (_Machine.bytearray, (), (bytes,), (str, str)),
    Known.SET: (lambda machine, items=(): _Box(set(map(machine.key, items))), (), (list,)),
    Known.FROZENSET: (lambda machine, items=(): _Box(frozenset(map(machine.key, items))), (), (list,)),
    Known.ORDERED: (lambda machine, pairs=(): _Box(OrderedDict((machine.key(k), v) for k, v in pairs)), (), (list,)),
}
VALUES = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT NONE UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8
    BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
""".split()  # noqa: SIM905 - a table reads better
STEPS = {
    **dict.fromkeys(VALUES, _Machine.push),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, index: machine.push(machine.memo[index])),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "STRING": lambda machine, escaped: machine.push(codecs.escape_decode(escaped)[0].decode("latin-1")),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.mark(),
    "POP": lambda machine, _: machine.take(1),
    "POP_MARK": lambda machine, _: machine.items(),
    "EMPTY_LIST": lambda machine, _: machine.hold(_Box([])),
    "EMPTY_DICT": lambda machine, _: machine.hold(_Box({})),
    "EMPTY_SET": lambda machine, _: machine.hold(_Box(set())),
    "EMPTY_TUPLE": lambda machine, _: machine.hold(_Box(())),
    "LIST": lambda machine, _: machine.make(list, machine.items()),
    "DICT": lambda machine, _: machine.make(dict, machine.items()),
    "FROZENSET": lambda machine, _: machine.make(frozenset, machine.items()),
    "TUPLE": lambda machine, _: machine.make(tuple, machine.items()),
    "TUPLE1": lambda machine, _: machine.make(tuple, machine.take(1)),
    "TUPLE2": lambda machine, _: machine.make(tuple, machine.take(2)),
    "TUPLE3": lambda machine, _: machine.make(tuple, machine.take(3)),
    "APPEND": lambda machine, _: machine.fill(machine.take(1), list),
    "APPENDS": lambda machine, _: machine.fill(machine.items(), list),
    "SETITEM": lambda machine, _: machine.fill(machine.take(2), dict, OrderedDict),
    "SETITEMS": lambda machine, _: machine.fill(machine.items(), dict, OrderedDict),
    "ADDITEMS": lambda machine, _: machine.fill(machine.items(), set),
    "GLOBAL": lambda machine, names: machine.find(names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.find(machine.take(2)),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
}
