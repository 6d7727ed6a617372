"""Schematics: text fits its box, arrows join known boxes, strips show what is missing, files do not change."""

import io

import pytest
from matplotlib.text import Text

from mmkd_lib.results import figures, schematics
from mmkd_lib.results.schematics import ROLES, Diagram
from mmkd_lib.support.errors import BadInput

SHOWN = {"l": [True, False, True, True], "a": [False, False, False, True], "v": [True] * 3}


def two_boxes(text="encoder"):
    diagram = Diagram(columns=10, rows=4, height=1.5)
    diagram.box("one", text, 2, 2, 2.4, 1)
    diagram.box("two", "$H^t$", 8, 2, 2.4, 1, "frozen")
    diagram.arrow("one", "two", label="two\nlines")
    return diagram


def with_stack(text="what is left"):
    diagram = Diagram(columns=10, rows=4, height=1.5)
    diagram.group("student", 0, 0, 9, 4)
    diagram.stack("left", text, SHOWN, 3, 2, 3, 3)
    return diagram


def cells(axis):
    """The rectangles of strips, in drawing order."""
    return [patch for patch in axis.patches if type(patch).__name__ == "Rectangle"]


def ends(diagram):
    """Start and end of the arrow drawn last, rounded."""
    return [tuple(float(round(number, 6)) for number in point) for point in diagram.axis.patches[-1]._posA_posB]


def test_text_that_fits_and_text_that_does_not():
    """Measured on the laid out figure at its final size, both ways."""
    assert two_boxes().overflowing() == []
    assert two_boxes("an encoder that says far too much").overflowing() == ["one"]
    assert two_boxes("four\nlines\nof\ntext").overflowing() == ["one"]


def test_the_text_of_a_stack_has_the_room_above_its_strips():
    """Three lines would fit the whole box, not what the strips leave of it."""
    assert with_stack().overflowing() == []
    assert with_stack("one\ntwo\nthree\nfour").overflowing() == ["left"]
    diagram = with_stack()
    diagram.stack("again", "what is left of an utterance", SHOWN, 8, 2, 1.5, 3)
    assert diagram.overflowing() == ["again"]


def test_no_text_is_smaller_than_seven_points():
    for diagram in (two_boxes(), with_stack()):
        assert min(text.get_fontsize() for text in diagram.axis.findobj(Text)) >= 7


def test_a_diagram_is_data_too():
    assert two_boxes().table().values.tolist() == [
        ["one", "", "network box", "encoder"],
        ["two", "", "frozen box", "$H^t$"],
        ["one", "two", "forward", "two lines"],
    ]
    assert with_stack().table().values.tolist() == [
        ["student", "", "group", ""],
        ["left", "", "data box", "what is left [l x.xx, a ...x, v xxx]"],
    ]


