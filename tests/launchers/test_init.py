"""``podium init``: what it writes passes ``podium plan``, and what it cannot use it tells and leaves nothing behind."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from launchers import first_sweep
from launchers.build import build
from launchers.commands.init import TINY, init
from recipes.compose import compose, typed
from sweeps.errors import InvalidInput
from tests.launchers.running import environment, podium
from tests.recipes.tiny import DEMO_BASE
from tests.storage import BUCKET, moto

ANSWERS: dict[str, Any] = {
    "labels": lambda n: ("yes [/b]", "no", "é, \"'#: {")[n % 3],
    "json": lambda n: {"order": n, "intent": ("buy", "sell")[n % 2], "parts": [n % 5] * (n % 3), "note": None},
    "text": lambda n: f"Answer {n}: well\nthen.",
}
NAMES = st.sampled_from(["rows", "my [rows] (1)", "日本", "null", "1e5", "a: b", "#x", "-", "true", "x" * 90])
FIELDS = st.sampled_from(["customer", "a.b", "null", "#", "two words", "é: {", "1"])
RECIPES = {True: typed(compose("tiny_commerce_sft")), False: typed(compose("nemotron_nano_8b_sft"))}


def write(
    path: Path, kind: str, num_rows: int, *, field: str | None = None, chat: bool = False, words: int = 3
) -> Path:
    """Rows of one kind of answer; ``field`` holds a value that recurs."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(num_rows):
            prompt, answer = f"Question {n} 😀 " + "water " * (n % words), ANSWERS[kind](n)
            row: dict[str, Any] = {"prompt": prompt, "completion": answer}
            if chat:
                turns = (("system", "Be brief."), ("user", prompt), ("assistant", answer))
                row = {"messages": [{"role": role, "content": content} for role, content in turns]}
            if field:
                row[field] = f"value {n // 5}"
            file.write(json.dumps(row, ensure_ascii=bool(n % 2)) + "\n")
    return path


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder, with what is printed thrown away."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        os.chdir(before)


def refusal(data: Path) -> str | None:
    """What ``podium init`` says against the rows; None where it writes a sweep."""
    try:
        init(str(data))
    except InvalidInput as error:
        return str(error)
    return None


@settings(max_examples=25)
@given(
    NAMES, st.sampled_from(sorted(ANSWERS)), st.integers(1, 400), st.none() | FIELDS, st.booleans(), st.integers(1, 150)
)
def test_what_is_written_can_be_planned(
    stem: str, kind: str, num_rows: int, field: str | None, chat: bool, words: int
) -> None:
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = write(folder / f"{stem}.jsonl", kind, num_rows, field=field, chat=chat, words=words)
        with inside(folder):
            refused = refusal(data)
        if refused is not None:
            assert num_rows < 150, refused
            assert "are too few" in refused
            assert list(folder.iterdir()) == [data], "an error leaves nothing behind"
            return
        [path] = folder.glob("*.yaml")
        built = build(path)
        spec = built.sweep.spec
        rows = sum(map(len, built.rows.rows.values()))
        assert rows == num_rows, "every row is read"
        metrics = {"labels": ("exact_match",), "json": ("json_schema", "field_f1"), "text": ()}
        assert spec.evaluate.metrics == metrics[kind] or num_rows < 12, "three labels need twelve rows to be seen"
        steps = built.sweep.settings["train"]
        assert steps["max_steps"] % steps["validate_every"] == 0
        assert steps["batch_size"] <= max(4, len(built.rows.rows["train"]))


@given(st.integers(1, 100_000), st.booleans())
def test_steps_fit_the_number_of_rows(num_train: int, is_small: bool) -> None:
    found = first_sweep.schedule(num_train, RECIPES[is_small], is_small)
    steps, batch = found["train.max_steps"], found["train.batch_size"]
    assert batch % found["train.micro_batch_size"] == 0
    assert steps == first_sweep.NUM_REPORTS * found["train.validate_every"]
    assert found["schedule.warmup_steps"] < found["train.validate_every"]
    assert steps * batch >= min(num_train, first_sweep.MAX_STEPS_CPU * batch), "every row is seen, or time is up"
    assert steps in (first_sweep.MIN_STEPS, first_sweep.MAX_STEPS_CPU, first_sweep.MAX_STEPS_GPU) or (
        first_sweep.EPOCHS * num_train
        <= steps * batch
        < first_sweep.EPOCHS * num_train + first_sweep.NUM_REPORTS * batch
    )


