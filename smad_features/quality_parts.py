"""How much of a participant, and of each channel, to believe: the quality of clips, looked at from two other sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

CHANNEL_COLUMNS = ("clip", "participant", "channel", "lost", "bridged")

# The columns of quality.tsv of which a participant has one number, and how it is made of the clips' numbers.
_OF_CLIPS: dict[str, Callable[[np.ndarray], Any]] = {
    "face_found": np.mean,
    "face_score": np.mean,
    "face_size": np.median,
    "eye_rate": np.median,
    "eye_cover": np.mean,
    "eye_lost": np.mean,
    "eye_observed": np.mean,
    "gaze_observed": np.mean,
    "lost_gaze": np.mean,
    "lost_pupil": np.mean,
    "interpolated": np.mean,
    "one_eye": np.mean,
    "gaze_off_stimulus": np.mean,
    "eye_longest_gap": np.max,
}
PARTICIPANT_COLUMNS = ("participant", "clips", "ok", "quarantined", *_OF_CLIPS, "blinks_per_minute")


def participant_rows(quality: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a participant: how many clips, and of those in use the quality as a whole; absent = nothing is known.

    Fractions are means over clips, the longest gap is the longest of all. Blinks are counted by the minute of
    recording, so that long clips and short ones, and recordings that end early, compare.

    Parameters
    ----------
    quality
        The rows of `quality_rows`.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for clip in quality:
        groups.setdefault(clip["participant"], []).append(clip)
    rows = []
    for participant, clips in sorted(groups.items()):
        used = [clip for clip in clips if clip["status"] == "ok"]
        row: dict[str, Any] = {"participant": participant, "clips": len(clips), "ok": len(used)}
        row["quarantined"] = len(clips) - len(used)
        for column, together in _OF_CLIPS.items():
            values = np.array([clip[column] for clip in used if clip.get(column) is not None], dtype=np.float64)
            values = values[np.isfinite(values)]
            if len(values):
                row[column] = float(together(values))
        rows.append(row | _blinks(used))
    return rows


def _blinks(clips: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    recorded = [row for row in clips if row.get("blinks") is not None]
    seconds = sum((row["eye_end"] - row["eye_start"]) * row["eye_cover"] for row in recorded)
    return {"blinks_per_minute": 60 * sum(row["blinks"] for row in recorded) / seconds} if seconds > 0 else {}


def channel_rows(quality: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a channel of each clip with a recording: the fractions of the span that were lost, and bridged."""
    return [
        {"clip": row["clip"], "participant": row["participant"], "channel": channel, "lost": lost}
        | {"bridged": row["bridged_by_channel"][channel]}
        for row in quality
        for channel, lost in row.get("lost_by_channel", {}).items()
    ]
