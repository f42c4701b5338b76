"""Gemma 3, text: "gemma3". Source: Gemma Team, "Gemma 3 Technical Report", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _gemma as gemma
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

WINDOW_PERIOD = 6  # five layers with a window, then one without
LAYERS_27B = 62


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: scaled embeddings, norms around both blocks, windows on most layers."""
    windows = attn.windows_of(config, WINDOW_PERIOD)
    whole, local = ropes.rope_of(g, config, "neox"), gemma.window_rotation(config)
    scale = gemma.attention_scale(config, LAYERS_27B)

    def attention(x: Value, i: int) -> Value:
        turned = local if windows[i] else whole
        return attn.block(g, x, config, i, turned, head_norms=True, scale=scale, window=windows[i])

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i, act="gelu")

    x = gemma.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        x = stack.between_norms(g, x, config, i, attention, network)
    cap = config.metadata.get("final_logit_softcapping", float, 0.0)
    lm_head.scaled_logits(g, x, config, 1.0, cap)
