"""The workflow's `features` without Snakemake, for tests: one process that forks a child for each run, killed at will.

It does what the rules do (plan, keys, one process a job, each the command of its rule), so that hundreds of runs take
minutes. A job runs when its output is not there, when it was left unfinished, when its key holds another text than when
it last ended, or when a job that it depends on ran. The detector is a stand-in that takes any picture for a face.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

# All that a job would import, once: a fork costs milliseconds, these imports seconds.
from smad_features import (
    atomic,
    cache,
    cli,
    eyes,
    face_finder,
    faces,
    failures,
    fingerprints,
    freshness,
    later_stages,
    manifest,
    turns,
    units,
)
from smad_features import config as configuration
from smad_features import quality as _quality
from smad_features import recordings as _recordings
from smad_features.config import complete_config

SETTLED = 0.03  # seconds: histories are made faster than the two seconds that a person's edits get to settle
NOTES = Path("notes")  # what Snakemake keeps in .snakemake
SETTINGS = Path(".smad/config.json")
JOB_FAILED = 1
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "sqlite3.connect"}
_code_digest, _library_version = freshness.code_digest, freshness.library_version


class AnyFace:
    """A finder for which every picture is a face, somewhere that depends on its pixels."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> AnyFace:
        return self

    def __exit__(self, *_: object) -> None: ...

    def find_faces(self, picture: np.ndarray) -> list[face_finder.Face]:
        """One face in the middle."""
        height, width = picture.shape[:2]
        points = faces.template_points(size=min(height, width)) + picture[..., 0].mean() / 100
        box = (width / 4, height / 4, width / 2, height / 2)
        return [face_finder.Face(box, 0.9 + picture[..., 1].mean() / 5000, points, tuple(points[3:].mean(axis=0)))]

    def refine(self, _: np.ndarray, face: face_finder.Face) -> face_finder.Face:
        """The same."""
        return face


