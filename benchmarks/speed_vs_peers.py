"""Bases x strands a second of `annotator annotate` and of `openspliceai predict`, in one run on the same FASTA.

    python benchmarks/speed_vs_peers.py --fasta genome.fa.gz --mb 2 --peer-mb 0.3 --peer-model model_10000nt_rs10.pt

Whole commands are timed, start to end, each on a slice of the FASTA's first contigs (the peer's slice may be shorter; its rate
hardly depends on it). Nothing is installed: where the peer is missing this says how to get it (`pip install openspliceai`, into
an environment of its own; give the command's path with --peer). Both write their calls; ours does both strands in one run and
splice sites only (--tasks splice), theirs the plus strand.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def slice_fasta(fasta: Path, bases: int, out: Path) -> int:
    """The first bases of a FASTA, in whole lines; returns how many."""
    opener = gzip.open if fasta.read_bytes()[:2] == b"\x1f\x8b" else open
    written = 0
    with opener(fasta, "rt") as source, out.open("w") as target:
        for line in source:
            if not line.startswith(">"):
                if written >= bases:
                    break
                written += len(line.strip())
            target.write(line)
    return written


def timed(command: list[str]) -> float:
    """Seconds of a command; its output goes to our standard error where it fails."""
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.monotonic() - began


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta", type=Path, required=True)
    parser.add_argument("--mb", type=float, default=10)
    parser.add_argument("--peer-mb", type=float, default=0.5)
    parser.add_argument("--peer", default="openspliceai", help="the peer's command")
    parser.add_argument("--peer-model", type=Path, required=True, help="its state dict, e.g. model_10000nt_rs10.pt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if shutil.which(args.peer) is None:
        sys.exit(
            f"{args.peer}: not found. `pip install openspliceai` into an environment of its own, then --peer ITS/bin/openspliceai"
        )
    annotator = shutil.which("annotator") or str(Path(sys.executable).with_name("annotator"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ours_bp = slice_fasta(args.fasta, int(args.mb * 1e6), folder / "ours.fa")
        peer_bp = slice_fasta(args.fasta, int(args.peer_mb * 1e6), folder / "peer.fa")
        written: set[bytes] = set()
        rates: dict[str, list[float]] = {"annotator": [], "openspliceai": []}
        for i in range(args.repeats):
            out = folder / f"out{i}"
            seconds = timed(
                [
                    annotator,
                    "annotate",
                    str(folder / "ours.fa"),
                    "-o",
                    str(out),
                    "--tasks",
                    "splice",
                    "-q",
                    "-t",
                    str(args.threads),
                ]
            )
            rates["annotator"].append(2 * ours_bp / seconds)
            written.add((out / "predictions.parquet").read_bytes())
            seconds = timed(
                [
                    args.peer,
                    "predict",
                    "-i",
                    str(folder / "peer.fa"),
                    "-m",
                    str(args.peer_model),
                    "-f",
                    args.peer_model.name.split("_")[1].removesuffix("nt"),
                    "-o",
                    str(folder / f"peer{i}"),
                ]
            )
            rates["openspliceai"].append(peer_bp / seconds)
        if len(written) != 1 or not next(iter(written)):
            sys.exit("two runs of annotator wrote different calls: no speed is worth printing")
        median = {name: statistics.median(values) for name, values in rates.items()}
        ratio = median["annotator"] / median["openspliceai"]
        for name, bp, what in (
            ("annotator", ours_bp, "both strands"),
            ("openspliceai", peer_bp, f"one strand, {args.peer_model.name}"),
        ):
            print(f"{name:13} {median[name] / 1e3:9.1f} kbp x strand a second ({bp:,} bp, {what}; whole command)")
        print(f"ratio         {ratio:9.1f}")
        if args.json:
            with args.json.open("a") as file:
                file.write(
                    json.dumps(
                        {"benchmark": "speed_vs_peers", "ours_bp": ours_bp, "peer_bp": peer_bp, "rates": rates, "ratio": ratio}
                    )
                    + "\n"
                )


if __name__ == "__main__":
    main()
