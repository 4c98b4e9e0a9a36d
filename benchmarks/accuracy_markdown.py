"""The tables of docs/accuracy.md and of the model card in docs/families/compact.md, made of kept rows and the manifest alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from annotator.models.describe import CARD, learnt_from
from annotator.models.manifest import Manifest

BEGIN, END = "<!-- accuracy_tables.py {}: begin -->", "<!-- accuracy_tables.py {}: end -->"
Row = Mapping[str, Any]

KINDS = ("donor", "acceptor")
TITLES = {
    ("human", "test"): "human loci, chr 8 and 20",
    ("human", "val"): "human loci, chr 10 and 22",
    ("human_regions", "test"): "human regions, 3 Mb of chr 4 and 20",
    ("human_regions", "val"): "human region, 1 Mb of chr 22",
    ("celegans", "test"): "worm, chromosome X",
    ("celegans", "val"): "worm, chromosome III",
    ("dpulex", "test"): "Daphnia, 8 Mb",
    ("dpulex", "val"): "Daphnia, other 8 Mb",
    ("bnapus", "test"): "rapeseed, one scaffold (predicted genes)",
    ("bnapus", "val"): "rapeseed, another scaffold",
    ("athaliana", "cross"): "Arabidopsis, 1.2 Mb (none in training)",
    ("kimperatae", "val"): "Kockovaella (a fungus), 0.5 Mb",
    ("panserina", "val"): "Podospora (a fungus), chromosome 7",
    ("scerevisiae", "cross"): "yeast, whole genome (none in training)",
}
"""Genomes in the order of the tables, in words."""
TUNED = {place for place in TITLES if place[1] == "val"} - {("kimperatae", "val")}
"""What calibration and thresholds were set on; all other genomes are for claims."""
FDR_TITLES = {
    "celegans/celegans.test": TITLES["celegans", "test"],
    "athaliana/athaliana.cross": "Arabidopsis, 1.2 Mb",
    "bnapus/bnapus.test": "rapeseed, one scaffold",
    "human/human_regions.test": TITLES["human_regions", "test"],
    "fungi/kimperatae.val": TITLES["kimperatae", "val"],
}
DEFAULT_MODEL = "compact"
PEER = "OpenSpliceAI"
DASH = "–"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; one line that says so where there is no row."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *lines]) if lines else "Not measured yet."


def figure(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where there is none (null or NaN)."""
    return DASH if value is None or value != value else f"{value:,.{digits}f}"


def with_interval(row: Row, name: str, digits: int = 3) -> str:
    """A figure with its interval, where it has one."""
    low, high = row.get(f"{name}_95") or (None, None)
    return figure(row.get(name), digits) + (f" ({low:.2f}-{high:.2f})" if low is not None and high is not None else "")


def of_model(rows: Sequence[Row], table: str, model: str) -> dict[tuple[str, str, str], Row]:
    """Rows of a model by organism, split and kind."""
    found = (row for row in rows if row["table"] == table and row["model"] == model)
    return {(row["organism"], row["split"], row.get("kind", "")): row for row in found}


def splice(rows: Sequence[Row], model: str, *, tuned: bool) -> str:
    """Ranking and calls of splice sites by genome: those that calibration was set on, or the others."""
    found = of_model(rows, "splice", model)
    table = []
    for place, title in TITLES.items():
        for kind in KINDS:
            if (place in TUNED) == tuned and (row := found.get((*place, kind))):
                calls = f"{figure(row['precision'], 2)} / {figure(row['recall'], 2)} / {figure(row['calls_per_mb'], 0)}"
                table.append(
                    [title if kind == "donor" else "", kind, f"{row['sites']:,}", with_interval(row, "top_k")]
                    + [with_interval(row, "auprc"), calls]
                )  # fmt: skip
    head = ["genome", "kind", "sites", "top-k", "AUPRC", "at the shipped threshold: precision / recall / calls per Mb"]
    return markdown(head, table)


def peers(rows: Sequence[Row], model: str) -> str:
    """Other predictors beside the model on the same bases."""
    found: dict[tuple[str, str], dict[str, dict[str, Row]]] = {}
    for row in rows:
        if row["table"] == "splice":
            found.setdefault((row["organism"], row["split"]), {}).setdefault(row["model"], {})[row["kind"]] = row
    table = []
    for place, title in TITLES.items():
        predictors = found.get(place, {})
        if place not in TUNED and set(predictors) - {model}:
            for name, kinds in predictors.items():
                pairs = [" / ".join(figure(kinds.get(kind, {}).get(what)) for kind in KINDS) for what in ("top_k", "auprc")]
                table.append([title, name, *pairs])
    return markdown(["genome", "predictor", "top-k: donor / acceptor", "AUPRC: donor / acceptor"], table)


