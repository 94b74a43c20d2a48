"""Two networks never share a card by accident: each process takes one that is free."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment

TAKE = "from smad_models.cards import take_card; print(take_card({count}), flush=True); input()"


def begin(folder: Path, *, count: int) -> tuple[subprocess.Popen[str], int]:
    """A process that takes one of ``count`` cards and holds it until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE.format(count=count)],
        cwd=folder,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_each_process_takes_a_card_that_is_free_and_gives_it_back_when_it_ends(tmp_path: Path) -> None:
    (tmp_path / ".smad").mkdir()
    first, a = begin(tmp_path, count=2)
    second, b = begin(tmp_path, count=2)
    third, c = begin(tmp_path, count=2)
    assert (a, b, c) == (0, 1, 0)
    assert "none of 2 GPUs is known to be free" in third.communicate("\n")[1]
    assert second.communicate("\n")[1] == ""
    fourth, d = begin(tmp_path, count=2)
    assert d == 1
    for process in (first, fourth):
        process.communicate("\n")


@pytest.mark.parametrize(("count", "has_folder"), [(1, True), (2, False)])
def test_one_card_or_a_folder_without_a_workflow_needs_no_turns(tmp_path: Path, count: int, has_folder: bool) -> None:
    if has_folder:
        (tmp_path / ".smad").mkdir()
    taken = [begin(tmp_path, count=count) for _ in range(2)]
    assert [card for _, card in taken] == [0, 0]
    assert not list(tmp_path.glob("**/*.lock"))
    for process, _ in taken:
        process.communicate("\n")
