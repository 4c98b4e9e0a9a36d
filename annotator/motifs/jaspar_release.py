"""The JASPAR releases that the package pyjaspar bundles."""

from __future__ import annotations

import numpy as np

from annotator.errors import EnvironmentFault, UsageError
from annotator.motifs.motif import Motif

JASPAR_RELEASE = "JASPAR2024"
"""The release a run uses; written to run.json."""

CLADE_TAXA: dict[str, tuple[str, ...]] = {
    "vertebrate": ("vertebrates",),
    "invertebrate": ("insects", "nematodes", "urochordates"),
    "plant": ("plants",),
    "fungi": ("fungi",),
}
"""JASPAR tax groups of each clade."""


def jaspar_motifs(tax_group: str, release: str = JASPAR_RELEASE) -> list[Motif]:
    """The latest version of every JASPAR CORE matrix of a tax group, sorted by matrix id.

    Args:
        tax_group: Tax group in JASPAR's words: vertebrates, insects, nematodes, urochordates, plants, fungi.
        release: JASPAR release that the installed pyjaspar bundles.

    Returns:
        The non-redundant collection of that release.

    Raises:
        EnvironmentFault: pyjaspar is not installed or its database is missing.
        UsageError: There is no such release or tax group.
    """
    try:
        import pyjaspar
    except ImportError as error:
        raise EnvironmentFault(f"JASPAR matrices need the package pyjaspar (or give a motif file): {error}") from error
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
