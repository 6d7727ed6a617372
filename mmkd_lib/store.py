"""The run store: one folder per record, whole or absent. Knows files, nothing of methods or training.

A record is written to a draft folder and renamed with its `done` inside, so a killed process leaves no half record.
"""

import json
import os
import shutil
import socket
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from . import paths


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
        path = self.folder / f"{file}.npz"
        if not path.exists():
            return list(names)
        with np.load(path, allow_pickle=False) as arrays:
            return [name for name in names if name not in arrays.files]

    def add(self, file, arrays):
        """Add arrays to a file of the record, in one rename."""
        path = self.folder / f"{file}.npz"
        known = self._arrays(file) if path.exists() else {}
        draft = path.with_name(f".{file}-{os.getpid()}.npz")
        np.savez_compressed(draft, **(known | arrays))
        draft.replace(path)
        self.__dict__.pop(file, None)  # what was read before is out of date

    def _arrays(self, file):
        with np.load(self.folder / f"{file}.npz", allow_pickle=False) as arrays:
            return dict(arrays)


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
        draft = self.folder / f".draft-{key}-{socket.gethostname()}-{os.getpid()}"
        draft.mkdir(parents=True)
        try:
            yield draft
            (draft / "done").touch()
            if not self.holds(key):  # else another process was faster, and its record has the same numbers
                shutil.rmtree(self.folder / key, ignore_errors=True)  # a folder without `done` is no record
                draft.rename(self.folder / key)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def sweep(self):
        """Remove the drafts that killed processes of this machine left."""
        for draft in self.drafts():
            written_by, _, process = draft.name.rpartition("-")
            if written_by.endswith(f"-{socket.gethostname()}") and not _alive(int(process)):
                shutil.rmtree(draft, ignore_errors=True)


def _alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
