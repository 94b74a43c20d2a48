"""The report's part on data and their quality: how complete, how the measures spread, which clips are doubtful."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smad_models import charts

# Of quality.tsv: column, title, unit, bin edges (None: from 0 to the largest value), and below what it is doubtful.
QUALITY: tuple[tuple[str, str, str, np.ndarray | None, float | None], ...] = (
    ("face_found", "Frames in which a face was found", "fraction of a clip's frames", (np.arange(10) - 0.5) / 8, 0.5),
    ("face_score", "How sure the face detector was", "mean score of a clip", np.linspace(0, 1, 11), 0.5),
    ("face_size", "How large the face is", "pixels between the eyes", None, None),
    ("eye_observed", "Eye samples found", "fraction of a clip", np.linspace(0, 1, 11), 0.5),
    ("gaze_observed", "Gaze samples found", "fraction of a clip", np.linspace(0, 1, 11), 0.5),
    ("eye_lost", "Samples with neither eye", "fraction of a clip, as the tracker had it", np.linspace(0, 1, 11), None),
    ("eye_longest_gap", "Longest gap in the eye recording", "seconds", None, None),
    ("blinks", "Blinks", "a clip", None, None),
    ("eye_rate", "Rate of the eye tracker", "samples a second", None, None),
    ("video_fps", "Rate of the video", "frames a second, as shown", None, None),
)
# Of quality_participants.tsv: column, title, and whether more is worse.
PARTICIPANTS: tuple[tuple[str, str, bool], ...] = (
    ("face_found", "frames in which a face was found, fraction", False),
    ("eye_observed", "time with eye samples, fraction", False),
    ("gaze_observed", "time with gaze on the stimulus, fraction", False),
    ("one_eye", "of the time with an eye, with only one", True),
    ("gaze_off_stimulus", "of the steps with gaze, off the stimulus", True),
    ("eye_longest_gap", "longest gap in the eye recording, s", True),
    ("blinks_per_minute", "blinks a minute", True),
)
NAMES = 200  # clips in a cell: a page names no thousands, the tables do
_COLUMNS = ("clip", *(column for column, *_ in QUALITY), "face_jump", "face_turn", "eye_short")
FEWEST = 3  # participants behind a median
FEWEST_OF_TENTHS = 10  # participants: of fewer the worst tenth would be a single one's value


def read_measured(path: Path) -> list[dict[str, str]]:
    """The rows of quality.tsv of clips in use, with the columns that this page shows: all 60 of 100,000 are 0.5 GB.

    Raises
    ------
    ValueError
        The table has no column `clip`.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, dialect="excel-tab", restval="")
        if "clip" not in (reader.fieldnames or []):
            raise ValueError(f"{path}: has no column `clip`")
        return [
            {column: (row.get(column) or "").strip() for column in _COLUMNS}
            for row in reader
            if (row.get("status", "ok") or "").strip() == "ok"
        ]


def histograms(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """A histogram and what to read from it, for each measure that any clip has."""
    panels = []
    for column, title, unit, edges, doubtful in QUALITY:
        numbers = np.array([float(row[column]) for row in rows if row.get(column)], dtype=float)
        values = numbers[np.isfinite(numbers)]
        if not len(values):
            continue
        bins = np.linspace(0, max(float(values.max()) * 1.001, 1e-3), 13) if edges is None else edges
        notes = [f"median {np.median(values):.3g}"]
        if doubtful is not None:
            notes.append(f"{int((values < doubtful).sum())} of {len(values)} clips below {doubtful:g}")
        if len(values) < len(rows):
            notes.append(f"{len(rows) - len(values)} without a value")
        note = "; ".join(notes)
        chart = charts.histogram(values, edges=bins, label=f"{title}, {unit}: {note}", unit=unit)
        panels.append({"title": title, "note": note, "chart": chart})
    return panels


def spread(rows: Sequence[Mapping[str, str]], *, name_them: bool) -> dict[str, Any] | None:
    """How quality differs from participant to participant: medians and worst tenths, and who lacks gaze."""
    measures = []
    for column, title, more_is_worse in PARTICIPANTS:
        values = np.array([float(row[column]) for row in rows if row.get(column)], dtype=float)
        if len(values) >= FEWEST:
            worst = (
                float(np.quantile(values, 0.9 if more_is_worse else 0.1)) if len(values) >= FEWEST_OF_TENTHS else None
            )
            measures.append({"title": title, "count": len(values), "median": float(np.median(values)), "worst": worst})
    observed = {row["participant"]: float(row["gaze_observed"]) for row in rows if row.get("gaze_observed")}
    lacking = [
        (fraction, [participant for participant, seen in observed.items() if 1 - seen > fraction])
        for fraction in (0.2, 0.5)
    ]
    if not measures:
        return None
    return {
        "measures": measures,
        "lacking": [(f"{fraction:.0%}", len(names), names if name_them else []) for fraction, names in lacking],
        "with_gaze": len(observed),
    }


def completeness(ok: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Of each modality how many of the clips in use have it, lack it, or failed in it."""
    names = {"face": "face video", "eye": "eye recording", "gaze_content": "stimulus"}
    counts = {kind: Counter(row.get(kind) or "unknown" for row in ok) for kind in names}
    return [
        {"name": names[kind], **{state: count[state] for state in ("ok", "missing", "failed")}}
        for kind, count in counts.items()
        if count.keys() - {"unknown"}
    ]


def quarantined(clips: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """Reason -> clips, the commonest reason first."""
    reasons: dict[str, list[str]] = {}
    for row in clips:
        if row["status"] != "ok":
            reasons.setdefault(row.get("reason") or "no reason recorded", []).append(row["clip"])
    return sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))


def doubtful(measured: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """What a person should look at -> clips in use; no number of theirs."""
    kinds = {
        "no face in any frame: its crops are black": lambda row: row.get("face_found") == "0",
        "the face may not be the same person's in all frames": lambda row: row.get("face_jump") == "1",
        "the picture lies on its side or head, and was turned": lambda row: row.get("face_turn", "0") not in ("", "0"),
        "the eye recording covers too little of the clip": lambda row: row.get("eye_short") == "1",
    }
    found = [(kind, [row["clip"] for row in measured if applies(row)]) for kind, applies in kinds.items()]
    return [(kind, names) for kind, names in found if names]
