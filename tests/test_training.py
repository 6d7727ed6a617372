"""fit(): seeds stacked or single, bit-equal reruns, selection, clipping, every method on every benchmark."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from contract import in_double

from mmkd_lib.data.synthetic import worlds
from mmkd_lib.methods import METHODS
from mmkd_lib.methods.base import SHARE
from mmkd_lib.methods.corrkd import CorrKD
from mmkd_lib.methods.steps import REFERENCES, Stage
from mmkd_lib.runs.experiments import plan
from mmkd_lib.support.errors import BadInput
from mmkd_lib.training.cohort import Cohort
from mmkd_lib.training.fit import SELECTIONS, STAGES, Settings, Validation, fit
from mmkd_lib.training.optimisers import clip_norm

CALM = {"options": {"dropout": 0.0}, "settings": {"epochs": 2, "looks": 2}}  # of the methods of Transformers
DRAWS = {"hfgd": {"distance": "gaussian"}}  # beside dropout: the directions of a sliced distance, new in every step


def fitted(experiments, double=False):
    """Fit experiments as one stack with untrained parents; returns the Fitted."""
    group = Cohort(experiments, "cpu")
    ready = group.ready()
    if double:
        conditions = ("l+a+v", "l")
        validation = Validation(group.indices("valid"), group.masks(conditions, "valid"), conditions)
        ready = in_double(ready)._replace(validation=validation)
    return fit(ready)


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("supervision", STAGES)
@pytest.mark.parametrize("benchmark_name", ["synthetic-mosi", "synthetic-iemocap"])
@pytest.mark.parametrize("method", METHODS)
def test_stacked_seeds_equal_single_runs(monkeypatch, method, supervision, benchmark_name):
    """With all off that draws from torch's generator, three stacked seeds end where three single runs end (6 steps,
    float64, 1e-10)."""
    shares = [spec.name for spec in fields(METHODS[method].Options) if spec.metadata["allowed"] == SHARE]
    calm = CALM | {"options": dict.fromkeys((n for n in shares if "dropout" in n), 0.0) | DRAWS.get(method, {})}
    if method == "mcur":  # the noise of its bottleneck has no option
        monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    experiments = plan(method, benchmark_name, "smoke", [0, 5, 9], supervision, **calm)
    together = fitted(experiments, double=True)
    for s, experiment in enumerate(experiments):
        alone = fitted([experiment], double=True)
        for name, weight in alone.weights[0].items():
            torch.testing.assert_close(together.weights[s][name], weight, rtol=0, atol=1e-10)
        for name, values in alone.history[0].items():
            np.testing.assert_allclose(together.history[s][name], values, rtol=1e-6)


def test_stacked_seeds_are_different_networks():
    """Seeds do not share initial weights, order or views."""
    one, two = fitted(plan("corrkd", "synthetic-mosi", "smoke", [0, 1], "plain")).weights
    assert not same(one, two)


@pytest.mark.parametrize("supervision", STAGES)
@pytest.mark.parametrize("method", METHODS)
def test_a_rerun_is_equal_to_the_last_bit(method, supervision):
    """Same machine, same threads: weights and history of two trainings are the same bits, dropout on."""
    [experiment] = plan(method, "synthetic-mosi", "smoke", [3], supervision)
    one, two = fitted([experiment]), fitted([experiment])
    assert same(one.weights[0], two.weights[0])
    assert all(np.array_equal(one.history[0][k], two.history[0][k]) for k in one.history[0])


@pytest.mark.parametrize("stacked", [1, 3])
def test_a_teacher_that_sees_all_says_the_same_before_training_and_in_every_step(monkeypatch, stacked):
    """Asked once about the training part, or in each step about its utterances: the student's weights are the same."""
    experiments = plan("corrkd", "synthetic-mosi", "smoke", range(stacked), **CALM)
    once = fitted(experiments, double=True)
    of_method, views = Stage("method", taught_by={"complete": ("whole",)}), CorrKD.views
    monkeypatch.setattr(CorrKD, "stages", classmethod(lambda cls, options: (REFERENCES["complete"], of_method)))
    monkeypatch.setattr(CorrKD, "views", lambda self, b, draws: (views(self, b, draws)[0] | {"whole": b}, {}))
    always = fitted(experiments, double=True)
    for one, two in zip(once.weights, always.weights, strict=True):
        assert all(torch.allclose(one[name], two[name], rtol=0, atol=1e-12) for name in one)


