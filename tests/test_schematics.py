"""Schematics: text fits its box, arrows join known boxes, strips show what is missing, files do not change."""

import io

import pytest

from mmkd_lib import figures, schematics
from mmkd_lib.errors import BadInput
from mmkd_lib.schematics import Diagram


def two_boxes(text="encoder"):
    diagram = Diagram(columns=10, rows=4, height=1.5)
    diagram.box("one", text, 2, 2, 2.4, 1)
    diagram.box("two", "$H^t$", 8, 2, 2.4, 1, "frozen")
    diagram.arrow("one", "two", label="x")
    return diagram


def test_text_that_fits_and_text_that_does_not():
    """Measured on the laid out figure at its final size, both ways."""
    assert two_boxes().overflowing() == []
    assert two_boxes("an encoder that says far too much").overflowing() == ["one"]
    assert two_boxes("four\nlines\nof\ntext").overflowing() == ["one"]


def test_a_diagram_is_data_too():
    rows = two_boxes().table()
    assert rows.values.tolist() == [
        ["one", "", "box", "encoder"],
        ["two", "", "box", "$H^t$"],
        ["one", "two", "forward", "x"],
    ]


@pytest.mark.parametrize(
    ("sides", "ends"),
    [(None, ((3.2, 2), (6.8, 2))), (("top", "bottom"), ((2, 2.5), (8, 1.5)))],
)
def test_arrows_run_from_side_to_side(sides, ends):
    """Facing sides where none are named."""
    diagram = two_boxes()
    diagram.arrow("one", "two", "loss", sides=sides)
    arrow = diagram.axis.patches[-1]
    assert arrow._posA_posB == list(ends) or tuple(map(tuple, arrow._posA_posB)) == ends


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda d: d.arrow("one", "three"), "unknown box 'three': choose one of one, two"),
        (lambda d: d.arrow("one", "two", "back"), "unknown kind"),
        (lambda d: d.box("x", "x", 1, 1, 1, role="teacher"), "unknown role"),
        (lambda d: schematics.strips(d.axis, {}), "at least one modality"),
    ],
)
def test_unknown_names_are_refused(call, named):
    with pytest.raises(BadInput, match=named):
        call(two_boxes())


def test_strips_hatch_exactly_what_is_missing():
    axis = figures.blank(3, 1).subplots()
    shown = {"l": [True, False, True, True], "a": [False, False, False, True], "v": [True] * 3}
    schematics.strips(axis, shown)
    cells = [(round(p.get_x() - 0.06), round(0.1 - p.get_y()), bool(p.get_hatch())) for p in axis.patches]
    assert cells == [(t, row, not there) for row, m in enumerate(shown) for t, there in enumerate(shown[m])]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["l", "a", "v"]


def test_the_answer_is_dark_and_the_truth_has_a_star():
    axis = figures.blank(3, 1).subplots()
    schematics.answer(axis, [0.2, 0.1, 0.7], ["negative", "neutral", "positive"], "negative")
    widths = [bar.get_width() for bar in axis.patches]
    assert widths == [0.2, 0.1, 0.7]
    assert [bar.get_facecolor()[0] == 0.25 for bar in axis.patches] == [False, False, True]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["negative *", "neutral", "positive"]


def test_a_drawing_is_the_same_file_every_time():
    files = []
    for _ in range(2):
        stream = io.BytesIO()
        two_boxes().figure.savefig(stream, format="svg", metadata={"Date": None})
        files.append(stream.getvalue())
    assert files[0] == files[1]
