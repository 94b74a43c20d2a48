"""The demo as `make demo` runs it: a working pipeline scores visibly above chance on participants it has not seen."""

import json
from pathlib import Path

import pytest
from conftest import ROOT, run_features, run_workflow


@pytest.mark.slow
def test_the_demo_scores_above_chance_on_unseen_participants(tmp_path: Path) -> None:
    made = run_features(tmp_path, "demo-data", "data", "--workers", "2")
    assert made.returncode == 0, made.stderr
    (tmp_path / "config.yaml").write_text((ROOT / "config/demo/config.yaml").read_text())
    run = run_workflow(tmp_path, "all")
    assert run.returncode == 0, run.output
    scores = {
        task: json.loads((tmp_path / f"results/scores/{task}.json").read_text())["protocols"]["fold"]
        for task in ("emotion", "valence", "arousal", "intensity")
    }
    assert scores["emotion"]["uar"]["mean"] >= 0.35  # chance is 1/7
    for task in ("valence", "arousal", "intensity"):
        assert scores[task]["ccc"]["mean"] >= 0.3, task  # chance is 0
    assert run_workflow(tmp_path, "all").jobs.total() == 0
