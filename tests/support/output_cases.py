"""A small genome with planted calls, and the way from calls to final files; 0-based half-open."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.kinds import KINDS
from annotator.output.formats.base import OutputRun
from annotator.output.formats.registry import make_formats
from annotator.output.merge import Merge, final_names
from annotator.output.options import DEFAULT_BED, BedOptions
from annotator.output.parts import PartInfo, part_bytes, publish_part
from annotator.output.table import calls_table

CONTIGS = {"chr2": 6000, "HLA:A*01|x": 2500, "empty_of_calls": 400, "chr10": 4000}
"""Names in an order that is not alphabetical, one with the odd characters real genomes have."""

NAMES = list(CONTIGS)
MOTIFS = [("MA0001.1", "AGL3"), ("MA0009.2", "TBXT"), ("MA0001.1-b", "EWSR1-FLI1"), ("MA0004.1", "Arnt::Ahr (var.2)")]
FEATURES = [(None, "CTCF"), (None, "polyA signal"), (None, "AGL3")]
"""Tracks of the model, the last one named like a motif."""

TESTS = {matrix_id: 2 * sum(CONTIGS.values()) for matrix_id, _ in MOTIFS}
"""Windows that each motif was compared with, about: the q-values of the tests need no more."""

LABELS: list[tuple[str | None, str]] = [*MOTIFS, *FEATURES]
WIDTH_BP = {"tfbs": 10, "feature": 14}
MODEL, MOTIF_MODEL = "compact-1", "JASPAR2024"
_COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")


def load_validator() -> ModuleType:
    """The BED validator of the benchmarks; it lies outside the packages."""
    path = Path(__file__).parents[2] / "benchmarks" / "validate_bed.py"
    spec = importlib.util.spec_from_file_location("validate_bed", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["validate_bed"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def site(kind: str, position: int, strand: int) -> tuple[int, int]:
    """Span of a splice site, a binding site or a feature at `position`, written from the specification."""
    if kind in WIDTH_BP:
        return position, position + WIDTH_BP[kind]
    after = (kind == "donor") == (strand > 0)  # the intron lies behind the position on the plus strand
    return (position + 1, position + 3) if after else (position - 2, position)


def make_calls(rows: Sequence[tuple[int, str, int, int]], seed: int = 0, neural: float = 0.0) -> Calls:
    """Calls of (contig, kind, position, strand) in the order given, with random values; `neural` of tfbs are the model's."""
    rng = np.random.default_rng(seed)
    n = len(rows)
    lengths = list(CONTIGS.values())
    start, end = np.empty(n, np.int64), np.empty(n, np.int64)
    for i, (contig, kind, position, strand) in enumerate(rows):
        if kind == "promoter":
            low, high = (position - 249, position + 51) if strand > 0 else (position - 50, position + 250)
            start[i], end[i] = max(low, 0), min(high, lengths[contig])
        else:
            start[i], end[i] = site(kind, position, strand)
    kinds = np.array([KINDS.index(kind) for _, kind, _, _ in rows], np.uint8)
    hit = (kinds == KINDS.index("tfbs")) & (rng.random(n) >= neural)
    labelled = np.isin(kinds, [KINDS.index(kind) for kind in WIDTH_BP])
    label = np.where(hit, rng.integers(0, len(MOTIFS), n), rng.integers(len(MOTIFS), len(LABELS), n))
    probability = rng.random(n).astype(np.float32)
    return Calls(
        contig=np.array([row[0] for row in rows], np.int64),
        start=start,
        end=end,
        kind=kinds,
        strand=np.array([row[3] for row in rows], np.int8),
        probability=np.where(hit, np.float32(np.nan), probability).astype(np.float32),
        score=rng.integers(0, 1001, n).astype(np.uint16),
        position=np.array([row[2] for row in rows], np.int64),
        motif=np.where(labelled, label, -1).astype(np.int32),
        p_value=np.where(hit, 10 ** -rng.uniform(4, 12, n), np.nan),
        bits=np.where(hit, rng.uniform(-3, 20, n), np.nan).astype(np.float32),
    )


