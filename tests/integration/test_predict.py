"""`load_model(...).predict(...)`: the local maxima of its tracks are the calls of `annotate` on the same sequence."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from annotator.errors import EnvironmentFault, InputError, ModelFault, UsageError
from annotator.genome.plan import PlanOptions
from annotator.kinds import Strand
from annotator.models.convert import convert
from annotator.models.directory import BUNDLED
from annotator.models.manifest import Manifest, read_manifest
from annotator.scan.predict import Predictor, Tracks, load_model
from tests.parity.test_dilated_cnn import random_network
from tests.support.detector import ACCEPTOR, DONOR, TSS, write_detector
from tests.support.family_models import CASES, write_family_model
from tests.support.runs import annotate, plant, random_bases, revcomp, table, write_fasta

Call = tuple[str, str, str, int, float]
"""Kind, name, strand, position, probability."""


def inside(kind: str, strand: str, position: int, width: int, length: int) -> bool:
    """Whether the bases that a call writes lie on the sequence: the two intronic ones, or the feature's."""
    if kind == "promoter":
        return True
    if kind not in ("donor", "acceptor"):
        return position + width <= length
    return position + 3 <= length if (kind == "donor") == (strand == "+") else position >= 2


def local_maxima(tracks: Tracks, manifest: Manifest) -> set[Call]:
    """What the definition of a call says: at or above the threshold, highest within the radius, ties to the lower position."""
    found = set()
    for track in tracks.names:
        kind = manifest.track_set.kind_of(track)
        radius = manifest.radius_bp[kind]
        feature = manifest.features.get(track)
        for strand in "+-":
            logits = np.nan_to_num(tracks.logit(track, strand), nan=-np.inf)
            probability = tracks.probability(track, strand)
            for position in np.flatnonzero(probability >= tracks.thresholds[track]).tolist():
                before = logits[max(0, position - radius) : position]
                after = logits[position + 1 : position + 1 + radius]
                highest = (before < logits[position]).all() and (after <= logits[position]).all()
                if highest and inside(kind, strand, position, feature.width_bp if feature else 0, len(tracks)):
                    found.add((kind, track if feature else kind, strand, position, float(np.float32(probability[position]))))
    return found


def calls_of_annotate(sequence: str, folder: Path, *options: object) -> set[Call]:
    fasta = write_fasta(folder / "g.fa", {"c": sequence})
    assert annotate(fasta, "-o", folder / "out", "--device", "cpu", *options) == 0
    return set(table(folder / "out").select("kind", "name", "strand", "position", "probability").iter_rows())


