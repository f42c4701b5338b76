"""What earlier prompts left in the caches, kept for later ones that begin like them."""

import threading
from collections import Counter
from collections.abc import Sequence

from jitllm.llm.state.contents import Contents, common_prefix
from jitllm.llm.state.engine import Engine
from jitllm.llm.state.pages import PagePool
from jitllm.llm.state.slots import SlotPool


class PrefixCache:
    """Tokens and cells of earlier prompts and answers, within a budget of bytes.

    A new prompt starts from a fork of what remembers most of its first tokens: pages are shared,
    not copied, and the logits are the same bits as without. Of memory that cannot be cut at any
    token, such as recurrent states, the longest that was kept within those tokens is used. What was
    least recently used goes first, also when a sequence needs pages and none is free.

    Parameters
    ----------
    engine : Engine
    max_bytes : int
        Of pages and states, those shared among the texts kept counted once; 0 keeps nothing.
    """

    def __init__(self, engine: Engine, max_bytes: int = 0) -> None:
        self._engine, self._max_bytes = engine, max_bytes
        self._kept: list[Contents] = []  # the least recently used first
        self._lock = threading.RLock()
        for pool in engine.pools:
            pool.reclaim = self.drop_oldest
        if engine.slots:
            engine.slots.reclaim = self.drop_oldest

    @property
    def max_bytes(self) -> int:
        """The budget; what is beyond a new one is dropped at once."""
        return self._max_bytes

    @max_bytes.setter
    def max_bytes(self, n_bytes: int) -> None:
        if n_bytes < 0:
            raise ValueError(f"expected at least 0 bytes, got {n_bytes}")
        with self._lock:
            self._max_bytes = n_bytes
            self._prune()

    @property
    def nbytes(self) -> int:
        """Bytes that are held, those that sequences hold too included."""
        with self._lock:
            held: dict[tuple[int, int], int] = {}
            for contents in self._kept:
                held |= contents.cells.held()
            return sum(held.values()) + sum(c.last[1].nbytes for c in self._kept if c.last)

    def n_reclaimable(self, pool: PagePool | SlotPool) -> int:
        """Return how many pages or slots of a pool nothing else holds."""
        with self._lock:
            held = Counter(key for contents in self._kept for key in contents.cells.held())
            return sum(
                n == pool.n_holders(page)
                for (number, page), n in held.items()
                if number == id(pool)
            )

    def count(self, ids: Sequence[int]) -> int:
        """Return how many first tokens of `ids` `find` would give."""
        with self._lock:
            self._drop_stale()
            return max((_usable(contents, ids) for contents in self._kept), default=0)

    def find(self, ids: Sequence[int]) -> Contents | None:
        """Return contents, the caller's own, with as many first tokens of `ids` as there are.

        The last token is among them only if the logits behind it are known.
        """
        with self._lock:
            self._drop_stale()
            found = [(_usable(contents, ids), place) for place, contents in enumerate(self._kept)]
            n_tokens, place = max(found, default=(0, -1))
            if not n_tokens:
                return None
            best = self._kept.pop(place)
            self._kept.append(best)
            last = best.last if best.last and best.last[0] == n_tokens else None
            contents = Contents(best.cells.fork(), list(ids[:n_tokens]))
            contents.n_done, contents.last = contents.cells.truncate(n_tokens), last
            return contents

    def keep(self, contents: Contents) -> None:
        """Keep a fork of what a prompt, or an answer, has left.

        What hooks or edits may have changed is not kept, nor what another graph computed.
        """
        n_tokens, cells, engine = contents.n_done, contents.cells, self._engine
        if not self._max_bytes or not n_tokens or not engine.remembers:
            return
        if cells.graph is not engine.graph:
            return
        ids = contents.ids[:n_tokens]
        with self._lock:
            self._drop_stale()
            # states cannot be cut by one token, so the same prompt again needs the logits
            last = contents.last if cells.state_sizes and contents.last else None
            new = Contents(cells.fork(), ids, n_done=n_tokens)
            new.last = last if last and last[0] == n_tokens else None
            if any(_covers(old, new) for old in self._kept):
                self._kept.sort(key=lambda old: _covers(old, new))  # it was used now
                new.cells.release()
                return
            for old in [old for old in self._kept if _covers(new, old)]:
                self._drop(old)
            self._kept.append(new)
            self._prune()

    def drop_oldest(self) -> bool:
        """Forget what was least recently used; returns whether there was any."""
        with self._lock:
            if self._kept:
                self._drop(self._kept[0])
                return True
            return False

    def clear(self) -> None:
        """Forget all."""
        while self.drop_oldest():
            pass

    def _prune(self) -> None:
        while self._kept and self.nbytes > self._max_bytes:
            self.drop_oldest()

    def _drop_stale(self) -> None:
        for contents in [c for c in self._kept if c.cells.graph is not self._engine.graph]:
            self._drop(contents)

    def _drop(self, contents: Contents) -> None:
        self._kept = [other for other in self._kept if other is not contents]
        contents.cells.release()

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<PrefixCache: {len(self)} texts, {self.nbytes} of at most {self.max_bytes} bytes>"


def _usable(contents: Contents, ids: Sequence[int]) -> int:
    """Return how many first tokens of `ids` can be taken from it."""
    n_common = common_prefix(contents.ids, ids)
    if n_common == len(ids) == len(contents.ids) and contents.last:
        return n_common
    return contents.cells.reach(max(0, min(n_common, len(ids) - 1)))


def _covers(new: Contents, old: Contents) -> bool:
    """Whether all that `old` could give can be had from `new`."""
    if new.ids[: len(old.ids)] != old.ids:
        return False
    if old.last and not (new.last and len(new.ids) == len(old.ids)):
        return False
    has_states = set(old.cells.state_lengths) <= set(new.cells.state_lengths)
    firsts = zip(new.cells.firsts, old.cells.firsts, strict=True)
    return has_states and all(first <= before for first, before in firsts)
