"""``podium data pairs``: answers of a real adapter, graded, best against worst; held-out prompts are never asked."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from launchers import pairing
from launchers.answerers import Answerer, opened
from launchers.commands.pairs import as_data
from launchers.pairing import Pairs, Settings, metric_of, prompts_of
from recipes.data.preferences import checked_pairs, to_pair
from recipes.data.splits import load
from recipes.data.stream import read_rows
from recipes.sampling import Sampling
from recipes.schema import Data, Recipe
from sweeps.errors import InvalidInput
from tests.launchers.running import Finished, podium
from tests.recipes.tiny import chat_rows, make_adapter, make_base, one_thread, tiny_settings
from tests.tracking.meters.judge.serving import Endpoint, answer_in, only_word, verdict

LETTERS = """
def letters(row, answer):
    return {"quality/letters": sum(sign.isalpha() for sign in answer) / max(1, len(answer))}
"""
NO_GRADING: dict[str, Any] = {
    "metrics": ["grade.py:letters"],
    "gates": [],
    "forbidden": [],
    "schema": None,
    "judge": None,
}
HOW = Settings(4, Sampling(temperature=1.0, seed=1), "quality/letters", 0.05)


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    folder = tmp_path_factory.mktemp("tiny")
    base = make_base(folder / "base")
    rows = [{"messages": messages, "id": number} for number, messages in enumerate(chat_rows(120))]
    for row in rows:  # each with a prompt of its own
        row["messages"][1]["content"] += f" It is order {row['id']}."  # type: ignore[index]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "grade.py").write_text(LETTERS)
    recipe = Recipe.model_validate(tiny_settings(base, data__path="rows.jsonl"))
    adapter = make_adapter(base, folder / "adapter", 1)
    return Answerer("tiny, trial 0", recipe, adapter, folder, NO_GRADING, "val/loss", None)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def made(answerer: Answerer, settings: Settings = HOW, limit: int = 20) -> tuple[Pairs, list[dict[str, Any]]]:
    making = Pairs(answerer, settings)
    return making, list(making.of(prompts_of(answerer, None)[0][:limit], lambda text: None))


def test_each_pair_is_the_best_against_the_worst_with_its_provenance(tiny: Answerer, home: Path) -> None:
    making, pairs = made(tiny)
    counted = making.made
    assert counted.prompts == 20
    assert counted.pairs == len(pairs) > 5
    assert counted.pairs + counted.without.total() == 20
    assert (counted.drawn, counted.kept) == (80, 0)
    for pair in pairs:
        told = pair["drawn"]
        assert told["chosen_grade"] - told["rejected_grade"] >= 0.05
        for text, grade in ((pair["messages"][-1]["content"], "chosen_grade"), (pair["rejected"], "rejected_grade")):
            assert sum(sign.isalpha() for sign in text) / len(text) == told[grade]
        assert (told["seed"], told["temperature"], told["samples"], told["judge"]) == (1, 1.0, 4, None)
        assert told["adapter_sha256"] == tiny.digest
    assert len(checked_pairs(enumerate(pairs, start=1), "x")) == len(pairs), "a sweep reads them as they are"
    assert [one.name for one in counted.measured] == ["characters", "tokens"]


def test_only_training_prompts_are_asked(tiny: Answerer, home: Path) -> None:
    _, pairs = made(tiny, limit=100)
    train = {json.dumps(row["messages"][:-1]) for row in tiny.rows.rows["train"]}
    assert {json.dumps(pair["messages"][:-1]) for pair in pairs} <= train


def test_who_is_interrupted_goes_on_and_gets_the_same(
    tiny: Answerer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "CHUNK", 5)
    rows = prompts_of(tiny, None)[0][:20]
    begun = Pairs(tiny, HOW).of(rows, lambda text: None)
    next(begun)
    del begun
    again = Pairs(tiny, HOW)
    pairs = list(again.of(rows, lambda text: None))
    assert (again.made.kept, again.made.drawn) == (20, 60)
    third = Pairs(tiny, HOW)
    assert list(third.of(rows, lambda text: None)) == pairs
    assert third.made.drawn == 0
    assert third._model is None, "nothing is loaded where everything is there"
    monkeypatch.setenv("PODIUM_HOME", str(home.parent / "other"))
    monkeypatch.setattr(pairing, "CHUNK", 7)
    assert made(tiny)[1] == pairs, "drawn anew in other batches"


def test_a_stage_learns_from_them_with_what_the_command_prints(tiny: Answerer, home: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in made(tiny, limit=80)[1]))
    printed = yaml.safe_load(as_data(str(path), tiny.recipe.data.seed))["set"]
    changes = {key.removeprefix("data."): value for key, value in printed.items()}
    rows = load(Data.model_validate({**tiny.recipe.data.model_dump(), **changes}), tmp_path, method="dpo").rows
    assert {split for split in rows if rows[split]} == {"train", "validation"}
    assert sum(map(len, rows.values())) == len(path.read_text().splitlines())
    with pytest.raises(InvalidInput, match="split is empty"):
        load(tiny.recipe.data.model_copy(update={"path": str(path)}), tmp_path, method="dpo")


def test_answers_that_no_row_can_hold_are_in_no_pair(tiny: Answerer, home: Path) -> None:
    making = Pairs(tiny, HOW)
    [row] = prompts_of(tiny, None)[0][:1]
    broken, worse = "best\x00", "\ud83d worst"
    pair = making._pair(row, [broken, "good", "bad", worse], [1.0, 0.9, 0.1, 0.0])
    assert pair is not None
    assert (pair["messages"][-1]["content"], pair["rejected"]) == ("good", "bad")
    assert making._pair(row, [broken, "good", "", worse], [1.0, 0.9, 0.1, 0.0]) is None
    assert making.made.without == {"fewer than two answers with a grade that a row can hold": 1}


def test_margin_samples_and_seed_decide(tiny: Answerer, home: Path) -> None:
    few = made(tiny, replace(HOW, margin=0.4))[0].made
    assert few.pairs < made(tiny)[0].made.pairs
    assert few.without["best and worst are less than 0.4 apart"] > 0
    other = made(tiny, replace(HOW, sampling=Sampling(1.0, seed=2)))[1]
    assert other != made(tiny)[1]
    cold = made(tiny, replace(HOW, sampling=Sampling(0.001), samples=2))[0].made
    assert cold.without["all answers have the same grade"] >= 18, "nothing is left to chance but ties"


def test_rows_of_ones_own_are_asked_with_or_without_answers_but_never_held_out_ones(
    tiny: Answerer, tmp_path: Path
) -> None:
    path = tmp_path / "prompts.jsonl"
    own = [
        {"prompt": "A tent?"},
        {"messages": [{"role": "user", "content": "A mug?"}]},
        {"prompt": "x", "completion": "y"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*own, own[0]]))
    found, left = prompts_of(tiny, str(path))
    assert ([row["messages"][0]["content"] for row in found], left) == (["A tent?", "A mug?", "x"], 0)
    sealed = tiny.rows.rows["challenge"][0]["messages"]
    path.write_text(json.dumps(own[0]) + "\n" + json.dumps({"messages": sealed[1:-1]}) + "\nhello\n")
    with pytest.raises(InvalidInput) as caught:
        prompts_of(tiny, str(path))
    first, second = (str(problem) for problem in caught.value.problems)
    assert first == (
        f"line 2: {path}: its prompt is also in the challenge set of tiny, trial 0, which must not be learned"
    )
    assert "line 3" in second


def test_pairs_may_give_the_prompts_of_new_pairs(tiny: Answerer, home: Path, tmp_path: Path) -> None:
    """Their own answers leave the row: what is written is read again as a pair."""
    user = [{"role": "user", "content": "A stove?"}]
    answers = [[*user, {"role": "assistant", "content": text}] for text in ("Yes.", "No.")]
    own = [
        {"prompt": "A tent?", "chosen": "Yes.", "rejected": "No.", "id": 1},
        {"chosen": answers[0], "rejected": answers[1], "id": 2},
        {"prompt": "A mug?", "responses": [{"response": "Yes.", "rank": 0}, {"response": "No.", "rank": 1}], "id": 3},
        {"prompt": "A lamp?", "response": "Yes.", "rank": 0, "id": 4},
        {"messages": answers[0], "rejected": "No.", "prompt": "A stove", "id": 5},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in own))
    found, _ = prompts_of(tiny, str(path))
    assert [row["messages"][-2]["content"] for row in found] == ["A tent?", "A stove?", "A mug?", "A lamp?"]
    making = Pairs(tiny, HOW)
    written = [making._pair(row, ["a", "b"], [1.0, 0.0]) for row in [*found, own[-1]]]
    assert [(row or {})["id"] for row in written] == [1, 2, 3, 4, 5]
    assert [to_pair(row) for row in written] == written


@contextmanager
def served(reply: Any) -> Iterator[Endpoint]:
    with ExitStack() as stack:
        endpoint = Endpoint(reply)
        stack.callback(endpoint.close)
        yield endpoint


def test_a_judge_over_http_grades_and_is_paid_once(tiny: Answerer, home: Path) -> None:
    def score(body: dict[str, Any]) -> tuple[int, str]:
        return verdict(0 if only_word(body) else len(answer_in(body)) % 6)

    with served(score) as endpoint:
        judge = {"model": "openai:/m", "endpoint": endpoint.url, "rubric": "0: bad. 5: good.", "concurrency": 4}
        grading = {**NO_GRADING, "metrics": [], "judge": judge}
        judged = replace(tiny, grading=grading, objective="quality/score")
        assert metric_of(judged, None) == "quality/score"
        how = replace(HOW, metric="quality/score", margin=1.0)
        making, pairs = made(judged, how, limit=8)
        assert making.made.pairs > 3
        assert all(pair["drawn"]["judge"]["judges"][0]["model"] == "openai:/m" for pair in pairs)
        asked = len(endpoint.requests)
        assert 0 < asked <= 32
        assert made(judged, how, limit=8)[1] == pairs
        assert len(endpoint.requests) == asked


def test_what_grades_is_the_objective_or_what_is_asked_for(tiny: Answerer) -> None:
    shop = replace(tiny, grading={**NO_GRADING, "metrics": ["shopping", "field_f1"]})
    assert metric_of(shop, None) == "quality/score"
    assert metric_of(replace(shop, objective="quality/field_f1"), None) == "quality/field_f1"
    assert metric_of(shop, "quality/field_f1") == "quality/field_f1"
    with pytest.raises(InvalidInput, match='did you mean "quality/field_f1"'):
        metric_of(shop, "quality/field_f2")
    with pytest.raises(InvalidInput) as caught:
        made(tiny, replace(HOW, metric="quality/leters"))
    assert str(caught.value) == ('--metric: no answer got a quality/leters (did you mean "quality/letters"?)')


def test_a_sweep_its_bundle_and_its_adapter_are_found(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_HOME", str(finished.home))
    champion = finished.state.champion
    bundle = finished.home / "champions" / "small"
    assert champion is not None
    with opened("small") as by_name, opened(str(bundle)) as by_bundle, opened(str(bundle), sweep="small") as by_folder:
        assert by_name.grading["metrics"] == by_bundle.grading["metrics"] == ["shopping", "field_f1"]
        assert by_name.digest == by_bundle.digest == by_folder.digest
        assert by_name.rows.identity == by_bundle.rows.identity == finished.state.facts["data_identity"]
        assert by_name.base_identity == by_bundle.base_identity
        assert by_name.guide is None
    with opened("small", trial="0") as first:
        assert "trial 0" in first.name


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["smal"], 'no sweep is called "smal"'),
        (["small", "--trial", "99"], '--trial: no arm of small is called "99"'),
        (["small", "--metric", "quality/scor"], 'did you mean "quality/score"?'),
        (["small", "--to", "HERE/no/pairs.jsonl"], "there is no folder"),
        (["small", "--to", "HERE/pairs.csv"], "pairs.csv is neither JSONL nor Parquet (end it in .jsonl or .parquet)"),
        (["small", "--to", "HERE/there.jsonl"], "is there already, and is not overwritten"),
        (["small", "--rows", "HERE/gone.jsonl"], "no such file"),
        (["HERE"], "is no bundle, so its base, rows and judge are not known (name the sweep that it belongs to)"),
        (["HERE/nowhere"], "no such folder"),
        (
            ["small", "--limit", "2", "--samples", "2"],
            "none of 2 prompts gave a pair (all answers have the same grade: 2) (draw more answers (--samples)",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_told(finished: Finished, tmp_path: Path, arguments: list[str], told: str) -> None:
    (tmp_path / "there.jsonl").touch()
    words = [word.replace("HERE", str(tmp_path)) for word in arguments]
    words += [] if "--to" in words else ["--to", str(tmp_path / "new.jsonl")]
    run = podium(finished.home, "data", "pairs", *words)
    assert run.returncode == 2, run.stderr
    assert told in run.stderr
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "new.jsonl").exists()


def test_rows_written_are_read(tmp_path: Path) -> None:
    from recipes.data.stream import RowWriter

    rows = [{"prompt": f"p{n}", "chosen": "a", "rejected": "b", "drawn": {"grade": n / 2}} for n in range(2500)]
    for name in ("pairs.jsonl", "pairs.parquet"):
        with RowWriter(tmp_path / name) as writer:
            for row in rows:
                writer.write(row)
        assert [row for _, row in read_rows(str(tmp_path / name))] == rows
