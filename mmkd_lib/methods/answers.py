"""What a system answers: a score, a class, a level of a score, a polarity, or yes-or-no questions; and how an answer is
learnt from a label, learnt from shares of classes, and read. A method owns one. Knows logits; no network and no paper.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .losses import mean_counted


def one_hot(y: Tensor, classes: int, like: Tensor) -> Tensor:
    """(N,) -> (N, C) in the type of `like`; unlike torch's own it runs under vmap."""
    return (y.unsqueeze(-1) == torch.arange(classes, device=y.device)).to(like.dtype)


def soft_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """-sum_c p_c log softmax(logits)_c, mean over all but the last axis; logits, shares (..., C)."""
    return -(shares * logits.log_softmax(-1)).sum(-1).mean()


class Answer:
    """`size`: number of logits an utterance, (B, size)."""

    size: int

    def each(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """The loss of each question of each utterance, (B, Q), and the utterances that count, (B,); None: all."""
        raise NotImplementedError

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The supervised loss, a mean over questions and the utterances that count."""
        each, counted = self.each(logits, y)
        return each.mean() if counted is None else mean_counted(each.mean(-1), counted)

    def soft(self, logits: Tensor, shares: Tensor) -> Tensor:
        """The supervised loss against what `shares` makes of a posterior instead of a label."""
        return soft_cross_entropy(logits, shares)

    def shares(self, posterior: Tensor, values: Tensor) -> Tensor:
        """A posterior (N, K) over label values (K,), which ascend, in the form that `soft` takes."""
        return posterior

    def prediction(self, logits: Tensor) -> Tensor:
        """What `metrics.score` takes: scores (..., N) float, signs (..., N) int, probabilities (..., N, C) float, or
        answers to questions (..., N, C) bool."""
        return logits.softmax(-1)

    def chances(self, logits: Tensor) -> Tensor:
        """Probabilities of the yes-or-no questions of `metrics.calibration`, (..., Q)."""
        return logits.softmax(-1)


@dataclass(frozen=True)
class Score(Answer):
    """A number by regression, `l1` or `mse`: under a posterior its best constant is the median, or the mean."""

    distance: str = "l1"
    size = 1

    def each(self, logits, y):
        gap = logits - y.to(logits).unsqueeze(-1)
        return (gap.abs() if self.distance == "l1" else gap.square()), None

    def loss(self, logits, y):
        return self.soft(logits, y.to(logits).unsqueeze(-1))

    def soft(self, logits, shares):
        return (F.l1_loss if self.distance == "l1" else F.mse_loss)(logits, shares)

    def shares(self, posterior, values):
        values = values.to(posterior)
        if self.distance == "mse":
            return posterior @ values.unsqueeze(-1)
        return values[(posterior.cumsum(-1) >= 0.5).int().argmax(-1)].unsqueeze(-1)

    def prediction(self, logits):
        return logits.squeeze(-1)

    def chances(self, logits):
        """Of "positive?", by the sigmoid of the score (MCUR A.2.6)."""
        return logits.sigmoid()


@dataclass(frozen=True)
class Classes(Answer):
    """One of `size` classes, by a softmax. `fused`: the mean is torch's own, or that of the losses of each utterance:
    the same but for rounding, by which a record is known to the last bit."""

    size: int
    fused: bool = field(default=True, kw_only=True)

    def labels(self, y):
        """The class of each label, (N,)."""
        return y

    def each(self, logits, y):
        return F.cross_entropy(logits, self.labels(y), reduction="none").unsqueeze(-1), None

    def loss(self, logits, y):
        return F.cross_entropy(logits, self.labels(y)) if self.fused else super().loss(logits, y)


@dataclass(frozen=True)
class Levels(Classes):
    """A score in `size` levels (2: negative or not; 3: its sign; 7: rounded), read as a `sign` or as the `mean`."""

    size: int = 3
    read: str = "sign"

    def labels(self, y):
        if self.size == 2:
            return (y >= 0).long()
        return (y.sign() + 1).long() if self.size == 3 else (y.clamp(-3, 3).round() + 3).long()

    def shares(self, posterior, values):
        return posterior @ one_hot(self.labels(values), self.size, posterior)

    def prediction(self, logits):
        shares = logits.softmax(-1)
        at = (torch.arange(self.size, device=logits.device) - (self.size - 1) / 2).to(logits.dtype)
        if self.read == "mean":
            return shares @ at
        return (shares * at.sign()).sum(-1).sign().to(torch.int8)


class Polarity(Answer):
    """Negative or positive, by a softmax; neutral utterances do not count."""

    size = 2

    def each(self, logits, y):
        counted = y != 0
        return (F.cross_entropy(logits, (y > 0).long(), reduction="none") * counted).unsqueeze(-1), counted

    def shares(self, posterior, values):
        values = values.to(posterior)
        return posterior @ torch.stack([values < 0, values > 0], -1).to(posterior)

    def prediction(self, logits):
        return (2 * logits.argmax(-1) - 1).to(torch.int8)


@dataclass(frozen=True)
class Questions(Answer):
    """ "Is it this class?" asked of each of `classes`, answered by one logit or by a pair (no, yes)."""

    classes: int
    logits_each: int = 1
    fused: bool = field(default=True, kw_only=True)

    @property
    def size(self):
        return self.classes * self.logits_each

    def pairs(self, logits: Tensor) -> Tensor:
        """Logits of no and yes, (..., C, 2)."""
        if self.logits_each == 2:
            return logits.unflatten(-1, (self.classes, 2))
        return torch.stack([torch.zeros_like(logits), logits], -1)

    def targets(self, logits: Tensor, y: Tensor) -> Tensor:
        """No or yes, (B, C)."""
        return one_hot(y, self.classes, logits).long()

    def each(self, logits, y):
        target = self.targets(logits, y)
        losses = F.cross_entropy(self.pairs(logits).flatten(0, -2), target.flatten(), reduction="none")
        return losses.view_as(target), None

    def loss(self, logits, y):
        if not self.fused:
            return super().loss(logits, y)
        return F.cross_entropy(self.pairs(logits).flatten(0, -2), self.targets(logits, y).flatten())

    def soft(self, logits, shares):
        if self.logits_each == 1:
            return F.binary_cross_entropy_with_logits(logits, shares)
        return soft_cross_entropy(self.pairs(logits), torch.stack([1 - shares, shares], -1))

    def chances(self, logits):
        return self.pairs(logits).softmax(-1)[..., 1]

    def prediction(self, logits):
        return logits > 0 if self.logits_each == 1 else self.chances(logits) > 0.5
