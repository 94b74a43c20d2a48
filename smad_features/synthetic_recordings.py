"""What an eye tracker measures of people who do not exist: scan paths, pupils, blinks, as the 39 channels over time.

A person looks at one of seven places of the film (each emotion has its own), dwells shorter and blinks more when the
emotion is intense, leans to the right when it is pleasant, and has wider pupils when it is arousing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from smad_features.schema import EYE_MOVEMENT, TOBII_PRO_LAB_39, VALIDITY, Channel

RATE = 120  # Hz
SCREEN = (1920, 1080)  # pixels
PIXEL = 0.2745  # mm: a 24 inch display
MEDIUM = (240, 0, 1440, 1080)  # where on the screen the film is shown: x, y, width, height
PIXELS_A_DEGREE = 40.0  # at 630 mm

# Where on the film each emotion looks: fractions of its width and height.
ANCHORS = {
    "happiness": (0.82, 0.36),
    "surprise": (0.55, 0.16),
    "fear": (0.24, 0.20),
    "anger": (0.12, 0.52),
    "disgust": (0.26, 0.82),
    "sadness": (0.60, 0.84),
    "neutral": (0.50, 0.50),
}


@dataclass(frozen=True)
class Viewer:
    """One participant's eyes; lengths in mm, biases in pixels."""

    pupil: float
    anisocoria: float  # left less right
    eyes: np.ndarray  # (left/right, xyz): from the display's top left corner, y down, z towards the viewer
    bias: np.ndarray  # (left/right, xy): what calibration left over
    tempo: float  # fixations last this much longer than others'


@dataclass(frozen=True)
class Samples:
    """A clip's measurements, a row each.

    ``device`` is ``(time,)`` int64, microseconds of the tracker's own clock, which is steady. ``channels`` are the 39
    of `schema.TOBII_PRO_LAB_39` by name, ``(time,)`` float64, NaN where nothing was measured, categories as codes.
    """

    device: np.ndarray
    channels: dict[str, np.ndarray]


def digits_of(channel: Channel) -> int:
    """Decimal places that Tobii Pro Lab writes of a channel."""
    if channel.name.startswith("Pupil"):
        return 3
    if channel.kind == "direction":
        return 5
    return {"mm": 1, "1": 4}.get(channel.unit, 0) if channel.kind == "continuous" else 0


def make_viewer(*, rng: np.random.Generator) -> Viewer:
    """One participant's pupils, eye positions, calibration error and tempo."""
    head = np.array([SCREEN[0] * PIXEL / 2, SCREEN[1] * PIXEL / 2, 630]) + rng.normal(0, (18, 14, 25))
    apart = rng.uniform(58, 68)
    return Viewer(
        pupil=rng.normal(3.5, 0.22),
        anisocoria=rng.normal(0, 0.05),
        eyes=head + np.array([[-apart / 2, 0, 0], [apart / 2, 0, 0]]),
        bias=rng.normal(0, 14, (2, 2)),
        tempo=rng.uniform(0.8, 1.25),
    )


