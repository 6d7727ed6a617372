"""One execution of a notebook: start(), the runs that it asks for, and the tables and figures that it saves and shows.

Knows the library; nothing in the library knows it.
"""

import io
import platform
from contextlib import redirect_stdout
from pathlib import Path

import torch
from IPython.display import Markdown, display

from ..data import benchmarks, missing
from ..data.synthetic import exact
from ..methods.base import alternatives
from ..results import artefacts, comparison, figures, tables
from ..runs import experiments, running
from ..runs.asked import ask
from ..runs.shipped import the_store
from ..support import paths, workers
from ..support.draws import digest
from .parameters import Parameters

REFERENCES = {"plain": "plain", "complete data": "complete", "oracle teaching": "oracle"}  # label -> supervision
STAMP = "SMOKE: wiring only"
COLUMNS = [*tables.INCOMPLETE, tables.AVERAGE, "+".join(missing.MODALITIES)]  # of most tables of the papers


class Asked:
    """What a notebook asked for: `wish`, and after `Session.run` the `records`, label -> list."""

    def __init__(self, systems, wish):
        self.systems, self.wish = systems, wish

    def take(self, records):
        """Deal the records of the wish out to the systems."""
        dealt = iter(records)
        self.records = {label: [next(dealt) for _ in planned] for label, planned in self.systems.items()}


class Session:
    """One execution of a paper notebook: its parameters, the runs it asked for, the artefacts it made."""

    def __init__(self, parameters, only_if_named=()):
        self.parameters, self.only_if_named, self.asked = parameters, only_if_named, []
        self.device, self.reason = workers.device(parameters.device, parameters.scheduler)
        self.seeds, self.profile = parameters.seeds, parameters.profile
        self.folder = Path(parameters.out) if parameters.out else artefacts.folder(parameters.paper, self.profile)

    def wants(self, *names):
        """Whether one of these artefacts was asked for; without any wish all are, save those too dear for `paper`."""
        kept_back = self.only_if_named if self.profile == "paper" else ()
        asked = self.parameters.artefacts or [name for name in names if name not in kept_back]
        return any(artefacts.check(name) in asked for name in names)

    def benchmarks(self, task):
        """The chosen benchmarks with this task."""
        return [name for name in self.parameters.benchmarks if benchmarks.load(name, self.profile).task == task]

    def plan(self, method, names, supervision="method", seeds=None, **choices):
        """Experiments of one system on benchmarks, for the seeds of this execution; oracle teaching only where the
        posterior is known. choices: `options` and `settings` that differ from the method's recipe."""
        known = [name for name in names if supervision != "oracle" or benchmarks.is_synthetic(name)]
        seeds = self.seeds if seeds is None else seeds
        return [e for b in known for e in experiments.plan(method, b, self.profile, seeds, supervision, **choices)]

    def own(self, names):
        """Experiments of the reader's methods (parameter `own_methods`) on benchmarks: name of the class -> list."""
        return {name.rpartition(":")[2]: self.plan(name, names) for name in self.parameters.own_methods}

    def ask(self, systems, conditions, embeddings=()):
        """Ask for the records of systems, label -> experiments, for `run` to find or to make; returns the `Asked`."""
        flat = tuple(e for planned in systems.values() for e in planned)
        self.asked.append(Asked(systems, running.Wish(flat, tuple(conditions), tuple(embeddings))))
        return self.asked[-1]

    def run(self, alone=()):
        """Train what the store lacks of all that was asked for, as one. alone: experiments (of what was asked) whose
        cost is shown: they are trained first, one at a time."""
        job = self.job()
        ask(job.store, *self.standing_on(job))
        if any(job.record(e) is None for e in alone):
            running.run_job(running.Job([running.Wish(tuple(alone), ())], self.device, job.store))
        found = running.run_job(job, self.parameters.jobs, self.parameters.scheduler)
        for asked, records in zip(self.asked, found, strict=True):
            asked.take(records)

    def job(self):
        """All that was asked for as one job, on top of what is shipped where that is not left aside."""
        store = the_store(shipped=not self.parameters.retrain)
        return running.Job([asked.wish for asked in self.asked], self.device, store)

    def standing_on(self, job):
        """(name, content) of the list of runs that this execution stands on, for `mmkd status` and `mmkd prune`."""
        chosen = self.parameters
        what = {"benchmarks": chosen.benchmarks, "artefacts": chosen.artefacts, "seeds": chosen.seeds}
        name = f"{chosen.paper}-{chosen.profile}-{digest(*what.values()) % 16**8:08x}"
        runs = [{"label": w.experiment.label, "keys": w.keys} for w in job.wanted.values()]
        return name, {"paper": chosen.paper, "profile": chosen.profile} | what | {"runs": runs}

    def of(self, records, systems, names):
        """The records of some systems on some benchmarks, in one list."""
        return [r for label in systems for r in records[label] if r.config["benchmark"] in names]

    def of_seed(self, records, benchmark):
        """The records (folds) of the first seed on a benchmark."""
        return [r for r in records if (r.config["benchmark"], r.config["seed"]) == (benchmark, self.seeds[0])]

    def ceilings(self, names, conditions):
        """benchmark -> condition -> metrics of the exact posterior; nothing for benchmarks that nobody drew."""
        found = {}
        for name in filter(benchmarks.is_synthetic, names):
            data = benchmarks.load(name, self.profile)
            asked = missing.available(conditions, data.batch.modalities)
            found[name] = tables.with_average(exact.ceilings_under(data, asked))
        return found

    def compare(self, artefact, scores, floor, ceiling, datasets, built, metric_names, columns=COLUMNS, less=""):
        """The table of an artefact, measured beside printed: six incomplete subsets, their average, and complete
        data, or other columns. scores: of the systems shown; datasets: benchmark -> the printed data set it stands
        beside; built: printed systems that are measured; metric_names: printed metric -> ours; less: the full method
        that ablations are compared with."""
        shown = artefacts.printed(artefact), scores, floor, datasets, columns, set(built), metric_names
        return comparison.Comparison(*shown, measured_on=self.measured_on(), ceiling=ceiling, less=less).table()

    def measured_on(self):
        """benchmark -> phrase for tables and captions."""
        return {name: benchmarks.load(name, self.profile).measured_on for name in self.parameters.benchmarks}

    def proof(self, artefact, records, names, shown):
        """Provenance of an artefact made from records, or computed on benchmarks without any training; `shown`: the
        systems in it."""
        known = artefacts.systems(artefact)
        built = f"{sum(system in shown for system in known)} of {len(known)}" if known else ""
        return artefacts.provenance(records, self.profile, names) | {"built": built}

    def show_table(self, artefact, table, records=(), names=(), shown=()):
        """Save a table and show it; `names`: the benchmarks it was computed on without records, `shown`: the paper's
        systems that were built for it."""
        if self.profile == "smoke":
            table.notes.insert(0, f"**{STAMP}.**")
        proof = self.proof(artefact, records, names, shown)
        silent = [phrase for phrase in proof["measured on"] if not any(phrase in note for note in table.notes)]
        table.notes += [f"Measured on {phrase}." for phrase in silent]
        paths_ = artefacts.save_table(self.folder, artefact, table, proof)
        display(Markdown(f"**{artefact}**\n\n{table.markdown()}"))
        print(f"saved: {_short(paths_[0])} (.tex, .csv, .json)")

    def show_figure(self, artefact, figure, numbers, alt, records=(), names=(), shown=()):
        """Stamp (smoke), save and show a figure; its alternative text stands under it."""
        if self.profile == "smoke":
            figures.stamp(figure, STAMP)
        proof = self.proof(artefact, records, names, shown)
        measured = f" Measured on {'; '.join(proof['measured on'])}." if proof["measured on"] else ""
        written = artefacts.save_figure(self.folder, artefact, figure, numbers, alt + measured, proof)
        display(figure)
        display(Markdown(f"**{artefact}.** {alt}{measured}"))
        print(f"saved: {_short(written[0])} (.png, .csv, .json)")


