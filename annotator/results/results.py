"""Results folders, read back: calls, contigs, profiles and the record of the run, without genome and model.

Coordinates in tables are 0-based half-open on the plus strand; a region is given as browsers show it, 1-based and closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from annotator.calls.profiles import Profile, read_profiles
from annotator.checks import check_choice, check_choices, check_number, check_path
from annotator.errors import InputError, UsageError
from annotator.kinds import KINDS, STRANDS, TASKS, Kind, Strand
from annotator.output.schema import PREDICTIONS_FILE, TABLE_SCHEMA
from annotator.results.batch import SUMMARY, samples_of
from annotator.results.workspace import (
    CALLED_FROM,
    CONTIGS_TSV,
    INSTEAD,
    PLAN_JSON,
    PROFILES_JSON,
    RUN_JSON,
    STATE,
    can_be_gone_on_with,
    read_record,
)

SAMPLE = "sample"
"""Column that says whose call it is, in the calls of several assemblies."""

Kinds = str | Sequence[str]
"""One kind of call, or several: each a `Kind` (which is text) or its name."""


@dataclass(frozen=True)
class Region:
    """A stretch of a contig.

    Attributes:
        contig: Its name.
        start: First base, 0-based.
        end: One past the last base; None for the contig's end.
    """

    contig: str
    start: int = 0
    end: int | None = None


@dataclass(frozen=True)
class Results:
    """The results of one assembly.

    Attributes:
        path: The results folder.
        run: Contents of run.json: the plan, the files with their hashes, what was counted, skipped and given up.
        samples: Results of the single assemblies where the folder holds several (`BatchResults`); else nothing.
    """

    path: Path
    run: dict[str, Any]
    samples: dict[str, Results] = field(default_factory=dict)

    def calls(
        self,
        kind: Kinds | None = None,
        region: str | None = None,
        strand: Strand | str | None = None,
        min_probability: float | None = None,
    ) -> pl.LazyFrame:
        """The calls, as the columns of predictions.parquet.

        Args:
            kind: Only these kinds of call: acceptor, donor, feature, promoter, tfbs.
            region: Only calls that overlap it: "chr1:1-5000" is 1-based and includes both ends, as in genome browsers; "chr1"
                is the whole contig.
            strand: Only calls on this strand: "+", "-", or a `Strand`.
            min_probability: Only calls with this probability or a higher one. Hits of bare motifs have none and are left out.

        Returns:
            A lazy table sorted by contig in FASTA order, then by position; `start` and `end` are 0-based half-open.

        Raises:
            UsageError: An argument is wrong, or the region's contig is not in the genome.
        """
        contigs = self.contigs if region is not None and CONTIGS_TSV in self.files else None
        return _filtered(_scan(self.path / PREDICTIONS_FILE), kind, region, strand, min_probability, contigs)

    @cached_property
    def contigs(self) -> dict[str, int]:
        """Length in bp of every contig by its name, in FASTA order, contigs without calls included."""
        text = self._text(CONTIGS_TSV)
        try:
            return {name: int(length) for name, length in (line.split("\t") for line in text.splitlines())}
        except ValueError:
            raise InputError(f"{self.path / CONTIGS_TSV}: is not a table of names and lengths") from None

    @cached_property
    def profiles(self) -> list[Profile]:
        """Bases at -50..+50 of the calls of each kind, or of each kind and name of the user's own tracks."""
        return read_profiles(self._text(PROFILES_JSON), str(self.path / PROFILES_JSON))

    @property
    def kinds(self) -> list[Kind]:
        """Kinds of call that the run reports, whether or not there are calls of them, in the order of tasks."""
        if PROFILES_JSON in self.files:
            reported = {profile.kind for profile in self.profiles}
        else:  # calls that were taken from tracks
            reported = {Kind(kind) for kind in self.thresholds}
        return sorted(reported, key=lambda kind: (TASKS.index(kind.task), -KINDS.index(kind)))

    @property
    def model(self) -> str:
        """Name of the model that made the calls."""
        return str(self._entry("plan")["model"]["name"])

    @property
    def thresholds(self) -> dict[str, float]:
        """Probability by kind at and above which a local maximum is a call."""
        return dict(self._entry("plan")["thresholds"])

    @property
    def files(self) -> dict[str, Path]:
        """The files of the run by their names; `run["files"]` has their sizes and hashes."""
        return {name: self.path / name for name in self._entry("files")}

    @property
    def failed_contigs(self) -> list[str]:
        """Names of contigs that failed and are not in the files: at most the thousand that run.json lists."""
        return list(self._entry("failed_contigs")["names"])

    def _repr_html_(self) -> str:
        """What a notebook shows: how many calls of each kind, at which threshold, by which model."""
        counts = dict(self.calls().group_by("kind").len().collect().iter_rows())
        lines = [[kind, f"{count:,}", f"{self.thresholds[kind]:g}" if kind in self.thresholds else ""]
                 for kind in map(str, KINDS) if (count := counts.get(kind))]  # fmt: skip
        bases = sum(self.contigs.values())
        caption = f"{self.path}: {len(self.contigs):,} contigs, {bases:,} bp, model {self.model}"
        return _html_table(caption, ["kind", "calls", "threshold"], lines)

    def _entry(self, entry: str) -> Any:
        """An entry of run.json."""
        return self.run[entry]

    def _text(self, name: str) -> str:
        """A text file of the run."""
        if name not in self.files and self.run.get(CALLED_FROM):
            raise UsageError(f"{self.path}: holds calls from tracks, without {name}")
        if name not in self.files:
            raise UsageError(
                f"{self.path}: was written by an earlier version, without {name}; annotate the genome again, into another folder "
                "or with overwrite"
            )
        return _read_text(self.path / name)