def blink_times(*, seconds: float, intensity: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Start and end of each blink in seconds: 100 to 300 ms long, more often when the emotion is intense."""
    blinks, t = [], 0.25
    while (t := t + 0.3 + rng.exponential(1 / (0.2 + 0.2 * intensity))) < seconds - 0.35:
        blinks.append((t, t + rng.uniform(0.1, 0.3)))
        t = blinks[-1][1]
    return blinks


def scan_path(
    times: np.ndarray,
    *,
    emotion: str,
    intensity: float,
    valence: float,
    viewer: Viewer,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Where the person looks, and which event each sample is in.

    Returns
    -------
    gaze : (time, 2) float64
        Screen pixels.
    event : (time,) int64
        0, 2, 4... the fixations, 1, 3, 5... the saccades between them.

    Notes
    -----
    A saccade of A degrees lasts 21 + 2.2 A ms (Carpenter 1988, Movements of the Eyes) and moves with minimal jerk.
    """
    places = np.array(list(ANCHORS.values()))
    mine = np.array(ANCHORS[emotion])
    corner, size = np.array(MEDIUM[:2]), np.array(MEDIUM[2:])

    def target() -> np.ndarray:
        place = mine if rng.random() < 0.42 + 0.08 * intensity else places[rng.integers(len(places))]
        place = place + np.array([0.07 * valence, 0]) + rng.normal(0, 0.07, 2)
        return corner + size * np.clip(place, -0.02, 1.02)

    gaze, event = np.empty((len(times), 2)), np.empty(len(times), np.int64)
    start, here, count = times[0], target(), 0
    while start <= times[-1]:
        dwell = viewer.tempo * max((0.48 - 0.1 * intensity) * rng.lognormal(0, 0.3), 0.09)
        now = (times >= start) & (times < start + dwell)
        gaze[now], event[now] = here, 2 * count
        start, there = start + dwell, target()
        flight = 0.021 + 0.0022 * np.hypot(*(there - here)) / PIXELS_A_DEGREE
        now = (times >= start) & (times < start + flight)
        u = (times[now] - start)[:, None] / flight
        gaze[now], event[now] = here + (10 * u**3 - 15 * u**4 + 6 * u**5) * (there - here), 2 * count + 1
        start, here, count = start + flight, there, count + 1
    return gaze, event


def pupil_size(
    times: np.ndarray, *, intensity: float, arousal: float, viewer: Viewer, rng: np.random.Generator
) -> np.ndarray:
    """``(time,)`` diameter in mm: wider with arousal after a second or so, less steady with intensity."""
    course = 0.35 + 0.65 * (1 - np.exp(-times / 0.6))
    hippus = sum(
        np.sin(2 * np.pi * rate * times + phase) / np.sqrt(3)
        for rate, phase in zip(rng.uniform(0.8, 2.5, 3), rng.uniform(0, 2 * np.pi, 3), strict=True)
    )
    drift = rng.normal(0, 0.1) + rng.normal(0, 0.06) * times / max(times[-1], 1e-9)
    return viewer.pupil + 0.5 * arousal * course + (0.02 + 0.05 * intensity) * hippus + drift


def record(
    *,
    emotion: str,
    intensity: float,
    valence: float,
    arousal: float,
    viewer: Viewer,
    blinks: Sequence[tuple[float, float]],
    seconds: float,
    rng: np.random.Generator,
) -> Samples:
    """A clip as the tracker measures it; the first sample is the video's time 0, and some never arrive."""
    device = np.cumsum(8333 + rng.integers(-1, 2, round(seconds * RATE)))
    device = device[np.concatenate([[True], rng.random(len(device) - 1) > 0.004])]
    times = (device - device[0]) / 1e6
    gaze, event = scan_path(times, emotion=emotion, intensity=intensity, valence=valence, viewer=viewer, rng=rng)
    pupil = pupil_size(times, intensity=intensity, arousal=arousal, viewer=viewer, rng=rng)
    valid = _valid(times, blinks, rng)
    return Samples(device, _channels(times, gaze, event, pupil, valid, viewer, rng))


def _valid(times: np.ndarray, blinks: Iterable[tuple[float, float]], rng: np.random.Generator) -> np.ndarray:
    """``(time, left/right)`` bool: both eyes are lost in blinks, one eye now and then."""
    valid = np.ones((len(times), 2), bool)
    for start, stop in blinks:
        valid[(times >= start) & (times <= stop)] = False
    for _ in range(rng.poisson(0.35 * times[-1])):
        start = rng.uniform(0, times[-1])
        valid[(times >= start) & (times < start + rng.uniform(0.03, 0.25)), rng.integers(2)] = False
    return valid


def _channels(
    times: np.ndarray,
    gaze: np.ndarray,
    event: np.ndarray,
    pupil: np.ndarray,
    valid: np.ndarray,
    viewer: Viewer,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """The 39 channels; lengths on the display come from its pixels, directions from where the eyes are."""
    count = len(times)
    lost = ~valid[..., None]
    tremor = rng.normal(0, 5, (count, 2, 2))
    eyes = np.where(lost, np.nan, gaze[:, None] + viewer.bias + tremor)  # (time, left/right, xy), pixels
    both = _mean(eyes, axis=1)
    sway = np.cumsum(rng.normal(0, 0.12, (count, 3)), axis=0)
    place = np.where(lost, np.nan, viewer.eyes + sway[:, None])
    on_screen = np.concatenate([eyes * PIXEL, np.zeros((count, 2, 1))], axis=-1)
    direction = on_screen - place
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    diameter = pupil[:, None] + viewer.anisocoria * np.array([0.5, -0.5]) + rng.normal(0, 0.015, (count, 2))
    diameter = np.where(lost[..., 0] | (rng.random((count, 2)) < 0.01), np.nan, diameter)

    corner, size = np.array(MEDIUM[:2]), np.array(MEDIUM[2:])
    (left, right), (left_place, right_place) = eyes.swapaxes(0, 1), place.swapaxes(0, 1)
    kind, index, duration, fixation = _events(times, event, valid[:, 0] | valid[:, 1], both)
    columns = [  # in the order of the 39 channels
        *both.T, *left.T, *right.T,
        *direction[:, 0].T, *direction[:, 1].T,
        *diameter.T,
        *np.where(valid, VALIDITY["Valid"], VALIDITY["Invalid"]).T,
        *left_place.T, *right_place.T,
        *(left * PIXEL).T, *(right * PIXEL).T,
        *(((gaze_of - corner) / size)[:, axis] for gaze_of in (both, left, right) for axis in (0, 1)),
        kind, duration, index,
        *fixation.T, *((fixation - corner) / size).T,
    ]  # fmt: skip
    return {channel.name: column for channel, column in zip(TOBII_PRO_LAB_39, columns, strict=True)}


def _events(
    times: np.ndarray, event: np.ndarray, seen: np.ndarray, gaze: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Type (code), number within it, duration (ms) and fixation point of each sample, as an event filter has them."""
    label = np.where(seen, event, -1)
    starts = np.flatnonzero(np.diff(label, prepend=label[0] - 1))
    ends = np.append(starts[1:], len(label))
    kind, index, duration = np.zeros((3, len(label)))
    fixation = np.full((len(label), 2), np.nan)
    counts: dict[str, int] = {}
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        length = times[end - 1] - times[start] + 1 / RATE
        name = "EyesNotFound" if label[start] < 0 else ("Fixation", "Saccade")[label[start] % 2]
        if name == "Fixation" and length < 0.06:  # the I-VT filter of Pro Lab discards fixations below 60 ms
            name = "Unclassified"
        counts[name] = counts.get(name, 0) + 1
        kind[start:end], index[start:end], duration[start:end] = EYE_MOVEMENT[name], counts[name], length * 1000
        if name == "Fixation":
            fixation[start:end] = gaze[start:end].mean(axis=0)
    return kind, index, duration, fixation


def _mean(values: np.ndarray, *, axis: int) -> np.ndarray:
    """The mean of what is there; NaN where nothing is."""
    count = np.isfinite(values).sum(axis=axis)
    return np.where(count > 0, np.nansum(values, axis=axis) / np.maximum(count, 1), np.nan)
