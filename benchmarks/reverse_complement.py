"""Share of the calls on a contig that come back, mirrored, from its reverse complement: both through `annotator annotate`.

    python benchmarks/reverse_complement.py --fasta genome.fa.gz --clade invertebrate

Of the calls with probability above threshold + 0.05 in one direction, those called at the same base and strand in the other.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from pathlib import Path

import polars as pl

from annotator.cli.app import main as annotator

COMPLEMENT = bytes.maketrans(b"ACGTacgt", b"TGCAtgca")


def read_fasta(path: Path) -> dict[str, bytes]:
    """Contigs of a FASTA."""
    data = gzip.open(path, "rb").read() if path.read_bytes()[:2] == b"\x1f\x8b" else path.read_bytes()
    records = {}
    for record in data.split(b">")[1:]:
        head, _, body = record.partition(b"\n")
        records[head.split()[0].decode()] = body.translate(None, b"\r\n")
    return records


def calls(fasta: Path, out: Path, clade: str, tasks: str) -> tuple[pl.DataFrame, dict[str, float]]:
    """Calls of a run and its thresholds."""
    if code := annotator(["annotate", str(fasta), "-o", str(out), "--clade", clade, "--tasks", tasks, "-q"]):
        sys.exit(code)
    return pl.read_parquet(out / "predictions.parquet"), json.loads((out / "run.json").read_text())["plan"]["thresholds"]


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta", type=Path, required=True)
    parser.add_argument("--clade", default="vertebrate")
    parser.add_argument("--tasks", default="splice")
    parser.add_argument("--max-mb", type=float, default=0, help="only so much of the FASTA; 0 for all")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    records, taken = {}, 0
    for name, sequence in read_fasta(args.fasta).items():
        if args.max_mb and taken >= args.max_mb * 1e6:
            break
        records[name] = sequence[: int(args.max_mb * 1e6) - taken] if args.max_mb else sequence
        taken += len(records[name])
    lengths = pl.DataFrame({"chrom": list(records), "length": [len(s) for s in records.values()]})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "f.fa").write_bytes(b"".join(b">%s\n%s\n" % (n.encode(), s) for n, s in records.items()))
        (folder / "r.fa").write_bytes(
            b"".join(b">%s\n%s\n" % (n.encode(), s.translate(COMPLEMENT)[::-1]) for n, s in records.items())
        )
        forward, thresholds = calls(folder / "f.fa", folder / "f", args.clade, args.tasks)
        backward, _ = calls(folder / "r.fa", folder / "r", args.clade, args.tasks)
    mirrored = backward.join(lengths, on="chrom").with_columns(
        position=pl.col("length") - 1 - pl.col("position"), strand=pl.col("strand").replace({"+": "-", "-": "+"})
    )
    key = ["chrom", "kind", "strand", "position"]
    for kind, threshold in thresholds.items():
        sure = pl.col("probability") > threshold + 0.05
        a, b = (frame.filter(kind=kind) for frame in (forward, mirrored))
        found = a.filter(sure).join(b, on=key, how="semi").height + b.filter(sure).join(a, on=key, how="semi").height
        total = a.filter(sure).height + b.filter(sure).height
        row = {
            "benchmark": "reverse_complement",
            "fasta": args.fasta.name,
            "bp": taken,
            "kind": kind,
            "threshold": threshold,
            "calls": total,
            "agree": round(found / max(total, 1), 5),
        }
        print("  ".join(f"{k}={v}" for k, v in row.items()))
        if args.json:
            with args.json.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
