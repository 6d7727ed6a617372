"""UMDF (Li et al., AAAI 2024): two missing versions of an utterance teach each other within one network.

Losses first, as pure functions of representations h (N, D); then the options, the paper's hyper-parameters, the
network's parts, and the class that wires them. Indices a, b of the paper: the two versions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.batch import by_length, concatenate, cut
from ..data.missing import training_view
from ..support.draws import Draws
from ..support.errors import one_of
from .answers import Classes, Score
from .base import NUMBER, WHOLE, Method, Options, Recipe, option
from .encoders import convolutions, low_level, transformer, usual
from .layers import CrossAttention, TemporalConvolution, align, attendable, last_of, mean_over, perceptron
from .losses import jensen_shannon
from .steps import Output

ESTIMATORS = ("v-statistic", "u-statistic", "without-pairs")
BANDWIDTHS = ("median", "mean", "one")


def squared_distances(points: Tensor) -> Tensor:
    """|x_i - x_j|^2 of all pairs: (N, D) -> (N, N). Centred first, so that little cancels."""
    points = points - points.mean(0)
    norms = points.square().sum(-1)
    return (norms.unsqueeze(0) + norms.unsqueeze(1) - 2 * points @ points.T).clamp(min=0)


def kernel_matrix(points: Tensor, kernels: int = 5, bandwidth: str = "median") -> Tensor:
    """Sum of Gaussians of all pairs: (N, D) -> (N, N).

        k(x, y) = sum_i exp(-|x - y|^2 / (s_i w)),  s_i = 2^(i - (I - 1) / 2) for i = 0 ... I - 1

    w is the median, or the mean, of the squared distances of distinct points (no gradient runs through it; where most
    points are one, it stays above what rounding leaves of their distances), or one. I = 5 gives the scales 1/4 ... 4.
    """
    distances = squared_distances(points)
    first, second = torch.triu_indices(len(points), len(points), 1, device=points.device)
    apart, precision = distances.detach()[first, second], torch.finfo(points.dtype)
    if one_of("bandwidth", bandwidth, BANDWIDTHS) == "one":
        width = torch.ones_like(apart[0])
    else:
        width = apart.median() if bandwidth == "median" else apart.mean()
        width = torch.maximum(width, precision.eps**0.5 * apart.max()).clamp(min=precision.tiny**0.5)
    return sum((-distances / (2.0 ** (i - (kernels - 1) / 2) * width)).exp() for i in range(kernels))


def maximum_mean_discrepancy(
    one: Tensor, other: Tensor, kernels: int = 5, bandwidth: str = "median", estimator: str = "v-statistic"
) -> Tensor:
    """Squared maximum mean discrepancy of two samples, Eqs. 1-2.

        |mean phi(a) - mean phi(b)|^2 = mean_ij k(a_i, a_j) + mean_ij k(b_i, b_j) - 2 mean_ij k(a_i, b_j)

    one, other (N, D), N >= 2; kernel: see `kernel_matrix`, its bandwidth from both samples together. Eq. 2 is this
    V-statistic: never negative, and for two independent samples of one distribution too large by
    (k(0) - E k(x, y)) 2 / N. The `u-statistic` leaves i = j out of the first two means: unbiased for independent
    samples, as the text says, and often negative. Two versions of one utterance are not independent: `without-pairs`
    leaves i = j out of all three means, and Eq. 2 is 1/N `paired_discrepancy` + (1 - 1/N) `without-pairs`.
    """
    n = len(one)
    similar = kernel_matrix(torch.cat([one, other]), kernels, bandwidth)
    within, across = similar[:n, :n].sum() + similar[n:, n:].sum(), similar[:n, n:]
    if one_of("estimator", estimator, ESTIMATORS) == "v-statistic":
        return within / n**2 - 2 * across.mean()
    apart = (within - similar.diagonal().sum()) / (n * (n - 1))
    if estimator == "u-statistic":
        return apart - 2 * across.mean()
    return apart - 2 * (across.sum() - across.diagonal().sum()) / (n * (n - 1))


def paired_discrepancy(one: Tensor, other: Tensor, kernels: int = 5, bandwidth: str = "median") -> Tensor:
    """Eq. 3 with a meaning for its sum over i: the mean over samples of the discrepancy of sample i's two versions.

    1/N sum_i |phi(a_i) - phi(b_i)|^2 = 1/N sum_i k(a_i, a_i) + k(b_i, b_i) - 2 k(a_i, b_i)
    """
    n = len(one)
    similar = kernel_matrix(torch.cat([one, other]), kernels, bandwidth)
    return 2 * (similar[:n, :n].diagonal() - similar[:n, n:].diagonal()).mean()


@dataclass(frozen=True)
class UMDFOptions(Options):
    """Every choice of UMDF: printed hyper-parameters first, then what the paper leaves open."""

    width: int = usual("width", "Setup", "printed: 40 on all three datasets")
    heads: int = usual("heads", "Setup", "printed: 10, 8, 10; must divide the width")
    depth: int = usual("depth", "Setup", "printed: 4 layers of cross-modal interaction")
    feature_weight: float = option(0.1, NUMBER, "loss", "Objective", "lambda_1 is not given; 0 is w/o L_fea")
    logits_weight: float = option(1.0, NUMBER, "loss", "Objective", "lambda_2 is not given; 0 is w/o L_logits")
    feature: str = option(
        "mmd",
        ("mmd", "paired-mmd", "paired-l2"),
        "loss",
        "Eq. 3",
        "its mean over samples is of a batch statistic: void, or each sample's own two versions; l2 is a control",
    )
    estimator: str = option(
        "v-statistic",
        ESTIMATORS,
        "loss",
        "Eq. 2",
        "called unbiased; printed is the biased V-statistic, whose bias alone knows the pairs",
        "v-statistic",
    )
    kernels: int = option(5, WHOLE, "loss", "Eq. 1", "the kernel is not given; Gaussians of several widths are usual")
    bandwidth: str = option("median", BANDWIDTHS, "loss", "Eq. 1", "the kernel's width is not given")
    direction: str = option(
        "both",
        ("both", "to-fewer"),
        "loss",
        "Eqs. 3, 5",
        "both versions move; to-fewer: the version with more frames teaches and stays",
        "both",
    )
    temperature: float = option(1.0, (1.0, 2.0, 4.0), "loss", "Eq. 5", "responses from logits: softmax is not written")
    logits_head: str = option(
        "shared",
        ("shared", "separate"),
        "loss",
        "Eq. 5",
        "whether f_y is the task's head; one of its own, which no label reaches, collapses",
    )
    second: str = option(
        "missing",
        ("missing", "complete"),
        "views",
        "Self-distillation",
        "two missing versions in the paper; with the complete one beside it, it is distillation from a teacher",
        "missing",
    )
    sources: str = option(
        "advancing",
        ("advancing", "low-level"),
        "network",
        "Eq. 8",
        "whether layer i attends to what layer i - 1 made of all modalities, or always to the low-level ones",
    )
    weights_of: str = option(
        "target", ("target", "shared"), "network", "Eq. 7", "whether each target modality has its own weights"
    )
    interaction: str = option(
        "cross", ("cross", "self"), "network", "Table 3", "printed: cross; self is the ablation w/o MCIM"
    )
    integration: str = option(
        "dynamic", ("dynamic", "concatenation"), "network", "Table 3", "printed: dynamic; the other is w/o DFIM"
    )
    enhancement: str = option(
        "frames",
        ("frames", "frames-unscaled", "pooled"),
        "network",
        "DFIM, 3)",
        "a matrix product of (T x 1) and (T x 3d) does not exist: frames weighed (times T keeps their scale), or M^T H",
    )
    stream_weights: str = option(
        "shared", ("shared", "own"), "network", "DFIM, 1)", "F_k has the index of the version, its weights have none"
    )
    last: str = option(
        "valid",
        ("valid", "step", "mean"),
        "network",
        "Eq. 3, DFIM",
        "the last element of a padded sequence: of its words, of the padding, or the mean instead",
        "step",
    )
    joint_depth: int = option(1, WHOLE, "network", "MCIM", "depth of the first transformer encoder; not given")
    integration_depth: int = option(1, WHOLE, "network", "DFIM", "depth of the second transformer encoder; not given")
    feedforward: int = usual("feedforward", "MCIM", "width of feed-forward parts in units of theirs; not given")
    head_layers: int = option(2, WHOLE, "network", "DFIM", "fully-connected layers, in the plural; no number")
    dropout: float = usual("dropout", "MCIM")
    norm: str = usual("norm", "MCIM", "of the encoders; post is the cited Transformer's")
    convolution: str = usual("convolution", "MCIM, Eq. 10")
    align: str = usual("align", "MCIM", "[Z_L, Z_A, Z_V] on features needs equal lengths, Eq. 8 does not")
    drop_modalities: str = usual("drop_modalities", "Self-distillation", "rates of missing are not given")
    drop_frames: str = usual("drop_frames", "Self-distillation", "rates of missing are not given")
    complete_case: str = usual(
        "complete_case", "Self-distillation", "whether a version may be complete: it may", printed="yes"
    )


RECIPE = Recipe(
    printed={  # Experimental Setup
        "mosi": ({"heads": 10}, {"lr": 1e-3, "batch": 128, "epochs": 100}),
        "mosei": ({"heads": 8}, {"lr": 1e-3, "batch": 16, "epochs": 30}),
        "iemocap": ({"heads": 10}, {"lr": 2e-3, "batch": 32, "epochs": 40}),
    },
    smoke=({"width": 8, "heads": 2, "depth": 1}, {"batch": 32, "epochs": 2, "looks": 2}),
    small=(
        {"width": 24, "heads": 2, "depth": 2, "feedforward": 2},
        {"lr": 1.5e-3, "batch": 64, "epochs": 12, "looks": 6},
    ),
)


class InteractionLayer(nn.Module):
    """One layer of multi-grained cross-modal interaction for one target modality, Eqs. 8-9 and the text below them.

    Z^c = LN(CA(Z_all, Z) + Z)
    Z^f = sum over the other modalities m of LN(CA([Z, Z_m], Z^c) + Z^c)
    Z^h = LN(FFN(Z^f) + Z^f)
    """

    def __init__(self, width, heads, others, feedforward, dropout):
        super().__init__()
        self.coarse = CrossAttention(width, heads)
        self.fine = nn.ModuleList(CrossAttention(width, heads) for _ in range(others))
        self.network = perceptron([width, feedforward, width])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 + others))
        self.dropout = nn.Dropout(dropout)

    def forward(self, target: Tensor, everything, pairs) -> Tensor:
        """target (B, T, d); everything, pairs: a source (B, T_s, d) with its frames (B, T_s), and one for each other
        modality -> (B, T, d)."""
        coarse = self.norms[0](self.dropout(self.coarse(everything[0], target, everything[1])) + target)
        fine = sum(
            norm(self.dropout(attention(source, coarse, seen)) + coarse)
            for attention, norm, (source, seen) in zip(self.fine, self.norms[2:], pairs, strict=True)
        )
        return self.norms[1](self.dropout(self.network(fine)) + fine)


class UMDF(Method):
    """The network of Figures 1 and 2 with its two distillation losses; there is no other teacher than itself."""

    Options = UMDFOptions
    recipe = RECIPE
    situations = ({"depth": 2},)

    def __init__(self, shape, options):
        super().__init__(shape, options)
        o, names, d = options, tuple(shape.widths), options.width
        self.answer = Score("mse") if shape.task == "regression" else Classes(len(shape.classes))
        outputs, joint, others = self.answer.size, d * len(names), max(1, len(names) - 1)
        self.convolutions = convolutions(shape, o)
        owners = names if o.weights_of == "target" else ("shared",)
        self.layers = nn.ModuleList(
            nn.ModuleDict({m: InteractionLayer(d, o.heads, others, o.feedforward * d, o.dropout) for m in owners})
            for _ in range(o.depth)
        )
        self.joint, self.integration = (transformer(joint, o, depth) for depth in (o.joint_depth, o.integration_depth))
        self.importance = nn.ModuleList(nn.Linear(joint, 1) for _ in range(1 if o.stream_weights == "shared" else 2))
        self.gate = TemporalConvolution(2 * joint, joint, o.convolution)
        self.head = perceptron([joint] * o.head_layers + [outputs])
        self.logits_head = nn.Linear(joint, outputs)  # f_y, where it is not the task's head
        self.concatenation = nn.Linear(2 * joint, joint)  # of the ablation

    def weights(self, clock):
        return {"fea": self.options.feature_weight, "logits": self.options.logits_weight}

    def views(self, batch, draws):
        """Two versions of every utterance, drawn independently."""
        o = self.options
        again = Draws(draws.seeds, f"{draws.step}, second version", draws.device)
        kinds = o.drop_modalities, o.drop_frames, o.complete_case
        second = batch if o.second == "complete" else training_view(batch, again, *kinds)
        return {"student": training_view(batch, draws, *kinds), "second": second}, {}

    def forward(self, batch):
        return self.in_groups(self.one_stream, batch)

    def two_streams(self, one, other):
        """What the network says of two versions of N utterances; extras: h_a, h_b (N, 3d)."""
        return self.in_groups(self.both_streams, one, other)

    def in_groups(self, read, *versions):
        """`read` versions of N utterances, those of similar length together: less padding, the same answers."""
        groups = by_length(versions[0]) if self.options.last != "step" else []  # it stands where the padding ends
        if len(groups) < 2:
            return read(*versions)
        said = [read(*(cut(version, *group) for version in versions)) for group in groups]
        back = torch.cat([rows for rows, _ in groups]).argsort()
        logits, embedding = (torch.cat([getattr(o, name) for o in said])[back] for name in ("logits", "embedding"))
        extras = {name: torch.cat([o.extras[name] for o in said])[back] for name in said[0].extras}
        return Output(logits, embedding, extras)

    def one_stream(self, batch):
        """Both streams read the same utterances, so what comes before their integration is computed once."""
        joint, seen = self.represent(batch)
        embedding = self.integrate(joint, joint, seen)
        return Output(self.head(embedding), embedding)

    def both_streams(self, one, other):
        """Two versions as one batch of 2 N rows."""
        joint, seen = self.represent(concatenate([one, other]))
        (a, b), seen = joint.unflatten(0, (2, -1)), seen[: len(joint) // 2]  # frames exist in both versions alike
        embedding = self.integrate(a, b, seen)
        return Output(self.head(embedding), embedding, {"h_a": self.last(a, seen), "h_b": self.last(b, seen)})

    def represent(self, batch):
        """H_k, the joint representation (B, T, 3d), and the frames (B, T) that the utterances have."""
        z = {m: low_level(self.convolutions[m], batch.x[m]) for m in batch.modalities}  # Z_m
        seen = {m: attendable(batch.valid[m]) for m in batch.modalities}
        sources = z
        for layer in self.layers:
            z = {m: self.interact(layer, m, z[m], sources, seen) for m in z}
            sources = z if self.options.sources == "advancing" else sources
        z, seen = align(z, {m: batch.valid[m] for m in z}, self.options.align)
        words = next(iter(seen.values()))
        return self.joint(torch.cat([*z.values()], -1), attendable(words)), words

    def interact(self, layer, m, target, sources, seen):
        """One layer for the target modality m: what it attends to, coarse and fine."""
        own = layer[m if m in layer else "shared"]
        others = [other for other in sources if other != m] or [m]
        if self.options.interaction == "self":
            alone = target, seen[m]
            return own(target, alone, [alone] * len(others))
        return own(target, _joined(sources, seen, sources), [_joined(sources, seen, (m, n)) for n in others])

    def integrate(self, a, b, seen):
        """DFIM: two joint representations (B, T, 3d) -> the last element of their integration, (B, 3d)."""
        if self.options.integration == "concatenation":
            return self.concatenation(torch.cat([self.last(a, seen), self.last(b, seen)], -1))
        a, b = self.enhance(a, seen, self.importance[0]), self.enhance(b, seen, self.importance[-1])
        seen = seen[:, -1:] if a.shape[-2] == 1 else seen
        share = torch.sigmoid(self.gate(torch.cat([a, b], -1)))  # Eq. 10
        mixed = torch.lerp(b, a, share)  # Eq. 11, so that equal streams stay as they are to the last bit
        return self.last(self.integration(mixed, attendable(seen)), seen)

    def enhance(self, joint, seen, importance):
        """Self-enhancement: frames weighed by a softmax of their importance, (B, T, 3d) -> the same, or (B, 1, 3d)."""
        there = attendable(seen).unsqueeze(-1)
        weight = importance(joint).masked_fill(~there, -torch.inf).softmax(-2)  # M_k: (B, T, 1)
        if self.options.enhancement == "pooled":
            return (weight * joint).sum(-2, keepdim=True)
        return weight * joint * (there.sum(-2, keepdim=True) if self.options.enhancement == "frames" else 1)

    def last(self, joint, seen):
        """What stands for a whole sequence (B, T, 3d): its last element, or its mean, (B, 3d)."""
        if self.options.last == "mean":
            return mean_over(joint, attendable(seen))
        return joint[..., -1, :] if self.options.last == "step" else last_of(joint, seen)

    def losses(self, step, *, clock):
        views = step.views
        output = self.two_streams(views["student"], views["second"])
        h = output.extras["h_a"], output.extras["h_b"]
        read = self.head if self.options.logits_head == "shared" else self.logits_head
        return {
            "task": self.answer.loss(output.logits, views["student"].y),
            "fea": self.feature_term(*self.moving(h, views)),
            "logits": self.logits_term(*self.moving([read(one) for one in h], views)),
        }

    def plain_losses(self, step, *, clock):
        return {"task": self.answer.loss(self.both(step.views).logits, step.views["student"].y)}

    def oracle_losses(self, step, *, clock):
        return {"oracle": self.answer.soft(self.both(step.views).logits, step.soft)}

    def both(self, views):
        """The two streams of a step; where there is one view, both read it, as at test time."""
        return self.two_streams(views["student"], views["second"]) if "second" in views else self(views["student"])

    def moving(self, pair, views):
        """The pair (N, K) of the two versions, held fast where it shall not move."""
        if self.options.direction == "both":
            return pair
        shown = [sum(frames.sum(-1) for frames in views[name].frames.values()) for name in ("student", "second")]
        fuller = (shown[0] >= shown[1]).unsqueeze(-1)  # the first has as much to see as the second
        return torch.where(fuller, pair[0].detach(), pair[0]), torch.where(fuller, pair[1], pair[1].detach())

    def feature_term(self, a, b):
        """Eq. 3 from the last elements of both versions, (N, 3d)."""
        o = self.options
        if o.feature == "paired-l2":
            return (a - b).square().sum(-1).mean()
        if o.feature == "paired-mmd":
            return paired_discrepancy(a, b, o.kernels, o.bandwidth)
        return maximum_mean_discrepancy(a, b, o.kernels, o.bandwidth, o.estimator)

    def logits_term(self, a, b):
        """Eq. 5 for classes, Eq. 6 for scores, from the logits of both versions, (N, C)."""
        return F.mse_loss(a, b) if isinstance(self.answer, Score) else jensen_shannon(a, b, self.options.temperature)


def _joined(sources, seen, names):
    """The sequences of some modalities one after the other, (B, sum of T_m, d), with their frames."""
    return torch.cat([sources[m] for m in names], -2), torch.cat([seen[m] for m in names], -1)
