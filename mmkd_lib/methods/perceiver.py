"""Perceiver (Jaegle et al., 2021): a few learnable prompts query a sequence of any length. Knows no method.

Everything runs under `torch.func.vmap` and keeps torch's fused attention.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LatentAttention(nn.Module):
    """Attention of latents (B, P, d) to a context (B, T, d), MCUR Eq. 17, with layer norm before and a residual; to
    themselves where no context is given. Projections have heads * size columns and no bias but the last."""

    def __init__(self, width, heads, size, dropout, crossed):
        super().__init__()
        inner = heads * size
        self.heads = heads
        self.norm, self.norm_context = nn.LayerNorm(width), nn.LayerNorm(width) if crossed else None
        self.project_queries = nn.Linear(width, inner, bias=False)
        self.project_context = nn.Linear(width, 2 * inner, bias=False)
        self.project_out = nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, latents: Tensor, context: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        own = self.norm(latents)
        context = own if context is None else self.norm_context(context)
        queries = self.project_queries(own).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, P, s)
        keys, values = self.project_context(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if seen is None else seen[:, None, None, :]
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return latents + self.dropout(self.project_out(mixed.transpose(1, 2).flatten(2)))


class GatedNetwork(nn.Module):
    """Feed-forward part with a GELU gate (GEGLU): d -> 8 d, half of it gates the other, 4 d -> d; norm and residual."""

    def __init__(self, width, dropout):
        super().__init__()
        self.norm, self.widen, self.narrow = (
            nn.LayerNorm(width),
            nn.Linear(width, 8 * width),
            nn.Linear(4 * width, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        values, gates = self.widen(self.norm(x)).chunk(2, -1)
        return x + self.dropout(self.narrow(values * F.gelu(gates)))


class Perceiver(nn.Module):
    """Prompts (P, d) that query the frames (B, T, d) in `seen`, `depth` times, MCUR A.1.2: their mean, (B, d)."""

    def __init__(self, width, prompts, heads, size, depth, dropout):
        super().__init__()
        self.prompts = nn.Parameter(0.02 * torch.randn(prompts, width))
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                [
                    LatentAttention(width, heads, size, dropout, crossed=True),
                    GatedNetwork(width, dropout),
                    LatentAttention(width, heads, size, dropout, crossed=False),
                    GatedNetwork(width, dropout),
                ]
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        latents = self.prompts.expand(len(x), -1, -1)
        for look, network, mix, another in self.blocks:
            latents = another(mix(network(look(latents, x, seen))))
        return self.norm(latents.mean(-2))
