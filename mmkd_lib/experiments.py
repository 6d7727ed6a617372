"""Experiments and the run store: what is trained, under which key it is kept, and run(), which trains what is missing.

An experiment is a method, a benchmark, options, settings and one seed (and fold). Its key is the hash of all that
decides its numbers: the resolved configuration, the data, the code, the device class. A record is written to a
temporary folder and renamed, so that whatever happens the store holds whole records only.
"""

import json
import os
import platform
import shutil
import socket
import traceback
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from pathlib import Path

import joblib
import numpy as np
import torch
from tqdm.auto import tqdm

from . import benchmarks, paths
from .batch import concatenate
from .draws import digest, seed_torch
from .errors import one_of
from .evaluation import outputs
from .fingerprint import code_fingerprint
from .methods import get
from .methods.base import Options
from .missing import available, selection_conditions, subsets, test_mask
from .stack import Stack
from .training import SUPERVISIONS, Examined, Settings, fit

THREADS = 1  # of a training on the CPU: two one-thread processes beat one with two threads
KEPT_SCOPES = {"method": ("network", "views", "loss", "teacher"), "plain": ("network", "views"), "complete": ("network",)}


@dataclass(frozen=True)
class Experiment:
    """One training; `size` is the profile's size of a synthetic benchmark, `fold` a fold of cross-validation."""

    method: str
    benchmark: str
    seed: int
    options: Options
    settings: Settings
    supervision: str = "method"
    size: str = ""
    fold: int | None = None

    def reference(self, supervision):
        """This experiment under another supervision. Options that it does not use go back to their defaults, so that
        variants of a method share their references; complete data is also what its model is chosen on."""
        if supervision == "method":
            return self
        selection = self.settings.selection
        if supervision == "complete":
            selection = getattr(self.options, "teacher_selection", selection)
        return replace(
            self,
            supervision=supervision,
            options=self.options.scoped(*KEPT_SCOPES[supervision]),
            settings=replace(self.settings, selection=selection),
        )

    @property
    def teacher(self):
        """The experiment that trains this one's external teacher, or None: the same network on complete data."""
        if self.supervision == "method" and get(self.method).needs_teacher:
            return self.reference("complete")
        return None

    def config(self, device="cpu"):
        """Everything that decides the numbers of a record."""
        teacher = self.teacher
        return {
            "method": self.method,
            "supervision": self.supervision,
            "benchmark": self.benchmark,
            "size": self.size,
            "fold": self.fold,
            "seed": self.seed,
            "options": asdict(self.options),
            "settings": asdict(self.settings),
            "teacher": teacher.key(device) if teacher else None,
            "data": benchmarks.fingerprint(self.benchmark, self.size or "small"),
            "code": _code(self.method),
            "device": {"class": device, "threads": THREADS if device == "cpu" else None, "dtype": "float32"},
        }

    def key(self, device="cpu"):
        return f"{digest(json.dumps(self.config(device), sort_keys=True)):032x}"[:16]

    @property
    def label(self):
        fold = "" if self.fold is None else f" fold {self.fold}"
        return f"{self.method}/{self.supervision} on {self.benchmark}{fold}, seed {self.seed}"

    def data(self):
        return benchmarks.load(self.benchmark, self.size or "small", self.seed)


def _code(method):
    return code_fingerprint(f"methods.{method}", "training", "evaluation")


def plan(method, benchmark, profile, seeds, supervision="method", options=(), settings=()):
    """The experiments of one row of a table: one per seed, and per fold where the benchmark has folds.

    `options` and `settings` override the method's recipe for the benchmark's family and the profile.
    """
    one_of("supervision", supervision, SUPERVISIONS)
    cls = get(method)
    recipe_options, recipe_settings = cls.recipe(benchmarks.family(benchmark), profile)
    training = recipe_settings | dict(settings)
    for name in training:
        one_of("training setting", name, tuple(spec.name for spec in fields(Settings)))
    synthetic = benchmarks.is_synthetic(benchmark)
    common = {
        "options": cls.Options.of(**(recipe_options | dict(options))),
        "settings": Settings(**training),
        "size": profile if synthetic else "",
    }
    folds = (None,) if synthetic else benchmarks.load(benchmark).folds
    planned = [Experiment(method, benchmark, seed, fold=fold, **common) for seed in seeds for fold in folds]
    return [experiment.reference(supervision) for experiment in planned]


