"""The command line of smad-models: one command a stage, each what the workflow's rule of that name runs."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

RESULTS = Path("results")
SETTINGS = Path(".smad/config.json")  # of the last run of the workflow here
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
TASKS = ("emotion", "valence", "arousal", "intensity")
MODALITIES = ("face", "eye", "gaze")
PRECISIONS = ("fp32", "tf32", "bf16")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 = done. What the user can mend is said in one sentence, without a traceback."""
    options = _parser().parse_args(arguments)
    umask = os.umask(_umask())
    try:
        options.run(options)
    except (ValueError, FileNotFoundError) as error:
        print(f"smad-models {options.command}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        where = error.filename or getattr(options, "output", None) or RESULTS
        why = f"{where}: {error.strerror or error}; what was there before is untouched: mend that and run again"
        print(f"smad-models {options.command}: {why}", file=sys.stderr)
        return 1
    finally:
        os.umask(umask)
    return 0


def _umask() -> int:
    """What is made of persons is for the user alone, unless the workflow's `cache.mode` says otherwise."""
    try:
        mode = int(json.loads(SETTINGS.read_text(encoding="utf-8"))["cache"]["mode"], 8)
    except (OSError, ValueError, KeyError, TypeError):
        mode = 0o600
    return 0o777 & ~(mode | (mode & 0o444) >> 2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="smad-models", description=sys.modules["smad_models"].__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    def path(
        sub: argparse.ArgumentParser, name: str, default: Path | None, text: str, *, required: bool = False
    ) -> None:
        shown = "" if default is None else f"; default: {default}"
        sub.add_argument(f"--{name}", type=Path, default=default, required=required, help=text + shown)

    def computing(sub: argparse.ArgumentParser) -> None:
        path(sub, "cache", RESULTS / "cache.zarr", "the packed cache")
        path(sub, "folds", RESULTS / "folds.tsv", "who is tested in which fold")
        path(sub, "key", None, "key file: the digest of all else that the result depends on")
        sub.add_argument("--threads", type=int, default=None, help="processor threads; default: all")
        sub.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...; predict: several, by commas")

    def listed(allowed: Sequence[str], *, every: str | None = None) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            words = allowed if text == every else text.split(",")
            if unknown := [word for word in words if word not in allowed]:
                raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(allowed)}")
            return [word for word in allowed if word in words]

        return parse

    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
        return int(text)

    sub = command("folds", _folds, "divide the participants into folds, once; later runs only add and remove")
    path(sub, "manifest", RESULTS / "clips.tsv", "clips with their status")
    path(sub, "labels", None, "labels, to balance emotions when the folds are first made")
    path(sub, "output", RESULTS / "folds.tsv", "table of folds")
    path(sub, "memory", None, "table that remembers the fold of those who are quarantined now")
    sub.add_argument("--count", type=int, default=5)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--renew", action="store_true", help="make them anew: results are no longer comparable")

    sub = command("embed-faces", _embed_faces, "compute the features of a frozen face backbone once, for one fold")
    sub.add_argument("--fold", type=int, required=True)
    sub.add_argument("--seed", type=int, default=0)
    path(sub, "backbone", None, "state dict of an ImageNet ResNet-18; without it, random weights")
    path(sub, "output", None, "safetensors file", required=True)
    computing(sub)

    sub = command("train", _train, "train MAQT for one task on all folds but one")
    sub.add_argument("--task", choices=TASKS, required=True)
    sub.add_argument("--fold", type=int, required=True, help="the fold that is left out")
    sub.add_argument("--emotions", required=True, help="the classes in order, separated by commas")
    sub.add_argument("--epochs", type=int, default=200)
    sub.add_argument("--batch-size", type=int, default=16)
    sub.add_argument("--learning-rate", type=float, default=1e-4)
    sub.add_argument("--weight-decay", type=float, default=5e-4)
    sub.add_argument("--lstm-init", choices=("published", "xavier"), default="published", help="starting weights")
    sub.add_argument("--seed", type=int, default=0)
    path(sub, "labels", Path("config/labels.tsv"), "labels")
    path(sub, "backbone", None, "state dict of an ImageNet ResNet-18; without it, random weights")
    path(sub, "face-features", None, "what embed-faces made: the face backbone stays frozen")
    path(sub, "output", None, "safetensors file", required=True)
    computing(sub)

    sub = command("predict", _predict, "predict every clip with the checkpoint that has not seen its participant")
    tasks = listed(TASKS, every="all")
    sub.add_argument("--task", type=tasks, required=True, metavar="TASK[,TASK]", help=f"{', '.join(TASKS)}, or all")
    sub.add_argument("--emotions", required=True, help="the classes in order, separated by commas")
    sub.add_argument("--batch-size", type=whole, default=32, help="clips at a time; changes no prediction")
    sub.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the products; fp32 = TF32 off")
    sub.add_argument("--compile", dest="compiled", action="store_true", help="torch.compile the face backbones")
    sub.add_argument("--domains", action="store_true", help="also what the discriminator takes each stream to be")
    sub.add_argument("--logits", action="store_true", help="also the emotion logits")
    path(sub, "embeddings", None, "parquet file for the 64 fused features a clip; of several tasks, a folder")
    hidden = "of face, eye, gaze, separated by commas: taken for missing in every clip"
    sub.add_argument("--ablate", type=listed(MODALITIES), default=[], metavar="MODALITY", help=hidden)
    path(sub, "ablations", None, "folder for {task}/{modality}.parquet, each without one of --ablate; --output has all")
    path(sub, "checkpoints", RESULTS / "checkpoints", "folder with {task}/fold{k}.safetensors")
    path(sub, "face-features", None, "folder where embed-faces left fold{k}.safetensors: used where they are the same")
    path(sub, "output", None, "parquet file; of several tasks, a folder for {task}.parquet", required=True)
    computing(sub)

    sub = command("score", _score, "score predictions, or print the scoreboard of scores made before")
    sub.add_argument("--task", choices=TASKS)
    sub.add_argument("--emotions", help="the classes in order, separated by commas")
    path(sub, "predictions", None, "parquet file of one task")
    path(sub, "labels", Path("config/labels.tsv"), "labels")
    path(sub, "folds", RESULTS / "folds.tsv", "who is tested in which fold")
    path(sub, "key", None, "key file: the digest of all else that the result depends on")
    path(sub, "output", None, "JSON file of one task")
    sub.add_argument("--table", type=Path, help="write scores.tsv from the JSON files named by --show")
    sub.add_argument("--show", type=Path, nargs="+", metavar="JSON", help="print the scoreboard of these")

    sub = command("report", _report, "write one self-contained page of scores and quality")
    sub.add_argument("--tasks", required=True, help="separated by commas")
    path(sub, "results", RESULTS, "the folder of results")
    path(sub, "labels", Path("config/labels.tsv"), "labels")
    path(sub, "settings", None, "the configuration, as JSON")
    path(sub, "output", RESULTS / "report.html", "the page")
    return parser


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
    )
    print(f"{options.output}: {len(rows)} clips in {options.count} folds")


