"""References to models on the hub: pinned, and without a single connection unless one was asked for (row E07)."""

from __future__ import annotations

import hashlib
import logging
import socket
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from annotator.errors import EnvironmentFault, InputError, UsageError
from annotator.models.hub import DATA_FILES, HubReference, resolve_reference

REVISION = "0123456789abcdef0123456789abcdef01234567"
REFERENCE = f"hub:someone/model-1.x@{REVISION}"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was tried to connect to."""
    tried: list[Any] = []

    def refuse(*args: Any, **kwargs: Any) -> None:
        tried.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def fill(cache: Path) -> Path:
    """A snapshot as the hub's client leaves it, with a pickle and code in it."""
    folder = cache / "models--someone--model-1.x" / "snapshots" / REVISION
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "vocab.txt", "pytorch_model.bin", "layers.py"):
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize(
    "wrong",
    [
        "hub:someone/model",
        "hub:someone/model@main",
        f"hub:model@{REVISION}",
        f"hub:someone/model@{REVISION[:-1]}",
        f"hub:someone/model@{REVISION.upper()}",
        f"hub:a/b/c@{REVISION}",
        f"hub:../model@{REVISION}",
        f"hub:some one/model@{REVISION}",
        f"hub:someone/model@{REVISION}\n",
    ],
)
def test_a_reference_names_owner_name_and_commit(wrong: str) -> None:
    with pytest.raises(UsageError, match="OWNER/NAME@REVISION"):
        resolve_reference(wrong)
    assert HubReference.parse(REFERENCE) == HubReference("someone/model-1.x", REVISION)


def test_a_directory_is_itself(tmp_path: Path) -> None:
    assert resolve_reference(str(tmp_path)) == tmp_path
    with pytest.raises(EnvironmentFault, match="no such directory"):
        resolve_reference(str(tmp_path / "none"))


def test_E07_nothing_is_tried_where_downloads_are_off(cache: Path, no_network: list[Any]) -> None:
    with pytest.raises(EnvironmentFault, match="not in the local cache") as caught:
        resolve_reference(REFERENCE)
    assert REVISION in str(caught.value) and no_network == []


def test_the_cache_is_read_without_a_connection_and_hashes_are_told(
    cache: Path, no_network: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    folder = fill(cache)
    with caplog.at_level(logging.INFO, "annotator.models.hub"):
        assert resolve_reference(REFERENCE) == folder
    told = [record.getMessage() for record in caplog.records]
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        assert any(name in text and hashlib.sha256(name.encode()).hexdigest() in text for text in told)
    assert len(told) == 3, "neither pickles nor code"
    assert no_network == []


def test_a_snapshot_of_pickles_alone_points_to_the_converter(cache: Path, no_network: list[Any]) -> None:
    folder = fill(cache)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="annotator models convert"):
        resolve_reference(REFERENCE)
    assert resolve_reference(REFERENCE, pickles=True) == folder


def test_only_data_of_the_pinned_revision_is_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def snapshot(repository: str, *, revision: str, allow_patterns: list[str]) -> str:
        asked.append((repository, revision, tuple(allow_patterns)))
        return str(fill(cache)) if len(asked) == 1 else str(cache / "models--someone--model-1.x" / "snapshots" / REVISION)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    resolve_reference(REFERENCE, allow_download=True)
    resolve_reference(REFERENCE, allow_download=True, pickles=True)
    assert asked[0] == ("someone/model-1.x", REVISION, DATA_FILES)
    assert set(DATA_FILES) == {"*.json", "*.safetensors", "vocab.txt"}
    assert set(asked[1][2]) - set(DATA_FILES) == {"*.bin", "*.pt", "*.pth"}


def test_E07_a_download_without_a_network_is_one_clear_line(
    cache: Path, no_network: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the client's attempts
    with pytest.raises(EnvironmentFault, match="cannot be fetched") as caught:
        resolve_reference(REFERENCE, allow_download=True)
    assert "\n" not in str(caught.value) and "someone/model-1.x" in str(caught.value)
    assert no_network


def test_E07_offline_mode_is_obeyed(cache: Path, no_network: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentFault, match="cannot be fetched"):
        resolve_reference(REFERENCE, allow_download=True)
    assert no_network == []


def test_names_that_the_hub_does_not_allow_are_usage_errors(cache: Path, no_network: list[Any]) -> None:
    with pytest.raises(UsageError, match="some--one"):
        resolve_reference(f"hub:some--one/model@{REVISION}", allow_download=True)
    assert no_network == []
