"""Synthetic stand-ins for MOSI, MOSEI and IEMOCAP: utterances drawn from a model that is known.

    level s ~ prior;  flip f ~ Bernoulli;  language shows mirror(s) if f, else s; audio and vision show s and a cue of f
    reliability r_m in {low, high};  nuisance n_m (a speaker's habit), private to the modality
    frame t is salient with a small probability; given the latents all frames are independent
        salient:  x_t = A_m [ r_m * signal_m * E(shown level) + cue_m * (2 f - 1) + nuisance(n_m) ] + noise
        other:    x_t = A_m [ nuisance(n_m) ] + noise
    label y = s after annotator noise

Neither language (which cannot see the flip) nor audio and vision (which are weak) resolve an utterance alone.
Every latent is discrete, so the posterior under any set of frames is a sum over a small grid.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..batch import Batch, concatenate
from ..draws import generator
from ..errors import one_of
from ..fingerprint import code_fingerprint
from .benchmark import Benchmark

LEVELS = np.arange(-6, 7) / 2  # scores -3, -2.5, ..., 3

# Shares of the 13 levels. MOSI: the official labels rounded to half points. MOSEI: the field's class balance
# (62.85 % positive among non-neutral, about 22 % neutral) on a falling tail.
MOSI_PRIOR = (0.020, 0.035, 0.110, 0.083, 0.121, 0.067, 0.106, 0.066, 0.099, 0.086, 0.143, 0.045, 0.019)
MOSEI_PRIOR = (0.012, 0.018, 0.042, 0.048, 0.080, 0.090, 0.220, 0.140, 0.150, 0.090, 0.070, 0.025, 0.015)
IEMOCAP_PRIOR = (0.144, 0.206, 0.242, 0.408)  # happy, sad, angry, neutral among the 938 test utterances


@dataclass(frozen=True)
class Strengths:
    """How loud each part of the story is, in units of the frame noise (1.0)."""

    signal: tuple = (("l", 3.0), ("a", 0.8), ("v", 0.7))  # language > audio > vision, as in the field's tables
    cue: tuple = (("l", 0.0), ("a", 1.2), ("v", 0.9))  # the flip is heard and seen, never read
    salient: float = 4.0  # expected salient frames an utterance and modality, whatever its length
    low: float = 0.3  # signal of an unreliable modality against a reliable one
    unreliable: float = 0.25
    nuisance: float = 0.3
    habits: int = 3
    flip: float = 0.12
    annotator: float = 0.15  # share of labels that are a guess from the prior


@dataclass(frozen=True)
class Size:
    """Numbers of utterances and widths of one profile."""

    train: int
    valid: int
    test: int
    steps: int
    widths: tuple


TEST = 2000
SMALL = (("l", 32), ("a", 16), ("v", 12))
REAL = (("l", 300), ("a", 74), ("v", 35))
TINY = Size(96, 48, 200, 6, (("l", 12), ("a", 8), ("v", 6)))
SIZES = {
    "synthetic-mosi": {
        "smoke": TINY,
        "small": Size(1024, 256, TEST, 12, SMALL),
        "paper": Size(1284, 229, TEST, 50, REAL),
    },
    "synthetic-mosei": {
        "smoke": TINY,
        "small": Size(1024, 256, TEST, 12, SMALL),
        "paper": Size(16326, 1871, 4659, 50, REAL),
    },
    "synthetic-iemocap": {
        "smoke": TINY,
        "small": Size(1024, 256, TEST, 12, SMALL),
        "paper": Size(2717, 798, TEST, 20, REAL),
    },
}
NAMES = tuple(SIZES)
EMOTIONS = ("happy", "sad", "angry", "neutral")


def _story(name):
    """(prior (K,), embedding (K, 3), mirror (K,), task, classes) of a stand-in."""
    if name == "synthetic-iemocap":
        corners = np.array([[1, 1, 1], [-1, -1, 1], [1, -1, -1], [-1, 1, -1]]) / np.sqrt(3)  # a tetrahedron
        return IEMOCAP_PRIOR, corners, np.array([1, 0, 3, 2]), "classification", EMOTIONS
    prior = MOSEI_PRIOR if name == "synthetic-mosei" else MOSI_PRIOR
    embedding = np.stack([LEVELS / 1.5, (np.abs(LEVELS) - 1.3) / 2, np.zeros(13)], 1)  # polarity, intensity
    return prior, embedding, np.arange(13)[::-1], "regression", ()


def load(name, size="small", seed=0):
    """One stand-in: train and valid are drawn anew per seed, the test part is the same for all seeds."""
    sizes = SIZES[one_of("synthetic benchmark", name, NAMES)]
    scale = sizes[one_of("size", size, tuple(sizes))]
    strengths = Strengths()
    counts = {"train": scale.train, "valid": scale.valid, "test": scale.test}
    drawn = [
        _draw(name, scale, strengths, count, ("synthetic", name, size, part, 0 if part == "test" else seed))
        for part, count in counts.items()
    ]
    _, _, _, task, classes = _story(name)
    return Benchmark(
        name=name,
        task=task,
        classes=classes,
        batch=concatenate([batch for batch, _ in drawn]),
        split=np.repeat(list(counts), list(counts.values())),
        fingerprint=fingerprint(name, size),
        measured_on=f"{name} ({size}): generated data, not the real benchmark",
        truth=np.concatenate([truth for _, truth in drawn]),
    )


def fingerprint(name, size):
    """Names the model that draws the data; the same for all seeds, so that all share the test masks."""
    code = code_fingerprint("benchmarks.synthetic", "draws", follow=False)
    return f"{name}/{size}/{code}"


def _draw(name, scale, strengths, count, key):
    """`count` utterances: (Batch, latent label (N,))."""
    prior, embedding, mirror, task, _ = _story(name)
    rng = generator(*key)
    level = rng.choice(len(prior), count, p=np.array(prior) / np.sum(prior))  # (N,)
    flip = rng.random(count) < strengths.flip
    length = rng.integers((scale.steps + 1) // 2, scale.steps + 1, count)  # word-aligned: one length for all
    exists = np.arange(scale.steps) < length[:, None]  # (N, T)
    x, valid = {}, {}
    for m, width in scale.widths:
        shown = np.where(flip, mirror[level], level) if m == "l" else level
        salient = exists & (rng.random(exists.shape) < (strengths.salient / length)[:, None])
        reliability = np.where(rng.random(count) < strengths.unreliable, strengths.low, 1.0)
        content = np.zeros((count, 4))
        content[:, :3] = dict(strengths.signal)[m] * reliability[:, None] * embedding[shown]
        content[:, 3] = dict(strengths.cue)[m] * (2 * flip - 1)
        world = generator("synthetic world", name, m, width)
        directions = np.linalg.qr(world.normal(size=(width, 4)))[0].T  # (4, d_m), orthonormal rows
        habits = strengths.nuisance * world.normal(size=(strengths.habits, 4))
        nuisance = habits[rng.integers(strengths.habits, size=count)]  # (N, 4)
        mean = salient[..., None] * content[:, None] + nuisance[:, None]  # (N, T, 4)
        frames = mean @ directions + rng.normal(size=(*exists.shape, width))
        x[m] = torch.from_numpy((frames * exists[..., None]).astype(np.float32))
        valid[m] = torch.from_numpy(exists.copy())
    guess = rng.choice(len(prior), count, p=np.array(prior) / np.sum(prior))
    heard = np.where(rng.random(count) < strengths.annotator, guess, level)  # what the annotator writes down
    y, truth = (heard, level) if task == "classification" else (LEVELS[heard].astype(np.float32), LEVELS[level])
    return Batch(x, dict(valid), valid, torch.from_numpy(y)), truth
