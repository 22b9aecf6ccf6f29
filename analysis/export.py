"""The champion's bundle: an adapter that serves as it was measured, with the proof of where it comes from."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analysis import manifest
from analysis.certificate import certificate, settings
from analysis.champion import Choice
from recipes.adapters import CONFIG, WEIGHTS
from sweeps.errors import InvalidInput, NoChampion, Problem
from tracking.ledger import SweepState, TrialState

ADAPTER = (WEIGHTS, CONFIG)
CERTIFICATE = "champion.json"
ITEMS = "items.jsonl"
MERGED = "merged"
_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # the values that vLLM's --max-lora-rank takes
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)


def export(
    state: SweepState,
    choice: Choice,
    to: Path,
    *,
    base_path: Path | str,
    base_name: str,
    tokenizer_from: Path | str,
    base_identity: str | None = None,
    merge: bool = False,
    numbered: bool = False,
    commit: str | None = None,
    extra: dict[str, Any] | None = None,
) -> Path:
    """Make the bundle folder of a champion.

    It is written beside its place and renamed when complete, so a half bundle never has the final name. Nothing in it
    is pickled.

    Args:
        state: The sweep.
        choice: From :func:`analysis.champion.choose`.
        to: The bundle's folder. Its parent is made where missing.
        base_path: The base model that the champion was trained on: a local folder or a hub id. Read only to merge.
        base_name: What a server calls the base; replaces the training path in ``adapter_config.json``.
        tokenizer_from: A local folder or a hub id.
        base_identity: Names the base's content (``recipes.bases.identity``); by default the sweep's.
        merge: Add ``merged/``: the base with the adapter folded in, as safetensors.
        numbered: Where something else is at ``to``, take the next free of ``to-2``, ``to-3``, …
        commit: Of the code, for the certificate; by default as the sweep recorded it.
        extra: Further entries of ``champion.json``.

    Returns:
        Where it lies. A bundle that is there already with the same contents (dates aside) stays as it is; anything
        else is never replaced.

    Raises:
        NoChampion: ``choice`` has none.
        InvalidInput: Adapter, items or tokenizer are not where they should be, the disk cannot be written, or ``to``
            holds something else.
    """
    if choice.champion is None:
        raise NoChampion("\n".join(choice.why))
    trial = state.trials[choice.champion]
    if not numbered:
        check_place(to)
    with _beside(to) as draft:
        _copy_adapter(state, trial, draft, base_name)
        _copy_tokenizer(tokenizer_from, draft)
        if merge:
            _merge(base_path, draft, tokenizer_from, dtype=_dtype(state, trial))
        _copy_items(state, trial, choice, draft)
        base = {"name": base_name, "identity": base_identity or state.facts.get("base_identity")}
        _write_json(draft / CERTIFICATE, certificate(state, choice, base, commit, extra or {}))
        rank = int(json.loads((draft / ADAPTER[1]).read_bytes()).get("r", 0))
        (draft / "README.md").write_text(_readme(state, choice, base_name, merge, rank), encoding="utf-8")
        manifest.write(draft)
        for place in map(Path, places(str(to)) if numbered else [str(to)]):
            if _is_free(place):
                os.rename(draft, place)
                return place
            if is_bundle(place) and same(draft, place):
                return place
    raise InvalidInput(Problem(str(to), "holds another bundle", "choose another folder, or remove it"))


def places(to: str) -> Iterator[str]:
    """Where a bundle may go, in order: ``to``, and for when something else is there ``to-2``, ``to-3``, …"""
    yield to
    yield from (f"{to}-{number}" for number in range(2, 1001))


def check_place(to: Path) -> None:
    """Refuse a place that holds something else than a bundle.

    Raises:
        InvalidInput: It does.
    """
    if not _is_free(to) and not is_bundle(to):
        raise InvalidInput(Problem(str(to), "is there and is no bundle", "choose another folder"))


def _is_free(to: Path) -> bool:
    """Whether nothing is there, or an empty folder."""
    return not os.path.lexists(to) or (to.is_dir() and not to.is_symlink() and not any(to.iterdir()))


@contextmanager
def _beside(to: Path) -> Iterator[Path]:
    """A new folder next to ``to``, on the same disk; removed unless it was renamed away."""
    draft = None
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
        draft.chmod(0o755)
        yield draft
    except OSError as error:
        if error.errno is None:  # not of the disk: transformers raises it for a tokenizer that it does not find
            raise
        rule = f"the bundle cannot be written: {error.strerror}"
        raise InvalidInput(Problem(str(to), rule, "choose another folder, or make room")) from None
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def is_bundle(folder: Path) -> bool:
    """Whether a folder looks like a bundle; :func:`analysis.verify.verify` says whether it is a good one."""
    return (folder / manifest.FILE_NAME).is_file() and (folder / CERTIFICATE).is_file()


def same(draft: Path, there: Path) -> bool:
    """Whether two bundles agree in everything but the date of their certificates."""
    if manifest.problems(there):
        return False
    mine, other = (_without_date(folder) for folder in (draft, there))
    return mine == other


def _without_date(folder: Path) -> tuple[Any, Any]:
    files = json.loads((folder / manifest.FILE_NAME).read_bytes())["files"]
    proof = json.loads((folder / CERTIFICATE).read_bytes())
    return files | {CERTIFICATE: None}, proof | {"created": None}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _copy_adapter(state: SweepState, trial: TrialState, draft: Path, base_name: str) -> None:
    assert trial.adapter is not None, "a champion has an adapter"
    folder = state.folder / trial.adapter
    missing = [name for name in ADAPTER if not (folder / name).is_file()]
    if missing:
        hint = "only PEFT folders with safetensors are exported"
        raise InvalidInput(Problem(str(folder), f"the adapter has no {' and no '.join(missing)}", hint))
    shutil.copyfile(folder / ADAPTER[0], draft / ADAPTER[0])
    config = json.loads((folder / ADAPTER[1]).read_text(encoding="utf-8"))
    _write_json(draft / ADAPTER[1], config | {"base_model_name_or_path": base_name, "revision": None})


def _copy_tokenizer(source: Path | str, to: Path) -> None:
    folder = Path(source)
    if not folder.is_dir():
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(str(source)).save_pretrained(to)
        return
    names = [name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    if not names:
        raise InvalidInput(Problem(str(folder), "no tokenizer here", f"one of {', '.join(_TOKENIZER_FILES)}"))
    for name in names:
        shutil.copyfile(folder / name, to / name)


def _copy_items(state: SweepState, trial: TrialState, choice: Choice, draft: Path) -> None:
    """The answers behind the champion's dev score, so that it can be scored again; a sweep without quality has none."""
    with_items = [evaluation for evaluation in trial.evaluations if evaluation.split == "dev" and evaluation.items]
    measuring = [evaluation for evaluation in with_items if choice.rule.metric in evaluation.metrics]
    for evaluation in (measuring or with_items)[-1:]:
        path = state.folder / str(evaluation.items)
        if not path.is_file():
            raise InvalidInput(
                Problem(str(path), "the items of the champion's evaluation are gone", "evaluate it again")
            )
        shutil.copyfile(path, draft / ITEMS)


