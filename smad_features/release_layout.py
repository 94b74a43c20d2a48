"""The layout of the database's own release, as far as it is known: each name can be another on the command line."""

from __future__ import annotations

FOLDER = "smead_cross"  # in which it comes
# Patterns below that folder; {clip} and {fold} are read from them.
PATHS = {"face": "face/set{fold}/{clip}", "eye": "eye/{clip}.xlsx", "labels": "new_label.xlsx"}
LABEL_COLUMNS = {
    "clip": "ID",
    "emotion": "Emotion",
    "intensity": "Intensity",
    "valence": "Valence",
    "arousal": "Arousal",
}
PARTICIPANT = r"([^_\s]+)"  # `3_film_happy Happy` is of participant 3
