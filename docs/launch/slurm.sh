#!/usr/bin/env bash
# Many nodes, one run: a Ray cluster inside a Slurm job.
#
#   sbatch docs/launch/slurm.sh samples.csv results/ [more options of annotator annotate]
#
# The FASTA files, the results folder and $HOME lie on a file system that all nodes see; annotator and ray are on PATH there.
# Five minutes before the time limit Slurm sends USR1: the driver stops cleanly (exit 143) and the job goes back to the queue,
# where the same command goes on. Other failures are not requeued.
#SBATCH --job-name=annotator
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#SBATCH --output=annotator-%j.log
# shellcheck disable=SC2329 # trap calls these functions
set -euo pipefail

sheet=$1 out=$2
shift 2
threads=${THREADS:-4}               # CPU threads of a worker: part of the plan, so the same in every try
max_requeues=${MAX_REQUEUES:-20}    # no endless loop of jobs that get nowhere
gpus=$SLURM_GPUS_ON_NODE
nodes=$SLURM_JOB_NUM_NODES
try=${SLURM_RESTART_COUNT:-0}

# Node-local, short (a socket's path may have 107 bytes), and new, so that nobody else can have made it before us.
temp_dir=/tmp/ray-$SLURM_JOB_ID-$try
state_dir=${RAY_STATE_DIR:-$HOME/.annotator-ray}

# A token that only the owner can read: without it anyone on the network could run code through Ray's ports.
umask 077
mkdir -p "$state_dir"
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH=$state_dir/token-$SLURM_JOB_ID
head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH"
chmod 600 "$RAY_AUTH_TOKEN_PATH"

# HEAD_IP chooses another network of the first node, say InfiniBand.
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_node=${hosts[0]}
head_ip=${HEAD_IP:-$(hostname -I | awk '{print $1}')}
port=$((20000 + SLURM_JOB_ID % 3000 * 3)) # three ports below the range that the kernel hands out
address=$head_ip:$port

everywhere=(--overlap --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1)
ray_node=(--block --temp-dir="$temp_dir" --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" --disable-usage-stats
    --object-manager-port=$((port + 1)) --node-manager-port=$((port + 2)))
step=(--no-kill --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --gpus-per-node="$gpus")

head_step='' worker_step='' driver='' early='' ended=''
clean_up() {
    trap - EXIT
    if [[ -n $worker_step ]]; then kill "$worker_step" 2>/dev/null || true; fi
    if [[ -n $head_step ]]; then kill "$head_step" 2>/dev/null || true; fi
    wait || true
    srun "${everywhere[@]}" rm -rf -- "$temp_dir" || true
    rm -f -- "$RAY_AUTH_TOKEN_PATH"
}
forward() {
    signalled=yes
    if [[ -n $driver ]]; then kill -"$1" "$driver" 2>/dev/null || true; fi
}
stop_early() {
    early=yes
    forward USR1
}
end_now() {
    ended=yes
    forward TERM
}
trap clean_up EXIT
trap stop_early USR1
trap end_now TERM

srun "${everywhere[@]}" mkdir -m 700 -- "$temp_dir"

srun "${step[@]}" --nodes=1 --ntasks=1 --nodelist="$head_node" \
    ray start --head --node-ip-address="$head_ip" --port="$port" --include-dashboard=false "${ray_node[@]}" &
head_step=$!

for ((tries = 0; ; tries++)); do
    if timeout 20 ray status --address="$address" >/dev/null 2>&1; then break; fi
    if ((tries >= 60)) || ! kill -0 "$head_step" 2>/dev/null; then
        echo "slurm.sh: the Ray head on $head_node did not start" >&2
        exit 5
    fi
    if [[ -n $early$ended ]]; then exit 143; fi
    sleep 2
done

if ((nodes > 1)); then
    srun "${step[@]}" --kill-on-bad-exit=0 --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --exclude="$head_node" \
        ray start --address="$address" "${ray_node[@]}" &
    worker_step=$!
fi

annotator annotate --sheet "$sheet" -o "$out" --ray "$address" --workers $((nodes * gpus)) --device cuda -t "$threads" \
    --stage shared --node-timeout 600 --progress lines "$@" &
driver=$!

# A signal ends `wait` early; then wait again, for the driver's own exit code.
while
    signalled=''
    rc=0
    wait "$driver" || rc=$?
    [[ -n $signalled ]]
do :; done
driver=''

clean_up
echo "slurm.sh: annotator ended with $rc" >&2
# 143 without a TERM of ours: the time limit is near, or --max-runtime. A TERM comes from scancel or preemption: Slurm decides.
if ((rc == 143)) && [[ -z $ended ]] && ((try < max_requeues)); then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$rc"
