"""``podium data import`` and ``podium retrieval``, as a user runs them."""

import json
from pathlib import Path

import pytest
import yaml

from launchers.arms import Arms
from launchers.build import build
from tests.launchers.bad_retrieval import LABELS, PIPELINE, PRODUCTS, ROWS, SHOP
from tests.launchers.running import podium, write_sweep
from tests.launchers.stage import SWEEP
from tests.recipes.shopping.test_importers import wands
from tracking.ledger import Ledger


def test_an_import_prints_the_lines_that_a_sweep_needs(tmp_path: Path) -> None:
    run = podium(tmp_path, "data", "import", "wands", str(wands(tmp_path)), "--to", str(tmp_path / "out"), probe=True)
    assert run.returncode == 0, run.stderr
    assert "left out: 1 queries without a right product" in run.stderr
    assert "read label: SHA-256 " in run.stderr
    assert run.stderr.rstrip().endswith("LOADED []")
    block = yaml.safe_load(run.stdout)
    assert Path(block["set"]["data.path"]).is_file()
    from sweeps.retrieving import Pipeline

    pipeline = Pipeline.model_validate(block["evaluate"]["pipeline"])
    assert pipeline.relevant == 2


def test_an_import_takes_any_folder_that_can_be_written(tmp_path: Path) -> None:
    source, place = str(wands(tmp_path)), tmp_path / "a, b: {c}"
    run = podium(tmp_path, "data", "import", "wands", source, "--to", str(place))
    assert yaml.safe_load(run.stdout)["evaluate"]["pipeline"]["labels"] == str(place / "labels.jsonl")
    (tmp_path / "taken").write_text("")
    run = podium(tmp_path, "data", "import", "wands", source, "--to", str(tmp_path / "taken"))
    assert run.returncode == 2
    assert f"error: --to: {tmp_path / 'taken'} cannot be written: File exists" in run.stderr


def test_wrong_folders_and_locales_are_told(tmp_path: Path) -> None:
    for arguments, words in (
        (("wands", str(tmp_path)), "no such file"),
        (("esci", str(tmp_path), "--locale", "de"), 'must be one of us, es, jp, but got "de"'),
    ):
        run = podium(tmp_path, "data", "import", *arguments, "--to", str(tmp_path / "out"))
        assert run.returncode == 2
        assert words in run.stderr
        assert "Traceback" not in run.stderr
        assert not (tmp_path / "out").exists()


def test_tables_are_part_of_what_names_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path / "home"))
    for name, text in (("small.yaml", SWEEP), ("rows.jsonl", ROWS), ("products.csv", PRODUCTS), ("labels.csv", LABELS)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    paths = {split: tmp_path / f"{split}.jsonl" for split in ("dev", "challenge")}

    def named(*changes: str) -> str:
        with Ledger(tmp_path / "run") as ledger:
            return Arms(build(tmp_path / "small.yaml", changes), ledger, paths).job("base", "dev").id

    scored, piped = ("evaluate.metrics=[exact_match]",), ("evaluate.metrics=[exact_match]", *SHOP)
    before = named(*piped)
    assert len({named(*scored), before, named(*scored, PIPELINE % ", top_k: 20")}) == 3
    assert named(*piped) == before
    (tmp_path / "labels.csv").write_text(LABELS.replace("q0,p1,1", "q0,p1,2"), encoding="utf-8")
    assert named(*piped) != before
    assert named(*scored) != before


@pytest.mark.slow
def test_a_sweep_is_searched_by_what_its_answers_find(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, trials=2)
    changes = ("champion={maximize: e2e/score}", "search={trials: 2, metric: e2e/score}", "stop_early.algorithm=none")
    pipeline = "evaluate.pipeline={catalogue: commerce, relevant: 2, profiles: {}}"
    run = podium(tmp_path / "home", "submit", str(sweep), pipeline, *changes)
    assert run.returncode in (0, 6), run.stderr  # six steps teach little
    shown = podium(tmp_path / "home", "retrieval", "--split", "dev", "-e", "tfidf", "-e", "minilm", "-o", "json")
    assert shown.returncode == 0, shown.stderr
    arms = json.loads(shown.stdout)["arms"]
    assert {(one["embedding"], one["kind"]) for one in arms} >= {
        ("tfidf", "raw"),
        ("minilm", "gold"),
        ("tfidf", "hyde"),
    }
    asked = podium(tmp_path / "home", "retrieval", "-e", "bert")
    assert asked.returncode == 2
    assert 'must be one of tfidf, minilm, but got "bert"' in asked.stderr
