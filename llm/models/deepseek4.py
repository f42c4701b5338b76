"""DeepSeek 4: "deepseek4". Source: DeepSeek-AI, "DeepSeek-V4", 2026."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.token_table import token_table
from jitllm.llm.models import _compressed as compressed
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nextn as nextn
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack
from jitllm.llm.models import _streams


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes."""
    n_layers, streams = _n_layers(g, config), _streams.Streams.mixed(config)
    _streams.layers(g, config, streams, *_blocks(g, config), n_layers=n_layers)
    nextn.reads_sums(g, config)


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens; hidden rows are all streams."""
    i, streams = nextn.layer_of(g, config, block), _streams.Streams.mixed(config)

    def norm(x: Value, name: str, tensor: str) -> Value:
        return nn.rms_norm(g, x, config, name, tensor)

    x = nextn.begins(g, config, i, norm, n_streams=streams.n)
    x = _streams.layer(g, x, config, streams, _blocks(g, config), i)
    g.hidden = x.name
    x = _streams.read_outputs(g, x, config, streams)
    x = norm(x, f"blk.{i}.nextn.shared_head_norm", nextn.last_norm(g, i))
    lm_head.output(g, x, config, block=i)


def _blocks(g: GraphBuilder, config: ModelConfig) -> stack.Blocks:
    layers = compressed.layers_of(config)
    n_hashed = config.metadata.get("hash_layer_count", int, 0)

    def feed_forward(x: Value, i: int) -> Value:
        chosen = _experts_of_tokens(g, config, i) if i < n_hashed else None
        unit, expert_unit = mlp.clamped_pair(config, i)
        return moe.feed_forward(
            g, x, config, i, unit=unit, expert_unit=expert_unit, default_gating="sqrt_softplus",
            chosen=chosen,
        )  # fmt: skip

    return stack.Blocks(lambda x, i: compressed.attend(g, x, config, layers[i], i), feed_forward)


def _n_layers(g: GraphBuilder, config: ModelConfig) -> int:
    """Layers of the model itself: all, if the file lacks those that predict further tokens."""
    n = stack.n_layers_of(config)
    return n if g.has(f"blk.{n}.nextn.eh_proj.weight") else config.num_hidden_layers


def _experts_of_tokens(g: GraphBuilder, config: ModelConfig, i: int) -> Value:
    """The experts of layers in which the token alone decides: [T, k]."""
    name = f"blk.{i}.ffn_gate_tid2eid"
    shape = (config.vocab_size, config.num_experts_per_tok)
    table = g.values(f"{name}.weight", shape)
    if not ((table >= 0) & (table < config.num_experts)).all():
        raise ModelFormatError(
            f"tensor '{name}.weight': expected numbers of {config.num_experts} experts, got "
            f"{table.min()} to {table.max()}"
        )
    return token_table(g, table, name=name)
