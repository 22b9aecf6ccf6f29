"""What the packed engine promises of preference trials: what it does of any (``tests/contract``), and more."""

import json
import math
import multiprocessing
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.engines.packed.network import Batch
from recipes.engines.packed.objective import Likelihood, Preferring
from recipes.engines.packed.rows import Pairs, Row, Rows
from recipes.engines.packed.tree import lay_out
from recipes.engines.protocol import Diverged, Job
from recipes.schema import Preference
from sweeps.errors import InvalidInput
from tests.recipes.packed.conftest import Bench, run
from tests.recipes.packed.preferences import dpo_job, pairs, write_pairs
from tests.recipes.tiny import make_adapter, write_rows

DPO = ("loss", "reward_margin", "reward_accuracy", "chosen_logp", "rejected_logp", "chosen_logp_change")


@pytest.fixture(scope="module")
def start(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(bench.base, tmp_path_factory.mktemp("start") / "adapter", seed=5, std=0.05)


def mixed(bench: Bench, folder: Path, start: Path) -> list[Job]:
    """Six preference trials that differ in everything."""
    kinds: list[dict[str, Any]] = [
        {},
        {"preference__beta": 0.5, "lora__rank": 8, "optimizer__name": "adam"},
        {"preference__label_smoothing": 0.2, "optimizer__lr": 1e-3, "start": start},
        {"preference__loss": "ipo", "schedule__name": "linear"},
        {"preference__sft_weight": 1.0, "train__seed": 9, "start": start, "mode": "stack", "lora__rank": 2},
        {"preference__loss": "ipo", "preference__sft_weight": 0.2, "lora__targets": ["*.v_proj"]},
    ]
    common = {"train__batch_size": 4, "train__micro_batch_size": 2}
    return [dpo_job(bench, folder, **{"optimizer__lr": 2e-3, **common, **kind}) for kind in kinds]


def test_a_trial_reports_its_objective_and_what_becomes_of_the_answers(bench: Bench, tmp_path: Path) -> None:
    pack = bench.pack()
    number = pack.admit(dpo_job(bench, tmp_path), None)
    reports: list[Any] = []
    while not reports or not reports[-1].done:
        pack.ask(number)
        while pack.trials[number].outcome is None:
            pack.round()
        reports.append(pack.trials[number].outcome)
    for report in reports:
        expected = {"train/loss", "val/loss", "train/lr", "train/tokens_per_s", *(f"dpo/{name}" for name in DPO)}
        assert set(report.metrics) == expected
        assert all(math.isfinite(value) for value in report.metrics.values())
    losses = [report.metrics["val/loss"] for report in reports]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < math.log(2) / 2
    last = reports[-1].metrics
    assert last["dpo/loss"] == last["val/loss"], "no SFT term is mixed in"
    assert last["dpo/reward_accuracy"] == 1.0
    assert last["dpo/reward_margin"] > reports[0].metrics["dpo/reward_margin"] > 0


def test_neighbours_change_nothing(bench: Bench, start: Path, tmp_path: Path) -> None:
    jobs = mixed(bench, tmp_path, start)
    together = bench.losses(jobs, 6)
    beside_sft = bench.losses([*jobs, bench.job(), bench.job(lora__rank=2)], 6)[: len(jobs)]
    for job, own, beside in zip(jobs, together, beside_sft, strict=True):
        alone = bench.losses([job])[0]
        assert own == pytest.approx(alone, rel=1e-5)
        assert beside == pytest.approx(alone, rel=1e-5)


def test_rows_one_by_one_give_the_same(bench: Bench, start: Path, tmp_path: Path) -> None:
    jobs = mixed(bench, tmp_path, start)
    apart = [Job.of({**job.fields(), "settings": {**job.settings, "packed": {"trees": False}}}) for job in jobs]
    for one, other in zip(bench.losses(jobs, 6), bench.losses(apart, 6), strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_resumed_it_equals_the_uninterrupted_run(bench: Bench, start: Path, tmp_path: Path) -> None:
    for place, job in enumerate(mixed(bench, tmp_path, start)):
        whole = bench.losses([job])[0]
        pack = bench.pack()
        number = pack.admit(job, None)
        pack.ask(number)
        while pack.trials[number].outcome is None:
            pack.round()
        pack.save(number, tmp_path / f"half-{place}")
        other = bench.pack()
        number = other.admit(job, tmp_path / f"half-{place}")
        assert run(other, [number])[0] == whole[3:], job.settings["preference"]


@pytest.mark.parametrize("mode", ["continue", "stack"])
def test_its_adapter_gives_the_same_log_probabilities_in_plain_peft(
    mode: str, bench: Bench, start: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    job = dpo_job(bench, tmp_path, start, mode, lora__rank=6, preference__sft_weight=0.1)
    pack = bench.pack()
    number = pack.admit(job, None)
    run(pack, [number])
    pack.save(number, tmp_path / "saved")
    metrics = pack.trials[number].outcome.metrics

    def mean_log_probabilities(adapter: Path) -> list[float]:
        network = AutoModelForCausalLM.from_pretrained(bench.base)
        model = PeftModel.from_pretrained(network, adapter).eval()
        rows, sums = Pairs(job.validation, bench.network().tokenizer), [0.0, 0.0]
        for place, row in enumerate(rows):
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([row.ids])).logits[0, :-1].log_softmax(-1)
            kept = [(at - 1, label) for at, label in enumerate(row.labels) if label != -100]
            sums[place % 2] += sum(float(logits[at, label]) for at, label in kept)
        return [one / rows.num_examples for one in sums]

    after, before = mean_log_probabilities(tmp_path / "saved" / "adapter"), mean_log_probabilities(start)
    assert [metrics["dpo/chosen_logp"], metrics["dpo/rejected_logp"]] == pytest.approx(after, rel=1e-5)
    assert metrics["dpo/chosen_logp_change"] == pytest.approx(after[0] - before[0], rel=1e-3)
    margin = 0.1 * (after[0] - before[0] - after[1] + before[1])
    assert metrics["dpo/reward_margin"] == pytest.approx(margin, rel=1e-3)


def test_a_pair_is_a_tree_of_three_levels(bench: Bench) -> None:
    system = {"role": "system", "content": "You are a shopping assistant. " * 4}
    rows = []
    for number in range(3):
        question = {"role": "user", "content": f"Number {number}: I would like to have the oak table with six chairs."}
        right, wrong = (f"{word} chairs and nothing else at all, thank you" for word in ("oak", "steel"))
        messages = [system, question, {"role": "assistant", "content": right}]
        rows += [messages, [system, question, {"role": "assistant", "content": wrong}]]
    found = Pairs(rows, bench.network().tokenizer)
    layout = lay_out(list(found))
    depth = [sum(other.start < node.start < other.stop for other in layout.nodes) for node in layout.nodes]
    assert max(depth) == 2
    assert sorted(depth) == [0, *[1] * 3, *[2] * 6]
    assert layout.counts == tuple(row.num_targets for row in found)


def test_the_loss_looks_at_the_last_answer_alone(bench: Bench) -> None:
    messages = [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Good day, what do you need?"},
        {"role": "user", "content": "A chair."},
        {"role": "assistant", "content": "oak chair"},
    ]
    tokenizer = bench.network().tokenizer
    (whole,), (own,) = Rows([messages], tokenizer), Pairs([messages], tokenizer)
    assert own.ids == whole.ids
    assert own.num_targets < whole.num_targets
    said = [label for label in own.labels if label != -100]
    assert tokenizer.decode(said, skip_special_tokens=True).strip() == "oak chair"
    assert own.labels[-len(said) :] == whole.labels[-len(said) :]


def test_rows_without_a_rejected_answer_are_refused(bench: Bench, tmp_path: Path) -> None:
    job = dpo_job(bench, tmp_path)
    write_pairs(job.train, [*pairs(3), {"messages": pairs(1)[0]["messages"]}])
    rule = "method: method dpo learns from pairs of answers, but row 4 of train.jsonl has none rejected"
    with pytest.raises(InvalidInput, match=rule):
        bench.pack().admit(job, None)


def test_memory_counts_a_pair_as_two_rows(bench: Bench, tmp_path: Path) -> None:
    job = dpo_job(bench, tmp_path, train__batch_size=4, train__micro_batch_size=4)
    plain = {**job.settings, "packed": {"trees": False}}
    needs = [
        bench.pack().need(Job.of({**job.fields(), "settings": {**plain, "method": method}}))
        for method in ("sft", "dpo")
    ]
    assert needs[1].slot == needs[0].slot
    assert 2 <= needs[1].largest_pass / needs[0].largest_pass < 2.6, "some rejected answers are longer"
    shared = bench.pack().need(job)
    assert shared.largest_pass < needs[1].largest_pass, "their prompts are computed once"


def test_a_trial_of_method_sft_learns_the_chosen_answers_of_pairs(bench: Bench, tmp_path: Path) -> None:
    rows = pairs(24)
    chosen = write_rows(tmp_path / "rows.jsonl", [row["messages"] for row in rows])
    paired = write_pairs(tmp_path / "pairs.jsonl", rows)
    losses = []
    for path in (chosen, paired):
        job = bench.job()
        losses.append(bench.losses([Job.of({**job.fields(), "train": str(path), "validation": str(path)})])[0])
    assert losses[0] == losses[1]


# The reference -------------------------------------------------------------------------------------------------------


def log_of(job: Job) -> str:
    return (job.folder / "engine.log").read_text()


def test_the_reference_is_computed_once_and_kept_beside_the_rows(bench: Bench, start: Path, tmp_path: Path) -> None:
    first, second = bench.pack(), bench.pack()
    first.admit(dpo_job(bench, tmp_path), None)
    assert "log-probabilities of the 48 answers in train.jsonl by the base: computed in" in log_of(
        dpo_job(bench, tmp_path)
    )
    beats = second.beats
    number = second.admit(dpo_job(bench, tmp_path), None)
    assert second.beats == beats, "nothing was computed"
    assert "answers in train.jsonl by the base: kept from before" in log_of(dpo_job(bench, tmp_path))
    kept = sorted((tmp_path / "reference").glob("*.json"))
    assert len(kept) == 2, "of the training and of the validation rows"
    second.admit(dpo_job(bench, tmp_path, start), None)
    assert second.beats > beats, "another start finds other answers likely"
    assert len(list((tmp_path / "reference").glob("*.json"))) == 4
    for path in kept:
        path.write_text(path.read_text()[:20])  # cut short
    assert bench.pack().admit(dpo_job(bench, tmp_path), None) == 0
    assert json.loads(kept[0].read_text())
    assert second.trials[number].reference[0] < 0


def test_other_rows_have_another_reference(bench: Bench, tmp_path: Path) -> None:
    pack = bench.pack()
    pack.admit(dpo_job(bench, tmp_path), None)
    write_pairs(tmp_path / "train.jsonl", pairs(25))
    other = bench.pack()
    number = other.admit(dpo_job(bench, tmp_path), None)
    assert len(other.trials[number].reference) == 50
    assert len(list((tmp_path / "reference").glob("*.json"))) == 3


def test_who_comes_second_waits_alive_and_computes_nothing(bench: Bench, tmp_path: Path) -> None:
    import fcntl

    from recipes.engines.packed.reference import FOLDER, Reference

    job = dpo_job(bench, tmp_path)
    rows = Pairs(job.train, bench.network().tokenizer)
    values = Reference(bench.network(), lambda: None).of(job.train, rows, None)
    (kept,) = (tmp_path / FOLDER).glob("*.json")
    content = kept.read_text()
    kept.unlink()
    beats, said = threading.Event(), []
    with kept.with_suffix(".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process is at it
        waiting = threading.Thread(
            target=lambda: said.append(Reference(bench.network(), beats.set).of(job.train, rows, None))
        )
        waiting.start()
        assert beats.wait(10), "it says that it is alive"
        assert not said
        kept.write_text(content)
    waiting.join(10)
    assert said == [values]


def test_what_is_not_finite_is_not_kept(bench: Bench, start: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from recipes.engines.packed.reference import FOLDER, Reference

    job = dpo_job(bench, tmp_path)
    rows = Pairs(job.train, bench.network().tokenizer)
    broken = Path(shutil.copytree(start, tmp_path / "broken"))
    weights = load_file(broken / "adapter_model.safetensors")
    save_file({name: one * math.nan for name, one in weights.items()}, broken / "adapter_model.safetensors")
    reference = Reference(bench.network(), lambda: None)
    with pytest.raises(Diverged, match=r"the start \(.*broken\) gives 48 of the 48 answers in train.jsonl no finite"):
        reference.of(job.train, rows, broken)
    assert not list((tmp_path / FOLDER).glob("*.json"))
    values = reference.of(job.train, rows, None)
    (kept,) = (tmp_path / FOLDER).glob("*.json")
    kept.write_text(json.dumps([math.nan, *values[1:]]))  # as an earlier version kept it
    assert Reference(bench.network(), lambda: None).of(job.train, rows, None) == values


def _admit(base: str, folder: str, found: Any) -> None:
    from recipes.engines.packed.network import Network
    from recipes.engines.packed.reference import Reference
    from recipes.schema import Base

    torch.set_num_threads(1)
    network = Network(base, Base(path=base, dtype="float32"), "cpu")
    path = Path(folder) / "train.jsonl"
    told: list[str] = []
    values = Reference(network, lambda: None).of(path, Pairs(path, network.tokenizer), None, told.append)
    found.put((values, told[0]))


@pytest.mark.slow
def test_of_several_processes_one_computes(bench: Bench, tmp_path: Path) -> None:
    dpo_job(bench, tmp_path)
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    processes = [context.Process(target=_admit, args=(str(bench.base), str(tmp_path), found)) for _ in range(3)]
    for process in processes:
        process.start()
    answers = [found.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(20)
    assert len({values for values, _ in answers}) == 1
    assert sum("computed in" in told for _, told in answers) == 1


def test_where_nothing_can_be_written_it_is_computed_each_time(bench: Bench, tmp_path: Path) -> None:
    job = dpo_job(bench, tmp_path)
    (tmp_path / "reference").write_text("no folder")
    assert bench.losses([job])[0][0] == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize("turned", [False, True])
def test_chosen_answers_that_become_unlikely_are_told(turned: bool, bench: Bench, tmp_path: Path) -> None:
    """Of pairs that the training pairs contradict, the chosen answers become less likely."""
    job = dpo_job(bench, tmp_path)
    rows = pairs(6)
    for row in rows if turned else []:
        answer, row["rejected"] = row["rejected"], row["messages"][-1]["content"]
        row["messages"][-1] = {"role": "assistant", "content": answer}
    write_pairs(job.validation, rows)
    pack = bench.pack()
    number = pack.admit(job, None)
    run(pack, [number])
    change = pack.trials[number].outcome.metrics["dpo/chosen_logp_change"]
    assert (change < 0) == turned
    warned = f"the chosen answers are less likely than at the start (dpo/chosen_logp_change {change:.3g} nats)"
    assert (warned in log_of(job)) == turned


# The objective -------------------------------------------------------------------------------------------------------


def a_batch(lengths: list[int], reference: list[float]) -> Batch:
    rows = [Row(tuple(range(place, place + 3 + n)), (-100,) * 3 + (1,) * n) for place, n in enumerate(lengths)]
    return Batch(lay_out(rows), None, tuple(reference))


@given(
    data=st.lists(
        st.tuples(
            st.floats(0.1, 50), st.floats(0.1, 50), st.floats(-50, -0.1), st.floats(-50, -0.1), st.integers(1, 9)
        ),
        min_size=2,
        max_size=6,
    ),
    kind=st.sampled_from(["sigmoid", "ipo"]),
    beta=st.floats(0.01, 2),
    smoothing=st.floats(0, 0.49),
    weight=st.floats(0, 2),
    cut=st.integers(1, 5),
)
def test_the_parts_of_a_batch_add_up_to_its_loss(
    data: list[tuple[float, float, float, float, int]],
    kind: Any,
    beta: float,
    smoothing: float,
    weight: float,
    cut: int,
) -> None:
    """However a batch is cut, its loss is the mean over its pairs, as the formulas of the papers have it."""
    objective = Preferring(Preference(loss=kind, beta=beta, label_smoothing=smoothing, sft_weight=weight))
    nats = torch.tensor([value for pair in data for value in pair[:2]], dtype=torch.float64)
    lengths = [n for pair in data for n in (pair[4], pair[4] + 1)]
    reference = [value for pair in data for value in pair[2:4]]
    middle = 2 * min(cut, len(data) - 1)
    parts = [a_batch(lengths[:middle], reference[:middle]), a_batch(lengths[middle:], reference[middle:])]
    found = objective.loss(nats[:middle], parts[0], parts) + objective.loss(nats[middle:], parts[1], parts)

    expected = 0.0
    for chosen, rejected, at_chosen, at_rejected, n in data:
        better, worse = -chosen - at_chosen, -rejected - at_rejected
        if kind == "ipo":
            expected += (better / n - worse / (n + 1) - 1 / (2 * beta)) ** 2
        else:
            margin = beta * (better - worse)
            right, wrong = (max(-one, 0) + math.log1p(math.exp(-abs(one))) for one in (margin, -margin))
            expected += (1 - smoothing) * right + smoothing * wrong
    expected /= len(data)
    likelihood = sum(pair[0] for pair in data) / sum(pair[4] for pair in data)
    assert float(found) == pytest.approx(expected + weight * likelihood, rel=1e-5)
    figures = objective.figures(nats, parts)
    assert figures["val/loss"] == pytest.approx(expected + weight * likelihood, rel=1e-5)
    assert figures["dpo/loss"] == pytest.approx(expected, rel=1e-5)


@given(
    nats=st.lists(st.floats(0, 100), min_size=1, max_size=5),
    lengths=st.lists(st.integers(1, 9), min_size=5, max_size=5),
)
def test_the_likelihood_is_the_mean_over_all_targets(nats: list[float], lengths: list[int]) -> None:
    batches = [a_batch([length], []) for length in lengths[: len(nats)]]
    mean = sum(nats) / sum(lengths[: len(nats)])
    objective = Likelihood()
    weight = objective.weight(batches)
    weighted = [
        objective.loss(torch.tensor([one * weight]), part, batches) for one, part in zip(nats, batches, strict=True)
    ]
    assert float(sum(weighted)) == pytest.approx(mean, rel=1e-5, abs=1e-6)
    assert objective.figures(torch.tensor(nats), batches) == {"val/loss": pytest.approx(mean, rel=1e-5, abs=1e-6)}
