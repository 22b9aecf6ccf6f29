"""``podium latency``: what was timed in a sweep, a load on an endpoint, and a grid of servers."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from launchers import home
from launchers.commands.options import Output, require_url
from launchers.completion import sweep_names
from launchers.output import Format, say, show, show_table
from sweeps.errors import InvalidInput, PodiumError, Problem, ServiceUnreachable
from sweeps.latency import Latency
from tracking.ledger import SweepState

TOKENS = 256
_STAGES = {"label": "arm", "stage": "stage", "n": "requests", "p50": "p50 s", "p95": "p95 s", "p99": "p99 s"}
_LIMITS = {
    "label": "arm",
    "metric": "metric",
    "limit": "limit",
    "value": "measured s",
    "kept": "kept",
    "why": "why not",
}
_GRID = {
    "accelerator": "on",
    "tp": "tp",
    "goodput_rps": "good requests/s",
    "goodput_rps_per_unit": "per GPU or core",
    "usd_per_1k_good": "$ per 1,000 good",
    "p95": "p95 s",
    "runs": "runs",
    "why": "why not",
}

Rate = Annotated[str | None, typer.Option(help="Requests that arrive in a second, e.g. 5/s; the sweep's by default.")]
Requests = Annotated[int | None, typer.Option(min=1, help="Requests that count, for each load.")]
Warmup = Annotated[int | None, typer.Option(min=0, help="Requests made first that do not count.")]
Slo = Annotated[list[str] | None, typer.Option("--slo", help="A limit, e.g. formulation_p95=2s; may be repeated.")]


def latency(
    target: Annotated[
        str | None,
        typer.Argument(
            help="A sweep's name (the latest one when none is given), or the URL of an endpoint.",
            metavar="[SWEEP|URL]",
            autocompletion=sweep_names,
        ),
    ] = None,
    rate: Rate = None,
    requests: Requests = None,
    warmup: Warmup = None,
    slo: Slo = None,
    rows: Annotated[Path | None, typer.Option(help="JSONL of what is asked; of a sweep, its dev items.")] = None,
    model: Annotated[str | None, typer.Option(help="Its name at the endpoint; the only one there by default.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="The environment variable that holds the key.")] = None,
    serve: Annotated[
        str | None,
        typer.Option(
            help="What serves the champion: podium, vllm, sglang, or a command with {port}, {bundle}, {tp} and "
            "{accelerator} in it."
        ),
    ] = None,
    tp: Annotated[
        list[int] | None,
        typer.Option(help="With --serve: GPUs of one server, in place of the sweep's; may be repeated."),
    ] = None,
    accelerators: Annotated[
        list[str] | None, typer.Option(help="With --serve: kinds of GPU, in place of the sweep's; may be repeated.")
    ] = None,
    runs: Annotated[
        int, typer.Option(min=1, help="With --serve: up to so many rates, to find the highest that keeps the SLO.")
    ] = 1,
    ready: Annotated[
        str | None, typer.Option(help="With --serve: how long a server may take to start; 15m where nothing is said.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what was timed in a sweep; put an open load on an endpoint; or serve the champion on a grid of GPUs.

    A load is AIPerf's: requests arrive by chance at the rate, whether or not earlier ones are answered. The grid is
    evaluate.latency's tp × accelerators; its result is kept as latency_grid.json in the run folder.

    [dim]podium latency
    podium latency http://localhost:8000/v1 --rows rows.jsonl --rate 5/s --requests 500 --slo formulation_p95=2s
    podium latency quickstart --serve podium --rate 2/s --slo formulation_p95=2s
    podium latency commerce-sft --serve vllm --tp 1 --tp 2 --runs 8
    podium latency commerce-sft --serve 'sh serve.sh --port {port} --tensor-parallel-size {tp}'[/]
    """
    from launchers.latency_inputs import limits_of, settings

    given: dict[str, Any] = {"rate": rate, "requests": requests, "warmup": warmup, "slo": limits_of(slo)}
    given |= {"tp": tp, "accelerators": accelerators}
    of_servers = {"--runs": runs if runs > 1 else None, "--ready": ready}
    if target is not None and "://" in target:
        require_url("[SWEEP|URL]", target)
        of_grid = {"--serve": serve, "--tp": tp, "--accelerators": accelerators, **of_servers}
        if meant := [name for name, value in of_grid.items() if value is not None]:
            raise InvalidInput(Problem(meant[0], "is for the champion of a sweep, and a URL was given", "leave it out"))
        _endpoint(target, settings({}, given), rows, model, api_key_env, output)
        return
    from analysis.frame import open_sweep

    state = open_sweep(target, home.home())
    if api_key_env is not None:
        rule = "is for an endpoint that somebody else started, and a sweep was given"
        raise InvalidInput(Problem("--api-key-env", rule, "leave it out, or give the endpoint's URL"))
    if serve is not None:
        written = (state.spec.get("evaluate") or {}).get("latency") or {}
        _grid(state, settings(written, given), serve, runs, ready, rows, model, output)
        return
    loads: dict[str, Any] = {
        "--rate": rate,
        "--requests": requests,
        "--warmup": warmup,
        "--slo": slo,
        "--rows": rows,
        "--model": model,
    }
    loads |= {"--tp": tp, "--accelerators": accelerators, **of_servers}
    if idle := [name for name, value in loads.items() if value is not None]:
        rule = f"says what is asked, and without a server nothing is asked of {state.name}"
        raise InvalidInput(Problem(idle[0], rule, "give the URL of an endpoint, or --serve"))
    _sweep(state, output)


