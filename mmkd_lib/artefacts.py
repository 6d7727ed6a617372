"""The registry of tables and figures: what the papers print, where ours lie, and what stands behind each of them."""

import json
from functools import lru_cache

import matplotlib.pyplot as plt
import pandas as pd

from . import paths
from .errors import BadInput, one_of

PROFILES = ("smoke", "small", "paper")


@lru_cache(maxsize=1)
def registry():
    """All tables and figures: of the papers (data/reported/artefacts.csv) and our own (data/handbook.csv), one row
    each; index `paper/artefact`."""
    data = paths.project_root() / "data"
    frame = pd.concat([pd.read_csv(data / "reported" / "artefacts.csv"), pd.read_csv(data / "handbook.csv")])
    return frame.set_index(frame["paper"] + "/" + frame["artefact"])


def check(artefact):
    """Refuse the id of an artefact that no paper has."""
    paper = artefact.split("/")[0]
    known = registry()
    if artefact in known.index:
        return artefact
    own = known.index[known["paper"] == paper]
    raise BadInput(f"unknown artefact {artefact!r}: choose one of {', '.join(own if len(own) else known.index)}.")


def printed(artefact):
    """The numbers a paper prints in one table or figure, as transcribed (values are the printed strings)."""
    paper, name = check(artefact).split("/")
    path = paths.project_root() / "data" / "reported" / f"{paper}.csv"
    if not path.exists():
        raise BadInput(f"no printed numbers of {paper}: {path.name} is not in data/reported.")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return frame[frame["artefact"] == name].reset_index(drop=True)


def folder(paper, profile):
    """Where artefacts go: figures/ for `small`, figures/<paper>/paper/ for `paper`, never figures/ for `smoke`."""
    one_of("profile", profile, PROFILES)
    if profile == "smoke":
        return paths.store_folder() / "artefacts" / "smoke" / paper
    own = paths.project_root() / "figures" / paper
    return own / "paper" if profile == "paper" else own


def save_table(where, artefact, table, provenance):
    """Write a table as Markdown, LaTeX and CSV (the numbers behind it), with its provenance; returns the paths."""
    target = _target(where, artefact)
    files = {".md": table.markdown(), ".tex": table.latex(), ".csv": table.numbers.to_csv(index=False)}
    return _write(target, files, provenance | {"artefact": artefact, "notes": table.notes})


def save_figure(where, artefact, figure, numbers, alt, provenance):
    """Write a figure as SVG and PNG, the plotted numbers as CSV, with alt text and provenance; returns the paths."""
    target = _target(where, artefact)
    figure.savefig(target.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(target.with_suffix(".png"), dpi=200, metadata={"Software": None})
    plt.close(figure)
    about = provenance | {"artefact": artefact, "alt": alt}
    written = _write(target, {".csv": numbers.round(4).to_csv(index=False)}, about)
    return [target.with_suffix(".svg"), target.with_suffix(".png"), *written]


def provenance(records, profile):
    """What stands behind an artefact: the data, the records with their code, the devices and versions."""
    configs = [record.config for record in records]
    return {
        "profile": profile,
        "measured on": sorted({record.environment["data"]["measured_on"] for record in records}),
        "seeds": sorted({config["seed"] for config in configs}),
        "records": sorted(record.key for record in records),
        "code": sorted({config["code"] for config in configs}),
        "device": sorted({config["device"]["class"] for config in configs}),
        "torch": sorted({record.environment["torch"] for record in records}),
    }


def _target(where, artefact):
    where.mkdir(parents=True, exist_ok=True)
    return where / check(artefact).split("/")[1]


def _write(target, files, provenance):
    files = files | {".json": json.dumps(provenance, indent=1) + "\n"}
    for suffix, text in files.items():
        target.with_suffix(suffix).write_text(text, encoding="utf-8")
    return [target.with_suffix(suffix) for suffix in files]
