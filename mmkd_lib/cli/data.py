"""`mmkd data ...`, `mmkd score`, `mmkd masks`: benchmark files, predictions and test masks."""

from pathlib import Path
from typing import Annotated

import typer

from ..support import paths
from ..support.errors import one_of
from .shared import pairs

commands = typer.Typer()
files = typer.Typer(no_args_is_help=True, help="Benchmark files: look into them, convert them, where they are found.")

FilePath = Annotated[Path, typer.Argument(help="a benchmark file, or the folder of one")]
Use = Annotated[
    list[str] | None, typer.Option("--use", help="m=NAME: the folder or file of a modality, where there are several")
]


@files.command()
def inspect(path: FilePath, use: Use = None):
    """What a file holds: family, splits, folds, shapes, labels, missing and strange values, SHA-256."""
    from ..data.readers import files as readers

    for line in readers.describe(path, pairs(use)):
        print(line)


@files.command()
def convert(path: FilePath, out: Annotated[Path, typer.Argument(help="NAME.npz, not there yet")], use: Use = None):
    """Write a file of any family as a plain mmkd-npz/1 file, which opens faster and can be named as you like."""
    from ..data.readers import files as readers

    found = readers.convert(path, out, pairs(use))
    print(f"written  {out}: {found.measured_on}")


@files.command("list")
def list_():
    """Every benchmark: whether it is here, where it is looked for, under which terms and how to get it."""
    from ..data import benchmarks, known
    from ..data.readers import files as readers
    from ..data.synthetic import worlds

    folder = paths.data_folder()
    for name, what in known.KNOWN.items():
        here = readers.find(name)
        sizes = f", {'/'.join(map(str, what.split))} utterances" if what.split else ""
        print(f"{name:12s} {f'found: {here}' if here else 'not here'}  ({what.title}{sizes})")
        print(f"{'':12s} looked for in {folder}: {', '.join(str(p.relative_to(folder)) for p in known.places(name))}")
        print(f"{'':12s} {what.terms}; {what.get}")
    for name in sorted(set(benchmarks.available()) - known.KNOWN.keys() - set(worlds.NAMES)):
        print(f"{name:12s} found: {benchmarks.place(name)}")
    print(f"generated    {', '.join(worlds.NAMES)} and their variants: always here")


@files.command()
def sample(
    out: Annotated[Path, typer.Argument(help="the file or folder to write, not there yet")],
    family: Annotated[str, typer.Option(help="plain, mmsa, mult, gcnet, mmin, csd or tuples")],
    benchmark: Annotated[str, typer.Option(help="what to draw from; left out: one that fits the family")] = "",
):
    """Write a tiny file in a family's layout, of generated data, to develop against."""
    from ..data.readers import files as readers

    readers.sample(family, out, benchmark or ("synthetic-iemocap" if family == "mmin" else "synthetic-mosi"))
    print(f"written  {out} (generated data in the layout {family})")


@commands.command()
def score(
    path: Annotated[Path, typer.Argument(help="predictions as .csv or .npz, or the folder of a run record")],
    explain: Annotated[
        bool, typer.Option("--explain", help="what each metric is, and who in the field uses it")
    ] = False,
):
    """Every metric of predictions, each beside what the best constant scores on the same labels."""
    from ..results import scoring

    for name, predicted in scoring.read(path).items():
        found = scoring.table(*predicted, explained=explain)
        print(f"{name}: {len(predicted[2])} utterances, {predicted[0]}")
        for metric, row in found.iterrows():
            print(f"  {metric:24s} {row['value']:8.3f}   floor {row['floor']:8.3f}")
            if explain:
                print(f"  {'':24s} {row['what']}\n  {'':24s} used: {row['who']}")


@commands.command()
def masks(
    condition: Annotated[str, typer.Argument(help="e.g. 'mr=0.7', 'l+a', 'l & frames=0.5'")],
    benchmark: Annotated[str, typer.Option(help="a benchmark")] = "synthetic-mosi",
    part: Annotated[str, typer.Option(help="train, valid or test")] = "test",
    profile: Annotated[str, typer.Option(help="size of a synthetic benchmark: smoke, small or paper")] = "small",
):
    """The frozen mask of a condition: nominal and realised missing rates, patterns, hash."""
    from ..data import benchmarks, missing

    found = benchmarks.load(benchmark, profile)
    rows = found.rows(one_of("part", part, benchmarks.PARTS), found.folds[0])
    rates, patterns, hashed = missing.rates(condition, found.batch, rows, found.mask_key)
    fold = "" if found.folds[0] is None else f", fold {found.folds[0]}"
    print(f"{condition} on the {part} part of {benchmark}{fold}: {len(rows)} utterances, mask {hashed}")
    for what, (nominal, realised) in rates.items():
        print(f"  missing {what:12s} nominal {nominal:.4f}   realised {realised:.4f}")
    print("  left with   " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in patterns.items()))
