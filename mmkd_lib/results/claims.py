"""Claims of the papers as data, and a verdict on each from the scores measured here: paired tests over seeds.

Knows frames of scores and printed numbers; nothing of methods, records or training.
"""

import csv
import math
import re
from dataclasses import dataclass, fields
from decimal import Decimal
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq

from ..data.benchmarks import family, named
from ..data.missing import CURVES
from ..support import paths
from ..support.errors import BadInput, one_of
from . import artefacts, tables

LEVEL = 0.05
POWER = 0.8  # of the difference that an inconclusive claim says it would find
MOST_PRIMARY = 6
CHOICES = {"whose": ("paper", "handbook"), "primary": ("yes", "no"), "statistic": ("score", "loss", "slope")}
KEY = ["benchmark", "metric", "system"]
LISTS = ("families", "conditions", "metrics", "comparisons", "printed")
TRAINING = "training"  # the condition of what is logged while a system learns
DATASETS = {"iemocap4": "IEMOCAP-4", "iemocap6": "IEMOCAP-6"}  # families as DynKD prints them
ZERO, OTHERS = "0", "*"  # what a comparison may name beside systems; `*` in print only
COMPARISON = re.compile(r"([^<>]+?) *([<>])(?!=) *([^<>]+)")
SUPPORTED, CONTRADICTED, INCONCLUSIVE, UNTESTABLE = "supported", "contradicted", "inconclusive", "not testable here"
COLUMNS = [
    *("id", "artefact", "whose", "role", "statement", "printed", "verdict", "as_claimed", "effect", "contrast"),
    *("low", "mean", "high", "n", "p", "p_adjusted", "detectable", "why"),
]


@dataclass(frozen=True)
class Claim:
    """One claim: that every contrast (benchmark of the families x comparison x metric x condition) is as compared."""

    id: str
    artefact: str
    whose: str  # paper, or handbook: asked in place of what needs systems that are not built
    statement: str
    primary: bool
    families: tuple
    statistic: str
    conditions: tuple
    metrics: tuple
    comparisons: tuple  # texts such as `CorrKD > plain`, `plain < 0`; empty: not testable here
    printed: tuple  # the same of printed systems; `CorrKD > *`: of the best of the others
    reason: str  # why there is no comparison


def read(paper):
    """The claims of a paper, from data/claims/<paper>.csv. Raises BadInput for what cannot be tested as meant."""
    folder = paths.project_root() / "data" / "claims"
    path = folder / f"{paper}.csv"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.csv")))
        raise BadInput(f"no claims of {paper!r}: choose one of {known}.")
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file)
        rows = list(lines)
    names = [field.name for field in fields(Claim)]
    if lines.fieldnames != names or any(None in row or None in row.values() for row in rows):
        raise BadInput(f"{path.name} does not fit its header: give every row the columns {', '.join(names)}.")
    claims = [_claim(row) for row in rows]
    ids = [claim.id for claim in claims]
    if twice := [i for i in ids if ids.count(i) > 1]:
        raise BadInput(f"claim {twice[0]} stands twice in {path.name}: give each its own id.")
    if (count := sum(claim.primary for claim in claims)) > MOST_PRIMARY:
        raise BadInput(f"{path.name} has {count} primary claims: choose at most {MOST_PRIMARY} before any result.")
    return claims


def _claim(row):
    """A checked claim from the texts of its row."""
    for column, allowed in CHOICES.items():
        one_of(f"{column} of claim {row['id']}", row[column], allowed)
    texts = {name: tuple(part.strip() for part in row[name].split(";") if part.strip()) for name in LISTS}
    claim = Claim(**(row | texts | {"primary": row["primary"] == "yes"}))
    artefacts.check(claim.artefact)
    if problem := _problem(claim):
        raise BadInput(f"claim {claim.id}: {problem}.")
    printed_says(claim)
    return claim


