"""A first sweep for somebody's rows: what to set, from their number and kind, and the YAML that says why."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from recipes.profile import Profile
from recipes.schema import Recipe
from sweeps.facts import Pool

SMALL = 50_000_000  # parameters: such a base trains on a CPU in minutes, with learning rates far above a large one's
EPOCHS = 4
MIN_STEPS, MAX_STEPS_CPU, MAX_STEPS_GPU = 40, 400, 1000
FEW_TRIALS = 12  # of so few, a third at the first report may not have the best among them
NUM_REPORTS = 10  # of a trial, each a chance to stop it early
STEPS_PER_EPOCH = 16  # at least, or a small set would be learnt in a handful of steps
MARGIN = 1.25  # on the longest answer, since an answer that is cut off is wrong
ESTIMATE = 2.0  # more than characters tell, where the base's tokenizer is not at hand
_WHY_COLUMN = 46
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]*[A-Za-z0-9_]")


@dataclass(frozen=True)
class Draft:
    """What the YAML is written from.

    Attributes:
        path: Of the data, as the YAML names it.
        schema: The file name of the schema of JSON answers, if there is one.
        pools: Names; the trials run on any of them.
        set_base: ``base.…`` keys to set besides the recipe's own.
        ranks: That the base's layers are wide enough for.
    """

    name: str
    path: str
    recipe_name: str
    recipe: Recipe
    seen: Profile
    schema: str | None
    pools: tuple[str, ...]
    pools_why: str
    set_base: dict[str, Any]
    num_parameters: int
    ranks: tuple[int, ...]

    @property
    def is_small(self) -> bool:
        """Whether the base is one that a CPU can train."""
        return self.num_parameters <= SMALL


def schedule(num_train: int, recipe: Recipe, is_small: bool) -> dict[str, int]:
    """Batch size, steps, reports and warm-up for so many training rows, by their keys in the recipe."""
    batch = recipe.train.batch_size
    if recipe.parallel.gpus == 1:
        batch = max(8, batch)
        while batch > 4 and batch % 2 == 0 and num_train < STEPS_PER_EPOCH * batch:
            batch //= 2
    most = MAX_STEPS_CPU if is_small else MAX_STEPS_GPU
    steps = min(most, max(MIN_STEPS, math.ceil(EPOCHS * num_train / batch / NUM_REPORTS) * NUM_REPORTS))
    return {
        "train.max_steps": steps,
        "train.batch_size": batch,
        "train.micro_batch_size": batch if is_small else math.gcd(batch, recipe.train.micro_batch_size),
        "train.validate_every": steps // NUM_REPORTS,
        "schedule.warmup_steps": steps // 20,
    }


def num_trials(num_dev: int, is_small: bool) -> int:
    """More rows to choose by can tell more trials apart; on a CPU twelve are patience enough."""
    trials = 6 if num_dev < 40 else 8 if num_dev < 80 else 12 if num_dev < 200 else 20
    return min(12, trials) if is_small else trials


def max_new_tokens(seen: Profile) -> int:
    """Room for the longest answer, rounded up to eight."""
    return _within(seen, seen.answers.max_tokens * MARGIN, 8)


def max_tokens(seen: Profile) -> int:
    """Room for the longest row, rounded up to 64."""
    return _within(seen, seen.max_tokens, 64)


def _within(seen: Profile, tokens: float, step: int) -> int:
    rounded = math.ceil(tokens * (ESTIMATE if seen.is_estimate else 1) / step) * step
    return rounded if seen.context is None else min(rounded, seen.context)


def name_of(text: str) -> str:
    """A sweep's name from a file's: letters, digits, '-', '_' and '.', at most 64."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or "sweep"


def to_yaml(draft: Draft) -> str:
    """The sweep, with a comment at every line that follows from the data."""
    blocks = (_head(draft), _settings(draft), _space(draft), _evaluation(draft))
    return "\n".join(line for block in blocks for line in block) + "\n"


def _quoted(value: Any) -> str:
    """A value as YAML on one line; text in quotes unless it is a plain word."""
    is_text = isinstance(value, str)
    if is_text and _PLAIN.fullmatch(value) and value.lower() not in ("null", "true", "false", "yes", "no", "on", "off"):
        return str(value)
    return yaml.safe_dump(value, default_style='"' if is_text else None, width=math.inf).split("\n")[0]


def _line(text: str, why: str = "", indent: int = 0) -> str:
    text = " " * indent + text
    return f"{text:<{_WHY_COLUMN}}# {why}".rstrip() if why else text


