"""The end of a decoder: final norm, output matrix, logits."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn


def normed_outputs(g: GraphBuilder, x: Value, norm: nn.Norm) -> Value:
    """The wanted rows behind the final norm: [O, n].

    All rows are normalized if blocks will read them, to predict further tokens.
    """
    if not g.with_hidden:
        return norm(g.select_outputs(x, name="output_rows"), "output_norm")
    x = norm(x, "output_norm")
    g.hidden = x.name
    return g.select_outputs(x, name="output_rows")


def output(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    *,
    name: str = "output",
    bias: bool = False,
    block: int = 0,
) -> Value:
    """The output matrix, or the embedding table: [rows, vocab_size].

    `bias`: use that of the matrix if there is one. Layer `block` may have an output matrix of its
    own, if it predicts further tokens.
    """
    for tensor in (f"blk.{block}.nextn.shared_head_head", "output"):
        if g.has(f"{tensor}.weight"):
            return nn.linear(g, x, tensor, config.vocab_size, bias=bias, as_name=name)
    return g.matmul(x, "token_embd.weight", name=name, width=config.vocab_size)


def logits(g: GraphBuilder, x: Value, config: ModelConfig, *, name: str = "output") -> Value:
    """Final norm and output matrix of the wanted rows: [O, vocab_size].

    A file without "output.weight" uses its embedding table.
    """
    x = normed_outputs(g, x, lambda x, name: nn.rms_norm(g, x, config, name))
    return output(g, x, config, name=name, bias=True)


def normed_logits(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    norm: nn.Norm,
    *,
    factor: float = 1.0,
    bias: str = "",
) -> None:
    """Final norm, output matrix, bias or factor: [O, vocab_size]."""
    x = norm(g.select_outputs(x, name="output_rows"), "output_norm")
    is_last = factor == 1.0 and not bias
    x = output(g, x, config, name="output" if is_last else "output.matmul")
    if bias:
        g.add_bias(x, bias, name="output")
    elif factor != 1.0:
        g.scale(x, factor, name="output")


def scaled_logits(
    g: GraphBuilder, x: Value, config: ModelConfig, factor: float, cap: float = 0.0
) -> None:
    """Final norm, output matrix, times `factor`, then within -`cap` and `cap` if that is not 0."""
    last = "output.uncapped" if cap else "output"
    y = logits(g, x, config, name="output.unscaled" if factor != 1.0 else last)
    if factor != 1.0:
        y = g.scale(y, factor, name=last)
    if cap:
        g.soft_cap(y, cap, name="output")
