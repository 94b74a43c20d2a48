"""Who feels what in which clip of the demo data, and what annotators make of it: the truth that is planted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FILMS = 3

# Valence and arousal of each emotion at its fullest, after the circumplex of Russell (1980), doi:10.1037/h0077714.
CIRCUMPLEX = {
    "happiness": (0.8, 0.4),
    "sadness": (-0.7, -0.5),
    "fear": (-0.6, 0.7),
    "disgust": (-0.6, 0.2),
    "surprise": (0.3, 0.8),
    "anger": (-0.75, 0.55),
    "neutral": (0.0, -0.2),
}
EMOTIONS = tuple(CIRCUMPLEX)

# How far annotators of each kind are off: chance to name a neighbouring emotion, bias and noise of a rating whose
# range is 1. Assumed, so that the participant knows best and the model least.
ANNOTATORS = {"participant": (0.06, 0.03, 0.04), "expert": (0.2, 0.05, 0.07), "model": (0.35, 0.05, 0.14)}


@dataclass(frozen=True)
class Felt:
    """The truth of a clip."""

    emotion: str
    intensity: float  # 0..3
    valence: float  # -1..1
    arousal: float  # -1..1

    def row(self) -> dict[str, str]:
        """The label columns as text."""
        numbers = {name: f"{getattr(self, name):.2f}" for name in ("intensity", "valence", "arousal")}
        return {"emotion": self.emotion} | numbers


@dataclass(frozen=True)
class Clip:
    """A row of clips.tsv before it is one, and the truth of it."""

    clip: str
    participant: str
    number: int  # of the participant, from 0
    order: int  # of the clip among the participant's, from 0
    film: int
    felt: Felt
    with_video: bool
    with_eye: bool


def plan_clips(participants: int, clips_per_participant: int, *, seed: int) -> list[Clip]:
    """Who shows what in which clip. A participant's clips do not depend on how many others there are."""
    width = max(2, len(str(participants)))
    total = participants * clips_per_participant
    no_eye = {total // 7, 3 * total // 5} if total >= 100 else set()
    no_video = {total // 3} if total >= 100 else set()
    plan: list[Clip] = []
    for number in range(participants):
        rng = np.random.default_rng([seed, 2, number])
        rounds = -(-clips_per_participant // len(EMOTIONS))
        emotions = np.concatenate([rng.permutation(len(EMOTIONS)) for _ in range(rounds)])
        for order in range(clips_per_participant):
            participant = f"P{number + 1:0{width}d}"
            plan.append(
                Clip(
                    clip=f"{participant}_C{order + 1}",
                    participant=participant,
                    number=number,
                    order=order,
                    film=(number + order) % FILMS + 1,
                    felt=_feel(EMOTIONS[emotions[order]], rng=rng),
                    with_video=len(plan) not in no_video,
                    with_eye=len(plan) not in no_eye,
                )
            )
    return plan


def _feel(emotion: str, *, rng: np.random.Generator) -> Felt:
    """An emotion at some intensity, and the valence and arousal that go with both."""
    intensity = rng.uniform(0, 0.4) if emotion == "neutral" else rng.uniform(0.8, 3.0)
    strength = 1.0 if emotion == "neutral" else 0.4 + 0.2 * intensity
    valence, arousal = np.clip(strength * np.array(CIRCUMPLEX[emotion]) + rng.normal(0, 0.08, 2), -1, 1)
    return Felt(emotion, round(float(intensity), 2), round(float(valence), 2), round(float(arousal), 2))


def annotate(plan: Sequence[Clip], *, seed: int) -> list[dict[str, str]]:
    """Six annotations a clip: the truth with each annotator's bias, noise and confusions."""
    experts = [f"expert{i + 1}" for i in range(4)]
    rows = []
    biases: dict[str, np.ndarray] = {}
    for clip in plan:
        annotators = [(clip.participant, "participant"), *((name, "expert") for name in experts), ("model1", "model")]
        for part, (annotator, kind) in enumerate(annotators):
            _, bias, _ = ANNOTATORS[kind]
            if annotator not in biases:
                own = clip.number if kind == "participant" else 0
                biases[annotator] = np.random.default_rng([seed, 5, part, own]).normal(0, bias, 3)
            rng = np.random.default_rng([seed, 6, clip.number, clip.order, part])
            seen = _see(clip.felt, kind=kind, bias=biases[annotator], rng=rng)
            rows.append({"clip": clip.clip, "annotator": annotator, "kind": kind} | seen.row())
    return rows


def _see(felt: Felt, *, kind: str, bias: np.ndarray, rng: np.random.Generator) -> Felt:
    """What an annotator makes of it; emotions that lie near each other are confused more often."""
    confusion, _, noise = ANNOTATORS[kind]
    emotion = felt.emotion
    if rng.random() < confusion:
        others = [name for name in EMOTIONS if name != emotion]
        away = [np.hypot(*np.subtract(CIRCUMPLEX[name], CIRCUMPLEX[emotion])) for name in others]
        near = np.exp(-np.array(away) / 0.4)
        emotion = str(rng.choice(others, p=near / near.sum()))
    off = bias + rng.normal(0, noise, 3)
    return Felt(
        emotion,
        float(np.clip(felt.intensity + 3 * off[0], 0, 3)),
        float(np.clip(felt.valence + 2 * off[1], -1, 1)),
        float(np.clip(felt.arousal + 2 * off[2], -1, 1)),
    )
