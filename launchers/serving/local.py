"""Serving a bundle on this machine until somebody ends it."""

import errno
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers.output import say
from launchers.serving.bundle import CHAMPION, Bundle
from launchers.serving.log import RequestLog
from recipes import adapters
from sweeps.errors import InvalidInput, Problem

GRACE_S = 2  # for answers under way when the server ends


@dataclass(frozen=True)
class Settings:
    """What the command line says.

    Attributes:
        guided: None as the champion was measured.
        log: Where requests are logged.
    """

    host: str = "127.0.0.1"
    port: int = 0
    guided: bool | None = None
    log: Path | None = None
    max_batch: int = 16
    max_waiting: int = 256


def run(bundle: Bundle, more: Mapping[str, Path], settings: Settings) -> None:
    """Load the models, say where they are served, and answer until Ctrl-C.

    Raises:
        InvalidInput: The port is taken, the host is not this machine's, the log cannot be written, no schema to guide
            by, or the base is not on this machine.
        KeyboardInterrupt: At its end.
    """
    schema = _schema(bundle, settings.guided)
    with _listening(settings.host, settings.port) as listener:
        import uvicorn

        from launchers.serving.app import create_app

        say(f"loading {bundle.base_name} with {', '.join([CHAMPION, *more])} …")
        with _log(settings.log) as log:
            scheduler, defaults = loaded(bundle, more, schema, settings.max_batch, settings.max_waiting)
            config = uvicorn.Config(
                create_app(scheduler, defaults, log),
                log_level="warning",
                timeout_graceful_shutdown=GRACE_S,
                lifespan="on",
            )
            host, port = listener.getsockname()[:2]
            names = [CHAMPION, *more, bundle.base_name]
            _announce(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1", names, schema is not None)
            if not ipaddress.ip_address(host).is_loopback:
                say(f"listening at {host}, for others too: there are no keys, so whoever reaches it may ask")
            uvicorn.Server(config).run(sockets=[listener])


def loaded(
    bundle: Bundle,
    more: Mapping[str, Path],
    schema: dict[str, Any] | None = None,
    max_batch: int = 16,
    max_waiting: int = 256,
) -> tuple[Any, Any]:
    """The scheduler of a bundle's models, and how it answers; see ``app.create_app``."""
    from launchers.serving.app import Defaults
    from recipes import generation, guiding
    from recipes.serving.models import Models
    from recipes.serving.scheduler import Scheduler

    guiding.leave_uncompiled()
    generation.quiet()
    recipe = bundle.recipe
    served = {CHAMPION: bundle.folder, **more}
    path = str(bundle.base or recipe.base.path)
    models = Models(path, recipe.base, {**served, bundle.base_name: None}, generation.best_device())
    about = {name: {"root": adapters.identity(folder), "parent": bundle.base_name} for name, folder in served.items()}
    about[bundle.base_name] = {"root": str(bundle.proof["base"]["identity"])}
    scheduler = Scheduler(models, max_rows=max_batch, max_waiting=max_waiting)
    return scheduler, Defaults(recipe.generate.max_new_tokens, schema, about)


def _schema(bundle: Bundle, guided: bool | None) -> dict[str, Any] | None:
    """The schema that every answer is forced into."""
    if not (bundle.is_guided if guided is None else guided):
        return None
    if bundle.schema is None:
        rule = f"{bundle.name} has no JSON schema: its sweep had no evaluate.schema"
        raise InvalidInput(Problem("--guided", rule, "send a response_format with the requests"))
    return bundle.schema


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InvalidInput(Problem("--host", f"{host!r} is no address: {error}", "127.0.0.1 is this machine")) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if isinstance(error, PermissionError):
            raise InvalidInput(Problem("--port", f"port {port} is not for you: {error.strerror}")) from None
        if error.errno == errno.EADDRINUSE:
            raise InvalidInput(Problem("--port", f"port {port} is in use", f"try --port {port + 1}")) from None
        rule = f"{host} is no address of this machine: {error.strerror}"
        raise InvalidInput(Problem("--host", rule, "127.0.0.1 is this machine")) from None
    return listener


def _log(path: Path | None) -> RequestLog:
    try:
        return RequestLog(path)
    except OSError as error:
        raise InvalidInput(Problem("--log", f"{path} cannot be written: {error.strerror}")) from None


def _announce(url: str, names: list[str], guided: bool) -> None:
    print(url, flush=True)  # alone on stdout, for scripts
    form = "; every answer is forced into the bundle's schema" if guided else ""
    say(f"models {', '.join(names)}{form}; Ctrl-C ends it. For example:")
    body = f'{{"model": "{names[0]}", "stream": true, "messages": [{{"role": "user", "content": "…"}}]}}'
    say(f"  curl -N {url}/chat/completions -H 'Content-Type: application/json' -d '{body}'")
    say(f'  openai.OpenAI(base_url="{url}", api_key="none").chat.completions.create(model="{names[0]}", messages=…)')
