"""Trials: what a network is shown with other masks, with noise, or of another benchmark; what records keep of it."""

import json

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import brier_score_loss, log_loss

from mmkd_lib.data import benchmarks, metrics
from mmkd_lib.data.missing import Trial, frozen_mask
from mmkd_lib.data.synthetic import worlds
from mmkd_lib.runs import recording, trials
from mmkd_lib.runs.damage import damage
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import run
from mmkd_lib.runs.trials import transferred
from mmkd_lib.support.errors import BadInput
from mmkd_lib.training.cohort import Cohort
from mmkd_lib.training.evaluation import outputs
from mmkd_lib.training.stack import Stack

BINARY = {"brier_binary", "nll_binary"}
QUICK = {"epochs": 1}


def experiment(name, method="corrkd", seed=0, fold=None, options=(), **settings):
    """One tiny experiment of a benchmark, for one of its folds where it has some."""
    planned = plan(method, name, "smoke", [seed], "plain", options, settings=QUICK | settings)
    return next(e for e in planned if e.fold == fold)


def group_of(*said, **settings):
    return Cohort([experiment(*said, **settings)], "cpu")


def offered(group, trial="l+a+v"):
    """The test part as a trial shows it, as evaluation asks for it."""
    wish = Trial.parse(trial, group.utterances.modalities)
    return trials.Tested(group, wish.draw, wish.noise, wish.on)


def mask(group, trial):
    return offered(group, trial).mask(Trial.parse(trial, group.utterances.modalities))


def shown(group, trial):
    """The batch that reaches the network: the pool of the trial under its mask."""
    pool, rows = offered(group, trial).shown
    frames = mask(group, trial).frames
    return pool.take(rows).show(frames)


def same(one, other):
    """Whether two batches are equal, tensor by tensor."""
    fields = zip(one[:3], other[:3], strict=True)
    return torch.equal(one.y, other.y) and all(torch.equal(a[m], b[m]) for a, b in fields for m in one.modalities)


# ------------------------------------------------------------------ files, written by literal code

