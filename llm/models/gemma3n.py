"""Gemma 3n, text: "gemma3n". Source: Gemma Team, "Gemma 3n", 2025."""

import math

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.gaussian_top import gaussian_top
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _gemma as gemma
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models._altup import Streams

# Of the released models, for files that do not say.
WINDOW_PERIOD = 5
INPUT_WIDTH = 256
OWN_KEYS = 20  # layers that have keys of their own
SPARSE_LAYERS = 10
DEVIATIONS = 1.6448533535003662  # above which are 5 % of a normal distribution
FINAL_CAP = 30.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: several residual streams, inputs of layers, shared keys, sparse networks."""
    meta, windows = config.metadata, attn.windows_of(config, WINDOW_PERIOD)
    n_shared = meta.get("attention.shared_kv_layers", int, max(0, len(windows) - OWN_KEYS))
    key_layers = gemma.key_layers(config, windows, n_shared)
    near, far = gemma.window_rotation(config), ropes.plain_rope(config, "neox")
    altup, deviations = Streams.from_config(config), _deviations(config)
    x = gemma.embeddings(g, config)
    width = meta.get("embedding_length_per_layer_input", int, INPUT_WIDTH)
    inputs = gemma.inputs_of_layers(g, x, config, width)
    streams = altup.start(g, x)
    for i, window in enumerate(windows):
        predicted = altup.predict(g, streams, config, i)
        x = predicted[altup.active]
        h = nn.rms_norm(g, x, config, f"blk.{i}.attn_norm")
        laurel = _laurel(g, h, config, i)
        heads = attn.qkv(g, h, config, i) if key_layers[i] == i else gemma.query(g, h, config, i)
        turned = near if window else far
        h = gemma.attend(g, heads, config, i, turned, window=window, key_layer=key_layers[i])
        x = g.add(x, h, name=f"blk.{i}.attn_residual")
        x = g.add(x, laurel, name=f"blk.{i}.ffn_inp.unscaled")
        x = g.scale(x, 2**-0.5, name=f"blk.{i}.ffn_inp")
        x = g.add(x, _network(g, x, config, i, deviations[i]), name=f"blk.{i}.ffn_residual")
        streams = altup.correct(g, predicted, x, config, i)
        own = altup.scaled(g, streams[altup.active], i)
        streams = altup.add(g, streams, gemma.input_of_layer(g, own, inputs, config, i), i)
    cap = meta.get("final_logit_softcapping", float, FINAL_CAP)
    lm_head.scaled_logits(g, altup.end(g, streams), config, 1.0, cap)


def _deviations(config: ModelConfig) -> tuple[float, ...]:
    """For each layer how far above the mean a gate must be; minus infinity: all gates count."""
    n, key = config.num_hidden_layers, "activation_sparsity_scale"
    if f"{config.architecture}.{key}" in config.metadata.values:
        return config.metadata.per_layer(key, float, n)
    return tuple(DEVIATIONS if i < SPARSE_LAYERS else -math.inf for i in range(n))


def _laurel(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """x and the norm of its product with two thin matrices: [T, n].

    Source: Menghani et al., "LAuReL: Learned Augmented Residual Layer", 2024.
    """
    blk = f"blk.{i}."
    h = g.matmul(x, blk + "laurel_l.weight", name=blk + "laurel_l")
    h = g.matmul(h, blk + "laurel_r.weight", width=x.width, name=blk + "laurel_r")
    return g.add(x, nn.rms_norm(g, h, config, blk + "laurel_post_norm"), name=blk + "laurel_out")


def _network(g: GraphBuilder, x: Value, config: ModelConfig, i: int, deviations: float) -> Value:
    """A gated network between norms, of whose gates only the largest may count: [T, n]."""
    blk, n_ff = f"blk.{i}.", config.intermediate_size[i]
    h = nn.rms_norm(g, x, config, blk + "ffn_norm")
    gate = g.matmul(h, blk + "ffn_gate.weight", width=n_ff, name=blk + "ffn_gate")
    up = g.matmul(h, blk + "ffn_up.weight", width=n_ff, name=blk + "ffn_up")
    if deviations > -math.inf:
        gate = gaussian_top(g, gate, deviations, name=blk + "ffn_gate_top")
    h = g.glu(gate, up, act="gelu", name=blk + "ffn_act")
    h = g.matmul(h, blk + "ffn_down.weight", width=config.hidden_size, name=blk + "ffn_out")
    return nn.rms_norm(g, h, config, blk + "ffn_post_norm", blk + "post_ffw_norm")
