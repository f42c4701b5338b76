"""Nanbeige: "nanbeige". Source: Nanbeige Lab, "Nanbeige", 2026."""

import dataclasses

from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models._loops import weights_of

MAX_LAYERS = 4096


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama whose layers run "num_loops" times, the final norm in between."""
    n_blocks = config.num_hidden_layers
    config = _unrolled(config)
    has_norm = not config.metadata.get("skip_loop_final_norm", bool, False)
    rotation = ropes.rope_of(g, config, "norm")
    x = nn.embeddings(g, config)
    with weights_of(g, lambda i: i % n_blocks, config.num_hidden_layers):
        for i in range(config.num_hidden_layers):
            if i and i % n_blocks == 0 and has_norm:
                x = nn.rms_norm(g, x, config, f"blk.{i}.inp_norm", "output_norm")
            h = nn.rms_norm(g, x, config, f"blk.{i}.attn_norm")
            q, k, v = attn.qkv(g, h, config, i)
            q, k = attn.rope(g, q, k, rotation, config, i)
            h = attn.attend(g, q, k, v, config, i)
            x = g.add(x, h, name=f"blk.{i}.ffn_inp")

            h = nn.rms_norm(g, x, config, f"blk.{i}.ffn_norm")
            h = mlp.gated_mlp(g, h, config, i, scale=True)
            x = g.add(x, h, name=f"blk.{i}.l_out")
    lm_head.logits(g, x, config)


def _unrolled(config: ModelConfig) -> ModelConfig:
    """The configuration with a layer for each pass through each."""
    loops, n_blocks = config.metadata.get("num_loops", int, 1), config.num_hidden_layers
    if not 1 <= loops <= MAX_LAYERS // n_blocks:
        raise ModelFormatError(
            f"key '{config.architecture}.num_loops': expected 1 to {MAX_LAYERS // n_blocks} for "
            f"{n_blocks} layers, got {loops}"
        )
    return dataclasses.replace(
        config,
        num_hidden_layers=n_blocks * loops,
        num_attention_heads=config.num_attention_heads * loops,
        num_key_value_heads=config.num_key_value_heads * loops,
        intermediate_size=config.intermediate_size * loops,
    )
