"""`mmkd`: execute notebooks, look into data files, the run store and this machine. Bad input ends with status 2."""

import importlib.metadata
import json
import re
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from .support import paths
from .support.errors import BadInput, one_of

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
data = typer.Typer(no_args_is_help=True, help="Benchmark files: look into them, convert them, where they are found.")
app.add_typer(data, name="data")


def main():
    """Entry point: a BadInput anywhere is one sentence and exit status 2."""
    try:
        app()
    except BadInput as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(2)


Jobs = Annotated[int, typer.Option(min=1, help="trainings at a time")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Retrain = Annotated[bool, typer.Option("--retrain", help="train here what came with the handbook")]
Parameter = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", help="name=value, e.g. -p benchmarks=mosi-752")
]

# --- notebooks -------------------------------------------------------------------------------------------------------


@app.command()
def notebooks(
    names: Annotated[list[str] | None, typer.Argument(help="e.g. 01_corrkd; all when left out")] = None,
    profile: Annotated[str, typer.Option(help="smoke, small or paper")] = "smoke",
    jobs: Jobs = 1,
    device: Device = "auto",
    scheduler: Annotated[str, typer.Option(help="a Dask scheduler whose workers train, e.g. tcp://host:8786")] = "",
    parameter: Parameter = None,
    retrain: Retrain = False,
):
    """Execute notebooks headlessly; everything trained before comes from the run store."""
    chosen = _notebooks(names)
    given = {"profile": profile, "jobs": jobs, "device": device, "scheduler": scheduler, "retrain": retrain}
    given |= dict(_parameter(text) for text in parameter or [])
    for path in chosen:
        _check_parameters(path, given)
    target = paths.store_folder() / "notebooks" / profile
    target.mkdir(parents=True, exist_ok=True)
    failed = [path.stem for path in chosen if not _execute(path, target, given)]
    print(f"\nexecuted notebooks  {target}")
    print(f"figures and tables  {', '.join(_artefact_folders(chosen, given))}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


@app.command()
def plan(
    names: Annotated[list[str] | None, typer.Argument(help="e.g. 01_corrkd; all when left out")] = None,
    profile: Annotated[str, typer.Option(help="smoke, small or paper")] = "paper",
    jobs: Jobs = 1,
    device: Device = "auto",
    parameter: Parameter = None,
    retrain: Retrain = False,
):
    """What notebooks would train: runs, steps, time from ten measured steps, disk. Nothing is trained."""
    from .book.session import planned
    from .runs import costs

    for path in _notebooks(names):
        given = {"profile": profile, "device": device, "jobs": jobs, "retrain": retrain}
        given |= dict(_parameter(text) for text in parameter or [])
        stand_ins = {} if "benchmarks" in given else _stand_ins(_paper(path), profile)
        if stand_ins:
            given["benchmarks"] = [*stand_ins.values()]
            absent = ", ".join(f"{name} by {other}" for name, other in stand_ins.items() if name != other)
            print(f"{path.stem}: counted and timed on stand-ins of the same size where files are absent: {absent}")
        _check_parameters(path, given)
        session = planned(path.with_suffix(".py"), **given)
        job = session.job()
        if not job.wanted:
            print(f"{path.stem}, {profile}: nothing to train\n")
            continue
        # nobody can teach the posterior of a real benchmark, though its stand-in could
        real = [w for w in job.wanted.values() if not (stand_ins and w.experiment.stage == "oracle")]
        bill = costs.bill(real, [w for w in job.to_train() if w in real], session.device)
        shown = bill.assign(time=bill["seconds"].map(costs.duration), disk=bill["bytes"].map(_mebibytes))
        print(shown.drop(columns=["seconds", "bytes"]).to_string())
        runs, to_train, steps, seconds, size = bill.sum()
        print(
            f"{path.stem}, {profile}: {runs:.0f} runs, {to_train:.0f} to train: {steps:.0f} steps, "
            f"{costs.duration(seconds / jobs)} with {jobs} at a time on {session.reason}; {_mebibytes(size)} of disk\n"
        )


def _stand_ins(paper, profile):
    """The notebook's own benchmarks, each with what stands in for it where its file is absent; nothing where all are
    there."""
    from .book.parameters import default_benchmarks
    from .data import benchmarks

    wanted, there = default_benchmarks(paper, profile), benchmarks.available()
    absent = [name for name in wanted if name not in there]
    return {name: benchmarks.stand_in(name) if name in absent else name for name in wanted} if absent else {}


def _notebooks(names):
    """The notebook files to execute, in order."""
    found = {path.stem: path for path in sorted((paths.project_root() / "notebooks").glob("*.ipynb"))}
    return [found[one_of("notebook", Path(name).stem, found)] for name in names or found]


def _parameter(text):
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"parameter {text!r} is not of the form name=value.")
    return name, value


