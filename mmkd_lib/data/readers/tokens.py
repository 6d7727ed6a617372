"""Word pieces instead of word vectors: the benchmark NAME-tokens, out of the MMSA pickle of NAME.

Its language has three columns: id, mask and segment of each word piece, as `text_bert` holds them, zero where there is
none. Everything else is as the reader of MMSA reads it: utterances and their order, labels, splits, the other
modalities, what masks are drawn from. They are numbers to look up: train with `settings={"standardise": False}`.
"""

import mmap
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...support.fingerprint import code_fingerprint, known_as
from ..benchmark import PARTS
from . import files, mmsa, unpickling
from .arrays import refuse
from .contents import benchmark
from .splits import has, numbers

SUFFIX = "-tokens"
KEY = "text_bert"
LONGEST = 512  # word pieces that BERT reads at a time
LARGEST = 2**24  # whole numbers below are exact in float32
# Modules that stand in an experiment's code already, as the reader's.
READER = ("readers.files", "readers.unpickling", "benchmark", "readers.contents", "readers.mmsa", "readers.splits")


def offered(path):
    """Whether a file may hold word pieces: a pickle in whose bytes their key stands. Cheap: nothing is unpickled."""
    if not path.is_file() or path.suffix in (".npz", ".csd") or not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        return held.find(KEY.encode()) >= 0


def read(path):
    """The Benchmark of an MMSA pickle with word pieces as its language; refuses a file without any."""
    path = Path(path)
    tree = unpickling.load(path)
    if not mmsa.recognises(tree):
        refuse(path, "it is no file of MMSA, and word pieces are read from those only")
    contents = mmsa.contents(path, tree, {})
    if not has(path, tree, KEY):
        refuse(path, f"it holds no {KEY!r}, so no word pieces")
    x = _pieces(path, tree, contents.arrays["split"])
    length = x[..., 1].sum(1).astype(int)
    if not length.any():
        refuse(path, f"the masks of its {KEY!r} show no word piece")
    notes = [*contents.meta["notes"], f"language is {KEY}: id, mask and segment of every word piece"]
    contents = contents._replace(
        arrays=contents.arrays | {"x_l": x, "len_l": length}, meta=contents.meta | {"notes": notes}
    )
    found = benchmark(path, contents, "mmsa", files.fingerprint(path))  # which also is what masks are drawn from
    return replace(found, fingerprint=fingerprint(path), measured_on=f"{found.measured_on}; language as word pieces")


def fingerprint(path):
    """Names what is read from a path: the file, and the code here, which no reader's name stands for."""
    without = ("support.fingerprint", *(f"data.{name}" for name in READER))
    return f"{files.fingerprint(path)}/tokens/{known_as(code_fingerprint('data.readers.tokens', without=without))}"


def _pieces(path, tree, split):
    """(N, T, 3) ids, masks and segments of the utterances of all parts, zero where the mask is; the masks have been
    checked by the reader."""
    found = [numbers(path, tree, part, KEY, int((split == part).sum()), axes=3) for part in PARTS]
    steps = max(bert.shape[2] for bert in found)
    if steps > LONGEST:
        refuse(path, f"{KEY!r} has {steps} steps, BERT reads at most {LONGEST} word pieces")
    x = np.zeros((len(split), steps, 3), np.float32)
    for part, bert in zip(PARTS, found, strict=True):
        pieces = np.moveaxis(bert, 1, -1)
        shown = np.where(pieces[..., 1:2] == 1, pieces, 0)
        if not ((shown >= 0) & (shown < LARGEST) & (shown == np.floor(shown))).all():
            refuse(path, f"{KEY!r} of {part!r} holds ids or segments that are no whole numbers from 0 to {LARGEST - 1}")
        x[split == part, : bert.shape[2]] = shown
    return x
