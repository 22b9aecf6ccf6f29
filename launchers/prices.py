"""Price lists: what an hour of a machine costs, by name, with the date and the source of each figure."""

from pathlib import Path

from pydantic import ValidationError

from launchers.problems import in_words, read_block
from sweeps.errors import InvalidInput, Problem, nearest
from sweeps.pricing import Price

SHIPPED = Path(__file__).parent / "prices"
_ENTRY = "name: {usd_per_hour: 3.85, date: 2026-09-25, source: the price list}"


def shipped_prices() -> dict[str, Price]:
    """Every price that ships; of two lists with the same entry the later month's counts."""
    return {name: price for path in sorted(SHIPPED.glob("*.yaml")) for name, price in read_prices(path).items()}


def read_prices(path: Path) -> dict[str, Price]:
    """The entries of a price list by name, in the order of the file.

    Raises:
        InvalidInput: It cannot be read, or an entry is not as it must be; all that is wrong is told at once.
    """
    content = read_block(path, _ENTRY)
    prices, problems = dict[str, Price](), list[Problem]()
    for name, entry in content.items():
        if not isinstance(entry, dict):
            problems.append(Problem(name, "must be a block of keys", _ENTRY))
            continue
        try:
            prices[name] = Price.model_validate(entry)
        except ValidationError as error:
            problems += [in_words(detail, Price, name) for detail in error.errors(include_url=False)]
    if problems:
        raise InvalidInput(problems, str(path))
    return prices


def named_price(name: str, prices: dict[str, Price], path: Path) -> Price:
    """The price that the pool's file ``path`` names.

    Raises:
        InvalidInput: No list has it.
    """
    if name not in prices:
        raise InvalidInput(Problem("price", f'no price list has "{name}"', nearest(name, tuple(prices))), str(path))
    return prices[name]
