"""Several annotations of a clip become one label, by rules that are stated; ties are not broken by accident."""

import math
from pathlib import Path

import numpy as np
import pytest
from annotation_tables import EMOTIONS, invent, of_votes, write_annotations

from smad_models.annotations import Annotation, Label, arrange, read_annotations, read_labels
from smad_models.consensus import (
    RULES,
    consensus_table,
    dawid_skene,
    find_consensus,
    mean_ratings,
    rating_weights,
)

# Dawid and Skene (1979), table 1: what five anaesthetists, the first of them three times, thought of 45 patients.
PATIENTS = """
    1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343
    1111111 2223212 1211111 1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222
    1111111 1111111 2322222 1111111 1111111 1121121 1111111 3333233 1111111 2222222 2223232 4334343
    2212232 2323233 3333432 1111111 1111111 1212111 2322222 1211111 2222222"""


def test_most_annotators_decide_and_where_they_are_tied_experts_do() -> None:
    # The first letter is the participant's own, the last the model's.
    consensus = find_consensus(of_votes("hhhhhh shhhss hhffss s....h hsnfff hhnfn."))
    decided = [(label.emotion, rule) for label, rule in zip(consensus.labels, consensus.rules, strict=True)]
    assert decided[:3] == [("happiness", "majority"), ("happiness", "experts"), ("fear", "experts")]
    assert decided[4:] == [("fear", "majority"), ("neutral", "experts")]
    assert consensus.confidence["emotion"][[0, 1, 2, 4]] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 2])


def test_reliability_decides_where_experts_are_tied_too() -> None:
    # The first expert always agrees with the rest, the second never: where they alone have a say, the first has it.
    agreed = ["hhs..h", "ssf..s", "ffn..f", "nnh..n"] * 3
    consensus = find_consensus(of_votes(" ".join([*agreed, ".hs..."])))
    assert (consensus.labels[-1].emotion, consensus.rules[-1]) == ("happiness", "reliability")
    assert consensus.confidence["emotion"][-1] == 0.5


def test_two_annotators_alone_who_differ_leave_the_clip_without_a_label() -> None:
    consensus = find_consensus(of_votes("hs hf hh ss h.", kinds=("expert", "expert")))
    assert [label.emotion for label in consensus.labels] == [None, None, "happiness", "sadness", "happiness"]
    assert consensus.rules == ("undecided", "undecided", "majority", "majority", "majority")
    assert consensus.confidence["emotion"].tolist()[2:4] == [1, 1]
    assert np.isnan(consensus.confidence["emotion"][[0, 1, 4]]).all()  # of one annotator alone nothing is known
    assert set(consensus.rules) <= set(RULES)


def test_dawid_and_skenes_example_comes_out_as_they_published_it() -> None:
    counts = np.zeros((45, 5, 4))
    for patient, said in enumerate(PATIENTS.split()):
        for anaesthetist, digit in zip((0, 0, 0, 1, 2, 3, 4), said, strict=True):
            counts[patient, anaesthetist, int(digit) - 1] += 1
    probability, prevalence, errors = dawid_skene(counts)
    assert prevalence.round(2).tolist() == [0.40, 0.42, 0.11, 0.07]
    assert errors[0].round(2).tolist() == [
        [0.89, 0.11, 0, 0],
        [0.07, 0.88, 0.05, 0],
        [0, 0.34, 0.66, 0],
        [0, 0, 0.56, 0.44],
    ]
    assert probability.sum(axis=1) == pytest.approx(1)


def test_dawid_and_skenes_model_finds_planted_errors_and_beats_the_majority() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 2000)
    # Two annotators who take 1 for 0 in concert, and three who guess a little and differ.
    planted = np.stack([np.eye(4)] * 5)
    planted[:3, 1] = [0.8, 0.2, 0, 0]
    planted[3:] = 0.85 * np.eye(4) + 0.05 * (1 - np.eye(4))
    said = np.array([[rng.choice(4, p=planted[j, k]) for j in range(5)] for k in truth])
    counts = (said[:, :, None] == np.arange(4)).astype(float)
    probability, prevalence, errors = dawid_skene(counts)
    assert np.abs(errors - planted).max() < 0.06
    assert prevalence == pytest.approx(np.bincount(truth) / 2000, abs=0.03)
    majority = counts.sum(axis=1).argmax(axis=1)
    assert (probability.argmax(axis=1) == truth).mean() > (majority == truth).mean() + 0.1
    # Who is sure is right: of clips with a probability of about p, p are.
    assert probability.max(axis=1).mean() == pytest.approx((probability.argmax(axis=1) == truth).mean(), abs=0.01)


def test_likelihood_never_falls_from_one_round_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    counts = (rng.integers(0, 3, (60, 4, 1)) == np.arange(3)).astype(float)
    found = []
    for rounds in range(1, 30):
        monkeypatch.setattr("smad_models.consensus._ROUNDS", rounds)
        _, prevalence, errors = dawid_skene(counts)
        likelihood = (prevalence * np.prod(np.einsum("njl,jkl->nkj", counts, errors), axis=2)).sum(axis=1)
        found.append(np.log(likelihood).sum())
    assert (np.diff(found) > -1e-9).all()


def test_both_methods_come_near_the_truth_of_invented_people() -> None:
    plan, annotations = invent(participants=40, clips=7)
    for method in ("majority", "dawid-skene"):
        consensus = find_consensus(annotations, method=method)  # type: ignore[arg-type]
        right = [label.emotion == clip.felt.emotion for label, clip in zip(consensus.labels, plan, strict=True)]
        sure = consensus.confidence["emotion"]
        assert np.mean(right) > 0.96, method
        assert sure[right].mean() > sure[~np.array(right)].mean()


