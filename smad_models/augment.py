"""Light augmentation of training clips: mirrored, in another light, a little earlier or later.

What becomes of a clip is drawn from the seed, the epoch and its place among the training clips alone: batches, threads
and interruptions change nothing. It is done to the cached facts, before any convention makes model input of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

KINDS = ("flip", "colour", "time")
OF_PIXELS = ("flip", "colour")  # need crops: a backbone's features are of the picture as it was

FACTORS = (0.8, 1.2)  # brightness, contrast and saturation are multiplied by one drawn from this span
LONGEST_SHIFT = 1 / 8  # of the clip: one of 8 frames, four of 32 steps
LUMA = (0.299, 0.587, 0.114)  # of R, G, B in a pixel's grey: ITU-R BT.601


class Changes(NamedTuple):
    """What becomes of n clips; a kind that was not asked for is None."""

    flip: Tensor | None  # (n,) bool
    colour: Tensor | None  # (n, 3) float32: factors of brightness, contrast and saturation
    shift: Tensor | None  # (n,) float32: fraction of the clip; positive = everything happens later

    def at(self, clips: Tensor) -> Changes:
        """The changes of these clips, in their order."""
        return Changes(*(None if x is None else x[clips] for x in self))


class Mirror(NamedTuple):
    """What a mirror does to the eye channels: ``eye[..., source] * scale + offset``."""

    source: Tensor  # (channels,) int64: left and right change places
    scale: Tensor  # (channels,) float32: -1 where the channel is horizontal
    offset: Tensor  # (channels,) float32, in the channel's unit: twice the place of the mirror


@dataclass(frozen=True)
class Augmentation:
    """The kinds that were asked for, and what they need to know."""

    kinds: tuple[str, ...]
    seed: int
    mirror: Mirror

    def draw(self, epoch: int, clips: int, *, device: torch.device) -> Changes:
        """The changes of all training clips in an epoch; each kind has its own stream of numbers."""
        streams = {kind: np.random.default_rng([self.seed, epoch, i]) for i, kind in enumerate(KINDS)}
        drawn = {
            "flip": streams["flip"].random(clips) < 0.5,
            "colour": streams["colour"].uniform(*FACTORS, size=(clips, 3)).astype(np.float32),
            "time": streams["time"].uniform(-LONGEST_SHIFT, LONGEST_SHIFT, size=clips).astype(np.float32),
        }
        tensors = {kind: torch.from_numpy(x).to(device) for kind, x in drawn.items() if kind in self.kinds}
        return Changes(*(tensors.get(kind) for kind in KINDS))

    def apply(self, changes: Changes, face: Tensor, eye: Tensor, gaze: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A batch of cached arrays, changed.

        Parameters
        ----------
        face
            ``(B, frames, H, W, 3)`` uint8, or ``(B, frames, 512)`` features, which know no flip and no colour.
        eye, gaze
            ``(B, steps, channels)`` and ``(B, steps, 2)``, NaN where unobserved.
        """
        if changes.flip is not None:
            face, eye, gaze = flip_clips(changes.flip, face, eye, gaze, mirror=self.mirror)
        if changes.colour is not None:
            face = recolour(face, changes.colour)
        if changes.shift is not None:
            face = shift_frames(face, changes.shift)
            eye, gaze = shift_steps(eye, changes.shift), shift_steps(gaze, changes.shift)
        return face, eye, gaze


def make_mirror(channels: Sequence[Mapping[str, str]], eye: np.ndarray) -> Mirror:
    """The mirror image of a participant's eye channels, as if a mirrored person had watched a mirrored film.

    Left and right eye change places. Of what is horizontal,

    - the X of a unit vector is negated: the vector stays one;
    - fractions of the medium (MCSnorm) become 1 - x, as gaze on the stimulus does;
    - pixels of the screen and millimetres of the display area are mirrored at the place where the training participants
      are on average, one for each unit: neither width is in the cache, and the middle of what was looked at stands in
      for the middle of the screen.

    Vertical and depth coordinates, pupils, validities and types, durations and counts of eye movements stay as they
    are, but for the exchange of the eyes. So does Zhang et al. (2019), "MPIIGaze: real-world dataset and deep
    appearance-based gaze estimation", IEEE TPAMI 41, 162-175, to feed both eyes to one network: pictures are flipped,
    and gaze directions with them.

    Parameters
    ----------
    channels
        ``name`` and ``unit`` of each, as the cache says.
    eye
        ``(n, steps, channels)`` of the training clips, NaN where unobserved.

    Raises
    ------
    ValueError
        If a channel of one eye has no partner of the other.
    """
    names = [channel["name"] for channel in channels]
    source = np.arange(len(names))
    scale, offset = np.ones(len(names)), np.zeros(len(names))
    horizontal = np.array([re.search(r" X( \(|$)", name) is not None for name in names], dtype=bool)
    for i, channel in enumerate(channels):
        name, unit = channel["name"], channel["unit"]
        partner = re.sub(r"\b(left|right)\b", lambda side: "right" if side[0] == "left" else "left", name)
        if partner not in names:
            raise ValueError(f"eye channel {name} cannot be mirrored: there is no {partner}")
        source[i] = names.index(partner)
        if not horizontal[i]:
            continue
        scale[i] = -1.0
        if unit in ("px", "mm"):
            alike = horizontal & np.array([other["unit"] == unit for other in channels])
            seen = eye[:, :, alike][np.isfinite(eye[:, :, alike])].astype(np.float64)
            offset[i] = 2 * seen.mean() if len(seen) else 0.0
        elif "MCSnorm" in name:
            offset[i] = 1.0
    return Mirror(torch.from_numpy(source), torch.from_numpy(scale).float(), torch.from_numpy(offset).float())


