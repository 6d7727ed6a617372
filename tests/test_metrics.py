"""Metrics: against scikit-learn called in another way, and against the constants that the papers print."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, classification_report, confusion_matrix

from mmkd_lib import metrics
from mmkd_lib.errors import BadInput

EMOTIONS = ("happy", "sad", "angry", "neutral")

# The field's test sets by their counts: what a constant predictor scores depends on nothing else.
MOSI = np.repeat([1.4, -0.8, 0.0], [277, 379, 30])
IEMOCAP = np.repeat(range(4), [135, 193, 227, 383])


def weighted_f1(truth, said):
    """Support-weighted F1 over both answers, in per cent, from the counts."""
    total = 0.0
    for answer in (False, True):
        hit = sum(t == answer and s == answer for t, s in zip(truth, said, strict=True))
        support, claims = sum(t == answer for t in truth), sum(s == answer for s in said)
        total += support * (2 * hit / (support + claims) if support + claims else 0)
    return 100 * total / len(truth)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_regression_compares_signs_where_the_label_is_not_zero(rng):
    y = rng.integers(-6, 7, 500) / 2
    prediction = (y + rng.normal(0, 2, 500)).round(1)
    kept = [(label > 0, value > 0) for label, value in zip(y, prediction, strict=True) if label]
    assert len(kept) < 500
    truth, said = zip(*kept, strict=True)
    scores = metrics.score("regression", (), y, prediction)
    assert scores.keys() == {"f1_weighted_nonzero", "acc_nonzero"}
    report = classification_report(truth, said, output_dict=True)
    assert scores["acc_nonzero"] == pytest.approx(100 * report["accuracy"])
    assert scores["f1_weighted_nonzero"] == pytest.approx(100 * report["weighted avg"]["f1-score"])
    assert scores["f1_weighted_nonzero"] == pytest.approx(weighted_f1(truth, said))


def test_neutral_labels_do_not_count():
    """Whatever is predicted where the label is 0 changes nothing."""
    y = np.array([1.0, -2.0, 0.0, 0.0])
    for neutral in (-1.0, 0.0, 1.0):
        prediction = np.array([0.3, -0.1, neutral, neutral])
        assert metrics.score("regression", (), y, prediction)["acc_nonzero"] == 100


def test_a_prediction_of_zero_is_negative():
    scores = metrics.score("regression", (), np.array([1.0, -1.0, -1.0, -1.0]), np.zeros(4))
    assert scores["acc_nonzero"] == 75
    # Three of three negatives found, one wrong claim: F1 of "negative" is 6/7 at support 3, of "positive" 0.
    assert scores["f1_weighted_nonzero"] == pytest.approx(100 * 6 / 7 * 3 / 4)


@pytest.mark.parametrize("several", [False, True])
def test_classification_asks_one_question_per_class(rng, several):
    """One class said per utterance, or any number of classes (none included) with one-vs-rest heads."""
    y = rng.choice(4, 300, p=[0.1, 0.2, 0.3, 0.4])
    right = np.eye(4, dtype=bool)[np.where(rng.random(300) < 0.6, y, rng.integers(4, size=300))]
    prediction = right ^ (rng.random((300, 4)) < 0.2) if several else right
    assert (len(set(prediction.sum(1))) > 1) == several
    scores = metrics.score("classification", EMOTIONS, y, prediction)
    accuracies, f1s = [], []
    for c, emotion in enumerate(EMOTIONS):
        (true_no, false_yes), (false_no, true_yes) = confusion_matrix(y == c, prediction[:, c])
        accuracies.append(100 * (true_no + true_yes) / 300)
        f1s.append(weighted_f1(y == c, prediction[:, c]))
        assert scores[f"acc_{emotion}"] == pytest.approx(accuracies[-1])
        assert scores[f"f1_weighted_{emotion}"] == pytest.approx(f1s[-1])
        assert false_yes + false_no > 0
        assert accuracies[-1] != pytest.approx(100 * balanced_accuracy_score(y == c, prediction[:, c]))
    assert scores["acc_mean"] == pytest.approx(sum(accuracies) / 4)
    assert scores["f1_weighted_mean"] == pytest.approx(sum(f1s) / 4)
    assert len(scores) == 10


def test_perfect_predictions_score_a_hundred():
    scores = metrics.score("classification", EMOTIONS, IEMOCAP, np.eye(4, dtype=bool)[IEMOCAP])
    assert set(scores.values()) == {100}
    assert set(metrics.score("regression", (), MOSI, MOSI).values()) == {100}


@pytest.mark.parametrize(("constant", "acc", "f1"), [(1.0, 42.23, 25.07), (-1.0, 57.77, 42.31), (0.0, 57.77, 42.31)])
def test_constants_on_mosi_score_what_papers_print(constant, acc, f1):
    scores = metrics.score("regression", (), MOSI, np.full(len(MOSI), constant))
    assert scores == pytest.approx({"acc_nonzero": acc, "f1_weighted_nonzero": f1}, abs=0.005)


def test_always_no_on_iemocap_scores_what_papers_print():
    scores = metrics.score("classification", EMOTIONS, IEMOCAP, np.zeros((len(IEMOCAP), 4), bool))
    printed = dict(zip(EMOTIONS, [78.97, 70.32, 65.37, 43.99], strict=True))
    for emotion, f1 in printed.items():
        assert scores[f"f1_weighted_{emotion}"] == pytest.approx(f1, abs=0.005)
    assert scores["acc_mean"] == pytest.approx(75.00)
    assert scores["f1_weighted_mean"] == pytest.approx(64.66, abs=0.005)


def test_floors_are_the_best_constants():
    floor = metrics.floor("regression", (), MOSI)
    assert floor == pytest.approx({"acc_nonzero": 57.77, "f1_weighted_nonzero": 42.31}, abs=0.005)
    assert metrics.floor("regression", (), -MOSI) == pytest.approx(floor)
    floor = metrics.floor("classification", EMOTIONS, IEMOCAP)
    assert floor["acc_mean"] == pytest.approx(75.00)
    assert floor["f1_weighted_mean"] == pytest.approx(64.66, abs=0.005)
    assert floor["acc_happy"] == pytest.approx(100 * (1 - 135 / 938))
    # Where most utterances are of one class, saying that class beats saying nothing.
    crowd = metrics.floor("classification", ("crowd", "rest"), np.repeat([0, 1], [90, 10]))
    assert crowd["acc_crowd"] == crowd["acc_rest"] == crowd["acc_mean"] == pytest.approx(90)


def test_no_utterance_left_is_nan_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neutral = metrics.score("regression", (), np.zeros(3), np.ones(3))
        nobody = metrics.score("classification", EMOTIONS, np.zeros(0, int), np.zeros((0, 4), bool))
        floors = metrics.floor("regression", (), np.zeros(3))
    for scores in (neutral, nobody, floors):
        assert scores
        assert all(np.isnan(value) for value in scores.values())


def test_main_metric_is_one_that_is_scored():
    assert metrics.main_metric("regression") in metrics.score("regression", (), MOSI, MOSI)
    predicted = np.eye(4, dtype=bool)[IEMOCAP]
    assert metrics.main_metric("classification") in metrics.score("classification", EMOTIONS, IEMOCAP, predicted)


@pytest.mark.parametrize("name", ["ranking", "", None])
def test_an_unknown_task_is_refused(name):
    sentence = rf"^unknown task {name!r}: choose one of regression, classification\.$"
    with pytest.raises(BadInput, match=sentence):
        metrics.score(name, (), MOSI, MOSI)
    with pytest.raises(BadInput, match=sentence):
        metrics.floor(name, (), MOSI)
    with pytest.raises(BadInput, match=sentence):
        metrics.main_metric(name)


def test_a_sample_holds_at_most_so_many_of_each_group():
    y = np.repeat([0, 1, 2], [5, 50, 200])
    rows = metrics.sample_per_group(y, 30)
    assert np.bincount(y[rows]).tolist() == [5, 30, 30]
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, metrics.sample_per_group(y, 30))


def test_groups_are_classes_or_signs():
    assert metrics.groups("regression", np.array([-2.5, 0.0, 0.5])).tolist() == [-1, 0, 1]
    assert metrics.groups("classification", np.array([2, 0])).tolist() == [2, 0]


def test_silhouette_by_hand():
    """Two groups on a line: (b - a) / max(a, b) of each point, averaged; undefined for one group."""
    points, group = np.array([[0.0], [1.0], [10.0]]), np.array([0, 0, 1])
    by_hand = np.mean([(10 - 1) / 10, (9 - 1) / 9, 0.0])  # a point alone in its group counts 0
    assert metrics.silhouette(points, group) == pytest.approx(by_hand)
    assert np.isnan(metrics.silhouette(points, np.zeros(3)))


def test_agreement_is_of_the_polarity_or_the_one_class():
    truth = np.array([-1.0, 0.0, 2.0, 3.0])
    assert metrics.agreement("regression", truth, np.array([-0.2, 5.0, -1.0, 0.1])) == pytest.approx(200 / 3)
    said = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], bool)
    assert metrics.agreement("classification", np.array([0, 0, 0, 1]), said) == 50  # two classes said are no answer
