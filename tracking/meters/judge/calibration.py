"""How far a sweep's judge agrees with people, and whether that is enough to believe it."""

import csv
import hashlib
import io
import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.files import write_json
from sweeps.errors import InvalidInput, Problem, nearest
from tracking.meters.judge.agreement import agreement
from tracking.meters.judge.judged import Judged, judge_settings, judged
from tracking.meters.judge.settings import identity
from tracking.meters.judge.verdicts import HIGHEST, LOWEST
from tracking.state import SweepState

FILE = "calibration.json"
Pair = tuple["Label", Judged]

SHOWN = 12  # items that a message lists


@dataclass(frozen=True)
class Label:
    """A person's score of an arm's answer to an item; ``arm`` is empty where the file does not say."""

    item: str
    arm: str
    label: float
    line: int


def read_labels(path: Path) -> list[Label]:
    """The labels of a CSV file with the columns ``item``, ``label`` (0–5) and, where it matters, ``arm``.

    Several labels of one answer are several people's; other columns do not matter.

    Raises:
        InvalidInput: With every line that is not as it must be.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"it is not UTF-8: {error.reason}"
        raise InvalidInput(Problem(str(path), f"the labels cannot be read: {why}")) from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = [column.strip() for column in reader.fieldnames or ()]
    reader.fieldnames = columns
    if lacking := [column for column in ("item", "label") if column not in columns]:
        rule = f"has no column {' and no column '.join(lacking)}, but {', '.join(columns) or 'nothing'}"
        raise InvalidInput(Problem(str(path), rule, "the columns are item, label (0–5) and, where it matters, arm"))
    labels, problems = [], []
    for row in reader:
        item, given, line = (row["item"] or "").strip(), (row["label"] or "").strip(), reader.line_num
        label = _number(given)
        if not item:
            problems.append(Problem("item", "is empty", line=line))
        elif label is None:
            rule = f'must be a number from {LOWEST} to {HIGHEST}, but got "{given}"'
            problems.append(Problem("label", rule, line=line))
        else:
            labels.append(Label(item, (row.get("arm") or "").strip(), label, line))
    if not labels and not problems:
        problems.append(Problem("labels", "there are none"))
    if problems:
        raise InvalidInput(problems, source=str(path))
    return labels


def calibrate(state: SweepState, path: Path, split: str = "dev") -> dict[str, Any]:
    """Compare the judge's scores with people's labels; write ``calibration.json`` into the run folder and return it.

    It holds the judge's identity, the agreement (:class:`tracking.meters.judge.agreement.Agreement`), how many labelled
    answers have no verdict, the file's hash, and every label beside its score.

    Raises:
        InvalidInput: The file is not as it must be, labels are of items or arms that the judge has not seen, or none of
            the labelled answers has a verdict.
    """
    labels = read_labels(path)
    pairs = match(labels, judged(state, split), state, str(path))
    scored = [(label, entry) for label, entry in pairs if entry.verdict.score is not None]
    if not scored:
        raise InvalidInput(Problem(str(path), "none of the labelled answers has a valid verdict of the judge"))
    found = agreement(
        [float(entry.verdict.score or 0) for _, entry in scored],
        [label.label for label, _ in scored],
        [entry.item for _, entry in scored],
    )
    result = {
        "sweep": state.name,
        "judge": identity(judge_settings(state)),
        "split": split,
        "t": round(time.time(), 3),
        "labels": str(path),
        "labels_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        **found.to_dict(),
        "num_without_verdict": len(pairs) - len(scored),
        "answers": [
            {"item": entry.item, "arm": entry.arm, "label": label.label, "score": entry.verdict.score}
            for label, entry in scored
        ],
    }
    write_json(state.folder / FILE, result)
    return result


def match(labels: Sequence[Label], answers: Sequence[Judged], state: SweepState, source: str) -> list[Pair]:
    """Each label with the answer it is about.

    A label without an arm is about whatever the item was answered with, so the arms that were judged on it must agree.

    Raises:
        InvalidInput: Unknown items are listed in one problem, unknown arms in another, and items that need an arm.
    """
    by_item: dict[str, list[Judged]] = defaultdict(list)
    for entry in answers:
        by_item[entry.item].append(entry)
    arms = {entry.arm for entry in answers}
    names = {**{str(trial.number): trial.id for trial in state.drawn.values()}, **{arm: arm for arm in arms}}
    pairs: list[Pair] = []
    unknown: list[str] = []
    strangers: list[str] = []
    ambiguous: list[str] = []
    for label in labels:
        here = by_item.get(label.item)
        if here is None:
            unknown.append(label.item)
        elif label.arm and names.get(label.arm) not in arms:
            strangers.append(label.arm)
        elif label.arm:
            of_arm = [one for one in here if one.arm == names[label.arm]]
            pairs += [(label, one) for one in of_arm]
            unknown += [] if of_arm else [f"{label.item} of {label.arm}"]
        elif len({one.answer for one in here}) > 1:
            ambiguous.append(label.item)
        else:
            pairs.append((label, here[0]))
    problems = []
    if unknown:
        rule = f"the judge has scored no such item{_s(unknown)}: {_listed(unknown)}"
        problems.append(Problem("item", rule, nearest(unknown[0], list(by_item), limit=4)))
    if strangers:
        rule = f"the judge has scored no such arm{_s(strangers)}: {_listed(strangers)}"
        problems.append(Problem("arm", rule, nearest(strangers[0], sorted(arms))))
    if ambiguous:
        rule = f"item{_s(ambiguous)} that different arms answered differently: {_listed(ambiguous)}"
        problems.append(Problem("arm", rule, f"add the column arm: {', '.join(sorted(arms)[:4])}, …"))
    if problems:
        raise InvalidInput(problems, source=source)
    return pairs


def read_calibration(folder: Path) -> dict[str, Any] | None:
    """The calibration of a run folder; None where there is none.

    Raises:
        InvalidInput: The file is damaged.
    """
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {**found, "kappa": dict(found["kappa"]), "answers": list(found["answers"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError):
        raise InvalidInput(Problem(str(path), "is damaged", "`podium judge calibrate` writes it again")) from None


def promotion_block(
    calibration: Mapping[str, Any] | None, min_kappa: float | None, judge: Mapping[str, Any] | None = None
) -> str | None:
    """Why the judge's scores may promote nobody yet, in a sentence; None where they may.

    Args:
        calibration: As :func:`read_calibration` gives it.
        min_kappa: ``evaluate.judge.calibration.min_kappa``; None asks for nothing.
        judge: The identity of the judge whose scores decide (:func:`tracking.meters.judge.identity`), where another
            judge's calibration must not count.
    """
    if min_kappa is None:
        return None
    asked = f"evaluate.judge.calibration.min_kappa asks for {min_kappa:g}"
    if calibration is None:
        return f"the judge is not calibrated, and {asked}: `podium judge calibrate labels.csv`"
    if judge is not None and calibration.get("judge") != judge:
        return f"another judge was calibrated (another model, rubric or parameters), and {asked}"
    kappa, n = calibration["kappa"], calibration.get("n")
    if kappa["value"] is None:
        return f"the judge's kappa is not defined: its scores or the labels ({n}) never vary, and {asked}"
    if kappa["value"] >= min_kappa:
        return None
    interval = "" if kappa["low"] is None else f", 95 % interval {kappa['low']:.2f} to {kappa['high']:.2f}"
    return f"the judge's kappa with people is {kappa['value']:.2f} (n = {n}{interval}), and {asked}"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and LOWEST <= value <= HIGHEST else None


def _listed(names: Sequence[str]) -> str:
    every = list(dict.fromkeys(names))
    return ", ".join(every[:SHOWN]) + (f" and {len(every) - SHOWN} more" if len(every) > SHOWN else "")


def _s(names: Sequence[str]) -> str:
    return "s" if len(set(names)) > 1 else ""
