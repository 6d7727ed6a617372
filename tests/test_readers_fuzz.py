"""2,000 damaged files of every family through `mmkd data inspect`: each is described, or refused in one sentence with
status 2; nothing crashes, hangs or shows a traceback."""

import os
import pickle
import shutil
import signal
import sys
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import EDITS, mutate

from mmkd_lib import cli
from mmkd_lib.data.readers import files

SECONDS = 60  # of the processor's time, however busy it is, for one file of some kilobytes: more is a hang


class Hang(Exception):
    """A file that took too long."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """family -> (path of a good file or folder, those of its files that are read)."""
    found = {}
    for family in ("plain", "mmsa", "mult", "gcnet", "mmin", "csd"):
        folder = tmp_path_factory.mktemp(family)
        path = folder / {"plain": "x.npz", "mmsa": "x.pkl", "mult": "x.pkl"}.get(family, "x")
        files.sample(family, path, "synthetic-iemocap" if family == "mmin" else "synthetic-mosi")
        found[family] = path, files.sources(path)
    return found


@pytest.fixture(scope="module")
def inspect():
    """Whether `mmkd data inspect` describes a path (else it refuses it, in one sentence that ends with a full stop)."""

    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    asked, output, errors = sys.argv, sys.stdout, sys.stderr

    def ask(path):
        from io import StringIO

        sys.argv, sys.stdout, sys.stderr = ["mmkd", "data", "inspect", str(path)], StringIO(), StringIO()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            cli.main()
        except SystemExit as ended:
            status = ended.code or 0
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            said, refused = sys.stdout.getvalue(), sys.stderr.getvalue()
            sys.argv, sys.stdout, sys.stderr = asked, output, errors
        if status == 0:
            assert said.startswith("file "), said
            return True
        assert status == 2
        assert refused.endswith(".\n"), refused
        assert refused.count("\n") == 1, refused
        assert "is refused: " in refused, refused
        return False

    yield ask
    signal.signal(signal.SIGPROF, before)


def fuzz(count):
    return settings(max_examples=count, deadline=None, derandomize=True, database=None)


def damaged(sound, inspect, family, which, edits):
    """Ask about a family's sample with one of its files mutated; the sample is as it was afterwards."""
    path, read = sound[family]
    file = read[which % len(read)]
    content = file.read_bytes()
    try:
        file.write_bytes(mutate(content, edits))
        inspect(path)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("family", ["plain", "mmsa", "mult", "gcnet", "mmin", "csd"])
def test_a_sample_of_every_family_is_described(sound, inspect, family):
    assert inspect(sound[family][0])


WHICH = st.integers(0, 10**6)


@pytest.mark.parametrize("family", ["plain", "mmsa", "mult"])
@given(edits=EDITS)
@fuzz(250)
def test_fuzz_readers_of_one_file(sound, inspect, family, edits):
    damaged(sound, inspect, family, 0, edits)


@pytest.mark.parametrize("family", ["gcnet", "mmin", "csd"])
@given(which=WHICH, edits=EDITS)
@fuzz(250)
def test_fuzz_readers_of_folders(sound, inspect, family, which, edits):
    damaged(sound, inspect, family, which, edits)


ODD = [
    None, True, -1, 2.5, "text", b"\xff", float("nan"), 10**30, [], {}, (), [[1], [2, 3]], {"a": 1}, ["a", b"b", None],
    np.zeros(0), np.zeros((3, 0, 2)), np.zeros((2, 2), "S3"), np.full((4, 3, 2), np.inf), np.zeros((6, 4, 2), np.int8),
    np.array(["a", None], object), np.float32(3), np.arange(5), np.zeros((12, 1, 1)), np.eye(4)[None].repeat(6, 0),
]  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from(["replace", "drop", "swap"]), WHICH, WHICH), min_size=1, max_size=3)


def places(tree, limit=4):
    """(container, key) of everything in a tree of dicts and lists."""
    found = []
    if isinstance(tree, dict | list) and limit:
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            found += [(tree, key), *places(tree[key], limit - 1)]
    return found


@pytest.mark.parametrize("family", ["mmsa", "mult", "gcnet"])
@given(steps=STEPS)
@fuzz(170)
def test_fuzz_readers_of_pickles_that_hold_other_things(sound, inspect, family, steps):
    """The pickle is whole, what it holds is not: entries are lost, exchanged, or something else altogether."""
    path, read = sound[family]
    file = next(file for file in read if file.suffix == ".pkl")
    content = file.read_bytes()
    tree = deepcopy(pickle.loads(content))
    for what, where, which in steps:
        if not (all_places := places(tree)):
            break
        container, key = all_places[where % len(all_places)]
        if what == "drop":
            del container[key]
        elif what == "replace":
            container[key] = ODD[which % len(ODD)]
        else:
            other, name = all_places[which % len(all_places)]
            container[key], other[name] = other[name], container[key]
    try:
        file.write_bytes(pickle.dumps(tree))
        inspect(path)
    except RecursionError:  # a swap made a tree that contains itself: no pickle, no file
        pass
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("family", ["gcnet", "mmin", "csd"])
def test_a_folder_that_lacks_any_of_its_files_is_described_or_refused(sound, inspect, family, tmp_path):
    path, read = sound[family]
    copy = tmp_path / "x"
    shutil.copytree(path, copy)
    for file in read[:: max(1, len(read) // 20)]:
        missing = copy / file.relative_to(path)
        os.rename(missing, tmp_path / "aside")
        inspect(copy)
        os.rename(tmp_path / "aside", missing)
