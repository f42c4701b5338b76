"""Operations of latent and sparse attention: devices give what the twins give."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from driver import nmse, opens, simulate_cuda
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jitllm import backends
from jitllm.backends.base import Batch, Segment, Weight
from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.graph.words.compress import compress, rope_behind
from jitllm.llm.graph.words.heads import head_columns, head_matmul, join_heads
from jitllm.llm.graph.words.sparse import (
    index_blocks,
    index_positions,
    list_positions,
    sparse_attention,
    whole_blocks,
)
from jitllm.llm.graph.words.token_table import token_table

VOCAB, WIDTH, N_CTX = 40, 32, 192
Build = Callable[[GraphBuilder, Value], Value]
SHADERS = [
    pytest.param("vulkan", marks=pytest.mark.skipif(not opens("vulkan"), reason="no device here")),
    pytest.param("metal", marks=[
        pytest.mark.skipif(not opens("metal"), reason="no device here"), pytest.mark.slow
    ]),
]  # fmt: skip
devices = pytest.mark.parametrize("device", ["cpu", *SHADERS])


def run_both(
    build: Build, tokens: Any, weights: dict[str, Any], cuts: list[int], device: str,
    kv_dtype: str = "f32",
) -> list[Any]:  # fmt: skip
    """Values of the last node but two of the twins, and of a device, the rows cut at `cuts`."""
    table = {"table": np.ones((VOCAB, WIDTH), np.float32)} | weights
    tensors = {name: np.ascontiguousarray(x, np.float32) for name, x in table.items()}
    results = []
    for where, at in (("reference", []), (device, cuts)):
        g = GraphBuilder(tensors, lambda name: tensors[name], N_CTX)
        y = build(g, g.embed("table", width=WIDTH, name="x"))
        last = g.select_outputs(y, name="rows")
        g.scale(last, 1.0, name="out")
        graph = g.build()
        backend = backends.open_backend(where, precision="exact", n_threads=2)
        for name, x in tensors.items():
            data = x.view(np.uint8).reshape(-1)
            backend.add_weight(Weight(name, "F32", x.shape, data))
        n_pages = N_CTX // 64
        pools = [backend.new_pool(spec, n_pages, kv_dtype) for spec in graph.caches]
        program = backend.compile(graph, pools, max_tokens=len(tokens), taps=frozenset())
        pages = [np.arange(n_pages, dtype=np.int32)[::-1].copy() for _ in pools]
        parts = []
        for start, stop in zip([0, *at], [*at, len(tokens)], strict=True):
            ids = np.asarray(tokens[start:stop], np.int32)
            rows = np.arange(len(ids), dtype=np.int32)
            segment = Segment(0, len(ids), start, pages)
            parts.append(program.run(Batch(ids, rows + np.int32(start), rows, [segment])))
        results.append(np.concatenate(parts))
        program.close()
        backend.close()
    return results


def whole(rng: Any, *shape: int) -> Any:
    """Small whole numbers: sums are exact, and equal ones are common."""
    return rng.integers(-2, 3, shape).astype(np.float32)


cases = settings(max_examples=12, deadline=None)


@devices
@cases
@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 40), st.sampled_from([1, 4]))
@example(0, 3, 5, 1)
def test_best_positions(device: str, seed: int, n_heads: int, top_k: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    tokens, n = rng.integers(0, VOCAB, 150), 3
    weights = {
        "table": whole(rng, VOCAB, WIDTH), "q": whole(rng, n * n_heads, WIDTH),
        "k": whole(rng, n, WIDTH), "w": whole(rng, n_heads, WIDTH),
    }  # fmt: skip

    def build(g: GraphBuilder, x: Value) -> Value:
        q, k, w = (g.matmul(x, name, name=f"{name}_x") for name in "qkw")
        return index_positions(
            g, q, k, w, n_heads=n_heads, top_k=top_k, scale=0.5, stride=stride, name="index"
        )

    want, got = run_both(build, tokens, weights, [1, 70], device)
    np.testing.assert_array_equal(got, want)
    assert (want[-1] >= 0).sum() == min(top_k, 150 // stride)


@devices
@cases
@given(st.integers(0, 999), st.integers(1, 9), st.integers(1, 9))
@example(0, 2, 70)
def test_whole_blocks(device: str, seed: int, top_k: int, block: int) -> None:
    """Blocks chosen without weights of heads, all their positions, and those behind the last."""
    rng = np.random.default_rng(seed)
    tokens, n, n_heads = rng.integers(0, VOCAB, 150), 3, 2
    weights = {
        "table": whole(rng, VOCAB, WIDTH), "q": whole(rng, n * n_heads, WIDTH),
        "k": whole(rng, n, WIDTH),
    }  # fmt: skip

    def build(g: GraphBuilder, x: Value) -> Value:
        q, k = (g.matmul(x, name, name=f"{name}_x") for name in "qk")
        ends = index_positions(
            g, q, k, None, n_heads=n_heads, top_k=top_k, scale=1.0, stride=block, name="index"
        )
        return whole_blocks(g, ends, block=block, name="blocks")

    want, got = run_both(build, tokens, weights, [1, 70], device)
    np.testing.assert_array_equal(got, want)
    for p, row in enumerate(want):
        chosen = row[row >= 0]
        n_blocks, behind = divmod(p + 1, block)
        assert len(chosen) == min(top_k, n_blocks) * block + behind
        assert (np.diff(chosen) > 0).all() and chosen.max(initial=0) <= p


@devices
@cases
@given(st.integers(0, 999), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2))
@example(1, 2, 64, 1)
def test_best_blocks(device: str, seed: int, top_k: int, block: int, local: int) -> None:
    rng = np.random.default_rng(seed)
    tokens, n = rng.integers(0, VOCAB, 150), 2
    weights = {
        "table": whole(rng, VOCAB, WIDTH), "q": whole(rng, 2 * n, WIDTH),
        "k": whole(rng, n, WIDTH),
    }  # fmt: skip

    def build(g: GraphBuilder, x: Value) -> Value:
        q, k = (g.matmul(x, name, name=f"{name}_x") for name in "qk")
        return index_blocks(
            g, q, k, n_heads=2, top_k=top_k, block=block, local=min(local, top_k), name="index"
        )

    want, got = run_both(build, tokens, weights, [130], device)
    np.testing.assert_array_equal(got, want)


@devices
def test_scores_that_are_no_numbers(device: str) -> None:
    """NaN and infinities: the choice is of positions that are there, each once."""
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, VOCAB, 100)
    table = whole(rng, VOCAB, WIDTH)
    table[:4, 0], table[4:8, 0], table[8:12, 0] = np.nan, np.inf, -np.inf

    def build(g: GraphBuilder, x: Value) -> Value:
        q, k = (g.matmul(x, "q", name=f"{name}_x") for name in "qk")
        return index_positions(
            g, q, k, g.columns(x, 0, 1, name="w"), n_heads=1, top_k=9, scale=1.0, name="index"
        )

    with np.errstate(invalid="ignore"):
        _, got = run_both(build, tokens, {"table": table, "q": np.eye(4, WIDTH)}, [], device)
    for p, row in enumerate(got):
        chosen = row[row >= 0]
        assert len(chosen) == min(9, p + 1) and chosen.max() <= p
        assert (np.diff(chosen) > 0).all()


@devices
@cases
@given(st.integers(0, 999), st.sampled_from([(1, 1), (3, 1), (20, 1), (4, 2), (6, 3)]),
       st.booleans(), st.booleans(), st.booleans())  # fmt: skip
@example(0, (40, 2), True, True, True)
def test_sparse_attention(
    device: str, seed: int, heads: tuple[int, int], joint: bool, keys_only: bool, sinks: bool
) -> None:
    rng = np.random.default_rng(seed)
    n_heads, n_kv = heads
    tokens, dk, dv = rng.integers(0, VOCAB, 150), 20, 17
    weights = {
        "table": rng.normal(size=(VOCAB, WIDTH)), "q": rng.normal(size=(n_heads * dk, WIDTH)) / 4,
        "k": rng.normal(size=(n_kv * dk, WIDTH)) / 4, "v": rng.normal(size=(n_kv * dv, WIDTH)),
        "sinks": rng.normal(size=n_heads),
    }  # fmt: skip

    def build(g: GraphBuilder, x: Value) -> Value:
        q, k, v = (g.matmul(x, name, name=f"{name}_x") for name in "qkv")
        near = list_positions(g, x, most=70, window=67, name="near")
        far = list_positions(g, x, most=11, stride=13, name="far")
        places = near if n_kv == 1 else far
        widths: tuple[int, ...] = (places.width,)
        for i in range(1, n_kv):
            places = join_heads(g, places, near if i % 2 else far, n_heads=1, name=f"lists.{i}")
            widths += (70 if i % 2 else 11,)
        options: dict[str, Any] = {"lists": widths} if joint else {}
        return sparse_attention(
            g, q, k, None if keys_only else v, places if joint else near, n_heads=n_heads,
            n_kv_heads=n_kv, scale=0.3, v_head_dim=dv, sinks="sinks" if sinks else "",
            name="attention", **options,
        )  # fmt: skip

    want, got = run_both(build, tokens, weights, [3, 100], device)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@devices
@cases
@given(st.integers(0, 999), st.sampled_from([2, 3, 70]), st.booleans(), st.sampled_from([4, 40]),
       st.sampled_from(["norm", "neox"]), st.booleans())  # fmt: skip
def test_compressed_keys(
    device: str, seed: int, ratio: int, overlap: bool, n: int, kind: str, first: bool
) -> None:
    rng = np.random.default_rng(seed)
    tokens, width = rng.integers(0, VOCAB, 150), n * (2 if overlap else 1)
    weights = {
        "table": rng.normal(size=(VOCAB, WIDTH)), "x": rng.normal(size=(width, WIDTH)),
        "s": rng.normal(size=(width, WIDTH)),
    }  # fmt: skip
    ape = rng.normal(size=(ratio, width)).astype(np.float32)
    turn = rotation(kind, 4 if n < 40 else 34, 100.0)

    def build(g: GraphBuilder, x: Value) -> Value:
        values, scores = (g.matmul(x, name, name=f"{name}_x") for name in "xs")
        y = compress(g, values, scores, ratio=ratio, ape=ape, overlap=overlap, name="compress")
        return rope_behind(
            g, y, turn, n_heads=1, behind=ratio - 1, first=first, name="rope"
        )  # fmt: skip

    want, got = run_both(build, tokens, weights, [2, 90], device)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=3e-5)  # of turned numbers near 10
    assert not want[ratio - 2].any() and want[ratio - 1].any()


on_gpus = pytest.mark.parametrize("device", [
    pytest.param("cuda", marks=pytest.mark.slow), *SHADERS
])  # fmt: skip


@on_gpus
@pytest.mark.parametrize(("kv_dtype", "sizes", "keys_only"), [
    ("q8_0/iq4_nl", (128, 96), False), ("q5_1", (192, 96), True), ("q4_0/f16", (96, 64), True),
    ("f16/q5_0", (96, 64), False),
])  # fmt: skip
def test_sparse_attention_of_quantized_caches(
    device: str, kv_dtype: str, sizes: tuple[int, int], keys_only: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    simulate_cuda(monkeypatch)
    rng, (dk, dv), heads, groups = np.random.default_rng(0), sizes, 4, 2
    widths = {"q": heads * dk, "k": groups * dk, "v": groups * dv}
    weights = {name: rng.normal(size=(VOCAB, n)) for name, n in widths.items()}

    def build(g: GraphBuilder, x: Value) -> Value:
        q, k, v = (g.embed(name, width=widths[name], name=f"{name}_x") for name in "qkv")
        near = list_positions(g, x, most=70, window=67, name="near")
        return sparse_attention(
            g, q, k, None if keys_only else v, near, n_heads=heads, n_kv_heads=groups,
            scale=0.5 / dk**0.5, v_head_dim=dv, name="attention",
        )  # fmt: skip

    tokens = rng.integers(0, VOCAB, 150)
    want, got = run_both(build, tokens, weights, [3, 100], device, kv_dtype)
    assert nmse(got, want) < 1e-11


@on_gpus
@pytest.mark.parametrize(("kv_dtype", "dk"), [("q8_0", 128), ("q4_1/f32", 96), ("iq4_nl", 64)])
@pytest.mark.parametrize("is_blocks", [False, True])
def test_choices_by_quantized_keys(
    device: str, kv_dtype: str, dk: int, is_blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate_cuda(monkeypatch)
    rng, heads = np.random.default_rng(0), 3
    weights = {"q": rng.normal(size=(VOCAB, heads * dk)), "k": rng.normal(size=(VOCAB * 5, dk))}

    def build(g: GraphBuilder, x: Value) -> Value:
        q, k = (g.embed(name, width=weights[name].shape[1], name=f"{name}_x") for name in "qk")
        if is_blocks:
            return index_blocks(
                g, q, k, n_heads=heads, top_k=2, block=20, local=1, name="index"
            )  # fmt: skip
        return index_positions(g, q, k, None, n_heads=heads, top_k=30, scale=1.0, name="index")

    tokens = rng.permutation(VOCAB * 5)[:150] % VOCAB
    want, got = run_both(build, tokens, weights, [1, 100], device, kv_dtype)
    np.testing.assert_array_equal(got, want)
    _, other = run_both(build, tokens, weights, [], "cpu")
    assert 0 < (other != want).mean() < 0.5


@on_gpus
@pytest.mark.parametrize(("kv_dtype", "n"), [("q8_0/q5_1", 96), ("q4_0/f16", 64), ("f32/q8_0", 48)])
@pytest.mark.parametrize("overlap", [False, True])
def test_compressed_keys_of_quantized_caches(
    device: str, kv_dtype: str, n: int, overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate_cuda(monkeypatch)
    rng, width = np.random.default_rng(0), 2 * n if overlap else n + n % 32
    weights = {name: rng.normal(size=(VOCAB, width)) for name in "xs"}
    ape = rng.normal(size=(3, width)).astype(np.float32)

    def build(g: GraphBuilder, x: Value) -> Value:
        values, scores = (g.embed(name, width=width, name=f"{name}_x") for name in "xs")
        return compress(g, values, scores, ratio=3, ape=ape, overlap=overlap, name="compress")

    tokens = rng.integers(0, VOCAB, 150)
    want, got = run_both(build, tokens, weights, [2, 90], device, kv_dtype)
    assert nmse(got, want) < 1e-11


@devices
@pytest.mark.parametrize("n_heads", [1, 3, 8])
@pytest.mark.parametrize("flat", [False, True])
def test_matrices_of_heads(n_heads: int, flat: bool, device: str) -> None:
    rng = np.random.default_rng(n_heads)
    tokens, k = rng.integers(0, VOCAB, 30), 5
    stack = rng.normal(size=(n_heads, 32, k)).astype(np.float32)
    weights = {
        "table": rng.normal(size=(VOCAB, WIDTH)), "x": rng.normal(size=(n_heads * 9, WIDTH)),
        "w": stack.reshape(-1, k) if flat else stack,
    }  # fmt: skip

    def build(g: GraphBuilder, x: Value) -> Value:
        y = g.matmul(x, "x", name="wide")
        y = head_columns(g, y, 3, 3 + k, n_heads=n_heads, name="part")
        y = join_heads(
            g, head_matmul(g, y, "w", n_heads=n_heads, name="product"),
            head_columns(g, x, 1, 4, n_heads=1, name="few"), n_heads=n_heads, shared=True,
            name="both",
        )  # fmt: skip
        return y

    want, got = run_both(build, tokens, weights, [1, 2], device)
    assert want.shape == (30, n_heads * 35)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@devices
def test_numbers_of_tokens(device: str) -> None:
    rng = np.random.default_rng(5)
    tokens, table = rng.integers(0, VOCAB, 30), rng.normal(size=(VOCAB, 6)).astype(np.float32)
    want, got = run_both(lambda g, x: token_table(g, table, name="t"), tokens, {}, [1], device)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(want, table[tokens])


def test_words_refuse_what_cannot_be() -> None:
    tensors = {"table": np.zeros((4, 32)), "w": np.zeros((2, 16, 16)), "odd": np.zeros((34, 16))}
    g = GraphBuilder(tensors, lambda name: tensors[name].astype(np.float32), 64)
    x = g.embed("table", width=32, name="x")
    with pytest.raises(ValueError, match="5 heads"):
        head_matmul(g, x, "w", n_heads=5, name="a")
    with pytest.raises(ValueError, match="34 rows"):
        head_matmul(g, x, "odd", n_heads=2, name="b")
    with pytest.raises(ValueError, match="columns"):
        head_columns(g, x, 8, 20, n_heads=2, name="c")
    with pytest.raises(ValueError, match="choices"):
        sparse_attention(
            g, x, x, x, x, n_heads=2, n_kv_heads=2, scale=1.0, choices=3, name="d"
        )  # fmt: skip
    with pytest.raises(ValueError, match="values of 0"):
        sparse_attention(g, x, x, None, x, n_heads=2, n_kv_heads=2, scale=1.0, name="e")
