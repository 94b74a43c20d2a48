# First of all the configuration and all tables are checked, and each product is compared with what it should
# be made from. What a stage depends on is handed to Snakemake as one digest in a small key file, the rule's input.

import atexit
import shlex
import sys
import tempfile
import uuid
from functools import cache
from pathlib import Path

from smad_features import config as configuration
from smad_features import atomic, cluster, costs, failures, fingerprints, freshness, later_stages, manifest
from smad_features import model_files, privacy, shared_jobs, turns
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

SMAD = Path(".smad")
ON_CLUSTER = SMAD / "on_cluster"  # there while a run on a cluster is not known to have ended well
SETTINGS = SMAD / "config.json"  # the configuration with every default, for the jobs

try:
    update_config(config, configuration.read_said(workflow.config_settings.config))
    CONFIG = configuration.complete_config(dict(config))
    # A cluster's job reads all this again, and needs to know no clip for it.
    CLIPS = manifest.read_clips(Path(CONFIG["clips"])) if workflow.is_main_process else []
    manifest.check_clips(CLIPS, CONFIG)
    if CONFIG["eye"]["columns"]:
        from smad_features.recordings import generic_table  # imports pandas, which most runs need not wait for

        generic_table.check_columns(CONFIG["eye"]["columns"])
except ValueError as error:
    raise WorkflowError(str(error)) from None

privacy.make_with(CONFIG["cache"]["mode"])  # each job inherits it

# A dry run, a cluster job (it reads all this again) and a mere question write nothing of the user's.
QUESTIONS = {"--lint", "--list-rules", "--list-target-rules", "--summary", "--detailed-summary", "--dag", "--rulegraph"}
IS_RUN = workflow.is_main_process and not workflow.output_settings.dryrun and not QUESTIONS & set(sys.argv)

# Here and not in an input function: Snakemake takes an error there for "use the file that exists".
FINGERPRINTS = fingerprints.Fingerprints(SMAD / "fingerprints.sqlite" if workflow.is_main_process else None)
try:
    if IS_RUN:
        atomic.check_writable(SMAD)
        LOCK = turns.hold_lock(SMAD / "lock")  # until this process ends
        cluster.end_leftovers(Path.cwd(), ON_CLUSTER)
        turns.wait_for_jobs(SMAD / "jobs.lock")
        shared_jobs.clear_jobs()
        for folder in (Path("results"), SMAD):
            atomic.sweep_drafts(folder)
        turns.date_back(Path("results"))
    UNITS = {}
    if workflow.is_main_process:
        UNITS = {(u.stage, u.participant): u for u in freshness.plan_units(CLIPS, CONFIG, FINGERPRINTS)}
    if IS_RUN:
        if any(unit.stage == "faces" and not unit.is_fresh for unit in UNITS.values()):
            model_files.find_models(CONFIG["face"])  # once, before any of the jobs asks for them
        for folder in ("results", "logs"):
            atomic.check_writable(Path(folder))
        failures.clear_failures()
        if privacy.mode_held(SETTINGS) != CONFIG["cache"]["mode"]:
            for folder in ("results", "logs", SMAD, ".snakemake"):
                privacy.apply_mode(Path(folder), CONFIG["cache"]["mode"])
        freshness.write_key(SETTINGS, f"{fingerprints.canonical(CONFIG)}\n")
        freshness.write_common(UNITS.values())
        atexit.register(FINGERPRINTS.save)  # at the end: given checkpoints are looked at later than the clips
except (BlockingIOError, atomic.StorageError, cluster.ClusterError, model_files.ModelFileError) as error:
    raise WorkflowError(str(error)) from None

# Each job holds this lock as one of many. What a run that was killed left at work would else write into the next one.
# Where the file system knows no locks, the job goes on without.
shell.prefix(f"exec 9>> {SMAD}/jobs.lock; if command -v flock > /dev/null; then flock -s 9 2> /dev/null || :; fi; ")

# On a cluster: jobs of several participants, all of them of units that are not fresh.
PER_JOB = CONFIG["run"]["participants_per_job"]
SHARED = {}
if PER_JOB is not None:
    RUN = uuid.uuid4().hex[:8]
    for job in shared_jobs.deal_out(UNITS.values(), run=RUN, per_job=PER_JOB):
        SHARED[job.stage, job.name] = job
        if IS_RUN:
            shared_jobs.write_list(job)

LATER = later_stages.Later(CLIPS, CONFIG, FINGERPRINTS, list(UNITS.values()))
FOLDS, TRAINS = LATER.folds, LATER.trains
CHECKPOINTS = "results/checkpoints" if TRAINS else CONFIG["checkpoints"]


wildcard_constraints:
    participant=r"[A-Za-z0-9._-]+",
    task="|".join(CONFIG["tasks"]),
    fold=r"\d+",
    stage="|".join(freshness.STAGES),
    job=r"[0-9a-f]+-\d+",


