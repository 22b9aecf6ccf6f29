"""Taking personal data out of texts: found by patterns and check digits, replaced by placeholders that stay the same.

Presidio's recognizers look for what has a form: e-mail addresses, phone and card numbers, IBANs, IP addresses and the
like. Names have none: for them a spaCy model is needed, which the user has and names. Nothing is downloaded: the
pipeline is spaCy's blank one, and top-level domains are looked up in the list that tldextract brings along.

Within a conversation the same value always has the same placeholder (``<EMAIL_1>``), so that an answer still refers to
what was said. What was found is counted and never kept.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sweeps.errors import InvalidInput, Problem, nearest

KINDS = {
    "EMAIL": "EMAIL_ADDRESS",
    "PHONE": "PHONE_NUMBER",
    "CARD": "CREDIT_CARD",
    "IBAN": "IBAN_CODE",
    "IP": "IP_ADDRESS",
    "MAC": "MAC_ADDRESS",
    "SSN": "US_SSN",
    "CRYPTO": "CRYPTO",
}
"""What is looked for unless something else is asked for: our name, which placeholders bear, and Presidio's."""

NAMES = {"PERSON": "PERSON", "PLACE": "LOCATION"}
"""What a spaCy model finds beside them."""

MIN_SCORE = 0.35  # of Presidio: a number in the form of a phone number without a word that says so has 0.4
# Without any of these no pattern of ``KINDS`` can match: an @, six digits whatever few signs separate them (phone
# numbers are found with every dash and with signs of no width, an x or a Japanese dash), four numbers with points
# between them, two signs around a colon, hexadecimal digits in pairs or fours, or a long word.
_MAY_HOLD = re.compile(
    r"@|(?:\d[\Wxー]{0,4}){6}|\d+\.\d+\.\d+\.\d|\w:\w|::|(?:[\da-f]{2}-){2}|[\da-f]{4}\.[\da-f]{4}|\w{15}", re.I
)
_SEPARATORS = re.compile(r"[^\w+]+")
_SEPARATED = ("PHONE", "CARD", "IBAN", "SSN")  # mean the same however they are separated
_BY_CASE = ("CRYPTO",)  # mean another in other letters
_EXTRA = "pip install 'podium[privacy]'"


@dataclass(frozen=True)
class Span:
    """A found value: ``text[start:end]``, of a kind as placeholders name it."""

    start: int
    end: int
    kind: str


class Finder:
    """Finds personal data in texts. Remembers the latest texts: rows share their system prompt.

    Args:
        kinds: Of :data:`KINDS`, or Presidio's own names of others; all of ``KINDS`` by default.
        names: A spaCy model that finds names of people and places: an installed package, or a folder.
        min_score: How sure Presidio must be, 0 to 1.

    Raises:
        InvalidInput: The extra ``privacy`` is not installed, there is no such kind or none at all, or no such model.
    """

    def __init__(
        self, kinds: Sequence[str] | None = None, names: str | None = None, min_score: float = MIN_SCORE
    ) -> None:
        wanted = list(KINDS if kinds is None else kinds)
        if not wanted and names is None:
            raise InvalidInput(Problem("--kinds", "names nothing to look for", "EMAIL,PHONE, or --no-redact"))
        self._engine, self._called = _engine(wanted, names)
        self._all_by_pattern = names is None and set(wanted) <= set(KINDS)
        self._min_score = min_score
        self.find = lru_cache(maxsize=4096)(self._find)

    def _find(self, text: str) -> tuple[Span, ...]:
        """What is found, from left to right; where two overlap, the surer one, then the longer."""
        if self._all_by_pattern and not _MAY_HOLD.search(text):
            return ()
        found = self._engine.analyze(text, language="en", entities=list(self._called), score_threshold=self._min_score)
        spans: list[Span] = []
        for one in sorted(found, key=lambda one: (-one.score, one.start - one.end, one.start)):
            if all(one.end <= other.start or other.end <= one.start for other in spans):
                spans.append(Span(one.start, one.end, self._called[one.entity_type]))
        return tuple(sorted(spans, key=lambda span: span.start))


