"""Requests that come and go in one batch: each gets what it would have got alone."""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from recipes import generation
from recipes.serving.asking import End, Event, Failure, Piece, Question, Sampling
from recipes.serving.cache import Rows
from recipes.serving.choosing import SchemaError
from tests.recipes.serving.conftest import QUESTIONS, Place, conversation

LIMIT = 24
SCHEMA = {
    "type": "object",
    "properties": {"products": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"enum": ["hat", "lamp"]}}},
    "required": ["products"],
    "additionalProperties": False,
}


class Asked:
    """A question, and what has come back for it."""

    def __init__(self, models: Any, model: str, text: str, **sampling: Any) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        ids = models.tokenizer.apply_chat_template(
            conversation(text), add_generation_prompt=True, tokenize=True, return_dict=False
        )
        made = Sampling(**{"max_new_tokens": LIMIT, **sampling})
        self.question = Question(model, tuple(ids), made, self.events.put)

    def answer(self) -> str:
        text = ""
        while True:
            event = self.events.get(timeout=60)
            if isinstance(event, Failure):
                raise event.error
            text += event.text
            if isinstance(event, End):
                self.reason = event.reason
                return text


@contextmanager
def running(models: Any, **settings: int) -> Iterator[Any]:
    from recipes.serving.scheduler import Scheduler

    scheduler = Scheduler(models, **settings)
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.close()