def planted_calls(n: int = 900, seed: int = 1) -> tuple[Calls, dict[str, bytes]]:
    """About n calls on the contigs that have any, in random order, and a genome in which every splice site is canonical."""
    rng = np.random.default_rng(seed)
    genome = {name: bytearray(rng.choice(np.frombuffer(b"ACGT", np.uint8), length)) for name, length in CONTIGS.items()}
    spots = [(c, p) for c in (0, 1, 3) for p in range(4, CONTIGS[NAMES[c]] - 14, 6)]
    rows: list[tuple[int, str, int, int]] = []
    for spot in rng.permutation(len(spots))[:n]:
        contig, position = spots[spot]
        kind, strand = str(rng.choice(KINDS)), int(rng.choice([-1, 1]))
        rows.append((contig, kind, position, strand))
        if kind in ("donor", "acceptor"):
            bases = b"GT" if kind == "donor" else b"AG"
            start, end = site(kind, position, strand)
            genome[NAMES[contig]][start:end] = bases if strand > 0 else bases.translate(_COMPLEMENT)[::-1]
    return make_calls(rows, seed, neural=0.3), {name: bytes(sequence) for name, sequence in genome.items()}


def table_of(calls: Calls, names: Sequence[str] = NAMES, labels: Sequence[tuple[str | None, str]] = LABELS) -> pl.DataFrame:
    """`calls_table` with this module's names."""
    return calls_table(calls, names, labels, MODEL, MOTIF_MODEL)


def owners(calls: Calls, cuts: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """The part that owns each call where the genome is cut before each (contig, base)."""
    owner = np.zeros(len(calls), np.int64)
    for contig, base in cuts:
        owner += (calls.contig > contig) | ((calls.contig == contig) & (calls.position >= base))
    return owner


def write_part(table: pl.DataFrame, path: Path) -> PartInfo:
    """A part as a run leaves it."""
    data, info = part_bytes(table)
    publish_part(data, path)
    return info


def write_parts(calls: Calls, cuts: Sequence[tuple[int, int]], folder: Path) -> tuple[list[Path], list[PartInfo]]:
    """One part per piece of the genome, in plan order; pieces without calls have parts without rows."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = owners(calls, cuts)
    paths, infos = [], []
    for part in range(len(cuts) + 1):
        path = folder / f"part-{part:03d}.parquet"
        infos.append(write_part(table_of(calls.take(owner == part)), path))
        paths.append(path)
    return paths, infos


def output_run(
    kinds: Sequence[str] = KINDS, names: Sequence[str] = NAMES, lengths: Sequence[int] = tuple(CONTIGS.values())
) -> OutputRun:
    """A run over this module's genome."""
    return OutputRun(kinds, names, lengths)


def all_files(run: OutputRun | None = None) -> tuple[str, ...]:
    """Names of the final files of a run with BED."""
    return final_names(run or output_run(), make_formats({"bed": DEFAULT_BED}))


def merge(
    parts: Sequence[Path],
    out_dir: Path,
    *,
    run: OutputRun | None = None,
    bed: BedOptions = DEFAULT_BED,
    expected: Sequence[PartInfo] | None = None,
    tests: Mapping[str, int] | None = None,
    texts: Mapping[str, str] | None = None,
    tick: Callable[[], None] | None = None,
    **changes: Any,
) -> dict[str, PartInfo]:
    """Merge parts into a new folder with this module's genome; row groups are small so that there are several."""
    out_dir.mkdir(parents=True, exist_ok=True)
    arguments: dict[str, Any] = {
        "run": run or output_run(),
        "formats": make_formats({"bed": bed}),
        "tool_version": "0.0.test",
        "block_rows": 128,
        "has_hits": bool(tests),
        "text_names": list(texts or {}),
    }
    with Merge(out_dir, **(arguments | changes)) as merging:
        merging.take_all(parts, expected, tick)
        return merging.finish(texts or {}, tests, tick)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
