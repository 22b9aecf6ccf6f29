"""What the shell completes: names of sweeps, trials, pools and recipes.

A shell waits for this at every press of Tab, so it reads folders and the few lines of a ledger that it needs, and
loads nothing heavy. Whatever goes wrong here offers nothing, since a shell has no place for a message.
"""

from collections.abc import Iterator

import typer

from launchers import home
from tracking.folders import run_folders
from tracking.ledger import FILE_NAME

Offer = tuple[str, str]  # what is inserted, and what is told beside it in zsh and fish


def sweep_names(incomplete: str) -> list[Offer]:
    """Sweeps of the home and their stages, what was written last first."""
    try:
        ledgers = [((path / FILE_NAME).stat().st_mtime, name) for name, path in run_folders(home.home())]
    except OSError:
        return []
    names = [name for _, name in sorted(ledgers, reverse=True)]
    begun = [name.partition("/")[0] for name in names]  # a staged sweep has its name before its last stage has begun
    offers = [name for pair in zip(begun, names, strict=True) for name in pair]
    told = {name: "a stage" if "/" in name else "a sweep" for name in offers}
    return [(name, what) for name, what in told.items() if name.startswith(incomplete)]


def trial_names(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Ids of the trials of the sweep that is named so far (of the last written one otherwise)."""
    from launchers.events import events

    names = [name for name, _ in sweep_names("")]
    # An option whose value is still to come ends the parsing: then the arguments before it are left over in ``args``.
    name = ctx.params.get("sweep") or next(iter([*ctx.args, *names]), None)
    if name not in names:
        return []
    try:
        trials = [event for _, event in events(home.run_folder(str(name)), "trial") if event is not None]
        return [(one["trial"], f"trial {one['number']}") for one in trials if one["trial"].startswith(incomplete)]
    except (OSError, LookupError, TypeError):
        return []


_KEYS = {
    "recipe=": "another recipe",
    "pools=": "other pools",
    "name=": "another name",
    "search.algorithm=": "how trials are chosen",
    "search.trials=": "how many trials",
}


def settings(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """``recipe=NAME`` and ``pools=[NAME…]``: changes to a sweep that take a name that exists."""
    before = [str(word) for word in ctx.params.get("overrides") or ()]
    if "=" in incomplete:
        key, _, value = incomplete.partition("=")
        return [(f"{key}={offer}", told) for offer, told in _values(key) if offer.startswith(value)]
    # bash breaks a word at "=" and completes the piece behind it: the words before are "recipe", "=".
    before = [word for word in before if word != "="]
    key = before[-1] if before and "=" not in before[-1] else ""
    if key:
        return [(offer, told) for offer, told in _values(key) if offer.startswith(incomplete)]
    return [(word, told) for word, told in _KEYS.items() if word.startswith(incomplete)]


def _values(key: str) -> Iterator[Offer]:
    if key == "recipe":
        from recipes.compose import recipe_names

        yield from ((name, "a recipe") for name in recipe_names())
    elif key == "pools":
        from launchers.pools import SHIPPED

        yield from ((f"[{path.stem}]", "a pool") for path in sorted(SHIPPED.glob("*.yaml")))
    elif key == "search.algorithm":
        yield from ((name, "a search algorithm") for name in ("grid", "random", "tpe"))
