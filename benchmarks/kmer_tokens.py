"""k-mer tokenising against transformers' BertTokenizer and a list comprehension with a dictionary, in one run.

Usage: python benchmarks/kmer_tokens.py [--bases 10000000] [--tokenizer-bases 500000] [--repeats 5] [--json FILE]

Everyone turns the same random sequence into DNABERT ids (k = 6, stride 1), after all agree on the ids. The peers get their
input in the form they like best, made outside the timing: a str for the dictionary; k-mer strings for BertTokenizer, either as
one text or as texts of 510 k-mers over all cores, whichever is faster. BertTokenizer reads a slice, because it is slow.
Where there is a CUDA device, the Triton kernel is timed too, beside the copy bandwidth of that device.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from annotator.machine import usable_cpus
from annotator.tokens.vocabulary import DNABERT_SPECIAL, KmerVocabulary, dnabert_vocabulary
from annotator_kernels.backends import chosen_backends
from annotator_kernels.kmer.op import kmer_tokenize

# transformers looks for a package called kernels: kernels.py beside this file is not it
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent.resolve()]
import transformers  # noqa: E402
from transformers import BertTokenizer  # noqa: E402

K = 6
PIECE = 510  # k-mers of one DNABERT input
BARS = {"BertTokenizer": 500.0, "list comprehension + dictionary": 30.0}


def time_calls(call: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each call, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return times


def row(name: str, bases: int, times: list[float]) -> dict[str, Any]:
    ns = np.percentile(times, [20, 50, 80]) / bases * 1e9
    return {"name": name, "bases": bases, "ns_per_base": dict(zip(("p20", "p50", "p80"), ns.round(4).tolist(), strict=True))}


def tokenize(block: Tensor, vocabulary: KmerVocabulary, *, reverse: bool = False) -> Tensor:
    """Stride-1 ids of a whole block, as one window."""
    start, tokens = torch.zeros(1, dtype=torch.int64), len(block) - K + 1
    return kmer_tokenize(block, start, torch.tensor([reverse]), vocabulary.scheme(), tokens=tokens)[0]


def tokenize_windows(block: Tensor, vocabulary: KmerVocabulary, *, count: int, tokens: int) -> Tensor:
    """A batch of overlapping windows, every other one from the minus strand."""
    windows = torch.arange(count)
    return kmer_tokenize(block, windows * (tokens // 2), windows % 2 == 1, vocabulary.scheme(), tokens=tokens)


def dnabert_tokenizer(folder: Path) -> BertTokenizer:
    """transformers' tokenizer over a DNABERT vocabulary file."""
    kmers = ("".join(letters) for letters in itertools.product("ATCG", repeat=K))
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in (*DNABERT_SPECIAL, *kmers)))
    return BertTokenizer(str(folder / "vocab.txt"), do_lower_case=False, model_max_length=sys.maxsize)


