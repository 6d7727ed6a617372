"""Recording: train a stack of seeds, test it under conditions, write what it leaves. Knows stores and groups."""

import json
import platform
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import torch

from . import metrics
from .evaluation import outputs
from .experiments import THREADS
from .group import Group
from .missing import frozen_mask
from .stack import Stack

EMBEDDED = 100  # utterances of a group whose representations are kept: as many as the figures of the papers show


@contextmanager
def one_thread():
    """Trainings run with a fixed number of threads: the order of their sums depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(experiments, device, store):
    """Train experiments that differ in their seed only, as one stack, and write their records."""
    teachers = [store.record(e.teacher.key(device)).weights() for e in experiments if e.teacher]
    group = Group(experiments, device)
    fitted = group.fit(teachers)
    for e, data, weights, history in zip(experiments, group.data, fitted.weights, fitted.history, strict=True):
        with store.writing(e.key(device)) as folder:
            y = data.batch.y.numpy()[data.rows("test", e.fold)]
            texts = {"config": e.config(device), "cost": fitted.cost, "environment": _environment(data, y)}
            for name, content in texts.items():
                (folder / f"{name}.json").write_text(json.dumps(content, indent=1))
            np.savez(folder / "weights.npz", **{n: t.cpu().numpy() for n, t in weights.items()})
            np.savez(folder / "history.npz", **history)


def evaluate(experiment, record, conditions, embeddings, device):
    """Add what is lacking to a record, from its weights."""
    unsaid, unseen = record.lacks(conditions, embeddings)
    if not unsaid and not unseen:
        return
    group = Group([experiment], device)
    module, data = group.build(experiment), group.data[0]
    module.load_state_dict(record.weights())
    stack, rows, numbers = Stack([module]), group.rows("test"), data.rows("test", experiment.fold)
    if unsaid:
        logits = outputs(stack, group.pool, rows, group.masks(unsaid, "test"))[0].cpu()  # (C, n, K)
        arrays, scores = {"y": data.batch.y.numpy()[numbers], "rows": numbers}, {}
        for condition, said in zip(unsaid, logits, strict=True):
            prediction = module.prediction(said).numpy()
            arrays |= {f"logits/{condition}": said.numpy(), f"prediction/{condition}": prediction}
            scores[condition] = _scores(data, condition, numbers, prediction)
        record.add("predictions", arrays)
        record.add("scores", scores)
    if unseen:
        found = outputs(stack, group.pool, rows, group.masks(unseen, "test"), "embedding")[0].cpu().numpy()
        y = data.batch.y.numpy()[numbers]
        kept = metrics.sample_per_group(metrics.groups(data.task, y), EMBEDDED)
        shown = {c: points[kept].astype(np.float16) for c, points in zip(unseen, found, strict=True)}
        record.add("embeddings", shown | {"rows": kept, "y": y[kept]})
        record.add("scores", {c: _silhouette(data, c, numbers, points, y[kept]) for c, points in shown.items()})


def _scores(data, condition, rows, prediction):
    """Everything measured of one condition: the scores, agreement with the truth where it is known, and the share of
    existing slots and frames that its mask takes away (per cent)."""
    mask = frozen_mask(condition, data.batch, rows, data.mask_key)
    found = data.score(prediction, rows)
    if data.synthetic:
        found["agreement"] = metrics.agreement(data.task, data.truth[rows], prediction)
    found |= {f"missing_{what}": 100 * share for what, share in mask.realised.items()}
    return {"mask": mask.hash, "metrics": {name: round(float(value), 6) for name, value in found.items()}}


def _silhouette(data, condition, rows, points, y):
    mask = frozen_mask(condition, data.batch, rows, data.mask_key)
    value = metrics.silhouette(points, metrics.groups(data.task, y))
    return {"mask": mask.hash, "metrics": {"silhouette": round(value, 6)}}


def _environment(data, y):
    """What was measured on (with the floor of its test labels y), by which versions, where and when."""
    floor = {name: round(value, 6) for name, value in metrics.floor(data.task, data.classes, y).items()}
    return {
        "data": {"task": data.task, "classes": data.classes, "measured_on": data.measured_on, "floor": floor},
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
