"""The words of the graph language: what they check, and the names of hook points."""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest

from jitllm.backends.ir import Graph, Value
from jitllm.llm.errors import GGUFError, HookError
from jitllm.llm.graph.alibi import alibi_slopes
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.hook_names import hook_points, resolve
from jitllm.llm.graph.rope import RopeScaling, rotation
from jitllm.llm.graph.words.bounded_glu import bounded_glu
from jitllm.llm.graph.words.embed_positions import embed_positions
from jitllm.llm.graph.words.experts import Routing, experts


class Info(NamedTuple):
    """A tensor of which only the shape is known."""

    shape: tuple[int, ...]


def builder(**shapes: tuple[int, ...]) -> GraphBuilder:
    """A builder over tensors of these shapes, "w" and so on; all values are 2."""
    tensors = {name: Info(shape) for name, shape in shapes.items()}
    return GraphBuilder(tensors, lambda name: np.full(shapes[name], 2, np.float32), 256)


def start(g: GraphBuilder, width: int = 8) -> Value:
    """An embedding of `width` columns."""
    g.tensors = {**g.tensors, "table": Info((5, width))}
    return g.embed("table", width=width, name="start")


def test_matmul_takes_its_width_from_the_weight() -> None:
    g = builder(w=(12, 8), b=(12,))
    y = g.matmul(start(g), "w", bias="b", name="y")
    assert (y.rows, y.width, y.name) == ("T", 12, "y")
    assert g.nodes[-1].weights == ("w", "b")


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((12, 7), {}, r"'w': expected shape \(any, 8\), got \(12, 7\)"),
        ((12, 8), {"width": 13}, r"expected shape \(13, 8\), got \(12, 8\)"),
        ((12,), {}, r"expected shape \(any, 8\), got \(12\)"),
        ((12, 8), {"bias": "none"}, r"'none': expected one of shape \(12\), got none"),
    ],
)
def test_matmul_checks_shapes(shape: tuple[int, ...], options: Any, message: str) -> None:
    g = builder(w=shape)
    with pytest.raises(GGUFError, match=message):
        g.matmul(start(g), "w", name="y", **options)


def test_names_are_unique() -> None:
    g = builder()
    x = start(g)
    with pytest.raises(ValueError, match="two nodes are named 'start'"):
        g.scale(x, 2.0, name="start")


def test_group_of_a_norm_divides_the_width() -> None:
    g = builder(w=(3,))
    with pytest.raises(ValueError, match="group = 3 does not divide 8"):
        g.rms_norm(start(g), "w", eps=1e-5, group=3, name="y")


def test_both_sides_of_an_addition_are_alike() -> None:
    g = builder(w=(4, 8))
    x = start(g)
    with pytest.raises(ValueError, match=r"got start \[T, 8\] and y \[T, 4\]"):
        g.add(x, g.matmul(x, "w", name="y"), name="sum")
    with pytest.raises(ValueError, match=r"and rows \[O, 8\]"):
        g.mul(x, g.select_outputs(x, name="rows"), name="product")


@pytest.mark.parametrize(("first", "last"), [(-1, 4), (4, 4), (5, 9)])
def test_columns_stay_inside(first: int, last: int) -> None:
    g = builder()
    with pytest.raises(ValueError, match="of width 8"):
        g.columns(start(g), first, last, name="y")


def test_unknown_activation() -> None:
    g = builder()
    with pytest.raises(ValueError, match="act must be one of.*got 'swish'"):
        g.activation(start(g), act="swish", name="y")


def test_layers_of_one_window_share_a_cache() -> None:
    g = builder(w=(4, 8))
    x = start(g)
    k = g.matmul(x, "w", name="k")
    for i, window in enumerate((16, 0, 16)):
        g.attention(
            x, k, k, n_heads=4, n_kv_heads=2, scale=1.0, window=window, name=f"blk.{i}.kqv_out"
        )
    g.select_outputs(x, name="rows")
    graph = g.build()
    assert [cache.window for cache in graph.caches] == [16, 0]
    assert graph.caches[0].layers == ((2, 2, 2), (2, 2, 2))
    places = [(n.attrs["cache"], n.attrs["layer"]) for n in graph.nodes if n.op == "attention"]
    assert places == [(0, 0), (1, 0), (0, 1)]


