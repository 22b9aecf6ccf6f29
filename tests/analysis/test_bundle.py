"""Export and verify: a real PEFT adapter on a tiny base, and every way in which a bundle can be wrong."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import manifest
from analysis.champion import choose
from analysis.export import export
from analysis.rule import Rule
from analysis.verify import Rescore, inspect, verify
from sweeps.errors import InvalidInput, NoChampion, VerificationFailed
from sweeps.spec import Constraint
from tests.analysis.synthetic import Tiny, items
from tracking.ledger import SweepState


def make(state: SweepState, tiny: Tiny, to: Path, **options: Any) -> Path:
    return export(
        state,
        choose(state),
        to,
        base_path=tiny.base,
        base_name="acme/tiny",
        tokenizer_from=tiny.base,
        commit="c0ffee",
        **options,
    )


@pytest.fixture
def bundle(with_adapters: SweepState, tiny: Tiny, tmp_path: Path) -> Path:
    return make(with_adapters, tiny, tmp_path / "out" / "bundle")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder with a manifest, for properties over many changes."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "merged").mkdir()
    for name, content in (("a.json", b'{"a": 1}\n'), ("w.safetensors", bytes(range(64))), ("merged/b.txt", b"b")):
        (folder / name).write_bytes(content)
    manifest.write(folder)
    return folder


def as_stored(folder: Path, stored: list[dict[str, Any]]) -> list[str]:
    return [item["answer"] for item in stored]


def by_index(items: list[dict[str, Any]], answers: list[str]) -> dict[str, float]:
    """The stored items' score: row i is worth i mod 6 when answered with its own word."""
    rows = [item["row"] for item in items]
    right = [row["index"] % 6 if answer == f"w{row['index']}" else 0 for row, answer in zip(rows, answers, strict=True)]
    return {"quality/score": sum(right) / len(right), "quality/json_valid": 1.0}


