"""A bundle, opened to be served: found by folder, URL or its sweep's name, and checked before it is believed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.store import fetched
from analysis.verify import check_base, verify
from launchers import home
from launchers.bundle_worker import read_certificate, recipe_of
from launchers.bundles import exported
from launchers.incumbent import check_bundle
from recipes import adapters, bases
from recipes.objects import is_url
from recipes.schema import Recipe
from sweeps.errors import InvalidInput, Problem, VerificationFailed, nearest
from sweeps.stages import whole_name
from tracking.ledger import TrialState

CHAMPION = "champion"  # under which the bundle's adapter is served


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are as its manifest says, on the base that its certificate names.

    Attributes:
        name: What messages call it.
        folder: On this machine.
        proof: Its certificate.
        recipe: Of the trial that made it.
        base: The base's folder; None where it is not on this machine.
    """

    name: str
    folder: Path
    proof: dict[str, Any]
    recipe: Recipe
    base: Path | None

    @property
    def base_name(self) -> str:
        """What a server calls the base."""
        return str(self.proof["base"]["name"])

    @property
    def schema(self) -> dict[str, Any] | None:
        """That of its answers, where the sweep had one."""
        found = self.proof.get("answers", {}).get("schema")
        return found if isinstance(found, dict) else None

    @property
    def is_guided(self) -> bool:
        """Whether the champion was measured with its answers forced into the schema."""
        return bool(self.proof.get("answers", {}).get("guided"))


@contextmanager
def opened(where: str | None, base: str | None = None) -> Iterator[Bundle]:
    """Find a bundle and check its files and its base. One from object storage is there until the end of the block.

    Args:
        where: A folder, an ``s3://`` URL, or the name of a sweep whose champion was exported; None for the latest.
        base: The base model's folder, where it is elsewhere than the certificate says.

    Raises:
        InvalidInput: Nothing is there.
        VerificationFailed: It is damaged, or the base is another.
        ServiceUnreachable: The object storage does not answer.
    """
    if where is not None and is_url(where):
        with fetched(where) as copy:
            yield _checked(copy, where, base)
    else:
        folder = _folder(where)
        yield _checked(folder, str(folder), base)


def _folder(where: str | None) -> Path:
    """A folder as it is named, else the exported champion of the sweep of this name."""
    from analysis.frame import list_sweeps, open_sweep

    if where is not None:
        path = Path(where).expanduser()
        if path.is_dir():
            return path.resolve()
        if "/" in where and whole_name(where) in list_sweeps(home.home()):
            return exported(open_sweep(where, home.home()))  # of a stage
        if "/" in where or not home.run_folder(where).is_dir():
            sweeps = sorted(one.name for one in home.home().glob("runs/*") if one.is_dir())
            hint = nearest(where, sweeps) if sweeps and "/" not in where else "give the folder of an exported champion"
            raise InvalidInput(Problem(where, "no such folder, and no sweep of this name", hint))
    return exported(open_sweep(where, home.home()))


def _checked(folder: Path, name: str, base: str | None) -> Bundle:
    verify(folder, name=name)
    proof, recipe = read_certificate(folder, name)
    told = recipe.base.model_copy(update={"path": base}) if base else recipe.base
    found = bases.locate(told, Path.cwd() if base else Path(proof.get("base_dir", ".")))
    if found is not None:
        check = check_base(found, proof)
        if check.ok is False:
            raise VerificationFailed(f"{name} is not what it claims to be.\n{check.name}: {check.detail}")
    return Bundle(name, folder, proof, recipe.model_copy(update={"base": told}), found)


def trial_adapters(bundle: Bundle) -> dict[str, Path]:
    """The adapters of the bundle's sweep that trained on its base, as ``trial-<number>``, the champion's own left out.

    One that another stage has trained is ``<stage>-trial-<its number there>``.

    Raises:
        InvalidInput: The sweep was not run on this machine, or has no other adapter.
    """
    from analysis.frame import open_sweep

    state, own = open_sweep(bundle.proof["sweep"], home.home()), bundle.proof["trial"]["id"]
    found = {
        _served_as(trial): state.folder / trial.adapter
        for trial in state.trials.values()
        if trial.adapter and trial.id != own and recipe_of(state, trial.id).base.path == bundle.proof["base"]["name"]
    }
    found = {name: folder for name, folder in found.items() if (folder / adapters.WEIGHTS).is_file()}
    if not found:
        raise InvalidInput(Problem("--trials", f"{state.name} has no adapter beside its champion", "leave it out"))
    return found


def _served_as(trial: TrialState) -> str:
    return f"{f'{trial.stage}-' if trial.stage is not None else ''}trial-{trial.own_number}"


def more_adapters(bundle: Bundle, entries: Sequence[str]) -> dict[str, Path]:
    """``NAME=PATH`` entries as folders by name, each held against the bundle's base.

    Raises:
        InvalidInput: Of another form, a name twice, no adapter, or one of another base.
    """
    found: dict[str, Path] = {}
    for entry in entries:
        name, equals, where = entry.partition("=")
        if not (name and equals and where):
            raise InvalidInput(Problem("--adapter", f"must be NAME=PATH, but got {entry!r}"))
        if name in (CHAMPION, bundle.base_name, *found):
            raise InvalidInput(Problem("--adapter", f"{name!r} is the name of another model", "choose another"))
        try:
            folder = adapters.locate(where, Path.cwd(), home.cache_folder())
            check_bundle(folder, str(bundle.proof["base"]["identity"] or ""), bundle.base_name)
            adapters.check(folder, bundle.base, plain=False)
        except InvalidInput as error:
            raise InvalidInput([Problem("--adapter", one.rule, one.hint) for one in error.problems]) from None
        found[name] = folder
    return found
