"""Metrics: against scikit-learn called in another way, and against the constants that the papers print."""

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    classification_report,
    confusion_matrix,
    f1_score,
    log_loss,
    mean_absolute_error,
    recall_score,
)

from mmkd_lib.data import metrics
from mmkd_lib.support.errors import BadInput

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
    report = classification_report(truth, said, output_dict=True)
    assert scores["acc_nonzero"] == pytest.approx(100 * report["accuracy"])
    assert scores["f1_weighted_nonzero"] == pytest.approx(100 * report["weighted avg"]["f1-score"])
    assert scores["f1_weighted_nonzero"] == pytest.approx(weighted_f1(truth, said))


SCORES = {"f1_weighted_nonzero", "acc_nonzero", "f1_weighted_nonneg", "acc_nonneg"}
SCORES |= {"acc7_rounded", "acc7_bins", "mae", "corr"}
BINARY = {"brier_binary", "nll_binary"}  # of yes-or-no questions: not of a prediction, of probabilities beside it


def test_scores_against_scikit_learn_and_scipy(rng):
    y = rng.integers(-6, 7, 500) / 2
    prediction = (y + rng.normal(0, 2, 500)).round(1)
    found = metrics.score("regression", (), y, prediction)
    assert found.keys() == SCORES
    truth, said = y >= 0, prediction >= 0
    assert found["acc_nonneg"] == pytest.approx(100 * accuracy_score(truth, said))
    assert found["f1_weighted_nonneg"] == pytest.approx(100 * f1_score(truth, said, average="weighted"))
    assert found["f1_weighted_nonneg"] != pytest.approx(found["f1_weighted_nonzero"])
    assert found["mae"] == pytest.approx(mean_absolute_error(y, prediction))
    assert found["corr"] == pytest.approx(stats.pearsonr(y, prediction).statistic)
    seven = [min(max(round(value), -3), 3) for value in prediction.tolist()]  # Python rounds halves to even, too
    assert found["acc7_rounded"] == pytest.approx(100 * accuracy_score([round(v) for v in y.tolist()], seven))
    assert found["acc7_bins"] == pytest.approx(
        100 * accuracy_score([official(v) for v in y], [official(v) for v in prediction])
    )


def official(score):
    """CMU-MOSEI's seven classes, interval by interval."""
    if score == 0:
        return 0
    for c, above in ((1, 0), (2, 1), (3, 2)):
        if above < abs(score) <= c:
            return c if score > 0 else -c
    return 3 if score > 0 else -3


def test_a_score_just_off_zero_leaves_class_zero_in_bins_only():
    values = np.array([-3.4, -3, -2.01, -1, -0.001, 0, 0.001, 0.5, 1, 1.5, 2.5, 9])
    assert metrics.binned(values).tolist() == [official(value) for value in values]
    assert metrics.rounded(values).tolist() == [-3, -3, -2, -1, 0, 0, 0, 0, 1, 2, 2, 3]


def test_signs_are_scored_as_signs_only(rng):
    """A system that tells polarity has no MAE: an integer prediction gives the metrics of signs, and the same ones."""
    y = rng.integers(-6, 7, 200) / 2
    scores = rng.normal(size=200)
    found = metrics.score("regression", (), y, np.sign(scores).astype(np.int8))
    assert found.keys() == {name for name in SCORES if "non" in name}
    assert found == {name: v for name, v in metrics.score("regression", (), y, scores).items() if "non" in name}


def test_correlation_of_a_constant_is_undefined():
    y = np.array([1.0, -1.0, 0.5])
    assert np.isnan(metrics.score("regression", (), y, np.full(3, 0.1))["corr"])
    assert np.isnan(metrics.score("regression", (), np.full(3, 0.1), y)["corr"])
    assert metrics.score("regression", (), y, -7 * y + 1)["corr"] == pytest.approx(-1)


