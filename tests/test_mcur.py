"""MCUR against independent oracles: loops over the paper's equations in float64, and libraries that know them.

The oracles take one pair, one utterance or one head of attention at a time, without masks: what is not shown is left
out, not hidden. They are written from the paper, never from the code under test.
"""

import importlib.util
import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract import (
    EMOTIONS,
    WIDTHS,
    close,
    drawn,
    far,
    leaves,
    longer,
    losses,
    network,
    oracle_losses,
    plain_losses,
    scores,
    sequences,
    shaken,
    stacked,
    views_drawn,
    weights_of,
)
from contract import shape as shape_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SupConLoss
from scipy import stats
from torch import nn

from mmkd_lib.data.batch import Batch
from mmkd_lib.methods import corrkd
from mmkd_lib.methods.base import Output
from mmkd_lib.methods.mcur import (
    CONTRASTS,
    MCUR,
    Fusion,
    MCUROptions,
    bottleneck,
    combination_contrast,
    decoupled_kd,
    entropy,
    instance_contrast,
    similarities,
    single_positive_contrast,
    supervised_contrast,
    uncertainty_gap,
)
from mmkd_lib.methods.perceiver import GatedNetwork, LatentAttention, Perceiver
from mmkd_lib.runs.experiments import plan
from mmkd_lib.support.draws import Draws
from mmkd_lib.support.errors import BadInput
from mmkd_lib.training.cohort import Cohort
from mmkd_lib.training.fit import STAGES, fit

KINDS = ("scores", "binary", "softmax")  # scores, one question a class, one question of all classes
UNEQUAL = {"l": 5, "a": 7, "v": 1}  # frames of each modality, one vector of vision
SMALL = {"width": 6, "prompts": 3, "heads": 2, "head_size": 2, "depth": 2, "feedforward": 10, "dropout": 0.0}
OWN = ("included", "excluded")
brief = settings(deadline=None, max_examples=25)


@pytest.fixture(autouse=True)
def no_weights_of_bert(monkeypatch):
    monkeypatch.delenv("MMKD_BERT", raising=False)


def codes(n, count, seed):
    return torch.randint(count, (n,), generator=torch.Generator().manual_seed(seed))


def gradient(scalar, *tensors):
    return torch.autograd.grad(scalar, tensors)


def refuses(kind, what, *arguments):
    with pytest.raises(BadInput, match=f"unknown {kind} 'nonsense'"):
        what(*arguments)


# --- the paper's equations, one number, one pair or one utterance at a time ------------------------------------------


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def softmax(z, temperature=1.0):
    e = [math.exp(v / temperature) for v in z]
    return [v / sum(e) for v in e]


def kl(p, q):
    return sum(u * math.log(u / v) for u, v in zip(p, q, strict=True))


def products(x, temperature, normalise, other=None):
    """x_i . y_j / tau of every pair: lists of numbers."""

    def unit(row):
        return [v / math.sqrt(sum(w * w for w in row)) for v in row] if normalise == "l2" else row

    rows, others = [unit(r) for r in x.tolist()], [unit(r) for r in (x if other is None else other).tolist()]
    return torch.tensor(
        [[sum(p * q for p, q in zip(a, b, strict=True)) / temperature for b in others] for a in rows],
        dtype=torch.float64,
    )


def contrast_by_hand(s, combination, classes, mu1=1.0, mu2=1.0, own="included"):
    """Eqs. 2-5 by their sums over B, M, N and S, one exponential at a time."""
    told, n = [], len(classes)
    for i in range(n):
        sums, company = dict.fromkeys("BMNS", 0.0), 0
        for j in range(n):
            if own == "excluded" and j == i:
                continue
            combined, alike = bool(combination[j] == combination[i]), bool(classes[j] == classes[i])
            company += combined and alike
            for name, member in {"B": True, "M": combined, "N": combined and alike, "S": alike}.items():
                if member:
                    sums[name] = sums[name] + s[i, j].exp()
        if company:
            of_combination = (sums["M"] / sums["B"]).log()
            of_class, back = (sums["N"] / sums["M"]).log(), (sums["N"] / sums["S"]).log()
            told.append(of_combination + mu1 * of_class - mu2 * back)
    return -mean(told) if told else 0 * s.sum()


def supcon_by_hand(s, classes):
    """Khosla et al. 2020, Eq. 2 (the sum outside the logarithm); anchors without a positive are left out."""
    told, n = [], len(classes)
    for i in range(n):
        positives = [j for j in range(n) if j != i and classes[j] == classes[i]]
        below = sum(s[i, j].exp() for j in range(n) if j != i)
        if positives:
            told.append(-mean((s[i, j].exp() / below).log() for j in positives))
    return mean(told) if told else 0 * s.sum()


def dkd_by_hand(student, teacher, target, alpha, temperature=1.0):
    """Eq. 11 of one question: the target against all others, and the others among themselves."""
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    pair = [[r[target], sum(v for c, v in enumerate(r) if c != target)] for r in (p, q)]
    rest = [[v / other for c, v in enumerate(r) if c != target] for r, (_, other) in zip((p, q), pair, strict=True)]
    return alpha * kl(*pair) + (1 - alpha) * kl(*rest)


def entropy_by_hand(z):
    return -sum(p * math.log(p) for p in softmax(z))


def asked_by_hand(kind, row, y):
    """The questions (logits, target) that one utterance's answer is judged by."""
    if kind == "binary":
        return [(row[2 * c : 2 * c + 2], int(y == c)) for c in range(len(EMOTIONS))]
    return [(row, int(y))]


def sugr_by_hand(kind, o, student, teacher, y):
    """Eqs. 7-14 of a batch, lists of logits: the mean of weight times losses, and of the weight and the losses."""
    found = []
    for s, t, truth in zip(student, teacher, y.tolist(), strict=True):
        if kind == "scores":
            parts = [((truth - s[0]) ** 2, (truth - t[0]) ** 2, abs(truth - s[0]), (s[0] - t[0]) ** 2)]
        else:
            parts = []
            for (a, c), (b, _) in zip(asked_by_hand(kind, s, truth), asked_by_hand(kind, t, truth), strict=True):
                taught = dkd_by_hand(a, b, c, o.alpha, o.dkd_temperature)
                parts.append((entropy_by_hand(a), entropy_by_hand(b), -math.log(softmax(a)[c]), taught))
        for h_s, h_t, task, taught in parts:
            gap = abs(h_t - h_s) if o.gap == "absolute" else max(h_s - h_t, 0)
            weight = gap if o.weighting == "uncertainty" else 1
            found.append((weight * (task + (taught if o.logits == "yes" else 0)), gap, task, taught))
    names = ("SUGR", "mean uncertainty", "mean task", "mean logits")
    return {name: mean(column) for name, column in zip(names, zip(*found, strict=True), strict=True)}


def category(kind, how, y):
    """What a label is to the contrast."""
    if kind != "scores":
        return y
    return {"signs": (y > 0) - (y < 0), "two": y >= 0, "seven": round(max(-3, min(3, y)))}[how]


def vib_by_hand(output):
    rows = zip(output.extras["mean"].tolist(), output.extras["deviation"].tolist(), strict=True)
    each = [[(m * m + s * s - 1 - math.log(s * s)) / 2 for m, s in zip(*row, strict=True)] for row in rows]
    return mean(sum(row) for row in each)


def terms_by_hand(kind, o, student, teacher, view):
    """Every term of Eq. 23 from what both networks say."""
    shown = [tuple(bool(view.frames[m][n].any()) for m in view.modalities) for n in range(len(view.y))]
    combination = torch.tensor([[*product((False, True), repeat=len(view.modalities))].index(c) for c in shown])
    classes = torch.tensor([category(kind, o.contrast_classes, y) for y in view.y.tolist()])
    s = products(student.embedding, o.temperature, o.normalise)
    rows = zip(student.embedding.tolist(), teacher.embedding.tolist(), strict=True)
    apart = [sum((p - q) ** 2 for p, q in zip(*row, strict=True)) for row in rows]
    terms = sugr_by_hand(kind, o, student.logits.tolist(), teacher.logits.tolist(), view.y)
    return terms | {
        "CL": contrast_by_hand(s, combination, classes, o.mu1, o.mu2, o.own),
        "MSE": mean(apart) / (1 if o.distance == "sum" else student.embedding.shape[-1]),
        "VIB": vib_by_hand(student),
        "bottleneck task": terms["mean task"],
    }


# --- the network of A.1.2, one utterance at a time -------------------------------------------------------------------