@pytest.mark.parametrize("benchmark_name", worlds.NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_every_stand_in(method, benchmark_name):
    """Three steps: every term is finite and the weights move."""
    [experiment] = plan(method, benchmark_name, "smoke", [0], settings={"epochs": 1})
    group = Cohort([experiment], "cpu")
    result = fit(group.ready())
    before = group.build(experiment).state_dict()
    assert all(np.isfinite(values).all() for values in result.history[0].values())
    assert not same(before, result.weights[0])


def test_references_start_from_the_weights_of_the_method_and_the_teacher_does_not():
    experiments = {s: plan("corrkd", "synthetic-mosi", "smoke", [0], s)[0] for s in STAGES}
    group = Cohort([experiments["method"]], "cpu")
    built = {s: group.build(e).state_dict() for s, e in experiments.items()}
    assert same(built["method"], built["plain"])
    assert same(built["method"], built["oracle"])
    assert not same(built["method"], built["complete"])


@pytest.mark.parametrize("heads", ["softmax", "one-vs-rest"])
def test_oracle_targets_are_the_posterior_in_the_classes_of_the_method(heads):
    """Sentiment levels collect the grid by sign, classes are taken as they are; a sharp posterior is the task loss."""
    [score] = plan("corrkd", "synthetic-mosi", "smoke", [0], "oracle")
    group = Cohort([score], "cpu")
    shares = group.soft_labels(group.build(score))
    assert shares.shape == (len(group.utterances.y), 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(len(shares)))
    [emotion] = plan("corrkd", "synthetic-iemocap", "smoke", [0], "oracle", options={"heads_per_class": heads})
    method = Cohort([emotion], "cpu").build(emotion)
    y, logits = torch.tensor([0, 3, 1]), torch.randn(3, 4)
    sharp = method.answer.shares(torch.eye(4)[y], torch.arange(4.0))
    torch.testing.assert_close(method.answer.soft(logits, sharp), method.answer.loss(logits, y))


def test_clipping_is_per_seed():
    """A seed with a huge gradient is cut to the norm; the seed beside it is left alone."""
    gradients = [torch.tensor([[30.0, 40.0, 0.0], [0.3, 0.4, 0.0]])]
    clip_norm(gradients, 1.0)
    torch.testing.assert_close(gradients[0], torch.tensor([[0.6, 0.8, 0.0], [0.3, 0.4, 0.0]]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_selection_keeps_the_epoch_with_the_best_value(selection):
    [experiment] = plan("corrkd", "synthetic-mosi", "smoke", [0], "plain", settings={"epochs": 6, "looks": 3})
    experiment = replace(experiment, settings=replace(experiment.settings, selection=selection))
    history = fitted([experiment]).history[0]
    assert len(history["look"]) == 3, "a run is looked at no more often than allowed"
    assert history["look"][-1] == 6
    assert history["best_epoch"] == history["look"][history["value"].argmin()]


def test_looks_never_exceed_ten_by_default():
    [experiment] = plan("corrkd", "synthetic-mosi", "smoke", [0], "plain", settings={"epochs": 23, "looks": 10})
    assert len(fitted([experiment]).history[0]["look"]) == 10


def test_a_diverged_run_is_never_kept():
    """With an absurd learning rate values become NaN or huge: the kept weights stay finite."""
    [experiment] = plan(
        "corrkd", "synthetic-mosi", "smoke", [0], "plain", settings={"lr": 1e30, "epochs": 2, "clip": 0.0}
    )
    assert all(torch.isfinite(weight).all() for weight in fitted([experiment]).weights[0].values())


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"lr": 0.0}, "lr=0.0"), ({"epochs": 0}, "epochs=0"), ({"selection": "luck"}, "validation-loss")],
)
def test_wrong_settings_are_refused(wrong, named):
    with pytest.raises(BadInput, match=named):
        Settings(**wrong)
