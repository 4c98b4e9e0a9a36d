"""Parts become final files: order, determinism, empty runs, failures."""

import errno
import gzip
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pysam
import pytest

from annotator.calls.batch import Calls
from annotator.errors import InputError, ResourceFault, UsageError
from annotator.files import file_sha256
from annotator.kinds import KINDS, REACH_BP
from annotator.output.formats import lines as line_format
from annotator.output.formats.base import OutputRun, Target
from annotator.output.formats.bgzf import BgzfWriter
from annotator.output.formats.registry import FORMATS, make_formats
from annotator.output.formats.write import write_formats
from annotator.output.merge import BLOCK_ROWS, Merge
from annotator.output.options import BedOptions
from annotator.output.schema import SCHEMA_VERSION, SORT_KEY_IN_CONTIG, TABLE_SCHEMA

_SPEC = importlib.util.spec_from_file_location("output_cases", Path(__file__).parents[1] / "support" / "output_cases.py")
assert _SPEC is not None
assert _SPEC.loader is not None
cases = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(cases)

# The genome cut before these (contig, base): through promoters, into slivers shorter than a promoter, into nothing.
CUTS = {
    "one part": [],
    "two parts": [(0, 2999)],
    "seven parts": [(0, 100), (0, 101), (0, 3000), (1, 1250), (3, 0), (3, 3999)],
    "slivers": [(0, base) for base in range(1000, 1400, 20)] + [(1, 0), (1, 1), (2, 0), (2, 200), (3, 2000), (3, 2001)],
}
ALL_FILES = cases.all_files()


@pytest.fixture(scope="module")
def calls() -> Calls:
    planted: Calls = cases.planted_calls()[0]
    return planted


def test_predictions_are_all_rows_in_order(calls: Calls, tmp_path: Path) -> None:
    parts, infos = cases.write_parts(calls, CUTS["seven parts"], tmp_path / "parts")
    written = cases.merge(parts, tmp_path / "out", expected=infos)
    table = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert table.schema == TABLE_SCHEMA
    assert table.equals(cases.table_of(calls))
    rank = pl.col("chrom").replace_strict(cases.NAMES, range(4), return_dtype=pl.Int64)
    assert table.equals(table.sort(rank, *SORT_KEY_IN_CONTIG, nulls_last=False))
    assert tuple(written) == ALL_FILES
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(ALL_FILES)
    for name, info in written.items():
        assert info.sha256 == file_sha256(tmp_path / "out" / name)
    metadata = pl.read_parquet_metadata(tmp_path / "out" / "predictions.parquet")
    del metadata["ARROW:schema"]
    assert metadata == {
        "coordinate_system": "0-based-half-open",
        "schema_version": SCHEMA_VERSION,
        "tool": "genome-annotator 0.0.test",
    }


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_C09_files_do_not_depend_on_how_the_genome_was_cut(tmp_path: Path, seed: int) -> None:
    calls, _ = cases.planted_calls(n=1400, seed=seed)
    results = []
    for name, cuts in CUTS.items():
        parts, _ = cases.write_parts(calls, cuts, tmp_path / name / "parts")
        cases.merge(parts, tmp_path / name / "out", tests=cases.TESTS)
        results.append(cases.contents(tmp_path / name / "out"))
    assert len(results[0]) == len(ALL_FILES)
    assert all(result == results[0] for result in results[1:])


@pytest.mark.parametrize("name", CUTS)
def test_C09_borders_by_the_plan_give_the_same_files(calls: Calls, tmp_path: Path, name: str) -> None:
    """A merge beside the scan knows where the next shard begins, not what it will hold."""
    parts, infos = cases.write_parts(calls, CUTS[name], tmp_path / "parts")
    cases.merge(parts, tmp_path / "all")
    borders = [(cases.NAMES[contig], max(0, base - REACH_BP)) for contig, base in CUTS[name]]
    (tmp_path / "ahead").mkdir()
    (tmp_path / "scratch").mkdir()
    with Merge(
        tmp_path / "ahead", run=cases.output_run(), formats=make_formats({"bed": BedOptions()}), tool_version="0.0.test",
        block_rows=128, scratch=tmp_path / "scratch",
    ) as merge:  # fmt: skip
        for part, info, border in zip(parts, infos, [*borders, None], strict=True):
            merge.take(part, info, border)
        assert list((tmp_path / "ahead").iterdir()) == [] and list((tmp_path / "scratch").iterdir())
        merge.finish({})
    assert cases.contents(tmp_path / "ahead") == cases.contents(tmp_path / "all")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_row_before_what_was_given_out_is_refused(calls: Calls, tmp_path: Path) -> None:
    parts, _ = cases.write_parts(calls, [(0, 2999)], tmp_path / "parts")
    first = pl.read_parquet(parts[1])["start"][0]
    (tmp_path / "out").mkdir()
    with Merge(tmp_path / "out", run=cases.output_run(), formats=[], tool_version="0") as merge:
        merge.take(parts[0], None, ("chr2", first + 1))
        with pytest.raises(ValueError, match="contig 'chr2': the parts are not in plan order"):
            merge.take(parts[1])
    assert list((tmp_path / "out").iterdir()) == []


