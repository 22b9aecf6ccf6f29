"""A look at somebody's rows: form, lengths, answers, and what keeps rows together. Loads neither torch nor Ray."""

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recipes import bases, objects
from recipes.data import tabular
from recipes.data.rows import canonical, checked_rows
from recipes.data.splits import SplitRows, numbered_rows, split_rows
from recipes.facts import count_tokens
from recipes.schema import Base, Data
from recipes.shapes import schema_of
from sweeps.errors import InvalidInput, Problem

MAX_LABELS = 50  # more distinct answers than this are no set of labels
ROWS_PER_LABEL = 4  # on average at least, or an answer is hardly a class
LABEL_CHARS = 60
MIN_GROUPS = 20  # fewer, and a split of them is far from its share
MAX_GROUP_SHARE = 0.1  # of all rows in one group; likewise

GROUP_NAMES = (
    *("group", "customer", "client", "user", "account", "author", "patient", "session", "thread", "conversation"),
    *("source", "document", "template", "page", "url", "file", "repository"),
)  # fields called so, or so with "_id", usually say what belongs together
_MAGIC = {
    b"\x1f\x8b": ("a gzip file", "unpack it with gunzip"),
    b"PK\x03\x04": ("a ZIP archive or an Excel file", "unpack it, or save the sheet as rows of JSON"),
}

Kind = Literal["labels", "json", "text"]


@dataclass(frozen=True)
class Answers:
    """What the right answers look like.

    Attributes:
        kind: ``labels`` are few short texts, ``json`` are objects or lists, ``text`` is anything else.
        num_distinct: How many different ones there are.
        commonest: The share of rows that have the commonest answer: what always giving that one would score.
        labels: The labels, the commonest first; empty for the other kinds.
        schema: A JSON schema that allows all of them; None for the other kinds.
        max_tokens: Of the longest, the base's own tokens.
    """

    kind: Kind
    num_distinct: int
    commonest: float
    labels: tuple[str, ...]
    schema: dict[str, Any] | None
    max_tokens: int


@dataclass(frozen=True)
class Profile:
    """What was seen in the rows.

    Attributes:
        form: How the rows are written.
        num_messages: The fewest and the most messages of a row.
        system: The system prompt that all rows share, if they do.
        median_tokens: Of a row; ``max_tokens`` of the longest, which stands in line ``longest_line``.
        is_estimate: Whether tokens were counted by characters, as the base is not local.
        context: The most tokens that the base can look at, where that is known.
        num_repeated: Rows that are there already, answer and all.
        num_contradicting: Rows whose prompt has another answer elsewhere.
        group: The field that seems to say what belongs together, and ``num_groups`` its distinct values.
        num_rows_of: The number of rows of each split.
    """

    source: str
    num_rows: int
    form: Literal["chat", "prompt and completion", "both"]
    num_messages: tuple[int, int]
    system: str | None
    median_tokens: int
    max_tokens: int
    longest_line: int
    is_estimate: bool
    context: int | None
    answers: Answers
    num_repeated: int
    num_contradicting: int
    group: str | None
    num_groups: int
    num_rows_of: dict[str, int]


def profile(data: Data, base: Base, base_dir: Path, cache: Path | None = None) -> Profile:
    """Look at the rows that ``data`` names, as ``base`` would read them.

    Raises:
        InvalidInput: They cannot be read, a row breaks a rule, a split would stay empty, or a row is longer than the
            base's context.
        ServiceUnreachable: They are in object storage, and it does not answer.
    """
    assert data.path is not None
    refuse_other_forms(data.path, base_dir, cache)
    numbered, source = numbered_rows(data, base_dir, cache)
    written = list(numbered)
    rows = checked_rows(written, source)
    folder = bases.locate(base, base_dir)
    tokens = [count_tokens(folder, [message["content"] for message in row["messages"]]) for row in rows]
    longest = max(range(len(rows)), key=tokens.__getitem__)
    context = bases.context(folder) if folder is not None else None
    _refuse_long_rows(tokens, [number for number, _ in written], context, source)
    splits = _split(rows, data, source)
    group, num_groups = _group(rows, data)
    if group is not None:
        splits = split_rows(rows, data.model_copy(update={"group": group}))
    prompts = Counter(_prompt(row) for row in rows)
    whole = Counter(canonical(row["messages"]) for row in rows)
    systems = {row["messages"][0]["content"] if row["messages"][0]["role"] == "system" else None for row in rows}
    lengths = [len(row["messages"]) for row in rows]
    return Profile(
        source=data.path,
        num_rows=len(rows),
        form=_form([row for _, row in written]),
        num_messages=(min(lengths), max(lengths)),
        system=systems.pop() if len(systems) == 1 else None,
        median_tokens=round(statistics.median(tokens)),
        max_tokens=tokens[longest],
        longest_line=written[longest][0],
        is_estimate=folder is None,
        context=context,
        answers=_answers([row["messages"][-1]["content"] for row in rows], folder),
        num_repeated=len(rows) - len(whole),
        num_contradicting=_contradicting(rows, prompts),
        group=group,
        num_groups=num_groups,
        num_rows_of={name: len(members) for name, members in splits.rows.items()},
    )


