"""Right answers that teach the wrong thing: what NEMO-4-PAYPAL's had to be rid of, told generally.

Boilerplate (one sentence in many answers), list items that recur within an answer and over all answers, a gender that
the prompt never stated; besides, answers that are no JSON where most are, or break a schema.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from recipes.data.findings import Finding, Tallies
from recipes.data.jsonl import strict_json
from recipes.data.words import WORD, Hashes, Messages, are_own, hashes
from sweeps.errors import InvalidInput, Problem

OFTEN = 0.05
"""A sentence, or an item, in so large a share of the answers is told."""
FEW = 20  # with fewer answers, nothing is said to recur
MIN_SENTENCE = 4  # words; a shorter one recurs by nature
KEPT = 400  # of the most frequent texts of a part of the file
MOST_KEPT = 20_000
QUOTED = 60

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_MALE = "man men men's man's male males gentleman gentlemen boy boys boys' boy's mens he him his mr sir"
_MALE_KIN = "husband boyfriend brother father dad daddy son grandfather grandpa uncle nephew groom husband's father's"
_MALE_KIN += " brother's son's dad's boyfriend's grandfather's"
_FEMALE = "woman women women's woman's female females lady ladies girl girls girls' girl's womens she her hers mrs ms"
_FEMALE_KIN = (
    "wife girlfriend sister mother mom mum mommy daughter grandmother grandma aunt niece bride wife's mother's"
)
_FEMALE_KIN += " sister's daughter's mom's mum's girlfriend's grandmother's"
_SAID = {"male": frozenset(_MALE.split()), "female": frozenset(_FEMALE.split())}
_STATED = {"male": _SAID["male"] | set(_MALE_KIN.split()), "female": _SAID["female"] | set(_FEMALE_KIN.split())}
_ANY_GENDER = _SAID["male"] | _SAID["female"]


@dataclass
class Answers:
    """What was seen in the answers of a part of the file.

    Attributes:
        num_json: Of ``num`` answers, those that are a JSON object or list.
        sentences: In how many answers a sentence occurs; of a large file, the frequent ones only. ``items`` likewise.
        tallies: Rows by what is wrong with them.
    """

    num: int = 0
    num_json: int = 0
    sentences: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)
    tallies: Tallies = field(default_factory=Tallies)

    def merge(self, later: "Answers") -> None:
        """Those of a later part."""
        self.num += later.num
        self.num_json += later.num_json
        for mine, other in ((self.sentences, later.sentences), (self.items, later.items)):
            mine.update(other)
            if len(mine) > 2 * MOST_KEPT:
                kept = mine.most_common(MOST_KEPT)
                mine.clear()
                mine.update(dict(kept))
        self.tallies.merge(later.tallies)


def look_at(rows: Sequence[tuple[int, dict[str, Any]]], schema: str | None) -> Answers:
    """Look at the answers of rows in the common form; ``schema`` is JSON Schema, as text."""
    found = Answers()
    for line, row in rows:
        answer = row["messages"][-1]["content"]
        found.num += 1
        if not answer.strip():
            found.tallies.add("blank", line)
        value = as_json(answer)
        if value is None:
            found.tallies.add("text", line, repr(answer[:QUOTED]))
        else:
            found.num_json += 1
        if schema is not None:
            _validate(value, line, schema, found.tallies)
        texts = [answer] if value is None else list(_texts(value))
        found.sentences.update({sentence for text in texts for sentence in _sentences(text)})
        items = [item for one in _lists(value) for item in one]
        found.items.update({item.casefold() for item in items})
        for one in _lists(value):
            twice = [item for item, count in Counter(text.casefold() for text in one).items() if count > 1]
            if twice:
                found.tallies.add("item twice", line, repr(twice[0][:QUOTED]))
                break
    if len(rows) > KEPT:
        found.sentences = Counter(dict(found.sentences.most_common(KEPT)))
        found.items = Counter(dict(found.items.most_common(KEPT)))
    return found


def as_json(text: str) -> Any:
    """The JSON object or list that an answer is; None where it is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = strict_json(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _validate(value: Any, line: int, schema: str, tallies: Tallies) -> None:
    from referencing.exceptions import Unresolvable

    if value is None:
        tallies.add("schema: it is no JSON object or list", line)
        return
    try:
        error = next(_validator(schema).iter_errors(value), None)
    except Unresolvable as missing:
        rule = f"the schema of the answers refers to {missing.ref!r}, which is not in it"
        raise InvalidInput(Problem("schema", rule, "write it under $defs, or mend the $ref")) from None
    if error is not None:
        place = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in error.absolute_path).lstrip(".")
        general = re.sub(r"\[\d+\]", "[]", place) or "the answer"
        tallies.add(f"schema: {general} breaks {error.validator!r}", line, error.message[:200])


