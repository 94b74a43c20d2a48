"""How far probabilities can be believed: the share that is right among clips of a confidence, and the error of it."""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 15  # of equal width: C. Guo et al. (2017)


def confidence_of(prediction: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """``(n,)``: the probability of the class that is predicted."""
    sure: np.ndarray = probabilities[np.arange(len(prediction)), prediction]
    return sure


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """``(n,)`` 0 to 14: the bin of each confidence; a bin holds its upper edge and not its lower one."""
    edges = np.arange(1, BINS) / BINS
    return np.searchsorted(edges, confidence, side="left")


def expected_calibration_error(truth: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray) -> float:
    """ECE = sum over bins of (clips in the bin / clips) x |share right in the bin - mean confidence in it|.

    C. Guo, G. Pleiss, Y. Sun, K. Weinberger (2017), "On calibration of modern neural networks", ICML, after
    M. P. Naeini et al. (2015). Confidence is the probability of the predicted class.
    """
    confidence = confidence_of(prediction, probabilities)
    gap = np.bincount(bin_of(confidence), weights=(truth == prediction) - confidence, minlength=BINS)
    return float(np.abs(gap).sum() / len(truth))


def reliability(truth: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """The bins of a reliability diagram: from, to, clips, their mean confidence and share right (None in an empty one).

    M. DeGroot, S. Fienberg (1983), "The comparison and evaluation of forecasters", The Statistician 32, 12-22.
    """
    confidence = confidence_of(prediction, probabilities)
    bins = bin_of(confidence)
    rows = []
    for number in range(BINS):
        inside = bins == number
        clips = int(inside.sum())
        rows.append(
            {
                "lo": number / BINS,
                "hi": (number + 1) / BINS,
                "clips": clips,
                "confidence": float(confidence[inside].mean()) if clips else None,
                "accuracy": float((truth == prediction)[inside].mean()) if clips else None,
            }
        )
    return rows
