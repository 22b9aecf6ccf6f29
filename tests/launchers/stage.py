"""How a case of bad input is made: a folder with a sweep that is right, and one thing that is not."""

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.bases import BUILTIN
from tests.launchers.running import ROOT
from tests.launchers.strangers import Hub, listening, small_disk
from tracking.ledger import FORMAT

SWEEP = """\
name: small
recipe: tiny_commerce_sft
set: {train.max_steps: 6, data.builtin: null, data.path: rows.jsonl, data.group: null, data.rows: null}
space:
  optimizer.name: choice(adam, adamw)
  optimizer.lr: loguniform(1e-3, 2e-2)
search: {trials: 3}
champion: {minimize: val/loss}
"""
ROWS = "".join(f'{{"prompt": "Where is order {number}?", "completion": "It is on its way."}}\n' for number in range(60))
METRICS = """\
import math
from pathlib import Path
def fine(row, answer): return {"words": len(answer.split())}
def raises(row, answer): return {"words": row["orders"]}
def number(row, answer): return 1.0
def not_a_number(row, answer): return {"words": math.nan}
def fails_once(row, answer):
    mark = Path(__file__).with_name("failed")
    if answer != row["reference"] and not mark.exists():
        mark.touch()
        raise ValueError("what is this?")
    return {"words": 1.0}
"""


@dataclass
class Stage:
    """Where a case is provoked: a folder with a sweep that is right, and whatever the case adds to it.

    Attributes:
        environment: What the case sets in the environment of the command.
        values: What stands for ``{name}`` in arguments and messages; ``{here}`` is the folder, ``{root}`` Podium's own.
        home: Podium's home of the case.
    """

    here: Path
    stack: ExitStack
    environment: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return Path(self.environment.get("PODIUM_HOME", self.here / "home"))

    def write(self, name: str, content: str | bytes) -> Path:
        """A file in the folder."""
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def fill(self, text: str) -> str:
        """A text with every ``{name}`` replaced."""
        for name, value in {"here": str(self.here), "root": str(ROOT), **self.values}.items():
            text = text.replace(f"{{{name}}}", value)
        return text


Arrange = Callable[[Stage], Any]


@dataclass(frozen=True)
class Case:
    """One thing that goes wrong.

    Attributes:
        what: In the page's first column.
        message: What is told, ``{here}`` standing for the folder of the sweep.
        way_out: What stands in parentheses after it; where the message itself says it, empty.
        command: As it is typed after ``podium``, by words; ``SWEEP`` stands for the sweep's YAML.
        code: The exit code.
        arrange: Makes what is wrong.
        slow: It takes a whole sweep, and is told while that runs.
    """

    what: str
    message: str
    way_out: str
    command: tuple[str, ...]
    code: int = 2
    arrange: Arrange | None = None
    slow: bool = False

    @property
    def told(self) -> str:
        """The message as it is printed."""
        return f"{self.message} ({self.way_out})" if self.way_out else self.message


def plan(
    what: str, changes: str | tuple[str, ...], message: str, way_out: str = "", arrange: Arrange | None = None
) -> Case:
    """A case that ``podium plan`` finds, and ``podium submit`` in the same way; ``changes`` are overrides."""
    changes = (changes,) if isinstance(changes, str) else changes
    return Case(what, message, way_out, ("plan", "SWEEP", *changes), arrange=arrange)


def submit(
    what: str,
    changes: tuple[str, ...],
    message: str,
    way_out: str = "",
    arrange: Arrange | None = None,
    code: int = 2,
) -> Case:
    """A case that only ``podium submit`` finds, before anything starts."""
    return Case(what, message, way_out, ("submit", "SWEEP", *changes), code, arrange)


def yaml(text: str | bytes) -> Arrange:
    """The sweep's YAML is this; a text that begins with a newline is put at the end of the one that is right."""
    content = SWEEP.rstrip() + text if isinstance(text, str) and text.startswith("\n") else text
    return lambda stage: stage.write("small.yaml", content)


def rows(content: str | bytes) -> Arrange:
    """The data are these."""
    return lambda stage: stage.write("rows.jsonl", content)


def row(**fields: Any) -> Arrange:
    """The data have this row at their end, in line 61."""
    return rows(ROWS + json.dumps(fields) + "\n")


def base(change: Callable[[Path], Any]) -> Arrange:
    """The base model is the demo's, changed."""

    def arrange(stage: Stage) -> None:
        change(Path(shutil.copytree(BUILTIN["builtin:tiny_commerce"], stage.here / "base")))

    return arrange


def cut(path: Path) -> None:
    """Keep the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def file(name: str, content: str | bytes) -> Arrange:
    """This file is in the sweep's folder."""
    return lambda stage: stage.write(name, content)


def ledger(*lines: str) -> Arrange:
    """A sweep ``small`` was run, and its ledger is this."""
    return lambda stage: stage.write("home/runs/small/ledger.jsonl", "".join(f"{line}\n" for line in lines))


def hub(status: int, code: str = "", message: str = "", token: str = "") -> Arrange:
    """The Hugging Face hub is a server on this machine that answers so."""

    def arrange(stage: Stage) -> None:
        server = stage.stack.enter_context(Hub(status, code, message))
        stage.values["hub"] = server.url
        stage.environment |= {"HF_ENDPOINT": server.url, "HF_HOME": str(stage.here / "hf"), "HF_TOKEN": token}

    return arrange


def judge(serve: Callable[[ExitStack], str]) -> Arrange:
    """The judge is a server on this machine."""

    def arrange(stage: Stage) -> None:
        stage.values["judge"] = serve(stage.stack)

    return arrange


def home_is_a_file(stage: Stage) -> None:
    """In place of Podium's home."""
    stage.environment["PODIUM_HOME"] = str(stage.write("no-home", "a file"))


def home_cannot_be_written(stage: Stage) -> None:
    """Whoever one is."""
    stage.environment["PODIUM_HOME"] = "/proc/podium"


def home_is_full(stage: Stage) -> None:
    """A disk of one megabyte."""
    stage.environment["PODIUM_HOME"] = stage.values["disk"] = str(small_disk(stage.here, stage.stack))


def port_in_use(stage: Stage) -> None:
    """Something listens where the dashboard would."""
    stage.write("home/mlflow.db", "")
    port = listening(stage.stack)
    stage.values |= {"port": str(port), "next": str(port + 1)}


GRID = (
    "search={algorithm: grid}",
    "space={lora.rank: 'range(1,51)', optimizer.lr: 'quniform(0.001,0.1,0.001)', schedule.min_lr_ratio: "
    "'quniform(0.005,1,0.005)'}",
)
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
JUDGE = "evaluate.judge={model: m, endpoint: '{judge}', rubric: 'Five if it helps.', timeout: 1s}"
GATED = ("set.base.path=gated/model", "set.base.num_parameters=1000000", "set.data.max_tokens=100000")
SMALL = (
    "set.train.validate_every=3",
    "evaluate={dev: 2, challenge: 2, latency: {top: 0}}",
    "set.generate.max_new_tokens=8",
)
RELATIVE = "relative paths are taken from {here}"
BEGIN = json.dumps(
    {
        "t": 1.0,
        "event": "sweep",
        "name": "small",
        "format": FORMAT,
        "spec": {},
        "recipe": {},
        "facts": {"overrides": []},
    }
)
END = json.dumps({"t": 2.0, "event": "end", "status": "DONE"})
