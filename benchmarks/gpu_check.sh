#!/usr/bin/env bash
# Everything that can only be checked on a GPU, in two parts that fit two calls of a borrowed machine (at most 240 and 300 seconds):
#
#   python benchmarks/gpu_real.py --make gpu_pack.npz --data ../shared/data   # once, where the data pack is: real bases that travel
#   PACK=gpu_pack.npz benchmarks/gpu_check.sh 1     # parity, 200 repeats, the whole forward pass, its profile, real bases
#   benchmarks/gpu_check.sh 2                       # the other kernels, variants of the convolution, memory checker, transformer
#   cat "$OUT"/rows.jsonl >> benchmarks/results.jsonl
#
# Needs torch, triton, numpy, transformers and safetensors only. $OUT (default ./gpu_check_out) gets part1.log, part2.log and
# rows.jsonl, to which a row is added as soon as it is measured. A step that fails or runs out of time does not stop the others; the
# exit status is 1 if any did. BUDGET_S is the time of the part, STEPS names steps (there is one more, "tests": tests/parity),
# BENCHMARK_COMMIT the commit where there is no checkout. DEVICE=cpu SMALL=1 tries the script itself (PATIENCE=5: on a busy machine).
# shellcheck disable=SC2329 # the functions are called by step
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
    1) steps="machine parity forward profile real" budget_s=${BUDGET_S:-240} ;;
    2) steps="kernels variants memory transformer" budget_s=${BUDGET_S:-300} ;;
    *)
        echo "usage: benchmarks/gpu_check.sh 1|2" >&2
        exit 2
        ;;
esac
out=${OUT:-./gpu_check_out}
device=${DEVICE:-cuda}
python=${PYTHON:-python3}
wanted=" ${STEPS:-$steps} "
rows=$out/rows.jsonl
log=$out/part$1.log
kernels=(residual_conv pwm_scan kmer_embed kmer_tokenize local_maxima)
small=()
if [[ -n ${SMALL:-} ]]; then small=(--small); fi
export PYTHONPATH=.:kernels${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

mkdir -p "$out"
touch "$rows"
: >"$log"
table=()
failed=0

limited() { # limited SECONDS COMMAND...: at most that long, times PATIENCE, and no longer than the budget leaves
    local left=$((budget_s - SECONDS - 2)) limit=$(($1 * ${PATIENCE:-1}))
    if ((left < 5)); then
        echo "no time left for: ${*:2}"
        return 124
    fi
    timeout --kill-after=2 "$((left < limit ? left : limit))" "${@:2}"
}

step() { # step NAME FUNCTION: log it, note the outcome
    local name=$1 begin=$SECONDS before status=0 outcome
    if [[ $wanted != *" $name "* ]]; then return 0; fi
    echo "== $name" | tee -a "$log"
    before=$(wc -l <"$log")
    "$2" >>"$log" 2>&1 || status=$?
    case $status in
        0) outcome=ok ;;
        77) outcome="skipped: $(tail -n 1 "$log")" ;;
        124 | 137) outcome="FAILED (out of time)" ;;
        *) outcome="FAILED (exit status $status)" ;;
    esac
    if [[ $outcome == FAILED* ]]; then failed=1; fi
    tail -n "+$((before + 1))" "$log" | tail -n 25
    table+=("$(printf '%-12s %4d s  %s' "$name" $((SECONDS - begin)) "$outcome")")
}

each() { # each COMMAND...: run a function or command, go on after a failure, and keep the status of the last one that failed
    "$@" || each_status=$?
}

machine() {
    limited 40 "$python" - "$device" <<'PYTHON' || return
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
    if command -v nvidia-smi >/dev/null; then limited 10 nvidia-smi || true; fi
}

parity() { # each kernel against its oracle and plain loops, then 200 runs of it against one another
    limited 120 "$python" - "$device" <<'PYTHON'
import sys

import torch

from annotator_kernels.repeats import REPEATS
from annotator_kernels.self_check import check_kernels

device = torch.device(sys.argv[1])
checks = check_kernels(device, backend="triton" if device.type == "cuda" else "auto", repeats=REPEATS)
for check in checks:
    print(f"{'ok ' if check.ok else 'BAD'} {check.name} ({check.path}): {check.detail}")
sys.exit(not all(check.ok for check in checks))
PYTHON
}

forward() { # eager and as a CUDA graph
    limited 80 "$python" benchmarks/kernels.py --device "$device" --out "$rows" "${small[@]}" --kernels compact_forward
}

profile() {
    limited 60 "$python" benchmarks/forward_profile.py --device "$device" --out "$rows" "${small[@]}"
}

real() {
    if [[ -z ${PACK:-} ]]; then
        echo "PACK names no file (benchmarks/gpu_real.py --make)"
        return 77
    fi
    local less=()
    if [[ -n ${SMALL:-} ]]; then less=(--mb 0.5 --parity-mb 0.5); fi
    limited 120 "$python" benchmarks/gpu_real.py --device "$device" --out "$rows" --pack "$PACK" "${less[@]}"
}

kernel_rows() { # one process a kernel: a bad access costs its own rows alone
    local each_status=0 kernel
    for kernel in "${kernels[@]}"; do
        each limited 60 "$python" benchmarks/kernels.py --device "$device" --out "$rows" "${small[@]}" --kernels "$kernel"
    done
    return "$each_status"
}

variants() {
    local each_status=0 shape shapes=(stem mix down trunk up)
    if [[ $device == cpu ]]; then export TRITON_INTERPRET=1; fi
    if [[ -n ${SMALL:-} ]]; then shapes=(up); fi
    for shape in "${shapes[@]}"; do
        each limited 40 "$python" benchmarks/conv_variants.py --device "$device" --out "$rows" "${small[@]}" --shapes "$shape"
    done
    if [[ $device == cpu ]]; then unset TRITON_INTERPRET; fi
    return "$each_status"
}

transformer_rows() { # without torch.compile, which alone takes a minute
    limited 80 "$python" benchmarks/transformer.py --device "$device" --out "$rows" "${small[@]}" --no-compile
}

parity_tests() { # no step of the parts: STEPS=tests
    local options=(-q -rs -p no:cacheprovider -o minversion=1 -o filterwarnings=default -o addopts=--import-mode=importlib)
    local workers=()
    if "$python" -c 'import xdist' 2>/dev/null; then workers=(-n 6); fi # most of the time is the compiler's
    limited 280 "$python" -m pytest "${options[@]}" "${workers[@]}" tests/parity
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
    local kernel status=0
    limited 80 "${base[@]}" --kernels "${kernels[@]}" || status=$?
    if ((status == 0 || status == 124 || status == 137)); then return "$status"; fi
    echo "one by one:" # after a bad access nothing else runs in its process
    for kernel in "${kernels[@]}"; do
        status=0
        limited 40 "${base[@]}" --kernels "$kernel" || status=$?
        case $status in
            0) echo "$kernel: ok" ;;
            124 | 137) echo "$kernel: out of time" ;;
            *) echo "$kernel: BAD" ;;
        esac
    done
    return 1
}

memory() {
    local sanitizer probe_status=0
    if [[ $device == cuda* ]] && sanitizer=$(find_sanitizer); then
        local checker=("$sanitizer" --tool memcheck --error-exitcode 9)
        # Something that is known to be right: where this fails the tool cannot work on this machine.
        limited 30 "${checker[@]}" "$python" -c 'import torch; torch.ones(9, device="cuda").add_(1).cpu()' || probe_status=$?
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
step forward forward
step profile profile
step real real
step kernels kernel_rows
step variants variants
step memory memory
step transformer transformer_rows
step tests parity_tests

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
