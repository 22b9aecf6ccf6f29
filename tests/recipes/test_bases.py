"""Where a base lies, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipes import bases
from recipes.schema import Base
from sweeps.errors import InvalidInput
from tests.recipes.tiny import make_base

WHOLE = "give a folder as transformers' save_pretrained writes it, of the model and of its tokenizer"
HUB = "nvidia/Llama-3.1-Nemotron-Nano-8B-v1"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "base"))


def refused(path: str, base_dir: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        bases.locate(Base(path=path), base_dir)
    return str(caught.value)


def test_a_folder_is_found_from_the_sweeps_own(folder: Path) -> None:
    assert bases.locate(Base(path="base"), folder.parent) == folder
    assert bases.locate(Base(path=str(folder)), Path("/")) == folder


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refused("base", folder.parent) == f"base.path: {folder} has no {name} ({WHOLE})"


def test_two_missing_files_are_named_together(folder: Path) -> None:
    for name in bases.REQUIRED:
        (folder / name).unlink()
    assert refused("base", folder.parent) == f"base.path: {folder} has no config.json and no tokenizer.json ({WHOLE})"


def test_pickled_weights_are_never_loaded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert refused("base", folder.parent) == (
        f"base.path: {folder} has no *.safetensors, only pytorch_model.bin"
        " (convert the weights: pickled ones are never loaded)"
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_weights_that_were_cut_anywhere_are_refused(original: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = Path(shutil.copytree(original, tmp_path / "base", dirs_exist_ok=True))
    whole = (original / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    told = refused("base", folder.parent)
    assert told.startswith(f"base.path: {folder / 'model.safetensors'} is ")
    assert "cut short" in told
    assert told.endswith("(copy or download it again)")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of git-lfs, not the weights"),
        (b"\x80\x02}q\x00." * 100, "is no safetensors file, or is cut short within its header"),
        (b"\x02" + b"\x00" * 7 + b"[]", "is no safetensors file, or is cut short within its header"),
    ],
    ids=["git-lfs", "pickle", "no header"],
)
def test_what_is_called_safetensors_and_is_none_is_refused(folder: Path, content: bytes, told: str) -> None:
    (folder / "model.safetensors").write_bytes(content)
    assert told in refused("base", folder.parent)


def test_every_file_that_the_index_names_must_be_there(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "has no model-00002-of-00002.safetensors, which its model.safetensors.index.json" in refused(
        "base", folder.parent
    )


def test_the_context_and_the_narrowest_layer_are_read_from_the_files(folder: Path) -> None:
    assert bases.context(folder) == 1024
    assert bases.narrowest(folder, ["*_proj"]) == ("model.layers.0.self_attn.k_proj", 16)
    assert bases.narrowest(folder, ["*.q_proj"]) == ("model.layers.0.self_attn.q_proj", 32)
    assert bases.narrowest(folder, ["q_proj"]) is None
    (folder / "config.json").write_text('{"text_config": {"max_position_embeddings": 7}}')
    assert bases.context(folder) == 7
    (folder / "config.json").write_text("{}")
    assert bases.context(folder) is None


def test_a_hub_id_is_not_local(tmp_path: Path) -> None:
    assert bases.locate(Base(path=HUB), tmp_path) is None
    assert bases.identity(Base(path=HUB), tmp_path) == f"hub:{HUB}@main"
    assert bases.identity(Base(path=HUB, revision="abc"), tmp_path) == f"hub:{HUB}@abc"


@pytest.mark.parametrize("path", ["nowhere", "./no/where", "/no/where", "~/nowhere/at-all", "a/b/c"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_told(path: str, tmp_path: Path) -> None:
    assert refused(path, tmp_path) == f"base.path: no such folder: {path} (give a folder or a hub id)"


def test_an_unknown_builtin_is_told(tmp_path: Path) -> None:
    assert refused("builtin:huge", tmp_path) == (
        "base.path: no builtin base 'builtin:huge' (valid: builtin:tiny_commerce)"
    )


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_the_identity_follows_the_content_alone(folder: Path, tmp_path: Path, name: str) -> None:
    before = bases.identity(Base(path=str(folder)), tmp_path)
    elsewhere = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert bases.identity(Base(path=str(elsewhere)), tmp_path) == before
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert bases.identity(Base(path=str(folder)), tmp_path) != before


def test_the_size_of_a_hub_base_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        bases.num_parameters(Base(path=HUB), tmp_path)
    assert str(caught.value) == (
        f"base.num_parameters: {HUB} is not local, so its size is not known (set base.num_parameters in the recipe)"
    )
    assert bases.num_parameters(Base(path=HUB, num_parameters=8), tmp_path) == (8, "the recipe's base.num_parameters")


def test_the_shipped_base_is_the_one_that_its_record_describes() -> None:
    """As ``make base`` wrote it: the weights' hash, the size, a loss that fell."""
    import hashlib

    folder = bases.BUILTIN["builtin:tiny_commerce"]
    record = json.loads((folder / "pretrain.json").read_text())
    for name, digest in record["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert set(record["sha256"]) == {"model.safetensors"}
    assert bases.num_parameters(Base(path="builtin:tiny_commerce"), Path())[0] == record["num_parameters"]
    assert record["log"][-1]["step"] == record["steps"]
    assert record["log"][-1]["loss"] < record["log"][0]["loss"] / 4
