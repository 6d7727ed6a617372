"""carry(): show that changed code gives the numbers behind a paper that older code gave. Knows records and running."""

import json
from collections import Counter
from datetime import date

import numpy as np

from ..data import benchmarks
from ..methods import get
from ..runs.experiments import Experiment, is_of_today
from ..runs.running import Job, Wish, run_job
from ..runs.shipped import history_of, read_shipped
from ..runs.store import Store
from ..support import fingerprint, paths
from ..support.errors import BadInput
from ..training.settings import Settings
from . import artefacts


def carry(paper, folder, jobs=1, against=None):
    """Train one seed of every configuration behind a paper in `folder`, an empty store, and compare it with what is
    shipped; where all is equal, have today's fingerprints go by the older ones' names. Returns the runs compared.

    Processors round differently: on another kind than the one that made the shipped records no digit stands. There the
    older code trains the same first (its checkout's `train_shipped`), and `against` is the store that it filled.

    Of what was measured on files here (figures/<paper>/paper), whose reader is part of the code, one run of each method
    and supervision is enough: that every choice gives its numbers is seen on generated data.

    Raises BadInput with the first number that differs: then the records are to be made again.
    """
    old = {e: record for e, record in _shipped(paper).items() if not is_of_today(record.config)}
    chosen = _one_seed_each(old)
    of_files = {experiment_of(record): record for record in _from_files(paper)}
    chosen += {(e.method, e.stage, r.config["reader"]): e for e, r in reversed(of_files.items())}.values()
    old |= of_files
    expected = {e: old[e] if against is None else _trained(e, old[e].key, Store(against)) for e in chosen}
    found = _train({e: old[e] for e in chosen}, folder, jobs)
    for e, record in found.items():
        _compare(e, expected[e], record)
    if new := _renamed(found, old, of_files):
        known = {row["known as"] for row in new}
        fingerprint.write_carried([row for row in fingerprint.carried() if row["known as"] not in known] + new)
    return len(found)


def train_shipped(paper, folder, jobs=1):
    """Train one seed of every configuration behind a paper in the store `folder`, with this code on this machine: what
    changed code can be compared `against`. Returns how many they are."""
    old = _shipped(paper)
    return len(_train({e: old[e] for e in _one_seed_each(old)}, folder, jobs))


def _shipped(paper):
    """experiment -> record of all that a paper ships."""
    held = read_shipped(paths.records_folder(), only=paper).values()
    if not held:
        raise BadInput(f"no records of {paper!r} are shipped: there is nothing to carry.")
    return {experiment_of(record): record for record in held}


def _one_seed_each(experiments):
    """The first seed of every configuration."""
    return [e for e in experiments if e.seed == min(other.seed for other in experiments if _alike(e, other))]


def _train(old, folder, jobs):
    """experiment -> its record, trained in the store `folder` and tested as its older record was."""
    job = Job([_wish(e, record) for e, record in old.items()], "cpu", Store(folder))
    return dict(zip(old, (records[0] for records in run_job(job, jobs)), strict=True))


def _trained(experiment, key, store):
    """What older code trained in a store."""
    if not store.holds(key):
        raise BadInput(
            f"{store.folder} lacks {experiment.label}: let the older code train it there (mmkd carry --only)."
        )
    return store.record(key)


def _renamed(found, old, of_files):
    """The rows that say which of today's fingerprints go by which older one's name: of code, and of generated data."""
    names = Counter()
    for e, record in found.items():
        names[record.config["code"], old[e].config["code"]] += 1
        if e not in of_files:
            names[tuple(r.config["data"].rpartition("/")[2] for r in (record, old[e]))] += 1
    rows = [(*pair, count, date.today().isoformat()) for pair, count in names.items() if pair[0] != pair[1]]
    return [dict(zip(fingerprint.CARRIED, row, strict=True)) for row in rows]


def _from_files(paper):
    """The older records of the run store that stand behind a paper's artefacts of real files, where these are here."""
    proofs = [json.loads(file.read_text()) for file in artefacts.folder(paper, "paper").glob("*.json")]
    store, here = Store(), benchmarks.available()
    found = [store.record(key) for key in dict.fromkeys(key for proof in proofs for key in proof["records"])]
    found = [record for record in found if store.holds(record.key) and record.config["benchmark"] in here]
    return [record for record in found if not is_of_today(record.config)]


def experiment_of(record):
    """The experiment that a record's configuration describes."""
    config = record.config
    same = {name: config[name] for name in ("method", "benchmark", "seed", "fold")}
    options = get(config["method"]).Options.of(**config["options"])
    return Experiment(
        **same,
        stage=config["supervision"],
        options=options,
        settings=Settings(**config["settings"]),
        size=config["size"] or "paper",
    )


def _alike(one, other):
    """Whether two experiments differ in their seed at most; `other` is then among those that one stands for."""
    ours, theirs = vars(one) | {"seed": 0}, vars(other) | {"seed": 0}
    return ours == theirs


def _wish(experiment, record):
    """What a shipped record answers."""
    tested = [c for c, said in record.scores.items() if set(said["metrics"]) - {"silhouette"}]
    seen = [c for c, said in record.scores.items() if "silhouette" in said["metrics"]]
    return Wish((experiment,), tuple(tested), tuple(seen))


def _compare(experiment, old, new):
    """Refuse what is not equal, digit for digit as it is shipped."""
    arrays = old.embeddings()
    pairs = [("history", history_of(old), history_of(new)), ("embeddings", arrays, new.embeddings() if arrays else {})]
    for what, before, now in pairs:
        if wrong := [name for name in before if not np.array_equal(before[name], now.get(name), equal_nan=True)]:
            _refuse(experiment, f"{what} {wrong[0]}")
    for condition, said in old.scores.items():
        for name, value in said["metrics"].items():
            if not np.array_equal(value, new.scores[condition]["metrics"][name], equal_nan=True):
                _refuse(experiment, f"{name} under {condition}")


def _refuse(experiment, what):
    raise BadInput(
        f"today's code gives other numbers than the shipped ones ({experiment.label}, {what}): train them anew with "
        "`mmkd notebooks NAME --profile small --retrain` and `mmkd ship`, or train both on one machine (--against)."
    )
