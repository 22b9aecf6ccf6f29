"""What a sweep will ask its judge, before anything is asked: verdicts, tokens and dollars, all at most.

An answer that fails a gate is judged for nothing, a verdict that is in the cache is not paid for again, and trials that
end early may not be evaluated at all: so a sweep pays for fewer. Verdicts that must be asked for again are not in it.
"""

import math
from dataclasses import dataclass, field

from sweeps.judging import Judge, Panelist
from sweeps.sweep import Sweep

HELD_OUT_SHARE = 1 / 7  # rows of dev, and of challenge, per row of training: 10 % and 70 % of the data
CHARACTERS = 4  # of a rubric, a token
FRAME_TOKENS = 150  # of a request: how to answer, the form of the reply
REPLY_TOKENS = 80  # of a reply: a sentence of reason, and a score
SHOWN_TRIALS = 2  # the recipe's own values and the median trial are read on the challenge set beside the best


@dataclass(frozen=True)
class JudgePlan:
    """What a sweep will ask its judge, at most.

    Attributes:
        verdicts: Answers that are judged, by what they are; each is asked for of every judge of a panel.
        tokens_in: Of all requests; ``tokens_out`` of all replies.
        usd: Their price; None where a judge has none.
        unpriced: The models that have none.
        sources: Where the figures come from, in words.
    """

    verdicts: dict[str, int]
    tokens_in: int
    tokens_out: int
    usd: float | None
    unpriced: tuple[str, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def num_verdicts(self) -> int:
        """Answers that are judged."""
        return sum(self.verdicts.values())

    def lines(self) -> list[str]:
        """The plan in words."""
        told = ", ".join(f"{count:,} of {what}" for what, count in self.verdicts.items() if count)
        tokens = f"about {self.tokens_in + self.tokens_out:,} tokens"
        missing = f"no price: {', '.join(self.unpriced)} has none (evaluate.judge.price)"
        price = missing if self.usd is None else f"${self.usd:.3g}"
        return [f"the judge: at most {self.num_verdicts:,} verdicts ({told}), {tokens}, {price}"]


def judge_plan(sweep: Sweep, num_trials: int) -> JudgePlan | None:
    """Foretell a sweep's judge; None where it has none.

    Args:
        num_trials: All of the sweep, also those that are chosen while it runs.
    """
    judge = sweep.spec.evaluate.judge
    if judge is None:
        return None
    verdicts = _verdicts(sweep, num_trials)
    number = sum(verdicts.values())
    row_tokens = sweep.facts.tokens_per_row + sweep.settings["generate"]["max_new_tokens"]
    tokens_in = tokens_out = 0
    usd: float | None = 0.0
    unpriced = []
    for member in judge.panel or (judge,):
        asked = math.ceil(number * (_rubric_tokens(judge, member) + FRAME_TOKENS + row_tokens))
        tokens_in, tokens_out = tokens_in + asked, tokens_out + number * REPLY_TOKENS
        price = member.price or judge.price
        if price is None:
            unpriced.append(str(member.model))
        usd = None if price is None or usd is None else usd + price.usd(asked, number * REPLY_TOKENS)
    sources = {
        "verdicts": "every trial on dev, contenders on further items, the planted answers, the challenge set",
        "tokens": f"the row and the longest answer, the rubric at {CHARACTERS} characters a token, {FRAME_TOKENS} for "
        f"the request and {REPLY_TOKENS} for the reply: an estimate",
    }
    for name, price in {str(one.model): one.price or judge.price for one in judge.panel or (judge,)}.items():
        if price is not None:
            each = f"{price.input_usd_per_1m:g} US$ in and {price.output_usd_per_1m:g} out per million tokens"
            sources[f"price of {name}"] = f"{each}, {price.date}: {price.source}"
    return JudgePlan(verdicts, tokens_in, tokens_out, usd, tuple(unpriced), sources)


def _verdicts(sweep: Sweep, num_trials: int) -> dict[str, int]:
    spec = sweep.spec
    evaluate, champion = spec.evaluate, spec.champion
    held_out = math.ceil(sweep.facts.train_rows * HELD_OUT_SHARE)
    dev, challenge = min(evaluate.dev or held_out, held_out), min(evaluate.challenge or held_out, held_out)
    guided = spec.serving.guided  # then the guided base stands beside the base on dev, and anyhow on challenge
    standing = 1 + guided + (evaluate.incumbent is not None)
    rounds = champion.contenders
    most = max(dev, min(rounds.items, held_out)) if rounds else dev
    further = min(rounds.start, num_trials) * max(0, min(rounds.items, held_out) - dev) if rounds else 0
    defects = evaluate.defects
    planted = min(defects.rows, held_out) * (1 + len(defects.plant)) if defects else 0
    confirmed = (
        min(champion.confirm.top + SHOWN_TRIALS, num_trials) + standing + (not guided) if champion.confirm.top else 0
    )
    return {
        "trials": num_trials * dev,
        "the base and the incumbent" if evaluate.incumbent else "the base": standing * dev,
        "contenders": further,
        **({"the best, the other way": min(spec.serving.rescore, num_trials) * most} if spec.serving.rescore else {}),
        "planted defects": planted,
        "the challenge set": confirmed * challenge,
    }


def _rubric_tokens(judge: Judge, member: Judge | Panelist) -> float:
    return len(member.rubric or judge.rubric or "") / CHARACTERS
