"""`mmkd` and notebook parameters: bad input is one sentence and status 2, before any training."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmkd_lib import cli
from mmkd_lib.book import executing
from mmkd_lib.book.parameters import Parameters, as_list
from mmkd_lib.book.session import planned
from mmkd_lib.data import benchmarks
from mmkd_lib.runs import costs, experiments
from mmkd_lib.runs.asked import ask
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import run
from mmkd_lib.runs.store import Store
from mmkd_lib.runs.tidying import forget, needless
from mmkd_lib.support import devices, machine
from mmkd_lib.support.errors import BadInput
from mmkd_lib.training.cohort import Cohort


def mmkd(*arguments):
    """Run the command in a process of its own: (status, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-m", "mmkd_lib.cli", *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["notebooks", "--profile", "tiny"], "smoke, small, paper"),
        (["notebooks", "99_nothing"], "01_corrkd"),
        (["notebooks", "-p", 'benchmarks=["nosuch"]'], "synthetic-mosi"),
        (["notebooks", "01_corrkd", "-p", "benchmarks=mosi"], "put mosi.npz"),
        (["notebooks", "-p", "artefacts=corrkd/table9"], "corrkd/table1"),
        (["notebooks", "-p", "artefacts=dynkd/table1"], "belongs to another notebook"),
        (["notebooks", "-p", "seeds=one"], "whole numbers"),
        (["notebooks", "-p", "seed=1"], "seeds"),
        (["notebooks", "-p", "seeds"], "name=value"),
        (["notebooks", "--device", "tpu"], "auto, cpu, cuda"),
        (["notebooks", "-p", "retrain=perhaps"], "true, false"),
        (["artefacts", "nosuch"], "unknown paper 'nosuch'"),
        (["claims", "nosuch"], "nosuch"),
        (["exercises", "99_nothing"], "01_corrkd"),
        (["notebooks", "--profile", "paper"], "needs its file"),
        (["notebooks", "00_glass_box", "-p", "benchmarks=mosi"], "about synthetic benchmarks"),
        (["data", "inspect", "nosuch.npz"], "no such file"),
        (["data", "sample", "--family", "nosuch", "x.pkl"], "plain, mmsa, mult, gcnet, mmin, csd, tuples"),
        (["data", "sample", "--family", "mult", "README.md"], "exists already"),
        (["data", "sample", "--family", "mult", "--benchmark", "mosi", "x.pkl"], "synthetic"),
        (["data", "convert", "README.md", "x.txt"], "NAME.npz"),
        (["data", "convert", "README.md", "nowhere/x.npz"], "no folder nowhere"),
        (["data", "convert", "README.md", "synthetic-mosi.npz"], "a generated benchmark has this name"),
        (["data", "sample", "--family", "mult", "nowhere/x.pkl"], "no folder nowhere"),
        (["data", "sample", "--family", "plain", "x"], "NAME.npz"),
        (["data", "inspect", "README.md"], "pickle"),
        (["data", "inspect", "tests"], "no known family"),
        (["data", "inspect", "README.md", "--use", "x=y"], "unknown modality 'x'"),
        (["score", "README.md"], "`label` and `prediction`"),
        (["masks", "nosuch"], "unknown condition 'nosuch'"),
        (["masks", "mr=0.7", "--benchmark", "nosuch"], "unknown benchmark"),
        (["masks", "mr=0.7", "--benchmark", "synthetic-mosi", "--part", "all"], "train, valid, test"),
    ],
)
def test_bad_input_ends_with_status_2_and_one_sentence(arguments, named, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mmkd", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    assert end.value.code == 2
    assert named in said.err
    assert said.err.count("\n") == 1
    assert "executing" not in said.out


def test_the_command_itself_gives_status_2():
    status, out, err = mmkd("notebooks", "--profile", "tiny")
    assert (status, out) == (2, "")
    assert err == "unknown profile 'tiny': choose one of smoke, small, paper.\n"


def test_outside_the_handbook_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = mmkd("status")
    assert status == 2
    assert "MMKD_HOME" in err


def test_status_and_doctor_speak(monkeypatch, tmp_path):
    monkeypatch.setenv("MMKD_HOME", str(tmp_path))
    status, out, _ = mmkd("status")
    assert status == 0
    assert "0 done" in out
    status, out, _ = mmkd("doctor")
    assert status == 0
    assert torch.__version__.split("+")[0] in out
    assert "trainings use" in out


def test_doctor_names_what_is_absent(said, monkeypatch, capsys):
    """Packages of extras are not asked for; the others are each told with a version or as a problem, and status 1."""
    required = ["torch>=2.4", "no-such-package>=1", 'sphinx>=8; extra == "site"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: required)
    monkeypatch.setattr(machine, "kernel", lambda: Path("nowhere"))
    with pytest.raises(AssertionError):  # status 1
        said("doctor")
    out = capsys.readouterr().out
    assert re.search(r"^torch +\d", out, re.MULTILINE)
    problems = re.findall("^problem     (.*)$", out, re.MULTILINE)
    assert problems == [
        "package no-such-package is not installed: run make handbook.",
        "no Jupyter kernel python3: run make handbook.",
    ]
    assert "sphinx" not in out


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('["mosi-752","mosi-official-la"]', ["mosi-752", "mosi-official-la"]),
        ("mosi-752, mosi-official-la", ["mosi-752", "mosi-official-la"]),
        ("[mosi-752, mosi]", ["mosi-752", "mosi"]),
        (["a"], ["a"]),
        ("[0, 1]", [0, 1]),
        ("3", [3]),
        ("", []),
        ("[]", []),
    ],
)
def test_lists_are_read_as_lists_json_or_comma_text(text, read):
    assert as_list(text, "benchmarks") == read


