"""Constant text after what differs: what is found, and that moving it loses nothing."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from recipes.commerce import task
from recipes.data.constant_text import Found, Message, find, move
from recipes.data.rows import to_chat

RULES = "Never recommend gift cards.\nKeep the gender of the conversation."
CLOSING = "Answer with JSON and with nothing else at all."


def words(text: str) -> int:
    return len(text.split())


def look(conversations: list[list[Message]], min_words: int = 3) -> Found:
    return find(conversations, words, min_words)


def chat(*turns: str) -> list[Message]:
    """Turns by the first letter of their role: "u:Hello"."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[turn[0]], "content": turn[2:]} for turn in turns]


def all_words(conversation: list[Message]) -> Counter[str]:
    return Counter(word for message in conversation for word in message["content"].split())


def test_the_demos_closing_instructions_are_found_whole() -> None:
    found = look([to_chat(row)["messages"] for row in task.rows(60)])
    [text] = found.texts
    assert (text.message, text.role, text.where, text.share) == (1, "user", "end", 1.0)
    assert text.text.strip() == task.CLOSING
    assert text.tokens == words(task.CLOSING)
    moved = move(to_chat(task.rows(1)[0])["messages"], found)
    assert moved[0]["content"] == task.SYSTEM_PROMPT
    assert moved[1]["content"].startswith(task.CLOSING + "\n### Conversation\nUser: ")
    assert moved[1]["content"].count(task.CLOSING) == 1


def test_lines_within_a_message_are_found_between_two_parts_that_differ() -> None:
    rows = [
        chat("s:Be brief.", f"u:Look at case {n}.\n{RULES}\nContext: {n * n}\n{CLOSING}", "a:ok") for n in range(20)
    ]
    found = look(rows)
    assert [(text.where, text.text.strip()) for text in found.texts] == [("within", RULES), ("end", CLOSING)]
    assert move(rows[3], found)[1]["content"] == f"{RULES}\n{CLOSING}\nLook at case 3.\nContext: 9"


def test_a_row_without_the_text_stays_as_it_is_and_lowers_the_share() -> None:
    rows = [chat(f"u:Question {n}?\n{CLOSING}", "a:ok") for n in range(19)]
    rows.append(chat("u:Just say something.", "a:ok"))
    found = look(rows)
    assert [(text.text.strip(), text.share) for text in found.texts] == [(CLOSING, 0.95)]
    assert move(rows[-1], found) == rows[-1]


def test_what_too_few_rows_have_is_not_constant() -> None:
    rows = [chat(f"u:Question {n}?" + f"\n{CLOSING}" * (n % 5 > 0), "a:ok") for n in range(20)]
    assert look(rows).texts == ()


def test_what_is_short_is_not_worth_the_change() -> None:
    rows = [chat(f"u:Question {n}?\n{CLOSING}", "a:ok") for n in range(20)]
    assert look(rows, words(CLOSING)).texts
    assert look(rows, words(CLOSING) + 1).texts == ()


def test_words_are_not_cut() -> None:
    rows = [chat(f"u:Find {word}ing shoes for my brother please", "a:ok") for word in ("walk", "runn", "hik", "climb")]
    [text] = look(rows).texts
    assert text.text.strip() == "shoes for my brother please"


def test_text_that_stands_first_is_shared_already() -> None:
    assert look([chat(f"s:{RULES}", f"u:{CLOSING} {n}", "a:ok") for n in range(20)]).texts == ()
    same = look([chat(f"u:{RULES}", "a:ok")] * 20)
    assert same == Found(None, ())
    assert move(chat("u:Hello", "a:ok"), same) == chat("u:Hello", "a:ok")


def test_text_at_the_start_of_a_later_message_stands_after_what_differs() -> None:
    rows = [chat(f"s:For shop {n}.", f"u:{RULES}\nQuestion {n * 7}", "a:ok") for n in range(20)]
    found = look(rows)
    assert [(text.message, text.where) for text in found.texts] == [(1, "start")]
    assert move(rows[2], found) == chat(f"s:{RULES}\nFor shop 2.", "u:Question 14", "a:ok")


