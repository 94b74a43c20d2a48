"""The queue for another look finds labels that were planted wrong, with a network's help and without."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from annotation_tables import EMOTIONS, invent, of_votes

from smad_features.synthetic_plan import CIRCUMPLEX
from smad_models.annotations import LABELS, RATINGS, Annotations, Label
from smad_models.cli import main
from smad_models.consensus import find_consensus
from smad_models.relabel import ANSWERS, COLUMNS, Queued, make_queue, queue_table, read_predictions

PLACES = np.array([CIRCUMPLEX[name] for name in EMOTIONS])
AWAY = np.hypot(*(PLACES[:, None] - PLACES).transpose(2, 0, 1))  # how far emotions lie from each other
PLANTED = 0.05  # of all clips


@dataclass(frozen=True)
class Study:
    """121 invented participants with 11 clips each, whose labels are not all right, and a network's predictions."""

    annotations: Annotations
    labels: dict[str, Label]
    predictions: dict[str, dict[str, np.ndarray]]
    planted: set[str]
    wrong: set[str]  # all clips whose emotion is another than was felt; the planted ones among them


def confuse(code: int, rng: np.random.Generator) -> int:
    """Another emotion, one nearby more often."""
    chances = np.exp(-AWAY[code] / 0.4)
    chances[code] = 0
    return int(rng.choice(len(EMOTIONS), p=chances / chances.sum()))


