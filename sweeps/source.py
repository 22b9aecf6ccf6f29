"""Reading a sweep YAML: plain values, the line of every key, and the overrides of the command line on top.

YAML is read node by node with PyYAML, so that lines are known, keys are not lost when they are written twice, and an
alias cannot make a small file expand without end.
"""

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from sweeps.errors import InvalidInput, Problem
from sweeps.grammar import Call, CommaList, GrammarError, format_value, parse_value

MAX_BYTES = 1_000_000
MAX_NODES = 10_000  # after aliases are expanded
MAX_DEPTH = 50
NEEDED = "a sweep needs name, recipe and space"

_BLOCKS_OF_PATHS = ("space", "set")  # the keys in these blocks are dotted paths themselves
STAGE_KEYS = ("recipe", "start", "set", "space", "search", "stop_early", "budget")
"""What each of several stages has of its own, beside its name; the other blocks are for all of them."""
_INSIDE_SPACE = ("when", "value", "values", "otherwise", "distribution", "min", "max", "q")
_OVERRIDE = re.compile(r"(\+{0,2}|~)([A-Za-z_][A-Za-z0-9_./-]*)(?:(=)(.*))?", re.DOTALL)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's numbers."""


# YAML 1.1, as PyYAML reads it, takes 1e-5 for text, 6:30 for 390, 010 for 8 and 2024-05-01 for a date.
_OWN = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OWN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)$|0x[0-9a-fA-F]+$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:[0-9]+(?:_[0-9]+)*\.[0-9]*(?:[eE][-+]?[0-9]+)?|[0-9]+(?:_[0-9]+)*[eE][-+]?[0-9]+"
        r"|\.[0-9]+(?:[eE][-+]?[0-9]+)?)$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)
_SCALARS = tuple(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))