class Redactor:
    """Replaces what a finder finds, in the texts of one conversation.

    Attributes:
        counts: How often something was replaced, by field and kind.
    """

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._known: dict[tuple[str, str], str] = {}
        self.counts: Counter[tuple[str, str]] = Counter()

    def text(self, text: str, field: str) -> str:
        """A text with placeholders; a JSON object or list stays one."""
        if text.lstrip()[:1] in ("{", "["):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                return self._replace(text, field)
            before = self.counts.total()
            redacted = self.value(value, field)
            changed = self.counts.total() > before
            return json.dumps(redacted, ensure_ascii=False, separators=(",", ":")) if changed else text
        return self._replace(text, field)

    def value(self, value: Any, field: str) -> Any:
        """A JSON value with placeholders in its strings and keys; a number that is found becomes one."""
        if isinstance(value, str):
            return self._replace(value, field)
        if isinstance(value, dict):
            return self._object(value, field)
        if isinstance(value, list):
            return [self.value(inner, field) for inner in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            replaced = self._replace(json.dumps(value), field)
            return value if replaced == json.dumps(value) else replaced
        return value

    def _object(self, value: dict[str, Any], field: str) -> dict[str, Any]:
        """Two keys with the same placeholder stay two: the later one has a number beside it."""
        told: dict[str, Any] = {}
        for key, inner in value.items():
            name = replaced = self._replace(key, field)
            number = 1
            while name in told:
                number += 1
                name = f"{replaced} {number}"
            told[name] = self.value(inner, field)
        return told

    def _replace(self, text: str, field: str) -> str:
        parts, end = [], 0
        for span in self._finder.find(text):
            parts += [text[end : span.start], self._placeholder(text[span.start : span.end], span.kind)]
            end = span.end
            self.counts[field, span.kind] += 1
        return "".join([*parts, text[end:]])

    def _placeholder(self, value: str, kind: str) -> str:
        """The same for the same value, however it is written."""
        written = _SEPARATORS.sub("", value) if kind in _SEPARATED else value
        key = kind, written if kind in _BY_CASE else written.casefold()
        if key not in self._known:
            number = 1 + sum(other == kind for other, _ in self._known)
            self._known[key] = f"<{kind}_{number}>"
        return self._known[key]


def _engine(kinds: Sequence[str], names: str | None) -> tuple[Any, dict[str, str]]:
    """Presidio's analyzer with the recognizers for these kinds, and our names for what they find."""
    for logger in ("torchao", "torch.utils._pytree", "presidio-analyzer"):  # it loads whatever could find names
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        import presidio_analyzer
        import spacy
        import tldextract
    except ImportError as error:
        rule = f"personal data are found by Presidio, which is not installed ({error.name} is missing)"
        raise InvalidInput(Problem("podium[privacy]", rule, f"{_EXTRA}, or --no-redact where there are none")) from None
    # Its default would fetch the list of suffixes from the network at the first e-mail address.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    pipeline = _pipeline(spacy, names)
    engine = presidio_analyzer.nlp_engine.SpacyNlpEngine()
    engine.nlp = {"en": pipeline}  # instead of load(), which would download one
    registry = presidio_analyzer.RecognizerRegistry(recognizers=[], supported_languages=["en"])
    called: dict[str, str] = {}
    for kind in dict.fromkeys(kinds):
        entity = KINDS.get(kind, kind)
        registry.add_recognizer(_recognizer(entity, kind))
        called[entity] = kind
    if names is not None:
        registry.add_recognizer(
            presidio_analyzer.predefined_recognizers.SpacyRecognizer(supported_entities=list(NAMES.values()))
        )
        called |= {entity: kind for kind, entity in NAMES.items()}
    analyzer = presidio_analyzer.AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
    return analyzer, called


def _pipeline(spacy: Any, names: str | None) -> Any:
    if names is None:
        pipeline = spacy.blank("en")
    else:
        try:
            pipeline = spacy.load(names)
        except OSError:
            rule = f"no spaCy model is called {names!r} here"
            hint = "install one, or give its folder; nothing is downloaded"
            raise InvalidInput(Problem("--names", rule, hint)) from None
        if "ner" not in pipeline.pipe_names:
            raise InvalidInput(Problem("--names", f"the spaCy model {names!r} finds no names: it has no ner"))
    if "lemmatizer" not in pipeline.pipe_names:
        if not spacy.Language.has_factory("podium_lemmas"):
            spacy.Language.component("podium_lemmas", func=_lemmas)
        pipeline.add_pipe("podium_lemmas")
    return pipeline


def _lemmas(doc: Any) -> Any:
    """Each word as its own lemma: Presidio looks for words like "phone" around a number among the lemmas."""
    for token in doc:
        token.lemma_ = token.lower_
    return doc


def _recognizer(entity: str, kind: str) -> Any:
    from presidio_analyzer import PatternRecognizer, predefined_recognizers

    found: dict[str, Any] = {}
    for name, one in vars(predefined_recognizers).items():
        by_pattern = isinstance(one, type) and (issubclass(one, PatternRecognizer) or name == "PhoneRecognizer")
        if by_pattern and one is not PatternRecognizer:
            made = one(supported_language="en")
            found |= dict.fromkeys(made.supported_entities, made)
            if entity in found:
                return found[entity]
    valid = [*KINDS, *sorted(found.keys() - set(KINDS.values()))]
    raise InvalidInput(Problem("--kinds", f"nothing finds {kind!r}", nearest(kind, valid)))
