"""The parent's side of the ``nemo`` engine: starts a trial's process, speaks with it, and keeps its checkpoints."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from recipes.engines.nemo.config import nemo_config
from recipes.engines.protocol import LOG_NAME, Diverged, Job, Report, Session, TrainingFailed
from sweeps.errors import InvalidInput, Problem

YAML_NAME = "nemo.yaml"
SCRATCH = "scratch-"  # beginning of the folder in which a process keeps its own checkpoints
STOP_S = 30.0  # how long a process may take to end by itself
LOG_TAIL_LINES = 12


class NemoEngine:
    """Trains each trial in a process of its own, or in a torchrun gang where the recipe asks for several GPUs."""

    def open(self, job: Job, checkpoint: Path | None) -> Session:
        """See :class:`recipes.engines.protocol.Engine`."""
        return NemoSession(job, checkpoint)


class NemoSession:
    """One trial in training."""

    def __init__(self, job: Job, checkpoint: Path | None) -> None:
        self._job = job
        # A new one each time: NeMo would go on from what a killed attempt left, and that attempt may still be ending.
        job.folder.mkdir(parents=True, exist_ok=True)
        for left in job.folder.glob(f"{SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        self._scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=job.folder))
        restore = str(checkpoint / "state") if checkpoint else None
        config = nemo_config(job, str(self._scratch), restore)
        config_path = job.folder / YAML_NAME
        config_path.write_text(yaml.safe_dump(config, sort_keys=False))
        gpus = job.settings["parallel"]["gpus"]
        module = "recipes.engines.nemo.child"
        gang = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}", "-m", module]
        command = [sys.executable, *(gang if gpus > 1 else ["-m", module]), str(config_path)]
        self._log = (job.folder / LOG_NAME).open("ab")
        # A session of its own, so that a Ctrl-C in the terminal reaches the driver alone, which then stops its trials.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(job),
            start_new_session=True,
            preexec_fn=_take_signals,
        )
        self._waiting = False  # the process stands at a boundary and waits for a command
        event = self._next("ready")
        if event["modules"] == 0:
            self.close()
            raise InvalidInput(Problem("lora.targets", "no linear layer of the base is adapted"))

    def advance(self) -> Report:
        """See :class:`recipes.engines.protocol.Session`."""
        if self._waiting:
            self._tell("continue")
        event = self._next("report")
        self._waiting = True
        return Report(event["step"], event["metrics"], event["done"])

    def save(self, folder: Path) -> None:
        """See :class:`recipes.engines.protocol.Session`."""
        self._tell("save")
        written = Path(self._next("saved")["path"])
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(written / "model", folder / "adapter", ignore=shutil.ignore_patterns("*.pt", ".*"))
        shutil.move(written, folder / "state")

    def close(self) -> None:
        """See :class:`recipes.engines.protocol.Session`."""
        if self._process.poll() is None:
            # What is to be kept has been saved at a boundary, and NeMo's own way out takes seconds: so a single process
            # is ended at once. A gang that waits at a boundary is asked, to leave its GPUs in order.
            if self._waiting and self._job.settings["parallel"]["gpus"] > 1:
                self._ask_to_stop()
            self._kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:
                    pass  # a command was still in the buffer of a process that is gone
        self._log.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _ask_to_stop(self) -> None:
        try:
            self._tell("stop")
            self._process.wait(timeout=STOP_S)
        except (TrainingFailed, subprocess.TimeoutExpired):
            pass

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def _tell(self, command: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": command}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failure() from None

    def _next(self, expected: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "error":
            message = event["message"]
            self.close()
            if event["kind"] == "input":
                raise InvalidInput(Problem("recipe", message))
            raise Diverged(message) if event["kind"] == "diverged" else TrainingFailed(message)
        assert event["event"] == expected, f"the child said {event}, expected {expected}"
        return event

    def _failure(self) -> TrainingFailed:
        code = self._process.wait()
        tail = (self._job.folder / LOG_NAME).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        self.close()
        return TrainingFailed(f"the training process ended with code {code}; its last lines:\n" + "\n".join(tail))


def _take_signals() -> None:
    """Ray's processes have these blocked, and torchrun ends its ranks by them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})


def _environment(job: Job) -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[3])
    inherited = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        "PODIUM_THREADS": str(job.threads),
        "PODIUM_OWNER": str(os.getpid()),
        "OMP_NUM_THREADS": str(job.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # Compiling NeMo's fused layers costs 16 s and needs a C++ compiler: worth it on a GPU, never on a CPU.
        **({"TORCHDYNAMO_DISABLE": "1"} if job.device == "cpu" else {}),
    }
