"""What a genome costs each model family, worked out from its architecture: the tables of docs/families.

    python benchmarks/family_cost.py              # the tables, as Markdown
    python benchmarks/family_cost.py --write      # put them into docs/families/*.md
    python benchmarks/family_cost.py --check      # compare the formula with torch's count of a forward pass

Arithmetic, not measurement. FLOPs count two for a multiply-add. A base and strand costs

    (passes x T x (2 P + 4 S H layers) / W + 2 Q) x overhead

P: weights of the backbone's linear layers (embeddings are looked up, not multiplied). T: tokens computed for a row of W bases,
special tokens and padding counted. S: tokens that a token looks at: T, or (T + 1) / 2 in a causal model. passes: 2 for a
causal model, which reads a row in both directions, else 1. Q: weights of the head, for each base; a classifier of windows has
none to speak of. overhead: bases computed for one that is scored: W / (W - 2 margins), or W / stride where windows slide.

W and the overhead are those that `annotator finetune` chooses. Networks are built on torch's meta device, without weights.
`benchmarks/cost_model.py` has the floors of a device, where windows fill the context and lie side by side.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from annotator.models.convert import DILATIONS, RADIUS_BP, WIDTHS
from annotator.models.families.base import Architecture, ModelFamily
from annotator.models.families.compact.net import CompactNet
from annotator.models.families.compact.window import CompactWindow, CompactWindowConfig
from annotator.models.families.dilated_cnn import DilatedConfig, DilatedNet
from annotator.models.families.registry import family
from annotator.models.options import FAMILIES
from annotator.models.task_heads import BaseHead, HeadOptions
from annotator.training.finetune.genomes import WINDOW_BP
from benchmarks.cost_model import bundled_shape

PAGES = Path(__file__).parents[1] / "docs" / "families"
BEGIN, END = "<!-- family_cost.py {}: begin -->", "<!-- family_cost.py {}: end -->"
STRANDS = 2
YEAST_BP, HUMAN_BP = 12e6, 3.1e9
CPU_FLOPS_PER_S, GPU_FLOPS_PER_S = 100e9, 400e12
BPE_BASES_PER_TOKEN = 4.71
"""Bases a token of DNABERT-2's published tokenizer, on random DNA."""
TOKEN_STEP = 64
"""Rows of tokens are padded to a multiple of this (`annotator.models.token_parts.even_passes`)."""
TRACKS = 3
TABLE_WINDOW_BP, TABLE_STRIDE_BP = 300, 8
OPENSPLICEAI_UNITS = {400: 8, 2000: 12, 10000: 16}
OPENSPLICEAI_CHANNELS, OPENSPLICEAI_WINDOW_BP = 32, 98_304
TINY = ("tiny", "small", "v1-tiny")
"""Sizes that nobody has published."""


@dataclass(frozen=True)
class Cost:
    """A model's row of a table.

    Attributes:
        page: Name of its page in docs/families.
        name: Family and size.
        parameters: Numbers in the network, with the head it is pre-trained with.
        context: Bases that a base's scores can depend on, or a row can have.
        row: Bases and tokens of a row.
        flops: Operations for a base and strand, everything counted.
        overhead: Bases computed for one that is scored.
        published: Whether it is of a published size.
    """

    page: str
    name: str
    parameters: int
    context: str
    row: str
    flops: float
    overhead: float
    published: bool = True


@dataclass(frozen=True)
class Said:
    """What the overview says of a family in words.

    Attributes:
        token: What one token covers.
        licence: Licence of the published weights.
        changed: What was changed.
    """

    token: str
    licence: str
    changed: str


WORDS = {
    "compact": Said("6 bp, one for each base", "Apache-2.0", "this program's own"),
    "openspliceai": Said("1 bp (one-hot)", "GPL-3.0", "norms folded in, several seeds averaged; same probabilities"),
    "dnabert": Said("k bp (3..6), one for each base", "", "own tokenizer without its traps; hidden spans do not leak"),
    "dnabert2": Said(f"{BPE_BASES_PER_TOKEN} bp on average (byte pairs)", "", "network written anew: no Triton, no remote code"),
    "nucleotide-transformer": Said("6 bp, side by side", "", "version 2 written anew; any letter is read; no <eos>"),
    "biogpt": Said("6 bp, side by side", "", "DNA vocabulary instead of English; read in both directions"),
}


