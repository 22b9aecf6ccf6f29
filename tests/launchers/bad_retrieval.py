"""What can be wrong with a catalogue, its labels, and how products are found; see ``bad_cases.py``."""

import json
from collections.abc import Callable

from tests.embeddings import embedding_server
from tests.launchers.stage import RELATIVE, Arrange, Case, Stage, plan, submit

PRODUCTS = "id,title,brand\np1,Oak Tent,Tarn\np2,Pine Tent,Umbra\np3,Steel Mug,Tarn\n"
LABELS = "query,product,grade\n" + "".join(f"q{n},p{1 + n % 3},1\n" for n in range(60))
ROWS = "".join(
    json.dumps(
        {"id": f"q{n}", "prompt": f"a tent for {n}", "completion": {"category": "Tents", "products": ["Oak Tent"]}}
    )
    + "\n"
    for n in range(60)
)
PIPELINE = "evaluate.pipeline={catalogue: products.csv, labels: labels.csv%s}"
SHOP = (PIPELINE % "",)


def shop(
    products: str | bytes = PRODUCTS,
    labels: str = LABELS,
    rows: str = ROWS,
    more: Callable[[Stage], None] | None = None,
) -> Arrange:
    """A catalogue with labels and rows, one of which is wrong."""

    def arrange(stage: Stage) -> None:
        stage.write("products.csv", products)
        stage.write("labels.csv", labels)
        stage.write("rows.jsonl", rows)
        if more is not None:
            more(stage)

    return arrange


def _of_other_length(stage: Stage) -> None:
    """An endpoint whose vectors of several texts are longer than that of one."""
    stage.values["judge"] = embedding_server(stage.stack, dimension=lambda texts: 8 if len(texts) > 1 else 4)


def _no_embeddings(stage: Stage) -> None:
    stage.values["judge"] = embedding_server(stage.stack, dimension=None)


RETRIEVAL: tuple[Case, ...] = (
    plan(
        "A catalogue of your own without labels",
        "evaluate.pipeline={catalogue: products.csv}",
        "a catalogue of your own needs labels: which products are right for which query",
        "add labels: <table with the columns query, product, grade>",
    ),
    plan(
        "A catalogue that is no table",
        "evaluate.pipeline={catalogue: products.xlsx, labels: labels.csv}",
        'must be a table, but got "products.xlsx"',
        "valid endings: .csv, .tsv, .jsonl, .parquet",
    ),
    plan(
        "It is not there",
        "evaluate.pipeline={catalogue: gone.csv, labels: labels.csv}",
        "no such file: gone.csv",
        RELATIVE,
    ),
    plan(
        "Labels beside the demo's shop",
        "evaluate.pipeline={catalogue: commerce, labels: labels.csv}",
        "labels belong to a catalogue of your own, and the demo's shop has its own",
        "leave them out, or name a table as catalogue",
    ),
    plan(
        "An unknown embedding",
        PIPELINE % ", embedding: minilmm",
        'unknown embedding "minilmm"',
        'did you mean "minilm"?, or write {endpoint: http://…/v1, model: <name>}',
    ),
    plan(
        "An expression that is none",
        PIPELINE % ", formulation: {products: 'proposal[0'}",
        'must be a JMESPath expression, but got "proposal[0"',
    ),
    plan(
        "Fewer candidates than are recommended",
        PIPELINE % ", candidates: 20, top_k: 50",
        "candidates must be at least top_k, but got candidates=20, top_k=50",
    ),
    plan(
        "A search by a score that nothing gives",
        ("search.metric=e2e/score", "search.mode=max"),
        "e2e/score is not measured by this sweep",
        "add a pipeline under evaluate",
    ),
    submit(
        "Two products with one id",
        SHOP,
        "line 5: products.csv: id 'p1' is that of two products, first in line 2",
        "every product needs an id of its own and a text",
        shop(PRODUCTS + "p1,Elm Tent,Tarn\n"),
    ),
    submit(
        "A product without a text",
        SHOP,
        "line 5: products.csv: product 'p4' has no text: title are empty",
        "every product needs an id of its own and a text",
        shop(PRODUCTS + "p4,,Tarn\n"),
    ),
    submit(
        "A catalogue without its column of texts",
        SHOP,
        "products.csv has no column 'title'",
        "valid: id, name",
        shop("id,name\np1,Oak Tent\n"),
    ),
    submit(
        "A label of a product that is not sold",
        SHOP,
        "line 62: labels.csv: 1 labels are of products that are not in products.csv, first 'p9'",
        "take both from the same version of the data",
        shop(labels=LABELS + "q1,p9,1\n"),
    ),
    submit(
        "A grade that is no number",
        SHOP,
        "line 62: labels.csv: a grade must be a whole number from 0 to 1000, but got 'Exact'",
        "0 is not relevant",
        shop(labels=LABELS + "q1,p3,Exact\n"),
    ),
    submit(
        "A query that nobody has judged",
        SHOP,
        "evaluate.pipeline.labels: no product is judged for the query",
        "",
        shop(labels="query,product,grade\nq0,p1,1\n"),
    ),
    submit(
        "A right answer that says nothing to search for",
        SHOP,
        "cannot be searched for: neither category nor attributes nor products",
        "say where your answers have category, attributes, products",
        shop(rows=ROWS.replace('"category"', '"kind"').replace('"products"', '"titles"')),
    ),
    submit(
        "The demo's shop for other data",
        ("evaluate.pipeline=commerce",),
        "the shop commerce is for the demo's data, but row '0' has the request None",
        "name a catalogue of your own, and its labels",
    ),
    submit(
        "An embedding endpoint that gives vectors of another length",
        (PIPELINE % ", embedding: {endpoint: '{judge}', model: e}",),
        "e gives vectors of 4 numbers, and the index is of 8",
        "another model answers there now: give it a word as evaluate.pipeline.embedding.revision",
        shop(more=_of_other_length),
    ),
    submit(
        "An embedding endpoint that gives no embeddings",
        (PIPELINE % ", embedding: {endpoint: '{judge}', model: e}",),
        "the embedding endpoint {judge}/embeddings answers, but not with embeddings",
        "",
        shop(more=_no_embeddings),
        code=5,
    ),
)