def until(holds: Callable[[], bool], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(scheduler: Any, model: str, text: str, **sampling: Any) -> Asked:
    asked = Asked(scheduler.models, model, text, **sampling)
    scheduler.submit(asked.question)
    return asked


@pytest.mark.parametrize("max_rows", [1, 3, 16])
def test_every_model_answers_as_it_does_in_process(models: Any, place: Place, max_rows: int) -> None:
    """The same greedy tokens, whoever else is in the batch."""
    with running(models, max_rows=max_rows) as scheduler:
        asked = {(model, text): ask(scheduler, model, text) for text in QUESTIONS for model in models.names}
        answers = {key: one.answer().strip() for key, one in asked.items()}
    for name, adapter in place.served.items():
        alone = generation.load(str(place.base), place.settings, adapter, max_new_tokens=LIMIT, batch_size=1)
        expected = alone.answer([conversation(text) for text in QUESTIONS])
        assert [answers[name, text] for text in QUESTIONS] == expected
    assert len(set(answers.values())) > len(QUESTIONS), "the adapters change the answers"


def test_requests_join_a_batch_that_is_under_way_and_leave_it(models: Any) -> None:
    with running(models) as scheduler:
        alone = [ask(scheduler, "first", text).answer() for text in QUESTIONS]
    with running(models) as scheduler:
        asked = []
        for number, text in enumerate(QUESTIONS):
            one = ask(scheduler, "first", text, max_new_tokens=LIMIT - 3 * number)
            first = one.events.get(timeout=60)
            assert isinstance(first, Piece), "the first token is told as soon as it is there"
            asked.append((first.text, one))
        together = [first + one.answer() for first, one in asked]
    for whole, part in zip(alone, together, strict=True):
        assert part
        assert whole.startswith(part)


def test_what_prompts_begin_with_is_computed_once(models: Any) -> None:
    with running(models) as scheduler:
        first, second, other = (
            ask(scheduler, model, text)
            for model, text in (("first", "A hat."), ("first", "A lamp."), ("base", "A hat."))
        )
        for one in (first, second, other):
            one.answer()
    assert first.question.cached == 0
    assert len(second.question.ids) > second.question.cached > 20, "the instructions"
    assert other.question.cached == 0, "another model sees other keys"


def test_every_guided_answer_keeps_to_its_schema(models: Any) -> None:
    import jsonschema

    with running(models) as scheduler:
        free = ask(scheduler, "first", QUESTIONS[0])
        asked = [
            ask(scheduler, "first", text, schema=SCHEMA, temperature=temperature, seed=1, max_new_tokens=64)
            for text in QUESTIONS
            for temperature in (0.0, 1.5)
        ]
        for one in asked:
            jsonschema.validate(json.loads(one.answer()), SCHEMA)
            assert one.reason == "stop"
        with pytest.raises(ValueError, match="Expecting value"):
            json.loads(free.answer())


def test_a_seed_draws_the_same_tokens_whoever_is_beside_it(models: Any) -> None:
    def drawn(seed: int, **more: Any) -> str:
        return ask(scheduler, "first", QUESTIONS[1], temperature=1.0, seed=seed, **more).answer()

    with running(models) as scheduler:
        once, other = drawn(5), drawn(6)
        beside = [ask(scheduler, "first", text) for text in QUESTIONS]
        again = drawn(5)
        for one in beside:
            one.answer()
        greedy = ask(scheduler, "first", QUESTIONS[1]).answer()
        narrow = drawn(7, top_p=1e-6)
    assert once == again != other
    assert narrow == greedy, "the likeliest token alone has the share"


def test_answers_end_where_they_are_told_to(models: Any) -> None:
    with running(models) as scheduler:
        whole = ask(scheduler, "first", QUESTIONS[1]).answer()
        stop = whole[len(whole) // 2 :][:3]
        cut = ask(scheduler, "first", QUESTIONS[1], stop=(stop,))
        assert cut.answer() == whole[: whole.index(stop)]
        assert cut.reason == "stop"
        short = ask(scheduler, "first", QUESTIONS[1], max_new_tokens=1)
        assert whole.startswith(short.answer())
        assert (short.reason, short.question.num_tokens) == ("length", 1)


def test_load_tests_say_how_long_answers_are(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    likely = list(range(0, 2000, 2))  # so many ends that every answer is over at once
    monkeypatch.setattr(models, "ends", (models.tokenizer.eos_token_id, *likely))
    with running(models) as scheduler:
        free = ask(scheduler, "first", QUESTIONS[0])
        free.answer()
        least = ask(scheduler, "first", QUESTIONS[0], min_tokens=9)
        least.answer()
        all_of_it = ask(scheduler, "first", QUESTIONS[0], ignore_end=True)
        all_of_it.answer()
    assert free.question.num_tokens < 9 <= least.question.num_tokens
    assert (all_of_it.question.num_tokens, all_of_it.reason) == (LIMIT, "length")


def test_nothing_is_computed_for_whoever_went_away(models: Any) -> None:
    with running(models, max_rows=1) as scheduler:
        gone = ask(scheduler, "first", QUESTIONS[0], max_new_tokens=500, ignore_end=True)
        never = ask(scheduler, "first", QUESTIONS[1], max_new_tokens=500, ignore_end=True)
        gone.events.get(timeout=60)
        never.question.give_up()
        gone.question.give_up()
        ask(scheduler, "first", QUESTIONS[2]).answer()
        until(lambda: scheduler.load == (0, 0))
    assert gone.question.num_tokens < 500
    assert never.question.num_tokens == 0


def test_too_many_that_wait_are_refused(models: Any) -> None:
    from recipes.serving.scheduler import Busy

    with running(models, max_rows=1, max_waiting=1) as scheduler:
        first = ask(scheduler, "first", QUESTIONS[0], max_new_tokens=200, ignore_end=True)
        first.events.get(timeout=60)
        second = ask(scheduler, "first", QUESTIONS[1])
        with pytest.raises(Busy):
            ask(scheduler, "first", QUESTIONS[2])
        first.question.give_up()
        second.answer()


@pytest.mark.parametrize("num_tokens", [1, 3])
def test_who_has_heard_the_end_may_ask_again_at_once(models: Any, num_tokens: int) -> None:
    with running(models, max_rows=1, max_waiting=0) as scheduler:
        first, second = (Asked(models, "first", text, max_new_tokens=num_tokens) for text in QUESTIONS[:2])
        refused: list[Exception] = []

        def heard(event: Event) -> None:
            if isinstance(event, End):
                try:
                    scheduler.submit(second.question)
                except Exception as error:
                    refused.append(error)
            first.events.put(event)

        first.question.tell = heard
        scheduler.submit(first.question)
        first.answer()
        assert not refused
        second.answer()


def test_an_error_is_told_to_those_it_meets_and_the_others_are_answered(
    models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = models.network

    def out_of_memory(name: str) -> Any:
        if name == "second":
            raise MemoryError("no room for keys and values")
        return network(name)

    monkeypatch.setattr(models, "network", out_of_memory)
    with running(models) as scheduler:
        bad, good = ask(scheduler, "second", QUESTIONS[0]), ask(scheduler, "first", QUESTIONS[0])
        with pytest.raises(MemoryError):
            bad.answer()
        good.answer()
        assert scheduler.is_alive


def test_an_answer_that_its_schema_leads_nowhere_is_no_answer_and_the_others_go_on(models: Any) -> None:
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    with running(models) as scheduler:
        alone = ask(scheduler, "first", QUESTIONS[0]).answer()
        beside = ask(scheduler, "first", QUESTIONS[0])
        with pytest.raises(SchemaError):
            ask(scheduler, "first", QUESTIONS[1], schema=endless).answer()
        assert beside.answer() == alone


def test_keys_and_values_without_room_fail_the_new_answers_alone(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Rows.add

    def full(rows: Rows, new: Any) -> None:
        if rows.lengths:
            raise MemoryError("no room")
        add(rows, new)

    monkeypatch.setattr(Rows, "add", full)
    with running(models) as scheduler:
        first = ask(scheduler, "first", QUESTIONS[0], ignore_end=True)
        first.events.get(timeout=60)
        second = ask(scheduler, "first", QUESTIONS[1], ignore_end=True)
        with pytest.raises(MemoryError):
            second.answer()
        first.answer()
        assert first.question.num_tokens == LIMIT


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_scheduler_that_died_keeps_nobody_waiting(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise SystemExit

    with running(models) as scheduler:
        monkeypatch.setattr(scheduler, "_admitted", broken)  # of this one: others of the process serve other tests
        until(lambda: not scheduler.is_alive)
        with pytest.raises(RuntimeError, match="shutting down"):
            ask(scheduler, "first", QUESTIONS[0]).answer()


def test_whoever_waits_at_the_end_is_told(models: Any) -> None:
    with running(models, max_rows=1) as scheduler:
        asked = [ask(scheduler, "first", text, max_new_tokens=900, ignore_end=True) for text in QUESTIONS[:2]]
        asked[0].events.get(timeout=60)
        closing = threading.Thread(target=scheduler.close)
        closing.start()
        for one in asked:
            with pytest.raises(RuntimeError, match="shutting down"):
                one.answer()
        closing.join(10)
        assert not scheduler.is_alive
