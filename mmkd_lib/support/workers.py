"""Workers: one function over many tasks, in this process, in processes of this machine (joblib) or on a Dask cluster.

Knows nothing of experiments. A task whose worker dies does not take the others with it.
"""

from concurrent.futures import CancelledError, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from typing import NamedTuple

import joblib

from . import devices
from .errors import BadInput

IDLE = 10  # seconds after which a process without work ends: those of a killed driver do not stay


class Lost(NamedTuple):
    """The outcome of a task whose worker died."""

    why: str


class SchedulerLost(RuntimeError):
    """The Dask scheduler went away while tasks were waiting."""

    def _render_traceback_(self):
        return [f"SchedulerLost: {self}"]


def each(work, tasks, jobs=1, scheduler=""):
    """Yield (task, outcome) as tasks end; the outcome is what work(task) returns, or `Lost`.

    jobs: processes at a time, one thread each; 1: this process. scheduler: the address of a Dask scheduler, whose
    workers then do the work instead.
    """
    if scheduler:
        return _on_cluster(work, tasks, scheduler)
    if min(jobs, len(tasks)) <= 1:
        return ((task, work(task)) for task in tasks)
    return _in_processes(work, tasks, jobs)


def _in_processes(work, tasks, jobs):
    """Where a worker dies, joblib ends all of them. What was waiting starts again; each task that was in work is
    tried again by itself, and lost where its worker dies once more."""
    waiting, suspects = list(range(len(tasks))), []
    while waiting or suspects:
        part, begun, ended = waiting or [suspects.pop()], [], set()

        def calls(part=part, begun=begun):
            for place in part:
                begun.append(place)
                yield joblib.delayed(_placed)(work, place, tasks[place])

        # at least two processes: joblib would work on a single task in this one, and die with it
        pool = joblib.Parallel(
            max(2, jobs),
            backend="loky",
            idle_worker_timeout=IDLE,
            batch_size=1,
            pre_dispatch=jobs,
            return_as="generator_unordered",
        )
        try:
            with closing(pool(calls())) as outcomes:
                for place, outcome in outcomes:
                    ended.add(place)
                    yield tasks[place], outcome
            waiting = []
        except BrokenProcessPool:
            in_work = [place for place in begun if place not in ended]
            if part is waiting:
                waiting = [place for place in waiting if place not in begun]
                suspects += in_work
            elif in_work:
                yield tasks[in_work[0]], Lost("its process was killed twice, the second time with nothing beside it")


def _placed(work, place, task):
    return place, work(task)


def _on_cluster(work, tasks, address):
    """Dask hands the tasks of a dead worker to another one, and gives a task up whose workers keep dying; with it those
    that waited on the same workers. So what was lost is tried once more, one after the other, with nothing beside it.

    Its own executor, not joblib's Dask backend: that one waits for ever for a task that was given up.
    """
    with connected(address) as client:
        lost = []
        for task, outcome in _submitted(client, address, work, tasks):
            if isinstance(outcome, Lost):
                lost.append(task)
            else:
                yield task, outcome
        for task in lost:
            yield from _submitted(client, address, work, [task])


def _submitted(client, address, work, tasks):
    """(task, outcome) of tasks on the workers of a scheduler, as they end."""
    executor = client.get_executor(pure=False)  # else the second attempt would have the answer of the first
    futures = {executor.submit(work, task): task for task in tasks}
    for future in as_completed(futures):
        try:
            outcome = future.result()
        except CancelledError:
            raise SchedulerLost(
                f"the scheduler at {address} went away: what ended is kept, start it and this command again."
            ) from None
        except Exception as error:  # a killed worker, or one without this handbook
            outcome = Lost(f"{type(error).__name__}: {error}")
        yield futures[future], outcome


@contextmanager
def connected(address):
    """A client of the scheduler at `address`; refuses, in a sentence, one that is not there, or workers that would
    train several things in one process."""
    try:
        from distributed import Client
    except ImportError:
        raise BadInput(
            "a scheduler needs Dask, which is not installed: pip install 'dask[distributed]', or this handbook with "
            "its extra [cluster]."
        ) from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"no Dask scheduler answers at {address} ({type(error).__name__}): start one with `dask scheduler`."
        ) from None
    with client:
        for worker, threads in client.nthreads().items():
            if threads > 1:
                raise BadInput(
                    f"the worker {worker} has {threads} threads and a training uses one: start it with --nthreads 1 "
                    f"(and --nworkers {threads})."
                )
        yield client


def device(wish, scheduler=""):
    """`devices.choose` here, or on a worker of the cluster that will train."""
    if not scheduler:
        return devices.choose(wish)
    with connected(scheduler) as client:
        chosen, reason = client.submit(devices.choose, wish, pure=False).result()
    return chosen, f"{reason}, on a worker"