@cache
def dry_keys():
    """Under -n nothing of the user's is written: keys that would change go here, and the changed input plans the job."""
    return tempfile.TemporaryDirectory(prefix="smad-keys-")


@cache
def changed_key():
    """One file there for all keys that would change: 20,000 files would take as long as all else that is planned."""
    path = Path(dry_keys().name) / "changed.key"
    path.touch()
    os.utime(path, (2**32, 2**32))  # later than any product, even one dated in the future
    return path


@cache
def key(name, digest, made=None):
    """The key file of a product, brought up to date; `made` is the digest that the product itself records.

    A product that is what it should be never reruns for its key.
    """
    path = freshness.key_path(name)
    text = freshness.next_key(path, digest, made=made)
    is_lost = not path.exists() and Path("results").exists()  # made anew even under -n, as it says nothing new
    if text is not None and (IS_RUN or (is_lost and workflow.is_main_process)):
        freshness.write_key(path, text)
    elif text is not None and workflow.is_main_process:
        path = changed_key()
    return ancient(str(path)) if made == digest else str(path)


def all_units(wildcards):
    """Every unit, or the mark of the job that makes it. A target names them all, so that one that is lost is made again.

    A job on a cluster is told of none: it looks for itself, and no node's late view of the file system stops it.
    """
    return list(unit_marks())


@cache
def unit_marks():
    if PER_JOB is None or not workflow.is_main_process:
        return [str(path) for files in freshness.unit_files(CLIPS).values() for path in files.values()]
    return [str(unit.path) for unit in UNITS.values() if unit.is_fresh] + [str(job.mark) for job in SHARED.values()]


def shared_list(wildcards):
    """The list of a shared job's participants; under -n it is written aside."""
    if IS_RUN or not workflow.is_main_process:
        return str(shared_jobs.list_path(wildcards.stage, wildcards.job))
    job = SHARED[wildcards.stage, wildcards.job]
    return str(shared_jobs.write_list(job, folder=Path(dry_keys().name) / "jobs"))


def shared_before(wildcards):
    """The marks of the shared jobs that make what a shared job reads."""
    own = SHARED.get((wildcards.stage, wildcards.job))
    if own is None:
        return []
    read = {source.stage for source in freshness.STAGES[wildcards.stage].inputs}
    return [str(job.mark) for job in SHARED.values() if job.stage in read and job.digests.keys() & own.digests.keys()]


def unit_key(stage):
    """The key of a participant's unit; the unit's own record is the truth."""

    def of(wildcards):
        if not workflow.is_main_process:
            return str(freshness.key_path(f"{stage}/{wildcards.participant}"))
        unit = UNITS[stage, wildcards.participant]
        return key(f"{stage}/{unit.participant}", unit.digest, unit.made_digest)

    return of


def later_key(rule):
    """The key of a product that is not made participant by participant, and beside it what it depends on, for `status`."""

    def of(wildcards):
        name = f"{rule}/{wildcards.task}" if hasattr(wildcards, "task") else rule
        return key_of_later(name) if workflow.is_main_process else str(freshness.key_path(name))

    return of


@cache
def key_of_later(name):
    try:
        record = LATER.record(name)
    except ValueError as error:
        raise WorkflowError(str(error)) from None
    if IS_RUN:
        freshness.write_key(freshness.key_path(name).with_suffix(".json"), fingerprints.canonical(record))
    digest = fingerprints.digest_of(record)
    return key(name, digest, LATER.made(name, digest))


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


def mark(checkpoint):
    """A given checkpoint counts by its content, in the key; a trained one as Snakemake sees it."""
    return checkpoint if TRAINS else ancient(checkpoint)


def whole_benchmark(wildcards):
    """All that `all` asks for, once labels and checkpoints are known to be right."""
    try:
        LATER.targets
    except ValueError as error:
        raise WorkflowError(str(error)) from None
    files = ["results/clips.tsv", "results/quality.tsv", "results/cache.json", "results/folds.tsv"]
    files += ["results/quality_participants.tsv", "results/quality_channels.tsv"]
    files += expand(["results/predictions/{task}.parquet", *PREDICTED_BESIDE], task=CONFIG["tasks"])
    files += [f"{CHECKPOINTS}/{task}/fold{fold}.safetensors" for task in CONFIG["tasks"] for fold in FOLDS]
    files += [] if CONFIG["annotations"] is None else ["results/agreement.json"]
    return files + ([] if CONFIG["labels"] is None else ["results/scores.tsv", "results/report.html"])


onstart:
    # What it leaves in the queue is cancelled by the next run, unless all went well.
    if workflow.non_local_exec:
        ON_CLUSTER.touch()


onsuccess:
    ON_CLUSTER.unlink(missing_ok=True)
