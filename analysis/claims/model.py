"""Claims as data: a figure with all that it needs to be believed, from which its words are made.

An absolute figure is a :class:`Claim`; what it is against another one is a :class:`Relative`; a part of a whole is a
:class:`Share`; that a figure keeps a limit (an SLO) is a :class:`Limit`. ``str(claim)`` is the whole of it in words::

    −48.9 % against incumbent on challenge, n = 96 (4.5 → 2.3 s)

In a Jinja template, or in ``markupsafe.Markup("… {} …").format(claim)``, a claim writes itself as a span that carries
its facts in ``data-claim``. :mod:`analysis.claims.page` finds them there and checks what the page says against them.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from markupsafe import Markup, escape

from analysis.scales import number
from sweeps.errors import InvalidInput, Problem
from sweeps.metrics import BY_NAME

Interval = tuple[float, float]
Op = Literal["<", "<=", ">", ">="]
_UNITS = {"s": "s", "US$": "US$", "US$/month": "US$ a month", "tokens/s": "tokens/s", "requests/s": "requests/s"}
_WORDS = {"<": "below", "<=": "at most", ">": "above", ">=": "at least"}


def signed(percent: float) -> str:
    """A change in percent with its sign and one decimal: −48.9 %."""
    return f"{percent:+.1f} %".replace("-", "−")


def _with_unit(metric: str, text: str) -> str:
    unit = _UNITS.get(BY_NAME[metric].unit, "") if metric in BY_NAME else ""
    return f"{text} {unit}" if unit else text


def _where(data: str | None, n: int | None) -> str:
    return f"on {data or '?'}, n = {'?' if n is None else n}"


@dataclass(frozen=True)
class Claim:
    """An absolute figure of one arm.

    Attributes:
        metric: Its name, such as ``quality/score``.
        arm: What was measured: ``base``, ``incumbent``, ``champion``, ``trial 3``.
        value: In the metric's unit.
        data: What it was measured on: the split, such as ``challenge``.
        n: Over so many items.
        sha256: Of the rows of ``data``, where known: two sets of one name are not one set.
        interval: Of ``value``, by the report's level of confidence.
    """

    metric: str
    arm: str
    value: float
    data: str | None
    n: int | None
    sha256: str | None = None
    interval: Interval | None = None

    def __str__(self) -> str:
        around = f" ({number(self.interval[0])} to {number(self.interval[1])})" if self.interval else ""
        return f"{_with_unit(self.metric, number(self.value))}{around} {_where(self.data, self.n)}"

    def __html__(self) -> Markup:
        return mark(self)


@dataclass(frozen=True)
class Relative:
    """How far a figure is from that of a baseline, in percent of the baseline.

    Made by :func:`analysis.claims.rules.relative`.

    Attributes:
        claim: The figure.
        baseline: The same metric of the baseline, on the same rows.
        percent: ``100 · (value / baseline − 1)``.
        interval: Of ``percent``.
    """

    claim: Claim
    baseline: Claim | None
    percent: float
    interval: Interval | None = None

    def __str__(self) -> str:
        around = ""
        if self.interval:
            low, high = (signed(end).removesuffix(" %") for end in self.interval)
            around = f" ({low} to {high})"
        name, value = (self.baseline.arm, number(self.baseline.value)) if self.baseline else ("?", "?")
        values = _with_unit(self.claim.metric, f"{value} → {number(self.claim.value)}")
        return f"{signed(self.percent)}{around} against {name} {_where(self.claim.data, self.claim.n)} ({values})"

    def __html__(self) -> Markup:
        return mark(self)


@dataclass(frozen=True)
class Share:
    """A part of a whole, in percent.

    Attributes:
        value: From 0 to 1.
        of: The whole, in words: ``the answers``, ``the explained variation of quality/score``.
        data: What it was counted on.
        n: Over so many items.
        sha256: Of the rows of ``data``, where known.
    """

    value: float
    of: str
    data: str | None
    n: int | None
    sha256: str | None = None

    @property
    def short(self) -> str:
        """The percentage alone, for a bar's label; a figure carries the claim beside it."""
        return f"{100 * self.value:.0f} %"

    def __str__(self) -> str:
        return f"{self.short} of {self.of} {_where(self.data, self.n)}"

    def __html__(self) -> Markup:
        return mark(self)


@dataclass(frozen=True)
class Limit:
    """Whether a figure keeps a limit, with the figure itself.

    Attributes:
        claim: The figure.
        op: How it has to lie to ``bound``.
        bound: In the metric's unit.
        kept: What is claimed; it is checked.
    """

    claim: Claim
    op: Op
    bound: float
    kept: bool = True

    @property
    def holds(self) -> bool:
        """Whether the figure does keep the limit."""
        value = self.claim.value
        return {
            "<": value < self.bound,
            "<=": value <= self.bound,
            ">": value > self.bound,
            ">=": value >= self.bound,
        }[self.op]

    def __str__(self) -> str:
        bound = _with_unit(self.claim.metric, number(self.bound))
        return f"{self.claim}, {'' if self.kept else 'not '}{_WORDS[self.op]} {bound}"

    def __html__(self) -> Markup:
        return mark(self)


AnyClaim = Claim | Relative | Share | Limit
_KINDS: dict[str, type[Claim] | type[Relative] | type[Share] | type[Limit]] = {
    "claim": Claim,
    "relative": Relative,
    "share": Share,
    "limit": Limit,
}


def facts(claim: AnyClaim) -> dict[str, Any]:
    """A claim as plain values for JSON, its ``kind`` with it."""
    kind = next(name for name, form in _KINDS.items() if type(claim) is form)
    return {"kind": kind, **asdict(claim)}


def from_facts(value: Any) -> AnyClaim:
    """The claim of :func:`facts`.

    Raises:
        InvalidInput: It is none.
    """
    try:
        fields = dict(value)
        kind = fields.pop("kind")
        for name in ("claim", "baseline"):
            if fields.get(name) is not None:
                fields[name] = _plain_claim(fields[name])
        if kind == "claim":
            return _plain_claim(fields)
        made: AnyClaim = _KINDS[kind](**_with_interval(fields))
        str(made)  # fields of another type show here
    except (KeyError, TypeError, ValueError, AttributeError):
        shown = json.dumps(value, default=str)[:80]
        raise InvalidInput(
            Problem("data-claim", f"no facts of a claim: {shown}", "let analysis.claims write it")
        ) from None
    return made


def _plain_claim(fields: dict[str, Any]) -> Claim:
    made = Claim(**_with_interval(fields))
    if not math.isfinite(made.value):
        raise ValueError("a figure is a number")
    return made


def _with_interval(fields: dict[str, Any]) -> dict[str, Any]:
    if fields.get("interval") is None:
        return fields
    low, high = fields["interval"]
    return {**fields, "interval": (float(low), float(high))}


def mark(claim: AnyClaim) -> Markup:
    """A claim in HTML: its words in a span that carries its facts."""
    held = json.dumps(facts(claim), ensure_ascii=False, allow_nan=False)
    return Markup('<span class="claim" data-claim="{}">{}</span>').format(held, escape(str(claim)))
