"""What every method keeps, the library's or your own: `CHECKS`, each a function of a method's name.

A check raises `Broken` with a sentence that says what is broken and where to look. All are small: generated data of the
profile `smoke`, a batch of some utterances.
"""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import fields, replace
from functools import cached_property, lru_cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import extract_tb
from types import FunctionType
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F

from ..data import benchmarks
from ..data.batch import Batch, dialogues
from ..data.missing import FIXED_SUBSETS
from ..methods import get
from ..methods.base import NUMBER, SHARE, WHOLE
from ..methods.steps import REFERENCES, SCOPES, Clock
from ..support.draws import Draws
from ..support.errors import BadInput
from ..training import evaluation
from ..training.cohort import Cohort
from ..training.evaluation import outputs, unlabelled
from ..training.fit import Training, fit, selection_value
from ..training.stack import Stack
from .experiments import plan
from .running import run
from .store import Store

TASKS = {"regression": "synthetic-mosi", "classification": "synthetic-iemocap"}
FAMILIES, PROFILES = ("mosi", "mosei", "iemocap"), ("smoke", "small", "paper")
FEW = 12  # utterances of a batch
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # answers in float32, however they are batched


class Broken(AssertionError):
    """A sentence on what a method does not keep."""


class Subject:
    """A method on one benchmark, built, with a batch of training utterances."""

    def __init__(self, method, benchmark, options=(), double=False, stage="method"):
        brief = {"epochs": 1, "looks": 1}
        [experiment] = plan(method, benchmark, "smoke", [0], options=options, settings=brief)
        self.experiment = experiment if stage == "method" else experiment.at(stage)
        self.cohort = Cohort([self.experiment], "cpu")
        self.network = self.cohort.build(self.experiment)
        if double:
            self.network = self.network.double()
            self.cohort.utterances = _as_double(self.cohort.utterances)
        self.indices = self.cohort.indices("train")[:, :FEW]
        self.batch = self.cohort.utterances.take(self.indices)  # (1, B, ...)
        self.complete = self.batch.each(lambda t: t[0])  # (B, ...)
        self.clock = Clock(stage, 1, 1, 0, 1)

    def training(self):
        """A training that is ready for its first step, parents untrained."""
        found = Training(self.cohort.ready())
        found.ask_parents()
        return found

    def answers(self, batch):
        """Logits of complete or partial utterances (B, ...) in evaluation."""
        self.network.eval()
        with torch.no_grad():
            return self.network(unlabelled(batch)).logits


def _as_double(batch):
    y = batch.y.double() if batch.y.is_floating_point() else batch.y
    return batch._replace(x={m: t.double() for m, t in batch.x.items()}, y=y)


def subjects(method, options=()) -> Iterator[Subject]:
    """The method on a benchmark of each task that it knows."""
    for task in get(method).tasks:
        yield Subject(method, _benchmark(method, task, options), options)


def _benchmark(method, task, options=(), modalities=3):
    """A benchmark of a task; one of sequences of other lengths where options bring these together, one of dialogues for
    a method that reads these."""
    unaligned = "-unaligned" if dict(options).get("align") == "pool-to-language" else ""
    more = f"-m{modalities}" if modalities > 3 else ""
    return f"{TASKS[task]}{unaligned}{more}{_unit(method)}"


def _unit(method):
    """How the names of benchmarks end that hold what a method reads."""
    return "-dialogues" if get(method).unit == "dialogue" else ""


def require(holds, sentence):
    """Raise Broken with the sentence where something does not hold."""
    if not holds:
        raise Broken(sentence)


def _equal(one, other):
    return torch.allclose(one.double(), other.double(), equal_nan=True, **CLOSE)


# --- what can be built -----------------------------------------------------------------------------------------------


