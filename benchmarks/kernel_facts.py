"""What Triton and ptxas make of every kernel for a GPU that need not be here: registers, spills, instructions, fences.

    python benchmarks/kernel_facts.py                                         # with the Triton that is installed, for sm_90
    pip install --target FOLDER --no-deps triton==3.6.0
    python benchmarks/kernel_facts.py --triton FOLDER --capability 80         # with another one, for another GPU
    python benchmarks/kernel_facts.py --json --kernels residual_conv

One row a variant. `spilled` is the stack of a thread in bytes. `unfenced` counts tensor-core products (wgmma, which reads shared
memory through the asynchronous proxy) that follow a cp.async (which writes it through the generic one) without a
`fence.proxy.async` between: they may read what was there before. The compiler of Triton 3.6.0 makes such code, 3.9.0 does not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
INSTRUCTIONS = ("HGMMA", "IGMMA", "HMMA", "IMMA", "FFMA", "UTMALDG", "UTMASTG", "LDGSTS")
"""Of the machine code: products of Hopper's tensor cores (float, integer) and of older ones, fused multiply-adds, copies by the
tensor memory accelerator (load, store), and cp.async."""


class Variant(NamedTuple):
    """One way a kernel is launched.

    Attributes:
        kernel: Operation.
        name: Of the variant.
        function: The Triton function.
        types: Of the arguments that are no constants, by name; those left out are i32.
        constants: By name.
        warps: Warps of a program.
        stages: Steps of a loop whose loads are under way at once.
    """

    kernel: str
    name: str
    function: Any
    types: dict[str, str]
    constants: dict[str, Any]
    warps: int = 4
    stages: int = 3


def _kmers() -> Iterator[Variant]:
    from annotator_kernels.kmer.embed_kernel import _add_rows_kernel, _kmer_embed_kernel
    from annotator_kernels.kmer.tokenize_kernel import STRIDED_BLOCK_TOKENS, WORDS, _kmer_tokenize_kernel

    windows = {"block_ptr": "*u8", "starts_ptr": "*i64", "reverse_ptr": "*u8", "code_table_ptr": "*u8",
               "complement_table_ptr": "*u8", "n": "i64"}  # fmt: skip
    for stride, lanes in ((1, WORDS), (6, STRIDED_BLOCK_TOKENS)):
        constants = {"K": 6, "STRIDE": stride, "HAS_CLS": True, "HAS_SEP": True, "LANES": lanes}
        yield Variant("kmer_tokenize", f"stride {stride}", _kmer_tokenize_kernel, windows | {"ids_ptr": "*i32"}, constants)
    constants = {"H": 32, "K": 6, "STRIDE": 1, "HAS_CLS": False, "HAS_SEP": False, "BLOCK_T": 256, "BLOCK_H": 32}
    types = windows | {"table_ptr": "*bf16", "out_ptr": "*bf16"}
    yield Variant("kmer_embed", "forward", _kmer_embed_kernel, types, constants)
    types = {"source_ptr": "*bf16", "order_ptr": "*i64", "from_ptr": "*i64", "to_ptr": "*i64", "out_ptr": "*fp32"}
    yield Variant("kmer_embed", "backward", _add_rows_kernel, types, {"H": 32, "ORDERED": True, "BLOCK_R": 32, "BLOCK_H": 32})


def _convolutions() -> Iterator[Variant]:
    """Those of the bundled model, of 256 channels (128 and 160 differ in numbers only), and of OpenSpliceAI's networks."""
    import torch

    from annotator_kernels.residual_conv.kernel import FOLD, _residual_conv_kernel, choose_tile

    for name, taps, inputs, outputs, fold, residual, logits, dtype in (
        ("stem, four positions as one", 3, 128, 128, FOLD, True, 0, "bf16"),
        ("mix and head, four positions as one", 3, 128, 128, FOLD, True, 3, "bf16"),
        ("down", 1, 256, 96, 1, False, 0, "bf16"),
        ("trunk of 96", 5, 96, 96, 1, True, 0, "bf16"),
        ("up", 1, 96, 256, 1, True, 0, "bf16"),
        ("trunk of 256", 5, 256, 256, 1, True, 0, "bf16"),
        ("32 channels, dilated", 11, 32, 32, 1, True, 0, "bf16"),
        ("few channels", 3, 8, 8, 1, True, 0, "bf16"),
        ("trunk of 96 in float32", 5, 96, 96, 1, True, 0, "fp32"),
        ("mix and head in float32", 9, 32, 32, 1, True, 3, "fp32"),
    ):
        tile = choose_tile(inputs, outputs, torch.bfloat16 if dtype == "bf16" else torch.float32)
        x, out = (f"tensordesc<{dtype}[1, {tile.block_l}, {width}]>" for width in (tile.block_i, tile.block_o))
        types = {"x_desc": x, "weight_desc": f"tensordesc<{dtype}[1, {tile.block_i}, {tile.block_o}]>", "bias_ptr": "*fp32",
                 "residual_desc": out, "out_desc": out, "head_weight_ptr": "*fp32", "head_bias_ptr": "*fp32",
                 "logits_ptr": "*fp32", "slope": "fp32"}  # fmt: skip
        constants: dict[str, Any] = {
            "W": taps, "I": inputs, "O": outputs, "FOLD": fold, "LOGITS": logits, "BLOCK_L": tile.block_l,
            "BLOCK_I": tile.block_i, "BLOCK_O": tile.block_o, "WIDEN": False,
        }  # fmt: skip
        absent = ["out_desc"] if logits else ["head_weight_ptr", "head_bias_ptr", "logits_ptr"]
        absent += [] if residual else ["residual_desc"]
        constants |= dict.fromkeys(absent)
        yield Variant("residual_conv", name, _residual_conv_kernel, types, constants, tile.warps, tile.stages)


