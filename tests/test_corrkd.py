"""CorrKD against independent oracles: loops over the paper's equations in float64, and libraries that know them.

The oracles read lists of plain numbers and are written from the paper, never from the code under test.
"""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract import (
    ALIGNED,
    TASKS,
    close,
    drawn,
    gradients_are_right,
    losses,
    network,
    scores,
    sequences,
    shape,
    some_frames,
    stacked,
    views_drawn,
    weights_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss
from pytorch_metric_learning.reducers import DoNothingReducer
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import cosine_similarity

from mmkd_lib.data.batch import Batch
from mmkd_lib.methods.corrkd import (
    SCD_REDUCTIONS,
    CorrKD,
    CorrKDOptions,
    class_prototypes,
    contrastive_distillation,
    disentangle,
    prototype_loss,
    prototype_similarity,
    response_information,
)
from mmkd_lib.methods.layers import (
    ALIGN,
    SelfAttention,
    TemporalConvolution,
    Transformer,
    align,
    attendable,
    mean_over,
    perceptron,
    positions,
)
from mmkd_lib.methods.losses import jsd_information, softened_kl, without_target
from mmkd_lib.support.draws import Draws
from mmkd_lib.support.errors import BadInput
from mmkd_lib.training.fit import Ready, Training
from mmkd_lib.training.settings import Settings

# Labels of a batch and the number of classes: absent classes, classes with one sample, N = 2, and N = 30, from where
# on torch computes distances by matrix products.
BATCHES = [
    ([0, 1], 2),
    ([1, 1], 2),
    ([0, 1, 1, 0, 1], 2),
    ([2, 0, 0, 2], 3),
    ([0, 1, 1, 2, 2, 2], 3),
    ([3, 0, 0, 3, 2], 4),
    ([6, 0, 2, 2, 2, 6, 5, 5], 7),
    ([i * i % 7 for i in range(30)], 7),
]
batches = pytest.mark.parametrize(
    ("y", "classes"), BATCHES, ids=[f"N={len(y)},C={classes},present={len(set(y))}" for y, classes in BATCHES]
)
brief = settings(deadline=None, max_examples=25)
whole = st.integers(0, 2**32 - 1)

SMALL = {"width": 8, "heads": 2, "depth": 1}


# --- the paper's equations, one number at a time ---------------------------------------------------------------------


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def softmax(z):
    return [math.exp(v) / sum(math.exp(w) for w in z) for v in z]


def cosine(a, b):
    return sum(p * q for p, q in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def scd_by_hand(student, teacher, eta, reduction="sum"):
    """Eq. 1 as printed; its mean over the N (N - 1) terms; or with the positive outside the sum over j."""
    n, total = len(student), 0.0
    for i in range(n):
        positive = math.dist(student[i], teacher[i]) ** 2
        total += positive if reduction == "sum-positive-once" else 0
        for j in range(n):
            if j != i:
                total += 0 if reduction == "sum-positive-once" else positive
                total += max(0, eta - math.dist(student[i], teacher[j])) ** 2
    return total / (n * (n - 1)) if reduction == "mean" else total


def prototypes_by_hand(h, y):
    """Eq. 2: class -> mean representation, for the classes in the batch."""
    members = {k: [row for row, label in zip(h, y, strict=True) if label == k] for k in set(y)}
    return {k: [mean(column) for column in zip(*rows, strict=True)] for k, rows in members.items()}


def cpd_by_hand(student, teacher, y, prototypes="own", distance="squared"):
    """Eqs. 2-4; K counts the classes in the batch."""
    of_teacher = prototypes_by_hand(teacher, y)
    of_student = prototypes_by_hand(student, y) if prototypes == "own" else of_teacher
    total = 0.0
    for i in range(len(y)):
        for k in of_teacher:
            gap = cosine(student[i], of_student[k]) - cosine(teacher[i], of_teacher[k])
            total += gap**2 if distance == "squared" else abs(gap)
    return total / (len(y) * len(of_teacher))


def split_by_hand(logits, target, tail):
    """Section 3.6: the response of the target class, and those of the other classes."""
    response = softmax(logits)
    rest = [p for k, p in enumerate(response) if k != target]
    return [response[target]], [p / sum(rest) for p in rest] if tail == "renormalised" else rest


def information_by_hand(score, student, teacher, negatives):
    """Eq. 6 with pairs of the batch for P(Q, U) and pairs of different samples for P(Q) P(U)."""
    n = len(student)
    joint = [score(teacher[i] + student[i]) for i in range(n)]
    steps = {"roll": [1], "all-pairs": range(1, n)}[negatives]
    product = [score(teacher[(i + step) % n] + student[i]) for i in range(n) for step in steps]
    return mean(-math.log(1 + math.exp(-f)) for f in joint) - mean(math.log(1 + math.exp(f)) for f in product)


def score_by_hand(network):
    """A statistics network (linear, ReLU, linear) as a function of a list of numbers."""
    first, first_bias, second, second_bias = (p.tolist() for p in network.parameters())

    def score(pair):
        rows = zip(first, first_bias, strict=True)
        hidden = [max(0, b + sum(w * v for w, v in zip(row, pair, strict=True))) for row, b in rows]
        return second_bias[0] + sum(w * v for w, v in zip(second[0], hidden, strict=True))

    return score


def losses_by_hand(method, said, taught, y):
    """All terms of section 3.6's objective from the outputs of both networks and the labels of the softmax."""
    o = method.options
    h_s, h_t = said.embedding.tolist(), taught.embedding.tolist()
    terms = {"CPD": cpd_by_hand(h_s, h_t, y, o.prototypes, o.cpd_distance)}
    if o.normalise == "l2":
        h_s, h_t = ([[v / math.hypot(*h) for v in h] for h in rows] for rows in (h_s, h_t))
    terms["SCD"] = scd_by_hand(h_s, h_t, o.margin, o.scd_reduction)
    z_s, z_t = said.logits.tolist(), taught.logits.tolist()
    if method.shape.task == "classification" and o.heads_per_class == "one-vs-rest":  # C binary questions a sample
        y = [int(label == k) for label in y for k in range(len(z_s[0]))]
        z_s, z_t = ([[0.0, z] for row in rows for z in row] for rows in (z_s, z_t))
    terms["task"] = mean(-math.log(softmax(z)[label]) for z, label in zip(z_s, y, strict=True))
    if o.rcd == "kl":
        terms["RCD"] = mean(entropy(softmax(t), softmax(s)) for s, t in zip(z_s, z_t, strict=True))
    if o.rcd == "information":
        r_s = [split_by_hand(z, label, o.tail) for z, label in zip(z_s, y, strict=True)]
        r_t = [split_by_hand(z, label, o.tail) for z, label in zip(z_t, y, strict=True)]
        terms["RCD"] = -sum(
            information_by_hand(
                score_by_hand(method.statistics[name]), [r[part] for r in r_s], [r[part] for r in r_t], o.negatives
            )
            for part, name in enumerate(["target", "rest"])
        )
    return terms


# --- small networks and batches --------------------------------------------------------------------------------------


def build(task="regression", seed=0, lengths=ALIGNED, **choices):
    return network(CorrKD, shape(task, lengths), SMALL | choices, seed)


def utterances(task="regression", n=10, seed=0, lengths=ALIGNED):
    """N utterances of different lengths, padded; scores in steps of 0.5 or classes."""
    y = scores(n, seed, 4)
    x, valid = sequences(n, seed, lengths)
    return Batch(x, dict(valid), valid, y if task == "regression" else y.abs().long())


def views_of(batch):
    return {"student": batch.show(some_frames(batch)), "teacher": batch}


# --- Eq. 1: sample-level contrastive distillation --------------------------------------------------------------------

pairs = pytest.mark.parametrize(("n", "width", "margin"), [(2, 1, 1.2), (2, 5, 3.0), (5, 3, 2.0), (30, 4, 2.5)])


@pairs
@pytest.mark.parametrize("reduction", SCD_REDUCTIONS)
def test_contrastive_distillation_is_equation_1(n, width, margin, reduction):
    student, teacher = drawn(n, width, seed=1), drawn(n, width, seed=2)
    expected = scd_by_hand(student.tolist(), teacher.tolist(), margin, reduction)
    close(contrastive_distillation(student, teacher, margin, reduction), expected)


@pairs
def test_contrastive_distillation_agrees_with_pytorch_metric_learning(n, width, margin):
    """Their per-pair hinges, squared by us as in Eq. 1, over all pairs (student i, teacher j)."""
    student, teacher, own = drawn(n, width, seed=3), drawn(n, width, seed=4), torch.arange(n)
    distance = LpDistance(normalize_embeddings=False, p=2, power=1)
    theirs = ContrastiveLoss(pos_margin=0, neg_margin=margin, distance=distance, reducer=DoNothingReducer())
    hinges = theirs(student, own, ref_emb=teacher, ref_labels=own.clone())
    positive, negative = (hinges[f"{kind}_loss"]["losses"].square() for kind in ("pos", "neg"))
    assert (len(positive), len(negative)) == (n, n * (n - 1))
    close(contrastive_distillation(student, teacher, margin, "mean"), positive.mean() + negative.mean())
    close(contrastive_distillation(student, teacher, margin, "sum"), (n - 1) * positive.sum() + negative.sum())
    close(contrastive_distillation(student, teacher, margin, "sum-positive-once"), positive.sum() + negative.sum())


@pairs
def test_the_printed_sum_counts_each_positive_n_minus_1_times(n, width, margin):
    student, teacher = drawn(n, width, seed=5), drawn(n, width, seed=6)
    value = {r: contrastive_distillation(student, teacher, margin, r) for r in SCD_REDUCTIONS}
    close(value["sum"] - value["sum-positive-once"], (n - 2) * (student - teacher).square().sum())
    close(value["sum"], n * (n - 1) * value["mean"])


@pairs
@pytest.mark.parametrize("reduction", SCD_REDUCTIONS)
def test_contrastive_distillation_has_right_gradients(n, width, margin, reduction):
    assert gradients_are_right(
        lambda s, t: contrastive_distillation(s, t, margin, reduction), drawn(n, width, seed=7), drawn(n, width, seed=8)
    )


@pytest.mark.parametrize("n", [3, 64])
def test_contrastive_distillation_in_single_precision(n):
    """Unit vectors at the paper's batch size, the student close to the teacher: where distances cancel."""
    teacher = F.normalize(drawn(n, 120, seed=9), dim=-1)
    student = F.normalize(teacher + 1e-3 * drawn(n, 120, seed=10), dim=-1)
    expected = scd_by_hand(student.tolist(), teacher.tolist(), 1.4, "mean")
    assert contrastive_distillation(student.float(), teacher.float(), 1.4).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("n", [3, 30])
def test_contrastive_distillation_of_equal_representations_has_finite_gradients(n):
    """A distance of zero has no gradient of its own; a student equal to its teacher must not become NaN."""
    student = drawn(n, 4).requires_grad_()
    contrastive_distillation(student, student.detach().clone(), 1.2).backward()
    assert student.grad.isfinite().all()


# --- Eqs. 2-4: category-guided prototype distillation ----------------------------------------------------------------


@batches
def test_class_prototypes_are_equation_2(y, classes):
    h = drawn(len(y), 3, seed=1)
    found, present = class_prototypes(h, torch.tensor(y), classes)
    expected = prototypes_by_hand(h.tolist(), y)
    assert found.shape == (classes, 3)
    assert present.tolist() == [k in expected for k in range(classes)]
    close(found, [expected.get(k, [0.0] * 3) for k in range(classes)])


@batches
def test_prototype_similarity_is_equation_3(y, classes):
    h = drawn(len(y), 4, seed=2)
    prototypes, present = class_prototypes(h, torch.tensor(y), classes)
    found = prototype_similarity(h, prototypes)[:, present]
    means = np.stack([h.numpy()[np.array(y) == k].mean(0) for k in sorted(set(y))])
    close(found, torch.from_numpy(cosine_similarity(h.numpy(), means)))
    close(found, [[cosine(row, means[k].tolist()) for k in range(len(means))] for row in h.tolist()])


@batches
@pytest.mark.parametrize("distance", ["squared", "absolute"])
def test_prototype_loss_is_equation_4(y, classes, distance):
    student, teacher = drawn(len(y), 3, seed=3), drawn(len(y), 3, seed=4)
    (own, present), (theirs, _) = (class_prototypes(h, torch.tensor(y), classes) for h in (student, teacher))
    similarity = prototype_similarity(student, own), prototype_similarity(teacher, theirs)
    found = prototype_loss(*similarity, present, distance)
    close(found, cpd_by_hand(student.tolist(), teacher.tolist(), y, "own", distance))
    close(found, prototype_loss(*(s[:, present] for s in similarity), present[present], distance))


@batches
def test_an_absent_class_does_not_count_in_k(y, classes):
    """Classes that the batch lacks change nothing, whatever stands in their columns."""
    student, teacher = drawn(len(y), classes, seed=5), drawn(len(y), classes, seed=6)
    present = torch.tensor([k in y for k in range(classes)])
    more = torch.cat([student, drawn(len(y), 3, seed=7)], -1), torch.cat([teacher, drawn(len(y), 3, seed=8)], -1)
    padded = torch.cat([present, torch.zeros(3, dtype=torch.bool)])
    close(prototype_loss(*more, padded), prototype_loss(student, teacher, present))
    close(prototype_loss(student, teacher, present), F.mse_loss(student[:, present], teacher[:, present]))


@batches
@pytest.mark.parametrize("distance", ["squared", "absolute"])
def test_prototype_loss_has_right_gradients(y, classes, distance):
    """Through the prototypes, too."""

    def loss(student, teacher):
        (own, present), (theirs, _) = (class_prototypes(h, torch.tensor(y), classes) for h in (student, teacher))
        similarity = prototype_similarity(student, own), prototype_similarity(teacher, theirs)
        return prototype_loss(*similarity, present, distance)

    assert gradients_are_right(loss, drawn(len(y), 3, seed=9), drawn(len(y), 3, seed=10))


# --- section 3.6: responses ------------------------------------------------------------------------------------------


@batches
@pytest.mark.parametrize("tail", ["raw", "renormalised"])
def test_disentangle_splits_the_response(y, classes, tail):
    logits = 2 * drawn(len(y), classes, seed=1)
    target, rest = disentangle(logits, torch.tensor(y), tail)
    assert (target.shape, rest.shape) == ((len(y), 1), (len(y), classes - 1))
    expected = [split_by_hand(z, label, tail) for z, label in zip(logits.tolist(), y, strict=True)]
    close(target, [part[0] for part in expected])
    close(rest, [part[1] for part in expected])
    close(rest.sum(-1), torch.ones(len(y), dtype=rest.dtype) if tail == "renormalised" else 1 - target.squeeze(-1))
    if classes == 2:
        close(rest, torch.ones_like(target) if tail == "renormalised" else 1 - target)


@batches
@pytest.mark.parametrize("tail", ["raw", "renormalised"])
def test_disentangle_has_right_gradients(y, classes, tail):
    assert gradients_are_right(lambda z: disentangle(z, torch.tensor(y), tail), drawn(len(y), classes, seed=2))


@batches
def test_without_target_deletes_the_column_of_the_target(y, classes):
    x = drawn(len(y), classes, seed=3)
    expected = [np.delete(row, label) for row, label in zip(x.numpy(), y, strict=True)]
    assert torch.equal(without_target(x, torch.tensor(y)), torch.from_numpy(np.stack(expected)))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
@pytest.mark.parametrize("form", [(2, 2), (5, 3), (7, 7)])
def test_softened_kl_agrees_with_scipy_and_torch(form, temperature):
    """The mean over rows of KL(teacher || student), without the factor tau^2."""
    student, teacher = 3 * drawn(*form, seed=4), 3 * drawn(*form, seed=5)
    p, q = ((z / temperature).softmax(-1).numpy() for z in (teacher, student))
    close(softened_kl(student, teacher, temperature), entropy(p, q, axis=-1).mean())
    logs = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    close(softened_kl(student, teacher, temperature), F.kl_div(*logs, reduction="batchmean", log_target=True))
    assert gradients_are_right(lambda s, t: softened_kl(s, t, temperature), student, teacher)


@pytest.mark.parametrize("negatives", ["roll", "all-pairs"])
@pytest.mark.parametrize(("n", "parts"), [(2, 1), (3, 1), (5, 2), (8, 6)])
def test_response_information_is_equation_6(n, parts, negatives):
    torch.manual_seed(n)
    network = perceptron([2 * parts, 6, 1]).double()
    student, teacher = drawn(n, parts, seed=6), drawn(n, parts, seed=7)
    expected = information_by_hand(score_by_hand(network), student.tolist(), teacher.tolist(), negatives)
    close(response_information(network, student, teacher, negatives), expected)
    smooth = torch.nn.Sequential(network[0], torch.nn.Tanh(), network[2])
    assert gradients_are_right(lambda s, t: response_information(smooth, s, t, negatives), student, teacher)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 4), (6, 30)])
