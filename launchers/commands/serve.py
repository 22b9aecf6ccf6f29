"""``podium serve``: a bundle behind an OpenAI-compatible API on this machine, or what starts another server for it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from launchers.completion import sweep_names

PORT = 8000


class Server(StrEnum):
    """What ``--for`` takes."""

    VLLM = "vllm"
    SGLANG = "sglang"
    NIM = "nim"


def serve(
    bundle: Annotated[
        str | None,
        typer.Argument(
            help="The bundle's folder or s3:// URL, or a sweep's name; the latest sweep when none is given.",
            metavar="[BUNDLE]",
            autocompletion=sweep_names,
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.", min=0, max=65535)] = PORT,
    host: Annotated[str, typer.Option(help="Address to listen at. There are no keys: beware of others.")] = "127.0.0.1",
    guided: Annotated[
        bool | None,
        typer.Option(
            "--guided/--no-guided",
            help="Force every answer into the bundle's JSON schema; as the champion was measured unless given.",
            show_default=False,
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None, typer.Option("--adapter", "-a", help="NAME=PATH of another adapter of this base. Repeatable.")
    ] = None,
    trials: Annotated[
        bool, typer.Option("--trials", help="Every adapter of the sweep that trained on this base too, as trial-N.")
    ] = False,
    base: Annotated[str | None, typer.Option(help="The base model's folder, if it is elsewhere.")] = None,
    log: Annotated[Path | None, typer.Option(help="Write a line for each request to this JSONL file.")] = None,
    max_batch: Annotated[int, typer.Option(help="Answers that are made at a time.", min=1)] = 16,
    max_waiting: Annotated[int, typer.Option(help="Requests that may wait; more are told to come back.", min=0)] = 256,
    server: Annotated[
        Server | None, typer.Option("--for", help="Start nothing; print what starts this server for the bundle.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --for: write the files to this folder.")] = None,
) -> None:
    """Serve a champion behind an OpenAI-compatible API. Its files and its base are verified first; Ctrl-C ends it.

    [dim]podium serve
    podium serve .podium/champions/quickstart --port 8001 --log requests.jsonl
    podium serve ./champion --adapter second=./champion-checkpoints/1a2b3c
    podium serve commerce-sft --trials --for vllm --out ./vllm[/]
    """
    from launchers.serving.bundle import more_adapters, opened, trial_adapters
    from launchers.serving.local import Settings, run
    from sweeps.errors import InvalidInput, Problem

    if out is not None and server is None:
        raise InvalidInput(Problem("--out", "belongs to --for, which is not there", "add --for vllm, sglang or nim"))
    settings, usual = Settings(host, port, guided, log, max_batch, max_waiting), vars(Settings(port=PORT))
    said = [name for name, value in vars(settings).items() if value != usual[name]]
    if server is not None and said:
        rule = "is for the server on this machine, and --for starts none"
        hint = "the script that it prints hands its arguments on to its server"
        raise InvalidInput(Problem(f"--{said[0].replace('_', '-')}", rule, hint))
    with opened(bundle, base) as found:
        more = {**(trial_adapters(found) if trials else {}), **more_adapters(found, adapter or [])}
        if server is not None:
            from launchers.serving.elsewhere import show

            show(found, more, server.value, out)
            return
        run(found, more, settings)
