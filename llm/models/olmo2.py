"""OLMo 2 and 3: "olmo2". Source: Team OLMo, "2 OLMo 2 Furious", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn

WINDOW_PERIOD = 4  # OLMo 3: three layers with a window, then one without


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms behind both blocks and of q and k; windows in OLMo 3, not stretched."""
    windows, whole = nn.windows_of(config, WINDOW_PERIOD), dense.plain_rope(config, "neox")
    local = rotation("neox", config.rotary_dim, config.rope_theta)

    def attention(x: Value, i: int) -> Value:
        q, k, v = nn.qkv(g, x, config, i)
        q = nn.norm(g, q, config, f"blk.{i}.attn_q_norm")
        k = nn.norm(g, k, config, f"blk.{i}.attn_k_norm")
        q, k = nn.turn(g, q, k, local if windows[i] else whole, config, i)
        return nn.attend(g, q, k, v, config, i, window=windows[i])

    def network(x: Value, i: int) -> Value:
        return nn.gated_mlp(g, x, config, i)

    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        x = dense.before_norms(g, x, config, i, attention, network)
    nn.logits(g, x, config)
