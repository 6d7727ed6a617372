"""run(): train and evaluate what the store lacks, teachers first, in parallel, losing nothing that is finished."""

import errno
import json
import traceback
from contextlib import closing
from itertools import groupby
from typing import NamedTuple

from tqdm import tqdm

from ..data import benchmarks
from ..data.missing import FIXED_SUBSETS, MODALITIES, Condition, Trial, available
from ..support import paths
from ..support.devices import CLASSES
from ..support.errors import BadInput
from ..support.workers import Lost, each
from . import costs
from .damage import set_damaged_aside
from .experiments import Experiment
from .recording import evaluate, one_thread, train
from .shipped import the_store
from .store import Store
from .tidying import sweep

STORE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # no further run could be written either
BUSY = "busy"  # the outcome of a task whose records another process is writing


class RunsFailed(RuntimeError):
    """Some experiments failed; the others are in the store."""

    def _render_traceback_(self):
        """Jupyter calls this: the reports hold the tracebacks that matter."""
        return [f"RunsFailed: {self}"]


class Wish(NamedTuple):
    """Experiments with the conditions that scores, and those that representations, are wanted under."""

    experiments: tuple
    conditions: tuple = FIXED_SUBSETS
    embeddings: tuple = ()


class Wanted(NamedTuple):
    """One experiment with the keys of records that serve, its own first, and what is asked (of a teacher: nothing)."""

    experiment: Experiment
    keys: tuple
    conditions: tuple = ()
    embeddings: tuple = ()

    @property
    def key(self):
        return self.keys[0]


class Failure(NamedTuple):
    """The outcome of a task that failed: its report, and whether no other could be written either."""

    report: str
    store: bool


def run(experiments, conditions=FIXED_SUBSETS, embeddings=(), jobs=1, device="cpu", store=None, scheduler=""):
    """Records of `experiments`, in order, training only what the store does not hold.

    `conditions`: what scores are wanted under (those that the data cannot show are left out); `embeddings`: the
    conditions under which representations are kept too. Neither is part of a key: a record that lacks one is evaluated
    from its weights, not trained again. A shipped record serves as it is, whatever device it was trained on; it has no
    weights, so one that does not suffice is trained here. On the CPU each training is a process with one thread,
    `jobs` at a time; on a GPU the seeds of an experiment are stacked and train as one. With the address of a Dask
    `scheduler` its workers train instead; they must see the store under the same path.

    Raises RunsFailed with the configuration and traceback of each experiment that failed, when all others are done.
    """
    wish = Wish(tuple(experiments), conditions, embeddings)
    return run_job(Job([wish], device, the_store() if store is None else store), jobs, scheduler)[0]


def run_job(job, jobs=1, scheduler=""):
    """`run` of several wishes as one: a list of records for each."""
    store = job.store
    sweep(store)
    for sentence in set_damaged_aside(store, [w.key for w in job.wanted.values()]):
        print(sentence, flush=True)
    to_train, to_evaluate = job.to_train(), job.to_evaluate()
    stored = len(job.wanted) - len(to_train)
    forecast = costs.forecast(to_train, jobs, job.device, scheduler)
    print(f"{len(job.wanted)} runs: {stored} from store, {len(to_train)} to train{forecast}", flush=True)
    if to_train + to_evaluate:
        _refuse_unusable(store)
        _carry_out(to_train + to_evaluate, jobs, job.device, store, scheduler)
    return [[job.found(e) for e in wish.experiments] for wish in job.wishes]


class Job:
    """What is wanted of which experiments (parents included, first), and who already answers it."""

    def __init__(self, wishes, device, store):
        self.wishes, self.device, self.store = wishes, device, store
        classes = (device, *(other for other in CLASSES if other != device))
        asked = {}  # experiment -> conditions, embeddings: dicts, which keep their order
        for wish in wishes:
            conditions = _checked(wish)
            for e in wish.experiments:
                said, seen = asked.setdefault(e, ({}, {}))
                said |= dict.fromkeys(available(conditions, e.modalities))
                seen |= dict.fromkeys(available(wish.embeddings, e.modalities))
        everything = dict.fromkeys(p for e in asked for p in ancestors(e)) | asked
        self.wanted = {e: Wanted(e, tuple(map(e.key, classes)), *map(tuple, asked.get(e, ()))) for e in everything}

    def record(self, experiment):
        """The record that answers all that is asked, one's own before a shipped one; None."""
        wanted = self.wanted[experiment]
        own = [self.store.record(wanted.key)] if self._own(experiment) else []
        came = [self.store.shipped.get(key) for key in wanted.keys]
        return next((r for r in own + came if r and not any(r.lacks(wanted.conditions, wanted.embeddings))), None)

    def found(self, experiment):
        """`record`, of what must be there by now."""
        record = self.record(experiment)
        if record is None:
            raise RunsFailed(
                f"{experiment.label} lost a record that was just made: {self.store.folder} was changed from outside."
            )
        return record

    def to_train(self):
        """What has no record that serves, parents first: whoever is trained needs the weights of its parents."""
        lacking = [e for e in self.wanted if not self._own(e) and not self.record(e)]
        parents = [p for e in lacking for p in ancestors(e) if not self._own(p)]
        return [self.wanted[e] for e in dict.fromkeys(parents + lacking)]

    def to_evaluate(self):
        """What has weights of one's own and was not yet tested under all that is asked."""
        return [w for e, w in self.wanted.items() if self._own(e) and not self.record(e)]

    def _own(self, experiment):
        return self.store.holds(self.wanted[experiment].key)


