"""From records to tables: pooling of folds, intervals, masks that must agree, printed numbers, files."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from mmkd_lib.data import metrics
from mmkd_lib.results import artefacts, tables
from mmkd_lib.results.comparison import Comparison
from mmkd_lib.runs.store import Record
from mmkd_lib.support.errors import BadInput

PRINTED_AVERAGE = ["l", "a", "v", "l+a", "l+v", "a+v"]


def record(folder, y, said, seed=0, fold=None, mask="m0", conditions=("l",), benchmark="b"):
    """A record of a regression benchmark, written by hand."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"benchmark": benchmark, "seed": seed, "fold": fold, "code": "c"}))
    y, said = np.array(y, np.float32), np.array(said, np.float32)
    data = {"task": "regression", "classes": [], "measured_on": "nothing real"}
    data["floor"] = metrics.floor("regression", (), y)
    (folder / "environment.json").write_text(json.dumps({"data": data, "torch": "t"}))
    np.savez(folder / "predictions.npz", y=y, **{f"prediction/{condition}": said for condition in conditions})
    found = metrics.score("regression", (), y, said)
    scores = {condition: {"mask": mask, "metrics": found} for condition in conditions}
    (folder / "scores-0.json").write_text(json.dumps(scores))
    return Record(folder)


def test_folds_are_pooled_into_one_score(tmp_path):
    """One F1 over all folds' predictions, not a mean of F1s."""
    y = [[1, -1, 2, -3], [1, 1, 1, -1, 0]]
    said = [[1, 1, 1, -1], [-1, 1, 1, 1, 1]]
    folds = [record(tmp_path / str(k), y[k], said[k], fold=k) for k in (1, 0)]
    frame = tables.scores({"s": folds})
    value = frame.query("metric == 'f1_weighted_nonzero'")["value"].item()
    truth = [1, -1, 1, -1, 1, 1, 1, -1]
    guess = [1, 1, 1, -1, -1, 1, 1, 1]
    assert value == pytest.approx(100 * f1_score(truth, guess, average="weighted"))


def test_the_floor_is_of_the_labels_of_all_folds_once(tmp_path):
    """One constant over the pooled labels; a second system with the same folds changes nothing."""
    y = [[1.0, 1.0, 1.0], [-1.0, 1.0, -1.0]]
    folds = [record(tmp_path / f"{k}{s}", y[k], y[k], fold=k) for k in (0, 1) for s in "ab"]
    expected = metrics.floor("regression", (), np.concatenate(y))["f1_weighted_nonzero"]
    assert tables.floors(folds)["b"]["f1_weighted_nonzero"] == pytest.approx(expected)


def test_one_fold_a_seed_is_no_mixture_of_masks(tmp_path):
    """Where sessions are held out in turn, each seed has the masks of its own fold; two systems of one fold must still
    share theirs, and the floor is of all sessions together."""
    y = [[1.0, 1.0, 1.0], [-1.0, 1.0, -1.0]]
    turns = {
        name: [record(tmp_path / f"{name}{s}", y[s], y[s], seed=s, fold=s, mask=f"m{s}") for s in (0, 1)]
        for name in "ab"
    }
    frame = tables.scores(turns)
    assert set(frame["seed"]) == {0, 1}
    other = [record(tmp_path / "c", y[1], y[1], seed=1, fold=1, mask="m0")]
    with pytest.raises(BadInput, match="under other masks"):
        tables.scores(turns | {"c": other})
    pooled = metrics.floor("regression", (), np.concatenate(y))
    assert tables.floors(turns["a"])["b"] == pytest.approx(pooled, nan_ok=True)


def test_the_average_is_over_the_six_incomplete_subsets_or_absent(tmp_path):
    six = [*PRINTED_AVERAGE, "l+a+v"]
    frame = tables.scores({"s": [record(tmp_path / "a", [1, -1], [1, 1], conditions=six)]})
    assert set(frame["condition"]) == {*six, "avg"}
    part = tables.scores({"s": [record(tmp_path / "b", [1, -1], [1, 1], conditions=["l", "a", "l+a"])]})
    assert "avg" not in set(part["condition"])


