"""What the benchmarks of data are made of."""

from recipes.data.splitting import Settings, decide
from recipes.data.stream import Source
from tests.benchmarks import leak, million_rows


def test_what_is_planted_together_stays_together_and_a_split_by_rows_parts_it() -> None:
    rows, origins = leak.planted(80, seed=5)
    split = decide(Source("planted rows", None, tuple(rows)), Settings(shares=leak.SHARES))

    def parted(sides: list[int]) -> set[str]:
        found = [{one for one, its in zip(origins, sides, strict=True) if its == side} for side in (0, 1)]
        return found[0] & found[1]

    assert parted(split.sides.tolist()) == set()
    naive = leak.by_rows(rows, seed=5)
    assert len(parted(naive)) > 30
    assert leak.leaking(rows, naive, split) > 0.6
    assert leak.leaking(rows, split.sides.tolist(), split) == 0


def test_the_rows_of_the_help_desk_are_the_same_each_time_and_of_all_kinds() -> None:
    rows = list(million_rows.rows(3000))
    assert rows == list(million_rows.rows(3000))
    assert len({str(row["messages"]) for row in rows}) < 3000, "some are repeated"
    assert 80 < sum(len(row["messages"]) > 3 for row in rows) < 300