def test_jsd_information_is_minus_twice_the_balanced_cross_entropy(n, m):
    """With sigma(F) as the probability that a pair belongs together, -log(1 + e^-F) = log sigma(F) and
    -log(1 + e^F) = log(1 - sigma(F)). Cross-entropy with half of its weight on either kind of pair is
    -1/2 E_joint[log sigma(F)] - 1/2 E_marginal[log(1 - sigma(F))] = -I / 2.
    """
    joint, marginal = 2 * drawn(n, 1, seed=8), 2 * drawn(m, 1, seed=9)
    scores = torch.cat([joint, marginal]).squeeze(-1)
    together = torch.tensor([1.0] * n + [0.0] * m, dtype=torch.float64)
    weight = torch.tensor([0.5 / n] * n + [0.5 / m] * m, dtype=torch.float64)
    theirs = log_loss(together.numpy(), scores.sigmoid().numpy(), sample_weight=weight.numpy(), labels=[0, 1])
    close(jsd_information(joint, marginal), -2 * theirs)
    by_torch = F.binary_cross_entropy_with_logits(scores, together, weight=weight, reduction="sum")
    close(jsd_information(joint, marginal), -2 * by_torch)


@pytest.mark.parametrize(
    "counts", [[[4, 1], [1, 4]], [[1, 2], [3, 6]], [[3, 1, 2], [1, 5, 1]], [[9, 1, 1], [1, 9, 1], [1, 1, 9]]]
)
def test_jsd_information_is_largest_at_the_log_density_ratio(counts):
    """For the joint table p(q, u) = counts / total the best F is log p(q, u) / p(q) p(u), where the estimate is
    2 JSD - 2 log 2: no other F reaches it, and its gradient is zero there. The second table is independent: JSD = 0.
    """
    counts = torch.tensor(counts)
    crossed = counts.sum(1, keepdim=True) * counts.sum(0)  # the table of P(Q) P(U), in units of 1 / total^2
    p, product = counts / counts.sum().double(), crossed / counts.sum().double() ** 2

    def estimate(f):
        return jsd_information(*(f.flatten().repeat_interleave(table.flatten()) for table in (counts, crossed)))

    best = (p / product).log().requires_grad_()
    divergence = jensenshannon(p.flatten().numpy(), product.flatten().numpy()) ** 2
    close(estimate(best), 2 * divergence - 2 * math.log(2))
    (slope,) = torch.autograd.grad(estimate(best), best)
    close(slope, torch.zeros_like(slope))
    for seed, size in enumerate([1e-2, 0.1, 0.5, 1.0, 5.0]):
        assert estimate(best + size * drawn(*counts.shape, seed=seed)) < estimate(best)


