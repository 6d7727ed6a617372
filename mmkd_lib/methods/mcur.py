"""MCUR (Zhuang et al., 2026): a contrast that knows modality combinations, and samples weighed by their uncertainty.

Plug-ins first, as pure functions of embeddings E (B, D), combinations c (B,), classes k (B,) and logits: the contrast
of Eqs. 2-5 (MCB-CL) and its rivals, then the uncertainty-guided losses of Eqs. 7-14 (SUGR). After them the network
(Perceivers, fusion, bottleneck), the options, and the class that wires them. Superscripts t, s: teacher, student.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.missing import MODALITIES, training_view
from ..data.subsets import code_of, members, present
from ..support.errors import BadInput, one_of
from . import corrkd_on_mcur
from .answers import Classes, Questions, Score
from .base import NUMBER, SHARE, WHOLE, Method, Options, Recipe, option
from .layers import Transformer, attendable
from .losses import kl_divergence, without_target
from .perceiver import Perceiver
from .steps import REFERENCES, Output, Stage

FAR = -1e9  # a logarithm of what has no part in a sum: finite, so that no gradient is NaN


# --- MCB-CL ----------------------------------------------------------------------------------------------------------


def similarities(embedding: Tensor, temperature: float, normalise: str = "l2") -> Tensor:
    """x_i . x_j / tau of all pairs, (B, D) -> (B, B); `l2`: of unit vectors, `none`: of vectors as they are."""
    if one_of("normalise", normalise, ("l2", "none")) == "l2":
        embedding = F.normalize(embedding, dim=-1)
    return embedding @ embedding.T / temperature


def combination_contrast(
    similarity: Tensor, combination: Tensor, classes: Tensor, mu1: float = 1.0, mu2: float = 1.0, own: str = "included"
) -> Tensor:
    """Modality-combination-based and category-based contrast (MCB-CL), Eqs. 2-5: the mean over anchors i of

        -[log p(c|i) + mu1 log p(k|c,i) - mu2 log p(c|i,k)]
        p(c|i) = sum_M / sum_B,   p(k|c,i) = sum_N / sum_M,   p(c|i,k) = sum_N / sum_S

    with sums of exp(similarity) over the batch B and those of the anchor's combination (M), class (S) and both (N).
    similarity (B, B): `similarities`; combination, classes (B,): codes. `own`: whether an anchor is in its own sets, as
    printed; where it is not, anchors alone in N do not count. With mu1 = mu2 = 1 the combination cancels:
    -log(sum_S / sum_B).
    """
    same_combination = combination.unsqueeze(1) == combination
    same_class = classes.unsqueeze(1) == classes
    both = same_combination & same_class
    counted = torch.ones_like(both[:, 0])
    if one_of("own", own, ("included", "excluded")) == "excluded":
        others = ~torch.eye(len(classes), dtype=torch.bool, device=classes.device)
        similarity = similarity.masked_fill(~others, FAR)
        counted = (both & others).any(-1)
    everyone = similarity.logsumexp(-1)
    of_combination, of_class, of_both = (
        similarity.masked_fill(~mask, FAR).logsumexp(-1) for mask in (same_combination, same_class, both)
    )
    told = (of_combination - everyone) + mu1 * (of_both - of_combination) - mu2 * (of_both - of_class)
    return -(told * counted).sum() / counted.sum().clamp(min=1)


def single_positive_contrast(similarity: Tensor, combination: Tensor, classes: Tensor, chance: Tensor) -> Tensor:
    """The 1-instance form of Table 3: each anchor's positive is one utterance of its combination and class, drawn by
    `chance` (B, B); itself where there is no other. The mean of -log(exp(s_ij) / sum_B)."""
    both = (combination.unsqueeze(1) == combination) & (classes.unsqueeze(1) == classes)
    own = torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    picked = torch.where(both & ~own, chance, torch.where(own, -1.0, -2.0)).argmax(-1, keepdim=True)
    return (similarity.logsumexp(-1) - similarity.gather(-1, picked).squeeze(-1)).mean()


def supervised_contrast(similarity: Tensor, classes: Tensor) -> Tensor:
    """SupCon (Khosla et al. 2020, the mean of logarithms), Table 3: over anchors that have a positive, the mean of
    -1/|P| sum_{p in P} log(exp(s_ip) / sum_{j != i} exp(s_ij)), P: the others of the anchor's class."""
    others = ~torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    positive = (classes.unsqueeze(1) == classes) & others
    log_share = similarity - similarity.masked_fill(~others, FAR).logsumexp(-1, keepdim=True)
    count = positive.sum(-1)
    each = -(log_share * positive).sum(-1) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)


