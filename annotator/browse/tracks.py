"""The tracks of a page, each an indexed file that igv.js reads: calls, probabilities, and what an annotation says of them.

Coordinates: 0-based half-open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from annotator.browse.genes import Annotation
from annotator.files import write_faults
from annotator.kinds import TRACK_KIND, Kind, Strand
from annotator.output.formats.base import OutputRun
from annotator.output.formats.bed import BED_FILES, BedFormat
from annotator.output.formats.bgzf import BgzfWriter, compress_file
from annotator.output.formats.tabix import TabixIndex
from annotator.output.formats.write import write_formats
from annotator.output.options import BedOptions
from annotator.results.judged import EXTRA, MISSED, RIGHT, VERDICT, Judged
from annotator.results.results import Results

VERDICT_RGB: Final = {RIGHT: "0,114,178", EXTRA: "213,94,0", MISSED: "0,0,0"}
"""Blue, vermilion and black: told apart by colour-blind readers."""
VISIBLE_BP: Final = 3_000_000
"""A wider view shows no calls: drawing all of them would take too long."""
_BLOCK_ROWS: Final = 1 << 18
_LINES_AT_ONCE: Final = 1 << 16


@dataclass(frozen=True)
class Track:
    """A track of a page.

    Attributes:
        name: What stands beside it.
        data: File of its data.
        index: File of its index; None where the data hold their own.
        look: Options of igv.js: format, height, colour and so on.
    """

    name: str
    data: Path
    index: Path | None
    look: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """Its files."""
        return [self.data] if self.index is None else [self.data, self.index]

    def as_json(self) -> dict[str, Any]:
        """The track as the page's script reads it; files are named, not loaded."""
        files = {"url": self.data.name} | ({} if self.index is None else {"indexURL": self.index.name})
        return {"name": self.name, "files": files, "look": self.look}


def call_tracks(results: Results, kinds: Sequence[Kind], folder: Path) -> list[Track]:
    """One track of calls for each BED file of a run that has any, whatever formats the run itself wrote.

    Args:
        results: The run.
        kinds: Kinds of call that it reports.
        folder: Folder for the files.
    """
    run = OutputRun([str(kind) for kind in kinds], list(results.contigs), list(results.contigs.values()))
    rows = write_formats(_blocks(results), folder, run, [BedFormat(BedOptions(header=False))])
    tracks = []
    for file in BED_FILES:
        if file.name in rows and rows[file.name].rows:
            title = file.name.partition(".")[0].replace("_", " ").replace("tfbs", "binding sites")
            tracks.append(_annotation_track(title, folder / file.name, height=90 if Kind.TFBS in file.kinds else 70))
    return tracks


def probability_tracks(results: Results) -> list[Track]:
    """The bigWig files of a run."""
    tracks = []
    for name, path in results.files.items():
        if path.suffix == ".bw" and path.is_file():
            stem = name.removesuffix(".bw")
            kind = next((kind for track, kind in TRACK_KIND.items() if track in stem or kind in stem), Kind.FEATURE)
            look = {"type": "wig", "format": "bigwig", "min": 0, "max": 1, "height": 40, "color": f"rgb({kind.rgb})"}
            tracks.append(Track(stem.replace("_", " ").replace(".", " "), path, None, look))
    return tracks


def annotation_track(title: str, annotation: Annotation, results: Results, path: Path) -> Track:
    """The transcripts or sites of an annotation as a track."""
    write_indexed(path, annotation.bed, results.contigs)
    return _annotation_track(title, path, height=80)


