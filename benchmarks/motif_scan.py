"""Own motif scan beside lightmotif on the same sequence, matrices and thresholds: parity first, then speed per core.

    python benchmarks/motif_scan.py --fasta genome.fa.gz --mb 10 --matrices 100 --p-value 1e-4 --json results.jsonl

Both sides use one thread; times are CPU seconds of the process. Exit code 1 where the hits differ: no figure is printed then.
lightmotif is timed on two of its ways: `calculate` (all scores in float32, then a threshold; also the parity oracle) and
`scan` (8-bit scores first, float32 where they pass). Its thresholds are ours in bits, so its hit counts differ by windows
that rounding moves across them; the parity check decides those. Neither way gives p-values; the own scan does.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from lightmotif import lib as lightmotif
from numpy.typing import NDArray

from annotator.motifs.jaspar_release import jaspar_motifs
from annotator.motifs.motif import Motif
from annotator.motifs.scan import MotifHits, MotifScanner
from annotator.motifs.scores import STEPS_PER_BIT, ScoredMatrix

STRANDS = (1, -1)


def read_bases(path: Path, length: int) -> NDArray[np.uint8]:
    """The first bases of a FASTA, upper case; contigs are joined by an N, and every other letter is an N."""
    kept: list[bytes] = []
    total = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for line in lines:
            kept.append(b"N" if line.startswith(b">") else line.strip().upper())
            total += len(kept[-1])
            if total > length:
                break
    to_n = bytes(byte if byte in b"ACGT" else ord("N") for byte in range(256))
    return np.frombuffer(b"".join(kept)[1 : length + 1].translate(to_n), np.uint8)


def choose(motifs: list[Motif], count: int, p_value: float) -> list[Motif]:
    """`count` motifs, evenly spaced among those that can reach the threshold."""
    skipped = set(MotifScanner(motifs, p_value).skipped)
    usable = [motif for index, motif in enumerate(motifs) if index not in skipped]
    return [usable[i] for i in np.unique(np.linspace(0, len(usable) - 1, min(count, len(usable))).round().astype(int))]


def pssms_of(matrix: ScoredMatrix) -> dict[int, lightmotif.ScoringMatrix]:
    values = {base: matrix.log_odds[:, i].tolist() for i, base in enumerate("ACGT")}
    plus = lightmotif.ScoringMatrix({**values, "N": [-np.inf] * matrix.width})
    return {1: plus, -1: plus.reverse_complement()}


def compare(scanner: MotifScanner, hits: MotifHits, bases: NDArray[np.uint8]) -> dict[str, int]:
    """Hits, windows too close to a threshold for float scores to decide, and what differs (should be nothing).

    A window whose float score lies within the rounding of the integer scores from the threshold is decided by its integer
    score, worked out here from the matrix, column by column.
    """
    striped = lightmotif.stripe(bases.tobytes().decode())
    codes = np.frombuffer(bases.tobytes().translate(bytes(max(0, b"ACGT".find(byte)) for byte in range(256))), np.uint8)
    report = {"hits": len(hits), "close": 0, "different": 0, "wrong_bits": 0}
    by_matrix = np.argsort(hits.motif, kind="stable")
    borders = np.searchsorted(hits.motif[by_matrix], np.arange(len(scanner.motifs) + 1))
    for index, matrix in enumerate(scanner.matrices):
        threshold = matrix.threshold
        assert threshold is not None
        of_matrix = by_matrix[borders[index] : borders[index + 1]]
        blur = matrix.width / 2 / STEPS_PER_BIT + 1e-4
        for strand, pssm in pssms_of(matrix).items():
            scores = pssm.calculate(striped)
            possible = np.sort(np.array(scores.threshold(threshold / STEPS_PER_BIT - blur), np.int64))
            certain = np.sort(np.array(scores.threshold(threshold / STEPS_PER_BIT + blur), np.int64))
            close = np.setdiff1d(possible, certain, assume_unique=True)
            steps = matrix.steps if strand == 1 else matrix.steps[::-1, ::-1]
            exact = sum((steps[i][codes[close + i]] for i in range(matrix.width)), np.zeros(len(close), np.int64))
            expected = np.union1d(certain, close[exact >= threshold])
            rows = of_matrix[hits.strand[of_matrix] == strand]
            report["close"] += len(close)
            report["different"] += len(np.setxor1d(hits.start[rows], expected, assume_unique=True))
            theirs = np.array([scores[start] for start in hits.start[rows].tolist()])
            report["wrong_bits"] += int((np.abs(theirs - hits.bits[rows]) > 1e-4).sum())
    return report


def timed(run: Callable[[], int], repeats: int) -> tuple[list[float], int]:
    """Sorted CPU seconds, and what the runs returned."""
    seconds, result = [], 0
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        seconds.append(time.process_time() - start)
    return sorted(seconds), result


def row(name: str, scanned: int, run: Callable[[], int], megabases: float, repeats: int) -> dict[str, object]:
    seconds, hits = timed(run, repeats)
    p20, p50, p80 = (float(np.quantile(seconds, q)) for q in (0.2, 0.5, 0.8))
    return {
        "name": name, "mb": megabases, "matrices": scanned, "hits": hits,
        "cpu_s_p20": p20, "cpu_s_p50": p50, "cpu_s_p80": p80, "mb_per_s": megabases / p50,
    }  # fmt: skip


def lightmotif_rows(scanner: MotifScanner, bases: NDArray[np.uint8], repeats: int) -> list[dict[str, object]]:
    text = bases.tobytes().decode()
    jobs = [(pssm, (matrix.threshold or 0) / STEPS_PER_BIT) for matrix in scanner.matrices for pssm in pssms_of(matrix).values()]

    def calculate() -> int:
        striped = lightmotif.stripe(text)
        return sum(len(pssm.calculate(striped).threshold(threshold)) for pssm, threshold in jobs)

    def scan() -> int:
        striped = lightmotif.stripe(text)
        return sum(len([hit.position for hit in lightmotif.scan(pssm, striped, threshold=bits)]) for pssm, bits in jobs)

    megabases = len(bases) / 1e6
    return [
        row("lightmotif calculate", len(scanner.motifs), calculate, megabases, repeats),
        row("lightmotif scan", len(scanner.motifs), scan, megabases, repeats),
    ]


def environment() -> dict[str, str]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "commit": commit.stdout.strip() if commit.returncode == 0 else "none", "cpu": models[0] if models else "unknown",
        "python": platform.python_version(), "numpy": np.__version__, "lightmotif": lightmotif.__version__,
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fasta", type=Path, required=True, help="sequence, plain or .gz")
    parser.add_argument("--mb", type=float, default=2.0, help="megabases of it that are scanned")
    parser.add_argument("--lightmotif-mb", type=float, help="megabases for lightmotif and the parity check (default: all)")
    parser.add_argument("--tax", default="vertebrates", help="JASPAR tax group")
    parser.add_argument("--matrices", type=int, default=100, help="matrices, among those that can reach the p-value")
    parser.add_argument("--p-value", type=float, default=1e-4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="append the result to this file as one line")
    options = parser.parse_args(argv)

    motifs = choose(jaspar_motifs(options.tax), options.matrices, options.p_value)
    bases = read_bases(options.fasta, int(options.mb * 1e6))
    shared = bases[: int((options.lightmotif_mb or options.mb) * 1e6)]
    start = time.process_time()
    scanner = MotifScanner(motifs, options.p_value)
    scanner.prepare()
    setup_s = time.process_time() - start

    parity = compare(scanner, scanner.scan(shared), shared)
    print(
        f"parity on {len(shared) / 1e6:g} Mb x {len(motifs)} matrices x 2 strands, p <= {options.p_value:g}: "
        f"{parity['hits']} hits, {parity['different']} different, {parity['wrong_bits']} with other bits; "
        f"{parity['close']} windows within rounding of their threshold decided by integer score"
    )
    equal = parity["different"] == 0 and parity["wrong_bits"] == 0
    record: dict[str, object] = {
        "benchmark": "motif_scan", **environment(), "fasta": options.fasta.name, "tax": options.tax,
        "p_value": options.p_value, "parity_mb": len(shared) / 1e6, "equal": equal, "parity": parity, "setup_s": setup_s,
    }  # fmt: skip
    if equal:
        rows = [row("own scan", len(motifs), lambda: len(scanner.scan(bases)), len(bases) / 1e6, options.repeats)]
        record["own_peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # with the parity check's
        rows += lightmotif_rows(scanner, shared, options.repeats)
        print(
            f"set-up of the own tables {setup_s:.2f} s\n{'':22}{'Mb':>6}{'matrices':>10}{'CPU s':>9}{'Mb/s/core':>11}{'hits':>10}"
        )
        for r in rows:
            print(f"{r['name']:22}{r['mb']:6g}{r['matrices']:10}{r['cpu_s_p50']:9.3f}{r['mb_per_s']:11.2f}{r['hits']:10}")
        record["rows"] = rows
    if options.json:
        with options.json.open("a") as file:
            file.write(json.dumps(record) + "\n")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
