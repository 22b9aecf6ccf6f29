"""LoRA adapters from elsewhere, in PEFT's format: where one lies, what names its content, whether it fits. No torch."""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from recipes import bases, objects
from sweeps.errors import InvalidInput, Problem

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BUNDLE = ("manifest.json", "champion.json")  # beside them where the adapter is one that Podium exported
PREFIX = "base_model.model."
BEYOND = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication")
"""Settings of PEFT beside rank and alpha that change what an adapter computes."""

_MOST_FILES = 10_000


def locate(where: str, base_dir: Path, cache: Path) -> Path:
    """The local folder of an adapter; from object storage it is copied into the cache, each version once.

    Args:
        where: A folder with an adapter in PEFT's format, a bundle, or the ``s3://`` URL of either.
        base_dir: What a relative path is taken from.
        cache: Podium's own.

    Raises:
        InvalidInput: It is not there, has pickled weights, or is no adapter; ``where`` of the problem is ``adapter``.
        ServiceUnreachable: The object storage does not answer.
    """
    path = Path(where).expanduser()
    folder = _fetched(where, cache) if objects.is_url(where) else path if path.is_absolute() else base_dir / path
    if not folder.is_dir():
        raise InvalidInput(Problem("adapter", f"no such folder: {where}", f"relative paths are taken from {base_dir}"))
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        pickled = (folder / "adapter_model.bin").is_file()
        hint = (
            "pickled weights are never loaded: save them as safetensors" if pickled else "give a PEFT adapter's folder"
        )
        raise InvalidInput(Problem("adapter", f"{where} has no {' and no '.join(missing)}", hint))
    return folder


def _fetched(url: str, cache: Path) -> Path:
    place = objects.folder_of(url)
    there = objects.listing(place, _MOST_FILES)
    if not there:
        raise InvalidInput(
            Problem("adapter", f"nothing is at {url}", "give the folder of a PEFT adapter or of a bundle")
        )
    files = {name: objects.fetch(f"{place}/{name}", cache) for name in (CONFIG, WEIGHTS, *BUNDLE) if name in there}
    named = hashlib.sha256("\n".join(f"{name} {path.name}" for name, path in files.items()).encode()).hexdigest()
    folder = cache / "adapters" / named[:32]
    if not folder.is_dir():
        part = folder.with_suffix(f".{os.getpid()}.part")
        part.mkdir(parents=True, exist_ok=True)
        for name, path in files.items():
            shutil.copyfile(path, part / name)
        try:
            part.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(part)
    return folder


def identity(folder: Path) -> str:
    """SHA-256 over weights and configuration, where the scale and the layers stand."""
    total = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def check(folder: Path, base: Path | None, *, plain: bool) -> None:
    """Whether an adapter can be put on a base: its layers are the base's, with as many inputs and outputs.

    Args:
        folder: As :func:`locate` found it.
        base: The base's folder; None where it is not local, and then the layers are not compared.
        plain: Whether it must be low-rank products of linear layers and nothing else, as the packed engine reads it.

    Raises:
        InvalidInput: It is no LoRA adapter, damaged, or another base's.
    """
    config = _config(folder)
    kind = config.get("peft_type")
    if kind != "LORA":
        hint = "merge it into its base and give that as model, or give the endpoint that serves it"
        raise InvalidInput(Problem("adapter", f"must be a LoRA adapter, but {folder} has peft_type {kind!r}", hint))
    shapes = _shapes(folder / WEIGHTS)
    odd = sorted(name for name in BEYOND if config.get(name))
    odd += sorted({name for name in shapes if not name.endswith((".lora_A.weight", ".lora_B.weight"))})[:3]
    if plain and odd:
        hint = "set engine: nemo, merge it into its base and give that as model, or give the endpoint that serves it"
        rule = f"the packed engine answers with plain LoRA, but {folder} has {', '.join(odd)}"
        raise InvalidInput(Problem("adapter", rule, hint))
    if base is not None:
        _compare(folder, shapes, bases.linear_layers(base), base)


def shape(folder: Path) -> tuple[int, float, tuple[str, ...]]:
    """Rank, alpha and the adapted layers of an adapter that was checked."""
    config = _config(folder)
    layers = (name.removeprefix(PREFIX).rpartition(".lora_") for name in sorted(_shapes(folder / WEIGHTS)))
    return int(config["r"]), float(config["lora_alpha"]), tuple(layer for layer, _, half in layers if half[0] == "A")


def by_last_name(layers: Collection[str], every: Sequence[str]) -> list[str]:
    """The last names of these layers, where all of the base's that bear one are among them; else none."""
    leaves = {name.rsplit(".", 1)[-1] for name in layers}
    is_whole = every and all(name in layers for name in every if name.rsplit(".", 1)[-1] in leaves)
    return sorted(leaves) if is_whole else []


def named_base(folder: Path) -> tuple[str, str | None]:
    """The base that an adapter says it is of: its path or hub id, and in a bundle its identity."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        base = json.loads((folder / BUNDLE[1]).read_bytes())["base"]
        return str(base["name"]), base["identity"] or None
    return str(_config(folder).get("base_model_name_or_path") or ""), None


def _compare(folder: Path, shapes: dict[str, tuple[int, ...]], layers: dict[str, tuple[int, int]], base: Path) -> None:
    hint = "name its own base as model"
    for name, shape in shapes.items():
        layer, _, half = name.removeprefix(PREFIX).rpartition(".lora_")
        if half not in ("A.weight", "B.weight"):
            continue
        if layer not in layers:
            rule = f"{folder} is of another base: {base} has no linear layer {layer}"
            raise InvalidInput(Problem("adapter", rule, hint))
        outputs, inputs = layers[layer]
        found, needed, what = (shape[-1], inputs, "inputs") if half[0] == "A" else (shape[0], outputs, "outputs")
        if found != needed:
            rule = f"{folder} is of another base: its {layer} has {found} {what}, that of {base} has {needed}"
            raise InvalidInput(Problem("adapter", rule, hint))


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except ValueError as error:
        raise InvalidInput(Problem("adapter", f"{folder / CONFIG} is not JSON: {error}")) from None
    return config if isinstance(config, dict) else {}


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        rule = f"{path} is no safetensors file, or is cut short: {error}"
        raise InvalidInput(Problem("adapter", rule, "copy or download it again")) from None
