"""What `doctor` says of packages that are missing, doubled, too old, too new, or do not load."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import ROOT
from fake_machine import install, only_programs, write_program

from smad_features import doctor_loading as loading
from smad_features import doctor_packages as packages
from smad_features.config import complete_config
from smad_features.doctor_models import check_models
from smad_features.findings import COMMAND, Finding, ask, examine, size
from smad_features.model_files import MODELS

LOCKED = packages.locked_packages()
WANTED = packages.wanted_packages()
HERE = packages.installed_packages()
NUMBERS = frozenset({"numpy", "av", "mediapipe"})


def commands(finding: Finding) -> list[str]:
    return [line.removeprefix(COMMAND) for line in finding.mend.splitlines() if line.startswith(COMMAND)]


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {one.name: one for one in findings}


def test_what_is_installed_is_read_as_importlib_tells_it_and_the_first_of_two_counts(tmp_path: Path) -> None:
    assert HERE["numpy"] == version("numpy")
    install(tmp_path / "first", "Some_Package", "2.0")
    install(tmp_path / "second", "some-package", "1.0")
    found = packages.installed_packages([str(tmp_path / "first"), str(tmp_path / "second")])
    assert found == {"some-package": "2.0"}


def test_a_folder_that_a_broken_removal_left_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "numpy-2.0.dist-info").mkdir()
    assert packages.installed_packages([str(tmp_path)]) == {}


def test_requirements_are_those_of_the_checkout_and_else_of_the_installed_record(tmp_path: Path) -> None:
    assert any(line.startswith("mediapipe>=1.2,<2") for line in WANTED)
    assert LOCKED["torch"] == "2.13.0"
    assert any(line.startswith("numpy") for line in packages.wanted_packages(tmp_path))
    assert packages.locked_packages(tmp_path) == {}


@pytest.mark.parametrize(
    ("python", "is_64", "state", "said"),
    [
        ((3, 11, 7), True, "ok", "Python 3.11.7"),
        ((3, 10, 2), True, "fault", "Python 3.10.2; want 3.11 or newer"),
        ((3, 12, 0), False, "fault", "32-bit"),
        ((3, 14, 0), True, "warning", "newer than the project was tried with"),
    ],
)
def test_pythons_version_and_width_count(python: tuple[int, ...], is_64: bool, state: str, said: str) -> None:
    found = packages.check_python(python, is_64=is_64)
    assert found.state == state
    assert said in found.found
    assert state == "ok" or commands(found)[0].startswith("make env")


def test_programs_of_an_environment_that_is_not_active_are_told_with_the_line_that_activates_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "my env" / "bin"
    for name in ("smad-features", "smad-models", "snakemake", "flock"):
        write_program(scripts, name, ":")
    (scripts / "activate").touch()
    (scripts.parent / "pyvenv.cfg").touch()
    only_programs(tmp_path / "empty", monkeypatch)
    found = packages.check_programs(scripts=scripts)
    assert found.state == "fault"
    assert "not found: smad-features, smad-models, snakemake" in found.found
    assert commands(found) == [f". '{scripts}/activate'"]
    other = only_programs(tmp_path / "other", monkeypatch, snakemake=":")
    assert f"snakemake is {other}/snakemake" in packages.check_programs(scripts=scripts).found
    (scripts / "activate").unlink()  # as conda has it
    assert commands(packages.check_programs(scripts=scripts)) == [f"export PATH='{scripts}':\"$PATH\""]
    monkeypatch.setenv("PATH", str(scripts))
    assert packages.check_programs(scripts=scripts).state == "ok"
    (scripts / "flock").unlink()
    assert packages.check_programs(scripts=scripts).state == "warning"


def test_packages_from_elsewhere_are_told_with_what_leaves_them_aside(tmp_path: Path) -> None:
    found = packages.check_path(pythonpath="/opt/modules/python")
    assert found.state == "warning"
    assert "PYTHONPATH puts the packages of /opt/modules/python before" in found.found
    assert commands(found) == ["unset PYTHONPATH"]
    assert packages.check_path(user_site=tmp_path).state == "ok"  # nothing lies there
    install(tmp_path, "numpy", "1.26.4")
    assert commands(packages.check_path(user_site=tmp_path)) == ["export PYTHONNOUSERSITE=1"]
    assert packages.check_path(user_site=tmp_path, packages=tmp_path).state == "ok"


def test_what_is_refused_is_not_told_twice() -> None:
    here = HERE | {"numpy": "1.26.4", "mediapipe": "0.10.21"}
    found = packages.check_packages(here, wanted=WANTED, locked=LOCKED, numbers=NUMBERS)
    assert [one.name for one in found] == ["packages"]  # mediapipe has a check of its own


def test_the_packages_of_this_environment_are_right() -> None:
    found = packages.check_packages(HERE, wanted=WANTED, locked=LOCKED, numbers=NUMBERS)
    assert [one.state for one in found] == ["ok"]


def test_a_missing_package_and_one_of_a_wrong_version_are_named_with_what_installs_them() -> None:
    here = {name: number for name, number in HERE.items() if name != "xxhash"} | {"zarr": "2.18.0"}
    [found] = packages.check_packages(here, wanted=WANTED, locked=LOCKED, numbers=NUMBERS)
    assert found.state == "fault"
    assert "not installed: xxhash" in found.found
    assert "zarr 2.18.0 (want >=3.1)" in found.found
    [line] = commands(found)
    assert line.startswith(sys.executable)
    assert line.endswith(f"'xxhash=={LOCKED['xxhash']}' 'zarr=={LOCKED['zarr']}'")


def test_a_machine_without_the_packages_for_models_may_make_features() -> None:
    here = {name: number for name, number in HERE.items() if name not in ("torch", "tensorstore")}
    found = by_name(packages.check_packages(here, wanted=WANTED, locked=LOCKED, numbers=NUMBERS))
    assert found["packages"].state == "ok"
    assert found["packages for models"].state == "warning"
    assert "tensorstore, torch" in found["packages for models"].found


def test_another_version_that_works_but_changes_numbers_is_a_warning() -> None:
    here = HERE | {"numpy": "2.1.0"}
    found = by_name(packages.check_packages(here, wanted=WANTED, locked=LOCKED, numbers=NUMBERS))
    assert found["packages"].state == "ok"
    assert f"numpy 2.1.0 (tested: {LOCKED['numpy']})" in found["tested versions"].found
    assert commands(found["tested versions"])[0].endswith(f"'numpy=={LOCKED['numpy']}'")


def test_a_build_for_an_accelerator_is_the_same_version() -> None:
    here = HERE | {"torch": f"{LOCKED['torch']}+cu130"}
    found = packages.check_packages(here, wanted=WANTED, locked=LOCKED, numbers=frozenset({"torch"}))
    assert [one.name for one in found] == ["packages"]


def test_two_opencv_wheels_are_named_and_both_are_removed_before_one_is_installed() -> None:
    found = loading.check_opencv(HERE | {"opencv-python": "4.11.0.86"}, locked=LOCKED)
    assert found.state == "fault"
    assert "2 packages bring OpenCV" in found.found
    assert "opencv-contrib-python-headless, opencv-python" in found.found
    remove, put = commands(found)
    assert remove.endswith("uninstall -y opencv-contrib-python-headless opencv-python")
    assert put.endswith(f"--force-reinstall 'opencv-contrib-python-headless=={LOCKED[packages.HEADLESS]}'")


def test_no_opencv_is_told() -> None:
    found = loading.check_opencv({}, locked=LOCKED)
    assert (found.state, found.found) == ("fault", "OpenCV is not installed")
    assert len(commands(found)) == 1


@pytest.mark.parametrize("library", ["libGL.so.1", "libgthread-2.0.so.0"])
def test_an_opencv_that_wants_a_screen_is_told_with_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    broken = f"raise ImportError('{library}: cannot open shared object file: No such file or directory')"
    (tmp_path / "cv2.py").write_text(broken, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = loading.check_opencv({"opencv-contrib-python": "5.0.0.93"}, locked=LOCKED)
    assert found.state == "fault"
    assert f"it needs {library}" in found.found
    assert commands(found)[0].endswith("uninstall -y opencv-contrib-python")
    assert commands(found)[-1] == "sudo apt-get install -y libgl1 libglib2.0-0"


def test_an_opencv_that_does_not_load_for_another_reason_says_its_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('numpy.core.multiarray failed to import')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = loading.check_opencv({packages.HEADLESS: "5.0.0.93"}, locked=LOCKED)
    assert found.state == "fault"
    assert "ImportError: numpy.core.multiarray failed to import" in found.found


@pytest.fixture
def broken_mediapipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mediapipe.py").write_text("raise OSError('libEGL.so.1: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("broken_mediapipe")
def test_a_mediapipe_without_libegl_names_the_package_of_the_system() -> None:
    found = loading.check_mediapipe({"mediapipe": "1.2.2"}, locked=LOCKED)
    assert found.state == "fault"
    assert "libEGL.so.1" in found.found
    assert commands(found)[0].startswith("sudo apt-get install -y --no-install-recommends libegl1")


def test_an_old_mediapipe_is_refused_by_its_generation() -> None:
    found = loading.check_mediapipe({"mediapipe": "0.10.21"}, locked=LOCKED)
    assert found.state == "fault"
    assert "0.10.21 is of the old generation (`mediapipe.solutions`)" in found.found
    assert commands(found)[0].endswith(f"'mediapipe=={LOCKED['mediapipe']}'")
    assert loading.check_mediapipe({}, locked=LOCKED).state == "fault"


def test_a_mediapipe_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_LOADS_WITHIN", 0.2)
    python = write_program(tmp_path, "python", 'case "$*" in *mediapipe*) exec sleep 60;; esac')
    found = loading.check_mediapipe({"mediapipe": "1.2.2"}, locked=LOCKED, python=str(python))
    assert found.state == "fault"
    assert "no answer within 0.2 s" in found.found


def test_the_ffmpeg_of_this_environment_decodes_what_laboratories_have() -> None:
    found = loading.check_codecs(locked=LOCKED)
    assert found.state == "ok"
    assert "H.264" in found.found
    assert "ProRes" in found.found


def test_a_codec_that_is_missing_is_named_with_what_that_means() -> None:
    found = loading.check_codecs(locked=LOCKED, codecs={"H.264": ("h264",), "Smell-O-Vision": ("smell", "odour")})
    assert found.state == "warning"
    assert "cannot decode Smell-O-Vision" in found.found
    assert "quarantined" in found.mend
    assert loading.check_codecs(locked=LOCKED, codecs={"H.264": ("not-this",)}).state == "fault"


def test_a_pyav_that_does_not_load_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "av.py").write_text("raise ImportError('libavcodec.so.61: cannot open')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = loading.check_codecs(locked=LOCKED)
    assert found.state == "fault"
    assert "libavcodec.so.61" in found.found


def test_snakemake_and_its_plugin_are_held_against_what_was_tried() -> None:
    def states(here: dict[str, str]) -> list[str]:
        return [one.state for one in packages.check_snakemake(here, wanted=WANTED, locked=LOCKED)]

    assert states(HERE) == ["ok", "ok"]
    assert states({}) == ["fault", "warning"]
    assert states(HERE | {"snakemake": "8.30.0", packages.PLUGIN: "2.1.0"}) == ["fault", "warning"]
    old, plugin = packages.check_snakemake(
        HERE | {"snakemake": "8.30.0", packages.PLUGIN: "2.1.0"}, wanted=WANTED, locked=LOCKED
    )
    assert "Snakemake 8.30.0: want <10,>=9.27" in old.found
    assert "tried with ==2.8.0 alone" in plugin.found


def face(**settings: str) -> dict[str, object]:
    return complete_config({"face": settings})["face"]


def test_models_that_are_not_there_yet_are_a_warning_that_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMAD_MODELS", str(tmp_path / "models"))
    found = check_models(face())
    assert found.state == "warning"
    assert f"{tmp_path}/models/face_landmarker.task is not there" in found.found
    assert 'find_model("landmarker"); find_model("full_range")' in commands(found)[0]
    assert MODELS["landmarker"].url in found.mend
    assert "pip download --no-deps mediapipe==0.10.21" in found.mend


def test_a_model_that_the_configuration_names_must_be_there(tmp_path: Path) -> None:
    found = check_models(face(model_file=str(tmp_path / "mine.task")))
    assert found.state == "fault"
    assert f"`face.model_file`: {tmp_path}/mine.task is not there" in found.found


def test_a_model_of_another_content_is_a_fault_with_the_line_that_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMAD_MODELS", str(tmp_path))
    (tmp_path / MODELS["detector"].name).write_bytes(b"<html>Access denied</html>")
    found = check_models(face(model="detector", range="short"))
    assert found.state == "fault"
    assert f"want sha256 {MODELS['detector'].sha256}" in found.found
    assert commands(found) == [f"rm {tmp_path}/{MODELS['detector'].name}"]


def test_models_that_are_right_or_not_needed_are_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMAD_MODELS", str(tmp_path))
    (tmp_path / MODELS["detector"].name).write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of no bytes at all
    monkeypatch.setitem(MODELS, "detector", replace(MODELS["detector"], sha256=empty))
    assert check_models(face(model="detector", range="short")).state == "ok"
    assert check_models(face(align="none")).state == "skipped"


def test_a_check_that_breaks_is_a_fault_that_names_the_error_and_hides_no_other() -> None:
    def broken() -> Finding:
        raise ZeroDivisionError("division by zero")

    [found] = examine("arithmetic", broken)
    assert (found.name, found.state) == ("arithmetic", "fault")
    assert "ZeroDivisionError: division by zero" in found.found


def test_a_program_that_is_not_there_or_says_nothing_is_an_answer_and_no_error(tmp_path: Path) -> None:
    assert "cannot be started: No such file" in ask([str(tmp_path / "nothing")]).last
    silent = write_program(tmp_path, "silent", "exit 3")
    assert ask([str(silent)]).last == "exit status 3, without a word"


def test_bytes_are_said_in_words() -> None:
    assert [size(n) for n in (0, 999, 1500, 25.3e9, 2.5e15)] == ["0 B", "999 B", "1.5 kB", "25.3 GB", "2500.0 TB"]


def test_the_project_itself_lies_where_the_lock_is_looked_for() -> None:
    assert packages.CHECKOUT == ROOT
