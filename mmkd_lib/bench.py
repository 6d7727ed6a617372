"""The bench: speed as ratios against limits, both sides of a ratio measured in turn, in one run on one machine.

A question is one `Row`: what is measured, its limit, and the function that measures. It is asked of the real code; no
other module may need this one, and the numbers of no experiment come from here.
"""

import json
import operator
import os
import pickle
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, TensorDataset

from .data.batch import Batch
from .data.benchmarks import PARTS
from .data.missing import FIXED_SUBSETS, FRAME_CURVE
from .data.readers.splits import KEYS
from .methods import METHODS
from .methods.dynkd import Routing, members, shapley_values
from .methods.mcur import combination_contrast, similarities
from .methods.steps import REFERENCES
from .results.tables import Table
from .runs.experiments import plan
from .runs.recording import one_thread
from .runs.running import Job, Wish, run
from .runs.store import Store
from .support import devices, paths
from .support.draws import Draws
from .support.errors import BadInput, one_of
from .support.workers import each
from .training.cohort import Cohort
from .training.evaluation import outputs
from .training.fit import fit
from .training.stack import Stack

FOURTEEN = (*FIXED_SUBSETS, *FRAME_CURVE[1:8])  # conditions
MOSI = {"l": 300, "a": 74, "v": 35}  # columns of the features
COMPARE = {"at most": operator.le, "at least": operator.ge, "below": operator.lt}
PATIENCE = 300  # seconds that a process waits for those that are to start with it


class Limit(NamedTuple):
    """What a number has to keep, e.g. at most 1.15."""

    how: str  # a key of COMPARE
    value: float
    unit: str = ""

    def __str__(self):
        return f"{self.how} {self.value:g}{self.unit}"

    def shown(self, value):
        """A measured number as the table shows it."""
        return f"{value:.0f}{self.unit}" if self.unit else f"{value:.{2 if value >= 0.1 else 4}f}"

    def holds(self, value):
        """Whether the number, as it is shown, keeps the limit."""
        return COMPARE[self.how](float(self.shown(value).removesuffix(self.unit)), self.value)


class Measured(NamedTuple):
    """The answer to a question: a ratio (or seconds), and the absolute times behind it."""

    value: float
    detail: str


class Row(NamedTuple):
    """One question of the bench."""

    what: str
    limit: Limit
    measure: Callable  # without arguments -> Measured


def cpu_rows():
    """The questions asked of every machine, in the order of the table; a new method has its rows by being known."""
    step_limit, smoke = Limit("at most", 1.15), "the slowest notebook of `smoke`"
    steps = [
        Row(f"{m}: a step with all losses over one with the task loss, `{where['size']}`", step_limit, measure)
        for m in METHODS
        if m != "dynkd"  # whose extra passes have rows of their own
        for where in (SMALL_STEPS, PAPER_STEPS)
        for measure in [partial(step, m, **where)]
    ]
    rectified = "dynkd: a step with rectified gradients over one with summed losses"
    steps += [
        Row(f"{rectified}, `{where['size']}`", Limit("at most", 2.2), partial(surgery, **where))
        for where in (SMALL_STEPS, PAPER_STEPS)
    ]
    return [
        *steps,
        Row("dynkd: valuing the sets asked for over one fusion of as many rows", Limit("at most", 1.1), sets),
        Row("dynkd: Shapley values of five modalities over a step", Limit("below", 0.05), shapley_share),
        Row("mcur: MCB-CL of a batch, its gradient too, over a step", Limit("below", 0.1), contrast_share),
        Row("14 conditions at once over one after the other", Limit("at most", 1.0), evaluation),
        Row("an epoch of batches by indexing over a DataLoader with 2 workers", Limit("below", 1.0), indexing),
        Row("memory to read a pickle of MOSEI's size, over its bytes", Limit("at most", 2.2), reading),
        Row("work of the store over the training, a run of `small`", Limit("at most", 0.05), store_work),
        Row("two workers of one thread: speed-up over 2", Limit("at least", 0.85), workers_efficiency),
        Row(f"{smoke}, nothing trained before", Limit("at most", 60, " s"), partial(handbook, warm=False)),
        Row(f"{smoke}, everything trained before", Limit("at most", 20, " s"), partial(handbook, warm=True)),
    ]


