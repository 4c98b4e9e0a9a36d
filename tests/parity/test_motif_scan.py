"""The scanner against a slow plain oracle, lightmotif and memelite's FIMO."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from annotator.errors import InputError, UsageError
from annotator.motifs import kernel as motif_kernel
from annotator.motifs import scan as motif_scan
from annotator.motifs import tables as motif_tables
from annotator.motifs.jaspar_release import jaspar_motifs
from annotator.motifs.motif import Motif
from annotator.motifs.read import read_motifs
from annotator.motifs.scan import MotifHits, MotifScanner
from annotator.motifs.scores import STEPS_PER_BIT, score_matrix
from annotator_kernels.backends import Backend

COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")


def random_bases(length: int, seed: int, unknown: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    frequencies = np.array([0.3, 0.2, 0.2, 0.3, 0.0]) * (1 - unknown) + np.array([0, 0, 0, 0, unknown])
    return np.frombuffer(b"ACGTN", np.uint8)[rng.choice(5, size=length, p=frequencies)]


def random_motif(width: int, seed: int, sharpness: float = 0.3) -> Motif:
    rng = np.random.default_rng([width, seed])
    counts = rng.multinomial(40, rng.dirichlet([sharpness] * 4, size=width))
    return Motif(f"w{width}s{seed}", f"TF{seed}", counts.astype(np.float64))


def bases_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def rows_of(hits: MotifHits) -> list[tuple[int, int, int, int, float, float]]:
    columns = (hits.start, hits.motif, hits.strand, hits.score, hits.bits, hits.p_value)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def slow_hits(motifs: Sequence[Motif], bases: np.ndarray, p_value: float, background: tuple[float, ...] = (0.25,) * 4) -> list:
    """Every window of every motif on either strand, one base after another."""
    found = []
    for index, motif in enumerate(motifs):
        matrix = score_matrix(motif.counts, p_value, background)
        if matrix.threshold is None:
            continue
        width = motif.width
        for start in range(len(bases) - width + 1):
            window = bases[start : start + width].tobytes()
            if window.strip(b"ACGT"):
                continue
            for strand, read in ((1, window), (-1, window.translate(COMPLEMENT)[::-1])):
                codes = [b"ACGT".index(base) for base in read]
                score = sum(int(matrix.steps[i, code]) for i, code in enumerate(codes))
                if score >= matrix.threshold:
                    bits = 0.0
                    for i, code in enumerate(codes):
                        bits += matrix.log_odds[i, code]
                    p = matrix.p_values(np.array([score], np.int32))[0]
                    found.append((start, index, strand, score, float(np.float32(bits)), float(p)))
    return sorted(found, key=lambda hit: (hit[0], hit[1], -hit[2]))


def integer_score(steps: np.ndarray, window: np.ndarray) -> int:
    return int(sum(steps[i, b"ACGT".index(base)] for i, base in enumerate(window.tolist())))


WIDTHS = (1, 2, 3, 5, 9, 10, 11, 14, 15, 16, 20, 21, 33, 64)


@pytest.mark.parametrize("p_value", [0.1, 0.01, 1e-3, 1e-5])
@pytest.mark.parametrize("unknown", [0.0, 0.03], ids=["known", "with N"])
def test_equals_the_slow_oracle(p_value: float, unknown: float) -> None:
    motifs = [random_motif(width, 1) for width in WIDTHS] + [random_motif(12, 2, sharpness=3.0)]
    bases = random_bases(700, 3, unknown)
    hits = MotifScanner(motifs, p_value).scan(bases)
    assert rows_of(hits) == slow_hits(motifs, bases, p_value)
    assert p_value < 1e-3 or len(hits) > 5
    types = [getattr(hits, name).dtype for name in ("start", "motif", "strand", "score", "bits", "p_value")]
    assert types == [np.int64, np.int32, np.int8, np.int32, np.float32, np.float64]


@pytest.mark.parametrize("width", WIDTHS[1:])
def test_planted_sites_are_found_on_both_strands_up_to_the_very_ends(width: int) -> None:
    counts = np.full((width, 4), 1.0)
    codes = np.random.default_rng(width).integers(0, 4, width)
    counts[range(width), codes] = 20
    site = bytes(b"ACGT"[code] for code in codes)
    other = site.translate(COMPLEMENT)[::-1]
    bases = np.frombuffer(site + b"N" + other + b"NNN" + site + other, np.uint8)
    motif = Motif("m", "m", counts)
    hits = MotifScanner([motif], 0.07).scan(bases)
    places = set(zip(hits.start.tolist(), hits.strand.tolist(), strict=True))
    assert {(0, 1), (width + 1, -1), (2 * width + 4, 1), (3 * width + 4, -1)} <= places
    assert rows_of(hits) == slow_hits([motif], bases, 0.07)


@pytest.mark.parametrize("width", [6, 12, 25, 40])
def test_the_threshold_itself_hits_and_one_step_below_does_not(width: int) -> None:
    codes = np.random.default_rng(width).integers(0, 4, width)
    for column in range(width):  # in the seed, in its flanks, at their borders
        counts = np.zeros((width, 4))
        counts[range(width), codes] = 10_000
        counts[column, codes[column] ^ 1] = 9_990
        counts[column, codes[column] ^ 2] = 10
        motif = Motif("m", "m", counts)
        p_value = 1.5 * 4.0**-width
        matrix = score_matrix(motif.counts, p_value)
        second = np.sort(matrix.steps[column])[-2]
        assert matrix.threshold == matrix.best and second == matrix.steps[column].max() - 1
        below = codes.copy()
        below[column] ^= 1
        best, other = (bytes(b"ACGT"[code] for code in read) for read in (codes, below))
        minus, other_minus = (site.translate(COMPLEMENT)[::-1] for site in (best, other))
        bases = np.frombuffer(b"N".join([best, other, minus, other_minus]), np.uint8)
        hits = rows_of(MotifScanner([motif], p_value).scan(bases))
        assert [(start, strand, score) for start, _, strand, score, _, _ in hits] == [
            (0, 1, matrix.best),
            (2 * width + 2, -1, matrix.best),
        ]


@pytest.mark.parametrize("seed_limit", [8_000_000, 20_000, 300, 1], ids=lambda n: f"at most {n} candidates")
def test_seed_length_pieces_and_chunks_change_nothing(seed_limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    motifs = [random_motif(width, seed) for width in (4, 8, 13, 18, 30) for seed in range(3)]
    bases = random_bases(3000, 5, 0.01)
    expected = rows_of(MotifScanner(motifs, 1e-3).scan(bases))
    assert len(expected) > 30
    monkeypatch.setattr(motif_tables, "MAX_CANDIDATES", seed_limit)
    scanner = MotifScanner(motifs, 1e-3)
    for piece, live in ((1 << 17, 1), (1, 1 << 15), (7, 3), (1000, 64), (3000, 1 << 15)):
        monkeypatch.setattr(motif_tables, "PIECE_BP", piece)
        monkeypatch.setattr(motif_tables, "LIVE_CANDIDATES", live)
        assert rows_of(scanner.scan(bases)) == expected


def test_blocks_with_a_halo_equal_the_whole() -> None:
    motifs = [random_motif(width, seed) for width in (6, 11, 24) for seed in range(3)]
    bases = random_bases(20_000, 8, 0.001)
    scanner = MotifScanner(motifs, 1e-3)
    assert scanner.halo_bp == 23
    whole = rows_of(scanner.scan(bases))
    for block_bp in (24, 1000, 7001):
        joined = []
        for low in range(0, len(bases), block_bp):
            begin = max(0, low - scanner.halo_bp)
            hits = scanner.scan(bases[begin : low + block_bp + scanner.halo_bp])
            owned = (hits.start + begin >= low) & (hits.start + begin < low + block_bp)
            joined += [(start + begin, *rest) for start, *rest in rows_of(hits.take(owned))]
        assert joined == whole


def test_reverse_complement_mirrors_every_hit() -> None:
    motifs = [random_motif(width, seed) for width in (5, 10, 12, 19, 27) for seed in range(3)]
    bases = random_bases(30_000, 9, 0.001)
    mirrored = np.frombuffer(bases.tobytes().translate(COMPLEMENT)[::-1], np.uint8)
    scanner = MotifScanner(motifs, 1e-3, background=(0.32, 0.21, 0.16, 0.31))
    hits = rows_of(scanner.scan(bases))
    widths = [motif.width for motif in motifs]
    back = [(len(bases) - start - widths[m], m, -strand, *rest) for start, m, strand, *rest in rows_of(scanner.scan(mirrored))]
    assert len(hits) > 500
    assert sorted(back, key=lambda hit: (hit[0], hit[1], -hit[2])) == hits


def test_background_is_averaged_over_the_strands() -> None:
    motifs = [random_motif(8, seed) for seed in range(3)]
    bases = random_bases(3000, 10)
    scanner = MotifScanner(motifs, 1e-2, background=(0.4, 0.1, 0.2, 0.3))
    assert scanner.background == pytest.approx((0.35, 0.15, 0.15, 0.35))
    assert rows_of(scanner.scan(bases)) == slow_hits(motifs, bases, 1e-2, scanner.background)


def test_a_palindrome_hits_on_both_strands() -> None:
    counts = np.zeros((6, 4))
    counts[range(6), [b"ACGT".index(base) for base in b"CACGTG"]] = 20
    hits = MotifScanner([Motif("ebox", "E-box", counts)], 1e-3).scan(bases_of("TTTCACGTGTTT"))
    assert [(hit[0], hit[2]) for hit in rows_of(hits)] == [(3, 1), (3, -1)]
    assert hits.bits[0] == hits.bits[1] and hits.p_value[0] == hits.p_value[1] == 4.0**-6


def test_only_upper_case_bases_count() -> None:
    counts = np.zeros((6, 4))
    counts[range(6), [b"ACGT".index(base) for base in b"GATTAC"]] = 20
    scanner = MotifScanner([Motif("m", "m", counts)], 1e-3)
    assert scanner.scan(bases_of("GATTACgattacGATuACGATRACGAT-ACGATTAC")).start.tolist() == [0, 30]
    assert len(scanner.scan(np.arange(256, dtype=np.uint8))) == 0


@pytest.mark.parametrize("length", [0, 1, 5, 6, 7, 15, 16, 17])
def test_blocks_about_as_long_as_a_motif(length: int) -> None:
    motifs = [random_motif(6, 1), random_motif(16, 1)]
    bases = random_bases(length, 11)
    assert rows_of(MotifScanner(motifs, 0.05).scan(bases)) == slow_hits(motifs, bases, 0.05)


def test_tensors_and_arrays_give_the_same_hits() -> None:
    scanner = MotifScanner([random_motif(8, 1)], 1e-2)
    bases = random_bases(2000, 12)
    expected = rows_of(scanner.scan(bases))
    assert expected
    assert rows_of(scanner.scan(torch.from_numpy(bases.copy()))) == expected
    with pytest.raises(ValueError, match="uint8"):
        scanner.scan(bases.astype(np.int64))


def on_kernel_device(bases: np.ndarray) -> torch.Tensor:
    """The bases where the kernel runs: on CUDA, or on the CPU in the interpreter."""
    return torch.from_numpy(bases.copy()).to("cuda" if torch.cuda.is_available() else "cpu")


def kernel_hits(scanner: MotifScanner, bases: np.ndarray, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> MotifHits:
    if backend == "triton":
        module = pytest.importorskip("annotator_kernels.pwm_scan.kernel", reason="triton is not installed")
        if not torch.cuda.is_available():  # the interpreter pays for each program
            monkeypatch.setattr(module, "BLOCK_CANDIDATES", 256)
            monkeypatch.setattr(module, "_LEAST_ROOM", 256)
    return scanner.scan(on_kernel_device(bases), backend=backend)


@pytest.mark.parametrize("backend", ["torch", "triton"])
@pytest.mark.parametrize("p_value", [0.1, 1e-3, 1e-5])
def test_the_kernel_gives_the_hits_of_the_tables_to_the_last_bit(
    p_value: float, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    motifs = [random_motif(width, 1) for width in (1, 3, 8, 9, 16, 17, 33, 64)] + [random_motif(8, 2, sharpness=3.0)]
    scanner = MotifScanner(motifs, p_value, background=(0.3, 0.2, 0.2, 0.3))
    bases = random_bases(400, 14, 0.01).copy()
    for i, motif in enumerate(motifs):  # a site of each, the last one at the very end
        site = np.frombuffer(b"ACGT", np.uint8)[motif.counts.argmax(axis=1)]
        end = len(bases) - 30 * i
        bases[end - motif.width : end] = site
    expected = scanner.scan(bases)
    monkeypatch.setattr(motif_kernel, "HITS_AT_ONCE", 7)
    hits = kernel_hits(scanner, bases, backend, monkeypatch)
    assert len(hits) > 3
    for field in fields(MotifHits):
        mine, theirs = getattr(hits, field.name), getattr(expected, field.name)
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs, err_msg=field.name)


@pytest.mark.parametrize("length", [0, 1, 5, 6, 7])
def test_the_kernel_on_blocks_about_as_long_as_a_motif(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scanner = MotifScanner([random_motif(6, 1), random_motif(16, 1)], 0.1)
    bases = random_bases(length, 11)
    assert rows_of(kernel_hits(scanner, bases, "triton", monkeypatch)) == rows_of(scanner.scan(bases))


def test_the_kernel_needs_no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motif_scan, "SeedTables", None)
    scanner = MotifScanner([random_motif(6, 1), random_motif(15, 2)], 1e-6)
    site = np.frombuffer(b"ACGT", np.uint8)[scanner.motifs[1].counts.argmax(axis=1)]
    assert kernel_hits(scanner, site, "triton", monkeypatch).motif.tolist() == [1]
    nothing = MotifScanner([random_motif(6, 1)], 1e-6)
    assert len(kernel_hits(nothing, random_bases(100, 1), "triton", monkeypatch)) == 0
    nothing.prepare()
    with pytest.raises(TypeError):
        scanner.prepare()


def test_a_tensor_on_a_gpu_takes_the_kernel(device: torch.device) -> None:
    scanner = MotifScanner([random_motif(8, 1)], 1e-2)
    bases = random_bases(2000, 12)
    hits = scanner.scan(torch.from_numpy(bases.copy()).to(device))
    assert rows_of(hits) == rows_of(scanner.scan(bases))
    assert ("_kernel" in vars(scanner)) == (device.type == "cuda")


def test_matrices_that_cannot_reach_the_threshold_are_named() -> None:
    motifs = [random_motif(6, 1), random_motif(15, 2), random_motif(9, 3)]
    scanner = MotifScanner(motifs, 1e-6)
    assert scanner.skipped == (0, 2)  # 4**-9 is above 1e-6
    site = bytes(b"ACGT"[code] for code in motifs[1].counts.argmax(axis=1))
    assert scanner.scan(np.frombuffer(site, np.uint8)).motif.tolist() == [1]
    nothing = MotifScanner(motifs[:1], 1e-6)
    assert nothing.skipped == (0,)
    assert rows_of(nothing.scan(random_bases(100, 1))) == []


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="0 motifs"):
        MotifScanner([])
    with pytest.raises(UsageError, match="motif p-value"):
        MotifScanner([random_motif(6, 1)], 0.5)
    with pytest.raises(UsageError, match="background"):
        MotifScanner([random_motif(6, 1)], 1e-3, background=(1.0, 0.0, 0.0, 0.0))


@pytest.mark.parametrize("p_value", [1e-6, 1e-4])
def test_jaspar_equals_lightmotif(p_value: float) -> None:
    lightmotif = pytest.importorskip("lightmotif", reason="lightmotif is not installed")
    pytest.importorskip("pyjaspar", reason="pyjaspar is not installed")
    motifs = jaspar_motifs("vertebrates")[::8][:100]
    bases = random_bases(200_000, 13, 0.001)
    scanner = MotifScanner(motifs, p_value)
    hits = scanner.scan(bases)
    striped = lightmotif.stripe(bases.tobytes().decode())
    sure = 0
    for index, matrix in enumerate(scanner.matrices):
        if index in scanner.skipped:
            continue
        values = {base: matrix.log_odds[:, i].tolist() for i, base in enumerate("ACGT")}
        plus = lightmotif.ScoringMatrix({**values, "N": [-np.inf] * matrix.width})
        # rounding moves a window by half a step a column at most, and their scores are float32 sums
        blur = (matrix.width / 2) / STEPS_PER_BIT + 1e-4
        for strand, pssm in ((1, plus), (-1, plus.reverse_complement())):
            mine = hits.take((hits.motif == index) & (hits.strand == strand))
            scores = pssm.calculate(striped)
            certain = set(scores.threshold(matrix.threshold / STEPS_PER_BIT + blur))
            close = set(scores.threshold(matrix.threshold / STEPS_PER_BIT - blur)) - certain
            steps = matrix.steps if strand == 1 else matrix.steps[::-1, ::-1]
            decided = {start for start in close if integer_score(steps, bases[start : start + matrix.width]) >= matrix.threshold}
            assert set(mine.start.tolist()) == certain | decided
            sure += len(certain)
            np.testing.assert_allclose(mine.bits, [scores[start] for start in mine.start.tolist()], atol=1e-4)
    assert sure > 10


def test_fimo_example(data_pack: Path) -> None:
    folder = data_pack / "tfbs" / "fimo_example" / "memelite"
    contigs: dict[str, str] = {}
    for line in (folder / "test.fa").read_text().splitlines():
        if line.startswith(">"):
            name = line[1:].strip()
            contigs[name] = ""
        else:
            contigs[name] += line.strip().upper()
    motifs = read_motifs(folder / "test.meme")
    # its pseudocount of 1e-4 on the probability of each base is 0.08 on a column of 200 sites, but for the division by
    # the sum that it leaves out: 10 columns, 0.0006 bits each
    scanner = MotifScanner(motifs[:1], 1e-3, pseudocount=0.08)
    found = [(name, *hit) for name, text in contigs.items() for hit in rows_of(scanner.scan(bases_of(text)))]
    found.sort(key=lambda hit: -hit[3])  # as in its table: + first, each in contig order
    starts = [190, 183, 667, 1096, 1106, 1161, 1350, 1384, 393, 1096, 1106, 1161, 1350]
    bits = [7.83938732, 7.40117477, 7.40117477, 10.07583028, 10.07583028, 10.07583028, 11.4465722, 9.66039708]
    bits += [8.30576608, 7.42200964, 7.42200964, 7.42200964, 7.54405698]
    assert [hit[0] for hit in found] == ["chr1", "chr2"] + ["chr7"] * 11
    assert [hit[1] for hit in found] == starts
    assert [hit[3] for hit in found] == [1] * 8 + [-1] * 5
    np.testing.assert_allclose([hit[5] for hit in found], bits, atol=0.007)
    # its p-values come from scores binned to a tenth of a bit
    p_values = [7.60078430e-04, 9.22203064e-04, 9.22203064e-04, 1.89781189e-04, 1.89781189e-04, 1.89781189e-04]
    p_values += [7.53402710e-05, 2.45094299e-04, 5.88417053e-04, 9.22203064e-04, 9.22203064e-04, 9.22203064e-04, 8.81195068e-04]
    np.testing.assert_allclose([hit[6] for hit in found], p_values, rtol=0.1)
