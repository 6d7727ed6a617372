"""What a question of the bench is, how two things are timed in turn, and the machine in a sentence."""

import operator
import platform
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import torch

from ..support import paths

COMPARE = {"at most": operator.le, "at least": operator.ge, "below": operator.lt}


class Limit(NamedTuple):
    """What a number has to keep, e.g. at most 1.15."""

    how: str  # a key of COMPARE
    value: float
    unit: str = ""

    def __str__(self):
        return f"{self.how} {self.value:g}{self.unit}"

    def shown(self, value):
        """A measured number as the table shows it."""
        return f"{value:.0f}{self.unit}" if self.unit else f"{value:.{2 if value >= 0.1 else 4}f}"

    def holds(self, value):
        """Whether the number, as it is shown, keeps the limit."""
        return COMPARE[self.how](float(self.shown(value).removesuffix(self.unit)), self.value)


class Measured(NamedTuple):
    """The answer to a question: a ratio (or seconds), and the absolute times behind it."""

    value: float
    detail: str


class Row(NamedTuple):
    """One question of the bench."""

    what: str
    limit: Limit
    measure: Callable  # without arguments -> Measured


def in_turn(calls, repetitions):
    """Median of what each of the calls returns (seconds), called A, B, A, B, so that a drift of the machine hits all
    alike; a first round warms up and does not count."""
    rounds = [[call() for call in calls] for _ in range(1 + repetitions)]
    return np.median(rounds[1:], axis=0).tolist()


def seconds(call):
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def against(one, other):
    """Two times side by side."""
    return f"{duration(one)} against {duration(other)}"


def duration(seconds):
    """A time as it is printed."""
    if seconds < 1e-4:
        return f"{1e6 * seconds:.0f} µs"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


@contextmanager
def scratch():
    """An empty folder on the disk of the run store, which does not see it."""
    paths.store_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=paths.store_folder()) as folder:
        yield Path(folder)


def machine(device="cpu"):
    """A sentence on the machine: processor, cores, versions, kind of system; it names no host."""
    gpu = [f"GPU {torch.cuda.get_device_name()}"] if device == "cuda" else []
    versions = f"Python {platform.python_version()}", f"torch {torch.__version__}", platform.system()
    return f"Measured on {', '.join([*gpu, _processor(), f'{joblib.cpu_count()} usable cores', *versions])}."


def _processor():
    """The model name of the processor, as far as the system tells."""
    told = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", told.read_text(), re.MULTILINE) if told.exists() else None
    return found[1] if found else platform.processor() or platform.machine()
