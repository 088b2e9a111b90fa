"""Sentence embeddings: the interface that the semantic router requires, and an offline implementation."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import zipfile
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Protocol

from platformdirs import user_cache_path

from ecowas_lc._embeddings import offline_engine
from ecowas_lc._extras import install_command
from ecowas_lc.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float64]


class Embedder(Protocol):
    """The part of LangChain's ``Embeddings`` that routing uses; vectors need not be normalised."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text."""
        ...

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of one text."""
        ...

    async def aembed_query(self, text: str) -> list[float]:
        """Return what :meth:`embed_query` returns, without blocking the event loop."""
        ...


class OfflineEmbeddings:
    """multilingual-e5-small in 4 bits, run in this process, from the extra ``semantic``; about 10 ms per sentence.

    Questions are compared with questions, so all texts get the prefix ``query:``, as the model's authors recommend
    for symmetric comparisons. You can use it wherever LangChain accepts ``Embeddings``.

    Raises:
        MissingExtraError: The extra ``semantic`` is not installed.
    """

    def __init__(self) -> None:
        self._engine = offline_engine()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a normalised vector of 384 numbers for each text."""
        return self._engine.queries(texts)

    def embed_query(self, text: str) -> list[float]:
        """Return the normalised vector of one text."""
        return self.embed_documents([text])[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return what :meth:`embed_documents` returns, without blocking the event loop."""
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        """Return what :meth:`embed_query` returns, without blocking the event loop."""
        return await asyncio.to_thread(self.embed_query, text)


def check_embeddings(embeddings: object) -> None:
    """Raise an error unless these are embeddings (``None``: the offline ones) and numpy is installed.

    Raises:
        ConfigurationError: They are something else.
        MissingExtraError: numpy is not installed.
    """
    if embeddings is not None and not all(
        callable(getattr(embeddings, method, None)) for method in ("embed_query", "embed_documents")
    ):
        raise ConfigurationError(
            f"{embeddings!r} are not embeddings. Pass LangChain Embeddings, such as OllamaEmbeddings(model=…)."
        )
    if find_spec("numpy") is None:
        raise MissingExtraError(f"Routing by embeddings needs numpy. Run: {install_command('semantic')}")


def name_of(model: Any) -> str:
    """Return a text that identifies an embedding or chat model, as far as its object reveals."""
    name = getattr(model, "model", None) or getattr(model, "model_name", None) or ""
    return f"{type(model).__name__} {name}".strip()


SHIPPED = files("ecowas_lc.supervisor.routing") / "data" / "examples.npz"
SHIPPED_TURNS = files("ecowas_lc.supervisor.routing") / "data" / "turns.npz"
_SAME = 0.99  # cosine of one sentence's vectors from the same model, even with 8 bits or another processor
_BATCH = 64

log = logging.getLogger(__name__)


def example_vectors(
    embedder: Embedder,
    texts: Sequence[str],
    *,
    cache_dir: Path | None = None,
    shipped: Traversable = SHIPPED,
) -> Vectors:
    """Return a vector for each text, from storage if the stored ones belong to this model and these texts.

    Args:
        embedder: The embeddings.
        texts: The texts.
        cache_dir: The folder for computed vectors; ``None`` means the user's cache directory. A failure there only
            costs computing them again.
        shipped: The folder with the vectors of the offline embeddings.
    """
    stored: Traversable = shipped
    if not isinstance(embedder, OfflineEmbeddings):
        stored = _kept_file(embedder, texts, cache_dir)
    vectors = _read(stored, texts)
    if vectors is not None and _is_from(embedder, vectors, texts):
        return vectors
    log.info("Computing the vectors of %d example questions with %s", len(texts), name_of(embedder))
    vectors = embed(embedder, texts)
    if isinstance(stored, Path):
        try:
            write_vectors(stored, vectors, texts)
        except OSError as error:
            log.info("The vectors could not be stored in %s: %s", stored, error)
    return vectors


def embed(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """Compute a vector for each text."""
    import numpy as np

    rows: list[list[float]] = []
    for start in range(0, len(texts), _BATCH):
        rows.extend(embedder.embed_documents(list(texts[start : start + _BATCH])))
    return np.asarray(rows, dtype=np.float64)


def write_vectors(path: Path, vectors: Vectors, texts: Sequence[str]) -> None:
    """Write vectors with 8 bits per number and the digest of their texts, replacing the file atomically."""
    import numpy as np

    scale = np.abs(vectors).max(axis=1, keepdims=True) / 127
    scale[scale == 0] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        try:
            np.savez_compressed(
                part,
                digest=np.array(text_digest(texts)),
                scale=scale.astype(np.float32),
                vectors=np.round(vectors / scale).astype(np.int8),
            )
            part.close()
            os.replace(part.name, path)
        except BaseException:
            os.unlink(part.name)
            raise


def stored_digest(stored: Traversable) -> str | None:
    """Return the digest of the texts whose vectors a file holds, or ``None`` if there is no such file."""
    import numpy as np

    try:
        with stored.open("rb") as file, np.load(file) as content:
            return str(content["digest"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def text_digest(texts: Sequence[str]) -> str:
    """Return a digest that identifies a list of texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _read(stored: Traversable, texts: Sequence[str]) -> Vectors | None:
    import numpy as np

    try:
        with stored.open("rb") as file, np.load(file) as content:
            if str(content["digest"]) != text_digest(texts):
                return None
            vectors: Vectors = content["vectors"].astype(np.float64) * content["scale"]
            return vectors
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _is_from(embedder: Embedder, vectors: Vectors, texts: Sequence[str]) -> bool:
    """Return whether this model produces the stored vectors; its name alone does not prove it."""
    import numpy as np

    now = embed(embedder, texts[:1])[0]
    if now.shape != vectors[0].shape:
        return False
    return bool(now @ vectors[0] >= _SAME * np.linalg.norm(now) * np.linalg.norm(vectors[0]))


def _kept_file(embedder: Embedder, texts: Sequence[str], cache_dir: Path | None) -> Path:
    folder = cache_dir or user_cache_path("ecowas-lc", appauthor=False) / "routing"
    name = hashlib.sha256(f"{name_of(embedder)}\0{text_digest(texts)}".encode()).hexdigest()
    return folder / f"{name[:32]}.npz"
