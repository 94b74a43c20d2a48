# First of all the configuration and all tables are checked, and each product is compared with what it should
# be made from. What a stage depends on is handed to Snakemake as one digest in a small key file, the rule's input.

import shlex
import tempfile
from functools import cache
from pathlib import Path

from smad_features import config as configuration
from smad_features import freshness, manifest, model_files
from snakemake.exceptions import WorkflowError

SMAD = Path(".smad")
SETTINGS = SMAD / "config.json"  # the configuration with every default, for the jobs

try:
    CONFIG = configuration.complete_config(dict(config))
    CLIPS = manifest.read_clips(Path(CONFIG["clips"]))
    manifest.check_clips(CLIPS, CONFIG)
except ValueError as error:
    raise WorkflowError(str(error)) from None

PARTICIPANTS = sorted({clip.participant for clip in CLIPS})
FOLDS = range(1, CONFIG["folds"]["count"] + 1)
CHECKPOINTS = "results/checkpoints" if CONFIG["checkpoints"] == "train" else CONFIG["checkpoints"]
CLIP_TABLE = sorted([c.participant, c.clip, c.fold] for c in CLIPS)


wildcard_constraints:
    participant=r"[A-Za-z0-9._-]+",
    task="|".join(CONFIG["tasks"]),
    fold=r"\d+",


# All that follows is called by input functions, because only then Snakemake knows whether this is a dry run. A cluster
# job reads all this again, and must not write: the main process has.


def is_running():
    """This is the main process of a run that will do work: not -n, not --lint or --summary, not a cluster job."""
    return workflow.is_main_process and workflow.executor_plugin is not None and not workflow.dryrun


@cache
def begin_run():
    """Take the lock of this working directory until this process ends, and leave the configuration for the jobs."""
    try:
        lock = freshness.hold_lock(SMAD / "lock")
    except BlockingIOError as error:
        raise WorkflowError(str(error)) from None
    freshness.write_key(SETTINGS, f"{freshness.canonical(CONFIG)}\n")
    return lock


@cache
def dry_keys():
    """Under -n nothing of the user's is written: keys that would change go here, and the changed input plans the job."""
    return tempfile.TemporaryDirectory(prefix="smad-keys-")


@cache
def key(name, digest, made=None):
    """The key file of a product, brought up to date; `made` is the digest that the product itself records.

    A product that is what it should be never reruns for its key.
    """
    path = SMAD / "keys" / f"{name}.key"
    text = freshness.next_key(path, digest, made=made)
    if is_running():
        begin_run()
        if text is not None:
            freshness.write_key(path, text)
    elif text is not None and workflow.is_main_process:
        path = Path(dry_keys().name) / f"{name}.key"
        freshness.write_key(path, text)
    return ancient(str(path)) if made == digest else str(path)


@cache
def targets():
    """The labels by task, checked. Read only for a target that needs them: `features` wants none."""
    try:
        return manifest.read_targets(CLIPS, CONFIG)
    except ValueError as error:
        raise WorkflowError(str(error)) from None


@cache
def planned_units():
    """Each unit as it should be and as it is, by stage and participant."""
    with freshness.Fingerprints(SMAD / "fingerprints.sqlite", learn=is_running()) as fingerprints:
        units = freshness.plan_units(CLIPS, CONFIG, fingerprints)
    needs_model = any(unit.stage == "faces" and not unit.is_fresh for unit in units)
    if is_running() and needs_model and CONFIG["face"]["align"] != "none":
        try:  # once, before any of the jobs asks for it
            model_files.find_model(CONFIG["face"]["model"], given=CONFIG["face"]["model_file"])
        except model_files.ModelFileError as error:
            raise WorkflowError(str(error)) from None
    return {(unit.stage, unit.participant): unit for unit in units}


def unit_key(stage):
    """The key of a participant's unit; the unit's own record is the truth."""

    def of(wildcards):
        if not workflow.is_main_process:
            return str(SMAD / "keys" / stage / f"{wildcards.participant}.key")
        unit = planned_units()[stage, wildcards.participant]
        made = None if unit.made is None else unit.made["digest"]
        return key(f"{stage}/{unit.participant}", unit.digest, made)

    return of


def pack_key(wildcards):
    """The key of the packed cache: changed when the store that cache.json speaks of is gone."""
    digest = freshness.digest_of([freshness.schema.VERSION, CLIP_TABLE])
    is_lost = Path("results/cache.json").exists() and not Path("results/cache.zarr").exists()
    return key("pack", digest, "lost" if is_lost else None)


def stage_key(name, *, modules=(), libraries=(), **facts):
    """The key of a stage that is not made participant by participant: its facts, its code, its libraries."""

    def of(wildcards):
        ours = name.format(**wildcards)
        own = {fact: value(wildcards) if callable(value) else value for fact, value in facts.items()}
        code = {module: freshness.code_digest(module) for module in modules}
        versions = {library: freshness.library_version(library) for library in libraries}
        return key(ours, freshness.digest_of({**own, "code": code, "libraries": versions}))

    return of


def options(settings):
    """Settings as command line options: {"batch_size": 16, "freeze_face": True} -> --batch-size 16 --freeze-face."""
    words = []
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words.append(f"{option} {shlex.quote(str(value))}")
    return " ".join(words)