def test_the_average_over_missing_frames_is_over_the_ten_shares_above_none(tmp_path):
    curve = [f"frames={p / 10:.1f}" for p in range(11)]
    frame = tables.scores({"s": [record(tmp_path / "a", [1, -1], [1, 1], conditions=curve)]})
    assert set(frame["condition"]) == {*curve, "avg frames"}
    part = tables.scores({"s": [record(tmp_path / "b", [1, -1], [1, 1], conditions=curve[:-1])]})
    assert "avg frames" not in set(part["condition"])
    found = tables.with_average({c: {"f1": float(i)} for i, c in enumerate(curve)})
    assert found["avg frames"] == {"f1": 5.5}  # 1 to 10: complete data is not among them


FOURTEEN = [*PRINTED_AVERAGE, "l+a+v", *(f"mr={r / 10:.1f}" for r in range(1, 8))]


def test_the_average_over_fourteen_settings_is_over_seven_subsets_and_seven_rates(tmp_path):
    """Complete data is among them, a rate of 0 is not; each of the fourteen must be there."""
    found = tables.with_average({c: {"f1": float(i)} for i, c in enumerate(["mr=0.0", *FOURTEEN])})
    assert len(FOURTEEN) == 14
    assert found["avg 14"] == {"f1": 7.5}  # 1 to 14
    assert found["avg"] == {"f1": 3.5}  # 1 to 6
    assert "avg frames" not in found
    for absent in FOURTEEN:
        assert "avg 14" not in tables.with_average({c: {"f1": 0.0} for c in FOURTEEN if c != absent})
    frame = tables.scores({"s": [record(tmp_path / "a", [1, -1], [1, 1], conditions=FOURTEEN)]})
    assert set(frame["condition"]) == {*FOURTEEN, "avg", "avg 14"}
    assert {"avg", "avg frames", "avg 14"} == set(tables.AVERAGES) <= set(tables.HEADINGS)


def test_an_average_is_over_metrics_that_all_of_its_conditions_have():
    found = {c: {"f1": 1.0, "mae": 2.0} for c in FOURTEEN} | {"mr=0.7": {"f1": 15.0, "silhouette": 1.0}}
    assert tables.with_average(found)["avg 14"] == {"f1": 2.0}
    assert tables.with_average(found)["avg"] == {"f1": 1.0, "mae": 2.0}


def test_averages_keep_what_trials_say_beside_their_conditions(tmp_path):
    """Each tail is averaged by itself, over its own trials: noise, another draw, another benchmark."""
    found = {c: {"f1": float(i)} for i, c in enumerate(FOURTEEN)}
    found |= {f"{c} & noise=5": {"f1": 100.0 + i} for i, c in enumerate(FOURTEEN)}
    found |= {f"{c} & draw=1 & on=x": {"f1": 200.0 + i} for i, c in enumerate(PRINTED_AVERAGE)}
    found |= {f"{c} & noise=50": {"f1": 0.0} for c in PRINTED_AVERAGE[1:]}
    averaged = tables.with_average(found)
    new = {name: scores["f1"] for name, scores in averaged.items() if name not in found}
    assert new == {
        "avg": 2.5,
        "avg 14": 6.5,
        "avg & noise=5": 102.5,
        "avg 14 & noise=5": 106.5,
        "avg & draw=1 & on=x": 202.5,
    }
    assert {name: averaged[name] for name in found} == found
    mixed = {c + (" & noise=5" if i % 2 else ""): {"f1": 0.0} for i, c in enumerate(FOURTEEN)}
    assert tables.with_average(mixed) == mixed
    noisy = [f"{c} & noise=5" for c in FOURTEEN]
    frame = tables.scores({"s": [record(tmp_path / "a", [1, -1], [1, 1], conditions=noisy)]})
    assert set(frame["condition"]) == {*noisy, "avg & noise=5", "avg 14 & noise=5"}


