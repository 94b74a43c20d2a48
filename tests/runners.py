"""Runs of `features` over a tree, in process or through Snakemake, to the end or killed; and what they left there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from conftest import ROOT, environment
from histories import Tree, Unit

STAGE_OF = {"extract_faces": "faces", "resample_eyes": "eyes"}


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit status (below 0 = killed), the jobs that it began in order, and what it said."""

    code: int
    jobs: list[str]
    said: str

    @property
    def units(self) -> list[Unit]:
        """The units that it began to make."""
        return sorted(
            (stage, participant) for stage, _, participant in (j.partition("/") for j in self.jobs) if participant
        )


class InProcess:
    """Runs of `in_process.py`: the jobs of the rules, without Snakemake."""

    can_update_libraries = True
    has_any_face = True  # its stand-in for the detector

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/in_process.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment() | {"OPENBLAS_NUM_THREADS": "1"},
        )
        self._answer()

    def _answer(self) -> Any:
        assert self._server.stdout is not None
        return json.loads(self._server.stdout.readline())

    def run(
        self, folder: Path, tree: Tree, *, cores: int = 2, moment: int | None = None, delay: float | None = None
    ) -> Ended:
        """Run in ``folder``; dead before its ``moment``-th change of a file, or after ``delay`` seconds."""
        begun, said = folder / "notes/all.jobs", folder / "run.log"
        for path in (begun, said):
            path.unlink(missing_ok=True)
        libraries = {name: f"version {v}" for name, v in tree.libraries.items() if v}
        wish = {"folder": str(folder), "cores": cores, "moment": moment, "delay": delay}
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(wish | {"code": tree.edits(), "libraries": libraries}) + "\n")
        self._server.stdin.flush()
        code = self._answer()
        logs = [said, *folder.glob("logs/**/*.log")] if code else []
        return Ended(
            code,
            begun.read_text().split() if begun.exists() else [],
            "\n".join(path.read_text() for path in logs if path.exists()),
        )

    def log(self, folder: Path, unit: Unit) -> str:
        """What the last job of a unit said."""
        return (folder / "logs" / unit[0] / f"{unit[1]}.log").read_text()

    def close(self) -> None:
        """End the process."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(30)


class ThroughSnakemake:
    """Runs of the workflow itself, with the packages as they are edited, from a copy."""

    can_update_libraries = False
    has_any_face = False

    def __init__(self) -> None:
        self._written = 0
        self._seconds = 8.0  # the last run that made something: what a delay is a fraction of

    def run(
        self, folder: Path, tree: Tree, *, cores: int = 2, moment: int | None = None, delay: float | None = None
    ) -> Ended:
        """Run in ``folder``; all its processes killed after the fraction ``delay``, or ``moment`` of 250, of a run."""
        fraction = delay if moment is None else moment / 250
        begun = time.monotonic()
        run = begin_workflow(folder, code=self._edited_code(tree), cores=cores)
        try:
            run.wait(None if fraction is None else fraction * self._seconds)
        except subprocess.TimeoutExpired:
            kill_group(run)
        done = ended(run, folder)
        if done.jobs and done.code == 0:
            self._seconds = time.monotonic() - begun
        return done

    def _edited_code(self, tree: Tree) -> Path:
        """A folder with the packages, each edited module with a date of its own: Python goes by whole seconds."""
        copy = tree.folder / "code"
        if not copy.exists():
            shutil.copytree(ROOT / "smad_features", copy / "smad_features")
        for module, text in tree.edits().items():
            file = Path(*module.split(".")).with_suffix(".py")
            source = (ROOT / file).read_text(encoding="utf-8") + text
            if (copy / file).read_text(encoding="utf-8") != source:
                self._written += 10
                (copy / file).write_text(source, encoding="utf-8")
                os.utime(copy / file, (1e9 + self._written, 1e9 + self._written))
        return copy

    def log(self, folder: Path, unit: Unit) -> str:
        """What the last job of a unit said."""
        rule = next(rule for rule, stage in STAGE_OF.items() if stage == unit[0])
        return (folder / "logs" / rule / f"{unit[1]}.log").read_text()


def begin_workflow(folder: Path, *, code: Path = ROOT, cores: int = 2) -> subprocess.Popen[bytes]:
    """Begin `features` in ``folder``, in a process group of its own; what it says goes to run.log there."""
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "features", "--snakefile"]
    command += [str(ROOT / "workflow/Snakefile"), "--directory", str(folder)]
    command += ["--configfile", str(folder / "config.yaml")]
    paths = os.pathsep.join(dict.fromkeys([str(code), str(ROOT)]))
    with (folder / "run.log").open("wb") as log:
        return subprocess.Popen(
            command,
            env=environment() | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def ended(run: subprocess.Popen[bytes], folder: Path) -> Ended:
    """How a run of the workflow ended."""
    said = (folder / "run.log").read_text()
    jobs = []
    for block in re.split(r"\n(?=\[)", said):
        rule = re.search(r"^(?:local)?rule (\w+):", block, flags=re.MULTILINE)
        if rule and rule[1] != "features":
            participant = re.search(r"wildcards: participant=(\S+)", block)
            jobs.append(STAGE_OF.get(rule[1], rule[1]) + (f"/{participant[1]}" if participant else ""))
    return Ended(run.wait(), jobs, said)


def kill_group(run: subprocess.Popen[bytes]) -> None:
    """Kill a run and all its children, and wait until none is left."""
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    wait_for_group(run)


def wait_for_group(run: subprocess.Popen[bytes], *, seconds: float = 60) -> None:
    """Wait until no process of a run is left."""
    for _ in range(int(seconds / 0.01)):
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise TimeoutError(f"processes of the group {run.pid} are still there after {seconds} s")


def leftovers(folder: Path, *, stores: int = 2) -> list[str]:
    """What is half written, and all stores where there are more than ``stores``: the current and the one before."""
    results = folder / "results"
    found = sorted(path.name for path in results.glob("cache-*.zarr"))
    drafts = [str(path) for top in (results, folder / ".smad") for path in top.rglob(".*.tmp")]
    return drafts + (found if len(found) > stores else [])


def assert_same_cache(one: Path, other: Path) -> None:
    """Assert that the caches of two results folders are the same: array for array, attributes, and byte for byte."""
    a, b = (zarr.open_group(folder / "cache.zarr", mode="r") for folder in (one, other))
    assert dict(a.attrs) == dict(b.attrs)
    assert set(a.array_keys()) == set(b.array_keys())
    for name, array in a.arrays():
        assert np.array_equal(array[...], b[name][...], equal_nan=array.dtype.kind == "f"), name
    stores = [(folder / "cache.zarr").resolve() for folder in (one, other)]
    files = [{str(f.relative_to(top)): f.read_bytes() for f in top.rglob("*") if f.is_file()} for top in stores]
    assert files[0] == files[1]
    assert stores[0].name == stores[1].name
