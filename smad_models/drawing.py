"""Matplotlib's figures to inline SVG that takes its colours and its type from the page around it.

One file so reads well in light, in dark and in print, and the same numbers always make the same bytes. Drawn when the
page is made and not when it is read: a library that draws in the browser would bring 1 to 4 MB of script to each page.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# The names are those of the page's colours (style.css), the values their light ones (Okabe and Ito's, which the
# colour-blind can tell apart): what is drawn in one of them is drawn in the page's.
PAINT = {
    "paper": "#fffffe",
    "ink": "#1c2127",
    "muted": "#5c6670",
    "grid": "#e4e7ea",
    "accent": "#0072b2",
    "second": "#d55e00",
    "third": "#009e73",
    "heat": "#3a9bd6",
}
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
TEXT = 12.0  # pixels, at the figure's full width
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with two dollar signs is no formula
    "font.family": "sans-serif",
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "axes.labelcolor": PAINT["ink"],
    "axes.titlecolor": PAINT["ink"],
    "text.color": PAINT["ink"],
    "axes.edgecolor": PAINT["grid"],
    "axes.linewidth": 1.0,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": PAINT["grid"],
    "grid.linewidth": 1.0,
    "xtick.color": PAINT["grid"],
    "ytick.color": PAINT["grid"],
    "xtick.labelcolor": PAINT["muted"],
    "ytick.labelcolor": PAINT["muted"],
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.major.pad": 6.0,
    "ytick.major.pad": 6.0,
}


class Drawing:
    """One figure with its axes, and the SVG of it once it is drawn."""

    def __init__(self, figure: Figure, axes: list[Axes]) -> None:
        self.figure, self.axes = figure, axes
        self.svg = Markup("")

    @property
    def ax(self) -> Axes:
        """The only axes, or the first."""
        return self.axes[0]


@contextmanager
def draw(width: float, height: float, *, label: str, panels: int = 1, **layout: Any) -> Iterator[Drawing]:
    """A figure to draw in; at the end of the block ``svg`` is what was drawn.

    Parameters
    ----------
    width, height
        In pixels of the page, which shows it so large where there is room, else smaller.
    label
        What the figure shows, in words: it is read aloud in the figure's place.
    panels
        Axes side by side.
    layout
        Passed on to ``Figure.subplots``.
    """
    style: dict[Any, Any] = {**_STYLE, "svg.hashsalt": label}
    with mpl.rc_context(style):
        # 72 points an inch, and so one pixel of the page a point of Matplotlib's.
        figure = Figure(
            figsize=(width / 72, height / 72), dpi=72, layout=ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=2 / 72)
        )
        axes = figure.subplots(1, panels, squeeze=False, **layout)
        drawing = Drawing(figure, list(axes[0]))
        yield drawing
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with warnings.catch_warnings():
            # The page's type draws the text, not the one that Matplotlib measures it with.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            # Not by savefig, which draws all twice.
            FigureCanvasSVG(figure).print_svg(file, metadata=nothing)
    drawing.svg = Markup(_adopted(file.getvalue(), width=width, height=height, label=label))


def assemble(panels: Sequence[tuple[str, Markup]], *, across: int, width: float, height: float) -> str:
    """Figures of a page as one SVG file that stands alone, in the light colours on white.

    Parameters
    ----------
    panels
        Title and figure of each, in reading order.
    across
        Panels in a row.
    width, height
        Of a panel, in pixels.
    """
    rows = -(-len(panels) // across)
    size = f"{across * width:g} {max(rows, 1) * height:g}"
    parts = [f'<svg xmlns="{_SVG}" xmlns:xlink="{_XLINK}" viewBox="0 0 {size}" font-family="sans-serif">']
    parts.append(f'<rect width="100%" height="100%" fill="{PAINT["paper"]}"/>')
    for number, (title, chart) in enumerate(panels):
        row, column = divmod(number, across)
        x, y = column * width, row * height
        parts.append(f'<text x="{x + 10:g}" y="{y + 20:g}" font-size="14" font-weight="600">{escape(title)}</text>')
        place = f'x="{x + 10:g}" y="{y + 30:g}" width="{width - 20:g}" height="{height - 34:g}"'
        parts.append(re.sub(r' style="max-width:[^"]*"', f" {place}", str(chart), count=1))
    whole = "".join(parts) + "</svg>\n"
    for name, colour in PAINT.items():
        whole = whole.replace(f"var(--{name})", colour)
    return whole


def _adopted(svg: str, *, width: float, height: float, label: str) -> str:
    """The figure's own SVG as a part of the page: its colours, its type, no name that another figure may have too."""
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style .*?</style>", "", body, flags=re.DOTALL)
    # Names are digests of what they name: two equal figures would share theirs.
    mark = "f" + hashlib.blake2b(label.encode(), digest_size=4).hexdigest()
    body = re.sub(r"<[^>]*>", lambda tag: _adopted_tag(tag.group(), mark=mark), body)
    body = re.sub(r">\s+<", "><", body.strip()).replace("<g/>", "")
    text = escape(label)
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" role="img" aria-label="{text}">'
        f"<title>{text}</title>{body}</svg>"
    )


def _adopted_tag(tag: str, *, mark: str) -> str:
    for name, colour in PAINT.items():
        tag = tag.replace(colour, f"var(--{name})")
    if tag.startswith("<g "):
        tag = re.sub(r' id="[^"]*"', "", tag)
    tag = re.sub(r"font(-family)?: (?:([\d.]+px) )?'[^;\"]*;? ?", lambda f: f"font-size: {f[2]}; " if f[2] else "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    tag = re.sub(r'\bid="|url\(#|xlink:href="#', lambda found: f"{found.group()}{mark}", tag)
    tag = re.sub(r"(\d\.\d\d)\d+", r"\1", tag)  # a hundredth of a pixel is seen by nobody
    return re.sub(r"\s+", " ", tag)