# --- layers ----------------------------------------------------------------------------------------------------------


def padding(n, steps):
    """A mask (N, T) whose rows show different numbers of frames, the first all of them, the last one."""
    return torch.arange(steps) < torch.linspace(steps, 1, n).round().long().unsqueeze(1)


@pytest.mark.parametrize(("width", "heads"), [(4, 1), (8, 2), (12, 4)])
def test_self_attention_agrees_with_torch(width, heads):
    torch.manual_seed(0)
    ours = SelfAttention(width, heads).double()
    theirs = torch.nn.MultiheadAttention(width, heads, batch_first=True).double()
    with torch.no_grad():
        for own, other in zip(theirs.parameters(), ours.parameters(), strict=True):
            own.copy_(other)
    x, seen = drawn(4, 6, width), padding(4, 6)
    close(ours(x, seen), theirs(x, x, x, key_padding_mask=~seen, need_weights=True)[0])


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(BadInput, match="3 attention heads do not divide the width 8"):
        build(width=8, heads=3)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_transformer_agrees_with_torch(norm):
    torch.manual_seed(1)
    ours = Transformer(8, 2, 3, 20, 0.0, norm).double()
    layer = torch.nn.TransformerEncoderLayer(8, 2, 20, 0.0, batch_first=True, norm_first=norm == "pre")
    final = torch.nn.LayerNorm(8) if norm == "pre" else None
    theirs = torch.nn.TransformerEncoder(layer, 3, final, enable_nested_tensor=False).double()
    with torch.no_grad():
        for block, other in zip(ours.blocks, theirs.layers, strict=True):
            parts = [
                (block.attention.project_in.weight, other.self_attn.in_proj_weight),
                (block.attention.project_in.bias, other.self_attn.in_proj_bias),
                *zip(block.attention.project_out.parameters(), other.self_attn.out_proj.parameters(), strict=True),
                *zip(block.network[0].parameters(), other.linear1.parameters(), strict=True),
                *zip(block.network[3].parameters(), other.linear2.parameters(), strict=True),
            ]
            for own, copied in parts:
                own.copy_(copied)
    x, seen = drawn(4, 6, 8), padding(4, 6)
    close(ours(x, seen), theirs(x, src_key_padding_mask=~seen))


