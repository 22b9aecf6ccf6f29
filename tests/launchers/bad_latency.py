"""What can be wrong with how latency is measured; see ``bad_cases.py``."""

from tests.launchers.stage import BEGIN, END, Arrange, Case, Stage, ledger, plan

_URL = "http://127.0.0.1:9/v1"
_LIMIT = 'write 800ms, 2s or 1m, alone or as "< 2s"'
_LOAD = ("--rows", "{here}/rows.jsonl", "--rate", "5/s")
_SERVE = ("latency", "small", "--serve", "serve --port {port}", "--rate", "5/s")


def _aiperf(program: str) -> Arrange:
    """What the variable names."""

    def arrange(stage: Stage) -> None:
        stage.environment["PODIUM_AIPERF"] = program

    return arrange


def _ask(what: str, arguments: tuple[str, ...], message: str, way_out: str = "", code: int = 2) -> Case:
    """A load on an endpoint that is not there."""
    return Case(what, message, way_out, ("latency", _URL, *arguments), code, _aiperf("/bin/true"))


def _server(what: str, serve: str, arguments: tuple[str, ...], message: str, way_out: str = "") -> Case:
    """A grid whose points nothing can serve."""

    def arrange(stage: Stage) -> None:
        ledger(BEGIN, END)(stage)
        _aiperf("/bin/true")(stage)

    load = ("--rate", "5/s", "--slo", "formulation_p95=2s")
    return Case(what, message, way_out, ("latency", "small", "--serve", serve, *load, *arguments), arrange=arrange)


def _grid(what: str, arguments: tuple[str, ...], message: str, way_out: str = "") -> Case:
    """A grid of a sweep that ended without a champion."""
    return Case(what, message, way_out, (*_SERVE, *arguments), arrange=ledger(BEGIN, END))


LATENCY = (
    plan(
        "An SLO in a unit that is none",
        "evaluate.latency.slo={agent_p95: 2 parsecs}",
        'must be a time above 0 with its unit, but got "2 parsecs"',
        _LIMIT,
    ),
    plan(
        "… or without one",
        "evaluate.latency.slo={agent_p95: 2}",
        "must be a time above 0 with its unit, but got 2",
        _LIMIT,
    ),
    plan(
        "An SLO on something else",
        "evaluate.latency.slo={agnt_p95: 2s}",
        'must be named by a stage and a percentile, such as agent_p95 or formulation_p99, but got "agnt_p95"',
        'did you mean "agent_p95"?',
    ),
    plan(
        "A rate that is none",
        "evaluate.latency.rate='5 Hz'",
        'must be a rate, but got "5 Hz"',
        "write 5/s, 300/min or a number of requests a second",
    ),
    plan(
        "Sizes of servers in disorder",
        "evaluate.latency.tp=[4, 2]",
        "must ascend, but got 4, 2",
        "write [1, 2, 4]",
    ),
    plan(
        "A kind of GPU that no pool has",
        "evaluate.latency.accelerators=[H10]",
        'evaluate.latency.accelerators=[H10]: no pool has accelerator "H10"',
        'did you mean "H100"?',
    ),
    plan(
        "A limit on a percentile that takes more requests",
        ("champion.subject_to={latency/formulation_p99_s: '< 2'}",),
        "latency/formulation_p99_s needs 459 requests, and evaluate.latency.requests is 100",
        "write latency: {requests: 459}",
    ),
    plan(
        "A limit on a latency while nobody is timed",
        ("champion.subject_to={latency/formulation_p50_s: '< 2'}", "evaluate.latency.top=0"),
        "latency/formulation_p50_s is measured of nobody, since evaluate.latency.top is 0",
        "let the best few be timed: top: 3",
    ),
    _ask(
        "A load without a question",
        ("--rate", "5/s"),
        "--rows: an endpoint is asked something, and nothing was named",
        "--rows FILE.jsonl",
    ),
    _ask(
        "… with questions that are not there",
        ("--rows", "{here}/none.jsonl", "--rate", "5/s"),
        "--rows: no such file: {here}/none.jsonl",
        "JSONL of rows, as to train on",
    ),
    _ask(
        "… without a rate",
        ("--rows", "{here}/rows.jsonl"),
        "--rate: a load needs the rate at which requests arrive",
        "--rate 5/s",
    ),
    _ask(
        "… with a key that is not set",
        (*_LOAD, "--api-key-env", "NOT_SET"),
        "--api-key-env: the environment has no NOT_SET",
        "export NOT_SET=…",
    ),
    Case(
        "… on an address of another kind",
        "[SWEEP|URL]: must be a URL, but got 'ftp://shop'",
        "http://127.0.0.1:8000/v1",
        ("latency", "ftp://shop", *_LOAD),
    ),
    _ask(
        "… on a grid of servers",
        (*_LOAD, "--tp", "2"),
        "--tp: is for the champion of a sweep, and a URL was given",
        "leave it out",
    ),
    _ask(
        "… on an endpoint that is not there",
        _LOAD,
        f"{_URL}/models does not answer: [Errno 111] Connection refused",
        code=5,
    ),
    Case(
        "AIPerf is not where it is said to be",
        "PODIUM_AIPERF: must name the program aiperf, but /nowhere/aiperf is none that can be run",
        "unset it, or give the path of bin/aiperf",
        ("latency", _URL, *_LOAD),
        arrange=_aiperf("/nowhere/aiperf"),
    ),
    _grid(
        "A grid without a limit on a request",
        ("--slo", "agent_p95=2s"),
        "--slo: goodput counts requests that keep a limit, and none is on formulation or ttft",
        "--slo formulation_p95=2s",
    ),
    _grid(
        "… with too few requests to tell whether a rate keeps it",
        ("--slo", "formulation_p95=2s", "--runs", "5", "--requests", "50"),
        "--requests: whether a rate keeps the SLO takes 90 requests, but got 50",
        "--requests 90",
    ),
    Case(
        "… that is no command",
        """--serve: must be a command, but got "it's a server": no closing quotation""",
        "",
        ("latency", "small", "--serve", "it's a server", "--rate", "5/s", "--slo", "formulation_p95=2s"),
        arrange=ledger(BEGIN, END),
    ),
    Case(
        "… for a bundle of a sweep without a champion",
        "small: it has no champion",
        "`podium champion small` says why",
        ("latency", "small", "--serve", "serve {bundle} --port {port}", "--rate", "5/s", "--slo", "formulation_p95=2s"),
        arrange=ledger(BEGIN, END),
    ),
    _server(
        "A server that nobody knows",
        "vlm",
        (),
        'must be podium, vllm, sglang or a command with {port} in it, but got "vlm"',
        'did you mean "vllm"?',
    ),
    _server(
        "More GPUs than one server takes",
        "podium",
        ("--accelerators", "H100", "--tp", "2"),
        "--tp: podium serve takes one device, and the grid has tp 2",
        "--tp 1, or --serve vllm or sglang",
    ),
    _grid(
        "A limit that is none",
        ("--slo", "2s"),
        '--slo: must be a limit, but got "2s"',
        "write formulation_p95=2s",
    ),
)
