"""What a sentence claims: percentages, ratios and limits in running text, and which rules they break.

A page of ours is made of typed claims, and :mod:`analysis.claims.page` holds it to them. Text that people wrote is read
here by its words, sentence by sentence. That is cruder: it knows a baseline by ``against``, ``over``, ``than`` and
the like, data by ``on``, n by ``n =`` or a count of items. A percentage that is a part of a whole (``27 % of the
rows``) has no baseline and is left alone, as are levels of confidence (``95 % interval``), code, and what is quoted.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from analysis.claims.rules import Rule, Violation

_NUMBER = r"\d[\d,]*(?:\.\d+)?"
PERCENT = re.compile(rf"(?<![\w.,])(?P<sign>[+−-]\s?)?(?P<value>{_NUMBER})\s?(?:\\?%|per\s?cent\b(?!age))")
LEVEL = re.compile(
    rf"{_NUMBER}\s?%[-\s]+(?:(?:(?:one|two)-sided|lower|upper)\s+)*(?:confidence|credible|interval|bound|level|CI\b)"
    rf"|confidence\s+(?:level\s+)?of\s+{_NUMBER}\s?%"
)
RATIO = re.compile(
    rf"(?:\b(?:{_NUMBER}\s?(?:times|×|x)|twice|thrice|half|(?:two|three|four|five|ten)\s+times)\s+"
    r"(?:as\s+\w+|faster|slower|fewer|more\b(?!\s+than)|less|lower|higher|cheaper|shorter|smaller|larger|better|worse"
    r"|the\s+(?:speed|cost|latency|price|time|quality|score))|\b(?:halv|doubl|tripl)(?:e[sd]|ing)\s+(?:the|its|our))\b",
    re.IGNORECASE,
)
_SECONDS = rf"(?P<bound>{_NUMBER})[-\s]?(?P<unit>s|ms|seconds?|milliseconds?)\b"
LIMIT = re.compile(
    rf"(?:\b(?:below|under|less than|faster than|at most)\s+|\bsub-?\s?|[<≤]\s?){_SECONDS}", re.IGNORECASE
)
HOLE = "\ue000"  # where a claim stood that was checked already

_ABSOLUTE = re.compile(_SECONDS.replace("bound", "value"))
_REQUIRED = re.compile(r"\b(?:must|should|has to|have to|subject to|aims?)\b", re.IGNORECASE)
_DENIED = re.compile(r"\b(?:not|never|no longer)\s+(?:\w+\s+){0,2}$|n['’]t\s+(?:\w+\s+){0,2}$", re.IGNORECASE)

_UP = r"(?:up(?!\s+to)|increas\w*|rise\w*|rose|grew|grown|growth|higher|gain(?:s|ed)?)"
_DOWN = r"(?:down|decreas\w*|reduc\w*|fell|falls?|fallen|dropp?\w*|declin\w*|lower|cheaper|shorter|cut)"
_EITHER = r"(?:improv\w*|degrad\w*|better|worse|faster|slower|fewer|less|more|smaller|larger|sav(?:es?|ed|ings?))"
_BEFORE = re.compile(rf"\b(?:by|{_UP}|{_DOWN}|improv\w*|degrad\w*|saves?|saved)\b[^.;,%]{{0,40}}$", re.IGNORECASE)
_AFTER = re.compile(rf"^\s*(?!or\b)(?:[\w-]+\s+){{0,2}}?(?:{_UP}|{_DOWN}|{_EITHER})\b", re.IGNORECASE)
_COSTS = re.compile(r"\b(?:latenc\w*|costs?|prices?|loss|time|seconds)\b", re.IGNORECASE)
_PRAISE = re.compile(r"\b(?:improv\w*|better|good|faster|reduc\w*|sav\w*|efficien\w*)\b", re.IGNORECASE)

_AGAINST = r"(?:against|versus|vs\.?|over|than|relative to|compared (?:with|to)|baseline)"
_BASELINE = re.compile(rf"\b{_AGAINST}\s|\bas\s+\w+\s+as\b|\bbaseline\b", re.IGNORECASE)
_NAMED = re.compile(
    rf"\b{_AGAINST}\s+(?:the\s+|our\s+|its\s+|an?\s+)?(?P<name>[\w+/-]+(?:\s(?!on\b|and\b|while\b|but\b|with\b|in\b)[\w+/-]+){{0,2}})",
    re.IGNORECASE,
)
_DATA = re.compile(r"\bon\s+(?!average\b|top\b|the other\b|its own\b|both\b|and\b)[\w“\"(]", re.IGNORECASE)
_ITEMS = (
    r"items|rows|requests|trials|runs|answers|prompts|samples|questions|conversations|examples|seeds|sweeps|repeats"
)
_N = re.compile(rf"\bn\s*=\s*\d|\b{_NUMBER}\s+(?:\w+\s+)?(?:{_ITEMS})\b(?!/)", re.IGNORECASE)
_OF_PERCENT = re.compile(
    rf"\d\s?%\s+of\s+(?:the|this|that|its|our)\s+(?:[+−-]?{_NUMBER}\s?%|improvement|reduction|gain|increase|decrease)"
)
_OLD, _NEW = rf"(?<![\w.,+−-])(?P<old>{_NUMBER})(?:\s?[a-zA-Z$]+)?\s*", rf"\s*(?P<new>{_NUMBER})(?![\d.]*e)"
_VALUES = (re.compile(rf"{_OLD}→{_NEW}"), re.compile(rf"\bfrom\s+{_OLD}\bto{_NEW}"))
_SENTENCE = re.compile(r"(?<=[.!?;])(?<!vs\.)(?<!e\.g\.)(?<!i\.e\.)\s+(?=[A-Z“\"(+−\ue000])")


@dataclass(frozen=True)
class Figure:
    """A percentage in a sentence.

    Attributes:
        start, end: Where it stands in the sentence.
        text: As it is written.
        sign: ``+``, ``-``, or empty.
        relative: Whether it says a change, by its sign or by the words around it; else it is a part of a whole.
    """

    start: int
    end: int
    text: str
    sign: str
    relative: bool


def rounded(text: str) -> tuple[float, float]:
    """The ends of the numbers that are written as ``text`` when they are rounded to its digits."""
    value = float(text.replace(",", ""))
    half = 0.5 * 10.0 ** -len(text.partition(".")[2])
    return value - half, value + half


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph."""
    return [part for part in _SENTENCE.split(re.sub(r"\s+", " ", text).strip()) if part]