def parameters_of(build: Callable[[], nn.Module]) -> int:
    """Numbers in a network, which is built without them."""
    with torch.device("meta"):
        return sum(value.numel() for value in build().parameters())


def weights_of(network: nn.Module) -> int:
    """Numbers in the weights of linear layers and convolutions."""
    return sum(module.weight.numel() for module in network.modules() if isinstance(module, (nn.Linear, nn.Conv1d)))


def flops_per_row(chosen: ModelFamily, architecture: Architecture, tokens: int, *, causal: bool) -> float:
    """Operations of one pass of the backbone over a row of so many tokens."""
    with torch.device("meta"):
        backbone = chosen.build(architecture).backbone
    seen = (tokens + 1) / 2 if causal else tokens
    values = int(architecture["hidden_size"]) * int(architecture["num_hidden_layers"])
    return tokens * (2 * weights_of(backbone) + 4 * seen * values)


def tokens_of(chosen: ModelFamily, architecture: Architecture, bases: int) -> tuple[int, int | None]:
    """Tokens that are computed for a row of bases without N, and the most bases that a row can have."""
    if chosen.name == "dnabert2":  # its tokenizer is a file
        count, longest, longest_bp = round(bases / BPE_BASES_PER_TOKEN) + 2, None, None
    else:
        tokenizer = chosen.tokenizer(architecture, None)
        longest, longest_bp = tokenizer.max_tokens, tokenizer.longest_bp()
        row = torch.full((1, min(bases, longest_bp or bases)), ord("A"), dtype=torch.uint8)
        count = tokenizer.encode(row).ids.shape[1]
    padded = count // TOKEN_STEP * TOKEN_STEP + TOKEN_STEP
    return (padded if longest is None else min(padded, longest)), longest_bp


def transformer(name: str, size: str, *, slid: bool) -> Cost:
    """A family that labels bases as `annotator finetune --fasta` makes it, or one that classifies windows."""
    chosen = family(name)
    architecture, passes = chosen.sizes[size], 2 if chosen.causal else 1
    wanted = TABLE_WINDOW_BP if slid else WINDOW_BP
    tokens, longest = tokens_of(chosen, architecture, wanted)
    window = min(wanted, longest or wanted)
    overhead = window / (TABLE_STRIDE_BP if slid else window - 2 * (window // 4))
    with torch.device("meta"):
        head = weights_of(BaseHead(architecture["hidden_size"] * passes, HeadOptions(TRACKS)))
    trunk = passes * flops_per_row(chosen, architecture, tokens, causal=chosen.causal) / window
    row = f"{window:,} bp, {tokens} tokens" + (", read twice" if chosen.causal else "")
    context = "no limit" if longest is None else f"{longest:,}"
    return Cost(
        name, f"{chosen.title}, {size}", parameters_of(lambda: chosen.build(architecture)), context, row,
        (trunk + (0 if slid else 2 * head)) * overhead, overhead, size not in TINY,
    )  # fmt: skip


def convolutional() -> Iterator[Cost]:
    """The bundled model and OpenSpliceAI's."""
    config, plan = bundled_shape()
    overhead = plan.window_bp / plan.core_bp
    yield Cost(
        "compact", "compact (bundled)", parameters_of(lambda: CompactNet(config)), f"{2 * config.reach_bp:,}",
        f"{plan.window_bp:,} bp", config.flops_per_base() * overhead, overhead,
    )  # fmt: skip
    for context, units in OPENSPLICEAI_UNITS.items():
        dilated = DilatedConfig(OPENSPLICEAI_CHANNELS, WIDTHS[:units], DILATIONS[:units])
        halo = -(-(dilated.reach_bp + RADIUS_BP) // 8) * 8
        overhead = OPENSPLICEAI_WINDOW_BP / (OPENSPLICEAI_WINDOW_BP - 2 * halo)
        yield Cost(
            "openspliceai", f"OpenSpliceAI, {context} nt, one network", parameters_of(lambda: DilatedNet(dilated)),  # noqa: B023
            f"{2 * dilated.reach_bp:,}", f"{OPENSPLICEAI_WINDOW_BP:,} bp", dilated.flops_per_base() * overhead, overhead,
        )  # fmt: skip


def compact_classifier() -> Cost:
    """The compact classifier of windows, one strand at a time."""
    config, overhead = CompactWindowConfig(TABLE_WINDOW_BP), TABLE_WINDOW_BP / TABLE_STRIDE_BP
    flops, count = config.net.flops_per_base(), parameters_of(lambda: CompactWindow(config, 2))
    return Cost("compact", "compact classifier", count, "the window", f"{TABLE_WINDOW_BP} bp", flops * overhead, overhead)


def duration(seconds: float) -> str:
    """Two or three digits and a unit."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{figure(seconds / size)} {unit}"
    return f"{figure(seconds)} s"


def figure(value: float) -> str:
    """Three digits or more, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def genome(bases: float, flops: float) -> list[str]:
    """Cells of a genome, both strands: PFLOP, and the time at the two rates."""
    total = STRANDS * bases * flops
    return [figure(total / 1e15), duration(total / CPU_FLOPS_PER_S), duration(total / GPU_FLOPS_PER_S)]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(row) + " |" for row in rows)])


