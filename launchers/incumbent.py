"""The incumbent of a sweep: where its files lie, what names its content, and whether it can be asked."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from analysis import manifest
from recipes import adapters, bases
from recipes.hub import check_access
from recipes.schema import Base
from sweeps.errors import InvalidInput, Problem
from sweeps.evaluating import Incumbent
from tracking.meters.endpoint import ServedModel

WHERE = "evaluate.incumbent"


@dataclass(frozen=True)
class InUse:
    """What runs in production, with its files found.

    Attributes:
        spec: As the sweep says it.
        base: What its adapter is on, or itself; of one that is served elsewhere, nothing.
        base_dir: What relative paths are taken from.
        adapter: The local folder of its adapter; None where it has none.
    """

    spec: Incumbent
    base: Base
    base_dir: Path
    adapter: Path | None = None

    @property
    def system(self) -> str | None:
        """The system prompt that it is asked with; None for that of the rows."""
        return self.spec.prompt.system if self.spec.prompt else None

    @property
    def digest(self) -> str:
        """Its identity in twelve hex digits."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:12]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides its answers, as far as it can be known without asking: files by their contents."""
        if self.spec.endpoint:
            told = {"endpoint": self.spec.endpoint, "model": self.spec.model, "revision": self.spec.revision}
        else:
            told = self.base.model_dump(mode="json", include={"dtype", "attention", "quantize"})
            told["base"] = bases.identity(self.base, self.base_dir)
            told["adapter"] = adapters.identity(self.adapter) if self.adapter else None
        return {**told, "system": self.system}

    def endpoint(self, max_new_tokens: int, schema: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Where it is served, with what is served there now; None where it is loaded here.

        Args:
            max_new_tokens: Of an answer.
            schema: That of answers, which a guided one keeps to.

        Raises:
            InvalidInput: The environment does not hold its key.
            ServiceUnreachable: It does not answer.
        """
        if not self.spec.endpoint:
            return None
        settings = self.spec.model_dump(
            mode="json", include={"endpoint", "model", "revision", "api_key_env", "concurrency", "timeout"}
        )
        settings |= {"schema": schema} if self.spec.guided else {}
        return {**settings, "served": ServedModel.of(settings, max_new_tokens).probe()}

    def check(self, max_new_tokens: int, schema: dict[str, Any] | None = None) -> None:
        """Ask for what is not on this machine. Raises as :meth:`endpoint` does, and as the hub's check."""
        if self.endpoint(max_new_tokens, schema) is None and self.spec.model:
            try:
                check_access(self.base, self.base_dir)
            except InvalidInput as error:
                raise _at_its_key(error) from None


def find(spec: Incumbent, base: Base, base_dir: Path, cache: Path, *, packed: bool) -> InUse:
    """Find the files of an incumbent, and hold its adapter against the base that it is meant for.

    Args:
        spec: As the sweep says it.
        base: The sweep's.
        base_dir: What relative paths are taken from.
        cache: Podium's own, for an adapter from object storage.
        packed: Whether the packed engine will answer for it, which knows plain LoRA alone.

    Raises:
        InvalidInput: A file is not there or not what it should be, or the adapter is of another base; the problem's
            ``where`` is the key's path in the sweep.
        ServiceUnreachable: The object storage does not answer.
    """
    if spec.endpoint:
        return InUse(spec, base, base_dir)
    if spec.model:
        base = Base(
            path=spec.model,
            revision=spec.revision,
            dtype=spec.dtype or base.dtype,
            attention=spec.attention or base.attention,
            quantize=spec.quantize,
        )
    try:
        folder = bases.locate(base, base_dir)
        if not spec.adapter:
            return InUse(spec, base, base_dir)
        adapter = adapters.locate(spec.adapter, base_dir, cache)
        check_bundle(adapter, bases.identity(base, base_dir), base.path)
        adapters.check(adapter, folder, plain=packed)
    except InvalidInput as error:
        raise _at_its_key(error) from None
    return InUse(spec, base, base_dir, adapter)


def _at_its_key(error: InvalidInput) -> InvalidInput:
    """The problems of a base are those of ``model`` here, and those of an adapter of ``adapter``."""
    keys = {"adapter": "adapter", "base.path": "model", "base.revision": "revision"}
    told = []
    for one in error.problems:
        rule = one.rule if one.where in keys else f"{one.where}: {one.rule}"  # else it is about an object of S3
        told.append(Problem(f"{WHERE}.{keys.get(one.where, 'adapter')}", rule, one.hint))
    return InvalidInput(told)


def check_bundle(folder: Path, base_identity: str, base_name: str) -> None:
    """A bundle says which base it was trained on, and what its files were.

    Raises:
        InvalidInput: It is damaged, or of another base.
    """
    if not (folder / manifest.FILE_NAME).is_file():
        return
    try:
        listed = manifest.parse((folder / manifest.FILE_NAME).read_bytes())
    except ValueError as error:
        raise InvalidInput(Problem("adapter", f"{folder} is a damaged bundle: {error}")) from None
    for name in (adapters.CONFIG, adapters.WEIGHTS):
        if listed.get(name) != manifest.describe(folder / name):
            rule = f"{folder} is a damaged bundle: {name} is not as in its manifest"
            raise InvalidInput(Problem("adapter", rule, "export it again"))
    named, told = _certified_base(folder)
    if told and told != base_identity:
        rule = f"{folder} was trained on another base, {named} ({told[:12]}…), and not on {base_name}"
        raise InvalidInput(Problem("adapter", rule, "name its own base as model"))


def _certified_base(folder: Path) -> tuple[str, str]:
    try:
        base = json.loads((folder / "champion.json").read_bytes())["base"]
        return str(base["name"]), str(base["identity"] or "")
    except (OSError, ValueError, LookupError, TypeError):
        return "", ""
