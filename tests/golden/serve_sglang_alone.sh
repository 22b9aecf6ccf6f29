#!/bin/sh
# SGLang with champion on nvidia/Llama-3.1-Nemotron-Nano-8B-v1. As they were measured: send `"model": "nvidia/Llama-3.1-Nemotron-Nano-8B-v1:champion"` and `"temperature": 0`.
set -eu
exec python -m sglang.launch_server --model-path nvidia/Llama-3.1-Nemotron-Nano-8B-v1 \
  --revision 54641c1 \
  --dtype bfloat16 \
  --sampling-defaults openai \
  --enable-lora \
  --max-loras-per-batch 2 \
  --max-lora-rank 16 \
  --lora-paths champion=/models/champion \
  "$@"
