"""dots.note 3: "dots3note"."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.delta_net import gated
from jitllm.llm.graph.words.row_dot import row_dot
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _dsa
from jitllm.llm.models import _mla as mla
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: latent attention to all chosen positions, or in a window; gated heads."""
    windows = attn.windows_of(config, 0)
    turn = ropes.rope_of(g, config, "norm")
    index_turn = ropes.rope_of(g, config, "neox")
    latents = {}
    for suffix, rotation in (("", turn), ("_swa", ropes.window_rotation(config, "norm"))):
        scale = config.metadata.get(f"attention.key_length_mla{suffix}", int) ** -0.5
        latents[bool(suffix)] = mla.Latent.from_config(
            config, suffix=suffix, turn=(rotation, scale)
        )

    def attention(x: Value, i: int) -> Value:
        window, chosen = windows[i], None
        latent = latents[window > 0]
        queries = mla.query_latent(g, x, config, latent, i)
        if not window and _dsa.has_choice(g, config):
            chosen = _dsa.choose(g, x, queries, config, index_turn, i)
        z = mla.heads(g, x, queries, config, latent, i, chosen=chosen, window=window)
        z = gated(g, z, _gate(g, x, config, i), name=f"blk.{i}.kqv_gated")
        return mla.output(g, z, config, i)

    def feed_forward(x: Value, i: int) -> Value:
        return moe.feed_forward(g, x, config, i, scale=True)

    stack.decoder(g, config, attention, feed_forward)


def _gate(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """One gate for each head: [T, H]. A file holds the matrix of one head as a vector."""
    n_heads, name = config.num_attention_heads[i], f"blk.{i}.attn_gate"
    if n_heads == 1:
        return row_dot(g, x, f"{name}.weight", name=name)
    return g.matmul(x, f"{name}.weight", name=name, width=n_heads)
