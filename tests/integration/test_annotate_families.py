"""Every published family through the whole path, FASTA to BED and Parquet, and the coordinates on the way."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from annotator.cli.app import main
from annotator.errors import InputError
from annotator.genome.options import GenomeOptions
from annotator.genome.source import open_genome
from annotator.models import task_models, token_inference
from annotator.models.families.base import Backbone
from annotator.models.loading import load_scan_model
from annotator.models.manifest import read_manifest
from annotator.models.task_heads import HeadOptions, TaskModel
from annotator.models.token_inference import TokenScanner
from annotator.pipeline.executors.machine import Machine
from annotator.pipeline.options import AnnotateOptions
from annotator.pipeline.request import resolve
from annotator.pipeline.run_plan import make_plan
from annotator.pipeline.worker import shard_worker as worker
from annotator.tokens.batch import RowTokenizer
from annotator.tokens.bpe import BpeTokenizer
from annotator.tokens.kmer_chunks import KmerChunks
from annotator.tokens.kmer_rows import KmerRows
from tests.support.family_models import CASES, write_family_model
from tests.support.runs import plant, random_bases, revcomp, write_fasta

DONOR, ACCEPTOR, TSS = "AAGGTA", "AGCATC", "TATTCA"
WORDS = {"donor": DONOR, "acceptor": ACCEPTOR, "tss": TSS, "CTCF": "CCGATGA"}
"""A word stands with its third letter on the base its track calls; a CTCF word is the feature, 20 bp around its third letter."""
WIDEST = 32


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def digests(folder: Path) -> dict[str, str]:
    names = [path for path in sorted(folder.iterdir()) if path.suffix in (".gz", ".parquet", ".csi", ".tbi")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two contigs of odd lengths and a short one, with runs of N and a few IUPAC letters."""
    folder = tmp_path_factory.mktemp("genome")
    long = random_bases(3001, 1)
    long = long[:700] + "N" * 400 + long[1100:1500] + "R" + long[1501:2000] + "NAN" * 30 + long[2090:]
    return write_fasta(folder / "genome.fa", {"one": long, "two": random_bases(1003, 2), "three": random_bases(37, 3)})


@pytest.mark.parametrize("window", [False, True], ids=["bases", "windows"])
@pytest.mark.parametrize("case", CASES)
def test_a_random_checkpoint_runs_from_fasta_to_files(case: str, window: bool, genome: Path, tmp_path: Path) -> None:
    model = write_family_model(tmp_path / "model", case, window=window, threshold=0.1 if window else 0.3)
    out = tmp_path / "out"
    assert run("annotate", genome, "-o", out, "--model", model, "--device", "cpu", "-t", 1, "-q", "--tfbs-pvalue", "1e-9") == 0
    table = pl.read_parquet(out / "predictions.parquet").filter(pl.col("motif_id").is_null())
    assert len(table) > 20
    assert set(table["strand"]) == {"+", "-"}
    assert table["model"].unique().to_list() == [f"{case}-tiny"]
    assert table["probability"].null_count() == 0
    named = table.filter(pl.col("kind") == "tfbs")
    assert set(named["name"]) == {"CTCF"}
    assert ((named["end"] - named["start"]) == (48 if window else 20)).all()
    again = tmp_path / "again"
    assert run("annotate", genome, "-o", again, "--model", model, "--device", "cpu", "-t", 1, "-q", "--tfbs-pvalue", "1e-9") == 0
    assert digests(out) == digests(again)


class Spell(Backbone):
    """The vector of a token is its letters; nothing else is known of the bases."""

    def __init__(self, tokenizer: RowTokenizer) -> None:
        super().__init__()
        self.hidden = WIDEST
        table = torch.zeros(tokenizer.vocabulary_size, WIDEST)
        for token_id, letters in _letters(tokenizer).items():
            table[token_id, : len(letters)] = torch.tensor(list(letters.encode()))
        self.register_buffer("table", table)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        spelt: Tensor = self.table[ids]  # type: ignore[index]
        return spelt


def _letters(tokenizer: RowTokenizer) -> dict[int, str]:
    if isinstance(tokenizer, KmerRows):
        vocabulary = tokenizer.vocabulary
        return {i: kmer for i in range(vocabulary.size) if (kmer := vocabulary.decode(i))}
    if isinstance(tokenizer, KmerChunks):
        kmers = tokenizer.vocabulary
        singles = {tokenizer.ids.first_single_id + i: base for i, base in enumerate("ATCG")}
        return {i: kmer for i in range(kmers.size) if (kmer := kmers.decode(i))} | singles
    assert isinstance(tokenizer, BpeTokenizer)
    return {i: token for token, i in tokenizer._encoder.get_vocab().items() if not token.startswith("[")}


