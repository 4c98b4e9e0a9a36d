"""The dilated networks against the restated published ones, through the window engine, on contig ends, N and both strands."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from annotator.errors import EnvironmentFault, InputError
from annotator.genome.plan import PlanOptions, Span
from annotator.models.convert import convert
from annotator.models.directory import read_model
from annotator.models.families.dilated_cnn import DilatedCnn, DilatedConfig, load
from annotator.models.manifest import Manifest
from annotator.scan.block import Block
from annotator.scan.windows import WindowScorer
from benchmarks.openspliceai_net import OpenSpliceAI, contig_probabilities, load_openspliceai

TOLERANCE = 1e-5


def random_network(path: Path, units: int, seed: int) -> Path:
    """A network of the published shape, norms and all away from their first values, saved as the published ones are."""
    torch.manual_seed(seed)
    net = OpenSpliceAI(units)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.weight, -1.5, 1.5)
            torch.nn.init.normal_(module.bias)
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    torch.nn.init.normal_(net.final_conv.weight)
    torch.save(net.state_dict(), path)
    return path


def contig(bases: int, seed: int = 3) -> NDArray[np.uint8]:
    """Random bases with a run of N in the middle, single N near both ends, and an IUPAC letter."""
    drawn = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(seed).integers(0, 4, bases)].copy()
    drawn[bases // 2 : bases // 2 + 40] = ord("N")
    drawn[[1, bases // 5, bases - 2]] = ord("N")
    drawn[bases // 3] = ord("R")
    return drawn


def engine_probabilities(model: DilatedCnn, bases: NDArray[np.uint8], plan: PlanOptions) -> NDArray[np.float32]:
    """Probabilities of every base, [strand, track, n], as the window engine gives them; NaN where it skips a window of N."""
    lengths, spans = np.array([len(bases)], np.int64), (Span(0, 0, len(bases)),)
    block = Block.read(spans, lengths, plan, lambda _, start, end: bases[start:end])
    windows = block.windows
    out = np.full((2, len(model.tracks), len(bases)), np.nan, np.float32)
    for batch in WindowScorer(model, batch_bp=1, device=torch.device("cpu")).score(block):
        for row, logits in zip(batch.rows, batch.plus_strand(windows), strict=True):
            start, end, first = windows.core_start[row], windows.core_end[row], windows.start[row]
            out[:, :, start:end] = torch.sigmoid(logits[:, :, start - first : end - first]).numpy()
    return out


def published(paths: list[Path], bases: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean probabilities of the published networks, [strand, (acceptor, donor), n]."""
    networks = [load_openspliceai(path) for path in paths]
    return np.mean([contig_probabilities(net, context, bases) for net, context in networks], 0)[:, ::-1]


def small_plan(manifest: Manifest, core_bp: int) -> PlanOptions:
    """The model's plan with shorter windows, so that a short contig has several."""
    window = core_bp + 2 * manifest.plan["halo_bp"]
    return PlanOptions(**(manifest.plan | {"window_bp": window, "smallest_bp": min(window, manifest.plan["smallest_bp"])}))


def read(folder: Path, precision: str = "float32") -> tuple[DilatedCnn, Manifest]:
    """A converted model as a worker loads it."""
    where, manifest = read_model(str(folder))
    return load(where, manifest, torch.device("cpu"), precision), manifest


@pytest.mark.parametrize(("context", "units"), [(80, 4), (400, 8)])
@pytest.mark.parametrize("bases", [1, 37, 700])
def test_random_networks_as_published_in_one_window_and_in_several(tmp_path: Path, context: int, units: int, bases: int) -> None:
    source = random_network(tmp_path / f"model_{context}nt_rs1.pt", units, seed=bases)
    model, manifest = read(convert([source], tmp_path / "model"))
    drawn = contig(bases) if bases > 100 else np.frombuffer(b"ACGTTGCA" * 5, np.uint8)[:bases].copy()
    expected = published([source], drawn)
    assert expected.std() > 0.01 or bases == 1, "the random network says nothing: nothing is compared"
    for plan in (PlanOptions(**manifest.plan), small_plan(manifest, 128)):
        got = engine_probabilities(model, drawn, plan)
        np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


def test_several_networks_average_their_probabilities(tmp_path: Path) -> None:
    sources = [random_network(tmp_path / f"model_80nt_rs{seed}.pt", 4, seed) for seed in (1, 2, 3)]
    model, manifest = read(convert(sources, tmp_path / "model"))
    drawn = contig(500)
    got = engine_probabilities(model, drawn, PlanOptions(**manifest.plan))
    single = published(sources[:1], drawn)
    assert np.abs(got - single).max() > 0.05
    np.testing.assert_allclose(got, published(sources, drawn), rtol=0, atol=TOLERANCE)


