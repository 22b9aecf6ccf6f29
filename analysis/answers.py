"""The answers that arms gave to the same items, as their evaluations left them in the run folder."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.confirmation import names
from recipes.data.rows import canonical
from sweeps.errors import InvalidInput, Problem, nearest
from tracking.ledger import Evaluation, SweepState
from tracking.meters.gates import GATE
from tracking.meters.metrics import Item
from tracking.state import BASE, DEFECTS, meant

SPLITS = ("dev", "challenge")
WHERE = "--arms"


@dataclass(frozen=True)
class Answer:
    """What an arm said; ``passes`` whether it got past every gate, None where a gate could not tell."""

    text: str
    passes: bool | None = True


@dataclass(frozen=True)
class Answers:
    """Of several arms, to the items of a split that all of them were given.

    Attributes:
        items: What was asked; ``groups`` the group of each: items of one conversation are drawn together.
        by_arm: Each arm's answers, in the order of the items.
        evaluations: The id of the evaluation that they are from, by arm.
    """

    split: str
    items: tuple[Item, ...]
    groups: tuple[str, ...]
    by_arm: Mapping[str, tuple[Answer, ...]]
    evaluations: Mapping[str, str]


def stored(state: SweepState, split: str) -> dict[str, Evaluation]:
    """The evaluations of a split whose answers lie in the run folder, by arm; trials first, by number.

    Raises:
        InvalidInput: There is no such split of answers.
    """
    if split not in SPLITS:
        rule = f'must be {" or ".join(SPLITS)}, but got "{split}"'
        raise InvalidInput(Problem("--split", rule, nearest(split, SPLITS)))
    trials = {trial.id: trial.evaluations for trial in state.every_trial.values()}
    found = {}
    for arm, evaluations in {**trials, **state.arms}.items():
        for one in evaluations:
            if arm != DEFECTS and one.split == split and one.items and (state.folder / one.items).is_file():
                found[arm] = one
    return found


def find_arms(state: SweepState, asked: Sequence[str], where: str = WHERE) -> tuple[str, ...]:
    """The arms that are meant: trials by their number, their id or its beginning, the others by name.

    Args:
        where: What asks for them, for messages.

    Raises:
        InvalidInput: There is no such arm, or a beginning is that of several.
    """
    trials = state.every_trial
    others = list(dict.fromkeys([BASE, *(arm for arm in state.arms if arm != DEFECTS)]))
    found, problems = [], []
    for text in asked:
        these = [text] if text in others else [trial.id for trial in meant(trials.values(), text)]
        if len(these) == 1:
            found += these
        elif these:
            problems.append(Problem(where, f'"{text}" may be any of {", ".join(these)}', "give the whole id"))
        else:
            valid = [*others, *(str(one.number) for one in trials.values() if one.stage is None), *trials]
            problems.append(Problem(where, f'no arm of {state.name} is called "{text}"', nearest(text, valid)))
    if problems:
        raise InvalidInput(problems)
    return tuple(dict.fromkeys(found))


def read_answers(state: SweepState, arms: Sequence[str], split: str) -> Answers:
    """The answers of arms to the items that all of them were given. None are made.

    Raises:
        InvalidInput: There are fewer than two arms, one has no stored answers, a file of them is damaged, or the arms
            have no item in common.
    """
    there, called = stored(state, split), names(state)
    if without := [arm for arm in arms if arm not in there]:
        missing = _listed(without, called)
        rule = f"the run folder has no answers of {missing} to the {split} set, and none are made for this"
        hint = (
            f"there are those of {_listed(list(there), called)}"
            if there
            else f"nobody has answered the {split} set yet"
        )
        raise InvalidInput(Problem(WHERE, rule, hint))
    if len(arms) < 2:
        rule = f"two arms or more are compared, but got {_listed(arms, called) or 'none'}"
        hint = f"answers to the {split} set are there of {_listed(list(there), called) or 'nobody'}"
        raise InvalidInput(Problem(WHERE, rule, hint))
    records = {arm: dict(_by_question(state.folder / str(there[arm].items))) for arm in arms}
    first, *others = records.values()
    common = [key for key in first if all(key in other for other in others)]
    if not common:
        rule = f"{_listed(arms, called)} have no item of the {split} set in common"
        raise InvalidInput(Problem(WHERE, rule, "compare arms that were asked the same"))
    items = tuple(item_of(first[key]) for key in common)
    return Answers(
        split,
        items,
        tuple(group_of(state, item) for item in items),
        {arm: tuple(_answer(of_arm[key]) for key in common) for arm, of_arm in records.items()},
        {arm: there[arm].id for arm in arms},
    )


def group_of(state: SweepState, item: Item) -> str:
    """What the item is drawn together with: what the data are split by, else it alone."""
    name = (state.recipe.get("data") or {}).get("group")
    return canonical(item.row[name]) if name in item.row else item.id


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The stored answers of one evaluation, an item with its answer each.

    Raises:
        InvalidInput: The file is damaged.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
                item_of(record), _answer(record)
            except (ValueError, KeyError, TypeError, AttributeError):
                rule = f"every line must be an item with its answer, but got {line[:60]!r}"
                raise InvalidInput(Problem(str(path), rule, line=number)) from None
            yield record


def _by_question(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each by what was asked: two data sets may use one id for different conversations."""
    for record in records(path):
        yield json.dumps([record["id"], record["messages"], record["reference"]]), record


def item_of(record: Mapping[str, Any]) -> Item:
    """The item of a stored answer."""
    return Item(str(record["id"]), list(record["messages"]), str(record["reference"]), dict(record["row"]))


def _answer(record: Mapping[str, Any]) -> Answer:
    gates = [value for name, value in record["metrics"].items() if name.startswith(GATE)]
    passes = False if 0 in gates else None if None in gates else True
    return Answer(str(record["answer"]), passes)


def _listed(arms: Sequence[str], called: Mapping[str, str]) -> str:
    return ", ".join(called.get(arm, arm) for arm in arms)
