"""`chain`: builds a `SamplerChain` from parameters, from names, or from callables."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from jitllm.llm.sampling import registry
from jitllm.llm.sampling.base import Candidates, Context, LogitsFunction, Sampler, TokenIdsForText
from jitllm.llm.sampling.errors import SamplingError
from jitllm.llm.sampling.params import DEFAULT_SAMPLERS, SamplingParams
from jitllm.llm.sampling.sampler_chain import SamplerChain, call_logits_function

Part: TypeAlias = str | Sampler | LogitsFunction


class Custom(Sampler):
    """A user's `f(ids, logits)` as a sampler: the candidates' ids and logits, same length."""

    name = "custom"

    def __init__(self, function: LogitsFunction) -> None:
        self.function = function

    def apply(self, candidates: Candidates) -> None:
        """Call the function; it changes the logits in place or returns new ones."""
        logits = candidates.writable_logits()
        candidates.set_logits(call_logits_function(self.function, candidates.ids, logits))
        candidates.is_sorted = False


def chain(
    *parts: SamplingParams | Part,
    n_vocab: int | None = None,
    eog_ids: Iterable[int] = (),
    token_ids_for_text: TokenIdsForText | None = None,
    logits_processors: Sequence[LogitsFunction] = (),
    seed: int | None = None,
) -> SamplerChain:
    """Build a chain.

    Parameters
    ----------
    parts
        One `SamplingParams`; or, in order, names with arguments ("top_k:40", "xtc:0.5:0.1"),
        `Sampler` objects and callables `f(ids, logits)` over the candidates at that point. If none
        of these selects a token, "dist" is added.
    n_vocab
        Number of logits; None to find out later.
    eog_ids
        Tokens that end a generation, for `ignore_eos`.
    token_ids_for_text
        Text to token sequences, for DRY's sequence breakers; see `BreakerIndex`.
    logits_processors
        `f(ids, logits)` over the history and all logits, before the samplers.
    seed
        For names; with `SamplingParams` it replaces theirs. None draws one.

    Raises
    ------
    SamplingError
        Unknown name, wrong argument, or two samplers that both select.
    """
    params = parts[0] if len(parts) == 1 and isinstance(parts[0], SamplingParams) else None
    if seed is None and params is not None:
        seed = params.seed
    context = Context(
        seed=int.from_bytes(os.urandom(4), "little")
        if seed is None
        else SamplingParams(seed=seed).seed or 0,
        n_vocab=n_vocab,
        eog_ids=tuple(int(token) for token in eog_ids),
        token_ids_for_text=token_ids_for_text,
    )
    samplers = _from_parts(parts, context) if params is None else _from_params(params, context)
    return SamplerChain(
        samplers, seed=context.seed, n_vocab=n_vocab, logits_processors=logits_processors
    )


def _from_parts(parts: Iterable[SamplingParams | Part], context: Context) -> list[Sampler]:
    samplers = []
    for part in parts:
        if isinstance(part, SamplingParams):
            raise SamplingError("chain takes one SamplingParams alone, or names and callables")
        sampler = _from_part(part, context)
        if sampler is not None:
            samplers.append(sampler)
    return _selecting_last(samplers, context)


def _from_part(part: Part, context: Context) -> Sampler | None:
    if isinstance(part, str):
        name, *arguments = part.split(":")
        return registry.find(name).from_text(arguments, context)
    if isinstance(part, Sampler):
        return part
    if callable(part):
        return Custom(part)
    raise SamplingError(f"expected a sampler's name, a Sampler or a callable, got {part!r}")


def _from_params(params: SamplingParams, context: Context) -> list[Sampler]:
    build = _builder(params, context)
    names = DEFAULT_SAMPLERS if params.samplers is None else params.samplers
    if params.mirostat:
        names = ("temperature", "mirostat" if params.mirostat == 1 else "mirostat_v2")
    found = [registry.find(name.split(":")[0]) for name in names]
    first = [sampler for sampler in [build("logit_bias")] if sampler is not None]
    is_greedy = params.temperature <= 0 and params.dynatemp_range <= 0
    heat = [i for i, sampler in enumerate(found) if sampler.name == "temperature"]
    if is_greedy and heat and names[heat[0]].find(":") < 0:
        return first + _greedy([build(name) for name in names[: heat[0]]])
    built = [build(name) for name in names]
    return _selecting_last(first + [s for s in built if s is not None], context)


def _builder(params: SamplingParams, context: Context) -> Callable[[str], Sampler | None]:
    def build(text: str) -> Sampler | None:
        name, *arguments = text.split(":")
        sampler = registry.find(name)
        if arguments:
            return sampler.from_text(arguments, context)
        return sampler.from_params(params, context)

    return build


def _greedy(built: Iterable[Sampler | None]) -> list[Sampler]:
    """Return a chain for temperature 0: whatever may change which logit is largest, and greedy.

    After temperature only one token is possible, so later samplers have no say.
    """
    samplers = [s for s in built if s is not None and not s.selects]
    while samplers and samplers[-1].keeps_best:
        samplers.pop()
    return [*samplers, registry.find("greedy")()]


def _selecting_last(samplers: Sequence[Sampler], context: Context) -> list[Sampler]:
    """Move the selecting sampler to the end, or add "dist"."""
    selecting = [sampler for sampler in samplers if sampler.selects]
    if len(selecting) > 1:
        raise SamplingError(
            f"only one sampler may choose the token, got {[s.name for s in selecting]}"
        )
    if not selecting:
        dist = registry.find("dist").from_text((), context)
        selecting = [] if dist is None else [dist]
    return [sampler for sampler in samplers if not sampler.selects] + selecting
