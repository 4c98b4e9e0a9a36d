"""The same run for other browsers: a session of IGV desktop, a track hub of UCSC, and a configuration of JBrowse 2.

All of them lie in one folder, name the run's files by relative paths, and state every colour.
"""

from __future__ import annotations

import json
import logging
import os
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from annotator.browse.loci import Locus
from annotator.kinds import TRACK_KIND, Kind
from annotator.output.formats.bed import BED_FILES
from annotator.results.pages import BROWSE_FOLDER, MARK
from annotator.results.results import Results

logger = logging.getLogger(__name__)

TWO_BIT: Final = "genome.2bit"
CHROM_SIZES: Final = "genome.chrom.sizes"
IGV_SESSION, HUB, JBROWSE = "igv_session.xml", "hub.txt", "config.json"
_UP: Final = "../"


@dataclass(frozen=True)
class Shown:
    """A file of the run that browsers can show.

    Attributes:
        name: File name in the results folder.
        label: What stands beside the track.
        kinds: Kinds of call that it holds.
    """

    name: str
    label: str
    kinds: tuple[Kind, ...]

    @property
    def rgb(self) -> str:
        """Colour of its first kind."""
        return self.kinds[0].rgb

    @property
    def track(self) -> str:
        """Name that every browser takes: letters, digits and underscores."""
        return re.sub(r"\W", "_", self.name, flags=re.ASCII)


def write_sessions(
    folder: Path, results: Results, first: Locus | None, *, sequence: bool, fasta: Path | None, assembly: str
) -> list[str]:
    """Write the files for other browsers.

    Args:
        folder: An empty folder, which will be BROWSE_FOLDER of the results folder. With `sequence` it holds TWO_BIT already.
        results: The run.
        first: What to show first.
        sequence: Whether TWO_BIT is there.
        fasta: The genome as a FASTA that IGV desktop can read at random; None for names and lengths alone.
        assembly: Name of the assembly at UCSC, such as hg38; empty for one that UCSC does not have.

    Returns:
        Names of the files that were written.
    """
    beds, big_beds, big_wigs = (_shown(results, suffix) for suffix in (".bed.gz", ".bb", ".bw"))
    texts = {
        CHROM_SIZES: "".join(f"{name}\t{length}\n" for name, length in results.contigs.items()),
        JBROWSE: _jbrowse(results, beds, big_wigs, first, sequence=sequence),
    }
    extra = bool(results.run.get("formats", {}).get("bed", {}).get("bed_extra"))
    if extra and beds:
        logger.warning("%s has no BED track: IGV desktop refuses BED with extra columns (--bed-extra)", IGV_SESSION)
    genome = os.path.relpath(fasta.resolve(), results.path.resolve() / BROWSE_FOLDER) if fasta else CHROM_SIZES
    texts[IGV_SESSION] = _igv([] if extra else beds, big_wigs, first, genome)
    if not (big_beds or big_wigs):
        logger.info("no UCSC track hub: it needs bigBed or bigWig files (annotator convert --to bigbed)")
    elif not (assembly or sequence):
        logger.info("no UCSC track hub: it needs --assembly or the sequence")
    else:
        texts[HUB] = _hub(results, big_beds, big_wigs, first, assembly)
    texts["README.txt"] = _readme(results, texts)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return list(texts)


def _shown(results: Results, suffix: str) -> list[Shown]:
    """The files of the run with a suffix that hold anything, in the order of tasks."""
    names = [name for name in results.files if name.endswith(suffix) and (results.path / name).is_file()]
    shown = []
    for name in names:
        stem = name.removesuffix(suffix)
        kinds = next((file.kinds for file in BED_FILES if file.name == f"{stem}.bed.gz"), None)
        if kinds is None:
            kinds = (next((kind for track, kind in TRACK_KIND.items() if track in stem or kind in stem), Kind.FEATURE),)
        if results.run["files"][name].get("rows", 1) or suffix == ".bw":
            shown.append(Shown(name, stem.replace("_", " ").replace(".", " "), kinds))
    return shown


