"""Personal data are found by their form, replaced alike within a conversation, and never reach the network."""

import json
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.data import privacy
from recipes.data.privacy import Finder, Redactor
from sweeps.errors import InvalidInput


@pytest.fixture(scope="module")
def finder() -> Iterator[Finder]:
    """Made and used while every connection fails."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the network was reached for")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield Finder()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Write to anna.b@example.co.uk.", "Write to <EMAIL_1>."),
        ("Call +1 (415) 555-2671 or +44 20 7946 0958", "Call <PHONE_1> or <PHONE_2>"),
        ("My card is 4111 1111 1111 1111", "My card is <CARD_1>"),
        ("Pay to DE89 3704 0044 0532 0130 00 please", "Pay to <IBAN_1> please"),
        ("from 192.168.3.7 and 2001:db8::8a2e:370:7334", "from <IP_1> and <IP_2>"),
        ("device 00:1B:44:11:3A:B7", "device <MAC_1>"),
        ("Call 555‑867‑5309, 555—867—5309 or 555\u200b867\u200b5310", "Call <PHONE_1>, <PHONE_1> or <PHONE_2>"),
        ("my ssn is 536-22-8726", "my ssn is <SSN_1>"),
        ("send to 1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "send to <CRYPTO_1>"),
    ],
)
def test_what_has_a_form_is_found(finder: Finder, text: str, told: str) -> None:
    assert Redactor(finder).text(text, "user") == told


@pytest.mark.parametrize(
    "text",
    [
        "I ordered 2 tents of size 3 on 2024-05-01 for 149.99, order 12345678.",
        "A card with a wrong check digit: 4111 1111 1111 1112.",
        "Not an address: me@home, and an IBAN with a wrong check sum: DE00 3704 0044 0532 0130 00.",
        "",
    ],
)
def test_what_only_looks_like_it_stays(finder: Finder, text: str) -> None:
    assert Redactor(finder).text(text, "user") == text


def test_a_value_has_one_placeholder_throughout_a_conversation_however_it_is_written(finder: Finder) -> None:
    redactor = Redactor(finder)
    first = redactor.text("I am anna@example.com, call +1 415 555 2671.", "user")
    second = redactor.text("Anna@Example.com and bo@example.com: +1 (415) 555-2671?", "assistant")
    assert first == "I am <EMAIL_1>, call <PHONE_1>."
    assert second == "<EMAIL_1> and <EMAIL_2>: <PHONE_1>?"
    assert redactor.counts == {
        ("user", "EMAIL"): 1,
        ("user", "PHONE"): 1,
        ("assistant", "EMAIL"): 2,
        ("assistant", "PHONE"): 1,
    }
    assert Redactor(finder).text("bo@example.com", "user") == "<EMAIL_1>", "another conversation counts anew"


def test_json_stays_json(finder: Finder) -> None:
    text = '{"to": "anna@example.com", "phone": 4155552671, "order": 1234, "ok": true, "anna@example.com": [1.5, null]}'
    redacted = json.loads(Redactor(finder).text(text, "assistant"))
    assert redacted == {"to": "<EMAIL_1>", "phone": "<PHONE_1>", "order": 1234, "ok": True, "<EMAIL_1>": [1.5, None]}
    same = '{"order":  1234}'
    assert Redactor(finder).text(same, "assistant") == same, "not even its spaces change"


def test_different_values_have_different_placeholders(finder: Finder) -> None:
    text = "anna.b@example.com and annab@example.com, 10.0.0.11 and 10.0.01.1 and 100.0.1.1"
    told = Redactor(finder).text(text, "user")
    assert told.startswith("<EMAIL_1> and <EMAIL_2>, ")
    assert Redactor(finder).text("10.0.0.11, 100.0.1.1", "user") == "<IP_1>, <IP_2>"


def test_keys_with_the_same_placeholder_stay_two(finder: Finder) -> None:
    redacted = Redactor(finder).value({"anna@example.com": 1, "Anna@example.com": 2, "<EMAIL_1>": 3}, "user")
    assert redacted == {"<EMAIL_1>": 1, "<EMAIL_1> 2": 2, "<EMAIL_1> 3": 3}


def test_redacting_twice_is_redacting_once(finder: Finder) -> None:
    text = "anna@example.com, +1 415 555 2671, 4111 1111 1111 1111, 192.168.3.7"
    once = Redactor(finder).text(text, "user")
    assert Redactor(finder).text(once, "user") == once


PIECES = [
    "anna@example.com",
    "+14155552671",
    "415-555-2671",
    "4111111111111111",
    "4111 1111 1111 1111",
    "192.168.3.7",
    "::1",
    "fe80::1",
    "GB29NWBK60161331926819",
    "MT84MALT011000012345MTLCAST001S",
    "VG96VPVG0000012345678901",
    "00-1B-44-11-3A-B7",
    "001B.4411.3AB7",
    "AB-CD-EF-AB-CD-EF",
    "536-22-8726",
    "536 22 8726",
    "030 123456",
    "08001 1 1",
    "tent",
    "order 12",
    " ",
    "-",
    ".",
    "(",
    "§",
    "‑",
    "—",
    "−",
    "\u200b",
    "x",
    "867",
    "5",
]


@settings(max_examples=150)
@given(st.lists(st.sampled_from(PIECES), max_size=5).map("".join))
def test_what_is_not_looked_at_holds_nothing(finder: Finder, text: str) -> None:
    """Most texts are passed over at a glance; nothing that Presidio would find is among them."""
    if not privacy._MAY_HOLD.search(text):
        found = finder._engine.analyze(text, language="en", entities=list(finder._called), score_threshold=0.35)
        assert found == [], text


def test_other_kinds_can_be_asked_for_and_unknown_ones_are_told() -> None:
    found = Finder(["UK_NHS", "EMAIL"]).find("nhs number 401 023 2137, mail a@example.com")
    assert [span.kind for span in found] == ["UK_NHS", "EMAIL"]
    with pytest.raises(InvalidInput, match="--kinds: nothing finds 'EMIAL' \\(did you mean \"EMAIL\""):
        Finder(["EMIAL"])


def test_nothing_to_look_for_is_told() -> None:
    with pytest.raises(InvalidInput, match="--kinds: names nothing to look for"):
        Finder([])


def test_names_need_a_model_of_the_users() -> None:
    with pytest.raises(InvalidInput) as caught:
        Finder(names="en_core_web_gone")
    assert str(caught.value) == (
        "--names: no spaCy model is called 'en_core_web_gone' here "
        "(install one, or give its folder; nothing is downloaded)"
    )


def test_a_model_that_finds_names_is_used(tmp_path: Any) -> None:
    """A rule in the place of a trained model: the same pipe, under the name that trained ones have."""
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("entity_ruler", name="ner").add_patterns([{"label": "PERSON", "pattern": "Anna Berg"}])
    pipeline.to_disk(tmp_path / "model")
    finder = Finder(names=str(tmp_path / "model"))
    assert Redactor(finder).text("Anna Berg wrote: I am Anna Berg.", "user") == "<PERSON_1> wrote: I am <PERSON_1>."
    plain = spacy.blank("en")
    plain.to_disk(tmp_path / "plain")
    with pytest.raises(InvalidInput, match="finds no names: it has no ner"):
        Finder(names=str(tmp_path / "plain"))


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(InvalidInput) as caught:
        Finder()
    assert str(caught.value) == (
        "podium[privacy]: personal data are found by Presidio, which is not installed (presidio_analyzer is missing) "
        "(pip install 'podium[privacy]', or --no-redact where there are none)"
    )
