"""How an experiment is trained: the settings, checked. Knows neither methods nor data."""

from dataclasses import asdict, dataclass, fields

from ..support.errors import BadInput, one_of

SELECTIONS = ("validation-loss", "validation-score", "last", "oracle-test")
OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "linear", "steps", "cosine", "plateau")
CLIPPINGS = ("norm", "value", "norm of groups")
LATER = "weight_decay"  # from here on: settings that a configuration names only where they are not the default


@dataclass(frozen=True)
class Settings:
    """How an experiment is trained; `recipe` of a method gives the printed values."""

    lr: float = 1e-3
    batch: int = 64
    epochs: int = 20
    clip: float = 1.0  # largest gradient norm (or value) of a seed; 0: none
    standardise: bool = True  # feature columns at mean 0, deviation 1 of the training part; no paper says
    selection: str = "validation-loss"  # which epoch is kept; oracle-test peeks at the test part
    looks: int = 10  # how often at most a run is validated
    weight_decay: float = 0.0  # adam: added to the clipped gradient, times the weight; adamw: decoupled from it
    optimiser: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)  # of adam and adamw
    momentum: float = 0.0  # of sgd
    schedule: str = "constant"  # of the learning rate
    warmup: float = 0.0  # cosine: share of the steps in which the rate rises to its full height
    decay_from: float = 0.5  # linear: share of the epochs after which the rate falls towards 0
    decay_at: tuple[int, ...] = ()  # steps: epochs after which the rate is multiplied by `factor`
    factor: float = 0.1  # steps, plateau
    patience: int = 10  # plateau: epochs without a better selection value before the rate falls
    stop_after: int = 0  # epochs without a better selection value before training ends; 0: never
    clip_by: str = "norm"  # of all parameters, of each parameter group, or each value by itself
    accumulate: int = 1  # batches whose gradients are summed for one move of the parameters
    keep_rest: bool = False  # whether the batches that are left of an epoch move the parameters, too

    def __post_init__(self):
        choices = {"selection": SELECTIONS, "optimiser": OPTIMISERS, "schedule": SCHEDULES, "clip_by": CLIPPINGS}
        for name, allowed in choices.items():
            one_of(name, getattr(self, name), allowed)
        least = {"lr": 0, "batch": 1, "epochs": 0, "looks": 0, "factor": 0, "accumulate": 0}
        for name, bound in least.items():
            if not getattr(self, name) > bound:
                raise BadInput(f"training setting {name}={getattr(self, name)!r} must be above {bound}.")
        for name in ("clip", "weight_decay", "momentum", "patience", "stop_after"):
            if not getattr(self, name) >= 0:
                raise BadInput(f"training setting {name}={getattr(self, name)!r} must not be below 0.")
        for name in ("warmup", "decay_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"training setting {name}={getattr(self, name)!r} must lie in 0 ... 1.")
        for name in ("betas", "decay_at"):  # lists, as JSON has them, are the same experiment
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def follows_validation(self):
        """Whether what happens depends on validation while training: every epoch is validated, and each seed, whose
        rate or end is its own, trains by itself."""
        return self.schedule == "plateau" or self.stop_after > 0

    def config(self):
        """The settings as a record names them: those that came later only where they are not the default."""
        names = [spec.name for spec in fields(self)]
        later = names[names.index(LATER) :]
        default = {spec.name: spec.default for spec in fields(self)}
        found = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        return {n: v for n, v in found.items() if n not in later or getattr(self, n) != default[n]}
