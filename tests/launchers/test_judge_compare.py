"""``podium judge compare``: what it prints and keeps, what it pays for, and what it refuses."""

import csv
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.launchers.forked import Forks
from tests.tracking.meters.judge.answered import answered_sweep, settings
from tests.tracking.meters.judge.serving import Endpoint, Reply, completion
from tests.tracking.meters.judge.test_pairwise import longer, shown

WORDS = ["one", "two", "six", "ten"] * 3
ANSWERS = {
    ("t-a", "challenge"): [f"{word}!!" for word in WORDS],
    ("t-b", "challenge"): [f"{word}!" for word in WORDS],
    ("base", "challenge"): WORDS,
    ("t-a", "dev"): WORDS,
    ("t-b", "dev"): WORDS,
    ("t-c", "dev"): WORDS,
}
DECIDED = (["t-a", "t-b"], ["base"])


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks")) as running:
        yield running


@pytest.fixture
def serve() -> Iterator[Callable[[Reply], Endpoint]]:
    made: list[Endpoint] = []

    def start(reply: Reply) -> Endpoint:
        made.append(Endpoint(reply))
        return made[-1]

    yield start
    for endpoint in made:
        endpoint.close()


def judging(reply: Reply) -> Reply:
    """A reply to comparisons; probes are answered by the server itself."""
    return lambda body: reply(body) if "outputs: " in body["messages"][-1]["content"] else completion("")


def test_the_arms_of_the_decision(forks: Forks, serve: Callable[[Reply], Endpoint], tmp_path: Path) -> None:
    endpoint = serve(judging(longer))
    folder = answered_sweep(tmp_path, settings(endpoint.url), ANSWERS, DECIDED).folder
    ledger = (folder / "ledger.jsonl").read_bytes()
    run = forks.podium(tmp_path, "judge", "compare", "-o", "json")
    assert run.returncode == 0, run.stderr
    content = json.loads(run.stdout)
    assert content == json.loads((folder / "pairwise.json").read_text())
    assert [one["arm"] for one in content["arms"]] == ["t-a", "t-b", "base"]
    assert (content["split"], content["n"], content["flip_rate"]) == ("challenge", 12, 0.0)
    assert content["judge"]["judges"][0]["model"] == "m"
    assert len(endpoint.requests) == 2 * 3 * 12
    assert (folder / "ledger.jsonl").read_bytes() == ledger
    for told in (
        "72 verdicts to ask for",
        "3 of 3: trial 1 and the base, 12 items …",
        "36 comparisons",
        "paid for now: 7,920 tokens, US$ 0.0216",
    ):
        assert told in run.stderr

    endpoint.close()  # whoever has every verdict asks nobody
    table = forks.podium(tmp_path, "judge", "compare", "shop")
    assert table.returncode == 0, table.stderr
    for word in ("trial 0", "the base", "first wins", "flip rate 0.00", "challenge set, 12 items"):
        assert word in table.stdout
    assert "every verdict is kept from before" in table.stderr
    assert "paid for now: 0 tokens, US$ 0.0000; US$ 0.0216 were paid before" in table.stderr
    rows = list(csv.DictReader(io.StringIO(forks.podium(tmp_path, "judge", "compare", "-o", "csv").stdout)))
    assert [row["arm"] for row in rows] == ["t-a", "t-b", "base"]
    assert [row["quality/win_rate"] for row in rows] == ["1.0", "1.0", ""]


def test_what_is_missing_is_counted(forks: Forks, serve: Callable[[Reply], Endpoint], tmp_path: Path) -> None:
    """One item's comparison never has a verdict: it is no tie, and the others count."""
    endpoint = serve(judging(lambda body: completion("Hm.") if shown(body)["first"] == "odd" else longer(body)))
    texts = ["odd", *("longer" for _ in range(11))]
    answers = {("t-a", "dev"): texts, ("base", "dev"): WORDS}
    answered_sweep(tmp_path, settings(endpoint.url), answers)
    run = forks.podium(tmp_path, "judge", "compare", "--arms", "0,base", "--split", "dev", "-o", "json")
    assert run.returncode == 0, run.stderr
    content = json.loads(run.stdout)
    [pair] = content["pairs"]
    assert (pair["wins"], pair["losses"], pair["ties"], pair["missing"]) == (11, 0, 0, 1)
    assert content["arms"][0]["quality/win_rate"]["n"] == 11
    assert "12 comparisons, 1 without a verdict (the first: the judge at" in run.stderr