@dataclass(frozen=True)
class BatchResults(Results):
    """The results of several assemblies; what only one assembly has is asked of `samples`.

    Attributes:
        path: The folder above those of the samples.
        run: Contents of batch.json: one entry per sample.
        samples: Results by the name of the sample, in the order of the run; those that came to nothing are left out, also where
            the folder has the results of another run.
    """

    def _entry(self, entry: str) -> Any:
        raise UsageError(f"{self.path}: holds several assemblies; ask one of its samples: {', '.join(list(self.samples)[:5])}")

    def _repr_html_(self) -> str:
        """What a notebook shows: the samples, and what became of each."""
        lines = [[name, f"{results.calls().select(pl.len()).collect().item():,}", self.failed.get(name, "")]
                 for name, results in self.samples.items()]  # fmt: skip
        lines += [[name, "", why] for name, why in self.failed.items() if name not in self.samples]
        return _html_table(f"{self.path}: {len(self.run['samples'])} assemblies", ["sample", "calls", "failed"], lines)

    @property
    def failed(self) -> dict[str, str]:
        """Samples that failed, and why: those without results, and those of which some contigs are missing."""
        failed = {}
        for entry in self.run["samples"]:
            if int(entry["exit_status"]):
                failed[entry["sample"]] = entry.get("error") or f"{entry.get('failed_contigs') or 'some'} contigs failed"
            elif entry["sample"] not in self.samples:
                failed[entry["sample"]] = "its results are gone"
        return failed

    def calls(
        self,
        kind: Kinds | None = None,
        region: str | None = None,
        strand: Strand | str | None = None,
        min_probability: float | None = None,
    ) -> pl.LazyFrame:
        """The calls of all samples, one after the other, with the sample's name in a first column.

        Args:
            kind: Kinds, as in `Results.calls`.
            region: Region, as in `Results.calls`; a sample without such a contig has no calls there.
            strand: Strand, as in `Results.calls`.
            min_probability: Least probability, as in `Results.calls`.

        Returns:
            A lazy table: the columns of predictions.parquet after `sample`.

        Raises:
            UsageError: An argument is wrong, or no sample has the region's contig.
        """
        contigs: dict[str, int] | None = {}
        for results in self.samples.values() if region is not None else ():
            contigs = contigs | results.contigs if contigs is not None and CONTIGS_TSV in results.files else None
        tables = [
            _scan(results.path / PREDICTIONS_FILE).select(pl.lit(name).alias(SAMPLE), pl.all())
            for name, results in self.samples.items()
        ]
        empty = pl.Schema({SAMPLE: pl.String()} | dict(TABLE_SCHEMA)).to_frame().lazy()
        return _filtered(pl.concat([empty, *tables]), kind, region, strand, min_probability, contigs)


def open_results(folder: str | Path) -> Results:
    """Open what `annotate` wrote.

    Args:
        folder: A results folder, or that of several assemblies. Nothing but the run's record is read yet.

    Returns:
        The results of one assembly, or `BatchResults`, those of several. A folder that holds both is taken for the one
        assembly's; open the samples' own folders then.

    Raises:
        UsageError: There is no such folder, or no finished run in it.
        InputError: The record is damaged.
    """
    path = Path(check_path("folder", folder))
    if (path / RUN_JSON).is_file():
        return _open_run(path)
    if (path / SUMMARY).is_file():
        return _open_batch(path)
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder")
    if (path / STATE).is_dir():
        what = "the run is not finished"
        if (path / STATE / PLAN_JSON).exists() and not can_be_gone_on_with(path):
            raise UsageError(f"{path}: {what}, and cannot be gone on with by this version of the program; {INSTEAD}")
        raise UsageError(f"{path}: {what}; give the same command again")
    raise UsageError(f"{path}: neither {RUN_JSON} nor {SUMMARY}: no finished run of annotate")


