"""``podium status``, ``leaderboard``, ``compare`` and ``report``: views of the ledger."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from launchers import home
from launchers.commands.options import Output, SweepName
from launchers.commands.staged import improvements, show_leaderboards, show_stages, stages_meant
from launchers.output import Format, say, short, show
from sweeps.metrics import BY_PIPELINE
from tracking.ledger import SweepState, is_open


def status(
    sweep: SweepName = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it until its driver ends.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show how far a sweep is: its trials by state, losses, scores, what was spent, and its history.

    [dim]podium status
    podium status commerce-sft --watch
    podium status commerce-sft -o json[/]
    """
    from analysis.frame import open_sweep

    if stages := stages_meant(sweep):
        show_stages(stages, watch=watch, output=output)
        return
    state = open_sweep(sweep, home.home())
    if watch and is_open(state.folder):
        from launchers.join import follow

        state = follow(state.folder)
    summary = summary_of(state)
    rows = trial_rows(state)
    columns = {key: key for key in ("number", "id", "state", "step", "pool", "val/loss", "quality/score", "why")}
    states = ", ".join(f"{count} {name}" for name, count in summary["states"].items())
    title = f"{state.name}: {summary['status']}" + (f" ({summary['reason']})" if summary["reason"] else "")
    show({**summary, "trials": rows}, rows, columns, output, title, f"{states} · ${summary['usd']:.4f}")
    if output is Format.TABLE:
        for line in _history(state, summary["sessions"]):
            print(line)
    for note in state.notes:
        say(f"note: {note}")


def trial_rows(state: SweepState) -> list[dict[str, Any]]:
    """Every trial that the sweep has drawn, in any of its versions, as ``status`` shows it."""
    return [
        {
            "number": trial.number,
            "id": trial.id,
            "version": trial.version,
            "state": str(trial.state) if trial.id in state.trials else f"{trial.state}, earlier version",
            "step": f"{trial.step}/{trial.max_steps}",
            "pool": trial.pool,
            "val/loss": trial.metrics.get("val/loss"),
            "quality/score": trial.metrics.get("quality/score"),
            "why": trial.error or trial.reason,
        }
        for trial in state.every_trial.values()
        if trial.stage is None
    ]


def _history(state: SweepState, sessions: list[dict[str, Any]]) -> Iterator[str]:
    """What became of the sweep so far, where that is more than one driver's run of one YAML."""
    if state.version == 1 and len(sessions) < 2:
        return
    for version in state.versions:
        changes = "; ".join(version.changes) or "as first submitted"
        yield f"version {version.number}  {_clock(version.t)}  {changes}"
        for session in sessions:
            if session["version"] == version.number:
                ended = session["status"] + (f" ({session['reason']})" if session["reason"] else "")
                yield f"  session  {_clock(session['began'])}, {session['seconds'] / 60:.1f} min: {ended}"


def _clock(t: float) -> str:
    return datetime.fromtimestamp(t).strftime("%Y-%m-%d %H:%M:%S")


def summary_of(state: SweepState) -> dict[str, Any]:
    """The few numbers that sum up a sweep, as ``status -o json`` prints them."""
    from collections import Counter

    from tracking.meters.cost import summary

    costs = summary(state)
    gone = state.status == "RUNNING" and not is_open(state.folder)
    lost = f"its driver is gone; `podium resume {state.name}` goes on" if gone else None
    return {
        "name": state.name,
        "status": "LOST" if gone else state.status,
        "reason": lost or state.reason,
        "version": state.version,
        "versions": [{"number": one.number, "t": one.t, "changes": list(one.changes)} for one in state.versions],
        "sessions": [
            {
                "version": session.version,
                "began": session.began,
                "seconds": round(session.seconds, 1),
                "status": session.status or ("LOST" if gone or session is not state.sessions[-1] else "RUNNING"),
                "reason": session.reason,
            }
            for session in state.sessions
        ],
        "folder": str(state.folder),
        "num_trials": len(state.drawn),
        "states": dict(Counter(str(trial.state) for trial in state.drawn.values())),
        "usd": costs["cost/usd"],
        "champion": (state.champion or {}).get("champion"),
        "exports": [export["to"] for export in state.exports],
        "mlflow": state.mlflow,
    }


def leaderboard(sweep: SweepName = None, output: Output = Format.TABLE) -> None:
    """Rank the trials by the sweep's rule: constraints first, then the objective.

    [dim]podium leaderboard
    podium leaderboard commerce-sft -o csv > trials.csv[/]
    """
    from analysis.frame import open_sweep

    if begun := [stage.state for stage in stages_meant(sweep) if stage.state is not None]:
        show_leaderboards(begun, output)
        return
    show_leaderboard(open_sweep(sweep, home.home()), output)


_BOARD = (
    "rank",
    "stage",
    "number",
    "id",
    "state",
    "front",
    "val/loss",
    "dpo/reward_accuracy",
    "dpo/chosen_logp_change",
    "quality/score",
    "quality/json_valid",
    "latency/formulation_p50_s",
    "cost/usd",
)


