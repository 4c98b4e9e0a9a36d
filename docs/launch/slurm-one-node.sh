#!/usr/bin/env bash
# All GPUs of one node, one process each, without Ray.
#
#   sbatch docs/launch/slurm-one-node.sh samples.csv results/ [more options of annotator annotate]
#
# Five minutes before the time limit the run stops cleanly (exit 143) and the job goes back to the queue.
#SBATCH --job-name=annotator
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=annotator-%j.log
# shellcheck disable=SC2329 # trap calls these functions
set -euo pipefail

sheet=$1 out=$2
shift 2

driver='' ended=''
forward() {
    signalled=yes
    if [[ -n $driver ]]; then kill -"$1" "$driver" 2>/dev/null || true; fi
}
stop_early() { forward USR1; }
end_now() {
    ended=yes
    forward TERM
}
trap stop_early USR1
trap end_now TERM

# THREADS is part of the plan: keep it the same in every try.
annotator annotate --sheet "$sheet" -o "$out" --ray off --workers "$SLURM_GPUS_ON_NODE" --device cuda -t "${THREADS:-4}" \
    --progress lines "$@" &
driver=$!

# A signal ends `wait` early; then wait again, for the driver's own exit code.
while
    signalled=''
    rc=0
    wait "$driver" || rc=$?
    [[ -n $signalled ]]
do :; done

echo "slurm-one-node.sh: annotator ended with $rc" >&2
if ((rc == 143)) && [[ -z $ended ]] && ((${SLURM_RESTART_COUNT:-0} < ${MAX_REQUEUES:-20})); then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$rc"
