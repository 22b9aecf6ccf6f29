"""The stages of a sweep, read: how far each is, and where a champion comes from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recipes.adapters import WEIGHTS
from recipes.data.rows import canonical
from recipes.files import sha256_of
from sweeps.stages import whole_name
from tracking.folders import folder_of, stage_folders
from tracking.ledger import FILE_NAME, SweepState, TrialState, is_open, read
from tracking.meters.cost import summary, trial_cost
from tracking.state import BASE


@dataclass(frozen=True)
class StageState:
    """One stage as its ledger tells it.

    Attributes:
        name: Of the stage; ``folder`` is its run folder.
        state: None where it has not begun.
        is_last: Whether its champion is the whole sweep's.
    """

    name: str
    folder: Path
    state: SweepState | None
    is_last: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``podium status -o json`` has them."""
        state = self.state
        if state is None:
            return {"stage": self.name, "status": "WAITING", "num_trials": 0, "champion": None, "usd": 0.0}
        gone = state.status == "RUNNING" and not is_open(self.folder)
        chosen = state.trials.get(str((state.champion or {}).get("champion")))
        return {
            "stage": self.name,
            "status": "LOST" if gone else state.status,
            "reason": state.reason,
            "recipe": state.spec["recipe"],
            "method": state.recipe.get("method", "sft"),
            "num_trials": len(state.drawn),
            "trials": state.spec["search"]["trials"] * state.spec["search"]["seeds"],
            "champion": chosen.id if chosen else None,
            "label": chosen.label if chosen else None,
            "usd": summary(state)["cost/usd"],
            "code": state.code,
            "folder": str(self.folder),
        }


def stages_of(state: SweepState) -> tuple[StageState, ...]:
    """The stages of the sweep that a state is of, in their order; nothing for a plain sweep."""
    return stages_named(state.name, home_of(state)) if "stage" in state.facts else ()


def stages_named(name: str, home: Path) -> tuple[StageState, ...]:
    """The stages of a sweep by its name, or by that of one of its stages; nothing for a plain sweep."""
    whole = whole_name(name)
    folders = stage_folders(home, whole)
    return tuple(
        StageState(
            stage,
            folder,
            read(folder) if (folder / FILE_NAME).is_file() else None,
            folder == folder_of(home, whole),
        )
        for stage, folder in folders.items()
    )


def home_of(state: SweepState) -> Path:
    """Podium's home, of a run folder within it: ``<home>/runs/<sweep>`` or ``…/stages/<stage>`` under that."""
    return state.folder.parents[3] if "/" in state.name else state.folder.parents[1]


def lineage(state: SweepState, trial: TrialState) -> list[dict[str, Any]]:
    """Where a trial comes from: an entry for each stage that had a part in its adapter, the first stage first.

    Nothing for a plain sweep. ``dev`` is the score that the stage chose by, ``data`` the rows without where they lay.
    """
    found: list[dict[str, Any]] = []
    stages = {stage.name: stage.state for stage in stages_of(state) if stage.state is not None}
    place: SweepState | None = state
    one: TrialState | None = trial
    while place is not None and one is not None and "stage" in place.facts:
        if one.stage is not None:  # another stage has trained it
            place = stages.get(one.stage)
            one = place.trials.get(one.id) if place else None
            continue
        found.append(_entry(place, one))
        start = started_from(place, one)
        one = place.trials.get(start) if start else None
    return found[::-1]


def started_from(state: SweepState, trial: TrialState) -> str | None:
    """The trial of an earlier stage that a trial of this one was started from; None where it started from nothing."""
    from analysis.certificate import settings

    told = (settings(state.folder, trial) or {}).get("start") or {}
    if not told.get("adapter"):
        return None
    where = Path(told["adapter"]).resolve()
    starts = {(state.folder / one.adapter).resolve(): one.id for one in state.starts.values() if one.adapter}
    return starts.get(where) or next((key for key in state.starts if key in where.parts), None)


@dataclass(frozen=True)
class Step:
    """An arm on the way from the base to the champion, on the challenge set.

    Attributes:
        label: What people call it.
        mean: Of its scores; ``interval`` is at the rule's level. None where it has none.
        gain: Over the arm before it, with ``gain_interval`` and what the test says of it; None for the base.
    """

    arm: str
    label: str
    n: int
    mean: float | None
    interval: tuple[float, float] | None
    gain: float | None = None
    gain_interval: tuple[float, float] | None = None
    verdict: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return vars(self).copy()

    @property
    def words(self) -> str:
        """The step in a line: ``Champion of sft, trial 5: 3.21 [3.0, 3.4], +0.4 [0.2, 0.6] over …``."""
        if self.mean is None:
            return f"{self.label}: not measured"
        text = f"{self.label}: {self.mean:.3g}{_range(self.interval)}"
        if self.gain is None:
            return text
        said = {"better": "better", "worse": "worse"}.get(str(self.verdict), "not told apart")
        return f"{text}, {self.gain:+.3g}{_range(self.gain_interval)}: {said}"


