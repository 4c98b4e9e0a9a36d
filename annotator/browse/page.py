"""The page browse.html: igv.js, the calls, the sequence and the list of loci in one file that needs no network.

Whatever comes from the user (names of contigs, genes, motifs and samples) reaches the page escaped, or as JSON that a script
reads; a content security policy allows the two scripts of the page by their hashes, and no request.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from annotator.browse.loci import Locus, LocusGroup
from annotator.browse.tracks import VERDICT_RGB, Track
from annotator.kinds import Kind
from annotator.results.pages import head

ASSETS: Final = Path(__file__).parent / "assets"
IGV_SHA256: Final = "87b991ae2a720978172e269dd5127c495e56df5af31144dff19c83124e2f5744"
_SOURCE_MAP: Final = "//# sourceMappingURL="


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        title: Name of the run.
        run: Identity of the run.
        facts: Sentences about the run.
        kinds: Kinds of call that it reports, for the key of colours.
        judged: Whether verdicts of an annotation are among the tracks.
        contigs: Length of each contig.
        sequence: The 2bit file; None where only names and lengths are known.
        tracks: The tracks, from the top.
        groups: The list of loci.
        names: What the search knows.
    """

    title: str
    run: str
    facts: Sequence[str]
    kinds: Sequence[Kind]
    judged: bool
    contigs: Mapping[str, int]
    sequence: Path | None
    tracks: Sequence[Track]
    groups: Sequence[LocusGroup]
    names: Sequence[Locus]

    @property
    def files(self) -> dict[str, Path]:
        """The files that the page needs, by the names it calls them."""
        files = [path for track in self.tracks for path in track.files] + ([self.sequence] if self.sequence else [])
        return {path.name: path for path in files}


def page_html(page: Page, *, served: bool) -> str:
    """The text of a page.

    Args:
        page: What it shows.
        served: Ask for the files at `data/NAME`, rather than hold them.

    Raises:
        OSError: A file cannot be read.
    """
    igv, script = igv_script(), (ASSETS / "page.js").read_text(encoding="utf-8")
    files = {} if served else page.files
    policy = (
        f"default-src 'none'; script-src {_hash(igv)} {_hash(script)}; style-src 'unsafe-inline'; img-src data: blob:; "
        f"font-src data:; connect-src {chr(39) + 'self' + chr(39) if served else 'blob: data:'}; base-uri 'none'; "
        "form-action 'none'"
    )
    content = {
        "title": page.title, "served": served, "files": list(files), "contigs": list(page.contigs.items()),
        "sequence": page.sequence.name if page.sequence else None, "tracks": [track.as_json() for track in page.tracks],
        "names": [locus.as_json() for locus in page.names],
    }  # fmt: skip
    css = (ASSETS / "page.css").read_text(encoding="utf-8")
    parts = [
        head(f"{page.title}: genome browser", policy, css, page.run), "<body>\n",
        '<a class="skip" href="#browser">Skip to the genome browser</a>\n', f"<h1>{escape(page.title)}</h1>\n",
        *(f"<p>{escape(fact)}</p>\n" for fact in page.facts), _key(page),
        '<form id="searching" role="search"><label for="search">Name or place (such as chr1:1,000-5,000): </label>'
        '<input id="search" type="search" autocomplete="off" spellcheck="false"></form>\n<ul id="found"></ul>\n',
        f'<nav class="loci" aria-label="Loci">{"".join(_group(group, n == 0) for n, group in enumerate(page.groups))}</nav>\n',
        '<p id="status" role="status" aria-live="polite">Loading…</p>\n',
        "<noscript><p>The genome browser needs JavaScript.</p></noscript>\n",
        '<main id="browser" tabindex="-1" aria-label="Genome browser"></main>\n',
        f'<script type="application/json" id="page">{in_script(content)}</script>\n',
        *(
            f'<script type="text/plain" id="file{number}">{base64.b64encode(path.read_bytes()).decode()}</script>\n'
            for number, path in enumerate(files.values())
        ),
        f"<script>{igv}</script>\n<script>{script}</script>\n</body>\n</html>\n",
    ]  # fmt: skip
    return "".join(parts)


def igv_script() -> str:
    """The text of igv.js, without the comment that makes developers' tools look for another file.

    Raises:
        ValueError: It is another file than the one this program came with, or could end the script early.
    """
    raw = (ASSETS / "igv.min.js").read_bytes()
    text = raw.decode("utf-8")
    if hashlib.sha256(raw).hexdigest() != IGV_SHA256 or "</script" in text.lower() or "<!--" in text:
        raise ValueError("igv.min.js is not the file that this program came with")
    return text.rpartition(_SOURCE_MAP)[0].rstrip() + "\n"


def in_script(content: Any) -> str:
    """JSON that can stand inside a script element whatever it holds."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _key(page: Page) -> str:
    """What the colours mean."""
    rows = [(kind.rgb, "binding site" if kind is Kind.TFBS else str(kind)) for kind in page.kinds]
    rows += [(rgb, f"against the annotation: {word}") for word, rgb in VERDICT_RGB.items()] if page.judged else []
    return f'<p class="key">{"".join(_swatch(*row) for row in rows)}</p>\n'


def _swatch(rgb: str, word: str) -> str:
    return f'<span><i style="background:rgb({rgb})"></i>{escape(word)}</span>'


def _group(group: LocusGroup, is_open: bool) -> str:
    items = "".join(f"<li>{_button(locus)}</li>" for locus in group.loci)
    return f"<details{' open' if is_open else ''}><summary>{escape(group.title)}</summary><ul>{items}</ul></details>"


def _button(locus: Locus) -> str:
    where = _attributes({"contig": locus.contig, "start": locus.start, "end": locus.end}.items())
    return f'<button type="button"{where}>{escape(locus.text)}</button>'


def _attributes(pairs: Iterable[tuple[str, Any]]) -> str:
    return "".join(f' data-{name}="{escape(str(value))}"' for name, value in pairs)
