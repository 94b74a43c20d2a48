"""The view of three classes: emotions as positive, neutral and negative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from smad_models.metrics import Scored

GROUPS = ("positive", "neutral", "negative")
OTHER = "other"  # what is predicted of the emotions that are left out: it is right for no clip of the view

# Surprise is left out: whether it is pleasant depends on what surprises, and it feels unpleasant at first either way
# (M. Noordewier, S. Breugelmans (2013), "On the valence of surprise", Cognition & Emotion 27, 1326-1334); challenges of
# few classes let it stand by itself for that (J. See et al. (2019), "MEGC 2019", IEEE FG).
DEFAULT = {
    "happiness": "positive",
    "sadness": "negative",
    "fear": "negative",
    "disgust": "negative",
    "anger": "negative",
    "neutral": "neutral",
}


def choose_groups(emotions: Sequence[str], mapping: Mapping[str, str] | None = None) -> dict[str, str]:
    """The group of each emotion that takes part, in the order of the list.

    Raises
    ------
    ValueError
        The mapping names an emotion that the list does not know, or a group that there is not.
    """
    for emotion, group in (mapping or {}).items():
        if emotion not in emotions:
            raise ValueError(f"polarity: {emotion!r} is none of {', '.join(emotions)}")
        if group not in GROUPS:
            raise ValueError(f"polarity: {emotion}: {group!r} is none of {', '.join(GROUPS)}")
    of = DEFAULT if mapping is None else mapping
    return {emotion: of[emotion] for emotion in emotions if emotion in of}


def view(scored: Scored, emotions: Sequence[str], of: Mapping[str, str]) -> tuple[Scored, np.ndarray, list[str]]:
    """The clips whose true emotion takes part, as clips of three classes.

    Labels are mapped, and probabilities of one group added up. Where emotions are left out there is a fourth class, of
    predictions alone.

    Returns
    -------
    scored, rows, names
        The clips, their rows in what was given, and the names of the classes.
    """
    names = [*GROUPS, *([OTHER] if len(of) < len(emotions) else [])]
    code = np.array([names.index(of.get(emotion, OTHER)) for emotion in emotions], dtype=np.int64)
    rows = np.flatnonzero(code[scored.truth] < len(GROUPS))
    kept = scored.at(rows)
    sure = None
    if kept.probabilities is not None:
        sure = kept.probabilities @ np.eye(len(names))[code]  # (n, emotions) @ (emotions, names)
    return Scored(code[kept.truth], code[kept.prediction], kept.fold, kept.participant, sure), rows, names
