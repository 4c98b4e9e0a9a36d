"""Annotate a genome: promoters, splice sites and transcription-factor binding sites of both strands.

    import annotator
    results = annotator.annotate("genome.fa.gz", "results/", clade="plant", tasks=("splice",))
    results.calls(kind="donor", region="chr1:1-5000").collect()
    annotator.load_model("compact").predict("ACGT" * 1000).probability("donor", "+")
    annotator.plot_locus(results, "chr1:1-5000", genes="genes.gtf.gz")

Its names are loaded when they are first used: importing this package loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from annotator.api import BatchResults, Results, annotate, call, convert, open_results, read_calls
    from annotator.plots.locus import plot_locus
    from annotator.scan.predict import load_model

    __version__: str

__all__ = [
    "BatchResults", "Results", "__version__", "annotate", "call", "convert", "load_model", "open_results", "plot_locus",
    "read_calls",
]  # fmt: skip

_MODULE = dict.fromkeys(__all__, "annotator.api") | {
    "load_model": "annotator.scan.predict", "plot_locus": "annotator.plots.locus"
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("genome-annotator")
    if name in _MODULE:
        return getattr(importlib.import_module(_MODULE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