def precision_at_recall(curve: Sequence[Sequence[float]], recall: float) -> float | None:
    """Precision of the first point of a curve of [recall, precision], by rising recall, that reaches a recall."""
    return next((precision for reached, precision in curve if reached >= recall), None)


def background(rows: Sequence[Row], model: str) -> str:
    """Calls at the shipped threshold on whole regions, and the precision of peers at the same recall."""
    others = [row for row in rows if row["table"] == "splice" and row["model"].startswith(PEER) and row.get("curve")]
    names = list(dict.fromkeys(row["model"] for row in others if row["organism"] == "human_regions"))
    curves = {(row["organism"], row["split"], row["kind"], row["model"]): row["curve"] for row in others}
    table = []
    for place, row in of_model(rows, "splice", model).items():
        if place[0] == "human_regions":
            beside = [precision_at_recall(curves.get((*place, name), []), row["recall"]) for name in names]
            own = [TITLES[place[:2]], row["kind"], figure(row["recall"], 2), figure(row["precision"], 2)]
            table.append([*own, *(figure(value, 2) for value in beside), figure(row["calls_per_mb"], 0)])
    head = ["region", "kind", "recall", "precision", *(f"{name} at the same recall" for name in names), "calls per Mb"]
    return markdown(head, table)


def clades(rows: Sequence[Row], model: str) -> str:
    """Mean top-k of donors and acceptors by genome and by the clade whose settings were used."""
    mine = [row for row in rows if row["table"] == "clades" and row["model"] == model]
    names = list(dict.fromkeys(row["clade"] for row in mine))
    table = []
    for place, title in TITLES.items():
        here = [row for row in mine if (row["organism"], row["split"]) == place]
        means = {name: [row["top_k"] for row in here if row["clade"] == name] for name in names}
        if here:
            best = max(sum(values) / len(values) for values in means.values() if values)
            cells = [sum(values) / len(values) if values else None for values in means.values()]
            table.append([title, *(f"**{value:.3f}**" if value == best else figure(value) for value in cells)])
    return markdown(["genome", *(f"settings of {name}" for name in names)], table)


def calibration(rows: Sequence[Row], model: str) -> str:
    """Expected calibration error per genome and track."""
    sites = of_model(rows, "splice", model)
    promoters = {
        (row["organism"], row["split"]): row
        for row in rows
        if row["table"] == "promoters" and row["model"] == model and row.get("calibration_error") is not None
    }
    table = []
    for place, title in TITLES.items():
        errors = [row.get("calibration_error") if (row := sites.get((*place, kind))) else None for kind in KINDS]
        errors.append(promoters[place]["calibration_error"] if place in promoters else None)
        if any(error is not None for error in errors):
            clade = next(
                row["clade"] for row in (*sites.values(), *promoters.values()) if (row["organism"], row["split"]) == place
            )
            table.append([title, clade, "yes" if place in TUNED else "", *map(figure, errors)])
    return markdown(["genome", "clade", "calibrated on it", "donor", "acceptor", "tss, within 250 bp"], table)


def reliability(rows: Sequence[Row], model: str, organism: str = "celegans", split: str = "test") -> str:
    """Predicted against observed, of one genome."""
    found = of_model(rows, "splice", model)
    if not all((organism, split, kind) in found for kind in KINDS):
        return markdown([], [])
    donor, acceptor = (found[organism, split, kind]["reliability"] for kind in KINDS)
    table = [[*cells(left), *cells(right)] for left, right in zip_longest(donor, acceptor)]
    head = [f"{kind}s: {what}" for kind in KINDS for what in ("predicted", "observed", "calls")]
    return markdown(head, table)


def cells(line: Sequence[float] | None) -> list[str]:
    """A bin of a reliability diagram: mean probability, observed share, count; nothing beyond the last bin."""
    return [""] * 3 if line is None else [figure(line[0], 2), figure(line[1], 2), f"{line[2]:,.0f}"]