@pytest.mark.parametrize(("steps", "width"), [(1, 2), (7, 6), (50, 40), (4, 5)])
def test_positions_are_the_cited_sinusoids(steps, width):
    """Vaswani et al. 2017: PE(t, 2i) = sin(t / 10000^(2i/d)), PE(t, 2i + 1) = cos(t / 10000^(2i/d))."""
    wave = (math.sin, math.cos)
    expected = [[wave[c % 2](t / 10000 ** ((c - c % 2) / width)) for c in range(width)] for t in range(steps)]
    close(positions(steps, width, torch.float64, torch.device("cpu")), expected)


def test_attendable_leaves_one_frame_to_an_utterance_that_has_none():
    valid = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    assert attendable(valid).tolist() == [[True, True, False], [False, True, False], [True, False, False]]


def test_convolution_over_time_is_a_loop_over_three_frames():
    torch.manual_seed(2)
    layer, x = TemporalConvolution(3, 2).double(), drawn(2, 4, 3)
    weight = layer.convolution.weight  # (out, in, frame - 1, frame, frame + 1)
    expected = torch.zeros(2, 4, 2, dtype=torch.float64)
    for n in range(2):
        for t in range(4):
            for k in (-1, 0, 1):
                if 0 <= t + k < 4:
                    expected[n, t] += weight[:, :, k + 1].detach() @ x[n, t + k]
    close(layer(x), expected)


