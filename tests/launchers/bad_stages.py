"""What can be wrong with the stages of a sweep; see ``bad_cases.py``."""

from tests.launchers.stage import ROWS, Arrange, Case, Stage, file, plan, yaml

STAGED = """\
name: small
stages:
  - name: sft
    recipe: tiny_commerce_sft
    set: {train.max_steps: 6, data.builtin: null, data.path: rows.jsonl, data.group: null, data.rows: null}
    space: {optimizer.lr: loguniform(1e-3, 2e-2)}
    search: {trials: 3}
  - name: dpo
    recipe: tiny_commerce_sft
    start: {from: sft}
    set: {train.max_steps: 6, data.builtin: null, data.path: rows.jsonl, data.group: null, data.rows: null}
    space: {optimizer.lr: loguniform(1e-4, 2e-3)}
    search: {trials: 2}
champion: {minimize: val/loss}
"""
NAME = "use letters, digits, '-' and '_', at most 64, beginning with a letter or a digit"
DECIDED = "leave it out; start: {from, top, mode} says where it starts"
DPO = "stages.dpo."
PAIRS = "".join(
    f'{{"prompt": "When will parcel {number} come?", "chosen": "On Monday.", "rejected": "What?"}}\n'
    for number in range(60)
)
TWO_STARTS = (f"{DPO}set.method=dpo", f"{DPO}set.data.path=pairs.jsonl", f"{DPO}start.top=2")
OF_CUSTOMERS = "".join(
    f'{{"prompt": "{{asked}} {number}?", "completion": "It is on its way.", "customer": "c{number % 20}"}}\n'
    for number in range(60)
).replace("{asked}", "Where is order")
OTHER_SPLIT = "data.rows: null, data.seed: 7}".join(STAGED.rsplit("data.rows: null}", 1))


def _case(what: str, old: str, new: str, message: str, way_out: str = "", text: str = STAGED) -> Case:
    """A staged sweep with one thing changed."""
    assert old in text, "the case changes nothing"
    before, _, after = text.rpartition(old)
    return plan(what, (), message, way_out, yaml(before + new + after))


def _change(what: str, change: str, message: str, way_out: str = "") -> Case:
    return plan(what, change, message, way_out, yaml(STAGED))


def _both(*arranges: Arrange) -> Arrange:
    def arrange(stage: Stage) -> None:
        for one in arranges:
            one(stage)

    return arrange


