"""Whether a base that lies on the Hugging Face hub can be had, asked before the first trial and not by it."""

from pathlib import Path

from recipes import bases
from recipes.schema import Base
from sweeps.errors import InvalidInput, PodiumError, Problem, ServiceUnreachable

LIMIT_S = 20.0


def check_access(base: Base, base_dir: Path, limit_s: float = LIMIT_S) -> None:
    """Ask the hub for a base that is not local; nothing is loaded, and a base in the hub's cache is not asked for.

    The request is the one with which transformers begins: its answer says whether the id and the revision exist, and
    whether this user may read a model whose terms must be accepted first. ``HF_ENDPOINT``, ``HF_TOKEN`` and
    ``HF_HUB_OFFLINE`` count as they do for transformers.

    Raises:
        InvalidInput: There is no such model or revision, or this user may not read it.
        ServiceUnreachable: The hub does not answer within ``limit_s`` seconds, or with an error of its own.
    """
    if bases.locate(base, base_dir) is not None:
        return
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    revision = base.revision or "main"
    cached = try_to_load_from_cache(base.path, "config.json", revision=revision)
    if isinstance(cached, str) and any(Path(cached).parent.glob("*.safetensors")):
        return
    if constants.HF_HUB_OFFLINE:
        rule = f"{base.path} is not in the hub's cache, and HF_HUB_OFFLINE forbids to load it"
        raise InvalidInput(Problem("base.path", rule, "unset HF_HUB_OFFLINE, or give a local folder"))
    try:
        get_hf_file_metadata(hf_hub_url(base.path, "config.json", revision=revision), timeout=limit_s)
    except Exception as error:  # the classes of its HTTP library are the hub's own affair
        raise _explained(base, error, constants.ENDPOINT) from None


def _explained(base: Base, error: Exception, endpoint: str) -> PodiumError:
    from huggingface_hub import errors, get_token

    where, rule, hint = "base.path", "", ""
    if isinstance(error, errors.GatedRepoError):
        rule = f"{base.path} is gated, and " + ("your token has no access to it" if get_token() else "no token is set")
        hint = f"accept its terms at {endpoint}/{base.path}, then run `hf auth login` or export HF_TOKEN=…"
    elif isinstance(error, errors.RepositoryNotFoundError):
        rule = f"the hub has no model {base.path}, or it is private and your token does not open it"
        hint = "check the id; for a private model run `hf auth login` or export HF_TOKEN=…"
    elif isinstance(error, errors.RevisionNotFoundError):
        where, rule = "base.revision", f"{base.path} has no revision {base.revision!r}"
        hint = f"see {endpoint}/{base.path}/tree/main"
    elif isinstance(error, errors.EntryNotFoundError):
        rule, hint = f"{base.path} has no config.json", "give a model in the form of transformers"
    elif isinstance(error, errors.HFValidationError):
        rule, hint = f"{base.path!r} is no id of the hub", "give <owner>/<model>, or a local folder"
    if rule:
        return InvalidInput(Problem(where, rule, hint))
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return ServiceUnreachable(f"the hub at {endpoint} cannot be asked for {base.path}: {reason}")