# --- the store -------------------------------------------------------------------------------------------------------


class Record:
    """What an experiment left behind; arrays are read when asked for."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.key = self.folder.name

    @cached_property
    def config(self):
        return json.loads((self.folder / "config.json").read_text())

    @cached_property
    def cost(self):
        return json.loads((self.folder / "cost.json").read_text())

    @cached_property
    def environment(self):
        """Versions and machine, and under `data` what the benchmark is: task, classes, measured_on."""
        return json.loads((self.folder / "environment.json").read_text())

    @cached_property
    def history(self):
        return self._arrays("history")

    def weights(self):
        return {name: torch.from_numpy(array) for name, array in self._arrays("weights").items()}

    @cached_property
    def predictions(self):
        """`y`, `rows`, and per condition C: `logits/C`, `prediction/C`, `mask/C` (hash), `realised/C`."""
        return self._arrays("predictions")

    def embeddings(self):
        """Representations of the test utterances, condition -> (n, D)."""
        return self._arrays("embeddings")

    def has(self, file, names):
        """Whether the arrays `names` are in a file of the record."""
        path = self.folder / f"{file}.npz"
        if not path.exists():
            return not names
        with np.load(path, allow_pickle=False) as arrays:
            return set(names) <= set(arrays.files)

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
    """Records by key, one folder each; a folder counts when its `done` is there."""

    def __init__(self, folder=None):
        self.folder = Path(folder or paths.store_folder())

    def holds(self, key):
        return (self.folder / key / "done").exists()

    def record(self, key):
        return Record(self.folder / key)

    def records(self):
        return [Record(done.parent) for done in sorted(self.folder.glob("*/done"))]

    @contextmanager
    def writing(self, key):
        """A folder to write a record into; it appears under its key, complete, when the block ends."""
        draft = self.folder / f".draft-{key}-{socket.gethostname()}-{os.getpid()}"
        draft.mkdir(parents=True)
        try:
            yield draft
            (draft / "done").touch()
            if self.holds(key):  # another process was faster: its record has the same numbers
                return
            shutil.rmtree(self.folder / key, ignore_errors=True)  # a folder without `done` is no record
            draft.rename(self.folder / key)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def sweep(self):
        """Remove the drafts that killed processes of this machine left; returns how many."""
        swept = 0
        for draft in self.folder.glob(f".draft-*-{socket.gethostname()}-*"):
            if not _alive(int(draft.name.rpartition("-")[2])):
                shutil.rmtree(draft, ignore_errors=True)
                swept += 1
        return swept


def _alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# --- training what is missing ----------------------------------------------------------------------------------------


class RunsFailed(RuntimeError):
    """Some experiments failed; the others are in the store."""


TEST_CONDITIONS = subsets()


def run(experiments, conditions=TEST_CONDITIONS, embeddings=(), jobs=1, device="cpu", store=None, progress=True):
    """Records of `experiments`, in order, training only what the store does not hold; teachers first.

    `conditions`: what predictions are wanted under (those that the data cannot show are left out); `embeddings`: the
    conditions under which representations are kept too. Neither is part of a key: a record that lacks one is evaluated
    from its weights, not trained again. On the CPU each training is a process with one thread, `jobs` at a time; on a
    GPU the seeds of an experiment are stacked and train as one.
    """
    store = store or Store()
    store.sweep()
    wanted = list(dict.fromkeys([e.teacher for e in experiments if e.teacher] + list(experiments)))
    keys = {e: e.key(device) for e in wanted}
    missing = [e for e in wanted if not store.holds(keys[e])]
    print(f"{len(wanted)} runs: {len(wanted) - len(missing)} from store, {len(missing)} to train{_forecast(missing, jobs, device)}", flush=True)
    todo = [e for e in wanted if e in set(missing) or not _evaluated(store.record(keys[e]), e, conditions, embeddings)]
    failures = []
    for stage in ([e for e in todo if not e.teacher], [e for e in todo if e.teacher]):
        groups = _stacks(stage) if device == "cuda" else [[e] for e in stage]
        calls = [joblib.delayed(_work)(group, conditions, embeddings, device, store.folder) for group in groups]
        results = joblib.Parallel(n_jobs=min(jobs, max(len(calls), 1)), return_as="generator_unordered")(calls)
        for failure in tqdm(results, total=len(calls), disable=not (progress and calls), unit="run"):
            failures += [failure] if failure else []
    if failures:
        raise RunsFailed(f"{len(failures)} of {len(todo)} runs failed, the others are kept:\n\n" + "\n".join(failures))
    return [store.record(keys[e]) for e in experiments]


def _forecast(missing, jobs, device):
    """The end of run()'s sentence: how long the training takes, where there is any."""
    if not missing:
        return ""
    with _one_thread():
        minutes = estimate(missing, device) / min(jobs, len(missing)) / 60
    return f", about {minutes:.0f} min" if minutes >= 2 else f", about {60 * minutes:.0f} s"


