"""The command line: parses, calls, turns errors into one line and an exit code. Imports nothing heavy until a command runs."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import Abort, Exit, TyperException

from annotator import cli_learning
from annotator.cli_common import AllowDownload, Device, Quiet, Threads, Verbose, comma_list, one_of, thread_count
from annotator.cli_progress import make_progress, setup_logging
from annotator.errors import AnnotatorError, EnvironmentFault, ResourceFault, UsageError
from annotator.genome.options import GenomeOptions
from annotator.models.options import CLADES, DEFAULT_CLADE, FAMILIES, PRECISIONS
from annotator.output.options import BedOptions
from annotator.pipeline.options import EVERY_KIND, TASKS, AnnotateOptions

logger = logging.getLogger("annotator")

app = typer.Typer(
    name="annotator",
    help="Annotate a genome: promoters, splice sites and transcription-factor binding sites, as BED and Parquet.",
    epilog="Example: annotator annotate assembly.fa.gz -o results/",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(no_args_is_help=True, help="List models, show one, or convert published weights.", rich_markup_mode=None)
app.add_typer(models_app, name="models")


class Terminated(BaseException):
    """SIGTERM arrived; unwinds the stack so that nothing is left half-written."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"annotator {importlib.metadata.version('genome-annotator')}")
        raise Exit(0)


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of all commands."""


def _thresholds(values: list[str]) -> dict[str, float]:
    """`KIND=P` or a bare number for all kinds; later ones win."""
    chosen: dict[str, float] = {}
    for value in values:
        kind, equals, number = value.rpartition("=")
        try:
            p = float(number)
        except ValueError:
            raise UsageError(f"--threshold {value}: not KIND=P or a number") from None
        if not 0.0 < p <= 1.0:
            raise UsageError(f"--threshold {value}: a probability lies above 0 and not above 1")
        chosen = chosen | {kind: p} if equals else {EVERY_KIND: p}
    return chosen


@app.command(epilog="Example: annotator annotate assembly.fa.gz -o results/ --clade plant --tasks splice,tfbs")
def annotate(
    fasta: Annotated[str, typer.Argument(help="FASTA: plain, gzip or BGZF; '-' reads standard input.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Results folder; the same command again resumes or does nothing.")],
    model: Annotated[str, typer.Option(help="Bundled model (annotator models list) or a model directory.")] = "compact",
    clade: Annotated[
        str, typer.Option(help=f"One of {', '.join(CLADES)}: chooses thresholds and the JASPAR group; default {DEFAULT_CLADE}.")
    ] = "",
    tasks: Annotated[
        str, typer.Option(help=f"Comma-separated from {','.join(TASKS)}. Default: all, but promoter only where validated.")
    ] = "",
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="KIND=P (donor, promoter, tfbs, ...), repeatable, or one number for all."),
    ] = None,
    motifs: Annotated[str, typer.Option(help="'jaspar', or a JASPAR, MEME or TRANSFAC file.")] = "jaspar",
    tfbs_pvalue: Annotated[float, typer.Option(help="p-value threshold of a motif hit.")] = 1e-6,
    regions: Annotated[Path | None, typer.Option(help="BED file: only calls positioned in these regions.")] = None,
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help=f"{', '.join(PRECISIONS)}; auto is bfloat16 on CUDA, float32 on a CPU.")
    ] = "auto",
    threads: Threads = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace the files of another run in the results folder.")] = False,
    dup_names: Annotated[str, typer.Option(help="Duplicate contig names: error, or suffix to rename.")] = "error",
    gaps_as_n: Annotated[bool, typer.Option("--gaps-as-n", help="Read '-', '.' and '*' as N instead of refusing.")] = False,
    bed6: Annotated[bool, typer.Option("--bed6", help="Plain BED6, without colours and extra columns.")] = False,
    no_header: Annotated[bool, typer.Option("--no-header", help="BED without comment lines.")] = False,
    no_eof_check: Annotated[bool, typer.Option("--no-eof-check", help="Accept BGZF input without its end marker.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Call promoters, splice sites and TF binding sites of an assembly, both strands."""
    setup_logging(quiet=quiet, verbose=verbose)
    if not clade:
        clade = DEFAULT_CLADE
        logger.info("clade: %s (the default; choose with --clade)", clade)
    if not 0 < tfbs_pvalue < 1:
        raise UsageError(f"--tfbs-pvalue {tfbs_pvalue:g}: lies between 0 and 1")
    if regions is not None and not regions.exists():
        raise UsageError(f"--regions {regions}: no such file")
    options = AnnotateOptions(
        fasta=fasta, out_dir=out, model=model, clade=one_of("--clade", clade, CLADES), tasks=comma_list(tasks) or None,
        thresholds=_thresholds(threshold or []), motifs=motifs, tfbs_pvalue=tfbs_pvalue, regions=regions, device=device,
        precision=one_of("--precision", precision, PRECISIONS), threads=thread_count(threads), overwrite=overwrite,
        genome=GenomeOptions(
            dup_names=one_of("--dup-names", dup_names, ("error", "suffix")),  # type: ignore[arg-type]
            gaps_as_n=gaps_as_n, eof_check=not no_eof_check,
        ),
        bed=BedOptions(header=not no_header, bed6=bed6),
    )  # fmt: skip
    from annotator.pipeline.annotate import annotate as run

    finished = run(options, make_progress(quiet=quiet))
    for name, entry in finished["files"].items():
        if not name.endswith((".csi", ".tbi")):
            logger.info("%s: %s rows", out / name, f"{entry['rows']:,}")


