"""The bench: every row's function runs on tiny sizes, and the table goes where it belongs. No test asserts a time."""

import math
import platform
import re

import pandas as pd
import pytest
import torch

from mmkd_lib import bench
from mmkd_lib.bench import engine, parts, training
from mmkd_lib.bench.measuring import Limit, Measured, Row, in_turn
from mmkd_lib.methods import METHODS
from mmkd_lib.methods.base import Recipe
from mmkd_lib.methods.corrkd import CorrKD
from mmkd_lib.methods.dynkd import DynKD
from mmkd_lib.support.errors import BadInput

TINY = {"benchmark": "synthetic-mosi", "size": "smoke", "epochs": 1}
SAID = "00_one: executing ...\n00_one: done in 3 s\n01_two: executing ...\n01_two: done in 8 s\n"


def sound(measured):
    """A finite positive number with the times behind it."""
    return math.isfinite(measured.value) and measured.value > 0 and re.search(r"\d m?s\b", measured.detail)


@pytest.fixture
def frame():
    """A small table, as bench() gives it."""
    rows = [
        ("one", "1.14", "at most 1.15", True, "13.1 ms against 11.5 ms"),
        ("two", "0.80", "at least 0.85", False, ""),
    ]
    found = pd.DataFrame(rows, columns=["what", "measured", "limit", "holds", "detail"])
    found.attrs["machine"] = bench.machine()
    return found


# --- what is measured ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_step(method):
    assert sound(training.step(method, **TINY, repetitions=1))


def test_the_parts_of_dynkd():
    """Its three rows, each small: what is timed does what it says."""
    assert sound(parts.surgery(**TINY, repetitions=1))
    assert sound(parts.shapley_share("synthetic-iemocap-m5", "smoke", 1, 1))
    measured = parts.sets("synthetic-mosi", "smoke", 1, 1)
    assert sound(measured)
    assert re.search(r"for [2-9]\d rows of 32 utterances", measured.detail)


def test_the_contrast_of_mcur():
    measured = parts.contrast_share("synthetic-mosei", "smoke", 1, 1)
    assert sound(measured)
    assert measured.detail.endswith("for 32 utterances")


@pytest.mark.parametrize("method", METHODS)
def test_stacked_seeds_against_one_after_the_other(method):
    """What `make bench-gpu` measures, on the CPU with two seeds."""
    measured = training.stacked(method, **TINY, seeds=2, device="cpu", repetitions=1)
    assert sound(measured)
    assert "peak" in measured.detail


def test_stacked_seeds_against_processes(home):
    """Two processes that begin together."""
    measured = training.apart("corrkd", **TINY, seeds=2, device="cpu", processes=2)
    assert sound(measured)
    assert "2 processes" in measured.detail


def test_one_of_stacked_seeds_is_that_seed():
    """What is taken out of a stack is what its seed alone would train with."""
    both, alone = (training.prepared("corrkd", **TINY, seeds=seeds) for seeds in ([0, 1], [1]))
    second = both.only(1)
    assert list(second.seeds) == list(alone.seeds) == [1]
    one, other = (r.utterances.take(r.train) for r in (second, alone))
    assert all(torch.equal(one.x[m], other.x[m]) for m in other.modalities)
    assert len(second.methods) == len(second.parents["complete"]) == 1


def test_evaluation():
    assert sound(engine.evaluation("smoke", utterances=20, repetitions=1))


def test_indexing():
    assert sound(engine.indexing(utterances=20, frames=3, batch=8, repetitions=1))


def test_reading(home):
    assert sound(engine.reading(utterances=(1200, 100, 200), frames=20))


def test_work_of_the_store(home):
    """It is measured beside the run store, which is left as it was."""
    assert sound(engine.store_work(size="smoke", repetitions=1))
    assert not list((home / "runs").iterdir())


def test_efficiency_of_two_workers(home):
    assert sound(engine.workers_efficiency("smoke", trainings=2, epochs=2, repetitions=1))


@pytest.mark.parametrize("warm", [False, True])
def test_the_handbook(home, warm):
    """The slowest notebook counts; a warm one is executed again in the same home."""
    homes = []

    def execute(folder):
        assert (folder / "notebooks" / "01_corrkd.ipynb").exists()
        homes.append(folder)
        return SAID

    assert engine.handbook(warm, execute) == (8, "00_one 3 s, 01_two 8 s")
    assert homes == [homes[0]] * (2 if warm else 1)


def test_a_handbook_that_fails_is_no_fast_one(tmp_path, home):
    """Neither a notebook that cannot be executed, nor one that says nothing, gives a number."""
    (tmp_path / "broken" / "notebooks").mkdir(parents=True)
    (tmp_path / "broken" / "notebooks" / "00_one.ipynb").write_text("no notebook")
    with pytest.raises(RuntimeError, match="ended with status 1"):
        engine._smoke(tmp_path / "broken")
    with pytest.raises(RuntimeError, match="no notebook"):
        engine.handbook(warm=False, execute=lambda folder: "00_one: executing ...")


def test_calls_take_turns_and_the_first_round_does_not_count():
    said = {"A": iter([9.0, 1.0, 3.0, 2.0]), "B": iter([9.0, 4.0, 4.0, 7.0])}
    order = []

    def call(name):
        order.append(name)
        return next(said[name])

    assert in_turn([lambda: call("A"), lambda: call("B")], 3) == [2.0, 4.0]
    assert "".join(order) == "ABABABAB"


