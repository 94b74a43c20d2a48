"""Which clips deserve another look: annotators who differ, a network that is unsure, a network that contradicts.

Each task has a queue of its own, ordered by the product of three factors, each as its rank among the clips (mid-ranks
over their number, so in (0, 1]; a rank product as of Breitling et al., 2004, FEBS Letters 573, 83-92: factors in
different units weigh the same, and none that is 0 hides the others)::

    score = rank(disagreement) * rank(contradiction) * (1 + rank(uncertainty)) / 2

Uncertainty halves a score at most: alone it says that a clip is hard, not that its label is wrong, and as a full factor
it buries what a network is sure to contradict.

disagreement
    of annotators with the label. Emotion: (n - m + 1/2) / (n + 1) where m of n annotators name it, Freeman's (1965)
    variation ratio about the label, estimated after Krichevsky and Trofimov (1981), so that one annotator alone settles
    nothing. Rating: the root of the mean squared distance of the annotations from the label, as if there were one
    annotation more, at the usual distance.
contradiction
    of the label by the network that has not seen the participant. Emotion: 1 - p(label), as in Northcutt, Jiang and
    Chuang (2021), JAIR 70, 1373-1411. Rating: the distance of the prediction from the label.
uncertainty
    of that network. Emotion: the entropy of p over its maximum, log(classes). Rating: the mean error of the clips whose
    predictions are next to this one's, as in Papadopoulos, Vovk and Gammerman (2011), JAIR 40, 815-840.

Without predictions of a task the score is rank(disagreement); a clip that has none among others that do stands in the
middle of both other factors. A clip without a label, which somebody has annotated, disagrees and contradicts most.
The tasks' queues are merged as cards are: the first of each, then the second of each, and each clip once.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smad_models.annotations import LABELS, RATINGS, Annotations, Label, show_number
from smad_models.folds import read_table

ANSWERS = tuple(f"new_{name}" for name in LABELS)  # columns that the reviewer fills
FACTORS = ("disagreement", "uncertainty", "contradiction")
COLUMNS = ("rank", "clip", "task", "why", "score", *FACTORS, *LABELS, *ANSWERS)


@dataclass(frozen=True)
class Queued:
    """A clip to be looked at again."""

    clip: str
    task: str  # in whose queue it stands highest
    why: str
    score: float
    factors: tuple[float, float, float]  # of FACTORS; NaN = no prediction
    label: Label  # the current one


@dataclass(frozen=True)
class _Doubts:
    """One task's factors, each (clips,) float64, and how to put them in words."""

    disagreement: np.ndarray  # NaN = neither label nor annotation: nothing to look at
    uncertainty: np.ndarray  # NaN = no prediction
    contradiction: np.ndarray
    whys: list[str]


def make_queue(
    annotations: Annotations,
    labels: Mapping[str, Label],
    predictions: Mapping[str, Mapping[str, np.ndarray]],
    *,
    tasks: Sequence[str] = LABELS,
) -> list[Queued]:
    """All clips that are labelled or annotated, the most doubtful first.

    Parameters
    ----------
    labels
        The current ones, by clip.
    predictions
        By task and clip, from networks that have not seen the clip's participant: ``(emotions,)`` probabilities in the
        order of ``annotations.emotions``, ``(1,)`` a rating. A task or a clip may be absent.
    """
    clips = list(dict.fromkeys([*annotations.clips, *labels]))
    current = [labels.get(clip, Label()) for clip in clips]
    waiting: list[tuple[int, float, Queued]] = []
    for task in tasks:
        values = predictions.get(task, {})
        if task == "emotion":
            doubts = _doubt_emotions(annotations, clips, current, values)
        else:
            doubts = _doubt_ratings(annotations, task, clips, current, values)
        rows = np.flatnonzero(~np.isnan(doubts.disagreement))
        scores = _score(doubts, rows)
        for place, i in enumerate(np.argsort(-scores, kind="stable")):
            row = rows[i]
            factors = (doubts.disagreement[row], doubts.uncertainty[row], doubts.contradiction[row])
            found = Queued(clips[row], task, doubts.whys[row], float(scores[i]), factors, current[row])
            waiting.append((place, -found.score, found))
    waiting.sort(key=lambda entry: entry[:2])
    first: dict[str, Queued] = {}
    for _, _, found in waiting:
        first.setdefault(found.clip, found)
    return list(first.values())


