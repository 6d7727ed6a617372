"""`mmkd score`: predictions of others, from three kinds of files, scored, explained, or refused in one sentence."""

import re

import numpy as np
import pandas as pd
import pytest

from mmkd_lib import cli
from mmkd_lib.data import metrics
from mmkd_lib.results import scoring, tables
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import run
from mmkd_lib.support.errors import BadInput

Y = np.array([-2.0, -0.5, 0.0, 0.5, 1.0, 3.0])
SAID = np.array([-1.0, 0.5, 0.0, 0.2, 1.4, 2.0])
CLASSES = np.array([0, 1, 2, 1])
SHARES = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.5, 0.2, 0.3], [0.1, 0.8, 0.1]])
NAMES = ["sad", "happy", "calm"]


def one(path):
    [found] = scoring.read(path).values()
    return found


def test_scores_from_csv_and_npz(tmp_path):
    pd.DataFrame({"id": list("abcdef"), "label": Y, "prediction": SAID}).to_csv(tmp_path / "x.csv", index=False)
    np.savez(tmp_path / "x.npz", y=Y, prediction=SAID)
    for name in ("x.csv", "x.npz"):
        task, classes, y, prediction = one(tmp_path / name)
        assert (task, classes) == ("regression", ())
        np.testing.assert_array_equal(y, Y)
        np.testing.assert_array_equal(prediction, SAID)


def test_probabilities_from_csv_and_npz(tmp_path):
    frame = pd.DataFrame(SHARES, columns=NAMES).assign(label=np.array(NAMES)[CLASSES], id=range(4))
    frame.to_csv(tmp_path / "x.csv", index=False)
    np.savez(tmp_path / "x.npz", y=CLASSES, prediction=SHARES, classes=np.array(NAMES))
    for name in ("x.csv", "x.npz"):
        task, classes, y, prediction = one(tmp_path / name)
        assert (task, classes) == ("classification", tuple(NAMES))
        assert y.tolist() == CLASSES.tolist()
        np.testing.assert_array_equal(prediction, SHARES)


def test_answers_from_csv_and_npz(tmp_path):
    """Class names said, in any order of classes; class numbers; one-vs-rest answers."""
    said = ["happy", "happy", "sad", "happy"]
    pd.DataFrame({"label": np.array(NAMES)[CLASSES], "prediction": said}).to_csv(tmp_path / "x.csv", index=False)
    task, classes, y, prediction = one(tmp_path / "x.csv")
    assert (task, classes) == ("classification", ("calm", "happy", "sad"))
    assert [classes[c] for c in y] == [NAMES[c] for c in CLASSES]
    assert [classes[c] for c in prediction.argmax(1)] == said
    np.savez(tmp_path / "n.npz", y=CLASSES, prediction=np.array([1, 1, 0, 1]), classes=np.array(NAMES))
    np.savez(tmp_path / "b.npz", y=CLASSES, prediction=np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 1, 0]], bool))
    assert {"wa", "ua", "f1_weighted", "f1_macro"} <= set(scoring.table(*one(tmp_path / "n.npz")).index)
    assert "nll" not in scoring.table(*one(tmp_path / "n.npz")).index
    assert "wa" not in scoring.table(*one(tmp_path / "b.npz")).index  # several answers, or none, are not one
    assert scoring.table(*one(tmp_path / "n.npz")).loc["wa", "value"] == 50
    assert one(tmp_path / "n.npz")[3].dtype == bool
    assert one(tmp_path / "n.npz")[3].argmax(1).tolist() == [1, 1, 0, 1]
    assert one(tmp_path / "b.npz")[3].sum() == 4


def test_a_table_as_people_write_it(tmp_path):
    """pandas' index column, blanks after commas, a class that is called NA, probabilities beside the answer."""
    frame = pd.DataFrame(SHARES, columns=["NA", "happy", "calm"])
    frame.insert(0, "label", np.array(frame.columns)[CLASSES])
    frame["prediction"] = "happy"
    frame.to_csv(tmp_path / "x.csv")
    text = (tmp_path / "x.csv").read_text().replace(",", ", ")
    (tmp_path / "x.csv").write_text(text)
    task, classes, y, prediction = one(tmp_path / "x.csv")
    assert (task, classes) == ("classification", ("NA", "happy", "calm"))
    assert y.tolist() == CLASSES.tolist()
    np.testing.assert_allclose(prediction, SHARES)


