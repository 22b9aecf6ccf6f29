"""The block of a sweep YAML that says how the champion will be served, and so how trials are measured."""

from typing import Annotated

from pydantic import Field

from sweeps.fields import Block


class Serving(Block):
    """How answers are made. The champion's certificate says it, and ``podium serve`` does it.

    Attributes:
        guided: Every answer of a trial is forced into ``evaluate.schema``, token by token. The base is then measured
            guided as well, and a champion must be better than that too.
        rescore: So many of the best are answered on dev the other way too (free where they are guided, guided where
            they are free), so that nobody is served in a way in which nobody was measured.
    """

    guided: bool = False
    rescore: Annotated[int, Field(ge=0)] = 0
