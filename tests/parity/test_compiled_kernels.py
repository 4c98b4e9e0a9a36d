"""Every kernel compiled for Hopper, which needs no GPU: the interpreter accepts what the compiler does not.

With the installed Triton, and with another one where ANNOTATOR_OTHER_TRITON names the folder that it lies in
(`pip install --target FOLDER --no-deps triton==3.6.0`, the oldest that is supported and the one of the first GPU machine).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="triton is not installed: nothing compiles the kernels")

from benchmarks import kernel_facts

OTHER = os.environ.get("ANNOTATOR_OTHER_TRITON", "")
TRITONS = [
    pytest.param(None, id="installed"),
    pytest.param(
        Path(OTHER),
        id="other",
        marks=pytest.mark.skipif(not OTHER, reason="ANNOTATOR_OTHER_TRITON names no folder of another Triton"),
    ),
]
TWO_PROGRAMS_BYTES = 113 * 1024
"""Shared memory of a program of which a multiprocessor of an H100 or H200 holds two."""


@pytest.mark.parametrize("triton", TRITONS)
def test_every_kernel_for_hopper(triton: Path | None) -> None:
    rows = kernel_facts.collect(kernel_facts.KERNELS, 90, triton)
    assert {row["kernel"] for row in rows} == set(kernel_facts.KERNELS)
    for row in rows:
        name = f"{row['kernel']}, {row['variant']}, Triton {row['triton']}"
        assert row["unfenced"] == 0, f"{name}: a tensor core may read shared memory before a cp.async is visible to it"
        assert row["spilled"] == 0, f"{name}: registers are spilled"
        assert row["shared"] <= TWO_PROGRAMS_BYTES, name
        if row["kernel"] == "residual_conv" or row["variant"].startswith("filter"):
            assert row["UTMALDG"] > 0 and row["cp_async"] == row["LDGSTS"] == 0, f"{name}: not by the tensor memory accelerator"
            wanted = "FFMA" if "float32" in row["variant"] else "IGMMA" if row["kernel"] == "pwm_scan" else "HGMMA"
            assert row[wanted] > 0, f"{name}: no {wanted}"
            assert row["HMMA"] == row["IMMA"] == 0, f"{name}: products of an older tensor core"


@pytest.mark.slow
@pytest.mark.parametrize("triton", TRITONS)
def test_the_convolutions_for_a_gpu_without_descriptors(triton: Path | None) -> None:
    """On an A100 descriptors become masked loads; sm_86 and sm_120 have the least shared memory, 101,376 bytes."""
    rows = kernel_facts.collect(["residual_conv"], 80, triton)
    for row in rows:
        assert row["shared"] <= 101_376 and row["unfenced"] == row["UTMALDG"] == 0
        assert row["FFMA" if "float32" in row["variant"] else "HMMA"] > 0


COPY = "cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10, %r2;"
WAIT, FENCE = "cp.async.wait_group 1;", "fence.proxy.async.shared::cta;"
PRODUCT = "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%r3}, %rd2, %rd3, 1, 1, 1;"
BULK = "@%p1 cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r2}], [%r3];"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([COPY, WAIT, PRODUCT, PRODUCT], 1),
        ([COPY, WAIT, FENCE, PRODUCT, PRODUCT], 0),
        ([COPY, FENCE, WAIT, PRODUCT], 1),
        ([COPY, WAIT, FENCE, PRODUCT, COPY, WAIT, PRODUCT], 1),
        ([f"@%p2 {COPY}", WAIT, PRODUCT], 1),
        ([BULK, PRODUCT], 0),
        ([PRODUCT, COPY, WAIT], 0),
        ([COPY, WAIT, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r1};"], 0),
    ],
    ids=["no fence", "fence", "fence before the wait", "one of two", "predicated", "bulk copies", "product first", "mma"],
)
def test_products_without_a_fence(lines: list[str], found: int) -> None:
    text = ".visible .entry k(\n)\n{\n" + "".join(f"\t{line}\n" for line in lines) + "}\n"
    assert kernel_facts.unfenced_products(text) == found


def test_a_kernel_that_copies_by_cp_async_is_seen(tmp_path: Path) -> None:
    """The loop that a plain load of a tensor core's operand becomes: its copies are counted, so the rows above mean something."""
    rows = _facts_of(tmp_path)
    assert rows["cp_async"] > 0 and rows["HGMMA"] > 0
    assert (rows["unfenced"] == 0) == (rows["fences"] > 0)


def _facts_of(folder: Path) -> dict[str, Any]:
    """Facts of a small matrix product."""
    import json

    from tests.support.compiling import run_compiler

    (folder / "product.py").write_text(
        """
import json, sys
import triton, triton.language as tl
from benchmarks.kernel_facts import Variant, facts

@triton.jit
def product(a_ptr, b_ptr, out_ptr, steps):
    row, column, inner = tl.arange(0, 64)[:, None], tl.arange(0, 64)[None, :], tl.arange(0, 64)
    total = tl.zeros([64, 64], dtype=tl.float32)
    for step in range(steps):
        a = tl.load(a_ptr + row * 4096 + step * 64 + inner[None, :])
        b = tl.load(b_ptr + (step * 64 + inner[:, None]) * 64 + column)
        total = tl.dot(a, b, total)
    tl.store(out_ptr + row * 64 + column, total)

types = {"a_ptr": "*bf16", "b_ptr": "*bf16", "out_ptr": "*fp32"}
print(json.dumps(facts(Variant("product", "", product, types, {}), 90)))
"""
    )
    script = f"import runpy, sys; sys.path[:0] = [{str(kernel_facts.ROOT)!r}]; runpy.run_path({str(folder / 'product.py')!r})"
    row: dict[str, Any] = json.loads(run_compiler(script, folder / "cache"))
    return row
