"""What a clip costs as a study grows: every step that sees all clips at once, with 121, 1,000 and 10,000 participants.

    python benchmarks/scale.py [--participants 121 1000 10000] [--only plan status ...] [--folder FOLDER]

Each measure is a command that a user or the workflow would run, in a process of its own: processor time, clock time
and peak memory. Ten clips a participant, all of them links to a few files, with small crops: decoding and learning are
not measured here, and grow with the clips by nature. Step by step (all of them by default):
tables   a first clips.tsv by `index`; `check` of the tables
plan     `snakemake -n` where nothing is made: at first, and with all files known; and `status` then
make     from units to clips.tsv, quality tables and packed cache
status   `status` and `snakemake -n` with all of that made; `verify`
scores   folds; scores of an emotion and of a value; the report

A folder that is named keeps the trees and what was measured: then steps can be repeated one by one. 10,000
participants take some 4 GB and a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scale_tree import CLIPS, EMOTIONS, TASKS, make_predictions, make_sources, make_units

ROOT = Path(__file__).resolve().parents[1]
SHARED = ("--config", "run={participants_per_job: 50}")
Cost = dict[str, float]  # processor and clock in seconds, peak in MB
Steps = Iterator[tuple[str, Cost]]  # each written down as soon as it is known
Measures = dict[str, dict[str, Cost]]  # by participants, then by what was run


def main() -> None:
    """Measure what was asked for, size by size, and print the table of all that is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--participants", type=int, nargs="+", default=[121, 1000, 10000])
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--folder", type=Path, help="where trees and measures are kept, for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        kept = (options.folder or Path(name)).resolve()
        notes = kept / "measures.json"
        known: Measures = json.loads(notes.read_text()) if notes.exists() else {}
        for participants in options.participants:
            tree = kept / str(participants)
            prepare(tree, participants)
            for step in options.only:
                for what, cost in STEPS[step](tree, participants):
                    known.setdefault(str(participants), {})[what] = cost
                    notes.write_text(json.dumps(known, indent=1))
                    said = f"{cost['processor']:.1f} s of processor, {cost['clock']:.1f} s, {cost['peak']:.0f} MB"
                    print(f"{participants} participants: {what}: {said}", file=sys.stderr, flush=True)
            if options.folder is None:
                shutil.rmtree(tree)
    print(growth_table(known))


def run(folder: Path, *command: str, allowed: tuple[int, ...] = (0,)) -> Cost:
    """What a command and its children cost, run in ``folder``."""
    here = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Compiled modules are kept, whatever is set here: a start would cost seconds that no user pays twice.
    surroundings = os.environ | {"PYTHONPATH": here, "PATH": programs, "PYTHONDONTWRITEBYTECODE": ""}
    log = folder / "benchmark.log"
    begin = time.perf_counter()
    with log.open("wb") as said:
        child = subprocess.Popen(
            command, cwd=folder, env=surroundings, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )
        _, state, used = os.wait4(child.pid, 0)
    clock = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(state)
    if child.returncode not in allowed:
        raise RuntimeError(f"{' '.join(command)} failed in {folder}:\n{log.read_text()[-4000:]}")
    return {"processor": used.ru_utime + used.ru_stime, "clock": clock, "peak": used.ru_maxrss / 1000}


def features(folder: Path, *words: str, allowed: tuple[int, ...] = (0,)) -> Cost:
    """A command of smad-features."""
    return run(
        folder, sys.executable, "-m", "smad_features.cli", *words, "--configfile", "config.yaml", allowed=allowed
    )


def models(folder: Path, *words: str) -> Cost:
    """A command of smad-models."""
    return run(folder, sys.executable, "-m", "smad_models.cli", *words)


def snakemake(folder: Path, *words: str) -> Cost:
    """The workflow."""
    where = ["--cores", "2", "--snakefile", str(ROOT / "workflow/Snakefile"), "--configfile", "config.yaml"]
    return run(folder, sys.executable, "-m", "snakemake", *where, *words)