def test_the_command_says_what_it_saw_and_what_comes_next(tmp_path: Path) -> None:
    data = write(tmp_path / "tickets.jsonl", "labels", 240, field="customer")
    to = tmp_path / "mine.yaml"
    run = podium(tmp_path / "home", "init", str(data), "--name", "support", "--to", str(to), "--recipe", TINY)
    assert run.returncode == 0, run.stderr
    for words in ("240 rows", "prompt and completion", "3 labels", "customer: 48 values", "splits", "1,967,808"):
        assert words in run.stdout
    assert f"wrote {to}" in run.stderr
    assert f"next: podium plan {to} · podium submit {to}" in run.stderr
    text = to.read_text()
    assert "Always giving the commonest would score 0.33." in text
    spec = yaml.safe_load(text)
    assert (spec["name"], spec["set"]["data.group"], spec["set"]["data.path"]) == (
        "support",
        "customer",
        "tickets.jsonl",
    )
    assert podium(tmp_path / "home", "plan", str(to)).returncode == 0
    before = text
    again = podium(tmp_path / "home", "init", str(data), "--to", str(to))
    assert again.returncode == 2
    assert f"--to: {to} is there already, and is not overwritten (name another file)" in again.stderr
    assert to.read_text() == before


def test_json_answers_get_a_schema_file_and_json_output_stands_alone(tmp_path: Path) -> None:
    data = write(tmp_path / "orders.jsonl", "json", 200)
    run = podium(tmp_path / "home", "init", str(data), "--to", str(tmp_path / "orders.yaml"), "-o", "json")
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    schema = tmp_path / "orders.schema.json"
    assert (seen["sweep"], seen["schema"]) == (str(tmp_path / "orders.yaml"), str(schema))
    assert json.loads(schema.read_text()) == seen["answers"]["schema"]
    assert yaml.safe_load((tmp_path / "orders.yaml").read_text())["evaluate"]["schema"] == "orders.schema.json"


def test_free_text_is_told_to_need_a_metric_or_a_judge(tmp_path: Path) -> None:
    data = write(tmp_path / "letters.jsonl", "text", 200)
    run = podium(tmp_path / "home", "init", str(data), "--to", str(tmp_path / "letters.yaml"))
    assert "note: answers are free text: give a metric of your own or a judge" in run.stderr
    assert yaml.safe_load((tmp_path / "letters.yaml").read_text())["champion"] == {"minimize": "val/loss"}


