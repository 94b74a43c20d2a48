"""Whatever happened to a tree of clips, a run makes what is stale, nothing else, and ends where a clean build does."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edits import LOSSES, SETTINGS, Edits
from histories import DAMAGED, EDITS, LIBRARIES
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from runners import Ended, InProcess, ThroughSnakemake, assert_same_cache, leftovers

from smad_features.cache import read_unit, verify_cache
from smad_features.freshness import read_unit_attributes


class Histories(Edits):
    """Edits of a tree and runs over it; after each whole run it is compared with one built from nothing."""

    builder: InProcess  # of what is compared with

    def finish(self) -> None:
        self.whole_run(2)

    @rule(cores=st.sampled_from([1, 2, 4]))
    def whole_run(self, cores: int) -> None:
        tree, live = self.tree, self.tree.live
        stale, facts = tree.stale(), tree.facts()
        computed = {unit: tree.computed(unit) for unit in stale}
        ended = self.runner.run(live, tree, cores=cores)
        assert len(ended.units) == len(set(ended.units)), ended.said
        assert stale <= set(ended.units) <= stale | self.left, ended.said
        if facts == self.facts:
            assert ended.jobs == [], ended.said
        for unit in ended.units:
            said = dict(re.findall(r"^\w+: (c\d): (.*)", self.runner.log(live, unit), flags=re.MULTILINE))
            assert {clip for clip, how in said.items() if "taken over" not in how} == computed.get(unit, set()), unit
            assert said.keys() == tree.wanted()[unit].clips.keys()
        tree.made |= tree.wanted()

        built = self.build_from_nothing()
        assert (ended.code, built.code) in ((0, 0), (1, 1)), ended.said
        for unit, path in tree.unit_files().items():
            assert read_unit_attributes(live / path) == read_unit_attributes(tree.clean / path), unit
        if ended.code == 0:
            assert_same_cache(live / "results", tree.clean / "results")
            for table in ("clips.tsv", "quality.tsv", "cache.json"):
                assert (live / "results" / table).read_text() == (tree.clean / "results" / table).read_text()
            assert leftovers(live, stores=3) == []  # the one that a killed run did not swap in goes with the next
            again = self.runner.run(live, tree, cores=cores)
            assert (again.code, again.jobs) == (0, []), again.said
        else:
            assert "no clip is ok" in built.said  # and so there is nothing to pack
        self.facts, self.left, self.edits = facts if ended.code == 0 else None, set(), -1

    def build_from_nothing(self) -> Ended:
        clean = self.tree.clean
        for path in clean.iterdir():
            if path.name != "config.yaml":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self.builder.run(clean, self.tree)

    @rule(cores=st.sampled_from([1, 2, 4]), moment=st.integers(1, 40) | st.integers(1, 250))
    def run_killed_before_it_changes_a_file(self, cores: int, moment: int) -> None:
        self.killed_run(cores=cores, moment=moment)

    @rule(cores=st.sampled_from([1, 2, 4]), delay=st.floats(0.01, 1.0))
    def run_killed_after_a_while(self, cores: int, delay: float) -> None:
        self.killed_run(cores=cores, delay=delay)

    def killed_run(self, **options: Any) -> None:
        tree, wanted, allowed = self.tree, self.tree.wanted(), self.tree.stale() | self.left
        before, begun = {unit: identity(tree.unit(unit)) for unit in {*wanted, *tree.made}}, time.time_ns()
        ended = self.runner.run(tree.live, tree, **options)
        assert set(ended.units) <= allowed, ended.said
        for unit, was in before.items():
            if is_another(identity(tree.unit(unit)), was, since=begun):
                assert unit in ended.units, f"{unit} was no job's to make"
                tree.made[unit] = wanted[unit]
            if unit in tree.made and tree.made[unit] != DAMAGED:
                read_unit(tree.unit(unit))  # every checksum
        cache = tree.live / "results/cache.zarr"
        if cache.exists():
            assert verify_cache(cache) == []
        self.facts, self.left, self.edits = None, self.left | set(ended.units), -1


def identity(path: Path) -> tuple[int, int] | None:
    """Tells a file from another that took its place."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def is_another(now: tuple[int, int] | None, was: tuple[int, int] | None, *, since: int) -> bool:
    """Whether a run that began at ``since`` put another file there; it may bring a date of the future back to now."""
    if now and was and was[1] > since:
        return now[0] != was[0]
    return now != was


