from collections.abc import Callable
from pathlib import Path

import pytest

import sweeps.spec
from sweeps.design_points import MANY, planned_points
from sweeps.errors import InvalidInput
from sweeps.facts import Pool, RecipeFacts
from sweeps.loading import check_source
from sweeps.metrics import METRICS, NAMES, find_metric
from sweeps.source import parse_source
from sweeps.spec import Constraint, Sweep, SweepSpec, load_spec, read_spec, resolve
from sweeps.stages import read_staged

Write = Callable[[str], Path]
Make = Callable[..., Sweep]

FULL = """\
name: commerce-sft
recipe: tiny_commerce_sft
set: {train.max_steps: 600}
pools: [h100, b200]
space:
  optimizer.name: choice(adam, adamw)
  optimizer.lr: loguniform(1e-5, 1e-3)
  optimizer.weight_decay: {when: optimizer.name == adamw, value: choice(0.0, 0.01)}
  schedule.min_lr_ratio: uniform(0.0, 0.1)
  lora.rank: choice(8, 16, 32, 64)
search: {algorithm: tpe, trials: 20, seed: 0, start_at: default, seeds: 2, metric: quality/score}
stop_early: {algorithm: asha, metric: val/loss, mode: min, grace: 0.15, reduction: 3}
budget: {gpu_hours: 40, usd: 160, wall_clock: 6h}
evaluate:
  dev: 200
  challenge: null
  metrics: [json_schema, exact_match, "rubric.py:politeness"]
  schema: proposal.json
  judge: {model: gpt-5, endpoint: "http://localhost:8000/v1", rubric: "Is it kind?", api_key_env: KEY}
  latency: {top: 2, requests: 200, warmup: 4, rate: 5/s, slo: {agent_p95: 2s}, tp: [1, 2], accelerators: [H100]}
  stopped: false
champion:
  maximize: quality/politeness
  subject_to: {latency/agent_p95_s: "< 2.0", quality/json_valid: ">= 0.99"}
  confirm: {top: 3}
export: {to: s3://bucket/champions/, merge: false}
retries: 2
concurrency: 4
"""
MINIMAL = "name: x\nrecipe: tiny_commerce_sft\nspace: {lora.rank: 'choice(8, 16)'}\n"


def test_everything_that_may_be_written_is_read(write: Write, facts: RecipeFacts, pools: dict[str, Pool]) -> None:
    loaded = load_spec(write(FULL))
    spec = loaded.spec
    assert spec is not None
    assert loaded.source.text == FULL
    assert loaded.recipe == spec.recipe == "tiny_commerce_sft"
    assert loaded.set == {"train.max_steps": 600}
    assert spec.budget.wall_clock_s == 6 * 3600
    assert spec.champion.constraints == (
        Constraint(metric="latency/agent_p95_s", op="<", bound=2.0),
        Constraint(metric="quality/json_valid", op=">=", bound=0.99),
    )
    assert spec.champion.constraints[0].holds(1.9)
    assert not spec.champion.constraints[0].holds(2.0)
    assert spec.evaluate.functions == ("rubric.py:politeness",)
    assert spec.objective == ("quality/politeness", "max")
    assert spec.search.mode == "max"
    sweep = resolve(loaded, facts, pools)
    assert [pool.name for pool in sweep.pools] == ["h100", "b200"]
    assert sweep.settings["train"]["max_steps"] == 600


def test_all_but_name_recipe_and_space_has_a_default(write: Write) -> None:
    spec = load_spec(write(MINIMAL)).spec
    assert spec is not None
    assert spec.pools == ("cpu",)
    assert (spec.search.algorithm, spec.search.trials, spec.search.mode) == ("tpe", 20, "min")
    assert spec.early_stopping is None
    assert spec.objective == ("val/loss", "min")
    empty = write(MINIMAL + "search:\nbudget:\nevaluate:\nchampion:\nexport:\nset:\nstop_early:\n")
    again = load_spec(empty).spec
    assert again == spec


@pytest.mark.parametrize("path", sorted(Path(sweeps.spec.__file__).parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_sweeps_of_this_repository_are_right(path: Path) -> None:
    if found := read_staged(path):
        assert found.problems == ()
        assert all(stage.loaded().problems == () for stage in found.stages)
    else:
        assert load_spec(path).spec is not None


@pytest.mark.parametrize(
    ("text", "objective"),
    [
        ("", ("val/loss", "min")),
        ("evaluate: {metrics: shopping}", ("quality/score", "max")),
        ("champion: {minimize: cost/usd}", ("cost/usd", "min")),
    ],
)
def test_the_champions_objective(write: Write, text: str, objective: tuple[str, str]) -> None:
    spec = load_spec(write(MINIMAL + text)).spec
    assert spec is not None
    assert spec.objective == objective


def test_a_spec_is_frozen_and_survives_json(write: Write) -> None:
    spec = load_spec(write(FULL)).spec
    assert spec is not None
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "y"  # type: ignore[misc]
    assert SweepSpec.model_validate_json(spec.model_dump_json(by_alias=True)) == spec


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("6h", 21600), ("90m", 5400), ("45s", 45), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800), ("600", 600)],
)
def test_wall_clock(write: Write, written: str, seconds: float) -> None:
    spec = load_spec(write(f"{MINIMAL}budget: {{wall_clock: {written}}}")).spec
    assert spec is not None
    assert spec.budget.wall_clock_s == seconds


