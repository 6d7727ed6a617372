"""Experiments: what is trained, and the key under which it is kept.

An experiment is a method, a benchmark, options, settings and one seed (and fold). Its key is the hash of all that
decides its numbers: the resolved configuration, the data, the code, the device class.
"""

import hashlib
import os
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

from ..data import benchmarks
from ..support.errors import BadInput, one_of
from ..support.fingerprint import code_fingerprint, config_key, known_as
from ..methods import get, text
from ..methods.base import Options
from ..training.fit import SUPERVISIONS, Settings

THREADS = 1  # of a training on the CPU: two one-thread processes beat one with two threads
# What opens the files of a reader without being called by it.
DECODERS = {reader: ["data.readers.unpickling"] for reader in ("mmsa", "mult", "gcnet")}
DECODERS |= {reader: ["data.readers.hdf5_process"] for reader in ("mmin", "csd")}
SCORES = [f"data.metrics:{name}" for name in ("score", "agreement", "silhouette", "groups", "sample_per_group")]
# The scopes of a method's options that its references use.
USED_SCOPES = {"plain": ("network", "views"), "complete": ("network",), "oracle": ("network", "views")}


@dataclass(frozen=True)
class Experiment:
    """One training; `size` is the profile's size of a synthetic benchmark, `fold` a fold of cross-validation."""

    method: str
    benchmark: str
    seed: int
    options: Options
    settings: Settings
    supervision: str = "method"
    size: str = "small"
    fold: int | None = None

    def reference(self, supervision):
        """This experiment under another supervision. Options that it does not use go back to their defaults, so that
        variants of a method share their references; complete data is also what its model is chosen on."""
        if supervision == "method":
            return self
        selection = self.settings.selection
        if supervision == "complete":
            selection = getattr(self.options, "teacher_selection", selection)
        return replace(
            self,
            supervision=supervision,
            options=self.options.scoped(*USED_SCOPES[supervision]),
            settings=replace(self.settings, selection=selection),
        )

    @property
    def teacher(self):
        """The experiment that trains this one's external teacher, or None: the same network on complete data."""
        if self.supervision == "method" and get(self.method).needs_teacher:
            return self.reference("complete")
        return None

    @property
    def watches_world(self):
        """Whether the true values of sets of modalities are logged beside this training."""
        watches = self.supervision == "method" and get(self.method).watches_world
        return watches and benchmarks.is_synthetic(self.benchmark)

    @property
    def tunes_bert(self):
        """Whether weights of this machine are tuned with the network: they decide its numbers, too."""
        return getattr(self.options, "text_encoder", "") == "bert"

    @property
    def stack(self):
        """What experiments that can train as one have in common: all but the seed; one that tunes BERT is alone."""
        return self if self.tunes_bert else replace(self, seed=0)

    def data(self):
        return benchmarks.load(self.benchmark, self.size, self.seed)

    @property
    def modalities(self):
        """What the benchmark has; it does not depend on the seed."""
        return benchmarks.load(self.benchmark, self.size).batch.modalities

    @property
    def label(self):
        fold = "" if self.fold is None else f" fold {self.fold}"
        return f"{self.method}/{self.supervision} on {self.benchmark}{fold}, seed {self.seed}"

    def config(self, device="cpu"):
        """Everything that decides the numbers of a record."""
        teacher, settings = self.teacher, asdict(self.settings)
        if not settings["weight_decay"]:
            del settings["weight_decay"]  # records without one do not name it
        return {
            "method": self.method,
            "supervision": self.supervision,
            "benchmark": self.benchmark,
            "size": self.size if benchmarks.is_synthetic(self.benchmark) else None,
            "fold": self.fold,
            "seed": self.seed,
            "options": asdict(self.options),
            "settings": settings,
            "teacher": teacher.key(device) if teacher else None,
            "data": benchmarks.fingerprint(self.benchmark, self.size),
            "reader": (reader := benchmarks.reader(self.benchmark)),
            "code": code(self.method, self.supervision, reader),
            "device": {"class": device, "threads": THREADS if device == "cpu" else None, "dtype": "float32"},
        } | ({"weights": local_weights()} if self.tunes_bert else {})

    def key(self, device="cpu"):
        return config_key(self.config(device))


def local_weights():
    """Digest of the files of BERT's weights on this machine, which decide a run that tunes them."""
    folder = Path(os.environ.get(text.FOLDER, ""))
    files = [file for file in sorted(folder.glob("*")) if file.suffix in (".json", ".safetensors")]
    return _digest(tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in files))


@lru_cache(maxsize=4)
def _digest(versions):
    found = hashlib.sha256()
    for file, *_ in versions:
        with file.open("rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()[:16]


def is_of_today(config):
    """Whether today's code, on today's data, could ask for the record of a configuration; data that is not here cannot
    be compared."""
    if config["code"] != code(config["method"], config["supervision"], config.get("reader")):
        return False
    name = config["benchmark"]
    here = benchmarks.is_synthetic(name) or name in benchmarks.available()
    return not here or config["data"] == benchmarks.fingerprint(name, config["size"] or "small")


def code(method, supervision, reader):
    """Fingerprint of all code that decides the numbers: the method, training, what prepares data, what scores and, for
    files, who reads them (a stand-in's own code names its data)."""
    roots = [f"methods.{method}", "training.fit", "training.evaluation", "training.group", "data.benchmark", *SCORES]
    roots += [f"data.readers.{reader}", "data.readers.contents", *DECODERS.get(reader, ())] if reader else []
    knows = supervision == "oracle" or (supervision == "method" and get(method).watches_world and not reader)
    without = ("methods", *(() if knows else ("data.synthetic.exact",)))
    return known_as(code_fingerprint(*roots, without=without))


def plan(method, benchmark, profile, seeds, supervision="method", options=(), settings=(), rotated=False):
    """The experiments of one row of a table: one per seed, and per fold where the benchmark has folds; `rotated`: each
    seed has one fold, the first the first.

    `options` and `settings` override the method's recipe for the benchmark's family and the profile.
    """
    one_of("supervision", supervision, SUPERVISIONS)
    if supervision == "oracle" and not benchmarks.is_synthetic(benchmark):
        raise BadInput(f"nobody knows the posterior of {benchmark}: oracle teaching needs a synthetic benchmark.")
    cls = get(method)
    recipe_options, recipe_settings = cls.recipe(benchmarks.family(benchmark), profile)
    training = recipe_settings | dict(settings)
    for name in training:
        one_of("training setting", name, tuple(spec.name for spec in fields(Settings)))
    common = {
        "options": cls.Options.of(**(recipe_options | dict(options))),
        "settings": Settings(**training),
        "size": profile,
    }
    folds = benchmarks.load(benchmark, profile).folds
    each = [(seed, fold) for seed in seeds for fold in ([folds[seed % len(folds)]] if rotated else folds)]
    planned = [Experiment(method, benchmark, seed, fold=fold, **common) for seed, fold in each]
    return [experiment.reference(supervision) for experiment in planned]
