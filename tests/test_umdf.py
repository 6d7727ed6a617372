"""UMDF against independent oracles: loops over the paper's equations in float64, and libraries that know them.

The oracles take one pair of points, or one utterance and one head of attention, at a time, without masks: an
utterance's frames are picked, not hidden. They are written from the paper, never from the code under test.
"""

import math
import statistics
from dataclasses import fields
from functools import partial
from itertools import combinations, product

import numpy as np
import pytest
import torch
from contract import (
    ALIGNED,
    EQUAL,
    TASKS,
    close,
    disturb,
    drawn,
    far,
    gradients_are_right,
    leaves,
    longer,
    losses,
    network,
    oracle_losses,
    plain_batch,
    plain_losses,
    scores,
    sequences,
    shaken,
    shape,
    some_frames,
    stacked,
    views_drawn,
    weights_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from sklearn.metrics.pairwise import rbf_kernel

from mmkd_lib.data.batch import Batch, Shape, by_length, cut
from mmkd_lib.methods import umdf
from mmkd_lib.methods.encoders import low_level
from mmkd_lib.methods.layers import ALIGN, CrossAttention, last_of
from mmkd_lib.methods.losses import jensen_shannon
from mmkd_lib.methods.umdf import (
    BANDWIDTHS,
    ESTIMATORS,
    UMDF,
    InteractionLayer,
    UMDFOptions,
    maximum_mean_discrepancy,
    paired_discrepancy,
)
from mmkd_lib.support.draws import Draws
from mmkd_lib.support.errors import BadInput

UNEQUAL = {"l": 5, "a": 7, "v": 3}
SMALL = {"width": 4, "heads": 2, "depth": 2}
brief = settings(deadline=None, max_examples=20)


# --- the paper's equations, one number, one pair or one utterance at a time ------------------------------------------

SCALES = {1: [1], 4: [2**-1.5, 2**-0.5, 2**0.5, 2**1.5], 5: [1 / 4, 1 / 2, 1, 2, 4]}  # of the kernels, around one


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def squared(x, y):
    return sum((p - q) ** 2 for p, q in zip(x, y, strict=True))


def width_by_hand(points, bandwidth):
    """Of the distances of every pair of different points; of an even number of them the lower of the middle two."""
    apart = [squared(x, y) for x, y in combinations(points, 2)]
    return {"median": statistics.median_low(apart), "mean": statistics.fmean(apart), "one": 1.0}[bandwidth]


def kernel_by_hand(x, y, width, kernels):
    return sum(math.exp(-squared(x, y) / (scale * width)) for scale in SCALES[kernels])


def mmd_by_hand(a, b, kernels=5, bandwidth="median", estimator="v-statistic"):
    """Eq. 2 by its double sums. Gretton et al. 2012 leave i = j out within a sample (their Eq. 3), or everywhere (their
    Eq. 4), where samples come in pairs."""
    width = width_by_hand(a + b, bandwidth)

    def average(one, other):
        left_out = {"v-statistic": False, "u-statistic": one is other, "without-pairs": True}[estimator]
        places = [(i, j) for i, j in product(range(len(one)), range(len(other))) if i != j or not left_out]
        return mean(kernel_by_hand(one[i], other[j], width, kernels) for i, j in places)

    return average(a, a) + average(b, b) - 2 * average(a, b)


def paired_by_hand(a, b, kernels=5, bandwidth="median"):
    """The mean over i of |phi(a_i) - phi(b_i)|^2 = k(a_i, a_i) + k(b_i, b_i) - 2 k(a_i, b_i)."""
    width = width_by_hand(a + b, bandwidth)

    def k(x, y):
        return kernel_by_hand(x, y, width, kernels)

    return mean(k(x, x) + k(y, y) - 2 * k(x, y) for x, y in zip(a, b, strict=True))


def softmax(z):
    return [math.exp(v) / sum(math.exp(w) for w in z) for v in z]


def divergence_by_hand(a, b, temperature=1.0):
    """Eq. 5 by Eq. 4: half of the sum of both divergences to the average distribution M, mean over samples."""

    def kl(p, q):
        return sum(u * math.log(u / v) for u, v in zip(p, q, strict=True))

    total = []
    for one, other in zip(a, b, strict=True):
        p, q = softmax([v / temperature for v in one]), softmax([v / temperature for v in other])
        m = [(u + v) / 2 for u, v in zip(p, q, strict=True)]
        total.append((kl(p, m) + kl(q, m)) / 2)
    return mean(total)


def linear(x, weight, bias):
    return x @ weight.T + bias


def normalised(norm, x):
    """Layer norm over the features."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def attended(attention, source, target):
    """Eq. 7 of a source (T_s, d) and a target (T_t, d), one head after the other, and their projection."""
    d, size = target.shape[-1], target.shape[-1] // attention.heads
    of_target, of_source = attention.project_target, attention.project_source
    heads = []
    for part in (slice(i, i + size) for i in range(0, d, size)):
        queries = linear(target, of_target.weight[part], of_target.bias[part])
        keys = linear(source, of_source.weight[:d][part], of_source.bias[:d][part])
        values = linear(source, of_source.weight[d:][part], of_source.bias[d:][part])
        score = (queries @ keys.T / math.sqrt(size)).exp()
        heads.append(score / score.sum(1, keepdim=True) @ values)
    return linear(torch.cat(heads, -1), *attention.project_out.parameters())


def layer_by_hand(layer, target, everything, pairs):
    """Eqs. 8-9 and the sentence below them for one utterance: Z (T, d), Z_LAV, and Z_LA, Z_LV."""
    coarse = normalised(layer.norms[0], attended(layer.coarse, everything, target) + target)
    fine = 0
    for i, pair in enumerate(pairs):
        fine = fine + normalised(layer.norms[2 + i], attended(layer.fine[i], pair, coarse) + coarse)
    first, second = layer.network[0], layer.network[2]
    network = linear(linear(fine, first.weight, first.bias).clamp(min=0), second.weight, second.bias)
    return normalised(layer.norms[1], network + fine)


def sinusoids(steps, width):
    """Vaswani et al. 2017."""
    wave = (math.sin, math.cos)
    rows = [[wave[c % 2](t / 10000 ** ((c - c % 2) / width)) for c in range(width)] for t in range(steps)]
    return torch.tensor(rows, dtype=torch.float64)


def existing(valid):
    """Places of the frames that exist; of nothing the first, which stands for it."""
    return [t for t, there in enumerate(valid.tolist()) if there] or [0]


def joint_by_hand(method, batch, n):
    """H (T, 3d) of utterance n from MCIM, and the places of its words."""
    o, names = method.options, batch.modalities
    there = {m: existing(batch.valid[m][n]) for m in names}
    low = {m: method.convolutions[m](batch.x[m][n : n + 1])[0] + sinusoids(batch.x[m].shape[1], o.width) for m in names}
    z = low
    for layer in method.layers:
        sources = {"advancing": z, "low-level": low}[o.sources]
        seen = {m: sources[m][there[m]] for m in names}
        after = {}
        for m in names:
            pairs = [torch.cat([seen[m], seen[k]]) for k in names if k != m] or [seen[m]]
            everything = torch.cat([seen[k] for k in names])
            if o.interaction == "self":
                everything, pairs = z[m][there[m]], [z[m][there[m]]] * len(pairs)
            after[m] = layer_by_hand(layer[{"target": m, "shared": "shared"}[o.weights_of]], z[m], everything, pairs)
        z = after
    steps, columns = z[names[0]].shape[0], []
    for m in names:
        if len(z[m]) == 1:
            columns.append(z[m].repeat(steps, 1))
        elif len(z[m]) == steps:
            columns.append(z[m])
        else:  # frame i of T_m lies in the bin t of T with t / T <= i / T_m < (t + 1) / T; only what exists counts
            real = [i for i in there[m] if batch.valid[m][n, i]]
            bins = [[i for i in real if i * steps // len(z[m]) == t] for t in range(steps)]
            columns.append(torch.stack([z[m][b].mean(0) if b else z[m][0] * 0 for b in bins]))
    words = torch.zeros(1, steps, dtype=torch.bool)
    words[0, there[names[0]]] = True
    return method.joint(torch.cat(columns, -1).unsqueeze(0), words)[0], there[names[0]]


def final(h, words, last):
    """What stands for a sequence (T, 3d)."""
    return {"valid": h[max(words)], "step": h[-1], "mean": h[words].mean(0)}[last]


def enhanced(h, words, layer, how):
    """Steps 1-3 of self-enhancement: the importance of each frame is its share in a softmax over the words."""
    weight = [math.exp((h[t] @ layer.weight[0] + layer.bias[0]).item()) for t in words]
    weight = [w / sum(weight) for w in weight]
    if how == "pooled":
        return sum(w * h[t] for w, t in zip(weight, words, strict=True)).unsqueeze(0), [0]
    rows = [torch.zeros_like(h[0])] * len(h)
    for w, t in zip(weight, words, strict=True):
        rows[t] = h[t] * w * {"frames": len(words), "frames-unscaled": 1}[how]
    return torch.stack(rows), words


def gate_by_hand(method, a, b):
    """mu of Eq. 10: a convolution over three frames of the two streams side by side."""
    if method.options.convolution == "2d":
        return torch.sigmoid(method.gate(torch.cat([a, b], -1).unsqueeze(0))[0])
    weight, both = method.gate.convolution.weight, torch.cat([a, b], -1)  # (3d, 6d, 3)
    mu = torch.zeros_like(a)
    for t, k in product(range(len(a)), (-1, 0, 1)):
        if 0 <= t + k < len(a):
            mu[t] += weight[:, :, k + 1] @ both[t + k]
    return 1 / (1 + (-mu).exp())


def integrated(method, a, b, words):
    """DFIM of one utterance's two representations (T, 3d): the last element of their integration."""
    o = method.options
    if o.integration == "concatenation":
        ends = torch.cat([final(h, words, o.last) for h in (a, b)])
        return linear(ends, *method.concatenation.parameters())
    layers = method.importance[0], method.importance[0 if o.stream_weights == "shared" else 1]
    (a, kept), (b, _) = (enhanced(h, words, layer, o.enhancement) for h, layer in zip((a, b), layers, strict=True))
    mu = gate_by_hand(method, a, b)
    seen = torch.zeros(1, len(a), dtype=torch.bool)
    seen[0, kept] = True
    return final(method.integration((mu * a + (1 - mu) * b).unsqueeze(0), seen)[0], kept, o.last)


def said_by_hand(method, one, other):
    """h_a, h_b, the embedding and the logits of every utterance, one after the other."""
    found = {"h_a": [], "h_b": [], "embedding": []}
    for n in range(len(one.y)):
        (a, words), (b, _) = joint_by_hand(method, one, n), joint_by_hand(method, other, n)
        found["h_a"].append(final(a, words, method.options.last))
        found["h_b"].append(final(b, words, method.options.last))
        found["embedding"].append(integrated(method, a, b, words))
    found = {name: torch.stack(rows) for name, rows in found.items()}
    return found | {"logits": responses(method, found["embedding"])}


def responses(method, h):
    """The fully-connected layers of the task, with ReLU between them."""
    parameters = [*method.head.parameters()]
    for i in range(0, len(parameters), 2):
        h = linear(h.clamp(min=0) if i else h, parameters[i], parameters[i + 1])
    return h


def task_by_hand(method, logits, y):
    if method.shape.task == "regression":
        return mean((z - score) ** 2 for (z,), score in zip(logits.tolist(), y.tolist(), strict=True))
    return mean(-math.log(softmax(z)[label]) for z, label in zip(logits.tolist(), y.tolist(), strict=True))


def losses_by_hand(method, said, y):
    """The three terms of the objective from what was said."""
    o, a, b = method.options, said["h_a"].tolist(), said["h_b"].tolist()
    features = {
        "mmd": lambda: mmd_by_hand(a, b, o.kernels, o.bandwidth, o.estimator),
        "paired-mmd": lambda: paired_by_hand(a, b, o.kernels, o.bandwidth),
        "paired-l2": lambda: mean(squared(x, y) for x, y in zip(a, b, strict=True)),
    }
    f_y = method.logits_head if o.logits_head == "separate" else lambda h: responses(method, h)
    f_a, f_b = f_y(said["h_a"]).tolist(), f_y(said["h_b"]).tolist()
    if method.shape.task == "regression":
        logits = mean((x[0] - y[0]) ** 2 for x, y in zip(f_a, f_b, strict=True))
    else:
        logits = divergence_by_hand(f_a, f_b, o.temperature)
    return {"task": task_by_hand(method, said["logits"], y), "fea": features[o.feature](), "logits": logits}


# --- small networks and batches --------------------------------------------------------------------------------------


def build(task="regression", seed=0, lengths=ALIGNED, **choices):
    return shaken(network(UMDF, shape(task, lengths), SMALL | choices, seed))


def utterances(task="regression", n=8, seed=0, lengths=ALIGNED):
    """N utterances of different lengths, padded, the second without its last modality and the third without language;
    scores in steps of 0.5 or classes."""
    names, y = [*lengths], scores(n, seed, 4)
    without = {1: names[-1:], 2: names[:1]} if n > 2 and len(names) > 1 else {}
    x, valid = sequences(n, seed, lengths, without)
    return Batch(x, dict(valid), valid, y if task == "regression" else y.abs().long())


def views_of(batch):
    """Two versions, the last utterance's with as many frames in one as in the other."""
    first, second = some_frames(batch, 100), some_frames(batch, 200)
    for m in first:
        second[m][-1] = first[m][-1]
    return {"student": batch.show(first), "second": batch.show(second)}


# --- Eqs. 1-2: maximum mean discrepancy ------------------------------------------------------------------------------

samples = pytest.mark.parametrize(("n", "width"), [(2, 1), (2, 5), (3, 2), (8, 3), (13, 4)])
kernels_and_bandwidths = pytest.mark.parametrize(("kernels", "bandwidth"), [*product((1, 5, 4), BANDWIDTHS)])


def two_samples(n, width, seed=1):
    """Two samples that differ in place and spread."""
    return drawn(n, width, seed=seed), 0.5 + 1.5 * drawn(n, width, seed=seed + 1)


@samples
@kernels_and_bandwidths
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_maximum_mean_discrepancy_is_equation_2(n, width, kernels, bandwidth, estimator):
    a, b = two_samples(n, width)
    expected = mmd_by_hand(a.tolist(), b.tolist(), kernels, bandwidth, estimator)
    close(maximum_mean_discrepancy(a, b, kernels, bandwidth, estimator), expected)


def test_the_default_is_five_kernels_the_median_and_the_printed_v_statistic():
    a, b = two_samples(6, 3)
    close(maximum_mean_discrepancy(a, b), mmd_by_hand(a.tolist(), b.tolist(), 5, "median", "v-statistic"))
    close(paired_discrepancy(a, b), paired_by_hand(a.tolist(), b.tolist(), 5, "median"))


def test_the_median_of_an_even_number_of_distances_is_the_lower_of_the_middle_two():
    """Points at 0, 1, 3, 7 on a line: squared distances 1, 4, 9, 16, 36, 49, so 9 and not 12.5."""
    a, b = torch.tensor([[0.0], [1.0]]).double(), torch.tensor([[3.0], [7.0]]).double()
    within = (2 + 2 * math.exp(-1 / 9)) / 4 + (2 + 2 * math.exp(-16 / 9)) / 4
    across = sum(math.exp(-d / 9) for d in (9, 49, 4, 36)) / 4
    close(maximum_mean_discrepancy(a, b, kernels=1), within - 2 * across)


@samples
def test_maximum_mean_discrepancy_agrees_with_scikit_learn(n, width):
    a, b = two_samples(n, width)
    gamma = 1 / width_by_hand(a.tolist() + b.tolist(), "mean")
    aa, bb, ab = (rbf_kernel(x.numpy(), y.numpy(), gamma) for x, y in ((a, a), (b, b), (a, b)))
    close(maximum_mean_discrepancy(a, b, 1, "mean"), aa.mean() + bb.mean() - 2 * ab.mean())
    off = ~np.eye(n, dtype=bool)
    unbiased = aa[off].mean() + bb[off].mean() - 2 * ab.mean()
    close(maximum_mean_discrepancy(a, b, 1, "mean", "u-statistic"), unbiased)


def expected_kernel(gap, variance, width, d):
    """E exp(-|z|^2 / w) for z = x - y ~ N(gap, variance I_d), gap along one axis. With w = 2 s^2 it is the convolution
    of two Gaussians: (s^2 / (s^2 + variance))^(d/2) exp(-gap^2 / 2 (s^2 + variance))."""
    s2 = width / 2
    return (s2 / (s2 + variance)) ** (d / 2) * math.exp(-(gap**2) / (2 * (s2 + variance)))


def discrepancy_of_gaussians(gap, one, other, d, kernels):
    """|mean phi(p) - mean phi(q)|^2 of N(0, one^2 I) and N(gap, other^2 I), bandwidth one."""
    return sum(
        expected_kernel(0, 2 * one**2, w, d)
        + expected_kernel(0, 2 * other**2, w, d)
        - 2 * expected_kernel(gap, one**2 + other**2, w, d)
        for w in SCALES[kernels]
    )


def gaussians(n, d, gap, one, other, seed):
    a, b = one * drawn(n, d, seed=seed), other * drawn(n, d, seed=seed + 1)
    b[:, 0] += gap
    return a, b


def test_the_expected_kernel_is_an_integral():
    """The closed form above against the sum over a fine grid."""
    z = np.linspace(-30, 30, 60001)
    density = np.exp(-((z - 0.7) ** 2) / (2 * 1.3)) / math.sqrt(2 * math.pi * 1.3)
    integral = (np.exp(-(z**2) / 0.5) * density).sum() * (z[1] - z[0])
    assert expected_kernel(0.7, 1.3, 0.5, 1) == pytest.approx(integral, rel=1e-9)
    assert expected_kernel(0.7, 1.3, 2.0, 3) == pytest.approx(
        expected_kernel(0.7, 1.3, 2.0, 1) * expected_kernel(0, 1.3, 2.0, 1) ** 2
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("d", "gap", "one", "other", "kernels"), [(1, 1.0, 1.0, 1.0, 5), (2, 0.0, 0.5, 1.5, 1), (3, 2.0, 0.7, 1.2, 4)]
)
def test_of_two_gaussians_the_discrepancy_is_known(estimator, d, gap, one, other, kernels):
    """Within four standard errors (blocks are independent, so their mean has a standard error) of the closed form,
    which for the V-statistic includes its bias (k(x, x) - E k(x, x')) / N within either sample."""
    n, blocks = 200, 20
    found = torch.stack(
        [
            maximum_mean_discrepancy(*gaussians(n, d, gap, one, other, 2 * i), kernels, "one", estimator)
            for i in range(blocks)
        ]
    )
    expected = discrepancy_of_gaussians(gap, one, other, d, kernels)
    if estimator == "v-statistic":
        expected += (
            sum(
                2 - expected_kernel(0, 2 * one**2, w, d) - expected_kernel(0, 2 * other**2, w, d)
                for w in SCALES[kernels]
            )
            / n
        )
    error = found.std() / math.sqrt(blocks)
    assert abs(found.mean() - expected) < 4 * error
    assert error < 0.1 * expected  # so sharp that four of them say something


@pytest.mark.parametrize("n", [2, 16, 32])
@pytest.mark.parametrize("kernels", [1, 5])
def test_small_samples_of_one_distribution(n, kernels):
    """What leaves i = j out has mean zero and is negative about half of the time; the V-statistic has mean
    2 (k(x, x) - E k(x, x')) / N and is never negative. Many small draws, four standard errors."""
    draws, d = 600, 2
    values = {
        estimator: torch.stack(
            [
                maximum_mean_discrepancy(*gaussians(n, d, 0.0, 1.0, 1.0, 2 * i), kernels, "one", estimator)
                for i in range(draws)
            ]
        )
        for estimator in ESTIMATORS
    }
    error = {estimator: v.std() / math.sqrt(draws) for estimator, v in values.items()}
    bias = 2 * sum(1 - expected_kernel(0, 2.0, w, d) for w in SCALES[kernels]) / n
    for unbiased in ("u-statistic", "without-pairs"):
        assert abs(values[unbiased].mean()) < 4 * error[unbiased]
        assert 0.3 < (values[unbiased] < 0).double().mean() < 0.8
    assert abs(values["v-statistic"].mean() - bias) < 4 * error["v-statistic"]
    assert bias > 8 * error["v-statistic"]  # so that zero, or half of it, would be noticed
    assert values["v-statistic"].min() > 0


@brief
@given(n=st.integers(2, 6), width=st.integers(1, 4), seed=st.integers(0, 10**6), bandwidth=st.sampled_from(BANDWIDTHS))
def test_maximum_mean_discrepancy_is_a_distance_of_samples_not_of_pairs(n, width, seed, bandwidth):
    """At least zero, zero of equal samples, symmetric; blind to which row of one stands beside which of the other."""
    a, b = two_samples(n, width, seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert maximum_mean_discrepancy(a, b, bandwidth=bandwidth) > 0
    close(maximum_mean_discrepancy(a, a[order], bandwidth=bandwidth), 0.0)
    for estimator in ESTIMATORS:
        value = maximum_mean_discrepancy(a, b, bandwidth=bandwidth, estimator=estimator)
        close(maximum_mean_discrepancy(b, a, bandwidth=bandwidth, estimator=estimator), value)
        close(maximum_mean_discrepancy(a[order], b[order], bandwidth=bandwidth, estimator=estimator), value)
        if estimator != "without-pairs":
            close(maximum_mean_discrepancy(a, b[order], bandwidth=bandwidth, estimator=estimator), value)


@samples
@kernels_and_bandwidths
def test_the_printed_statistic_is_one_part_in_n_of_pairs_and_the_rest_without_them(n, width, kernels, bandwidth):
    """So the estimator without pairs is the one to ask how alike the distributions are when the samples are paired:
    zero for equal pairs, where the U-statistic is too small by what the V-statistic is too large for strangers."""
    a, b = two_samples(n, width)
    value = {e: maximum_mean_discrepancy(a, b, kernels, bandwidth, e) for e in ESTIMATORS}
    pairs = paired_discrepancy(a, b, kernels, bandwidth)
    close(value["v-statistic"], pairs / n + (1 - 1 / n) * value["without-pairs"])
    equal = {e: maximum_mean_discrepancy(a, a, kernels, bandwidth, e) for e in ESTIMATORS}
    close(equal["without-pairs"], 0.0)
    assert equal["u-statistic"] < -1e-3
    rolled = maximum_mean_discrepancy(a, b.roll(1, 0), kernels, bandwidth, "without-pairs")
    assert far(rolled, value["without-pairs"])


@brief
@given(n=st.integers(2, 6), width=st.integers(1, 4), seed=st.integers(0, 10**6), bandwidth=st.sampled_from(BANDWIDTHS))
@pytest.mark.parametrize("discrepancy", [maximum_mean_discrepancy, paired_discrepancy])
def test_discrepancies_do_not_depend_on_axes_or_units(discrepancy, n, width, seed, bandwidth):
    """The same after one rotation and one translation of both samples; after a change of scale, too, where the
    bandwidth follows the data."""
    a, b = two_samples(n, width, seed)
    value = discrepancy(a, b, bandwidth=bandwidth)
    rotation, _ = torch.linalg.qr(drawn(width, width, seed=seed + 5))
    shift = 5 * drawn(width, seed=seed + 6)
    torch.testing.assert_close(
        discrepancy(a @ rotation + shift, b @ rotation + shift, bandwidth=bandwidth), value, rtol=1e-9, atol=1e-10
    )
    scaled = discrepancy(0.3 * a, 0.3 * b, bandwidth=bandwidth)
    if bandwidth == "one":
        assert far(scaled, value)
    else:
        close(scaled, value)


def with_width(discrepancy, a, b, width, kernels):
    """The loss of torch operations over all pairs, its width a constant."""

    def k(x, y):
        apart = (x.unsqueeze(1) - y.unsqueeze(0)).square().sum(-1)
        return sum((-apart / (scale * width)).exp() for scale in SCALES[kernels])

    if discrepancy is paired_discrepancy:
        return (k(a, a) + k(b, b) - 2 * k(a, b)).diagonal().mean()
    return k(a, a).mean() + k(b, b).mean() - 2 * k(a, b).mean()


@kernels_and_bandwidths
@pytest.mark.parametrize("discrepancy", [maximum_mean_discrepancy, paired_discrepancy])
def test_no_gradient_runs_through_the_bandwidth(discrepancy, kernels, bandwidth):
    samples = leaves(*two_samples(5, 3))
    width = width_by_hand(samples[0].tolist() + samples[1].tolist(), bandwidth)
    found = torch.autograd.grad(discrepancy(*samples, kernels, bandwidth), samples)
    expected = torch.autograd.grad(with_width(discrepancy, *samples, width, kernels), samples)
    for one, other in zip(found, expected, strict=True):
        assert one.abs().max() > 1e-3
        close(one, other)


@samples
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_discrepancies_have_right_gradients(n, width, estimator):
    a, b = two_samples(n, width)
    assert gradients_are_right(lambda x, y: maximum_mean_discrepancy(x, y, 5, "one", estimator), a, b)
    assert gradients_are_right(lambda x, y: paired_discrepancy(x, y, 5, "one"), a, b)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("bandwidth", ["median", "mean"])
def test_a_mostly_collapsed_sample_and_its_shuffle_are_the_same_points(precision, bandwidth):
    """With a median of zero, what rounding leaves of the distances of equal rows must not look like distances."""
    for seed in range(20):
        rows = drawn(120, seed=seed).repeat(16, 1)
        rows[13:] = drawn(3, 120, seed=seed + 100)
        rows = rows.to(precision)
        assert abs(maximum_mean_discrepancy(rows, rows.roll(5, 0), bandwidth=bandwidth)) < 0.01


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [2, 7, 64])
def test_a_collapsed_sample_has_a_finite_discrepancy_and_finite_gradients(n, precision, bandwidth):
    """All points equal: the width is zero and so are all distances."""
    points = drawn(5).to(precision).repeat(n, 1)
    for discrepancy in (maximum_mean_discrepancy, paired_discrepancy):
        a, b = leaves(points, points)
        value = discrepancy(a, b, bandwidth=bandwidth)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-5)
        assert a.grad.isfinite().all()
        assert b.grad.isfinite().all()