def promoters(rows: Sequence[Row], model: str) -> str:
    """Precision and recall of promoter calls at the shipped threshold."""
    table = []
    for row in rows:
        if row["table"] == "promoters" and row["model"] == model and row.get("within_bp"):
            table.append(
                [TITLES[row["organism"], row["split"]], f"{row['within_bp']} bp", f"{row['tss']:,}", f"{row['threshold']:g}"]
                + [with_interval(row, "precision", 2), with_interval(row, "recall", 2), figure(row["calls_per_mb"], 1)]
                + [figure(row["average_precision"], 2)]
            )
    head = ["genome", "right within", "TSS", "threshold", "precision", "recall", "calls per Mb", "average precision"]
    return markdown(head, table)


def promoter_baselines(rows: Sequence[Row], model: str) -> str:
    """Precision of the baselines on human loci beside the model's at the same recall."""
    table = []
    for row in rows:
        if row["table"] == "promoters" and row["model"] == model and "cpg_precision" in row:
            pairs = [(row[f"{name}_precision"], row[f"ours_at_{name}_recall"], row[f"{name}_recall"]) for name in BASELINES]
            beside = [f"{figure(theirs, 2)}, ours {figure(ours, 2)}, at {figure(recall, 2)}" for theirs, ours, recall in pairs]
            table.append([TITLES[row["organism"], row["split"]], f"{row['within_bp']} bp", *beside])
    return markdown(["loci", "right within", *BASELINES.values()], table)


BASELINES = {"cpg": "CpG maxima", "blind": "base 5,000 of the trimmed locus", "position": "oracle: knows how the loci were cut"}


def promoter_background(rows: Sequence[Row], model: str) -> str:
    """Promoter calls on whole regions."""
    table = [
        [TITLES[row["organism"], row["split"]], f"{row['known_bp'] / 1e6:.2f}", str(row["calls"]), figure(row["calls_per_mb"], 1)]
        + [f"{row['far_bp'] / 1e6:.2f}", str(row["far_calls"]), figure(row["far_calls_per_mb"], 1)]
        for row in rows
        if row["table"] == "promoters" and row["model"] == model and "far_bp" in row
    ]
    head = ["region", "Mb of known bases", "calls", "calls per Mb"]
    return markdown([*head, "Mb more than 10 kb from any annotated site", "calls there", "calls per Mb there"], table)


def fdr(rows: Sequence[Row], model: str) -> str:
    """Rates asked for, estimated and annotated."""
    table = []
    for row in rows:
        if row["table"] == "fdr" and row["model"] == model:
            title = FDR_TITLES.get(row["genome"], row["genome"])
            start = [title, row["kind"], f"{row['asked'] * 100:g} %", figure(row["threshold"], 2)]
            rest = [figure(row.get(name), 3) for name in ("estimate", "annotated", "corrected", "ratio", "corrected_ratio")]
            fit = ", ".join(f"{name} {value:g}" for name, value in row["fit"].items())
            table.append([*start, f"{row['calls']:,}" if "calls" in row else DASH, *rest, fit])
    head = ["genome", "kind", "asked", "threshold", "calls in the sample", "estimated", "annotation lacks", "corrected"]
    return markdown([*head, "ratio", "corrected ratio", "fit of the decoys"], table)


def binding(rows: Sequence[Row]) -> str:
    """The model of bound sites beside the p-value alone."""
    table = []
    for row in rows:
        if row["table"] == "binding" and row["matrix"] == "all" and row["label"] == "peak":
            pairs = []
            for what in ("auroc", "auprc"):
                low, high = row[f"{what}_above_p_value_95"]
                gain = row[f"model_{what}"] - row[f"p_value_{what}"]
                pairs += [
                    f"{row[f'model_{what}']:.3f}",
                    f"{row[f'p_value_{what}']:.3f}",
                    f"{gain:+.3f} ({low:.2f} to {high:.2f})",
                ]
            sizes = [f"{row['hits']:,}", f"{row['bound']:,}"]
            table.append([row["factor"], row["split"], *sizes, *pairs, figure(row["calibration_error"])])
    head = ["factor", "split", "hits", "bound", "AUROC", "of the p-value", "gain", "AUPRC", "of the p-value", "gain"]
    return markdown([*head, "calibration error"], table)


