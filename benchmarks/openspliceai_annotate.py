"""OpenSpliceAI's published weights run by this program and by `openspliceai predict`, on the same FASTA in one run.

    python benchmarks/openspliceai_annotate.py --fasta celegans.test.fa.gz --weights model_10000nt_rs10.pt \\
        --peer /path/to/its/venv/bin/openspliceai

Beforehand, parity: the converted model against the restated network (benchmarks/openspliceai_net.py) on the FASTA's first bases.
Both are whole commands on a CPU, a process each, FASTA to files. `annotate` scores both strands, `predict` without a GFF one:
rates are bases times strands a second.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.machine import usable_cpus
from annotator.models.convert import convert
from annotator.models.directory import read_model
from annotator.models.families.dilated_cnn import DilatedCnn, load
from benchmarks.end_to_end import real_bases, write_fasta
from benchmarks.openspliceai_net import contig_probabilities, load_openspliceai
from benchmarks.rows import RESULTS, append_row, circumstances

BOUND = 1e-5
PARITY_BP = 20_000


@torch.inference_mode()
def deviation(model: DilatedCnn, weights: Path, bases: NDArray[np.uint8]) -> float:
    """Largest difference of a probability from the restated network's, on a contig of these bases, plus strand."""
    net, context = load_openspliceai(weights)
    expected = contig_probabilities(net, context, bases)[0, ::-1]  # acceptor, donor
    half = context // 2
    starts, forward = torch.tensor([-half]), torch.tensor([False])
    ids = model.embed(torch.from_numpy(bases.copy()), starts, forward, len(bases) + context)  # N beyond the contig
    got = torch.sigmoid(model.logits(ids))[0, half : half + len(bases)].numpy().T
    return float(np.abs(got - expected).max())


def seconds_of(command: list[str]) -> float:
    """Wall time of a command, from the start of its process to its end; ends this program where it fails."""
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.monotonic() - began


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta", type=Path, help="where real bases come from; random ones without")
    parser.add_argument("--weights", type=Path, required=True, help="OpenSpliceAI's state dict, model_<context>nt_rs<seed>.pt")
    parser.add_argument("--peer", default="openspliceai", help="the peer's command")
    parser.add_argument("--mb", type=float, default=0.5, help="length of the one-contig genome")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each command; the median counts")
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--out", type=Path, default=RESULTS, help="a row is appended here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if shutil.which(args.peer) is None:
        sys.exit(f"{args.peer}: not found; install it into an environment of its own, then --peer ITS/bin/openspliceai")
    bases = real_bases(args.fasta, int(args.mb * 1e6))
    context = args.weights.name.split("_")[1].removesuffix("nt")
    times: dict[str, list[float]] = {"annotate": [], "predict": []}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        folder, manifest = read_model(str(convert([args.weights], root / "model")))
        apart = deviation(load(folder, manifest, torch.device("cpu"), "float32"), args.weights, bases[:PARITY_BP])
        print(f"largest difference of a probability from the published network: {apart:.2g} (bound {BOUND:g})")
        if not apart <= BOUND:
            sys.exit("the converted model is not the published one: no speed is worth printing")
        fasta = write_fasta(root / "genome.fa", bases, len(bases))
        program = shutil.which("annotator") or str(Path(sys.executable).with_name("annotator"))
        ours = [program, "annotate", str(fasta), "--model", str(folder), "--tasks", "splice", "--device", "cpu"]
        ours += ["--precision", "float32", "-t", str(args.threads), "-q", "-o"]
        peer = [args.peer, "predict", "-i", str(fasta), "-m", str(args.weights), "-f", context, "-o"]
        for turn in range(args.repeats):  # in turns, so that what else the machine does meets both
            times["annotate"].append(seconds_of([*ours, str(root / f"ours{turn}")]))
            times["predict"].append(seconds_of([*peer, str(root / f"peer{turn}")]))
    median = {name: float(np.median(runs)) for name, runs in times.items()}
    rates = {"annotate": 2 * len(bases) / median["annotate"], "predict": len(bases) / median["predict"]}
    print("| command | seconds | kbp x strand a second |\n|---|---|---|")
    for name, runs in times.items():
        print(f"| {name} | {median[name]:.1f} ({min(runs):.1f} to {max(runs):.1f}) | {rates[name] / 1e3:.1f} |")
    print(f"\nratio {rates['annotate'] / rates['predict']:.1f}, {args.threads} threads, {args.weights.name}")
    append_row(args.out, {
        "benchmark": "openspliceai_annotate", "weights": args.weights.name, "bp": len(bases), "threads": args.threads,
        "deviation": apart, "times_s": times, "bases_per_s": rates, "ratio": rates["annotate"] / rates["predict"],
        **circumstances(torch.device("cpu")),
    })  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
