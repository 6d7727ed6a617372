"""carry(): records stand where changed code gives their numbers, digit for digit, and fall where it does not."""

import gzip
import json

import pytest

from mmkd_lib.results import carry
from mmkd_lib.runs import experiments
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import run
from mmkd_lib.runs.shipped import read_shipped, ship
from mmkd_lib.support import fingerprint, paths
from mmkd_lib.support.errors import BadInput

CONDITIONS = ("l", "a+v")


@pytest.fixture
def shipped(root, tmp_path, monkeypatch):
    """A home of its own whose paper `mine` ships four tiny records, two seeds of two systems; one has a teacher."""
    for name in ("notebooks", "mmkd_lib"):
        (tmp_path / name).symlink_to(root / name)
    (tmp_path / "data" / "records").mkdir(parents=True)
    monkeypatch.setenv("MMKD_HOME", str(tmp_path))
    brief = {"epochs": 2, "looks": 1}
    wanted = plan("corrkd", "synthetic-mosi", "smoke", [0, 1], settings=brief)
    wanted += plan("umdf", "synthetic-mosi", "smoke", [0, 1], "plain", settings=brief)
    records = run(wanted, CONDITIONS, ["a+v"])
    ship(records, paths.records_folder() / "mine")
    return tmp_path


def changed_code(monkeypatch):
    """From now on all code has another fingerprint than what was shipped."""
    real = fingerprint.code_fingerprint
    monkeypatch.setattr(experiments, "code_fingerprint", lambda *roots, **how: "x" + real(*roots, **how)[1:])


def todays():
    return [experiments.is_of_today(record.config) for record in read_shipped(paths.records_folder()).values()]


def test_equal_numbers_carry_the_records(shipped, tmp_path, monkeypatch):
    """One seed of each configuration is trained; after it the records are those that today's code asks for."""
    assert all(todays())
    changed_code(monkeypatch)
    assert not any(todays())
    assert carry.carry("mine", tmp_path / "scratch") == 2
    assert all(todays())
    rows = fingerprint.carried()
    assert [row["runs compared"] for row in rows] == ["1", "1"]
    assert all(row["today"][0] == "x" and row["today"][1:] == row["known as"][1:] for row in rows)
    found = run(plan("umdf", "synthetic-mosi", "smoke", [1], "plain", settings={"epochs": 2, "looks": 1}), CONDITIONS)
    assert found[0].key in read_shipped(paths.records_folder())


def test_nothing_is_trained_where_nothing_changed(shipped, tmp_path):
    assert carry.carry("mine", tmp_path / "scratch") == 0
    assert fingerprint.carried() == ()


def tampered(change):
    """Change the shipped lines of the first seed."""
    file = paths.records_folder() / "mine" / "records.jsonl.gz"
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
    for line in lines:
        if line["config"]["seed"] == 0 and line["config"]["method"] == "umdf":
            change(line)
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))


def score(line):
    line["scores"]["l"]["metrics"]["mae"] += 1e-6


def term(line):
    line["history"]["terms/task"][1] *= 1.00001


@pytest.mark.parametrize(
    ("change", "what"), [(score, "mae under l"), (term, "history terms/task")], ids=["score", "term"]
)
def test_one_other_digit_carries_nothing(shipped, tmp_path, monkeypatch, change, what):
    tampered(change)
    changed_code(monkeypatch)
    with pytest.raises(BadInput, match=f"other numbers than the shipped ones .*{what}.*train them anew"):
        carry.carry("mine", tmp_path / "scratch")
    assert fingerprint.carried() == ()
    assert not any(todays())


def test_on_another_processor_the_older_code_trains_first(shipped, tmp_path, monkeypatch):
    """Shipped digits are those of another machine; what counts are those of older and changed code on this one."""
    tampered(term)
    assert carry.train_shipped("mine", tmp_path / "older") == 2
    changed_code(monkeypatch)
    assert carry.carry("mine", tmp_path / "scratch", against=tmp_path / "older") == 2
    assert all(todays())


def test_what_the_older_code_did_not_train_is_refused(shipped, tmp_path, monkeypatch):
    changed_code(monkeypatch)
    with pytest.raises(BadInput, match=r"older lacks .* on synthetic-mosi, seed 0: let the older code"):
        carry.carry("mine", tmp_path / "scratch", against=tmp_path / "older")


def test_another_digit_than_the_older_code_s_carries_nothing(shipped, tmp_path, monkeypatch):
    carry.train_shipped("mine", tmp_path / "older")
    changed_code(monkeypatch)
    real = carry.history_of
    folder = str(tmp_path / "older")
    wrong = {"terms/task": [0.0, 0.0], "look": [2], "value": [0.0], "best_epoch": 2}
    of_older = lambda record: wrong if str(getattr(record, "folder", "")).startswith(folder) else real(record)  # noqa: E731
    monkeypatch.setattr(carry, "history_of", of_older)
    with pytest.raises(BadInput, match="other numbers"):
        carry.carry("mine", tmp_path / "scratch", against=tmp_path / "older")
    assert fingerprint.carried() == ()


def test_another_representation_carries_nothing(shipped, tmp_path, monkeypatch):
    changed_code(monkeypatch)
    monkeypatch.setattr("mmkd_lib.runs.shipped.Shipped.embeddings", lambda self: {"a+v": [[0.0]], "rows": [0]})
    with pytest.raises(BadInput, match="embeddings a"):
        carry.carry("mine", tmp_path / "scratch")


def test_a_paper_without_records_is_refused(shipped, tmp_path):
    with pytest.raises(BadInput, match="no records of 'other'"):
        carry.carry("other", tmp_path / "scratch")


def test_an_experiment_is_read_back_from_its_record(shipped):
    for key, record in read_shipped(paths.records_folder()).items():
        assert carry.experiment_of(record).key() == key


def test_what_carried_the_shipped_records_is_of_today(root):
    """No row of the handbook's own list is left over: its fingerprints are those of records that are shipped, or stand
    behind a table of real files."""
    held = read_shipped(root / "data" / "records").values()
    known = {record.config["code"] for record in held} | {record.config["data"].split("/")[-1] for record in held}
    proofs = [json.loads(file.read_text()) for file in (root / "figures").glob("*/paper/*.json")]
    known |= {code for proof in proofs for code in proof["code"].values()}
    assert {row["known as"] for row in fingerprint.carried()} <= known
    assert all(int(row["runs compared"]) for row in fingerprint.carried())
