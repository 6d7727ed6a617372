"""One style for all figures: widths, colours and markers that keep their meaning, curves, embeddings, stamps."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.manifold import TSNE

COLUMN, FULL = 3.3, 6.8  # widths in inches
# Okabe-Ito: one colour and one marker for each system and each class, in every notebook
SYSTEMS = {
    "plain": ("#0072B2", "s"),
    "complete data": ("#E69F00", "^"),
    "CorrKD": ("#009E73", "o"),
    "oracle teaching": ("#D55E00", "v"),
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


def curves(frame, metric, benchmarks, prefix, floors, ceilings, xlabel, ylabel):
    """One panel per benchmark: mean and 95 % interval of `metric` over conditions `prefix=x`, floor and ceiling as
    thin lines.

    frame: `tables.summary`; floors: benchmark -> metrics; ceilings: benchmark -> condition -> metrics, or empty.
    Returns (figure, the plotted numbers as a frame).
    """
    use_style()
    figure, axes = plt.subplots(1, len(benchmarks), figsize=(FULL, 2.5), sharex=True, squeeze=False)
    plotted = frame.reset_index()
    plotted = plotted[(plotted["metric"] == metric) & plotted["condition"].str.startswith(f"{prefix}=")].copy()
    plotted["x"] = plotted["condition"].str.removeprefix(f"{prefix}=").astype(float)
    for letter, axis, benchmark in zip("abcdef", axes[0], benchmarks, strict=False):
        here = plotted[plotted["benchmark"] == benchmark]
        for system, line in here.groupby("system", sort=False):
            colour, marker = SYSTEMS.get(system, OTHER)
            line = line.sort_values("x")
            axis.plot(line["x"], line["mean"], color=colour, marker=marker, label=system)
            axis.fill_between(
                line["x"], line["mean"] - line["half"], line["mean"] + line["half"], color=colour, alpha=0.18, lw=0
            )
        axis.axhline(floors[benchmark][metric], color="0.4", lw=0.8, ls=(0, (4, 3)), label="best constant")
        if highest := ceilings.get(benchmark):
            known = {float(c.partition("=")[2]): v[metric] for c, v in highest.items() if c.startswith(f"{prefix}=")}
            axis.plot(list(known), list(known.values()), color="0.1", lw=0.8, label="ceiling")
        axis.set(title=f"({letter}) {benchmark}", xlabel=xlabel)
    axes[0][0].set_ylabel(ylabel)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure, plotted[["benchmark", "system", "x", "mean", "half", "n"]]


def sample_per_class(y, count, seed=0):
    """Indices of at most `count` utterances of each class, drawn once."""
    rng = np.random.default_rng(seed)
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(y == c))[:count] for c in np.unique(y)]))


def embedding_panels(panels, y, classes, seeds=(0, 1), perplexity=30):
    """t-SNE of several representations of the same utterances, a column a panel and a row a t-SNE seed.

    panels: title -> (n, D). Returns (figure, rows of panel, seed, x, y, class). The start is random:
    from PCA all seeds end in one map, and a reader could not see what is the seed's doing.
    """
    use_style()
    figure, axes = plt.subplots(len(seeds), len(panels), figsize=(FULL, 2.1 * len(seeds) + 0.4), squeeze=False)
    rows = []
    for column, (title, points) in zip(axes.T, panels.items(), strict=True):
        for axis, seed in zip(column, seeds, strict=True):
            near = min(perplexity, len(points) / 4)
            flat = TSNE(init="random", random_state=seed, perplexity=near).fit_transform(points)
            for c, name in enumerate(classes):
                colour, marker = CLASSES[c % len(CLASSES)]
                own = y == c
                axis.scatter(*flat[own].T, s=9, color=colour, marker=marker, alpha=0.75, lw=0, label=name)
                rows += [(title, seed, *xy.round(3), name) for xy in flat[own]]
            axis.set(xticks=[], yticks=[], title=title if seed == seeds[0] else "")
            axis.set_aspect("equal", adjustable="datalim")
            axis.spines[:].set(visible=True, color="0.8")
    for axis, seed in zip(axes[:, 0], seeds, strict=True):
        axis.set_ylabel(f"t-SNE seed {seed}")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure, pd.DataFrame(rows, columns=["panel", "seed", "x", "y", "class"])


def stamp(figure, text):
    """Write across a figure what it must never be taken for."""
    figure.text(
        0.5, 0.55, text, fontsize=34, color="0.5", alpha=0.28, rotation=18, ha="center", va="center", weight="bold"
    )
