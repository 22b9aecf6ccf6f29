"""What things cost, as a user writes it: machines by the hour, tokens by the million, and the traffic to be served.

Every price has a date and a source, so that a dollar figure can say what it rests on.
"""

import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from sweeps.fields import Amount, Block, Count, Text, broken_rule
from sweeps.grammar import quote

OLD_DAYS = 90  # a price of this age may have moved: those of GPUs have moved by 14 % within weeks


def _date(value: str) -> str:
    try:
        return datetime.date.fromisoformat(value).isoformat()
    except ValueError:
        raise broken_rule(f"must be a date, but got {quote(value)}", "write it like 2026-11-25") from None


Day = Annotated[str, AfterValidator(_date)]


def _not_free(value: Any, way_out: str) -> Any:
    """Dollars that were multiplied by 0 look measured, and say nothing."""
    if value == 0 and not isinstance(value, bool):
        raise broken_rule("a price must be above 0, but got 0: every dollar figure would be 0", way_out)
    return value


class Price(Block):
    """A dated, sourced price of one hour of one unit (a GPU; on a CPU pool, a core) in US$.

    Attributes:
        provider: Who sells it; ``terms`` how, e.g. reserved for a year.
        source: A URL, or the document that says so.
    """

    usd_per_hour: Amount
    date: Day
    source: Text
    provider: Text | None = None
    terms: Text = "on demand"
    currency: Literal["USD"] = "USD"

    @field_validator("usd_per_hour", mode="before")
    @classmethod
    def _costs_something(cls, value: Any) -> Any:
        return _not_free(value, "for machines of your own write what an hour of them costs you, power and depreciation")

    def in_words(self, unit: str) -> str:
        """The price with what it rests on; ``unit`` is ``GPU`` or ``core``."""
        seller = f"{self.provider}, " if self.provider else ""
        return f"US$ {self.usd_per_hour:g} per {unit}-hour, {seller}{self.terms}, {self.date}: {self.source}"

    def age_note(self, name: str, today: datetime.date) -> str | None:
        """A sentence where the price is old; None where it is not."""
        days = (today - datetime.date.fromisoformat(self.date)).days
        if days < OLD_DAYS:
            return None
        return f"the price of {name} is {days} days old ({self.date}): check it, prices move by weeks"


class TokenPrice(Block):
    """A dated, sourced price of a model's tokens, in US$ for each million."""

    input_usd_per_1m: Amount
    output_usd_per_1m: Amount
    source: Text
    date: Day

    @field_validator("input_usd_per_1m", "output_usd_per_1m", mode="before")
    @classmethod
    def _costs_something(cls, value: Any) -> Any:
        return _not_free(value, "leave price out where tokens are not paid for: dollars are then unknown, and not 0")

    def usd(self, tokens_in: float, tokens_out: float) -> float:
        """What so many tokens cost in US$."""
        return (tokens_in * self.input_usd_per_1m + tokens_out * self.output_usd_per_1m) / 1e6


class Traffic(Block):
    """The traffic that the champion is to serve, from which a month of serving is priced.

    Attributes:
        peak_rps: Requests a second at the peak, for which there must be room.
        mean_rps: On average over the month; the dollars of a thousand requests are by it.
        headroom: Above the peak, as a share: 0.3 keeps room for 1.3 times the peak.
        min_replicas: At least so many, whatever the traffic: two survive the loss of one.
        gpus_per_replica: GPUs (on a CPU pool, cores) of one replica.
        pool: Whose price counts; None for the sweep's first.
    """

    peak_rps: Amount
    mean_rps: Amount
    headroom: Annotated[float, Field(ge=0)] = 0.3
    min_replicas: Count = 1
    gpus_per_replica: Count = 1
    pool: Text | None = None

    @model_validator(mode="after")
    def _mean_is_below_peak(self) -> "Traffic":
        if self.mean_rps > self.peak_rps:
            rule = f"mean_rps must be at most peak_rps, but got mean_rps={self.mean_rps:g}, peak_rps={self.peak_rps:g}"
            raise broken_rule(rule, "the mean over a month, and the most of one second")
        return self