@pytest.mark.parametrize("tail", ["", " & draw=1", " & noise=5", " & draw=2 & noise=0.5 & on=synthetic-mosi"])
@pytest.mark.parametrize("condition", ["l", "a+v", "mr=0.3", "l & frames=0.5", "avg", "avg frames", "avg 14"])
def test_conditions_trials_and_averages_are_known(condition, tail):
    assert tables.check_condition(condition + tail) is None


UNKNOWN = [
    *["", "avg 13", "avg14", "average", "of 14", "x", "l+x", "mr=2"],
    *["avg & frames=0.5", "l & avg", "avg & avg 14", "avg 14 & seed=1", "avg &noise=1", " & noise=1"],
    *["avg 14 & noise=-1", "avg & draw=", "avg frames & on=x & draw=1", "l & noise=1 & draw=1", "avg 14 & noise=5 & l"],
]


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_is_neither_condition_nor_average_is_refused(text):
    with pytest.raises(BadInput, match=r"^unknown (condition|trial) .*\.$"):
        tables.check_condition(text)


def test_a_table_refuses_to_mix_masks(tmp_path):
    one, two = record(tmp_path / "a", [1], [1], mask="m0"), record(tmp_path / "b", [1], [1], mask="m1")
    with pytest.raises(BadInput, match="other masks of 'l'"):
        tables.scores({"one": [one], "two": [two]})


def test_intervals_are_t_intervals_over_seeds():
    """Against scipy's t distribution on the same values."""
    values = [70.0, 72.0, 69.0, 75.0]
    frame = pd.DataFrame(
        [("b", "s", i, "l", "f1", v) for i, v in enumerate(values)],
        columns=["benchmark", "system", "seed", "condition", "metric", "value"],
    )
    row = tables.summary(frame).iloc[0]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (row["mean"] - row["half"], row["mean"] + row["half"]) == pytest.approx((low, high))
    assert row["n"] == 4
    assert np.isnan(tables.summary(frame[:1]).iloc[0]["half"])


def test_paired_differences_use_shared_seeds_only():
    rows = [("b", "s", i, "l", "f1", 10.0 + i + (i == 3)) for i in range(4)]
    rows += [("b", "r", i, "l", "f1", 9.0 + i) for i in range(3)]
    frame = pd.DataFrame(rows, columns=["benchmark", "system", "seed", "condition", "metric", "value"])
    assert tables.paired(frame, "b", "s", "r", "l", "f1") == "1.00 ± 0.00 points (n = 3)"
    assert tables.paired(frame, "b", "s", "nobody", "l", "f1") == tables.ABSENT


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (70.126, 1.53, "70.1 ± 1.5"),
        (70.126, 0.04, "70.13 ± 0.04"),
        (0.1234, 0.004, "0.123 ± 0.004"),
        (70.1, 12.2, "70 ± 12"),
        (70.16, np.nan, "70.2"),
    ],
)
def test_decimals_are_those_the_interval_justifies(mean, half, text):
    assert tables.format_number(mean, half) == text


def made(tmp_path, conditions):
    systems = {"CorrKD": [record(tmp_path / "a", [1, -1, 2], [1, 1, -1], conditions=conditions)]}
    return Comparison(
        artefacts.printed("corrkd/table1"),
        tables.scores(systems),
        tables.floors(systems["CorrKD"]),
        datasets={"b": "MOSI"},
        columns=[*tables.INCOMPLETE, "avg", "l+a+v"],
        built={"CorrKD"},
        metric_names={"f1": "f1_weighted_nonzero"},
        measured_on={"b": "nothing real"},
    ).table()


