"""What the repository ships of records: scores, histories, some representations; no weights, no predictions. Read-only.

It is the layer below the run store: a table is redrawn from it where nobody has trained anything.
"""

import gzip
import json
import zlib

import numpy as np

from ..support import paths
from ..support.errors import BadInput
from .store import Record, Store


class Shipped:
    """A record that came with the repository: what tables, figures and claims read, and no more. Read-only."""

    def __init__(self, key, line, arrays):
        self.key, self._arrays = key, arrays
        self.config, self.environment, self.cost = line["config"], line["environment"], line["cost"]
        self.scores = line["scores"]
        self.history = {name: np.array(values) for name, values in line["history"].items()}

    def embeddings(self):
        """As `Record.embeddings`; they are shipped for the first seed only."""
        return {name.partition("/")[2]: self._arrays[name] for name in self._arrays if name.startswith(f"{self.key}/")}

    lacks = Record.lacks


def the_store(shipped=True):
    """The run store of the project, on top of what the repository ships."""
    below = read_shipped(paths.records_folder()) if shipped else ()
    return Store(shipped=below)


def read_shipped(folder, without="", only="*"):
    """key -> Shipped, of all papers, but one, or one: in <paper>/, a line a record in records.jsonl.gz, and
    embeddings.npz."""
    found = {}
    for file in sorted(folder.glob(f"{only}/records.jsonl.gz")):
        if file.parent.name == without:
            continue
        with np.load(file.with_name("embeddings.npz"), allow_pickle=False) as arrays:
            held = dict(arrays)
        found |= {line["key"]: Shipped(line["key"], line, held) for line in _lines(file)}
    return found


def _lines(file):
    """The lines of a shipped file, read; refuses one that is damaged."""
    try:
        return [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise BadInput(f"{file} is damaged ({error}): take it anew from the repository (git checkout).") from None


def ship(records, folder):
    """Write `records` for shipping, representations of the first seed only; returns the bytes written."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, arrays = [], {}
    first = min(record.config["seed"] for record in records)
    for record in sorted(records, key=lambda r: r.key):
        history = {name: values.tolist() for name, values in history_of(record).items()}
        parts = {part: getattr(record, part) for part in ("config", "environment", "cost", "scores")}
        lines.append(json.dumps({"key": record.key, "history": history} | parts))
        if record.config["seed"] == first:
            arrays |= {f"{record.key}/{name}": array for name, array in record.embeddings().items()}
    text = "\n".join(lines) + "\n"
    (folder / "records.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))  # same records, same bytes
    np.savez_compressed(folder / "embeddings.npz", **arrays)
    return sum(file.stat().st_size for file in folder.iterdir())


def history_of(record):
    """The history of a record as it is shipped, with numbers of six digits."""
    return {name: _short(np.asarray(values)) for name, values in record.history.items()}


def _short(values):
    return np.array([float(f"{value:.6g}") for value in values.ravel()]).reshape(values.shape)
