"""Folds that share no stimulus either: who watched the same one stays together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def check_stimuli(folds: Iterable[tuple[str, str, int]], stimulus_of: Mapping[str, str]) -> None:
    """Raise ValueError, naming both clips, where a stimulus is in two folds; clips that name none are free."""
    first: dict[str, tuple[str, int]] = {}
    for clip, _, fold in folds:
        if clip not in stimulus_of:
            continue
        other, home = first.setdefault(stimulus_of[clip], (clip, fold))
        if fold != home:
            raise ValueError(
                f"stimulus {stimulus_of[clip]}: in two folds, {home} (clip {other}) and {fold} (clip {clip}), while "
                "`folds.disjoint` asks for none: the model would be tested on a stimulus that it was trained on"
            )


def join_by_stimulus(clips: Sequence[tuple[str, str]], stimulus_of: Mapping[str, str]) -> dict[str, str]:
    """The group of each participant, named by its first member: who shares a stimulus is in one group."""
    group_of = {participant: participant for _, participant in sorted(clips, key=lambda pair: pair[1])}

    def head(participant: str) -> str:
        while group_of[participant] != participant:
            group_of[participant] = group_of[group_of[participant]]
            participant = group_of[participant]
        return participant

    first: dict[str, str] = {}
    for clip, participant in clips:
        if clip in stimulus_of:
            one, other = head(participant), head(first.setdefault(stimulus_of[clip], participant))
            group_of[max(one, other)] = min(one, other)
    return {participant: head(participant) for participant in group_of}
