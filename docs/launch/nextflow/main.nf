#!/usr/bin/env nextflow
// One process for nf-core style pipelines, and a workflow to run it alone:
//
//   nextflow run docs/launch/nextflow --input samples.csv --outdir results
//
// samples.csv has the header sample,fasta. Options of annotator annotate go into ext.args, see nextflow.config.

process ANNOTATE {
    tag "${meta.id}"
    label 'process_gpu'

    container "${params.annotator_container}"

    input:
    tuple val(meta), path(fasta)

    output:
    tuple val(meta), path("${prefix}/*.bed.gz")           , emit: bed
    tuple val(meta), path("${prefix}/*.{csi,tbi}")        , emit: index
    tuple val(meta), path("${prefix}/predictions.parquet"), emit: parquet
    tuple val(meta), path("${prefix}/run.json")           , emit: json
    path "versions.yml"                                   , emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    annotator annotate ${fasta} \\
        -o ${prefix} \\
        -t ${task.cpus} \\
        --ray off \\
        --progress lines \\
        ${args}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        annotator: \$(annotator --version | sed 's/^annotator //')
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir ${prefix}
    echo "" | gzip > ${prefix}/splice_sites.bed.gz
    touch ${prefix}/splice_sites.bed.gz.csi ${prefix}/splice_sites.bed.gz.tbi
    touch ${prefix}/predictions.parquet
    echo "{}" > ${prefix}/run.json

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        annotator: \$(annotator --version | sed 's/^annotator //')
    END_VERSIONS
    """
}

workflow {
    assemblies = channel
        .fromPath(params.input, checkIfExists: true)
        .splitCsv(header: true)
        .map { row -> tuple([id: row.sample], file(row.fasta, checkIfExists: true)) }
    ANNOTATE(assemblies)
}
