# annotations -> how far annotators agree. Of the clips in the table, whatever became of their recordings.


rule agreement:
    input:
        key=later_key("agreement"),
    output:
        report("results/agreement.json", caption="../report/agreement.rst", category="Annotations"),
    log:
        "logs/agreement.log",
    threads: 1
    resources:
        mem_mb=needs("mem_mb", "agreement"),
        runtime=needs("runtime", "agreement"),
        disk_mb=needs("disk_mb", "agreement"),
    params:
        annotations=options({"annotations": CONFIG["annotations"], "clips": CONFIG["clips"]}),
        emotions=EMOTIONS,
    shell:
        "smad-models agreement {params.annotations} --emotions {params.emotions} --key {input.key}"
        " --output {output} > {log} 2>&1"
