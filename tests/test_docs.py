"""The pages of docs/ are run: every block of code, the commands they name, and how long they may be."""

import re
import subprocess
import sys

import pytest
import torch

from mmkd_lib.methods import METHODS

BLOCK = re.compile(r"^```(python|bash)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SMALL = {"BENCHMARK": "synthetic-mosi", "PROFILE": "smoke", "SEEDS": range(2), "EPOCHS": 3}


def blocks(root, page):
    """(language, what stands beside it, code) of each block of a page."""
    return BLOCK.findall((root / "docs" / page).read_text(encoding="utf-8"))


@pytest.fixture
def desk(home, monkeypatch):
    """A folder of one's own beside a handbook whose store is empty."""
    folder = home / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run_blocks(root, page, folder):
    """Write the files of a page, run its other Python in one namespace; returns that."""
    space = {"__name__": page, **SMALL}
    for language, beside, code in blocks(root, page):
        if file := re.search(r"file=(\S+)", beside):
            (folder / file[1]).write_text(code, encoding="utf-8")
        elif language == "python":
            exec(compile(code, page, "exec"), space)  # the handbook's own page
    return space


def test_the_api_page_trains_a_model_of_ones_own(root, desk, capsys):
    space = run_blocks(root, "api.md", desk)
    said = capsys.readouterr().out
    for row in ("| mine |", "| CorrKD |", "| its network, plain |", "| exact posterior |", "| best constant |"):
        assert row in said, row
    assert "avg (six)" in said
    assert "generated data, not the real benchmark" in said
    assert isinstance(space["model"], torch.nn.Module)


def test_the_api_page_needs_thirty_lines(root):
    [(_, _, code)] = blocks(root, "api.md")
    model = re.search(r"class Mine.*?\n\n\n", code, re.DOTALL)[0]
    lines = [line for line in code.replace(model, "").splitlines() if line.strip()]
    assert len(lines) <= 30


def test_every_public_name_is_on_the_api_page(root):
    import mmkd_lib

    text = (root / "docs" / "api.md").read_text(encoding="utf-8")
    assert {name for name in mmkd_lib.__all__ if f"`{name}`" not in text} <= {"__version__"}
    for name in mmkd_lib.__all__:
        assert getattr(mmkd_lib, name) is not None


def test_a_method_of_ones_own_stands_beside_corrkd(root, desk, capsys):
    """At most sixty lines, the contract kept, a row in the table, its file in the key of its runs."""
    space = run_blocks(root, "own_method.md", desk)
    said = capsys.readouterr().out
    for row in ("| CorrKD |", "| mine |", "| mine, plain |"):
        assert row in said, row
    code = (desk / "my_method.py").read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 60
    [record, *_] = space["records"]["mine"]
    assert record.config["method"] == "my_method.py:MyMethod"
    assert record.config["teacher"]
    assert "MyMethod" not in map(str, METHODS.values())


def test_mmkd_check_says_what_holds_and_what_is_broken(root, desk):
    """The documented method passes; with labels read at test it ends with status 1 and a sentence."""
    run = [sys.executable, "-m", "mmkd_lib.cli", "check"]
    [code] = [code for _, beside, code in blocks(root, "own_method.md") if "file=" in beside]
    (desk / "my_method.py").write_text(code, encoding="utf-8")
    good = subprocess.run([*run, "my_method.py:MyMethod"], capture_output=True, text=True, check=False, cwd=desk)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "broken" not in good.stdout
    wrong = code.replace(
        "Output(self.head(embedding), embedding)", "Output(batch.y[:, None] + self.head(embedding), embedding)"
    )
    assert wrong != code
    (desk / "my_method.py").write_text(wrong, encoding="utf-8")
    bad = subprocess.run([*run, "my_method.py:MyMethod"], capture_output=True, text=True, check=False, cwd=desk)
    assert bad.returncode == 1
    assert re.search(r"^broken +forward reads batch\.y", bad.stdout, re.MULTILINE)
    assert "Traceback" not in bad.stdout + bad.stderr
