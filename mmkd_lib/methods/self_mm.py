"""Self-MM (Yu et al., AAAI 2021): one multimodal and several unimodal tasks, whose labels the training makes itself.

The rule that makes the labels first, as pure functions; then the options and the class that wires them. A task is
"joint" (the paper's M, all modalities) or the name of a modality; C columns of labels: one score, or one an emotion.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.missing import training_view
from .answers import Answer, Classes, Score, one_hot
from .base import NUMBER, SHARE, WHOLE, Method, Options, Output, ParameterGroup, Recipe, option
from .layers import mean_over
from .vector_encoders import LSTMEncoder

EPSILON = 1e-8  # of both quotients


def relative_distance(features: Tensor, centres: Tensor) -> Tensor:
    """How much nearer features lie to the positive centre than to the negative one.

        delta = (d_n - d_p) / (d_p + 1e-8),   d Euclidean

    features (B, p), centres (2, C, p) positive first -> (B, C). The paper divides both distances by a function of the
    width p; that cancels.
    """
    positive, negative = (features.unsqueeze(1) - centres.unsqueeze(1)).norm(dim=-1)  # 2 x (B, C)
    return (negative - positive) / (positive + EPSILON)


def proposed_labels(own: Tensor, joint: Tensor, y: Tensor, bound: float) -> Tensor:
    """The unimodal labels that a step proposes, from the relative distances of the task and of the joint task.

        y' = clamp( 0.5 delta_s / (delta_f + 1e-8) y + 0.5 (y + delta_s - delta_f), -H, H )

    own, joint and the human label y, all (B, C). Where delta_f is near 0 only the clamp H holds the quotient.
    """
    return (0.5 * own / (joint + EPSILON) * y + 0.5 * (y + own - joint)).clamp(-bound, bound)


def moved_labels(labels: Tensor, proposed: Tensor, epoch: int) -> Tensor:
    """The momentum of epoch n = 1, 2, ...: (n - 1)/(n + 1) y + 2/(n + 1) y'."""
    return (epoch - 1) / (epoch + 1) * labels + 2 / (epoch + 1) * proposed


def class_sums(features: Tensor, labels: Tensor, zero: str = "left out") -> tuple[Tensor, Tensor]:
    """Sums of the features (n, p) and numbers of utterances with a positive and with a negative label (n, C):
    (2, C, p) and (2, C), in double precision, so that sums may be kept running. A label of exactly 0 is `left out`, or
    counts as `positive`."""
    positive = labels > 0 if zero == "left out" else labels >= 0
    member = torch.stack([positive, labels < 0]).double()  # (2, n, C)
    return member.mT @ features.double(), member.sum(1)


@dataclass(frozen=True)
class SignedScores(Answer):
    """One score for each of `size` classes, 1 where it is the class and -1 where it is another, taught by L1; the
    largest score is the answer."""

    size: int

    def targets(self, y):
        """Classes (B,) as scores (B, C)."""
        return 2 * one_hot(y, self.size, torch.zeros((), device=y.device)) - 1

    def each(self, logits, y):
        return (logits - self.targets(y)).abs(), None

    def soft(self, logits, shares):
        return (shares * (logits - 1).abs() + (1 - shares) * (logits + 1).abs()).mean()


