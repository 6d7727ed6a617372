"""Scores from labels and predictions, with their floors. Knows arrays only.

A name says what is computed: `nonzero` drops utterances whose *label* is 0 and compares signs (a prediction of
exactly 0 counts as negative); `weighted` is the support-weighted mean over both classes; `f1_weighted_happy` is the
weighted F1 of the binary question "happy or not".
"""

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, silhouette_score

from .draws import generator
from .errors import one_of

TASKS = ("regression", "classification")


def _binary(truth, said):
    """Weighted F1 and accuracy of one binary question, in per cent; NaN without utterances."""
    if not len(truth):
        return {"f1_weighted": np.nan, "acc": np.nan}
    f1 = f1_score(truth, said, labels=[False, True], average="weighted", zero_division=0)
    return {"f1_weighted": 100 * f1, "acc": 100 * accuracy_score(truth, said)}


def score(task, classes, y, prediction):
    """Every metric of `task` as {name: per cent}.

    regression: y (N,) scores, prediction (N,) whose sign is the polarity.
    classification: y (N,) class indices, prediction (N, C) bool, the classes said to hold (one, or several with
    one-vs-rest heads).
    """
    one_of("task", task, TASKS)
    if task == "regression":
        kept = y != 0
        return {f"{name}_nonzero": v for name, v in _binary(y[kept] > 0, prediction[kept] > 0).items()}
    each = {label: _binary(y == c, prediction[:, c]) for c, label in enumerate(classes)}
    scores = {f"{name}_{label}": v for label, found in each.items() for name, v in found.items()}
    return scores | {
        f"{name}_mean": float(np.mean([found[name] for found in each.values()])) for name in ("f1_weighted", "acc")
    }


def main_metric(task):
    """The metric that selection by score uses and that curves show by default."""
    return {"regression": "f1_weighted_nonzero", "classification": "f1_weighted_mean"}[one_of("task", task, TASKS)]


def floor(task, classes, y):
    """The best score that a constant prediction reaches on the labels y, metric by metric."""
    if task == "regression":
        constants = [np.full(len(y), value) for value in (-1.0, 1.0)]
    else:
        constants = [np.tile(row, (len(y), 1)) for row in (*np.eye(len(classes), dtype=bool), [False] * len(classes))]
    scores = [score(task, classes, y, constant) for constant in constants]
    return {name: max(s[name] for s in scores) for name in scores[0]}


def agreement(task, truth, prediction):
    """Per cent of utterances whose polarity, or one class, is that of the latent truth (N,), which only a synthetic
    benchmark knows; truth 0 of a score is left out."""
    if one_of("task", task, TASKS) == "regression":
        kept = truth != 0
        return 100 * float((np.sign(prediction) == np.sign(truth))[kept].mean())
    right = prediction[np.arange(len(truth)), truth] & (prediction.sum(1) == 1)
    return 100 * float(right.mean())


def groups(task, y):
    """What representations are coloured by, (N,) int: the class, or the sign of a score (-1, 0, 1)."""
    return y if one_of("task", task, TASKS) == "classification" else np.sign(y).astype(int)


def sample_per_group(group, count, seed=0):
    """Indices of at most `count` utterances of each group (N,), drawn once, in order."""
    drawn = generator("sample", seed)
    return np.sort(np.concatenate([drawn.permutation(np.flatnonzero(group == g))[:count] for g in np.unique(group)]))


def silhouette(embedding, group):
    """Mean silhouette (b - a) / max(a, b) of representations (N, D), from -1 to 1: a is the mean Euclidean distance to
    one's own group, b that to the nearest other one. NaN with fewer than two groups."""
    if not 2 <= len(np.unique(group)) < len(group):
        return np.nan
    return float(silhouette_score(np.asarray(embedding, np.float64), group))