def _sweep(state: SweepState, output: Format) -> None:
    """What was measured, from the ledger."""
    from analysis.champion import choose
    from analysis.latency import kept, notes, read_grid, stages

    choice = choose(state)
    rows, limits, grid, told = stages(state, choice), kept(state, choice), read_grid(state), notes(state, choice)
    content = {"sweep": state.name, "stages": rows, "notes": told, "slo": limits, "grid": grid}
    if not rows and output is Format.TABLE:
        say(f"nobody was timed in {state.name}: evaluate.latency.top says how many of the best are")
    if output is not Format.TABLE:
        show(content, rows, {key: key for key in (*rows[0],)} if rows else _STAGES, output, "")
        return
    if rows:
        under = dict.fromkeys(str(row["load"]) for row in rows if row["load"])
        missing = dict.fromkeys(f"–: {row['why']}" for row in rows if row["why"])
        show_table(f"{state.name}: latency, stage by stage", rows, _STAGES, "; ".join([*under, *missing]))
        for note in told:
            print(note["text"])
    if limits:
        show_table(f"{state.name}: the SLO", limits, _LIMITS)
    if grid:
        _show_grid(grid, Format.TABLE, state.name)


def _endpoint(
    url: str, latency: Latency, rows: Path | None, model: str | None, api_key_env: str | None, output: Format
) -> None:
    """A load on an endpoint."""
    import os
    import shutil
    import tempfile

    from launchers.latency_inputs import asked_of_file, bodies_of, require_aiperf
    from tracking.meters.endpoint import sole_model
    from tracking.meters.latency.aiperf import Load, measure_endpoint
    from tracking.meters.latency.slo import verdicts

    if rows is None:
        raise InvalidInput(
            Problem("--rows", "an endpoint is asked something, and nothing was named", "--rows FILE.jsonl")
        )
    if latency.rate is None:
        raise InvalidInput(Problem("--rate", "a load needs the rate at which requests arrive", "--rate 5/s"))
    if api_key_env and not os.environ.get(api_key_env):
        raise InvalidInput(Problem("--api-key-env", f"the environment has no {api_key_env}", f"export {api_key_env}=…"))
    program, asked = require_aiperf(), asked_of_file(rows)
    key = os.environ.get(api_key_env, "") if api_key_env else ""
    model = model or sole_model(url, {"Authorization": f"Bearer {key}"} if key else {})
    load = Load(url, model, latency.rate, latency.requests, latency.warmup, api_key_env=api_key_env)
    say(f"{load.words}, {load.requests} requests after {load.warmup} to warm up …")
    folder = Path(tempfile.mkdtemp(prefix="podium-latency-"))  # stays where AIPerf fails: its own words are in it
    bodies = [{**body, "model": load.model} for body in bodies_of(asked, TOKENS)]
    result = measure_endpoint(program, load, bodies, folder / "aiperf", latency.slo)
    shutil.rmtree(folder)
    missing = result.detail.get("missing", {})
    found = verdicts(latency.slo, result.metrics, missing)
    content = {
        "endpoint": url,
        "model": load.model,
        "n": result.n,
        "metrics": result.metrics,
        "slo": [one.to_dict() for one in found],
        "detail": result.detail,
    }
    lines = []
    for name, value in result.metrics.items():
        low, high = result.detail["intervals"].get(name, (None, None))
        lines.append({"metric": name, "value": value, "low": low, "high": high, "why": missing.get(name)})
    columns = {"metric": "metric", "value": "value", "low": "95 % from", "high": "to", "why": "why not"}
    errors = result.detail["num_errors"]
    caption = f"{result.n} requests, {errors} without an answer"
    caption += "".join(f"; {count} × {text}" for text, count in result.detail.get("errors", {}).items())
    show(content, lines, columns, output, f"{load.model} at {url}: {load.words}", caption)
    if found and output is Format.TABLE:
        show_table("the SLO", [one.to_dict() for one in found], {k: v for k, v in _LIMITS.items() if k != "label"})
    if errors == result.n:
        raise ServiceUnreachable(f"{url} answered none of {result.n} requests")


