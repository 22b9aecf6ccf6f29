"""The estimates against what is really alive, and what a pack does where memory is short."""

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.engines.packed import memory
from recipes.engines.packed.memory import Need, NoRoom, Questions, Room, Shape, Size
from recipes.engines.protocol import Job
from recipes.schema import Base
from sweeps.errors import InvalidInput
from tests.recipes.packed.conftest import Bench, run
from tests.recipes.packed.test_exact import CLOSE, apart, mixed
from tests.recipes.tiny import make_base

BASES: dict[str, tuple[str, dict[str, Any]]] = {
    "one layer": ("llama", {"num_hidden_layers": 1}),
    "twelve layers": ("llama", {"num_hidden_layers": 12}),
    "wide feed-forward": ("llama", {"num_hidden_layers": 3, "intermediate_size": 700}),
    "narrow feed-forward": ("llama", {"num_hidden_layers": 4, "intermediate_size": 64}),
    "a head each": ("llama", {"num_hidden_layers": 3, "num_key_value_heads": 4}),
    "one head for all": ("llama", {"num_hidden_layers": 3, "num_key_value_heads": 1}),
    "many words": ("llama", {"num_hidden_layers": 2, "vocab_size": 4_000}),
    "qwen2": ("qwen2", {"num_hidden_layers": 3, "use_sliding_window": False}),
    "qwen3": ("qwen3", {"num_hidden_layers": 3, "head_dim": 16, "use_sliding_window": False}),
    "mistral": ("mistral", {"num_hidden_layers": 3, "sliding_window": None}),
    "phi3": ("phi3", {"num_hidden_layers": 3, "sliding_window": None}),
}
WIDTHS = {"hidden_size": 64, "intermediate_size": 176, "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA_8B = Shape(4096, 14336, 32, 32, 4096, 1024, 128_256, 2, repeats_keys=False)
ADAPTED = 16 * 224  # rank 16 in seven projections of 32 layers
PARAMETERS = 41_943_040  # of that adapter


def make(folder: Path, family: str, settings: dict[str, Any]) -> Path:
    """A random base, with the tiny one's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    make_base(folder)
    known = AutoConfig.from_pretrained(folder)
    names = ("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
    shape = {**{name: getattr(known, name) for name in names}, **WIDTHS, **settings}
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **shape)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def network_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Any]:
    @cache
    def network(name: str, dtype: str) -> Any:
        from recipes.engines.packed.network import Network

        folder = make(tmp_path_factory.mktemp("base"), *BASES[name])
        return Network(str(folder), Base(path=str(folder), dtype=dtype), "cpu")

    return network


def peak_and_estimate(network: Any, *, recompute: bool, trees: bool, trials: int = 2) -> tuple[int, int]:
    """Bytes of one training step of two trials on four rows each."""
    from recipes.engines.packed import state as states
    from recipes.engines.packed.chunk import Chunk, Member
    from tests.benchmarks.shapes import random_rows, recipe
    from tests.recipes.packed.peak import Peak

    typed = recipe(Path(network.path), 2, 4)
    sites = network.sites(typed)
    members = [
        Member(typed.lora.rank, typed.lora.alpha, sites, states.fresh(typed, sites, network.device), typed)
        for _ in range(trials)
    ]
    batches = [network.batch(random_rows(4, 100, 60, 20, seed), trees=trees) for seed in range(trials)]
    size = Size(trials, batches[0].tokens, len(batches[0].layout.targets), batches[0].read)
    estimate = memory.pass_bytes(network.shape, size, typed.lora.rank * len(sites), recompute=recompute)
    if network.shape.number_bytes == 2:  # a slot counts the copy that a pass computes with
        estimate += trials * 2 * states.num_parameters(sites, typed.lora.rank)
    chunk = Chunk(network, members)
    gc.collect()
    with network.recomputing(recompute), Peak() as peak:
        chunk.train_step([[batch] for batch in batches])
    return peak.most, estimate


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(BASES))
def test_a_pass_takes_what_was_estimated_and_at_least_half_of_it(
    name: str, dtype: str, recompute: bool, network_of: Callable[[str, str], Any]
) -> None:
    network = network_of(name, dtype)
    for trees in (True, False) if network.why_no_trees is None else (False,):
        peak, estimate = peak_and_estimate(network, recompute=recompute, trees=trees)
        assert peak <= estimate <= 2 * peak, (trees, estimate / peak)


def test_a_dense_mask_is_counted(network_of: Callable[[str, str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from recipes.engines.packed import attention

    network = network_of("twelve layers", "float32")
    monkeypatch.setattr(attention, "has_cpu_kernels", lambda: False)
    monkeypatch.setattr(network, "shape", replace(network.shape, dense_mask=True))
    for recompute in (False, True):
        peak, estimate = peak_and_estimate(network, recompute=recompute, trees=True)
        assert peak <= estimate <= 2 * peak


def test_computing_again_takes_a_fraction_where_layers_are_many(network_of: Callable[[str, str], Any]) -> None:
    network = network_of("twelve layers", "float32")
    kept, again = (peak_and_estimate(network, recompute=recompute, trees=True)[0] for recompute in (False, True))
    assert again < kept / 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_takes_what_was_estimated(dtype: str, network_of: Callable[[str, str], Any]) -> None:
    model = network_of("twelve layers", dtype).model
    parameters = {parameter.data_ptr(): parameter for parameter in model.parameters()}.values()
    taken = sum(parameter.numel() * parameter.itemsize for parameter in parameters)
    count = sum(parameter.numel() for parameter in parameters)
    assert memory.base_bytes(count, model.dtype.itemsize) == taken


def test_a_slot_takes_what_was_estimated(bench: Bench) -> None:
    pack = bench.pack(2)
    numbers = [pack.admit(bench.job(), None) for _ in range(2)]
    for number in numbers:
        pack.ask(number)
    pack.round()
    (chunk,) = pack._chunks.values()
    held = [chunk._weights, chunk._grads, *chunk._moments]
    for number in numbers:
        state = pack.trials[number].member.state
        held += [state.weights, state.first, state.second]
    count = pack.trials[numbers[0]].member.state.weights.numel()
    assert sum(tensor.nbytes for tensor in held) == 2 * memory.slot_bytes(count, 4)
    assert memory.slot_bytes(count, 2) == memory.slot_bytes(count, 4) + 2 * count


def short(pack: Any, job: Job, share: float) -> Room:
    """Room for a trial with less than its largest pass takes when everything is kept: this share of it."""
    need = pack.need(job)
    return Room(pack.network.shape, int((need.slot + share * need.largest_pass) / memory.USABLE) + 1)


@pytest.fixture(scope="module")
def deep(make_bench: Callable[[Path], Bench], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """On a base of twelve layers, where computing again pays."""
    return make_bench(make(tmp_path_factory.mktemp("deep"), *BASES["twelve layers"]))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_where_memory_asks_for_it_activations_are_computed_again_with_the_same_losses(
    dropout: float, deep: Bench
) -> None:
    from tests.recipes.packed.peak import Peak

    job = deep.job(
        lora__dropout=dropout, train__batch_size=8, train__micro_batch_size=4, train__max_steps=6, train__seed=5
    )
    ample = deep.pack(1)
    expected = run(ample, [ample.admit(job, None)])[0]
    assert not ample.need(job).recompute
    pack = deep.pack(1)
    pack.room = short(pack, job, 0.5)
    assert pack.need(job).recompute
    peaks = []
    for one in (ample, pack):
        number = one.admit(job, None)
        one.ask(number)
        with Peak() as peak:
            one.round()
        one.retire(number)
        peaks.append(peak.most)
    assert peaks[1] < peaks[0] / 2
    assert run(pack, [pack.admit(job, None)])[0] == expected


def test_mixed_trials_computed_again_are_those_of_plain_peft(bench: Bench) -> None:
    jobs = mixed(bench, 2e-4)[:4]
    pack = bench.pack(4)
    numbers = [pack.admit(job, None) for job in jobs]
    pack.room.usable = 0  # too little for anything: every pass alone, and computed again
    losses = run(pack, numbers)
    for job, found in zip(jobs, losses, strict=True):
        assert apart(found, bench.peft(job)) <= CLOSE


def test_groups_stay_within_memory(deep: Bench) -> None:
    jobs = [deep.job(lora__rank=rank, train__max_steps=6) for rank in (2, 4, 8, 16, 16, 16)]
    ample = deep.pack(6)
    expected = run(ample, [ample.admit(job, None) for job in jobs])
    pack = deep.pack(6)
    needs = [pack.need(job) for job in jobs]
    each = needs[0].slot // memory.slot_bytes(1, 4) // 2  # parameters by rank
    # For two of these pass at once: (2, 4), (8, 16) and (16, 16), of which the first two are padded by 2 and by 8.
    padding = memory.padding_bytes(0, 10 * each, 4)
    usable = sum(need.slot for need in needs) + padding + 2.5 * max(need.largest_pass for need in needs)
    pack.room = Room(pack.network.shape, int(usable / memory.USABLE))
    numbers = [pack.admit(job, None) for job in jobs]
    for number in numbers:
        pack.ask(number)
    pack.round()
    assert {len(group) for group in pack._chunks} == {2}
    assert not any(need.recompute for need in needs)
    losses = [[pack.trials[number].loss] for number in numbers]
    for number in numbers:
        pack.ask(number)
    for found, rest, alone in zip(losses, run(pack, numbers), expected, strict=True):
        assert found + rest == pytest.approx(alone, rel=CLOSE)


def test_a_trial_that_cannot_fit_is_refused_with_figures(bench: Bench) -> None:
    pack = bench.pack()
    pack.room = Room(pack.network.shape, 300_000)
    with pytest.raises(InvalidInput) as caught:
        pack.admit(bench.job(train__batch_size=8, train__micro_batch_size=8), None)
    (problem,) = caught.value.problems
    assert problem.where == "train.micro_batch_size"
    assert "a pass of 8 rows (" in problem.rule
    assert "tokens) with activations computed again" in problem.rule
    assert "0.3 MiB of 0.3 MiB can be used" in problem.rule
    assert "smaller train.micro_batch_size or lora.rank, or base.quantize: nf4, or engine: nemo" in problem.hint
    with pytest.raises(InvalidInput, match=r"^lora\.rank: the trial needs"):
        pack.admit(bench.job(lora__rank=32, train__batch_size=1), None)
    assert not pack.trials


def test_a_trial_that_fits_only_alone_waits_for_the_others_to_leave(bench: Bench) -> None:
    pack = bench.pack()
    job = bench.job()
    pack.room = short(pack, job, 1.0)
    number = pack.admit(job, None)
    with pytest.raises(NoRoom, match=r"a trial that needs .* finds .* beside 1 trial"):
        pack.admit(job, None)
    assert list(pack.trials) == [number]
    pack.retire(number)
    pack.admit(job, None)


def test_a_base_that_cannot_fit_is_refused_before_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recipes.engines.packed.network import Network

    folder = make_base(tmp_path / "base")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100_000)  # the machine, not ours
    with pytest.raises(InvalidInput, match=r"base\.path: the base takes 0\.[0-9] MiB \([0-9,]+ parameters\), and 0\.1"):
        Network(str(folder), Base(path=str(folder), dtype="float32"), "cpu")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"80\.0 GiB"):
        memory.refuse_base(70_000_000_000, 2, quantized=False, free=80 * memory.GIB)
    memory.refuse_base(70_000_000_000, 2, quantized=True, free=80 * memory.GIB)


def test_a_cpus_memory_is_shared_by_its_packs() -> None:
    assert memory.free_bytes("cpu", 4) == pytest.approx(memory.free_bytes("cpu") / 4, rel=0.2)


@given(
    tokens=st.integers(1, 20_000),
    rows=st.integers(1, 64),
    parameters=st.integers(1, 10**9),
    free_gib=st.floats(0.01, 200),
)
def test_a_trial_is_refused_or_fits_and_as_many_as_are_said_fit_with_it(
    tokens: int, rows: int, parameters: int, free_gib: float
) -> None:
    room = Room(LLAMA_8B, int(free_gib * memory.GIB))
    size = Size(1, tokens, tokens, tokens)
    try:
        need = room.need(rows, size, parameters, ADAPTED)
    except InvalidInput:
        least = memory.pass_bytes(LLAMA_8B, size, ADAPTED, recompute=True)
        assert memory.slot_bytes(parameters, 2) + least > room.usable
        return
    most = room.most_slots(need)
    assert most >= 1
    for number in range(min(most, 50)):
        room.check(need)
        room.take(number, need)
    assert room.allows(size, ADAPTED, 0, recompute=need.recompute)
    if most <= 50:
        with pytest.raises(NoRoom):
            room.check(need)
        room.leave(0)
        room.check(need)


@given(
    trials=st.integers(1, 40),
    tokens=st.integers(1, 10_000),
    more=st.integers(1, 1000),
    recompute=st.booleans(),
)
def test_more_takes_more(trials: int, tokens: int, more: int, recompute: bool) -> None:
    def taken(trials: int, tokens: int, targets: int) -> int:
        size = Size(trials, tokens, targets, min(tokens, targets))
        return memory.pass_bytes(LLAMA_8B, size, ADAPTED, recompute=recompute)

    assert taken(trials, tokens, 10) < taken(trials + 1, tokens, 10)
    assert taken(trials, tokens, 10) < taken(trials, tokens + more, 10)
    assert taken(trials, tokens, 10) <= taken(trials, tokens, 10 + more)


def test_the_paper_model_on_its_machines_by_arithmetic() -> None:
    """Eight billion parameters, rank 16 everywhere, a tree of eight rows of 630 shared and 560 own tokens."""
    base = memory.base_bytes(8_030_261_248, 2)
    assert memory.gib(base) == "15.0 GiB"
    assert memory.gib(memory.slot_bytes(PARAMETERS, 2)) == "1.2 GiB"
    size = Size(1, 630 + 8 * 560, 8 * 320, 8 * 320)
    plain, again = (memory.pass_bytes(LLAMA_8B, size, ADAPTED, recompute=recompute) for recompute in (False, True))
    assert 25 < plain / memory.GIB < 40
    assert again < plain / 5
    need = Room(LLAMA_8B, 80 * memory.GIB - base).need(8, size, PARAMETERS, ADAPTED)
    assert need == Need(memory.slot_bytes(PARAMETERS, 2), plain, False)


@pytest.mark.parametrize(("shared", "own", "new"), [(0, 60, 10), (100, 60, 10), (100, 10, 30)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["narrow feed-forward", "a head each"])
def test_answering_takes_what_was_estimated_and_at_least_half_of_it(
    name: str,
    dtype: str,
    shared: int,
    own: int,
    new: int,
    network_of: Callable[[str, str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from recipes.engines.packed import decode
    from recipes.engines.packed import state as states
    from recipes.engines.packed.chunk import Adapter
    from tests.benchmarks.shapes import random_rows, recipe
    from tests.recipes.packed.peak import Peak

    network = network_of(name, dtype)
    typed = recipe(Path(network.path), 2, 4)
    sites = network.sites(typed)
    state = states.fresh(typed, sites, network.device)
    adapters = [Adapter(typed.lora.rank, typed.lora.alpha, sites, state)] * 3
    prompts = [row.ids for row in random_rows(8, shared, own, 1, seed=0)]
    monkeypatch.setattr(network, "tokenizer", SimpleNamespace(eos_token_id=None))  # so that no answer ends early
    monkeypatch.setattr(network.model.generation_config, "eos_token_id", None)
    estimate = memory.answer_bytes(network.shape, Questions(8, shared, own, new), 3, state.weights.numel())
    gc.collect()
    with Peak() as peak:
        answers = decode.answer(network, adapters, prompts, new)
    assert {len(answer) for one in answers for answer in one} == {new}
    assert peak.most <= estimate <= 2 * peak.most, estimate / peak.most


@given(
    prompts=st.integers(1, 2000),
    shared=st.integers(0, 4000),
    own=st.integers(1, 4000),
    new=st.integers(1, 2000),
    free_gib=st.floats(0, 160),
)
def test_no_more_rows_are_answered_than_fit(prompts: int, shared: int, own: int, new: int, free_gib: float) -> None:
    asked, free = Questions(prompts, shared, own, new), int(free_gib * memory.GIB)
    rows = memory.rows_at_once(LLAMA_8B, asked, PARAMETERS, free)
    assert rows >= 1
    adapters, few = max(1, rows // prompts), min(rows, prompts)
    taken = memory.answer_bytes(LLAMA_8B, replace(asked, prompts=few), adapters, PARAMETERS)
    assert taken <= free or rows == 1
    if rows < prompts:
        more = memory.answer_bytes(LLAMA_8B, replace(asked, prompts=rows + 1), 1, PARAMETERS)
        assert more > free * memory.USABLE - 1


def test_four_bits_train_as_the_same_base_unpacked(tmp_path: Path) -> None:
    """Needs bitsandbytes, of ``pip install podium[qlora]``; it runs on a CPU, too."""
    pytest.importorskip("bitsandbytes")
    import torch
    from transformers import AutoModelForCausalLM

    from recipes.engines.packed.network import Network
    from recipes.engines.packed.pack import Pack
    from recipes.engines.packed.planner import Planner

    folder = make(tmp_path / "base", "llama", {"num_hidden_layers": 2})
    packed = Network(str(folder), Base(path=str(folder), dtype="bfloat16", quantize="nf4"), "cpu")
    assert all(layer.is_quantized for layer in packed.layers.values())
    unpacked = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    for name, layer in packed.layers.items():
        unpacked.get_submodule(name).weight.data.copy_(layer.weight())
        x = torch.randn(3, layer.in_features, dtype=torch.bfloat16)
        torch.testing.assert_close(layer(x), unpacked.get_submodule(name)(x), rtol=0, atol=0)
    unpacked.save_pretrained(tmp_path / "unpacked")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / "unpacked" / file).write_bytes((folder / file).read_bytes())
    plain = Network(str(tmp_path / "unpacked"), Base(path="", dtype="bfloat16"), "cpu")
    bench = Bench(tmp_path, folder)
    losses = []
    for network in (packed, plain):
        pack = Pack(network, Planner("cpu", {str(1 << power): 2 for power in range(20)}))
        losses.append(run(pack, [pack.admit(bench.job(train__max_steps=4), None) for _ in range(2)]))
    assert losses[0] == losses[1]
    config = json.loads((folder / "config.json").read_text())
    linear = sum(layer.in_features * layer.out_features for layer in packed.layers.values())
    total = sum(parameter.numel() for parameter in plain.model.parameters())
    assert memory.base_bytes(total, 2, linear) < memory.base_bytes(total, 2) - linear
    assert packed.shape.unpacked == config["hidden_size"] * config["intermediate_size"]
