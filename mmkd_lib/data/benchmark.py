"""The benchmark: data, task, splits and scoring of its own. Knows batches and metrics, not where data came from."""

from dataclasses import dataclass, field

import numpy as np
import torch

from ..support.errors import BadInput
from . import metrics
from .batch import Batch, Shape

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Benchmark:
    """N utterances with their splits.

    `batch` holds every utterance (missing features zero); `split` is the fixed split, `roles` the part of every
    utterance in each fold of a cross-validation. `fingerprint` names the data, `mask_key` what its frozen masks are
    drawn from (the data, where nothing else is said); `measured_on` is the phrase that stands under tables; `reader`
    names who read the file.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    batch: Batch
    split: np.ndarray  # (N,) train / valid / test
    fingerprint: str
    measured_on: str
    reader: str = ""
    roles: np.ndarray | None = None  # (K, N) int8: index of PARTS in fold k, -1 for none
    ids: np.ndarray | None = None
    truth: np.ndarray | None = None  # (N,) the latent label of synthetic data, before annotator noise
    mask_key: str = ""
    world: object = None  # of synthetic data: the model that drew it
    findings: dict = field(default_factory=dict)  # what the reader counted: zeroed values, uncovered frames

    def __post_init__(self):
        object.__setattr__(self, "mask_key", self.mask_key or self.fingerprint)

    @property
    def synthetic(self):
        return self.truth is not None

    @property
    def folds(self):
        """The folds to run: (None,) for one fixed split."""
        return (None,) if self.roles is None else tuple(range(len(self.roles)))

    @property
    def shape(self):
        x = self.batch.x
        return Shape(
            {m: t.shape[-1] for m, t in x.items()}, {m: t.shape[-2] for m, t in x.items()}, self.task, self.classes
        )

    def rows(self, part, fold=None):
        """Indices of train, valid or test, of the fixed split or of a fold."""
        if fold is None:
            return np.flatnonzero(self.split == part)
        if fold not in self.folds:
            raise BadInput(f"{self.name} has no fold {fold!r}: choose one of {[*self.folds]}.")
        return np.flatnonzero(self.roles[fold] == PARTS.index(part))

    def standardised(self, rows):
        """The batch with each feature column at mean 0 and deviation 1 over the existing frames of `rows`.

        Columns that do not vary there become zero. Frames that do not exist stay zero, so a zero vector (the
        papers' mark of a missing frame) is the mean frame.
        """
        x = {}
        for m, values in self.batch.x.items():
            seen = values[rows][self.batch.valid[m][rows]].double()  # (frames, d_m)
            if not len(seen):
                x[m] = values
                continue
            deviation, mean = torch.std_mean(seen, 0, correction=0)
            scale = torch.where(deviation > 1e-8, 1 / deviation.clamp(min=1e-8), 0)
            x[m] = ((values - mean.float()) * scale.float()) * self.batch.valid[m].unsqueeze(-1)
        return self.batch._replace(x=x)

    def score(self, prediction, rows):
        """All metrics of the task for `prediction` of the utterances `rows`, see `metrics.score`."""
        return metrics.score(self.task, self.classes, self.batch.y.numpy()[rows], prediction)
