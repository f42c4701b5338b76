"""Logits of given tokens, and values inside a run by name."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt

from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ContextLengthExceeded, ModelFormatError, UnsupportedArchitecture
from jitllm.llm.state.engine import Engine, Hooks
from jitllm.llm.texts import Text, Texts

if TYPE_CHECKING:
    from jitllm.llm.control_vector import ControlVector
    from jitllm.llm.hooks import ActivationCache, HookFunction, HookPoints, NameFilter
    from jitllm.llm.model import Model
    from jitllm.llm.state import sequence

Floats = npt.NDArray[np.float32]
RowsWanted = slice | int | Sequence[int] | npt.NDArray[np.integer[Any]] | None


class Inspection(Texts, ABC):
    """What a model can show of its inside; `Model` is one."""

    engine: Engine
    config: ModelConfig

    @abstractmethod
    def sequence(self, tokens: Text | None = None) -> "sequence.Sequence":
        """Return a new sequence, with these tokens or this text already computed."""

    @property
    def has_encoder(self) -> bool:
        """Whether an encoder reads prompts, and a decoder writes what follows from them (T5)."""
        return self.engine.graph.encoder is not None

    def need_decoder_start(self) -> int:
        """Return the token that decoders start with.

        Raises
        ------
        UnsupportedArchitecture
            If the model has no encoder beside its decoder.
        ModelFormatError
            If the file does not name a token of the vocabulary.
        """
        if not self.has_encoder:
            raise UnsupportedArchitecture(
                f"expected a model with an encoder and a decoder; got one of architecture "
                f"{self.config.architecture!r}"
            )
        token = self.config.metadata.get("decoder_start_token_id", int)
        if not 0 <= token < self.n_vocab:
            raise ModelFormatError(
                f"key '{self.config.architecture}.decoder_start_token_id': expected 0 to "
                f"{self.n_vocab - 1}, got {token}"
            )
        return token

    def forward(
        self, tokens: Text, rows: RowsWanted = None, *, source: Text | None = None
    ) -> Floats:
        """Return the logits behind each token; an encoder's hidden states, behind its last norm.

        Parameters
        ----------
        tokens : str or ids
        rows : slice, int or ints, optional
            Which tokens' logits to return: `slice(-1, None)` for the last only. Negative numbers
            count from the end; an array of bool, one for each token, chooses.
        source : str or ids, optional
            For a model with an encoder and a decoder: what the encoder reads. `tokens` are then the
            decoder's, the first being the one that decoders start with; a text gets it.

        Returns
        -------
        float32 [n_tokens, n_vocab], or a row for each of `rows`

        Raises
        ------
        IndexError
            If there is no such row.
        ContextLengthExceeded
        """
        return self._forward(tokens, rows, (), source)

    def run_with_hooks(
        self,
        tokens: Text,
        fwd_hooks: "Iterable[tuple[NameFilter, HookFunction]] | Mapping[str, HookFunction]" = (),
        rows: RowsWanted = None,
        *,
        source: Text | None = None,
    ) -> Floats:
        """Return the logits behind each token, with functions called at hook points on the way.

        Parameters
        ----------
        tokens : str or ids
        fwd_hooks : iterable of (name, function), or mapping
            The name may be a pattern with * or ?, or a predicate on names. The function gets
            `(activation, hook)` and returns None or an array; see `jitllm.llm.hooks`.
        rows, source
            As for `forward`.

        Raises
        ------
        HookError
            If a name fits no hook point, or a function returned an array of another shape.
        """
        from jitllm.llm.hooks import FunctionHooks

        pairs = fwd_hooks.items() if isinstance(fwd_hooks, Mapping) else fwd_hooks
        hooks = FunctionHooks(self.engine.graph, pairs)
        return self._forward(tokens, rows, (hooks,), source)

    def run_with_cache(
        self,
        tokens: Text,
        names_filter: "NameFilter | None" = None,
        *,
        source: Text | None = None,
    ) -> "tuple[Floats, ActivationCache]":
        """Return the logits behind each token, and activations by name.

        Parameters
        ----------
        tokens : str or ids
        names_filter : str, iterable of str, or callable, optional
            Names, patterns with * or ?, or a predicate; without one, all of TransformerLens's
            names but the attention patterns. Those of all tokens are kept together: about
            4 * (10 * hidden_size + 3 * intermediate_size) bytes per layer and token, and the
            logits' 4 * n_vocab bytes per token; `hook_points()` tells each one's. Name what you
            need where prompts are long.
        source
            As for `forward`.

        Returns
        -------
        logits : float32 [n_tokens, n_vocab]
        cache : mapping of str to float32 array
            [n_tokens, width], [n_tokens, heads, head_dim], or [heads, queries, keys] for patterns.
        """
        from jitllm.llm.hooks import ActivationRecorder

        recorder = ActivationRecorder(self.engine.graph, names_filter)
        logits = self._forward(tokens, None, (recorder,), source)
        return logits, recorder.cache()

    @contextmanager
    def hooks(self, hooks: "Mapping[str, HookFunction]") -> Iterator[Self]:
        """Call functions at hook points in everything the model runs inside the `with` block.

        Sequences keep in their caches what was computed under hooks.

        Parameters
        ----------
        hooks : mapping of name to function
            As for `run_with_hooks`.
        """
        from jitllm.llm.hooks import FunctionHooks

        added = FunctionHooks(self.engine.graph, hooks.items())
        self.engine.hooks.append(added)
        try:
            yield self
        finally:
            self.engine.hooks.remove(added)

    def steer(
        self,
        vector: "ControlVector",
        *,
        scale: float = 1.0,
        layers: Iterable[int] | None = None,
    ) -> "AbstractContextManager[Model]":
        """Add a control vector inside a `with` block; see `ControlVector.steering`.

        Parameters
        ----------
        vector : ControlVector
        scale : float
            What its directions are multiplied by.
        layers : iterable of int, optional
            Layers to change; without it all that have a direction.
        """
        return vector.steering(cast("Model", self), scale=scale, layers=layers)

    def hook_points(self) -> "HookPoints":
        """Return the table of all hook points: name, shape, dtype, bytes per token, extra cost."""
        from jitllm.llm.hooks import describe

        return describe(self.engine.graph)

    def _forward(
        self, tokens: Text, rows: RowsWanted, hooks: "tuple[Hooks, ...]", source: Text | None
    ) -> Floats:
        read = None if source is None else self.to_ids(source)
        ids = self.to_ids(tokens, add_special=read is None)
        if read is not None and isinstance(tokens, str):
            ids.insert(0, self.need_decoder_start())
        if not ids:
            raise ValueError("expected tokens, got none")
        wanted = _wanted(rows, len(ids))
        ascending, back = np.unique(wanted, return_inverse=True)
        if self.engine.graph.is_encoder:
            self._check_whole(len(ids))
            pieces = self.engine.run_texts([ids], [ascending], hooks)
        else:
            with self.sequence() as sequence:
                if read is not None:
                    sequence.read_source(read, hooks)
                pieces = list(sequence.extend(ids, ascending, hooks))
        logits = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        in_order = np.array_equal(ascending, wanted)
        return np.ascontiguousarray(logits if in_order else logits[back])

    def _check_whole(self, n_tokens: int) -> None:
        most = self.engine.max_tokens
        if n_tokens > most:
            raise ContextLengthExceeded(
                f"expected at most {most} tokens in a text, got {n_tokens}; give fewer"
            )


def _wanted(rows: RowsWanted, n_tokens: int) -> npt.NDArray[np.intp]:
    """Return the numbers of the rows that are asked for, from 0."""
    if isinstance(rows, bool | np.bool_ | float | str):
        raise TypeError(f"expected rows as a slice, an int or ints, got {rows!r:.80}")
    try:
        return np.atleast_1d(np.arange(n_tokens)[slice(None) if rows is None else rows])
    except IndexError as error:
        raise IndexError(
            f"expected rows from {-n_tokens} to {n_tokens - 1}, the tokens being {n_tokens}; "
            f"got {rows!r:.80}"
        ) from error