def linear(x, layer):
    return x @ layer.weight.T + (0 if layer.bias is None else layer.bias)


def normalised(norm, x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def attended(block, latents, context=None):
    """Eq. 17 with norms before and a residual: latents (P, d), context (T, d), one head after the other."""
    own = normalised(block.norm, latents)
    source = own if context is None else normalised(block.norm_context, context)
    queries, both = linear(own, block.project_queries), linear(source, block.project_context)
    keys, values = both.tensor_split(2, -1)
    size, heads = queries.shape[-1] // block.heads, []
    for part in (slice(i, i + size) for i in range(0, queries.shape[-1], size)):
        score = (queries[:, part] @ keys[:, part].T / math.sqrt(size)).exp()
        heads.append(score / score.sum(1, keepdim=True) @ values[:, part])
    return latents + linear(torch.cat(heads, -1), block.project_out)


def gated(block, x):
    """x + W (values * GELU(gates)), the GELU by the error function."""
    wide = linear(normalised(block.norm, x), block.widen)
    values, gates = wide[..., : 4 * x.shape[-1]], wide[..., 4 * x.shape[-1] :]
    return x + linear(values * gates * (1 + torch.erf(gates / math.sqrt(2))) / 2, block.narrow)


def perceived(perceiver, frames):
    """The mean over prompts after all blocks, (d,)."""
    latents = perceiver.prompts
    for look, wide, mix, another in perceiver.blocks:
        latents = gated(wide, attended(look, latents, frames))
        latents = gated(another, attended(mix, latents))
    return normalised(perceiver.norm, latents.mean(0))


def convolved(layer, x):
    """(T, d_m) -> (T, d): every frame and its neighbours, nothing beyond the ends."""
    weight, out = layer.weight, []
    reach = weight.shape[-1] // 2
    for t in range(len(x)):
        near = [k for k in range(-reach, reach + 1) if 0 <= t + k < len(x)]
        out.append(sum(weight[:, :, k + reach] @ x[t + k] for k in near))
    return torch.stack(out)


def torch_layer(block, width, heads, feedforward):
    """torch's transformer layer, norm after, with the weights of a block."""
    layer = nn.TransformerEncoderLayer(width, heads, feedforward, 0.0, batch_first=True).double()
    names = {
        "self_attn.in_proj_": block.attention.project_in,
        "self_attn.out_proj.": block.attention.project_out,
        "linear1.": block.network[0],
        "linear2.": block.network[-1],
        "norm1.": block.norms[0],
        "norm2.": block.norms[1],
    }
    layer.load_state_dict({name + n: p for name, part in names.items() for n, p in part.state_dict().items()})
    return layer


def mixed(method, tokens):
    """The two layers of TE in Eq. 18 on the tokens (K, d) that there are."""
    o = method.options
    for block in method.mixer.blocks:
        tokens = torch_layer(block, o.width, o.mixing_heads, o.feedforward)(tokens.unsqueeze(0))[0]
    return tokens


def fused(fusion, split, joint):
    """mu and what sigma is made of."""
    first, last = fusion.network[0], fusion.network[-1]
    e = linear(linear(joint, first).clamp(min=0), last)
    if split == "narrow":
        e = e + linear(joint, fusion.skip)
    if split != "printed":
        e = normalised(fusion.norm, e)
    return e if split == "wide" else linear(e, fusion.mean), linear(e, fusion.deviation)


def said_by_hand(method, batch, n):
    """mu, sigma and logits of utterance n."""
    o, tokens = method.options, {}
    for m in batch.modalities:
        features = convolved(method.convolutions[m], batch.x[m][n])
        there = [t for t, real in enumerate(batch.valid[m][n].tolist()) if real or o.padding == "attended"]
        if o.steps == "eight":
            steps = len(features)
            bins = [range(b * steps // 8, -(-(b + 1) * steps // 8)) for b in range(8)]
            features = torch.stack([features[[*b]].mean(0) for b in bins])
            there = [i for i, b in enumerate(bins) if {*b} & {*there}]
        if o.absent == "zeros" or batch.frames[m][n].any():
            tokens[m] = perceived(method.perceivers[m], features[there or [0]])
    after = dict.fromkeys(batch.modalities, torch.zeros(o.width, dtype=torch.float64))
    if tokens:
        after |= dict(zip(tokens, mixed(method, torch.stack([*tokens.values()])), strict=True))
    mu, raw = fused(method.fusion, o.split, torch.cat([*after.values()]))
    sigma = {"softplus": (1 + raw.exp()).log() + 1e-6, "exponential": (raw / 2).exp(), "linear": raw}[o.deviation]
    return mu, sigma, linear(mu, method.head)


# --- small networks and batches --------------------------------------------------------------------------------------


def shape(kind, lengths=UNEQUAL):
    return shape_of("regression" if kind == "scores" else "classification", lengths)


def build(kind="scores", seed=0, lengths=UNEQUAL, **choices):
    heads = {"heads_per_class": "softmax"} if kind == "softmax" else {}
    return shaken(network(MCUR, shape(kind, lengths), SMALL | heads | choices, seed), 1)


def utterances(kind="scores", n=10, seed=0, lengths=UNEQUAL):
    """N complete utterances of different lengths, padded; scores in steps of 0.5, or classes."""
    x, valid = sequences(n, seed, lengths)
    y = scores(n, seed, 3) if kind == "scores" else codes(n, len(EMOTIONS), seed + 20)
    return Batch(x, dict(valid), valid, y)


def some(batch, seed=0, none=False):
    """Modalities of each utterance: several share a combination; with `none`, the last one has nothing."""
    names, n = batch.modalities, len(batch.y)
    kept = (torch.tensor([2, 3, 5, 7])[codes(n, 4, seed + 7)] % 2 ** len(names)).clamp(min=1)  # a, l+a, l+v, l+a+v
    if none:
        kept[-1] = 0
    return batch.show({m: (kept // 2**i % 2 == 1).unsqueeze(-1) for i, m in enumerate(names)})


def views_of(batch, seed=0):
    return {"student": some(batch, seed), "teacher": batch}


def pair(kind, seed=0, n=10, **choices):
    """A student and what its teacher says, in eval mode, with their views."""
    views = views_of(utterances(kind, n, seed))
    teacher = build(kind, seed + 50, **choices).eval()
    with torch.no_grad():
        said = teacher(views["teacher"])
    return build(kind, seed, **choices).eval(), Output(said.logits, said.embedding, said.extras), views


# --- Eqs. 2-5: the contrast of combinations and categories -----------------------------------------------------------


@brief
@given(
    n=st.integers(1, 7),
    seed=st.integers(0, 10**6),
    mu1=st.floats(0, 3),
    mu2=st.floats(0, 3),
    own=st.sampled_from(OWN),
    combinations=st.integers(1, 7),
)
def test_combination_contrast_is_equations_2_to_5(n, seed, mu1, mu2, own, combinations):
    """Value and gradient against the sums; left out of its own sets, an anchor that is alone in N does not count."""
    c, k = codes(n, combinations, seed), codes(n, 3, seed + 1)
    one, other = leaves(2 * drawn(n, n, seed=seed), 2 * drawn(n, n, seed=seed))
    actual, expected = combination_contrast(one, c, k, mu1, mu2, own), contrast_by_hand(other, c, k, mu1, mu2, own)
    close(actual, expected)
    close(gradient(actual, one)[0], gradient(expected, other)[0])


def test_combination_contrast_defaults_are_the_printed_ones():
    """mu1 = mu2 = 1, and an anchor is in its own sets."""
    s, c, k = drawn(9, 9), codes(9, 3, 1), codes(9, 3, 2)
    close(combination_contrast(s, c, k), contrast_by_hand(s, c, k, 1, 1, "included"))
    assert far(combination_contrast(s, c, k), combination_contrast(s, c, k, own="excluded"))
    refuses("own", combination_contrast, s, c, k, 1, 1, "nonsense")


@brief
@given(n=st.integers(2, 12), seed=st.integers(0, 10**6))
def test_with_the_printed_weights_the_combination_cancels(n, seed):
    """mu1 = mu2 = 1: the same to 1e-12 whatever the combinations are, -mean log(sum_S / sum_B)."""
    s, k = 3 * drawn(n, n, seed=seed), codes(n, 3, seed)
    alike = k.unsqueeze(1) == k
    expected = -((s.exp() * alike).sum(1) / s.exp().sum(1)).log().mean()
    for other in range(3):
        found = combination_contrast(s, codes(n, 7, seed + other), k, 1.0, 1.0)
        assert abs(found - expected) < 1e-12 * max(1, expected.abs())


@pytest.mark.parametrize("own", OWN)
def test_without_the_last_term_the_class_within_the_combination_is_left(own):
    """mu1 = 1, mu2 = 0: -mean log(sum_N / sum_B); here the combinations do matter."""
    s, c, k = drawn(10, 10), codes(10, 2, 4), codes(10, 2, 5)
    both = (c.unsqueeze(1) == c) & (k.unsqueeze(1) == k)
    told = s.exp() if own == "included" else s.exp() * (1 - torch.eye(10).double())
    assert bool(((told * both).sum(1) > 0).all())
    expected = -((told * both).sum(1) / told.sum(1)).log().mean()
    close(combination_contrast(s, c, k, 1.0, 0.0, own), expected)
    assert far(combination_contrast(s, c.roll(1), k, 1.0, 0.0, own), expected)


def test_left_out_of_its_own_sets_the_combination_still_says_who_counts():
    """With mu1 = mu2 = 1 only through the anchors that are alone in N: with company for all it cancels again."""
    s, k = drawn(8, 8), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    pairs, together = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]), torch.zeros(8)
    close(combination_contrast(s, pairs, k, own="excluded"), combination_contrast(s, together, k, own="excluded"))
    alone = torch.tensor([0, 0, 1, 2, 0, 0, 1, 2])
    assert far(combination_contrast(s, alone, k, own="excluded"), combination_contrast(s, together, k, own="excluded"))


@pytest.mark.parametrize("own", OWN)
def test_the_contrast_of_large_similarities_is_finite(own):
    """Raw products may be in the hundreds: no exponential overflows, no logarithm is of zero; single precision."""
    s = (400 * drawn(6, 6)).float().requires_grad_()
    c, k = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 0, 1, 1, 2])
    loss = combination_contrast(s, c, k, 0.7, 1.3, own)
    assert loss.isfinite()
    assert gradient(loss, s)[0].isfinite().all()


@pytest.mark.parametrize("own", OWN)
def test_a_batch_in_which_nobody_has_company(own):
    """Included, each anchor is its own only positive; excluded, nobody counts and the loss is 0."""
    s, k = leaves(drawn(4, 4))[0], torch.arange(4)
    loss = combination_contrast(s, k, k, 1.0, 1.0, own)
    close(loss, -(s.diagonal() - s.logsumexp(1)).mean() if own == "included" else 0.0)
    assert gradient(loss, s)[0].isfinite().all()


@pytest.mark.parametrize("normalise", ["l2", "none"])
def test_similarities_are_products_over_the_temperature(normalise):
    x = drawn(5, 3)
    close(similarities(x, 0.2, normalise), products(x, 0.2, normalise))
    close(similarities(x, 0.7), products(x, 0.7, "l2"))
    refuses("normalise", similarities, x, 0.2, "nonsense")


# --- Table 3: other contrasts ----------------------------------------------------------------------------------------


@brief
@given(n=st.integers(1, 7), seed=st.integers(0, 10**6), classes=st.integers(1, 4))
def test_supervised_contrast_is_that_of_khosla(n, seed, classes):
    k = codes(n, classes, seed)
    one, other = leaves(2 * drawn(n, n, seed=seed), 2 * drawn(n, n, seed=seed))
    actual, expected = supervised_contrast(one, k), supcon_by_hand(other, k)
    close(actual, expected)
    close(gradient(actual, one)[0], gradient(expected, other)[0])


@brief
@given(n=st.integers(3, 10), seed=st.integers(0, 10**6))
def test_supervised_contrast_agrees_with_metric_learning(n, seed):
    """Where some pair shares a class and some pair does not: there, too, anchors without a positive are left out of
    the mean (their loss is 0, and the library's mean is over losses above 0)."""
    k, x = codes(n, 3, seed), drawn(n, 4, seed=seed)
    count = (k.unsqueeze(1) == k).sum(1)
    assume(1 < int(count.max()) < n)
    close(supervised_contrast(similarities(x, 0.3), k), SupConLoss(temperature=0.3)(x, k))


def test_supervised_contrast_leaves_lonely_anchors_out_of_the_mean():
    """Two of one class and two of their own: the mean over the first two, and not half of it."""
    x, k = drawn(4, 3), torch.tensor([0, 0, 1, 2])
    s = similarities(x, 0.3)
    each = [-(s[i, j] - s[i][torch.arange(4) != i].logsumexp(0)) for i, j in ((0, 1), (1, 0))]
    close(supervised_contrast(s, k), mean(each))
    close(SupConLoss(temperature=0.3)(x, k), mean(each))


def test_supervised_contrast_and_metric_learning_differ_where_all_share_a_class():
    """The library gives 0 to a batch without any negative; here every anchor still counts. Without any positive both
    give 0."""
    x, together = drawn(5, 3), torch.zeros(5).long()
    s = similarities(x, 0.3)
    assert float(SupConLoss(temperature=0.3)(x, together)) == 0
    close(supervised_contrast(s, together), supcon_by_hand(s, together))
    assert supervised_contrast(s, together) > 1
    assert float(supervised_contrast(s, torch.arange(5))) == float(SupConLoss(temperature=0.3)(x, torch.arange(5))) == 0


@brief
@given(seed=st.integers(0, 10**6), pairs=st.integers(2, 4))
def test_two_kinds_of_supervised_contrast_agree_on_pairs_only(seed, pairs):
    """mu1 = mu2 = 1 with the anchor excluded is the logarithm of a sum, SupCon the mean of logarithms: equal with one
    positive an anchor. With more, log sum >= mean log + log(number), so the first is below the second."""
    k, together = torch.arange(2 * pairs) // 2, torch.zeros(2 * pairs)
    s = drawn(2 * pairs, 2 * pairs, seed=seed)
    close(combination_contrast(s, together, k, own="excluded"), supervised_contrast(s, k))
    k = torch.arange(2 * pairs) // 4
    alike = (k == k.unsqueeze(1)).sum(1) - 1
    below = supervised_contrast(s, k) - alike.double().log().mean()
    assert combination_contrast(s, together, k, own="excluded") <= below + 1e-12
    assert far(combination_contrast(s, together, k, own="excluded"), supervised_contrast(s, k))


def single_by_hand(s, c, k, chance):
    told, n = [], len(k)
    for i in range(n):
        others = [j for j in range(n) if j != i and c[j] == c[i] and k[j] == k[i]]
        picked = max(others, key=lambda j: chance[i, j]) if others else i
        told.append(-(s[i, picked].exp() / sum(s[i, j].exp() for j in range(n))).log())
    return mean(told)


@brief
@given(n=st.integers(1, 8), seed=st.integers(0, 10**6), combinations=st.integers(1, 3))
def test_one_instance_contrast_has_one_positive_of_the_same_combination_and_class(n, seed, combinations):
    """The highest chance picks it; of an anchor alone it is the anchor."""
    c, k = codes(n, combinations, seed), codes(n, 2, seed + 1)
    s, chance = drawn(n, n, seed=seed), drawn(n, n, seed=seed + 2).sigmoid()
    close(single_positive_contrast(s, c, k, chance), single_by_hand(s, c, k, chance))


def test_chance_picks_every_positive_and_no_other():
    """Over all chances: the positives of anchor 0 are 1 and 2, of anchor 3 itself, each about equally often."""
    c, k = torch.tensor([0, 0, 0, 1, 0]), torch.tensor([1, 1, 1, 1, 0])
    found = {0: [], 3: [], 4: []}
    for seed in range(200):
        torch.manual_seed(seed)
        s = torch.zeros(5, 5).double().requires_grad_()
        towards = gradient(single_positive_contrast(s, c, k, torch.rand(5, 5)), s)[0]
        for i, picks in found.items():
            picks.append(int(towards[i].argmin()))
    assert set(found[0]) == {1, 2}
    assert stats.binomtest(found[0].count(1), 200).pvalue > 1e-3
    assert set(found[3]) == {3}
    assert set(found[4]) == {4}
    zero = torch.zeros(5, 5)
    close(single_positive_contrast(zero.double(), c, k, zero), math.log(5))


def test_the_chance_of_zero_still_picks_another():
    """Chances begin at 0: even then the positive is another utterance and not the anchor."""
    s = torch.tensor([[0.0, 5.0, 0.0]] * 3).double()
    c, k = torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0])
    expected = single_by_hand(s, c, k, torch.zeros(3, 3))
    close(single_positive_contrast(s, c, k, torch.zeros(3, 3)), expected)