@pytest.mark.parametrize("bandwidth", ["median", "mean"])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_discrepancies_in_single_precision(bandwidth, offset):
    """At the paper's batch size and width, far from the origin, the second version close to the first."""
    a = drawn(128, 120, seed=3) + offset
    b = a + 0.1 * drawn(128, 120, seed=4) + 0.05
    for discrepancy in (maximum_mean_discrepancy, paired_discrepancy):
        exact, single = discrepancy(a, b, 5, bandwidth), discrepancy(a.float(), b.float(), 5, bandwidth)
        assert single.dtype == torch.float32
        assert single.item() == pytest.approx(exact.item(), rel=2e-3)
        assert exact > 1e-4


@pytest.mark.parametrize("choice", [{"bandwidth": "width"}, {"estimator": "biased"}], ids=str)
def test_an_unknown_kernel_width_or_estimator_is_refused(choice):
    with pytest.raises(BadInput, match="choose one of"):
        maximum_mean_discrepancy(*two_samples(3, 2), **choice)


# --- Eq. 3 for pairs -------------------------------------------------------------------------------------------------


@samples
@kernels_and_bandwidths
def test_paired_discrepancy_is_a_mean_over_samples(n, width, kernels, bandwidth):
    a, b = two_samples(n, width)
    expected = paired_by_hand(a.tolist(), b.tolist(), kernels, bandwidth)
    close(paired_discrepancy(a, b, kernels, bandwidth), expected)
    close(paired_discrepancy(b, a, kernels, bandwidth), expected)


