"""A compact network set by hand: its logit is +10 exactly where a planted 6-mer stands and -10 elsewhere.

So every coordinate, strand and dinucleotide of a run can be checked against the sequence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from annotator.kinds import CLADES
from annotator.models.families.compact.net import CompactConfig, CompactNet
from annotator.models.manifest import Calibration, CladeSettings, Manifest
from annotator.tokens.vocabulary import KmerVocabulary

DONOR, ACCEPTOR, TSS = "AAGGTA", "AGCATC", "TATTCA"
"""The called base is letter 2: donor AAG|GTA, acceptor AG|CATC."""
CONFIG = CompactConfig(fine_channels=8, fine_width=3, trunk_channels=8, trunk_width=3, dilations=(1,))
PLAN = {"window_bp": 1024, "halo_bp": 288, "pad_bp": 64, "smallest_bp": 128, "align_bp": 8}


def detector() -> CompactNet:
    """The network."""
    net = CompactNet(CONFIG).eval()
    vocabulary = KmerVocabulary(6)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        for track, kmer in enumerate((DONOR, ACCEPTOR, TSS)):
            net.embed.weight[vocabulary.encode(kmer), track] = 1.0
            net.head.weight[track, track, 0] = 20.0
        net.head.bias.fill_(-10.0)
    return net


def graded() -> CompactNet:
    """A network whose logits are a random number of each 6-mer: a tenth of all bases gets a probability worth telling."""
    net = detector()
    weights = torch.rand(net.embed.weight.shape[0], 3, generator=torch.Generator().manual_seed(7)) ** 9
    with torch.no_grad():
        net.embed.weight[:, :3] = weights
    return net


def write_detector(
    folder: Path,
    *,
    net: CompactNet | None = None,
    validated: tuple[str, ...] = ("donor", "acceptor", "promoter"),
    validated_clades: Sequence[str] = CLADES,
) -> Path:
    """Write the detector as a model directory; where one clade is validated, a run compares it with no other."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    save_file({name: value.contiguous() for name, value in (net or detector()).state_dict().items()}, path)
    kinds = ("donor", "acceptor", "promoter")
    settings = {
        clade: CladeSettings(
            i,
            dict.fromkeys(kinds, 0.5),
            dict.fromkeys(kinds, Calibration()),
            validated if clade in validated_clades else (),
            "a test",
        )
        for i, clade in enumerate(CLADES)
    }
    manifest = Manifest(
        name="detector", version="0", family="compact", architecture=CONFIG.as_dict(),
        tokenizer={"k": 6, "order": "ATCG", "first_kmer_id": 5, "ambiguous_id": 1}, plan=PLAN,
        tracks=("donor", "acceptor", "tss"), radius_bp={"donor": 2, "acceptor": 2, "promoter": 250}, clades=settings,
        licence="Apache-2.0", weights=path.name, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )  # fmt: skip
    (folder / "manifest.json").write_text(manifest.to_json())
    return folder
