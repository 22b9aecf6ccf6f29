"""``podium data import chat``: logs of a production agent as rows."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchers.commands.options import Output
from launchers.output import Format, say, show
from launchers.progress import telling

if TYPE_CHECKING:
    from recipes.data.chat_logs import Seen, Turns
    from recipes.data.privacy import Finder

MAX_PROBLEMS = 20
CHUNK_LINES = 500
ALONE = 4 * CHUNK_LINES  # a log of fewer lines is done before another process has loaded what it needs


def chat(
    source: Annotated[str, typer.Argument(help="The log: a JSONL or Parquet file, or s3://bucket/key.", metavar="LOG")],
    to: Annotated[
        str, typer.Option(help="The file of rows, JSONL or Parquet by its ending; or s3://bucket/key.")
    ] = "rows.jsonl",
    turns: Annotated[str, typer.Option(help="last: one row a conversation. all: one for each answer.")] = "last",
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="A field of a line that its rows keep. Repeatable.")
    ] = None,
    redact: Annotated[
        bool, typer.Option("--redact/--no-redact", help="Replace personal data; needs the extra privacy.")
    ] = True,
    kinds: Annotated[
        str | None,
        typer.Option(
            help="What is looked for, with commas: EMAIL, PHONE, CARD, IBAN, IP, MAC, SSN, CRYPTO, or others."
        ),
    ] = None,
    names: Annotated[
        str | None, typer.Option(help="Find names too, with this spaCy model: an installed package, or a folder.")
    ] = None,
    min_score: Annotated[float, typer.Option(help="How sure Presidio must be.", min=0, max=1)] = 0.35,
    workers: Annotated[int | None, typer.Option(help="Processes that look; as many as there are cores.", min=1)] = None,
    output: Output = Format.TABLE,
) -> None:
    """Turn the log of a production agent into rows, its answers being the right ones; replace personal data.

    A line is a conversation {"messages": […]}, or a request with its response: {"request": {"messages": …}, "response":
    {"choices": …}}. Conversations with tools or pictures, and answers that were cut off, are left out and counted. What
    is found of a person becomes a placeholder, the same throughout a conversation. Look at the rows: patterns find no
    names (--names does, with your spaCy model), and not everything else.

    [dim]podium data import chat agent.jsonl --to rows.jsonl
    podium data import chat s3://logs/agent.jsonl --to rows.parquet --turns all --keep locale
    podium data import chat agent.jsonl --names en_core_web_lg --kinds EMAIL,PHONE,UK_NHS[/]
    """
    from launchers.commands.pairs import refuse_existing
    from recipes.data.chat_logs import OWN, Seen
    from recipes.data.privacy import Finder
    from recipes.data.stream import RowWriter, read_rows
    from sweeps.errors import InvalidInput, Problem

    if turns not in ("last", "all"):
        raise InvalidInput(Problem("--turns", f'must be last or all, but got "{turns}"'))
    for name in set(keep or ()) & set(OWN):
        raise InvalidInput(Problem("--keep", f"rows have a field {name} of their own", "rename the log's, or leave it"))
    refuse_existing(to)
    wanted = [kind.strip() for kind in kinds.split(",") if kind.strip()] if kinds is not None else None
    seen, problems = Seen(), list[Problem]()
    with telling() as tell:
        tell("loading what finds personal data" if redact else "reading the log")
        lines = read_rows(source, where="LOG")  # without a cache: it would keep what is replaced here
        finding = partial(Finder, wanted, names, min_score) if redact else None
        with RowWriter(to) as writer:
            for rows, broken, part in _parts(lines, source, finding, turns, keep or (), workers or _cores()):  # type: ignore[arg-type]
                problems += broken
                seen.add(part)
                for row in rows:
                    writer.write(row)
                if len(problems) >= MAX_PROBLEMS:
                    break
                tell(f"{seen.lines:,} lines, {seen.rows:,} rows, {seen.redacted.total():,} values replaced")
            if problems:
                raise InvalidInput(problems[:MAX_PROBLEMS], source)
            if not seen.rows:
                told = "; ".join(f"{count:,} {what}" for what, count in seen.left_out.most_common()) or "it is empty"
                raise InvalidInput(Problem("LOG", f"{source} gave no row: {told}"))
            for name in keep or ():
                if not seen.kept[name]:
                    rule = f"no line that gave a row has the field {name!r}"
                    raise InvalidInput(Problem("--keep", rule, "a field of the whole line is meant, not of a message"))
    _tell(seen, source, to, redact, output)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


_Part = tuple[list[dict[str, Any]], list[Any], "Seen"]
_Lines = list[tuple[int, Any]]


def _parts(
    lines: Iterable[tuple[int, Any]],
    source: str,
    finding: "Callable[[], Finder] | None",
    turns: "Turns",
    keep: Sequence[str],
    workers: int,
) -> Iterator[_Part]:
    """The log part by part, in its order; a long one by several processes."""
    lines = iter(lines)
    finder = finding() if finding is not None else None  # whatever is wrong with it is told before anything else
    first = list(islice(lines, ALONE))
    yield _part(first, source, finder, turns, keep)
    chunks = iter(lambda: list(islice(lines, CHUNK_LINES)), [])
    if workers == 1 or finding is None:
        for chunk in chunks:
            yield _part(chunk, source, finder, turns, keep)
        return
    # Forked, a worker has the finder already; it holds no thread and no lock of another library's.
    context = multiprocessing.get_context("fork")
    global _finder
    _finder = finder
    with context.Pool(workers) as pool:
        waiting: list[Any] = []
        for chunk in chunks:
            waiting.append(pool.apply_async(_remote, (chunk, source, turns, keep)))
            if len(waiting) > 2 * workers:  # no more of the log is in memory
                yield waiting.pop(0).get()
        for one in waiting:
            yield one.get()


_finder: "Finder | None" = None  # of a worker


def _remote(lines: _Lines, source: str, turns: "Turns", keep: Sequence[str]) -> _Part:
    return _part(lines, source, _finder, turns, keep)


def _part(lines: _Lines, source: str, finder: "Finder | None", turns: "Turns", keep: Sequence[str]) -> _Part:
    from recipes.data.chat_logs import Seen, rows_of
    from sweeps.errors import Problem

    seen = Seen()
    rows: list[dict[str, Any]] = []
    broken: list[Problem] = []
    for one in rows_of(lines, source, seen, finder, turns, keep):
        if isinstance(one, Problem):
            broken.append(one)
        else:
            rows.append(one)
    return rows, broken, seen


def _tell(seen: "Seen", source: str, to: str, redact: bool, output: Format) -> None:
    kinds: dict[str, int] = {}
    fields: dict[str, dict[str, int]] = {}
    for (field, kind), count in sorted(seen.redacted.items()):
        kinds[kind] = kinds.get(kind, 0) + count
        fields.setdefault(field, {})[kind] = count
    value = {
        "source": source,
        "to": to,
        "lines": seen.lines,
        "forms": dict(seen.forms),
        "rows": seen.rows,
        "left_out": dict(seen.left_out.most_common()),
        "redacted": {"values": kinds, "by_field": fields, "rows": seen.touched} if redact else None,
    }
    lines = [
        ("lines", f"{seen.lines:,} ({', '.join(f'{count:,} {form}' for form, count in seen.forms.items())})"),
        ("rows", f"{seen.rows:,}"),
        *((f"left out: {what}", f"{count:,}") for what, count in seen.left_out.most_common()),
    ]
    if redact:
        lines.append(("rows with placeholders", f"{seen.touched:,}"))
        for field, found in fields.items():
            told = ", ".join(f"{kind} {count:,}" for kind, count in sorted(found.items(), key=lambda one: -one[1]))
            lines.append((f"replaced in {field}", told))
    shown = [{"what": what, "seen": text} for what, text in lines]
    show(value, shown, {"what": "", "seen": "seen"}, output, f"{source}: the agent's answers")
    if not redact:
        say("note: personal data were not looked for (--no-redact)")
    say(f"wrote {to}: {seen.rows:,} rows")
    say("a sweep keeps conversations together with set: {data.group: conversation}")