def _heading(key: str, swept: tuple[str, ...]) -> str:
    """A column's heading that leaves room: the last word of a swept key, the metric's own name."""
    if key in swept:
        return key.rsplit(".", 1)[-1]
    short = {"number": "trial", "latency/formulation_p50_s": "p50 s", "cost/usd": "$"}
    short |= {"dpo/reward_accuracy": "accuracy", "dpo/chosen_logp_change": "chosen Δ nats"}
    return short.get(key, key.removeprefix("quality/"))


def show_leaderboard(state: SweepState, output: Format) -> None:
    """The leaderboard of one sweep, or of one stage."""
    from analysis.leaderboard import leaderboard as rank

    board = rank(state)
    champion = (state.champion or {}).get("champion")
    content = board.to_dict()
    rows = [{**row, "_style": "bold green" if row["id"] == champion else None} for row in content["rows"]]
    columns = {key: key for key in board.table.columns if key not in ("objective", "failed")}
    if output is Format.TABLE:
        rows += [{**arm, "id": arm["label"], "_style": "dim"} for arm in content["arms"]]
        kept = (*_BOARD, board.rule.metric, *board.swept)
        columns = {key: _heading(key, board.swept) for key in columns if key in kept}
    caption = board.note or ""
    if fell := [str(row["number"]) for row in content["rows"] if row.get("warning")]:
        said = "the chosen answers are less likely than at the start (chosen Δ below 0), see docs/dpo.md"
        caption = f"{caption} In trial {', '.join(fell)} {said}.".strip()
    show(content, rows, columns, output, f"{state.name}: {board.rule}", caption)


def compare(
    sweep: SweepName = None,
    split: Annotated[str, typer.Option(help="challenge or dev.")] = "challenge",
    output: Output = Format.TABLE,
) -> None:
    """Compare the champion with the base, the base in the schema, the recipe's defaults and the median trial.

    [dim]podium compare
    podium compare commerce-sft --split dev[/]
    """
    from analysis.frame import open_sweep

    _show_comparison(open_sweep(sweep, home.home()), split, output)


def _show_comparison(state: SweepState, split: str, output: Format) -> None:
    from analysis.champion import agreement, choose
    from analysis.comparison import baseline, comparison
    from analysis.plain import records
    from analysis.rule import RETRIEVAL

    rows = records(comparison(state, choose(state), split))
    shown = ("label", "number", "n", "quality/score", "quality/json_valid")
    names = [key for key in rows[0] if "/" in key] if rows else []
    if output is Format.TABLE:  # podium retrieval has the rest, with intervals
        names = [key for key in names if not key.startswith(BY_PIPELINE) or key in RETRIEVAL]
    order = [key for key in dict.fromkeys([*shown, *names]) if rows and key in rows[0]]
    columns = {key: key.removeprefix("quality/") if output is Format.TABLE else key for key in order}
    ranks = agreement(state)
    rho = ranks["spearman"]
    caption = (
        ""
        if rho is None
        else f"validation loss and quality agree in rank: Spearman's ρ {rho:.2f} over {ranks['n']} trials"
    )
    content = {"split": split, "baseline": baseline(state), "arms": rows, "agreement": ranks}
    show(content, rows, columns, output, f"{state.name} on {split}", caption)


def report(
    sweep: SweepName = None,
    to: Annotated[Path | None, typer.Option(help="Where to write it; the run folder's report.html by default.")] = None,
) -> None:
    """Write the sweep's report: one HTML page that needs nothing else.

    [dim]podium report
    podium report commerce-sft --to /tmp/report.html[/]
    """
    from analysis.frame import open_sweep
    from analysis.report import write_report

    state = open_sweep(sweep, home.home())
    print(write_report(state, to or state.folder / "report.html"))


def judged_builtin(state: SweepState) -> str | None:
    """The built-in data that the sweep's dev and challenge rows are of; None for rows of one's own."""
    data = state.facts.get("judged") or state.recipe.get("data") or {}
    return data.get("builtin")  # type: ignore[no-any-return]


def show_outcome(state: SweepState) -> None:
    """What stands at the end of ``submit``: leaderboard, comparison, champion, and where to look next."""
    from analysis.rule import QUALITY, SCORE, effective_rule

    if not any(trial.reports or trial.stage for trial in state.trials.values()):
        return
    show_leaderboard(state, Format.TABLE)
    champion = (state.champion or {}).get("champion")
    if any(evaluation.split == "challenge" for evaluation in state.evaluations()):
        _show_comparison(state, "challenge", Format.TABLE)
    if champion:
        trial = state.trials[champion]
        metric = effective_rule(state)[0].metric
        score = trial.metrics.get(metric if metric.startswith(QUALITY) else SCORE)
        print(
            f"champion: {trial.label} ({champion}), dev score {short(score)}, "
            f"validation loss {short(trial.metrics.get('val/loss'))}"
        )
        for line in improvements(state):
            print(line)
    if state.exports and state.exports[-1]["trial"] == champion:
        print(f"bundle:   {state.exports[-1]['to']} (verified)")
    if (state.folder / "report.html").exists():
        print(f"report:   {state.folder / 'report.html'}")
    query = "waterproof trail shoes for my wife" if judged_builtin(state) in ("commerce", "commerce_pairs") else "…"
    print(f'next:     podium dashboard · podium try "{query}" · podium cost')
    if state.exports and state.exports[-1]["trial"] == champion:
        print(f"serve it: podium serve {state.name}")
