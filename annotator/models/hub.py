"""Where a checkpoint is: a directory, or a pinned revision on the Hugging Face hub. The network is used only when asked for."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotator.errors import EnvironmentFault, InputError, UsageError
from annotator.files import file_sha256
from annotator.models.mistaken import CONFIG_NAME, seen_in_folder, seen_in_name

logger = logging.getLogger(__name__)

PREFIX = "hub:"
_REFERENCE = re.compile(r"hub:([\w.-]+/[\w.-]+)@([0-9a-f]{40})", re.ASCII)
DATA_FILES = ("*.json", "*.safetensors", "vocab.txt")
PICKLE_FILES = ("*.bin", "*.pt", "*.pth")


@dataclass(frozen=True)
class HubReference:
    """A revision of a repository on the hub.

    Attributes:
        repository: owner/name.
        revision: Commit, 40 hexadecimal digits: a branch or a tag can come to mean other weights.
    """

    repository: str
    revision: str

    @staticmethod
    def parse(text: str) -> HubReference:
        """Parse `hub:owner/name@revision`.

        Raises:
            UsageError: It is not of this form.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None or ".." in match[1]:
            raise UsageError(f"model {text!r}: give hub:OWNER/NAME@REVISION, with the 40 hexadecimal digits of a commit")
        return HubReference(match[1], match[2])


def resolve_reference(reference: str, *, allow_download: bool = False, pickles: bool = False) -> Path:
    """The directory that a reference stands for.

    Args:
        reference: Path of a directory, or `hub:owner/name@revision`.
        allow_download: Fetch what the local cache does not hold. Without it no connection is attempted.
        pickles: Fetch pickled weights too: for the converter.

    Returns:
        The directory; of a hub reference, a snapshot in Hugging Face's local cache (HF_HOME).

    Raises:
        UsageError: The reference is malformed.
        InputError: The snapshot has no safetensors, and pickles were not asked for.
        EnvironmentFault: There is no such directory, or the snapshot is neither in the cache nor could it be fetched.
    """
    if not reference.startswith(PREFIX):
        path = Path(reference)
        if not path.is_dir():
            hint = seen_in_name(reference, wants_model=False)
            raise EnvironmentFault(f"model {reference!r}: no such directory" + (f"; {hint}" if hint else ""))
        return path
    wanted = HubReference.parse(reference)
    patterns = (*DATA_FILES, *PICKLE_FILES) if pickles else DATA_FILES
    folder = _download(wanted, patterns) if allow_download else _cached(wanted)
    files = sorted({path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()})
    if not pickles and not any(path.suffix == ".safetensors" for path in files):
        raise InputError(f"{reference}: no .safetensors file; `annotator models convert` makes one of a pickle")
    for path in files:
        logger.info("%s %s: sha256 %s", reference, path.relative_to(folder).as_posix(), file_sha256(path))
    return folder


def checkpoint_folder(reference: str) -> Path:
    """The directory of a checkpoint to begin from, seen to hold a configuration before anything else is read.

    Args:
        reference: As in `resolve_reference`.

    Raises:
        EnvironmentFault: There is no such directory.
        InputError: It holds no checkpoint; the message says what it seems to be.
    """
    folder = resolve_reference(reference)
    if not (folder / CONFIG_NAME).is_file():
        raise InputError(f"{folder}: {seen_in_folder(folder, wants_model=False) or f'no {CONFIG_NAME}; not a checkpoint'}")
    return folder


def _cached(wanted: HubReference) -> Path:
    """The snapshot in the local cache; looks at the disk alone."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    cache = Path(constants.HF_HUB_CACHE)
    folder = cache / repo_folder_name(repo_id=wanted.repository, repo_type="model") / "snapshots" / wanted.revision
    if not folder.is_dir():
        raise EnvironmentFault(
            f"model {PREFIX}{wanted.repository}@{wanted.revision}: not in the local cache {cache}, and downloads are off; "
            "allow the download, or give a directory"
        )
    return folder


def _download(wanted: HubReference, patterns: tuple[str, ...]) -> Path:
    """The snapshot, fetched as far as it is not in the cache; data files only."""
    from huggingface_hub import errors, snapshot_download

    # OSError, the faults of whichever HTTP library the hub's client uses, and those of its newer transfer protocol.
    faults: Any = (*errors.HfHubHTTPError.__bases__, getattr(errors, "XetDownloadError", OSError))
    logger.info("fetching %s of %s@%s", ", ".join(patterns), wanted.repository, wanted.revision)
    try:
        return Path(snapshot_download(wanted.repository, revision=wanted.revision, allow_patterns=list(patterns)))
    except errors.HFValidationError as error:
        raise UsageError(f"model {PREFIX}{wanted.repository}: {error}") from None
    except faults as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise EnvironmentFault(f"model {PREFIX}{wanted.repository}@{wanted.revision}: cannot be fetched ({reason})") from None
