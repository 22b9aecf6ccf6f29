"""A running sweep as the person at the terminal sees it: a live table, or plain lines where stdout is no terminal.

Reads the ledger like any other view, in a thread of its own.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from launchers.output import messages, short
from sweeps.errors import PodiumError
from tracking.ledger import FILE_NAME, State, SweepState, TrialState, read
from tracking.meters.cost import trial_cost

STYLE = {
    State.RUNNING: "cyan",
    State.EVALUATING: "magenta",
    State.DONE: "green",
    State.STOPPED: "yellow",
    State.FAILED: "red",
}
ENDED = (State.DONE, State.STOPPED, State.FAILED)


class Follower:
    """Calls ``look`` with the sweep's state every ``every_s`` seconds, and a last time at the end."""

    def __init__(self, folder: Path, every_s: float, look: Callable[[SweepState], Any]) -> None:
        self._folder, self._every_s, self._look = folder, every_s, look
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._once()

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            self._once()

    def _once(self) -> None:
        if (self._folder / FILE_NAME).exists():
            try:
                state = read(self._folder)
            except PodiumError:
                return  # nothing is written yet
            self._look(state)


class Screen:
    """The live table on a terminal."""

    def __init__(self, num_trials: int) -> None:
        self._num_trials = num_trials
        self._live = Live(console=messages, refresh_per_second=2, transient=True)

    def __enter__(self) -> Callable[[SweepState], None]:
        self._live.start()
        return lambda state: self._live.update(render(state, self._num_trials, height=messages.height))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


class Lines:
    """One plain line for each change of a trial."""

    def __init__(self, num_trials: int) -> None:
        self._num_trials = num_trials
        self._seen: dict[str, tuple[State, int]] = {}

    def __enter__(self) -> Callable[[SweepState], None]:
        return self._look

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def _look(self, state: SweepState) -> None:
        for trial in state.drawn.values():
            now = (trial.state, trial.step)
            if self._seen.get(trial.id) == now:
                continue
            self._seen[trial.id] = now
            ended = sum(other.state in ENDED for other in state.drawn.values())
            messages.print(f"[{ended}/{self._num_trials}] {line(trial)}", markup=False, soft_wrap=True)


def line(trial: TrialState) -> str:
    """A trial in one line."""
    metrics = trial.metrics
    parts = [f"#{trial.number} {trial.id} {trial.state}", f"step {trial.step}/{trial.max_steps}"]
    parts += [f"{key} {short(metrics[key])}" for key in ("train/loss", "val/loss", "quality/score") if key in metrics]
    if trial.state is State.FAILED and trial.error:
        parts.append(trial.error.splitlines()[0])
    elif trial.reason and trial.state is State.STOPPED:
        parts.append(trial.reason)
    return " · ".join(parts)


def render(state: SweepState, num_trials: int, height: int) -> Group:
    """The table: running trials and the latest of the others, as many as the terminal has lines for."""
    ended = [trial for trial in state.drawn.values() if trial.state in ENDED]
    spent = sum(entry.usd for entry in state.costs)
    elapsed = (state.ended or time.time()) - state.started
    head = Text.assemble(
        (state.name, "bold"),
        f"   {len(ended)} of {num_trials} trials ended · {elapsed / 60:.1f} min · ${spent:.4f} spent",
    )
    best = [trial.metrics["quality/score"] for trial in ended if trial.metrics.get("quality/score") is not None]
    if best:
        head.append(f" · best score {max(value for value in best if value is not None):.2f}", style="green")
    keys = list(next(iter(state.drawn.values())).values) if state.drawn else []
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in (
        "#",
        "trial",
        "state",
        "step",
        "train loss",
        "val loss",
        "score",
        "$",
        *[key.split(".")[-1] for key in keys],
    ):
        table.add_column(heading, justify="left" if heading in ("trial", "state") else "right", no_wrap=True)
    order = sorted(state.drawn.values(), key=lambda trial: (trial.state in ENDED, -trial.number))
    for trial in sorted(order[: max(4, height - 6)], key=lambda trial: trial.number):
        table.add_row(*_cells(state, trial, keys), style="dim" if trial.state in ENDED else "")
    return Group(head, table)


def _cells(state: SweepState, trial: TrialState, keys: list[str]) -> list[Any]:
    metrics = trial.metrics
    return [
        str(trial.number),
        trial.id,
        Text(trial.state, style=STYLE.get(trial.state, "")),
        f"{trial.step}/{trial.max_steps}",
        short(metrics.get("train/loss")),
        short(metrics.get("val/loss")),
        short(metrics.get("quality/score")),
        short(trial_cost(state, trial.id).get("cost/usd")),
        *[short(trial.values.get(key)) for key in keys],
    ]
