"""The engine around training: evaluation, data, the run store, workers, notebooks. Any method would do."""

import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from ..data.batch import Batch
from ..data.benchmarks import PARTS
from ..data.missing import FIXED_SUBSETS, FRAME_CURVE
from ..data.readers.splits import KEYS
from ..runs.damage import set_damaged_aside
from ..runs.experiments import plan
from ..runs.running import Job, Wish, run
from ..runs.store import Store
from ..runs.tidying import sweep
from ..support import paths
from ..training.cohort import Cohort
from ..training.evaluation import outputs
from ..training.stack import Stack
from .measuring import Limit, Measured, Row, against, duration, in_turn, scratch, seconds

FOURTEEN = (*FIXED_SUBSETS, *FRAME_CURVE[1:8])  # conditions
MOSI = {"l": 300, "a": 74, "v": 35}  # columns of the features

# --- data and evaluation ---------------------------------------------------------------------------------------------


def evaluation(size="small", utterances=200, repetitions=7):
    """Outputs under 14 conditions stacked on the batch axis over those of one condition after the other; they are
    equal."""
    [experiment] = plan("corrkd", "synthetic-mosi", size, [0])
    cohort = Cohort([experiment], "cpu")
    network, rows = Stack([cohort.build(experiment)]), cohort.indices("test")[:, :utterances]
    masks = [{m: shown[:, :utterances] for m, shown in mask.items()} for mask in cohort.masks(FOURTEEN, "test")]

    def at_once():
        return outputs(network, cohort.utterances, rows, masks)

    def one_by_one():
        return torch.cat([outputs(network, cohort.utterances, rows, [mask]) for mask in masks], 1)

    torch.testing.assert_close(at_once(), one_by_one(), rtol=1e-4, atol=1e-5)
    ours, theirs = in_turn([partial(seconds, at_once), partial(seconds, one_by_one)], repetitions)
    return Measured(ours / theirs, f"{against(ours, theirs)} for {rows.shape[1]} utterances")