def test_attention_checks_its_heads() -> None:
    g = builder(w=(6, 8))
    x = start(g)
    k = g.matmul(x, "w", name="k")
    with pytest.raises(ValueError, match="q has 8 columns for 4 heads, k 6 for 2"):
        g.attention(x, k, k, n_heads=4, n_kv_heads=2, scale=1.0, name="a")
    with pytest.raises(ValueError, match="n_kv_heads = 3 does not divide 4"):
        g.attention(x, k, k, n_heads=4, n_kv_heads=3, scale=1.0, name="a")


def test_attention_of_keys_that_another_wrote() -> None:
    g = builder(w=(4, 8))
    x = start(g)
    k = g.matmul(x, "w", name="k")
    heads = {"n_heads": 4, "n_kv_heads": 2, "scale": 1.0}
    g.attention(x, k, k, window=8, name="a", **heads)  # type: ignore[arg-type]
    y = g.attention(x, None, None, window=8, keys_of="a", name="b", **heads)  # type: ignore[arg-type]
    g.select_outputs(y, name="rows")
    assert g.build().caches[0].layers == ((2, 2, 2),)
    a, b = (node for node in g.nodes if node.op == "attention")
    assert (b.attrs["cache"], b.attrs["layer"], b.inputs) == (0, 0, (x,))
    with pytest.raises(ValueError, match="earlier attention.*window 0; got 'a'"):
        g.attention(x, None, None, keys_of="a", name="c", **heads)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got ''"):
        g.attention(x, None, k, name="c", **heads)  # type: ignore[arg-type]


def test_names_of_a_layer_without_gate() -> None:
    g = builder(w=(12, 8), v=(8, 12), positions=(256, 8))
    x = g.add(start(g), embed_positions(g, "positions", width=8, name="position_embd"),
              name="inp_positions")  # fmt: skip
    h = g.activation(g.matmul(x, "w", name="blk.0.ffn_up"), act="gelu", name="blk.0.ffn_act")
    h = g.add(x, g.matmul(h, "v", name="blk.0.ffn_out"), name="blk.0.l_out")
    g.matmul(g.select_outputs(h, name="output_rows"), "w", name="output")
    points = hook_points(g.build())
    assert points["hook_pos_embed"].tap == "position_embd"
    assert points["blocks.0.hook_resid_pre"].tap == "inp_positions"
    assert points["blocks.0.mlp.hook_pre"].tap == "blk.0.ffn_up"
    assert "blocks.0.mlp.hook_pre_linear" not in points


def test_attention_without_cache_keeps_no_keys() -> None:
    g = builder(w=(4, 8))
    x = start(g)
    k = g.matmul(x, "w", name="k")
    y = g.attention(
        x, k, k, n_heads=4, n_kv_heads=2, scale=1.0, cache=False, causal=False, name="a"
    )
    g.select_outputs(y, name="rows")
    assert g.build().caches == ()


def test_slopes_of_heads() -> None:
    np.testing.assert_allclose(alibi_slopes(8, 8.0), 0.5 ** np.arange(1, 9))
    np.testing.assert_allclose(alibi_slopes(3, 8.0), [2**-4, 2**-8, 2**-2])
    g = builder(w=(8, 8))
    x = start(g)
    heads = {"n_heads": 4, "n_kv_heads": 4, "scale": 1.0, "max_alibi_bias": 8.0}
    with pytest.raises(ValueError, match="capped or lowered by distance"):
        g.attention(x, x, x, soft_cap=1.0, name="a", **heads)  # type: ignore[arg-type]


