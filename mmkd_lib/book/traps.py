"""The museum of traps: constructions of public code that move the numbers of a table, kept for audits.

Each does what the code it is named after does, on labels, predictions or masks alone. Nothing in the library imports
this module, and no method or metric may; notebook 90_traps shows each beside the right way.
"""

from copy import copy
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..data.missing import MODALITIES, subsets
from ..support import paths
from ..support.draws import generator

IEMOCAP_TEST = {"happy": 135, "sad": 193, "angry": 227, "neutral": 383}  # test utterances of the usual split
LOSE_TWO = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)  # share of the batches that keep one modality, at rates 0.1 ... 0.7
LOSE_ONE = (0.1, 0.2, 0.3, 0.2, 0.1, 0.0, 0.0)  # share that keep two
PATTERNS = np.array([[m in subset.split("+") for m in MODALITIES] for subset in subsets()])  # (7, 3), complete last


def mosi_test_labels():
    """MOSI's 686 test labels in order of size, from their published counts (data/labels/mosi-test.csv)."""
    counts = pd.read_csv(paths.project_root() / "data" / "labels" / "mosi-test.csv")
    return np.repeat(counts["value"].to_numpy(), counts["count"])


# --- scores ----------------------------------------------------------------------------------------------------------


def f1_swapped(truth, said):
    """Weighted F1 (%) from `f1_score(said, truth)`, the two arguments in the wrong order.

    sum_c (share of c among what is *said*) * F1_c. F1_c is 2 hits / (support + claims), the same in both orders; the
    weights are not: a class that is said too often counts for more, one that is never said for nothing.
    """
    classes = np.unique([truth, said])
    claims = np.array([(said == c).sum() for c in classes])
    support = np.array([(truth == c).sum() for c in classes])
    hits = np.array([((said == c) & (truth == c)).sum() for c in classes])
    return 100 * float((claims * 2 * hits / (support + claims)).sum() / len(truth))


def peeked(valid, test):
    """Test scores (S,) of the epoch that is best on the validation set, and of the one that is best on the test set.

    valid, test: scores (S, E) of S runs after each of E epochs, larger is better; the first of equals is taken. The
    second is max_e test_e, never less than the first: code that evaluates on the test set after every epoch and keeps
    the maximum reports it.
    """
    return test[np.arange(len(test)), valid.argmax(1)], test.max(1)


def population_deviation(values):
    """Standard deviation of seeds with the divisor n, numpy's default: sqrt((n - 1) / n) of the one with n - 1."""
    return float(np.std(values))


def kl_mean_of_elements(log_q, p):
    """KL(p || q) as `kl_div(log_q, p)` gives it with the default reduction "mean": the mean over all N * C elements.

    (1 / NC) sum_n sum_c p (log p - log q): 1 / C of the mean over the N distributions ("batchmean"). Of (N, T, C) it
    is 1 / (T C). A loss weight in front of it is smaller by the same factor.
    """
    return (p * (p.log() - log_q)).mean()


# --- missing modalities ----------------------------------------------------------------------------------------------


class SlotMask(NamedTuple):
    """Which modalities each utterance keeps under a protocol, and the rate that was asked for."""

    kept: np.ndarray  # (N, 3) bool, columns l, a, v
    nominal: float

    @property
    def realised(self):
        """Share of the utterance-modality slots that are lost."""
        return float(1 - self.kept.mean())


def row_of(rate):
    """The row of a table for the rates 0.1 ... 0.7, as `table[int(rate * 10 - 1)]`: 0.0 gives -1, the last row."""
    return int(rate * 10 - 1)