@contextmanager
def _one_thread():
    """Trainings run with a fixed number of threads: sums depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stacks(experiments, whatever_fold=False):
    """Groups of experiments that differ in their seed only (or in seed and fold)."""
    name = {e: repr(replace(e, seed=0, fold=None if whatever_fold else e.fold)) for e in experiments}
    return [list(group) for _, group in groupby(sorted(experiments, key=name.get), key=name.get)]


def _work(group, conditions, embeddings, device, folder):
    """Train and evaluate one group in this process; returns None or what went wrong."""
    store = Store(folder)
    try:
        with _one_thread():
            if missing := [e for e in group if not store.holds(e.key(device))]:
                _train(missing, device, store)
            for experiment in group:
                _evaluate(experiment, store.record(experiment.key(device)), conditions, embeddings, device)
    except Exception:  # reported at the end, with the others finished
        return f"{group[0].label}\n{json.dumps(group[0].config(device))}\n{traceback.format_exc()}"
    return None


def _train(group, device, store):
    """Train experiments that differ in their seed only, as one stack, and write their records."""
    teachers = [store.record(e.teacher.key(device)).weights() for e in group] if group[0].teacher else None
    fitted = _fit(group, device, teachers)
    for e, weights, history in zip(group, fitted.weights, fitted.history, strict=True):
        with store.writing(e.key(device)) as folder:
            (folder / "config.json").write_text(json.dumps(e.config(device), indent=1))
            (folder / "cost.json").write_text(json.dumps(fitted.cost, indent=1))
            (folder / "environment.json").write_text(json.dumps(_environment(e.data()), indent=1))
            np.savez(folder / "weights.npz", **{n: t.cpu().numpy() for n, t in weights.items()})
            np.savez(folder / "history.npz", **history)


def _fit(group, device, teacher_weights, steps=None):
    """Fit a group as one stack; `steps` cuts the training part to so many batches (for `estimate`)."""
    first, seeds = group[0], [e.seed for e in group]
    data = [e.data() for e in group]
    pool, offsets = _pool(group, data, device)
    part = "test" if first.settings.selection == "oracle-test" else "valid"
    names = data[0].batch.modalities
    looked_at = ("+".join(names),) if first.supervision == "complete" else selection_conditions(names)
    examined = Examined(
        _rows(group, data, offsets, part, device), [_masks(c, group, data, part, device) for c in looked_at]
    )
    methods = [_build(e, d).to(device) for e, d in zip(group, data, strict=True)]
    teachers = None
    if first.teacher:
        teachers = [_build(e.teacher, d).to(device) for e, d in zip(group, data, strict=True)]
        for module, weights in zip(teachers, teacher_weights or [], strict=bool(teacher_weights)):
            module.load_state_dict(weights)
    train = _rows(group, data, offsets, "train", device)
    train = train if steps is None else train[:, : steps * first.settings.batch]
    seed_torch("dropout", *seeds)
    return fit(methods, pool, train, examined, first.settings, seeds, first.supervision, teachers)


def estimate(experiments, device="cpu", steps=4):
    """Seconds that training these experiments takes one process, from a few steps of one of each kind."""
    total = 0.0
    for group in _stacks(experiments, whatever_fold=True):
        first = group[0]
        short = replace(first, settings=replace(first.settings, epochs=1, looks=1))
        cost = _fit([short], device, None, steps).cost
        rows, settings = len(first.data().rows("train", first.fold)), first.settings
        all_steps = max(1, rows // settings.batch) * settings.epochs
        step = (cost["seconds"] - cost["seconds of looking"]) / cost["steps"]
        one = step * all_steps + cost["seconds of looking"] * min(settings.looks, settings.epochs)
        total += one * len(group)
    return total


def _evaluated(record, experiment, conditions, embeddings):
    """Whether a record has the predictions and representations that are asked for."""
    modalities = experiment.data().batch.modalities
    asked = [f"logits/{c}" for c in available(conditions, modalities)]
    return record.has("predictions", asked) and record.has("embeddings", available(embeddings, modalities))


def _evaluate(experiment, record, conditions, embeddings, device):
    """Add what `_evaluated` misses, from the weights of the record."""
    data = experiment.data()
    modalities = data.batch.modalities
    asked = [c for c in available(conditions, modalities) if not record.has("predictions", [f"logits/{c}"])]
    shown = [c for c in available(embeddings, modalities) if not record.has("embeddings", [c])]
    if not asked and not shown:
        return
    pool, offsets = _pool([experiment], [data], device)
    rows = _rows([experiment], [data], offsets, "test", device)
    module = _build(experiment, data)
    module.load_state_dict(record.weights())
    stack, numbers = Stack([module.to(device)]), data.rows("test", experiment.fold)
    if asked:
        masks = [_masks(c, [experiment], [data], "test", device) for c in asked]
        logits = outputs(stack, pool, rows, masks)[0].cpu()  # (C, n, K)
        arrays = {"y": data.batch.y.numpy()[numbers], "rows": numbers}
        for condition, said in zip(asked, logits, strict=True):
            mask = test_mask(condition, data.batch, numbers, data.fingerprint)
            arrays[f"logits/{condition}"] = said.numpy()
            arrays[f"prediction/{condition}"] = module.prediction(said).numpy()
            arrays[f"mask/{condition}"] = np.array(mask.hash)
            arrays[f"realised/{condition}"] = np.array([mask.realised["slots"], mask.realised["frames"]])
        record.add("predictions", arrays)
    if shown:
        masks = [_masks(c, [experiment], [data], "test", device) for c in shown]
        found = outputs(stack, pool, rows, masks, "embedding")[0].cpu()
        record.add("embeddings", dict(zip(shown, found.numpy(), strict=True)))


def _pool(group, data, device):
    """All utterances of a group on the device, and where each seed's begin; one copy where seeds share their data."""
    prepared = [
        d.standardised(d.rows("train", e.fold)) if e.settings.standardise else d.batch
        for e, d in list(zip(group, data, strict=True))[: len({id(d) for d in data})]
    ]
    shared = len(prepared) < len(group)
    offsets = [0 if shared else i * len(prepared[0].y) for i in range(len(group))]
    return concatenate(prepared).to(device) if len(prepared) > 1 else prepared[0].to(device), offsets


def _rows(group, data, offsets, part, device):
    """Indices into the pool, (S, n)."""
    rows = [d.rows(part, e.fold) + offset for e, d, offset in zip(group, data, offsets, strict=True)]
    return torch.from_numpy(np.stack(rows)).to(device)


def _masks(condition, group, data, part, device):
    """The frozen mask of a condition for each seed: m -> (S, n, T_m)."""
    masks = [
        test_mask(condition, d.batch, d.rows(part, e.fold), d.fingerprint).frames
        for e, d in zip(group, data, strict=True)
    ]
    return {m: torch.stack([mask[m] for mask in masks]).to(device) for m in masks[0]}


def _build(experiment, data):
    """The method with its initial weights: equal for all supervisions of a seed but the complete one, so that
    comparisons are paired and a teacher is another network."""
    role = "teacher" if experiment.supervision == "complete" else "student"
    seed_torch("weights", experiment.seed, role)
    return get(experiment.method)(data.shape, experiment.options)


def _environment(data):
    return {
        "data": {"task": data.task, "classes": data.classes, "measured_on": data.measured_on},
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
