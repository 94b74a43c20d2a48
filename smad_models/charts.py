"""The report's figures of data and predictions: numbers to SVG, drawn by Matplotlib in the page's own colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from smad_models.drawing import PAINT, draw

BINS = 12  # a side of a density map: coarse enough to show a distribution and no single clip's values
_CELL = 46.0  # pixels


def histogram(values: np.ndarray, *, edges: np.ndarray, label: str, unit: str) -> Markup:
    """Bars of how many clips lie in each bin; values beyond the edges count in the outer bins.

    Parameters
    ----------
    values
        (n,) float, finite.
    edges
        (bins + 1,) float, rising evenly.
    """
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    with draw(320, 176, label=label) as drawing:
        ax = drawing.ax
        ax.bar(edges[:-1], counts, np.diff(edges) * 0.94, align="edge", color=PAINT["accent"])
        ax.set_xlim(edges[0], edges[-1])
        ax.set_xlabel(unit)
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        ax.grid(axis="y")
        ax.spines["left"].set_visible(False)
    return drawing.svg


def confusion(matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> Markup:
    """Rows of the truth, columns of the prediction; shaded by share of the row, each cell with its count.

    Parameters
    ----------
    matrix
        (rows, columns) int; a row and a column of the same place are the same class.
    """
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    texts = [[str(int(count)) for count in row] for row in matrix]
    said = "; ".join(f"{name}: {int(matrix[n, n])} of {int(matrix[n].sum())} found" for n, name in enumerate(rows))
    label = f"Confusion matrix. {said}"
    return heat(shares, texts, rows, columns, label=label, above="predicted", beside="true")


def heat(
    shares: np.ndarray,
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    label: str,
    above: str = "",
    beside: str = "",
) -> Markup:
    """A table whose cells are shaded.

    Parameters
    ----------
    shares
        (rows, columns) float, 0 (hardly a shade) to 1; NaN = an empty cell.
    texts
        What stands in the cells.
    above, beside
        What the columns and the rows are.
    """
    longest = max(map(len, (*rows, *columns)), default=1)
    width = _CELL * len(columns) + 7.5 * max(map(len, rows), default=1) + (20 if beside else 0) + 40
    height = _CELL * len(rows) * 0.86 + 5.5 * longest + (28 if above else 12)
    with draw(width, height, label=label) as drawing:
        ax = drawing.ax
        for (row, column), share in np.ndenumerate(shares):
            if np.isnan(share):
                continue
            # A cell of nothing still is a cell.
            cell = Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, color=PAINT["heat"], lw=0)
            cell.set_alpha(0.05 + 0.95 * float(np.clip(share, 0, 1)))
            ax.add_patch(cell)
            faint = PAINT["muted"] if texts[row][column] in ("0", "0.00") else PAINT["ink"]
            ax.text(column + 0.5, row + 0.52, texts[row][column], ha="center", va="center", color=faint)
        ax.set_xlim(0, len(columns))
        ax.set_ylim(len(rows), 0)
        ax.xaxis.tick_top()
        ax.xaxis.set_label_position("top")
        ax.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=40, ha="left", rotation_mode="anchor")
        ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
        ax.set_xlabel(above)
        ax.set_ylabel(beside)
        for spine in ax.spines.values():
            spine.set_visible(False)
    return drawing.svg


def density(truth: np.ndarray, prediction: np.ndarray, *, low: float, high: float, name: str) -> Markup:
    """How many clips lie where, true against predicted, with the line on which prediction is right.

    Parameters
    ----------
    truth, prediction
        (n,) float; a prediction beyond the range counts at its edge.
    low, high
        The label's range.
    """
    label = f"Predicted against true {name} of {len(truth)} clips, counted in {BINS} by {BINS} cells"
    with draw(300, 292, label=label) as drawing:
        _shade(drawing.ax, truth, prediction, low=low, high=high)
        drawing.ax.plot([low, high], [low, high], "--", color=PAINT["muted"], lw=1)
        drawing.ax.set_xlabel(f"true {name}")
        drawing.ax.set_ylabel(f"predicted {name}")
    return drawing.svg


def _shade(ax: Axes, x: np.ndarray, y: np.ndarray, *, low: float, high: float) -> None:
    """Counts of clips as shades of square cells."""
    edges = np.linspace(low, high, BINS + 1)
    counts, _, _ = np.histogram2d(np.clip(x, low, high), np.clip(y, low, high), bins=(edges, edges))
    most, side = max(float(counts.max()), 1.0), float(edges[1] - edges[0])
    for i, j in np.argwhere(counts > 0):
        cell = Rectangle((float(edges[i]), float(edges[j])), side, side, color=PAINT["heat"], lw=0)
        # The square root keeps a cell with one clip visible beside one with many.
        cell.set_alpha(0.1 + 0.9 * float(np.sqrt(counts[i, j] / most)))
        ax.add_patch(cell)
    _frame(ax, low=low, high=high)


def _frame(ax: Axes, *, low: float, high: float) -> None:
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.set_aspect("equal")
    ticks = np.arange(low, high + 0.1, 0.5 if high - low <= 2 else 1.0)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    for spine in ax.spines.values():
        spine.set_visible(True)


def plane(groups: Mapping[str, tuple[float, float, float, float]]) -> Markup:
    """Valence and arousal: of each emotion an arrow from its mean truth to its mean prediction.

    Parameters
    ----------
    groups
        emotion -> (true valence, true arousal, predicted valence, predicted arousal), each in [-1, 1].
    """
    label = f"Mean true and mean predicted valence and arousal of {', '.join(groups) or 'no emotion'}"
    with draw(420, 410, label=label) as drawing:
        ax = drawing.ax
        ax.axhline(0, color=PAINT["grid"], lw=1)
        ax.axvline(0, color=PAINT["grid"], lw=1)
        names = []
        for name, (true_v, true_a, said_v, said_a) in groups.items():
            said_v, said_a = (float(np.clip(value, -1, 1)) for value in (said_v, said_a))
            ax.plot([true_v, said_v], [true_a, said_a], "-", color=PAINT["accent"], alpha=0.6, lw=1.5)
            ax.plot([true_v], [true_a], "o", ms=9, mfc=PAINT["paper"], mec=PAINT["ink"], mew=1.5)
            ax.plot([said_v], [said_a], "o", ms=9, mfc=PAINT["accent"], mec=PAINT["accent"])
            before = said_v >= true_v and true_v > -1 + 0.045 * len(name)
            names.append((before, -true_a, true_v + (-0.05 if before else 0.05), name))
        lowest = {True: -np.inf, False: -np.inf}
        for before, y, x, name in sorted(names):  # from the top, each name at least a line below the last of its side
            lowest[before] = max(y, lowest[before] + 0.085)
            ax.text(x, -lowest[before], name, ha="right" if before else "left", va="center_baseline")
        _frame(ax, low=-1, high=1)
        ax.set_xlabel("valence")
        ax.set_ylabel("arousal")
    return drawing.svg


def planes(truth: np.ndarray, prediction: np.ndarray) -> Markup:
    """Where all clips lie in the plane of valence and arousal: by their labels, and by what was predicted.

    Parameters
    ----------
    truth, prediction
        (n, 2) float: valence, arousal
    """
    label = f"Valence and arousal of {len(truth)} clips: on the left as labelled, on the right as predicted"
    with draw(450, 252, label=label, panels=2, sharey=True) as drawing:
        for ax, points, title in zip(drawing.axes, (truth, prediction), ("labels", "predictions"), strict=True):
            ax.axhline(0, color=PAINT["grid"], lw=1)
            ax.axvline(0, color=PAINT["grid"], lw=1)
            _shade(ax, points[:, 0], points[:, 1], low=-1, high=1)
            ax.set_title(title, fontweight="bold")
            ax.set_xlabel("valence")
        drawing.ax.set_ylabel("arousal")
    return drawing.svg
