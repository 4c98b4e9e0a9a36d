"""What a worker is told once, and what it tells of every shard; plain values, so that they travel."""

from __future__ import annotations

from dataclasses import dataclass, field

from annotator.errors import InputError, UsageError
from annotator.genome.plan import PlanOptions
from annotator.kinds import Kind
from annotator.motifs.motif import Motif
from annotator.motifs.scan import MotifScanner
from annotator.motifs.scores import expected_hits
from annotator.output.track_files import TrackFile

CARD = "gpu"
"""What an order's `libraries` call the GPU."""
MOST_HITS_A_SHARD = 10_000_000
"""Hits of a shard are held in memory: this many take about 2 GB."""

SHARDS_AT_ONCE = 4
"""Shards in work on a GPU: one for the network, one whose results are awaited, two that are finished on CPUs."""


@dataclass(frozen=True)
class WorkOrder:
    """All a worker must know but for the genome; the same for every shard of a run.

    Attributes:
        model: Bundled model's name or model directory.
        clade: Clade of the run.
        thresholds: Probability per wanted kind of the model's; empty for no model.
        motifs: Motifs to scan for; empty for none.
        tfbs_pvalue: Threshold of a motif hit.
        windows: Shape of windows and shards.
        batch_bp: Bases of a batch.
        device: torch device.
        precision: "float32", "bfloat16" or "int8".
        threads: CPU threads.
        model_name: What the table calls the model.
        motif_source: What the table calls the motif collection.
        labels: (matrix id, name) of the motifs, then (None, name) of the model's features; `Calls.motif` indexes them.
        weights_sha256: Hash of the model's weights; a worker that finds others refuses.
        integers_sha256: Hash of their integer copy, like `weights_sha256`; empty where there is none.
        bound: Folder of the model of bound sites, "bundled" for the bundled one; empty for none.
        bound_sha256: Hash of its weights, like `weights_sha256`.
        tracks: Tracks to write beside the calls; empty for none.
        libraries: Versions that decide the result, and the GPU's name and capability as CARD where one is used; a worker that
            has others refuses.
    """

    model: str
    clade: str
    thresholds: dict[Kind, float]
    motifs: tuple[Motif, ...]
    tfbs_pvalue: float
    windows: PlanOptions
    batch_bp: int
    device: str
    precision: str
    threads: int
    model_name: str = ""
    motif_source: str = ""
    labels: tuple[tuple[str | None, str], ...] = ()
    weights_sha256: str = ""
    integers_sha256: str = ""
    bound: str = ""
    bound_sha256: str = ""
    tracks: tuple[TrackFile, ...] = ()
    libraries: dict[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of model calls that are wanted."""
        return tuple(self.thresholds)

    @property
    def reported_kinds(self) -> tuple[Kind, ...]:
        """Kinds of call that the run's files hold."""
        return tuple(dict.fromkeys((*self.kinds, Kind.TFBS) if self.motifs else self.kinds))


@dataclass(frozen=True)
class ShardResult:
    """A finished shard.

    Attributes:
        part: Its calls and the profiles counted around them, the bytes of a Parquet file.
        rows: How many calls.
        sha256: Hash of `part`.
        counts: What was counted on the way.
        tracks: Its second channel, where the order asks for tracks.
        tracks_sha256: Hash of `tracks`; empty without.
    """

    part: bytes
    rows: int
    sha256: str
    counts: dict[str, int]
    tracks: bytes = b""
    tracks_sha256: str = ""


@dataclass(frozen=True)
class WorkerReport:
    """What a worker tells of itself, for run.json.

    Attributes:
        stage_s: Seconds by stage, for what was done since the last report.
        backends: How each kernel ran, by its name.
        batch_bp: Bases of a batch as they are now; less than ordered where memory ran out.
        peak_memory_bytes: By device, the host among them.
    """

    stage_s: dict[str, float] = field(default_factory=dict)
    backends: dict[str, str] = field(default_factory=dict)
    batch_bp: int = 0
    peak_memory_bytes: dict[str, int] = field(default_factory=dict)


def motif_scanner(order: WorkOrder) -> MotifScanner | None:
    """The scanner of an order's motifs; None without motifs.

    Raises:
        InputError: A motif is longer than the windows' halos.
        UsageError: The threshold lets more hits through than memory holds.
    """
    if not order.motifs:
        return None
    scanner = MotifScanner(list(order.motifs), p_value=order.tfbs_pvalue)
    if scanner.halo_bp > order.windows.halo_bp:
        raise InputError(
            f"motifs of {scanner.halo_bp + 1} bp need a halo_bp of {scanner.halo_bp}; "
            f"that of model {order.model} is {order.windows.halo_bp}"
        )
    hits = expected_hits(scanner.matrices, order.windows.shard_bp)
    if hits > MOST_HITS_A_SHARD:
        raise UsageError(
            f"about {hits:,.0f} hits in every {order.windows.shard_bp:,} bp; "
            f"more than {MOST_HITS_A_SHARD:,} do not fit in memory, choose a smaller one",
            "tfbs_pvalue",
            scanner.p_value,
        )
    return scanner