class FindWords(nn.Module):
    """Puts a row together again from the letters of its tokens, and scores +10 where a word's third letter lies."""

    def __init__(self, words: list[str], causal: bool) -> None:
        super().__init__()
        self.options, self.words, self.causal = HeadOptions(len(words)), words, causal

    def forward(self, vectors: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
        letters = vectors[..., :WIDEST].gather(2, offsets[..., None])[..., 0].to(torch.uint8)
        if self.causal:  # the other direction's token must hold the complement of the same base
            complement = torch.tensor([dict(zip(b"ACGT", b"TGCA", strict=True)).get(i, 0) for i in range(256)])
            seen = (vectors[..., WIDEST:] == complement[letters.long()][..., None]).any(2)
            letters = torch.where(seen, letters, 0)
        logits = torch.full((*rows.shape, len(self.words)), -10.0)
        for track, word in enumerate(self.words):
            if rows.shape[1] >= len(word):
                found = (letters.unfold(1, len(word), 1) == torch.tensor(list(word.encode()))).all(2)
                logits[:, 2 : 2 + found.shape[1], track][found] = 10.0
        return logits


@pytest.mark.parametrize("case", CASES)
def test_an_echo_of_the_tokens_gives_the_right_coordinates(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_family_model(tmp_path / "model", case, window=False)
    loaded = task_models.load_task_model

    def echo(folder: Path, manifest: Any, clade: str, device: torch.device, precision: str) -> TokenScanner:
        real, tokenizer = loaded(folder, manifest)
        fake = TaskModel(
            Spell(tokenizer), FindWords([WORDS[track] for track in manifest.tracks], real.causal), causal=real.causal
        )  # type: ignore[arg-type]
        return TokenScanner(fake.eval(), tokenizer, manifest.track_set, device)

    monkeypatch.setattr(worker, "load_scan_model", echo)
    rng = np.random.default_rng(7)
    records, expected = {}, set()
    for contig, length in (("one", 2503), ("two", 911), ("three", 97)):
        sequence = random_bases(length, length).replace("CCGATGA", "CCGATTA").replace("TCATCGG", "TCATAGG")
        if contig == "one":
            sequence = sequence[:1000] + "N" * 150 + sequence[1150:1400] + "N" + sequence[1401:]
        places = sorted(rng.choice(np.arange(2, length // 24 - 2), min(24, length // 24 - 4), replace=False).tolist()) or [2]
        for number, place in enumerate(places):
            track, word = list(WORDS.items())[number % 4]
            strand = "+-"[number // 4 % 2]
            at = place * 24 + int(rng.integers(0, 8))
            if "N" in sequence[at - 6 : at + 13]:
                continue
            sequence = plant(sequence, word if strand == "+" else revcomp(word), at)
            position = at + 2 if strand == "+" else at + len(word) - 3
            expected.add((contig, track, strand, position - 10 if track == "CTCF" else position))
        records[contig] = sequence
    fasta = write_fasta(tmp_path / "planted.fa", records)
    out = tmp_path / "out"
    assert run("annotate", fasta, "-o", out, "--model", model, "--device", "cpu", "-t", 1, "-q", "--tfbs-pvalue", "1e-9") == 0
    table = pl.read_parquet(out / "predictions.parquet").filter(pl.col("motif_id").is_null())
    track = {"promoter": "tss", "tfbs": "CTCF"}
    found = {(row["chrom"], track.get(row["kind"], row["kind"]), row["strand"], row["position"]) for row in table.to_dicts()}
    assert {kind for _, kind, _, _ in expected} == set(WORDS) and len(expected) > 20
    assert found == expected


Break = Callable[[Path], None]


def _rewrite(**fields: Any) -> Break:
    def change(folder: Path) -> None:
        import json

        path = folder / "manifest.json"
        raw = json.loads(path.read_text())
        for key, value in fields.items():
            part, _, name = key.partition("__")
            if name:
                raw[part][name] = value
            else:
                raw[part] = value
        path.write_text(json.dumps(raw))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_rewrite(head__outputs=7), "head.outputs"),
        (_rewrite(head__wings=2), "head.wings"),
        (_rewrite(head__kernel_bp=4), "kernel_bp"),
        (_rewrite(plan__window_bp=1200), "plan.window_bp"),
        (_rewrite(plan__halo_bp=24), "halo_bp"),
        (_rewrite(architecture__hidden_size=32), "shape"),
        (_rewrite(architecture__hidden_size=10**12), "hidden_size"),
        (_rewrite(features={}), "tracks"),
        (_rewrite(family="bert"), "family"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100), "sha256"),
        (_rewrite(architecture__num_hidden_layers=1 << 20), "num_hidden_layers"),
        (_rewrite(plan__smallest_bp=0), "smallest_bp"),
        (_rewrite(plan__align_bp=0), "plan.align_bp"),
        (_rewrite(plan={"halo_bp": 96, "align_bp": 12}), "plan.window_bp"),
        (_rewrite(name="a\tb"), "'name'"),
        (_rewrite(tracks=5), "'tracks'"),
        (_rewrite(training=[]), "'training'"),
        (_rewrite(metrics=None), "'metrics'"),
        (_rewrite(clades__plant=5), "'clades.plant'"),
        (_rewrite(clades__plant={"index": 0, "thresholds": {}, "calibration": {}}), "'clades.plant': 'validated'"),
        (_rewrite(features__CTCF={"kind": "tfbs", "width_bp": 20.5}), "'features.CTCF'"),
    ],
    ids=[
        "outputs", "unknown field", "even kernel", "window", "halo", "mis-shaped", "absurd", "features", "family", "weights",
        "layers", "smallest", "align", "no window", "tab", "no list", "training", "metrics", "clade", "validated", "fraction",
    ],
)  # fmt: skip
def test_E06_a_bad_model_directory_is_one_line_and_status_3(
    change: Break, said: str, genome: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_family_model(tmp_path / "model", "dnabert", window=False)
    change(model)
    assert run("annotate", genome, "-o", tmp_path / "out", "--model", model, "--device", "cpu", "-q") == 3
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("annotator: error:") and said in error
    assert not (tmp_path / "out" / "predictions.parquet").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_rewrite(window__window_bp=96), "need halo_bp 114"),
        (_rewrite(window__stride_bp=12.5), "12.5 is not a whole number"),
        (_rewrite(window={"window_bp": 48, "stride_bp": 12, "classes": ["tss", "CTCF", "tss"], "anchor_bp": {}}), "twice"),
        (
            _rewrite(tracks=["CTCF"], window={"window_bp": 48, "stride_bp": 12, "classes": ["CTCF"], "anchor_bp": {}}),
            "two of them",
        ),
        (_rewrite(tokenizer={}), "tokenizer.file"),
        (_rewrite(tokenizer__file="manifest.json"), "tokenizer.file"),
        (_rewrite(tokenizer__sha256="0"), "tokenizer.json"),
    ],
    ids=["halo", "fraction", "twice", "one class", "tokenizer unnamed", "tokenizer elsewhere", "tokenizer changed"],
)
def test_E06_a_bad_window_classifier_is_refused(change: Break, said: str, tmp_path: Path) -> None:
    folder = write_family_model(tmp_path / "model", "dnabert2", window=True)
    change(folder)
    with pytest.raises(InputError, match=said):
        load_scan_model(folder, read_manifest(folder), "plant", torch.device("cpu"), "float32")