def verdict_tracks(judged: Judged, results: Results, folder: Path) -> list[Track]:
    """Calls that are right, calls that are not and sites that were missed, in three colours: a track for each task."""
    score = pl.col("score").cast(pl.String)
    thick = (
        pl.when(pl.col("kind") == Kind.PROMOTER).then(pl.col("position")).otherwise(pl.col("start")),
        pl.when(pl.col("kind") == Kind.PROMOTER).then(pl.col("position") + 1).otherwise(pl.col("end")),
    )
    tracks = []
    for task in dict.fromkeys(kind.task for kind in judged.truths):
        kinds = [str(kind) for kind in judged.truths if kind.task == task]
        missed = _with_spans(judged.missed.filter(pl.col("kind").is_in(kinds)), results)
        calls = judged.calls.filter(pl.col("kind").is_in(kinds))
        columns = ("chrom", "start", "end", "kind", "strand", "position", "score", VERDICT)
        rows = pl.concat([calls.select(columns), missed.select(columns)])
        text = pl.concat_str(
            "chrom", "start", "end", pl.col("kind") + "_" + pl.col(VERDICT), score, "strand", *thick,
            pl.col(VERDICT).replace_strict(VERDICT_RGB, return_dtype=pl.String), separator="\t",
        )  # fmt: skip
        path = folder / f"verdict_{task}.bed.gz"
        write_indexed(path, rows.select("chrom", "start", "end", text.alias("text")), results.contigs)
        word = "splice sites" if task == "splice" else f"{task}s"
        tracks.append(_annotation_track(f"{word} against {judged.path.name}", path, height=70))
    return tracks


def write_indexed(path: Path, lines: pl.DataFrame, contigs: Iterable[str]) -> None:
    """Write BED lines, sorted, as BGZF with a CSI index beside it.

    Args:
        path: The file; its index gets `.csi` after its name.
        lines: Columns chrom, start, end, text; a contig that is not among `contigs` is an error.
        contigs: Names of all contigs, in order.

    Raises:
        ResourceFault: A file cannot be written.
    """
    order = {name: index for index, name in enumerate(contigs)}
    in_order = pl.col("chrom").replace_strict(order, return_dtype=pl.Int64)
    table = lines.sort(in_order, "start", "end", "text")
    index, written = TabixIndex(0), 0
    with write_faults(path), ThreadPoolExecutor(1) as pool:
        writer = BgzfWriter(path, pool)
        try:
            for block in table.iter_slices(_LINES_AT_ONCE):
                text = "".join(f"{line}\n" for line in block["text"]).encode()
                writer.write(text)
                ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1 + written
                index.add(block["chrom"], block["start"].to_numpy(), block["end"].to_numpy(), ends)
                written += len(text)
            writer.finish()
        finally:
            writer.close()
        Path(f"{path}.csi").write_bytes(compress_file(index.csi(writer.addresses)))


def _annotation_track(title: str, path: Path, height: int) -> Track:
    look = {
        "type": "annotation", "format": "bed", "indexed": True, "displayMode": "EXPANDED", "height": height,
        "visibilityWindow": VISIBLE_BP,
    }  # fmt: skip
    return Track(title, path, Path(f"{path}.csi"), look)


def _blocks(results: Results) -> Iterator[pl.DataFrame]:
    table = results.calls()
    count = table.select(pl.len()).collect().item()
    for start in range(0, count, _BLOCK_ROWS):
        yield table.slice(start, _BLOCK_ROWS).collect()


def _with_spans(sites: pl.DataFrame, results: Results) -> pl.DataFrame:
    """Missed sites with the features that calls of them would have had, cut at the ends of contigs."""
    start, end = sites["position"].to_numpy().copy(), sites["position"].to_numpy() + 1
    for kind in map(Kind, sites["kind"].unique().to_list()):
        for strand in Strand:
            rows = ((sites["kind"] == kind) & (sites["strand"] == strand.symbol)).to_numpy()
            start[rows], end[rows] = kind.span(sites["position"].to_numpy()[rows], strand)
    length = sites["chrom"].replace_strict(results.contigs, return_dtype=pl.Int64).to_numpy() if sites.height else end
    low, high = np.clip(start, 0, length - 1), np.clip(end, 1, length)
    return sites.with_columns(
        pl.Series("start", low, pl.Int64), pl.Series("end", np.maximum(high, low + 1), pl.Int64),
        pl.lit(0, pl.UInt16).alias("score"), pl.lit(MISSED).alias(VERDICT),
    )  # fmt: skip
