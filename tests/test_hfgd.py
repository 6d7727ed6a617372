"""HFGD against independent oracles: loops over the paper's equations in float64, and libraries that know them.

The oracles take one utterance, one pair of modalities, one segment or one cloud of points at a time, without masks:
frames that count are picked, not weighted. They are written from the paper, never from the code under test.
"""

import math
from dataclasses import fields
from itertools import permutations, product

import numpy as np
import ot
import pytest
import torch
import torch.nn.functional as F
from contract import (
    ALIGNED,
    EQUAL,
    TASKS,
    close,
    disturb,
    drawn,
    far,
    frames_of,
    gradients_are_right,
    leaves,
    longer,
    losses,
    network,
    oracle_losses,
    other_choices,
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
    with_other_values,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import jensenshannon

from mmkd_lib.data.batch import Batch, Shape, concatenate
from mmkd_lib.methods import hfgd
from mmkd_lib.methods.answers import Score
from mmkd_lib.methods.hfgd import (
    HFGD,
    SALIENCIES,
    HFGDOptions,
    Hourglass,
    Statistics,
    contrastive_alignment,
    gaussian_wasserstein,
    literal_adversary,
    mean_counted,
    reverse,
    salient_information,
    segments,
    sliced_wasserstein,
)
from mmkd_lib.methods.layers import ALIGN
from mmkd_lib.support.draws import Draws
from mmkd_lib.support.errors import BadInput

UNEQUAL = {"l": 5, "a": 7, "v": 3}
SMALL = {"width": 4, "heads": 2, "depth": 1, "segments": 2, "statistics_width": 6, "directions": 8}
LOG4 = 2 * math.log(2)
brief = settings(deadline=None, max_examples=20)


# --- the paper's equations, one number, one pair or one utterance at a time ------------------------------------------


def mean(values):
    """Of nothing, nothing."""
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def softmax(z):
    return [math.exp(v) / sum(math.exp(w) for w in z) for v in z]


def divergence(p, q):
    return sum(u * math.log(u / v) for u, v in zip(p, q, strict=True))


def linear(x, weight, bias):
    return x @ weight.T + bias


def perceptron_by_hand(layers, x):
    """Fully-connected layers with ReLU between them."""
    parameters = [*layers.parameters()]
    for i in range(0, len(parameters), 2):
        x = linear(x.clamp(min=0) if i else x, parameters[i], parameters[i + 1])
    return x


def sinusoids(steps, width):
    """Vaswani et al. 2017."""
    wave = (math.sin, math.cos)
    rows = [[wave[c % 2](t / 10000 ** ((c - c % 2) / width)) for c in range(width)] for t in range(steps)]
    return torch.tensor(rows, dtype=torch.float64)


def existing(valid):
    """Places of the frames that exist; of nothing the first, which stands for it."""
    return [t for t, there in enumerate(valid.tolist()) if there] or [0]


def brought_together(sequences, places):
    """Sequences m -> (T_m, d) at the length T of the first, and the places among T that count."""
    first = next(iter(sequences))
    steps, out, kept = len(sequences[first]), {}, {}
    for m, x in sequences.items():
        if len(x) == steps:
            out[m], kept[m] = x, places[m]
        elif len(x) == 1:
            out[m], kept[m] = x.repeat(steps, 1), places[first]
        else:  # frame i of T_m lies in the bin t of T with t / T <= i / T_m < (t + 1) / T
            bins = [[i for i in places[m] if i * steps // len(x) == t] for t in range(steps)]
            out[m] = torch.stack([x[b].mean(0) if b else x[0] * 0 for b in bins])
            kept[m] = [t for t in range(steps) if bins[t]]
    return out, kept


def hourglass_by_hand(layers, h):
    """H -> H_1 -> H_2 -> H_3 -> H~, ReLU on what a layer but the first reads, and the sums of equal widths."""
    (w_1, b_1), (w_2, b_2), (w_3, b_3), (w_4, b_4) = ((layer.weight, layer.bias) for layer in layers)
    h_1 = linear(h, w_1, b_1)
    h_2 = linear(h_1.clamp(min=0), w_2, b_2)
    h_3 = linear(h_2.clamp(min=0), w_3, b_3)
    refined = linear(h_3.clamp(min=0), w_4, b_4)
    return refined, [h + refined, h_1 + h_3, h_2]


def inside_by_hand(method, batch, n):
    """E, Q, U of utterance n, the frames that count and those that are shown, H~ and the scales, and the words."""
    o, found = method.options, {name: {} for name in ("E", "Q", "U", "places", "shown")}
    for m, x in batch.x.items():
        steps, there = x.shape[1], existing(batch.valid[m][n])
        seen = torch.zeros(1, steps, dtype=torch.bool)
        seen[0, there] = True
        features = method.convolutions[m](x[n : n + 1]) + sinusoids(steps, o.width)
        found["E"][m] = method.encoders[m](features, seen)[0]
        found["Q"][m] = perceptron_by_hand(method.sentiment[m], found["E"][m])
        found["U"][m] = perceptron_by_hand(method.modality[m], found["E"][m])
        found["places"][m] = there if o.pooling == "valid" else [*range(steps)]
        found["shown"][m] = bool(batch.frames[m][n].any())
    columns, words = brought_together(found["Q"], found["places"])
    refined, scales = hourglass_by_hand(method.hourglass.layers, torch.cat([*columns.values()], -1))
    return found | {"H~": refined, "C": scales, "words": words[next(iter(words))]}


def insides(method, *batches):
    """Of every utterance, one version after the other."""
    return [inside_by_hand(method, batch, n) for batch in batches for n in range(len(batch.y))]


def said_by_hand(method, rows):
    """h_a, h_b, the embedding and the logits of every utterance."""
    o, half = method.options, len(rows) // 2
    read = [(r["C"][0] if o.refined == "residual" else r["H~"])[r["words"]].mean(0) for r in rows]
    a, b = torch.stack(read[:half]), torch.stack(read[half:])
    embedding = (a + b) / {"mean": 2, "sum": 1}[o.streams]
    return {"h_a": a, "h_b": b, "embedding": embedding, "logits": perceptron_by_hand(method.head, embedding)}


def pieces_by_hand(method, m, row):
    """Segments of E_m: the mean of the frames of each that count, None where there is none."""
    o, low, places = method.options, row["E"][m], row["places"][m]
    if o.projection == "convolution":
        weight, low = method.projections[m].convolution.weight, torch.zeros_like(low)  # (d, d, 3)
        for t, k in product(range(len(low)), (-1, 0, 1)):
            if t + k in places:
                low[t] += weight[:, :, k + 1] @ row["E"][m][t + k]
    parts = np.array_split(np.arange(len(low)), min(o.segments, len(low)))
    inside = [[t for t in part.tolist() if t in places] for part in parts]
    return [low[part].mean(0) if part else None for part in inside]


def saliency_by_hand(method, m, pieces):
    """omega_m of every segment, zero for those without a frame."""
    o, held = method.options, [i for i, piece in enumerate(pieces) if piece is not None]
    omega = {i: method.omega[m][i].item() for i in held}
    if o.saliency == "predicted":
        omega = {i: linear(pieces[i], *method.predicted[m].parameters()).item() for i in held}
    value = {
        "softmax": math.exp,
        "predicted": math.exp,
        "clipped": lambda w: max(w, 0),
        "uniform": lambda w: 1,
        "free": lambda w: w,
    }[o.saliency]
    weights = {i: value(omega[i]) for i in held}
    total = 1 if o.saliency == "free" else sum(weights.values()) or 1
    share = len(pieces) if o.divide == "twice" else 1
    return [weights.get(i, 0) / total / share for i in range(len(pieces))]


def statistic(network, k, vector, piece):
    """F_theta of asker k, a vector and a segment: one hidden layer over both."""
    hidden = network.score.shape[1]
    inner = vector @ network.vector[k] + piece @ network.segment[:, k * hidden : (k + 1) * hidden] + network.bias[k, 0]
    return (inner.clamp(min=0) @ network.score[k] + network.offset[k]).item()


def information_by_hand(method, rows):
    """Eqs. 1 and 2: every ordered pair, every utterance, every segment. The marginal is the utterance before's."""
    o, names = method.options, tuple(rows[0]["E"])
    q = {m: [row["Q"][m][row["places"][m]].mean(0) for row in rows] for m in names}
    u = {m: [row["U"][m][row["places"][m]].mean(0) for row in rows] for m in names}
    z = {m: [torch.cat(pair) for pair in zip(q[m], u[m], strict=True)] for m in names}
    pieces = {m: [pieces_by_hand(method, m, row) for row in rows] for m in names}
    weights = {m: [saliency_by_hand(method, m, piece) for piece in pieces[m]] for m in names}

    def about(networks, vectors, a, b, k):
        network = networks[b if o.statistics == "per-pair" else "shared"]
        values = []
        for n, row in enumerate(rows):
            if o.absent == "left-out" and not (row["shown"][a] and rows[n - 1]["shown"][a] and row["shown"][b]):
                continue
            total = 0
            for weight, piece in zip(weights[b][n], pieces[b][n], strict=True):
                if piece is not None:
                    joint, marginal = (statistic(network, k, vectors[row], piece) for row in (n, n - 1))
                    total += weight * (-softplus(-joint) - softplus(marginal))
            values.append(total)
        return mean(values)

    def asker(a, b):
        """Which of the networks that ask for segments of b has the vectors of a."""
        return [m for m in names if m != b].index(a) if o.statistics == "per-pair" else 0

    inter = mean(about(method.inter, q[a], a, b, asker(a, b)) for a, b in permutations(names, 2))
    return inter, mean(about(method.intra, z[m], m, m, 0) for m in names)


def length(vector):
    return math.sqrt(sum(v * v for v in vector))


def distance(x, y):
    return length(p - q for p, q in zip(x, y, strict=True))


def contrast_by_hand(method, rows):
    """Eq. 6 as it is printed: the hinge stands inside of the sum over pairs."""
    o, names = method.options, tuple(rows[0]["E"])

    def vectors(row, side):
        if o.compared == "pooled":
            found = {m: row[side][m][row["places"][m]].mean(0).tolist() for m in names}
        else:
            together, words = brought_together(row[side], row["places"])[0], row["words"]
            found = {m: [v for t in words for v in together[m][t].tolist()] for m in names}
        return {m: [v / length(x) for v in x] for m, x in found.items()} if o.normalise == "l2" else found

    q, u = ([vectors(row, side) for row in rows] for side in "QU")

    def over(there, value):
        known = (n for n, row in enumerate(rows) if o.absent == "counted" or all(row["shown"][m] for m in there))
        return mean(value(n) for n in known)

    near = {
        (a, b): over((a, b), lambda n, a=a, b=b: distance(q[n][a], q[n][b]) ** 2) for a, b in permutations(names, 2)
    }
    far = {m: over(m, lambda n, m=m: max(0, o.margin - distance(q[n][m], u[n][m])) ** 2) for m in names}
    return mean(near[pair] + far[pair[0]] for pair in near) if near else far[names[0]]


def adversary_by_hand(method, rows):
    """Eq. 7 as it is printed, both sums over ordered pairs; or cross-entropy with the modalities as classes."""
    o, names = method.options, tuple(rows[0]["E"])
    said = [
        {m: perceptron_by_hand(method.discriminator, row["Q"][m][row["places"][m]].mean(0)).tolist() for m in names}
        for row in rows
    ]

    def over(m, value):
        known = (n for n, row in enumerate(rows) if o.absent == "counted" or row["shown"][m])
        return mean(value(said[n][m]) for n in known)

    if o.adversary == "classifier":
        return mean(over(m, lambda z, i=i: -math.log(softmax(z)[i])) for i, m in enumerate(names))
    fake = {m: over(m, lambda z: math.log(1 - 1 / (1 + math.exp(-z[0])))) for m in names}
    true = {m: over(m, lambda z: math.log(1 / (1 + math.exp(-z[0])))) for m in names}
    return mean(fake[a] + true[b] for a, b in permutations(names, 2)) if len(names) > 1 else fake["l"] + true["l"]


def sliced_by_hand(a, b, directions, order):
    """Sorted projections, one direction after the other."""
    total = []
    for way in directions.T.tolist():
        one, other = (sorted(sum(p * u for p, u in zip(x, way, strict=True)) for x in cloud) for cloud in (a, b))
        total.append(mean(abs(x - y) ** order for x, y in zip(one, other, strict=True)))
    return mean(total) ** (1 / order)


def eigenroot(s):
    """The root of a positive matrix, its rank full or not."""
    values, vectors = np.linalg.eigh(s)
    return vectors * np.sqrt(values.clip(0)) @ vectors.T


def gaussian_by_hand(a, b, root=eigenroot):
    """The closed form with roots of matrices: Dowson and Landau 1982."""
    a, b = np.array(a), np.array(b)
    (s_a, s_b), gap = (np.atleast_2d(np.cov(x.T, bias=True)) for x in (a, b)), a.mean(0) - b.mean(0)
    half = root(s_a)
    cross = root(half @ s_b @ half)
    return math.sqrt(max(0, gap @ gap + np.trace(s_a + s_b - 2 * cross)))


def feature_by_hand(method, rows, directions):
    """Eq. 10: the distances of all scales, over utterances or over the frames of each."""
    o, half, total = method.options, len(rows) // 2, 0
    for j in range(3) if o.scales == "all" else [0]:
        clouds = [(row["C"][j] if o.scales == "all" else row["H~"])[row["words"]] for row in rows]
        if o.samples == "batch":
            means = torch.stack([cloud.mean(0) for cloud in clouds])
            clouds = [means[:half], means[half:]]
        found = []
        for a, b in zip(clouds[: len(clouds) // 2], clouds[len(clouds) // 2 :], strict=True):
            a, b = a.tolist(), b.tolist()
            if o.distance == "sliced":
                found.append(sliced_by_hand(a, b, directions[j], o.order))
            elif o.distance == "gaussian":
                found.append(gaussian_by_hand(a, b))
            else:
                p, q = ([softmax(x) for x in cloud] for cloud in (a, b))
                found.append(mean((divergence(x, y) + divergence(y, x)) / 2 for x, y in zip(p, q, strict=True)))
        total += mean(found)
    return total


def task_by_hand(method, logits, y):
    o, logits, y = method.options, logits.tolist(), y.tolist()
    if method.shape.task == "regression" and o.answers == "score":
        power = {"l1": 1, "mse": 2}[o.score_loss]
        return mean(abs(z - score) ** power for (z,), score in zip(logits, y, strict=True))
    if method.shape.task == "regression":
        y = [round(min(3, max(-3, score))) + 3 for score in y]
    return mean(-math.log(softmax(z)[label]) for z, label in zip(logits, y, strict=True))


def logits_by_hand(method, said):
    """Eq. 11 by both divergences to the average distribution, or a squared difference of scores."""
    o = method.options
    head = method.head if o.logits_head == "shared" else method.logits_head
    a, b = (perceptron_by_hand(head, said[h]).tolist() for h in ("h_a", "h_b"))
    if method.shape.task == "regression" and o.answers == "score":
        return mean((p - q) ** 2 for (p,), (q,) in zip(a, b, strict=True))
    found = []
    for p, q in zip(map(softmax, a), map(softmax, b), strict=True):
        m = [(u + v) / 2 for u, v in zip(p, q, strict=True)]
        found.append((divergence(p, m) + divergence(q, m)) / 2)
    return mean(found) / {"e": 1, "2": math.log(2)}[o.log_base]


SEED = 5


def directions_by_hand(method, rows):
    """What torch draws after its generator is set to SEED: for every scale as many unit vectors."""
    torch.manual_seed(SEED)
    o = method.options
    widths = [c.shape[-1] for c in rows[0]["C"]] if o.scales == "all" else [rows[0]["H~"].shape[-1]]
    ways = [torch.randn(width, o.directions, dtype=torch.float64) for width in widths]
    return [way / way.square().sum(0).sqrt() for way in ways]


def losses_of(method, views):
    torch.manual_seed(SEED)
    return losses(method, views)


def losses_by_hand(method, rows, said, y):
    """All terms of the objective."""
    inter, intra = information_by_hand(method, rows)
    return {
        "task": task_by_hand(method, said["logits"], y),
        "inter": -inter,
        "intra": -intra,
        "ctrst": contrast_by_hand(method, rows),
        "adv": adversary_by_hand(method, rows),
        "feat": feature_by_hand(method, rows, directions_by_hand(method, rows)),
        "logits": logits_by_hand(method, said),
    }


# --- small networks and batches --------------------------------------------------------------------------------------


def build(task="regression", seed=0, lengths=ALIGNED, **choices):
    return shaken(network(HFGD, shape(task, lengths), SMALL | choices, seed), seed)


def utterances(task="regression", n=8, seed=0, lengths=ALIGNED, word_aligned=False):
    """N utterances of different lengths, padded, the second without its last modality and the third without language,
    unless they are word-aligned: as many frames in every sequence. Scores in steps of 0.5, or classes."""
    names, y = [*lengths], scores(n, seed, 4)
    without = {1: names[-1:], 2: names[:1]} if n > 2 and len(names) > 1 and not word_aligned else {}
    x, valid = sequences(n, seed, lengths, without, alike=word_aligned)
    return Batch(x, dict(valid), valid, y if task == "regression" else y.abs().long())


def views_of(batch):
    return {"student": batch.show(some_frames(batch, 100)), "second": batch.show(some_frames(batch, 200))}


# --- section 3.3: segments of time -----------------------------------------------------------------------------------


def some_seen(n, steps, seed=0):
    """A mask whose first row shows everything, the second one frame, the third nothing."""
    seen = drawn(n, steps, seed=seed) > 0
    seen[0], seen[1], seen[2] = True, torch.arange(steps) == steps // 2, False
    return seen


@pytest.mark.parametrize(
    ("steps", "count"), [(20, 10), (50, 10), (23, 10), (19, 10), (10, 10), (7, 10), (1, 10), (5, 2), (6, 1), (3, 3)]
)
def test_segments_are_means_over_equal_parts_of_time(steps, count):
    x, seen = drawn(5, steps, 3), some_seen(5, steps)
    means, held = segments(x, seen, count)
    parts = np.array_split(np.arange(steps), min(count, steps))
    assert means.shape == (5, len(parts), 3)
    assert sorted(np.concatenate(parts)) == [*range(steps)]
    for n, (i, part) in product(range(5), enumerate(parts)):
        kept = [t for t in part.tolist() if seen[n, t]]
        assert held[n, i].item() == bool(kept)
        close(means[n, i], x[n, kept].mean(0) if kept else torch.zeros(3))
    assert gradients_are_right(lambda z: segments(z, seen[:2], count)[0], x[:2, :, :1])


def test_ten_segments_of_the_papers_length_are_thirty_frames_each():
    """Every frame counts as much: moving frame t by one moves its own segment by a thirtieth, and no other."""
    x = drawn(1, 300, 1)
    before, _ = segments(x, torch.ones(1, 300, dtype=torch.bool), 10)
    for t in (0, 29, 30, 155, 299):
        after, _ = segments(x + (torch.arange(300) == t).unsqueeze(-1), torch.ones(1, 300, dtype=torch.bool), 10)
        close(after - before, (torch.arange(10) == t // 30).view(1, 10, 1).double() / 30)


@brief
@given(steps=st.integers(1, 30), count=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_frames_that_do_not_count_change_no_segment(steps, count, seed):
    x, seen = drawn(3, steps, 2, seed=seed), some_seen(3, steps, seed)
    other = torch.where(seen.unsqueeze(-1), x, 1e3 * drawn(3, steps, 2, seed=seed + 1))
    for one, two in zip(segments(x, seen, count), segments(other, seen, count), strict=True):
        assert torch.equal(one, two)


# --- Eqs. 3-4: the Jensen-Shannon estimate of information ------------------------------------------------------------


def test_salient_information_is_a_weighted_sum_of_estimates():
    joint, marginal, weight = 3 * drawn(4, 3, seed=1), 3 * drawn(4, 3, seed=2), drawn(4, 3, seed=3)
    expected = [
        sum(w * (-softplus(-j) - softplus(m)) for w, j, m in zip(*rows, strict=True))
        for rows in zip(weight.tolist(), joint.tolist(), marginal.tolist(), strict=True)
    ]
    close(salient_information(joint, marginal, weight), expected)
    close(salient_information(joint, marginal, weight[0])[0], expected[0])


@brief
@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.1, 3, 100]))
def test_information_is_never_positive_and_silence_says_minus_two_log_two(seed, size):
    joint, marginal = size * drawn(5, 4, seed=seed), size * drawn(5, 4, seed=seed + 1)
    assert (salient_information(joint, marginal, drawn(4, seed=seed + 2).abs()) <= 0).all()
    close(salient_information(0 * joint, 0 * joint, torch.full((4,), 0.25).double()), [-LOG4] * 5)
    right = salient_information(joint.abs() + 1000, -joint.abs() - 1000, torch.ones(4).double())
    assert right.abs().max() < 1e-12  # certain of everything: zero, the upper bound


def best_value(p, q):
    """2 JSD(p || q) - 2 log 2 of two tables, the supremum of Eq. 4, from the definition of JSD."""
    p, q = np.ravel(p), np.ravel(q)
    return 2 * jensenshannon(p, q) ** 2 - LOG4


COUNTS = torch.tensor([[6, 1, 1, 0], [0, 5, 0, 3], [1, 1, 5, 1]])  # how often each pair of a table with 24 rows occurs


def tables():
    """Joint distribution of COUNTS and the product of its marginals."""
    p = COUNTS.double() / COUNTS.sum()
    return p, p.sum(1, keepdim=True) * p.sum(0, keepdim=True)


def estimate(score):
    """Eq. 4 of a statistics function, a table, by `salient_information` of every row of COUNTS with every other one."""
    pairs = [(x, y) for x, y in product(range(3), range(4)) for _ in range(COUNTS[x, y])]
    joint = torch.stack([score[x, y] for x, y in pairs for _ in pairs])
    marginal = torch.stack([score[x, y] for (x, _), (_, y) in product(pairs, pairs)])
    return salient_information(joint.unsqueeze(-1), marginal.unsqueeze(-1), torch.ones(1).double()).mean()


def test_of_a_table_the_best_estimate_is_twice_the_divergence_minus_two_log_two():
    """Reached by F = log p(x, y) / (p(x) p(y)), the ratio that a cell of probability zero leaves at -inf; no other
    function does better, and its gradient there is zero."""
    p, q = tables()
    best = (p.clamp(min=1e-30) / q).log()
    assert estimate(best).item() == pytest.approx(best_value(p, q), abs=1e-9)
    assert -LOG4 < best_value(p, q) < 0
    for seed in range(10):
        assert estimate(best + 0.3 * drawn(3, 4, seed=seed)) < estimate(best)
    close(torch.autograd.grad(estimate(score := best.requires_grad_()), score)[0], torch.zeros(3, 4))
    independent = torch.zeros(3, 4).double()
    assert estimate(independent).item() == pytest.approx(best_value(q, q))


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_of_correlated_gaussians_the_best_estimate_is_known(correlation):
    """2 JSD - 2 log 2 by sums over a fine grid; the estimate from 100,000 pairs, within four standard errors."""

    def log_ratio(x, y):
        r = correlation
        return -0.5 * math.log(1 - r**2) - (r**2 * (x**2 + y**2) - 2 * r * x * y) / (2 * (1 - r**2))

    grid = np.linspace(-7, 7, 561)
    x, y = np.meshgrid(grid, grid)
    q = np.exp(-(x**2 + y**2) / 2)
    expected = best_value(q * np.exp(log_ratio(x, y)), q)
    a, noise = drawn(100_000, seed=1), drawn(100_000, seed=2)
    b = correlation * a + math.sqrt(1 - correlation**2) * noise
    scores = log_ratio(a, b), log_ratio(a.roll(1), b)
    found = salient_information(*(s.unsqueeze(-1) for s in scores), torch.ones(1).double())
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - expected) <= 4 * error + 1e-9
    assert error < 0.005


def test_a_trained_statistics_network_approaches_the_best_estimate():
    """On the table of COUNTS, its rows in another order at every step."""
    torch.manual_seed(0)
    network = Statistics(1, 3, 4, 16).double()
    pairs = [(x, y) for x, y in product(range(3), range(4)) for _ in range(COUNTS[x, y])] * 8
    one, other = (torch.tensor(part) for part in zip(*pairs, strict=True))
    vectors, pieces = torch.eye(3).double()[one], torch.eye(4).double()[other].unsqueeze(1)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)

    def exact():
        """Of every pair of values, each scored once."""
        score, _ = network(torch.eye(3).double().unsqueeze(0), torch.eye(4).double().expand(3, 4, 4))
        p, q = tables()
        return (-p * F.softplus(-score[0]) - q * F.softplus(score[0])).sum().item()

    before = exact()
    for step in range(300):
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(step))
        joint, marginal = network(vectors[order].unsqueeze(0), pieces[order])
        loss = -salient_information(joint, marginal, torch.ones(1).double()).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    best = best_value(*tables())
    assert before < best - 0.2
    assert best - 0.03 < exact() < best


@pytest.mark.parametrize("askers", [1, 3])
def test_statistics_networks_score_segments_with_their_own_vector_and_the_one_before(askers):
    """Each asker has a network of its own for its own vectors; one network serves as many askers as there are."""
    torch.manual_seed(1)
    network = Statistics(askers, 3, 2, 5).double()
    vectors, pieces = drawn(3, 4, 3, seed=1), drawn(4, 6, 2, seed=2)
    joint, marginal = network(vectors, pieces)
    assert joint.shape == marginal.shape == (3, 4, 6)
    for k, n, i in product(range(3), range(4), range(6)):
        own = min(k, askers - 1)
        close(joint[k, n, i], statistic(network, own, vectors[k, n], pieces[n, i]))
        close(marginal[k, n, i], statistic(network, own, vectors[k, n - 1], pieces[n, i]))


def test_statistics_networks_begin_as_linear_layers_over_both_inputs_do():
    """Uniform within one over the root of what a layer reads, torch's own rule."""
    torch.manual_seed(2)
    network, widest = Statistics(500, 30, 20, 40), {"score": 40**-0.5, "offset": 40**-0.5}
    for name, p in network.named_parameters():
        most = widest.get(name, 50**-0.5)
        assert 0.97 * most < p.detach().max() <= most, name
        assert -most <= p.detach().min() < -0.97 * most, name


# --- Eqs. 1-2: temporal saliency, and information over ordered pairs -------------------------------------------------

HELD = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 1]]).bool()


