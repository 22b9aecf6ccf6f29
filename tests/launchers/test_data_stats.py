"""``podium data stats``: what it shows, as which numbers, and what it refuses."""

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchers.bar import Part, bar, widths
from launchers.commands import data
from launchers.output import Format
from sweeps.errors import InvalidInput
from tests.launchers.running import loaded, podium
from tests.recipes.tiny import DEMO_BASE, TOKENIZER_FILES
from tests.storage import BUCKET, moto

RULES = "Answer with one number and nothing else: no unit, no sentence, no explanation, no greeting, no thanks."
SWEEP = """\
name: sums
recipe: tiny_commerce_sft
set: {data.builtin: null, data.path: rows.jsonl, data.group: null, data.rows: null, train.batch_size: 6,
      train.micro_batch_size: 6}
space: {optimizer.lr: loguniform(1e-3, 1e-2), train.micro_batch_size: choice(3, 6)}
search: {trials: 2}
champion: {minimize: val/loss}
"""


def write(path: Path, num_rows: int = 60) -> Path:
    """Rows of three classes, whose constant instructions stand after the question."""
    with path.open("w") as file:
        for n in range(num_rows):
            exam = (
                f"{('First', 'Second', 'Third')[n % 3]} class, this is your exam for the last month, so take your time."
            )
            row = {"prompt": f"{exam}\nWhat is {n} plus {n * n}?\n{RULES}", "completion": str(n + n * n)}
            file.write(json.dumps(row) + "\n")
    return path


def tokenizer_alone(folder: Path) -> Path:
    """A folder that holds a tokenizer, and no model."""
    folder.mkdir()
    for name in TOKENIZER_FILES:
        shutil.copy(DEMO_BASE / name, folder / name)
    return folder


