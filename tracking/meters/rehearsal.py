"""What can be known of a sweep's metrics before it starts: they are there, and they can score a right answer."""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeps.errors import InvalidInput, Problem, nearest
from tracking.meters.defects import load_defect
from tracking.meters.gates import WHERE as GATES
from tracking.meters.gates import load_gate
from tracking.meters.metrics import BUILT_IN, Item, load_metric, parse_json, row_of, validator


def find_function(text: str, base_dir: Path, where: str = "evaluate.metrics") -> Problem | None:
    """What is wrong with a ``file.py:function`` that can be seen in its text; nothing is run.

    A file that imports ``*`` may have any function: of it only the grammar is checked.
    """
    file, _, name = text.rpartition(":")
    path = base_dir / Path(file).expanduser()
    if not path.is_file():
        return Problem(where, f"no such file: {file}", f"relative paths are taken from {base_dir}")
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:  # a NUL byte is a ValueError
        place = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        return Problem(where, f"{path} is not Python: {getattr(error, 'msg', error)}", f"{path.name}{place}")
    names = _names(tree)
    if name in names or "*" in names:
        return None
    return Problem(where, f'{path} has no function "{name}"', nearest(name, names) if names else "it has none at all")


def read_schema(name: str, base_dir: Path) -> Problem | None:
    """What is wrong with the file of a JSON schema."""
    where, path = "evaluate.schema", base_dir / Path(name).expanduser()
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        validator(content)
    except FileNotFoundError:
        return Problem(where, f"no such file: {name}", f"relative paths are taken from {base_dir}")
    except OSError as error:
        return Problem(where, f"{path} cannot be read: {error.strerror}")
    except ValueError as error:  # also of the encoding
        return Problem(where, f"{path} is not JSON: {error}")
    except InvalidInput as error:
        return Problem(where, f"{path}: {error.problems[0].rule}")
    return None


def _names(tree: ast.Module) -> list[str]:
    """Whatever the file gives a name to, also within its ``if`` and ``try``."""
    found: list[str] = []
    for node in [inner for outer in tree.body for inner in _statements(outer)]:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.append(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                found += [alias.asname or alias.name for alias in aliases]
            case ast.Assign(targets=targets):
                found += [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.append(name)
    return found


def _statements(node: ast.stmt) -> list[ast.stmt]:
    if isinstance(node, ast.If | ast.Try | ast.With):
        inner = [statement for block in ("body", "orelse", "finalbody") for statement in getattr(node, block, [])]
        inner += [statement for handler in getattr(node, "handlers", []) for statement in handler.body]
        return [found for statement in inner for found in _statements(statement)]
    return [node]


GATED_ROWS = 20  # right answers that gates are tried on


def rehearse(names: Sequence[str], base_dir: Path, schema: dict[str, Any] | None, items: Sequence[Item]) -> None:
    """Let every metric score right answers: the built-in ones all of them, a user's own function the first.

    Raises:
        InvalidInput: A metric cannot be loaded, or does not give numbers, or the data are not of its kind.
    """
    problems: list[Problem] = []
    for name in names:
        try:
            metric = load_metric(name, base_dir, schema)
            for item in items if name in BUILT_IN else items[:1]:
                metric(item, item.reference)
        except InvalidInput as error:
            problems += [
                Problem(problem.where, problem.rule, problem.hint or "as the answer it was given the right one")
                for problem in error.problems
            ]
    if problems:
        raise InvalidInput(problems)


def rehearse_gates(
    names: Sequence[str],
    base_dir: Path,
    schema: dict[str, Any] | None,
    forbidden: Sequence[str],
    items: Sequence[Item],
) -> None:
    """Hold right answers against every gate: one that none of them passes would leave no score above the lowest.

    Raises:
        InvalidInput: A gate cannot be loaded, fails, or lets no right answer pass.
    """
    problems: list[Problem] = []
    for name in names:
        try:
            gate, tried = load_gate(name, base_dir, schema, forbidden), items[:GATED_ROWS]
            passed = [value for item in tried for value in gate(item, item.reference).values() if value == 1]
        except InvalidInput as error:
            problems += error.problems
            continue
        if tried and not passed:
            rule = f"{name} lets none of {len(tried)} right answers pass: every answer would have the lowest score"
            problems.append(Problem(GATES, rule, "mend it, or leave it out"))
    if problems:
        raise InvalidInput(problems)


def rehearse_defects(names: Sequence[str], base_dir: Path, items: Sequence[Item]) -> None:
    """Plant every defect of the user's own in the first right answer.

    Raises:
        InvalidInput: A defect cannot be loaded, fails, or returns something else than a changed answer or None.
    """
    problems: list[Problem] = []
    for name in names:
        try:
            defect = load_defect(name, base_dir)
            for item in items[:1]:
                defect.plant(row_of(item), item.reference)
        except InvalidInput as error:
            problems += error.problems
    if problems:
        raise InvalidInput(problems)
