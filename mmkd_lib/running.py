"""run(): train and evaluate what the store lacks, teachers first, in parallel, losing nothing that is finished."""

import json
import platform
import traceback
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby

import joblib
import numpy as np
import torch
from tqdm import tqdm

from . import metrics
from .devices import CLASSES
from .evaluation import outputs
from .experiments import THREADS
from .group import Group
from .missing import FIXED_SUBSETS, MODALITIES, Condition, available, frozen_mask
from .stack import Stack
from .store import Store, the_store
from .training import fit

EMBEDDED = 100  # utterances of a group whose representations are kept: as many as the figures of the papers show


class RunsFailed(RuntimeError):
    """Some experiments failed; the others are in the store."""


def run(experiments, conditions=FIXED_SUBSETS, embeddings=(), jobs=1, device="cpu", store=None):
    """Records of `experiments`, in order, training only what the store does not hold.

    `conditions`: what scores are wanted under (those that the data cannot show are left out); `embeddings`: the
    conditions under which representations are kept too. Neither is part of a key: a record that lacks one is evaluated
    from its weights, not trained again. A shipped record serves as it is, whatever device it was trained on; it has no
    weights, so one that does not suffice is trained here. On the CPU each training is a process with one thread,
    `jobs` at a time; on a GPU the seeds of an experiment are stacked and train as one.
    """
    store = the_store() if store is None else store
    store.sweep()
    job = Job(experiments, _checked(experiments, conditions, embeddings), embeddings, device, store)
    to_train = job.to_train()
    forecast = _forecast(to_train, len(job.conditions), jobs, device)
    stored = len(job.keys) - len(to_train)
    print(f"{len(job.keys)} runs: {stored} from store, {len(to_train)} to train{forecast}", flush=True)
    todo = to_train + job.to_evaluate()
    failures = []
    for stage in ([e for e in todo if not e.teacher], [e for e in todo if e.teacher]):
        groups = _stacks(stage) if device == "cuda" else [[e] for e in stage]
        tasks = [[(e, job.keys[e], *job.asked(e)) for e in group] for group in groups]
        calls = [joblib.delayed(_work)(group, device, store.folder) for group in tasks]
        results = joblib.Parallel(n_jobs=max(1, min(jobs, len(calls))), return_as="generator_unordered")(calls)
        progress = tqdm(results, total=len(calls), disable=not calls, unit="run", mininterval=5)
        failures += [failure for failure in progress if failure]
    if failures:
        raise RunsFailed(f"{len(failures)} of {len(todo)} runs failed, the others are kept:\n\n" + "\n".join(failures))
    records = [job.record(e) for e in experiments]
    for e, record in zip(experiments, records, strict=True):
        if record is None:
            raise RunsFailed(f"{e.label} lost scores that were just made: {store.folder} was changed from outside.")
    return records


def _checked(experiments, conditions, embeddings):
    """The conditions that scores are wanted under, representations included; refuses what nobody can parse."""
    everything = tuple(dict.fromkeys(MODALITIES + tuple(m for e in experiments for m in e.modalities)))
    wanted = tuple(dict.fromkeys((*conditions, *embeddings)))
    for condition in wanted:
        Condition.parse(condition, everything)
    return wanted


class Job:
    """What is wanted of which experiments (teachers included, first), and who already answers it."""

    def __init__(self, experiments, conditions, embeddings, device, store):
        self.experiments, self.conditions, self.embeddings = set(experiments), conditions, embeddings
        self.device, self.store = device, store
        wanted = dict.fromkeys([e.teacher for e in experiments if e.teacher] + list(experiments))
        self.keys = {e: e.key(device) for e in wanted}

    def asked(self, experiment):
        """The conditions and representations that are wanted of one experiment; of a mere teacher, none."""
        if experiment not in self.experiments:
            return (), ()
        return tuple(available(names, experiment.modalities) for names in (self.conditions, self.embeddings))

    def record(self, experiment):
        """The record that answers all that is asked, one's own before a shipped one; None."""
        own = [self.store.record(self.keys[experiment])] if self._own(experiment) else []
        shipped = [self.store.shipped.get(experiment.key(device)) for device in (self.device, *CLASSES)]
        return next((r for r in own + shipped if r and not any(r.lacks(*self.asked(experiment)))), None)

    def to_train(self):
        """Experiments without a record that serves; a student that is trained needs its teacher's weights."""
        students = [e for e in self.keys if not self._own(e) and not self.record(e)]
        teachers = [e.teacher for e in students if e.teacher and not self._own(e.teacher)]
        return list(dict.fromkeys(teachers + students))

    def to_evaluate(self):
        """Experiments with weights of one's own that were not yet tested under all that is asked."""
        return [e for e in self.keys if self._own(e) and not self.record(e)]

    def _own(self, experiment):
        return self.store.holds(self.keys[experiment])