def planted(length: int) -> str:
    """Words of the detector on both strands, near the ends and next to a long run of N; some of it in lower case."""
    text = random_bases(length, 5)
    text = text[: length // 2] + "N" * 1500 + text[length // 2 + 1500 :]
    for i, at in enumerate((0, 40, 300, 331, length // 2 - 8, length // 2 + 1501, length - 400, length - 6)):
        word = (DONOR, ACCEPTOR, TSS)[i % 3]
        text = plant(plant(text, word, at), revcomp(word), (at + 700) % (length - 6))
    return text[:200] + text[200:350].lower() + text[350:]


def test_the_detector_on_a_sequence_of_several_windows_and_shards(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model")
    sequence = planted(6_003)
    calls = calls_of_annotate(sequence, tmp_path, "--model", model, "--tasks", "splice,promoter", "--shard-bp", 900)
    predictor = load_model(model, device="cpu")
    tracks = predictor.predict(sequence)
    assert local_maxima(tracks, predictor.manifest) == calls and len(calls) > 10
    assert {(kind, strand) for kind, _, strand, *_ in calls} == {(k, s) for k in ("donor", "acceptor", "promoter") for s in "+-"}


@pytest.mark.parametrize("length", [0, 1, 5, 127, 448, 449, 1003])
def test_any_length_has_tracks_of_its_own_length(length: int, tmp_path: Path) -> None:
    tracks = load_model(write_detector(tmp_path / "model"), device="cpu").predict("A" * length)
    assert len(tracks) == length and tracks.logits.shape == (2, 3, length) and tracks.logits.dtype == np.float32
    assert not np.isnan(tracks.logits).any() and (tracks.probability("donor", "-") < 0.5).all()


@pytest.mark.parametrize("window", [False, True], ids=["bases", "windows"])
@pytest.mark.parametrize("case", CASES)
def test_every_family_gives_the_numbers_of_a_run(case: str, window: bool, tmp_path: Path) -> None:
    model = write_family_model(tmp_path / "model", case, window=window, threshold=0.05 if window else 0.3)
    sequence = random_bases(2001, 8)
    calls = calls_of_annotate(sequence, tmp_path, "--model", model, "--tfbs-pvalue", "1e-12", "--motifs", no_motifs(tmp_path))
    predictor = load_model(model, device="cpu")
    tracks = predictor.predict(sequence)
    for kind, name, strand, position, probability in calls:
        found = tracks.probability("tss" if kind == "promoter" else name, strand)[position]
        assert probability == np.float32(found), "a call has the score of its base, wherever it lies"
    plan, radius = PlanOptions(**predictor.manifest.plan), max(predictor.manifest.radius_bp.values())

    def undisputed(found: set[Call]) -> set[Call]:
        """Calls that are compared with bases of their own window alone, where a base's score depends on its window."""
        borders = () if window else range(0, len(sequence), plan.core_bp)
        return {call for call in found if all(not -radius <= call[3] - border < radius for border in borders)}

    assert undisputed(local_maxima(tracks, predictor.manifest)) == undisputed(calls) and len(undisputed(calls)) > 10


def no_motifs(folder: Path) -> Path:
    """One motif that a random sequence does not hold, so that only the model calls."""
    path = folder / "motif.jaspar"
    counts = {base: ["100" if i % 4 == row else "0" for i in range(24)] for row, base in enumerate("ACGT")}
    path.write_text(">M0 none\n" + "".join(f"{base} [ {' '.join(row)} ]\n" for base, row in counts.items()))
    return path


def test_a_converted_network_gives_the_numbers_of_a_run(tmp_path: Path) -> None:
    model = convert([random_network(tmp_path / "model_80nt_rs1.pt", 4, 1)], tmp_path / "model")
    sequence = random_bases(3001, 9)
    calls = calls_of_annotate(sequence, tmp_path, "--model", model, "--tasks", "splice")
    predictor = load_model(model, device="cpu")
    assert predictor.precision == "float32"
    assert local_maxima(predictor.predict(sequence), predictor.manifest) == calls and len(calls) > 10


def test_the_bundled_model_gives_the_numbers_of_a_run(tmp_path: Path) -> None:
    from annotator.example.genome import write_example

    (fasta, *_) = write_example(tmp_path, seed=1, length_bp=100_000)
    text = _first_contig(fasta)
    calls = calls_of_annotate(text, tmp_path, "--tasks", "splice,promoter", "--clade", "plant")
    predictor = load_model("compact", clade="plant", device="cpu")
    tracks = predictor.predict(text.encode())
    assert local_maxima(tracks, predictor.manifest) == calls and len(calls) > 10
    assert tracks.thresholds["donor"] == read_manifest(BUNDLED / "compact").clades["plant"].thresholds["donor"]


def _first_contig(fasta: Path) -> str:
    import gzip

    with gzip.open(fasta, "rt") as file:
        return "".join(file.read().split(">")[1].splitlines()[1:])


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return load_model(write_detector(tmp_path_factory.mktemp("detector") / "model"), device="cpu")


def test_a_strand_is_given_in_plus_strand_order(detector: Predictor) -> None:
    text = plant(random_bases(500, 3), DONOR, 100)
    forward, reverse = detector.predict(text), detector.predict(revcomp(text))
    assert np.flatnonzero(forward.probability("donor", "+") > 0.5).tolist() == [102]
    assert np.flatnonzero(reverse.probability("donor", "-") > 0.5).tolist() == [500 - 1 - 102]
    assert not (forward.probability("donor", "-") > 0.5).any()
    np.testing.assert_allclose(forward.logits[0, :, 50:450], reverse.logits[1, :, 50:450][:, ::-1], atol=1e-5)
    np.testing.assert_array_equal(forward.logit("donor", Strand.MINUS), forward.logit("donor", "-"))


def test_unknown_bases_have_no_score(detector: Predictor) -> None:
    text = random_bases(3000, 4)
    text = text[:700] + "N" * 1500 + text[2200:2500] + "R" + text[2501:]
    tracks = detector.predict(text.replace("T", "u"))
    unknown: NDArray[np.bool_] = np.array([base in "NR" for base in text])
    assert (np.isnan(tracks.logits) == unknown).all() and unknown.sum() == 1501
    assert (np.isnan(tracks.probability("tss", "-")) == unknown).all()
    table = tracks.to_polars()
    assert table.columns == ["position", "strand", "donor", "acceptor", "tss"] and table.height == 6000
    assert table["donor"].null_count() == 2 * 1501 and table["strand"].unique(maintain_order=True).to_list() == ["+", "-"]
    assert table["position"].to_list() == [*range(3000), *range(3000)]
    half = table["acceptor"][3000:].to_numpy()
    np.testing.assert_array_equal(half, tracks.probability("acceptor", "-").astype(np.float32))


def test_a_window_classifier_scores_anchors_only(tmp_path: Path) -> None:
    predictor = load_model(write_family_model(tmp_path / "model", "dnabert", window=True), device="cpu")
    tracks = predictor.predict(random_bases(600, 6))
    task = predictor.manifest.window
    assert task is not None
    scored = np.flatnonzero(~np.isnan(tracks.logit("tss", "+")))
    assert scored.size and (np.diff(scored) == task.stride_bp).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ACGTX", "letter 'X' at position 4"), ("AC\nGT", "position 2"), ("A-C", "gap character '-' at position 1"),
        ("ACé", "'é' at position 2"), (b"\xffA", "non-ASCII byte 0xff at position 0"), (">c", "'>' at position 0"),
    ],
    ids=["letter", "line end", "gap", "accent", "byte", "header"],
)  # fmt: skip
def test_what_is_no_base_is_refused(detector: Predictor, text: str | bytes, said: str) -> None:
    with pytest.raises(InputError, match=f"^sequence: .*{re.escape(said)}"):
        detector.predict(text)


def test_wrong_options_name_the_parameter(detector: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for given, kind, said in (
        ({"clade": "fish"}, UsageError, "clade='fish': choose from vertebrate"),
        ({"device": "tpu"}, UsageError, "device='tpu': choose auto"),
        ({"device": "cuda"}, EnvironmentFault, "device='cuda': no such device here"),
        ({"precision": "int4"}, UsageError, "precision='int4': choose from auto"),
        ({"model": tmp_path / "none"}, EnvironmentFault, "no model "),
    ):
        with pytest.raises(kind, match=f"^{said}"):
            load_model(**({"model": "compact"} | given))  # type: ignore[arg-type]
    tracks = detector.predict("ACGT")
    with pytest.raises(UsageError, match="^track='exon': choose from donor, acceptor, tss"):
        tracks.probability("exon")
    with pytest.raises(UsageError, match=r"^strand='\.': choose"):
        tracks.probability("donor", ".")


def test_a_model_that_gives_nan_is_a_fault_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = load_model(write_detector(tmp_path / "model"), device="cpu")
    network = predictor._scorer.model
    broken = SimpleNamespace(embed=network.embed, logits=lambda x: network.logits(x) * float("nan"))
    monkeypatch.setattr(predictor._scorer, "model", broken)
    with pytest.raises(ModelFault, match=r"model detector: NaN or infinity in window 0-300 \(0-based\), strand \+"):
        predictor.predict("A" * 300)
