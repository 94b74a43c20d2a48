# What jobs ask of a cluster: memory, time and disk by their input, more with each attempt, and a GPU where there is one.


@cache
def sources():
    """(stage, participant) -> how many sources its unit is made from, and their size in bytes as far as it is known."""
    found = {}
    for clip in CLIPS:
        for stage in freshness.STAGES.values():
            count, size = found.get((stage.name, clip.participant), (0, 0))
            path = getattr(clip, stage.file_column)
            known = 0 if path is None else FINGERPRINTS.size_of(path)
            found[stage.name, clip.participant] = (count + (path is not None), size + known)
    return found


def unit_needs(resource, stage=None):
    """What a job that makes units of a stage (None = of its wildcard) may need, by its sources and the attempt."""

    def of(wildcards, attempt):
        own = stage or wildcards.stage
        shared = None if stage else SHARED.get((own, wildcards.job))
        people = shared.digests if shared else [wildcards.participant] if stage else []
        parts = [sources().get((own, who), (0, 0)) for who in people]
        clips, size = sum(count for count, _ in parts), sum(size for _, size in parts)
        return getattr(costs.job_needs(costs.RULES[own], clips=clips, size=size, attempt=attempt), resource)

    return of


def needs(resource, rule):
    """What a job of a later rule may need of a resource, by the number of clips, its input's size and the attempt."""

    def of(wildcards, input, attempt):
        # Not `input.size`: of 20,000 units that are not made yet it looks at each, and the first one tells as much.
        size = sum(map(os.path.getsize, input)) if workflow.is_main_process else 0
        return getattr(costs.job_needs(rule, clips=len(CLIPS), size=size, attempt=attempt), resource)

    return of


def training_needs(resource):
    """What a training may need of a resource."""

    def of(wildcards, attempt):
        train = CONFIG["train"]
        return getattr(
            costs.training_needs(
                clips=len(CLIPS),
                epochs=train["epochs"],
                batch_size=train["batch_size"],
                is_frozen=train["freeze_face"],
                has_gpu=gpus(wildcards) > 0,
                attempt=attempt,
            ),
            resource,
        )

    return of


def gpus(wildcards):
    """How many GPUs a job with a network asks for: one where there are any."""
    return cluster.gpus_to_ask(on_cluster=workflow.executor_plugin is not None and workflow.non_local_exec)