def test_a_judge_that_goes_away_is_told_and_paid_verdicts_stay(
    forks: Forks, serve: Callable[[Reply], Endpoint], tmp_path: Path
) -> None:
    left, lock, gone = [20], threading.Lock(), threading.Event()

    def reply(body: dict[str, Any]) -> tuple[int, str]:
        with lock:
            left[0] -= 1
            if left[0] < 0 and not gone.is_set():
                return 503, "busy"
        return longer(body)

    endpoint = serve(judging(reply))
    folder = answered_sweep(tmp_path, settings(endpoint.url), ANSWERS, DECIDED).folder
    run = forks.podium(tmp_path, "judge", "compare")
    assert run.returncode == 5, run.stderr
    assert "503" in run.stderr
    assert run.stdout == ""
    assert not (folder / "pairwise.json").exists()
    gone.set()
    endpoint.requests.clear()
    again = forks.podium(tmp_path, "judge", "compare", "-o", "json")
    assert again.returncode == 0, again.stderr
    assert len(endpoint.requests) == 72 - 20
    assert "52 verdicts to ask for" in again.stderr


def test_a_judge_that_does_not_answer_at_all(forks: Forks, tmp_path: Path) -> None:
    answered_sweep(tmp_path, settings("http://127.0.0.1:9/v1"), ANSWERS, DECIDED)
    run = forks.podium(tmp_path, "judge", "compare")
    assert run.returncode == 5
    assert "the judge at http://127.0.0.1:9/v1/chat/completions does not answer" in run.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--arms", "0,bsae"), '--arms: no arm of shop is called "bsae" (did you mean "base"?)'),
        (("--arms", "0,t-a"), "two arms or more are compared, but got trial 0"),
        (("--arms", ","), "two arms or more are compared, but got none"),
        (
            ("--arms", "0,2"),
            "the run folder has no answers of trial 2 to the challenge set, and none are made for this "
            "(there are those of trial 0, trial 1, the base)",
        ),
        (("--split", "chalenge"), '--split: must be dev or challenge, but got "chalenge" (did you mean "challenge"?)'),
        (("shoop",), 'no sweep is called "shoop"'),
    ],
)
def test_what_is_refused(forks: Forks, tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    folder = answered_sweep(tmp_path, settings("http://127.0.0.1:9/v1"), ANSWERS, DECIDED).folder
    run = forks.podium(tmp_path, "judge", "compare", *options)
    assert run.returncode == 2, run.stderr
    assert told in run.stderr
    assert run.stdout == ""
    assert not (folder / "pairwise.json").exists()


def test_the_sealed_set_stays_sealed(forks: Forks, tmp_path: Path) -> None:
    answers = {key: texts for key, texts in ANSWERS.items() if key[1] == "dev"}
    answered_sweep(tmp_path, settings("http://127.0.0.1:9/v1"), answers)
    run = forks.podium(tmp_path, "judge", "compare", "--split", "challenge", "--arms", "0,1")
    assert run.returncode == 2
    assert "nobody has answered the challenge set yet" in run.stderr


def test_a_sweep_without_a_judge(forks: Forks, tmp_path: Path) -> None:
    answered_sweep(tmp_path, None, ANSWERS, DECIDED)
    run = forks.podium(tmp_path, "judge", "compare")
    assert run.returncode == 2
    assert "the sweep has no judge (describe one under evaluate.judge)" in run.stderr


def test_help_has_examples(forks: Forks, tmp_path: Path) -> None:
    run = forks.podium(tmp_path, "judge", "compare", "--help")
    assert run.returncode == 0
    assert "podium judge compare commerce-sft --arms 3,7,base,incumbent" in run.stdout
