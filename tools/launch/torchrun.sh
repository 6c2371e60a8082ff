#!/usr/bin/env bash
# tools/launch/torchrun.sh RECIPE [OPTIONS OF vlmcourse train]
# All GPUs of this machine, without accelerate's launcher. GPUS=2 takes fewer; SHARDED=true spreads the model.
set -euo pipefail
cd "$(dirname "$0")/../.."
export ACCELERATE_USE_FSDP="${SHARDED:-false}"
exec .venv/bin/torchrun --standalone --nproc-per-node "${GPUS:-gpu}" -m vlmcourse train "$@"
