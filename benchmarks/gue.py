"""GUE figures of `annotator evaluate --gue ... --json FILE` beside the published ones, as a Markdown table.

    annotator finetune --gue DATA/gue --base compact -o runs/
    annotator evaluate runs/ --gue DATA/gue --json gue.json
    python benchmarks/gue.py gue.json

Published: MCC x 100 on the benchmark's own test sets, of models pre-trained on genomes of many species and then fine-tuned
(Zhou et al. 2023, DNABERT-2, figure of performance). Ours learnt from nothing but each task's own train table. Where a test
table is not at hand the dev table is measured and the row says so: the run's weights were chosen on that table, which flatters.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

PUBLISHED_MODELS = ("DNABERT-3", "DNABERT-6", "NT-2.5B-multi", "DNABERT-2")
PUBLISHED = {
    "prom/prom_300_all": (90.44, 90.48, 91.01, 86.77), "prom/prom_300_notata": (93.61, 93.05, 94.00, 94.27),
    "prom/prom_300_tata": (69.83, 61.56, 79.43, 71.59), "prom/prom_core_all": (70.92, 68.90, 70.33, 69.37),
    "prom/prom_core_notata": (69.82, 70.47, 71.58, 68.04), "prom/prom_core_tata": (78.15, 76.06, 72.97, 74.17),
    "tf/0": (67.95, 66.84, 66.64, 71.99), "tf/1": (70.90, 70.14, 70.28, 76.06), "tf/2": (60.51, 61.03, 58.72, 66.52),
    "tf/3": (53.03, 51.89, 51.65, 58.54), "tf/4": (69.76, 70.97, 69.34, 77.43),
    "mouse/0": (42.31, 44.42, 63.31, 56.76), "mouse/1": (79.10, 78.94, 83.76, 84.77), "mouse/2": (69.90, 71.44, 71.52, 79.32),
    "mouse/3": (55.40, 44.89, 69.44, 66.47), "mouse/4": (41.97, 42.48, 47.07, 52.66),
    "splice/reconstructed": (84.14, 84.07, 89.35, 84.99),
}  # fmt: skip


def markdown(report: dict[str, object]) -> list[str]:
    """Lines of the table, in the order of the report."""
    published = tuple(f"{name}, published" for name in PUBLISHED_MODELS)
    titles = ("task", "measured on", "n", "MCC x 100", "F1", "AUROC", "AUPRC", *published)
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    tasks = report["tasks"]
    assert isinstance(tasks, list)
    for row in tasks:
        scores = row["scores"]
        beside = [f"{value:.1f}" for value in PUBLISHED.get(row["task"], ())] or [""] * len(PUBLISHED_MODELS)
        figures = (f"**{100 * scores['mcc']:.1f}**", *(f"{scores[name]:.3f}" for name in ("f1", "auroc", "auprc")))
        lines.append(f"| {row['task']} | {row['split']} | {scores['sequences']:,} | " + " | ".join((*figures, *beside)) + " |")
    return lines


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="JSON of annotator evaluate")
    report = json.loads(parser.parse_args().report.read_text())
    print("\n".join(markdown(report)))
    factors = [row["scores"]["mcc"] for row in report["tasks"] if row["task"].startswith("tf/")]
    if factors:
        print(f"\nmean MCC of {len(factors)} tf tasks: {sum(factors) / len(factors):.3f}")


if __name__ == "__main__":
    main()
