"""Recording: train a stack of seeds, test it under conditions, write what it leaves. Knows stores and groups."""

import json
import platform
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import torch

from ..data import metrics
from ..data.missing import Trial
from ..training.cohort import Cohort
from ..training.evaluation import outputs
from ..training.stack import Stack
from .experiments import THREADS
from .trials import Tested

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
    names = experiments[0].parents
    parents = {n: [store.record(e.parents[n].key(device)).weights() for e in experiments] for n in names}
    cohort = Cohort(experiments, device)
    fitted = cohort.fit(parents)
    for e, data, weights, history in zip(experiments, cohort.data, fitted.weights, fitted.history, strict=True):
        with store.writing(e.key(device)) as folder:
            y = data.batch.y.numpy()[data.rows("test", e.fold)]
            texts = {"config": e.config(device), "cost": fitted.cost, "environment": _environment(data, y)}
            for name, content in texts.items():
                (folder / f"{name}.json").write_text(json.dumps(content, indent=1))
            np.savez(folder / "weights.npz", **{n: t.cpu().numpy() for n, t in weights.items()})
            np.savez(folder / "history.npz", **history)


def evaluate(experiment, record, trials, embeddings, device):
    """Add what is lacking to a record, from its weights: scores under trials, representations under conditions."""
    unsaid, unseen = record.lacks(trials, embeddings)
    if not unsaid and not unseen:
        return
    cohort = Cohort([experiment], device)
    module, data = cohort.build(experiment), cohort.data[0]
    module.load_state_dict(record.weights())
    stack, numbers = Stack([module]), data.rows("test", experiment.fold)
    for kind, texts in _alike(unsaid, data.batch.modalities).items():
        tested = Tested(cohort, *kind)
        masks = [tested.mask(Trial.parse(text, data.batch.modalities)) for text in texts]
        logits = _asked(stack, tested, masks, texts, experiment.seed).cpu()  # (C, n, K)
        arrays, scores = {"y": data.batch.y.numpy()[numbers], "rows": numbers}, {}
        for text, mask, said in zip(texts, masks, logits, strict=True):
            prediction = module.answer.prediction(said).numpy()
            arrays |= {f"logits/{text}": said.numpy(), f"prediction/{text}": prediction}
            scores[text] = _scores(module, tested, mask, said, prediction)
        if not tested.elsewhere:  # the predictions of a record are those of its own test part
            record.add("predictions", arrays)
        record.add("scores", scores)
    if unseen:
        tested = Tested(cohort)
        masks = [tested.mask(Trial(condition)) for condition in unseen]
        found = _asked(stack, tested, masks, unseen, experiment.seed, "embedding").cpu().numpy()
        y = data.batch.y.numpy()[numbers]
        kept = metrics.sample_per_group(metrics.groups(data.task, y), EMBEDDED)
        shown = {c: points[kept].astype(np.float16) for c, points in zip(unseen, found, strict=True)}
        record.add("embeddings", shown | {"rows": kept, "y": y[kept]})
        group_of = metrics.groups(data.task, y[kept])
        silhouettes = {c: round(metrics.silhouette(points, group_of), 6) for c, points in shown.items()}
        record.add(
            "scores",
            {c: _said(mask, {"silhouette": silhouettes[c]}) for c, mask in zip(unseen, masks, strict=True)},
        )


def _asked(stack, tested, masks, texts, seed, field="logits"):
    """What one network says of a test part under trials, (C, n, K). One that draws random numbers when it is tested has
    draws of its own for each trial."""
    noise = ([seed], texts) if stack.base.module.noisy_at_test else None
    return outputs(stack, *tested.shown, [mask.frames for mask in masks], field, noise)[0]


def _alike(texts, modalities):
    """Trials that show the same features: (draw of the noise, noise, on) -> texts."""
    groups = {}
    for text in texts:
        trial = Trial.parse(text, modalities)
        groups.setdefault((trial.draw if trial.noise else 0, trial.noise, trial.on), []).append(text)
    return groups


def _scores(module, tested, mask, said, prediction):
    """Everything measured of one trial: the scores, agreement with the truth where it is known, how good probabilities
    are where a method says so, and the share of existing slots and frames that its mask takes away (per cent)."""
    data, rows = tested.data, tested.numbers
    found = data.score(prediction, rows)
    if module.scores_calibration:
        found |= metrics.calibration(data.task, data.batch.y.numpy()[rows], module.answer.chances(said).numpy())
    if data.synthetic:
        found["agreement"] = metrics.agreement(data.task, data.truth[rows], prediction)
    found |= {f"missing_{what}": 100 * share for what, share in mask.realised.items()}
    return _said(mask, {name: round(float(value), 6) for name, value in found.items()})


def _said(mask, found):
    return {"mask": mask.hash, "metrics": found}


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
