"""The run store: one folder per record, whole or absent. Knows files, nothing of methods or training.

A record is written to a draft folder and renamed with its `done` inside, so a killed process leaves no half record.
Names that begin with a dot are no records: drafts, locks, what was damaged, what failed, what notebooks asked for
(`damage`, `tidying` and `asked` read them).
"""

import hashlib
import json
import os
import shutil
import socket
import uuid
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout

from ..support import paths
from ..support.draws import digest

CORE = ("config.json", "environment.json", "cost.json", "history.npz", "weights.npz")  # what only training gives


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
        draft = self.folder / f".draft-{own_name()}"
        try:
            if file == "scores":
                draft.write_text(json.dumps(content))
            else:
                with draft.open("wb") as stream:
                    np.savez_compressed(stream, **content)
            draft.replace(self.folder / f"{part}.{'json' if file == 'scores' else 'npz'}")
        finally:
            draft.unlink(missing_ok=True)
        self.__dict__.pop(file, None)  # what was read before is out of date

    def _arrays(self, file):
        found = {}
        for part in sorted([*self.folder.glob(f"{file}.npz"), *self.folder.glob(f"{file}-*.npz")]):
            with np.load(part, allow_pickle=False) as arrays:
                found |= dict(arrays)
        return found


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
        return [Record(done.parent) for done in sorted(self.folder.glob("[!.]*/done"))]

    def drafts(self):
        """Folders of records that are being written, or were when their process died."""
        return sorted(self.folder.glob(".draft-*"))

    # --- writing -----------------------------------------------------------------------------------------------------

    @contextmanager
    def claimed(self, keys, wait=False):
        """Whether the records `keys` are this process's to write: of all that share the store one has them at a time,
        until it ends or dies. With `wait` the answer comes when they are free."""
        with ExitStack() as held:
            locks = [self.hidden("locks") / key for key in sorted(keys)]  # in order: two that wait never block
            try:
                for lock in locks:
                    held.enter_context(FileLock(lock).acquire(timeout=-1 if wait else 0))
            except Timeout:
                yield False
                return
            except NotImplementedError:  # a file system without locks: two may do the same work, nothing is lost
                pass
            yield True
            for lock in locks:  # whoever waits for a lock asks again whether the record is there
                with suppress(OSError):
                    lock.unlink()

    @contextmanager
    def writing(self, key):
        """A folder to write a record into; it appears under its key, complete, when the block ends."""
        draft = self.folder / f".draft-{own_name()}"
        draft.mkdir(parents=True)
        try:
            yield draft
            (draft / "done").write_text(json.dumps({file.name: sha256(file) for file in draft.iterdir()}))
            self._place(draft, self.folder / key)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _place(self, draft, target):
        """Rename a finished draft. Where another process was faster its record, with the same numbers, stays; a folder
        without `done` is no record and makes room."""
        try:
            draft.rename(target)
        except OSError:
            if not target.exists():  # nobody was faster: the disk is full, or worse
                raise
            if not (target / "done").exists():
                aside = target.rename(self.folder / f".draft-{own_name()}")
                draft.rename(target)
                shutil.rmtree(aside, ignore_errors=True)

    def hidden(self, name):
        """A folder beside the records, made where it is not there."""
        folder = self.folder / f".{name}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def obstacle(self):
        """Why nothing can be written here, as the system says it, or None."""
        try:
            probe = self.hidden("locks") / f"probe-{own_name()}"
            probe.write_bytes(bytes(4096))  # an empty file fits on a full disk
            probe.unlink()
        except OSError as error:
            return error.strerror
        return None

    # --- what failed -------------------------------------------------------------------------------------------------

    def fail(self, key, report):
        """Remember what went wrong with an experiment, until it is `pardoned`."""
        with suppress(OSError):  # a full disk is one of the things that go wrong
            (self.hidden("failed") / key).write_text(report)

    def pardon(self, key):
        """Forget what went wrong with an experiment."""
        with suppress(OSError):
            (self.folder / ".failed" / key).unlink()

    def failed(self):
        """key -> report of the experiments that failed last time."""
        return {file.name: file.read_text() for file in sorted(self.folder.glob(".failed/*"))}


def sha256(file):
    """The digest of a file, as a record's `done` holds it."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _merged(parts):
    """Scores of several parts as one: condition -> mask and metrics."""
    found = {}
    for part in parts:
        for condition, said in part.items():
            held = found.setdefault(condition, {"mask": said["mask"], "metrics": {}})
            held["metrics"] |= said["metrics"]
    return found


def own_name():
    """A name for a draft that nobody else takes: random-process-machine."""
    return f"{uuid.uuid4().hex[:12]}-{os.getpid()}-{socket.gethostname()}"
