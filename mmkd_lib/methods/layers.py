"""Network parts, each once: temporal convolution, positions, transformer block, pooling, alignment.

Everything runs under `torch.func.vmap` (no boolean indexing, no running statistics) and keeps torch's fused attention.
"""

import math
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..support.errors import BadInput, one_of


@lru_cache(maxsize=64)
def positions(steps, width, dtype, device):
    """Sinusoidal positions (T, d): sin at even, cos at odd columns, wavelengths from 2 pi to 10,000 * 2 pi."""
    t = torch.arange(steps, device=device, dtype=dtype).unsqueeze(1)  # (T, 1)
    rate = torch.exp(torch.arange(0, width, 2, device=device, dtype=dtype) * (-math.log(1e4) / width))
    return torch.stack([torch.sin(t * rate), torch.cos(t * rate)], -1).flatten(1)[:, :width]  # (T, d)


def attendable(valid):
    """Frames (B, T) that attention may look at: the valid ones; the first one where there is none."""
    first = torch.arange(valid.shape[-1], device=valid.device) == 0
    return valid | (first & ~valid.any(-1, keepdim=True))


class TemporalConvolution(nn.Module):
    """(B, T, d_m) -> (B, T, d). `1d`: kernel 3 over time. `2d`: 3 x 3 over time and feature columns, then linear."""

    def __init__(self, width_in, width, kind="1d"):
        super().__init__()
        self.kind = one_of("convolution", kind, ("1d", "2d"))
        if kind == "1d":
            self.convolution = nn.Conv1d(width_in, width, 3, padding=1, bias=False)
        else:
            self.convolution = nn.Conv2d(1, 1, 3, padding=1)
            self.linear = nn.Linear(width_in, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "1d":
            return self.convolution(x.transpose(1, 2)).transpose(1, 2)
        return self.linear(self.convolution(x.unsqueeze(1)).squeeze(1))


class SelfAttention(nn.Module):
    """Multi-head self-attention (B, T, d) -> (B, T, d) over the frames that `seen` (B, T) allows."""

    def __init__(self, width, heads):
        super().__init__()
        if width % heads:
            raise BadInput(f"{heads} attention heads do not divide the width {width}: choose a divisor of it.")
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        queries, keys, values = self.project_in(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen[:, None, None, :])
        return self.project_out(mixed.transpose(1, 2).flatten(2))  # (B, H, T, d/H) -> (B, T, d)


class CrossAttention(nn.Module):
    """Multi-head attention of a target (B, T_t, d) to a source (B, T_s, d) whose frames `seen` (B, T_s) allows.

        CA(X_s, X_t) = softmax(X_t W_Q (X_s W_K)^T / sqrt(d_k)) X_s W_V, its heads side by side and projected once more

    UMDF Eq. 7; Vaswani et al. 2017. Returns (B, T_t, d).
    """

    def __init__(self, width, heads):
        super().__init__()
        if width % heads:
            raise BadInput(f"{heads} attention heads do not divide the width {width}: choose a divisor of it.")
        self.heads = heads
        self.project_target = nn.Linear(width, width)
        self.project_source = nn.Linear(width, 2 * width)
        self.project_out = nn.Linear(width, width)

    def forward(self, source: Tensor, target: Tensor, seen: Tensor) -> Tensor:
        queries = self.project_target(target).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T_t, d/H)
        keys, values = self.project_source(source).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen[:, None, None, :])
        return self.project_out(mixed.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Self-attention and a two-layer ReLU network, each with a residual; layer norm before (`pre`) or after (`post`).

    Dropout acts on both residual branches and inside the network, not on attention probabilities.
    """

    def __init__(self, width, heads, feedforward, dropout, norm="pre"):
        super().__init__()
        self.norm = one_of("norm", norm, ("pre", "post"))
        self.attention = SelfAttention(width, heads)
        self.network = nn.Sequential(
            nn.Linear(width, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, width)
        )
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        if self.norm == "pre":
            x = x + self.dropout(self.attention(self.norms[0](x), seen))
            return x + self.dropout(self.network(self.norms[1](x)))
        x = self.norms[0](x + self.dropout(self.attention(x, seen)))
        return self.norms[1](x + self.dropout(self.network(x)))


class Transformer(nn.Module):
    """`depth` blocks (B, T, d) -> (B, T, d), with a final layer norm where the norm stands before."""

    def __init__(self, width, heads, depth, feedforward, dropout, norm="pre"):
        super().__init__()
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, feedforward, dropout, norm) for _ in range(depth))
        self.final = nn.LayerNorm(width) if norm == "pre" else nn.Identity()

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, seen)
        return self.final(x)


def perceptron(widths):
    """Linear layers of the given widths with ReLU between them."""
    layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def last_of(x: Tensor, seen: Tensor) -> Tensor:
    """The last frame of x (B, T, d) among those in `seen` (B, T): (B, d); the first frame where none is seen."""
    place = (seen * torch.arange(seen.shape[-1], device=seen.device)).amax(-1)  # (B,)
    return x.take_along_dim(place[:, None, None], dim=-2).squeeze(-2)


def mean_over(x: Tensor, seen: Tensor) -> Tensor:
    """Mean of x (B, T, d) over the frames in `seen` (B, T): (B, d); zero where none is seen."""
    weight = seen.unsqueeze(-1).to(x.dtype)
    return (x * weight).sum(-2) / weight.sum(-2).clamp(min=1)


ALIGN = ("repeat-one", "pool-to-language", "refuse")


def align(sequences: dict[str, Tensor], seen: dict[str, Tensor], how: str):
    """Bring sequences m -> (B, T_m, d) and their masks m -> (B, T_m) to the length T of the first modality.

    `repeat-one` repeats a modality that has one vector an utterance; `pool-to-language` averages any other length
    into T equal bins of time, seen frames only; `refuse` takes equal lengths only. What a choice cannot align is
    refused.
    """
    one_of("align", how, ALIGN)
    first = next(iter(sequences))
    steps = sequences[first].shape[-2]
    out, out_seen = {}, {}
    for m, x in sequences.items():
        length = x.shape[-2]
        if length == steps:
            out[m], out_seen[m] = x, seen[m]
        elif length == 1 and how != "refuse":
            out[m] = x.expand(*x.shape[:-2], steps, x.shape[-1])
            out_seen[m] = seen[m].expand(*seen[m].shape[:-1], steps)
        elif how == "pool-to-language":
            bins = (torch.arange(length, device=x.device) * steps) // length  # (T_m,) the bin of each frame
            member = (bins == torch.arange(steps, device=x.device).unsqueeze(1)).to(x.dtype)  # (T, T_m)
            weight = seen[m].to(x.dtype)  # (B, T_m)
            count = weight @ member.T  # (B, T)
            out[m] = (member @ (x * weight.unsqueeze(-1))) / count.clamp(min=1).unsqueeze(-1)
            out_seen[m] = count > 0
        else:
            raise BadInput(
                f"{m} has {length} frames and {first} has {steps}: align={how!r} cannot bring them together, "
                "choose align='pool-to-language'."
            )
    return out, out_seen