def test_numbers_that_are_none_are_refused_in_a_calibration(tmp_path: Path) -> None:
    folder = write_family_model(tmp_path / "model", "dnabert", window=False)
    text = (folder / "manifest.json").read_text()
    for number in ("NaN", "Infinity", "true"):
        (folder / "manifest.json").write_text(text.replace('"bias": 0.0', f'"bias": {number}'))
        with pytest.raises(InputError, match="'clades.vertebrate'.*finite"):
            read_manifest(folder)


@torch.inference_mode()
def test_windows_are_classified_in_parts_and_rows_shorter_than_one_are_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_family_model(tmp_path / "model", "dnabert", window=True)
    scanner = load_scan_model(folder, read_manifest(folder), "plant", torch.device("cpu"), "float32")
    block = torch.tensor(list((random_bases(200, 4) + "N" * 60 + random_bases(40, 5)).encode()), dtype=torch.uint8)
    starts, reverse = torch.tensor([0, 0]), torch.tensor([False, True])
    whole = scanner.logits(scanner.embed(block, starts, reverse, 300))
    sizes = []
    classify = scanner.classify
    scanner.classify = lambda rows: (sizes.append(len(rows)), classify(rows))[1]
    monkeypatch.setattr(token_inference, "BASES_AT_ONCE", 5 * 48)
    assert torch.equal(scanner.logits(scanner.embed(block, starts, reverse, 300)), whole)
    unknown = [start for start in range(0, 300 - 48 + 1, 12) if not set(block[start : start + 48].tolist()) - {ord("N")}]
    assert max(sizes) == 5 and unknown and sum(sizes) < 2 * 22
    assert (scanner.logits(scanner.embed(block, starts, reverse, 36)) == -30).all()


