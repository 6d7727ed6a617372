"""What a trained network is shown in a trial: its own test part, with noise, or the test part of another benchmark.

Knows cohorts, benchmarks and masks; nothing of predictions.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from ..data import benchmarks
from ..data.batch import Batch, concatenate
from ..data.missing import frozen_mask
from ..data.synthetic import worlds
from ..support.draws import generator
from ..support.errors import BadInput


class Tested:
    """The test part of one experiment (a cohort of one) as a trial shows it, before its mask.

    data, numbers: the benchmark and its test rows; shown: (features as the network takes them, rows (1, n)).
    `elsewhere`: whether they are another benchmark's, `on`.
    """

    def __init__(self, cohort, draw=0, noise=0.0, on=""):
        [experiment], self.elsewhere = cohort.experiments, bool(on)
        self.data, self.numbers = cohort.data[0], cohort.data[0].rows("test", experiment.fold)
        shown = cohort.utterances.take(cohort.indices("test")[0])
        if on:
            known = self.data.rows("train", experiment.fold) if experiment.settings.standardise else None
            self.data = transferred(self.data, on, experiment.size)
            self.numbers = self.data.rows("test")
            shown = _as_known(cohort.data[0], known, self.data).to(cohort.device)
        if noise:
            shown = _noisy(shown, noise, ("test noise", self.data.mask_key, experiment.fold, draw))
        self.shown = shown, torch.arange(len(shown.y), device=cohort.device).unsqueeze(0)

    def mask(self, trial):
        """The frozen mask of a trial, m -> (1, n, T_m)."""
        mask = frozen_mask(trial.condition, self.data.batch, self.numbers, self.data.mask_key, trial.draw)
        return mask._replace(frames={m: shown.unsqueeze(0) for m, shown in mask.frames.items()})


def _noisy(batch, deviation, key):
    """Utterances with N(0, deviation^2) added to every feature of their frames, MCUR Eq. 27."""
    x = {}
    for m, values in batch.x.items():
        drawn = generator(*key, m).standard_normal(tuple(values.shape), dtype=np.float32)
        x[m] = values + deviation * torch.from_numpy(drawn).to(values) * batch.frames[m].unsqueeze(-1)
    return batch._replace(x=x)


def transferred(source, on, size):
    """The benchmark `on` as one with the features of `source` would read it: columns that it lacks are zero, before
    features are standardised.

    Synthetic benchmarks use different feature maps: the label distribution of `on` is therefore sampled with the
    sensors of the source. Refused: another task, other classes, more columns than the source has.
    """
    if source.world is not None and benchmarks.is_synthetic(on):
        return _through(source, on, size)
    other = benchmarks.load(on, size)
    here, there = source.shape, other.shape
    if (here.task, here.classes) != (there.task, there.classes) or set(here.widths) != set(there.widths):
        raise BadInput(f"a network of {source.name} cannot be tested on {on}: its task, classes or modalities differ.")
    if wide := [m for m in here.widths if there.widths[m] > here.widths[m]]:
        raise BadInput(
            f"{on} has {there.widths[wide[0]]} columns in {wide[0]}, and networks of {source.name} read "
            f"{here.widths[wide[0]]}: train on the wider one."
        )
    x = {m: F.pad(values, (0, here.widths[m] - there.widths[m])) for m, values in other.batch.x.items()}
    return replace(other, batch=other.batch._replace(x=x), mask_key=f"{other.mask_key} through {source.name}")


def _through(source, on, size):
    """A stand-in's test part through the sensors of another one."""
    world = worlds.world(on, size)
    if (world.task, world.classes, list(world.steps)) != (source.task, source.classes, list(source.world.steps)):
        raise BadInput(f"a network of {source.name} cannot be tested on {on}: its task, classes or modalities differ.")
    key = f"{on} {size} through {source.name}"
    seen = replace(source.world, name=key, prior=world.prior)
    batch, truth = worlds.draw(seen, worlds.SIZES[worlds.parse(on).base][size].test, ("transfer", key))
    return replace(
        source,
        name=on,
        batch=batch,
        split=np.repeat("test", len(batch.y)),
        roles=None,
        truth=truth,
        world=seen,
        mask_key=key,
        measured_on=f"{on} ({size}) through the sensors of {source.name}: generated data, not the real benchmark",
    )


def _as_known(source, known, other):
    """The test part of another benchmark in the source's units, deviations of its utterances `known` (None: raw)."""
    shown = other.batch.take(torch.from_numpy(other.rows("test")))
    if known is None:
        return shown
    steps = {m: max(source.batch.x[m].shape[1], shown.x[m].shape[1]) for m in shown.x}
    both = concatenate([_padded(source.batch.take(torch.from_numpy(known)), steps), _padded(shown, steps)])
    found = replace(source, batch=both).standardised(np.arange(len(known)))
    found = found.take(torch.arange(len(known), len(both.y)))
    return Batch(*({m: t[:, : shown.x[m].shape[1]] for m, t in field.items()} for field in found[:3]), *found[3:])


def _padded(batch, steps):
    """Utterances with frames that do not exist up to T_m frames of each modality."""
    x = {m: F.pad(values, (0, 0, 0, steps[m] - values.shape[1])) for m, values in batch.x.items()}
    frames, valid = (
        {m: F.pad(there, (0, steps[m] - there.shape[1])) for m, there in field.items()}
        for field in (batch.frames, batch.valid)
    )
    return Batch(x, frames, valid, *batch[3:])
