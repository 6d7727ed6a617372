"""MMIN (Zhao, Li, Jin, ACL 2021): imagines the embeddings of missing modalities by a cascade of residual autoencoders.

Two forms: `utterance` (one vector a modality and utterance, as the field's comparisons run it) and the paper's own
`frames` (LSTM and text CNN). First the encoders are trained on complete data; they are then start and frozen teacher.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.missing import training_view
from .answers import Classes, Score
from .base import NUMBER, SHARE, WHOLE, Method, Options, Output, ParameterGroup, Recipe, Stage, option
from .cascade import Cascade
from .layers import mean_over
from .vector_encoders import LSTMEncoder, TextCNN


@dataclass(frozen=True)
class MMINOptions(Options):
    """Every choice of MMIN. "GCNet" is its re-implementation on utterance features, in that paper's repository."""

    form: str = option(
        "utterance",
        ("utterance", "frames"),
        "network",
        "encoders",
        "the paper reads frames; comparisons, vectors",
        "frames",
    )
    width: int = option(128, WHOLE, "network", "encoders", "printed: embeddings of 128")
    hidden: int = option(
        128, WHOLE, "network", "encoders", "printed: layers of 128 in classifiers (and utterance encoders)"
    )
    channels: int = option(128, WHOLE, "network", "text encoder", "printed: filters of each size in the text CNN")
    outer: int = option(
        256, WHOLE, "network", "imagination", "printed: autoencoders of 256-128-64; GCNet tries 128-64-32, too"
    )
    middle: int = option(128, WHOLE, "network", "imagination", "printed: see outer")
    bottleneck: int = option(64, WHOLE, "network", "imagination", "printed: see outer")
    blocks: int = option(5, WHOLE, "network", "imagination", "printed: 5 autoencoders; GCNet tries 2 and 8, too")
    share_weight: str = option(
        "no", ("no", "yes"), "network", "cycle", "whether the way back is the same cascade; code: only for MSP-IMPROV"
    )
    dropout: float = option(0.5, SHARE, "network", "code", "0.5 in the second training")
    first_dropout: float = option(
        0.3, SHARE, "teacher", "code", "0.3 in the first training; of the text CNN 0.5 in both"
    )
    pooling: str = option(
        "valid",
        ("valid", "all"),
        "network",
        "code",
        "frames: the code takes its maxima over padding, too, so that an utterance's vector depends on its batch",
        "all",
    )
    initial_weights: str = option(
        "as-form",
        ("as-form", "kaiming", "normal"),
        "network",
        "code",
        "kaiming-normal in the paper's code and in every first training; N(0, 0.02) in GCNet's second one",
    )
    ce_weight: float = option(1.0, NUMBER, "loss", "joint loss", "printed: 1 for IEMOCAP and MSP-IMPROV")
    mse_weight: float = option(
        4.0, NUMBER, "loss", "joint loss", "4 for IEMOCAP, 2 for MSP-IMPROV; GCNet tries 4, 1, 0.2"
    )
    cycle_weight: float = option(
        2.0, NUMBER, "loss", "joint loss", "2 for IEMOCAP, 0.5 for MSP-IMPROV; GCNet tries 2, 1"
    )
    complete_case: str = option(
        "no",
        ("no", "yes"),
        "views",
        "training",
        "printed: the six incomplete patterns only; yes: the full one is among them",
    )
    drop_frames: str = option(
        "no", ("no", "yes"), "views", "training", "printed: whole modalities are missing, not frames"
    )
    pretraining_epochs: float = option(
        0.0, NUMBER, "teacher", "code", "epochs of the first training; 0: as many as the second one's (GCNet)"
    )


TRAINING = {"lr": 1e-3, "batch": 256, "epochs": 100, "clip": 5.0, "clip_by": "norm of groups", "betas": (0.5, 0.999)}
TRAINING |= {"schedule": "linear", "decay_from": 0.2, "selection": "validation-score"}
FRAMES = (  # the paper's own training of its own form, IEMOCAP
    {"form": "frames", "pretraining_epochs": 20.0},
    TRAINING | {"lr": 2e-4, "batch": 128, "epochs": 60, "clip": 1.0, "decay_from": 0.5},
)
RECIPE = Recipe(
    printed={family: ({}, TRAINING) for family in ("mosi", "mosei", "iemocap")},
    smoke=(
        {"width": 8, "hidden": 8, "channels": 4, "outer": 8, "middle": 6, "bottleneck": 4, "blocks": 2},
        {"batch": 32, "epochs": 2, "looks": 2},
    ),
    small=(
        {"width": 32, "hidden": 32, "channels": 16, "outer": 64, "middle": 32, "bottleneck": 16, "blocks": 3},
        {"lr": 2e-3, "batch": 32, "epochs": 40},  # weights of 0.02 need some hundred steps to grow
    ),
)


class Perceptron(nn.Module):
    """Linear layers of the given widths; ReLU and dropout, at a rate that the caller knows, between them."""

    def __init__(self, widths):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, x: Tensor, dropout: float) -> Tensor:
        *inner, last = self.layers
        for layer in inner:
            x = F.dropout(F.relu(layer(x)), dropout, self.training)
        return last(x)


