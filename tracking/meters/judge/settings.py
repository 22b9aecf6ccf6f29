"""A sweep's ``evaluate.judge`` block as plain values: who is in it, and what of it decides verdicts."""

import hashlib
from collections.abc import Mapping
from typing import Any

_JUDGING = ("model", "revision", "parameters")  # what decides verdicts, beside the rubric


def members(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings of every judge: those of the block, or of each member of its panel, which has the block's rest."""
    own = {key: value for key, value in settings.items() if key not in ("panel", "calibration")}
    panel = settings.get("panel") or [{}]
    return [{**own, **{key: value for key, value in member.items() if value is not None}} for member in panel]


def identity(settings: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What decides the verdicts of a judge, as plain values: time-outs, prices and addresses do not. None for none."""
    return {"judges": [_identity(member) for member in members(settings)]} if settings else None


def _identity(member: Mapping[str, Any]) -> dict[str, Any]:
    rubric = hashlib.sha256(str(member["rubric"]).strip().encode()).hexdigest()
    return {**{key: member[key] for key in _JUDGING if member.get(key) is not None}, "rubric_sha256": rubric}
