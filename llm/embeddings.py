"""Vectors of texts, and scores of documents for a query."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.backends.ir import Graph
from jitllm.llm import pooling as pools
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import UnsupportedArchitecture
from jitllm.llm.inspection import Inspection
from jitllm.llm.state.engine import Engine
from jitllm.llm.state.reserve import MAX_TOKENS
from jitllm.llm.texts import Text, is_many

Floats = npt.NDArray[np.float32]

_log = logging.getLogger("jitllm.embeddings")
_LAST_NORM = "output_norm"  # where the hidden states of a model with logits end


class Embeddings(Inspection):
    """What a model makes of whole texts; `Model` is one."""

    config: ModelConfig
    n_ctx: int
    head: pools.Head | None

    def embed(
        self,
        texts: Text | Sequence[Text],
        *,
        pooling: str | None = None,
        normalize: bool = True,
    ) -> Floats:
        """Return the vectors of texts.

        Instructions that a model wants before a text ("query: ", "search_document: ") are part of
        the text. Texts longer than the context are cut at their end, with a warning in the log; the
        token that ends texts is kept.

        Parameters
        ----------
        texts : str, ids, or a list of these
        pooling : str, optional
            "mean" of the tokens' hidden states, "cls" for the first token's, "last" for the last
            one's; "none" gives all of them, and takes one text. By default what the file says; an
            encoder whose file says nothing has "mean", another model "last".
        normalize : bool
            Give vectors the length 1, so that their product is the cosine.

        Returns
        -------
        float32 [n_texts, n]
            [n] for one text, [n_tokens, n] for pooling "none".

        Raises
        ------
        ValueError
            If the pooling is not known or the model is a reranker, or a text has no tokens.
        """
        kind, many = self._pooling(pooling), _many(texts)
        if kind == "none" and many is not None:
            raise ValueError('expected one text with pooling="none", got a list of them')
        each: list[Any] = [texts] if many is None else many
        ids = [self._fitting(self.to_ids(text)) for text in each]
        width = self._n_columns()
        vectors = [pools.pool(states, kind) for states in self._states(ids, kind)]
        whole = np.stack(vectors) if vectors else np.empty((0, width), np.float32)
        whole = pools.normalize(whole) if normalize else whole
        return whole[0] if many is None else whole

    def rerank(self, query: str, documents: Sequence[str]) -> Floats:
        """Return how well documents fit a query, by the classifier of a reranker.

        The scores are what the model computes: larger is better, most models' are logits. A pair is
        written as the model's chat template "rerank" says, or else with the tokens of beginning,
        separation and end around the two texts; a pair longer than the context is cut.

        Parameters
        ----------
        query : str
        documents : sequence of str

        Returns
        -------
        float32 [n_documents]

        Raises
        ------
        UnsupportedArchitecture
            If the file has no classifier.
        """
        head = self.head
        if head is None:
            raise UnsupportedArchitecture(
                "expected a model with a classifier (tensors 'cls.*') to rerank, got one without; "
                "compare the vectors of `embed` instead"
            )
        if isinstance(documents, str):
            raise TypeError(f"expected a list of documents, got one text: {documents!r:.80}")
        pairs = [self._fitting(self._pair(query, document)) for document in documents]
        states = self._states(pairs, head.pooling)
        return np.array([head(pools.pool(one, head.pooling))[0] for one in states], np.float32)

    def _pooling(self, wanted: str | None) -> str:
        if wanted is not None:
            if wanted not in pools.KINDS[:-1]:
                raise ValueError(f"pooling must be one of {pools.KINDS[:-1]}, got {wanted!r}")
            return wanted
        own = pools.pooling_of(self.config)
        if own == "rank":
            raise ValueError("this model is a reranker: use `rerank`, or say which pooling")
        if own in ("", "none"):
            return "mean" if self._reader.is_encoder else "last"
        return own

    @property
    def _reader(self) -> Graph:
        """The graph that reads texts: where there are an encoder and a decoder, the encoder."""
        return self.engine.graph.encoder or self.engine.graph

    def _n_columns(self) -> int:
        graph = self._reader
        return graph.output.width if graph.is_encoder else _last_norm(graph.values()).width

    def _states(self, texts: list[list[int]], kind: str) -> Iterator[Floats]:
        """Yield the hidden states, behind the last norm, that a pooling reads: [rows, n]."""
        if not all(texts):
            raise ValueError("expected texts with tokens, got one without")
        if not self.engine.graph.is_encoder:
            states = encoder_states if self.engine.graph.encoder else last_states
            for ids in texts:
                yield states(self.engine, ids, pools.rows_for(kind, len(ids)))
            return
        for some in _side_by_side(texts, min(MAX_TOKENS, self.engine.max_tokens)):
            yield from self.engine.run_texts(some, [pools.rows_for(kind, len(ids)) for ids in some])

    def _fitting(self, ids: list[int]) -> list[int]:
        """Return a text's tokens, cut to the context but for the token that ends it."""
        limit = self.n_ctx
        if self._reader.is_encoder:
            limit = min(limit, self.engine.max_source or self.engine.max_tokens)
        if len(ids) <= limit:
            return ids
        _log.warning("a text of %d tokens is cut to the %d that the model takes", len(ids), limit)
        tokenizer = self.tokenizer
        ends = () if tokenizer is None else (tokenizer.sep_id, tokenizer.eos_id)
        return [*ids[: limit - 1], ids[-1]] if ids[-1] in ends else ids[:limit]

    def _pair(self, query: str, document: str) -> list[int]:
        template = self.metadata.get("tokenizer.chat_template.rerank")
        if isinstance(template, str):
            text = template.replace("{query}", query).replace("{document}", document)
            return self.tokenize(text, add_special=False)
        tokenizer = self.need_tokenizer("a query")
        first = self.tokenize(query, parse_special=False)
        second = self.tokenize(document, parse_special=False)
        if tokenizer.add_bos and second[:1] == [tokenizer.bos_id]:
            del second[0]
        if tokenizer.add_eos and tokenizer.add_sep and tokenizer.sep_id is not None:
            first.append(tokenizer.sep_id)
        return first + second


