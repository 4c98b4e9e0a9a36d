"""The merge beside the scan: the same bytes, whenever it is cut short or given up."""

from __future__ import annotations

import errno
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotator.output.merge import Merge
from annotator.pipeline.driver import assembly
from annotator.results.workspace import STATE
from tests.support.runs import results
from tests.support.toy_runs import SHARD_BP, journalled, kill, start_toy_run, toy_run, wait_until


@pytest.fixture(scope="module")
def at_the_end(fasta: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that merges when all is done."""
    out = tmp_path_factory.mktemp("at the end") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "LEAST_AHEAD", 10**9)
        assert toy_run(fasta, out, model) == 0
    return results(out)


class Watched:
    """Counts the parts that are merged, by whether all of them are there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: Callable[[int], None] = lambda number: None) -> None:
        self.ahead = self.at_end = 0
        take, take_all = Merge.take, Merge.take_all
        at_end = False

        def counted(merge: Merge, *args: Any) -> None:
            if at_end:
                self.at_end += 1
            else:
                self.ahead += 1
                fault(self.ahead)
            take(merge, *args)

        def all_of_them(merge: Merge, *args: Any) -> None:
            nonlocal at_end
            at_end = True
            take_all(merge, *args)

        monkeypatch.setattr(Merge, "take", counted)
        monkeypatch.setattr(Merge, "take_all", all_of_them)


@pytest.mark.parametrize("executor", [(), ("--workers", "2")], ids=["this process", "2 processes"])
def test_C09_the_bytes_are_those_of_a_merge_at_the_end(
    executor: tuple[str, ...], fasta: Path, model: Path, at_the_end: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    watched = Watched(monkeypatch)
    assert toy_run(fasta, tmp_path / "out", model, *executor) == 0
    shards = len(json.loads((tmp_path / "out" / "run.json").read_text())["shards"])
    assert (watched.ahead, watched.at_end) == (shards, 0) and shards > 10
    assert results(tmp_path / "out") == at_the_end and not (tmp_path / "out" / STATE).exists()


def full_disk(number: int) -> None:
    if number == 6:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def wrong_order(number: int) -> None:
    if number == 6:
        raise ValueError("the parts are not in plan order")


def stopped(number: int) -> None:
    if number == 6:
        raise KeyboardInterrupt


@pytest.mark.parametrize("fault", [full_disk, wrong_order, stopped])
def test_C04_what_goes_wrong_beside_the_scan_is_done_again_at_the_end(
    fault: Callable[[int], None], fasta: Path, model: Path, at_the_end: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    watched = Watched(monkeypatch, fault)
    assert toy_run(fasta, tmp_path / "out", model) == 0
    assert watched.ahead == 6 and watched.at_end > 10
    assert results(tmp_path / "out") == at_the_end and not (tmp_path / "out" / STATE).exists()


def test_a_shard_given_up_ends_the_merge_beside_the_scan(fasta: Path, model: Path, tmp_path: Path) -> None:
    """Its contig is left out, of which a part was merged already."""
    faults = {f"chr2:{SHARD_BP}": ("raise", 99)}
    out = tmp_path / "out"
    assert toy_run(fasta, out, model, folder=str(tmp_path), faults=faults) == 4
    names = {line.split(b"\t")[0] for line in _bed_lines(out)}
    assert {b"chr1", b"chr3"} <= names and b"chr2" not in names
    assert not list((out / STATE).glob(".tmp-*"))
    assert toy_run(fasta, out, model) == 0
    assert {line.split(b"\t")[0] for line in _bed_lines(out)} == names | {b"chr2"}


def _bed_lines(out: Path) -> list[bytes]:
    return gzip.decompress((out / "splice_sites.bed.gz").read_bytes()).splitlines()[1:]


def test_D06_a_driver_killed_while_it_merges_leaves_temporaries_that_the_next_run_removes(
    fasta: Path, model: Path, at_the_end: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start_toy_run(fasta, out, model, "--quiet", pace_s=0.2)
    wait_until(lambda: journalled(out) >= 6 and bool(list((out / STATE).glob(".tmp-*"))), process)
    kill(process)
    assert os.listdir(out) == [STATE]
    assert toy_run(fasta, out, model) == 0
    assert results(out) == at_the_end and not (out / STATE).exists()
