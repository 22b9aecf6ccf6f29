"""From a recipe's name to a typed recipe: Hydra composes its groups and applies overrides."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from recipes.schema import Recipe
from sweeps.errors import InvalidInput, Problem, nearest
from sweeps.source import read_source

CONFIGS = Path(__file__).parent / "configs"


def recipe_names() -> list[str]:
    """The recipes that ship with Podium."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def compose(name: str, groups: Mapping[str, str] | None = None, base_dir: Path = Path()) -> dict[str, Any]:
    """The settings of a recipe, composed but not yet checked.

    Args:
        name: One that ships, or a path to a YAML file of one's own (ending in ``.yaml``), which may name the shipped
            groups in its ``defaults``.
        groups: Hydra groups to take instead of the recipe's own, e.g. ``{"optimizer": "adam"}``.
        base_dir: What a relative path is taken from.

    Raises:
        InvalidInput: There is no such recipe or group, or it holds a ``_target_``.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml.error import MarkedYAMLError

    folder, config = CONFIGS, name
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        path = path if path.is_absolute() else base_dir / path
        if not path.is_file():
            hint = f"a relative path is taken from {base_dir}; those that ship: {', '.join(recipe_names())}"
            raise InvalidInput(Problem("recipe", f"no such file: {name}", hint))
        # Hydra would expand every alias of a file that is made to have no end, and read one of any size.
        if problems := read_source(path).problems:
            raise InvalidInput(problems, str(path))
        folder, config = path.parent.resolve(), path.stem
    elif name not in recipe_names():
        raise InvalidInput(Problem("recipe", f"unknown recipe {name!r}", nearest(name, recipe_names())))
    overrides = [f"{group}={option}" for group, option in (groups or {}).items()]
    if folder != CONFIGS:
        overrides.append(f"hydra.searchpath=[file://{CONFIGS}]")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=os.fspath(folder), version_base="1.3"):
            composed = hydra_compose(config_name=config, overrides=overrides)
        settings = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise InvalidInput(Problem("recipe", f"{name} cannot be composed: {error.problem}", line=line)) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise InvalidInput(Problem("recipe", f"{name} cannot be composed: {str(error).splitlines()[0]}")) from None
    assert isinstance(settings, dict)
    _refuse_targets(settings, name)
    return {str(key): value for key, value in settings.items()}


def _refuse_targets(value: Any, where: str) -> None:
    # A recipe is data. What Hydra would instantiate could run anything, so it is never let in.
    if isinstance(value, dict):
        for key, inner in value.items():
            if str(key).startswith("_") and str(key).endswith("_"):
                raise InvalidInput(Problem(f"{where}.{key}", f"{key!r} is not allowed in a recipe", "remove it"))
            _refuse_targets(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for inner in value:
            _refuse_targets(inner, where)


def typed(settings: Mapping[str, Any]) -> Recipe:
    """The recipe with every key checked.

    Raises:
        InvalidInput: Naming every key that is unknown, missing or out of its limits.
    """
    problems = [Problem(where, "must be given") for where in _not_given(settings)]
    if problems:
        raise InvalidInput(problems)
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        for entry in error.errors(include_url=False):
            where = ".".join(str(part) for part in entry["loc"]) or "recipe"
            message = entry["msg"].removeprefix("Value error, ")
            if entry["type"] == "extra_forbidden":
                *block, key = map(str, entry["loc"])
                problems.append(Problem(where, "unknown key", nearest(key, _names(block))))
            elif entry["type"] in ("missing", "value_error"):
                problems.append(Problem(where, message))
            else:
                problems.append(Problem(where, f"{message}, got {entry['input']!r}"))
        raise InvalidInput(problems) from None


def _not_given(value: Any, prefix: str = "") -> list[str]:
    """The paths that stand at ``???``, which is how a shipped group asks for a value."""
    if isinstance(value, Mapping):
        return [path for key, inner in value.items() for path in _not_given(inner, f"{prefix}.{key}".lstrip("."))]
    return [prefix] if value == "???" else []


def _names(block: list[str]) -> list[str]:
    """The keys of a block of the recipe; of the recipe itself for an empty path."""
    model: Any = Recipe
    for part in block:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
