"""What Gemma models share; of 3n and 4: keys that several layers read, inputs of layers.

Functions add nodes for layer i under the prefix "blk.{i}.".
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes

WINDOW_THETA = 10000.0  # of files that do not say
Heads = tuple[Value, Value | None, Value | None]


def key_layers(config: ModelConfig, windows: tuple[int, ...], n_shared: int) -> tuple[int, ...]:
    """The layer whose keys and values each layer reads.

    The last `n_shared` layers have none of their own: they read those of the last layer before
    them that has the same window.

    Raises
    ------
    ModelFormatError
        If there is no such layer.
    """
    n_own = len(windows) - n_shared
    last = {window: i for i, window in enumerate(windows[: max(0, n_own)])}
    if n_shared < 0 or not last.keys() >= set(windows):
        raise ModelFormatError(
            f"key '{config.architecture}.attention.shared_kv_layers': expected a layer of each "
            f"kind before those that share its keys, got {n_shared} of {len(windows)} layers"
        )
    return tuple(i if i < n_own else last[window] for i, window in enumerate(windows))


def embeddings(g: GraphBuilder, config: ModelConfig) -> Value:
    """Embeddings of the tokens, times the square root of their width: [T, n]."""
    return g.scale(nn.embeddings(g, config), config.hidden_size**0.5, name="inp_scaled")


def window_rotation(config: ModelConfig) -> Rotation:
    """Rotation of layers with a window, which is not stretched."""
    return ropes.window_rotation(config, "neox", theta=WINDOW_THETA, scaled=False)


def attention_scale(config: ModelConfig, layers_27b: int) -> float:
    """1 / sqrt(head_dim); the 27B model alone takes the size of a share of the hidden columns.

    It is told by its `layers_27b` layers.
    """
    if config.num_hidden_layers == layers_27b:
        return float((config.hidden_size // config.num_attention_heads[0]) ** -0.5)
    return float(config.head_dim**-0.5)


def query(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Heads:
    """Queries [T, H*dk] alone; their matrix may be fused with others, which are not used."""
    blk, width = f"blk.{i}.", config.num_attention_heads[i] * config.head_dim
    if not g.has(blk + "attn_qkv.weight"):
        return nn.linear(g, x, blk + "attn_q", width), None, None
    q, _, _ = attn.qkv(g, x, config, i)
    return q, None, None


def attend(
    g: GraphBuilder,
    heads: Heads,
    config: ModelConfig,
    i: int,
    rotation: Rotation,
    *,
    window: int,
    key_layer: int,
) -> Value:
    """Attention with norms on queries, keys and values, its output matrix and norm: [T, n].

    Heads without keys read those of layer `key_layer`.
    """
    blk, (q, k, v) = f"blk.{i}.", heads
    if k is None or v is None:
        name = blk + "attn_q_norm"
        q = g.rms_norm(
            q, f"{name}.weight", eps=config.rms_norm_eps, group=config.head_dim, name=name
        )
        q = g.rope(q, rotation, n_heads=config.num_attention_heads[i], name=blk + "attn_q_rope")
    else:
        q, k = attn.head_rms_norms(g, q, k, config, i)
        q, k = attn.rope(g, q, k, rotation, config, i)
        v = nn.bare_norm(g, v, config, blk + "attn_v_norm", config.v_head_dim)
    z = g.attention(
        q, k, v, n_heads=config.num_attention_heads[i], n_kv_heads=config.num_key_value_heads[i],
        scale=1.0, window=window, keys_of=f"blk.{key_layer}.kqv_out", name=blk + "kqv_out",
    )  # fmt: skip
    h = attn.output(g, z, config, i)
    return nn.rms_norm(g, h, config, blk + "attn_post_norm", blk + "post_attention_norm")


def inputs_of_layers(g: GraphBuilder, x: Value, config: ModelConfig, width: int) -> Value:
    """One more input for each layer, of the token and of its scaled embedding x: [T, L * width]."""
    total = width * config.num_hidden_layers
    g.weight("per_layer_token_embd.weight", (config.vocab_size, total))
    own = g.embed("per_layer_token_embd.weight", width=total, name="per_layer_token_embd")
    own = g.scale(own, width**0.5, name="per_layer_token_embd_scaled")
    y = g.matmul(x, "per_layer_model_proj.weight", width=total, name="per_layer_model_proj")
    y = g.scale(y, config.hidden_size**-0.5, name="per_layer_model_proj_scaled")
    weight, eps = "per_layer_proj_norm.weight", config.rms_norm_eps
    y = g.rms_norm(y, weight, eps=eps, group=width, name="per_layer_proj_norm")
    return g.scale(g.add(y, own, name="per_layer_sum"), 2**-0.5, name="per_layer_inputs")


def input_of_layer(g: GraphBuilder, x: Value, inputs: Value, config: ModelConfig, i: int) -> Value:
    """What the layer's own input, gated by x [T, n], adds to the residual stream: [T, n]."""
    blk, width = f"blk.{i}.", inputs.width // config.num_hidden_layers
    own = g.columns(inputs, i * width, (i + 1) * width, name=blk + "per_layer_input")
    gate = g.matmul(x, blk + "inp_gate.weight", width=width, name=blk + "inp_gate")
    h = g.glu(gate, own, act="gelu", name=blk + "inp_act")
    h = g.matmul(h, blk + "proj.weight", width=config.hidden_size, name=blk + "inp_out")
    return nn.rms_norm(g, h, config, blk + "inp_post_norm", blk + "post_norm")
