"""What the engine hands to a method in training: the time, a step, the training part; and what a method says of its
stages and parameters. Knows batches, no network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from ..data.batch import Batch

SCOPES = ("network", "views", "loss", "teacher")


class Output(NamedTuple):
    """What a network says of a batch."""

    logits: Tensor  # (B, C)
    embedding: Tensor  # (B, D)
    extras: dict[str, Tensor] = {}  # noqa: RUF012 - never written to


class Clock(NamedTuple):
    """When a step is: the same for all stacked seeds."""

    stage: str
    epoch: int  # from 1
    epochs: int
    step: int  # from 0, in the whole training
    steps: int  # of an epoch


class Step(NamedTuple):
    """What a loss is computed from: tensors of one seed, (B, ...)."""

    views: dict[str, Batch]  # as the method drew them
    drawn: dict[str, Tensor] = {}  # noqa: RUF012 - what else it drew; "world": true values of sets, where it watches them
    told: dict[str, Output] = {}  # noqa: RUF012 - what each parent says, without gradient
    rows: Tensor | None = None  # (B,) position of each utterance in the training part
    soft: Tensor | None = None  # (B, C) exact posterior in the classes of the answer, for oracle teaching


class Train(NamedTuple):
    """The training part of one network, complete and as the network reads it."""

    batch: Batch  # n utterances, (n, ...)


@dataclass(frozen=True)
class Stage:
    """One training of a method: an experiment of its own, whose record is kept and shared by its key.

    A parent's weights reach a stage in two ways: it `starts_from` some of them (parent -> prefixes of names, "" for
    all), and it is `taught_by` the frozen parent (parent -> the views that it is asked for; "complete", which no method
    draws, stands for the whole utterances: the parent is asked for them once, before training).
    """

    name: str
    starts_from: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    taught_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()  # prefixes of parameters that do not move
    views: str = "own"  # what a step shows: the method's `views`, or "complete" utterances as the view "student"
    scopes: tuple[str, ...] = ("network", "views", "loss")  # of the options that decide it; others go to their defaults
    selection: str = ""  # which of its epochs is kept; empty: by the rule of the method it belongs to
    settings: Mapping[str, Any] = field(default_factory=dict)  # training settings that differ from the method's
    benchmark: str = ""  # another benchmark that it is trained on
    kept_from: int = 1  # the first epoch that may be kept

    @property
    def parents(self):
        """The stages that must be trained before."""
        return tuple(dict.fromkeys((*self.starts_from, *self.taught_by)))


# What every method is compared with: its network and views with the task loss alone, the same on complete data (where
# a method has a teacher it is that, see `Method.stages`), and taught by the exact posterior.
REFERENCES = {
    "plain": Stage("plain", scopes=("network", "views")),
    "complete": Stage("complete", views="complete", scopes=("network",)),
    "oracle": Stage("oracle", scopes=("network", "views")),
}


class ParameterGroup(NamedTuple):
    """Parameters that an optimiser treats alike: those whose names begin with one of the prefixes."""

    prefixes: tuple[str, ...] = ("",)
    lr: float = 1.0  # factor of the setting
    weight_decay: float | None = None  # None: that of the setting
    turn: tuple[int, int, int] = (0, 1, 1)  # moves in the steps with a <= step % c < b, for (a, b, c)