def _side_by_side(texts: list[list[int]], n_tokens: int) -> Iterator[list[list[int]]]:
    """Cut a list into runs: of short texts as many as together have `n_tokens`."""
    run: list[list[int]] = []
    for ids in texts:
        if run and sum(map(len, run)) + len(ids) > n_tokens:
            yield run
            run = []
        run.append(ids)
    if run:
        yield run


def encoder_states(engine: Engine, ids: Sequence[int], rows: npt.NDArray[np.intp]) -> Floats:
    """Return what the encoder of a model with encoder and decoder makes of a text: [rows, n]."""
    cells = engine.new_cells()
    try:
        return engine.encode(cells, ids, rows)
    finally:
        cells.release()


def last_states(engine: Engine, ids: Sequence[int], rows: npt.NDArray[np.intp]) -> Floats:
    """Return what a model with logits has behind its last norm, float32 [rows, n].

    Parameters
    ----------
    engine : Engine
    ids : sequence of int
    rows : ints, ascending

    Raises
    ------
    UnsupportedArchitecture
        If the model has no such norm.
    """
    _last_norm(engine.graph.values())
    cells, kept = engine.new_cells(), _Kept()
    try:
        for _ in engine.run(cells, ids, 0, rows, [kept]):
            pass
        return np.concatenate(kept.pieces)
    finally:
        cells.release()


class _Kept:
    """Keeps the last hidden states of a model with logits."""

    taps = frozenset({_LAST_NORM})

    def __init__(self) -> None:
        self.pieces: list[Floats] = []

    def __call__(self, tap: str, values: Floats) -> None:
        self.pieces.append(values.copy())


def _last_norm(values: Mapping[str, Any]) -> Any:
    if _LAST_NORM in values and values[_LAST_NORM].rows == "O":
        return values[_LAST_NORM]
    raise UnsupportedArchitecture(
        f"expected a model with a norm {_LAST_NORM!r} before its logits, got one without: it has "
        "no hidden states to pool"
    )


def _many(texts: Any) -> list[Any] | None:
    """Return the texts of a list, None for a single text."""
    if isinstance(texts, str) or (len(texts) and not is_many(texts)):
        return None
    return list(_checked(texts))


def _checked(texts: Iterable[Any]) -> Iterable[Any]:
    for text in texts:
        if isinstance(text, int | np.integer):
            raise TypeError("expected texts or lists of ids, got ids and texts in one list")
        yield text
