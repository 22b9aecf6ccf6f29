"""What can be wrong with evaluation, Podium's home and the commands; see ``bad_cases.py``."""

from tests.launchers.stage import (
    BEGIN,
    END,
    JUDGE,
    METRICS,
    RELATIVE,
    SMALL,
    SWEEP,
    Case,
    file,
    home_cannot_be_written,
    home_is_a_file,
    home_is_full,
    judge,
    ledger,
    plan,
    port_in_use,
    submit,
    yaml,
)
from tests.launchers.strangers import hanging_judge, judge_that_hangs_at_first, judge_without_forms

_RIGHT = "as the answer it was given the right one"
EVALUATION = (
    plan(
        "An unknown metric",
        "evaluate.metrics=[exakt_match]",
        'unknown metric "exakt_match"',
        'did you mean "exact_match"? or write file.py:function',
    ),
    plan(
        "The file of a metric is not there",
        "evaluate.metrics=['mine.py:score']",
        "no such file: mine.py",
        RELATIVE,
    ),
    plan(
        "Its function is not there",
        "evaluate.metrics=['mine.py:fin']",
        '{here}/mine.py has no function "fin"',
        'did you mean "fine"?',
        file("mine.py", METRICS),
    ),
    plan(
        "It is not Python",
        "evaluate.metrics=['mine.py:fine']",
        "{here}/mine.py is not Python: invalid syntax",
        "mine.py, line 1",
        file("mine.py", "def fine(:\n"),
    ),
    submit(
        "It imports what is not installed",
        ("evaluate.metrics=['mine.py:f']",),
        "{here}/mine.py cannot be loaded: ModuleNotFoundError: No module named 'nothing_like_it'",
        "mine.py, line 1",
        file("mine.py", "import nothing_like_it\ndef f(row, answer): return {}\n"),
    ),
    submit(
        "It raises on any row",
        ("evaluate.metrics=['mine.py:raises']",),
        "{here}/mine.py:raises, row '0': it raised KeyError: 'orders'",
        "mine.py, line 4",
        file("mine.py", METRICS),
    ),
    submit(
        "It returns no dict",
        ("evaluate.metrics=['mine.py:number']",),
        "{here}/mine.py:number, row '0': a metric returns a dict of numbers by name, but got float: 1.0",
        _RIGHT,
        file("mine.py", METRICS),
    ),
    submit(
        "It returns NaN",
        ("evaluate.metrics=['mine.py:not_a_number']",),
        "not_a_number, row '0': a metric returns a dict of finite numbers by name, but got 'words': nan",
        _RIGHT,
        file("mine.py", METRICS),
    ),
    submit(
        "`field_f1` on answers that are plain text",
        ("evaluate.metrics=[field_f1]",),
        "field_f1 compares JSON, but the right answer of row '0' is none",
        arrange=None,
    ),
    plan(
        "`json_schema` without a schema",
        "evaluate.metrics=[json_schema]",
        "json_schema needs a schema",
        "add schema: <path> under evaluate",
    ),
    plan("The schema is not there", "evaluate.schema=s.json", "no such file: s.json", RELATIVE),
    plan(
        "The schema is no JSON",
        "evaluate.schema=s.json",
        "{here}/s.json is not JSON: Expecting value: line 1 column 1",
        arrange=file("s.json", "type: object"),
    ),
    plan(
        "The schema is none",
        "evaluate.schema=s.json",
        "{here}/s.json: not a JSON schema: 'thing' is not valid under any of the given schemas at $.type",
        arrange=file("s.json", '{"type": "thing"}'),
    ),
    plan(
        "Two objectives",
        "champion={maximize: quality/score, minimize: val/loss}",
        "must have one of maximize and minimize, but got both",
        "constraints go under subject_to",
    ),
    plan(
        "An objective the wrong way round",
        "champion={maximize: val/loss}",
        "val/loss is better when lower",
        "write minimize: val/loss",
    ),
    plan(
        "An unknown metric in the objective",
        "champion={maximize: quality/scoer}",
        'unknown metric "quality/scoer"',
        'did you mean "quality/score"?',
    ),
    plan(
        "… or in a constraint",
        "champion.subject_to={latency/agent_p95: '< 2'}",
        'unknown metric "latency/agent_p95"',
        'did you mean "latency/agent_p95_s"?',
    ),
    plan(
        "A bound that is none",
        "champion.subject_to={val/loss: small}",
        'must be a bound, but got "small"',
        'write an operator and a number in quotes: "< 2.0", with <, <=, > or >=',
    ),
    plan(
        "A bound that nothing can keep to",
        "champion.subject_to={quality/json_valid: '>= 95'}",
        "quality/json_valid is from 0 to 1, so nothing keeps to >= 95",
        "95 % is written 0.95",
    ),
    plan(
        "Two bounds on one metric",
        (),
        'line 11: champion.subject_to.val/loss: key "val/loss" is written twice, first in line 10',
        "keep one of them",
        yaml(SWEEP.replace("champion: {minimize: val/loss}", "champion:\n  subject_to:") + '    val/loss: "< 2"\n' * 2),
    ),
    plan(
        "Early stopping by a metric that comes too late",
        "stop_early={metric: quality/score}",
        'must be measured while a trial trains, but "quality/score" is measured afterwards',
        "valid: val/loss, train/loss",
    ),
    plan(
        "A judge without an address",
        JUDGE.replace("'{judge}'", "localhost"),
        'must be a URL, but got "localhost"',
        "for example http://localhost:8000/v1",
    ),
    submit(
        "The judge's key is not set",
        (JUDGE.replace("timeout: 1s", "api_key_env: NOT_SET"),),
        "evaluate.judge.api_key_env: the environment has no NOT_SET",
        "export NOT_SET=…",
        judge(judge_without_forms),
    ),
    submit(
        "The judge is not there",
        (JUDGE.replace("{judge}", "http://127.0.0.1:9/v1"),),
        "the judge at http://127.0.0.1:9/v1/chat/completions does not answer: [Errno 111] Connection refused",
        code=5,
    ),
    submit(
        "The judge hangs",
        (JUDGE,),
        "the judge at {judge}/chat/completions does not answer: no answer within 1 s",
        "evaluate.judge.timeout",
        judge(hanging_judge),
        code=5,
    ),
    submit(
        "The judge cannot be held to the form of a verdict",
        (JUDGE,),
        "the judge at {judge}/chat/completions refuses response_format, so nothing would hold its replies to a "
        "verdict; take a server or a model with structured output",
        arrange=judge(judge_without_forms),
        code=5,
    ),
)

