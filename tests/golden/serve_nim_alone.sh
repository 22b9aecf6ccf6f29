#!/bin/sh
# NVIDIA NIM with champion on nvidia/Llama-3.1-Nemotron-Nano-8B-v1. As they were measured: send `"model": "champion"` and `"temperature": 0`.
# Where the image has profiles that end in -feat_lora, set NIM_MODEL_PROFILE to one of them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec docker run --rm --gpus all --shm-size 16g \
  -e NGC_API_KEY \
  -e NIM_MODEL_PROFILE \
  -e NIM_PEFT_SOURCE=/opt/nim/loras \
  -e NIM_PASSTHROUGH_ARGS="--enable-lora --max-loras 1 --max-lora-rank 16" \
  -v "$here/loras:/opt/nim/loras:ro" \
  -v "${LOCAL_NIM_CACHE:-$HOME/.cache/nim}:/opt/nim/.cache" \
  -p 127.0.0.1:8000:8000 \
  "${NIM_IMAGE:?set it to the NIM of nvidia/Llama-3.1-Nemotron-Nano-8B-v1, nvcr.io/nim/…}" \
  "$@"