def gpu_rows():
    """The questions asked of a machine with a GPU."""
    goal = Limit("at least", 5.0)
    return [
        row
        for m in METHODS
        for row in (
            Row(f"{m}: ten seeds one after the other over ten stacked, `paper`", goal, partial(stacked, m, **TEN)),
            Row(f"{m}: ten seeds in processes of their own over ten stacked, `paper`", goal, partial(apart, m, **TEN)),
        )
    ]


def bench(device="cpu", only=None):
    """Ask the questions of a device, or `only` the named ones: a frame with a row each, and the machine in `attrs`."""
    rows = {row.what: row for row in _rows(device)}
    chosen = [rows[one_of("row of the bench", name, tuple(rows))] for name in only or rows]
    table = []
    with one_thread(), redirect_stdout(sys.stderr):  # what run() says is progress here
        for number, (what, limit, measure) in enumerate(chosen, 1):
            print(f"{number} of {len(chosen)}: {what} ...", flush=True)
            value, detail = measure()
            table.append((what, limit.shown(value), str(limit), limit.holds(value), detail))
    frame = pd.DataFrame(table, columns=["what", "measured", "limit", "holds", "detail"])
    frame.attrs["machine"] = machine(device)
    return frame


def _rows(device):
    """The questions of a device that can be used here."""
    if one_of("device", device, devices.CLASSES) == "cpu":
        return cpu_rows()
    usable, reason = devices.choose(device)
    if usable != device:
        raise BadInput(f"these rows need a GPU, and here a training would use {reason}: ask for device cpu.")
    return gpu_rows()


def markdown(frame):
    """The table of a bench, with the machine in a line under it."""
    cells = frame.assign(holds=frame["holds"].map({True: "yes", False: "no"}))
    return Table(cells, frame, [frame.attrs["machine"]]).markdown()


def write(path, frame, name="bench"):
    """Put the table between the lines <!-- bench --> and <!-- /bench --> of a Markdown file, for what stands there."""
    path, (begin, end) = Path(path), (f"<!-- {name} -->", f"<!-- /{name} -->")
    between = re.compile(f"(?<=^{begin}\n).*?(?=^{end}$)", re.DOTALL | re.MULTILINE)
    text, places = between.subn(lambda _: f"\n{markdown(frame)}\n", path.read_text(encoding="utf-8"))
    if places != 1:
        raise BadInput(
            f"{path} has {places} places for the table: give it one line {begin} and, below, one line {end}."
        )
    path.write_text(text, encoding="utf-8")


def machine(device="cpu"):
    """A sentence on the machine: processor, cores, versions, kind of system; it names no host."""
    gpu = [f"GPU {torch.cuda.get_device_name()}"] if device == "cuda" else []
    versions = f"Python {platform.python_version()}", f"torch {torch.__version__}", platform.system()
    return f"Measured on {', '.join([*gpu, _processor(), f'{joblib.cpu_count()} usable cores', *versions])}."


def _processor():
    """The model name of the processor, as far as the system tells."""
    told = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", told.read_text(), re.MULTILINE) if told.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


# --- measuring -------------------------------------------------------------------------------------------------------


def in_turn(calls, repetitions):
    """Median of what each of the calls returns (seconds), called A, B, A, B, so that a drift of the machine hits all
    alike; a first round warms up and does not count."""
    rounds = [[call() for call in calls] for _ in range(1 + repetitions)]
    return np.median(rounds[1:], axis=0).tolist()


def _seconds(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _against(one, other):
    return f"{_time(one)} against {_time(other)}"


def _time(seconds):
    if seconds < 1e-4:
        return f"{1e6 * seconds:.0f} µs"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


@contextmanager
def _scratch():
    """An empty folder on the disk of the run store, which does not see it."""
    paths.store_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=paths.store_folder()) as folder:
        yield Path(folder)


