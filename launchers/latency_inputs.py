"""What ``podium latency`` is given, checked and made into a load, a grid and its servers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from analysis.answers import stored
from launchers.latency_grid import Point, of_endpoint
from launchers.pools import pools_beside
from recipes.data.rows import checked_rows, read_jsonl
from sweeps.errors import InvalidInput, Problem, nearest
from sweeps.facts import Pool
from sweeps.fields import duration_s
from sweeps.latency import NEEDED, Latency
from tracking.ledger import SweepState
from tracking.meters.chat import response_format
from tracking.meters.latency.aiperf import INSTALL, find_aiperf


def settings(written: Mapping[str, Any], given: Mapping[str, Any]) -> Latency:
    """The block of a sweep with what the options say put over it.

    Raises:
        InvalidInput: An option is not what it must be.
    """
    put = {name: value for name, value in given.items() if value is not None}
    try:
        return Latency.model_validate({**written, **put})
    except ValidationError as error:
        told = []
        for one in error.errors(include_url=False):
            context = one.get("ctx", {})
            parts = [str(part) for part in one["loc"] if part != "[key]"]
            rule = str(context.get("rule") or one["msg"])
            told.append(Problem(f"--{' '.join(parts)}", rule, str(context.get("hint", ""))))
        raise InvalidInput(told) from None


def limits_of(slo: Sequence[str] | None) -> dict[str, str] | None:
    """The limits that ``--slo`` names; None where it names none.

    Raises:
        InvalidInput: One is not of the form ``formulation_p95=2s``.
    """
    if slo is None:
        return None
    found = {}
    for text in slo:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(Problem("--slo", f'must be a limit, but got "{text}"', "write formulation_p95=2s"))
        found[name.strip()] = value.strip()
    return found


def check_grid(latency: Latency, runs: int) -> None:
    """Whether a grid can say anything.

    Raises:
        InvalidInput: There is no rate, no limit on a request, or too few requests to tell whether a rate keeps them.
    """
    if latency.rate is None:
        raise InvalidInput(Problem("--rate", "a load needs the rate at which requests arrive", "--rate 5/s"))
    limits = of_endpoint(latency.slo)
    if not limits:
        rule = "goodput counts requests that keep a limit, and none is on formulation or ttft"
        raise InvalidInput(Problem("--slo", rule, "--slo formulation_p95=2s"))
    least = max(NEEDED[int(name.rpartition("_p")[2])] for name in limits)
    if runs > 1 and latency.requests < least:
        rule = f"whether a rate keeps the SLO takes {least} requests, but got {latency.requests}"
        raise InvalidInput(Problem("--requests", rule, f"--requests {least}"))


def points_of(state: SweepState, latency: Latency) -> list[Point]:
    """The grid's points, on pools that the sweep has recorded, else that lie beside its YAML, else that ship.

    Raises:
        InvalidInput: No pool has an accelerator.
    """
    own = {name: Pool.model_validate(pool) for name, pool in state.facts.get("pools", {}).items()}
    known = pools_beside(Path(state.facts.get("base_dir", ".")), state.spec.get("prices"))
    kinds = {pool.accelerator: pool for pool in (*known.values(), *reversed(own.values())) if pool.accelerator}
    unknown = [name for name in latency.accelerators if name not in kinds]
    if unknown:
        rule = f'no pool has accelerator "{unknown[0]}"'
        raise InvalidInput(Problem("--accelerators", rule, nearest(unknown[0], tuple(kinds))))
    chosen = [kinds[name] for name in latency.accelerators] or list(own.values())
    return [Point(tp, pool) for pool in chosen for tp in latency.tp]


def bodies_of(
    conversations: Sequence[Sequence[Mapping[str, Any]]], max_tokens: int, schema: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Greedy requests for answers to conversations, forced into a schema where there is one; the model is not named."""
    form = {"response_format": response_format(schema)} if schema is not None else {}
    return [{"messages": list(one), "temperature": 0, "max_tokens": max_tokens, **form} for one in conversations]


def require_aiperf() -> Path:
    """The program.

    Raises:
        InvalidInput: It is not here.
    """
    found = find_aiperf()
    if found is None:
        raise InvalidInput(Problem("aiperf", "a load is AIPerf's, and it is not here", INSTALL))
    return found


def asked_of_file(path: Path) -> list[list[dict[str, str]]]:
    """The conversations of a file of training rows, without their answers.

    Raises:
        InvalidInput: It is not there, or a row is not as it must be.
    """
    if not path.is_file():
        raise InvalidInput(Problem("--rows", f"no such file: {path}", "JSONL of rows, as to train on"))
    return [row["messages"][:-1] for row in checked_rows(read_jsonl(path), str(path))]


def asked_of_sweep(state: SweepState) -> list[list[dict[str, Any]]]:
    """The conversations of the sweep's dev items, as its evaluations keep them.

    Raises:
        InvalidInput: It has evaluated none.
    """
    found = stored(state, "dev")
    if not found:
        raise InvalidInput(Problem("--rows", f"{state.name} has evaluated no dev items to ask", "--rows FILE.jsonl"))
    path = state.folder / str(next(iter(found.values())).items)
    return [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]


def seconds_of(text: str) -> float:
    """What ``--ready`` says, in seconds.

    Raises:
        InvalidInput: It is no time.
    """
    try:
        return float(duration_s(text))
    except PydanticCustomError as error:
        context = error.context or {}
        raise InvalidInput(Problem("--ready", str(context.get("rule")), str(context.get("hint")))) from None
