"""What can be wrong with an adapter to start from; see ``bad_cases.py``."""

from pathlib import Path

from tests.launchers.bad_incumbent import adapter
from tests.launchers.stage import RELATIVE, Arrange, Stage, plan

_FROM = "set.start.adapter=mine"
_WAY = "leave it out, or set start.mode: stack to put a new adapter of your own beside it"


def _of_another_base(path: Path) -> None:
    path.with_name("champion.json").write_text('{"base": {"name": "shop/other-8b", "identity": "0123456789abcdef"}}')


def _both(first: Arrange, second: Arrange) -> Arrange:
    def arrange(stage: Stage) -> None:
        first(stage)
        (stage.here / "mine").rename(stage.here / "other")
        second(stage)

    return arrange


STARTS = (
    plan("It is not there", _FROM, "set.start.adapter=mine: no such folder: mine", RELATIVE),
    plan(
        "It is no LoRA adapter",
        _FROM,
        "must be a LoRA adapter, but {here}/mine has peft_type 'IA3'",
        "start from a plain LoRA adapter of this base",
        adapter(peft_type="IA3"),
    ),
    plan(
        "It is of a base of another size",
        _FROM,
        "{here}/mine is of another base: its model.layers.0.self_attn.q_proj has 64 inputs",
        arrange=adapter(width=64),
    ),
    plan(
        "It says that it is of another base",
        _FROM,
        "{here}/mine was trained on another base, shop/other-8b (0123456789ab…), and not on builtin:tiny_commerce",
        arrange=adapter(change=_of_another_base),
    ),
    plan(
        "A rank is set that is not its own",
        (_FROM, "set.lora.rank=16"),
        "set.lora.rank=16: trials go on from mine, whose rank is 2, but got 16",
        _WAY,
        adapter(),
    ),
    plan(
        "Ranks are swept where there is but one",
        (_FROM, "space.lora.rank=choice(8, 16)"),
        "space.lora.rank=choice(8, 16): trials go on from mine, whose rank is 2, so that no other can be tried",
        _WAY,
        adapter(),
    ),
    plan(
        "… and layers, of one of several starts",
        ("space.start.adapter=choice(mine, other)", "set.lora.targets=['*.q_proj']"),
        "trials go on from mine, whose targets is [model.layers.0.self_attn.q_proj], but got [*.q_proj]",
        _WAY,
        _both(adapter(layer="model.layers.1.self_attn.q_proj"), adapter()),
    ),
    plan(
        "Dropout would fall on what is frozen",
        (_FROM, "set.start.mode=stack", "set.lora.dropout=0.1"),
        "lora.dropout must be 0 with start.mode: stack, where it would fall on the frozen adapter too, but got 0.1",
        arrange=adapter(),
    ),
    plan(
        "The other engine has no such start",
        (_FROM, "set.engine=nemo"),
        "engine nemo trains fresh adapters by method sft, but got start.adapter: mine; set engine: packed",
        arrange=adapter(),
    ),
    plan(
        "… and cannot check the champion's",
        (_FROM, "champion.cross_check=nemo"),
        "nemo trains fresh adapters by method sft, and not on from a start.adapter",
        "leave it out",
        adapter(),
    ),
)