def _maxima_and_motifs() -> Iterator[Variant]:
    from annotator_kernels.local_maxima.kernel import BLOCK_POSITIONS, _local_maxima_kernel
    from annotator_kernels.pwm_scan import kernel as pwm

    types = {"logits_ptr": "*fp32", "owned_ptr": "*i64", "real_ptr": "*i64", "reverse_ptr": "*u8", "least_ptr": "*fp32",
             "radius_ptr": "*i64", "maxima_ptr": "*i64", "count_ptr": "*i64"}  # fmt: skip
    yield Variant("local_maxima", "three tracks", _local_maxima_kernel, types, {"LANES": BLOCK_POSITIONS})
    types = {"block_ptr": "*u8", "code_table_ptr": "*u8", "candidates_ptr": "*i64", "counts_ptr": "*i64",
             "steps_ptr": "*i32", "facts_ptr": "*i64", "keys_ptr": "*i64", "scores_ptr": "*i32", "n": "i64"}  # fmt: skip
    for columns in pwm.CLASS_COLUMNS:
        rows = min(pwm.BLOCK_ROWS, pwm.BLOCK_WEIGHTS // (4 * columns))
        constants = {"COLUMNS": columns, "POSITIONS": pwm.BLOCK_POSITIONS, "ROWS": rows, "GROUP": pwm.GROUP_ROWS}
        filtering = types | {"weights_desc": f"tensordesc<i8[{rows}, {4 * columns}]>"}
        yield Variant("pwm_scan", f"filter, {columns} columns", pwm._pwm_scan_kernel, filtering, constants, 8)
    constants = {"CANDIDATES": pwm.BLOCK_CANDIDATES, "GROUP": pwm.GROUP_ROWS}
    yield Variant("pwm_scan", "scores", pwm._pwm_score_kernel, types, constants)


_VARIANTS: dict[str, Callable[[], Iterator[Variant]]] = {
    "kmer_tokenize": _kmers,
    "kmer_embed": _kmers,
    "residual_conv": _convolutions,
    "local_maxima": _maxima_and_motifs,
    "pwm_scan": _maxima_and_motifs,
}
KERNELS = tuple(_VARIANTS)


def unfenced_products(ptx: str) -> int:
    """Products in PTX that may read shared memory before a cp.async that is waited for is visible to them.

    Args:
        ptx: The text. Triton writes a loop's body in the order in which a step runs, its wait before its products.

    Returns:
        Runs of wgmma with no fence.proxy.async since the last wait for a cp.async. Copies of the tensor memory accelerator
        (cp.async.bulk) write through the same proxy, are waited for in another way, and count for nothing.
    """
    waiting, found = False, 0
    for line in ptx.splitlines():
        words = line.split(";")[0].split()
        name = next((word for word in words if not word.startswith("@")), "")
        if name.startswith("cp.async.wait"):
            waiting = True
        elif name.startswith("fence.proxy.async"):
            waiting = False
        elif name.startswith("wgmma.mma_async") and waiting:
            found, waiting = found + 1, False  # one finding for a run of products
    return found


def facts(variant: Variant, capability: int) -> dict[str, Any]:
    """Compile one variant; the values of its row."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = variant.function.arg_names
    signature = {
        name: "constexpr" if name in variant.constants else variant.types.get(name, "i32") for name in names
    }  # fmt: skip
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    source = ASTSource(variant.function, signature, variant.constants, aligned)
    options = {"num_warps": variant.warps, "num_stages": variant.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    ptx = compiled.asm["ptx"]
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage, code = (
            subprocess.run([str(tool), option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("-res-usage", "-sass")
        )
    used = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert used is not None, usage
    instructions = re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@\S+\s+)?([A-Z0-9]+)", code, re.MULTILINE)
    return {
        "kernel": variant.kernel, "variant": variant.name, "triton": triton.__version__, "capability": capability,
        "registers": int(used[1]), "spilled": int(used[2]), "shared": compiled.metadata.shared, "warps": variant.warps,
        "instructions": len(instructions), **{name: instructions.count(name) for name in INSTRUCTIONS},
        "cp_async": len(re.findall(r"\bcp\.async\.c[ag]\.", ptx)), "fences": ptx.count("fence.proxy.async"),
        "unfenced": unfenced_products(ptx),
    }  # fmt: skip


def collect(kernels: Sequence[str], capability: int, triton: Path | None = None) -> list[dict[str, Any]]:
    """Rows of some kernels, made in a process of its own, in which Triton compiles and does not interpret.

    Args:
        kernels: Of KERNELS.
        capability: Compute capability, without its dot.
        triton: Folder that another Triton lies in; None takes the installed one.

    Raises:
        subprocess.CalledProcessError: Something did not compile; `stderr` says what.
    """
    paths = [*([] if triton is None else [triton]), ROOT / "kernels", ROOT]
    command = [sys.executable, str(Path(__file__).resolve()), "--json", "--here", "--capability", str(capability)]
    with tempfile.TemporaryDirectory() as cache:
        env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        env |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), "TRITON_CACHE_DIR": cache}
        done = subprocess.run([*command, "--kernels", *kernels], env=env, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main(argv: Sequence[str] | None = None) -> int:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, default=KERNELS, metavar="NAME")
    parser.add_argument("--capability", type=int, default=90, help="compute capability, without its dot")
    parser.add_argument("--triton", type=Path, metavar="FOLDER", help="another Triton than the installed one")
    parser.add_argument("--json", action="store_true", help="rows as JSON, one a line")
    parser.add_argument("--here", action="store_true", help="in this process")
    options = parser.parse_args(argv)
    if options.here:
        makers = dict.fromkeys(_VARIANTS[kernel] for kernel in options.kernels)
        variants = (variant for make in makers for variant in make() if variant.kernel in options.kernels)
        for variant in variants:
            print(json.dumps(facts(variant, options.capability)), flush=True)
        return 0
    rows = collect(options.kernels, options.capability, options.triton)
    if options.json:
        print("\n".join(map(json.dumps, rows)))
        return 0
    columns = [name for name in rows[0] if name not in ("kernel", "variant", "triton", "capability", "warps")]
    print(f"Triton {rows[0]['triton']}, sm_{options.capability}\n\n| kernel | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for row in rows:
        print(f"| {row['kernel']}, {row['variant']} | {' | '.join(str(row[name]) for name in columns)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
