"""How the champion is served at a point of the grid: by ``podium serve``, by vLLM or SGLang, or by a user's command."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from launchers.bundles import exported
from launchers.latency_grid import Point, Servers
from launchers.model_server import Command, command_of
from launchers.serving.bundle import CHAMPION, opened
from launchers.serving.elsewhere import STARTS, Served, argv, called, served
from sweeps.errors import InvalidInput, Problem, nearest
from tracking.ledger import SweepState

OWN = "podium"
NAMES = (OWN, *STARTS)


def servers_of(serve: str, state: SweepState, points: Sequence[Point]) -> Servers:
    """What starts the server of a point.

    Args:
        serve: One of ``NAMES``, for the champion's bundle, which is verified first; else a command with ``{port}`` in
            it, and ``{bundle}``, ``{tp}`` and ``{accelerator}`` where it needs them.
        state: The sweep.
        points: Of the grid.

    Raises:
        InvalidInput: It is neither, a point is none that it can serve at, or the bundle is not on this disk.
        VerificationFailed: The bundle is damaged, or its base is another.
    """
    if serve not in NAMES:
        command_of(serve, {}, 0)
        if "{port}" not in serve:
            rule = f'must be {", ".join(NAMES)} or a command with {{port}} in it, but got "{serve}"'
            raise InvalidInput(Problem("--serve", rule, nearest(serve, NAMES)))
        return partial(by_template, serve, exported(state) if "{bundle}" in serve else None)
    _check_points(serve, points)
    with opened(str(exported(state))) as bundle:
        if serve == OWN:
            return partial(by_podium, bundle.folder)
        return partial(by_another, serve, served(bundle, {}))


def _check_points(serve: str, points: Sequence[Point]) -> None:
    for point in points:
        if serve == OWN and point.tp > 1:
            rule = f"podium serve takes one device, and the grid has tp {point.tp}"
            raise InvalidInput(Problem("--tp", rule, f"--tp 1, or --serve {' or '.join(STARTS)}"))
        if serve != OWN and point.pool.device == "cpu":
            rule = f"{serve} needs GPUs, and the pool {point.pool.name} has none"
            raise InvalidInput(Problem("--serve", rule, f"--serve {OWN}, or --accelerators H100"))


def by_podium(bundle: Path, point: Point, port: int) -> Command:
    """``podium serve``, on the one device of the point: a core is priced, so one thread computes, and no GPU."""
    words = (sys.executable, "-m", "launchers.cli", "serve", str(bundle), "--port", str(port))
    core = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} if point.pool.device == "cpu" else {}
    return replace(_on_loopback(words, port, CHAMPION), env=core)


def by_another(server: str, what: Served, point: Point, port: int) -> Command:
    """vLLM or SGLang, on the GPUs of the point: Ray lets its task see no others."""
    return _on_loopback(tuple(argv(server, what, port, point.tp)), port, called(server, what))


def by_template(template: str, bundle: Path | None, point: Point, port: int) -> Command:
    """The user's command, with the point's values put in."""
    return command_of(template, {"bundle": bundle, "tp": point.tp, "accelerator": point.kind}, port)


def _on_loopback(argv: tuple[str, ...], port: int, model: str) -> Command:
    # All three answer /health with 200 no sooner than they answer requests; SGLang lists its models before.
    origin = f"http://127.0.0.1:{port}"
    return Command(argv, f"{origin}/v1", f"{origin}/health", model)
