"""The index of artefacts: what is made, stale or missing, the gallery, and that what is committed is today's."""

import json
import subprocess
import sys

import pandas as pd
import pytest
import torch

from mmkd_lib.data import benchmarks
from mmkd_lib.data.synthetic import worlds
from mmkd_lib.results import artefacts, tables
from mmkd_lib.runs import experiments
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import run
from mmkd_lib.runs.shipped import read_shipped
from mmkd_lib.runs.store import Store
from mmkd_lib.support import paths
from mmkd_lib.support.errors import BadInput

PAPERS = ["glass_box", "corrkd", "umdf", "hfgd", "dynkd", "mcur"]  # those whose notebook is here


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
    monkeypatch.setattr(worlds, "fingerprint", lambda *name: "another world")
    assert artefacts.why_stale(proof) == "the data synthetic-mosi changed"


def test_provenance_says_all_that_stands_behind_an_artefact(home, store):
    """Two systems on one benchmark, three seeds out of order: each part against the records themselves."""
    settings = {"epochs": 1}
    planned = [plan("corrkd", "synthetic-mosi", "smoke", [7, 0], "plain", settings=settings)]
    planned.append(plan("corrkd", "synthetic-mosi", "smoke", [3], "method", settings=settings))
    records = [run(asked, ["l"], store=store) for asked in planned]
    flat = [record for found in records for record in found]
    proof = artefacts.provenance(flat, "smoke", names=["synthetic-iemocap"])
    code = {"corrkd/plain/synthetic": experiments.code("corrkd", "plain", None)}
    code["corrkd/method/synthetic"] = experiments.code("corrkd", "method", None)
    code["floors and ceilings"] = proof["code"].get("floors and ceilings")
    assert code["floors and ceilings"]
    names = ("synthetic-iemocap", "synthetic-mosi")
    assert proof == {
        "profile": "smoke",
        "measured on": [f"{name} (smoke): generated data, not the real benchmark" for name in names],
        "seeds": [0, 3, 7],
        "records": sorted(record.key for record in flat),
        "data": {name: benchmarks.fingerprint(name, "smoke") for name in names},
        "code": code,
        "device": ["cpu"],
        "torch": [torch.__version__],
    }
    assert len(proof["records"]) == 3
    assert artefacts.why_stale(proof) == ""


def test_provenance_without_records_has_no_seed():
    proof = artefacts.provenance([], "smoke", names=["synthetic-mosi"])
    assert (proof["seeds"], proof["records"], proof["device"], proof["torch"]) == ([], [], [], [])


@pytest.mark.parametrize("paper", [*PAPERS, "traps"])
def test_committed_seeds_are_those_of_the_records(paper, tmp_path):
    store = Store(tmp_path / "empty", read_shipped(paths.records_folder()))
    files = sorted(artefacts.folder(paper, "small").glob("*.json"))
    assert files
    for file in files:
        proof = json.loads(file.read_text())
        assert proof["seeds"] == sorted({store.find(key).config["seed"] for key in proof["records"]}), file.name


def test_a_data_file_that_is_not_here_is_not_compared():
    assert artefacts.why_stale({"profile": "paper", "code": {}, "data": {"mosi": "0123"}}) == ""


def test_systems_are_read_from_the_registry():
    assert artefacts.systems("corrkd/table3") == ["CorrKD", "w/o SCD", "w/o CPD", "w/o RCD"]
    assert len(artefacts.systems("corrkd/table1")) == 8
    assert artefacts.systems("corrkd/figure1") == []
    assert artefacts.systems("glass_box/table2") == []
    assert artefacts.systems("hfgd/figure9") == ["HFGD"]  # (stream a; stream b) in the registry
    assert artefacts.systems("mcur/table3")[:2] == ["CL=vanilla MCB-CL", "CL=traditional"]  # the rows, with numbers


def test_what_is_published_has_a_built_system_in_it(root):
    """A measured artefact beside printed rows counts its rows among them."""
    proofs = [json.loads(file.read_text()) for file in (root / "figures").glob("*/*.json")]
    counts = {proof["artefact"]: proof["built"] for proof in proofs if proof.get("built") and proof["records"]}
    assert len(counts) > 40
    assert not [name for name, built in counts.items() if built.startswith("0 ")]


def tables_of(paper):
    """The artefacts of a paper that print numbers here, by name."""
    names = [name for name, entry in artefacts.registry().iterrows() if entry["paper"] == paper and entry["printed"]]
    return {name: frame for name in names if len(frame := artefacts.printed(name))}


MCUR_TABLES = [f"mcur/table{i}" for i in range(1, 17)]
CELL = ["dataset", "system", "condition", "metric"]


def test_every_table_of_mcur_prints_numbers():
    assert [*tables_of("mcur")] == sorted(MCUR_TABLES, key=[*artefacts.registry().index].index)


