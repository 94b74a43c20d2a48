"""What is said of annotators: of groups, pairs, kinds and each of them; what does not exist has a reason."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotation_tables import EMOTIONS, invent, of_votes, write_annotations
from scipy.stats import pearsonr
from sklearn.metrics import cohen_kappa_score

from smad_models.agreement import agreement_text, measure_agreement
from smad_models.annotations import Annotation, Annotations, Label, arrange
from smad_models.cli import main
from smad_models.reliability import icc_agreement, krippendorff_alpha

RATINGS = ("intensity", "valence", "arousal")


@pytest.fixture(scope="module")
def annotations() -> Annotations:
    return invent(participants=20, clips=7)[1]


@pytest.fixture(scope="module")
def agreement(annotations: Annotations) -> dict[str, Any]:
    return measure_agreement(annotations)


def statistics(part: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statistic of the JSON, with its place."""
    if isinstance(part, dict) and "value" in part:
        yield where, part
    elif isinstance(part, dict):
        for key, value in part.items():
            yield from statistics(value, f"{where}.{key}")
    elif isinstance(part, list):
        for i, value in enumerate(part):
            yield from statistics(value, f"{where}.{i}")


def test_groups_are_measured_by_their_own_columns(annotations: Annotations, agreement: dict[str, Any]) -> None:
    names = [who.name for who in annotations.annotators]
    assert names == ["participant", "expert1", "expert2", "expert3", "expert4", "model1"]
    assert agreement["groups"] == {"all": names, "humans": names[:5], "experts": names[1:5]}
    assert (agreement["clips"], agreement["annotations"]) == (140, 840)
    for group, columns in {"all": slice(0, 6), "humans": slice(0, 5), "experts": slice(1, 5)}.items():
        found = agreement["emotion"]["groups"][group]
        codes = annotations.codes[:, columns].astype(float)
        assert found["krippendorff_alpha"] == {"value": krippendorff_alpha(codes, level="nominal"), "clips": 140}
        ratings = annotations.ratings["arousal"][:, columns]
        found = agreement["arousal"]["groups"][group]
        assert found["krippendorff_alpha"]["value"] == krippendorff_alpha(ratings, level="interval")
        single, average = icc_agreement(ratings)
        assert found["icc_2_1"] == {"value": single.value, "ci95": list(single.ci95 or ()), "clips": 140}
        assert (found["icc_2_k"]["value"], found["icc_2_k"]["k"]) == (average.value, ratings.shape[1])


def test_pairs_and_kinds_agree_as_scikit_learn_and_arithmetic_say(
    annotations: Annotations, agreement: dict[str, Any]
) -> None:
    codes, valence = annotations.codes, annotations.ratings["valence"]
    assert len(agreement["emotion"]["pairs"]) == 15
    pair = next(p for p in agreement["emotion"]["pairs"] if (p["a"], p["b"]) == ("expert1", "model1"))
    assert pair["cohen_kappa"]["value"] == pytest.approx(cohen_kappa_score(codes[:, 1], codes[:, 5]))
    assert pair["agreement"]["value"] == (codes[:, 1] == codes[:, 5]).mean()
    kinds = {(p["a"], p["b"]): p for p in agreement["valence"]["kinds"]}
    assert set(kinds) == {("participant", "expert"), ("participant", "model"), ("expert", "model")}
    off = valence[:, 0] - valence[:, 1:5].mean(axis=1)
    assert kinds["participant", "expert"]["bias"]["value"] == pytest.approx(off.mean())
    assert kinds["participant", "expert"]["mae"]["value"] == pytest.approx(np.abs(off).mean())
    # As planted: the participant knows best and the model least.
    emotion = {(p["a"], p["b"]): p["agreement"]["value"] for p in agreement["emotion"]["kinds"]}
    assert emotion["participant", "expert"] > emotion["participant", "model"]


def test_an_annotator_is_compared_with_all_the_others(annotations: Annotations, agreement: dict[str, Any]) -> None:
    valence = annotations.ratings["valence"]
    for i, found in enumerate(agreement["valence"]["annotators"]):
        others = np.delete(valence, i, axis=1).mean(axis=1)
        assert found["bias"]["value"] == pytest.approx((valence[:, i] - others).mean())
        assert found["correlation"]["value"] == pytest.approx(pearsonr(valence[:, i], others).statistic)
    shifted = {**annotations.ratings, "valence": valence + 0.5 * (np.arange(6) == 2)}
    moved = measure_agreement(
        Annotations(annotations.clips, annotations.annotators, EMOTIONS, annotations.codes, shifted)
    )
    bias = [one["bias"]["value"] for one in moved["valence"]["annotators"]]
    was = [one["bias"]["value"] for one in agreement["valence"]["annotators"]]
    assert np.subtract(bias, was) == pytest.approx([-0.1, -0.1, 0.5, -0.1, -0.1, -0.1])


def test_where_two_classes_are_always_confused_their_agreement_is_low_and_the_others_stay(
    annotations: Annotations, agreement: dict[str, Any]
) -> None:
    codes = annotations.codes.copy()
    rng = np.random.default_rng(0)
    confused = np.isin(codes, [1, 2])
    codes[confused] = rng.integers(1, 3, confused.sum())
    found = measure_agreement(
        Annotations(annotations.clips, annotations.annotators, EMOTIONS, codes, annotations.ratings)
    )["emotion"]["groups"]["all"]["per_class"]
    before = agreement["emotion"]["groups"]["all"]["per_class"]
    for emotion in EMOTIONS:
        fell = before[emotion]["specific_agreement"]["value"] - found[emotion]["specific_agreement"]["value"]
        assert (fell > 0.15) == (emotion in ("sadness", "fear")), emotion


