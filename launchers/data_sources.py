"""What a command about data is given: a file of rows, an object, or a sweep, whose recipe says more about them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchers import home
from sweeps.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from recipes.data.stream import Source
    from recipes.schema import Recipe

_HINT = "name a JSONL or Parquet file, s3://bucket/key, or a sweep's YAML"


@dataclass(frozen=True)
class Given:
    """Rows, and the sweep that uses them if one was named.

    Attributes:
        base_dir: What relative paths of the recipe are taken from.
        schema: Of the sweep's answers, if it has one.
    """

    source: "Source"
    recipe: "Recipe | None"
    base_dir: Path
    schema: dict[str, Any] | None


@contextmanager
def given(data: str, stage: str | None = None) -> Iterator[Given]:
    """The rows that a user names.

    Args:
        stage: Of a sweep in stages, the one whose rows are meant.

    Raises:
        InvalidInput: There are none, or the sweep's recipe is wrong.
        ServiceUnreachable: They are in object storage, which does not answer.
    """
    from launchers.stage_choice import is_sweep
    from recipes import objects
    from recipes.data.split_files import is_split
    from recipes.data.stream import opened
    from recipes.profile import refuse_other_forms

    if is_sweep(data):
        with _of_sweep(Path(data), stage) as found:
            yield found
        return
    path = Path(data).expanduser()
    if not objects.is_url(data):
        if path.is_dir():
            hint = f"name one of its files: {path / 'train.jsonl'}" if is_split(path) else _HINT
            raise InvalidInput(Problem("DATA", f"{path} is a folder", hint))
        if not path.is_file():
            raise InvalidInput(Problem("DATA", f"no such file: {data}", _HINT))
        if path.stat().st_size:
            refuse_other_forms(data, Path(), None)
    with opened(data, Path(), home.cache_folder()) as source:
        yield Given(source, None, Path(), None)


def held_out_sides(data: str) -> "dict[str, list[dict[str, Any]]] | None":
    """The dev and challenge rows of a sweep, or of a folder that was split; None where a file of rows is named.

    All stages of a sweep are judged on those of the first one.

    Raises:
        InvalidInput: They cannot be read.
        ServiceUnreachable: They are in object storage, which does not answer.
    """
    from launchers.build import composed
    from launchers.stage_choice import is_sweep, read_judged
    from recipes import objects
    from recipes.compose import typed
    from recipes.data import split_files, splits

    if is_sweep(data):
        base_dir = Path(data).resolve().parent
        recipe = typed(composed(read_judged(Path(data)), base_dir))
        rows = splits.load(recipe.data, base_dir, home.cache_folder(), recipe.method).rows
    elif data.endswith("/") if objects.is_url(data) else split_files.is_split(Path(data).expanduser()):
        rows = split_files.read(data, Path(), home.cache_folder(), _in_common_form)
    else:
        return None
    return {side: rows[side] for side in ("dev", "challenge")}


def _in_common_form(numbered: Iterable[tuple[int, Any]], source: str) -> list[dict[str, Any]]:
    """Rows of either method."""
    from recipes.data.looks import common_form

    found = []
    for line, row in numbered:
        if isinstance(row, Problem):
            raise InvalidInput(row, source)
        try:
            found.append(common_form(row))
        except ValueError as error:
            raise InvalidInput(Problem(source, str(error), line=line), source) from None
    return found


@contextmanager
def _of_sweep(path: Path, stage: str | None) -> Iterator[Given]:
    from launchers.build import composed
    from launchers.schemas import schema_of
    from launchers.stage_choice import read_one
    from recipes.compose import typed
    from recipes.data.split_files import is_split
    from recipes.data.splits import numbered_rows
    from recipes.data.stream import Source, opened

    loaded, base_dir = read_one(path, stage), path.resolve().parent
    recipe = typed(composed(loaded, base_dir))
    named = loaded.source.block("evaluate").get("schema")
    try:
        schema = schema_of(named if isinstance(named, str) else None, recipe.data.builtin, base_dir)
    except (OSError, ValueError) as error:
        raise loaded.error(loaded.problem(("evaluate", "schema"), f"{named} cannot be read: {error}")) from None
    if recipe.data.path is None:
        numbered, name = numbered_rows(recipe.data, base_dir)
        yield Given(Source(name, None, tuple(row for _, row in numbered)), recipe, base_dir, schema)
        return
    folder = base_dir / Path(recipe.data.path).expanduser()
    if is_split(folder):
        rule = f"data.path {folder} is a split that was written already"
        raise InvalidInput(Problem("DATA", rule, f"name one of its files: {folder / 'train.jsonl'}"))
    with opened(recipe.data.path, base_dir, home.cache_folder()) as source:
        source = replace(source, most_rows=recipe.data.rows)
        yield Given(source, recipe, base_dir, schema)
