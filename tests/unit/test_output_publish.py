"""Files appear whole or not at all."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from annotator.errors import InputError, ResourceFault
from annotator.files import (
    atomic_file,
    atomic_files,
    file_sha256,
    sweep_temporaries,
    temporary_folder,
    write_faults,
    write_json,
)


def test_the_final_name_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.bed.gz"
    with atomic_file(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(f".tmp-{os.getpid()}-")
        assert temporary.suffix == ".gz"
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt(), InputError("bad part")])
def test_other_errors_pass_and_leave_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), atomic_file(tmp_path / "x") as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (OSError("Error closing\nBGZF"), r"Error closing BGZF \(\d+ bytes free there\)"),
        (pl.exceptions.ComputeError("parquet: IO error: No space left (os error 28)"), r"No space left \(os error 28\)"),
    ],
)
def test_C04_write_errors_become_one_line(tmp_path: Path, error: Exception, reason: str) -> None:
    path = tmp_path / "x"
    with pytest.raises(ResourceFault, match=rf"^cannot write {path}: {reason}$"), atomic_file(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_wrote_nothing_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ResourceFault, match=r"cannot write .*No such file"), atomic_file(tmp_path / "x"):
        pass


def test_C04_a_missing_folder_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ResourceFault), atomic_file(tmp_path / "no" / "x") as temporary:
        temporary.write_bytes(b"")
    with pytest.raises(ResourceFault, match=r"^cannot write .*: the folder went away$"), write_faults(tmp_path / "no" / "x"):
        raise OSError("the folder went away")


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_C08_a_failed_step_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, failing: int) -> None:
    done = 0
    real = getattr(os, step)

    def sometimes(*arguments: object) -> None:
        nonlocal done
        done += 1
        if done > failing:
            raise OSError(errno.ESTALE, "Stale file handle")
        real(*arguments)

    monkeypatch.setattr(os, step, sometimes)
    with pytest.raises(ResourceFault, match="Stale file handle"), atomic_files([tmp_path / "a", tmp_path / "b"]) as files:
        for file in files:
            file.write_bytes(b"whole")
    assert done == failing + 1
    assert list(tmp_path.iterdir()) == []


def test_C08_a_folder_that_cannot_be_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync
    code = errno.EIO

    def no_folders(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", no_folders)
    with pytest.raises(ResourceFault, match="Input/output error"):
        write_json(tmp_path / "x.json", {})
    assert list(tmp_path.iterdir()) == []
    code = errno.EINVAL  # the file system has no such call
    write_json(tmp_path / "x.json", {})
    assert (tmp_path / "x.json").exists()


def test_D06_only_what_dead_processes_left_is_swept(tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    dead, own, alive, tag = int(child.stdout), os.getpid(), os.getppid(), "0" * 16
    stale = [f".tmp-{dead}-{tag}", f".tmp-{dead}-{tag}.gz", f".tmp-{own}-{tag}", f".tmp-{10**30}-{tag}"]
    kept = [f".tmp-{alive}-{tag}", ".tmp-notes", f".tmp-{dead}-mine", "predictions.parquet"]
    for name in stale + kept:
        (tmp_path / name).write_text("")
    (tmp_path / f".tmp-{dead}-{'1' * 16}").mkdir()
    (tmp_path / f".tmp-{dead}-{'1' * 16}" / "piece").write_text("")
    outside = tmp_path / "foreign"
    outside.mkdir()
    (outside / "file").write_text("")
    (tmp_path / f".tmp-{dead}-{'2' * 16}").symlink_to(outside)
    assert sweep_temporaries(tmp_path) == len(stale) + 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "foreign"])
    assert (outside / "file").exists()


def test_a_temporary_folder_goes_with_its_body(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), temporary_folder(tmp_path) as folder:
        (folder / "piece").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_json_bytes_depend_on_the_content_only(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None], "a": "é\u2028"})
    write_json(tmp_path / "b.json", {"a": "é\u2028", "b": [1, 2.5, None]})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json").read_bytes().isascii()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "c.json", float("nan"))
    assert not (tmp_path / "c.json").exists()


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(b"abc" * 100_000).hexdigest()