def test_a_bundle_holds_what_a_server_and_a_reader_need(bundle: Path, with_adapters: SweepState) -> None:
    names = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert names >= {
        "adapter_model.safetensors",
        "adapter_config.json",
        "tokenizer.json",
        "champion.json",
        "items.jsonl",
    }
    assert names >= {"README.md", "manifest.json"}
    config = json.loads((bundle / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "acme/tiny"
    proof = json.loads((bundle / "champion.json").read_text())
    champion = with_adapters.trials[proof["trial"]["id"]]
    assert proof["trial"]["values"] == champion.values
    assert proof["trial"]["settings"]["optimizer"]["lr"] == 5e-3
    score = proof["metrics"]["quality/score"]
    assert (score["value"], score["n"]) == (champion.metrics["quality/score"], 48)
    assert score["source"] == f"evaluation {champion.id}-dev on dev"
    assert [row["role"] for row in proof["comparison"]["challenge"]][-1] == "champion"
    assert proof["code"]["commit"] == "c0ffee"
    assert proof["data"] == {"data_identity": "d" * 64}
    assert proof["prices"]["price"]["cpu"]["usd_per_hour"] == 0.05
    assert len(proof["runners_up"]) == 3
    assert str(with_adapters.folder) not in (bundle / "champion.json").read_text()


def test_a_good_bundle_verifies_in_plain_peft(bundle: Path, tiny: Tiny) -> None:
    report = verify(bundle, tiny.base, Rescore(as_stored, by_index))
    assert [(check.name, check.ok) for check in report.checks] == [
        ("files", True),
        ("base", True),
        ("adapter", True),
        ("score", True),
    ]
    assert "n=6" in report.checks[-1].detail
    json.dumps(report.to_dict())


def test_merged_weights_answer_as_the_adapter_does(with_adapters: SweepState, tiny: Tiny, tmp_path: Path) -> None:
    bundle = make(with_adapters, tiny, tmp_path / "bundle", merge=True)
    seen: list[str] = []

    def answer(folder: Path, stored: list[dict[str, Any]]) -> list[str]:
        seen.append(folder.name)
        return as_stored(folder, stored)

    report = verify(bundle, tiny.base, Rescore(answer, by_index))
    assert [check.name for check in report.checks] == ["files", "base", "adapter", "merged", "score", "score of merged"]
    assert seen == ["bundle", "merged"]


def test_without_a_base_only_files_are_checked_and_the_rest_is_said(bundle: Path) -> None:
    report = verify(bundle)
    assert [(check.name, check.ok) for check in report.checks] == [
        ("files", True),
        ("base", None),
        ("adapter", None),
        ("score", None),
    ]
    assert "acme/tiny" in report.checks[1].detail


def test_another_base_is_refused(bundle: Path, tiny: Tiny, tmp_path: Path) -> None:
    other = shutil.copytree(tiny.base, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    with pytest.raises(VerificationFailed, match="is not the base of this champion") as caught:
        verify(bundle, other)
    assert caught.value.exit_code == 7


def test_other_answers_are_refused(bundle: Path, tiny: Tiny) -> None:
    def silent(folder: Path, stored: list[dict[str, Any]]) -> list[str]:
        return ["" for _ in stored]

    with pytest.raises(VerificationFailed, match=r"score: quality/score 0 \(was 2.5, allowed 2.48 to 2.52\)"):
        verify(bundle, tiny.base, Rescore(silent, by_index))


def test_a_score_may_move_within_its_interval_and_a_few_answers_with_it(bundle: Path, tiny: Tiny) -> None:
    """The interval of 60 items is wide; how many answers may be others bounds what it lets through."""
    stored = [json.loads(line) for line in (bundle / "items.jsonl").read_text().splitlines()]
    many = [{**item, "id": f"{copy}-{item['id']}"} for copy in range(10) for item in stored]
    (bundle / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in many))
    manifest.write(bundle)

    def others(number: int) -> Rescore:
        def answer(folder: Path, items: list[dict[str, Any]]) -> list[str]:
            return as_stored(folder, items)[:-number] + [""] * number

        return Rescore(answer, by_index)

    assert verify(bundle, tiny.base, others(3)).ok, "3 of 60"
    with pytest.raises(VerificationFailed, match="56 answers to the letter, at least 57 must be"):
        verify(bundle, tiny.base, others(4))
    with pytest.raises(VerificationFailed, match=r"score at http://x: .* 0 answers to the letter"):
        verify(bundle, tiny.base, others(3), elsewhere={"score at http://x": others(60)})
    with pytest.raises(VerificationFailed, match=r"score at http://x"):
        verify(bundle, elsewhere={"score at http://x": others(60)})


def test_an_adapter_of_another_shape_is_refused(bundle: Path, tiny: Tiny) -> None:
    """Files that agree with their manifest, but do not fit the base."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(bundle / "adapter_model.safetensors")
    name = min(tensors)
    tensors[f"{name}.unknown"] = torch.zeros(3)
    save_file(tensors, bundle / "adapter_model.safetensors", metadata={"format": "pt"})
    manifest.write(bundle)
    with pytest.raises(VerificationFailed, match="unknown is not in the loaded model"):
        verify(bundle, tiny.base)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(bundle: Path, tiny: Tiny, value: float) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(bundle / "adapter_model.safetensors")
    tensors[min(tensors)][0, 0] = value
    save_file(tensors, bundle / "adapter_model.safetensors", metadata={"format": "pt"})
    manifest.write(bundle)
    with pytest.raises(VerificationFailed, match="not finite"):
        verify(bundle, tiny.base)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_in_any_file_is_caught_and_named(toy: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(path for path in toy.rglob("*") if path.is_file())))
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    assert manifest.problems(toy) == []
    path.write_bytes(bytes(changed))
    try:
        found = manifest.problems(toy)
    finally:
        path.write_bytes(content)
    assert found
    if path.name != manifest.FILE_NAME:
        assert any(path.relative_to(toy).as_posix() in line for line in found)


def test_every_file_of_a_real_bundle_is_covered(bundle: Path) -> None:
    for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(VerificationFailed, match=path.name.replace(".", r"\.")):
            verify(bundle)
        path.write_bytes(content)
    assert inspect(bundle).ok


def test_missing_and_extra_files_and_pickles_are_named(bundle: Path) -> None:
    (bundle / "tokenizer.json").unlink()
    (bundle / "training_args.bin").write_bytes(b"")
    detail = inspect(bundle).checks[0].detail
    assert "tokenizer.json is missing" in detail
    assert "training_args.bin is not in the manifest" in detail
    assert "training_args.bin may hold pickled code" in detail


def test_links_are_refused(bundle: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.move(bundle / "README.md", outside)
    (bundle / "README.md").symlink_to(outside)
    with pytest.raises(VerificationFailed, match=r"README.md is a link"):
        verify(bundle)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "a/../../b", "a\\..\\b", "./champion.json", ".", "", "a//b"]
)
def test_paths_that_leave_the_bundle_are_refused(bundle: Path, name: str) -> None:
    path = bundle / manifest.FILE_NAME
    content = json.loads(path.read_bytes())
    content["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    with pytest.raises(VerificationFailed, match="leads out of the bundle"):
        verify(bundle)


@pytest.mark.parametrize("content", ["", "[]", "null", '{"format": 99, "files": {}}', '{"format": 1}', "[" * 100_000])
def test_a_manifest_that_cannot_be_read_fails_the_check(bundle: Path, content: str) -> None:
    (bundle / manifest.FILE_NAME).write_text(content)
    with pytest.raises(VerificationFailed, match=r"manifest\.json"):
        verify(bundle)


@pytest.mark.parametrize("entry", [None, 5, [], {}, {"bytes": "9"}, {"sha256": 1}])
def test_a_manifest_with_odd_entries_fails_the_check(bundle: Path, entry: Any) -> None:
    path = bundle / manifest.FILE_NAME
    content = json.loads(path.read_bytes())
    content["files"]["README.md"] = entry
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    with pytest.raises(VerificationFailed, match=r"README\.md was changed"):
        verify(bundle)


def test_no_such_bundle(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such folder"):
        verify(tmp_path / "nowhere")


def test_exporting_again_keeps_an_equal_bundle_and_refuses_another(
    bundle: Path, with_adapters: SweepState, tiny: Tiny
) -> None:
    before = (bundle / "champion.json").stat().st_mtime_ns
    assert make(with_adapters, tiny, bundle) == bundle
    assert (bundle / "champion.json").stat().st_mtime_ns == before
    with pytest.raises(InvalidInput, match="holds another bundle"):
        make(with_adapters, tiny, bundle, extra={"note": "new"})
    second = make(with_adapters, tiny, bundle, extra={"note": "new"}, numbered=True)
    assert second == bundle.with_name("bundle-2")
    assert json.loads((second / "champion.json").read_text())["note"] == "new"
    assert (bundle / "champion.json").stat().st_mtime_ns == before
    assert make(with_adapters, tiny, bundle, extra={"note": "new"}, numbered=True) == second, "it is there already"
    (bundle.parent / "bundle-3").mkdir()
    third = make(with_adapters, tiny, bundle, extra={"note": "newer"}, numbered=True)
    assert third.name == "bundle-3", "an empty folder is free"
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["bundle", "bundle-2", "bundle-3"]


def test_a_folder_that_is_no_bundle_is_never_replaced(with_adapters: SweepState, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("…")
    with pytest.raises(InvalidInput, match="is no bundle"):
        make(with_adapters, tiny, tmp_path / "mine")
    assert make(with_adapters, tiny, tmp_path / "mine", numbered=True) == tmp_path / "mine-2"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_told(with_adapters: SweepState, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="the bundle cannot be written: "):
        make(with_adapters, tiny, tmp_path / "file" / "bundle")


def test_another_trial_than_the_champion_says_so(with_adapters: SweepState, tiny: Tiny, tmp_path: Path) -> None:
    choice = choose(with_adapters)
    other = replace(choice, champion=choice.ranking[1])
    made = export(with_adapters, other, tmp_path / "b", base_path=tiny.base, base_name="b", tokenizer_from=tiny.base)
    number = with_adapters.trials[choice.ranking[1]].number
    assert (made / "README.md").read_text().startswith(f"# Trial {number} of shop")


def test_a_failed_export_leaves_nothing_behind(with_adapters: SweepState, tiny: Tiny, tmp_path: Path) -> None:
    champion = with_adapters.trials[str(choose(with_adapters).champion)]
    (with_adapters.folder / str(champion.adapter) / "adapter_model.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"no adapter_model\.safetensors"):
        make(with_adapters, tiny, tmp_path / "out" / "bundle")
    assert list((tmp_path / "out").iterdir()) == []


def test_no_champion_is_not_exported(with_adapters: SweepState, tiny: Tiny, tmp_path: Path) -> None:
    limit = Constraint(metric="quality/score", op=">", bound=99.0)
    choice = choose(with_adapters, Rule("quality/score", "max", (limit,)))
    with pytest.raises(NoChampion, match="must be > 99"):
        export(with_adapters, choice, tmp_path / "b", base_path=tiny.base, base_name="b", tokenizer_from=tiny.base)


def test_the_stored_items_are_the_champions(bundle: Path) -> None:
    assert [json.loads(line) for line in (bundle / "items.jsonl").read_text().splitlines()] == items()
