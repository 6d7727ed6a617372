"""What runs will cost: time from a few measured steps, disk from sizes. Knows groups and fit(), not stores."""

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import pandas as pd

from ..training.cohort import Cohort
from ..training.fit import Validation, fit
from .recording import one_thread

STEPS = 10  # measured of each kind of training
LOOKED_AT = 64  # utterances of the measured look
KINDS = 8  # measured for a forecast


class Price(NamedTuple):
    """What one training, tested under some conditions, costs one worker."""

    steps: int
    seconds: float
    size: int  # bytes on disk


def _parcels(wanted, device):
    """What decides the price of each of the wanted (`experiment` and `conditions`): kind, number of conditions, device,
    and how many seeds share a stack, which they do on a GPU."""
    stacked = Counter(w.experiment.stacked_with for w in wanted) if device == "cuda" else {}
    sizes = [stacked.get(w.experiment.stacked_with, 1) for w in wanted]
    return [(_kind(w.experiment), len(w.conditions), device, n) for w, n in zip(wanted, sizes, strict=True)]


def _kind(experiment):
    """What all experiments of one cost have in common: seed, fold and choices of losses do not matter."""
    settings = replace(experiment.settings, lr=1e-3, clip=1.0, selection="validation-loss")
    fold = None if experiment.fold is None else experiment.data().folds[0]
    options = experiment.options.scoped("network", "views")
    return replace(experiment, seed=0, fold=fold, settings=settings, options=options)


def _price(experiment, conditions, device, stacked):
    """The price of one parcel."""
    measured, settings = _measured(experiment, device, stacked), experiment.settings
    steps = max(1, measured["train"] // settings.batch) * settings.epochs
    looked_at = min(settings.looks, settings.epochs) * measured["looked at"]
    tested = conditions * measured["test"]
    seconds = measured["step"] * steps + measured["teacher"] * measured["train"]
    seconds += measured["output"] * (looked_at + tested)
    return Price(steps, seconds, 4 * measured["parameters"] + 4 * (measured["width"] + 1) * tested)


@lru_cache(maxsize=128)
def _measured(experiment, device, stacked):
    """Seconds of a step, of a teacher's answer and of an output, from ten steps and one look at a few utterances, all
    for one seed of a stack; and the numbers that they are to be multiplied with."""
    cohort = Cohort([replace(experiment, seed=seed) for seed in range(stacked)], device)
    ready = cohort.ready()
    train, (indices, masks, conditions) = ready.train, ready.validation
    few = [{m: shown[:, :LOOKED_AT] for m, shown in mask.items()} for mask in masks]
    short = ready._replace(
        train=train[:, : STEPS * experiment.settings.batch],
        validation=Validation(indices[:, :LOOKED_AT], few, conditions),
        settings=replace(experiment.settings, epochs=1, looks=1),
    )
    with one_thread():
        cost = fit(short).cost
    look, teacher = cost["seconds of looking"], cost["seconds of the teacher"]
    return {
        "step": (cost["seconds"] - look - teacher) / cost["steps"] / stacked,
        "teacher": teacher / short.train.numel(),
        "output": look / short.validation.indices.numel() / len(masks),
        "train": train.shape[1],
        "looked at": len(masks) * indices.shape[1],
        "test": cohort.indices("test").shape[1],
        "parameters": cost["parameters"],
        "width": ready.methods[0](cohort.utterances.take(train[0, :2])).logits.shape[-1],
    }


def bill(wanted, to_train, device="cpu"):
    """What is wanted and what it costs: a row a benchmark and supervision with `runs`, and of those `to train` their
    number, `steps`, `seconds` of one worker and `bytes` on disk."""
    priced = dict(zip(to_train, (_price(*parcel) for parcel in _parcels(to_train, device)), strict=True))
    rows = [
        {
            "benchmark": w.experiment.benchmark,
            "trained as": w.experiment.stage,
            "runs": 1,
            "to train": int(w in priced),
            "steps": priced[w].steps if w in priced else 0,
            "seconds": priced[w].seconds if w in priced else 0.0,
            "bytes": priced[w].size if w in priced else 0,
        }
        for w in wanted
    ]
    return pd.DataFrame(rows).groupby(["benchmark", "trained as"], sort=False).sum()


def forecast(to_train, jobs, device, scheduler=""):
    """Text for run(): the estimated duration, extrapolated from the most frequent kinds; empty if nothing is to train."""
    if not to_train or scheduler:
        return f" by the workers of {scheduler}" if to_train else ""
    common = Counter(_parcels(to_train, device)).most_common(KINDS)
    measured = sum(count * _price(*parcel).seconds for parcel, count in common)
    seconds = measured * len(to_train) / sum(count for _, count in common) / min(jobs, len(to_train))
    return f", about {duration(seconds)}"


def duration(seconds):
    """Seconds as a reader likes them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
