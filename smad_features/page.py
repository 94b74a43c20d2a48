"""A page of pictures and lines of text, from the top down, as one picture."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PAPER, INK = (255, 255, 255), (25, 25, 30)
MARGIN, GAP = 16, 10  # pixels, as all here
LINE = 18  # height of a line of text
_GREY = (110, 110, 118)
_SIZE, _LETTER = 12, 0.602  # height of letters, and a letter's width / its height in DejaVu Sans Mono
_LONG = 24  # letters of a value that make it a line of its own


def length_of(text: str, *, size: int = _SIZE) -> int:
    """How wide a line of text is."""
    return round(len(text) * _LETTER * size)


class Page:
    """A page that grows downwards; ``height`` is where the next line goes."""

    def __init__(self, width: int) -> None:
        self.width, self.height = width, MARGIN
        self._pictures: list[tuple[np.ndarray, int, int]] = []
        self._texts: list[tuple[str, int, int, dict[str, Any]]] = []

    def skip(self, height: int) -> None:
        """Leave room, or make it for what is pasted and put there."""
        self.height += height

    def paste(self, picture: np.ndarray, x: int, y: int) -> None:
        """A picture, (h, w, 3) uint8 RGB, with its top left corner at (x, y)."""
        self._pictures.append((picture, x, y))

    def put(self, text: str, x: int, y: int, *, size: int = _SIZE, colour: Any = INK, weight: str = "normal") -> None:
        """A line of text with its top left corner at (x, y)."""
        # Names of files may hold anything, half a letter too.
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
        rgb = tuple(value / 255 for value in colour)
        self._texts.append((text, x, y, {"fontsize": size, "color": rgb, "fontweight": weight}))

    def write(self, text: str, *, size: int = _SIZE, height: int = LINE, **how: Any) -> None:
        """Text across the page, in as many lines as it needs."""
        for line in textwrap.wrap(text, int((self.width - 2 * MARGIN) / (_LETTER * size)), break_on_hyphens=False):
            self.put(line, MARGIN, self.height, size=size, **how)
            self.skip(height)

    def write_row(self, parts: Sequence[tuple[str, Any]]) -> None:
        """Coloured pieces of text side by side, in as many lines as they need."""
        x = MARGIN
        for text, colour in parts:
            length = length_of(f"{text}   ")
            if x > MARGIN and x + length > self.width:
                x = MARGIN
                self.skip(LINE)
            self.put(text, x, self.height, colour=tuple(value * 4 // 5 for value in colour))
            x += length
        self.skip(LINE)

    def grid(self, values: dict[str, str]) -> None:
        """Names and values in columns, read downwards; what is too long for a column comes after them, as a line."""
        long = {name: text for name, text in values.items() if len(text) > _LONG}
        values = {name: text for name, text in values.items() if name not in long}
        names, texts = (max((len(text) for text in part), default=0) for part in (values, values.values()))
        step = round((names + texts + 4) * _LETTER * _SIZE)
        columns = max(1, (self.width - 2 * MARGIN) // max(step, 1))
        rows = math.ceil(len(values) / columns)
        self.skip(GAP // 2)
        for place, (name, text) in enumerate(values.items()):
            x, y = MARGIN + place // rows * step, self.height + place % rows * LINE
            self.put(name, x, y, colour=_GREY)
            self.put(text, x + round((names + 1) * _LETTER * _SIZE), y)
        self.skip(rows * LINE)
        for name, text in long.items():
            self.write(f"{name} {text}")
        self.skip(GAP // 2)

    def drawn(self) -> np.ndarray:
        """The page so far: (H, W, 3) uint8 RGB, with every pasted picture pixel for pixel."""
        height = self.height + MARGIN - GAP // 2
        page = np.full((height, self.width, 3), PAPER, np.uint8)
        for picture, x, y in self._pictures:
            page[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
        # 72 dots an inch make a point a pixel; half a pixel more, as the size in inches is cut to whole ones.
        canvas = FigureCanvasAgg(Figure(figsize=((self.width + 0.5) / 72, (height + 0.5) / 72), dpi=72))
        canvas.figure.figimage(page, 0, 0)
        for text, x, y, how in self._texts:
            canvas.figure.text(
                x / self.width,
                1 - (y + how["fontsize"]) / height,
                text,
                family="DejaVu Sans Mono",
                parse_math=False,
                **how,
            )
        with warnings.catch_warnings():  # a letter that no font here has is drawn as a box, which is enough
            warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
            canvas.draw()
        return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3])


def plain(value: Any) -> str:
    """A noted value in few letters."""
    if value is None or value != value:  # NaN is the one value that is not equal to itself
        return "-"
    if isinstance(value, list | tuple):
        return " ".join(map(plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
