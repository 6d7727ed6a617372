"""Missingness: the language of conditions, frozen test masks, training views, and the batch they act on."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmkd_lib.data import missing
from mmkd_lib.data.batch import Batch, concatenate
from mmkd_lib.data.missing import Condition, Trial, training_view
from mmkd_lib.support.draws import Draws
from mmkd_lib.support.errors import BadInput

SEVEN = ("l", "a", "v", "l+a", "l+v", "a+v", "l+a+v")


def utterances(n, steps=(10, 10, 1), shortest=0, seed=0):
    """A batch of n utterances, T_m = steps, width 3, lengths from `shortest` to T_m, at least one frame in all."""
    rng = np.random.default_rng(seed)
    x, valid = {}, {}
    for m, longest in zip("lav", steps, strict=False):
        length = rng.integers(min(shortest, longest), longest + 1, n)
        if m == "l":
            length = np.maximum(length, 1)
        valid[m] = torch.from_numpy(np.arange(longest) < length[:, None])
        x[m] = torch.from_numpy(rng.normal(size=(n, longest, 3)).astype(np.float32)) * valid[m].unsqueeze(-1)
    return Batch(x, dict(valid), valid, torch.from_numpy(rng.integers(-3, 4, n).astype(np.float32)))


def stack(batch, seeds):
    """The same utterances for each of S stacked seeds: (S, N, ...)."""
    return batch.take(torch.arange(len(batch.y)).expand(seeds, -1))


def consistent(batch):
    """The invariants of a batch: what is shown exists, what is not shown is zero, and only that."""
    for m in batch.modalities:
        assert not (batch.frames[m] & ~batch.valid[m]).any()
        assert not batch.x[m][~batch.frames[m]].any()
        assert batch.x[m][batch.frames[m]].any(-1).all()
    return True


def slots(frames):
    """Which modalities an utterance shows: (N, M) bool."""
    return torch.stack([shown.any(-1) for shown in frames.values()], -1)


# ------------------------------------------------------------------ conditions


def test_subsets():
    assert missing.subsets() == SEVEN
    assert missing.subsets(("l", "a")) == ("l", "a", "l+a")
    assert missing.subsets(("v",)) == ("v",)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("l", Condition(("l",))),
        ("v+a", Condition(("a", "v"))),
        ("v+l+a", Condition(("l", "a", "v"))),
        ("frames=0.5", Condition(frames=0.5)),
        ("l & frames=0.5", Condition(("l",), frames=0.5)),
        ("moments=1 & mr=0 & a+l", Condition(("l", "a"), moments=1.0)),
        ("  mr=.25&v ", Condition(("v",), mr=0.25)),
    ],
)
def test_conditions_are_read(text, condition):
    """Parts come in any order and spacing; modalities come out as l, a, v."""
    assert Condition.parse(text) == condition


RATE = st.floats(0, 1)


@given(st.permutations("lav"), st.integers(0, 3), RATE, RATE, RATE, st.randoms())
def test_conditions_survive_writing_and_reading(order, number, frames, moments, mr, random):
    kept = order[:number]
    parts = [f"frames={frames}", f"moments={moments}", f"mr={mr}", *(["+".join(kept)] if kept else [])]
    random.shuffle(parts)
    expected = Condition(tuple(m for m in "lav" if m in kept) or None, frames, moments, mr)
    assert Condition.parse(" & ".join(parts)) == expected


NONSENSE = [
    *["", " ", "&", "l &", "& frames=0.5", "nonsense", "x", "l+x", "l a", "L", "la", "l-a", "l\na"],  # no such modality
    *["l+", "+", "l++a", "l+l", "l & a", "l & l"],  # empty or twice
    *["frames=0.5 & frames=0.5", "mr=0 & mr=1"],
    *["frames=-0.1", "frames=1.1", "mr=2", "moments=-1", "mr=nan", "frames=inf", "frames=1e9"],  # not a rate
    *["frames=", "frames", "=0.5", "=", "frames=half", "frames==0.5", "l=0.5", "drop=0.5", "keep=l", "keep=0.5"],
]


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_is_refused_with_what_is_allowed(text):
    """One sentence with the text as given and the way out."""
    with pytest.raises(BadInput) as caught:
        Condition.parse(text)
    sentence = str(caught.value)
    assert sentence.startswith(f"unknown condition {text!r}: give ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    for allowed in ["l+a+v", "frames=0..1", "moments=0..1", "mr=0..1", "' & '"]:
        assert allowed in sentence


def test_conditions_of_data_without_a_modality():
    """Where vision never exists, conditions with vision are not available and are refused with what is there."""
    with pytest.raises(BadInput, match=r"^unknown condition 'v': give a subset of l\+a and/or"):
        Condition.parse("v", ("l", "a"))
    assert missing.available([*SEVEN, "frames=0.5", "v & mr=0.3"], ("l", "a")) == ("l", "a", "l+a", "frames=0.5")
    assert missing.selection_conditions(("l", "a")) == ("l", "a", "l+a", "frames=0.5")


# ------------------------------------------------------------------ trials


@pytest.mark.parametrize(
    ("text", "trial"),
    [
        ("l", Trial("l")),
        ("frames=0.5 & a+v", Trial("frames=0.5 & a+v")),
        ("l & draw=3", Trial("l", draw=3)),
        ("mr=0.3 & draw=0", Trial("mr=0.3")),
        ("l+a & mr=0.3 & noise=0.5", Trial("l+a & mr=0.3", noise=0.5)),
        ("a & noise=5.", Trial("a", noise=5.0)),
        ("v & on=synthetic-mosi-unaligned-m4", Trial("v", on="synthetic-mosi-unaligned-m4")),
        ("l & draw=12 & noise=20 & on=mosi_752.b", Trial("l", 12, 20.0, "mosi_752.b")),
        ("l & noise=1 & on=x", Trial("l", noise=1.0, on="x")),
        ("l & draw=1 & on=noise", Trial("l", draw=1, on="noise")),
    ],
)
def test_trials_are_read(text, trial):
    """A condition as it is written, and after it what else a test says."""
    assert Trial.parse(text) == trial


def optional(values):
    return st.one_of(st.none(), values)


CONDITION = st.sampled_from([*SEVEN, "frames=0.5", "mr=0.3", "l & frames=0.2 & moments=1", "  mr=.25&v "])
NAME = st.from_regex(r"[a-z][a-z0-9_.\-]{0,20}", fullmatch=True)


@given(CONDITION, optional(st.integers(0, 999_999)), optional(st.integers(0, 10**6)), optional(NAME))
def test_trials_survive_writing_and_reading(condition, draw, thousandths, on):
    """Any of the three parts, in their order; `parted` gives back both halves and is done with the first."""
    noise = None if thousandths is None else f"{thousandths / 1000:.3f}"
    said = {"draw": draw, "noise": noise, "on": on}
    tail = "".join(f" & {name}={value}" for name, value in said.items() if value is not None)
    assert Trial.parse(condition + tail) == Trial(condition, draw or 0, float(noise or 0), on or "")
    assert missing.parted(condition + tail) == (condition, tail)
    assert missing.parted(condition) == (condition, "")


@pytest.mark.parametrize("condition", [*SEVEN, "frames=0.5", "moments=1 & mr=0 & a+l", "  mr=.25&v "])
def test_a_condition_alone_is_a_trial(condition):
    """Without a tail nothing is added, and the condition says what it said."""
    assert Trial.parse(condition) == (condition, 0, 0.0, "")
    assert Condition.parse(Trial.parse(condition).condition) == Condition.parse(condition)


@pytest.mark.parametrize("text", NONSENSE)
def test_a_trial_of_nonsense_is_refused_as_its_condition_is(text):
    """With a tail or without: the same sentence, about the condition."""
    with pytest.raises(BadInput) as of_condition:
        Condition.parse(text)
    for tail in ("", " & draw=1", " & noise=5 & on=x"):
        with pytest.raises(BadInput) as caught:
            Trial.parse(text + tail)
        assert str(caught.value) == str(of_condition.value)


BAD_TAILS = [
    *["noise=5 & draw=1", "on=x & draw=1", "on=x & noise=1"],  # another order
    *["draw=1 & draw=1", "noise=1 & noise=1", "on=x & on=y"],  # twice
    *["draw=-1", "draw=+1", "draw=1.5", "draw=", "draw=one", "draw=1234567", "draw=1 ", "draw= 1"],
    *["noise=-0.5", "noise=", "noise=nan", "noise=inf", "noise=1e3", "noise=.5", "noise=5,0", "noise=1&on=x"],
    *["on=", "on=a b", "on=a=b", "on=a & b", "on=a&b"],
    *["draw=1 & mask=3", "draw=1 & v", "draw=1 & frames=0.5", "noise=1 & mr=0.2", "draw=1 & ", "draw=1 &noise=2"],
]


@pytest.mark.parametrize("tail", BAD_TAILS)
def test_a_bad_tail_is_refused_with_what_is_allowed(tail):
    """One sentence with the text as given, the parts and their order."""
    with pytest.raises(BadInput) as caught:
        Trial.parse(f"l & {tail}")
    sentence = str(caught.value)
    assert sentence.startswith(f"unknown trial {f'l & {tail}'!r}: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert sentence.index("draw=") < sentence.rindex("noise=") < sentence.rindex("on=NAME") < sentence.index("order")


@pytest.mark.parametrize(
    "text", ["draw=1", "noise=5", "on=x", " & draw=1", "l & seed=1", "l & Draw=1", "l&draw=1", "m4"]
)
def test_what_is_no_tail_is_read_as_a_condition_and_refused(text):
    """A tail needs a condition before it; unknown parts are told what conditions there are."""
    with pytest.raises(BadInput, match=r"^unknown condition .*joined by ' & '\.$"):
        Trial.parse(text)


def test_trials_of_data_without_a_modality():
    """A tail changes nothing of what can be shown, nor of the order; modalities of one's own may be named."""
    asked = ["l & noise=5", "v & draw=1", "frames=0.5 & on=x", "a", "l+v & on=x", "l+a & draw=2 & noise=1"]
    shown = ("l & noise=5", "frames=0.5 & on=x", "a", "l+a & draw=2 & noise=1")
    assert missing.available(asked, ("l", "a")) == shown
    assert missing.available(asked, ("l", "a", "v")) == tuple(asked)
    assert missing.available(["m4 & noise=1", "v"], ("l", "a", "m4")) == ("m4 & noise=1",)
    assert Trial.parse("l+m4 & draw=1", ("l", "a", "v", "m4")).condition == "l+m4"
    with pytest.raises(BadInput, match=r"^unknown trial 'l & noise=-1': "):
        missing.available(["a", "l & noise=-1"], ("l", "a"))