def test_missing_annotations_are_left_out_where_they_must_be_and_counted(annotations: Annotations) -> None:
    rng = np.random.default_rng(1)
    codes = np.where(rng.random(annotations.codes.shape) < 0.3, -1, annotations.codes)
    ratings = {
        name: np.where(rng.random(given.shape) < 0.3, np.nan, given) for name, given in annotations.ratings.items()
    }
    found = measure_agreement(Annotations(annotations.clips, annotations.annotators, EMOTIONS, codes, ratings))
    experts = found["emotion"]["groups"]["experts"]
    assert experts["fleiss_kappa"]["clips"] == (codes[:, 1:5] >= 0).all(axis=1).sum() < 60
    assert experts["krippendorff_alpha"]["clips"] == ((codes[:, 1:5] >= 0).sum(axis=1) > 1).sum() > 120
    assert found["valence"]["groups"]["all"]["icc_2_1"]["clips"] == (~np.isnan(ratings["valence"])).all(axis=1).sum()
    assert experts["krippendorff_alpha"]["value"] == pytest.approx(
        measure_agreement(annotations)["emotion"]["groups"]["experts"]["krippendorff_alpha"]["value"], abs=0.1
    )


@pytest.mark.parametrize(
    "annotations",
    [
        arrange([Annotation("a", "E1", "expert", Label("fear", 1, 0, 0))], emotions=EMOTIONS),
        arrange([Annotation("a", "E1", "expert", Label())], emotions=EMOTIONS),
        arrange([Annotation("a", f"E{i}", "expert", Label(None, i, 0.5, 0.5)) for i in range(2)], emotions=None),
        of_votes("hhhhhh hhhhhh"),
        of_votes("h..... .s...."),
        of_votes("hs hs", kinds=("participant", "model")),
    ],
    ids=["one annotation", "an empty one", "no emotions at all", "all the same", "nobody twice", "no experts"],
)
def test_what_does_not_exist_is_null_with_a_reason(annotations: Annotations) -> None:
    found = json.loads(agreement_text(measure_agreement(annotations)))  # and no NaN is in the text
    absent = {where: one for where, one in statistics(found) if one["value"] is None}
    assert absent
    for where, one in absent.items():
        assert one["reason"], where
    for where, one in statistics(found):
        assert one["value"] is None or np.isfinite(one["value"]), where
    for name in RATINGS:
        assert found[name]["groups"]["experts"]["icc_2_1"]["value"] is None
    if len(annotations.annotators) == 1:
        assert (
            "one annotator" in found["emotion"]["groups"]["all"]["fleiss_kappa"]["reason"] or annotations.codes[0] < 0
        )


def test_no_clip_and_no_participant_is_named(agreement: dict[str, Any], annotations: Annotations) -> None:
    text = agreement_text(agreement)
    assert not [clip for clip in annotations.clips if clip in text or clip.split("_")[0] in text]


def test_the_command_counts_the_clips_of_the_table_and_writes_the_consensus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["a E1 expert fear 1 0 0", "a E2 expert fear 2 0 0", "b E1 expert anger 1 1 0", "b E2 expert anger 2 1 1"]
    table = write_annotations(tmp_path / "annotations.tsv", "\n".join([*rows, "z E3 model . . . ."]))
    (tmp_path / "clips.tsv").write_text("clip\tparticipant\na\tp\nb\tp\n", encoding="utf-8")
    command = [
        "agreement",
        "--annotations",
        str(table),
        "--clips",
        str(tmp_path / "clips.tsv"),
        "--emotions",
        "fear,anger",
    ]
    command += ["--output", str(tmp_path / "out/agreement.json"), "--labels-out", str(tmp_path / "labels.tsv")]
    assert main(command) == 0
    assert "2 clips, 4 annotations" in capsys.readouterr().out
    found = json.loads((tmp_path / "out/agreement.json").read_text(encoding="utf-8"))
    assert found["annotators"] == [{"name": f"E{i}", "kind": "expert", "clips": 2} for i in (1, 2)]
    assert found["emotion"]["groups"]["experts"]["krippendorff_alpha"]["value"] == 1
    assert found["intensity"]["pairs"][0]["bias"]["value"] == -1
    assert found["consensus"]["rules"] == {"majority": 2, "experts": 0, "reliability": 0, "undecided": 0}
    assert (tmp_path / "labels.tsv").read_text(encoding="utf-8").splitlines()[1].startswith("a\tfear\t1.5\t0\t0\t1\t")
    assert main(command) == 1
    assert "labels.tsv: is there already: labels and annotations are not written over" in capsys.readouterr().err
    (tmp_path / "labels.tsv").unlink()
    assert main([*command, "--output", str(table)]) == 1
    assert "annotations.tsv: is read here: name another file" in capsys.readouterr().err
    assert main([*command, "--emotions", "joy"]) == 1
    assert "row 2: clip a: emotion 'fear' is none of joy" in capsys.readouterr().err


def test_annotations_of_every_gap_and_size_have_an_agreement() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        kinds = ["participant", *rng.choice(["expert", "model"], rng.integers(0, 4))]
        rows = [
            Annotation(
                f"c{clip}",
                f"A{i}",
                kind,
                Label(
                    None if rng.random() < 0.4 else str(rng.choice(EMOTIONS[:2])),
                    *(None if rng.random() < 0.4 else float(rng.choice([0, 0.5, 1])) for _ in RATINGS),
                ),
            )
            for clip in range(rng.integers(1, 5))
            for i, kind in enumerate(kinds)
            if rng.random() < 0.8
        ]
        if rows:
            found = json.loads(agreement_text(measure_agreement(arrange(rows, emotions=EMOTIONS[:2]))))
            assert all(one["value"] is not None or one["reason"] for _, one in statistics(found))
