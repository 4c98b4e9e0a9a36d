"""The commands `annotator models list`, `show`, `convert`, `merge` and `quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from annotator.cli.progress import setup_logging
from annotator.cli.values import AllowDownload, model_name, one_of, pairs
from annotator.models.options import FAMILIES
from annotator.preflight import check_out_folder, check_readable

models_app = typer.Typer(
    no_args_is_help=True,
    help="List models, show one, convert published weights, merge models of single clades, or add whole-number weights.",
    rich_markup_mode=None,
)


@models_app.command("list", epilog="Example: annotator models list")
def models_list() -> None:
    """Bundled models."""
    from annotator.models.directory import BUNDLED, bundled_models
    from annotator.models.manifest import read_manifest

    for name in bundled_models():
        manifest = read_manifest(BUNDLED / name)
        typer.echo(f"{name}\t{manifest.version}\t{manifest.family}\t{','.join(manifest.tracks)}\t{','.join(manifest.clades)}")


@models_app.command("show", epilog="Example: annotator models show compact")
def models_show(model: Annotated[str, typer.Argument(help="Bundled model or model directory.")] = "compact") -> None:
    """Thresholds, calibration, training data, held-out figures and licence of a model."""
    from annotator.models.describe import describe
    from annotator.models.directory import read_model

    typer.echo(describe(*read_model(model)))


@models_app.command("convert", epilog="Example: annotator models convert model_10000nt_rs10.pt -o splice/")
def models_convert(
    sources: Annotated[list[str], typer.Argument(help="Checkpoint directory, hub:OWNER/NAME@COMMIT, or pickled state dicts.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Directory to make.")],
    family: Annotated[str, typer.Option(help=f"{', '.join(FAMILIES)} or dilated_cnn; told from the files by default.")] = "",
    allow_download: AllowDownload = False,
) -> None:
    """Make a directory of plain data (safetensors) from published weights; several OpenSpliceAI files are averaged."""
    setup_logging(quiet=False, verbose=False)
    check_out_folder(out)
    from annotator.models.convert import convert
    from annotator.models.hub import PREFIX, resolve_reference

    chosen = [
        resolve_reference(source, allow_download=allow_download, pickles=True) if source.startswith(PREFIX) else Path(source)
        for source in sources
    ]
    typer.echo(convert(chosen, out, one_of("--family", family, (*FAMILIES, "dilated_cnn")) if family else None))


@models_app.command("merge", epilog="Example: annotator models merge plants/model worms/model -o both/")
def models_merge(
    models: Annotated[list[str], typer.Argument(help="Compact models, one a clade: bundled ones or model directories.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Directory to make.")],
    name: Annotated[str, typer.Option(help="Of the model; the directory's by default.")] = "",
    licence: Annotated[str, typer.Option(help="Of the new weights; that of the first model by default.")] = "",
    version: Annotated[str, typer.Option(help="Of the new model; the beginning of the weights' sha256 by default.")] = "",
) -> None:
    """Make one model of several that were trained for one clade each; a run's clade then chooses the network."""
    setup_logging(quiet=False, verbose=False)
    check_out_folder(out)
    from annotator.models.families.compact.merge import merge_clades

    typer.echo(merge_clades(models, out, name=model_name(name, out), licence=licence, version=version))


@models_app.command("quantize", epilog="Example: annotator models quantize mine/model --bases plant=val.fa.gz -o mine/model8")
def models_quantize(
    model: Annotated[str, typer.Argument(help="Compact model: a bundled one or a model directory.")],
    bases: Annotated[
        list[str],
        typer.Option(help="CLADE=FASTA, repeatable: real bases on which the range of each channel is measured; no test data."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Directory to make.")],
) -> None:
    """Write a compact model with its weights in whole numbers beside them, which `--precision int8` scans with on a CPU."""
    setup_logging(quiet=False, verbose=False)
    check_out_folder(out)
    given = {clade: Path(path) for clade, path in pairs("--bases", bases).items()}
    for path in given.values():
        check_readable(path)
    from annotator.models.families.compact.quantize import quantize_model, read_sequences

    typer.echo(quantize_model(model, {clade: read_sequences(path) for clade, path in given.items()}, out))
