"""A DNABERT-6 shaped BertModel of transformers: its rate against that of its own matrix products, in the same run.

    python benchmarks/transformer.py --device cuda                     # rows appended to benchmarks/results.jsonl
    python benchmarks/transformer.py --small --out /tmp/rows.jsonl     # 2 layers, a small batch, on a CPU

Random weights, fixed-shape batches of 512 ids without padding, scaled-dot-product attention, inference mode; bfloat16 on CUDA,
float32 on a CPU (such rows say so). Parity first: hidden states against the same weights in float32 with plain attention; a
variant that differs ends the run with exit code 1 and no row of it; a row is written as soon as it is measured. FLOPs are those
of the matrix products and of attention, 2 per multiply-add, nothing else. The ceiling is what torch.mm reaches on the model's own
shapes, M = batch x 512, weighted by their share of the FLOPs. Bar on CUDA: the best variant reaches half of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from annotator_kernels.hardware import matrix_rate, time_call
from benchmarks.cost_model import DNABERT_6, HUMAN_BP, STRANDS, Transformer
from benchmarks.rows import RESULTS, append_row, circumstances, peak_memory_bytes, quantiles, watch_memory

BAR = 0.5
CLS, SEP, FIRST_KMER, VOCABULARY = 2, 3, 5, 4101
_BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""Root-mean-square error of the hidden states, relative to theirs."""