def in_process(work: Callable[..., None], *arguments: Any) -> None:
    """Call it in a process that ends: a child's peak memory begins at the size that its parent has."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(work, arguments)


def prepare(tree: Path, participants: int) -> None:
    """Files and tables, unless they are there."""
    done = tree / "prepared"
    if not done.exists():
        shutil.rmtree(tree, ignore_errors=True)
        in_process(make_sources, tree, participants)
        done.touch()
        time.sleep(3)  # no fingerprint is remembered of a file that changed just now


def prepare_units(tree: Path, participants: int) -> None:
    """All units, unless they are there."""
    done = tree / "units"
    if not done.exists():
        shutil.rmtree(tree / "made/results", ignore_errors=True)
        in_process(make_units, tree, participants)
        done.touch()


def measure_tables(tree: Path, participants: int) -> Steps:
    """Tables in."""
    (tree / "index.tsv").unlink(missing_ok=True)
    yield "`smad-features index`", features(tree / "bare", "index", "../data", "--output", "../index.tsv")
    yield "`smad-features check`", features(tree / "bare", "check")


def measure_plan(tree: Path, participants: int) -> Steps:
    """Nothing is made."""
    bare = tree / "bare"
    for name in (".smad", ".snakemake", "results", "logs"):
        shutil.rmtree(bare / name, ignore_errors=True)
    yield "plan, at first (`snakemake -n all`)", snakemake(bare, "-n", "-q", "rules", "--", "all")
    yield "`status`, at first", features(bare, "status", allowed=(1,))
    yield "plan, files known", snakemake(bare, "-n", "-q", "rules", "--", "all")
    yield "plan, 50 participants a job", snakemake(bare, "-n", "-q", "rules", *SHARED, "--", "all")


def measure_make(tree: Path, participants: int) -> Steps:
    """Units are there, all that sees them at once is made anew."""
    prepare_units(tree, participants)
    made = tree / "made"
    for old in [*made.glob("results/cache*"), *made.glob("results/*.tsv"), *made.glob("results/*.html")]:
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    yield "`list-clips`", features(made, "list-clips")
    yield "`quality`", features(made, "quality")
    yield "`pack`, two threads", features(made, "pack", "--threads", "2")
    yield "`pack`, nothing changed", features(made, "pack", "--threads", "2")
    for how, options in (("first run", ()), ("first run, 50 participants a job", SHARED)):
        for old in (made / ".snakemake", made / ".smad"):
            shutil.rmtree(old, ignore_errors=True)
        for table in made.glob("results/*.tsv"):
            table.unlink()
        yield f"`snakemake features`, {how}", snakemake(made, "-q", "all", *options, "--", "features")


def measure_status(tree: Path, participants: int) -> Steps:
    """Nothing is to be done."""
    if not (tree / "made/results/quality.tsv").exists():
        list(measure_make(tree, participants))
    made = tree / "made"
    (made / "results/folds.tsv").unlink(missing_ok=True)  # what only the other steps make would be counted as missing
    yield "`snakemake -n features`, nothing to do", snakemake(made, "-n", "-q", "all", "--", "features")
    yield "`status`, all fresh", features(made, "status")
    yield "`verify`", features(made, "verify")


def measure_scores(tree: Path, participants: int) -> Steps:
    """From folds to the page."""
    if not (tree / "made/results/cache.json").exists():
        list(measure_make(tree, participants))
    made = tree / "made"
    labels = ("--labels", "../tables/labels.tsv")
    for name in ("results/folds.tsv", "results/scores"):
        shutil.rmtree(made / name) if (made / name).is_dir() else (made / name).unlink(missing_ok=True)
    yield "`folds`, anew", models(made, "folds", *labels)
    yield "`folds`, kept", models(made, "folds", *labels)
    in_process(make_predictions, tree)
    for task in TASKS:
        files = ["--predictions", f"results/predictions/{task}.parquet", "--output", f"results/scores/{task}.json"]
        cost = models(made, "score", "--task", task, "--emotions", ",".join(EMOTIONS), *labels, *files)
        if task in TASKS[:2]:
            yield f"`score`, {task}", cost
    yield "`report`", models(made, "report", "--tasks", ",".join(TASKS), *labels)
    size = (made / "results/report.html").stat().st_size
    print(f"{participants} participants: report.html: {size / 1e6:.2f} MB", file=sys.stderr)


STEPS: dict[str, Callable[[Path, int], Steps]] = {
    "tables": measure_tables,
    "plan": measure_plan,
    "make": measure_make,
    "status": measure_status,
    "scores": measure_scores,
}


def growth_table(known: Measures) -> str:
    """Markdown: a row a command; by size processor, clock, memory; and what a clip costs at the two largest sizes."""
    sizes = sorted(map(int, known))
    heads = [f"{size:,} participants" for size in sizes]
    lines = [f"| | {' | '.join(heads)} | a clip, {' / '.join(f'{size:,}' for size in sizes[:-3:-1])} |"]
    lines.append("|---" * (len(sizes) + 2) + "|")
    for what in dict.fromkeys(what for found in known.values() for what in found):
        costs = [known[str(size)].get(what) for size in sizes]
        cells = [f"{c['processor']:.1f} s, {c['clock']:.1f} s, {c['peak']:.0f} MB" if c else "" for c in costs]
        ratio = ""
        if len(costs) > 1 and costs[-1] and costs[-2]:
            shares = [cost["processor"] / (size * CLIPS) for cost, size in zip(costs, sizes, strict=True) if cost]
            ratio = f"{shares[-1] / shares[-2]:.2f}"
        lines.append(f"| {what} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
