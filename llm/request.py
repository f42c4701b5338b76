"""What a caller asks of a generation: parameters, samplers, seeds."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jitllm.llm.sampling import SamplerChain, SamplingParams, chain

if TYPE_CHECKING:
    from jitllm.llm.model import Model

LogitsFunction = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Request:
    """How to generate: parameters, and what no parameter can say.

    Attributes
    ----------
    params : SamplingParams
    sampler : SamplerChain or None
        In place of the one that `params` describe.
    logits_processors : sequence of callables
        `f(ids, logits)`, before the samplers.
    has_reasoning : bool
        The answer of a chat may hold a <think> part.
    think_opened : bool
        The prompt ends inside the model's reasoning.
    goes_on : bool
        `sampler` has accepted the prompt, and is used itself.
    """

    params: SamplingParams
    sampler: SamplerChain | None = None
    logits_processors: Sequence[LogitsFunction] = ()
    has_reasoning: bool = False
    think_opened: bool = False
    goes_on: bool = False

    @classmethod
    def build(
        cls,
        model: "Model",
        params: SamplingParams | None = None,
        *,
        sampler: SamplerChain | None = None,
        logits_processors: LogitsFunction | Sequence[LogitsFunction] = (),
        **sampling: Any,
    ) -> "Request":
        """Merge parameters: keywords go before `params`, these before the file's defaults."""
        if params is None:
            merged = SamplingParams.from_metadata(model.metadata, **sampling)
        elif isinstance(params, SamplingParams):
            given = {f.name: getattr(params, f.name) for f in dataclasses.fields(params)}
            merged = SamplingParams.create(**{**given, **sampling})
        else:
            raise TypeError(f"expected SamplingParams, got {type(params).__name__}")
        if sampler is not None and merged.n != 1:
            raise ValueError(
                f"expected n=1 with a sampler of your own, got n={merged.n}: "
                "all results would be the same; give its parameters instead"
            )
        if merged.stop:
            model.need_tokenizer("stop strings")
        return cls(merged, sampler, _functions(logits_processors))

    @classmethod
    def going_on(
        cls,
        params: SamplingParams,
        chain: SamplerChain,
        logits_processors: LogitsFunction | Sequence[LogitsFunction],
        max_tokens: int | None,
    ) -> "Request":
        """Return a request that goes on with samplers that have accepted the prompt."""
        params = dataclasses.replace(params, max_tokens=max_tokens, n=1, prompt_logprobs=None)
        if functions := _functions(logits_processors):
            chain.logits_processors = functions
        return cls(params, chain, functions, goes_on=True)

    def lacks(self) -> tuple[str, ...]:
        """Return which parts are the caller's own: "sampler", "logits_processors"."""
        own = {
            "sampler": self.sampler is not None,
            "logits_processors": bool(self.logits_processors),
        }
        return tuple(name for name, is_own in own.items() if is_own)

    def seed_for(self, index: int) -> int:
        """Return the seed of the result with this index: each has its own."""
        if self.params.seed is None:
            return int.from_bytes(os.urandom(4), "little")
        return (self.params.seed + index) % 2**32

    def chain(self, model: "Model", seed: int) -> SamplerChain:
        """Return a fresh chain of samplers."""
        if self.sampler is not None and self.goes_on:
            return self.sampler
        if self.sampler is not None:
            own = self.sampler.clone()
            own.logits_processors += tuple(self.logits_processors)
            return own
        params, tokenizer = self.params, model.tokenizer
        if tokenizer is not None and tokenizer.suppress_ids:
            bias = dict.fromkeys(tokenizer.suppress_ids, float("-inf"))
            params = dataclasses.replace(params, logit_bias={**bias, **(params.logit_bias or {})})
        return chain(
            params,
            n_vocab=model.n_vocab,
            eog_ids=model.eog_ids,
            token_ids_for_text=model.token_ids_for_text,
            logits_processors=self.logits_processors,
            seed=seed,
        )


def _functions(given: Any) -> tuple[LogitsFunction, ...]:
    """Return logits processors as a tuple; one may come alone."""
    functions = (given,) if callable(given) else tuple(given)
    for function in functions:
        if not callable(function):
            raise TypeError(
                f"expected logits_processors that are called f(ids, logits), got {function!r:.80}"
            )
    return functions
