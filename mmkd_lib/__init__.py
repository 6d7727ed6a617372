"""The multimodal KD handbook: multimodal knowledge distillation with missing modalities, reproduced and tested.

    load, available                     benchmarks by name: stand-ins with a known posterior, files of the field
    Batch, Benchmark, Shape             utterances and what of them is shown; data, task and splits; widths and lengths
    FIXED_SUBSETS, FRAME_CURVE, RATE_CURVE, frozen_mask, training_view    conditions, test masks, training views
    METHODS, Method, Options, option, Recipe, Stage, Step, Clock, Output, ParameterGroup    systems and their contract
    Experiment, plan, run, Store, check what is trained, under which key it is kept; whether a method keeps the contract
    scores, summary, differences, verdicts, read_claims    numbers from records, and what they say of claims
    training_views, evaluate_model, table_of    your own torch model beside them
    BadInput                            what is refused, in one sentence with the way out

docs/api.md uses them in thirty lines. Names are imported when they are first used.
"""

import importlib
import importlib.metadata

__version__ = importlib.metadata.version("mmkd_lib")

_FROM = {
    "data.batch": ("Batch", "Shape"),
    "data.benchmark": ("Benchmark",),
    "data.benchmarks": ("available", "load"),
    "data.missing": ("FIXED_SUBSETS", "FRAME_CURVE", "RATE_CURVE", "frozen_mask", "training_view"),
    "methods": ("METHODS",),
    "methods.base": ("Method", "Options", "Recipe", "option"),
    "methods.steps": ("Clock", "Output", "ParameterGroup", "Stage", "Step"),
    "results.claims": ("verdicts",),
    "results.own": ("table_of", "evaluate_model", "training_views"),
    "results.tables": ("differences", "scores", "summary"),
    "runs.contract": ("check",),
    "runs.experiments": ("Experiment", "plan"),
    "runs.running": ("run",),
    "runs.store": ("Store",),
    "support.errors": ("BadInput",),
}
EXPORTED = {  # name -> module; fingerprints of code outside of the library follow it, too
    name: module for module, names in _FROM.items() for name in names
} | {"read_claims": "results.claims"}

__all__ = sorted([*EXPORTED, "__version__"])


def __getattr__(name):
    if name not in EXPORTED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f".{EXPORTED[name]}", __name__), {"read_claims": "read"}.get(name, name))
    globals()[name] = found
    return found


def __dir__():
    return __all__
