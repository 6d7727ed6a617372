"""What commands of several files share: options, name=value, sizes."""

from typing import Annotated

import typer

from ..support.errors import BadInput

Jobs = Annotated[int, typer.Option(min=1, help="trainings at a time")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]


def pairs(texts):
    """name -> value of options that are given as name=value, any number of times."""
    return dict(_pair(text) for text in texts or [])


def _pair(text):
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"parameter {text!r} is not of the form name=value.")
    return name, value


def mebibytes(size):
    """A number of bytes as it is printed."""
    return f"{size / 2**20:.1f} MiB"
