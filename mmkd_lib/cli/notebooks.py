"""`mmkd notebooks`, `plan`, and what notebooks leave behind: artefacts, claims, exercises, records."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..support import paths
from ..support.errors import BadInput
from .shared import Device, Jobs, mebibytes, pairs

commands = typer.Typer()
Retrain = Annotated[bool, typer.Option("--retrain", help="train here what came with the handbook")]
Parameter = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", help="name=value, e.g. -p benchmarks=mosi-752")
]


@commands.command()
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
    from ..book import executing
    from ..results import artefacts as index

    chosen = executing.chosen(names)
    given = {"profile": profile, "jobs": jobs, "device": device, "scheduler": scheduler, "retrain": retrain}
    given |= pairs(parameter)
    for path in chosen:
        executing.check_parameters(path, given)
    target = paths.store_folder() / "notebooks" / profile
    target.mkdir(parents=True, exist_ok=True)
    failed = [path.stem for path in chosen if not _execute(path, target, given)]
    print(f"\nexecuted notebooks  {target}")
    folders = [given.get("out") or str(index.folder(executing.paper_of(path), given["profile"])) for path in chosen]
    print(f"figures and tables  {', '.join(folders)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


@commands.command()
def plan(
    names: Annotated[list[str] | None, typer.Argument(help="e.g. 01_corrkd; all when left out")] = None,
    profile: Annotated[str, typer.Option(help="smoke, small or paper")] = "paper",
    jobs: Jobs = 1,
    device: Device = "auto",
    parameter: Parameter = None,
    retrain: Retrain = False,
):
    """What notebooks would train: runs, steps, time from ten measured steps, disk. Nothing is trained."""
    from ..book import executing
    from ..book.session import planned
    from ..runs import costs

    for path in executing.chosen(names):
        given = {"profile": profile, "device": device, "jobs": jobs, "retrain": retrain} | pairs(parameter)
        stand_ins = {} if "benchmarks" in given else executing.stand_ins(executing.paper_of(path), profile)
        if stand_ins:
            given["benchmarks"] = [*stand_ins.values()]
            absent = ", ".join(f"{name} by {other}" for name, other in stand_ins.items() if name != other)
            print(f"{path.stem}: counted and timed on stand-ins of the same size where files are absent: {absent}")
        executing.check_parameters(path, given)
        session = planned(path.with_suffix(".py"), **given)
        job = session.job()
        if not job.wanted:
            print(f"{path.stem}, {profile}: nothing to train\n")
            continue
        # nobody can teach the posterior of a real benchmark, though its stand-in could
        real = [w for w in job.wanted.values() if not (stand_ins and w.experiment.stage == "oracle")]
        bill = costs.bill(real, [w for w in job.to_train() if w in real], session.device)
        shown = bill.assign(time=bill["seconds"].map(costs.duration), disk=bill["bytes"].map(mebibytes))
        print(shown.drop(columns=["seconds", "bytes"]).to_string())
        runs, to_train, steps, seconds, size = bill.sum()
        print(
            f"{path.stem}, {profile}: {runs:.0f} runs, {to_train:.0f} to train: {steps:.0f} steps, "
            f"{costs.duration(seconds / jobs)} with {jobs} at a time on {session.reason}; {mebibytes(size)} of disk\n"
        )


def _execute(path, target, given):
    """Execute one notebook into `target`; says how long it took and what was trained. False when a cell failed."""
    from ..book import executing

    print(f"{path.stem}: executing ...", flush=True)
    runs, failure, seconds = executing.execute(path, target, given)
    for line in runs:
        print(f"{path.stem}: {line}")
    print(f"{path.stem}: {'FAILED, ' + failure if failure else 'done'} in {seconds:.0f} s")
    return not failure


# --- what notebooks leave behind, and what is made of them ---------------------------------------------------------


@commands.command()
def artefacts(
    paper: Annotated[str | None, typer.Argument(help="e.g. corrkd; all when left out")] = None,
    write: Annotated[bool, typer.Option("--write", help="write the gallery figures/README.md")] = False,
):
    """What lies in figures/: made, stale or missing, with rows built of rows printed. Status 1: something lacks."""
    from ..results import artefacts as index

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


@commands.command()
def claims(paper: Annotated[str, typer.Argument(help="e.g. corrkd")]):
    """Every claim of a paper with its verdict, as the notebook of the paper found it."""
    import pandas as pd

    from ..results import artefacts as index
    from ..results import claims as stated

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


@commands.command()
def exercises(
    names: Annotated[list[str] | None, typer.Argument(help="e.g. 01_corrkd; all that have exercises")] = None,
    out: Annotated[Path | None, typer.Option(help="where to; runs/exercises when left out")] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite copies that were worked on")] = False,
):
    """Write the students' copies of notebooks (solutions cut) and the instructors' (hints, wrong answers)."""
    from ..book import exercises as split

    for path in split.write(names, out or paths.store_folder() / "exercises", force):
        print(path)


@commands.command()
def ship(paper: Annotated[str, typer.Argument(help="e.g. corrkd")]):
    """Write data/records/PAPER: the records behind its artefacts of the profile small, so that others redraw them."""
    from ..results import artefacts as index
    from ..runs.shipped import read_shipped, the_store
    from ..runs.shipped import ship as write

    store, folder = the_store(), paths.records_folder()
    records = index.records_behind(paper, store)
    elsewhere = read_shipped(folder, without=paper)
    size = write([record for record in records if record.key not in elsewhere], folder / paper)
    print(f"shipped  {len(records)} records, {size / 2**20:.2f} MiB in {folder / paper}")


@commands.command()
def carry(
    paper: Annotated[str, typer.Argument(help="e.g. corrkd")],
    jobs: Jobs = 2,
    fill: Annotated[Path | None, typer.Option(help="train them into this store and compare nothing")] = None,
    against: Annotated[Path | None, typer.Option(help="compare with what older code filled this store with")] = None,
):
    """After a change of code that should change no number: train one seed of every configuration behind PAPER anew,
    and where all is equal digit for digit let the shipped records stand (data/records/carried.csv). Where this
    processor rounds otherwise than the one of the shipped records: --fill a store with the older code, then compare
    --against it."""
    from tempfile import TemporaryDirectory

    from ..results.carry import carry as compare
    from ..results.carry import train_shipped

    if fill:
        print(f"trained  {paper}: {train_shipped(paper, fill, jobs)} runs in {fill}")
        return
    with TemporaryDirectory() as folder:
        count = compare(paper, folder, jobs, against)
    print(f"carried  {paper}: {count} runs trained anew, every number as shipped")
