"""Logits of several sequences, computed in common runs."""

from collections.abc import Iterator, Sequence

import numpy as np

from jitllm.llm.state.batches import Piece
from jitllm.llm.state.contents import Contents
from jitllm.llm.state.engine import Cancel, Cancelled, Engine
from jitllm.llm.state.logits import Need

_NO_ROWS = np.empty(0, np.intp)
_LAST_ROW = np.zeros(1, np.intp)


def compute_together(
    engine: Engine,
    sequences: Sequence[Contents],
    cancelled: Cancel | None = None,
    needs: Sequence[Need] = (),
) -> None:
    """Compute the logits behind the last token of several sequences of one model.

    Each gets the bits that it would get alone. An interrupt or an error leaves every sequence with
    whole tokens.

    Parameters
    ----------
    engine : Engine
    sequences : sequence of Contents
        With tokens.
    cancelled : callable, optional
        Asked before every run; if true, Cancelled is raised.
    needs : sequence of Need, optional
        What of the logits of each is needed; without, all.

    Raises
    ------
    BackendError
        If the caches have no page free.
    """
    waiting = [contents for contents in sequences if contents.logits is None]
    need_of = {id(c): need for c, need in zip(sequences, needs, strict=bool(needs))}
    for contents in waiting:
        contents.need_last()
        engine.check_whole(contents.n_done, len(contents.ids) - contents.n_done)
    while waiting:
        if cancelled and cancelled():
            raise Cancelled
        chosen = list(_next_pieces(waiting[: engine.max_outputs], engine))
        wanted = [need_of.get(id(c), Need()) for c, piece in chosen if len(piece.rows)]
        rows = iter(engine.run_last([piece for _, piece in chosen], wanted))
        for contents, piece in chosen:
            contents.n_done = piece.stop
            if len(piece.rows):
                contents.last = piece.stop, next(rows)
            contents.cells.forget(piece.stop)
        waiting = [contents for contents in waiting if contents.logits is None]


def _next_pieces(waiting: list[Contents], engine: Engine) -> Iterator[tuple[Contents, Piece]]:
    """Tokens that have no cells, of one sequence after the other, as many as a run may have."""
    room = engine.max_tokens
    for contents in waiting:
        start = contents.n_done
        if not room or (not engine.remembers and room < len(contents.ids) - start):
            return
        ids = np.array(contents.ids[start : start + room], np.int32)
        is_last = start + len(ids) == len(contents.ids)
        rows = _LAST_ROW + len(ids) - 1 if is_last else _NO_ROWS
        yield contents, Piece(contents.cells, ids, start, rows)
        room -= len(ids)
