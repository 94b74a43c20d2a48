"""The two public-domain portraits that synthetic faces are warped from, and the points of their faces."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

EYES = 64.0  # distance of the eyes in the canonical picture, pixels
CANVAS = (352, 448)  # its height and width
CENTRE = (224.0, 150.0)  # the middle between its eyes, x and y


@dataclass(frozen=True)
class Portrait:
    """A source picture. ``points`` are pixels x, y; "right" and "left" are the subject's own.

    The points were found once with MediaPipe's face landmarker; the outlines of head and shoulders once with OpenCV's
    GrabCut, and simplified by hand. ``teeth`` is the height of the gap between the lips in eye distances.
    """

    package: str
    file: str
    points: dict[str, tuple[float, float]]
    outline: tuple[tuple[int, int], ...]
    teeth: float
    resting_smile: float


# fmt: off
PORTRAITS = (
    # Eileen Collins, NASA; public domain.
    Portrait("skimage", "data/astronaut.png", {
        "right eye": (204.0, 101.6), "left eye": (245.4, 103.9),
        "right upper lid": (202.1, 97.3), "right lower lid": (203.7, 103.7),
        "left upper lid": (247.6, 99.7), "left lower lid": (245.4, 106.0),
        "right brow inner": (215.8, 94.4), "right brow mid": (197.0, 88.1), "right brow outer": (187.4, 91.2),
        "left brow inner": (233.9, 95.0), "left brow mid": (253.7, 90.1), "left brow outer": (263.2, 95.4),
        "nose tip": (223.0, 128.0), "right nose side": (208.7, 124.4), "left nose side": (238.4, 125.9),
        "right mouth corner": (201.8, 138.7), "left mouth corner": (244.0, 140.1),
        "upper lip": (222.8, 142.7), "lower lip": (222.5, 148.7), "chin": (220.9, 176.9),
        "right jaw": (184.8, 148.5), "left jaw": (260.4, 152.2),
        "right cheek": (190.5, 122.2), "left cheek": (257.3, 125.7),
        "right temple": (180.4, 105.4), "left temple": (269.3, 109.9), "forehead": (225.5, 74.0),
    }, (
        (20, 512), (40, 300), (49, 273), (76, 235), (110, 206), (124, 205), (126, 193), (121, 183), (140, 158),
        (153, 151), (182, 147), (182, 132), (174, 128), (170, 116), (155, 98), (156, 58), (176, 38), (201, 23),
        (227, 16), (251, 19), (276, 31), (286, 40), (296, 58), (300, 92), (290, 117), (275, 134), (266, 137),
        (256, 163), (256, 174), (289, 202), (303, 233), (340, 262), (352, 287), (357, 324), (370, 512),
    ), teeth=0.145, resting_smile=0.75),
    # Grace Hopper, US Navy; public domain.
    Portrait("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", {
        "right eye": (223.4, 194.2), "left eye": (305.0, 189.3),
        "right upper lid": (219.1, 186.2), "right lower lid": (222.7, 196.6),
        "left upper lid": (308.2, 180.8), "left lower lid": (305.6, 191.8),
        "right brow inner": (244.5, 174.0), "right brow mid": (211.0, 167.0), "right brow outer": (187.0, 175.0),
        "left brow inner": (281.6, 172.0), "left brow mid": (316.0, 163.0), "left brow outer": (339.0, 169.0),
        "nose tip": (266.2, 246.2), "right nose side": (237.5, 241.7), "left nose side": (294.7, 238.9),
        "right mouth corner": (233.5, 278.9), "left mouth corner": (302.0, 276.2),
        "upper lip": (266.1, 278.8), "lower lip": (266.2, 279.0), "chin": (269.7, 334.1),
        "right jaw": (194.6, 290.4), "left jaw": (339.7, 282.1),
        "right cheek": (201.9, 236.4), "left cheek": (329.3, 229.1),
        "right temple": (173.3, 216.8), "left temple": (353.6, 206.2), "forehead": (260.6, 140.0),
    }, (
        (24, 600), (42, 440), (60, 392), (70, 376), (165, 344), (189, 327), (200, 318), (198, 300), (185, 297),
        (166, 285), (160, 262), (163, 240), (155, 219), (152, 198), (148, 180), (148, 106), (158, 96), (175, 80),
        (181, 60), (192, 45), (212, 32), (240, 25), (265, 22), (295, 26), (325, 38), (342, 55), (352, 82), (368, 92),
        (371, 134), (369, 183), (376, 188), (375, 201), (369, 215), (370, 240), (366, 262), (358, 290), (344, 306),
        (332, 312), (365, 342), (422, 366), (464, 377), (492, 393), (505, 431), (512, 600),
    ), teeth=0.0, resting_smile=0.0),
)
# fmt: on


@cache
def canonical(index: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Portrait ``index`` with its eyes level at their place: RGB picture, mask of the person, points."""
    portrait = PORTRAITS[index]
    spec = importlib.util.find_spec(portrait.package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"synthetic faces are warped from {portrait.file} of the package {portrait.package}")
    path = Path(spec.origin).parent / portrait.file
    picture = cv2.imread(str(path))
    if picture is None:
        raise FileNotFoundError(f"{path}: the portrait that synthetic faces are warped from cannot be read")
    right, left = (np.array(portrait.points[name]) for name in ("right eye", "left eye"))
    across = (left - right) / np.hypot(*(left - right))
    rotation = np.array([across, [-across[1], across[0]]]) * EYES / np.hypot(*(left - right))
    matrix = np.column_stack([rotation, CENTRE - rotation @ (left + right) / 2])
    outline = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(outline, [np.array(portrait.outline)], 255)
    size = CANVAS[::-1]
    mask = cv2.GaussianBlur(cv2.erode(outline, np.ones((3, 3))), (0, 0), 1.5)
    mask = cv2.warpAffine(mask, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    upright = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    points = {name: matrix @ (*xy, 1.0) for name, xy in portrait.points.items()}
    return cv2.cvtColor(upright, cv2.COLOR_BGR2RGB), mask, points
