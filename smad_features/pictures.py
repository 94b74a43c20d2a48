"""A decoded frame becomes an RGB picture as a player would show it: upright, with square pixels and whole lines."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import cv2
import numpy as np


def to_picture(frame: Any, aspect: Fraction | None) -> tuple[np.ndarray, int]:
    """The (H, W, 3) uint8 RGB picture of a frame, and by how much its display matrix turned it, degrees clockwise.

    Pixels are made square: ``aspect`` is a coded pixel's width / height. Of an interlaced frame the first field is
    shown, its missing lines drawn along edges: two fields show two moments, and a face that moves would be torn.
    Source of the matrix: ISO/IEC 14496-12, 8.2.2 (track header). Its upper left part maps (x, y) to
    (a x + c y, b x + d y), x to the right and y down.
    """
    matrix = next((d for d in frame.side_data if d.type.name == "DISPLAYMATRIX"), None)
    turning = [1 << 16, 0, 0, 0, 1 << 16] if matrix is None else np.frombuffer(matrix, "<i4")[:5].tolist()
    picture = _rgb(_deinterlaced(frame) if frame.interlaced_frame else frame)
    if aspect and aspect > 0 and aspect != 1:  # stretch, never shrink: nothing is lost
        height, width = picture.shape[:2]
        size = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    a, b, _, c, d = turning
    if abs(a) + abs(d) >= abs(b) + abs(c):
        across, down, turn = a, d, 180 if a < 0 and d < 0 else 0
    else:
        picture = picture.transpose(1, 0, 2)
        across, down, turn = c, b, 90 if b > 0 else 270
    if across < 0:
        picture = picture[:, ::-1]
    if down < 0:
        picture = picture[::-1]
    return np.ascontiguousarray(picture), turn


def _rgb(frame: Any) -> np.ndarray:
    """The (H, W, 3) picture in the very memory that it was converted to: of a 4K picture a copy would be 25 MB more."""
    converted = frame.reformat(format="rgb24")
    plane = converted.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: converted.height]
    return rows[:, : converted.width * 3].reshape(converted.height, converted.width, 3)  # a copy where rows are padded


def _deinterlaced(frame: Any) -> Any:
    """One whole frame from the first field of an interlaced one, by FFmpeg's estdif: it needs no other frame."""
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    filters = [source, graph.add("estdif", "mode=frame:deint=interlaced"), graph.add("buffersink")]
    for one, next_one in pairwise(filters):
        one.link_to(next_one)
    graph.configure()
    source.push(frame)
    source.push(None)
    return filters[-1].pull()
