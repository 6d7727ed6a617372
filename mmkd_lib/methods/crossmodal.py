"""The crossmodal transformer of MulT, which DMD, MICA, DiCMoR, IMDer and MPLMM build on: one sequence attends to
another, again and again. Knows tensors; no batch, no options and no paper's network.

It differs from torch's encoder layer, and from `layers.Transformer`, in that inputs are scaled by sqrt(d), a frame of
zeros has no position, one layer norm serves query and source, the source is never updated, the causal mask is shifted
where lengths differ, and a last layer norm follows. Everything runs under `torch.func.vmap`.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..support.errors import BadInput


class Dropouts(NamedTuple):
    """Shares that are dropped of embedded inputs, attention probabilities, the hidden layer and residual branches."""

    embedding: float = 0.0
    attention: float = 0.0
    relu: float = 0.0
    residual: float = 0.0


class Attended(NamedTuple):
    """What one layer attends with, before the scale: (B, T_q, d), (B, T_k, d) and the probabilities' mask."""

    queries: Tensor
    keys: Tensor
    mask: Tensor | None


# --- positions and masks ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def sinusoids(steps, width, dtype, device):
    """Positions 1 ... T as (T, d): sin(t w_i) in one half, cos(t w_i) in the other; w_i = 10^(-4i / (d/2 - 1))."""
    half = width // 2
    if width % 2 or half < 2:
        raise BadInput(f"positions need an even width of at least 4, not {width}: choose another width.")
    rate = torch.exp(torch.arange(half, dtype=dtype, device=device) * (-math.log(1e4) / (half - 1)))
    angle = torch.arange(1, steps + 1, dtype=dtype, device=device).unsqueeze(1) * rate  # (T, d/2)
    return torch.cat([angle.sin(), angle.cos()], -1)


def embedded(x: Tensor, placed: Tensor | None = None) -> Tensor:
    """sqrt(d) x + positions, (B, T, d). `placed` (B, T): the frames that have a position; None: those whose first
    channel is not exactly 0, so that a sequence of zeros stays one."""
    steps, width = x.shape[-2:]
    placed = x[..., 0] != 0 if placed is None else placed
    return torch.addcmul(math.sqrt(width) * x, sinusoids(steps, width, x.dtype, x.device), placed.unsqueeze(-1).to(x))


def causal(queries: int, keys: int, device=None) -> Tensor:
    """Which keys a query may look at: j <= i + |T_k - T_q|, as (T_q, T_k) bool."""
    ahead = torch.arange(keys, device=device) - torch.arange(queries, device=device).unsqueeze(1)
    return ahead <= abs(keys - queries)


def attention_mask(allowed: Tensor | None, exist: Tensor | None, like: Tensor) -> Tensor | None:
    """What is added to scores, 0 or -inf: (1 or B, T_q, T_k); None for nothing.

    allowed (T_q, T_k) bool; exist (B, T_k): the keys that are no padding. A query that would have no key at all, such
    as padding in front, gets the first one.
    """
    if exist is not None:
        exist = exist.unsqueeze(-2)  # (B, 1, T_k)
        allowed = exist if allowed is None else allowed & exist
        first = torch.arange(allowed.shape[-1], device=allowed.device) == 0
        allowed = allowed | (first & ~allowed.any(-1, keepdim=True))
    elif allowed is None:
        return None
    else:
        allowed = allowed.unsqueeze(0)
    return torch.where(allowed, 0.0, -torch.inf).to(like.dtype)


def row_of(x: Tensor, place: Tensor) -> Tensor:
    """Row `place` (B,) of each x (B, T, n): (B, 1, n)."""
    return x.take_along_dim(place[:, None, None], dim=-2)


LEVELS = 2**16  # that a share of dropout is counted in on a CPU


def dropped_out(x: Tensor, share: float) -> Tensor:
    """`F.dropout` in training. On a CPU, where random numbers would take a third of a step, four decisions are made of
    the 64 bits of one: the share is then a multiple of 2^-16, and the scale is that of the rounded share."""
    if not share or x.device.type != "cpu":
        return F.dropout(x, share) if share else x
    lost = min(round(share * LEVELS), LEVELS - 1)
    numbers = torch.randint(-(2**63), 2**63 - 1, (x.numel() // 4 + 1,)).view(torch.int16)  # uniform, -2^15 ... 2^15 - 1
    kept = numbers[: x.numel()].view(x.shape) >= lost - LEVELS // 2
    return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - lost))


# --- layers ----------------------------------------------------------------------------------------------------------


def attention(queries, keys, values, mask, heads, dropout=0.0):
    """softmax(Q K^T / sqrt(d/H) + mask) V, heads side by side: (B, T_q, d), of keys and values (B, T_k, d).

    torch's fused kernel on a GPU. On a CPU, where heads of 3 to 12 columns give it many tiny products, and no dropout,
    two batched products are a third faster.
    """
    queries, keys, values = (x.unflatten(-1, (heads, -1)).transpose(-3, -2) for x in (queries, keys, values))
    mask = None if mask is None else mask.unsqueeze(-3)  # (1 or B, 1, T_q, T_k)
    if queries.is_cuda:
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout)
    else:
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)  # (B, H, T_q, T_k)
        shares = (scores if mask is None else scores + mask).softmax(-1)
        mixed = dropped_out(shares, dropout) @ values
    return mixed.transpose(-3, -2).flatten(-2)