# --- training --------------------------------------------------------------------------------------------------------

SMALL_STEPS = {"benchmark": "synthetic-mosi", "size": "small", "epochs": 5, "repetitions": 7}
# drawn short: the size of a step is that of `paper`, the number of utterances is not
PAPER_STEPS = {"benchmark": "synthetic-mosi-n320", "size": "paper", "epochs": 1, "repetitions": 5}


def step(method, benchmark, size, epochs, repetitions):
    """A training step with the losses of a method over the same step, views and rows with the task loss alone. What a
    teacher says before training is not in the step; it is told beside."""
    ready = _ready(method, benchmark, size, [0], epochs)
    teacher = []

    def taught():
        found = fit(ready).cost
        teacher.append(found["seconds of the teacher"])
        return _step_seconds(found)

    def plain():
        return _step_seconds(fit(ready._replace(stage=REFERENCES["plain"], parents={})).cost)

    ours, alone = in_turn([taught, plain], repetitions)
    once = f"; once before: teacher, {_time(np.median(teacher[1:]))}" if ready.parents else ""
    return Measured(ours / alone, _against(ours, alone) + once)


def surgery(benchmark, size, epochs, repetitions):
    """A step of DynKD with its three gradients rectified over the same step with its three losses summed."""
    rectified, summed = (
        _ready("dynkd", benchmark, size, [0], epochs, options={"rectify": how}) for how in ("flat", "none")
    )
    ours, theirs = in_turn([lambda r=r: _step_seconds(fit(r).cost) for r in (rectified, summed)], repetitions)
    return Measured(ours / theirs, _against(ours, theirs))


def _first_step(benchmark, size, options=()):
    """(network, tokens, labels, routing) of a first training step of DynKD, for one seed."""
    ready = _ready("dynkd", benchmark, size, [0], 1, options=options)
    network, indices = ready.methods[0], ready.train[:, : ready.settings.batch]
    views, drawn = network.views(ready.utterances.take(indices), Draws([0], 0))
    with torch.no_grad():
        [tokens] = Stack([network])("encode", views["complete"])
    return network, tokens, views["complete"].y[0], Routing(*(t[0] for t in drawn["routing"]))


def sets(benchmark="synthetic-mosi-n320", size="paper", repetitions=15, passes=10):
    """Fusing and valuing what routing asks for, from tokens, over one fusion of as many rows that stand ready."""
    network, tokens, y, routing = _first_step(benchmark, size)
    rows, shown = tokens[routing.row], members(tokens.shape[-2])[routing.code]

    def asked():
        for _ in range(passes):
            network.consider(tokens, y, routing)

    @torch.no_grad()
    def floor():
        for _ in range(passes):
            network.fuse(rows, shown)

    ours, alone = in_turn([partial(_seconds, asked), partial(_seconds, floor)], repetitions)
    return Measured(
        ours / alone, f"{_against(ours / passes, alone / passes)} for {len(rows)} rows of {len(y)} utterances"
    )


def shapley_share(benchmark="synthetic-iemocap-m5-n320", size="small", repetitions=15, passes=20):
    """The Shapley values of a batch of utterances with five modalities over the whole training step."""
    _, _, y, routing = _first_step(benchmark, size, {"added": 2})
    values, ready = torch.randn(len(y), 32), _ready("dynkd", benchmark, size, [0], 2, options={"added": 2})

    def games():
        for _ in range(passes):
            shapley_values(values, routing.student, routing.exists)

    ours, whole = in_turn([partial(_seconds, games), lambda: _step_seconds(fit(ready).cost)], repetitions)
    return Measured(ours / passes / whole, f"{_against(ours / passes, whole)} for {len(y)} utterances")


