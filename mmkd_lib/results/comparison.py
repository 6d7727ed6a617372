"""Measured beside printed: a table with the rows of a paper, what was measured beside them, ceilings and floors.

Numbers come from records and from data/reported only; nothing is typed in.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..data import metrics
from .tables import ABSENT, HEADINGS, Table, format_number


@dataclass
class Comparison:
    """What stands beside each other in a table of a paper.

    printed: rows of a paper's CSV for one artefact. measured: `summary`; floor: `floors`. datasets: benchmark -> the
    printed data set it stands beside. columns: conditions. built: printed systems that are measured here.
    metric_names: printed metric -> ours, or those of ours of which each task has one. measured_on: benchmark -> phrase.
    ceiling: benchmark -> condition -> metrics, where the data is synthetic.
    """

    printed: pd.DataFrame
    measured: pd.DataFrame
    floor: dict
    datasets: dict
    columns: list
    built: set
    metric_names: dict
    measured_on: dict
    ceiling: dict = field(default_factory=dict)

    def table(self):
        """Per printed data set and metric: the printed rows, what was measured beside them, ceiling and floor."""
        rows = []
        for dataset in dict.fromkeys(self.datasets.values()):
            beside = [name for name, other in self.datasets.items() if other == dataset]
            for metric in self.metric_names:
                rows += self._printed_rows(dataset, metric)
                for benchmark in beside:
                    if ours := self._ours(benchmark, metric):  # else it is a metric of the other task
                        rows += self._measured_rows(benchmark, metric, ours)
        header = ["data", "system", "source", *(HEADINGS.get(c, c) for c in self.columns)]
        cells = pd.DataFrame([cells for cells, _ in rows], columns=header)
        return Table(cells, pd.DataFrame([line for _, numbers in rows for line in numbers]), self._notes())

    def _printed_rows(self, dataset, metric):
        chosen = self.printed[(self.printed["dataset"] == dataset) & (self.printed["metric"] == metric)]
        for system, group in chosen.groupby("system", sort=False):
            values = dict(zip(group["condition"], group["value"], strict=True))
            halves = dict(zip(group["condition"], group["ci"], strict=True))
            source = "printed" if system in self.built else "printed; not built"
            text = [values.get(c, "") + (f" ± {halves[c]}" if halves.get(c) else "") for c in self.columns]
            cells = [dataset, self._name(system, metric), source, *text]
            yield cells, [_csv_row(dataset, system, "printed", c, metric, float(v)) for c, v in values.items()]

    def _ours(self, benchmark, metric):
        """Our name of a printed metric, or None where the benchmark has no such metric."""
        names = self.metric_names[metric]
        return next((n for n in ((names,) if isinstance(names, str) else names) if n in self.floor[benchmark]), None)

    def _measured_rows(self, benchmark, metric, ours):
        for system in self.measured.index.get_level_values("system").unique():
            keys = {c: (benchmark, system, c, ours) for c in self.columns}
            found = {c: self.measured.loc[key] for c, key in keys.items() if key in self.measured.index}
            if not found:
                continue
            text = [
                format_number(found[c]["mean"], found[c]["half"], ours) if c in found else ABSENT for c in self.columns
            ]
            source = f"measured, n = {max(int(f['n']) for f in found.values())}"
            numbers = [
                _csv_row(benchmark, system, "measured", c, ours, f["mean"], f["half"], f["n"]) for c, f in found.items()
            ]
            yield [benchmark, self._name(system, metric), source, *text], numbers
        highest = {c: v for c, v in self.ceiling.get(benchmark, {}).items() if ours in v}  # not every metric has one
        if highest:
            text = [format_number(highest[c][ours], metric=ours) if c in highest else ABSENT for c in self.columns]
            numbers = [_csv_row(benchmark, "ceiling", "exact", c, ours, v[ours]) for c, v in highest.items()]
            yield [benchmark, self._name("exact posterior", metric), "ceiling", *text], numbers
        floor = self.floor[benchmark][ours]
        text = [format_number(floor, metric=ours)] * len(self.columns)
        cells = [benchmark, self._name("best constant", metric), "floor", *text]
        yield cells, [_csv_row(benchmark, "best constant", "floor", "any", ours, floor)]

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
        ]

    def _name(self, system, metric):
        """A row's name says its metric where the table has more than one."""
        return system if len(self.metric_names) == 1 else f"{system}, {metric.removeprefix('f1_')}"


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