# ------------------------------------------------------------------ test masks

N = 400
BATCH = utterances(N)
FEW = utterances(60)
EXISTS = {m: int(valid.sum()) for m, valid in BATCH.valid.items()}


def mask(condition, batch=BATCH, rows=None, fingerprint="data", **others):
    rows = np.arange(len(batch.y)) if rows is None else rows
    return missing.frozen_mask(condition, batch, rows, fingerprint, **others)


def same(one, other):
    return all(torch.equal(one.frames[m], other.frames[m]) for m in one.frames)


EVERY_KIND = ["frames=0.5", "moments=0.5", "mr=0.3", "l+a & frames=0.2 & moments=0.2 & mr=0.1"]


@pytest.mark.parametrize("condition", EVERY_KIND)
def test_a_mask_is_frozen(condition):
    """The same every time; another mask seed or other data has another mask and another hash."""
    first = mask(condition)
    again = mask(condition, batch=utterances(N))
    assert same(first, again)
    assert (first.hash, first.realised) == (again.hash, again.realised)
    for other in (mask(condition, mask_seed=1), mask(condition, fingerprint="other data")):
        assert not same(first, other)
        assert first.hash != other.hash


def test_the_hash_names_the_frames():
    """One frame more or less, or another order of the utterances, is another hash; another spelling is not."""
    different = [*SEVEN, *EVERY_KIND, "frames=0.501"]
    assert len({mask(condition).hash for condition in different}) == len(different)
    assert mask("frames=0").hash == mask("l+a+v").hash == mask("v+l+a & mr=0").hash
    assert mask("frames=1").hash == mask("v").hash
    assert mask("frames=0.5", rows=np.arange(N)[::-1]).hash != mask("frames=0.5").hash


