"""Optimiser, schedule and clipping of S stacked networks, out of torch's own. Knows settings and parameter groups.

Adam, AdamW and SGD are elementwise, so one optimiser serves all seeds; what looks at a whole network (a norm) does so
seed by seed.
"""

import math

import torch
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from ..support.errors import BadInput


class Optimiser:
    """Moves the parameters of a stack by the gradients that they have.

    groups: `ParameterGroup`s; frozen: prefixes of parameters that stay as they are; steps: moves of an epoch.
    """

    def __init__(self, stack, settings, groups, frozen=(), steps=1):
        self.settings, self.groups = settings, groups
        parameters = {name.removeprefix("module."): p for name, p in stack.parameters.items()}
        for name, parameter in parameters.items():
            parameter.requires_grad_(not name.startswith(tuple(frozen)))
        self.members = _members({n: p for n, p in parameters.items() if p.requires_grad}, groups)
        self.torch = _optimiser(settings, [self._described(*pair) for pair in zip(groups, self.members, strict=True)])
        self.schedule = _schedule(self.torch, settings, steps)

    def _described(self, group, members):
        decay = self.settings.weight_decay if group.weight_decay is None else group.weight_decay
        return {"params": members, "lr": group.lr * self.settings.lr, "weight_decay": decay}

    def zero(self):
        """Forget all gradients."""
        self.torch.zero_grad(set_to_none=True)

    def move(self, step):
        """Clip the gradients of the parameters whose turn it is in a step (counted from 0), and move these."""
        for group, members in zip(self.groups, self.members, strict=True):
            begin, end, period = group.turn
            if not begin <= step % period < end:
                for parameter in members:
                    parameter.grad = None
        if self.settings.clip:
            self._clip()
        self.torch.step()
        if isinstance(self.schedule, LambdaLR):
            self.schedule.step()

    def validated(self, value):
        """Tell the schedule the selection value of an epoch."""
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(value)

    def _clip(self):
        limit, how = self.settings.clip, self.settings.clip_by
        everyone = [parameter for members in self.members for parameter in members]
        together = [everyone] if how == "norm" else self.members
        for members in together:
            if how == "value":
                torch.nn.utils.clip_grad_value_(members, limit)
            elif gradients := [p.grad for p in members if p.grad is not None]:
                clip_norm(gradients, limit)


def clip_norm(gradients, limit):
    """Scale the gradients (S, ...) of each seed so that their common norm is at most `limit`."""
    norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()  # (S,)
    scale = (limit / (norm + 1e-6)).clamp(max=1)
    for g in gradients:
        g.mul_(scale.view(-1, *[1] * (g.dim() - 1)))


def _members(parameters, groups):
    """The parameters of each group; refuses one that is in no group, or in two."""
    found = [[n for n in parameters if n.startswith(tuple(group.prefixes))] for group in groups]
    named = [name for names in found for name in names]
    if wrong := sorted(set(parameters) - set(named)) or sorted(n for n in set(named) if named.count(n) > 1):
        raise BadInput(
            f"parameter {wrong[0]!r} is in {named.count(wrong[0])} of the method's parameter groups: let exactly one "
            "have a prefix of its name."
        )
    return [[parameters[name] for name in names] for names in found]


def _optimiser(settings, groups):
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimiser]
    return kind(groups, lr=settings.lr, betas=settings.betas, fused=True)


def _schedule(optimiser, settings, steps):
    """A scheduler of torch, stepped once a move (or, on a plateau, once an epoch); None for a constant rate."""
    if settings.schedule == "constant":
        return None
    if settings.schedule == "plateau":
        return ReduceLROnPlateau(optimiser, factor=settings.factor, patience=settings.patience)
    total, warm = steps * settings.epochs, settings.warmup * steps * settings.epochs
    flat = round(settings.decay_from * settings.epochs)

    def linear(move):
        return 1 - max(0, move // steps + 1 - flat) / (settings.epochs - flat + 1)

    def steps_down(move):
        return settings.factor ** sum(move // steps >= epoch for epoch in settings.decay_at)

    def cosine(move):
        if move < warm:
            return (move + 1) / math.ceil(warm)
        return (1 + math.cos(math.pi * (move - warm) / max(1, total - warm))) / 2

    return LambdaLR(optimiser, {"linear": linear, "steps": steps_down, "cosine": cosine}[settings.schedule])
