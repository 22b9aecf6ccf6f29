import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import InvalidInput
from sweeps.source import apply_overrides, parse_source, read_source

Write = Callable[[str], Path]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        ("1_000", 1000),
        ("0x10", 16),
        ("010", "010"),
        ("6:30", "6:30"),
        ("2026-11-01", "2026-11-01"),
        ("1e", "1e"),
        ("'1e-5'", "1e-5"),
        ("true", True),
        ("~", None),
        (".inf", float("inf")),
        ("v1.0", "v1.0"),
    ],
)
def test_scalars_are_what_they_look_like(text: str, value: Any) -> None:
    read = parse_source(f"a: {text}").values["a"]
    assert read == value
    assert type(read) is type(value)


def test_every_key_and_item_has_its_line() -> None:
    source = parse_source("name: x\nspace:\n  optimizer.lr: 1\n  lora.rank:\n    when: a\npools:\n  - cpu\n  - h100\n")
    assert source.lines == {
        "name": 1,
        "space": 2,
        "space.optimizer.lr": 3,
        "space.lora.rank": 4,
        "space.lora.rank.when": 5,
        "pools": 6,
        "pools[0]": 7,
        "pools[1]": 8,
    }


def test_a_key_written_twice_keeps_the_first_and_is_told() -> None:
    source = parse_source("name: a\nspace: {x: 1}\nname: b\n")
    assert source.values["name"] == "a"
    assert [str(problem) for problem in source.problems] == [
        'line 3: name: key "name" is written twice, first in line 1 (keep one of them)'
    ]


def test_aliases_and_merges_are_expanded() -> None:
    source = parse_source("a: &x {p: 1, q: 2}\nb: *x\nc:\n  <<: *x\n  q: 3\n")
    assert source.values == {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 2}, "c": {"p": 1, "q": 3}}
    assert source.lines["c.q"] == 5
    assert not source.problems


def test_a_call_within_braces_or_brackets_is_read_whole() -> None:
    text = (
        "a: {when: x == y, value: choice(0.0, 0.01, b), otherwise: 0}\nb: [uniform(0,1), 2]\nc: {p: choice(1, q: 2}\n"
    )
    source = parse_source(text)
    assert source.values == {
        "a": {"when": "x == y", "value": "choice(0.0, 0.01, b)", "otherwise": 0},
        "b": ["uniform(0, 1)", 2],
        "c": {"p": "choice(1", "q": 2},
    }
    assert "within { } a text with commas or brackets needs quotes" in refusal("a: {when: x in [1, 2]}")


