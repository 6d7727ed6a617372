"""The cascade of residual autoencoders of the MMIN family: what is missing, imagined from what is there. Knows tensors,
not batches or methods."""

from itertools import pairwise

import torch
from torch import Tensor, nn


def _layers(widths, activation):
    """Linear layers of the given widths with an activation between them, none after the last."""
    layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), activation())]
    return nn.Sequential(*layers[:-1])


class Cascade(nn.Module):
    """(B, D) -> (B, D) what the cascade imagines, and (B, n h) the bottlenecks of its n blocks side by side.

        x_0 = f, r_0 = 0;    x_i = x_{i-1} + r_{i-1},  z_i = enc_i(x_i),  r_i = dec_i(z_i)    i = 1 ... n
        imagined = transition(x_n + r_n),    z = [z_1, ..., z_n]

    MMIN. With a `code` s (B, D) that every block is reminded of (IF-MMIN, CIF-MMIN) the input of a block is
    x_i = r_{i-1} + s with r_0 = f. An encoder has LeakyReLU(0.01) between its layers, a decoder, its mirror, ReLU.
    """

    def __init__(self, width, layers=(256, 128, 64), blocks=5):
        super().__init__()
        inwards = (width, *layers)
        self.encoders = nn.ModuleList(_layers(inwards, nn.LeakyReLU) for _ in range(blocks))
        self.decoders = nn.ModuleList(_layers(inwards[::-1], nn.ReLU) for _ in range(blocks))
        self.transition = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, fused: Tensor, code: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, r, latent = torch.zeros_like(fused), fused, []
        for encoder, decoder in zip(self.encoders, self.decoders, strict=True):
            x = x + r if code is None else r + code  # (B, D); the first is f, or f + s
            latent.append(encoder(x))  # (B, h)
            r = decoder(latent[-1])  # (B, D)
        return self.transition(x + r), torch.cat(latent, -1)
