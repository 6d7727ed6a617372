"""Scores of records as one frame, pooled over folds; means with intervals over seeds, differences paired by seed; the
text of a number and of a table. Knows records and metrics, nothing of what a paper prints.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from ..data import metrics
from ..data.missing import FIXED_SUBSETS, FRAME_CURVE, RATE_CURVE, Trial, parted
from ..support.draws import generator
from ..support.errors import BadInput

INCOMPLETE = FIXED_SUBSETS[:-1]  # the six conditions that the papers average
AVERAGE = "avg"
FRAMES = FRAME_CURVE[1:]  # the ten shares of missing frames that are averaged where a paper does so
FRAMES_AVERAGE = "avg frames"
FIXED_AND_RANDOM = (*FIXED_SUBSETS, *RATE_CURVE[1:])  # MCUR's fourteen settings: all subsets, seven missing rates
FOURTEEN_AVERAGE = "avg 14"
AVERAGES = {AVERAGE: INCOMPLETE, FRAMES_AVERAGE: FRAMES, FOURTEEN_AVERAGE: FIXED_AND_RANDOM}
HEADINGS = {AVERAGE: "avg (six)", FRAMES_AVERAGE: "avg (p > 0)", FOURTEEN_AVERAGE: "avg (14)", "of 14": "of the 14"}
# what TeX's first font shows as something else outside mathematics, or not at all; pandas escapes what TeX reads itself
IN_MATHEMATICS = str.maketrans({"±": r"$\pm$", "<": "$<$", ">": "$>$", "|": "$|$"})
ABSENT = "not available"  # a condition that needs a modality which the data never has


def scores(systems):
    """Scores of every system, seed and condition: a long frame (benchmark, system, seed, condition, metric, value).

    systems: label -> records. Folds of a seed are pooled into one score. All systems of a benchmark must have been
    tested under the same masks. `avg` is the mean over the six incomplete subsets, `avg frames` that over the ten
    shares of missing frames, where all exist.
    """
    rows, seen = [], {}
    for label, records in systems.items():
        for (benchmark, seed), group in _by_seed(records).items():
            shared = [c for c in group[0].scores if all(c in record.scores for record in group)]
            folds = tuple(record.config["fold"] for record in group)
            for condition in shared:
                hashes = tuple(record.scores[condition]["mask"] for record in group)
                if seen.setdefault((benchmark, folds, condition), hashes) != hashes:
                    raise BadInput(
                        f"{label} was tested on {benchmark} under other masks of {condition!r} than the systems "
                        "beside it: evaluate all with the same mask seed and data."
                    )
            found = with_average({condition: _of_seed(group, condition) for condition in shared})
            rows += [(benchmark, label, seed, c, name, v) for c, values in found.items() for name, v in values.items()]
    return pd.DataFrame(rows, columns=["benchmark", "system", "seed", "condition", "metric", "value"])


def _by_seed(records):
    """(benchmark, seed) -> records in the order of their folds."""
    groups = {}
    for record in sorted(records, key=lambda r: r.config["fold"] or 0):
        groups.setdefault((record.config["benchmark"], record.config["seed"]), []).append(record)
    return groups


def _of_seed(group, condition):
    """Metrics of one seed: those of its record, or of all folds' predictions as of one test set; on the test part of
    another benchmark, which is the same for all folds, their mean."""
    if len(group) == 1:
        return group[0].scores[condition]["metrics"]
    if " & on=" in condition:
        found = [record.scores[condition]["metrics"] for record in group]
        return {name: float(np.mean([metrics_of[name] for metrics_of in found])) for name in found[0]}
    said = [record.predictions[f"prediction/{condition}"] for record in group]
    data = group[0].environment["data"]
    return metrics.score(data["task"], data["classes"], _labels(group), np.concatenate(said))


def with_average(found):
    """condition -> metrics, and their means over the conditions of AVERAGES where all of these are there; what a trial
    says beside its condition is said of its averages, too (`avg 14 & noise=5`)."""
    means = {}
    for tail in dict.fromkeys(parted(text)[1] for text in found):
        for name, conditions in AVERAGES.items():
            asked = [condition + tail for condition in conditions]
            if set(asked) <= set(found):
                shared = set.intersection(*(set(found[c]) for c in asked))
                means[name + tail] = {k: float(np.mean([found[c][k] for c in asked])) for k in sorted(shared)}
    return found | means


def check_condition(text):
    """Refuse what is neither a condition or trial nor an average over some."""
    condition, tail = parted(text)
    Trial.parse((FIXED_SUBSETS[0] if condition in AVERAGES else condition) + tail)


def floors(records):
    """The best constant prediction on the labels of the test set(s): benchmark -> {metric: per cent}."""
    held, found = {}, {}
    for record in records:  # one of each fold: all systems have the same labels
        held.setdefault(record.config["benchmark"], {}).setdefault(record.config["fold"], record)
    for benchmark, folds in held.items():
        data, pooled = next(iter(folds.values())).environment["data"], None not in folds
        labels = _labels([folds[fold] for fold in sorted(folds)]) if pooled else None
        found[benchmark] = metrics.floor(data["task"], data["classes"], labels) if pooled else data["floor"]
    return found


def _labels(records):
    return np.concatenate([record.predictions["y"] for record in records])


def summary(frame):
    """Mean over seeds with the half-width of its 95 % t interval: columns mean, half (NaN for one seed), n."""
    keys = ["benchmark", "system", "condition", "metric"]
    return frame.groupby(keys, sort=False)["value"].agg(mean="mean", half=half_width, n="count")


def on_shared_seeds(frame, conditions):
    """Those of `scores` whose seed all systems of their benchmark have, under each of the conditions that they were
    tested under at all: rows that may stand under each other. BadInput where no seed is left."""
    asked = frame[frame["condition"].isin(conditions)]
    held = asked.groupby(["benchmark", "system", "condition"])["seed"].agg(set)
    shared = {benchmark: set.intersection(*sets) for benchmark, sets in held.groupby("benchmark")}
    if alone := [benchmark for benchmark, seeds in shared.items() if not seeds]:
        names = ", ".join(held[alone[0]].index.unique("system"))
        raise BadInput(f"{names} have no seed in common on {alone[0]}: train them with the same.")
    rows = zip(frame["benchmark"], frame["seed"], strict=True)
    return frame[[seed in shared.get(benchmark, ()) for benchmark, seed in rows]]


def half_width(values):
    """Half of the 95 % t interval of a mean; NaN for a single value."""
    n = len(values)
    return float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else np.nan


def differences(frame, benchmark, system, reference, condition, metric):
    """system - reference by seed, (n,), over the seeds that both have; None where one of them is absent.

    frame: `scores`. Pairing by seed is fair because data, views, order and masks of a seed are the same for both.
    """
    wide = _by_system(frame, benchmark, condition, metric)
    if not {system, reference} <= set(wide.columns):
        return None
    return (wide[system] - wide[reference]).dropna().to_numpy()


def minus(frame, reference):
    """`scores` of every system less those of `reference` under the same seed, condition and metric; their benchmark is
    called `NAME less REFERENCE`, for they are points and no scores."""
    keys = ["benchmark", "seed", "condition", "metric"]
    base = frame[frame["system"] == reference].set_index(keys)["value"].rename("base")
    others = frame[frame["system"] != reference].join(base, on=keys, how="inner")
    names = others["benchmark"] + f" less {reference}"
    return others.assign(benchmark=names, value=others["value"] - others["base"]).drop(columns="base")


def paired(frame, benchmark, system, reference, condition, metric):
    """Text of the mean of `differences` with its 95 % t interval, in points or in the metric's own unit."""
    gaps = differences(frame, benchmark, system, reference, condition, metric)
    if gaps is None:
        return ABSENT
    unit = metric if metric in metrics.NOT_PER_CENT else "points"
    return f"{format_number(gaps.mean(), half_width(gaps), metric)} {unit} (n = {len(gaps)})"


