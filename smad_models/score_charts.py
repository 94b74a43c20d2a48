"""The report's figures of scores: numbers to SVG, drawn by Matplotlib in the page's own colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from smad_models.drawing import PAINT, draw

DOTS = 200  # of participants in a row: 10,000 of them would make a page of megabytes, and a bar of ink
_ROW = 40.0  # pixels


@dataclass(frozen=True)
class Line:
    """One line of a chart of scores: a metric, by every protocol."""

    name: str
    folds: Sequence[float | None]
    pooled: float
    interval: Sequence[float] | None
    published: float | None
    baselines: Sequence[float | None]  # the constant one, then the linear one where there is one


def forest(lines: Sequence[Line], *, label: str) -> Markup:
    """Each metric by every protocol on one scale: folds as rings, the pooled value with its interval."""
    with draw(430, _ROW * len(lines) + 34, label=label) as drawing:
        ax = drawing.ax
        for row, line in enumerate(lines):
            for value, marker, size in zip(line.baselines, ("|", "x"), (24, 7), strict=False):
                if value is not None:
                    ax.plot([value], [row], marker, ms=size, color=PAINT["second"], mew=2)
            if line.interval is not None:
                ax.plot(line.interval, [row, row], "-", color=PAINT["accent"], lw=4, alpha=0.45, solid_capstyle="round")
            folds = [value for value in line.folds if value is not None]
            ax.plot(folds, [row - 0.24] * len(folds), "o", ms=6.5, mfc="none", mec=PAINT["accent"], mew=1.4)
            if line.published is not None:
                ax.plot([line.published], [row + 0.25], "D", ms=6.5, color=PAINT["third"])
            ax.plot([line.pooled], [row], "o", ms=9, color=PAINT["accent"])
        ax.set_yticks(range(len(lines)), [line.name for line in lines], color=PAINT["ink"])
        ax.set_ylim(len(lines) - 0.45, -0.6)
        low, high = ax.get_xlim()
        ax.set_xlim(min(0.0, low), high)
        ax.grid(axis="x")
        for spine in ax.spines.values():
            spine.set_visible(False)
    return drawing.svg


def strips(
    people: Mapping[str, Sequence[float]], folds: Mapping[str, float | None], *, label: str, unit: str
) -> Markup:
    """A row a fold: a dot for each of its participants, a bar where the whole fold's score lies.

    Of more than `DOTS` participants so many are drawn, evenly spaced in their order from lowest to highest.

    Parameters
    ----------
    people
        fold -> its participants' scores.
    folds
        fold -> its own score.
    """
    with draw(430, 30 * len(folds) + 50, label=label) as drawing:
        ax = drawing.ax
        for row, (fold, whole) in enumerate(folds.items()):
            values = np.sort(np.array(people.get(fold, []), dtype=float))
            if len(values) > DOTS:
                values = values[np.linspace(0, len(values) - 1, DOTS).round().astype(int)]
            # Neighbours stand on different heights, the same ones in every run.
            height = row + 0.13 * (np.arange(len(values)) % 3 - 1)
            ax.plot(values, height, "o", ms=6, color=PAINT["accent"], alpha=0.55, mew=0)
            if whole is not None:
                ax.plot([whole, whole], [row - 0.36, row + 0.36], "-", color=PAINT["second"], lw=3)
        ax.set_yticks(range(len(folds)), [f"fold {fold}" for fold in folds], color=PAINT["ink"])
        ax.set_ylim(len(folds) - 0.45, -0.55)
        ax.set_xlabel(unit)
        ax.grid(axis="x")
        for spine in ax.spines.values():
            spine.set_visible(False)
    return drawing.svg


def reliability(bins: Sequence[Mapping[str, Any]], *, label: str) -> Markup:
    """How often the model is right, by how sure it says it is; below, how often it is so sure.

    Parameters
    ----------
    bins
        ``lo``, ``hi``, ``clips``, ``confidence``, ``accuracy`` of each; means None where a bin is empty.
    """
    with draw(340, 340, label=label) as drawing:
        ax = drawing.ax
        counts = np.array([one["clips"] for one in bins], dtype=float)
        edges = np.array([one["lo"] for one in bins], dtype=float)
        width = np.array([one["hi"] - one["lo"] for one in bins], dtype=float)
        tall = 0.18 * counts / max(float(counts.max()), 1.0)
        ax.bar(edges, tall, width * 0.92, align="edge", color=PAINT["grid"])
        ax.plot([0, 1], [0, 1], "--", color=PAINT["muted"], lw=1)
        full = [one for one in bins if one["clips"]]
        sure, right = [one["confidence"] for one in full], [one["accuracy"] for one in full]
        # The area is the number of clips: a point of few is no news.
        area = [14 + 130 * one["clips"] / max(float(counts.max()), 1.0) for one in full]
        ax.scatter(sure, right, s=area, color=PAINT["accent"], linewidths=0, zorder=3, clip_on=False)
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        ax.set_aspect("equal")
        ax.set_xlabel("how sure the model is")
        ax.set_ylabel("how often it is right")
        for spine in ax.spines.values():
            spine.set_visible(True)
    return drawing.svg


def changes(rows: Sequence[tuple[str, float, Sequence[float] | None]], *, label: str, unit: str) -> Markup:
    """Differences from 0, with their intervals.

    Parameters
    ----------
    rows
        Name, difference, interval (low, high) or None.
    """
    with draw(430, 30 * len(rows) + 56, label=label) as drawing:
        ax = drawing.ax
        ax.axvline(0, color=PAINT["muted"], lw=1)
        for row, (_, value, interval) in enumerate(rows):
            if interval is not None:
                ax.plot(interval, [row, row], "-", color=PAINT["accent"], lw=4, alpha=0.45, solid_capstyle="round")
            ax.plot([value], [row], "o", ms=9, color=PAINT["accent"])
        ax.set_yticks(range(len(rows)), [name for name, _, _ in rows], color=PAINT["ink"])
        ax.set_ylim(len(rows) - 0.45, -0.55)
        ax.set_xlabel(unit)
        ax.grid(axis="x")
        for spine in ax.spines.values():
            spine.set_visible(False)
    return drawing.svg
