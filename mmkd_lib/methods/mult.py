"""MulT (Tsai et al., ACL 2019): every modality is reinforced by the raw sequences of all others, then read at its last
step. Written from the equations; what the authors' code does is the printed reading of an option.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..data.batch import by_length, cut
from ..data.missing import training_view
from ..support.errors import BadInput
from .answers import Classes, Questions, Score
from .base import SHARE, WHOLE, Method, Options, Recipe, option
from .crossmodal import CrossmodalEncoder, Dropouts, dropped_out
from .layers import attendable
from .steps import Output

LANGUAGE = "l"
KERNELS = ("1/1/1", "1/3/3", "3/3/5", "5/5/5")  # of language, audio, and everything else


@dataclass(frozen=True)
class MulTOptions(Options):
    """Every choice of MulT: printed hyper-parameters first, then what paper, code and data leave open."""

    width: int = option(40, WHOLE, "network", "Table 5", "printed: 40; the code's default is 30; even, at least 4")
    heads: int = option(10, WHOLE, "network", "Table 5", "printed: 10, 8, 10; must divide the width")
    depth: int = option(4, WHOLE, "network", "Table 5", "printed: 4; memory encoders have 3 at least")
    kernels: str = option(
        "1/1/1", KERNELS, "network", "3.1, Table 5", "printed: 1/1/1, 1/3/3, 3/3/5 of l/a/others; the code knows 1 only"
    )
    embed_dropout: float = option(
        0.25, SHARE, "network", "code", "printed: .25, .3, .3; of embedded inputs, and of the features of language"
    )
    attention_dropout: float = option(
        0.1, SHARE, "network", "code", "printed: .1, .1, .25; of attention to language and in memory encoders"
    )
    other_attention_dropout: float = option(0.0, SHARE, "network", "code", "printed: 0; of attention to the others")
    relu_dropout: float = option(0.1, SHARE, "network", "code", "printed: .1")
    residual_dropout: float = option(0.1, SHARE, "network", "code", "printed: .1")
    out_dropout: float = option(0.0, SHARE, "network", "code", "printed: 0, .1, .1; before the last residual layer")
    causal: str = option(
        "yes", ("yes", "no"), "network", "code", "the paper does not say that no step sees later ones", "yes"
    )
    positions: str = option(
        "nonzero",
        ("nonzero", "valid"),
        "network",
        "3.1, code",
        "the code gives no position to a frame whose first channel is 0: padding, but also what is missing",
        "nonzero",
    )
    padding: str = option(
        "masked",
        ("masked", "attended"),
        "network",
        "code",
        "the code attends to padding, which is a key of biases; with leading padding, as in its files, all steps do",
        "attended",
    )
    last: str = option(
        "valid",
        ("valid", "final"),
        "network",
        "3.2, code",
        "the final step is a word under leading padding only, as in the code's files; else it is padding",
        "final",
    )
    heads_per_class: str = option(
        "softmax",
        ("softmax", "one-vs-rest"),
        "network",
        "4.2, code",
        "the code answers a yes-or-no question with two logits for each emotion; others compare one softmax",
        "one-vs-rest",
    )
    train_missing: str = option(
        "no",
        ("no", "yes"),
        "views",
        "3",
        "it is made for complete data; yes: random missing, as others are trained",
        "no",
    )


TRAINING = {"lr": 1e-3, "clip": 0.8, "schedule": "plateau", "factor": 0.1, "patience": 20}
AT_ONCE = {"schedule": "constant"}  # trainings shorter than the patience: no plateau, so seeds train side by side

RECIPE = Recipe(
    printed={  # Table 5; the rest is the code's
        "mosi": ({"heads": 10}, TRAINING | {"batch": 128, "epochs": 100}),
        "mosei": (
            {"heads": 8, "kernels": "1/3/3", "embed_dropout": 0.3, "out_dropout": 0.1},
            TRAINING | {"batch": 16, "epochs": 20, "clip": 1.0},
        ),
        "iemocap": (
            {"heads": 10, "kernels": "3/3/5", "embed_dropout": 0.3, "attention_dropout": 0.25, "out_dropout": 0.1},
            TRAINING | {"batch": 32, "epochs": 30, "lr": 2e-3},
        ),
    },
    smoke=({"width": 8, "heads": 2, "depth": 1}, AT_ONCE | {"batch": 32, "epochs": 2, "looks": 2}),
    small=({"width": 24, "heads": 4, "depth": 2}, AT_ONCE | {"lr": 2e-3, "batch": 64, "epochs": 18}),
)


class MulT(Method):
    """Crossmodal encoders of every ordered pair of modalities, a memory encoder of each target, a residual head.

    With M modalities a target is reinforced by M - 1 others and its memory is (M - 1) d wide; a single modality, which
    has nobody to attend to, goes to its memory encoder as it is.
    """

    Options = MulTOptions
    recipe = RECIPE
    situations = ({"train_missing": "yes"}, {"causal": "no"})

    def __init__(self, shape, options):
        super().__init__(shape, options)
        o, names, d = options, tuple(shape.widths), options.width
        if d % 2 or d < 4:
            raise BadInput(f"width={d}: MulT's positions need an even width of at least 4.")
        self.answer = self.answer_for(shape)
        self.projections = nn.ModuleDict({m: projection(m, width, o) for m, width in shape.widths.items()})
        self.sources = {m: tuple(other for other in names if other != m) for m in names}
        self.crossmodal = nn.ModuleDict(
            {pair(m, source): self.encoder(d, o.depth, source) for m in names for source in self.sources[m]}
        )
        memory = d * max(1, len(names) - 1)
        self.memory = nn.ModuleDict({m: self.encoder(memory, max(o.depth, 3), LANGUAGE) for m in names})
        joint = memory * len(names)
        self.residual = nn.ModuleList([nn.Linear(joint, joint), nn.Linear(joint, joint)])
        self.head = nn.Linear(joint, self.answer.size)

    def answer_for(self, shape):
        """A score by its L1 distance, one of several classes, or two logits for each class."""
        if shape.task == "regression":
            return Score("l1")
        classes = len(shape.classes)
        return Questions(classes, 2) if self.options.heads_per_class == "one-vs-rest" else Classes(classes)

    def encoder(self, width, depth, source):
        """An encoder whose keys are those of a source."""
        o = self.options
        attention = o.attention_dropout if source == LANGUAGE else o.other_attention_dropout
        dropouts = Dropouts(o.embed_dropout, attention, o.relu_dropout, o.residual_dropout)
        return CrossmodalEncoder(width, o.heads, depth, dropouts, o.causal == "yes")

    def views(self, batch, draws):
        return {"student": training_view(batch, draws) if self.options.train_missing == "yes" else batch}, {}

    def forward(self, batch):
        """What the network says of a batch, utterances of similar length together: less padding, the same answers."""
        o = self.options
        read = o.padding == "attended" or o.last == "final"  # padding is
        groups = [] if read else by_length(batch)
        if len(groups) < 2:
            return self.answered(batch)
        said = [self.answered(cut(batch, *group)) for group in groups]
        back = torch.cat([indices for indices, _ in groups]).argsort()
        return Output(*(torch.cat([getattr(o, name) for o in said])[back] for name in ("logits", "embedding")))

    def answered(self, batch):
        """The network of section 3 on one padded batch."""
        projected = {m: self.project(m, batch.x[m]) for m in batch.modalities}  # P_m: (B, T_m, d)
        h = torch.cat([self.reinforced(m, projected, batch) for m in batch.modalities], -1)  # (B, M (M - 1) d)
        hidden = self.drop(F.relu(self.residual[0](h)), self.options.out_dropout)
        return Output(self.head(self.residual[1](hidden) + h), h)

    def project(self, m, x):
        """P_m, (B, T_m, d_m) -> (B, T_m, d); in training the features of language are dropped out before."""
        if m == LANGUAGE:
            x = self.drop(x, self.options.embed_dropout)
        return self.projections[m](x.transpose(1, 2)).transpose(1, 2)

    def drop(self, x, share):
        """Dropout in training."""
        return dropped_out(x, share if self.training else 0.0)

    def reinforced(self, m, projected, batch):
        """h_m = memory([CM_1->m; CM_2->m; ...])[last], (B, (M - 1) d)."""
        streams = [self.attend(m, source, projected, batch) for source in self.sources[m]] or [projected[m]]
        return self.memory[m](
            torch.cat(streams, -1), exist=self.exist(m, batch), placed=self.placed(m, batch), place=self.place(m, batch)
        )

    def attend(self, m, source, projected, batch):
        """Modality m reinforced by another one, (B, T_m, d)."""
        return self.crossmodal[pair(m, source)](
            projected[m],
            projected[source],
            exist=self.exist(source, batch),
            placed=self.placed(m, batch),
            source_placed=self.placed(source, batch),
        )

    def exist(self, m, batch):
        """The frames (B, T_m) that may be attended to; None for all."""
        return attendable(batch.valid[m]) if self.options.padding == "masked" else None

    def placed(self, m, batch):
        """The frames (B, T_m) that have a position; None for those that are not zero."""
        return batch.valid[m] if self.options.positions == "valid" else None

    def place(self, m, batch):
        """The step (B,) that is read."""
        counted = batch.valid[m] if self.options.last == "valid" else torch.ones_like(batch.valid[m])
        return (counted * torch.arange(counted.shape[-1], device=counted.device)).amax(-1)

    def losses(self, step, *, clock):
        view = step.views["student"]
        return {"task": self.answer.loss(self(view).logits, view.y)}


def pair(target, source):
    """The name of the encoder in which a target attends to a source."""
    return f"{source}_to_{target}"


def projection(m, width, options):
    """A convolution over time to the common width, without bias; nothing where the features have that width. Kernels
    of more than one frame see zeros beside the sequence, which keeps its length."""
    if width == options.width:
        return nn.Identity()
    language, audio, others = map(int, options.kernels.split("/"))
    kernel = {LANGUAGE: language, "a": audio}.get(m, others)
    return nn.Conv1d(width, options.width, kernel, padding=kernel // 2, bias=False)