def check_recipes_build(method):
    """Options and training settings of every family and profile are allowed, and a network comes of them."""
    cls = get(method)
    for family, profile in ((f, p) for f in FAMILIES for p in PROFILES):
        try:
            options, settings = cls.recipe(family, profile)
            made = cls.Options.of(**options)
            name = f"synthetic-{family}{_unit(method)}"
            if benchmarks.load(name, "smoke").task in cls.tasks:
                plan(method, name, "smoke", [0], options=options, settings=settings)
                cls(benchmarks.load(name, "smoke").shape, made)
        except BadInput as refusal:
            raise Broken(f"the recipe for {family}, {profile} is refused: {refusal}") from None


def check_options_are_documented(method):
    """Every option has allowed values, a default among them, its place in the paper and a reason."""
    for spec in fields(get(method).Options):
        about = spec.metadata
        require(about.get("place") and about.get("reason"), f"option {spec.name} names neither place nor reason.")
        allowed = about["allowed"]
        if isinstance(allowed, tuple):
            require(len(set(allowed)) == len(allowed) > 1, f"option {spec.name} has no choice: {allowed}.")
            require(about["printed"] in (None, *allowed), f"option {spec.name}: its printed reading is not allowed.")


def check_wrong_options_are_refused(method):
    """Values that are not allowed, and unknown names, get one sentence that names them and what is allowed."""
    cls = get(method).Options
    known = {spec.name: spec.metadata["allowed"] for spec in fields(cls)}
    for name, allowed in known.items():
        named = isinstance(allowed, tuple)
        near = [float(v) for v in allowed if isinstance(v, int)] if named else NEAR[allowed]
        _check_refusals(cls, name, (*WRONG, *near), [*map(str, allowed)] if named else [allowed])
    _check_refusals(cls, "no_such_option", (1,), known)


NEAR = {WHOLE: (0, 1.5), NUMBER: (), SHARE: (1.0, 2)}  # what is nearly allowed
WRONG = ("nonsense", "3", None, float("nan"), float("inf"), -1, True)  # for whatever option


def _check_refusals(cls, name, values, allowed):
    for value in values:
        try:
            cls.of(**{name: value})
        except BadInput as refusal:
            said = str(refusal)
            told = name in said and (name == "no_such_option" or repr(value) in said) and "\n" not in said
            require(told, f"the refusal of {name}={value!r} does not name both in one line: {said}")
            missing = [word for word in allowed if word not in said]
            require(not missing, f"the refusal of {name}={value!r} does not say {missing[:1]}: {said}")
        else:
            raise Broken(f"option {name}={value!r} is accepted.")


def check_any_number_of_modalities(method):
    """Networks of one, two, three and five modalities answer, and their losses are finite."""
    for task in get(method).tasks:
        for modalities in (1, 2, 3, 5):
            name = _benchmark(method, task, modalities=modalities)
            try:
                subject = _with(method, name, modalities)
            except BadInput as refusal:
                raise Broken(f"{modalities} modalities are refused: {refusal}") from None
            training = subject.training()
            step = training.step(torch.arange(FEW).unsqueeze(0), subject.clock)
            terms, _ = training.losses(step, subject.clock)
            for term, value in terms.items():
                finite = value.isfinite().all()
                require(finite, f"with {modalities} modalities the term {term} of {name} is not finite.")
            unknown = sorted(set(training.method.weights(subject.clock)) - set(terms))
            sentence = f"weights() names {', '.join(unknown)}, which losses() does not return: {', '.join(terms)}."
            require(not unknown, sentence)


def _with(method, benchmark, modalities):
    """A subject whose data has the first few modalities of a benchmark only."""
    real = benchmarks.load

    def fewer(*some):
        data = real(*some)
        kept = data.batch.modalities[:modalities]
        world = replace(data.world, steps={m: data.world.steps[m] for m in kept})
        batch = Batch(*({m: f[m] for m in kept} for f in data.batch[:3]), *data.batch[3:])
        return replace(data, batch=batch, world=world)

    with patch.object(benchmarks, "load", fewer):
        return Subject(method, benchmark)


# --- what is read ----------------------------------------------------------------------------------------------------


