"""The command `annotator doctor`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from annotator.cli.progress import setup_logging
from annotator.cli.values import Device, Threads, thread_count
from annotator.errors import EnvironmentFault


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