def test_experts_check_their_stacks() -> None:
    g = builder(router=(4, 8), up=(4, 6, 8), gate=(4, 6, 8), down=(4, 6, 8))
    x = start(g)
    logits = g.matmul(x, "router", name="logits")
    with pytest.raises(GGUFError, match=r"'down': expected shape \(4, 8, 6\)"):
        experts(g, x, logits, Routing(2), gate="gate", up="up", down="down", name="y")
    with pytest.raises(ValueError, match="5 of 4 experts"):
        experts(g, x, logits, Routing(5), gate="gate", up="up", down="down", name="y")


@pytest.mark.parametrize(
    ("routing", "options", "message"),
    [
        (Routing(2, gating="hard"), {}, "gating must be one of"),
        (Routing(2, n_group=3), {}, "2 experts of 1 of 3 groups of 4"),
        (Routing(3, n_group=2), {}, "3 experts of 1 of 2 groups of 4"),
        (Routing(2, n_group=2, topk_group=3), {}, "3 of 2 groups"),
        (Routing(2, experts_per_group=3), {}, "4 experts in groups of 3"),
        (Routing(2), {"act": "swiglu_oai"}, "act must be one of"),
        (Routing(2), {"act": "situ", "gate": "gate"}, "bounds a > 0"),
        (Routing(2), {"biases": (None, np.zeros((4, 5)), None)}, r"shape \(4, 6\), got \(4, 5\)"),
        (Routing(2), {"scales": (None, None, np.zeros(3))}, r"scales of shape \(4,\), got \(3,\)"),
    ],
    ids=str,
)
def test_experts_check_their_rules(routing: Routing, options: dict[str, Any], message: str) -> None:
    g = builder(router=(4, 8), up=(4, 6, 8), gate=(4, 6, 8), down=(4, 8, 6))
    x = start(g)
    logits = g.matmul(x, "router", name="logits")
    with pytest.raises(ValueError, match=message):
        experts(g, x, logits, routing, up="up", down="down", name="y", **options)
    with pytest.raises(ValueError, match="numbers of 2 experts a row"):
        experts(g, x, logits, Routing(2), up="up", down="down", name="y", chosen=x)


def test_bounded_units_check_their_form() -> None:
    g = builder()
    x = start(g)
    with pytest.raises(ValueError, match="act must be one of"):
        bounded_glu(g, x, x, act="silu", bounds=(1.0, 0.0), name="y")
    with pytest.raises(ValueError, match=r"got \(0.0, 1.0\)"):
        bounded_glu(g, x, x, act="situ", bounds=(0.0, 1.0), name="y")
    assert bounded_glu(g, x, x, act="situ", bounds=(1.0, 0.0), name="y").width == x.width


def test_a_graph_ends_with_outputs() -> None:
    g = builder()
    start(g)
    with pytest.raises(ValueError, match="ends with the logits"):
        g.build()


def test_plain_rope() -> None:
    turn = rotation("neox", 4, 100.0)
    assert turn.magnitude == 1.0
    np.testing.assert_allclose(turn.frequencies, [1.0, 0.1], rtol=1e-7)


def test_linear_scaling_and_factors_divide() -> None:
    scaling = RopeScaling("linear", factor=4.0, attention_factor=1.5)
    turn = rotation("norm", 4, 100.0, scaling, np.array([1, 2], np.float32))
    np.testing.assert_allclose(turn.frequencies, [0.25, 0.0125], rtol=1e-7)
    assert turn.magnitude == 1.5


def test_yarn_keeps_fast_pairs_and_stretches_slow_ones() -> None:
    scaling = RopeScaling(
        "yarn", factor=8.0, original_max_position_embeddings=4096, beta_fast=32.0, beta_slow=1.0
    )
    theta, n_rot = 10000.0, 128
    turn = rotation("norm", n_rot, theta, scaling)
    plain = rotation("norm", n_rot, theta).frequencies
    turns = 4096 * plain / (2 * math.pi)  # over the original length
    ratio = turn.frequencies / plain
    np.testing.assert_allclose(ratio[turns > 40], 1.0, rtol=1e-6)
    np.testing.assert_allclose(ratio[turns < 0.8], 1 / 8, rtol=1e-6)
    assert np.all(np.diff(ratio) <= 1e-7)
    assert turn.magnitude == pytest.approx(0.1 * math.log(8) + 1)


