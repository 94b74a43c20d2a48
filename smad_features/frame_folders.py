"""A folder of images as a video: its pictures in the order of their numbers, each read or named as unreadable."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

from smad_features.containers import VideoError

_IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp"}


def list_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder, in the natural order of the number in their names.

    Raises
    ------
    VideoError
        There are none.
    """
    files = [f for f in folder.iterdir() if f.suffix.lower() in _IMAGE_ENDINGS and not f.name.startswith(".")]
    if not files:
        raise VideoError(f"the folder holds no pictures; looked for {', '.join(sorted(_IMAGE_ENDINGS))}")
    return sorted(files, key=lambda file: _natural_order(file.name))


def read_picture(file: Path) -> np.ndarray:
    """One image as (H, W, 3) uint8 RGB. Read as bytes first: an I/O error must not look like a damaged picture.

    Raises
    ------
    VideoError
        It is no picture, or a damaged one.
    """
    data = np.frombuffer(file.read_bytes(), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    if picture is None:
        raise VideoError(f"the picture {file.name} cannot be decoded ({data.size} bytes)")
    return picture


def _natural_order(name: str) -> tuple[list[str | int], str]:
    """What sorts `2.jpg` before `10.jpg`, and `01.jpg` and `1.jpg` always the same way."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name