WIDE = {"widths": {"l": 5, "a": 4, "v": 3}, "steps": {"l": 4, "a": 6, "v": 1}}
NARROW = {"widths": {"l": 3, "a": 4, "v": 2}, "steps": {"l": 6, "a": 3, "v": 1}}
CLASSES = {"task": "classification", "classes": ["sad", "happy"]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that MMKD_DATA names."""
    path = tmp_path / "data"
    path.mkdir()
    monkeypatch.setenv("MMKD_DATA", str(path))
    return path


def written(folder, name, widths, steps, n=40, seed=0, folds=False, absent="", says=()):
    """An mmkd-npz/1 file of n utterances; columns of unequal mean and deviation, the first of `a` constant; some
    utterances lack a modality, all of them those `absent`. Returns its arrays; what stands in padding is not zero."""
    rng = np.random.default_rng(seed)
    arrays = {"y": (rng.integers(-6, 7, n) / 2).astype(np.float32)}
    for m, d in widths.items():
        arrays[f"x_{m}"] = rng.normal(2 + np.arange(d), 1 + np.arange(d), (n, steps[m], d)).astype(np.float32)
        arrays[f"len_{m}"] = rng.integers(1 if m == "l" else 0, steps[m] + 1, n) * (m not in absent)
    arrays["x_a"][..., 0] = 0.5
    arrays["split"] = np.repeat(["train", "valid", "test"], [n // 2, n // 4, n - n // 2 - n // 4])
    arrays["id"] = arrays["group"] = np.array([f"u{i}" for i in range(n)])
    if folds:
        arrays["fold"] = np.arange(n) % 3
    says = {"task": "regression", "score_range": [-3, 3]} | dict(says)
    if says["task"] == "classification":
        arrays["y"] = rng.integers(0, len(says["classes"]), n)
        del says["score_range"]
    np.savez(folder / f"{name}.npz", **arrays, meta=np.array(json.dumps({"format": "mmkd-npz/1"} | says)))
    return arrays


def existing(arrays, m, rows):
    """(n, T) bool: the frames that utterances have."""
    return np.arange(arrays[f"x_{m}"].shape[1]) < arrays[f"len_{m}"][rows][:, None]


def in_units_of(source, train, other, test, m, standardise=True):
    """What a network of `source` is shown of `other` in one modality, by numpy: (n, T, d) of the source's columns."""
    x, there = other[f"x_{m}"][test].astype(np.float64), existing(other, m, test)
    wide = np.zeros((*x.shape[:2], source[f"x_{m}"].shape[2]))
    wide[..., : x.shape[2]] = x
    if standardise:
        known = source[f"x_{m}"][train][existing(source, m, train)].astype(np.float64)
        deviation = known.std(0)
        scaled = (wide - known.mean(0)) / np.where(deviation > 1e-8, deviation, 1)
        wide = np.where(deviation > 1e-8, scaled, 0)
    return wide * there[..., None]


def agrees(found, expected, there, m):
    """Shown features against the oracle's: equal on its frames, nothing beyond them."""
    longest = expected.shape[1]
    np.testing.assert_allclose(found.x[m][:, :longest].numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.valid[m][:, :longest].numpy(), there)
    np.testing.assert_array_equal(found.frames[m].numpy(), found.valid[m].numpy())
    assert not found.x[m][:, longest:].any()
    assert not found.valid[m][:, longest:].any()


# ------------------------------------------------------------------ the plain trial

CONDITIONS = ["l", "a+v", "l+a+v", "frames=0.5", "moments=0.3", "mr=0.4", "l+a & frames=0.2 & mr=0.1"]


@pytest.mark.parametrize("name", ["synthetic-mosi", "synthetic-iemocap-unaligned", "a file", "a fold"])
def test_a_plain_trial_shows_what_the_group_has(folder, name):
    """The test part of the group, bit for bit, and everybody's masks: the whole split, and one fold of three."""
    fold = 1 if name == "a fold" else None
    if name in ("a file", "a fold"):
        written(folder, "file", **WIDE, folds=fold is not None)
        name = "file"
    group = group_of(name, fold=fold)
    [rows] = group.indices("test")
    pool, numbers = offered(group).shown
    assert same(pool, group.utterances.take(rows))
    assert numbers.tolist() == [list(range(len(rows)))]
    for condition, usual in zip(CONDITIONS, group.masks(CONDITIONS, "test"), strict=True):
        drawn, data = mask(group, condition), group.data[0]
        assert all(torch.equal(drawn.frames[m], usual[m]) for m in usual)
        known = frozen_mask(condition, data.batch, data.rows("test", fold), data.mask_key)
        assert (drawn.hash, drawn.realised) == (known.hash, known.realised)
        assert same(shown(group, condition), group.utterances.take(rows.unsqueeze(0)).show(usual))
    assert not offered(group).elsewhere


@pytest.mark.parametrize(("name", "method", "fold"), [("synthetic-mosi", "corrkd", None), ("file", "mcur", 2)])
def test_records_hold_the_predictions_they_held_before(folder, store, name, method, fold):
    """Under conditions a record's logits, labels, scores and representations are those of the group's own rows and
    masks, as if there were no trials."""
    written(folder, "file", **WIDE, folds=True)
    wish = experiment(name, method, fold=fold)
    [record] = run([wish], CONDITIONS, ["l", "mr=0.4"], store=store)
    group = Cohort([wish], "cpu")
    module, data = group.build(wish), group.data[0]
    module.load_state_dict(record.weights())
    numbers, stack = data.rows("test", fold), Stack([module])
    masks = group.masks(CONDITIONS, "test")
    before = outputs(stack, group.utterances, group.indices("test"), masks)[0].numpy()
    np.testing.assert_array_equal(record.predictions["rows"], numbers)
    np.testing.assert_array_equal(record.predictions["y"], data.batch.y.numpy()[numbers])
    for condition, logits in zip(CONDITIONS, before, strict=True):
        np.testing.assert_allclose(record.predictions[f"logits/{condition}"], logits, rtol=1e-5, atol=1e-6)
        prediction = module.answer.prediction(torch.from_numpy(logits)).numpy()
        for metric, value in data.score(prediction, numbers).items():
            found = record.scores[condition]["metrics"][metric]
            assert found == pytest.approx(value, abs=1e-4, nan_ok=True), (condition, metric)
        known = frozen_mask(condition, data.batch, numbers, data.mask_key)
        assert record.scores[condition]["mask"] == known.hash
    asked = group.utterances, group.indices("test"), group.masks(["l", "mr=0.4"], "test")
    embedded = outputs(stack, *asked, "embedding")[0]
    kept = record.embeddings()["rows"]
    for condition, points in zip(["l", "mr=0.4"], embedded.numpy(), strict=True):
        np.testing.assert_allclose(record.embeddings()[condition], points[kept], atol=1e-2)
        assert "silhouette" in record.scores[condition]["metrics"]


# ------------------------------------------------------------------ other draws of the masks


def test_draws_are_other_masks_of_the_same_rate():
    """Draw 0 is everybody's; each other draw loses as many slots, or frames at the same rate, and other ones."""
    group = group_of("synthetic-mosi")
    for condition in ("mr=0.4", "frames=0.5", "moments=0.5"):
        drawn = [mask(group, f"{condition} & draw={k}") for k in range(4)]
        usual = mask(group, condition)
        assert drawn[0].hash == usual.hash
        assert all(torch.equal(drawn[0].frames[m], usual.frames[m]) for m in usual.frames)
        assert len({one.hash for one in drawn}) == 4
        if condition == "mr=0.4":
            assert len({one.realised["slots"] for one in drawn}) == 1
            assert drawn[1].realised["slots"] == pytest.approx(0.4, abs=1e-3)
        else:
            count = sum(int(group.data[0].batch.valid[m][offered(group).numbers].sum()) for m in "lav")
            for one in drawn:
                lost = round(one.realised["frames"] * count)
                assert stats.binomtest(lost, count, 0.5).pvalue > 1e-9  # moments are lost in all modalities at once


def test_draws_of_a_fixed_subset_are_one():
    """Nothing is drawn there, so every draw has the same mask; without noise every draw has the same features."""
    group = group_of("synthetic-mosi")
    for condition in ("l", "a+v", "l+a+v"):
        assert mask(group, condition).hash == mask(group, f"{condition} & draw=7").hash
        assert same(shown(group, condition), shown(group, f"{condition} & draw=7"))
    assert same(offered(group).shown[0], offered(group, "mr=0.5 & draw=3").shown[0])


# ------------------------------------------------------------------ noise


def added(group, trial):
    """What a trial adds to the features, modality by modality."""
    noisy, clean = offered(group, trial).shown[0], offered(group).shown[0]
    return {m: (noisy.x[m].double() - clean.x[m].double()) for m in clean.modalities}


@pytest.mark.parametrize("deviation", [0.5, 5])
def test_noise_has_the_asked_deviation_where_frames_exist(deviation):
    """In deviations of the training part, where features have one: Gaussian, of mean 0, independent of the features;
    none where no frame exists, and everything but the features stays."""
    group = group_of("synthetic-mosi-unaligned")
    train, clean = group.utterances.take(group.indices("train")[0]), offered(group).shown[0]
    noisy = offered(group, f"l+a+v & noise={deviation}").shown[0]
    for m, extra in added(group, f"l+a+v & noise={deviation}").items():
        there = clean.valid[m]
        np.testing.assert_allclose(train.x[m][train.valid[m]].std(0, correction=0), 1, atol=1e-4)
        drawn = extra[there].numpy().ravel() / deviation
        assert not extra[~there].any()
        assert not there.all()
        assert stats.kstest(drawn, "norm").pvalue > 1e-4
        n = len(drawn)
        assert stats.chi2.ppf(1e-6, n) < (drawn**2).sum() < stats.chi2.isf(1e-6, n)
        assert abs(stats.pearsonr(drawn, clean.x[m][there].numpy().ravel()).statistic) < 5 / np.sqrt(n)
        assert torch.equal(noisy.frames[m], clean.frames[m])
        assert torch.equal(noisy.valid[m], clean.valid[m])
    assert torch.equal(noisy.y, clean.y)


def test_noise_differs_by_draw_and_by_modality():
    """The same draw is the same noise, louder where more is asked for; another draw, benchmark or fold, another one."""
    group = group_of("synthetic-mosi-unaligned")
    first, again, louder, other = (
        added(group, f"l+a+v{tail}")
        for tail in (" & noise=1", " & draw=0 & noise=1", " & noise=4", " & draw=1 & noise=1")
    )
    elsewhere = added(group_of("synthetic-mosei-unaligned"), "l+a+v & noise=1")
    for m in "lav":
        there = offered(group).shown[0].valid[m]
        assert torch.equal(first[m], again[m])
        torch.testing.assert_close(louder[m], 4 * first[m], atol=1e-5, rtol=1e-5)
        both = there & offered(group_of("synthetic-mosei-unaligned")).shown[0].valid[m]
        for foreign, where in ((other, there), (elsewhere, both)):
            pair = first[m][where].numpy().ravel(), foreign[m][where].numpy().ravel()
            assert abs(stats.pearsonr(*pair).statistic) < 5 / np.sqrt(len(pair[0]))
    begins = {m: extra[0, 0, :6].numpy() for m, extra in first.items()}  # the first numbers that were drawn for each
    assert all(np.abs(begins[m] - begins[other]).max() > 0.1 for m, other in ("la", "lv", "av"))


def test_noise_is_the_same_for_all_systems():
    """Whatever the method, the seed (with a training part of its own) and the loudness: methods are compared under the
    same noise. Under another loudness too, since the masks are the same there."""
    alike = [("synthetic-mosi", "corrkd", 0), ("synthetic-mosi", "mcur", 3), ("synthetic-mosi-loud50", "corrkd", 1)]
    one, *others = [added(group_of(*who), "l+a+v & draw=2 & noise=3") for who in alike]
    for other in others:
        for m in "lav":
            torch.testing.assert_close(one[m], other[m], atol=1e-4, rtol=0)


@pytest.mark.parametrize("trial", ["l & noise=5", "a+v & noise=5", "mr=0.5 & draw=1 & noise=5", "frames=0.5 & noise=5"])
def test_noise_is_zero_where_nothing_is_shown(folder, trial):
    """A missing modality or frame stays zero, also that of an utterance which never had it; what is shown is noisy."""
    written(folder, "file", **WIDE)
    for group in (group_of("synthetic-mosi"), group_of("file")):
        batch, clean = shown(group, trial), shown(group, Trial.parse(trial).condition)
        frames = mask(group, trial).frames
        for m in batch.modalities:
            assert not batch.x[m][~batch.frames[m]].any()
            assert not (batch.frames[m] & ~batch.valid[m]).any()
            assert torch.equal(batch.frames[m], frames[m])
        seen = [m for m in batch.modalities if batch.frames[m].any()]
        assert all((batch.x[m] != clean.x[m])[batch.frames[m] & clean.frames[m]].all() for m in seen)
        lost = {m: 1 - float(batch.frames[m].float().mean()) for m in batch.modalities}
        assert max(lost.values()) > 0


def test_no_noise_is_no_trial_of_its_own():
    """`noise=0` is the plain trial, bit for bit."""
    group = group_of("synthetic-mosi")
    assert same(shown(group, "mr=0.5 & noise=0"), shown(group, "mr=0.5"))
    assert same(shown(group, "mr=0.5 & noise=0.0"), shown(group, "mr=0.5"))


# ------------------------------------------------------------------ the test part of another stand-in


def slope_of(known, batch, truth, m):
    """What a frame's content gains with the polarity of the truth, summed over an utterance, with its standard error:
    features projected on a world's first direction."""
    told = (batch.x[m].double().numpy() @ known.directions[m].T)[..., :3].sum(1)  # (N, 3)
    level = np.searchsorted(known.values, truth)
    fit = stats.linregress(known.embedding[level, 0], told[:, 0])
    return fit.slope, fit.stderr


def test_another_stand_in_is_seen_through_the_sensors_of_the_source():
    """Features lie along the directions of the source's world, loud as there; off them is noise alone. Seen along the
    directions of the other world's own sensors the content is not there."""
    source, own = benchmarks.load("synthetic-mosi", "small"), worlds.world("synthetic-mosei", "small")
    moved = transferred(source, "synthetic-mosei", "small")
    batch, strengths = moved.batch, source.world.strengths
    for k, m in enumerate("lav"):
        loud = (1 - strengths.unreliable) + strengths.unreliable * strengths.low
        upright = 1 - 2 * strengths.flip if m == "l" else 1
        expected = strengths.salient * loud * strengths.signal[k] * upright
        slope, error = slope_of(source.world, batch, moved.truth, m)
        assert abs(slope - expected) < 4.5 * error, m
        foreign, error = slope_of(own, batch, moved.truth, m)
        assert abs(foreign - expected) > 4.5 * error, m
        there = batch.valid[m]
        x, along = batch.x[m].double().numpy()[there.numpy()], source.world.directions[m]
        off = ((x - (x @ along.T) @ along) ** 2).sum()
        free = len(x) * (x.shape[1] - worlds.CONTENT)
        assert stats.chi2.ppf(1e-6, free) < off < stats.chi2.isf(1e-6, free), m
        foreign = ((x - (x @ own.directions[m].T) @ own.directions[m]) ** 2).sum()
        assert foreign > stats.chi2.isf(1e-6, free), m
        assert not batch.x[m][~there].any()
    assert {m: x.shape[1:] for m, x in batch.x.items()} == {m: x.shape[1:] for m, x in source.batch.x.items()}


@pytest.mark.parametrize(
    ("name", "on"),
    [
        ("synthetic-mosi", "synthetic-mosei"),
        ("synthetic-mosei", "synthetic-mosi"),
        ("synthetic-mosi", "synthetic-mosi-loud50"),
    ],
)
def test_labels_come_as_often_as_where_they_are_from(name, on):
    """Labels and truth have the shares of the other world's levels, not of the source's where these are others."""
    source, there = benchmarks.load(name, "small"), worlds.world(on, "small")
    moved = transferred(source, on, "small")
    assert set(moved.split) == {"test"}
    assert len(moved.rows("test")) == len(moved.batch.y) == worlds.SIZES["synthetic-mosei"]["small"].test
    for labels in (moved.batch.y.numpy(), moved.truth):
        counts = np.array([(labels == value).sum() for value in there.values])
        assert counts.sum() == len(labels)
        assert stats.chisquare(counts, there.prior * len(labels)).pvalue > 1e-4
        if not np.allclose(source.world.prior, there.prior):
            assert stats.chisquare(counts, source.world.prior * len(labels)).pvalue < 1e-9


def test_another_stand_ins_test_part_is_drawn_anew_and_once():
    """The same every time; no utterance of the source; with a name, masks and a phrase of its own; noise of its own."""
    source = benchmarks.load("synthetic-mosi", "smoke")
    one, again = (transferred(source, "synthetic-mosei", "smoke") for _ in range(2))
    assert same(one.batch, again.batch)
    np.testing.assert_array_equal(one.truth, again.truth)
    assert one.mask_key not in (source.mask_key, benchmarks.load("synthetic-mosei", "smoke").mask_key)
    assert "synthetic-mosei" in one.measured_on
    assert "synthetic-mosi" in one.measured_on
    assert "not the real benchmark" in one.measured_on
    assert (one.name, one.synthetic, one.folds) == ("synthetic-mosei", True, (None,))
    back = transferred(source, "synthetic-mosi", "smoke")
    same_size = source.batch.take(torch.from_numpy(source.rows("test")))
    assert not same(back.batch, same_size)
    assert source.name == "synthetic-mosi"
    group = group_of("synthetic-mosi")
    noise = offered(group, "l & noise=1 & on=synthetic-mosei").shown[0].x["l"]
    clean = offered(group, "l & on=synthetic-mosei").shown[0]
    there = clean.valid["l"] & offered(group).shown[0].valid["l"]
    pair = (noise - clean.x["l"])[there].numpy().ravel(), added(group, "l & noise=1")["l"][there].numpy().ravel()
    assert abs(stats.pearsonr(*pair).statistic) < 5 / np.sqrt(len(pair[0]))
    assert np.std(pair[0]) == pytest.approx(1, abs=0.05)


def test_another_stand_in_is_shown_in_the_units_of_the_source():
    """Mean and deviation of the source's training part of this seed, computed here; utterances of the other one."""
    group = group_of("synthetic-mosi", seed=2)
    source = group.data[0]
    train, moved = source.rows("train"), transferred(source, "synthetic-mosei", "smoke")
    found = offered(group, "l+a+v & on=synthetic-mosei")
    assert found.elsewhere
    assert torch.equal(found.shown[0].y, moved.batch.y)
    assert found.numbers.tolist() == list(range(len(moved.batch.y)))
    for m, x in moved.batch.x.items():
        there = source.batch.valid[m][train]
        known = source.batch.x[m][train][there].double()
        scaled = (x.double() - known.mean(0)) / known.std(0, correction=0) * moved.batch.valid[m].unsqueeze(-1)
        torch.testing.assert_close(found.shown[0].x[m].double(), scaled, atol=1e-4, rtol=1e-4)
    raw = offered(group_of("synthetic-mosi", standardise=False), "l+a+v & on=synthetic-mosei")
    assert same(raw.shown[0], moved.batch)


# ------------------------------------------------------------------ the test part of another file


@pytest.mark.parametrize("fold", [None, 1])
@pytest.mark.parametrize("standardise", [True, False])
def test_another_file_is_read_in_the_columns_and_units_of_the_source(folder, fold, standardise):
    """Columns that the other file lacks are zero; then mean and deviation of the source's training part (of the fold),
    by numpy; frames that do not exist, and columns that do not vary there, are zero. Lengths may differ both ways."""
    wide = written(folder, "wide", **WIDE, n=45, folds=fold is not None)
    narrow = written(folder, "narrow", **NARROW, n=32, seed=1)
    group = group_of("wide", fold=fold, standardise=standardise)
    found, test = offered(group, "l+a+v & on=narrow"), np.flatnonzero(narrow["split"] == "test")
    train = np.flatnonzero(wide["split"] == "train" if fold is None else wide["fold"] == (fold + 2) % 3)
    assert found.elsewhere
    assert found.numbers.tolist() == test.tolist()
    np.testing.assert_array_equal(found.shown[0].y.numpy(), narrow["y"][test])
    assert found.shown[1].tolist() == [list(range(len(test)))]
    for m in "lav":
        expected = in_units_of(wide, train, narrow, test, m, standardise)
        assert expected.any()
        agrees(found.shown[0], expected, existing(narrow, m, test), m)
    lacked = found.shown[0].x["l"][..., 3:]  # as raw zeros are in the source's units
    assert bool(lacked.any()) == standardise
    if standardise:
        assert not found.shown[0].x["a"][..., 0].any()


@pytest.mark.parametrize("standardise", [True, False])
def test_the_mask_of_another_file_fits_what_is_shown(folder, standardise):
    """Where the other file is shorter in one modality and longer in another, its masks have the frames of its features,
    and what they show is a batch like any other."""
    written(folder, "wide", **WIDE)
    narrow = written(folder, "narrow", **NARROW, n=32, seed=1)
    group, test = group_of("wide", standardise=standardise), np.flatnonzero(narrow["split"] == "test")
    pool = offered(group, "l & on=narrow").shown[0]
    for condition in ("l", "l+a+v", "frames=0.5", "mr=0.4"):
        drawn = mask(group, f"{condition} & on=narrow")
        assert {m: list(t.shape) for m, t in drawn.frames.items()} == {m: [1, *t.shape[:-1]] for m, t in pool.x.items()}
        batch = shown(group, f"{condition} & on=narrow")
        for m in "lav":
            there = torch.from_numpy(existing(narrow, m, test))
            assert not (batch.frames[m][0, :, : there.shape[1]] & ~there).any()
            assert not batch.frames[m][0, :, there.shape[1] :].any()
            assert not batch.x[m][~batch.frames[m]].any()
            if condition == "l+a+v" or (condition == "l" and m == "l"):
                assert torch.equal(batch.frames[m][0, :, : there.shape[1]], there)


@pytest.mark.parametrize(
    ("method", "options"), [("mcur", {}), ("hfgd", {"align": "pool-to-language"})], ids=["mcur", "hfgd"]
)
def test_a_network_is_tested_on_another_file(folder, store, method, options):
    """From training to scores: those of the other file's labels and the network's logits, of as many utterances."""
    written(folder, "wide", **WIDE)
    written(folder, "narrow", **NARROW, n=32, seed=1)
    [record] = run([experiment("wide", method, options=options)], ["l", "l+a & on=narrow"], store=store)
    found = record.scores["l+a & on=narrow"]["metrics"]
    assert 0 <= found["acc_nonneg"] <= 100
    assert found["acc_nonneg"] * 8 / 100 == pytest.approx(round(found["acc_nonneg"] * 8 / 100), abs=1e-4)  # 8 of them
    assert "agreement" not in found


def test_a_file_as_wide_and_long_is_tested_on(folder, store):
    """The scores under `on` are those of a network that is shown the other file's utterances, computed by hand."""
    wide, other = written(folder, "wide", **WIDE), written(folder, "other", **WIDE, n=36, seed=1)
    wish = experiment("wide", "mcur")
    [record] = run([wish], ["a+v & on=other"], store=store)
    module = Cohort([wish], "cpu").build(wish)
    module.load_state_dict(record.weights())
    train, test = (np.flatnonzero(a["split"] == part) for a, part in ((wide, "train"), (other, "test")))
    batch = benchmarks.load("other").batch.take(torch.from_numpy(test))
    x = {m: torch.from_numpy(in_units_of(wide, train, other, test, m)).float() for m in "lav"}
    with torch.no_grad():
        said = module.eval()(batch._replace(x=x).keep("a+v")).logits
    found, y = record.scores["a+v & on=other"]["metrics"], other["y"][test]
    expected = metrics.score("regression", (), y, module.answer.prediction(said).numpy())
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-3)
    asked = y != 0
    assert found["brier_binary"] == pytest.approx(
        brier_score_loss(y[asked] > 0, said.squeeze(-1).sigmoid().numpy()[asked].astype(float)), abs=1e-4
    )