def contrast_share(benchmark="synthetic-mosei", size="small", repetitions=15, passes=20):
    """MCB-CL of a batch of embeddings, with its gradient, over the whole training step."""
    ready = _ready("mcur", benchmark, size, [0], 2)
    network, rows = ready.methods[0], ready.train[0, : ready.settings.batch]
    embedding = torch.randn(len(rows), network.options.width, requires_grad=True)
    classes, combination = network.labels(ready.utterances.y[rows]), torch.arange(len(rows)) % 7

    def contrast():
        for _ in range(passes):
            near = similarities(embedding, network.options.temperature)
            combination_contrast(near, combination, classes).backward()

    ours, whole = in_turn([partial(_seconds, contrast), lambda: _step_seconds(fit(ready).cost)], repetitions)
    return Measured(ours / passes / whole, f"{_against(ours / passes, whole)} for {len(rows)} utterances")


def _ready(method, benchmark, size, seeds, epochs, device="cpu", options=()):
    """All that fit() takes for some seeds of a method, for few epochs without a look."""
    few = {"epochs": epochs, "looks": 1, "selection": "last"}
    return Cohort(plan(method, benchmark, size, seeds, options=options, settings=few), device).ready()


def _step_seconds(cost):
    """Seconds of a step of all stacked seeds."""
    return (cost["seconds"] - cost["seconds of looking"] - cost["seconds of the teacher"]) / cost["steps"]


TEN = {"benchmark": "synthetic-mosi", "size": "paper", "epochs": 3, "seeds": 10, "device": "cuda"}


def stacked(method, benchmark, size, epochs, seeds, device, repetitions=3):
    """A seed's step when seeds train one after the other over its step when they are stacked, on the same data."""
    together = _ready(method, benchmark, size, range(seeds), epochs, device)
    alone, peaks = [together.only(s) for s in range(seeds)], []

    def one_by_one():
        return np.mean([_step_seconds(fit(ready).cost) for ready in alone])

    theirs, ours = in_turn([one_by_one, partial(_as_one, together, peaks)], repetitions)
    return Measured(theirs / ours, f"{_against(theirs, ours)} a seed and step; stacked: peak {peaks[-1]:.0f} MiB")


def _as_one(ready, peaks):
    """Seconds of a seed's step among stacked seeds; the peak of memory is added to `peaks`."""
    cost = fit(ready).cost
    peaks.append(cost["peak memory of the process MiB"])
    return _step_seconds(cost) / len(ready.seeds)


def apart(method, benchmark, size, epochs, seeds, device, processes=4, repetitions=1):
    """A seed's step when each seed has a process of its own, some at a time, over its step when seeds are stacked."""
    together = _ready(method, benchmark, size, range(seeds), epochs, device)
    processes, peaks, sums = min(processes, seeds), [], []

    def side_by_side():
        with _scratch() as folder:
            train = _Beside(method, benchmark, size, epochs, device, folder, processes)
            costs = [outcome for _, outcome in each(train, list(range(processes)), jobs=processes)]
        sums.append(sum(cost["peak memory of the process MiB"] for cost in costs))
        return np.mean([_step_seconds(cost) for cost in costs]) / processes

    theirs, ours = in_turn([side_by_side, partial(_as_one, together, peaks)], repetitions)
    memory = f"{processes} processes: peak {sums[-1]:.0f} MiB; stacked: {peaks[-1]:.0f} MiB"
    return Measured(theirs / ours, f"{_against(theirs, ours)} a seed and step; {memory}")