@pytest.mark.parametrize("condition", ["frames=0.5", "moments=0.5", "a & frames=0.3"])
def test_a_mask_does_not_depend_on_which_rows_are_asked_for(condition):
    """A fold or a split sees its own part of one draw, in its own order."""
    whole, rows = mask(condition), np.array([7, 300, 3, 8])
    for m, frames in mask(condition, rows=rows).frames.items():
        assert torch.equal(frames, whole.frames[m][rows])


@pytest.mark.parametrize("kind", ["frames", "moments", "mr"])
def test_masks_are_nested(kind):
    """What is lost at a rate is lost at every higher rate; more is lost at each step of the curve."""
    curve = [mask(f"{kind}={p / 10}").frames for p in range(6)]
    for low, high in pairwise(curve):
        assert not any((high[m] & ~low[m]).any() for m in high)
        assert sum(f.sum() for f in high.values()) < sum(f.sum() for f in low.values())


@given(st.sampled_from(["frames", "moments", "mr"]), st.tuples(RATE, RATE), st.integers(0, 999_999))
@settings(max_examples=40, deadline=None)
def test_masks_of_every_draw_are_nested(kind, rates, draw):
    """Whatever the draw: what is lost at a rate is lost at every higher one, each draw within itself."""
    low, high = (mask(f"{kind}={rate:.3f}", batch=FEW, mask_seed=draw).frames for rate in sorted(rates))
    assert not any((high[m] & ~low[m]).any() for m in high)


