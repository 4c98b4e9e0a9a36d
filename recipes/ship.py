"""One command from checkpoints to the bundled model: calibrated, thresholded, measured on validation data, with its card.

    python recipes/ship.py --data DATA --checkpoint vertebrate=run/model.safetensors -o annotator/models/bundled/compact

Every clade of ship.toml's cards gets the network of its checkpoint; without one it keeps the network that the present bundled
model has for it. Calibration and thresholds are set on the recipe's validation genomes of the clade, what decoys say of false
calls on those of all clades together that are no loci cut around genes. Last come the weights in whole numbers, for `int8`, from
the activations on the validation genomes. `python benchmarks/accuracy_tables.py` then measures the test splits and writes the
tables, and `python -m benchmarks.int8_accuracy` what whole numbers cost.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.cli.progress import setup_logging
from annotator.cli.recipe import read_recipe
from annotator.errors import AnnotatorError, UsageError
from annotator.evaluation.decoy_fit import annotated_ladders, fit_decoys
from annotator.labels.genomes import load_genome
from annotator.labels.labelled import LabelledGenome
from annotator.models.directory import read_model, write_model
from annotator.models.families.compact.merge import merge_clades
from annotator.models.families.compact.quantize import quantize_model
from annotator.models.families.compact.scan import load_compact
from annotator.models.manifest import MANIFEST_NAME, Manifest
from annotator.models.weights import read_safetensors, write_safetensors
from annotator.preflight import check_model_folder
from annotator.training.compact.export import export_model
from annotator.training.compact.options import TrainingSettings
from annotator.training.compact.start import first_network

DECOY_SAMPLE_BP = 3_000_000
"""Bases of each validation genome that are scanned beside decoys of themselves."""
HERE = Path(__file__).resolve().parent
logger = logging.getLogger("ship")


def with_decoy_fit(
    models: dict[str, Path], validation: dict[str, list[LabelledGenome]], named: Mapping[str, Sequence[str]]
) -> None:
    """Fit what decoys say of false calls, and write it into the models of the clades.

    Args:
        models: Model directory of each clade.
        validation: Validation genomes of each clade that are whole genomes or regions.
        named: Names of the genomes that each clade's fit is made on, of whatever clade; all of them for a clade that is absent.
    """
    every = {genome.name: (clade, genome) for clade, genomes in validation.items() for genome in genomes}
    wanted = {clade: named.get(clade, tuple(every)) for clade in models}
    ladders = {}
    for name in dict.fromkeys(name for names in wanted.values() for name in names):
        clade, genome = every[name]
        ladders[name] = annotated_ladders(*read_model(str(models[clade])), clade, genome, sample_bp=DECOY_SAMPLE_BP)
    for clade, folder in models.items():
        fits = fit_decoys([ladders[name] for name in wanted[clade]])
        logger.info("%s: decoys fitted on %s: %s", clade, ", ".join(wanted[clade]), {k.value: asdict(f) for k, f in fits.items()})
        path, manifest = read_model(str(folder))
        clades = manifest.clades | {clade: replace(manifest.clades[clade], decoy_fit=fits)}
        write_model(folder, replace(manifest, clades=clades, version=""), read_safetensors(path / manifest.weights))


def ship_clade(
    settings: TrainingSettings, clade: str, start: str, card: dict[str, str], folder: Path, spool: Path, steps: int
) -> list[LabelledGenome]:
    """Write a calibrated model of one clade; returns its validation genomes."""
    part = replace(settings.of_clade(clade), init=start)
    validation = [load_genome(organism, spool / f"{clade}-{organism.name}") for organism in part.validation]
    net = first_network(part)[0].eval()
    export_model(
        replace(part, init=card.get("begun from", "random weights")), net, [], validation, folder,
        device=torch.device("cpu"), steps=steps, clades_of=(clade,), card=card,
    )  # fmt: skip
    return validation


def contigs_of(genomes: Sequence[LabelledGenome]) -> list[NDArray[np.uint8]]:
    """The sequences of genomes."""
    return [contig for genome in genomes for contig in np.split(genome.bases, genome.contig_ends[:-1])]


def steps_of(manifest: Manifest | None, clade: str) -> int:
    """Steps of a clade's present network."""
    return int(manifest.training.get(clade, {}).get("steps_done", 0)) if manifest else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and turn errors into one line and an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--ship", type=Path, default=HERE / "ship.toml")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="CLADE=FILE")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args(argv)
    setup_logging(quiet=False, verbose=False)
    torch.set_num_threads(args.threads)
    try:
        _ship(args)
    except AnnotatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _ship(args: argparse.Namespace) -> None:
    check_model_folder(args.out, MANIFEST_NAME)
    plan = tomllib.loads(args.ship.read_text(encoding="utf-8"))
    settings = replace(read_recipe(args.ship.parent / plan["recipe"], args.data, plan["name"]), licence=plan["licence"])
    given = _checkpoints(args.checkpoint, list(plan["card"]))
    present = read_model(plan["name"]) if set(plan["card"]) - set(given) else None
    with tempfile.TemporaryDirectory(prefix="ship-") as scratch:
        models: dict[str, Path] = {}
        validation = {}
        for clade, card in plan["card"].items():
            start = given.get(clade, "")
            if not start:
                assert present is not None
                start = str(Path(scratch) / f"{clade}.safetensors")
                write_network(*present, clade, Path(start))
            words = {key: value for key, value in card.items() if key != "steps"}
            steps = card.get("steps", steps_of(present[1] if present else None, clade))
            models[clade] = Path(scratch) / clade
            validation[clade] = ship_clade(settings, clade, start, words, models[clade], Path(scratch), steps)
        centred = {organism.name for organism in settings.validation if organism.gene_centred}
        whole = {clade: [each for each in genomes if each.name not in centred] for clade, genomes in validation.items()}
        with_decoy_fit(models, whole, plan.get("decoys", {}))
        merged = merge_clades(
            list(map(str, models.values())), Path(scratch) / "merged", name=plan["name"], licence=plan["licence"],
            version=plan["version"],
        )  # fmt: skip
        quantize_model(str(merged), {clade: contigs_of(genomes) for clade, genomes in validation.items()}, args.out)
    logger.info("wrote %s", args.out)


def _checkpoints(values: Sequence[str], clades: Sequence[str]) -> dict[str, str]:
    """File per clade, from CLADE=FILE."""
    found: dict[str, str] = {}
    for value in values:
        clade, _, file = value.partition("=")
        if clade not in clades or not file:
            raise UsageError(f"not CLADE=FILE with a clade of the cards: {', '.join(clades)}", "--checkpoint", value)
        if clade in found:
            raise UsageError("the clade comes twice", "--checkpoint", value)
        found[clade] = file
    return found


def write_network(folder: Path, manifest: Manifest, clade: str, path: Path) -> None:
    """The bare checkpoint of a clade's network in a model, be it its own or that of all clades.

    Raises:
        UsageError: The model has no such clade.
    """
    if clade not in manifest.clades:
        raise UsageError(f"the present model {manifest.name} has no network for {clade}: give one", "--checkpoint")
    write_safetensors(path, load_compact(folder, manifest, clade).state_dict())


if __name__ == "__main__":
    sys.exit(main())
