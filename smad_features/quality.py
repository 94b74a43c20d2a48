"""How much of a clip to believe: one row a clip, from what the stages noted while they made it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smad_features.atomic import written_whole
from smad_features.failures import Failure, too_many
from smad_features.freshness import read_unit_attributes
from smad_features.manifest import Clip

MANIFEST_COLUMNS = ("clip", "participant", "status", "reason", "face", "eye")
_STATE_COLUMNS = {"faces": "face", "eyes": "eye", "gaze_content": "gaze_content"}  # by stage
FACE_COLUMNS = (
    "face_found", "face_score", "face_size", "face_outside", "face_roll", "face_yaw", "face_pitch",
    "face_sharpness", "face_brightness", "faces", "faces_per_frame", "face_jump", "face_turn", "face_search",
    "codec", "width", "height", "video_fps", "frames_declared", "frames_listed", "rotation", "interlaced",
    "frames_decoded", "decode_errors", "time_gaps", "lost", "longest_step", "frames_repeated",
)  # fmt: skip
EYE_COLUMNS = (
    "eye_tracker", "eye_rate", "eye_declared_rate", "eye_lost", "impossible_pupils", "impossible_gaze", "blink_edges",
    "eye_observed", "gaze_observed", "eye_start", "eye_end", "eye_cover", "eye_short", "eye_longest_gap",
    "lost_gaze", "lost_media", "lost_direction", "lost_pupil", "lost_position", "lost_movement",
    "blinks", "blink_length", "one_eye", "interpolated",
    "gaze_off_stimulus", "gaze_source", "stimulus_area", "screen_assumed",
)  # fmt: skip
# Only where a clip names a stimulus.
CONTENT_COLUMNS = (
    "gaze_content", "gaze_content_found", "gaze_content_outside", "stimulus_missed", "stimulus_width",
    "stimulus_height",
)  # fmt: skip


def list_clips(
    clips: Sequence[Clip], *, units: dict[str, dict[str, Path]], on_bad_clip: str, max_failed: float
) -> list[dict[str, Any]]:
    """The manifest: each clip with its status (ok | quarantined), reason, and the state of its modalities.

    ``gaze_content`` and ``fold`` stand in the rows only where a clip of the table names a stimulus or a fold.

    Parameters
    ----------
    units
        Stage -> participant -> the unit's file.
    on_bad_clip
        quarantine = a failed modality takes the clip out; keep = it stays, flagged; fail = it raises.
    max_failed
        Fraction of all clips that may have failed for one and the same reason of a library.

    Raises
    ------
    ValueError
        A clip failed, under ``fail``; or a library failed too many.
    """
    rows, by_library = [], []
    attributes = _read_all(units, "states")
    nothing = {"state": "missing", "reason": ""}
    for clip in clips:
        states = _said_of(clip.clip, clip.participant, attributes, nothing=nothing)
        by_library += [
            Failure(stage, clip.clip, state["cause"], state["reason"])
            for stage, state in states.items()
            if "cause" in state
        ]
        reason = "; ".join(state["reason"] for state in states.values() if state["state"] == "failed")
        status = "quarantined" if reason and on_bad_clip == "quarantine" else "ok"
        row = {"clip": clip.clip, "participant": clip.participant, "status": status, "reason": reason}
        row |= {_STATE_COLUMNS[stage]: state["state"] for stage, state in states.items()}
        rows.append(row | ({} if clip.fold is None else {"fold": clip.fold}))
    if sentence := too_many(by_library, clips=len(clips), max_failed=max_failed):
        raise ValueError(sentence)
    failed = [f"clip {row['clip']}: {row['reason']}" for row in rows if row["reason"]]
    if failed and on_bad_clip == "fail":
        raise ValueError("clips cannot be used, and `on_bad_clip` is fail:\n" + "\n".join(failed))
    return rows


def quality_rows(manifest: Sequence[dict[str, Any]], *, units: dict[str, dict[str, Path]]) -> list[dict[str, Any]]:
    """The quality table: the manifest's rows with what each stage noted; absent = nothing to say."""
    attributes = _read_all(units, "quality")
    rows = []
    for row in manifest:
        noted = _said_of(row["clip"], row["participant"], attributes, nothing={})
        states = {_STATE_COLUMNS[stage]: row.get(_STATE_COLUMNS[stage]) for stage in noted}
        rows.append({column: row[column] for column in MANIFEST_COLUMNS} | states)
        for said in noted.values():
            rows[-1] |= said
    return rows


def write_table(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as TSV, whole or not at all; None, absent and NaN become empty cells."""
    with table_written(path, columns) as write:
        write(rows)


@contextmanager
def table_written(path: Path, columns: Sequence[str]) -> Iterator[Callable[[Iterable[dict[str, Any]]], None]]:
    """What adds rows to a table as `write_table` writes it, for one that is never held as a whole."""
    with written_whole(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        yield lambda rows: writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)


def _cell(value: Any) -> Any:
    if value is None or value != value:  # NaN is the one value that is not equal to itself
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def _read_all(units: dict[str, dict[str, Path]], part: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Stage -> participant -> a part of what the unit says; all of it would take a gigabyte for 50,000 clips."""
    return {stage: {p: _attributes(path)[part] for p, path in files.items()} for stage, files in units.items()}


def _said_of(
    clip: str, participant: str, attributes: dict[str, dict[str, dict[str, Any]]], *, nothing: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """What each stage's unit says of a clip; ``nothing`` where the participant has no unit of that stage."""
    units = {stage: files.get(participant) for stage, files in attributes.items()}
    return {stage: nothing if unit is None else unit[clip] for stage, unit in units.items()}


def _attributes(path: Path) -> dict[str, Any]:
    found = read_unit_attributes(path)
    if found is None:
        raise FileNotFoundError(f"{path}: not a whole unit; delete it and run the workflow again")
    return found