def refusal(text: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        parse_source(text, "s.yaml")
    return str(caught.value)


def test_an_expansion_bomb_is_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    start = time.perf_counter()
    assert "must have at most 10,000 values, aliases expanded" in refusal("\n".join(lines))
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml: is empty (a sweep needs name, recipe and space)"),
        ("# nothing\n", "s.yaml: is empty (a sweep needs name, recipe and space)"),
        ("\n- a\n", "line 2: s.yaml: must be a mapping of keys to values"),
        ("a: &a\n  b: *a\n", "line 1: s.yaml: must not be nested deeper than 50 levels"),
        ("a: b: c\n", "line 1: s.yaml: is not valid YAML: mapping values are not allowed here"),
        ("a:\n\t- b\n", "line 2: s.yaml: is not valid YAML: while scanning for the next token found character '\\t'"),
        ("a: *b\n", "line 1: s.yaml: is not valid YAML: found undefined alias 'b'"),
        ("x: " + "[" * 3000, "s.yaml: must not be nested deeper than 50 levels"),
        ("a: \x07\n", "s.yaml: is not valid YAML: unacceptable character #x0007: special characters are not allowed"),
    ],
)
def test_what_is_no_sweep_is_refused(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_tags_and_odd_keys_are_problems() -> None:
    source = parse_source("a: !!python/object/apply:os.system [ls]\n? [x]\n: 1\nb: !!int abc\n")
    assert [str(problem) for problem in source.problems] == [
        "line 1: a: the tag tag:yaml.org,2002:python/object/apply:os.system is not allowed (write plain values)",
        "line 2: sweep.yaml: a key must be text",
        "line 4: b: cannot read abc as int",
    ]


def test_unreadable_files(tmp_path: Path) -> None:
    for content, rule in [
        (b"name: x\nbad: \xff\n", "line 2: {}: must be UTF-8, but byte 13 is 0xff (convert it with `iconv -t UTF-8`)"),
        (
            b"# " + b"x" * 1_000_000,
            "{}: must be at most 1,000,000 bytes, but has 1,000,002 (rows and schemas stand in files of their own)",
        ),
    ]:
        path = tmp_path / "sweep.yaml"
        path.write_bytes(content)
        with pytest.raises(InvalidInput) as caught:
            read_source(path)
        assert str(caught.value) == rule.format(path)
    with pytest.raises(InvalidInput, match="there is no such file"):
        read_source(tmp_path / "absent.yaml")
    with pytest.raises(InvalidInput, match="is a folder"):
        read_source(tmp_path)


VALUES: dict[str, Any] = {
    "space": {"optimizer.lr": 1, "optimizer.weight_decay": {"when": "a == b", "value": 1}},
    "search": {"trials": 20},
    "budget": None,
    "stop_early": {"grace": 0.1},
}


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("search.trials=40", ("search", "trials"), 40),
        ("+search.seed=1", ("search", "seed"), 1),
        ("++search.seed=1", ("search", "seed"), 1),
        ("budget.usd=10", ("budget", "usd"), 10),
        ("budget.wall_clock=6h", ("budget", "wall_clock"), "6h"),
        ("evaluate.judge.model=gpt", ("evaluate", "judge"), {"model": "gpt"}),
        ("pools=[h100, b200]", ("pools",), ["h100", "b200"]),
        ("stop_early=null", ("stop_early",), None),
        ("set.train.max_steps=300", ("set", "train.max_steps"), 300),
        ("set.optimizer.lr=1e-4", ("set", "optimizer.lr"), 1e-4),
        ("space.optimizer.lr=loguniform(1e-5,1e-3)", ("space", "optimizer.lr"), "loguniform(1e-5,1e-3)"),
        ("space.optimizer.name=adam,adamw", ("space", "optimizer.name"), "adam,adamw"),
        ("space.lora.rank=[8,16]", ("space", "lora.rank"), [8, 16]),
        (
            "space.optimizer.weight_decay.value=uniform(0,1)",
            ("space", "optimizer.weight_decay", "value"),
            "uniform(0,1)",
        ),
        (
            "space.lora.rank={when: 'a == b', value: choice(1,2)}",
            ("space", "lora.rank"),
            {"when": "a == b", "value": "choice(1, 2)"},
        ),
        ("champion.subject_to.latency/agent_p95_s='< 2.0'", ("champion", "subject_to", "latency/agent_p95_s"), "< 2.0"),
        ("evaluate.judge.rubric='a, b = c'", ("evaluate", "judge", "rubric"), "a, b = c"),
    ],
)
def test_overrides(override: str, path: tuple[str, ...], value: Any) -> None:
    result, texts, problems = apply_overrides(VALUES, [override])
    assert problems == []
    assert list(texts.values()) == [override]
    for part in path:
        result = result[part]
    assert result == value
    assert type(result) is type(value)


def test_an_override_can_remove_a_key_and_leaves_the_original() -> None:
    result, _, problems = apply_overrides(VALUES, ["~stop_early", "~space.optimizer.lr"])
    assert problems == []
    assert "stop_early" not in result
    assert list(result["space"]) == ["optimizer.weight_decay"]
    assert "optimizer.lr" in VALUES["space"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trials", "trials: an override must be key=value, or ~key to remove a key (for example search.trials=40)"),
        ("=3", "=3: an override must be key=value, or ~key to remove a key (for example search.trials=40)"),
        ("search.trials.x=1", "search.trials.x=1: search.trials is not a block of keys"),
        ("search..x=1", 'search..x=1: a key must not have empty parts, but got "search..x"'),
        ("~search.seed", "~search.seed: there is no search.seed to remove"),
        ("~evaluate.dev", "~evaluate.dev: there is no evaluate.dev to remove"),
        ("pools=h100,b200", "pools=h100,b200: pools takes one value (write a list in brackets: pools=[h100,b200])"),
        ("name=choice(a,b)", "name=choice(a,b): only keys under space take a distribution, but got choice(a, b)"),
        ("space.x=uniform(0,1", 'space.x=uniform(0,1: cannot read "uniform(0,1" (a ")" is missing)'),
    ],
)
def test_wrong_overrides_are_told_by_their_text(override: str, message: str) -> None:
    result, texts, problems = apply_overrides(VALUES, [override])
    assert [str(problem) for problem in problems] == [message]
    assert texts == {}
    assert result["search"] == VALUES["search"]
