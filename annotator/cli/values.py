"""What the command line's modules share: options that come again, and the reading of their values."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from annotator.checks import check_count
from annotator.errors import AnnotatorError, InputError, UsageError
from annotator.genome.options import GenomeOptions
from annotator.kinds import EVERY_KIND
from annotator.machine import usable_cpus
from annotator.output.options import FORMAT_NAMES, BedOptions
from annotator.pipeline.options import AnnotateOptions, ExecutionOptions

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int, typer.Option("-t", "--threads", help="CPU threads; 0 takes all this process may use.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="More log lines.")]
Formats = Annotated[
    str, typer.Option(help=f"Files beside predictions.parquet, comma-separated from {','.join(FORMAT_NAMES)}. Default: bed9.")
]
NoHeader = Annotated[bool, typer.Option("--no-header", help="BED without the #chrom line.")]
AcceptAnnotation = Annotated[
    bool,
    typer.Option(
        "--accept-annotation", help="Go on even where fewer than half of the introns are GT-AG, GC-AG or AT-AC in the genome."
    ),
]
AllowDownload = Annotated[
    bool,
    typer.Option("--allow-download", help="Fetch hub:OWNER/NAME@COMMIT from the Hugging Face hub if it is not in the cache."),
]

FLAG_OF_FIELD = {
    "bases_via": "--stage",
    "eof_check": "--no-eof-check",
    "header": "--no-header",
    "thresholds": "--threshold",
    "shard_timeout_s": "--shard-timeout",
    "node_timeout_s": "--node-timeout",
    "max_runtime_s": "--max-runtime",
    "anchor_bp": "--anchor",
    "batch_windows": "--batch",
    "warmup_steps": "--warmup",
    "held_out": "--hold-out",
    "share": "--mask-share",
    "longest_hidden_bp": "--hidden-bp",
    "rank": "--lora-rank",
    "alpha": "--lora-alpha",
}
"""Flags that are not named after the field of Python they stand for; no field has two flags, on whatever command."""


_FIELDS = {"sheet"} | {
    f.name for options in (AnnotateOptions, ExecutionOptions, GenomeOptions, BedOptions) for f in fields(options)
}
_MENTION = re.compile(r"`(\w+)(?:=([^`]*))?`")


def in_flags(error: AnnotatorError) -> str:
    """The message of an error with the command line's flag in place of the field: `--threshold donor=2: ...`."""
    reason = with_flags(error.reason)
    if not error.field:
        return reason
    name, _, key = error.field.partition("[")
    key = key.strip("]\"'")
    if error.value is None:
        return f"{_flag(name)}: {reason}"
    value = f"{error.value:g}" if isinstance(error.value, float) else str(error.value)
    return f"{_flag(name)} {value if key in ('', EVERY_KIND) else f'{key}={value}'}: {reason}"


def with_flags(text: str) -> str:
    """A message with flags in place of the fields it mentions: `` `dup_names="suffix"` `` becomes `--dup-names suffix`."""
    return _MENTION.sub(_mentioned, text)


def _mentioned(found: re.Match[str]) -> str:
    name, value = found[1], found[2]
    if name not in _FIELDS:
        return found[0]
    return _flag(name) if value in (None, "True", "False") else f"{_flag(name)} {value.strip(chr(34))}"


def _flag(name: str) -> str:
    return FLAG_OF_FIELD.get(name, "--" + name.replace("_", "-"))


def comma_list(text: str) -> tuple[str, ...]:
    """Parts between commas, without the blanks around them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def thread_count(asked: int) -> int:
    """Threads to use; 0 stands for all CPUs this process may use (macOS only knows how many there are)."""
    check_count("threads", asked)
    return asked or usable_cpus()


def one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    """`value`, or UsageError where it is none of the choices."""
    if value not in choices:
        raise UsageError(f"{option} {value}: choose from {', '.join(choices)}")
    return value


def pairs(option: str, values: list[str] | None) -> dict[str, str]:
    """`NAME=VALUE`, repeatable, as a table.

    Raises:
        UsageError: One is not of this form, or a name comes twice.
    """
    table: dict[str, str] = {}
    for value in values or []:
        name, equals, rest = value.partition("=")
        if not (name and equals and rest) or name in table:
            raise UsageError(f"{option} {value}: give NAME=VALUE, each name once")
        table[name] = rest
    return table


def whole_numbers(option: str, values: dict[str, str]) -> dict[str, int]:
    """A table of `NAME=VALUE` options with whole numbers as values; UsageError where one is not."""
    try:
        return {name: int(value) for name, value in values.items()}
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def existing(option: str, path: Path | None) -> Path | None:
    """The path, or UsageError where there is no such file or folder."""
    if path is not None and not path.exists():
        raise UsageError(f"{option} {path}: no such file or folder")
    return path


def resolved_model(reference: str, *, allow_download: bool) -> str:
    """A model as the rest of the program takes it: a hub reference becomes the folder of its snapshot."""
    if not reference.startswith("hub:"):
        return reference
    from annotator.models.hub import resolve_reference

    return str(resolve_reference(reference, allow_download=allow_download))


def model_name(given: str, out: Path) -> str:
    """Name of a model that is to be made: the one given, or else the run folder's.

    Raises:
        UsageError: No line of a BED file can hold the name, or the folder's is that of a bundled model.
    """
    from annotator.models.directory import bundled_models

    name = given or out.resolve().name
    if not name.strip() or not name.isprintable():
        raise UsageError(f"--name: {name!r} is no name for a model; give one of printable letters")
    if name in bundled_models():
        if not given:
            raise UsageError(f"-o {out}: a model of that name would pass for the bundled one; give another with --name")
        logging.getLogger("annotator").warning(
            "--name %s: that is the name of a bundled model, which --model %s means", name, name
        )
    return name


def refuse_idle(options: dict[str, Any], belongs_to: str) -> None:
    """Raise UsageError where an option was given that nothing would look at."""
    if idle := [name for name, value in options.items() if value]:
        raise UsageError(f"{idle[0]}: only with {belongs_to}")


def json_table(path: Path | None) -> dict[str, Any]:
    """Contents of a JSON file that holds one object; nothing where there is no file."""
    if path is None:
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: not a JSON object")
    return raw