def reads_at_random(fasta: Path) -> bool:
    """Whether IGV desktop can read a FASTA: a plain one, or one in BGZF that has its two indices beside it."""
    with fasta.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return not compressed or all(Path(f"{fasta}{suffix}").is_file() for suffix in (".fai", ".gzi"))


def _igv(beds: Sequence[Shown], wigs: Sequence[Shown], first: Locus | None, genome: str) -> str:
    """A session of IGV desktop, which up to 2.16 reads no 2bit and finds the indices by itself only."""
    where = f" locus={quoteattr(f'{first.contig}:{first.start + 1}-{first.end}')}" if first else ""
    lines = [
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?>', f"<!-- {MARK} -->",
        f'<Session genome={quoteattr(genome)}{where} version="8">', "  <Resources>",
        *(f'    <Resource path="{_UP}{file.name}" type="bed"/>' for file in beds),
        *(f'    <Resource path="{_UP}{file.name}" type="bw"/>' for file in wigs),
        "  </Resources>", '  <Panel name="FeaturePanel">',
    ]  # fmt: skip
    for file in beds:
        colour = f' color="{file.rgb}"' if len(file.kinds) == 1 else ""  # it would take the place of each call's own
        look = f'name={quoteattr(file.label)}{colour} displayMode="EXPANDED" visible="true"'
        lines.append(f'    <Track clazz="org.broad.igv.track.FeatureTrack" id="{_UP}{file.name}" {look}/>')
    for file in wigs:
        look = f'name={quoteattr(file.label)} color="{file.rgb}" autoScale="false" visible="true"'
        lines.append(f'    <Track clazz="org.broad.igv.track.DataSourceTrack" id="{_UP}{file.name}" {look}>')
        lines += [
            '      <DataRange baseline="0.0" drawBaseline="true" minimum="0.0" maximum="1.0" type="LINEAR"/>',
            "    </Track>",
        ]
    return "\n".join([*lines, "  </Panel>", "</Session>", ""])


def _hub(results: Results, beds: Sequence[Shown], wigs: Sequence[Shown], first: Locus | None, assembly: str) -> str:
    """A track hub in one file."""
    name = re.sub(r"\W", "_", results.path.resolve().name, flags=re.ASCII) or "annotator"
    stanzas = [
        {
            "hub": name, "shortLabel": f"annotator {name}"[:17], "longLabel": f"Calls of genome-annotator, {name}"[:80],
            "useOneFile": "on", "email": "nobody@localhost",
        },
        {"genome": assembly or name},
    ]  # fmt: skip
    if not assembly:
        stanzas[1] |= {"twoBitPath": TWO_BIT, "organism": name, "description": f"Genome of {name}"}
        if first:
            stanzas[1]["defaultPos"] = f"{first.contig}:{first.start + 1}-{first.end}"
    for file in (*beds, *wigs):
        labels = {"track": file.track, "shortLabel": file.label[:17], "longLabel": f"{file.label} (genome-annotator)"}
        data = {"bigDataUrl": _UP + file.name, "visibility": "pack" if file in beds else "full", "color": file.rgb}
        if file in beds:
            stanzas.append(labels | data | {"type": _bigbed_type(results.path / file.name), "itemRgb": "on"})
        else:
            stanzas.append(labels | data | {"type": "bigWig 0 1", "viewLimits": "0:1", "autoScale": "off"})
    return f"# {MARK}\n" + "\n".join("".join(f"{key} {value}\n" for key, value in stanza.items()) for stanza in stanzas)


def _bigbed_type(path: Path) -> str:
    """The type line of a bigBed file: its standard columns, and whether there are more."""
    with path.open("rb") as file:
        fields, defined = struct.unpack("<2H", file.read(36)[32:36])
    return f"bigBed {defined}{' +' if fields > defined else ''}"


