#!/usr/bin/env bash
#SBATCH --job-name=iosfarm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
# A farm on an allocation: Ray's head on the first node, a worker on each other, the search beside the head.
#   sbatch examples/slurm.sh --db postgresql://USER@HOST/DATABASE    # its password in ~/.pgpass: others see what you type
# Two minutes before the time is over the search is told to stop: it keeps what was measured, and the same job goes on.
set -euo pipefail
folder=${IOSFARM_EXAMPLES:-${SLURM_SUBMIT_DIR:-.}/examples}
port=${RAY_PORT:-6379}
export RAY_USAGE_STATS_ENABLED=0
# Ray asks for a token, of this job alone; srun hands it on.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$head:$port

start() { # NODE ARGUMENTS: `ray start` there, until the job ends
  srun --nodes=1 --ntasks=1 --overlap --nodelist="$1" \
    ray start "${@:2}" --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --block &
}

start "$head" --head --port="$port" --include-dashboard=false
while ! ray status --address "$address" > /dev/null 2>&1; do
  kill -0 $! 2> /dev/null || { echo "Ray did not start on $head" >&2; exit 1; }
  sleep 1
done
for node in "${nodes[@]:1}"; do start "$node" --address="$address"; done

iosfarm search --models "$folder/zoo.yaml" --ray-address "$address" --log "search-${SLURM_JOB_ID:-0}.jsonl" "$@" &
search=$!
trap 'kill -TERM "$search"' TERM
result=0
wait "$search" || result=$?
kill -0 "$search" 2> /dev/null && { wait "$search" || result=$?; } # the signal ended the first wait
ray stop > /dev/null 2>&1 || true
exit "$result"
