"""What starts another server for a bundle and further adapters of its base: vLLM, SGLang, NVIDIA NIM.

Flags after the documentation of vLLM 0.11 and later, SGLang 0.5 and NIM for LLMs 2.1 (docs/serving.md names the pages).
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from analysis.export import ADAPTER, vllm_rank
from launchers.output import say
from launchers.serving.bundle import CHAMPION, Bundle
from sweeps.errors import InvalidInput, Problem

SCRIPT = "serve.sh"
STORE = "loras"  # the folder that a NIM takes adapters from
IN_CONTAINER = "/opt/nim/loras"


@dataclass(frozen=True)
class Served:
    """What a server is to serve.

    Attributes:
        base: The base's folder, or its id on the hub.
        name: What clients call the base.
        revision: Of the base on the hub.
        dtype: Of its weights, as it was measured.
        quantize: ``nf4`` where its weights were in 4 bits.
        adapters: Their folders, by the names that clients use.
        rank: The highest rank among them.
    """

    base: str
    name: str
    revision: str | None
    dtype: str
    quantize: str | None
    adapters: Mapping[str, Path]
    rank: int


def served(bundle: Bundle, more: Mapping[str, Path]) -> Served:
    """A bundle and further adapters, for another server."""
    base, adapters = bundle.recipe.base, {CHAMPION: bundle.folder, **more}
    return Served(
        base=str(bundle.base or base.path),
        name=bundle.base_name.replace(":", "-"),  # SGLang puts a colon between base and adapter
        revision=None if bundle.base else base.revision,
        dtype=base.dtype,
        quantize=base.quantize,
        adapters=adapters,
        rank=max(int(json.loads((folder / ADAPTER[1]).read_bytes())["r"]) for folder in adapters.values()),
    )


def vllm(what: Served) -> str:
    """The script for vLLM: all adapters on one server."""
    words = ["exec vllm serve", quote(what.base)]
    options = [
        *_base_options(what, "--served-model-name"),
        *(["--quantization bitsandbytes"] if what.quantize == "nf4" else []),
        "--generation-config vllm",  # not the base's own sampling: what a request leaves out is vLLM's default
        "--enable-lora",
        f"--max-loras {len(what.adapters)}",
        f"--max-lora-rank {vllm_rank(what.rank)}",
        f"--lora-modules {_pairs(what)}",
    ]
    return _script("vLLM", what, 'send `"model": "champion"`', words, options)


def sglang(what: Served) -> str:
    """The script for SGLang: all adapters on one server."""
    words = ["exec python -m sglang.launch_server --model-path", quote(what.base)]
    options = [
        *_base_options(what, "--served-model-name"),
        *(["--quantization bitsandbytes --load-format bitsandbytes"] if what.quantize == "nf4" else []),
        "--sampling-defaults openai",
        "--enable-lora",
        f"--max-loras-per-batch {len(what.adapters) + 1}",  # the base takes a place
        f"--max-lora-rank {what.rank}",
        f"--lora-paths {_pairs(what)}",
    ]
    return _script("SGLang", what, f'send `"model": "{what.name}:champion"`', words, options)


def nim(what: Served) -> str:
    """The script for a NIM of the base: it takes every folder of its store as an adapter, under the folder's name."""
    words = ["exec docker run --rm --gpus all --shm-size 16g"]
    flags = f"--enable-lora --max-loras {len(what.adapters)} --max-lora-rank {vllm_rank(what.rank)}"
    options = [
        "-e NGC_API_KEY",
        "-e NIM_MODEL_PROFILE",
        f"-e NIM_PEFT_SOURCE={IN_CONTAINER}",
        f'-e NIM_PASSTHROUGH_ARGS="{flags}"',
        f'-v "$here/{STORE}:{IN_CONTAINER}:ro"',
        '-v "${LOCAL_NIM_CACHE:-$HOME/.cache/nim}:/opt/nim/.cache"',
        "-p 127.0.0.1:8000:8000",
        '"${NIM_IMAGE:?set it to the NIM of ' + what.name + ', nvcr.io/nim/…}"',
    ]
    text = _script("NVIDIA NIM", what, 'send `"model": "champion"`', words, options)
    there = "# Where the image has profiles that end in -feat_lora, set NIM_MODEL_PROFILE to one of them.\n"
    return text.replace("set -eu\n", f'{there}set -eu\nhere=$(cd "$(dirname "$0")" && pwd)\n')


SCRIPTS: Mapping[str, Callable[[Served], str]] = {"vllm": vllm, "sglang": sglang, "nim": nim}


def show(bundle: Bundle, more: Mapping[str, Path], server: str, out: Path | None) -> None:
    """Print the script that starts a server; with ``out`` write it there, for NIM with the store of adapters.

    Raises:
        InvalidInput: NIM without ``out``; or it holds something, or cannot be written.
    """
    what = served(bundle, more)
    text = SCRIPTS[server](what)
    if out is None:
        if server == "nim":
            rule = "a NIM takes its adapters from a folder of its own, and none is named"
            raise InvalidInput(Problem("--out", rule, "add --out DIR"))
        print(text, end="")
        return
    try:
        write(what, server, out)
    except OSError as error:
        raise InvalidInput(Problem("--out", f"{out} cannot be written: {error.strerror}")) from None
    print(out / SCRIPT)
    say(f"`sh {out / SCRIPT}` starts it; further arguments are the server's own")
    if bundle.is_guided:
        say("the champion was measured guided: send its schema with each request, as response_format")


def write(what: Served, server: str, out: Path) -> None:
    """Write the script, and for NIM the store of adapters.

    Raises:
        InvalidInput: Something else is there.
    """
    if out.is_dir() and any(out.iterdir()):
        raise InvalidInput(Problem("--out", f"{out} is not empty", "choose another folder, or empty it"))
    out.mkdir(parents=True, exist_ok=True)
    if server == "nim":
        for name, folder in what.adapters.items():
            (out / STORE / name).mkdir(parents=True)
            for file in ADAPTER:
                shutil.copyfile(folder / file, out / STORE / name / file)
    path = out / SCRIPT
    path.write_text(SCRIPTS[server](what), encoding="utf-8")
    os.chmod(path, 0o755)


def _base_options(what: Served, name_option: str) -> list[str]:
    told = [f"--revision {quote(what.revision)}"] if what.revision else []
    if what.base != what.name:
        told.append(f"{name_option} {quote(what.name)}")
    return [*told, f"--dtype {what.dtype}"]


def _pairs(what: Served) -> str:
    return " ".join(f"{quote(name)}={quote(str(folder))}" for name, folder in what.adapters.items())


def _script(server: str, what: Served, how: str, words: Sequence[str], options: Sequence[str]) -> str:
    # A NIM's image ends its options: what follows is passed on to the server inside.
    lines = " \\\n  ".join([" ".join(words), *options, '"$@"'])
    names = ", ".join(what.adapters)
    return f"""#!/bin/sh
# {server} with {names} on {what.name}. As they were measured: {how} and `"temperature": 0`.
set -eu
{lines}
"""
