"""Checking a file of any length, before anything is trained on it.

The file is gone through twice, and a third time where its rows are preference pairs: rows by themselves first (form,
length, answers, loss mask), then against each other (near-duplicates) and against what nearly all prompts have.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recipes import bases
from recipes.data import answers, masks
from recipes.data import held_out as held
from recipes.data.findings import Finding, Tallies, ordered
from recipes.data.held_out import HeldOut
from recipes.data.lengths import Lengths, lengths_of, too_long
from recipes.data.links import Columns, components, near_links
from recipes.data.looks import Fields, First, Sample, Second, common_form, look_again, look_at
from recipes.data.rows import is_half, is_pair
from recipes.data.signatures import BAND_ROWS, Compared, Store, band_rows
from recipes.data.splitting import MARGIN, MOST_ACROSS, THRESHOLD, word_for_word
from recipes.data.stream import Chunk, Source
from recipes.data.words import Hashes
from recipes.data.workers import each, num_workers
from recipes.schema import Base
from sweeps.errors import InvalidInput, Problem

HALF = "half a pair"
FORMS = ("chat", "prompt and completion", "preference pairs")
MAX_BROKEN = 10_000  # broken pairs that are counted by their rule
Form = Literal["chat", "prompt and completion", "preference pairs"]
Tell = Callable[[str], None]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """What rows are held against.

    Attributes:
        base: Whose template and tokenizer; None: tokens are estimated by characters.
        base_dir: What its path is taken from.
        schema: JSON Schema of the answers, as text.
        max_tokens: Of a row; a longer one is an error, or a warning where tokens are estimated.
        threshold: The similarity from which two prompts are nearly the same.
        held_out: Prompts that no row may have.
    """

    base: Base | None = None
    base_dir: Path = field(default_factory=Path)
    schema: str | None = None
    max_tokens: int | None = None
    threshold: float = THRESHOLD
    held_out: HeldOut = field(default_factory=dict)


@dataclass(frozen=True)
class Checked:
    """What was found.

    Attributes:
        forms: How many rows are written in each form.
        num_rows: That are there; ``num_usable`` break no rule of form.
        lengths: None where no row is usable.
        num_json: Answers that are a JSON object or list.
        num_masked: Rows whose loss mask was looked at: all of a small file, a sample of a large one.
        num_repeated: Rows that are there already, answer and all; ``num_near`` prompts nearly the same as another.
        audit: For preference pairs, what gives the preferred answer away, by the number of it.
    """

    source: str
    forms: dict[str, int]
    num_rows: int
    num_usable: int
    base: str | None
    max_tokens: int | None
    lengths: Lengths | None
    num_json: int
    num_masked: int
    num_repeated: int
    num_near: int
    findings: tuple[Finding, ...]
    audit: tuple[dict[str, Any], ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether no error stands."""
        return not any(one.level == "error" for one in self.findings)


@dataclass
class _Look:
    """The first look at a chunk."""

    first: First
    forms: Counter[str]
    broken: Tallies
    halves: Tallies
    answers: answers.Answers
    template: Tallies
    held_out: Tallies
    lengths: NDArray[np.int32]
    num_masked: int
    num_rows: int


def check(source: Source, settings: Settings, tell: Tell = lambda _: None) -> Checked:
    """Check all rows of a source.

    Raises:
        InvalidInput: The file cannot be read at all, or holds nothing; or there is no such base.
    """
    tokenizer = masks.tokenizer_of(settings.base, settings.base_dir) if settings.base is not None else None
    limit = _limit(settings)
    workers = num_workers(source.num_bytes)
    columns, sample, seen, parts = Columns(), Sample(), answers.Answers(), list[NDArray[np.int32]]()
    forms, broken, halves, template, held_out = Counter[str](), Tallies(), Tallies(), Tallies(), Tallies()
    num_masked, num_rows = 0, 0
    tasks = ((chunk, sample.below) for chunk in source.chunks())
    for look in each(partial(_look, settings=settings), tasks, workers):
        columns.add(look.first)
        sample.add(look.first.sample)
        forms.update(look.forms)
        broken.merge(look.broken)
        halves.merge(look.halves)
        seen.merge(look.answers)
        template.merge(look.template)
        held_out.merge(look.held_out)
        parts.append(look.lengths)
        num_masked += look.num_masked
        num_rows += look.num_rows
        tell(f"reading rows, {num_rows:,}")
    if not num_rows:
        raise InvalidInput(Problem("DATA", f"{source.name} holds no rows", "one JSON object a line is needed"))
    lengths = np.concatenate(parts)
    found = [*_form_findings(forms, broken), *too_long(lengths, columns.numbers, limit, tokenizer is None)]
    found += [*held.findings(held_out), *_half_findings(halves, bool(settings.held_out))]
    if tokenizer is not None and settings.base is not None:
        found += masks.findings(template, tokenizer, settings.base.path)
    gendered, near = _second(source, settings, columns, sample.common(), workers, tell)
    found += answers.findings(seen, gendered, settings.schema is not None)
    repeated, repeats = _repeats(columns, 2 * forms["preference pairs"] > forms.total())
    found += [*repeats, *near]
    audit: tuple[dict[str, Any], ...] = ()
    if forms["preference pairs"]:
        tell("comparing pairs")
        more, audit = _pairs(source, partial(_num_tokens, tokenizer) if tokenizer is not None else None)
        found += more
    return Checked(
        source=source.name,
        forms={form: forms[form] for form in FORMS if forms[form]},
        num_rows=num_rows,
        num_usable=len(columns),
        base=settings.base.path if settings.base is not None else None,
        max_tokens=limit,
        lengths=lengths_of(lengths, columns.numbers, tokenizer is None),
        num_json=seen.num_json,
        num_masked=num_masked,
        num_repeated=repeated,
        num_near=near[0].count if near else 0,
        findings=tuple(ordered(found)),
        audit=audit,
    )


