"""``podium``: the command line, the one place that puts all rooms together.

Heavy imports happen inside the commands that need them, so that ``--help``, ``plan``, ``status`` and ``leaderboard``
load none of torch, transformers, ray and mlflow.
"""

import io
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from launchers import __doc__ as _room
from launchers.commands import (
    cost,
    data,
    decide,
    doctor,
    follow,
    gc,
    init,
    judge,
    latency,
    lint,
    look,
    paper,
    plan,
    retrieval,
    run,
    serve,
)
from launchers.output import messages, show_error
from sweeps.errors import PodiumError

SPINS = "1000"
"""How often a thread of OpenMP (GNU's, which torch brings on Linux) looks whether the others are done before it sleeps.

The library's own 300,000 hold the core that the others wait for where another program wants one too: beside one, on two
cores, 15 steps of a NeMo trial on two threads took 106 s, and with these 30 steps took 21. Alone 30 take 15 either way.
"""

EPILOG = "Exit codes: 0 done · 1 our error · 2 invalid input · 3 some trials failed · 4 budget reached · "
EPILOG += "5 a service cannot be reached · 6 no champion qualifies · 7 verification failed · 130 interrupted."

app = typer.Typer(
    name="podium",
    help="Sweeps LoRA fine-tunes of a small language model and puts one on the podium.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS: tuple[tuple[str, Callable[..., Any], str], ...] = (
    ("init", init.init, "Run a sweep"),
    ("plan", plan.plan, "Run a sweep"),
    ("submit", run.submit, "Run a sweep"),
    ("resume", run.resume, "Run a sweep"),
    ("retry", run.retry, "Run a sweep"),
    ("extend", run.extend, "Run a sweep"),
    ("status", look.status, "Watch it"),
    ("logs", follow.logs, "Watch it"),
    ("pause", follow.pause, "Watch it"),
    ("stop", follow.stop, "Watch it"),
    ("dashboard", follow.dashboard, "Watch it"),
    ("leaderboard", look.leaderboard, "Decide"),
    ("compare", look.compare, "Decide"),
    ("champion", decide.champion, "Decide"),
    ("cost", cost.cost, "Decide"),
    ("latency", latency.latency, "Decide"),
    ("report", look.report, "Decide"),
    ("retrieval", retrieval.retrieval, "Decide"),
    ("lint", lint.lint, "Decide"),
    ("paper-table", paper.paper_table, "Decide"),
    ("export", decide.export, "Take it away"),
    ("verify", decide.verify, "Take it away"),
    ("serve", serve.serve, "Take it away"),
    ("try", decide.try_query, "Take it away"),
    ("doctor", doctor.doctor, "Keep it well"),
    ("gc", gc.gc, "Keep it well"),
)
for name, function, panel in _COMMANDS:
    app.command(name, rich_help_panel=panel)(function)
app.add_typer(data.app, name="data", rich_help_panel="Run a sweep")
app.add_typer(judge.app, name="judge", rich_help_panel="Decide")


def check_rooms() -> None:
    """Say so plainly when a foreign package has the name of a room (wandb's sweeps, torchtune's recipes)."""
    import recipes
    import sweeps

    here = _room is not None and __file__.rsplit("/", 2)[0]
    for room in (recipes, sweeps):
        place = str((room.__path__ or ["?"])[0])
        if not place.startswith(str(here)):
            messages.print(
                f"error: the package {room.__name__!r} was imported from {place}, not from Podium ({here}). "
                "Another package of that name is installed: remove it, or install Podium in an environment of its own.",
                style="red",
            )
            raise SystemExit(1)


def main() -> None:
    """The entry point: our errors become a sentence and an exit code, never a traceback."""
    check_rooms()
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr does by itself: what is quoted may have no encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is loaded, here or in what is started from here
    try:
        app()
    except PodiumError as error:
        show_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        messages.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)


if __name__ == "__main__":
    main()
