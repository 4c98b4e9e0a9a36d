"""A model on one sequence: calibrated probabilities of every base and both strands, with the numbers that a run calls by.

Coordinates: 0-based positions within the sequence, in plus-strand order for both strands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.checks import check_choice, check_device
from annotator.errors import InputError, ModelFault, UsageError
from annotator.genome.alphabet import BASE_TABLE, GAP_BYTES, describe_byte
from annotator.genome.plan import UNKNOWN_BASE, PlanOptions, plan_shards
from annotator.kinds import STRANDS, Strand
from annotator.models.device import choose_device, native_precision
from annotator.models.directory import read_model
from annotator.models.faults import device_faults
from annotator.models.loading import load_scan_model
from annotator.models.manifest import Calibration, Manifest
from annotator.models.options import NOT_SCORED, PRECISIONS
from annotator.scan.block import Block
from annotator.scan.options import BATCH_BP
from annotator.scan.tracks import SpanTracks
from annotator.scan.windows import NotFinite, WindowScorer

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, eq=False)
class Tracks:
    """What a model says about every base of a sequence of L bases.

    A donor's position is the exon's last base, an acceptor's the exon's first base, a promoter's its TSS; a feature starts at its
    position. Positions are 0-based in plus-strand order on both strands.

    Attributes:
        names: The model's tracks, such as donor, acceptor and tss.
        logits: float32, [2, C, L]: strand (+, -), track in the order of `names`, base. NaN where nothing is known: on bases that
            are not A, C, G or T, in long runs of them, and on bases that a classifier of windows says nothing about.
        calibration: Per track, how a logit becomes a probability.
        thresholds: Per track, the probability at and above which a run calls a local maximum.
    """

    names: tuple[str, ...]
    logits: NDArray[np.float32]
    calibration: tuple[Calibration, ...]
    thresholds: dict[str, float]

    def __len__(self) -> int:
        """Bases of the sequence, L."""
        return int(self.logits.shape[2])

    def logit(self, track: str, strand: Strand | str = Strand.PLUS) -> NDArray[np.float32]:
        """Logits of one track on one strand.

        Args:
            track: One of `names`.
            strand: A `Strand`, or "+" or "-".

        Returns:
            float32, [L], a view; NaN where nothing is known.

        Raises:
            UsageError: There is no such track or strand.
        """
        check_choice("track", track, self.names)
        try:
            chosen = Strand.parse(strand) if isinstance(strand, str) else Strand(strand)
        except ValueError:
            raise UsageError("choose '+' or '-'", "strand", strand) from None
        values: NDArray[np.float32] = self.logits[chosen.row, self.names.index(track)]
        return values

    def probability(self, track: str, strand: Strand | str = Strand.PLUS) -> NDArray[np.float64]:
        """Calibrated probabilities of one track on one strand, rounded as a run rounds them; arguments and errors as `logit`.

        Returns:
            float64, [L], 0 to 1; NaN where nothing is known.
        """
        logits = self.logit(track, strand)
        return self.calibration[self.names.index(track)].probability(logits)

    def to_polars(self) -> pl.DataFrame:
        """The probabilities as a table of 2 L rows, the plus strand first.

        Returns:
            Columns `position` (int64, 0-based), `strand` ("+" or "-") and one per track (float32, null where nothing is known).
        """
        import polars as pl

        count = len(self)
        columns: dict[str, Any] = {
            "position": np.tile(np.arange(count), 2),
            "strand": np.repeat([strand.symbol for strand in STRANDS], count),
        }
        for name in self.names:
            values = np.concatenate([self.probability(name, strand) for strand in STRANDS]).astype(np.float32)
            columns[name] = pl.Series(values, nan_to_null=True)
        return pl.DataFrame(columns, schema_overrides={"strand": pl.String})


class Predictor:
    """A model on a device, ready to score sequences; `load_model` makes one.

    Attributes:
        manifest: What the model says about itself.
        clade: Clade whose calibration and thresholds are used.
        device: Where it computes.
        precision: "float32", "bfloat16" or "int8".
    """

    def __init__(self, folder: Path, manifest: Manifest, clade: str, device: torch.device, precision: str) -> None:
        """Load the weights.

        Args:
            folder: The model directory.
            manifest: Its manifest.
            clade: One of the manifest's.
            device: Where to compute.
            precision: What to compute in.

        Raises:
            AnnotatorError: The directory's parts do not fit each other, or the device fails.
        """
        self.manifest, self.clade, self.device, self.precision = manifest, clade, device, precision
        self._plan = PlanOptions(**manifest.plan)
        with device_faults(device, "while the model was loaded"):
            model = load_scan_model(folder, manifest, clade, device, precision)
        self._scorer = WindowScorer(model, batch_bp=max(BATCH_BP[device.type], self._plan.window_bp), device=device)

    def predict(self, sequence: str | bytes) -> Tracks:
        """Score every base of a sequence on both strands.

        The sequence is taken for a whole contig: its windows are those that a run would cut, and beyond its ends lies nothing
        known. So the numbers are those of `annotate` on that contig, given the same device, precision and CPU threads
        (`torch.get_num_threads`), and its calls are the local maxima. A run compares a base with those around it in one window:
        of a model whose scores depend on the whole window (the published families), the tracks may have another maximum within
        the call radius of a border between two windows.

        Args:
            sequence: Bases without line ends, of any length and either case; U reads as T, any other code of several bases as N.

        Returns:
            Tracks of the sequence's own length, in plus-strand order.

        Raises:
            InputError: A character is no base; the message names its position.
            ModelFault: The model gave NaN or infinity.
            ResourceFault: Not even one window fits the device's memory.
        """
        bases = _bases(sequence)
        logits = np.full((2, len(self.manifest.tracks), len(bases)), np.nan, np.float32)
        with device_faults(self.device, f"on a sequence of {len(bases):,} bp"):
            self._fill(logits, bases)
        logits[logits == NOT_SCORED] = np.nan
        logits[:, :, bases == UNKNOWN_BASE] = np.nan
        settings = self.manifest.clades[self.clade]
        kinds = {track: self.manifest.track_set.kind_of(track) for track in self.manifest.tracks}
        return Tracks(
            names=self.manifest.tracks,
            logits=logits,
            calibration=tuple(settings.calibration[kind] for kind in kinds.values()),
            thresholds={track: settings.thresholds[kind] for track, kind in kinds.items()},
        )

    def _fill(self, logits: NDArray[np.float32], bases: NDArray[np.uint8]) -> None:
        """Score shard after shard of one contig and put the logits where they belong."""
        lengths = np.array([len(bases)], np.int64)
        for shard in plan_shards(lengths, self._plan):
            block = Block.read(shard.spans, lengths, self._plan, lambda _, start, end: bases[start:end])
            tracks = SpanTracks(block, tracks=len(self.manifest.tracks))
            try:
                for batch in self._scorer.score(block):
                    tracks.add(batch)
            except NotFinite as fault:
                windows = block.windows
                start = max(0, int(windows.start[fault.window]))
                end = min(len(bases), int(windows.start[fault.window] + windows.length[fault.window]))
                raise ModelFault(
                    f"model {self.manifest.name}: NaN or infinity in window {start}-{end} (0-based), strand {fault.strand.symbol}"
                ) from fault
            for span, scored in zip(shard.spans, tracks.logits, strict=True):
                logits[:, :, span.start : span.end] = scored


def load_model(model: str | Path, *, clade: str = "", device: str = "auto", precision: str = "auto") -> Predictor:
    """Load a model to score sequences with, without files.

    Args:
        model: Bundled model's name or a model directory, of any family that `annotate` takes.
        clade: Clade whose calibration and thresholds to use; empty for the one the model was trained for, or else vertebrate.
        device: auto, cpu, cuda or cuda:N.
        precision: float32, bfloat16, int8, or auto for what suits the model and the device.

    Returns:
        The model on its device.

    Raises:
        UsageError: An option is wrong; the message names it.
        EnvironmentFault: There is no such model or device.
        InputError: The model directory is damaged.
    """
    check_choice("precision", precision, PRECISIONS)
    check_device(device)
    folder, manifest = read_model(str(model))
    clade = manifest.clade_for(clade)
    check_choice("clade", clade, tuple(manifest.clades))
    chosen = choose_device(device)
    settled = manifest.precision(precision, native_precision(chosen), chosen)
    return Predictor(folder, manifest, clade, torch.device(chosen), settled)


def _bases(sequence: str | bytes) -> NDArray[np.uint8]:
    """Upper-case ASCII bases of ACGTN, uint8, [L].

    Raises:
        InputError: A character is no base.
    """
    text = sequence.encode("ascii", "replace") if isinstance(sequence, str) else sequence
    codes = np.frombuffer(text.translate(BASE_TABLE), np.uint8)
    wrong = (codes == 0) | np.isin(np.frombuffer(text, np.uint8), np.frombuffer(GAP_BYTES, np.uint8))
    if wrong.any():
        at = int(wrong.argmax())
        shown = repr(sequence[at]) if isinstance(sequence, str) and not sequence[at].isascii() else describe_byte(text[at])
        raise InputError(f"sequence: {shown} at position {at} (0-based) is no base")
    return codes
