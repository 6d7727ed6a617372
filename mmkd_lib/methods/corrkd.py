"""CorrKD (Li et al., CVPR 2024): correlation-decoupled distillation from a complete-modality teacher.

Losses first, as pure functions of representations H (N, D), responses R (N, C) and classes y (N,); then the
options, the paper's hyper-parameters, and the class that wires them. Superscripts t, s of the paper: teacher, student.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.missing import training_view
from ..support.errors import one_of
from .answers import Classes, Levels, Questions, one_hot
from .base import NUMBER, WHOLE, Method, Options, Recipe, option
from .encoders import convolutions, encode, transformer, usual
from .layers import align, mean_over, perceptron
from .losses import jsd_information, softened_kl, without_target
from .steps import REFERENCES, Output, Stage

SCD_REDUCTIONS = ("mean", "sum", "sum-positive-once")


def contrastive_distillation(student: Tensor, teacher: Tensor, margin: float, reduction: str = "mean") -> Tensor:
    """Sample-level contrastive distillation, Eq. 1.

        sum_i sum_{j != i} D(H_i^s, H_i^t)^2 + max(0, eta - D(H_i^s, H_j^t))^2,   D Euclidean

    student, teacher (N, D), N >= 2. `sum` is the printed form, which counts each positive N - 1 times; `mean` divides
    it by N (N - 1) pairs; `sum-positive-once` takes the positive out of the sum over j.
    """
    n = len(student)
    positive = (student - teacher).square().sum(-1).sum()
    others = torch.cdist(student, teacher)  # (N, N)
    hinge = (margin - others).clamp(min=0).square()
    negative = hinge.sum() - hinge.diagonal().sum()
    if one_of("reduction", reduction, SCD_REDUCTIONS) == "mean":
        return positive / n + negative / (n * (n - 1))
    return positive * (n - 1 if reduction == "sum" else 1) + negative


def class_prototypes(embedding: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean embedding of each class in the batch, Eq. 2: ((K, D), present (K,)); zero for a class that is absent."""
    member = one_hot(y, classes, embedding)  # (N, K)
    count = member.sum(0)  # (K,)
    return member.T @ embedding / count.clamp(min=1).unsqueeze(-1), count > 0


