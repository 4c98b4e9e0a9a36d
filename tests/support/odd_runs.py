"""Small runs with what formats trip over: odd names, both strands, clipped promoters, contigs of 1 bp, probability 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from annotator.kinds import KINDS, STRANDS, Kind
from annotator.output.formats.base import OutputRun
from annotator.output.formats.registry import make_formats
from annotator.output.formats.write import write_formats
from annotator.output.options import FORMAT_NAMES, formats_asked
from annotator.output.schema import TABLE_SCHEMA

ODD_NAMES = ("chr1", "HLA:A*01|x", "a%3Bb=c;d,e&f", "NC_000001.11-(x)[y]", "é", "1", "_", '"quoted"', "x" * 60)
ODD_FACTORS = ("CTCF", "Arnt::Ahr (var.2)", "a;b=c,d&e%f", "ñ", 'say "so"')

Contig = tuple[str, int]
Site = tuple[int, Kind, int, int, float]
"""(contig, kind, position, strand, probability)"""


def odd_table(contigs: Sequence[Contig], sites: Sequence[Site], seed: int = 0) -> pl.DataFrame:
    """The sorted table of sites, written from the specification; those whose feature does not lie on the contig are left out."""
    rng = np.random.default_rng(seed)
    rows = []
    for contig, kind, position, strand, p in sites:
        name, length = contigs[contig % len(contigs)]
        position = position % length
        if kind is Kind.PROMOTER:
            low, high = (position - 249, position + 51) if strand > 0 else (position - 50, position + 250)
            start, end = max(low, 0), min(high, length)
        elif kind.is_splice_site:
            after = (kind is Kind.DONOR) == (strand > 0)
            start, end = (position + 1, position + 3) if after else (position - 2, position)
        else:
            start, end = position, position + 10
        if start < 0 or end > length:
            continue
        hit = kind is Kind.TFBS and rng.random() < 0.7
        factor = ODD_FACTORS[int(rng.integers(len(ODD_FACTORS)))]
        single = np.float32(round(p, 6))
        rows.append({
            "chrom": name, "start": start, "end": end, "kind": kind.value, "strand": "+" if strand > 0 else "-",
            "probability": None if hit else float(single),
            "score": int(rng.integers(0, 1001)) if hit else round(1000 * float(single)),
            "position": position, "name": factor if kind in (Kind.TFBS, Kind.FEATURE) else kind.value,
            "motif_id": f"MA{int(rng.integers(9))}.1" if hit else None, "p_value": 10 ** -rng.uniform(4, 12) if hit else None,
            "q_value": rng.random() if hit else None, "bits": float(np.float32(rng.uniform(-3, 20))) if hit else None,
            "model": "odd;model" if not hit else "JASPAR2024 CORE",
            "contig": contig % len(contigs),
        })  # fmt: skip
    table = pl.DataFrame(rows, schema={**TABLE_SCHEMA, "contig": pl.Int64})
    keys = ["contig", "start", "end", "kind", "strand", "motif_id", "position"]
    unique = table.unique(keys, keep="first", maintain_order=True)
    return unique.sort(keys, nulls_last=False, maintain_order=True).select(list(TABLE_SCHEMA))


def write_every_format(contigs: Sequence[Contig], table: pl.DataFrame, folder: Path, block_rows: int = 16) -> dict[str, int]:
    """Write every format of the table into a folder; returns rows of each file."""
    run = OutputRun(KINDS, [name for name, _ in contigs], [length for _, length in contigs])
    blocks = [table.slice(first, block_rows) for first in range(0, table.height, block_rows)]
    written = write_formats(blocks, folder, run, make_formats(formats_asked(FORMAT_NAMES)))
    return {name: info.rows for name, info in written.items()}


def many_sites(contigs: Sequence[Contig], count: int, seed: int = 1) -> list[Site]:
    """Random sites on all contigs, some with probability 1."""
    rng = np.random.default_rng(seed)
    kinds, strands = list(Kind), list(STRANDS)
    return [
        (int(rng.integers(len(contigs))), kinds[int(rng.integers(5))], int(rng.integers(1 << 30)),
         int(strands[int(rng.integers(2))]), 1.0 if rng.random() < 0.1 else float(rng.random()))
        for _ in range(count)
    ]  # fmt: skip