def told(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        load_spec(path, overrides)
    assert caught.value.source == str(path)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("serach: {trials: 3}", 'serach: unknown key "serach" (did you mean "search"?)'),
        ("search: {trails: 3}", 'search.trails: unknown key "trails" (did you mean "trials"?)'),
        ("search: {trials: 0}", "search.trials: must be at least 1, but got 0"),
        ("search: {trials: 1000000}", "search.trials: must be at most 100000, but got 1000000"),
        ("search: {trials: '20'}", 'search.trials: must be a whole number, but got "20" (write it without quotes)'),
        ("search: {trials: 20.5}", "search.trials: must be a whole number, but got 20.5"),
        ("search: {trials: true}", "search.trials: must be a whole number, but got true"),
        ("search: {trials: many}", 'search.trials: must be a whole number, but got "many"'),
        (
            "search: {algorithm: tep}",
            'search.algorithm: must be one of grid, random, tpe, nsga2, but got "tep" (did you mean "tpe"?)',
        ),
        ("search: {start_at: 3}", "search.start_at: must be one of default, null, but got 3"),
        ("search: [1]", "search: must be a block of keys, but got a list"),
        ("search: {metric: val/los}", 'search.metric: unknown metric "val/los" (did you mean "val/loss"?)'),
        (
            "search: {metric: val/loss, mode: max}",
            'search.mode: mode "max" is the worse side of val/loss: lower is better (write mode: min)',
        ),
        ("stop_early: {grace: 0}", "stop_early.grace: must be above 0, but got 0"),
        ("stop_early: {grace: .nan}", "stop_early.grace: must be a finite number, but got nan"),
        ("stop_early: {reduction: 1}", "stop_early.reduction: must be above 1, but got 1"),
        (
            "stop_early: {metric: quality/score}",
            'stop_early.metric: must be measured while a trial trains, but "quality/score" is measured afterwards'
            " (valid: val/loss, train/loss)",
        ),
        ("budget: {usd: 0}", "budget.usd: must be above 0, but got 0"),
        (
            "budget: {wall_clock: 6 hours}",
            'budget.wall_clock: must be a time, but got "6 hours" (write 6h, 1h30m, 90m, 45s or a number of seconds)',
        ),
        ("pools: []", "pools: must not be empty"),
        ("pools: [cpu, cpu]", 'pools: must not name anything twice, but "cpu" is'),
        ("pools: 3", "pools: must be a list, but got 3"),
        ("evaluate: {dev: 0}", "evaluate.dev: must be at least 1, but got 0"),
        (
            "evaluate: {metrics: [exact_mach]}",
            'evaluate.metrics[0]: unknown metric "exact_mach" (did you mean "exact_match"? or write file.py:function)',
        ),
        (
            "evaluate: {metrics: [json_schema]}",
            "evaluate.metrics: json_schema needs a schema (add schema: <path> under evaluate)",
        ),
        (
            "evaluate: {judge: {model: m, endpoint: localhost, rubric: r}}",
            'evaluate.judge.endpoint: must be a URL, but got "localhost" (for example http://localhost:8000/v1)',
        ),
        (
            "evaluate: {judge: {model: m, endpoint: 'http://x', rubric: r, api_key_env: sk-123}}",
            "evaluate.judge.api_key_env: must be the name of an environment variable"
            " (the key itself does not belong in a sweep)",
        ),
        ("evaluate: {judge: {model: m, endpoint: 'http://x'}}", "evaluate.judge.rubric: is missing"),
        (
            "evaluate: {judge: {modl: m, model: m, endpoint: 'http://x', rubric: r}}",
            'evaluate.judge.modl: unknown key "modl" (did you mean "model"?)',
        ),
        (
            "champion: {maximize: val/loss}",
            "champion.maximize: val/loss is better when lower (write minimize: val/loss)",
        ),
        (
            "champion: {maximize: quality/score, minimize: cost/usd}",
            "champion: must have one of maximize and minimize, but got both (constraints go under subject_to)",
        ),
        (
            "champion: {subject_to: {latency/agent_p95: '< 2'}}",
            'champion.subject_to.latency/agent_p95: unknown metric "latency/agent_p95"'
            ' (did you mean "latency/agent_p95_s"?)',
        ),
        (
            "champion: {subject_to: {cost/usd: 2}}",
            "champion.subject_to.cost/usd: must be a bound, but got 2"
            ' (write an operator and a number in quotes: "< 2.0", with <, <=, > or >=)',
        ),
        ("champion: {confirm: {top: -1}}", "champion.confirm.top: must be at least 0, but got -1"),
        ("champion: {confirm: {alpha: 1.0}}", "champion.confirm.alpha: must be below 1, but got 1.0"),
        ("champion: {contenders: {start: 1, items: 9}}", "champion.contenders.start: must be at least 2, but got 1"),
        ("export: {merge: 'true'}", 'export.merge: must be true or false, but got "true" (write it without quotes)'),
        ("retries: -1", "retries: must be at least 0, but got -1"),
        ("concurrency: 0", "concurrency: must be at least 1, but got 0"),
        ("set: 3", "set: must be a block of keys, but got 3"),
    ],
)
def test_each_rule_in_words(write: Write, line: str, message: str) -> None:
    assert told(write(MINIMAL + line)) == [f"line 4: {message}"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2024", "line 1: name: must be text, but got 2024 (put it in quotes)"),
        ("../x", 'line 1: name: must be a folder name, but got "../x"'),
        (".hidden", 'line 1: name: must be a folder name, but got ".hidden"'),
        ("x" * 65, f'line 1: name: must be a folder name, but got "{"x" * 65}"'),
    ],
)
def test_names(write: Write, name: str, message: str) -> None:
    (found,) = told(write(MINIMAL.replace("name: x", f"name: {name}")))
    assert found.startswith(message)


