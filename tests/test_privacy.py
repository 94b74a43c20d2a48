"""What is made of persons is for the user alone, unless the configuration says otherwise; a new mode reruns nothing."""

import json
import os
import stat
from collections import Counter
from pathlib import Path

import pytest
import xarray
from conftest import run_features, run_workflow
from small_study import configure, write_study

from smad_features.privacy import apply_mode, folder_mode, make_with, umask_kept
from smad_models.cli import main as models


def modes(folder: Path, *names: str) -> Counter[tuple[str, str]]:
    """How many files and folders there are of each mode; links have none of their own."""
    paths = [path for name in names for path in [folder / name, *(folder / name).rglob("*")] if not path.is_symlink()]
    return Counter(("folder" if path.is_dir() else "file", oct(stat.S_IMODE(path.stat().st_mode))) for path in paths)


@pytest.fixture
def usual_umask() -> object:
    """What most systems give: everybody may read."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.slow
def test_files_are_private_and_another_mode_is_given_to_what_is_there_and_reruns_nothing(
    tmp_path: Path, usual_umask: object
) -> None:
    folder = write_study(tmp_path)
    run = run_workflow(folder, "features")
    assert run.returncode == 0, run.output
    made = ("results", "logs", ".smad", ".snakemake")
    assert {mode for _, mode in modes(folder, *made[:3])} == {"0o600", "0o700"}
    assert oct(stat.S_IMODE((folder / ".snakemake").stat().st_mode)) == "0o700"
    cache = xarray.open_zarr(folder / "results/cache.zarr", consolidated=False)
    assert "may not be passed on" in cache.attrs["terms"]

    configure(folder, cache={"mode": "0640"})
    run = run_workflow(folder, "features")
    assert run.returncode == 0, run.output
    assert run.jobs == Counter()
    assert {mode for _, mode in modes(folder, *made[:3])} == {"0o640", "0o750"}
    assert run_features(folder, "status", "--configfile", "config.yaml").returncode == 0
    assert json.loads((folder / ".smad/config.json").read_text())["cache"]["mode"] == "0640"


def test_a_command_by_hand_makes_private_files_too(
    tmp_path: Path, usual_umask: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_study(tmp_path, clips=2)
    assert run_features(folder, "eyes", "P1", "--configfile", "config.yaml").returncode == 0
    manifest = "clip\tparticipant\tstatus\na\tP1\tok\nb\tP2\tok\n"
    (folder / "clips_out.tsv").write_text(manifest)
    monkeypatch.chdir(folder)
    for mode in ("0600", "0640"):
        output = folder / mode / "folds.tsv"
        assert models(["folds", "--manifest", "clips_out.tsv", "--count", "2", "--output", str(output)]) == 0
        assert oct(stat.S_IMODE(output.stat().st_mode)) == f"0o{mode[1:]}"
        (folder / ".smad").mkdir(exist_ok=True)
        (folder / ".smad/config.json").write_text('{"cache": {"mode": "0640"}}')  # as the workflow leaves it
    assert oct(stat.S_IMODE((folder / "results/eyes/P1.zarr.zip").stat().st_mode)) == "0o600"
    (folder / "later").write_text("")  # in this very process the umask is as it was
    assert oct(stat.S_IMODE((folder / "later").stat().st_mode)) == "0o644"


@pytest.mark.parametrize(("mode", "folders"), [("0600", 0o700), ("0640", 0o750), ("0660", 0o770), ("0664", 0o775)])
def test_a_folder_may_be_entered_by_whoever_may_read(tmp_path: Path, mode: str, folders: int) -> None:
    assert folder_mode(mode) == folders
    with umask_kept():
        make_with(mode)
        (tmp_path / "new").mkdir()
        (tmp_path / "new/file").write_text("")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/file").write_text("")
    (tmp_path / "old/link").symlink_to(tmp_path)
    apply_mode(tmp_path / "old", mode)
    for name in ("new", "old"):
        assert modes(tmp_path, name) == {("folder", oct(folders)): 1, ("file", f"0o{mode[1:]}"): 1}