def refuse_other_forms(path: str, base_dir: Path, cache: Path | None) -> None:
    """Say what a file is that is neither JSONL nor Parquet, where its beginning tells."""
    if objects.is_url(path):
        start = objects.read(path, cache)[:4096]
    else:
        local = base_dir / Path(path).expanduser()
        if not local.is_file():
            return  # the reader says so
        with local.open("rb") as file:
            start = file.read(4096)
    if start.startswith(tabular.MAGIC):
        return
    for magic, (what, hint) in _MAGIC.items():
        if start.startswith(magic):
            raise _other_form(path, what, hint)
    text = start.decode("utf-8-sig", errors="replace").lstrip()
    first = text.splitlines()[0] if text else ""
    if text.startswith("{") and first.strip() != "{":
        return
    if first.strip() == "{":
        raise _other_form(path, "JSON over several lines", f"`jq -c . {Path(path).name}` writes one object a line")
    if first.startswith("["):
        hint = f"`jq -c '.[]' {Path(path).name}` writes its items as lines"
        raise _other_form(path, f"one JSON list, {first[:40]!r} …", hint)
    if any(mark in first for mark in ",;\t"):
        hint = "name two columns prompt and completion; pandas' to_json(…, orient='records', lines=True) writes JSONL"
        raise _other_form(path, f"CSV: its first line is {first[:60]!r}", hint)
    if text and "\n{" not in text and "\ufffd" not in text:
        raise _other_form(path, f"text: its first line is {first[:60]!r}", "docs/recipes.md shows rows")


def _other_form(path: str, what: str, hint: str) -> InvalidInput:
    return InvalidInput(Problem(path, f"one JSON object a line is needed, but this looks like {what}", hint))


def _refuse_long_rows(tokens: Sequence[int], lines: Sequence[int], context: int | None, source: str) -> None:
    long = [(count, line) for count, line in zip(tokens, lines, strict=True) if context and count > context]
    if long:
        count, line = max(long)
        rule = f"{len(long)} of {len(tokens)} rows have more than the base's {context} tokens, this one {count}"
        raise InvalidInput(Problem(source, rule, "shorten them, or name a base that reads more with --base", line=line))


def _split(rows: list[dict[str, Any]], data: Data, source: str) -> SplitRows:
    try:
        return split_rows(rows, data)
    except InvalidInput as error:
        rule = f"{len(rows)} rows are too few: {error.problems[0].rule}"
        raise InvalidInput(Problem(source, rule, "give a hundred rows or more, with different prompts")) from None


def _form(written: Sequence[Any]) -> Literal["chat", "prompt and completion", "both"]:
    chats = sum("messages" in row for row in written)
    if chats == len(written):
        return "chat"
    return "both" if chats else "prompt and completion"


def _prompt(row: dict[str, Any]) -> str:
    return canonical(row["messages"][:-1])


def _contradicting(rows: Sequence[dict[str, Any]], prompts: Counter[str]) -> int:
    answers: dict[str, set[str]] = {}
    for row in rows:
        answers.setdefault(_prompt(row), set()).add(row["messages"][-1]["content"])
    return sum(prompts[prompt] for prompt, given in answers.items() if len(given) > 1)


def _answers(texts: Sequence[str], folder: Path | None) -> Answers:
    counts = Counter(texts)
    schema = _schema(list(counts.elements()))
    kind: Kind = "text"
    labels: tuple[str, ...] = ()
    if schema is not None:
        kind = "json"
    elif _are_labels(counts, len(texts)):
        kind, labels = "labels", tuple(label for label, _ in counts.most_common())
    return Answers(
        kind=kind,
        num_distinct=len(counts),
        commonest=max(counts.values()) / len(texts),
        labels=labels,
        schema=schema,
        max_tokens=max(count_tokens(folder, [text]) for text in counts),
    )


def _schema(texts: Sequence[str]) -> dict[str, Any] | None:
    """A schema of texts that are all JSON objects, or all JSON lists; None of any others."""
    try:
        values = [json.loads(text, parse_constant=_refuse) if text.lstrip()[:1] in "{[" else None for text in texts]
        alike = {type(value) for value in values} in ({dict}, {list})
        return schema_of(values) if alike else None
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _are_labels(counts: Counter[str], num_rows: int) -> bool:
    short = all(len(text) <= LABEL_CHARS and "\n" not in text for text in counts)
    return short and len(counts) <= min(MAX_LABELS, num_rows / ROWS_PER_LABEL)


def _group(rows: Sequence[dict[str, Any]], data: Data) -> tuple[str | None, int]:
    """The field that rows can be split by and that seems to say what belongs together, and its number of values.

    A field with a telling name comes first, then the one whose values recur most.
    """
    found: list[tuple[bool, int, str]] = []
    for field in rows[0]:
        values = [row.get(field) for row in rows]
        named = field.lower().removesuffix("_id") in GROUP_NAMES
        kinds = (str, int) if named else (str,)
        if field == "messages" or not all(isinstance(value, kinds) for value in values):
            continue
        counts = Counter(map(canonical, values))
        recurs = len(counts) < len(rows) and max(counts.values()) <= MAX_GROUP_SHARE * len(rows)
        if recurs and len(counts) >= MIN_GROUPS and _splits_by(field, rows, data):
            found.append((not named, len(counts), field))
    return (min(found)[2], min(found)[1]) if found else (None, 0)


def _splits_by(field: str, rows: Sequence[dict[str, Any]], data: Data) -> bool:
    try:
        split_rows(list(rows), data.model_copy(update={"group": field}))
    except InvalidInput:
        return False
    return True
