"""``podium champion``, ``export``, ``verify`` and ``try``."""

from pathlib import Path
from typing import Annotated

import typer

from launchers import home
from launchers.commands.look import judged_builtin
from launchers.commands.options import Output, SweepName, require_url
from launchers.commands.staged import improvements
from launchers.completion import sweep_names, trial_names
from launchers.output import Format, say, show_csv, show_json, show_table
from sweeps.errors import InvalidInput, NoChampion, Problem


def champion(sweep: SweepName = None, output: Output = Format.TABLE) -> None:
    """Say who wins and why, by the sweep's rule, from what was measured so far: a champion, a tie, or nobody.

    [dim]podium champion
    podium champion commerce-sft -o json[/]
    """
    from analysis.champion import choose
    from analysis.frame import open_sweep
    from analysis.stages import lineage, steps

    state = open_sweep(sweep, home.home())
    choice = choose(state)
    if output is Format.JSON:
        told = {"lineage": lineage(state, state.trials[choice.champion])} if choice.champion else {}
        found = [step.to_dict() for step in steps(state)]
        show_json({**choice.to_dict(), **(told | {"steps": found} if "stage" in state.facts else {})})
    elif output is Format.CSV:
        row = {
            "kind": choice.kind,
            "champion": choice.champion,
            "ties": " ".join(choice.ties),
            "rule": str(choice.rule),
        }
        show_csv([row], list(row))
    elif choice.champion is not None:
        trial = state.trials[choice.champion]
        rows = [
            {"key": key, "value": value}
            for key, value in {"trial": f"{trial.label.removeprefix('trial ')} ({trial.id})", **trial.values}.items()
        ]
        rows += [{"key": key, "value": value} for key, value in trial.metrics.items()]
        title = "champion" if choice.kind == "champion" else f"promoted, one of {len(choice.ties)} not told apart"
        show_table(f"{state.name}: {title}", rows, {"key": "", "value": "value"})
        for sentence in choice.why:
            print(sentence)
        for line in improvements(state):
            print(line)
    if choice.champion is None:
        raise NoChampion("\n".join(choice.why))


