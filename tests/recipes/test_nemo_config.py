"""NeMo AutoModel's YAML of a trial, compared with the files in ``tests/golden/``.

After a wanted change: ``PODIUM_WRITE_GOLDEN=1 pytest tests/recipes/test_nemo_config.py``, and read the difference.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipes.compose import compose, typed
from recipes.engines.nemo.config import nemo_config
from recipes.engines.protocol import Job

GOLDEN = Path(__file__).parents[1] / "golden"
DEMO, LARGE = "tiny_commerce_sft", "nemotron_nano_8b_sft"
Values = dict[str, dict[str, Any]]


def config_of(recipe: str, device: str, groups: dict[str, str], values: Values, restore: str | None = None) -> Any:
    settings = compose(recipe, groups)
    for group, block in values.items():
        settings[group] |= block
    job = Job(
        settings=typed(settings).model_dump(mode="json"),
        base=settings["base"]["path"],
        train=Path("/run/data/train.jsonl"),
        validation=Path("/run/data/validation.jsonl"),
        folder=Path("/run/trials/t"),
        device=device,
        threads=1,
    )
    return nemo_config(job, "/run/trials/t/scratch", restore)


@pytest.mark.parametrize(
    ("name", "recipe", "device", "groups", "values", "restore"),
    [
        ("demo", DEMO, "cpu", {}, {}, None),
        ("demo_adam_resumed", DEMO, "cpu", {"optimizer": "adam"}, {"train": {"seed": 7}}, "/run/trials/t/checkpoint"),
        ("8b", LARGE, "gpu", {}, {}, None),
        ("8b_qlora", LARGE, "gpu", {}, {"base": {"quantize": "nf4", "revision": "abc123"}}, None),
        (
            "8b_fsdp2_tp2",
            LARGE,
            "gpu",
            {"parallel": "fsdp2"},
            {"parallel": {"tp": 2, "sequence_parallel": True, "activation_checkpointing": True}},
            None,
        ),
    ],
)
def test_the_yaml_is_the_golden_one(
    name: str, recipe: str, device: str, groups: dict[str, str], values: Values, restore: str | None
) -> None:
    text = yaml.safe_dump(config_of(recipe, device, groups, values, restore), sort_keys=False)
    path = GOLDEN / f"nemo_{name}.yaml"
    if os.environ.get("PODIUM_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_floor_of_a_schedule_is_a_share_of_its_peak(schedule: str) -> None:
    values = {"optimizer": {"lr": 2e-3}, "schedule": {"min_lr_ratio": 0.25}}
    scheduler = config_of(DEMO, "cpu", {"schedule": schedule}, values)["lr_scheduler"]
    assert scheduler["lr_decay_style"] == schedule
    assert scheduler["min_lr"] == pytest.approx(5e-4)


def test_nemo_knows_every_target_that_is_named() -> None:
    from nemo_automodel.components.config.loader import _resolve_target

    def targets(value: Any) -> list[str]:
        if not isinstance(value, dict):
            return []
        return [
            found
            for key, inner in value.items()
            for found in ([inner] if key in ("_target_", "collate_fn") else targets(inner))
        ]

    names = {
        name
        for optimizer in ("adam", "adamw")
        for name in targets(config_of(DEMO, "cpu", {"optimizer": optimizer}, {}))
    }
    assert len(names) == 8
    assert all(callable(_resolve_target(name)) for name in names)