def measured(rows: Sequence[Row], manifest: Manifest) -> str:
    """Which weights the figures are of: one sentence a model."""
    lines = []
    tables = list(dict.fromkeys(row["table"] for row in rows))
    for table in tables:
        versions = {
            f"{row['model']} {row.get('version', '')}".strip() + (f" ({row['commit']}, {row['date']})" if "commit" in row else "")
            for row in rows
            if row["table"] == table and ("version" in row or table == "binding")
        }
        if versions:
            lines.append(f"- {table}: {', '.join(sorted(versions))}")
    return "\n".join(
        [f"The bundled model is {manifest.name} {manifest.version}. The rows of each part were measured with", "", *lines]
    )


def card(manifest: Manifest) -> str:
    """What is known of the networks of a model, one column a clade."""
    names = list(manifest.clades)
    known = [manifest.training.get(name, manifest.training) for name in names]
    figures = [manifest.metrics.get(name, {}) for name in names]
    tested = [manifest.metrics.get("test", {}).get(name, {}) for name in names]
    table = [
        ["learnt from", *(learnt_from(one, name) or "no data of this clade" for one, name in zip(known, names, strict=True))]
    ]
    for key in CARD:
        if any(one.get(key) for one in known):
            table.append([key, *(str(one.get(key, DASH)) for one in known)])
    table.append(["optimiser steps", *(figure(one.get("steps_done"), 0) for one in known)])
    table.append(["calibrated on", *(", ".join(one.get("genomes", [])) or DASH for one in figures)])
    table.append(["validated kinds", *(", ".join(settings.validated) or "none" for settings in manifest.clades.values())])
    for what, title in (("topk", "top-k"), ("auprc", "AUPRC"), ("calibration_error", "calibration error")):
        for kind in (*KINDS, "promoter"):
            row = [one.get(kind, {}).get(what) for one in figures]
            if any(value is not None for value in row):
                table.append([f"{title} of {kind}s, validation", *map(figure, row)])
    for kind in dict.fromkeys(kind for genomes in tested for kinds in genomes.values() for kind in kinds):
        names_of_figures = ("topk",) if kind in KINDS else ("precision", "recall")
        row = [
            "; ".join(
                f"{genome} " + " / ".join(with_interval(kinds[kind], name) for name in names_of_figures)
                for genome, kinds in genomes.items()
                if kind in kinds
            )
            for genomes in tested
        ]
        said = "top-k" if kind in KINDS else "precision / recall"
        table.append([f"{kind}, test: {said} (95 %)", *(cell or DASH for cell in row)])
    table.append(["licence", *([manifest.licence] * len(names))])
    return markdown(["", *names], [[row[0], *merged(row[1:])] for row in table])


def merged(cells: Sequence[str]) -> list[str]:
    """Cells of a row, where those that are all alike are said once."""
    return [cells[0], *["the same"] * (len(cells) - 1)] if len(set(cells)) == 1 and len(cells[0]) > 1 else list(cells)


def all_tables(rows: Sequence[Row], manifest: Manifest) -> dict[str, str]:
    """All tables by name."""
    model = manifest.name
    return {
        "measured": measured(rows, manifest),
        "splice test": splice(rows, model, tuned=False),
        "splice validation": splice(rows, model, tuned=True),
        "peers": peers(rows, model),
        "background": background(rows, model),
        "clades": clades(rows, model),
        "calibration": calibration(rows, model),
        "reliability": reliability(rows, model),
        "promoters": promoters(rows, model),
        "promoter baselines": promoter_baselines(rows, model),
        "promoter background": promoter_background(rows, model),
        "fdr": fdr(rows, model),
        "binding": binding(rows),
        "card": card(manifest),
    }


def named_tables(rows: Sequence[Row], manifest: Manifest) -> dict[str, str]:
    """All tables of a model by the name between their markers, which ends on the model's but for the default one's."""
    ending = "" if manifest.name == DEFAULT_MODEL else f" of {manifest.name}"
    return {f"{name}{ending}": table for name, table in all_tables(rows, manifest).items()}


def with_tables(text: str, found: Mapping[str, str], begin: str = BEGIN, end: str = END) -> str:
    """A page with the tables renewed between their markers, in which {} stands for a table's name."""
    for key, table in found.items():
        first, last = begin.format(key), end.format(key)
        if first in text:
            before, _, rest = text.partition(first)
            text = f"{before}{first}\n{table}\n{last}{rest.partition(last)[2]}"
    return text
