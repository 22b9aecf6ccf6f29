"""What starts other servers, compared with what is stored in tests/golden/; ``UPDATE_GOLDEN=1`` writes it anew."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from launchers.serving.bundle import more_adapters, opened
from launchers.serving.elsewhere import STARTS, TITLES, Served, argv, script, served, show, write
from sweeps.errors import InvalidInput
from tests.launchers.running import ROOT
from tests.launchers.serving.bundles import make_bundle, make_place

GOLDEN = ROOT / "tests" / "golden"
ALONE = Served(
    base="nvidia/Llama-3.1-Nemotron-Nano-8B-v1",
    name="nvidia/Llama-3.1-Nemotron-Nano-8B-v1",
    revision="54641c1",
    dtype="bfloat16",
    quantize=None,
    adapters={"champion": Path("/models/champion")},
    rank=16,
)
SWEEP = Served(
    base="/models/my base",
    name="shop/base-8b",
    revision=None,
    dtype="bfloat16",
    quantize="nf4",
    adapters={
        "champion": Path("/models/champion"),
        "trial-3": Path("/home/me/.podium/runs/it's/trials/1ab34ef/adapter"),
    },
    rank=48,
)


@pytest.mark.parametrize("server", TITLES)
@pytest.mark.parametrize(("name", "what"), [("alone", ALONE), ("sweep", SWEEP)], ids=["alone", "sweep"])
def test_scripts_are_as_stored(server: str, name: str, what: Served) -> None:
    is_as_stored(GOLDEN / f"serve_{server}_{name}.sh", script(server, what))


@pytest.mark.parametrize("server", STARTS)
def test_commands_of_a_grid_are_as_stored(server: str) -> None:
    """A word a line."""
    is_as_stored(GOLDEN / f"grid_{server}.txt", "".join(f"{word}\n" for word in argv(server, SWEEP, 8123, tp=2)))


def is_as_stored(path: Path, made: str) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(made, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == made


@pytest.mark.parametrize("server", TITLES)
def test_a_shell_hands_over_the_words_that_are_meant(server: str, tmp_path: Path) -> None:
    """Paths with spaces and quotes arrive in one piece, and what is added comes last."""
    for name in ("vllm", "python", "docker"):
        (tmp_path / name).write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n')
        (tmp_path / name).chmod(0o755)
    path = tmp_path / "serve.sh"
    path.write_text(script(server, SWEEP))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NIM_IMAGE": "nvcr.io/nim/x", "HOME": "/home/me"}
    done = subprocess.run(["sh", str(path), "--tp", "2"], env=environment, capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    assert words[-2:] == ["--tp", "2"]
    if server == "nim":
        assert words[-3] == "nvcr.io/nim/x"
        assert f"{tmp_path}/loras:/opt/nim/loras:ro" in words
        passed = next(word for word in words if word.startswith("NIM_PASSTHROUGH_ARGS="))
        assert shlex.split(passed.partition("=")[2])[-1] == "64", "the next rank that vLLM takes"
    else:
        assert "/models/my base" in words
        assert "trial-3=/home/me/.podium/runs/it's/trials/1ab34ef/adapter" in words


def test_a_nim_without_its_image_says_so(tmp_path: Path) -> None:
    path = tmp_path / "serve.sh"
    path.write_text(script("nim", ALONE))
    done = subprocess.run(
        ["sh", str(path)], env={"PATH": os.environ["PATH"], "HOME": "/"}, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "NIM_IMAGE: set it to the NIM of nvidia/Llama-3.1-Nemotron-Nano-8B-v1" in done.stderr


def test_a_store_for_a_nim_is_the_folders_that_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, bundle = make_place(tmp_path)
    second = make_bundle(tmp_path / "second", base, seed=2)
    with opened(str(bundle)) as found:
        more = more_adapters(found, [f"second={second}"])
        assert served(found, more).rank == 4
        show(found, more, "nim", tmp_path / "nim")
        with pytest.raises(InvalidInput, match="is not empty"):
            write(served(found, more), "nim", tmp_path / "nim")
        with pytest.raises(InvalidInput, match="add --out DIR"):
            show(found, more, "nim", None)
    assert capsys.readouterr().out.strip() == str(tmp_path / "nim" / "serve.sh")
    files = sorted(path.relative_to(tmp_path / "nim").as_posix() for path in (tmp_path / "nim").rglob("*.*"))
    assert files == [
        "loras/champion/adapter_config.json",
        "loras/champion/adapter_model.safetensors",
        "loras/second/adapter_config.json",
        "loras/second/adapter_model.safetensors",
        "serve.sh",
    ]
    config = json.loads((tmp_path / "nim" / "loras" / "champion" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "acme/tiny"
    assert os.access(tmp_path / "nim" / "serve.sh", os.X_OK)
