"""The report's figures as custom content of MultiQC: a table with one row for the run, which needs no plugin."""

from __future__ import annotations

import json

from annotator.kinds import Kind
from annotator.report.facts import Facts
from annotator.results.pages import MARK
from annotator.results.results import Results


def multiqc_json(sample: str, results: Results, facts: Facts) -> str:
    """The text of annotator_mqc.json.

    Args:
        sample: Name of the sample.
        results: The run.
        facts: Its figures.
    """
    row: dict[str, float] = {"mb": round(facts.bases / 1e6, 6), "contigs": len(results.contigs)}
    headers = {
        "mb": {"title": "Mb", "description": "Length of the genome in Mb", "format": "{:,.2f}"},
        "contigs": {"title": "Contigs", "description": "Contigs of the genome", "format": "{:,.0f}"},
    }
    for kind in facts.kinds:
        row[f"{kind}_calls"] = facts.calls[kind]
        row[f"{kind}_per_mb"] = round(facts.per_mb(kind), 4)
        headers[f"{kind}_calls"] = {"title": f"{kind}", "description": f"{kind} calls, both strands", "format": "{:,.0f}"}
        headers[f"{kind}_per_mb"] = {"title": f"{kind} / Mb", "description": f"{kind} calls per Mb", "format": "{:,.1f}"}
        mean = facts.expected[kind]
        if mean is not None and kind is not Kind.TFBS:
            row[f"{kind}_expected_precision"] = round(mean, 4)
            headers[f"{kind}_expected_precision"] = {
                "title": f"{kind} precision", "description": f"Mean probability of the {kind} calls", "format": "{:,.3f}",
            }  # fmt: skip
    row["failed_contigs"] = int(results.run.get("failed_contigs", {}).get("count", 0))
    headers["failed_contigs"] = {"title": "Failed", "description": "Contigs that failed", "format": "{:,.0f}"}
    content = {
        "id": "genome_annotator", "section_name": "Genome annotator",
        "description": f"Calls of genome-annotator: promoters, splice sites, binding sites. {MARK}.", "plot_type": "table",
        "pconfig": {"id": "genome_annotator_table", "title": "Genome annotator: calls", "namespace": "Genome annotator"},
        "headers": headers, "data": {sample: row},
    }  # fmt: skip
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