def weights_of_segments(kind, omega=None, **choices):
    """omega of the segments of HELD, from a network of four segments."""
    method = build(lengths=EQUAL, saliency=kind, segments=4, **choices)
    if omega is not None:
        with torch.no_grad():
            method.omega["a"].copy_(torch.tensor(omega, dtype=torch.float64))
    pieces = drawn(3, 4, 4, seed=3)
    return method, pieces, method.saliency("a", pieces, HELD)


@pytest.mark.parametrize("kind", ["softmax", "predicted", "clipped", "uniform"])
def test_saliency_is_a_weighted_average_over_the_segments_that_hold_a_frame(kind):
    omega = [0.1, 0.5, 0.4, 0.2]
    _, _, weight = weights_of_segments(kind, omega)
    close(weight.sum(-1), torch.ones(3))
    assert (weight[~HELD] == 0).all()
    assert (weight >= 0).all()
    _, _, twice = weights_of_segments(kind, omega, divide="twice")
    close(twice, weight / 4)


def test_saliency_by_hand():
    omega = [0.1, -0.3, 0.4, 0.0]
    e = [math.exp(w) for w in omega]
    expected = {
        "softmax": [[w / sum(e) for w in e], [e[0] / (e[0] + e[2]), 0, e[2] / (e[0] + e[2]), 0], [0, 0, 0, 1]],
        "clipped": [[0.2, 0, 0.8, 0], [0.2, 0, 0.8, 0], [0, 0, 0, 0]],
        "uniform": [[0.25] * 4, [0.5, 0, 0.5, 0], [0, 0, 0, 1]],
        "free": [omega, [0.1, 0, 0.4, 0], [0, 0, 0, 0.0]],
    }
    for kind, rows in expected.items():
        close(weights_of_segments(kind, omega)[2], torch.tensor(rows, dtype=torch.float64))