def _head(draft: Draft) -> list[str]:
    return [
        "# A first sweep, written by `podium init` from a look at the rows. Change what you like:",
        "# docs/sweep.md has every key, docs/recipes.md what may stand under `set` and `space`.",
        f"name: {_quoted(draft.name)}",
        _line(f"recipe: {_quoted(draft.recipe_name)}", f"a base of {draft.num_parameters:,} parameters"),
        _line(f"pools: [{', '.join(draft.pools)}]", draft.pools_why),
    ]


def _settings(draft: Draft) -> list[str]:
    seen = draft.seen
    steps = schedule(seen.num_rows_of["train"], draft.recipe, draft.is_small)
    train, validation = seen.num_rows_of["train"], seen.num_rows_of["validation"]
    times = steps["train.max_steps"] * steps["train.batch_size"] / train
    how = ", at four characters each" if seen.is_estimate else ""
    context = f"; the base reads {seen.context:,}" if seen.context else ""
    group = (
        f"{seen.num_groups} values recur: rows that share one stay on one side of the split"
        if seen.group
        else "no field seems to say what belongs together: rows with one prompt do"
    )
    lines: list[tuple[str, Any, str]] = [(key, value, "") for key, value in draft.set_base.items()]
    lines += [
        ("data.builtin", None, "the demo's rows off, these on:"),
        ("data.path", draft.path, ""),
        ("data.rows", None, f"all {seen.num_rows:,}"),
        ("data.group", seen.group, group),
        (
            "data.max_tokens",
            max_tokens(seen),
            f"the longest row, line {seen.longest_line}, has {seen.max_tokens}{how}{context}",
        ),
        ("train.max_steps", steps["train.max_steps"], f"{times:.2g} times over the {train:,} training rows"),
        ("train.batch_size", steps["train.batch_size"], "rows a step"),
        ("train.micro_batch_size", steps["train.micro_batch_size"], "rows a forward pass; less if memory runs out"),
        ("train.validate_every", steps["train.validate_every"], f"{NUM_REPORTS} reports, and a checkpoint at each"),
        ("train.validation_rows", min(validation, 64 if draft.is_small else 500), f"of {validation:,}, for val/loss"),
        ("schedule.warmup_steps", steps["schedule.warmup_steps"], "a twentieth of the steps"),
        ("generate.max_new_tokens", max_new_tokens(seen), f"the longest answer has {seen.answers.max_tokens}"),
    ]
    return ["set:", *(_line(f"{_quoted(key)}: {_quoted(value)}", why, 2) for key, value, why in lines)]


def _space(draft: Draft) -> list[str]:
    low, high = ("1e-3", "1e-2") if draft.is_small else ("1e-5", "1e-3")
    trials = num_trials(draft.seen.num_rows_of["dev"], draft.is_small)
    ranks = ", ".join(map(str, draft.ranks))
    lines = [
        "space:",
        _line(f"optimizer.lr: loguniform({low}, {high})", "matters most, and depends on base and rows", 2),
        _line(f"lora.rank: choice({ranks})", "how much an adapter can hold", 2),
    ]
    dev = draft.seen.num_rows_of["dev"]
    lines.append(_line(f"search: {{trials: {trials}, seed: 0}}", f"{dev:,} dev rows cannot tell many more apart"))
    if trials < FEW_TRIALS:
        lines.append(_line("stop_early: {grace: 0.3, reduction: 2}", "few trials: those that fall behind end late"))
    else:
        lines.append(_line("stop_early: {grace: 0.1, reduction: 3}", "at each report, trials that fall behind end"))
    return lines


def _evaluation(draft: Draft) -> list[str]:
    seen = draft.seen
    answers = seen.answers
    lines = ["evaluate:"]
    if answers.kind == "labels":
        lines += [
            f"  # {answers.num_distinct} short answers that recur: labels. Always giving the commonest would score "
            f"{answers.commonest:.2f}.",
            "  metrics: [exact_match]",
        ]
        champion = "champion: {maximize: quality/exact_match}"
    elif answers.kind == "json":
        lines += [
            "  # JSON: valid by the schema, and how many fields are right? The schema was read off the answers.",
            "  metrics: [json_schema, field_f1]",
            f"  schema: {_quoted(draft.schema)}",
        ]
        champion = "champion: {maximize: quality/field_f1}"
    else:
        lines += [
            "  # Free text: no built-in metric can say what is good, so none is set, and the lowest val/loss wins.",
            "  # Better: a function of your own or a judge (docs/metrics.md), with maximize: quality/score below.",
            '  # metrics: ["metrics.py:good"]',
            '  # judge: {model: NAME, endpoint: "http://localhost:8000/v1", rubric: "5: … 3: … 0: …"}',
        ]
        champion = "champion: {minimize: val/loss}"
    most_dev, most_challenge = (100, 200) if draft.is_small else (300, 500)
    dev, challenge = seen.num_rows_of["dev"], seen.num_rows_of["challenge"]
    lines.append(_line(f"dev: {min(dev, most_dev)}", f"of {dev:,} rows, by which the champion is chosen", 2))
    lines.append(_line(f"challenge: {min(challenge, most_challenge)}", f"of {challenge:,}, read once, at the end", 2))
    if draft.is_small:
        lines.append(_line("latency: {requests: 8}", "enough for the median; 90 give p95", 2))
    return [*lines, champion]