@brief
@given(n=st.integers(2, 6), width=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_paired_discrepancy_is_zero_for_equal_pairs_only(n, width, seed):
    """A rolled sample has the same points, so the batch statistic is zero; its pairs are apart."""
    a, _ = two_samples(n, width, seed)
    close(paired_discrepancy(a, a), 0.0)
    assert paired_discrepancy(a, a.roll(1, 0)) > 1e-3
    close(maximum_mean_discrepancy(a, a.roll(1, 0)), 0.0)


# --- Eqs. 4-5: Jensen-Shannon divergence -----------------------------------------------------------------------------

responses_of = pytest.mark.parametrize("form", [(1, 2), (5, 3), (7, 4), (2, 3, 4)])


@responses_of
@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, 0.5])
def test_jensen_shannon_is_equation_5_and_agrees_with_scipy(form, temperature):
    """scipy's is the square root, a metric."""
    a, b = 2 * drawn(*form, seed=1), 2 * drawn(*form, seed=2)
    flat = a.flatten(0, -2).tolist(), b.flatten(0, -2).tolist()
    close(jensen_shannon(a, b, temperature), divergence_by_hand(*flat, temperature))
    p, q = ((z / temperature).softmax(-1).numpy() for z in (a, b))
    close(jensen_shannon(a, b, temperature), (jensenshannon(p, q, axis=-1) ** 2).mean())
    close(jensen_shannon(b, a, temperature), jensen_shannon(a, b, temperature))
    assert gradients_are_right(lambda x, y: jensen_shannon(x, y, temperature), a, b)