def test_predicted_saliency_is_a_softmax_of_scores_of_the_segments():
    method, pieces, weight = weights_of_segments("predicted")
    layer = method.predicted["a"]
    for n in range(3):
        there = [i for i in range(4) if HELD[n, i]]
        close(weight[n, there], softmax([linear(pieces[n, i], *layer.parameters()).item() for i in there]))


@pytest.mark.parametrize("kind", SALIENCIES)
def test_saliency_learns_where_it_can(kind):
    """The parameter where it weighs, the layer where it predicts, neither where all segments weigh alike."""
    method, _, weight = weights_of_segments(kind, [0.1, 0.2, 0.3, 0.4])
    parameters = [method.omega["a"], *method.predicted["a"].parameters()]
    if kind == "uniform":
        assert not weight.requires_grad
        return
    found = torch.autograd.grad(weight[0, 0], parameters, allow_unused=True)
    reached = [g is not None and bool(g.abs().max() > 1e-6) for g in found]
    assert reached == ([False, True, False] if kind == "predicted" else [True, False, False])


def test_saliency_begins_even_and_a_shorter_modality_takes_the_first_of_its_weights():
    torch.manual_seed(0)
    method = HFGD(shape("regression", UNEQUAL), HFGDOptions())
    assert {m: len(w) for m, w in method.omega.items()} == dict.fromkeys("lav", 7)  # of ten no more than frames
    for w in method.omega.values():
        torch.testing.assert_close(w.detach(), torch.full((7,), 1 / 7))
    assert len(HFGD(shape("regression", {"l": 50}), HFGDOptions()).omega["l"]) == 10
    method = build(lengths=UNEQUAL, segments=10, saliency="free")
    weight = method.saliency("v", drawn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    close(weight, method.omega["v"][:3].expand(2, 3))


def test_free_saliency_lets_the_loss_fall_without_end():
    method, views = build(lengths=EQUAL, saliency="free").eval(), views_of(utterances(lengths=EQUAL))
    values = []
    for w in (-1, -10, -1000):
        with torch.no_grad():
            for omega in method.omega.values():
                omega.fill_(w)
        values.append(losses(method, views)["inter"])
    close(values[1], 10 * values[0])
    assert values[2] < -1000


# --- Eq. 6: contrastive alignment ------------------------------------------------------------------------------------


def sides(names="lav", n=5, d=3, seed=0):
    return [{m: drawn(n, d, seed=seed + 10 * k + i) for i, m in enumerate(names)} for k in range(2)]


def printed_contrast(q, u, margin, counted):
    names, counted = tuple(q), dict(zip(q, counted, strict=True))

    def over(rows, value):
        return mean(value(n) for n in range(len(q[names[0]])) if all(rows[m][n] for m in rows))

    total = 0
    for a in names:
        for b in names:
            if a != b:
                total += over({a: counted[a], b: counted[b]}, lambda n, a=a, b=b: distance(q[a][n], q[b][n]) ** 2)
                total += over({a: counted[a]}, lambda n, a=a: max(0, margin - distance(q[a][n], u[a][n])) ** 2)
    return total / (len(names) * (len(names) - 1))


@pytest.mark.parametrize("margin", [0.7, 1.2, 4.0])
@pytest.mark.parametrize("names", ["la", "lav", "laveg"])
def test_contrastive_alignment_is_equation_6(names, margin):
    q, u = sides(names)
    everything = torch.ones(len(names), 5, dtype=torch.bool)
    expected = printed_contrast(q, u, margin, everything)
    close(contrastive_alignment(q, u, margin), expected)
    close(contrastive_alignment(q, u, margin, everything), expected)
    some = drawn(len(names), 5, seed=30) > 0
    some[0] = False
    close(contrastive_alignment(q, u, margin, some), printed_contrast(q, u, margin, some))
    assert gradients_are_right(
        lambda *t: contrastive_alignment(
            dict(zip(names, t[: len(q)], strict=True)), dict(zip(names, t[len(q) :], strict=True)), margin, some
        ),
        *q.values(),
        *u.values(),
    )


def test_contrastive_alignment_by_hand():
    """Q_l = (0, 0), Q_a = (3, 4): 25 both ways. U_l at a distance of 1 of a margin of 3, U_a of 5: 4 and 0, their mean
    counts once, not once for every other modality."""
    q = {"l": torch.tensor([[0.0, 0.0]]), "a": torch.tensor([[3.0, 4.0]])}
    u = {"l": torch.tensor([[1.0, 0.0]]), "a": torch.tensor([[3.0, 9.0]])}
    assert contrastive_alignment(q, u, 3.0).item() == 25 + 2
    assert contrastive_alignment({"l": q["l"]}, {"l": u["l"]}, 3.0).item() == 4  # one modality: the hinge alone


def test_where_both_representations_are_one_the_hinge_is_the_margin_and_has_no_direction():
    q, _ = leaves(*[drawn(3, 4)] * 2)
    value = contrastive_alignment({"l": q}, {"l": q.detach()}, 1.2)
    value.backward()
    close(value, 1.44)
    assert torch.equal(q.grad, torch.zeros_like(q))


def test_a_mean_over_rows_that_count():
    x = torch.tensor([1.0, 2.0, 6.0])
    assert mean_counted(x, None) == 3
    assert mean_counted(x, torch.tensor([True, False, True])) == 3.5
    assert mean_counted(x, torch.zeros(3, dtype=torch.bool)) == 0
    both = mean_counted(torch.stack([x, 2 * x]), torch.tensor([[True, True, False], [False, False, True]]))
    assert both.tolist() == [1.5, 12]
    assert mean_counted(torch.stack([x, 2 * x]), None).tolist() == [3, 6]


# --- Eq. 7: adversary ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["la", "lav", "laveg"])
def test_the_literal_adversary_is_equation_7(names):
    """The double sum over ordered pairs, one utterance after the other."""
    logits = {m: drawn(6, seed=i) for i, m in enumerate(names)}
    d = {m: [1 / (1 + math.exp(-z)) for z in logits[m].tolist()] for m in names}
    expected = mean(math.log(1 - d[a][n]) + math.log(d[b][n]) for a, b in permutations(names, 2) for n in range(6))
    close(literal_adversary(logits), expected)
    counted = torch.stack([torch.arange(6) >= i for i in range(len(names))])
    over = {m: mean(math.log(p) + math.log(1 - p) for p in d[m][i:]) for i, m in enumerate(names)}
    close(literal_adversary(logits, counted), mean(over.values()))


def test_the_literal_adversary_cannot_tell_modalities_and_falls_without_end():
    """Exchanged between modalities the logits say the same; at most -2 log 2, where the discriminator knows nothing."""
    logits = {m: drawn(6, seed=i) for i, m in enumerate("lav")}
    value = literal_adversary(logits)
    close(literal_adversary(dict(zip("lav", [logits[m] for m in "vla"], strict=True))), value)
    close(literal_adversary({m: 0 * z for m, z in logits.items()}), -LOG4)
    assert value < -LOG4
    assert literal_adversary({m: 1e6 * z for m, z in logits.items()}) < -1e5


def test_reversal_keeps_values_and_turns_gradients():
    x = drawn(4, 3)
    assert torch.equal(reverse(x), x)
    weight = drawn(4, 3, seed=1)
    (z,) = leaves(x)
    (reverse(z) * weight).sum().backward()
    assert torch.equal(z.grad, -weight)
    assert torch.equal(torch.vmap(reverse)(x), x)
    turned = torch.vmap(torch.func.grad(lambda z, w: (reverse(z) * w).sum()))(x, weight)
    assert torch.equal(turned, -weight)


def test_the_discriminator_learns_what_representations_unlearn():
    """Into the discriminator the gradient of cross-entropy, into what it reads its opposite."""
    method, batch = build(lengths=EQUAL).eval(), utterances(lengths=EQUAL)
    both = concatenate([*views_of(batch).values()])
    frames = method.frames(both)
    readers, read = [*method.discriminator.parameters()], [*method.sentiment.parameters()]
    value = method.adversary(method.represent(both), frames, None)
    vectors = method.vectors(method.represent(both).collaborative, frames)
    direct = mean(
        F.cross_entropy(method.discriminator(q), torch.full((len(q),), i)) for i, q in enumerate(vectors.values())
    )
    close(value, direct)
    for parameters, sign in ((readers, 1), (read, -1)):
        found = torch.autograd.grad(value, parameters, retain_graph=True)
        plain = torch.autograd.grad(direct, parameters, retain_graph=True)
        for one, other in zip(found, plain, strict=True):
            assert other.abs().max() > 1e-6
            close(one, sign * other)


def test_the_literal_adversary_has_one_sign_for_all():
    """Eq. 7 is a term that everything minimises: no gradient is reversed."""
    method, batch = build(lengths=EQUAL, adversary="literal").eval(), utterances(lengths=EQUAL)
    inside, frames = method.represent(batch), method.frames(batch)
    q = method.vectors(inside.collaborative, frames)
    direct = mean((F.logsigmoid(z := method.discriminator(x)) + F.logsigmoid(-z)).mean() for x in q.values())
    parameters = [*method.discriminator.parameters(), *method.sentiment.parameters()]
    found = torch.autograd.grad(method.adversary(inside, frames, None), parameters, retain_graph=True)
    for one, other in zip(found, torch.autograd.grad(direct, parameters), strict=True):
        close(one, other)


# --- Eq. 9: Wasserstein distances ------------------------------------------------------------------------------------

clouds_of = pytest.mark.parametrize(("n", "d"), [(1, 3), (2, 1), (3, 5), (6, 2), (9, 1), (12, 4)])


def two_clouds(n, d, seed=1):
    """Two samples that differ in place, spread and orientation."""
    return drawn(n, d, seed=seed), (0.5 + 1.5 * drawn(n, d, seed=seed + 1)) @ (0.5 * drawn(d, d, seed=seed + 2))


def unit(d, count, seed=7):
    return F.normalize(drawn(d, count, seed=seed), dim=0)


def exact_wasserstein(a, b, order=2):
    """By linear programming over all transport plans."""
    cost = ot.dist(a.numpy(), b.numpy(), "euclidean") ** order
    return ot.emd2(np.full(len(a), 1 / len(a)), np.full(len(b), 1 / len(b)), cost) ** (1 / order)


@clouds_of
@pytest.mark.parametrize("order", [1, 2])
def test_sliced_wasserstein_agrees_with_python_optimal_transport(n, d, order):
    (a, b), ways = two_clouds(n, d), unit(d, 16)
    found = sliced_wasserstein(a, b, ways, order)
    close(found, ot.sliced_wasserstein_distance(a.numpy(), b.numpy(), projections=ways.numpy(), p=order))
    close(found, sliced_by_hand(a.tolist(), b.tolist(), ways, order))


@clouds_of
def test_gaussian_wasserstein_agrees_with_its_closed_form_and_python_optimal_transport(n, d):
    """Where the cloud has fewer points than dimensions, too: the covariances have no full rank."""
    a, b = two_clouds(n, d)
    found = gaussian_wasserstein(a, b)
    assert found.item() == pytest.approx(gaussian_by_hand(a.tolist(), b.tolist()), rel=1e-6)
    if n > d:
        close(found, gaussian_by_hand(a.tolist(), b.tolist(), lambda s: np.real(sqrtm(s))))
        moments = [(x.mean(0).numpy(), np.atleast_2d(np.cov(x.numpy().T, bias=True))) for x in (a, b)]
        theirs = ot.gaussian.bures_wasserstein_distance(*(m for m, _ in moments), *(c for _, c in moments))
        close(found, theirs)


@clouds_of
@pytest.mark.parametrize("seed", [1, 20, 40])
def test_both_distances_are_at_most_the_exact_one(n, d, seed):
    """Projections move nothing further, and Gelbrich 1990: of all distributions with the same moments the normal ones
    are nearest. Below the distance of the means neither can fall by itself: the normal one has it inside."""
    a, b = two_clouds(n, d, seed)
    for order in (1, 2):
        assert sliced_wasserstein(a, b, unit(d, 40), order) <= exact_wasserstein(a, b, order) + 1e-9
    assert gaussian_wasserstein(a, b) <= exact_wasserstein(a, b) + 1e-9
    assert gaussian_wasserstein(a, b) >= distance(a.mean(0).tolist(), b.mean(0).tolist()) - 1e-9


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_on_a_line_sliced_wasserstein_is_exact(n, order):
    a, b = drawn(n, 1), drawn(n, 1, seed=1) ** 3
    for ways in (torch.ones(1, 1), torch.tensor([[1.0, -1.0]])):
        found = sliced_wasserstein(a, b, ways.double(), order)
        assert found.item() == pytest.approx(exact_wasserstein(a, b, order), rel=1e-9)


@clouds_of
def test_a_translated_cloud_is_as_far_as_the_translation(n, d):
    """Exactly along the direction of the translation; the other distances agree."""
    a, step = drawn(n, d), 2 * drawn(d, seed=3)
    size = length(step.tolist())
    for order in (1, 2):
        close(sliced_wasserstein(a, a + step, (step / size).unsqueeze(-1), order), size)
        assert exact_wasserstein(a, a + step, order) == pytest.approx(size)
    assert gaussian_wasserstein(a, a + step).item() == pytest.approx(size, rel=1e-9)
    basis, _ = torch.linalg.qr(drawn(d, d, seed=4))
    close(sliced_wasserstein(a, a + step, basis), size / math.sqrt(d))  # the squared shares of a basis have mean 1 / d


@brief
@given(n=st.integers(1, 7), d=st.integers(1, 5), seed=st.integers(0, 10**6), order=st.sampled_from([1, 2]))
def test_distances_are_of_samples_not_of_pairs(n, d, seed, order):
    """Symmetric; blind to which row of one stands beside which of the other; zero of the same points; of a changed
    unit as much larger."""
    (a, b), ways = two_clouds(n, d, seed), unit(d, 6, seed)
    shuffle = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for found in (lambda x, y: sliced_wasserstein(x, y, ways, order), gaussian_wasserstein):
        value = found(a, b)
        assert value > 1e-3 or n == 1
        for same in (found(b, a), found(a, b[shuffle]), found(a[shuffle], b), found(3 * a, 3 * b) / 3):
            torch.testing.assert_close(same, value, rtol=1e-6, atol=1e-7)
        assert found(a, a[shuffle]) < 1e-6


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "d"), [(1, 3), (6, 2), (3, 8), (64, 40)])
def test_equal_samples_have_no_distance_and_no_gradient(n, d, precision):
    """Nor have collapsed ones; everything stays finite."""
    ways = unit(d, 8).to(precision)
    for points in (drawn(n, d).to(precision), drawn(1, d).to(precision).expand(n, d)):
        for order in (1, 2):
            a, b = leaves(points, points)
            value = sliced_wasserstein(a, b, ways, order)
            value.backward()
            assert value < 1e-15
            assert torch.equal(a.grad, torch.zeros_like(a))
            assert torch.equal(b.grad, torch.zeros_like(b))
        a, b = leaves(points, points)
        value = gaussian_wasserstein(a, b)
        value.backward()
        small = 1e-2 if precision == torch.float32 else 1e-6
        assert value < small
        assert a.grad.abs().max() < small
        assert b.grad.abs().max() < small