def advice(seen: Profile) -> list[str]:
    """What somebody with these rows should know, in sentences."""
    notes = []
    if seen.num_repeated:
        notes.append(
            f"{seen.num_repeated:,} rows repeat another one, answer and all; they stay on its side of the split"
        )
    if seen.num_contradicting:
        notes.append(f"{seen.num_contradicting:,} rows have a prompt that is answered otherwise elsewhere")
    if seen.answers.num_distinct == 1:
        notes.append("all answers are the same: there is nothing to learn")
    if seen.form == "both":
        notes.append("some rows are chats and some prompt and completion; both are read")
    if seen.num_rows_of["dev"] < 30:
        n = seen.num_rows_of["dev"]
        notes.append(f"only {n} rows choose the champion, so small differences between trials will be chance")
    if seen.group is None:
        notes.append("where rows are near copies of each other, name the field that they share in data.group")
    if seen.answers.kind == "text":
        notes.append("answers are free text: give a metric of your own or a judge (docs/metrics.md)")
    return notes


def pools_for(shipped: Sequence[Pool], gpus: Sequence[str], is_small: bool) -> tuple[tuple[str, ...], str]:
    """The pools for a base of that size on a machine with these GPUs, and why."""
    if is_small:
        return ("cpu",), "so small a base trains in minutes on a CPU"
    name = gpus[0].split(",")[0] if gpus else ""
    of_gpus = [pool for pool in shipped if pool.device == "gpu"]
    here = [pool.name for pool in of_gpus if any(str(pool.accelerator).lower() in one.lower() for one in gpus)]
    if here:
        return tuple(here), f"this machine has an {name}"
    what = f"no pool is known for {name}: docs/pools.md" if gpus else "no GPU here: a cluster's, by RAY_ADDRESS"
    return tuple(pool.name for pool in of_gpus), what


def to_json(schema: Any) -> str:
    """A schema as it is written to its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def lines(draft: Draft) -> list[tuple[str, str]]:
    """What was seen, for a table: what it is about, and a short text."""
    seen, answers = draft.seen, draft.seen.answers
    few, many = seen.num_messages
    prompt = " ".join((seen.system or "").split())
    system = f'shared: "{prompt[:60]}{"…" if len(prompt) > 60 else ""}"' if seen.system else "none that all share"
    more = " …" if answers.num_distinct > 4 else ""
    fields = ", ".join((answers.schema or {}).get("properties", {}))
    kinds = {
        "labels": f"{answers.num_distinct} labels: {' · '.join(answers.labels[:4])}{more}",
        "json": f"JSON, {answers.num_distinct:,} distinct; fields {fields[:60] or 'of many kinds'}",
        "text": f"free text, {answers.num_distinct:,} distinct",
    }
    context = f"; the base reads {seen.context:,}" if seen.context else ""
    return [
        ("form", f"{seen.form}, {few if few == many else f'{few} to {many}'} messages a row"),
        ("system prompt", system),
        (
            "tokens a row",
            f"{seen.median_tokens} in the middle, {seen.max_tokens} at most (line {seen.longest_line}){context}",
        ),
        ("answers", f"{kinds[answers.kind]}; {answers.max_tokens} tokens at most"),
        ("commonest answer", f"{answers.commonest:.0%} of the rows"),
        ("repeated rows", f"{seen.num_repeated:,}"),
        ("group", f"{seen.group}: {seen.num_groups:,} values" if seen.group else "none found"),
        ("splits", " · ".join(f"{name} {count:,}" for name, count in seen.num_rows_of.items())),
        ("base", f"{draft.recipe.base.path}, {draft.num_parameters:,} parameters"),
    ]
