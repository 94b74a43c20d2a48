"""Two predictions compared: by all swaps of a few participants, by known p values, and only on the same clips."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scored_clips import EMOTIONS, close, write_files

from smad_models.cli import main
from smad_models.compare import compare, find_emotions, holm, pair_files
from smad_models.metrics import emotion_metrics, value_metrics


def write_pair(folder: Path, *, task: str, seed: int = 0, people: int = 6, better: float = 0.0) -> dict[str, Any]:
    """Predictions of two models; the first is right more often by ``better``. Stored in different orders."""
    rng = np.random.default_rng(seed)
    clips = [(f"p{p:02d}_c{c}", f"p{p:02d}", p % 3 + 1) for p in range(people) for c in range(5)]
    truth = rng.integers(0, 7, len(clips)) if task == "emotion" else rng.uniform(-1, 1, len(clips))
    made: dict[str, Any] = {"truth": truth, "people": np.array([person for _, person, _ in clips])}
    for name, skill in (("a", 0.4 + better), ("b", 0.4)):
        if task == "emotion":
            right = rng.random(len(clips)) < skill
            values = np.where(right, truth, rng.integers(0, 7, len(clips)))
        else:
            values = skill * truth + rng.normal(0, 0.2, len(clips))
        made[name] = values
        rows: list[dict[str, Any]] = []
        for (clip, person, fold), value in zip(clips, values, strict=True):
            row = {"clip": clip, "participant": person, "fold": fold, "present": "face"}
            row["prediction"] = EMOTIONS[value] if task == "emotion" else float(value)
            if task == "emotion":
                row |= {f"p_{e}": float(e == EMOTIONS[value]) for e in EMOTIONS}
            rows.append(row)
        (folder / name).mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows if name == "a" else rows[::-1]), folder / name / f"{task}.parquet")
    (folder / "folds.tsv").write_text(
        "clip\tparticipant\tfold\n" + "".join(f"{c}\t{p}\t{f}\n" for c, p, f in clips), encoding="utf-8"
    )
    cells = [EMOTIONS[value] if task == "emotion" else repr(float(value)) for value in truth]
    (folder / f"{task}.tsv").write_text(
        f"clip\t{task}\n" + "".join(f"{c}\t{cell}\n" for (c, _, _), cell in zip(clips, cells, strict=True)),
        encoding="utf-8",
    )
    return made


def run(folder: Path, task: str) -> dict[str, Any]:
    pair = pair_files(folder / "a" / f"{task}.parquet", folder / "b" / f"{task}.parquet")
    assert list(pair) == [task]
    return compare(pair, labels=folder / f"{task}.tsv", folds=folder / "folds.tsv")["tasks"][task]


@pytest.mark.parametrize("task", ["emotion", "valence"])
def test_the_p_value_is_the_share_of_all_swaps_of_participants_that_do_as_well(tmp_path: Path, task: str) -> None:
    made = write_pair(tmp_path, task=task, better=0.2)
    found = run(tmp_path, task)
    name = "uar" if task == "emotion" else "ccc"
    measure = emotion_metrics if task == "emotion" else value_metrics
    a, b, truth = (made[key] for key in ("a", "b", "truth"))
    apart = []
    for swapped in itertools.product([False, True], repeat=6):
        swap = np.isin(made["people"], np.unique(made["people"])[list(swapped)])
        one, other = np.where(swap, b, a), np.where(swap, a, b)
        apart.append((measure(truth, one)[0][name] or 0) - (measure(truth, other)[0][name] or 0))
    row = found["metrics"][name]
    assert row["difference"] == close(apart[0])
    assert (row["a"], row["b"]) == (close(measure(truth, a)[0][name]), close(measure(truth, b)[0][name]))
    assert found["p"] == close(np.mean(np.abs(apart) >= abs(apart[0]) - 1e-12))
    assert found["swaps"] == "all 64"
    assert found["tested"] == name
    assert found["p_holm"] == found["p"]
    assert (found["clips"], found["participants"], found["identical"]) == (30, 6, False)


def test_equal_predictions_are_no_difference_at_all(tmp_path: Path) -> None:
    write_pair(tmp_path, task="valence")
    shutil.copy(tmp_path / "a/valence.parquet", tmp_path / "b/valence.parquet")
    found = run(tmp_path, "valence")
    assert found["identical"]
    assert found["p"] == 1
    assert found["metrics"]["ccc"]["ci95"] == [0, 0]


def test_a_clear_difference_of_many_participants_is_found_and_its_interval_is_clear_of_zero(tmp_path: Path) -> None:
    write_pair(tmp_path, task="emotion", people=40, better=0.3)
    found = run(tmp_path, "emotion")
    assert found["swaps"] == "9999 at random"
    assert 1 / 10_000 <= found["p"] <= 0.001  # what was found is one of them
    lo, hi = found["metrics"]["uar"]["ci95"]
    assert 0 < lo < found["metrics"]["uar"]["difference"] < hi


def test_p_values_of_models_that_are_alike_are_spread_evenly(tmp_path: Path) -> None:
    found = []
    for seed in range(60):
        write_pair(tmp_path, task="valence", seed=seed, people=9)
        found.append(run(tmp_path, "valence")["p"])
    assert 0.35 < np.mean(found) < 0.65
    assert np.mean(np.array(found) <= 0.05) <= 0.1


def test_holms_correction_is_the_papers() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == close([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.6]) == [1.0, None, 1.0]
    assert holm([]) == []


def test_folders_are_compared_task_by_task_with_one_correction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in ("emotion", "valence"):
        write_pair(tmp_path, task=task, better=0.2)
    emotion, valence = ((tmp_path / f"{task}.tsv").read_text().splitlines() for task in ("emotion", "valence"))
    both = [f"{left}\t{right.split(chr(9))[1]}" for left, right in zip(emotion, valence, strict=True)]
    (tmp_path / "labels.tsv").write_text("\n".join(both) + "\n", encoding="utf-8")
    words = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--labels", str(tmp_path / "labels.tsv")]
    words += ["--folds", str(tmp_path / "folds.tsv")]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["tasks"]
    assert list(found) == ["emotion", "valence"]
    assert [one["p_holm"] for one in found.values()] == close(holm([one["p"] for one in found.values()]))
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert f"{found['emotion']['p_holm']:.4f}" in shown
    assert f"{found['valence']['metrics']['ccc']['difference']:.3f}" in shown


def test_other_clips_are_refused_with_the_first_that_differs(tmp_path: Path) -> None:
    write_pair(tmp_path, task="valence")
    path = tmp_path / "b/valence.parquet"
    pq.write_table(pq.read_table(path).slice(0, 28), path)
    with pytest.raises(ValueError, match=r"clip p00_c0: is in .*a/valence.parquet but not in .*b.* \(with 1 more\)"):
        run(tmp_path, "valence")


def test_what_cannot_be_paired_is_said(tmp_path: Path) -> None:
    write_pair(tmp_path, task="valence")
    file, folder = tmp_path / "a/valence.parquet", tmp_path / "b"
    with pytest.raises(ValueError, match="want two files or two folders"):
        pair_files(file, folder)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        pair_files(file, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="of one task in common"):
        pair_files(tmp_path / "empty", folder)
    shutil.copy(file, tmp_path / "mine.parquet")
    with pytest.raises(ValueError, match=r"mine\.parquet: does not say of which task it is"):
        pair_files(tmp_path / "mine.parquet", tmp_path / "mine.parquet")
    assert list(pair_files(tmp_path / "mine.parquet", tmp_path / "mine.parquet", task="arousal")) == ["arousal"]


def test_the_emotions_are_those_that_the_table_names(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    assert find_emotions(files["predictions"]) == EMOTIONS
    assert list(pair_files(files["predictions"], files["predictions"])) == ["emotion"]
    table = pq.read_table(files["predictions"])
    pq.write_table(table.select(["clip", "participant", "fold", "prediction", "present"]), tmp_path / "bare.parquet")
    with pytest.raises(ValueError, match="name them with --emotions"):
        find_emotions(tmp_path / "bare.parquet")
