"""Schematics: boxes by name, arrows between them, strips of frames, shares of an answer. Knows the style of figures,
nothing of methods."""

from dataclasses import dataclass

import matplotlib.patches as patches
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg

from .errors import BadInput, one_of
from .figures import FULL, blank

FONT = 7.5
# role -> face, edge, line style: a role is told by its edge, too, so that it is read in grey
ROLES = {
    "data": ("#F5F5F5", "0.35", "-"),
    "network": ("#DDECF6", "#0072B2", "-"),
    "frozen": ("#E9E9E9", "0.35", (0, (4, 2))),
    "loss": ("#FBE6D6", "#D55E00", "-"),
}
KINDS = {"forward": ("0.15", "-"), "loss": ("#D55E00", (0, (3, 2)))}
MODALITIES = {"l": "#0072B2", "a": "#E69F00", "v": "#009E73"}


@dataclass
class Box:
    """A box of a diagram: its middle, its size and what is drawn."""

    x: float
    y: float
    width: float
    height: float
    patch: object
    text: object

    def side(self, name):
        """The middle of the `left`, `right`, `top` or `bottom` edge."""
        dx, dy = {"left": (-1, 0), "right": (1, 0), "top": (0, 1), "bottom": (0, -1)}[name]
        return self.x + dx * self.width / 2, self.y + dy * self.height / 2


class Diagram:
    """A block diagram on a grid of `columns` x `rows` units; (0, 0) is the lower left corner."""

    def __init__(self, columns, rows, height):
        self.figure = blank(FULL, height)
        self.axis = self.figure.add_subplot()
        self.axis.set(xlim=(0, columns), ylim=(0, rows))
        self.axis.axis("off")
        self.boxes, self.arrows = {}, []

    def box(self, name, text, x, y, width, height=1.0, role="network"):
        """A named box with its middle at (x, y)."""
        face, edge, style = ROLES[one_of("role", role, ROLES)]
        corner = x - width / 2, y - height / 2
        shape = patches.FancyBboxPatch(
            corner, width, height, boxstyle="round,pad=0,rounding_size=0.12", fc=face, ec=edge, ls=style, lw=1.1
        )
        self.axis.add_patch(shape)
        said = self.axis.text(x, y, text, ha="center", va="center", fontsize=FONT, linespacing=1.25)
        self.boxes[name] = Box(x, y, width, height, shape, said)

    def arrow(self, start, end, kind="forward", label="", sides=None):
        """An arrow from box to box; `sides` such as ("bottom", "top"), else those that face each other."""
        one, other = (self._box(name) for name in (start, end))
        if sides is None:
            dx, dy = other.x - one.x, other.y - one.y
            flat = abs(dx) >= abs(dy)
            sides = (("right", "left") if dx > 0 else ("left", "right")) if flat else ("top", "bottom")
            sides = sides if flat or dy > 0 else ("bottom", "top")
        colour, style = KINDS[one_of("kind", kind, KINDS)]
        ends = one.side(sides[0]), other.side(sides[1])
        self.axis.add_patch(
            patches.FancyArrowPatch(
                *ends, arrowstyle="-|>", mutation_scale=8, lw=1.0, color=colour, ls=style, shrinkA=0
            )
        )
        if label:
            middle = [(a + b) / 2 for a, b in zip(*ends, strict=True)]
            self.axis.text(*middle, label, fontsize=7, ha="center", va="bottom", color=colour)
        self.arrows.append((start, end, kind, label))

    def group(self, title, left, bottom, right, top, below=False):
        """A pale frame around boxes, with its title in the upper (or lower) left corner."""
        size = right - left, top - bottom
        style = {"boxstyle": "round,pad=0,rounding_size=0.2", "fc": "none", "ec": "0.75", "lw": 0.8, "zorder": 0}
        self.axis.add_patch(patches.FancyBboxPatch((left, bottom), *size, **style))
        y, align = (bottom + 0.15, "bottom") if below else (top - 0.15, "top")
        self.axis.text(left + 0.2, y, title, fontsize=FONT, va=align, color="0.3", style="italic")

    def _box(self, name):
        return self.boxes[one_of("box", name, self.boxes)]

    def overflowing(self):
        """Names of the boxes whose text is wider or higher than they are, at the size it is printed."""
        FigureCanvasAgg(self.figure).draw()  # lays out; a closed figure has no canvas that does
        found = []
        for name, box in self.boxes.items():
            inner, outer = box.text.get_window_extent(), box.patch.get_window_extent()
            if not (outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1):
                found.append(name)
        return found

    def table(self):
        """What is drawn, as data: a row a box (from) and a row an arrow (from, to, kind, label)."""
        boxes = [(name, "", "box", box.text.get_text().replace("\n", " ")) for name, box in self.boxes.items()]
        return pd.DataFrame(boxes + self.arrows, columns=["from", "to", "kind", "label"])


def strips(axis, shown):
    """A row of cells a modality: filled where the frame is shown, hatched where it is missing.

    shown: m -> (T,) bool.
    """
    if not shown:
        raise BadInput("there is nothing to draw: give at least one modality with its frames.")
    longest = max(len(frames) for frames in shown.values())
    for row, (m, frames) in enumerate(shown.items()):
        for t, there in enumerate(frames):
            colour = MODALITIES.get(m, "#CC79A7")
            look = {"fc": colour, "ec": "white"} if there else {"fc": "white", "ec": "0.6", "hatch": "////"}
            axis.add_patch(patches.Rectangle((t + 0.06, -row + 0.1), 0.88, 0.8, lw=0.6, **look))
    axis.set(xlim=(-0.1, longest + 0.1), ylim=(-len(shown) + 0.95, 1.05), xticks=[])
    axis.set_yticks([0.5 - row for row in range(len(shown))], list(shown))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def answer(axis, shares, names, truth):
    """Horizontal bars of the probabilities of a few answers; the largest is dark, the true one carries a star."""
    highest = max(range(len(shares)), key=lambda i: shares[i])
    for i, share in enumerate(shares):
        axis.barh(-i, share, height=0.66, color="0.25" if i == highest else "0.75")
    labels = [f"{name} *" if name == truth else name for name in names]
    axis.set_yticks([-i for i in range(len(names))], labels)
    axis.set(xlim=(0, 1), xticks=[0, 0.5, 1])
    axis.tick_params(axis="y", length=0)