def lost_by_batch(batches, rate):
    """How many of three modalities each batch of a pass loses under `mr-batch`, (batches,) int.

    A batch loses two while (batches that have lost two) / D < LOSE_TWO[row], else one while (batches that have lost
    one) / D < LOSE_ONE[row], else none; D = round(batches / 10) * 10 with halves to the even number. So the shares are
    of D, not of the batches; the first batches lose most; up to five batches (D = 0) lose nothing.
    The two tables are those of public code. From the realised rates alone only the rows 0.6 and 0.7 could be deduced.
    """
    divisor, row = round(batches / 10) * 10, row_of(rate)
    so_far, lost = {2: 0, 1: 0, 0: 0}, []
    for _ in range(batches if divisor else 0):
        two, one = so_far[2] / divisor < LOSE_TWO[row], so_far[1] / divisor < LOSE_ONE[row]
        lost.append(2 if two else 1 if one else 0)
        so_far[lost[-1]] += 1
    return np.array(lost or [0] * batches)


def mr_batch(n, batch_size, rate, seed=0):
    """Protocol `mr-batch`: all utterances of a batch lose the same modalities, drawn once a batch; the loader shuffles,
    in test too, and the last batch may be small. Rates 0.1 ... 0.7."""
    draws = generator("mr-batch", seed, n, batch_size)
    kept, order = np.ones((n, 3), bool), draws.permutation(n)
    for k, lost in enumerate(lost_by_batch(-(-n // batch_size), rate)):
        rows = order[k * batch_size : (k + 1) * batch_size]
        kept[np.ix_(rows, draws.permutation(3)[:lost])] = False
    return SlotMask(kept, rate)


def drop_prob(n, rate, seed=0, reading=0):
    """Protocol `drop-prob`: whenever an utterance is read it keeps, with probability `rate`, one of the six incomplete
    subsets. `reading` counts the passes: each has a mask of its own, in test too. Expected loss of slots: rate / 2."""
    draws = generator("drop-prob", seed, reading)
    pattern = np.where(draws.random(n) < rate, draws.integers(6, size=n), 6)
    return SlotMask(PATTERNS[pattern], rate)


def mr_cpm(n, rate, seed=0):
    """Protocol `mr-cpm`: every utterance keeps one modality at random, each other one with the probability that gives
    1 - rate in the mean; drawn again until the realised rate is within 0.005. Beyond 2/3 nothing more can go: 0.7 is
    0.667. (Public code corrects for the overlap of two draws where this one has none.)"""
    draws, others = generator("mr-cpm", seed, n), max((3 * (1 - rate) - 1) / 2, 0)
    while True:
        mask = SlotMask((draws.random((n, 3)) < others) | np.eye(3, dtype=bool)[draws.integers(3, size=n)], rate)
        if others == 0 or abs(mask.realised - rate) < max(0.005, 1 / n):
            return mask


class RedrawnAtZero:
    """A data set that draws its masks anew inside the item function, whenever it is asked for item 0.

    Meant as "once an epoch". A loader with workers gives each a copy: only the copy that is asked for item 0 draws, the
    others go on serving the masks of construction. An item is (which drawing, mask (3,)); drawing 0 is construction.
    """

    def __init__(self, n, rate, seed=0):
        self.n, self.rate, self.seed, self.drawing = n, rate, seed, 0
        self.kept = drop_prob(n, rate, seed).kept

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if index == 0:
            self.drawing += 1
            self.kept = drop_prob(self.n, self.rate, self.seed, self.drawing).kept
        return self.drawing, self.kept[index]


def epoch_with_workers(data, order, workers, batch_size):
    """One epoch over `data` in `order` (N,): the drawing that each utterance's mask is from, (N,), and the `SlotMask`.

    Batch k is read by the copy k mod `workers`; copies are made at the start of the epoch and thrown away after it, as
    a loader does. Without workers `data` itself is read, and remembers.
    """
    readers = [copy(data) for _ in range(workers)] or [data]
    drawing, kept = np.zeros(len(data), int), np.ones((len(data), 3), bool)
    for place, index in enumerate(order):
        drawing[index], kept[index] = readers[place // batch_size % len(readers)][index]
    return drawing, SlotMask(kept, data.rate)
