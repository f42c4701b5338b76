"""Parts of layers: embeddings, products with a matrix, norms.

As in all shared files, functions follow the tensors of the file: an optional bias or scale that is
there is used.
"""

from collections.abc import Callable

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.embed_positions import embed_positions

Norm = Callable[[Value, str], Value]


def embeddings(g: GraphBuilder, config: ModelConfig) -> Value:
    """Embeddings of the tokens: [T, n]."""
    return g.embed("token_embd.weight", width=config.hidden_size, name="token_embd")


def with_positions(g: GraphBuilder, x: Value, config: ModelConfig) -> Value:
    """x and the learned embeddings of the positions: [T, n]."""
    positions = embed_positions(g, "position_embd.weight", width=x.width, name="position_embd")
    return g.add(x, positions, name="inp_positions")


def linear(
    g: GraphBuilder, x: Value, name: str, width: int, *, bias: bool = True, as_name: str = ""
) -> Value:
    """x w^T * scale + bias with the tensors `name`.weight, .scale and .bias: [rows, width].

    The last two are optional; `bias=False` leaves the bias out. The scale belongs to the weights
    of types with little range of their own.
    """
    as_name = as_name or name
    bias_name = g.optional(f"{name}.bias") if bias else ""
    if not g.has(f"{name}.scale"):
        return g.matmul(x, f"{name}.weight", name=as_name, width=width, bias=bias_name)
    y = g.matmul(x, f"{name}.weight", name=f"{as_name}.matmul", width=width)
    scale = float(g.values(f"{name}.scale", (1,))[0])
    if not bias_name:
        return g.scale(y, scale, name=as_name)
    y = g.scale(y, scale, name=f"{as_name}.scaled")
    return g.add_bias(y, bias_name, name=as_name)


def scaled(g: GraphBuilder, x: Value, factor: float, name: str) -> Value:
    """x * factor; x itself where the factor is 1, or 0 because the file has none."""
    return x if factor in (0.0, 1.0) else g.scale(x, factor, name=name)


def rms_norm(g: GraphBuilder, x: Value, config: ModelConfig, name: str, tensor: str = "") -> Value:
    """RMS norm with the tensor `tensor`.weight, by default the one called `name`."""
    return g.rms_norm(x, f"{tensor or name}.weight", eps=config.rms_norm_eps, name=name)


def bare_norm(g: GraphBuilder, x: Value, config: ModelConfig, name: str, group: int = 0) -> Value:
    """RMS norm without weights, over each `group` columns (0: all)."""
    return g.rms_norm(x, "", eps=config.rms_norm_eps, group=group, name=name)


def layer_eps(config: ModelConfig) -> float:
    """Epsilon of the layer norms."""
    return config.metadata.get("attention.layer_norm_epsilon", float)


def layer_norm(g: GraphBuilder, x: Value, config: ModelConfig, name: str) -> Value:
    """Layer norm with the tensors `name`.weight and `name`.bias, those that are there."""
    weight, bias = g.optional(f"{name}.weight"), g.optional(f"{name}.bias")
    return g.layer_norm(x, weight, bias, eps=layer_eps(config), name=name)


def biased_layer_norm(g: GraphBuilder, x: Value, config: ModelConfig, name: str) -> Value:
    """Layer norm with the tensors `name`.weight and `name`.bias, both of which there must be."""
    weight, bias = f"{name}.weight", f"{name}.bias"
    return g.layer_norm(x, weight, bias, eps=layer_eps(config), name=name)