def estimate(experiments, conditions, device="cpu", steps=4):
    """Seconds that training and testing under so many conditions takes one process, from a few steps of each kind."""
    total = 0.0
    for kind in _stacks(experiments, whatever_fold=True):
        first, settings = kind[0], kind[0].settings
        group = Group([replace(first, settings=replace(settings, epochs=1, looks=1))], device)
        ready = group.ready()
        ready["train_rows"] = ready["train_rows"][:, : steps * settings.batch]
        cost = fit(**ready).cost
        all_steps = max(1, group.rows("train").shape[1] // settings.batch) * settings.epochs
        step = (cost["seconds"] - cost["seconds of looking"]) / cost["steps"]
        look = cost["seconds of looking"] * min(settings.looks, settings.epochs)
        looked_at = len(group.looked_at()) * group.rows("valid").shape[1]
        test = cost["seconds of looking"] * conditions * group.rows("test").shape[1] / looked_at
        total += (step * all_steps + look + test) * len(kind)
    return total


def _forecast(missing, conditions, jobs, device):
    """The end of run()'s sentence: how long it takes, where anything is to train."""
    if not missing:
        return ""
    with _one_thread():
        minutes = estimate(missing, conditions, device) / min(jobs, len(missing)) / 60
    return f", about {minutes:.0f} min" if minutes >= 2 else f", about {60 * minutes:.0f} s"


@contextmanager
def _one_thread():
    """Trainings run with a fixed number of threads: the order of their sums depends on it."""
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


def _work(tasks, device, folder):
    """Train and evaluate one group in this process; returns None or a report of what went wrong.

    tasks: (experiment, key, conditions, embeddings) of experiments that differ in their seed only.
    """
    store, first = Store(folder), tasks[0][0]
    try:
        if any(e.key(device) != key for e, key, *_ in tasks):
            raise RuntimeError("the library or the data changed since this run began: start it again")
        with _one_thread():
            if missing := [e for e, key, *_ in tasks if not store.holds(key)]:
                _train(missing, device, store)
            for e, key, *asked in tasks:
                _evaluate(e, store.record(key), *asked, device)
    except Exception:  # reported at the end, with the others finished
        return f"{first.label}\n{json.dumps(first.config(device))}\n{traceback.format_exc()}"
    return None


def _train(experiments, device, store):
    """Train experiments that differ in their seed only, as one stack, and write their records."""
    teachers = [store.record(e.teacher.key(device)).weights() for e in experiments if e.teacher]
    group = Group(experiments, device)
    fitted = group.fit(teachers)
    for e, data, weights, history in zip(experiments, group.data, fitted.weights, fitted.history, strict=True):
        with store.writing(e.key(device)) as folder:
            y = data.batch.y.numpy()[data.rows("test", e.fold)]
            texts = {"config": e.config(device), "cost": fitted.cost, "environment": _environment(data, y)}
            for name, content in texts.items():
                (folder / f"{name}.json").write_text(json.dumps(content, indent=1))
            np.savez(folder / "weights.npz", **{n: t.cpu().numpy() for n, t in weights.items()})
            np.savez(folder / "history.npz", **history)


def _evaluate(experiment, record, conditions, embeddings, device):
    """Add what is lacking to a record, from its weights."""
    unsaid, unseen = record.lacks(conditions, embeddings)
    if not unsaid and not unseen:
        return
    group = Group([experiment], device)
    module, data = group.build(experiment), group.data[0]
    module.load_state_dict(record.weights())
    stack, rows, numbers = Stack([module]), group.rows("test"), data.rows("test", experiment.fold)
    if unsaid:
        logits = outputs(stack, group.pool, rows, group.masks(unsaid, "test"))[0].cpu()  # (C, n, K)
        arrays, scores = {"y": data.batch.y.numpy()[numbers], "rows": numbers}, {}
        for condition, said in zip(unsaid, logits, strict=True):
            prediction = module.prediction(said).numpy()
            arrays |= {f"logits/{condition}": said.numpy(), f"prediction/{condition}": prediction}
            scores[condition] = _scores(data, condition, numbers, prediction)
        record.add("predictions", arrays)
        record.add("scores", scores)
    if unseen:
        found = outputs(stack, group.pool, rows, group.masks(unseen, "test"), "embedding")[0].cpu().numpy()
        y = data.batch.y.numpy()[numbers]
        kept = metrics.sample_per_group(metrics.groups(data.task, y), EMBEDDED)
        shown = {c: points[kept].astype(np.float16) for c, points in zip(unseen, found, strict=True)}
        record.add("embeddings", shown | {"rows": kept, "y": y[kept]})
        record.add("scores", {c: _silhouette(data, c, numbers, points, y[kept]) for c, points in shown.items()})


def _scores(data, condition, rows, prediction):
    """Everything measured of one condition: the scores, agreement with the truth where it is known, and the share of
    existing slots and frames that its mask takes away (per cent)."""
    mask = frozen_mask(condition, data.batch, rows, data.mask_key)
    found = data.score(prediction, rows)
    if data.synthetic:
        found["agreement"] = metrics.agreement(data.task, data.truth[rows], prediction)
    found |= {f"missing_{what}": 100 * share for what, share in mask.realised.items()}
    return {"mask": mask.hash, "metrics": {name: round(float(value), 6) for name, value in found.items()}}


def _silhouette(data, condition, rows, points, y):
    mask = frozen_mask(condition, data.batch, rows, data.mask_key)
    value = metrics.silhouette(points, metrics.groups(data.task, y))
    return {"mask": mask.hash, "metrics": {"silhouette": round(value, 6)}}


def _environment(data, y):
    """What was measured on (with the floor of its test labels y), by which versions, where and when."""
    floor = {name: round(value, 6) for name, value in metrics.floor(data.task, data.classes, y).items()}
    return {
        "data": {"task": data.task, "classes": data.classes, "measured_on": data.measured_on, "floor": floor},
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