def test_convolution_over_time_and_features_is_a_loop_over_nine_numbers():
    torch.manual_seed(3)
    layer, x = TemporalConvolution(3, 2, "2d").double(), drawn(1, 4, 3)
    kernel, bias = layer.convolution.weight.detach()[0, 0], layer.convolution.bias.item()
    inner = torch.full((1, 4, 3), bias, dtype=torch.float64)
    for t in range(4):
        for c in range(3):
            for i in (-1, 0, 1):
                for j in (-1, 0, 1):
                    if 0 <= t + i < 4 and 0 <= c + j < 3:
                        inner[0, t, c] += kernel[i + 1, j + 1] * x[0, t + i, c + j]
    close(layer(x), inner @ layer.linear.weight.detach().T)


def test_mean_over_averages_the_seen_frames():
    x, seen = drawn(3, 4, 2), torch.tensor([[True] * 4, [False, True, False, True], [False] * 4])
    close(mean_over(x, seen), torch.stack([x[0].mean(0), (x[1, 1] + x[1, 3]) / 2, torch.zeros(2).double()]))


def three(lengths, n=3):
    """Sequences of equal width and masks, as the encoders leave them."""
    sequences = {m: drawn(n, steps, 2, seed=i) for i, (m, steps) in enumerate(lengths.items())}
    seen = {m: drawn(n, steps, seed=9 + i) > -0.5 for i, (m, steps) in enumerate(lengths.items())}
    return sequences, seen


