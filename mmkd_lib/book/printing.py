"""What a notebook shows in one line: the library's source, options, claims, sentences on runs and scores, sliders.

Knows records, scores and claims; nothing of the session that they come from.
"""

import inspect
import os

import numpy as np
from IPython.display import Markdown, display

from ..methods.base import options_table
from ..results import tables


def source(thing):
    """Show the library's own lines of a function or class."""
    display(Markdown(f"```python\n{inspect.getsource(thing)}```"))


def show_options(options_class, only_open=True):
    """Show the options of a method as a table; `only_open` leaves out what the paper prints."""
    rows = [row for row in options_table(options_class) if not (only_open and row["reason"].startswith("printed"))]
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join("" if row[h] is None else str(row[h]) for h in head) + " |" for row in rows]
    display(Markdown("\n".join(lines)))


def show_recipe(recipe):
    """Show the options and training settings of a method: what is printed for each family of benchmarks, and what
    differs from it in the profiles that fit a laptop."""
    scaled = {f"{profile}, instead": getattr(recipe, profile) for profile in ("smoke", "small")}
    lines = [f"* {name}: {settings} {options}" for name, (options, settings) in (recipe.printed | scaled).items()]
    lines += [f"* {family}, {profile}: {settings}" for (profile, family), settings in recipe.by_family.items()]
    display(Markdown("\n".join(lines)))


def show_claims(claims):
    """Show claims as they are stated, before anything is measured."""
    rows = [f"| {c.id} | {c.whose} | {'primary' if c.primary else ''} | {c.statement} |" for c in claims]
    display(Markdown("\n".join(["| id | whose | | claim |", "|---|---|---|---|", *rows])))


def print_epochs(records):
    """Say of each system (label -> records) which epochs were kept, how many runs diverged, how long they took."""
    for label, found in ((label, found) for label, found in records.items() if found):
        kept = [int(record.history["best_epoch"]) for record in found]
        diverged = sum(not np.isfinite(record.history["value"]).all() for record in found)
        seconds = sum(record.cost["seconds"] for record in found)
        of_all = f"kept epochs {min(kept)} to {max(kept)}; {diverged} of {len(found)} runs diverged"
        print(f"{label:15s} {of_all}; {seconds:.1f} s of training")


def print_paired(scores, benchmark, pairs, metric, condition=tables.AVERAGE):
    """Say by how much the first system of each pair is above the second, seed by seed."""
    where = "average of six" if condition == tables.AVERAGE else condition
    for one, other in pairs:
        gain = tables.paired(scores, benchmark, one, other, condition, metric)
        print(f"{benchmark}, {where}, {metric}: {one} less {other}, paired by seed: {gain}")


def print_silhouettes(summary, benchmark, systems, condition):
    """Say how well the representations of systems are separated under a condition."""
    for label in systems:
        if (key := (benchmark, label, condition, "silhouette")) in summary.index:
            row = summary.loc[key]
            spread = f" ± {row['half']:.3f}" if row["n"] > 1 else ""
            print(f"{benchmark}, {label:15s} {row['mean']:.3f}{spread} (n = {row['n']:.0f})")


def print_changes(changes, peeking="selection = oracle-test"):
    """Say of each benchmark how far choices move the average: changes is `tables.minus` of one condition and metric."""
    for benchmark, own in changes.groupby("benchmark", sort=False):
        change = own.groupby("system")["value"].mean()
        least, most = change.nsmallest(5), change.nlargest(3)
        middle = f"half of the choices move the average by less than {change.abs().median():.2f} points"
        print(f"{benchmark}, seed by seed: {middle}")
        print(f"  down: {', '.join(f'{name} {value:+.2f}' for name, value in least.items())}")
        print(f"  up:   {', '.join(f'{name} {value:+.2f}' for name, value in most.items())}")
        if peeking in change:
            print(f"  points gained by peeking at the test part: {change[peeking]:+.2f}")


def explore(draw, **sliders):
    """Show draw(name=value, ...) -> figure with a slider a name in JupyterLab or Jupyter Notebook; once, at the start
    values, where nobody can move one (papermill, nbval, nbconvert). sliders: name -> (low, high, step, start)."""
    if "JPY_SESSION_NAME" not in os.environ:  # set by the Jupyter server for the kernels of its pages
        display(draw(**{name: start for name, (*_, start) in sliders.items()}))
        return
    from ipywidgets import FloatSlider, interact

    controls = {n: FloatSlider(min=a, max=b, step=c, value=d, description=n) for n, (a, b, c, d) in sliders.items()}
    interact(lambda **values: display(draw(**values)), **controls)


def check(what, holds):
    """Raise when a statement of the notebook is false; say so when it holds."""
    if not holds:
        raise AssertionError(f"this does not hold: {what}")
    print(f"holds: {what}")
