"""HRM-Text: "hrm_text". Source: Wang et al., "Hierarchical Reasoning Model", 2025."""

from dataclasses import dataclass

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models._loops import weights_of


@dataclass(frozen=True)
class _Cycles:
    """A low stack of `size` layers runs `low` times, then a high one once; all that `high` times.

    Layers are counted as they run; the first `size` blocks of the file are the low stack.
    """

    size: int
    high: int
    low: int

    def block_of(self, layer: int) -> int:
        """Block of the file whose weights a layer has."""
        is_high = layer // self.size % (self.low + 1) == self.low
        return layer % self.size + (self.size if is_high else 0)


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: two states of each token, refined in turns by a low and a high stack."""
    cycles = _cycles(config)
    rotation = ropes.rope_of(g, config, "neox")
    factor = config.metadata.get("embedding_scale", float, 0.0)
    high = nn.scaled(g, nn.embeddings(g, config), factor, "inp_scaled")
    low: Value | None = None
    with weights_of(g, cycles.block_of, config.num_hidden_layers):
        for i in range(0, config.num_hidden_layers, cycles.size):
            name = f"blk.{i}.inp"
            if low is None:  # the same state for every token at first
                x = g.add_bias(high, "hrm.z_l_init", name=name)
            else:
                x = g.add(high, low, name=name)
            for layer in range(i, i + cycles.size):
                x = _layer(g, x, config, rotation, layer)
            x = nn.bare_norm(g, x, config, f"blk.{i}.stack_norm")
            if cycles.block_of(i) < cycles.size:
                low = x
            else:
                high = x
    lm_head.output(g, g.select_outputs(high, name="output_rows"), config)


def _cycles(config: ModelConfig) -> _Cycles:
    keys = ("hrm.layers_per_stack", "hrm.h_cycles", "hrm.l_cycles")
    size, high, low = (config.metadata.get(key, int) for key in keys)
    if min(size, high, low) < 1 or size * high * (low + 1) != config.num_hidden_layers:
        raise ModelFormatError(
            f"keys '{config.architecture}.{keys[0]}', '.{keys[1]}' and '.{keys[2]}': expected "
            f"positive numbers that make {config.num_hidden_layers} layers, got "
            f"{size}, {high} and {low}"
        )
    return _Cycles(size, high, low)


def _layer(g: GraphBuilder, x: Value, config: ModelConfig, rotation: Rotation, i: int) -> Value:
    """A Llama layer with gated attention and norms without weights."""
    normed = nn.bare_norm(g, x, config, f"blk.{i}.attn_norm")
    q, k, v = attn.qkv(g, normed, config, i)
    q, k = attn.rope(g, q, k, rotation, config, i)
    z = attn.attention(g, q, k, v, config, i)
    h = attn.gated_output(g, z, normed, config, i, width=z.width)
    x = g.add(x, h, name=f"blk.{i}.ffn_inp")

    h = nn.bare_norm(g, x, config, f"blk.{i}.ffn_norm")
    h = mlp.gated_mlp(g, h, config, i)
    return g.add(x, h, name=f"blk.{i}.l_out")