def build(layers: int, tokens: int, attention: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The stock model with random weights, the same ones in every call."""
    here = Path(__file__).parent.resolve()
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    from transformers import BertConfig, BertModel  # looks for a package called kernels: ours beside this file is not it

    shape = DNABERT_6
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=shape.hidden, num_hidden_layers=layers, num_attention_heads=12,
        intermediate_size=shape.inner, max_position_embeddings=tokens, type_vocab_size=2, layer_norm_eps=1e-12,
        attn_implementation=attention,
    )  # fmt: skip
    torch.manual_seed(6)
    model: nn.Module = BertModel(config, add_pooling_layer=False)
    return model.to(device, dtype).eval()


def random_ids(batch: int, tokens: int, device: torch.device) -> Tensor:
    """k-mer ids between [CLS] and [SEP], int64, [batch, tokens]."""
    ids = torch.randint(FIRST_KMER, VOCABULARY, (batch, tokens), generator=torch.Generator().manual_seed(batch))
    ids[:, 0], ids[:, -1] = CLS, SEP
    return ids.to(device)


def own_matrix_rate(shape: Transformer, rows: int, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Rate of the model's products on their own, by shape and all together, FLOPs a second."""
    h, f = shape.hidden, shape.inner
    products = {(rows, h, h): 4, (rows, f, h): 1, (rows, h, f): 1}
    rates = {mnk: matrix_rate(device, dtype, shapes=[mnk]) for mnk in products}
    flops = {mnk: count * 2 * mnk[0] * mnk[1] * mnk[2] for mnk, count in products.items()}
    together = sum(flops.values()) / sum(flops[mnk] / rates[mnk] for mnk in products)
    return {f"{m} x {k} x {n}": rate for (m, n, k), rate in rates.items()} | {"all": together}


def measure(
    name: str, model: Callable[[Tensor], Tensor], ids: Tensor, shape: Transformer, ceiling: dict[str, float], repeats: int,
    dtype: torch.dtype,
) -> dict[str, Any]:  # fmt: skip
    """Time one variant on one batch; the row's own fields."""
    device, (batch, tokens) = ids.device, ids.shape
    watch_memory(device)
    timing = time_call(lambda: model(ids), device, repeats=repeats, warmup=2)
    flops = shape.flops_per_token() * batch * tokens
    bases_per_s = batch * shape.window_bp / timing.p50_s
    fraction = flops / timing.p50_s / ceiling["all"]
    return {
        "variant": name, "path": str(dtype) + (" on cpu" if device.type == "cpu" else ""),
        "shape": {"batch": batch, "tokens": tokens, "layers": shape.layers, "hidden": shape.hidden, "inner": shape.inner,
                  "heads": 12, "vocabulary": VOCABULARY, "attention": "sdpa"},
        "parity": f"hidden states within {_BOUNDS[dtype]:g} of float32 with plain attention (relative RMS)",
        **quantiles(timing), "flops": flops, "flops_per_s": flops / timing.p50_s, "matrix_rate_own_shapes": ceiling,
        "fraction_of_matrix_rate": fraction, "bases_per_s": bases_per_s,
        "human_genome_s_extrapolated": STRANDS * HUMAN_BP / bases_per_s if shape.layers == DNABERT_6.layers else None,
        "peak_memory_bytes": peak_memory_bytes(device),
    }  # fmt: skip


def run(device: torch.device, options: argparse.Namespace) -> bool:
    """Check, measure and write the rows; False where a variant is wrong."""
    on_cuda = device.type == "cuda"
    dtype = torch.bfloat16 if on_cuda else torch.float32
    full = on_cuda and not options.small
    batches = options.batch or ([64, 256] if full else [2])
    tokens = DNABERT_6.tokens if not options.small else 64
    shape = dataclasses.replace(
        DNABERT_6, layers=DNABERT_6.layers if full else 2, tokens=tokens, window_bp=float(tokens - 2)
    )  # [CLS] and [SEP] cover no base
    model = build(shape.layers, tokens, "sdpa", device, dtype)
    few = random_ids(2, tokens, device)
    exact = build(shape.layers, tokens, "eager", device, dtype).float()(few).last_hidden_state

    def hidden(of: nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda ids: of(ids).last_hidden_state

    def right(name: str, variant: Callable[[Tensor], Tensor], ids: Tensor) -> bool:
        error = float((variant(ids)[: len(few)].float() - exact).norm() / exact.norm())
        print(f"parity {name}: relative error {error:.2g} of the hidden states, {_BOUNDS[dtype]:g} allowed", flush=True)
        return error <= _BOUNDS[dtype]

    common = {"benchmark": "transformer", **circumstances(device)}
    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        bar = {"bar_fraction_of_matrix_rate": BAR, "bar_met": row["fraction_of_matrix_rate"] >= BAR} if full else {}
        rows.append(common | row | bar)
        append_row(options.out, rows[-1])
        print(describe(rows[-1]), flush=True)

    if not right("eager", hidden(model), few):
        return False
    ceilings = {batch: own_matrix_rate(shape, batch * tokens, device, dtype) for batch in batches}
    for batch in batches:
        ids = random_ids(batch, tokens, device)
        add(measure("eager", hidden(model), ids, shape, ceilings[batch], options.repeats, dtype))
    if options.compile:
        best = max(rows, key=lambda row: row["fraction_of_matrix_rate"])["shape"]["batch"]
        compiled = hidden(torch.compile(model, dynamic=False))
        ids = torch.cat([few, random_ids(best, tokens, device)])[:best]  # one shape only: no second compilation
        try:
            compiled(ids)
        except Exception as fault:  # the compiler is torch's, not ours: without it the eager rows stand
            traceback.print_exception(fault)
        else:
            if not right("torch.compile", compiled, ids):
                return False
            add(measure("torch.compile", compiled, ids, shape, ceilings[best], options.repeats, dtype))
    if full:
        reached = max(row["fraction_of_matrix_rate"] for row in rows)
        print(f"best variant: {100 * reached:.1f} % of the rate of its own products, bar {100 * BAR:.0f} %")
    return True


def describe(row: dict[str, Any]) -> str:
    """One line."""
    shape, genome = row["shape"], row["human_genome_s_extrapolated"]
    return (
        f"{row['variant']:16}{shape['layers']} layers, {shape['batch']} x {shape['tokens']} ids, {row['path']}: "
        f"{1e3 * row['p50_s']:.1f} ms, {row['flops_per_s'] / 1e12:.3g} TFLOP/s, "
        f"{100 * row['fraction_of_matrix_rate']:.1f} % of its own products' {row['matrix_rate_own_shapes']['all'] / 1e12:.3g}"
        + (f"; human genome (extrapolated): {genome / 60:.1f} min" if genome else "")
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Check, measure, append rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="rows are appended here")
    parser.add_argument("--batch", type=int, nargs="+", help="windows of a batch (64 and 256 on CUDA, 2 on a CPU)")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="torch.compile too (default: on CUDA)")
    parser.add_argument("--small", action="store_true", help="2 layers, 64 ids: seconds on a CPU")
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    if options.compile is None:
        options.compile = device.type == "cuda" and not options.small
    with torch.inference_mode():
        right = run(device, options)
    if not right:
        print("a variant differs from the float32 model: no figure", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