@pytest.mark.parametrize(("n", "d"), [(6, 2), (3, 5), (2, 1), (1, 3)])
@pytest.mark.parametrize("order", [1, 2])
def test_distances_have_right_gradients(n, d, order):
    (a, b), ways = two_clouds(n, d), unit(d, 4)
    assert gradients_are_right(lambda x, y: sliced_wasserstein(x, y, ways, order), a, b)
    assert gradients_are_right(gaussian_wasserstein, a, b)


def padded_clouds(seed=1):
    """Clouds (4, 7, 3) of which five, one, seven and three rows count, wild numbers in the others."""
    seen = torch.arange(7) < torch.tensor([5, 1, 7, 3]).unsqueeze(-1)
    seen[0] = seen[0].flip(0)  # padding in front
    one, other = drawn(4, 7, 3, seed=seed), 1 + 2 * drawn(4, 7, 3, seed=seed + 1)
    return one, other, seen


@pytest.mark.parametrize("order", [1, 2])
def test_only_rows_that_count_are_moved(order):
    """Every cloud of a batch by itself, whatever stands in the other rows."""
    one, other, seen = padded_clouds()
    ways = unit(3, 5)
    for found in (
        lambda x, y, s=None: sliced_wasserstein(x, y, ways, order, s),
        lambda x, y, s=None: gaussian_wasserstein(x, y, s),
    ):
        values = found(one, other, seen)
        assert values.shape == (4,)
        close(values, torch.stack([found(a[s], b[s]) for a, b, s in zip(one, other, seen, strict=True)]))
        close(found(one, other), torch.stack([found(a, b) for a, b in zip(one, other, strict=True)]))
        hidden = ~seen.unsqueeze(-1)
        wild = found(one + 1e3 * hidden * one, other - 1e3 * hidden * other.flip(1), seen)
        close(wild, values)
        inputs = leaves(one, other)
        for gradient in torch.autograd.grad(found(*inputs, seen).sum(), inputs):
            assert gradient.isfinite().all()
            assert (gradient[~seen] == 0).all()
            assert gradient[seen].abs().max() > 1e-3


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_one_point_each_is_as_far_as_the_points_are(precision):
    a, b = (x.to(precision) for x in (torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])))
    assert gaussian_wasserstein(a, b).item() == pytest.approx(5)
    ways = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=precision)
    assert sliced_wasserstein(a, b, ways, 1).item() == pytest.approx(3.5)
    assert sliced_wasserstein(a, b, ways, 2).item() == pytest.approx(math.sqrt(12.5))


