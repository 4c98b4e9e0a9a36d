"""The bundled network's forward pass in whole numbers, by every engine that could do it, in turns within one run.

    python -m benchmarks.int8_forward                         # torch alone: float32, bfloat16, int8, and int8 by instruction set
    python -m benchmarks.int8_forward --engines openvino,onnxruntime   # beside them; needs onnx, openvino, nncf, onnxruntime

98,304 bases of a strand of the data pack, or random ones without it. Time is CPU seconds of one thread, the least of some turns:
other work on the machine does not disturb that much. A row says how far an engine's probabilities are from those of float32 and
whether its logits have the same bits with one thread and two. The rows by instruction set limit oneDNN and torch to it in a
process of their own (`ONEDNN_MAX_CPU_ISA`, `ATEN_CPU_CAPABILITY`), and hold the sha256 of the logits. Rows go to results.jsonl.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.kinds import DEFAULT_CLADE
from annotator.models.directory import read_model
from annotator.models.families.compact.quantize import read_sequences
from annotator.models.families.compact.scan import FoldedNet, load_compact
from annotator.models.loading import load_scan_model
from annotator.tokens.vocabulary import KmerVocabulary
from annotator_kernels.kmer.op import kmer_tokenize
from annotator_kernels.versions import installed_version
from benchmarks.rows import RESULTS, append_row, circumstances

CPU = torch.device("cpu")
ROW_BP = 49_152
CALIBRATION_WINDOWS = 12
INSTRUCTION_SETS = {
    "AVX-512 with VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
Forward = Callable[[], NDArray[np.float32]]


class Subject:
    """Weights, and two rows of bases: both strands of a window."""

    def __init__(self, data: Path) -> None:
        """Read the model, take a window of the human test loci and some of the validation ones, or random bases without them."""
        self.folder, self.manifest = read_model("compact")
        self.vocabulary = KmerVocabulary(**self.manifest.tokenizer)
        net = load_compact(self.folder, self.manifest, DEFAULT_CLADE)
        self.net = FoldedNet(net, self.manifest.clades[DEFAULT_CLADE].index, self.vocabulary)
        test, val = (data / f"human/human.{split}.fa.gz" for split in ("test", "val"))
        self.real = test.exists() and val.exists()
        if self.real:
            there, other = ([each[:ROW_BP] for each in read_sequences(fasta) if len(each) >= ROW_BP] for fasta in (test, val))
            self.windows = [there[0], *other[:CALIBRATION_WINDOWS]]
        else:
            rng = np.random.default_rng(0)
            self.windows = [rng.choice(np.frombuffer(b"ACGT", np.uint8), ROW_BP) for _ in range(CALIBRATION_WINDOWS + 1)]
        self.block = torch.from_numpy(np.array(self.windows[0]))
        self.starts, self.reverse = torch.zeros(2, dtype=torch.int64), torch.tensor([False, True])

    def ids(self, window: int, length: int) -> NDArray[np.int32]:
        """k-mer ids of both strands of the beginning of a window, [2, length]."""
        block, k = torch.from_numpy(np.array(self.windows[window][:length])), self.vocabulary.scheme().k
        overhang = torch.where(self.reverse, k - 1 - (k - 1) // 2, (k - 1) // 2)
        found = kmer_tokenize(block, self.starts - overhang, self.reverse, self.vocabulary.scheme(), tokens=length)
        ids: NDArray[np.int32] = found.numpy()
        return ids

    def torch_forward(self, precision: str) -> Forward:
        """Our own scan model."""
        model = load_scan_model(self.folder, self.manifest, DEFAULT_CLADE, CPU, precision)

        def run() -> NDArray[np.float32]:
            with torch.inference_mode():
                return model.logits(model.embed(self.block, self.starts, self.reverse, ROW_BP)).numpy()  # type: ignore[no-any-return]

        return run

    def onnx(self, path: Path) -> None:
        """Write the folded network as an ONNX graph, ids [2, L] in and logits [2, L, C] out."""
        from onnx import TensorProto, helper, numpy_helper, save

        nodes: list[Any] = []
        constants: list[Any] = []
        net, step = self.net, self.net.config.step_bp

        def node(kind: str, *inputs: str, **attributes: Any) -> str:
            name = f"{kind}_{len(nodes)}"
            nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
            return name

        def constant(value: NDArray[Any]) -> str:
            name = f"constant_{len(constants)}"
            constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
            return name

        def conv(layer: Any, x: str, *, stride: int = 1) -> str:
            weight = layer.weight if stride == 1 else layer.weight.view(stride, -1, layer.weight.shape[2])
            width, pad = len(weight), 0 if stride > 1 else layer.dilation * (len(weight) // 2)
            values = constant(weight.permute(2, 1, 0).numpy()), constant(layer.bias.numpy())
            y = node(
                "Conv", x, *values, kernel_shape=[width], pads=[pad, pad], dilations=[layer.dilation], strides=[stride]
            )  # fmt: skip
            return y if layer.slope == 1.0 else node("LeakyRelu", y, alpha=layer.slope)

        x = node("Transpose", node("Gather", constant(net.table.numpy()), "ids"), perm=[0, 2, 1])
        for layer in net.stem:
            x = node("Add", x, conv(layer, x))
        h = conv(net.down, x, stride=step)
        for block in net.blocks:
            h = node("Add", h, conv(block, h))
        up = node("Transpose", conv(net.up, h), perm=[0, 2, 1])
        up = node("Reshape", up, constant(np.array([2, -1, net.config.fine_channels])))
        x = node("Add", x, node("Transpose", up, perm=[0, 2, 1]))
        x = node("Transpose", node("Add", x, conv(net.mix, x)), perm=[0, 2, 1])
        x = node("MatMul", x, constant(net.mix.head_weight.t().numpy()))
        x = node("Add", x, constant(net.mix.head_bias.numpy()))
        graph = helper.make_graph(
            nodes, "compact", [helper.make_tensor_value_info("ids", TensorProto.INT32, [2, "L"])],
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, [2, "L", net.config.tracks])], constants,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        save(model, str(path))

    def openvino(self, threads: int, *, whole: bool, scratch: Path) -> Forward:
        """OpenVINO on the ONNX graph; whole numbers by NNCF's post-training quantisation."""
        import openvino as ov

        model = ov.Core().read_model(scratch / "compact.onnx")
        model.reshape([2, ROW_BP])
        if whole:
            import nncf

            windows = [self.ids(1 + i, ROW_BP) for i in range(min(CALIBRATION_WINDOWS, len(self.windows) - 1))]
            model = nncf.quantize(model, nncf.Dataset(windows), subset_size=len(windows))
        compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"})
        ids = self.ids(0, ROW_BP)
        return lambda: np.array(compiled([ids])[0])

    def onnxruntime(self, threads: int, *, whole: bool, scratch: Path) -> Forward:
        """ONNX Runtime on the same graph; whole numbers by its static quantisation (QDQ)."""
        import onnxruntime as ort

        path = scratch / "compact.onnx"
        if whole:
            from onnxruntime import quantization as q

            subject = self

            class Reader(q.CalibrationDataReader):  # type: ignore[misc]
                def __init__(self) -> None:
                    count = min(CALIBRATION_WINDOWS, len(subject.windows) - 1)
                    self.left = [subject.ids(1 + i, ROW_BP // 4) for i in range(count)]

                def get_next(self) -> dict[str, NDArray[np.int32]] | None:
                    return {"ids": self.left.pop()} if self.left else None

            path = scratch / "whole.onnx"
            q.quantize_static(
                scratch / "compact.onnx", path, Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True,
                activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
                op_types_to_quantize=["Conv", "Add", "LeakyRelu"],
            )  # fmt: skip
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        ids = self.ids(0, ROW_BP)
        return lambda: np.asarray(session.run(None, {"ids": ids})[0])


def digest(logits: NDArray[np.float32]) -> str:
    """The beginning of the sha256 of logits."""
    return hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest()[:12]


def forwards(subject: Subject, engines: Sequence[str], threads: int, scratch: Path) -> dict[str, Forward]:
    """Every engine and precision by label."""
    torch.set_num_threads(threads)
    found = {f"torch {precision}": subject.torch_forward(precision) for precision in ("float32", "bfloat16", "int8")}
    if engines:
        subject.onnx(scratch / "compact.onnx")
    for engine in engines:
        for whole in (False, True):
            found[f"{engine} {'int8' if whole else 'float32'}"] = getattr(subject, engine)(threads, whole=whole, scratch=scratch)
    return found


def in_turns(found: dict[str, Forward], rounds: int) -> tuple[dict[str, float], dict[str, NDArray[np.float32]]]:
    """The least CPU seconds of each, and its logits."""
    seconds: dict[str, list[float]] = {label: [] for label in found}
    logits = {}
    for _ in range(1 + rounds):
        for label, run in found.items():
            began = time.process_time()
            logits[label] = run()
            seconds[label].append(time.process_time() - began)
    return {label: min(turns[1:]) for label, turns in seconds.items()}, logits


def compared(logits: NDArray[np.float32], exact: NDArray[np.float32]) -> dict[str, float]:
    """How far an engine is from float32: correlation of the probabilities, and the logits' error where there may be a site."""
    p, q = (1 / (1 + np.exp(-values.astype(np.float64))) for values in (logits, exact))
    likely = (p > 0.05) | (q > 0.05)
    correlations = [float(np.corrcoef(p[..., track].ravel(), q[..., track].ravel())[0, 1]) for track in range(p.shape[-1])]
    error = float(np.sqrt(np.mean((logits[likely] - exact[likely]) ** 2))) if likely.any() else 0.0
    return {"least_correlation": round(min(correlations), 5), "logit_rms_error_of_likely_bases": round(error, 4)}


def main() -> int:
    """Measure and write rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--engines", default="", help="openvino, onnxruntime: beside torch")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--as-json", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    subject, engines = Subject(args.data), [name for name in args.engines.split(",") if name]
    bases = 2 * ROW_BP
    with tempfile.TemporaryDirectory() as scratch:
        seconds, logits = in_turns(forwards(subject, engines, 1, Path(scratch)), args.rounds)
        if args.as_json:
            found = {label: [seconds[label], digest(logits[label])] for label in ("torch float32", "torch int8")}
            print(json.dumps(found))
            return 0
        two = {label: digest(run()) for label, run in forwards(subject, engines, 2, Path(scratch)).items()}
    shared = {
        "benchmark": "int8_forward",
        "base_strands": bases,
        "real_bases": subject.real,
        "weights": subject.manifest.weights_sha256[:12],
    }
    where = circumstances(CPU)
    for label, cpu_s in seconds.items():
        engine, precision = label.split()
        row = shared | {
            "engine": engine, "version": installed_version(engine), "precision": precision, "cpu_s": round(cpu_s, 4),
            "times_float32_of_torch": round(seconds["torch float32"] / cpu_s, 2),
            **compared(logits[label], logits["torch float32"]),
            "same_bits_with_two_threads": two[label] == digest(logits[label]),
        }  # fmt: skip
        append_row(args.out, row | where)
        print(row, flush=True)
    for name, limits in INSTRUCTION_SETS.items():
        line = [
            sys.executable,
            "-m",
            "benchmarks.int8_forward",
            "--data",
            str(args.data),
            "--rounds",
            str(args.rounds),
            "--as-json",
        ]
        done = subprocess.run(line, env=os.environ | limits, capture_output=True, text=True, check=True)
        both = json.loads(done.stdout)
        row = shared | {
            "engine": "torch", "instruction_set": name, "float32_cpu_s": round(both["torch float32"][0], 4),
            "int8_cpu_s": round(both["torch int8"][0], 4),
            "times_float32": round(both["torch float32"][0] / both["torch int8"][0], 2),
            "float32_sha256": both["torch float32"][1], "int8_sha256": both["torch int8"][1],
        }  # fmt: skip
        append_row(args.out, row | where)
        print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
