"""The index of a catalogue: one vector for each product, searched exactly, kept by what it was made of.

Its folder is named by the catalogue's contents and by the embedding, so that a catalogue that changed has another
index, and the old one stays true to the old catalogue.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.files import sha256_of
from recipes.shopping.catalogue import Catalogue
from sweeps.errors import InvalidInput, Problem
from sweeps.retrieving import EmbeddingEndpoint
from tracking.meters.retrieval.embedding import WHERE, Embedder, MiniLm, TfidfLsa, Vectors
from tracking.meters.retrieval.served_embedding import ServedEmbedder

FOLDER = "indexes"  # in the cache
MANIFEST, VECTORS, QUERIES = "manifest.json", "vectors.npy", "embeddings.jsonl"
_DIGITS = 6  # of a cosine that order products; beyond them is rounding, which differs with the library


@dataclass(frozen=True)
class Index:
    """Products by their vectors.

    Attributes:
        catalogue: Whose places the results are.
        embedder: Of queries.
        vectors: Shape (products, dimension), rows of length 1.
        manifest: What it was made of.
        flat: FAISS's flat index of inner products, where that searches.
    """

    catalogue: Catalogue
    embedder: Embedder
    vectors: Vectors
    manifest: dict[str, Any]
    flat: Any = None

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.intp], Vectors]:
        """The places of the ``k`` products nearest to each vector and their cosines, shape (queries, k) each.

        The nearest come first; equal ones in the catalogue's order.
        """
        k = min(k, len(self.vectors))
        if self.flat is not None:
            cosines, places = self.flat.search(queries, k)
        else:
            # Rounded before the cut: which of equal ones are among the k must not hang on a library's last digit.
            cosines = np.round(queries @ self.vectors.T, _DIGITS)
            places = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
            cosines = np.take_along_axis(cosines, places, axis=1)
        rounded = np.round(cosines, _DIGITS)
        order = np.lexsort((places, -rounded), axis=1)
        return np.take_along_axis(places, order, axis=1), np.take_along_axis(rounded, order, axis=1)


def embedder_of(embedding: str | EmbeddingEndpoint, cache: Path) -> Embedder:
    """What ``evaluate.pipeline.embedding`` names.

    Raises:
        InvalidInput: Its packages are not installed, or its key is not set.
    """
    if isinstance(embedding, EmbeddingEndpoint):
        return ServedEmbedder(embedding, cache / FOLDER / QUERIES)
    return MiniLm() if embedding == "minilm" else TfidfLsa()


def open_index(catalogue: Catalogue, embedder: Embedder, cache: Path) -> Index:
    """The index of a catalogue; made where the cache has none, or a damaged one.

    Raises:
        InvalidInput: The texts have no words, or the embedder gives another dimension than the index has.
        ServiceUnreachable: The embeddings are from an endpoint, and it does not answer.
    """
    made_of = {"catalogue": catalogue.digest, "products": len(catalogue.products), "embedding": embedder.identity}
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    folder = cache / FOLDER / key[:16]
    manifest = _manifest(folder)
    if manifest is None or {name: manifest.get(name) for name in made_of} != made_of:
        embedder.fit(texts := [product.text for product in catalogue.products])
        vectors = embedder.embed(texts, anew=True)  # the index keeps them
        manifest = _write(folder, vectors, embedder, made_of)
    else:
        vectors = np.load(folder / VECTORS, allow_pickle=False)
        embedder.load(folder)
        if isinstance(embedder, ServedEmbedder):
            embedder.dimension = vectors.shape[1]
    return Index(catalogue, embedder, vectors, manifest, _flat(vectors) if embedder.faiss else None)


def digests(tables: Mapping[str, str], base_dir: Path) -> dict[str, str]:
    """The SHA-256 of tables, by their keys.

    Raises:
        InvalidInput: One is not there.
    """
    try:
        return {key: sha256_of(base_dir / Path(name).expanduser()) for key, name in tables.items()}
    except OSError as error:
        rule = f"{error.filename} cannot be read: {error.strerror}"
        raise InvalidInput(Problem("evaluate.pipeline", rule)) from None


def refuse_changed(tables: Mapping[str, str], found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Compare tables with what they were when the sweep began.

    Args:
        tables: By key.
        found: Their SHA-256 now.
        expected: What it was.

    Raises:
        InvalidInput: One has changed since.
    """
    for key, digest in found.items():
        if key in expected and digest != expected[key]:
            rule = f"{tables[key]} has changed since the sweep began: {digest[:12]}…, and it was {expected[key][:12]}…"
            hint = "put the old file back, or submit the sweep under another name"
            raise InvalidInput(Problem(f"evaluate.pipeline.{key}", rule, hint))


def _manifest(folder: Path) -> dict[str, Any] | None:
    """What a folder's index was made of; None where there is none, or its files are not as they were written."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = all(sha256_of(folder / name) == digest for name, digest in manifest["files"].items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return manifest if whole else None


def _write(folder: Path, vectors: Vectors, embedder: Embedder, made_of: dict[str, Any]) -> dict[str, Any]:
    """Write an index beside its place and move it there in one piece."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".index-", dir=folder.parent))
    np.save(draft / VECTORS, vectors)
    embedder.save(draft)
    files = {path.name: sha256_of(path) for path in sorted(draft.iterdir())}
    manifest = {**made_of, "dimension": int(vectors.shape[1]), "files": files}
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    try:
        if folder.exists():  # damaged
            shutil.rmtree(folder)
        os.rename(draft, folder)
    except OSError:  # another process was first, with the same
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _flat(vectors: Vectors) -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InvalidInput(Problem(WHERE, f"faiss cannot be imported: {error}")) from None
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    return flat
