"""Whole commands beside each other in one run: our precisions, models and executors, and `openspliceai predict`.

    python benchmarks/side_by_side.py --fasta celegans.test.fa.gz --peer-model model_10000nt_rs10.pt --peer its/bin/openspliceai
    python benchmarks/side_by_side.py --page         # docs/benchmarks.md again, from the kept rows; measures nothing

Every command is a process of its own from start to end, FASTA to BED and Parquet, splice sites of both strands, on the same bases
of one contig; the peer's scores one strand of fewer bases, because it is slow, so that rates are bases times strands a second.
Commands take turns, a round of all before the next one, and the figure is the median round. Parity: every executor writes the
bytes of the run in one process, in whole numbers, whose bits the number of threads does not change, and every round those of the
round before. A command that this machine cannot run is left out, and
the line says why. One row holds a whole run: ratios are only made within it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from annotator.files import file_sha256, write_text
from annotator.machine import usable_cpus
from annotator.models.directory import bundled_models, read_model
from annotator.models.families.compact.scan import load_compact
from benchmarks.accuracy_markdown import markdown, with_tables
from benchmarks.end_to_end import real_bases, write_fasta
from benchmarks.rows import RESULTS, append_row, ceilings, circumstances

NAME = "side_by_side"
MARKERS = "<!-- {}.py: begin -->", "<!-- {}.py: end -->"
PAGE = Path(__file__).resolve().parents[1] / "docs/benchmarks.md"
CLADE = "vertebrate"
PRECISIONS = ("float32", "bfloat16", "int8")
FIRST = "compact, float32"


@dataclass
class Command:
    """A command that takes its turn.

    Attributes:
        options: Of `annotator annotate`, beside those that all have.
        same_as: Label of the command whose bytes it has to write; empty for none.
        seconds: Of its rounds.
        sha256: Of its predictions, after the first round.
        why_not: Its message where it cannot be run.
    """

    options: list[str]
    same_as: str = ""
    seconds: list[float] = field(default_factory=list)
    sha256: str = ""
    why_not: str = ""
    memory_bytes: int = 0


def commands(threads: int) -> dict[str, Command]:
    """Ours, by label."""
    found = {}
    for model in sorted(bundled_models(), key=lambda name: name != "compact"):
        for precision in PRECISIONS:
            options = ["--model", model, "--precision", precision, "-t", str(threads)]
            found[f"{model}, {precision}"] = Command(options)
    each = ["--model", "compact", "--precision", "int8", "-t", "1", "--workers", str(threads)]
    found[f"compact, int8, {threads} processes"] = Command(each, same_as="compact, int8")
    found[f"compact, int8, {threads} Ray actors"] = Command([*each, "--ray", "local"], same_as="compact, int8")
    return found


def take_turn(label: str, command: Command, all_of_them: dict[str, Command], fasta: Path, out: Path) -> None:
    """Run a command once and look at what it wrote."""
    shutil.rmtree(out, ignore_errors=True)
    program = shutil.which("annotator") or str(Path(sys.executable).with_name("annotator"))
    line = [program, "annotate", str(fasta), "-o", str(out), "--clade", CLADE, "--tasks", "splice", "--device", "cpu"]
    line += ["--no-report", "-q"]
    began = time.monotonic()
    done = subprocess.run([*line, *command.options], capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        command.why_not = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return
    sha256 = file_sha256(out / "predictions.parquet")
    other = all_of_them[command.same_as].sha256 if command.same_as else command.sha256
    if (command.sha256 and sha256 != command.sha256) or (other and sha256 != other):
        sys.exit(f"{label}: other bytes than {command.same_as or 'the round before'}: no speed is worth printing")
    command.sha256 = sha256
    command.seconds.append(seconds)
    command.memory_bytes = max(command.memory_bytes, json.loads((out / "run.json").read_text())["peak_memory_bytes"]["host"])


def peer_seconds(peer: str, model: Path, fasta: Path, out: Path) -> float:
    """Time the peer's command."""
    flank = model.name.split("_")[1].removesuffix("nt")
    command = [peer, "predict", "-i", str(fasta), "-m", str(model), "-f", flank, "-o", str(out)]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.monotonic() - began


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """A whole run as one row."""
    ours, peers = commands(args.threads), []
    bases = real_bases(args.fasta, int(max(args.mb, args.peer_mb) * 1e6))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fasta = write_fasta(folder / "genome.fa", bases[: int(args.mb * 1e6)], int(args.mb * 1e6))
        few = write_fasta(folder / "few.fa", bases[: int(args.peer_mb * 1e6)], int(args.peer_mb * 1e6))
        for number in range(args.rounds):
            for label, command in ours.items():
                if not command.why_not:
                    take_turn(label, command, ours, fasta, folder / "out")
                print(f"round {number + 1}: {label}: {command.why_not or f'{command.seconds[-1]:.1f} s'}", flush=True)
            if args.peer_model:
                peers.append(peer_seconds(args.peer, args.peer_model, few, folder / f"peer{number}"))
                print(f"round {number + 1}: openspliceai predict: {peers[-1]:.1f} s", flush=True)
    flops = {}
    for model in bundled_models():
        path, manifest = read_model(model)
        flops[model] = load_compact(path, manifest, CLADE).config.flops_per_base()
    lines = {
        label: {
            "rate": 2 * args.mb * 1e6 / statistics.median(command.seconds) if command.seconds else None,
            "seconds": [round(each, 2) for each in command.seconds], "left_out": command.why_not,
            "memory_bytes": command.memory_bytes, "flops": flops[label.split(",")[0]],
        }
        for label, command in ours.items()
    }  # fmt: skip
    peer = {"model": args.peer_model.name, "bp": int(args.peer_mb * 1e6), "seconds": [round(each, 2) for each in peers],
            "rate": args.peer_mb * 1e6 / statistics.median(peers)} if peers else None  # fmt: skip
    cpu = torch.device("cpu")
    return {
        "benchmark": NAME, "bp": int(args.mb * 1e6), "threads": args.threads, "rounds": args.rounds, "commands": lines,
        "peer": peer, **ceilings(cpu, small=args.small), **circumstances(cpu),
    }  # fmt: skip


