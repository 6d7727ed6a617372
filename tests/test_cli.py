"""`mmkd` and notebook parameters: bad input is one sentence and status 2, before any training."""

import subprocess
import sys

import pytest
import torch

from mmkd_lib import cli, devices
from mmkd_lib.errors import BadInput
from mmkd_lib.notebook import Parameters, as_list


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
    assert "0 records" in out
    status, out, _ = mmkd("doctor")
    assert status == 0
    assert torch.__version__.split("+")[0] in out
    assert "trainings use" in out


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
