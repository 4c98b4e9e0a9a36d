"""Model directories: those in the wheel and the user's, found, read with checks, and written whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from annotator.errors import EnvironmentFault, InputError
from annotator.files import atomic_folder, file_sha256, stand_in, write_faults
from annotator.models.manifest import MANIFEST_NAME, IntegerCopy, Manifest, read_manifest, read_model_json
from annotator.models.mistaken import seen_in_folder, seen_in_name

if TYPE_CHECKING:
    from torch import Tensor

BUNDLED = Path(__file__).parent / "bundled"


def bundled_models() -> list[str]:
    """Names of the models in the wheel, sorted."""
    if not BUNDLED.is_dir():
        return []
    return sorted(path.name for path in BUNDLED.iterdir() if (path / MANIFEST_NAME).exists())


def model_folder(model: str) -> Path:
    """Directory of a bundled model (by name) or of the user's (by path).

    Raises:
        EnvironmentFault: There is no such model.
    """
    if model in bundled_models():
        return BUNDLED / model
    path = Path(model)
    if path.is_dir():
        return path
    if path.exists():
        raise EnvironmentFault(f"model {model!r} is a file; give a model directory ({MANIFEST_NAME} and .safetensors weights)")
    hint = seen_in_name(model, wants_model=True)
    raise EnvironmentFault(
        f"no model {model!r}: neither a bundled model ({', '.join(bundled_models()) or 'none'}) nor a directory"
        + (f"; {hint}" if hint else "")
    )


def read_model(model: str) -> tuple[Path, Manifest]:
    """Folder and manifest of a model, its files of weights checked against the manifest's sha256.

    Raises:
        EnvironmentFault: No such model, or its weights file is missing.
        InputError: The manifest is bad, a configuration beside it asks for code, or the weights are not the ones it names.
    """
    folder = model_folder(model)
    return folder, _read_checked(folder)


def write_model(
    folder: Path,
    manifest: Manifest,
    tensors: Mapping[str, Tensor],
    files: Mapping[str, str] | None = None,
    *,
    integers: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a model directory, which takes the place of an older one only when it is complete and has been read back.

    Args:
        folder: Where to; made with its parents.
        manifest: What the model is. Names and sha256 of the files of weights are filled in here, and so is an empty version,
            which becomes the first 12 digits of that sha256.
        tensors: The weights, by name, on the CPU.
        files: Text of further files, such as the tokenizer's, by name.
        integers: The weights in whole numbers, by name; without them the model has no integer copy, whatever `manifest` says.

    Returns:
        `folder`.

    Raises:
        ResourceFault: A file cannot be written; an older model stands as it was.
        InputError: The parts of the manifest do not fit together; an older model stands as it was.
    """
    from annotator.models.weights import (
        INTEGERS_NAME,
        WEIGHTS_NAME,
        errors_naming,
        write_safetensors,
    )  # with torch, which reading does not need

    with write_faults(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as temporary, errors_naming(folder, instead_of=temporary):
        write_safetensors(temporary / WEIGHTS_NAME, tensors)
        digest = file_sha256(temporary / WEIGHTS_NAME)
        copy = None
        if integers is not None:
            write_safetensors(temporary / INTEGERS_NAME, integers)
            copy = IntegerCopy(INTEGERS_NAME, file_sha256(temporary / INTEGERS_NAME), digest)
        version = manifest.version or digest[:12]
        complete = replace(manifest, weights=WEIGHTS_NAME, weights_sha256=digest, version=version, integers=copy)
        for name, text in {**(files or {}), MANIFEST_NAME: complete.to_json()}.items():
            (temporary / name).write_text(text, encoding="utf-8")
        _read_checked(temporary)
    return folder


def _read_checked(folder: Path) -> Manifest:
    """The manifest of a model directory, its weights file checked against the manifest's sha256."""
    if not (folder / MANIFEST_NAME).is_file() and (hint := seen_in_folder(folder, wants_model=True)):
        raise InputError(f"{folder}: no model directory of this program, but {hint}")
    manifest = read_manifest(folder)
    for path in sorted(folder.glob("*config.json")):
        read_model_json(path)
    path = folder / manifest.weights
    if path.parent != folder or path.suffix != ".safetensors":
        raise InputError(f"{folder / MANIFEST_NAME}: weights must be a .safetensors file beside it, not {manifest.weights!r}")
    refuse_other_file(path, manifest.weights_sha256)
    if manifest.integers is not None:
        _refuse_stray_integers(folder, manifest.weights_sha256, manifest.integers)
    return manifest


def _refuse_stray_integers(folder: Path, weights_sha256: str, copy: IntegerCopy) -> None:
    """Raise InputError where an integer copy is not the file that the manifest names, or was made of other weights."""
    path = folder / copy.file
    if path.parent != folder or path.suffix != ".safetensors":
        raise InputError(f"{folder / MANIFEST_NAME}: integers must be a .safetensors file beside it, not {copy.file!r}")
    refuse_other_file(path, copy.sha256)
    if copy.of_sha256 != weights_sha256:
        raise InputError(
            f"{path}: made of other weights (sha256 {copy.of_sha256[:12]}...) than the model has ({weights_sha256[:12]}...); "
            "make it anew with `annotator models quantize`"
        )


def refuse_other_file(path: Path, sha256: str) -> None:
    """See that a file of a model directory is the one its manifest names.

    Raises:
        EnvironmentFault: It is missing, or cannot be read.
        InputError: It is another file.
    """
    try:
        digest = file_sha256(path)
    except FileNotFoundError:
        raise EnvironmentFault(f"{path}: file of the model is missing") from None
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror}") from None
    if digest != sha256:
        if instead := stand_in(path):
            raise InputError(f"{path}: {instead}")
        raise InputError(f"{path}: sha256 {digest[:12]}... is not the manifest's {sha256[:12]}...")
