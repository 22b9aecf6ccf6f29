"""Which linear layers ``lora.targets`` names: patterns over whole module names, ``*`` for any text."""

import re
from collections.abc import Iterable, Sequence


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern names this module."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), name) is not None


def unmatched(pattern: str, linear: Iterable[str]) -> str:
    """What to say of a pattern that names none of these layers."""
    leaves = sorted({name.rsplit(".", 1)[-1] for name in linear})
    rule = f"lora.targets: {pattern!r} matches no linear layer of the base"
    return (
        f"{rule}; write a pattern over whole names, e.g. *.{leaves[0]} (its linear layers end in {', '.join(leaves)})"
    )


def select(patterns: Sequence[str], linear: Sequence[str]) -> list[str]:
    """The layers that the patterns name, in the base's order.

    Raises:
        ValueError: A pattern names none; the message says what there is.
    """
    for pattern in patterns:
        if not any(matches(pattern, name) for name in linear):
            raise ValueError(unmatched(pattern, linear))
    return [name for name in linear if any(matches(pattern, name) for pattern in patterns)]