def check_labels_are_never_read_at_test(method, options=()):
    """`forward` gives the same answers whatever the labels of a batch are, and leaves the batch as it is."""
    for subject in subjects(method, options):
        y, before = subject.complete.y, {m: x.clone() for m, x in subject.complete.x.items()}
        other = torch.flip(y, [0]) + (1 if y.is_floating_point() else 0)
        with torch.no_grad():
            subject.network.eval()
            torch.manual_seed(0)
            one = subject.network(subject.complete).logits
            torch.manual_seed(0)
            two = subject.network(subject.complete._replace(y=other)).logits
        same = all(_equal(x, subject.complete.x[m]) for m, x in before.items())
        require(same, "forward changes the batch that it is given: others read it, too; work on a copy.")
        sentence = "forward reads batch.y: its answers change with the labels, which no test knows."
        require(torch.equal(one, two), sentence)
        require(subject.answers(subject.complete).isfinite().all(), "an answer without labels is not finite.")


def check_missing_is_never_read(method, options=()):
    """Answers depend on what is shown only: other values of what is missing change nothing, tested or trained."""
    for subject in subjects(method, options):
        names = subject.complete.modalities
        for condition in (c for c in FIXED_SUBSETS[:-1] if set(c.split("+")) < set(names)):
            shown = subject.complete.keep(condition)
            hidden = {m: subject.complete.frames[m] & ~shown.frames[m] for m in names}
            torch.manual_seed(0)
            one = subject.answers(shown)
            torch.manual_seed(0)
            two = subject.answers(_with_other_values(subject.complete, hidden).keep(condition))
            require(torch.equal(one, two), f"under {condition} an answer depends on what is missing.")
        _check_views(subject)


def _check_views(subject):
    """No view holds what it hides."""
    draws = Draws([0], 0)
    views, _ = subject.network.views(subject.batch, draws)
    for name, view in views.items():
        hidden = {m: subject.batch.frames[m] & ~view.frames[m] for m in view.x}
        changed, _ = subject.network.views(_with_other_values(subject.batch, hidden), draws)
        same = all(torch.equal(view.x[m], changed[name].x[m]) for m in view.x)
        require(same, f"the view {name!r} holds values of frames that it does not show.")


def _with_other_values(batch, where):
    """The batch with other features at `where`, m -> (..., T_m) bool."""
    return batch._replace(x={m: torch.where(where[m].unsqueeze(-1), 7 - 2 * t, t) for m, t in batch.x.items()})


def check_padding_is_never_read(method, options=()):
    """Frames that do not exist, appended to every sequence, change no answer."""
    for subject in subjects(method, options):
        padded = _padded(subject.complete, 3)
        torch.manual_seed(0)
        one = subject.answers(subject.complete)
        torch.manual_seed(0)
        two = subject.answers(padded)
        require(_equal(one, two), "answers change when sequences are padded at the end: read `valid` frames only.")


def _padded(batch, frames):
    x = {m: F.pad(t, (0, 0, 0, frames)) if t.shape[-2] > 1 else t for m, t in batch.x.items()}
    masks = [{m: F.pad(t, (0, frames)) if t.shape[-1] > 1 else t for m, t in f.items()} for f in batch[1:3]]
    return Batch(x, *masks, *batch[3:])


def check_order_of_a_batch_does_not_matter(method, options=()):
    """An utterance has the same answer wherever it stands in a batch, and whoever stands beside it (but for those of its
    dialogue, where a method reads whole ones)."""
    for subject in subjects(method, options):
        if subject.network.noisy_at_test:
            continue
        order, few = torch.arange(FEW).flip(0), torch.arange(3)
        if subject.network.unit == "dialogue":
            few = dialogues(subject.complete.group)[0]
        whole = subject.answers(subject.complete)
        turned = subject.answers(subject.complete.take(order))
        require(_equal(whole[order], turned), "answers change with the order of a batch.")
        alone = subject.answers(subject.complete.take(few))
        require(_equal(whole[few], alone), "an answer depends on the utterances beside it.")


# --- what is drawn, stacked and repeated -----------------------------------------------------------------------------


def check_reruns_are_equal(method):
    """Two trainings of one seed end with the same bits."""
    for subject in subjects(method):
        one, two = (fit(subject.cohort.ready()) for _ in range(2))
        for name, weight in one.weights[0].items():
            same = torch.equal(weight, two.weights[0][name])
            require(same, f"a second training gives other numbers in {name}: draw from torch's generator or `draws`.")


