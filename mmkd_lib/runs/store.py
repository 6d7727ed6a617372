"""The run store: one folder per record, whole or absent. Knows files, nothing of methods or training.

A record is written to a draft folder and renamed with its `done` inside, so a killed process leaves no half record.
Names that begin with a dot are no records: drafts, locks, what was damaged, what failed, what notebooks asked for.
"""

import hashlib
import json
import os
import shutil
import socket
import uuid
import zipfile
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout

from ..support import paths
from ..support.draws import digest
from ..support.errors import BadInput
from ..support.fingerprint import config_key

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
        draft = self.folder / f".draft-{_mine()}"
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

    def damage(self):
        """name -> what is wrong with it, for every file that is absent, cut off or not what was written."""
        held = {file.name: file for file in self.folder.glob("[!.]*")}
        wrong = {name: "is missing" for name in CORE if name not in held}
        digests = {} if _wrong(held["done"]) else json.loads(held["done"].read_text() or "{}")
        for name, file in held.items():
            if name not in digests or digests[name] != _sha256(file):
                what = _wrong(file) or ("is not what was written" if name in digests else None)
                wrong |= {name: what} if what else {}
        if "config.json" not in wrong and config_key(self.config) != self.key:
            wrong["config.json"] = "is that of another key"
        tested, seen = (any(file.startswith(what) for file in held) for what in ("predictions-", "embeddings-"))
        if not any(file.startswith("scores-") for file in wrong):
            own = {text: said for text, said in self.scores.items() if " & on=" not in text}  # others leave scores only
            looked_at = {name for said in own.values() for name in said["metrics"]}
            wrong |= {} if tested or looked_at <= {"silhouette"} else {"predictions-*.npz": "is missing"}
            wrong |= {} if seen or "silhouette" not in looked_at else {"embeddings-*.npz": "is missing"}
        return wrong

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

    # --- writing -----------------------------------------------------------------------------------------------------

    @contextmanager
    def claimed(self, keys, wait=False):
        """Whether the records `keys` are this process's to write: of all that share the store one has them at a time,
        until it ends or dies. With `wait` the answer comes when they are free."""
        with ExitStack() as held:
            locks = [self._hidden("locks") / key for key in sorted(keys)]  # in order: two that wait never block
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
        draft = self.folder / f".draft-{_mine()}"
        draft.mkdir(parents=True)
        try:
            yield draft
            (draft / "done").write_text(json.dumps({file.name: _sha256(file) for file in draft.iterdir()}))
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
                aside = target.rename(self.folder / f".draft-{_mine()}")
                draft.rename(target)
                shutil.rmtree(aside, ignore_errors=True)

    def _hidden(self, name):
        """A folder beside the records, made where it is not there."""
        folder = self.folder / f".{name}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def obstacle(self):
        """Why nothing can be written here, as the system says it, or None."""
        try:
            probe = self._hidden("locks") / f"probe-{_mine()}"
            probe.write_bytes(bytes(4096))  # an empty file fits on a full disk
            probe.unlink()
        except OSError as error:
            return error.strerror
        return None

    # --- what went wrong ---------------------------------------------------------------------------------------------

    def drafts(self):
        """Folders of records that are being written, or were when their process died."""
        return sorted(self.folder.glob(".draft-*"))

    def sweep(self):
        """Remove the drafts that killed processes of this machine left."""
        for draft in [*self.drafts(), *self.folder.glob("[!.]*/.draft-*")]:
            _, _, process, machine = [*draft.name.split("-", 3), "", "", ""][:4]
            if machine == socket.gethostname() and process.isdecimal() and not _alive(int(process)):
                _remove(draft)

    def set_damaged_aside(self, keys):
        """Move damaged records out of the way, or all that was made from their weights where the weights are well;
        returns a sentence for each. What another process is writing is left to it."""
        sentences = []
        for record in map(self.record, filter(self.holds, keys)):
            with suppress(FileNotFoundError):  # another process was faster
                if wrong := record.damage():
                    what = f"record {record.key} is damaged ({', '.join(f'{n} {how}' for n, how in wrong.items())})"
                    sentences += self._tidied(record, wrong, what)
        return sentences

    def _tidied(self, record, wrong, what):
        """The sentence on a damaged record, when it is set aside; none where another process has it in hand."""
        try:
            with self.claimed([record.key]) as ours:
                if not ours:
                    return []
                again = "trained" if self._set_aside(record, set(wrong)) else "tested"
        except FileNotFoundError:
            raise
        except OSError as error:
            raise BadInput(f"{what} and {self.folder} cannot be written ({error.strerror}): remove it there.") from None
        return [f"{what}: set aside, {again} anew where needed."]

    def _set_aside(self, record, wrong):
        """True where the whole record had to go."""
        aside = self._hidden("damaged") / f"{record.key}-{_mine()}"
        if wrong & {*CORE, "done"}:
            record.folder.rename(aside)
            return True
        aside.mkdir()
        for part in [file for file in record.folder.glob("[!.]*-*") if file.name not in CORE]:
            part.rename(aside / part.name)
        return False

    def damaged(self):
        """What was set aside."""
        return sorted(self.folder.glob(".damaged/*"))

    def fail(self, key, report):
        """Remember what went wrong with an experiment, until it is `pardoned`."""
        with suppress(OSError):  # a full disk is one of the things that go wrong
            (self._hidden("failed") / key).write_text(report)

    def pardon(self, key):
        """Forget what went wrong with an experiment."""
        with suppress(OSError):
            (self.folder / ".failed" / key).unlink()

    def failed(self):
        """key -> report of the experiments that failed last time."""
        return {file.name: file.read_text() for file in sorted(self.folder.glob(".failed/*"))}

    # --- what notebooks asked for ------------------------------------------------------------------------------------

    def ask(self, name, asked):
        """Remember what an execution of a notebook stands on (content for JSON)."""
        with suppress(OSError):  # a store that can only be read serves all the same
            (self._hidden("asked") / f"{name}.json").write_text(json.dumps(asked, indent=1))

    def asked(self):
        """name -> what each execution asked for."""
        return {file.stem: json.loads(file.read_text()) for file in sorted(self.folder.glob(".asked/*.json"))}

    def size(self, path):
        """Bytes of a record, a draft or something set aside."""
        files = [path] if path.is_file() else path.rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())

    def forget(self, path):
        """Remove a record, a draft or something set aside; returns the bytes that this frees."""
        size = self.size(path)
        with suppress(FileNotFoundError, NotADirectoryError):
            (path / "done").unlink()  # first: what is half removed is no record
        _remove(path)
        return size


def _wrong(file):
    """What is wrong with a file of a record by itself, or None."""
    try:
        if file.suffix == ".json" and not isinstance(json.loads(file.read_text()), dict):
            return "is no record of anything"
        if file.name == "done":
            json.loads(file.read_text() or "{}")
        if file.suffix == ".npz":
            with zipfile.ZipFile(file) as archive:
                if bad := archive.testzip():
                    return f"holds a damaged array {bad}"
    except ValueError:
        return "is cut off or no JSON"
    except Exception:  # on damaged bytes zipfile and its decoders raise a dozen kinds of error
        return "is cut off or no archive"
    return None


def _sha256(file):
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _remove(path):
    with suppress(OSError):
        path.unlink() if path.is_file() else shutil.rmtree(path)


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