def test_table_one_prints_every_system_and_says_what_is_not_built(tmp_path):
    table = made(tmp_path, [*PRINTED_AVERAGE, "l+a+v"])
    assert list(table.cells["system"][:8]) == ["Self-MM", "CubeMLP", "DMD", "MCTN", "TransM", "SMIL", "GCNet", "CorrKD"]
    assert list(table.cells["source, n = 1"]) == ["printed; not built"] * 7 + ["printed", "measured", "floor"]
    assert table.cells.iloc[7]["avg (six)"] == "74.69"
    assert "Rows built: 1 of 8 printed systems." in table.notes
    assert any("nothing real" in note for note in table.notes)


def test_what_the_data_cannot_show_is_not_available(tmp_path):
    cells = made(tmp_path, ["l", "a", "l+a"]).cells
    measured = cells[cells["source, n = 1"] == "measured"].iloc[0]
    assert list(measured[["v", "l+v", "avg (six)", "l+a+v"]]) == [tables.ABSENT] * 4


def test_a_table_is_written_as_markdown_latex_and_numbers(tmp_path):
    table = made(tmp_path, [*PRINTED_AVERAGE, "l+a+v"])
    artefacts.save_table(tmp_path / "out", "corrkd/table1", table, {"profile": "small"})
    assert (tmp_path / "out" / "table1.md").read_text().count("\n| ") == 11 - 1
    assert r"\begin{tabular}" in (tmp_path / "out" / "table1.tex").read_text()
    numbers = pd.read_csv(tmp_path / "out" / "table1.csv")
    assert set(numbers["source"]) == {"printed", "measured", "floor"}
    assert json.loads((tmp_path / "out" / "table1.json").read_text())["artefact"] == "corrkd/table1"


def test_printed_averages_follow_from_printed_cells():
    """All rows of CorrKD with an average: the mean of six cells, within half a unit of the last digit."""
    printed = pd.concat(artefacts.printed(f"corrkd/table{i}") for i in (1, 2, 3))
    checked = 0
    for _, rows in printed.groupby(["artefact", "dataset", "method", "variant", "metric"]):
        cells = rows.set_index("condition")["value"]
        unit = 10.0 ** -len(cells["avg"].split(".")[1])
        assert abs(cells[PRINTED_AVERAGE].astype(float).mean() - float(cells["avg"])) <= unit / 2 + 1e-9
        checked += 1
    assert checked == 52


def test_ablations_stand_under_their_own_names(tmp_path):
    """Table 3 prints variants of one method: each is a row, measured beside it where it is built."""
    ablated = {"CorrKD": "a", "w/o SCD": "b"}
    systems = {s: [record(tmp_path / f, [1, -1], [1, 1], conditions=PRINTED_AVERAGE)] for s, f in ablated.items()}
    table = Comparison(
        artefacts.printed("corrkd/table3"),
        tables.scores(systems),
        tables.floors(systems["CorrKD"]),
        datasets={"b": "MOSI"},
        columns=["avg"],
        built=set(ablated),
        metric_names={"f1": "f1_weighted_nonzero"},
        measured_on={"b": "nothing real"},
    ).table()
    printed = table.cells[table.cells["data"] == "MOSI"]
    assert dict(zip(printed["system"], printed["avg (six)"], strict=True)) == {
        "CorrKD": "74.69",
        "w/o SCD": "72.46",
        "w/o CPD": "71.81",
        "w/o RCD": "73.27",
    }
    assert list(printed["source, n = 1"]) == ["printed", "printed", "printed; not built", "printed; not built"]
    assert "Rows built: 2 of 4 printed systems." in table.notes


