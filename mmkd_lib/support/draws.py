"""Random numbers that depend on a name only, never on who was drawn before or stands beside."""

import hashlib

import numpy as np
import torch


def digest(*key):
    """128-bit integer from the text of `key`; equal on every machine."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:16], "little")


def generator(*key):
    """Counter-based generator (Philox 4x64) for `key`, a tuple of strings and integers."""
    return np.random.Generator(np.random.Philox(key=digest(*key)))


def seed_torch(*key):
    """Seed torch's global generator (initial weights, dropout) from `key`."""
    torch.manual_seed(digest(*key) % 2**63)


class Draws:
    """The draws of one training step for S stacked seeds, keyed (seed, step, name).

    A seed's numbers do not change with the number of seeds that stand beside it.
    """

    def __init__(self, seeds, step, device="cpu"):
        self.seeds, self.step, self.device = tuple(seeds), step, device

    def uniform(self, name, shape):
        """Uniform [0, 1) numbers, (S, *shape) float32."""
        rows = [generator(seed, self.step, name).random(shape, dtype=np.float32) for seed in self.seeds]
        return torch.from_numpy(np.stack(rows)).to(self.device)
