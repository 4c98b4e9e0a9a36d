#!/usr/bin/env bash
# Everything that can only be checked on a GPU, in under nine minutes: parity of the compiled kernels, the benchmark rows, the
# bundled model on 100 Mb, the parity tests, a memory checker. Needs torch, triton, numpy, transformers and safetensors only.
#
#   benchmarks/gpu_check.sh                       # logs and rows.jsonl in $OUT (default ./gpu_check_out)
#   DEVICE=cpu SMALL=1 benchmarks/gpu_check.sh    # dry run of the script itself
#   STEPS="parity kernels" benchmarks/gpu_check.sh
#
# A step that fails does not stop the others; the exit status is 1 if any did. BUDGET_S bounds the whole (default 530 seconds).
# BENCHMARK_COMMIT names the commit where there is no checkout; FASTA is where the bundled model's real bases come from.
# Afterwards: cat $OUT/rows.jsonl >> benchmarks/results.jsonl
# shellcheck disable=SC2329 # the functions are called by step
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=${OUT:-./gpu_check_out}
device=${DEVICE:-cuda}
python=${PYTHON:-python3}
budget_s=${BUDGET_S:-530}
wanted=" ${STEPS:-machine parity kernels transformer end_to_end tests memory} "
rows=$out/rows.jsonl
kernels=(kmer_tokenize kmer_embed residual_conv local_maxima pwm_scan)
small=()
if [[ -n ${SMALL:-} ]]; then small=(--small); fi
export PYTHONPATH=.:kernels${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

mkdir -p "$out"
: >"$rows"
table=()
failed=0

limited() { # limited SECONDS COMMAND...: at most that long, and no longer than the budget leaves
    local left=$((budget_s - SECONDS))
    if ((left < 5)); then
        echo "no time left for: ${*:2}"
        return 124
    fi
    timeout --kill-after=10 "$((left < $1 ? left : $1))" "${@:2}"
}

step() { # step NAME FUNCTION: log to NAME.log, note the outcome
    local name=$1 begin=$SECONDS status=0 outcome
    if [[ $wanted != *" $name "* ]]; then return 0; fi
    echo "== $name"
    "$2" >"$out/$name.log" 2>&1 || status=$?
    case $status in
        0) outcome=ok ;;
        77) outcome="skipped: $(tail -n 1 "$out/$name.log")" ;;
        124 | 137) outcome="FAILED (out of time)" ;;
        *) outcome="FAILED (exit status $status)" ;;
    esac
    if [[ $outcome == FAILED* ]]; then
        failed=1
        tail -n 25 "$out/$name.log"
    fi
    table+=("$(printf '%-12s %4d s  %s' "$name" $((SECONDS - begin)) "$outcome")")
}

machine() {
    limited 60 "$python" - "$device" <<'PYTHON' || return
import sys

import torch

from annotator_kernels.hardware import copy_bandwidth, describe_device, matrix_rate
from annotator_kernels.versions import installed_version

device = torch.device(sys.argv[1])
for name, value in describe_device(device).items():
    print(f"{name}: {value}")
for package in ("numpy", "transformers", "safetensors", "polars", "pysam", "pytest", "hypothesis"):
    print(f"{package}: {installed_version(package)}")
print(f"copy bandwidth, read + written: {copy_bandwidth(device) / 1e9:.0f} GB/s")
types = (torch.bfloat16, torch.float32) if device.type == "cuda" else (torch.float32,)
for dtype in types:
    print(f"matrix rate, {dtype}: {matrix_rate(device, dtype) / 1e12:.3g} TFLOP/s")
PYTHON
    if command -v nvidia-smi >/dev/null; then limited 20 nvidia-smi || true; fi
}

parity() {
    limited 150 "$python" - "$device" <<'PYTHON'
import sys

import torch

from annotator_kernels.self_check import check_kernels

device = torch.device(sys.argv[1])
checks = check_kernels(device, backend="triton" if device.type == "cuda" else "auto")
for check in checks:
    print(f"{'ok ' if check.ok else 'BAD'} {check.name} ({check.path}): {check.detail}")
sys.exit(not all(check.ok for check in checks))
PYTHON
}

kernel_rows() { # one process a kernel: a wrong one costs its own rows alone
    local status=0 kernel
    for kernel in "${kernels[@]}" compact_forward; do
        limited 90 "$python" benchmarks/kernels.py --device "$device" --out "$rows" "${small[@]}" --kernels "$kernel" || status=$?
    done
    return "$status"
}

transformer_rows() {
    limited 150 "$python" benchmarks/transformer.py --device "$device" --out "$rows" "${small[@]}"
}

