"""T5, Flan-T5, mT5, UMT5 and others made alike: "t5". Source: Raffel et al., "T5", 2020.

A file without "output.weight" uses its embedding table, and as in llama.cpp logits are then those
of T5 times the square root of the columns.
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.keep import keep
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _t5 as t5


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: an encoder's, which keep what decoder layers see of its text, and theirs."""
    n_layers = config.metadata.get("decoder_block_count", int, config.num_hidden_layers)
    _encoder(g.new_encoder(), config, n_layers)
    x = nn.embeddings(g, config)
    for i in range(n_layers):
        x = t5.self_attention(g, x, config, "dec", f"blk.{i}.", i)
        x = _cross_attention(g, x, config, i)
        x = t5.network(g, x, config, f"dec.blk.{i}.", f"blk.{i}.")
    x = g.select_outputs(x, name="output_rows")
    lm_head.output(g, nn.rms_norm(g, x, config, "output_norm", "dec.output_norm"), config)


def _encoder(g: GraphBuilder, config: ModelConfig, n_layers: int) -> None:
    """The encoder, and keys and values of its states for each layer of the decoder."""
    x = t5.encoder(g, config, "enc.")
    for i in range(n_layers):
        name = f"blk.{i}.cross_attn_"
        k, v = t5.projected(g, x, config, f"dec.{name}", name, "kv")
        keep(g, k, v, n_kv_heads=config.num_key_value_heads[0], name=f"blk.{i}.cross_cells")
    g.select_outputs(x, name="enc.hidden_states")


def _cross_attention(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """x + attention(norm(x)) to the encoder's text: [T, n]."""
    name = f"blk.{i}.cross_attn_"
    h = nn.rms_norm(g, x, config, f"{name}norm", f"dec.{name}norm")
    (q,) = t5.projected(g, h, config, f"dec.{name}", name, "q")
    z = g.attention(
        q, None, None, n_heads=config.num_attention_heads[0],
        n_kv_heads=config.num_key_value_heads[0], scale=1.0, keys_of=f"blk.{i}.cross_cells",
        cross=True, name=f"blk.{i}.cross_kqv_out",
    )  # fmt: skip
    h = nn.linear(g, z, f"dec.{name}o", x.width, bias=False, as_name=f"{name}out")
    return g.add(x, h, name=f"blk.{i}.ffn_inp")