def figures(sentence: str) -> list[Figure]:
    """The percentages of a sentence, without levels of confidence."""
    levels = [match.span() for match in LEVEL.finditer(sentence)]
    found = []
    for match in PERCENT.finditer(sentence):
        if any(low <= match.start() < high for low, high in levels):
            continue
        sign = (match["sign"] or "").strip().replace("−", "-")
        before, after = sentence[: match.start()], sentence[match.end() :]
        part = re.match(r"\s+of\b", after) is not None
        changes = _BEFORE.search(before) is not None or _AFTER.search(after) is not None
        found.append(Figure(match.start(), match.end(), match[0], sign, bool(sign) or (changes and not part)))
    return found


def loose(text: str) -> Iterator[str]:
    """Every percentage, ratio and limit of a text, quoted with what stands around it."""
    spans = [(figure.start, figure.end) for figure in figures(text)]
    spans += [match.span() for pattern in (RATIO, LIMIT) for match in pattern.finditer(text)]
    for start, end in sorted(spans):
        yield text[max(0, start - 40) : end + 20].strip()


def check_prose(text: str, context: str = "") -> list[Violation]:
    """The rules that a paragraph breaks.

    Args:
        text: The paragraph, or a table's cell.
        context: What also names baseline, data and n for it: a cell's headings, the sentence before a table.
    """
    found: list[Violation] = []
    for sentence in sentences(text):
        changes = [figure for figure in figures(sentence) if figure.relative]
        quotes = [*(figure.text for figure in changes), *(match[0] for match in RATIO.finditer(sentence))]
        around = f"{text} {context}"
        for rule, pattern, where in (
            (Rule.BASELINE, _BASELINE, f"{sentence} {context}"),
            (Rule.DATA, _DATA, around),
            (Rule.N, _N, around),
        ):
            if quotes and not pattern.search(where):
                found.append(Violation(rule, _quote(sentence, quotes[0])))
        found += [Violation(rule, quote) for rule, quote in contradictions(sentence)]
        found += [Violation(Rule.LIMIT, quote) for quote in broken_limits(sentence)]
        if len(names := baselines(sentence, changes)) > 1:
            found.append(
                Violation(Rule.MIXED, _quote(sentence, changes[0].text, 120) + f" [{', '.join(sorted(names))}]")
            )
    return found