def _range(interval: tuple[float, float] | None) -> str:
    return f" [{interval[0]:.3g}, {interval[1]:.3g}]" if interval else ""


def steps(state: SweepState) -> list[Step]:
    """From the base over the trial that the last stage starts from to its champion, each against the one before.

    Nothing for a plain sweep, or while the challenge set is not read. Intervals are paired, of each comparison alone;
    the verdict on two contenders is the decision's, which is corrected for choosing among all of them.
    """
    from analysis.confirmation import challenge_scores
    from analysis.decision.bootstrap import estimate, paired
    from analysis.decision.scores import side_by_side

    recorded = state.champion or {}
    rule = (recorded.get("outcome") or {}).get("rule")
    champion = recorded.get("champion")
    if rule is None or "stage" not in state.facts:
        return []
    start = next(iter(state.starts), None)
    candidate = champion or rule["contenders"][0]
    arms = list(dict.fromkeys(arm for arm in (BASE, start, candidate) if arm))
    scores = challenge_scores(state, rule["metric"], arms)
    arms = [arm for arm in arms if arm in scores]
    if not arms:
        return []
    table = side_by_side({arm: scores[arm] for arm in arms}, _groups(state) or None)
    draws = (rule["num_draws"], rule["seed"], rule["min_clusters"])
    level = 1 - rule["alpha"]
    found: list[Step] = []
    for at, arm in enumerate(arms):
        mean = estimate(table.row(arm), table.groups, *draws)
        step = Step(arm, _called(state, arm, champion), mean.n, mean.mean, mean.interval(level))
        if at:
            pair = paired(table.row(arm), table.row(arms[at - 1]), table.groups, *draws)
            told = pair.p is not None and pair.p <= rule["alpha"] and pair.mean is not None
            verdict = ("better" if pair.mean > 0 else "worse") if told and pair.mean is not None else "undecided"
            verdict = _of_contest(recorded["outcome"]["contest"], arm, arms[at - 1]) or verdict
            step = replace(step, gain=pair.mean, gain_interval=pair.interval(level), verdict=verdict)
        found.append(step)
    return found


def _of_contest(contest: Sequence[Mapping[str, Any]], arm: str, other: str) -> str | None:
    """What the decision says of two contenders, corrected for choosing among all; None where it says nothing."""
    turned = {"better": "worse", "worse": "better"}
    said = {(one["first"], one["second"]): str(one["verdict"]) for one in contest}
    said |= {(second, first): turned.get(verdict, verdict) for (first, second), verdict in said.items()}
    return said.get((arm, other))


def _groups(state: SweepState) -> dict[str, str]:
    """The group of every challenge item, as the decision has it; nothing where the data have none, or are gone."""
    name = (state.facts.get("judged") or {}).get("group")
    path = state.facts.get("data", {}).get("challenge", {}).get("path")
    if name is None or path is None or not Path(path).is_file():
        return {}
    rows = (json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines())
    return {str(row.get("id", number)): canonical(row[name]) for number, row in enumerate(rows)}


def _called(state: SweepState, arm: str, champion: str | None) -> str:
    if arm == BASE:
        return "base"
    trial = state.trials[arm]
    stage = trial.stage or state.facts["stage"]["name"]
    role = "champion" if arm == champion or trial.stage else "best on dev"
    return f"{stage} {role}, trial {trial.own_number}"


def _entry(state: SweepState, trial: TrialState) -> dict[str, Any]:
    stage, metric = state.facts["stage"]["name"], (state.champion or {}).get("rule", {}).get("metric")
    dev = next((one for one in trial.evaluations if one.split == "dev"), None)
    weights = state.folder / trial.adapter / WEIGHTS if trial.adapter else None
    return {
        "stage": stage,
        "recipe": state.spec["recipe"],
        "method": state.recipe.get("method", "sft"),
        "trial": trial.id,
        "number": trial.number,
        "values": trial.values,
        "adapter_sha256": sha256_of(weights) if weights and weights.is_file() else None,
        "data": {split: _rows(told) for split, told in state.facts.get("data", {}).items()},
        "data_identity": state.facts.get("data_identity"),
        "dev": {"metric": metric, "score": trial.metrics.get(str(metric)), "n": dev.n if dev else None},
        "cost": {**trial_cost(state, trial.id), "stage_usd": summary(state)["cost/usd"]},
        "code_commit": state.facts.get("code_commit"),
    }


def _rows(told: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key != "path"}
