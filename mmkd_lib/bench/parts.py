"""Rows of single systems: what stands out in the step of one of them, over the step or over a floor."""

from functools import partial

import torch

from ..methods.dynkd import Routing, members, shapley_values
from ..methods.mcur import combination_contrast, similarities
from ..support.draws import Draws
from ..training.fit import fit
from ..training.stack import Stack
from .measuring import Limit, Measured, Row, against, in_turn, seconds
from .training import PAPER_STEPS, SMALL_STEPS, prepared, step_seconds


def surgery(benchmark, size, epochs, repetitions):
    """A step of DynKD with its three gradients rectified over the same step with its three losses summed."""
    rectified, summed = (
        prepared("dynkd", benchmark, size, [0], epochs, options={"rectify": how}) for how in ("flat", "none")
    )
    ours, theirs = in_turn([lambda r=r: step_seconds(fit(r).cost) for r in (rectified, summed)], repetitions)
    return Measured(ours / theirs, against(ours, theirs))


def _first_step(benchmark, size, options=()):
    """(network, tokens, labels, routing) of a first training step of DynKD, for one seed."""
    ready = prepared("dynkd", benchmark, size, [0], 1, options=options)
    network, indices = ready.methods[0], ready.train[:, : ready.settings.batch]
    views, drawn = network.views(ready.utterances.take(indices), Draws([0], 0))
    with torch.no_grad():
        [tokens] = Stack([network])("encode", views["complete"])
    return network, tokens, views["complete"].y[0], Routing(*(t[0] for t in drawn["routing"]))


def sets(benchmark="synthetic-mosi-n320", size="paper", repetitions=15, passes=10):
    """Fusing and valuing what routing asks for, from tokens, over one fusion of as many rows that stand ready."""
    network, tokens, y, routing = _first_step(benchmark, size)
    rows, shown = tokens[routing.row], members(tokens.shape[-2])[routing.code]

    def asked():
        for _ in range(passes):
            network.consider(tokens, y, routing)

    @torch.no_grad()
    def floor():
        for _ in range(passes):
            network.fuse(rows, shown)

    ours, alone = in_turn([partial(seconds, asked), partial(seconds, floor)], repetitions)
    return Measured(
        ours / alone, f"{against(ours / passes, alone / passes)} for {len(rows)} rows of {len(y)} utterances"
    )


def shapley_share(benchmark="synthetic-iemocap-m5-n320", size="small", repetitions=15, passes=20):
    """The Shapley values of a batch of utterances with five modalities over the whole training step."""
    _, _, y, routing = _first_step(benchmark, size, {"added": 2})
    values, ready = torch.randn(len(y), 32), prepared("dynkd", benchmark, size, [0], 2, options={"added": 2})

    def games():
        for _ in range(passes):
            shapley_values(values, routing.student, routing.exists)

    ours, whole = in_turn([partial(seconds, games), lambda: step_seconds(fit(ready).cost)], repetitions)
    return Measured(ours / passes / whole, f"{against(ours / passes, whole)} for {len(y)} utterances")


def contrast_share(benchmark="synthetic-mosei", size="small", repetitions=15, passes=20):
    """MCB-CL of a batch of embeddings, with its gradient, over the whole training step."""
    ready = prepared("mcur", benchmark, size, [0], 2)
    network, rows = ready.methods[0], ready.train[0, : ready.settings.batch]
    embedding = torch.randn(len(rows), network.options.width, requires_grad=True)
    classes, combination = network.labels(ready.utterances.y[rows]), torch.arange(len(rows)) % 7

    def contrast():
        for _ in range(passes):
            near = similarities(embedding, network.options.temperature)
            combination_contrast(near, combination, classes).backward()

    ours, whole = in_turn([partial(seconds, contrast), lambda: step_seconds(fit(ready).cost)], repetitions)
    return Measured(ours / passes / whole, f"{against(ours / passes, whole)} for {len(rows)} utterances")


RECTIFIED = "dynkd: a step with rectified gradients over one with summed losses"
ROWS = (
    Row(f"{RECTIFIED}, `small`", Limit("at most", 2.2), partial(surgery, **SMALL_STEPS)),
    Row(f"{RECTIFIED}, `paper`", Limit("at most", 2.2), partial(surgery, **PAPER_STEPS)),
    Row("dynkd: valuing the sets asked for over one fusion of as many rows", Limit("at most", 1.1), sets),
    Row("dynkd: Shapley values of five modalities over a step", Limit("below", 0.05), shapley_share),
    Row("mcur: MCB-CL of a batch, its gradient too, over a step", Limit("below", 0.1), contrast_share),
)
