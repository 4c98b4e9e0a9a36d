"""The command line: parses, calls, turns errors into one line and an exit code. Imports nothing heavy until a command runs."""

from __future__ import annotations

import ctypes
import importlib.metadata
import logging
import os
import re
import signal
import sys
import traceback
from contextlib import redirect_stderr, suppress
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from typer.exceptions import Abort, Exit, TyperException

from annotator.cli.annotate import annotate
from annotator.cli.browse import browse
from annotator.cli.call import call
from annotator.cli.convert import convert
from annotator.cli.doctor import doctor
from annotator.cli.evaluate import evaluate
from annotator.cli.example import example
from annotator.cli.finetune import finetune
from annotator.cli.models import models_app
from annotator.cli.plan import plan
from annotator.cli.pretrain import pretrain
from annotator.cli.report import report
from annotator.cli.train import train
from annotator.cli.values import in_flags
from annotator.cli.verify import verify
from annotator.errors import AnnotatorError, EnvironmentFault, ResourceFault
from annotator.preflight import address_space_limit
from annotator.stopping import Terminated, signals_unwind

if TYPE_CHECKING:
    from annotator.pipeline.worker.task import TaskFactory

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
for command, line in (
    (annotate, "annotate assembly.fa.gz -o results/ --clade plant --tasks splice,tfbs"),
    (plan, "plan assembly.fa.gz --clade plant"),
    (call, "call results/ --threshold donor=0.2 -o lower/"),
    (convert, "convert results/ --to gff3,bigbed"),
    (verify, "verify results/"),
    (browse, "browse results/ assembly.fa.gz --genes genes.gff3"),
    (report, "report results/"),
    (example, "example && annotator annotate example.fa.gz -o results/"),
    (train, "train recipe.toml --data data/ -o run/"),
    (pretrain, "pretrain genome.fa --family dnabert --size small -o run/"),
    (finetune, "finetune --base run/checkpoint --train train.csv --dev dev.csv -o tuned/"),
    (evaluate, "evaluate tuned/model --table test.csv"),
    (doctor, "doctor"),
):
    app.command(epilog=f"Example: annotator {line}")(command)
app.add_typer(models_app, name="models")

_OUT_OF_MEMORY = re.compile(
    "(allocate|enough|out of) memory|memory allocation|allocation error|bad_alloc|failed to map segment"
    "|start new thread|spawn thread|ThreadPoolBuildError|Resource temporarily unavailable",
    re.IGNORECASE,
)
"""How libraries say that the system gave them no memory or no thread; they have no error class for it."""
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


def main(argv: list[str] | None = None, *, task: TaskFactory | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments without the program's name; None for the process's own.
        task: The work of `annotate` on each shard, where it is to be another than calling sites and motifs.

    Returns:
        The exit code: 0 ok, 1 bug, 2 usage, 3 bad input, 4 partial, 5 environment, 6 resources, 130 and 143 on signals.
    """
    if sys.stderr is None:  # closed, as a daemon's is
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
            return main(argv, task=task)
    try:
        with signals_unwind():
            return _run(argv, task)
    except Terminated as stop:
        return _fail(f"{'interrupted' if stop.exit_code == 130 else 'terminated'}; {_GOES_ON}", stop.exit_code)


def _run(argv: list[str] | None, task: TaskFactory | None) -> int:
    try:
        given = {"argv": sys.argv if argv is None else ["annotator", *argv]} | ({"task": task} if task else {})
        code = typer.main.get_command(app).main(args=argv, prog_name="annotator", standalone_mode=False, obj=given)
        return code if isinstance(code, int) else 0
    except Exit as stop:
        return int(stop.exit_code)
    except TyperException as error:
        show = getattr(error, "show", None)
        if show:
            show()
        return int(getattr(error, "exit_code", 2))
    except AnnotatorError as error:
        return _fail(in_flags(error), error.exit_code)
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
        return _unexpected(error)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of libraries in Rust; it is no Exception, and its class cannot be imported
            raise
        return _unexpected(error)


def _unexpected(error: BaseException) -> int:
    """The line and the exit code of an error that nobody foresaw: 6 where the system gave no memory or no thread, else 1."""
    if _OUT_OF_MEMORY.search(str(error)):
        return _fail(f"out of memory: {error}", ResourceFault.exit_code)
    logger.debug("traceback", exc_info=True)
    return _fail(f"internal error: {type(error).__name__}: {error} (run with -v for the traceback)", 1)


def _is_printing(error: OSError) -> bool:
    """Whether the error came from writing to standard output."""
    return any(frame.name == "echo" for frame in traceback.extract_tb(error.__traceback__))


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())  # one line, whatever a message carries
    with suppress(OSError, ValueError):  # nobody may be left to read it
        print(f"annotator: error: {line}", file=sys.stderr)
    return code


def _occupy_standard_files() -> None:
    """Open the null device in place of what was closed, or the next file to be written would be taken for standard error."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _end_with_6_on_abort() -> None:
    """Where address space is limited, end with the code for a lack of memory when a library aborts; it says so by itself.

    Libraries in Rust and C++ do so when they get no memory, and no handler in Python would ever run. The number of the signal is
    handed to the handler, which is the system's `_exit`.
    """
    assert int(signal.SIGABRT) == ResourceFault.exit_code
    if address_space_limit() is not None:
        libc = ctypes.CDLL(None)
        libc.signal(signal.SIGABRT, ctypes.cast(libc._exit, ctypes.c_void_p))


def main_entry() -> NoReturn:
    """Entry point of the `annotator` script."""
    _occupy_standard_files()
    _end_with_6_on_abort()
    sys.exit(main())