@pytest.mark.parametrize("kind", ["frames", "moments"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_frames_are_lost_at_the_rate_asked_for(kind, rate):
    """Of n existing frames of each sequence modality, a binomial number is lost; none of a modality with T = 1."""
    drawn = mask(f"{kind}={rate}")
    lost = {m: EXISTS[m] - int(drawn.frames[m].sum()) for m in "lav"}
    for m in "la":
        assert stats.binomtest(lost[m], EXISTS[m], rate).pvalue > 1e-4
    assert lost["v"] == 0
    assert drawn.realised["frames"] == pytest.approx(sum(lost.values()) / sum(EXISTS.values()))
    assert drawn.realised["slots"] == 0


@pytest.mark.parametrize("kind", ["frames", "moments"])
def test_both_ends_of_a_frame_curve(kind):
    """Rate 0 shows all that exists; rate 1 shows no frame of a sequence and keeps what has T = 1."""
    shown, lost = mask(f"{kind}=0"), mask(f"{kind}=1")
    assert all(torch.equal(shown.frames[m], BATCH.valid[m]) for m in "lav")
    assert shown.realised == {"slots": 0, "frames": 0}
    assert not lost.frames["l"].any()
    assert not lost.frames["a"].any()
    assert torch.equal(lost.frames["v"], BATCH.valid["v"])


def test_frames_are_lost_alone_and_moments_together():
    """Where both modalities have the frame, `moments` loses it in both or none; `frames` loses them independently."""
    both = BATCH.valid["l"] & BATCH.valid["a"]
    together, alone = mask("moments=0.5").frames, mask("frames=0.5").frames
    assert torch.equal(together["l"] & both, together["a"] & both)
    agree = int((alone["l"] == alone["a"])[both].sum())
    assert stats.binomtest(agree, int(both.sum()), 0.5).pvalue > 1e-4


@pytest.mark.parametrize("condition", SEVEN)
def test_a_subset_keeps_whole_modalities(condition):
    drawn = mask(condition)
    for m in "lav":
        expected = BATCH.valid[m] if m in condition.split("+") else torch.zeros_like(BATCH.valid[m])
        assert torch.equal(drawn.frames[m], expected)
    existing, shown = slots(BATCH.valid), slots(drawn.frames)
    assert drawn.realised["slots"] == pytest.approx(1 - int(shown.sum()) / int(existing.sum()))


@pytest.mark.parametrize("keep", ["", "l+a & ", "a+v & "])
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.3])
def test_missing_rate_is_exact(keep, rate):
    """Exactly round(rate * slots) slots are lost, whole ones, and every utterance that had one keeps one."""
    before, drawn = mask(f"{keep}mr=0").frames, mask(f"{keep}mr={rate}").frames
    had, has = slots(before), slots(drawn)
    assert int(had.sum() - has.sum()) == round(rate * int(had.sum()))
    assert torch.equal(had.any(1), has.any(1))
    for i, m in enumerate(drawn):
        assert torch.equal(drawn[m], before[m] & has[:, i : i + 1])


@pytest.mark.parametrize("keep", ["", "l+v & ", "a & "])
@pytest.mark.parametrize("rate", [0.95, 1])
def test_a_missing_rate_too_high_removes_as_many_as_it_may(keep, rate):
    """One modality is left to each utterance that had any, and not the same one to all."""
    had, has = slots(mask(f"{keep}mr=0").frames), slots(mask(f"{keep}mr={rate}").frames)
    assert torch.equal(has.sum(1), had.any(1).long())
    assert torch.equal(has.any(0), had.any(0))


