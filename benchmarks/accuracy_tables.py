"""Every figure of docs/accuracy.md and of the model card, measured anew and written into the pages: one command.

    python benchmarks/accuracy_tables.py --data DATA                  # everything but the peers; hours of a core
    python benchmarks/accuracy_tables.py --data DATA --peers          # OpenSpliceAI and the GT/AG baseline too
    python benchmarks/accuracy_tables.py --data DATA --only promoters,fdr
    python benchmarks/accuracy_tables.py --from-rows                  # the tables again, from kept rows; measures nothing

Each part is a script of this folder in a process of its own. Its rows go to results_accuracy.jsonl, where they take the place of
rows of the same part, model, genome and kind; rows of what was not measured stay. The tables stand between markers in
docs/accuracy.md and docs/families/compact.md. Figures on test data of the very weights that a model holds also go into its
manifest (`metrics.test`), which `annotator models show` prints; its weights, thresholds and calibration are not touched.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from annotator.errors import AnnotatorError
from annotator.files import write_text
from annotator.models.directory import bundled_models, read_model
from annotator.models.manifest import MANIFEST_NAME, Manifest
from benchmarks.accuracy_markdown import TITLES, TUNED, named_tables, with_tables
from benchmarks.accuracy_splice import ORGANISMS, weights_of
from benchmarks.rows import commit

HERE = Path(__file__).resolve().parent
ROWS = HERE / "results_accuracy.jsonl"
DOCS = HERE.parent / "docs"
PAGES = ("accuracy.md", "families/compact.md")
MANE = "model_400nt_rs10.pt,model_10000nt_rs10.pt"
CLADE_GENOMES, CLADE_BP = "human,human_regions,celegans,dpulex,bnapus,panserina", 3_000_000
"""What every clade's settings are tried on: the first bases of validation genomes."""
FDR_GENOMES = "celegans,athaliana,bnapus,human_regions,fungi"
PROMOTER_BP = 500
"""The distance at which promoters are shown in the card."""


@dataclass(frozen=True)
class Job:
    """A run of a script.

    Attributes:
        script: Its file in this folder.
        arguments: What it is asked for, beside the data, the threads and where rows go.
        takes_model: Whether it measures the model that is named, or one of its own.
        peer: Whether it measures other predictors, which are slow and change with the data alone.
    """

    script: str
    arguments: tuple[str, ...] = ()
    takes_model: bool = True
    peer: bool = False


IDENTITY = {
    "splice": ("organism", "split", "model", "kind"),
    "clades": ("organism", "split", "model", "kind", "clade"),
    "promoters": ("organism", "split", "model", "within_bp"),
    "fdr": ("genome", "model", "kind", "asked"),
    "binding": ("split", "factor", "matrix", "label"),
}
"""Parts in the order of the page, and what their rows are told apart by."""


def jobs(part: str, manifest: Manifest) -> list[Job]:
    """What has to be run for a part."""
    splice, no_model = "accuracy_splice.py", ("--no-model", "--splits", "test")
    others = [
        Job(splice, (*no_model, "--organisms", "human,celegans,bnapus", "--pwm"), takes_model=False, peer=True),
        Job(splice, (*no_model, "--organisms", "human,human_regions", "--peers", MANE), takes_model=False, peer=True),
        Job(
            splice,
            (*no_model, "--organisms", "bnapus,athaliana", "--peer-folder", "openspliceai-arabidopsis")
            + ("--peers", "model_10000nt_rs10.pt"),
            takes_model=False,
            peer=True,
        ),
    ]
    tried = ("--splits", "val", "--organisms", CLADE_GENOMES, "--max-bp", str(CLADE_BP))
    return {
        "splice": [Job(splice), *others],
        "clades": [Job(splice, (*tried, "--clade", clade)) for clade in manifest.clades],
        "promoters": [Job("accuracy_promoters.py")],
        "fdr": [Job("fdr.py", ("--manifest", "--genomes", FDR_GENOMES))],
        "binding": [Job("accuracy_binding.py", takes_model=False)],
    }[part]


def measure(job: Job, data: Path, model: str, threads: int) -> tuple[list[dict[str, Any]], int]:
    """Run a script.

    Returns:
        Its rows, those that it wrote before it failed too, and its exit code.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "rows.jsonl"
        command = [sys.executable, str(HERE / job.script), "--data", str(data), "--threads", str(threads), "--json", str(out)]
        command += [*(("--model", model) if job.takes_model else ()), *job.arguments]
        path = os.pathsep.join([str(HERE.parent), str(HERE.parent / "kernels"), os.environ.get("PYTHONPATH", "")])
        print("$", " ".join(command), flush=True)
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False)
        return (read_rows(out) if out.exists() else []), done.returncode


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file, one JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a row speaks of: a later row of the same takes its place."""
    return (row["table"], *(row.get(field) for field in IDENTITY[row["table"]]))