def stats(source: Path | str, **options: Any) -> dict[str, Any]:
    """What the command prints as JSON; it runs in this process, which loads transformers once."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        data.stats(str(source), output=Format.JSON, **options)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    write(made / "rows.jsonl")
    (made / "sums.yaml").write_text(SWEEP)
    return made


def test_the_table_of_a_sweep_draws_the_row_and_quotes_the_constant_text(folder: Path) -> None:
    run = podium(folder / "home", "data", "stats", str(folder / "sums.yaml"), probe=True)
    assert run.returncode == 0, run.stderr
    assert not {"ray", "mlflow"} & set(loaded(run))
    for words in ("sums, training rows", "the mean row", "██", "░", "▒▒ constant, but after", "▓▓ completion"):
        assert words in run.stdout
    assert f"messages[0] (user): '{RULES[:60]} …'" in run.stdout
    assert "in 100% of rows" in run.stdout
    assert "note: train.micro_batch_size varies in this sweep; the recipe's own is shown" in run.stderr
    assert not (folder / "home" / "runs").exists(), "nothing is started"


def test_a_sweep_gives_its_training_rows_batches_and_seed(folder: Path) -> None:
    seen = stats(folder / "sums.yaml")
    assert seen["engine"] == "packed"
    assert (seen["batch_size"], seen["micro_batch_size"], seen["seed"]) == (6, 6, 0)
    assert 0 < seen["num_rows"] < 60, "the training split"
    own = seen["savings"][0]
    assert (own["batch_size"], own["micro_batch_size"]) == (6, 6)
    assert [saving["batch_size"] for saving in seen["savings"][1:]] == [2, 4, 8, 16]
    assert 1 <= own["saving"] < own["moved"]
    [constant] = seen["constants"]
    assert (constant["text"].strip(), constant["message"], constant["share"]) == (RULES, 0, 1.0)
    assert sum(seen["tokens"]["bar"].values()) == pytest.approx(seen["tokens"]["mean"])
    other = stats(folder / "sums.yaml", batch_size=9, seed=5)
    assert (other["batch_size"], other["micro_batch_size"], other["seed"]) == (9, 9, 5)
    assert other["savings"][1]["tree_tokens"] != seen["savings"][1]["tree_tokens"], "other batches"


def test_bare_rows_are_counted_with_the_demos_tokenizer_and_it_says_so(folder: Path) -> None:
    run = podium(folder / "home", "data", "stats", str(folder / "rows.jsonl"), "-o", "csv")
    assert run.returncode == 0, run.stderr
    assert "note: tokens are those of builtin:tiny_commerce, the demo's base; --base names yours" in run.stderr
    assert "all rows are looked at, in batches of 8, in the order of seed 0" in run.stderr
    lines = list(csv.DictReader(run.stdout.splitlines()))
    assert [line["batch_size"] for line in lines] == ["8", "2", "4", "16"]
    own = stats(folder / "rows.jsonl", base=str(tokenizer_alone(folder / "tokenizer")))
    assert own["num_rows"] == own["num_seen"] == 60
    assert own["base"] == str(folder / "tokenizer")
    assert [f"{saving['saving']}" for saving in own["savings"]] == [line["saving"] for line in lines]
    assert not any("--base names yours" in note for note in own["notes"])


def test_preference_pairs_are_counted_with_their_preferred_answers(folder: Path) -> None:
    pairs = [{"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "No."} for n in range(20)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    seen = stats(folder / "pairs.jsonl")
    assert seen["num_rows"] == 20
    assert any("rejected ones come on top" in note for note in seen["notes"])


@pytest.mark.parametrize(("words", "is_told"), [(1, True), (40, False)])
def test_why_a_short_beginning_saves_nothing_is_told(folder: Path, words: int, is_told: bool) -> None:
    rows = [{"prompt": f"{'please ' * words}{n} plus 1", "completion": str(n + 1)} for n in range(10, 40)]
    (folder / "begins.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = stats(folder / "begins.jsonl")
    assert seen["tokens"]["shared"] > 0
    assert (seen["savings"][0]["saving"] == 1) is is_told
    assert any("leaves fewer than 16 shared tokens" in note for note in seen["notes"]) is is_told


def test_what_keeps_a_sweep_from_saving_is_told(folder: Path) -> None:
    told = {}
    for name, change in {
        "nemo": "engine: nemo",
        "trees": "packed.trees: false",
        "dropout": "lora.dropout: 0.1",
        "regroup": "packed.regroup: true",
    }.items():
        path = folder / f"{name}.yaml"
        path.write_text(SWEEP.replace("set: {", f"set: {{{change}, "))
        told[name] = " ".join(stats(path)["notes"])
    assert "the sweep's engine is nemo, which shares nothing; engine: packed does" in told["nemo"]
    assert "packed.trees: false, so nothing of it is saved" in told["trees"]
    assert "lora.dropout 0.1, with which nothing can be shared: set it to 0" in told["dropout"]
    assert "its trials save what stands under regrouped" in told["regroup"]


def test_rows_in_object_storage_are_looked_at_where_they_are(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path))
    with moto() as server:
        server.use(monkeypatch)
        server.put("mine/rows.jsonl", (folder / "rows.jsonl").read_bytes())
        far = stats(f"s3://{BUCKET}/mine/rows.jsonl")
    assert far["savings"] == stats(folder / "rows.jsonl")["savings"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.jsonl"], "DATA: no such file: nowhere.jsonl (a JSONL file, or s3://bucket/key)"),
        (["nowhere.yaml"], "nowhere.yaml: there is no such file (give the path of a YAML file)"),
        (["FOLDER"], "is a folder (name the JSONL file in it)"),
        (["EMPTY"], "holds no rows (one JSON object a line is needed)"),
        (["CSV"], "this looks like CSV"),
        (["BROKEN"], "line 2: "),
        (["ROWS", "./no/such"], "base.path: no such folder: ./no/such"),
        (["ROWS", "builtin:tiny"], "no builtin base 'builtin:tiny' (valid: builtin:tiny_commerce)"),
        (["ROWS", "FOLDER"], "has no tokenizer.json (name the folder of a base)"),
        (["ROWS", "NO_TEMPLATE"], "has no chat template, which says how messages become tokens"),
        (["ROWS", "STRICT"], "refuses a row: one role alone is spoken (name another base with --base, or"),
        (["ROWS", "DAMAGED"], "cannot be read: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_error(folder: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    files = {"FOLDER": tmp_path, "ROWS": folder / "rows.jsonl"}
    contents = {
        "EMPTY": "\n",
        "CSV": "prompt,completion\nhello,yes\n",
        "BROKEN": '{"prompt": "a", "completion": "b"}\n{',
    }
    for name, content in contents.items():
        files[name] = tmp_path / f"{name.lower()}.jsonl"
        files[name].write_text(content)
    for name in ("NO_TEMPLATE", "STRICT", "DAMAGED"):
        files[name] = tokenizer_alone(tmp_path / name.lower())
    (files["NO_TEMPLATE"] / "chat_template.jinja").unlink()
    (files["STRICT"] / "chat_template.jinja").write_text("{{ raise_exception('one role alone is spoken') }}")
    (files["DAMAGED"] / "tokenizer.json").write_text("{}")
    source, base = (str(files.get(word, word)) for word in [*arguments, ""][:2])
    with pytest.raises(InvalidInput) as caught:
        stats(source, base=base or None)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.jsonl"], "error: DATA: no such file: nowhere.jsonl (a JSONL file, or s3://bucket/key)"),
        (["sweeps/quickstart.yaml", "--base", "builtin:tiny"], "error: base.path: no builtin base 'builtin:tiny'"),
        (["nowhere.jsonl", "--batch-size", "0"], "Invalid value for '--batch-size'"),
        ([], "Missing argument"),
    ],
    ids=["no rows", "no base", "no batch", "nothing"],
)
def test_bad_input_ends_with_exit_code_2_and_without_a_traceback(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    run = podium(tmp_path / "home", "data", "stats", *arguments)
    assert (run.returncode, run.stdout) == (2, ""), run.stderr
    assert words in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_is_told_with_the_way_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    run = podium(tmp_path, "data", "stats", str(folder / "rows.jsonl"), "--base", "lab/base")
    assert (run.returncode, run.stdout) == (5, ""), run.stderr
    assert "the hub at http://127.0.0.1:9 cannot be asked for lab/base" in run.stderr
    assert "(--base FOLDER counts with a tokenizer that is here)" in run.stderr


def test_help_has_examples_and_loads_nothing_heavy(tmp_path: Path) -> None:
    run = podium(tmp_path, "data", "stats", "--help", probe=True)
    assert run.returncode == 0
    assert loaded(run) == []
    assert "podium data stats tickets.jsonl --base ./my-base" in run.stdout


VALUES = st.lists(st.floats(0.01, 1e6), min_size=1, max_size=6)


@given(VALUES, st.integers(1, 200))
def test_a_bar_is_as_wide_as_asked_and_every_part_is_seen(values: list[float], width: int) -> None:
    found = widths(values, width)
    assert sum(found) == max(width, len(values))
    assert min(found) >= 1
    for one, wide in zip(values, found, strict=True):
        assert all(wide <= other_wide for other, other_wide in zip(values, found, strict=True) if other > one * 1.01)


def test_a_bar_has_a_legend_of_what_is_there() -> None:
    parts = [Part("█", "green", "shared", 30), Part("░", "red", "own", 0), Part("▓", "cyan", "completion", 10)]
    assert bar(parts, 8).plain == "██████▓▓\n██ shared 30 (75%)   ▓▓ completion 10 (25%)"
