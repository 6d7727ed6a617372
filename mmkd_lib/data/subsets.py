"""Sets of modalities as numbers: bit i of a code stands for modality i. Knows masks of frames, no batch, no method."""

from functools import lru_cache

import torch
from torch import Tensor


def present(frames: dict[str, Tensor]) -> Tensor:
    """Which modalities have a frame: m -> (..., T_m) bool to (..., M) bool."""
    return torch.stack([there.any(-1) for there in frames.values()], -1)


def code_of(shown: Tensor) -> Tensor:
    """Which modalities, (..., M) bool, as one number a row, (...)."""
    return (shown * 2 ** torch.arange(shown.shape[-1], device=shown.device)).sum(-1)


def code_of_names(chosen, modalities) -> int:
    """The code of the modalities that are `chosen` by name, in the order of `modalities`; other names have no bit."""
    return sum(2**i for i, m in enumerate(modalities) if m in chosen)


@lru_cache(maxsize=16)
def members(modalities: int, device=None) -> Tensor:
    """Which modalities each of the 2^M codes holds: (2^M, M) bool."""
    codes, bits = torch.arange(2**modalities, device=device), torch.arange(modalities, device=device)
    return codes.unsqueeze(-1) // 2**bits % 2 == 1


def between(least: Tensor, most: Tensor, codes: Tensor) -> Tensor:
    """Whether the sets `codes` hold all of `least` and nothing outside `most`; broadcast."""
    return (codes & least == least) & (codes & ~most == 0)
