"""Joining neighbours, best pair first: the loop under BPE and SentencePiece."""

import heapq
from collections.abc import Callable, Iterable

LONG_TEXT = 256
"""Characters from which on cutting a text into words costs less than it saves."""

HUGE_TEXT = range(1 << 17, 1 << 28)
"""Characters of texts for the loops of `compiled`: fewer are not worth compiling them, once on a
machine, and of more the bytes cannot be counted there."""

Rank = Callable[[str, str], float | None]
"""Rank of joining two symbols, lowest first; None when they must stay apart."""


def merge_symbols(symbols: list[str], rank: Rank) -> list[str]:
    """Join neighbouring symbols in the order of `rank` until no pair may be joined.

    Among pairs of equal rank the leftmost goes first. O(n log n) in the number of symbols.
    Sennrich, Haddow, Birch 2016, "Neural Machine Translation of Rare Words with Subword Units".

    Parameters
    ----------
    symbols : list of str
        Not empty strings, usually characters. Changed in place.
    rank : callable
        See `Rank`.

    Returns
    -------
    list of str
        The symbols left; joined they are the same text.
    """
    n = len(symbols)
    before = list(range(-1, n - 1))
    after = list(range(1, n + 1))
    heap = []
    for i in range(n - 1):
        order = rank(symbols[i], symbols[i + 1])
        if order is not None:
            heap.append((order, i, symbols[i] + symbols[i + 1]))
    heapq.heapify(heap)
    while heap:
        _, left, text = heapq.heappop(heap)
        right = after[left]
        # a pair is stale once one of its two symbols was joined with another
        if not symbols[left] or right == n or symbols[left] + symbols[right] != text:
            continue
        symbols[left], symbols[right] = text, ""
        after[left] = following = after[right]
        if following < n:
            before[following] = left
            order = rank(text, symbols[following])
            if order is not None:
                heapq.heappush(heap, (order, left, text + symbols[following]))
        previous = before[left]
        if previous >= 0:
            order = rank(symbols[previous], text)
            if order is not None:
                heapq.heappush(heap, (order, previous, symbols[previous] + text))
    return [symbol for symbol in symbols if symbol]


def chars_joined_to(mark: str, texts: Iterable[str]) -> frozenset[str]:
    """Characters that stand directly before `mark` in any of the texts.

    Between any other character and `mark` no join can reach across, so a text may be cut there.
    A newline is always among them.
    """
    pieces = "\n".join(texts).split(mark)
    return frozenset(piece[-1] for piece in pieces[:-1] if piece) | {"\n", mark[-1]}


def cut_before(mark: str, text: str, joined: frozenset[str]) -> list[str]:
    """Cut the text before each one-character `mark` that follows a character not in `joined`."""
    first, *rest = text.split(mark)
    segments = []
    current = first
    for piece in rest:
        if current and current[-1] not in joined:
            segments.append(current)
            current = mark + piece
        else:
            current += mark + piece
    segments.append(current)
    return segments