@pytest.mark.parametrize("lengths", [{"l": 5, "a": 5, "v": 5}, {"l": 5, "a": 1, "v": 5}, {"l": 1, "a": 1, "v": 1}])
def test_pooling_of_the_concatenation_is_the_concatenation_of_poolings(lengths):
    """The paper's Z is T x 3d and H its mean over time; a repeated vector is its own mean."""
    sequences, _ = three(lengths)
    everything = {m: torch.ones(x.shape[:2], dtype=torch.bool) for m, x in sequences.items()}
    aligned, seen = align(sequences, everything, "repeat-one")
    z = torch.cat(list(aligned.values()), -1)  # (N, T, 3 d)
    assert z.shape == (3, lengths["l"], 6)
    close(z.mean(1), torch.cat([mean_over(aligned[m], seen[m]) for m in aligned], -1))
    close(z.mean(1), torch.cat([x.mean(1) for x in sequences.values()], -1))


def test_repeat_one_keeps_what_is_seen():
    sequences, seen = three({"l": 4, "a": 1, "v": 4})
    aligned, kept = align(sequences, seen, "repeat-one")
    for t in range(4):
        assert torch.equal(aligned["a"][:, t], sequences["a"][:, 0])
        assert torch.equal(kept["a"][:, t], seen["a"][:, 0])
    assert all(torch.equal(aligned[m], sequences[m]) and torch.equal(kept[m], seen[m]) for m in "lv")


@pytest.mark.parametrize(("steps", "length"), [(4, 8), (4, 7), (3, 10), (5, 3), (1, 6)])
def test_pool_to_language_averages_the_seen_frames_of_each_bin(steps, length):
    """Frame i of T_a lies in the bin t of T with t / T <= i / T_a < (t + 1) / T."""
    sequences, seen = three({"l": steps, "a": length})
    aligned, kept = align(sequences, seen, "pool-to-language")
    assert torch.equal(aligned["l"], sequences["l"])
    for n in range(3):
        for t in range(steps):
            inside = [i for i in range(length) if t * length <= i * steps < (t + 1) * length and seen["a"][n, i]]
            assert kept["a"][n, t] == bool(inside)
            close(aligned["a"][n, t], sequences["a"][n, inside].mean(0) if inside else torch.zeros(2).double())


@pytest.mark.parametrize(
    ("how", "lengths", "fits"),
    [
        *[(how, {"l": 5, "a": 5, "v": 5}, True) for how in ALIGN],
        *[(how, {"l": 5, "a": 1, "v": 5}, how != "refuse") for how in ALIGN],
        *[(how, {"l": 5, "a": 5, "v": 7}, how == "pool-to-language") for how in ALIGN],
    ],
)
def test_align_refuses_what_it_cannot_bring_together(how, lengths, fits):
    sequences, seen = three(lengths)
    if fits:
        assert {x.shape for x in align(sequences, seen, how)[0].values()} == {(3, 5, 2)}
    else:
        with pytest.raises(BadInput, match=f"l has 5: align='{how}'.*choose align='pool-to-language'") as refusal:
            align(sequences, seen, how)
        assert next(f"{m} has {steps} frames" for m, steps in lengths.items() if steps != 5) in str(refusal.value)


# --- the network of section 3.3 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoders", ["per-modality", "shared"])
def test_the_representation_is_section_3_3(encoders):
    """F = convolution + positions, E = encoder(F), H = the mean over time of [E_L, E_A, E_V]; missing frames are
    zero vectors that attention sees, padding is not seen."""
    lengths = {"l": 5, "a": 5, "v": 5}
    method = build(lengths=lengths, pooling="all", encoders=encoders).eval()
    batch = utterances(lengths=lengths)
    batch = batch.show(some_frames(batch))
    encoded = []
    for m in "lav":
        f = method.convolutions[m](batch.x[m]) + positions(5, 8, batch.x[m].dtype, batch.y.device)
        encoded.append(method.encoders[m if encoders == "per-modality" else "shared"](f, batch.valid[m]))
    z = torch.cat(encoded, -1)  # (N, T, 3 d)
    output = method(batch)
    close(output.embedding, z.mean(1))
    close(output.logits, method.head(z.mean(1)))


