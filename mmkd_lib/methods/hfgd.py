"""HFGD (Liu et al., preprint): two missing versions of an utterance, factorized and compared at three scales.

Losses first, as pure functions; then the options, the paper's hyper-parameters, the network's parts, and the class that
wires them. E, Q, U of the paper: low-level, collaborative and modality-exclusive representations of a modality; indices
a, b: the two versions.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.batch import concatenate
from ..data.missing import training_view
from ..support.draws import Draws
from .answers import Classes, Levels, Score
from .base import NUMBER, WHOLE, Method, Options, Recipe, option
from .encoders import convolutions, encode, transformer, usual
from .layers import TemporalConvolution, align, attendable, mean_over, perceptron
from .losses import jensen_shannon, mean_counted
from .steps import Output

SALIENCIES = ("softmax", "predicted", "clipped", "uniform", "free")


def segments(x: Tensor, seen: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean of x (B, T, d) over each of N = min(count, T) segments of time, and which segments hold a frame of `seen`.

    Returns (B, N, d) and (B, N). Segments are as equal as T allows, the first ones longer (section 3.3; the paper has
    ten of T / 10 frames). They cut the padded time, and only frames of `seen` (B, T) count: a short utterance fills the
    first of them.
    """
    steps = x.shape[-2]
    count = min(count, steps)
    sizes = torch.tensor([steps // count + (i < steps % count) for i in range(count)])
    of = torch.repeat_interleave(torch.arange(count), sizes).to(x.device)  # (T,) the segment of each frame
    member = (of == torch.arange(count, device=x.device).unsqueeze(1)).to(x.dtype)  # (N, T)
    weight = seen.to(x.dtype)
    held = weight @ member.T  # (B, N)
    return (member @ (x * weight.unsqueeze(-1))) / held.clamp(min=1).unsqueeze(-1), held > 0


def salient_information(joint: Tensor, marginal: Tensor, weight: Tensor) -> Tensor:
    """Information of a representation about each segment by Jensen-Shannon estimates, weighted, Eqs. 1, 2 and 4.

        sum_i w^i (-sp(-F_joint^i) - sp(F_marginal^i)),  sp(x) = log(1 + e^x)

    joint, marginal (B, N): scores of the statistics network for a segment with a representation of its own utterance,
    and of another one; weight (N,) or (B, N). Returns (B,); never positive where weights are not negative.
    """
    return (weight * (-F.softplus(-joint) - F.softplus(marginal))).sum(-1)


def contrastive_alignment(collaborative: dict[str, Tensor], exclusive: dict[str, Tensor], margin, counted=None):
    """Contrastive alignment, Eq. 6, from vectors m -> (B, D).

        1 / (M (M - 1)) sum_a sum_{b != a} |Q_a - Q_b|^2 + max(0, eta - |Q_a - U_a|)^2

    A mean over rows, each term's over those where its modalities are `counted`, (M, B); all where it is None.
    """
    q, u = (torch.stack([*side.values()]) for side in (collaborative, exclusive))
    counted = torch.ones_like(q[..., 0], dtype=torch.bool) if counted is None else counted
    near = mean_counted((q.unsqueeze(0) - q.unsqueeze(1)).square().sum(-1), counted.unsqueeze(0) & counted.unsqueeze(1))
    squared = (q - u).square().sum(-1)
    distance = squared.clamp(min=torch.finfo(squared.dtype).tiny).sqrt()
    far = mean_counted((margin - distance).clamp(min=0).square(), counted)
    return near.sum() / max(1, len(q) * (len(q) - 1)) + far.mean()  # a modality is no way from itself


def literal_adversary(logits: dict[str, Tensor], counted=None) -> Tensor:
    """Eq. 7 as it is printed, from the discriminator's logits m -> (B,), D = sigmoid(logits).

        1 / (M (M - 1)) sum_a sum_{b != a} log(1 - D(Q_a)) + log D(Q_b)  =  1 / M sum_a log(1 - D(Q_a)) + log D(Q_a)

    The right side is what the ordered pairs leave of it: no modality is told from another, it is at most -2 log 2 and
    has no lower bound. counted: see `contrastive_alignment`.
    """
    said = torch.stack([*logits.values()])
    return mean_counted(F.logsigmoid(-said) + F.logsigmoid(said), counted).mean()


def sliced_wasserstein(
    one: Tensor, other: Tensor, directions: Tensor, order: int = 2, seen: Tensor | None = None
) -> Tensor:
    """Sliced Wasserstein distance of two samples (..., N, D) along `directions` (D, L) of unit length, for Eq. 9.

        (1 / (L N) sum_l sum_i |a_(i) u_l - b_(i) u_l|^p)^(1/p),  each projection sorted; p = order

    seen (..., N): the rows that belong to the samples, the same ones in both; all where it is None. Returns (...).
    """
    projected = (one @ directions, other @ directions)  # (..., N, L)
    if seen is not None:  # the others stand at the end of both, and do not differ
        projected = (p.masked_fill(~seen.unsqueeze(-1), torch.finfo(p.dtype).max) for p in projected)
    first, second = (torch.sort(p, dim=-2).values for p in projected)
    moved = (first - second).abs()
    count = one.shape[-2] if seen is None else seen.sum(-1).clamp(min=1)
    mean = moved.pow(order).sum((-2, -1)) / (count * directions.shape[-1])
    return mean.clamp(min=torch.finfo(mean.dtype).tiny).pow(1 / order)


def gaussian_wasserstein(one: Tensor, other: Tensor, seen: Tensor | None = None) -> Tensor:
    """2-Wasserstein distance of the normal distributions with the moments of two samples (..., N, D), for Eq. 9.

        (|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^(1/2) S_b S_a^(1/2))^(1/2)))^(1/2)

    S: covariances with 1/N. The trace of the root is the sum of the singular values of A B^T / N, A and B the centred
    samples. seen (..., N): see `sliced_wasserstein`. Returns (...).
    """
    every = torch.ones_like(one[..., 0], dtype=torch.bool) if seen is None else seen
    means = [mean_over(sample, every) for sample in (one, other)]
    weight, n = every.unsqueeze(-1).to(one.dtype), every.sum(-1).clamp(min=1)
    a, b = ((sample - m.unsqueeze(-2)) * weight for sample, m in zip((one, other), means, strict=True))
    spread = a.square().sum((-2, -1)) + b.square().sum((-2, -1)) - 2 * torch.linalg.svdvals(a @ b.mT).sum(-1)
    squared = (means[0] - means[1]).square().sum(-1) + spread / n
    return squared.clamp(min=torch.finfo(one.dtype).tiny).sqrt()


def symmetric_kl(one: Tensor, other: Tensor) -> Tensor:
    """(KL(p || q) + KL(q || p)) / 2 of the softmaxes p, q of features (..., D), in nats, for w/o L_HSD^feat: (...)."""
    log_p, log_q = one.log_softmax(-1), other.log_softmax(-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1) / 2


def reverse(x: Tensor) -> Tensor:
    """The same values, the gradient's sign reversed (Ganin and Lempitsky 2015); runs under vmap."""
    return 2 * x.detach() - x


@dataclass(frozen=True)
class HFGDOptions(Options):
    """Every choice of HFGD: printed hyper-parameters first, then what the paper leaves open."""

    width: int = usual("width", "4.2", "printed: 40 on all three datasets")
    heads: int = usual("heads", "4.2", "printed: 10, 8, 10; must divide the width")
    margin: float = option(1.2, NUMBER, "loss", "Eq. 6", "printed: eta = 1.2, 1.0, 0.7")
    segments: int = option(10, WHOLE, "loss", "3.3", "printed: 10 (fewer where there are fewer frames)")
    inter_weight: float = option(1.0, NUMBER, "loss", "3.6", "printed: no weight, so 1; 0 is w/o L_TSF^inter")
    intra_weight: float = option(1.0, NUMBER, "loss", "3.6", "printed: no weight, so 1; 0 is w/o L_TSF^intra")
    ctrst_weight: float = option(1.0, NUMBER, "loss", "3.6", "printed: no weight, so 1; 0 is w/o L_DAF^ctrst")
    adv_weight: float = option(1.0, NUMBER, "loss", "3.6", "printed: no weight, so 1; 0 is w/o L_DAF^adv")
    feat_weight: float = option(1.0, NUMBER, "loss", "3.6", "printed: no weight, so 1; 0 is part of w/o HSD")
    logits_weight: float = option(1.0, NUMBER, "loss", "3.6", "printed: no weight, so 1; 0 is w/o L_HSD^logits")
    auxiliary: float = option(
        0.1,
        NUMBER,
        "loss",
        "3.6",
        "of all terms but the task's: the sum has no weights, and at 1 representations turn constant (Audit 3)",
        1.0,
    )
    answers: str = option(
        "score",
        ("score", "classes"),
        "network",
        "3.6",
        "cross-entropy is named, MAE reported: a score by regression, or the mean of seven classes",
        "classes",
    )
    score_loss: str = option("l1", ("l1", "mse"), "network", "3.6", "of a score; not given, and MAE is reported")
    saliency: str = option(
        "softmax",
        SALIENCIES,
        "loss",
        "Eqs. 1-2",
        "a weight without bounds lets the loss fall without end (Audit 2); uniform is w/o omega",
        "free",
    )
    divide: str = option(
        "once", ("once", "twice"), "loss", "Eqs. 1-2", "weights that sum to one, and 1/N before the sum", "twice"
    )
    statistics: str = option(
        "per-pair", ("per-pair", "shared"), "loss", "Eq. 4", "how many statistics networks there are is not said"
    )
    statistics_width: int = option(80, WHOLE, "loss", "Eq. 4", "a deep network of unknown size; twice the width")
    projection: str = option(
        "pooled",
        ("pooled", "convolution"),
        "loss",
        "3.3",
        "how segments meet Q: means over time; or means of a convolution over time",
        "convolution",
    )
    normalise: str = option(
        "l2", ("l2", "none"), "loss", "Eq. 6", "margins near 1 act on vectors of unit length only", "none"
    )
    compared: str = option(
        "pooled",
        ("pooled", "sequence"),
        "loss",
        "Eq. 6",
        "the distance of T x d matrices, or of their means over time",
        "sequence",
    )
    adversary: str = option(
        "classifier",
        ("classifier", "literal"),
        "loss",
        "Eq. 7",
        "over ordered pairs it has no label and no bound (Audit 1); a classifier of modalities with reversed gradient",
        "literal",
    )
    absent: str = option(
        "counted",
        ("counted", "left-out"),
        "loss",
        "Eqs. 1-7",
        "whether a modality of which nothing is shown takes part in the factorization losses",
        "counted",
    )
    distance: str = option(
        "sliced", ("sliced", "gaussian", "kl"), "loss", "Eqs. 9-10", "no estimator is given; kl is w/o L_HSD^feat"
    )
    order: int = option(2, (2, 1), "loss", "Eq. 9", "p of the Wasserstein distance is not given")
    samples: str = option(
        "batch",
        ("batch", "frames"),
        "loss",
        "Eq. 10",
        "what the distributions are over: the utterances of a batch, or the frames of an utterance",
    )
    directions: int = option(64, WHOLE, "loss", "Eq. 9", "of the sliced distance, drawn in every step")
    scales: str = option("all", ("all", "last"), "loss", "Eq. 10", "printed: three scales; last is w/o MF")
    log_base: str = option(
        "e", ("e", "2"), "loss", "Eq. 11", "the bound of 1 that the text names needs base 2: a weight of 1.44", "2"
    )
    logits_head: str = option(
        "shared", ("shared", "separate"), "loss", "Eq. 11", "whether the answers of each version have the task's head"
    )
    streams: str = option(
        "mean", ("mean", "sum"), "network", "3.2 (iv)", "added: twice what the head reads in Eq. 11", "sum"
    )
    refined: str = option(
        "residual",
        ("residual", "last"),
        "network",
        "3.5",
        "what is answered from: the sum C_1 = H + H~, or H~ alone, which learns late and then turns constant",
        "last",
    )
    pooling: str = option("valid", ("valid", "all"), "network", "3.2 (iv)", "from T x 3d to an answer is not said")
    versions: str = option(
        "independent", ("independent", "same"), "views", "3.2 (i)", "whether each version has draws of its own"
    )
    factor_layers: int = option(2, WHOLE, "network", "3.3", "of the sentiment and modality encoders; not given")
    depth: int = usual("depth", "3.3", "of the Transformer; not given, 4 in UMDF by some of the authors")
    feedforward: int = usual("feedforward", "3.3")
    head_layers: int = option(1, WHOLE, "network", "3.2 (iv)", "fully-connected layers; no number")
    dropout: float = usual("dropout", "3.3")
    norm: str = usual("norm", "3.3")
    convolution: str = usual("convolution", "3.3")
    align: str = usual("align", "3.5", "H on features needs equal lengths; files differ")
    drop_modalities: str = usual("drop_modalities", "3.2 (i)", "rates not given; no is w/o inter-MRM")
    drop_frames: str = usual("drop_frames", "3.2 (i)", "rates not given; no is w/o intra-MRM")
    complete_case: str = usual("complete_case", "3.2 (i)", "whether a version may be complete")


RECIPE = Recipe(
    printed={  # section 4.2
        "mosi": ({"heads": 10, "margin": 1.2}, {"lr": 4e-3, "batch": 32, "epochs": 50}),
        "mosei": ({"heads": 8, "margin": 1.0}, {"lr": 4e-3, "batch": 64, "epochs": 30}),
        "iemocap": ({"heads": 10, "margin": 0.7}, {"lr": 2e-3, "batch": 64, "epochs": 50}),
    },
    smoke=({"width": 8, "heads": 2, "depth": 1, "statistics_width": 16}, {"batch": 32, "epochs": 2, "looks": 2}),
    small=(
        {"width": 24, "heads": 2, "depth": 1, "feedforward": 2, "statistics_width": 24},
        {"lr": 4e-3, "batch": 32, "epochs": 14, "looks": 7},
    ),
)


class Inside(NamedTuple):
    """The representations of one version of B utterances, or of two as 2 B rows."""

    low: dict[str, Tensor]  # E: m -> (B, T_m, d)
    collaborative: dict[str, Tensor]  # Q: m -> (B, T_m, d)
    exclusive: dict[str, Tensor]  # U: m -> (B, T_m, d)
    refined: Tensor  # H~: (B, T, 3d)
    scales: list[Tensor]  # C_1, C_2, C_3: (B, T, 3d), (B, T, 2d), (B, T, d)
    seen: Tensor  # (B, T): frames that means over time of the joint representation run over


class Statistics(nn.Module):
    """Statistics networks F_theta of Eq. 4, one for each of A that ask for the segments of one modality.

    F(x, y) = s relu(W x + V y + b) + c, all A of them computed at once
    """

    def __init__(self, askers, of_vector, of_segment, hidden):
        super().__init__()
        first, last = (of_vector + of_segment) ** -0.5, hidden**-0.5  # as linear layers over [x, y] begin
        sizes = {"vector": (askers, of_vector, hidden), "bias": (askers, 1, hidden), "score": (askers, hidden)}
        sizes |= {"segment": (of_segment, askers * hidden), "offset": (askers,)}
        for name, size in sizes.items():
            most = last if name in ("score", "offset") else first
            setattr(self, name, nn.Parameter(torch.empty(size).uniform_(-most, most)))

    def forward(self, vectors: Tensor, pieces: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of segments (B, N, q) with vectors (A, B, p) of their own rows, and of the rows before: (A, B, N)."""
        read = (vectors @ self.vector + self.bias).transpose(0, 1).unsqueeze(-3)  # (B, 1, A, h)
        pieces = (pieces @ self.segment).unflatten(-1, self.score.shape)  # (B, N, A, h)
        hidden = F.relu(torch.stack([read, read.roll(1, 0)]) + pieces)
        joint, marginal = ((hidden * self.score).sum(-1) + self.offset).movedim(-1, 1)
        return joint, marginal


class Hourglass(nn.Module):
    """Fully-connected refinement 3d - 2d - d - 2d - 3d of a joint representation, with its sums of equal widths.

    C_1 = H + H~,  C_2 = H_1 + H_3,  C_3 = H_2
    """

    def __init__(self, width, joint):
        super().__init__()
        widths = joint, 2 * width, width, 2 * width, joint
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, joint: Tensor) -> tuple[Tensor, list[Tensor]]:
        """H (..., 3d) -> H~ (..., 3d) and [C_1, C_2, C_3], sums of what the layers give; each layer but the first reads
        the ReLU of what the one before gives."""
        inner = [joint]
        for layer in self.layers:
            inner.append(layer(inner[-1] if len(inner) == 1 else F.relu(inner[-1])))
        h, h_1, h_2, h_3, refined = inner
        return refined, [h + refined, h_1 + h_3, h_2]


class HFGD(Method):
    """The network of Figure 2 with its losses of factorization, alignment and distillation; no external teacher."""

    Options = HFGDOptions
    recipe = RECIPE

    def __init__(self, shape, options):
        super().__init__(shape, options)
        o, names, d = options, tuple(shape.widths), options.width
        if shape.task == "regression":
            self.answer = Score(o.score_loss) if o.answers == "score" else Levels(7, read="mean")
        else:
            self.answer = Classes(len(shape.classes))
        outputs = self.answer.size
        joint, hidden = d * len(names), o.statistics_width
        self.convolutions = convolutions(shape, o)
        self.encoders = nn.ModuleDict({m: transformer(d, o) for m in names})
        self.sentiment, self.modality = (
            nn.ModuleDict({m: perceptron([d] * (o.factor_layers + 1)) for m in names}) for _ in range(2)
        )
        self.hourglass = Hourglass(d, joint)
        self.head = perceptron([joint] * o.head_layers + [outputs])
        self.logits_head = nn.Linear(joint, outputs)  # of Eq. 11, where it is not the task's head
        per_pair = o.statistics == "per-pair"
        askers, asked = (max(1, len(names) - 1), names) if per_pair else (1, ["shared"])
        self.inter = nn.ModuleDict({m: Statistics(askers, d, d, hidden) for m in asked})
        self.intra = nn.ModuleDict({m: Statistics(1, 2 * d, d, hidden) for m in asked})
        self.projections = nn.ModuleDict({m: TemporalConvolution(d, d) for m in names})
        count = min(o.segments, max(shape.lengths.values()))
        self.omega = nn.ParameterDict({m: nn.Parameter(torch.full((count,), 1 / count)) for m in names})
        self.predicted = nn.ModuleDict({m: nn.Linear(d, 1) for m in names})
        self.discriminator = perceptron([d, d, len(names) if o.adversary == "classifier" else 1])

    def weights(self, clock):
        names = "inter", "intra", "ctrst", "adv", "feat", "logits"
        return {name: self.options.auxiliary * getattr(self.options, f"{name}_weight") for name in names}

    def views(self, batch, draws):
        """Two missing versions of every utterance."""
        o = self.options
        kinds = o.drop_modalities, o.drop_frames, o.complete_case
        first = training_view(batch, draws, *kinds)
        if o.versions == "same":
            return {"student": first, "second": first}, {}
        again = Draws(draws.seeds, f"{draws.step}, second version", draws.device)
        return {"student": first, "second": training_view(batch, again, *kinds)}, {}

    def forward(self, batch):
        """Both streams read the same utterances, so one is computed."""
        pooled = self.pooled(self.represent(batch))
        embedding = 2 * pooled if self.options.streams == "sum" else pooled
        return Output(self.head(embedding), embedding)

    def two_streams(self, one, other):
        """What the network says of two versions of N utterances; extras: what each is answered from, h_a, h_b (N, 3d).

        Both are computed as one batch of 2 N rows, whose `Inside` is returned, too.
        """
        inside = self.represent(concatenate([one, other]))
        a, b = self.pooled(inside).unflatten(0, (2, -1))
        embedding = a + b if self.options.streams == "sum" else (a + b) / 2
        return Output(self.head(embedding), embedding, {"h_a": a, "h_b": b}), inside

    def represent(self, batch):
        """From a batch to everything before the answer, the `Inside`."""
        low = {m: self.encode(m, batch) for m in batch.modalities}
        collaborative = {m: self.sentiment[m](e) for m, e in low.items()}
        exclusive = {m: self.modality[m](e) for m, e in low.items()}
        aligned, seen = align(collaborative, self.frames(batch), self.options.align)
        refined, scales = self.hourglass(torch.cat([*aligned.values()], -1))
        return Inside(low, collaborative, exclusive, refined, scales, next(iter(seen.values())))

    def pooled(self, inside):
        """What an answer is read from, the mean over time of H~ or of C_1: (B, 3d)."""
        return mean_over(inside.scales[0] if self.options.refined == "residual" else inside.refined, inside.seen)

    def encode(self, m, batch):
        """E_m: convolution, positions, transformer; (B, T_m, d_m) -> (B, T_m, d)."""
        return encode(self.convolutions[m], self.encoders[m], batch.x[m], batch.valid[m])

    def frames(self, batch):
        """The frames m -> (B, T_m) that means over time run over: those that an utterance has, shown or not."""
        every = self.options.pooling == "all"
        return {m: torch.ones_like(v) if every else attendable(v) for m, v in batch.valid.items()}

    def losses(self, step, *, clock):
        one, other = step.views["student"], step.views["second"]
        output, inside = self.two_streams(one, other)
        both = concatenate([one, other])
        frames = self.frames(both)
        left_out = self.options.absent == "left-out"
        counted = torch.stack([both.frames[m].any(-1) for m in frames]) if left_out else None  # (M, B)
        inter, intra = self.information(inside, frames, counted)
        read = self.head if self.options.logits_head == "shared" else self.logits_head
        return {
            "task": self.answer.loss(output.logits, one.y),
            "inter": -inter,
            "intra": -intra,
            "ctrst": self.contrast(inside, frames, counted),
            "adv": self.adversary(inside, frames, counted),
            "feat": self.feature_term(inside),
            "logits": self.logits_term(read(output.extras["h_a"]), read(output.extras["h_b"])),
        }

    def plain_losses(self, step, *, clock):
        return {"task": self.answer.loss(self.both(step.views).logits, step.views["student"].y)}

    def oracle_losses(self, step, *, clock):
        return {"oracle": self.answer.soft(self.both(step.views).logits, step.soft)}

    def both(self, views):
        """The two streams of a step; where there is one view, both read it, as at test time."""
        return self.two_streams(views["student"], views["second"])[0] if "second" in views else self(views["student"])

    def information(self, inside, frames, counted=None):
        """The two weighted sums of Eqs. 1 and 2 without their sign, in which each is to be large.

        frames m -> (B, T_m); counted (M, B): the rows in which a modality takes part, all where it is None. A false
        pair has the vector of the row before, another utterance's where there are two.
        """
        names, inter, intra = list(inside.low), [], []
        q, u = (torch.stack([*self.vectors(x, frames).values()]) for x in (inside.collaborative, inside.exclusive))
        z = torch.cat([q, u], -1)
        for i, m in enumerate(names):
            pieces, held = self.pieces(m, inside.low[m], frames[m])
            weight, own = self.saliency(m, pieces, held), m if m in self.intra else "shared"
            others = [k for k in range(len(names)) if k != i]
            for found, networks, vectors, askers in ((inter, self.inter, q, others), (intra, self.intra, z, [i])):
                if askers:
                    value = salient_information(*networks[own](vectors[askers], pieces), weight)  # (A, B)
                    there = None if counted is None else counted[askers] & counted[askers].roll(1, -1) & counted[i]
                    found.append(mean_counted(value, there).mean())
        return sum(inter, z.new_zeros(())) / max(1, len(inter)), sum(intra) / len(intra)

    def vectors(self, sequences, frames):
        """Means over time of sequences m -> (B, T_m, d): m -> (B, d)."""
        return {m: mean_over(x, frames[m]) for m, x in sequences.items()}

    def pieces(self, m, low, frames):
        """The segments of E_m (B, T_m, d): (B, N, d), and which of them hold a frame, (B, N)."""
        if self.options.projection == "convolution":
            low = self.projections[m](low * frames.unsqueeze(-1))
        return segments(low, frames, self.options.segments)

    def saliency(self, m, pieces, held):
        """The weights omega_m of the segments (B, N, d) that hold a frame: (B, N)."""
        kind, count = self.options.saliency, held.shape[-1]
        omega, held_as_one = self.omega[m][:count].expand(held.shape), held.to(pieces.dtype)
        if kind == "predicted":
            omega = self.predicted[m](pieces).squeeze(-1)
        if kind in ("softmax", "predicted"):
            weight = omega.masked_fill(~held, torch.finfo(omega.dtype).min).softmax(-1)
        elif kind == "free":
            weight = omega * held_as_one
        else:
            weight = held_as_one * (omega.clamp(min=0) if kind == "clipped" else 1)
            weight = weight / weight.sum(-1, keepdim=True).clamp(min=torch.finfo(weight.dtype).eps)
        return weight / count if self.options.divide == "twice" else weight

    def contrast(self, inside, frames, counted):
        """Eq. 6 of the representations, or of their means over time."""
        sides = inside.collaborative, inside.exclusive
        if self.options.compared == "sequence":
            aligned = (align(side, frames, self.options.align)[0] for side in sides)
            sides = [{m: (x * inside.seen.unsqueeze(-1)).flatten(1) for m, x in side.items()} for side in aligned]
        else:
            sides = [self.vectors(side, frames) for side in sides]
        if self.options.normalise == "l2":
            sides = [{m: F.normalize(x, dim=-1) for m, x in side.items()} for side in sides]
        return contrastive_alignment(*sides, self.options.margin, counted)

    def adversary(self, inside, frames, counted):
        """What a discriminator says of collaborative representations: Eq. 7, or a classifier of modalities that learns
        to tell them while the gradient into Q is reversed."""
        vectors = self.vectors(inside.collaborative, frames)
        if self.options.adversary == "literal":
            return literal_adversary({m: self.discriminator(q).squeeze(-1) for m, q in vectors.items()}, counted)
        told = self.discriminator(reverse(torch.stack([*vectors.values()]))).log_softmax(-1)  # (M, B, M)
        return mean_counted(-told.diagonal(dim1=0, dim2=2).T, counted).mean()

    def feature_term(self, inside):
        """Eq. 10 between the two versions, or the divergence that replaces it in Table 8."""
        o, seen = self.options, inside.seen
        total = 0
        for scale in inside.scales if o.scales == "all" else [inside.refined]:
            points = scale if o.samples == "frames" else mean_over(scale, seen)
            a, b = points.unflatten(0, (2, -1))
            there = seen[: len(a)] if o.samples == "frames" else None  # frames exist in both versions alike
            if o.distance == "kl":
                found = symmetric_kl(a, b) if there is None else mean_counted(symmetric_kl(a, b), there)
            elif o.distance == "gaussian":
                found = gaussian_wasserstein(a, b, there)
            else:
                ways = F.normalize(torch.randn(a.shape[-1], o.directions, dtype=a.dtype, device=a.device), dim=0)
                found = sliced_wasserstein(a, b, ways, o.order, there)
            total = total + found.mean()
        return total

    def logits_term(self, a, b):
        """Eq. 11 for classes, a squared difference for scores, from the logits of both versions (N, C)."""
        if isinstance(self.answer, Score):
            return F.mse_loss(a, b)
        return jensen_shannon(a, b) / (math.log(2) if self.options.log_base == "2" else 1)
