"""A machine that is otherwise than this one: programs that answer as told, packages that are said to be installed."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFIG = "AuthType                = auth/munge\nMinJobAge               = {age} sec\n"
CLUSTER = {
    "scontrol": "echo 'MinJobAge               = 300 sec'",
    "sinfo": 'case "$*" in *-N*) echo n1; echo n2;; *) echo "work*|up|1-00:00:00|2|(null)|idle";; esac',
    "squeue": ":",
    "sacct": ":",
    "sbatch": ":",
    "scancel": ":",
    "srun": "exit 1",
}


def write_program(folder: Path, name: str, script: str) -> Path:
    """A program of one line of shell."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def only_programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> Path:
    """From now on these programs are all that there is on PATH."""
    for name, script in scripts.items():
        write_program(folder, name, script)
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(folder: Path, name: str, version: str, module: str = "") -> None:
    """A package as its installed record tells of it; ``module``: the text of a module of that name."""
    record = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    if module:
        (folder / f"{name}.py").write_text(module, encoding="utf-8")
