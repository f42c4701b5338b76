"""MiniCPM 1 and 2: "minicpm". Source: Hu et al., "MiniCPM", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _granite as granite
from jitllm.llm.models import _layers as nn

BASE_WIDTH = 256  # of the small model whose hyperparameters were carried over


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with factors on embeddings, both branches and logits.

    Files without the factors mean 12, 1.4 / sqrt(layers), and BASE_WIDTH / n for the logits.
    """
    meta, n_layers = config.metadata, config.num_hidden_layers
    branch = meta.get("residual_scale", float, 1.4 / n_layers**0.5)
    rotation = dense.rope(g, config, "norm")

    def norm(x: Value, name: str) -> Value:
        return nn.norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        heads = dense.turned_qkv(g, x, config, rotation, i)
        y = nn.attend(g, *heads, config, i, bias=True)
        return blocks.scaled(g, y, branch, f"blk.{i}.attn_out_scaled")

    def network(x: Value, i: int) -> Value:
        y = granite.network(g, x, config, i)
        return blocks.scaled(g, y, branch, f"blk.{i}.ffn_out_scaled")

    x = nn.embeddings(g, config)
    x = blocks.scaled(g, x, meta.get("embedding_scale", float, 12.0), "inp_scaled")
    x = dense.in_turn(g, x, config, norm, attention, network)
    factor = 1 / meta.get("logit_scale", float, config.hidden_size / BASE_WIDTH)
    dense.logits(g, x, config, norm, factor=factor)