def _problem(claim):
    """What is wrong with a claim and the way out, as the end of a sentence; None where nothing is."""
    curve = bool(CURVES.keys() & claim.conditions)
    full = claim.statement and claim.families and claim.conditions and claim.metrics
    starred = any(OTHERS in sides(text) for text in claim.comparisons)
    mixed = (claim.statistic != "score") != curve or (curve and len(claim.conditions) > 1)
    for condition in set(claim.conditions) - {*CURVES, TRAINING}:
        tables.check_condition(condition)
    checks = [
        (claim.id.rpartition("/")[0] != claim.artefact, f"its id must be its artefact and a name: {claim.artefact}/1"),
        (not full, "give it a statement, families, conditions and metrics"),
        (bool(claim.comparisons) == bool(claim.reason), "give either comparisons, or the reason why there are none"),
        (claim.primary and not claim.comparisons, "a primary claim needs comparisons: give some, or make it secondary"),
        (starred, f"{OTHERS!r} stands for printed systems only: name the system to compare with"),
        (mixed, f"loss and slope go with one condition of {', '.join(CURVES)} alone, score with any other"),
        (claim.printed and curve, "points of curves are not printed as numbers: leave its printed column empty"),
    ]
    return next((text for holds, text in checks if holds), None)


def sides(text):
    """(higher, lower): what a comparison such as `CorrKD > plain` or `plain < 0` claims to lie above what."""
    found = COMPARISON.fullmatch(text)
    left, sign, right = found.groups() if found else ("", "", "")
    if left in (right, OTHERS) or left.endswith("=") or right.startswith("="):  # `>=` and the like say less
        raise BadInput(f"unknown comparison {text!r}: write it as 'CorrKD > plain' or 'plain < 0'.")
    return (left, right) if sign == ">" else (right, left)


def printed_says(claim):
    """What the paper's own numbers say of a claim, in words; a margin is positive where they agree with it."""
    if not claim.printed:
        return "no printed numbers"
    rows = artefacts.printed(claim.artefact)
    cells = product(claim.families, claim.metrics, claim.conditions, claim.printed)
    margins = [_margin(claim, rows, *cell) for cell in cells]
    held, tied = sum(m > 0 for m in margins), sum(m == 0 for m in margins)
    ties = f", tied in {tied}" * bool(tied)
    return f"holds in {held} of {len(margins)}{ties}, least margin {min(margins):+}"


