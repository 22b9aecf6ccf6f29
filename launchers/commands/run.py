"""``podium submit``, ``resume``, ``retry`` and ``extend``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launchers.commands.options import Output, Overrides, SweepFile, SweepName
from launchers.output import Format, say, show_json

if TYPE_CHECKING:
    from launchers.build import Built
    from launchers.staging import Stages

Detach = Annotated[bool, typer.Option("--detach", "-d", help="Run in the background, and return when it has started.")]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Also when there are more trials than anybody means by accident.")
]


def submit(
    sweep: SweepFile,
    overrides: Overrides = None,
    detach: Detach = False,
    yes: Yes = False,
    base_dir: Annotated[
        Path | None, typer.Option(help="What relative paths in it are taken from; its own folder by default.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Run a sweep to a champion that is exported and verified.

    A sweep of this name that is there and unchanged goes on where it stands; one that runs is followed. A changed YAML
    is a new version: trials that are points of it are not run again.

    A YAML with stages is run stage after stage; what is finished and unchanged is passed over.

    Ctrl-C sets it down in order: trials wait at their last checkpoint for `podium resume`.

    [dim]podium submit sweeps/quickstart.yaml
    podium submit sweeps/quickstart_sft_dpo.yaml stages.dpo.search.trials=12
    podium submit sweeps/commerce_sft.yaml search.trials=40 'pools=\\[h100]' --detach[/]
    """
    from launchers.build import build
    from launchers.staging import build_stages
    from launchers.walk import forget_stages

    base_dir = base_dir.resolve() if base_dir else None
    if stages := build_stages(sweep, overrides or [], yes=yes, base_dir=base_dir):
        _walk(stages, _submitting(sweep, stages), detach=detach, output=output)
        return
    built = build(sweep, overrides or [], yes=yes, base_dir=base_dir)
    forget_stages(built.sweep.spec.name)
    _run(built, _submitting(sweep, built), detach=detach, output=output)


def resume(sweep: SweepName = None, detach: Detach = False, output: Output = Format.TABLE) -> None:
    """Go on with a sweep that was paused, interrupted or killed, from its trials' last checkpoints.

    [dim]podium resume
    podium resume commerce-sft --detach[/]
    """
    from launchers.submit import reopen
    from launchers.walk import reopen_stages

    if stages := reopen_stages(_whole(sweep)):
        _walk(stages, ["resume", stages.name], detach=detach, output=output)
        return
    built = reopen(sweep)
    _run(built, ["resume", built.sweep.spec.name], detach=detach, output=output)


def retry(sweep: SweepName = None, detach: Detach = False, output: Output = Format.TABLE) -> None:
    """Run the failed trials of a sweep again, each from its last checkpoint, and decide anew.

    [dim]podium retry commerce-sft[/]
    """
    from analysis.frame import open_sweep
    from analysis.stages import stages_named
    from launchers import home
    from launchers.submit import reopen
    from launchers.walk import reopen_stages
    from tracking.ledger import State

    whole = _whole(sweep)
    if stages := reopen_stages(whole):
        begun = [stage.state for stage in stages_named(whole, home.home()) if stage.state]
        if not any(trial.state is State.FAILED for state in begun for trial in state.trials.values()):
            say(f"no trial of {whole} has failed")
            return
        _walk(stages, ["retry", whole], detach=detach, output=output, again=True)
        return
    state = open_sweep(sweep, home.home())
    if not any(trial.state is State.FAILED for trial in state.trials.values()):
        say(f"no trial of {state.name} has failed")
        return
    _run(reopen(state.name), ["retry", state.name], detach=detach, output=output, again=True)


def extend(
    trials: Annotated[int, typer.Option("--trials", "-n", help="How many more.", min=1)],
    sweep: SweepName = None,
    stage: Annotated[
        str | None, typer.Option(help="Of a sweep in stages, the one that gets them; the last by default.")
    ] = None,
    detach: Detach = False,
    output: Output = Format.TABLE,
) -> None:
    """Give a sweep more trials: a new version of it, in which everything that was run counts.

    [dim]podium extend commerce-sft --trials 5
    podium extend quickstart-sft-dpo --trials 4 --stage sft[/]
    """
    from launchers import home
    from launchers.stage_choice import refuse_stage
    from launchers.submit import extended
    from launchers.walk import extended_stages

    whole = _whole(sweep)
    named = stage or (sweep.partition("/")[2] if sweep else None)
    if stages := extended_stages(whole, named or None, trials):
        kept = stages.folder / "stages" / "sweep.yaml"
        _walk(stages, _submitting(kept, stages), detach=detach, output=output)
        return
    refuse_stage(whole, stage, f"`podium extend {whole} --trials {trials}`")
    built = extended(sweep, trials)

    # In the background as the sweep that it is now: asking for five more twice would be ten.
    spec = home.run_folder(built.sweep.spec.name) / "spec.yaml"
    _run(built, _submitting(spec, built), detach=detach, output=output)


def _whole(sweep: str | None) -> str:
    """The name of the whole sweep, also where one of its stages is named; of the latest where none is."""
    from analysis.frame import list_sweeps, run_folder
    from launchers import home
    from sweeps.stages import whole_name

    if sweep is None and (names := list_sweeps(home.home())):
        return names[0]
    run_folder(sweep, home.home())  # says which sweeps there are
    return whole_name(str(sweep))


def _submitting(path: Path, built: "Built | Stages") -> list[str]:
    """The command that submits this sweep from anywhere. What there was to ask, was asked."""
    return ["submit", str(path.resolve()), *built.overrides, "--base-dir", str(built.base_dir), "--yes"]


def _run(built: "Built", command: list[str], *, detach: bool, output: Format, again: bool = False) -> None:
    from launchers.commands import look

    if detach:
        from launchers.detach import detach as start

        raise typer.Exit(start(built, command, retry=again))
    from launchers.submit import run

    state, code = run(built, retry=again)
    if output is Format.TABLE:
        look.show_outcome(state)
    else:
        show_json(look.summary_of(state)) if output is Format.JSON else look.leaderboard(state.name, output)
    raise typer.Exit(code)


def _walk(stages: "Stages", command: list[str], *, detach: bool, output: Format, again: bool = False) -> None:
    """As :func:`_run`, of a sweep in stages."""
    from launchers.commands import look
    from launchers.commands.staged import whole_summary
    from launchers.walk import is_walking, next_stage, refuse_another, walk

    if detach:
        from launchers.detach import detach as start

        if is_walking(stages.folder):
            refuse_another(stages)
        raise typer.Exit(start(next_stage(stages, retry=again), command, retry=again, whole=stages.name))
    state, code = walk(stages, retry=again)
    if output is Format.TABLE:
        look.show_outcome(state)
    else:
        show_json(whole_summary(state)) if output is Format.JSON else look.leaderboard(stages.name, output)
    raise typer.Exit(code)
