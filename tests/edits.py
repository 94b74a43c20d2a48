"""What may happen to a tree of clips between two runs: rules of a state machine, each an edit or an accident."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from histories import DAMAGED, EDITS, LIBRARIES, Row, Tree, Unit
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from runners import InProcess, ThroughSnakemake


def some(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from(text.split(", "))


NUMBER = st.integers(0, 7)
PARTICIPANT = st.sampled_from(["P1", "P2", "P3", "P4"])
CONTENT = st.integers(-1, 9)
SETTINGS = [
    ("face.align", "none", "template"), ("face.margin", 0.0, 0.25), ("face.frames", 2, 3),
    ("face.model_file", None, "elsewhere.task"), ("video.frame_rate", 25, 20), ("eye.steps", 4, 5),
    ("eye.max_gap", 0.075, 0.01), ("eye.method", "mean", "draw"), ("on_bad_clip", "quarantine", "keep"),
    ("tasks", ["valence"], ["arousal"]), ("train.epochs", 3, 4),
]  # fmt: skip
LOSSES = ["cache.json", "cache.zarr", "cache.zarr/", "clips.tsv", "quality.tsv", ".smad", ".snakemake", "results"]


def edit(**strategies: Any) -> Any:
    """A rule that edits: a few of them, then a run must come."""
    return lambda function: precondition(lambda self: self.edits < 3)(rule(**strategies)(function))


class Edits(RuleBasedStateMachine):
    """A tree, and all that may be done to it; who adds runs says in `finish` how a history ends."""

    runner: InProcess | ThroughSnakemake
    steps = 0

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="smad-history-"))
        self.tree = Tree(self.folder)
        self.tree.begin()
        self.backups: dict[Unit, tuple[bytes, Any, int]] = {}
        self.edits = 0  # since the last run
        self.left: set[Unit] = set()  # jobs that killed runs began: they may run again, whatever they have done
        type(self).steps -= 1  # the state before the first step is looked at too
        self.facts: Any = None  # of the last whole run, while its products were let alone

    @invariant()
    def count(self) -> None:
        type(self).steps += 1
        self.edits += 1

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        try:
            if sys.exc_info()[0] is None:
                self.finish()
        finally:
            shutil.rmtree(self.folder)

    def finish(self) -> None:
        """The last run."""
        raise NotImplementedError

    def nth_clip(self, n: int) -> str:
        return sorted(self.tree.rows)[n % len(self.tree.rows)]

    def nth_file(self, n: int) -> str:
        return sorted(self.tree.contents)[n % len(self.tree.contents)]

    def nth_unit(self, n: int) -> Unit:
        units = sorted(self.tree.made) or [("eyes", "P1")]
        return units[n % len(units)]

    @edit(clip=NUMBER, participant=PARTICIPANT, video=NUMBER, eye=NUMBER)
    def add_or_overwrite_a_row(self, clip: int, participant: str, video: int, eye: int) -> None:
        self.tree.rows[f"c{clip}"] = Row(participant, f"v{video}", f"e{eye}.tsv")
        self.tree.write()

    @edit(clip=NUMBER)
    def remove_a_clip(self, clip: int) -> None:
        if len(self.tree.rows) > 1:
            del self.tree.rows[self.nth_clip(clip)]
        self.tree.write()

    @edit(file=NUMBER | st.integers(8, 20), content=CONTENT, how=some("in place, anew, in place keeping dates"))
    def replace_a_file(self, file: int, content: int, how: str) -> None:
        self.tree.write_file(self.nth_file(file), content, how=how)

    @edit(file=NUMBER | st.integers(8, 20), how=some("in place, anew, anew keeping dates"))
    def touch_a_file_or_restore_it_under_its_old_dates(self, file: int, how: str) -> None:
        name = self.nth_file(file)
        self.tree.write_file(name, self.tree.contents[name], how=how)

    @edit(file=NUMBER | st.integers(8, 20))
    def lose_a_file(self, file: int) -> None:
        self.tree.write_file(self.nth_file(file), None)

    @edit(one=NUMBER, other=NUMBER, what=some("contents, cells, names"))
    def swap_two_clips(self, one: int, other: int, what: str) -> None:
        a, b = self.nth_clip(one), self.nth_clip(other)
        rows = self.tree.rows
        if what == "names":
            rows[a], rows[b] = rows[b], rows[a]
        elif what == "cells":
            a_eye, b_eye = rows[a].eye, rows[b].eye
            self.tree.change_row(a, eye=b_eye)
            self.tree.change_row(b, eye=a_eye)
        elif (files := (rows[a].video, rows[b].video)) and None not in files:
            contents = [self.tree.contents.get(file) for file in files]
            for file, content in zip(files, reversed(contents), strict=True):
                self.tree.write_file(file, content, how="in place keeping dates")
        self.tree.write()

    @edit(clip=NUMBER, new=NUMBER)
    def rename_a_clip(self, clip: int, new: int) -> None:
        row = self.tree.rows.pop(self.nth_clip(clip))
        self.tree.rows[f"c{new}"] = row
        self.tree.write()

    @edit(old=NUMBER, new=PARTICIPANT, all_of_them=st.booleans())
    def move_clips_to_another_participant(self, old: int, new: str, all_of_them: bool) -> None:
        first = self.nth_clip(old)
        participant = self.tree.rows[first].participant
        for clip, row in self.tree.rows.items():
            if clip == first or (all_of_them and row.participant == participant):
                self.tree.change_row(clip, participant=new)
        self.tree.write()

    @edit(clip=NUMBER, start=st.sampled_from([None, 0.0, 0.04]), end=st.sampled_from([None, 0.2, 0.28]))
    def edit_a_span(self, clip: int, start: float | None, end: float | None) -> None:
        self.tree.change_row(self.nth_clip(clip), start=start, end=end)
        self.tree.write()

    @edit(clip=NUMBER, column=some("video, eye"), file=st.none() | NUMBER)
    def edit_a_cell(self, clip: int, column: str, file: int | None) -> None:
        name = None if file is None else f"v{file}" if column == "video" else f"e{file}.tsv"
        self.tree.change_row(self.nth_clip(clip), **{column: name})
        self.tree.write()

    @edit(change=st.sampled_from(SETTINGS))
    def change_a_setting_or_set_it_back(self, change: tuple[str, Any, Any]) -> None:
        key, one, other = change
        if key == "face.align" and not self.runner.has_any_face:
            return
        self.tree.settings[key] = other if self.tree.settings[key] == one else one
        self.tree.write()

    @edit(what=some("spelling, fold, remark"))
    def edit_what_no_number_depends_on(self, what: str) -> None:
        if what == "spelling":
            self.tree.spelling += 1
        elif what == "remark":
            self.tree.remarks += 1
        else:
            self.tree.fold = "2" if self.tree.fold == "1" else "1"
        self.tree.write()

    @edit(module=st.sampled_from(sorted(EDITS)), version=st.integers(0, 2))
    def edit_code(self, module: str, version: int) -> None:
        self.tree.code[module] = version

    @precondition(lambda self: self.runner.can_update_libraries)
    @edit(library=st.sampled_from(sorted(LIBRARIES)), version=st.integers(0, 2))
    def update_a_library(self, library: str, version: int) -> None:
        self.tree.libraries[library] = version

    @edit(
        unit=NUMBER,
        how=some("deleted, truncated, another's, back up, back up, restored, restored, copied, dated tomorrow"),
    )
    def tamper_with_a_unit(self, unit: int, how: str) -> None:
        self.facts = None
        one, other = self.nth_unit(unit), self.nth_unit(unit + 1)
        path, made = self.tree.unit(one), self.tree.made
        if how == "restored":  # under its old date
            for key, (content, was, date) in self.backups.items():
                self.tree.unit(key).parent.mkdir(parents=True, exist_ok=True)
                self.tree.unit(key).write_bytes(content)
                os.utime(self.tree.unit(key), ns=(date, date))
                made[key] = was
        elif not path.exists():
            return
        elif how == "deleted":
            path.unlink()
            del made[one]
        elif how == "truncated":
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
            made[one] = DAMAGED
        elif how == "another's" and self.tree.unit(other).exists():
            shutil.copyfile(self.tree.unit(other), path)
            made[one] = made[other]
        elif how == "back up":
            self.backups[one] = (path.read_bytes(), made[one], path.stat().st_mtime_ns)
        elif how == "dated tomorrow":
            os.utime(path, (time.time() + 86400,) * 2)
        elif how == "copied":
            shutil.copyfile(path, path.with_suffix(".copy"))
            path.with_suffix(".copy").replace(path)

    @edit(what=st.sampled_from(LOSSES))
    def lose(self, what: str) -> None:
        self.facts = None
        results = self.tree.live / "results"
        path = self.tree.live / what if what in (".smad", ".snakemake", "results") else results / what.rstrip("/")
        if what.endswith("/"):
            path = path.resolve()
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        if what == "results":
            self.tree.made.clear()
