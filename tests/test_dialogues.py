"""Whole dialogues: which utterances stand together in batches, steps and passes, and who is refused without them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmkd_lib.data import benchmarks
from mmkd_lib.data.batch import concatenate, dialogues, whole_dialogues
from mmkd_lib.data.readers import files
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import run
from mmkd_lib.runs.store import Store
from mmkd_lib.support.errors import BadInput
from mmkd_lib.training import evaluation
from mmkd_lib.training.cohort import Cohort
from mmkd_lib.training.evaluation import complete_outputs, outputs
from mmkd_lib.training.fit import Training
from mmkd_lib.training.stack import Stack

CONVERSING = f"{Path(__file__).with_name('toys')}/toys.py:Conversing"


@pytest.fixture
def cohort():
    return Cohort(plan(CONVERSING, "synthetic-mosi-dialogues", "smoke", [0], settings={"batch": 3, "epochs": 1}), "cpu")


def test_dialogues_are_the_utterances_of_one_number_in_their_order():
    group = torch.tensor([7, 2, 7, 7, 2, 5])
    assert [places.tolist() for places in dialogues(group)] == [[1, 4], [5], [0, 2, 3]]
    assert [places.tolist() for places in whole_dialogues(group, 3)] == [[1, 4, 5], [0, 2, 3]]
    assert [len(places) for places in whole_dialogues(group, 1)] == [2, 1, 3], "a dialogue is never cut"
    assert len(whole_dialogues(group, 99)) == 1


def test_a_stand_in_of_dialogues_differs_in_nothing_else():
    plain, spoken = (benchmarks.load(f"synthetic-mosi{end}", "smoke") for end in ("", "-dialogues"))
    assert plain.batch.group is None
    assert all(torch.equal(plain.batch.x[m], spoken.batch.x[m]) for m in plain.batch.x)
    assert plain.mask_key == spoken.mask_key
    sizes = np.unique(spoken.batch.group, return_counts=True)[1]
    assert set(sizes.tolist()) == {8}
    for part in benchmarks.PARTS:
        group, rows = spoken.batch.group.numpy(), spoken.rows(part)
        assert not set(group[rows]) & set(np.delete(group, rows))


def test_the_group_of_an_utterance_goes_where_it_goes(cohort):
    batch = benchmarks.load("synthetic-mosi-dialogues", "smoke").batch
    assert batch.take(torch.tensor([[3, 9]])).group.tolist() == [[batch.group[3], batch.group[9]]]
    assert len(concatenate([batch, batch]).group) == 2 * len(batch.y)
    assert concatenate([batch, batch._replace(group=None)]).group is None
    assert batch.keep("l").group is batch.group


def test_a_step_holds_whole_dialogues(cohort):
    """Three of twelve dialogues a step; an epoch shows each once."""
    training = Training(cohort.ready())
    training.ask_parents()
    assert (training.count, training.size, training.steps) == (12, 3, 4)
    shown = []
    for units in torch.arange(12).view(4, 1, 3):
        step = training.step(training._places(units), training.clock(1, 0))
        group = step.views["student"].group
        assert group.shape == (1, 24)
        assert set(np.unique(group, return_counts=True)[1].tolist()) == {8}
        shown += group.unique().tolist()
    assert len(set(shown)) == 12


def test_passes_cut_no_dialogue_and_answers_keep_their_order(cohort, monkeypatch):
    [method] = cohort.ready().methods
    stack, indices, conditions = Stack([method]), cohort.indices("test"), ("l", "a")
    asked = [outputs(stack, cohort.utterances, indices, cohort.masks(conditions, "test"))]
    told = [complete_outputs(stack, cohort.utterances, indices)]
    monkeypatch.setitem(evaluation.AT_ONCE, "cpu", 20)
    asked.append(outputs(stack, cohort.utterances, indices, cohort.masks(conditions, "test")))
    told.append(complete_outputs(stack, cohort.utterances, indices))
    torch.testing.assert_close(*asked)
    torch.testing.assert_close(*told)
    shown = {m: mask[0] for m, mask in cohort.masks("l", "test")[0].items()}
    whole = method.eval()(cohort.utterances.take(indices[0]).show(shown))
    torch.testing.assert_close(asked[1][0, 0], whole.logits)
    turned = indices[:, torch.randperm(indices.shape[1], generator=torch.Generator().manual_seed(0))]
    mixed = complete_outputs(stack, cohort.utterances, turned)
    back = {int(i): row for i, row in zip(indices[0], told[0].logits[0], strict=True)}
    torch.testing.assert_close(mixed.logits[0], torch.stack([back[int(i)] for i in turned[0]]))


def test_seeds_of_dialogues_train_one_after_the_other(tmp_path):
    experiments = plan(CONVERSING, "synthetic-iemocap-dialogues", "smoke", [0, 1], settings={"batch": 4, "epochs": 2})
    assert len({e.stacked_with for e in experiments}) == 2
    records = run(experiments, ["l", "l+a+v"], store=Store(tmp_path))
    assert all(np.isfinite(r.predictions["logits/l"]).all() for r in records)


def test_who_needs_dialogues_is_refused_without_them():
    with pytest.raises(BadInput, match=r"needs dialogues, which synthetic-mosi lacks .*: choose .*synthetic-NAME-dial"):
        plan(CONVERSING, "synthetic-mosi", "smoke", [0])


def test_dialogues_of_a_file_are_those_that_it_names(tmp_path, monkeypatch):
    monkeypatch.setenv("MMKD_DATA", str(tmp_path))
    files.sample("plain", tmp_path / "mine.npz", "synthetic-mosi")
    with np.load(tmp_path / "mine.npz", allow_pickle=False) as arrays:
        names = arrays["group"]
        alone = dict(arrays) | {"group": arrays["id"]}
    group = benchmarks.load("mine").batch.group.numpy()
    assert 1 < len(set(names)) < len(names)
    assert ((group[:, None] == group) == (names[:, None] == names)).all()
    np.savez(tmp_path / "alone.npz", **alone)
    assert benchmarks.load("alone").batch.group is None
