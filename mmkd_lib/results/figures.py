"""One style for all figures: widths, colours and markers that keep their meaning, curves, embeddings, stamps."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from .tables import half_width

COLUMN, FULL = 3.3, 6.8  # widths in inches
# Okabe-Ito: a colour and a marker for each system and each class, the same in every notebook. There are more systems
# than colours: the pair is a system's own, and the colour, too, within a figure.
SYSTEMS = {
    "plain": ("#0072B2", "s"),
    "complete data": ("#E69F00", "^"),
    "CorrKD": ("#009E73", "o"),
    "oracle teaching": ("#D55E00", "v"),
    "w/o SCD": ("#56B4E9", "P"),
    "w/o CPD": ("#CC79A7", "D"),
    "w/o RCD": ("#000000", "X"),
    "UMDF": ("#009E73", "p"),
    "w/o L_fea": ("#56B4E9", "<"),
    "w/o L_logits": ("#CC79A7", ">"),
    "w/o MCIM": ("#000000", "*"),
    "w/o DFIM": ("#E69F00", "d"),
    "HFGD": ("#CC79A7", "h"),
    "DynKD": ("#009E73", "X"),
    "taught by l+a": ("#0072B2", "o"),
    "taught by l+v": ("#009E73", "^"),
    "taught by a+v": ("#D55E00", "s"),
    "before": ("#E69F00", "v"),
    "after": ("#0072B2", "P"),
    "Shapley": ("#009E73", "D"),
    "greedy": ("#CC79A7", "v"),
    "even": ("#000000", "."),
    "routed": ("#009E73", "*"),
    "avg (six)": ("#0072B2", "p"),
    "avg (p > 0)": ("#D55E00", "<"),
    "l+a+v": ("#009E73", ">"),
    "MCUR": ("#009E73", "h"),
    "flowing weight": ("#D55E00", "o"),
}
OTHER = ("#CC79A7", "D")
CLASSES = (("#E69F00", "o"), ("#0072B2", "s"), ("#D55E00", "^"), ("#009E73", "v"), ("#CC79A7", "D"), ("#56B4E9", "P"))


def use_style():
    """The rcParams of every figure; text stays text in SVG, and ids do not change from run to run."""
    mpl.rcParams.update(
        {
            "font.size": 8,
            "axes.titlesize": 8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
            "figure.dpi": 120,
            "legend.frameon": False,
            "lines.linewidth": 1.4,
            "lines.markersize": 4,
            "svg.fonttype": "none",
            "svg.hashsalt": "mmkd",
        }
    )


def blank(width, height):
    """An empty figure in the handbook's style that several cells may draw into: Jupyter does not show it by itself."""
    use_style()
    figure = plt.figure(figsize=(width, height))
    plt.close(figure)
    return figure


