"""Prompt–response pairs from a catalogue: a teacher writes them, gates filter them, and a purse ends it in time.

Requests are numbered, each with products of its own drawn by seed and number. Their replies are taken in this order,
however they come, and are kept on the disk: the same command again gives the same rows, and asks for nothing twice.
"""

import json
import random
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from recipes.data.preferences import prompt_key
from recipes.data.rows import canonical, to_chat
from sweeps.errors import InvalidInput, Problem, ServiceUnreachable
from tracking.meters.endpoint import Reply, ServedModel
from tracking.meters.metrics import Item, Metric
from tracking.meters.teacher import NotAPairError, Purse, TokenPrices, filled, read_pair, sha256

MISSING_IN_A_ROW = 8  # requests without a reply, one after the other, end it
Row = dict[str, Any]


@dataclass(frozen=True)
class Article:
    """A product as the teacher sees it."""

    id: str
    text: str


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes:
        rows: How many are wanted; at most ``tries`` requests are made for them.
        products: In each request.
        template: With ``{products}``; ``system`` stands in front of every row, and is no part of what is asked.
    """

    rows: int
    tries: int
    products: int
    template: str
    system: str | None
    seed: int
    temperature: float


@dataclass
class Written:
    """What became of the requests.

    Attributes:
        requests: Whose reply was looked at; ``asked`` of them now, the others were kept from before.
        filtered: Replies that gave no row, by why.
        usd_before: Of kept replies, and of those that were lost before; ``usd`` of those that were asked for now. None
            where prices are not known.
        ended: Why there are fewer rows than were wanted; empty where there are not.
    """

    rows: int = 0
    requests: int = 0
    asked: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float | None = None
    usd_before: float | None = None
    ended: str = ""
    is_at_limit: bool = False


def read_articles(path: Path, where: str, id_column: str | None, columns: Sequence[str]) -> list[Article]:
    """The products of a table: all that stands in their columns, or in some of them.

    Args:
        path: CSV, TSV, JSONL or Parquet.
        where: What names it, for messages.
        id_column: None takes ``id`` where there is one, else the number of the row.

    Raises:
        InvalidInput: It cannot be read, a column is not there, or two products have one id.
    """
    from recipes.shopping.tables import read_table

    needed = [*([id_column] if id_column else []), *columns]
    found: dict[str, int] = {}
    articles: list[Article] = []
    for number, row in read_table(path, where, needed):
        name = row.get(id_column or "id")
        article_id = str(name) if name is not None else f"row {number}"
        shown = {
            key: row[key] for key in columns or row if key != (id_column or "id") and row.get(key) not in (None, "")
        }
        if not shown:
            continue
        if article_id in found:
            rule = f"{path.name}: id {article_id!r} is that of two products, first in line {found[article_id]}"
            raise InvalidInput(Problem(where, rule, "every product needs an id of its own", number))
        found[article_id] = number
        articles.append(Article(article_id, "; ".join(f"{key}: {canonical(value)}" for key, value in shown.items())))
    return articles


class Synthesis:
    """Has a teacher write rows.

    Args:
        model: The teacher.
        articles: Of the catalogue.
        order: What is wanted.
        gates: By name; a row must pass all.
        prices: Of the teacher's tokens; None where they are not known.
        limit: US$ that all replies together may cost.
        schema: Of the teacher's replies, as it is sent along.
    """

    def __init__(
        self,
        model: ServedModel,
        articles: Sequence[Article],
        order: Order,
        gates: Sequence[tuple[str, Metric]],
        prices: TokenPrices | None,
        limit: float | None,
        schema: dict[str, Any] | None,
    ) -> None:
        if len(articles) < order.products:
            rule = f"the catalogue has {len(articles)} products, fewer than the {order.products} of one request"
            raise InvalidInput(Problem("--products", rule, "ask for fewer, or give a larger catalogue"))
        self._model, self._articles, self._order, self._gates = model, articles, order, gates
        self._prices = prices
        self._purse = Purse(prices, limit, schema)
        self._template_sha256 = sha256(order.template)
        self._prompts: set[str] = set()
        self._times: Counter[str] = Counter()
        self._stopped = Event()
        self.written = Written(usd=0.0 if prices else None, usd_before=0.0 if prices else None)

    def rows(self) -> Iterator[Row]:
        """The rows, in the order of their requests; ``written`` counts as it goes.

        Raises:
            ServiceUnreachable: The teacher refuses all, or gives no reply to many one after the other.
        """
        order, written = self._order, self.written
        waiting: deque[_Request] = deque()
        self._set_aside_before()
        coming = self._request(0)
        missing = 0
        with ThreadPoolExecutor(self._model.concurrency) as pool:
            try:
                while written.rows < order.rows:
                    while coming.number < order.tries and len(waiting) < self._most_waiting():
                        if not coming.is_kept and not self._begin(coming, pool):
                            break
                        waiting.append(coming)
                        coming = self._request(coming.number + 1)
                    if not waiting:
                        break
                    request = waiting.popleft()
                    reply = request.reply()
                    self._settle(request, reply)
                    missing = missing + 1 if reply.text is None else 0
                    if missing == MISSING_IN_A_ROW:
                        told = f"gave no reply to {missing} requests one after the other: it {reply.why}"
                        raise ServiceUnreachable(f"the teacher at {self._model.endpoint.url} {told}")
                    row = self._row(request, reply)
                    if row is not None:
                        written.rows += 1
                        yield row
            finally:
                # Those under way end first, and are kept: they are paid for.
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
        if written.rows < order.rows:
            written.is_at_limit = coming.number < order.tries
            written.ended = (
                "the next request could cost more than is left (--max-usd)"
                if written.is_at_limit
                else f"{order.tries:,} requests were made, as many as may be (--tries)"
            )

    def _most_waiting(self) -> int:
        """No more than are wanted: whatever is asked for is paid for."""
        return min(self._model.concurrency, self._order.rows - self.written.rows)

    def _request(self, number: int) -> "_Request":
        drawn = random.Random(f"{self._order.seed}-{number}").sample(self._articles, self._order.products)
        content = filled(self._order.template, [one.text for one in drawn], number)
        messages = [{"role": "user", "content": content}]
        # The same products may be drawn again, of a small catalogue: the teacher is to write something else then.
        time = self._times[content]
        self._times[content] += 1
        kept = self._model.kept(messages, time)
        most = self._purse.most(messages, self._model.max_tokens)
        before = self._purse.cost(kept, most) if kept is not None else 0.0
        before += most * self._model.num_lost(messages, time)
        return _Request(number, tuple(one.id for one in drawn), messages, time, kept, most, before)

    def _set_aside_before(self) -> None:
        """Set aside what the requests that may be made cost before, so that no new one takes its place."""
        if self._purse.is_limited:
            self._purse.set_aside = sum(self._request(number).before for number in range(self._order.tries))
            self._times.clear()

    def _begin(self, request: "_Request", pool: ThreadPoolExecutor) -> bool:
        """Send a request where the most that it can cost may still be spent."""
        if not self._purse.has_room(request.most):
            return False
        self._purse.set_aside += request.most
        request.future = pool.submit(self._model.ask, request.messages, self._stopped, request.time)
        return True

    def _settle(self, request: "_Request", reply: Reply) -> None:
        written = self.written
        written.requests += 1
        written.tokens_in += reply.tokens_in
        written.tokens_out += reply.tokens_out
        request.usd = self._purse.cost(reply, request.most)
        now = 0.0
        if not request.is_kept:
            now = request.usd
            written.asked += 1
            self._purse.set_aside -= request.most
        if self._purse.is_limited:
            self._purse.set_aside -= request.before
        self._purse.spent += request.before + now
        if written.usd is not None and written.usd_before is not None:
            written.usd += now
            written.usd_before += request.before

    def _row(self, request: "_Request", reply: Reply) -> Row | None:
        if reply.text is None:
            self.written.filtered["no reply"] += 1
            return None
        try:
            prompt, response = read_pair(reply.text)
            system = [{"role": "system", "content": self._order.system}] if self._order.system else []
            answer = {"role": "assistant", "content": response}
            row = to_chat({"messages": [*system, {"role": "user", "content": prompt}, answer]})
        except NotAPairError as error:
            self.written.filtered[str(error)] += 1
            return None
        except ValueError as error:
            self.written.filtered[f"rows that break a rule: {error}"] += 1
            return None
        if (key := prompt_key(row["messages"])) in self._prompts:
            self.written.filtered["prompts that are there already"] += 1
            return None
        row |= {"id": f"synthetic-{self._order.seed}-{request.number}", "group": request.products[0]}
        if (failed := self._failed_gate(row)) is not None:
            self.written.filtered[f"gate {failed}"] += 1
            return None
        self._prompts.add(key)
        return {**row, "synthesized": self._provenance(request, reply)}

    def _failed_gate(self, row: Row) -> str | None:
        rest = {key: value for key, value in row.items() if key != "messages"}
        answer = row["messages"][-1]["content"]
        item = Item(row["id"], row["messages"][:-1], answer, rest)
        return next((name for name, gate in self._gates if not all(gate(item, answer).values())), None)

    def _provenance(self, request: "_Request", reply: Reply) -> Row:
        usd = {"usd": round(request.usd, 9)} if self._prices is not None else {}
        return {
            "teacher": self._model.model,
            "served": reply.served,
            "products": list(request.products),
            "prompt_sha256": sha256(json.dumps(request.messages, sort_keys=True)),
            "template_sha256": self._template_sha256,
            "temperature": self._order.temperature,
            "seed": self._order.seed,
            "tokens_in": reply.tokens_in,
            "tokens_out": reply.tokens_out,
            **usd,
        }


@dataclass
class _Request:
    """A numbered request: kept from before, or under way with the most that it can cost set aside for it.

    Attributes:
        time: How often the same was asked before, for another answer.
        before: US$ that it cost in earlier runs: what is kept, and what was lost.
        usd: What its reply cost.
    """

    number: int
    products: tuple[str, ...]
    messages: list[dict[str, str]]
    time: int
    kept: Reply | None
    most: float
    before: float
    usd: float = 0.0
    future: Future[Reply] | None = None

    @property
    def is_kept(self) -> bool:
        return self.kept is not None

    def reply(self) -> Reply:
        if self.kept is not None:
            return self.kept
        assert self.future is not None
        return self.future.result()
