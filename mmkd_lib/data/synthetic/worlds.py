"""Synthetic stand-ins for MOSI, MOSEI and IEMOCAP (four and six emotions): utterances drawn from a world that is known.

    level s ~ prior;  flip f ~ Bernoulli;  language shows mirror(s) if f, else s; the others show s and a cue of f
    reliability r_m in {low, 1};  nuisance n_m (a speaker's habit), private to the modality
    frame t is salient with a small probability; given the latents all frames are independent
        salient:  x_t = A_m [ r_m * signal_m * E(shown level) + cue_m * (2 f - 1) + nuisance(n_m) ] + noise
        other:    x_t = A_m [ nuisance(n_m) ] + noise
    label y = s, or with a known probability a guess from the prior (annotator noise)

Neither language (which cannot see the flip) nor the weak others resolve an utterance alone. Every latent is discrete,
so the posterior under any set of frames is a sum over a small grid: `posterior.py` computes it.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from ...support import fingerprint as fingerprints
from ...support.draws import generator
from ...support.errors import BadInput, one_of
from .. import batch, benchmark
from ..batch import Batch, concatenate
from ..benchmark import Benchmark

LEVELS = np.arange(-6, 7) / 2  # scores -3, -2.5, ..., 3
DIALOGUE = 8  # utterances
CONTENT = 4  # dimensions of content: three of sentiment, one of the cue

# Shares of the 13 levels. MOSI: the official labels rounded to half points. MOSEI: the field's class balance
# (62.85 % positive among non-neutral, about 22 % neutral) on a falling tail.
MOSI_PRIOR = (0.020, 0.035, 0.110, 0.083, 0.121, 0.067, 0.106, 0.066, 0.099, 0.086, 0.143, 0.045, 0.019)
MOSEI_PRIOR = (0.012, 0.018, 0.042, 0.048, 0.080, 0.090, 0.220, 0.140, 0.150, 0.090, 0.070, 0.025, 0.015)
IEMOCAP_PRIOR = (0.144, 0.206, 0.242, 0.408)  # happy, sad, angry, neutral among the 938 test utterances
EMOTIONS = ("happy", "sad", "angry", "neutral")
IEMOCAP6_PRIOR = (0.087, 0.146, 0.230, 0.148, 0.140, 0.249)  # among the 7,433 utterances of six emotions
EMOTIONS6 = ("happy", "sad", "neutral", "angry", "excited", "frustrated")


@dataclass(frozen=True)
class Strengths:
    """How loud each part of the story is, in units of the frame noise (1.0); a modality beyond the third takes the
    last value."""

    signal: tuple = (4.0, 0.9, 0.8, 0.7)  # l, a, v, others: language leads, as in the field's tables
    cue: tuple = (
        0.0,
        1.6,
        1.2,
        0.8,
    )  # the flip is heard and seen, never read: audio tells more of it than of sentiment
    salient: float = 5.0  # expected salient frames an utterance and modality, whatever its length
    low: float = 0.3  # signal of an unreliable modality against a reliable one
    unreliable: float = 0.2
    nuisance: float = 0.3  # small: what is constant in an utterance is soon learnt away, and costs samples
    habits: int = 3
    flip: float = 0.08  # rare enough for language to lead, common enough to need the others
    annotator: float = 0.33  # share of labels that are a guess from the prior: a trained teacher can beat such labels


@dataclass(frozen=True)
class Size:
    """Numbers of utterances, frames and columns of one profile."""

    train: int
    valid: int
    test: int
    steps: int
    widths: tuple  # l, a, v; a modality beyond the third takes the last value


TEST = 2000
TINY = Size(96, 48, 200, 6, (12, 8, 6))
SMALL = Size(400, 256, TEST, 12, (32, 16, 12))  # few to train on: with many, a teacher has nothing to add
SIZES = {
    "synthetic-mosi": {"smoke": TINY, "small": SMALL, "paper": Size(1284, 229, TEST, 50, (300, 74, 35))},
    "synthetic-mosei": {"smoke": TINY, "small": SMALL, "paper": Size(16326, 1871, 4659, 50, (300, 74, 35))},
    "synthetic-iemocap": {"smoke": TINY, "small": SMALL, "paper": Size(2717, 798, TEST, 20, (300, 74, 35))},
    "synthetic-iemocap6": {"smoke": TINY, "small": SMALL, "paper": Size(5229, 581, TEST, 20, (300, 74, 35))},
}
NAMES = tuple(SIZES)
UNALIGNED = {"l": 1.0, "a": 2.0, "v": 1.5}  # lengths against language where words do not set the pace


@dataclass(frozen=True, eq=False)
class World:
    """What draws a stand-in, whole: nothing about its data is unknown."""

    name: str
    task: str
    classes: tuple
    values: np.ndarray  # (K,) the label value of each level: scores, or class indices
    prior: np.ndarray  # (K,)
    embedding: np.ndarray  # (K, 3) what a level looks like
    mirror: np.ndarray  # (K,) the level that language shows under a flip
    strengths: Strengths
    steps: dict  # m -> T_m
    aligned: bool  # one length for all modalities
    directions: dict  # m -> A_m^T (4, d_m), orthonormal rows
    habits: dict  # m -> (H, 4)

    def content(self, m):
        """Content of a salient frame without its nuisance, (K, 2, 2, 4) by level, flip and reliability (low, 1)."""
        loud, cue = _of(self.strengths.signal, self.steps, m), _of(self.strengths.cue, self.steps, m)
        mean = np.zeros((len(self.prior), 2, 2, CONTENT))
        for flip in (0, 1):
            shown = self.embedding[self.mirror] if flip and m == "l" else self.embedding
            for i, reliability in enumerate((self.strengths.low, 1.0)):
                mean[:, flip, i, :3] = reliability * loud * shown
                mean[:, flip, i, 3] = cue * (2 * flip - 1)
        return mean


def _of(values, modalities, m):
    """The value of modality m; the last one serves all that come after."""
    return values[min(list(modalities).index(m), len(values) - 1)]


class Variant(NamedTuple):
    """What a name such as synthetic-mosi-unaligned-m4-n320-noise50-loud75-dialogues says."""

    base: str
    aligned: bool = True
    modalities: int = 3
    train: int | None = None  # n320: training utterances
    noise: float | None = None  # noise50: share of guessed labels in per cent
    loud: float = 1.0  # loud75: signal and cue at 75 per cent
    dialogues: bool = False  # dialogues: eight utterances in a row are one; they are independent all the same


VARIANT = re.compile(
    r"(?P<base>synthetic-[a-z]+6?)(?P<unaligned>-unaligned)?(-m(?P<m>[4-9]))?"
    r"(-n(?P<n>[1-9]\d{1,5}))?(-noise(?P<noise>\d{1,2}))?(-loud(?P<loud>[1-9]\d{0,2}))?"
    r"(?P<dialogues>-dialogues)?"
)


def parse(name):
    """The variant that a name describes, or None where it is no name of a stand-in."""
    found = VARIANT.fullmatch(name)
    if not found or found["base"] not in SIZES:
        return None
    return Variant(
        base=found["base"],
        aligned=not found["unaligned"],
        modalities=int(found["m"] or 3),
        train=int(found["n"]) if found["n"] else None,
        noise=int(found["noise"]) / 100 if found["noise"] else None,
        loud=int(found["loud"] or 100) / 100,
        dialogues=bool(found["dialogues"]),
    )


@lru_cache(maxsize=32)
def world(name, size="small"):
    """The world of a stand-in or of one of its variants."""
    variant = parse(name)
    if variant is None:
        raise BadInput(
            f"unknown synthetic benchmark {name!r}: {', '.join(NAMES)}, each with -unaligned, -m4, -n320, -noise50, "
            "-loud75, -dialogues (other modalities, training utterances, label noise, loudness) in this order."
        )
    base, aligned = variant.base, variant.aligned
    scale = SIZES[base][one_of("size", size, tuple(SIZES[base]))]
    usual = Strengths()
    strengths = replace(
        usual,
        signal=tuple(variant.loud * strength for strength in usual.signal),
        cue=tuple(variant.loud * strength for strength in usual.cue),
        annotator=usual.annotator if variant.noise is None else variant.noise,
    )
    modalities = ["l", "a", "v", *(f"m{i}" for i in range(4, variant.modalities + 1))]
    if base == "synthetic-iemocap":
        task, classes, prior, values = "classification", EMOTIONS, IEMOCAP_PRIOR, np.arange(4)
        corners = np.array([[1, 1, 1], [-1, -1, 1], [1, -1, -1], [-1, 1, -1]])
        embedding, mirror = (
            corners / np.sqrt(3),
            np.array([1, 0, 3, 2]),
        )  # a tetrahedron; mirrored in pairs
    elif base == "synthetic-iemocap6":
        task, classes, prior, values = "classification", EMOTIONS6, IEMOCAP6_PRIOR, np.arange(6)
        embedding = np.kron(np.eye(3), [[1], [-1]])  # an octahedron; opposite corners are mirrored
        mirror = np.array([1, 0, 3, 2, 5, 4])
    else:
        task, classes, values = "regression", (), LEVELS
        prior = MOSEI_PRIOR if base == "synthetic-mosei" else MOSI_PRIOR
        embedding = np.stack([LEVELS / 1.5, (np.abs(LEVELS) - 1.3) / 2, np.zeros(13)], 1)  # polarity, intensity
        mirror = np.arange(13)[::-1]
    directions, habits = {}, {}
    for m in modalities:
        width = _of(scale.widths, modalities, m)
        draw = generator("synthetic world", base, m, width)
        directions[m] = np.linalg.qr(draw.normal(size=(width, CONTENT)))[0].T
        habits[m] = strengths.nuisance * draw.normal(size=(strengths.habits, CONTENT))
    stretch = {m: 1.0 if aligned else UNALIGNED.get(m, 1.0) for m in modalities}
    return World(
        name=name,
        task=task,
        classes=classes,
        values=values,
        prior=np.array(prior) / np.sum(prior),
        embedding=embedding,
        mirror=mirror,
        strengths=strengths,
        steps={m: round(stretch[m] * scale.steps) for m in modalities},
        aligned=aligned,
        directions=directions,
        habits=habits,
    )


def load(name, size="small", seed=0):
    """One stand-in: train and valid are drawn anew per seed, the test part is the same for all seeds.

    Variants that differ in loudness, noise or training utterances have common random numbers and masks, so that what
    differs between them is what their names say: with fewer training utterances, the first ones.
    """
    known, variant = world(name, size), parse(name)
    scale = SIZES[variant.base][size]
    form = f"{variant.base} {variant.modalities} {'aligned' if variant.aligned else 'unaligned'}"
    # the part that varies stands last: masks are drawn by position
    counts = {"test": scale.test, "valid": scale.valid, "train": variant.train or scale.train}
    drawn = [
        draw(known, count, ("synthetic", form, size, part, 0 if part == "test" else seed))
        for part, count in counts.items()
    ]
    utterances = concatenate([some for some, _ in drawn])
    if variant.dialogues:
        places = [(i, torch.arange(count) // DIALOGUE) for i, count in enumerate(counts.values())]
        utterances = utterances._replace(group=torch.cat([i * sum(counts.values()) + place for i, place in places]))
    return Benchmark(
        name=name,
        task=known.task,
        classes=known.classes,
        batch=utterances,
        split=np.repeat(list(counts), list(counts.values())),
        fingerprint=fingerprint(name, size),
        mask_key=f"{form} {size}",
        measured_on=f"{name} ({size}): generated data, not the real benchmark",
        truth=np.concatenate([truth for _, truth in drawn]),
        world=known,
    )


def fingerprint(name, size):
    """Names the world that draws the data; the same for all seeds, so that all share the test masks."""
    elsewhere = [module.__name__ for module in (batch, benchmark, fingerprints)]
    code = fingerprints.code_fingerprint(__name__, without=elsewhere)
    return f"{name}/{size}/{fingerprints.known_as(code)}"


def draw(known, count, key):
    """`count` utterances of a world: (Batch, latent label (N,)). Every quantity has a generator of its own, so the
    first n utterances are the same whatever the count."""
    strengths = known.strengths

    def rng(*what):
        return generator(*key, *what)

    level = rng("level").choice(len(known.prior), count, p=known.prior)  # (N,)
    flip = (rng("flip").random(count) < strengths.flip).astype(int)
    x, valid = {}, {}
    for m, steps in known.steps.items():
        shortest = (steps + 1) // 2
        pace = rng("pace", "all" if known.aligned else m).random(count)
        length = shortest + (pace * (steps + 1 - shortest)).astype(int)
        exists = np.arange(steps) < length[:, None]  # (N, T)
        salient = rng("salient", m).random((count, steps)) < np.minimum(strengths.salient / length, 1)[:, None]
        reliable = (rng("reliable", m).random(count) >= strengths.unreliable).astype(int)
        content = known.content(m)[level, flip, reliable]  # (N, 4)
        nuisance = known.habits[m][rng("habit", m).integers(strengths.habits, size=count)]  # (N, 4)
        told = (salient[..., None] * content[:, None] + nuisance[:, None]).astype(np.float32)  # (N, T, 4)
        width = known.directions[m].shape[1]
        frames = rng("noise", m).standard_normal((count, steps, width), dtype=np.float32)  # (N, T, d)
        frames += told @ known.directions[m].astype(np.float32)
        frames *= exists[..., None]
        x[m] = torch.from_numpy(frames)
        valid[m] = torch.from_numpy(exists)
    guess = rng("guess").choice(len(known.prior), count, p=known.prior)
    guessed = rng("guessed").random(count) < strengths.annotator
    heard = np.where(guessed, guess, level)  # what the annotator writes down
    kind = np.float32 if known.task == "regression" else np.int64
    y, truth = known.values[heard].astype(kind), known.values[level].astype(kind)
    return Batch(x, dict(valid), valid, torch.from_numpy(y)), truth