# --- section 3.5: the hourglass --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "names"), [(4, 3), (3, 1), (2, 5)])
def test_the_hourglass_narrows_to_the_width_and_adds_equal_scales(width, names):
    """3d - 2d - d - 2d - 3d; C_1 = H + H~, C_2 = H_1 + H_3, C_3 = H_2."""
    torch.manual_seed(0)
    hourglass, joint = Hourglass(width, names * width).double(), drawn(2, 6, names * width)
    forms = [tuple(layer.weight.shape) for layer in hourglass.layers]
    d, wide = width, names * width
    assert forms == [(2 * d, wide), (d, 2 * d), (2 * d, d), (wide, 2 * d)]
    refined, scales = hourglass(joint)
    assert [tuple(c.shape) for c in scales] == [(2, 6, wide), (2, 6, 2 * d), (2, 6, d)]
    expected, by_hand = hourglass_by_hand(hourglass.layers, joint)
    close(refined, expected)
    for c, other in zip(scales, by_hand, strict=True):
        close(c, other)


def test_the_first_and_the_last_layer_of_the_hourglass_pass_negative_numbers():
    """With weights of one and no biases, H = -1 arrives at H_1 as it is, and is cut where the next layer reads it."""
    hourglass = Hourglass(1, 1)
    with torch.no_grad():
        for layer, bias in zip(hourglass.layers, (0, 0, 0, -3), strict=True):
            layer.weight.fill_(1)
            layer.bias.fill_(bias)
    refined, (c_1, c_2, c_3) = hourglass(torch.tensor([[-1.0]]))
    assert (refined.tolist(), c_1.tolist(), c_2.tolist(), c_3.tolist()) == ([[-3]], [[-4]], [[-1, -1]], [[0]])
    refined, (c_1, c_2, c_3) = hourglass(torch.tensor([[1.0]]))
    assert (refined.tolist(), c_1.tolist(), c_2.tolist(), c_3.tolist()) == ([[1]], [[2]], [[3, 3]], [[2]])


# --- the network, and the objective as a whole -----------------------------------------------------------------------

SPECS = {spec.name: spec for spec in fields(HFGDOptions)}
LITERAL = {spec.name: spec.metadata["printed"] for spec in SPECS.values() if spec.metadata["printed"] is not None}