class _Beside(NamedTuple):
    """Trains one seed in a process of its own, beginning when the processes beside it are ready, too."""

    method: str
    benchmark: str
    size: str
    epochs: int
    device: str
    folder: Path  # where processes say that they are ready
    processes: int

    def __call__(self, seed):
        ready = _ready(self.method, self.benchmark, self.size, [seed], self.epochs, self.device)
        (self.folder / str(seed)).touch()
        deadline = time.monotonic() + PATIENCE
        while len(list(self.folder.iterdir())) < self.processes:
            if time.monotonic() > deadline:
                raise RuntimeError(f"fewer than {self.processes} processes were ready in {PATIENCE} s")
            time.sleep(0.001)
        with one_thread():
            return fit(ready).cost


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
    ours, theirs = in_turn([partial(_seconds, at_once), partial(_seconds, one_by_one)], repetitions)
    return Measured(ours / theirs, f"{_against(ours, theirs)} for {rows.shape[1]} utterances")


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

    ours, theirs = in_turn([partial(_seconds, by_index), partial(_seconds, by_loader)], repetitions)
    return Measured(ours / theirs, f"{_against(ours, theirs)} for {utterances} utterances")


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
    with _scratch() as folder:
        path = folder / "mosei.pkl"
        with path.open("wb") as file:
            pickle.dump(tree, file, protocol=4)
        tree.clear()
        command = [sys.executable, "-c", MEASURE_READING, str(path)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        size = path.stat().st_size
    kibibytes, seconds, count = done.stdout.split()
    return Measured(int(kibibytes) * 2**10 / size, f"{size / 1e9:.2f} GB, {count} utterances, {_time(float(seconds))}")


# --- store and workers -----------------------------------------------------------------------------------------------


def store_work(method="corrkd", size="small", repetitions=10):
    """All that the store does for a run, over the seconds of its training."""
    [experiment] = plan(method, "synthetic-mosi", size, [0])
    with _scratch() as folder:
        [record] = run([experiment], store=Store(folder / "trained"))
        stores = iter([Store(folder / str(number)) for number in range(1 + repetitions)])
        [work] = in_turn([lambda: _seconds(partial(_keep, experiment, record, next(stores)))], repetitions)
    training = record.cost["seconds"]
    return Measured(work / training, _against(work, training))


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
    store.sweep()
    if not ours or store.set_damaged_aside([key]) or kept.lacks(FIXED_SUBSETS, ()) != ([], []):
        raise RuntimeError(f"the record of {experiment.label} did not come back from the store as it was written")


def workers_efficiency(size="small", trainings=4, epochs=18, repetitions=2):
    """Seconds of equal trainings in one process over twice the seconds of two processes, which are up and have the
    data."""
    [first] = plan("corrkd", "synthetic-mosi", size, [0], "plain", settings={"epochs": epochs})
    rates = [first.settings.lr * (1 + n / 1000) for n in range(trainings)]  # another key each, and the same work
    equal = [replace(first, settings=replace(first.settings, lr=rate)) for rate in rates]
    short = [replace(e, settings=replace(e.settings, epochs=1)) for e in equal[:2]]

    def by(jobs):
        with _scratch() as folder:
            store = Store(folder)
            run(short, jobs=jobs, store=store)  # idle processes may have ended
            return _seconds(lambda: run(equal, jobs=jobs, store=store))

    one, two = in_turn([partial(by, 1), partial(by, 2)], repetitions)
    return Measured(one / two / 2, f"{_against(one, two)} for {trainings} trainings")


# --- the handbook ----------------------------------------------------------------------------------------------------


def handbook(warm, execute=None):
    """Seconds of the slowest notebook of the profile `smoke` in an empty home, or when it is executed again there.
    execute: home -> what `mmkd notebooks` said."""
    execute = execute or _smoke
    with _scratch() as home:
        for name in ("notebooks", "mmkd_lib", "data"):
            (home / name).symlink_to(paths.project_root() / name)
        said = [execute(home) for _ in range(2 if warm else 1)][-1]
    found = re.findall(r"^(\S+): done in (\d+) s$", said, re.MULTILINE)
    if not found:
        raise RuntimeError(f"no notebook said how long it took:\n{said}")
    seconds = {name: float(number) for name, number in found}
    return Measured(max(seconds.values()), ", ".join(f"{name} {number:.0f} s" for name, number in seconds.items()))


def _smoke(home):
    """Execute all notebooks of a home in a process of their own."""
    command = [sys.executable, "-m", "mmkd_lib.cli", "notebooks", "--profile", "smoke", "--device", "cpu"]
    environment = os.environ | {"MMKD_HOME": str(home)}
    done = subprocess.run(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"mmkd notebooks ended with status {done.returncode}:\n{done.stdout}")
    return done.stdout


ROWS = tuple(row.what for row in cpu_rows())  # what the README's table shows
