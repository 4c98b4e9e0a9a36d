"""Which models there are: those in the wheel, and model directories of the user's."""

from __future__ import annotations

from pathlib import Path

from annotator.errors import EnvironmentFault, InputError
from annotator.files import file_sha256
from annotator.models.manifest import MANIFEST_NAME, Manifest, read_manifest, read_model_json

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
    raise EnvironmentFault(
        f"no model {model!r}: neither a bundled model ({', '.join(bundled_models()) or 'none'}) nor a directory"
    )


def read_model(model: str) -> tuple[Path, Manifest]:
    """Folder and manifest of a model, its weights file checked against the manifest's sha256.

    Raises:
        EnvironmentFault: No such model, or its weights file is missing.
        InputError: The manifest is bad, a configuration beside it asks for code, or the weights are not the ones it names.
    """
    folder = model_folder(model)
    manifest = read_manifest(folder)
    for path in sorted(folder.glob("*config.json")):
        read_model_json(path)
    path = folder / manifest.weights
    if path.parent != folder or path.suffix != ".safetensors":
        raise InputError(f"{folder / MANIFEST_NAME}: weights must be a .safetensors file beside it, not {manifest.weights!r}")
    refuse_other_file(path, manifest.weights_sha256)
    return folder, manifest


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
        raise InputError(f"{path}: sha256 {digest[:12]}... is not the manifest's {sha256[:12]}...")
