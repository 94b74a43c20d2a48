"""What is no measurement becomes missing, and is counted: flags, marks for "no value", impossible pupils."""

from __future__ import annotations

import re

import numpy as np

from smad_features import schema

PUPIL_MM = (1.5, 9.0)  # no human pupil is smaller or larger
NO_VALUE = 2147483647.0  # what some exports write for "missing"

_CATEGORIES = {channel.name for channel in schema.TOBII_PRO_LAB_39 if channel.kind == "category"}
_COUNTERS = {channel.name for channel in schema.TOBII_PRO_LAB_39 if channel.kind == "counter"}
EVENT_CHANNELS = ("Eye movement type", "Gaze event duration", "Eye movement type index")


def clean(channels: dict[str, np.ndarray]) -> dict[str, int | float]:
    """Make missing, in place, what is no measurement; say how many values each rule took.

    What an eye's validity calls invalid becomes missing, in the mean of both eyes where both are invalid; so do the
    marks for "no value" (2147483647, infinities; points at exactly 0, 0 or -1, -1; positions and directions at
    0, 0, 0; pupils of 0 or less) and pupils outside 1.5 to 9 mm.

    Returns
    -------
    dict
        ``values_flagged_invalid``, ``values_marked_missing``, ``impossible_pupils``.
    """
    invalid = {
        eye: channels.get(f"Validity {eye}", np.array(np.nan)) == schema.VALIDITY["Invalid"]
        for eye in ("left", "right")
    }
    notes: dict[str, int | float] = {"values_flagged_invalid": 0, "values_marked_missing": 0, "impossible_pupils": 0}

    def drop(name: str, where: np.ndarray, note: str) -> None:
        if where.any():
            where = where & ~np.isnan(channels[name])
            channels[name][where] = np.nan
            notes[note] += int(where.sum())

    for name, values in channels.items():
        if name in _CATEGORIES:
            continue
        eye = next((eye for eye in invalid if f" {eye}" in name), None)
        if eye is not None or name.startswith("Gaze point"):
            drop(name, invalid[eye] if eye else invalid["left"] & invalid["right"], "values_flagged_invalid")
        drop(name, np.isinf(values) | (values == NO_VALUE), "values_marked_missing")
        if name.startswith("Pupil"):
            drop(name, values <= 0, "values_marked_missing")
            drop(name, (values < PUPIL_MM[0]) | (values > PUPIL_MM[1]), "impossible_pupils")
    for names in _points(channels).values():
        unset = np.all([channels[name] == 0 for name in names], axis=0)
        if len(names) == 2:
            unset |= np.all([channels[name] == -1 for name in names], axis=0)
        for name in names:
            drop(name, unset, "values_marked_missing")
    return notes


def drop_zero_events(channels: dict[str, np.ndarray]) -> int:
    """Make missing, in place, what of the eye movement events is 0 where 0 means missing; say how many values.

    Points, directions and pupils at 0 are missing anyway: see `clean`. The index and the duration of an event are
    never 0; its type has a code of 0, which is none where the other two say that there is no event.
    """
    there = [name for name in EVENT_CHANNELS if name in channels]
    counters = [name for name in there if name in _COUNTERS]
    if not counters:
        return 0
    dropped = 0
    no_event = np.all([channels[name] == 0 for name in there], axis=0)
    for name in there:
        where = channels[name] == 0 if name in counters else no_event
        channels[name][where] = np.nan
        dropped += int(where.sum())
    return dropped


def _points(channels: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """The channels of more than one axis: they belong together."""
    axes: dict[str, list[str]] = {}
    for name in channels:
        if re.search(r" [XYZ]\b", name):
            axes.setdefault(re.sub(r" [XYZ]\b", "", name), []).append(name)
    return {stem: names for stem, names in axes.items() if len(names) > 1}
