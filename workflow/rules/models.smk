# cache -> folds -> train (task, fold) -> predict (task).

EMOTIONS = ",".join(CONFIG["emotions"])
IS_FROZEN = CONFIG["train"]["freeze_face"]
FACE_FEATURES = "results/face_features"
LABELS_OPTION = options({"labels": CONFIG["labels"]})
BACKBONE = CONFIG["train"]["backbone"]
STIMULI = CONFIG["clips"] if "stimulus" in CONFIG["folds"]["disjoint"] else None
RECIPE = {name: x for name, x in CONFIG["train"].items() if name not in ("freeze_face", "deterministic")}
for name in ("augment", "loss_weights"):
    RECIPE[name] = ",".join(map(str, RECIPE[name] or [])) or None
RECIPE["no_deterministic"] = not CONFIG["train"]["deterministic"]
AWAY = None if CONFIG["cache"]["store"] is None else f"{CONFIG['cache']['store']}/cache.zarr"  # else results/cache.zarr
PREDICTED_BESIDE = [f"results/{name}" for name in later_stages.predicted_beside(CONFIG)]


rule make_folds:
    input:
        manifest="results/clips.tsv",
        key=later_key("make_folds"),
    output:
        update("results/folds.tsv"),
    log:
        "logs/make_folds.log",
    threads: 1
    resources:
        mem_mb=needs("mem_mb", "make_folds"),
        runtime=needs("runtime", "make_folds"),
        disk_mb=needs("disk_mb", "make_folds"),
    params:
        labels=LABELS_OPTION,
        options=options({k: v for k, v in CONFIG["folds"].items() if k != "disjoint"} | {"stimuli": STIMULI}),
        memory=SMAD / "folds.tsv",
    shell:
        "smad-models folds --manifest {input.manifest} {params.labels} {params.options}"
        " --memory {params.memory} --output {output} > {log} 2>&1"


if TRAINS:

    rule embed_faces:
        input:
            cache="results/cache.json",
            folds="results/folds.tsv",
            key=later_key("embed_faces"),
        output:
            update(f"{FACE_FEATURES}/fold{{fold}}.safetensors"),
        log:
            "logs/embed_faces/fold{fold}.log",
        threads: 1
        resources:
            mem_mb=needs("mem_mb", "embed_faces"),
            runtime=needs("runtime", "embed_faces"),
            disk_mb=needs("disk_mb", "embed_faces"),
            gpu=gpus,
        params:
            options=options({"seed": CONFIG["train"]["seed"], "backbone": BACKBONE, "cache": AWAY}),
        shell:
            "smad-models embed-faces --fold {wildcards.fold} --folds {input.folds} --key {input.key} --threads {threads}"
            " {params.options} --output {output} > {log} 2>&1"

    # A training that was stopped left fold{k}.state.safetensors beside its output, and goes on from there. That file and
    # fold{k}.history.json are no outputs: Snakemake neither removes them before a job nor after one that failed.
    rule train_model:
        input:
            cache="results/cache.json",
            folds="results/folds.tsv",
            key=later_key("train_model"),
            face_features=f"{FACE_FEATURES}/fold{{fold}}.safetensors" if IS_FROZEN else [],
        output:
            update("results/checkpoints/{task}/fold{fold}.safetensors"),
        log:
            "logs/train_model/{task}/fold{fold}.log",
        threads: 1 if IS_FROZEN else 8
        resources:
            mem_mb=training_needs("mem_mb"),
            runtime=training_needs("runtime"),
            disk_mb=training_needs("disk_mb"),
            gpu=gpus,
        params:
            labels=LABELS_OPTION,
            emotions=EMOTIONS,
            options=options(RECIPE | {"cache": AWAY}),
            face_features=f"--face-features {FACE_FEATURES}/fold{{fold}}.safetensors" if IS_FROZEN else "",
        shell:
            "smad-models train --task {wildcards.task} --fold {wildcards.fold} --emotions {params.emotions} {params.labels}"
            " --folds {input.folds} --key {input.key} --threads {threads} {params.options} {params.face_features}"
            " --output {output} > {log} 2>&1"


rule predict:
    input:
        checkpoints=[mark(f"{CHECKPOINTS}/{{task}}/fold{fold}.safetensors") for fold in FOLDS],
        face_features=[f"{FACE_FEATURES}/fold{fold}.safetensors" for fold in FOLDS] if TRAINS and IS_FROZEN else [],
        cache="results/cache.json",
        folds="results/folds.tsv",
        key=later_key("predict"),
    output:
        predictions=update("results/predictions/{task}.parquet"),
        beside=[update(pattern) for pattern in PREDICTED_BESIDE],
    log:
        "logs/predict/{task}.log",
    threads: 1 if TRAINS and IS_FROZEN else 8
    resources:
        mem_mb=needs("mem_mb", "predict"),
        runtime=needs("runtime", "predict"),
        disk_mb=needs("disk_mb", "predict"),
        gpu=gpus,
    params:
        emotions=EMOTIONS,
        options=options(
            {
                "checkpoints": CHECKPOINTS,
                "face_features": FACE_FEATURES if TRAINS and IS_FROZEN else None,
                "cache": AWAY,
            }
        ),
        how=options({k: v for k, v in CONFIG["predict"].items() if k not in ("embeddings", "ablate")}),
        embeddings="--embeddings results/embeddings/{task}.parquet" if CONFIG["predict"]["embeddings"] else "",
        ablate=(
            f"--ablate {','.join(CONFIG['predict']['ablate'])} --ablations results/ablations"
            if CONFIG["predict"]["ablate"]
            else ""
        ),
    shell:
        "smad-models predict --task {wildcards.task} --emotions {params.emotions} {params.options} {params.how}"
        " {params.embeddings} {params.ablate} --folds {input.folds} --key {input.key} --threads {threads}"
        " --output {output.predictions} > {log} 2>&1"
