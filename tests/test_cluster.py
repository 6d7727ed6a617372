"""Runs on a Dask cluster: scheduler and workers are real processes on loopback, and some of them are killed."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from conftest import awaited
from distributed import Client

from mmkd_lib.runs.damage import damage
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import run
from mmkd_lib.runs.store import Store
from mmkd_lib.support import workers
from mmkd_lib.support.errors import BadInput

# A warning that is an error in the thread of Dask's event loop stops that loop, and whoever waits for it.
pytestmark = pytest.mark.filterwarnings("default")

TASKS = """
import os, signal

def double(x):
    if x < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * x

def at_the_second_attempt(path):
    if path.exists():
        return "there"
    path.touch()
    raise OSError("not there yet")
"""
DRIVER = """
import sys
from mmkd_lib.runs.damage import damage
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import run
from mmkd_lib.runs.store import Store

settings = {"epochs": 20, "looks": 1}
run(plan("corrkd", "synthetic-mosi", "smoke", range(12), "plain", settings=settings), ["l"],
    store=Store(sys.argv[1]), scheduler=sys.argv[2])
"""


class Cluster:
    """A scheduler with workers of one thread each; `address`, and the processes to kill.

    limit: the seconds that Dask wants to be told in which a client must have reached the scheduler, which listens.
    """

    def __init__(self, folder, limit, count=3, threads=1, nanny=True):
        self.folder, file = folder, folder / "scheduler.json"
        self.scheduler = self._dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", file)
        self.address = awaited(lambda: _parsed(file), self.scheduler)["address"]
        nannies = ["--nanny" if nanny else "--no-nanny"]
        words = ["worker", self.address, "--nthreads", threads, "--local-directory", folder, *nannies]
        self.workers = [self._dask(*words) for _ in range(count)]
        with Client(self.address, timeout=limit, set_as_default=False) as client:
            awaited(lambda: len(client.nthreads()) == count, self.scheduler, *self.workers)

    def _dask(self, *words):
        command = [sys.executable, "-m", "dask", *map(str, words), "--no-dashboard"]
        with (self.folder / f"{words[0]}.log").open("a") as log:
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)

    def close(self):
        for process in (*self.workers, self.scheduler):
            _kill_group(process)


def _kill_group(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _parsed(file):
    """What a JSON file holds, or None while it is not there or not written to its end."""
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return json.loads(file.read_text())


@pytest.fixture
def cluster(tmp_path, root, monkeypatch, pytestconfig):
    """Makes clusters whose workers find this library and `tasks.py`; all are gone after the test."""
    (tmp_path / "tasks.py").write_text(TASKS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(root)]))
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(**how):
        folder = tmp_path / f"cluster{len(made)}"
        folder.mkdir()
        made.append(Cluster(folder, float(pytestconfig.getini("timeout")), **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_notebook_ends_with_all_records_though_a_worker_is_killed(cluster, home):
    """`mmkd notebooks --scheduler`, one of three workers killed when some records are there; the numbers are those of
    this process."""
    three, store = cluster(nanny=False), Store(home / "runs")
    given = ["benchmarks=synthetic-mosi", "artefacts=corrkd/table1", "seeds=0,1,2,3"]
    command = [sys.executable, "-m", "mmkd_lib.cli", "notebooks", "01_corrkd", "--scheduler", three.address]
    command += [word for text in given for word in ("-p", text)]
    driver = subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, text=True)
    awaited(lambda: len(store.records()) >= 4, driver)
    _kill_group(three.workers[0])
    kept = {record.key: (record.folder / "weights.npz").stat().st_mtime_ns for record in store.records()}
    said, _ = driver.communicate()
    assert driver.returncode == 0, said
    assert "16 runs: 0 from store, 16 to train by the workers of tcp" in said
    assert len(kept) < len(store.records()) == 16, "a worker was killed half-way, and all records are there"
    assert all((store.folder / key / "weights.npz").stat().st_mtime_ns == at for key, at in kept.items())
    assert not any(damage(record) for record in store.records())
    experiments = plan("corrkd", "synthetic-mosi", "smoke", [2])
    [there], [here] = run(experiments, ["l"], store=store), run(experiments, ["l"], store=Store(home / "alone"))
    assert there.key == here.key
    assert np.array_equal(there.predictions["logits/l"], here.predictions["logits/l"])


def test_a_scheduler_that_is_killed_costs_nothing_that_ended(cluster, store, tmp_path, capsys):
    """The driver says so and ends with status 1; the next run goes on with what is missing."""
    one = cluster(count=1)
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    process = subprocess.Popen(
        [sys.executable, driver, store.folder, one.address], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    awaited(lambda: len(store.records()) >= 2, process)
    _kill_group(one.scheduler)
    said, _ = process.communicate()
    assert process.returncode == 1
    assert f"SchedulerLost: the scheduler at {one.address} went away: what ended is kept" in said
    one.close()
    kept = {record.key: (record.folder / "weights.npz").stat().st_mtime_ns for record in store.records()}
    assert 2 <= len(kept) < 12, "the scheduler was killed in the middle"
    settings = {"epochs": 20, "looks": 1}
    run(plan("corrkd", "synthetic-mosi", "smoke", range(12), "plain", settings=settings), ["l"], store=store)
    assert f"12 runs: {len(kept)} from store, {12 - len(kept)} to train" in capsys.readouterr().out
    assert all((store.folder / key / "weights.npz").stat().st_mtime_ns == at for key, at in kept.items())
    assert not store.drafts()


def test_a_task_that_kills_its_workers_is_given_up_and_the_others_end(cluster):
    from tasks import double

    three = cluster()
    outcomes = dict(workers.each(double, [1, 2, -1, 3, 4, 5], scheduler=three.address))
    assert {x: outcomes[x] for x in range(1, 6)} == {x: 2 * x for x in range(1, 6)}
    assert isinstance(outcomes[-1], workers.Lost)
    assert "KilledWorker" in outcomes[-1].why


def test_what_is_lost_is_tried_once_more_alone(cluster, tmp_path):
    """Dask blames whatever waited on a worker that died, too."""
    from tasks import at_the_second_attempt, double

    one = cluster(count=1)
    assert dict(workers.each(at_the_second_attempt, [tmp_path / "a"], scheduler=one.address)) == {
        tmp_path / "a": "there"
    }
    assert list(workers.each(double, [1, 2], scheduler=one.address)) in ([(1, 2), (2, 4)], [(2, 4), (1, 2)])


def test_a_single_worker_does_the_work_not_the_driver(cluster):
    """joblib's Dask backend would work in the driver where a cluster has one core."""
    one = cluster(count=1)
    assert list(workers.each(os.getpgid, [0], scheduler=one.address)) == [(0, one.workers[0].pid)]
    assert workers.device("cpu", one.address) == ("cpu", "the CPU, as asked, on a worker")


def test_workers_of_several_threads_are_refused(cluster):
    """Two trainings in one process would share the generator that dropout draws from."""
    wide = cluster(count=1, threads=2)
    with pytest.raises(BadInput, match="has 2 threads and a training uses one: start it with --nthreads 1"):
        list(workers.each(abs, [1], scheduler=wide.address))


def test_a_scheduler_that_does_not_answer_is_refused_in_a_sentence():
    for address in ("tcp://127.0.0.1:9", "nonsense"):
        with pytest.raises(BadInput, match=f"no Dask scheduler answers at {address}") as refusal:
            workers.device("auto", address)
        assert "\n" not in str(refusal.value)


def test_a_missing_dask_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BadInput, match=r"pip install 'dask\[distributed\]'"):
        workers.device("auto", "tcp://127.0.0.1:9")
