"""What every method keeps, the library's or your own: `CHECKS`, each a function of a method's name.

A check raises `Broken` with a sentence that says what is broken and where to look. All are small: generated data of the
profile `smoke`, a batch of some utterances.
"""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import fields, replace
from functools import lru_cache
from io import StringIO
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F

from ..data import benchmarks
from ..data.batch import Batch
from ..data.missing import FIXED_SUBSETS
from ..methods import get
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


def subjects(method, double=False) -> Iterator[Subject]:
    """The method on a benchmark of each task that it knows."""
    for task in get(method).tasks:
        yield Subject(method, TASKS[task], double=double)


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
            name = f"synthetic-{family}"
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
    """Values that are not allowed, and unknown names, get one sentence that names them."""
    cls = get(method).Options
    wrong = {spec.name: ("nonsense", None, float("nan"), -1, True) for spec in fields(cls)} | {"no_such_option": (1,)}
    for name, values in wrong.items():
        for value in values:
            try:
                cls.of(**{name: value})
            except BadInput as refusal:
                told = name in str(refusal) and "\n" not in str(refusal)
                require(told, f"the refusal of {name}={value!r} does not name it in one line: {refusal}")
            else:
                raise Broken(f"option {name}={value!r} is accepted.")


def check_any_number_of_modalities(method):
    """Networks of one, two, three and five modalities answer, and their losses are finite."""
    for task in get(method).tasks:
        for modalities in (1, 2, 3, 5):
            name = f"{TASKS[task]}-m{modalities}" if modalities > 3 else TASKS[task]
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


def check_labels_are_never_read_at_test(method):
    """`forward` gives the same answers whatever the labels of a batch are."""
    for subject in subjects(method):
        y = subject.complete.y
        other = torch.flip(y, [0]) + (1 if y.is_floating_point() else 0)
        with torch.no_grad():
            subject.network.eval()
            torch.manual_seed(0)
            one = subject.network(subject.complete).logits
            torch.manual_seed(0)
            two = subject.network(subject.complete._replace(y=other)).logits
        sentence = "forward reads batch.y: its answers change with the labels, which no test knows."
        require(torch.equal(one, two), sentence)
        require(subject.answers(subject.complete).isfinite().all(), "an answer without labels is not finite.")


def check_missing_is_never_read(method):
    """Answers depend on what is shown only: other values of what is missing change nothing, tested or trained."""
    for subject in subjects(method):
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
    """What every view of a step hides reaches no term of the plain reference."""
    draws = Draws([0], 0)
    views, _ = subject.network.views(subject.batch, draws)
    hidden = {m: subject.batch.frames[m] & ~_any(view.frames[m] for view in views.values()) for m in subject.batch.x}
    changed, _ = subject.network.views(_with_other_values(subject.batch, hidden), draws)
    for name, view in views.items():
        same = all(torch.equal(view.x[m], changed[name].x[m]) for m in view.x)
        require(same, f"the view {name!r} holds values of frames that it does not show.")


def _any(masks):
    first, *others = masks
    for mask in others:
        first = first | mask
    return first


def _with_other_values(batch, where):
    """The batch with other features at `where`, m -> (..., T_m) bool."""
    return batch._replace(x={m: torch.where(where[m].unsqueeze(-1), 7 - 2 * t, t) for m, t in batch.x.items()})


def check_padding_is_never_read(method):
    """Frames that do not exist, appended to every sequence, change no answer."""
    for subject in subjects(method):
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


def check_order_of_a_batch_does_not_matter(method):
    """An utterance has the same answer wherever it stands in a batch, and whoever stands beside it."""
    for subject in subjects(method):
        if subject.network.noisy_at_test:
            continue
        order, few = torch.arange(FEW).flip(0), torch.arange(3)
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


def check_seeds_train_side_by_side(method):
    """Three networks stacked have the terms and gradients that each has alone (float64, random numbers given)."""
    for task in get(method).tasks:
        brief = {"epochs": 1, "looks": 1}
        experiments = plan(method, TASKS[task], "smoke", [0, 1, 2], settings=brief)
        together = Cohort(experiments, "cpu")
        with given_numbers():
            stacked = _first_terms(together)
            for s, experiment in enumerate(experiments):
                alone = _first_terms(Cohort([experiment], "cpu"))
                for name, value in alone.items():
                    same = torch.allclose(stacked[name][s], value[0], rtol=1e-7, atol=1e-9, equal_nan=True)
                    hint = "let vmap see it (no indexing by masks, buffers changed in place), or say vmappable = False"
                    require(same, f"{name} of a seed changes with the seeds beside it: {hint}.")


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
        [experiment] = plan(method, TASKS[task], "smoke", [0], settings={"epochs": 2, "looks": 1})
        with TemporaryDirectory() as folder:
            try:
                [record] = run([experiment], ["l"], store=Store(folder))
            except Exception as error:
                raise Broken(f"a training of two epochs fails: {' '.join(str(error).split())[-300:]}") from None
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