def _uri(name: str) -> dict[str, str]:
    return {"uri": name, "locationType": "UriLocation"}


def _jbrowse(results: Results, beds: Sequence[Shown], wigs: Sequence[Shown], first: Locus | None, *, sequence: bool) -> str:
    """A configuration of JBrowse 2."""
    name = results.path.resolve().name or "genome"
    adapter: dict[str, Any] = (
        {"type": "TwoBitAdapter", "twoBitLocation": _uri(TWO_BIT)}
        if sequence
        else {"type": "ChromSizesAdapter", "chromSizesLocation": _uri(CHROM_SIZES)}
    )
    tracks = [_jbrowse_calls(file, name) for file in beds] + [_jbrowse_probability(file, name) for file in wigs]
    config: dict[str, Any] = {
        "assemblies": [
            {
                "name": name,
                "sequence": {"type": "ReferenceSequenceTrack", "trackId": "reference", "name": "reference", "adapter": adapter},
            }
        ],
        "tracks": tracks,
    }
    if first:
        view: dict[str, Any] = {
            "id": "view", "type": "LinearGenomeView",
            "init": {
                "assembly": name, "loc": f"{first.contig}:{first.start + 1}..{first.end}",
                "tracks": [track["trackId"] for track in tracks],
            },
        }  # fmt: skip
        config["defaultSession"] = {"name": f"{name} (genome-annotator)", "views": [view]}
    return json.dumps(config, indent=2) + "\n"


def _jbrowse_calls(file: Shown, assembly: str) -> dict[str, Any]:
    colour = file.kinds[-1].hex_colour
    for kind in file.kinds[:-1]:  # JBrowse colours by an expression; a call of these kinds is named after its kind
        colour = f"get(feature,'name')=='{kind}'?'{kind.hex_colour}':" + (colour if "?" in colour else f"'{colour}'")
    shown = f"jexl:{colour}" if "?" in colour else colour
    return {
        "type": "FeatureTrack", "trackId": file.track, "name": file.label, "assemblyNames": [assembly],
        "adapter": {
            "type": "BedTabixAdapter", "bedGzLocation": _uri(_UP + file.name),
            "index": {"location": _uri(f"{_UP}{file.name}.csi"), "indexType": "CSI"},
        },
        "displays": [
            {
                "type": "LinearBasicDisplay", "displayId": f"{file.track}-display",
                "renderer": {"type": "SvgFeatureRenderer", "color1": shown},
            }
        ],
    }  # fmt: skip


def _jbrowse_probability(file: Shown, assembly: str) -> dict[str, Any]:
    return {
        "type": "QuantitativeTrack", "trackId": file.track, "name": file.label, "assemblyNames": [assembly],
        "adapter": {"type": "BigWigAdapter", "bigWigLocation": _uri(_UP + file.name)},
        "displays": [
            {
                "type": "LinearWiggleDisplay", "displayId": f"{file.track}-display", "minScore": 0, "maxScore": 1,
                "renderers": {"XYPlotRenderer": {"type": "XYPlotRenderer", "color": file.kinds[0].hex_colour}},
            }
        ],
    }  # fmt: skip


_WORDS: Final[dict[str, Callable[[str], str]]] = {
    IGV_SESSION: lambda _: "IGV desktop: File > Open Session.",
    JBROWSE: lambda folder: f"JBrowse 2: serve the results folder, then open .../?config=.../{folder}/{JBROWSE}",
    HUB: lambda folder: f"UCSC: put the results folder on a web server; My Hubs > .../{folder}/{HUB}",
    CHROM_SIZES: lambda _: "names and lengths of the contigs, as other programs want them.",
}


def _readme(results: Results, files: dict[str, str]) -> str:
    lines = [f"{MARK} from {results.path.resolve().name}. `annotator browse` writes this folder anew each time.", ""]
    return "\n".join([*lines, *(f"{name}: {_WORDS[name](BROWSE_FOLDER)}" for name in files), ""])
