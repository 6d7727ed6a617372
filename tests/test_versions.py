"""Two missing versions of every utterance in a training step, as UMDF and HFGD draw them."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from contract import drawn, frames_of, network, patterns, plain_batch, stacked, views_drawn
from scipy.stats import binom, chi2_contingency, chisquare

from mmkd_lib.data.batch import Batch, Shape
from mmkd_lib.methods import get
from mmkd_lib.support.draws import Draws

SHAPE = Shape(dict.fromkeys("lav", 1), dict.fromkeys("lav", 12), "regression", ())
both = pytest.mark.parametrize("method", ["umdf", "hfgd"])


def small(method, **choices):
    return network(get(method), SHAPE, {"width": 4, "heads": 2, "depth": 1} | choices)


def padded(n):
    """Utterances of other lengths, one seed."""
    valid = {m: torch.arange(12) < 1 + (5 * drawn(n, 1, seed=i).abs()).long() for i, m in enumerate("lav")}
    x = {m: drawn(n, 12, 1, seed=9 + i) * there.unsqueeze(-1) for i, (m, there) in enumerate(valid.items())}
    return Batch(x, dict(valid), valid, drawn(n))


@both
@pytest.mark.parametrize(("complete", "kinds"), [("yes", 7), ("no", 6)])
def test_versions_lose_modalities_independently_and_uniformly(method, complete, kinds):
    """Each of the non-empty subsets (the complete case among them or not) is as likely in either version, and one
    version says nothing of the other. 5,000 utterances, chi-squared."""
    views = views_drawn(small(method, drop_frames="no", complete_case=complete), plain_batch(5000), Draws((0,), 3))
    first, second = (patterns(views[name]) for name in ("student", "second"))
    for found in (first, second):
        counts = Counter(found)
        assert len(counts) == kinds
        assert ("lav" in counts) == (complete == "yes")
        assert chisquare([*counts.values()]).pvalue > 1e-3
    names = sorted(set(first))
    table = [[sum(pair == (p, q) for pair in zip(first, second, strict=True)) for q in names] for p in names]
    assert chi2_contingency(table).pvalue > 1e-3


@both
def test_versions_lose_frames_independently_and_at_rates_of_their_own(method):
    """The number of frames left of 12 is a mixture of binomials over p = 0, .1, ..., .9 in either version."""
    n = 4000
    views = views_drawn(small(method, drop_modalities="no"), plain_batch(n), Draws((0,), 3))
    left = [view.frames["l"][0].sum(-1).numpy() for view in views.values()]
    share = np.mean([binom.pmf(np.arange(13), 12, 1 - p / 10) for p in range(10)], axis=0)
    for found in left:
        assert chisquare(np.bincount(found, minlength=13), n * share).pvalue > 1e-3
    assert abs(np.corrcoef(*left)[0, 1]) < 4 / math.sqrt(n)
    within = np.corrcoef(left[0], views["student"].frames["a"][0].sum(-1).numpy())[0, 1]
    assert within > 0.5  # one rate for all modalities of a version: what correlation would look like


@both
@pytest.mark.parametrize("name", ["drop_modalities", "drop_frames"])
def test_what_shall_not_be_dropped_stays_in_both_versions(method, name):
    for view in views_drawn(small(method, **{name: "no"}), plain_batch(200), Draws((0,), 0)).values():
        whole = {m: frames[0].all(-1) for m, frames in view.frames.items()}
        some = {m: frames[0].any(-1) for m, frames in view.frames.items()}
        if name == "drop_modalities":
            assert torch.stack([*some.values()]).double().mean() > 0.95
            assert not torch.stack([*whole.values()]).all()
        else:
            assert all(torch.equal(whole[m], some[m]) for m in whole)
            assert not torch.stack([*some.values()]).all()


@both
def test_versions_depend_on_seed_and_step_and_on_no_neighbour(method):
    one, method = padded(20), small(method)

    def masks(seeds, step):
        return frames_of(views_drawn(method, stacked(*[one] * len(seeds)), Draws(seeds, step)))

    alone = masks((4,), 7)
    assert torch.equal(masks((4,), 7), alone)
    beside = masks((1, 4, 9), 7)
    assert torch.equal(beside[:, 1:2], alone)
    others = [beside[:, :1], beside[:, 2:], masks((4,), 8), alone.flip(0)]
    for version in (0, 1):
        assert not any(torch.equal(other[version], alone[version]) for other in others)


@both
def test_versions_keep_labels_and_hide_with_zeros(method):
    batch = stacked(padded(20))
    for view in views_drawn(small(method), batch, Draws((0,), 0)).values():
        assert torch.equal(view.y, batch.y)
        for m in batch.x:
            assert torch.equal(view.valid[m], batch.valid[m])
            assert torch.equal(view.x[m], batch.x[m] * view.frames[m].unsqueeze(-1))