def test_a_run_record_is_scored_under_every_condition_as_it_was(store):
    [record] = run(plan("corrkd", "synthetic-iemocap", "smoke", [0], "plain"), ["l", "l+a+v"], store=store)
    found = scoring.read(record.folder)
    assert list(found) == ["l", "l+a+v"]
    for condition, predicted in found.items():
        table, kept = scoring.table(*predicted), record.scores[condition]["metrics"]
        for name, row in table.iterrows():
            assert row["value"] == pytest.approx(kept[name], abs=1e-5), name
            assert row["floor"] == pytest.approx(record.environment["data"]["floor"][name], abs=1e-5), name


@pytest.mark.parametrize(
    ("task", "classes", "y", "prediction"),
    [("regression", (), Y, SAID), ("classification", tuple(NAMES), CLASSES, SHARES)],
)
def test_every_metric_has_its_floor_and_its_explanation(task, classes, y, prediction):
    found = scoring.table(task, classes, y, prediction, explained=True)
    assert list(found.index) == list(metrics.score(task, classes, y, prediction))
    assert found["floor"].notna().all()
    assert (found["what"].str.len() > 10).all()
    assert (found["who"].str.len() > 3).all()


def test_every_explanation_is_of_a_metric():
    names = {*metrics.score("regression", (), Y, SAID), *metrics.score("classification", NAMES, CLASSES, SHARES)}
    assert {next(e for e in scoring.EXPLAINED.values() if e == scoring.explain(n))[0] for n in names} == {
        what for what, _ in scoring.EXPLAINED.values()
    }
    assert scoring.explain("f1_weighted_mean") != scoring.explain("f1_weighted_happy") != scoring.explain("f1_weighted")


# metric -> (unit, whether less is better); typed from the metrics' definitions
ORACLE = {
    "f1_weighted_nonzero": ("per cent", False),
    "acc_nonzero": ("per cent", False),
    "f1_weighted_nonneg": ("per cent", False),
    "acc_nonneg": ("per cent", False),
    "acc7_rounded": ("per cent", False),
    "acc7_bins": ("per cent", False),
    "mae": ("points of the score", True),
    "corr": ("correlation", False),
    "wa": ("per cent", False),
    "ua": ("per cent", False),
    "f1_weighted": ("per cent", False),
    "f1_macro": ("per cent", False),
    "f1_weighted_mean": ("per cent", False),
    "acc_mean": ("per cent", False),
    **{f"{name}_{label}": ("per cent", False) for name in ("f1_weighted", "acc") for label in NAMES},
    "brier": ("0 to 2", True),
    "nll": ("nats", True),
    "ece": ("per cent", True),
}
# how an explanation may speak of a unit; what it does not speak of is per cent
IN_WORDS = {
    "per cent": r"per ?cent|%",
    "points of the score": r"points?\b",
    "correlation": r"\bcorrelation",
    "0 to 2": r"0 to 2",
    "nats": r"\bnats?\b",
}
COMPUTED = metrics.score("regression", (), Y, SAID) | metrics.score("classification", NAMES, CLASSES, SHARES)


def units_in(text):
    return {unit for unit, words in IN_WORDS.items() if re.search(words, text)}


def test_the_oracle_knows_every_metric():
    assert set(ORACLE) == set(COMPUTED)


@pytest.mark.parametrize("name", ORACLE)
def test_an_explanation_says_the_unit_of_its_metric_and_which_way_is_better(name):
    unit, less_is_better = ORACLE[name]
    what, _ = scoring.explain(name)
    assert units_in(what) - {"per cent"} == {unit} - {"per cent"}, what
    assert unit == "per cent" or "per cent" not in units_in(what), what
    assert ("lower is better" in what) == less_is_better, what
    assert (name in metrics.LOWER_IS_BETTER) == less_is_better
    assert (name in metrics.NOT_PER_CENT) == (unit != "per cent")


def test_right_answers_score_100_per_cent_and_the_best_of_every_other_unit():
    right = metrics.score("regression", (), Y, Y) | metrics.score("classification", NAMES, CLASSES, np.eye(3)[CLASSES])
    for name, (unit, less_is_better) in ORACLE.items():
        expected = 0 if less_is_better else 100 if unit == "per cent" else 1
        assert right[name] == pytest.approx(expected, abs=1e-12), name


def test_units_are_those_of_the_values():
    """By hand, on four answers: a share of right answers, of a point, of a nat."""
    y, said = np.array([1.0, 1.0, 1.0, -1.0]), np.array([1.0, 2.0, -1.0, -1.0])
    found = metrics.score("regression", (), y, said)
    assert found["acc_nonzero"] == 75
    assert found["mae"] == 0.75
    assert metrics.score("regression", (), 2 * y, 2 * said)["mae"] == 1.5  # twice the points
    p = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [1.0, 0.0]])
    found = metrics.score("classification", ["a", "b"], np.array([0, 1, 0, 1]), p)
    assert found["wa"] == 50
    assert found["brier"] == pytest.approx((3 * 0.5 + 2) / 4)
    found = metrics.score("classification", ["a", "b"], np.array([0, 1, 0, 0]), p)
    assert found["nll"] == pytest.approx(0.75 * np.log(2))