end_to_end() {
    if [[ ! -f benchmarks/end_to_end.py ]]; then
        echo "benchmarks/end_to_end.py is not here"
        return 77
    fi
    local fasta=()
    if [[ -n ${FASTA:-} ]]; then fasta=(--fasta "$FASTA"); fi
    # The engine without files: polars and pysam, which write and read them, may be absent.
    limited 150 "$python" benchmarks/end_to_end.py --no-files --device "$device" --out "$rows" "${small[@]}" "${fasta[@]}"
}

parity_tests() {
    local tests=(tests/parity)
    if [[ -n ${SMALL:-} ]]; then tests=(tests/parity/test_kmer_tokenize.py -k "awkward_block_lengths or dnabert_ids"); fi
    if "$python" -c 'import pytest, hypothesis'; then
        # Not the project's pytest, warnings and options (slow tests left out, two processes): those of this machine, and all tests.
        local options=(-q -rs -p no:cacheprovider -o minversion=1 -o filterwarnings=default -o addopts=--import-mode=importlib)
        local workers=()
        if "$python" -c 'import xdist' 2>/dev/null; then workers=(-n 6); fi # most of the time is the compiler's
        limited 200 "$python" -m pytest "${options[@]}" "${workers[@]}" "${tests[@]}"
    else
        echo "pytest or hypothesis is absent: the kernels' own check in its place"
        parity
    fi
}

find_sanitizer() {
    local candidate
    for candidate in "$(command -v compute-sanitizer || true)" "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer" \
        "${CUDA_HOME:-/usr/local/cuda}/compute-sanitizer/compute-sanitizer"; do
        if [[ -x $candidate ]]; then
            echo "$candidate"
            return 0
        fi
    done
    "$python" - <<'PYTHON'
from importlib.metadata import distributions

for distribution in distributions():
    if "sanitizer" in (distribution.metadata["Name"] or "").lower():
        for file in distribution.files or ():
            if file.name == "compute-sanitizer":
                print(file.locate())
                raise SystemExit(0)
raise SystemExit(1)
PYTHON
}

check_memory() { # check_memory [CHECKER...]: small shapes, each tensor an allocation of its own
    local base=(env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$@" "$python" benchmarks/kernels.py --device "$device" --parity-only --small)
    local kernel
    if limited 150 "${base[@]}" --kernels "${kernels[@]}"; then return 0; fi
    echo "one by one:" # after a bad access nothing else runs in its process
    for kernel in "${kernels[@]}"; do
        if limited 60 "${base[@]}" --kernels "$kernel"; then echo "$kernel: ok"; else echo "$kernel: BAD"; fi
    done
    return 1
}

memory() {
    local sanitizer probe_status=0
    if [[ $device == cuda* ]] && sanitizer=$(find_sanitizer); then
        local checker=("$sanitizer" --tool memcheck --error-exitcode 9)
        # Something that is known to be right: where this fails the tool cannot work on this machine.
        limited 60 "${checker[@]}" "$python" -c 'import torch; torch.ones(9, device="cuda").add_(1).cpu()' || probe_status=$?
        if ((probe_status == 0)); then
            echo "done with: $sanitizer, memcheck"
            # Without our own guards, which would make the room beside a tensor valid.
            BENCHMARK_GUARDS=0 check_memory "${checker[@]}"
            return
        fi
        echo "compute-sanitizer does not work here (exit status $probe_status)"
    fi
    echo "done with: guard bytes around every tensor, one allocation each; writes outside are found, reads are not"
    check_memory
}

step machine machine
step parity parity
step kernels kernel_rows
step transformer transformer_rows
step end_to_end end_to_end
step tests parity_tests
step memory memory

echo
echo "== rows"
"$python" - "$rows" <<'PYTHON'
import json
import sys

with open(sys.argv[1]) as lines:
    for line in lines:
        row = json.loads(line)
        name = " ".join(str(row[key]) for key in ("benchmark", "kernel", "variant", "path") if row.get(key))
        figures = [f"{1e3 * row['p50_s']:.3f} ms"] if "p50_s" in row else []
        figures += [f"{key} {value:.4g}" for key, value in row.items() if key.startswith(("fraction", "bar_", "human")) and value]
        figures += [f"{row['bases_per_s'] / 1e6:.1f} Mb/s"] if "bases_per_s" in row else []
        figures = figures or [f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float)]
        print(f"{name}: {', '.join(figures)}{'  BELOW ITS BAR' if row.get('bar_met') is False else ''}")
PYTHON
echo
echo "== steps"
printf '%s\n' "${table[@]}" "$(printf '%-12s %4d s' together "$SECONDS")"
exit "$failed"