def _check_parameters(path, given):
    """Refuse unknown parameters and values before a kernel starts."""
    import papermill

    from .book.parameters import Parameters

    known = papermill.inspect_notebook(str(path))
    for name in given:
        one_of(f"parameter of {path.stem}", name, known)
    Parameters.of(_paper(path), **given)


def _paper(path):
    """The paper of a notebook: NN_<paper>.ipynb."""
    return path.stem.partition("_")[2]


def _execute(path, target, given):
    """Execute one notebook into `target`; says how long it took and what was trained. False when a cell failed."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    out, began = target / path.name, time.perf_counter()
    print(f"{path.stem}: executing ...", flush=True)
    failure = None
    try:
        papermill.execute_notebook(
            str(path),
            str(out),
            parameters=given,
            cwd=str(paths.project_root()),
            progress_bar=False,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],  # its warning about local TCP tells a reader nothing
        )
    except PapermillExecutionError as error:
        if error.ename == "BadInput":
            raise BadInput(error.evalue) from None
        failure = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
    for line in _run_lines(out):
        print(f"{path.stem}: {line}")
    print(f"{path.stem}: {'FAILED, ' + failure if failure else 'done'} in {time.perf_counter() - began:.0f} s")
    return failure is None


def _run_lines(path):
    """What run() said in an executed notebook."""
    outputs = [o for cell in json.loads(path.read_text())["cells"] for o in cell.get("outputs", [])]
    text = "\n".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")
    return re.findall(r"^\d+ runs: .*$", text, flags=re.MULTILINE)


def _artefact_folders(chosen, given):
    """Where the executed notebooks put their figures and tables."""
    from .results import artefacts

    return [given.get("out") or str(artefacts.folder(_paper(path), given["profile"])) for path in chosen]


# --- what notebooks leave behind, and what is made of them ---------------------------------------------------------


@app.command()
def artefacts(
    paper: Annotated[str | None, typer.Argument(help="e.g. corrkd; all when left out")] = None,
    write: Annotated[bool, typer.Option("--write", help="write the gallery figures/README.md")] = False,
):
    """What lies in figures/: made, stale or missing, with rows built of rows printed. Status 1: something lacks."""
    from .results import artefacts as index

    if write:
        path = paths.figures_folder() / "README.md"
        path.write_text(index.gallery(), encoding="utf-8")
        print(f"written  {path}")
        return
    papers = [paper] if paper else sorted({file.parent.name for file in paths.figures_folder().glob("*/*.json")})
    whole = [_print_artefacts(name, index.made(name)) for name in papers]
    if not all(whole):
        sys.exit(1)


def _print_artefacts(paper, rows):
    """One paper's list and sum; True when all that the paper shows (or else our own) is made and nothing is stale."""
    for row in rows.itertuples():
        built = f"rows built {row.built}" if row.built else ""
        print(f"{row.artefact:22s} {row.kind:10s} {row.profile:6s} {row.state:8s} {built:18s} {row.why or row.data}")
    small = rows[rows["profile"] == "small"]
    counted = small[small["printed"] == small["printed"].any()]
    made = counted[counted["state"] == "made"]
    kinds = ", ".join(f"{n} {kind}" for kind, n in made["kind"].value_counts(sort=False).items())
    stale = (rows["state"] == "stale").sum()
    print(f"{paper}: {len(made)} of {len(counted)} made ({kinds or 'none'}), {stale} stale\n")
    return len(made) == len(counted) and not stale