# --- rows and table --------------------------------------------------------------------------------------------------


class TaskAlone(CorrKD):
    """A method without a loss of its own."""

    def losses(self, step, *, clock):
        return self.plain_losses(step, clock=clock)


class Watching(TaskAlone):
    """One that watches a second term and does not train on it."""

    def losses(self, step, *, clock):
        return super().losses(step, clock=clock) | {"watched": step.views["student"].y.float().mean()}

    def weights(self, clock):
        return {"watched": None}


class OneByOne(CorrKD):
    """One whose seeds vmap does not take."""

    vmappable = False


class Following(CorrKD):
    """One whose seeds end when their own validation says so."""

    recipe = Recipe(printed={"mosi": ({}, {"stop_after": 3})})


@pytest.mark.parametrize(
    ("method", "losses", "stacks"),
    [
        (CorrKD, True, True),
        (TaskAlone, False, True),
        (Watching, False, True),
        (OneByOne, True, False),
        (Following, True, False),
        (DynKD, False, True),  # its gradients are rectified
    ],
)
def test_the_rows_of_a_method_follow_from_what_it_is(monkeypatch, method, losses, stacks):
    """A step with all losses over one with the task loss says something only where there are more; stacked seeds only
    where they train as one."""
    name = method.__name__
    monkeypatch.setitem(METHODS, name, method)
    monkeypatch.setattr(training, "METHODS", {name: method})
    assert [row.what.partition(": ")[0] for row in training.step_rows()] == [name] * (2 if losses else 0)
    assert [row.what.partition(": ")[0] for row in training.stacking_rows()] == [name] * (2 if stacks else 0)


def test_no_two_rows_have_one_name():
    for rows in (bench.cpu_rows(), bench.gpu_rows()):
        assert len({row.what for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("limit", "value", "shown", "holds"),
    [
        (("at most", 1.15), 1.154, "1.15", True),  # what is shown is what is compared
        (("at most", 1.15), 1.156, "1.16", False),
        (("at least", 0.85), 0.91, "0.91", True),
        (("below", 1.0), 1.0, "1.00", False),
        (("below", 1.0), 0.0123, "0.0123", True),
        (("at most", 60, " s"), 61.0, "61 s", False),
    ],
)
def test_a_limit_is_kept_or_not(limit, value, shown, holds):
    limit = Limit(*limit)
    assert (limit.shown(value), limit.holds(value)) == (shown, holds)


def test_a_bench_asks_its_rows(monkeypatch, capsys):
    asked = Row("a thing", Limit("at most", 2.0), lambda: Measured(1.5, "3 s against 2 s"))
    monkeypatch.setattr(bench, "cpu_rows", lambda: [asked, asked._replace(what="another")])
    frame = bench.bench(only=["a thing"])
    assert frame.values.tolist() == [["a thing", "1.50", "at most 2", True, "3 s against 2 s"]]
    assert capsys.readouterr().err == "1 of 1: a thing ...\n"
    assert "| a thing | 1.50 | at most 2 | yes | 3 s against 2 s |" in bench.markdown(frame)
    with pytest.raises(BadInput, match="a thing, another"):
        bench.bench(only=["nothing"])


def test_without_a_gpu_its_rows_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match=r"need a GPU.*torch sees no GPU"):
        bench.bench("cuda")


def test_the_machine_is_told_without_its_name():
    said = bench.machine()
    assert torch.__version__ in said
    assert "usable cores" in said
    assert platform.node() not in said


def test_the_table_replaces_what_stands_between_its_lines(tmp_path, frame):
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- bench -->\nof yesterday\n<!-- /bench -->\nafter\n<!-- other -->\nkept\n")
    for _ in range(2):  # writing again changes nothing
        bench.write(path, frame)
        before, table, after = re.split("<!-- /?bench -->\n", path.read_text())
        assert (before, after) == ("before\n", "after\n<!-- other -->\nkept\n")
        assert "of yesterday" not in table
        assert "| one | 1.14 | at most 1.15 | yes | 13.1 ms against 11.5 ms |" in table
        assert "| no |" in table
        assert frame.attrs["machine"] in table


def test_an_empty_place_is_filled(tmp_path, frame):
    path = tmp_path / "page.md"
    path.write_text("<!-- bench -->\n<!-- /bench -->\n")
    bench.write(path, frame)
    assert bench.markdown(frame) in path.read_text()


@pytest.mark.parametrize("text", ["nothing\n", "<!-- bench -->\nopen\n", "<!-- /bench -->\n<!-- bench -->\n"])
def test_a_file_without_a_place_is_refused(tmp_path, frame, text):
    path = tmp_path / "page.md"
    path.write_text(text)
    with pytest.raises(BadInput, match="<!-- bench -->"):
        bench.write(path, frame)
    assert path.read_text() == text


def test_the_readme_shows_the_rows_of_today(root):
    """After a change of the rows: `make bench`. Only a method of which nothing was measured yet may be absent."""
    [table] = re.findall("^<!-- bench -->$(.*?)^<!-- /bench -->$", (root / "README.md").read_text(), re.DOTALL | re.M)
    shown = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")][1:]
    unmeasured = set(METHODS) - {name.partition(": ")[0] for name in shown}
    today = [row.what for row in bench.cpu_rows() if row.what.partition(": ")[0] not in unmeasured]
    assert shown == today
