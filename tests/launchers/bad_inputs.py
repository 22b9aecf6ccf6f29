"""What can be wrong with data, base model, recipe and pools; see ``bad_cases.py``."""

from tests.launchers.stage import BOMB, GATED, ROWS, base, cut, file, hub, plan, row, rows, submit

_AT = "line 61: {here}/rows.jsonl: "
DATA = (
    plan(
        "The file is not there",
        "set.data.path=gone.jsonl",
        "no such file: {here}/gone.jsonl",
        "a relative path is taken from the folder of the sweep's YAML",
    ),
    plan("It is a folder", "set.data.path='{here}'", "{here} is a folder", "name the JSONL file in it"),
    plan("It is empty", (), "{here}/rows.jsonl holds no rows", "one JSON object a line is needed", rows("")),
    plan(
        "It was cut short",
        (),
        "line 60: {here}/rows.jsonl: not JSON: Unterminated string at column 34, near 'here is order 59?\", \"comp'",
        "the file ends within this line: was it cut short?",
        rows(ROWS[:-30]),
    ),
    plan(
        "It is not UTF-8",
        (),
        "{here}/rows.jsonl is not UTF-8: byte 0 is 0xff, in line 1",
        "convert it with `iconv -t UTF-8`",
        rows(ROWS.encode("utf-16")),
    ),
    plan(
        "It holds NUL bytes",
        (),
        f"{_AT}not JSON: a NUL byte at column 1",
        "the file was damaged while it was written: write it again",
        rows(ROWS + "\0" * 4000 + "\n"),
    ),
    plan(
        "Some lines are no JSON",
        (),
        "line 62: {here}/rows.jsonl: not JSON: Expecting value at column 1, near 'hello'",
        "every line must be one JSON object",
        rows(ROWS + '{"prompt": "a"}\nhello\n'),
    ),
    plan(
        "… and others break a rule: all are told",
        (),
        f"{_AT}a row needs messages, or prompt and completion; it has prompt",
        arrange=rows(ROWS + '{"prompt": "a"}\nhello\n'),
    ),
    plan("NaN in a row", (), f"{_AT}not JSON: NaN is no JSON value, write null", "", row(weight=float("nan"))),
    plan(
        "A row without an answer",
        (),
        f"{_AT}the last turn must be the assistant's, got 'user'",
        arrange=row(messages=[{"role": "user", "content": "Hi"}]),
    ),
    plan(
        "An unknown role",
        (),
        f"{_AT}messages[0].role must be one of system, user, assistant, got 'human'",
        arrange=row(messages=[{"role": "human", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]),
    ),
    plan("An empty question", (), f"{_AT}messages[0].content is empty", "", row(prompt="", completion="x")),
    plan(
        "A NUL character in a text",
        (),
        f"{_AT}messages[0].content holds a NUL byte",
        "",
        row(prompt="\0", completion="x"),
    ),
    plan(
        "Half of a surrogate pair in a text",
        (),
        f"{_AT}messages[0].content holds half of a surrogate pair",
        arrange=row(prompt="x\ud83d", completion="y"),
    ),
    plan(
        "… or in another field",
        (),
        f"{_AT}the field 'note' holds half of a surrogate pair",
        arrange=row(prompt="x", completion="y", note="\ud83d"),
    ),
    plan(
        "A row that is nested without end",
        (),
        f"{_AT}not JSON that can be read: it is nested too deeply",
        arrange=rows(ROWS + "[" * 50_000 + "\n"),
    ),
    plan(
        "A row longer than `data.max_tokens`",
        "set.data.max_tokens=512",
        "a row is longer than 512 tokens; the longest, with the question 'x', has 812",
        "set data.max_tokens to 812, or shorten the rows",
        row(prompt="x", completion="word " * 400),
    ),
    plan(
        "A row longer than the base can read",
        "set.data.max_tokens=100000",
        "a row is longer than 1024 tokens; the longest, with the question 'x', has 4012",
        "shorten the rows: the base's max_position_embeddings is 1024",
        row(prompt="x", completion="word " * 2000),
    ),
    plan(
        "Too few rows for the splits",
        (),
        "data.validation: the validation split is empty: 3 rows in 3 groups at a share of 0.1",
        "give more rows, or a larger share; rows from one side of a split need another data.seed",
        rows("".join(ROWS.splitlines(keepends=True)[:3])),
    ),
    plan(
        "`data.group` is no field",
        "set.data.group=customer",
        "group 'customer' is not a field of every row",
        "the row has messages",
    ),
)

_TINY = "set.base.path=base"
_SAVED = "give a folder as transformers' save_pretrained writes it, of the model and of its tokenizer"
_AGAIN = "copy or download it again"
BASE = (
    plan("No such folder", "set.base.path=./up", "no such folder: ./up", "give a folder or a hub id"),
    plan(
        "It has no tokenizer",
        _TINY,
        "{here}/base has no tokenizer.json",
        _SAVED,
        base(lambda folder: (folder / "tokenizer.json").unlink()),
    ),
    plan(
        "It has no configuration",
        _TINY,
        "{here}/base has no config.json",
        _SAVED,
        base(lambda folder: (folder / "config.json").unlink()),
    ),
    plan(
        "Its configuration is no JSON",
        _TINY,
        "{here}/base/config.json is not JSON: Expecting property name enclosed in double quotes",
        arrange=base(lambda folder: (folder / "config.json").write_text("{")),
    ),
    plan(
        "Its tokenizer is none",
        _TINY,
        "{here}/base/tokenizer.json cannot be read: Model missing. at line 1 column 2",
        _AGAIN,
        base(lambda folder: (folder / "tokenizer.json").write_text("{}")),
    ),
    plan(
        "Its weights are pickled",
        _TINY,
        "{here}/base has no *.safetensors, only pytorch_model.bin",
        "convert the weights: pickled ones are never loaded",
        base(lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin")),
    ),
    plan(
        "Its weights were cut short",
        _TINY,
        "{here}/base/model.safetensors is cut short: its header speaks of 3,939,696 bytes, but it has 1,969,848",
        _AGAIN,
        base(lambda folder: cut(folder / "model.safetensors")),
    ),
    plan(
        "Its weights were not fetched by git",
        _TINY,
        "{here}/base/model.safetensors is a pointer of git-lfs, not the weights",
        "run `git lfs pull` there",
        base(lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")),
    ),
    plan(
        "It is on the hub, and its size is not known",
        "set.base.path=gated/model",
        "gated/model is not local, so its size is not known",
        "set base.num_parameters in the recipe",
    ),
    submit(
        "Its terms were not accepted, or nobody is logged in",
        GATED,
        "base.path: gated/model is gated, and no token is set",
        "accept its terms at {hub}/gated/model, then run `hf auth login` or export HF_TOKEN=…",
        hub(status=401, code="GatedRepo", message="Access to model gated/model is restricted."),
    ),
    submit(
        "… or the token has no access",
        GATED,
        "base.path: gated/model is gated, and your token has no access to it",
        "accept its terms at {hub}/gated/model, then run `hf auth login` or export HF_TOKEN=…",
        hub(status=403, code="GatedRepo", message="You are not in the authorized list.", token="hf_of_somebody"),
    ),
    submit(
        "It is not on the hub",
        GATED,
        "base.path: the hub has no model gated/model, or it is private and your token does not open it",
        "check the id; for a private model run `hf auth login` or export HF_TOKEN=…",
        hub(status=401, code="RepoNotFound", message="Repository not found"),
    ),
    submit(
        "It has no such revision",
        (*GATED, "set.base.revision=v9"),
        "base.revision: gated/model has no revision 'v9'",
        "see {hub}/gated/model/tree/main",
        hub(status=404, code="RevisionNotFound"),
    ),
    submit(
        "The hub is down",
        GATED,
        "the hub at {hub} cannot be asked for gated/model: Server error '503 Service Unavailable'",
        arrange=hub(status=503),
        code=5,
    ),
)

_OWN = "defaults: [tiny_commerce_sft, _self_]\n"
RECIPE = (
    plan(
        "An unknown recipe",
        "recipe=tiny_comerce_sft",
        "unknown recipe 'tiny_comerce_sft'",
        'did you mean "tiny_commerce_sft"?',
    ),
    plan(
        "A recipe's file is not there",
        "recipe=mine.yaml",
        "no such file: mine.yaml",
        "a relative path is taken from {here}; those that ship: nemotron_nano_8b_dpo, nemotron_nano_8b_sft, "
        "tiny_commerce_dpo, tiny_commerce_sft",
    ),
    plan(
        "Its aliases expand to billions of values",
        "recipe=mine.yaml",
        "{here}/mine.yaml, line 1: must have at most 10,000 values, aliases expanded",
        "an alias of aliases grows with each of them: write less of them",
        file("mine.yaml", BOMB),
    ),
    plan(
        "It holds `_target_`, which would run code",
        "recipe=mine.yaml",
        "mine.yaml.optimizer._target_: '_target_' is not allowed in a recipe",
        "remove it",
        file("mine.yaml", _OWN + "optimizer: {_target_: os.system}\n"),
    ),
    plan(
        "It has an unknown key",
        "recipe=mine.yaml",
        "lora.rnk: unknown key",
        'did you mean "rank"?',
        file("mine.yaml", _OWN + "lora: {rnk: 8}\n"),
    ),
    plan(
        "It names a group that is not there",
        "recipe=mine.yaml",
        "mine.yaml cannot be composed: In 'mine': Could not find 'optimizer/sgd'",
        arrange=file("mine.yaml", "defaults: [optimizer: sgd]\n"),
    ),
    plan(
        "The engine is swept",
        "space.engine=choice(nemo, packed)",
        "the engine cannot be swept: all trials of a sweep train on one",
        "put it under set",
    ),
    plan("An unknown engine", "set.engine=trl", 'must be one of nemo, packed, but got "trl"', "valid: nemo, packed"),
    plan(
        "A pack over several GPUs",
        ("set.engine=packed", "set.parallel.gpus=2"),
        "a pack trains on one GPU, but got parallel.gpus=2; set engine: nemo for more",
    ),
    plan(
        "A cross-check by the engine of the trials",
        ("set.engine=nemo", "champion.cross_check=nemo"),
        "must name another engine than the trials', but got nemo for both",
        "leave it out, or set engine: packed",
    ),
    plan(
        "It regroups rows on an engine that cannot",
        ("set.engine=nemo", "set.packed.regroup=true"),
        "packed.regroup must be false with engine nemo, which takes rows in the order of its own data loader, "
        "but got true; set engine: packed to regroup them",
    ),
    plan(
        "… or is to be checked by one",
        ("set.packed.regroup=true", "champion.cross_check=nemo"),
        "nemo cannot take rows in the order of packed.regroup, and would train another trial",
        "leave it out, or set packed.regroup: false",
    ),
    plan("A pool that does not exist", "pools=[h200]", 'unknown pool "h200"', 'did you mean "h100"?'),
    plan(
        "CPU and GPU pools in one sweep",
        "pools=[cpu,h100]",
        "cpu and gpu pools cannot be mixed in one sweep: a trial's resources would differ, but got cpu, h100",
        "write two sweeps",
    ),
    plan(
        "An unknown key in a pool's file",
        "pools=[mine]",
        'acelerator: unknown key "acelerator"',
        'did you mean "accelerator"?',
        file("pools/mine.yaml", "device: gpu\nacelerator: A100\nmemory_gb: -1\n"),
    ),
    plan(
        "A wrong value in a pool's file",
        "pools=[mine]",
        "memory_gb: input should be greater than 0, but got -1",
        arrange=file("pools/mine.yaml", "device: gpu\nacelerator: A100\nmemory_gb: -1\n"),
    ),
    submit(
        "A pool that the cluster does not have",
        ("pools=[h100]",),
        "pools: h100: a trial needs 1 H100, the Ray cluster has 0",
        "accelerators it has: none; to try things out here, use pools=[cpu]",
    ),
)
