"""Measured beside printed: scores pooled over folds, means with intervals over seeds, and the tables drawn from them.

Numbers come from records and from data/reported only; nothing is typed in.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from . import metrics
from .errors import BadInput
from .missing import subsets

INCOMPLETE = subsets()[:-1]  # the six conditions that the papers average
AVERAGE = "avg"
ABSENT = "not available"  # a condition that needs a modality which the data never has


def scores(systems):
    """Scores of every system, seed and condition: a long frame (benchmark, system, seed, condition, metric, value).

    systems: label -> records. Folds of a seed are pooled into one score. All systems of a benchmark must have been
    tested under the same masks. The condition `avg` is the mean over the six incomplete subsets, where all exist.
    """
    rows, seen = [], {}
    for label, records in systems.items():
        for (benchmark, seed), group in _by_seed(records).items():
            shared = set.intersection(*({c for c in conditions(record)} for record in group))
            found = {}
            for condition in (c for c in conditions(group[0]) if c in shared):
                hashes = tuple(str(record.predictions[f"mask/{condition}"]) for record in group)
                if seen.setdefault((benchmark, condition), hashes) != hashes:
                    raise BadInput(
                        f"{label} was tested on {benchmark} under other masks of {condition!r} than the systems "
                        "beside it: evaluate all with the same mask seed and data."
                    )
                found[condition] = pooled(group, condition)
            if set(INCOMPLETE) <= set(found):
                found[AVERAGE] = {k: float(np.mean([found[c][k] for c in INCOMPLETE])) for k in found["l"]}
            rows += [
                (benchmark, label, seed, condition, metric, value)
                for condition, values in found.items()
                for metric, value in values.items()
            ]
    return pd.DataFrame(rows, columns=["benchmark", "system", "seed", "condition", "metric", "value"])


def _by_seed(records):
    """(benchmark, seed) -> records in the order of their folds."""
    groups = {}
    for record in sorted(records, key=lambda r: r.config["fold"] or 0):
        groups.setdefault((record.config["benchmark"], record.config["seed"]), []).append(record)
    return groups


def conditions(record):
    """The conditions that a record was tested under."""
    return [name.removeprefix("mask/") for name in record.predictions if name.startswith("mask/")]


def pooled(records, condition):
    """Scores of several folds as of one test set."""
    said = [record.predictions[f"prediction/{condition}"] for record in records]
    data = records[0].environment["data"]
    return metrics.score(data["task"], data["classes"], _labels(records), np.concatenate(said))


def floors(records):
    """The best constant prediction on the labels of the test set(s): benchmark -> {metric: per cent}."""
    found = {}
    for (benchmark, _), group in _by_seed(records).items():
        if benchmark not in found:
            data = group[0].environment["data"]
            found[benchmark] = metrics.floor(data["task"], data["classes"], _labels(group))
    return found


def _labels(records):
    return np.concatenate([record.predictions["y"] for record in records])


def summary(frame):
    """Mean over seeds with the half-width of its 95 % t interval: columns mean, half (NaN for one seed), n."""
    keys = ["benchmark", "system", "condition", "metric"]
    grouped = frame.groupby(keys, sort=False)["value"]
    result = grouped.agg(mean="mean", sd="std", n="count")
    width = stats.t.ppf(0.975, np.maximum(result["n"] - 1, 1)) / np.sqrt(result["n"])
    result["half"] = np.where(result["n"] > 1, result["sd"] * width, np.nan)
    return result[["mean", "half", "n"]]


def paired(frame, benchmark, system, reference, condition, metric):
    """Text of the mean difference system - reference over shared seeds, with its 95 % t interval.

    frame: `scores`. Pairing by seed is fair because data, views, order and masks of a seed are the same for both.
    """
    chosen = frame[(frame["benchmark"] == benchmark) & (frame["condition"] == condition) & (frame["metric"] == metric)]
    wide = chosen.pivot(index="seed", columns="system", values="value")
    if not {system, reference} <= set(wide.columns):
        return ABSENT
    gaps = (wide[system] - wide[reference]).dropna()
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std() / np.sqrt(len(gaps)) if len(gaps) > 1 else np.nan
    return f"{number(gaps.mean(), half)} points (n = {len(gaps)})"


def number(mean, half=np.nan):
    """Text of a score: the decimals that the interval justifies, one without an interval."""
    if np.isnan(mean):
        return "undefined"
    if np.isnan(half):
        return f"{mean:.1f}"
    decimals = 2 if half < 0.095 else 1 if half < 9.5 else 0
    return f"{mean:.{decimals}f} ± {half:.{decimals}f}"


@dataclass
class Table:
    """A table as text cells, with the numbers behind it and the sentences under it."""

    cells: pd.DataFrame
    numbers: pd.DataFrame
    notes: list = field(default_factory=list)

    def markdown(self):
        def line(texts):
            return "| " + " | ".join(str(text).replace("|", "\\|") for text in texts) + " |"

        head = [line(self.cells.columns), "|" + "---|" * self.cells.shape[1]]
        body = [line(row) for row in self.cells.itertuples(index=False)]
        return "\n".join([*head, *body, "", *(f"{note}  " for note in self.notes)]) + "\n"

    def latex(self):
        marks = str.maketrans({"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$"})

        def line(texts):
            return " & ".join(str(text).translate(marks) for text in texts) + r" \\"

        columns = "l" * 3 + "r" * (self.cells.shape[1] - 3)
        body = [line(row) for row in self.cells.itertuples(index=False)]
        notes = [rf"\par {note.translate(marks)}" for note in self.notes]
        head = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line(self.cells.columns), r"\midrule"]
        return "\n".join([*head, *body, r"\bottomrule", r"\end{tabular}", *notes]) + "\n"


def beside(printed, measured, floor, datasets, columns, built, metric_names, measured_on):
    """The table of a paper with what was measured under the printed rows of the same data set.

    printed: rows of a paper's CSV for one artefact. measured: `summary`; floor: `floors`. datasets: benchmark -> the
    printed data set it stands beside. built: printed systems that are measured here. metric_names: printed metric
    -> ours. measured_on: benchmark -> phrase.
    """
    cells, numbers = [], []
    for dataset in dict.fromkeys(datasets.values()):
        rows = printed[printed["dataset"] == dataset]
        for (method, metric), group in rows.groupby(["method", "metric"], sort=False):
            values = dict(zip(group["condition"], group["value"], strict=True))
            source = "printed" if method in built else "printed; not built"
            cells.append([dataset, _named(method, metric, metric_names), source, *(values.get(c, "") for c in columns)])
            numbers += [_number_row(dataset, method, "printed", c, metric, float(v)) for c, v in values.items()]
        for benchmark in (name for name, beside_it in datasets.items() if beside_it == dataset):
            for metric in dict.fromkeys(rows["metric"]):
                ours = metric_names[metric]
                for system in measured.index.get_level_values("system").unique():
                    found = {c: measured.loc[k] for c in columns if (k := (benchmark, system, c, ours)) in measured.index}
                    text = [number(found[c]["mean"], found[c]["half"]) if c in found else ABSENT for c in columns]
                    n = int(max(f["n"] for f in found.values()))
                    cells.append([benchmark, _named(system, metric, metric_names), f"measured, n = {n}", *text])
                    numbers += [
                        _number_row(benchmark, system, "measured", c, ours, f["mean"], f["half"], f["n"])
                        for c, f in found.items()
                    ]
                text = [number(floor[benchmark][ours])] * len(columns)
                cells.append([benchmark, _named("best constant", metric, metric_names), "floor", *text])
                numbers.append(_number_row(benchmark, "best constant", "floor", "any", ours, floor[benchmark][ours]))
    methods = list(dict.fromkeys(printed["method"]))
    notes = [f"Rows built: {sum(m in built for m in methods)} of {len(methods)} printed systems."]
    notes += [f"Measured on {measured_on[name]}; printed numbers are for {dataset}." for name, dataset in datasets.items()]
    notes.append("Mean over seeds, with the 95 % t interval where there is more than one seed (n); per cent.")
    header = ["data", "system", "source", *("avg (six)" if c == AVERAGE else c for c in columns)]
    return Table(pd.DataFrame(cells, columns=header), pd.DataFrame(numbers), notes)


def _named(system, metric, metric_names):
    """A row's name says its metric where the table has more than one."""
    return system if len(metric_names) == 1 else f"{system}, {metric}"


def _number_row(data, system, source, condition, metric, value, half=np.nan, n=0):
    return {
        "data": data,
        "system": system,
        "source": source,
        "condition": condition,
        "metric": metric,
        "value": round(value, 4),
        "half": round(half, 4),
        "n": int(n),
    }
