"""The inner loops of tokenizers, compiled, for long texts.

Python keeps up with natural language, whose words come again and again. A megabyte without spaces,
or of random characters, has no such words; here it takes a fraction of a second. What comes out is
the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.kernels import abi, jit

Ints = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

_LOAD = 2  # entries of a table for each that is used, at least
_NODES = 1 << 22  # most nodes: numbers of entries fit 32 bits
_TRIE = "texts ends n table mask limit count"
_BUILD = abi.Op("trie", "build", tuple(f"{_TRIE} nodes".split()))
_PAIRS = abi.Op("merge", "pairs", tuple(f"{_TRIE} joins join_mask".split()))
_MERGE = abi.Op(
    "merge",
    "merge",
    tuple(
        "text ends n_words whole table mask ranks joins join_mask symbols heap nodes stops "
        "count".split()
    ),
)
_UNIGRAM = abi.Op(
    "unigram",
    "unigram",
    tuple(
        "text n table mask tokens values unknown unknown_score sums starts chosen ids count".split()
    ),
)
_LONGEST = abi.Op(
    "longest",
    "longest",
    tuple("text ends n_words table mask tokens ids count".split()),
)


class Trie:
    """The texts of a vocabulary as a trie, and how its symbols may be joined.

    Parameters
    ----------
    texts : sequence of bytes
        Of tokens, not empty.
    merges : sequence of bytes, optional
        "left right", best first; without them symbols are joined by the texts' ranks.

    Attributes
    ----------
    nodes : int32 array [n_texts]
        Node of each text.
    n_nodes : int

    Raises
    ------
    OverflowError
        If the trie would have more than 2^22 nodes.
    """

    def __init__(self, texts: Sequence[bytes], merges: Sequence[bytes] = ()) -> None:
        self.nodes = np.empty(len(texts), np.int32)
        n_pairs = sum(merge.count(b" ") for merge in merges)
        self.joins = np.zeros((_power(_LOAD * n_pairs), 2), np.int64)
        size = min(_power(sum(map(len, texts))), _LOAD * _NODES)
        while not self._fill(texts, merges, size):
            if size >= _LOAD * _NODES:
                raise OverflowError(
                    f"a vocabulary of {len(texts)} tokens has more than {_NODES} nodes"
                )
            size *= 2

    def _fill(self, texts: Sequence[bytes], merges: Sequence[bytes], size: int) -> bool:
        self.table = np.zeros((size, 2), np.int32)
        self.joins[:] = 0
        count = np.ones(1, np.int64)
        words: dict[str, Any] = {
            "table": self.table, "mask": size - 1, "limit": size // _LOAD, "count": count,
        }  # fmt: skip
        _launch(_BUILD, **words, **_joined(texts), nodes=self.nodes)
        if merges and count[0] > 0:
            joins: dict[str, Any] = {"joins": self.joins, "join_mask": len(self.joins) - 1}
            _launch(_PAIRS, **words, **_joined(merges), **joins)
        self.n_nodes = int(count[0])
        return self.n_nodes > 0

    def of_nodes(self, values: npt.NDArray[Any], missing: Any) -> npt.NDArray[Any]:
        """Return the value of each node, from those of the texts: [n_nodes + 1].

        The last entry, also that of node -1, is `missing`, as are those of other nodes.
        """
        out = np.full(self.n_nodes + 1, missing, values.dtype)
        out[self.nodes] = values
        return out


class Merger:
    """Joins the characters of words as `merging.merge_symbols` does.

    Parameters
    ----------
    ids : mapping of bytes to int
        Tokens.
    ranks : sequence of float, optional
        Of each id: lowest first; no NaN.
    merges : sequence of bytes, optional
        In place of ranks.

    Raises
    ------
    OverflowError
    """

    def __init__(
        self,
        ids: Mapping[bytes, int],
        ranks: Sequence[float] = (),
        merges: Sequence[bytes] = (),
    ) -> None:
        self._trie = trie = Trie(list(ids), merges)
        numbers = np.fromiter(ids.values(), np.int32, len(ids))
        self._tokens = trie.of_nodes(numbers, -1)
        self._by, self._ranks = "pair", self._tokens
        if not merges:
            places = np.unique(np.asarray(ranks)[numbers], return_inverse=True)[1]
            self._by, self._ranks = "text", trie.of_nodes(places.astype(np.int32), -1)

    def __call__(
        self,
        text: Bytes,
        ends: npt.NDArray[np.int64],
        spare: Ints,
        whole: npt.NDArray[np.bool_] | None = None,
    ) -> Ints:
        """Return the ids of words.

        Parameters
        ----------
        text : uint8 [n]
            UTF-8 of all words.
        ends : int64 [n_words]
            Where each word ends.
        spare : int32 [n]
            Ids for the bytes of what is no token; negative ones are for the caller.
        whole : bool [n_words], optional
            Words that are not taken apart if they are tokens.
        """
        longest = int(np.diff(ends, prepend=0).max(initial=0))
        nodes, stops = np.empty(len(text), np.int32), np.empty(len(text), np.int32)
        count, trie = np.zeros(1, np.int64), self._trie
        whole = np.zeros(len(ends), np.bool_) if whole is None else whole
        _launch(
            _MERGE, {"by": self._by}, text=text, ends=ends, n_words=len(ends), whole=whole,
            table=trie.table, mask=len(trie.table) - 1, ranks=self._ranks, joins=trie.joins,
            join_mask=len(trie.joins) - 1, symbols=np.empty(20 * (longest + 1), np.uint8),
            heap=np.empty(48 * (longest + 1), np.uint8), nodes=nodes, stops=stops, count=count,
        )  # fmt: skip
        n = int(count[0])
        return _spelled(self._tokens[nodes[:n]], stops[:n], spare)


class Cover:
    """Finds the cover of a text by tokens with the highest sum of scores.

    Parameters
    ----------
    pieces : mapping of bytes to (float, int)
        Score and id of each token.
    unknown : int
        The token for characters that are none.
    unknown_score : float

    Raises
    ------
    OverflowError
    """

    def __init__(
        self, pieces: Mapping[bytes, tuple[float, int]], unknown: int, unknown_score: float
    ) -> None:
        self._trie = trie = Trie(list(pieces))
        scores, ids = zip(*pieces.values(), strict=True) if pieces else ((), ())
        self._values = trie.of_nodes(np.array(scores, np.float64), 0.0)
        self._tokens = trie.of_nodes(np.array(ids, np.int32), -1)
        self._unknown, self._unknown_score = unknown, np.float64(unknown_score)

    def __call__(self, text: bytes) -> Ints:
        """Return the ids; unknown ones side by side are not joined."""
        n, trie, count = len(text), self._trie, np.zeros(1, np.int64)
        sums = np.full(n + 1, -np.inf)
        sums[0] = 0
        ids, starts, chosen = (np.zeros(n + 1, np.int32) for _ in range(3))
        _launch(
            _UNIGRAM, text=np.frombuffer(text, np.uint8), n=n, table=trie.table,
            mask=len(trie.table) - 1, tokens=self._tokens, values=self._values,
            unknown=self._unknown, unknown_score=int(self._unknown_score.view(np.int64)),
            sums=sums, starts=starts, chosen=chosen, ids=ids, count=count,
        )  # fmt: skip
        return ids[: count[0]][::-1]


class Longest:
    """Covers words by the longest tokens, from left to right.

    Parameters
    ----------
    ids : mapping of bytes to int
        Tokens.
    whole : bool
        A word that does not come out is one unknown token; else one stands for each byte where no
        token begins.

    Raises
    ------
    OverflowError
    """

    def __init__(self, ids: Mapping[bytes, int], *, whole: bool) -> None:
        self._trie, self._whole = Trie(list(ids)), whole
        numbers = np.fromiter(ids.values(), np.int32, len(ids))
        self._tokens = self._trie.of_nodes(numbers, -1)

    def __call__(self, text: bytes, ends: npt.NDArray[np.int64]) -> Ints:
        """Return the ids of words, `ends` [n_words] being where each ends; -1 for unknown ones."""
        ids, count = np.empty(len(text), np.int32), np.zeros(1, np.int64)
        _launch(
            _LONGEST, {"whole": self._whole}, text=np.frombuffer(text, np.uint8), ends=ends,
            n_words=len(ends), table=self._trie.table, mask=len(self._trie.table) - 1,
            tokens=self._tokens, ids=ids, count=count,
        )  # fmt: skip
        return ids[: count[0]]


def merger(
    ids: Mapping[bytes, int], ranks: Sequence[float] = (), merges: Sequence[bytes] = ()
) -> Merger | None:
    """Return a `Merger`, None for a vocabulary that is none for it."""
    if np.isnan(np.asarray(ranks, np.float64)).any():
        return None
    try:
        return Merger(ids, ranks, merges)
    except OverflowError:
        return None


def cover(
    pieces: Mapping[bytes, tuple[float, int]], unknown: int, unknown_score: float
) -> Cover | None:
    """Return a `Cover`, None for a vocabulary that is too large for it."""
    try:
        return Cover(pieces, unknown, unknown_score)
    except OverflowError:
        return None


def longest(ids: Mapping[bytes, int], *, whole: bool) -> Longest | None:
    """Return a `Longest`, None for a vocabulary that is too large for it."""
    try:
        return Longest(ids, whole=whole)
    except OverflowError:
        return None


def _power(n: int) -> int:
    """The least power of 2 from `n` on, at least 1024."""
    return 1 << max(10, (max(1, n) - 1).bit_length())


def _joined(texts: Sequence[bytes]) -> dict[str, Any]:
    """Words for texts that lie one behind the other."""
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    return {"texts": np.frombuffer(b"".join(texts), np.uint8), "ends": ends, "n": len(texts)}


def _launch(op: abi.Op, params: Mapping[str, Any] | None = None, **values: Any) -> None:
    """Run a kernel on arrays and numbers."""
    words = {
        name: value.ctypes.data if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }
    block, counter = op.pack(0, **words), np.zeros(1, np.int64)
    kernel = jit.function(op.module, op.function, **(params or {}))
    kernel(block.ctypes.data, 0, 1, counter.ctypes.data)


def _spelled(tokens: Ints, stops: Ints, spare: Ints) -> Ints:
    """Return tokens, those that are -1 replaced by the spare ids of their bytes."""
    missing = tokens < 0
    if not missing.any():
        return tokens
    starts = np.concatenate([[0], stops[:-1]])
    counts = np.where(missing, stops - starts, 1)
    firsts = np.cumsum(counts) - counts
    out = np.repeat(tokens, counts)
    places = np.flatnonzero(np.repeat(missing, counts))
    out[places] = spare[(places + np.repeat(starts - firsts, counts)[places])]
    return out
