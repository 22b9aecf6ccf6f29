#!/bin/sh
# vLLM with champion, trial-3 on shop/base-8b. As they were measured: send `"model": "champion"` and `"temperature": 0`.
set -eu
exec vllm serve '/models/my base' \
  --served-model-name shop/base-8b \
  --dtype bfloat16 \
  --quantization bitsandbytes \
  --generation-config vllm \
  --enable-lora \
  --max-loras 2 \
  --max-lora-rank 64 \
  --lora-modules champion=/models/champion 'trial-3=/home/me/.podium/runs/it'"'"'s/trials/1ab34ef/adapter' \
  "$@"
