"""JASPAR CORE: the release that comes with the package, and earlier ones through the package pyjaspar."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from annotator.errors import EnvironmentFault, UsageError
from annotator.motifs.motif import Motif
from annotator.motifs.options import JASPAR_RELEASE
from annotator.motifs.read import read_motifs

CLADE_TAXA: dict[str, tuple[str, ...]] = {
    "vertebrate": ("vertebrates",),
    "invertebrate": ("insects", "nematodes", "urochordates"),
    "plant": ("plants",),
    "fungi": ("fungi",),
}
"""JASPAR tax groups of each clade."""
TAX_GROUPS = tuple(group for groups in CLADE_TAXA.values() for group in groups)

_FILES = Path(__file__).with_name(JASPAR_RELEASE.lower())


def jaspar_motifs(tax_group: str, release: str = JASPAR_RELEASE) -> list[Motif]:
    """The latest version of every JASPAR CORE matrix of a tax group, sorted by matrix id.

    Args:
        tax_group: Tax group in JASPAR's words: vertebrates, insects, nematodes, urochordates, plants, fungi.
        release: JASPAR release: the package's own, or one that an installed pyjaspar holds.

    Returns:
        The non-redundant collection of that release.

    Raises:
        EnvironmentFault: Another release than the package's is asked for, and pyjaspar is not installed or its database is
            missing.
        UsageError: There is no such release or tax group.
    """
    if release != JASPAR_RELEASE:
        return motifs_of_pyjaspar(tax_group, release)
    if tax_group not in TAX_GROUPS:
        raise UsageError(f"{tax_group}: no such tax group in {release}; it has {', '.join(sorted(TAX_GROUPS))}")
    return read_motifs(_FILES / f"{tax_group}.jaspar.gz")


def motifs_of_pyjaspar(tax_group: str, release: str) -> list[Motif]:
    """As `jaspar_motifs`, from the package pyjaspar, which holds all releases since 2014."""
    try:
        import pyjaspar
    except ImportError as error:
        raise EnvironmentFault(
            f"{release} needs pyjaspar: pip install genome-annotator[jaspar], or give its matrices as a file; "
            f"{JASPAR_RELEASE} is built in ({error})"
        ) from error
    if release not in pyjaspar.jaspar_releases:
        raise UsageError(f"{release}: no such JASPAR release; pyjaspar has {', '.join(sorted(pyjaspar.jaspar_releases))}")
    try:
        database = pyjaspar.jaspardb(release=release)
    except ValueError as error:  # its way of saying that the bundled file is not there
        raise EnvironmentFault(f"pyjaspar lacks the database of {release}: {error}") from error
    try:
        known = {row[0] for row in database.conn.execute("SELECT DISTINCT VAL FROM MATRIX_ANNOTATION WHERE TAG = 'tax_group'")}
        if tax_group not in known:
            raise UsageError(f"{tax_group}: no such tax group in {release}; it has {', '.join(sorted(known))}")
        records = list(database.fetch_motifs(collection="CORE", tax_group=tax_group))
    finally:
        database.conn.close()
    motifs = [Motif(r.matrix_id, r.name, np.array([r.counts[base] for base in "ACGT"]).T) for r in records]
    return sorted(motifs, key=lambda motif: motif.matrix_id)
