"""``podium data synthesize``: rows that a teacher writes from a catalogue, or that the demo's generator does."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchers import home
from launchers.commands.options import Output, require_url
from launchers.commands.pairs import refuse_existing
from launchers.output import Format, money, say, show
from launchers.progress import telling

if TYPE_CHECKING:
    from launchers.synthesis import Written
    from tracking.meters.metrics import Metric

AT_LIMIT = 4  # the exit code: a limit of the budget was reached


def synthesize(
    catalogue: Annotated[
        str | None,
        typer.Argument(
            help="A table of products: CSV, TSV, JSONL or Parquet, or its s3:// URL.", metavar="[CATALOGUE]"
        ),
    ] = None,
    to: Annotated[
        str, typer.Option(help="The file of rows, JSONL or Parquet by its ending; or s3://bucket/key.")
    ] = "synthetic.jsonl",
    rows: Annotated[int, typer.Option("--rows", "-n", help="How many rows.", min=1)] = 1000,
    endpoint: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible endpoint; the demo's own generator when none is given.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The teacher's name there; its only model when none is given.")
    ] = None,
    api_key_env: Annotated[str | None, typer.Option(help="The environment variable that holds the key.")] = None,
    template: Annotated[
        Path | None, typer.Option(help="What the teacher is asked: a text file with {products} in it.")
    ] = None,
    system: Annotated[Path | None, typer.Option(help="A text file: the system prompt of every row.")] = None,
    schema: Annotated[Path | None, typer.Option(help="A JSON schema that every response must keep to.")] = None,
    products: Annotated[int, typer.Option(help="Products in each request.", min=1)] = 3,
    columns: Annotated[
        str | None, typer.Option(help="Columns that the teacher sees, with commas; all when none are given.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="The column of products' ids; id where there is one.")
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option("--gate", help="A gate, as in evaluate.gates: no_gift_card, or file.py:function. Repeatable."),
    ] = None,
    forbidden: Annotated[
        list[str] | None, typer.Option("--forbidden", help="A pattern of the gate safety. Repeatable.")
    ] = None,
    max_usd: Annotated[float | None, typer.Option(help="Stop before all replies together cost more.", min=0)] = None,
    price_in: Annotated[float | None, typer.Option(help="US$ per million tokens of a request.", min=0)] = None,
    price_out: Annotated[float | None, typer.Option(help="US$ per million tokens of a reply.", min=0)] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a reply at most.", min=16)] = 1024,
    temperature: Annotated[float, typer.Option(help="Of the teacher.", min=0, max=2)] = 0.7,
    concurrency: Annotated[int, typer.Option(help="Requests under way at a time.", min=1, max=256)] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds for one request.", min=0.1)] = 120.0,
    tries: Annotated[int | None, typer.Option(help="Requests at most; twice the rows when not given.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of the products that are drawn.", min=0)] = 0,
    output: Output = Format.TABLE,
) -> None:
    """Have a teacher write prompts and responses from a catalogue's products, filtered by gates, within a budget.

    Every row says which teacher wrote it, from which products, by which request, and what it cost. Replies are kept:
    interrupted, or with more --rows, the same command pays for nothing twice. Exit code 4 means that --max-usd was
    reached; the rows so far are written. Without --endpoint the demo's generator writes rows, and nothing is asked.

    [dim]podium data synthesize -n 500 --to rows.jsonl
    podium data synthesize products.csv --endpoint http://127.0.0.1:8000/v1 --to rows.jsonl -n 2000
    podium data synthesize s3://shop/products.parquet --endpoint https://api.example.com/v1 --model large
        --api-key-env KEY --price-in 0.15 --price-out 0.6 --max-usd 5 --schema answer.schema.json --gate no_gift_card[/]
    """
    from sweeps.errors import InvalidInput, Problem

    refuse_existing(to)
    if endpoint is None:
        if catalogue is not None:
            rule = "without a teacher, rows are made by the demo's generator alone, which has its own catalogue"
            raise InvalidInput(Problem("CATALOGUE", rule, "name the teacher with --endpoint, or leave it out"))
        _demo(rows, seed, to, output)
        return
    if catalogue is None:
        raise InvalidInput(
            Problem("CATALOGUE", "a teacher writes about products, and none are given", "a CSV, for example")
        )
    require_url("--endpoint", endpoint)
    prices = _prices(price_in, price_out, max_usd)

    from launchers.synthesis import Order, Synthesis, read_articles
    from recipes.data.stream import RowWriter
    from tracking.meters.endpoint import headers_of, sole_model
    from tracking.meters.rehearsal import read_schema
    from tracking.meters.teacher import DEFAULT_TEMPLATE, check_template, pair_schema, teacher

    asked = _text(template, "--template") if template is not None else DEFAULT_TEMPLATE
    check_template(asked, "--template")
    response: dict[str, Any] | None = None
    if schema is not None:
        if (problem := read_schema(str(schema), Path())) is not None:
            raise InvalidInput(Problem("--schema", problem.rule, problem.hint))
        response = json.loads(_text(schema, "--schema"))
        if not isinstance(response, dict):
            raise InvalidInput(Problem("--schema", f"{schema} holds {json.dumps(response)}, not an object"))
    gates = _gates(gate or [], response, forbidden or [])
    form = pair_schema(response)
    with telling() as tell:
        tell("reading the catalogue")
        with _local(catalogue) as path:
            shown = [name.strip() for name in (columns or "").split(",") if name.strip()]
            articles = read_articles(path, "CATALOGUE", id_column, shown)
        cache = home.cache_folder() / "teacher" / "replies.jsonl"
        name = model or sole_model(endpoint, headers_of(api_key_env, "--api-key-env"))
        asking = {"api_key_env": api_key_env, "concurrency": concurrency, "timeout_s": timeout, "cache": cache}
        served = teacher(name, endpoint, max_tokens, temperature, form, **asking)
        order = Order(
            rows, tries or 2 * rows, products, asked, _text(system, "--system") if system else None, seed, temperature
        )
        making = Synthesis(served, articles, order, gates, prices, max_usd, form)
        with RowWriter(to) as writer:
            for row in making.rows():
                writer.write(row)
                tell(f"{writer.num_rows:,} of {rows:,} rows{_dollars(making.written)}")
            if not writer.num_rows:
                raise _nothing(making.written)
    _tell(making.written, rows, to, name, output)
    if making.written.is_at_limit:
        raise typer.Exit(AT_LIMIT)


def _nothing(written: "Written") -> Exception:
    from sweeps.errors import InvalidInput, Problem

    why = "; ".join(f"{count:,} {what}" for what, count in written.filtered.most_common()) or written.ended
    where = "--max-usd" if written.is_at_limit and not written.requests else "--gate"
    return InvalidInput(Problem(where, f"no row came of {written.requests:,} requests: {why}"))


def _prices(price_in: float | None, price_out: float | None, max_usd: float | None) -> Any:
    from sweeps.errors import InvalidInput, Problem
    from tracking.meters.teacher import TokenPrices

    if (price_in is None) != (price_out is None):
        missing = "--price-in" if price_in is None else "--price-out"
        raise InvalidInput(Problem(missing, "both prices are needed, and only one is given"))
    if price_in is None or price_out is None:
        if max_usd is not None:
            rule = "a limit in dollars needs the teacher's prices"
            raise InvalidInput(Problem("--max-usd", rule, "give --price-in and --price-out, US$ per million tokens"))
        return None
    if max_usd is not None and price_in == price_out == 0:
        raise InvalidInput(Problem("--max-usd", "at a price of 0 no limit is ever reached", "leave it out"))
    return TokenPrices(price_in, price_out)


def _gates(names: list[str], schema: dict[str, Any] | None, forbidden: list[str]) -> "list[tuple[str, Metric]]":
    """The gates by name; ``json_schema`` is one wherever there is a schema."""
    from sweeps.errors import InvalidInput, Problem
    from sweeps.evaluating import short_name
    from tracking.meters.gates import load_gate

    names = list(dict.fromkeys([*names, *(["json_schema"] if schema else []), *(["safety"] if forbidden else [])]))
    found = []
    for name in names:
        try:
            found.append((short_name(name), load_gate(name, Path(), schema, forbidden)))
        except InvalidInput as error:
            hints = {"set evaluate.forbidden": "give --forbidden", "set evaluate.schema": "give --schema"}
            problems = [Problem("--gate", one.rule, hints.get(one.hint, one.hint)) for one in error.problems]
            raise InvalidInput(problems) from None
    return found


def _text(path: Path, where: str) -> str:
    from sweeps.errors import InvalidInput, Problem

    try:
        return path.expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidInput(Problem(where, f"{path} cannot be read: {error.strerror}")) from None
    except UnicodeDecodeError:
        raise InvalidInput(Problem(where, f"{path} is not UTF-8", "convert it with `iconv -t UTF-8`")) from None


@contextmanager
def _local(catalogue: str) -> Iterator[Path]:
    """The table as a file of this machine; one from object storage under its own ending."""
    from recipes import objects

    if not objects.is_url(catalogue):
        yield Path(catalogue).expanduser()
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / catalogue.rsplit("/", 1)[-1]
        path.symlink_to(objects.fetch(catalogue, home.cache_folder()).resolve())
        yield path


def _demo(rows: int, seed: int, to: str, output: Format) -> None:
    from recipes.commerce import task
    from recipes.data.rows import to_chat
    from recipes.data.stream import RowWriter

    with RowWriter(to) as writer:
        for row in task.rows(rows, seed):
            # In the common form: a table has one type for the answers of all rows.
            writer.write({**to_chat(row), "synthesized": {"teacher": "the demo's generator", "seed": seed}})
    value = {"to": to, "rows": rows, "teacher": "the demo's generator"}
    show(value, [{"what": "rows", "seen": f"{rows:,}"}], {"what": "", "seen": "seen"}, output, "the demo's generator")
    say(f"wrote {to}: {rows:,} rows by the demo's generator; no teacher was asked (--endpoint names one)")


def _dollars(written: "Written") -> str:
    if written.usd is None or written.usd_before is None:
        return ""
    return f", US$ {money(written.usd)}" + (f" now, {money(written.usd_before)} before" if written.usd_before else "")


def _tell(written: "Written", wanted: int, to: str, teacher: str, output: Format) -> None:
    value = {
        "to": to,
        "teacher": teacher,
        "rows": written.rows,
        "wanted": wanted,
        "requests": written.requests,
        "asked": written.asked,
        "kept": written.requests - written.asked,
        "filtered": dict(written.filtered.most_common()),
        "tokens_in": written.tokens_in,
        "tokens_out": written.tokens_out,
        "usd": written.usd,
        "usd_before": written.usd_before,
        "ended": written.ended or None,
    }
    lines = [
        ("rows", f"{written.rows:,} of {wanted:,}"),
        ("requests", f"{written.requests:,}, of which {written.requests - written.asked:,} were kept from before"),
        *((f"filtered: {what}", f"{count:,}") for what, count in written.filtered.most_common()),
        ("tokens", f"{written.tokens_in:,} of requests, {written.tokens_out:,} of replies"),
        ("cost", _dollars(written).removeprefix(", ") or "not known: no prices were given"),
    ]
    shown = [{"what": what, "seen": seen} for what, seen in lines]
    show(value, shown, {"what": "", "seen": "seen"}, output, f"rows by {teacher}")
    if written.ended:
        say(f"note: {written.rows:,} of {wanted:,} rows: {written.ended}")
    say(f"wrote {to}: {written.rows:,} rows")
    say("a sweep keeps requests about one product together with set: {data.group: group}")
