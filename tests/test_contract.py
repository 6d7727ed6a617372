"""The contract: every method keeps it, toys show each part of it, broken ones are told what is wrong."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from mmkd_lib.methods import METHODS, get
from mmkd_lib.methods.steps import SCOPES
from mmkd_lib.runs.contract import (
    CHECKS,
    Broken,
    check,
    check_labels_are_never_read_at_test,
    check_missing_is_never_read,
    check_order_of_a_batch_does_not_matter,
    check_padding_is_never_read,
    check_seeds_train_side_by_side,
)
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import run
from mmkd_lib.runs.store import Store
from mmkd_lib.support.errors import BadInput
from mmkd_lib.training.cohort import Cohort
from mmkd_lib.training.fit import fit

TOYS = "tests/toys/toys.py"
KEEPING = ("Toy", "Normed", "Recurrent", "TableByRow", "LatentByRow", "Noisy", "Staged", "Conversing")
BROKEN = {  # toy -> words of the sentence that it is told
    "ReadsLabels": "forward reads batch.y",
    "ReadsPadding": "padded",
    "ReadsNeighbours": "depends on the utterances beside it",
    "SecretNoise": "noisy_at_test",
    "HiddenState": "state that is neither parameter nor buffer",
    "WrongScope": "scope 'loss' and changes the network",
    "ShowsMissing": "frames that it does not show",
    "ChangesTheBatch": "forward changes the batch",
    "MistypedWeight": "weights() names taks, which losses() does not return: task, extra",
    "AsksInVain": "KeyError: 'stduent' (toys.py, line ",
}
FEEL_PADDING = {  # choices that read the frames of a padded batch as a paper does that pads all sequences to one length
    ("corrkd", "pooling", "all"),
    ("hfgd", "pooling", "all"),
    ("umdf", "last", "step"),
    ("mult", "last", "final"),
    ("mcur", "padding", "attended"),
    ("mcur", "steps", "eight"),
    *((method, "align", "pool-to-language") for method in ("corrkd", "umdf", "hfgd")),
}


def choices(*scopes):
    """(method, option, value) of every named value but the default, without weights of BERT."""
    for method in METHODS:
        for spec in fields(get(method).Options):
            allowed = spec.metadata["allowed"] if isinstance(spec.metadata["allowed"], tuple) else ()
            others = [value for value in allowed if value not in (spec.default, "bert")]
            yield from ((method, spec.name, value) for value in others if spec.metadata["scope"] in scopes)


def toy(name):
    return f"{TOYS}:{name}"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("one", CHECKS, ids=lambda one: one.__name__)
def test_methods_keep_the_contract(one, method):
    one(method)


@pytest.mark.parametrize(("method", "name", "value"), [*choices("network", "views")])
def test_every_choice_reads_what_is_shown_and_no_more(method, name, value):
    """Neither labels nor what is missing, nor neighbours; padding where a paper's own choice does."""
    options = ((name, value),)
    check_labels_are_never_read_at_test(method, options)
    check_missing_is_never_read(method, options)
    check_order_of_a_batch_does_not_matter(method, options)
    if (method, name, value) in FEEL_PADDING:
        with pytest.raises(Broken, match="padded"):
            check_padding_is_never_read(method, options)
    else:
        check_padding_is_never_read(method, options)


@pytest.mark.parametrize(("method", "name", "value"), [*choices(*SCOPES)])
def test_seeds_of_every_choice_train_side_by_side(method, name, value):
    check_seeds_train_side_by_side(method, ((name, value),), seeds=2)


@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("one", CHECKS, ids=lambda one: one.__name__)
def test_toys_keep_the_contract(one, name):
    one(toy(name))


@pytest.mark.parametrize("name", BROKEN)
def test_broken_toys_are_told_what_is_wrong(name):
    sentences = [sentence for _, sentence in check(toy(name)) if sentence]
    assert any(BROKEN[name] in sentence for sentence in sentences), sentences
    assert all("\n" not in sentence for sentence in sentences)


def trained(name, seeds=(0,), stage="method", **settings):
    experiments = plan(toy(name), "synthetic-mosi", "smoke", list(seeds), stage, settings={"epochs": 3} | settings)
    return fit(Cohort(experiments, "cpu").ready())


@pytest.mark.parametrize("name", ["Normed", "TableByRow", "LatentByRow", "Recurrent"])
def test_state_of_stacked_seeds_is_that_of_single_ones(name):
    """Buffers and latents move alike: three seeds as one, or one after the other."""
    together = trained(name, (0, 1, 2))
    for s in range(3):
        alone = trained(name, (s,)).weights[0]
        for key, tensor in alone.items():
            torch.testing.assert_close(together.weights[s][key], tensor, rtol=1e-4, atol=1e-5)


