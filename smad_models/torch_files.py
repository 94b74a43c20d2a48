"""State dicts in files that others wrote with `torch.save`: read without running code, each fault in its own words."""

from __future__ import annotations

import errno
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

SMALLEST = 1024  # bytes: no network's weights are below, and what stands in for a lost file is
_WRAPPINGS = ("state_dict", "model_state_dict", "model", "net", "network")  # where training programs put the weights
_WEB_PAGE = re.compile(rb"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)


class StateDict(NamedTuple):
    """Tensors by key, on the CPU, and what had to be taken off to get at them, in words."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]


def read_state_dict(path: Path) -> StateDict:
    """The state dict in a ``.pth`` file of any age of PyTorch, from whatever device it was saved.

    A state dict that lies in a dict of other things, or whose every key begins with ``module.`` (as
    `torch.nn.DataParallel` has it), is taken out of these, and a note says so: what counts are its keys and shapes.

    Raises
    ------
    ValueError
        If the file is anything else; the message says what it is. No code in it is run.
    """
    _refuse_what_stands_in(path)
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            _check_archive(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if code := re.search(r"(?:GLOBAL|function|global) ([\w.]+\.\w+)", str(error)):
            raise ValueError(
                f"{path}: holds code: to be read, {code[1]} would have to be run. It was not; want a plain state dict"
                " of tensors (`torch.save(model.state_dict(), ...)`)"
            ) from None
        raise ValueError(f"{path}: is no file of PyTorch's") from None
    except Exception as error:  # a damaged pickle can trip in any way
        _pass_on(error)
        if isinstance(error, EOFError) or "EOF" in str(error) or "storage" in str(error):
            raise ValueError(f"{path}: is cut short or damaged: it ends before its weights do") from None
        raise ValueError(f"{path}: is no file of PyTorch's, or a damaged one") from None
    return _unwrap(path, found)


def _refuse_what_stands_in(path: Path) -> None:
    """Raise ValueError where a file is only the sign that another was here."""
    if path.is_symlink() and not path.exists():
        raise ValueError(f"{path}: is a link to nothing: {path.readlink()} is not there")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(SMALLEST)
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path}: is a Git LFS pointer of {size} bytes, not the file itself: run `git lfs pull` there")
    if _WEB_PAGE.match(head):
        raise ValueError(f"{path}: is a web page, not the file that it is about: download it again")
    if size < SMALLEST and not head.startswith((b"\x80", b"PK")):  # a small pickle may hold code, and is told so
        raise ValueError(
            f"{path}: {size} bytes cannot be a checkpoint: a placeholder, left in public when the upload was destroyed"
        )


def _check_archive(path: Path) -> None:
    """Raise ValueError unless all of a zip archive is there, its checksums are right, and it is one of PyTorch's."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = archive.testzip()  # torch.load does not look at checksums
    except Exception as error:
        _pass_on(error)
        raise ValueError(f"{path}: is cut short or damaged: a zip archive that cannot be read to its end") from None
    if damaged is not None:
        raise ValueError(f"{path}: is damaged: the checksum of {damaged} in it is wrong")
    parts = {name.partition("/")[2] for name in names}
    if "constants.pkl" in parts:
        raise ValueError(f"{path}: is a TorchScript program: want a plain state dict of tensors")
    if "data.pkl" not in parts:
        raise ValueError(f"{path}: is a zip archive of other files, {names[0] if names else 'none'} first: unpack it")


def _pass_on(error: Exception) -> None:
    """Raise what is the machine's fault and not the file's; a seek to nowhere (EINVAL) is the file's."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno != errno.EINVAL):
        raise error


def _unwrap(path: Path, found: Any) -> StateDict:
    notes = []
    if not isinstance(found, Mapping):
        raise ValueError(f"{path}: want a plain state dict of tensors, got {_kind(found)}")
    if not found:
        raise ValueError(f"{path}: is an empty dict: want a plain state dict of tensors")
    inside = [key for key in found if _is_state_dict(found[key])]
    if not _is_state_dict(found):
        usual = [key for key in inside if key in _WRAPPINGS]
        others = [str(key) for key in found if key not in inside]
        if len(inside) != 1 or not usual:
            many = f"several state dicts, {', '.join(map(repr, inside))}" if len(inside) > 1 else "no state dict"
            kinds = ", ".join(f"{key!r}: {_kind(value)}" for key, value in list(found.items())[:5])
            raise ValueError(f"{path}: want a plain state dict of tensors, got a dict with {many} ({kinds})")
        beside = f", beside {', '.join(others)}" if others else ""
        notes.append(f"its state dict lay under {usual[0]!r}{beside}")
        found = found[usual[0]]
    tensors = {str(key): tensor for key, tensor in found.items()}
    if all(key.startswith("module.") for key in tensors):
        notes.append("`module.` was taken off every key")
        tensors = {key.removeprefix("module."): tensor for key, tensor in tensors.items()}
    return StateDict(tensors, tuple(notes))


def _is_state_dict(found: object) -> bool:
    if not isinstance(found, Mapping) or not found:
        return False
    return all(isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in found.items())


def _kind(found: object) -> str:
    if isinstance(found, Tensor):
        return f"a tensor of shape {tuple(found.shape)}"
    return f"{'an' if type(found).__name__[0] in 'aeiouAEIO' else 'a'} {type(found).__name__}"
