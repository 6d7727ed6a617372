"""The batch: utterances of several modalities and what of them is shown. Knows nothing of files or methods."""

from typing import NamedTuple

import torch
from torch import Tensor

from .errors import BadInput


class Batch(NamedTuple):
    """N utterances; every field may carry leading axes (conditions, stacked seeds) before N.

    A named tuple, so that `torch.func.vmap` sees through it. Invariant: `x[m]` is zero where `frames[m]`
    is false, and `frames[m]` implies `valid[m]`.
    """

    x: dict[str, Tensor]  # m -> (..., N, T_m, d_m) float
    frames: dict[str, Tensor]  # m -> (..., N, T_m) bool: frames that are shown
    valid: dict[str, Tensor]  # m -> (..., N, T_m) bool: frames that the utterance has, shown or not
    y: Tensor  # (..., N) score or class

    @property
    def modalities(self):
        return tuple(self.x)

    def take(self, rows):
        """The utterances `rows` (index tensor of any shape R): every field becomes (R..., ...)."""
        return Batch(*({m: t[rows] for m, t in field.items()} for field in self[:3]), self.y[rows])

    def to(self, device):
        return Batch(*({m: t.to(device) for m, t in field.items()} for field in self[:3]), self.y.to(device))

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
    return Batch(*fields, torch.cat([b.y for b in batches]))


class Shape(NamedTuple):
    """What a network must know of the data before it sees any."""

    widths: dict[str, int]  # m -> d_m
    lengths: dict[str, int]  # m -> T_m, the longest
    task: str  # "regression" (a score in [-3, 3]) or "classification"
    classes: tuple[str, ...]  # class names; empty for regression