def test_a_dictionary_is_no_list():
    with pytest.raises(BadInput, match="give a list"):
        as_list('{"a": 1}', "benchmarks")


def test_parameters_have_defaults_by_profile():
    smoke, small = Parameters.of("corrkd", "smoke"), Parameters.of("corrkd", "small")
    assert smoke.seeds == (0,)
    assert small.seeds == tuple(range(8))
    assert smoke.benchmarks == ("synthetic-mosi", "synthetic-mosei", "synthetic-iemocap")


@pytest.mark.parametrize(("capability", "named"), [((6, 1), "compute capability 6.1"), (None, "sees no GPU")])
def test_without_a_usable_gpu_the_cpu_is_taken_with_a_sentence(monkeypatch, capability, named):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an old card")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90", "compute_90"])
    device, reason = devices.choose("cuda")
    assert device == "cpu"
    assert named in reason


def test_a_new_gpu_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a new card")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90"])
    assert devices.choose("auto") == ("cuda", "the GPU a new card")
    assert devices.choose("cpu")[0] == "cpu"


# --- plan, status, prune -------------------------------------------------------------------------------------------


@pytest.fixture
def said(monkeypatch, capsys):
    """Call the command in this process; what it printed."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["mmkd", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        return capsys.readouterr().out

    return call


def test_a_plan_counts_and_trains_nothing(home, said):
    """As many runs and steps as the execution will have; what is in the store is not counted as to train."""
    first = ["01_corrkd", "--profile", "smoke", "-p", "artefacts=corrkd/table1", "-p", "benchmarks=synthetic-mosi"]
    text = said("plan", *first)
    assert "01_corrkd, smoke: 4 runs, 4 to train: 24 steps" in text  # 96 utterances in batches of 32, two epochs
    assert not Store().records()
    run(plan("corrkd", "synthetic-mosi", "smoke", [0]), store=Store())  # the method and its teacher
    assert "4 runs, 2 to train: 12 steps" in said("plan", *first)


def test_a_plan_of_absent_files_counts_stand_ins_without_what_only_they_have(said, monkeypatch):
    """Real benchmarks have no oracle teaching; the plan says what it was counted on."""
    monkeypatch.setattr(executing, "default_benchmarks", lambda *_: ("mosi",))
    text = said("plan", "01_corrkd", "--profile", "paper", "-p", "seeds=0,1", "-p", "artefacts=corrkd/table1")
    assert "mosi by synthetic-mosi" in text
    assert "oracle" not in text
    assert "01_corrkd, paper: 6 runs, 6 to train: 6000 steps" in text  # 1284 utterances in batches of 64, 50 epochs


def test_the_price_of_a_run_scales_with_its_work(monkeypatch):
    """Steps are those of fit(); twice the epochs and conditions cost more time, and conditions more disk."""
    [short], [long] = (
        plan("corrkd", "synthetic-mosi", "smoke", [0], "plain", settings={"epochs": n, "looks": 1}) for n in (1, 8)
    )
    cheap, dear, wide = (
        costs._price(costs._kind(e), conditions, "cpu", 1) for e, conditions in ((short, 7), (long, 7), (short, 14))
    )
    assert (cheap.steps, dear.steps) == (3, 24)
    assert Cohort([short], "cpu").fit({}).cost["steps"] == cheap.steps
    assert wide.size > cheap.size
    monkeypatch.setattr(costs, "_measured", lambda *_: dict(SECONDS))
    prices = [costs._price(e, conditions, "cpu", 1) for e, conditions in ((short, 7), (long, 7), (short, 14))]
    assert [price.seconds for price in prices] == [3 + 8 + 1400, 24 + 8 + 1400, 3 + 8 + 2800]


SECONDS = {"step": 1, "teacher": 0, "output": 1, "train": 96, "looked at": 8, "test": 200, "parameters": 1, "width": 3}


def test_status_tells_done_shipped_missing_failed_and_damaged(home, said, monkeypatch):
    """After an execution all that it asked for is done; one record removed, one damaged, one failed show."""
    session = planned(
        home / "notebooks" / "01_corrkd.py",
        profile="smoke",
        artefacts=["corrkd/table1"],
        benchmarks=["synthetic-mosi"],
        retrain=True,
    )
    session.run()
    store = Store()
    assert "4 done, 0 shipped, 0 missing, 0 failed" in said("status")
    one, two, three = store.records()[:3]
    forget(one.folder)
    forget(two.folder)
    store.fail(two.key, "some label\n{}\nValueError: cursed")
    (three.folder / "history.npz").write_bytes(b"PK")
    text = said("status")
    assert "2 done, 0 shipped, 1 missing, 1 failed" in text
    assert f"damaged  {three.key}: history.npz is cut off or no archive" in text
    assert f"failed   {two.key}: some label: ValueError: cursed" in text
    assert text.count(" done  ") == 2  # one kind is left, and the sum


def test_prune_lists_what_no_notebook_needs_and_deletes_only_when_told(home, said, monkeypatch):
    """Outdated, damaged and, if wished, unasked records; what an executed notebook asked for stays."""
    store = Store()
    for supervision, seed in (("plain", 0), ("plain", 1), ("plain", 2), ("oracle", 0)):
        run(plan("corrkd", "synthetic-mosi", "smoke", [seed], supervision), ["l"], store=store)
    records = {(r.config["supervision"], r.config["seed"]): r for r in store.records()}
    asked, outdated, damaged, unasked = (records[k] for k in (("plain", 0), ("plain", 1), ("plain", 2), ("oracle", 0)))
    with pytest.raises(AssertionError):  # status 2: nobody asked for anything yet
        said("prune", "--unasked")
    ask(store, "x-smoke-1", {"benchmarks": ["synthetic-mosi"], "runs": [{"label": "x", "keys": [asked.key]}]})
    (damaged.folder / "weights.npz").unlink()
    is_of_today = experiments.is_of_today
    monkeypatch.setattr(experiments, "is_of_today", lambda c: c != outdated.config and is_of_today(c))
    text = said("prune")
    assert "1 " in text.split("made by code")[0]
    assert "would be freed" in text
    assert len(store.records()) == 4, "a dry run removes nothing"
    once = [path.name for found in needless(store, unasked=True).values() for path in found]
    assert once == [outdated.key, damaged.key, unasked.key]
    said("prune", "--delete")
    assert {r.key for r in store.records()} == {asked.key, unasked.key}
    said("prune", "--unasked", "--delete")
    assert {r.key for r in store.records()} == {asked.key}


def test_records_of_changed_code_or_data_are_not_of_today(monkeypatch):
    [experiment] = plan("corrkd", "synthetic-mosi", "smoke", [0], "plain")
    config = experiment.config()
    assert experiments.is_of_today(config)
    assert not experiments.is_of_today(config | {"code": "other"})
    assert not experiments.is_of_today(config | {"data": "other"})
    code = experiments.code("corrkd", "plain", "mult")  # of a file that is not here
    elsewhere = config | {"benchmark": "mosi", "size": None, "reader": "mult", "code": code}
    assert experiments.is_of_today(elsewhere)
    assert not experiments.is_of_today(elsewhere | {"reader": "mmsa"})


# --- data ------------------------------------------------------------------------------------------------------------


def test_data_commands_from_a_sample_to_a_benchmark(said, tmp_path, monkeypatch):
    """A sample of a family is inspected, found under its usual name, listed, and converted to plain arrays."""
    monkeypatch.setenv("MMKD_DATA", str(tmp_path))
    said("data", "sample", "--family", "mult", str(tmp_path / "mosi_data.pkl"))
    shown = said("data", "inspect", str(tmp_path / "mosi_data.pkl"))
    assert "(MulT)" in shown
    assert "24: train 12, valid 6, test 6" in shown
    listed = said("data", "list")
    assert f"mosi         found: {tmp_path / 'mosi_data.pkl'}" in listed
    assert "mosei        not here" in listed
    assert "synthetic-mosi" in listed
    assert benchmarks.load("mosi").reader == "mult"
    said("data", "convert", str(tmp_path / "mosi_data.pkl"), str(tmp_path / "plain.npz"))
    one, other = benchmarks.load("mosi").batch, benchmarks.load("plain").batch
    assert all(torch.equal(one.x[m], other.x[m]) and torch.equal(one.valid[m], other.valid[m]) for m in one.modalities)
    assert torch.equal(one.y, other.y)
    assert "converted from mosi_data.pkl (mult), SHA-256" in said("data", "inspect", str(tmp_path / "plain.npz"))
    shown = [said("masks", "frames=0.5", "--benchmark", name).splitlines()[0].split()[-1] for name in ("mosi", "plain")]
    assert shown[0] == shown[1]  # who converts shares the masks of who does not


def test_folders_are_benchmarks_whose_every_file_counts(said, tmp_path, monkeypatch):
    """A folder of a family is found by its name, and no other folder is; what is linked into it is part of its data."""
    monkeypatch.setenv("MMKD_DATA", str(tmp_path))
    said("data", "sample", "--family", "gcnet", str(tmp_path / "mine"))
    (tmp_path / "mosi").mkdir()
    (tmp_path / "CMUMOSI").symlink_to(tmp_path / "mine")
    assert {"mine", "mosi"} <= set(benchmarks.available())
    assert f"mosi         found: {tmp_path / 'CMUMOSI'}" in said("data", "list")  # not the empty folder
    faces = tmp_path / "mine" / "features" / "manet_UTT"
    faces.rename(tmp_path / "elsewhere")
    faces.symlink_to(tmp_path / "elsewhere")
    before, total = benchmarks.fingerprint("mine"), benchmarks.load("mine").batch.x["v"].sum()
    (faces / ".DS_Store").write_text("")
    assert benchmarks.fingerprint("mine") == before
    one = next(iter(faces.glob("*.npy")))
    np.save(one, np.load(one) + 100)
    assert benchmarks.fingerprint("mine") != before
    assert benchmarks.load("mine").batch.x["v"].sum() > total + 100
    for name in ("..", "mine/features", ".", "records"):
        with pytest.raises(BadInput):
            benchmarks.check(name)


def test_masks_prints_nominal_and_realised_rates(said):
    shown = said("masks", "mr=0.7", "--benchmark", "synthetic-mosi", "--profile", "smoke")
    assert re.search(r"missing slots +nominal 0\.7000 +realised 0\.6667", shown)  # one of three is kept
    assert re.search(r"mask [0-9a-f]{12}", shown)