def test_missing_keys_have_no_line(write: Write) -> None:
    assert told(write("search: {trials: 3}")) == [
        f"{key}: is missing (a sweep needs name, recipe and space)" for key in ("name", "recipe", "space")
    ]


def test_overrides_are_named_by_their_text(write: Write) -> None:
    path = write(MINIMAL)
    spec = load_spec(path, ["search.trials=40", "budget.usd=10"]).spec
    assert spec is not None
    assert (spec.search.trials, spec.budget.usd) == (40, 10)
    assert told(path, "search.trials=0", "optimizer.lr=1e-3", "search.trails=3", "nonsense") == [
        "nonsense: an override must be key=value, or ~key to remove a key (for example search.trials=40)",
        "search.trials=0: must be at least 1, but got 0",
        'search.trails=3: unknown key "trails" (did you mean "trials"?)',
        'optimizer.lr=1e-3: unknown key "optimizer" (a recipe\'s key is set with set.optimizer.lr=1e-3)',
    ]


WRONG = """\
name: commerce sft
recipe: tiny_commerce_sft
set:
  train.max_stepss: 600
  lora.rank: 0
pools: [h100, b20]
space:
  optimizer.lr: loguniform(1e-3, 1e-5)
  optimizer.nam: choice(adam, adamw)
  lora.dropout: uniform(0, 2)
  lora.rank: chioce(8, 16)
serach: {trials: 3}
search: {trials: 0, algorithm: tpee}
champion: {subject_to: {latency/agent_p95: "< 2.0", cost/usd: cheap}}
name: again
"""


