"""``podium judge``: whether a sweep's judge can be believed."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from launchers import home
from launchers.commands.options import Output, SweepName
from launchers.output import Format, say, show, show_table

app = typer.Typer(help="See whether a sweep's judge can be believed.", no_args_is_help=True)

Split = Annotated[str, typer.Option(help="dev or challenge.")]
_MEASURES = {
    "kappa": "quadratic weighted kappa",
    "spearman": "Spearman's ρ",
    "exact": "share with the same score",
    "within_1": "share at most one point apart",
    "bias": "judge's mean less people's, points",
}
_STRENGTHS = {
    "arm": "arm",
    "name": "name",
    "strength": "strength",
    "low": "95 % from",
    "high": "to",
    "num_verdicts": "verdicts",
    "wins": "wins",
    "quality/win_rate": "against the base",
    "win_rate_low": "95 % from",
    "win_rate_high": "to",
}
_PAIRS = {
    "first": "first",
    "second": "second",
    "wins": "first wins",
    "losses": "second wins",
    "ties": "ties",
    "missing": "no verdict",
    "flips": "flips",
    "identical": "same text",
    "by_gate": "by gates",
}


@app.callback()
def _group() -> None:
    """See whether a sweep's judge can be believed."""


@app.command()
def calibrate(
    labels: Annotated[
        Path, typer.Argument(help="CSV with the columns item, label (0–5) and, where it matters, arm.", metavar="CSV")
    ],
    sweep: SweepName = None,
    split: Split = "dev",
    output: Output = Format.TABLE,
) -> None:
    """Compare the judge's scores with people's labels. Asks no judge: the verdicts of the sweep are used.

    What comes out is kept as calibration.json in the run folder. With `evaluate.judge.calibration.min_kappa`, no
    champion is chosen by the judge's scores before it is reached.

    [dim]podium judge calibrate labels.csv
    podium judge calibrate labels.csv commerce-sft -o json[/]
    """
    from analysis.frame import open_sweep
    from tracking.meters.judge.calibration import calibrate as compare
    from tracking.meters.judge.calibration import promotion_block
    from tracking.meters.judge.judged import judge_settings

    state = open_sweep(sweep, home.home())
    result = compare(state, labels, split)
    min_kappa = (judge_settings(state).get("calibration") or {}).get("min_kappa")
    block = promotion_block(result, min_kappa)
    rows = [{"measure": name, **result[key]} for key, name in _MEASURES.items()]
    columns = {"measure": "measure", "value": "value", "low": "95 % from", "high": "to"}
    without = result["num_without_verdict"]
    caption = f"{result['n']} labels of {result['num_clusters']} items" + (
        f", {without} without verdict" * bool(without)
    )
    show({**result, "blocks": block}, rows, columns, output, f"{state.name}: the judge and people", caption)
    if block:
        say(f"note: {block}")


@app.command(name="show")
def show_worst(
    sweep: SweepName = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", help="human, panel, metric or flip; all of them by default.")
    ] = None,
    top: Annotated[int, typer.Option("--top", "-n", help="How many of each.", min=1)] = 10,
    split: Split = "dev",
    output: Output = Format.TABLE,
) -> None:
    """Show the answers on which the judge and somebody else are furthest apart.

    Somebody else is a person (`human`, after `podium judge calibrate`), another judge of the panel (`panel`), the score
    that a metric gave by code (`metric`), or the judge itself, with two answers in the other order (`flip`).

    [dim]podium judge show
    podium judge show commerce-sft --by metric --top 30 -o csv[/]
    """
    from analysis.frame import open_sweep
    from sweeps.errors import InvalidInput, Problem, nearest
    from tracking.meters.judge import summary_of_pairs
    from tracking.meters.judge.calibration import read_calibration
    from tracking.meters.judge.disagreements import KINDS, worst
    from tracking.meters.judge.judged import judged, read_pairs

    kinds = [kind for kind in KINDS if not by or kind in by]
    if unknown := [kind for kind in by or () if kind not in KINDS]:
        raise InvalidInput(
            Problem("--by", f'must be one of {", ".join(KINDS)}, but got "{unknown[0]}"', nearest(unknown[0], KINDS))
        )
    state = open_sweep(sweep, home.home())
    answers, pairs = judged(state, split), read_pairs(state.folder, split)
    calibration = read_calibration(state.folder)
    found = [asdict(one) for one in worst(answers, pairs, calibration, top, kinds)]
    content: dict[str, Any] = {
        "sweep": state.name,
        "num_judged": len(answers),
        "num_missing": sum(entry.verdict.score is None for entry in answers),
        "flip_rate": summary_of_pairs([pair.comparison for pair in pairs]).get("judge/flip_rate"),
        "disagreements": found,
    }
    rows = [{**one, "reasons": " · ".join(one["reasons"])} for one in found]
    columns = {key: key for key in ("kind", "item", "arm", "gap", "judge", "other", "answer", "reasons")}
    caption = f"{content['num_judged']} answers judged, {content['num_missing']} without verdict"
    if content["flip_rate"] is not None:
        caption += f"; {content['flip_rate']:.0%} of the comparisons change with the order"
    show(content, rows, columns, output, f"{state.name}: worst disagreements", caption)