_FAILED = "its evaluation failed: "
RUNNING = (
    Case(
        "A metric of one's own raises on an answer: that trial fails, the sweep goes on",
        f"{_FAILED}evaluate.metrics: {{here}}/mine.py:fails_once, row '0': it raised ValueError: what is this?",
        "mine.py, line 11",
        ("submit", "SWEEP", *SMALL, "evaluate.metrics=['mine.py:fails_once']"),
        3,
        file("mine.py", METRICS),
        slow=True,
    ),
    Case(
        "The judge hangs for a while: the trials that it should have judged fail, the sweep goes on",
        _FAILED + "{judge}/chat/completions: no answer within 4 s on item",
        "",
        ("submit", "SWEEP", *SMALL, JUDGE, "concurrency=1"),
        3,
        judge(judge_that_hangs_at_first),
        slow=True,
    ),
)

_COMMANDS = ("status", "leaderboard", "compare", "champion", "cost", "report", "export", "logs", "stop", "resume")
HOME = (
    submit(
        "Podium's home is a file",
        (),
        "{here}/no-home/runs/small: the run folder cannot be written: Not a directory",
        "set PODIUM_HOME to a folder that can",
        home_is_a_file,
    ),
    submit(
        "Podium's home cannot be written",
        (),
        "/proc/podium/runs/small: the run folder cannot be written: No such file or directory",
        "set PODIUM_HOME to a folder that can",
        home_cannot_be_written,
    ),
    submit(
        "Its disk is full",
        (),
        "{disk}/runs/small: 1 MiB are free on its disk, a sweep needs at least 200",
        "free some (`podium gc`), or set PODIUM_HOME to another disk",
        home_is_full,
    ),
    Case(
        "No sweep was run yet",
        "{here}/home/runs: no sweep here yet",
        "start one with `podium submit SWEEP.yaml`",
        ("status",),
    ),
    *(
        Case(
            f"No sweep of this name: `{command}`",
            'sweep: no sweep is called "smal" under {here}/home/runs',
            'did you mean "small"?',
            (command, "smal"),
            arrange=ledger(BEGIN, END),
        )
        for command in _COMMANDS
    ),
    Case(
        "A line in the middle of a ledger is damaged",
        'line 2: ledger.jsonl: not JSON: b\'{"t": 1.5, "ev\\n\'',
        "restore the file from a copy",
        ("status", "small"),
        arrange=ledger(BEGIN, '{"t": 1.5, "ev', END),
    ),
    Case(
        "A ledger of a later Podium",
        "{here}/home/runs/small: the run folder is of format 99, this Podium reads 2",
        "use the Podium that wrote it, or another name for the sweep",
        ("status", "small"),
        arrange=ledger(BEGIN.replace('"format": 2', '"format": 99'), END),
    ),
    Case(
        "No such trial",
        "--trial: no trial '9' in small",
        "there are none yet",
        ("logs", "small", "--trial", "9"),
        arrange=ledger(BEGIN, END),
    ),
    Case(
        "A trial that is not planned",
        "--trial: trial 7 is not planned: trials 0 to 2 are",
        "the sweep has 3",
        ("plan", "SWEEP", "--trial", "7"),
    ),
    Case(
        "No such bundle",
        "nowhere: no such folder",
        "give the folder of an exported champion",
        ("verify", "nowhere"),
    ),
    Case(
        "The dashboard's port is in use",
        "--port: port {port} is in use",
        "try --port {next}",
        ("dashboard", "--port", "{port}"),
        arrange=port_in_use,
    ),
)