CHOICES = [*other_choices(HFGDOptions, SMALL)]
TOGETHER = [
    {"distance": "gaussian", "samples": "frames"},
    {"distance": "kl", "samples": "frames"},
    {"samples": "frames", "order": 1, "scales": "last"},
    {"distance": "gaussian", "scales": "last"},
    {"distance": "kl", "scales": "last"},
    {"statistics": "shared", "saliency": "predicted", "divide": "twice", "projection": "convolution"},
    {"absent": "left-out", "adversary": "literal", "statistics": "shared"},
    {"absent": "left-out", "saliency": "free", "segments": 10},
    {"answers": "classes", "log_base": "2", "logits_head": "separate"},
    {"refined": "last", "streams": "sum", "logits_head": "separate", "head_layers": 3},
    {"normalise": "none", "margin": 4.0},
    {"pooling": "all", "samples": "frames", "projection": "convolution"},
    {"segments": 3, "factor_layers": 1},
]
READ = [(name, value) for name, value in CHOICES if SPECS[name].metadata["scope"] != "views" and "weight" not in name]
LOSSES = [{}, LITERAL, *({name: value} for name, value in READ if name != "auxiliary"), *TOGETHER]


def agrees(method, views):
    """Answers and all terms with those by hand."""
    rows = insides(method, *views.values())
    said = said_by_hand(method, rows)
    output, _ = method.two_streams(*views.values())
    for name, expected in said.items():
        close(getattr(output, name, None) if name in output._fields else output.extras[name], expected)
    terms, expected = losses_of(method, views), losses_by_hand(method, rows, said, views["student"].y)
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        assert isinstance(term, torch.Tensor), name
        assert term.shape == (), name
        exact = method.options.distance != "gaussian" or name != "feat"  # roots of singular matrices are not
        assert term.item() == pytest.approx(float(expected[name]), rel=1e-8, abs=1e-13 if exact else 1e-7), name
        assert term.dtype == torch.float64, name
    return expected


