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

from smad_models import annotation_commands

RESULTS = Path("results")
CACHE = RESULTS / "cache.zarr"
SETTINGS = Path(".smad/config.json")  # of the last run of the workflow here
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
BACKBONE = "state dict of an ImageNet ResNet-18, or `imagenet` for the public one; without it, random weights"
TASKS = ("emotion", "valence", "arousal", "intensity")
VARIANTS = ("va", "discrete", "intensity", "emert")
MODALITIES = ("face", "eye", "gaze")
PRECISIONS = ("fp32", "tf32", "bf16")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 = done. What the user can mend is said in one sentence, without a traceback."""
    options = _parser().parse_args(arguments)
    umask = os.umask(_umask())
    try:
        options.run(options)
    except (ValueError, FileNotFoundError, MemoryError) as error:
        print(f"smad-models {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # what was under way has said how to go on
        return 130
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
    path(sub, "stimuli", None, "table of clips with a column `stimulus`, where none may stand in two folds")
    sub.add_argument("--count", type=int, default=5)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--renew", action="store_true", help="make them anew: results are no longer comparable")

    sub = command("embed-faces", _embed_faces, "compute the features of a frozen face backbone once, for one fold")
    sub.add_argument("--fold", type=int, required=True)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--backbone", help=BACKBONE)
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
    sub.add_argument(
        "--accumulate", type=int, default=1, metavar="N", help="take each batch in N parts, to save memory"
    )
    sub.add_argument(
        "--loss-weights", type=_weights, metavar="A,B,C", help="invariant, specific, task; default: published"
    )
    sub.add_argument("--lstm-init", choices=("published", "xavier"), default="published", help="starting weights")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--validation", type=float, default=0.0, metavar="FRACTION", help="of participants, set aside")
    sub.add_argument("--validation-participants", type=_names, default=(), metavar="P01,P07", help="or who it is")
    sub.add_argument("--select", choices=("last", "validation"), default="last", help="the epoch that is kept")
    sub.add_argument("--augment", type=_names, default=(), metavar="KINDS", help="some of flip,colour,time")
    sub.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    sub.add_argument(
        "--deterministic", action=argparse.BooleanOptionalAction, default=True, help="without, faster on GPUs"
    )
    sub.add_argument("--save-every", type=float, default=60.0, metavar="SECONDS", help="between two saves of the state")
    path(sub, "tensorboard", None, "folder for TensorBoard's logs")
    path(sub, "history", None, "JSON of losses, scores and times; default: fold{k}.history.json beside the output")
    path(sub, "labels", Path("config/labels.tsv"), "labels")
    sub.add_argument("--backbone", help=BACKBONE)
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
    path(sub, "cache", None, f"the cache, for the linear baseline and the leak guard; default: {CACHE}, if there")
    path(sub, "checkpoints", None, f"folder of what made the predictions; default: {RESULTS}/checkpoints, if there")
    path(sub, "stimuli", None, "table of clips with a column `stimulus`, where none may stand in two folds")
    sub.add_argument("--polarity", help="view of three classes: happiness=positive,neutral=neutral,...")
    path(sub, "output", None, "JSON file of one task")
    sub.add_argument("--table", type=Path, help="write scores.tsv from the JSON files named by --show")
    sub.add_argument("--show", type=Path, nargs="+", metavar="JSON", help="print the scoreboard of these")
    sub.add_argument("--json", action="store_true", help="with --show: print what they hold, for programs")

    sub = command("compare", _compare, "compare two predictions of the same clips: difference, interval, test")
    sub.add_argument("a", type=Path, metavar="A", help="parquet file of one task, or a folder with {task}.parquet")
    sub.add_argument("b", type=Path, metavar="B", help="the other")
    sub.add_argument("--task", choices=TASKS, help="of two files whose names do not say it")
    sub.add_argument("--emotions", help="the classes in order; default: as A's columns p_{name} say")
    path(sub, "labels", Path("config/labels.tsv"), "labels")
    path(sub, "folds", RESULTS / "folds.tsv", "who is tested in which fold")
    sub.add_argument("--json", action="store_true", help="print it for programs")

    sub = command("import-checkpoint", _import_checkpoint, "make checkpoints of the published weight files in a folder")
    sub.add_argument("source", type=Path, metavar="DIR", help="searched to its depths for .pth files; or one file")
    sub.add_argument("--emotions", help="the logits' classes in order, separated by commas: no published file says it")
    path(sub, "participants", None, "table with clip, participant, fold of the published sets: who was trained on")
    path(sub, "output", Path("checkpoints"), "folder for {task}/fold{k}.safetensors and index.tsv")

    sub = command("info", _info, "print size, parameters, FLOPs and inputs of checkpoints, or of a network by itself")
    sub.add_argument("checkpoints", type=Path, nargs="*", metavar="CHECKPOINT", help="{task}/fold{k}.safetensors")
    sub.add_argument("--variant", choices=VARIANTS, help="a network without a checkpoint")
    sub.add_argument("--json", action="store_true", help="as JSON, with the statistics of each channel")

    annotation_commands.add_commands(command)

    sub = command("report", _report, "write one self-contained page of scores and quality")
    sub.add_argument("--tasks", required=True, help="separated by commas")
    path(sub, "results", RESULTS, "the folder of results")
    path(sub, "labels", Path("config/labels.tsv"), "labels")
    path(sub, "settings", None, "the configuration, as JSON")
    path(sub, "output", RESULTS / "report.html", "the page")
    path(sub, "figure", None, "SVG file: the quality of the clips, as a figure of its own")
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
        stimuli=options.stimuli,
    )
    print(f"{options.output}: {len(rows)} clips in {options.count} folds")


def _embed_faces(options: argparse.Namespace) -> None:
    from smad_models.face_features import embed_faces
    from smad_models.imagenet import find_backbone

    names = ("fold", "cache", "folds", "output", "seed", "device")
    print(embed_faces(**_chosen(options, names), backbone=find_backbone(options.backbone), key=_computing(options)))


def _train(options: argparse.Namespace) -> None:
    from smad_models.imagenet import find_backbone
    from smad_models.recipe import TrainOptions
    from smad_models.train import train_fold

    recipe = _chosen(options, [f.name for f in fields(TrainOptions) if hasattr(options, f.name)])
    names = ("task", "fold", "cache", "labels", "folds", "output", "face_features", "device")
    how = train_fold(
        **_chosen(options, (*names, "save_every", "tensorboard", "history")),
        backbone=find_backbone(options.backbone),
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
        **_chosen(options, (*names, "stimuli")),
        emotions=options.emotions.split(","),
        cache=options.cache or _if_there(CACHE),
        checkpoints=options.checkpoints or _if_there(RESULTS / "checkpoints"),
        polarity_of={emotion: group for emotion, _, group in pairs} if options.polarity is not None else None,
        key=_key(options),
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


def _import_checkpoint(options: argparse.Namespace) -> None:
    from smad_models.import_checkpoint import EMOTIONS, import_folder

    emotions = options.emotions.split(",") if options.emotions else _setting("emotions", EMOTIONS)
    outcome = import_folder(options.source, options.output, emotions=emotions, participants=options.participants)
    for each in outcome.imported:
        notes = f" ({'; '.join(each.notes)})" if each.notes else ""
        print(f"{each.output}: {each.variant}, from {each.source}{notes}")
    for sentence in outcome.refused:
        print(f"REFUSED: {sentence}", file=sys.stderr)
    for task, folds in outcome.incomplete.items():
        print(f"NOTE: {task} lacks fold {', '.join(map(str, folds))}", file=sys.stderr)
    if options.emotions is None and any(each.task in ("emotion", "intensity") for each in outcome.imported):
        order = ", ".join(emotions)
        print(
            f"NOTE: no published file says which logit is which emotion. Taken: {order}. If that is not the order that"
            " these networks were trained with, every emotion has a wrong name: say the right one by --emotions",
            file=sys.stderr,
        )
    if outcome.imported and options.participants is None:
        print(
            "NOTE: on whom these networks were trained is not known: predictions will say that leaks cannot be told."
            " --participants results/folds.tsv says it, where its folds are the published sets",
            file=sys.stderr,
        )
    if outcome.refused:
        raise ValueError(f"{len(outcome.imported)} files were imported, {len(outcome.refused)} were refused")


def _info(options: argparse.Namespace) -> None:
    from smad_models.info import describe_checkpoint, describe_network, format_description

    if bool(options.checkpoints) == bool(options.variant):
        raise ValueError("want either checkpoints or --variant")
    if options.variant:
        described = [describe_network(options.variant)]
    else:
        described = [describe_checkpoint(path) for path in options.checkpoints]
    print(json.dumps(described, indent=2) if options.json else "\n\n".join(map(format_description, described)))


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


def _setting(name: str, default: Any) -> Any:
    """A setting of the workflow's last run here; the default where there was none."""
    try:
        return json.loads(SETTINGS.read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError, TypeError):
        return default


def _chosen(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names}


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _weights(text: str) -> Any:
    from smad_models.tasks import LossWeights

    invariant, specific, task = map(float, text.split(","))
    return LossWeights(invariant, specific, task)


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
