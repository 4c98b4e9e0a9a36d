"""The calls of a results folder held against an annotation: right, extra and missed ones.

Coordinates: 0-based plus-strand positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from annotator.errors import InputError
from annotator.evaluation.metrics import Places, match_tss
from annotator.kinds import LABEL_TRACKS, TRACK_KIND, Kind
from annotator.labels.check import report_on
from annotator.labels.signals import GenomeBases
from annotator.labels.sites import Sites, read_sites
from annotator.results.results import Results

PROMOTER_WITHIN_BP: Final = 250
"""A promoter call is right where an annotated TSS lies within this on the same strand, and no better call has taken it."""
RIGHT, EXTRA, MISSED = "right", "extra", "missed"
VERDICT: Final = "verdict"

_PLACE: Final = ("chrom", "position", "kind", "strand")


@dataclass(frozen=True, eq=False)
class Judged:
    """What an annotation says of the calls.

    Attributes:
        path: The annotation.
        calls: The judged calls, columns of predictions.parquet and `verdict`: "right" or "extra".
        missed: Sites of the annotation without a call: chrom, position, kind, strand.
        truths: Sites of the annotation by kind; only these kinds are judged.
        left_out: What of the annotation was left out, one phrase a reason.
    """

    path: Path
    calls: pl.DataFrame
    missed: pl.DataFrame
    truths: dict[Kind, int]
    left_out: tuple[str, ...]


def judge(results: Results, path: Path, bases: GenomeBases | None = None) -> Judged:
    """Hold the calls of a run against an annotation of the same assembly.

    A splice site is right where the very base is annotated on the same strand. Contigs that failed count on neither side.

    Args:
        results: The run.
        path: BED of sites, GTF or GFF3.
        bases: The genome, where it is at hand: an annotation whose introns have no splice signals in it is refused.

    Raises:
        UsageError: The annotation cannot be read.
        InputError: It is damaged, or of another assembly, or has no site of a kind that the run calls.
    """
    sites = read_sites(path, results.contigs, bases, transcript_tss=True)
    if bases is not None:
        report_on(path, sites, bases).judge(accept=False)
    truth = _table(sites, results)
    kinds = [Kind(kind) for kind in results.thresholds if kind in {*truth["kind"].unique()}]
    if not kinds:
        called = ", ".join(results.thresholds) or "no kind that an annotation tells"
        raise InputError(f"{path}: has no site of a kind that the run calls ({called})")
    truth = truth.filter(pl.col("kind").is_in([str(kind) for kind in kinds]))
    calls = results.calls(kind=[str(kind) for kind in kinds]).collect()
    exact = pl.col("kind") != Kind.PROMOTER
    right = calls.filter(exact).join(truth, on=_PLACE, how="semi").with_columns(pl.lit(RIGHT).alias(VERDICT))
    extra = calls.filter(exact).join(truth, on=_PLACE, how="anti").with_columns(pl.lit(EXTRA).alias(VERDICT))
    missed = [truth.filter(exact).join(calls, on=_PLACE, how="anti")]
    promoters = calls.filter(~exact)
    if Kind.PROMOTER in kinds:
        promoters, without_call = _judge_promoters(promoters, truth.filter(~exact), results)
        missed.append(without_call)
    else:
        promoters = promoters.with_columns(pl.lit(EXTRA).alias(VERDICT))
    order = {name: index for index, name in enumerate(results.contigs)}
    in_order = pl.col("chrom").replace_strict(order, default=-1, return_dtype=pl.Int64)
    return Judged(
        path,
        pl.concat([right, extra, promoters]).sort(in_order, "start", "end", "kind", "strand"),
        pl.concat(missed).sort(in_order, "position", "kind", "strand"),
        {kind: truth.filter(pl.col("kind") == kind).height for kind in kinds},
        sites.left_out,
    )


def _table(sites: Sites, results: Results) -> pl.DataFrame:
    """The sites as a table of places, those on failed contigs left out."""
    kinds = np.array([str(TRACK_KIND[track]) for track in LABEL_TRACKS])
    table = pl.DataFrame(
        {
            "chrom": np.array(list(results.contigs), object)[sites.contig].tolist(),
            "position": sites.position,
            "kind": kinds[sites.kind].tolist(),
            "strand": np.where(sites.strand > 0, "+", "-").tolist(),
        },
        schema={"chrom": pl.String, "position": pl.Int64, "kind": pl.String, "strand": pl.String},
    )
    return table.filter(~pl.col("chrom").is_in(results.failed_contigs))


def _judge_promoters(calls: pl.DataFrame, truth: pl.DataFrame, results: Results) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Promoter calls with their verdicts, and annotated TSS that none of them claims."""
    matches = match_tss(_places(calls, results), calls["probability"].to_numpy(), _places(truth, results), PROMOTER_WITHIN_BP)
    verdict = np.where(matches.truth_row >= 0, RIGHT, EXTRA).tolist()
    free = np.ones(truth.height, bool)
    free[matches.truth_row[matches.truth_row >= 0]] = False
    return calls.with_columns(pl.Series(VERDICT, verdict, pl.String)), truth.filter(pl.Series(free))


def _places(table: pl.DataFrame, results: Results) -> Places:
    index = {name: number for number, name in enumerate(results.contigs)}
    contig = np.array([index[name] for name in table["chrom"]], np.int64)
    return Places(contig, table["position"].to_numpy(), np.where(table["strand"].to_numpy() == "+", 1, -1).astype(np.int8))
