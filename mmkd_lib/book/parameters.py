"""Parameters of a notebook, as papermill, the command line or a reader gives them: read, and refused before any run.

Knows benchmarks, artefacts and devices by name; nothing of runs.
"""

import json
from dataclasses import dataclass

from ..data import benchmarks
from ..methods import get, is_own
from ..results import artefacts
from ..support import devices
from ..support.errors import BadInput, one_of

SEEDS = {"smoke": 1, "small": 8, "paper": 5}  # of main rows; the papers of the field use five (UMDF, HFGD ten)
SYNTHETIC_ONLY = ("glass_box", "traps")  # the handbook's own notebooks: they need data of which everything is known


def as_list(value, kind):
    """A list parameter: papermill's `-p` passes it as text, so JSON and comma text are read too."""
    if isinstance(value, (list, tuple)):
        return list(value)
    text = str(value).strip()
    if not text:
        return []
    try:
        read = json.loads(text)
    except json.JSONDecodeError:
        read = [part.strip() for part in text.strip("[]").split(",")]
    if isinstance(read, dict):
        raise BadInput(f'parameter {kind} is {text!r}: give a list such as ["first", "second"].')
    return read if isinstance(read, list) else [read]


def as_whole(value, kind):
    """A whole number of at least 0, given as number or text."""
    text = str(value).strip()
    if not text.isdecimal():
        raise BadInput(f"parameter {kind} holds {value!r}: give whole numbers such as 0 or 3.")
    return int(text)


@dataclass(frozen=True)
class Parameters:
    """The checked parameters of a paper notebook; `of` refuses what cannot run, before anything does."""

    paper: str
    profile: str
    benchmarks: tuple
    artefacts: tuple  # empty: all
    seeds: tuple
    device: str
    jobs: int
    scheduler: str  # address of a Dask scheduler; empty: this machine
    out: str
    retrain: bool  # leave the shipped records aside
    own_methods: tuple  # file.py:Class

    @classmethod
    def of(
        cls,
        paper,
        profile="smoke",
        benchmarks="",
        artefacts="",
        seeds="",
        device="auto",
        jobs=1,
        scheduler="",
        out="",
        retrain=False,
        own_methods="",
    ):
        """Read parameters as a notebook or the command line gives them."""
        one_of("profile", profile, SEEDS)
        chosen = as_list(benchmarks, "benchmarks") or default_benchmarks(paper, profile)
        numbers = as_list(seeds, "seeds") or range(SEEDS[profile])
        return cls(
            paper,
            profile,
            tuple(_benchmark(paper, str(name)) for name in chosen),
            tuple(_artefact(paper, a) for a in as_list(artefacts, "artefacts")),
            tuple(as_whole(seed, "seeds") for seed in numbers),
            one_of("device", device, devices.CHOICES),
            max(1, as_whole(jobs, "jobs")),
            str(scheduler),
            str(out),
            one_of("retrain", str(retrain).lower(), ("true", "false")) == "true",
            tuple(_own(str(name), profile, out) for name in as_list(own_methods, "own_methods")),
        )


def default_benchmarks(paper, profile):
    """The real benchmarks in the profile `paper`, their synthetic stand-ins otherwise."""
    names = benchmarks.USED.get(paper, benchmarks.REAL)
    return names if profile == "paper" and paper not in SYNTHETIC_ONLY else tuple(map(benchmarks.stand_in, names))


def _own(name, profile, out):
    """A method of one's own, which stands in no table of figures/: there a row is one of the handbook's."""
    if not is_own(name):
        raise BadInput(f"parameter own_methods holds {name!r}: give methods of your own as my_method.py:MyMethod.")
    get(name)
    if profile != "smoke" and not out:
        raise BadInput("tables with methods of your own need a folder of their own: say where with the parameter out.")
    return name


def _benchmark(paper, name):
    if paper in SYNTHETIC_ONLY and not benchmarks.is_synthetic(name):
        raise BadInput(f"the notebook {paper} is about synthetic benchmarks, not {name}: try synthetic-mosi.")
    return benchmarks.check(name)


def _artefact(paper, artefact):
    artefacts.check(artefact)
    if not artefact.startswith(f"{paper}/"):
        raise BadInput(f"artefact {artefact!r} belongs to another notebook than that of {paper}.")
    return artefact