@pytest.mark.parametrize("condition", ["frames=0.5", "moments=0.3", "mr=0.5", "l+v & frames=0.1 & mr=0.2", "v"])
def test_a_mask_never_shows_what_does_not_exist(condition):
    frames = mask(condition).frames
    assert not any((frames[m] & ~BATCH.valid[m]).any() for m in "lav")
    assert consistent(BATCH.show(frames))


def test_an_unknown_condition_has_no_mask():
    with pytest.raises(BadInput, match=r"a subset of l\+a and"):
        mask("l+v", batch=utterances(5, steps=(10, 10)))


# ------------------------------------------------------------------ training views


def whole(n, steps, seeds=1):
    return stack(utterances(n, steps, shortest=max(steps)), seeds)


def patterns(view):
    """How often each subset of three modalities was shown: counts of 0 (none) to 7 (all)."""
    bits = slots(view.frames).long() @ torch.tensor([1, 2, 4])
    return bits.flatten().bincount(minlength=8).numpy()


@pytest.mark.parametrize(("complete", "shown"), [("yes", 7), ("no", 6)])
def test_subsets_are_uniform(complete, shown):
    """Each of the 7 non-empty subsets (6 without the complete one) is drawn equally often, the empty one never."""
    counts = patterns(training_view(whole(4000, (1, 1, 1), 2), Draws([0, 1], 5), complete=complete))
    assert counts[0] == 0
    assert counts[1 : 1 + shown].sum() == 8000
    assert stats.chisquare(counts[1 : 1 + shown]).pvalue > 1e-3


def test_one_modality_is_always_shown():
    for complete in ("yes", "no"):
        view = training_view(whole(50, (1,)), Draws([0], 0), complete=complete)
        assert view.frames["l"].all()


def test_frame_rates_are_uniform_over_ten():
    """An utterance loses 0, 10, ..., or 90 % of its frames: each rate equally often, the same in each sequence."""
    view = training_view(whole(400, (2000, 2000, 1)), Draws([0], 0), subsets="no")
    lost = {m: 1 - view.frames[m].float().mean(-1).flatten().numpy() for m in "la"}
    rates = {m: np.round(10 * lost[m]).astype(int) for m in "la"}
    np.testing.assert_allclose(lost["l"], rates["l"] / 10, atol=0.05)
    np.testing.assert_array_equal(rates["l"], rates["a"])
    assert stats.chisquare(np.bincount(rates["l"], minlength=10)).pvalue > 1e-3
    assert len(np.bincount(rates["l"])) == 10
    assert not torch.equal(view.frames["l"], view.frames["a"])
    assert view.frames["v"].all(), "a modality with T = 1 has no frames to lose"


def test_what_is_switched_off_is_not_drawn():
    batch = stack(BATCH, 1)
    nothing = training_view(batch, Draws([0], 0), subsets="no", frames="no")
    assert all(torch.equal(nothing.frames[m], batch.valid[m]) for m in "lav")
    modalities = training_view(batch, Draws([0], 0), frames="no")
    for m in "lav":
        seen = modalities.frames[m].any(-1, keepdim=True)
        assert torch.equal(modalities.frames[m], batch.valid[m] & seen)
        assert not seen.all()


def test_a_view_belongs_to_its_seed_and_step():
    """Seed 3 sees the same alone and between 1 and 5, bit for bit; another seed or step sees something else."""
    alone = training_view(stack(BATCH, 1), Draws([3], 7))
    beside = training_view(stack(BATCH, 3), Draws([1, 3, 5], 7))
    later = training_view(stack(BATCH, 1), Draws([3], 8))
    for m in "lav":
        assert torch.equal(alone.x[m][0], beside.x[m][1])
        assert torch.equal(alone.frames[m][0], beside.frames[m][1])
        assert not torch.equal(alone.frames[m][0], beside.frames[m][0])
        assert not torch.equal(alone.frames[m], later.frames[m])
    assert consistent(alone)
    assert consistent(beside)


# ------------------------------------------------------------------ the batch


def test_keep_and_show_zero_what_is_not_shown():
    assert consistent(BATCH)
    kept = BATCH.keep("l+v")
    assert not kept.frames["a"].any()
    assert not kept.x["a"].any()
    for m in "lv":
        assert torch.equal(kept.x[m], BATCH.x[m])
    for m in "lav":
        assert torch.equal(kept.valid[m], BATCH.valid[m]), "what exists does not change with what is shown"
    assert consistent(kept)


