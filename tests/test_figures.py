"""Figures: what is drawn is what is written, seeds of t-SNE differ, files are the same from run to run."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mmkd_lib import artefacts, figures, tables

CURVE = [f"frames={p / 10:.1f}" for p in range(11)]


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def drawn():
    rows = [
        ("b", system, seed, condition, "f1", 80.0 - 30 * i / 10 + seed + (system == "plain"))
        for system in ("CorrKD", "plain")
        for seed in range(3)
        for i, condition in enumerate(CURVE)
    ]
    frame = pd.DataFrame(rows, columns=["benchmark", "system", "seed", "condition", "metric", "value"])
    ceiling = {"b": {condition: {"f1": 90.0} for condition in CURVE} | {"l": {"f1": 85.0}}}
    floor = {"b": {"f1": 40.0}}
    return figures.curves(tables.summary(frame), "f1", ["b"], "frames", floor, ceiling, "p", "F1")


def test_curves_draw_the_numbers_that_are_written():
    figure, numbers = drawn()
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"CorrKD", "plain", "best constant", "ceiling"}
    own = numbers[numbers["system"] == "CorrKD"].sort_values("x")
    np.testing.assert_allclose(lines["CorrKD"].get_ydata(), own["mean"])
    assert len(lines["ceiling"].get_xdata()) == 11
    assert set(numbers["n"]) == {3}


def test_a_system_keeps_its_colour_and_marker():
    figure, _ = drawn()
    for line in figure.axes[0].lines[:2]:
        assert (line.get_color(), line.get_marker()) == figures.SYSTEMS[line.get_label()]
    assert len({colour for colour, _ in figures.SYSTEMS.values()}) == len(figures.SYSTEMS)


def test_two_seeds_of_tsne_are_two_maps():
    """From one start both rows would be the same picture, and a reader could not see what the seed does."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    points = rng.normal(size=(40, 5)) + 3 * y[:, None]
    _, rows = figures.embedding_panels({"one": points}, y, ("first", "second"))
    one, two = (rows[rows["seed"] == seed][["x", "y"]].to_numpy() for seed in (0, 1))
    assert one.shape == two.shape == (40, 2)
    assert np.abs(one - two).max() > 1


def test_a_sample_holds_at_most_so_many_of_each_class():
    y = np.repeat([0, 1, 2], [5, 50, 200])
    rows = figures.sample_per_class(y, 30)
    assert np.bincount(y[rows]).tolist() == [5, 30, 30]
    np.testing.assert_array_equal(rows, figures.sample_per_class(y, 30))


def test_figure_files_are_equal_from_run_to_run_and_carry_their_story(tmp_path):
    for name in ("one", "two"):
        figure, numbers = drawn()
        figures.stamp(figure, "SMOKE")
        artefacts.save_figure(tmp_path / name, "corrkd/figure4", figure, numbers, "A line.", {"profile": "smoke"})
    for suffix in (".svg", ".png", ".csv", ".json"):
        one, two = ((tmp_path / name / "figure4").with_suffix(suffix).read_bytes() for name in ("one", "two"))
        assert one == two, suffix
    assert "SMOKE" in (tmp_path / "one" / "figure4.svg").read_text()
    assert json.loads((tmp_path / "one" / "figure4.json").read_text())["alt"] == "A line."
