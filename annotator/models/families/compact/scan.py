"""The compact network made ready to scan: one clade, norm and biases folded into the convolutions."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from annotator.errors import InputError
from annotator.genome.plan import PlanOptions
from annotator.models.device import choose_precision
from annotator.models.families.compact.net import SLOPE, CompactConfig, CompactNet, ConvNorm
from annotator.models.manifest import LARGEST_SIZE, MANIFEST_NAME, Manifest
from annotator.tokens.vocabulary import KmerVocabulary
from annotator_kernels.kmer.op import kmer_embed
from annotator_kernels.residual_conv.op import Head, residual_conv


def load_compact(folder: Path, manifest: Manifest, clade: str) -> CompactNet:
    """Read the network of one clade from the safetensors file of a model.

    Args:
        folder: The model directory.
        manifest: Its manifest.
        clade: One of the manifest's; the clades of a model share one network or have one each.

    Raises:
        InputError: The file is damaged, or its tensors are not exactly those of the architecture.
    """
    path = folder / manifest.weights
    _refuse_impossible_sizes(manifest, folder)
    try:
        config = CompactConfig(**(manifest.architecture | {"dilations": tuple(manifest.architecture["dilations"])}))
    except (TypeError, KeyError) as error:
        raise InputError(f"{folder}: architecture of the manifest: {error}") from None
    try:
        tensors, others = _tensors(path, manifest, clade)
    except SafetensorError as error:
        raise InputError(f"{path}: damaged safetensors file ({error})") from None
    _refuse_misfits(config, manifest, folder)
    reach = config.reach_bp + manifest.tokenizer["k"] + max(manifest.radius_bp.values())
    if manifest.plan["halo_bp"] < reach:
        raise InputError(f"{folder}: halo_bp = {manifest.plan['halo_bp']}, but a call can depend on bases {reach} bp away")
    if 2 * config.weights > path.stat().st_size:  # an absurd architecture costs no memory
        raise InputError(f"{path}: too small for the {config.weights:,} weights of the manifest's architecture")
    net = CompactNet(config)
    expected = net.state_dict()
    for name, value in expected.items():
        if name not in tensors:
            raise InputError(f"{path}: tensor {name} is missing")
        if tensors[name].shape != value.shape:
            raise InputError(f"{path}: tensor {name} has shape {list(tensors[name].shape)}, expected {list(value.shape)}")
    if unexpected := sorted({*tensors, *others} - set(expected)):
        raise InputError(f"{path}: unexpected tensor {unexpected[0]}")
    net.load_state_dict(tensors)
    return net.eval()


def _tensors(path: Path, manifest: Manifest, clade: str) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of one clade's network by their plain names, and names that belong to no network of the manifest."""
    wanted = manifest.clades[clade].network
    networks = {settings.network for settings in manifest.clades.values()}
    tensors, others = {}, []
    with safe_open(path, framework="pt") as file:  # reads what is asked for alone, of several networks one
        for key in file.keys():  # noqa: SIM118 (no mapping: it has no iterator)
            first, _, rest = key.partition(".")
            network, name = (first, rest) if first in networks else ("", key)
            if network == wanted:
                tensors[name] = file.get_tensor(key)
            elif network not in networks:
                others.append(key)
    return tensors, others


def _refuse_impossible_sizes(manifest: Manifest, folder: Path) -> None:
    for key, value in manifest.architecture.items():
        sizes = value if isinstance(value, list) else [value]
        if not all(type(size) is int and 0 < size <= LARGEST_SIZE for size in sizes):
            raise InputError(
                f"{folder / MANIFEST_NAME}: field 'architecture.{key}' is {value!r}, not whole numbers of 1..{LARGEST_SIZE}"
            )


def _refuse_misfits(config: CompactConfig, manifest: Manifest, folder: Path) -> None:
    """Raise InputError where the architecture does not fit the rest of the manifest."""
    plan = PlanOptions(**manifest.plan)
    try:
        if fractions := [key for key, value in manifest.tokenizer.items() if isinstance(value, float)]:
            raise InputError(f"{folder / MANIFEST_NAME}: field 'tokenizer.{fractions[0]}' is not a whole number")
        vocabulary = KmerVocabulary(**manifest.tokenizer)
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder / MANIFEST_NAME}: field 'tokenizer': {error}") from None
    indices = [settings.index for settings in manifest.clades.values()]
    uneven = [length for length in (*plan.window_lengths, plan.align_bp) if length % config.step_bp]
    for wrong, what in (
        (
            len(set(manifest.tracks)) != config.tracks,
            f"tracks {', '.join(manifest.tracks)} are not {config.tracks} different ones",
        ),
        (vocabulary.size > config.vocabulary_size, f"tokenizer has {vocabulary.size} ids, architecture {config.vocabulary_size}"),
        (manifest.window is not None, "'window': this family labels bases"),
        (
            not all(0 <= index < config.clades for index in indices),
            f"clades: index {max(indices, default=0)} of {config.clades}",
        ),
        (uneven, f"plan: {uneven} bp are not multiples of step_bp = {config.step_bp}"),
        (config.fine_width % 2 == 0 or config.trunk_width % 2 == 0, "architecture: fine_width and trunk_width must be odd"),
    ):
        if wrong:
            raise InputError(f"{folder}: {what}")