def mislead(annotations: Annotations, truth: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> Annotations:
    """Four of the six annotators of each chosen clip name one and the same wrong emotion."""
    codes = annotations.codes.copy()
    for clip in chosen:
        codes[clip, rng.permutation(codes.shape[1])[:4]] = confuse(truth[clip], rng)
    return replace(annotations, codes=codes)


def study(seed: int, *, error: str, accuracy: float = 0.57) -> Study:
    """``error``: ``misled`` annotators, emotions ``mistyped`` in the table of labels, or whole rows ``mixed up``."""
    rng = np.random.default_rng([seed, 1])
    plan, annotations = invent(seed=seed)
    felt = [clip.felt for clip in plan]
    truth = np.array([EMOTIONS.index(one.emotion) for one in felt])
    chosen = rng.choice(len(plan), round(PLANTED * len(plan)), replace=False)
    if error == "misled":
        annotations = mislead(annotations, truth, chosen, rng)
    consensus = find_consensus(annotations)
    labels = list(consensus.labels)
    if error == "mistyped":
        for clip in chosen:
            labels[clip] = labels[clip]._replace(emotion=EMOTIONS[confuse(truth[clip], rng)])
    if error == "mixed up":
        for clip, other in zip(chosen, np.roll(chosen, 1), strict=True):
            labels[clip] = consensus.labels[other]
    noise = {0.57: 1.5, 0.4: 2.5}[accuracy]  # of the logits: the network errs as often, towards what is like it
    logits = -AWAY[truth] / 0.4 + rng.normal(0, noise, AWAY[truth].shape)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert (p.argmax(axis=1) == truth).mean() == pytest.approx(accuracy, abs=0.05)
    predictions = {"emotion": dict(zip(annotations.clips, p, strict=True))}
    for name, (low, high) in RATINGS.items():
        values = np.array([getattr(one, name) for one in felt]) + rng.normal(0, 0.15 * (high - low), len(felt))
        predictions[name] = dict(zip(annotations.clips, values[:, None], strict=True))
    wrong = {c for c, label, k in zip(annotations.clips, labels, truth, strict=True) if label.emotion != EMOTIONS[k]}
    planted = {annotations.clips[clip] for clip in chosen}
    return Study(annotations, dict(zip(annotations.clips, labels, strict=True)), predictions, planted, wrong)


def times_chance(queue: Sequence[Queued], wanted: set[str]) -> float:
    """Of the first clips, as many as are wanted: how many times as many are wanted ones as in an order by chance."""
    found = sum(one.clip in wanted for one in queue[: len(wanted)])
    return found / len(wanted) / (len(wanted) / len(queue))


@pytest.mark.parametrize("accuracy", [0.57, 0.4])
@pytest.mark.parametrize("error", ["misled", "mistyped"])
def test_the_queue_finds_planted_errors_three_times_as_often_as_chance(error: str, accuracy: float) -> None:
    planted, wrong = [], []
    for seed in range(4):
        made = study(seed, error=error, accuracy=accuracy)
        queue = make_queue(made.annotations, made.labels, made.predictions, tasks=["emotion"])
        assert len(queue) == len(made.labels)
        planted.append(times_chance(queue, made.planted))
        wrong.append(times_chance(queue, made.wrong))
    print(f"{error}, accuracy {accuracy}: planted {np.round(planted, 1)}, all that is wrong {np.round(wrong, 1)}")
    assert np.mean(planted) >= 3
    assert np.mean(wrong) >= 3


def test_without_predictions_mistyped_labels_are_found_but_not_what_most_annotators_were_misled_to() -> None:
    mistyped, misled = ([], [])
    for seed in range(2):
        for error, found in (("mistyped", mistyped), ("misled", misled)):
            made = study(seed, error=error)
            found.append(times_chance(make_queue(made.annotations, made.labels, {}, tasks=["emotion"]), made.planted))
    print(f"without predictions: mistyped {np.round(mistyped, 1)}, misled {np.round(misled, 1)}")
    assert min(mistyped) >= 10
    assert max(misled) < 1  # which is why predictions are worth their trouble


def test_rows_that_were_mixed_up_are_found_by_all_tasks_together() -> None:
    made = study(0, error="mixed up")
    found = times_chance(make_queue(made.annotations, made.labels, made.predictions), made.planted)
    print(f"mixed up, all tasks: {found:.1f}")
    assert found >= 3
    alone = make_queue(made.annotations, made.labels, made.predictions, tasks=["valence"])
    assert times_chance(alone, made.planted) >= 3


def test_each_factor_alone_moves_a_clip_ahead() -> None:
    annotations = of_votes("hhhhhh hhhhhh hhhhss hhhhhh hhhhhh")
    labels = {f"c{i}": Label("happiness") for i in range(5)}
    even, sure = np.full(7, 0.1), np.full(7, 0.05)
    even[0], sure[0] = 0.4, 0.7
    other = np.array([0.4, 0.6, 0, 0, 0, 0, 0])  # as much for the label as `even`, and less uncertain
    p = {"c0": sure, "c1": even, "c2": sure, "c3": sure, "c4": other}
    queue = make_queue(annotations, labels, {"emotion": p}, tasks=["emotion"])
    scores = {one.clip: one.score for one in queue}
    assert scores["c0"] == scores["c3"]
    assert scores["c2"] > scores["c0"]  # annotators differ
    assert scores["c1"] > scores["c4"]  # the network is less sure
    assert scores["c4"] > scores["c0"]  # the network contradicts


def test_a_queue_says_why_in_words() -> None:
    annotations = of_votes("hhfffs hhhhhh sf....")
    labels = {"c0": Label("fear"), "c1": Label("happiness"), "c2": Label(), "new": Label("fear")}
    p = np.array([0.2, 0, 0.3, 0, 0.5, 0, 0])
    queue = make_queue(annotations, labels, {"emotion": {"c0": p, "c1": p, "c2": p}}, tasks=["emotion"])
    whys = {one.clip: one.why for one in queue}
    assert whys["c0"] == (
        "3 of 6 annotators do not say fear (happiness 2, sadness 1); the network says surprise (0.50), fear 0.30"
    )
    assert whys["c1"] == "all 6 annotators say happiness; the network says surprise (0.50), happiness 0.20"
    assert whys["c2"] == "no label: annotators say sadness 1, fear 1; the network says surprise (0.50)"
    assert whys["new"] == "nobody has annotated it"
    assert queue[0].clip == "c2"  # it disagrees and contradicts most
    made = study(0, error="misled")
    why = make_queue(made.annotations, made.labels, made.predictions, tasks=["arousal"])[0].why
    assert why.startswith("arousal: annotators are 0.")
    assert "; the network says " in why


def test_one_annotator_alone_settles_less_than_six() -> None:
    annotations = of_votes("h..... hhhhhh")
    queue = make_queue(annotations, {"c0": Label("happiness"), "c1": Label("happiness")}, {}, tasks=["emotion"])
    assert [one.clip for one in queue] == ["c0", "c1"]
    assert queue[0].factors[0] == 0.25


def test_all_tasks_take_turns_and_a_clip_stands_once() -> None:
    made = study(1, error="mistyped")
    queue = make_queue(made.annotations, made.labels, made.predictions)
    assert sorted(one.clip for one in queue) == sorted(made.annotations.clips)
    assert {one.task for one in queue[:4]} == {"emotion", "intensity", "valence", "arousal"}


# ---- the commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables and predictions of a small study."""
    made = tmp_path_factory.mktemp("relabel")
    plan, annotations = invent(participants=6, clips=7)
    rows = [
        {
            "clip": clip,
            "annotator": clip.split("_")[0] if who.kind == "participant" else who.name,
            "kind": who.kind,
            "emotion": EMOTIONS[annotations.codes[i, j]],
            **{name: annotations.ratings[name][i, j].round(2) for name in RATINGS},
        }
        for i, clip in enumerate(annotations.clips)
        for j, who in enumerate(annotations.annotators)
    ]
    pd.DataFrame(rows).to_csv(made / "annotations.tsv", sep="\t", index=False)
    labels = [
        {"clip": c.clip, "emotion": c.felt.emotion, "intensity": c.felt.intensity, "valence": c.felt.valence,
         "arousal": c.felt.arousal, "mine": "kept"} for c in plan
    ]  # fmt: skip
    pd.DataFrame(labels).to_csv(made / "labels.tsv", sep="\t", index=False)
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(7), len(plan))
    table = pd.DataFrame({"clip": [c.clip for c in plan], "prediction": [EMOTIONS[k] for k in p.argmax(axis=1)]})
    (made / "predictions").mkdir()
    columns = {f"p_{name}": p[:, k] for k, name in enumerate(EMOTIONS)}
    table.assign(**columns).to_parquet(made / "predictions/emotion.parquet")
    table.assign(prediction=rng.normal(size=len(plan))).to_parquet(made / "predictions/valence.parquet")
    return made