def test_a_table_has_counted_every_utterance():
    """Three epochs of three batches of 32: each of 96 utterances was seen three times."""
    found = trained("TableByRow", batch=32, selection="last")
    assert found.weights[0]["seen"].tolist() == [3.0] * 96
    assert int(found.history[0]["best_epoch"]) == 3


def test_groups_move_in_turn():
    """Two steps: the head moves in the first alone, the latents in the second alone."""
    experiments = plan(toy("LatentByRow"), "synthetic-mosi", "smoke", [0], settings={"epochs": 1, "batch": 96})
    cohort = Cohort(experiments, "cpu")
    before = cohort.build(experiments[0]).state_dict()
    after = fit(cohort.ready()).weights[0]  # one step: that of the head
    assert not torch.equal(before["head.weight"], after["head.weight"])
    assert torch.equal(before["latent"], after["latent"])


def test_a_stage_starts_from_its_parent_and_is_taught_by_it(tmp_path):
    """The parent is an experiment of its own, trained first, with its own settings, named in the child's key."""
    [experiment] = plan(toy("Staged"), "synthetic-mosi", "smoke", [0], settings={"epochs": 1, "lr": 1e-12})
    parent = experiment.parents["pretraining"]
    assert parent.settings.lr == 1e-2
    store = Store(tmp_path)
    [record] = run([experiment], ["l"], store=store)
    assert record.config["parents"] == {"pretraining": parent.key()}
    assert record.config["teacher"] is None
    started = store.record(parent.key()).weights()["head.weight"]
    torch.testing.assert_close(record.weights()["head.weight"], started, rtol=0, atol=1e-6)
    assert float(record.history["terms/extra"][0]) > 0


def test_noise_at_test_is_that_of_the_seed_and_the_condition(tmp_path):
    """Asked alone or beside other conditions: the same scores, though the network draws in evaluation (and of two
    conditions that show the same, different ones)."""
    [experiment] = plan(toy("Noisy"), "synthetic-mosi", "smoke", [0], settings={"epochs": 1})
    [one] = run([experiment], ["a"], store=Store(tmp_path / "one"))
    [two] = run([experiment], ["l", "a", "l+a+v", "mr=0.0"], store=Store(tmp_path / "two"))
    assert np.array_equal(one.predictions["logits/a"], two.predictions["logits/a"])
    assert not np.array_equal(two.predictions["logits/l+a+v"], two.predictions["logits/mr=0.0"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tests/toys/none.py:Toy", "there is no file"),
        (f"{TOYS}:Nothing", "has no class Nothing"),
        ("nosuch", "unknown method 'nosuch'"),
        ("corrkd.py", "unknown method"),
    ],
)
def test_a_method_that_is_not_there_is_refused(name, words):
    with pytest.raises(BadInput, match=words) as refusal:
        get(name)
    assert "\n" not in str(refusal.value)


def test_what_is_no_method_is_told_once_and_not_by_every_check():
    with pytest.raises(BadInput, match="has no class Nothing"):
        next(check(toy("Nothing")))


def test_a_file_that_cannot_be_read_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(BadInput, match=r"bad\.py cannot be read: ModuleNotFoundError"):
        get(f"{tmp_path}/bad.py:Mine")


def test_the_file_of_a_method_is_part_of_its_key_and_its_folder_is_not(tmp_path):
    """A changed line makes another experiment, a comment does not; and so does what it uses of the library."""
    text = Path(TOYS).read_text(encoding="utf-8")
    keys = {}
    for folder, changed in {
        "one": text,
        "two": text,
        "comment": text.replace("class Toy(", "# why\nclass Toy("),
        "line": text.replace("output.logits.square()", "output.logits.abs()"),
    }.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "toys.py").write_text(changed)
        [experiment] = plan(f"{tmp_path}/{folder}/toys.py:Toy", "synthetic-mosi", "smoke", [0])
        keys[folder] = experiment.key()
    assert keys["one"] == keys["two"] == keys["comment"] != keys["line"]


def test_own_methods_train_in_processes(tmp_path):
    """What is handed to another process is the path of the file; options are made anew there."""
    experiments = plan(toy("Toy"), "synthetic-mosi", "smoke", [0, 1], options={"weight": 0.25})
    records = run(experiments, ["l"], jobs=2, store=Store(tmp_path))
    assert [record.config["method"] for record in records] == ["toys.py:Toy"] * 2
    assert records[0].config["options"] == {"weight": 0.25}
