"""What can be wrong with what ``podium data check`` and ``podium data split`` are given; see ``bad_cases.py``."""

from tests.launchers.stage import ROWS, Arrange, Case, Stage, rows

_TO = ("--to", "{here}/splits")
_ANY = "name a JSONL or Parquet file, s3://bucket/key, or a sweep's YAML"


def _check(what: str, more: tuple[str, ...], message: str, way_out: str = "", arrange: Arrange | None = None) -> Case:
    return Case(what, message, way_out, ("data", "check", *more), arrange=arrange)


def _split(what: str, more: tuple[str, ...], message: str, way_out: str = "", arrange: Arrange | None = None) -> Case:
    return Case(what, message, way_out, ("data", "split", "{here}/rows.jsonl", *more), arrange=arrange)


def _there(stage: Stage) -> None:
    stage.write("splits/train.jsonl", ROWS)


SPLITS = (
    _check("There is no such file", ("{here}/gone.jsonl",), "DATA: no such file: {here}/gone.jsonl", _ANY),
    _check("It is a folder", ("{here}",), "DATA: {here} is a folder", _ANY),
    _check(
        "It is empty",
        ("{here}/rows.jsonl",),
        "DATA: {here}/rows.jsonl holds no rows",
        "one JSON object a line is needed",
        rows(""),
    ),
    _check(
        "Parquet that was cut short",
        ("{here}/rows.jsonl",),
        "data.path: {here}/rows.jsonl cannot be read as Parquet: Parquet file size is",
        arrange=rows(b"PAR1\0\0"),
    ),
    _check(
        "`--schema` is no JSON Schema",
        ("{here}/rows.jsonl", "--schema", "{here}/answer.json"),
        "--schema: {here}/answer.json is no JSON Schema: 'a text' is not valid under any of the given schemas",
        arrange=lambda stage: stage.write("answer.json", '{"type": "a text"}'),
    ),
    _check(
        "`--schema` is no object",
        ("{here}/rows.jsonl", "--schema", "{here}/answer.json"),
        "--schema: {here}/answer.json is no JSON Schema: it must be an object, but got 5",
        arrange=lambda stage: stage.write("answer.json", "5"),
    ),
    _split(
        "The folder is not empty",
        _TO,
        "--to: {here}/splits is not empty, and nothing is overwritten",
        "name another folder",
        _there,
    ),
    _split(
        "Shares that are no whole",
        (*_TO, "--train", "0.9", "--validation", "0.3"),
        "--train: --train + --validation + --dev + --challenge must be 1, but got 0.9 + 0.3 + 0 + 0 = 1.2",
        "a share that is not given takes what the others leave",
    ),
    _split(
        "No validation rows",
        (*_TO, "--validation", "0"),
        "--train: --train and --validation must be above 0, but got 0.777778 and 0",
        "a sweep trains on one and stops trials by the other",
    ),
    _split(
        "`--group-field` is no field",
        (*_TO, "--group-field", "customer"),
        "line 1: --group-field: 'customer' is not a field of every row of {here}/rows.jsonl",
        "name a field that all rows have, or leave it out",
    ),
    _split(
        "`--like` names no split",
        (*_TO, "--like", "{here}"),
        "--like: {here} has no split.json",
        "name a folder of `podium data split`",
    ),
    _split(
        "Too few rows for the sides",
        _TO,
        "split is empty: 1 rows in 1 components at a share of 0.",
        arrange=rows(ROWS.splitlines(keepends=True)[0]),
    ),
)
