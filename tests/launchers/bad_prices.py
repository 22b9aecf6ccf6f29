"""What can be wrong with prices and with the traffic to be served; see ``bad_cases.py``."""

import json

from tests.launchers.stage import BEGIN, END, Arrange, Case, Stage, file, ledger, plan

_POOL = "device: cpu\nmemory_gb: 4\nspeed: {achieved_tflops: 1, source: s}\nstartup_s: 1\n"
_JUDGE = "model: m, endpoint: 'http://localhost:1', rubric: r"
_CPU = {
    "name": "cpu",
    "device": "cpu",
    "memory_gb": 4,
    "price": {"usd_per_hour": 1, "date": "2026-11-01", "source": "s"},
    "speed": {"achieved_tflops": 1, "source": "s"},
    "startup_s": 1,
}
_TOKENS = "input_usd_per_1m: 2, output_usd_per_1m: 8, source: s, date: '2026-11-01'"
_TRAFFIC = "traffic={peak_rps: 50, mean_rps: 20}"


def _pool(price: str) -> Arrange:
    return file("pools/mine.yaml", f"{_POOL}price: {price}\n")


def _cost(what: str, arguments: tuple[str, ...], message: str, way_out: str = "") -> Case:
    """A case of ``podium cost`` on a sweep that has ended."""
    return Case(what, message, way_out, ("cost", "small", *arguments), arrange=ledger(BEGIN, END))


def _on_cpu(stage: Stage) -> None:
    """A sweep on the pool ``cpu``, and a price list that has it not."""
    begin = json.loads(BEGIN)
    ledger(json.dumps({**begin, "facts": {**begin["facts"], "pools": {"cpu": _CPU}}}), END)(stage)
    stage.write("ours.yaml", "ours: {usd_per_hour: 2, date: 2026-11-01, source: ours}\n")


PRICES = (
    plan(
        "A price without a date",
        "pools=[mine]",
        "price.date: is missing",
        arrange=_pool("{usd_per_hour: 2, source: our contract}"),
    ),
    plan(
        "… or a source",
        "pools=[mine]",
        "price.source: is missing",
        arrange=_pool("{usd_per_hour: 2, date: 2026-11-01}"),
    ),
    plan(
        "A price of 0",
        "pools=[mine]",
        "price.usd_per_hour: a price must be above 0, but got 0: every dollar figure would be 0",
        "for machines of your own write what an hour of them costs you, power and depreciation",
        _pool("{usd_per_hour: 0, date: 2026-11-01, source: ours}"),
    ),
    plan(
        "A date that is none",
        "pools=[mine]",
        'price.date: must be a date, but got "last week"',
        "write it like 2026-11-25",
        _pool("{usd_per_hour: 2, date: last week, source: ours}"),
    ),
    plan(
        "Another currency",
        "pools=[mine]",
        "price.currency: input should be 'USD', but got 'EUR'",
        arrange=_pool("{usd_per_hour: 2, date: 2026-11-01, source: ours, currency: EUR}"),
    ),
    plan(
        "A pool's price that no price list has",
        "pools=[mine]",
        'price: no price list has "nebius-h10"',
        'did you mean "nebius-h100"?',
        _pool("nebius-h10"),
    ),
    plan(
        "A price list without a source",
        "prices=ours.yaml",
        "cpu.source: is missing",
        arrange=file("ours.yaml", "cpu: {usd_per_hour: 0.04, date: 2026-11-01}\n"),
    ),
    plan(
        "A price list with a price of 0",
        "prices=ours.yaml",
        "cpu.usd_per_hour: a price must be above 0, but got 0: every dollar figure would be 0",
        "for machines of your own write what an hour of them costs you, power and depreciation",
        file("ours.yaml", "cpu: {usd_per_hour: 0, date: 2026-11-01, source: ours}\n"),
    ),
    plan(
        "A price list that is not there",
        "prices=gone.yaml",
        "{here}/gone.yaml: there is no such file",
        "give the path of a YAML file",
    ),
    plan(
        "A price list with a day that no month has",
        "prices=ours.yaml",
        'cpu.date: must be a date, but got "2026-11-31"',
        "write it like 2026-11-25",
        file("ours.yaml", "cpu: {usd_per_hour: 0.04, date: 2026-11-31, source: ours}\n"),
    ),
    plan(
        "A price list that is no list of prices",
        "prices=ours.yaml",
        "line 1: {here}/ours.yaml: must be a mapping of keys to values",
        "name: {usd_per_hour: 3.85, date: 2026-09-25, source: the price list}",
        file("ours.yaml", "- 0.04\n"),
    ),
    plan(
        "A judge whose tokens cost nothing",
        f"evaluate.judge={{{_JUDGE}, price: {{{_TOKENS.replace('1m: 2', '1m: 0')}}}}}",
        "a price must be above 0, but got 0: every dollar figure would be 0",
        "leave price out where tokens are not paid for: dollars are then unknown, and not 0",
    ),
    plan(
        "A limit on the dollars of serving without a traffic",
        "champion.subject_to={cost/monthly_usd: '< 20000'}",
        "cost/monthly_usd is of a stated traffic, and the sweep states none",
        "add traffic: {peak_rps: 50, mean_rps: 20} with your own rates",
    ),
    plan(
        "A mean above the peak",
        "traffic={peak_rps: 20, mean_rps: 50}",
        "mean_rps must be at most peak_rps, but got mean_rps=50, peak_rps=20",
        "the mean over a month, and the most of one second",
    ),
    plan(
        "A traffic for a pool that does not exist",
        (_TRAFFIC, "traffic.pool=h200"),
        'unknown pool "h200"',
        'did you mean "h100"?',
    ),
    plan(
        "An incumbent's tokens with a price, but no endpoint",
        f"evaluate={{metrics: [shopping], incumbent: {{adapter: a, price: {{{_TOKENS}}}}}}}",
        "price belongs to an endpoint, and there is none",
        "leave it out",
    ),
    _cost(
        "Dollars of serving where no traffic was stated",
        ("--serving",),
        "--serving: the sweep states no traffic",
        "say --traffic peak_rps=50 --traffic mean_rps=20, or write traffic: in the sweep's YAML",
    ),
    _cost(
        "… or not as it must be",
        ("--serving", "--traffic", "peak_rps=many", "--traffic", "mean_rps=2"),
        "--traffic.peak_rps: input should be a valid number, but got 'many'",
    ),
    _cost(
        "… or cannot be read",
        ("--serving", "--traffic", "peak_rps=[1"),
        '--traffic peak_rps: cannot read "[1"',
        'a "]" is missing',
    ),
    _cost(
        "A key that traffic has not",
        ("--traffic", "peak=50"),
        "--traffic: must be a key of traffic and its value, but got 'peak=50'",
        'did you mean "peak_rps"?',
    ),
    Case(
        "Other prices, but none of the sweep's pools",
        "--prices: has no entry for cpu, the sweep's pool",
        "entries it has: ours",
        ("cost", "small", "--prices", "{here}/ours.yaml"),
        arrange=_on_cpu,
    ),
    Case(
        "… not even the one to serve on",
        "--prices: has no entry for cpu, the pool to serve on",
        "entries it has: ours",
        ("cost", "small", "--prices", "{here}/ours.yaml", "--traffic", "peak_rps=5", "--traffic", "mean_rps=2"),
        arrange=_on_cpu,
    ),
)