def export(
    sweep: SweepName = None,
    to: Annotated[
        str | None, typer.Option(help="Its folder or s3:// URL; a URL with / at its end is completed by the name.")
    ] = None,
    trial: Annotated[
        str | None,
        typer.Option(
            "--trial", "-t", help="Another trial than the champion, by id or number.", autocompletion=trial_names
        ),
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Add the merged weights.")] = False,
    keep: Annotated[int, typer.Option(min=0, help="So many of the best trials beside it go along, as bundles.")] = 0,
) -> None:
    """Export the champion (or another trial) as a bundle, and verify it there.

    A place that holds another bundle is refused. Without --to the bundle goes to champions/ in the home, under the
    sweep's name, with a number where that is taken. Where the champion lies is noted in the sweep's ledger, so that
    `podium serve` and `podium doctor` find it.

    [dim]podium export --to ./champion --merge
    podium export commerce-sft --to s3://models/champions/ --keep 2[/]
    """
    import dataclasses

    from analysis.champion import choose
    from analysis.frame import open_sweep
    from launchers.bundles import make_bundle, note_export
    from launchers.targets import check_target
    from tracking.ledger import LedgerBroken, LedgerLocked
    from tracking.state import meant

    state = open_sweep(sweep, home.home())
    choice = choose(state)
    champion = choice.champion
    if trial is not None:
        found = [one for one in meant(state.trials.values(), trial) if one.adapter]
        if len(found) != 1:
            raise InvalidInput(
                Problem("--trial", f"{len(found)} trials with an adapter match {trial!r}", "give the whole id")
            )
        choice = dataclasses.replace(choice, champion=found[0].id)
    if choice.champion is None:
        raise NoChampion("\n".join(choice.why))
    if to is not None:
        check_target(to, state.name)
    target = to if to is not None else home.bundle_folder(state.name)
    made = make_bundle(state, choice, target, merge=merge, say=say, keep=keep, numbered=to is None)
    if made["trial"] == champion:
        try:
            note_export(state, made)
        except (LedgerLocked, LedgerBroken, OSError) as error:
            say(f"the ledger does not have it, so `podium serve` wants its folder: {error}")
    print(made["to"])


def verify(
    bundle: Annotated[str, typer.Argument(help="The bundle's folder, or its s3:// URL.")],
    base: Annotated[str | None, typer.Option(help="The base model's folder, if it is elsewhere.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible server that must answer as the bundle does.")
    ] = None,
    model: Annotated[str, typer.Option(help="The champion's name at that server.")] = "champion",
    output: Output = Format.TABLE,
) -> None:
    """Check a bundle: hashes, base, the adapter in plain PEFT, the stored items scored again.

    With --endpoint the stored items are asked there too, so that vLLM, SGLang or a NIM cannot change answers unseen.

    A bundle in object storage is downloaded to a temporary folder, and the same checks are made there.

    [dim]podium verify .podium/champions/quickstart
    podium verify s3://models/champions/commerce-sft --base ./nemotron
    podium verify ./champion --endpoint http://127.0.0.1:8000/v1[/]
    """
    from analysis.store import fetched
    from launchers.bundle_worker import Served, verify_bundle
    from recipes.objects import is_url

    if endpoint is not None:
        require_url("--endpoint", endpoint)
    served = Served(endpoint, model) if endpoint is not None else None
    if is_url(bundle):
        with fetched(bundle) as copy:
            checks = verify_bundle(copy, base, bundle, served)
    else:
        checks = verify_bundle(Path(bundle).expanduser().resolve(), base, served=served)
    rows = [{"check": check.name, "ok": check.ok, "detail": check.detail} for check in checks]
    if output is Format.JSON:
        show_json({"bundle": str(bundle), "ok": True, "checks": rows})
    elif output is Format.CSV:
        show_csv(rows, ["check", "ok", "detail"])
    else:
        show_table(f"{bundle}: verified", rows, {"check": "check", "ok": "ok", "detail": "detail"})


def try_query(
    query: Annotated[str, typer.Argument(help="What a shopper would write.")],
    sweep: Annotated[
        str | None, typer.Option(help="A sweep's name; the latest one when none is given.", autocompletion=sweep_names)
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Send the query as it is, without the data's prompt around it.")
    ] = False,
) -> None:
    """Let the base and the champion answer side by side.

    [dim]podium try "waterproof trail shoes for my wife, we have a hiking trip ahead"[/]
    """
    import json

    from rich.columns import Columns
    from rich.console import Console
    from rich.panel import Panel

    from analysis.champion import choose
    from analysis.frame import open_sweep
    from launchers.bundle_worker import recipe_of
    from recipes import bases, generation

    state = open_sweep(sweep, home.home())
    chosen = choose(state).champion
    if chosen is None:
        raise NoChampion("\n".join(choose(state).why))
    recipe = recipe_of(state, chosen)
    prompt = (
        [{"role": "user", "content": query}]
        if raw
        else _prompt(query, judged_builtin(state), state.facts["data"]["dev"]["path"])
    )
    folder = bases.locate(recipe.base, Path(state.facts["base_dir"]))
    adapter = state.trials[chosen].adapter
    assert adapter is not None
    answers = []
    for title, path in (("base", None), (f"champion, {state.trials[chosen].label}", state.folder / adapter)):
        model = generation.load(
            str(folder or recipe.base.path),
            recipe.base,
            path,
            max_new_tokens=recipe.generate.max_new_tokens,
            batch_size=1,
            device=generation.best_device(),
        )
        text = model.answer([prompt])[0]
        try:
            text = json.dumps(json.loads(text), indent=1, ensure_ascii=False)
        except ValueError:
            pass
        answers.append(Panel(text, title=title, title_align="left"))
    Console(highlight=False).print(Columns(answers, equal=True, expand=True))


def _prompt(query: str, builtin: str | None, dev: str) -> list[dict[str, str]]:
    """The query in the form of the data: the demo's conversation, or the system prompt that the data's rows share."""
    if builtin in ("commerce", "commerce_pairs"):
        from recipes.commerce.task import prompt_of

        return prompt_of(query)
    import json

    with open(dev, encoding="utf-8") as file:
        first = json.loads(next(file))["messages"]
    system = [message for message in first if message["role"] == "system"]
    return [*system, {"role": "user", "content": query}]
