"""Local judges, closed when a test ends."""

from collections.abc import Callable, Iterator

import pytest

from tests.tracking.meters.judge.serving import Endpoint, Reply


@pytest.fixture
def endpoint_of() -> Iterator[Callable[..., Endpoint]]:
    made: list[Endpoint] = []

    def make(reply: Reply, drop_s: float = 0.0, holds: bool = True) -> Endpoint:
        made.append(Endpoint(reply, drop_s, holds))
        return made[-1]

    yield make
    for endpoint in made:
        endpoint.close()
