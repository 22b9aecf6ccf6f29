"""What is exported, merged or served is held to the answers that were measured; what answers otherwise is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import manifest
from launchers.bundle_worker import Served, verify_bundle
from sweeps.errors import ServiceUnreachable, VerificationFailed
from tests.launchers.serving.bundles import SCHEMA, add_items, make_bundle, make_place, served
from tests.production import Production, said
from tests.recipes.tiny import one_thread


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with one_thread():
        base, bundle = make_place(tmp_path_factory.mktemp("parity"))
        yield base, add_items(bundle, base)


@pytest.fixture
def bundle(place: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copytree(place[1], tmp_path / "bundle"))


def scale(bundle: Path, factor: float) -> None:
    """Multiply what the adapter adds; the manifest says that all is as it should be."""
    from safetensors.torch import load_file, save_file

    path = bundle / "adapter_model.safetensors"
    tensors = {name: one * (factor if "lora_B" in name else 1) for name, one in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    manifest.write(bundle)


def merge(base: Path, bundle: Path, scaling: float = 1.0) -> None:
    """Add merged weights, as an export does, or with the adapter's scale gone wrong."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), bundle)
    for module in adapted.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling = {name: scaling * value for name, value in module.scaling.items()}
    adapted.merge_and_unload().save_pretrained(bundle / "merged")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(bundle / name, bundle / "merged" / name)
    manifest.write(bundle)


def test_what_was_exported_answers_as_it_was_measured(place: tuple[Path, Path]) -> None:
    checks = {check.name: check for check in verify_bundle(place[1])}
    assert all(check.ok for check in checks.values())
    assert "quality/exact_match 0.5 (was 0.5, allowed 0." in checks["score"].detail
    assert "n=20; 20 answers to the letter, at least 19 must be" in checks["score"].detail


@pytest.mark.parametrize("factor", [0.5, 0.9, -1.0])
def test_an_adapter_that_was_tampered_with_is_refused_though_its_manifest_fits(bundle: Path, factor: float) -> None:
    scale(bundle, factor)
    assert manifest.problems(bundle) == []
    with pytest.raises(VerificationFailed) as caught:
        verify_bundle(bundle)
    assert "score: quality/exact_match" in str(caught.value)
    assert "adapter:" not in str(caught.value), "it loads, and only its answers give it away"


def test_weights_that_are_merged_with_a_wrong_scale_are_refused(place: tuple[Path, Path], bundle: Path) -> None:
    merge(place[0], bundle)
    assert [check.name for check in verify_bundle(bundle) if check.ok][-3:] == ["merged", "score", "score of merged"]
    merge(place[0], bundle, scaling=0.5)
    with pytest.raises(VerificationFailed, match=r"(?s)merged: logits differ.*score of merged: quality/exact_match"):
        verify_bundle(bundle)


def test_a_server_that_answers_as_the_bundle_does_is_taken(place: tuple[Path, Path]) -> None:
    with served(place[1]) as url:
        checks = verify_bundle(place[1], served=Served(url, "champion"))
    assert (checks[-1].name, checks[-1].ok) == (f"score at {url}", True)
    assert "20 answers to the letter" in checks[-1].detail


def test_a_server_of_other_answers_is_refused(place: tuple[Path, Path], tmp_path: Path) -> None:
    """Here another adapter under the name; so is an engine that computes otherwise, or a template that is another."""
    other = make_bundle(tmp_path / "other", place[0], seed=7)
    with served(other) as url, pytest.raises(VerificationFailed, match=f"score at {url}: quality/exact_match 0 "):
        verify_bundle(place[1], served=Served(url, "champion"))


def test_a_server_that_dies_or_knows_no_such_model_is_told(place: tuple[Path, Path]) -> None:
    with served(place[1]) as url, pytest.raises(ServiceUnreachable, match="`gone` does not exist; there are champion"):
        verify_bundle(place[1], served=Served(url, "gone"))
    with pytest.raises(ServiceUnreachable, match=f"the server at {url}/chat/completions does not answer"):
        verify_bundle(place[1], served=Served(url, "champion"))


def test_a_guided_champion_is_held_to_its_guided_answers(place: tuple[Path, Path], tmp_path: Path) -> None:
    import jsonschema

    base = place[0]
    guided = add_items(make_bundle(tmp_path / "guided", base, guided=True), base, guided=True)
    for line in (guided / "items.jsonl").read_text().splitlines():
        jsonschema.validate(json.loads(json.loads(line)["answer"]), SCHEMA)
    with served(guided) as url:
        checks = verify_bundle(guided, served=Served(url, "champion"))
    assert {check.name: check.ok for check in checks[-2:]} == {"score": True, f"score at {url}": True}


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (lambda body: said('{"products": ["hat"]}'), "ignores response_format"),
        (lambda body: (400, {"error": "response_format is not known"}), "refuses response_format"),
    ],
    ids=["ignores", "refuses"],
)
def test_a_server_that_does_not_keep_to_the_schema_is_caught_before_it_is_asked(
    place: tuple[Path, Path], tmp_path: Path, reply: Any, told: str
) -> None:
    base = place[0]
    guided = add_items(make_bundle(tmp_path / "guided", base, guided=True), base, guided=True)
    with Production(reply) as server:
        with pytest.raises(ServiceUnreachable) as caught:
            verify_bundle(guided, served=Served(server.url, "champion"))
        assert len(server.asked) == 1
    assert told in str(caught.value)
    assert "nothing would hold its replies to the schema of answers" in str(caught.value)