# ------------------------------------------------------------------ refusals


def refusal(group, trial):
    """The one sentence with which a trial on another benchmark is refused."""
    with pytest.raises(BadInput) as caught:
        offered(group, trial)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("on", ["synthetic-iemocap", "synthetic-iemocap6", "synthetic-mosi-m4"])
def test_another_task_or_set_of_modalities_is_refused(on):
    """Both benchmarks are named; a stand-in with classes, and one with a modality more."""
    sentence = refusal(group_of("synthetic-mosi"), f"l & on={on}")
    assert f"of synthetic-mosi cannot be tested on {on}:" in sentence
    assert "task, classes or modalities" in sentence


def test_files_of_another_task_classes_or_modalities_are_refused(folder):
    """A file of scores on one of classes, one of other classes, one without vision; and a stand-in on a file."""
    written(folder, "scores", **WIDE)
    for name, labels in (("moods", CLASSES), ("others", CLASSES | {"classes": ["sad", "calm"]})):
        written(folder, name, **WIDE, says=labels)
    written(folder, "blind", **WIDE, absent="v")
    for name, on in [("scores", "moods"), ("moods", "others"), ("moods", "scores"), ("scores", "blind")]:
        sentence = refusal(group_of(name), f"l & on={on}")
        assert f"of {name} cannot be tested on {on}:" in sentence
    sentence = refusal(group_of("scores"), "l & on=synthetic-iemocap")
    assert "of scores cannot be tested on synthetic-iemocap:" in sentence


