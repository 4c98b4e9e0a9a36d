"""The JASPAR files of the package, made from a release that pyjaspar holds (`pip install genome-annotator[jaspar]`).

    python recipes/jaspar_files.py -o annotator/motifs/jaspar2026

One gzip file a tax group in JASPAR's own format, matrices sorted by id; the same release gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from pathlib import Path

from annotator.errors import AnnotatorError
from annotator.motifs.jaspar_release import TAX_GROUPS, motifs_of_pyjaspar
from annotator.motifs.motif import Motif
from annotator.motifs.options import JASPAR_RELEASE


def as_text(motif: Motif) -> str:
    """A matrix in JASPAR's format, counts to the last digit."""
    rows = (" ".join(repr(float(count)).removesuffix(".0") for count in motif.counts[:, base]) for base in range(4))
    return f">{motif.matrix_id}\t{motif.name}\n" + "".join(f"{base} [ {row} ]\n" for base, row in zip("ACGT", rows, strict=True))


def main() -> int:
    """Run, and turn errors into one line and an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", default=JASPAR_RELEASE)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        for group in TAX_GROUPS:
            text = "".join(map(as_text, motifs_of_pyjaspar(group, args.release)))
            (args.out / f"{group}.jaspar.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    except AnnotatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
