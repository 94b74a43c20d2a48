# predictions + labels -> scores -> one page. Without labels there is nothing to score.

SCORES = expand("results/scores/{task}.json", task=CONFIG["tasks"])
SCORE_KEY = stage_key(
    "score/{task}",
    targets=lambda wildcards: targets()[wildcards.task],
    emotions=CONFIG["emotions"],
    modules=["smad_models.score", "smad_models.metrics", "smad_models.tasks", "smad_models.folds"],
    libraries=["scikit-learn", "scipy"],
)
REPORT_KEY = stage_key(
    "report",
    page=CONFIG["report"],
    targets=lambda wildcards: targets(),
    modules=["smad_models.report", "smad_models.charts"],
    template=fingerprints.hash_file(fingerprints.module_folder("smad_models") / "report.html.jinja"),
)


rule score:
    input:
        predictions="results/predictions/{task}.parquet",
        folds="results/folds.tsv",
        key=SCORE_KEY,
    output:
        "results/scores/{task}.json",
    log:
        "logs/score/{task}.log",
    params:
        labels=LABELS_OPTION,
        emotions=EMOTIONS,
    shell:
        "smad-models score --task {wildcards.task} --emotions {params.emotions} --predictions {input.predictions}"
        " {params.labels} --folds {input.folds} --key {input.key} --output {output} > {log} 2>&1"


rule tabulate_scores:
    input:
        SCORES,
        key=stage_key("tabulate_scores", tasks=CONFIG["tasks"], modules=["smad_models.score"]),
    output:
        report("results/scores.tsv", caption="../report/scores.rst", category="Scores"),
    log:
        "logs/tabulate_scores.log",
    params:
        scores=SCORES,
    shell:
        "smad-models score --show {params.scores} --table {output} > {log} 2>&1"


rule report:
    input:
        SCORES,
        expand("results/predictions/{task}.parquet", task=CONFIG["tasks"]),
        "results/clips.tsv",
        "results/quality.tsv",
        "results/cache.json",
        key=REPORT_KEY,
    output:
        report("results/report.html", caption="../report/report.rst", category="Report"),
    log:
        "logs/report.log",
    params:
        settings=SETTINGS,
        labels=LABELS_OPTION,
        tasks=",".join(CONFIG["tasks"]),
    shell:
        "smad-models report --tasks {params.tasks} {params.labels} --settings {params.settings} --output {output} > {log} 2>&1"
