"""`annotator example --real`: a human locus with its annotation, from the package."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

from annotator.errors import UsageError
from annotator.files import atomic_files, write_faults

LOCUS = Path(__file__).with_name("plat")
NAMES = ("plat.fa.gz", "plat.gtf.gz")
"""The assembly, BGZF, and the exons of its transcripts, GTF; where they come from is in PROVENANCE.md beside them."""


def write_real_example(folder: Path) -> tuple[Path, ...]:
    """Write the locus of the gene PLAT (40 kb of human chromosome 8, never learnt from) and its annotation.

    Args:
        folder: Folder for the two files; it is made where absent.

    Returns:
        Paths of the FASTA and of the GTF.

    Raises:
        UsageError: Another file of that name is already there (it is left as it is), or `folder` is no folder.
        ResourceFault: Writing failed; no file of the final name is left behind half-written.
    """
    if any(path.exists() and not path.is_dir() for path in (folder, *folder.parents)):
        raise UsageError(f"{folder}: not a folder")
    written = tuple(folder / name for name in NAMES)
    for name, path in zip(NAMES, written, strict=True):
        if path.exists() and not filecmp.cmp(LOCUS / name, path, shallow=False):
            raise UsageError(f"{path} exists and is not this example; move it away first")
    with write_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with atomic_files(list(written)) as temporaries:
        for name, temporary in zip(NAMES, temporaries, strict=True):
            shutil.copyfile(LOCUS / name, temporary)
    return written
