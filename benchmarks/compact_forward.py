"""The bundled model's forward pass as `kernels.py` measures it: bases in, logits out, eager and as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from annotator.kinds import DEFAULT_CLADE
from annotator.models.directory import read_model
from annotator.models.families.compact.scan import folded_on, load_compact
from annotator.tokens.vocabulary import KmerVocabulary
from annotator_kernels.backends import Backend, chosen_backends
from annotator_kernels.kmer.op import kmer_tokenize
from benchmarks.cost_model import COMPACT
from benchmarks.kernel_problems import Problem, Sizes, random_bases

_KERNELS = ("kmer_embed", "residual_conv")
"""Those of the forward pass."""
_BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Root-mean-square error of the logits, relative to theirs: the network is some ten roundings deep."""


def fallen_back(device: torch.device) -> str:
    """Kernels of the latest forward pass that did not run in Triton, and what ran; empty where all did."""
    chosen = chosen_backends()
    paths = {f"{kernel}/{device.type}": chosen.get(f"{kernel}/{device.type}", "it has not run") for kernel in _KERNELS}
    return "; ".join(f"{name}: {path}" for name, path in paths.items() if not path.startswith("triton"))


def compact_forward(sizes: Sizes, device: torch.device) -> Iterator[Problem]:
    """The bundled weights on both strands of some windows, in one fixed shape."""
    folder, manifest = read_model("compact")
    net, vocabulary = load_compact(folder, manifest, DEFAULT_CLADE), KmerVocabulary(**manifest.tokenizer)
    scheme = vocabulary.scheme()
    clade = manifest.clades[DEFAULT_CLADE].index
    model = folded_on(net, clade, vocabulary, device)
    count, length = sizes.windows, sizes.window_bp
    block = random_bases(count * length, device)
    starts = (torch.arange(count, device=device) * length).repeat(2)
    reverse = torch.arange(2 * count, device=device) >= count
    bound = _BOUNDS[model.dtype]

    def run(backend: Backend = "auto") -> Tensor:
        with torch.inference_mode():
            logits: Tensor = model(block, starts, reverse, length)  # its kernels choose their backends themselves
        if backend == "triton" and (fallen := fallen_back(device)):
            raise SystemExit(f"compact_forward: triton was asked for, but {fallen}: no figure")
        return logits

    def restated(rows: Tensor) -> Tensor:
        """The network as it was trained, in float32: no kernel of ours but the tokens' oracle, nothing folded."""
        before = (scheme.k - 1) // 2
        overhang = torch.where(reverse[rows], scheme.k - 1 - before, before)
        ids = kmer_tokenize(block, starts[rows] - overhang, reverse[rows], scheme, tokens=length, backend="torch")
        logits: Tensor = net.to(device).eval()(ids, torch.full((len(rows),), clade, device=device))
        return logits

    def difference(backend: Backend) -> str:
        rows = torch.tensor(sorted({0, 1, count - 1, count, 2 * count - 1}), device=device) % (2 * count)
        with torch.inference_mode():
            exact, got = restated(rows), run(backend)[rows]
        error = float((got - exact).norm() / exact.norm())
        return "" if error <= bound else f"relative error {error:.2g} of the logits, {bound:g} allowed"

    graphs: list[torch.cuda.CUDAGraph] = []

    def replay() -> None:
        """The pass as a graph, which is captured in the first call."""
        if not graphs:
            eager = run()  # kernels compile, and weights are folded, before the graph is taken
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                static = run()
            graph.replay()
            torch.cuda.synchronize(device)
            if not torch.equal(static, eager):
                raise ValueError("the CUDA graph of the model gives other logits than eager calls")
            graphs.append(graph)
        graphs[0].replay()

    baselines: dict[str, Callable[[], object]] = {"the same as a CUDA graph": replay} if device.type == "cuda" else {}
    run()
    shape = {
        "rows": 2 * count, "length": length, "dtype": str(model.dtype),
        "backends": {name: path for name, path in chosen_backends().items() if name.endswith(device.type)},
    }  # fmt: skip
    bases = 2 * count * length
    yield Problem(
        "compact_forward", "eager", shape, bases=bases,
        bytes_moved=int(bases * COMPACT.bytes_per_base(model.dtype.itemsize)), flops=bases * net.config.flops_per_base(),
        run=run, difference=difference, bound=f"logits within {bound:g} of the unfolded network in float32 (relative RMS)",
        baselines=baselines,
    )  # fmt: skip
