"""Coefficients of agreement between annotators, each by its published formula.

A coefficient that does not exist (one annotator, no variation) is no 0: it raises `Undefined`, which says why.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np


class Undefined(ValueError):
    """A coefficient does not exist for these annotations; the message says why."""


class Icc(NamedTuple):
    """An intraclass correlation with its 95 % interval, which is None where nothing is left to chance."""

    value: float
    ci95: tuple[float, float] | None


def krippendorff_alpha(values: np.ndarray, *, level: Literal["nominal", "interval"]) -> float:
    """Krippendorff's alpha: 1 - observed / expected disagreement, over all pairs of values that clips have.

    K. Krippendorff (2011), "Computing Krippendorff's alpha-reliability", University of Pennsylvania. Disagreement of a
    pair is 0 or 1 (nominal), or the squared difference (interval); for both, the sums over pairs have closed forms,
    which need no table of all values by all values. Missing values are no obstacle: a clip counts by the values that it
    has, and not at all when it has fewer than two.

    Parameters
    ----------
    values
        (clips, annotators) float64, NaN = missing; class indices if nominal.

    Raises
    ------
    Undefined
        No clip has two values, or all values are the same.
    """
    values = values[(~np.isnan(values)).sum(axis=1) >= 2]
    if not len(values):
        raise Undefined("no clip was annotated by two")
    known = ~np.isnan(values)
    per_clip = known.sum(axis=1)
    total = int(per_clip.sum())
    if level == "nominal":
        counts = np.stack([(values == one).sum(axis=1) for one in np.unique(values[known])], axis=1)  # (clips, classes)
        within = per_clip**2 - (counts**2).sum(axis=1)
        among = total**2 - (counts.sum(axis=0) ** 2).sum()
    else:
        within = 2 * per_clip * np.nansum((values - np.nanmean(values, axis=1, keepdims=True)) ** 2, axis=1)
        among = 2 * total * ((values[known] - values[known].mean()) ** 2).sum()
    if np.ptp(values[known]) == 0:
        raise Undefined("all annotations are the same: nothing is left to agree on")
    observed = (within / (per_clip - 1)).sum() / total
    return float(1 - observed * total * (total - 1) / among)


def fleiss_kappa(votes: np.ndarray) -> tuple[float, list[float | None]]:
    """Fleiss' kappa, and his kappa of each class against all others (None of a class that nobody names, or all).

    J. L. Fleiss (1971), "Measuring nominal scale agreement among many raters", Psychological Bulletin 76, 378-382. It
    wants the same number of votes for each clip.

    Parameters
    ----------
    votes
        (clips, classes) int: how many annotators name each class.

    Raises
    ------
    Undefined
        No clips, fewer than two votes, or all votes for one class.
    ValueError
        Clips have different numbers of votes.
    """
    if not len(votes):
        raise Undefined("no clip was annotated by all")
    raters = int(votes[0].sum())
    if (votes.sum(axis=1) != raters).any():
        raise ValueError("Fleiss' kappa: want the same number of votes for each clip")
    if raters < 2:
        raise Undefined("there is one annotator only")
    share = votes.sum(axis=0) / votes.sum()
    if share.max() == 1:
        raise Undefined("all annotations are the same: nothing is left to agree on")
    agree = ((votes**2).sum(axis=1) - raters).mean() / (raters * (raters - 1))
    chance = (share**2).sum()
    split = (votes * (raters - votes)).mean(axis=0) / (raters * (raters - 1))
    spread = share * (1 - share)
    each = [float(1 - part / whole) if whole > 0 else None for part, whole in zip(split, spread, strict=True)]
    return float((agree - chance) / (1 - chance)), each


def specific_agreement(votes: np.ndarray) -> list[float | None]:
    """Of each class: the chance that another annotator of the clip names it too, given that one does.

    Of all ordered pairs of annotators of a clip whose first names the class, the fraction whose second does: the
    positive agreement of Cicchetti and Feinstein (1990), J. Clin. Epidemiol. 43, 551-558, for any number of
    annotators; with the same number for each clip, Fleiss' (1971) conditional probability. None of a class that nobody
    names where there is a second annotator.

    Parameters
    ----------
    votes
        (clips, classes) int.
    """
    others = votes.sum(axis=1, keepdims=True) - 1
    both, first = (votes * (votes - 1)).sum(axis=0), (votes * np.maximum(others, 0)).sum(axis=0)
    return [float(hit / of) if of else None for hit, of in zip(both, first, strict=True)]


def cohen_kappa(one: np.ndarray, other: np.ndarray) -> float:
    """Cohen's kappa of two annotators, by scikit-learn.

    J. Cohen (1960), "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20,
    37-46.

    Parameters
    ----------
    one, other
        (clips,) int64, of clips that both annotated.

    Raises
    ------
    Undefined
        No clips, or both name one and the same class always.
    """
    from sklearn.metrics import cohen_kappa_score

    if not len(one):
        raise Undefined("no clip was annotated by both")
    if np.ptp(np.concatenate([one, other])) == 0:
        raise Undefined("both name one and the same class always: nothing is left to agree on")
    return float(cohen_kappa_score(one, other))


def icc_agreement(values: np.ndarray) -> tuple[Icc, Icc]:
    """ICC(2,1) and ICC(2,k): how far single ratings, and means of all k annotators, agree absolutely.

    P. E. Shrout and J. L. Fleiss (1979), Psychological Bulletin 86, 420-428: two-way random effects; as ICC(A,1) and
    ICC(A,k) in K. O. McGraw and S. P. Wong (1996), Psychological Methods 1, 30-46, whose intervals these are. The
    intervals take clips for independent.

    Parameters
    ----------
    values
        (clips, annotators) float64 without gaps.

    Raises
    ------
    Undefined
        Fewer than two clips or annotators, ratings that never vary, or so much less between clips than within that
        the formula has no positive denominator.
    """
    n, k = values.shape
    if k < 2:
        raise Undefined("there is one annotator only")
    if n < 2:
        raise Undefined("fewer than two clips were annotated by all")
    grand, rows, columns = values.mean(), values.mean(axis=1), values.mean(axis=0)
    residual = values - rows[:, None] - columns + grand
    between = k * ((rows - grand) ** 2).sum() / (n - 1)  # mean square of clips
    judges = n * ((columns - grand) ** 2).sum() / (k - 1)  # of annotators
    error = (residual**2).sum() / ((n - 1) * (k - 1))
    if np.ptp(values) == 0:
        raise Undefined("all annotations are the same: nothing is left to agree on")
    below, bottom = between + (k - 1) * error + k / n * (judges - error), between + (judges - error) / n
    if min(below, bottom) <= 1e-12 * (between + judges + error):
        raise Undefined("the clips differ less than chance would have it")
    single = (between - error) / below
    average = (between - error) / bottom
    bounds = _interval(single, between, judges, error, clips=n, annotators=k)
    if bounds is None:
        return Icc(float(single), None), Icc(float(average), None)
    # Spearman and Brown's step from one to k; where clips differ far less than chance would have it, there is none.
    steps = [1 + (k - 1) * bound for bound in bounds]
    means = None if min(steps) <= 0 else (k * bounds[0] / steps[0], k * bounds[1] / steps[1])
    return Icc(float(single), bounds), Icc(float(average), means)


def _interval(
    value: float, between: float, judges: float, error: float, *, clips: int, annotators: int
) -> tuple[float, float] | None:
    """The 95 % interval of ICC(A,1), McGraw and Wong's (1996) table 7; None where nothing is left to chance."""
    from scipy.stats import f

    n, k = clips, annotators
    a, b = k * value / n, 1 - value + k * value * (n - 1) / n  # theirs, both times 1 - value
    spread = (a * judges) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    if error <= 1e-12 * between or spread == 0:
        return None
    freedom = (a * judges + b * error) ** 2 / spread
    low, high = f.ppf(0.975, n - 1, freedom), f.ppf(0.975, freedom, n - 1)
    rest = k * judges + (k * n - k - n) * error
    with np.errstate(all="ignore"):
        bounds = (
            n * (between - low * error) / (low * rest + n * between),
            n * (high * between - error) / (rest + n * high * between),
        )
    return (float(bounds[0]), float(bounds[1])) if np.isfinite(bounds).all() else None
