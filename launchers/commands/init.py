"""``podium init``."""

import os
import re
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchers import home
from launchers.commands.options import Output
from launchers.output import Format, say, show

if TYPE_CHECKING:
    from launchers.first_sweep import Draft
    from recipes.profile import Profile
    from recipes.schema import Recipe

TINY, LARGE = "tiny_commerce_sft", "nemotron_nano_8b_sft"
RANKS = (8, 16, 32)


def init(
    data: Annotated[str, typer.Argument(help="Your rows: a JSONL file, or s3://bucket/key.", metavar="DATA.jsonl")],
    name: Annotated[str | None, typer.Option(help="The sweep's name; that of the file when none is given.")] = None,
    to: Annotated[Path | None, typer.Option(help="The YAML file to write; NAME.yaml by default.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help=f"{LARGE} where there is a GPU, else {TINY}, when none is given.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Another base model: a folder, or an id on the Hugging Face hub.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Look at your rows and write a first sweep for them. Overwrites nothing and starts nothing.

    [dim]podium init tickets.jsonl
    podium init s3://my-bucket/rows.jsonl --name support --to sweeps/support.yaml
    podium init rows.jsonl --recipe nemotron_nano_8b_sft --base ./my-base[/]
    """
    from launchers import first_sweep
    from launchers.build import build

    refuse_missing(data)
    name = _name(name, data)
    to = (to or Path(f"{name}.yaml")).expanduser()
    _refuse_existing("--to", to)
    draft, seen = _draft(data, name, to, recipe, base)
    schema = to.with_name(draft.schema) if draft.schema else None
    if schema is not None:
        _refuse_existing("--to", schema)
    written: list[Path] = []
    try:
        if schema is not None:
            _write(schema, first_sweep.to_json(seen.answers.schema), written)
        _write(to, first_sweep.to_yaml(draft), written)
        build(to)  # as `podium plan` will read it
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    rows = [{"what": what, "seen": text} for what, text in first_sweep.lines(draft)]
    value = {"sweep": str(to), "schema": str(schema) if schema else None, **asdict(seen)}
    show(value, rows, {"what": "", "seen": "seen"}, output, f"{Path(data).name}: {seen.num_rows:,} rows")
    for note in first_sweep.advice(seen):
        say(f"note: {note}")
    say(f"wrote {' and '.join(str(path) for path in reversed(written))}")
    say(f"next: podium plan {to} · podium submit {to}")


def refuse_missing(data: str) -> None:
    """Say so where a file of rows is not there, or is a folder."""
    from recipes import objects
    from sweeps.errors import InvalidInput, Problem

    path = Path(data).expanduser()
    if objects.is_url(data) or path.is_file():
        return
    if path.is_dir():
        raise InvalidInput(Problem("DATA", f"{path} is a folder", "name the JSONL file in it"))
    raise InvalidInput(Problem("DATA", f"no such file: {data}", "a JSONL file, or s3://bucket/key"))


def _name(name: str | None, data: str) -> str:
    from launchers.first_sweep import name_of
    from sweeps.errors import InvalidInput, Problem

    if name is None:
        return name_of(Path(data).stem)
    if name_of(name) != name:
        rule = f"a sweep's name is a folder's: letters, digits, '-', '_' and '.', at most 64, but got {name!r}"
        raise InvalidInput(Problem("--name", rule, f"for example {name_of(name)}"))
    return name


def _refuse_existing(option: str, path: Path) -> None:
    from sweeps.errors import InvalidInput, Problem

    if path.is_dir():
        raise InvalidInput(Problem(option, f"{path} is a folder", f"name a file: {path / 'sweep.yaml'}"))
    if path.exists() or path.is_symlink():
        raise InvalidInput(Problem(option, f"{path} is there already, and is not overwritten", "name another file"))
    if not path.parent.is_dir():
        raise InvalidInput(Problem(option, f"there is no folder {path.parent}", f"mkdir -p {path.parent}"))


def _write(path: Path, text: str, written: list[Path]) -> None:
    from sweeps.errors import InvalidInput, Problem

    try:
        with path.open("x", encoding="utf-8") as file:
            written.append(path)
            file.write(text)
    except OSError as error:
        raise InvalidInput(
            Problem("--to", f"{path} cannot be written: {error.strerror}", "name another file")
        ) from None


def _draft(data: str, name: str, to: Path, recipe: str | None, base: str | None) -> tuple["Draft", "Profile"]:
    from launchers import first_sweep
    from launchers.pools import load_pools
    from recipes import bases, objects
    from recipes.profile import profile

    folder = to.resolve().parent
    gpus = _gpus()
    set_base, size = _base(base, folder)
    recipe_name = recipe or ((LARGE if size > first_sweep.SMALL else TINY) if size else (LARGE if gpus else TINY))
    path = data if objects.is_url(data) else _relative(Path(data), folder)
    settings = _recipe(recipe_name, path, set_base, folder)
    num_parameters, _ = bases.num_parameters(settings.base, folder)
    is_small = num_parameters <= first_sweep.SMALL
    pools, why = first_sweep.pools_for(list(load_pools(folder / "pools").values()), gpus, is_small)
    seen = profile(settings.data, settings.base, folder, home.cache_folder())
    draft = first_sweep.Draft(
        name=name,
        path=path,
        recipe_name=recipe_name,
        recipe=settings,
        seen=seen,
        schema=f"{to.stem}.schema.json" if seen.answers.kind == "json" else None,
        pools=pools,
        pools_why=why,
        set_base=set_base,
        num_parameters=num_parameters,
        ranks=_ranks(settings, folder),
    )
    return draft, seen


def _recipe(name: str, path: str, set_base: dict[str, Any], folder: Path) -> "Recipe":
    from recipes.compose import compose, typed

    composed = compose(name, base_dir=folder)
    composed["data"] = {**(composed.get("data") or {}), "builtin": None, "path": path, "rows": None, "group": None}
    composed["base"] = {**(composed.get("base") or {}), **{key.partition(".")[2]: set_base[key] for key in set_base}}
    return typed(composed)


def _relative(path: Path, folder: Path) -> str:
    """A path as the YAML in ``folder`` names it: relative where it lies below, else absolute."""
    found = path.expanduser().resolve()
    return os.path.relpath(found, folder) if found.is_relative_to(folder) else str(found)


def _base(base: str | None, folder: Path) -> tuple[dict[str, Any], int | None]:
    """What to set for a base that was named, and its number of parameters where it is known."""
    from recipes import bases
    from recipes.schema import Base
    from sweeps.errors import InvalidInput, Problem

    if base is None:
        return {}, None
    local = Path(base).expanduser()
    if local.is_dir() and base not in bases.BUILTIN:
        base = _relative(local, folder)
    if bases.locate(Base(path=base), folder) is not None:
        size, _ = bases.num_parameters(Base(path=base), folder)
        return {"base.path": base, "base.num_parameters": None}, size
    match = re.search(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", base.lower())
    if match is None:
        rule = f"{base} is not local, and its name does not say how many parameters it has"
        raise InvalidInput(Problem("--base", rule, "download it and name its folder"))
    size = round(float(match[1]) * {"b": 1e9, "m": 1e6}[match[2]])
    return {"base.path": base, "base.num_parameters": size}, size


def _ranks(recipe: "Recipe", folder: Path) -> tuple[int, ...]:
    from recipes import bases

    local = bases.locate(recipe.base, folder)
    narrowest = bases.narrowest(local, recipe.lora.targets) if local is not None else None
    widest = narrowest[1] if narrowest else max(RANKS)
    return tuple(rank for rank in RANKS if rank <= widest) or (recipe.lora.rank,)


def _gpus() -> list[str]:
    """The names of this machine's GPUs, by the driver's own tool; none where it is missing or hangs."""
    from launchers.doctor.machine import by_driver

    try:
        return by_driver()
    except (OSError, subprocess.TimeoutExpired):
        return []
