"""Where things lie: the project root, the data folder, the run store. Knows no other module but errors."""

import os
from contextlib import contextmanager
from pathlib import Path

from .errors import BadInput


def project_root():
    """`MMKD_HOME`, else the nearest folder above the working folder that holds notebooks/ and mmkd_lib/."""
    if home := os.environ.get("MMKD_HOME"):
        return Path(home).resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "mmkd_lib").is_dir():
            return folder
    raise BadInput(
        f"no handbook around {here}: start inside a clone of it, or set MMKD_HOME to the folder with "
        "notebooks/ and mmkd_lib/."
    )


def notebook_files():
    """name -> path of every notebook, in order."""
    return {path.stem: path for path in sorted((project_root() / "notebooks").glob("*.ipynb"))}


def data_folder():
    """Where benchmark files are looked for: `MMKD_DATA`, else data/ of the project."""
    return Path(os.environ.get("MMKD_DATA") or project_root() / "data").resolve()


def store_folder():
    """The run store: runs/ of the project, one folder per run record."""
    return project_root() / "runs"


def records_folder():
    """The records that the repository ships: data/records, one folder a paper."""
    return project_root() / "data" / "records"


def figures_folder():
    """Tables and figures: figures, one folder a paper."""
    return project_root() / "figures"


def surroundings():
    """The environment variables that let another process look where this one does; none outside a handbook."""
    try:
        weights = {name: os.environ[name] for name in ("MMKD_BERT",) if name in os.environ}
        return {"MMKD_HOME": str(project_root()), "MMKD_DATA": str(data_folder())} | weights
    except BadInput:
        return {}


@contextmanager
def surrounded(variables):
    """Have these environment variables set for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
