"""Prompts that rows to train on must not have, as they are asked in dev and challenge: known by their hashes."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from recipes.data.findings import Finding, Tallies
from recipes.data.looks import common_form
from recipes.data.preferences import prompt_key
from sweeps.errors import InvalidInput, Problem

QUOTED = 60  # characters of a prompt in a message

HeldOut = dict[bytes, str]
"""The name of the file that a prompt stands in, by the prompt's hash."""


def held_out(rows: Iterable[tuple[int, Any]], name: str) -> HeldOut:
    """The prompts of rows as they are written, each with its line; eight bytes are kept of one.

    Raises:
        InvalidInput: A row cannot be read: its prompt would be missed.
    """
    prompts: HeldOut = {}
    for line, row in rows:
        if isinstance(row, Problem):
            raise InvalidInput(row, name)
        try:
            prompts[_hashed(common_form(row))] = name
        except ValueError as error:
            raise InvalidInput(Problem(name, str(error), "mend the row: its prompt is held out", line), name) from None
    return prompts


def look_at(rows: Iterable[tuple[int, dict[str, Any]]], prompts: Mapping[bytes, str]) -> Tallies:
    """The rows whose prompts are held out, by the file that holds them."""
    tallies = Tallies()
    for line, row in rows if prompts else ():
        if (name := prompts.get(_hashed(row))) is not None:
            asked = next((one["content"] for one in row["messages"] if one["role"] == "user"), "")
            tallies.add(name, line, " ".join(asked.split())[:QUOTED])
    return tallies


def findings(tallies: Tallies) -> Iterable[Finding]:
    """Each file with prompts that are here too: an error, as what is trained on cannot be judged by."""
    for name in tallies:
        rule = f"the prompt '{{example}}' is also in {name}, which is held out"
        yield from tallies.finding(name, "error", "held out", rule, "leave these rows out, or split again")


def _hashed(row: Mapping[str, Any]) -> bytes:
    return hashlib.blake2b(prompt_key(row["messages"]).encode(), digest_size=8).digest()
