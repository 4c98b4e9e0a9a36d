"""`annotator pretrain`: genomes in, a language model's checkpoint out.

A run's folder holds its state (`run_state`), metrics.jsonl, tokenizer.json for byte-pair families, and in the end `checkpoint/`.
Killed and started again, it goes on and ends with the same weights, on a CPU to the bit.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from annotator.errors import ModelFault, UsageError
from annotator.models.checkpoints import write_checkpoint
from annotator.models.device import choose_device
from annotator.models.weights import plain_tensors
from annotator.training.pretrain.corpus import Corpus, Tiles, draw_rows, read_corpus, tiled_rows
from annotator.training.pretrain.hidden_bits import hidden_bits, make_probe, markov_bits
from annotator.training.pretrain.markov import fit_markov
from annotator.training.pretrain.masking import IGNORED, Guess, known_tokens, mask_spans, mask_tokens, next_tokens
from annotator.training.pretrain.options import CorpusOptions, PretrainSettings
from annotator.training.pretrain.subject import Subject, span_k, take_subject
from annotator.training.run_folder import (
    append_metrics,
    forget_metrics_after,
    load_optimizer,
    locked,
    optimizer_tensors,
    read_state,
    refuse_another_run,
    with_prefix,
    without_prefix,
    write_state,
)

logger = logging.getLogger(__name__)

MARKOV_ORDER = 5
MAY_CHANGE = ("checkpoint_steps", "validate_steps")
LOG_STEPS = 100

Validate = Callable[[Subject], dict[str, float]]


def run_pretraining(settings: PretrainSettings, out: Path, *, device: str, threads: int) -> Path:
    """Pre-train (or go on with it) and write `<out>/checkpoint`.

    Args:
        settings: What on, what, and how long.
        out: Run folder.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads.

    Returns:
        The checkpoint directory, for `annotator finetune` and `read_checkpoint`.

    Raises:
        AnnotatorError: Bad files, options or device, or a folder that holds another run.
    """
    chosen = torch.device(choose_device(device))
    torch.set_num_threads(threads)
    with locked(out):
        corpus, validation = _read(settings.corpus, out / "spool")
        subject = take_subject(settings, corpus, out)
        subject.model.to(chosen)
        trainer = Pretrainer(
            subject, corpus, settings, out, device=chosen, validate=_validation(settings, subject, corpus, validation, chosen)
        )
        trainer.run()
        return write_checkpoint(
            out / "checkpoint", subject.family, subject.architecture, subject.model.cpu().eval(),
            licence=subject.licence, tokenizer_json=getattr(subject.tokenizer, "text", None),
        )  # fmt: skip


class Pretrainer:
    """The loop of one run in its folder."""

    def __init__(
        self,
        subject: Subject,
        corpus: Corpus,
        settings: PretrainSettings,
        folder: Path,
        *,
        device: torch.device,
        validate: Validate,
    ) -> None:
        """Set up, and resume if the folder holds a checkpoint.

        Args:
            subject: What is trained, on `device`.
            corpus: To learn from.
            settings: Of the run.
            folder: Of the run.
            device: Where to compute.
            validate: Gives figures of the network as it is.

        Raises:
            UsageError: The folder holds another run.
        """
        self.subject, self.corpus, self.settings, self.folder = subject, corpus, settings, folder
        self.device, self.validate = device, validate
        options = settings.train
        matrices = [p for p in subject.model.parameters() if p.ndim > 1]
        rest = [p for p in subject.model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": options.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=options.learning_rate, betas=(0.9, 0.98), eps=1e-6,
        )  # fmt: skip
        of = settings.corpus
        self._tiles = (
            Tiles(corpus, of.window_bp, max_n_share=of.max_n_share, seed=options.seed) if of.windows == "tiled" else None
        )
        self.step = 0
        self._resume()

    def run(self) -> None:
        """Train to the last step."""
        options = self.settings.train
        if self.step == 0:
            self._log({"step": 0, **self.validate(self.subject)})
        losses: list[float] = []
        began, tokens = time.monotonic(), 0
        while self.step < options.steps:
            loss, shown = self._one_step()
            losses.append(loss)
            tokens += shown
            if self.step % LOG_STEPS == 0 or self.step == options.steps:
                speed = tokens / (time.monotonic() - began)
                self._log({"step": self.step, "loss": sum(losses) / len(losses), "tokens_per_s": round(speed)})
                losses, began, tokens = [], time.monotonic(), 0
            done = self.step == options.steps
            if done or self.step % options.validate_steps == 0:
                self._log({"step": self.step, **self.validate(self.subject)})
                began, tokens = time.monotonic(), 0
            if done or self.step % options.checkpoint_steps == 0:
                self._save()

    def _one_step(self) -> tuple[float, int]:
        """One update; the mean loss of a guessed token in nats, and the tokens shown."""
        options, model = self.settings.train, self.subject.model
        torch.manual_seed(int(np.random.SeedSequence([options.seed, self.step]).generate_state(1)[0]))  # dropout
        rng = np.random.default_rng([options.seed, self.step])
        guess, attended = self._batch(rng)
        guessed = int((guess.targets != IGNORED).sum())
        for group in self.optimizer.param_groups:
            group["lr"] = options.rate(self.step)
        model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        parts = zip(*(torch.tensor_split(x, options.accumulation) for x in (guess.ids, guess.targets, attended)), strict=True)
        for ids, targets, mask in parts:
            places = targets != IGNORED
            with torch.autocast(self.device.type, torch.bfloat16, enabled=options.bf16):
                logits = model.lm_head(model.backbone(ids, mask)[places])
            loss = F.cross_entropy(logits.float(), targets[places], reduction="sum") / max(1, guessed)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
        self.optimizer.step()
        self.step += 1
        value = float(total)
        if not math.isfinite(value):
            raise ModelFault(f"{self.folder}: the loss is {value} at step {self.step}; a lower learning rate may help")
        return value, int(attended.sum())

    def _batch(self, rng: np.random.Generator) -> tuple[Guess, torch.Tensor]:
        """Windows of a step on the device, tokenised and masked, and where they have tokens."""
        tokenizer = self.subject.tokenizer
        rows = torch.from_numpy(self._rows(rng)).to(self.device)
        tokens = tokenizer.encode(rows)
        if tokenizer.max_tokens is not None and tokens.ids.shape[1] > tokenizer.max_tokens:
            # Ns cost tokens of their own; what does not fit is another window's.
            tokens = tokens.take(torch.arange(len(tokens), device=self.device), tokenizer.max_tokens)
        known = known_tokens(tokens, rows)
        if self.subject.family.causal:
            guess = next_tokens(tokens, known)
        else:
            assert tokenizer.mask_id is not None  # take_subject has seen to it
            mask, k = self.settings.mask, span_k(tokenizer)
            if k is None:
                guess = mask_tokens(tokens, known, mask, mask_id=tokenizer.mask_id, rng=rng)
            else:
                guess = mask_spans(tokens, known, mask, k=k, mask_id=tokenizer.mask_id, rng=rng)
        return guess, tokens.attention_mask

    def _rows(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        of, count = self.settings.corpus, self.settings.train.batch_rows
        if self._tiles is not None:
            return self._tiles.rows(self.step, count)
        return draw_rows(self.corpus, of.window_bp, count, max_n_share=of.max_n_share, rng=rng)

    def _save(self) -> None:
        tensors = with_prefix("model", plain_tensors(self.subject.model))
        tensors |= with_prefix("optimizer", optimizer_tensors(self.optimizer))
        write_state(self.folder, self.step, tensors, {"settings": self._identity()})

    def _resume(self) -> None:
        found = read_state(self.folder, self.device)
        if found is None:
            forget_metrics_after(self.folder, -1)
            return
        state, tensors = found
        refuse_another_run(self.folder, state["settings"], self._identity(), MAY_CHANGE)
        place = self.subject.model.state_dict()
        with torch.no_grad():
            for name, value in without_prefix("model", tensors).items():
                place[name].copy_(value)
        load_optimizer(self.optimizer, without_prefix("optimizer", tensors))
        self.step = int(state["step"])
        forget_metrics_after(self.folder, self.step)
        logger.info("resumed at step %d", self.step)

    def _identity(self) -> dict[str, Any]:
        """What makes a run this run."""
        settings, subject = self.settings, self.subject
        corpus = asdict(settings.corpus) | {"fasta": list(self.corpus.sha256.values())}
        corpus = {key: value for key, value in corpus.items() if not key.startswith("val_")}
        return (
            {"family": subject.family.name, "architecture": subject.architecture, "origin": subject.origin}
            | corpus | asdict(settings.mask) | asdict(settings.train)
        )  # fmt: skip

    def _log(self, row: dict[str, float]) -> None:
        append_metrics(self.folder, row)
        logger.info(" ".join(f"{key} {value:.5g}" for key, value in row.items()))


def _read(options: CorpusOptions, spool: Path) -> tuple[Corpus, Corpus]:
    """The corpus and the validation contigs, in memory."""
    if not options.fasta:
        raise UsageError("nothing to learn from: no FASTA given")
    if options.val_fasta and options.held_out:
        raise UsageError("--val-fasta and --hold-out: give one of them")
    try:
        corpus, validation = read_corpus(options.fasta, spool / "train", held_out=options.held_out)
        if options.val_fasta:
            validation, _ = read_corpus(options.val_fasta, spool / "val")
    finally:
        shutil.rmtree(spool, ignore_errors=True)
    if not len(corpus.bases):
        raise UsageError("nothing to learn from: no contig, or every one held out")
    if not len(validation.bases):
        raise UsageError("nothing to validate on: give --val-fasta or --hold-out")
    logger.info("%s bp to learn from, %s bp to validate on", f"{len(corpus.bases):,}", f"{len(validation.bases):,}")
    return corpus, validation


def _validation(
    settings: PretrainSettings, subject: Subject, corpus: Corpus, validation: Corpus, device: torch.device
) -> Validate:
    """What is watched: perplexity and bits for a hidden base of the validation contigs, beside the Markov models' bits."""
    rows = tiled_rows(validation, settings.corpus.window_bp, settings.corpus.val_rows)
    try:
        probe = make_probe(rows, subject.tokenizer, causal=subject.family.causal)
    except ValueError as error:
        raise UsageError(f"--window-bp {settings.corpus.window_bp}: {error}") from None
    rivals = {
        "val_markov_bits": markov_bits(probe, fit_markov(corpus, left=MARKOV_ORDER)),
        "val_two_sided_bits": markov_bits(probe, fit_markov(corpus, left=MARKOV_ORDER, right=MARKOV_ORDER)),
    }

    def validate(subject: Subject) -> dict[str, float]:
        subject.model.eval()
        batch = math.ceil(settings.train.batch_rows / settings.train.accumulation)
        found = hidden_bits(subject.model, probe, subject.tokenizer, rows=batch, device=device, bf16=settings.train.bf16)
        figures = {"val_bits": found.bits, **rivals, "val_perplexity": found.perplexity, "val_bases": found.bases}
        return figures

    return validate