def test_a_whole_message_is_moved_but_not_from_between_two_answers() -> None:
    rows = [chat(f"u:Document {n}", f"u:{RULES}", "a:ok") for n in range(20)]
    found = look(rows)
    assert [text.where for text in found.texts] == ["whole"]
    assert move(rows[5], found) == chat(f"u:{RULES}\nDocument 5", "a:ok")
    assert look([chat(f"u:Document {n}", "a:Yes?", f"u:{RULES}", "a:ok") for n in range(20)]).texts == ()
    alike = chat("u:Other document", "a:Yes?", f"u:{RULES}", "a:ok")
    assert move(alike, found) == alike, "built otherwise than those that it was found in"


def test_what_the_assistant_said_is_never_moved() -> None:
    said = "I can help you with that, of course."
    rows = [chat(f"u:Question {n}", f"a:{said}", f"u:And {n * 7}?", "a:ok") for n in range(20)]
    assert look(rows).texts == ()


def test_conversations_of_unequal_length_are_compared_at_their_last_message() -> None:
    turns = [[f"u:{n} and {turn}" if turn % 2 == 0 else f"a:{n}" for turn in range(n % 3 * 2)] for n in range(30)]
    rows = [chat("s:Be brief.", *before, f"u:Case {n}.\n{CLOSING}", "a:ok") for n, before in enumerate(turns)]
    found = look(rows)
    assert found.front == 1, "the first message that not all have"
    assert [(text.message, text.where) for text in found.texts] == [(-2, "end")]
    for row in rows:
        moved = move(row, found)
        assert moved[1]["content"].startswith(f"{CLOSING}\n")
        assert all_words(moved) == all_words(row)


def test_a_row_that_is_shorter_than_those_that_were_looked_at_stays() -> None:
    found = look([chat("s:Be brief.", f"u:{n}", f"u:{n * 7}\n{CLOSING}", "a:ok") for n in range(20)])
    assert [text.message for text in found.texts] == [2]
    short = chat(f"u:7\n{CLOSING}", "a:ok")
    assert move(short, found) == short


TEXTS = st.lists(st.sampled_from(["a", "b", "ab", "\n", " ", "\n\n"]), max_size=6).map("".join)


@st.composite
def conversation_lists(draw: st.DrawFn) -> list[list[Message]]:
    """Conversations over few texts, so that much of them is the same."""
    shared = draw(st.lists(st.tuples(st.sampled_from("su"), TEXTS, TEXTS), min_size=1, max_size=3))
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        turns = [f"{role}:{start}{draw(TEXTS)}{end}" for role, start, end in shared]
        if draw(st.booleans()):
            turns.insert(draw(st.integers(0, len(turns))), "a:" + draw(TEXTS))
        rows.append(chat(*(turn if turn[2:].strip() else f"{turn}x" for turn in turns), "a:the answer"))
    return rows


@given(conversation_lists())
def test_moving_keeps_every_word_and_every_answer(rows: list[list[Message]]) -> None:
    found = look(rows, 1)
    for row in rows:
        moved = move(row, found)
        assert all_words(moved) == all_words(row)
        answers = [[message for message in messages if message["role"] == "assistant"] for messages in (row, moved)]
        assert answers[0] == answers[1]
        assert all(message["content"] for message in moved)
        roles = "".join(message["role"][0] for message in moved)
        assert "aa" not in roles or "aa" in "".join(message["role"][0] for message in row)


VARIED = st.lists(st.from_regex(r"[0-9]{1,6}", fullmatch=True), min_size=12, max_size=12, unique=True)


@given(VARIED, VARIED, st.booleans(), st.booleans())
def test_what_was_put_in_is_found_and_then_there_is_nothing_more(
    first: list[str], second: list[str], within: bool, end: bool
) -> None:
    # Numbers begin and end differently enough: their last digits may agree, their words do not.
    rows = [
        chat(
            "s:Be brief.", f"u:Case {one}." + f"\n{RULES}" * within + f"\nAmount {two}." + f"\n{CLOSING}" * end, "a:ok"
        )
        for one, two in zip(first, second, strict=True)
    ]
    found = look(rows, 5)
    assert [text.text.strip() for text in found.texts] == [RULES] * within + [CLOSING] * end
    assert look([move(row, found) for row in rows], 5).texts == ()
