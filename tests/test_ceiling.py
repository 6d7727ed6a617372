"""The glass box: the exact posterior against enumeration, ceilings that nobody beats, Shapley values, gap recovered."""

from functools import cache
from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from shapiq import ExactComputer
from sklearn.metrics import f1_score

from mmkd_lib.data import benchmarks, metrics
from mmkd_lib.data.missing import FIXED_SUBSETS, frozen_mask
from mmkd_lib.data.synthetic import exact, worlds
from mmkd_lib.results import tables
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import run

MANY = 20_000


@cache
def drawn(name, count=MANY, size="smoke"):
    """Fresh utterances of a world: (world, batch)."""
    known = worlds.world(name, size)
    return known, worlds.draw(known, count, ("ceiling test", name))[0]


def everything_shown(batch, modalities):
    return {m: batch.valid[m] & (m in modalities) for m in batch.modalities}


def labels(known, batch, frames):
    return exact.label_posterior(known, exact.evidence(known, batch, frames).values()).numpy()


def enumerated(known, batch, frames, i):
    """p(level | shown frames) of utterance i by summing over every latent, salience of every frame included, with the
    full Gaussian densities of the raw frames."""
    strengths, levels = known.strengths, len(known.prior)
    total = np.zeros(levels)
    for level, flip in product(range(levels), (0, 1)):
        joint = known.prior[level] * (strengths.flip if flip else 1 - strengths.flip)
        for k, m in enumerate(known.steps):
            shown = np.flatnonzero(frames[m][i].numpy())
            rho = min(strengths.salient / int(batch.valid[m][i].sum()), 1)
            told = known.embedding[known.mirror[level] if flip and m == "l" else level]
            by_modality = 0.0
            for reliable, habit in product((0, 1), range(strengths.habits)):
                weight = ((1 - strengths.unreliable) if reliable else strengths.unreliable) / strengths.habits
                loud = strengths.signal[k] * (1.0 if reliable else strengths.low)
                content = np.append(loud * told, strengths.cue[k] * (2 * flip - 1))
                for salient in product((0, 1), repeat=len(shown)):
                    term = weight
                    for t, z in zip(shown, salient, strict=True):
                        mean = (z * content + known.habits[m][habit]) @ known.directions[m]
                        density = multivariate_normal(mean, np.eye(len(mean))).pdf(batch.x[m][i, t].numpy())
                        term *= density * (rho if z else 1 - rho)
                    by_modality += term
            joint *= by_modality
        total[level] += joint
    return total / total.sum()


@pytest.mark.parametrize(
    "name", ["synthetic-iemocap-loud50", "synthetic-mosi-loud50", "synthetic-iemocap-unaligned-m4"]
)
def test_ceiling_posterior_is_the_sum_over_all_latents(name):
    """Against enumeration of level, flip, reliability, habit and the salience of each frame, to 1e-10."""
    known, batch = drawn(name, 4)
    few = {m: torch.arange(t) % 4 < 2 for m, t in known.steps.items()}  # some frames, some modalities
    for i, hidden in enumerate(["l", "a", "v", "nobody"]):
        frames = {
            m: (batch.valid[m] & few[m]) if m != hidden else torch.zeros_like(batch.valid[m]) for m in known.steps
        }
        found = exact.level_posterior(known, exact.evidence(known, batch, frames).values())
        np.testing.assert_allclose(found[i].numpy(), enumerated(known, batch, frames, i), rtol=0, atol=1e-10)


def test_ceiling_posterior_of_nothing_is_the_prior():
    known, batch = drawn("synthetic-mosi", 10)
    np.testing.assert_allclose(labels(known, batch, everything_shown(batch, "")), np.tile(known.prior, (10, 1)))


