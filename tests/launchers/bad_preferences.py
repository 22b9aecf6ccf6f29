"""What can be wrong with a sweep of preference trials; see ``bad_cases.py``."""

import json

from tests.launchers.stage import ROWS, plan, rows

_PAIRS: list[dict[str, object]] = [
    {
        "messages": [
            {"role": "user", "content": f"Where is order {number}?"},
            {"role": "assistant", "content": "It is on its way."},
        ],
        "rejected": "I do not know.",
    }
    for number in range(60)
]


def _written(pairs: list[dict[str, object]]) -> str:
    return "".join(json.dumps(pair) + "\n" for pair in pairs)


_DPO = "set.method=dpo"
_BETAS = "space.preference.beta=choice(0.05, 0.1, 0.3)"
_WAY = "write dpo/reward_accuracy, or a metric of their answers that is evaluated, as quality/score"
_SCALE = "has another scale in trials that differ in preference.beta: it cannot compare them"
PREFERENCES = (
    plan(
        "A search by losses of different scales",
        (_DPO, _BETAS, "search.metric=val/loss"),
        f"search.metric=val/loss: val/loss {_SCALE}",
        _WAY,
        rows(_written(_PAIRS)),
    ),
    plan(
        "… and trials that are stopped by them",
        (_DPO, _BETAS, "stop_early={metric: dpo/loss}"),
        f"dpo/loss {_SCALE}",
        _WAY,
        rows(_written(_PAIRS)),
    ),
    plan(
        "… and a champion",
        (_DPO, _BETAS, "champion={maximize: dpo/reward_margin}"),
        f"dpo/reward_margin {_SCALE}",
        _WAY,
        rows(_written(_PAIRS)),
    ),
    plan(
        "The other engine has no such method",
        (_DPO, "set.engine=nemo"),
        "engine nemo trains fresh adapters by method sft, but got method: dpo; set engine: packed",
        arrange=rows(_written(_PAIRS)),
    ),
    plan(
        "A preference that trials of another method have not",
        "set.preference.beta=0.3",
        "set.preference.beta=0.3: has no effect on trials of method sft",
        "set method: dpo, or leave it out",
        rows(ROWS),
    ),
    plan(
        "… nor its figures",
        "search.metric=dpo/reward_accuracy",
        "search.metric=dpo/reward_accuracy: dpo/reward_accuracy is measured of trials of method dpo alone",
        "set method: dpo with rows that are pairs, or write val/loss",
        rows(ROWS),
    ),
    plan(
        "Half of the labels would be wrong",
        (_DPO, "set.preference.label_smoothing=0.5"),
        "set.preference.label_smoothing=0.5: must be at most 0.49999999999999994, but got 0.5",
        arrange=rows(_written(_PAIRS)),
    ),
    plan(
        "A rejected answer is too long",
        (_DPO, "set.data.max_tokens=64"),
        "a row is longer than 64 tokens; the longest, with the question 'Where is order 60?' and its rejected "
        "answer, has",
        arrange=rows(
            _written(
                [
                    *_PAIRS,
                    {
                        "messages": [
                            {"role": "user", "content": "Where is order 60?"},
                            {"role": "assistant", "content": "It is on its way."},
                        ],
                        "rejected": "I do not know. " * 40,
                    },
                ]
            )
        ),
    ),
)