def serve() -> None:
    """Answer each line of stdin, a run to be made, by a line that says how it ended."""
    for line in sys.stdin:
        wish = SimpleNamespace(**json.loads(line))
        wish.count = mmap.mmap(-1, 8)  # shared by all processes of the run
        child = os.fork()
        if child == 0:
            _become_a_run(wish)
        if wish.delay is not None:
            gone = os.pidfd_open(child)
            if not select.select([gone], [], [], wish.delay)[0]:
                os.killpg(child, signal.SIGKILL)
            os.close(gone)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        while code < 0 and _has_members(child):  # its jobs are dying too
            time.sleep(0.001)
        print(json.dumps(code), flush=True)


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _become_a_run(wish: Any) -> None:
    code = 99
    try:
        os.setpgid(0, 0)
        os.chdir(wish.folder)
        with Path("run.log").open("a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
            _edit_code(wish.code, wish.libraries)
            fingerprints._SETTLED = SETTLED
            face_finder.FaceFinder, units.find_models = AnyFace, lambda settings: dict.fromkeys(("landmarker",))
            if wish.moment is not None:
                _die_at(wish.moment, wish.count)
            try:
                code = run(cores=wish.cores)
            except BaseException:
                traceback.print_exc()
    finally:
        os._exit(code)


def _edit_code(code: dict[str, str], libraries: dict[str, str]) -> None:
    """Run the text that stands at the end of a module from now on, and digest it as a part of that module."""
    for module, text in code.items():
        exec(text, vars(sys.modules[module]))

    def digest(module: str) -> str:
        if not code.get(module):
            return _code_digest(module)
        source = fingerprints._source_file(module).read_text(encoding="utf-8")
        return fingerprints.digest_source(source + code[module])

    freshness.code_digest = later_stages.code_digest = digest
    freshness.library_version = lambda name: libraries.get(name) or _library_version(name)


def _die_at(moment: int, count: mmap.mmap) -> None:
    """Kill the whole run just before its ``moment``-th change of a file: a write, rename, removal, link or sync."""

    def changing() -> None:
        now = int.from_bytes(count[:8], "little") + 1
        count[:8] = now.to_bytes(8, "little")
        if now == moment:
            os.killpg(0, signal.SIGKILL)

    def heard(event: str, details: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and isinstance(details[2], int) and details[2] & _WRITES):
            changing()

    sync = os.fsync

    def fsync(file: int) -> None:
        changing()
        sync(file)

    os.fsync = fsync
    sys.addaudithook(heard)


def run(*, cores: int) -> int:
    """One run in the current folder; 0 = all is done."""
    config = complete_config(yaml.safe_load(Path("config.yaml").read_text()))
    clips = manifest.read_clips(Path(config["clips"]))
    manifest.check_clips(clips, config)
    memory = fingerprints.Fingerprints(Path(".smad/fingerprints.sqlite"))
    with turns.hold_lock(Path(".smad/lock")):
        for folder in (Path("results"), Path(".smad")):
            atomic.sweep_drafts(folder)
        turns.date_back(Path("results"))
        plan = freshness.plan_units(clips, config, memory)
        failures.clear_failures()
        freshness.write_key(SETTINGS, f"{fingerprints.canonical(config)}\n")
        memory.save()
        todo = []
        for unit in plan:
            name = f"{unit.stage}/{unit.participant}"
            key = _key(name, unit.digest, made=unit.made_digest)
            if _is_due(name, unit.path, None if unit.is_fresh else key):
                words = [unit.stage, "--key", str(key), "--threads", "1", "--output", str(unit.path)]
                todo.append(_job(name, [*words, "--", unit.participant], key=key))
        failed = _run_jobs(todo, cores=cores)
        if failed:
            return JOB_FAILED

        ran = bool(todo)
        later = later_stages.Later(clips, config, memory)
        for name, command in (("list_clips", ["list-clips"]), ("quality", ["quality"]), ("pack", ["pack"])):
            digest = fingerprints.digest_of(later.record(name))
            key = _key(name, digest, made=later.made(name, digest))
            output = Path("results") / later_stages.LATER_STAGES[name].output
            inputs = [unit.path for unit in plan] + ([] if name == "list_clips" else [Path("results/clips.tsv")])
            if ran or _is_due(name, output, key) or _has_new_input(name, output, inputs):
                threads = ["--threads", str(cores)] if name == "pack" else []
                if _run_jobs([_job(name, [*command, *threads], key=key)]):
                    return JOB_FAILED
                output.touch()  # as Snakemake does, whether the job wrote it or found nothing to do
                _note(name, "inputs").write_text(json.dumps({str(path): _content(path) for path in inputs}))
                ran = ran or name == "list_clips"
    return 0


def _key(name: str, digest: str, *, made: str | None) -> Path:
    path = freshness.key_path(name)
    text = freshness.next_key(path, digest, made=made)
    if text is not None:
        freshness.write_key(path, text)
    return path


def _note(name: str, kind: str) -> Path:
    return NOTES / f"{name.replace('/', '_')}.{kind}"


def _is_due(name: str, output: Path, key: Path | None) -> bool:
    """``key`` None = what it holds does not count: its product is what it should be."""
    noted = _note(name, "key")
    has_changed = key is not None and (not noted.exists() or noted.read_text() != key.read_text())
    return has_changed or not output.exists() or _note(name, "unfinished").exists()


def _has_new_input(name: str, output: Path, inputs: Iterable[Path]) -> bool:
    """Snakemake's rule: one is newer, and not known to have the content that the product was made from."""
    noted = _note(name, "inputs")
    known = json.loads(noted.read_text()) if noted.exists() else {}
    newer = [path for path in inputs if path.stat().st_mtime_ns > output.stat().st_mtime_ns]
    return any(known.get(str(path)) != _content(path) for path in newer)


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _job(name: str, words: list[str], *, key: Path) -> Callable[[], int]:
    """A job to be called in a process of its own."""

    def work() -> int:
        NOTES.mkdir(exist_ok=True)
        _note(name, "unfinished").touch()
        with _note("all", "jobs").open("a") as started:
            started.write(f"{name}\n")
        held = key.read_text()
        log = Path("logs") / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", buffering=1) as said, redirect_stdout(said), redirect_stderr(said):
            code = cli.main([words[0], "--configfile", str(SETTINGS), *words[1:]])
        if code == 0:
            _note(name, "key").write_text(held)
            _note(name, "unfinished").unlink()
        return code

    return work


def _run_jobs(jobs: Iterable[Callable[[], int]], *, cores: int = 1) -> int:
    """Run jobs, each in a fork, ``cores`` at once. How many failed: the others are run all the same."""
    waiting, running, failed = list(jobs), 0, 0
    while waiting or running:
        while waiting and running < cores:
            job = waiting.pop(0)
            if os.fork() == 0:
                code = 99
                try:
                    code = job()
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            running += 1
        _, status = os.wait()
        running, failed = running - 1, failed + (status != 0)
    return failed


def main() -> None:
    """Warm what every run would read or compute anew, then serve."""
    configuration.load_schema = manifest.load_schema = lru_cache(configuration.load_schema)
    for stage in freshness.STAGES.values():
        freshness.common_record(stage, complete_config({}))
    freshness.code_digest("smad_features.quality")
    print(json.dumps({"ready": [module.__name__ for module in (cache, eyes, _quality, _recordings)]}), flush=True)
    serve()


if __name__ == "__main__":
    main()
