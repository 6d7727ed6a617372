"""fit(): train S seeds of one experiment as one, keep the best epoch of each. Knows methods, not files or stores."""

import sys
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ..data import metrics
from ..methods.base import Output
from ..support.draws import Draws, generator
from ..support.errors import BadInput, one_of
from .evaluation import complete_outputs, outputs
from .stack import Stack

SUPERVISIONS = ("method", "plain", "complete", "oracle")
SELECTIONS = ("validation-loss", "validation-score", "last", "oracle-test")


@dataclass(frozen=True)
class Settings:
    """How an experiment is trained; `recipe` of a method gives the printed values."""

    lr: float = 1e-3  # Adam, constant
    batch: int = 64
    epochs: int = 20
    clip: float = 1.0  # largest gradient norm of a seed; 0: none
    weight_decay: float = 0.0  # of Adam: added to the clipped gradient, times the weight
    standardise: bool = True  # feature columns at mean 0, deviation 1 of the training part; no paper says
    selection: str = "validation-loss"  # which epoch is kept; oracle-test peeks at the test part
    looks: int = 10  # how often at most a run is looked at for selection

    def __post_init__(self):
        one_of("selection", self.selection, SELECTIONS)
        for name, least in (("lr", 0), ("batch", 1), ("epochs", 0), ("looks", 0)):
            if not getattr(self, name) > least:
                raise BadInput(f"training setting {name}={getattr(self, name)!r} must be above {least}.")
        for name in ("clip", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise BadInput(f"training setting {name}={getattr(self, name)!r} must not be below 0.")


class Examined(NamedTuple):
    """The utterances a model is selected on: rows (S, n), C masks m -> (S, n, T_m)."""

    rows: torch.Tensor
    masks: list


class Fitted(NamedTuple):
    """What training leaves, per seed."""

    weights: list  # state dicts of the best epoch
    history: list  # dicts of arrays: terms by epoch, the selection value by look
    cost: dict


def fit(
    methods, pool, train_rows, examined, settings, seeds, supervision="method", teachers=None, soft=None, world=None
):
    """Train `methods` (S modules of one shape, S >= 1) and return `Fitted`.

    pool: all utterances on the device; train_rows (S, n). `supervision`: the `method`'s losses, `plain` (its views,
    task loss alone), `complete` (complete views, task loss alone) or `oracle` (its views, the exact posterior `soft`
    (P, C) of the pool's utterances as target). `world` (P, 2^M): the true value of every set of modalities for the
    pool's utterances, for a method that watches them. Order and views are drawn per seed outside vmap;
    gradient clipping and the kept epoch are per seed; Adam is elementwise, so one optimiser serves all.
    """
    one_of("supervision", supervision, SUPERVISIONS)
    if train_rows.is_cuda:
        torch.cuda.reset_peak_memory_stats(train_rows.device)
    stack, head = Stack(methods), methods[0]
    how = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    optimiser = torch.optim.Adam(stack.parameters.values(), **how, fused=True)
    count = train_rows.shape[1]
    size = min(settings.batch, count)
    if size < 2:
        raise BadInput(f"a batch of {size} utterance(s): the losses compare utterances, so give at least two.")
    steps = count // size  # an incomplete last batch is left out; the next epoch draws another order
    looks = set(np.linspace(1, settings.epochs, min(settings.looks, settings.epochs)).round().astype(int))
    best, best_value = stack.state(), torch.full((stack.size,), torch.inf, device=train_rows.device)
    best_epoch = torch.zeros(stack.size, dtype=torch.long, device=train_rows.device)
    terms_by_epoch, values, look_seconds, began = [], [], 0.0, time.perf_counter()
    teacher = _Teacher(teachers, pool, train_rows, head.teacher_sees_all) if teachers else None
    teacher_seconds = time.perf_counter() - began
    for epoch in range(1, settings.epochs + 1):
        order = np.stack([generator(seed, "order", epoch).permutation(count) for seed in seeds])  # (S, n)
        order = torch.from_numpy(order).to(train_rows.device)
        sums = {}
        for step in range(steps):
            place = order[:, step * size : (step + 1) * size]
            chosen = train_rows.gather(1, place)
            draws = Draws(seeds, (epoch - 1) * steps + step, train_rows.device)
            batch, taught = pool.take(chosen), None if soft is None else soft[chosen]
            views = {"student": batch} if supervision == "complete" else head.views(batch, draws)
            if teacher and supervision == "method":
                taught = teacher(views["teacher"], place)
            if world is not None:
                views["world"] = world[chosen]
            terms = _terms(stack.mode(training=True), supervision, views, taught)
            watched = _update(stack, optimiser, terms, head, settings.clip)
            for name, term in (terms | watched).items():
                sums[name] = sums.get(name, 0) + term.detach()
        terms_by_epoch.append({name: (total / steps).cpu().numpy() for name, total in sums.items()})
        if epoch in looks:
            look_began = time.perf_counter()
            value = _selection_value(stack, head, pool, examined, settings.selection, epoch)
            better = value < best_value  # false for NaN: a diverged epoch is never kept
            best_value = torch.where(better, value, best_value)
            best_epoch = torch.where(better, epoch, best_epoch)
            for name, p in stack.parameters.items():
                keep = better.view(-1, *[1] * (p.dim() - 1))
                best[name] = torch.where(keep, p.detach(), best[name])
            values.append((epoch, value.cpu().numpy()))
            look_seconds += time.perf_counter() - look_began
    seconds = time.perf_counter() - began
    history = [_history(terms_by_epoch, values, int(best_epoch[s]), s) for s in range(stack.size)]
    cost = {
        "parameters": sum(p.numel() for p in head.parameters()),
        "steps": steps * settings.epochs,
        "seconds": seconds,
        "seconds of looking": look_seconds,
        "seconds of the teacher": teacher_seconds,
        "seeds stacked": list(seeds),
        "peak memory of the process MiB": _peak_memory(train_rows.device),
    }
    return Fitted(stack.unstacked(best), history, cost)


class _Teacher:
    """S frozen networks. Where they see all of every utterance (`sees_all`), they are asked once for the whole training
    part, rows (S, n), and not in every step."""

    def __init__(self, modules, pool, rows, sees_all):
        self.stack = Stack(modules).mode(training=False)
        self.known = complete_outputs(self.stack, pool, rows) if sees_all else None

    @torch.no_grad()
    def __call__(self, view, place):
        """What is said of one step's view (S, B, ...), whose utterances stand at `place` (S, B) of the rows."""
        if self.known is None:
            return self.stack("forward", view)
        seed = torch.arange(len(place), device=place.device).unsqueeze(1)
        extras = {name: said[seed, place] for name, said in self.known.extras.items()}
        return Output(self.known.logits[seed, place], self.known.embedding[seed, place], extras)


def _terms(stack, supervision, views, taught):
    """The loss terms (S,) of the views (S, B, ...) of one step; `taught`: what a teacher, or the posterior, says."""
    if supervision in ("plain", "complete"):
        return stack("plain_losses", views)
    if supervision == "oracle":
        return stack("oracle_losses", views, taught)
    return stack("losses", views) if taught is None else stack("losses", views, taught)


def _update(stack, optimiser, terms, head, clip):
    """One optimiser step on the weighted sum of terms, gradients clipped per seed; what gradient surgery has to tell.

    Terms of weight None are watched only.
    """
    weights = {name: weight for name in terms if (weight := head.weights.get(name, 1.0)) is not None}
    optimiser.zero_grad(set_to_none=True)
    watched = {}
    if head.rectified and len(weights) > 1:
        watched = _combine(stack, head, terms, weights)
    else:
        total = sum(weight * terms[name] for name, weight in weights.items())  # (S,)
        total.sum().backward()
    gradients = [p.grad for p in stack.parameters.values() if p.grad is not None]
    if clip:
        norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()  # (S,)
        scale = (clip / (norm + 1e-6)).clamp(max=1)
        for g in gradients:
            g.mul_(scale.view(-1, *[1] * (g.dim() - 1)))
    optimiser.step()
    return watched


def _combine(stack, head, terms, weights):
    """Give every parameter its gradient where a method mixes those of its terms by their inner products; returns what
    the method has to tell of them. Parameters outside its groups get the weighted sum."""
    names = [name.removeprefix("module.") for name in stack.parameters]
    parameters = list(stack.parameters.values())
    each = []  # one list of gradients (S, ...) a term; None where a term does not reach a parameter
    for left, name in zip(reversed(range(len(weights))), weights, strict=True):
        how = {"retain_graph": left > 0, "allow_unused": True}
        each.append(torch.autograd.grad(terms[name].sum(), parameters, **how))
    groups = [[i for i, name in enumerate(names) if name in group] for group in head.rectified]
    flat = [_flat(each, parameters, group) for group in groups]  # (S, K, P_g) of K terms
    gramian = torch.stack([f @ f.mT for f in flat], 1)  # (S, G, K, K)
    coefficients, watched = head.combine(gramian, weights)  # (S, G, K)
    for number, group in enumerate(groups):
        mixed = (coefficients[:, number].unsqueeze(1) @ flat[number]).squeeze(1)  # (S, P_g)
        pieces = mixed.split([parameters[i][0].numel() for i in group], 1)
        for i, piece in zip(group, pieces, strict=True):
            parameters[i].grad = piece.view_as(parameters[i]).contiguous()
    taken = {i for group in groups for i in group}
    for i, p in enumerate(parameters):
        if i not in taken:
            found = [weight * g[i] for weight, g in zip(weights.values(), each, strict=True) if g[i] is not None]
            p.grad = sum(found[1:], found[0]).contiguous() if found else None  # fused Adam reads memory in order
    return watched


def _flat(each, parameters, group):
    """The gradients of K terms by the parameters of a group, side by side: (S, K, P_g)."""
    rows = [[torch.zeros_like(parameters[i]) if g[i] is None else g[i] for i in group] for g in each]
    return torch.stack([torch.cat([piece.flatten(1) for piece in row], 1) for row in rows], 1)


def _selection_value(stack, head, pool, examined, rule, epoch):
    """What selection minimises, per seed (S,): mean over the examined conditions."""
    if rule == "last":
        return torch.full((stack.size,), -float(epoch), device=examined.rows.device)
    logits = outputs(stack, pool, examined.rows, examined.masks)  # (S, C, n, K)
    y = pool.y[examined.rows]  # (S, n)
    values = []
    for said, truth in zip(logits, y, strict=True):
        if rule == "validation-loss":
            flat = Output(said.flatten(0, 1), None)
            values.append(head.task_loss(flat, truth.repeat(len(said))))
        else:
            values.append(torch.tensor(-_mean_score(head, said, truth), device=logits.device))
    return torch.stack(values).float()


def _mean_score(head, logits, y):
    """Main metric of one seed, mean over conditions: logits (C, n, K), y (n,)."""
    task, classes = head.shape.task, head.shape.classes
    name = metrics.main_metric(task)
    predictions = head.prediction(logits).cpu().numpy()
    return np.mean([metrics.score(task, classes, y.cpu().numpy(), p)[name] for p in predictions])


def _history(terms_by_epoch, values, best_epoch, s):
    """Arrays of one seed: `terms/NAME` (epochs,), `look` and `value` (looks,), `best_epoch`."""
    arrays = {f"terms/{name}": np.array([t[name][s] for t in terms_by_epoch]) for name in terms_by_epoch[0]}
    arrays["look"] = np.array([epoch for epoch, _ in values])
    arrays["value"] = np.array([value[s] for _, value in values])
    return arrays | {"best_epoch": np.array(best_epoch)}


def _peak_memory(device):
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float("nan")  # Windows has no getrusage
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
