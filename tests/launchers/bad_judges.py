"""What can be wrong with a judge, its panel and its calibration; see ``bad_cases.py``."""

from tests.launchers.stage import Arrange, Case, Stage, judge, plan, submit, yaml
from tests.launchers.strangers import judge_that_ignores_forms
from tests.tracking.meters.judge.sweeps import judged_sweep
from tracking.meters.judge import Verdict

_WHOLE = "model: m, endpoint: 'http://localhost:1', rubric: r"


def _block(more: str, whole: str = _WHOLE) -> str:
    return f"evaluate.judge={{{', '.join(part for part in (whole, more) if part)}}}"


def _written(block: str) -> Arrange:
    """The sweep's file has this judge, in line 10."""
    return yaml(f"\nevaluate:\n  judge: {{{block}}}")


def _judged(labels: str) -> Arrange:
    """A sweep whose judge has scored i0, i1 and i2 of one arm, and a file of labels."""

    def arrange(stage: Stage) -> None:
        answers = {f"i{number}": ("yes", Verdict(float(number)), None) for number in range(3)}
        judged_sweep(stage.home, {"t-a": answers}, name="small")
        stage.write("labels.csv", labels)

    return arrange


def _calibrate(what: str, labels: str, message: str, way_out: str = "") -> Case:
    return Case(what, message, way_out, ("judge", "calibrate", "{here}/labels.csv"), arrange=_judged(labels))


JUDGES = (
    plan(
        "A judge without a rubric",
        (),
        "line 10: evaluate.judge.rubric: is missing",
        arrange=_written("model: m, endpoint: 'http://localhost:1'"),
    ),
    plan(
        "A rubric's levels that are not described",
        _block("rubric: {task: t, levels: {0: bad, 3: fair, 5: good}}", "model: m, endpoint: 'http://localhost:1'"),
        "levels 1, 2, 4 are not described",
        "say in words what each level from 0 to 5 is",
    ),
    plan(
        "A rubric with something to fill in",
        _block("rubric: 'Is {{ it }} kind?'", "model: m, endpoint: 'http://localhost:1'"),
        "a rubric is plain text without {{ }}",
    ),
    plan(
        "A parameter that is the judge's own",
        _block("parameters: {response_format: none}"),
        '"response_format" is not a parameter that a judge may have',
        "temperature, seed, …",
    ),
    plan(
        "A price of tokens without a date",
        (),
        "line 10: evaluate.judge.price.date: is missing",
        arrange=_written(f"{_WHOLE}, price: {{input_usd_per_1m: 1, output_usd_per_1m: 2, source: the price list}}"),
    ),
    plan(
        "… or a source",
        (),
        "line 10: evaluate.judge.price.source: is missing",
        arrange=_written(f"{_WHOLE}, price: {{input_usd_per_1m: 1, output_usd_per_1m: 2, date: 2026-11-01}}"),
    ),
    plan(
        "… or with a date that is none",
        _block("price: {input_usd_per_1m: 1, output_usd_per_1m: 2, source: list, date: 'last week'}"),
        'must be a date, but got "last week"',
        "write it like 2026-11-25",
    ),
    plan(
        "A panel of one",
        _block("panel: [{model: a}]", "endpoint: 'http://localhost:1', rubric: r"),
        "must be two judges or more, but got 1",
        "one judge is written without panel",
    ),
    plan(
        "A panel beside a single judge",
        _block("panel: [{model: a}, {model: b}]"),
        "must be one of model and panel, but got both",
        "write each model under panel",
    ),
    plan(
        "A judge of a panel without an address",
        (),
        'line 10: evaluate.judge.endpoint: is missing for "a"',
        "write endpoint: for all, or for each",
        _written("rubric: r, panel: [{model: a}, {model: b, endpoint: 'http://localhost:1'}]"),
    ),
    plan(
        "A threshold that no judge can reach",
        _block("calibration: {min_kappa: 60}"),
        "must be at most 1, but got 60",
    ),
    submit(
        "The judge's server ignores the form of a verdict",
        ("evaluate.judge={model: m, endpoint: '{judge}', rubric: r}",),
        "the judge at {judge}/chat/completions ignores response_format (it replied 'I would say four.'), so nothing "
        "would hold its replies to a verdict; take a server or a model with structured output",
        arrange=judge(judge_that_ignores_forms),
        code=5,
    ),
    _calibrate(
        "Labels for items that the judge has not scored",
        "item,label\ni0,1\nx1,2\nx2,3\n",
        "item: the judge has scored no such items: x1, x2",
        "valid: i0, i1, i2",
    ),
    _calibrate(
        "… for an arm that it has not",
        "item,arm,label\ni0,t-b,1\n",
        "arm: the judge has scored no such arm: t-b",
        'did you mean "t-a"?',
    ),
    _calibrate(
        "A label that is none",
        "item,label\ni0,good\n",
        'line 2: label: must be a number from 0 to 5, but got "good"',
    ),
    _calibrate(
        "Labels without a column `label`",
        "item,score\ni0,1\n",
        "{here}/labels.csv: has no column label, but item, score",
        "the columns are item, label (0–5) and, where it matters, arm",
    ),
)
