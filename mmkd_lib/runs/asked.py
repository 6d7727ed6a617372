"""What executions of notebooks asked for, as the run store remembers it, and how much of that is there."""

import json
from collections import Counter
from contextlib import suppress

from ..support import paths
from .shipped import read_shipped

STATES = ("done", "shipped", "missing", "failed")


def ask(store, name, content):
    """Remember what an execution of a notebook stands on (content for JSON)."""
    with suppress(OSError):  # a store that can only be read serves all the same
        (store.hidden("asked") / f"{name}.json").write_text(json.dumps(content, indent=1))


def asked(store):
    """name -> what each execution asked for."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(store.folder.glob(".asked/*.json"))}


def keys(store):
    """The keys of all records that would serve an execution."""
    return {key for execution in asked(store).values() for run in execution["runs"] for key in run["keys"]}


def progress(store):
    """(what an execution asked for, how many of its runs are in each of STATES), of each execution."""
    shipped, failed = read_shipped(paths.records_folder()), store.failed()
    for execution in asked(store).values():
        yield execution, Counter(state(run["keys"], store, shipped, failed) for run in execution["runs"])


def state(serving, store, shipped, failed):
    """Where a run stands, one of STATES, by the keys of the records that serve, its own first."""
    if store.holds(serving[0]):
        return "done"
    if not shipped.keys().isdisjoint(serving):
        return "shipped"
    return "failed" if serving[0] in failed else "missing"
