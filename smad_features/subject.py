"""Whose face: one person is followed through the frames of a clip, by position and size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from typing import Literal

import numpy as np

from smad_features.face_finder import Face

Policy = Literal["auto", "largest", "central", "left", "right"]
Person = Sequence[Face | None]

# Someone who is seen in fewer frames than this fraction of the most seen person's is a passer-by, not the person on the
# left (or right).
_STAYS = 0.5
_JUMP = 0.75  # a move by more than this many faces from one frame to the next is worth a look


def choose_subject(
    faces: Sequence[Sequence[Face]], *, picture_sizes: Sequence[tuple[int, int]], policy: Policy = "auto"
) -> list[Face | None]:
    """One person's face in each frame; None in frames where the person is not found.

    Parameters
    ----------
    faces
        All faces of each frame.
    picture_sizes
        (height, width) of each frame in pixels; where they change within a video, places are compared as fractions.
    policy
        auto = most prominent: size times nearness to the centre; largest, central = only one of the two; left, right =
        of those who are seen in half of the frames or more, the outermost, as seen in the picture.

    From each face the nearest is followed both ways; one that lies more than its own size away, or is less than half
    or more than twice as large, is somebody else. What counts is summed over all frames, weighed by the detector's
    score: a single frame does not decide, since boxes jitter.
    """
    sizes = [max(size) for size in picture_sizes]
    people = [_follow(faces, i, face, sizes) for i, options in enumerate(faces) for face in options]
    if not people:
        return [None] * len(faces)
    if policy in ("left", "right"):
        most = max(map(_times_seen, people))
        staying = [person for person in people if _times_seen(person) >= _STAYS * most]
        return (min if policy == "left" else max)(staying, key=_place)
    rank = {"auto": _prominence, "largest": lambda face, _: face.side, "central": _centrality}[policy]
    return max(people, key=lambda person: _weigh(person, picture_sizes, rank))


def is_same_person(last: Face, face: Face) -> bool:
    """Whether a face may be the one that was seen last, by size and position."""
    return 0.5 <= face.side / last.side <= 2 and _distance(last, face) <= max(face.side, last.side)


def has_jump(subject: Person, faces: Sequence[Sequence[Face]], *, picture_sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether somebody should look: another face is seen where the subject is not, or the subject leaps."""
    if any(face is None and options for face, options in zip(subject, faces, strict=True)):
        return any(subject)
    seen = [f.scaled(1 / max(size)) for f, size in zip(subject, picture_sizes, strict=True) if f is not None]
    return any(_distance(a, b) > _JUMP * max(a.side, b.side) for a, b in pairwise(seen))


def _follow(faces: Sequence[Sequence[Face]], anchor: int, face: Face, sizes: Sequence[int]) -> list[Face | None]:
    """The same person in each frame, from a face of frame ``anchor`` on; None where the person is not found."""
    person: list[Face | None] = [None] * len(faces)
    person[anchor] = face
    for order in (range(anchor + 1, len(faces)), range(anchor - 1, -1, -1)):
        last, size = face, sizes[anchor]
        for i in order:
            last, size = last.scaled(sizes[i] / size), sizes[i]
            options = [option for option in faces[i] if is_same_person(last, option)]
            person[i] = min(options, key=lambda option: _distance(last, option), default=None)
            last = person[i] or last
    return person


def _weigh(
    person: Person, picture_sizes: Sequence[tuple[int, int]], rank: Callable[[Face, tuple[int, int]], float]
) -> float:
    pairs = zip(person, picture_sizes, strict=True)
    return sum(rank(face, size) * face.score for face, size in pairs if face is not None)


def _prominence(face: Face, picture_size: tuple[int, int]) -> float:
    return face.side * _centrality(face, picture_size)


def _centrality(face: Face, picture_size: tuple[int, int]) -> float:
    """Nearness to the picture's centre: 1 there, 0.5 at a corner."""
    middle = np.array(picture_size[::-1]) / 2
    return float(1 - 0.5 * np.hypot(*((face.centre - middle) / middle)) / np.sqrt(2))


def _place(person: Person) -> float:
    return median(face.centre[0] for face in person if face is not None)


def _times_seen(person: Person) -> int:
    return sum(face is not None for face in person)


def _distance(a: Face, b: Face) -> float:
    return float(np.hypot(*(a.centre - b.centre)))