STAGES = (
    plan(
        "There is one stage only",
        (),
        "line 2: stages: must be two stages or more, but got 1",
        "write recipe, set, space and search at the top: a plain sweep has no stages",
        yaml("\n".join(STAGED.splitlines()[:7])),
    ),
    plan(
        "They are no list",
        (),
        "line 2: stages: must be a list of stages, but got a block of keys",
        "begin each with - name: …",
        yaml("name: small\nstages: {sft: {recipe: tiny_commerce_sft}}\n"),
    ),
    plan(
        "What a stage has stands beside them",
        "recipe=tiny_commerce_sft",
        "recipe=tiny_commerce_sft: recipe stands beside stages",
        "write it in each stage that it is for: recipe",
        yaml(STAGED),
    ),
    _case(
        "… and what all have stands in one",
        "    search: {trials: 2}\n",
        "    search: {trials: 2}\n    pools: [cpu]\n",
        'line 14: stages[1].pools: unknown key "pools"',
        "it is for all stages: write it at the top",
    ),
    _case(
        "Two have one name",
        "- name: dpo",
        "- name: sft",
        'line 8: stages[1].name: two stages are called "sft"',
        "give each a name of its own",
    ),
    _case(
        "A name is no folder's",
        "- name: dpo",
        "- name: d/p o",
        'line 8: stages[1].name: must be a folder name, but got "d/p o"',
        NAME,
    ),
    _case(
        "One has no name",
        "- name: dpo\n    recipe",
        "- recipe",
        "line 8: stages[1].name: is missing",
        "name each stage: its run folder is called so",
    ),
    _change(
        "A stage starts from one that is not there",
        f"{DPO}start.from=sftt",
        'stages.dpo.start.from=sftt: no stage is called "sftt"',
        "before it: sft",
    ),
    _case(
        "… from a later one",
        "- name: sft\n    recipe: tiny_commerce_sft\n",
        "- name: sft\n    recipe: tiny_commerce_sft\n    start: {from: dpo}\n",
        "line 5: stages[0].start: the first stage has no stage before it",
        "leave it out, or put start.adapter under set to start from an adapter of your own",
    ),
    _change(
        "… from itself",
        f"{DPO}start.from=dpo",
        'stages.dpo.start.from=dpo: "dpo" is this stage itself',
        "before it: sft",
    ),
    _change(
        "… in a way that there is not",
        f"{DPO}start.mode=stak",
        'must be one of continue, stack, but got "stak"',
        'did you mean "stack"?',
    ),
    _change(
        "… from more trials than there are",
        f"{DPO}start.top=4",
        "stages.dpo.start.top=4: must be at most 3, the trials of sft, but got 4",
        "write top: 3, or give sft more trials",
    ),
    plan(
        "… from several whose losses do not compare",
        TWO_STARTS,
        "line 14: champion.minimize: val/loss has another scale in trials that differ in their start: "
        "it cannot compare those of 2",
        "write start: {top: 1}, or name a metric of their answers that is evaluated, as quality/score",
        _both(yaml(STAGED), file("pairs.jsonl", PAIRS)),
    ),
    _change(
        "… and says it in words of its own",
        f"{DPO}start.form=sft",
        'stages.dpo.start.form=sft: unknown key "form"',
        'did you mean "from"?',
    ),
    plan(
        "A new adapter is put beside a start, with dropout",
        (f"{DPO}start.mode=stack", f"{DPO}set.lora.dropout=0.1"),
        "stages.dpo.set.lora.dropout=0.1: lora.dropout must be 0 with start: {mode: stack}, where it would fall on the "
        "frozen adapter too, but got 0.1",
        "set lora.dropout: 0, or write mode: continue",
        yaml(STAGED),
    ),
    plan(
        "… that is swept",
        (f"{DPO}start.mode=stack", f"{DPO}space.lora.dropout=choice(0, 0.1)"),
        "stages.dpo.space.lora.dropout=choice(0, 0.1): lora.dropout must be 0 with start: {mode: stack}, where it "
        "would fall on the frozen adapter too, but it is swept",
        "set lora.dropout: 0, or write mode: continue",
        yaml(STAGED),
    ),
    _change(
        "A start is set by hand where the stage has one",
        f"{DPO}set.start.adapter=mine",
        "stages.dpo.set.start.adapter=mine: start.adapter is set by hand, but the stage starts from the one before it",
        DECIDED,
    ),
    _change(
        "The rank of a stage's start is swept",
        f"{DPO}space.lora.rank=choice(4, 8)",
        "trials go on from those of sft and have their lora.rank, so that no other can be tried",
        "leave it out, or write start: {mode: stack} to put a new adapter beside it",
    ),
    _change(
        "Bases are swept in a later stage",
        f"{DPO}space.base.path=choice(a, b)",
        "base.path is swept, but an adapter of the stage before fits its own base alone",
        "write a staged sweep for each base",
    ),
    plan(
        "A later stage has another base",
        f"{DPO}set.base.path=base",
        "stages.dpo.set.base.path=base: its base is base, but sft, where it starts, has adapted builtin:tiny_commerce",
        "an adapter fits its own base: give both the same",
        _both(yaml(STAGED), lambda stage: _other_base(stage)),
    ),
    _change(
        "Preferences are swept where none are learned",
        "stages.sft.space.preference.beta=loguniform(0.02, 0.5)",
        "has no effect on trials of method sft",
        "set method: dpo, or leave it out",
    ),
    plan(
        "A later stage would learn what all are judged on",
        f"{DPO}set.data.path=others.jsonl",
        "stages.dpo.set.data.path=others.jsonl: row 4 of its train rows asks 'Where is order 3?', which is in dev too, "
        "and 11 more of its rows",
        "all stages are judged on the first one's dev and challenge rows: take these out of the data",
        _both(yaml(OTHER_SPLIT), file("others.jsonl", ROWS)),
    ),
    plan(
        "… in other white space",
        f"{DPO}set.data.path=others.jsonl",
        "stages.dpo.set.data.path=others.jsonl: row 4 of its train rows asks 'Where  is order 3?', which is in dev "
        "too, and 11 more of its rows",
        "all stages are judged on the first one's dev and challenge rows: take these out of the data",
        _both(yaml(OTHER_SPLIT), file("others.jsonl", ROWS.replace("Where is", "Where  is"))),
    ),
    plan(
        "… or rows of a group that is held out",
        (
            "stages.sft.set.data.path=customers.jsonl",
            "stages.sft.set.data.group=customer",
            f"{DPO}set.data.path=others.jsonl",
        ),
        "stages.dpo.set.data.path=others.jsonl: row 3 of its train rows has customer 'c3', which is in dev too, "
        "and 3 more of its rows",
        "all stages are judged on the first one's dev and challenge rows: take these out of the data",
        _both(
            yaml(STAGED),
            file("customers.jsonl", OF_CUSTOMERS),
            file("others.jsonl", OF_CUSTOMERS.replace("Where is order", "When comes parcel")),
        ),
    ),
    _change(
        "An override names a stage that is not there",
        "stages.dqo.search.trials=3",
        'stages.dqo.search.trials=3: there is no stage "dqo"',
        "there are sft, dpo",
    ),
    plan(
        "… or a stage of a sweep that has none",
        "stages.dpo.search.trials=3",
        'stages.dpo.search.trials=3: there is no stage "dpo"',
        "the sweep has no stages",
    ),
    _change(
        "The champion would be checked by an engine without starts",
        "champion.cross_check=nemo",
        "nemo trains fresh adapters, and cannot train again what starts from another stage",
        "leave it out",
    ),
    _change(
        "A budget of all stages is none",
        "budget.usd=-1",
        "budget.usd=-1: must be above 0, but got -1",
    ),
    plan(
        "The YAML of one trial is asked for, and not of which stage",
        ("--trial", "1"),
        "--trial: small has the stages sft, dpo, and this is of one",
        "name it: --stage sft",
        yaml(STAGED),
    ),
    plan(
        "… of a stage whose trials NeMo does not train",
        ("--stage", "dpo", "--trial", "1"),
        "--trial: it prints NeMo's YAML, and nemo trains fresh adapters by method sft, and not on from the stage sft",
        "-o json has the values of every trial",
        yaml(STAGED),
    ),
    Case(
        "Rows of a sweep with stages are to be split, and not of which stage",
        "DATA: {here}/small.yaml has the stages sft, dpo, and this is of one",
        "name it: --stage sft",
        ("data", "split", "SWEEP", "--to", "{here}/splits"),
        arrange=yaml(STAGED),
    ),
    Case(
        "A stage is named that is not there",
        '--stage: small has no stage "spo"',
        'did you mean "dpo"?',
        ("data", "stats", "SWEEP", "--stage", "spo"),
        arrange=yaml(STAGED),
    ),
    Case(
        "… of a sweep without stages",
        "--stage: {here}/small.yaml has no stages, but got dpo",
        "leave it out",
        ("data", "check", "SWEEP", "--stage", "dpo"),
    ),
)


def _other_base(stage: Stage) -> None:
    import json
    import shutil

    from recipes.bases import BUILTIN

    folder = shutil.copytree(BUILTIN["builtin:tiny_commerce"], stage.here / "base")
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rope_theta": 20000.0}))