@app.command(epilog="Example: annotator example && annotator annotate example.fa.gz -o results/")
def example(
    folder: Annotated[Path, typer.Argument(help="Where to write example.fa.gz and example.truth.bed.gz.")] = Path(),
    seed: Annotated[int, typer.Option(help="Another seed, another genome.")] = 1,
    length: Annotated[int, typer.Option(help="Bases in all.")] = 1_000_000,
) -> None:
    """Write a small SYNTHETIC assembly with planted genes, and their sites beside it."""
    setup_logging(quiet=False, verbose=False)
    from annotator.genome.synthetic import write_example

    files = write_example(folder, seed=seed, length_bp=length)
    for path in files:
        logger.info("wrote %s", path)


app.command(epilog="Example: annotator train recipe.toml --data data/ -o run/")(cli_learning.train)
app.command(epilog="Example: annotator pretrain genome.fa --family dnabert --size small -o run/")(cli_learning.pretrain)
app.command(epilog="Example: annotator finetune --base run/checkpoint --train train.csv --dev dev.csv -o tuned/")(
    cli_learning.finetune
)
app.command(epilog="Example: annotator evaluate tuned/model --table test.csv")(cli_learning.evaluate)


@app.command(epilog="Example: annotator doctor")
def doctor(
    device: Device = "auto",
    threads: Threads = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Tell what this machine will use and how fast it is, and check every kernel on it."""
    setup_logging(quiet=True, verbose=False)
    from annotator.doctor import examine, to_text

    findings = examine(device, thread_count(threads))
    typer.echo(json.dumps(findings, indent=1) if as_json else to_text(findings))
    if faults := findings["faults"]:
        raise EnvironmentFault("; ".join(faults))


@models_app.command("list", epilog="Example: annotator models list")
def models_list() -> None:
    """Bundled models."""
    from annotator.models.manifest import read_manifest
    from annotator.models.registry import BUNDLED, bundled_models

    for name in bundled_models():
        manifest = read_manifest(BUNDLED / name)
        typer.echo(f"{name}\t{manifest.version}\t{manifest.family}\t{','.join(manifest.tracks)}\t{','.join(manifest.clades)}")


@models_app.command("show", epilog="Example: annotator models show compact")
def models_show(model: Annotated[str, typer.Argument(help="Bundled model or model directory.")] = "compact") -> None:
    """Thresholds, calibration, training data, held-out figures and licence of a model."""
    from annotator.models.describe import describe
    from annotator.models.registry import read_model

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
    from annotator.models.convert import convert
    from annotator.models.hub import PREFIX, resolve_reference

    chosen = [
        resolve_reference(source, allow_download=allow_download, pickles=True) if source.startswith(PREFIX) else Path(source)
        for source in sources
    ]
    typer.echo(convert(chosen, out, one_of("--family", family, (*FAMILIES, "dilated_cnn")) if family else None))


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments without the program's name; None for the process's own.

    Returns:
        The exit code: 0 ok, 1 bug, 2 usage, 3 bad input, 4 partial, 5 environment, 6 resources, 130 and 143 on signals.
    """
    previous: Any = signal.signal(signal.SIGTERM, _terminate)
    try:
        code = typer.main.get_command(app).main(args=argv, prog_name="annotator", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except Exit as stop:
        return int(stop.exit_code)
    except TyperException as error:
        show = getattr(error, "show", None)
        if show:
            show()
        return int(getattr(error, "exit_code", 2))
    except AnnotatorError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # the reader is gone: leave without a second error at shutdown
        return 141
    except MemoryError:
        return _fail("out of memory", ResourceFault.exit_code)
    except ModuleNotFoundError as error:
        return _fail(f"Python package {error.name} is missing: install genome-annotator again", EnvironmentFault.exit_code)
    except (KeyboardInterrupt, Abort):
        return _fail("interrupted; annotate, train, pretrain and finetune go on when the same command is given again", 130)
    except Terminated:
        return _fail("terminated; annotate, train, pretrain and finetune go on when the same command is given again", 143)
    except OSError as error:
        return _fail(f"{error.filename or 'operating system'}: {error.strerror or error}", ResourceFault.exit_code)
    except Exception as error:
        if isinstance(error, RuntimeError) and "allocate memory" in str(error):  # torch has no error class for the CPU's
            return _fail(f"out of memory: {error}", ResourceFault.exit_code)
        logger.debug("traceback", exc_info=True)
        return _fail(f"internal error: {type(error).__name__}: {error} (run with -v for the traceback)", 1)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())  # one line, whatever a message carries
    print(f"annotator: error: {line}", file=sys.stderr)
    return code


def main_entry() -> NoReturn:
    """Entry point of the `annotator` script."""
    sys.exit(main())