def _embed_faces(options: argparse.Namespace) -> None:
    from smad_models.face_features import embed_faces

    names = ("fold", "cache", "folds", "output", "seed", "backbone", "device")
    print(embed_faces(**_chosen(options, names), key=_computing(options)))


def _train(options: argparse.Namespace) -> None:
    from smad_models.train import TrainOptions, train_fold

    recipe = _chosen(options, [f.name for f in fields(TrainOptions) if hasattr(options, f.name)])
    names = ("task", "fold", "cache", "labels", "folds", "output", "face_features", "backbone", "device")
    how = train_fold(
        **_chosen(options, names),
        emotions=options.emotions.split(","),
        options=TrainOptions(**recipe),
        key=_computing(options),
    )
    print(f"{options.task}, fold {options.fold}: {how}")


def _predict(options: argparse.Namespace) -> None:
    from smad_models.predict import PredictOptions, predict_products
    from smad_models.prediction_tables import Product

    def place(path: Path, task: str) -> Path:
        return path if len(options.task) == 1 else path / f"{task}.parquet"

    columns = {"domains": options.domains, "logits": options.logits}
    hidden = () if options.ablations else tuple(options.ablate)
    products = []
    for task in options.task:
        products.append(Product(task, place(options.output, task), hidden, **columns))
        if options.embeddings:
            products.append(Product(task, place(options.embeddings, task), hidden, "embeddings"))
        for modality in options.ablate if options.ablations else []:
            products.append(Product(task, options.ablations / task / f"{modality}.parquet", (modality,), **columns))
    key = _computing(options)
    done = predict_products(
        products,
        **_chosen(options, ("cache", "folds", "checkpoints", "face_features")),
        emotions=options.emotions.split(","),
        options=PredictOptions(**_chosen(options, ("batch_size", "precision", "compiled")), devices=options.device),
        key=key,
    )
    for task, how in done.items():
        print(f"{task}: {how}")


def _score(options: argparse.Namespace) -> None:
    from smad_models import score

    if options.show:
        scores = [json.loads(path.read_text()) for path in options.show]
        if options.table:
            score.write_scores_table(options.show, options.table)
        score.print_scoreboard(scores)
        return
    absent = [n for n in ("task", "emotions", "predictions", "output") if getattr(options, n) is None]
    if absent:
        raise ValueError(f"want --show, or all of --task --emotions --predictions --output; --{absent[0]} is absent")
    names = ("task", "predictions", "labels", "folds", "output")
    score.score_task(**_chosen(options, names), emotions=options.emotions.split(","), key=_key(options))


def _report(options: argparse.Namespace) -> None:
    from smad_models.report import library_versions, write_report

    settings: dict[str, Any] = json.loads(options.settings.read_text()) if options.settings else {}
    shown = settings.get("report", {})
    tasks = options.tasks.split(",")
    write_report(
        scores=[options.results / "scores" / f"{task}.json" for task in tasks],
        predictions=[options.results / "predictions" / f"{task}.parquet" for task in tasks],
        labels=options.labels,
        manifest=options.results / "clips.tsv",
        quality=options.results / "quality.tsv",
        participants=options.results / "quality_participants.tsv",
        cache_json=options.results / "cache.json",
        cache=options.results / "cache.zarr",
        output=options.output,
        settings=settings,
        versions=library_versions(),
        show_clips=shown.get("show_clips", False),
        show_faces=shown.get("show_faces", False),
        synthetic=shown.get("synthetic", False),
        **({"title": shown["title"]} if shown.get("title") else {}),
    )
    print(options.output)


def _chosen(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names}


def _computing(options: argparse.Namespace) -> str:
    """Bound the threads, and read the key."""
    import torch

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return _key(options)


def _key(options: argparse.Namespace) -> str:
    """The digest in the key file; empty = none was handed over."""
    return "" if options.key is None else options.key.read_text().split()[0]


if __name__ == "__main__":
    sys.exit(main())
