"""The paper's numbers held against each other: what it states, computed again from what else it states.

Each number stands for all that are rounded to it, so a check fails only where no such numbers agree.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

from analysis.claims.model import signed
from analysis.paper import Span, Stated, stated


@dataclass(frozen=True)
class Check:
    """A statement of the paper against its own numbers.

    Attributes:
        statement: What the paper says, and where.
        arithmetic: What its numbers give.
        holds: Whether the two agree, as far as the numbers are rounded.
        finding: What follows.
    """

    statement: str
    arithmetic: str
    holds: bool
    finding: str


def checks(numbers: Mapping[str, Stated] | None = None) -> list[Check]:
    """Every check, in the order of the paper's figures.

    Args:
        numbers: What the paper states; by default what ``paper.yaml`` holds.
    """
    of = numbers or stated()
    return [*_figure_6(of), _target(of), *_baselines(of), *_figure_7(of), *_words(of)]


def span(formula: Callable[..., float], *terms: Stated) -> Span:
    """What a formula that is monotone in each term can give, its terms being rounded."""
    values = [formula(*ends) for ends in product(*(term.span for term in terms))]
    return min(values), max(values)


def agree(one: Span, other: Span) -> bool:
    """Whether two ranges have a number in common."""
    return one[0] <= other[1] and other[0] <= one[1]


def implied(score: Stated, loss: Stated) -> Span:
    """The baselines that ``score`` is ``loss`` below."""
    return span(lambda value, share: value / (1 - share), score, loss)


def _gain(new: float, old: float) -> float:
    return new / old - 1


def _of_whole(cut: float, part: float, whole: float) -> float:
    return cut * part / whole


def _figure_6(of: Mapping[str, Stated]) -> list[Check]:
    sft, nft = of["sft_quality"], of["nft_quality"]
    cut, part, whole = of["retrieval_cut"], of["retrieval_s"], of["agent_s"]
    follows = 100 * _of_whole(cut.number, part.number, whole.number)
    pairs = [(of[name], of[f"{name}_in_text"]) for name in ("agent_cut", "retrieval_cut", "cost_cut")]
    return [
        Check(
            f"SFT is {of['sft_over_nft'].value} % better than NFT (section 4.3)",
            f"{sft.value} / {nft.value} = {signed(100 * _gain(sft.number, nft.number))}",
            agree(span(_gain, sft, nft), of["sft_over_nft"].span),
            "the gain over NFT follows from the two scores",
        ),
        Check(
            f"agent latency falls by {of['agent_cut'].value} % (figure 6)",
            f"retrieval falls by {cut.value} %, and takes {part.value} s of {whole.value} s (section 3.1): "
            f"{cut.number:.3f} × {part.value} / {whole.value} = {follows:.1f} %",
            agree(span(_of_whole, cut, part, whole), of["agent_cut"].span),
            "the agent's gain is retrieval's, and nothing else's",
        ),
        Check(
            f"retrieval is over {of['retrieval_share'].value} % of the agent's time (abstract)",
            f"{part.value} / {whole.value} = {100 * part.number / whole.number:.0f} %",
            span(lambda one, all_: one / all_, part, whole)[0] > of["retrieval_share"].number,
            "it is",
        ),
        Check(
            "the text's " + ", ".join(f"{text.value} %" for _, text in pairs) + " (section 4.3) are figure 6's",
            ", ".join(f"{figure.value} %" for figure, _ in pairs) + ", rounded",
            all(agree(figure.span, text.span) for figure, text in pairs),
            "they are, if the last was a little below what is printed",
        ),
    ]


def _target(of: Mapping[str, Stated]) -> Check:
    def after(before: float, cut: float) -> float:
        return before * (1 - cut)

    agent, cut = of["agent_s"], of["agent_cut"]
    retrieval, its_cut = of["retrieval_s"], of["retrieval_cut"]
    return Check(
        f"“{of['target_s'].words}” (section 4.3, of the overall agent latency)",
        f"{agent.value} s × (1 − {cut.number:.3f}) = {after(agent.number, cut.number):.2f} s, "
        "which the text does not state",
        span(after, agent, cut)[1] < of["target_s"].number,
        f"the agent is not below {of['target_s'].value} s; retrieval alone may be meant, at "
        f"{retrieval.value} s × (1 − {its_cut.number:.3f}) = {after(retrieval.number, its_cut.number):.2f} s",
    )


def _baselines(of: Mapping[str, Stated]) -> list[Check]:
    nft, sft = of["nft_quality"], of["sft_quality"]
    losses = of["nft_quality_loss"], of["sft_quality_loss"], of["dpo_nft_quality_loss"]
    of_nft, of_sft, of_dpo = implied(nft, losses[0]), implied(sft, losses[1]), implied(nft, losses[2])
    return [
        Check(
            "NFT and SFT are measured against one base model (figure 6)",
            f"{_implied(nft, losses[0])}; {_implied(sft, losses[1])}; the text does not state its score",
            agree(of_nft, of_sft),
            "both imply the same one",
        ),
        Check(
            f"NFT is {losses[2].value} % below the base model (figure 9)",
            f"{_implied(nft, losses[2])}; figure 6: {_implied(nft, losses[0])}",
            agree(of_nft, of_dpo),
            "another baseline, or another measurement of NFT: figures 6 and 9 cannot be compared",
        ),
    ]


def _implied(score: Stated, loss: Stated) -> str:
    return f"{score.value} / (1 − {loss.number:.3f}) = {score.number / (1 - loss.number):.2f}"


def _figure_7(of: Mapping[str, Stated]) -> list[Check]:
    def reduction(rise: float) -> float:
        return 1 - 1 / (1 + rise)

    # From TP=4 to TP=1 and back on the B200, by the H100's and the distances between the GPUs at both.
    def rise(one: float, four: float, up: float) -> float:
        return (1 - one) * (1 + up) / (1 - four) - 1

    def fall(one: float, four: float, down: float) -> float:
        return 1 - (1 - four) * (1 - down) / (1 - one)

    one, four, h100, b200 = of["b200_tp1"], of["b200_tp4"], of["h100_tp"], of["b200_tp"]
    ends = one.number, four.number, h100.number
    gpus = f"B200 is {one.value} % below H100 at TP=1 and {four.value} % at TP=4"
    both = f"{h100.value} % and {b200.value} %"
    return [
        Check(
            f"TP=4 to TP=1 adds {h100.value} % (figure 7), and TP=1 to TP=4 takes up to {of['tp_in_text'].value} % "
            "away (section 4.5)",
            f"+{h100.value} % one way is {signed(-100 * reduction(h100.number))} the other way",
            agree(span(reduction, h100), of["tp_in_text"].span),
            "one of the two is the wrong way round",
        ),
        Check(
            f"the {both} of figure 7 are increases from TP=4 to TP=1 (its caption)",
            f"{gpus}: {1 - one.number:.2f} × {1 + h100.number:.2f} / {1 - four.number:.2f} − 1 = "
            f"{signed(100 * rise(*ends))} on B200",
            agree(span(rise, one, four, h100), b200.span),
            "they are no increases",
        ),
        Check(
            f"the {both} of figure 7 are reductions from TP=1 to TP=4 (section 4.5)",
            f"{gpus}: 1 − {1 - four.number:.2f} × {1 - h100.number:.2f} / {1 - one.number:.2f} = "
            f"{100 * fall(*ends):.1f} % on B200",
            agree(span(fall, one, four, h100), b200.span),
            "the figure's numbers fit the text, not the caption",
        ),
    ]


def _words(of: Mapping[str, Stated]) -> list[Check]:
    def raised(seconds: float, change: float) -> float:
        return seconds * (1 + change)

    def lowered_to(score: float, loss: float, share: float) -> float:
        return share * score / (1 - loss)

    retrieval, cut, latency = of["retrieval_s"], of["retrieval_cut"], of["dpo_latency"]
    scores = of["nft_quality"], of["nft_quality_loss"], of["sft_quality_loss"]
    share, left = scores[2], lowered_to(*(term.number for term in scores))
    return [
        Check(
            f"“{cut.words}”, told as an improvement (figure 6)",
            f"up is {retrieval.value} s × {1 + cut.number:.3f} = {raised(retrieval.number, cut.number):.1f} s",
            span(raised, retrieval, cut)[1] < retrieval.span[0],
            "it means down; section 4.3 says that it is reduced",
        ),
        Check(
            f"“{share.words}” (figure 6 (b))",
            f"to is {share.number:.3f} × {scores[0].number / (1 - scores[1].number):.2f} = {left:.2f}, and SFT has "
            f"{of['sft_quality'].value}",
            agree(span(lowered_to, *scores), of["sft_quality"].span),
            "it means by",
        ),
        Check(
            f"“{latency.words}” (figure 9)",
            f"a reduction has a minus: −{latency.value} %",
            "(-" in latency.words,
            "word and sign contradict each other, and the text does not say which is meant",
        ),
    ]
