"""Parts are immutable, and a damaged one is noticed."""

import importlib.util
from pathlib import Path

import polars as pl
import pytest

from annotator.errors import InputError
from annotator.files import file_sha256
from annotator.output.parts import PartInfo, read_first_row, read_part
from annotator.output.schema import TABLE_SCHEMA

_SPEC = importlib.util.spec_from_file_location("output_cases", Path(__file__).parents[1] / "support" / "output_cases.py")
assert _SPEC is not None
assert _SPEC.loader is not None
cases = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(cases)


@pytest.fixture
def part(tmp_path: Path) -> tuple[Path, PartInfo, pl.DataFrame]:
    table = cases.table_of(cases.planted_calls()[0])
    path = tmp_path / "part.parquet"
    return path, cases.write_part(table, path), table


def test_what_is_written_is_read(part: tuple[Path, PartInfo, pl.DataFrame]) -> None:
    path, info, table = part
    assert info == PartInfo(table.height, file_sha256(path))
    assert read_part(path, info).equals(table)
    assert read_first_row(path) == (table["chrom"][0], table["start"][0])
    assert pl.read_parquet_metadata(path)["coordinate_system"] == "0-based-half-open"
    assert cases.write_part(table, path) == info  # the same bytes again


def test_a_part_without_rows(tmp_path: Path) -> None:
    info = cases.write_part(TABLE_SCHEMA.to_frame(), tmp_path / "p")
    assert info.rows == 0
    assert read_part(tmp_path / "p", info).schema == TABLE_SCHEMA
    assert read_first_row(tmp_path / "p") is None


def test_C10_every_flipped_byte_is_noticed(part: tuple[Path, PartInfo, pl.DataFrame]) -> None:
    path, info, _ = part
    data = path.read_bytes()
    for offset in range(0, len(data), len(data) // 20):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 0x40]) + data[offset + 1 :])
        with pytest.raises(InputError, match=r"part\.parquet is damaged"):
            read_part(path, info)


def test_C10_a_torn_or_missing_part_is_noticed_without_a_journal(part: tuple[Path, PartInfo, pl.DataFrame]) -> None:
    path, info, table = part
    with pytest.raises(InputError, match=f"{info.rows} rows; 3 are journalled"):
        read_part(path, PartInfo(3, info.sha256))
    path.write_bytes(path.read_bytes()[:-20])
    for read in (read_part, read_first_row):
        with pytest.raises(InputError, match=r"part\.parquet is damaged"):
            read(path)
    path.unlink()
    for read in (read_part, read_first_row):
        with pytest.raises(InputError, match=r"cannot read part .*No such file"):
            read(path)
    table.drop("bits").write_parquet(path)
    with pytest.raises(InputError, match="another version"):
        read_part(path)
    with pytest.raises(ValueError, match="must have the schema"):
        cases.write_part(table.drop("bits"), path)