def _quote(sentence: str, words: str, width: int = 80) -> str:
    """Words with what stands around them."""
    start = max(0, sentence.find(words) - width // 2)
    shown = sentence[start : start + width + len(words)].strip()
    return ("…" if start else "") + shown + ("…" if start + width + len(words) < len(sentence) else "")


def contradictions(sentence: str) -> list[tuple[Rule, str]]:
    """Where a sentence's words and figures contradict each other."""
    found = [(Rule.OF_PERCENT, match[0]) for match in _OF_PERCENT.finditer(sentence)]
    for figure in figures(sentence):
        if not figure.relative:
            continue
        before = re.split(r"[,;.]\s", sentence[: figure.start])[-1][-60:]
        after = re.split(r"[,;.(]", sentence[figure.end :])[0][:30]
        quote = (before + sentence[figure.start : figure.end] + after).strip()
        if (figure.sign == "+" and _says(_DOWN, before, after)) or (figure.sign == "-" and _says(_UP, before, after)):
            found.append((Rule.DIRECTION, quote))
        rises = not figure.sign and re.search(rf"\b{_UP}\b(?:\s+(?:of|by))?\s*$", before, re.IGNORECASE)
        if rises and _COSTS.search(before) and _PRAISE.search(sentence.replace(before, "")):
            found.append((Rule.DIRECTION, quote))
        next_percentage = PERCENT.search(sentence, figure.end)
        rest = sentence[figure.end : next_percentage.start() if next_percentage else len(sentence)]
        values = next((match for pattern in _VALUES if (match := pattern.search(rest))), None)
        if values and not _follows(figure, values["old"], values["new"]):
            found.append((Rule.ARITHMETIC, f"{figure.text}, {values[0].strip()}"))
    return found


def _says(words: str, before: str, after: str) -> bool:
    pattern = re.compile(rf"\b{words}\b", re.IGNORECASE)
    return bool(pattern.search(before) or re.match(rf"\s*(?:[\w-]+\s+)?{words}\b", after, re.IGNORECASE))


def _follows(figure: Figure, old: str, new: str) -> bool:
    """Whether a change can be that from ``old`` to ``new``, all three as they were rounded."""
    match = PERCENT.search(figure.text)
    assert match is not None
    (old_low, old_high), (new_low, new_high) = rounded(old), rounded(new)
    if old_low <= 0:
        return True  # too coarse to tell
    low, high = 100 * (new_low / old_high - 1), 100 * (new_high / old_low - 1)
    stated = [rounded(match["value"])]
    if figure.sign == "-":
        stated = [(-end, -start) for start, end in stated]
    elif not figure.sign:
        stated += [(-end, -start) for start, end in stated]
    return any(start <= high and low <= end for start, end in stated)


def broken_limits(sentence: str) -> list[str]:
    """Limits that a sentence claims to be kept without the figure, or with one that does not keep it."""
    found = []
    for match in LIMIT.finditer(sentence):
        if _REQUIRED.search(sentence) or _DENIED.search(sentence[: match.start()]):
            continue
        rest = sentence[: match.start()] + " " * len(match[0]) + sentence[match.end() :]
        values = [_in_seconds(value["value"], value["unit"]) for value in _ABSOLUTE.finditer(rest)]
        bound = _in_seconds(match["bound"], match["unit"])
        if not any(value < bound or ("at most" in match[0].lower() and value == bound) for value in values):
            found.append(_quote(sentence, match[0]))
    return found


def _in_seconds(number: str, unit: str) -> float:
    return float(number.replace(",", "")) / (1000 if unit.lower().startswith("m") else 1)


def baselines(sentence: str, changes: list[Figure]) -> set[str]:
    """What the changes of a sentence are against, each by the name that follows it, or else stands before it."""
    names = set()
    ends = [figure.start for figure in changes[1:]] + [len(sentence)]
    for figure, end in zip(changes, ends):
        match = _NAMED.search(sentence[figure.end : end]) or _NAMED.search(sentence[: figure.start])
        if match:
            names.add(match["name"].lower())
    return names