def costs_table(costs: Sequence[Cost]) -> str:
    """What a base and two genomes cost."""
    head = ["model", "parameters", "row", "bases computed for one", "MFLOP a base and strand", "yeast, 12 Mb: PFLOP"]
    head += ["at 100 GFLOP/s", "human, 3.1 Gb: PFLOP", "at 100 GFLOP/s", "at 400 TFLOP/s"]
    rows = []
    for cost in costs:
        yeast, human = genome(YEAST_BP, cost.flops), genome(HUMAN_BP, cost.flops)
        own = [cost.name, f"{cost.parameters:,}", cost.row, f"{cost.overhead:.2f}", figure(cost.flops / 1e6)]
        rows.append([*own, *yeast[:2], *human])
    return markdown(head, rows)


def overview(costs: Sequence[Cost]) -> str:
    """One row for each published size."""
    head = ["model", "one token covers", "context, bp", "parameters", "licence of the published weights", "what we changed"]
    head += ["human genome, both strands: PFLOP", "at 100 GFLOP/s", "at 400 TFLOP/s"]
    rows = []
    for cost in costs:
        said = WORDS[cost.page]
        licence = said.licence or family(cost.page).licence
        own = [f"[{cost.name}]({cost.page.replace('-', '_')}.md)", said.token, cost.context, f"{cost.parameters:,}", licence]
        rows.append([*own, said.changed, *genome(HUMAN_BP, cost.flops)])
    return markdown(head, rows)


def tables() -> dict[str, str]:
    """All tables by the name between their markers."""
    sizes = [(name, size) for name in FAMILIES for size in family(name).sizes]
    bases = [*convolutional(), *(transformer(name, size, slid=False) for name, size in sizes)]
    windows = [compact_classifier(), *(transformer(name, size, slid=True) for name, size in sizes)]
    found = {"overview": overview([cost for cost in bases if cost.published])}
    for kind, costs in (("bases", bases), ("windows", windows)):
        for page in dict.fromkeys(cost.page for cost in costs):
            found[f"{page} {kind}"] = costs_table([cost for cost in costs if cost.page == page])
    return found


def check() -> Iterator[str]:
    """The formula beside what torch counts in a forward pass, of each family's tiny size; causal attention counted whole."""
    for name in FAMILIES:
        chosen = family(name)
        architecture = chosen.sizes["tiny"]
        backbone, ids = chosen.build(architecture).backbone.eval(), torch.full((1, 128), 7)
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
            backbone(ids, torch.ones_like(ids, dtype=torch.bool))
        ours, counted = flops_per_row(chosen, architecture, 128, causal=False), counter.get_total_flops()
        yield f"{name}: formula {ours:,}, counted {counted:,}" + ("" if ours == counted else ": DIFFERENT")


def with_tables(text: str, found: dict[str, str]) -> str:
    """A page with the tables renewed between their markers."""
    for key, table in found.items():
        begin, end = BEGIN.format(key), END.format(key)
        if begin in text:
            before, _, rest = text.partition(begin)
            text = f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Print, write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="renew the tables in docs/families")
    parser.add_argument("--check", action="store_true", help="compare the formula with torch's count")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.check:
        lines = list(check())
        print("\n".join(lines))
        return int(any("DIFFERENT" in line for line in lines))
    found = tables()
    if options.write:
        for path in sorted(PAGES.glob("*.md")):
            path.write_text(with_tables(path.read_text(), found))
    else:
        print("\n\n".join(f"{key}\n\n{table}" for key, table in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
