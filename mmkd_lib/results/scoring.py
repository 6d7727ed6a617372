"""`mmkd score`: every metric of somebody's predictions, with its floor, what it is and who in the field uses it. Knows
metrics and run records, nothing of training."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..data import metrics
from ..data.readers import arrays
from ..runs.store import Record
from ..support.errors import BadInput

SHAPES = (
    "a .csv with columns `label` and `prediction` (scores, or class names) or `label` and a column of probabilities "
    "for each class, an .npz with y, prediction and for classes their names in classes, or the folder of a run record"
)
OF_PROBABILITIES = ("brier", "nll", "ece")

# metric, or its beginning -> (what it is, who in the field reports it, read in public code and papers)
EXPLAINED = {
    "f1_weighted_nonzero": (
        "F1 of negative against positive, weighted by support; labels of 0 dropped, a prediction of 0 is negative",
        "F1 (Non0) of MMSA, GCNet, MoMKE, IMDer, DMD, MERBench; MulT and MISA with the two arguments swapped; MCUR",
    ),
    "acc_nonzero": (
        "accuracy of negative against positive; labels of 0 dropped",
        "Acc-2 (Non0) of MMSA, MulT, GCNet, MoMKE; IMDer and DMD print only this and call it Acc_2; MCUR",
    ),
    "f1_weighted_nonneg": (
        "F1 of negative against the rest, weighted by support; all utterances",
        "F1 (Has0) of MMSA and LNLN, non-neg of MISA",
    ),
    "acc_nonneg": ("accuracy of negative against the rest", "Acc-2 (Has0) of MMSA and LNLN, non-neg of MISA"),
    "acc7_rounded": ("seven classes: rounded, halves to even, within -3 ... 3", "Acc-7 of all public code we read"),
    "acc7_bins": ("seven classes: (0, 1] is 1, only 0 is 0", "the definition of CMU-MOSEI"),
    "mae": ("mean absolute error, points of the score; lower is better", "MMSA, MulT, ...; MoMKE without labels of 0"),
    "corr": ("Pearson's correlation", "MMSA, MulT, ...; MoMKE without labels of 0"),
    "wa": ("accuracy over all utterances", "WA of MoMKE and GCNet; MulT calls balanced accuracy weighted"),
    "ua": ("mean recall of the classes: balanced accuracy", "UA of MoMKE, UAR of MMIN"),
    "f1_weighted": ("F1 of one answer among all classes, weighted by support", "IEMOCAP of GCNet and MERBench, MPLMM"),
    "f1_macro": ("F1 of one answer among all classes, classes weigh the same", "MMIN"),
    "f1_weighted_mean": (
        "the mean over classes of the F1 of `this class or not?`",
        "MCUR's and CorrKD's IEMOCAP columns",
    ),
    "acc_mean": ("the mean over classes of the accuracy of `this class or not?`", "MCUR's IEMOCAP column"),
    "f1_weighted_": (
        "weighted F1 of `this class or not?`; saying no scores high",
        "IEMOCAP of MulT, CMAD, CorrKD, MCUR",
    ),
    "acc_": ("accuracy of `this class or not?`; saying no scores high", "IEMOCAP of MulT, CMAD, MCUR"),
    "brier": ("squared error of the probabilities, summed over classes (0 to 2); lower is better", "MCUR"),
    "nll": ("negative log likelihood, nats; lower is better", "MCUR"),
    "ece": ("expected calibration error over 15 bins; lower is better", "the literature on calibration"),
}


def explain(name):
    """(what a metric is, who uses it)."""
    known = [key for key in EXPLAINED if name == key or (key.endswith("_") and name.startswith(key))]
    return EXPLAINED[max(known, key=len)]


def table(task, classes, y, prediction, explained=False):
    """One row a metric: value, floor (the best constant on the same labels), and on wish what it is and who uses it."""
    found, floor = _found(task, classes, y, prediction), metrics.floor(task, classes, y)
    rows = {name: {"value": value, "floor": floor[name]} for name, value in found.items()}
    if explained:
        for name, row in rows.items():
            row["what"], row["who"] = explain(name)
    return pd.DataFrame(rows.values(), index=pd.Index(rows, name="metric"))


def _found(task, classes, y, prediction):
    """`metrics.score`; where each utterance got one answer without probabilities, with the metrics of one answer."""
    if task == "regression" or prediction.dtype.kind == "f" or (prediction.sum(1) != 1).any():
        return metrics.score(task, classes, y, prediction)
    found = metrics.score(task, classes, y, prediction.astype(float))
    return {name: value for name, value in found.items() if name not in OF_PROBABILITIES}


def read(path):
    """name -> (task, classes, y, prediction) of a file of predictions, or of every condition of a run record."""
    path = Path(path)
    if path.is_dir():
        return _record(path)
    if not path.is_file():
        raise BadInput(f"there is no {path}: give {SHAPES}.")
    return {path.name: (_npz if path.suffix == ".npz" else _csv)(path)}


def _record(path):
    record = Record(path)
    if any(not (path / f"{part}.json").exists() for part in ("config", "environment")) or not record.scores:
        raise BadInput(f"{path} is no run record with predictions: give {SHAPES}.")
    data, said = record.environment["data"], record.predictions
    conditions = [name.partition("/")[2] for name in said if name.startswith("prediction/")]
    return {c: (data["task"], tuple(data["classes"]), said["y"], said[f"prediction/{c}"]) for c in conditions}


def _npz(path):
    found = arrays.read(path)
    if not {"y", "prediction"} <= set(found):
        raise BadInput(
            f"{path.name} holds {', '.join(sorted(found)) or 'nothing'}, not y and prediction: give {SHAPES}."
        )
    y, prediction = found["y"], found["prediction"]
    classes = tuple(str(name) for name in np.atleast_1d(found.get("classes", np.array([], str))))
    if prediction.ndim == 2:
        classes = classes or tuple(str(c) for c in range(prediction.shape[1]))
    return _checked(path, classes, y, prediction)


def _csv(path):
    """A table: numbers and numbers are scores; a column of probabilities for each class, or names of classes."""
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], skipinitialspace=True)
    except (ValueError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} is no table ({str(error).splitlines()[0]}): give {SHAPES}.") from None
    frame = frame[[c for c in frame if c != "id" and not str(c).startswith("Unnamed")]]  # the index that pandas writes
    if "label" not in frame or len(frame.columns) < 2:
        raise BadInput(f"{path.name} has the columns {', '.join(map(str, frame.columns))}: give {SHAPES}.")
    if frame.isna().any(axis=None):
        raise BadInput(f"{path.name}: labels or predictions are missing: give {SHAPES}.")
    label, others = frame["label"], [c for c in frame.columns if c not in ("label", "prediction")]
    named = set(label.astype(str)) <= set(others)
    if "prediction" in frame and not named:
        if pd.api.types.is_numeric_dtype(label):
            return _checked(path, (), label.to_numpy(), pd.to_numeric(frame["prediction"], "coerce").to_numpy(float))
        classes = sorted({*label.astype(str), *frame["prediction"].astype(str)})
        number = {name: c for c, name in enumerate(classes)}
        y, said = (frame[column].astype(str).map(number).to_numpy() for column in ("label", "prediction"))
        return _checked(path, tuple(classes), y, said)
    if not named:
        strange = sorted(set(label.astype(str)) - set(others))[0]
        raise BadInput(f"{path.name} has the label {strange!r} and no column of its probabilities: give {SHAPES}.")
    y = label.astype(str).map({name: c for c, name in enumerate(others)}).to_numpy()
    return _checked(path, tuple(others), y, frame[others].apply(pd.to_numeric, errors="coerce").to_numpy(float))


def _checked(path, classes, y, prediction):
    """(task, classes, y, prediction), or the sentence that says what does not fit."""
    if wrong := _mismatch(classes, y, prediction):
        raise BadInput(f"{path.name}: {wrong}: give {SHAPES}.")
    if not classes:
        return "regression", (), y.astype(np.float64), prediction.astype(np.float64)
    if prediction.ndim == 1:
        prediction = prediction[:, None] == np.arange(len(classes))
    return "classification", classes, y, prediction if prediction.dtype.kind == "f" else prediction.astype(bool)


def _mismatch(classes, y, prediction):
    """What does not fit together, in words, or nothing."""
    if y.ndim != 1 or prediction.ndim not in (1, 2) or not len(y) or len(prediction) != len(y):
        return f"labels of shape {y.shape} and predictions of shape {prediction.shape} do not belong together"
    if y.dtype.kind not in "iuf" or prediction.dtype.kind not in "iufb":
        return f"labels of type {y.dtype} or predictions of type {prediction.dtype} are no numbers"
    if not (np.isfinite(y).all() and np.isfinite(prediction).all()):
        return "labels or predictions are missing, NaN or inf"
    whole = [(values == np.round(values)).all() and values.min() >= 0 for values in (y, prediction)]
    if prediction.ndim == 1 and not classes:
        return "whole numbers from 0 may be classes or scores, say which: name the classes" if all(whole) else ""
    if prediction.ndim == 2 and prediction.shape[1] != len(classes):
        return f"predictions of shape {prediction.shape} do not fit {len(classes)} classes"
    if len(set(classes)) < len(classes) or "mean" in classes:
        return f"classes are {', '.join(classes)}, expected different names, none of them 'mean'"
    if y.dtype.kind == "f" or y.min() < 0 or y.max() >= len(classes):
        return f"labels are no numbers of the {len(classes)} classes"
    if prediction.ndim == 1 and not (whole[1] and prediction.max() < len(classes)):
        return f"predictions are no numbers of the {len(classes)} classes"
    if prediction.dtype.kind == "f" and (prediction.min() < 0 or not np.allclose(prediction.sum(1), 1, atol=1e-3)):
        return "the probabilities of an utterance are negative or do not sum to 1"
    return ""
