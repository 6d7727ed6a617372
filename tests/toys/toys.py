"""Tiny methods that use one part of the contract each, and broken ones that keep it not."""

from dataclasses import dataclass

import torch
from torch import nn

from mmkd_lib import Method, Options, Output, ParameterGroup, Recipe, Stage, option, training_view
from mmkd_lib.methods.answers import Classes, Score
from mmkd_lib.methods.base import NUMBER
from mmkd_lib.methods.layers import mean_over


@dataclass(frozen=True)
class ToyOptions(Options):
    weight: float = option(0.5, NUMBER, "loss", "nowhere", "of the extra term")


class Toy(Method):
    """A linear layer on the means of what is shown."""

    Options = ToyOptions
    recipe = Recipe()

    def __init__(self, shape, options):
        super().__init__(shape, options)
        self.answer = Score() if shape.task == "regression" else Classes(len(shape.classes))
        self.joint = sum(shape.widths.values())
        self.head = nn.Linear(self.joint, self.answer.size)

    def views(self, batch, draws):
        return {"student": training_view(batch, draws)}, {}

    def embed(self, batch):
        return torch.cat([mean_over(batch.x[m], batch.frames[m]) for m in batch.modalities], -1)

    def forward(self, batch):
        embedding = self.embed(batch)
        return Output(self.head(embedding), embedding)

    def weights(self, clock):
        return {"extra": self.options.weight}

    def losses(self, step, *, clock):
        view = step.views["student"]
        output = self(view)
        return {"task": self.answer.loss(output.logits, view.y), "extra": output.logits.square().mean()}


class Normed(Toy):
    """Batch normalisation: buffers that every training step moves."""

    def __init__(self, shape, options):
        super().__init__(shape, options)
        self.norm = nn.BatchNorm1d(self.joint)

    def embed(self, batch):
        return self.norm(super().embed(batch))


class Recurrent(Toy):
    """An LSTM a modality, which no vmap takes."""

    vmappable = False

    def __init__(self, shape, options):
        super().__init__(shape, options)
        self.readers = nn.ModuleDict({m: nn.LSTM(w, w, batch_first=True) for m, w in shape.widths.items()})

    def embed(self, batch):
        read = {m: self.readers[m](batch.x[m])[0] for m in batch.modalities}
        return torch.cat([mean_over(read[m], batch.frames[m]) for m in batch.modalities], -1)


class TableByRow(Toy):
    """A table with a row for each training utterance: how often it was seen, and what was said of it last."""

    def begin(self, train):
        self.register_buffer("seen", torch.zeros(len(train.batch.y)))
        self.register_buffer("last", torch.zeros(len(train.batch.y), self.answer.size))

    def losses(self, step, *, clock):
        view = step.views["student"]
        logits = self(view).logits
        near = (logits - self.last[step.rows]).square().mean()
        return {"task": self.answer.loss(logits, view.y), "extra": near}, {"logits": logits}

    def after_step(self, step, kept, *, clock):
        rows, logits = step.rows, kept["logits"]
        self.seen.add_(torch.zeros_like(self.seen).scatter(0, rows, 1.0))
        self.last.copy_(self.last.scatter(0, rows.unsqueeze(-1).expand_as(logits), logits))


class LatentByRow(Toy):
    """A free vector for each training utterance, with a rate and a turn of its own."""

    def begin(self, train):
        self.latent = nn.Parameter(0.1 * torch.randn(len(train.batch.y), self.joint))

    def groups(self, clock):
        return ParameterGroup(("head",), turn=(0, 1, 2)), ParameterGroup(("latent",), lr=10.0, turn=(1, 2, 2))

    def losses(self, step, *, clock):
        view, latent = step.views["student"], self.latent[step.rows]
        far = (latent - self.embed(view)).square().mean()
        return {"task": self.answer.loss(self.head(latent), view.y), "extra": far}


class Noisy(Toy):
    """Draws from torch's generator when it is tested, too."""

    noisy_at_test = True

    def embed(self, batch):
        means = super().embed(batch)
        return means + 0.1 * torch.randn_like(means)


class Staged(Toy):
    """Starts from a network that was trained on complete data, and is taught by it about what is missing."""

    @classmethod
    def stages(cls, options):
        first = Stage("pretraining", views="complete", scopes=("network",), settings={"lr": 1e-2})
        return first, Stage("method", starts_from={"pretraining": ("head",)}, taught_by={"pretraining": ("lost",)})

    def views(self, batch, draws):
        shown = training_view(batch, draws, frames="no", complete="no")
        lost = batch.show({m: ~shown.frames[m] for m in batch.modalities})
        return {"student": shown, "lost": lost}, {}

    def losses(self, step, *, clock):
        view = step.views["student"]
        logits = self(view).logits
        if clock.stage == "pretraining":
            return {"task": self.answer.loss(logits, view.y), "extra": logits.square().mean()}
        apart = (logits - step.told["pretraining"].logits).square().mean()
        return {"task": self.answer.loss(logits, view.y), "extra": apart}


# --- broken ones: the contract's checks say in a sentence what is wrong ----------------------------------------------


class Conversing(Toy):
    """Whole dialogues: beside its own means an utterance has those of its dialogue."""

    unit = "dialogue"

    def __init__(self, shape, options):
        super().__init__(shape, options)
        self.head = nn.Linear(2 * self.joint, self.answer.size)

    def embed(self, batch):
        own = super().embed(batch)  # (B, d)
        same = (batch.group.unsqueeze(-1) == batch.group.unsqueeze(-2)).to(own)  # (B, B)
        return torch.cat([own, same @ own / same.sum(-1, keepdim=True)], -1)


class ReadsLabels(Toy):
    def forward(self, batch):
        embedding = self.embed(batch)
        return Output(self.head(embedding) + batch.y.unsqueeze(-1), embedding)


class ReadsPadding(Toy):
    def embed(self, batch):
        return torch.cat([batch.x[m].mean(-2) for m in batch.modalities], -1)


class ReadsNeighbours(Toy):
    def embed(self, batch):
        means = super().embed(batch)
        return means - means.mean(0)


class SecretNoise(Toy):
    def embed(self, batch):
        means = super().embed(batch)
        return means + torch.randn_like(means)


class HiddenState(Toy):
    """Counts in a plain attribute, which no record holds."""

    def __init__(self, shape, options):
        super().__init__(shape, options)
        self.steps = 0

    def forward(self, batch):
        self.steps += self.training
        embedding = self.embed(batch) * (1 + self.steps)
        return Output(self.head(embedding), embedding)


class ChangesTheBatch(Toy):
    """Adds to the features that it is given."""

    def forward(self, batch):
        for x in batch.x.values():
            x.add_(1.0)
        return super().forward(batch)


class MistypedWeight(Toy):
    """Weighs a term that its losses do not return."""

    def weights(self, clock):
        return super().weights(clock) | {"taks": 2.0}


class AsksInVain(Toy):
    """Reads a view that it does not draw."""

    def losses(self, step, *, clock):
        return {"task": self(step.views["stduent"]).logits.mean()}


class WrongScope(Toy):
    """Says of an option of the network that it concerns the loss alone."""

    def __init__(self, shape, options):
        super().__init__(shape, options)
        self.head = nn.Linear(self.joint, self.answer.size, bias=options.weight == 0.5)


class ShowsMissing(Toy):
    """A view that hides frames and keeps their values."""

    def views(self, batch, draws):
        shown = training_view(batch, draws)
        return {"student": shown._replace(x=batch.x)}, {}
