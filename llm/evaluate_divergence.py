"""How far a model's predictions are from those of a base model: KL divergence and its company."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jitllm.llm.errors import ContextLengthExceeded
from jitllm.llm.evaluate_estimate import Estimate
from jitllm.llm.progress import ProgressBar
from jitllm.llm.sampling.logprobs import log_softmax_rows
from jitllm.llm.texts import Text

if TYPE_CHECKING:
    from jitllm.llm.model import Model

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_PERCENTILES = (0.0, 0.1, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0)
_NAMES = {0.0: "minimum", 50.0: "median", 100.0: "maximum"}
_HEAD = ("quantity", "value", "standard error")


@dataclass(frozen=True, slots=True)
class KLDivergence:
    """What `kl_divergence` found; prints as a table.

    Attributes
    ----------
    perplexity, base_perplexity : Estimate
        Of the model and of the base.
    ratio, log_ratio, difference : Estimate
        perplexity / base_perplexity, its logarithm, and perplexity - base_perplexity. Their errors
        know that both models scored the same tokens.
    correlation : float
        Of both models' losses; NaN where the losses of one are all equal.
    kld : Estimate
        Mean KL divergence per token, sum(p_base * ln(p_base / p)), in nats.
    kld_percentiles : mapping of float to float
        From percent to divergence; 0 is the least, 50 the median, 100 the largest.
    delta_p : Estimate
        Mean of p - p_base of the text's tokens; both lie from 0 to 1.
    delta_p_percentiles : mapping of float to float
    rms_delta_p : Estimate
        Root of the mean square of p - p_base.
    same_top_p : Estimate
        Part of the tokens at which both models find the same token most probable.
    n_tokens, n_chunks : int
    """

    perplexity: Estimate
    base_perplexity: Estimate
    ratio: Estimate
    log_ratio: Estimate
    difference: Estimate
    correlation: float
    kld: Estimate
    kld_percentiles: Mapping[float, float]
    delta_p: Estimate
    delta_p_percentiles: Mapping[float, float]
    rms_delta_p: Estimate
    same_top_p: Estimate
    n_tokens: int
    n_chunks: int

    def __float__(self) -> float:
        return self.kld.value

    def __str__(self) -> str:
        rows = [_HEAD, *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
        lines = (f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)
        return "\n".join([*(line.rstrip() for line in lines), self._size()])

    def _repr_html_(self) -> str:
        from jitllm.llm.display import table_html

        return f"<div>{table_html(_HEAD, self._rows())}<small>{self._size()}</small></div>"

    def _size(self) -> str:
        return f"{self.n_tokens} tokens in {self.n_chunks} chunks"

    def _rows(self) -> list[tuple[str, str, str]]:
        return [
            _cells("perplexity", self.perplexity),
            _cells("perplexity of base", self.base_perplexity),
            ("correlation of losses", f"{self.correlation:.6f}", ""),
            _cells("ln(ratio)", self.log_ratio),
            _cells("ratio", self.ratio),
            _cells("difference", self.difference),
            _cells("mean KLD", self.kld),
            *_percentile_cells("KLD", self.kld_percentiles),
            _cells("mean delta p", self.delta_p),
            *_percentile_cells("delta p", self.delta_p_percentiles),
            _cells("RMS delta p", self.rms_delta_p),
            _cells("same top p", self.same_top_p),
        ]


def _cells(name: str, estimate: Estimate) -> tuple[str, str, str]:
    return name, f"{estimate.value:.6f}", f"{estimate.standard_error:.6f}"


def _percentile_cells(name: str, values: Mapping[float, float]) -> list[tuple[str, str, str]]:
    return [
        (f"{_NAMES.get(percent, f'{percent:g}%')} {name}", f"{value:.6f}", "")
        for percent, value in reversed([*values.items()])
    ]


def kl_divergence(
    model: "Model",
    base: "Model",
    text: Text,
    *,
    n_ctx: int = 512,
    n_chunks: int | None = None,
    progress: bool = False,
) -> KLDivergence:
    """Return how far a model's predictions are from a base model's, by llama-perplexity's protocol.

    Chunks and scored tokens are those of `Model.perplexity`, and so are the perplexities. The base
    is usually the same model with more bits per weight. llama-perplexity keeps the base's
    log-probabilities in 16 bits and drops tokens below exp(-16); here nothing is rounded or
    dropped, so its divergences differ from these in their last digits.

    Parameters
    ----------
    model, base : Model
        Both need the same vocabulary.
    text : str or ids
    n_ctx : int
        Tokens of a chunk.
    n_chunks : int, optional
        Most chunks to use.
    progress : bool

    Raises
    ------
    ValueError
        If the vocabularies differ, or the text is shorter than a chunk.
    ContextLengthExceeded
        If `n_ctx` is more than that of either model.
    """
    ids = _common_ids(model, base, text)
    most = min(model.n_ctx, base.n_ctx)
    if n_ctx > most:
        raise ContextLengthExceeded(
            f"expected chunks of at most {most} tokens, got n_ctx={n_ctx}; "
            "load both models with a larger n_ctx"
        )
    n_possible = len(ids) // n_ctx if n_ctx > 3 else 0
    if not n_possible or (n_chunks is not None and n_chunks < 1):
        raise ValueError(
            f"expected a text of at least n_ctx={n_ctx} tokens (4 or more) and at least one "
            f"chunk, got {len(ids)} tokens and n_chunks={n_chunks}"
        )
    count = min(n_possible, n_chunks or n_possible)
    scores: list[tuple[float, ...]] = []
    with ProgressBar(progress, "KL divergence", unit="chunk") as bar:
        for i in range(count):
            scores += _chunk_scores(model, base, ids[i * n_ctx : (i + 1) * n_ctx])
            bar.update(i + 1, count, note=f"{np.mean([score[2] for score in scores]):.6f}")
    return _summary(np.array(scores, np.float64), count)


def _common_ids(model: "Model", base: "Model", text: Text) -> list[int]:
    if model.n_vocab != base.n_vocab:
        raise ValueError(
            f"expected models of one vocabulary, got {model.n_vocab} and {base.n_vocab} tokens; "
            "compare a model with another form of itself"
        )
    ids = base.to_ids(text)
    if isinstance(text, str) and model.to_ids(text) != ids:
        raise ValueError(
            "expected models that cut texts into the same tokens, got two tokenizers; "
            "compare a model with another form of itself, or give token ids"
        )
    return ids


def _chunk_scores(model: "Model", base: "Model", chunk: list[int]) -> list[tuple[float, ...]]:
    """Return for each scored token: both losses, KLD, p - p_base, and whether the tops agree."""
    tokenizer = model.tokenizer
    if tokenizer is not None and tokenizer.add_bos and tokenizer.bos_id is not None:
        chunk = [tokenizer.bos_id, *chunk[1:]]
    first = len(chunk) // 2
    pairs = zip(_rows(model, chunk, first), _rows(base, chunk, first), strict=True)
    return [
        _score(own, others, token)
        for (own, others), token in zip(pairs, chunk[first + 1 :], strict=True)
    ]


def _rows(model: "Model", chunk: list[int], first: int) -> Iterator[Floats]:
    with model.sequence() as sequence:
        for logits in sequence.extend(chunk[:-1], np.arange(first, len(chunk) - 1)):
            yield from log_softmax_rows(logits)


def _score(own: Floats, others: Floats, token: int) -> tuple[float, ...]:
    p_others = np.exp(others, dtype=np.float64)
    possible = p_others > 0  # 0 * ln(0 / p) is 0, also where p is 0
    gaps = np.subtract(others, own, where=possible, out=np.zeros(len(own)), dtype=np.float64)
    loss, base_loss = -float(own[token]), -float(others[token])
    difference = math.exp(-loss) - math.exp(-base_loss)
    return loss, base_loss, float(p_others @ gaps), difference, own.argmax() == others.argmax()


def _summary(scores: Doubles, n_chunks: int) -> KLDivergence:
    losses, base_losses, kld, delta_p, same = scores.T
    log_ppl, log_base = Estimate.mean(losses), Estimate.mean(base_losses)
    ppl, base = _exp(log_ppl), _exp(log_base)
    freedom = max(1, len(losses) - 1)
    covariance = float((losses * base_losses).mean() - losses.mean() * base_losses.mean()) / freedom
    product = log_ppl.standard_error * log_base.standard_error
    log_ratio = _minus(log_ppl, log_base, covariance)
    square = Estimate.mean(delta_p**2)
    rms = math.sqrt(square.value)
    return KLDivergence(
        perplexity=ppl,
        base_perplexity=base,
        ratio=_exp(log_ratio),
        log_ratio=log_ratio,
        difference=_minus(ppl, base, ppl.value * base.value * covariance),
        correlation=covariance / product if product else math.nan,
        kld=Estimate.mean(kld),
        kld_percentiles=_percentiles(kld),
        delta_p=Estimate.mean(delta_p),
        delta_p_percentiles=_percentiles(delta_p),
        rms_delta_p=Estimate(rms, 0.5 / rms * square.standard_error if rms else 0.0),
        same_top_p=Estimate.mean(same),
        n_tokens=len(losses),
        n_chunks=n_chunks,
    )


def _exp(of: Estimate) -> Estimate:
    value = math.exp(of.value)
    return Estimate(value, value * of.standard_error)


def _minus(a: Estimate, b: Estimate, covariance: float) -> Estimate:
    variance = a.standard_error**2 + b.standard_error**2 - 2 * covariance
    return Estimate(a.value - b.value, math.sqrt(max(0.0, variance)))


def _percentiles(values: Doubles) -> dict[float, float]:
    return dict(zip(_PERCENTILES, np.percentile(values, _PERCENTILES).tolist(), strict=True))
