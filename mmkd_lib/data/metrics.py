"""Scores from labels and predictions, with their floors. Knows arrays only.

What a prediction is decides what can be scored, and its array says it:

    (N,) float     scores: every metric of a score
    (N,) int       signs, of a system that tells polarity only: the metrics of signs
    (N, C) float   probabilities of C classes, the largest one is the answer: every metric of classes
    (N, C) bool    answers to C questions "is it this class?", by one-vs-rest heads: the metrics of such questions

A name says what is computed: `nonzero` drops utterances whose *label* is 0 and compares signs (a prediction of exactly
0 counts as negative), `nonneg` keeps all and asks "negative or not?"; `weighted` is the support-weighted mean over both
answers, or all classes; `f1_weighted_happy` is the weighted F1 of the question "happy or not?". Accuracies, F1 and ECE
are per cent; MAE has the unit of the score, NLL is in nats, the Brier score goes from 0 to 2, correlation from -1 to 1.
"""

import numpy as np
from sklearn.metrics import silhouette_score

from ..support.draws import generator
from ..support.errors import one_of

TASKS = ("regression", "classification")
LOWER_IS_BETTER = ("mae", "brier", "nll", "ece", "brier_binary", "nll_binary")
NOT_PER_CENT = ("mae", "corr", "brier", "nll", "brier_binary", "nll_binary")
BINS = 15  # of the calibration error


def score(task, classes, y, prediction):
    """Every metric of `task` that the prediction allows, as {name: value}; NaN where no utterance counts.

    y (N,): scores, or class indices. prediction: see the head of this module.
    """
    if one_of("task", task, TASKS) == "regression":
        return _of_signs(y, prediction) | (_of_scores(y, prediction) if prediction.dtype.kind == "f" else {})
    return _of_questions(classes, y, answers(prediction)) | (
        _of_classes(y, prediction) if prediction.dtype.kind == "f" else {}
    )


def answers(prediction):
    """The classes said to hold, (N, C) bool: as they are, or the most probable one of each utterance."""
    if prediction.dtype.kind != "f":
        return prediction
    return np.arange(prediction.shape[1]) == prediction.argmax(1)[:, None]


def _of_signs(y, prediction):
    kept = y != 0
    found = {f"{name}_nonzero": v for name, v in _yes_or_no(y[kept] > 0, prediction[kept] > 0).items()}
    return found | {f"{name}_nonneg": v for name, v in _yes_or_no(y >= 0, prediction >= 0).items()}


def _of_scores(y, prediction):
    """Seven classes two ways, mean absolute error, Pearson's correlation (NaN for a constant)."""
    if not len(y):
        return dict.fromkeys(("acc7_rounded", "acc7_bins", "mae", "corr"), np.nan)
    y, prediction = y.astype(np.float64), prediction.astype(np.float64)
    centred, told = y - y.mean(), prediction - prediction.mean()
    spread = np.sqrt(centred @ centred * (told @ told)) if np.ptp(y) and np.ptp(prediction) else 0
    return {
        "acc7_rounded": 100 * float((rounded(y) == rounded(prediction)).mean()),
        "acc7_bins": 100 * float((binned(y) == binned(prediction)).mean()),
        "mae": float(np.abs(y - prediction).mean()),
        "corr": float(centred @ told / spread) if spread > 0 else np.nan,
    }


def rounded(score):
    """Seven classes as most code makes them: the nearest whole number, halves to the even one, within -3 ... 3."""
    return np.round(np.clip(score, -3, 3)).astype(int)


def binned(score):
    """Seven classes as CMU-MOSEI defines them: (0, 1] is 1, (1, 2] is 2, ...; only 0 is 0; alike below."""
    limited = np.clip(score, -3, 3)
    return (np.sign(limited) * np.ceil(np.abs(limited))).astype(int)


def _yes_or_no(truth, said):
    """Weighted F1 and accuracy of one question, in per cent, from its four counts."""
    n = len(truth)
    if not n:
        return {"f1_weighted": np.nan, "acc": np.nan}
    yes, claims, hits = int(truth.sum()), int(said.sum()), int((truth & said).sum())
    no, denials, rejections = n - yes, n - claims, n - yes - claims + hits
    f1_yes, f1_no = 2 * hits / max(yes + claims, 1), 2 * rejections / max(no + denials, 1)
    return {"f1_weighted": 100 * (yes * f1_yes + no * f1_no) / n, "acc": 100 * (hits + rejections) / n}


def _of_questions(classes, y, said):
    """Each class against the rest, and the unweighted mean over classes."""
    each = {label: _yes_or_no(y == c, said[:, c]) for c, label in enumerate(classes)}
    found = {f"{name}_{label}": v for label, scores in each.items() for name, v in scores.items()}
    return found | {
        f"{name}_mean": float(np.mean([scores[name] for scores in each.values()])) for name in ("f1_weighted", "acc")
    }


