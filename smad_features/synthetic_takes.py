"""What camera and eye tracker take of an invented participant, clip by clip: pictures and samples, not yet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from smad_features import synthetic_faces as faces
from smad_features import synthetic_recordings as recordings
from smad_features.synthetic_plan import Clip


@dataclass(frozen=True)
class Take:
    """A clip's pictures, ``(240, 320, 3)`` uint8 RGB each, and its samples; None where there is no such device.

    ``rng`` goes on where the samples ended, for what a format adds to them.
    """

    clip: Clip
    frames: Iterator[np.ndarray] | None
    samples: recordings.Samples | None
    rng: np.random.Generator


def take_clips(clips: Sequence[Clip], *, seconds: float, seed: int) -> Iterator[Take]:
    """All clips of one participant. Pictures are drawn as they are asked for."""
    number = clips[0].number
    look, eyes = (np.random.default_rng([seed, 3, number, part]) for part in range(2))
    face = faces.make_face(number, rng=look)
    viewer = recordings.make_viewer(rng=eyes)
    for clip in clips:
        face_rng, eye_rng, blink_rng = (np.random.default_rng([seed, 4, number, clip.order, part]) for part in range(3))
        felt = clip.felt
        blinks = recordings.blink_times(seconds=seconds, intensity=felt.intensity, rng=blink_rng)
        frames, samples = None, None
        if clip.with_video:
            actions, poses = faces.expression(
                felt.emotion,
                intensity=felt.intensity,
                valence=felt.valence,
                arousal=felt.arousal,
                face=face,
                seconds=seconds,
                blinks=blinks,
                rng=face_rng,
            )
            frames = map(partial(faces.render, face), actions, poses)
        if clip.with_eye:
            samples = recordings.record(
                emotion=felt.emotion,
                intensity=felt.intensity,
                valence=felt.valence,
                arousal=felt.arousal,
                viewer=viewer,
                blinks=blinks,
                seconds=seconds,
                rng=eye_rng,
            )
        yield Take(clip, frames, samples, eye_rng)