def test_each_metric_of_a_table_is_a_block_of_its_own(tmp_path):
    """Table 2: four emotions, each with its printed rows, what was measured, and its floor."""
    classes, y = ["happy", "sad"], np.array([0, 1, 1])
    said = np.eye(2, dtype=bool)[[0, 1, 0]]
    one = record(tmp_path / "a", [1], [1])
    found = metrics.score("classification", classes, y, said)
    one.__dict__["scores"] = {"l": {"mask": "m", "metrics": found}}
    floor = {"b": metrics.floor("classification", classes, y)}
    names = {f"f1_{c}": f"f1_weighted_{c}" for c in classes}
    shown = Comparison(
        artefacts.printed("corrkd/table2"),
        tables.scores({"CorrKD": [one]}),
        floor,
        {"b": "IEMOCAP"},
        ["l"],
        {"CorrKD"},
        names,
        {"b": "nothing real"},
    )
    systems = list(shown.table().cells["system"])
    assert len(systems) == 2 * (8 + 2)
    assert systems[7:10] == ["CorrKD, happy", "CorrKD, happy", "best constant, happy"]
    assert shown.table().cells.iloc[8]["l"] == f"{found['f1_weighted_happy']:.1f}"


def test_differences_are_paired_by_seed():
    rows = [
        ("b", s, i, "l", "f1", v) for s, vs in {"x": (3.0, 5.0), "y": (1.0, 4.0, 9.0)}.items() for i, v in enumerate(vs)
    ]
    frame = pd.DataFrame(rows, columns=["benchmark", "system", "seed", "condition", "metric", "value"])
    assert tables.differences(frame, "b", "x", "y", "l", "f1").tolist() == [2.0, 1.0]
    assert tables.differences(frame, "b", "x", "z", "l", "f1") is None
    apart = tables.minus(frame, "y")
    assert apart["value"].tolist() == [2.0, 1.0]
    assert set(apart["system"]) == {"x"}
    assert set(apart["benchmark"]) == {"b less y"}


def test_smoke_never_writes_into_figures(root):
    assert artefacts.folder("corrkd", "smoke").is_relative_to(root / "runs")
    assert artefacts.folder("corrkd", "small") == root / "figures" / "corrkd"
    assert artefacts.folder("corrkd", "paper") == root / "figures" / "corrkd" / "paper"


def test_unknown_artefacts_are_refused_with_the_known_ones():
    with pytest.raises(BadInput, match="corrkd/table1, corrkd/table2"):
        artefacts.check("corrkd/table9")
    assert artefacts.registry()["printed"].sum() == 67


def test_a_printed_interval_stands_beside_its_value():
    """MCUR prints intervals over seeds; a table of ours shows them as printed."""
    printed = artefacts.printed("mcur/table6")
    scores = [("synthetic-mosi", "MCUR", s, "avg 14", "acc_nonzero", 70.0 + s) for s in range(3)]
    frame = pd.DataFrame(scores, columns=["benchmark", "system", "seed", "condition", "metric", "value"])
    shown = Comparison(
        printed,
        frame,
        {"synthetic-mosi": {"acc_nonzero": 57.8}},
        {"synthetic-mosi": "MOSI"},
        ["avg 14"],
        {"MCUR"},
        {"acc": "acc_nonzero"},
        {"synthetic-mosi": "generated data"},
    ).table()
    assert shown.cells["avg (14)"].tolist() == ["73.50 ± 0.57", "71.0 ± 2.5", "57.8"]
    assert shown.numbers["value"].tolist()[0] == 73.5


# --- rows under each other stand on the same seeds ------------------------------------------------------------------


def of_seeds(system, values, benchmark="b", condition="avg"):
    """Scores of a system by seed: seed -> F1."""
    lines = [(benchmark, system, seed, condition, "f1_weighted_nonzero", value) for seed, value in values.items()]
    return pd.DataFrame(lines, columns=["benchmark", "system", "seed", "condition", "metric", "value"])


