"""The run store: one folder per record, whole or absent. Knows files, nothing of methods or training.

A record is written to a draft folder and renamed with its `done` inside, so a killed process leaves no half record.
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
    def predictions(self):
        """`y`, `rows`, and per condition C: `logits/C`, `prediction/C`, `mask/C` (hash), `realised/C`."""
        return self._arrays("predictions")

    def embeddings(self):
        """Representations of the test utterances, condition -> (n, D)."""
        return self._arrays("embeddings")

    def weights(self):
        """The state dict of the kept epoch."""
        return {name: torch.from_numpy(array) for name, array in self._arrays("weights").items()}

    def lacks(self, file, names):
        """Those of the arrays `names` that a file of the record does not hold."""
        held = set()
        for part in self._parts(file):
            with np.load(part, allow_pickle=False) as arrays:
                held |= set(arrays.files)
        return [name for name in names if name not in held]

    def add(self, file, arrays):
        """Add arrays to a file of the record as a part of its own: processes that add at the same time lose nothing."""
        name = f"{file}-{digest(*sorted(arrays)):032x}"[: len(file) + 9] + ".npz"
        draft = self.folder / f".draft-{_mine()}.npz"
        np.savez_compressed(draft, **arrays)
        draft.replace(self.folder / name)
        self.__dict__.pop(file, None)  # what was read before is out of date

    def _parts(self, file):
        return sorted([*self.folder.glob(f"{file}.npz"), *self.folder.glob(f"{file}-*.npz")])

    def _arrays(self, file):
        found = {}
        for part in self._parts(file):
            with np.load(part, allow_pickle=False) as arrays:
                found |= dict(arrays)
        return found


class Store:
    """Records by key; a folder counts when its `done` is there."""

    def __init__(self, folder=None):
        self.folder = Path(folder or paths.store_folder())

    def holds(self, key):
        return (self.folder / key / "done").exists()

    def record(self, key):
        return Record(self.folder / key)

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
            _, _, process, machine = draft.name.removesuffix(".npz").split("-", 3)
            if machine == socket.gethostname() and not _alive(int(process)):
                draft.unlink() if draft.is_file() else shutil.rmtree(draft, ignore_errors=True)


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
