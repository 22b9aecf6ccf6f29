"""A whole in its parts, drawn as one bar of text with a legend below."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text


@dataclass(frozen=True)
class Part:
    """One part: what it is drawn with, what it is, and how much of the whole, in the whole's own unit."""

    glyph: str
    style: str
    label: str
    value: float


def bar(parts: Sequence[Part], width: int, words: Callable[[float], str] = "{:,.0f}".format) -> Text:
    """The bar, so many characters wide, and the legend of the parts that are not empty; ``words`` write a value."""
    there = [part for part in parts if part.value > 0]
    total = sum(part.value for part in there)
    text = Text()
    for part, wide in zip(there, widths([part.value for part in there], width), strict=True):
        text.append(part.glyph * wide, part.style)
    text.append("\n")
    for part in there:
        text.append(part.glyph * 2, part.style)
        text.append(f" {part.label} {words(part.value)} ({part.value / total:.0%})   ")
    text.rstrip()
    return text


def widths(values: Sequence[float], width: int) -> list[int]:
    """Whole numbers in proportion to values above 0; each is at least 1, and together they are ``width``.

    The method of largest remainders. A bar that is too narrow for so many parts is as wide as they need.
    """
    spare = max(0, width - len(values))
    exact = [max(0.0, value / sum(values) * width - 1) for value in values]
    scale = spare / sum(exact) if sum(exact) else 0.0
    found = [int(one * scale) for one in exact]
    by_remainder = sorted(range(len(values)), key=lambda place: found[place] - exact[place] * scale)
    for place in by_remainder[: spare - sum(found)]:
        found[place] += 1
    return [1 + one for one in found]