@app.command()
def claims(paper: Annotated[str, typer.Argument(help="e.g. corrkd")]):
    """Every claim of a paper with its verdict, as the notebook of the paper found it."""
    from .results import artefacts as index
    from .results import claims as stated

    known, file = stated.read(paper), index.folder(paper, "small") / "claims.csv"
    if not file.exists():
        raise BadInput(f"no verdicts on {paper} yet: run mmkd notebooks --profile small for its notebook.")
    found = pd.read_csv(file, keep_default_na=False).set_index("id")
    for claim in known:
        if claim.id not in found.index:
            raise BadInput(f"{claim.id} has no verdict yet: run mmkd notebooks --profile small for its notebook.")
        row = found.loc[claim.id]
        print(f"{claim.id:22s} {row['role']:10s} {row['verdict']:18s} {claim.statement}")
        details = (f"in print: {row['printed']}", row["effect"] and f"measured: {row['effect']}", row["why"])
        print(f"{'':22s} {'; '.join(text for text in details if text)}")
    counts = found.loc[[claim.id for claim in known], "verdict"].value_counts()
    print(f"{len(known)} claims: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}")


@app.command()
def exercises(
    names: Annotated[list[str] | None, typer.Argument(help="e.g. 01_corrkd; all that have exercises")] = None,
    out: Annotated[Path | None, typer.Option(help="where to; runs/exercises when left out")] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite copies that were worked on")] = False,
):
    """Write the students' copies of notebooks (solutions cut) and the instructors' (with hints)."""
    from .book import exercises as split

    for path in split.write(names, out or paths.store_folder() / "exercises", force):
        print(path)


@app.command()
def ship(paper: Annotated[str, typer.Argument(help="e.g. corrkd")]):
    """Write data/records/PAPER: the records behind its artefacts of the profile small, so that others redraw them."""
    from .results import artefacts as index
    from .runs.shipped import read_shipped, the_store
    from .runs.shipped import ship as write

    store, folder = the_store(), paths.records_folder()
    records = index.records_behind(paper, store)
    elsewhere = read_shipped(folder, without=paper)
    size = write([record for record in records if record.key not in elsewhere], folder / paper)
    print(f"shipped  {len(records)} records, {size / 2**20:.2f} MiB in {folder / paper}")


@app.command()
def carry(paper: Annotated[str, typer.Argument(help="e.g. corrkd")], jobs: Jobs = 2):
    """After a change of code that should change no number: train one seed of every configuration behind PAPER anew,
    and where all is equal digit for digit let the shipped records stand (data/records/carried.csv)."""
    from tempfile import TemporaryDirectory

    from .results.carry import carry as compare

    with TemporaryDirectory() as folder:
        count = compare(paper, folder, jobs)
    print(f"carried  {paper}: {count} runs trained anew, every number as shipped")


# --- data, store, machine --------------------------------------------------------------------------------------------


FilePath = Annotated[Path, typer.Argument(help="a benchmark file, or the folder of one")]
Use = Annotated[
    list[str] | None, typer.Option("--use", help="m=NAME: the folder or file of a modality, where there are several")
]


@data.command()
def inspect(path: FilePath, use: Use = None):
    """What a file holds: family, splits, folds, shapes, labels, missing and strange values, SHA-256."""
    from .data.readers import files

    for line in files.describe(path, dict(_parameter(text) for text in use or [])):
        print(line)


@data.command()
def convert(path: FilePath, out: Annotated[Path, typer.Argument(help="NAME.npz, not there yet")], use: Use = None):
    """Write a file of any family as a plain mmkd-npz/1 file, which opens faster and can be named as you like."""
    from .data.readers import files

    found = files.convert(path, out, dict(_parameter(text) for text in use or []))
    print(f"written  {out}: {found.measured_on}")


@data.command("list")
def list_():
    """Every benchmark: whether it is here, where it is looked for, under which terms and how to get it."""
    from .data import benchmarks, known
    from .data.readers import files
    from .data.synthetic import worlds

    folder = paths.data_folder()
    for name, what in known.KNOWN.items():
        here = files.find(name)
        sizes = f", {'/'.join(map(str, what.split))} utterances" if what.split else ""
        print(f"{name:12s} {f'found: {here}' if here else 'not here'}  ({what.title}{sizes})")
        print(f"{'':12s} looked for in {folder}: {', '.join(str(p.relative_to(folder)) for p in known.places(name))}")
        print(f"{'':12s} {what.terms}; {what.get}")
    for name in sorted(set(benchmarks.available()) - known.KNOWN.keys() - set(worlds.NAMES)):
        print(f"{name:12s} found: {benchmarks.place(name)}")
    print(f"generated    {', '.join(worlds.NAMES)} and their variants: always here")