@torch.inference_mode()
def test_a_feature_may_be_wider_than_a_row(tmp_path: Path) -> None:
    folder = write_family_model(tmp_path / "model", "dnabert", window=False)
    _rewrite(features__CTCF={"kind": "tfbs", "width_bp": 80}, plan__halo_bp=108)(folder)
    scanner = load_scan_model(folder, read_manifest(folder), "plant", torch.device("cpu"), "float32")
    block = torch.tensor(list(random_bases(24, 4).encode()), dtype=torch.uint8)
    logits = scanner.logits(scanner.embed(block, torch.tensor([0, 0]), torch.tensor([False, True]), 24))
    assert (logits[..., 3] == -30).all() and (logits[..., :3] > -30).all()


@pytest.mark.parametrize(("case", "library"), [("dnabert", "transformers"), ("dnabert2", "tokenizers")])
def test_the_plan_holds_the_libraries_of_the_family(
    case: str, library: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = write_family_model(tmp_path / "model", case, window=False)
    caplog.set_level("INFO", logger="annotator")
    options = AnnotateOptions(model=str(model), tasks=("splice",), thresholds={"promoter": 0.9})
    request = resolve(options, Machine("cpu"))
    assert "licence of the weights: Apache-2.0" in caplog.text
    assert "`thresholds` promoter: this run calls donor, acceptor only" in caplog.text
    with_genome = open_genome(write_fasta(tmp_path / "g.fa", {"a": "ACGT"}), tmp_path, GenomeOptions())
    assert make_plan(request, options, with_genome, None).values["libraries"][library] == importlib.metadata.version(library)


def test_a_fine_tuned_model_shows_its_data_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_family_model(tmp_path / "model", "dnabert", window=True)
    training = {"data": {"train": {"file": "train.csv", "rows": [5, 7]}}, "organisms": None}
    _rewrite(training=training, metrics={"split": "dev", "mcc": 0.5, "promoter": {"recall": 0.25}})(folder)
    assert run("models", "show", folder) == 0
    shown = capsys.readouterr().out
    assert "train.csv" in shown and "all: mcc 0.500" in shown and "promoter: recall 0.250" in shown


@torch.inference_mode()
def test_whole_numbers_do_for_fractions_in_an_architecture(tmp_path: Path) -> None:
    folder = write_family_model(tmp_path / "model", "biogpt", window=False)
    _rewrite(architecture__initializer_range=0, architecture__hidden_dropout_prob=0)(folder)
    load_scan_model(folder, read_manifest(folder), "plant", torch.device("cpu"), "float32")


def test_a_row_longer_than_the_context_is_cut_into_parts_never_short(tmp_path: Path) -> None:
    model = write_family_model(tmp_path / "model", "nucleotide-transformer-v1", window=False)
    scanner = load_scan_model(model, read_manifest(model), "plant", torch.device("cpu"), "float32")
    limit = scanner.tokenizer.max_tokens
    bases = torch.tensor(list(("AC" * 4 + "N").encode()) * (limit // 3), dtype=torch.uint8)  # more tokens than fit
    assert int(scanner.tokenizer.encode(bases[None]).counts) > limit
    block = torch.nn.functional.pad(bases, (0, 0))
    with torch.inference_mode():
        rows = scanner.embed(block, torch.tensor([0]), torch.tensor([False]), len(bases))
        logits = scanner.logits(rows)
    assert logits.shape == (1, len(bases), 4)
    assert bool((logits[..., :3] > -29).all())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_scores_do_not_depend_on_what_shares_the_batch(case: str, genome: Path, tmp_path: Path) -> None:
    model = write_family_model(tmp_path / "model", case, window=False)
    scanner = load_scan_model(model, read_manifest(model), "plant", torch.device("cpu"), "float32")
    text = "".join(line.strip() for line in genome.read_text().splitlines() if not line.startswith(">"))
    block = torch.tensor(list(text.replace("R", "N").encode()), dtype=torch.uint8)
    starts = torch.tensor([0, 512, 900, 1900, 2400, 3000])
    reverse = torch.tensor([False, True, False, True, False, True])
    with torch.inference_mode():
        together = scanner.logits(scanner.embed(block, starts, reverse, 384))
        alone = [scanner.logits(scanner.embed(block, starts[i : i + 1], reverse[i : i + 1], 384)) for i in range(len(starts))]
    assert torch.equal(together, torch.cat(alone))