@pytest.mark.parametrize("shown", ["l", "av", "lav"])
@pytest.mark.parametrize("name", ["synthetic-mosi", "synthetic-mosei", "synthetic-iemocap"])
def test_ceiling_posterior_is_calibrated(name, shown):
    """On 20,000 draws the labels that got a probability of q come true in a share q, in each of ten bins."""
    known, batch = drawn(name)
    shares = labels(known, batch, everything_shown(batch, shown))
    true = batch.y.numpy()[:, None] == known.values
    bins = np.digitize(shares, np.linspace(0, 1, 11)[1:-1])
    for b in np.unique(bins):
        here = bins == b
        expected, variance = shares[here].sum(), (shares[here] * (1 - shares[here])).sum()
        assert abs(true[here].sum() - expected) < 4.5 * np.sqrt(variance) + 1e-9, f"bin {b}"


@pytest.mark.parametrize("name", ["synthetic-mosi", "synthetic-iemocap"])
def test_ceiling_rises_with_every_frame(name):
    """More frames never hurt the expected log score: nested masks from nothing to everything, beyond paired noise."""
    known, batch = drawn(name)
    index = np.searchsorted(known.values, batch.y.numpy())
    rows, logs = np.arange(MANY), []
    for p in (1.0, 0.8, 0.5, 0.2, 0.0):
        mask = frozen_mask(f"frames={p}", batch, rows, "f").frames
        logs.append(np.log(labels(known, batch, mask)[rows, index]))
    for fewer, more in pairwise(logs):
        gain = more - fewer
        assert gain.mean() > -3 * gain.std() / np.sqrt(MANY)
    assert (logs[-1] - logs[0]).mean() > 0.3


def test_ceiling_rule_of_f1_is_the_best_of_all_answers():
    """Expected weighted F1 by brute force over all 2^12 answers; accuracy has another rule; ties are split."""
    rng = np.random.default_rng(0)
    every = [np.array(said) for said in product((False, True), repeat=12)]

    def expected(said, q, asked):
        yes, no = (asked * q), asked * (1 - q)
        f1 = [2 * part[s].sum() / (asked[s].sum() + part.sum()) for part, s in ((yes, said), (no, ~said))]
        return (f1[0] * yes.sum() + f1[1] * no.sum()) / asked.sum()

    cases = [(rng.beta(1, 3, 12), np.ones(12), 1e-12), (np.full(12, 0.4), np.ones(12), 1e-12)]
    cases += [(rng.beta(1, 3, 12), rng.uniform(0.2, 1, 12), 1e-3)]  # unequal weights: up to one utterance
    for q, asked, slack in cases:
        found = exact.best_answers(q, asked)
        best = max(expected(said, q, asked) for said in every)
        assert expected(found["f1_weighted"], q, asked) == pytest.approx(best, abs=slack)
        assert expected(found["acc"], q, asked) < best
        assert (found["acc"] == (q > 0.5)).all()


def test_ceiling_without_information_is_that_of_a_coin():
    """Nothing shown: in weighted F1 the best answers beat every constant, in accuracy they are the best constant."""
    known, batch = drawn("synthetic-mosi")
    y = batch.y.numpy()
    found = exact.ceilings_of(known, torch.from_numpy(labels(known, batch, everything_shown(batch, ""))), y)
    floor = metrics.floor("regression", (), y)
    assert found["f1_weighted_nonzero"] > floor["f1_weighted_nonzero"] + 5
    assert found["acc_nonzero"] == pytest.approx(floor["acc_nonzero"], abs=0.01)


def test_ceiling_f1_beats_the_bayes_classifier_in_f1():
    """Bayes accuracy does not maximise F1: on weak evidence the F1 rule gains, measured on 20,000 draws."""
    known, batch = drawn("synthetic-mosei")
    shares = labels(known, batch, everything_shown(batch, "v"))
    y = batch.y.numpy()
    found = exact.ceilings_of(known, torch.from_numpy(shares), y)
    q = shares[:, known.values > 0].sum(1) / shares[:, known.values != 0].sum(1)
    kept = y != 0
    bayes = 100 * f1_score(y[kept] > 0, q[kept] > 0.5, average="weighted")
    assert found["f1_weighted_nonzero"] > bayes + 0.2


