"""GLM 4.5: "glm4moe". Source: GLM-4.5 Team, "GLM-4.5", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nextn as nextn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack
from jitllm.llm.models._sections import consecutive, sections_of


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms on heads in the larger model, experts and a shared one."""
    stack.decoder(g, config, *_blocks(g, config))


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens."""
    nextn.head(g, config, block, _blocks(g, config))


def _blocks(g: GraphBuilder, config: ModelConfig) -> stack.Blocks:
    rotation = ropes.rope_of(g, config, "neox")
    if ropes.has_sections(config):
        rotation = consecutive(rotation, sections_of(config))
    head_norms = g.has("blk.0.attn_q_norm.weight")
    return stack.Blocks(
        lambda x, i: attn.block(g, x, config, i, rotation, head_norms=head_norms),
        lambda x, i: moe.feed_forward(g, x, config, i, default_gating="sigmoid"),
        "post_attention_norm",
    )
