"""A trial's own process: NeMo AutoModel's recipe, paused at each report boundary until it is told what to do.

Speaks JSON lines, so any other trainer can take its place: it writes ``{"event": …}`` to standard output and reads
``{"do": "continue" | "save" | "stop"}`` from standard input, and it ends when its input closes. Whatever the trainer
prints goes to standard error. In a torchrun gang rank 0 speaks and passes each command on to the others.

Events: ``ready`` (modules: adapted linear layers) · ``report`` (step, metrics, done) · ``saved`` (path) ·
``error`` (kind: ``input``, ``diverged`` or ``training``; message).
"""

import json
import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

from recipes.engines.start import start_a
from recipes.engines.targets import unmatched
from recipes.lean import UNUSED_BY_NEMO, lean_imports

OWNER_LOOK_S = 0.5


class Channel:
    """The two pipes to the engine; silent on every rank but 0."""

    def __init__(self) -> None:
        # The trainer and its libraries print to standard output; keep it for events alone.
        self._events: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.speaks = os.environ.get("RANK", "0") == "0"

    def send(self, event: str, **fields: Any) -> None:
        if self.speaks:
            self._events.write(json.dumps({"event": event, **fields}) + "\n")
            self._events.flush()

    def command(self) -> str:
        """The next command, the same on every rank. ``stop`` when the input has closed."""
        import torch.distributed as dist

        command = "stop"
        if self.speaks:
            line = sys.stdin.readline()
            command = json.loads(line)["do"] if line else "stop"
        if dist.is_initialized() and dist.get_world_size() > 1:
            shared = [command]
            dist.broadcast_object_list(shared, src=0)
            command = shared[0]
        return command


def _end_with_owner() -> None:
    """End when the process that started this trial is gone: training on for nobody would hold the machine.

    A closed input tells the same, but it is read at a report boundary only, which may be minutes away. In a gang each
    rank, which has a process group of its own, watches for itself.
    """
    owner, parent = int(os.environ.get("PODIUM_OWNER", "0")), os.getppid()
    if not owner:
        return

    def watch() -> None:
        while True:
            try:
                os.kill(owner, 0)
                orphaned = os.getppid() != parent  # of a gang, by the end of torchrun's agent
            except OSError:
                orphaned = True
            if orphaned:
                os.killpg(0, signal.SIGKILL)
            time.sleep(OWNER_LOOK_S)

    threading.Thread(target=watch, daemon=True, name="owner").start()


