"""Samplers: one file per sampler, found by its name; `chain` puts them in a row."""

from jitllm.llm.sampling.base import Candidates, Context, Sampler
from jitllm.llm.sampling.breakers import BreakerIndex
from jitllm.llm.sampling.build import chain
from jitllm.llm.sampling.errors import SamplingError
from jitllm.llm.sampling.logprobs import log_softmax_rows, top_logprobs
from jitllm.llm.sampling.params import DEFAULT_SAMPLERS, SamplingParams
from jitllm.llm.sampling.registry import from_letters, names
from jitllm.llm.sampling.sampler_chain import SamplerChain

__all__ = [
    "DEFAULT_SAMPLERS",
    "BreakerIndex",
    "Candidates",
    "Context",
    "Sampler",
    "SamplerChain",
    "SamplingError",
    "SamplingParams",
    "chain",
    "from_letters",
    "log_softmax_rows",
    "names",
    "top_logprobs",
]