def test_roles_are_told_by_their_edges_alone():
    """In grey the faces of two roles may look alike."""
    assert len({(style, width) for _, _, style, width in ROLES.values()}) == len(ROLES)


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        (None, [(3.2, 2), (6.8, 2)]),
        (("top", "bottom"), [(2, 2.5), (8, 1.5)]),
        (("left", "right"), [(0.8, 2), (9.2, 2)]),
    ],
)
def test_arrows_run_from_side_to_side(sides, expected):
    """Facing sides where none are named."""
    diagram = two_boxes()
    diagram.arrow("one", "two", "loss", sides=sides)
    assert ends(diagram) == expected


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (3.4, 0.5, [(2.7, 1.5), (2.7, 1.0)]),  # below: straight through the middle of what the two share
        (4.2, 0.5, [(2.0, 1.5), (4.2, 1.0)]),  # hardly anything shared: from middle to middle
        (8.0, 1.6, [(3.2, 1.8), (6.8, 1.8)]),  # beside, a little lower
        (2.0, 3.5, [(2.0, 2.5), (2.0, 3.0)]),  # above
    ],
)
def test_arrows_are_straight_where_boxes_face_each_other(x, y, expected):
    diagram = Diagram(columns=10, rows=4, height=1.5)
    for name, place in (("one", (2, 2)), ("two", (x, y))):
        diagram.box(name, "", *place, 2.4, 1)
    diagram.arrow("one", "two")
    assert ends(diagram) == expected
    diagram.arrow("two", "one")
    assert ends(diagram) == expected[::-1]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda d: d.arrow("one", "three"), "unknown box 'three': choose one of one, two"),
        (lambda d: d.arrow("three", "one"), "unknown box 'three': choose one of one, two"),
        (lambda d: d.arrow("one", "two", "back"), "unknown kind 'back'"),
        (lambda d: d.arrow("one", "two", sides=("over", "top")), "unknown side 'over'"),
        (lambda d: d.box("x", "x", 1, 1, 1, role="teacher"), "unknown role 'teacher'"),
        (lambda d: d.box("one", "x", 1, 1, 1), "box 'one' is drawn already"),
        (lambda d: d.stack("two", "x", SHOWN, 1, 1, 1, 1), "box 'two' is drawn already"),
        (lambda d: d.stack("x", "x", {"l": []}, 1, 1, 1, 1), "at least one modality"),
        (lambda d: schematics.strips(d.axis, {}), "at least one modality"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_leaves_no_trace(call, named):
    diagram = two_boxes()
    before, drawn = diagram.table(), len(diagram.axis.get_children())
    with pytest.raises(BadInput, match=named):
        call(diagram)
    assert diagram.table().equals(before)
    assert len(diagram.axis.get_children()) == drawn


def test_strips_hatch_exactly_what_is_missing():
    axis = figures.blank(3, 1).subplots()
    schematics.strips(axis, SHOWN)
    found = [(round(p.get_x() - 0.06), round(0.1 - p.get_y()), bool(p.get_hatch())) for p in cells(axis)]
    assert found == [(t, row, not there) for row, m in enumerate(SHOWN) for t, there in enumerate(SHOWN[m])]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["l", "a", "v"]


def test_a_stack_hatches_exactly_what_is_missing_and_stays_in_its_box():
    diagram = with_stack()
    found = cells(diagram.axis)
    assert [bool(cell.get_hatch()) for cell in found] == [not there for frames in SHOWN.values() for there in frames]
    box = diagram.boxes["left"]
    for cell in found:
        assert box.x - box.width / 2 < cell.get_x() < cell.get_x() + cell.get_width() < box.x + box.width / 2
        assert box.y - box.height / 2 < cell.get_y() < cell.get_y() + cell.get_height() < box.room[1]


def test_shades_say_how_much_a_frame_tells_and_leave_missing_ones_alone():
    axis = figures.blank(3, 1).subplots()
    schematics.strips(axis, {"l": [True, True, False]}, {"l": [0.0, 1.0, 1.0]})
    pale, full, lost = cells(axis)
    assert 0 < pale.get_facecolor()[3] < full.get_facecolor()[3] == 1
    assert pale.get_facecolor()[:3] == full.get_facecolor()[:3]
    assert lost.get_facecolor() == (1, 1, 1, 1)
    with pytest.raises(ValueError, match="shorter"):
        schematics.strips(axis, {"l": [True, True]}, {"l": [0.0]})


def test_the_answer_is_dark_and_the_truth_has_a_star():
    axis = figures.blank(3, 1).subplots()
    schematics.answer(axis, [0.2, 0.1, 0.7], ["negative", "neutral", "positive"], "negative")
    assert [bar.get_width() for bar in axis.patches] == [0.2, 0.1, 0.7]
    assert [bar.get_facecolor()[0] == 0.25 for bar in axis.patches] == [False, False, True]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["negative *", "neutral", "positive"]
    assert [text.get_text() for text in axis.texts] == ["0.20", "0.10", "0.70"]


@pytest.mark.parametrize("draw", [two_boxes, with_stack])
def test_a_drawing_is_the_same_file_every_time(draw):
    files = []
    for _ in range(2):
        stream = io.BytesIO()
        draw().figure.savefig(stream, format="svg", metadata={"Date": None})
        files.append(stream.getvalue())
    assert files[0] == files[1]