def indexing(utterances=1284, frames=50, batch=64, repetitions=5):
    """An epoch of batches taken by index from arrays in memory over the same from a DataLoader with two workers."""
    seen = {m: torch.ones(utterances, frames, dtype=torch.bool) for m in MOSI}
    x = {m: torch.rand(utterances, frames, width) for m, width in MOSI.items()}
    pool = Batch(x, seen, seen, torch.rand(utterances))
    held = TensorDataset(*x.values(), *pool.frames.values(), *pool.valid.values(), pool.y)
    how = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": "spawn"}  # safe beside threads
    loader = DataLoader(held, batch, shuffle=True, drop_last=True, **how)

    def by_index():
        for rows in torch.randperm(utterances).split(batch)[: utterances // batch]:
            pool.take(rows)

    def by_loader():
        for _ in loader:
            pass

    ours, theirs = in_turn([partial(seconds, by_index), partial(seconds, by_loader)], repetitions)
    return Measured(ours / theirs, f"{against(ours, theirs)} for {utterances} utterances")


MEASURE_READING = """
import resource, sys, time
from pathlib import Path
from mmkd_lib.data.readers import files

def memory(what):  # KiB, VmRSS now or VmHWM at its peak; what getrusage says begins with the memory of the parent
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if what == "VmHWM" else 0
    return int(status.read_text().split(what + ":")[1].split()[0])

before, began = memory("VmRSS"), time.perf_counter()
found = files.read(sys.argv[1])
print(memory("VmHWM") - before, time.perf_counter() - began, len(found.batch.y))
"""


def reading(utterances=(16326, 1871, 4659), frames=50):
    """Peak memory of a process that reads a MulT pickle of MOSEI's size, over the bytes of the file."""
    block = np.random.default_rng(0).standard_normal((97, frames, max(MOSI.values())), np.float32)
    tree = {}
    for part, count in zip(PARTS, utterances, strict=True):
        tree[part] = {KEYS[m]: np.resize(block[..., :width], (count, frames, width)) for m, width in MOSI.items()}
        tree[part] |= {"labels": np.zeros((count, 1, 1), np.float32), "id": [f"{part}_{i}" for i in range(count)]}
    with scratch() as folder:
        path = folder / "mosei.pkl"
        with path.open("wb") as file:
            pickle.dump(tree, file, protocol=4)
        tree.clear()
        command = [sys.executable, "-c", MEASURE_READING, str(path)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        size = path.stat().st_size
    kibibytes, took, count = done.stdout.split()
    detail = f"{size / 1e9:.2f} GB, {count} utterances, {duration(float(took))}"
    return Measured(int(kibibytes) * 2**10 / size, detail)


# --- store and workers -----------------------------------------------------------------------------------------------


def store_work(method="corrkd", size="small", repetitions=10):
    """All that the store does for a run, over the seconds of its training."""
    [experiment] = plan(method, "synthetic-mosi", size, [0])
    with scratch() as folder:
        [record] = run([experiment], store=Store(folder / "trained"))
        stores = iter([Store(folder / str(number)) for number in range(1 + repetitions)])
        [work] = in_turn([lambda: seconds(partial(_keep, experiment, record, next(stores)))], repetitions)
    training = record.cost["seconds"]
    return Measured(work / training, against(work, training))


def _keep(experiment, record, store):
    """What a store does around a training: key, claim, draft, all files of the record, rename, the check for damage."""
    [key] = {w.key for e, w in Job([Wish((experiment,))], "cpu", store).wanted.items() if e == experiment}
    with store.claimed([key]) as ours, store.writing(key) as draft:
        for name in ("config", "cost", "environment"):
            (draft / f"{name}.json").write_text(json.dumps(getattr(record, name), indent=1))
        np.savez(draft / "weights.npz", **{name: weight.numpy() for name, weight in record.weights().items()})
        np.savez(draft / "history.npz", **record.history)
    kept = store.record(key)
    kept.add("predictions", record.predictions)
    kept.add("scores", record.scores)
    sweep(store)
    if not ours or set_damaged_aside(store, [key]) or kept.lacks(FIXED_SUBSETS, ()) != ([], []):
        raise RuntimeError(f"the record of {experiment.label} did not come back from the store as it was written")


def workers_efficiency(size="small", trainings=4, epochs=18, repetitions=2):
    """Seconds of equal trainings in one process over twice the seconds of two processes, which are up and have the
    data."""
    [first] = plan("corrkd", "synthetic-mosi", size, [0], "plain", settings={"epochs": epochs})
    rates = [first.settings.lr * (1 + n / 1000) for n in range(trainings)]  # another key each, and the same work
    equal = [replace(first, settings=replace(first.settings, lr=rate)) for rate in rates]
    short = [replace(e, settings=replace(e.settings, epochs=1)) for e in equal[:2]]

    def by(jobs):
        with scratch() as folder:
            store = Store(folder)
            run(short, jobs=jobs, store=store)  # idle processes may have ended
            return seconds(lambda: run(equal, jobs=jobs, store=store))

    one, two = in_turn([partial(by, 1), partial(by, 2)], repetitions)
    return Measured(one / two / 2, f"{against(one, two)} for {trainings} trainings")


# --- the handbook ----------------------------------------------------------------------------------------------------


def handbook(warm, execute=None):
    """Seconds of the slowest notebook of the profile `smoke` in an empty home, or when it is executed again there.
    execute: home -> what `mmkd notebooks` said."""
    execute = execute or _smoke
    with scratch() as home:
        for name in ("notebooks", "mmkd_lib", "data"):
            (home / name).symlink_to(paths.project_root() / name)
        said = [execute(home) for _ in range(2 if warm else 1)][-1]
    found = re.findall(r"^(\S+): done in (\d+) s$", said, re.MULTILINE)
    if not found:
        raise RuntimeError(f"no notebook said how long it took:\n{said}")
    took = {name: float(number) for name, number in found}
    return Measured(max(took.values()), ", ".join(f"{name} {number:.0f} s" for name, number in took.items()))


def _smoke(home):
    """Execute all notebooks of a home in a process of their own."""
    command = [sys.executable, "-m", "mmkd_lib.cli", "notebooks", "--profile", "smoke", "--device", "cpu"]
    environment = os.environ | {"MMKD_HOME": str(home)}
    done = subprocess.run(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"mmkd notebooks ended with status {done.returncode}:\n{done.stdout}")
    return done.stdout


SLOWEST = "the slowest notebook of `smoke`"
ROWS = (
    Row("14 conditions at once over one after the other", Limit("at most", 1.0), evaluation),
    Row("an epoch of batches by indexing over a DataLoader with 2 workers", Limit("below", 1.0), indexing),
    Row("memory to read a pickle of MOSEI's size, over its bytes", Limit("at most", 2.2), reading),
    Row("work of the store over the training, a run of `small`", Limit("at most", 0.05), store_work),
    Row("two workers of one thread: speed-up over 2", Limit("at least", 0.85), workers_efficiency),
    Row(f"{SLOWEST}, nothing trained before", Limit("at most", 60, " s"), partial(handbook, warm=False)),
    Row(f"{SLOWEST}, everything trained before", Limit("at most", 20, " s"), partial(handbook, warm=True)),
)