@dataclass(frozen=True)
class SelfMMOptions(Options):
    """Every choice of Self-MM. Defaults are those of MMSA for MOSI; the authors' own repository differs. A modality
    other than l, a, v has the sizes and rates of v."""

    text_net: str = option(
        "lstm",
        ("lstm", "vector"),
        "network",
        "text encoder",
        "the paper tunes BERT and reads its first vector; our word vectors go through an LSTM of the same kind, or a "
        "sentence vector (one frame) is read as it is",
        "vector",
    )
    hidden_l: int = option(128, WHOLE, "network", "text encoder", "our text net; BERT has no such part")
    hidden_a: int = option(16, WHOLE, "network", "code", "16 in MMSA; 32 in the authors' repository")
    hidden_v: int = option(32, WHOLE, "network", "code", "32 in MMSA; 64 (MOSI) and 32 (MOSEI) in the authors'")
    out_l: int = option(128, WHOLE, "network", "text encoder", "our text net; BERT's vector has 768")
    out_a: int = option(16, WHOLE, "network", "code", "printed: 16 in both repositories")
    out_v: int = option(32, WHOLE, "network", "code", "printed: 32 in both repositories")
    post_joint: int = option(128, WHOLE, "network", "code", "printed: 128 in both repositories")
    post_l: int = option(32, WHOLE, "network", "code", "32 in MMSA; 64 (MOSI) and 32 (MOSEI) in the authors'")
    post_a: int = option(16, WHOLE, "network", "code", "printed: 16 in both repositories")
    post_v: int = option(32, WHOLE, "network", "code", "32 in MMSA; 32 (MOSI) and 16 (MOSEI) in the authors'")
    dropout_joint: float = option(0.0, SHARE, "network", "code", "0 in MMSA; 0.1 (MOSI) and 0 (MOSEI) in the authors'")
    dropout_l: float = option(0.1, SHARE, "network", "code", "0.1 in MMSA; 0 (MOSI) and 0.1 (MOSEI) in the authors'")
    dropout_a: float = option(0.1, SHARE, "network", "code", "0.1 in MMSA; 0.1 (MOSI) and 0 (MOSEI) in the authors'")
    dropout_v: float = option(0.0, SHARE, "network", "code", "0 in MMSA; 0.1 in the authors'")
    dropout_state: float = option(0.0, SHARE, "network", "code", "of the LSTM's last state; 0 in both repositories")
    classification: str = option(
        "scores",
        ("scores", "cross-entropy"),
        "network",
        "tasks",
        "defined for scores only; here one score an emotion, 1 or -1, with the rule on each; or classes, no rule",
    )
    bound: float = option(
        3.0, NUMBER, "loss", "label rule", "printed: H = 3, the largest score; 1 where emotions are scored"
    )
    zero: str = option(
        "left out",
        ("left out", "positive"),
        "loss",
        "label rule",
        "excludeZero is never set in the authors' repository, so that neutral utterances count as positive there",
        "positive",
    )
    labels_from: int = option(2, WHOLE, "loss", "label rule", "printed: labels move from the second epoch on")
    unimodal_weight: float = option(1.0, NUMBER, "loss", "losses", "printed: all tasks weigh 1; 0 is one task alone")
    train_missing: str = option(
        "no",
        ("no", "mrm"),
        "views",
        "training",
        "made for complete data, and the papers that compare with it seem to have trained it so; mrm: random missing",
    )
    drop_modalities: str = option(
        "yes", ("yes", "no"), "views", "training", "under mrm: modalities are lost in training"
    )
    drop_frames: str = option("yes", ("yes", "no"), "views", "training", "under mrm: frames are lost in training")
    complete_case: str = option(
        "yes", ("yes", "no"), "views", "training", "under mrm: all modalities are sometimes there"
    )
    lr_l: float = option(
        1.0, NUMBER, "network", "code", "in units of the rate; BERT's is 5e-5, our text net's that of the heads"
    )
    lr_a: float = option(5.0, NUMBER, "network", "code", "5 in MMSA and for MOSEI; 1 for MOSI in the authors'")
    lr_v: float = option(5.0, NUMBER, "network", "code", "5 in MMSA; 0.1 in the authors'")
    decay_l: float = option(0.001, NUMBER, "network", "code", "0.001 for BERT; our text net's is that of the heads")
    decay_a: float = option(
        0.001, NUMBER, "network", "code", "0.001 in MMSA; 0.01 (MOSI) and 0 (MOSEI) in the authors'"
    )
    decay_v: float = option(
        0.001, NUMBER, "network", "code", "0.001 in MMSA; 0.001 (MOSI) and 0 (MOSEI) in the authors'"
    )


