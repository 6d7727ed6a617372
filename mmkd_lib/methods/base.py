"""The contract of a method: options, views, network, losses. Knows batches and layers, not training or files."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..data.batch import Batch, Shape
from ..support.errors import BadInput, one_of

SCOPES = ("network", "views", "loss", "teacher")
WHOLE, NUMBER, SHARE = "a whole number >= 1", "a finite number >= 0", "a number from 0 to below 1"
NUMBERS = {  # what an option may be -> (type that it is kept in, test)
    WHOLE: (int, lambda value: isinstance(value, int) and value >= 1),
    NUMBER: (float, lambda value: math.isfinite(value) and value >= 0),
    SHARE: (float, lambda value: 0 <= value < 1),
}


class Output(NamedTuple):
    """What a network says of a batch."""

    logits: Tensor  # (B, C)
    embedding: Tensor  # (B, D)
    extras: dict[str, Tensor] = {}  # noqa: RUF012 - never written to


def option(default, allowed, scope, place, reason, printed=None):
    """A named choice of a method: a dataclass field that knows its allowed values and its place in the paper.

    `allowed`: tuple of values, WHOLE, NUMBER or SHARE. `scope` says who is retrained when it changes:
    the `network` (teacher and references too), the `views`, the `loss`, or the `teacher` alone. `printed` is the
    paper's literal reading where it has one.
    """
    one_of("scope", scope, SCOPES)
    metadata = {"allowed": allowed, "scope": scope, "place": place, "reason": reason, "printed": printed}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Options:
    """Base of all options: checks every value on construction, in one sentence."""

    def __post_init__(self):
        for spec in fields(self):
            value, allowed = getattr(self, spec.name), spec.metadata["allowed"]
            if isinstance(allowed, str):
                kind, holds = NUMBERS[allowed]
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not holds(value):
                    raise BadInput(f"option {spec.name}={value!r} is not {allowed}.")
                object.__setattr__(self, spec.name, kind(value))  # 1 and 1.0 are one experiment
            elif type(one_of(f"value for option {spec.name}", value, allowed)) is not type(allowed[0]):
                raise BadInput(f"option {spec.name}={value!r} is a {type(value).__name__}: write {allowed}.")

    @classmethod
    def of(cls, **choices):
        """Options with these choices; an unknown name is refused with the known ones."""
        for name in choices:
            one_of("option", name, tuple(spec.name for spec in fields(cls)))
        return cls(**choices)

    def scoped(self, *scopes):
        """These options with every choice outside `scopes` set back to its default."""
        other = {spec.name: spec.default for spec in fields(self) if spec.metadata["scope"] not in scopes}
        return replace(self, **other)


class Method(nn.Module):
    """One system of the literature: a network with its losses.

    A subclass gives `Options`, `recipe`, `views`, `forward`, `losses` and `prediction`. `views` returns named
    batches; the student reads "student", an external teacher (where `needs_teacher`) reads "teacher". It may give
    `chances(logits)`, the probabilities of yes-or-no questions that `metrics.calibration` scores.
    """

    Options = Options
    needs_teacher = False
    teacher_sees_all = False  # the teacher's view is the complete batch: what it says of an utterance never changes
    watches_world = False  # a step's views hold the true values of all sets of modalities, where they are known

    def __init__(self, shape: Shape, options: Options):
        super().__init__()
        self.shape, self.options = shape, options

    @property
    def weights(self) -> dict[str, float | None]:
        """Weight of each loss term that is not 1; None: it is watched, not trained on, and may have any shape."""
        return {}

    @property
    def rectified(self) -> list[set[str]]:
        """Groups of parameter names whose gradients `combine` mixes, each group by itself; none: no surgery."""
        return []

    def combine(self, gramian: Tensor, weights: dict[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradient surgery of S seeds, G groups and K terms (`weights`, in their order): from the inner products
        (S, G, K, K) of the terms' gradients to the coefficients (S, G, K) of these in the update, and what to watch,
        name -> (S, ...)."""
        raise NotImplementedError

    def views(self, batch: Batch, draws) -> dict[str, Batch]:
        """What a training step shows, drawn per seed."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Output:
        raise NotImplementedError

    def losses(self, views: dict[str, Batch], teacher: Output | None = None) -> dict[str, Tensor]:
        """Named scalar terms, unweighted."""
        raise NotImplementedError

    def task_loss(self, output: Output, y: Tensor) -> Tensor:
        """The supervised loss that trains, validates and is left alone in the references."""
        raise NotImplementedError

    def plain_losses(self, views: dict[str, Batch]) -> dict[str, Tensor]:
        """The reference: the same network and views, the task loss alone."""
        return {"task": self.task_loss(self(views["student"]), views["student"].y)}

    def oracle_losses(self, views: dict[str, Batch], soft: Tensor) -> dict[str, Tensor]:
        """The reference from above: the same network and views, taught by the exact posterior `soft` (B, C)."""
        return {"oracle": self.soft_loss(self(views["student"]), soft)}

    def soft_loss(self, output: Output, soft: Tensor) -> Tensor:
        """The supervised loss against class shares (B, C) instead of a label."""
        raise NotImplementedError

    def class_shares(self, posterior: Tensor, values: Tensor) -> Tensor:
        """A posterior (N, K) over label values (K,) in the classes of this method, (N, C)."""
        raise NotImplementedError

    def prediction(self, logits: Tensor) -> Tensor:
        """What `metrics.score` takes, see there: scores (..., N) float, signs (..., N) int, probabilities (..., N, C)
        float, or answers of one-vs-rest heads (..., N, C) bool."""
        raise NotImplementedError


def options_table(options_class):
    """One row per option: name, default, allowed values, printed reading, place, reason, who is retrained."""
    return [
        {
            "option": spec.name,
            "default": spec.default,
            "allowed": ", ".join(map(str, a)) if isinstance(a := spec.metadata["allowed"], tuple) else a,
            "printed reading": spec.metadata["printed"],
            "place": spec.metadata["place"],
            "reason": spec.metadata["reason"],
        }
        for spec in fields(options_class)
    ]


def alternatives(options_class, numbers):
    """Every other value of every open choice (one that the paper does not print): (option, value, whether that is the
    printed reading). `numbers`: option -> values to try where any number is allowed."""
    found = []
    for spec in (spec for spec in fields(options_class) if not spec.metadata["reason"].startswith("printed")):
        allowed = spec.metadata["allowed"]
        others = [v for v in allowed if v != spec.default] if isinstance(allowed, tuple) else numbers.get(spec.name, ())
        found += [(spec.name, value, value == spec.metadata["printed"]) for value in others]
    return found


def one_hot(y: Tensor, classes: int, like: Tensor) -> Tensor:
    """(N,) -> (N, C) in the type of `like`; unlike torch's own it runs under vmap."""
    return (y.unsqueeze(-1) == torch.arange(classes, device=y.device)).to(like.dtype)
