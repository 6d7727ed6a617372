"""Your own torch model beside the handbook's: trained on its training views, tested under its conditions, in its table.

Knows benchmarks, masks and tables; nothing of methods or of the run store.
"""

import pandas as pd
import torch

from ..data import metrics
from ..data.missing import FIXED_SUBSETS, available, frozen_mask, training_view
from ..data.synthetic import exact
from ..support.draws import Draws, generator
from ..support.errors import BadInput
from .comparison import Comparison
from .tables import AVERAGE, on_shared_seeds, with_average

AT_ONCE = 512  # utterances in one forward pass


def training_views(benchmark, seed=0, batch=64, epochs=20, fold=None, subsets="yes", frames="yes"):
    """The batches that a method of the handbook trains on: a `Batch` (B, ...) after another, standardised, in
    the order of the seed, with modalities and frames missing as `training_view` draws them; an incomplete last one is
    left out."""
    rows = benchmark.rows("train", fold)
    utterances, size = benchmark.standardised(rows), min(batch, len(rows))
    steps = len(rows) // size
    for epoch in range(1, epochs + 1):
        order = generator(seed, "order", epoch).permutation(len(rows))
        for step in range(steps):
            chosen = torch.from_numpy(rows[order[step * size : (step + 1) * size]])
            draws = Draws([seed], (epoch - 1) * steps + step)
            yield training_view(utterances.take(chosen.unsqueeze(0)), draws, subsets, frames).take(0)


@torch.no_grad()
def evaluate_model(model, benchmark, conditions=FIXED_SUBSETS, label="mine", seed=0, fold=None):
    """Scores of a model under conditions: a frame as `scores` makes it from records.

    model(batch) -> what `metrics.score` takes, as a tensor: scores (B,), or probabilities (B, C). It is shown the
    standardised test part under the frozen mask of each condition; labels are hidden.
    """
    rows = benchmark.rows("test", fold)
    shown = benchmark.standardised(benchmark.rows("train", fold)).take(torch.from_numpy(rows))
    nothing = torch.full_like(shown.y, torch.nan if shown.y.is_floating_point() else -1)
    model.eval()
    found = {}
    for condition in available(conditions, benchmark.batch.modalities):
        mask = frozen_mask(condition, benchmark.batch, rows, benchmark.mask_key)
        batch = shown._replace(y=nothing).show(mask.frames)
        parts = torch.arange(len(rows)).split(AT_ONCE)
        said = torch.cat([_prediction(model, batch.take(some)) for some in parts]).cpu().numpy()
        found[condition] = benchmark.score(said, rows)
    lines = [
        (benchmark.name, label, seed, condition, name, value)
        for condition, values in with_average(found).items()
        for name, value in values.items()
    ]
    return pd.DataFrame(lines, columns=["benchmark", "system", "seed", "condition", "metric", "value"])


def _prediction(model, batch):
    said = model(batch)
    if len(said) != len(batch.y) or (batch.y.is_floating_point() and said.dim() != 1):
        shapes = "(B,) for scores, (B, C) for classes"
        raise BadInput(f"the model says {tuple(said.shape)} of {len(batch.y)} utterances: return {shapes}.")
    return said


def table_of(frame, benchmark, metric="", conditions=(*FIXED_SUBSETS[:-1], AVERAGE, FIXED_SUBSETS[-1])):
    """Scores (a frame of `scores`, or a list of such) as a table of text: a row a system with mean and 95 % interval
    over the seeds that all of them have, then the ceiling (where the exact posterior is known) and the floor, the best
    constant."""
    metric = metric or metrics.main_metric(benchmark.task)
    frame = pd.concat(frame) if isinstance(frame, list) else frame
    asked = available([c for c in conditions if c != AVERAGE], benchmark.batch.modalities)
    ceiling = with_average(exact.ceilings_under(benchmark, asked)) if benchmark.synthetic else {}
    columns = [c for c in conditions if c == AVERAGE or c in asked]
    y = benchmark.batch.y.numpy()[benchmark.rows("test", benchmark.folds[0])]
    return Comparison(
        printed=pd.DataFrame(columns=["dataset", "metric", "system", "condition", "value", "ci"]),
        scores=on_shared_seeds(frame, columns),
        floor={benchmark.name: metrics.floor(benchmark.task, benchmark.classes, y)},
        datasets={benchmark.name: benchmark.name},
        columns=columns,
        built=set(),
        metric_names={metric: metric},
        measured_on={benchmark.name: benchmark.measured_on},
        ceiling={benchmark.name: ceiling},
    ).table()
