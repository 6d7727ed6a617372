"""Steps of training: what the losses of a method cost, and what stacked seeds are worth. Knows no method by name."""

import time
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..data import benchmarks
from ..methods import METHODS, get
from ..methods.steps import REFERENCES
from ..runs.experiments import plan
from ..runs.recording import one_thread
from ..support.workers import each
from ..training.cohort import Cohort
from ..training.fit import Training, fit
from ..training.settings import Settings
from .measuring import Limit, Measured, Row, against, duration, in_turn, scratch

PATIENCE = 300  # seconds that a process waits for those that are to start with it
STEP, GOAL = Limit("at most", 1.15), Limit("at least", 5.0)
TEN = {"benchmark": "synthetic-mosi", "size": "paper", "epochs": 3, "seeds": 10, "device": "cuda"}
SMALL_STEPS = {"benchmark": "synthetic-mosi", "size": "small", "epochs": 5, "repetitions": 7}
# drawn short: the size of a step is that of `paper`, the number of utterances is not
PAPER_STEPS = {"benchmark": "synthetic-mosi-n320", "size": "paper", "epochs": 1, "repetitions": 5}


def step_rows():
    """What the losses of each method cost where it has more than the task's; a new one has its rows by being known."""
    return [
        Row(f"{m}: a step with all losses over one with the task loss, `{where['size']}`", STEP, measure)
        for m in filter(adds_losses, METHODS)
        for where in (SMALL_STEPS, PAPER_STEPS)
        for measure in [partial(step, m, **where)]
    ]


def stacking_rows():
    """What stacked seeds are worth for each method whose seeds can be stacked."""
    return [
        row
        for m in filter(stacks, METHODS)
        for row in (
            Row(f"{m}: ten seeds one after the other over ten stacked, `paper`", GOAL, partial(stacked, m, **TEN)),
            Row(f"{m}: ten seeds in processes of their own over ten stacked, `paper`", GOAL, partial(apart, m, **TEN)),
        )
    ]


@lru_cache(maxsize=32)
def adds_losses(method):
    """Whether a step of a method is one backward pass through more losses than the task's. Gradient surgery, and an
    update of a method's own, take other passes, which are no price of losses."""
    training = Training(prepared(method, "synthetic-mosi", "smoke", [0], 1))
    training.ask_parents()
    network, clock = training.method, training.clock(1, 0)
    if network.rectified or network.update is not None:
        return False
    terms = _one_step(training, clock)
    return sum(network.weights(clock).get(name, 1.0) is not None for name in terms) > 1


def _one_step(training, clock):
    """The terms of a step of the first utterances of the training part."""
    place = torch.arange(training.size).unsqueeze(0)
    return training.losses(training.step(place, clock), clock)[0]


def stacks(method, size="paper"):
    """Whether the seeds of a method train as one: its network can be run by vmap, and no seed follows its own
    validation."""
    cls, benchmark = get(method), "synthetic-mosi"
    options, settings = cls.recipe(benchmarks.family(benchmark), size)
    network = cls(benchmarks.load(benchmark, "smoke").shape, cls.Options.of(**options))
    return network.vmappable and not Settings(**settings).follows_validation


def step(method, benchmark, size, epochs, repetitions):
    """A training step with the losses of a method over the same step, views and rows with the task loss alone. What a
    teacher says before training is not in the step; it is told beside. So is by how much the losses multiply the
    floating-point operations: where calls are short, more operations say how much of the ratio is arithmetic."""
    ready = prepared(method, benchmark, size, [0], epochs)
    task_alone, teacher = ready._replace(stage=REFERENCES["plain"], parents={}), []

    def taught():
        found = fit(ready).cost
        teacher.append(found["seconds of the teacher"])
        return step_seconds(found)

    def plain():
        return step_seconds(fit(task_alone).cost)

    ours, alone = in_turn([taught, plain], repetitions)
    asked_before = any("complete" in views for views in ready.stage.taught_by.values())
    once = f"; once before: teacher, {duration(np.median(teacher[1:]))}" if asked_before else ""
    more = f"; {operations(ready) / operations(task_alone):.2f} times the floating-point operations"
    return Measured(ours / alone, against(ours, alone) + more + once)


def operations(ready):
    """Floating-point operations of a step, forward and backward: those of matrix products and convolutions."""
    training = Training(ready)
    training.ask_parents()
    clock = training.clock(1, 0)
    with FlopCounterMode(display=False) as counted:
        training.backward(_one_step(training, clock), clock)
    return counted.get_total_flops()


def prepared(method, benchmark, size, seeds, epochs, device="cpu", options=()):
    """All that fit() takes for some seeds of a method, for few epochs without a look."""
    few = {"epochs": epochs, "looks": 1, "selection": "last"}
    return Cohort(plan(method, benchmark, size, seeds, options=options, settings=few), device).ready()


def step_seconds(cost):
    """Seconds of a step of all stacked seeds."""
    return (cost["seconds"] - cost["seconds of looking"] - cost["seconds of the teacher"]) / cost["steps"]


def stacked(method, benchmark, size, epochs, seeds, device, repetitions=3):
    """A seed's step when seeds train one after the other over its step when they are stacked, on the same data."""
    together = prepared(method, benchmark, size, range(seeds), epochs, device)
    alone, peaks = [together.only(s) for s in range(seeds)], []

    def one_by_one():
        return np.mean([step_seconds(fit(ready).cost) for ready in alone])

    theirs, ours = in_turn([one_by_one, partial(_as_one, together, peaks)], repetitions)
    return Measured(theirs / ours, f"{against(theirs, ours)} a seed and step; stacked: peak {peaks[-1]:.0f} MiB")


def _as_one(ready, peaks):
    """Seconds of a seed's step among stacked seeds; the peak of memory is added to `peaks`."""
    cost = fit(ready).cost
    peaks.append(cost["peak memory of the process MiB"])
    return step_seconds(cost) / len(ready.seeds)


def apart(method, benchmark, size, epochs, seeds, device, processes=4, repetitions=1):
    """A seed's step when each seed has a process of its own, some at a time, over its step when seeds are stacked."""
    together = prepared(method, benchmark, size, range(seeds), epochs, device)
    processes, peaks, sums = min(processes, seeds), [], []

    def side_by_side():
        with scratch() as folder:
            train = _Beside(method, benchmark, size, epochs, device, folder, processes)
            costs = [outcome for _, outcome in each(train, list(range(processes)), jobs=processes)]
        sums.append(sum(cost["peak memory of the process MiB"] for cost in costs))
        return np.mean([step_seconds(cost) for cost in costs]) / processes

    theirs, ours = in_turn([side_by_side, partial(_as_one, together, peaks)], repetitions)
    memory = f"{processes} processes: peak {sums[-1]:.0f} MiB; stacked: {peaks[-1]:.0f} MiB"
    return Measured(theirs / ours, f"{against(theirs, ours)} a seed and step; {memory}")


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
        ready = prepared(self.method, self.benchmark, self.size, [seed], self.epochs, self.device)
        (self.folder / str(seed)).touch()
        deadline = time.monotonic() + PATIENCE
        while len(list(self.folder.iterdir())) < self.processes:
            if time.monotonic() > deadline:
                raise RuntimeError(f"fewer than {self.processes} processes were ready in {PATIENCE} s")
            time.sleep(0.001)
        with one_thread():
            return fit(ready).cost