def test_ceiling_mae_is_the_medians():
    """No constant shift of the median does better on 20,000 draws."""
    known, batch = drawn("synthetic-mosi")
    shares = labels(known, batch, everything_shown(batch, "lav"))
    median = known.values[(shares.cumsum(1) >= 0.5).argmax(1)]
    mae = exact.ceilings_of(known, torch.from_numpy(shares), batch.y.numpy())["mae"]
    mean = np.abs(shares @ known.values - batch.y.numpy()).mean()
    shifted = [np.abs(np.clip(median + d, -3, 3) - batch.y.numpy()).mean() for d in (-0.5, 0.5)]
    assert mae < min(mean, *shifted)


@pytest.mark.parametrize("name", ["synthetic-mosi", "synthetic-mosei", "synthetic-iemocap"])
def test_ceiling_is_not_beaten_by_a_trained_model(store, name):
    """Oracle teaching in `small`, one seed: on the same items it is right no more often than the Bayes answers, beyond
    three standard errors of the paired difference, under any subset; and with everything shown it comes near."""
    data = benchmarks.load(name, "small")
    known, rows = data.world, data.rows("test")
    batch = data.batch.take(torch.from_numpy(rows))
    y = batch.y.numpy()
    [record] = run(plan("corrkd", name, "small", [0], "oracle"), store=store)
    for condition in FIXED_SUBSETS:
        shares = labels(known, batch, everything_shown(batch, condition.split("+")))
        said = record.predictions[f"prediction/{condition}"]
        if known.task == "regression":
            kept, yes = y != 0, shares[:, known.values > 0].sum(1) > shares[:, known.values < 0].sum(1)
            bayes, model = yes[kept] == (y[kept] > 0), (said[kept] > 0) == (y[kept] > 0)
        else:
            bayes, model = shares.argmax(1) == y, metrics.answers(said)[np.arange(len(y)), y]
        better = model.astype(float) - bayes
        assert better.mean() < 3 * better.std() / np.sqrt(len(better)), condition
    assert better.mean() > -0.15


@pytest.mark.parametrize("name", ["synthetic-mosi", "synthetic-iemocap-m4", "synthetic-mosi-m5"])
def test_ceiling_shapley_values_are_exact(name):
    """Against shapiq's exact computer for 3, 4 and 5 modalities; they sum to V(all) - V(nothing)."""
    data = benchmarks.load(name, "smoke")
    rows = data.rows("test")[:5]
    values = exact.values(data, rows)
    found = exact.shapley(values)
    names = list(found)
    total = sum(found.values())
    torch.testing.assert_close(total, values[tuple(names)] - values[()])
    for i in range(len(rows)):

        def game(coalitions, i=i):
            chosen = [tuple(m for m, inside in zip(names, c, strict=True) if inside) for c in coalitions]
            return np.array([float(values[c][i]) for c in chosen])

        expected = ExactComputer(game, n_players=len(names))("SV", 1).get_n_order_values(1)
        np.testing.assert_allclose([float(found[m][i]) for m in names], expected, atol=1e-9)


def test_ceiling_best_candidate_is_the_highest_value():
    """Among the supersets of l with one more modality, the one with the highest V*, utterance by utterance."""
    data = benchmarks.load("synthetic-mosi", "smoke")
    values = exact.values(data, data.rows("test")[:20])
    sets, best = exact.best_candidate(values, ("l",))
    assert sets == [("l", "a"), ("l", "v")]
    for i in range(20):
        assert values[sets[best[i]]][i] == max(values["l", "a"][i], values["l", "v"][i])


def scored(plain, oracle, method):
    rows = [
        ("b", system, seed, "avg", "f1", value)
        for system, found in (("plain", plain), ("oracle teaching", oracle), ("M", method))
        for seed, value in enumerate(found)
    ]
    return pd.DataFrame(rows, columns=["benchmark", "system", "seed", "condition", "metric", "value"])