def run(folder: Path, command: str, *words: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main([command, *map(str, words), "--annotations", str(folder / "annotations.tsv")])
    said = capsys.readouterr()
    return code, said.out + said.err


def queue_of(folder: Path, output: Path, *words: str, capsys: pytest.CaptureFixture[str]) -> pd.DataFrame:
    given = ("--labels", folder / "labels.tsv", "--predictions", folder / "predictions", "--output", output)
    code, said = run(folder, "relabel-queue", *given, *words, capsys=capsys)
    assert code == 0, said
    assert ("by the annotators alone: intensity, arousal" in said) == ("--tasks" in words)
    return pd.read_csv(output, sep="\t", dtype=str, keep_default_na=False)


def test_the_command_writes_a_queue_that_can_be_filled_in(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = queue_of(folder, tmp_path / "queue.tsv", "--tasks", ",".join(LABELS), capsys=capsys)
    assert set(queue["task"]) == set(LABELS)
    assert tuple(queue.columns) == COLUMNS
    assert queue["rank"].tolist() == [str(i) for i in range(1, 43)]
    assert set(queue["emotion"]) == set(EMOTIONS)
    assert (queue[list(ANSWERS)] == "").all(axis=None)
    few = queue_of(folder, tmp_path / "few.tsv", "--limit", "5", capsys=capsys)
    assert len(few) == 5
    assert set(few["task"]) == {"emotion"}
    answer(few, tmp_path / "few.tsv", new_valence=lambda row: "0.5" if row["rank"] == "2" else "")
    output = ("--output", tmp_path / "few.tsv", "--labels")
    code, said = run(folder, "relabel-queue", *output, folder / "labels.tsv", capsys=capsys)
    assert code == 1
    assert "few.tsv: somebody has answered there: merge it, or name another file" in said
    code, said = run(folder, "relabel-queue", *output, tmp_path / "few.tsv", capsys=capsys)
    assert code == 1
    assert "few.tsv: is read here: name another file" in said


def test_predictions_of_other_emotions_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"emotion\.parquet: has probabilities of happiness.*; want those of joy"):
        read_predictions(folder / "predictions/emotion.parquet", "emotion", ["joy"])


def test_a_queue_without_clips_says_why(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = "clip\tannotator\tkind\temotion\tintensity\tvalence\tarousal\na\tE1\texpert\t\t1\t\t\n"
    (tmp_path / "annotations.tsv").write_text(table, encoding="utf-8")
    code, said = run(tmp_path, "relabel-queue", "--output", tmp_path / "q.tsv", capsys=capsys)
    assert code == 1
    assert "annotations.tsv: nobody says anything of emotion: see --tasks" in said
    code, said = run(folder, "relabel-queue", "--tasks", "joy", capsys=capsys)
    assert code == 1
    assert "--tasks: 'joy' is none of emotion, valence, arousal, intensity" in said


def answer(queue: pd.DataFrame, path: Path, **answers: Callable[[pd.Series], str]) -> Path:
    for column, make in answers.items():
        queue[column] = [make(row) for _, row in queue.iterrows()]
    queue.to_csv(path, sep="\t", index=False)
    return path


def test_answers_become_annotations_and_labels_and_nothing_is_written_over(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.glob("*.tsv")}
    queue = queue_of(folder, tmp_path / "q.tsv", "--limit", "8", capsys=capsys)
    queue.loc[3, "clip"], last = queue.loc[7, "clip"], queue.loc[3, "clip"]  # in whatever order they come back
    queue.loc[7, "clip"] = last
    answers = answer(queue, tmp_path / "a.tsv", new_emotion=lambda row: "fear" if row["rank"] <= "4" else "")
    clips = queue["clip"][:4].tolist()
    written = ("--output", tmp_path / "new.tsv", "--labels-out", tmp_path / "labels.tsv")
    given = (answers, "--annotator", "anna", "--labels", folder / "labels.tsv", *written)
    code, said = run(folder, "merge", *given, "--decides", capsys=capsys)
    assert code == 0, said
    assert "4 of 42 clips answered by anna" in said
    assert {path.name: path.read_bytes() for path in folder.glob("*.tsv")} == before
    new = (tmp_path / "new.tsv").read_text(encoding="utf-8")
    assert new.startswith(before["annotations.tsv"].decode())
    assert new.removeprefix(before["annotations.tsv"].decode()) == "".join(
        f"{clip}\tanna\texpert\tfear\t\t\t\n" for clip in clips
    )
    old, labels = (pd.read_csv(path, sep="\t", dtype=str) for path in (folder / "labels.tsv", tmp_path / "labels.tsv"))
    assert labels.columns.tolist() == old.columns.tolist()
    changed = labels["clip"].isin(clips)
    assert set(labels.loc[changed, "emotion"]) == {"fear"}
    pd.testing.assert_frame_equal(labels[~changed], old[~changed])
    pd.testing.assert_frame_equal(labels.drop(columns="emotion"), old.drop(columns="emotion"))


def test_an_answer_is_one_vote_more_and_what_it_confirms_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "annotations.tsv").write_text(
        "clip\tannotator\tkind\temotion\tintensity\tvalence\tarousal\n"
        + "".join(f"{clip}\tE{i}\texpert\t{emotion}\t\t0.5\t\n" for clip, emotions in {
            "tie": ["fear", "anger"], "clear": ["fear", "fear", "fear"], "kept": ["fear", "fear", "fear"]
        }.items() for i, emotion in enumerate(emotions)), encoding="utf-8")  # fmt: skip
    labels = (
        "clip\temotion\tintensity\tvalence\tarousal\ntie\tfear\t\t0.5\t\nclear\tfear\t\t0.5\t\nkept\tanger\t\t0.5\t\n"
    )
    (tmp_path / "labels.tsv").write_text(labels, encoding="utf-8")
    rows = ["tie\tanger\t\t-0.1\t", "clear\tanger\t\t\t", "kept\tanger\t\t\t"]
    (tmp_path / "a.tsv").write_text("\n".join(["clip\t" + "\t".join(ANSWERS), *rows]) + "\n", encoding="utf-8")
    given = (tmp_path / "a.tsv", "--annotator", "anna", "--labels", tmp_path / "labels.tsv", "--in-place")
    code, said = run(tmp_path, "merge", *given, capsys=capsys)
    assert code == 0, said
    assert (tmp_path / "labels.tsv").read_text(encoding="utf-8").splitlines()[1:] == [
        "tie\tanger\t\t0.3\t",  # two of three; the mean of three
        "clear\tfear\t\t0.5\t",  # one against three
        "kept\tanger\t\t0.5\t",  # what the reviewer finds right stays, though the annotators had it otherwise
    ]
    assert said.splitlines()[2].split()[:3] == ["emotion", "1", "1"]  # one confirmed, one changed
    code, said = run(tmp_path, "merge", *given, capsys=capsys)
    assert code == 1
    assert "clip clear: was annotated by anna before (with 2 more of these answers)" in said


def test_agreement_rises_where_a_reviewer_sides_with_the_majority(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = queue_of(folder, tmp_path / "q.tsv", "--limit", "20", capsys=capsys)
    answers = answer(queue, tmp_path / "a.tsv", new_emotion=lambda row: row["emotion"])
    written = ("--output", tmp_path / "new.tsv", "--labels-out", tmp_path / "labels.tsv")
    code, said = run(folder, "merge", answers, "--annotator", "anna", *written, capsys=capsys)
    assert code == 0, said
    words = next(line for line in said.splitlines() if line.startswith("emotion")).split()
    assert float(words[5]) > float(words[3])  # over the answered clips
    assert float(words[8]) > float(words[6])  # over all
    table = pd.read_csv(tmp_path / "labels.tsv", sep="\t")  # no labels were given: all of them are the consensus
    assert len(table) == 42
    assert {"emotion_confidence", "valence_confidence", "emotion_rule"} <= set(table.columns)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("P99_C1\tfear\t\t\t", "row 2: clip P99_C1: is in neither the annotations nor the labels"),
        ("P01_C1\tjoy\t\t\t", "row 2: clip P01_C1: emotion 'joy' is none of anger, disgust"),
        ("P01_C1\t\t3.5\t\t", "row 2: clip P01_C1: intensity: want a number from 0 to 3, got '3.5'"),
        ("P01_C1\tfear\t\t\t\nP01_C1\tfear\t\t\t", "row 3: clip P01_C1: stands there twice"),
        ("P01_C1\t\t\t\t", "no row has an answer: want some of the columns new_emotion"),
    ],
)
def test_answers_that_make_no_sense_are_refused_and_change_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: str, message: str
) -> None:
    (tmp_path / "a.tsv").write_text("clip\t" + "\t".join(ANSWERS) + f"\n{row}\n", encoding="utf-8")
    before = (folder / "annotations.tsv").read_bytes()
    code, said = run(folder, "merge", tmp_path / "a.tsv", "--annotator", "anna", "--in-place", capsys=capsys)
    assert code == 1
    assert message in said
    assert (folder / "annotations.tsv").read_bytes() == before


