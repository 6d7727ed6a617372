"""Missingness: the language of conditions, training views, frozen test masks. Knows batches, not methods.

A condition is one string: a subset of modalities (`l`, `a+v`), and/or `frames=p` (each frame is lost with
probability p, independently in each modality), `moments=p` (the same moments are lost in all modalities) and
`mr=r` (a share r of all utterance-modality slots is lost, every utterance keeps one); joined by ` & `. A test may say
more than its condition: see `Trial`.
"""

import hashlib
import re
from collections import Counter
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch

from ..support.draws import generator
from ..support.errors import BadInput
from .subsets import members, present

MODALITIES = ("l", "a", "v")
RATES = ("frames", "moments", "mr")


def subsets(modalities=MODALITIES):
    """All non-empty subsets as conditions, small ones first: l, a, v, l+a, l+v, a+v, l+a+v."""
    sizes = range(1, len(modalities) + 1)
    return tuple("+".join(chosen) for size in sizes for chosen in combinations(modalities, size))


FIXED_SUBSETS = subsets()
FRAME_CURVE = tuple(f"frames={p / 10:.1f}" for p in range(11))
RATE_CURVE = tuple(f"mr={r / 10:.1f}" for r in range(8))  # with three modalities at most two thirds can be missing
CURVES = {"frames=*": FRAME_CURVE, "mr=*": RATE_CURVE}


class Condition(NamedTuple):
    """What is available at test time; `keep` None means every modality that the benchmark has."""

    keep: tuple[str, ...] | None = None
    frames: float = 0.0
    moments: float = 0.0
    mr: float = 0.0

    @classmethod
    def parse(cls, text, modalities=MODALITIES):
        """Read a condition; raises BadInput with what is allowed."""
        way_out = f"a subset of {'+'.join(modalities)} and/or {', '.join(r + '=0..1' for r in RATES)}, joined by ' & '"
        fields = {}
        for part in (piece.strip() for piece in text.split("&")):
            name, equals, value = part.partition("=")
            key = name if equals else "keep"
            try:
                parsed = float(value) if equals else tuple(name.split("+"))
            except ValueError:
                parsed = None
            known = (
                key in RATES and isinstance(parsed, float) and 0 <= parsed <= 1
                if equals
                else (set(parsed) <= set(modalities) and len(set(parsed)) == len(parsed))
            )
            if not known or key in fields:
                raise BadInput(f"unknown condition {text!r}: give {way_out}.")
            fields[key] = parsed
        if "keep" in fields:
            fields["keep"] = tuple(m for m in modalities if m in fields["keep"])
        return cls(**fields)

    def available(self, modalities):
        """Whether data with these modalities can be put under the condition."""
        return self.keep is None or set(self.keep) <= set(modalities)


class Trial(NamedTuple):
    """How a trained network is tested, as one string: a condition, and after it, in this order, any of

    `draw=k` (another draw of its masks; 0 is everybody's), `noise=s` (Gaussian noise on the features that are shown,
    in deviations of the training part) and `on=NAME` (the test part of another benchmark); joined by ` & `.
    """

    condition: str
    draw: int = 0
    noise: float = 0.0
    on: str = ""

    @classmethod
    def parse(cls, text, modalities=MODALITIES):
        """Read a trial; raises BadInput with what is allowed."""
        condition, tail = parted(text)
        Condition.parse(condition, modalities)
        found = TAIL.fullmatch(tail)
        if not found:
            raise BadInput(f"unknown trial {text!r}: after a condition give draw=1, noise=0.5, on=NAME, in this order.")
        draw, noise, on = found.groups()
        return cls(condition, int(draw or 0), float(noise or 0), on or "")


TAIL = re.compile(r"(?: & draw=(\d{1,6}))?(?: & noise=(\d+\.?\d*))?(?: & on=([^&= ]+))?")


def parted(text):
    """(condition, rest) of a trial; the rest begins with ` & `, or is empty."""
    place = min((i for name in ("draw", "noise", "on") if (i := text.find(f" & {name}=")) >= 0), default=len(text))
    return text[:place], text[place:]


def available(conditions, modalities):
    """Those of the conditions (or trials) that data with these modalities can be put under, in order."""
    named = tuple(dict.fromkeys(MODALITIES + tuple(modalities)))
    conditions = {text: Condition.parse(Trial.parse(text, named).condition, named) for text in conditions}
    return tuple(text for text, condition in conditions.items() if condition.available(modalities))


def selection_conditions(modalities):
    """What a model is chosen on: every fixed subset, and half of the frames of everything."""
    return (*subsets(modalities), "frames=0.5")


class FrozenMask(NamedTuple):
    """A frozen mask: m -> (n, T_m) bool, with its hash and its nominal and realised loss of slots and frames."""

    frames: dict[str, torch.Tensor]
    hash: str
    realised: dict[str, float]  # shares of what exists: "slots", "frames"