def small_graph() -> Graph:
    """One layer with every named value of an attention block and a gated MLP."""
    g = builder(q=(8, 8), k=(4, 8), up=(6, 8), down=(8, 6), norm=(8,), vocabulary=(5, 8))
    x = start(g)
    x = g.scale(x, 3.0, name="inp_scaled")
    h = g.rms_norm(x, "norm", eps=1e-5, name="blk.0.attn_norm")
    q = g.matmul(h, "q", name="blk.0.attn_q")
    k = g.matmul(h, "k", name="blk.0.attn_k")
    v = g.matmul(h, "k", name="blk.0.attn_v")
    turn = rotation("norm", 2, 100.0)
    q = g.rope(q, turn, n_heads=4, name="blk.0.attn_q_rope")
    k = g.rope(k, turn, n_heads=2, name="blk.0.attn_k_rope")
    z = g.attention(q, k, v, n_heads=4, n_kv_heads=2, scale=1.0, name="blk.0.kqv_out")
    h = g.matmul(z, "q", name="blk.0.attn_out")
    x = g.add(x, h, name="blk.0.ffn_inp")
    gate, up = (g.matmul(x, "up", name=f"blk.0.ffn_{name}") for name in ("gate", "up"))
    h = g.glu(gate, up, act="silu", name="blk.0.ffn_act")
    h = g.matmul(h, "down", name="blk.0.ffn_out")
    x = g.add(x, h, name="blk.0.l_out")
    x = g.rms_norm(g.select_outputs(x, name="output_rows"), "norm", eps=1e-5, name="output_norm")
    g.matmul(x, "vocabulary", name="output")
    return g.build()


@pytest.mark.parametrize(
    ("name", "tap", "heads"),
    [
        ("blk.0.attn_q", "blk.0.attn_q", 0),
        ("hook_embed", "inp_scaled", 0),
        ("blocks.0.hook_resid_pre", "inp_scaled", 0),
        ("blocks.0.hook_resid_mid", "blk.0.ffn_inp", 0),
        ("blocks.0.hook_resid_post", "blk.0.l_out", 0),
        ("blocks.0.hook_out", "blk.0.l_out", 0),
        ("blocks.0.attn.hook_q", "blk.0.attn_q", 4),
        ("blocks.0.attn.hook_rot_k", "blk.0.attn_k_rope", 2),
        ("blocks.0.attn.hook_v", "blk.0.attn_v", 2),
        ("blocks.0.attn.hook_z", "blk.0.kqv_out", 4),
        ("blocks.0.attn.hook_pattern", "blk.0.kqv_out.pattern", 0),
        ("blocks.0.hook_attn_out", "blk.0.attn_out", 0),
        ("blocks.0.mlp.hook_pre", "blk.0.ffn_gate", 0),
        ("blocks.0.mlp.hook_post", "blk.0.ffn_act", 0),
        ("ln_final.hook_normalized", "output_norm", 0),
        ("unembed.hook_out", "output", 0),
    ],
)
def test_hook_points(name: str, tap: str, heads: int) -> None:
    point = resolve(small_graph(), name)
    assert (point.tap, point.heads) == (tap, heads)


def test_hook_points_exist_in_the_graph() -> None:
    graph = small_graph()
    known = {*graph.values(), "blk.0.kqv_out.pattern"}
    points = hook_points(graph)
    assert {point.tap for point in points.values()} == known
    for point in points.values():
        if point.heads:
            assert graph.values()[point.tap].width % point.heads == 0


def test_unknown_hook_point_names_near_ones() -> None:
    with pytest.raises(HookError, match=r"'blocks.0.hook_residpost'.*blocks.0.hook_resid_post"):
        resolve(small_graph(), "blocks.0.hook_residpost")
