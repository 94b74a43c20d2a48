"""What makes a unit stale, what does not, and in which words."""

import copy
import os
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from smad_features import fingerprints, freshness, turns
from smad_features.config import complete_config
from smad_features.fingerprints import Fingerprints
from smad_features.freshness import STAGES, explain, next_key
from smad_features.manifest import Clip


def digest(source: str) -> str:
    return fingerprints.digest_source(textwrap.dedent(source))


CODE = '''
    """A module."""
    import os

    def f(x):
        """What it does."""
        return f"{x + 1} of {os.name}"  # why
'''


def test_comments_docstrings_and_formatting_are_not_code() -> None:
    other = '''
        """Another text."""
        # a comment
        import os


        def f(
            x,
        ):
            return (f'{x + 1} of {os.name}')
    '''
    assert digest(CODE) == digest(other)


@pytest.mark.parametrize(
    ("old", "new"), [("x + 1", "x + 2"), ("def f", "def g"), ("return f", "return "), (" of ", " or "), ("1}", "1:d}")]
)
def test_anything_else_is_code(old: str, new: str) -> None:
    assert digest(CODE) != digest(CODE.replace(old, new))


def test_indentation_is_code() -> None:
    assert digest("if a:\n    b()\nc()\n") != digest("if a:\n    b()\n    c()\n")


def test_a_string_that_is_no_docstring_is_code() -> None:
    assert digest("x = 1\n'a'\n") != digest("x = 1\n'b'\n")


def record(config: dict[str, Any], clips: list[Clip]) -> dict[str, Any]:
    stage = STAGES["faces"]
    return freshness.unit_record(
        stage, "P1", clips, freshness.common_record(stage, complete_config(config)), Fingerprints(None)
    )


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    (tmp_path / "a.mp4").write_bytes(b"one")
    return [Clip("a", "P1", tmp_path / "a.mp4", start=0.0, end=2.0), Clip("b", "P1")]


def test_the_same_bytes_elsewhere_under_another_date_are_the_same(clips: list[Clip], tmp_path: Path) -> None:
    before = record({}, clips)
    (tmp_path / "elsewhere.mp4").write_bytes(b"one")
    os.utime(tmp_path / "elsewhere.mp4", (0, 0))
    moved = [Clip("a", "P1", tmp_path / "elsewhere.mp4", start=0.0, end=2.0), clips[1]]
    assert record({}, moved) == before
    assert explain(before, record({}, moved)) == []


def test_settings_of_other_stages_and_the_place_of_the_model_file_do_not_count(clips: list[Clip]) -> None:
    before = record({}, clips)
    assert record({"eye": {"max_gap": 0.5}, "face": {"model_file": "/elsewhere/x.task"}}, clips) == before
    assert record({"on_bad_clip": "keep", "tasks": ["valence"], "report": {"show_clips": True}}, clips) == before


def test_each_cause_is_named(clips: list[Clip], tmp_path: Path) -> None:
    before = record({"face": {"margin": 0.25}}, clips)
    assert explain(None, before) == ["not made yet"]
    after = record({"face": {"margin": 0.3}}, clips)
    assert explain(before, after) == ["setting `face.margin`: 0.25 -> 0.3"]
    (tmp_path / "a.mp4").write_bytes(b"two")
    after = record({"face": {"margin": 0.25}}, [clips[0], Clip("c", "P1")])
    assert explain(before, after) == ["content of `clip a` changed", "clip b was removed", "clip c was added"]
    assert explain(before, after, names={"a": "P1/a.mp4"})[0] == "content of `P1/a.mp4` changed"
    later = [Clip("a", "P1", clips[0].video, start=0.5, end=2.0), clips[1]]
    assert "start of clip a: 0.0 -> 0.5" in explain(before, record({"face": {"margin": 0.25}}, later))
    other = copy.deepcopy(before)
    other["code"]["smad_features.faces"] = "another"
    other["libraries"]["mediapipe"] = "0.9"
    other["models"]["landmarker"] = "another"
    assert explain(other, before) == [
        "code of `smad_features.faces` changed",
        f"library mediapipe: 0.9 -> {fingerprints.library_version('mediapipe')}",
        "the landmarker model changed",
    ]


def test_a_file_that_is_not_there_or_may_not_be_read_is_a_value(tmp_path: Path) -> None:
    assert Fingerprints(None).of(tmp_path / "nothing") == fingerprints.ABSENT
    assert Fingerprints(None).of(tmp_path / "nothing" / "below") == fingerprints.ABSENT


def test_a_folder_is_its_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"1")
    first = Fingerprints(None).of(folder)
    (folder / "1.jpg").rename(folder / "2.jpg")
    second = Fingerprints(None).of(folder)
    (folder / "2.jpg").write_bytes(b"2")
    assert len({first, second, Fingerprints(None).of(folder)}) == 3


def test_the_memory_of_contents_is_used_and_forgets_what_changed_just_now(tmp_path: Path, monkeypatch: Any) -> None:
    read: list[Path] = []
    monkeypatch.setattr(fingerprints, "hash_file", lambda path: read.append(path) or f"xxh3:{path.read_bytes()!r}")
    file, database = tmp_path / "a.mp4", tmp_path / ".smad/memory.sqlite"
    file.write_bytes(b"one")
    memory = Fingerprints(database)
    memory.of(file)
    memory.of(file)
    assert len(read) == 2  # written a moment ago: it may change again within a tick of the clock
    now = time.time()
    monkeypatch.setattr(fingerprints.time, "time", lambda: now + 10)
    first = memory.of(file)
    assert not database.parent.exists()  # only read until it is saved
    memory.save()
    assert Fingerprints(database).of(file) == first
    assert len(read) == 3
    file.write_bytes(b"two")
    os.utime(file, (now - 100, now - 100))  # another content under an old date
    assert Fingerprints(database).of(file) != first


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_a_damaged_memory_is_as_good_as_none(tmp_path: Path, monkeypatch: Any, content: bytes, capsys: Any) -> None:
    file, database = tmp_path / "a.mp4", tmp_path / "memory.sqlite"
    file.write_bytes(b"one")
    database.write_bytes(content)
    now = time.time()
    monkeypatch.setattr(fingerprints.time, "time", lambda: now + 10)
    memory = Fingerprints(database)
    first = memory.of(file)
    memory.save()
    assert "read anew" in capsys.readouterr().err
    monkeypatch.setattr(fingerprints, "hash_file", lambda path: "not remembered")
    assert Fingerprints(database).of(file) == first


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert Fingerprints(None).of(tmp_path / "pipe") == "no regular file"


def test_odd_paths_are_absent(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert Fingerprints(None).of(tmp_path / "loop") == fingerprints.ABSENT
    assert Fingerprints(None).of(tmp_path / ("x" * 300)) == fingerprints.ABSENT


def test_a_key_changes_only_when_there_is_work(tmp_path: Path) -> None:
    key = tmp_path / "P1.key"
    assert next_key(key, "a", made=None) == "a\n"
    key.write_text("a\n")
    assert next_key(key, "a", made=None) is None
    assert next_key(key, "a", made="a") is None
    assert next_key(key, "b", made="b") == "b\n"
    again = next_key(key, "a", made="b")  # restored from a backup: the key is right, the product is not
    assert again is not None
    assert again.split()[0] == "a"
    assert again != "a\n"


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    with turns.hold_lock(tmp_path / "lock"), pytest.raises(BlockingIOError, match=f"process {os.getpid()}"):
        turns.hold_lock(tmp_path / "lock")
    turns.hold_lock(tmp_path / "lock").close()
