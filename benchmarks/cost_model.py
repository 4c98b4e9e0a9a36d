"""What a base costs: bytes and FLOPs of each model family, the floor on a device, a human genome.

    python benchmarks/cost_model.py                          # the tables of README.md, as Markdown
    python benchmarks/cost_model.py --write                  # put them there
    python benchmarks/cost_model.py --rows benchmarks/results.jsonl   # ceilings of the latest measured row of each device

A base counts once for each strand. No call can take less than the larger of bytes / bandwidth and FLOPs / rate: the floor.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from annotator.genome.plan import PlanOptions
from annotator.models.directory import read_model
from annotator.models.families.compact.net import CompactConfig

HUMAN_BP = 3.1e9
STRANDS = 2
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- cost_model.py: begin -->", "<!-- cost_model.py: end -->"


@dataclass(frozen=True)
class Device:
    """Ceilings of a device.

    Attributes:
        name: What it is, and whether the ceilings are nominal or measured.
        flops_per_s: Matrix products, in the type that values have.
        bytes_per_s: Read plus written.
        value_bytes: Bytes of a value: 2 (bfloat16) or 4 (float32).
    """

    name: str
    flops_per_s: float
    bytes_per_s: float
    value_bytes: int


DEVICES = (
    Device("H200, nominal", 989e12, 4.8e12, 2),
    Device("2 CPU cores (AMD EPYC), measured", 180e9, 35e9, 4),
)


class Family(Protocol):
    """A model whose cost is known."""

    @property
    def name(self) -> str:
        """For the table."""

    @property
    def shape(self) -> str:
        """For the table."""

    @property
    def overhead(self) -> float:
        """Bases computed for each base that is scored."""

    def flops_per_base(self) -> float:
        """Operations for a base of one strand, window overhead not counted."""

    def bytes_per_base(self, value_bytes: int) -> float:
        """Bytes moved for a base of one strand, window overhead not counted."""


def bundled_shape() -> tuple[CompactConfig, PlanOptions]:
    """Architecture and windows of the bundled model, as its manifest says."""
    manifest = read_model("compact")[1]
    config = CompactConfig(**(manifest.architecture | {"dilations": tuple(manifest.architecture["dilations"])}))
    return config, PlanOptions(**manifest.plan)


@dataclass(frozen=True)
class Compact:
    """The bundled model, as the kernels run it: each convolution one pass, its activation and residual fused."""

    config: CompactConfig
    plan: PlanOptions
    name: str = "bundled (compact)"

    @property
    def shape(self) -> str:
        """Channels."""
        config, blocks = self.config, len(self.config.dilations)
        return f"{config.fine_channels} channels x 1 bp, {config.trunk_channels} x {config.step_bp} bp, {blocks} blocks"

    @property
    def overhead(self) -> float:
        """Windows overlap by two halos."""
        return self.plan.window_bp / (self.plan.window_bp - 2 * self.plan.halo_bp)

    def flops_per_base(self) -> float:
        """The architecture's own count."""
        return self.config.flops_per_base()

    def bytes_per_base(self, value_bytes: int) -> float:
        """Each pass reads its input once and writes its output once; weights stay in cache."""
        fine, trunk = self.config.fine_channels, self.config.trunk_channels / self.config.step_bp
        embed = fine  # written; the byte read is added below
        stem_and_mix = (2 * 2 + 1) * fine  # the head reads what mix makes before it is written
        down = fine + trunk
        blocks = len(self.config.dilations) * 2 * trunk
        up = trunk + 2 * fine  # the residual is read too
        logits = 2 * 4 * self.config.tracks  # float32, written here and read by local_maxima
        return 1 + value_bytes * (embed + stem_and_mix + down + blocks + up) + logits


@dataclass(frozen=True)
class Transformer:
    """An encoder or decoder stack, with every element-wise operation fused into the product or attention before it.

    Attributes:
        name: For the table.
        layers: Blocks.
        hidden: Width H.
        inner: Width F of the feed-forward part.
        tokens: Tokens of a window, T.
        window_bp: Bases they cover, without special tokens.
        gated: Whether the first product of the feed-forward part makes 2 F values (GEGLU, SwiGLU).
        causal: Whether a token sees itself and those before it alone.
    """

    name: str
    layers: int
    hidden: int
    inner: int
    tokens: int
    window_bp: float
    gated: bool = False
    causal: bool = False

    @property
    def shape(self) -> str:
        """The numbers that count."""
        return f"{self.layers} layers, H {self.hidden}, F {self.inner}{' gated' if self.gated else ''}, {self.tokens} tokens"

    @property
    def overhead(self) -> float:
        """Windows side by side."""
        return 1.0

    def flops_per_token(self) -> float:
        """Four H x H products, the feed-forward part, and the two products of attention, in every layer."""
        seen = (self.tokens + 1) / 2 if self.causal else self.tokens
        feed_forward = (3 if self.gated else 2) * self.hidden * self.inner
        return self.layers * (2 * (4 * self.hidden**2 + feed_forward) + 2 * 2 * seen * self.hidden)

    def flops_per_base(self) -> float:
        """By tokens per base."""
        return self.flops_per_token() * self.tokens / self.window_bp

    def bytes_per_base(self, value_bytes: int) -> float:
        """Values read and written between the fused passes; weights are read once a batch and not counted."""
        attention = (1 + 3) + (3 + 1) + (1 + 1 + 1)  # q, k, v; attention itself; output product with its residual
        values = (attention + 1 + 1 + 1) * self.hidden + 2 * self.inner  # and the feed-forward part with its residual
        return value_bytes * self.layers * values * self.tokens / self.window_bp