def read_predictions(path: Path, task: str, emotions: Sequence[str]) -> dict[str, np.ndarray]:
    """What `predict` wrote of one task, by clip, as `make_queue` wants it.

    Raises
    ------
    ValueError
        The table has other emotions than these.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    if task != "emotion":
        values = table.column("prediction").to_numpy()[:, None]
    else:
        named = [name.removeprefix("p_") for name in table.column_names if name.startswith("p_")]
        if set(named) != set(emotions):
            raise ValueError(f"{path}: has probabilities of {', '.join(named)}; want those of {', '.join(emotions)}")
        values = np.stack([table.column(f"p_{name}").to_numpy() for name in emotions], axis=1)
    return dict(zip(table.column("clip").to_pylist(), values.astype(np.float64), strict=True))


def queue_table(queue: Sequence[Queued]) -> str:
    """The queue's text: what to look at, why, the current labels, and empty columns for the answers."""
    text = io.StringIO()
    writer = csv.writer(text, dialect="excel-tab", lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, found in enumerate(queue, start=1):
        numbers = [show_number(value) for value in (found.score, *found.factors)]
        label = [found.label.emotion or "", *(show_number(value) for value in found.label[1:])]
        writer.writerow([rank, found.clip, found.task, found.why, *numbers, *label, *[""] * len(ANSWERS)])
    return text.getvalue()


def has_answers(path: Path) -> bool:
    """Whether somebody has filled in a part of the queue at ``path``."""
    return any(row.get(column) for row in read_table(path, needed=()) for column in ANSWERS)


def _score(doubts: _Doubts, rows: np.ndarray) -> np.ndarray:
    score = _rank(doubts.disagreement[rows])
    if not np.isnan(doubts.contradiction[rows]).all():
        score = score * _rank(doubts.contradiction[rows]) * (1 + _rank(doubts.uncertainty[rows])) / 2
    return score


def _rank(values: np.ndarray) -> np.ndarray:
    """Mid-ranks over their number; the middle of what is not known."""
    from scipy.stats import rankdata

    known = ~np.isnan(values)
    ranks = np.full(len(values), 0.5)
    ranks[known] = rankdata(values[known]) / max(known.sum(), 1)
    return ranks


def _doubt_emotions(
    annotations: Annotations, clips: Sequence[str], current: Sequence[Label], predicted: Mapping[str, np.ndarray]
) -> _Doubts:
    emotions = annotations.emotions
    votes = np.zeros((len(clips), len(emotions)), dtype=np.int64)
    votes[: len(annotations.clips)] = annotations.votes()
    factors = np.full((3, len(clips)), np.nan)
    whys = []
    for i, (clip, label) in enumerate(zip(clips, current, strict=True)):
        number, name = int(votes[i].sum()), label.emotion
        own = -1 if name is None else emotions.index(name)
        same = int(votes[i, own]) if own >= 0 else 0
        others = ", ".join(f"{emotions[k]} {votes[i, k]}" for k in np.argsort(-votes[i]) if k != own and votes[i, k])
        if name is None:
            why = f"no label: annotators say {others}"
        elif same == number:
            why = f"all {number} annotators say {name}" if number else "nobody has annotated it"
        else:
            why = f"{number - same} of {number} annotators do not say {name} ({others})"
        if name is not None or number:
            factors[0, i] = 1.0 if name is None else (number - same + 0.5) / (number + 1)
        if clip in predicted:
            p = predicted[clip]
            entropy = -(p[p > 0] * np.log(p[p > 0])).sum() / max(math.log(len(p)), 1e-12)
            factors[1:, i] = entropy, 1.0 if own < 0 else 1 - p[own]
            why += f"; the network says {emotions[p.argmax()]} ({p.max():.2f})"
            why += f", {name} {p[own]:.2f}" if own >= 0 and p.argmax() != own else ""
        whys.append(why)
    return _Doubts(disagreement=factors[0], uncertainty=factors[1], contradiction=factors[2], whys=whys)


def _doubt_ratings(
    annotations: Annotations,
    task: str,
    clips: Sequence[str],
    current: Sequence[Label],
    predicted: Mapping[str, np.ndarray],
) -> _Doubts:
    given = np.full((len(clips), max(len(annotations.annotators), 1)), np.nan)
    given[: len(annotations.clips), : len(annotations.annotators)] = annotations.ratings[task]
    label = np.array([math.nan if getattr(one, task) is None else getattr(one, task) for one in current])
    values = np.array([predicted[clip][0] if clip in predicted else math.nan for clip in clips])
    known, is_labelled = ~np.isnan(given), ~np.isnan(label)
    squares = np.where(known & is_labelled[:, None], (given - label[:, None]) ** 2, 0.0)
    pairs = (known & is_labelled[:, None]).sum()
    usual = squares.sum() / max(pairs, 1)
    disagreement = np.sqrt((squares.sum(axis=1) + usual) / (known.sum(axis=1) + 1))
    whole = RATINGS[task][1] - RATINGS[task][0]
    disagreement[~is_labelled] = np.where(known[~is_labelled].any(axis=1), whole, np.nan)
    off = np.abs(values - label)
    contradiction = np.where(is_labelled | np.isnan(values), off, whole)
    uncertainty = _errors_nearby(values, off)
    whys = []
    for i in range(len(clips)):
        own = given[i, known[i]]
        spread = f" ({own.min():.2f} to {own.max():.2f})" if len(own) else ""
        if not is_labelled[i]:
            why = f"no {task}: annotators say{spread}"
        elif len(own):
            why = f"{task}: annotators are {math.sqrt(squares[i].sum() / len(own)):.2f} from {label[i]:.2f}{spread}"
        else:
            why = f"{task}: nobody has annotated it"
        if not math.isnan(values[i]):
            why += f"; the network says {values[i]:.2f}, and errs by {uncertainty[i]:.2f} there"
        whys.append(why)
    return _Doubts(disagreement=disagreement, uncertainty=uncertainty, contradiction=contradiction, whys=whys)


def _errors_nearby(values: np.ndarray, off: np.ndarray) -> np.ndarray:
    """Of each prediction: the mean error of those next to it in size, sqrt(n) / 2 on either side, itself left out."""
    around = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(off))
    order = known[np.argsort(values[known], kind="stable")]
    side = math.ceil(math.sqrt(len(order)) / 2)
    sums = np.concatenate([[0.0], np.cumsum(off[order])])
    places = np.arange(len(order))
    low, high = np.maximum(places - side, 0), np.minimum(places + side + 1, len(order))
    count = high - low - 1
    total = sums[high] - sums[low] - off[order]
    around[order] = np.divide(total, count, out=np.zeros(len(order)), where=count > 0)
    rest = np.isnan(around) & ~np.isnan(values)
    around[rest] = off[order].mean() if len(order) else 0.0
    return around