@pytest.mark.parametrize("choices", LOSSES, ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_losses_are_those_of_the_paper(task, choices):
    unequal = choices.get("align") == "pool-to-language"
    lengths = UNEQUAL if unequal else EQUAL if "refuse" in choices.values() else ALIGNED
    method = build(task, lengths=lengths, **choices).eval()
    expected = agrees(method, views_of(utterances(task, 4, 3, lengths)))
    for name, value in expected.items():
        assert abs(value) > 1e-9, name


@pytest.mark.parametrize("normalise", ["l2", "none"])
@pytest.mark.parametrize("lengths", [ALIGNED, EQUAL, UNEQUAL], ids=["aligned", "equal", "unequal"])
def test_sequences_are_compared_over_the_words(lengths, normalise):
    """The frames of the joint representation, whatever a modality has of its own: one vector is repeated as often as
    there are words."""
    choices = {"compared": "sequence", "normalise": normalise, "align": "pool-to-language", "margin": 3.0}
    method = build(lengths=lengths, **choices).eval()
    agrees(method, views_of(utterances(n=5, lengths=lengths)))


def test_the_literal_reading_is_what_the_paper_prints():
    assert LITERAL == {
        "auxiliary": 1.0,
        "answers": "classes",
        "saliency": "free",
        "divide": "twice",
        "projection": "convolution",
        "normalise": "none",
        "compared": "sequence",
        "adversary": "literal",
        "absent": "counted",
        "log_base": "2",
        "streams": "sum",
        "refined": "last",
        "norm": "post",
        "convolution": "2d",
    }


TERMS = ("inter", "intra", "ctrst", "adv", "feat", "logits")


def test_weights_are_those_of_the_options():
    assert weights_of(build()) == dict.fromkeys(TERMS, 0.1)
    assert weights_of(build(auxiliary=1.0)) == dict.fromkeys(TERMS, 1.0)
    different = {f"{name}_weight": i for i, name in enumerate(TERMS)}
    assert weights_of(build(auxiliary=0.5, **different)) == {name: i / 2 for i, name in enumerate(TERMS)}


@pytest.mark.parametrize("lengths", [ALIGNED, UNEQUAL], ids=["aligned", "unequal"])
def test_the_parts_of_a_representation_are_those_of_the_text(lengths):
    method, batch = build(lengths=lengths, align="pool-to-language").eval(), utterances(lengths=lengths)
    inside = method.represent(batch.show(some_frames(batch)))
    for n, row in enumerate(insides(method, batch.show(some_frames(batch)))):
        for ours, name in ((inside.low, "E"), (inside.collaborative, "Q"), (inside.exclusive, "U")):
            for m in batch.x:
                close(ours[m][n, row["places"][m]], row[name][m][row["places"][m]])
        assert inside.seen[n].nonzero().flatten().tolist() == row["words"]
        close(inside.refined[n, row["words"]], row["H~"][row["words"]])
        for c, other in zip(inside.scales, row["C"], strict=True):
            close(c[n, row["words"]], other[row["words"]])


def test_the_network_is_as_deep_and_wide_as_its_options_say():
    method = build(
        width=8, heads=4, depth=3, feedforward=5, factor_layers=3, head_layers=2, statistics_width=7, dropout=0.3
    )
    blocks = [block for encoder in method.encoders.values() for block in encoder.blocks]
    assert len(blocks) == 9
    assert {block.network[0].out_features for block in blocks} == {5 * 8}
    assert {block.attention.heads for block in blocks} == {4}
    assert {block.dropout.p for block in blocks} == {0.3}
    for side in (method.sentiment, method.modality):
        for layers in side.values():
            assert [part.out_features for part in layers if isinstance(part, torch.nn.Linear)] == [8, 8, 8]
    assert [(p.in_features, p.out_features) for p in method.head if isinstance(p, torch.nn.Linear)] == [
        (24, 24),
        (24, 1),
    ]
    assert [tuple(layer.weight.shape) for layer in method.hourglass.layers] == [(16, 24), (8, 16), (16, 8), (24, 16)]
    assert {tuple(f.vector.shape) for f in method.inter.values()} == {(2, 8, 7)}
    assert {tuple(f.vector.shape) for f in method.intra.values()} == {(1, 16, 7)}
    with pytest.raises(BadInput, match="3 attention heads do not divide the width 8"):
        build(width=8, heads=3)


def test_statistics_networks_of_ordered_pairs_and_of_modalities():
    """Beside the segments of a modality stand as many networks as ask for them."""
    own, shared = build(lengths=EQUAL), build(lengths=EQUAL, statistics="shared")
    assert {m: len(f.score) for m, f in own.inter.items()} == dict.fromkeys("lav", 2)
    assert {m: len(f.score) for m, f in own.intra.items()} == dict.fromkeys("lav", 1)
    assert {m: len(f.score) for m, f in shared.inter.items()} == {"shared": 1}
    assert {m: len(f.score) for m, f in shared.intra.items()} == {"shared": 1}


@pytest.mark.parametrize("adversary", ["classifier", "literal"])
def test_the_discriminator_has_as_many_answers_as_it_has_classes(adversary):
    method = build(lengths=EQUAL | {"e": 5}, adversary=adversary)
    assert method.discriminator[-1].out_features == (4 if adversary == "classifier" else 1)


@pytest.mark.parametrize(("task", "answers", "outputs"), [
    ("regression", "score", 1), ("regression", "classes", 7), ("classification", "score", 4),
    ("classification", "classes", 4),
])  # fmt: skip
def test_the_head_answers_with_a_score_seven_classes_or_the_emotions(task, answers, outputs):
    method, batch = build(task, answers=answers).eval(), utterances(task)
    assert method(batch).logits.shape == (8, outputs)
    assert method.logits_head.out_features == outputs


STREAMS = [{"streams": s, "refined": r} for s, r in product(("mean", "sum"), ("residual", "last"))]


@pytest.mark.parametrize("choices", [*STREAMS, {"pooling": "all"}, {"head_layers": 2}], ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_inference_is_two_streams_of_one_utterance(task, choices):
    """A copy of the testing sample goes in beside it."""
    method, batch = build(task, **choices).eval(), utterances(task)
    batch = batch.show(some_frames(batch))
    one, (two, inside) = method(batch), method.two_streams(batch, batch)
    close(one.logits, two.logits)
    close(one.embedding, two.embedding)
    close(two.extras["h_a"], two.extras["h_b"])
    assert len(inside.refined) == 16


@pytest.mark.parametrize("choices", [{}, LITERAL, {"distance": "kl"}, {"samples": "frames"}], ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_the_versions_can_be_exchanged(task, choices):
    """One network reads both: the answers, and all terms, are symmetric."""
    method, views = build(task, lengths=EQUAL, **choices).eval(), views_of(utterances(task, lengths=EQUAL))
    (there, _), (back, _) = method.two_streams(*views.values()), method.two_streams(*reversed(views.values()))
    close(there.logits, back.logits)
    close(there.extras["h_a"], back.extras["h_b"])
    assert far(there.extras["h_a"], there.extras["h_b"])
    swapped = losses_of(method, {"student": views["second"], "second": views["student"]})
    for name, term in losses_of(method, views).items():
        close(swapped[name], term)


@pytest.mark.parametrize("choices", [{}, {"distance": "kl"}, {"order": 1}, {"samples": "frames"}], ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_equal_versions_have_nothing_to_learn_from_each_other(task, choices):
    """Both distillation terms are zero, and their gradients finite and zero."""
    method, view = build(task, **choices).eval(), views_of(utterances(task))["student"]
    terms = losses(method, {"student": view, "second": view})
    close(terms["feat"], 0.0)
    close(terms["logits"], 0.0)
    for gradient in torch.autograd.grad(terms["feat"] + terms["logits"], [*method.hourglass.parameters()]):
        close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("samples", ["batch", "frames"])
def test_directions_are_of_unit_length_and_drawn_for_every_scale_and_step(monkeypatch, samples):
    """Uniform on the sphere: their mean is zero and their mean square 1 / D, within four standard errors."""
    method, views = build(directions=2000, samples=samples).eval(), views_of(utterances())
    used, distance_of = [], hfgd.sliced_wasserstein
    monkeypatch.setattr(
        hfgd, "sliced_wasserstein", lambda a, b, ways, *r: used.append(ways) or distance_of(a, b, ways, *r)
    )
    torch.manual_seed(3)
    first, second = losses(method, views)["feat"], losses(method, views)["feat"]
    assert far(first, second)
    assert first.item() == pytest.approx(second.item(), rel=0.2)
    assert [tuple(ways.shape) for ways in used] == [(12, 2000), (8, 2000), (4, 2000)] * 2
    for ways in used:
        d = len(ways)
        close(ways.square().sum(0), torch.ones(2000))
        assert ways.mean(1).abs().max() < 4 / math.sqrt(2000 * d)
        spread = ways.square().mean(1) * d - 1  # the square of a coordinate has variance 2 (D - 1) / (D^2 (D + 2))
        assert spread.abs().max() < 4 * math.sqrt(2 * (d - 1) / (d + 2) / 2000)
    assert far(used[0][:4], used[2])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("base", ["e", "2"])
def test_consistency_of_answers_agrees_with_scipy(task, base):
    """scipy's is the square root, a metric. Certain answers with nothing in common are log 2 apart, a bit in base 2."""
    method = build(task, answers="classes", log_base=base)
    a, b = 3 * drawn(5, 7, seed=1), 3 * drawn(5, 7, seed=2)
    p, q = (z.softmax(-1).numpy() for z in (a, b))
    unit_of = {"e": math.e, "2": 2}[base]
    close(method.logits_term(a, b), (jensenshannon(p, q, axis=-1, base=unit_of) ** 2).mean())
    certain = method.logits_term(torch.tensor([[1e4, 0.0]]).double(), torch.tensor([[0.0, 1e4]]).double())
    close(certain, {"e": math.log(2), "2": 1.0}[base])


def test_consistency_of_scores_is_a_squared_difference():
    a, b = drawn(5, 1, seed=1), drawn(5, 1, seed=2)
    expected = mean((x - y) ** 2 for (x,), (y,) in zip(a.tolist(), b.tolist(), strict=True))
    for base in ("e", "2"):
        close(build(log_base=base).logits_term(a, b), expected)


@pytest.mark.parametrize("task", TASKS)
def test_plain_losses_are_the_task_alone(task):
    """The reference reads the same two versions; one view alone stands for both."""
    method, views = build(task).eval(), views_of(utterances(task))
    assert set(plain_losses(method, views)) == {"task"}
    assert torch.equal(plain_losses(method, views)["task"], losses(method, views)["task"])
    alone = plain_losses(method, {"student": views["student"]})["task"]
    close(alone, method.answer.loss(method(views["student"]).logits, views["student"].y))
    assert far(alone, losses(method, views)["task"])


ANSWERS = [
    ("regression", {}),
    ("regression", {"score_loss": "mse"}),
    ("regression", {"answers": "classes"}),
    ("classification", {}),
]
answers_of = pytest.mark.parametrize(("task", "choices"), ANSWERS, ids=str)


def of_seven(score):
    """The nearest of seven whole scores as a class; halves go to the even one."""
    return int(np.clip(np.round(score), -3, 3)) + 3


@answers_of
def test_a_certain_posterior_teaches_what_a_label_does(task, choices):
    method, views = build(task, **choices).eval(), views_of(utterances(task))
    y = views["student"].y
    values = torch.arange(-6, 7) / 2 if task == "regression" else torch.arange(4)
    posterior = (y.unsqueeze(-1) == values).double()
    soft = method.answer.shares(posterior, values)
    assert soft.shape == method(views["student"]).logits.shape
    oracle = oracle_losses(method, views, soft)
    assert set(oracle) == {"oracle"}
    close(oracle["oracle"], losses(method, views)["task"])


@answers_of
def test_a_posterior_teaches_its_shares_its_median_or_its_mean(task, choices):
    """Of a score the number that is best in expectation: no other of many has a smaller expected loss."""
    method, views = build(task, **choices).eval(), views_of(utterances(task))
    values = torch.tensor([-3.0, -0.5, 0.0, 1.0, 2.5]) if task == "regression" else torch.arange(4)
    posterior = (2 * drawn(8, len(values), seed=6)).softmax(-1)
    soft = method.answer.shares(posterior, values)
    logits = method.two_streams(*views.values())[0].logits.tolist()
    if isinstance(method.answer, Score):
        power = 2 if choices else 1
        assert soft.shape == (8, 1)
        for row, (best,) in zip(posterior.tolist(), soft.tolist(), strict=True):

            def expected(c, row=row):
                return sum(p * abs(c - v) ** power for p, v in zip(row, values.tolist(), strict=True))

            assert expected(best) <= min(expected(c) for c in np.linspace(-3, 3, 241)) + 1e-12
        loss = mean(abs(z - c) ** power for (z,), (c,) in zip(logits, soft.tolist(), strict=True))
    else:
        shares = [[0.0] * len(z) for z in logits]
        for n, row in enumerate(posterior.tolist()):
            for p, v in zip(row, values.tolist(), strict=True):
                shares[n][of_seven(v) if task == "regression" else int(v)] += p
        close(soft, torch.tensor(shares, dtype=torch.float64))
        loss = mean(
            -sum(p * math.log(q) for p, q in zip(row, softmax(z), strict=True))
            for row, z in zip(shares, logits, strict=True)
        )
    close(oracle_losses(method, views, soft)["oracle"], loss)


def test_the_median_of_a_posterior_is_the_first_value_that_half_of_it_does_not_exceed():
    values = torch.tensor([-1.0, 0.0, 2.0])
    posterior = torch.tensor([[0.2, 0.2, 0.6], [0.6, 0.2, 0.2], [0.3, 0.4, 0.3], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])
    assert build().answer.shares(posterior, values).flatten().tolist() == [2, -1, 0, -1, 0]


def test_scores_are_rounded_to_seven_classes():
    scores = torch.tensor([-3.4, -3.0, -2.6, -1.4, -0.6, -0.4, 0.0, 0.5, 1.5, 1.6, 2.4, 2.6, 3.0, 9.0])
    method = build(answers="classes")
    assert method.answer.labels(scores).tolist() == [of_seven(s) for s in scores.tolist()]
    assert method.answer.labels(scores).dtype == torch.long
    emotions = torch.tensor([0, 3, 1])
    assert build("classification", answers="classes").answer.labels(emotions) is emotions


def test_the_loss_of_a_score_has_the_type_of_the_answer():
    method, logits = build(), drawn(4, 1)
    y = torch.tensor([-2, 0, 1, 3])
    close(method.answer.loss(logits, y), method.answer.loss(logits, y.float()))
    assert method.answer.loss(logits.float(), y.double()).dtype == torch.float32


def test_predictions_are_scores_means_of_seven_or_probabilities():
    """With leading axes, too."""
    logits = drawn(2, 6, 7)
    expected = [[sum(p * (k - 3) for k, p in enumerate(softmax(z))) for z in row] for row in logits.tolist()]
    close(build(answers="classes").answer.prediction(logits), expected)
    assert torch.equal(build().answer.prediction(logits[..., :1]), logits[..., 0])
    close(build("classification").answer.prediction(logits[0, :, :4]), [softmax(z) for z in logits[0, :, :4].tolist()])


IDLE = {"logits_head", "projections", "predicted"}
USED = [
    ({}, IDLE),
    ({"logits_head": "separate"}, IDLE - {"logits_head"}),
    ({"projection": "convolution", "adversary": "literal"}, IDLE - {"projections"}),
    ({"saliency": "predicted", "statistics": "shared"}, IDLE - {"predicted"} | {"omega"}),
    ({"saliency": "uniform"}, IDLE | {"omega"}),
    ({"saliency": "clipped", "divide": "twice"}, IDLE),
    ({"distance": "gaussian", "refined": "last"}, IDLE),
]


@pytest.mark.parametrize(("choices", "idle"), USED, ids=[str(choices) for choices, _ in USED])
@pytest.mark.parametrize("task", TASKS)
def test_gradients_reach_what_a_choice_uses_and_nothing_else(task, choices, idle):
    """All but the bias of a softmax over segments, and that of a head of its own for scores: it is the same in both
    versions."""
    method = build(task, dropout=0.0, lengths=EQUAL, **choices)
    sum(losses(method, views_of(utterances(task, lengths=EQUAL))).values()).backward()
    silent = {f"predicted.{m}.bias" for m in EQUAL} | ({"logits_head.bias"} if task == "regression" else set())
    for name, p in method.named_parameters():
        reached = p.grad is not None and bool(p.grad.abs().max() > 1e-9)
        assert reached == (name.split(".")[0] not in idle and name not in silent), name
        assert p.grad is None or p.grad.isfinite().all(), name


SLOPES = [
    {},
    {"saliency": "predicted", "projection": "convolution", "compared": "sequence", "samples": "frames"},
    {"adversary": "literal", "distance": "gaussian", "statistics": "shared", "absent": "left-out", "saliency": "free"},
    {"distance": "kl", "logits_head": "separate", "answers": "classes", "streams": "sum", "refined": "last"},
]


@pytest.mark.parametrize("choices", SLOPES, ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_every_term_moves_every_part_as_far_as_it_changes(task, choices):
    """Gradients against differences, along one direction of each part of the network: nothing is held back on the way.
    Only what the discriminator reads is pushed the other way."""
    method, views = build(task, lengths=EQUAL, **choices).eval(), views_of(utterances(task, lengths=EQUAL))
    for i, (part, module) in enumerate(method.named_children()):
        parameters, terms = [*module.parameters()], losses_of(method, views)
        gradients = {
            name: torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
            for name, term in terms.items()
        }
        ways, changed = [drawn(*p.shape, seed=40 + i) for p in parameters], []
        for step in (1e-6, -2e-6, 1e-6):  # there, as far behind, and back
            with torch.no_grad():
                for p, way in zip(parameters, ways, strict=True):
                    p += step * way
                changed.append(losses_of(method, views))
        for name, found in gradients.items():
            slope = sum((g * way).sum().item() for g, way in zip(found, ways, strict=True) if g is not None)
            turned = name == "adv" and method.options.adversary == "classifier" and part != "discriminator"
            expected = (changed[0][name] - changed[1][name]).item() / 2e-6
            assert slope == pytest.approx(-expected if turned else expected, rel=1e-4, abs=1e-6), (name, part)


def test_a_head_of_its_own_hears_no_label():
    """A head of its own: the task does not reach it, and distillation does not reach the task's."""
    method = build("classification", logits_head="separate")
    terms = losses(method, views_of(utterances("classification")))
    heads = [*method.head.parameters()], [*method.logits_head.parameters()]
    for term, head in (("task", heads[1]), ("logits", heads[0])):
        gradients = torch.autograd.grad(terms[term], head, retain_graph=True, allow_unused=True)
        assert gradients == (None,) * len(head)


# --- the two versions of a training step -----------------------------------------------------------------------------


def network_of_plain(**choices):
    small = SMALL | choices
    return HFGD(Shape(dict.fromkeys("lav", 1), dict.fromkeys("lav", 12), "regression", ()), HFGDOptions.of(**small))


def test_one_version_twice_is_the_first_of_two():
    """So that only what stands beside it changes."""
    batch, draws = plain_batch(50), Draws((0,), 0)
    same, apart = (frames_of(views_drawn(network_of_plain(versions=v), batch, draws)) for v in ("same", "independent"))
    assert torch.equal(same[0], same[1])
    assert torch.equal(same[0], apart[0])
    assert not torch.equal(apart[0], apart[1])


# --- properties ------------------------------------------------------------------------------------------------------

READERS = [
    {},
    {"samples": "frames", "saliency": "predicted", "projection": "convolution", "absent": "left-out"},
    {"samples": "frames", "distance": "kl", "refined": "last"},
    {"samples": "frames", "distance": "gaussian", "statistics": "shared"},
    {"distance": "kl", "compared": "sequence", "convolution": "2d", "norm": "post"},
    {"distance": "gaussian", "streams": "sum", "adversary": "literal", "align": "pool-to-language"},
]
readers = pytest.mark.parametrize("choices", READERS, ids=str)


def lengths_for(choices):
    return UNEQUAL if choices.get("align") == "pool-to-language" else ALIGNED


def said(method, views):
    """Everything that a network says of two versions: logits and terms."""
    terms = losses_of(method, views)
    return {"two": method.two_streams(*views.values())[0].logits, "one": method(views["student"]).logits} | terms


@readers
@pytest.mark.parametrize("missing", ["l", "a", "v"])
def test_the_parts_of_a_missing_modality_carry_nothing_of_it(missing, choices):
    """Its collaborative part stands for the others."""
    lengths = lengths_for(choices)
    method, batch = build(lengths=lengths, **choices).eval(), utterances(lengths=lengths)
    changed = with_other_values(batch, {m: batch.valid[m] & (m == missing) for m in batch.x}, 1)
    kept = "+".join(m for m in batch.x if m != missing)
    there, after = (method.represent(some.keep(kept)) for some in (batch, changed))
    for part in ("low", "collaborative", "exclusive"):
        assert torch.equal(getattr(there, part)[missing], getattr(after, part)[missing])


@readers
@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_utterances_matters_to_information_only(task, choices):
    """Its marginal is the utterance before: another order has other strangers, and turned round as a ring the same."""
    lengths = lengths_for(choices)
    method, batch = build(task, lengths=lengths, **choices).eval(), utterances(task, lengths=lengths)
    views, order = views_of(batch), torch.tensor([5, 2, 7, 0, 1, 6, 4, 3])
    before = said(method, views)
    after = said(method, {name: view.take(order) for name, view in views.items()})
    for name, value in before.items():
        if name in ("inter", "intra"):
            assert far(after[name], value)
        else:
            close(after[name], value[order] if name in ("one", "two") else value)


def before_and_after_padding(lengths, **choices):
    """What a network for longer utterances says of these, and of these padded by three frames."""
    room = {m: steps + 3 if steps > 1 else 1 for m, steps in lengths.items()}
    method, views = build(lengths=room, **choices).eval(), views_of(utterances(lengths=lengths))
    return said(method, views), said(method, {name: longer(view, 3) for name, view in views.items()})


PADDED = [*READERS[:-1], {"distance": "gaussian"}, {"distance": "kl"}, {"compared": "sequence"}, {"scales": "last"}]


@pytest.mark.parametrize("choices", PADDED, ids=str)
@pytest.mark.parametrize("lengths", [ALIGNED, EQUAL], ids=["aligned", "equal"])
def test_more_padding_changes_nothing(choices, lengths):
    """What a batch is padded to depends on the utterances beside one. Every frame is a segment."""
    before, after = before_and_after_padding(lengths, segments=20, **choices)
    for name, value in before.items():
        close(after[name], value)


def test_segments_are_of_the_padded_time():
    """As the paper's are, whose sequences have 300 frames: a segment is so many of them, there or not."""
    before, after = before_and_after_padding(EQUAL, segments=2)
    changed = {name for name, value in before.items() if far(after[name], value)}
    assert changed == {"inter", "intra"}


def test_means_over_all_frames_feel_the_padding():
    before, after = before_and_after_padding(EQUAL, pooling="all", segments=20)
    assert all(far(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("choices", READERS[:-1], ids=str)
def test_what_is_computed_at_padding_is_never_read(choices):
    """Low-level, collaborative and exclusive representations may hold anything beyond the frames there are."""
    method, batch = build(lengths=EQUAL, **choices).eval(), utterances(lengths=EQUAL, word_aligned=True)
    padded = ~batch.valid["l"]
    views = views_of(batch)
    before = said(method, views)
    for part in (method.encoders, method.sentiment, method.modality):
        for module in part.values():
            disturb(module, {8: padded, 16: padded.repeat(2, 1)})
    for one, other in zip(before.values(), said(method, views).values(), strict=True):
        assert torch.equal(one, other)


def test_left_out_modalities_take_no_part_in_factorization():
    """Of two versions that show language nowhere, no term of the factorization hears of it."""
    method = build(lengths=EQUAL, absent="left-out").eval()
    views = {name: view.keep("a+v") for name, view in views_of(utterances(lengths=EQUAL)).items()}
    terms = losses_of(method, views)
    parts = [*method.convolutions["l"].parameters(), *method.encoders["l"].parameters()]
    for name in ("inter", "intra", "ctrst", "adv"):
        gradients = torch.autograd.grad(terms[name], parts, retain_graph=True, allow_unused=True)
        assert all(g is None or bool((g == 0).all()) for g in gradients), name
    counted = build(lengths=EQUAL).eval()
    others = losses_of(counted, views)
    assert all(far(terms[name], others[name]) for name in ("inter", "intra", "ctrst", "adv"))
    assert all(torch.equal(terms[name], others[name]) for name in ("task", "feat", "logits"))


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
    close(method(batch).logits, said_by_hand(method, insides(method, batch, batch))["logits"])


@pytest.mark.parametrize(
    "lengths",
    [{"l": 5}, {"l": 1}, {"l": 4, "v": 4}, {"l": 5, "a": 5, "v": 1, "e": 5, "g": 1}, {"l": 1, "a": 1, "v": 1}],
    ids=str,
)
@pytest.mark.parametrize(
    "choices",
    [{}, {"statistics": "shared", "adversary": "literal"}, {"samples": "frames"}, {"absent": "left-out"}],
    ids=str,
)
@pytest.mark.parametrize("task", TASKS)
def test_any_number_of_modalities_will_do(task, choices, lengths):
    """With one there is no pair: nothing to be near to, and no information between modalities."""
    method = build(task, lengths=lengths, **choices).eval()
    views = views_of(utterances(task, 4, lengths=lengths))
    agrees(method, views)
    drawn_views = views_drawn(method, stacked(utterances(task, 4, lengths=lengths)), Draws((0,), 0))
    assert all(view.modalities == tuple(lengths) for view in drawn_views.values())


# --- the printed setting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "heads", "margin", "lr", "batch", "epochs"),
    [("mosi", 10, 1.2, 4e-3, 32, 50), ("mosei", 8, 1.0, 4e-3, 64, 30), ("iemocap", 10, 0.7, 2e-3, 64, 50)],
)
def test_the_paper_profile_is_the_experimental_setup(family, heads, margin, lr, batch, epochs):
    choices, trained = HFGD.recipe(family, "paper")
    options = HFGDOptions.of(**choices)
    assert (options.width, options.heads, options.margin, options.segments) == (40, heads, margin, 10)
    assert trained == {"lr": lr, "batch": batch, "epochs": epochs}
    assert HFGD(shape("regression", EQUAL), options).head[0].in_features == 120  # the text's 3d


def test_families_that_the_paper_does_not_know_take_the_setting_of_mosi():
    assert HFGD.recipe("elsewhere", "paper") == HFGD.recipe("mosi", "paper")
    assert HFGD.recipe("iemocap", "small") != HFGD.recipe("iemocap", "paper")
    with pytest.raises(BadInput, match="unknown profile 'large'"):
        HFGD.recipe("mosi", "large")
