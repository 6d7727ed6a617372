"""Schematics: boxes by name, arrows between them, strips of frames, shares of an answer. Knows the style of figures,
nothing of methods."""

from dataclasses import dataclass

import matplotlib.patches as patches
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

from ..support.errors import BadInput, one_of
from .figures import FULL, blank

FONT, SMALL = 7.5, 7  # points
# role -> face, edge, line style, line width: the edge alone tells the role, so that it is read in grey
ROLES = {
    "data": ("white", "0.35", "-", 0.8),
    "network": ("#DDECF6", "#0072B2", "-", 1.5),
    "frozen": ("#E9E9E9", "0.35", (0, (4, 2)), 1.1),
    "loss": ("#FBE6D6", "#D55E00", (0, (1, 1)), 1.4),
}
KINDS = {"forward": ("0.15", "-"), "loss": ("#D55E00", (0, (3, 2)))}
MODALITIES = {"l": "#0072B2", "a": "#E69F00", "v": "#009E73"}
SIDES = {"left": (-1, 0), "right": (1, 0), "top": (0, 1), "bottom": (0, -1)}
CELLS = 0.6  # the share of a stack's height that its strips take; its text has the rest


@dataclass
class Box:
    """A box of a diagram: middle and size, its role, its text and the room that the text has (x0, y0, x1, y1)."""

    x: float
    y: float
    width: float
    height: float
    role: str
    text: object
    room: tuple
    content: str = ""  # of a stack: its strips in letters

    def side(self, name):
        """The middle of the `left`, `right`, `top` or `bottom` edge."""
        dx, dy = SIDES[one_of("side", name, SIDES)]
        return self.x + dx * self.width / 2, self.y + dy * self.height / 2


class Diagram:
    """A block diagram on a grid of `columns` x `rows` units; (0, 0) is the lower left corner."""

    def __init__(self, columns, rows, height):
        self.figure = blank(FULL, height)
        self.axis = self.figure.add_subplot()
        self.axis.set(xlim=(0, columns), ylim=(0, rows))
        self.axis.axis("off")
        self.boxes, self.arrows, self.groups = {}, [], []
        self.inch = columns / FULL

    def box(self, name, text, x, y, width, height=1.0, role="network"):
        """A named box with its middle at (x, y)."""
        self._frame(name, text, x, y, width, height, role, y - height / 2)

    def stack(self, name, text, shown, x, y, width, height):
        """A box of data with a strip a modality under its text; shown: m -> (T,) bool, hatched where it is missing."""
        _some(shown)
        self._frame(name, text, x, y, width, height, "data", y + height * (CELLS - 0.5))
        left, bottom, row = x - width / 2, y - height / 2, CELLS * height / (len(shown) + 0.4)
        indent = 0.2 * self.inch  # for the letter
        for i, (m, frames) in enumerate(shown.items()):
            low = bottom + (len(shown) - i - 0.8) * row
            self.axis.text(left + indent / 2, low + 0.4 * row, m, fontsize=SMALL, ha="center", va="center_baseline")
            step = (width - 1.4 * indent) / len(frames)
            _cells(self.axis, m, frames, [1] * len(frames), left + indent, low, step, 0.8 * row)
        strips = ", ".join(f"{m} {''.join('x' if f else '.' for f in frames)}" for m, frames in shown.items())
        self.boxes[name].content = f" [{strips}]"

    def arrow(self, start, end, kind="forward", label="", sides=None):
        """An arrow from box to box; `sides` such as ("bottom", "top"), else those that face each other."""
        one, other = (self.boxes[one_of("box", name, self.boxes)] for name in (start, end))
        colour, style = KINDS[one_of("kind", kind, KINDS)]
        ends = _ends(one, other, sides or _facing(one, other))
        look = {"arrowstyle": "-|>", "mutation_scale": 8, "lw": 1.0, "color": colour, "ls": style}
        self.axis.add_patch(patches.FancyArrowPatch(*ends, shrinkA=0, shrinkB=0.5, **look))
        if label:
            middle = [(a + b) / 2 for a, b in zip(*ends, strict=True)]
            flat = abs(ends[1][0] - ends[0][0]) > abs(ends[1][1] - ends[0][1])
            beside = {"xytext": (0, 2), "ha": "center", "va": "bottom"} if flat else {"xytext": (4, 0), "va": "center"}
            self.axis.annotate(label, middle, textcoords="offset points", fontsize=SMALL, color=colour, **beside)
        self.arrows.append((start, end, kind, _line(label)))

    def group(self, title, left, bottom, right, top, below=False):
        """A pale frame around boxes, with its title in the upper (or lower) left corner."""
        size = right - left, top - bottom
        style = {"boxstyle": "round,pad=0,rounding_size=0.2", "fc": "none", "ec": "0.75", "lw": 0.8, "zorder": 0}
        self.axis.add_patch(patches.FancyBboxPatch((left, bottom), *size, **style))
        y, align = (bottom + 0.15, "bottom") if below else (top - 0.15, "top")
        self.axis.text(left + 0.2, y, title, fontsize=FONT, va=align, color="0.3", style="italic")
        self.groups.append((title, "", "group", ""))

    def _frame(self, name, text, x, y, width, height, role, floor):
        """Draw and remember a box whose text stands in the middle of what lies above `floor`."""
        face, edge, style, line = ROLES[one_of("role", role, ROLES)]
        if name in self.boxes:
            raise BadInput(f"box {name!r} is drawn already: give another name, or start from a new Diagram.")
        left, right, top = x - width / 2, x + width / 2, y + height / 2
        look = {"boxstyle": "round,pad=0,rounding_size=0.12", "fc": face, "ec": edge, "ls": style, "lw": line}
        self.axis.add_patch(patches.FancyBboxPatch((left, y - height / 2), width, height, **look))
        middle = x, (floor + top) / 2
        said = self.axis.text(*middle, text, ha="center", va="center", fontsize=FONT, linespacing=1.25)
        self.boxes[name] = Box(x, y, width, height, role, said, (left, floor, right, top))

    def overflowing(self):
        """Names of the boxes whose text is wider or higher than its room, at the size it is printed."""
        FigureCanvasAgg(self.figure).draw()  # lays out; a closed figure has no canvas that does
        found = []
        for name, box in self.boxes.items():
            inner, outer = box.text.get_window_extent(), Bbox.from_extents(*box.room).transformed(self.axis.transData)
            if not (outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1):
                found.append(name)
        return found

    def table(self):
        """What is drawn, as data: a row a group or box (from), and a row an arrow (from, to, kind, label)."""
        boxes = [
            (name, "", f"{box.role} box", _line(box.text.get_text()) + box.content) for name, box in self.boxes.items()
        ]
        return pd.DataFrame(self.groups + boxes + self.arrows, columns=["from", "to", "kind", "label"])


