# predictions + labels -> scores -> one page. Without labels there is nothing to score.

POLARITY = None
if CONFIG["score"]["polarity"] is not None:
    POLARITY = ",".join(f"{emotion}={group}" for emotion, group in CONFIG["score"]["polarity"].items())
SCORES = expand("results/scores/{task}.json", task=CONFIG["tasks"])
ABLATIONS = expand(
    "results/ablations/{task}/{modality}.parquet",
    task=CONFIG["tasks"],
    modality=CONFIG["predict"]["ablate"],
)


rule score:
    input:
        predictions="results/predictions/{task}.parquet",
        checkpoints=[mark(f"{CHECKPOINTS}/{{task}}/fold{fold}.safetensors") for fold in FOLDS],
        cache="results/cache.json",
        folds="results/folds.tsv",
        key=later_key("score"),
    output:
        "results/scores/{task}.json",
    log:
        "logs/score/{task}.log",
    threads: 1
    resources:
        mem_mb=needs("mem_mb", "score"),
        runtime=needs("runtime", "score"),
        disk_mb=needs("disk_mb", "score"),
    params:
        labels=LABELS_OPTION,
        emotions=EMOTIONS,
        options=options(
            {
                "cache": AWAY or "results/cache.zarr",
                "checkpoints": CHECKPOINTS,
                "stimuli": STIMULI,
                "polarity": POLARITY,
            }
        ),
    shell:
        "smad-models score --task {wildcards.task} --emotions {params.emotions} --predictions {input.predictions}"
        " {params.labels} {params.options} --folds {input.folds} --key {input.key} --output {output} > {log} 2>&1"


rule tabulate_scores:
    input:
        SCORES,
        key=later_key("tabulate_scores"),
    output:
        report("results/scores.tsv", caption="../report/scores.rst", category="Scores"),
    log:
        "logs/tabulate_scores.log",
    threads: 1
    resources:
        mem_mb=needs("mem_mb", "tabulate_scores"),
        runtime=needs("runtime", "tabulate_scores"),
        disk_mb=needs("disk_mb", "tabulate_scores"),
    params:
        scores=SCORES,
    shell:
        "smad-models score --show {params.scores} --table {output} > {log} 2>&1"


rule report:
    input:
        SCORES,
        expand("results/predictions/{task}.parquet", task=CONFIG["tasks"]),
        ABLATIONS,
        [] if CONFIG["annotations"] is None else "results/agreement.json",
        "results/clips.tsv",
        "results/quality.tsv",
        "results/quality_participants.tsv",
        "results/folds.tsv",
        "results/cache.json",
        key=later_key("report"),
    output:
        page=report("results/report.html", caption="../report/report.rst", category="Report"),
        quality=report("results/quality.svg", caption="../report/quality.rst", category="Quality"),
    log:
        "logs/report.log",
    threads: 1
    resources:
        mem_mb=needs("mem_mb", "report"),
        runtime=needs("runtime", "report"),
        disk_mb=needs("disk_mb", "report"),
    params:
        settings=SETTINGS,
        labels=LABELS_OPTION,
        tasks=",".join(CONFIG["tasks"]),
    shell:
        "smad-models report --tasks {params.tasks} {params.labels} --settings {params.settings}"
        " --figure {output.quality} --output {output.page} > {log} 2>&1"
