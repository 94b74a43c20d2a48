"""What a cached clip is: the arrays, their shapes, units and missing values.

This module is the contract between the two packages. It needs numpy and nothing else, so that a GPU node can
read a cache without any of the libraries that made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

FORMAT = "smad-cache"
VERSION = 1

FRAMES = 8  # face frames a clip: MAQT's own number
SIZE = 112  # side of a face crop in pixels
STEPS = 32  # steps of an eye-movement sequence

Kind = Literal["continuous", "direction", "category", "counter"]


@dataclass(frozen=True)
class Channel:
    """One column of an eye-movement sequence.

    ``kind`` says how samples become a step: a *continuous* channel is averaged, a *direction* is averaged and made a
    unit vector again, a *category* takes its mode, a *counter* (index, duration of an event) the value at the centre.
    """

    name: str
    unit: str
    kind: Kind = "continuous"


def _axes(stem: str, axes: str, unit: str, *, kind: Kind = "continuous", frame: str = "") -> list[Channel]:
    tail = f" ({frame})" if frame else ""
    return [Channel(f"{stem} {axis}{tail}", unit, kind) for axis in axes]


# The sensor block of a 120 Hz Tobii Pro Lab export, in its own order and under its own names (without unit suffixes).
TOBII_PRO_LAB_39: tuple[Channel, ...] = (
    *_axes("Gaze point", "XY", "px"),
    *_axes("Gaze point left", "XY", "px"),
    *_axes("Gaze point right", "XY", "px"),
    *_axes("Gaze direction left", "XYZ", "1", kind="direction"),
    *_axes("Gaze direction right", "XYZ", "1", kind="direction"),
    Channel("Pupil diameter left", "mm"),
    Channel("Pupil diameter right", "mm"),
    Channel("Validity left", "code", "category"),
    Channel("Validity right", "code", "category"),
    *_axes("Eye position left", "XYZ", "mm", frame="DACSmm"),
    *_axes("Eye position right", "XYZ", "mm", frame="DACSmm"),
    *_axes("Gaze point left", "XY", "mm", frame="DACSmm"),
    *_axes("Gaze point right", "XY", "mm", frame="DACSmm"),
    *_axes("Gaze point", "XY", "1", frame="MCSnorm"),
    *_axes("Gaze point left", "XY", "1", frame="MCSnorm"),
    *_axes("Gaze point right", "XY", "1", frame="MCSnorm"),
    Channel("Eye movement type", "code", "category"),
    Channel("Gaze event duration", "ms", "counter"),
    Channel("Eye movement type index", "1", "counter"),
    *_axes("Fixation point", "XY", "px"),
    *_axes("Fixation point", "XY", "1", frame="MCSnorm"),
)

CHANNELS: dict[str, tuple[Channel, ...]] = {"tobii-pro-lab-39": TOBII_PRO_LAB_39}

# Codes of the categories, as stored.
VALIDITY = {"Invalid": 0.0, "Valid": 1.0}
EYE_MOVEMENT = {"Unclassified": 0.0, "Fixation": 1.0, "Saccade": 2.0, "EyesNotFound": 3.0}

POINTS = ("right eye", "left eye", "nose tip", "right mouth corner", "left mouth corner")  # the subject's own right


@dataclass(frozen=True)
class Array:
    """One array of the cache: its dimensions after `clip`, dtype, the value that means "no data", and what it is."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    missing: float | bool
    meaning: str

    def empty(self, clips: int) -> np.ndarray:
        """``(clips, *shape)`` of nothing but missing values."""
        return np.full((clips, *self.shape), self.missing, dtype=self.dtype)


def face_arrays(*, frames: int = FRAMES, size: int = SIZE) -> dict[str, Array]:
    """The arrays of the face stage, a clip a row."""
    frame = ("frame",)
    nan = float("nan")
    return {
        "face": Array(("frame", "y", "x", "rgb"), (frames, size, size, 3), "uint8", 0, "aligned face crop, RGB"),
        "face_time": Array(frame, (frames,), "float64", nan, "seconds from clip start: real presentation time"),
        "face_found": Array(frame, (frames,), "bool", False, "a face was found in this very frame"),
        "face_score": Array(frame, (frames,), "float32", nan, "detector confidence"),
        "face_points": Array(
            ("frame", "point", "xy"), (frames, 5, 2), "float32", nan, "source pixels: " + ", ".join(POINTS)
        ),
        "face_transform": Array(
            ("frame", "row", "col"), (frames, 2, 3), "float32", nan, "source pixel -> crop pixel, pixel centres"
        ),
    }


def eye_arrays(*, steps: int = STEPS, channels: int = len(TOBII_PRO_LAB_39)) -> dict[str, Array]:
    """The arrays of the eye stage, a clip a row."""
    nan = float("nan")
    return {
        "eye": Array(("step", "channel"), (steps, channels), "float32", nan, "resampled channel in its own unit"),
        "eye_observed": Array(
            ("step", "channel"), (steps, channels), "float32", 0.0, "fraction of the step backed by valid samples"
        ),
        "gaze": Array(
            ("step", "xy"), (steps, 2), "float32", nan, "gaze on the stimulus, 0..1 of width, height; y down"
        ),
        "gaze_observed": Array(("step",), (steps,), "float32", 0.0, "fraction of the step backed by valid samples"),
    }


def gaze_content_arrays(*, frames: int = FRAMES, size: int = SIZE) -> dict[str, Array]:
    """The array of the gaze content stage, a clip a row: in caches of clips that name a stimulus."""
    meaning = "the stimulus around the gaze point at face_time, RGB; its pixel size // 2 holds the point; black = none"
    return {"gaze_content": Array(("frame", "y", "x", "rgb"), (frames, size, size, 3), "uint8", 0, meaning)}


def check_clip(clip: str, arrays: dict[str, np.ndarray], wanted: dict[str, Array]) -> None:
    """Raise ValueError, naming clip and array, unless ``arrays`` are one clip's ``wanted`` arrays."""
    for name, spec in wanted.items():
        if name not in arrays:
            raise ValueError(f"clip {clip}: {name}: missing")
        found = arrays[name]
        if found.shape != spec.shape or found.dtype != np.dtype(spec.dtype):
            raise ValueError(
                f"clip {clip}: {name}: want {spec.shape} {spec.dtype}, got {tuple(found.shape)} {found.dtype}"
            )
