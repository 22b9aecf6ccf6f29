"""What can be wrong with an incumbent; see ``bad_cases.py``."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.launchers.stage import RELATIVE, Arrange, Stage, plan, submit
from tests.production import Production, Reply, said

_LAYER = "model.layers.0.self_attn.q_proj"
_MERGE = "merge it into its base and give that as model, or give the endpoint that serves it"


def _with(incumbent: str, metrics: str = "metrics: [exact_match], ") -> str:
    return f"evaluate={{{metrics}incumbent: {{{incumbent}}}}}"


def production(reply: Reply | None) -> Arrange:
    """Production is a server on this machine that answers so; without a reply it hangs."""

    def arrange(stage: Stage) -> None:
        server = stage.stack.enter_context(Production(reply or (lambda body: said("?"))))
        server.reply = reply or server.hang
        stage.values["incumbent"] = server.url

    return arrange


def adapter(
    width: int = 192, layer: str = _LAYER, change: Callable[[Path], object] | None = None, **config: object
) -> Arrange:
    """A LoRA adapter of rank 2 on one layer of the demo's base is in ``mine``, changed."""

    def arrange(stage: Stage) -> None:
        import numpy
        from safetensors.numpy import save_file

        told = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
        path = stage.write("mine/adapter_config.json", json.dumps(told)).with_name("adapter_model.safetensors")
        halves = {"A": numpy.zeros((2, width), numpy.float32), "B": numpy.zeros((width, 2), numpy.float32)}
        save_file({f"base_model.model.{layer}.lora_{half}.weight": one for half, one in halves.items()}, path)
        if change:
            change(path)

    return arrange


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def _pickled(path: Path) -> None:
    path.rename(path.with_name("adapter_model.bin"))


def _in_a_bundle(path: Path) -> None:
    from analysis import manifest

    manifest.write(path.parent)
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def _of_another_base(path: Path) -> None:
    from analysis import manifest

    base = {"name": "shop/other-8b", "identity": "0123456789abcdef"}
    path.with_name("champion.json").write_text(json.dumps({"base": base}))
    manifest.write(path.parent)


_AT = _with("endpoint: '{incumbent}', model: shop, timeout: 1s")
INCUMBENT = (
    plan(
        "Nothing says what it is",
        _with("name: ours"),
        "must have one of endpoint, adapter and model, but got none of them",
    ),
    plan(
        "Two kinds at once",
        _with("endpoint: 'http://localhost:8000/v1', adapter: mine"),
        "must have one of endpoint and adapter, but got both",
        "an endpoint needs model beside it",
    ),
    plan(
        "An endpoint without the model's name",
        _with("endpoint: 'http://localhost:8000/v1'"),
        "an endpoint needs the name of the model that it serves",
        "write model: <name> beside it",
    ),
    plan(
        "An endpoint that is no address",
        _with("endpoint: localhost, model: shop"),
        'must be a URL, but got "localhost"',
        "for example http://localhost:8000/v1",
    ),
    plan(
        "A key of another kind",
        _with("endpoint: 'http://localhost:8000/v1', model: shop, dtype: bfloat16"),
        "dtype belongs to a model that is loaded here, and there is none",
        "leave it out",
    ),
    plan(
        "Nothing scores its answers",
        _with("model: mine", metrics=""),
        "an incumbent is compared by its answers, and nothing scores them",
        "name metrics or a judge under evaluate",
    ),
    plan("Its adapter is not there", _with("adapter: mine"), "no such folder: mine", RELATIVE),
    plan(
        "The folder holds no adapter",
        _with("adapter: ."),
        ". has no adapter_config.json and no adapter_model.safetensors",
        "give a PEFT adapter's folder",
    ),
    plan(
        "Its weights are pickled",
        _with("adapter: mine"),
        "mine has no adapter_model.safetensors",
        "pickled weights are never loaded: save them as safetensors",
        adapter(change=_pickled),
    ),
    plan(
        "Its weights are cut short",
        _with("adapter: mine"),
        "{here}/mine/adapter_model.safetensors is no safetensors file, or is cut short",
        arrange=adapter(change=_cut),
    ),
    plan(
        "It is an adapter of another base, by its layers",
        _with("adapter: mine"),
        "{here}/mine is of another base: {root}/recipes/commerce/base has no linear layer model.layers.9.mlp.up_proj",
        "name its own base as model",
        adapter(layer="model.layers.9.mlp.up_proj"),
    ),
    plan(
        "… by their sizes",
        _with("adapter: mine"),
        f"{{here}}/mine is of another base: its {_LAYER} has 99 inputs, that of {{root}}/recipes/commerce/base has 192",
        "name its own base as model",
        adapter(width=99),
    ),
    plan(
        "… by what its bundle says",
        _with("adapter: mine"),
        "{here}/mine was trained on another base, shop/other-8b (0123456789ab…), and not on builtin:tiny_commerce",
        "name its own base as model",
        adapter(change=_of_another_base),
    ),
    plan(
        "Its bundle is damaged",
        _with("adapter: mine"),
        "{here}/mine is a damaged bundle: adapter_model.safetensors is not as in its manifest",
        "export it again",
        adapter(change=_in_a_bundle),
    ),
    plan(
        "It is no LoRA adapter",
        _with("adapter: mine"),
        "must be a LoRA adapter, but {here}/mine has peft_type 'IA3'",
        _MERGE,
        adapter(peft_type="IA3"),
    ),
    plan(
        "It is more than plain LoRA, for the packed engine",
        _with("adapter: mine"),
        "the packed engine answers with plain LoRA, but {here}/mine has use_rslora",
        f"set engine: nemo, {_MERGE}",
        adapter(use_rslora=True),
    ),
    plan(
        "Its model is not there",
        _with("model: ./mine"),
        "no such folder: ./mine",
        "give a folder or a hub id",
    ),
    submit(
        "Its key is not set",
        (_with("endpoint: '{incumbent}', model: shop, api_key_env: NOT_SET"),),
        "evaluate.incumbent.api_key_env: the environment has no NOT_SET",
        "export NOT_SET=…",
        production(lambda body: said("Hello.")),
    ),
    submit(
        "Its endpoint is not there",
        (_AT.replace("{incumbent}", "http://127.0.0.1:9/v1"),),
        "the incumbent at http://127.0.0.1:9/v1/chat/completions does not answer: [Errno 111] Connection refused",
        code=5,
    ),
    submit(
        "Its endpoint hangs",
        (_AT,),
        "the incumbent at {incumbent}/chat/completions does not answer: no answer within 1 s",
        "evaluate.incumbent.timeout",
        production(None),
        code=5,
    ),
    submit(
        "Its endpoint does not know the model",
        (_AT,),
        "the incumbent at {incumbent}/chat/completions answers 404 Not Found: no model shop",
        arrange=production(lambda body: (404, "no model shop")),
        code=5,
    ),
    submit(
        "Its endpoint is none",
        (_AT,),
        "the incumbent at {incumbent}/chat/completions answers, but not with a chat completion",
        arrange=production(lambda body: (200, "<html>It works!</html>")),
        code=5,
    ),
)