# Gradients of four batches are summed for one step, what is left of an epoch is dropped (`keep_rest` keeps it), and
# training ends after 8 epochs without a better validation loss, so that every epoch is validated.
TRAINING = {"lr": 1e-3, "batch": 16, "epochs": 100, "looks": 100, "clip": 0.0, "weight_decay": 1e-3}
TRAINING |= {"accumulate": 4, "stop_after": 8}
MOSEI = {"hidden_a": 32, "post_v": 16, "dropout_a": 0.0, "dropout_v": 0.1, "lr_v": 0.1}
MOSEI |= {"decay_l": 0.01, "decay_a": 0.0, "decay_v": 0.0}
RECIPE = Recipe(
    printed={  # MMSA's for MOSI; the authors' own for MOSEI; neither has IEMOCAP
        "mosi": ({}, TRAINING),
        "mosei": (MOSEI, TRAINING | {"batch": 32, "weight_decay": 0.01}),
        "iemocap": ({}, TRAINING),
    },
    smoke=(
        {"hidden_l": 8, "out_l": 8, "hidden_a": 4, "hidden_v": 4, "post_joint": 8, "post_l": 8},
        {"batch": 16, "epochs": 3, "looks": 3, "accumulate": 2, "stop_after": 0},  # the rule trains from epoch 3 on
    ),
    small=({"hidden_l": 32, "out_l": 32, "post_joint": 32}, {"batch": 16, "epochs": 24, "looks": 24}),
)


class Head(nn.Module):
    """One task: u -> features F = ReLU(L_1 drop(u)) (B, p), and its scores L_3 ReLU(L_2 F) (B, C)."""

    def __init__(self, width_in, width, size, dropout):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.first, self.second = nn.Linear(width_in, width), nn.Linear(width, width)
        self.last = nn.Linear(width, size)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        features = F.relu(self.first(self.dropout(u)))
        return features, self.last(F.relu(self.second(features)))


