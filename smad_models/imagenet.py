"""The face backbone's public starting weights: torchvision's ResNet-18 of ImageNet, fetched once and checked.

They are torchvision's `ResNet18_Weights.IMAGENET1K_V1` (BSD-3-Clause), trained on ImageNet-1k; He et al. 2016.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from smad_models.checkpoints import digest_file

IMAGENET = "imagenet"  # what a user writes instead of a file


@dataclass(frozen=True)
class PublicFile:
    """A file as we know it, and where it comes from."""

    name: str
    sha256: str
    size: int  # bytes
    url: str


RESNET18 = PublicFile(
    name="resnet18-f37072fd.pth",
    sha256="f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    size=46_830_571,
    url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
)


def cache_folder() -> Path:
    """The user's cache of model files: $SMAD_MODELS, else smad/models in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("SMAD_MODELS")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smad" / "models"


def find_backbone(asked: str | Path | None) -> Path | None:
    """The file to start the face backbone from: the one asked for, ``imagenet`` for the public one, None for none.

    Raises
    ------
    FileNotFoundError
        If the file is not there, or not to be had; the message says what to put where.
    ValueError
        If the public file is not the one whose sha256 we know.
    """
    if asked is None:
        return None
    if str(asked) != IMAGENET:
        if not Path(asked).is_file():
            raise FileNotFoundError(f"backbone {asked}: no such file (`{IMAGENET}` fetches the public one)")
        return Path(asked)
    path = cache_folder() / RESNET18.name
    if not path.is_file():
        with _one_at_a_time(path):
            if not path.is_file():
                _fetch(path)
    if (found := digest_file(path)) != RESNET18.sha256:
        raise ValueError(
            f"{path}: not the file that this version knows: want sha256 {RESNET18.sha256} ({RESNET18.size} bytes), "
            f"found {found} ({path.stat().st_size} bytes). Delete it and {_how_to(path)}"
        )
    return path


def _fetch(path: Path) -> None:
    """Download into ``.part`` beside ``path``, going on where an earlier try broke off; it is checked, then renamed."""
    part = path.with_name(f"{path.name}.part")
    print(f"fetching {RESNET18.name} from {RESNET18.url} (once; kept in {path.parent})", file=sys.stderr, flush=True)
    try:
        _download(part)
    except (OSError, http.client.HTTPException) as error:
        if not isinstance(error, urllib.error.URLError | http.client.HTTPException | TimeoutError | ConnectionError):
            raise  # of the disk, not of the network
        have = f"; {part.stat().st_size} of {RESNET18.size} bytes are kept" if part.exists() else ""
        raise FileNotFoundError(
            f"cannot fetch {RESNET18.name} from {RESNET18.url}: {error}{have}. {_how_to(path)}"
        ) from error
    if (found := digest_file(part)) != RESNET18.sha256:
        size = part.stat().st_size
        part.unlink()
        raise ValueError(
            f"{RESNET18.url} gave another file: want sha256 {RESNET18.sha256} ({RESNET18.size} bytes), "
            f"found {found} ({size} bytes). {_how_to(path)}"
        )
    part.replace(path)


def _download(part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= RESNET18.size:
        return
    request = urllib.request.Request(RESNET18.url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        goes_on = have and answer.status == http.HTTPStatus.PARTIAL_CONTENT
        with part.open("ab" if goes_on else "wb") as file:
            while block := answer.read(1 << 20):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    if (size := part.stat().st_size) < RESNET18.size:
        raise http.client.IncompleteRead(b"", RESNET18.size - size)


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[IO[bytes]]:
    """Twelve trainings may begin together: one fetches, the others wait for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _how_to(path: Path) -> str:
    return (
        f"Download {RESNET18.url} on a machine with internet access and put it at {path}, "
        "or name a file of your own (`--backbone FILE`, `train.backbone`)"
    )
