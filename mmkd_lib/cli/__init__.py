"""`mmkd`: execute notebooks, look into data files, the run store and this machine. Bad input ends with status 2."""

# Commands import what they need when they are called: torch takes seconds, `mmkd --help` none.

import sys

import typer

from ..support.errors import BadInput
from . import data, notebooks, store

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
for commands in (notebooks.commands, data.commands, store.commands):  # in the order of `mmkd --help`
    app.add_typer(commands)
app.add_typer(data.files, name="data")


def main():
    """Entry point: a BadInput anywhere is one sentence and exit status 2."""
    try:
        app()
    except BadInput as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(2)
