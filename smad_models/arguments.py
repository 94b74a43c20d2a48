"""What the commands' arguments have in common, and the small readers behind them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path("results")
CACHE = RESULTS / "cache.zarr"
FOLDS = RESULTS / "folds.tsv"
LABELS = Path("config/labels.tsv")
SETTINGS = Path(".smad/config.json")  # of the last run of the workflow here
TASKS = ("emotion", "valence", "arousal", "intensity")
KEY = "key file: the digest of all else that the result depends on"

Command = Callable[..., argparse.ArgumentParser]  # (name, run, text) -> the parser of a command's own arguments


def add_path(
    sub: argparse.ArgumentParser, name: str, default: Path | None, text: str, *, required: bool = False
) -> None:
    """Add ``--name PATH``, with its default said in the help."""
    shown = "" if default is None else f"; default: {default}"
    sub.add_argument(f"--{name}", type=Path, default=default, required=required, help=text + shown)


def add_cache(sub: argparse.ArgumentParser, default: Path | None, text: str) -> None:
    """Add ``--cache``: a path, or s3://bucket/prefix/cache.zarr, which no path can hold."""
    shown = "" if default is None else f"; default: {default}"
    sub.add_argument("--cache", type=_place, default=default, metavar="PATH|S3", help=text + shown)


def _place(text: str) -> Any:
    from smad_models.cache_files import place  # imports TensorStore, which --help need not wait for

    return place(text) if "://" in text else Path(text)


def add_computing(sub: argparse.ArgumentParser) -> None:
    """Add what every command with a network needs: cache, folds, key, threads and device."""
    add_cache(sub, CACHE, "the packed cache")
    add_path(sub, "folds", FOLDS, "who is tested in which fold")
    add_path(sub, "key", None, KEY)
    sub.add_argument("--threads", type=int, default=None, help="processor threads; default: all")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...; predict: several, by commas")


def listed(allowed: Sequence[str], *, every: str | None = None) -> Callable[[str], list[str]]:
    """A parser of words separated by commas, each one of ``allowed``; ``every`` stands for all of them."""

    def parse(text: str) -> list[str]:
        words = allowed if text == every else text.split(",")
        if unknown := [word for word in words if word not in allowed]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(allowed)}")
        return [word for word in allowed if word in words]

    return parse


def names(text: str) -> tuple[str, ...]:
    """Words separated by commas."""
    return tuple(name for name in text.split(",") if name)


def whole(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def chosen(options: argparse.Namespace, wanted: Sequence[str]) -> dict[str, Any]:
    """Some of the options, to be handed on by name."""
    return {name: getattr(options, name) for name in wanted}


def setting(name: str, default: Any) -> Any:
    """A setting of the workflow's last run here; the default where there was none."""
    try:
        return json.loads(SETTINGS.read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError, TypeError):
        return default


def read_key(options: argparse.Namespace) -> str:
    """The digest in the key file; empty = none was handed over."""
    return "" if options.key is None else options.key.read_text(encoding="utf-8").split()[0]