def instance_contrast(student: Tensor, teacher: Tensor, temperature: float, normalise: str = "l2") -> Tensor:
    """The traditional form of Table 3: the positive of an utterance is itself as the teacher sees it, all others are
    negatives: the mean of -log(exp(s_i . t_i / tau) / sum_j exp(s_i . t_j / tau)); (B, D) each."""
    if one_of("normalise", normalise, ("l2", "none")) == "l2":
        student, teacher = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    logits = student @ teacher.T / temperature
    return (logits.logsumexp(-1) - logits.diagonal()).mean()


# --- SUGR ------------------------------------------------------------------------------------------------------------


def entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits), Eqs. 7 and 24, in nats: (..., C) -> (...)."""
    logarithm = logits.log_softmax(-1)
    return -(logarithm.exp() * logarithm).sum(-1)


def uncertainty_gap(student: Tensor, teacher: Tensor, gap: str = "absolute") -> Tensor:
    """L_Uncer of each sample, Eq. 9: |H(y^t) - H(y^s)|; `increase`: only what the student is less sure, at least 0."""
    difference = student - teacher
    return difference.abs() if one_of("gap", gap, ("absolute", "increase")) == "absolute" else difference.clamp(min=0)


def decoupled_kd(student: Tensor, teacher: Tensor, target: Tensor, alpha: float, temperature: float = 1.0) -> Tensor:
    """Decoupled distillation, Eq. 11: alpha KL(b^t || b^s) + (1 - alpha) KL(p^t || p^s) of each sample, (...).

    logits (..., C), target (...): b is (target, not target), p the other classes' probabilities, renormalised; with two
    classes there is one other, and the second part is 0. No factor tau^2, as none is printed.
    """
    flat = target.flatten()
    s, t = ((logits / temperature).flatten(0, -2) for logits in (student, teacher))
    rest_s, rest_t = without_target(s, flat), without_target(t, flat)
    pairs = []
    for logits, rest in ((s, rest_s), (t, rest_t)):
        yes = logits.gather(-1, flat.unsqueeze(-1)).squeeze(-1)
        pairs.append(torch.stack([yes, rest.logsumexp(-1)], -1).log_softmax(-1))
    of_target = kl_divergence(pairs[1], pairs[0])
    of_rest = kl_divergence(rest_t.log_softmax(-1), rest_s.log_softmax(-1))
    return (alpha * of_target + (1 - alpha) * of_rest).view_as(target)


def bottleneck(mean: Tensor, deviation: Tensor) -> Tensor:
    """KL(N(mu, sigma^2 I) || N(0, I)) of each sample, the second part of Eq. 20, nats: (B, D) twice -> (B,)."""
    square = deviation.square()
    return (mean.square() + square - 1 - square.clamp(min=1e-12).log()).sum(-1) / 2


# --- the network -----------------------------------------------------------------------------------------------------


class Fusion(nn.Module):
    """The two-layer MLP of Eq. 18 with the extra layers that the printed counts imply, and the maps of the bottleneck:
    tokens (B, M d) -> (mu, what sigma is made of), (B, d) each.

    `printed`: M d -> d -> d, mu and sigma linear. `narrow`: M d -> 2 d -> d beside a projection of the tokens, normed;
    `wide`: M d -> M d -> d, normed, which is mu itself. With M = 3 these two hold 13 d^2 + 7 d parameters, as the
    printed totals say.
    """

    def __init__(self, width, modalities, split, dropout):
        super().__init__()
        joint = modalities * width
        hidden = {"printed": width, "narrow": 2 * width, "wide": joint}[split]
        self.network = nn.Sequential(nn.Linear(joint, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width))
        self.skip = nn.Linear(joint, width, bias=False) if split == "narrow" else None
        self.norm = nn.Identity() if split == "printed" else nn.LayerNorm(width)
        self.mean = nn.Identity() if split == "wide" else nn.Linear(width, width)
        self.deviation = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        fused = self.network(tokens)
        fused = self.norm(fused if self.skip is None else fused + self.skip(tokens))  # E_f
        return self.mean(fused), self.deviation(fused)


# --- the method ------------------------------------------------------------------------------------------------------

CONTRASTS = ("MCB-CL", "traditional", "1-instance", "SupCon")
KERNELS = {"three": (3, 3), "text": (3, 1), "one": (1, 1)}  # of the first modality and of the others
TEACHERS = {  # A.5.8: how likely a training utterance of the teacher shows l, a, v, l+a, l+v, a+v, l+a+v
    "high_l": (4 / 7, *[1 / 14] * 6),
    "high_l_2": (1 / 7, 1 / 14, 1 / 14, 3 / 14, 3 / 14, 1 / 14, 3 / 14),
}
SHOWN = (1, 2, 4, 3, 5, 6, 7)  # these as codes: bit i for modality i
LOST = 0.3  # of a teacher's modalities under mr_30
INTENSITY = 5.0  # of the noise on a teacher's embedding


@dataclass(frozen=True)
class MCUROptions(Options):
    """Every choice of MCUR: printed hyper-parameters first, then what the paper leaves open."""

    contrast_weight: float = option(0.2, NUMBER, "loss", "Eq. 23", "printed: gamma = 2.0, 0.2, 0.1; 0 is w/o L_CL")
    sugr_weight: float = option(5.0, NUMBER, "loss", "Eq. 23", "printed: zeta = 1, 5, 100")
    vib_weight: float = option(0.01, NUMBER, "network", "Eqs. 20, 22", "printed: beta = 0.01")
    mse_weight: float = option(1.0, NUMBER, "loss", "Eq. 23", "printed: the term has no factor; 0 is w/o L_MSE")
    mu1: float = option(1.0, NUMBER, "loss", "Eq. 5", "printed: 1; with mu2 = 1 the combination cancels")
    mu2: float = option(1.0, NUMBER, "loss", "Eq. 5", "printed: 1")
    alpha: float = option(0.2, SHARE, "loss", "Eq. 11", "printed: 0.2, for classes")
    contrast: str = option("MCB-CL", CONTRASTS, "loss", "Table 3", "printed: MCB-CL; the others are those of Table 3")
    logits: str = option("yes", ("yes", "no"), "loss", "Table 2", "printed: yes; no is w/o L_Logits")
    weighting: str = option(
        "uncertainty", ("uncertainty", "none"), "loss", "Table 2", "printed: uncertainty; none is w/o L_Uncer: weight 1"
    )
    distillation: str = option(
        "mcur", ("mcur", "corrkd"), "loss", "Table 4", "printed: mcur; corrkd: its losses on this network and teacher"
    )
    teacher_data: str = option(
        "complete",
        ("complete", "noise", "mr_30", *TEACHERS),
        "network",
        "A.5.8",
        "printed: complete; the others perturb what the teacher is trained on (Tables 14, 15)",
    )
    text_encoder: str = option(
        "frozen", ("frozen", "bert"), "network", "A.3", "printed: BERT; features are kept as they are, or it is tuned"
    )
    temperature: float = option(0.2, NUMBER, "loss", "A.2.3", "tau = 0.2 is printed for IEMOCAP only")
    own: str = option(
        "included", ("included", "excluded"), "loss", "Eqs. 2-4", "an anchor is in its own sets as printed", "included"
    )
    normalise: str = option(
        "l2", ("l2", "none"), "loss", "Eqs. 2-4", "nothing is said; raw products over tau overflow", "none"
    )
    embedded: str = option(
        "mean", ("mean", "sample"), "loss", "Eq. 6", "whether E is mu or the noisy e of the bottleneck"
    )
    contrast_classes: str = option(
        "signs",
        ("signs", "two", "seven"),
        "loss",
        "Eq. 3",
        "what a category of a score is: negative, neutral, positive",
    )
    gap: str = option(
        "absolute", ("absolute", "increase"), "loss", "Eq. 9", "the text wants increased uncertainty", "absolute"
    )
    weight_gradient: str = option(
        "stopped", ("stopped", "flows"), "loss", "Eq. 14", "L_Uncer is called a weight, and Fig. 5 shows it as a loss"
    )
    vib: str = option(
        "once",
        ("once", "kl", "printed"),
        "loss",
        "Eq. 23",
        "beta L_VIB is beta task + beta^2 KL: KL counted with beta (as for all teachers), with or without the task",
        "printed",
    )
    deviation: str = option(
        "softplus",
        ("softplus", "exponential", "linear"),
        "network",
        "A.1.2",
        "a linear map makes deviations below 0",
        "linear",
    )
    distance: str = option("sum", ("sum", "mean"), "loss", "Eq. 6", "a squared norm that is called MSE", "sum")
    dkd_temperature: float = option(1.0, NUMBER, "loss", "Eq. 11", "not given; none is printed")
    heads_per_class: str = option(
        "one-vs-rest",
        ("one-vs-rest", "softmax"),
        "network",
        "Table 1",
        "75.00 / 64.66 of IEMOCAP are four questions answered with no",
    )
    kernels: str = option(
        "three",
        tuple(KERNELS),
        "network",
        "Eq. 16",
        "3 for all; the totals say 3 for text and 1, or 1 for all",
        "three",
    )
    split: str = option(
        "narrow", ("narrow", "wide", "printed"), "network", "Eq. 18", "the totals hold 13 d^2 + 7 d here", "printed"
    )
    absent: str = option(
        "masked", ("masked", "zeros"), "network", "3.2", "a missing modality is no token, or what is made of zeros"
    )
    padding: str = option(
        "masked", ("masked", "attended"), "network", "Eq. 17", "whether prompts attend to frames that do not exist"
    )
    steps: str = option(
        "kept", ("kept", "eight"), "network", "Eq. 16", "a convolution keeps the length; or pooled to T = 8"
    )
    width: int = option(96, WHOLE, "network", "A.1.1", "D is not given; from the totals")
    prompts: int = option(5, WHOLE, "network", "Eq. 17", "l_p is not given; from the totals")
    heads: int = option(16, WHOLE, "network", "Eq. 17", "not given; from the totals, with the size of a head")
    head_size: int = option(16, WHOLE, "network", "Eq. 17", "not given; from the totals")
    depth: int = option(2, WHOLE, "network", "A.1.2", "blocks of a Perceiver: not given; from the totals")
    mixing_heads: int = option(2, WHOLE, "network", "Eq. 18", "of the transformer over modalities; not given")
    feedforward: int = option(2048, WHOLE, "network", "Eq. 18", "of that transformer; not given; from the totals")
    dropout: float = option(0.1, SHARE, "network", "A.1.2", "not given")


# A.2.3 and, for the sizes, Table 9: family -> (options, training settings). Batches are not given; 2e-5 is printed for
# the tuned BERT of MOSI and MOSEI, features have a rate of their own; IEMOCAP's teacher has its student's, not 1e-3.
RECIPE = Recipe(
    printed={
        "mosi": (
            {"contrast_weight": 2.0, "sugr_weight": 1.0, "depth": 2, "kernels": "text"},
            {"lr": 1e-3, "batch": 32, "epochs": 100},
        ),
        "mosei": (
            {"contrast_weight": 0.2, "sugr_weight": 5.0, "depth": 5, "kernels": "text"},
            {"lr": 1e-3, "batch": 32, "epochs": 100},
        ),
        "iemocap": (
            {"contrast_weight": 0.1, "sugr_weight": 100.0, "depth": 4, "kernels": "one"}
            | {"width": 30, "heads": 5, "head_size": 5},
            {"lr": 8e-4, "batch": 32, "epochs": 100},
        ),
    },
    smoke=(
        {"width": 8, "heads": 2, "head_size": 4, "depth": 1, "prompts": 2, "feedforward": 16},
        {"batch": 32, "epochs": 2, "looks": 2},
    ),
    small=(
        {"width": 24, "heads": 2, "head_size": 12, "depth": 1, "prompts": 3, "feedforward": 64},
        {"lr": 1e-3, "batch": 64, "epochs": 20, "looks": 5},
    ),
    # what MCUR and plain both learn well with, on seeds of their own
    by_family={("small", "iemocap"): {"lr": 4e-3}},
)


class MCUR(Method):
    """Network of A.1.2 with MCB-CL, embedding distance and SUGR; teacher and student are two of these."""

    Options = MCUROptions
    recipe = RECIPE
    scores_calibration = True

    def __init__(self, shape, options):
        super().__init__(shape, options)
        o, d = options, options.width
        if o.teacher_data in TEACHERS and tuple(shape.widths) != MODALITIES:
            raise BadInput(f"teacher_data={o.teacher_data!r} is printed for l, a, v: choose complete, noise or mr_30.")
        if not (o.temperature and o.dkd_temperature):
            raise BadInput("a temperature of 0 divides by zero: give a number above 0, such as 0.2.")
        self.classes = len(shape.classes)
        if shape.task == "regression":
            self.answer = Score("l1")
        else:
            several = o.heads_per_class == "one-vs-rest"
            self.answer = Questions(self.classes, 2, fused=False) if several else Classes(self.classes, fused=False)
        self.scores, self.binary = isinstance(self.answer, Score), isinstance(self.answer, Questions)
        self.text = None
        widths = dict(shape.widths)
        if o.text_encoder == "bert":
            from .text import TextEncoder  # needs the extra `bert`

            self.text = TextEncoder()
            widths["l"] = self.text.width
        kernels = {m: KERNELS[o.kernels][min(i, 1)] for i, m in enumerate(widths)}
        self.convolutions = nn.ModuleDict(
            {m: nn.Conv1d(w, d, kernels[m], padding=kernels[m] // 2, bias=False) for m, w in widths.items()}
        )
        self.perceivers = nn.ModuleDict(
            {m: Perceiver(d, o.prompts, o.heads, o.head_size, o.depth, o.dropout) for m in widths}
        )
        self.mixer = Transformer(d, o.mixing_heads, 2, o.feedforward, o.dropout, "post")
        self.fusion = Fusion(d, len(widths), o.split, o.dropout)
        self.head = nn.Linear(d, self.answer.size)
        if o.distillation == "corrkd":
            self.statistics = corrkd_on_mcur.statistics_networks(self.answer)

    @classmethod
    def stages(cls, options):
        """The teacher (its best epoch by the rule of its student), then the student."""
        return REFERENCES["complete"], Stage("method", taught_by={"complete": ("complete",)})

    @classmethod
    def needs(cls, options):
        return ("word pieces",) if options.text_encoder == "bert" else ()

    def weights(self, clock):
        """Terms without a teacher: `task`, and the bottleneck's `VIB`; those that are not in Eq. 23 are only logged."""
        o = self.options
        return {
            "VIB": o.vib_weight**2 if o.vib == "printed" else o.vib_weight,
            "bottleneck task": o.vib_weight,
            "CL": o.contrast_weight,
            "MSE": o.mse_weight,
            "SUGR": o.sugr_weight,
            "mean uncertainty": None,
            "mean task": None,
            "mean logits": None,
        }

    def views(self, batch, draws):
        """Seven patterns of modalities with probability 1/7 each, A.2.4; no frames are lost."""
        return {"student": training_view(batch, draws, frames="no")}, {}

    # --- the network ---

    def forward(self, batch):
        tokens = torch.stack([self.token(m, batch) for m in batch.modalities], -2)  # (B, M, d)
        seen = present(batch.frames)  # (B, M)
        if self.options.absent == "zeros":
            seen = torch.ones_like(seen)
        mixed = self.mixer(tokens * seen.unsqueeze(-1), attendable(seen)) * seen.unsqueeze(-1)
        mean, raw = self.fusion(mixed.flatten(-2))
        deviation = self.deviation(raw)
        sample = mean + deviation * torch.randn_like(mean) if self.training else mean
        embedding = sample if self.options.embedded == "sample" else mean
        return Output(self.head(sample), embedding, {"mean": mean, "deviation": deviation})

    def token(self, m, batch):
        """P_m of A.1.2: convolution and Perceiver, (B, T_m, d_m) -> (B, d)."""
        o, x = self.options, batch.x[m]
        if m == "l" and self.text is not None:
            x = self.text(x) * batch.frames[m].unsqueeze(-1)
        features = self.convolutions[m](x.transpose(1, 2))  # (B, d, T_m)
        seen = batch.valid[m] if o.padding == "masked" else torch.ones_like(batch.valid[m])
        if o.steps == "eight":
            features = F.adaptive_avg_pool1d(features, 8)
            seen = F.adaptive_max_pool1d(seen.to(features.dtype).unsqueeze(1), 8).squeeze(1) > 0
        return self.perceivers[m](features.transpose(1, 2), attendable(seen))

    def deviation(self, raw):
        """sigma of the bottleneck from a linear map, (B, d)."""
        how = self.options.deviation
        if how == "softplus":
            return F.softplus(raw) + 1e-6
        return (raw / 2).exp() if how == "exponential" else raw

    # --- questions: what is asked of an utterance ---

    def questions(self, logits, y):
        """Logits (B, Q, C) and targets (B, Q) of the questions that classes are asked as: one of C classes, or with
        one-vs-rest heads Q = C of no or yes."""
        if self.binary:
            return self.answer.pairs(logits), self.answer.targets(logits, y)
        return logits.unsqueeze(-2), y.unsqueeze(-1)

    def task_of_each(self, logits, y):
        """L_TASK of each question, Eqs. 12-13: (B, Q)."""
        return self.answer.each(logits, y)[0]

    def uncertainty(self, logits, y):
        """H of each question, Eq. 7 (classes) and Eq. 8 (scores: the squared error, which knows the label): (B, Q)."""
        return (logits - y.unsqueeze(-1)).square() if self.scores else entropy(self.questions(logits, y)[0])

    def logits_of_each(self, student, teacher, y):
        """L_Logits of each question, Eqs. 10-11: (B, Q)."""
        if self.scores:
            return (student - teacher).square()
        (s, target), (t, _) = self.questions(student, y), self.questions(teacher, y)
        return decoupled_kd(s, t, target, self.options.alpha, self.options.dkd_temperature)

    def labels(self, y):
        """Categories for the contrast, (B,): of a score its sign (or negative and not, or rounded), else the class."""
        if not self.scores:
            return y
        how = self.options.contrast_classes
        return y.clamp(-3, 3).round() if how == "seven" else y.sign() if how == "signs" else (y >= 0).to(y)

    # --- losses ---

    def plain_losses(self, step, *, clock):
        """Eq. 22 with KL counted once: the task and the bottleneck; of a teacher, on what it is trained on."""
        view = step.views["student"]
        perturbed = clock.stage == "complete" and self.options.teacher_data != "complete"
        output = self.perturbed(view) if perturbed else self(view)
        return {"task": self.answer.loss(output.logits, view.y), "VIB": self.vib_term(output)}

    def oracle_losses(self, step, *, clock):
        output = self(step.views["student"])
        return {"oracle": self.answer.soft(output.logits, step.soft), "VIB": self.vib_term(output)}

    def vib_term(self, output):
        return bottleneck(output.extras["mean"], output.extras["deviation"]).mean()

    def perturbed(self, batch):
        """What a teacher of A.5.8 says while it learns: from fewer modalities, or with noise on its embedding."""
        how, like = self.options.teacher_data, batch.y.to(torch.get_default_dtype())
        there = present(batch.valid)  # (B, M): what the utterance has
        if how == "noise":
            output = self(batch)
            noisy = output.embedding + INTENSITY * torch.randn_like(output.embedding)
            return output._replace(logits=self.head(noisy))
        if how == "mr_30":
            chance = torch.stack([torch.rand_like(like) for _ in batch.modalities], -1) * there
            kept = (chance >= LOST) | (chance == chance.amax(-1, keepdim=True))
        else:
            ends = torch.tensor(TEACHERS[how], device=like.device).cumsum(0)[:-1]
            codes = torch.tensor(SHOWN, device=like.device)[(torch.rand_like(like).unsqueeze(-1) >= ends).sum(-1)]
            kept = members(len(MODALITIES), like.device)[codes]
        kept = kept | ~(kept & there).any(-1, keepdim=True)  # who is left with nothing keeps what it has
        return self(batch.show({m: kept[..., i : i + 1] for i, m in enumerate(batch.modalities)}))

    def losses(self, step, *, clock):
        o, view, teacher = self.options, step.views["student"], step.told["complete"]
        student = self(view)
        terms = {"VIB": self.vib_term(student)}
        if o.distillation == "corrkd":
            terms["task"] = self.answer.loss(student.logits, view.y)
            terms |= corrkd_on_mcur.terms(self.answer, self.questions, self.statistics, student, teacher, view.y)
        else:
            apart = (student.embedding - teacher.embedding).square()
            terms["MSE"] = (apart.sum(-1) if o.distance == "sum" else apart.mean(-1)).mean()
            if o.vib != "kl":
                terms["bottleneck task"] = self.answer.loss(student.logits, view.y)
        if o.contrast_weight:
            terms["CL"] = self.contrast_term(student.embedding, teacher.embedding, view)
        return terms | self.sugr_terms(student.logits, teacher.logits, view.y)

    def contrast_term(self, student, teacher, view):
        """Eq. 5, or a form of Table 3 in its place, from the embeddings (B, d) of both networks."""
        o = self.options
        if o.contrast == "traditional":
            return instance_contrast(student, teacher, o.temperature, o.normalise)
        similarity, classes = similarities(student, o.temperature, o.normalise), self.labels(view.y)
        if o.contrast == "SupCon":
            return supervised_contrast(similarity, classes)
        combination = code_of(present(view.frames))
        if o.contrast == "1-instance":
            return single_positive_contrast(similarity, combination, classes, torch.rand_like(similarity))
        return combination_contrast(similarity, combination, classes, o.mu1, o.mu2, o.own)

    def sugr_terms(self, student, teacher, y):
        """Eq. 14 from the logits of both networks, and the means of its parts to watch."""
        o = self.options
        weight = uncertainty_gap(self.uncertainty(student, y), self.uncertainty(teacher, y), o.gap)
        task, logits = self.task_of_each(student, y), self.logits_of_each(student, teacher, y)
        used = torch.ones_like(weight) if o.weighting == "none" else weight
        used = used.detach() if o.weight_gradient == "stopped" else used
        taught = task + logits if o.logits == "yes" else task
        watched = {"mean uncertainty": weight.mean(), "mean task": task.mean(), "mean logits": logits.mean()}
        return {"SUGR": (used * taught).mean()} | watched
