#!/bin/sh
# SGLang with champion, trial-3 on shop/base-8b. As they were measured: send `"model": "shop/base-8b:champion"` and `"temperature": 0`.
set -eu
exec python -m sglang.launch_server --model-path '/models/my base' \
  --served-model-name shop/base-8b \
  --dtype bfloat16 \
  --quantization bitsandbytes --load-format bitsandbytes \
  --sampling-defaults openai \
  --enable-lora \
  --max-loras-per-batch 3 \
  --max-lora-rank 48 \
  --lora-paths champion=/models/champion 'trial-3=/home/me/.podium/runs/it'"'"'s/trials/1ab34ef/adapter' \
  "$@"