def _limit(settings: Settings) -> int | None:
    """The most tokens of a row: what was given, and what the base can read."""
    folder = bases.locate(settings.base, settings.base_dir) if settings.base is not None else None
    context = bases.context(folder) if folder is not None else None
    return min((one for one in (settings.max_tokens, context) if one is not None), default=None)


def _look(task: tuple[Chunk, int], settings: Settings) -> _Look:
    chunk, below = task
    forms, broken, halves = Counter[str](), Tallies(), Tallies()
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, row in chunk.rows():
        if isinstance(row, Problem):
            what = _general(row.rule.partition(" near ")[0] + row.hint)
            broken.add(what, number, _words(row.rule, row.hint))
            continue
        form = form_of(row)
        if form is not None:
            forms[form] += 1
        if form == "preference pairs" and is_half(row):
            halves.add(HALF, number)
            continue
        try:
            rows.append((number, common_form(row)))
        except ValueError as error:
            if form != "preference pairs":  # those are told where pairs are held against each other
                broken.add(_general(str(error)), number, _words(str(error), getattr(error, "hint", "")))
    tokenizer = masks.tokenizer_of(settings.base, settings.base_dir) if settings.base is not None else None
    template, first = Tallies(), look_at(rows, [], Fields(), below)
    conversations = [(number, row["messages"]) for number, row in rows]
    lengths = masks.lengths(conversations, tokenizer, template)
    others = [(place, row) for place, (_, row) in enumerate(rows) if "rejected" in row]
    rejected = [(rows[place][0], _rejected(row)) for place, row in others]
    for (place, _), length in zip(others, masks.lengths(rejected, tokenizer, template), strict=True):
        lengths[place] = max(lengths[place], length)
    num_masked = 0
    if tokenizer is not None:
        for (number, row), prompt in zip(rows, first.prompts.tolist(), strict=True):
            messages = row["messages"]
            written = [*messages, _rejected(row)[-1]] if "rejected" in row else messages
            masks.look_for_special(written, number, tokenizer, template)
            if prompt < below:
                masks.look_at(messages, number, tokenizer, template)
                num_masked += 1
    return _Look(
        first=first,
        forms=forms,
        broken=broken,
        halves=halves,
        answers=answers.look_at(rows, settings.schema),
        template=template,
        held_out=held.look_at(rows, settings.held_out),
        lengths=np.array(lengths, np.int32),
        num_masked=num_masked,
        num_rows=len(chunk),
    )


def form_of(row: Any) -> Form | None:
    """How a row is written; None where it is no row at all."""
    if not isinstance(row, dict):
        return None
    if is_pair(row):
        return "preference pairs"
    if "messages" in row:
        return "chat"
    return "prompt and completion" if {"prompt", "question"} & row.keys() else None