@app.command()
def compare(
    sweep: SweepName = None,
    arms: Annotated[
        str | None,
        typer.Option(help="Trials by number or id, base, incumbent, with commas; by default those of the decision."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="dev or challenge; by default the one that the decision was made on.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Have the sweep's judge compare arms in pairs, in both orders, by the answers that they have given.

    Without --arms they are the contenders and references of the decision, or, before it, the best three on dev and the
    base. No answers are made: the challenge set is compared only where it has been read. A verdict is paid for once.

    What comes out is kept as pairwise.json in the run folder, and shown by the report and the certificate.

    [dim]podium judge compare
    podium judge compare commerce-sft --arms 3,7,base,incumbent --split challenge -o json[/]
    """
    from analysis.answers import find_arms, read_answers
    from analysis.frame import open_sweep
    from analysis.pairwise import compare as compare_arms
    from analysis.pairwise import num_to_ask, usual_arms, usual_split
    from tracking.meters.judge import judge_of
    from tracking.meters.judge.judged import judge_settings

    state = open_sweep(sweep, home.home())
    settings, cache = judge_settings(state), home.cache_folder() / "judge"
    split = split or usual_split(state)
    asked = None if arms is None else [name.strip() for name in arms.split(",") if name.strip()]
    answers = read_answers(state, usual_arms(state, split) if asked is None else find_arms(state, asked), split)
    judge = judge_of(settings, cache)
    if num_to_ask(answers, judge):
        judge.probe()
        judge = judge_of(settings, cache)  # verdicts are those of what the server now calls its model
    todo = num_to_ask(answers, judge)
    say(f"{todo} verdicts to ask for, the others are kept from before" if todo else "every verdict is kept from before")
    result = compare_arms(state, answers, judge, say)
    _tell_spending(result)
    rows = [_strength(one) for one in result["arms"]]
    caption = f"{split} set, {result['n']} items of {result['num_clusters']} groups"
    title = f"{state.name}: strength, the probability of a win against an average arm"
    if output is not Format.TABLE:
        show(result, rows, _STRENGTHS, output, title)
        return
    show_table(title, rows, _STRENGTHS, caption)
    called = {one["arm"]: one["name"] for one in result["arms"]}
    pairs = [{**pair, "first": called[pair["first"]], "second": called[pair["second"]]} for pair in result["pairs"]]
    rate = result["flip_rate"]
    flips = (
        "no comparison was asked for" if rate is None else f"flip rate {rate:.2f}: verdicts that change with the order"
    )
    show_table(f"{state.name}: each pair", pairs, _PAIRS, flips)


def _strength(one: Mapping[str, Any]) -> dict[str, Any]:
    low, high = one["interval"] or (None, None)
    rate = one["quality/win_rate"] or {"value": None, "interval": None}
    rate_low, rate_high = rate["interval"] or (None, None)
    ends = {"low": low, "high": high, "win_rate_low": rate_low, "win_rate_high": rate_high}
    return {**one, **ends, "quality/win_rate": rate["value"]}


def _tell_spending(result: Mapping[str, Any]) -> None:
    """How many comparisons there are, how many have no verdict, and what was paid for them."""

    def known(value: float | None, text: str) -> str:
        return text.format("an unknown number of" if value is None else f"{value:,}")

    missing = result["num_missing"]
    say(
        f"{result['num_comparisons']} comparisons"
        + (f", {missing} without a verdict (the first: {result['first_error']})" if missing else "")
    )
    if "tokens" not in result:
        return  # gates and equal answers alone: nobody was asked
    usd, saved = result["usd"], result["usd_saved"]
    price = "at no known price" if usd is None else f"US$ {usd:.4f}"
    before = f"; US$ {saved:.4f} were paid before" if saved else ""
    say(f"paid for now: {known(result['tokens'], '{} tokens')}, {price}{before}")
