"""HDF5 that nobody vouches for, read by fixed paths: `look` and `arrays` are all that the readers know of it.

The HDF5 library hangs on some damaged files and crashes on others (measured: two changed bytes are enough). So a
process of its own opens them, `hdf5_process.py`, which is started when it is first needed and replaced when it dies or
takes too long. What it says is checked here once more. What is wrong with a file is said in one sentence.
"""

import atexit
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from .arrays import SQUEEZE, refuse
from .contents import LARGEST

PROCESS = Path(__file__).with_name("hdf5_process.py")
PATIENCE, PACE = 20, 2**21  # seconds for any question, and bytes of the file for each second more
NUMBERS = "biuf"


def look(path, *inside):
    """What the group at `inside` (names from the root) holds: name -> (kind of type, shape) of an array, or None for
    whatever else it is. Reads no array."""
    found, _ = _ask(path, "look", inside=inside)
    return {name: None if kind is None else (kind, tuple(shape)) for name, kind, shape in found}


def arrays(path, places, kinds=NUMBERS):
    """place -> array, for those of the `places` (tuples of names from the root) that exist.

    kinds: the types of numbers or text that are allowed there.
    """
    places = list(places)
    found, values = _ask(path, "arrays", places=places, kinds=kinds)
    return {places[number]: value for (number, _, _), value in zip(found, values, strict=True)}


def _ask(path, do, **question):
    """What the process answers: (found, arrays), or a refusal."""
    path = Path(path)
    if not path.is_file():
        refuse(path, "there is no such file")
    size = path.stat().st_size
    most = min(SQUEEZE * size, 8 * LARGEST)
    if do == "arrays":
        question["most"] = most
    try:
        said, values = _process.ask({"do": do, "path": str(path.resolve()), "size": size} | question, most, size)
    except (OSError, ValueError, TypeError, KeyError):  # it died, was killed, or made no sense
        _process.stop()
        said, values = {"refused": None}, []
    if "refused" in said:
        refuse(path, said["refused"] or "it is not a readable HDF5 file, or it is cut off or damaged")
    return said["found"], values


class _Process:
    """The process that opens HDF5 files; one question at a time."""

    def __init__(self):
        self.child, self.owner, self.lock = None, None, threading.Lock()

    def ask(self, question, most, size):
        with self.lock:
            if self.owner != os.getpid() or self.child is None or self.child.poll() is not None:
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
                self.child, self.owner = subprocess.Popen([sys.executable, str(PROCESS)], **pipes), os.getpid()
            killer = threading.Timer(PATIENCE + size / PACE, self.child.kill)
            killer.start()
            try:
                return self._exchange(question, most)
            finally:
                killer.cancel()

    def _exchange(self, question, most):
        self.child.stdin.write(json.dumps(question).encode() + b"\n")
        self.child.stdin.flush()
        said, values = json.loads(self.child.stdout.readline()), []
        for _, dtype, shape in said["found"] if question["do"] == "arrays" and "found" in said else ():
            kind = np.dtype(dtype)
            most -= (length := math.prod(shape) * kind.itemsize)
            if kind.kind not in question["kinds"] or length < 0 or most < 0:
                raise ValueError
            data = self.child.stdout.read(length)
            if len(data) < length:
                raise ValueError
            values.append(np.frombuffer(data, kind).reshape(shape) if length else np.zeros(shape, kind))
        return said, values

    def stop(self):
        """End the process; the next question starts another."""
        if self.child is not None and self.owner == os.getpid():
            self.child.kill()
            self.child.wait()
            self.child.stdin.close()
            self.child.stdout.close()
            self.child = None


_process = _Process()
atexit.register(_process.stop)
