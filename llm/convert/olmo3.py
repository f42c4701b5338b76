"""OLMo 3: "olmo2", with windows. Source: transformers, `Olmo3ForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _windows as windows
from jitllm.llm.convert import olmo2
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = olmo2.ARCHITECTURE
CLASSES = ("Olmo3ForCausalLM",)
DEFAULTS = olmo2.DEFAULTS | {
    "rope_theta": 500000.0, "sliding_window": 4096, "sliding_window_pattern": 4,
}  # fmt: skip


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    olmo2.convert(source, target)
    windows.write(source.config, target)
    rope = decoder.rope_parameters(source.config)
    target.key("float32", "rope.freq_base_swa", rope.get("rope_theta"))