def test_reliability_weighs_ratings_towards_the_truth() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(-1, 1, 400)
    given = truth[:, None] + rng.normal(size=(400, 4)) * [0.1, 0.1, 0.1, 0.8]
    given[rng.random((400, 4)) < 0.2] = np.nan
    weights = rating_weights(given)
    assert weights[3] < 0.65 < 0.8 < weights[:3].min()
    plain, weighted = mean_ratings(given), mean_ratings(given, weights)
    known = ~np.isnan(plain)
    assert np.abs(weighted - truth)[known].mean() < 0.95 * np.abs(plain - truth)[known].mean()
    assert math.isnan(mean_ratings(np.array([[np.nan, np.nan]]))[0])
    assert mean_ratings(np.array([[1.0, np.nan]]), np.array([0.0, 1.0]))[0] == 1  # no weight at all: the plain mean


def test_confidence_of_a_rating_is_one_where_all_agree_and_zero_where_they_stand_at_both_ends() -> None:
    rows = [
        Annotation(clip, name, "expert", Label(valence=value))
        for clip, values in {"a": (0.5, 0.5), "b": (-1, 1), "c": (0.2, None), "d": (0.0, 0.5)}.items()
        for name, value in zip(("E1", "E2"), values, strict=True)
    ]
    consensus = find_consensus(arrange(rows, emotions=EMOTIONS))
    sure = consensus.confidence["valence"]
    assert sure[:2].tolist() == [1, 0]
    assert math.isnan(sure[2])
    assert sure[3] == 0.75
    assert [label.valence for label in consensus.labels] == [0.5, 0, 0.2, 0.25]
    assert consensus.annotators.tolist() == [2, 2, 1, 2]
    assert consensus.rules == ("",) * 4  # nobody named an emotion


def test_a_table_of_the_consensus_is_a_table_of_labels(tmp_path: Path) -> None:
    _, annotations = invent(participants=3, clips=2)
    consensus = find_consensus(annotations, ratings="weighted")
    table = tmp_path / "labels.tsv"
    table.write_text(consensus_table(consensus), encoding="utf-8")
    labels = read_labels(table, emotions=EMOTIONS)
    assert list(labels) == list(annotations.clips)
    for label, wanted in zip(labels.values(), consensus.labels, strict=True):
        assert label.emotion == wanted.emotion
        assert label[1:] == pytest.approx(wanted[1:], abs=1e-4)


# ---- reading


def test_self_reports_are_one_column_and_gaps_stay_gaps(tmp_path: Path) -> None:
    rows = "a P1 participant fear 1 . .\nb P2 participant . . 0.5 .\na E2 expert fear 3 -1 1\nb E1 expert . . . 0"
    read = read_annotations(write_annotations(tmp_path / "a.tsv", rows), emotions=EMOTIONS, clips=None)
    arrays = arrange(read, emotions=EMOTIONS)
    assert arrays.clips == ("a", "b")
    assert [who.name for who in arrays.annotators] == ["participant", "E1", "E2"]
    assert arrays.codes.tolist() == [[2, -1, 2], [-1, -1, -1]]
    assert np.isnan(arrays.ratings["valence"]).tolist() == [[True, True, False], [False, True, True]]
    assert arrays.ratings["valence"][1, 0] == 0.5
    only = read_annotations(tmp_path / "a.tsv", emotions=None, clips={"a"})
    assert {row.clip for row in only} == {"a"}
    assert arrange(only, emotions=None).emotions == ("fear",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a E1 judge fear 1 0 0", "row 2: clip a: kind 'judge' is none of participant, expert, model"),
        ("a E1 expert joy 1 0 0", "row 2: clip a: emotion 'joy' is none of happiness"),
        ("a E1 expert fear 4 0 0", "row 2: clip a: intensity: want a number from 0 to 3, got '4'"),
        ("a E1 expert fear 1 nan 0", "row 2: clip a: valence: want a number from -1 to 1, got 'nan'"),
        ("a E1 expert fear 1 0 low", "row 2: clip a: arousal: want a number from -1 to 1, got 'low'"),
        ("a . expert fear 1 0 0", "row 2: clip a: the annotator has no name"),
        ("a E1 expert fear 1 0 0\na E1 expert fear 1 0 0", "row 3: clip a: annotated twice by E1"),
        ("a P1 participant fear 1 0 0\na P2 participant fear 1 0 0", "row 3: clip a: a second self-report"),
        ("a E1 expert fear 1 0 0\nb E1 model fear 1 0 0", "row 3: clip b: annotator E1 is a model here"),
        ("a participant expert fear 1 0 0", "row 2: clip a: no expert can be called 'participant'"),
        ("", "holds no annotation"),
    ],
)
def test_annotations_that_make_no_sense_are_refused_in_a_sentence(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.tsv: {message}"):
        read_annotations(write_annotations(tmp_path / "a.tsv", rows), emotions=EMOTIONS, clips=None)


def test_labels_that_make_no_sense_are_refused_in_a_sentence(tmp_path: Path) -> None:
    header = "clip\temotion\tintensity\tvalence\tarousal\n"
    with pytest.raises(ValueError, match="row 3: clip a: labelled twice"):
        read_labels(write_annotations(tmp_path / "l.tsv", "a fear 1 0 0\na fear 1 0 0", header), emotions=EMOTIONS)
    with pytest.raises(ValueError, match="has no column `arousal`"):
        read_labels(write_annotations(tmp_path / "l.tsv", "a fear 1 0", header.replace("\tarousal", "")), emotions=None)
