"""The language model of Hunyuan-VL: "hunyuan_vl". Source: Tencent, "HunyuanOCR", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: heads are normalized after rope, whose base grows with "alpha".

    Rope in sections is common rope for text.
    """
    theta, dim = config.rope_theta, config.head_dim
    alpha = config.metadata.get("rope.scaling.alpha", float, 0.0)
    if alpha > 0:
        theta *= alpha ** (dim / (dim - 2))
    turned = rotation("neox", config.rotary_dim, theta, config.rope_scaling)

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.qkv(g, x, config, i)
        q, k = attn.rope(g, q, k, turned, config, i)
        q, k = attn.head_rms_norms(g, q, k, config, i)
        return attn.attend(g, q, k, v, config, i)

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i)

    stack.decoder(g, config, attention, network)
