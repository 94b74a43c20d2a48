"""What the files after the units are made from, beside their inputs: the facts that Snakemake gets to know by a key.

The workflow hands the digest of these facts to each rule, `status` explains them. Modules and libraries are named and
never imported: what trains and scores is no concern of the features.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from smad_features import schema
from smad_features.fingerprints import Fingerprints, code_digest, digest_of, library_version, module_folder
from smad_features.freshness import PlannedUnit, differences
from smad_features.manifest import Clip, TableError, read_annotations, read_targets
from smad_features.summary import is_settled

_NETWORK = tuple(
    f"smad_models.{name}" for name in ("maqt", "resnet", "inputs", "tasks", "dataset", "cache_files", "checkpoints")
)
_SCORING = tuple(
    f"smad_models.{name}"
    for name in (
        *("score", "predictions", "metrics", "calibration", "intervals", "protocols", "baselines", "polarity"),
        *("leaks", "folds", "stimuli", "dataset", "cache_files", "inputs", "checkpoints"),
    )
)
_PAGE = "report_page"  # the folder of the report's templates
_REPORT = tuple(
    f"smad_models.{name}"
    for name in (
        *("report", "report_scores", "report_maps", "report_quality", "report_modalities", "report_agreement"),
        *("report_clips", "charts", "score_charts", "drawing", "scoreboard", "compare", "intervals", "metrics"),
        *("calibration", "leaks", "predictions", "folds", "stimuli", "dataset", "cache_files"),
    )
)
_TRAINING = tuple(
    f"smad_models.{name}"
    for name in (
        *("train", "recipe", "batches", "augment", "validation", "precision", "training_state", "torch_files"),
    )
)
_OF_THE_RUN = ("save_every", "tensorboard")  # settings of the training that change none of its numbers


@dataclass(frozen=True)
class LaterStage:
    """Code and libraries that make the numbers of a stage after the units, and what it writes."""

    output: str  # under the results; with {task} and {fold} where it has a file for each
    modules: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()  # what its job writes besides


# By the names of the rules, in the order of the workflow.
LATER_STAGES = {
    "list_clips": LaterStage("clips.tsv", ("smad_features.quality",)),
    "quality": LaterStage(
        "quality.tsv",
        ("smad_features.quality", "smad_features.quality_parts"),
        beside=("quality_participants.tsv", "quality_channels.tsv"),
    ),
    "pack": LaterStage("cache.json"),
    "make_folds": LaterStage("folds.tsv", ("smad_models.folds", "smad_models.stimuli")),
    "embed_faces": LaterStage(
        "face_features/fold{fold}.safetensors",
        (*_NETWORK, "smad_models.face_features", "smad_models.torch_files"),
        ("torch",),
    ),
    "train_model": LaterStage(
        "checkpoints/{task}/fold{fold}.safetensors",
        (*_NETWORK, "smad_models.face_features", "smad_models.folds", *_TRAINING),
        ("torch",),
    ),
    "predict": LaterStage(
        "predictions/{task}.parquet",
        (
            *_NETWORK,
            *(f"smad_models.{name}" for name in ("face_features", "feeding", "inference", "one_pass", "predict")),
            "smad_models.prediction_tables",
        ),
        ("torch",),
    ),
    "agreement": LaterStage(
        "agreement.json",
        tuple(
            f"smad_models.{name}"
            for name in ("agreement", "agreement_parts", "annotations", "consensus", "reliability")
        ),
        ("scikit-learn", "scipy"),
    ),
    "score": LaterStage(
        "scores/{task}.json",
        _SCORING,
        ("scikit-learn", "scipy"),
    ),
    "tabulate_scores": LaterStage("scores.tsv", ("smad_models.scoreboard",)),
    "report": LaterStage("report.html", _REPORT, ("matplotlib",), beside=("quality.svg",)),
}


_ONLY_SPEED = ("batch_size", "compile")  # of the section `predict`


def predicted_beside(config: dict[str, Any]) -> list[str]:
    """What the rule `predict` writes besides the predictions, where the configuration asks for it, with {task}."""
    wanted = config["predict"]
    embeddings = ["embeddings/{task}.parquet"] if wanted["embeddings"] else []
    return embeddings + [f"ablations/{{task}}/{modality}.parquet" for modality in wanted["ablate"]]


@dataclass(frozen=True)
class Later:
    """The stages after the units of one configuration. Labels are read when a stage that needs them is asked for."""

    clips: list[Clip]
    config: dict[str, Any]
    fingerprints: Fingerprints = field(repr=False)
    units: Sequence[PlannedUnit] = field(default=(), repr=False)  # as they are, where that is known

    @property
    def trains(self) -> bool:
        """Checkpoints are made here, not given."""
        return bool(self.config["checkpoints"] == "train")

    @property
    def folds(self) -> range:
        """The numbers of the folds."""
        return range(1, self.config["folds"]["count"] + 1)

    @cached_property
    def targets(self) -> dict[str, str]:
        """A digest of the checked labels by task; no more is held of 100,000 clips.

        Raises
        ------
        TableError
            As `manifest.read_targets`.
        """
        return {name: digest_of(rows) for name, rows in read_targets(self.clips, self.config).items()}

    @cached_property
    def annotations(self) -> list[list[Any]]:
        """The rows of the table of annotations that are about these clips, checked, by clip and annotator.

        Raises
        ------
        TableError
            As `manifest.read_annotations`; or the configuration names no table.
        """
        config, clips = self.config, {clip.clip for clip in self.clips}
        if config["annotations"] is None:
            raise TableError("`annotations: null`: name a table of annotations to have their agreement")
        rows = read_annotations(Path(config["annotations"]), emotions=config["emotions"], clips=clips)
        return sorted(rows, key=lambda row: row[:2])

    def outputs(self, stage: str) -> Iterator[tuple[str, Path]]:
        """The key's name and the file of each product of a stage; none where the configuration leaves the stage out."""
        config = self.config
        is_left_out = {
            "embed_faces": not self.trains or not config["train"]["freeze_face"],
            "train_model": not self.trains,
            "agreement": config["annotations"] is None,
            **dict.fromkeys(("score", "tabulate_scores", "report"), config["labels"] is None),
        }
        if is_left_out.get(stage):
            return
        pattern = LATER_STAGES[stage].output
        for task in config["tasks"] if "{task}" in pattern else [""]:
            for fold in self.folds if "{fold}" in pattern else [0]:
                name = f"{stage}/{task}" if task else stage
                yield name, Path("results") / pattern.format(task=task, fold=fold)

    def beside(self, name: str, file: Path) -> list[Path]:
        """What the job of a product writes besides its file."""
        stage, _, task = name.partition("/")
        patterns = predicted_beside(self.config) if stage == "predict" else []
        found = [Path("results") / pattern.format(task=task) for pattern in patterns]
        return found + [file.with_name(other) for other in LATER_STAGES[stage].beside]

    def record(self, name: str) -> dict[str, Any]:
        """What a product depends on beside its inputs; ``name`` is a stage's, with ``/task`` where it has some.

        Raises
        ------
        TableError
            The labels or annotations cannot be used, and this stage needs them.
        """
        stage, _, task = name.partition("/")
        record: dict[str, Any] = {
            "settings": self._settings(stage, task),
            "contents": self._contents(stage, task),
            "labels": self._labels(stage, task),
            "code": {module: code_digest(module) for module in LATER_STAGES[stage].modules},
            "libraries": {library: library_version(library) for library in LATER_STAGES[stage].libraries},
        }
        if stage in ("list_clips", "pack", "make_folds"):
            record["rows"] = digest_of(sorted([clip.participant, clip.clip, clip.fold] for clip in self.clips))
        if stage in ("list_clips", "quality", "pack"):  # columns and an array that are there for these clips alone
            record["stimuli"] = sorted(clip.clip for clip in self.clips if clip.stimulus is not None)
        if stage in ("make_folds", "score") and "stimulus" in self.config["folds"]["disjoint"]:
            shown: dict[Path, list[str]] = {}
            for clip in self.clips:
                if clip.stimulus is not None:
                    shown.setdefault(clip.stimulus, []).append(clip.clip)
            record["stimuli"] = sorted(map(sorted, shown.values()))  # who shares one, whatever its name
        return record

    def made(self, name: str, digest: str) -> str | None:
        """The digest that a stage's products record; None where one is absent, or they do not say.

        A checkpoint that was put back from a backup must not be taken for the one that is wanted, whatever its date.
        """
        stage = name.partition("/")[0]
        if stage == "list_clips" and self._is_packed_otherwise():
            return "of other units"
        if stage == "pack" and Path("results/cache.json").exists():
            # Elsewhere, cache.json is believed: to plan must need no network. `smad-features verify` looks.
            return None if is_settled(Path("results"), store=self.config["cache"]["store"]) else "lost"
        if stage != "train_model":
            return None
        cache = read_json(Path("results/cache.json")).get("digest")
        found = [_checkpoint_record(file) for product, file in self.outputs(stage) if product == name]
        if not all(found):
            return None
        wanted = {(digest, cache)}
        return digest if {(record.get("key"), record.get("cache")) for record in found} == wanted else "another"

    def _is_packed_otherwise(self) -> bool:
        """Whether the packed cache holds another unit than the one that lies there and is as it should be.

        Sources and units that were put back together, under their old dates, are fresh and older than all that follows.
        Of a cache in an object store this is not asked: no plan waits for a network.
        """
        packed = read_json(Path("results/cache.zarr/zarr.json")).get("attributes", {}).get("provenance", {})
        return any(
            unit.made is not None
            and unit.is_fresh
            and packed.get(f"{unit.stage}/{unit.participant}", unit.made["content"]) != unit.made["content"]
            for unit in self.units
        )

    def _settings(self, stage: str, task: str) -> dict[str, Any]:
        config = self.config
        train = {name: x for name, x in config["train"].items() if name not in ("backbone", *_OF_THE_RUN)}
        predict = {name: value for name, value in config["predict"].items() if name not in _ONLY_SPEED}
        store = config["cache"]["store"]
        return {
            "list_clips": {"on_bad_clip": config["on_bad_clip"]},
            # Where it lies counts for packing alone: who reads it goes by its digest.
            "pack": {"version": schema.VERSION, **({"cache.store": store} if store else {})},
            "make_folds": {"folds": config["folds"]},
            "embed_faces": {"train": {"seed": config["train"]["seed"]}},
            "train_model": {"train": train, "emotions": config["emotions"]},
            "predict": {"emotions": config["emotions"], "predict": predict | {"ablate": sorted(predict["ablate"])}},
            "agreement": {"emotions": config["emotions"]},
            "score": {
                "emotions": config["emotions"],
                "folds": {"disjoint": config["folds"]["disjoint"]},
                **({"score": config["score"]} if task == "emotion" else {}),
            },
            "tabulate_scores": {"tasks": config["tasks"]},
            "report": {
                "report": config["report"],
                "predict": {"ablate": sorted(config["predict"]["ablate"])},
                "annotations": config["annotations"] is not None,
            },
        }.get(stage, {})

    def _contents(self, stage: str, task: str) -> dict[str, str]:
        """Files that count by their content."""
        backbone = self.config["train"]["backbone"]
        if stage in ("embed_faces", "train_model") and backbone is not None:
            is_public = backbone == "imagenet"  # one file, which its sha256 tells
            return {"train.backbone": backbone if is_public else self.fingerprints.of(Path(backbone))}
        if stage == "predict" and not self.trains:
            names = [f"{task}/fold{fold}.safetensors" for fold in self.folds]
            return {name: self.fingerprints.of(Path(self.config["checkpoints"]) / name) for name in names}
        if stage == "agreement":
            return {"annotations": digest_of(self.annotations)}
        if stage == "report":
            parts = sorted((module_folder("smad_models") / _PAGE).iterdir())
            return {f"{_PAGE}/{part.name}": self.fingerprints.of(part) for part in parts}
        return {}

    def _labels(self, stage: str, task: str) -> dict[str, str]:
        """The labels that count, by task. Those that balance the folds are checked then, and never count."""
        if stage not in ("make_folds", "train_model", "score", "report"):
            return {}
        return {name: digest for name, digest in self.targets.items() if stage == "report" or name == task}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _checkpoint_record(path: Path) -> dict[str, Any]:
    """What a checkpoint was made from; empty where there is none of ours.

    The head of a safetensors file is a length (8 bytes, little endian) and as much JSON, with all that is said of the
    file in one text.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            head = json.loads(file.read(min(length, 100_000_000)))
        return dict(json.loads(head["__metadata__"]["smad"])["record"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def explain_later(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Why a product whose record was ``old`` is stale when ``new`` is wanted: a sentence a cause; empty = it is not."""
    if not old:
        return ["what it depends on was never written down"]
    causes = []
    if old.get("rows") != new.get("rows"):
        causes.append("rows of the table of clips changed")
    if old.get("stimuli") != new.get("stimuli"):
        causes.append("which clips name a stimulus, or the same one, changed")
    causes += [f"setting `{key}`: {a} -> {b}" for key, a, b in differences(old["settings"], new["settings"])]
    for part, words in (
        ("contents", "content of `{}` changed"),
        ("labels", "labels of `{}` changed"),
        ("code", "code of `{}` changed"),
    ):
        changed = sorted(key for key in old[part].keys() | new[part].keys() if old[part].get(key) != new[part].get(key))
        causes += [words.format(key) for key in changed]
    for library in sorted(old["libraries"].keys() | new["libraries"].keys()):
        a, b = (part["libraries"].get(library) for part in (old, new))
        causes += [] if a == b else [f"library {library}: {a} -> {b}"]
    return causes or ([] if digest_of(old) == digest_of(new) else ["its record is spelt otherwise"])
