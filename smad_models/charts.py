"""The report's figures: numbers to inline SVG.

Written by hand and not by a plotting library: such a figure takes its colours from the page, so that one file reads
well in light, in dark and in print, and the same numbers always make the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup

BINS = 12  # a side of a density map: coarse enough to show a distribution and no single clip's values


@dataclass(frozen=True)
class Line:
    """One line of a chart of scores: a metric, by every protocol."""

    name: str
    folds: Sequence[float | None]
    pooled: float | None
    interval: Sequence[float] | None
    published: float | None
    baseline: float | None


def _svg(width: float, height: float, *, label: str, body: list[str]) -> Markup:
    text = escape(label)
    return Markup(
        f'<svg viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" role="img" aria-label="{text}">'
        f"<title>{text}</title>{''.join(body)}</svg>"
    )


def _text(x: float, y: float, text: object, *, style: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(str(text))}</text>'


def _upright(x: float, y: float, text: str) -> str:
    turned = f'transform="translate({x:.1f} {y:.1f}) rotate(-90)" text-anchor="middle" class="name"'
    return f"<text {turned}>{escape(text)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, *, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def _ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Round numbers within the range, in steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / about
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = np.ceil(low / step - 1e-9)
    # + 0.0 makes -0.0 a plain 0.
    return [float(n * step) + 0.0 for n in np.arange(first, np.floor(high / step + 1e-9) + 1)]


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
    width, height, left, base, top = 320.0, 170.0, 34.0, 128.0, 12.0
    low, high, most = float(edges[0]), float(edges[-1]), max(int(counts.max()), 1)

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - 10)

    body = []
    for tick in [t for t in _ticks(0, most, about=3) if t == int(t)]:
        y = base - tick / most * (base - top)
        body += [_line(left, y, width - 10, y, style="grid"), _text(left - 6, y + 4, f"{tick:g}", anchor="end")]
    for count, start, end in zip(counts, edges[:-1], edges[1:], strict=True):
        tall = count / most * (base - top)
        body.append(
            f'<rect x="{x(start) + 0.75:.1f}" y="{base - tall:.1f}" width="{x(end) - x(start) - 1.5:.1f}" '
            f'height="{tall:.1f}" class="bar"/>'
        )
    body.append(_line(left, base, width - 10, base, style="axis"))
    body += [_text(x(tick), base + 16, f"{tick:g}") for tick in _ticks(low, high)]
    body.append(_text((left + width - 10) / 2, base + 34, unit, style="name"))
    return _svg(width, height, label=label, body=body)


def confusion(matrix: np.ndarray, labels: Sequence[str]) -> Markup:
    """Rows of the truth, columns of the prediction; shaded by share of the row, each cell with its count.

    Parameters
    ----------
    matrix
        (classes, classes) int
    """
    cell, left, top = 46.0, 92.0, 84.0
    side = cell * len(labels)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    body = [_text(left + side / 2, 14, "predicted", style="name")]
    for n, name in enumerate(labels):
        at = left + cell * (n + 0.5)
        turned = f'<text transform="translate({at + 4:.1f} {top - 8:.1f}) rotate(-45)">{escape(name)}</text>'
        body += [turned, _text(left - 8, top + cell * (n + 0.5) + 4, name, anchor="end")]
    for row in range(len(labels)):
        for column in range(len(labels)):
            share, x, y = float(shares[row, column]), left + cell * column, top + cell * row
            body.append(
                f'<rect x="{x + 1:.1f}" y="{y + 1:.1f}" width="{cell - 2:.1f}" height="{cell - 2:.1f}" rx="3" '
                f'class="heat" fill-opacity="{0.05 + 0.95 * share:.3f}"/>'
            )
            style = "count" if matrix[row, column] else "zero"
            body.append(_text(x + cell / 2, y + cell / 2 + 4.5, int(matrix[row, column]), style=style))
    said = "; ".join(f"{name}: {int(matrix[n, n])} of {int(matrix[n].sum())} found" for n, name in enumerate(labels))
    return _svg(left + side + 44, top + side + 6, label=f"Confusion matrix. {said}", body=body)


def density(truth: np.ndarray, prediction: np.ndarray, *, low: float, high: float, name: str) -> Markup:
    """How many clips lie where, true against predicted, with the line on which prediction is right.

    Parameters
    ----------
    truth, prediction
        (n,) float; a prediction beyond the range counts at its edge.
    low, high
        The label's range.
    """
    edges = np.linspace(low, high, BINS + 1)
    counts, _, _ = np.histogram2d(np.clip(truth, low, high), np.clip(prediction, low, high), bins=(edges, edges))
    side, left, top = 240.0, 46.0, 10.0
    cell, most = side / BINS, max(float(counts.max()), 1.0)

    def at(value: float) -> float:
        return (value - low) / (high - low) * side

    body = [f'<rect x="{left:g}" y="{top:g}" width="{side:g}" height="{side:g}" class="plot"/>']
    for i, j in np.argwhere(counts > 0):
        # The square root keeps a cell with one clip visible beside one with many.
        opacity = 0.1 + 0.9 * float(np.sqrt(counts[i, j] / most))
        body.append(
            f'<rect x="{left + i * cell:.1f}" y="{top + side - (j + 1) * cell:.1f}" width="{cell:.1f}" '
            f'height="{cell:.1f}" class="heat" fill-opacity="{opacity:.3f}"/>'
        )
    body.append(_line(left, top + side, left + side, top, style="ideal"))
    for tick in _ticks(low, high, about=4):
        body.append(_text(left + at(tick), top + side + 16, f"{tick:g}"))
        body.append(_text(left - 7, top + side - at(tick) + 4, f"{tick:g}", anchor="end"))
    body.append(_text(left + side / 2, top + side + 34, f"true {name}", style="name"))
    body.append(_upright(13, top + side / 2, f"predicted {name}"))
    label = f"Predicted against true {name} of {len(truth)} clips, counted in {BINS} by {BINS} cells"
    return _svg(left + side + 12, top + side + 44, label=label, body=body)


def plane(groups: Mapping[str, tuple[float, float, float, float]]) -> Markup:
    """Valence and arousal: of each emotion an arrow from its mean truth to its mean prediction.

    Parameters
    ----------
    groups
        emotion -> (true valence, true arousal, predicted valence, predicted arousal), each in [-1, 1].
    """
    side, left, top = 300.0, 46.0, 10.0

    def at(valence: float, arousal: float) -> tuple[float, float]:
        return left + (valence + 1) / 2 * side, top + (1 - arousal) / 2 * side

    body = [
        f'<rect x="{left:g}" y="{top:g}" width="{side:g}" height="{side:g}" class="plot"/>',
        _line(*at(-1, 0), *at(1, 0), style="grid"),
        _line(*at(0, -1), *at(0, 1), style="grid"),
    ]
    names = []
    for name, (true_v, true_a, said_v, said_a) in groups.items():
        (x1, y1), (x2, y2) = at(true_v, true_a), at(np.clip(said_v, -1, 1), np.clip(said_a, -1, 1))
        body.append(_line(x1, y1, x2, y2, style="arrow"))
        body.append(f'<circle cx="{x1:.1f}" cy="{y1:.1f}" r="5" class="truth"/>')
        body.append(f'<circle cx="{x2:.1f}" cy="{y2:.1f}" r="5" class="said"/>')
        room = 7 * len(name) + 12  # about what the name takes
        before = x1 - room > left and x2 >= x1
        names.append((before, y1 + 4, x1 - 9 if before else x1 + 9, name))
    below = {True: -np.inf, False: -np.inf}
    for before, y, x, name in sorted(names):  # from the top, each name at least a line below the last of its side
        below[before] = max(y, below[before] + 13)
        body.append(_text(x, below[before], name, anchor="end" if before else "start", style="count"))
    for tick in (-1, -0.5, 0, 0.5, 1):
        body.append(_text(at(tick, 0)[0], top + side + 16, f"{tick:g}"))
        body.append(_text(left - 7, at(0, tick)[1] + 4, f"{tick:g}", anchor="end"))
    body.append(_text(left + side / 2, top + side + 34, "valence", style="name"))
    body.append(_upright(13, top + side / 2, "arousal"))
    label = f"Mean true and mean predicted valence and arousal of {', '.join(groups) or 'no emotion'}"
    return _svg(left + side + 70, top + side + 44, label=label, body=body)


def forest(lines: Sequence[Line], *, label: str) -> Markup:
    """Each metric by every protocol on one scale: folds as dots, the pooled value with its interval."""
    numbers = [
        value
        for line in lines
        for value in (*line.folds, line.pooled, *(line.interval or ()), line.published, line.baseline)
        if value is not None
    ]
    low, high = min([0.0, *numbers]), max([0.1, *numbers])
    high += 0.04 * (high - low)
    low -= 0.04 * (high - low) if low < 0 else 0
    width, left, row = 450.0, 132.0, 40.0
    base = row * len(lines) + 6

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - 16)

    body = []
    for tick in _ticks(low, high):
        body += [_line(x(tick), 4, x(tick), base, style="grid"), _text(x(tick), base + 16, f"{tick:g}")]
    for number, line in enumerate(lines):
        y = row * number + 24
        body.append(_text(left - 12, y + 4, line.name, anchor="end", style="count"))
        if line.interval is not None:
            body.append(_line(x(line.interval[0]), y, x(line.interval[1]), y, style="interval"))
        body += [
            f'<circle cx="{x(value):.1f}" cy="{y - 9:.1f}" r="3.2" class="fold"/>'
            for value in line.folds
            if value is not None
        ]
        if line.baseline is not None:
            body.append(_line(x(line.baseline), y - 14, x(line.baseline), y + 14, style="baseline"))
        if line.published is not None:
            at = x(line.published)
            body.append(f'<path d="M{at:.1f} {y + 5:.1f}l5 5 -5 5 -5 -5z" class="published"/>')
        if line.pooled is not None:
            body.append(f'<circle cx="{x(line.pooled):.1f}" cy="{y:.1f}" r="4.5" class="said"/>')
    return _svg(width, base + 24, label=label, body=body)
