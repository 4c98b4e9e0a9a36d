"""The benchmarks of whole numbers: what their rows compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotator.labels.genomes import load_genome
from annotator.labels.options import Organism
from annotator.models.directory import read_model
from annotator_kernels.integer_conv.op import integer_conv_fault
from benchmarks.int8_accuracy import rows
from benchmarks.int8_forward import compared, digest
from tests.support.runs import random_bases, write_fasta


def test_how_far_an_engine_is_from_float32() -> None:
    exact = np.random.default_rng(0).normal(-3, 3, (2, 50, 3)).astype(np.float32)
    assert compared(exact, exact) == {"least_correlation": 1.0, "logit_rms_error_of_likely_bases": 0.0}
    found = compared(exact + np.float32(0.25), exact)
    assert found["logit_rms_error_of_likely_bases"] == 0.25 and 0.9 < found["least_correlation"] < 1
    assert digest(exact) != digest(np.nextafter(exact, np.float32(0)))


@pytest.mark.skipif(integer_conv_fault() is not None, reason=f"no integer convolutions: {integer_conv_fault()}")
def test_rows_of_accuracy_hold_paired_differences(tmp_path: Path) -> None:
    text = random_bases(9000, 2)
    places = [at for at in range(50, 8900) if text[at : at + 3] == "GTA"]
    lines = [f"c\t{at - 1}\t{at}\tdonor\t0\t+\nc\t{at + 59}\t{at + 60}\tacceptor\t0\t+\n" for at in places]
    (tmp_path / "g.bed").write_text("".join(lines))
    organism = Organism("g", "plant", write_fasta(tmp_path / "g.fa", {"c": text}), tmp_path / "g.bed", accept_annotation=True)
    found = rows(*read_model("compact"), load_genome(organism, tmp_path), {"organism": "g"}, 20)
    assert [row["kind"] for row in found] == ["donor", "acceptor"]
    for row in found:
        low, high = row["auprc_difference_95"]  # type: ignore[misc]
        assert low <= row["auprc_difference"] <= high and abs(row["auprc_difference"]) < 0.1  # type: ignore[arg-type,operator]
        assert {"int8_precision", "float32_recall", "int8_cpu_s", "top_k_difference"} <= row.keys()