def test_classes_against_scikit_learn(rng):
    y = rng.choice(4, 400, p=[0.1, 0.2, 0.3, 0.4])
    logits = rng.normal(size=(400, 4)) + 1.5 * (y[:, None] == range(4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    said = p.argmax(1)
    found = metrics.score("classification", EMOTIONS, y, p)
    assert found["wa"] == pytest.approx(100 * accuracy_score(y, said))
    assert found["ua"] == pytest.approx(100 * recall_score(y, said, average="macro"))
    assert found["ua"] == pytest.approx(100 * balanced_accuracy_score(y, said))
    assert found["wa"] != pytest.approx(found["ua"])
    assert found["f1_weighted"] == pytest.approx(100 * f1_score(y, said, average="weighted"))
    assert found["f1_macro"] == pytest.approx(100 * f1_score(y, said, average="macro"))
    assert found["nll"] == pytest.approx(log_loss(y, p))
    by_class = [brier_score_loss(y == c, p[:, c]) for c in range(4)]  # the sum over classes, not half of it
    assert found["brier"] == pytest.approx(sum(by_class))
    # the questions are answered by the most probable class
    answers = metrics.score("classification", EMOTIONS, y, np.eye(4, dtype=bool)[said])
    assert answers.items() <= found.items()
    assert found.keys() - answers.keys() == {"wa", "ua", "f1_weighted", "f1_macro", "brier", "nll", "ece"}


def test_calibration_error_against_scikit_learns_curve(rng):
    """The curve gives accuracy and confidence of the bins that are not empty; their shares come from a histogram."""
    y = rng.integers(3, size=900)
    p = rng.dirichlet([0.7] * 3, 900)
    surest, right = p.max(1), p.argmax(1) == y
    accuracy, confidence = calibration_curve(right, surest, n_bins=metrics.BINS, strategy="uniform")
    share = np.histogram(surest, np.linspace(0, 1, metrics.BINS + 1))[0] / 900
    expected = 100 * np.sum(share[share > 0] * np.abs(accuracy - confidence))
    assert metrics.score("classification", "abc", y, p)["ece"] == pytest.approx(expected)
    assert expected > 10


def test_a_class_that_never_occurs_is_no_part_of_the_mean_recall():
    y = np.array([0, 0, 1, 1])
    p = np.eye(3)[[0, 1, 1, 1]] * 0.8 + 0.2 / 3
    found = metrics.score("classification", "abc", y, p)
    assert found["ua"] == pytest.approx(75)
    assert found["f1_macro"] == pytest.approx(100 * f1_score(y, p.argmax(1), average="macro"))


def test_certain_and_wrong_is_very_bad_and_finite():
    found = metrics.score("classification", "ab", np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert 100 < found["nll"] < np.inf
    assert found["brier"] == 1
    assert found["ece"] == 50


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
    best = {"mae": 0, "corr": 1, "brier": 0, "nll": 0, "ece": 0}
    for scores in (
        metrics.score("classification", EMOTIONS, IEMOCAP, np.eye(4, dtype=bool)[IEMOCAP]),
        metrics.score("classification", EMOTIONS, IEMOCAP, np.eye(4)[IEMOCAP]),
        metrics.score("regression", (), MOSI, MOSI),
    ):
        assert scores == pytest.approx({name: best.get(name, 100) for name in scores})


@pytest.mark.parametrize(("constant", "acc", "f1"), [(1.0, 42.23, 25.07), (-1.0, 57.77, 42.31), (0.0, 57.77, 42.31)])
def test_constants_on_mosi_score_what_papers_print(constant, acc, f1):
    scores = metrics.score("regression", (), MOSI, np.full(len(MOSI), constant))
    assert scores["acc_nonzero"] == pytest.approx(acc, abs=0.005)
    assert scores["f1_weighted_nonzero"] == pytest.approx(f1, abs=0.005)


def test_always_no_on_iemocap_scores_what_papers_print():
    scores = metrics.score("classification", EMOTIONS, IEMOCAP, np.zeros((len(IEMOCAP), 4), bool))
    printed = dict(zip(EMOTIONS, [78.97, 70.32, 65.37, 43.99], strict=True))
    for emotion, f1 in printed.items():
        assert scores[f"f1_weighted_{emotion}"] == pytest.approx(f1, abs=0.005)
    assert scores["acc_mean"] == pytest.approx(75.00)
    assert scores["f1_weighted_mean"] == pytest.approx(64.66, abs=0.005)


def test_floors_are_the_best_constants():
    floor = metrics.floor("regression", (), MOSI)
    assert floor.keys() == SCORES | BINARY
    assert floor["acc_nonzero"] == pytest.approx(57.77, abs=0.005)
    assert floor["f1_weighted_nonzero"] == pytest.approx(42.31, abs=0.005)
    assert floor["acc_nonneg"] == pytest.approx(100 * 379 / 686)  # the field's 55.2
    assert floor["acc7_rounded"] == floor["acc7_bins"] == pytest.approx(100 * 379 / 686)  # -0.8 is class -1
    assert floor["mae"] == pytest.approx(np.abs(MOSI + 0.8).mean())
    assert floor["corr"] == 0
    other = metrics.floor("regression", (), -MOSI)
    alike = [name for name in floor if "nonneg" not in name]  # which sign is the frequent one does not matter
    assert {name: other[name] for name in alike} == pytest.approx({name: floor[name] for name in alike})
    floor = metrics.floor("classification", EMOTIONS, IEMOCAP)
    assert floor["acc_mean"] == pytest.approx(75.00)
    assert floor["f1_weighted_mean"] == pytest.approx(64.66, abs=0.005)
    assert floor["acc_happy"] == pytest.approx(100 * (1 - 135 / 938))
    assert floor["wa"] == pytest.approx(100 * 383 / 938)
    assert floor["ua"] == pytest.approx(25)
    shares = np.array([135, 193, 227, 383]) / 938
    assert floor["nll"] == pytest.approx(stats.entropy(shares))
    assert floor["brier"] == pytest.approx(1 - (shares**2).sum())
    assert floor["ece"] == pytest.approx(0)
    always = f1_score(IEMOCAP, np.full(938, 3), average="weighted", zero_division=0)
    assert floor["f1_weighted"] == pytest.approx(100 * always)
    # Where most utterances are of one class, saying that class beats saying nothing.
    crowd = metrics.floor("classification", ("crowd", "rest"), np.repeat([0, 1], [90, 10]))
    assert crowd["acc_crowd"] == crowd["acc_rest"] == crowd["acc_mean"] == pytest.approx(90)


def test_the_floor_of_chances_is_the_share_of_yes():
    """No constant probability is better: of a positive score, and question by question of each class, where a hundred
    others are tried; by hand q (1 - q) and the entropy of q, q the share of yes."""
    tried = np.linspace(0, 1, 101)
    floor, q = metrics.floor("regression", (), MOSI), 277 / 656
    assert floor["brier_binary"] == pytest.approx(q * (1 - q))
    assert floor["nll_binary"] == pytest.approx(stats.entropy([q, 1 - q]))
    for p in tried:
        other = metrics.calibration("regression", MOSI, np.full((len(MOSI), 1), p))
        assert all(floor[name] < other[name] for name in BINARY)
    floor, shares = metrics.floor("classification", EMOTIONS, IEMOCAP), np.array([135, 193, 227, 383]) / 938
    assert floor["brier_binary"] == pytest.approx((shares * (1 - shares)).mean())
    assert floor["nll_binary"] == pytest.approx(np.mean([stats.entropy([s, 1 - s]) for s in shares]))
    for c in range(4):
        for p in tried:
            said = np.tile(np.where(np.arange(4) == c, p, shares), (938, 1))
            other = metrics.calibration("classification", IEMOCAP, said)
            assert all(floor[name] < other[name] for name in BINARY)


def test_the_floor_is_a_constants_whatever_it_is_called():
    """Where one class never occurs, or all labels have one sign, the share of yes is 0 or 1 and errs nowhere."""
    rest = metrics.floor("classification", ("a", "b", "c"), np.array([0, 0, 2, 2]))
    assert rest["brier_binary"] == pytest.approx((0.25 + 0 + 0.25) / 3)
    for y in (np.array([1.0, 0.0, 2.0]), np.array([-1.0, -3.0])):
        floor = metrics.floor("regression", (), y)
        assert floor["brier_binary"] == floor["nll_binary"] == 0


def test_chances_of_a_score_against_scikit_learn(rng):
    """Brier and log loss of "positive?" over what is not neutral, in double precision whatever comes in."""
    y, p = rng.integers(-6, 7, 500) / 2, rng.random(500)
    kept = y != 0
    assert 0 < kept.sum() < 500
    found = metrics.calibration("regression", y, p[:, None])
    assert found.keys() == BINARY
    assert found["brier_binary"] == pytest.approx(brier_score_loss(y[kept] > 0, p[kept]))
    assert found["nll_binary"] == pytest.approx(log_loss(y[kept] > 0, p[kept]))
    assert found["brier_binary"] != pytest.approx(brier_score_loss(y > 0, p))
    single = p[:, None].astype(np.float32)
    in_double = metrics.calibration("regression", y, single.astype(np.float64))
    assert metrics.calibration("regression", y.astype(np.float32), single) == in_double
    p[~kept] = rng.random((~kept).sum())  # whatever is said of neutral utterances
    assert metrics.calibration("regression", y, p[:, None]) == found
    y[~kept] = -0.0
    assert metrics.calibration("regression", y, p[:, None]) == found


def test_chances_of_classes_against_scikit_learn(rng):
    """The mean over the questions "is it this class?"; probabilities of one-vs-rest heads need not sum to 1."""
    y, p = rng.choice(4, 400, p=[0.1, 0.2, 0.3, 0.4]), rng.random((400, 4))
    found = metrics.calibration("classification", y, p)
    assert found["brier_binary"] == pytest.approx(np.mean([brier_score_loss(y == c, p[:, c]) for c in range(4)]))
    assert found["nll_binary"] == pytest.approx(np.mean([log_loss(y == c, p[:, c]) for c in range(4)]))
    single = p.astype(np.float32)
    in_double = metrics.calibration("classification", y, single.astype(np.float64))
    assert metrics.calibration("classification", y, single) == in_double
    shares = p / p.sum(1, keepdims=True)  # of one answer: the Brier score is the sum over classes, this the mean
    brier = metrics.score("classification", EMOTIONS, y, shares)["brier"]
    assert metrics.calibration("classification", y, shares)["brier_binary"] == pytest.approx(brier / 4)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_chances_of_0_and_1_are_bounded(kind):
    """Certain and right is perfect; certain and wrong is very bad and finite; in two tasks, without a warning."""
    y, right = np.array([1.0, -1.0, 0.0]), np.array([[1], [0], [1]], kind)
    assert metrics.calibration("regression", y, right) == {"brier_binary": 0, "nll_binary": 0}
    wrong = metrics.calibration("regression", y, 1 - right)
    assert wrong["brier_binary"] == 1
    assert 100 < wrong["nll_binary"] < np.inf
    eye = np.eye(2, dtype=kind)
    assert metrics.calibration("classification", np.array([0, 1]), eye) == {"brier_binary": 0, "nll_binary": 0}
    half = metrics.calibration("classification", np.array([0, 0]), eye)
    assert half["brier_binary"] == 0.5
    assert half["nll_binary"] == pytest.approx(wrong["nll_binary"] / 2)


def test_chances_of_nobody_are_nan_without_a_warning():
    """No utterance, or neutral ones only; the floor too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [
            metrics.calibration("regression", np.zeros(0), np.zeros((0, 1))),
            metrics.calibration("regression", np.zeros(3), np.full((3, 1), 0.5)),
            metrics.calibration("classification", np.zeros(0, int), np.zeros((0, 4))),
        ]
        floor = metrics.floor("regression", (), np.zeros(3))
    for scores in (*found, {name: floor[name] for name in sorted(BINARY)}):
        assert scores.keys() == BINARY
        assert all(np.isnan(value) for value in scores.values())
    assert floor["mae"] == 0


def test_lower_is_better_in_chances_and_they_are_not_per_cent():
    for name in sorted(BINARY):
        assert metrics.better(name) is min
        assert name in metrics.NOT_PER_CENT


def test_no_utterance_left_is_nan_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neutral = metrics.score("regression", (), np.zeros(3), np.ones(3))
        nobody = metrics.score("classification", EMOTIONS, np.zeros(0, int), np.zeros((0, 4), bool))
        nothing = metrics.score("classification", EMOTIONS, np.zeros(0, int), np.zeros((0, 4)))
        silence = metrics.score("regression", (), np.zeros(0), np.zeros(0))
        floors = metrics.floor("regression", (), np.zeros(0)), metrics.floor("classification", "ab", np.zeros(0, int))
    assert {name for name, value in neutral.items() if np.isnan(value)} == {
        "acc_nonzero",
        "f1_weighted_nonzero",
        "corr",
    }
    for scores in (nobody, nothing, silence, *floors):
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
    with pytest.raises(BadInput, match=sentence):
        metrics.calibration(name, MOSI, MOSI[:, None])


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