def flip_clips(
    flip: Tensor, face: Tensor, eye: Tensor, gaze: Tensor, *, mirror: Mirror
) -> tuple[Tensor, Tensor, Tensor]:
    """All crops, eye channels and gaze of the clips where ``flip`` ``(B,)`` is true, as in a mirror.

    Flipped pictures: Krizhevsky, Sutskever & Hinton (2012), "ImageNet classification with deep convolutional neural
    networks", NIPS 25, section 4.1. The ArcFace template is symmetric to a pixel, so crops stay aligned. Faces show
    emotion a little more strongly on their left (Sackeim, Gur & Saucy 1978, Science 202, 434-436): flipped, a network
    cannot use that.
    """
    source, scale, offset = (x.to(eye.device) for x in mirror)
    face = torch.where(flip[:, None, None, None, None], face.flip(3), face)  # (B, 8, H, W, 3)
    eye = torch.where(flip[:, None, None], eye[:, :, source] * scale + offset, eye)  # (B, 32, 39)
    turned = torch.stack((1 - gaze[:, :, 0], gaze[:, :, 1]), dim=2)  # (B, 32, 2)
    return face, eye, torch.where(flip[:, None, None], turned, gaze)


def recolour(face: Tensor, factors: Tensor) -> Tensor:
    """Crops ``(B, frames, H, W, 3)`` uint8 in another light: ``factors`` ``(B, 3)``, the same for all frames of a clip.

    Brightness is a factor of the pixels, contrast of their distance from the frame's mean grey, saturation of their
    distance from their own grey: Howard (2013), "Some improvements on deep convolutional neural network based image
    classification", arXiv:1312.5402, section 2.2. A black frame, which is no face, stays black.
    """
    brightness, contrast, saturation = (x[:, None, None, None, None] for x in factors.unbind(1))  # (B, 1, 1, 1, 1)
    luma = torch.tensor(LUMA, device=face.device)
    x = face.float() * brightness  # (B, 8, H, W, 3)
    middle = (x * luma).sum(dim=4, keepdim=True).mean(dim=(2, 3), keepdim=True)  # (B, 8, 1, 1, 1)
    x = middle + contrast * (x - middle)
    grey = (x * luma).sum(dim=4, keepdim=True)  # (B, 8, H, W, 1)
    x = grey + saturation * (x - grey)
    return x.round().clamp(0, 255).to(torch.uint8)


def shift_steps(sequence: Tensor, shift: Tensor) -> Tensor:
    """``(B, steps, width)`` begun earlier or later by ``shift`` ``(B,)`` of its length; what was not seen is NaN.

    A window of the same recording that was cut at another moment: Iwana & Uchida (2021), "An empirical survey of data
    augmentation for time series classification with neural networks", PLoS ONE 16(7), e0254841, section 4.1.3.
    """
    steps = sequence.shape[1]
    places, known = _moved(steps, shift)
    moved = sequence.gather(1, places[:, :, None].expand_as(sequence))  # (B, 32, width)
    return torch.where(known[:, :, None], moved, torch.full_like(moved, torch.nan))


def shift_frames(face: Tensor, shift: Tensor) -> Tensor:
    """``(B, frames, ...)`` moved as far as ``shift`` is half a frame or more; at the edge the last frame is repeated.

    A crop cannot be unobserved: where a face is missing, the cache shows the nearest one, and so does this.
    """
    places, _ = _moved(face.shape[1], shift)
    return face[torch.arange(len(face), device=face.device)[:, None], places]


def _moved(length: int, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Which of ``length`` places each place is filled from, ``(B, length)``, and whether there is one."""
    places = torch.arange(length, device=shift.device) - (shift * length).round().long()[:, None]
    return places.clamp(0, length - 1), (places >= 0) & (places < length)
