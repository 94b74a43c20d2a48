"""The commands that deal with networks: embed-faces, train, predict, import-checkpoint, info."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from smad_models.arguments import (
    LABELS,
    RESULTS,
    TASKS,
    Command,
    add_computing,
    add_path,
    chosen,
    listed,
    names,
    read_key,
    setting,
    whole,
)

BACKBONE = "state dict of an ImageNet ResNet-18, or `imagenet` for the public one; without it, random weights"
VARIANTS = ("va", "discrete", "intensity", "emert")
MODALITIES = ("face", "eye", "gaze")
PRECISIONS = ("fp32", "tf32", "bf16")


def add_commands(command: Command) -> None:
    """Add them to a parser; ``command(name, run, text)`` makes one."""
    sub = command("embed-faces", _embed_faces, "compute the features of a frozen face backbone once, for one fold")
    sub.add_argument("--fold", type=int, required=True)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--backbone", help=BACKBONE)
    add_path(sub, "output", None, "safetensors file", required=True)
    add_computing(sub)

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
        "--loss-weights", type=_loss_weights, metavar="A,B,C", help="invariant, specific, task; default: published"
    )
    sub.add_argument("--lstm-init", choices=("published", "xavier"), default="published", help="starting weights")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--validation", type=float, default=0.0, metavar="FRACTION", help="of participants, set aside")
    sub.add_argument("--validation-participants", type=names, default=(), metavar="P01,P07", help="or who it is")
    sub.add_argument("--select", choices=("last", "validation"), default="last", help="the epoch that is kept")
    sub.add_argument("--augment", type=names, default=(), metavar="KINDS", help="some of flip,colour,time")
    sub.add_argument("--precision", choices=PRECISIONS, default="fp32")
    sub.add_argument(
        "--deterministic", action=argparse.BooleanOptionalAction, default=True, help="without, faster on GPUs"
    )
    sub.add_argument("--save-every", type=float, default=60.0, metavar="SECONDS", help="between two saves of the state")
    add_path(sub, "tensorboard", None, "folder for TensorBoard's logs")
    add_path(sub, "history", None, "JSON of losses, scores and times; default: fold{k}.history.json beside the output")
    add_path(sub, "labels", LABELS, "labels")
    sub.add_argument("--backbone", help=BACKBONE)
    add_path(sub, "face-features", None, "what embed-faces made: the face backbone stays frozen")
    add_path(sub, "output", None, "safetensors file", required=True)
    add_computing(sub)

    sub = command("predict", _predict, "predict every clip with the checkpoint that has not seen its participant")
    tasks = listed(TASKS, every="all")
    sub.add_argument("--task", type=tasks, required=True, metavar="TASK[,TASK]", help=f"{', '.join(TASKS)}, or all")
    sub.add_argument("--emotions", required=True, help="the classes in order, separated by commas")
    sub.add_argument("--batch-size", type=whole, default=32, help="clips at a time; changes no prediction")
    sub.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the products; fp32 = TF32 off")
    sub.add_argument("--compile", dest="compiled", action="store_true", help="torch.compile the face backbones")
    sub.add_argument("--domains", action="store_true", help="also what the discriminator takes each stream to be")
    sub.add_argument("--logits", action="store_true", help="also the emotion logits")
    add_path(sub, "embeddings", None, "parquet file for the 64 fused features a clip; of several tasks, a folder")
    hidden = "of face, eye, gaze, separated by commas: taken for missing in every clip"
    sub.add_argument("--ablate", type=listed(MODALITIES), default=[], metavar="MODALITY", help=hidden)
    add_path(sub, "ablations", None, "folder for {task}/{modality}.parquet, each without one; --output has all")
    add_path(sub, "checkpoints", RESULTS / "checkpoints", "folder with {task}/fold{k}.safetensors")
    add_path(sub, "face-features", None, "folder where embed-faces left fold{k}.safetensors: used where they fit")
    add_path(sub, "output", None, "parquet file; of several tasks, a folder for {task}.parquet", required=True)
    add_computing(sub)

    sub = command("import-checkpoint", _import_checkpoint, "make checkpoints of the published weight files in a folder")
    sub.add_argument("source", type=Path, metavar="DIR", help="searched to its depths for .pth files; or one file")
    sub.add_argument("--emotions", help="the logits' classes in order, separated by commas: no published file says it")
    add_path(sub, "participants", None, "table with clip, participant, fold of the published sets: who was trained on")
    add_path(sub, "output", Path("checkpoints"), "folder for {task}/fold{k}.safetensors and index.tsv")

    sub = command("info", _info, "print size, parameters, FLOPs and inputs of checkpoints, or of a network by itself")
    sub.add_argument("checkpoints", type=Path, nargs="*", metavar="CHECKPOINT", help="{task}/fold{k}.safetensors")
    sub.add_argument("--variant", choices=VARIANTS, help="a network without a checkpoint")
    sub.add_argument("--json", action="store_true", help="as JSON, with the statistics of each channel")


def _embed_faces(options: argparse.Namespace) -> None:
    from smad_models.face_features import embed_faces
    from smad_models.imagenet import find_backbone

    wanted = ("fold", "cache", "folds", "output", "seed", "device")
    print(
        embed_faces(**chosen(options, wanted), backbone=find_backbone(options.backbone), key=_start_computing(options))
    )


def _train(options: argparse.Namespace) -> None:
    from smad_models.imagenet import find_backbone
    from smad_models.recipe import TrainOptions
    from smad_models.train import train_fold

    recipe = chosen(options, [f.name for f in fields(TrainOptions) if hasattr(options, f.name)])
    wanted = ("task", "fold", "cache", "labels", "folds", "output", "face_features", "device")
    how = train_fold(
        **chosen(options, (*wanted, "save_every", "tensorboard", "history")),
        backbone=find_backbone(options.backbone),
        emotions=options.emotions.split(","),
        options=TrainOptions(**recipe),
        key=_start_computing(options),
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
    key = _start_computing(options)
    done = predict_products(
        products,
        **chosen(options, ("cache", "folds", "checkpoints", "face_features")),
        emotions=options.emotions.split(","),
        options=PredictOptions(**chosen(options, ("batch_size", "precision", "compiled")), devices=options.device),
        key=key,
    )
    for task, how in done.items():
        print(f"{task}: {how}")


def _import_checkpoint(options: argparse.Namespace) -> None:
    from smad_models.import_checkpoint import EMOTIONS, import_folder

    emotions = options.emotions.split(",") if options.emotions else setting("emotions", EMOTIONS)
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


def _loss_weights(text: str) -> Any:
    from smad_models.tasks import LossWeights

    invariant, specific, task = map(float, text.split(","))
    return LossWeights(invariant, specific, task)


def _start_computing(options: argparse.Namespace) -> str:
    """Bound the threads, and read the key."""
    import torch

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return read_key(options)
