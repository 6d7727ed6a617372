"""The index of artefacts: what is made, stale or missing, the gallery, and that what is committed is today's."""

import json
import subprocess
import sys

import pytest

from mmkd_lib import artefacts, experiments, paths
from mmkd_lib.benchmarks import synthetic
from mmkd_lib.errors import BadInput
from mmkd_lib.experiments import plan
from mmkd_lib.running import run
from mmkd_lib.shipped import read_shipped
from mmkd_lib.store import Store

PAPERS = ["glass_box", "corrkd", "umdf", "hfgd", "dynkd"]  # those whose notebook is here


def written(store, artefact="corrkd/table1"):
    """Provenance of an artefact made from one tiny record, written where `small` writes."""
    [record] = run(plan("corrkd", "synthetic-mosi", "smoke", [0], "plain", settings={"epochs": 1}), ["l"], store=store)
    proof = artefacts.provenance([record], "smoke") | {"built": "1 of 8", "alt": "A line."}
    file = artefacts.folder(*artefact.split("/")[:1], "small") / f"{artefact.split('/')[1]}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(proof))
    return record


def test_nothing_is_made_in_an_empty_house(home):
    rows = artefacts.made("corrkd")
    assert set(rows["state"]) == {"missing"}
    printed = rows[rows["printed"]]
    assert len(printed) == 9
    assert printed["kind"].tolist().count("schematic") == 2


def test_an_artefact_is_made_until_code_or_data_changes(home, store, monkeypatch):
    """Staleness by the code of its kind of record, and by the world its data is drawn from; not by the device."""
    written(store)
    [row] = [r for r in artefacts.made("corrkd").itertuples() if r.artefact == "corrkd/table1"]
    assert (row.state, row.built, row.why) == ("made", "1 of 8", "")
    assert "synthetic-mosi" in row.data
    proof = json.loads(row.file.read_text())
    assert artefacts.why_stale(proof | {"device": ["cuda"], "torch": ["0.1"]}) == ""
    code = experiments.code
    monkeypatch.setattr(artefacts, "code", lambda *kind: code(*kind) + "changed")
    assert artefacts.why_stale(proof) == "the code of corrkd/plain/synthetic changed"
    monkeypatch.setattr(artefacts, "code", code)
    with monkeypatch.context() as patch:
        patch.setattr(artefacts, "code_fingerprint", lambda *roots: "other")
        assert artefacts.why_stale(proof) == "the code of floors and ceilings changed"
    monkeypatch.setattr(synthetic, "fingerprint", lambda *name: "another world")
    assert artefacts.why_stale(proof) == "the data synthetic-mosi changed"


def test_a_data_file_that_is_not_here_is_not_compared():
    assert artefacts.why_stale({"profile": "paper", "code": {}, "data": {"mosi": "0123"}}) == ""


def test_systems_are_read_from_the_registry():
    assert artefacts.systems("corrkd/table3") == ["CorrKD", "w/o SCD", "w/o CPD", "w/o RCD"]
    assert len(artefacts.systems("corrkd/table1")) == 8
    assert artefacts.systems("corrkd/figure1") == []
    assert artefacts.systems("glass_box/table2") == []


def test_unknown_papers_are_refused_with_the_known_ones():
    with pytest.raises(BadInput, match="corrkd"):
        artefacts.made("nosuch")


@pytest.mark.parametrize("paper", [*PAPERS, "traps"])
def test_what_is_committed_is_made_by_todays_code(paper):
    """Every table and figure of the profile small is there and not stale: retrain, redraw and ship after a change."""
    rows = artefacts.made(paper)
    small = rows[rows["profile"] == "small"]
    assert set(small["state"]) == {"made"}, small[["artefact", "state", "why"]].to_string()


def test_the_gallery_is_the_generated_one(root):
    """`mmkd artefacts --write` was called."""
    assert (root / "figures" / "README.md").read_text() == artefacts.gallery()


@pytest.mark.parametrize("paper", PAPERS)
def test_all_records_behind_what_is_committed_are_shipped(paper, tmp_path):
    """With an empty run store every record that a committed artefact names is there, within five megabytes a paper."""
    store = Store(tmp_path / "empty", read_shipped(paths.records_folder()))
    assert artefacts.records_behind(paper, store)
    assert sum(file.stat().st_size for file in (paths.records_folder() / paper).iterdir()) <= 5 * 2**20


def test_records_that_nobody_has_cannot_be_shipped(home, store):
    written(store)
    with pytest.raises(BadInput, match="1 records behind corrkd"):
        artefacts.records_behind("corrkd", Store(home / "another"))


def command(*words):
    done = subprocess.run([sys.executable, "-m", "mmkd_lib.cli", *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_mmkd_artefacts_counts_what_is_there(root):
    status, said = command("artefacts", "corrkd")
    assert "corrkd: 9 of 9 made (2 schematic, 3 table, 4 plot)" in said
    assert "rows built 1 of 8" in said
    assert status == 0 or "stale" in said


def test_mmkd_artefacts_ends_with_status_1_where_something_lacks(home):
    status, said = command("artefacts", "corrkd")
    assert status == 1
    assert "corrkd: 0 of 9 made (none), 0 stale" in said


def test_mmkd_claims_prints_a_verdict_for_each():
    status, said = command("claims", "corrkd")
    assert status == 0
    verdicts = ("supported", "contradicted", "inconclusive", "not testable here")
    claims = [line for line in said.splitlines() if line.startswith("corrkd/")]
    assert claims
    assert all(any(verdict in line for verdict in verdicts) for line in claims)
