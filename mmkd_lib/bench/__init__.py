"""The bench: speed as ratios against limits, both sides of a ratio measured in turn, in one run on one machine.

A question is one `Row`: what is measured, its limit, and the function that measures. It is asked of the real code; no
other module may need this one, and the numbers of no experiment come from here.
"""

import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pandas as pd

from ..results.tables import Table
from ..runs.recording import one_thread
from ..support import devices
from ..support.errors import BadInput, one_of
from . import engine, parts, training
from .measuring import machine


def cpu_rows():
    """The questions asked of every machine, in the order of the table."""
    return [*training.step_rows(), *parts.ROWS, *engine.ROWS]


def gpu_rows():
    """The questions asked of a machine with a GPU."""
    return training.stacking_rows()


def bench(device="cpu", only=None):
    """Ask the questions of a device, or `only` the named ones: a frame with a row each, and the machine in `attrs`."""
    rows = {row.what: row for row in _rows(device)}
    chosen = [rows[one_of("row of the bench", name, tuple(rows))] for name in only or rows]
    table = []
    with one_thread(), redirect_stdout(sys.stderr):  # what run() says is progress here
        for number, (what, limit, measure) in enumerate(chosen, 1):
            print(f"{number} of {len(chosen)}: {what} ...", flush=True)
            value, detail = measure()
            table.append((what, limit.shown(value), str(limit), limit.holds(value), detail))
    frame = pd.DataFrame(table, columns=["what", "measured", "limit", "holds", "detail"])
    frame.attrs["machine"] = machine(device)
    return frame


def _rows(device):
    """The questions of a device that can be used here."""
    if one_of("device", device, devices.CLASSES) == "cpu":
        return cpu_rows()
    usable, reason = devices.choose(device)
    if usable != device:
        raise BadInput(f"these rows need a GPU, and here a training would use {reason}: ask for device cpu.")
    return gpu_rows()


def markdown(frame):
    """The table of a bench, with the machine in a line under it."""
    cells = frame.assign(holds=frame["holds"].map({True: "yes", False: "no"}))
    return Table(cells, frame, [frame.attrs["machine"]]).markdown()


def write(path, frame, name="bench"):
    """Put the table between the lines <!-- bench --> and <!-- /bench --> of a Markdown file, for what stands there."""
    path, (begin, end) = Path(path), (f"<!-- {name} -->", f"<!-- /{name} -->")
    between = re.compile(f"(?<=^{begin}\n).*?(?=^{end}$)", re.DOTALL | re.MULTILINE)
    text, places = between.subn(lambda _: f"\n{markdown(frame)}\n", path.read_text(encoding="utf-8"))
    if places != 1:
        raise BadInput(
            f"{path} has {places} places for the table: give it one line {begin} and, below, one line {end}."
        )
    path.write_text(text, encoding="utf-8")