def test_more_columns_than_the_source_has_are_refused(folder):
    """With the columns of both and the way out; fewer are taken."""
    written(folder, "wide", **WIDE)
    written(folder, "narrow", **NARROW, seed=1)
    sentence = refusal(group_of("narrow"), "l & on=wide")
    assert "wide has 5 columns in l" in sentence
    assert "networks of narrow read 3" in sentence
    assert "train on the wider one" in sentence
    assert offered(group_of("wide"), "l & on=narrow").elsewhere


def test_a_benchmark_that_nobody_has_is_refused():
    assert "nobody" in refusal(group_of("synthetic-mosi"), "l & on=nobody")


# ------------------------------------------------------------------ what a record keeps


@pytest.fixture
def asked(monkeypatch):
    """How many masks each look at a network was for."""
    counts = []

    def counted(stack, pool, rows, masks, *rest):
        counts.append(len(masks))
        return outputs(stack, pool, rows, masks, *rest)

    monkeypatch.setattr(recording, "outputs", counted)
    return counts


def kept(record, what):
    """name -> content of the parts of a record that hold scores, or predictions."""
    return {file.name: file.read_bytes() for file in record.folder.glob(f"{what}-*")}


def test_a_record_gets_only_what_it_lacks(store, asked):
    """Scores that are there are not computed again and no file of theirs is touched; each kind of features is shown to
    the network once."""
    wish = plan("mcur", "synthetic-mosei", "smoke", [0], "plain", settings=QUICK)
    [record] = run(wish, ["l", "mr=0.3"], store=store)
    assert asked == [2]
    scores, predictions, before = kept(record, "scores"), kept(record, "predictions"), record.scores
    more = ["l & draw=4", "mr=0.3 & draw=1", "a & noise=5", "l & noise=5", "mr=0.3 & draw=2 & noise=5"]
    [record] = run(wish, ["l", *more, "mr=0.3"], store=store)
    assert asked == [2, 2, 2, 1]
    assert list(record.lacks([*more, "l", "mr=0.3", "v"], [])[0]) == ["v"]
    assert scores.items() <= kept(record, "scores").items()
    assert predictions.items() <= kept(record, "predictions").items()
    assert {text: record.scores[text] for text in before} == before
    run(wish, ["mr=0.3 & draw=1", "a & noise=5", "l"], store=store)
    assert asked == [2, 2, 2, 1]
    assert record.scores["l & draw=4"] == record.scores["l"]
    assert record.scores["mr=0.3 & draw=1"]["mask"] != record.scores["mr=0.3"]["mask"]
    slots = [record.scores[text]["metrics"]["missing_slots"] for text in ("mr=0.3", "mr=0.3 & draw=1")]
    assert slots[0] == slots[1] == pytest.approx(30, abs=0.1)
    assert record.scores["l & noise=5"]["mask"] == record.scores["l"]["mask"]
    assert record.scores["l & noise=5"]["metrics"] != record.scores["l"]["metrics"]
    logits = record.predictions
    np.testing.assert_array_equal(logits["logits/l & draw=4"], logits["logits/l"])
    for text in ("mr=0.3 & draw=1", "l & noise=5"):
        assert not np.array_equal(logits[f"logits/{text}"], logits[f"logits/{text.split(' & ')[0]}"])


