"""Notebooks executed headlessly, and what is refused before a kernel starts."""

import json
import re
import time
from pathlib import Path
from typing import NamedTuple

import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from ..data import benchmarks
from ..support import paths
from ..support.errors import BadInput, one_of
from .parameters import Parameters, default_benchmarks


class Executed(NamedTuple):
    """What is to be told of an execution: what run() said, the cell that failed (if any), how long it took."""

    runs: list
    failure: str
    seconds: float


def chosen(names=()):
    """The notebook files of some names, in their order; all where none is named."""
    found = paths.notebook_files()
    return [found[one_of("notebook", Path(name).stem, found)] for name in names or found]


def paper_of(path):
    """The paper of a notebook: NN_<paper>.ipynb."""
    return path.stem.partition("_")[2]


def check_parameters(path, given):
    """Refuse unknown parameters, and values that the notebook would refuse."""
    known = papermill.inspect_notebook(str(path))
    for name in given:
        one_of(f"parameter of {path.stem}", name, known)
    Parameters.of(paper_of(path), **given)


def execute(path, target, given):
    """Execute one notebook with the parameters `given` into the folder `target`; a BadInput in a cell is raised.

    It is written once, at its end: written after every cell it takes a third longer.
    """
    out, began, failure = target / path.name, time.perf_counter(), ""
    out.unlink(missing_ok=True)
    try:
        papermill.execute_notebook(
            str(path),
            str(out),
            parameters=given,
            cwd=str(paths.project_root()),
            progress_bar=False,
            request_save_on_cell_execute=False,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],  # its warning about local TCP tells a reader nothing
        )
    except PapermillExecutionError as error:
        if error.ename == "BadInput":
            raise BadInput(error.evalue) from None
        failure = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
    except DeadKernelError:
        failure = "its process was killed, perhaps for want of memory: what was trained is kept, call it again"
    return Executed(_said_by_run(out) if out.exists() else [], failure, time.perf_counter() - began)


def _said_by_run(path):
    """What run() said in an executed notebook."""
    outputs = [o for cell in json.loads(path.read_text())["cells"] for o in cell.get("outputs", [])]
    text = "\n".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")
    return re.findall(r"^\d+ runs: .*$", text, flags=re.MULTILINE)


def stand_ins(paper, profile):
    """The notebook's own benchmarks, each with what stands in for it where its file is absent; nothing where all are
    there."""
    wanted, there = default_benchmarks(paper, profile), benchmarks.available()
    absent = [name for name in wanted if name not in there]
    return {name: benchmarks.stand_in(name) if name in absent else name for name in wanted} if absent else {}
