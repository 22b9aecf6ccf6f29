"""Rows through a base's own chat template: how many tokens they are, and whether the loss looks at the answers alone.

Training takes its labels from :func:`recipes.generation.tokens_and_labels`, which renders a conversation up to each
answer and with it. That is right as long as the second begins with the first, token by token, and what it adds is the
answer and the end of the turn. Here both are looked at.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from recipes.data.findings import Finding, Tallies
from recipes.facts import count_tokens
from recipes.schema import Base

MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
QUOTED = 40
Messages = Sequence[dict[str, str]]


@lru_cache(maxsize=1)
def tokenizer_of(base: Base, base_dir: Path) -> Any:
    """The base's tokenizer, loaded once a process. Raises as :func:`recipes.tokenizer.load_tokenizer` does."""
    from recipes.tokenizer import load_tokenizer

    return load_tokenizer(base, base_dir)


def lengths(rows: Sequence[tuple[int, Messages]], tokenizer: Any | None, tallies: Tallies) -> list[int]:
    """The tokens of conversations, each with its line; -1 where the template refuses one, which is taken down.

    Without a tokenizer they are estimated by their characters.
    """
    if tokenizer is None:
        return [count_tokens(None, [message["content"] for message in messages]) for _, messages in rows]
    from jinja2 import TemplateError

    texts: list[str | None] = []
    for line, messages in rows:
        try:
            texts.append(tokenizer.apply_chat_template(list(messages), tokenize=False))
        except TemplateError as error:
            tallies.add("refused", line, str(error).split("\n")[0][:120])
            texts.append(None)
    written = [text or "" for text in texts]
    # Not verbose: rows that are too long are told by their lines.
    encoded = tokenizer(written, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    return [-1 if text is None else len(ids) for text, ids in zip(texts, encoded, strict=True)]


@lru_cache(maxsize=1)
def _special(tokenizer: Any) -> re.Pattern[str] | None:
    named = {str(one) for one in tokenizer.all_special_tokens}
    named |= {str(one) for one in tokenizer.added_tokens_decoder.values() if one.special}
    longest = sorted((re.escape(one) for one in named if len(one) > 2), key=len, reverse=True)
    return re.compile("|".join(longest)) if longest else None


def look_for_special(messages: Messages, line: int, tokenizer: Any, tallies: Tallies) -> None:
    """Take down a row whose text would be read as a token with a meaning of its own, as the end of a turn."""
    pattern = _special(tokenizer)
    for message in messages:
        if pattern is not None and (match := pattern.search(message["content"])):
            tallies.add("special", line, repr(match.group()))
            return


def look_at(messages: Messages, line: int, tokenizer: Any, tallies: Tallies) -> None:
    """Render a row as training does, and take down what is not as it should be."""
    from jinja2 import TemplateError

    ids: list[int] = []
    num_learned = 0
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        try:
            before = _ids(tokenizer, messages[:place], add_generation_prompt=True)
            whole = _ids(tokenizer, messages[: place + 1])
        except TemplateError:
            return  # taken down where tokens are counted
        if before[: len(ids)] != ids:
            tallies.add("earlier", line)
            return
        if whole[: len(before)] != before:
            tallies.add("boundary", line)
            return
        learned, ids = whole[len(before) :], whole
        num_learned += len(learned)
        _compare(tokenizer.decode(learned, skip_special_tokens=True), message["content"], line, tallies)
    if not num_learned:
        tallies.add("nothing", line)


def _ids(tokenizer: Any, messages: Messages, **options: Any) -> list[int]:
    quiet = {"verbose": False}  # as in lengths
    ids: list[int] = tokenizer.apply_chat_template(
        list(messages), tokenize=True, return_dict=False, tokenizer_kwargs=quiet, **options
    )
    return ids


def _compare(learned: str, answer: str, line: int, tallies: Tallies) -> None:
    """Hold the text that the loss looks at against the answer."""
    if learned.strip() == answer.strip():
        if learned.rstrip() != answer.rstrip():
            tallies.add("stripped", line)
        return
    if answer.strip() and answer.strip() in learned:
        around = learned.replace(answer.strip(), " … ", 1).strip()
        tallies.add("more", line, repr(around[:QUOTED]))
    else:
        tallies.add("other", line, f"{learned[:QUOTED]!r} for {answer[:QUOTED]!r}")


def findings(tallies: Tallies, tokenizer: Any, name: str) -> list[Finding]:
    """What to tell of a base's template, by what was taken down."""
    found = list[Finding]()
    if not MARK.search(str(tokenizer.chat_template)):
        rule = f"the chat template of {name} does not mark answers with {{% generation %}}"
        hint = "both engines then find answers by rendering each conversation without and with them, as this check does"
        found.append(Finding("note", "template", 0, (), rule, hint))
    another = "name another base, or put a chat_template.jinja beside it that renders each turn the same for ever"
    for key, rule, hint in (
        ("refused", "the chat template refuses the row: {example}", "name another base, or change the rows"),
        (
            "earlier",
            "earlier turns change when the conversation goes on, so the loss would look at wrong tokens",
            another,
        ),
        (
            "boundary",
            "the prompt's tokens change when the answer follows, so the loss would look at wrong tokens",
            another,
        ),
        ("nothing", "the loss looks at no token of the row: it trains on nothing", "leave these rows out"),
        ("more", "the loss looks at more than the answer and the end of its turn: {example}", another),
        ("other", "the loss looks at other text than the answer: {example}", another),
        (
            "special",
            "the text holds {example}, which the tokenizer reads as a token of its own meaning",
            "take it out: it would end a turn, or begin one, within the text",
        ),
    ):
        found += tallies.finding(key, "error", "template", rule, hint)
    found += tallies.finding(
        "stripped",
        "note",
        "template",
        "the template leaves out white space before the answer",
        "nothing to do, unless it is meant",
    )
    return found
