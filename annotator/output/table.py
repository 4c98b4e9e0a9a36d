"""Calls as a table; coordinates stay 0-based half-open on the plus strand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.kinds import KINDS, STRANDS, Strand
from annotator.output.schema import TABLE_SCHEMA


def calls_table(
    calls: Calls, contig_names: Sequence[str], labels: Sequence[tuple[str | None, str]], model: str, motif_model: str
) -> pl.DataFrame:
    """The table of a batch of calls.

    Args:
        calls: n calls in any order.
        contig_names: Names of the genome's contigs; `calls.contig` indexes them.
        labels: (matrix id, TF name) of the run's motifs, then (None, name) of its model's features; `calls.motif` indexes them.
        model: Name of the model behind the calls that have no matrix.
        motif_model: Name of the motif collection behind the others, e.g. "JASPAR2024".

    Returns:
        n rows, `TABLE_SCHEMA`, sorted by contig order and `SORT_KEY_IN_CONTIG`; NaN has become null. Rows with equal
        keys keep the order of `calls`.

    Raises:
        ValueError: A call that no model may produce: an empty or negative span, no strand, a probability that is NaN
            although the call has no matrix, or an index outside its list.
    """
    motif_ids = [motif_id for motif_id, _ in labels]
    _refuse_impossible(calls, len(contig_names), motif_ids)
    if not len(calls):
        return TABLE_SCHEMA.to_frame()
    first = int(calls.contig.min())
    # Only the span of contigs in use is read: a shard of a genome with a million contigs touches a few of them.
    contigs = pl.Series([contig_names[index] for index in range(first, int(calls.contig.max()) + 1)], dtype=pl.String)
    matrices = sorted({motif_id for motif_id in motif_ids if motif_id is not None})
    rank_of: dict[str | None, int] = {None: -1} | {motif_id: rank for rank, motif_id in enumerate(matrices)}
    ranks = np.array([rank_of[motif_id] for motif_id in (*motif_ids, None)], np.int64)  # the last is that of label -1

    ordered = pl.DataFrame(
        {
            "contig": calls.contig - first,
            "start": calls.start,
            "end": calls.end,
            "kind": calls.kind,
            "minus": calls.strand == Strand.MINUS,
            "motif_rank": ranks[calls.motif],
            "position": calls.position,
            "probability": calls.probability,
            "score": calls.score,
            "motif": calls.motif,
            "p_value": calls.p_value,
            "bits": calls.bits,
        }
    ).sort("contig", "start", "end", "kind", "minus", "motif_rank", "position", maintain_order=True)

    kind = _pick(KINDS, ordered["kind"].to_numpy())
    motif = ordered["motif"].to_numpy()
    labelled = pl.Series(motif >= 0)
    names = _pick([*(name for _, name in labels), None], motif)
    ids = _pick([*motif_ids, None], motif)
    return pl.DataFrame(
        {
            "chrom": contigs.gather(ordered["contig"]),
            "start": ordered["start"],
            "end": ordered["end"],
            "kind": kind,
            "strand": _pick(tuple(strand.symbol for strand in STRANDS), ordered["minus"].to_numpy().astype(np.int64)),
            "probability": ordered["probability"].fill_nan(None),
            "score": ordered["score"],
            "position": ordered["position"],
            "name": names.zip_with(labelled, kind),
            "motif_id": ids,
            "p_value": ordered["p_value"].fill_nan(None),
            "q_value": pl.Series([None], dtype=pl.Float64).new_from_index(0, ordered.height),
            "bits": ordered["bits"].fill_nan(None),
            "model": _pick((model, motif_model), ids.is_not_null().to_numpy().astype(np.int64)),
        },
        schema=TABLE_SCHEMA,
    )


def _pick(values: Sequence[str | None], index: NDArray[Any]) -> pl.Series:
    """values[index] as strings; -1 picks the last value, as in numpy."""
    rows = index.astype(np.int64)
    return pl.Series(values, dtype=pl.String).gather(np.where(rows < 0, rows + len(values), rows))


def _refuse_impossible(calls: Calls, n_contigs: int, motif_ids: Sequence[str | None]) -> None:
    """Raise ValueError, naming the first offending call."""
    has_matrix = np.array([motif_id is not None for motif_id in (*motif_ids, None)])
    no_hit = ~has_matrix[np.clip(calls.motif, -1, len(motif_ids) - 1)]  # an unknown motif is refused before its row matters
    complaints: tuple[tuple[str, NDArray[np.bool_]], ...] = (
        ("an empty or negative span", (calls.start < 0) | (calls.end <= calls.start)),
        ("no strand", np.abs(calls.strand) != 1),
        ("an unknown contig", (calls.contig < 0) | (calls.contig >= n_contigs)),
        ("an unknown kind", calls.kind >= len(KINDS)),
        ("an unknown motif", (calls.motif < -1) | (calls.motif >= len(motif_ids))),
        ("a score above 1000", calls.score > 1000),
        ("a probability that is not a number", np.isnan(calls.probability) & no_hit),
        (
            "an infinite probability, p-value or bits",
            np.isinf(calls.probability) | np.isinf(calls.p_value) | np.isinf(calls.bits),
        ),
    )
    for what, offends in complaints:
        if offends.any():
            row = int(np.argmax(offends))
            raise ValueError(
                f"call {row} (contig {calls.contig[row]}, start {calls.start[row]}, kind {calls.kind[row]}) has {what}"
            )
