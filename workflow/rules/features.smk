# clips.tsv -> faces and eyes (a job a participant each) -> gaze content -> manifest, quality, packed cache.


if PER_JOB is None:

    rule extract_faces:
        input:
            unit_key("faces"),
        output:
            update("results/faces/{participant}.zarr.zip"),
        log:
            "logs/extract_faces/{participant}.log",
        threads: 1
        resources:
            mem_mb=unit_needs("mem_mb", "faces"),
            runtime=unit_needs("runtime", "faces"),
            disk_mb=unit_needs("disk_mb", "faces"),
        params:
            settings=SETTINGS,
        shell:
            "smad-features faces --configfile {params.settings} --key {input} --threads {threads}"
            " --output {output} -- {wildcards.participant} > {log} 2>&1"

    rule resample_eyes:
        input:
            unit_key("eyes"),
        output:
            update("results/eyes/{participant}.zarr.zip"),
        log:
            "logs/resample_eyes/{participant}.log",
        threads: 1
        resources:
            mem_mb=unit_needs("mem_mb", "eyes"),
            runtime=unit_needs("runtime", "eyes"),
            disk_mb=unit_needs("disk_mb", "eyes"),
        params:
            settings=SETTINGS,
        shell:
            "smad-features eyes --configfile {params.settings} --key {input} --threads {threads}"
            " --output {output} -- {wildcards.participant} > {log} 2>&1"

    # Of participants with a clip that names a stimulus. What it reads of the other units' contents no key can say before
    # they are made: they are inputs, and the job keeps what they leave alone.
    rule extract_gaze_content:
        input:
            key=unit_key("gaze_content"),
            faces="results/faces/{participant}.zarr.zip",
            eyes="results/eyes/{participant}.zarr.zip",
        output:
            update("results/gaze_content/{participant}.zarr.zip"),
        log:
            "logs/extract_gaze_content/{participant}.log",
        threads: 1
        resources:
            mem_mb=unit_needs("mem_mb", "gaze_content"),
            runtime=unit_needs("runtime", "gaze_content"),
            disk_mb=unit_needs("disk_mb", "gaze_content"),
        params:
            settings=SETTINGS,
        shell:
            "smad-features gaze-content --configfile {params.settings} --key {input.key} --threads {threads}"
            " --output {output} -- {wildcards.participant} > {log} 2>&1"


# Several participants a job, as a cluster wants it (`run.participants_per_job`). Their units are no output of it.
rule make_units:
    input:
        shared_before,
        participants=shared_list,
    output:
        touch(".smad/jobs/{stage}/{job}.done"),
    log:
        "logs/make_units/{stage}/{job}.log",
    threads: 1
    resources:
        mem_mb=unit_needs("mem_mb"),
        runtime=unit_needs("runtime"),
        disk_mb=unit_needs("disk_mb"),
    params:
        command=lambda wildcards: wildcards.stage.replace("_", "-"),
        settings=SETTINGS,
    shell:
        "smad-features {params.command} --configfile {params.settings} --list {input.participants} --threads {threads}"
        " > {log} 2>&1"


rule list_clips:
    input:
        all_units,
        later_key("list_clips"),
    output:
        "results/clips.tsv",
    log:
        "logs/list_clips.log",
    threads: 1
    resources:
        mem_mb=needs("mem_mb", "list_clips"),
        runtime=needs("runtime", "list_clips"),
        disk_mb=needs("disk_mb", "list_clips"),
    params:
        settings=SETTINGS,
    shell:
        "smad-features list-clips --configfile {params.settings} --output {output} > {log} 2>&1"


# The units are named again here and below: a list of clips may be the same, byte for byte, after one was made anew.
rule quality:
    input:
        all_units,
        "results/clips.tsv",
        later_key("quality"),
    output:
        quality="results/quality.tsv",
        participants="results/quality_participants.tsv",
        channels="results/quality_channels.tsv",
    log:
        "logs/quality.log",
    threads: 1
    resources:
        mem_mb=needs("mem_mb", "quality"),
        runtime=needs("runtime", "quality"),
        disk_mb=needs("disk_mb", "quality"),
    params:
        settings=SETTINGS,
    shell:
        "smad-features quality --configfile {params.settings} --output {output.quality} > {log} 2>&1"


rule pack:
    input:
        all_units,
        "results/clips.tsv",
        later_key("pack"),
    output:
        update("results/cache.json"),
    log:
        "logs/pack.log",
    threads: 4
    resources:
        mem_mb=needs("mem_mb", "pack"),
        runtime=needs("runtime", "pack"),
        disk_mb=needs("disk_mb", "pack"),
    params:
        settings=SETTINGS,
    shell:
        "smad-features pack --configfile {params.settings} --threads {threads} > {log} 2>&1"