def curves(frame, panels, prefix, floors, ceilings, xlabel, ylabel):
    """Mean and 95 % interval of a metric over the conditions `prefix=x`, floor and ceiling as thin lines.

    frame: `tables.summary`; panels: title -> (benchmark, metric), one panel each; ylabel: one, or a tuple with one for
    each row of panels; floors: benchmark -> metrics (a line
    at 0 for differences, which have none); ceilings: benchmark -> condition -> metrics, or empty. Returns (figure, the
    plotted numbers as a frame, in which `realised` is the share of frames that is really missing at x, per cent).
    """
    use_style()
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = -(-len(panels) // columns)
    size = (FULL, 2.1 * rows + 0.4)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharex=True, squeeze=False)
    plotted = frame.reset_index()
    plotted = plotted[plotted["condition"].str.startswith(f"{prefix}=")].copy()
    plotted["x"] = plotted["condition"].str.removeprefix(f"{prefix}=").astype(float)
    realised = plotted[plotted["metric"] == "missing_frames"].set_index(["benchmark", "x"])["mean"]
    realised = realised[~realised.index.duplicated()]
    numbers = []
    for letter, axis, (title, (benchmark, metric)) in zip("abcdef", axes.flat, panels.items(), strict=False):
        here = plotted[(plotted["benchmark"] == benchmark) & (plotted["metric"] == metric)]
        _bands(axis, here)
        if benchmark in floors:
            axis.axhline(floors[benchmark][metric], color="0.4", lw=0.8, ls=(0, (4, 3)), label="best constant")
        else:  # differences, which have a zero
            axis.axhline(0, color="0.75", lw=0.8, zorder=0)
        if highest := ceilings.get(benchmark):
            known = {float(c.partition("=")[2]): v[metric] for c, v in highest.items() if c.startswith(f"{prefix}=")}
            axis.plot(list(known), list(known.values()), color="0.1", lw=0.8, label="ceiling")
        axis.set(title=f"({letter}) {title}", xlabel=xlabel if axis in axes[-1] else "")
        share = here["x"].map(lambda x, b=benchmark: realised.get((b, x), np.nan))
        numbers.append(here.assign(panel=title, realised=share))
    for axis, label in zip(axes[:, 0], [ylabel] * rows if isinstance(ylabel, str) else ylabel, strict=True):
        axis.set_ylabel(label)
    shown = {}  # label -> handle, of all panels: a system may have no line in the first
    for axis in axes.flat:
        shown = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True)) | shown
    order = [label for label in plotted["system"].drop_duplicates() if label in shown]
    labels = order + [label for label in shown if label not in order]
    handles = [shown[label] for label in labels]
    in_a_row = len(labels) if len(labels) <= 6 else -(-len(labels) // 2)
    figure.legend(handles, labels, loc="outside lower center", ncols=in_a_row)
    columns = ["panel", "benchmark", "metric", "system", "x", "realised", "mean", "half", "n"]
    return figure, pd.concat(numbers)[columns]


def _bands(axis, lines):
    """A line with its band for each system."""
    for system, line in lines.groupby("system", sort=False):
        colour, marker = SYSTEMS.get(system, OTHER)
        line = line.sort_values("x")
        often = max(1, len(line) // 8)
        axis.plot(line["x"], line["mean"], color=colour, marker=marker, label=system, markevery=often)
        low, high = line["mean"] - line["half"], line["mean"] + line["half"]
        axis.fill_between(line["x"], low, high, color=colour, alpha=0.18, lw=0)


def progress(panels, xlabel, ylabel, limits=None, floor=None):
    """What is logged while systems learn, a panel each: mean over seeds and 95 % t interval against the epoch.

    panels: title -> label -> values (n, epochs); ylabel: one, or a tuple with one for each row of panels; floor: a thin
    line.
    Returns (figure, rows of panel, system, epoch, mean, half, n).
    """
    use_style()
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = -(-len(panels) // columns)
    size = (FULL, 2.1 * rows + 0.4)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True)
    numbers = []
    for letter, axis, (title, lines) in zip("abcdef", axes.flat, panels.items(), strict=False):
        for label, values in lines.items():
            found = pd.DataFrame(np.asarray(values, float)).melt(var_name="epoch")
            line = found.groupby("epoch")["value"].agg(mean="mean", half=half_width, n="count").reset_index()
            line["epoch"] += 1
            numbers.append(line.assign(panel=title, system=label))
        _bands(axis, pd.concat(numbers[-len(lines) :]).assign(x=lambda d: d["epoch"]))
        if floor is not None:
            axis.axhline(floor, color="0.4", lw=0.8, ls=(0, (4, 3)))
        axis.set(title=f"({letter}) {title}", xlabel=xlabel if axis in axes[-1] else "", ylim=limits)
    for axis, label in zip(axes[:, 0], [ylabel] * rows if isinstance(ylabel, str) else ylabel, strict=True):
        axis.set_ylabel(label)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    shown = {}
    for axis in axes.flat:
        shown |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=min(len(shown), 6))
    return figure, pd.concat(numbers)[["panel", "system", "epoch", "mean", "half", "n"]]


def settings(panels, styles, ylabel):
    """A metric under settings that have names, a panel each, two in a row: panels: title -> label -> frame with the
    settings as index and columns mean, half, n; styles: label -> (colour, dashed); ylabel: one for each column. Returns
    (figure, rows of panel, system, setting, mean, half, n)."""
    use_style()
    rows = -(-len(panels) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(FULL, 2.0 * rows + 0.4), squeeze=False, sharey="col")
    numbers = []
    for letter, axis, (title, lines) in zip("abcdef", axes.flat, panels.items(), strict=False):
        for label, line in lines.items():
            (colour, dashed), x = styles[label], np.arange(len(line))
            look = {"color": colour, "ls": (0, (3, 2)) if dashed else "-", "marker": "s" if dashed else "o"}
            axis.plot(x, line["mean"], label=label, **look)
            axis.fill_between(
                x, line["mean"] - line["half"], line["mean"] + line["half"], color=colour, alpha=0.15, lw=0
            )
            numbers.append(line.rename_axis("setting").reset_index().assign(panel=title, system=label))
        axis.set_xticks(range(len(line)), [str(name).removeprefix("mr=") for name in line.index])
        axis.set(title=f"({letter}) {title}")
    for column, label in zip(axes.T, ylabel, strict=True):
        for axis in column:
            axis.set_ylabel(label)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure, pd.concat(numbers)[["panel", "system", "setting", "mean", "half", "n"]]


def heat_maps(panels, chosen, xlabel, ylabel):
    """Scores over a grid of two settings, a panel each: panels: title -> frame (rows: one setting, columns: the other);
    chosen: (row, column) of the cell with a frame. Returns (figure, rows of panel, row, column, value)."""
    use_style()
    figure, axes = plt.subplots(1, len(panels), figsize=(FULL, 2.7), squeeze=False)
    for letter, axis, (title, frame) in zip("abcdef", axes[0], panels.items(), strict=False):
        shades = axis.imshow(frame, cmap="cividis", origin="lower", aspect="auto")
        middle = (frame.to_numpy().min() + frame.to_numpy().max()) / 2
        for (i, j), value in np.ndenumerate(frame.to_numpy()):
            axis.text(j, i, f"{value:.1f}", ha="center", va="center", color="white" if value < middle else "black")
        axis.set_xticks(range(frame.shape[1]), [f"{v:g}" for v in frame.columns])
        axis.set_yticks(range(frame.shape[0]), [f"{v:g}" for v in frame.index])
        axis.set(title=f"({letter}) {title}", xlabel=xlabel, ylabel=ylabel if letter == "a" else "")
        if chosen[0] in frame.index and chosen[1] in frame.columns:
            place = frame.columns.get_loc(chosen[1]) - 0.5, frame.index.get_loc(chosen[0]) - 0.5
            axis.add_patch(plt.Rectangle(place, 1, 1, fill=False, ec="#D55E00", lw=2.2))
        figure.colorbar(shades, ax=axis)
    told = [
        (title, row, column, value) for title, frame in panels.items() for (row, column), value in frame.stack().items()
    ]
    return figure, pd.DataFrame(told, columns=["panel", "row", "column", "value"])


def densities(panels, edges, mark, xlabel, ylabel="density"):
    """Densities over bins, a panel each: panels: title -> label -> shares (B,) of `edges` (B + 1,); a dashed line at
    `mark`. Returns (figure, rows of panel, system, low, high, density)."""
    use_style()
    figure, axes = plt.subplots(1, len(panels), figsize=(FULL, 2.4), sharey=True, squeeze=False)
    rows = []
    for letter, axis, (title, lines) in zip("abcdef", axes[0], panels.items(), strict=False):
        for label, shares in lines.items():
            height = np.asarray(shares) / np.diff(edges)
            colour = SYSTEMS.get(label, OTHER)[0]
            axis.stairs(height, edges, color=colour, fill=True, alpha=0.25)
            axis.stairs(height, edges, color=colour, lw=1.2, label=label, ls="-" if label == "after" else (0, (3, 1)))
            rows += [(title, label, low, high, h) for low, high, h in zip(edges, edges[1:], height, strict=False)]
        axis.axvline(mark, color="0.3", lw=0.8, ls=(0, (4, 3)))
        axis.set(title=f"({letter}) {title}", xlabel=xlabel)
    axes[0][0].set_ylabel(ylabel)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure, pd.DataFrame(rows, columns=["panel", "system", "low", "high", "density"])


def changes(frame, choices, printed, xlabel, linear=1.0):
    """How far each choice moves a score: a row a choice, a panel a benchmark, a dot a seed and a bar their mean.

    frame: `tables.minus` of one condition and metric a benchmark, its systems among `choices`; printed: those that are
    the paper's literal reading, drawn in red. The axis is linear within +-`linear` and logarithmic beyond. Returns
    (figure, mean and range of each row).
    """
    use_style()
    names, red, blue = list(dict.fromkeys(frame["benchmark"])), "#D55E00", "#0072B2"
    size = (FULL, 0.145 * len(choices) + 0.9)
    figure, axes = plt.subplots(1, len(names), figsize=size, sharey=True, squeeze=False)
    for letter, axis, name in zip("abcdef", axes[0], names, strict=False):
        axis.axvline(0, color="0.3", lw=0.8)
        for choice, own in frame[frame["benchmark"] == name].groupby("system", sort=False)["value"]:
            height, colour = choices.index(choice), red if choice in printed else blue
            axis.plot([0, own.mean()], [height] * 2, color=colour, lw=3.2, alpha=0.45, solid_capstyle="butt")
            axis.plot(own, [height] * len(own), "o", color=colour, ms=2.4)
        axis.set_xscale("symlog", linthresh=linear)
        scale = f"{xlabel}\n(logarithmic beyond ±{linear:g})"
        axis.set(title=f"({letter}) {name}", xlabel=scale, ylim=(len(choices) - 0.4, -0.6))
        axis.grid(axis="y", color="0.92", lw=0.6)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
    axes[0][0].set_yticks(range(len(choices)), choices, fontsize=7)
    for label in axes[0][0].get_yticklabels():
        label.set_color(red if label.get_text() in printed else "black")
    rows = frame.assign(printed=frame["system"].isin(printed)).groupby(["benchmark", "system", "printed"], sort=False)
    return figure, rows["value"].agg(mean="mean", low="min", high="max", n="count").reset_index()


def embedding_panels(panels, y, classes, notes, seeds=(0, 1), perplexity=30, iterations=1000, hollow=None):
    """t-SNE of several representations of the same utterances, a column a panel and a row a t-SNE seed.

    panels: title -> (n, D); notes: title -> a second line under it; hollow: which points (n,) are drawn as rings.
    Returns (figure, rows of panel, seed, x, y, class, and where it is given hollow). The start is random: from PCA all
    seeds end in one map, and a reader could not see what is the seed's doing.
    """
    use_style()
    figure, axes = plt.subplots(len(seeds), len(panels), figsize=(FULL, 2.1 * len(seeds) + 0.4), squeeze=False)
    rows, rings = [], np.zeros(len(y), bool) if hollow is None else hollow
    for column, (title, points) in zip(axes.T, panels.items(), strict=True):
        for axis, seed in zip(column, seeds, strict=True):
            how = {"perplexity": min(perplexity, len(points) / 4), "max_iter": iterations}
            with threadpool_limits(1):  # on a busy machine its threads wait for each other, a hundred times as long
                flat = TSNE(init="random", random_state=seed, **how).fit_transform(np.asarray(points, np.float32))
            for c, name in enumerate(classes):
                colour, marker = CLASSES[c % len(CLASSES)]
                own = (y == c) & ~rings
                axis.scatter(*flat[own].T, s=9, color=colour, marker=marker, alpha=0.75, lw=0, label=name)
                if rings.any():
                    axis.scatter(*flat[(y == c) & rings].T, s=9, ec=colour, fc="none", marker=marker, lw=0.7)
                rows += [(title, seed, *flat[i].round(3), name, rings[i]) for i in np.flatnonzero(y == c)]
            axis.set(xticks=[], yticks=[], title=f"{title}\n{notes[title]}" if seed == seeds[0] else "")
            axis.set_aspect("equal", adjustable="datalim")
            axis.spines[:].set(visible=True, color="0.8")
    for axis, seed in zip(axes[:, 0], seeds, strict=True):
        axis.set_ylabel(f"t-SNE seed {seed}")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    numbers = pd.DataFrame(rows, columns=["panel", "seed", "x", "y", "class", "hollow"])
    return figure, numbers if hollow is not None else numbers.drop(columns="hollow")


def stamp(figure, text):
    """Write across a figure what it must never be taken for."""
    figure.text(
        0.5, 0.55, text, fontsize=34, color="0.5", alpha=0.28, rotation=18, ha="center", va="center", weight="bold"
    )