@pytest.mark.parametrize("pooling", ["valid", "all", "observed"])
def test_pooling_runs_over_the_frames_it_names(pooling):
    method, batch = build(pooling=pooling).eval(), utterances()
    batch = batch.show(some_frames(batch))
    embedding = method(batch).embedding
    for i, m in enumerate("lav"):
        encoded = method.encode(m, batch)
        mask = {"valid": batch.valid[m], "observed": batch.frames[m], "all": torch.ones_like(batch.valid[m])}[pooling]
        for n in range(len(batch.y)):
            frames = [encoded[n, t] for t in range(ALIGNED[m]) if mask[n, t]] or [torch.zeros(8).double()]
            close(embedding[n, 8 * i : 8 * i + 8], torch.stack(frames).mean(0))


# --- the objective as a whole ----------------------------------------------------------------------------------------

LITERAL = {
    spec.name: spec.metadata["printed"] for spec in fields(CorrKDOptions) if spec.metadata["printed"] is not None
}
LABELS = {
    2: lambda y: 0 if y < 0 else 1,
    3: lambda y: 0 if y < 0 else 1 if y == 0 else 2,
    7: lambda y: min(range(-3, 4), key=lambda level: (abs(level - y), level % 2)) + 3,  # halves to the even level
}


@pytest.mark.parametrize(
    ("task", "choices"),
    [(task, choices) for task in TASKS for choices in ({}, LITERAL, {"prototypes": "teacher"})]
    + [(task, {"rcd": rcd}) for task in TASKS for rcd in ("kl", "none")]
    + [("regression", {"levels": 2, "tail": "raw"}), ("regression", {"levels": 2}), ("regression", {"levels": 7})]
    + [("classification", {"tail": "raw", "negatives": "all-pairs"})]
    + [("classification", {"heads_per_class": "one-vs-rest", "rcd": "kl"})],
    ids=str,
)
@pytest.mark.parametrize("n", [2, 9])
def test_losses_are_those_of_the_paper(task, choices, n):
    """Every term from the outputs of both networks; nothing is added and nothing is weighted by default."""
    student, teacher = build(task, 0, **choices).eval(), build(task, 1, **choices).eval()
    views = views_of(utterances(task, n, seed=3))
    said, taught = student(views["student"]), teacher(views["teacher"])
    y = views["student"].y.tolist()
    y = [LABELS[student.options.levels](score) for score in y] if task == "regression" else y
    terms, expected = losses(student, views, taught), losses_by_hand(student, said, taught, y)
    assert set(terms) == set(expected)
    for name, term in terms.items():
        assert term.shape == (), name
        close(term, expected[name])
    assert set(weights_of(student).values()) == {1.0}


def test_weights_are_those_of_the_options():
    weights = weights_of(build(scd_weight=0.5, cpd_weight=0.0, rcd_weight=2.0))
    assert weights == {"SCD": 0.5, "CPD": 0.0, "RCD": 2.0}


@pytest.mark.parametrize(
    ("task", "choices"),
    [(task, choices) for task in TASKS for choices in ({}, LITERAL, {"encoders": "shared", "head_layers": 2})]
    + [("regression", {"levels": 2}), ("classification", {"heads_per_class": "one-vs-rest"})],
    ids=str,
)
def test_a_training_step_moves_every_parameter_of_the_student_and_none_of_the_teacher(task, choices):
    """One step of `fit`: the teacher reads its own view (asked before training or in the step, it says the same), the
    student learns, gradients are finite."""
    pupil, tutor = (build(task, seed, dropout=0.0, **choices) for seed in (0, 1))
    batch = utterances(task, 12)
    place = torch.arange(len(batch.y)).unsqueeze(0)
    stage = pupil.stage("method", pupil.options)
    parents = {"complete": [tutor]}
    training = Training(Ready([pupil], stage, batch, place, None, Settings(batch=12), [0], parents))
    training.ask_parents()
    [teacher], clock = training.parents, training.clock(1, 0)
    step = training.step(place, clock)
    terms, _ = training.losses(step, clock)
    shown = {name: view.take(0) for name, view in step.views.items()}  # of the one seed
    for name, term in losses(pupil, shown, tutor(shown.get("teacher", batch))).items():
        close(terms[name], term.unsqueeze(0))
    sum(term.sum() for term in terms.values()).backward()
    for name, p in training.stack.parameters.items():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name
    assert all(p.grad is None for p in teacher.stack.parameters.values())


@pytest.mark.parametrize("task", TASKS)
def test_a_student_equal_to_its_teacher_has_finite_gradients(task):
    """Where distances, gaps of similarity and divergences are exactly zero."""
    method, batch = build(task).eval(), utterances(task, 30)
    with torch.no_grad():
        taught = method(batch)
    terms = losses(method, {"student": batch, "teacher": batch}, taught)
    sum(terms.values()).backward()
    close(terms["CPD"], 0.0)
    assert all(p.grad.isfinite().all() for p in method.parameters())