def _short(path):
    """A path as seen from the project root."""
    root = paths.project_root()
    return path.relative_to(root) if path.is_relative_to(root) else path


def start(paper, only_if_named=(), **parameters):
    """Check the parameters of a notebook and say what will happen where; returns its Session. `only_if_named`:
    artefacts too expensive on real data: in the profile `paper` they are made on request only."""
    session = Session(Parameters.of(paper, **parameters), only_if_named)
    chosen = session.parameters
    print(f"profile    {chosen.profile}, seeds {', '.join(map(str, chosen.seeds))}")
    for phrase in session.measured_on().values():
        print(f"data       {phrase}")
    where = f"on the workers of {chosen.scheduler}" if chosen.scheduler else f"{chosen.jobs} training(s) at a time"
    print(f"device     {session.reason}; {where}")
    print(f"versions   Python {platform.python_version()}, torch {torch.__version__}")
    print(f"artefacts  {', '.join(chosen.artefacts) or 'all'} -> {_short(session.folder)}")
    print(f"run store  {_short(paths.store_folder())}")
    return session


def planned(path, **parameters):
    """The session of a notebook with all that it asks for, and nothing trained: of its cells those tagged `plan` are
    executed, in silence."""
    import jupytext  # dear to import, and a notebook that is executed has no use for it

    space = {"__name__": path.stem}
    for cell in jupytext.read(path)["cells"]:
        tags = cell["metadata"].get("tags", [])
        if {"parameters", "plan"} & set(tags):
            with redirect_stdout(io.StringIO()):
                exec(compile(cell["source"], str(path), "exec"), space)  # the handbook's own cells
        if "parameters" in tags:
            space |= parameters
    return space["here"]


def other_choices(options_class, numbers, without=()):
    """Every open choice made otherwise: (label -> `options` that differ from the recipe, option -> printed reading).

    numbers: option -> values to try where any number is allowed; `without`: options that are left alone.
    """
    found = [choice for choice in alternatives(options_class, numbers) if choice[0] not in without]
    changes = {f"{name} = {value}": {"options": {name: value}} for name, value, _ in found}
    return changes, {name: value for name, value, is_printed in found if is_printed}
