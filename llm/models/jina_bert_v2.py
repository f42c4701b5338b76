"""Jina Embeddings 2 and the rerankers made of them: "jina-bert-v2".

Source: Guenther et al., "Jina Embeddings 2", 2023.
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _encoder as encoder
from jitllm.llm.models import _mlp as mlp

MAX_ALIBI_BIAS = 8.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a BERT whose scores fall with the distance, with a gated network."""
    x = encoder.embeddings(g, config)
    encoder.bert(g, config, x, _mlp, max_alibi_bias=MAX_ALIBI_BIAS, norms=True)


def _mlp(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    blk, n_ff = f"blk.{i}.", config.intermediate_size[i]
    if not g.has(blk + "ffn_gate.weight"):
        if g.weight(blk + "ffn_up.weight", (-1, x.width))[0] == n_ff:
            return encoder.gelu_mlp(g, x, config, i)
        return mlp.fused_mlp(g, x, config, i, act="gelu", bias=True)
    up_bias, down_bias = (g.optional(f"{blk}ffn_{part}.bias") for part in ("up", "down"))
    gate = g.matmul(x, blk + "ffn_gate.weight", name=blk + "ffn_gate", width=n_ff)
    up = g.matmul(x, blk + "ffn_up.weight", name=blk + "ffn_up", width=n_ff, bias=up_bias)
    h = g.glu(gate, up, act="gelu", name=blk + "ffn_act")
    down = blk + "ffn_down.weight"
    return g.matmul(h, down, name=blk + "ffn_out", width=config.hidden_size, bias=down_bias)
