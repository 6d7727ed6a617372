"""A group: experiments that differ in their seed only, with their data on the device, ready to fit or to test.

Everything between a configuration and `fit()` that decides numbers stands here, and is part of an experiment's key:
which rows and masks, initial weights, teachers, what selection looks at, what an oracle teaches.
"""

import numpy as np
import torch

from ..data.batch import concatenate
from ..data.missing import frozen_mask, selection_conditions
from ..data.synthetic import exact
from ..methods import get
from ..support.draws import seed_torch
from .fit import Examined, fit


class Group:
    """Experiments that differ in their seed only, with their data on the device.

    `pool` holds all utterances, once where the seeds share them (files), one seed after the other where they do not
    (synthetic training parts are redrawn per seed).
    """

    def __init__(self, experiments, device):
        self.experiments, self.device = experiments, device
        self.data = [e.data() for e in experiments]
        first, distinct = experiments[0], {id(d): d for d in self.data}
        ready = {
            number: d.standardised(d.rows("train", first.fold)) if first.settings.standardise else d.batch
            for number, d in distinct.items()
        }
        begins = dict(zip(ready, np.cumsum([0, *(len(b.y) for b in ready.values())]), strict=False))
        self.offsets = [int(begins[id(d)]) for d in self.data]
        self.pool = concatenate(list(ready.values())).to(device)

    def rows(self, part):
        """Indices of a part into the pool, (S, n)."""
        rows = [d.rows(part, e.fold) + o for e, d, o in zip(self.experiments, self.data, self.offsets, strict=True)]
        return torch.from_numpy(np.stack(rows)).to(self.device)

    def masks(self, conditions, part):
        """The frozen mask of each condition: m -> (S, n, T_m)."""
        return [self._mask(condition, part) for condition in conditions]

    def _mask(self, condition, part):
        masks = [
            frozen_mask(condition, d.batch, d.rows(part, e.fold), d.mask_key).frames
            for e, d in zip(self.experiments, self.data, strict=True)
        ]
        return {m: torch.stack([mask[m] for mask in masks]).to(self.device) for m in self.pool.modalities}

    def build(self, experiment):
        """The method with its initial weights: equal for all supervisions of a seed but the complete one, so that
        comparisons are paired and a teacher is another network."""
        seed_torch("weights", experiment.seed, "teacher" if experiment.supervision == "complete" else "student")
        return get(experiment.method)(self.data[0].shape, experiment.options).to(self.device)

    def looked_at(self):
        """The conditions that selection looks at: complete data for those trained on it, else a mixture."""
        modalities = self.pool.modalities
        complete = self.experiments[0].supervision == "complete"
        return ("+".join(modalities),) if complete else selection_conditions(modalities)

    def fit(self, teacher_weights):
        """Train all seeds as one stack, each with its teacher's weights (none where there are no teachers)."""
        ready = self.ready()
        for module, weights in zip(ready["teachers"], teacher_weights, strict=True):
            module.load_state_dict(weights)
        return fit(**ready)

    def ready(self):
        """All that `training.fit` takes, the teachers untrained."""
        first, seeds = self.experiments[0], [e.seed for e in self.experiments]
        part = "test" if first.settings.selection == "oracle-test" else "valid"
        methods = [self.build(e) for e in self.experiments]
        teachers = [self.build(e.teacher) for e in self.experiments if e.teacher]
        seed_torch("dropout", *seeds)
        return {
            "methods": methods,
            "pool": self.pool,
            "train_rows": self.rows("train"),
            "examined": Examined(self.rows(part), self.masks(self.looked_at(), part)),
            "settings": first.settings,
            "seeds": seeds,
            "supervision": first.supervision,
            "teachers": teachers,
            "soft": self.soft_labels(methods[0]) if first.supervision == "oracle" else None,
            "world": self.true_values() if first.watches_world else None,
        }

    def soft_labels(self, method):
        """The exact posterior of every utterance of the pool in the classes of a method, (P, C)."""
        values = torch.from_numpy(self.data[0].world.values).float()
        distinct = {id(d): d for d in self.data}.values()
        return torch.cat([method.class_shares(exact.soft_labels(d), values) for d in distinct]).to(self.device)

    def true_values(self):
        """V*(Q) = log p(y | x_Q) of every training utterance of the pool for every set Q of modalities: (P, 2^M), bit i
        of a column for modality i; zero for the utterances of other parts."""
        tables = []
        for d, fold in {id(d): (d, e.fold) for d, e in zip(self.data, self.experiments, strict=True)}.values():
            rows, names = d.rows("train", fold), d.batch.modalities
            table = torch.zeros(len(d.batch.y), 2 ** len(names))
            for chosen, values in exact.values(d, rows).items():
                table[rows, sum(2 ** names.index(m) for m in chosen)] = values.float()
            tables.append(table)
        return torch.cat(tables).to(self.device)