def fold(layer: ConvNorm, clade: int) -> tuple[Tensor, Tensor]:
    """The convolution that equals a ConvNorm in eval mode for one clade, its activation left out.

    Returns:
        Weight, taps first, float32, [W, I, O], and bias, float32, [O].
    """
    conv, norm = layer.conv, layer.norm
    assert norm.running_var is not None and norm.running_mean is not None  # BatchNorm1d always tracks here
    factor = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = torch.zeros_like(norm.running_mean) if conv.bias is None else conv.bias.detach()
    shift = (bias.double() - norm.running_mean.double()) * factor + norm.bias.detach().double()
    if layer.clade is not None:
        shift = shift + layer.clade.weight[clade].detach().double()
    weight = conv.weight.detach().double() * factor[:, None, None]
    return weight.permute(2, 1, 0).float(), shift.float()


class FoldedNet(nn.Module):
    """`CompactNet` for inference: bases in, logits out; the same function in fewer passes over memory.

    Activations are channels last, [R, L, H], so that a base is one row of memory: the fastest layout for convolutions on a
    CPU and on tensor cores, and the one in which a step of the trunk is eight rows of the fine path read as one.
    """

    table: Tensor

    def __init__(self, net: CompactNet, clade: int, vocabulary: KmerVocabulary, *, dtype: torch.dtype = torch.float32) -> None:
        """Fold a network for one clade.

        Args:
            net: The network.
            clade: Index of its clade bias.
            vocabulary: Ids it was trained with.
            dtype: Type of weights and activations, float32 or bfloat16.
        """
        super().__init__()
        self.config, self.scheme, self.dtype = net.config, vocabulary.scheme(), dtype
        fine, step = net.config.fine_channels, net.config.step_bp
        self.register_buffer("table", net.embed.weight.detach().to(dtype))
        self.stem = nn.ModuleList(_Conv(*fold(layer, clade), dtype) for layer in net.stem)  # type: ignore[arg-type]
        weight, bias = fold(net.down, clade)
        self.down = _Conv(weight.reshape(1, -1, weight.shape[2]), bias, dtype)  # stride = width: a product with 8 rows in one
        self.blocks = nn.ModuleList(
            _Conv(*fold(block, clade), dtype, dilation)  # type: ignore[arg-type]
            for block, dilation in zip(net.blocks, net.config.dilations, strict=True)
        )
        assert net.up.bias is not None
        weight = net.up.weight.detach().view(fine, step, -1).permute(2, 1, 0).reshape(1, -1, step * fine)
        bias = net.up.bias.detach().view(fine, step).t().reshape(-1)
        self.up = _Conv(weight, bias, dtype, slope=1.0)
        assert net.head.bias is not None
        head = Head(net.head.weight.detach()[:, :, 0].contiguous(), net.head.bias.detach())
        self.mix = _Conv(*fold(net.mix, clade), dtype, head=head)

    def embed(self, block: Tensor, starts: Tensor, reverse: Tensor, length: int) -> Tensor:
        """Cut rows out of a block of bases and embed the k-mer around each base.

        Args:
            block: ASCII bases, uint8, [n].
            starts: Leftmost base of each row, int64, [R]; what lies outside the block counts as N.
            reverse: Whether a row is read from the minus strand, bool, [R].
            length: Bases of a row, L.

        Returns:
            [R, L, H], in the order each row is read.
        """
        k = self.scheme.k
        before = (k - 1) // 2  # a base's k-mer covers this many bases before it, and k - 1 - before after it
        overhang = torch.where(reverse, k - 1 - before, before)
        return kmer_embed(block, starts - overhang, reverse, self.table, self.scheme, tokens=length)

    def logits(self, x: Tensor) -> Tensor:
        """Logits of embedded rows.

        Args:
            x: From `embed`, [R, L, H]; L a multiple of step_bp.

        Returns:
            float32, [R, L, C].
        """
        rows, length, fine = x.shape
        step = self.config.step_bp
        for layer in self.stem:
            x = layer(x, x)
        eight = x.view(rows, length // step, step * fine)
        h = self.down(eight)
        for block in self.blocks:
            h = block(h, h)
        x = self.up(h, eight).view(rows, length, fine)
        logits: Tensor = self.mix(x, x)
        return logits

    def forward(self, block: Tensor, starts: Tensor, reverse: Tensor, length: int) -> Tensor:
        """`logits(embed(...))`."""
        return self.logits(self.embed(block, starts, reverse, length))


def folded_on(
    net: CompactNet, clade: int, vocabulary: KmerVocabulary, device: torch.device, precision: str = "auto"
) -> FoldedNet:
    """A network ready to scan.

    Args:
        net: The trained network.
        clade: Index of its clade bias.
        vocabulary: Ids it was trained with.
        device: Where it will run.
        precision: Type of weights and activations: float32, bfloat16, or auto for what `choose_precision` says.
    """
    dtype = getattr(torch, choose_precision(precision, str(device)))
    return FoldedNet(net, clade, vocabulary, dtype=dtype).to(device).eval()


class _Conv(nn.Module):
    """Weights of one `residual_conv`."""

    weight: Tensor
    bias: Tensor
    head_weight: Tensor
    head_bias: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor, dtype: torch.dtype, dilation: int = 1, slope: float = SLOPE, head: Head | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.to(dtype).contiguous())
        self.register_buffer("bias", bias.float().contiguous())
        self.dilation, self.slope, self.has_head = dilation, slope, head is not None
        if head is not None:
            self.register_buffer("head_weight", head.weight.float())
            self.register_buffer("head_bias", head.bias.float())

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        head = Head(self.head_weight, self.head_bias) if self.has_head else None
        return residual_conv(
            x, self.weight, self.bias, dilation=self.dilation, slope=self.slope, residual=residual, head=head
        )  # fmt: skip
