"""What a generation does when the context is full: old tokens make room, and it goes on."""

import logging
from dataclasses import replace

from jitllm.llm.errors import StateError
from jitllm.llm.sampling import SamplingParams
from jitllm.llm.state.sequence import Sequence
from jitllm.llm.state.shift import turns_of

_log = logging.getLogger("jitllm.generate")

_LEAST_BEHIND = 4  # tokens that are not kept, however large n_keep is


def settled(sequence: Sequence, params: SamplingParams) -> SamplingParams:
    """Return the parameters with the number of tokens that `n_keep` of -1 stands for: all of now.

    Raises
    ------
    StateError
        If they ask for what the model's memory never can.
    """
    if params.context_shift == "move":
        turns_of(sequence.model.engine.graph)
    if params.n_keep >= 0:
        return params
    return replace(params, n_keep=max(0, len(sequence) - _n_beginning(sequence)))


def make_room(sequence: Sequence, n_tokens: int, params: SamplingParams) -> None:
    """Take tokens out until so many more fit, as far as those that are kept allow."""
    while len(sequence) + n_tokens > sequence.n_ctx:
        before = len(sequence)
        if before <= _n_kept(sequence, params) + 1:
            return
        shift(sequence, params)


def shift(sequence: Sequence, params: SamplingParams) -> None:
    """Take tokens out of a full sequence, behind those that are kept.

    Parameters
    ----------
    sequence : Sequence
    params : SamplingParams
        `n_keep` first tokens stay, and the token of beginning; `n_discard` behind them go, or half.

    Raises
    ------
    StateError
        If cells must move and cannot.
    """
    start = _n_kept(sequence, params)
    behind = len(sequence) - start
    stop = start + min(max(1, params.n_discard or behind // 2), behind - 1)
    if params.context_shift == "recompute":
        sequence.remove(start, stop, recompute=True)
        return
    try:
        sequence.remove(start, stop)
    except StateError as error:
        if params.context_shift == "move":
            raise
        sequence.remove(start, stop, recompute=True)
        _log.warning(
            "the context is full, %d tokens are computed again without %d of those before: %s",
            sequence.n_pending, stop - start, error,
        )  # fmt: skip


def _n_kept(sequence: Sequence, params: SamplingParams) -> int:
    """First tokens that stay, that of the beginning among them."""
    n_kept = params.n_keep + _n_beginning(sequence)
    return min(n_kept, max(0, sequence.n_ctx - _LEAST_BEHIND))


def _n_beginning(sequence: Sequence) -> int:
    """Whether there is a token that texts, or a decoder's texts, begin with."""
    model = sequence.model
    bos = model.tokenizer.bos_id if model.tokenizer else None
    return int(model.has_encoder or sequence.token_ids[:1] == [bos])