def ancestors(experiment):
    """All experiments that must be trained before this one, the first ones first."""
    found = [other for parent in experiment.parents.values() for other in (*ancestors(parent), parent)]
    return list(dict.fromkeys(found))


def _checked(wish):
    """The conditions that scores are wanted under, representations included; refuses what nobody can parse."""
    everything = tuple(dict.fromkeys(MODALITIES + tuple(m for e in wish.experiments for m in e.modalities)))
    conditions = tuple(dict.fromkeys((*wish.conditions, *wish.embeddings)))
    for text in conditions:
        if on := Trial.parse(text, everything).on:
            benchmarks.check(on)
    for condition in wish.embeddings:
        Condition.parse(condition, everything)
    return conditions


def _refuse_unusable(store):
    """Before anything trains: a store that cannot be written, in one sentence."""
    if why := store.obstacle():
        raise BadInput(
            f"the run store {store.folder} cannot be written ({why}) and something is to train: free space, change its "
            "rights, or let MMKD_HOME name another home."
        )


def _carry_out(todo, jobs, device, store, scheduler):
    """Train and evaluate, parents first; report what failed when the rest is done."""
    failures = {}
    try:
        for depth in sorted({w.experiment.depth for w in todo}):
            stage = [w for w in todo if w.experiment.depth == depth]
            able = [w for w in stage if not any(p.key(device) in failures for p in w.experiment.parents.values())]
            failures |= {w.key: f"{w.experiment.label}\nits teacher failed" for w in stage if w not in able}
            failures |= _work_off(able, jobs, device, store, scheduler)
    finally:
        sweep(store)  # what an interrupt, or a killed worker, left half-written
    for key in (w.key for w in todo):
        store.fail(key, failures[key]) if key in failures else store.pardon(key)
    if failures:
        reports = "\n\n".join(failures.values())
        raise RunsFailed(f"{len(failures)} of {len(todo)} runs failed, the others are kept:\n\n{reports}")


def _work_off(stage, jobs, device, store, scheduler):
    """One stage by whatever workers there are; key -> report of what failed."""
    groups = _stacks(stage) if device == "cuda" else [[w] for w in stage]
    work = _Work(device, store.folder.resolve(), paths.surroundings())
    failures, busy = {}, []
    with tqdm(total=len(groups), disable=not groups, unit="run", mininterval=5) as bar:
        # what another process is training is left to it, and looked for when everything else is done
        for patient, some in ((False, groups), (True, busy)):
            with closing(each(work._replace(wait=patient), some, jobs, scheduler)) as outcomes:
                for group, outcome in outcomes:
                    if outcome == BUSY:
                        busy.append(group)
                    else:
                        bar.update()
                        failures |= _failed(group, outcome, device, store)
    return failures


def _failed(group, outcome, device, store):
    """key -> report where the outcome of a group is a failure; stops everything where the store is unusable."""
    if outcome is None:
        return {}
    if isinstance(outcome, Failure) and outcome.store:
        raise RunsFailed(
            f"stopped: the run store {store.folder} {outcome.report}. What ended is kept: free space or change its "
            "rights, then start again."
        )
    reason = outcome.why if isinstance(outcome, Lost) else outcome.report
    return {w.key: f"{w.experiment.label}\n{json.dumps(w.experiment.config(device))}\n{reason}" for w in group}


def _stacks(wanted):
    """Groups of experiments that train as one."""
    name = {w: repr(w.experiment.stacked_with) for w in wanted}
    return [list(group) for _, group in groupby(sorted(wanted, key=name.get), key=name.get)]


class _Work(NamedTuple):
    """Train and evaluate one group of wanted records, in whatever process this is called."""

    device: str
    folder: str  # of the store
    surroundings: dict
    wait: bool = False  # for records that another process is writing

    def __call__(self, group):
        """None, BUSY, or a Failure."""
        store = Store(self.folder)
        try:
            keys = [w.key for w in group]
            with paths.surrounded(self.surroundings), one_thread(), store.claimed(keys, self.wait) as ours:
                return self._carry_out(group, store) if ours else BUSY
        except OSError as error:
            if error.errno in STORE_ERRORS and str(self.folder) in str(error.filename or self.folder):
                return Failure(f"cannot be written ({error.strerror})", store=True)
            return Failure(traceback.format_exc(), store=False)
        except Exception:  # reported at the end, with the others finished
            return Failure(traceback.format_exc(), store=False)

    def _carry_out(self, group, store):
        if any(w.experiment.key(self.device) != w.key for w in group):
            raise RuntimeError("the library or the data changed since this run began: start it again")
        if missing := [w.experiment for w in group if not store.holds(w.key)]:
            train(missing, self.device, store)
        for w in group:
            evaluate(w.experiment, store.record(w.key), w.conditions, w.embeddings, self.device)