def test_trials_elsewhere_leave_the_predictions_of_a_record_alone(store):
    """Predictions are those of a record's own test part; scores of another benchmark stand beside its own."""
    wish = plan("mcur", "synthetic-mosei", "smoke", [0], "plain", settings=QUICK)
    [record] = run(wish, ["l", "a"], store=store)
    before = kept(record, "predictions")
    away = ["l & on=synthetic-mosi", "a & draw=1 & noise=5 & on=synthetic-mosi"]
    [record] = run(wish, ["l", *away], store=store)
    assert kept(record, "predictions") == before
    assert set(record.scores) == {"l", "a", *away}
    assert record.scores[away[0]]["metrics"].keys() == record.scores["l"]["metrics"].keys()
    assert record.scores[away[0]]["mask"] != record.scores["l"]["mask"]
    assert record.scores[away[0]]["metrics"] != record.scores["l"]["metrics"]


def test_own_trials_and_those_elsewhere_are_told_apart_when_asked_for_at_once(store):
    """One call for both: labels, rows and predictions are of the own test part, for the own trials only."""
    wish = experiment("synthetic-mosi")
    [record] = run([wish], ["l & on=synthetic-mosei", "l", "l & noise=2"], store=store)
    data = wish.data()
    assert set(record.predictions) == {
        *("y", "rows"),
        *(f"{what}/{text}" for what in ("logits", "prediction") for text in ("l", "l & noise=2")),
    }
    np.testing.assert_array_equal(record.predictions["rows"], data.rows("test"))
    np.testing.assert_array_equal(record.predictions["y"], data.batch.y.numpy()[data.rows("test")])