class MMIN(Method):
    """Encoders, the cascade forth and the cascade back, a head on the bottlenecks, and a first head on the encoders.

    Which head answers is a buffer that the first training sets, so that its networks are validated as they are trained.
    """

    Options, recipe = MMINOptions, RECIPE
    situations = ({"form": "frames"},)

    def __init__(self, shape, options):
        super().__init__(shape, options)
        o = options
        self.answer = Score("mse") if shape.task == "regression" else Classes(len(shape.classes))
        self.encoders = nn.ModuleDict({m: self._encoder(m, width) for m, width in shape.widths.items()})
        joint, sizes = o.width * len(shape.widths), (o.outer, o.middle, o.bottleneck)
        self.first_head = Perceptron((joint, o.hidden, o.hidden, self.answer.size))
        self.forth = Cascade(joint, sizes, o.blocks)
        if o.share_weight == "no":
            self.back = Cascade(joint, sizes, o.blocks)
        self.head = Perceptron((o.blocks * o.bottleneck, o.hidden, o.hidden, self.answer.size))
        self.register_buffer("pretraining", torch.zeros(()))
        self._initialise()

    def _encoder(self, m, width):
        o = self.options
        if o.form == "utterance":
            return Perceptron((width, o.hidden, o.hidden, o.width))
        return TextCNN(width, o.width, o.channels, o.dropout) if m == "l" else LSTMEncoder(width, o.width, "max")

    def _initialise(self):
        """Kaiming-normal or N(0, 0.02) weights and zero biases; LSTMs stay as torch makes them."""
        how = self.options.initial_weights
        for name, module in self.named_modules():
            if not isinstance(module, (nn.Linear, nn.Conv1d)):
                continue
            second = not name.startswith(("encoders.", "first_head."))
            if how == "normal" or (how == "as-form" and second and self.options.form == "utterance"):
                nn.init.normal_(module.weight, 0, 0.02)
            else:
                nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)

    @classmethod
    def stages(cls, options):
        """Encoders with a head of their own, on complete data; then MMIN, from them and taught by them."""
        settings = {"betas": (0.9, 0.999)} | ({"clip": 0.5} if options.form == "frames" else {})
        if options.pretraining_epochs:
            settings["epochs"] = int(options.pretraining_epochs)
        first = Stage(
            "pretraining",
            views="complete",
            frozen=("forth.", "back.", "head."),
            scopes=("network", "teacher"),
            settings=settings,
        )
        second = Stage(
            "method",
            starts_from={"pretraining": ("encoders.",)},
            taught_by={"pretraining": ("lost",)},
            frozen=("first_head.",),
        )
        return first, second

    @property
    def vmappable(self):
        """Without `nn.LSTM`."""
        return self.options.form == "utterance"

    def groups(self, clock):
        """Each sub-network by itself, as its gradients are clipped."""
        encoders = tuple(f"encoders.{m}." for m in self.encoders)
        return tuple(ParameterGroup((prefix,)) for prefix in (*encoders, "first_head.", "forth.", "back.", "head."))

    def weights(self, clock):
        if clock.stage != "method":
            return {}
        return {"task": self.options.ce_weight, "imagine": self.options.mse_weight, "cycle": self.options.cycle_weight}

    def views(self, batch, draws):
        """One of the incomplete patterns for each utterance, and the modalities that are wholly missing from it."""
        shown = training_view(batch, draws, "yes", self.options.drop_frames, self.options.complete_case)
        lost = batch.show({m: ~there.any(-1, keepdim=True) for m, there in shown.frames.items()})
        return {"student": shown, "lost": lost}, {}

    def encode(self, batch, dropout):
        """f (B, D): the embeddings of all modalities side by side, those of missing ones of zeros."""
        return torch.cat([self.embedding(m, batch, dropout) for m in self.encoders], -1)

    def embedding(self, m, batch, dropout):
        """(B, T_m, d_m) -> (B, d)."""
        if self.options.form == "utterance":
            return self.encoders[m](mean_over(batch.x[m], batch.frames[m]), dropout)
        valid = batch.valid[m] if self.options.pooling == "valid" else torch.ones_like(batch.valid[m])
        return self.encoders[m](batch.x[m], valid)

    def forward(self, batch):
        o = self.options
        f = self.encode(batch, o.dropout)
        imagined, latent = self.forth(f)
        logits = torch.where(self.pretraining > 0, self.first_head(f, o.first_dropout), self.head(latent, o.dropout))
        return Output(logits, latent, {"f": f, "imagined": imagined})

    def losses(self, step, *, clock):
        """The task, the distance of what is imagined to the teacher's embeddings of what is missing, and that of the
        way back from f, which the way back does not move:  CE + 4 MSE(t, e) + 2 MSE(stopgrad(f), back(e))."""
        if clock.stage == "pretraining":
            return self.first_losses(step.views["student"])
        o, batch = self.options, step.views["student"]
        f = self.encode(batch, o.dropout)
        imagined, latent = self.forth(f)
        again, _ = (self.back if o.share_weight == "no" else self.forth)(imagined)
        return {
            "task": self.answer.loss(self.head(latent, o.dropout), batch.y),
            "imagine": F.mse_loss(imagined, step.told["pretraining"].extras["f"]),
            "cycle": F.mse_loss(again, f.detach()),
        }

    def first_losses(self, batch):
        """The task loss of the first head, and a note for `after_step` that this is the first training."""
        rate = self.options.first_dropout
        logits = self.first_head(self.encode(batch, rate), rate)
        return {"task": self.answer.loss(logits, batch.y)}, {"pretraining": torch.ones_like(self.pretraining)}

    def after_step(self, step, kept, *, clock):
        if clock.stage == "pretraining":
            self.pretraining.copy_(kept["pretraining"])
