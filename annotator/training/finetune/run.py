"""`annotator finetune`: labelled windows or genomes and a network in, a model directory out."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from annotator.errors import AnnotatorError, EnvironmentFault
from annotator.files import temporary_folder, write_text
from annotator.models.device import choose_device
from annotator.models.lora import need_peft
from annotator.training.finetune.base import Base
from annotator.training.finetune.compact_bases import compact_bases
from annotator.training.finetune.export import export_finetuned
from annotator.training.finetune.genomes import GenomeTask
from annotator.training.finetune.options import COMPACT, OTHER, FinetuneSettings, TableData, is_compact_network
from annotator.training.finetune.start import compact_base, family_base, finished, refuse_bad_base
from annotator.training.finetune.tables import TableTask
from annotator.training.finetune.task import FinetuneTask
from annotator.training.loop import Loop
from annotator.training.run_folder import locked
from annotator.training.task import Share

logger = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(hours=12)
"""Time that processes wait for the one that validates."""
MEETING_NAME = "meeting"
"""File by which the processes of a run find each other."""
FAULT_NAME = "fault.json"
"""File in which a process that met an expected fault says so: exit code and message."""


def run_finetuning(settings: FinetuneSettings, out: Path, *, device: str, threads: int) -> Path:
    """Fine-tune (or go on with it), calibrate on the dev data, and write `<out>/model`.

    Args:
        settings: What to learn, from what, and how.
        out: Run folder: checkpoints, metrics.jsonl, and the finished model.
        device: auto, cpu, cuda or cuda:N; with several processes, cuda stands for as many GPUs.
        threads: CPU threads of each process.

    Returns:
        The model directory.

    Raises:
        AnnotatorError: Bad files, options or device, or a folder that holds another run.
    """
    refuse_bad_base(settings)
    if settings.lora is not None:
        need_peft()
    chosen = choose_device(device)
    processes = settings.options.processes
    if processes > 1 and chosen != "cpu" and torch.cuda.device_count() < processes:
        raise EnvironmentFault(f"{processes} processes need as many GPUs; there are {torch.cuda.device_count()}")
    with locked(out):
        if processes == 1:
            _learn(settings, out, chosen, threads, Share())
        else:
            _prepare(settings, torch.device("cpu"), out)  # what is wrong is said here, in one line, not in every process
            _learn_together(settings, out, torch.device(chosen).type, threads)
    return out / "model"


def _learn_together(settings: FinetuneSettings, out: Path, kind: str, threads: int) -> None:
    """Learn in several processes, and raise in this one what ends one of them; none of them outlives this."""
    meeting, fault = out / MEETING_NAME, out / FAULT_NAME
    for left in (meeting, fault):  # by a run that was killed
        left.unlink(missing_ok=True)
    arguments = (settings, out, kind, threads, meeting.resolve().as_uri())
    started = spawn(_one_of_several, arguments, settings.options.processes, join=False, daemon=True)  # type: ignore[no-untyped-call]
    try:
        while not started.join():
            pass
    except (ProcessExitedException, ProcessRaisedException) as ended:
        raise _error_of(ended, out) from None
    finally:
        for process in started.processes:  # a signal ends this process alone; the others would go on, and it wait for them
            process.terminate()
            process.join()
        for left in (meeting, fault):
            left.unlink(missing_ok=True)


def _error_of(ended: ProcessExitedException | ProcessRaisedException, out: Path) -> AnnotatorError:
    """What ended the processes, in one line: the expected fault that one of them wrote down, or how the first one ended."""
    path = out / FAULT_NAME
    if path.exists():
        code, message = json.loads(path.read_text(encoding="utf-8"))
        known = {kind.exit_code: kind for kind in AnnotatorError.__subclasses__()}
        return known.get(code, AnnotatorError)(message)
    if isinstance(ended, ProcessExitedException):
        return AnnotatorError(f"{out}: process {ended.error_index} ended with code {ended.exit_code}")
    return AnnotatorError(f"{out}: process {ended.error_index}: {str(ended).strip().splitlines()[-1]}")


def _one_of_several(rank: int, settings: FinetuneSettings, out: Path, kind: str, threads: int, meeting: str) -> None:
    """What each process runs: its share of every batch; the first one also validates and writes."""
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR, format="%(message)s")
    device = kind if kind == "cpu" else f"{kind}:{rank}"
    if kind == "cpu":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all on one machine
    else:
        torch.cuda.set_device(rank)
    share = Share(rank, settings.options.processes)
    torch.distributed.init_process_group(
        "gloo" if kind == "cpu" else "nccl", init_method=meeting, rank=rank, world_size=share.processes,
        timeout=LONGEST_WAIT,
    )  # fmt: skip
    try:
        _learn(settings, out, device, threads, share)
    except AnnotatorError as error:
        write_text(out / FAULT_NAME, json.dumps([error.exit_code, str(error)]))
        sys.exit(error.exit_code)
    finally:
        torch.distributed.destroy_process_group()


def _learn(settings: FinetuneSettings, out: Path, device: str, threads: int, share: Share) -> None:
    torch.set_num_threads(threads)
    chosen = torch.device(device)
    base, task = _prepare(settings, chosen, out)
    loop = Loop(base.net, task, out, identity=_identity(settings, base, task), device=chosen, share=share)
    loop.run()
    if share.rank == 0:
        loop.load_final_weights()
        model = finished(base.model, lora=settings.lora is not None)
        best_step = loop.best.step if loop.best else loop.step
        described = {"data": task.described, "best_step": best_step, "steps_done": loop.step, "device": chosen.type}
        export_finetuned(settings, base, model, task.outcome(base.net), described, out / "model")


def _prepare(settings: FinetuneSettings, device: torch.device, out: Path) -> tuple[Base, FinetuneTask]:
    """The network with its first weights, the same in every process and at every start, and the task."""
    options, data = settings.options, settings.data
    torch.manual_seed(options.seed)
    if isinstance(data, TableData):
        table = TableTask(data, options, settings.clade, device)
        classes = len(table.task.classes)
        if settings.base == COMPACT:
            directionless = set(table.task.classes) - {OTHER} == set(table.features)
            longest = max(len(sequence) for sequence in table.train.sequences)
            return compact_base(settings, window_bp=longest, classes=classes, both_strands=directionless), table
        return family_base(settings, outputs=classes, window=True), table
    with temporary_folder(out) as spool:
        genomes = GenomeTask(data, options, settings.clade, device, spool)
    if is_compact_network(settings.base):
        base = compact_bases(settings, genomes.tracks)
    else:
        base = family_base(settings, outputs=len(genomes.tracks), window=False)
    genomes.suit(base)
    return base, genomes


def _identity(settings: FinetuneSettings, base: Base, task: FinetuneTask) -> dict[str, Any]:
    """What makes a run this run, beside its options: a resumed one must agree."""
    return {
        **base.described, "family": base.family, "architecture": base.architecture, "data_sha256": task.hashes,
        "lora": asdict(settings.lora) if settings.lora else None, **task.drawn,
    }  # fmt: skip
