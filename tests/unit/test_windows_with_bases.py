"""Which windows the model is spared: those whose core is all N."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from annotator.genome.plan import PlanOptions, Span
from annotator.scan.block import Block
from annotator.scan.windows import _windows_with_bases

PLAN = PlanOptions(window_bp=64, halo_bp=8, pad_bp=8, smallest_bp=32, shard_bp=480)


def block_of(genome: dict[int, NDArray[np.uint8]]) -> Block:
    lengths = np.array([len(bases) for bases in genome.values()], np.int64)
    spans = tuple(Span(contig, 0, len(bases)) for contig, bases in genome.items())
    return Block.read(spans, lengths, PLAN, lambda contig, start, end: genome[contig][start:end])


@pytest.mark.parametrize("share_known", [0.0, 0.002, 0.02, 0.5, 1.0])
def test_a_window_is_scored_where_its_core_has_a_base(share_known: float) -> None:
    rng = np.random.default_rng(int(1000 * share_known))
    genome = {
        contig: np.where(rng.random(length) < share_known, rng.choice(np.frombuffer(b"ACGT", np.uint8), length), ord("N"))
        for contig, length in enumerate((1000, 1, 47, 48, 49, 333, 5, 5, 5))
    }
    block = block_of(genome)
    windows = block.windows
    wanted = [
        i for i in range(len(windows))
        if set(genome[int(windows.span[i])][windows.core_start[i] : windows.core_end[i]].tolist()) != {ord("N")}
    ]  # fmt: skip
    assert _windows_with_bases(block).tolist() == wanted
    assert _windows_with_bases(block).dtype == np.int64


@pytest.mark.parametrize("at", [0, 47, 48, 95, 96, 99])
def test_one_base_counts_for_the_core_that_owns_it(at: int) -> None:
    bases = np.full(100, ord("N"), np.uint8)
    bases[at] = ord("A")
    assert _windows_with_bases(block_of({0: bases})).tolist() == [at // PLAN.core_bp]