COMPACT = Compact(*bundled_shape())
DNABERT_6 = Transformer("DNABERT, k = 6, stride 1", 12, 768, 3072, 512, 510)
FAMILIES: tuple[Family, ...] = (
    COMPACT,
    DNABERT_6,
    Transformer("DNABERT-2 (BPE, 4.71 bp a token)", 12, 768, 3072, 512, 510 * 4.71, gated=True),
    Transformer("Nucleotide Transformer v1 500M", 24, 1280, 5120, 1000, 5994),
    Transformer("Nucleotide Transformer v1 2.5B", 32, 2560, 10240, 1000, 5994),
    Transformer("Nucleotide Transformer v2 50M", 12, 512, 2048, 2048, 12282, gated=True),
    Transformer("Nucleotide Transformer v2 500M", 29, 1024, 4096, 2048, 12282, gated=True),
    Transformer("BioGPT-style, 6-mers side by side", 24, 1024, 4096, 1024, 6 * 1024, causal=True),
)


def floor_s(family: Family, device: Device, bases: float) -> tuple[float, str]:
    """Least seconds for some bases (x strands), and which ceiling sets them."""
    computed = bases * family.overhead
    by_bytes = computed * family.bytes_per_base(device.value_bytes) / device.bytes_per_s
    by_flops = computed * family.flops_per_base() / device.flops_per_s
    return max(by_bytes, by_flops), "bytes" if by_bytes > by_flops else "FLOPs"


def duration(seconds: float) -> str:
    """Two or three digits and a unit."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.{0 if seconds >= 100 * size else 1}f} {unit}"
    return f"{seconds:.1f} s"


def markdown(devices: Sequence[Device] = DEVICES) -> str:
    """Both tables."""
    lines = [
        "| family | shape | MFLOP a base and strand | bytes (bf16) | FLOPs a byte | bases computed for one scored |",
        "|---|---|---|---|---|---|",
    ]
    for family in FAMILIES:
        flops, moved = family.flops_per_base(), family.bytes_per_base(2)
        figures = f"{flops / 1e6:,.3g} | {moved:,.0f} | {flops / moved:,.0f} | {family.overhead:.2f}"
        lines.append(f"| {family.name} | {family.shape} | {figures} |")
    lines += [
        "",
        "| human genome, 3.1 Gb, both strands, at the floor | "
        + " | ".join(f"{d.name}: {d.flops_per_s / 1e12:.3g} TFLOP/s, {d.bytes_per_s / 1e9:,.0f} GB/s" for d in devices)
        + " |",
        "|---|" + "---|" * len(devices),
    ]
    for family in FAMILIES:
        cells = []
        for device in devices:
            seconds, limit = floor_s(family, device, STRANDS * HUMAN_BP)
            cells.append(f"{duration(seconds)} ({limit})")
        lines.append(f"| {family.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measured_devices(rows: Path) -> list[Device]:
    """Ceilings of the latest row of each device that `kernels.py` measured."""
    found: dict[str, Device] = {}
    for line in rows.read_text().splitlines():
        row = json.loads(line)
        if row.get("benchmark") == "kernels":
            facts, limits = row["device"], row["ceilings"]
            threads = f", {facts['threads']} threads" if "threads" in facts else ""
            name = f"{facts['name']}{threads}, measured {row['date'][:10]}"
            value_bytes = 4 if facts["device"] == "cpu" else 2
            found[f"{facts['name']}{threads}"] = Device(
                name, limits["matrix_flops_per_s"], limits["copy_bytes_per_s"], value_bytes
            )
    return list(found.values())


def with_tables(text: str) -> str:
    """README's text with the tables renewed between their markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown()}\n{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="take the ceilings from these rows in place of the built-in ones")
    parser.add_argument("--write", action="store_true", help="renew the tables in benchmarks/README.md")
    options = parser.parse_args(argv)
    if options.write:
        README.write_text(with_tables(README.read_text()))
    else:
        print(markdown(measured_devices(options.rows) if options.rows else DEVICES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
