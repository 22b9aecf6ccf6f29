"""The block of a sweep YAML that says how products are found by an answer: ``evaluate.pipeline``."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sweeps.errors import nearest
from sweeps.fields import Amount, Block, Count, Names, Text, Url, VariableName, broken_rule, duration_s
from sweeps.grammar import quote

DEMO = "commerce"  # as a catalogue: the demo's shop, with its labels and its shoppers
EMBEDDINGS = ("tfidf", "minilm")
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")


def _jmespath(value: str) -> str:
    import jmespath

    try:
        jmespath.compile(value)
    except jmespath.exceptions.JMESPathError as error:
        told = str(error).splitlines()[0].rstrip(":")
        hint = "for example proposal[0].products, see https://jmespath.org"
        raise broken_rule(f"must be a JMESPath expression, but got {quote(value)}: {told}", hint) from None
    return value


def _table(value: str) -> str:
    if not value.lower().endswith(TABLES):
        raise broken_rule(f"must be a table, but got {quote(value)}", f"valid endings: {', '.join(TABLES)}")
    return value


def _catalogue(value: str) -> str:
    return value if value == DEMO else _table(value)


def _embedding(value: Any) -> Any:
    if isinstance(value, str) and value not in EMBEDDINGS:
        hint = nearest(value, EMBEDDINGS) + ", or write {endpoint: http://…/v1, model: <name>}"
        raise broken_rule(f"unknown embedding {quote(value)}", hint)
    return value


def _formulation(value: Any) -> Any:
    if isinstance(value, str):
        path, colon, function = value.rpartition(":")
        if not (colon and path.endswith(".py") and function.isidentifier()):
            rule = f"must be a block of JMESPath expressions or file.py:function, but got {quote(value)}"
            raise broken_rule(rule, "write {category: …, attributes: …, products: …}")
    return value


Expression = Annotated[Text, AfterValidator(_jmespath)]

Table = Annotated[Text, AfterValidator(_table)]


class Columns(Block):
    """Which columns of the catalogue say what.

    Attributes:
        id: The product's id.
        text: What is embedded of a product; what a product does not have is left out.
    """

    id: Text = "id"
    text: Annotated[Names, Field(min_length=1)] = ("title",)


class Formulation(Block):
    """Where an answer's JSON says what to search for, as JMESPath expressions.

    Attributes:
        category: A text.
        attributes: An object of names and values, or a list of values.
        products: The hypothetical products: a text, or a list of texts.
    """

    category: Expression | None = "category"
    attributes: Expression | None = "attributes"
    products: Expression | None = "products"

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.category or self.attributes or self.products):
            raise broken_rule("must name one of category, attributes and products, but all are null")
        return self


class EmbeddingEndpoint(Block):
    """An OpenAI-compatible endpoint that gives embeddings.

    Attributes:
        endpoint: The base, ``http://host:8000/v1``, or the full address that ends in ``/embeddings``.
        model: Its name there.
        revision: Any word: another one says that another model answers there.
        batch_size: Texts of one request.
        timeout: Of one request.
    """

    endpoint: Url
    model: Text
    revision: Text | None = None
    api_key_env: VariableName | None = None
    batch_size: Annotated[int, Field(ge=1, le=2048)] = 64
    timeout: Annotated[Amount, BeforeValidator(duration_s)] = 60.0


class Profiles(Block):
    """What is known of shoppers, and how much it counts in ranking.

    Attributes:
        history: What shoppers bought: a table with the columns ``shopper`` and ``product``.
        shopper: The field of a row that names its shopper.
        match: Columns of the catalogue whose values a shopper may prefer.
        weight: What a product of the shopper's favourite values gains, on the scale of a cosine.
    """

    history: Table | None = None
    shopper: Text = "shopper"
    match: Annotated[Names, Field(min_length=1)] = ("brand",)
    weight: Annotated[float, Field(ge=0, le=1)] = 0.1


class Pipeline(Block):
    """Products are found by an answer: formulation, retrieval, ranking.

    Attributes:
        catalogue: ``commerce``, or a table of products.
        columns: Of the catalogue.
        labels: A table with the columns ``query``, ``product`` and ``grade``, a whole number; 0 is not relevant.
        query: The field of a row that names its query in the labels.
        text: The field of a row with the shopper's own words; without it, the last turn of the user.
        relevant: The lowest grade that recall and MRR count as relevant.
        formulation: Where an answer says what to search for, or ``file.py:function``.
        embedding: ``tfidf``, ``minilm``, or an endpoint.
        candidates: Products that retrieval hands to ranking.
        top_k: Products that are recommended.
    """

    catalogue: Annotated[Text, AfterValidator(_catalogue)]
    columns: Columns = Columns()
    labels: Table | None = None
    query: Text = "id"
    text: Text | None = None
    relevant: Count = 1
    formulation: Annotated[Text | Formulation, BeforeValidator(_formulation)] = Formulation()
    embedding: Annotated[Literal["tfidf", "minilm"] | EmbeddingEndpoint, BeforeValidator(_embedding)] = "tfidf"
    candidates: Annotated[int, Field(ge=10, le=10_000)] = 100
    top_k: Annotated[int, Field(ge=1, le=1000)] = 10
    profiles: Profiles | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        own = ("columns", "labels", "query", "text", "formulation")
        if self.catalogue == DEMO:
            written = [key for key in own if getattr(self, key) != type(self).model_fields[key].default]
            if self.profiles is not None and self.profiles.history is not None:
                written.append("profiles.history")
            if written:
                rule = f"{', '.join(written)} belong to a catalogue of your own, and the demo's shop has its own"
                raise broken_rule(rule, "leave them out, or name a table as catalogue")
        elif self.labels is None:
            rule = "a catalogue of your own needs labels: which products are right for which query"
            raise broken_rule(rule, "add labels: <table with the columns query, product, grade>")
        elif self.profiles is not None and self.profiles.history is None:
            raise broken_rule("profiles need a history", "add history: <table with the columns shopper, product>")
        if self.candidates < self.top_k:
            rule = f"candidates must be at least top_k, but got candidates={self.candidates}, top_k={self.top_k}"
            raise broken_rule(rule)
        return self

    @property
    def function(self) -> str | None:
        """The user's own ``file.py:function`` that formulates; None where expressions do."""
        return self.formulation if isinstance(self.formulation, str) else None

    @property
    def tables(self) -> dict[str, str]:
        """Every table that it is made of, by its key."""
        history = self.profiles.history if self.profiles else None
        found = {"catalogue": self.catalogue, "labels": self.labels, "profiles.history": history}
        return {key: name for key, name in found.items() if name is not None and name != DEMO}


def as_pipeline(value: Any) -> Any:
    """A catalogue alone is a pipeline."""
    return {"catalogue": value} if isinstance(value, str) else value


def written_tables(block: Any) -> dict[str, str]:
    """The tables that a block names before it was checked, by their keys."""
    block = as_pipeline(block)
    if not isinstance(block, Mapping):
        return {}
    profiles = block.get("profiles")
    found = {key: block.get(key) for key in ("catalogue", "labels")}
    found["profiles.history"] = profiles.get("history") if isinstance(profiles, Mapping) else None
    return {key: name for key, name in found.items() if isinstance(name, str) and name and name != DEMO}
