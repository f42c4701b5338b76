"""Scores of given texts: log-likelihood of a continuation, perplexity of a text."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jitllm.llm.errors import ContextLengthExceeded
from jitllm.llm.progress import ProgressBar
from jitllm.llm.sampling import top_logprobs
from jitllm.llm.texts import Text

if TYPE_CHECKING:
    from jitllm.llm.model import Model


@dataclass(frozen=True, slots=True)
class Perplexity:
    """The exponential of the mean negative log-likelihood per token; `float` of it is its value.

    Attributes
    ----------
    value : float
    standard_error : float
        Of `value`, from the spread over tokens.
    n_tokens : int
        Tokens scored.
    n_chunks : int
    """

    value: float
    standard_error: float
    n_tokens: int
    n_chunks: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.4f} +/- {self.standard_error:.4f}"


def loglikelihood(model: "Model", context: Text, continuation: Text) -> tuple[float, bool]:
    """Return the summed log-probability of a continuation and whether it is the greedy one.

    A model with an encoder reads the context with it, and its decoder starts with the continuation.
    Else texts are cut into tokens together, as lm-eval does: spaces at the end of the context
    belong to the continuation, so that the tokens are those a model would generate. The
    continuation's tokens are those of the whole text behind as many as the context alone has.

    Parameters
    ----------
    model : Model
    context, continuation : str or ids
        Without a context the token of beginning stands before the continuation.

    Raises
    ------
    ValueError
        If there is nothing to score, or nothing before it; also where the continuation's text
        becomes part of the context's last token.
    ContextLengthExceeded
    """
    if model.has_encoder:
        before, after = [model.need_decoder_start()], model.to_ids(continuation, add_special=False)
    else:
        before, after = _split(model, context, continuation)
    if not after and continuation and isinstance(continuation, str):
        raise ValueError(
            f"expected a continuation with tokens of its own, got {continuation!r:.80}, which "
            "becomes part of the context's last token; move the border between the two, or give "
            "token ids"
        )
    if not before or not after:
        raise ValueError(
            f"expected tokens in context and continuation, got {len(before)} and {len(after)}; "
            "this model has no token of beginning to stand for an empty context"
            if after
            else "expected a continuation with tokens, got none"
        )
    rows = np.arange(len(before) - 1, len(before) + len(after) - 1)
    total, is_greedy, done = 0.0, True, 0
    with model.sequence() as sequence:
        if model.has_encoder:
            sequence.read_source(model.to_ids(context))
        for logits in sequence.extend([*before, *after[:-1]], rows):
            ids = np.array(after[done : done + len(logits)], np.int32)
            done += len(ids)
            total += float(top_logprobs(logits, ids, 0)[0].sum(dtype=np.float64))
            is_greedy = is_greedy and bool((logits.argmax(axis=1) == ids).all())
    return total, is_greedy


def _split(model: "Model", context: Text, continuation: Text) -> tuple[list[int], list[int]]:
    bos = None if model.tokenizer is None else model.tokenizer.bos_id
    if isinstance(context, str) and isinstance(continuation, str):
        tokenizer = model.need_tokenizer("a text")
        start = [bos] if tokenizer.add_bos and bos is not None else []
        bare = context.rstrip()
        continuation = context[len(bare) :] + continuation
        before = start + tokenizer.encode(bare, add_special=False)
        whole = start + tokenizer.encode(bare + continuation, add_special=False)
        after = whole[len(before) :]
    else:
        before = model.to_ids(context)
        after = model.to_ids(continuation, add_special=False)
    if not before and bos is not None:
        before = [bos]
    return before, after


def perplexity(
    model: "Model",
    text: Text,
    *,
    n_ctx: int = 512,
    n_chunks: int | None = None,
    progress: bool = False,
) -> Perplexity:
    """Return the perplexity of a text under llama-perplexity's default protocol.

    Chunks of `n_ctx` tokens; the first token of each is replaced by the token of beginning if the
    model wants one. In each the tokens from number n_ctx / 2 + 1 on are scored.

    Parameters
    ----------
    model : Model
    text : str or ids
    n_ctx : int
    n_chunks : int, optional
        Most chunks to use.
    progress : bool

    Raises
    ------
    ValueError
        If the text is shorter than a chunk.
    ContextLengthExceeded
        If `n_ctx` is more than the model's.
    """
    if n_ctx > model.n_ctx:
        raise ContextLengthExceeded(
            f"expected chunks of at most {model.n_ctx} tokens, got n_ctx={n_ctx}; "
            "load the model with a larger n_ctx"
        )
    ids = model.to_ids(text)
    n_possible = len(ids) // n_ctx if n_ctx > 3 else 0
    if not n_possible or (n_chunks is not None and n_chunks < 1):
        raise ValueError(
            f"expected a text of at least n_ctx={n_ctx} tokens (4 or more) and at least one "
            f"chunk, got {len(ids)} tokens and n_chunks={n_chunks}"
        )
    count = min(n_possible, n_chunks or n_possible)
    scores: list[float] = []
    with ProgressBar(progress, "perplexity", unit="chunk") as bar:
        for i in range(count):
            scores += _chunk_scores(model, ids[i * n_ctx : (i + 1) * n_ctx])
            bar.update(i + 1, count, note=f"{math.exp(-sum(scores) / len(scores)):.4f}")
    return _summary(scores, count)


def _chunk_scores(model: "Model", chunk: list[int]) -> list[float]:
    tokenizer = model.tokenizer
    if tokenizer is not None and tokenizer.add_bos and tokenizer.bos_id is not None:
        chunk = [tokenizer.bos_id, *chunk[1:]]
    first = len(chunk) // 2
    following = chunk[first + 1 :]
    scores: list[float] = []
    with model.sequence() as sequence:
        for logits in sequence.extend(chunk[:-1], np.arange(first, len(chunk) - 1)):
            ids = np.array(following[len(scores) : len(scores) + len(logits)], np.int32)
            scores += top_logprobs(logits, ids, 0)[0].tolist()
    return scores


def _summary(scores: Iterable[float], n_chunks: int) -> Perplexity:
    losses = -np.array([*scores], np.float64)
    value = math.exp(losses.mean())
    spread = float((losses**2).mean() - losses.mean() ** 2)
    error = math.sqrt(max(0.0, spread) / max(1, len(losses) - 1))
    return Perplexity(value, value * error, len(losses), n_chunks)
