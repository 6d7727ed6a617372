"""fit(): train S seeds of one stage as one, keep the best epoch of each. Knows methods, not files or stores."""

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data import metrics
from ..data.batch import Batch, dialogues
from ..methods.base import Method
from ..methods.steps import REFERENCES, Clock, Output, Stage, Step
from ..support.draws import Draws, generator
from ..support.errors import BadInput
from .evaluation import complete_outputs, outputs
from .optimisers import Optimiser
from .settings import SELECTIONS, Settings
from .stack import Stack
from .surgery import combine

STAGES = ("method", *REFERENCES)  # those that every method has
TERMS = {"plain": "plain_losses", "complete": "plain_losses", "oracle": "oracle_losses"}  # of a reference

__all__ = ["SELECTIONS", "STAGES", "Fitted", "Ready", "Settings", "Validation", "fit"]


class Validation(NamedTuple):
    """The utterances a model is selected on: indices (S, n), C masks m -> (S, n, T_m), and their conditions."""

    indices: Tensor
    masks: list
    conditions: tuple = ()


class Ready(NamedTuple):
    """All that a training is made of. S networks of one shape, with what each of their parents says frozen."""

    methods: list
    stage: Stage
    utterances: Batch  # of all seeds and parts, on the device
    train: Tensor  # (S, n) indices of the training utterances
    validation: Validation
    settings: Settings
    seeds: list
    parents: dict = {}  # noqa: RUF012 - name -> S networks
    soft: Tensor | None = None  # (P, C) exact posterior of every utterance, for oracle teaching
    world: Tensor | None = None  # (P, 2^M) true value of every set of modalities, for a method that watches them
    ask: Callable | None = None  # (stack, part, conditions, field) -> (S, C, n, K), for what methods do after an epoch

    def only(self, s):
        """The part of one seed."""
        one = slice(s, s + 1)
        indices, masks, conditions = self.validation
        few = [{m: shown[one] for m, shown in mask.items()} for mask in masks]
        return self._replace(
            methods=self.methods[one],
            train=self.train[one],
            seeds=list(self.seeds)[one],
            parents={name: modules[one] for name, modules in self.parents.items()},
            validation=Validation(indices[one], few, conditions),
        )


class Fitted(NamedTuple):
    """What training leaves, per seed."""

    weights: list  # state dicts of the best epoch
    history: list  # dicts of arrays: terms by epoch, the selection value by validation
    cost: dict


def fit(ready: Ready) -> Fitted:
    """Train the networks of one stage and return `Fitted`.

    Order and views are drawn per seed outside vmap; gradient clipping and the best epoch are per seed. Seeds whose
    learning rate or end follows their own validation, or whose batches are dialogues, train one after the other.
    """
    alone = ready.settings.follows_validation or ready.methods[0].unit == "dialogue"
    if alone and len(ready.methods) > 1:
        parts = [fit(ready.only(s)) for s in range(len(ready.methods))]
        cost = parts[-1].cost | {name: sum(p.cost[name] for p in parts) for name in parts[-1].cost if "seconds" in name}
        cost["seeds stacked"] = list(ready.seeds)
        return Fitted([p.weights[0] for p in parts], [p.history[0] for p in parts], cost)
    if ready.train.is_cuda:
        torch.cuda.reset_peak_memory_stats(ready.train.device)
    return Training(ready).run()


