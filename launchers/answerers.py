"""An adapter that answers, with all that belongs to it: its base, the rows it was trained on, and what graded it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from launchers import home
from recipes import adapters, bases, objects
from recipes.data.splits import SplitRows, load
from recipes.files import sha256_of
from recipes.schema import Recipe
from sweeps.errors import InvalidInput, NoChampion, Problem
from sweeps.stages import whole_name
from tracking.state import SweepState

_GRADING = ("metrics", "gates", "forbidden", "schema", "judge")


@dataclass(frozen=True)
class Answerer:
    """A model of one sweep, ready to be loaded.

    Attributes:
        name: For messages and provenance.
        recipe: Of the trial that made it; of the sweep's champion, where the adapter is from elsewhere.
        adapter: Its folder.
        base_dir: What relative paths of the sweep are taken from.
        grading: What scored the sweep's answers: ``metrics``, ``gates``, ``forbidden``, ``schema`` and ``judge``, as
            the detail of an evaluation has them.
        objective: The metric that the sweep's champion was chosen by.
        guide: The schema that its answers are forced into; None where they are free.
    """

    name: str
    recipe: Recipe
    adapter: Path
    base_dir: Path
    grading: dict[str, Any]
    objective: str
    guide: dict[str, Any] | None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the adapter's weights, as a bundle's manifest has it."""
        return sha256_of(self.adapter / adapters.WEIGHTS)

    @cached_property
    def base(self) -> str:
        """The base's folder, or its name on the hub."""
        return str(bases.locate(self.recipe.base, self.base_dir) or self.recipe.base.path)

    @cached_property
    def base_identity(self) -> str:
        """What names the base's contents."""
        return str(bases.identity(self.recipe.base, self.base_dir))

    @cached_property
    def rows(self) -> SplitRows:
        """The sweep's rows, split as it split them."""
        return load(self.recipe.data, self.base_dir, home.cache_folder(), self.recipe.method)


@contextmanager
def opened(where: str | None, trial: str | None = None, sweep: str | None = None) -> Iterator[Answerer]:
    """Find an adapter. One from object storage is there until the end of the block.

    Args:
        where: A sweep's name (its champion), a bundle or a PEFT adapter by folder or ``s3://`` URL; None for the latest
            sweep.
        trial: Another trial of a sweep than its champion, by number or id.
        sweep: The sweep that a plain adapter belongs to, whose base, rows and grades are used.

    Raises:
        InvalidInput: There is no such sweep, trial, bundle or adapter, or nothing graded the sweep's answers.
        NoChampion: The sweep has none, and no trial is named.
        VerificationFailed: A bundle is not what it claims to be.
        ServiceUnreachable: The object storage does not answer.
    """
    from analysis.frame import list_sweeps

    is_folder = where is not None and Path(where).expanduser().is_dir()
    is_place = where is not None and (objects.is_url(where) or "/" in where or is_folder)
    sweeps = list_sweeps(home.home())
    is_sweep = where in sweeps or (where is not None and not is_folder and whole_name(where) in sweeps)  # or its stage
    if is_place and sweep is None and not is_sweep:
        assert where is not None
        if trial is not None:
            raise InvalidInput(
                Problem("--trial", f"{where} is an adapter, not a sweep", "name the sweep, or leave it out")
            )
        if _is_bundle(where):
            from launchers.serving.bundle import opened as open_bundle

            with open_bundle(where) as bundle:
                yield _of_bundle(bundle)
            return
        rule = f"{where} is no bundle, so its base, rows and judge are not known"
        raise InvalidInput(Problem("--sweep", rule, "name the sweep that it belongs to"))
    if is_place and sweep is not None:
        yield _of_adapter(str(where), sweep)
        return
    yield _of_sweep(where, trial)


def _is_bundle(where: str) -> bool:
    if objects.is_url(where):
        return set(adapters.BUNDLE) <= set(objects.listing(objects.folder_of(where), 1000))
    folder = Path(where).expanduser()
    if not folder.is_dir():
        raise InvalidInput(Problem(where, "no such folder", "a sweep's name, a bundle or an adapter's folder"))
    return all((folder / name).is_file() for name in adapters.BUNDLE)


def _of_sweep(name: str | None, trial: str | None) -> Answerer:
    from analysis.answers import find_arms
    from analysis.champion import choose
    from analysis.frame import open_sweep
    from launchers.bundle_worker import answers_of, recipe_of

    state = open_sweep(name, home.home())
    chosen = find_arms(state, [trial], "--trial")[0] if trial is not None else choose(state).champion
    if chosen is None:
        raise NoChampion("\n".join(choose(state).why))
    found = state.every_trial.get(chosen)
    if found is None or found.adapter is None:
        raise InvalidInput(Problem("--trial", f"{chosen} of {state.name} has no adapter", "name a trial that trained"))
    recipe = recipe_of(state, chosen)
    told = answers_of(state, recipe)
    return Answerer(
        name=f"{state.name}, {found.label} ({chosen})",
        recipe=recipe,
        adapter=state.folder / found.adapter,
        base_dir=Path(state.facts["base_dir"]),
        grading=_grading(state.name, [one.detail for one in (*found.evaluations, *state.evaluations())]),
        objective=choose(state).rule.metric,
        guide=told["schema"] if told["guided"] else None,
    )


def _of_adapter(where: str, sweep: str) -> Answerer:
    champion = _of_sweep(sweep, _some_trial(sweep))
    try:
        folder = adapters.locate(where, Path.cwd(), home.cache_folder())
        adapters.check(folder, bases.locate(champion.recipe.base, champion.base_dir), plain=False)
    except InvalidInput as error:
        raise InvalidInput([Problem(where, one.rule, one.hint) for one in error.problems]) from None
    return Answerer(
        where, champion.recipe, folder, champion.base_dir, champion.grading, champion.objective, champion.guide
    )


def _some_trial(sweep: str) -> str | None:
    """A trial that stands for the sweep's recipe where it has no champion."""
    from analysis.champion import choose
    from analysis.frame import open_sweep

    state: SweepState = open_sweep(sweep, home.home())
    if choose(state).champion is not None:
        return None
    return next((trial.id for trial in state.trials.values() if trial.adapter), None)


def _of_bundle(bundle: Any) -> Answerer:
    proof = bundle.proof
    return Answerer(
        name=f"{bundle.name} ({proof['sweep']}, trial {proof['trial']['id']})",
        recipe=bundle.recipe,
        adapter=bundle.folder,
        base_dir=Path(proof.get("base_dir", ".")),
        grading=_grading(bundle.name, [one["detail"] for one in proof["metrics"].values() if one.get("detail")]),
        objective=str(proof["rule"]["metric"]),
        guide=bundle.schema if bundle.is_guided else None,
    )


def _grading(name: str, details: list[dict[str, Any]]) -> dict[str, Any]:
    """What scored answers, of the first evaluation that was scored at all."""
    detail = next((one for one in details if one.get("metrics") or one.get("judge")), None)
    if detail is None:
        rule = f"nothing graded the answers of {name}, so better and worse ones cannot be told"
        raise InvalidInput(Problem("evaluate", rule, "run the sweep with evaluate.metrics or evaluate.judge"))
    return {key: detail.get(key) for key in _GRADING}
