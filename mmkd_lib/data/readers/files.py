"""Files of the field's families, known or not: recognise, read, describe, convert. Refusals are one sentence."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...support.errors import BadInput, one_of
from .. import known
from ..benchmark import PARTS
from ..missing import MODALITIES
from ..synthetic import worlds
from . import csd, gcnet, mmin, mmsa, mult, plain, tuples, unpickling
from .arrays import refuse, sha256
from .contents import Contents, benchmark

PICKLES = {"mmsa": mmsa, "mult": mult, "gcnet": gcnet, "tuples": tuples}  # reader -> module, told by what they hold
FOLDERS = {"mmin": mmin, "csd": csd, "gcnet": gcnet}  # told by what lies in them
FAMILIES = {"plain": plain, "mmsa": mmsa, "mult": mult, "gcnet": gcnet, "mmin": mmin, "csd": csd, "tuples": tuples}


def read(path, use=None):
    """Read a file, or the folder of a family, into a Benchmark, or refuse it. `use`: modality -> folder or file of a
    family that may hold several for it."""
    path = Path(path)
    reader, contents = _contents(path, use or {})
    found = benchmark(path, contents, reader, fingerprint(path, use))
    return replace(found, mask_key=str(contents.meta.get("converted from", found.mask_key)))  # the same masks for both


def find(name):
    """The first of the places of a benchmark where a file, or a folder of a known family, lies; or None."""
    return next((place for place in known.places(name) if place.is_file() or is_family(place)), None)


def is_family(folder):
    """Whether a folder is one that a reader knows."""
    return folder.is_dir() and any(module.recognises_folder(folder) for module in FOLDERS.values())


def fingerprint(path, use=None):
    """Names what is read from a path: the beginning of its `digest`, and of the choice among its files, if any."""
    choice = hashlib.sha256(repr(sorted(use.items())).encode()).hexdigest()[:8] if use else ""
    return digest(path)[:16] + choice


def digest(path):
    """SHA-256 of a file; where more than one belongs together, of their sorted names and digests."""
    path = Path(path)
    together = sources(path)
    if together == [path]:
        return sha256(path)
    base = path if path.is_dir() else path.parent
    lines = [f"{file.relative_to(base).as_posix()} {sha256(file)}" for file in together]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def sources(path):
    """All files that belong to a path: itself, or those of its folder; to a label pickle, the features beside it. Links
    are followed, as the readers do; hidden files are nobody's data."""
    roots = [path.parent] if path.suffix == ".csd" else [path]
    if path.is_file() and path.suffix not in (".npz", ".csd") and (path.parent / "features").is_dir():
        roots.append(path.parent / "features")
    inside = [_below(root) if root.is_dir() else [root] for root in roots]
    return [file for found in inside for file in found if file.is_file()]


def _below(folder):
    walked = os.walk(folder, followlinks=True)
    return sorted(Path(where, name) for where, _, names in walked for name in names if not name.startswith("."))


def _contents(path, use):
    """(reader, Contents) of what lies at a path."""
    for m in use:
        one_of("modality", m, MODALITIES)
    if path.suffix == ".npz":
        return "plain", plain.contents(path, use)
    if path.suffix == ".csd":
        path = path.parent
    if path.is_dir():
        for reader, module in FOLDERS.items():
            if module.recognises_folder(path):
                return reader, module.contents_of_folder(path, use)
        refuse(path, f"it is a folder of no known family: {'; '.join(module.LAYOUT for module in FOLDERS.values())}")
    if not path.is_file():
        refuse(path, "there is no such file")
    tree = unpickling.load(path)
    for reader, module in PICKLES.items():
        if module.recognises(tree):
            return reader, module.contents(path, tree, use)
    refuse(path, f"its pickle is of no known family: {_outline(tree)}")


def _outline(tree):
    """What a pickle holds, in a few words."""
    if isinstance(tree, dict):
        return f"a dict of {', '.join(repr(key)[:30] for key in list(tree)[:8]) or 'nothing'}"
    return f"a {type(tree).__name__}" + (f" of {len(tree)}" if isinstance(tree, list | tuple) else "")


