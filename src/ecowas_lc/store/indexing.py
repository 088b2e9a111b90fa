"""The index configuration of a store: which texts of an item are indexed, their words, and their vectors."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Literal, get_args

from langchain_core.embeddings import Embeddings
from langgraph.store.base import IndexConfig, SearchOp, ensure_embeddings, get_text_at_path, tokenize_path

from ecowas_lc._embeddings import OfflineEngine, check_offline, offline_engine, offline_installed
from ecowas_lc.errors import ConfigurationError, CorruptDataError, DimensionMismatchError, InvalidInputError
from ecowas_lc.search import words
from ecowas_lc.search.index import Hit, Passing, SearchIndex
from ecowas_lc.search.items import SearchMode, Write
from ecowas_lc.search.place import Collection, Namespace
from ecowas_lc.storage.ops import Op
from ecowas_lc.store.contents import Contents


class OfflineSearchEmbeddings(Embeddings):
    """The offline model for search, which compares questions with passages; 384 dimensions.

    Raises:
        MissingExtraError: The extra ``semantic`` is not installed.
    """

    def __init__(self) -> None:
        check_offline()  # the model itself loads with the first text, because loading takes half a second

    @property
    def _engine(self) -> OfflineEngine:
        return offline_engine()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each passage."""
        return self._engine.passages(texts)

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question."""
        return self._engine.queries([text])[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return what :meth:`embed_documents` returns, without blocking the event loop."""
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        """Return what :meth:`embed_query` returns, without blocking the event loop."""
        return await asyncio.to_thread(self.embed_query, text)


def offline_index() -> RedisIndexConfig | None:
    """Return the index configuration for a store without one; ``None`` if the extras are not installed."""
    return {} if offline_installed() and find_spec("snowballstemmer") else None


_OFFLINE_DIMENSIONS = 384
_WHOLE = "$"


class RedisIndexConfig(IndexConfig, total=False):
    """langgraph's ``IndexConfig`` with further options of this store's index.

    Without ``embed`` the offline embeddings of the extra ``semantic`` are used; ``embed=None`` indexes words only.
    Without ``dims`` the first vector determines the length of all vectors.
    """

    words: bool
    """Whether items can be found by their words (BM25; English, French and Portuguese); default: True."""
    mode: SearchMode
    """The comparison for a ``query``: ``"meaning"`` (default), ``"words"`` or ``"both"``."""
    vectors: Literal["int8", "float32"]
    """The format in which a process keeps vectors: ``"int8"`` (default) takes a quarter of the memory."""


