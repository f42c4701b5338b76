"""What every sampler is built on: `Candidates`, `Sampler` and `Context`.

A sampler is one file of this folder. The file's name is the sampler's name, and its module-level
`SAMPLER` is a subclass of `Sampler`. Other packages add theirs under the entry point group
`jitllm.samplers`, whose values are such classes.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jitllm.backends.base import DrawStep
from jitllm.llm.sampling.errors import SamplingError
from jitllm.llm.sampling.order import Floats, Positions, descending
from jitllm.llm.sampling.params import SamplingParams

Ids: TypeAlias = NDArray[np.int32]

# text -> every token sequence that spells it, see `breakers.BreakerIndex`
TokenIdsForText: TypeAlias = Callable[[str], Iterable[Sequence[int]]]
# (token history or candidate ids, logits) -> logits, or None when they were changed in place
LogitsFunction: TypeAlias = Callable[[Ids, Floats], Floats | None]


@dataclass(frozen=True)
class Context:
    """What a sampler may need besides its parameters.

    Attributes
    ----------
    seed
        32 bits; each random sampler starts its own generator from it.
    n_vocab
        Number of logits, None if not known yet.
    eog_ids
        Tokens that end a generation.
    token_ids_for_text
        Finds the token sequences that spell a text, for sequence breakers.
    """

    seed: int
    n_vocab: int | None = None
    eog_ids: tuple[int, ...] = ()
    token_ids_for_text: TokenIdsForText | None = None


@lru_cache(maxsize=8)
def _all_ids(n_vocab: int) -> Ids:
    ids = np.arange(n_vocab, dtype=np.int32)
    ids.flags.writeable = False  # shared by all candidates of this size
    return ids


class Candidates:
    """The tokens still in play: parallel arrays that samplers shrink, reorder and rescale.

    Parameters
    ----------
    logits
        float32 `[V]`, the whole vocabulary; not copied and never written to.
    ids
        int32 `[C]`, ascending, if `logits` are those of some tokens only; the others are out.
    n_vocab
        Size of the vocabulary then.

    Attributes
    ----------
    ids
        int32 `[C]` token ids; treat as read-only.
    logits
        float32 `[C]`; read-only until `writable_logits` was called.
    probs
        float32 `[C]`, set by the last softmax, None when logits changed since.
    is_sorted
        True if logits are known to descend.
    n_vocab
        Size of the vocabulary this started from.
    selected
        Position of the chosen candidate, None before a selecting sampler ran.
    """

    __slots__ = ("_in_order", "ids", "is_sorted", "logits", "n_vocab", "probs", "selected")

    def __init__(self, logits: Floats, ids: Ids | None = None, n_vocab: int = 0) -> None:
        view = logits.view()
        view.setflags(write=False)
        self.logits: Floats = view
        self.n_vocab = logits.shape[0] if ids is None else n_vocab
        self.ids: Ids = _all_ids(self.n_vocab) if ids is None else ids
        self.probs: Floats | None = None
        self.is_sorted = False
        self.selected: int | None = None
        self._in_order = ids is None  # ids are still 0..V-1

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def token(self) -> int:
        """The chosen token id; SamplingError if no sampler chose one."""
        if self.selected is None:
            raise SamplingError(
                "no sampler chose a token: end the chain with one that does, such as 'dist'"
            )
        return int(self.ids[self.selected])

    def writable_logits(self) -> Floats:
        """Return the logits for writing (a copy the first time); drops `probs`."""
        if not self.logits.flags.writeable:
            self.logits = self.logits.copy()
        self.probs = None
        return self.logits

    def set_logits(self, logits: Floats) -> None:
        """Replace the logits by a new array of the same length; drops `probs`."""
        self.logits, self.probs = logits, None

    def keep(self, which: Positions | slice) -> None:
        """Keep the candidates at `which`, in that order; does not touch `is_sorted`."""
        self._in_order = False
        self.ids = self.ids[which]
        self.logits = self.logits[which]
        if self.probs is not None:
            self.probs = self.probs[which]

    def sort(self) -> None:
        """Sort by descending logit, equal logits by position; no work if sorted."""
        if not self.is_sorted:
            self.keep(descending(self.logits))
            self.is_sorted = True

    def positions_of(self, ids: Ids) -> tuple[Positions, Positions]:
        """Find tokens among the candidates.

        Returns
        -------
        positions, which
            `self.ids[positions] == ids[which]`; tokens that are not candidates are left out.
        """
        if self._in_order:
            which = np.flatnonzero((ids >= 0) & (ids < self.n_vocab))
            return ids[which].astype(np.intp), which
        order = np.argsort(self.ids, kind="stable")
        slots = np.searchsorted(self.ids, ids, sorter=order)
        positions = order[np.minimum(slots, len(order) - 1)]
        which = np.flatnonzero(self.ids[positions] == ids)
        return positions[which], which


class Sampler:
    """One step of a chain. Subclasses are small and say what state they carry.

    `clone` and `load_state` must leave no mutable object shared between two samplers: whatever
    `apply` or `accept` changes is part of `state`, and `load_state` builds it anew.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    letter: ClassVar[str] = ""  # in short sequences such as "edskypmxt"
    fields: ClassVar[tuple[str, ...]] = ()  # of SamplingParams, in the order of "name:a:b"
    selects: ClassVar[bool] = False  # ends a chain by choosing a token
    keeps_best: ClassVar[bool] = False  # the first largest logit always survives, largest

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self | None:
        """Build from `SamplingParams`; None if these parameters change nothing."""
        raise NotImplementedError(f"{cls.__name__} must define from_params")

    @classmethod
    def from_text(cls, arguments: Sequence[str], context: Context) -> Self | None:
        """Build from the parts after the name in "name:a:b", which set `fields` in order."""
        if len(arguments) > len(cls.fields):
            raise SamplingError(
                f"sampler {cls.name!r} takes at most {len(cls.fields)} arguments "
                f"({':'.join(cls.fields) or 'none'}), got {len(arguments)}: {':'.join(arguments)}"
            )
        params = SamplingParams.from_text(dict(zip(cls.fields, arguments, strict=False)))
        return cls.from_params(params, context)

    def apply(self, candidates: Candidates) -> None:
        """Change the candidates in place."""
        raise NotImplementedError(f"{type(self).__name__} must define apply")

    def needs(self, n: int | None) -> int | None:
        """Return how many of the largest logits are enough, of equal ones the first; None: all.

        Of these it must make the same `n` largest as of all, or all the same that it leaves if
        `n` is None.
        """
        return None

    def draw_step(self) -> DrawStep | None:
        """Return what a device may do in place of `apply`, None if no record can say it.

        Nothing changes: `drawn` is called if the device did it.
        """
        return None

    def drawn(self) -> None:
        """Change as `apply` would: a device did its work."""

    def accept(self, token: int) -> None:
        """Take note of a token of the prompt or of the output."""

    def reset(self) -> None:
        """Go back to the state after construction."""

    def clone(self) -> Self:
        """Return an independent copy that continues identically."""
        twin = copy.copy(self)
        twin.load_state(self.state())
        return twin

    def state(self) -> dict[str, Any]:
        """Return everything that changes, as plain numbers and arrays that nobody else holds."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
