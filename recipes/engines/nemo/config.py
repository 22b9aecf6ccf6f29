"""The exact NeMo AutoModel YAML of a trial."""

from typing import Any

from recipes.engines.protocol import Job
from recipes.schema import Recipe

_CHAT = "nemo_automodel.components.datasets.llm.chat_dataset.ChatDataset"
_LOADER = "torchdata.stateful_dataloader.StatefulDataLoader"
_COLLATE = "nemo_automodel.components.datasets.utils.default_collater"


def nemo_config(job: Job, checkpoint_dir: str, restore_from: str | None = None) -> dict[str, Any]:
    """The configuration of ``TrainFinetuneRecipeForNextTokenPrediction`` for a trial.

    A report boundary is a step with validation and a chance to save, so ``ckpt_every_steps`` equals
    ``val_every_steps``; the child process decides there whether a checkpoint is written.
    """
    recipe = Recipe.model_validate(job.settings)
    train, optimizer, parallel, lora = recipe.train, recipe.optimizer, recipe.parallel, recipe.lora
    gpu = job.device == "gpu"
    config: dict[str, Any] = {
        "recipe": "TrainFinetuneRecipeForNextTokenPrediction",
        "seed": train.seed,
        "step_scheduler": {
            "global_batch_size": train.batch_size,
            "local_batch_size": train.micro_batch_size,
            "max_steps": train.max_steps,
            "num_epochs": train.max_steps,  # the steps end a trial, never the epochs
            "val_every_steps": train.validate_every,
            "ckpt_every_steps": train.validate_every,
            "save_checkpoint_every_epoch": False,
        },
        "dist_env": {"backend": "nccl" if gpu else "gloo", "timeout_minutes": 10},
        "model": {
            "_target_": "nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained",
            "pretrained_model_name_or_path": job.base,
            "torch_dtype": recipe.base.dtype,
            "attn_implementation": recipe.base.attention,
            **({"revision": recipe.base.revision} if recipe.base.revision else {}),
        },
        "peft": {
            "_target_": "nemo_automodel.components._peft.lora.PeftConfig",
            "target_modules": list(lora.targets),
            "dim": lora.rank,
            "alpha": lora.alpha,
            "dropout": lora.dropout,
            "dropout_position": "pre",  # on the adapter's input, as in PEFT and in the packed engine
        },
        "checkpoint": {
            "enabled": True,
            "checkpoint_dir": checkpoint_dir,
            "model_save_format": "safetensors",
            "save_consolidated": False,
            **({"restore_from": restore_from} if restore_from else {}),
        },
        "clip_grad_norm": {"max_norm": train.clip},
        "distributed": {
            "strategy": parallel.strategy,
            "tp_size": parallel.tp,
            "cp_size": parallel.cp,
            **({"sequence_parallel": True} if parallel.sequence_parallel else {}),
            **({"activation_checkpointing": True} if parallel.activation_checkpointing else {}),
        },
        "loss_fn": {"_target_": "nemo_automodel.components.loss.masked_ce.MaskedCrossEntropy"},
        "dataset": {"_target_": _CHAT, "path_or_dataset_id": str(job.train), "mask_generation_prompt": True},
        "validation_dataset": {
            "_target_": _CHAT,
            "path_or_dataset_id": str(job.validation),
            "mask_generation_prompt": True,
        },
        "dataloader": {"_target_": _LOADER, "collate_fn": _COLLATE, "shuffle": True},
        "validation_dataloader": {"_target_": _LOADER, "collate_fn": _COLLATE},
        "optimizer": {
            "_target_": {"adam": "torch.optim.Adam", "adamw": "torch.optim.AdamW"}[optimizer.name],
            "lr": optimizer.lr,
            "betas": list(optimizer.betas),
            "eps": optimizer.eps,
            "weight_decay": optimizer.weight_decay,
        },
        "lr_scheduler": {
            "lr_decay_style": recipe.schedule.name,
            "lr_warmup_steps": recipe.schedule.warmup_steps,
            "lr_decay_steps": train.max_steps,  # fixed, so that a resumed trial follows the same curve
            "min_lr": optimizer.lr * recipe.schedule.min_lr_ratio,
        },
    }
    if recipe.base.quantize == "nf4":
        config["quantization"] = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": "bfloat16",
        }
    return config
