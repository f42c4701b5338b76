"""DeepSeek's sparse attention: a small index chooses the positions that latent attention reads.

Source: DeepSeek-AI, "DeepSeek-V3.2", 2025. The files' models rotate index queries and keys by a
Hadamard matrix, which changes no product and is left out.
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.graph.words.heads import head_columns, join_heads
from jitllm.llm.graph.words.sparse import index_positions
from jitllm.llm.models import _mla as mla
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nextn as nextn
from jitllm.llm.models import _stack as stack


def has_choice(g: GraphBuilder, config: ModelConfig) -> bool:
    """Whether sequences may have more positions than the index chooses; else all are read."""
    return g.n_ctx > config.metadata.get("attention.indexer.top_k", int)


def choose(
    g: GraphBuilder, x: Value, latent: Value, config: ModelConfig, turn: Rotation, i: int,
    *, eps: float = 1e-6, rope_last: bool = False,
) -> Value:  # fmt: skip
    """The positions that rows of layer i attend to: [T, top_k].

    Parameters
    ----------
    g : GraphBuilder
    x, latent : Value
        Normalized rows [T, n] and their query latent.
    config : ModelConfig
    turn : Rotation
        Of index heads.
    i : int
    eps : float
        Of the layer norm of index keys.
    rope_last : bool
        The last columns of heads turn, not the first.
    """
    meta, name = config.metadata, f"blk.{i}.indexer"
    n_heads = meta.get("attention.indexer.head_count", int)
    size = meta.get("attention.indexer.key_length", int)
    if n_heads < 1 or size < config.rotary_dim:
        raise ModelFormatError(
            f"{config.architecture}: expected attention.indexer.head_count above 0 and .key_length "
            f"of at least {config.rotary_dim}, got {n_heads} and {size}"
        )
    q = g.matmul(latent, f"{name}.attn_q_b.weight", name=f"{name}.q", width=n_heads * size)
    k = g.matmul(x, f"{name}.attn_k.weight", name=f"{name}.k", width=size)
    norm = f"{name}.k_norm"
    k = g.layer_norm(k, f"{norm}.weight", f"{norm}.bias", eps=eps, name=norm)
    start = size - config.rotary_dim if rope_last else 0
    w = g.matmul(x, f"{name}.proj.weight", name=f"{name}.proj", width=n_heads)
    return index_positions(
        g, _turned(g, q, turn, n_heads, start, f"{name}.q_rope"),
        _turned(g, k, turn, 1, start, f"{name}.k_rope"), w, n_heads=n_heads,
        top_k=meta.get("attention.indexer.top_k", int), scale=(size * n_heads) ** -0.5,
        name=f"{name}.top_k",
    )  # fmt: skip


def _turned(
    g: GraphBuilder, x: Value, turn: Rotation, n_heads: int, start: int, name: str
) -> Value:
    """Rope on the columns of each head from `start` on."""
    if not start:
        return g.rope(x, turn, n_heads=n_heads, name=name)
    size = x.width // n_heads
    kept = head_columns(g, x, 0, start, n_heads=n_heads, name=f"{name}.kept")
    part = head_columns(g, x, start, size, n_heads=n_heads, name=f"{name}.part")
    part = g.rope(part, turn, n_heads=n_heads, name=f"{name}.turned")
    return join_heads(g, kept, part, n_heads=n_heads, name=name)


def build(
    g: GraphBuilder, config: ModelConfig, kind: str, is_full: tuple[bool, ...], gating: str
) -> None:
    """Add the nodes of a DeepSeek 3.2 model.

    Parameters
    ----------
    g : GraphBuilder
    config : ModelConfig
    kind : str
        How the index pairs the columns that turn: "norm" or "neox".
    is_full : tuple of bool
        Layers with an index; the others use the choice of the last one before.
    gating : str
        Of experts, where the file does not say.
    """
    latent = mla.Latent.from_config(config)
    turn, _ = mla.yarn(config, latent.nope + latent.rope, kind=kind)
    chosen: Value | None = None
    if not is_full[0]:
        raise ModelFormatError(f"{config.architecture}: expected an index in the first layer")

    def attention(x: Value, i: int) -> Value:
        nonlocal chosen
        queries = mla.query_latent(g, x, config, latent, i)
        if is_full[i] and has_choice(g, config):
            chosen = choose(g, x, queries, config, turn, i)
        z = mla.heads(g, x, queries, config, latent, i, chosen=chosen)
        return mla.output(g, z, config, i)

    stack.decoder(g, config, attention, _network(g, config, gating))


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int, gating: str) -> None:
    """Add the nodes of block `block` that predicts further tokens: it attends to all positions."""
    latent = mla.Latent.from_config(config)

    def attention(x: Value, i: int) -> Value:
        queries = mla.query_latent(g, x, config, latent, i)
        return mla.attend(g, x, queries, config, latent, i)

    nextn.head(g, config, block, stack.Blocks(attention, _network(g, config, gating)))


def _network(g: GraphBuilder, config: ModelConfig, gating: str) -> stack.Block:
    def network(x: Value, i: int) -> Value:
        return moe.feed_forward(g, x, config, i, scale=True, default_gating=gating)

    return network
