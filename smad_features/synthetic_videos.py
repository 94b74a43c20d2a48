"""Demo videos on disk: H.264 that is the same each time, walls behind faces, and the films that participants watch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

FPS = 20
WIDTH, HEIGHT = 320, 240  # of a video, pixels

# x264's fast rate control is not repeatable, not even on one machine with one thread; `cpu-independent` is.
X264 = {"preset": "veryfast", "crf": "23", "threads": "1", "x264-params": "cpu-independent=1"}


def write_video(path: Path, frames: Iterable[np.ndarray], *, title: str) -> None:
    """H.264 in MP4: the same frames give the same file; title and comment say that it is synthetic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = f"{title} (synthetic)"
        container.metadata["comment"] = "Synthetic: made by smad-features demo-data; nobody was filmed"
        stream = container.add_stream("libx264", rate=FPS, options=X264)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def film(*, anchors: np.ndarray, seconds: float, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Frames of a stimulus: a ball drifts around each of ``anchors`` ``(ball, xy)``, fractions of the frame."""
    colours = rng.uniform(60, 255, (len(anchors), 3))
    sky = wall(rng) // 3
    phase, rate = rng.uniform(0, 2 * np.pi, (2, len(anchors))), rng.uniform(0.2, 0.7, (2, len(anchors)))
    for t in np.arange(round(seconds * FPS)) / FPS:
        picture = sky.copy()
        drift = 0.05 * np.sin(2 * np.pi * rate * t + phase)
        for (x, y), dx, dy, colour in zip(anchors, *drift, colours, strict=True):
            centre = (round((x + dx) * WIDTH), round((y + dy) * HEIGHT))
            cv2.circle(picture, centre, 16, colour.tolist(), -1, cv2.LINE_AA)
        yield picture


def wall(rng: np.random.Generator) -> np.ndarray:
    """A blurred wall: a few soft blots between two colours."""
    blots = cv2.resize(rng.uniform(0, 1, (4, 5)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    one, two = rng.uniform(50, 210, (2, 1)) + rng.uniform(-35, 35, (2, 3))
    return np.clip(one + 0.4 * blots[..., None] * (two - one), 0, 255).astype(np.uint8)
