"""Several judges for one answer: the mean of those that gave a score, and how far they are apart."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sweeps.errors import PodiumError, ServiceUnreachable
from tracking.meters.judge.pairwise import Winner
from tracking.meters.judge.rubric import RubricJudge
from tracking.meters.judge.verdicts import Comparison, JudgeError, Verdict, total
from tracking.meters.metrics import Item

T = TypeVar("T")


class Panel:
    """Judges that score the same answers at the same time. Safe to use from several threads."""

    def __init__(self, judges: Sequence[RubricJudge]) -> None:
        self.judges = tuple(judges)

    def probe(self) -> None:
        """Probe every judge.

        Raises:
            ServiceUnreachable: As one of them says.
        """
        for judge in self.judges:
            judge.probe()

    def score_many(self, items: Sequence[Item], answers: Sequence[str]) -> list[Verdict]:
        """The panel's verdicts: the mean of the judges that gave one.

        A judge that fails as a whole is missing from every item; its error stands there.

        Raises:
            ServiceUnreachable, JudgeError: Every judge fails; the first one's error.
        """
        by_judge = self._each(lambda judge: judge.score_many(items, answers), lambda text: Verdict(None, error=text))
        return [_mean(parts) for parts in self._by_item(by_judge, len(items))]

    def compare_many(
        self, items: Sequence[Item], answers_a: Sequence[str], answers_b: Sequence[str]
    ) -> list[Comparison]:
        """The answer that more judges prefer; equal numbers are a tie.

        Raises:
            ServiceUnreachable, JudgeError: As for scores.
        """
        by_judge = self._each(
            lambda judge: judge.compare_many(items, answers_a, answers_b), lambda text: Comparison(None, error=text)
        )
        return [_majority(parts) for parts in self._by_item(by_judge, len(items))]

    def num_to_compare(self, items: Sequence[Item], answers_a: Sequence[str], answers_b: Sequence[str]) -> int:
        """So many verdicts of all judges would ``compare_many`` ask for that are not in the cache."""
        return sum(judge.num_to_compare(items, answers_a, answers_b) for judge in self.judges)

    def _each(self, ask: Callable[[RubricJudge], list[T]], failed: Callable[[str], T]) -> list[list[T] | T]:
        def one(judge: RubricJudge) -> list[T] | PodiumError:
            try:
                return ask(judge)
            except (ServiceUnreachable, JudgeError) as error:
                return error

        with ThreadPoolExecutor(len(self.judges)) as pool:
            results = list(pool.map(one, self.judges))
        errors = [result for result in results if isinstance(result, PodiumError)]
        if len(errors) == len(results):
            raise errors[0]
        return [failed(str(result)) if isinstance(result, PodiumError) else result for result in results]

    @staticmethod
    def _by_item(by_judge: list[list[T] | T], n: int) -> list[tuple[T, ...]]:
        whole = [entry if isinstance(entry, list) else [entry] * n for entry in by_judge]
        return list(zip(*whole, strict=True))


def _mean(parts: tuple[Verdict, ...]) -> Verdict:
    scores = [part.score for part in parts if part.score is not None]
    return Verdict(
        math.fsum(scores) / len(scores) if scores else None,
        "; ".join(f"{part.judge}: {part.reason}" for part in parts if part.score is not None),
        "; ".join(part.error for part in parts if part.error) or None,
        total(part.tokens_in for part in parts),
        total(part.tokens_out for part in parts),
        total(part.usd for part in parts),
        all(part.cached for part in parts),
        panel=parts,
    )


def _majority(parts: tuple[Comparison, ...]) -> Comparison:
    votes = Counter(part.winner for part in parts)
    winner: Winner | None = "tie" if any(part.winner for part in parts) else None
    if votes["a"] != votes["b"]:
        winner = "a" if votes["a"] > votes["b"] else "b"
    return Comparison(
        winner,
        any(part.flipped for part in parts),
        tuple(reason for part in parts for reason in part.reasons),
        "; ".join(part.error for part in parts if part.error) or None,
        total(part.tokens_in for part in parts),
        total(part.tokens_out for part in parts),
        total(part.usd for part in parts),
        all(part.cached for part in parts),
        all(part.identical for part in parts),
    )