@data.command()
def sample(
    out: Annotated[Path, typer.Argument(help="the file or folder to write, not there yet")],
    family: Annotated[str, typer.Option(help="plain, mmsa, mult, gcnet, mmin, csd or tuples")],
    benchmark: Annotated[str, typer.Option(help="what to draw from; left out: one that fits the family")] = "",
):
    """Write a tiny file in a family's layout, of generated data, to develop against."""
    from .data.readers import files

    files.sample(family, out, benchmark or ("synthetic-iemocap" if family == "mmin" else "synthetic-mosi"))
    print(f"written  {out} (generated data in the layout {family})")


@app.command()
def score(
    path: Annotated[Path, typer.Argument(help="predictions as .csv or .npz, or the folder of a run record")],
    explain: Annotated[
        bool, typer.Option("--explain", help="what each metric is, and who in the field uses it")
    ] = False,
):
    """Every metric of predictions, each beside what the best constant scores on the same labels."""
    from .results import scoring

    for name, predicted in scoring.read(path).items():
        found = scoring.table(*predicted, explained=explain)
        print(f"{name}: {len(predicted[2])} utterances, {predicted[0]}")
        for metric, row in found.iterrows():
            print(f"  {metric:24s} {row['value']:8.3f}   floor {row['floor']:8.3f}")
            if explain:
                print(f"  {'':24s} {row['what']}\n  {'':24s} used: {row['who']}")


@app.command()
def masks(
    condition: Annotated[str, typer.Argument(help="e.g. 'mr=0.7', 'l+a', 'l & frames=0.5'")],
    benchmark: Annotated[str, typer.Option(help="a benchmark")] = "synthetic-mosi",
    part: Annotated[str, typer.Option(help="train, valid or test")] = "test",
    profile: Annotated[str, typer.Option(help="size of a synthetic benchmark: smoke, small or paper")] = "small",
):
    """The frozen mask of a condition: nominal and realised missing rates, patterns, hash."""
    from .data import benchmarks, missing

    found = benchmarks.load(benchmark, profile)
    rows = found.rows(one_of("part", part, benchmarks.PARTS), found.folds[0])
    rates, patterns, hashed = missing.rates(condition, found.batch, rows, found.mask_key)
    fold = "" if found.folds[0] is None else f", fold {found.folds[0]}"
    print(f"{condition} on the {part} part of {benchmark}{fold}: {len(rows)} utterances, mask {hashed}")
    for what, (nominal, realised) in rates.items():
        print(f"  missing {what:12s} nominal {nominal:.4f}   realised {realised:.4f}")
    print("  left with   " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in patterns.items()))


@app.command()
def status():
    """What the run store holds, what executed notebooks asked for and still lack, what failed, what is damaged."""
    from .runs.store import Store

    store, kinds = Store(), Counter()
    sizes = Counter()
    for record in store.records():
        if wrong := record.damage():
            print(f"damaged  {record.key}: {', '.join(f'{name} {how}' for name, how in wrong.items())}")
            continue
        config = record.config
        kind = " / ".join((config["benchmark"], config["size"] or "file", config["method"], config["supervision"]))
        kinds[kind] += 1
        sizes[kind] += store.size(record.folder)
    for kind, count in sorted(kinds.items()):
        print(f"{count:5d} done  {_mebibytes(sizes[kind]):>11s}  {kind}")
    print(f"{kinds.total():5d} done  {_mebibytes(sizes.total()):>11s}  in {store.folder}")
    _print_asked(store)
    for key, report in store.failed().items():
        print(f"failed   {key}: {report.splitlines()[0]}: {report.splitlines()[-1]}")
    print(f"{len(store.drafts())} being written, {len(store.damaged())} set aside as damaged (mmkd prune)")


def _print_asked(store):
    """What executions of notebooks stand on: how much of it is there, came shipped, failed, or is missing."""
    from .runs.shipped import read_shipped

    shipped, failed = read_shipped(paths.records_folder()), store.failed()
    for asked in store.asked().values():
        states = Counter(_state(run["keys"], store, shipped, failed) for run in asked["runs"])
        counts = ", ".join(f"{states[state]} {state}" for state in ("done", "shipped", "missing", "failed"))
        what = "; ".join(
            ", ".join(map(str, asked[kind])) for kind in ("artefacts", "benchmarks", "seeds") if asked[kind]
        )
        print(f"{len(asked['runs']):5d} asked for by {asked['paper']}, {asked['profile']} ({what}): {counts}")


