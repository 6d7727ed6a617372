"""What is watched of DynKD's routing and rectification: counts and shares by step. Nothing here trains."""

from functools import lru_cache

import torch
from torch import Tensor

from .answers import one_hot
from .dynkd_routing import Routing, candidate_teachers, routing_probabilities, shapley_values

ANGLES = 36  # bins of 5 degrees


def angle_shares(cosines: Tensor) -> Tensor:
    """Share of angles (..., G) in each of `ANGLES` bins from 0 to 180 degrees: (..., ANGLES)."""
    place = (cosines.acos() / torch.pi * ANGLES).long().clamp(max=ANGLES - 1)
    return one_hot(place, ANGLES, cosines).mean(-2)


def watched(values: Tensor, probability: Tensor, routing: Routing, added: int, world: Tensor | None) -> dict:
    """Sums and counts over the utterances of a step: `routing` (P, 2) of the choices of `routes`, `utility`
    (2^M - 1, 2) of the values of sets, and `world` (6,), see `against_truth`."""
    probability = probability * routing.allowed.any(-1, keepdim=True)
    of, to = (
        torch.tensor(codes, device=values.device) for codes in zip(*routes(routing.modalities, added), strict=True)
    )
    own = one_hot(routing.student, values.shape[-1], values) * routing.allowed.any(-1, keepdim=True)  # (B, 2^M)
    table = own.T @ probability  # (2^M, 2^M)
    asked = torch.zeros_like(values).view(-1).scatter(0, routing.slot, 1.0).view(values.shape)
    found = {
        "routing": torch.stack([table[of, to], own.sum(0)[of]], -1),
        "utility": torch.stack([values.sum(0), asked.sum(0)], -1)[1:],
    }
    if world is not None:
        found["world"] = against_truth(probability, routing, added, world)
    return {name: told.detach() for name, told in found.items()}


def against_truth(probability: Tensor, routing: Routing, added: int, world: Tensor) -> Tensor:
    """What the routing of a step is worth by the true values V* (B, 2^M) of sets, summed over the utterances that
    have a choice, (6,): their number; the regret max V* - E V* of the routing, and of an even choice; the chance
    that the candidate of highest V* is chosen, and that of the highest true coalition score; that of an even
    choice."""
    candidates = candidate_teachers(routing.student, routing.exists, routing.modalities, added)
    choice = ((candidates.sum(-1) > 1) & routing.allowed.any(-1)).to(world.dtype)
    even = candidates / candidates.sum(-1, keepdim=True).clamp(min=1)
    best = world.masked_fill(~candidates, -torch.inf).max(-1)
    worth = shapley_values(world, routing.student, routing.exists)
    valued = routing_probabilities(worth, candidates, 1.0).argmax(-1, keepdim=True)
    told = [
        torch.ones_like(choice),
        best.values - (probability * world).sum(-1),
        best.values - (even * world).sum(-1),
        probability.gather(-1, best.indices.unsqueeze(-1)).squeeze(-1),
        probability.gather(-1, valued).squeeze(-1),
        even.amax(-1),
    ]
    return (torch.stack(told) * choice).sum(-1)


@lru_cache(maxsize=16)
def routes(modalities, added=1):
    """The choices that there are: (student, teacher) codes, a student's in a row, students with several only."""
    every = torch.arange(1, 2**modalities)
    table = candidate_teachers(every, torch.full_like(every, 2**modalities - 1), modalities, added)
    several = [(int(s), t.nonzero().flatten().tolist()) for s, t in zip(every, table, strict=True) if t.sum() > 1]
    return tuple((student, teacher) for student, found in several for teacher in found) or ((1, 1),)
