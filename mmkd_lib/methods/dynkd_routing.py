"""DynKD's game of sets of modalities (SPRM): candidates, what they are worth, and who is drawn to teach.

Sets are codes, see `data.subsets`. Pure functions of codes and values; knows no network.
"""

from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.subsets import between, members


class Routing(NamedTuple):
    """Candidate teachers of one step, sampled outside of vmap: B utterances, R (utterance, set) pairs to fuse."""

    student: Tensor  # (..., B) code of what the student is shown
    exists: Tensor  # (..., B) code of what the utterance has
    allowed: Tensor  # (..., B, 2^M) bool: the sets that may be drawn as teacher
    uniform: Tensor  # (..., B) what draws it
    row: Tensor  # (..., R) utterance of a pair
    code: Tensor  # (..., R) set of a pair

    @property
    def modalities(self):
        """M, how many modalities sets are made of."""
        return self.allowed.shape[-1].bit_length() - 1

    @property
    def slot(self):
        """Where each pair stands in a table (B, 2^M) that was made flat."""
        return self.row * self.allowed.shape[-1] + self.code


def candidate_teachers(student: Tensor, exists: Tensor, modalities: int, most: int = 1) -> Tensor:
    """The sets that add k = min(K, |absent|) absent modalities to the student's own, Eqs. 1-2: (B, 2^M) bool.

    student, exists (B,): codes of what is shown, and of what the utterance has at all; most: K.
    """
    held = members(modalities, student.device)
    codes, size = torch.arange(len(held), device=student.device), held.sum(-1)
    student, exists = student.unsqueeze(-1), exists.unsqueeze(-1)
    added = (size[exists] - size[student]).clamp(max=most)
    return between(student, exists, codes) & (size == size[student] + added)


@lru_cache(maxsize=16)
def _shapley_weights(modalities, device):
    """(2^M, M, 2^M): for a student's code the weight of each set's value in the Shapley value of each modality."""
    held = members(modalities).numpy()
    codes, size = np.arange(len(held)), held.sum(-1)
    weights = np.zeros((len(held), modalities, len(held)), np.float64)
    for student in codes:
        absent = modalities - size[student]
        above = codes & student == student
        for m in np.flatnonzero(~held[student]):
            without = codes[above & ~held[:, m]]
            share = 1 / (absent * np.array([comb(absent - 1, c) for c in size[without] - size[student]]))
            weights[student, m, without | (1 << m)] += share
            weights[student, m, without] -= share
    return torch.from_numpy(weights).to(device)


def shapley_values(values: Tensor, student: Tensor, exists: Tensor | None = None) -> Tensor:
    """What each absent modality is worth to the student in the mean over all coalitions, Eqs. 4-5: (B, M).

        phi_m = sum over C in absent without m of |C|! (n - |C| - 1)! / n! (V(S + C + m) - V(S + C)),  n = |absent|

    values (B, 2^M), finite: V of every set that holds the student's, others have no weight; student (B,): its code.
    Zero for the modalities of the student, and for those that do not `exist` (B,), which add nothing to any set. Linear
    in V; the values of all absent modalities sum to V(everything) - V(S).
    """
    count = values.shape[-1].bit_length() - 1
    if exists is not None:
        codes = torch.arange(values.shape[-1], device=values.device)
        values = values.gather(-1, codes & exists.unsqueeze(-1))
    weights = _shapley_weights(count, values.device).to(values.dtype)[student]  # (B, M, 2^M)
    return (weights @ values.unsqueeze(-1)).squeeze(-1)


def marginal_gains(values: Tensor, student: Tensor, exists: Tensor | None = None) -> Tensor:
    """The one-step gain V(S + m) - V(S) of each absent modality, which greedy routing ranks by: (B, M)."""
    one = 2 ** torch.arange(values.shape[-1].bit_length() - 1, device=values.device)
    more = student.unsqueeze(-1) | one
    if exists is not None:
        more = torch.where(exists.unsqueeze(-1) & one > 0, more, student.unsqueeze(-1))
    return values.gather(-1, more) - values.gather(-1, student.unsqueeze(-1))


def routing_probabilities(worth: Tensor, allowed: Tensor, temperature: float = 0.1) -> Tensor:
    """Softmax over the allowed sets of their coalition scores, the sums of what their new members are worth, Eqs. 6-7.

    worth (B, M), zero for the student's own modalities; allowed (B, 2^M) bool -> (B, 2^M), zero elsewhere.
    """
    scores = worth @ members(worth.shape[-1], worth.device).to(worth.dtype).T  # Phi: (B, 2^M)
    return (scores / temperature).masked_fill(~allowed, -torch.inf).softmax(-1)


def drawn(probability: Tensor, uniform: Tensor) -> Tensor:
    """A set for each row, from its probabilities (B, C) and a number (B,) in [0, 1), Eq. 8: (B,)."""
    steps = probability.cumsum(-1)
    place = (steps <= (uniform * steps[..., -1]).unsqueeze(-1)).sum(-1, keepdim=True).clamp(max=steps.shape[-1] - 1)
    possible = probability.gather(-1, place) > 0  # false where rounding leads beyond the last one
    return torch.where(possible, place, probability.argmax(-1, keepdim=True)).squeeze(-1)


def pairs(asked: Tensor) -> tuple[Tensor, Tensor]:
    """The (utterance, set) pairs that are asked for, (S, B, C) bool -> two of (S, R); a seed with fewer than another
    one repeats its first."""
    found = [some.nonzero() for some in asked]
    longest = max(1, *map(len, found))
    filled = [
        torch.cat([some, some[:1].expand(longest - len(some), -1)]) if len(some) else some.new_zeros(longest, 2)
        for some in found
    ]
    return tuple(torch.stack(filled).unbind(-1))