def check_options_change_what_their_scope_says(method):
    """References and parents are shared by scope: a choice of losses leaves network, views and the plain reference as
    they are, one of views the network, one of the teacher all but the stages; and each choice changes something."""
    cls = get(method)
    for spec in fields(cls.Options):
        scope = spec.metadata["scope"]
        untouched = {"loss": ("network", "views", "plain"), "views": ("network",), "teacher": (*SCOPES[:3], "plain")}
        changed, named = False, isinstance(spec.metadata["allowed"], tuple)
        for situation in situations(method):
            usual = _usual(method, *situation)
            for value in others(spec, usual["options"]):
                try:
                    found = measured(method, *situation, (spec.name, value))
                except BadInput:
                    changed = changed or named  # refused beside these data, where the usual one is not
                    continue
                for part in untouched.get(scope, ()):
                    same = _same(usual[part], found[part])
                    require(same, f"option {spec.name}={value!r} has the scope {scope!r} and changes the {part}.")
                changed = changed or not all(_same(usual[part], found[part]) for part in (*SCOPES, "state", "plain"))
                if changed and not named:
                    break  # one other number says as much as four
        tried = not named or "bert" not in spec.metadata["allowed"]
        require(changed or not tried, f"option {spec.name} changes nothing that can be measured.")


def situations(method):
    """(benchmark, other options) that between them let every option matter: tasks, and sequences of other lengths."""
    for task in get(method).tasks:
        yield TASKS[task], ()
    known = {spec.name for spec in fields(get(method).Options)}
    if "align" in known:
        yield f"{TASKS[get(method).tasks[0]]}-unaligned", (("align", "pool-to-language"),)
    for others_matter in get(method).situations:
        yield from ((TASKS[task], tuple(others_matter.items())) for task in get(method).tasks)


def others(spec, usual):
    """Other values of an option than the one in use: all named ones, or of a number twice and half of it."""
    value, allowed = usual[spec.name], spec.metadata["allowed"]
    if isinstance(allowed, tuple):
        return [other for other in allowed if other not in (value, "bert")]
    numbers = [2 * value, value // 2, value + 1] if isinstance(value, int) else [value / 2, 0.3, 1.7 * value + 0.1, value + 1]
    return [number for number in numbers if number != value]


@lru_cache(maxsize=8)
def _usual(method, benchmark, base):
    return measured(method, benchmark, base)


def measured(method, benchmark, base, choice=None):
    """What a scope may change, measured: the network (its answers, and the weights that the plain reference moves), the
    views, the losses with their gradients, what steps change beside parameters, the stages with the losses of parents
    ("teacher"), and the plain reference."""
    chosen = dict(base) | dict([choice] if choice else [])
    subject = Subject(method, benchmark, chosen)
    network = subject.network
    answers = subject.answers(subject.complete)
    training = subject.training()
    step = training.step(torch.arange(FEW).unsqueeze(0), subject.clock)
    torch.manual_seed(0)
    training.stack.mode(training=True)
    training.optimiser.zero()
    terms, kept = training.losses(step, subject.clock)
    watched = training.backward(terms, subject.clock)
    gradients = {n: p.grad for n, p in training.stack.parameters.items() if p.grad is not None}
    torch.manual_seed(0)
    plain, _ = training.stack.losses("plain_losses", step, subject.clock._replace(stage="plain"))
    parent, _ = training.stack.losses("plain_losses", step, subject.clock._replace(stage="complete"))
    training.optimiser.zero()
    sum(term.sum() for term in plain.values()).backward()
    reached = {n: p.detach() for n, p in training.stack.parameters.items() if p.grad is not None}
    stages = {stage.name: str(stage) for stage in network.stages(subject.experiment.options)}
    own = [name for name in stages if name not in (*REFERENCES, "method")]
    return {
        "options": vars(subject.experiment.options),
        "network": reached | {"answers": answers},
        "views": {f"{name} {m}": mask for name, view in step.views.items() for m, mask in view.frames.items()},
        "loss": terms
        | watched
        | gradients
        | {f"weight {n}": w for n, w in network.weights(subject.clock).items()}
        | {"groups": str(network.groups(subject.clock))},
        "state": _state_later(training, step, subject.clock, kept),
        "teacher": stages | {f"terms of {name}": _terms_at(name, method, benchmark, chosen) for name in own},
        "plain": plain
        | {f"{name} on complete data": term for name, term in parent.items()}
        | {"groups": str(network.groups(subject.clock._replace(stage="plain")))},
    }


def _state_later(training, step, clock, kept):
    """Buffers after two steps of a later epoch with the same utterances, where steps change any."""
    for _ in range(2 if kept else 0):
        with torch.no_grad():
            training.stack.after_step(step, kept, clock._replace(epoch=3, epochs=3))
    return {name: buffer.clone() for name, buffer in training.stack.buffers.items()} if kept else {}


def _terms_at(stage, *chosen):
    """Terms of the first step of a parent."""
    subject = Subject(*chosen, stage=stage)
    training = subject.training()
    torch.manual_seed(0)
    training.stack.mode(training=True)
    terms, _ = training.losses(training.step(torch.arange(FEW).unsqueeze(0), subject.clock), subject.clock)
    return {name: term.detach() for name, term in terms.items()}


def _same(one, other):
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other


CHECKS = tuple(check for name, check in list(globals().items()) if name.startswith("check_"))


def _name(one):
    return one.__name__.removeprefix("check_").replace("_", " ")


def check(method):
    """(what is checked, the sentence on what is broken or "") of every check of a method, as they are made."""
    for one in CHECKS:
        try:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # what trainings say of themselves
                one(method)
        except Broken as found:
            yield one.__doc__, str(found)
        except Exception as error:  # whatever somebody's file raises
            yield one.__doc__, f"{_name(one)} ends with {type(error).__name__}: {' '.join(str(error).split())[-300:]}"
        else:
            yield one.__doc__, ""


