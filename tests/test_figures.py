"""Figures: what is drawn is what is written, seeds of t-SNE differ, files are the same from run to run."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mmkd_lib.results import artefacts, figures, tables

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
    rows += [(*row[:4], "missing_frames", 100 * float(row[3][7:]) + 0.5) for row in rows]
    frame = pd.DataFrame(rows, columns=["benchmark", "system", "seed", "condition", "metric", "value"])
    ceiling = {"b": {condition: {"f1": 90.0} for condition in CURVE} | {"l": {"f1": 85.0}}}
    floor = {"b": {"f1": 40.0}}
    return figures.curves(tables.summary(frame), {"first": ("b", "f1")}, "frames", floor, ceiling, "p", "F1")


def test_curves_draw_the_numbers_that_are_written():
    figure, numbers = drawn()
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"CorrKD", "plain", "best constant", "ceiling"}
    own = numbers[numbers["system"] == "CorrKD"].sort_values("x")
    np.testing.assert_allclose(lines["CorrKD"].get_ydata(), own["mean"])
    assert len(lines["ceiling"].get_xdata()) == 11
    assert set(numbers["n"]) == {3}
    np.testing.assert_allclose(
        numbers["realised"], 100 * numbers["x"] + 0.5
    )  # nominal and realised rate stand together


def test_four_panels_are_two_by_two_and_each_shows_its_own_metric():
    rows = [("b", "plain", 0, c, f"f{k}", 10.0 * k) for k in range(4) for c in CURVE]
    frame = pd.DataFrame(rows, columns=["benchmark", "system", "seed", "condition", "metric", "value"])
    panels = {f"panel {k}": ("b", f"f{k}") for k in range(4)}
    floor = {"b": {f"f{k}": 5.0 for k in range(4)}}
    figure, numbers = figures.curves(tables.summary(frame), panels, "frames", floor, {}, "p", "F1")
    assert figure.axes[0].get_gridspec().get_geometry() == (2, 2)
    for k, axis in enumerate(figure.axes):
        assert axis.get_title() == f"({'abcd'[k]}) panel {k}"
        assert set(axis.lines[0].get_ydata()) == {10.0 * k}
    assert numbers.groupby("panel")["mean"].first().tolist() == [0.0, 10.0, 20.0, 30.0]


def test_changes_draw_a_dot_a_seed_and_mark_what_is_printed():
    rows = [("b", "one", 1.0), ("b", "one", 3.0), ("b", "two", -8.0), ("c", "two", 0.5)]
    frame = pd.DataFrame(rows, columns=["benchmark", "system", "value"])
    figure, numbers = figures.changes(frame, ["one", "two"], {"two"}, "points")
    assert numbers["mean"].tolist() == [2.0, -8.0, 0.5]
    assert numbers["n"].tolist() == [2, 1, 1]
    dots = {tuple(line.get_xdata()) for line in figure.axes[0].lines if line.get_marker() == "o"}
    assert dots == {(1.0, 3.0), (-8.0,)}
    labels = {label.get_text(): label.get_color() for label in figure.axes[0].get_yticklabels()}
    assert labels["one"] == "black"
    assert labels["two"] != "black"


def test_differences_have_a_zero_and_no_floor():
    rows = [("b less CorrKD", "plain", 0, c, "f1", 1.0) for c in CURVE]
    frame = pd.DataFrame(rows, columns=["benchmark", "system", "seed", "condition", "metric", "value"])
    panels = {"apart": ("b less CorrKD", "f1")}
    figure, _ = figures.curves(tables.summary(frame), panels, "frames", {"b": {"f1": 40.0}}, {}, "p", "points")
    lines = {line.get_label(): set(line.get_ydata()) for line in figure.axes[0].lines}
    assert "best constant" not in lines
    assert {0} in lines.values()


def test_the_legend_names_systems_that_the_first_panel_lacks():
    rows = [("b", "plain", 0, c, m, 1.0) for c in CURVE for m in ("mae", "f1")]
    rows += [("b", "CorrKD", 0, c, "f1", 1.0) for c in CURVE]
    frame = pd.DataFrame(rows, columns=["benchmark", "system", "seed", "condition", "metric", "value"])
    panels = {"MAE": ("b", "mae"), "F1": ("b", "f1")}
    figure, _ = figures.curves(tables.summary(frame), panels, "frames", {}, {}, "p", "score")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain", "CorrKD"]


def test_rings_are_drawn_and_counted_where_they_are_asked_for():
    rng, y, hollow = np.random.default_rng(0), np.tile([0, 1], 20), np.arange(40) >= 20
    points = {"one": rng.normal(size=(40, 5))}
    figure, rows = figures.embedding_panels(points, y, ("a", "b"), {"one": ""}, seeds=(0,), hollow=hollow)
    drawn_as = [(len(part.get_offsets()), len(part.get_facecolor())) for part in figure.axes[0].collections]
    assert drawn_as == [(10, 1), (10, 0)] * 2  # filled, rings; of each class
    assert rows["hollow"].sum() == 20
    assert len(figure.legends[0].get_texts()) == 2


def test_a_system_keeps_its_colour_and_marker():
    figure, _ = drawn()
    for line in figure.axes[0].lines[:2]:
        assert (line.get_color(), line.get_marker()) == figures.SYSTEMS[line.get_label()]
    assert len(set(figures.SYSTEMS.values())) == len(figures.SYSTEMS)
    shared = ["plain", "complete data", "oracle teaching"]
    together = [["CorrKD", *shared], ["CorrKD", "w/o SCD", "w/o CPD", "w/o RCD"], ["UMDF", *shared]]  # in one figure
    together.append(["UMDF", "w/o L_fea", "w/o L_logits", "w/o MCIM", "w/o DFIM"])
    together += [["HFGD", "CorrKD", *shared], ["avg (six)", "avg (p > 0)", "l+a+v"]]
    together += [["DynKD", *shared], ["taught by l+a", "taught by l+v", "taught by a+v"], ["before", "after"]]
    together += [["Shapley", "greedy", "even"], ["routed", "even"], ["MCUR", "flowing weight"]]
    assert {name for names in together for name in names} == set(figures.SYSTEMS)
    for names in together:
        assert len({figures.SYSTEMS[name][0] for name in names}) == len(names)
        assert len({figures.SYSTEMS[name][1] for name in names}) == len(names)


def test_progress_is_the_mean_over_seeds_at_each_epoch():
    one, other = np.array([[0.0, 0.2, 0.4], [0.2, 0.4, 0.6]]), np.array([[0.5, 0.5, 0.5]])
    panels = {"a": {"taught by l+a": one, "taught by a+v": 1 - one}, "b": {"even": other}}
    figure, rows = figures.progress(panels, "epoch", ("probability",), (0, 1), 0.5)
    assert figure.axes[0].get_ylabel() == "probability"
    first = rows[(rows["panel"] == "a") & (rows["system"] == "taught by l+a")]
    assert first["epoch"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(first["mean"], [0.1, 0.3, 0.5])
    np.testing.assert_allclose(first["half"], tables.half_width(np.array([0.0, 0.2])))
    assert rows[rows["system"] == "even"]["half"].isna().all()
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [0.1, 0.3, 0.5])
    assert figure.axes[0].get_ylim() == (0, 1)
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"taught by l+a", "taught by a+v", "even"}


def test_settings_have_a_line_a_system_and_their_names_below():
    """A dashed line for what is left out, a label for each column, no rate without its value."""
    index = pd.Index(["mr=0.1", "mr=0.7"], name="condition")
    line = pd.DataFrame({"mean": [0.5, 0.6], "half": [0.01, 0.02], "n": [5, 5]}, index=index)
    panels = {"NLL": {"with": line, "without": line + 0.1}, "Brier": {"with": line / 2, "without": line / 4}}
    styles = {"with": ("#0072B2", False), "without": ("#0072B2", True)}
    figure, rows = figures.settings(panels, styles, ("nats", "score"))
    first, second = figure.axes
    assert [axis.get_ylabel() for axis in (first, second)] == ["nats", "score"]
    assert [text.get_text() for text in first.get_xticklabels()] == ["0.1", "0.7"]
    assert [drawn.is_dashed() for drawn in first.lines] == [False, True]
    np.testing.assert_allclose(second.lines[1].get_ydata(), [0.125, 0.15])
    assert rows[(rows["panel"] == "Brier") & (rows["system"] == "without")]["mean"].tolist() == [0.125, 0.15]
    assert rows["setting"].tolist() == ["mr=0.1", "mr=0.7"] * 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["with", "without"]


def test_a_heat_map_marks_the_chosen_cell():
    frame = pd.DataFrame([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], index=[0.1, 1], columns=[0.1, 0.3, 0.9])
    figure, rows = figures.heat_maps({"WA": frame}, (1, 0.3), "q", "weight")
    axis = figure.axes[0]
    [mark] = axis.patches
    assert (mark.get_x(), mark.get_y()) == (0.5, 0.5)  # around the middle column of the second row
    assert [text.get_text() for text in axis.texts] == ["1.0", "2.0", "3.0", "4.0", "5.0", "6.0"]
    assert rows[(rows["row"] == 1) & (rows["column"] == 0.3)]["value"].item() == 5
    assert not figures.heat_maps({"WA": frame}, (7, 0.3), "q", "weight")[0].axes[0].patches


def test_densities_have_an_area_of_one():
    edges, shares = np.linspace(0, 180, 5), np.array([0.1, 0.2, 0.3, 0.4])
    figure, rows = figures.densities({"kd": {"before": shares, "after": shares[::-1]}}, edges, 90, "degrees")
    for _, own in rows.groupby("system"):
        np.testing.assert_allclose((own["density"] * (own["high"] - own["low"])).sum(), 1)
    assert figure.axes[0].lines[0].get_xdata() == [90, 90]
    assert rows[rows["system"] == "after"]["density"].is_monotonic_decreasing


def test_two_seeds_of_tsne_are_two_maps():
    """From one start both rows would be the same picture, and a reader could not see what the seed does."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    points = rng.normal(size=(40, 5)) + 3 * y[:, None]
    _, rows = figures.embedding_panels({"one": points}, y, ("first", "second"), {"one": "a note"})
    one, two = (rows[rows["seed"] == seed][["x", "y"]].to_numpy() for seed in (0, 1))
    assert one.shape == two.shape == (40, 2)
    assert np.abs(one - two).max() > 1


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