@pytest.mark.parametrize("name", MCUR_TABLES)
def test_a_printed_cell_of_mcur_has_one_name(name):
    """No dataset, system, condition and metric occurs twice, and none of the four is without a name."""
    frame = artefacts.printed(name)
    twice = frame[frame.duplicated(CELL, keep=False)]
    assert twice.empty, twice[[*CELL, "variant", "value"]].to_string()
    assert (frame[CELL] != "").all(axis=None)


@pytest.mark.parametrize("name", MCUR_TABLES)
def test_conditions_of_mcur_have_our_names(name):
    """The average is that over fourteen settings; all others are conditions as they stand, and no name of HFGD's is
    taken for one of MCUR's. What is no condition is said to be of the fourteen."""
    file = pd.read_csv(paths.project_root() / "data" / "reported" / "mcur.csv", dtype=str, keep_default_na=False)
    rows = file[file["artefact"] == name.split("/")[1]].reset_index(drop=True)
    frame = artefacts.printed(name)
    assert frame["value"].tolist() == rows["value"].tolist()
    for ours, theirs in zip(frame["condition"], rows["condition"], strict=True):
        if theirs == "avg":
            assert ours.split(" & ")[0] == "avg 14"
        elif theirs:
            assert ours == theirs
        else:
            assert ours == "of 14"
        if ours != "of 14":
            assert tables.check_condition(ours) is None


def test_intensities_of_noise_are_trials():
    """Table 13 prints one average for each intensity."""
    frame = artefacts.printed("mcur/table13")
    told = {(c, v.removeprefix("intensity=")) for c, v in zip(frame["condition"], frame["variant"], strict=True)}
    assert told == {(f"avg 14 & noise={s}", s) for s in ("5", "10", "20")}


def test_systems_of_mcur_are_methods_variants_or_both():
    """A row is a method whatever its variant (seeds, who is tested); or each variant of each method; else the variant
    where there is one."""
    systems = {name: [*dict.fromkeys(frame["system"])] for name, frame in tables_of("mcur").items()}
    six = ["CorrKD", "MPLMM", "IMDer", "LNLN", "MMANet", "MCUR"]
    assert systems["mcur/table1"] == systems["mcur/table5"] == six
    assert systems["mcur/table2"] == ["MCUR", "w/o L_CL^s", "w/o L^Uncer", "w/o L^Logits", "w/o L^MSE"]
    assert systems["mcur/table4"] == [
        f"{method}{plugged}" for method in ("CorrKD", "MMANet") for plugged in ("", " +MCB-CL", " +SUGR")
    ]
    for name in ("mcur/table6", "mcur/table7", "mcur/table8", "mcur/table10"):
        assert systems[name] == ["MCUR"]
    assert systems["mcur/table13"] == ["MMANet", "LNLN", "MCUR"]
    assert systems["mcur/table16"] == ["Shared Teacher Model", "CorrKD", "MMANet", "MCUR"]
    assert {*artefacts.BY_METHOD, *artefacts.BY_BOTH} <= set(systems)


def test_names_of_one_paper_are_not_given_to_another():
    """HFGD's names of conditions are ours as before, and only HFGD's: an average of six, of shares of frames, complete
    data; CorrKD's average stays one of six."""
    ours = {"inter-avg": "avg", "intra-avg": "avg frames", "complete": "l+a+v"}
    for paper in ("hfgd", "corrkd", "umdf", "dynkd"):
        file = pd.read_csv(
            paths.project_root() / "data" / "reported" / f"{paper}.csv", dtype=str, keep_default_na=False
        )
        renamed = 0
        for name, frame in tables_of(paper).items():
            theirs = file.loc[file["artefact"] == name.split("/")[1], "condition"].tolist()
            expected = [ours.get(c, c) if paper == "hfgd" else c for c in theirs]
            assert frame["condition"].tolist() == expected, name
            renamed += expected != theirs
            variants = [v or m for v, m in zip(frame["variant"], frame["method"], strict=True)]
            assert frame["system"].tolist() == variants, name
        assert bool(renamed) == (paper == "hfgd")
    assert "avg" in set(artefacts.printed("corrkd/table1")["condition"])


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


def test_published_rows_under_each_other_have_equal_seeds(root):
    """As many in every row of a table's block; that they are the same, `Comparison` refuses otherwise."""
    checked = 0
    for file in sorted((root / "figures").glob("*/*.csv")):
        frame = pd.read_csv(file)
        if {"source", "metric", "n"} <= set(frame):
            measured = frame[frame["source"] == "measured"]
            counts = measured.groupby(["data", "metric"])["n"].nunique()
            assert (counts == 1).all(), f"{file}: {counts[counts > 1]}"
            checked += len(counts)
    assert checked > 100