def test_a_record_tested_elsewhere_only_is_not_damaged(store, asked, capsys):
    """It has scores and no predictions, as it should: the next run finds everything there."""
    wish = [experiment("synthetic-mosi")]
    [record] = run(wish, ["l & on=synthetic-mosei"], store=store)
    assert damage(record) == {}
    run(wish, ["l & on=synthetic-mosei"], store=store)
    assert "damaged" not in capsys.readouterr().out
    assert asked == [1]


def test_modalities_beyond_the_third_are_tested(store):
    """Conditions and trials may name what the benchmark has."""
    [record] = run([experiment("synthetic-mosi-m4")], ["l", "l+m4", "m4 & noise=1"], store=store)
    assert set(record.scores) == {"l", "l+m4", "m4 & noise=1"}
    assert record.scores["l"]["mask"] != record.scores["l+m4"]["mask"]


def test_representations_are_kept_under_conditions_only(store):
    """A trial is refused there in one sentence, before anything trains."""
    with pytest.raises(BadInput, match="'l & noise=5'"):
        run([experiment("synthetic-mosi")], ["l"], ["l & noise=5"], store=store)
    assert not store.records()


# ------------------------------------------------------------------ how good probabilities are


def test_a_method_with_chances_says_how_good_they_are(store):
    """MCUR on scores: of the sigmoid of its logit, by scikit-learn, labels of 0 left out; under trials, too."""
    wish = plan("mcur", "synthetic-mosei", "smoke", [0], "plain", settings=QUICK)
    trials = ["l", "mr=0.3 & draw=1", "a & noise=5", "l & on=synthetic-mosi"]
    [record] = run(wish, trials, store=store)
    asked = record.predictions["y"] != 0
    assert 0 < asked.sum() < len(asked)
    for text in trials[:3]:
        found = record.scores[text]["metrics"]
        p = 1 / (1 + np.exp(-record.predictions[f"logits/{text}"][asked, 0].astype(np.float64)))
        truth = record.predictions["y"][asked] > 0
        assert found["brier_binary"] == pytest.approx(brier_score_loss(truth, p), abs=1e-5)
        assert found["nll_binary"] == pytest.approx(log_loss(truth, p), abs=1e-5)
    assert record.scores[trials[3]]["metrics"].keys() >= BINARY
    floor = record.environment["data"]["floor"]
    assert floor.keys() >= BINARY


def test_chances_of_classes_are_those_of_questions(store):
    """Each emotion against the rest: the mean of four questions."""
    wish = plan("mcur", "synthetic-iemocap", "smoke", [0], "plain", settings=QUICK)
    [record] = run(wish, ["l+a"], store=store)
    said = record.predictions["logits/l+a"].astype(np.float64).reshape(-1, 4, 2)
    p, y = 1 / (1 + np.exp(said[..., 0] - said[..., 1])), record.predictions["y"]
    found = record.scores["l+a"]["metrics"]
    assert found["brier_binary"] == pytest.approx(
        np.mean([brier_score_loss(y == c, p[:, c]) for c in range(4)]), abs=1e-5
    )
    assert found["nll_binary"] == pytest.approx(np.mean([log_loss(y == c, p[:, c]) for c in range(4)]), abs=1e-5)


@pytest.mark.parametrize("method", ["corrkd", "dynkd", "hfgd", "umdf"])
def test_a_method_without_chances_says_nothing_of_them(store, method):
    [record] = run([experiment("synthetic-mosi", method)], ["l", "l & noise=1"], store=store)
    for text in ("l", "l & noise=1"):
        assert not BINARY & record.scores[text]["metrics"].keys()
