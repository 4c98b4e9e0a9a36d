r"""Train a model of bound sites from ChIP-seq peaks.

    python -m annotator.training.bound --fasta train.fa.gz --peaks CTCF=ctcf.bed.gz --val-fasta val.fa.gz \
        --val-peaks CTCF=val.ctcf.bed.gz -o model/

Peaks are BED or narrowPeak; `annotator annotate --bound model/` uses the model.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from annotator.errors import AnnotatorError, InputError, UsageError
from annotator.files import file_sha256
from annotator.genome.options import GenomeOptions
from annotator.genome.source import open_genome
from annotator.kinds import CLADES, DEFAULT_CLADE
from annotator.models.bound.manifest import BOUND_JSON, BoundConfig, BoundManifest
from annotator.models.bound.net import write_bound
from annotator.models.weights import WEIGHTS_NAME
from annotator.motifs.jaspar_release import CLADE_TAXA, jaspar_motifs
from annotator.motifs.options import release_named
from annotator.motifs.read import read_motifs
from annotator.motifs.scan import MotifScanner
from annotator.preflight import check_model_folder
from annotator.training.bound.hits import LabelledHits, labelled_hits
from annotator.training.bound.options import BoundTraining
from annotator.training.bound.run import learn

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and turn errors into one line and an exit code."""
    parser = argparse.ArgumentParser(
        "python -m annotator.training.bound", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--fasta", required=True, help="genome to learn from")
    parser.add_argument("--peaks", required=True, action="append", help="FACTOR=FILE, repeatable; named as the motifs are")
    parser.add_argument("--val-fasta", required=True, help="genome that chooses the epoch and settles the calibration")
    parser.add_argument("--val-peaks", required=True, action="append", help="FACTOR=FILE on that genome")
    parser.add_argument("--motifs", default="jaspar", help="'jaspar', one of a year ('jaspar2024'), or a motif file")
    parser.add_argument("--clade", default=DEFAULT_CLADE, choices=CLADES, help="clade of the data")
    parser.add_argument("--hit-pvalue", type=float, default=1e-4, help="largest p-value of a hit")
    parser.add_argument("--name", default="", help="name of the model; that of its folder by default")
    parser.add_argument("--licence", default="not stated", help="SPDX identifier of the weights")
    parser.add_argument("--epochs", type=int, default=BoundTraining.epochs)
    parser.add_argument("--batch-hits", type=int, default=BoundTraining.batch_hits, help="hits of a step")
    parser.add_argument("--seed", type=int, default=BoundTraining.seed)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the model")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        _train(args)
    except AnnotatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _train(args: argparse.Namespace) -> None:
    check_model_folder(args.out, BOUND_JSON)
    torch.set_num_threads(args.threads)
    options, config = BoundTraining(epochs=args.epochs, batch_hits=args.batch_hits, seed=args.seed), BoundConfig()
    peaks, val_peaks = _by_factor("peaks", args.peaks), _by_factor("val_peaks", args.val_peaks)
    if list(peaks) != list(val_peaks):
        raise UsageError(f"of {', '.join(val_peaks)}, but `peaks` are of {', '.join(peaks)}", "val_peaks")
    if source := release_named(args.motifs):
        motifs = [motif for taxon in CLADE_TAXA[args.clade] for motif in jaspar_motifs(taxon, source)]
    else:
        motifs, source = read_motifs(Path(args.motifs)), Path(args.motifs).name
    motifs = [motif for motif in motifs if motif.name.upper() in peaks]
    for factor in peaks:
        if factor not in {motif.name.upper() for motif in motifs}:
            raise InputError(f"{args.motifs}: no motif is named {factor}")
    scanner = MotifScanner(motifs, p_value=args.hit_pvalue)
    train, val = (
        _hits(fasta, scanner, files, config.window_bp) for fasta, files in ((args.fasta, peaks), (args.val_fasta, val_peaks))
    )
    model, calibration, figures = learn(train, val, list(peaks), scanner, options, config)
    training = {
        "hits": len(train), "bound": int(train.bound.sum()), "fasta_sha256": file_sha256(Path(args.fasta)),
        "peaks_sha256": {factor: file_sha256(path) for factor, path in peaks.items()},
        "motifs": [motif.matrix_id for motif in motifs], "motif_source": source, "options": asdict(options),
        "label": "a hit is bound where it lies wholly inside a ChIP-seq peak of its factor",
    }  # fmt: skip
    manifest = BoundManifest(
        name=args.name or args.out.resolve().name, version="", licence=args.licence, weights=WEIGHTS_NAME, weights_sha256="",
        clades=(args.clade,), factors=calibration, hit_pvalue=args.hit_pvalue, architecture=config, training=training,
        metrics={"validation": figures},
    )  # fmt: skip
    written = write_bound(args.out, manifest, model)
    logger.info("%s: version %s", args.out, written.version)


def _by_factor(field: str, values: Sequence[str]) -> dict[str, Path]:
    """File per factor, factors in capitals, from FACTOR=FILE."""
    found: dict[str, Path] = {}
    for value in values:
        factor, equals, path = value.partition("=")
        if not (factor and equals and path):
            raise UsageError("not FACTOR=FILE", field, value)
        if factor.upper() in found:
            raise UsageError("the factor comes twice", field, value)
        found[factor.upper()] = Path(path)
    return found


def _hits(fasta: str, scanner: MotifScanner, peaks: dict[str, Path], window_bp: int) -> LabelledHits:
    with tempfile.TemporaryDirectory() as spool:
        genome = open_genome(fasta, Path(spool), GenomeOptions())
        try:
            return labelled_hits(genome, scanner, peaks, window_bp)
        finally:
            genome.close()


if __name__ == "__main__":
    sys.exit(main())
