"""OLMo 2 and 3: "olmo2". Source: Team OLMo, "2 OLMo 2 Furious", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

WINDOW_PERIOD = 4  # OLMo 3: three layers with a window, then one without


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms behind both blocks and of q and k; windows in OLMo 3, not stretched."""
    windows, whole = attn.windows_of(config, WINDOW_PERIOD), ropes.plain_rope(config, "neox")
    local = rotation("neox", config.rotary_dim, config.rope_theta)

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.qkv(g, x, config, i)
        q = nn.rms_norm(g, q, config, f"blk.{i}.attn_q_norm")
        k = nn.rms_norm(g, k, config, f"blk.{i}.attn_k_norm")
        q, k = attn.rope(g, q, k, local if windows[i] else whole, config, i)
        return attn.attend(g, q, k, v, config, i, window=windows[i])

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i)

    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        x = stack.before_norms(g, x, config, i, attention, network)
    lm_head.logits(g, x, config)