def test_gap_recovered_is_a_share_of_the_known_gap():
    """Half of the gap in each seed: 0.5 with an interval that holds it; blank where there is no clear gap."""
    rng = np.random.default_rng(0)
    plain = 60 + rng.normal(size=8)
    oracle = plain + 5 + rng.normal(size=8) / 2
    method = plain + 2.5 + rng.normal(size=8) / 2
    value, low, high = tables.gap_recovered(scored(plain, oracle, method), "b", "M", "avg", "f1")
    assert value == pytest.approx((method - plain).mean() / (oracle - plain).mean())
    assert 0.3 < low < value < high < 0.7
    no_gap = scored(plain, plain + rng.normal(size=8), method)
    assert tables.gap_recovered(no_gap, "b", "M", "avg", "f1") is None
    few = scored(plain[:4], oracle[:4], method[:4])
    assert tables.gap_recovered(few, "b", "M", "avg", "f1") is None


def test_ceiling_of_scores_is_beaten_by_no_other_rule():
    """On 20,000 draws: other sensible readings of the same posterior do worse, metric by metric."""
    known, batch = drawn("synthetic-mosi")
    y, shares = batch.y.numpy(), labels(known, batch, everything_shown(batch, "lav"))
    found = exact.ceilings_of(known, torch.from_numpy(shares), y)
    mean, mode = shares @ known.values, known.values[shares.argmax(1)]
    median = known.values[(shares.cumsum(1) >= 0.5).argmax(1)]
    for name in ("acc7_rounded", "acc7_bins", "corr", "acc_nonneg", "f1_weighted_nonneg"):
        rivals = [metrics.score("regression", (), y, said)[name] for said in (mean, mode, median)]
        slack = 1e-9 if name == "corr" else 0.3  # per cent: what is best in expectation may lose on a draw
        assert found[name] >= max(rivals) - slack, name
        assert found[name] > min(rivals), name
    assert set(metrics.score("regression", (), y, mean)) <= set(found)


def test_ceiling_of_classes_is_beaten_by_no_other_rule():
    known, batch = drawn("synthetic-iemocap")
    y, shares = batch.y.numpy(), labels(known, batch, everything_shown(batch, "a"))  # faint: the prior has a say
    found = exact.ceilings_of(known, torch.from_numpy(shares), y)
    flat = metrics.score("classification", known.classes, y, shares)
    rare = metrics.score("classification", known.classes, y, shares / known.prior)
    assert found["wa"] == flat["wa"] > rare["wa"]
    assert found["ua"] > flat["ua"] + 0.5
    sharper = shares**1.3 / (shares**1.3).sum(1, keepdims=True)
    blunter = shares**0.7 / (shares**0.7).sum(1, keepdims=True)
    for p in (sharper, blunter):
        other = metrics.score("classification", known.classes, y, p)
        assert found["brier"] < other["brier"]
        assert found["nll"] < other["nll"]


def test_ceiling_without_information_has_no_correlation():
    known, batch = drawn("synthetic-mosi")
    prior = torch.from_numpy(np.tile(known.prior, (MANY, 1)))
    assert exact.ceilings_of(known, prior, batch.y.numpy())["corr"] == 0


BINARY = ("brier_binary", "nll_binary")
SOME = 6000


def perturbed(known, shares, rng):
    """Other posteriors (N, K) made of the exact one: surer, less sure, shaken, mixed with the prior or with an even
    share, of the neighbour, of nothing."""
    other = {
        "sharper": shares**1.5,
        "blunter": shares**0.6,
        "shaken": shares * rng.lognormal(0, 0.5, shares.shape),
        "shaken hard": shares * rng.lognormal(0, 1.5, shares.shape),
        "half prior": shares + known.prior,
        "half even": shares + 1 / len(known.prior),
        "tilted": shares * np.linspace(0.5, 2, len(known.prior)),
        "a neighbour's": np.roll(shares, 1, 0),
        "the marginal": np.tile(known.prior, (len(shares), 1)),
    }
    return {name: p / p.sum(1, keepdims=True) for name, p in other.items()}