@pytest.mark.parametrize("normalise", ["l2", "none"])
def test_instance_contrast_is_cross_entropy_of_a_classifier_of_utterances(normalise):
    """As many classes as utterances, the teacher's embeddings are the weights: s_i belongs to t_i."""
    s, t = leaves(drawn(6, 4), drawn(6, 4, seed=1))
    logits = products(s.detach(), 0.3, normalise, t.detach())
    actual = instance_contrast(s, t, 0.3, normalise)
    close(actual, F.cross_entropy(logits, torch.arange(6)))
    assert far(actual, F.cross_entropy(logits.T, torch.arange(6)))
    if normalise == "l2":
        close(instance_contrast(s, t, 0.3), actual)
        close(instance_contrast(3 * s, t / 2, 0.3), actual)


# --- Eqs. 7-11 and 20 ------------------------------------------------------------------------------------------------


@brief
@given(classes=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_entropy_is_that_of_scipy(classes, seed):
    z = 2 * drawn(3, 4, classes, seed=seed)
    close(entropy(z), stats.entropy(z.softmax(-1).numpy(), axis=-1))


def test_entropy_of_the_certain_and_of_the_undecided():
    """0 and log C, and no NaN where a probability is 0."""
    z = torch.tensor([[1000.0, 0, 0], [1, 1, 1]]).double().requires_grad_()
    close(entropy(z), [0.0, math.log(3)])
    assert gradient(entropy(z).sum(), z)[0].isfinite().all()


def test_the_gap_of_uncertainty():
    """Eq. 9; the other one counts only what the student is less sure of than the teacher."""
    student, teacher = torch.tensor([3.0, 1.0, 2.0]).double(), torch.tensor([1.0, 3.0, 2.0]).double()
    close(uncertainty_gap(student, teacher), [2.0, 2.0, 0.0])
    close(uncertainty_gap(student, teacher, "absolute"), [2.0, 2.0, 0.0])
    close(uncertainty_gap(student, teacher, "increase"), [2.0, 0.0, 0.0])
    refuses("gap", uncertainty_gap, student, teacher, "nonsense")


@brief
@given(
    classes=st.integers(2, 6),
    seed=st.integers(0, 10**6),
    alpha=st.floats(0, 1),
    temperature=st.sampled_from([1.0, 2.5]),
)
def test_decoupled_distillation_is_equation_11(classes, seed, alpha, temperature):
    """Sample by sample, with any number of axes before that of the classes."""
    s, t = 2 * drawn(3, 2, classes, seed=seed), 2 * drawn(3, 2, classes, seed=seed + 1)
    target = codes(6, classes, seed).view(3, 2)
    found = decoupled_kd(s, t, target, alpha, temperature)
    expected = [
        [dkd_by_hand(s[i, j].tolist(), t[i, j].tolist(), int(target[i, j]), alpha, temperature) for j in range(2)]
        for i in range(3)
    ]
    close(found, expected)
    if temperature == 1:
        close(decoupled_kd(s, t, target, alpha), expected)


@brief
@given(classes=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_decoupled_parts_make_up_the_whole_divergence(classes, seed):
    """Zhao et al. 2022: KL(p^t || p^s) = KL(b^t || b^s) + (1 - p_target^t) KL(of the others)."""
    s, t = 2 * drawn(5, classes, seed=seed), 2 * drawn(5, classes, seed=seed + 1)
    target = codes(5, classes, seed)
    of_target, of_rest = decoupled_kd(s, t, target, 1.0), decoupled_kd(s, t, target, 0.0)
    others = 1 - t.softmax(-1).gather(1, target.unsqueeze(1)).squeeze(1)
    whole = F.kl_div(s.log_softmax(-1), t.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    close(of_target + others * of_rest, whole)


def test_two_classes_have_nothing_to_decouple():
    """One other class has the probability 1 of the others: alpha times the plain divergence is left."""
    s, t, target = drawn(6, 2), drawn(6, 2, seed=1), codes(6, 2, 3)
    close(decoupled_kd(s, t, target, 0.0), torch.zeros(6))
    whole = F.kl_div(s.log_softmax(-1), t.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    close(decoupled_kd(s, t, target, 0.2), 0.2 * whole)


def test_the_bottleneck_is_the_divergence_from_the_standard_normal():
    """Eq. 20, summed over the dimensions; the sign of a deviation plays no part, and one of 0 is not infinite."""
    mu, sigma = 2 * drawn(5, 3), drawn(5, 3, seed=1).exp()
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(normal(mu, sigma), normal(torch.zeros_like(mu), 1.0))
    close(bottleneck(mu, sigma), divergence.sum(-1))
    close(bottleneck(mu, -sigma), divergence.sum(-1))
    zero = torch.zeros(1, 3).double().requires_grad_()
    assert bottleneck(mu[:1], zero).isfinite().all()
    assert gradient(bottleneck(mu[:1], zero).sum(), zero)[0].isfinite().all()


# --- Eq. 17: latents that look at frames -----------------------------------------------------------------------------


def block_and_library(crossed, width=6, heads=3):
    block = shaken(LatentAttention(width, heads, width // heads, 0.0, crossed).double())
    library = nn.MultiheadAttention(width, heads, batch_first=True).double()
    with torch.no_grad():
        library.in_proj_weight.copy_(torch.cat([block.project_queries.weight, block.project_context.weight]))
        library.in_proj_bias.zero_()
        library.out_proj.load_state_dict(block.project_out.state_dict())
    return block, library


@pytest.mark.parametrize("masked", [False, True], ids=["all-seen", "masked"])
def test_latents_look_at_a_context_as_torch_does(masked):
    """torch's multi-head attention with the same weights, norms before and a residual around it."""
    block, library = block_and_library(crossed=True)
    latents, context = drawn(4, 3, 6), drawn(4, 5, 6, seed=1)
    seen = torch.arange(5) < torch.tensor([5, 1, 3, 4]).unsqueeze(1) if masked else None
    own, other = block.norm(latents), block.norm_context(context)
    expected = library(own, other, other, key_padding_mask=None if seen is None else ~seen)[0]
    close(block(latents, context, seen), latents + expected)


def test_latents_look_at_themselves_as_torch_does():
    block, library = block_and_library(crossed=False)
    latents = drawn(4, 3, 6)
    own = block.norm(latents)
    close(block(latents), latents + library(own, own, own)[0])
    assert block.norm_context is None


@pytest.mark.parametrize("size", [1, 2, 5])
def test_heads_of_any_size_are_equation_17(size):
    """The printed totals have heads whose sizes do not sum to the width."""
    block = shaken(LatentAttention(4, 3, size, 0.0, crossed=True).double())
    latents, context = drawn(2, 3, 4), drawn(2, 5, 4, seed=1)
    close(block(latents, context), torch.stack([attended(block, *row) for row in zip(latents, context, strict=True)]))
    assert {n: len(p) for n, p in block.named_parameters() if n.startswith("project")} == {
        "project_queries.weight": 3 * size,
        "project_context.weight": 6 * size,
        "project_out.weight": 4,
        "project_out.bias": 4,
    }


def test_masked_frames_have_no_influence_and_no_gradient():
    block = shaken(LatentAttention(4, 2, 3, 0.0, crossed=True).double())
    latents, [context] = drawn(3, 2, 4), leaves(drawn(3, 5, 4, seed=1))
    seen = torch.arange(5) < torch.tensor([5, 2, 1]).unsqueeze(1)
    said = block(latents, context, seen)
    other = torch.where(seen.unsqueeze(-1), context, 100.0)
    close(block(latents, other, seen), said)
    towards = gradient(said.square().sum(), context)[0]
    assert torch.equal(towards.abs().sum(-1) > 0, seen)
    assert far(block(latents, other), block(latents, context))


def test_a_gated_network_by_hand():
    block = shaken(GatedNetwork(3, 0.0).double())
    x = drawn(4, 2, 3)
    close(block(x), gated(block, x))
    assert {n: tuple(p.shape) for n, p in block.named_parameters() if n.endswith("weight")} == {
        "norm.weight": (3,),
        "widen.weight": (24, 3),
        "narrow.weight": (3, 12),
    }


@pytest.mark.parametrize("part", ["attention", "gate"])
def test_dropout_acts_on_the_branch_and_not_on_the_residual(part):
    """All of it dropped leaves what came in."""
    block = LatentAttention(4, 2, 2, 1.0, crossed=False) if part == "attention" else GatedNetwork(4, 1.0)
    x = drawn(2, 3, 4).float()
    assert torch.equal(block.train()(x), x)
    assert far(block.eval()(x), x)


@pytest.mark.parametrize("depth", [1, 3])
def test_a_perceiver_by_hand(depth):
    """Only frames that are seen; the prompts differ, so the mean over them is no copy of one."""
    perceiver = shaken(Perceiver(4, 3, 2, 3, depth, 0.0).double())
    x, seen = drawn(3, 5, 4), torch.arange(5) < torch.tensor([5, 2, 1]).unsqueeze(1)
    expected = torch.stack([perceived(perceiver, row[there]) for row, there in zip(x, seen, strict=True)])
    close(perceiver(x, seen), expected)


def test_a_perceiver_does_not_know_the_order_of_frames():
    perceiver = shaken(Perceiver(4, 3, 2, 3, 2, 0.0).double())
    x, seen = drawn(3, 5, 4), torch.arange(5) < torch.tensor([5, 2, 3]).unsqueeze(1)
    order = torch.tensor([3, 0, 4, 1, 2])
    close(perceiver(x[:, order], seen[:, order]), perceiver(x, seen))
    assert far(perceiver(x[:, order], seen), perceiver(x, seen))


@pytest.mark.parametrize("split", ["printed", "narrow", "wide"])
@pytest.mark.parametrize("modalities", [1, 3])
def test_fusion_by_hand(split, modalities):
    fusion = shaken(Fusion(4, modalities, split, 0.0).double())
    tokens = drawn(5, 4 * modalities)
    for found, expected in zip(fusion(tokens), fused(fusion, split, tokens), strict=True):
        close(found, expected)


NETWORKS = [
    {},
    *[{"kernels": how} for how in ("text", "one")],
    *[{"split": how} for how in ("wide", "printed")],
    *[{"deviation": how} for how in ("exponential", "linear")],
    {"absent": "zeros"},
    {"padding": "attended"},
    {"steps": "eight"},
    {"steps": "eight", "padding": "attended"},
    {"mixing_heads": 3, "depth": 1},
]


@pytest.mark.parametrize("choices", NETWORKS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_network_says_what_each_utterance_alone_says(kind, choices):
    """One utterance after the other, with only the modalities that there are; the last one has none. Of frames, those
    that exist: single ones that are lost are zeros, and prompts still attend to them."""
    method, batch = build(kind, **choices).eval(), some(utterances(kind, 6), none=True)
    batch = batch.show({m: drawn(*there.shape, seed=i) > -0.8 for i, (m, there) in enumerate(batch.valid.items())})
    assert any((batch.valid[m] & ~batch.frames[m])[batch.frames[m].any(-1)].any() for m in "la")
    output = method(batch)
    for n in range(6):
        mu, sigma, logits = said_by_hand(method, batch, n)
        close(output.extras["mean"][n], mu)
        close(output.extras["deviation"][n], sigma)
        close(output.embedding[n], mu)
        close(output.logits[n], logits)


@pytest.mark.parametrize("lengths", [{"l": 4}, {"l": 4, "v": 2}, {"l": 1, "a": 3, "v": 2, "e": 3}], ids=str)
def test_any_number_of_modalities_will_do(lengths):
    method, batch = build(lengths=lengths).eval(), some(utterances(n=4, lengths=lengths))
    for n, said in enumerate(method(batch).logits):
        close(said, said_by_hand(method, batch, n)[2])


@pytest.mark.parametrize("embedded", ["mean", "sample"])
@pytest.mark.parametrize("deviation", ["softplus", "exponential", "linear"])
def test_noise_is_added_in_training_only(monkeypatch, embedded, deviation):
    """e = mu + eps sigma, and logits from e; E is mu or e. At test time both are mu."""
    method, batch = build(embedded=embedded, deviation=deviation), utterances()
    calm, eps = method.eval()(batch), drawn(10, SMALL["width"], seed=3)
    monkeypatch.setattr(torch, "randn_like", lambda t: eps)
    noisy = method.train()(batch)
    mu, sigma = calm.extras["mean"], calm.extras["deviation"]
    close(noisy.extras["mean"], mu)
    close(noisy.extras["deviation"], sigma)
    close(noisy.logits, linear(mu + eps * sigma, method.head))
    close(noisy.embedding, mu + eps * sigma if embedded == "sample" else mu)
    close(calm.embedding, mu)
    close(calm.logits, linear(mu, method.head))


@pytest.mark.parametrize("absent", ["masked", "zeros"])
def test_a_missing_modality_has_no_influence(absent):
    """Nothing of its Perceiver is read; as a token of zeros it is."""
    method = build(absent=absent).eval()
    batch = utterances().keep("l+a")
    before = method(batch).logits
    method.zero_grad()
    before.square().sum().backward()
    silent = all(p.grad is None or not p.grad.any() for p in method.perceivers["v"].parameters())
    shaken(method.perceivers["v"], seed=9)
    assert silent == (not far(method(batch).logits, before)) == (absent == "masked")


@pytest.mark.parametrize("choices", NETWORKS, ids=str)
def test_more_padding_changes_nothing_where_it_is_masked(choices):
    """A convolution reads zeros beyond the end either way. Eight bins of all frames, and prompts that attend to
    padding, feel how much of it there is."""
    method, batch = build(**choices).eval(), some(utterances())
    before, after = method(batch).logits, method(longer(batch, 3)).logits
    assert far(after, before) == ("attended" in choices.values() or "eight" in choices.values())


def test_what_is_computed_at_padding_is_never_read():
    """Wild numbers from the convolutions beyond the end of an utterance."""
    method, batch = build().eval(), utterances()
    before = method(batch).logits
    for m, layer in method.convolutions.items():
        layer.register_forward_hook(
            lambda _, __, said, m=m: torch.where(batch.valid[m].unsqueeze(1), said, 1e3 * drawn(*said.shape))
        )
    assert torch.equal(method(batch).logits, before)


# --- sizes: Table 9 --------------------------------------------------------------------------------------------------

D, LAYERS, INNER = 768, 12, 3072
EMBEDDINGS = (30522 + 512 + 2) * D + 2 * D  # words, positions, segments, layer norm
OF_A_LAYER = 4 * (D * D + D) + 2 * D + (D * INNER + INNER) + (INNER * D + D) + 2 * D  # attention, norm, network, norm
BERT = EMBEDDINGS + LAYERS * OF_A_LAYER  # without pooler
PRINTED_SIZES = {  # widths of l, a, v; kind; BERT's share; printed total
    "mosi": ((768, 5, 20), "scores", BERT, 112_627_841),
    "mosei": ((768, 74, 35), "scores", BERT, 116_421_953),
    "iemocap": ((300, 74, 35), "binary", 0, 624_654),
}


def size_of(family, **choices):
    widths, kind, _, _ = PRINTED_SIZES[family]
    like = shape(kind)._replace(widths=dict(zip("lav", widths, strict=True)))
    options = MCUROptions.of(**(MCUR.recipe(family, "paper")[0] | choices))
    with torch.device("meta"):
        return sum(p.numel() for p in MCUR(like, options).parameters()), options.width


def test_berts_size_is_that_of_its_configuration():
    assert BERT == 108_891_648
    if importlib.util.find_spec("transformers"):
        from transformers import BertConfig, BertModel

        with torch.device("meta"):
            bert = BertModel(BertConfig(), add_pooling_layer=False)
        assert sum(p.numel() for p in bert.parameters()) == BERT


@pytest.mark.parametrize("family", PRINTED_SIZES)
@pytest.mark.parametrize("split", ["narrow", "wide"])
def test_the_network_has_exactly_the_printed_number_of_parameters(family, split):
    _, _, bert, total = PRINTED_SIZES[family]
    assert size_of(family, split=split)[0] + bert == total


@pytest.mark.parametrize("family", PRINTED_SIZES)
def test_the_mlp_as_printed_has_fewer_parameters_than_the_total(family):
    """Eq. 18 and the two maps of the bottleneck hold 3 d^2 + 3 d^2 + 4 d; the totals hold 13 d^2 + 7 d."""
    count, d = size_of(family, split="printed")
    assert size_of(family)[0] - count == 7 * d * d + 3 * d


def test_a_kernel_of_three_everywhere_does_not_fit_the_totals():
    """Two more taps for the columns of audio and vision, and for IEMOCAP's text."""
    for family, more in (("mosi", 5 + 20), ("mosei", 74 + 35), ("iemocap", 300 + 74 + 35)):
        count, d = size_of(family, kernels="three")
        assert count - size_of(family)[0] == 2 * more * d


# --- losses ----------------------------------------------------------------------------------------------------------

LOSSES = [
    {},
    {"mu1": 0.6, "mu2": 1.4},
    {"own": "excluded", "mu1": 0.6},
    {"normalise": "none", "temperature": 2.0, "mu2": 0.5},
    {"alpha": 0.7, "dkd_temperature": 2.0},
    {"logits": "no"},
    {"weighting": "none"},
    {"gap": "increase"},
    {"weight_gradient": "flows"},
    {"distance": "mean"},
    {"contrast_classes": "two", "mu2": 0.0},
    {"contrast_classes": "seven", "mu2": 0.0},
]


@pytest.mark.parametrize("choices", LOSSES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_terms_are_those_of_equation_23(kind, choices):
    """From what both networks say, every number by hand."""
    method, teacher, views = pair(kind, **choices)
    terms, expected = (
        losses(method, views, teacher),
        terms_by_hand(kind, method.options, method(views["student"]), teacher, views["student"]),
    )
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        close(terms[name], value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vib", ["once", "kl", "printed"])
def test_the_weighted_sum_is_equation_23(kind, vib):
    """beta L_VIB with L_VIB = task + beta KL; counted once it is beta (task + KL), and beta KL without the task.
    What is not in the equation is watched: it has no weight at all."""
    chosen = {"contrast_weight": 0.3, "sugr_weight": 7.0, "vib_weight": 0.05, "mse_weight": 0.4, "vib": vib}
    method, teacher, views = pair(kind, **chosen)
    by_hand = terms_by_hand(kind, method.options, method(views["student"]), teacher, views["student"])
    task, divergence, beta = by_hand["mean task"], by_hand["VIB"], 0.05
    expected = 0.3 * by_hand["CL"] + 0.4 * by_hand["MSE"] + 7.0 * by_hand["SUGR"]
    expected += beta * {"once": task + divergence, "kl": divergence, "printed": task + beta * divergence}[vib]
    terms, weights = losses(method, views, teacher), weights_of(method)
    total = sum(weights.get(name, 1.0) * term for name, term in terms.items() if weights.get(name, 1.0) is not None)
    close(total, expected)
    watched = {name for name, weight in weights.items() if weight is None}
    assert watched == {"mean uncertainty", "mean task", "mean logits"}
    assert ("bottleneck task" in terms) == (vib != "kl")


def test_the_printed_weights():
    """A.2.3; beta = 0.01 and the distance without a factor everywhere."""
    printed = {"mosi": (2.0, 1.0), "mosei": (0.2, 5.0), "iemocap": (0.1, 100.0)}
    for family, (gamma, zeta) in printed.items():
        o = MCUROptions.of(**MCUR.recipe(family, "paper")[0])
        assert (o.contrast_weight, o.sugr_weight) == (gamma, zeta)
        assert (o.vib_weight, o.mse_weight, o.mu1, o.mu2, o.alpha, o.temperature) == (0.01, 1.0, 1.0, 1.0, 0.2, 0.2)
    assert MCUR.recipe("iemocap", "paper")[1]["lr"] == 8e-4


def test_a_weight_of_zero_leaves_the_contrast_out():
    method, teacher, views = pair("scores", contrast_weight=0.0)
    assert "CL" not in losses(method, views, teacher)


@pytest.mark.parametrize("gap", ["absolute", "increase"])
@pytest.mark.parametrize("flow", ["stopped", "flows"])
def test_the_gradient_of_equation_14_for_scores_by_hand(flow, gap):
    """L = w (|y - s| + (s - t)^2), w = |(y - t)^2 - (y - s)^2|: the product rule has a second part where w is no
    constant. The teacher's answer is not asked for a gradient."""
    y, (s,), t = drawn(9), leaves(drawn(9, 1, seed=1)), drawn(9, 1, seed=2)
    terms = build(weight_gradient=flow, gap=gap).sugr_terms(s, t, y)
    expected = []
    for truth, (a,), (b,) in zip(y.tolist(), s.tolist(), t.tolist(), strict=True):
        difference = (truth - a) ** 2 - (truth - b) ** 2
        weight = abs(difference) if gap == "absolute" else max(difference, 0)
        slope = weight * (math.copysign(1, a - truth) + 2 * (a - b))
        if flow == "flows":
            sign = math.copysign(1, difference) if gap == "absolute" else float(difference > 0)
            slope += sign * 2 * (a - truth) * (abs(a - truth) + (a - b) ** 2)
        expected.append([slope / 9])
    close(gradient(terms["SUGR"], s)[0], expected)


@pytest.mark.parametrize("kind", ["binary", "softmax"])
def test_the_gradient_of_equation_14_for_classes(kind):
    """Stopped, it is that of the sum with the weights as numbers; flowing, finite differences agree."""
    y = codes(4, len(EMOTIONS), 3)
    width = len(EMOTIONS) * (2 if kind == "binary" else 1)
    s, t = drawn(4, width), drawn(4, width, seed=1)
    flowing = build(kind, weight_gradient="flows")
    assert torch.autograd.gradcheck(lambda z: flowing.sugr_terms(z, t, y)["SUGR"], leaves(s))
    stopped, (z,) = build(kind), leaves(s)
    weight = uncertainty_gap(stopped.uncertainty(s, y), stopped.uncertainty(t, y))
    by_weight = (weight * (stopped.task_of_each(z, y) + stopped.logits_of_each(z, t, y))).mean()
    expected = gradient(by_weight, z)[0]
    close(gradient(stopped.sugr_terms(z, t, y)["SUGR"], z)[0], expected)
    assert far(gradient(flowing.sugr_terms(z, t, y)["SUGR"], z)[0], expected)


def test_the_categories_of_a_score():
    """Its sign; whether it is negative; or the nearest of seven whole numbers, however far out it lies."""
    y = torch.tensor([-3.6, -2.6, -0.4, 0.0, 0.4, 1.6, 3.6]).double()
    close(build().labels(y), [-1, -1, -1, 0, 1, 1, 1])
    close(build(contrast_classes="two").labels(y), [0, 0, 0, 1, 1, 1, 1])
    close(build(contrast_classes="seven").labels(y), [-3, -3, 0, 0, 0, 2, 3])
    assert torch.equal(build("softmax").labels(y), y)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("contrast", CONTRASTS)
def test_the_contrasts_of_table_3_take_the_place_of_equation_5(monkeypatch, kind, contrast):
    """On the student's embeddings; the traditional one compares them with the teacher's."""
    chance = drawn(10, 10, seed=8).sigmoid()
    monkeypatch.setattr(torch, "rand_like", lambda t: chance)
    method, teacher, views = pair(kind, contrast=contrast, temperature=0.3, mu2=0.4)
    view, o = views["student"], method.options
    e = method(view).embedding
    s = products(e, 0.3, "l2")
    k = torch.tensor([category(kind, "signs", y) for y in view.y.tolist()])
    c = sum(2**i * view.frames[m].any(-1) for i, m in enumerate(view.modalities))
    expected = {
        "MCB-CL": lambda: contrast_by_hand(s, c, k, o.mu1, o.mu2),
        "1-instance": lambda: single_by_hand(s, c, k, chance),
        "SupCon": lambda: supcon_by_hand(s, k),
        "traditional": lambda: F.cross_entropy(products(e, 0.3, "l2", teacher.embedding), torch.arange(10)),
    }[contrast]()
    close(losses(method, views, teacher)["CL"], expected)
    raw, teacher, views = pair(kind, contrast=contrast, temperature=0.3, mu2=0.4, normalise="none")
    assert far(losses(raw, views, teacher)["CL"], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_teacher_gives_numbers_and_is_not_asked_for_gradients(kind):
    """Only the student's parameters move, all but the statistics networks of CorrKD, which are not there."""
    method, teacher, views = pair(kind)
    terms = losses(method, views, teacher)
    total = sum(term for name, term in terms.items() if weights_of(method).get(name, 1.0) is not None)
    total.backward()
    assert not teacher.logits.requires_grad
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
    assert not hasattr(method, "statistics")


@pytest.mark.parametrize("kind", KINDS)
def test_the_losses_see_the_student_s_view_and_not_the_teacher_s(kind):
    method, teacher, views = pair(kind)
    swapped = {"student": views["student"], "teacher": views["teacher"].keep("v")}
    for name, term in losses(method, views, teacher).items():
        close(losses(method, swapped, teacher)[name], term)


# --- references ------------------------------------------------------------------------------------------------------


def task_by_hand(kind, logits, y):
    if kind == "scores":
        return mean(abs(z - truth) for (z,), truth in zip(logits.tolist(), y.tolist(), strict=True))
    asked = [asked_by_hand(kind, row, truth) for row, truth in zip(logits.tolist(), y.tolist(), strict=True)]
    return mean(-math.log(softmax(z)[c]) for questions in asked for z, c in questions)


@pytest.mark.parametrize("kind", KINDS)
def test_plain_losses_are_the_task_and_the_bottleneck(kind):
    method, batch = build(kind).eval(), some(utterances(kind))
    output = method(batch)
    for views in ({"student": batch}, {"student": batch, "teacher": utterances(kind, seed=4)}):
        terms = plain_losses(method, views)
        assert terms.keys() == {"task", "VIB"}
        close(terms["task"], task_by_hand(kind, output.logits, batch.y))
        close(terms["VIB"], vib_by_hand(output))
    assert weights_of(method).get("task", 1.0) == 1.0
    assert weights_of(method)["VIB"] == 0.01
    close(method.answer.loss(output.logits, batch.y), task_by_hand(kind, output.logits, batch.y))


@pytest.mark.parametrize("kind", KINDS)
def test_oracle_losses_are_the_soft_loss_and_the_bottleneck(kind):
    method, batch = build(kind).eval(), some(utterances(kind))
    soft = drawn(10, 1) if kind == "scores" else drawn(10, len(EMOTIONS)).softmax(-1)
    output = method(batch)
    terms = oracle_losses(method, {"student": batch}, soft)
    assert terms.keys() == {"oracle", "VIB"}
    close(terms["oracle"], method.answer.soft(output.logits, soft))
    close(terms["VIB"], vib_by_hand(output))


@pytest.mark.parametrize("kind", ["binary", "softmax"])
def test_soft_loss_of_classes_is_the_expected_task_loss(kind):
    """Over labels drawn from the posterior, utterance by utterance."""
    method, soft = build(kind), drawn(6, len(EMOTIONS)).softmax(-1)
    logits = drawn(6, method.head.out_features, seed=1)
    expected = mean(
        sum(soft[n, c] * task_by_hand(kind, logits[n : n + 1], torch.tensor([c])) for c in range(len(EMOTIONS)))
        for n in range(6)
    )
    close(method.answer.soft(logits, soft), expected)
    assert torch.equal(method.answer.shares(soft, torch.arange(4)), soft)


@brief
@given(count=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_the_share_of_a_score_is_a_median(count, seed):
    """No value has a smaller expected absolute error under the posterior, and the oracle's loss is the distance to
    it."""
    posterior, values = (3 * drawn(5, count, seed=seed)).softmax(-1), drawn(count, seed=seed + 1).sort()[0]
    method = build()
    median = method.answer.shares(posterior, values)
    assert median.shape == (5, 1)
    for row, chosen in zip(posterior, median, strict=True):
        errors = [float((row * (values - v).abs()).sum()) for v in values]
        assert float((row * (values - chosen).abs()).sum()) <= min(errors) + 1e-12
    logits = drawn(5, 1, seed=seed + 2)
    close(method.answer.soft(logits, median), task_by_hand("scores", logits, median.squeeze(-1)))


def test_the_median_of_known_posteriors():
    values = torch.tensor([-1.0, 0.0, 2.0])
    posterior = torch.tensor([[0.5, 0.1, 0.4], [0.4, 0.2, 0.4], [0.1, 0.2, 0.7], [0.0, 0.0, 1.0]]).double()
    close(build().answer.shares(posterior, values), [[-1.0], [0.0], [2.0], [2.0]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)], ids=str)
def test_answers_have_the_shapes_that_scoring_takes(kind, leading):
    """Logits (C, N, K) too: conditions before utterances."""
    method = build(kind)
    logits = 2 * drawn(*leading, 5, method.head.out_features)
    flat = logits.flatten(0, -2).tolist()
    said, chances = method.answer.prediction(logits), method.answer.chances(logits)
    if kind == "scores":
        assert said.shape == (*leading, 5)
        assert chances.shape == (*leading, 5, 1)
        close(said.flatten(), [row[0] for row in flat])
        close(chances.flatten(), [1 / (1 + math.exp(-row[0])) for row in flat])
        return
    assert said.shape == chances.shape == (*leading, 5, 4)
    if kind == "binary":
        yes = [[softmax(row[2 * c : 2 * c + 2])[1] for c in range(4)] for row in flat]
        assert said.dtype == torch.bool
        assert said.flatten(0, -2).tolist() == [[p > 0.5 for p in row] for row in yes]
        close(chances.flatten(0, -2), yes)
    else:
        close(said.flatten(0, -2), [softmax(row) for row in flat])
        close(chances, said)


# --- Table 4: CorrKD's losses on this network ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_corrkd_s_losses_are_those_of_corrkd(kind):
    """CorrKD itself, with the defaults of its own and the same statistics networks, asked about the embeddings and
    logits of this network. Its one-vs-rest heads answer with one number, the difference of the two here."""
    method, teacher, views = pair(kind, distillation="corrkd")
    y, student = views["student"].y, method(views["student"])
    terms = losses(method, views, teacher)
    how = {"heads_per_class": "softmax" if kind == "softmax" else "one-vs-rest"}
    other = corrkd.CorrKD(shape(kind), corrkd.CorrKDOptions.of(**how)).double()
    o, unit = other.options, [F.normalize(one.embedding, dim=-1) for one in (student, teacher)]
    close(terms["SCD"], corrkd.contrastive_distillation(*unit, o.margin, o.scd_reduction))
    close(terms["CPD"], other.prototype_term(student.embedding, teacher.embedding, other.targets(y)))
    close(terms["task"], task_by_hand(kind, student.logits, y))
    if kind == "scores":
        f = method.statistics["target"]
        assert [*method.statistics] == ["target"]
        s, t, n = student.logits, teacher.logits, len(y)
        with torch.no_grad():
            joint = [float(f(torch.cat([t[i], s[i]]))) for i in range(n)]
            apart = [float(f(torch.cat([t[(i + 1) % n], s[i]]))) for i in range(n)]
        expected = mean(math.log(1 + math.exp(-z)) for z in joint) + mean(math.log(1 + math.exp(z)) for z in apart)
        close(terms["RCD"], expected)
    else:
        other.statistics.load_state_dict(method.statistics.state_dict())
        asked = [
            one.logits[:, 1::2] - one.logits[:, ::2] if kind == "binary" else one.logits for one in (student, teacher)
        ]
        close(terms["RCD"], other.response_term(*asked, y))


@pytest.mark.parametrize("kind", KINDS)
def test_corrkd_s_sum_has_the_bottleneck_and_what_mcur_adds(kind):
    """In place of the distance and the task within the bottleneck; all of CorrKD's own terms with weight 1."""
    method, teacher, views = pair(kind, distillation="corrkd")
    terms = losses(method, views, teacher)
    own = {"task", "SCD", "CPD", "RCD"}
    watched = {"mean uncertainty", "mean task", "mean logits"}
    assert terms.keys() == own | {"VIB", "CL", "SUGR"} | watched
    assert all(weights_of(method).get(name, 1.0) == 1.0 for name in own)
    plain, said, _ = pair(kind)
    for name, term in losses(plain, views, said).items():
        if name in terms:
            close(terms[name], term)


# --- A.2.4 and A.5.8: what is shown in training ----------------------------------------------------------------------

PATTERNS = ("l", "a", "v", "la", "lv", "av", "lav")


def many(n=7000):
    """N utterances of one frame a modality."""
    there = {m: torch.ones(n, 1, dtype=torch.bool) for m in "lav"}
    return Batch({m: torch.ones(n, 1, WIDTHS[m]) for m in "lav"}, there, there, torch.zeros(n))


def shares(batch):
    names = np.array(["".join(m for m in "lav" if batch.frames[m][n].any()) for n in range(len(batch.y))])
    return [int((names == p).sum()) for p in ("", *PATTERNS)]


def test_the_student_sees_seven_patterns_equally_often():
    """A.2.4: 1/7 each, whole modalities; the teacher sees everything."""
    method, batch = build(), many()
    views = views_drawn(method, stacked(batch), Draws((0,), 0))
    nothing, *found = shares(batch._replace(frames={m: f[0] for m, f in views["student"].frames.items()}))
    assert nothing == 0
    assert stats.chisquare(found).pvalue > 1e-3
    long = stacked(utterances(n=200))
    shown = views_drawn(method, long, Draws((0,), 0))["student"]
    for m, frames in shown.frames.items():
        whole = (frames == long.valid[m]).all(-1)
        assert bool((whole | ~frames.any(-1)).all())
        assert 0 < int(whole.sum()) < 200
    assert method.stage("method", method.options).taught_by == {"complete": ("complete",)}


def seen_by(method, batch):
    """The batch that a perturbed teacher is asked about."""
    asked = []
    method.forward = asked.append
    method.perturbed(batch)
    [shown] = asked
    return shown


PRINTED_SHARES = {  # over l, a, v, l+a, l+v, a+v, l+a+v
    "high_l": [4 / 7, 1 / 14, 1 / 14, 1 / 14, 1 / 14, 1 / 14, 1 / 14],
    "high_l_2": [1 / 7, 1 / 14, 1 / 14, 3 / 14, 3 / 14, 1 / 14, 3 / 14],
    "mr_30": [0.7 * 0.3**2 + 0.3**3 / 3] * 3 + [0.7**2 * 0.3] * 3 + [0.7**3],  # all three lost: one is kept
}


@pytest.mark.parametrize("how", PRINTED_SHARES)
def test_a_perturbed_teacher_sees_the_printed_patterns(how):
    """Of mr_30: each modality is lost with chance 0.3, and one of an utterance that lost all is kept."""
    torch.manual_seed(11)
    batch, method = many(), build(teacher_data=how)
    nothing, *found = shares(seen_by(method, batch))
    assert nothing == 0
    assert sum(PRINTED_SHARES[how]) == pytest.approx(1)
    assert stats.chisquare(found, 7000 * np.array(PRINTED_SHARES[how])).pvalue > 1e-3
    assert stats.chisquare(found).pvalue < 1e-9


@pytest.mark.parametrize("how", ["noise", *PRINTED_SHARES])
@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_in_training_is_perturbed(kind, how):
    """At its own stage; a reference is left alone, and so is an oracle."""
    method, batch = build(kind, teacher_data=how).eval(), utterances(kind)
    calm = build(kind).eval()
    torch.manual_seed(2)
    alone = plain_losses(method, {"student": batch}, "complete")
    assert far(alone["task"], plain_losses(calm, {"student": batch}, "complete")["task"])
    assert all(term.isfinite() for term in alone.values())
    for name, term in plain_losses(calm, {"student": batch}).items():
        close(plain_losses(method, {"student": batch})[name], term)
    soft = drawn(10, 1) if kind == "scores" else drawn(10, 4).softmax(-1)
    for name, term in oracle_losses(calm, {"student": batch}, soft).items():
        close(oracle_losses(method, {"student": batch}, soft)[name], term)


def test_a_noisy_teacher_answers_from_its_embedding_with_noise(monkeypatch):
    """Intensity 5 (Eq. 27), on the embedding and not on what the bottleneck is judged by."""
    method, batch = build(teacher_data="noise").eval(), utterances()
    eps, calm = drawn(10, SMALL["width"], seed=3), method(batch)
    monkeypatch.setattr(torch, "randn_like", lambda t: eps)
    found = method.perturbed(batch)
    close(found.logits, linear(calm.embedding + 5 * eps, method.head))
    close(found.extras["mean"], calm.extras["mean"])
    close(plain_losses(method, {"student": batch}, "complete")["VIB"], vib_by_hand(calm))


# --- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "choices"),
    [
        ("scores", {"alpha": 0.1}),
        ("scores", {"dkd_temperature": 2.0}),
        ("scores", {"heads_per_class": "softmax"}),
        *((kind, {"contrast_classes": how}) for kind in ("binary", "softmax") for how in ("two", "seven")),
    ],
    ids=str,
)
def test_what_concerns_classes_leaves_scores_alone_and_the_other_way_round(kind, choices):
    """mu2 = 0.8, so that the contrast does hear of its categories."""
    (one, teacher, views), (other, _, _) = pair(kind, mu2=0.8), pair(kind, mu2=0.8, **choices)
    for name, term in losses(one, views, teacher).items():
        assert torch.equal(losses(other, views, teacher)[name], term)


def test_bert_without_weights_is_refused_with_the_way_out():
    with pytest.raises(BadInput, match="MMKD_BERT"):
        build(text_encoder="bert")


def test_the_order_of_utterances_plays_no_part():
    method, teacher, views = pair("binary", mu1=0.5)
    order = torch.tensor([5, 2, 7, 0, 9, 1, 6, 8, 4, 3])
    shuffled = {name: view.take(order) for name, view in views.items()}
    moved = Output(teacher.logits[order], teacher.embedding[order])
    for name, term in losses(method, views, teacher).items():
        close(losses(method, shuffled, moved)[name], term)


# --- training --------------------------------------------------------------------------------------------------------

TOLD = {
    "method": {
        *("CL", "MSE", "SUGR", "VIB", "bottleneck task"),
        *("mean uncertainty", "mean task", "mean logits"),
    },
    "plain": {"task", "VIB"},
    "complete": {"task", "VIB"},
    "oracle": {"oracle", "VIB"},
}


@pytest.mark.parametrize("name", ["synthetic-mosi", "synthetic-iemocap"])
@pytest.mark.parametrize("supervision", STAGES)
def test_two_epochs_of_every_supervision(name, supervision):
    """Two seeds: every number is finite, the weights move, the teacher's do not."""
    group = Cohort(plan("mcur", name, "smoke", [0, 1], supervision), "cpu")
    ready = group.ready()
    teachers = ready.parents.get("complete", [])
    before = [{n: p.clone() for n, p in m.state_dict().items()} for m in (*ready.methods, *teachers)]
    result = fit(ready)
    assert len(teachers) == (2 if supervision == "method" else 0)
    for history in result.history:
        assert {n.removeprefix("terms/") for n in history if n.startswith("terms/")} == TOLD[supervision]
        assert all(np.isfinite(values).all() for values in history.values())
        assert history["terms/VIB"].shape == (2,)
    for one, weights in zip(before, result.weights, strict=False):
        assert any(not torch.equal(p, weights[n]) for n, p in one.items())
    for one, teacher in zip(before[2:], teachers, strict=True):
        assert all(torch.equal(p, one[n]) for n, p in teacher.state_dict().items())


@pytest.mark.parametrize("how", ["noise", *PRINTED_SHARES])
def test_a_teacher_of_table_14_learns(how):
    """And learns something else than one of complete data; the student's own references do not feel it."""
    found = {}
    for data, supervision in product(("complete", how), ("complete", "plain")):
        options = {"teacher_data": data}
        experiments = plan("mcur", "synthetic-mosi", "smoke", [0], supervision, options, {"epochs": 1})
        found[data, supervision] = fit(Cohort(experiments, "cpu").ready()).history[0]["terms/task"]
    assert np.isfinite(found[how, "complete"]).all()
    assert found[how, "complete"] != found["complete", "complete"]
    assert found[how, "plain"] == found["complete", "plain"]


@pytest.mark.parametrize("name", ["synthetic-mosi", "synthetic-iemocap"])
def test_corrkd_s_losses_train_on_the_same_teacher(name):
    """Its statistics networks are no part of the teacher, whose weights fit either student."""
    one = plan("mcur", name, "smoke", [0], options={"distillation": "corrkd"}, settings={"epochs": 1})
    other = plan("mcur", name, "smoke", [0], settings={"epochs": 1})
    assert one[0].parents["complete"] == other[0].parents["complete"]
    ready = Cohort(one, "cpu").ready()
    assert not hasattr(ready.parents["complete"][0], "statistics")
    history = fit(ready).history[0]
    assert all(np.isfinite(values).all() for values in history.values())
    assert {"terms/SCD", "terms/CPD", "terms/RCD", "terms/task"} <= history.keys()


# --- recipes ---------------------------------------------------------------------------------------------------------


def test_families_that_the_paper_does_not_know_take_the_setting_of_mosi():
    assert MCUR.recipe("elsewhere", "paper") == MCUR.recipe("mosi", "paper")
    assert MCUR.recipe("iemocap", "small") != MCUR.recipe("iemocap", "paper")
    with pytest.raises(BadInput, match="unknown profile 'large'"):
        MCUR.recipe("mosi", "large")
