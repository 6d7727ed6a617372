"""What tests of one method share: small networks and batches in float64, comparisons of ten digits, and steps, terms
and weights of the contract in a line, alone or stacked."""

from dataclasses import fields

import torch
import torch.nn.functional as F

from mmkd_lib.data.batch import Batch, Shape
from mmkd_lib.methods.base import NUMBER, SHARE, WHOLE
from mmkd_lib.methods.steps import Clock, Step
from mmkd_lib.training.fit import backward
from mmkd_lib.training.optimisers import clip_norm

CLOCK = Clock("method", 1, 1, 0, 1)
DRAWN = ("routing", "world")  # what a step holds beside views
TASKS = ("regression", "classification")
EMOTIONS = ("happy", "sad", "angry", "neutral")
WIDTHS = {"l": 5, "a": 4, "v": 3, "e": 2, "g": 3}
ALIGNED = {"l": 5, "a": 5, "v": 1}  # frames of each modality: word-aligned, with one vision vector
EQUAL = {"l": 5, "a": 5, "v": 5}
standard_normal = torch.randn  # whatever a test puts in its place


# --- numbers ---------------------------------------------------------------------------------------------------------


def drawn(*shape, seed=0):
    """Standard normal numbers."""
    return standard_normal(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(actual, expected):
    """Equal to about ten digits, and nothing was computed in single precision on the way."""
    expected = torch.as_tensor(expected, dtype=torch.float64).detach()
    torch.testing.assert_close(actual.detach(), expected, rtol=1e-9, atol=1e-11)


def far(actual, other):
    """Not equal, by more than rounding."""
    return not torch.allclose(actual, other, rtol=1e-6, atol=1e-9)


def leaves(*tensors):
    return [t.clone().requires_grad_() for t in tensors]


def gradients_are_right(function, *tensors):
    return torch.autograd.gradcheck(function, leaves(*tensors))


# --- small networks and batches --------------------------------------------------------------------------------------


def shape(task, lengths):
    widths = {m: WIDTHS[m] for m in lengths}
    return Shape(widths, lengths, task, EMOTIONS if task == "classification" else ())


def network(method, like, options, seed=0):
    """A network of a class, a shape and options, in float64."""
    torch.manual_seed(seed)
    return method(like, method.Options.of(**options)).double()


def shaken(module, seed=None):
    """Norms and biases that are no longer ones and zeros, so that none can stand in for another."""
    if seed is not None:
        torch.manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.2 * torch.randn_like(p)
    return module


def sequences(n, seed, lengths, without=None, alike=False):
    """Features and masks of N utterances of different lengths, padded; the same in all modalities where they are
    `alike`. `without`: utterance -> modalities that it lacks."""
    valid = {}
    for i, (m, steps) in enumerate(lengths.items()):
        frames = 1 + (drawn(n, seed=seed + i * (not alike)).abs() * steps).long() % steps
        for utterance, lost in (without or {}).items():
            frames[utterance] *= m not in lost
        valid[m] = torch.arange(steps) < frames.unsqueeze(1)
    x = {m: drawn(n, lengths[m], WIDTHS[m], seed=seed + 10 + i) for i, m in enumerate(lengths)}
    return {m: t * valid[m].unsqueeze(-1) for m, t in x.items()}, valid


def scores(n, seed, spread):
    """From -3 to 3 in steps of 0.5."""
    return (drawn(n, seed=seed + 20) * spread).round().clamp(-6, 6) / 2


def some_frames(batch, seed=0):
    """About half of the frames, and nothing of the first modality of the first utterance."""
    shown = {m: drawn(*batch.frames[m].shape, seed=seed + i) > 0 for i, m in enumerate(batch.x)}
    shown[batch.modalities[0]][..., 0, :] = False
    return shown


def stacked(*batches):
    """Batches side by side on a leading seed axis."""
    parts = ({m: torch.stack([b[i][m] for b in batches]) for m in batches[0].x} for i in range(3))
    return Batch(*parts, torch.stack([b.y for b in batches]))


def longer(batch, by):
    """The same utterances, every sequence padded by some frames more."""

    def pad(t, m):
        return F.pad(t, (0, 0) * (t.ndim - 2) + (0, by if batch.valid[m].shape[1] > 1 else 0))

    return Batch(*({m: pad(t, m) for m, t in field.items()} for field in batch[:3]), batch.y)


def with_other_values(batch, where, seed=7):
    """The batch with wild raw features in the frames `where` (m -> bool)."""
    other = {m: 1e3 * drawn(*t.shape, seed=seed + i) for i, (m, t) in enumerate(batch.x.items())}
    return batch._replace(x={m: torch.where(where[m].unsqueeze(-1), other[m], t) for m, t in batch.x.items()})


def disturb(module, where):
    """Wild numbers in what a module says of the frames (B, T) that `where` names for that many."""

    def hook(_, __, said):
        return torch.where(where[len(said)].unsqueeze(-1), 1e3 * drawn(*said.shape, seed=9), said)

    module.register_forward_hook(hook)


def other_choices(options_class, usual):
    """(option, value): every named value but the one in use; of a number twice or half of it."""
    for spec in fields(options_class):
        value, allowed = usual.get(spec.name, spec.default), spec.metadata["allowed"]
        others = {WHOLE: lambda v: [2 * v], NUMBER: lambda v: [v / 2], SHARE: lambda v: [v / 2]}
        found = others[allowed](value) if isinstance(allowed, str) else [v for v in allowed if v != value]
        yield from ((spec.name, other) for other in found)


# --- two versions of a training step ---------------------------------------------------------------------------------


def plain_batch(n, steps=12):
    """One seed, N complete utterances of three modalities with one feature."""
    valid = {m: torch.ones(1, n, steps, dtype=torch.bool) for m in "lav"}
    return Batch({m: torch.ones(1, n, steps, 1) for m in "lav"}, valid, valid, torch.zeros(1, n))


def patterns(view):
    """The modalities that each utterance of the one seed is left with, as a string."""
    there = {m: frames[0].any(-1).tolist() for m, frames in view.frames.items()}
    return ["".join(m for m in there if there[m][n]) for n in range(len(view.y[0]))]


def frames_of(views):
    """The masks of every view, (views, S, all frames)."""
    return torch.stack([torch.cat([f.flatten(1) for f in view.frames.values()], -1) for view in views.values()])


# --- steps, terms and weights ----------------------------------------------------------------------------------------


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