def test_the_cuts_do_need_reordering(calls: Calls, tmp_path: Path) -> None:
    """The cases above would pass a plain concatenation only if no row had to wait at a border."""
    parts, _ = cases.write_parts(calls, CUTS["slivers"], tmp_path)
    plain = pl.concat([pl.read_parquet(part) for part in parts])
    moved = (plain["start"].diff() < 0) & (plain["chrom"] == plain["chrom"].shift())
    assert moved.sum() > 5


def test_C09_bytes_do_not_depend_on_threads(calls: Calls, tmp_path: Path) -> None:
    parts, _ = cases.write_parts(calls, CUTS["two parts"], tmp_path / "parts")
    cases.merge(parts, tmp_path / "here", threads=3)
    script = (
        "import sys; from pathlib import Path; import polars\n"
        "from annotator.kinds import KINDS; from annotator.output.formats.base import OutputRun\n"
        "from annotator.output.formats.bed import BedFormat; from annotator.output.merge import Merge\n"
        "parts, out, names = sys.argv[1:]\n"
        "with Merge(Path(out), run=OutputRun(KINDS, names.split(','), [6000, 2500, 400, 4000]), formats=[BedFormat()],\n"
        "           tool_version='0.0.test', block_rows=128) as merge:\n"
        "    merge.take_all(sorted(Path(parts).iterdir()))\n"
        "    merge.finish({})\n"
        "print(polars.thread_pool_size())"
    )
    for threads in ("1", "4"):
        out = tmp_path / threads
        out.mkdir()
        command = [sys.executable, "-c", script, str(tmp_path / "parts"), str(out), ",".join(cases.NAMES)]
        environment = {**os.environ, "POLARS_MAX_THREADS": threads, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == threads
        assert cases.contents(out) == cases.contents(tmp_path / "here")


def test_the_block_size_shows_in_parquet_alone(calls: Calls, tmp_path: Path) -> None:
    parts, _ = cases.write_parts(calls, CUTS["seven parts"], tmp_path / "parts")
    small = cases.merge(parts, tmp_path / "a", block_rows=64)
    large = cases.merge(parts, tmp_path / "b", block_rows=1 << 17)
    assert small["predictions.parquet"] != large["predictions.parquet"]
    assert {name: small[name] for name in ALL_FILES[1:]} == {name: large[name] for name in ALL_FILES[1:]}


def test_C03_no_calls_at_all(tmp_path: Path) -> None:
    parts, _ = cases.write_parts(Calls.empty(), [(0, 100)], tmp_path / "parts")
    for number, some in enumerate((parts, [])):
        out = tmp_path / str(number)
        written = cases.merge(some, out)
        assert {info.rows for info in written.values()} == {0}
        table = pl.read_parquet(out / "predictions.parquet")
        assert (table.height, table.schema) == (0, TABLE_SCHEMA)
        assert pl.read_parquet_metadata(out / "predictions.parquet")["coordinate_system"] == "0-based-half-open"
        for name in ("promoters.bed.gz", "splice_sites.bed.gz", "tfbs.bed.gz", "features.bed.gz"):
            assert cases.load_validator().validate_bed(out / name, cases.CONTIGS).errors == []
            assert gzip.decompress((out / name).read_bytes()).count(b"\n") == 1
            for suffix in (".csi", ".tbi"):
                with pysam.TabixFile(str(out / name), index=str(out / name) + suffix) as rows:
                    assert rows.contigs == []
                    assert list(rows.fetch()) == []
                    assert rows.header == ["#chrom\tstart\tend\tname\tscore\tstrand\tthickStart\tthickEnd\titemRgb"]


def test_indices_find_the_rows(calls: Calls, tmp_path: Path) -> None:
    parts, _ = cases.write_parts(calls, [], tmp_path / "parts")
    cases.merge(parts, tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out" / "predictions.parquet").filter(kind="promoter")
    for suffix in (".csi", ".tbi"):
        path = str(tmp_path / "out" / "promoters.bed.gz")
        with pysam.TabixFile(path, index=path + suffix) as rows:
            for chrom in ("chr2", "HLA:A*01|x"):
                found = [int(line.split("\t")[1]) for line in rows.fetch(chrom, 700, 1200)]
                near = table.filter(pl.col("chrom") == chrom, pl.col("start") < 1200, pl.col("end") > 700)
                assert found == near["start"].to_list() != []


def test_A22_no_tbi_for_a_contig_of_two_to_the_29(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("annotator"), "propagate", True)  # a command of another test may have set it
    far = cases.make_calls([(0, "donor", 2**31 + 5, 1), (0, "donor", 2**33, 1)])
    parts, _ = cases.write_parts(far, [], tmp_path / "parts")
    run = cases.output_run(["donor", "acceptor"], ["chr1", "chr2"], [5, 2**34])
    with caplog.at_level("INFO", logger="annotator"):
        written = cases.merge(parts, tmp_path / "out", run=run)
    assert "splice_sites.bed.gz gets a .csi index only: a contig has 17,179,869,184 bp" in caplog.text
    assert tuple(written) == ("predictions.parquet", "splice_sites.bed.gz", "splice_sites.bed.gz.csi")
    path = str(tmp_path / "out" / "splice_sites.bed.gz")
    with pysam.TabixFile(path, index=path + ".csi") as rows:
        assert [line.split("\t")[1] for line in rows.fetch("chr2", 2**33, 2**33 + 9)] == [str(2**33 + 1)]


def test_files_of_kinds_that_were_not_asked_for_are_not_written(calls: Calls, tmp_path: Path) -> None:
    some = calls.take(~np.isin(calls.kind, [KINDS.index("tfbs"), KINDS.index("feature")]))
    parts, _ = cases.write_parts(some, CUTS["two parts"], tmp_path / "parts")
    written = cases.merge(parts, tmp_path / "out", run=cases.output_run(("promoter", "donor", "acceptor")))
    assert not [name for name in written if "tfbs" in name or "feature" in name]
    assert set(cases.contents(tmp_path / "out")) == set(written)
    with pytest.raises(ValueError, match=r"hold \['promoter'\]"):
        cases.merge(parts, tmp_path / "other", run=cases.output_run(("donor", "acceptor")))
    assert list((tmp_path / "other").iterdir()) == []


def test_a_run_without_features_is_that_of_a_model_without_them(calls: Calls, tmp_path: Path) -> None:
    rest = calls.take(calls.kind != KINDS.index("feature"))
    parts, _ = cases.write_parts(rest, CUTS["two parts"], tmp_path / "parts")
    for name, kinds in (("with", KINDS), ("without", [kind for kind in KINDS if kind != "feature"])):
        cases.merge(parts, tmp_path / name, run=cases.output_run(kinds))
    several, fewer = cases.contents(tmp_path / "with"), cases.contents(tmp_path / "without")
    assert set(several) - set(fewer) == {"features.bed.gz", "features.bed.gz.csi", "features.bed.gz.tbi"}
    assert {name: several[name] for name in fewer} == fewer


def test_features_have_a_file_of_their_own(calls: Calls, tmp_path: Path) -> None:
    parts, _ = cases.write_parts(calls, CUTS["seven parts"], tmp_path / "parts")
    written = cases.merge(parts, tmp_path / "out")
    features = cases.table_of(calls).filter(kind="feature")
    assert written["features.bed.gz"].rows == features.height > 100
    rows = gzip.decompress((tmp_path / "out" / "features.bed.gz").read_bytes()).decode().splitlines()[1:]
    fields = [row.split("\t") for row in rows]
    columns = features["chrom", "start", "end", "name"].rows()
    assert [(f[0], int(f[1]), int(f[2]), f[3]) for f in fields] == [(*c[:3], c[3].replace(" ", "_")) for c in columns]
    path = str(tmp_path / "out" / "features.bed.gz")
    with pysam.TabixFile(path, index=path + ".csi") as indexed:
        near = features.filter(pl.col("chrom") == "chr10", pl.col("start") < 1200, pl.col("end") > 700)
        assert [int(line.split("\t")[1]) for line in indexed.fetch("chr10", 700, 1200)] == near["start"].to_list() != []


def test_bed_options_reach_the_files(calls: Calls, tmp_path: Path) -> None:
    parts, _ = cases.write_parts(calls, [], tmp_path / "parts")
    cases.merge(parts, tmp_path / "out", bed=BedOptions(header=False, bed6=True))
    path = tmp_path / "out" / "tfbs.bed.gz"
    assert gzip.decompress(path.read_bytes()).startswith(b"chr2\t")
    validate = cases.load_validator().validate_bed
    report = validate(path, cases.CONTIGS, None, 6)
    assert (report.errors, report.columns) == ([], 6)
    cases.merge(parts, tmp_path / "extra", bed=BedOptions(bed_extra=True))
    for name, columns in (("tfbs.bed.gz", 16), ("features.bed.gz", 13)):
        report = validate(tmp_path / "extra" / name, cases.CONTIGS, None, extra=True)
        assert (report.errors, report.columns) == ([], columns)
        assert validate(tmp_path / "extra" / name, cases.CONTIGS).errors[0] == f"line 2: {columns} columns, not 9"
    assert (tmp_path / "extra" / "predictions.parquet").read_bytes() == (tmp_path / "out" / "predictions.parquet").read_bytes()


def test_bed6_and_extra_columns_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="^bed_extra: BED6 has no room for extra columns"):
        BedOptions(bed6=True, bed_extra=True)


class _Counted:
    """A format that writes one line per block, and one index that names the rows: another one than BED."""

    shows_q_values = False

    def __init__(self, target: Target | None = None) -> None:
        self.target, self.rows = target, 0

    def names(self, run: OutputRun) -> dict[str, tuple[str, ...]]:
        return {"blocks.txt": ("blocks.txt.idx",)} if run.longest_contig_bp else {}

    def open(self, name: str, target: Target, run: OutputRun, pool: Executor) -> "_Counted":
        assert (name, target.final.name, list(run.contig_names)) == ("blocks.txt", "blocks.txt", cases.NAMES)
        target.path.write_text("begun\n")
        return _Counted(target)

    def write(self, table: pl.DataFrame) -> None:
        self.rows += table.height
        with self.target.path.open("a") as file:
            file.write(f"{table['start'].min()}\n")

    def index(self, target: Target) -> None:
        target.path.write_text(f"{target.final.name} of {self.target.path.read_text().splitlines()[-1]}, {self.rows} rows")

    def __enter__(self) -> "_Counted":
        return self

    def __exit__(self, *_: object) -> None:
        with self.target.path.open("a") as file:
            file.write("complete\n")


def test_the_merge_drives_any_list_of_formats(calls: Calls, tmp_path: Path) -> None:
    parts, _ = cases.write_parts(calls, CUTS["seven parts"], tmp_path / "parts")
    alone = cases.merge(parts, tmp_path / "alone", formats=[])
    assert list(alone) == ["predictions.parquet"] == [path.name for path in (tmp_path / "alone").iterdir()]
    both = cases.merge(parts, tmp_path / "both", formats=[_Counted(), *make_formats({"bed": BedOptions()})])
    assert list(both) == ["predictions.parquet", "blocks.txt", "blocks.txt.idx", *ALL_FILES[1:]]
    assert both["predictions.parquet"] == alone["predictions.parquet"]
    assert both["blocks.txt"].rows == len(calls) and both["blocks.txt.idx"].rows == 0
    begun, *starts, complete = (tmp_path / "both" / "blocks.txt").read_text().splitlines()
    assert (begun, complete, len(starts)) == ("begun", "complete", -(-len(calls) // 128))
    assert (tmp_path / "both" / "blocks.txt.idx").read_text() == f"blocks.txt.idx of complete, {len(calls)} rows"


def test_an_unknown_format_is_refused() -> None:
    assert len(make_formats(dict.fromkeys(FORMATS, BedOptions()))) == len(FORMATS)
    with pytest.raises(ValueError, match="unknown formats .'sam'.; known are .'bed'"):
        make_formats({"sam": None})


@pytest.mark.parametrize("bed", [BedOptions(), BedOptions(bed6=True, header=False), BedOptions(bed_extra=True)])
@pytest.mark.parametrize("rows", [1, 100, 10**6])
def test_formats_written_from_the_final_table_have_the_bytes_of_the_run(
    calls: Calls, tmp_path: Path, bed: BedOptions, rows: int
) -> None:
    parts, _ = cases.write_parts(calls, CUTS["two parts"], tmp_path / "parts")
    wanted = cases.merge(parts, tmp_path / "run", bed=bed)
    table = pl.read_parquet(tmp_path / "run" / "predictions.parquet")
    out = tmp_path / "again"
    out.mkdir()
    (out / "tfbs.bed.gz").write_text("of another format")
    ticks: list[None] = []
    blocks = (table.slice(start, rows) for start in range(0, table.height, rows))
    written = write_formats(
        blocks, out, cases.output_run(), make_formats({"bed": bed}), threads=2, tick=lambda: ticks.append(None)
    )
    assert len(ticks) == -(-table.height // rows)
    assert list(written) == list(ALL_FILES[1:]) and written == {name: wanted[name] for name in written}
    run = cases.contents(tmp_path / "run")
    del run["predictions.parquet"]
    assert cases.contents(out) == run


def test_formats_that_are_not_finished_replace_nothing(calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "tfbs.bed.gz").write_text("as it was")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_formats([cases.table_of(calls)], tmp_path, cases.output_run(), make_formats({"bed": BedOptions()}), tick=stop)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"tfbs.bed.gz": "as it was"}


@pytest.mark.parametrize("folder", ["sample=1", "run[2]", "a*b", "<script>", "..x", "ü ü"])
def test_A24_names_of_the_results_folder(calls: Calls, tmp_path: Path, folder: str) -> None:
    parts, infos = cases.write_parts(calls, CUTS["two parts"], tmp_path / folder / "parts=x")
    cases.merge(parts, tmp_path / folder / "out", expected=infos)
    with (tmp_path / folder / "out" / "predictions.parquet").open("rb") as handle:
        assert pl.read_parquet(handle).equals(cases.table_of(calls))


@pytest.mark.parametrize("names", [["../../x", "a/b", "CON", "<script>"], ["=cmd()", "c" * 300, "chr1:1-2", "chr1"]])
def test_A24_contig_names_stay_in_their_column(calls: Calls, tmp_path: Path, names: list[str]) -> None:
    part = tmp_path / "part"
    cases.write_part(cases.table_of(calls, names), part)
    cases.merge([part], tmp_path / "out", run=cases.output_run(names=names))
    lengths = dict(zip(names, cases.CONTIGS.values(), strict=True))
    for path in (tmp_path / "out").glob("*.bed.gz"):
        assert cases.load_validator().validate_bed(path, lengths).errors == []
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([*ALL_FILES, "out", "part"])
    with pytest.raises(InputError, match="cannot stand in a BED file"):
        cases.merge([part], tmp_path / "out2", run=cases.output_run(names=[*names, "#x"]))


def test_parts_out_of_order_are_refused(calls: Calls, tmp_path: Path) -> None:
    parts, infos = cases.write_parts(calls, [(0, 3000), (1, 0)], tmp_path / "parts")
    wrong: list[tuple[list[Path], dict[str, Any], str]] = [
        ([parts[0], parts[2], parts[1]], {}, "not in FASTA order"),
        (
            parts,
            {"run": cases.output_run(names=cases.NAMES[1:])},
            "unknown, or its rows are not in FASTA order",
        ),
        (parts, {"run": cases.output_run(names=cases.NAMES[::-1])}, "not in FASTA order"),
        (parts, {"expected": infos[:-1]}, "3 parts, but 2 in the journal"),
    ]
    for number, (some, changes, message) in enumerate(wrong):
        with pytest.raises(ValueError, match=message):
            cases.merge(some, tmp_path / str(number), **changes)
        assert list((tmp_path / str(number)).iterdir()) == []


def test_C10_missing_swapped_and_damaged_parts_are_refused(calls: Calls, tmp_path: Path) -> None:
    parts, infos = cases.write_parts(calls, CUTS["two parts"], tmp_path / "parts")
    with pytest.raises(InputError, match="sha256 is not the journalled one"):
        cases.merge(parts, tmp_path / "out", expected=infos[::-1])
    data = parts[1].read_bytes()
    parts[1].write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"part-001\.parquet is damaged"):
        cases.merge(parts, tmp_path / "out")
    parts[1].unlink()
    with pytest.raises(InputError, match="cannot read part"):
        cases.merge(parts, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def _full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _full_disk_in_polars(*_: object, **__: object) -> None:
    raise pl.exceptions.ComputeError("parquet: underlying IO error: No space left on device (os error 28)")


def _full_disk_after_the_header(writer: BgzfWriter, data: bytes) -> None:
    if not data.startswith(b"#"):
        _full_disk()


@pytest.mark.parametrize(
    ("owner", "method", "fault", "file"),
    [
        (pl.DataFrame, "write_parquet", _full_disk_in_polars, "predictions.parquet"),
        (pl.LazyFrame, "sink_parquet", _full_disk_in_polars, "predictions.parquet"),
        (BgzfWriter, "write", _full_disk_after_the_header, "promoters.bed.gz"),
        (BgzfWriter, "finish", _full_disk, "features.bed.gz"),
        (line_format, "compress_file", _full_disk, "promoters.bed.gz.csi"),
        (os, "fsync", _full_disk, "predictions.parquet"),
        (os, "replace", _full_disk, "predictions.parquet"),
    ],
)
def test_C04_a_failure_in_any_writer_leaves_nothing(
    calls: Calls,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    method: str,
    fault: Callable[..., None],
    file: str,
) -> None:
    parts, _ = cases.write_parts(calls, CUTS["two parts"], tmp_path / "parts")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("the user's")
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, fault)
        with pytest.raises(ResourceFault, match=rf"^cannot write .*{file}: ") as caught:
            cases.merge(parts, tmp_path / "out", block_rows=BLOCK_ROWS)
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]
    cases.merge(parts, tmp_path / "out")
    cases.merge(parts, tmp_path / "reference")
    (tmp_path / "out" / "notes.txt").unlink()
    assert cases.contents(tmp_path / "out") == cases.contents(tmp_path / "reference")


FULL_DISK_SCRIPT = """
import resource, sys
from pathlib import Path
from annotator.kinds import KINDS
from annotator.errors import AnnotatorError
from annotator.output.formats.base import OutputRun
from annotator.output.formats.bed import BedFormat
from annotator.output.merge import Merge
from annotator.output.options import BedOptions
parts, out, limit, names = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split(",")
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with Merge(
        out, run=OutputRun(KINDS, names, [6000, 2500, 400, 4000]), formats=[BedFormat(BedOptions(bed_extra=True))],
        tool_version="0.0.test", block_rows=16,
    ) as merge:
        merge.take_all(sorted(parts.iterdir()))
        merge.finish({})
except AnnotatorError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def test_C04_a_really_full_disk_ends_with_status_6(tmp_path: Path) -> None:
    calls, _ = cases.planted_calls(n=1900)  # enough that the motif hits take more than a piece of 16 rows
    parts, _ = cases.write_parts(calls, CUTS["two parts"], tmp_path / "parts")
    # With extra columns, because the file of motif hits would be smaller than a piece without.
    written = cases.merge(parts, tmp_path / "free", bed=BedOptions(bed_extra=True), block_rows=16)
    size = {name: (tmp_path / "free" / name).stat().st_size for name in written}
    assert size["tfbs.bed.gz"] < size["predictions.parquet"]
    # A piece fails first, then a BED file whose pieces fit, then the Parquet file that they make, then nothing.
    for limit, blocked in (
        (40, "predictions.parquet"),
        (size["tfbs.bed.gz"] - 1, "tfbs.bed.gz"),
        (size["predictions.parquet"] - 1, "predictions.parquet"),
        (10**9, None),
    ):
        out = tmp_path / str(limit)
        out.mkdir()
        command = [sys.executable, "-c", FULL_DISK_SCRIPT, str(tmp_path / "parts"), str(out), str(limit), ",".join(cases.NAMES)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if blocked is None:
            assert done.returncode == 0, done.stderr
            assert cases.contents(out) == cases.contents(tmp_path / "free")
        else:
            assert done.returncode == 6, done.stderr
            assert done.stderr.startswith(f"cannot write {out / blocked}: ")
            assert "File too large" in done.stderr
            assert list(out.iterdir()) == []


def test_a_part_may_hold_more_rows_than_a_block_and_blocks_may_span_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    positions = np.sort(rng.choice(np.arange(10, 5900), 1000, replace=False))
    calls = cases.make_calls([(0, "donor", int(position), 1) for position in positions])
    for number, size in enumerate((7, 333, 1000, 1001)):
        parts, _ = cases.write_parts(calls, [(0, 500), (0, 510), (0, 2000)], tmp_path / f"parts{number}")
        cases.merge(parts, tmp_path / str(number), block_rows=size)
        assert pl.read_parquet(tmp_path / str(number) / "predictions.parquet").equals(cases.table_of(calls))