def curves_of(count, **labels):
    rows = [("b", "plain", seed, c, f"f{k}", 10.0 * k + seed) for k in range(count) for c in CURVE for seed in (0, 1)]
    frame = pd.DataFrame(rows, columns=["benchmark", "system", "seed", "condition", "metric", "value"])
    panels = {f"panel {k}": ("b", f"f{k}") for k in range(count)}
    return figures.curves(tables.summary(frame), panels, "frames", {}, {}, **labels)


def progress_of(count, ylabel):
    values = np.array([[0.0, 0.5, 1.0], [0.5, 1.0, 2.0]])
    return figures.progress({f"panel {k}": {"even": values} for k in range(count)}, "epoch", ylabel)


def settings_of(count):
    line = pd.DataFrame({"mean": [0.5, 0.6], "half": [0.01, 0.02], "n": [5, 5]}, index=["l", "l+a"])
    panels = {f"panel {k}": {"with": line} for k in range(count)}
    return figures.settings(panels, {"with": ("#0072B2", False)}, ("nats", "score"))


def densities_of(**labels):
    panels = {name: {"before": np.full(4, 0.25)} for name in ("kd", "feature")}
    return figures.densities(panels, np.linspace(0, 180, 5), 90, "degrees", **labels)


def changes_of():
    frame = pd.DataFrame([("b", "one", 1.0), ("c", "one", -8.0)], columns=["benchmark", "system", "value"])
    return figures.changes(frame, ["one"], set(), "points")


