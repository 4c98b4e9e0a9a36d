"""A model's calls on a sample of a genome and on decoys made of it.

Coordinates: 0-based half-open on the plus strand of a contig.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.calls.batch import Calls, inside_regions
from annotator.calls.error_rate import LADDER, LadderCounts, count_ladder
from annotator.calls.rules import track_rules
from annotator.calls.sites import call_sites
from annotator.errors import ModelFault
from annotator.genome.decoys import DECOY_SEED, SHUFFLED_BP, shuffle_dinucleotides
from annotator.genome.plan import PlanOptions, Span
from annotator.kinds import Kind
from annotator.models.faults import device_faults
from annotator.models.loading import load_scan_model
from annotator.models.manifest import Manifest
from annotator.scan.block import Block, ReadBases
from annotator.scan.options import BATCH_BP
from annotator.scan.windows import NotFinite, WindowScorer

BLOCK_BP = 1_000_000
"""Bases that are read, shuffled and scanned at a time, about."""


class SampleScan:
    """A model on a device that calls a sample of a genome, as it is or beside decoys."""

    def __init__(
        self, folder: Path, manifest: Manifest, clade: str, kinds: Sequence[Kind], device: str, *, precision: str = "auto",
        batch_bp: int = 0,
    ) -> None:  # fmt: skip
        """Load the model.

        Args:
            folder: The model directory.
            manifest: Its manifest.
            clade: One of the manifest's.
            kinds: Kinds to call.
            device: torch device.
            precision: float32, bfloat16, or auto for what suits the model and the device.
            batch_bp: Bases of a batch; 0 for the device's default.

        Raises:
            AnnotatorError: The model cannot be loaded.
        """
        self.kinds, self._name, self._device = tuple(kinds), manifest.name, torch.device(device)
        self._plan = PlanOptions(**manifest.plan)
        self._rules = track_rules(manifest, clade, dict.fromkeys(kinds, LADDER[0]))
        with device_faults(self._device, "while the model was loaded"):
            model = load_scan_model(folder, manifest, clade, self._device, precision)
        size = batch_bp or max(BATCH_BP[self._device.type], self._plan.window_bp)
        self._scorer = WindowScorer(model, batch_bp=size, device=self._device)
        self._block_bp = max(BLOCK_BP, size)  # decoys go by blocks: the scorer's own size, which shrinks with memory, is no part

    def calls(
        self,
        sample: Sequence[tuple[Span, ...]],
        lengths: NDArray[np.int64],
        read_bases: ReadBases,
        regions: dict[int, NDArray[np.int64]] | None = None,
        tick: Callable[[], None] | None = None,
    ) -> Calls:
        """The calls on the sampled bases as they are; arguments and errors as of `calls_and_decoys`."""
        return Calls.concatenate([self._call(b, regions) for b in self._blocks(sample, lengths, read_bases, tick)])

    def calls_and_decoys(
        self,
        sample: Sequence[tuple[Span, ...]],
        lengths: NDArray[np.int64],
        read_bases: ReadBases,
        regions: dict[int, NDArray[np.int64]] | None = None,
        tick: Callable[[], None] | None = None,
    ) -> tuple[Calls, Calls]:
        """The calls at LADDER's lowest threshold and above.

        Args:
            sample: What is scanned, as of `sample_spans`.
            lengths: Length of every contig in bp, int64.
            read_bases: Access to the genome.
            regions: Sorted disjoint intervals [m, 2] per contig index; only calls positioned inside are kept. None keeps all.
            tick: Called again and again; what it raises ends the scan.

        Returns:
            The calls on the sampled bases as they are, which are those that a run makes there, and those on the same bases
            shuffled. Each block of bases has a random generator of its own, so that the decoys of a genome never change.

        Raises:
            AnnotatorError: The genome cannot be read, the model gave NaN, or memory ran out.
        """
        found: tuple[list[Calls], list[Calls]] = ([], [])
        for block in self._blocks(sample, lengths, read_bases, tick):
            for bases, calls in zip((block.bases, shuffled_block(block)), found, strict=True):
                calls.append(self._call(replace(block, bases=bases), regions))
        real, decoy = map(Calls.concatenate, found)
        return real, decoy

    def count(
        self,
        sample: Sequence[tuple[Span, ...]],
        lengths: NDArray[np.int64],
        read_bases: ReadBases,
        regions: dict[int, NDArray[np.int64]] | None = None,
        tick: Callable[[], None] | None = None,
    ) -> dict[Kind, LadderCounts]:
        """The calls of each kind by threshold; arguments and errors as of `calls_and_decoys`."""
        real, decoy = self.calls_and_decoys(sample, lengths, read_bases, regions, tick)
        return {
            kind: count_ladder(real.probability[real.kind == kind.code], decoy.probability[decoy.kind == kind.code])
            for kind in self.kinds
        }

    def _blocks(
        self,
        sample: Sequence[tuple[Span, ...]],
        lengths: NDArray[np.int64],
        read_bases: ReadBases,
        tick: Callable[[], None] | None,
    ) -> Iterator[Block]:
        for spans in _in_blocks(sample, self._block_bp):
            if tick:
                tick()
            yield Block.read(spans, lengths, self._plan, read_bases)

    def _call(self, block: Block, regions: dict[int, NDArray[np.int64]] | None) -> Calls:
        first = block.spans[0]
        place = f"contig {first.contig} from base {first.start}"
        dropped: Counter[str] = Counter()
        with device_faults(self._device, f"on a sample of the genome, {place}"):
            try:
                calls = Calls.concatenate([call_sites(b, block, self._rules, dropped) for b in self._scorer.score(block)])
            except NotFinite as fault:
                raise ModelFault(f"model {self._name}: NaN or infinity on a sample of the genome, {place}") from fault
        return calls if regions is None else calls.take(inside_regions(calls, regions))


def shuffled_block(block: Block) -> NDArray[np.uint8]:
    """The bases of a block as a decoy, uint8, [n]: shuffled piece by piece, the context that its windows see included."""
    edges = block.windows.stretch_offset.tolist()
    cuts = np.concatenate([np.arange(start, end, SHUFFLED_BP) for start, end in zip(edges, edges[1:], strict=False)])
    first = block.spans[0]
    rng = np.random.default_rng((DECOY_SEED, first.contig, first.start))
    return shuffle_dinucleotides(block.bases, cuts, rng)


def _in_blocks(sample: Sequence[tuple[Span, ...]], block_bp: int) -> list[tuple[Span, ...]]:
    """Groups of spans joined to blocks that own about so many bases."""
    blocks: list[tuple[Span, ...]] = []
    pending: tuple[Span, ...] = ()
    for spans in sample:
        pending += spans
        if sum(span.end - span.start for span in pending) >= block_bp:
            blocks.append(pending)
            pending = ()
    return [*blocks, pending] if pending else blocks