def check_seeds_train_side_by_side(method, options=(), seeds=3):
    """Networks stacked have the terms and gradients that each has alone (float64, random numbers given)."""
    for task in get(method).tasks:
        brief = {"epochs": 1, "looks": 1}
        experiments = plan(method, _benchmark(method, task, options), "smoke", range(seeds), options=options, settings=brief)
        together = Cohort(experiments, "cpu")
        with given_numbers():
            stacked = _first_terms(together)
            for s, experiment in enumerate(experiments):
                alone = _first_terms(Cohort([experiment], "cpu"))
                for name, value in alone.items():
                    same = torch.allclose(stacked[name][s], value[0], rtol=1e-7, atol=1e-9, equal_nan=True)
                    hint = "let vmap see it (no indexing by masks, buffers changed in place), or say vmappable = False"
                    require(same, f"{name} of a seed changes with the seeds beside it: {hint}.")
                    finite = not name.startswith("the gradient") or value.isfinite().all()
                    require(finite, f"{name} is not finite in the first step.")


def _first_terms(cohort):
    """Terms (S, ...) of a first step in float64, and the gradient of each parameter."""
    ready = cohort.ready()
    for module in [*ready.methods, *(module for modules in ready.parents.values() for module in modules)]:
        module.double()
    ready = ready._replace(utterances=_as_double(ready.utterances))
    training, seeds = Training(ready), len(ready.methods)
    training.ask_parents()
    clock = training.clock(1, 0)
    step = training.step(torch.arange(FEW).expand(seeds, -1), clock)
    training.stack.mode(training=True)
    training.optimiser.zero()
    terms, _ = training.losses(step, clock)
    training.backward(terms, clock)
    moved = {n: p.grad for n, p in training.stack.parameters.items() if p.grad is not None}
    return {f"term {name}": term.detach() for name, term in terms.items()} | {
        f"the gradient of {name.removeprefix('module.')}": gradient for name, gradient in moved.items()
    }


@contextmanager
def given_numbers():
    """Numbers that depend on a shape only in place of torch's random ones; no dropout."""

    def spread(shape, like=None):
        count = int(np.prod(shape))
        numbers = (torch.arange(count, dtype=torch.float64) * 0.6180339887498949 % 1).view(tuple(shape))
        return numbers if like is None else numbers.to(like)

    def sizes(some):
        return some[0] if len(some) == 1 and not isinstance(some[0], int) else some

    real = F.scaled_dot_product_attention
    with (
        patch.object(torch, "randn", lambda *some, **how: 2 * spread(sizes(some)).to(how.get("dtype")) - 1),
        patch.object(torch, "rand", lambda *some, **how: spread(sizes(some)).to(how.get("dtype"))),
        patch.object(torch, "randn_like", lambda t, **how: 2 * spread(t.shape, t) - 1),
        patch.object(torch, "rand_like", lambda t, **how: spread(t.shape, t)),
        patch.object(torch, "randint", lambda low, high, size: (spread(size) * (high - low) + low).long()),
        patch.object(F, "dropout", lambda x, *some, **how: x),
        patch.object(F, "scaled_dot_product_attention", lambda *some, **how: real(*some, **how | {"dropout_p": 0.0})),
    ):
        yield