def test_a_reviewer_cannot_be_a_model_or_write_over_a_table_unasked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.tsv").write_text("clip\t" + "\t".join(ANSWERS) + "\nP01_C1\tfear\t\t\t\n", encoding="utf-8")
    for name, words, message in (
        ("model1", ("--in-place",), "was annotated by model1 before"),
        ("P02", ("--in-place",), "P02 is a participant there, not an expert"),
        ("anna", (), "want --output and --labels-out for the new tables, or --in-place"),
        ("anna", ("--in-place", "--output", "x.tsv"), "want --in-place, or --output and --labels-out, not both"),
        (
            "anna",
            ("--output", folder / "annotations.tsv", "--labels-out", tmp_path / "l.tsv"),
            "is there already: labels",
        ),
    ):
        code, said = run(folder, "merge", tmp_path / "a.tsv", "--annotator", name, *words, capsys=capsys)
        assert code == 1
        assert message in said
    assert not (tmp_path / "l.tsv").exists()


def test_a_queue_is_text_that_a_spreadsheet_keeps_as_it_is() -> None:
    made = study(2, error="misled")
    text = queue_table(make_queue(made.annotations, made.labels, made.predictions)[:50])
    assert all(line.count("\t") == len(COLUMNS) - 1 for line in text.splitlines())