class Recorder(torch.nn.Module):
    """A statistics network that keeps the pairs it is asked about."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, pairs):
        self.asked.append(pairs.flatten(0, -2))
        return pairs.sum(-1, keepdim=True)


@pytest.mark.parametrize("negatives", ["roll", "all-pairs"])
@pytest.mark.parametrize("heads", ["softmax", "one-vs-rest"])
def test_negative_pairs_are_of_different_samples(heads, negatives):
    """P(Q) P(U) of Eq. 6: a response of the teacher never meets one of the student to the same sample, with binary
    heads neither. Samples are recognised by their target response."""
    method = build("classification", heads_per_class=heads, negatives=negatives)
    method.statistics["target"] = recorder = Recorder()
    n, y = 5, torch.tensor([0, 1, 2, 3, 1])
    logits = {"student": drawn(n, 4, seed=1), "teacher": drawn(n, 4, seed=2)}
    method.response_term(logits["student"], logits["teacher"], y)
    responses = {}
    for who, z in logits.items():
        if heads == "softmax":
            responses[who] = z.softmax(-1).gather(1, y.unsqueeze(1))
        else:
            responses[who] = torch.where(F.one_hot(y, 4).bool(), z.sigmoid(), 1 - z.sigmoid())  # (N, C)

    def sample(who, response):
        return int((responses[who] - response).abs().amin(1).argmin())

    same, different = ([(sample("teacher", t), sample("student", s)) for t, s in asked] for asked in recorder.asked)
    assert len(same) == responses["student"].numel()
    assert all(t == s for t, s in same)
    assert not [(t, s) for t, s in different if t == s]


# --- labels, predictions, the printed setting ------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 3, 7])
@brief
@given(scores=st.lists(st.integers(-15, 15), min_size=1, max_size=8), parts=st.sampled_from([2, 5]))
def test_labels_of_scores(levels, scores, parts):
    """Scores are means of annotators in [-3, 3], so multiples of a half or a fifth."""
    y = (torch.tensor(scores, dtype=torch.float64) / parts).clamp(-3, 3)
    assert build(levels=levels).answer.labels(y).tolist() == [LABELS[levels](score) for score in y.tolist()]


def test_labels_of_classes_are_the_classes():
    y = torch.tensor([3, 0, 2])
    assert torch.equal(build("classification").answer.labels(y), y)


@pytest.mark.parametrize("levels", [2, 3, 7])
def test_a_classifier_of_sentiment_predicts_signs(levels):
    """Of the probability of positive less negative: a classifier of a few levels has no score to be measured by."""
    logits = 2 * drawn(50, levels)
    p = logits.softmax(-1)
    half = levels // 2
    positive, negative = p[:, -half:].sum(-1), p[:, :half].sum(-1)
    found = build(levels=levels).answer.prediction(logits)
    assert not found.is_floating_point()
    assert found.tolist() == (positive - negative).sign().int().tolist()


def test_predicted_classes_are_probabilities_or_all_that_hold():
    logits = drawn(20, 4)
    close(build("classification").answer.prediction(logits), logits.softmax(-1))
    heads = build("classification", heads_per_class="one-vs-rest")
    assert torch.equal(heads.answer.prediction(logits), logits.sigmoid() > 0.5)


@pytest.mark.parametrize(
    ("family", "heads", "eta", "lr", "batch", "epochs"),
    [("mosi", 10, 1.2, 4e-3, 64, 50), ("mosei", 8, 1.0, 2e-3, 32, 20), ("iemocap", 10, 1.4, 4e-3, 64, 30)],
)
def test_the_paper_profile_is_section_4_2(family, heads, eta, lr, batch, epochs):
    choices, trained = CorrKD.recipe(family, "paper")
    options = CorrKDOptions.of(**choices)
    assert (options.width, options.heads, options.margin) == (40, heads, eta)
    assert trained == {"lr": lr, "batch": batch, "epochs": epochs}


# --- properties ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_utterances_changes_no_term(task):
    """Of RCD this is true where all pairs are taken."""
    student, teacher = build(task, 0, negatives="all-pairs").eval(), build(task, 1).eval()
    views, order = views_of(utterances(task, 6)), torch.tensor([5, 2, 0, 1, 4, 3])
    shuffled = {name: view.take(order) for name, view in views.items()}
    before, after = (losses(student, v, teacher(v["teacher"])) for v in (views, shuffled))
    for name, term in before.items():
        close(after[name], term)


def test_step_ii_as_printed_swaps_the_views():
    batch, draws = stacked(utterances()), Draws((0,), 0)
    figure, step = (views_drawn(build(inputs=inputs), batch, draws) for inputs in ("teacher-complete", "as-step-ii"))
    assert set(figure) == {"student"}, "the teacher is asked for complete utterances, which no step draws"
    assert build().stage("method", build().options).taught_by == {"complete": ("complete",)}
    asked = build(inputs="as-step-ii").stage("method", build(inputs="as-step-ii").options).taught_by
    assert asked == {"complete": ("teacher",)}
    for m in batch.x:
        assert torch.equal(step["student"].x[m], batch.x[m])
        assert torch.equal(step["teacher"].x[m], figure["student"].x[m])
