"""DynKD (2026): a network teaches itself, each utterance by a set of modalities a little larger than its own.

Here: gradient rectification, the options, and the class that wires everything. The game of sets (candidates, Shapley
values, routing) stands in dynkd_routing.py, what is watched of it in dynkd_watching.py. SPRM, FPM and GCR are the
paper's names of routing, feature mixing and rectification.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.missing import subsets, training_view
from ..data.subsets import between, code_of, code_of_names, members, present
from ..support.errors import BadInput
from .answers import Classes, Polarity, Score, one_hot
from .base import NUMBER, SHARE, WHOLE, Method, Options, Recipe, option
from .dynkd_routing import (
    Routing,
    candidate_teachers,
    drawn,
    marginal_gains,
    pairs,
    routing_probabilities,
    shapley_values,
)
from .dynkd_watching import angle_shares, watched
from .layers import Transformer, attendable, mean_over, perceptron
from .losses import mean_counted, softened_kl
from .steps import Output

BY_UTILITY = ("shapley", "greedy")  # ways to choose a teacher that ask what candidates are worth
BY_RULE = ("uniform", "random", "complementary", "full")


# --- gradients -------------------------------------------------------------------------------------------------------


def rectification(gramian: Tensor, alpha: float, rho: float, eps: float = 1e-8) -> tuple[Tensor, Tensor, Tensor]:
    """Rectify auxiliary gradients against the main one, Eqs. 18-22, from inner products alone.

        s = cos(g_main, g_aux);  s >= 0: (1 + alpha s) g_aux;  s < 0: rho g_par + g_perp,  g_par + g_perp = g_aux

    gramian (..., K, K) of [main, auxiliary 1, ...]. Returns (keep, add, cosines), each (..., K - 1): the rectified
    gradient is keep g_aux + add g_main; cosines (2, ..., K - 1) are those with g_main before and after.
    """
    main, dot = gramian[..., :1, 0], gramian[..., 0, 1:]
    own = gramian.diagonal(dim1=-2, dim2=-1)[..., 1:]
    before = dot / ((main * own).sqrt() + eps)
    agree = before >= 0
    keep = torch.where(agree, 1 + alpha * before, 1.0)
    add = torch.where(agree, 0.0, (rho - 1) * dot / (main + eps))
    length = (keep**2 * own + 2 * keep * add * dot + add**2 * main).clamp(min=0).sqrt()
    after = (keep * dot + add * main) / (main.sqrt() * length + eps)
    return keep, add, torch.stack([before, after]).clamp(-1, 1)


# --- the method ------------------------------------------------------------------------------------------------------

TEACHERS = (*BY_UTILITY, *BY_RULE, *subsets())


@dataclass(frozen=True)
class DynKDOptions(Options):
    """Every choice of DynKD: printed hyper-parameters first, then what the paper leaves open."""

    added: int = option(
        1, WHOLE, "loss", "Eq. 1", "printed: K = 1, the most modalities a teacher has beyond its student"
    )
    routing_temperature: float = option(0.1, NUMBER, "loss", "Eq. 7", "printed: tau_r = 0.1")
    distillation_temperature: float = option(2.0, NUMBER, "loss", "Eq. 13", "printed: tau_d = 2.0")
    mix: float = option(0.3, SHARE, "loss", "Eq. 11", "printed: q = 0.3")
    align_weight: float = option(0.1, NUMBER, "loss", "Eq. 23", "printed: lambda_align = 0.1")
    kd_weight: float = option(0.2, NUMBER, "loss", "Eq. 23", "printed: lambda_kd = 0.2")
    amplify: float = option(0.1, NUMBER, "loss", "Eq. 19", "printed: alpha = 0.1")
    suppress: float = option(0.3, NUMBER, "loss", "Eq. 22", "printed: rho = 0.3; 1 rectifies nothing that conflicts")
    dropout: float = option(0.5, SHARE, "network", "4.2", "printed: 0.5, applied to the student branch")
    teacher: str = option(
        "shapley", TEACHERS, "loss", "3.2", "printed: shapley; uniform is w/o SPRM, the others are those of Tables 1, 4"
    )
    mixer: str = option("linear", ("linear", "none"), "loss", "3.3", "printed: linear; none is w/o FPM")
    rectify: str = option(
        "flat",
        ("flat", "layers", "none"),
        "loss",
        "Eq. 15",
        "the shared parameters as one vector, or layer by layer; none is w/o GCR",
    )
    choice: str = option("drawn", ("drawn", "best"), "loss", "Eq. 8", "printed: drawn, to keep exploring")
    students: str = option(
        "all", ("all", *subsets()), "loss", "Table 1", "printed: all; the pilot distils to audio alone"
    )
    complete_samples: str = option(
        "none",
        ("none", "self"),
        "loss",
        "Eq. 5",
        "an utterance that lacks nothing has no candidate: T = S, or no teacher",
    )
    complete_case: str = option(
        "yes", ("yes", "no"), "views", "3.4", "without it no label ever reaches the answers of the full set"
    )
    teacher_task: str = option(
        "no", ("no", "yes"), "loss", "Eq. 15", "whether labels reach the teacher's branch, too", "no"
    )
    task_on: str = option(
        "student", ("student", "mixed"), "loss", "Eq. 15", "the mixed feature needs a teacher, which no test has"
    )
    kd_on: str = option(
        "mixed", ("mixed", "student"), "loss", "Eq. 13", "the answer compared holds a share q of the teacher", "mixed"
    )
    through_teacher: str = option(
        "no",
        ("no", "yes"),
        "loss",
        "Eq. 10",
        "whether gradients run through psi(Z_T); printed stops only the target",
        "yes",
    )
    adapter: str = option(
        "identity", ("identity", "random"), "loss", "Eq. 10", "how psi begins: as no change, or at random"
    )
    align_reduction: str = option(
        "mean",
        ("mean", "sum"),
        "loss",
        "Eq. 12",
        "over features; the sum makes lambda depend on an unknown width",
        "sum",
    )
    kd_scale: str = option(
        "none", ("none", "tau-squared"), "loss", "Eq. 13", "Hinton et al. multiply by tau^2, not written here", "none"
    )
    teacher_dropout: str = option(
        "no", ("no", "yes"), "loss", "4.2", "utilities and teachers with dropout; the text has it in the student branch"
    )
    answers: str = option(
        "score",
        ("score", "classes"),
        "network",
        "4.1",
        "binary in the text, a regression form is given (Eq. 14)",
        "classes",
    )
    width: int = option(256, WHOLE, "network", "3.1", "D is not given; 256 in MoMKE's public code")
    fusion: str = option(
        "transformer", ("transformer", "perceptron"), "network", "3.1", "F_Q is not described: attention of the tokens"
    )
    heads: int = option(4, WHOLE, "network", "3.1", "not given; must divide the width")
    depth: int = option(1, WHOLE, "network", "3.1", "layers of the fusion; not given")
    feedforward: int = option(2, WHOLE, "network", "3.1", "width of the feed-forward part in units of D; not given")
    encoder_layers: int = option(2, WHOLE, "network", "3.1", "of the encoder of a modality; not given")
    pooling: str = option(
        "mean",
        ("mean", "attention"),
        "network",
        "4.2",
        "utterance features in the paper: how frames become one vector",
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("routing_temperature", "distillation_temperature"):
            if not getattr(self, name):
                raise BadInput(f"option {name}={getattr(self, name)!r} divides logits: give a number above 0.")
        if self.suppress > 1:
            raise BadInput(f"option suppress={self.suppress!r} would add to a conflict: give a number from 0 to 1.")


RECIPE = Recipe(
    # section 4.2, the same for all benchmarks; the number of epochs is not given
    printed={"mosi": ({}, {"lr": 1e-4, "weight_decay": 1e-5, "batch": 32, "epochs": 100})},
    smoke=({"width": 8, "heads": 2}, {"lr": 1e-3, "epochs": 2, "looks": 2}),
    small=({"width": 32}, {"lr": 2e-3, "epochs": 20, "looks": 5}),
)


class DynKD(Method):
    """One network over the tokens of modalities; any set of them is fused by masking."""

    Options = DynKDOptions
    recipe = RECIPE
    situations = ({"rectify": "layers"},)
    watches_world = True

    def __init__(self, shape, options):
        super().__init__(shape, options)
        o, d = options, options.width
        self.names = tuple(shape.widths)
        if shape.task == "regression":
            self.answer = Score("mse") if o.answers == "score" else Polarity()
        else:
            self.answer = Classes(len(shape.classes), fused=False)
        self.encoders = nn.ModuleDict(
            {m: perceptron([width] + [d] * o.encoder_layers) for m, width in shape.widths.items()}
        )
        self.attention = nn.ModuleDict({m: nn.Linear(d, 1) for m in self.names if o.pooling == "attention"})
        self.kinds = nn.Parameter(0.02 * torch.randn(len(self.names), d))  # which modality a token is of
        if o.fusion == "transformer":
            self.fusion = Transformer(d, o.heads, o.depth, o.feedforward * d, 0.0)
        else:
            self.fusion = perceptron([len(self.names) * d, *[o.feedforward * d] * o.depth, d])
        self.head = nn.Linear(d, self.answer.size)
        self.adapter = nn.Linear(d, d, bias=False)  # psi
        if o.adapter == "identity":
            nn.init.eye_(self.adapter.weight)

    def weights(self, clock):
        watched = "routing", "utility", "gap", "world"
        return {"kd": self.options.kd_weight, "align": self.options.align_weight} | dict.fromkeys(watched)

    # --- what a step shows -------------------------------------------------------------------------------------------

    def views(self, batch, draws):
        """The student's view, the complete utterance that teachers see sets of, and who may teach whom."""
        student = training_view(batch, draws, frames="no", complete=self.options.complete_case)
        shown, exists = (code_of(present(frames)) for frames in (student.frames, batch.valid))
        uniform = draws.uniform("teacher", shown.shape[1:])
        allowed = torch.stack([self.allowed(*pair) for pair in zip(shown, exists, strict=True)])
        asked = torch.stack([self.asked(*some) for some in zip(shown, exists, allowed, uniform, strict=True)])
        if self.options.teacher not in BY_UTILITY:
            allowed = asked
        row, code = pairs(asked)
        routing = Routing(shown, exists, allowed, uniform, row, code)
        return {"student": student, "complete": batch}, {"routing": routing}

    def allowed(self, student, exists):
        """The sets (B, 2^M) bool that may teach; none where nothing is distilled."""
        o, count = self.options, len(self.names)
        codes = torch.arange(2**count, device=student.device)
        least, most = student.unsqueeze(-1), exists.unsqueeze(-1)
        if o.teacher in (*BY_UTILITY, "uniform"):
            found = candidate_teachers(student, exists, count, o.added)
        elif o.teacher == "random":
            found = between(least, most, codes) & (codes != least)
        else:
            fixed = code_of_names(o.teacher.split("+"), self.names)
            sets = {"full": exists, "complementary": exists & ~student}
            found = codes == sets.get(o.teacher, fixed & exists).unsqueeze(-1)
        found = torch.where(least == most, (codes == most) & (o.complete_samples == "self"), found) & (codes > 0)
        if o.students != "all":
            found = found & (least == code_of_names(o.students.split("+"), self.names))
        return found

    def asked(self, student, exists, allowed, uniform):
        """The sets (B, 2^M) bool that must be fused to know the teacher: where there is a choice by utility, all whose
        value it reads, else the teacher alone."""
        several = allowed.sum(-1) > 1
        chosen = one_hot(drawn(allowed.float(), uniform), allowed.shape[-1], uniform).bool() & allowed
        if self.options.teacher not in BY_UTILITY:
            return chosen
        codes = torch.arange(allowed.shape[-1], device=student.device)
        read = between(student.unsqueeze(-1), exists.unsqueeze(-1), codes)
        if self.options.teacher == "greedy":
            size = members(len(self.names), student.device).sum(-1)
            read = read & (size <= size[student].unsqueeze(-1) + 1) | allowed
        return torch.where(several.unsqueeze(-1), read, chosen)

    # --- the network -------------------------------------------------------------------------------------------------

    def forward(self, batch):
        embedding = self.fuse(self.drop(self.encode(batch)), present(batch.frames))
        return Output(self.head(embedding), embedding)

    def encode(self, batch):
        """A token for each modality from the frames that are shown, (B, M, D)."""
        tokens = []
        for m in self.names:
            frames = self.encoders[m](batch.x[m])  # (B, T, D)
            if m in self.attention and frames.shape[-2] > 1:
                told = self.attention[m](frames).squeeze(-1).masked_fill(~attendable(batch.frames[m]), -torch.inf)
                tokens.append((told.softmax(-1).unsqueeze(-2) @ frames).squeeze(-2))
            else:
                tokens.append(mean_over(frames, batch.frames[m]))
        return torch.stack(tokens, -2)

    def drop(self, tokens):
        return F.dropout(tokens, self.options.dropout, self.training)

    def fuse(self, tokens, shown):
        """F_Q: the representation (N, D) of the tokens (N, M, D) of the modalities shown, (N, M) bool."""
        tokens = tokens + self.kinds
        if self.options.fusion == "perceptron":
            return self.fusion((tokens * shown.unsqueeze(-1)).flatten(-2))
        return mean_over(self.fusion(tokens, attendable(shown)), shown)

    def each_loss(self, logits, y):
        """The task's loss of each utterance (B,), and which of them count: a neutral one is of neither polarity."""
        loss, counted = self.answer.each(logits, y)
        return loss.squeeze(-1), counted

    # --- the losses --------------------------------------------------------------------------------------------------

    def losses(self, step, *, clock):
        o, routing, y = self.options, step.drawn["routing"], step.views["student"].y
        held = members(len(self.names), y.device)
        tokens = self.encode(step.views["complete"])  # modalities are encoded once
        student = self.fuse(self.drop(tokens), held[routing.student])  # Z_S: (B, D)
        teaching = self.drop(tokens) if o.teacher_dropout == "yes" else tokens
        fused, values = self.consider(teaching, y, routing)
        probability = self.probability(values, routing)
        sets = probability.argmax(-1) if o.choice == "best" else drawn(probability, routing.uniform)  # T: (B,)
        taught = routing.allowed.any(-1)
        target = fused.gather(0, self.place(routing, sets).unsqueeze(-1).expand(-1, fused.shape[-1]))  # Z_T: (B, D)
        live = self.fuse(teaching, held[sets]) if "yes" in (o.through_teacher, o.teacher_task) else target
        mixed = student
        if o.mixer == "linear":
            source = live if o.through_teacher == "yes" else target
            mixed = (1 - o.mix) * student + o.mix * self.adapter(source)  # Eqs. 10-11
        squared = (mixed - target).square()
        reduced = squared.mean(-1) if o.align_reduction == "mean" else squared.sum(-1)
        answered = torch.where(taught.unsqueeze(-1), mixed, student) if o.task_on == "mixed" else student
        task = self.answer.loss(self.head(answered), y)
        if o.teacher_task == "yes":
            loss, counted = self.each_loss(self.head(live), y)
            task = task + mean_counted(loss, taught if counted is None else taught & counted)
        terms = {
            "task": task,
            "kd": self.response_term(
                self.head(mixed if o.kd_on == "mixed" else student), self.head(target).detach(), taught
            ),
            "align": mean_counted(reduced, taught),  # Eq. 12
        }
        gap = mean_counted((student - target).norm(dim=-1), taught).detach()
        return terms | {"gap": gap} | watched(values, probability, routing, o.added, step.drawn.get("world"))

    def consider(self, tokens, y, routing):
        """Fuse the asked sets: their representations (R, D), and the table (B, 2^M) of their values V = -loss, Eq. 3,
        zero for those not asked. No gradient."""
        with torch.no_grad():
            fused = self.fuse(tokens[routing.row], members(len(self.names), y.device)[routing.code])
            value = -self.each_loss(self.head(fused), y[routing.row])[0]
            table = value.new_zeros(routing.allowed.numel()).scatter(0, routing.slot, value)
        return fused, table.view(routing.allowed.shape)

    def place(self, routing, sets):
        """The row (B,) among the fused pairs of each utterance's set; the first where it was not fused."""
        order = torch.arange(len(routing.row), device=sets.device)
        table = torch.zeros(routing.allowed.numel(), dtype=torch.long, device=sets.device)
        table = table.scatter(0, routing.slot, order).view(routing.allowed.shape)
        return table.gather(-1, sets.unsqueeze(-1)).squeeze(-1)

    def probability(self, values, routing):
        """Routing probabilities (B, 2^M); where nothing is allowed, any."""
        worth = marginal_gains if self.options.teacher == "greedy" else shapley_values
        gain = worth(values, routing.student, routing.exists) * (routing.allowed.sum(-1, keepdim=True) > 1)
        allowed = routing.allowed | ~routing.allowed.any(-1, keepdim=True)
        return routing_probabilities(gain, allowed, self.options.routing_temperature)

    def response_term(self, student, teacher, taught):
        """Eq. 13 for classes, Eq. 14 for scores, over the utterances that are taught (B,)."""
        o = self.options
        if isinstance(self.answer, Score):
            return mean_counted((student - teacher).square().squeeze(-1), taught)
        scale = o.distillation_temperature**2 if o.kd_scale == "tau-squared" else 1.0
        return scale * softened_kl(student, teacher, o.distillation_temperature, taught)

    # --- gradients and what is watched -------------------------------------------------------------------------------

    @cached_property
    def rectified(self):
        """Theta_s: encoders and fusion, as one group or layer by layer; head and adapter are no part of it."""
        shared = [name for name, _ in self.named_parameters() if name.split(".")[0] not in ("head", "adapter")]
        if self.options.rectify == "none":
            return []
        if self.options.rectify == "flat":
            return [set(shared)]
        layers = dict.fromkeys(name.rpartition(".")[0] or name for name in shared)
        return [{name for name in shared if (name.rpartition(".")[0] or name) == layer} for layer in layers]

    def combine(self, gramian, weights):
        """GCR: Eq. 23, with what it watches: cosines and angles with the task's gradient before and after, each
        (2, K - 1, ...)."""
        keep, add, cosines = rectification(gramian, self.options.amplify, self.options.suppress)
        own = keep.new_tensor([*weights.values()])  # the task's first
        coefficients = torch.cat([own[0] + (own[1:] * add).sum(-1, keepdim=True), own[1:] * keep], -1)  # (S, G, K)
        cosines = cosines.permute(1, 0, 3, 2)  # (S, 2, K - 1, G)
        return coefficients, {"cosine": cosines.mean(-1), "angles": angle_shares(cosines)}