def prototype_similarity(embedding: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of every sample with every class prototype, Eq. 3: (N, D), (K, D) -> (N, K)."""
    return F.normalize(embedding, dim=-1) @ F.normalize(prototypes, dim=-1).T


def prototype_loss(student: Tensor, teacher: Tensor, present: Tensor, distance: str = "squared") -> Tensor:
    """Category-guided prototype distillation, Eq. 4: mean over samples and present classes of the difference of
    the similarities M^s and M^t (N, K); `squared` as the text has it, `absolute` as the equation has it."""
    gap = student - teacher
    gap = gap.square() if one_of("distance", distance, ("squared", "absolute")) == "squared" else gap.abs()
    return (gap * present).sum() / (len(gap) * present.sum())


def disentangle(logits: Tensor, target: Tensor, tail: str = "renormalised") -> tuple[Tensor, Tensor]:
    """Split responses into target and non-target part (section 3.6): (N, 1) and (N, C - 1).

    The tail holds the other classes' probabilities, `raw`, or `renormalised` to sum to one.
    """
    target_part = logits.softmax(-1).gather(-1, target.unsqueeze(-1))
    if one_of("tail", tail, ("renormalised", "raw")) == "raw":
        return target_part, without_target(logits.softmax(-1), target)
    return target_part, without_target(logits, target).softmax(-1)


def response_information(network, student: Tensor, teacher: Tensor, negatives: str = "roll") -> Tensor:
    """Information between the parts of two responses, Eq. 6: scores network([teacher, student]) of matching rows
    against rows of different samples: each sample's successor in the batch (`roll`), or all others (`all-pairs`).

    student, teacher (N, ..., P), N >= 2, with an axis of questions between where a sample answers several; network maps
    (..., 2 P) to (..., 1).
    """
    n = len(student)
    shifts = {"roll": 1, "all-pairs": n - 1}[one_of("negatives", negatives, ("roll", "all-pairs"))]
    partner = torch.arange(n, device=student.device).unsqueeze(1) + torch.arange(1, shifts + 1, device=student.device)
    others = teacher[partner % n]  # (N, shifts, ..., P)
    mixed = torch.cat([others, student.unsqueeze(1).expand_as(others)], -1)
    return jsd_information(network(torch.cat([teacher, student], -1)), network(mixed))


@dataclass(frozen=True)
class CorrKDOptions(Options):
    """Every choice of CorrKD: printed hyper-parameters first, then what the paper leaves open."""

    width: int = usual("width", "4.2", "printed: 40 on all three datasets")
    heads: int = usual("heads", "4.2", "printed: 10, 8, 10; must divide the width")
    margin: float = option(1.2, NUMBER, "loss", "Eq. 1, 4.2", "printed: eta = 1.2, 1.0, 1.4")
    scd_reduction: str = option(
        "mean",
        SCD_REDUCTIONS,
        "loss",
        "Eq. 1",
        "a plain sum outweighs cross-entropy: at N = 64 some 4000 times, on raw H far more",
        "sum",
    )
    normalise: str = option(
        "l2", ("l2", "none"), "loss", "Eq. 1", "margins near 1 act on unit vectors only; nothing is said", "none"
    )
    cpd_distance: str = option(
        "squared", ("squared", "absolute"), "loss", "Eq. 4", "text: squared distance; equation: not squared", "absolute"
    )
    prototypes: str = option(
        "own", ("own", "teacher"), "loss", "Eq. 2-3", "whether the student compares with its own class means"
    )
    inputs: str = option(
        "teacher-complete",
        ("teacher-complete", "as-step-ii"),
        "views",
        "3.2 (ii)",
        "step (ii) gives the complete sample to the student; Fig. 2 and step (iii) to the teacher",
        "as-step-ii",
    )
    levels: int = option(
        3, (2, 3, 7), "network", "Fig. 1", "sentiment classes under cross-entropy; Fig. 1 shows a neutral prediction"
    )
    heads_per_class: str = option(
        "softmax",
        ("softmax", "one-vs-rest"),
        "network",
        "Table 2",
        "F1 per emotion fits four binary tasks, responses with a tail fit one softmax",
    )
    tail: str = option(
        "renormalised", ("renormalised", "raw"), "loss", "3.6", "the cited DKD renormalises the non-target part"
    )
    rcd: str = option(
        "information", ("information", "kl", "none"), "loss", "Eq. 7, Table 3", "kl replaces it in the ablation"
    )
    statistics_width: int = option(64, WHOLE, "loss", "Eq. 6", "the statistics network is not described")
    negatives: str = option("roll", ("roll", "all-pairs"), "loss", "Eq. 6", "how P(Q) P(U) is sampled is not said")
    scd_weight: float = option(1.0, NUMBER, "loss", "3.6", "the sum has no weights; 0 is the ablation w/o SCD")
    cpd_weight: float = option(1.0, NUMBER, "loss", "3.6", "the sum has no weights; 0 is the ablation w/o CPD")
    rcd_weight: float = option(1.0, NUMBER, "loss", "3.6", "the sum has no weights; the terms lie in 0 ... 2 log 2")
    convolution: str = usual("convolution", "3.3")
    depth: int = usual("depth", "3.3", "layers not given; UMDF, by the same authors, has 4")
    feedforward: int = usual("feedforward", "3.3")
    dropout: float = usual("dropout", "3.3")
    norm: str = usual("norm", "3.3")
    encoders: str = option(
        "per-modality", ("per-modality", "shared"), "network", "3.3", "the encoder's symbol has no index m", "shared"
    )
    pooling: str = option(
        "valid",
        ("valid", "all", "observed"),
        "network",
        "3.3",
        "average over the utterance's frames, over padding too, or over what is shown",
    )
    head_layers: int = option(2, (2, 1), "network", "3.2 (v)", "fully connected layers, in the plural; no number")
    align: str = usual("align", "4.1", "word-aligned in the paper; files are not always")
    drop_modalities: str = usual("drop_modalities", "3.2 (ii)")
    drop_frames: str = usual("drop_frames", "3.2 (ii)")
    complete_case: str = usual("complete_case", "3.2 (ii)")
    teacher_selection: str = option(
        "validation-score",
        ("validation-score", "validation-loss", "last"),
        "teacher",
        "3.2 (i)",
        "which checkpoint of the teacher is frozen is not said",
    )


RECIPE = Recipe(
    printed={  # section 4.2
        "mosi": ({"heads": 10, "margin": 1.2}, {"lr": 4e-3, "batch": 64, "epochs": 50}),
        "mosei": ({"heads": 8, "margin": 1.0}, {"lr": 2e-3, "batch": 32, "epochs": 20}),
        "iemocap": ({"heads": 10, "margin": 1.4}, {"lr": 4e-3, "batch": 64, "epochs": 30}),
    },
    smoke=({"width": 8, "heads": 2, "depth": 1}, {"batch": 32, "epochs": 2, "looks": 2}),
    small=({"width": 24, "heads": 4, "depth": 1}, {"lr": 2e-3, "batch": 64, "epochs": 18}),
)


class CorrKD(Method):
    """Network of section 3.3 with the three losses; teacher and student are two of these."""

    Options = CorrKDOptions
    recipe = RECIPE

    def __init__(self, shape, options):
        super().__init__(shape, options)
        o, modalities, d = options, tuple(shape.widths), options.width
        if shape.task == "regression":
            self.answer = Levels(o.levels)
        else:
            classes = len(shape.classes)
            self.answer = Questions(classes) if o.heads_per_class == "one-vs-rest" else Classes(classes)
        self.classes = self.answer.size
        self.convolutions = convolutions(shape, o)
        names = modalities if o.encoders == "per-modality" else ("shared",)
        self.encoders = nn.ModuleDict({name: transformer(d, o) for name in names})
        joint = d * len(modalities)
        self.head = perceptron([joint] * o.head_layers + [self.classes])
        parts = {"target": 1, "rest": 1 if isinstance(self.answer, Questions) else self.classes - 1}
        self.statistics = nn.ModuleDict({name: perceptron([2 * p, o.statistics_width, 1]) for name, p in parts.items()})

    @classmethod
    def stages(cls, options):
        """The teacher of step (i), then the student; the teacher is told the complete sample, or as step (ii) says."""
        teacher = replace(REFERENCES["complete"], selection=options.teacher_selection)
        asked = "complete" if options.inputs == "teacher-complete" else "teacher"
        return teacher, Stage("method", taught_by={"complete": (asked,)})

    def weights(self, clock):
        o = self.options
        return {"SCD": o.scd_weight, "CPD": o.cpd_weight, "RCD": o.rcd_weight}

    def views(self, batch, draws):
        o = self.options
        missing = training_view(batch, draws, o.drop_modalities, o.drop_frames, o.complete_case)
        if o.inputs == "as-step-ii":
            return {"student": batch, "teacher": missing}, {}
        return {"student": missing}, {}

    def forward(self, batch):
        encoded = {m: self.encode(m, batch) for m in batch.modalities}  # m -> (B, T_m, d)
        seen = {m: self.pooled_frames(m, batch) for m in batch.modalities}
        encoded, seen = align(encoded, seen, self.options.align)  # the paper's Z is T x 3 d
        embedding = torch.cat([mean_over(encoded[m], seen[m]) for m in encoded], -1)  # H: (B, 3 d)
        return Output(self.head(embedding), embedding)

    def encode(self, m, batch):
        """E_m of section 3.3: convolution, positions, transformer; (B, T_m, d_m) -> (B, T_m, d)."""
        encoder = self.encoders[m if m in self.encoders else "shared"]
        return encode(self.convolutions[m], encoder, batch.x[m], batch.valid[m])

    def pooled_frames(self, m, batch):
        """The frames (B, T_m) that global average pooling runs over."""
        if self.options.pooling == "all":
            return torch.ones_like(batch.valid[m])
        return batch.valid[m] if self.options.pooling == "valid" else batch.frames[m]

    def targets(self, y):
        """The class of each sample, (N,), for prototypes."""
        return y if isinstance(self.answer, Questions) else self.answer.labels(y)

    def responses(self, logits, y):
        """Logits (N, C) and targets (N,) of the softmax question asked of a sample; with binary heads one question a
        class, no or yes: (N, C, 2) and (N, C)."""
        if isinstance(self.answer, Questions):
            return self.answer.pairs(logits), self.answer.targets(logits, y)
        return logits, self.answer.labels(y)

    def losses(self, step, *, clock):
        o, view, teacher = self.options, step.views["student"], step.told["complete"]
        student, y = self(view), view.y
        terms = {"task": self.answer.loss(student.logits, y)}
        pair = (student.embedding, teacher.embedding)
        if o.normalise == "l2":
            pair = tuple(F.normalize(h, dim=-1) for h in pair)
        terms["SCD"] = contrastive_distillation(*pair, o.margin, o.scd_reduction)
        terms["CPD"] = self.prototype_term(student.embedding, teacher.embedding, self.targets(y))
        if o.rcd != "none":
            terms["RCD"] = self.response_term(student.logits, teacher.logits, y)
        return terms

    def prototype_term(self, student, teacher, classes):
        """Eqs. 2-4 from the representations of both networks."""
        targets, present = class_prototypes(teacher, classes, self.classes)
        own = class_prototypes(student, classes, self.classes)[0] if self.options.prototypes == "own" else targets
        similarity = prototype_similarity(student, own), prototype_similarity(teacher, targets)
        return prototype_loss(*similarity, present, self.options.cpd_distance)

    def response_term(self, student, teacher, y):
        """Eq. 7 from the logits of both networks, or the KL divergence that replaces it in Table 3."""
        o = self.options
        student, target = self.responses(student, y)
        teacher, _ = self.responses(teacher, y)
        if o.rcd == "kl":
            return softened_kl(student, teacher)
        parts = zip(disentangle(student, target, o.tail), disentangle(teacher, target, o.tail), strict=True)
        networks = self.statistics["target"], self.statistics["rest"]
        return -sum(response_information(f, s, t, o.negatives) for f, (s, t) in zip(networks, parts, strict=True))