def test_log_odds_of_certain_classes_stay_finite_and_exact(tmp_path: Path) -> None:
    """Where the softmax rounds to 0 or 1, the one-vs-rest log-odds are still those of float64."""
    model, _ = read(convert([random_network(tmp_path / "model_80nt_rs1.pt", 4, 1)], tmp_path / "model"))
    classes = torch.tensor([[[80.0, -40.0, 0.0], [0.0, 90.0, -3.0], [0.0, 0.0, 0.0]]])
    yes, no = model._log_chances(classes)
    p = classes.double().softmax(2)
    expected = torch.stack(
        [classes.double()[..., c] - classes.double()[..., [k for k in range(3) if k != c]].logsumexp(2) for c in (1, 2)], 2
    )
    assert torch.isfinite(yes - no).all()
    torch.testing.assert_close((yes - no).double(), expected, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(torch.sigmoid(yes - no).double(), p[..., 1:], rtol=0, atol=1e-6)


def test_tracks_come_in_the_manifests_order(tmp_path: Path) -> None:
    _, manifest = read(convert([random_network(tmp_path / "model_80nt_rs1.pt", 4, 1)], tmp_path / "model"))
    cpu = torch.device("cpu")
    both = load(tmp_path / "model", manifest, cpu)
    turned = load(tmp_path / "model", replace(manifest, tracks=("donor", "acceptor")), cpu)
    one = load(tmp_path / "model", replace(manifest, tracks=("donor",)), cpu)
    ids = torch.randint(0, 5, (2, 64))
    with torch.inference_mode():
        assert torch.equal(both.logits(ids), turned.logits(ids).flip(2))
        assert torch.equal(one.logits(ids), turned.logits(ids)[:, :, :1])


def test_bfloat16_is_near(tmp_path: Path) -> None:
    source = random_network(tmp_path / "model_80nt_rs1.pt", 4, 1)
    convert([source], tmp_path / "model")
    drawn = contig(400)
    (exact, manifest), (rounded, _) = read(tmp_path / "model"), read(tmp_path / "model", "bfloat16")
    plan = PlanOptions(**manifest.plan)
    apart = np.abs(engine_probabilities(exact, drawn, plan) - engine_probabilities(rounded, drawn, plan))
    assert 0 < apart.max() < 0.1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"widths": [11, 11, 11, 12]}, "not odd"),
        ({"widths": [11, 11, 11]}, "dilations"),
        ({"channels": 0}, "channels"),
        ({"channels": 1 << 40}, "channels"),
        ({"channels": 4096}, "too small"),
        ({"networks": "1"}, "networks"),
        ({"networks": 2}, "missing"),
        ({"channels": 16}, "shape"),
        ({"dilations": [1, 1, 1, 20]}, "halo_bp"),
        ({"depth": 3}, "depth"),
    ],
)
def test_an_architecture_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    folder = convert([random_network(tmp_path / "model_80nt_rs1.pt", 4, 1)], tmp_path / "model")
    _, manifest = read_model(str(folder))
    with pytest.raises(InputError, match=said):
        load(folder, replace(manifest, architecture=manifest.architecture | change), torch.device("cpu"))


def test_other_tracks_and_missing_weights_are_refused(tmp_path: Path) -> None:
    folder = convert([random_network(tmp_path / "model_80nt_rs1.pt", 4, 1)], tmp_path / "model")
    _, manifest = read_model(str(folder))
    with pytest.raises(InputError, match="track 'tss'"):
        load(folder, replace(manifest, tracks=("tss",)), torch.device("cpu"))
    with pytest.raises(EnvironmentFault, match="missing"):
        load(folder, replace(manifest, weights="other.safetensors"), torch.device("cpu"))


def test_the_published_contexts() -> None:
    from annotator.models.convert import DILATIONS, WIDTHS

    contexts = [2 * DilatedConfig(32, WIDTHS[:units], DILATIONS[:units]).reach_bp for units in (4, 8, 12, 16)]
    assert contexts == [80, 400, 2000, 10000]


PUBLISHED = [
    "mane/model_400nt_rs10.pt",
    "mane/model_2000nt_rs10.pt",
    "mane/model_10000nt_rs10.pt",
    "arabidopsis/model_10000nt_rs10.pt",
]


def real_bases(data: Path, organism: str, bases: int) -> NDArray[np.uint8]:
    """Bases around the first donor site of a genome, cut so that they end there, with N and an IUPAC letter put in."""
    truth = next((data / organism).glob("*.truth.bed.gz"))
    with gzip.open(truth, "rt") as file:
        contig_name, start = next(line.split()[:2] for line in file if "\tdonor\t" in line and "+" in line)
    with gzip.open(str(truth).replace("truth.bed", "fa"), "rt") as file:
        contigs = file.read().split(">")
    lines = next(text for text in contigs if text.split(maxsplit=1)[:1] == [contig_name]).split("\n")[1:]
    first = max(0, int(start) - bases // 2)
    real = np.frombuffer("".join(lines)[first : first + bases].upper().encode(), np.uint8).copy()
    real[-80:-20], real[[0, len(real) - 1]], real[len(real) // 4] = ord("N"), ord("N"), ord("R")
    return real


@pytest.mark.data
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_as_published(tmp_path: Path, data_pack: Path, name: str) -> None:
    source = data_pack / "weights" / f"openspliceai-{name}"
    if not source.is_file():
        pytest.skip(f"no {source}")
    model, manifest = read(convert([source], tmp_path / "model"))
    real = real_bases(data_pack, "athaliana" if "arabidopsis" in name else "human", 1_200)
    expected = published([source], real)
    assert expected.max() > 0.5, "no splice site in the bases: nothing is compared"
    got = engine_probabilities(model, real, small_plan(manifest, 800))
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.data
def test_published_ensemble_as_published(tmp_path: Path, data_pack: Path) -> None:
    sources = sorted((data_pack / "weights" / "openspliceai-mane").glob("model_10000nt_rs*.pt"))[:2]
    if len(sources) < 2:
        pytest.skip(f"no two networks of 10000 nt in {data_pack / 'weights'}")
    model, manifest = read(convert(sources, tmp_path / "model"))
    real = real_bases(data_pack, "human", 500)
    got = engine_probabilities(model, real, small_plan(manifest, 512))
    np.testing.assert_allclose(got, published(sources, real), rtol=0, atol=TOLERANCE)