class Net(nn.Module):
    """One modality (B, T, d_m) -> (B, o): the last state of an LSTM over the utterance's true length, and a layer."""

    def __init__(self, width_in, width, size, dropout):
        super().__init__()
        self.lstm, self.project = LSTMEncoder(width_in, width), nn.Linear(width, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        return self.project(self.dropout(self.lstm(x, valid)))


class SelfMM(Method):
    """Encoders and heads of all tasks, and for every training utterance a row in the table of labels (buffer `labels`,
    (n, tasks, C), the human label first) and in the tables of features that the rule reads."""

    Options, recipe = SelfMMOptions, RECIPE
    vmappable = False  # nn.LSTM
    situations = ({"classification": "cross-entropy"}, {"train_missing": "mrm"})

    def __init__(self, shape, options):
        super().__init__(shape, options)
        o, modalities = options, tuple(shape.widths)
        self.subtasks = ("joint", *modalities)
        self.generates = shape.task == "regression" or o.classification == "scores"
        self.bound = o.bound if shape.task == "regression" else 1.0  # the range of the labels
        self.answer = self._answer()
        vectors = [m for m in modalities if m == "l" and o.text_net == "vector"]
        self.nets = nn.ModuleDict(
            {
                m: Net(width, self.of("hidden", m), self.of("out", m), o.dropout_state)
                for m, width in shape.widths.items()
                if m not in vectors
            }
        )
        out = {m: shape.widths[m] if m in vectors else self.of("out", m) for m in modalities}
        out["joint"] = sum(out.values())
        self.heads = nn.ModuleDict(
            {
                task: Head(out[task], self.of("post", task), self.answer.size, self.of("dropout", task))
                for task in self.subtasks
            }
        )

    def _answer(self):
        """What the heads answer: a score, scores of classes, or classes."""
        if self.shape.task == "regression":
            return Score("l1")
        count = len(self.shape.classes)
        return SignedScores(count) if self.options.classification == "scores" else Classes(count)

    def of(self, what, task):
        """The option `what` of a task or modality; a modality beyond l, a, v has that of v."""
        return getattr(self.options, f"{what}_{task}", getattr(self.options, f"{what}_v"))

    def begin(self, train):
        """The tables, a row for each utterance: every label the human one, every feature 0, as long as it is unseen."""
        if not self.generates:
            return
        y = self.human_labels(train.batch.y).unsqueeze(1)  # (n, 1, C)
        self.register_buffer("labels", y.repeat(1, len(self.subtasks), 1))
        for number, task in enumerate(self.subtasks):
            features = torch.zeros(len(y), self.of("post", task))
            sums, counts = class_sums(features, self.labels[:, number], self.options.zero)
            for name, table in (("features", features), ("sums", sums), ("counts", counts)):
                self.register_buffer(f"{name}_{task}", table)

    def human_labels(self, y):
        """The label of each utterance in the columns of the table, (n, C)."""
        return y.float().unsqueeze(-1) if self.shape.task == "regression" else self.answer.targets(y)

    def groups(self, clock):
        """Each modality's net with its own rate and decay, and the heads with those of the settings."""
        nets = [ParameterGroup((f"nets.{m}.",), self.of("lr", m), self.of("decay", m)) for m in self.nets]
        return (*nets, ParameterGroup(("heads.",)))

    def weights(self, clock):
        return {f"unimodal {m}": self.options.unimodal_weight for m in self.shape.widths}

    def views(self, batch, draws):
        o = self.options
        if o.train_missing == "no":
            return {"student": batch}, {}
        return {"student": training_view(batch, draws, o.drop_modalities, o.drop_frames, o.complete_case)}, {}

    def forward(self, batch):
        u = {m: self.encode(m, batch) for m in batch.modalities}  # m -> (B, o_m)
        u["joint"] = torch.cat([u[m] for m in batch.modalities], -1)
        features, scores = {}, {}
        for task, head in self.heads.items():
            features[task], scores[task] = head(u[task])
        extras = {f"features {task}": f for task, f in features.items()}
        extras |= {f"logits {task}": s for task, s in scores.items()}
        return Output(scores["joint"], features["joint"], extras)

    def encode(self, m, batch):
        """(B, T_m, d_m) -> (B, o_m); the length is that of the complete utterance, and what is missing is zero."""
        if m in self.nets:
            return self.nets[m](batch.x[m], batch.valid[m])
        return mean_over(batch.x[m], batch.valid[m])  # a sentence vector stands in one frame

    def losses(self, step, *, clock):
        """L = |y_f^ - y_f| + sum_s tanh|y_s - y_f| |y_s^ - y_s|, means over the batch: labels as they are before this
        batch moves them. In epoch 1 all labels are equal, and only the joint task is trained."""
        view = step.views["student"]
        output = self(view)
        terms = {"task": self.answer.loss(output.logits, view.y)}
        if not self.generates:
            unimodal = {m: self.answer.loss(output.extras[f"logits {m}"], view.y) for m in view.modalities}
            return terms | {f"unimodal {m}": term for m, term in unimodal.items()}
        labels = self.labels[step.rows]  # (B, tasks, C)
        for number, m in enumerate(self.subtasks[1:], 1):
            weight = (labels[:, number] - labels[:, 0]).abs().tanh()
            terms[f"unimodal {m}"] = (weight * (output.extras[f"logits {m}"] - labels[:, number]).abs()).mean()
        return terms, {task: output.extras[f"features {task}"] for task in self.subtasks}

    def after_step(self, step, kept, *, clock):
        """The rule, in the authors' order: the labels of the batch move by the centres before it, then its features are
        written, then the centres are those of the whole table again (as running sums)."""
        rows, labels = step.rows, self.labels[step.rows]
        moved = self.moved(labels, kept, clock.epoch) if clock.epoch >= self.options.labels_from else labels
        for number, task in enumerate(self.subtasks):
            features, zero = getattr(self, f"features_{task}"), self.options.zero
            before, after = (
                class_sums(features[rows], labels[:, number], zero),
                class_sums(kept[task], moved[:, number], zero),
            )
            for name, old, new in zip(("sums", "counts"), before, after, strict=True):
                getattr(self, f"{name}_{task}").add_(new - old)
            features.index_copy_(0, rows, kept[task])
        self.labels.index_copy_(0, rows, moved)

    def moved(self, labels, features, epoch):
        """The labels (B, tasks, C) of a batch after the rule; a label stays where a class has no centre (nobody in the
        table is positive, or nobody negative)."""
        distances, known = zip(*(self.distance(task, features[task]) for task in self.subtasks), strict=True)
        columns = [labels[:, 0]]
        for number in range(1, len(self.subtasks)):
            proposed = proposed_labels(distances[number], distances[0], labels[:, 0], self.bound)
            moved = moved_labels(labels[:, number], proposed, epoch)
            columns.append(torch.where(known[number] & known[0], moved, labels[:, number]))
        return torch.stack(columns, 1)

    def distance(self, task, features):
        """Relative distances (B, C) of features to the centres of a task, and the columns (C,) that have both."""
        counts = getattr(self, f"counts_{task}")
        centres = (getattr(self, f"sums_{task}") / counts.clamp(min=1).unsqueeze(-1)).to(features)
        return relative_distance(features, centres), (counts > 0).all(0)