def embedding_of():
    points = np.random.default_rng(0).normal(size=(12, 3))
    panels, notes = {"one": points, "two": points}, {"one": "", "two": ""}
    return figures.embedding_panels(panels, np.tile([0, 1], 6), ("a", "b"), notes, iterations=250)


GRID = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], index=[0.1, 1], columns=[0.1, 0.3])
# (plotting function, a figure of it, (label of x, label of y) of each of its panels)
DRAWN = [
    ("curves", lambda: curves_of(1, xlabel="p", ylabel="F1"), [("p", "F1")]),
    ("curves", lambda: curves_of(2, xlabel="p", ylabel="F1"), [("p", "F1"), ("p", "")]),
    (
        "curves",
        lambda: curves_of(4, xlabel="p", ylabel=("F1", "MAE")),
        [("", "F1"), ("", ""), ("p", "MAE"), ("p", "")],
    ),
    (
        "curves",
        lambda: curves_of(6, xlabel="p", ylabel="F1"),
        [("", "F1"), ("", ""), ("", ""), ("p", "F1"), ("p", ""), ("p", "")],
    ),
    ("progress", lambda: progress_of(1, "share"), [("epoch", "share")]),
    (
        "progress",
        lambda: progress_of(4, ("regret (nats)", "share")),
        [("", "regret (nats)"), ("", ""), ("epoch", "share"), ("epoch", "")],
    ),
    ("settings", lambda: settings_of(4), [("", "nats"), ("", "score")] * 2),  # a setting's name is its tick
    (
        "heat_maps",
        lambda: figures.heat_maps({"WA": GRID, "UA": GRID}, (1, 0.3), "q", "weight"),
        [("q", "weight"), ("q", "")],
    ),
    ("densities", densities_of, [("degrees", "density"), ("degrees", "")]),
    ("densities", lambda: densities_of(ylabel="shares"), [("degrees", "shares"), ("degrees", "")]),
    ("changes", changes_of, [("points\n(logarithmic beyond ±1)", "")] * 2),  # a choice's name is its tick
    ("embedding_panels", embedding_of, [("", "t-SNE seed 0"), ("", ""), ("", "t-SNE seed 1"), ("", "")]),  # no ticks
]


