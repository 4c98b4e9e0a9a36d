"""What a pre-training run trains: a network from scratch or from a checkpoint, with its tokenizer."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from annotator.errors import UsageError
from annotator.files import write_text
from annotator.models.checkpoints import read_checkpoint
from annotator.models.families.base import Architecture, LanguageModel, ModelFamily
from annotator.models.families.registry import family
from annotator.models.weights import plain_tensors
from annotator.tokens.batch import RowTokenizer
from annotator.tokens.bpe import train_bpe
from annotator.tokens.kmer_rows import KmerRows
from annotator.tokens.vocabulary_file import TOKENIZER_NAME
from annotator.training.pretrain.corpus import Corpus, tiled_rows
from annotator.training.pretrain.options import PretrainSettings
from annotator.training.run_folder import STATE_NAME

logger = logging.getLogger(__name__)

BPE_FAMILY = "dnabert2"
BPE_ROWS, BPE_ROW_BP = 10_000, 1000
"""Windows that a byte-pair vocabulary is learnt from, spread over the corpus, and their bases: at most 10 Mb."""


@dataclass(frozen=True)
class Subject:
    """What is trained.

    Attributes:
        family: Family of the network.
        architecture: The architecture it was built from.
        model: The network.
        tokenizer: Tokenizer of its vocabulary.
        licence: Licence of the weights.
        origin: Hash of the weights it started from; of random ones, "random".
    """

    family: ModelFamily
    architecture: Architecture
    model: LanguageModel
    tokenizer: RowTokenizer
    licence: str
    origin: str


def span_k(tokenizer: RowTokenizer) -> int | None:
    """Bases of a token where tokens overlap, so that spans have to be hidden; None where they lie side by side."""
    return tokenizer.vocabulary.k if isinstance(tokenizer, KmerRows) else None


def take_subject(settings: PretrainSettings, corpus: Corpus, folder: Path) -> Subject:
    """Build the network (random weights depend on the seed alone) or read the checkpoint.

    Args:
        settings: Settings of the run.
        corpus: What a byte-pair vocabulary is learnt from, unless the folder has one already.
        folder: Folder of the run; a byte-pair tokenizer is written there.

    Returns:
        The network on the CPU.

    Raises:
        AnnotatorError: Settings that do not fit together, or a bad checkpoint.
    """
    subject = _from_checkpoint(settings) if settings.checkpoint is not None else _from_scratch(settings, corpus, folder)
    longest = subject.tokenizer.longest_bp()
    if longest is not None and settings.corpus.window_bp > longest:
        raise UsageError(f"{subject.family.name} takes {longest} bp at most", "window_bp", settings.corpus.window_bp)
    if not subject.family.causal and subject.tokenizer.mask_id is None:
        raise UsageError(f"{subject.family.name}: the tokenizer has no mask token to pre-train with")
    count = sum(value.numel() for value in subject.model.parameters())
    logger.info("%s: %s parameters, %s", subject.family.title, f"{count:,}", subject.origin)
    return subject


def _from_checkpoint(settings: PretrainSettings) -> Subject:
    assert settings.checkpoint is not None
    for name in ("size", "architecture"):
        if getattr(settings, name):
            raise UsageError("not with a checkpoint, which brings its own architecture", name)
    found = read_checkpoint(settings.checkpoint, settings.family)
    if not found.has_lm_head:
        logger.warning("%s: no language model head; a random one is trained", settings.checkpoint)
    return Subject(found.family, found.architecture, found.model, found.tokenizer, found.licence, _hash(found.model))


def _from_scratch(settings: PretrainSettings, corpus: Corpus, folder: Path) -> Subject:
    if settings.family is None:
        raise UsageError("give a family to begin with, or a checkpoint to go on from", "family")
    chosen = family(settings.family)
    if settings.size and settings.size not in chosen.sizes:
        raise UsageError(f"{chosen.name} has {', '.join(chosen.sizes)}", "size", settings.size)
    architecture = chosen.sizes.get(settings.size, {}) | settings.architecture
    if not architecture:
        raise UsageError(f"give one of {', '.join(chosen.sizes)}, or an architecture", "size")
    try:
        torch.manual_seed(settings.train.seed)
        model = chosen.build(architecture)
        if chosen.name == BPE_FAMILY:
            _learn_bpe(corpus, architecture["vocab_size"], folder)
        tokenizer = chosen.tokenizer(architecture, folder)
    except (KeyError, TypeError, ValueError) as error:
        said = f"field {error} is missing" if isinstance(error, KeyError) else error
        raise UsageError(f"no {chosen.name} of this architecture: {said}") from None
    return Subject(chosen, architecture, model, tokenizer, settings.licence, "random")


def _learn_bpe(corpus: Corpus, vocabulary_size: int, folder: Path) -> None:
    """Write `tokenizer.json`, unless a run that is to go on has it; one that another run left behind is not trusted."""
    path = folder / TOKENIZER_NAME
    if not path.exists() or not (folder / STATE_NAME).exists():
        write_text(path, train_bpe(_sequences(corpus), vocabulary_size))
        logger.info("%s: %d byte-pair tokens learnt", path, vocabulary_size)


def _sequences(corpus: Corpus) -> Iterator[str]:
    length = min(BPE_ROW_BP, int(corpus.lengths.max()))
    for row in tiled_rows(corpus, length, BPE_ROWS):
        yield row.tobytes().decode("ascii")


def _hash(model: LanguageModel) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(plain_tensors(model).items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()
