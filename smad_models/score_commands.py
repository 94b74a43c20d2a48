"""The commands of the benchmark: folds, score, compare, report."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from smad_models.arguments import (
    CACHE,
    FOLDS,
    KEY,
    LABELS,
    RESULTS,
    TASKS,
    Command,
    add_cache,
    add_path,
    chosen,
    read_key,
)


def add_commands(command: Command) -> None:
    """Add them to a parser; ``command(name, run, text)`` makes one."""
    sub = command("folds", _folds, "divide the participants into folds, once; later runs only add and remove")
    add_path(sub, "manifest", RESULTS / "clips.tsv", "clips with their status")
    add_path(sub, "labels", None, "labels, to balance emotions when the folds are first made")
    add_path(sub, "output", FOLDS, "table of folds")
    add_path(sub, "memory", None, "table that remembers the fold of those who are quarantined now")
    add_path(sub, "stimuli", None, "table of clips with a column `stimulus`, where none may stand in two folds")
    sub.add_argument("--count", type=int, default=5)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--renew", action="store_true", help="make them anew: results are no longer comparable")

    sub = command("score", _score, "score predictions, or print the scoreboard of scores made before")
    sub.add_argument("--task", choices=TASKS)
    sub.add_argument("--emotions", help="the classes in order, separated by commas")
    add_path(sub, "predictions", None, "parquet file of one task")
    add_path(sub, "labels", LABELS, "labels")
    add_path(sub, "folds", FOLDS, "who is tested in which fold")
    add_path(sub, "key", None, KEY)
    add_cache(sub, None, f"the cache, for the linear baseline and the leak guard; default: {CACHE}, if there")
    add_path(sub, "checkpoints", None, f"folder of what made the predictions; default: {RESULTS}/checkpoints, if there")
    add_path(sub, "stimuli", None, "table of clips with a column `stimulus`, where none may stand in two folds")
    sub.add_argument("--polarity", help="view of three classes: happiness=positive,neutral=neutral,...")
    add_path(sub, "output", None, "JSON file of one task")
    sub.add_argument("--table", type=Path, help="write scores.tsv from the JSON files named by --show")
    sub.add_argument("--show", type=Path, nargs="+", metavar="JSON", help="print the scoreboard of these")
    sub.add_argument("--json", action="store_true", help="with --show: print what they hold, for programs")

    sub = command("compare", _compare, "compare two predictions of the same clips: difference, interval, test")
    sub.add_argument("a", type=Path, metavar="A", help="parquet file of one task, or a folder with {task}.parquet")
    sub.add_argument("b", type=Path, metavar="B", help="the other")
    sub.add_argument("--task", choices=TASKS, help="of two files whose names do not say it")
    sub.add_argument("--emotions", help="the classes in order; default: as A's columns p_{name} say")
    add_path(sub, "labels", LABELS, "labels")
    add_path(sub, "folds", FOLDS, "who is tested in which fold")
    sub.add_argument("--json", action="store_true", help="print it for programs")

    sub = command("report", _report, "write one self-contained page of scores and quality")
    sub.add_argument("--tasks", required=True, help="separated by commas")
    add_path(sub, "results", RESULTS, "the folder of results")
    add_path(sub, "labels", LABELS, "labels")
    add_path(sub, "settings", None, "the configuration, as JSON")
    add_path(sub, "output", RESULTS / "report.html", "the page")
    add_path(sub, "figure", None, "SVG file: the quality of the clips, as a figure of its own")


def _folds(options: argparse.Namespace) -> None:
    from smad_models.folds import update_folds

    rows = update_folds(
        manifest=options.manifest,
        labels=options.labels,
        output=options.output,
        count=options.count,
        seed=options.seed,
        memory=options.memory,
        renew=options.renew,
        stimuli=options.stimuli,
    )
    print(f"{options.output}: {len(rows)} clips in {options.count} folds")


def _score(options: argparse.Namespace) -> None:
    if options.show:
        from smad_models import scoreboard

        scores = [json.loads(path.read_text()) for path in options.show]
        if options.table:
            scoreboard.write_scores_table(options.show, options.table)
        if options.json:
            print(json.dumps(scores))
        else:
            scoreboard.print_scoreboard(scores)
        return
    from smad_models.score import score_task

    absent = [n for n in ("task", "emotions", "predictions", "output") if getattr(options, n) is None]
    if absent:
        raise ValueError(f"want --show, or all of --task --emotions --predictions --output; --{absent[0]} is absent")
    names = ("task", "predictions", "labels", "folds", "output")
    pairs = [part.partition("=") for part in (options.polarity or "").split(",") if part]
    score_task(
        **chosen(options, (*names, "stimuli")),
        emotions=options.emotions.split(","),
        cache=options.cache or _if_there(CACHE),
        checkpoints=options.checkpoints or _if_there(RESULTS / "checkpoints"),
        polarity_of={emotion: group for emotion, _, group in pairs} if options.polarity is not None else None,
        key=read_key(options),
    )


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None


def _compare(options: argparse.Namespace) -> None:
    from smad_models.compare import compare, pair_files, print_comparison

    found = compare(
        pair_files(options.a, options.b, task=options.task),
        labels=options.labels,
        folds=options.folds,
        emotions=options.emotions.split(",") if options.emotions else None,
    )
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print_comparison(found)


def _report(options: argparse.Namespace) -> None:
    from smad_models.report import library_versions, write_report

    settings: dict[str, Any] = json.loads(options.settings.read_text()) if options.settings else {}
    shown = settings.get("report", {})
    store = settings.get("cache", {}).get("store")
    tasks = options.tasks.split(",")
    write_report(
        scores=[options.results / "scores" / f"{task}.json" for task in tasks],
        predictions=[options.results / "predictions" / f"{task}.parquet" for task in tasks],
        labels=options.labels,
        manifest=options.results / "clips.tsv",
        quality=options.results / "quality.tsv",
        participants=options.results / "quality_participants.tsv",
        cache_json=options.results / "cache.json",
        cache=f"{store}/cache.zarr" if store else options.results / "cache.zarr",
        folds=options.results / "folds.tsv",
        ablations={
            (task, modality): options.results / "ablations" / task / f"{modality}.parquet"
            for task in tasks
            for modality in settings.get("predict", {}).get("ablate", [])
        },
        agreement=options.results / "agreement.json" if settings.get("annotations") else None,
        figure=options.figure,
        output=options.output,
        settings=settings,
        versions=library_versions(),
        show_clips=shown.get("show_clips", False),
        show_faces=shown.get("show_faces", False),
        synthetic=shown.get("synthetic", False),
        **({"title": shown["title"]} if shown.get("title") else {}),
    )
    print(options.output)
