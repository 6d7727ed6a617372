"""The run store: one folder per record, whole or absent. Knows files, nothing of methods or training.

A record is written to a draft folder and renamed with its `done` inside, so a killed process leaves no half record.
Below the store lies what the repository ships: records without weights and predictions, read-only.
"""

import json
import os
import shutil
import socket
import uuid
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from . import paths
from .draws import digest


class Record:
    """What an experiment left behind; files are read when they are asked for."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.key = self.folder.name

    @cached_property
    def config(self):
        """Everything that decided the numbers."""
        return json.loads((self.folder / "config.json").read_text())

    @cached_property
    def environment(self):
        """Versions and machine, and under `data` what the benchmark is: task, classes, measured_on."""
        return json.loads((self.folder / "environment.json").read_text())

    @cached_property
    def cost(self):
        """Parameters, steps, seconds, memory of the training."""
        return json.loads((self.folder / "cost.json").read_text())

    @cached_property
    def history(self):
        """`terms/NAME` by epoch, `look` and `value` by look, `best_epoch`."""
        return self._arrays("history")

    @cached_property
    def scores(self):
        """condition -> `mask` (hash) and `metrics` (name -> per cent; `silhouette` from -1 to 1)."""
        return _merged(json.loads(part.read_text()) for part in sorted(self.folder.glob("scores-*.json")))

    @cached_property
    def predictions(self):
        """`y`, `rows`, and per condition C: `logits/C`, `prediction/C`."""
        return self._arrays("predictions")

    def embeddings(self):
        """Representations of some test utterances: condition -> (n, D) float16, `rows` (n,) among the test utterances
        and their labels `y`."""
        return self._arrays("embeddings")

    def weights(self):
        """The state dict of the kept epoch."""
        return {name: torch.from_numpy(array) for name, array in self._arrays("weights").items()}

    def lacks(self, conditions, embeddings):
        """Those of the conditions without scores, and those whose representations were not looked at."""
        seen = [c for c, said in self.scores.items() if "silhouette" in said["metrics"]]
        return [c for c in conditions if c not in self.scores], [c for c in embeddings if c not in seen]

    def add(self, file, content):
        """Add arrays, or `scores`, as a part of their own: processes that add at the same time lose nothing."""
        names = [f"{c}/{m}" for c in content for m in content[c]["metrics"]] if file == "scores" else content
        part = f"{file}-{digest(*sorted(names)):032x}"[: len(file) + 9]
        draft = self.folder / f".draft-{_mine()}"
        if file == "scores":
            draft.write_text(json.dumps(content))
        else:
            with draft.open("wb") as stream:
                np.savez_compressed(stream, **content)
        draft.replace(self.folder / f"{part}.{'json' if file == 'scores' else 'npz'}")
        self.__dict__.pop(file, None)  # what was read before is out of date

    def _parts(self, file):
        return sorted([*self.folder.glob(f"{file}.npz"), *self.folder.glob(f"{file}-*.npz")])

    def _arrays(self, file):
        found = {}
        for part in self._parts(file):
            with np.load(part, allow_pickle=False) as arrays:
                found |= dict(arrays)
        return found


class Shipped:
    """A record that came with the repository: what tables, figures and claims read, and no more. Read-only."""

    def __init__(self, key, line, arrays):
        self.key, self._arrays = key, arrays
        self.config, self.environment, self.cost = line["config"], line["environment"], line["cost"]
        self.scores = line["scores"]
        self.history = {name: np.array(values) for name, values in line["history"].items()}

    def embeddings(self):
        """As `Record.embeddings`; they are shipped for the first seed only."""
        return {name.partition("/")[2]: self._arrays[name] for name in self._arrays if name.startswith(f"{self.key}/")}

    lacks = Record.lacks


class Store:
    """Records by key; a folder counts when its `done` is there. `shipped`: key -> record of the layer below."""

    def __init__(self, folder=None, shipped=()):
        self.folder, self.shipped = Path(folder or paths.store_folder()), dict(shipped)

    def holds(self, key):
        return (self.folder / key / "done").exists()

    def record(self, key):
        return Record(self.folder / key)

    def find(self, key):
        """The record of a key, one's own before a shipped one, or None."""
        return self.record(key) if self.holds(key) else self.shipped.get(key)

    def records(self):
        return [Record(done.parent) for done in sorted(self.folder.glob("*/done"))]

    def drafts(self):
        """Folders of records that are being written, or were when their process died."""
        return sorted(self.folder.glob(".draft-*"))

    @contextmanager
    def writing(self, key):
        """A folder to write a record into; it appears under its key, complete, when the block ends."""
        draft = self.folder / f".draft-{_mine()}"
        draft.mkdir(parents=True)
        try:
            yield draft
            (draft / "done").touch()
            self._place(draft, self.folder / key)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _place(self, draft, target):
        """Rename a finished draft. Where another process was faster its record, with the same numbers, stays; a folder
        without `done` is no record and makes room."""
        try:
            draft.rename(target)
        except OSError:
            if not (target / "done").exists():
                aside = target.rename(self.folder / f".draft-{_mine()}")
                draft.rename(target)
                shutil.rmtree(aside, ignore_errors=True)

    def sweep(self):
        """Remove the drafts that killed processes of this machine left."""
        for draft in [*self.drafts(), *self.folder.glob("*/.draft-*")]:
            _, _, process, machine = draft.name.split("-", 3)
            if machine == socket.gethostname() and not _alive(int(process)):
                draft.unlink() if draft.is_file() else shutil.rmtree(draft, ignore_errors=True)