@brief
@given(seed=st.integers(0, 10**6), size=st.sampled_from([1e-3, 1, 30]), classes=st.integers(2, 5))
def test_jensen_shannon_lies_between_zero_and_log_two(seed, size, classes):
    a, b = size * drawn(4, classes, seed=seed), size * drawn(4, classes, seed=seed + 1)
    assert 0 < jensen_shannon(a, b) < math.log(2) + 1e-12
    close(jensen_shannon(a, a + 3), 0.0)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_jensen_shannon_of_certain_responses(precision):
    """With no class in common it is log 2; the gradients stay finite."""
    a, b = leaves(torch.tensor([[1e4, -1e4, 0.0]], dtype=precision), torch.tensor([[-1e4, 1e4, 0.0]], dtype=precision))
    value = jensen_shannon(a, b)
    value.backward()
    assert value.item() == pytest.approx(math.log(2), rel=1e-6)
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()


# --- Eq. 7: crossmodal attention -------------------------------------------------------------------------------------


def padding(n, steps):
    """A mask (N, T) whose rows show different numbers of frames, the first all of them, the last one."""
    return torch.arange(steps) < torch.linspace(steps, 1, n).round().long().unsqueeze(1)


@pytest.mark.parametrize(("width", "heads"), [(4, 1), (8, 2), (12, 4)])
@pytest.mark.parametrize(("source_steps", "target_steps"), [(6, 6), (9, 4), (3, 5), (1, 2)])
def test_cross_attention_agrees_with_torch(width, heads, source_steps, target_steps):
    torch.manual_seed(0)
    ours = CrossAttention(width, heads).double()
    theirs = torch.nn.MultiheadAttention(width, heads, batch_first=True).double()
    with torch.no_grad():
        for kind in ("weight", "bias"):
            parts = [getattr(part, kind) for part in (ours.project_target, ours.project_source)]
            getattr(theirs, f"in_proj_{kind}").copy_(torch.cat(parts))
            getattr(theirs.out_proj, kind).copy_(getattr(ours.project_out, kind))
    source, target, seen = (
        drawn(4, source_steps, width),
        drawn(4, target_steps, width, seed=1),
        padding(4, source_steps),
    )
    found = ours(source, target, seen)
    assert found.shape == target.shape
    close(found, theirs(target, source, source, key_padding_mask=~seen, need_weights=True)[0])
    for n in range(4):
        close(found[n], attended(ours, source[n, seen[n]], target[n]))


