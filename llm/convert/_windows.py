"""Layers that see a part of the text only, beside others that see all of it."""

from jitllm.llm.convert._source import Config
from jitllm.llm.convert._target import Target
from jitllm.llm.errors import ModelFormatError


def write(config: Config, target: Target) -> None:
    """Put down the size of windows, where there are any, and which layers have one.

    Raises
    ------
    ModelFormatError
        If `layer_types` has not one entry for each layer.
    """
    if config.get("sliding_window") is None:
        return
    target.key("uint32", "attention.sliding_window", config.size("sliding_window"))
    n_layers = config.size("num_hidden_layers")
    kinds = config.get("layer_types")
    if kinds is None:
        each = config.size("sliding_window_pattern")
        local = [(i + 1) % each != 0 for i in range(n_layers)]
    else:
        local = [kind == "sliding_attention" for kind in kinds]
    if len(local) != n_layers:
        raise ModelFormatError(f"{config.path}: expected {n_layers} layer_types, got {len(local)}")
    target.key("bool", "attention.sliding_window_pattern", local)
