"""The contract of a method: options, views, network, losses. Knows batches and layers, not training or files."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from torch import Tensor, nn

from ..data.batch import Batch, Shape
from ..support.errors import BadInput, one_of
from .steps import REFERENCES, SCOPES, Clock, Output, ParameterGroup, Stage, Step, Train

WHOLE, NUMBER, SHARE = "a whole number >= 1", "a finite number >= 0", "a number from 0 to below 1"
NUMBERS = {  # what an option may be -> (type that it is kept in, test)
    WHOLE: (int, lambda value: isinstance(value, int) and value >= 1),
    NUMBER: (float, lambda value: math.isfinite(value) and value >= 0),
    SHARE: (float, lambda value: 0 <= value < 1),
}


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


@dataclass(frozen=True)
class Recipe:
    """Options and training settings of a method, each a pair of dicts: what a paper prints for a family of benchmarks
    (for all others, what stands first), and what differs from it in the profiles that fit a laptop."""

    printed: Mapping = field(default_factory=dict)  # family -> (options, settings)
    smoke: tuple = ({}, {"epochs": 2, "looks": 2})
    small: tuple = ({}, {})
    by_family: Mapping = field(default_factory=dict)  # (profile, family) -> settings that differ there

    def __call__(self, family, profile):
        """(options, training settings) for a family and a profile."""
        scaled = {"smoke": self.smoke, "small": self.small, "paper": ({}, {})}
        options, settings = scaled[one_of("profile", profile, tuple(scaled))]
        first = next(iter(self.printed.values()), ({}, {}))
        printed = self.printed.get(family, first)
        return printed[0] | options, printed[1] | settings | self.by_family.get((profile, family), {})


class Method(nn.Module):
    """One system of the literature: a network with its losses.

    A subclass gives `Options`, `recipe`, `views`, `forward`, `losses` and, in `__init__`, the `answer` that it gives.
    Everything else has a default: no parents, no state beside parameters, one group of them. Buffers are state: they
    are kept with the best checkpoint, stored, and stacked; change them in place. Labels are hidden from `forward`
    outside of training.
    """

    Options = Options
    recipe = Recipe()
    tasks = ("regression", "classification")
    unit = "utterance"  # "dialogue": a batch holds `batch` whole dialogues, `batch.group` says whose an utterance is
    vmappable = True  # False: seeds of a stack run one after the other (nn.LSTM, graphs, indexing by masks)
    noisy_at_test = False  # True: `forward` draws from torch's generator in evaluation, too
    watches_world = False  # True: a step's draws hold "world", the exact value of every set of modalities
    scores_calibration = False  # whether the answer's chances of yes-or-no questions are scored (`metrics.calibration`)
    situations = ()  # options under which others matter, for the contract's check that each changes something
    update = None  # update(training, step, clock) -> terms, in place of one backward pass a step

    def __init__(self, shape: Shape, options: Options):
        super().__init__()
        if shape.task not in self.tasks:
            raise BadInput(
                f"{type(self).__name__} knows {' and '.join(self.tasks)} only: choose a benchmark with such labels."
            )
        self.shape, self.options = shape, options

    # --- before training ---

    @classmethod
    def stages(cls, options: Options) -> tuple[Stage, ...]:
        """The trainings that make this method, its parents first, "method" last. A teacher that is the same network on
        complete data is the stage "complete", which is also a reference."""
        return (Stage("method"),)

    @classmethod
    def stage(cls, name: str, options: Options) -> Stage:
        """A stage of this method, or a reference, by its name."""
        known = REFERENCES | {stage.name: stage for stage in cls.stages(options)}
        return known[one_of("stage", name, tuple(dict.fromkeys(("method", *known))))]

    @classmethod
    def needs(cls, options: Options) -> tuple[str, ...]:
        """What it needs of a benchmark: "dialogues", "posterior"; refused before training where it is absent. "word
        pieces": BERT is tuned, whose weights on this machine are part of the key."""
        return ("dialogues",) if cls.unit == "dialogue" else ()

    def begin(self, train: Train) -> None:
        """Called once, after `__init__` and before weights are loaded or stacked: tables with a row for each training
        utterance (buffers), latents (parameters), centres."""

    def groups(self, clock: Clock) -> tuple[ParameterGroup, ...]:
        """Parameters that the optimiser treats alike, each parameter in one group."""
        return (ParameterGroup(),)

    # --- a step ---

    def views(self, batch: Batch, draws) -> tuple[dict[str, Batch], dict[str, Tensor]]:
        """What a training step shows, (S, B, ...), drawn per seed: named batches ("student" is what references read),
        and whatever else was drawn."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Output:
        raise NotImplementedError

    def losses(self, step: Step, *, clock: Clock):
        """Named terms, unweighted, scalars (watched ones may have any shape); or (terms, what `after_step` is to
        know)."""
        raise NotImplementedError

    def weights(self, clock: Clock) -> dict[str, float | None]:
        """Weight of each loss term that is not 1; None: it is watched, not trained on."""
        return {}

    def plain_losses(self, step: Step, *, clock: Clock) -> dict[str, Tensor]:
        """The reference: the same network and views, the task loss alone."""
        view = step.views["student"]
        return {"task": self.answer.loss(self(view).logits, view.y)}

    def oracle_losses(self, step: Step, *, clock: Clock) -> dict[str, Tensor]:
        """The reference from above: the same network and views, taught by the exact posterior `step.soft` (B, C)."""
        return {"oracle": self.answer.soft(self(step.views["student"]).logits, step.soft)}

    def after_step(self, step: Step, kept: dict[str, Tensor], *, clock: Clock) -> None:
        """Called without gradient after the backward pass, before parameters move: buffers change in place."""

    def after_epoch(self, clock: Clock, ask) -> None:
        """Called without gradient after an epoch; ask(part, conditions, field="logits") -> (C, n, K)."""

    # --- gradient surgery ---

    @property
    def rectified(self) -> list[set[str]]:
        """Groups of parameter names whose gradients `combine` mixes, each group by itself; none: no surgery."""
        return []

    def combine(self, gramian: Tensor, weights: dict[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradient surgery of S seeds, G groups and K terms (`weights`, in their order): from the inner products
        (S, G, K, K) of the terms' gradients to the coefficients (S, G, K) of these in the update, and what to watch,
        name -> (S, ...)."""
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