def _grid(
    state: SweepState,
    latency: Latency,
    serve: str,
    runs: int,
    ready: str | None,
    rows: Path | None,
    model: str | None,
    output: Format,
) -> None:
    """Serve the champion at every point of the grid, and measure each."""
    from analysis.latency import write_grid
    from launchers.bundle_worker import answers_of
    from launchers.latency_grid import Bench, of_endpoint, run_grid
    from launchers.latency_inputs import (
        asked_of_file,
        asked_of_sweep,
        bodies_of,
        check_grid,
        points_of,
        require_aiperf,
        seconds_of,
    )
    from launchers.latency_servers import servers_of
    from recipes.compose import typed
    from tracking.meters.latency.aiperf import Load

    check_grid(latency, runs)
    points = points_of(state, latency)
    servers = servers_of(serve, state, points)
    require_aiperf()
    asked = asked_of_file(rows) if rows else asked_of_sweep(state)
    answers = answers_of(state, typed(state.recipe))
    bench = Bench(
        servers=servers,
        load=Load("", model or "", latency.rate or 0.0, latency.requests, latency.warmup),
        bodies=bodies_of(asked, answers["max_new_tokens"], answers["schema"] if answers["guided"] else None),
        slo=latency.slo,
        runs=runs,
        folder=state.folder / "latency_grid",
        ready_s=seconds_of(ready or "15m"),
    )
    if any(point.pool.device == "gpu" for point in points):
        from launchers.cluster import ray_cluster

        with ray_cluster(say) as nodes:
            results = run_grid(points, bench, nodes, say)
    else:
        results = run_grid(points, bench, [], say)
    content = {
        "t": time.time(),
        "sweep": state.name,
        "champion": (state.champion or {}).get("champion"),
        "serve": serve,
        "slo": {name: str(limit) for name, limit in of_endpoint(latency.slo).items()},
        "rate": latency.rate,
        "searched": runs > 1,
        "points": results,
    }
    if any(point["runs"] for point in results):  # else what an earlier one measured stays
        write_grid(state, content)
    _show_grid(content, output, state.name)
    if not any(point["runs"] for point in results):
        raise PodiumError("no point of the grid could be measured")


def _show_grid(content: Mapping[str, Any], output: Format, name: str) -> None:
    rows = []
    for point in content["points"]:
        last = max(point["runs"], key=lambda run: (bool(run["kept"]), run["rate"]), default=None)
        p95 = last["metrics"]["latency/formulation_p95_s"] if last else None
        rows.append({**point, "p95": p95, "runs": len(point["runs"])})
    limits = ", ".join(f"{key} {limit}" for key, limit in content["slo"].items())
    how = "the highest rate that keeps it, from" if content["searched"] else "at"
    title = f"{name}: good requests under {limits}, {how} {content['rate']:g} requests a second"
    show(content, rows, _GRID, output, title)
