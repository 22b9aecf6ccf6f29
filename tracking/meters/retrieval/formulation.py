"""From an answer to what is searched for: category, attributes, and hypothetical products (HyDE).

HyDE is Gao et al., Precise Zero-Shot Dense Retrieval without Relevance Labels (2022): the model writes the products
that it would like to find, and what lies near the mean of their vectors and the query's is found.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.shopping.catalogue import as_text
from sweeps.errors import InvalidInput, Problem
from sweeps.retrieving import DEMO, Formulation, Pipeline
from tracking.meters.functions import OwnFunction
from tracking.meters.metrics import NotJsonError, parse_json

WHERE = "evaluate.pipeline.formulation"
Pair = tuple[str, str]


class NotFormulatedError(ValueError):
    """The answer says nothing that could be searched for."""


@dataclass(frozen=True)
class Query:
    """What is searched for.

    Attributes:
        words: The category and the values of the attributes, or the shopper's own.
        attributes: Pairs of name and value, in lower case; the category is one of them.
        products: Hypothetical products.
    """

    words: str
    attributes: frozenset[Pair] = frozenset()
    products: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts whose vectors are averaged: the words, where there are any, and every hypothetical product."""
        return tuple(filter(None, (self.words, *self.products)))


Formulate = Callable[[Mapping[str, Any], str], Query]
"""Of a row and an answer. Raises NotFormulatedError."""


def formulation(settings: Pipeline, base_dir: Path) -> Formulate:
    """How answers are read.

    Raises:
        InvalidInput: The user's own function cannot be loaded; and from what is returned, where it fails.
    """
    if settings.catalogue == DEMO:
        return _demo
    if settings.function is not None:
        return _own(OwnFunction(settings.function, base_dir, WHERE))
    assert isinstance(settings.formulation, Formulation)
    return _mapped(settings.formulation)


def without_products(query: Query) -> Query:
    """The category and attributes of a query alone; all of it where it has none."""
    return Query(query.words, query.attributes) if query.words else query


def _demo(row: Mapping[str, Any], answer: str) -> Query:
    from recipes.commerce.shop import formulated

    value = _json(answer)
    try:
        return _query(formulated(value["proposal"][0]))
    except (LookupError, TypeError, AttributeError):
        raise NotFormulatedError("no proposal with a category and products") from None


def _mapped(paths: Formulation) -> Formulate:
    import jmespath

    searches = {key: jmespath.compile(path) for key, path in paths.model_dump().items() if path is not None}

    def formulate(row: Mapping[str, Any], answer: str) -> Query:
        value = _json(answer)
        try:
            return _query({key: search.search(value) for key, search in searches.items()})
        except jmespath.exceptions.JMESPathError as error:  # a function of the expression that the value does not suit
            raise NotFormulatedError(f"not what the expressions are for: {error}") from None

    return formulate


def _own(function: OwnFunction) -> Formulate:
    def formulate(row: Mapping[str, Any], answer: str) -> Query:
        returned = function(dict(row), answer)
        if returned is None:
            raise NotFormulatedError(f"{function.name} finds nothing to search for")
        if isinstance(returned, str):
            returned = {"products": returned}
        if not isinstance(returned, dict) or set(returned) - {"category", "attributes", "products"}:
            rule = f"it must return category, attributes and products, a text, or None, but got {returned!r:.80}"
            raise function.wrong(dict(row), rule)
        return _query(returned)

    return formulate


def _json(answer: str) -> Any:
    try:
        return parse_json(answer)
    except NotJsonError as error:
        raise NotFormulatedError(f"not JSON: {error}") from None


def _query(said: Mapping[str, Any]) -> Query:
    category = as_text(said.get("category"))
    attributes = list(_pairs(said.get("attributes")))
    products = said.get("products")
    listed = products if isinstance(products, list | tuple) else [products]
    hypothetical = tuple(filter(None, map(as_text, listed)))
    words = ". ".join(filter(None, (category, *(value for _, value in attributes))))
    if not words and not hypothetical:
        raise NotFormulatedError("neither category nor attributes nor products")
    pairs = [*([("category", category)] if category else []), *attributes]
    return Query(words, frozenset((name.casefold(), value.casefold()) for name, value in pairs), hypothetical)


def _pairs(value: Any) -> Iterator[Pair]:
    """Names and values: of an object, of a list of objects with name and value, or values without names."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            for one in inner if isinstance(inner, list) else [inner]:
                if text := as_text(one):
                    yield str(name), text
    elif isinstance(value, list):
        for one in value:
            if isinstance(one, Mapping) and "value" in one:
                yield from _pairs({str(one.get("name", "")): one["value"]})
            else:
                yield from _pairs(one if isinstance(one, Mapping | list) else {"": one})
    elif value is not None:
        yield from _pairs({"": value})


def refuse_unreadable(formulate: Formulate, row: Mapping[str, Any], reference: str) -> Query:
    """The query of a right answer, which every row needs.

    Raises:
        InvalidInput: It has none.
    """
    try:
        return formulate(row, reference)
    except NotFormulatedError as error:
        rule = f"the right answer of row {row['id']!r} cannot be searched for: {error}"
        raise InvalidInput(Problem(WHERE, rule, "say where your answers have category, attributes, products")) from None