class CrossmodalLayer(nn.Module):
    """x + attention, then x + relu network, layer norms before both; the first norm is also the source's."""

    def __init__(self, width, heads, dropouts):
        super().__init__()
        if width % heads:
            raise BadInput(f"{heads} attention heads do not divide the width {width}: choose a divisor of it.")
        self.heads, self.dropouts = heads, dropouts
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.project_in = nn.Linear(width, 3 * width)  # queries, keys, values
        self.project_out = nn.Linear(width, width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        for linear in (self.project_in, self.project_out, self.widen, self.narrow):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def queries(self, normalised):
        """Of the target after the first norm, (B, T, d)."""
        d = normalised.shape[-1]
        return F.linear(normalised, self.project_in.weight[:d], self.project_in.bias[:d])

    def pairs(self, normalised):
        """Keys and values of self-attention, of the target after the first norm, (B, T, d) each."""
        d = normalised.shape[-1]
        return F.linear(normalised, self.project_in.weight[d:], self.project_in.bias[d:]).chunk(2, -1)

    def of_normalised(self):
        """(weight (2d, d), bias (2d,)) that lead from a source of mean 0 and deviation 1 to keys and values: the norm's
        gain and offset are taken into the projection, W (g s + b) + c = (W g) s + (W b + c)."""
        d, norm = self.project_in.in_features, self.norms[0]
        weight = self.project_in.weight[d:]
        return weight * norm.weight, self.project_in.bias[d:] + weight @ norm.bias

    def forward(self, x, queries, keys, values, mask):
        """x (B, T_q, d) after this layer; queries (B, T_q, d), keys and values (B, T_k, d)."""
        p = self.dropouts if self.training else Dropouts()
        mixed = self.project_out(attention(queries, keys, values, mask, self.heads, p.attention))
        x = x + dropped_out(mixed, p.residual)
        hidden = dropped_out(F.relu(self.widen(self.norms[1](x))), p.relu)
        return x + dropped_out(self.narrow(hidden), p.residual)


class CrossmodalEncoder(nn.Module):
    """`depth` layers in which a target attends to a source or, without one, to itself; a layer norm at the end."""

    def __init__(self, width, heads, depth, dropouts=Dropouts(), causal=True):  # noqa: B008 - a tuple
        super().__init__()
        self.dropouts, self.causal = dropouts, causal
        self.layers = nn.ModuleList(CrossmodalLayer(width, heads, dropouts) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, target, source=None, *, exist=None, placed=None, source_placed=None, place=None, watch=None):
        """target (B, T_q, d), source (B, T_k, d) -> (B, T_q, d); (B, d) where `place` (B,) says which step is read.

        exist (B, T_k): keys that are no padding; None: all. placed (B, T_q), source_placed (B, T_k): see `embedded`.
        watch: a list that gets what every layer attends with (`Attended`).
        """
        lengths = target.shape[-2], (target if source is None else source).shape[-2]
        mask = attention_mask(causal(*lengths, target.device) if self.causal else None, exist, target)
        x = self.embed(target, placed)
        of_source = None if source is None else self.of_source(source, source_placed)
        for n, layer in enumerate(self.layers):
            normalised = layer.norms[0](x)
            keys, values = layer.pairs(normalised) if of_source is None else of_source[n]
            if place is not None and n == len(self.layers) - 1:  # nobody reads the other steps of the last layer
                x, normalised = row_of(x, place), row_of(normalised, place)
                mask = None if mask is None else row_of(mask.expand(len(x), -1, -1), place)
            queries = layer.queries(normalised)
            if watch is not None:
                watch.append(Attended(queries, keys, mask))
            x = layer(x, queries, keys, values, mask)
        x = self.norm(x)
        return x if place is None else x.squeeze(-2)

    def embed(self, x, placed):
        """Embedded input with its dropout."""
        return dropped_out(embedded(x, placed), self.dropouts.embedding if self.training else 0.0)

    def of_source(self, source, placed):
        """Keys and values of all layers, [(B, T_k, d), (B, T_k, d)] each: as the source never changes it is normalised
        once. In training it is dropped out twice, independently for keys and for values."""
        folded = [layer.of_normalised() for layer in self.layers]
        weight, bias = (torch.stack(parts) for parts in zip(*folded, strict=True))  # (N, 2d, d), (N, 2d)
        source = embedded(source, placed)
        d, p = source.shape[-1], self.dropouts.embedding if self.training else 0.0
        for_keys = F.layer_norm(dropped_out(source, p), (d,))
        for_values = F.layer_norm(dropped_out(source, p), (d,)) if p else for_keys
        keys = F.linear(for_keys, weight[:, :d].flatten(0, 1), bias[:, :d].flatten())  # (B, T_k, N d)
        values = F.linear(for_values, weight[:, d:].flatten(0, 1), bias[:, d:].flatten())
        return list(zip(keys.chunk(len(self.layers), -1), values.chunk(len(self.layers), -1), strict=True))
