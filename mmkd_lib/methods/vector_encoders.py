"""Encoders of one sequence into one vector: LSTM and text CNN, over the frames that an utterance has and no padding.

Knows tensors, not batches or methods. `nn.LSTM` has no batching rule: who uses it says `vmappable = False`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..support.errors import one_of
from .layers import attendable, last_of

KERNELS = (3, 4, 5)  # words that a filter of the text CNN sees


def to_front(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The valid frames (B, T) of x (B, T, d) first, in their order, zeros behind them, and where they are now."""
    order = (~valid).to(torch.uint8).argsort(dim=-1, stable=True)  # (B, T)
    valid = valid.take_along_dim(order, -1)
    return torch.where(valid.unsqueeze(-1), x.take_along_dim(order.unsqueeze(-1), -2), 0), valid


class LSTMEncoder(nn.Module):
    """(B, T, d_m) -> (B, d): a one-way LSTM over the valid frames (B, T), its `last` state or the `max` of its states
    over time. An utterance without a valid frame is read as one zero frame."""

    def __init__(self, width_in, width, read="last"):
        super().__init__()
        self.read = one_of("reading of an LSTM", read, ("last", "max"))
        self.rnn = nn.LSTM(width_in, width, batch_first=True)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        x, valid = to_front(x, valid)
        states, _ = self.rnn(x)  # (B, T, d): one-way, so that what stands behind the last valid frame changes nothing
        if self.read == "last":
            return last_of(states, valid)
        return states.masked_fill(~attendable(valid).unsqueeze(-1), -torch.inf).amax(-2)


class TextCNN(nn.Module):
    """(B, T, d_m) -> (B, d): filters over 3, 4 and 5 words, ReLU, the largest response over time, a layer with ReLU.

    A filter is laid where all its words are valid (B, T); in an utterance of fewer words once, zeros behind the last.
    """

    def __init__(self, width_in, width, channels=128, dropout=0.5):
        super().__init__()
        self.filters = nn.ModuleList(nn.Conv1d(width_in, channels, kernel) for kernel in KERNELS)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(len(KERNELS) * channels, width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        x, valid = to_front(x, valid)
        short = max(0, max(KERNELS) - x.shape[-2])
        x, valid = F.pad(x, (0, 0, 0, short)).transpose(-1, -2), F.pad(valid, (0, short))  # (B, d_m, T), (B, T)
        found = []
        for kernel, filters in zip(KERNELS, self.filters, strict=True):
            laid = attendable(valid[..., kernel - 1 :])  # (B, T - k + 1): its last word is valid, so all are
            found.append((F.relu(filters(x)) * laid.unsqueeze(-2)).amax(-1))  # (B, channels); no response is below 0
        return F.relu(self.project(self.dropout(torch.cat(found, -1))))