class Indexing:
    """A checked index configuration, and the index that it describes."""

    def __init__(self, config: Mapping[str, Any], at: Collection, contents: Contents) -> None:
        if not isinstance(config, Mapping):
            raise ConfigurationError(
                f'index must be an index configuration such as {{"dims": 384, "embed": …}}, not {config!r}.'
            )
        unknown = config.keys() - RedisIndexConfig.__annotations__.keys() - IndexConfig.__annotations__.keys()
        unknown = {name for name in unknown if not name.startswith("__") and name not in _PEERS}
        if unknown:
            raise ConfigurationError(
                f"The index configuration has no option {sorted(unknown)[0]!r}. Use "
                f"{', '.join(['dims', 'embed', 'fields', 'words', 'mode', 'vectors'])}."
            )
        self.embeddings, self.dimensions = _embeddings_of(config)
        self.has_words = bool(config.get("words", True))
        if self.embeddings is None and not self.has_words:
            raise ConfigurationError("The index has neither embeddings nor words: pass embed, or leave words out.")
        self._mode: SearchMode = config.get("mode") or ("meaning" if self.embeddings else "words")
        self._check_mode(self._mode)
        vectors = config.get("vectors", "int8")
        if vectors not in ("int8", "float32"):
            raise ConfigurationError(f'vectors must be "int8" or "float32", not {vectors!r}.')
        self._paths = [_path(path) for path in _checked_paths(config.get("fields") or [_WHOLE])]
        self.index = SearchIndex(
            at, self.dimensions, has_words=self.has_words, vectors=vectors, opener=contents.open
        )

    @property
    def embeds(self) -> bool:
        """Whether texts need vectors."""
        return self.embeddings is not None

    def mode_of(self, op: SearchOp) -> SearchMode:
        """Return what a search compares its query by.

        Raises:
            InvalidInputError: The mode does not exist, or this index does not support it.
        """
        mode: SearchMode = getattr(op, "mode", None) or self._mode
        self._check_mode(mode)
        return mode

    def _check_mode(self, mode: object) -> None:
        if mode not in get_args(SearchMode):
            allowed = ", ".join(map(repr, get_args(SearchMode)))
            raise InvalidInputError(f"mode must be one of {allowed}, not {mode!r}.")
        if mode != "words" and self.embeddings is None:
            raise InvalidInputError(
                f"mode={mode!r} needs embeddings: set embed and dims in the index configuration."
            )
        if mode != "meaning" and not self.has_words:
            raise InvalidInputError(f'mode={mode!r} needs words: set "words": True in the index configuration.')

    def texts_of(self, value: Mapping[str, Any], index: Literal[False] | Sequence[str] | None) -> list[str]:
        """Return the texts of an item to index, without empty ones.

        Raises:
            InvalidInputError: ``index`` is not False, None or a list of paths.
        """
        if index is False:
            return []
        paths = self._paths if index is None else [_path(path) for path in _checked_paths(index)]
        texts = [text for path in paths for text in get_text_at_path(value, path)]
        return [text for text in texts if text.strip()]

    def with_rows(
        self, write: Write, texts: Sequence[str], vectors: Mapping[str, Sequence[float]], contents: Contents
    ) -> Write:
        """Return the write with the rows that the index keeps for the item."""
        item_id = write.item_id
        word_row = words.row_of([readable(text) for text in texts]) if self.has_words else b""
        quantised = exact = b""
        if self.embeds:
            from ecowas_lc.search.copies import rows_of

            quantised, exact = rows_of([vectors[text] for text in texts])
        return replace(
            write,
            words=contents.seal(word_row, item_id, b"w"),
            quantised=contents.seal(quantised, item_id, b"q"),
            vectors=contents.seal(exact, item_id, b"f"),
        )

    def search_op(
        self,
        under: Namespace,
        query: str,
        vector: Sequence[float] | None,
        mode: SearchMode,
        wanted: int,
        passing: Passing,
    ) -> Op[list[Hit]]:
        """Search the index; see :meth:`SearchIndex.search_op`."""
        if vector is not None:
            self.learn_dimensions(len(vector))
        return self.index.search_op(tuple(under), query, vector, mode, wanted, passing)

    def learn_dimensions(self, length: int) -> None:
        """Use the length of the first vector for all vectors, if the configuration does not set it.

        Raises:
            DimensionMismatchError: The vector has another length.
        """
        if self.dimensions is None:
            self.dimensions = self.index.dimensions = length
        elif self.dimensions != length:
            raise DimensionMismatchError(
                f"The query's vector has {length} dimensions, and the index has {self.dimensions}."
            )

    def checked(self, texts: Sequence[str], vectors: object) -> dict[str, Sequence[float]]:
        """Return the vectors that the embeddings computed, by text.

        Raises:
            DimensionMismatchError: A vector does not have the index's dimensions.
            InvalidInputError: The number of vectors differs from the number of texts, or a value is not a finite
                number.
        """
        import numpy as np

        try:
            rows = list(vectors)  # type: ignore[call-overload]
            lengths = {len(row) for row in rows}
            finite = bool(np.isfinite(np.asarray(rows, dtype=np.float64)).all()) if len(lengths) <= 1 else True
        except (TypeError, ValueError):
            rows, lengths, finite = [], set(), False
        if self.dimensions is None and len(lengths) == 1:
            self.learn_dimensions(*lengths)
        if lengths - {self.dimensions}:
            raise DimensionMismatchError(
                f"The embeddings returned a vector of {max(lengths - {self.dimensions})} dimensions, and the "
                "index "
                f'has "dims": {self.dimensions}. Set dims to that number; nothing was written.'
            )
        if len(rows) != len(texts) or not finite:
            raise InvalidInputError(
                f"The embeddings did not return {len(texts)} vectors of finite numbers for as many texts; nothing "
                "was written. Check the embedding model."
            )
        return dict(zip(texts, rows, strict=True))


# Options of langgraph's own stores that have no counterpart here; their values have no effect.
_PEERS = {"ann_index_config", "distance_type"}


def first_vector(row: bytes, dimensions: int) -> list[float]:
    """Return the first vector of a stored row.

    Raises:
        CorruptDataError: The row has no vector with this number of dimensions.
    """
    if not row or len(row) % (4 * dimensions):
        raise CorruptDataError("A stored vector is not in the storage format. Delete the item, or put it again.")
    return list(struct.unpack(f"<{dimensions}f", row[: 4 * dimensions]))


def readable(text: str) -> str:
    """Return a text's words; of a JSON object or list, its texts and numbers without names and escapes."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return " ".join(_leaves(json.loads(text)))
    except (ValueError, RecursionError):
        return text


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _path(path: str) -> str | list[str]:
    return path if path == _WHOLE else tokenize_path(path)


def _checked_paths(paths: object) -> Iterable[str]:
    if isinstance(paths, (list, tuple)) and all(isinstance(path, str) and path for path in paths):
        return paths
    raise InvalidInputError(f"index must be False, None or a list of paths such as ['text'], not {paths!r}.")


def _embeddings_of(config: Mapping[str, Any]) -> tuple[Embeddings | None, int | None]:
    dims = config.get("dims")
    if dims is not None and (isinstance(dims, bool) or not isinstance(dims, int) or dims < 1):
        raise ConfigurationError(f"dims must be a whole number, 1 or more, not {dims!r}.")
    if "embed" not in config:
        if dims not in (None, _OFFLINE_DIMENSIONS):
            raise ConfigurationError(
                f"The offline embeddings have {_OFFLINE_DIMENSIONS} dimensions, not {dims}. Pass embed, or leave "
                "dims out."
            )
        return OfflineSearchEmbeddings(), _OFFLINE_DIMENSIONS
    if config["embed"] is None:
        return None, None
    return ensure_embeddings(config["embed"]), dims