def _num_tokens(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _rejected(row: dict[str, Any]) -> list[dict[str, str]]:
    return [*row["messages"][:-1], {"role": "assistant", "content": row["rejected"]}]


def _general(rule: str) -> str:
    """A rule without what is a row's own, so that like rows are told together."""
    return re.sub(r"\d+", "0", re.sub(r"'[^']*'", "''", rule))


def _words(rule: str, hint: str) -> str:
    return f"{rule} ({hint})" if hint else rule


def _form_findings(forms: Counter[str], broken: Tallies) -> Iterator[Finding]:
    for key in broken:
        hint = "mend these rows, or leave them out"
        yield from broken.finding(key, "error", "form", "{example}", hint)
    there = [form for form in FORMS if forms[form]]
    if len(there) > 1:
        told = " and ".join(f"{forms[form]:,} of the form {form}" for form in there)
        rare = min(there, key=lambda form: forms[form])
        rule = f"the file mixes rows of several forms: {told}"
        yield Finding("error", "mixed forms", forms[rare], (), rule, "write them to files of their own")


def _half_findings(halves: Tallies, is_held_out: bool) -> list[Finding]:
    """Rows that are half of a pair; an error where they were to be held against prompts that are held out."""
    rule = (
        "half of a preference pair: held against the rules of pairs alone; its length, answer, template, the prompts "
    )
    rule += "that are nearly the same and those that are held out were not looked at"
    return halves.finding(
        HALF, "error" if is_held_out else "warning", HALF, rule, "put both into one row's responses, and check again"
    )


def _again(chunk: Chunk, common: Hashes, rows_of_band: int = BAND_ROWS) -> tuple[Second, Tallies]:
    rows = list(usable_rows(chunk))
    return look_again(rows, common, None, rows_of_band), answers.genders(rows, common)


def usable_rows(chunk: Chunk) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a chunk that the first look took down."""
    for number, row in chunk.rows():
        if isinstance(row, Problem) or (isinstance(row, dict) and is_pair(row) and is_half(row)):
            continue
        try:
            yield number, common_form(row)
        except ValueError:
            pass


def _second(
    source: Source, settings: Settings, columns: Columns, common: Hashes, workers: int, tell: Tell
) -> tuple[Tallies, list[Finding]]:
    """Genders that no prompt states, and prompts that are nearly the same."""
    gendered, seen = Tallies(), 0
    with tempfile.TemporaryDirectory(prefix="podium-check-") as scratch:
        store = Store(Path(scratch))
        again = partial(_again, common=common, rows_of_band=band_rows(settings.threshold))
        for found, tallies in each(again, source.chunks(), workers):
            columns.add_second(found)
            store.add(found.signatures, found.bands)
            gendered.merge(tallies)
            seen += found.templates.size
            tell(f"signing prompts, {seen:,} of {len(columns):,}")
        # Pairs of one prompt are no news; those of one conversation are.
        same = {"prompt": columns.exact_links()["prompt"]}
        near = near_links(columns, store.read(), same, settings.threshold - MARGIN, Compared(), tell)
    is_measured = near[0].size <= MOST_ACROSS
    if is_measured:
        tell("comparing prompts word for word")
        alike = np.array(word_for_word(source, columns, *near, common)) >= settings.threshold
        near = near[0][alike], near[1][alike]
    if not near[0].size:
        return gendered, []
    labels = components(len(columns), {"near": near})
    sizes = np.bincount(labels)
    members = np.flatnonzero(sizes[labels] > 1)
    lines = tuple(int(columns.numbers[place]) for place in members[:5])
    rule = (
        f"{members.size:,} prompts are nearly the same as another (similarity {settings.threshold:g} or more of what "
        f"is their own{'' if is_measured else ', estimated'}), the most alike group has {int(sizes.max()):,}"
    )
    hint = "`podium data split` keeps them on one side; a split by prompts alone would not"
    return gendered, [Finding("warning", "near-duplicates", int(members.size), lines, rule, hint)]


def _repeats(columns: Columns, are_pairs: bool) -> tuple[int, list[Finding]]:
    """Rows that are there already, and prompts that have several answers."""
    found: list[Finding] = []
    _, first = np.unique(columns.rows, return_index=True)
    is_repeated = np.ones(len(columns), np.bool_)
    is_repeated[first] = False
    repeated = np.flatnonzero(is_repeated)
    if repeated.size:
        lines = tuple(int(columns.numbers[place]) for place in repeated[:5])
        rule = "the row is there already, answer and all"
        found.append(Finding("warning", "duplicates", int(repeated.size), lines, rule, "leave it out: it counts twice"))
    once = np.sort(first)
    _, inverse, counts = np.unique(columns.prompts[once], return_inverse=True, return_counts=True)
    several = once[counts[inverse] > 1]
    if several.size and not are_pairs:
        lines = tuple(int(columns.numbers[place]) for place in several[:5])
        rule = "the prompt has another answer elsewhere"
        hint = "keep one of them, unless both are right: the model learns neither well"
        found.append(Finding("warning", "contradictions", int(several.size), lines, rule, hint))
    return int(repeated.size), found


def _pairs(
    source: Source, count_tokens: Callable[[str], int] | None
) -> tuple[list[Finding], tuple[dict[str, Any], ...]]:
    """What the checker of preference pairs says, in this one's terms."""
    from recipes.data.pair_audit import check_pairs

    rows = ((number, row) for number, row in source.rows() if is_pair(row))
    seen = check_pairs(rows, count_tokens=count_tokens, max_problems=MAX_BROKEN)
    broken = Tallies()
    for problem in seen.problems:
        broken.add(_general(problem.rule), problem.line or 0, _words(problem.rule, problem.hint))
    found = [one for key in broken for one in broken.finding(key, "error", "pairs", "{example}")]
    found += [Finding(one.level, f"pairs: {one.name}", seen.num_pairs, (), one.rule, one.hint) for one in seen.found]
    return found, tuple(one.to_dict() for one in seen.measured)
