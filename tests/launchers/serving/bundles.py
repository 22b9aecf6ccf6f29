"""A bundle of a tiny model for tests of serving, and an application that serves it on loopback."""

import asyncio
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analysis import manifest
from recipes import bases
from recipes.schema import Base
from tests.recipes.tiny import DEMO_BASE, chat_rows, make_adapter, make_base, tiny_settings

SCHEMA = {
    "type": "object",
    "properties": {"products": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"enum": ["hat", "lamp"]}}},
    "required": ["products"],
    "additionalProperties": False,
}
LIMIT = 24


def make_bundle(folder: Path, base: Path, *, seed: int = 1, guided: bool = False, **proof: Any) -> Path:
    """What an export leaves, of an adapter with random weights."""
    make_adapter(base, folder, seed)
    (folder / "README.md").unlink(missing_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(DEMO_BASE / name, folder / name)
    config = json.loads((folder / "adapter_config.json").read_bytes())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "acme/tiny"}))
    settings = tiny_settings(base, generate__max_new_tokens=LIMIT)
    identity = bases.identity(Base(path=str(base)), Path())
    certificate = {
        "sweep": "small",
        "trial": {"id": "1ab34ef", "number": 1, "settings": settings},
        "base": {"name": "acme/tiny", "identity": identity},
        "answers": {"guided": guided, "schema": SCHEMA, "max_new_tokens": LIMIT},
        "rule": {"metric": "quality/score"},
        "metrics": {},
        **proof,
    }
    (folder / "champion.json").write_text(json.dumps(certificate))
    manifest.write(folder)
    return folder


def add_items(bundle: Path, base: Path, *, guided: bool = False) -> Path:
    """What its evaluation left: greedy answers to twenty conversations, every second of them right."""
    from recipes import generation

    model = generation.load(
        str(base), Base(path=str(base), dtype="float32"), bundle, max_new_tokens=LIMIT, batch_size=4
    )
    prompts = [row[:-1] for row in chat_rows(20)]
    answers = model.answer(prompts, SCHEMA if guided else None)
    items = [
        {
            "id": str(number),
            "messages": prompt,
            "reference": answer if number % 2 else "another",
            "row": {},
            "answer": answer,
            "metrics": {"quality/exact_match": float(number % 2)},
        }
        for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]
    (bundle / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    proof = json.loads((bundle / "champion.json").read_bytes())
    proof["rule"] = {"metric": "quality/exact_match"}
    proof["metrics"] = {"quality/exact_match": {"value": 0.5, "n": 20, "detail": {"metrics": ["exact_match"]}}}
    (bundle / "champion.json").write_text(json.dumps(proof))
    manifest.write(bundle)
    return bundle


def make_place(folder: Path) -> tuple[Path, Path]:
    """A base and a bundle on it."""
    base = make_base(folder / "base")
    return base, make_bundle(folder / "bundle", base)


@contextmanager
def served(bundle: Path, wrap: Callable[[Any], Any] = lambda app: app, **settings: Any) -> Iterator[str]:
    """The bundle behind the API, at the URL that is given; ``wrap`` puts a middleware around the application."""
    import uvicorn

    from launchers.serving.app import create_app
    from launchers.serving.bundle import opened
    from launchers.serving.local import loaded
    from launchers.serving.log import RequestLog

    schema, log = settings.pop("schema", None), settings.pop("log", None)
    with opened(str(bundle)) as found, RequestLog(log) as lines, socket.create_server(("127.0.0.1", 0)) as listener:
        scheduler, defaults = loaded(found, settings.pop("more", {}), schema, **settings)
        app = wrap(create_app(scheduler, defaults, lines))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
