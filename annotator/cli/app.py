"""The command line: parses, calls, turns errors into one line and an exit code. Imports nothing heavy until a command runs."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.exceptions import Abort, Exit, TyperException

from annotator.cli import annotate as cli_annotate
from annotator.cli import learning as cli_learning
from annotator.cli.progress import setup_logging
from annotator.cli.values import AllowDownload, Device, Threads, one_of, thread_count
from annotator.errors import AnnotatorError, EnvironmentFault, ResourceFault
from annotator.models.options import FAMILIES
from annotator.stopping import Terminated, signals_unwind

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


_GOES_ON = "annotate, train, pretrain and finetune go on when the same command is given again"


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


app.command(epilog="Example: annotator annotate assembly.fa.gz -o results/ --clade plant --tasks splice,tfbs")(
    cli_annotate.annotate
)
app.command(epilog="Example: annotator plan assembly.fa.gz --clade plant")(cli_annotate.plan)
app.command(epilog="Example: annotator verify results/")(cli_annotate.verify)


@app.command(epilog="Example: annotator example && annotator annotate example.fa.gz -o results/")
def example(
    folder: Annotated[Path, typer.Argument(help="Where to write example.fa.gz and example.truth.bed.gz.")] = Path(),
    seed: Annotated[int, typer.Option(help="Another seed, another genome.")] = 1,
    length: Annotated[int, typer.Option(help="Bases in all.")] = 1_000_000,
) -> None:
    """Write a small SYNTHETIC assembly with planted genes, and their sites beside it."""
    setup_logging(quiet=False, verbose=False)
    from annotator.example.genome import write_example

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
    from annotator.models.convert import convert
    from annotator.models.hub import PREFIX, resolve_reference

    chosen = [
        resolve_reference(source, allow_download=allow_download, pickles=True) if source.startswith(PREFIX) else Path(source)
        for source in sources
    ]
    typer.echo(convert(chosen, out, one_of("--family", family, (*FAMILIES, "dilated_cnn")) if family else None))


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments without the program's name; None for the process's own.

    Returns:
        The exit code: 0 ok, 1 bug, 2 usage, 3 bad input, 4 partial, 5 environment, 6 resources, 130 and 143 on signals.
    """
    try:
        with signals_unwind():
            return _run(argv)
    except Terminated as stop:
        return _fail(f"{'interrupted' if stop.exit_code == 130 else 'terminated'}; {_GOES_ON}", stop.exit_code)


def _run(argv: list[str] | None) -> int:
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
    except SystemExit as stop:
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        # so typer leaves where any pipe broke; only of standard output the reader may simply be gone
        return 141 if _is_printing(stop.__context__) else _fail("a process of this run is gone (broken pipe)", 1)
    except MemoryError:
        return _fail("out of memory", ResourceFault.exit_code)
    except ModuleNotFoundError as error:
        return _fail(f"Python package {error.name} is missing: install genome-annotator again", EnvironmentFault.exit_code)
    except (KeyboardInterrupt, Abort):
        return _fail(f"interrupted; {_GOES_ON}", 130)
    except OSError as error:
        if _is_printing(error):
            return _fail(f"cannot write standard output: {error.strerror or error}", 1)
        return _fail(f"{error.filename or 'operating system'}: {error.strerror or error}", ResourceFault.exit_code)
    except Exception as error:
        if isinstance(error, RuntimeError) and "allocate memory" in str(error):  # torch has no error class for the CPU's
            return _fail(f"out of memory: {error}", ResourceFault.exit_code)
        logger.debug("traceback", exc_info=True)
        return _fail(f"internal error: {type(error).__name__}: {error} (run with -v for the traceback)", 1)


def _is_printing(error: OSError) -> bool:
    """Whether the error came from writing to standard output."""
    return any(frame.name == "echo" for frame in traceback.extract_tb(error.__traceback__))


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())  # one line, whatever a message carries
    print(f"annotator: error: {line}", file=sys.stderr)
    return code


def main_entry() -> NoReturn:
    """Entry point of the `annotator` script."""
    sys.exit(main())
