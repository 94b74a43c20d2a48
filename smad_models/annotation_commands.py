"""The commands that deal with annotators: agreement, relabel-queue, merge."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path("results")
SETTINGS = Path(".smad/config.json")  # of the last run of the workflow here
TASKS = ("emotion", "intensity", "valence", "arousal")
METHODS = ("majority", "dawid-skene")
RATINGS = ("mean", "weighted")


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add them to a parser; ``command(name, run, text)`` makes one."""
    sub = command(
        "agreement", _agreement, "measure how far annotators agree, and bring their annotations down to labels"
    )
    _annotated(sub)
    sub.add_argument("--clips", type=Path, help="table of clips: annotations of others are passed over")
    sub.add_argument("--output", type=Path, default=RESULTS / "agreement.json", help="default: results/agreement.json")
    sub.add_argument("--labels-out", type=Path, metavar="TSV", help="write the consensus there, as a table of labels")
    _consensus(sub)
    sub.add_argument("--key", type=Path, help="key file: the digest of all that the result depends on")

    sub = command("relabel-queue", _relabel_queue, "rank clips for another look: the most doubtful labels first")
    _annotated(sub)
    sub.add_argument("--clips", type=Path, help="table of clips: annotations and labels of others are passed over")
    sub.add_argument("--labels", type=Path, help="the labels in use; default: the majority and mean of the annotations")
    sub.add_argument(
        "--predictions", type=Path, default=RESULTS / "predictions", help="folder with {task}.parquet of held-out folds"
        "; default: results/predictions; tasks that it lacks are ranked by the annotators alone"
    )  # fmt: skip
    sub.add_argument(
        "--tasks", default="emotion", help="separated by commas: their queues take turns; default: emotion"
    )
    sub.add_argument("--limit", type=int, help="so many clips at most; default: all")
    sub.add_argument(
        "--output", type=Path, default=RESULTS / "relabel_queue.tsv", help="default: results/relabel_queue.tsv"
    )

    sub = command("merge", _merge, "take the answers of a filled-in queue back into annotations and labels")
    sub.add_argument("answers", type=Path, help="the queue, with its columns new_emotion, new_intensity, ... filled in")
    sub.add_argument("--annotator", required=True, help="the reviewer's name: the answers are annotations of an expert")
    _annotated(sub)
    sub.add_argument("--labels", type=Path, help="the labels in use, to be brought up to date where there are answers")
    sub.add_argument("--decides", action="store_true", help="the answer is the label; else it is one vote more")
    _consensus(sub)
    sub.add_argument("--output", type=Path, metavar="TSV", help="the new annotations")
    sub.add_argument("--labels-out", type=Path, metavar="TSV", help="the new labels")
    sub.add_argument("--in-place", action="store_true", help="write over --annotations, and over --labels if given")


def _annotated(sub: argparse.ArgumentParser) -> None:
    path = Path("config/annotations.tsv")
    sub.add_argument("--annotations", type=Path, default=path, help=f"table of single annotations; default: {path}")
    sub.add_argument("--emotions", help="the classes in order, separated by commas; default: as the workflow ran here")


