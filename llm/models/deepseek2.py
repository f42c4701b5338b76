"""DeepSeek 2, 2.5, 3 and R1, their small forms, GLM 4.7 Flash, Kimi K2, Mistral Large 3 and others:
"deepseek2".

Source: DeepSeek-AI, "DeepSeek-V2" and "DeepSeek-V3", 2024.
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _mla as mla
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nextn as nextn
from jitllm.llm.models import _stack as stack

_GLM_LAYERS, _GLM_VOCABULARY = (47, 48), 154880  # its early files do not name the gating


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: latent attention, experts beside a shared one."""
    stack.decoder(g, config, *_blocks(g, config))


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens."""
    nextn.head(g, config, block, _blocks(g, config))


def _blocks(g: GraphBuilder, config: ModelConfig) -> stack.Blocks:
    latent = mla.Latent.from_config(config, mscale_is_all=True)
    is_glm = (
        stack.n_layers_of(config) in _GLM_LAYERS and config.vocab_size == _GLM_VOCABULARY
    )  # fmt: skip
    gating = "sigmoid" if is_glm else "softmax"

    def attention(x: Value, i: int) -> Value:
        queries = mla.query_latent(g, x, config, latent, i)
        return mla.attend(g, x, queries, config, latent, i)

    def feed_forward(x: Value, i: int) -> Value:
        return moe.feed_forward(g, x, config, i, default_gating=gating)

    return stack.Blocks(attention, feed_forward)