def panels_of(figure):
    """The panels that are seen, without the colour bars of heat maps, whose numbers stand in the cells."""
    return [axis for axis in figure.axes if axis.get_visible() and axis.get_label() != "<colorbar>"]


def unlabelled(figure):
    """(panel, direction) of every axis that shows numbers and whose row, or column, of panels has no label of them."""
    figure.canvas.draw()
    panels, found = panels_of(figure), []
    for panel in panels:
        place = panel.get_subplotspec()
        in_row = [other for other in panels if other.get_subplotspec().rowspan == place.rowspan]
        in_column = [other for other in panels if other.get_subplotspec().colspan == place.colspan]
        for way, beside in (("x", in_column), ("y", in_row)):
            shown = [t.get_text() for t in getattr(panel, f"get_{way}ticklabels")() if t.get_visible()]
            numbers = [text for text in shown if text.strip("−+-.").replace(".", "").isdecimal()]
            if numbers == shown != [] and not any(getattr(other, f"get_{way}label")() for other in beside):
                found.append((panel.get_title(), way))
    return found


@pytest.mark.parametrize(("function", "draw", "expected"), DRAWN, ids=[function for function, *_ in DRAWN])
def test_every_axis_says_what_it_shows(function, draw, expected):
    figure, _ = draw()
    assert [(panel.get_xlabel(), panel.get_ylabel()) for panel in panels_of(figure)] == expected, function
    assert unlabelled(figure) == []


def test_every_plotting_function_is_asked_for_its_labels():
    own = {name for name, thing in vars(figures).items() if getattr(thing, "__module__", "") == figures.__name__}
    public = {name for name in own if not name.startswith("_")}
    assert {function for function, *_ in DRAWN} == public - {"use_style", "blank", "stamp"}


def test_numbers_without_a_label_are_found():
    figure, _ = plt.subplots()
    assert unlabelled(figure) == [("", "x"), ("", "y")]
    figure.axes[0].set(xlabel="p", ylabel="F1")
    assert unlabelled(figure) == []