def the_store(shipped=True):
    """The run store of the project, on top of what the repository ships."""
    below = read_shipped(paths.records_folder()) if shipped else ()
    return Store(shipped=below)


def read_shipped(folder, without=""):
    """key -> Shipped, of all papers but one: in <paper>/, records.jsonl has a line a record, embeddings.npz arrays."""
    found = {}
    for file in sorted(folder.glob("*/records.jsonl")):
        if file.parent.name == without:
            continue
        with np.load(file.with_name("embeddings.npz"), allow_pickle=False) as arrays:
            held = dict(arrays)
        lines = (json.loads(line) for line in file.read_text().splitlines())
        found |= {line["key"]: Shipped(line["key"], line, held) for line in lines}
    return found


def ship(records, folder):
    """Write `records` for shipping, representations of the first seed only; returns the bytes written."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, arrays = [], {}
    first = min(record.config["seed"] for record in records)
    for record in sorted(records, key=lambda r: r.key):
        history = {name: _short(values) for name, values in record.history.items()}
        parts = {part: getattr(record, part) for part in ("config", "environment", "cost", "scores")}
        lines.append(json.dumps({"key": record.key, "history": history} | parts))
        if record.config["seed"] == first:
            arrays |= {f"{record.key}/{name}": array for name, array in record.embeddings().items()}
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n")
    np.savez_compressed(folder / "embeddings.npz", **arrays)
    return sum(file.stat().st_size for file in folder.iterdir())


def _short(values):
    """An array of a history as numbers of six digits; a scalar stays one."""
    rounded = np.array([float(f"{value:.6g}") for value in values.ravel()])
    return rounded.reshape(values.shape).tolist()


def _merged(parts):
    """Scores of several parts as one: condition -> mask and metrics."""
    found = {}
    for part in parts:
        for condition, said in part.items():
            held = found.setdefault(condition, {"mask": said["mask"], "metrics": {}})
            held["metrics"] |= said["metrics"]
    return found


def _mine():
    """A name for a draft that nobody else takes: random-process-machine."""
    return f"{uuid.uuid4().hex[:12]}-{os.getpid()}-{socket.gethostname()}"


def _alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