@lru_cache(maxsize=1)
def _validator(schema: str) -> Any:
    from jsonschema.validators import validator_for

    loaded = json.loads(schema)
    return validator_for(loaded)(loaded)


def _texts(value: Any) -> Iterator[str]:
    """All texts of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _lists(value: Any) -> Iterator[list[str]]:
    """The lists of texts in a JSON value."""
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _lists(one)


def _sentences(text: str) -> Iterator[str]:
    for part in _SENTENCE.split(text):
        sentence = part.strip()
        if sentence and len(sentence.split()) >= MIN_SENTENCE:
            yield sentence


def genders(rows: Sequence[tuple[int, dict[str, Any]]], common: Hashes) -> Tallies:
    """Rows whose answer names a gender that the prompt's own words never had; English words."""
    found = Tallies()
    for line, row in rows:
        said = _words(row["messages"][-1]["content"]) & _ANY_GENDER
        if not said:
            continue
        asked = own_words_of(row["messages"][:-1], common)
        for gender, words in _SAID.items():
            named = said & words
            if named and not asked & _STATED[gender]:
                found.add("gender", line, repr(sorted(named)[0]))
                break
    return found


def own_words_of(messages: Messages, common: Hashes) -> set[str]:
    """The words, in lower case, that a prompt has beside what nearly all prompts have."""
    own: set[str] = set()
    for message in messages:
        words = WORD.findall(message["content"].replace("’", "'"))
        is_own = are_own(hashes(words), common)
        own |= {word.lower() for word, mine in zip(words, is_own, strict=True) if mine}
    return own


def _words(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(text.replace("’", "'"))}


def findings(seen: Answers, gendered: Tallies, has_schema: bool) -> list[Finding]:
    """What to tell of all answers."""
    tallies, found = seen.tallies, list[Finding]()
    found += tallies.finding(
        "blank", "error", "empty answer", "the answer is white space: there is nothing to learn", "leave these rows out"
    )
    if not has_schema and 0.5 < seen.num_json / max(1, seen.num) < 1:
        share = f"{seen.num_json / seen.num:.1%}"
        rule = f"{share} of the answers are JSON and these are not: {{example}}"
        found += tallies.finding("text", "warning", "JSON", rule, "mend them, or leave them out")
    for key, tally in tallies.items():
        if key.startswith("schema: "):
            example = f": {tally.example}" if tally.example else ""
            rule = f"the answer breaks the schema: {key.removeprefix('schema: ')}{example}"
            found += tallies.finding(key, "error", "schema", rule, "mend the answers, or the schema")
    found += _recurring(seen.sentences, seen.num, "boilerplate", "the sentence {text} stands in {share} of the answers")
    found += _recurring(seen.items, seen.num, "repeated item", "the item {text} stands in {share} of the answers")
    found += tallies.finding(
        "item twice",
        "warning",
        "item twice",
        "a list of the answer has an item twice, for example {example}",
        "leave one of them out: the model learns to repeat itself",
    )
    found += gendered.finding(
        "gender",
        "warning",
        "gender",
        "the answer says {example}, a gender that the prompt does not state",
        "answer without a gender, or state it in the prompt",
    )
    return found


def _recurring(counts: Counter[str], num: int, name: str, rule: str) -> list[Finding]:
    often = [(text, count) for text, count in counts.most_common(3) if count >= OFTEN * num]
    hint = "vary it: the model learns to say it whatever is asked"
    return [
        Finding("warning", name, count, (), rule.format(text=repr(text[:QUOTED]), share=f"{count / num:.0%}"), hint)
        for text, count in often
        if num >= FEW
    ]