def table(row: dict[str, Any]) -> str:
    """A run as a table, with ratios within it."""
    peer, first = row["peer"], row["commands"][FIRST]["rate"]
    lines = []
    for label, one in row["commands"].items():
        if rate := one["rate"]:
            share = f"{rate * one['flops'] / row['matrix_flops_per_s']:.0%}"
            ratio = f"**{rate / peer['rate']:.0f}**" if peer else "–"
            lines.append(
                [label, f"{rate / 1e3:,.0f}", f"{rate / first:.2f}", share, ratio, f"{one['memory_bytes'] / 1e9:.2f} GB"]
            )
        else:
            lines.append([label, "–", "–", "–", "–", one["left_out"]])
    if peer:
        own = f"`openspliceai predict`, {peer['model'].removesuffix('.pt')}, {peer['bp'] / 1e6:g} Mb"
        lines.append([own, f"{peer['rate'] / 1e3:,.1f}", f"{peer['rate'] / first:.3f}", "–", "1", "–"])
    head = ["command", "kbp x strand a second", f"against {FIRST}", "model's FLOPs over the fp32 matrix rate"]
    said = (
        f"{row['bp'] / 1e6:g} Mb, {row['threads']} threads on {row['device']['name']}, {row['rounds']} rounds, fp32 matrix rate "
        f"{row['matrix_flops_per_s'] / 1e9:.0f} GFLOP/s in the same run; commit {row['commit']}, {row['date'][:10]}."
    )
    return said + "\n\n" + markdown([*head, "against `openspliceai predict`", "peak memory"], lines)


def write_page(rows_file: Path, page: Path) -> None:
    """The newest run, between the markers of the page."""
    rows = [json.loads(line) for line in rows_file.read_text(encoding="utf-8").splitlines()]
    newest = [row for row in rows if row.get("benchmark") == NAME][-1:]
    text = page.read_text(encoding="utf-8")
    write_text(page, with_tables(text, {NAME: table(newest[0]) if newest else "Not measured yet."}, *MARKERS))


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta", type=Path, help="where real bases come from; random ones without")
    parser.add_argument("--mb", type=float, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--peer", default="openspliceai", help="the peer's command")
    parser.add_argument("--peer-model", type=Path, help="its state dict; without it the peer is not run")
    parser.add_argument("--peer-mb", type=float, default=0.5)
    parser.add_argument("--small", action="store_true", help="tiny genomes: tries the script, measures nothing")
    parser.add_argument("--page", action="store_true", help="write the page again; measure nothing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="rows are appended here")
    parser.add_argument("--docs", type=Path, default=PAGE, help="the page with the markers")
    args = parser.parse_args()
    if args.small:
        args.mb, args.rounds = 0.1, 2
    if not args.page:
        append_row(args.out, measured(args))
    write_page(args.out, args.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
