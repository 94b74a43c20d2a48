"""The report's part on single clips: predictions beside labels, traces, film strips. Nothing of it is shown unasked.

Traces are written as SVG by hand: a plotting library would take minutes and ten times the bytes for 1,303 clips.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from smad_models.cache_files import Place

SHEET = 24  # faces on the contact sheet
STRIP = 56  # pixels, a side of a face on a strip of 1,500 clips; of more clips they are smaller
PUPILS = ("Pupil diameter left", "Pupil diameter right")
_BLOCK = 64  # clips read at a time: 20 MB of crops
_WIDTH, _HEIGHT = 240, 64  # pixels, of a trace


def clip_table(
    predicted: Mapping[str, Sequence[Mapping[str, Any]]],
    truth: Mapping[str, Mapping[str, str]],
    *,
    cache: Place | None,
    show_faces: bool,
) -> dict[str, Any]:
    """A row a clip: what was predicted, the label beside it, and what of the cache can be drawn.

    Parameters
    ----------
    cache
        The packed cache; None = no traces.
    show_faces
        Draw the film strips too.
    """
    rows: dict[str, dict[str, Any]] = {}
    for task, found in predicted.items():
        for row in found:
            line = rows.setdefault(row["clip"], {"participant": row["participant"], "fold": row["fold"], "cells": {}})
            label = truth.get(row["clip"], {}).get(task, "")
            line["cells"][task] = _named(row, label) if task == "emotion" else _valued(row, label)
    drawn: dict[str, dict[str, Any]] = dict(_drawn(cache, rows, show_faces=show_faces)) if cache is not None else {}
    return {"tasks": list(predicted), "rows": rows, "drawn": drawn}


def _named(row: Mapping[str, Any], label: str) -> dict[str, Any]:
    said = row["prediction"]
    sure = row.get(f"p_{said}")
    return {"said": said, "label": label, "sure": sure, "wrong": bool(label) and label != said}


def _valued(row: Mapping[str, Any], label: str) -> dict[str, Any]:
    off = row["prediction"] - float(label) if label else None
    return {"said": row["prediction"], "label": float(label) if label else None, "off": off}


def _drawn(cache: Place, clips: Mapping[str, Any], *, show_faces: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    from smad_models.dataset import open_cache  # only here: most pages show no clip

    opened = open_cache(cache)
    place = {clip: row for row, clip in enumerate(opened.clips)}
    wanted = [clip for clip in clips if clip in place]
    pupils = [opened.channels.index(name) for name in PUPILS if name in opened.channels]
    side = min(STRIP, int(STRIP * (1500 / max(len(wanted), 1)) ** 0.5))
    arrays = ["gaze", "eye", "face_found", *(["face"] if show_faces else [])]
    for start in range(0, len(wanted), _BLOCK):
        block = wanted[start : start + _BLOCK]
        found = opened.read([place[clip] for clip in block], arrays)
        for number, clip in enumerate(block):
            traces = {"gaze": trace(found["gaze"][number].T, label="Gaze across and down the stimulus", span=(0, 1))}
            if pupils:
                traces["pupils"] = trace(found["eye"][number][:, pupils].T, label="Pupil diameters in mm")
            strip = None
            if show_faces:
                strip = {"source": film_strip(found["face"][number], side=side), "width": side * opened.frames}
                strip |= {"height": side, "found": int(found["face_found"][number].sum()), "of": opened.frames}
            yield clip, {"traces": traces, "strip": strip}


def trace(values: np.ndarray, *, label: str, span: tuple[float, float] | None = None) -> Markup | None:
    """Lines over a clip's steps, broken where nothing was observed; None where nothing ever was.

    Parameters
    ----------
    values
        (lines, steps) float, NaN = not observed.
    span
        From bottom to top at least these values; None = only what is there.
    """
    if not np.isfinite(values).any():
        return None
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if span is not None:
        low, high = min(low, span[0]), max(high, span[1])
    high = max(high, low + 1e-6)
    steps = values.shape[1]
    x = (np.arange(steps) + 0.5) / steps * _WIDTH
    y = (1 - (values - low) / (high - low)) * (_HEIGHT - 4) + 2
    lines = []
    for number, line in enumerate(y):
        path, is_on = "", False
        for at, value in zip(x, line, strict=True):
            if np.isfinite(value):
                path += f"{'L' if is_on else 'M'}{at:.0f} {value:.0f}"
                # A step alone between two lost ones is a point.
                path += "" if is_on else "h1"
            is_on = bool(np.isfinite(value))
        lines.append(f'<path d="{path}" class="trace{number}"/>')
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" style="max-width:{_WIDTH}px" role="img" aria-label="{escape(label)} '
        f'over time, {low:.3g} to {high:.3g}">{"".join(lines)}</svg>'
    )


def film_strip(faces: np.ndarray, *, side: int) -> str:
    """A clip's face crops side by side, as the address of a picture that holds itself.

    Parameters
    ----------
    faces
        (frames, size, size, 3) uint8, RGB
    """
    from PIL import Image

    strip = Image.fromarray(np.concatenate(list(faces), axis=1)).resize((side * len(faces), side), Image.Resampling.BOX)
    return _address(strip, kind="webp", quality=50)


def contact_sheet(cache: Place) -> dict[str, Any] | None:
    """Aligned crops of clips spread evenly over the cache, the middle frame of each, as one picture in the page."""
    from PIL import Image

    from smad_models.dataset import open_cache  # only here: most pages show no face

    opened = open_cache(cache)
    rows = np.unique(np.linspace(0, len(opened.clips) - 1, SHEET).round().astype(int))
    faces = opened.read(rows, ["face"])["face"]  # (n, frames, size, size, 3)
    crops = [crop for crop in faces[:, faces.shape[1] // 2] if crop.any()]
    if not crops:
        return None
    size, across = crops[0].shape[0], min(6, len(crops))
    sheet = np.zeros((-(-len(crops) // across) * size, across * size, 3), dtype=np.uint8)
    for number, crop in enumerate(crops):
        y, x = divmod(number, across)
        sheet[y * size : (y + 1) * size, x * size : (x + 1) * size] = crop
    source = _address(Image.fromarray(sheet), kind="jpeg", quality=88)
    return {"source": source, "count": len(crops), "width": sheet.shape[1], "height": sheet.shape[0]}


def _address(picture: Any, *, kind: str, quality: int) -> str:
    file = io.BytesIO()
    picture.save(file, format=kind.upper(), quality=quality)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
