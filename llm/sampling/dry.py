"""DRY (don't repeat yourself): lowers the tokens that would continue a repetition.

Source: p-e-w, https://github.com/oobabooga/text-generation-webui/pull/5677, and llama.cpp's rules
for sequence breakers.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from jitllm.llm.sampling.base import Candidates, Context, Ids, Sampler
from jitllm.llm.sampling.errors import SamplingError
from jitllm.llm.sampling.params import SamplingParams

_LOG_OF_LARGEST = np.float32(88.7228391)


class Dry(Sampler):
    """Subtracts `multiplier * base ** (length - allowed_length)` from each repeating token.

    `length` is that of the longest end of the text that occurred before, followed by the token.

    Parameters
    ----------
    multiplier, base
        Strength; `base` at least 1.
    allowed_length
        Repetitions shorter than this are free.
    last_n
        Length of the window, at least 1; -1 for everything.
    breakers
        Token sequences that end a repetition; those of one token are never penalized.
    """

    name = "dry"
    letter = "d"
    fields = ("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n")

    def __init__(
        self,
        multiplier: float,
        base: float,
        allowed_length: int,
        last_n: int,
        breakers: Iterable[Sequence[int]] = (),
    ) -> None:
        self.multiplier = np.float32(multiplier)
        self.base = np.float32(base)
        self.allowed_length = allowed_length
        self.last_n = last_n
        self.tails: dict[int, set[tuple[int, ...]]] = {}
        for head, *tail in breakers:
            self.tails.setdefault(int(head), set()).add(tuple(tail))
        self.reset()

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self | None:
        """Build; multiplier 0, a base below 1 or an empty window change nothing."""
        if not params.dry_multiplier or params.dry_base < 1 or not params.dry_penalty_last_n:
            return None
        return cls(
            params.dry_multiplier,
            params.dry_base,
            params.dry_allowed_length,
            params.dry_penalty_last_n,
            _breakers(params.dry_sequence_breakers, context),
        )

    @classmethod
    def from_text(cls, arguments: Sequence[str], context: Context) -> Self | None:
        """Build; without a tokenizer in the context there are no sequence breakers."""
        texts = dict(zip(cls.fields, arguments, strict=False))
        if len(arguments) > len(cls.fields):
            return super().from_text(arguments, context)  # raises
        if context.token_ids_for_text is None:
            params = SamplingParams.from_text({**texts, "dry_sequence_breakers": ""})
        else:
            params = SamplingParams.from_text(texts)
        return cls.from_params(params, context)

    def needs(self, n: int | None) -> int | None:
        """Return n and one for each token that may fall behind."""
        return None if n is None else n + len(self._window)

    def accept(self, token: int) -> None:
        """Move the window on by one token."""
        self._window.append(token)

    def apply(self, candidates: Candidates) -> None:
        """Penalize the candidates that continue a repetition."""
        if len(self._window) <= self.allowed_length:
            return
        newest_first = np.array(self._window, dtype=np.int32)[::-1].copy()
        limit = self._unbroken_length(newest_first)
        if limit < self.allowed_length:
            return
        tokens, lengths = self._repeating(newest_first, limit)
        positions, which = candidates.positions_of(tokens)
        candidates.writable_logits()[positions] -= self._penalty(lengths[which])
        candidates.is_sorted = False

    def _unbroken_length(self, newest_first: Ids) -> int:
        """Return how many of the newest tokens follow the last sequence breaker."""
        if self.tails:
            tokens: list[int] = newest_first.tolist()
            for i, token in enumerate(tokens):
                matched = [
                    len(tail)
                    for tail in self.tails.get(token, ())
                    if len(tail) <= i and tokens[i - len(tail) : i][::-1] == list(tail)
                ]
                if matched:
                    return i - max(matched)
        return len(newest_first)

    def _repeating(self, newest_first: Ids, limit: int) -> tuple[Ids, Ids]:
        """Return the tokens that would continue a repetition, and its longest length for each."""
        n = len(newest_first)
        lengths = np.zeros(n, dtype=np.int32)
        active = np.arange(1, n)  # offsets at which the text's end still matches
        for length in range(limit):
            active = active[active + length < n]
            active = active[newest_first[active + length] == newest_first[length]]
            if not len(active):
                break
            lengths[active] = length + 1
        long_enough = np.flatnonzero(lengths[1:] >= self.allowed_length)
        tokens, slot = np.unique(newest_first[long_enough], return_inverse=True)
        longest = np.zeros(len(tokens), dtype=np.int32)
        np.maximum.at(longest, slot, lengths[1:][long_enough])
        free = np.array([() in self.tails.get(int(token), ()) for token in tokens], dtype=bool)
        return tokens[~free], longest[~free]

    def _penalty(self, lengths: Ids) -> Any:
        exponent = lengths - self.allowed_length
        if self.base > np.float32(1.000001):
            log_base = np.float32(np.log(np.float64(self.base)))
            exponent = np.minimum(exponent, int(_LOG_OF_LARGEST / log_base))
        power = np.float64(self.base) ** exponent
        with np.errstate(over="ignore"):  # an infinite penalty forbids the token
            return (np.float64(self.multiplier) * power).astype(np.float32)

    def reset(self) -> None:
        """Forget the window."""
        self._window: deque[int] = deque(maxlen=None if self.last_n < 0 else self.last_n)

    def state(self) -> dict[str, Any]:
        """Return the window as `tokens`, int32."""
        return {"tokens": np.array(self._window, dtype=np.int32)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.reset()
        self._window.extend(int(token) for token in state["tokens"])


def _breakers(texts: Sequence[str], context: Context) -> list[Sequence[int]]:
    if not texts:
        return []
    if context.token_ids_for_text is None:
        raise SamplingError(
            "dry_sequence_breakers need a tokenizer: pass token_ids_for_text= (such as a "
            "BreakerIndex), or dry_sequence_breakers=() for none"
        )
    return [ids for text in texts for ids in context.token_ids_for_text(text)]


SAMPLER = Dry