def _state(keys, store, shipped, failed):
    """Where a run stands, by the keys of the records that serve."""
    if store.holds(keys[0]):
        return "done"
    if not shipped.keys().isdisjoint(keys):
        return "shipped"
    return "failed" if keys[0] in failed else "missing"


def _mebibytes(size):
    return f"{size / 2**20:.1f} MiB"


@app.command()
def prune(
    unasked: Annotated[bool, typer.Option("--unasked", help="also what no executed notebook asked for")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="remove it; without, it is only listed")] = False,
):
    """What no notebook needs: records of code or data that changed, damaged ones, drafts of dead processes."""
    from .runs.store import Store

    store, freed = Store(), 0
    store.sweep()
    for why, found in _needless(store, unasked).items():
        size = sum(store.forget(path) if delete else store.size(path) for path in found)
        freed += size
        print(f"{len(found):5d}  {_mebibytes(size):>11s}  {why}")
    print(f"{_mebibytes(freed)} {'freed' if delete else 'would be freed: call again with --delete'}")


def _needless(store, unasked):
    """why -> paths of what the store could lose."""
    from .runs import experiments

    damaged = [r.folder for r in store.records() if r.damage()]
    sound = [r for r in store.records() if r.folder not in damaged]
    outdated = [r.folder for r in sound if not experiments.is_of_today(r.config)]
    old = [path for path in store.drafts() if time.time() - path.stat().st_mtime > 24 * 3600]
    found = {
        "made by code or from data that changed since": outdated,
        "damaged": [*damaged, *store.damaged()],
        "left half-written, for more than a day, by other machines": old,
    }
    if unasked:
        asked = {key for execution in store.asked().values() for run in execution["runs"] for key in run["keys"]}
        if not asked:
            raise BadInput("no notebook was executed on this store, so nobody asked for anything: leave --unasked out.")
        found["asked for by no executed notebook"] = [
            r.folder for r in sound if r.key not in asked and r.folder not in outdated
        ]
    return found


@app.command()
def bench(
    device: Annotated[str, typer.Option(help="cpu, or cuda: what stacked seeds are worth")] = "cpu",
    row: Annotated[list[str] | None, typer.Option(help="only this row; may be repeated")] = None,
    write: Annotated[bool, typer.Option("--write", help="put the table into README.md")] = False,
):
    """Measure speed on this machine as ratios against limits, all in one run. Status 1: one does not hold."""
    from . import bench as table

    found = table.bench(device, row)
    print(table.markdown(found))
    if write:
        table.write(paths.project_root() / "README.md", found, "bench" if device == "cpu" else "bench-gpu")
    if not found["holds"].all():
        sys.exit(1)


@app.command()
def check(method: Annotated[str, typer.Argument(help="file.py:Class of your own method, or e.g. corrkd")]):
    """Hold a method against the contract that all keep, on tiny generated data. Status 1: something is broken."""
    from .runs import contract

    broken = 0
    for what, sentence in contract.check(method):
        broken += bool(sentence)
        print(f"{'broken' if sentence else 'holds':7s} {sentence or ' '.join(what.split())}", flush=True)
    if broken:
        sys.exit(1)


@app.command()
def doctor():
    """Versions, device, kernel, disk and data of this machine; status 1 when something needed is absent."""
    from .data import benchmarks
    from .support import devices

    problems = []
    print(f"python      {sys.version.split()[0]} at {sys.prefix}")
    for requirement in importlib.metadata.requires("mmkd_lib") or []:
        if "extra ==" in requirement:
            continue
        name = re.match(r"[\w.-]+", requirement).group()
        try:
            print(f"{name:11s} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"package {name} is not installed: run make handbook")
    _, reason = devices.choose("auto")
    print(f"device      trainings use {reason}")
    kernel = Path(sys.prefix) / "share" / "jupyter" / "kernels" / "python3"
    print(f"kernel      {kernel}")
    if not kernel.is_dir():
        problems.append("no Jupyter kernel python3: run make handbook")
    root = paths.project_root()
    print(f"disk        {shutil.disk_usage(root).free / 2**30:.0f} GiB free at {root}")
    print(f"data        {paths.data_folder()}: {', '.join(benchmarks.available())}")
    for problem in problems:
        print(f"problem     {problem}.")
    if problems:
        sys.exit(1)


if __name__ == "__main__":
    main()