def _by_system(frame, benchmark, condition, metric):
    """Scores as a table of seeds (rows) and systems (columns)."""
    chosen = frame[(frame["benchmark"] == benchmark) & (frame["condition"] == condition) & (frame["metric"] == metric)]
    return chosen.pivot(index="seed", columns="system", values="value")


def gap_recovered(frame, benchmark, system, condition, metric, plain="plain", oracle="oracle teaching"):
    """(system - plain) / (oracle - plain) with its 95 % bootstrap interval (BCa, paired by seed): (value, low, high).

    frame: `scores`. 0: no better than the task loss alone; 1: as good as being taught the exact posterior. None where
    oracle - plain is not clearly above zero (its 95 % t interval touches zero): there is no gap to recover; and with
    fewer than five seeds, of which no interval can be made.
    """
    wide = _by_system(frame, benchmark, condition, metric)
    if not {system, plain, oracle} <= set(wide.columns) or len(wide := wide[[system, plain, oracle]].dropna()) < 5:
        return None
    gap, gain = (wide[oracle] - wide[plain]).to_numpy(), (wide[system] - wide[plain]).to_numpy()
    if gap.mean() <= half_width(gap):
        return None

    def share(gain, gap, axis):
        return gain.mean(axis) / gap.mean(axis)

    draws = generator("bootstrap", len(gap))
    interval = stats.bootstrap((gain, gap), share, paired=True, vectorized=True, method="BCa", rng=draws)
    return float(share(gain, gap, 0)), *map(float, interval.confidence_interval)


def gap_text(frame, benchmark, system, condition, metric):
    """`gap_recovered` in words."""
    if "oracle teaching" not in set(frame[frame["benchmark"] == benchmark]["system"]):
        return "unknown, nobody has the posterior of this data"
    found = gap_recovered(frame, benchmark, system, condition, metric)
    if found is None:
        return "no clear gap to recover"
    return "{:.2f} (95 % bootstrap interval {:.2f} to {:.2f})".format(*found)


def format_number(mean, half=np.nan, metric=""):
    """Text of a score: the decimals that the interval justifies; without one, one decimal, or three where the metric
    is not per cent."""
    if np.isnan(mean):
        return "undefined"
    if np.isnan(half):
        return f"{mean:.{3 if metric in metrics.NOT_PER_CENT else 1}f}"
    decimals = 3 if 0 < half < 0.0095 else 2 if half < 0.095 else 1 if half < 9.5 else 0
    return f"{round(mean, decimals) + 0.0:.{decimals}f} ± {half:.{decimals}f}"  # + 0.0: no minus before a zero


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
        """A tabular in the rules of booktabs, the sentences under it as paragraphs."""
        text = self.cells.astype(str)
        columns = "l" * 3 + "r" * (text.shape[1] - 3)
        notes = pd.Series(self.notes, dtype=str).to_frame().style.format(escape="latex").hide(axis="columns")
        written = notes.hide().to_string(delimiter="").splitlines()
        body = text.to_latex(index=False, escape=True, column_format=columns)
        return "".join([body, *(f"\\par {note}\n" for note in written)]).translate(IN_MATHEMATICS)
