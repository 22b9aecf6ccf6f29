"""What runs in production as an arm of a sweep: served over HTTP, an adapter, a model; refused, gone, killed."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.champion import choose
from analysis.comparison import baseline, comparison
from launchers.incumbent import find
from recipes.bases import BUILTIN
from recipes.schema import Base
from sweeps.errors import InvalidInput
from sweeps.evaluating import Incumbent
from tests.chaos.kills import kill, processes_of, wait_until
from tests.launchers.running import ROOT, Finished, command, environment, podium
from tests.production import Production, question, said
from tests.recipes.tiny import make_adapter, make_base
from tests.storage import BUCKET, Server
from tracking.ledger import SweepState, read

PROPOSAL = '{"categories": []}'


@pytest.fixture
def home(finished: Finished, tmp_path: Path) -> Iterator[Path]:
    """The home of a finished sweep, to go on with; whatever still works for it at the end is ended."""
    shutil.copytree(finished.home, tmp_path / "home")
    yield tmp_path / "home"
    for pid in processes_of(tmp_path / "home"):
        kill(pid)


def submit(home: Path, incumbent: str, *more: str) -> subprocess.CompletedProcess[str]:
    """The finished sweep once more, with an incumbent: its trials stay."""
    yaml = home / "runs" / "small" / "spec.yaml"
    sweep = home.parent / "small.yaml"
    shutil.copy(yaml, sweep)
    return podium(home, "submit", str(sweep), f"evaluate.incumbent={{{incumbent}}}", *more)


def state_of(home: Path) -> SweepState:
    return read(home / "runs" / "small")


def items(state: SweepState, split: str) -> list[dict[str, Any]]:
    lines = (state.folder / "evaluations" / f"incumbent-{split}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def measured(state: SweepState) -> dict[str, Any]:
    return {evaluation.split: evaluation for evaluation in state.arms.get("incumbent", ())}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_served_incumbent_is_scored_and_timed_like_the_other_arms(home: Path) -> None:
    replies = iter([PROPOSAL, "I would take the blue one.", ""])
    texts: dict[str, str] = {}

    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        if question(body) not in texts:
            texts[question(body)] = next(replies, PROPOSAL)
        return said(texts[question(body)])

    with Production(reply) as server:
        incumbent = f"name: shop-7, endpoint: '{server.url}', model: shop, concurrency: 2"
        run = submit(home, incumbent, "evaluate.latency.requests=7")
        assert run.returncode == 0, run.stderr
        state = state_of(home)
        found = measured(state)
        assert set(found) == {"dev", "challenge", "latency"}
        assert [found[split].n for split in ("dev", "challenge", "latency")] == [8, 8, 7]
        assert found["latency"].metrics["latency/formulation_p50_s"] is not None
        assert "as a client on this machine sees it" in found["latency"].detail["over"]
        base = {evaluation.split: evaluation for evaluation in state.arms["base"]}
        for split in ("dev", "challenge"):
            assert found[split].detail["missing"] == {}
            assert found[split].detail["endpoint"]["served"] == {"model": "shop-1"}
            assert set(found[split].metrics) <= set(base[split].metrics)
        told = items(state, "dev")
        assert [item["id"] for item in told] == [item["id"] for item in _items_of(state, "base-dev")]
        assert {item["answer"] for item in told} >= {"I would take the blue one.", ""}, "prose is an answer, scored 0"
        for body in server.asked[1:]:
            assert (body["model"], body["temperature"], body["max_tokens"]) == ("shop", 0, 16)
        # One request to look, one for each item, one to warm up, and seven that are timed.
        assert [len(server.asked), len(set(server.questions))] == [2 + 8 + 8 + 1 + 7, 1 + 8 + 8]
        _shown_everywhere(home, state)
        before = (state.folder / "ledger.jsonl").read_bytes(), len(server.asked)
        again = submit(home, incumbent, "evaluate.latency.requests=7")
        assert "finished and unchanged" in again.stderr
        assert ((state.folder / "ledger.jsonl").read_bytes(), len(server.asked)) == before


def _items_of(state: SweepState, name: str) -> list[dict[str, Any]]:
    lines = (state.folder / "evaluations" / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _shown_everywhere(home: Path, state: SweepState) -> None:
    assert baseline(state) == "incumbent"
    rows = comparison(state, choose(state)).set_index("role")
    assert list(rows.index) == ["base", "base+schema", "incumbent", "default", "median", "champion"]
    assert rows.loc["incumbent", "label"] == "Incumbent, shop-7"
    assert rows.loc["incumbent", "n"] == 8
    compared = json.loads(podium(home, "compare", "-o", "json").stdout)
    assert compared["baseline"] == "incumbent"
    assert "incumbent" in {arm["role"] for arm in compared["arms"]}
    board = json.loads(podium(home, "leaderboard", "-o", "json").stdout)
    assert [(arm["arm"], arm["n"]) for arm in board["arms"]] == [("base", 8), ("incumbent", 8)]
    assert board["arms"][1]["latency/formulation_p50_s"] > 0
    assert "Incumbent, shop-7" in podium(home, "leaderboard").stdout
    proof = json.loads((state.folder / "champion.json").read_text())
    assert "incumbent" in {row["role"] for row in proof["comparison"]["challenge"]}
    assert "Incumbent, shop-7" in (state.folder / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_missing_answers_are_counted_and_too_many_are_no_measurement(home: Path) -> None:
    lost: set[str] = set()

    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        if not lost and len(server.asked) == 4:
            lost.add(question(body))
        return (400, "context length exceeded") if question(body) in lost else said(PROPOSAL)

    with Production(reply) as server:
        incumbent = f"endpoint: '{server.url}', model: shop, concurrency: 1"
        run = submit(home, incumbent, "evaluate.latency.top=0")
        assert run.returncode == 0, run.stderr
        assert "evaluating incumbent on dev failed: the incumbent at" in run.stderr
        assert "gave no answer to 1 of 8 items, more than 5 %: it answers 400 Bad Request: context length" in run.stderr
        state = state_of(home)
        assert state.champion is not None
        assert any("incumbent on dev failed" in note for note in state.notes)
        assert set(measured(state)) == {"challenge"}
        rows = comparison(state, choose(state), "dev").set_index("role")
        assert rows.loc["incumbent", "n"] == 0
        asked = Counter(server.questions)
        run = submit(home, incumbent, "evaluate.latency.top=0", "evaluate.max_missing=0.2")
        assert run.returncode == 0, run.stderr
        found = measured(state_of(home))["dev"]
        assert found.n == len(items(state, "dev")) == 7
        assert [why for why in found.detail["missing"].values() if "answers 400 Bad Request" in why]
        assert set(Counter(server.questions) - asked) - lost <= {"Hello.", *_unasked(state, asked)}


def _unasked(state: SweepState, asked: Counter[str]) -> set[str]:
    """The questions of dev that had not been asked when the arm was given up."""
    return {item["messages"][-1]["content"] for item in _items_of(state, "base-dev")} - set(asked)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_sweep_does_not_ask_again_for_what_it_has(home: Path) -> None:
    folder = home / "runs" / "small"
    with Production(lambda body: said(PROPOSAL)) as server:

        def hangs_at_last(body: dict[str, Any]) -> tuple[int, Any]:
            return server.hang(body) if len(server.asked) > 6 else said(PROPOSAL)

        server.reply = hangs_at_last
        sweep = home.parent / "small.yaml"
        shutil.copy(folder / "spec.yaml", sweep)
        incumbent = f"evaluate.incumbent={{endpoint: '{server.url}', model: shop, concurrency: 1}}"
        options = [incumbent, "evaluate.latency.top=0"]
        process = subprocess.Popen(
            command("submit", str(sweep), *options),
            cwd=ROOT,
            env=environment(home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: len(server.asked) > 6, 120, "seven requests")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        for pid in processes_of(home):
            kill(pid)
        server.reply = lambda body: said(PROPOSAL)
        hanging = server.questions[-1]
        time.sleep(0.5)
        run = podium(home, "resume", "small")
        assert run.returncode == 0, run.stderr
    assert {evaluation.n for evaluation in measured(state_of(home)).values()} == {8}
    counts = Counter(server.questions)
    assert counts.pop("Hello.") >= 3
    assert counts.pop(hanging) == 2, "the one without an answer is asked once more"
    assert set(counts.values()) == {1}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_one_that_is_gone_at_the_end_does_not_stop_the_sweep(home: Path) -> None:
    with Production(lambda body: said(PROPOSAL)) as server:
        server.reply = lambda body: said("Hi.") if len(server.asked) == 1 else (503, "closed")
        run = submit(home, f"endpoint: '{server.url}', model: shop, timeout: 1s", "evaluate.latency.top=0")
    assert run.returncode == 0, run.stderr
    assert "the incumbent is not measured: the incumbent at" in run.stderr
    state = state_of(home)
    assert state.champion is not None
    assert measured(state) == {}
    assert any("not measured" in note for note in state.notes)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_adapter_as_incumbent_scores_what_it_scored_as_a_trial(home: Path) -> None:
    before = state_of(home)
    bundle = Path(before.exports[0]["folder"])
    run = submit(home, f"adapter: '{bundle}'")
    assert run.returncode == 0, run.stderr
    state = state_of(home)
    assert before.champion is not None
    trial = state.trials[before.champion["champion"]]
    for split in ("dev", "challenge"):
        own = next(evaluation for evaluation in trial.evaluations if evaluation.split == split)
        assert measured(state)[split].metrics == own.metrics
    assert measured(state)["latency"].metrics["latency/formulation_p50_s"] is not None
    spent = Counter(entry.what for entry in state.costs if entry.trial == "incumbent")
    assert set(spent) == {"dev", "challenge", "latency"}, "what it took is its own"
    assert not any(entry.trial == "incumbent" for entry in before.costs)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_model_as_incumbent_with_a_prompt_of_its_own(home: Path) -> None:
    run = submit(home, f"model: '{BUILTIN['builtin:tiny_commerce']}'", "evaluate.latency.top=0")
    assert run.returncode == 0, run.stderr
    state = state_of(home)
    base, first = {evaluation.split: evaluation for evaluation in state.arms["base"]}, measured(state)
    assert first["dev"].metrics == base["dev"].metrics, "it is the base"
    run = submit(home, "model: 'builtin:tiny_commerce', prompt: {system: Sing.}", "evaluate.latency.top=0")
    assert run.returncode == 0, run.stderr
    state = state_of(home)
    assert "evaluate.incumbent.prompt" in run.stderr
    assert {one.id for one in measured(state).values()}.isdisjoint(one.id for one in first.values()), (
        "it is another one"
    )
    own, of_base = items(state, "dev"), _items_of(state, "base-dev")
    assert [item["messages"] for item in own] == [item["messages"] for item in of_base]
    assert [item["answer"] for item in own] != [item["answer"] for item in of_base]


def test_its_identity_is_its_content(tmp_path: Path) -> None:
    base, other = make_base(tmp_path / "base"), make_base(tmp_path / "other", seed=1)
    mine, theirs = make_adapter(base, tmp_path / "mine", 0), make_adapter(base, tmp_path / "theirs", 1)
    sweeps = Base(path=str(base), dtype="float32")

    def digest(**keys: Any) -> str:
        return find(Incumbent(**keys), sweeps, tmp_path, tmp_path / "cache", packed=True).digest

    shutil.copytree(mine, tmp_path / "moved")
    config = json.loads((mine / "adapter_config.json").read_text())
    shutil.copytree(mine, tmp_path / "scaled")
    (tmp_path / "scaled" / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 99}))
    own = digest(adapter="mine")
    assert own == digest(adapter="moved") == digest(adapter=str(mine), name="ours")
    assert own == digest(adapter="mine", model=str(base)), "its own base is the sweep's"
    served = {"endpoint": "http://localhost:1/v1", "model": "shop"}
    others = [
        digest(adapter="scaled"),
        digest(adapter=str(theirs)),
        digest(adapter="mine", prompt={"system": "Sing."}),
        digest(adapter="mine", prompt={"system": ""}),
        digest(adapter="mine", model=str(base), dtype="bfloat16"),
        digest(model=str(base)),
        digest(model=str(other)),
        digest(**served),
        digest(**served, revision="2"),
        digest(**{**served, "model": "other"}),
    ]
    assert len({own, *others}) == 1 + len(others)
    assert digest(**served) == digest(**served, concurrency=2, timeout="9s", api_key_env="KEY", name="ours")


def test_an_adapter_from_object_storage(server: Server, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    mine, changed = make_adapter(base, tmp_path / "mine", 0), make_adapter(base, tmp_path / "changed", 1)
    for path in mine.iterdir():
        server.put(f"prod/v3/{path.name}", path.read_bytes())

    def found(where: str) -> Path:
        spec, cache = Incumbent(adapter=where), tmp_path / "cache"
        adapter = find(spec, Base(path=str(base), dtype="float32"), tmp_path, cache, packed=True).adapter
        assert adapter is not None
        return adapter

    url = f"s3://{BUCKET}/prod/v3"
    copied = found(url)
    assert copied == found(f"{url}/"), "each version is copied once"
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (copied / name).read_bytes() == (mine / name).read_bytes()
    server.put("prod/v3/adapter_model.safetensors", (changed / "adapter_model.safetensors").read_bytes())
    assert found(url) != copied
    with pytest.raises(InvalidInput, match=r"evaluate.incumbent.adapter: nothing is at s3://"):
        found(f"s3://{BUCKET}/gone")
    with pytest.raises(InvalidInput, match=r"evaluate.incumbent.adapter: s3://no-shop"):
        found("s3://no-shop/x")
