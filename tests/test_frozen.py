"""What must not change while the library is rebuilt: weights, histories, scores, configurations, masks, figures.

`python tests/test_frozen.py` writes frozen.json anew; as a test it compares. Goes when the rebuilding ends.
"""

import hashlib
import json
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from mmkd_lib.data import benchmarks
from mmkd_lib.data.missing import FIXED_SUBSETS, FRAME_CURVE, RATE_CURVE, frozen_mask
from mmkd_lib.methods import METHODS
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import run
from mmkd_lib.runs.store import Store
from mmkd_lib.training.cohort import Cohort
from mmkd_lib.training.fit import STAGES, fit

FILE = Path(__file__).with_name("frozen.json")
ROOT = FILE.parent.parent
STAND_INS = ("synthetic-mosi", "synthetic-iemocap")
TRIALS = ("l", "a+v", "l+a+v", "frames=0.5", "mr=0.4", "l & noise=0.5", "a & draw=3")


def digest(*parts):
    found = hashlib.sha256()
    for part in parts:
        found.update(part if isinstance(part, bytes) else str(part).encode())
    return found.hexdigest()[:16]


def of_arrays(arrays):
    return digest(*(piece for name in sorted(arrays) for piece in (name, np.ascontiguousarray(arrays[name]).tobytes())))


def config(experiment):
    found = experiment.config()
    for name in ("code", "data", "teacher"):
        found[name] = bool(found[name])
    return digest(json.dumps(found, sort_keys=True))


def recorded(method, supervision, benchmark, folder):
    """What the store holds of one seed, its teacher trained."""
    [experiment] = plan(method, benchmark, "smoke", [1], supervision)
    [record] = run([experiment], TRIALS, ["l+a+v"], store=Store(folder))
    weights = {name: tensor.numpy() for name, tensor in record.weights().items()}
    return {
        "config": config(experiment),
        "weights": of_arrays(weights),
        "history": of_arrays(record.history),
        "scores": digest(json.dumps(record.scores, sort_keys=True)),
        "predictions": of_arrays(record.predictions),
        "embeddings": of_arrays(record.embeddings()),
    }


def stacked(experiments):
    """Two seeds as one, teachers untrained."""
    ready = Cohort(experiments, "cpu").ready()
    fitted = fit(ready)
    return [
        {"weights": of_arrays({n: t.numpy() for n, t in w.items()}), "history": of_arrays(h)}
        for w, h in zip(fitted.weights, fitted.history, strict=True)
    ]


def chosen(method, benchmark):
    """Every other value of every named choice: config, weights, history of an epoch."""
    found = {}
    usual = plan(method, benchmark, "smoke", [0])[0].options
    for spec in fields(METHODS[method].Options):
        allowed = spec.metadata["allowed"]
        for value in allowed if isinstance(allowed, tuple) else ():
            if value in (getattr(usual, spec.name), "bert"):
                continue
            changed = {"options": {spec.name: value}, "settings": {"epochs": 1, "looks": 1}}
            [experiment] = plan(method, benchmark, "smoke", [0], **changed)
            found[f"{spec.name}={value}"] = [config(experiment), *stacked([experiment])[0].values()]
    return found


def of_file(method, supervision):
    """A real file: one fold for an epoch, its teacher untrained."""
    os.environ["MMKD_DATA"] = str(ROOT.parent / "shared" / "data")
    experiments = plan(method, "mosi-752", "smoke", [0], supervision, settings={"epochs": 1, "looks": 1})
    return [config(experiments[0]), *stacked(experiments[:1])]


def masks(benchmark):
    data = benchmarks.load(benchmark, "smoke")
    conditions = (*FIXED_SUBSETS, *FRAME_CURVE, *RATE_CURVE)
    return {c: frozen_mask(c, data.batch, data.rows("test"), data.mask_key).hash for c in conditions}


def figures():
    files = sorted((ROOT / "figures").rglob("*.csv"))
    return {file.relative_to(ROOT).as_posix(): digest(file.read_bytes()) for file in files}


def everything(folder):
    """name -> function without arguments."""
    found = {"figures": figures}
    for m in METHODS:
        for s in STAGES[:3]:
            found[f"file {m} {s}"] = lambda m=m, s=s: of_file(m, s)
    for b in STAND_INS:
        found[f"masks {b}"] = lambda b=b: masks(b)
        for m in METHODS:
            found[f"options {m} {b}"] = lambda m=m, b=b: chosen(m, b)
            for s in STAGES:
                found[f"record {m} {s} {b}"] = lambda m=m, s=s, b=b: recorded(m, s, b, folder)
                found[f"stack {m} {s} {b}"] = lambda m=m, s=s, b=b: stacked(plan(m, b, "smoke", [0, 1], s))
    return found


def names():
    return list(json.loads(FILE.read_text())) if FILE.exists() else []


@pytest.mark.parametrize("name", names())
def test_frozen(name, tmp_path):
    assert everything(tmp_path / "store")[name]() == json.loads(FILE.read_text())[name]


if __name__ == "__main__":
    import tempfile
    import time

    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        written = {}
        for what, call in everything(Path(scratch) / "store").items():
            began = time.time()
            written[what] = call()
            print(f"{what}: {time.time() - began:.1f} s", flush=True)
    FILE.write_text(json.dumps(written, indent=1) + "\n")
