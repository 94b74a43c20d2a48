"""Coefficients of agreement: the worked examples of those who invented them, another library, closed forms."""

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smad_models.reliability import (
    Undefined,
    cohen_kappa,
    fleiss_kappa,
    icc_agreement,
    krippendorff_alpha,
    specific_agreement,
)

NAN = float("nan")
# Krippendorff (2011), example C: four observers, twelve units, gaps.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T
# Fleiss (1971), table 1: how many of six psychiatrists gave each of 30 patients one of five diagnoses.
_PATIENTS = """
    00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
    00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"""
DIAGNOSES = np.array([[int(digit) for digit in patient] for patient in _PATIENTS.split()])
# Shrout and Fleiss (1979), table 2: four judges, six targets.
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float)
# Four judges, eight wines: the worked example of Pingouin's `intraclass_corr` and of real-statistics.com.
WINES = np.array(
    [[1, 1, 3, 6, 6, 7, 8, 9], [2, 3, 8, 4, 5, 5, 7, 9], [0, 3, 1, 3, 5, 6, 7, 9], [1, 2, 4, 3, 6, 2, 9, 8]]
).T


def pairs(table: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Two annotators' classes, from a table of how often each pair of classes was named."""
    named = [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    return np.array([i for i, _ in named]), np.array([j for _, j in named])


def test_alpha_is_that_of_krippendorffs_own_example() -> None:
    assert krippendorff_alpha(OBSERVERS, level="nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(OBSERVERS, level="interval") == pytest.approx(0.849, abs=5e-4)


VALUES = arrays(
    np.float64, st.tuples(st.integers(1, 12), st.integers(1, 6)), elements=st.sampled_from([NAN, 0, 1, 2, 5])
)


@settings(max_examples=200, deadline=None)
@given(values=VALUES, level=st.sampled_from(["nominal", "interval"]))
def test_alpha_is_that_of_the_library_called_krippendorff(values: np.ndarray, level: str) -> None:
    paired = values[(~np.isnan(values)).sum(axis=1) > 1]
    if not len(paired) or len(np.unique(paired[~np.isnan(paired)])) == 1:
        with pytest.raises(Undefined):
            krippendorff_alpha(values, level=level)  # type: ignore[arg-type]
    else:
        theirs = krippendorff.alpha(reliability_data=paired.T, level_of_measurement=level)
        assert krippendorff_alpha(values, level=level) == pytest.approx(theirs, abs=1e-10)  # type: ignore[arg-type]


def test_fleiss_kappa_is_that_of_his_own_example_class_by_class() -> None:
    kappa, each = fleiss_kappa(DIAGNOSES)
    assert kappa == pytest.approx(0.430, abs=5e-4)
    assert kappa == pytest.approx(0.4302445, abs=5e-8)  # R's irr::kappam.fleiss
    assert each == pytest.approx([0.245, 0.245, 0.520, 0.471, 0.566], abs=5e-4)
    # His table's proportions of agreement given the diagnosis.
    assert specific_agreement(DIAGNOSES) == pytest.approx([0.354, 0.354, 0.600, 0.633, 0.670], abs=1.5e-3)


@settings(max_examples=100, deadline=None)
@given(codes=arrays(np.int64, st.tuples(st.integers(1, 15), st.integers(2, 6)), elements=st.integers(0, 3)))
def test_without_gaps_alpha_is_fleiss_kappa_corrected_for_the_sample(codes: np.ndarray) -> None:
    votes = np.stack([(codes == k).sum(axis=1) for k in range(4)], axis=1)
    if np.ptp(codes) == 0:
        with pytest.raises(Undefined):
            fleiss_kappa(votes)
        return
    alpha = krippendorff_alpha(codes.astype(float), level="nominal")
    assert 1 - alpha == pytest.approx((1 - fleiss_kappa(votes)[0]) * (codes.size - 1) / codes.size, abs=1e-10)


def test_cohens_kappa_is_that_of_his_own_example() -> None:
    assert cohen_kappa(*pairs([[88, 10, 2], [14, 40, 6], [18, 10, 12]])) == pytest.approx(0.492, abs=5e-4)


def test_the_iccs_and_their_intervals_are_those_of_shrout_and_fleiss() -> None:
    single, average = icc_agreement(JUDGES)
    assert (round(single.value, 2), round(average.value, 2)) == (0.29, 0.62)
    assert single.ci95 == pytest.approx((0.019, 0.761), abs=5e-4)  # R's psych::ICC on these data
    assert average.ci95 == pytest.approx((0.071, 0.927), abs=5e-4)


def test_the_iccs_and_their_intervals_are_those_that_pingouin_documents() -> None:
    single, average = icc_agreement(WINES.astype(float))
    assert (round(single.value, 3), round(average.value, 3)) == (0.728, 0.914)
    assert single.ci95 == pytest.approx((0.43, 0.93), abs=5e-3)
    assert average.ci95 == pytest.approx((0.75, 0.98), abs=5e-3)


def test_the_icc_finds_the_shares_of_variance_that_were_planted_and_its_interval_covers_them() -> None:
    rng = np.random.default_rng(0)
    clips, judges, noise = 1.0, 0.3, 0.7  # variances
    truth, covered, found = clips / (clips + judges + noise), 0, []
    for _ in range(300):
        values = rng.normal(0, clips**0.5, (60, 1)) + rng.normal(0, judges**0.5, 6) + rng.normal(0, noise**0.5, (60, 6))
        single = icc_agreement(values)[0]
        found.append(single.value)
        assert single.ci95 is not None
        covered += single.ci95[0] <= truth <= single.ci95[1]
    assert np.mean(found) == pytest.approx(truth, abs=0.02)
    assert 0.92 <= covered / 300 <= 0.98


def test_the_icc_of_two_is_lins_concordance_but_for_the_sample() -> None:
    rng = np.random.default_rng(1)
    one = rng.normal(size=500)
    other = 0.8 * one + rng.normal(0.2, 0.4, 500)
    ccc = 2 * np.cov(one, other)[0, 1] / (one.var() + other.var() + (one.mean() - other.mean()) ** 2)
    assert icc_agreement(np.stack([one, other], axis=1))[0].value == pytest.approx(ccc, abs=2e-3)


def test_annotators_who_never_differ_agree_wholly_and_have_no_interval() -> None:
    single, average = icc_agreement(np.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]]))
    assert (single.value, average.value) == pytest.approx((1, 1))
    assert single.ci95 is None
    assert krippendorff_alpha(np.array([[1.0, 1.0], [2.0, 2.0]]), level="interval") == 1


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (lambda: krippendorff_alpha(np.array([[1, NAN], [NAN, 2]]), level="nominal"), "no clip was annotated by two"),
        (lambda: krippendorff_alpha(np.array([[1.0, 1.0]]), level="interval"), "all annotations are the same"),
        (lambda: fleiss_kappa(np.zeros((0, 7), dtype=int)), "no clip was annotated by all"),
        (lambda: fleiss_kappa(np.array([[1, 0], [0, 1]])), "there is one annotator only"),
        (lambda: fleiss_kappa(np.array([[3, 0], [3, 0]])), "all annotations are the same"),
        (lambda: cohen_kappa(np.array([], dtype=int), np.array([], dtype=int)), "no clip was annotated by both"),
        (lambda: cohen_kappa(np.array([1, 1]), np.array([1, 1])), "both name one and the same class always"),
        (lambda: icc_agreement(np.array([[1.0], [2.0]])), "there is one annotator only"),
        (lambda: icc_agreement(np.array([[1.0, 2.0]])), "fewer than two clips"),
        (lambda: icc_agreement(np.ones((3, 2))), "all annotations are the same"),
    ],
)
def test_what_does_not_exist_has_a_reason_and_is_no_zero(compute: object, reason: str) -> None:
    with pytest.raises(Undefined, match=reason):
        compute()  # type: ignore[operator]


def test_clips_with_different_numbers_of_votes_are_not_for_fleiss() -> None:
    with pytest.raises(ValueError, match="same number of votes"):
        fleiss_kappa(np.array([[2, 0], [1, 0]]))


def test_a_class_that_nobody_names_has_no_agreement() -> None:
    votes = np.array([[2, 1, 0], [3, 0, 0]])
    assert specific_agreement(votes)[2] is None
    assert fleiss_kappa(votes)[1][2] is None
    assert specific_agreement(np.array([[1, 0], [1, 1]])) == [0.0, 0.0]  # the lone vote of the first clip has no other