@pytest.mark.parametrize("name", ORACLE)
def test_a_difference_is_told_in_the_unit_of_its_metric(name):
    rows = [("b", system, 0, "l", name, value) for system, value in (("one", 3.0), ("other", 1.0))]
    frame = pd.DataFrame(rows, columns=["benchmark", "system", "seed", "condition", "metric", "value"])
    told = tables.paired(frame, "b", "one", "other", "l", name)
    assert told == ("2.0 points (n = 1)" if ORACLE[name][0] == "per cent" else f"2.000 {name} (n = 1)")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "is no table"),
        ("a,b\n1,2\n", "columns a, b"),
        ("label\n1\n", "columns label"),
        ("label,prediction\n1,\n", "missing"),
        ("label,prediction\n1,x\n", "missing"),
        ("label,prediction\n", "do not belong together"),
        ("label,prediction\nhappy,happy\nsad,\n", "missing"),
        ("label,prediction\n0,0\n1,1\n2,3\n", "name the classes"),
        ("label,happy,sad\nhappy,1.4,-0.4\n", "negative"),
        ("label,mean,sad\nsad,0.4,0.6\n", "none of them 'mean'"),
        ("label,happy,sad\nhappy,0.4,0.4\n", "do not sum to 1"),
        ("label,happy,sad\ncalm,0.5,0.5\n", "the label 'calm'"),
        (b"\xff\xfe\x00", "is no table"),
    ],
)
def test_a_csv_that_cannot_be_scored_is_refused(tmp_path, content, named):
    path = tmp_path / "x.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(path, named)


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"y": Y}, "holds y, not y and prediction"),
        ({"y": Y, "prediction": SAID[:3]}, "do not belong together"),
        ({"y": Y[:0], "prediction": SAID[:0]}, "do not belong together"),
        ({"y": Y, "prediction": np.full(6, np.nan)}, "NaN"),
        ({"y": Y, "prediction": np.array(list("abcdef"))}, "no numbers"),
        ({"y": CLASSES + 1, "prediction": SHARES}, "no numbers of the 3 classes"),
        ({"y": CLASSES * 1.0, "prediction": SHARES}, "no numbers of the 3 classes"),
        ({"y": CLASSES, "prediction": SHARES, "classes": np.array(["a", "b"])}, "do not fit 2 classes"),
        ({"y": CLASSES, "prediction": SHARES * 2}, "do not sum to 1"),
        ({"y": CLASSES, "prediction": CLASSES}, "name the classes"),
        ({"y": CLASSES, "prediction": CLASSES + 5, "classes": np.array(NAMES)}, "predictions are no numbers"),
        ({"y": CLASSES, "prediction": SHARES, "classes": np.array(["a", "a", "b"])}, "different names"),
        ({"y": CLASSES, "prediction": SHARES, "classes": np.array("a")}, "do not fit 1 classes"),
        ({"y": CLASSES, "prediction": np.array(3)}, "do not belong together"),
    ],
)
def test_an_npz_that_cannot_be_scored_is_refused(tmp_path, arrays, named):
    np.savez(tmp_path / "x.npz", **arrays)
    refused(tmp_path / "x.npz", named)


def refused(path, named):
    with pytest.raises(BadInput) as caught:
        scoring.read(path)
    assert re.search(named, str(caught.value))
    assert "\n" not in str(caught.value)
    assert "`label` and `prediction`" in str(caught.value)  # the way out


def test_what_is_not_there_is_refused(tmp_path):
    refused(tmp_path / "x.csv", "there is no")
    refused(tmp_path, "no run record")


def test_the_command_prints_values_floors_and_on_wish_explanations(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", y=Y, prediction=SAID)
    cli.data.score(tmp_path / "x.npz", explain=False)
    plain = capsys.readouterr().out
    assert "x.npz: 6 utterances, regression" in plain
    assert re.search(r"mae +0\.\d{3}   floor +1\.\d{3}", plain)
    assert "used:" not in plain
    cli.data.score(tmp_path / "x.npz", explain=True)
    explained = capsys.readouterr().out
    assert explained.count("used:") == 8
    [what] = re.findall(r"^  mae .*\n +(.*)$", explained, re.MULTILINE)
    assert what == "mean absolute error, points of the score; lower is better"