def _single_process_environment() -> None:
    """The variables that torchrun would have set, for one process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, value in {
        "RANK": 0,
        "LOCAL_RANK": 0,
        "WORLD_SIZE": 1,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }.items():
        os.environ.setdefault(name, str(value))


class UnmatchedTargets(Exception):
    """A pattern of ``lora.targets`` names no linear layer; NeMo itself would train on without a word."""


def check_targets(model: Any, patterns: list[str]) -> int:
    """How many linear layers the patterns adapt; every pattern must name at least one."""
    import torch
    from nemo_automodel.components._peft.module_matcher import ModuleMatcher

    linear = [
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and "lora_" not in name
    ]
    for pattern in patterns:
        matcher = ModuleMatcher(target_modules=[pattern])
        modules = dict(model.named_modules())
        if not any(matcher.match(modules[name], name) for name in linear):
            raise UnmatchedTargets(unmatched(pattern, linear))
    return sum(1 for name, _ in model.named_modules() if name.endswith("lora_A"))


def set_start(model: Any, seed: int) -> None:
    """Give every adapter the first weights that all engines start from."""
    import torch
    from torch.distributed.tensor import DTensor, distribute_tensor

    for name, module in model.named_modules():
        if not hasattr(module, "lora_A"):
            continue
        weight = module.lora_A.weight
        start = start_a(name, weight.shape[0], weight.shape[1], seed).to(weight.device, weight.dtype)
        with torch.no_grad():
            if isinstance(weight, DTensor):
                weight.copy_(distribute_tensor(start, weight.device_mesh, weight.placements))
            else:
                weight.copy_(start)


def build_trial(config: Any, channel: Channel) -> Any:
    """NeMo's fine-tuning recipe with the hooks that a scheduler needs."""
    from nemo_automodel.components.training.rng import init_all_rng

    with lean_imports(UNUSED_BY_NEMO):
        from nemo_automodel.recipes.llm.train_ft import TrainFinetuneRecipeForNextTokenPrediction

    class Trial(TrainFinetuneRecipeForNextTokenPrediction):  # type: ignore[misc]
        """Reports at each boundary and waits there for a command."""

        _metrics: dict[str, float]

        def _run_train_optim_step(self, *args: Any, **kwargs: Any) -> Any:
            # NeMo restores the random generators of a checkpoint, and then its data loader draws from them: dropout
            # would go on otherwise than in the uninterrupted run. So a step's draws follow from seed and step alone.
            init_all_rng((int(config.get("seed")) * 1_000_003 + self.step_scheduler.step) % 2**31, ranked=True)
            return super()._run_train_optim_step(*args, **kwargs)

        def log_train_metrics(self, log_data: Any) -> None:
            super().log_train_metrics(log_data)
            metrics = log_data.metrics
            loss = float(metrics["loss"])
            if not math.isfinite(loss):
                raise FloatingPointError(f"the training loss is {loss} at step {log_data.step + 1}")
            self._metrics = {
                "train/loss": loss,
                "train/lr": float(metrics["lr"]),
                "train/tokens_per_s": float(metrics["tps"]),
            }

        def log_val_metrics(self, val_name: str, log_data: Any, metric_logger: Any = None) -> None:
            super().log_val_metrics(val_name, log_data, metric_logger)
            if log_data is not None:
                loss = float(log_data.metrics["val_loss"])
                if not math.isfinite(loss):
                    raise FloatingPointError(f"the validation loss is {loss} at step {log_data.step + 1}")
                self._metrics["val/loss"] = loss

        def save_checkpoint(self, epoch: int, step: int, *args: Any, **kwargs: Any) -> None:
            if self.step_scheduler.sigterm_flag:  # pre-empted between boundaries: keep what there is
                super().save_checkpoint(epoch, step, *args, **kwargs)
                channel.send("saved", path=self._checkpoint_path(epoch, step), step=step + 1)
                return
            done = bool(self.step_scheduler.is_last_step)
            channel.send("report", step=step + 1, metrics=self._metrics, done=done)
            while (command := channel.command()) == "save":
                super().save_checkpoint(epoch, step, *args, **kwargs)
                channel.send("saved", path=self._checkpoint_path(epoch, step), step=step + 1)
            if command == "stop":
                self.step_scheduler.sigterm_flag = True

        def _checkpoint_path(self, epoch: int, step: int) -> str:
            return str(Path(self.checkpointer.config.checkpoint_dir) / f"epoch_{epoch}_step_{step}")

    return Trial(config)


def main() -> None:
    """``python -m recipes.engines.nemo.child CONFIG.yaml``."""
    channel = Channel()
    _end_with_owner()
    _single_process_environment()
    try:
        import torch

        torch.set_num_threads(int(os.environ.get("PODIUM_THREADS", "1")))
        from recipes.engines.nemo import cpu_shim

        cpu_shim.apply()
        from nemo_automodel.components.config.loader import load_yaml_config

        config = load_yaml_config(sys.argv[1])
        patterns = list(config.get("peft.target_modules"))
        trial = build_trial(config, channel)
        try:
            trial.setup()
        except ValueError as error:
            if "no trainable parameters" not in str(error):
                raise
            # Not one pattern matched anything, which only the optimizer noticed.
            raise UnmatchedTargets(f"lora.targets: {patterns[0]!r} matches no linear layer of the base") from None
        modules = check_targets(trial.model_parts[0], patterns)
        if config.get("checkpoint.restore_from") is None:
            set_start(trial.model_parts[0], int(config.get("seed")))
        channel.send("ready", modules=modules)
        trial.run_train_validation_loop()
    except UnmatchedTargets as error:
        channel.send("error", kind="input", message=str(error))
        raise SystemExit(2) from None
    except FloatingPointError as error:
        channel.send("error", kind="diverged", message=str(error))
        raise SystemExit(1) from None
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno} in {last.name}"
        channel.send("error", kind="training", message=f"{type(error).__name__} at {place}: {error}".rstrip(": "))
        raise


if __name__ == "__main__":
    main()