def test_cross_attention_with_one_head_is_equation_7():
    """No biases, no last projection: softmax(X_t W_Q W_K^T X_s^T / sqrt(d_k)) X_s W_V, number by number."""
    torch.manual_seed(1)
    layer = CrossAttention(3, 1).double()
    with torch.no_grad():
        for part in (layer.project_target, layer.project_source, layer.project_out):
            part.bias.zero_()
        layer.project_out.weight.copy_(torch.eye(3))
    w_q, (w_k, w_v) = layer.project_target.weight.T, layer.project_source.weight.T.split(3, -1)
    x_s, x_t = drawn(5, 3, seed=2), drawn(4, 3, seed=3)
    score = x_t @ w_q @ w_k.T @ x_s.T / math.sqrt(3)
    expected = [
        [sum(p * v for p, v in zip(softmax(row), column, strict=True)) for column in (x_s @ w_v).T.tolist()]
        for row in score.tolist()
    ]
    close(layer(x_s.unsqueeze(0), x_t.unsqueeze(0), torch.ones(1, 5, dtype=torch.bool))[0], expected)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(BadInput, match="3 attention heads do not divide the width 8"):
        CrossAttention(8, 3)
    with pytest.raises(BadInput, match="3 attention heads do not divide the width 8"):
        build(width=8, heads=3)


def test_last_of_is_the_last_frame_that_is_seen():
    """With holes, with padding before or behind, and with nothing: the first."""
    seen = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    x = drawn(6, 4, 3)
    expected = torch.stack([x[n, t] for n, t in enumerate([3, 1, 2, 2, 0, 0])])
    assert torch.equal(last_of(x, seen), expected)
    assert torch.equal(last_of(x[:, :1], seen[:, :1]), x[:, 0])


# --- Eqs. 8-9: one layer of interaction, and the stack of them -------------------------------------------------------


@pytest.mark.parametrize("others", [1, 2, 4])
def test_an_interaction_layer_is_equations_8_and_9(others):
    """Sources of different lengths, each with its own mask."""
    torch.manual_seed(others)
    layer = InteractionLayer(6, 3, others, 10, 0.0).double()
    with torch.no_grad():
        for p in layer.parameters():
            p += 0.3 * torch.randn_like(p)
    target, everything = drawn(3, 4, 6), (drawn(3, 9, 6, seed=1), padding(3, 9))
    pairs = [(drawn(3, 5 + i, 6, seed=2 + i), padding(3, 5 + i).flip(0)) for i in range(others)]
    found = layer(target, everything, pairs)
    for n in range(3):
        kept = [source[n, seen[n]] for source, seen in (everything, *pairs)]
        close(found[n], layer_by_hand(layer, target[n], kept[0], kept[1:]))


def test_dropout_acts_on_the_branches_of_a_layer_and_not_on_what_goes_round_them():
    """With everything dropped the attentions and the network are silent, and only the norms are left."""
    layer = InteractionLayer(6, 3, 2, 10, 1.0).double()
    target, source = drawn(2, 4, 6), (drawn(2, 9, 6, seed=1), padding(2, 9))
    coarse = normalised(layer.norms[0], target)
    fine = normalised(layer.norms[2], coarse) + normalised(layer.norms[3], coarse)
    close(layer.train()(target, source, [source, source]), normalised(layer.norms[1], fine))


NETWORKS = [
    {},
    {"sources": "low-level"},
    {"weights_of": "shared"},
    {"interaction": "self"},
    {"interaction": "self", "sources": "low-level", "depth": 3},
    {"depth": 1, "convolution": "2d"},
    {"norm": "post", "joint_depth": 2, "depth": 3},
]


@pytest.mark.parametrize("choices", NETWORKS, ids=str)
@pytest.mark.parametrize("lengths", [ALIGNED, EQUAL, UNEQUAL], ids=["aligned", "equal", "unequal"])
def test_the_joint_representation_is_the_one_of_the_text(choices, lengths):
    """Low-level representations, D layers in which every modality is the target once, and the encoder of their
    concatenation; utterances of different lengths, some without a modality."""
    method = build(lengths=lengths, align="pool-to-language", **choices).eval()
    batch = utterances(n=4, lengths=lengths)
    batch = batch.show(some_frames(batch))
    joint, words = method.represent(batch)
    assert torch.equal(words, batch.valid["l"])
    for n in range(4):
        close(joint[n], joint_by_hand(method, batch, n)[0])


@pytest.mark.parametrize("interaction", ["cross", "self"])
def test_self_attention_reads_the_target_only(interaction):
    """What the layers make of a modality depends on the others with crossmodal attention, and without it does not."""
    method, batch = build(lengths=EQUAL, interaction=interaction).eval(), utterances(lengths=EQUAL)
    seen = batch.valid
    changed = batch._replace(x=batch.x | {"a": batch.x["a"] * 2})

    def languages(some):
        z = {m: low_level(method.convolutions[m], some.x[m]) for m in "lav"}
        return method.interact(method.layers[0], "l", z["l"], z, seen)[0]

    assert torch.equal(languages(batch), languages(changed)) == (interaction == "self")


# --- Eqs. 10-11: dynamic feature integration -------------------------------------------------------------------------

INTEGRATIONS = [
    {},
    {"enhancement": "frames-unscaled"},
    {"enhancement": "pooled"},
    {"enhancement": "pooled", "last": "mean"},
    {"stream_weights": "own"},
    {"last": "step"},
    {"last": "mean"},
    {"integration": "concatenation"},
    {"integration": "concatenation", "last": "mean"},
    {"integration_depth": 2, "convolution": "2d"},
]


@pytest.mark.parametrize("choices", INTEGRATIONS, ids=str)
def test_integration_is_equations_10_and_11(choices):
    method, seen = build(**choices).eval(), padding(4, 5)
    seen[2] = seen[2].flip(0)  # padding before the words
    a, b = drawn(4, 5, 12, seed=1), drawn(4, 5, 12, seed=2)
    found = method.integrate(a, b, seen)
    assert found.shape == (4, 12)
    for n in range(4):
        close(found[n], integrated(method, a[n], b[n], existing(seen[n])))


@pytest.mark.parametrize("how", ["frames", "frames-unscaled", "pooled"])
def test_enhancement_weighs_the_words_by_a_softmax_of_their_importance(how):
    method, seen = build(enhancement=how).eval(), padding(4, 5)
    h = drawn(4, 5, 12, seed=3)
    found = method.enhance(h, seen, method.importance[0])
    for n in range(4):
        close(found[n], enhanced(h[n], existing(seen[n]), method.importance[0], how)[0])


def test_enhancement_by_equal_importance_changes_nothing():
    """Times T, frames keep their scale; without it they shrink with the length, and pooled they are their mean."""
    h, seen = drawn(3, 5, 12), padding(3, 5)
    there = seen.unsqueeze(-1)
    even = torch.nn.Linear(12, 1).double()
    torch.nn.init.zeros_(even.weight)
    counts = there.sum(1, keepdim=True)
    close(build().enhance(h, seen, even), h * there)
    close(build(enhancement="frames-unscaled").enhance(h, seen, even), h * there / counts)
    close(build(enhancement="pooled").enhance(h, seen, even), (h * there).sum(1, keepdim=True) / counts)