def _dtype(state: SweepState, trial: TrialState) -> str:
    """The number format that the base was trained in, by the trial's settings."""
    base = (settings(state.folder, trial) or {}).get("base")
    return str(base["dtype"]) if isinstance(base, dict) and "dtype" in base else "auto"


def _merge(base_path: Path | str, draft: Path, tokenizer_from: Path | str, dtype: str) -> None:
    from recipes.generation import quiet

    quiet()
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(str(base_path), dtype=dtype)
    merged = PeftModel.from_pretrained(base, str(draft)).merge_and_unload(safe_merge=True)
    merged.save_pretrained(draft / MERGED, safe_serialization=True)
    _copy_tokenizer(tokenizer_from, draft / MERGED)


def vllm_rank(rank: int) -> int:
    """What vLLM's ``--max-lora-rank`` must be for an adapter of this rank."""
    return next((allowed for allowed in _VLLM_RANKS if allowed >= rank), rank)


def _readme(state: SweepState, choice: Choice, base_name: str, merge: bool, rank: int) -> str:
    trial = state.trials[str(choice.champion)]
    is_first = choice.ranking[:1] == (trial.id,)
    title, verdict = ("Champion", "won") if is_first else (trial.title, "is here")
    merged = (
        "\n## Merged weights\n`merged/` is the base with the adapter folded in; any server loads it as a plain model:\n"
        "`vllm serve ./merged`.\n"
        if merge
        else ""
    )
    return f"""# {title} of {state.name}
{trial.title} (`{trial.id}`), a LoRA adapter for `{base_name}`. `{CERTIFICATE}` says why it
{verdict}, `{manifest.FILE_NAME}` holds the SHA-256 of every file; check both with `podium verify .`.

## Podium
`podium serve .` answers on this machine behind an OpenAI-compatible API, as model `champion`;
`podium serve . --for vllm` (or sglang, nim) prints what starts that server for it.

## PEFT
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(".")
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base_name}"), ".")
```

## vLLM
```sh
vllm serve {base_name} --enable-lora --max-lora-rank {vllm_rank(rank)} --lora-modules champion=.
```
Send requests with `"model": "champion"` and temperature 0, as it was measured.

## NVIDIA NIM
Copy `adapter_config.json` and `adapter_model.safetensors` to `$NIM_PEFT_SOURCE/champion/`, start the NIM of the
base model with that variable set, and send requests with `"model": "champion"`.
{merged}"""
