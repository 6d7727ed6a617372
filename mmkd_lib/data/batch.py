"""The batch: utterances of several modalities and what of them is shown. Knows nothing of files or methods."""

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..support.errors import BadInput


class Batch(NamedTuple):
    """N utterances; every field may carry leading axes (conditions, stacked seeds) before N.

    A named tuple, so that `torch.func.vmap` sees through it. Invariant: `x[m]` is zero where `frames[m]`
    is false, and `frames[m]` implies `valid[m]`.
    """

    x: dict[str, Tensor]  # m -> (..., N, T_m, d_m) float
    frames: dict[str, Tensor]  # m -> (..., N, T_m) bool: frames that are shown
    valid: dict[str, Tensor]  # m -> (..., N, T_m) bool: frames that the utterance has, shown or not
    y: Tensor  # (..., N) score or class
    group: Tensor | None = None  # (..., N) which dialogue, or video, an utterance stands in; None: that is not known

    @property
    def modalities(self):
        return tuple(self.x)

    def each(self, change):
        """The batch with every tensor changed."""
        fields = ({m: change(t) for m, t in field.items()} for field in self[:3])
        return Batch(*fields, change(self.y), None if self.group is None else change(self.group))

    def take(self, rows):
        """The utterances `rows` (index tensor of any shape R): every field becomes (R..., ...)."""
        return self.each(lambda t: t[rows])

    def to(self, device):
        return self.each(lambda t: t.to(device))

    def show(self, frames):
        """Show only `frames` (m -> bool, broadcastable to (..., N, T_m)) of what is shown now; the rest is zero."""
        shown = {m: self.frames[m] & frames[m] for m in self.x}
        return self._replace(x={m: self.x[m] * shown[m].unsqueeze(-1) for m in self.x}, frames=shown)

    def keep(self, modalities):
        """Show only the named modalities, e.g. `keep("l+a")`."""
        kept = modalities.split("+")
        if unknown := set(kept) - set(self.x):
            raise BadInput(f"cannot keep {'+'.join(sorted(unknown))}: the batch has {', '.join(self.x)}.")
        return self.show({m: torch.full_like(self.frames[m], m in kept) for m in self.x})


def concatenate(batches):
    """Utterances of several batches one after the other (first axis); a single batch is not copied."""
    first = batches[0]
    if len(batches) == 1:
        return first
    fields = ({m: torch.cat([b[i][m] for b in batches]) for m in first.x} for i in range(3))
    groups = [b.group for b in batches]
    known = all(group is not None for group in groups)
    return Batch(*fields, torch.cat([b.y for b in batches]), torch.cat(groups) if known else None)


def dialogues(group):
    """The places (n_i,) of the utterances of each dialogue in `group` (N,), in their order."""
    _, counts = group.unique(return_counts=True)
    return group.argsort(stable=True).split(counts.tolist())


def whole_dialogues(group, at_once):
    """Places as in `dialogues`, joined to about `at_once` utterances; a dialogue is never cut."""
    joined, held = [], []
    for places in dialogues(group):
        if held and sum(map(len, held)) + len(places) > at_once:
            joined.append(torch.cat(held))
            held = []
        held.append(places)
    return [*joined, torch.cat(held)]


def by_length(batch, worth=256):
    """Groups of utterances of similar length, [(rows (n,), T), ...]: frames beyond T are padding in all of a group.

    Chosen to minimise the total cost, n utterances times T frames plus a fixed overhead `worth` (in frames) a group,
    summed over groups. Only padding at the end that all sequence modalities share counts, and only if these are padded
    to one length. Else, and under vmap, where sizes cannot depend on data, there is one group of everything.
    """
    valid = [there for there in batch.valid.values() if there.shape[-1] > 1]
    every, longest = torch.arange(len(batch.y), device=batch.y.device), {there.shape[-1] for there in valid}
    whole = [(every, max(longest, default=1))]
    if len(longest) != 1:
        return whole
    places = torch.arange(1, valid[0].shape[-1] + 1, device=batch.y.device)
    lengths = torch.stack([(there * places).amax(-1) for there in valid]).amax(0).clamp(min=1)  # (N,)
    try:
        known = Counter(lengths.tolist())
    except RuntimeError:  # vmap
        return whole
    ends = _least_work(sorted(known.items()), worth)
    return [(every[(lengths > low) & (lengths <= high)], high) for low, high in pairwise([0, *ends])]


def _least_work(counts, worth):
    """The longest length of each group, for utterances counted by ascending length [(length, count), ...]."""
    best = [(0, ())]  # (work, ends) for the first 0, 1, ... lengths
    for last, (length, _) in enumerate(counts, 1):
        sizes = [sum(count for _, count in counts[first:last]) for first in range(last)]
        ways = zip(best, sizes, strict=True)
        best.append(min((work + n * length + worth, (*ends, length)) for (work, ends), n in ways))
    return best[-1][1]


def cut(batch, rows, steps):
    """The utterances `rows` (n,), their sequences cut after `steps` frames."""
    some = batch.take(rows)
    return Batch(*({m: t[:, :steps] for m, t in field.items()} for field in some[:3]), *some[3:])


class Shape(NamedTuple):
    """What a network must know of the data before it sees any."""

    widths: dict[str, int]  # m -> d_m
    lengths: dict[str, int]  # m -> T_m, the longest
    task: str  # "regression" (a score in [-3, 3]) or "classification"
    classes: tuple[str, ...]  # class names; empty for regression
