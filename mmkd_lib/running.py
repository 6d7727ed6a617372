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

from .evaluation import outputs
from .experiments import THREADS
from .group import Group
from .missing import FIXED_SUBSETS, MODALITIES, Condition, available, frozen_mask
from .stack import Stack
from .store import Store


class RunsFailed(RuntimeError):
    """Some experiments failed; the others are in the store."""


def run(experiments, conditions=FIXED_SUBSETS, embeddings=(), jobs=1, device="cpu", store=None):
    """Records of `experiments`, in order, training only what the store does not hold.

    `conditions`: what predictions are wanted under (those that the data cannot show are left out); `embeddings`: the
    conditions under which representations are kept too. Neither is part of a key: a record that lacks one is evaluated
    from its weights, not trained again. On the CPU each training is a process with one thread, `jobs` at a time; on a
    GPU the seeds of an experiment are stacked and train as one.
    """
    everything = tuple(dict.fromkeys(MODALITIES + tuple(m for e in experiments for m in e.modalities)))
    for condition in (*conditions, *embeddings):
        Condition.parse(condition, everything)
    store = store or Store()
    store.sweep()
    wanted = list(dict.fromkeys([e.teacher for e in experiments if e.teacher] + list(experiments)))
    keys = {e: e.key(device) for e in wanted}
    missing = [e for e in wanted if not store.holds(keys[e])]
    stored, forecast = len(wanted) - len(missing), _forecast(missing, len(conditions), jobs, device)
    print(f"{len(wanted)} runs: {stored} from store, {len(missing)} to train{forecast}", flush=True)
    todo = [
        e for e in wanted if not store.holds(keys[e]) or any(_lacking(e, store.record(keys[e]), conditions, embeddings))
    ]
    failures = []
    for stage in ([e for e in todo if not e.teacher], [e for e in todo if e.teacher]):
        groups = _stacks(stage) if device == "cuda" else [[e] for e in stage]
        calls = [
            joblib.delayed(_work)(group, [keys[e] for e in group], conditions, embeddings, device, store.folder)
            for group in groups
        ]
        results = joblib.Parallel(n_jobs=max(1, min(jobs, len(calls))), return_as="generator_unordered")(calls)
        failures += [
            failure
            for failure in tqdm(results, total=len(calls), disable=not calls, unit="run", mininterval=5)
            if failure
        ]
    if failures:
        raise RunsFailed(f"{len(failures)} of {len(todo)} runs failed, the others are kept:\n\n" + "\n".join(failures))
    records = [store.record(keys[e]) for e in experiments]
    for e, record in zip(experiments, records, strict=True):
        if any(_lacking(e, record, conditions, embeddings)):
            raise RunsFailed(
                f"{e.label} lost predictions that were just made: {record.folder} was changed from outside."
            )
    return records


def estimate(experiments, conditions, device="cpu", steps=4):
    """Seconds that training and testing under so many conditions takes one process, from a few steps of each kind."""
    total = 0.0
    for kind in _stacks(experiments, whatever_fold=True):
        first, settings = kind[0], kind[0].settings
        group = Group([replace(first, settings=replace(settings, epochs=1, looks=1))], device)
        cost = group.fit(None, steps).cost
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


def _work(experiments, keys, conditions, embeddings, device, folder):
    """Train and evaluate one group in this process; returns None or a report of what went wrong."""
    store = Store(folder)
    try:
        if [e.key(device) for e in experiments] != keys:
            raise RuntimeError("the library or the data changed since this run began: start it again")
        with _one_thread():
            if missing := [e for e in experiments if not store.holds(e.key(device))]:
                _train(missing, device, store)
            for e, key in zip(experiments, keys, strict=True):
                _evaluate(e, store.record(key), conditions, embeddings, device)
    except Exception:  # reported at the end, with the others finished
        first = experiments[0]
        return f"{first.label}\n{json.dumps(first.config(device))}\n{traceback.format_exc()}"
    return None


def _train(experiments, device, store):
    """Train experiments that differ in their seed only, as one stack, and write their records."""
    teachers = [store.record(e.teacher.key(device)).weights() for e in experiments if e.teacher]
    group = Group(experiments, device)
    fitted = group.fit(teachers)
    for e, data, weights, history in zip(experiments, group.data, fitted.weights, fitted.history, strict=True):
        with store.writing(e.key(device)) as folder:
            texts = {"config": e.config(device), "cost": fitted.cost, "environment": _environment(data)}
            for name, content in texts.items():
                (folder / f"{name}.json").write_text(json.dumps(content, indent=1))
            np.savez(folder / "weights.npz", **{n: t.cpu().numpy() for n, t in weights.items()})
            np.savez(folder / "history.npz", **history)


def _lacking(experiment, record, conditions, embeddings):
    """(conditions without predictions, conditions without representations) of what is asked for."""
    conditions, embeddings = (available(asked, experiment.modalities) for asked in (conditions, embeddings))
    unsaid = record.lacks("predictions", [f"mask/{c}" for c in conditions])
    return [name.removeprefix("mask/") for name in unsaid], record.lacks("embeddings", embeddings)


def _evaluate(experiment, record, conditions, embeddings, device):
    """Add what is lacking to a record, from its weights."""
    unsaid, unseen = _lacking(experiment, record, conditions, embeddings)
    if not unsaid and not unseen:
        return
    group = Group([experiment], device)
    module, data = group.build(experiment), group.data[0]
    module.load_state_dict(record.weights())
    stack, rows = Stack([module]), group.rows("test")
    if unsaid:
        logits = outputs(stack, group.pool, rows, group.masks(unsaid, "test"))[0].cpu()  # (C, n, K)
        numbers = data.rows("test", experiment.fold)
        arrays = {"y": data.batch.y.numpy()[numbers], "rows": numbers}
        for condition, said in zip(unsaid, logits, strict=True):
            mask = frozen_mask(condition, data.batch, numbers, data.mask_key)
            arrays[f"logits/{condition}"] = said.numpy()
            arrays[f"prediction/{condition}"] = module.prediction(said).numpy()
            arrays[f"mask/{condition}"] = np.array(mask.hash)
            arrays[f"realised/{condition}"] = np.array([mask.realised["slots"], mask.realised["frames"]])
        record.add("predictions", arrays)
    if unseen:
        found = outputs(stack, group.pool, rows, group.masks(unseen, "test"), "embedding")[0].cpu()
        record.add("embeddings", dict(zip(unseen, found.numpy(), strict=True)))


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