def test_the_network_is_as_deep_and_wide_as_its_options_say():
    method = build(width=8, heads=4, depth=3, joint_depth=2, integration_depth=4, feedforward=5, head_layers=3)
    assert [len(part) for part in (method.layers, method.joint.blocks, method.integration.blocks)] == [3, 2, 4]
    assert [part.in_features for part in method.head if isinstance(part, torch.nn.Linear)] == [24, 24, 24]
    blocks = [*method.joint.blocks, *method.integration.blocks]
    layers = [own for layer in method.layers for own in layer.values()]
    assert {block.network[0].out_features for block in blocks} == {5 * 24}
    assert {own.network[0].out_features for own in layers} == {5 * 8}
    attentions = [block.attention for block in blocks]
    attentions += [attention for own in layers for attention in (own.coarse, *own.fine)]
    assert {attention.heads for attention in attentions} == {4}
    assert {own.dropout.p for own in layers} == {block.dropout.p for block in blocks} == {0.1}


def other_gate(method, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in method.gate.parameters():
            p.copy_(3 * torch.randn_like(p))
    return method


@pytest.mark.parametrize("choices", [{}, {"enhancement": "pooled"}, {"convolution": "2d"}], ids=str)
def test_with_equal_streams_the_gate_has_no_effect(choices):
    """At test time both streams are one: mu H + (1 - mu) H = H, to the last bit."""
    method, batch = build(**choices).eval(), utterances()
    views, before = views_of(batch), method(batch).logits
    apart = method.two_streams(*views.values()).logits
    other_gate(method, 1)
    assert torch.equal(method(batch).logits, before)
    assert far(method.two_streams(*views.values()).logits, apart)


def test_with_streams_of_their_own_weights_the_gate_has_an_effect_at_test_time():
    method, batch = build(stream_weights="own").eval(), utterances()
    before = method(batch).logits
    assert far(other_gate(method, 1)(batch).logits, before)


@pytest.mark.parametrize("choices", [*INTEGRATIONS, {"interaction": "self"}], ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_inference_is_two_streams_of_one_utterance(task, choices):
    """A clone of the testing sample goes in beside it."""
    method, batch = build(task, **choices).eval(), utterances(task)
    batch = batch.show(some_frames(batch))
    one, two = method(batch), method.two_streams(batch, batch)
    close(one.logits, two.logits)
    close(one.embedding, two.embedding)
    assert torch.equal(two.extras["h_a"], two.extras["h_b"])
    assert one.logits.shape == (8, 1 if task == "regression" else 4)


def test_the_two_streams_are_told_apart():
    """mu weighs the first: exchanged versions say something else, and their representations are exchanged."""
    method, views = build().eval(), views_of(utterances())
    there, back = method.two_streams(*views.values()), method.two_streams(*reversed(views.values()))
    assert far(there.logits, back.logits)
    close(there.extras["h_a"], back.extras["h_b"])
    close(there.extras["h_b"], back.extras["h_a"])


# --- the objective as a whole ----------------------------------------------------------------------------------------

LITERAL = {spec.name: spec.metadata["printed"] for spec in fields(UMDFOptions) if spec.metadata["printed"] is not None}
TERMS = [
    *[{"feature": feature} for feature in ("paired-mmd", "paired-l2")],
    {"estimator": "u-statistic", "kernels": 4, "bandwidth": "mean"},
    {"estimator": "without-pairs"},
    {"feature": "paired-mmd", "kernels": 1, "bandwidth": "one"},
    {"bandwidth": "one", "temperature": 2.0},
    {"temperature": 4.0, "head_layers": 1},
    {"logits_head": "separate"},
    {"direction": "to-fewer", "head_layers": 3},
    {"heads": 4, "width": 8, "feedforward": 2},
]


@pytest.mark.parametrize("choices", [LITERAL, *NETWORKS, *INTEGRATIONS, *TERMS], ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_losses_are_those_of_the_paper(task, choices):
    method = build(task, **choices).eval()
    views = views_of(utterances(task, 4, seed=3))
    output = method.two_streams(views["student"], views["second"])
    said = said_by_hand(method, *views.values())
    for name, expected in said.items():
        close(getattr(output, name, None) if name in output._fields else output.extras[name], expected)
    terms, expected = losses(method, views), losses_by_hand(method, said, views["student"].y)
    assert set(terms) == {"task", "fea", "logits"}
    for name, term in terms.items():
        assert term.shape == (), name
        close(term, expected[name])
        assert abs(expected[name]) > 1e-6, name


def test_the_literal_reading_is_what_the_paper_prints():
    assert LITERAL == {
        "estimator": "v-statistic",
        "direction": "both",
        "second": "missing",
        "last": "step",
        "norm": "post",
        "convolution": "2d",
        "complete_case": "yes",
    }


def test_weights_are_those_of_the_options():
    assert weights_of(build(feature_weight=0.5, logits_weight=0.0)) == {"fea": 0.5, "logits": 0.0}
    assert weights_of(build()) == {"fea": 0.1, "logits": 1.0}


@pytest.mark.parametrize("task", TASKS)
def test_equal_versions_have_nothing_to_learn_from_each_other(task):
    """Both distillation terms are zero, and their gradients finite and zero."""
    method, view = build(task).eval(), views_of(utterances(task))["student"]
    terms = losses(method, {"student": view, "second": view})
    close(terms["fea"], 0.0)
    close(terms["logits"], 0.0)
    gradients = torch.autograd.grad(terms["fea"] + terms["logits"], [*method.joint.parameters()])
    for gradient in gradients:
        close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("choices", [{}, *TERMS[:4]], ids=str)
def test_in_both_directions_the_versions_can_be_exchanged(choices):
    """Eqs. 3 and 5 are symmetric, the task is not."""
    method, views = build("classification", **choices).eval(), views_of(utterances("classification"))
    there = losses(method, views)
    back = losses(method, {"student": views["second"], "second": views["student"]})
    close(there["fea"], back["fea"])
    close(there["logits"], back["logits"])
    assert far(there["task"], back["task"])


def slopes(method, views, term):
    """Gradient of a term to what either version shows of each utterance: name -> (N,) its largest number."""
    inputs = {name: dict(zip(view.x, leaves(*view.x.values()), strict=True)) for name, view in views.items()}
    terms = losses(method, {name: view._replace(x=inputs[name]) for name, view in views.items()})
    found = torch.autograd.grad(terms[term], [t for x in inputs.values() for t in x.values()])
    largest = torch.stack([g.abs().flatten(1).amax(1) for g in found]).unflatten(0, (2, -1)).amax(1)
    return dict(zip(views, largest, strict=True))


@pytest.mark.parametrize("term", ["fea", "logits"])
@pytest.mark.parametrize("feature", ["mmd", "paired-mmd", "paired-l2"])
@pytest.mark.parametrize("task", TASKS)
def test_to_fewer_the_version_with_more_frames_teaches_and_stays(task, feature, term):
    """Of the representation, so of whatever lies before it, only the version with fewer frames moves; of two with as
    many, the second. The numbers are those of both directions."""
    views = views_of(utterances(task, 10))
    views["student"].x["l"][-1] += views["student"].frames["l"][-1].unsqueeze(-1)  # as many frames, other values
    both, fewer = (build(task, direction=way, feature=feature).eval() for way in ("both", "to-fewer"))
    for name, value in losses(both, views).items():
        close(losses(fewer, views)[name], value)
    shown = {k: sum(f.sum(1) for f in view.frames.values()) for k, view in views.items()}
    first_moves = shown["student"] < shown["second"]
    assert set((shown["student"] - shown["second"]).sign().tolist()) == {-1, 0, 1}
    moved = slopes(fewer, views, term)
    assert torch.equal(moved["student"] > 0, first_moves)
    assert torch.equal(moved["second"] > 0, ~first_moves)
    everything = slopes(both, views, term)
    assert all((slope > 0).all() for slope in everything.values())


def test_to_fewer_moves_the_student_as_far_as_both_directions_do():
    """Half of the gradient, not another one: where a version moves, it moves as it would in both directions."""
    a, b = leaves(drawn(6, 4, seed=1), drawn(6, 4, seed=2))
    views = views_of(utterances(n=6))
    gradients = []
    for way in ("both", "to-fewer"):
        method = build(direction=way)
        gradients.append(torch.autograd.grad(method.feature_term(*method.moving((a, b), views)), [a, b]))
    for both, fewer in zip(*gradients, strict=True):
        moves = fewer.abs().sum(-1) > 0
        close(fewer[moves], both[moves])


@pytest.mark.parametrize("task", TASKS)
def test_plain_losses_are_the_task_alone(task):
    """The reference reads the same two versions; one view alone stands for both."""
    method, views = build(task).eval(), views_of(utterances(task))
    assert set(plain_losses(method, views)) == {"task"}
    assert torch.equal(plain_losses(method, views)["task"], losses(method, views)["task"])
    alone = plain_losses(method, {"student": views["student"]})["task"]
    close(alone, method.answer.loss(method(views["student"]).logits, views["student"].y))
    assert far(alone, losses(method, views)["task"])


@pytest.mark.parametrize("task", TASKS)
def test_a_certain_posterior_teaches_what_a_label_does(task):
    method, views = build(task).eval(), views_of(utterances(task))
    y = views["student"].y
    values = torch.arange(-6, 7) / 2 if task == "regression" else torch.arange(4)
    posterior = (y.unsqueeze(-1) == values).double()
    soft = method.answer.shares(posterior, values)
    assert soft.shape == (8, 1 if task == "regression" else 4)
    oracle = oracle_losses(method, views, soft)
    assert set(oracle) == {"oracle"}
    close(oracle["oracle"], losses(method, views)["task"])


@pytest.mark.parametrize("task", TASKS)
def test_a_posterior_teaches_its_shares_or_its_mean(task):
    method, views = build(task).eval(), views_of(utterances(task))
    values = torch.tensor([-3.0, 0.0, 1.0, 3.0])
    posterior = drawn(8, 4, seed=6).softmax(-1)
    soft = method.answer.shares(posterior, values)
    logits = method.two_streams(*views.values()).logits
    if task == "regression":
        means = [sum(p * v for p, v in zip(row, values.tolist(), strict=True)) for row in posterior.tolist()]
        expected = mean((z - m) ** 2 for (z,), m in zip(logits.tolist(), means, strict=True))
    else:
        expected = mean(
            -sum(p * math.log(q) for p, q in zip(row, softmax(z), strict=True))
            for row, z in zip(posterior.tolist(), logits.tolist(), strict=True)
        )
    close(oracle_losses(method, views, soft)["oracle"], expected)


def test_predictions_are_scores_or_probabilities():
    logits = drawn(6, 4)
    close(build("classification").answer.prediction(logits), [softmax(z) for z in logits.tolist()])
    assert torch.equal(build().answer.prediction(logits[:, :1]), logits[:, 0])


USED = [
    ({}, {"logits_head", "concatenation"}),
    ({"logits_head": "separate"}, {"concatenation"}),
    ({"integration": "concatenation"}, {"logits_head", "importance", "gate", "integration"}),
    ({"stream_weights": "own", "weights_of": "shared", "enhancement": "pooled"}, {"logits_head", "concatenation"}),
]


@pytest.mark.parametrize(("choices", "idle"), USED, ids=[str(choices) for choices, _ in USED])
@pytest.mark.parametrize("task", TASKS)
def test_gradients_reach_what_a_choice_uses_and_nothing_else(task, choices, idle):
    """All but the bias of the importance, which a softmax does not feel, and that of an f_y of its own for scores: it
    is the same in both versions."""
    method = build(task, dropout=0.0, lengths=EQUAL, **choices)
    sum(losses(method, views_of(utterances(task, lengths=EQUAL))).values()).backward()
    silent = {"importance.0.bias", "importance.1.bias"} | ({"logits_head.bias"} if task == "regression" else set())
    for name, p in method.named_parameters():
        reached = p.grad is not None and bool(p.grad.abs().max() > 1e-9)
        assert reached == (name.split(".")[0] not in idle and name not in silent), name
        assert p.grad is None or p.grad.isfinite().all(), name


def test_a_head_of_its_own_hears_no_label():
    """f_y apart from the task's head: the task does not reach it, and distillation does not reach the task's."""
    method = build("classification", logits_head="separate")
    terms = losses(method, views_of(utterances("classification")))
    heads = [*method.head.parameters()], [*method.logits_head.parameters()]
    for term, head in (("task", heads[1]), ("logits", heads[0])):
        gradients = torch.autograd.grad(terms[term], head, retain_graph=True, allow_unused=True)
        assert gradients == (None,) * len(head)


# --- the two versions of a training step -----------------------------------------------------------------------------


def network_of_plain(**choices):
    return UMDF(Shape(dict.fromkeys("lav", 1), dict.fromkeys("lav", 12), "regression", ()), UMDFOptions.of(**choices))


def test_the_second_version_may_be_the_complete_one():
    """The first is the one of two missing versions, so that only what stands beside it changes."""
    batch, draws = plain_batch(50), Draws((0,), 0)
    missing, complete = (
        views_drawn(network_of_plain(second=second), batch, draws) for second in ("missing", "complete")
    )
    for m in "lav":
        assert torch.equal(complete["second"].frames[m], batch.frames[m])
        assert torch.equal(complete["second"].x[m], batch.x[m])
        assert torch.equal(complete["student"].frames[m], missing["student"].frames[m])


# --- properties ------------------------------------------------------------------------------------------------------

READERS = [
    {},
    {"last": "mean", "enhancement": "pooled", "direction": "to-fewer"},
    {"last": "step", "convolution": "2d", "norm": "post"},
    {"integration": "concatenation", "interaction": "self", "feature": "paired-l2"},
    {"sources": "low-level", "weights_of": "shared", "stream_weights": "own", "align": "pool-to-language"},
]


def said(method, views):
    """Everything that a network says of two versions: logits and terms."""
    return [
        method.two_streams(*views.values()).logits,
        method(views["student"]).logits,
        *losses(method, views).values(),
    ]


@pytest.mark.parametrize("choices", READERS, ids=str)
def test_the_order_of_utterances_changes_no_term(choices):
    lengths = UNEQUAL if choices.get("align") == "pool-to-language" else ALIGNED
    method, views = build(lengths=lengths, **choices).eval(), views_of(utterances(lengths=lengths))
    order = torch.tensor([5, 2, 7, 0, 1, 6, 4, 3])
    shuffled = {name: view.take(order) for name, view in views.items()}
    before, after = losses(method, views), losses(method, shuffled)
    for name, term in before.items():
        close(after[name], term)


@pytest.mark.parametrize("choices", [*NETWORKS, *INTEGRATIONS], ids=str)
@pytest.mark.parametrize("lengths", [ALIGNED, EQUAL], ids=["aligned", "equal"])
def test_more_padding_changes_nothing_unless_the_last_step_is_taken(choices, lengths):
    """What a batch is padded to depends on the utterances beside one; only the last step of the padding feels it."""
    method, views = build(lengths=lengths, **choices).eval(), views_of(utterances(lengths=lengths))
    before, after = said(method, views), said(method, {name: longer(view, 3) for name, view in views.items()})
    if choices == {"last": "step"}:
        assert far(after[0], before[0])
        return
    for one, other in zip(before, after, strict=True):
        close(other, one)


@pytest.mark.parametrize("choices", [{}, {"last": "mean"}, {"integration": "concatenation"}, {"last": "step"}], ids=str)
def test_what_is_computed_at_padding_is_never_read(choices):
    """Sources, targets, the joint representation, the gate and the integration may hold anything beyond the words,
    unless the last step is asked for."""
    method, batch = build(lengths=EQUAL, **choices).eval(), utterances(lengths=EQUAL)
    words = batch.valid["a"]
    views, padded = (
        views_of(batch._replace(valid=dict.fromkeys(EQUAL, words), frames=dict.fromkeys(EQUAL, words))),
        ~words,
    )
    before = said(method, views)
    layers = [own for layer in method.layers for own in layer.values()]
    for part in [*method.convolutions.values(), *layers, method.joint, method.gate, method.integration]:
        disturb(part, {8: padded, 16: padded.repeat(2, 1)})
    same = [torch.equal(one, other) for one, other in zip(before, said(method, views), strict=True)]
    assert same == [choices != {"last": "step"}] * len(same)


# --- lengths and numbers of modalities -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "lengths", "fits"),
    [
        *[(how, EQUAL, True) for how in ALIGN],
        *[(how, ALIGNED, how != "refuse") for how in ALIGN],
        *[(how, UNEQUAL, how == "pool-to-language") for how in ALIGN],
    ],
)
def test_lengths_that_cannot_be_brought_together_are_refused(how, lengths, fits):
    method, batch = build(lengths=lengths, align=how).eval(), utterances(n=4, lengths=lengths)
    if not fits:
        with pytest.raises(BadInput, match=r"has [0-9]+ frames? and l has 5: align=.* choose align='pool-to-language'"):
            method(batch)
        return
    close(method(batch).logits, said_by_hand(method, batch, batch)["logits"])


@pytest.mark.parametrize(
    "lengths",
    [{"l": 5}, {"a": 1}, {"l": 4, "v": 4}, {"l": 5, "a": 5, "v": 1, "e": 5, "g": 1}, {"l": 1, "a": 1, "v": 1}],
    ids=str,
)
@pytest.mark.parametrize("choices", [{}, {"weights_of": "shared"}, {"interaction": "self"}], ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_any_number_of_modalities_will_do(task, choices, lengths):
    """With one there is no other to attend to, and it attends to itself. The bandwidth is the mean: utterances that
    show nothing are equal, and with one vector each so are most, which leaves the median at zero."""
    method = build(task, lengths=lengths, bandwidth="mean", **choices).eval()
    views = views_of(utterances(task, 4, lengths=lengths))
    said = said_by_hand(method, *views.values())
    close(method.two_streams(*views.values()).logits, said["logits"])
    for name, expected in losses_by_hand(method, said, views["student"].y).items():
        close(losses(method, views)[name], expected)
    drawn_views = views_drawn(method, stacked(utterances(task, 4, lengths=lengths)), Draws((0,), 0))
    assert all(view.modalities == tuple(lengths) for view in drawn_views.values())


# --- the printed setting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "heads", "lr", "batch", "epochs"),
    [("mosi", 10, 1e-3, 128, 100), ("mosei", 8, 1e-3, 16, 30), ("iemocap", 10, 2e-3, 32, 40)],
)
def test_the_paper_profile_is_the_experimental_setup(family, heads, lr, batch, epochs):
    choices, trained = UMDF.recipe(family, "paper")
    options = UMDFOptions.of(**choices)
    assert (options.width, options.heads, options.depth) == (40, heads, 4)
    assert trained == {"lr": lr, "batch": batch, "epochs": epochs}
    assert UMDF(shape("regression", EQUAL), options).head[0].in_features == 120  # the text's 3d


def test_families_that_the_paper_does_not_know_take_the_setting_of_mosi():
    assert UMDF.recipe("elsewhere", "paper") == UMDF.recipe("mosi", "paper")
    assert UMDF.recipe("iemocap", "small") != UMDF.recipe("iemocap", "paper")
    with pytest.raises(BadInput, match="unknown profile 'large'"):
        UMDF.recipe("mosi", "large")


# --- utterances of similar length together ---------------------------------------------------------------------------


def least_work(lengths, worth):
    """The least work of any way to cut the sorted lengths into groups, by trying all of them."""
    known = sorted(lengths)
    ways = []
    for cuts in range(2 ** (len(known) - 1)):
        ends = [i for i in range(len(known)) if i == len(known) - 1 or cuts >> i & 1]
        sizes = [end - before for before, end in zip([-1, *ends], ends, strict=False)]
        ways.append(sum(n * known[end] + worth for n, end in zip(sizes, ends, strict=True)))
    return min(ways)


@brief
@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(0, 12))
def test_groups_of_similar_length_are_those_of_least_work(lengths, worth):
    """Every utterance is in one group, none is longer than it, and no other grouping is less work."""
    frames = torch.arange(9) < torch.tensor(lengths).unsqueeze(1)
    vector = torch.ones(len(lengths), 1, dtype=torch.bool)
    valid = {"l": frames, "a": frames & (torch.arange(9) < 4), "v": vector}
    batch = Batch(
        {m: there.double().unsqueeze(-1) for m, there in valid.items()}, valid, valid, torch.zeros(len(lengths))
    )
    groups = by_length(batch, worth)
    assert sorted(row for rows, _ in groups for row in rows.tolist()) == list(range(len(lengths)))
    longest = [max(1, max(lengths[row] for row in rows.tolist())) for rows, _ in groups]
    assert [steps for _, steps in groups] == longest
    work = sum(len(rows) * steps + worth for rows, steps in groups)
    assert work == least_work([max(1, length) for length in lengths], worth)
    for rows, steps in groups:
        some = cut(batch, rows, steps)
        assert {m: some.x[m].shape[1] for m in some.x} == {"l": steps, "a": steps, "v": 1}
        assert torch.equal(some.x["l"].sum(), batch.x["l"][rows].sum())


@pytest.mark.parametrize(
    ("lengths", "leading"), [({"l": 5, "a": 7, "v": 1}, False), ({"l": 1, "a": 1}, False), ({"l": 6, "a": 6}, True)]
)
def test_other_paddings_are_left_as_they_are(lengths, leading):
    """Sequences padded to different lengths, no sequence at all, padding in front: one group of everything."""
    known = torch.arange(20).unsqueeze(1)
    valid = {m: torch.arange(steps) <= known % steps for m, steps in lengths.items()}
    valid = {m: there.flip(1) if leading else there for m, there in valid.items()}
    batch = Batch({m: there.double().unsqueeze(-1) for m, there in valid.items()}, valid, valid, torch.zeros(20))
    [(rows, steps)] = by_length(batch, 0)
    assert rows.tolist() == list(range(20))
    assert steps == max(lengths.values())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("choices", [{}, {"last": "mean"}, {"enhancement": "pooled"}, {"integration": "concatenation"}])
def test_groups_say_what_the_whole_batch_says(monkeypatch, task, choices):
    """Answers, representations and every loss term, with the rows back in their places."""
    model, batch = build(task, **choices).eval(), utterances(task, n=12)
    views = {"student": batch.show(some_frames(batch)), "second": batch.show(some_frames(batch, seed=7))}
    monkeypatch.setattr(umdf, "by_length", partial(by_length, worth=1e9))
    whole, terms = model(batch), losses(model, views)
    monkeypatch.setattr(umdf, "by_length", partial(by_length, worth=0))
    assert len(umdf.by_length(batch)) > 2
    grouped = model(batch)
    close(grouped.logits, whole.logits)
    close(grouped.embedding, whole.embedding)
    for name, value in losses(model, views).items():
        close(value, terms[name])


def test_the_literal_last_step_is_that_of_the_whole_batch(monkeypatch):
    model, batch = build(last="step").eval(), utterances(n=12)
    whole = model(batch).logits
    monkeypatch.setattr(umdf, "by_length", partial(by_length, worth=0))
    assert torch.equal(model(batch).logits, whole)
