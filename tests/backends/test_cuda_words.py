"""Operations that Vulkan and Metal lack, as graphs on the simulated GPU, near the NumPy twins."""

import numpy as np
import pytest
from driver import nmse
from op_cases import CASES, HEADS, MORE, OTHER, TENSORS, WIDTH, Case, V, outputs

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.graph.words.compress import compress, rope_behind
from jitllm.llm.graph.words.delta_net import decay_gate
from jitllm.llm.graph.words.heads import join_heads
from jitllm.llm.graph.words.ngram import signed_root_dot
from jitllm.llm.graph.words.softmax_mix import softmax_mix
from jitllm.llm.graph.words.sparse import (
    index_blocks,
    index_positions,
    list_positions,
    sparse_attention,
    whole_blocks,
)
from jitllm.llm.graph.words.streams import new_streams, stream_gates, stream_read, stream_write
from jitllm.llm.graph.words.token_table import token_table

MAX_NMSE = 1e-10


@pytest.fixture(autouse=True)
def _simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JITLLM_CUDA", "simulator")


def _other(g: GraphBuilder) -> Value:
    return g.embed("other", width=WIDTH, name="other")


def _streams(g: GraphBuilder, x: Value) -> Value:
    """Two streams, read and mixed, and x written to them with decays."""
    other, scale = _other(g), np.array([1.0, 0.5, 2.0], np.float32)
    decay = decay_gate(g, other, np.array([-0.2, -0.5], np.float32), "b", name="decay")
    gates = stream_gates(
        g, g.columns(other, 8, 16, name="z"), n_streams=2, scale=scale, base=TENSORS["w"][:8],
        eps=1e-3, magnitude=2.0, iterations=3, name="gates",
    )  # fmt: skip
    streams = stream_write(
        g, decay, new_streams(g, x, 2, name="both"), gates, n_streams=2, name="written"
    )
    return stream_read(g, streams, gates, n_streams=2, name="y")


def _mix(g: GraphBuilder, x: Value) -> Value:
    """A mean of three values, by products of their rows and by numbers of the tokens."""
    other = _other(g)
    values = [x, other, g.add(x, other, name="sum")]
    scores = [signed_root_dot(g, v, x, n_groups=1, scale=0.3, name=f"s.{v.name}")
              for v in values[:2]]  # fmt: skip
    numbers = np.linspace(-1, 2, V, dtype=np.float32)[:, None]
    return softmax_mix(g, values, [*scores, token_table(g, numbers, name="numbers")], name="y")


def _heads(g: GraphBuilder) -> tuple[Value, Value, Value]:
    other = _other(g)
    k, v = (g.columns(other, at, at + 32, name=f"columns {at}") for at in (0, 32))
    return k, v, g.columns(other, 16, 32, name="index")


def _chosen(g: GraphBuilder, x: Value) -> Value:
    """Attention to the best blocks by the lightning indexer, with weights of its heads."""
    k, v, index = _heads(g)
    w = g.columns(x, 0, HEADS, name="w")
    ends = index_positions(g, x, index, w, n_heads=HEADS, top_k=3, scale=0.5, stride=4, name="best")
    places = whole_blocks(g, ends, block=4, name="places")
    return sparse_attention(
        g, x, k, v, places, n_heads=HEADS, n_kv_heads=2, scale=0.3, sinks="sinks", name="y"
    )


def _listed(g: GraphBuilder, x: Value) -> Value:
    """Attention of all heads to lists of their own, one of blocks that an index chose."""
    k, v, index = _heads(g)
    near = list_positions(g, x, most=9, window=9, name="near")
    blocks = index_blocks(
        g, g.columns(x, 0, 16, name="q"), index, n_heads=1, top_k=3, block=4, local=1, name="best"
    )
    both = join_heads(g, blocks, near, n_heads=1, name="places")
    return sparse_attention(
        g, x, k, v, both, n_heads=HEADS, n_kv_heads=2, scale=0.3, lists=(12, 9), name="y"
    )


def _compressed(g: GraphBuilder, x: Value) -> Value:
    """Keys of four positions each, turned as at the first of them."""
    y = compress(
        g, x, _other(g), ratio=4, ape=TENSORS["table"][:4], overlap=True, name="compressed"
    )
    turn = Rotation("neox", np.array([1.0, 0.1, 0.01], np.float32), 1.1)
    return rope_behind(g, y, turn, n_heads=2, behind=3, name="y")


FAST = {"streams": _streams, "sparse": _chosen}
SLOW = {"mix": _mix, "lists": _listed, "compressed": _compressed}


def _check(name: str, kv_dtype: str = "f32") -> None:
    case = Case((FAST | SLOW)[name])
    got, want = (outputs(case, device, kv_dtype) for device in ("cuda", "reference"))
    assert nmse(got, want) <= MAX_NMSE


@pytest.mark.parametrize("name", FAST)
def test_operations(name: str) -> None:
    _check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_more_operations(name: str) -> None:
    _check(name)


@pytest.mark.slow
def test_caches_of_half_precision() -> None:
    for name in ("sparse", "compressed"):
        _check(name, "f16/bf16")


@pytest.mark.slow
def test_rows_are_rounded_where_they_are_made() -> None:
    """Norms and gated units make int8 rows for products; what a tap may change does not."""

    def build(g: GraphBuilder, x: Value) -> Value:
        parts = [x, _other(g), g.scale(x, 0.5, name="a"), g.scale(x, -2.0, name="b")]
        halves = [join_heads(g, *pair, n_heads=1, name=pair[0].name + "+")
                  for pair in (parts[:2], parts[2:])]  # fmt: skip
        wide = join_heads(g, *halves, n_heads=1, name="wide rows")
        normed = g.rms_norm(wide, "", eps=1e-5, name="normed")
        opened = g.glu(normed, wide, act="silu", name="opened")
        y = g.add(g.matmul(normed, "wide", name="1"), g.matmul(opened, "wide", name="2"), name="3")
        return g.layer_norm(y, "", "", eps=1e-5, name="y")

    case = Case(build, {"wide": "Q4_0"})
    fast, exact, cpu = (
        outputs(case, device, precision=precision)
        for device, precision in (("cuda", "fast"), ("cuda", "exact"), ("cpu", "fast"))
    )
    few = slice(-MORE - OTHER, None)  # more rows may become float16 instead
    assert nmse(fast[few], cpu[few]) < 1e-9 < nmse(fast[few], exact[few]) < 1e-3
    assert nmse(fast, exact) < 1e-3


@pytest.mark.slow
def test_heads_are_rounded_as_they_are_put_together() -> None:
    def build(g: GraphBuilder, x: Value) -> Value:
        k, v, _ = _heads(g)
        heads = g.attention(x, k, v, n_heads=2, n_kv_heads=1, scale=0.3, name="heads")
        return g.matmul(heads, "matrix", name="y")

    case = Case(build, {"matrix": "Q8_0"})
    cuda, cpu = (outputs(case, device, "f16", "fast") for device in ("cuda", "cpu"))
    assert nmse(cuda, cpu) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["experts", "experts, fused", "experts, bounds"])
def test_rows_of_experts_are_rounded_where_they_are_made(name: str) -> None:
    case = Case(CASES[name].build, dict.fromkeys(("gate", "up", "fused", "down"), "Q8_0"))
    cuda, cpu = (outputs(case, device, precision="fast") for device in ("cuda", "cpu"))
    assert nmse(cuda, cpu) < 1e-9
