#!/bin/bash
# One or several machines without a scheduler. One with 8 GPUs:
#   deploy/torchrun.sh 'shards/{0000..0999}.tar' names.txt runs/big
# Two, the same line on each; HOST is the first one's name:
#   NODES=2 HOST=node0 deploy/torchrun.sh 'shards/{0000..0999}.tar' names.txt runs/big
# Options of clips4 train may follow, such as --set train.steps=60000. Ctrl-C and SIGTERM save a checkpoint; the same line
# then resumes the run.
set -euo pipefail
images=${1:?images, a folder or tar shards} classes=${2:?a file of class names} run=${3:?the folder of the run}

resume=()
[ -d "$run/checkpoints" ] && resume=(--resume)
exec torchrun --nnodes="${NODES:-1}" --nproc-per-node="${GPUS:-8}" --rdzv-backend=c10d \
  --rdzv-endpoint="${HOST:-localhost}:${PORT:-29500}" --rdzv-id="${JOB:-clips4}" \
  -m clips4 train "$images" --classes "$classes" --preset "${PRESET:-multi-gpu}" --out "$run" "${resume[@]}" "${@:4}"