def _line(text):
    return text.replace("\n", " ")


def _facing(one, other):
    """The sides across the wider gap between two boxes."""
    dx, dy = other.x - one.x, other.y - one.y
    if abs(dx) - (one.width + other.width) / 2 >= abs(dy) - (one.height + other.height) / 2:
        return ("right", "left") if dx > 0 else ("left", "right")
    return ("top", "bottom") if dy > 0 else ("bottom", "top")


def _ends(one, other, sides):
    """Where an arrow starts and ends: the middles of the sides, moved along them where that makes it straight."""
    (x0, y0), (x1, y1) = one.side(sides[0]), other.side(sides[1])
    if set(sides) == {"top", "bottom"}:
        x0, x1 = _straight(x0, one.width, x1, other.width)
    elif set(sides) == {"left", "right"}:
        y0, y1 = _straight(y0, one.height, y1, other.height)
    return (x0, y0), (x1, y1)


def _straight(a, size, b, other):
    """Twice the middle of what two sides share; (a, b) as they are if that is less than a quarter of the shorter."""
    low, high = max(a - size / 2, b - other / 2), min(a + size / 2, b + other / 2)
    return ((low + high) / 2,) * 2 if high - low >= min(size, other) / 4 else (a, b)


def strips(axis, shown, shades=None):
    """A row of cells a modality: filled where the frame is shown, hatched where it is missing.

    shown: m -> (T,) bool; shades: m -> (T,) from 0 (pale) to 1 (full colour), else all are full.
    """
    longest = max(len(frames) for frames in _some(shown).values())
    for row, (m, frames) in enumerate(shown.items()):
        _cells(axis, m, frames, [1] * len(frames) if shades is None else shades[m], 0, 0.1 - row, 1, 0.8)
    axis.set(xlim=(-0.1, longest + 0.1), ylim=(-len(shown) + 0.95, 1.05), xticks=[])
    axis.set_yticks([0.5 - row for row in range(len(shown))], list(shown))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _some(shown):
    if not shown or not all(len(frames) for frames in shown.values()):
        raise BadInput("there is nothing to draw: give at least one modality, and each of them with its frames.")
    return shown


def _cells(axis, m, frames, shades, left, bottom, step, height):
    """One strip: a cell a frame, `step` wide."""
    colour = MODALITIES.get(m, "#CC79A7")
    for t, (there, shade) in enumerate(zip(frames, shades, strict=True)):
        filled = {"fc": (colour, 0.12 + 0.88 * shade), "ec": colour}
        look = filled if there else {"fc": "white", "ec": "0.6", "hatch": "////"}
        axis.add_patch(patches.Rectangle((left + (t + 0.06) * step, bottom), 0.88 * step, height, lw=0.5, **look))


def answer(axis, shares, names, truth):
    """Horizontal bars of the probabilities of a few answers; the largest is dark, the true one carries a star."""
    highest = max(range(len(shares)), key=lambda i: shares[i])
    for i, share in enumerate(shares):
        axis.barh(-i, share, height=0.66, color="0.25" if i == highest else "0.75")
        axis.text(share + 0.02, -i, f"{share:.2f}", fontsize=SMALL, va="center_baseline")
    labels = [f"{name} *" if name == truth else name for name in names]
    axis.set_yticks([-i for i in range(len(names))], labels)
    axis.set(xlim=(0, 1.15), xticks=[0, 0.5, 1])  # the last number stands beyond the axis
    axis.spines["bottom"].set_bounds(0, 1)
    axis.tick_params(axis="y", length=0)
