from pathlib import Path

import pytest

from analysis.claims import Rule, check_markdown
from analysis.claims.prose import rounded

ROOT = Path(__file__).parents[3]
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG"))]


def rules(text: str) -> set[Rule]:
    return {violation.rule for violation in check_markdown(text)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_our_own_documents_claim_nothing_without_what_it_rests_on(path: Path) -> None:
    assert [str(violation) for violation in check_markdown(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "text",
    [
        "The agent is 48.9 % faster than the incumbent on challenge, n = 96.",
        "Latency fell by 48.9 % against the incumbent on 96 items, from 4.5 s to 2.3 s.",
        "It is 3.3 times as fast as PEFT on the demo, n = 5 runs.",
        "27 % of the rows are long, and 70 % are for training.",
        "Its 95 % interval holds 0, at a confidence of 99 %.",
        "It holds unless the one-sided 99 % lower bound is above 0.05.",
        "The intervals end at 97.1 % or more.",
        "The agent takes 1.83 s, below 2 s.",
        "The agent takes 2.30 s: it is not below 2 s.",
        "Latency must be below 2 s.",
        "The paper says “retrieval latency up 57.9%” and `+17.9 %`.",
        "```\n48.9 % faster\n```",
        "> 48.9 % faster",
        "| arm | against incumbent on challenge, n = 96 |\n|-|-|\n| champion | −48.9 % |\n| default | −20.1 % |",
    ],
)
def test_what_rests_on_something_passes(text: str) -> None:
    assert rules(text) == set()


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("It is 48.9 % faster.", {Rule.BASELINE, Rule.DATA, Rule.N}),
        ("It is 48.9 % faster than base.", {Rule.DATA, Rule.N}),
        ("It is 48.9 % faster than base on challenge.", {Rule.N}),
        ("It is 48.9 % faster on challenge, n = 96.", {Rule.BASELINE}),
        ("It is twice as fast.", {Rule.BASELINE, Rule.DATA, Rule.N}),
        ("It fell by 48.9 % against base on challenge, n = 96 (4.5 → 3.0 s).", {Rule.ARITHMETIC}),
        ("On dev, n = 64, it gains +5.0 % over base, and the other +6.0 % over the incumbent.", {Rule.MIXED}),
        ("On dev, n = 64, it keeps 40 % of the 36.2 % reduction against base.", {Rule.OF_PERCENT}),
        ("It answers below 2 s.", {Rule.LIMIT}),
        ("It takes 2.30 s, a sub-2-second answer.", {Rule.LIMIT}),
        ("| arm | change |\n|-|-|\n| champion | −48.9 % |", {Rule.BASELINE, Rule.DATA, Rule.N}),
    ],
)
def test_what_rests_on_nothing_is_refused(text: str, broken: set[Rule]) -> None:
    assert rules(text) == broken


def test_a_column_and_a_numbered_list_have_one_baseline() -> None:
    cells = [f"−{value} % against {arm} on challenge, n = 96" for value, arm in ((48.9, "incumbent"), (20.1, "base"))]
    column = "| arm | change |\n|-|-|\n" + "\n".join(f"| x | {cell} |" for cell in cells)
    assert rules(column) == {Rule.MIXED}
    assert rules("\n".join(f"{number}. {cell}" for number, cell in enumerate(cells, start=1))) == {Rule.MIXED}
    assert rules("\n".join(f"- {cell}" for cell in cells)) == set()


PAPER = {
    "NFT Nemotron-8B shows good performance improvements over base model in latency and cost efficiency, with "
    "retrieval latency up 57.9%, agent latency up 48.9%, and GPU cost reduced by 45.5%.": {
        Rule.DIRECTION,
        Rule.DATA,
        Rule.N,
    },
    "The 8B-DPO Inference configuration achieves a substantial reduction in E2E Latency ($+17.9\\%$), indicating "
    "faster processing speed.": {Rule.DIRECTION, Rule.BASELINE, Rule.DATA, Rule.N},
    "retrieval latency by 58%, and monthly GPU costs by 45%, achieving the critical sub-2-second performance "
    "target while significantly reducing operational costs.": {Rule.LIMIT, Rule.BASELINE, Rule.DATA, Rule.N},
}


@pytest.mark.parametrize("text", PAPER)
def test_the_papers_sentences(text: str) -> None:
    assert rules(text) == PAPER[text]


@pytest.mark.parametrize(("text", "low", "high"), [("45.5", 45.45, 45.55), ("2", 1.5, 2.5), ("1,200", 1199.5, 1200.5)])
def test_a_number_stands_for_all_that_are_rounded_to_it(text: str, low: float, high: float) -> None:
    assert rounded(text) == pytest.approx((low, high))


def test_lines_are_told() -> None:
    text = "# Title\n\nFine.\n\n- fine\n- 48.9 % faster\n\n| a | b |\n|-|-|\n| x | fine |\n| y | +3.0 % |\n"
    assert sorted({violation.line for violation in check_markdown(text) if violation.line}) == [6, 11]
