"""Shared by all tests: the working folder is the project, and no test touches the user's data or run store."""

import time
from pathlib import Path

import pytest
import torch

from mmkd_lib.runs.store import Store

ROOT = Path(__file__).resolve().parent.parent


def awaited(what, *processes):
    """What `what()` says as soon as it is true; fails as soon as one of the `processes` that shall bring it about has
    ended without. There is no other limit than that of pytest itself, in pyproject.toml."""
    while True:
        ended = [process.args for process in processes if process.poll() is not None]
        if said := what():
            return said
        assert not ended, f"it ended before what is awaited: {ended[0]}"
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _at_home(monkeypatch, tmp_path):
    """Runs start in the project; MMKD_DATA is empty unless a test sets it; one thread, as trainings have."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MMKD_DATA", str(tmp_path / "no-data"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def root():
    return ROOT


@pytest.fixture
def store(tmp_path):
    """An empty run store."""
    return Store(tmp_path / "runs")


@pytest.fixture
def home(root, tmp_path, monkeypatch):
    """A project of its own with this handbook's notebooks, library and data: runs and figures go there."""
    for name in ("notebooks", "mmkd_lib", "data"):
        (tmp_path / name).symlink_to(root / name)
    monkeypatch.setenv("MMKD_HOME", str(tmp_path))
    return tmp_path