def test_all_problems_of_file_recipe_and_pools_are_told_at_once(
    write: Write, facts: RecipeFacts, pools: dict[str, Pool]
) -> None:
    loaded = read_spec(write(WRONG), ["set.lora.alpha=-1", "space.lora.rnk=choice(1,2)"])
    assert loaded.spec is None
    with pytest.raises(InvalidInput) as caught:
        resolve(loaded, facts, pools)
    assert [str(problem) for problem in caught.value.problems] == [
        "set.lora.alpha=-1: must be above 0, but got -1.0",
        'space.lora.rnk=choice(1,2): recipe tiny_commerce_sft has no key "lora.rnk" (did you mean "lora.rank"?)',
        'line 1: name: must be a folder name, but got "commerce sft"'
        " (use letters, digits, '-', '_' and '.', at most 64, beginning with a letter or a digit)",
        'line 4: set.train.max_stepss: recipe tiny_commerce_sft has no key "train.max_stepss"'
        ' (did you mean "train.max_steps"?)',
        "line 5: set.lora.rank: must be at least 1, but got 0",
        'line 6: pools[1]: unknown pool "b20" (did you mean "b200"?)',
        "line 8: space.optimizer.lr: low must be below high, but got low=0.001, high=1e-05",
        'line 9: space.optimizer.nam: recipe tiny_commerce_sft has no key "optimizer.nam"'
        ' (did you mean "optimizer.name"?)',
        "line 10: space.lora.dropout: must be at most 1, but uniform(0.0, 2.0) has 2.0",
        'line 11: space.lora.rank: unknown function "chioce" (did you mean "choice"?)',
        'line 12: serach: unknown key "serach" (did you mean "search"?)',
        'line 13: search.algorithm: must be one of grid, random, tpe, nsga2, but got "tpee" (did you mean "tpe"?)',
        "line 13: search.trials: must be at least 1, but got 0",
        'line 14: champion.subject_to.cost/usd: must be a bound, but got "cheap"'
        ' (write an operator and a number in quotes: "< 2.0", with <, <=, > or >=)',
        'line 14: champion.subject_to.latency/agent_p95: unknown metric "latency/agent_p95"'
        ' (did you mean "latency/agent_p95_s"?)',
        'line 15: name: key "name" is written twice, first in line 1 (keep one of them)',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "space: {optimizer.lr: 'uniform(0.1, 1)'}\nsearch: {algorithm: grid}",
            "line 3: space.optimizer.lr: a grid needs a finite number of values, but uniform(0.1, 1.0) is continuous"
            " (use choice, range or quniform, or search.algorithm: random)",
        ),
        (
            "space: {lora.rank: 'range(1, 1001)', train.batch_size: 'range(1, 1001)'}\nsearch: {algorithm: grid}",
            "line 3: space: 1,000,000 trials (1000 × 1000) would take about 2,687,578 core-hours, $134,379"
            " (use search.algorithm: tpe or random, or say --yes)",
        ),
        (
            "space: {lora.rank: 'range(1, 9)'}\nsearch: {trials: 3000, seeds: 4}",
            "line 4: search.trials: 12,000 trials would take about 705 core-hours, $35 (say --yes if they are meant)",
        ),
        (
            "space: {lora.rank: 'range(1, 9)'}\nsearch: {algorithm: grid, trials: 8}",
            "line 4: search.trials: the grid needs 9 trials, the recipe's defaults among them, but search.trials is 8"
            " (write trials: 9)",
        ),
        (
            "space: {lora.rank: 'range(1, 9)'}\nsearch: {algorithm: grid, start_at: null, trials: 7}",
            "line 4: search.trials: the grid needs 8 trials, but search.trials is 7 (write trials: 8)",
        ),
    ],
)
def test_grids_that_cannot_be_run(make_sweep: Make, text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_sweep(text)
    assert str(caught.value) == message


def test_metrics_are_the_designs(make_sweep: Make) -> None:
    assert len(NAMES) == len(set(NAMES)) == len(METRICS)
    assert all(metric.meaning for metric in METRICS)
    own = find_metric("quality/kind", ["a.py:kind"])
    assert own is not None
    assert own.direction == "max"
    assert find_metric("quality/kind/part", ["a.py:kind"]) is not None
    assert find_metric("quality/kind") is None


def test_very_many_trials_are_planned_where_they_are_meant(facts: RecipeFacts, pools: dict[str, Pool]) -> None:
    text = "name: x\nrecipe: tiny_commerce_sft\nsearch: {algorithm: grid}\n"
    text += "space: {lora.rank: 'range(1, 1001)', train.batch_size: 'range(1, 1001)'}\n"
    sweep = resolve(check_source(parse_source(text)), facts, pools, yes=True)
    assert sweep.spec.search.trials == 1_000_000, "a grid is tried as a whole where search.trials is not written"
    design = planned_points(sweep)
    assert (len(design.trials), design.num_trials) == (MANY, 1_000_000)


def test_several_metrics_are_searched_by_with_their_directions(make_sweep: Make) -> None:
    text = "space: {lora.rank: 'choice(4, 8)'}\nevaluate: {metrics: [shopping]}\n"
    text += "search: {algorithm: nsga2, metrics: {quality/score: max, cost/usd: min}}\n"
    search = make_sweep(text).spec.search
    assert search.objectives == {"quality/score": "max", "cost/usd": "min"}
    assert make_sweep("space: {lora.rank: '4'}").spec.search.objectives == {"val/loss": "min"}
    rungs = "stop_early: {metric: val/loss}\n"
    assert make_sweep(text + rungs).spec.early_stopping is not None
    none = make_sweep(text + "stop_early: {algorithm: none}\nchampion: {subject_to: {cost/usd: '< 1'}}").spec
    assert none.early_stopping is None
    assert [str(one) for one in none.enforced] == ["cost/usd < 1"]
    assert make_sweep(text + "champion: {subject_to: {cost/usd: '< 1'}}").spec.enforced == ()


def test_a_search_may_go_by_what_a_function_of_ones_own_or_a_judge_gives(make_sweep: Make) -> None:
    space = "space: {lora.rank: 'choice(4, 8)'}\nsearch: {metric: quality/score}\n"
    for evaluate in ("metrics: [a.py:kind]", "judge: {model: m, endpoint: 'http://localhost/v1', rubric: 'Five.'}"):
        assert make_sweep(f"{space}evaluate: {{{evaluate}}}").spec.search.mode == "max"
