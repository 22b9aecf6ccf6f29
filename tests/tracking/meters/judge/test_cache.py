"""Verdicts that were paid for are paid for once: over runs, threads, processes, kills and damaged files."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import ServiceUnreachable
from tests.launchers.running import ROOT
from tests.tracking.meters.judge.serving import Endpoint, answer_in, verdict
from tests.tracking.meters.judge.test_rubric import ITEM, PRICE, RUBRIC, judge
from tracking.meters.judge import summary
from tracking.meters.metrics import Item
from tracking.meters.reply_cache import ReplyCache

EndpointOf = Callable[..., Endpoint]


def by_number(body: dict[str, Any]) -> tuple[int, str]:
    return verdict(int(json.loads(answer_in(body))) % 6)


def answers(n: int) -> list[str]:
    return [str(number) for number in range(n)]


def file_in(folder: Path) -> Path:
    [path] = folder.glob("rubric-*.jsonl")
    return path


def test_a_second_evaluation_asks_nobody(endpoint_of: EndpointOf, tmp_path: Path) -> None:
    endpoint = endpoint_of(by_number)
    first = judge(endpoint, tmp_path, price=PRICE).score_many([ITEM] * 6, answers(6))
    second = judge(endpoint, tmp_path, price=PRICE).score_many([ITEM] * 6, answers(6))
    assert len(endpoint.requests) == 6
    assert [one.score for one in second] == [one.score for one in first] == [0, 1, 2, 3, 4, 5]
    assert [one.reason for one in second] == [one.reason for one in first]
    assert all(one.cached and one.tokens_in == 100 for one in second)
    told = summary(second)
    assert (told["judge/usd"], told["judge/cached"]) == (0, 1.0)
    assert told["judge/usd_saved"] == summary(first)["judge/usd"] == pytest.approx(6 * 3e-4)


def test_equal_questions_are_asked_once(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(by_number)
    found = judge(endpoint).score_many([ITEM] * 4, ["1", "2", "1", "1"])
    assert [one.score for one in found] == [1, 2, 1, 1]
    assert [one.cached for one in found] == [False, False, True, True]
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize(
    ("changed", "asks"),
    [
        ({"model": "other"}, True),
        ({"revision": "2"}, True),
        ({"rubric": "Other words."}, True),
        ({"parameters": {"temperature": 0.0, "seed": 1}}, True),
        ({"timeout": 5.0}, False),
        ({"concurrency": 2}, False),
        ({"price": PRICE}, False),
    ],
)
def test_what_makes_another_verdict(
    endpoint_of: EndpointOf, tmp_path: Path, changed: dict[str, Any], asks: bool
) -> None:
    endpoint = endpoint_of(by_number)
    judge(endpoint, tmp_path).score_many([ITEM], ["1"])
    judge(endpoint, tmp_path, **changed).score_many([ITEM], ["1"])
    assert len(endpoint.requests) == 1 + asks


@pytest.mark.parametrize(
    "item",
    [
        Item("row-1", [{"role": "user", "content": "Boots, please."}], ITEM.reference),
        Item("row-1", ITEM.messages, "Another reference."),
    ],
)
def test_what_is_judged_counts_and_not_its_name(endpoint_of: EndpointOf, tmp_path: Path, item: Item) -> None:
    endpoint = endpoint_of(by_number)
    judge(endpoint, tmp_path).score_many([ITEM, Item("other", ITEM.messages, ITEM.reference)], ["1", "1"])
    assert len(endpoint.requests) == 1
    judge(endpoint, tmp_path).score_many([item], ["1"])
    assert len(endpoint.requests) == 2


def test_what_was_missing_is_asked_for_again(endpoint_of: EndpointOf, tmp_path: Path) -> None:
    replies = iter([verdict(9), verdict(9), verdict(4)])
    endpoint = endpoint_of(lambda body: next(replies))
    assert judge(endpoint, tmp_path).score_many([ITEM], ["x"])[0].score is None
    assert judge(endpoint, tmp_path).score_many([ITEM], ["x"])[0].score == 4.0


def test_paid_verdicts_outlive_a_failure(endpoint_of: EndpointOf, tmp_path: Path) -> None:
    """The endpoint is gone in the middle: what it said before is not asked for again."""
    gone = threading.Event()
    endpoint = endpoint_of(lambda body: (401, "no money") if gone.is_set() else by_number(body))
    patient = judge(endpoint, tmp_path, concurrency=1)
    patient.score_many([ITEM] * 4, answers(4))
    gone.set()
    with pytest.raises(ServiceUnreachable, match="no money"):
        patient.score_many([ITEM] * 20, answers(20))
    gone.clear()
    endpoint.requests.clear()
    found = judge(endpoint, tmp_path).score_many([ITEM] * 20, answers(20))
    assert [one.score for one in found] == [float(number % 6) for number in range(20)]
    assert len(endpoint.requests) == 16


def test_a_torn_end_costs_one_verdict(endpoint_of: EndpointOf, tmp_path: Path) -> None:
    endpoint = endpoint_of(by_number)
    judge(endpoint, tmp_path, concurrency=1).score_many([ITEM] * 4, answers(4))
    path = file_in(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    for _ in range(2):
        found = judge(endpoint, tmp_path).score_many([ITEM] * 4, answers(4))
        assert [one.score for one in found] == [0, 1, 2, 3]
        assert len(endpoint.requests) == 5


def test_a_file_torn_in_the_middle_costs_what_was_there_and_is_told_once(
    endpoint_of: EndpointOf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = endpoint_of(by_number)
    judge(endpoint, tmp_path, concurrency=1).score_many([ITEM] * 9, answers(9))
    path = file_in(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:30]  # its end is gone, with the end of the line
    lines[5] = b"\x00\xff not JSON\n"
    lines[7] = lines[7].replace(b'"value": 1', b'"value": 9')
    path.write_bytes(b"".join(lines))
    endpoint.requests.clear()
    with caplog.at_level(logging.WARNING):
        found = judge(endpoint, tmp_path).score_many([ITEM] * 9, answers(9))
    assert [one.score for one in found] == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert sorted(answer_in(request) for request in endpoint.requests) == ['"2"', '"5"', '"7"']
    assert [record.message for record in caplog.records if "cut short" in record.message] == [
        f"{path}: lines that were cut short are skipped, and their verdicts asked for again"
    ]


@given(cut=st.integers(0, 400), length=st.integers(1, 200))
def test_whatever_is_torn_out_costs_only_what_it_held(
    tmp_path_factory: pytest.TempPathFactory, cut: int, length: int
) -> None:
    path = tmp_path_factory.mktemp("torn") / "cache.jsonl"
    cache = ReplyCache(path)
    for number in range(8):
        cache.put(f"k{number}", {"value": number, "reason": f'says "{number}" {{"key": "k'})
    content = path.read_bytes()
    ends = [place for place, byte in enumerate(content) if byte == 10]
    starts = [0, *(end + 1 for end in ends[:-1])]
    path.write_bytes(content[:cut] + content[cut + length :])
    torn = ReplyCache(path)
    torn.put("new", {"value": 1})
    again = ReplyCache(path)
    assert again.get("new") == {"value": 1}
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        untouched = end < cut or start >= cut + length
        record = again.get(f"k{number}")
        assert record is None or record["value"] == number
        if untouched:
            assert record is not None, number


def test_a_disk_that_refuses_is_told_of_and_the_verdicts_count(
    endpoint_of: EndpointOf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    endpoint = endpoint_of(by_number)
    with caplog.at_level(logging.WARNING):
        found = judge(endpoint, tmp_path / "file" / "cache").score_many([ITEM] * 3, answers(3))
    assert [one.score for one in found] == [0, 1, 2]
    assert len([record for record in caplog.records if "cannot be kept" in record.message]) == 1


_SCORER = f"""
import sys
from pathlib import Path
from tracking.meters.judge import judge_of
from tracking.meters.metrics import Item
url, folder, start, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
judge = judge_of({{"model": "m", "endpoint": url, "rubric": {RUBRIC!r}, "concurrency": 2}}, folder)
item = Item("row-1", {ITEM.messages!r}, {ITEM.reference!r})
print([one.score for one in judge.score_many([item] * n, [str(start + number) for number in range(n)])])
"""


def scorer(endpoint: Endpoint, folder: Path, start: int, n: int) -> "subprocess.Popen[str]":
    arguments = (endpoint.url, str(folder), str(start), str(n))
    return subprocess.Popen([sys.executable, "-c", _SCORER, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_several_processes_share_a_file(endpoint_of: EndpointOf, tmp_path: Path) -> None:
    endpoint = endpoint_of(by_number)
    processes = [scorer(endpoint, tmp_path, start, 40) for start in (0, 20)]
    for process, start in zip(processes, (0, 20), strict=True):
        out, _ = process.communicate(timeout=120)
        assert json.loads(out) == [float((start + number) % 6) for number in range(40)]
    lines = file_in(tmp_path).read_text().splitlines()
    assert all(json.loads(line)["value"] in range(6) for line in lines)
    assert len({json.loads(line)["key"] for line in lines}) == 60
    endpoint.requests.clear()
    judge(endpoint, tmp_path).score_many([ITEM] * 60, answers(60))
    assert endpoint.requests == []


def test_an_evaluation_that_is_killed_pays_for_nothing_twice(endpoint_of: EndpointOf, tmp_path: Path) -> None:
    replied: list[str] = []
    lock = threading.Lock()

    def reply(body: dict[str, Any]) -> tuple[int, str]:
        with lock:
            replied.append(answer_in(body))
        time.sleep(0.05)
        return by_number(body)

    endpoint = endpoint_of(reply)
    process = scorer(endpoint, tmp_path, 0, 60)
    while len(replied) < 15:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = len(file_in(tmp_path).read_text().splitlines())
    assert kept >= 12
    before = len(replied)
    found = judge(endpoint, tmp_path).score_many([ITEM] * 60, answers(60))
    assert [one.score for one in found] == [float(number % 6) for number in range(60)]
    assert len(replied) - before == 60 - kept
    assert before - kept <= 2, "only what was under way is lost"
