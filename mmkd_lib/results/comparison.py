"""Measured beside printed: a table with the rows of a paper, what was measured beside them, ceilings and floors.

Numbers come from records and from data/reported only; nothing is typed in.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from ..data import metrics
from ..support.errors import BadInput
from .tables import ABSENT, AVERAGE, HEADINGS, Table, differences, format_number, half_width, summary


@dataclass
class Comparison:
    """What stands beside each other in a table of a paper.

    printed: rows of a paper's CSV for one artefact. scores: those of the systems shown, in the order of their rows;
    floor: `floors`. datasets: benchmark -> the printed data set it stands beside. columns: conditions. built: printed
    systems that are measured here. metric_names: printed metric -> ours, or those of ours of which each task has one.
    measured_on: benchmark -> phrase. ceiling: benchmark -> condition -> metrics, where the data is synthetic. less: the
    system that every other one is compared with in a last column, seed by seed: an ablation's full method.

    Rows of one benchmark under each other stand on the same seeds: BadInput where they do not, for means of other seeds
    differ by the seeds, too.
    """

    printed: pd.DataFrame
    scores: pd.DataFrame
    floor: dict
    datasets: dict
    columns: list
    built: set
    metric_names: dict
    measured_on: dict
    ceiling: dict = field(default_factory=dict)
    less: str = ""

    def table(self):
        """Per printed data set and metric: the printed rows, what was measured beside them, ceiling and floor."""
        rows, counts = [], set(self._count.values())
        for dataset in dict.fromkeys(self.datasets.values()):
            beside = [name for name, other in self.datasets.items() if other == dataset]
            for metric in self.metric_names:
                rows += self._printed_rows(dataset, metric)
                for benchmark in beside:
                    if ours := self._ours(benchmark, metric):  # else it is a metric of the other task
                        rows += self._measured_rows(benchmark, metric, ours)
        source = f"source, n = {counts.pop()}" if len(counts) == 1 else "source"  # else beside the name of the data
        header = ["data", "system", source, *(HEADINGS.get(c, c) for c in self.columns)]
        if self.less:
            header.append(f"{HEADINGS.get(self._judged(), self._judged())} minus {self.less}")
        cells = pd.DataFrame([cells for cells, _ in rows], columns=header)
        return Table(cells, pd.DataFrame([line for _, numbers in rows for line in numbers]), self._notes())

    @cached_property
    def _measured(self):
        return summary(self.scores)

    @cached_property
    def _count(self):
        """benchmark -> how many seeds its rows stand on, where there are any."""
        return {b: len(seeds) for b in self.datasets if (seeds := self._seeds(b))}

    def _seeds(self, benchmark):
        """The seeds that all rows of a benchmark stand on."""
        held = self.scores[(self.scores["benchmark"] == benchmark) & self.scores["condition"].isin(self.columns)]
        seeds = held.groupby(["system", "condition"], sort=False)["seed"].agg(lambda found: tuple(sorted(set(found))))
        for (system, condition), found in seeds.items():
            if found != seeds.iloc[0]:
                first = f"{seeds.index[0][0]} under {seeds.index[0][1]} on {len(seeds.iloc[0])} seeds"
                raise BadInput(
                    f"a table of {benchmark} would set {first} beside {system} under {condition} on {len(found)}: give "
                    "all rows the same seeds, e.g. by tables.on_shared_seeds."
                )
        return seeds.iloc[0] if len(seeds) else ()

    def _judged(self):
        """The condition of the column in which systems are compared seed by seed."""
        return AVERAGE if AVERAGE in self.columns else self.columns[-1]

    def _printed_rows(self, dataset, metric):
        chosen = self.printed[(self.printed["dataset"] == dataset) & (self.printed["metric"] == metric)]
        full = chosen[(chosen["system"] == self.less) & (chosen["condition"] == self._judged())]["value"]
        for system, group in chosen.groupby("system", sort=False):
            values = dict(zip(group["condition"], group["value"], strict=True))
            halves = dict(zip(group["condition"], group["ci"], strict=True))
            source = "printed" if system in self.built else "printed; not built"
            text = [values.get(c, "") + (f" ± {halves[c]}" if halves.get(c) else "") for c in self.columns]
            cells = [dataset, self._name(system, metric), source, *text]
            if self.less:
                cells.append(_printed_difference(values.get(self._judged(), ""), full) if system != self.less else "")
            yield cells, [_csv_row(dataset, system, "printed", c, metric, float(v)) for c, v in values.items()]

    def _ours(self, benchmark, metric):
        """Our name of a printed metric, or None where the benchmark has no such metric."""
        names = self.metric_names[metric]
        return next((n for n in ((names,) if isinstance(names, str) else names) if n in self.floor[benchmark]), None)

    def _measured_rows(self, benchmark, metric, ours):
        blank, one_count = [""] * bool(self.less), len(set(self._count.values())) == 1
        for system in self._measured.index.get_level_values("system").unique():
            keys = {c: (benchmark, system, c, ours) for c in self.columns}
            found = {c: self._measured.loc[key] for c, key in keys.items() if key in self._measured.index}
            if not found:
                continue
            text = [
                format_number(found[c]["mean"], found[c]["half"], ours) if c in found else ABSENT for c in self.columns
            ]
            numbers = [
                _csv_row(benchmark, system, "measured", c, ours, f["mean"], f["half"], f["n"]) for c, f in found.items()
            ]
            if self.less:
                text.append(self._difference(benchmark, system, ours, numbers))
            data = benchmark if one_count else f"{benchmark}, n = {self._count[benchmark]}"
            yield [data, self._name(system, metric), "measured", *text], numbers
        highest = {c: v for c, v in self.ceiling.get(benchmark, {}).items() if ours in v}  # not every metric has one
        if highest:
            text = [format_number(highest[c][ours], metric=ours) if c in highest else ABSENT for c in self.columns]
            numbers = [_csv_row(benchmark, "ceiling", "exact", c, ours, v[ours]) for c, v in highest.items()]
            yield [benchmark, self._name("exact posterior", metric), "ceiling", *text, *blank], numbers
        floor = self.floor[benchmark][ours]
        text = [format_number(floor, metric=ours)] * len(self.columns)
        cells = [benchmark, self._name("best constant", metric), "floor", *text, *blank]
        yield cells, [_csv_row(benchmark, "best constant", "floor", "any", ours, floor)]

    def _difference(self, benchmark, system, ours, numbers):
        """Text of a system less the full method, paired by seed; its numbers are added to those of the row."""
        gaps = None if system == self.less else self._gaps(benchmark, system, ours)
        if gaps is None:
            return ""
        mean, half, condition = gaps.mean(), half_width(gaps), f"{self._judged()} minus {self.less}"
        numbers.append(_csv_row(benchmark, system, "measured", condition, ours, mean, half, len(gaps)))
        return format_number(mean, half, ours)

    def _gaps(self, benchmark, system, ours):
        return differences(self.scores, benchmark, system, self.less, self._judged(), ours)

    def _notes(self):
        shown = list(dict.fromkeys(self.printed["system"]))
        ours = dict.fromkeys(
            self._ours(benchmark, metric) for benchmark in self.datasets for metric in self.metric_names
        )
        other = [name for name in ours if name in metrics.NOT_PER_CENT]
        units = "per cent" + "".join(f", {name} in its own unit (the lower the better)" for name in other)
        beside = {b: f"; printed numbers are for {d}" if shown else "" for b, d in self.datasets.items()}
        return [
            *(
                [f"Rows built: {sum(name in self.built for name in shown)} of {len(shown)} printed systems."]
                * bool(shown)
            ),
            *(f"Measured on {self.measured_on[b]}{text}." for b, text in beside.items()),
            f"Mean over seeds, with the 95 % t interval where there is more than one seed (n); {units}.",
            *([f"Minus {self.less}: the mean of the differences by seed, with its own interval."] * bool(self.less)),
        ]

    def _name(self, system, metric):
        """A row's name says its metric where the table has more than one."""
        return system if len(self.metric_names) == 1 else f"{system}, {metric.removeprefix('f1_')}"


def _printed_difference(value, full):
    """Text of a printed value less that of the full method, with the decimals of print."""
    if not value or full.empty or not full.iloc[0]:
        return ""
    decimals = len(value.partition(".")[2])
    return f"{float(value) - float(full.iloc[0]):+.{decimals}f}"


def _csv_row(data, system, source, condition, metric, value, half=np.nan, n=0):
    """One line of the CSV behind a table."""
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
