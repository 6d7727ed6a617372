"""A cohort: experiments that differ in their seed only, with their data on the device, ready to fit or to test.

Everything between a configuration and `fit()` that decides numbers stands here, and is part of an experiment's key:
which utterances and masks, initial weights, parents, what a model is selected on, what an oracle teaches.
"""

import numpy as np
import torch

from ..data.batch import concatenate
from ..data.missing import frozen_mask, selection_conditions
from ..data.subsets import code_of_names
from ..data.synthetic import exact
from ..methods import get
from ..methods.base import Method
from ..methods.steps import Train
from ..support.draws import seed_torch
from .evaluation import outputs
from .fit import Ready, Validation, fit


class Cohort:
    """Experiments that differ in their seed only, with their data on the device.

    `utterances` holds all of them, once where the seeds share them (files), one seed after the other where they do not
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
        self.utterances = concatenate(list(ready.values())).to(device)

    def indices(self, part):
        """Indices of a part into `utterances`, (S, n)."""
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
        return {m: torch.stack([mask[m] for mask in masks]).to(self.device) for m in self.utterances.modalities}

    def build(self, experiment, s=0):
        """The network of an experiment (of the cohort's seed s, or a parent of it) as its training begins.

        Initial weights are equal for the method and its references of a seed, so that comparisons are paired; complete
        data and other parents, which may be teachers, are other networks.
        """
        same = experiment.benchmark == self.experiments[s].benchmark
        data = self.data[s] if same else experiment.data()
        seed_torch("weights", experiment.seed, "teacher" if experiment.is_parent else "student")
        method = get(experiment.method)(data.shape, experiment.options)
        if type(method).begin is not Method.begin:
            method.begin(Train(self._train(s) if same else data.batch.take(torch.from_numpy(data.rows("train")))))
        return method.to(self.device)

    def _train(self, s):
        """The complete training utterances of a seed, on the CPU."""
        return self.utterances.take(self.indices("train")[s]).to("cpu")

    def validation_conditions(self):
        """The conditions that a model is selected under: complete data for those trained on it, else a mixture."""
        modalities = self.utterances.modalities
        complete = self.experiments[0].spec.views == "complete"
        return ("+".join(modalities),) if complete else selection_conditions(modalities)

    def fit(self, parents):
        """Train all seeds as one stack; parents: name -> the state dicts of each seed's parent."""
        ready, spec = self.ready(), self.experiments[0].spec
        for name, modules in ready.parents.items():
            for module, weights in zip(modules, parents[name], strict=True):
                module.load_state_dict(weights)
        for name, prefixes in spec.starts_from.items():
            for method, weights in zip(ready.methods, parents[name], strict=True):
                take_over(method, weights, prefixes)
        return fit(ready)

    def ready(self):
        """All that `fit` takes, the parents untrained."""
        first, spec, seeds = self.experiments[0], self.experiments[0].spec, [e.seed for e in self.experiments]
        part, conditions = (
            "test" if first.settings.selection == "oracle-test" else "valid",
            self.validation_conditions(),
        )
        methods = [self.build(e, s) for s, e in enumerate(self.experiments)]
        parents = {
            name: [self.build(e.parents[name], s) for s, e in enumerate(self.experiments)] for name in spec.taught_by
        }
        seed_torch("dropout", *seeds)
        return Ready(
            methods=methods,
            stage=spec,
            utterances=self.utterances,
            train=self.indices("train"),
            validation=Validation(self.indices(part), self.masks(conditions, part), conditions),
            settings=first.settings,
            seeds=seeds,
            parents=parents,
            soft=self.soft_labels(methods[0]) if first.stage == "oracle" else None,
            world=self.true_values() if first.watches_world else None,
            ask=self.ask,
        )

    def ask(self, stack, s, part, conditions, field="logits"):
        """What the network of seed s says of a part under conditions, (C, n, K)."""
        masks = [{m: shown[s : s + 1] for m, shown in mask.items()} for mask in self.masks(conditions, part)]
        return outputs(stack, self.utterances, self.indices(part)[s : s + 1], masks, field)[0]

    def soft_labels(self, method):
        """The exact posterior of every utterance  in the classes of a method, (P, C)."""
        values = torch.from_numpy(self.data[0].world.values).float()
        distinct = {id(d): d for d in self.data}.values()
        return torch.cat([method.answer.shares(exact.soft_labels(d), values) for d in distinct]).to(self.device)

    def true_values(self):
        """V*(Q) = log p(y | x_Q) of every training utterance  for every set Q of modalities: (P, 2^M), bit i
        of a column for modality i; zero for the utterances of other parts."""
        tables = []
        for d, fold in {id(d): (d, e.fold) for d, e in zip(self.data, self.experiments, strict=True)}.values():
            rows, names = d.rows("train", fold), d.batch.modalities
            table = torch.zeros(len(d.batch.y), 2 ** len(names))
            for chosen, values in exact.values(d, rows).items():
                table[rows, code_of_names(chosen, names)] = values.float()
            tables.append(table)
        return torch.cat(tables).to(self.device)


def take_over(method, weights, prefixes):
    """Give a network those of a parent's weights, and buffers, whose names begin with one of the prefixes."""
    own = method.state_dict()
    chosen = {n: t for n, t in weights.items() if n.startswith(tuple(prefixes)) and n in own}
    fitting = {n: t for n, t in chosen.items() if own[n].shape == t.shape}
    method.load_state_dict(own | fitting)
