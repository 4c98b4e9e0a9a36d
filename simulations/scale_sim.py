"""How a run behaves on 1 to 1,000 workers: the driver's own loop and schedule, on a simulated clock with simulated workers.

    python simulations/scale_sim.py                          # the tables of docs/scaling.md, as Markdown
    python simulations/scale_sim.py --shard-seconds run.json --workers 8 64      # with the rate of a run of yours
    python simulations/scale_sim.py --record-ms 10           # where syncing a part and a journal line takes longer

The driver's `Run` works as it is; its clock, its workers, its assemblies and its background thread are simulated.
So what is decided (who gets which shard, what is tried again, when the next assembly is opened) is the product's, and what takes
time is either measured or assumed:

- seconds a shard on a CPU worker, and opening and merging a Mb: from the end-to-end rows of results.jsonl, or --shard-seconds;
- what the driver spends on a lease, a result, a journal line, a turn of its loop: measured here beforehand, Ray's share too;
- 50 Mb/s for a GPU, the workers' start and all disturbances: assumed.

Every run is checked: each shard was finished exactly once or given up, none is lost or still held.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks.rows import RESULTS, append_row, circumstances
from simulations.scale_costs import calibrate, measured_rates, read_shard_seconds
from simulations.scale_run import Simulated, simulate
from simulations.scale_setting import GPU_MB_PER_S, HUMAN_MB, LOADS, NONE, ROUGH, WORKERS, Setting


def duration(seconds: float) -> str:
    """As people say it."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} s"


def table_row(load: str, workers: int, clean: Simulated, rough: Simulated) -> str:
    cells = (
        load, f"{workers:,}", duration(clean.ideal_s), _with_share(clean.makespan_s, clean.efficiency), duration(clean.tail_s),
        f"{100 * clean.driver_busy:.1f} %", duration(clean.background_s), _with_share(rough.makespan_s, rough.efficiency),
        duration(rough.tail_s), f"{rough.retried:,}", f"{rough.given_up:,}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _with_share(seconds: float, efficiency: float) -> str:
    return f"{duration(seconds)} ({100 * efficiency:.2g} %)"


HEAD = (
    "| | workers | ideal | undisturbed: makespan (efficiency) | longest idle tail | driver busy | opening and merging "
    "| disturbed: makespan (efficiency) | longest idle tail | shards retried | given up |\n" + "|---" * 11 + "|"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS))
    parser.add_argument("--shard-seconds", type=Path, help="run.json, or the lines of --progress json, of a run of one's own")
    parser.add_argument("--mb-per-s", type=float, help="of a worker; in place of a measured CPU worker and an assumed GPU")
    parser.add_argument("--start-s", type=float, default=20.0, help="until a worker is ready (assumed)")
    parser.add_argument("--helpers", type=int, default=8, help="assemblies that the driver opens and merges at a time")
    parser.add_argument("--record-ms", type=float, help="publish a part and journal it; measured here by default")
    parser.add_argument("--spread", type=float, default=0.1, help="shards take up to this share longer or shorter")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-ray", action="store_true", help="costs of local processes")
    parser.add_argument("--quick", action="store_true", help="tries the script: few workers, one small load")
    parser.add_argument("--out", type=Path, default=RESULTS, help="rows are appended here")
    args = parser.parse_args(argv)
    cpu_s_per_mb, open_s_per_mb, merge_s_per_mb = measured_rates(RESULTS)
    if args.shard_seconds:
        rates = {f"{args.shard_seconds.name}": read_shard_seconds(args.shard_seconds)}
    elif args.mb_per_s:
        rates = {f"{args.mb_per_s:g} Mb/s, as given": (1e-6 / args.mb_per_s,)}
    else:
        rates = {
            f"{1 / cpu_s_per_mb:.2f} Mb/s: two CPU cores, measured": (cpu_s_per_mb / 1e6,),
            f"{GPU_MB_PER_S:g} Mb/s: a GPU, assumed": (1e-6 / GPU_MB_PER_S,),
        }
    loads = {name: LOADS[name] for name in args.loads}
    if args.quick:
        loads, args.workers = {"a tenth of human": (tuple(mb / 10 for mb in HUMAN_MB), 2)}, [1, 8]
    costs = calibrate(repeats=20 if args.quick else 200, ray=not (args.no_ray or args.quick))
    costs = replace(costs, open_s_per_mb=open_s_per_mb, merge_s_per_mb=merge_s_per_mb)
    if args.record_ms is not None:
        costs = replace(costs, record_s=args.record_ms / 1e3)
    told = ", ".join(f"{name.removesuffix('_s')} {1e3 * value:.3g} ms" for name, value in asdict(costs).items())
    print(f"driver: {told}\n\ndisturbed: {ROUGH}")
    where = circumstances(torch.device("cpu"))
    for rate, seconds_per_base in rates.items():
        print(f"\n{rate}\n\n{HEAD}", flush=True)
        for load, (lengths_mb, count) in loads.items():
            lengths = tuple(int(mb * 1e6) for mb in lengths_mb)
            for workers in args.workers:
                found = {}
                for name, wrong in (("undisturbed", NONE), ("disturbed", ROUGH)):
                    setting = Setting(
                        workers, (lengths,) * count, seconds_per_base, args.spread, args.start_s, costs, args.helpers, wrong,
                        args.seed,
                    )  # fmt: skip
                    found[name] = one = simulate(setting)
                    append_row(args.out, {
                        "benchmark": "scale_sim", "load": load, "workers": workers, "rate": rate, "run": name,
                        **asdict(one), "efficiency": one.efficiency, "start_s": args.start_s, "helpers": args.helpers,
                        "spread": args.spread, "seed": args.seed, "costs": asdict(costs), "disturbances": asdict(wrong), **where,
                    })  # fmt: skip
                print(table_row(load, workers, found["undisturbed"], found["disturbed"]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