def compare(bases: int, tokenizer_bases: int, repeats: int) -> list[dict[str, Any]]:
    """Check that everyone agrees, then time everyone."""
    generator = np.random.default_rng(6)
    raw = generator.choice(np.frombuffer(b"ACGT", np.uint8), bases)
    block, text = torch.from_numpy(raw), raw.tobytes().decode()
    vocabulary = dnabert_vocabulary(K)
    ids = {"".join(kmer): vocabulary.encode("".join(kmer)) for kmer in itertools.product("ACGT", repeat=K)}
    part = text[:tokenizer_bases]
    kmers = [part[i : i + K] for i in range(len(part) - K + 1)]
    whole, pieces = " ".join(kmers), [" ".join(kmers[i : i + PIECE]) for i in range(0, len(kmers), PIECE)]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = dnabert_tokenizer(Path(folder))

        def by_dictionary() -> list[int]:
            return [ids[text[i : i + K]] for i in range(len(text) - K + 1)]

        def by_bert() -> list[int]:
            return tokenizer(whole, add_special_tokens=False)["input_ids"]

        def by_bert_in_pieces() -> list[list[int]]:
            return tokenizer(pieces, add_special_tokens=False)["input_ids"]

        ours = tokenize(block, vocabulary).numpy()
        np.testing.assert_array_equal(ours, np.array(by_dictionary(), np.int32))
        np.testing.assert_array_equal(ours[: len(kmers)], np.array(by_bert(), np.int32))
        np.testing.assert_array_equal(ours[: len(kmers)], np.array(list(itertools.chain(*by_bert_in_pieces())), np.int32))
        print(f"parity: {len(ours):,} ids equal the dictionary's, {len(kmers):,} equal BertTokenizer's", file=sys.stderr)

        dotted = block.clone()
        dotted[:: 10 * K] = ord("N")
        few = min(16, bases // 8192)
        return [
            row("annotator", bases, time_calls(lambda: tokenize(block, vocabulary), 3 * repeats)),
            row("annotator, minus strand", bases, time_calls(lambda: tokenize(block, vocabulary, reverse=True), repeats)),
            row("annotator, an N every 60 bp", bases, time_calls(lambda: tokenize(dotted, vocabulary), repeats)),
            row(
                f"annotator, {few} windows of 8192, both strands", few * 8192,
                time_calls(lambda: tokenize_windows(block, vocabulary, count=few, tokens=8192), 10 * repeats),
            ),
            row("list comprehension + dictionary", bases, time_calls(by_dictionary, repeats)),
            min(
                row("BertTokenizer", len(part), time_calls(by_bert, repeats)),
                row("BertTokenizer", len(part), time_calls(by_bert_in_pieces, repeats)),
                key=lambda result: result["ns_per_base"]["p50"],
            ),
        ]  # fmt: skip


def time_on_cuda(bases: int, repeats: int) -> dict[str, Any]:
    """The Triton kernel, checked against the CPU path, and its share of the device's copy bandwidth."""
    vocabulary = dnabert_vocabulary(K)
    block = torch.from_numpy(np.random.default_rng(6).choice(np.frombuffer(b"ACGTN", np.uint8), bases))
    on_device = block.cuda()
    if not torch.equal(tokenize(on_device, vocabulary).cpu(), tokenize(block, vocabulary)):
        raise SystemExit("the kernel's ids differ from the CPU's")
    moved = bases * 5  # one byte read, four written
    source, target = (torch.empty(moved // 2, dtype=torch.uint8, device="cuda") for _ in range(2))

    def waited(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            call()
            torch.cuda.synchronize()

        return run

    result = row(
        f"annotator, {torch.cuda.get_device_name()}", bases, time_calls(waited(lambda: tokenize(on_device, vocabulary)), repeats)
    )
    copy_s = float(np.median(time_calls(waited(lambda: target.copy_(source)), repeats)))
    result["fraction_of_copy_bandwidth"] = round(copy_s / (result["ns_per_base"]["p50"] * 1e-9 * bases), 3)
    return result


def commit() -> str:
    """The checkout's commit, with a + where files have changed since."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print a table, append one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", type=int, default=10_000_000)
    parser.add_argument("--tokenizer-bases", type=int, default=500_000, help="slice that BertTokenizer reads")
    parser.add_argument("--cuda-bases", type=int, default=250_000_000, help="bases on a CUDA device, where there is one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="append the result here, one line")
    options = parser.parse_args(argv)
    results = compare(options.bases, min(options.bases, options.tokenizer_bases), options.repeats)
    ours = results[0]["ns_per_base"]["p50"]
    print(f"{'':48} {'bases':>12} {'ns/base p50':>12} {'Mb/s':>9} {'slower than ours':>17} {'bar':>6}")
    for result in results:
        p50 = result["ns_per_base"]["p50"]
        result["ratio"] = round(p50 / ours, 2)
        bar = BARS.get(result["name"])
        print(
            f"{result['name']:48} {result['bases']:12,} {p50:12.3f} {1e3 / p50:9.1f} {result['ratio']:17.1f} "
            f"{f'{bar:.0f}' if bar else '':>6}"
        )
    if torch.cuda.is_available():
        results.append(time_on_cuda(options.cuda_bases, 5 * options.repeats))
        print(json.dumps(results[-1]))
    line = {
        "benchmark": "kmer_tokens", "commit": commit(), "k": K, "kmer_stride": 1, "dtype": "int32", "results": results,
        "backends": chosen_backends(), "cores": usable_cpus(), "load_average": os.getloadavg()[0],
        "processor": platform.machine(), "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
                     "transformers": transformers.__version__},
    }  # fmt: skip
    if options.json:
        with options.json.open("a") as file:
            file.write(json.dumps(line) + "\n")
    return 0 if all(result["ratio"] >= BARS.get(result["name"], 0.0) for result in results if "ratio" in result) else 1


if __name__ == "__main__":
    sys.exit(main())
