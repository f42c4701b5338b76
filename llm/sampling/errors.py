"""The exception of this folder."""

from jitllm.llm.errors import JitllmError


class SamplingError(JitllmError, ValueError):
    """A sampling parameter, a sampler's state or a row of logits is not usable."""