def describe(path, use=None):
    """Lines that say what a file holds; refuses what `read` refuses."""
    path = Path(path)
    data = read(path, use)
    y, batch = data.batch.y.numpy(), data.batch
    sizes = [int((data.split == part).sum()) for part in PARTS]
    yield f"file        {path.name} ({FAMILIES[data.reader].NAME}), SHA-256 {digest(path)}"
    yield f"task        {data.task}{': ' + ', '.join(data.classes) if data.classes else ''}"
    yield f"utterances  {len(y)}: " + ", ".join(f"{part} {n}" for part, n in zip(PARTS, sizes, strict=True))
    if usual := next((k.title for k in known.KNOWN.values() if k.split == tuple(sizes)), None):
        yield f"split       of the size that the field uses for {usual}"
    if data.roles is not None:
        tested = ", ".join(f"{k}: {len(data.rows('test', k))}" for k in data.folds)
        yield f"folds       {len(data.folds)}, tested utterances {tested}"
    for m in MODALITIES:
        found = data.findings[m]
        if m not in batch.x:
            yield f"modality {m}  absent for every utterance"
            continue
        yield (
            f"modality {m}  {found['width']} columns, up to {found['longest']} frames "
            f"(mean {found['mean length']:.1f}), absent {100 * found['absent']:.1f} %, "
            f"all-zero frames {100 * found['all-zero frames']:.1f} %, NaN or inf {found['nan or inf']} (set to zero)"
        )
    if data.task == "regression":
        signs = {"negative": y < 0, "zero": y == 0, "positive": y > 0}
        counts = ", ".join(f"{name} {int(where.sum())}" for name, where in signs.items())
        yield f"labels      {y.min():g} to {y.max():g}, mean {y.mean():.3f}; {counts}"
    else:
        yield "labels      " + ", ".join(f"{c} {(y == i).sum()}" for i, c in enumerate(data.classes))
    for kind, count in data.findings.items():
        if kind not in (*MODALITIES, "notes"):
            yield f"warning     {count} {kind}"
    yield from (f"note        {note}" for note in data.findings["notes"])


def convert(path, out, use=None):
    """Write what lies at `path` as an mmkd-npz/1 file, with the digest of where it came from; returns the Benchmark."""
    path, out = Path(path), _free(out)
    if out.suffix != ".npz":
        refuse(out, "converted files are called NAME.npz")
    reader, contents = _contents(path, use or {})
    checked = benchmark(path, contents, reader, fingerprint(path, use))
    choice = "".join(f", {m} from {name}" for m, name in sorted((use or {}).items()))
    notes = [*checked.findings["notes"], f"converted from {path.name} ({reader}{choice}), SHA-256 {digest(path)}"]
    says = {"name": out.stem, "notes": notes, "converted from": checked.mask_key}
    plain.write(out, contents._replace(meta=contents.meta | says))
    return checked


def _free(out):
    """A path that can be written, or the sentence that says why not."""
    out = Path(out)
    if out.exists():
        refuse(out, "it exists already: remove it, or choose another name")
    if not out.parent.is_dir():
        refuse(out, f"there is no folder {out.parent}")
    if worlds.parse(out.stem) is not None:
        refuse(out, "a generated benchmark has this name, and would be taken instead: choose another one")
    return out


def sample(family, out, stand_in="synthetic-mosi"):
    """Write a tiny file (or folder) in the layout of a family, drawn from a synthetic benchmark, to develop against."""
    out = _free(out)
    if family == "plain" and out.suffix != ".npz":
        refuse(out, "files of this layout are called NAME.npz")
    if worlds.parse(stand_in) is None:
        raise BadInput(f"samples are drawn from synthetic benchmarks, not from {stand_in}: try synthetic-mosi.")
    FAMILIES[one_of("family", family, FAMILIES)].sample(out, _few(worlds.load(stand_in, "smoke", 0)))


def _few(data, counts=(12, 6, 6), in_group=3):
    """The contents of a small part of a synthetic benchmark: some utterances of each part, `in_group` to a video."""
    rows = np.concatenate([data.rows(part)[:count] for part, count in zip(PARTS, counts, strict=True)])
    batch, number = data.batch.take(rows), np.arange(len(rows))
    arrays = {f"x_{m}": batch.x[m].numpy().copy() for m in MODALITIES}
    arrays |= {f"len_{m}": batch.valid[m].sum(1).numpy() for m in MODALITIES}
    group = np.array([f"video{n // in_group:02d}" for n in number])
    ids = np.array([f"{g}_{n % in_group}" for g, n in zip(group, number, strict=True)])
    arrays |= {"y": batch.y.numpy().copy(), "id": ids, "group": group, "split": data.split[rows]}
    says = {"classes": [*data.classes]} if data.classes else {"score_range": [-3, 3]}
    return Contents(arrays, {"task": data.task, **says, "notes": [f"drawn from {data.name}: generated data"]})
