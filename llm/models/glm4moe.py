"""GLM 4.5: "glm4moe". Source: GLM-4.5 Team, "GLM-4.5", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _deepseek as deepseek
from jitllm.llm.models import _layers as nn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models._sections import consecutive, sections_of


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms on heads in the larger model, experts and a shared one."""
    rotation = nn.rope_of(g, config, "neox")
    if blocks.has_rope_sections(config):
        rotation = consecutive(rotation, sections_of(config))
    head_norms = g.has("blk.0.attn_q_norm.weight")
    x = nn.embeddings(g, config)
    for i in range(deepseek.n_layers_of(config)):
        blk = f"blk.{i}."
        h = nn.norm(g, x, config, blk + "attn_norm")
        h = moe.attend(g, h, config, i, rotation, head_norms=head_norms)
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.norm(g, x, config, blk + "ffn_norm", blk + "post_attention_norm")
        if moe.is_dense(config, i):
            h = nn.gated_mlp(g, h, config, i)
        else:
            h = moe.mixture(g, h, config, i, moe.routing_of(g, config, i, "sigmoid"))
        x = g.add(x, h, name=blk + "l_out")
    nn.logits(g, x, config)
