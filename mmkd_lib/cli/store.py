"""`mmkd status`, `prune`, `bench`, `check`, `doctor`: the run store, a method, this machine."""

import sys
from typing import Annotated

import typer

from ..support import paths
from .shared import mebibytes

commands = typer.Typer()


@commands.command()
def status():
    """What the run store holds, what executed notebooks asked for and still lack, what failed, what is damaged."""
    from ..runs import asked, damage, tidying
    from ..runs.store import Store

    store = Store()
    wrong, counts, sizes = tidying.holdings(store)
    for key, what in wrong.items():
        print(f"damaged  {key}: {damage.told(what)}")
    for kind, count in sorted(counts.items()):
        print(f"{count:5d} done  {mebibytes(sizes[kind]):>11s}  {kind}")
    print(f"{counts.total():5d} done  {mebibytes(sizes.total()):>11s}  in {store.folder}")
    for execution, states in asked.progress(store):
        _print_progress(execution, ", ".join(f"{states[state]} {state}" for state in asked.STATES))
    for key, report in store.failed().items():
        print(f"failed   {key}: {report.splitlines()[0]}: {report.splitlines()[-1]}")
    print(f"{len(store.drafts())} being written, {len(damage.damaged(store))} set aside as damaged (mmkd prune)")


def _print_progress(asked, counts):
    """What an execution of a notebook stands on, and how much of it is there."""
    what = "; ".join(", ".join(map(str, asked[kind])) for kind in ("artefacts", "benchmarks", "seeds") if asked[kind])
    print(f"{len(asked['runs']):5d} asked for by {asked['paper']}, {asked['profile']} ({what}): {counts}")


@commands.command()
def prune(
    unasked: Annotated[bool, typer.Option("--unasked", help="also what no executed notebook asked for")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="remove it; without, it is only listed")] = False,
):
    """What no notebook needs: records of code or data that changed, damaged ones, drafts of dead processes."""
    from ..runs import tidying
    from ..runs.store import Store

    store, freed = Store(), 0
    tidying.sweep(store)
    for why, found in tidying.needless(store, unasked).items():
        size = sum(map(tidying.forget if delete else tidying.size, found))
        freed += size
        print(f"{len(found):5d}  {mebibytes(size):>11s}  {why}")
    print(f"{mebibytes(freed)} {'freed' if delete else 'would be freed: call again with --delete'}")


@commands.command()
def bench(
    device: Annotated[str, typer.Option(help="cpu, or cuda: what stacked seeds are worth")] = "cpu",
    row: Annotated[list[str] | None, typer.Option(help="only this row; may be repeated")] = None,
    write: Annotated[bool, typer.Option("--write", help="put the table into README.md")] = False,
):
    """Measure speed on this machine as ratios against limits, all in one run. Status 1: one does not hold."""
    from .. import bench as table

    found = table.bench(device, row)
    print(table.markdown(found))
    if write:
        table.write(paths.project_root() / "README.md", found, "bench" if device == "cpu" else "bench-gpu")
    if not found["holds"].all():
        sys.exit(1)


@commands.command()
def check(method: Annotated[str, typer.Argument(help="file.py:Class of your own method, or e.g. corrkd")]):
    """Hold a method against the contract that all keep, on tiny generated data. Status 1: something is broken."""
    from ..runs import contract

    broken = 0
    for what, sentence in contract.check(method):
        broken += bool(sentence)
        print(f"{'broken' if sentence else 'holds':7s} {sentence or ' '.join(what.split())}", flush=True)
    if broken:
        sys.exit(1)


@commands.command()
def doctor():
    """Versions, device, kernel, disk and data of this machine; status 1 when something needed is absent."""
    from ..data import benchmarks
    from ..support import devices, machine

    packages, kernel = machine.packages(), machine.kernel()
    problems = [f"package {n} is not installed: run make handbook" for n, version in packages.items() if not version]
    problems += [] if kernel.is_dir() else ["no Jupyter kernel python3: run make handbook"]
    print(f"python      {sys.version.split()[0]} at {sys.prefix}")
    for name, version in packages.items():
        if version:
            print(f"{name:11s} {version}")
    print(f"device      trainings use {devices.choose('auto')[1]}")
    print(f"kernel      {kernel}")
    root = paths.project_root()
    print(f"disk        {machine.free_disk(root):.0f} GiB free at {root}")
    print(f"data        {paths.data_folder()}: {', '.join(benchmarks.available())}")
    for problem in problems:
        print(f"problem     {problem}.")
    if problems:
        sys.exit(1)