def renewed(kept: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Kept rows with those just found in the place of their like, parts in the order of the page."""
    by_identity = {identity(row): row for row in (*kept, *found)}
    return sorted(by_identity.values(), key=lambda row: list(IDENTITY).index(row["table"]))


def figures_on_test(rows: Sequence[Mapping[str, Any]], manifest: Manifest) -> dict[str, Any]:
    """What a manifest says of test data: by clade, genome and kind, of rows that its own weights gave with that clade's settings.

    Splice figures are called as `metrics` calls them. Validation genomes are left out: calibration was set on them.
    """
    found: dict[str, Any] = {}
    for row in rows:
        place = row.get("organism", ""), row.get("split", "")
        if row["table"] not in ("splice", "promoters") or place not in TITLES or place in TUNED or row["model"] != manifest.name:
            continue
        clade = ORGANISMS[place[0]].clade
        if clade not in manifest.clades or row.get("weights") != weights_of(manifest, clade):
            continue
        if row["table"] == "splice":
            kind, names = row["kind"], {"top_k": "topk", "auprc": "auprc", "calibration_error": "calibration_error"}
        elif row.get("within_bp") == PROMOTER_BP:
            kind, names = f"promoter within {PROMOTER_BP} bp", {}
        else:
            continue
        for name in ("precision", "recall"):
            names[name] = name
        figures = {new: row[old] for old, new in names.items() if row.get(old) is not None}
        figures |= {f"{new}_95": row[f"{old}_95"] for old, new in names.items() if row.get(f"{old}_95")}
        found.setdefault(clade, {}).setdefault(".".join(place), {})[kind] = figures
    return found


def write_card(model: str, rows: Sequence[Mapping[str, Any]]) -> Manifest:
    """Write the figures on test data into a model's manifest.

    Returns:
        The manifest as it is then.
    """
    folder, manifest = read_model(model)
    path = folder / MANIFEST_NAME
    raw = json.loads(path.read_text(encoding="utf-8"))
    before = raw.get("metrics", {})
    metrics = {key: value for key, value in before.items() if key != "test"}
    if figures := figures_on_test(rows, manifest):
        metrics["test"] = figures
    if metrics != before:
        write_text(path, json.dumps(raw | {"metrics": metrics}, indent=1) + "\n")
    return read_model(model)[1]


def measured_part(
    part: str, models: Mapping[str, Manifest], rows: list[dict[str, Any]], args: argparse.Namespace, failed: list[str]
) -> list[dict[str, Any]]:
    """Rows with those of a part measured anew and kept; what failed joins `failed`."""
    said = {"commit": commit(), "date": datetime.now(UTC).date().isoformat()}
    done: set[Job] = set()
    for name, manifest in models.items():
        for job in jobs(part, manifest):
            if (job.peer and not args.peers) or (job in done and not job.takes_model):
                continue
            if not (HERE / job.script).exists():
                print(f"{part}: left out, there is no {job.script}", flush=True)
                continue
            began = time.perf_counter()
            found, code = measure(job, args.data, name, args.threads)
            if code:
                failed.append(f"{part}: {job.script} {' '.join(job.arguments)} ended with exit code {code}")
            rows = renewed(rows, [{"table": part} | row | said for row in found])
            write_text(args.rows, "".join(json.dumps(row) + "\n" for row in rows))
            print(f"{part}: {len(found)} rows in {time.perf_counter() - began:.0f} s", flush=True)
            done.add(job)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, keep, write; 1 where a part failed, the others are kept and written all the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default=",".join(bundled_models()), help="comma-separated bundled models or directories")
    parser.add_argument("--only", default=",".join(IDENTITY), help="comma-separated parts to measure")
    parser.add_argument("--peers", action="store_true", help="measure other predictors too; else their kept rows stay")
    parser.add_argument("--from-rows", action="store_true", help="measure nothing: write the tables from the kept rows")
    parser.add_argument("--rows", type=Path, default=ROWS, help="where rows are kept")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the pages")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    parts = args.only.split(",")
    if unknown := [part for part in parts if part not in IDENTITY]:
        parser.error(f"--only: {unknown[0]} is not one of {', '.join(IDENTITY)}")
    try:
        rows = read_rows(args.rows) if args.rows.exists() else []
        failed: list[str] = []
        models = {name: read_model(name)[1] for name in args.model.split(",")}
        for part in parts if not args.from_rows else ():
            rows = measured_part(part, models, rows, args, failed)
        tables: dict[str, str] = {}
        for name in models:
            tables |= named_tables(rows, write_card(name, rows))
        for page in PAGES:
            path = args.docs / page
            write_text(path, with_tables(path.read_text(encoding="utf-8"), tables))
    except AnnotatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