@pytest.fixture(scope="module")
def in_process() -> Iterator[InProcess]:
    server = InProcess()
    yield server
    server.close()


def play(runner: InProcess | ThroughSnakemake, builder: InProcess, *, histories: int, length: int) -> int:
    """Play histories of ``length`` steps, always the same ones. The number of all steps."""

    class Played(Histories):
        pass

    Played.runner, Played.builder = runner, builder
    run_state_machine_as_test(
        Played,
        settings=settings(
            max_examples=histories,
            stateful_step_count=length,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return Played.steps


def test_a_short_history_ends_where_a_clean_build_does(in_process: InProcess) -> None:
    assert play(in_process, in_process, histories=2, length=16) >= 10


def each_trap() -> list[list[tuple[str, dict[str, Any]]]]:
    """Edits and accidents that a random history may pass by, those together that lie between two runs."""
    e0, v1, keeping = {"file": 0}, {"file": 6}, "in place keeping dates"
    touch, replace = "touch_a_file_or_restore_it_under_its_old_dates", "replace_a_file"
    move, span, tamper = "move_clips_to_another_participant", "edit_a_span", "tamper_with_a_unit"
    p1 = {"unit": 0}  # of eyes: it holds e0
    bad = ("on_bad_clip", "quarantine", "keep")
    return [
        [(touch, e0 | {"how": "anew keeping dates"}), (touch, v1 | {"how": "in place"})],
        [(replace, e0 | {"content": 20, "how": keeping})],
        [(replace, v1 | {"content": 21, "how": keeping})],
        [("swap_two_clips", {"one": 0, "other": 4, "what": "contents"})],
        [("swap_two_clips", {"one": 0, "other": 4, "what": "cells"})],
        [("swap_two_clips", {"one": 0, "other": 4, "what": "names"})],
        [("rename_a_clip", {"clip": 0, "new": 0})],
        [(span, {"clip": 1, "start": 0.04, "end": None})],
        [(span, {"clip": 1, "start": 0.04, "end": 0.2})],
        [(span, {"clip": 1, "start": None, "end": None})],
        [(move, {"old": 2, "new": "P4", "all_of_them": True})],
        [(move, {"old": 2, "new": "P2", "all_of_them": True})],  # who left comes back
        [("edit_a_cell", {"clip": 0, "column": "eye", "file": None}), ("lose_a_file", v1)],
        [("change_a_setting_or_set_it_back", {"change": bad})],
        [("change_a_setting_or_set_it_back", {"change": bad})],
        [("edit_a_cell", {"clip": 0, "column": "eye", "file": 0}), (replace, v1 | {"content": -1, "how": "anew"})],
        [(replace, v1 | {"content": 3, "how": "anew"})],
        *[[("change_a_setting_or_set_it_back", {"change": change})] for change in SETTINGS if change != bad],
        *[[("edit_code", {"module": module, "version": 1})] for module in EDITS],
        *[[("update_a_library", {"library": library, "version": 1})] for library in LIBRARIES],
        *[[("edit_what_no_number_depends_on", {"what": what})] for what in ("spelling", "remark", "fold")],
        [(tamper, p1 | {"how": "back up"}), (replace, e0 | {"content": 22, "how": "in place"})],
        *[[(tamper, p1 | {"how": how})] for how in ("restored", "deleted", "truncated", "another's", "copied")],
        *[[("lose", {"what": what})] for what in LOSSES],
    ]


@pytest.mark.slow
def test_each_trap_is_seen_for_what_it_is(in_process: InProcess) -> None:
    history = Histories()
    history.runner = history.builder = in_process
    history.begin()
    try:
        history.whole_run(2)
        for traps in each_trap():
            for name, values in traps:
                getattr(history, name)(**values)
            history.whole_run(2)
    finally:
        shutil.rmtree(history.folder)


@pytest.mark.slow
def test_any_history_ends_where_a_clean_build_does(in_process: InProcess) -> None:
    assert play(in_process, in_process, histories=16, length=15) >= 180


@pytest.mark.slow
def test_a_history_through_snakemake_ends_where_a_clean_build_does(in_process: InProcess) -> None:
    assert play(ThroughSnakemake(), in_process, histories=3, length=14) >= 20