def check_answers_do_not_depend_on_what_else_is_asked(method):
    """Answers under a condition are the same alone or beside others, and in chunks of any size."""
    for subject in subjects(method):
        cohort, stack = subject.cohort, Stack([subject.network])
        conditions = [c for c in ("a", "l", "l+a+v") if set(c.split("+")) <= set(subject.complete.modalities)]
        indices, masks = cohort.indices("test")[:, :40], cohort.masks(conditions, "test")
        masks = [{m: shown[:, :40] for m, shown in mask.items()} for mask in masks]

        def asked(some, subject=subject, stack=stack, indices=indices, masks=masks, conditions=conditions):
            names = [conditions[i] for i in some]
            noise = ([0], names) if subject.network.noisy_at_test else None
            return outputs(stack, subject.cohort.utterances, indices, [masks[i] for i in some], noise=noise)[0]

        beside = asked(range(len(conditions)))
        again = asked(range(len(conditions)))
        hint = "a network that draws random numbers when it is tested must say noisy_at_test = True"
        require(_equal(beside, again), f"the same question has two answers: {hint}.")
        for i, condition in enumerate(conditions):
            sentence = f"answers under {condition} change with the conditions that are asked beside it: {hint}."
            require(_equal(asked([i])[0], beside[i]), sentence)
        if not subject.network.noisy_at_test:
            with patch.dict(evaluation.AT_ONCE, cpu=7):
                require(_equal(asked(range(len(conditions))), beside), "answers change with the size of chunks.")


def check_state_survives_the_store(method):
    """What is stored of a trained network gives its answers again: parameters and buffers, in place."""
    for task in get(method).tasks:
        [experiment] = plan(method, _benchmark(method, task), "smoke", [0], settings={"epochs": 2, "looks": 1})
        with TemporaryDirectory() as folder:
            try:
                [record] = run([experiment], ["l"], store=Store(folder))
            except Exception as error:
                said = " ".join(str(error).split())[-300:]
                raise Broken(f"a training of two epochs fails: {said}{_place(error, get(method))}") from None
            held, logits = record.weights(), torch.from_numpy(record.predictions["logits/l"])
        cohort = Cohort([experiment], "cpu")
        module = cohort.build(experiment)
        absent = sorted(set(module.state_dict()) - set(held))
        require(not absent, f"{', '.join(absent)} is not in the record: register it as a buffer or parameter.")
        module.load_state_dict(held)
        noise = ([0], ["l"]) if module.noisy_at_test else None
        indices, masks = cohort.indices("test"), cohort.masks(["l"], "test")
        again = outputs(Stack([module]), cohort.utterances, indices, masks, noise=noise)[0, 0]
        require(_equal(logits, again), "a network read back from its record gives other answers.")
        _check_hidden_state(cohort)


def _check_hidden_state(cohort):
    """A network that is given the state of its best epoch has the validation value of that epoch."""
    ready = cohort.ready()
    fitted = fit(ready)
    values = fitted.history[0]["value"]
    require(np.isfinite(values).any(), "no validation of a training of two epochs has a finite value.")
    module = cohort.build(cohort.experiments[0])
    module.load_state_dict(fitted.weights[0])
    [now] = selection_value(Stack([module]), module, ready, 0).tolist()
    then = values[list(fitted.history[0]["look"]).index(fitted.history[0]["best_epoch"])]
    sentence = "a network with the weights of its best epoch answers otherwise than in that epoch: it has state that is "
    require(abs(now - then) <= 1e-4 + 1e-4 * abs(then), f"{sentence}neither parameter nor buffer.")


def check_every_term_is_finite_and_weights_move(method):
    """One epoch: terms are finite, and at least one parameter is not what it was."""
    for subject in subjects(method):
        before = {name: p.detach().clone() for name, p in subject.network.named_parameters()}
        found = fit(subject.cohort.ready())
        for name, values in found.history[0].items():
            require(np.isfinite(values).all(), f"{name} is not finite in the first epoch.")
        moved = any(not torch.equal(p, found.weights[0][name]) for name, p in before.items())
        require(moved, "no parameter moves in an epoch.")


# --- options change what their scope says ----------------------------------------------------------------------------


SEEN_IN = {  # scope -> what an option of it must change
    "network": ("answers", "plain", "network", "loss"),  # the last, as some of its parts are read by losses alone
    "views": ("views",),
    "loss": ("loss", "state"),
    "teacher": ("teacher",),
}
UNTOUCHED = {  # scope -> what no option of it may change: references and parents are shared by scope
    "network": (),
    "views": ("answers", "network", "loss_of_given_views"),
    "loss": ("answers", "network", "views", "plain"),
    "teacher": ("answers", "network", "views", "loss", "plain"),
}