def beside(frame, less="", benchmarks=("b",), columns=("avg",)):
    """Table 3 of CorrKD beside some scores."""
    return Comparison(
        artefacts.printed("corrkd/table3"),
        frame,
        {b: {"f1_weighted_nonzero": 34.0} for b in benchmarks},
        datasets=dict.fromkeys(benchmarks, "MOSI"),
        columns=list(columns),
        built={"CorrKD", "w/o SCD"},
        metric_names={"f1": "f1_weighted_nonzero"},
        measured_on=dict.fromkeys(benchmarks, "nothing real"),
        less=less,
    ).table()


FULL = of_seeds("CorrKD", {0: 70.0, 1: 72.0, 2: 50.0})
PART = of_seeds("w/o SCD", {0: 69.0, 1: 70.0})


def test_rows_of_other_seeds_are_refused_with_a_way_out():
    """Mean 64 beside 69.5, where seed by seed the second is lower by 1.5."""
    frame = pd.concat([FULL, PART])
    with pytest.raises(BadInput, match=r"CorrKD under avg on 3 seeds beside w/o SCD under avg on 2: .*on_shared_seeds"):
        beside(frame)
    table = beside(tables.on_shared_seeds(frame, ["avg"]))
    measured = table.numbers[table.numbers["source"] == "measured"].set_index("system")
    assert measured["value"].to_dict() == {"CorrKD": 71.0, "w/o SCD": 69.5}
    assert measured["n"].tolist() == [2, 2]


def test_as_many_seeds_are_not_the_same_seeds():
    with pytest.raises(BadInput, match="same seeds"):
        beside(pd.concat([of_seeds("CorrKD", {0: 1.0, 1: 2.0}), of_seeds("w/o SCD", {0: 1.0, 2: 2.0})]))


def test_columns_of_other_seeds_are_refused():
    frame = pd.concat([FULL, of_seeds("CorrKD", {0: 60.0}, condition="l")])
    with pytest.raises(BadInput, match="CorrKD under l on 1"):
        beside(frame, columns=("avg", "l"))
    shared = tables.on_shared_seeds(frame, ["avg", "l"])
    assert set(shared["seed"]) == {0}
    assert set(tables.on_shared_seeds(frame, ["avg"])["seed"]) == {0, 1, 2}


def test_systems_without_a_seed_in_common_are_refused():
    with pytest.raises(BadInput, match="CorrKD, plain have no seed in common on b"):
        tables.on_shared_seeds(pd.concat([FULL, of_seeds("plain", {7: 1.0})]), ["avg"])


def test_other_benchmarks_may_have_other_seeds_and_each_says_how_many():
    other = of_seeds("CorrKD", {0: 70.0}, "c")
    frame = tables.on_shared_seeds(pd.concat([FULL, other]), ["avg"])
    cells = beside(frame, benchmarks=("b", "c")).cells
    assert list(cells["data"]) == ["MOSI"] * 4 + ["b, n = 3", "b", "c, n = 1", "c"]
    assert cells.columns[2] == "source"
    assert beside(FULL).cells.columns[2] == "source, n = 3"


def test_ablations_are_compared_with_the_full_method_seed_by_seed():
    frame = tables.on_shared_seeds(pd.concat([FULL, PART]), ["avg"])
    table = beside(frame, less="CorrKD")
    column = table.cells.set_index(["system", "source, n = 2"])["avg (six) minus CorrKD"]
    half = stats.t.ppf(0.975, 1) * np.std([-1.0, -2.0], ddof=1) / np.sqrt(2)
    assert column["w/o SCD", "measured"] == f"-1.5 ± {half:.1f}"
    assert column["w/o SCD", "printed"] == "-2.23"
    assert column["CorrKD", "measured"] == column["CorrKD", "printed"] == column["best constant", "floor"] == ""
    row = table.numbers[table.numbers["condition"] == "avg minus CorrKD"].iloc[0]
    assert (row["system"], row["value"], row["half"], row["n"]) == ("w/o SCD", -1.5, round(half, 4), 2)
    assert any("by seed" in note for note in table.notes)
