"""The museum of traps: each construction does what it is said to do, and the right way does not; nobody uses them."""

import ast
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, f1_score
from torch.utils.data import DataLoader

from mmkd_lib.book import traps
from mmkd_lib.data import benchmarks, metrics, missing

REAL_FILE = Path(os.environ.get("MMKD_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
TOLD = [k / 10 for k in range(1, 8)]
MOSI = [0.091, 0.182, 0.273, 0.364, 0.455, 0.545, 0.606]
MOSEI = [0.108, 0.216, 0.324, 0.432, 0.541, 0.649, 0.667]


def rng(seed=0):
    return np.random.default_rng(seed)


def test_nothing_in_the_library_imports_the_traps(root):
    for path in sorted((root / "mmkd_lib").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not any("traps" in name.split(".") for name in names), path


# --- labels and scores ------------------------------------------------------------------------------------------------


def test_the_label_counts_are_mosis():
    y = traps.mosi_test_labels()
    assert (len(y), (y < 0).sum(), (y == 0).sum(), (y > 0).sum()) == (686, 379, 30, 277)
    assert (y.min(), y.max(), len(np.unique(y))) == (-3, 3, 51)


def test_the_label_counts_are_those_of_the_real_file():
    path = REAL_FILE / "mosi-official-la.npz"
    if not path.exists():
        pytest.skip(f"needs {path.name}, which is not ours to ship: set MMKD_DATA to the folder that holds it")
    with np.load(path, allow_pickle=False) as file:
        y = file["y"][file["split"] == "test"].astype(np.float64)
    assert np.sort(y.round(4)).tolist() == traps.mosi_test_labels().tolist()


def test_swapped_f1_is_scikit_learns_with_swapped_arguments():
    for classes in (2, 3, 7):
        truth, said = rng(classes).integers(classes, size=(2, 200))
        expected = 100 * f1_score(said, truth, average="weighted", zero_division=0)
        assert traps.f1_swapped(truth, said) == pytest.approx(expected)
        assert traps.f1_swapped(truth, said) != pytest.approx(100 * f1_score(truth, said, average="weighted"))


def test_swapped_f1_rewards_always_negative():
    """73.2 instead of 42.3 on the 656 labels that are not 0; 71.2 instead of 39.3 on all, "negative or not"."""
    y = traps.mosi_test_labels()
    rated, constant = y != 0, np.full(686, -1.0)
    right = metrics.score("regression", (), y, constant)
    assert rated.sum() == 656
    assert traps.f1_swapped(y[rated] > 0, constant[rated] > 0) == pytest.approx(73.2, abs=0.05)
    assert right["f1_weighted_nonzero"] == pytest.approx(42.3, abs=0.05)
    assert traps.f1_swapped(y >= 0, constant >= 0) == pytest.approx(71.2, abs=0.05)
    assert right["f1_weighted_nonneg"] == pytest.approx(39.3, abs=0.05)


def test_zero_is_negative_in_one_rule_and_not_in_the_other():
    y = traps.mosi_test_labels()
    found = metrics.score("regression", (), y, np.zeros(686))
    assert found["acc_nonneg"] == pytest.approx(100 * accuracy_score(y >= 0, np.ones(686, bool)))
    assert found["acc_nonzero"] == pytest.approx(100 * accuracy_score(y[y != 0] > 0, np.zeros(656, bool)))
    assert (round(found["acc_nonneg"], 1), round(found["acc_nonzero"], 1)) == (44.8, 57.8)


def test_263_labels_have_another_class_and_18_are_ties():
    y = traps.mosi_test_labels()
    official = np.select([y > 2, y > 1, y > 0, y == 0, y >= -1, y >= -2], [3, 2, 1, 0, -1, -2], -3)
    assert (metrics.binned(y) == official).all()
    assert (metrics.rounded(y) != official).sum() == 263
    ties = [value for value in y if abs(value) % 1 == 0.5]
    assert len(ties) == 18
    assert [metrics.rounded(np.array([t]))[0] for t in (0.5, 1.5, 2.5, -0.5)] == [0, 2, 2, 0]  # halves to the even one


def test_no_to_everything_scores_75():
    counts = list(traps.IEMOCAP_TEST.values())
    y, no = np.repeat(np.arange(4), counts), np.zeros(sum(counts), bool)
    found = metrics.score("classification", tuple(traps.IEMOCAP_TEST), y, np.tile(no[:, None], 4))
    f1 = [100 * f1_score(y == c, no, average="weighted", zero_division=0) for c in range(4)]
    assert found["f1_weighted_mean"] == pytest.approx(np.mean(f1))
    assert (round(found["acc_mean"], 2), round(found["f1_weighted_mean"], 2)) == (75.00, 64.66)


def test_peeking_is_the_maximum_and_choosing_is_not():
    valid, test = rng(3).random((2, 6, 9))
    proper, best = traps.peeked(valid, test)
    for s in range(6):
        assert best[s] == max(test[s])
        assert proper[s] == test[s][list(valid[s]).index(max(valid[s]))]
    assert (best >= proper).all()
    assert best.mean() > proper.mean()
    same = traps.peeked(test, test)
    assert (same[0] == same[1]).all()


def test_population_deviation_understates():
    for n in (2, 3, 5, 20):
        values = rng(n).normal(size=n)
        right = np.sqrt(((values - values.mean()) ** 2).sum() / (n - 1))
        assert traps.population_deviation(values) == pytest.approx(right * np.sqrt((n - 1) / n))


@pytest.mark.parametrize("shape", [(16, 2), (16, 7), (8, 5, 4)])
def test_mean_of_elements_is_the_default_of_kl_div(shape):
    """It is batchmean over all further axes: the divisor is N * C, or N * T * C."""
    logits = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_q, p = logits[0].log_softmax(-1), logits[1].softmax(-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch itself warns of this default
        assert traps.kl_mean_of_elements(log_q, p).item() == pytest.approx(F.kl_div(log_q, p).item())
    right = F.kl_div(log_q, p, reduction="batchmean").item()
    assert traps.kl_mean_of_elements(log_q, p).item() * np.prod(shape[1:]) == pytest.approx(right)


# --- missing modalities -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batches", "realised"), [(22, MOSI), (37, MOSEI)])
def test_batch_rates_are_not_what_they_are_called(batches, realised):
    found = [traps.lost_by_batch(batches, rate).sum() / (3 * batches) for rate in TOLD]
    assert [f"{x:.3f}" for x in found] == [f"{x:.3f}" for x in realised]
    for rate in TOLD:
        lost = traps.lost_by_batch(batches, rate).tolist()
        assert len(lost) == batches
        assert lost == sorted(lost, reverse=True)  # first those that lose two, then one, then none


def test_what_the_batch_rates_say_of_the_tables():
    """Of all tables in steps of 0.1 the rows 0.6 and 0.7 are the only ones with these rates; of the others several."""

    def lost(batches, two, one):
        divisor = 20 if batches == 22 else 40
        twos = min(round(two * divisor), batches)
        return (2 * twos + min(round(one * divisor), batches - twos)) / (3 * batches)

    for row, wanted in enumerate(zip(MOSI, MOSEI, strict=True)):
        grid = [(x / 10, z / 10) for x in range(11) for z in range(11)]
        fitting = [g for g in grid if np.allclose([lost(22, *g), lost(37, *g)], wanted, atol=6e-4)]
        assert (traps.LOSE_TWO[row], traps.LOSE_ONE[row]) in fitting
        assert (len(fitting) == 1) == (row >= 5)


@pytest.mark.parametrize("batches", [1, 4, 5])
def test_up_to_five_batches_lose_nothing(batches):
    assert traps.lost_by_batch(batches, 0.7).tolist() == [0] * batches


def test_halves_of_tens_go_to_the_even_one():
    assert (traps.lost_by_batch(25, 0.7) == 2).sum() == 20
    assert (traps.lost_by_batch(35, 0.7) == 2).sum() == 35  # of a divisor of 40


def test_rate_zero_is_the_last_row():
    rows = {0.0: -1, 0.1: 0, 0.3: 2, 0.7: 6, 0.05: 0, 0.35: 2, 1 - 0.8: 0}
    assert {rate: traps.row_of(rate) for rate in rows} == rows
    assert traps.LOSE_TWO[traps.row_of(0.0)] == 1.0
    assert traps.mr_batch(686, 32, 0.0).realised == traps.mr_batch(686, 32, 0.7).realised > 0.6


def test_batch_masks_lose_as_their_batches_do():
    """The slots by utterance: all batches are full but the last, which loses nothing at these rates."""
    for rate in TOLD:
        mask = traps.mr_batch(686, 32, rate, seed=4)
        assert mask.kept.shape == (686, 3)
        assert mask.kept.dtype == bool
        assert mask.kept.any(1).all()
        assert mask.nominal == rate
        assert mask.realised == pytest.approx(32 * traps.lost_by_batch(22, rate).sum() / (3 * 686))
        assert mask.realised == pytest.approx((~mask.kept).sum() / (3 * 686))
        patterns, sizes = np.unique(mask.kept, axis=0, return_counts=True)
        rest = {tuple(p): n % 32 for p, n in zip(patterns.tolist(), sizes, strict=True)}
        assert rest.pop((True, True, True)) == 14
        assert set(rest.values()) <= {0}  # whole batches
    assert (traps.mr_batch(686, 32, 0.5, seed=4).kept == traps.mr_batch(686, 32, 0.5, seed=4).kept).all()
    assert (traps.mr_batch(686, 32, 0.5, seed=4).kept != traps.mr_batch(686, 32, 0.5, seed=5).kept).any()


def test_drop_prob_draws_one_of_six_at_every_reading():
    mask = traps.drop_prob(20_000, 0.7)
    patterns, counts = np.unique(mask.kept, axis=0, return_counts=True)
    assert len(patterns) == 7
    complete = counts[patterns.all(1)][0]
    assert complete / 20_000 == pytest.approx(0.3, abs=0.02)
    assert (abs(counts[~patterns.all(1)] / (20_000 - complete) - 1 / 6) < 0.02).all()
    assert mask.realised == pytest.approx(0.35, abs=0.01)  # half of what it is called
    again, other = traps.drop_prob(20_000, 0.7), traps.drop_prob(20_000, 0.7, reading=1)
    assert (again.kept == mask.kept).all()
    assert (other.kept != mask.kept).any()


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5, 0.66, 0.7, 0.9])
@pytest.mark.parametrize("n", [5, 686])
def test_mr_cpm_keeps_one_of_each(n, rate):
    mask = traps.mr_cpm(n, rate)
    assert mask.kept.any(1).all()
    if rate < 2 / 3:
        assert abs(mask.realised - rate) < max(0.005, 1 / n)
    else:
        assert mask.realised == pytest.approx(2 / 3)
        assert (mask.kept.sum(1) == 1).all()


def test_the_handbooks_rate_is_exact_and_its_mask_the_same_at_every_pass():
    data = benchmarks.load("synthetic-mosi", "smoke")
    rows = data.rows("test")
    for rate in (0.0, 0.1, 0.5, 0.6):
        first, second = (missing.frozen_mask(f"mr={rate}", data.batch, rows, data.mask_key) for _ in range(2))
        assert abs(first.realised["slots"] - rate) <= 0.5 / (3 * len(rows)) + 1e-9
        assert first.hash == second.hash


def test_with_workers_hardly_any_mask_is_new():
    """64 utterances, eight workers: 56 to 63 keep the mask of construction, as many as stand before item 0 in its
    worker's queue, and those of the other workers; without workers nobody does after the first epoch."""
    data, counts = traps.RedrawnAtZero(64, 0.5), set()
    for epoch in range(200):
        order = rng(epoch).permutation(64)
        drawing, mask = traps.epoch_with_workers(data, order, 8, 8)
        counts.add((drawing == 0).sum())
        place = list(order).index(0)
        assert set(np.flatnonzero(drawing == 1)) == set(order[place : 8 * (place // 8 + 1)])
        assert (mask.kept[drawing == 0] == traps.drop_prob(64, 0.5).kept[drawing == 0]).all()
        assert (mask.kept[drawing == 1] == traps.drop_prob(64, 0.5, reading=1).kept[drawing == 1]).all()
    assert counts == set(range(56, 64))
    for epoch in range(3):
        order = rng(epoch).permutation(64)
        drawing, mask = traps.epoch_with_workers(data, order, 0, 8)
        place = list(order).index(0)
        assert (drawing[order[:place]] == epoch).all()
        assert (drawing[order[place:]] == epoch + 1).all()
        assert (mask.kept[0] == traps.drop_prob(64, 0.5, reading=epoch + 1).kept[0]).all()


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)  # what a loader does on Linux
@pytest.mark.parametrize("workers", [0, 2])
def test_a_real_loader_serves_what_the_simulation_says(workers):
    """Three epochs of torch's DataLoader over the same data set: the same drawings and the same masks."""
    real, simulated = traps.RedrawnAtZero(24, 0.5), traps.RedrawnAtZero(24, 0.5)
    stale = []
    for epoch in range(3):
        order = rng(epoch + 10).permutation(24)
        loader = DataLoader(real, batch_size=4, sampler=order.tolist(), num_workers=workers)
        drawings, masks = (torch.cat(parts).numpy() for parts in zip(*loader, strict=True))
        expected, mask = traps.epoch_with_workers(simulated, order, workers, 4)
        assert drawings.tolist() == expected[order].tolist()
        assert (masks == mask.kept[order]).all()
        stale.append((drawings == 0).sum())
    assert min(stale[1:]) > 0 if workers else not any(stale[1:])
