"""Tiles of `residual_conv` beside the one it takes: checked against the oracle, then timed, on the bundled model's shapes.

    python benchmarks/conv_variants.py --device cuda                                       # rows in benchmarks/results.jsonl
    TRITON_INTERPRET=1 python benchmarks/conv_variants.py --small --out /tmp/rows.jsonl    # tries the script, times nothing real

A row a tile, written at once. A tile that is wrong, does not compile or needs too much shared memory has a line with the reason
in place of a row, and ends nothing. What is fastest is a reason to change `choose_tile`; nothing is tuned at run time.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.kernel_problems import FULL, SMALL, Problem, conv_tile, problems
from benchmarks.kernels import Run, measure, one_shape
from benchmarks.rows import RESULTS, ceilings, circumstances

_TAKEN = "the one that is taken"


def tiles(problem: Problem, small: bool) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    """Name and numbers (block_l, block_i, block_o, warps, stages) of the tiles to try on a shape."""
    yield _TAKEN, None
    block_o = 128 if problem.shape["outputs"] > 32 or problem.variant.startswith(("stem", "mix")) else 32
    if small:
        yield "16 positions", (16, 16, 32, 4, 2)
        return
    # The folded shapes have 128 channels and the trunk 96, of which steps of 64 read 128.
    for block_l, block_i, warps, stages in ((128, 32, 4, 3), (128, 64, 4, 2), (128, 64, 4, 4), (128, 64, 8, 3), (256, 64, 8, 3),
                                            (256, 32, 8, 4), (64, 64, 4, 4)):  # fmt: skip
        yield f"{block_l} x {block_i} x {block_o}, {warps} warps, {stages} stages", (block_l, block_i, block_o, warps, stages)


def main(argv: Sequence[str] | None = None) -> int:
    """Check, measure, append rows; 1 where the tile that is taken is wrong or fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shapes", nargs="+", metavar="NAME", help="names of shapes begin so (default: all)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="rows are appended here")
    parser.add_argument("--repeats", type=int, default=10, help="most timed calls of each")
    parser.add_argument("--small", action="store_true", help="small shapes and two tiles: tries the script")
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        parser.error("on a CPU kernels run in Triton's interpreter only: TRITON_INTERPRET=1")
    torch.backends.cudnn.allow_tf32 = False
    run = Run(device, ("residual_conv",), SMALL if options.small else FULL, options.repeats, options.small)
    path = "triton" if device.type == "cuda" else "triton in its interpreter"
    common = {**circumstances(device), "path": path}
    limits = ceilings(device, small=options.small)
    right = True
    for problem in problems("residual_conv", run.sizes, device):
        if options.shapes and not problem.variant.startswith(tuple(options.shapes)):
            continue
        for name, numbers in tiles(problem, options.small):
            right = _one_tile(problem, name, numbers, run, limits, common, options.out) or (right and numbers is not None)
    return 0 if right else 1


def _one_tile(
    problem: Problem, name: str, numbers: tuple[int, ...] | None, run: Run, limits: dict[str, float], common: dict[str, Any],
    out: Path,
) -> bool:  # fmt: skip
    """One row; whether it could be made."""
    from annotator_kernels.residual_conv.kernel import Tile

    tried = replace(problem, variant=f"{problem.variant}; tile {name}", baselines={})
    token = conv_tile.set(None if numbers is None else Tile(*numbers))
    try:
        return one_shape(
            tried, "triton", lambda: measure(tried, run, limits, "triton") | common, {"benchmark": "conv_variants"}, out
        )
    finally:
        conv_tile.reset(token)


if __name__ == "__main__":
    sys.exit(main())