def _margin(claim, rows, family_name, metric, condition, text):
    """higher - lower of one printed cell, exact in decimals; `*`: the best (where it shall be lower) of the others."""
    metric = metric.replace("f1_weighted", "f1").removesuffix("_nonzero").removesuffix("_mean").removesuffix("_binary")
    wanted = {"dataset": DATASETS.get(family_name, family_name.upper()), "metric": metric, "condition": condition}
    cell = rows[(rows[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    values = {name: Decimal(value) for name, value in zip(cell["system"], cell["value"], strict=True)}
    higher, lower = sides(text)
    others = [value for name, value in values.items() if name not in (higher, lower)]
    values |= {ZERO: Decimal(0)} | ({OTHERS: (max if lower == OTHERS else min)(others)} if others else {})
    if not {higher, lower} <= set(values) or cell["system"].duplicated().any():
        where = f"{claim.artefact} for {', '.join(wanted.values())}"
        raise BadInput(f"claim {claim.id}: {text!r} is not printed once in {where}: name what data/reported holds.")
    return values[higher] - values[lower]


def holm(p):
    """Holm's step-down adjusted p values, in the order given: max over j <= i of min(1, (m - j + 1) p_(j))."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


class Contrast(NamedTuple):
    """One contrast tested: mean difference, its standard error, seeds, p of the one-sided paired t test."""

    label: str
    mean: float
    error: float
    n: int
    p: float

    @classmethod
    def of(cls, label, differences):
        """From differences (n,), positive as claimed. Without any spread p is 0, 1/2 or 1 by their sign."""
        n, mean = len(differences), float(np.mean(differences))
        error = float(np.std(differences, ddof=1) / np.sqrt(n)) if np.ptp(differences) else 0.0
        t = mean / error if error else math.copysign(math.inf, mean) if mean else 0.0
        return cls(label, mean, error, n, float(stats.t.sf(t, n - 1)))

    def half(self, level=LEVEL):
        """Half-width of the two-sided 1 - level interval of the mean; pass 2 * level for that of a one-sided test."""
        return float(stats.t.ppf(1 - level / 2, self.n - 1)) * self.error

    def detectable(self, level):
        """The true difference that a one-sided t test at a level finds with probability POWER, its spread being ours.

        The noncentrality d with P(T > t) = POWER, where T is noncentral t with n - 1 degrees of freedom and t the
        critical value, times the standard error. A difference of t standard errors would be found half of the time.
        """
        critical, degrees = stats.t.isf(level, self.n - 1), self.n - 1
        found = brentq(lambda d: stats.nct.sf(critical, degrees, d) - POWER, 0, 10 * critical + 10)
        return float(found) * self.error


class _Absent(Exception):
    """Says what a claim needs and the scores lack."""


def verdicts(claims, frame):
    """One row a claim of one paper: verdict, effect of the weakest contrast, p, and why (columns: COLUMNS).

    frame: `tables.scores` of what the claims are about; every benchmark of a claim's family counts. p_adjusted is
    Holm's over the primary claims that can be tested, p itself for the others. low, mean, high: the 95 % interval.
    """
    wide = frame.set_index([*KEY, "seed", "condition"])["value"].unstack()
    scores = {key: group.droplevel(KEY) for key, group in wide.groupby(level=KEY, sort=False)}
    tested = {claim.id: _tested(claim, scores) for claim in claims}
    primary = [claim.id for claim in claims if claim.primary and tested[claim.id][0]]
    adjusted = dict(zip(primary, holm([_weakest(tested[i][0]).p for i in primary]), strict=True))
    rows = []
    for claim in claims:
        contrasts, lack = tested[claim.id]
        said = {name: getattr(claim, name) for name in ("id", "artefact", "whose", "statement")}
        said |= {"role": "primary" if claim.primary else "secondary", "printed": printed_says(claim)}
        said |= {"verdict": UNTESTABLE, "as_claimed": "", "effect": "", "contrast": "", "n": 0, "why": lack}
        rows.append(said | (_judged(contrasts, adjusted.get(claim.id), len(primary)) if contrasts else {}))
    return pd.DataFrame(rows, columns=COLUMNS)


def _tested(claim, scores):
    """(contrasts, "") of a claim, or ((), why it cannot be tested)."""
    try:
        return list(_contrasts(claim, scores)), ""
    except _Absent as absent:
        return (), str(absent)


def _weakest(contrasts):
    return max(contrasts, key=lambda contrast: (contrast.p, -contrast.mean))


def _judged(contrasts, adjusted, primaries):
    """The verdict on a tested claim. adjusted: Holm's p of a primary claim, None of another.

    A claim holds if all its contrasts do, so its p is the largest (intersection-union). It is contradicted if one of
    k contrasts has its two-sided 1 - LEVEL/k interval below 0, which is to say that its p exceeds 1 - LEVEL/(2k).
    """
    k, weak = len(contrasts), _weakest(contrasts)
    p, level, how = (
        (weak.p, LEVEL, "not corrected") if adjusted is None else (adjusted, LEVEL / primaries, "after Holm")
    )
    detectable = weak.detectable(level)
    if p < LEVEL:
        verdict, why = SUPPORTED, f"p = {p:.2g}, {how}"
    elif weak.p > 1 - LEVEL / (2 * k):
        verdict, why = CONTRADICTED, f"the {100 * (1 - LEVEL / k):.3g} % interval of this contrast is below 0"
    else:
        verdict, why = INCONCLUSIVE, f"n = {weak.n} sees a true difference of {detectable:.2g} four times in five"
    said = {"verdict": verdict, "why": why, "as_claimed": f"{sum(c.mean > 0 for c in contrasts)} of {k}"}
    said |= {"effect": tables.format_number(weak.mean, weak.half()), "contrast": weak.label, "n": weak.n}
    said |= {"mean": weak.mean, "low": weak.mean - weak.half(), "high": weak.mean + weak.half()}
    return said | {"p": weak.p, "p_adjusted": float(p), "detectable": detectable}


def _contrasts(claim, scores):
    """Every contrast of a claim, tested. scores: (benchmark, metric, system) -> frame (seeds, conditions)."""
    if not claim.comparisons:
        raise _Absent(claim.reason)
    benchmarks = list(dict.fromkeys(benchmark for benchmark, _, _ in scores))
    belongs = {name: [b for b in benchmarks if family(b) == name or named(b, name)] for name in claim.families}
    if lacking := [name for name, found in belongs.items() if not found]:
        raise _Absent(f"no benchmark of {', '.join(sorted(lacking))} was measured")
    benchmarks = [benchmark for benchmark in benchmarks if any(benchmark in found for found in belongs.values())]
    for benchmark, text, metric, condition in product(benchmarks, claim.comparisons, claim.metrics, claim.conditions):
        higher, lower = sides(text)
        where = condition if claim.statistic == "score" else claim.statistic
        label = ", ".join([benchmark, where, *[metric] * (len(claim.metrics) > 1)]) + f": {higher} - {lower}"
        one, other = (_values(scores, (benchmark, metric, s), claim.statistic, condition) for s in (higher, lower))
        differences = (one - other).dropna().round(9)  # rounded: the dust of floats is no spread
        if (n := len(differences)) < 2:
            raise _Absent(f"{n} shared seed{'s' * (n != 1)} of {label}, and a test needs two")
        yield Contrast.of(label, differences.to_numpy())


def _values(scores, key, statistic, condition):
    """The statistic of a system, seed by seed; 0 for `0`."""
    benchmark, metric, system = key
    if system == ZERO:
        return 0.0
    if key not in scores:
        raise _Absent(f"{system} has no {metric} on {benchmark}")
    needed = list(CURVES.get(condition, [condition]))
    found = scores[key].reindex(columns=needed)
    if absent := [name for name in needed if found[name].isna().all()]:
        raise _Absent(f"{system} has no {metric} on {benchmark} under {', '.join(absent)}")
    return _statistic(statistic, found)


def _statistic(name, scores):
    """scores (seeds, conditions) -> (seeds,): `score` the single condition; `loss` what is lost, on average, where
    something is missing, in points; `slope` by least squares over the missing share, in points per unit of it."""
    if name == "score":
        return scores.iloc[:, 0]
    if name == "loss":
        return scores.iloc[:, 0] - scores.iloc[:, 1:].mean(axis=1, skipna=False)
    share = np.array([float(condition.partition("=")[2]) for condition in scores.columns])
    centred = share - share.mean()
    return scores @ centred / (centred @ centred)


def table(found):
    """The verdicts (a frame of `verdicts`) as a table, with the rules under it."""
    k = int(((found["role"] == "primary") & (found["verdict"] != UNTESTABLE)).sum())
    effect = found["effect"] + " (n = " + found["n"].astype(str) + "; " + found["contrast"] + "; "
    effect = (effect + found["as_claimed"] + " as claimed)").where(found["effect"] != "", "")
    names = {"id": "id", "statement": "claim", "role": "role", "printed": "in print", "verdict": "measured here"}
    cells = found.rename(columns=names)[[*names.values()]]
    cells = cells.assign(role=found["role"] + " (" + found["whose"] + ")", effect=effect, why=found["why"])
    notes = [
        "A seed is the unit: one-sided paired t tests over seeds. A claim is as strong as its weakest contrast, that "
        f"of the largest p. Holm's correction over {k} testable primary claims; secondary claims are not corrected.",
        "Supported: p below 0.05. Contradicted: a contrast's interval lies wholly on the wrong side, at level "
        "1 - 0.05/k for k contrasts. Inconclusive: neither, with the true difference that the test has 80 % power for.",
        "Effect: the weakest contrast's mean difference, positive as claimed, in units of its metric, with its 95 % t "
        "interval; then how many contrasts have the claimed sign.",
        "In print: what the paper's own numbers say, on its data and without any test.",
    ]
    return tables.Table(cells, found.round(6), notes)
