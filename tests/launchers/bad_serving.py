"""What can be wrong with what is served; see ``bad_cases.py``."""

import json
from pathlib import Path

from tests.launchers.bad_incumbent import adapter, production
from tests.launchers.stage import BEGIN, END, Arrange, Case, Stage, ledger, plan, submit
from tests.launchers.strangers import listening
from tests.production import said

SCHEMA = json.dumps({"type": "object"})
_TRIAL = "1ab34ef"
ONE_TRIAL = [
    json.dumps({"t": 1.5, "trial": _TRIAL, **event})
    for event in (
        {"event": "trial", "number": 0, "values": {}, "pool": "cpu", "max_steps": 6},
        {"event": "state", "state": "RUNNING"},
        {"event": "report", "step": 6, "metrics": {"val/loss": 1.0}},
        {"event": "adapter", "folder": f"trials/{_TRIAL}/adapter"},
        {"event": "state", "state": "DONE"},
    )
]


def _serve(what: str, message: str, way_out: str, *more: str, code: int = 2, arrange: Arrange | None = None) -> Case:
    return Case(what, message, way_out, ("serve", *more), code, arrange)


def _bundle(stage: Stage) -> Path:
    """A bundle on the demo's base, in ``mine``."""
    from analysis import manifest
    from recipes import bases
    from recipes.schema import Base
    from tests.recipes.tiny import DEMO_BASE, tiny_settings

    adapter()(stage)
    folder = stage.here / "mine"
    base = Base(path="builtin:tiny_commerce")
    proof = {
        "sweep": "small",
        "trial": {"id": "1ab34ef", "number": 1, "settings": tiny_settings(DEMO_BASE)},
        "base": {"name": base.path, "identity": bases.identity(base, Path())},
        "answers": {"guided": False, "schema": None, "max_new_tokens": 16},
    }
    (folder / "champion.json").write_text(json.dumps(proof))
    manifest.write(folder)
    return folder


def _damaged(stage: Stage) -> None:
    path = _bundle(stage) / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def _taken(stage: Stage) -> None:
    _bundle(stage)
    port = listening(stage.stack)
    stage.values |= {"port": str(port), "next": str(port + 1)}


def _with_schema(stage: Stage) -> None:
    stage.write("answer.json", SCHEMA)
    production(lambda body: said("{}"))(stage)


SERVING = (
    _serve(
        "No such bundle, and no such sweep",
        "nowhere: no such folder, and no sweep of this name",
        'did you mean "nowhere-2"?',
        "nowhere",
        arrange=lambda stage: stage.write("home/runs/nowhere-2/ledger.jsonl", ""),
    ),
    _serve(
        "The sweep has no champion",
        "small: it has no champion",
        "`podium champion small` says why",
        "small",
        arrange=ledger(BEGIN, END),
    ),
    _serve(
        "Its champion was not exported",
        "small: its champion is not exported on this machine",
        "`podium export small` makes a bundle",
        "small",
        arrange=ledger(BEGIN, *ONE_TRIAL, END),
    ),
    _serve(
        "The bundle is damaged",
        "files: adapter_model.safetensors was changed: its SHA-256 is not the manifest's",
        "",
        "{here}/mine",
        code=7,
        arrange=_damaged,
    ),
    _serve(
        "The port is in use",
        "--port: port {port} is in use",
        "try --port {next}",
        "{here}/mine",
        "--port",
        "{port}",
        arrange=_taken,
    ),
    _serve(
        "Answers are to be guided, and the bundle has no schema",
        "has no JSON schema: its sweep had no evaluate.schema",
        "send a response_format with the requests",
        "{here}/mine",
        "--guided",
        "--port",
        "0",
        arrange=_bundle,
    ),
    _serve(
        "Another adapter without a name",
        "--adapter: must be NAME=PATH, but got '{here}/mine'",
        "",
        "{here}/mine",
        "--adapter",
        "{here}/mine",
        arrange=_bundle,
    ),
    _serve(
        "Another adapter under the champion's name",
        "--adapter: 'champion' is the name of another model",
        "choose another",
        "{here}/mine",
        "--adapter",
        "champion={here}/mine",
        arrange=_bundle,
    ),
    _serve(
        "A NIM's adapters without a folder for them",
        "--out: a NIM takes its adapters from a folder of its own, and none is named",
        "add --out DIR",
        "{here}/mine",
        "--for",
        "nim",
        arrange=_bundle,
    ),
    _serve(
        "A port for a server that is not started",
        "--port: is for the server on this machine, and --for starts none",
        "the script that it prints hands its arguments on to its server",
        "{here}/mine",
        "--for",
        "vllm",
        "--port",
        "9000",
    ),
    _serve(
        "A folder for files that nobody writes",
        "--out: belongs to --for, which is not there",
        "add --for vllm, sglang or nim",
        "{here}/mine",
        "--out",
        "there",
    ),
    Case(
        "The server that is to answer as a bundle does has no address",
        "--endpoint: must be a URL, but got 'localhost:8000'",
        "http://127.0.0.1:8000/v1",
        ("verify", "{here}/mine", "--endpoint", "localhost:8000"),
    ),
    plan(
        "Guided answers without a schema",
        "serving={guided: true}",
        "guided answers are forced into evaluate.schema, and there is none",
        "add it, or leave this out",
    ),
    submit(
        "An incumbent that is to be guided, at a server that ignores the schema",
        (
            "evaluate={metrics: [json_schema], schema: answer.json, incumbent: {endpoint: '{incumbent}', model: shop, "
            "guided: true, timeout: 1s}}",
        ),
        "the incumbent at {incumbent}/chat/completions ignores response_format (it replied '{}'), so nothing would "
        "hold its replies to the schema of answers; take a server or a model with structured output",
        arrange=_with_schema,
        code=5,
    ),
)
