"""How long the human genome would take on a GPU and so many cores, worked out from the rows that `host_path.py` measured.

    python benchmarks/host_path.py --cores 1 2 --mb 300 --bgzf --at-once 4 --apart
    python benchmarks/hg38_estimate.py --cores 16             # the table
    python benchmarks/hg38_estimate.py --cores 16 --write     # put it into docs/speed.md

Arithmetic over measurements. A stage grows with the bases. Of the seconds that it took on 1 and on 2 cores, T1 and T2, a share
f = 2 T2 / T1 - 1 (0 to 1) gained nothing from the second core; on N cores it takes T1 (f + (1 - f) / min(N, threads)), so it is
never faster than linear, nor on more cores than it has threads for. Stages add up but for those that the program does at the
same time: workers load the model and compile while the FASTA is checked; shards are read, finished and merged while the GPU
computes. What goes on at the same time takes as long as its longest, and no less than all its CPU seconds shared by N cores.
What is left of the merge when the scan ends is taken as it was on 2 cores where it ran beside (`host_path.py` without
--apart), or else as the whole merge.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "speed.md"
BEGIN, END = "<!-- hg38_estimate.py: begin -->", "<!-- hg38_estimate.py: end -->"
HG38_BP = 3_100_000_000
GPU_S = 9.0
"""The bundled model on an H200, by its FLOPs and bytes at the usual shares of the peaks; taken where no row was measured."""
READY_S = 21.0
"""Imports, weights and the compilation of kernels on a machine that has compiled none; not measured on a GPU."""
CHECK_THREADS, SCAN_THREADS = 4, 4
"""Threads that look at the FASTA (`even_lines.py`, `bgzf.py`), and shards in work at once (`SHARDS_AT_ONCE`)."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """A stage for the whole genome.

    Attributes:
        name: What is done.
        one_s: Seconds on one core.
        two_s: Seconds on two cores.
        threads: Cores that it can use.
    """

    name: str
    one_s: float
    two_s: float
    threads: int

    def seconds(self, cores: int) -> float:
        """Seconds on so many cores."""
        alone = min(1.0, max(0.0, 2 * self.two_s / self.one_s - 1)) if self.one_s else 1.0
        return self.one_s * (alone + (1 - alone) / min(cores, self.threads))


@dataclass(frozen=True)
class Part:
    """Something that a run does.

    Attributes:
        name: What.
        seconds: How long it takes.
        one_s: Seconds on one core, where it was measured.
        two_s: Seconds on two.
    """

    name: str
    seconds: float
    one_s: float | None = None
    two_s: float | None = None


@dataclass(frozen=True)
class Estimate:
    """The whole genome on so many cores and a GPU.

    Attributes:
        cores: How many.
        phases: What follows each other; the parts of a phase are done at the same time.
    """

    cores: int
    phases: list[list[Part]]

    @property
    def seconds(self) -> float:
        """The longest part of each phase, added up."""
        return sum(max(part.seconds for part in phase) for phase in self.phases)


def measured(rows: Iterable[Row], cores: int, *, apart: bool) -> Row | None:
    """The latest row of this checkout with several shards in work."""
    found = None
    for row in rows:
        if row["benchmark"] == "host_path" and row["checkout"] == "this" and row.get("at_once", 1) > 1:
            found = row if (row["apart"], row["cores"]) == (apart, cores) else found
    return found


def estimate(rows: Iterable[Row], cores: int, *, gpu_s: float | None = None, ready_s: float = READY_S) -> Estimate | None:
    """What the rows say of hg38; None where one is missing.

    Args:
        rows: Those of results.jsonl.
        cores: Cores of the machine.
        gpu_s: Seconds that the GPU computes; None for what a row says, or else GPU_S.
        ready_s: Seconds until a worker can take its first shard.
    """
    rows = list(rows)
    one, two = measured(rows, 1, apart=True), measured(rows, 2, apart=True)
    if one is None or two is None:
        return None
    scales = [HG38_BP / row["bp"] for row in (one, two)]

    def part(name: str, threads: int, of: Callable[[Row], float]) -> Part:
        stage = Stage(name, scales[0] * of(one), scales[1] * of(two), threads)
        return Part(name, stage.seconds(cores), stage.one_s, stage.two_s)

    check = part("FASTA check", CHECK_THREADS, lambda row: min(row["check_s"]))
    shards = part("shards on the host", SCAN_THREADS, lambda row: min(row["scan_s"]))
    merge = part("merge", cores, lambda row: row["stage_s"]["merge"])
    busy = Part("CPU seconds of both, shared by all cores", scales[0] * (min(one["cpu_s"]) - min(one["check_cpu_s"])) / cores)
    gpu = Part("GPU", _measured_gpu_s(rows) if gpu_s is None else gpu_s)
    left_s = merge.seconds
    if (beside := measured(rows, 2, apart=False)) is not None:
        left_s = min(left_s, beside["stage_s"]["merge"] * HG38_BP / beside["bp"])
    others = [min(row["whole_s"]) - min(row["check_s"]) - min(row["scan_s"]) - row["stage_s"]["merge"] for row in (one, two)]
    phases = [
        [Part("start and end of the command", max(0.0, min(others)), *others)],
        [check, Part("worker made ready: imports, weights, kernels", ready_s)],
        [gpu, shards, merge, busy],
        [Part("what is left of the merge", left_s)],
    ]
    return Estimate(cores, phases)


def _measured_gpu_s(rows: list[Row]) -> float:
    """Seconds for hg38 by the latest row of the engine alone on a GPU."""
    for row in reversed(rows):
        if row["benchmark"] == "end_to_end_engine" and str(row["device"].get("device", "")).startswith("cuda"):
            return HG38_BP * float(row["p50_s"]) / float(row["bp"])
    return GPU_S


def markdown(found: Estimate | None) -> str:
    """The table, and the sum."""
    if found is None:
        return "Not measured yet."
    lines = [f"| hg38 (3.1 Gb), seconds | 1 core | 2 cores | {found.cores} cores and a GPU | counts |", "|---|---|---|---|---|"]
    for phase in found.phases:
        longest = max(phase, key=lambda part: part.seconds)
        for part in phase:
            alone = [f"{value:.1f}" if value is not None else "" for value in (part.one_s, part.two_s)]
            counts = f"{part.seconds:.1f}" if part is longest else "meanwhile"
            lines.append(f"| {part.name} | {alone[0]} | {alone[1]} | {part.seconds:.1f} | {counts} |")
    return "\n".join([*lines, f"| **whole command** | | | | **{found.seconds:.0f}** |"])


def with_table(page: str, table: str) -> str:
    """The page with the table between its marks."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table}\n{END}{tail}"


def main(argv: list[str] | None = None) -> int:
    """Print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=16)
    parser.add_argument("--rows", type=Path, default=HERE / "results.jsonl")
    parser.add_argument("--gpu-s", type=float, help=f"seconds of the GPU; default a measured row, or else {GPU_S:g}")
    parser.add_argument("--ready-s", type=float, default=READY_S, help="seconds until a worker can take its first shard")
    parser.add_argument("--write", action="store_true", help="renew the table in docs/speed.md")
    options = parser.parse_args(argv)
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()]
    table = markdown(estimate(rows, options.cores, gpu_s=options.gpu_s, ready_s=options.ready_s))
    if options.write:
        PAGE.write_text(with_table(PAGE.read_text(), table))
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
