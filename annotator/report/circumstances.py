"""The sections of a report about the run: what thresholds mean, what was skipped and why, what was used."""

from __future__ import annotations

import json
from typing import Any, Final

from annotator.kinds import Kind
from annotator.models.directory import BUNDLED, bundled_models
from annotator.models.manifest import MANIFEST_NAME
from annotator.report.elements import Cell, Figure, Section, Table
from annotator.report.facts import THRESHOLDS, Facts
from annotator.results.plan import LADDER
from annotator.results.results import Results
from annotator.results.workspace import lasting_files

_MOST_NAMES: Final = 20
_LADDER_STEPS: Final = 12

ALTERED: Final = {
    "n": "given as N",
    "iupac_as_n": "ambiguity codes (RYSWKMBDHV), read as N",
    "gap_as_n": "gaps (- . *), read as N",
    "mask_as_n": "masking characters, read as N",
    "u_as_t": "U, read as T",
    "lower_case": "in lower case, read as upper case",
}
"""Kinds of altered bases in run.json, in words."""


def thresholds(results: Results, facts: Facts) -> Section:
    """What the thresholds mean in expected precision."""
    plan = results.run["plan"]
    measured = _measured(plan)
    rows: list[list[Cell]] = []
    for kind in facts.kinds:
        if kind in results.thresholds:
            figures = measured.get(kind, {})
            row: list[Cell] = [str(kind), results.thresholds[kind], facts.calls[kind], facts.expected[kind]]
            rows.append([*row, figures.get("precision"), figures.get("recall"), figures.get("calibration_error")])
    head = ["kind", "threshold", "calls", "expected precision", "measured precision", "measured recall", "calibration error"]
    parts: list[Figure | Table | str] = [Table("Thresholds and what they mean", head, rows)]
    parts.append(
        "Expected precision is the mean probability of the calls: the share of them that is right if the model's probabilities "
        "hold for this genome. "
        + (
            f"Measured figures are those of the model's validation genomes ({measured['genomes']}), in its manifest; on a genome "
            "that is far from them both can be far off, which --truth shows."
            if measured
            else "The model's manifest is not at hand, so there are no measured figures beside it."
        )
    )
    choices: list[list[Cell]] = []
    for kind in facts.kinds:
        reached = dict(zip(THRESHOLDS, facts.at_least[kind], strict=False))
        lowest = results.thresholds.get(kind)
        if lowest is not None:
            choices += [[str(kind), t, calls, mean] for t, (calls, mean) in reached.items() if t >= lowest]
    if choices:
        columns = ["kind", "threshold", "calls", "expected precision"]
        parts.append(Table("What a higher threshold would leave", columns, choices))
    if ladder := plan.get(LADDER):
        steps: list[list[Cell]] = []
        for kind, entries in ladder.items():
            for entry in entries[:: max(1, len(entries) // _LADDER_STEPS)]:
                steps.append([kind, entry["threshold"], entry["calls"], entry["decoy_calls"], entry["fdr"]])
        head = ["kind", "threshold", "calls", "calls on decoys", "estimated false discovery rate"]
        parts.append(Table("What decoys said of each threshold, on a sample", head, steps))
    return Section("thresholds", "Thresholds", parts)


def skipped(results: Results) -> Section:
    """What was altered, skipped or given up, and why."""
    run = results.run
    given, counts = run.get("input", {}), run.get("counts", {})
    rows: list[list[Cell]] = []
    for name, count in (given.get("altered_bases") or {}).items():
        rows.append([f"bases: {ALTERED.get(name, name)}", count])
    rows.append(["runs of N", given.get("n_runs")])
    rows.append(["longest run of N, bp", given.get("longest_n_run_bp")])
    rows += [[name, count] for name, count in counts.items() if name not in ("bases", "windows")]
    parts: list[Figure | Table | str] = [Table("Counted", ["what", "how many"], [row for row in rows if row[1] is not None])]
    failed = run.get("failed_contigs", {})
    if failed.get("count"):
        reasons = sorted({str(entry.get("reason")) for entry in run.get("failed_shards", [])})
        parts.append(f"{failed['count']:,} contigs failed and are not in the files: {_names(failed.get('names', []))}.")
        parts += [f"Reason: {reason}" for reason in reasons[:_MOST_NAMES]]
    else:
        parts.append("No contig failed.")
    empty = given.get("empty_contigs", {})
    if empty.get("count"):
        parts.append(f"{empty['count']:,} contigs have no bases: {_names(empty.get('names', []))}.")
    if kinds := run.get("not_validated"):
        parts.append(f"Not validated for clade {run['plan']['clade']}: {', '.join(kinds)}; such calls may be of little use.")
    if out_of_reach := run.get("motifs_out_of_reach"):
        limit = (run["plan"].get("motifs") or {}).get("p_value")
        parts.append(f"{len(out_of_reach):,} motifs are too short to reach p <= {limit:g} and were not searched.")
    if run["plan"].get("regions_sha256"):
        parts.append("Only calls in the regions of a BED file were kept.")
    parts += [f"Warning: {warning}" for warning in given.get("warnings", [])[:_MOST_NAMES]]
    return Section("skipped", "What was skipped, and why", parts)


def provenance(results: Results) -> Section:
    """Versions, hashes, and the command."""
    run = results.run
    plan = run["plan"]
    model = plan["model"]
    rows: list[list[Cell]] = [
        ["model", f"{model['name']} {model['version']}"], ["sha256 of its weights", model.get("weights_sha256")],
        ["sha256 of its manifest", model.get("manifest_sha256")], ["clade", plan["clade"]], ["tasks", ", ".join(plan["tasks"])],
        ["genome", run.get("input", {}).get("path")], ["sha256 of the genome's text", plan.get("fasta_sha256")],
        ["device, precision, threads", f"{plan['device']}, {plan['precision']}, {plan['threads']}"],
        ["coordinates", run.get("coordinate_system")], ["seconds", run.get("wall_s")],
    ]  # fmt: skip
    if motifs := plan.get("motifs"):
        rows.append(["motifs", f"{motifs['source']}, {motifs['matrices']} matrices, p <= {motifs['p_value']:g}"])
        rows.append(["sha256 of the motifs", motifs["sha256"]])
    if bound := plan.get("bound"):
        rows.append(["model of bound sites", f"{bound['name']}: {', '.join(bound['factors'])}"])
    if run.get("argv"):
        rows.append(["command", " ".join(map(str, ["annotator", *run["argv"][1:]]))])
    entries = {name: run["files"][name] for name in lasting_files(run) if name in run["files"]}
    files = [[name, entry.get("rows"), entry["bytes"], entry["sha256"]] for name, entry in entries.items()]
    versions = [[name, version or "not installed"] for name, version in run.get("versions", {}).items()]
    return Section(
        "provenance", "How this was made",
        [
            Table("The run", ["what", "value"], [row for row in rows if row[1] is not None]),
            Table("Files that the scan made", ["file", "rows", "bytes", "sha256"], files),
            Table("Versions", ["package", "version"], versions),
            "run.json names all files of the folder, those in other formats included; annotator verify checks them.",
        ],
    )  # fmt: skip


def _measured(plan: dict[str, Any]) -> dict[str, Any]:
    """What the manifest of a bundled model says of its accuracy on validation genomes; nothing for another model."""
    name = plan["model"]["name"]
    if name not in bundled_models():
        return {}
    manifest = json.loads((BUNDLED / name / MANIFEST_NAME).read_text(encoding="utf-8"))
    if manifest.get("version") != plan["model"]["version"]:
        return {}
    metrics = manifest.get("metrics", {}).get(plan["clade"], {})
    genomes = metrics.get("genomes")
    if not genomes:
        return {}
    return {kind: metrics[kind] for kind in map(str, Kind) if kind in metrics} | {"genomes": ", ".join(genomes)}


def _names(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
