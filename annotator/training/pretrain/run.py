"""`annotator pretrain`: genomes in, a language model's checkpoint out.

A run's folder holds its state (`run_folder`), metrics.jsonl, tokenizer.json for byte-pair families, and in the end `checkpoint/`.
Killed and started again, it goes on and ends with the same weights, on a CPU to the bit.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.errors import UsageError
from annotator.files import temporary_folder
from annotator.models.checkpoints import write_checkpoint
from annotator.models.device import choose_device
from annotator.models.families.base import LanguageModel
from annotator.models.hub import checkpoint_folder
from annotator.training.loop import Loop
from annotator.training.pretrain.corpus import Corpus, Tiles, draw_rows, read_corpus, tiled_rows
from annotator.training.pretrain.hidden_bits import Probe, hidden_bits, make_probe, markov_bits
from annotator.training.pretrain.markov import fit_markov
from annotator.training.pretrain.masking import IGNORED, Guess, known_tokens, mask_spans, mask_tokens, next_tokens
from annotator.training.pretrain.options import CorpusOptions, PretrainSettings
from annotator.training.pretrain.subject import Subject, span_k, take_subject
from annotator.training.run_folder import locked
from annotator.training.task import PartLoss, Share, Task

logger = logging.getLogger(__name__)

MARKOV_ORDER = 5
"""Bases at a side that the Markov models beside the network look at."""


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
    if settings.checkpoint is not None:
        checkpoint_folder(str(settings.checkpoint))
    chosen = torch.device(choose_device(device))
    torch.set_num_threads(threads)
    with locked(out):
        corpus, validation = _read(settings.corpus, out)
        subject = take_subject(settings, corpus, out)
        task = PretrainTask(subject, corpus, validation, settings, chosen)
        loop = Loop(subject.model, task, out, identity=_identity(settings, subject, corpus), device=chosen)
        loop.run()
        loop.load_final_weights()
        return write_checkpoint(
            out / "checkpoint", subject.family, subject.architecture, subject.model.cpu(),
            licence=subject.licence, files=subject.tokenizer.files,
        )  # fmt: skip


class PretrainTask(Task):
    """The tokens of windows of a corpus: hidden ones, or each after those before it. There is no score: the last weights stay."""

    may_change = ("checkpoint_steps", "validate_steps")
    validates_first = True

    def __init__(
        self, subject: Subject, corpus: Corpus, validation: Corpus, settings: PretrainSettings, device: torch.device
    ) -> None:
        """Choose what is validated, and measure the Markov models on it.

        Args:
            subject: What is trained.
            corpus: Contigs to learn from.
            validation: Contigs to validate on.
            settings: Settings of the run.
            device: Where to compute.

        Raises:
            UsageError: The windows are too short.
            InputError: There is no window of that length.
        """
        self.options = self._train = settings.train
        self._subject, self._corpus, self._mask, self._device = subject, corpus, settings.mask, device
        self._bf16 = settings.train.autocasts(device.type)
        windows = self._windows = settings.corpus
        self._probe = _probe(windows, subject, validation)
        self._rivals = {
            "val_markov_bits": markov_bits(self._probe, fit_markov(corpus, left=MARKOV_ORDER)),
            "val_two_sided_bits": markov_bits(self._probe, fit_markov(corpus, left=MARKOV_ORDER, right=MARKOV_ORDER)),
        }
        self._tiles = None
        if windows.windows == "tiled":
            self._tiles = Tiles(corpus, windows.window_bp, max_n_share=windows.max_n_share, seed=settings.train.seed)

    def losses(self, net: nn.Module, step: int, share: Share) -> Iterator[PartLoss]:
        """See `Task`: the mean loss of a guessed token in nats, in as many parts as `accumulation` says, in one process."""
        assert isinstance(net, LanguageModel)
        guess, attended = self._batch(step)
        guessed = max(1, int((guess.targets != IGNORED).sum()))
        split = (torch.tensor_split(values, self._train.accumulation) for values in (guess.ids, guess.targets, attended))
        for ids, targets, mask in zip(*split, strict=True):
            places = targets != IGNORED
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
                logits = net.lm_head(net.backbone(ids, mask)[places])
            loss = F.cross_entropy(logits.float(), targets[places], reduction="sum") / guessed
            yield PartLoss(loss, work={"tokens": int(mask.sum())})

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Perplexity, and bits for a hidden base of the validation contigs, beside those of the Markov models."""
        assert isinstance(net, LanguageModel)
        rows = math.ceil(self._train.batch_windows / self._train.accumulation)
        found = hidden_bits(net, self._probe, self._subject.tokenizer, rows=rows, device=self._device, bf16=self._bf16)
        return {"val_bits": found.bits, **self._rivals, "val_perplexity": found.perplexity, "val_bases": found.bases}

    def seed_torch(self, step: int, rank: int) -> None:
        """Seed dropout; the figures that the documentation states were measured with these seeds."""
        torch.manual_seed(int(np.random.SeedSequence([self.options.seed, step]).generate_state(1)[0]))

    def _batch(self, step: int) -> tuple[Guess, Tensor]:
        """Windows of a step on the device, tokenised and masked, and where they have tokens."""
        tokenizer, rng = self._subject.tokenizer, np.random.default_rng([self.options.seed, step])
        rows = torch.from_numpy(self._rows(step, rng)).to(self._device)
        tokens = tokenizer.encode(rows)
        if tokenizer.max_tokens is not None and tokens.ids.shape[1] > tokenizer.max_tokens:
            # Ns cost tokens of their own; what does not fit is another window's.
            tokens = tokens.take(torch.arange(len(tokens), device=self._device), tokenizer.max_tokens)
        known = known_tokens(tokens, rows)
        if self._subject.family.causal:
            guess = next_tokens(tokens, known)
        else:
            assert tokenizer.mask_id is not None  # take_subject has seen to it
            k = span_k(tokenizer)
            if k is None:
                guess = mask_tokens(tokens, known, self._mask, mask_id=tokenizer.mask_id, rng=rng)
            else:
                guess = mask_spans(tokens, known, self._mask, k=k, mask_id=tokenizer.mask_id, rng=rng)
        return guess, tokens.attention_mask

    def _rows(self, step: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Bases of a step's windows, uint8, [R, L]."""
        if self._tiles is not None:
            return self._tiles.rows(step, self.options.batch_windows)
        windows = self._windows
        return draw_rows(
            self._corpus, windows.window_bp, self.options.batch_windows, max_n_share=windows.max_n_share, rng=rng
        )  # fmt: skip


def _probe(windows: CorpusOptions, subject: Subject, validation: Corpus) -> Probe:
    """Windows of the validation contigs with what has to be guessed in them."""
    rows = tiled_rows(validation, windows.window_bp, windows.val_rows)
    try:
        return make_probe(rows, subject.tokenizer, causal=subject.family.causal)
    except ValueError as error:
        raise UsageError(str(error), "window_bp", windows.window_bp) from None


def _identity(settings: PretrainSettings, subject: Subject, corpus: Corpus) -> dict[str, Any]:
    """What makes a run this run, beside its options: a resumed one must agree."""
    data = asdict(settings.corpus) | {"fasta": list(corpus.sha256.values())}
    data = {key: value for key, value in data.items() if not key.startswith("val_")}
    network = {"family": subject.family.name, "architecture": subject.architecture, "origin": subject.origin}
    return {**network, **data, **asdict(settings.mask)}


def _read(options: CorpusOptions, out: Path) -> tuple[Corpus, Corpus]:
    """The corpus and the validation contigs, in memory."""
    if not options.fasta:
        raise UsageError("nothing to learn from: no FASTA given")
    if options.val_fasta and options.held_out:
        raise UsageError("not together with contigs that are held out", "val_fasta")
    with temporary_folder(out) as spool:
        corpus, validation = read_corpus(options.fasta, spool / "train", held_out=options.held_out)
        if options.val_fasta:
            validation, _ = read_corpus(options.val_fasta, spool / "val")
    if not len(corpus.bases):
        raise UsageError("nothing to learn from: no contig, or every one held out")
    if not len(validation.bases):
        raise UsageError("nothing to validate on: give a genome, or hold contigs out", "val_fasta")
    logger.info("%s bp to learn from, %s bp to validate on", f"{len(corpus.bases):,}", f"{len(validation.bases):,}")
    return corpus, validation