def _consensus(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--method", choices=METHODS, default=METHODS[0], help="how the emotion is decided")
    sub.add_argument("--ratings", choices=RATINGS, default=RATINGS[0], help="how ratings become one")


def _agreement(options: argparse.Namespace) -> None:
    from smad_models.agreement import agreement_text, measure_agreement
    from smad_models.annotations import arrange, write_texts
    from smad_models.consensus import consensus_table, find_consensus

    emotions = _emotions(options)
    rows = _rows(options, emotions)
    annotations = arrange(rows, emotions=emotions)
    agreement = measure_agreement(annotations)
    key = "" if options.key is None else options.key.read_text(encoding="utf-8").split()[0]
    digest = hashlib.sha256(json.dumps(sorted(rows), default=str).encode()).hexdigest()
    agreement["provenance"] = {"key": key, "annotations": digest}
    texts = {options.output: agreement_text(agreement)}
    if options.labels_out is not None:
        consensus = find_consensus(annotations, method=options.method, ratings=options.ratings)
        texts[options.labels_out] = consensus_table(consensus)
        _refuse_existing(options.labels_out)
    _refuse_inputs(options, list(texts))
    write_texts(texts)
    print("\n".join(_summary(agreement)))
    print(*texts, sep="\n")


def _summary(agreement: dict[str, Any]) -> list[str]:
    lines = [f"{agreement['clips']} clips, {agreement['annotations']} annotations; Krippendorff's alpha"]
    lines += [f"{'':10}" + "".join(f"{group:>9}" for group in agreement["groups"])]
    for name in TASKS:
        alphas = [agreement[name]["groups"][group]["krippendorff_alpha"]["value"] for group in agreement["groups"]]
        lines.append(f"{name:10}" + "".join(f"{_show(alpha):>9}" for alpha in alphas))
    return lines


def _relabel_queue(options: argparse.Namespace) -> None:
    from smad_models.annotations import arrange, read_clip_names, read_labels, write_texts
    from smad_models.consensus import find_consensus
    from smad_models.relabel import has_answers, make_queue, queue_table, read_predictions

    tasks = options.tasks.split(",")
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise ValueError(f"--tasks: {unknown[0]!r} is none of {', '.join(TASKS)}")
    emotions = _emotions(options)
    rows = _rows(options, emotions)
    if options.labels is None:
        annotations = arrange(rows, emotions=emotions)
        consensus = find_consensus(annotations)
        labels = dict(zip(consensus.clips, consensus.labels, strict=True))
    else:
        labels = read_labels(options.labels, emotions=emotions)
        if options.clips is not None:
            listed = read_clip_names(options.clips)
            labels = {clip: label for clip, label in labels.items() if clip in listed}
        named = {row.label.emotion for row in rows} | {label.emotion for label in labels.values()}
        annotations = arrange(rows, emotions=emotions or sorted(name for name in named if name))
    files = {task: options.predictions / f"{task}.parquet" for task in tasks}
    predictions = {
        task: read_predictions(file, task, annotations.emotions) for task, file in files.items() if file.is_file()
    }
    queue = make_queue(annotations, labels, predictions, tasks=tasks)[: options.limit]
    if not queue:
        raise ValueError(f"{options.annotations}: nobody says anything of {' or '.join(tasks)}: see --tasks")
    _refuse_inputs(options, [options.output])
    if options.output.exists() and has_answers(options.output):
        raise ValueError(f"{options.output}: somebody has answered there: merge it, or name another file")
    write_texts({options.output: queue_table(queue)})
    alone = [task for task in tasks if task not in predictions]
    note = f"; by the annotators alone: {', '.join(alone)} (no predictions in {options.predictions})" if alone else ""
    print(f"{options.output}: {len(queue)} clips{note}")


def _merge(options: argparse.Namespace) -> None:
    from smad_models.annotations import write_texts
    from smad_models.answers import merge_answers

    if options.in_place and (options.output or options.labels_out):
        raise ValueError("want --in-place, or --output and --labels-out, not both")
    if not options.in_place and not (options.output and options.labels_out):
        raise ValueError("want --output and --labels-out for the new tables, or --in-place to write over the old ones")
    merged = merge_answers(
        options.answers,
        annotator=options.annotator,
        annotations=options.annotations,
        labels=options.labels,
        emotions=_emotions(options),
        decides=options.decides,
        method=options.method,
        ratings=options.ratings,
    )
    if options.in_place:
        texts = {options.annotations: merged.annotations}
        texts |= {} if options.labels is None else {options.labels: merged.labels}
    else:
        texts = {options.output: merged.annotations, options.labels_out: merged.labels}
        for path in texts:
            _refuse_existing(path)
    write_texts(texts)
    changes = merged.changes
    print(f"{changes['answered']} of {changes['clips']} clips answered by {changes['annotator']}; Krippendorff's alpha")
    print(f"{'':10}{'confirmed':>10}{'changed':>9}{'answered clips':>20}{'all clips':>18}")
    for name, alpha in changes["alpha"].items():
        spans = [" -> ".join(map(_show, alpha[part])) for part in ("answered", "all")]
        counts = f"{changes['confirmed'][name]:>10}{changes['changed'][name]:>9}"
        print(f"{name:10}{counts}{spans[0]:>20}{spans[1]:>18}")
    print(*texts, sep="\n")


def _rows(options: argparse.Namespace, emotions: list[str] | None) -> list[Any]:
    from smad_models.annotations import read_annotations, read_clip_names

    clips = None if options.clips is None else read_clip_names(options.clips)
    return read_annotations(options.annotations, emotions=emotions, clips=clips)


def _emotions(options: argparse.Namespace) -> list[str] | None:
    """As asked, else as in the configuration of the last run here; None = those that the tables name."""
    if options.emotions:
        return list(options.emotions.split(","))
    try:
        return list(json.loads(SETTINGS.read_text(encoding="utf-8"))["emotions"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refuse_inputs(options: argparse.Namespace, outputs: list[Path]) -> None:
    inputs = [getattr(options, name, None) for name in ("annotations", "labels", "clips")]
    for path in outputs:
        if any(one is not None and one.resolve() == path.resolve() for one in inputs):
            raise ValueError(f"{path}: is read here: name another file")


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise ValueError(f"{path}: is there already: labels and annotations are not written over; name another file")


def _show(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
