"""``podium judge``: whether a sweep's judge can be believed."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from launchers import home
from launchers.commands.options import Output, SweepName
from launchers.output import Format, say, show

app = typer.Typer(help="See whether a sweep's judge can be believed.", no_args_is_help=True)

Split = Annotated[str, typer.Option(help="dev or challenge.")]
_MEASURES = {
    "kappa": "quadratic weighted kappa",
    "spearman": "Spearman's ρ",
    "exact": "share with the same score",
    "within_1": "share at most one point apart",
    "bias": "judge's mean less people's, points",
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
    answers, pairs = judged(state, split), read_pairs(state.folder)
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