class Training:
    """One stack of seeds on its way: what `fit` does, and what a method may do itself (`Method.update`)."""

    def __init__(self, ready):
        self.ready, self.method, self.settings = ready, ready.methods[0], ready.settings
        self.stack = Stack(ready.methods)
        whole = self.method.unit == "dialogue"
        self.dialogues = dialogues(ready.utterances.group[ready.train[0]]) if whole else None
        self.count = len(self.dialogues) if whole else ready.train.shape[1]
        self.size = min(self.settings.batch, self.count)
        if self.size < 2 and not whole:
            raise BadInput(f"a batch of {self.size} utterance(s): the losses compare utterances, so give at least two.")
        self.steps = self.count // self.size  # an incomplete last batch is left out; the next epoch has another order
        self.moves = (
            -(-self.steps // self.settings.accumulate)
            if self.settings.keep_rest
            else max(1, self.steps // self.settings.accumulate)
        )
        self.optimiser = Optimiser(
            self.stack, self.settings, self.method.groups(self.clock(1, 0)), ready.stage.frozen, self.moves
        )
        self.best = _Best(self.stack, ready.train.device)
        self.terms_by_epoch, self.values, self.seconds_of_validation = [], [], 0.0

    def run(self):
        """All epochs."""
        began = time.perf_counter()
        ready, epochs = self.ready, self.settings.epochs
        self.ask_parents()
        taught = time.perf_counter() - began
        validated = set(np.linspace(1, epochs, min(self.settings.looks, epochs)).round().astype(int))
        for epoch in range(1, epochs + 1):
            self._epoch(epoch)
            if epoch in validated or self.settings.follows_validation:
                self._validate(epoch)
            if 0 < self.settings.stop_after <= epoch - max(int(self.best.epoch[0]), ready.stage.kept_from - 1):
                break
        return self._fitted(time.perf_counter() - began, taught)

    def ask_parents(self):
        """Set up those who teach, and ask them what never changes."""
        ready = self.ready
        self.parents = [
            _Parent(name, ready.parents[name], views, ready.utterances, ready.train)
            for name, views in ready.stage.taught_by.items()
        ]

    def clock(self, epoch, step):
        return Clock(self.ready.stage.name, epoch, self.settings.epochs, (epoch - 1) * self.steps + step, self.steps)

    def _epoch(self, epoch):
        ready, sums, gathered = self.ready, {}, 0
        order = np.stack([generator(seed, "order", epoch).permutation(self.count) for seed in ready.seeds])  # (S, n)
        order = torch.from_numpy(order).to(ready.train.device)
        for number in range(self.steps):
            clock = self.clock(epoch, number)
            step = self.step(self._places(order[:, number * self.size : (number + 1) * self.size]), clock)
            self.stack.mode(training=True)
            if gathered == 0:
                self.optimiser.zero()
            terms = self._update(step, clock)
            gathered += 1
            if gathered == self.settings.accumulate or (self.settings.keep_rest and number == self.steps - 1):
                self.optimiser.move(clock.step)
                gathered = 0
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.detach()
        self.terms_by_epoch.append({name: (total / self.steps).cpu().numpy() for name, total in sums.items()})
        if type(self.method).after_epoch is not Method.after_epoch:
            self._after_epoch(self.clock(epoch, self.steps - 1))

    def _places(self, units):
        """Places (S, B) in the training part of the `units` (S, n): utterances, or all utterances of dialogues."""
        if self.dialogues is None:
            return units
        return torch.cat([self.dialogues[i] for i in units[0].tolist()]).unsqueeze(0)

    def step(self, place, clock):
        """The step of the utterances at `place` (S, B) of the training part."""
        ready = self.ready
        chosen = ready.train.gather(1, place)
        batch, drawn = ready.utterances.take(chosen), {}
        if ready.stage.views == "complete":
            views = {"student": batch}
        else:
            views, drawn = self.method.views(batch, Draws(ready.seeds, clock.step, ready.train.device))
        told = {}
        for parent in self.parents:
            told |= parent(views, place)
        if ready.world is not None:
            drawn = drawn | {"world": ready.world[chosen]}
        return Step(views, drawn, told, place, None if ready.soft is None else ready.soft[chosen])

    def _update(self, step, clock):
        """Gradients of one step added to those that are there; the terms (S, ...), and what else is to be logged."""
        if self.method.update is not None:
            return self.method.update(self, step, clock)
        terms, kept = self.losses(step, clock)
        watched = self.backward(terms, clock)
        if kept:
            self.stack.after_step(step, _detached(kept), clock)
        return terms | watched

    def losses(self, step, clock):
        """(terms, what `after_step` is to know) of a step."""
        return self.stack.losses(TERMS.get(self.ready.stage.name, "losses"), step, clock)

    def backward(self, terms, clock):
        """Add the gradients of the terms of a step to those that are there."""
        return backward(self.stack, self.method, terms, clock)

    def _after_epoch(self, clock):
        for s in range(self.stack.size):
            alone = self.stack.only(s).mode(training=False)

            def ask(part, conditions, field="logits", alone=alone, s=s):
                return self.ready.ask(alone, s, part, conditions, field)

            with torch.no_grad():
                alone("after_epoch", clock, ask)

    def _validate(self, epoch):
        began = time.perf_counter()
        value = selection_value(self.stack, self.method, self.ready, epoch)
        if epoch >= self.ready.stage.kept_from:
            self.best.see(self.stack, value, epoch)
        if self.settings.follows_validation:
            self.optimiser.validated(float(value[0]))
        self.values.append((epoch, value.cpu().numpy()))
        self.seconds_of_validation += time.perf_counter() - began

    def _fitted(self, seconds, taught):
        history = [_history(self.terms_by_epoch, self.values, self.best, s) for s in range(self.stack.size)]
        cost = {
            "parameters": sum(p.numel() for p in self.method.parameters()),
            "steps": self.steps * len(self.terms_by_epoch),
            "seconds": seconds,
            "seconds of looking": self.seconds_of_validation,
            "seconds of the teacher": taught,
            "seeds stacked": list(self.ready.seeds),
            "peak memory of the process MiB": _peak_memory(self.ready.train.device),
        }
        return Fitted(self.stack.unstacked(self.best.state), history, cost)


def backward(stack, method, terms, clock):
    """Add the gradients of the weighted sum of terms (terms of weight None are watched only), or of what gradient
    surgery makes of them; returns what surgery has to tell."""
    given = method.weights(clock)
    weights = {name: weight for name in terms if (weight := given.get(name, 1.0)) is not None}
    if method.rectified and len(weights) > 1:
        return combine(stack, method, terms, weights)
    total = sum(weight * terms[name] for name, weight in weights.items())  # (S,)
    total.sum().backward()
    return {}


class _Best:
    """The best checkpoint of each seed: its state, its selection value (the lower the better), its epoch."""

    def __init__(self, stack, device):
        self.state = stack.state()
        self.value = torch.full((stack.size,), torch.inf, device=device)
        self.epoch = torch.zeros(stack.size, dtype=torch.long, device=device)

    def see(self, stack, value, epoch):
        """Take over the seeds whose value (S,) is better."""
        better = value < self.value  # false for NaN: a diverged epoch is never kept
        self.value = torch.where(better, value, self.value)
        self.epoch = torch.where(better, epoch, self.epoch)
        for name, now in (stack.parameters | stack.buffers).items():
            keep = better.view(-1, *[1] * (now.dim() - 1))
            self.state[name] = torch.where(keep, now.detach(), self.state[name])


class _Parent:
    """S frozen networks and the views that they are asked for. What they say of complete utterances never changes, so
    they are asked for it once, about the whole training part, indices (S, n)."""

    def __init__(self, name, modules, views, utterances, indices):
        self.stack = Stack(modules).mode(training=False)
        self.named = {view: name if len(views) == 1 else f"{name}/{view}" for view in views}
        self.complete = complete_outputs(self.stack, utterances, indices) if "complete" in views else None

    @torch.no_grad()
    def __call__(self, views, place):
        """What is said of one step's views (S, B, ...), whose utterances stand at `place` (S, B): name -> Output."""
        return {name: self._of(view, views, place) for view, name in self.named.items()}

    def _of(self, view, views, place):
        if view != "complete":
            return self.stack.forward(views[view])
        seed = torch.arange(len(place), device=place.device).unsqueeze(1)
        logits, embedding, extras = self.complete
        return Output(logits[seed, place], embedding[seed, place], {n: t[seed, place] for n, t in extras.items()})


def _detached(tree):
    return {name: tensor.detach() for name, tensor in tree.items()}


def selection_value(stack, method, ready, epoch):
    """What selection minimises, per seed (S,): mean over the conditions of validation."""
    rule, (indices, masks, conditions) = ready.settings.selection, ready.validation
    if rule == "last":
        return torch.full((stack.size,), -float(epoch), device=indices.device)
    noise = (ready.seeds, conditions) if method.noisy_at_test else None
    logits = outputs(stack, ready.utterances, indices, masks, noise=noise)  # (S, C, n, K)
    y = ready.utterances.y[indices]  # (S, n)
    values = []
    for of_seed, truth in zip(logits, y, strict=True):
        if rule == "validation-loss":
            values.append(method.answer.loss(of_seed.flatten(0, 1), truth.repeat(len(of_seed))))
        else:
            values.append(torch.tensor(-_mean_score(method, of_seed, truth), device=logits.device))
    return torch.stack(values).float()


def _mean_score(method, logits, y):
    """Main metric of one seed, mean over conditions: logits (C, n, K), y (n,)."""
    task, classes = method.shape.task, method.shape.classes
    name = metrics.main_metric(task)
    predictions = method.answer.prediction(logits).cpu().numpy()
    return np.mean([metrics.score(task, classes, y.cpu().numpy(), p)[name] for p in predictions])


def _history(terms_by_epoch, values, best, s):
    """Arrays of one seed: `terms/NAME` (epochs,), `look` and `value` (validations,), `best_epoch`."""
    arrays = {f"terms/{name}": np.array([t[name][s] for t in terms_by_epoch]) for name in terms_by_epoch[0]}
    arrays["look"] = np.array([epoch for epoch, _ in values])
    arrays["value"] = np.array([value[s] for _, value in values])
    return arrays | {"best_epoch": np.array(int(best.epoch[s]))}


def _peak_memory(device):
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float("nan")  # Windows has no getrusage
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
