"""The workflow itself, killed at moments all over a run: nothing is half there, and the next run ends right.

A run is told by the clean one beside it: the same bytes in the cache, the same tables. Half of the kills hit a first
run, half one that follows an edit, with the results of the run before at stake.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from histories import Tree
from runners import Ended, assert_same_cache, begin_workflow, ended, kill_group, leftovers, wait_for_group

from smad_features.cache import read_unit, verify_cache
from smad_features.freshness import read_unit_attributes

pytestmark = pytest.mark.slow

MOMENTS = 15  # over a first run, and as many over one after an edit
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Tried:
    """A tree, its results before and after an edit, and how long a run took in each state, in seconds."""

    tree: Tree
    states: tuple[Path, Path]
    seconds: tuple[float, float]


def finish(folder: Path) -> Ended:
    """Run to the end."""
    run = begin_workflow(folder)
    done = ended(run, folder)
    assert done.code == 0, done.said
    return done


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """Three participants, run over from nothing, then once more after one recording was replaced."""
    folder = tmp_path_factory.mktemp("crashes")
    tree = Tree(folder)
    tree.begin()
    states, seconds = [], []
    for state, content in (("first", 0), ("edited", 70)):
        tree.write_file("e0.tsv", content)
        begun = time.monotonic()
        finish(tree.live)
        seconds.append(time.monotonic() - begun)
        shutil.copytree(tree.live / "results", folder / state, symlinks=True)
        states.append(folder / state)
    return Tried(tree, (states[0], states[1]), (seconds[0], seconds[1]))


@pytest.fixture(params=["first", "edited"])
def which(request: pytest.FixtureRequest) -> int:
    """Whether a first run is hit (0), or one after an edit (1)."""
    return ["first", "edited"].index(request.param)


def put_back(tried: Tried, folder: Path, which: int) -> None:
    """The tree as it was before the run that is to be hit: nothing there, or the results before the edit."""
    tried.tree.write_file("e0.tsv", 0)
    for path in folder.iterdir():
        if path.name != "config.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if which == 1:
        shutil.copytree(tried.states[0], folder / "results", symlinks=True)
        tried.tree.write_file("e0.tsv", 70)


def check_whole(tried: Tried, folder: Path, which: int) -> None:
    """Every unit is absent, or readable and one of the two that it can be; the cache too."""
    allowed = tried.states[: which + 1]
    for path in tried.tree.unit_files().values():
        if (folder / path).exists():
            read_unit(folder / path)  # every checksum
            known = [read_unit_attributes(state / path.relative_to("results")) for state in allowed]
            assert read_unit_attributes(folder / path) in known, path
    results = folder / "results"
    digests = [json.loads((state / "cache.json").read_text())["digest"] for state in allowed]
    if (results / "cache.zarr").exists():
        assert verify_cache(results / "cache.zarr") == []
        assert (results / "cache.zarr").resolve().name in [f"cache-{digest}.zarr" for digest in digests]
    if (results / "cache.json").exists():
        assert json.loads((results / "cache.json").read_text())["digest"] in digests
    assert (results / "cache.zarr").exists() or which == 0


def check_right(tried: Tried, folder: Path, which: int) -> None:
    """All is as after a run that nobody disturbed, and nothing else lies about."""
    results, wanted = folder / "results", tried.states[which]
    assert_same_cache(results, wanted)
    for table in ("clips.tsv", "quality.tsv", "cache.json"):
        assert (results / table).read_text() == (wanted / table).read_text()
    for path in tried.tree.unit_files().values():
        assert read_unit_attributes(folder / path) == read_unit_attributes(wanted / path.relative_to("results"))
    assert leftovers(folder) == []


def test_a_run_killed_at_any_moment_leaves_nothing_half_and_the_next_one_ends_right(tried: Tried, which: int) -> None:
    folder, seconds, hits = tried.tree.live, tried.seconds[which], 0
    for n in range(2 * MOMENTS):
        put_back(tried, folder, which)
        run, begun = begin_workflow(folder), time.monotonic()
        try:
            run.wait((n + 1) * GOLDEN % 1 * seconds)  # any number of them lies evenly
            seconds = time.monotonic() - begun  # too late: runs are shorter than the first was
        except subprocess.TimeoutExpired:
            kill_group(run)
            hits += 1
        check_whole(tried, folder, which)
        finish(folder)
        check_right(tried, folder, which)
        if hits == MOMENTS:
            return
    raise AssertionError(f"only {hits} of {2 * MOMENTS} runs were still at work when they were to be killed")


@pytest.mark.parametrize("fraction", [0.45, 0.65, 0.8])
def test_jobs_that_outlive_their_run_do_no_harm_to_the_next(tried: Tried, fraction: float) -> None:
    folder = tried.tree.live
    put_back(tried, folder, 0)
    orphaned = begin_workflow(folder)
    try:
        orphaned.wait(fraction * tried.seconds[0])
    except subprocess.TimeoutExpired:
        os.kill(orphaned.pid, signal.SIGKILL)
        orphaned.wait()
    tried.tree.write_file("e0.tsv", 70)  # what the jobs still at work have read, or not yet
    finish(folder)
    check_right(tried, folder, 1)
    wait_for_group(orphaned)
    check_right(tried, folder, 1)
