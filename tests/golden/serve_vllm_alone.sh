#!/bin/sh
# vLLM with champion on nvidia/Llama-3.1-Nemotron-Nano-8B-v1. As they were measured: send `"model": "champion"` and `"temperature": 0`.
set -eu
exec vllm serve nvidia/Llama-3.1-Nemotron-Nano-8B-v1 \
  --revision 54641c1 \
  --dtype bfloat16 \
  --generation-config vllm \
  --enable-lora \
  --max-loras 1 \
  --max-lora-rank 16 \
  --lora-modules champion=/models/champion \
  "$@"