def check_options_change_what_their_scope_says(method):
    """References and parents are shared by scope: a choice of losses leaves network, views and the plain reference as
    they are, one of views the network and the losses of given views, one of the teacher all but the stages; and every
    value of an option changes what its scope names."""
    for spec in fields(get(method).Options):
        scope, named = spec.metadata["scope"], isinstance(spec.metadata["allowed"], tuple)
        changed = {}  # value -> whether it changes what its scope names, somewhere
        for situation in situations(method):
            usual = _usual(method, *situation)
            for value in others(spec, usual.options):
                if changed.setdefault(value, False) and not UNTOUCHED[scope]:
                    continue
                try:
                    found = Measured(method, *situation, (spec.name, value), usual.step)
                    touched = [part for part in UNTOUCHED[scope] if not _same(usual, found, part)]
                    changed[value] = changed[value] or not all(_same(usual, found, part) for part in SEEN_IN[scope])
                except BadInput:
                    if named:  # refused beside these data, where the usual one is not
                        changed |= {value: True, usual.options[spec.name]: True}
                    continue
                if touched:
                    what = "network" if touched[0] == "answers" else touched[0].replace("_", " ")
                    raise Broken(f"option {spec.name}={value!r} has the scope {scope!r} and changes the {what}.")
                if changed[value] and not named:
                    break  # one other number says as much as four
        idle = [value for value, does in changed.items() if not does]
        sentence = f"option {spec.name} has the scope {scope!r}, and {' and '.join(map(repr, idle))} changes nothing there."
        require(not idle if named else len(idle) < len(changed), sentence)


def situations(method):
    """(benchmark, other options) that between them let every option matter: tasks, and sequences of other lengths."""
    for task in get(method).tasks:
        yield _benchmark(method, task), ()
    known = {spec.name for spec in fields(get(method).Options)}
    if "align" in known:
        pooled = (("align", "pool-to-language"),)
        yield _benchmark(method, get(method).tasks[0], pooled), pooled
    for others_matter in get(method).situations:
        yield from ((_benchmark(method, task), tuple(others_matter.items())) for task in get(method).tasks)