def _of_classes(y, probability):
    """One answer an utterance: WA (accuracy), UA (mean recall of the classes that occur), F1 weighted by support and
    macro (over the classes that occur or are said); and how good the probabilities are.

    Brier = mean of sum_c (p_c - [y = c])^2, NLL = mean of -log p_y,
    ECE = sum over BINS equal bins of the largest p of share |accuracy - mean largest p|.
    """
    if not len(y):
        return dict.fromkeys(("wa", "ua", "f1_weighted", "f1_macro", "brier", "nll", "ece"), np.nan)
    p = probability.astype(np.float64)
    said, truth = p.argmax(1), y[:, None] == np.arange(p.shape[1])
    support, claims = truth.sum(0), np.bincount(said, minlength=p.shape[1])
    hits = np.bincount(said[said == y], minlength=p.shape[1])
    f1 = 2 * hits / np.maximum(support + claims, 1)
    surest, right = p.max(1), said == y
    bins = np.clip(np.ceil(surest * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, right - surest, BINS)
    tiny = np.finfo(np.float64).tiny
    return {
        "wa": 100 * float(right.mean()),
        "ua": 100 * float((hits / np.maximum(support, 1))[support > 0].mean()),
        "f1_weighted": 100 * float((f1 * support).sum() / len(y)),
        "f1_macro": 100 * float(f1[support + claims > 0].mean()),
        "brier": float(((p - truth) ** 2).sum(1).mean()),
        "nll": float(-np.log(np.maximum(p[truth], tiny)).mean()),
        "ece": 100 * float(np.abs(gaps).sum() / len(y)),
    }


def calibration(task, y, chances):
    """How good probabilities of yes-or-no questions are, MCUR Eqs. 25-26: `brier_binary`, the mean of (p - [yes])^2,
    and `nll_binary`, that of -log of the right answer's probability; means over questions and utterances.

    y (N,): scores, or class indices. chances: (N, 1), that a score is positive (labels of 0 do not count), or (N, C),
    that it is the class.
    """
    if one_of("task", task, TASKS) == "regression":
        kept = y != 0
        truth, p = (y[kept] > 0)[:, None], chances[kept].astype(np.float64)
    else:
        truth, p = y[:, None] == np.arange(chances.shape[1]), chances.astype(np.float64)
    if not len(truth):
        return dict.fromkeys(("brier_binary", "nll_binary"), np.nan)
    right = np.where(truth, p, 1 - p)
    tiny = np.finfo(np.float64).tiny
    return {
        "brier_binary": float(((1 - right) ** 2).mean()),
        "nll_binary": float(-np.log(np.maximum(right, tiny)).mean()),
    }


def main_metric(task):
    """The metric that selection by score uses and that curves show by default."""
    return {"regression": "f1_weighted_nonzero", "classification": "f1_weighted_mean"}[one_of("task", task, TASKS)]


def better(name):
    """max or min: which of two values of a metric is the better one."""
    return min if name in LOWER_IS_BETTER else max


def floor(task, classes, y):
    """The best value that a constant prediction reaches on the labels y, metric by metric.

    Constants: the seven whole scores and the median; each class, none, and the shares of the classes among y; of the
    questions of `calibration` the base rate of each. No constant has a correlation: its floor is 0.
    """
    if one_of("task", task, TASKS) == "regression":
        constants = [np.full(len(y), value, np.float64) for value in (*range(-3, 4), np.median(y) if len(y) else 0)]
    else:
        single = np.eye(len(classes))
        shares = np.bincount(y, minlength=len(classes)) / max(len(y), 1)
        constants = [np.tile(row, (len(y), 1)) for row in (*single, shares)]
        constants.append(np.zeros((len(y), len(classes)), bool))
    scores = [score(task, classes, y, constant) for constant in constants]
    names = dict.fromkeys(name for found in scores for name in found)
    best = {name: better(name)(found[name] for found in scores if name in found) for name in names}
    kept = y[y != 0] if task == "regression" else y
    yes = [kept > 0] if task == "regression" else [kept == c for c in range(len(classes))]
    best |= calibration(task, y, np.tile([one.sum() / max(len(kept), 1) for one in yes], (len(y), 1)))
    return best | ({"corr": 0.0 if len(y) else np.nan} if "corr" in best else {})


def agreement(task, truth, prediction):
    """Per cent of utterances whose polarity, or one class, is that of the latent truth (N,), which only a synthetic
    benchmark knows; truth 0 of a score is left out."""
    if one_of("task", task, TASKS) == "regression":
        kept = truth != 0
        return 100 * float((np.sign(prediction) == np.sign(truth))[kept].mean())
    said = answers(prediction)
    right = said[np.arange(len(truth)), truth] & (said.sum(1) == 1)
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
