"""K-EXAONE: "exaone-moe". Source: LG AI Research, "K-EXAONE Technical Report", 2026."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

WINDOW_PERIOD = 4  # three layers with a window and rope, then one without both


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms on heads, rope only beside windows, experts and a shared one."""
    rotation, windows = ropes.rope_of(g, config, "neox"), attn.windows_of(config, WINDOW_PERIOD)

    def attention(x: Value, i: int) -> Value:
        turned = rotation if windows[i] else None
        return attn.block(g, x, config, i, turned, head_norms=True, window=windows[i])

    def network(x: Value, i: int) -> Value:
        if not g.has(f"blk.{i}.ffn_gate_inp.weight"):
            return mlp.gated_mlp(g, x, config, i)
        return moe.mixture(g, x, config, i, moe.routing_of(g, config, i))

    stack.decoder(g, config, attention, network)
