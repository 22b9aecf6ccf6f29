"""A base's tokenizer alone, as training uses it: with its chat template, without the weights."""

from pathlib import Path
from typing import Any

from recipes import bases, hub
from recipes.schema import Base
from sweeps.errors import InvalidInput, Problem, ServiceUnreachable

_FILE = "tokenizer.json"


def load_tokenizer(base: Base, base_dir: Path) -> Any:
    """The transformers tokenizer of a base; a folder that holds nothing but a tokenizer will do.

    Of a base on the Hugging Face hub the tokenizer is downloaded, where it is not in the hub's cache.

    Raises:
        InvalidInput: There is no such base, or it has no tokenizer with a chat template.
        ServiceUnreachable: The base is on the hub, which does not answer.
    """
    folder = _folder(base, base_dir)
    tokenizer = _from_hub(base, base_dir) if folder is None else _from_folder(folder)
    if tokenizer.chat_template is None:
        rule = f"the tokenizer of {base.path} has no chat template, which says how messages become tokens"
        raise InvalidInput(Problem("base.path", rule, "put a chat_template.jinja beside it"))
    return tokenizer


def _folder(base: Base, base_dir: Path) -> Path | None:
    folder = base_dir / Path(base.path).expanduser()
    if base.path in bases.BUILTIN or not folder.is_dir():
        return bases.locate(base, base_dir)
    if not (folder / _FILE).is_file():
        raise InvalidInput(Problem("base.path", f"{folder} has no {_FILE}", "name the folder of a base"))
    return folder


def _from_folder(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # of several libraries, one of which has no class for it
        reason = str(error).strip().split("\n")[0]
        rule = f"the tokenizer in {folder} cannot be read: {reason}"
        raise InvalidInput(Problem("base.path", rule, "copy or download it again")) from None


def _from_hub(base: Base, base_dir: Path) -> Any:
    from transformers import AutoTokenizer

    revision = base.revision or "main"
    try:
        return AutoTokenizer.from_pretrained(base.path, revision=revision, local_files_only=True)
    except (OSError, ValueError):
        pass  # not in the cache, or not all of it
    way = "--base FOLDER counts with a tokenizer that is here"
    try:
        hub.check_access(base, base_dir)
        return AutoTokenizer.from_pretrained(base.path, revision=revision)
    except ServiceUnreachable as error:
        raise ServiceUnreachable(f"{error} ({way})") from None
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InvalidInput(Problem("base.path", f"{base.path} gives no tokenizer: {reason}", way)) from None
