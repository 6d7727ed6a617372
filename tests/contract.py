"""What tests of one method say of the contract in a line: its steps, terms and weights, alone or stacked."""

import torch

from mmkd_lib.methods.steps import Clock, Step
from mmkd_lib.training.fit import backward
from mmkd_lib.training.optimisers import clip_norm

CLOCK = Clock("method", 1, 1, 0, 1)
DRAWN = ("routing", "world")  # what a step holds beside views


def step_of(views, teacher=None, soft=None):
    """A step of these views (and what else was drawn, under its name), with what a teacher, or the posterior, says."""
    batches = {name: view for name, view in views.items() if name not in DRAWN}
    drawn = {name: thing for name, thing in views.items() if name in DRAWN}
    return Step(batches, drawn, {} if teacher is None else {"complete": teacher}, None, soft)


def views_drawn(method, batch, draws):
    """The views of a step, and what else is drawn, in one dict."""
    views, drawn = method.views(batch, draws)
    return views | drawn


def losses(method, views, teacher=None):
    found = method.losses(step_of(views, teacher), clock=CLOCK)
    return found[0] if isinstance(found, tuple) else found


def plain_losses(method, views, stage="plain"):
    return method.plain_losses(step_of(views), clock=CLOCK._replace(stage=stage))


def oracle_losses(method, views, soft):
    return method.oracle_losses(step_of(views, soft=soft), clock=CLOCK)


def weights_of(method):
    return method.weights(CLOCK)


def stacked_losses(stack, kind, views, teacher=None, soft=None, stage="method"):
    """The terms of stacked seeds: kind is losses, plain_losses or oracle_losses."""
    return stack.losses(kind, step_of(views, teacher, soft), CLOCK._replace(stage=stage))[0]


def update(stack, optimiser, terms, method, clip):
    """One move of an optimiser of torch by the weighted sum of terms, clipped per seed; what surgery has to tell."""
    optimiser.zero_grad(set_to_none=True)
    watched = backward(stack, method, terms, CLOCK)
    if clip:
        clip_norm([p.grad for p in stack.parameters.values() if p.grad is not None], clip)
    optimiser.step()
    return watched


def in_double(ready):
    """All that `fit` takes, in float64."""
    modules = {name: [module.double() for module in some] for name, some in ready.parents.items()}
    batch = ready.utterances
    y = batch.y.double() if batch.y.dtype == torch.float32 else batch.y
    return ready._replace(
        methods=[module.double() for module in ready.methods],
        parents=modules,
        soft=None if ready.soft is None else ready.soft.double(),
        world=None if ready.world is None else ready.world.double(),
        utterances=batch._replace(x={m: x.double() for m, x in batch.x.items()}, y=y),
    )
