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
from ..methods import get, is_own, module_name, source_of, text
from ..methods.base import Options
from ..support.errors import BadInput, one_of
from ..support.fingerprint import code_fingerprint, config_key, known_as
from ..training.settings import Settings

THREADS = 1  # of a training on the CPU: two one-thread processes beat one with two threads
# Modules that read the files of a layout and are not reachable by imports from its reader.
DECODERS = {reader: ["data.readers.unpickling"] for reader in ("mmsa", "mult", "gcnet")}
DECODERS |= {reader: ["data.readers.hdf5_process"] for reader in ("mmin", "csd")}
SCORES = [f"data.metrics:{name}" for name in ("score", "agreement", "silhouette", "groups", "sample_per_group")]
STUDENTS = ("method", "plain", "oracle")  # stages whose networks begin with the same weights


@dataclass(frozen=True)
class Experiment:
    """One training; `stage`: the method's own, one of its parents', or a reference; `size`: the profile's size of a
    synthetic benchmark; `fold`: a fold of cross-validation."""

    method: str
    benchmark: str
    seed: int
    options: Options
    settings: Settings
    stage: str = "method"
    size: str = "small"
    fold: int | None = None

    @property
    def spec(self):
        """What the method says of its stage."""
        return get(self.method).stage(self.stage, self.options)

    def at(self, stage):
        """This experiment at another stage of its method. Options that the stage does not use go back to their
        defaults, so that variants of a method share their references and parents."""
        if stage == self.stage:
            return self
        spec = get(self.method).stage(stage, self.options)
        selection = {"selection": spec.selection} if spec.selection else {}
        return replace(
            self,
            stage=stage,
            benchmark=spec.benchmark or self.benchmark,
            options=self.options.scoped(*spec.scopes),
            settings=replace(self.settings, **(dict(spec.settings) | selection)),
        )

    @property
    def parents(self):
        """name -> the experiment whose network this one starts from, or is taught by."""
        return {name: self.at(name) for name in self.spec.parents}

    @property
    def is_parent(self):
        """Whether its network is another one than the method's own, which starts with other weights."""
        return self.stage not in STUDENTS

    @property
    def depth(self):
        """How many stages must be trained one after the other before this one."""
        return max((1 + parent.depth for parent in self.parents.values()), default=0)

    @property
    def watches_world(self):
        """Whether the true values of sets of modalities are logged beside this training."""
        watches = self.stage == "method" and get(self.method).watches_world
        return watches and benchmarks.is_synthetic(self.benchmark)

    @property
    def tunes_bert(self):
        """Whether weights of this machine are tuned with the network: they decide its numbers, too."""
        return "word pieces" in get(self.method).needs(self.options)

    @property
    def stacked_with(self):
        """What experiments that can train as one have in common: all but the seed; one that tunes BERT, or reads whole
        dialogues, is alone."""
        alone = self.tunes_bert or get(self.method).unit == "dialogue"
        return self if alone else replace(self, seed=0)

    def __reduce__(self):
        """Options of somebody's own method are made anew in the process that reads this."""
        return _experiment, (vars(self) | {"options": asdict(self.options)},)

    def data(self):
        return benchmarks.load(self.benchmark, self.size, self.seed)

    @property
    def modalities(self):
        """What the benchmark has; it does not depend on the seed."""
        return benchmarks.load(self.benchmark, self.size).batch.modalities

    @property
    def label(self):
        fold = "" if self.fold is None else f" fold {self.fold}"
        return f"{self.method}/{self.stage} on {self.benchmark}{fold}, seed {self.seed}"

    def config(self, device="cpu"):
        """Everything that decides the numbers of a record."""
        parents = {name: parent.key(device) for name, parent in self.parents.items()}
        teacher = parents.pop("complete", None)
        reader = benchmarks.reader(self.benchmark)
        found = {
            "method": module_name(self.method),
            "supervision": self.stage,
            "benchmark": self.benchmark,
            "size": self.size if benchmarks.is_synthetic(self.benchmark) else None,
            "fold": self.fold,
            "seed": self.seed,
            "options": asdict(self.options),
            "settings": self.settings.config(),
            "teacher": teacher,
            "data": benchmarks.fingerprint(self.benchmark, self.size),
            "reader": reader,
            "code": code(self.method, self.stage, reader),
            "device": {"class": device, "threads": THREADS if device == "cpu" else None, "dtype": "float32"},
        }
        if parents:
            found["parents"] = parents
        return found | ({"weights": local_weights()} if self.tunes_bert else {})

    def key(self, device="cpu"):
        return config_key(self.config(device))


def _experiment(found):
    return Experiment(**found | {"options": get(found["method"]).Options(**found["options"])})


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
    if is_own(config["method"]):
        return True  # somebody's file, of which a record knows no place
    if config["code"] != code(config["method"], config["supervision"], config.get("reader")):
        return False
    name = config["benchmark"]
    here = benchmarks.is_synthetic(name) or name in benchmarks.available()
    return not here or config["data"] == benchmarks.fingerprint(name, config["size"] or "small")


def code(method, stage, reader):
    """Fingerprint of all code that decides the numbers: the method, training, what prepares data, what scores and, for
    files, who reads them (a stand-in's own code names its data)."""
    roots = [source_of(method), "training.fit", "training.evaluation", "training.cohort", "data.benchmark", *SCORES]
    roots += [f"data.readers.{reader}", "data.readers.contents", *DECODERS.get(reader, ())] if reader else []
    knows = stage == "oracle" or (stage == "method" and get(method).watches_world and not reader)
    without = ("methods", *(() if knows else ("data.synthetic.exact",)))
    return known_as(code_fingerprint(*roots, without=without))


def plan(method, benchmark, profile, seeds, stage="method", options=(), settings=(), rotated=False):
    """The experiments of one row of a table: one per seed, and per fold where the benchmark has folds; `rotated`: each
    seed has one fold, the first the first.

    `options` and `settings` override the method's recipe for the benchmark's family and the profile.
    """
    cls = get(method)
    if stage == "oracle" and not benchmarks.is_synthetic(benchmark):
        raise BadInput(f"nobody knows the posterior of {benchmark}: oracle teaching needs a synthetic benchmark.")
    recipe_options, recipe_settings = cls.recipe(benchmarks.family(benchmark), profile)
    training = recipe_settings | dict(settings)
    for name in training:
        one_of("training setting", name, tuple(spec.name for spec in fields(Settings)))
    common = {
        "options": cls.Options.of(**(recipe_options | dict(options))),
        "settings": Settings(**training),
        "size": profile,
    }
    cls.stage(stage, common["options"])
    data = benchmarks.load(benchmark, profile)
    _refuse_lacking(method, cls.needs(common["options"]), data)
    folds = data.folds
    each = [(seed, fold) for seed in seeds for fold in ([folds[seed % len(folds)]] if rotated else folds)]
    planned = [Experiment(method, benchmark, seed, fold=fold, **common) for seed, fold in each]
    return [experiment.at(stage) for experiment in planned]


def _refuse_lacking(method, needs, data):
    """Refuse a benchmark that lacks what a method needs."""
    lacks = {
        "dialogues": data.batch.group is None and "its file does not say which utterances make a dialogue",
        "posterior": not data.synthetic and "nobody knows the posterior of real data",
    }
    for need in needs:
        if why := lacks.get(need):
            known = {"dialogues": "a file that names dialogues or videos, or synthetic-NAME-dialogues"}
            raise BadInput(
                f"method {method!r} needs {need}, which {data.name} lacks ({why}): choose "
                f"{known.get(need, 'a synthetic benchmark')}."
            )
