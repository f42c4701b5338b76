"""Metadata reads: types, per-layer values, and what no model can have."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError


class Info(NamedTuple):
    """A tensor of which only the shape is known."""

    shape: tuple[int, ...]


class File(NamedTuple):
    """Metadata and tensors of no file."""

    metadata: dict[str, Any]
    tensors: dict[str, Info]


BASE = {
    "block_count": 3,
    "context_length": 512,
    "embedding_length": 64,
    "attention.head_count": 4,
}


def config(**changes: Any) -> ModelConfig:
    """The configuration of a small Llama; "__" in a keyword stands for a dot."""
    values = BASE | {key.replace("__", "."): value for key, value in changes.items()}
    metadata = {f"llama.{key}": value for key, value in values.items() if value is not None}
    tensors = {"token_embd.weight": Info((100, 64))}
    return ModelConfig.from_file(File(metadata | {"general.architecture": "llama"}, tensors))


def test_defaults() -> None:
    c = config()
    assert c.vocab_size == 100
    assert c.num_attention_heads == c.num_key_value_heads == (4, 4, 4)
    assert c.intermediate_size == (0, 0, 0)
    assert (c.head_dim, c.v_head_dim, c.rotary_dim) == (16, 16, 16)
    assert c.rope_theta == 10000.0
    assert (c.rope_scaling.type, c.rope_scaling.factor) == ("linear", 1.0)
    assert c.rope_scaling.original_max_position_embeddings == 512


def test_one_value_for_each_layer() -> None:
    c = config(
        attention__head_count=np.array([4, 8, 4], np.uint32),
        attention__head_count_kv=np.array([2, 4, 1], np.uint32),
        feed_forward_length=np.array([10, 20, 30], np.int32),
    )
    assert c.num_attention_heads == (4, 8, 4)
    assert c.num_key_value_heads == (2, 4, 1)
    assert c.intermediate_size == (10, 20, 30)


def test_layers_with_experts_of_their_own() -> None:
    c = config(
        expert_count=8,
        expert_used_count=np.array([2, 4, 1], np.uint32),
        expert_feed_forward_length=np.array([10, 0, 30], np.uint32),
    )
    assert (c.num_experts_per_tok, c.moe_intermediate_size) == (4, 30)


def test_layers_without_attention() -> None:
    c = config(
        attention__head_count=np.array([0, 8, 4], np.uint32),
        attention__head_count_kv=np.array([0, 2, 0], np.uint32),
    )
    assert c.num_attention_heads == (0, 8, 4)
    assert c.num_key_value_heads == (0, 2, 0)
    assert c.head_dim == 8


def test_old_key_of_linear_scaling() -> None:
    assert config(rope__scale_linear=4).rope_scaling.factor == 4.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_count": None}, "'llama.block_count': expected int, got no key"),
        ({"block_count": "3"}, "'llama.block_count': expected int, got str '3'"),
        ({"block_count": True}, "expected int, got bool"),
        ({"block_count": 0}, "expected a positive number, got 0"),
        ({"block_count": 10**6}, "at most 4096, got 1000000"),
        ({"rope__freq_base": 0.0}, "freq_base': expected a positive number"),
        ({"rope__freq_base": float("nan")}, "freq_base': expected a positive number"),
        ({"attention__head_count": np.array([4, 4])}, "each of 3 layers, got 2"),
        ({"attention__head_count_kv": 3}, "got 4 and 3 in layer 0"),
        (
            {"attention__head_count": np.array([4, 0, 4]), "attention__head_count_kv": 4},
            "got 0 and 4 in layer 1",
        ),
        ({"attention__head_count_kv": -1}, "got 4 and -1 in layer 0"),
        ({"rope__dimension_count": 17}, "even number up to 16, got 17"),
        ({"rope__scaling__type": "magic"}, "expected one of .*got 'magic'"),
        ({"rope__scaling__factor": -2.0}, "no negative number, got -2.0"),
        ({"rope__scaling__factor": float("nan")}, "no negative number, got nan"),
        ({"rope__scaling__type": "yarn", "rope__freq_base": 1.0}, "more than 1 for YaRN"),
        ({"expert_count": 4}, "expected 1 to 4, got 0"),
    ],
)
def test_errors_say_key_expected_and_came(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        config(**changes)


def test_the_table_of_embeddings_must_be_there() -> None:
    metadata = {f"llama.{key}": value for key, value in BASE.items()}
    with pytest.raises(ModelFormatError, match="token_embd.weight.*got none"):
        ModelConfig.from_file(File(metadata | {"general.architecture": "llama"}, {}))


def test_the_architecture_must_be_there() -> None:
    with pytest.raises(ModelFormatError, match="general.architecture"):
        ModelConfig.from_file(File({}, {}))