def place(*parts: str | int) -> str:
    """A path as messages write it: ``space.optimizer.lr``, ``pools[1]``."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(frozen=True)
class Source:
    """A sweep as it is written, before any rule of the schema is applied.

    Attributes:
        name: The file's name, for messages.
        text: The file's contents.
        values: The contents as plain values, overrides applied.
        lines: The 1-based line of every key and list item, by its path (see :func:`place`).
        overridden: The command-line text of every path that an override has set.
        problems: What is wrong already, but does not keep the rest from being checked.
        within: Where the values of :data:`STAGE_KEYS` stand, if they are one stage's: ``("stages", 1)``.
    """

    name: str
    text: str
    values: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)
    overridden: dict[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    within: tuple[str | int, ...] = ()

    def problem(self, parts: Sequence[str | int], rule: str, hint: str = "") -> Problem:
        """A problem at a path, with the line of the nearest thing that is written, or the override that set it."""
        if self.within and parts and parts[0] in STAGE_KEYS:
            parts = (*self.within, *parts)
        known = next((place(*parts[:n]) for n in range(len(parts), 0, -1) if self._knows(place(*parts[:n]))), "")
        text = self.overridden.get(known)
        if place(*parts) not in self.lines and text is None:  # a block that exists only because an override is in it
            inside = (path for path in self.overridden if path.startswith(f"{place(*parts)}."))
            text = self.overridden.get(next(inside, ""))
        if text is not None:
            return Problem(text, rule, hint)
        return Problem(place(*parts), rule, hint, self.lines.get(known))

    def _knows(self, path: str) -> bool:
        return path in self.lines or path in self.overridden

    def block(self, name: str) -> dict[str, Any]:
        """A top-level block, empty where it is missing or is not a block."""
        value = self.values.get(name)
        return value if isinstance(value, dict) else {}


def read_source(path: Path, overrides: Sequence[str] = (), needed: str = NEEDED) -> Source:
    """Read a sweep YAML and put overrides on top.

    Args:
        needed: What such a file must have, for whoever gives another one.

    Raises:
        InvalidInput: The file cannot be read, or is no YAML mapping. Keys written twice and wrong overrides are in
            ``Source.problems`` instead.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _unreadable(name, "there is no such file", hint="give the path of a YAML file") from None
    except IsADirectoryError:
        raise _unreadable(name, "is a folder", hint="give the path of a YAML file") from None
    except OSError as error:
        raise _unreadable(name, f"cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        rule = f"must be at most {MAX_BYTES:,} bytes, but has {path.stat().st_size:,}"
        raise _unreadable(name, rule, hint="rows and schemas stand in files of their own")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        rule = f"must be UTF-8, but byte {error.start} is 0x{data[error.start]:02x}"
        raise _unreadable(name, rule, line, "convert it with `iconv -t UTF-8`") from None
    source = parse_source(text, name, needed)
    values, overridden, problems = apply_overrides(source.values, overrides)
    return replace(source, values=values, overridden=overridden, problems=(*source.problems, *problems))


def parse_source(text: str, name: str = "sweep.yaml", needed: str = NEEDED) -> Source:
    """Read the text of a sweep YAML; see :func:`read_source`.

    Raises:
        InvalidInput: It is no YAML mapping.
    """
    reader = _Reader(name)
    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is None:
            raise _unreadable(name, "is empty", hint=needed)
        if not isinstance(root, yaml.MappingNode):
            raise _unreadable(name, "must be a mapping of keys to values", root.start_mark.line + 1, needed)
        values = reader.build(root, (), 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        hint = "within { } a text with commas or brackets needs quotes" if "flow mapping" in what else ""
        raise _unreadable(name, f"is not valid YAML: {what}", mark.line + 1 if mark else None, hint) from None
    except yaml.YAMLError as error:
        raise _unreadable(name, f"is not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise _unreadable(name, f"must not be nested deeper than {MAX_DEPTH} levels") from None
    return Source(name, text, values, reader.lines, {}, tuple(reader.problems))


def _unreadable(name: str, rule: str, line: int | None = None, hint: str = "") -> InvalidInput:
    return InvalidInput(Problem(name, rule, hint, line), source=name)


class _Reader:
    """Turns YAML nodes into plain values and notes the line of each."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self._num_nodes = 0

    def build(self, node: yaml.Node, parts: tuple[str | int, ...], depth: int) -> Any:
        line = node.start_mark.line + 1
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES:
            rule = f"must have at most {MAX_NODES:,} values, aliases expanded"
            raise _unreadable(self.name, rule, line, "an alias of aliases grows with each of them: write less of them")
        if depth > MAX_DEPTH:
            raise _unreadable(self.name, f"must not be nested deeper than {MAX_DEPTH} levels", line)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, parts, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            items = []
            for index, item in enumerate(_rejoined_items(node)):
                self.lines.setdefault(place(*parts, index), item.start_mark.line + 1)
                items.append(self.build(item, (*parts, index), depth + 1))
            return items
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node, parts)
        self.problems.append(Problem(place(*parts), f"the tag {node.tag} is not allowed", "write plain values", line))
        return None

    def _mapping(self, node: yaml.MappingNode, parts: tuple[str | int, ...], depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in _rejoined_pairs(node):
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(place(*parts) or self.name, "a key must be text", "", line))
                continue
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            path = place(*parts, key_node.value)
            if key_node.value in values:
                first = self.lines.get(path)
                rule = f'key "{key_node.value}" is written twice, first in line {first}'
                self.problems.append(Problem(path, rule, "keep one of them", line))
                continue
            # An alias is expanded where it stands, but the line is that of the key that names it.
            self.lines[path] = line
            values[key_node.value] = self.build(value_node, (*parts, key_node.value), depth + 1)
        for other in merged:
            if not isinstance(other, yaml.MappingNode):
                line = other.start_mark.line + 1
                self.problems.append(Problem(place(*parts, "<<"), "only mappings can be merged", "", line))
                continue
            own_lines = dict(self.lines)
            extra = self.build(other, parts, depth + 1)
            self.lines = {**self.lines, **own_lines}  # what is written here keeps its own line
            values = {**extra, **values}
        return values

    def _scalar(self, node: yaml.ScalarNode, parts: tuple[str | int, ...]) -> Any:
        line = node.start_mark.line + 1
        try:
            match node.tag.rpartition(":")[2]:
                case "null":
                    return None
                case "bool":
                    return _Loader.bool_values[node.value.lower()]
                case "int":
                    return int(node.value.replace("_", ""), 0)
                case "float":
                    return float(node.value.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
        except (KeyError, ValueError):
            kind = node.tag.rpartition(":")[2]
            self.problems.append(Problem(place(*parts), f"cannot read {node.value[:40]} as {kind}", "", line))
            return None
        return node.value


def _rejoined_pairs(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """The pairs of a mapping, with calls like ``{value: choice(0.0, 0.01)}`` made whole.

    In a flow mapping YAML ends a plain scalar at a comma, also inside parentheses, and takes what follows for a key.
    """
    pairs: list[tuple[yaml.Node, yaml.Node]] = []
    for key, value in node.value:
        before = pairs[-1][1] if pairs else None
        if node.flow_style and _is_open_call(before) and _is_plain(key) and value.value == "":
            assert before is not None
            pairs[-1] = (pairs[-1][0], _joined(before, key))
        else:
            pairs.append((key, value))
    return pairs


def _rejoined_items(node: yaml.SequenceNode) -> list[yaml.Node]:
    """The items of a sequence, calls made whole as in :func:`_rejoined_pairs`."""
    items: list[yaml.Node] = []
    for item in node.value:
        if node.flow_style and items and _is_open_call(items[-1]) and _is_plain(item):
            items[-1] = _joined(items[-1], item)
        else:
            items.append(item)
    return items


def _is_plain(node: yaml.Node | None) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None


def _is_open_call(node: yaml.Node | None) -> bool:
    return node is not None and _is_plain(node) and node.value.count("(") > node.value.count(")")


def _joined(before: yaml.Node, after: yaml.Node) -> yaml.Node:
    text = f"{before.value}, {after.value}"
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, before.start_mark, after.end_mark)


def apply_overrides(
    values: Mapping[str, Any], overrides: Iterable[str]
) -> tuple[dict[str, Any], dict[str, str], list[Problem]]:
    """Put ``key=value`` texts of the command line on top of a sweep's values.

    ``key=value`` and ``+key=value`` set a key, ``~key`` removes it. Values are in Hydra's grammar. In ``space.…`` and
    ``set.…`` the rest of the key is the path of a recipe's key; under ``space`` the value is kept as it is written.
    ``stages.NAME.…`` goes on as in a sweep of its own.

    Returns:
        The new values, the command-line text of each path that was set, and what was wrong.
    """
    result: dict[str, Any] = copy.deepcopy(dict(values))
    texts: dict[str, str] = {}
    problems = []
    for text in overrides:
        try:
            parts = _apply(result, text)
        except GrammarError as error:
            problems.append(Problem(text, error.rule, error.hint))
        else:
            texts[place(*parts)] = text
    return result, texts, problems


def _apply(values: dict[str, Any], text: str) -> tuple[str | int, ...]:
    match = _OVERRIDE.fullmatch(text)
    if match is None or (match[3] is None) != (match[1] == "~"):
        raise GrammarError("an override must be key=value, or ~key to remove a key", "for example search.trials=40")
    _, key, _, written = match.groups()
    outer: tuple[str | int, ...] = ()
    block = values
    if key.startswith("stages."):
        _, name, key = (*key.split(".", 2), "")[:3]
        outer = ("stages", _stage(values, name))
        block = values["stages"][outer[1]]
    own = _override_path(block, key)
    parts = (*outer, *own)
    for depth, part in enumerate(own[:-1], start=len(outer) + 1):
        inner = block.setdefault(part, {}) if match[1] != "~" else block.get(part)
        if inner is None and match[1] != "~":
            inner = block[part] = {}
        if match[1] == "~" and inner is None:
            raise GrammarError(f"there is no {place(*parts)} to remove")
        if not isinstance(inner, dict):
            raise GrammarError(f"{place(*parts[:depth])} is not a block of keys")
        block = inner
    if match[1] == "~":
        if own[-1] not in block:
            raise GrammarError(f"there is no {place(*parts)} to remove")
        del block[own[-1]]
    else:
        block[own[-1]] = _override_value(own, written)
    return parts


def _stage(values: Mapping[str, Any], name: str) -> int:
    """The place of the stage that an override names."""
    stages = values.get("stages")
    names = [stage.get("name") if isinstance(stage, dict) else None for stage in stages or ()]
    if not isinstance(stages, list) or name not in names:
        there = ", ".join(str(one) for one in names if one) if isinstance(stages, list) else ""
        raise GrammarError(f'there is no stage "{name}"', f"there are {there}" if there else "the sweep has no stages")
    return names.index(name)


def _override_path(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    parts = tuple(key.split("."))
    if not all(parts):
        raise GrammarError(f'a key must not have empty parts, but got "{key}"')
    if parts[:2] in (("champion", "subject_to"), ("search", "metrics")) and len(parts) > 2:
        return (*parts[:2], ".".join(parts[2:]))
    if parts[0] not in _BLOCKS_OF_PATHS or len(parts) < 3:
        return parts
    path = ".".join(parts[1:])
    outer = ".".join(parts[1:-1])
    block = values.get("space")
    nested = parts[0] == "space" and parts[-1] in _INSIDE_SPACE and isinstance(block, dict) and path not in block
    if nested and isinstance(block, dict) and isinstance(block.get(outer), dict):
        return ("space", outer, parts[-1])
    return (parts[0], path)


def _override_value(parts: tuple[str, ...], written: str) -> Any:
    value = parse_value(written)
    in_space = parts[0] == "space" and len(parts) > 1
    if in_space and isinstance(value, str | Call | CommaList):
        return written  # read where the YAML's own texts are read
    if isinstance(value, CommaList):
        raise GrammarError(f"{place(*parts)} takes one value", f"write a list in brackets: {place(*parts)}=[{written}]")
    return _as_text(value, allowed=parts[0] == "space")


def _as_text(value: Any, allowed: bool) -> Any:
    """The value with every call in it turned back into text, as the YAML would have it."""
    if isinstance(value, Call):
        if not allowed:
            raise GrammarError(f"only keys under space take a distribution, but got {value}")
        return format_value(value)
    if isinstance(value, list):
        return [_as_text(item, allowed) for item in value]
    if isinstance(value, dict):
        return {key: _as_text(item, allowed) for key, item in value.items()}
    return value