@pytest.mark.parametrize("shown", ["a", "lav"])
@pytest.mark.parametrize("name", ["synthetic-mosi", "synthetic-mosei", "synthetic-iemocap"])
def test_ceiling_of_chances_is_beaten_by_no_other_posterior(name, shown):
    """On 6,000 draws the exact posterior answers yes-or-no questions with the lowest Brier score and log loss, lower
    than the shares of the labels and than anything made of it."""
    known, batch = drawn(name, SOME)
    y, shares = batch.y.numpy(), labels(known, batch, everything_shown(batch, shown))
    found = exact.ceilings_of(known, torch.from_numpy(shares), y)
    floor = metrics.floor(known.task, known.classes, y)
    for metric in BINARY:
        assert found[metric] < floor[metric]
    for what, p in perturbed(known, shares, np.random.default_rng(0)).items():
        other = exact.ceilings_of(known, torch.from_numpy(p), y)
        for metric in BINARY:
            assert found[metric] < other[metric], (what, metric)


@pytest.mark.parametrize("name", ["synthetic-mosi", "synthetic-iemocap"])
def test_ceiling_of_chances_is_what_the_posterior_expects(name):
    """By hand: the chance of a positive score among those that are not 0, or of each class; the expected Brier score is
    p (1 - p), the expected log loss the entropy of p, within 4.5 standard errors."""
    known, batch = drawn(name, SOME)
    y, shares = batch.y.numpy(), labels(known, batch, everything_shown(batch, "lav"))
    found = exact.ceilings_of(known, torch.from_numpy(shares), y)
    if known.task == "regression":
        kept, zero = y != 0, list(known.values).index(0)
        p = shares[kept, zero + 1 :].sum(1, keepdims=True) / (1 - shares[kept, zero : zero + 1])
        truth = y[kept, None] > 0
    else:
        p, truth = shares, y[:, None] == np.arange(4)
    right = np.where(truth, p, 1 - p)
    told = {"brier_binary": (1 - right) ** 2, "nll_binary": -np.log(right)}
    expected = {"brier_binary": p * (1 - p), "nll_binary": -p * np.log(p) - (1 - p) * np.log(1 - p)}
    for metric in BINARY:
        assert found[metric] == pytest.approx(told[metric].mean())
        apart = (told[metric] - expected[metric]).mean(1)
        assert abs(apart.mean()) < 4.5 * apart.std() / np.sqrt(len(apart))


def test_ceiling_of_chances_of_nothing_is_the_floor():
    """Whoever is shown nothing says the share of yes: as good as the best constant, but for the draw of the labels."""
    for name in ("synthetic-mosi", "synthetic-iemocap"):
        known, batch = drawn(name, SOME)
        y = batch.y.numpy()
        found = exact.ceilings_of(known, torch.from_numpy(np.tile(known.prior, (SOME, 1))), y)
        floor = metrics.floor(known.task, known.classes, y)
        for metric in BINARY:
            assert floor[metric] <= found[metric] == pytest.approx(floor[metric], abs=5e-4)


@pytest.mark.parametrize("name", ["synthetic-mosi", "synthetic-iemocap-m4"])
def test_ceilings_of_many_conditions_are_those_of_each(name):
    """Evidence is looked at once where modalities are missing as a whole, and the numbers are the same."""
    data = benchmarks.load(name, "smoke")
    conditions = ["l", "a+v", "l+a+v", "mr=0.3", "mr=0.7", "l+a & mr=0.5", "frames=0.5", "l & moments=0.3"]
    found = exact.ceilings_under(data, conditions)
    assert list(found) == conditions
    for condition in conditions:
        assert found[condition] == pytest.approx(exact.ceilings(data, condition), abs=1e-9), condition