def test_a_base_of_ones_own_is_measured_with_its_own_tokenizer_and_width(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", "labels", 200)
    base = tmp_path / "base"
    base.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(DEMO_BASE / name, base / name)
    layer = {"model.layers.0.self_attn.q_proj.weight": numpy.zeros((16, 24), numpy.float32)}
    save_file(layer, base / "model.safetensors")
    with inside(tmp_path):
        init(str(data), base=str(base))
    spec = yaml.safe_load((tmp_path / "rows.yaml").read_text())
    assert spec["set"]["base.path"] == "base"
    assert spec["space"]["lora.rank"] == "choice(8, 16)"
    assert build(tmp_path / "rows.yaml").sweep.facts.base_identity


def test_a_large_recipe_gets_pools_of_gpus_and_small_learning_rates(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", "labels", 200)
    with inside(tmp_path):
        init(str(data), recipe="nemotron_nano_8b_sft", to=Path("8b.yaml"))
        init(str(data), base="some-lab/Base-0.6B-Instruct", to=Path("hub.yaml"))
    for name in ("8b", "hub"):
        built = build(tmp_path / f"{name}.yaml")
        assert {pool.device for pool in built.pools} == {"gpu"}
        assert (
            yaml.safe_load((tmp_path / f"{name}.yaml").read_text())["space"]["optimizer.lr"] == "loguniform(1e-5, 1e-3)"
        )
    assert built.sweep.facts.num_parameters == 600_000_000, "read from the base's name"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.jsonl"], ["no such file", "nowhere.jsonl"]),
        (["FOLDER"], ["is a folder"]),
        (["EMPTY"], ["holds no rows"]),
        (["CSV"], ["CSV", "'prompt,completion'"]),
        (["NO_ANSWER"], ["line 2", "the last turn must be the assistant's, got 'user'", "line 3"]),
        (["FEW"], ["4 rows are too few", "a hundred rows or more"]),
        (["ROWS", "--name", "my sweep"], ["--name", "'my sweep'", "my-sweep"]),
        (["ROWS", "--to", "FOLDER"], ["--to", "is a folder"]),
        (["ROWS", "--to", "nowhere/sweep.yaml"], ["--to", "there is no folder nowhere", "mkdir -p nowhere"]),
        (["ROWS", "--recipe", "tiny_comerce_sft"], ["tiny_comerce_sft", 'did you mean "tiny_commerce_sft"?']),
        (["ROWS", "--base", "./no/such/base"], ["./no/such/base", "no such folder"]),
        (["ROWS", "--base", "lab/base"], ["lab/base is not local", "how many parameters"]),
    ],
    ids=lambda value: " ".join(value) if value[0].isupper() or value[0] == "nowhere.jsonl" else "",
)
def test_bad_input_is_one_clear_error_and_nothing_is_written(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    files = {name: tmp_path / f"{name.lower()}.jsonl" for name in ("EMPTY", "CSV", "NO_ANSWER", "FEW", "ROWS")}
    files["EMPTY"].write_text("\n")
    files["CSV"].write_text("prompt,completion\nhello,yes\n")
    asked = {"messages": [{"role": "user", "content": "Hello?"}]}
    good = {"prompt": "Hello?", "completion": "yes"}
    files["NO_ANSWER"].write_text("".join(json.dumps(row) + "\n" for row in (good, asked, asked)))
    write(files["FEW"], "labels", 4)
    write(files["ROWS"], "labels", 200)
    files["FOLDER"] = tmp_path
    before = sorted(tmp_path.rglob("*"))
    run = podium(tmp_path / "home", "init", *(str(files.get(argument, argument)) for argument in arguments))
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    for word in words:
        assert word in run.stderr, run.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_rows_in_object_storage_are_looked_at_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "rows.jsonl", "labels", 200)
    with moto() as server:
        server.use(monkeypatch)
        server.put("mine/rows.jsonl", data.read_bytes())
        server.put("mine/rows.csv", b"prompt,completion\nhello,yes\n")
        url, to = f"s3://{BUCKET}/mine/rows.jsonl", tmp_path / "far.yaml"
        run = podium(tmp_path / "home", "init", url, "--to", str(to))
        assert run.returncode == 0, run.stderr
        assert yaml.safe_load(to.read_text())["set"]["data.path"] == url
        assert build(to).rows.identity == build(local(tmp_path, data)).rows.identity
        for name, words in {"rows.csv": "looks like CSV", "gone.jsonl": "there is no object"}.items():
            run = podium(tmp_path / "home", "init", f"s3://{BUCKET}/mine/{name}", "--to", str(tmp_path / "no.yaml"))
            assert (run.returncode, run.stdout) == (2, ""), run.stderr
            assert words in run.stderr
            assert not (tmp_path / "no.yaml").exists()


def local(folder: Path, data: Path) -> Path:
    """The sweep that is written for the same rows in a file."""
    with inside(folder):
        init(str(data), to=folder / "near.yaml")
    return folder / "near.yaml"


def test_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", "labels", 200)
    run = podium(tmp_path / "home", "init", str(data), "--to", str(tmp_path / "rows.yaml"), probe=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr.rstrip().endswith("LOADED []")
    assert environment(tmp_path)["PODIUM_HOME"] == str(tmp_path)
    assert not (tmp_path / "home").exists(), "init reads and writes beside the data alone"