def others(spec, usual):
    """Other values of an option than the one in use: all named ones, or of a number twice and half of it."""
    value, allowed = usual[spec.name], spec.metadata["allowed"]
    if isinstance(allowed, tuple):
        return [other for other in allowed if other not in (value, "bert")]
    numbers = [2 * value, value // 2, value + 1] if isinstance(value, int) else [value / 2, 0.3, 1.7 * value + 0.1, value + 1]
    return [number for number in numbers if number != value]


@lru_cache(maxsize=8)
def _usual(method, benchmark, base):
    return Measured(method, benchmark, base)


class Measured:
    """What a scope may change, each part measured when it is asked for, random numbers drawn anew."""

    def __init__(self, method, benchmark, base, choice=None, given=None):
        self.chosen = method, benchmark, dict(base) | dict([choice] if choice else [])
        self.subject = Subject(*self.chosen)
        self.options, self.clock = vars(self.subject.experiment.options), self.subject.clock
        self.answers = self.subject.answers(self.subject.complete)
        self.training = self.subject.training()
        self.step = self.training.step(torch.arange(FEW).unsqueeze(0), self.clock)
        self.given = given or self.step

    def _anew(self):
        torch.manual_seed(0)
        self.training.stack.mode(training=True)
        self.training.optimiser.zero()

    def _gradients(self):
        return {n: p.grad for n, p in self.training.stack.parameters.items() if p.grad is not None}

    @cached_property
    def _losses(self):
        self._anew()
        terms, kept = self.training.losses(self.step, self.clock)
        return terms | self.training.backward(terms, self.clock) | self._gradients(), kept

    @cached_property
    def _plain_losses(self):
        """Terms of the plain reference, and the parameters that they reach."""
        self._anew()
        terms, _ = self.training.stack.losses("plain_losses", self.step, self.clock._replace(stage="plain"))
        sum(term.sum() for term in terms.values()).backward()
        parameters = self.training.stack.parameters
        return terms, {name: parameters[name].detach() for name in self._gradients()}

    @cached_property
    def network(self):
        """The first values of the parameters that the plain reference moves."""
        return self._plain_losses[1]

    @cached_property
    def views(self):
        return {f"{name} {m}": mask for name, view in self.step.views.items() for m, mask in view.frames.items()}

    @cached_property
    def loss(self):
        """Terms, gradients, weights and groups of parameters."""
        network, (found, _) = self.subject.network, self._losses
        weights = {f"weight {name}": weight for name, weight in network.weights(self.clock).items()}
        return found | weights | {"groups": str(network.groups(self.clock))}

    @cached_property
    def loss_of_given_views(self):
        self._anew()
        return self.training.losses(self.given, self.clock)[0]

    @cached_property
    def state(self):
        """Buffers after two steps of a later epoch with the same utterances, where steps change any."""
        _, kept = self._losses
        if not kept:
            return {}
        buffers = self.training.stack.buffers
        before = {name: buffer.clone() for name, buffer in buffers.items()}
        with torch.no_grad():
            for _ in range(2):
                self.training.stack.after_step(self.step, kept, self.clock._replace(epoch=3, epochs=3))
            after = {name: buffer.clone() for name, buffer in buffers.items()}
            for name, buffer in buffers.items():
                buffer.copy_(before[name])
        return after

    @cached_property
    def teacher(self):
        """The stages, and the losses of parents that are no reference."""
        stages = {stage.name: str(stage) for stage in self.subject.network.stages(self.subject.experiment.options)}
        own = [name for name in stages if name not in (*REFERENCES, "method")]
        return stages | {f"terms of {name}": _terms_at(name, *self.chosen) for name in own}

    @cached_property
    def plain(self):
        """Terms of the plain reference, also on complete data, with their weights and groups of parameters."""
        terms, _ = self._plain_losses
        self._anew()
        parent, _ = self.training.stack.losses("plain_losses", self.step, self.clock._replace(stage="complete"))
        network, clock = self.subject.network, self.clock._replace(stage="plain")
        reference = self.subject.experiment.options.scoped(*REFERENCES["plain"].scopes)
        weights = type(network)(network.shape, reference).weights(clock)
        return (
            terms
            | {f"weight {name}": weight for name, weight in weights.items() if name in terms}
            | {f"{name} on complete data": term for name, term in parent.items()}
            | {"groups": str(network.groups(clock))}
        )


def _terms_at(stage, *chosen):
    """Terms of the first step of a parent."""
    subject = Subject(*chosen, stage=stage)
    training = subject.training()
    torch.manual_seed(0)
    training.stack.mode(training=True)
    terms, _ = training.losses(training.step(torch.arange(FEW).unsqueeze(0), subject.clock), subject.clock)
    return {name: term.detach() for name, term in terms.items()}


def _same(one, other, part):
    return _alike(getattr(one, part), getattr(other, part))


def _alike(one, other):
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    return one == other


CHECKS = tuple(check for name, check in list(globals().items()) if name.startswith("check_"))


def _name(one):
    return one.__name__.removeprefix("check_").replace("_", " ")


def _place(error, cls):
    """Where in the file of a method an error came up, in words; nothing where it was elsewhere."""
    files = {made.__code__.co_filename for made in vars(cls).values() if isinstance(made, FunctionType)}
    found = [frame for frame in extract_tb(error.__traceback__) if frame.filename in files]
    return f" ({Path(found[-1].filename).name}, line {found[-1].lineno})" if found else ""


def check(method):
    """(what is checked, the sentence on what is broken or "") of every check of a method, as they are made. BadInput
    where there is no such method, or its file cannot be read."""
    get(method)
    for one in CHECKS:
        try:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # what trainings say of themselves
                one(method)
        except Broken as found:
            yield one.__doc__, str(found)
        except Exception as error:  # whatever somebody's file raises
            said = f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}"
            yield one.__doc__, f"{_name(one)} ends with {said}{_place(error, get(method))}"
        else:
            yield one.__doc__, ""


