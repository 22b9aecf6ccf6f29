"""``podium`` against object storage, as a user runs it: rows from a bucket, bundles to one, and back."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launchers.running import ROOT, Finished, command, environment
from tests.storage import BUCKET, Server, free_port, rclone

PLACE = f"s3://{BUCKET}/champions/small"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with rclone(tmp_path_factory.mktemp("rclone")) as running:
        yield running


def podium(home: Path, server: Server, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env={**environment(home), **server.environment, **more},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def uploaded(finished: Finished, server: Server) -> Server:
    """The champion of the finished sweep in the bucket, with one more trial beside it."""
    run = podium(finished.home, server, "export", "--to", f"s3://{BUCKET}/champions/", "--keep", "1")
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == PLACE
    assert "every file came down again" in run.stderr
    return server


def test_a_bundle_verifies_where_it_lies(finished: Finished, uploaded: Server) -> None:
    run = podium(finished.home, uploaded, "verify", PLACE, "-o", "json")
    assert run.returncode == 0, run.stderr
    verdict = json.loads(run.stdout)
    assert verdict["bundle"] == PLACE
    assert {check["check"]: check["ok"] for check in verdict["checks"]} == {
        "files": True,
        "base": True,
        "adapter": True,
        "score": True,
    }


@pytest.mark.slow
def test_a_kept_trial_is_a_bundle_of_its_own(finished: Finished, uploaded: Server) -> None:
    champion = finished.state.champion
    assert champion is not None
    kept = f"{PLACE}-checkpoints/{champion['ranking'][1]}"
    run = podium(finished.home, uploaded, "verify", kept)
    assert run.returncode == 0, run.stderr
    proof = json.loads(uploaded.get(f"{kept.removeprefix(f's3://{BUCKET}/')}/champion.json"))
    assert proof["trial"]["id"] == champion["ranking"][1]
    assert proof["why"][0].endswith("is not the champion: by the rule it ranks 2 of 3.")


@pytest.mark.slow
def test_the_same_again_changes_nothing_and_another_is_refused(finished: Finished, uploaded: Server) -> None:
    before = uploaded.keys()
    again = podium(finished.home, uploaded, "export", "--to", PLACE)
    assert again.returncode == 0, again.stderr
    assert again.stdout.strip() == PLACE
    champion = finished.state.champion
    assert champion is not None
    other = podium(finished.home, uploaded, "export", "--to", PLACE, "--trial", champion["ranking"][2])
    assert other.returncode == 2, other.stderr
    assert "holds something else" in other.stderr
    assert "the bundle is whole in" in other.stderr
    assert uploaded.keys() == before


def test_one_changed_byte_is_found(finished: Finished, uploaded: Server) -> None:
    name = "champions/small/adapter_model.safetensors"
    content = uploaded.get(name)
    try:
        uploaded.put(name, content[:-1] + bytes([content[-1] ^ 1]))
        run = podium(finished.home, uploaded, "verify", PLACE)
    finally:
        uploaded.put(name, content)
    assert run.returncode == 7
    assert f"{PLACE} is not what it claims to be" in run.stderr
    assert "adapter_model.safetensors was changed" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_plan_of_rows_in_a_bucket(server: Server, tmp_path: Path) -> None:
    rows = "".join(f'{{"prompt": "Is order {n} late?", "completion": "Order {n} is not."}}\n' for n in range(200))
    server.put("rows/orders.jsonl", rows.encode())
    url = f"s3://{BUCKET}/rows/orders.jsonl"
    (tmp_path / "orders.yaml").write_text(
        "name: orders\nrecipe: tiny_commerce_sft\n"
        f"set: {{data.builtin: null, data.path: {url!r}, data.group: null}}\n"
        "space: {lora.rank: choice(4, 8)}\nsearch: {trials: 2}\n"
    )
    plan = str(tmp_path / "orders.yaml")
    run = podium(tmp_path / "home", server, "plan", plan, "-o", "json")
    assert run.returncode == 0, run.stderr
    assert url in json.loads(run.stdout)["sources"]["train_rows"]
    wrong = podium(tmp_path / "home", server, "plan", plan, AWS_SECRET_ACCESS_KEY="wrong")
    assert wrong.returncode == 2
    assert "the secret key does not fit the access key" in wrong.stderr
    gone = podium(tmp_path / "home", Server(f"http://127.0.0.1:{free_port()}"), "plan", plan, AWS_MAX_ATTEMPTS="1")
    assert gone.returncode == 5
    assert "Could not connect to the endpoint URL" in gone.stderr
    assert "Traceback" not in wrong.stderr + gone.stderr


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("export.to=gs://shop/x", "only s3:// URLs can be used here"),
        ("export.to=s3://shop/../x", "is no plain path"),
        ("export.keep=-1", "must be at least 0, but got -1"),
    ],
)
def test_an_export_that_cannot_be_meant_is_told_by_plan(
    server: Server, tmp_path: Path, override: str, words: str
) -> None:
    run = podium(tmp_path, server, "plan", "sweeps/quickstart.yaml", override)
    assert run.returncode == 2
    assert words in run.stderr


def test_a_bucket_that_is_not_there_is_told_before_a_sweep_starts(server: Server, tmp_path: Path) -> None:
    run = podium(tmp_path, server, "submit", "sweeps/quickstart.yaml", "export.to=s3://nowhere/champions/")
    assert run.returncode == 2, run.stderr
    assert "there is no bucket 'nowhere'" in run.stderr
    assert not list(tmp_path.glob("runs/*/ledger.jsonl"))