def test_what_was_hidden_stays_hidden():
    """`show` narrows: showing everything afterwards brings nothing back, and the batch it came from is untouched."""
    before = {m: BATCH.x[m].clone() for m in "lav"}
    hidden = BATCH.keep("a").show({m: torch.ones_like(BATCH.frames[m]) for m in "lav"})
    assert slots(hidden.frames).sum(0)[0] == slots(hidden.frames).sum(0)[2] == 0
    assert torch.equal(hidden.x["a"], BATCH.x["a"])
    assert all(torch.equal(before[m], BATCH.x[m]) for m in "lav")


def test_show_broadcasts_conditions_before_utterances():
    """Masks (C, N, T) make a batch (C, N, ...), each condition as if alone."""
    conditions = ["l", "frames=0.5"]
    masks = [mask(c).frames for c in conditions]
    both = BATCH.show({m: torch.stack([one[m] for one in masks]) for m in "lav"})
    for c, frames in enumerate(masks):
        alone = BATCH.show(frames)
        assert all(torch.equal(both.x[m][c], alone.x[m]) for m in "lav")


def test_take_gathers_every_field_in_any_shape():
    rows = torch.tensor([[3, 1, 3], [0, 2, 399]])
    taken = BATCH.keep("l+a").take(rows)
    assert taken.y.tolist() == [[BATCH.y[i].item() for i in line] for line in rows]
    for m in "lav":
        assert taken.x[m].shape == (2, 3, *BATCH.x[m].shape[1:])
        assert torch.equal(taken.x[m][1, 2], BATCH.keep("l+a").x[m][399])
        assert torch.equal(taken.valid[m][0, 1], BATCH.valid[m][1])
    assert consistent(taken)


def test_concatenate_puts_back_together_what_take_parted():
    parts = [BATCH.take(torch.arange(*ends)) for ends in [(0, 1), (1, 250), (250, N)]]
    joined = concatenate(parts)
    assert torch.equal(joined.y, BATCH.y)
    for field, original in zip(joined[:3], BATCH[:3], strict=True):
        assert all(torch.equal(field[m], original[m]) for m in "lav")


# ------------------------------------------------------------------ nominal and realised


@pytest.mark.parametrize(
    ("condition", "nominal"),
    [
        ("l+a+v", {"slots": 0, "frames": 0}),
        ("l", {"slots of l": 0, "slots of a": 1, "frames of v": 1}),
        ("frames=0.4", {"slots": 0, "frames of l": 0.4}),
        ("frames=0.5 & moments=0.5", {"frames of l": 0.75}),
        ("mr=0.3", {"slots": 0.3, "slots of a": 0.3, "frames of a": 0.3}),
        ("l+a & mr=0.2", {"slots of v": 1, "slots of l": 0.2}),
    ],
)
def test_rates_of_a_condition(condition, nominal):
    """What was asked for, by hand; what came out, by counting the mask; both of what exists."""
    found, patterns, hashed = missing.rates(condition, BATCH, np.arange(N), "data")
    drawn = mask(condition)
    assert hashed == drawn.hash
    for what, value in nominal.items():
        assert found[what][0] == pytest.approx(value), what
    for m in BATCH.modalities:
        left, had = drawn.frames[m], BATCH.valid[m]
        assert found[f"frames of {m}"][1] == pytest.approx(1 - int(left.sum()) / int(had.sum()))
        assert found[f"slots of {m}"][1] == pytest.approx(1 - int(left.any(1).sum()) / int(had.any(1).sum()))
    assert found["frames"][1] == drawn.realised["frames"]
    left, had = (sum(int(kept[m].any(1).sum()) for m in kept) for kept in (drawn.frames, BATCH.valid))
    assert found["slots"][1] == pytest.approx(1 - left / had)
    assert sum(patterns.values()) == pytest.approx(1)
    for name, share in patterns.items():
        there = ["+".join(m for m in BATCH.modalities if drawn.frames[m][i].any()) or "nothing" for i in range(N)]
        assert share == pytest.approx(there.count(name) / N)


def test_a_modality_of_one_frame_has_no_frames_to_lose():
    single = missing.rates("frames=0.5", utterances(50, steps=(4, 1, 4)), np.arange(50), "data")[0]
    assert single["frames of a"] == (0, 0)
    assert single["frames of l"][0] == 0.5