def read_calls(
    path: str | Path, kind: Kinds | None = None, region: str | None = None, strand: Strand | str | None = None,
    min_probability: float | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Read calls into memory.

    Args:
        path: A results folder (also that of several assemblies), or a predictions.parquet.
        kind: Only these kinds of call.
        region: Only calls that overlap it: "chr1:1-5000" is 1-based and includes both ends.
        strand: Only calls on this strand: "+", "-", or a `Strand`.
        min_probability: Only calls with this probability or a higher one; bare motifs have none.

    Returns:
        The calls, with the columns of predictions.parquet; for several assemblies after a column `sample`.

    Raises:
        UsageError: There is nothing to read there, or an argument is wrong.
        InputError: The file is damaged, or holds something else.
    """
    path = Path(check_path("path", path))
    if path.is_file():
        table = _filtered(_scan(path), kind, region, strand, min_probability, None)
    else:
        table = open_results(path).calls(kind, region, strand, min_probability)
    try:
        return table.collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read: {_in_one_line(error)}") from None


def parse_region(region: str, contigs: Iterable[str] | None = None) -> Region:
    """A region from the text that browsers show.

    Args:
        region: "chr1:1-5000" (1-based, both ends included; "1,000" is 1000), or "chr1" for the whole contig.
        contigs: Names of all contigs, where they are known.

    Raises:
        UsageError: It is no such text, or its contig is not among them.
    """
    if not isinstance(region, str):
        raise UsageError('give text such as "chr1:1-5000"', "region", region)
    known = None if contigs is None else set(contigs)
    if known is not None and region in known:  # names such as HLA-A*01:01 hold a colon
        return Region(region)
    name, colon, ends = region.rpartition(":")
    numbers = re.fullmatch(r"(\d[\d,]*)-(\d[\d,]*)", ends, re.ASCII)
    if colon and not numbers and known is None:
        name, colon = region, ""
    if not colon:
        name = region
    if not name or (colon and not numbers):
        raise UsageError('give CONTIG or CONTIG:FIRST-LAST, such as "chr1:1-5000"', "region", region)
    if known is not None and name not in known:
        raise UsageError(f"the genome has no contig {name!r}", "region", region)
    if numbers is None:
        return Region(name)
    first, last = (int(number.replace(",", "")) for number in numbers.groups())
    if not 1 <= first <= last:
        raise UsageError("positions count from 1, and the last does not lie before the first", "region", region)
    return Region(name, first - 1, last)


def _html_table(caption: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in which names with markup are text."""
    rows = ["".join(f"<td>{escape(cell)}</td>" for cell in line) for line in lines]
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _filtered(
    table: pl.LazyFrame, kind: Kinds | None, region: str | None, strand: Strand | str | None, min_probability: float | None,
    contigs: Iterable[str] | None,
) -> pl.LazyFrame:  # fmt: skip
    if kind is not None:
        kinds = check_choices("kind", kind, tuple(known.value for known in KINDS))
        table = table.filter(pl.col("kind").is_in([str(each) for each in kinds]))
    if region is not None:
        place = parse_region(region, contigs)
        table = table.filter(pl.col("chrom") == place.contig, pl.col("end") > place.start)
        if place.end is not None:
            table = table.filter(pl.col("start") < place.end)
    if strand is not None:
        symbol = strand.symbol if isinstance(strand, Strand) else strand
        check_choice("strand", symbol, tuple(each.symbol for each in STRANDS))
        table = table.filter(pl.col("strand") == symbol)
    if min_probability is not None:
        least = check_number("min_probability", min_probability)
        table = table.filter(pl.col("probability") >= pl.lit(least, pl.Float32))  # as exact as the column itself
    return table


def _scan(path: Path) -> pl.LazyFrame:
    try:
        # A results folder may be called "sample=1" or "run[2]": neither a hive key nor a glob pattern here.
        table = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        schema = table.collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read: {_in_one_line(error)}") from None
    if dict(schema) == {name: kind for name, kind in TABLE_SCHEMA.items() if name != "q_value"}:  # of a version without
        return table.with_columns(pl.lit(None, pl.Float64).alias("q_value")).select(list(TABLE_SCHEMA))
    if schema != TABLE_SCHEMA:
        raise InputError(f"{path}: has not the columns of {PREDICTIONS_FILE}")
    return table


def _open_run(path: Path) -> Results:
    run = read_record(path / RUN_JSON)
    plan = run.get("plan")
    if not isinstance(plan, dict) or not isinstance(run.get("files"), dict) or PREDICTIONS_FILE not in run["files"]:
        raise InputError(f"{path / RUN_JSON}: is not a run.json of this program")
    return Results(path, run)


def _open_batch(path: Path) -> BatchResults:
    summary = read_record(path / SUMMARY)
    samples_of(summary, path / SUMMARY)  # refuses what is no summary
    names = [str(entry["sample"]) for entry in summary["samples"] if not entry.get("error")]
    return BatchResults(path, summary, {name: _open_run(path / name) for name in names if (path / name / RUN_JSON).is_file()})


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {_in_one_line(error)}") from None


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