def frozen_mask(condition, batch, rows, mask_key, mask_seed=0):
    """Draw the mask of `condition` for the utterances `rows` (n,) of `batch`, once and for all methods.

    The uniform numbers are keyed by (mask key of the benchmark, mask seed, kind, modality) over *all* utterances,
    so a fold or a split sees its own part of one draw, and the masks at p are nested in those at p' > p.
    Frames are dropped in sequence modalities only (T_m > 1): one vector per utterance has no frames to lose.
    """
    wish = Condition.parse(condition, batch.modalities)
    rows = np.asarray(rows)
    valid = {m: batch.valid[m].cpu().numpy()[rows] for m in batch.modalities}  # (n, T_m)
    total = len(batch.y)

    def uniform(kind, shape):
        return generator("test mask", mask_key, mask_seed, kind).random((total, *shape), dtype=np.float32)[rows]

    slots = np.stack([valid[m].any(1) for m in valid], 1)  # (n, M): what exists
    kept = slots & np.array([wish.keep is None or m in wish.keep for m in valid])
    if wish.mr:
        kept = _keep_slots(kept, wish.mr, uniform("mr", (len(valid),)))
    frames = {}
    for i, m in enumerate(valid):
        frames[m] = valid[m] & kept[:, i : i + 1]
        steps = valid[m].shape[1]
        if steps > 1:
            frames[m] = frames[m] & (uniform(f"frames {m}", (steps,)) >= wish.frames)
            frames[m] = frames[m] & (uniform("moments", (steps,)) >= wish.moments)
    bits = b"".join(m.encode() + np.packbits(frames[m]).tobytes() for m in frames)
    existing = sum(v.sum() for v in valid.values())
    realised = {
        "slots": 1 - kept.sum() / max(slots.sum(), 1),
        "frames": 1 - sum(f.sum() for f in frames.values()) / max(existing, 1),
    }
    tensors = {m: torch.from_numpy(f) for m, f in frames.items()}
    return FrozenMask(tensors, hashlib.sha256(bits).hexdigest()[:12], realised)


def _keep_slots(kept, rate, priority):
    """Remove exactly round(rate * slots) of the kept slots (n, M), the lowest priorities first, never the last
    slot of an utterance; a rate that would empty utterances removes as many as it may."""
    priority = np.where(kept, priority, -1.0)
    best = np.arange(kept.shape[1]) == priority.argmax(1)[:, None]
    order = np.argsort(np.where(kept & ~best, priority, 2.0), axis=None)
    count = min(round(rate * int(kept.sum())), int((kept & ~best).sum()))
    result = kept.copy()
    result.flat[order[:count]] = False
    return result


def rates(condition, batch, rows, mask_key, mask_seed=0):
    """Nominal and realised loss under a condition: (what -> (nominal, realised) shares, pattern -> share, hash).

    What: the slots (utterance and modality) and the frames of everything and of each modality, among those that exist;
    a slot is lost when its last frame is. Pattern: the modalities that an utterance is left with.
    """
    wish, rows = Condition.parse(condition, batch.modalities), np.asarray(rows)
    mask = frozen_mask(condition, batch, rows, mask_key, mask_seed)
    slot, frame, before, after, frames = {}, {}, {}, {}, {}
    for m in batch.modalities:
        valid, left = batch.valid[m].numpy()[rows], mask.frames[m].numpy()
        by_frame = 1 - (1 - wish.frames) * (1 - wish.moments) if valid.shape[1] > 1 else 0
        slot[m] = wish.mr if wish.keep is None or m in wish.keep else 1.0
        frame[m] = 1 - (1 - slot[m]) * (1 - by_frame)
        before[m], after[m], frames[m] = valid.any(1), left.any(1), (valid.sum(), left.sum())
    exist, shown = (np.stack([*some.values()]) for some in (before, after))  # (M, n)
    had, kept = (np.array([frames[m][i] for m in frames]) for i in (0, 1))
    lost = 1 - shown.sum() / max(exist.sum(), 1)
    found = {"slots": (np.average([*slot.values()], weights=exist.sum(1)), lost)}
    found["frames"] = (np.average([*frame.values()], weights=had), mask.realised["frames"])
    for i, m in enumerate(batch.modalities):
        lost = 1 - kept[i] / max(had[i], 1)
        found |= {
            f"slots of {m}": (slot[m], 1 - shown[i].sum() / max(exist[i].sum(), 1)),
            f"frames of {m}": (frame[m], lost),
        }
    names = ["+".join(m for m, there in zip(batch.modalities, column, strict=True) if there) for column in shown.T]
    patterns = {name or "nothing": count / len(rows) for name, count in Counter(names).most_common()}
    return {what: (float(a), float(b)) for what, (a, b) in found.items()}, patterns, mask.hash


def training_view(batch, draws, subsets="yes", frames="yes", complete="yes"):
    """A training view with modality and frame missingness, drawn anew per step, utterance and seed.

    batch: (S, B, ...). `subsets`: each utterance keeps one of the non-empty subsets of the modalities, uniformly
    (without the complete one where `complete` is "no"); an utterance that has none of it keeps what it has. `frames`:
    each utterance draws p from {0, .1, ..., .9} and loses each frame of its sequence modalities with probability p.
    """
    names = batch.modalities
    shape = batch.y.shape[1:]
    shown = {m: torch.ones_like(batch.frames[m]) for m in names}
    if subsets == "yes":
        last = 2 ** len(names) - (1 if complete == "yes" or len(names) == 1 else 2)
        pattern = 1 + (draws.uniform("subset", shape) * last).long().clamp(max=last - 1)  # (S, B), bit i: modality i
        kept = members(len(names), pattern.device)[pattern]  # (S, B, M)
        kept = kept | ~(kept & present(batch.valid)).any(-1, keepdim=True)
        shown = {m: shown[m] & kept[..., i : i + 1] for i, m in enumerate(names)}
    if frames == "yes":
        rate = (draws.uniform("frame rate", shape) * 10).floor() / 10  # (S, B)
        for m in names:
            if (steps := batch.frames[m].shape[-1]) > 1:
                drawn = draws.uniform(f"frames {m}", (*shape, steps))
                shown[m] = shown[m] & (drawn >= rate.unsqueeze(-1))
    return batch.show(shown)
