"""Vectors from an OpenAI-compatible embedding endpoint."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.errors import InvalidInput, Problem, ServiceUnreachable
from sweeps.retrieving import EmbeddingEndpoint
from tracking.meters.chat import Endpoint, NoReplyError
from tracking.meters.reply_cache import ReplyCache
from tracking.meters.retrieval.embedding import WHERE, Vectors, unit

PATIENCE = 4  # time-outs that one request may take, its repetitions after 429 and 5xx included


class ServedEmbedder:
    """A model behind an endpoint. What a query's vector cost is paid once: it is kept.

    Args:
        settings: As the sweep says it.
        cache: The file of vectors of queries; None keeps them in memory alone.

    Raises:
        InvalidInput: The key's variable is not set.
    """

    faiss = False

    def __init__(self, settings: EmbeddingEndpoint, cache: Path | None = None) -> None:
        key = os.environ.get(settings.api_key_env, "") if settings.api_key_env else ""
        if settings.api_key_env and not key:
            rule = f"the environment has no {settings.api_key_env}"
            raise InvalidInput(Problem(f"{WHERE}.api_key_env", rule, f"export {settings.api_key_env}=…"))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = settings.endpoint.rstrip("/")
        url = url if url.endswith("/embeddings") else f"{url}/embeddings"
        self._endpoint = Endpoint(url, headers, settings.timeout, PATIENCE * settings.timeout)
        self._settings, self._cache = settings, ReplyCache(cache)
        self.dimension: int | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """See :class:`tracking.meters.retrieval.embedding.Embedder`."""
        return {"name": self._settings.model, "endpoint": self._endpoint.url, "revision": self._settings.revision}

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing is learned."""

    def embed(self, texts: Sequence[str], anew: bool = False) -> Vectors:
        """See :class:`tracking.meters.retrieval.embedding.Embedder`.

        Raises:
            InvalidInput: It gives vectors of another dimension than those of the index.
            ServiceUnreachable: It does not answer, refuses, or answers with something else.
        """
        keys = [self._key(text) for text in texts]
        kept = {key: None if anew else self._cache.get(key) for key in keys}
        known: dict[str, list[float]] = {key: record["vector"] for key, record in kept.items() if record is not None}
        todo = {key: text for key, text in zip(keys, texts) if key not in known}
        asked = list(todo)
        for start in range(0, len(asked), self._settings.batch_size):
            batch = asked[start : start + self._settings.batch_size]
            for key, vector in zip(batch, self._ask([todo[key] for key in batch])):
                known[key] = vector
                if not anew:
                    self._cache.put(key, {"vector": vector})
        for key in keys:  # those that were kept, too: another model may answer now
            self._check(len(known[key]))
        return unit(np.array([known[key] for key in keys], dtype=np.float32))

    def save(self, folder: Path) -> None:
        """Nothing was learned."""

    def load(self, folder: Path) -> None:
        """Nothing was learned."""

    def _key(self, text: str) -> str:
        return hashlib.sha256(json.dumps([self.identity, text], sort_keys=True).encode()).hexdigest()

    def _ask(self, texts: list[str]) -> list[list[float]]:
        who = f"the embedding endpoint {self._endpoint.url}"
        try:
            reply = self._endpoint.post({"model": self._settings.model, "input": texts, "encoding_format": "float"})
            rows = sorted(reply["data"], key=lambda one: int(one["index"]))
            vectors = np.array([one["embedding"] for one in rows], dtype=np.float64)
        except NoReplyError as error:
            raise ServiceUnreachable(f"{who} {error}") from None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            said = f"answers, but not with embeddings ({type(error).__name__}: {error})"
            raise ServiceUnreachable(f"{who} {said}") from None
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            said = f"was given {len(texts)} texts and answers with vectors of shape {vectors.shape}"
            raise ServiceUnreachable(f"{who} {said}, or with numbers that are not finite")
        return [list(map(float, row)) for row in vectors]

    def _check(self, dimension: int) -> None:
        if self.dimension is not None and dimension != self.dimension:
            rule = f"{self._settings.model} gives vectors of {dimension} numbers, and the index is of {self.dimension}"
            hint = "another model answers there now: give it a word as evaluate.pipeline.embedding.revision"
            raise InvalidInput(Problem(WHERE, rule, hint))
        self.dimension = dimension
