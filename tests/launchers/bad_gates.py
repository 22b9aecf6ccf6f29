"""What can be wrong with gates and planted defects; see ``bad_cases.py``."""

from tests.launchers.stage import RELATIVE, file, plan, submit

FUNCTIONS = """\
import math
def passes(row, answer): return {"passes": 1}
def stops(row, answer): return {"stops": 0}
def raises(row, answer): return {"polite": row["orders"]}
def text(row, answer): return "yes"
def not_a_number(row, answer): return {"polite": math.nan}
def nothing(row, answer): return {}
def swear(row, answer): return answer + " Go away."
def count(row, answer): return 3
def same(row, answer): return answer
"""
MINE = file("mine.py", FUNCTIONS)
SCORED = "evaluate.metrics=[exact_match]"

GATES = (
    plan(
        "An unknown gate",
        (SCORED, "evaluate.gates=[no_giftcard]"),
        'unknown gate "no_giftcard"',
        'did you mean "no_gift_card"? or write file.py:function',
    ),
    plan(
        "Gates, and nothing that scores what passes them",
        "evaluate.gates=[no_gift_card]",
        'gates come before scores, but nothing scores: got "no_gift_card" alone',
        "add metrics, or a judge",
    ),
    plan(
        "The gate `safety` without patterns",
        (SCORED, "evaluate.gates=[safety]"),
        "gate safety needs patterns",
        "add forbidden: [<regular expression>, …]",
    ),
    plan(
        "Patterns that no gate looks for",
        (SCORED, "evaluate.forbidden=[weapons?]"),
        "forbidden patterns are looked for by gate safety, which is not there",
        "add it to gates",
    ),
    plan(
        "A pattern that is none",
        (SCORED, "evaluate={gates: [safety], forbidden: ['(weapon']}"),
        'must be a regular expression, but got "(weapon": missing ), unterminated subpattern at position 0',
    ),
    plan(
        "Two gates of one name",
        (SCORED, "evaluate.gates=['mine.py:passes','other.py:passes']"),
        'must have different names, but "mine.py:passes" and "other.py:passes" are both called passes',
        "rename one of the functions",
        MINE,
    ),
    plan(
        "The file of a gate is not there",
        (SCORED, "evaluate.gates=['gone.py:passes']"),
        "no such file: gone.py",
        RELATIVE,
    ),
    submit(
        "A gate that raises",
        (SCORED, "evaluate.gates=['mine.py:raises']"),
        "evaluate.gates: {here}/mine.py:raises, row '0': it raised KeyError: 'orders'",
        "mine.py, line 4",
        MINE,
    ),
    submit(
        "… that returns a text",
        (SCORED, "evaluate.gates=['mine.py:text']"),
        "mine.py:text, row '0': a metric returns a dict of numbers by name, but got str: 'yes'",
        arrange=MINE,
    ),
    submit(
        "… that returns NaN",
        (SCORED, "evaluate.gates=['mine.py:not_a_number']"),
        "mine.py:not_a_number, row '0': a metric returns a dict of finite numbers by name, but got 'polite': nan",
        arrange=MINE,
    ),
    submit(
        "… that returns nothing",
        (SCORED, "evaluate.gates=['mine.py:nothing']"),
        "mine.py:nothing, row '0': a gate gives at least one number, got none",
        arrange=MINE,
    ),
    submit(
        "… that no right answer passes",
        (SCORED, "evaluate.gates=['mine.py:stops']"),
        "mine.py:stops lets none of 9 right answers pass: every answer would have the lowest score",
        "mend it, or leave it out",
        MINE,
    ),
    submit(
        "The gate `json_schema` without a schema",
        (SCORED, "evaluate.gates=[json_schema]"),
        "evaluate.gates: json_schema needs a schema, and none is given",
        "set evaluate.schema",
    ),
    plan(
        "An unknown defect",
        (SCORED, "evaluate.defects=[giftcard]"),
        'unknown defect "giftcard"',
        'did you mean "gift_card"? or write file.py:function',
    ),
    plan(
        "A share of false alarms in per cent",
        (SCORED, "evaluate.defects.false_alarms=2"),
        "must be at most 1, but got 2",
    ),
    plan(
        "Every value of a metric may be missing",
        (SCORED, "evaluate.max_missing=1"),
        "must be below 1, but got 1",
    ),
    submit(
        "A defect of one's own that returns a number",
        (SCORED, "evaluate.defects=['mine.py:count']"),
        "mine.py:count, row '0': a defect returns the changed answer, or None, but got int: 3",
        arrange=MINE,
    ),
    submit(
        "… that changes nothing",
        (SCORED, "evaluate.defects=['mine.py:same']"),
        "mine.py:same, row '0': a defect returns the changed answer, but this is the right one as it was",
        arrange=MINE,
    ),
)
