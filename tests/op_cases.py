"""Operations in their forms, as small graphs that any backend can run: the table of operations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jitllm import backends
from jitllm.backends.base import Batch, Segment, Weight
from jitllm.backends.ir import Graph, Value
from jitllm.kernels import formats
from jitllm.llm.graph.builder import ACTIVATIONS, GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.graph.words.add_row import add_row
from jitllm.llm.graph.words.altup import match_rms, weighted_add
from jitllm.llm.graph.words.bounded_glu import FORMS, bounded_glu
from jitllm.llm.graph.words.clamp import clamp
from jitllm.llm.graph.words.delta_net import gated
from jitllm.llm.graph.words.embed_positions import embed_positions
from jitllm.llm.graph.words.experts import Routing, experts
from jitllm.llm.graph.words.gaussian_top import gaussian_top
from jitllm.llm.graph.words.head_layer_norm import head_layer_norm
from jitllm.llm.graph.words.heads import head_columns, head_matmul, join_heads
from jitllm.llm.graph.words.input_rows import input_rows
from jitllm.llm.graph.words.pad_columns import pad_columns
from jitllm.llm.graph.words.row_dot import row_dot
from jitllm.llm.graph.words.ssm import column_scale
from jitllm.llm.graph.words.xielu import xielu

Floats = NDArray[np.float32]
V, WIDTH, HEADS, E, F, K = 40, 64, 4, 8, 96, 3  # embeddings, columns, heads, experts, theirs, used
LONG, MORE, OTHER = 70, 3, 6  # rows of a first run; of its sequence and of another in a second
_RNG = np.random.default_rng(0)


def _random(*shape: int) -> Floats:
    return _RNG.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[-1]) / 2)


TENSORS: dict[str, Floats] = {
    "table": _random(V, WIDTH) * 4, "other": _random(V, WIDTH) * 4, "odd": _random(V, 50) * 4,
    "places": _random(128, WIDTH), "w": _random(WIDTH), "b": _random(WIDTH), "w16": _random(16),
    "matrix": _random(48, WIDTH), "bias": _random(48), "thin": _random(24, 50),
    "heads": _random(HEADS, 16, 16), "sinks": _random(HEADS), "router": _random(E, WIDTH),
    "gate": _random(E, F, WIDTH), "up": _random(E, F, WIDTH), "down": _random(E, WIDTH, F),
    "fused": _random(E, 2 * F, WIDTH), "choice": _random(E), "wide": _random(40, 256),
    "numbers": _RNG.permuted(np.tile(np.arange(E, dtype=np.float32), (V, 1)), axis=1)[:, :K],
    **{f"{name}4": _random(E // 2, *shape) for name, shape in
       {"gate": (F, WIDTH), "up": (F, WIDTH), "down": (WIDTH, F)}.items()},
}  # fmt: skip
Build = Callable[[GraphBuilder, Value], Value]


@dataclass(frozen=True)
class Case:
    """One form of an operation: `build` makes its value of x, [T, WIDTH].

    `types` are tensor types other than F32, by tensor name.
    """

    build: Build
    types: Mapping[str, str] = field(default_factory=dict)


def _other(g: GraphBuilder, name: str = "other", width: int = WIDTH) -> Value:
    return g.embed(name, width=width, name=f"a second value, {name}")


def _attention(
    n_kv_heads: int = 2, dk: int = 16, dv: int = 16, **options: Any
) -> Callable[[GraphBuilder, Value], Value]:
    def build(g: GraphBuilder, x: Value) -> Value:
        other = _other(g)
        q = g.columns(x, 0, HEADS * dk, name="q")
        k = g.columns(other, 0, n_kv_heads * dk, name="k")
        v = g.columns(other, 16, 16 + n_kv_heads * dv, name="v")
        return g.attention(
            q, k, v, n_heads=HEADS, n_kv_heads=n_kv_heads, scale=0.3, name="y", **options
        )

    return build


def _twice(g: GraphBuilder, x: Value) -> Value:
    first = _attention()(g, x)
    return g.attention(
        first, None, None, n_heads=HEADS, n_kv_heads=2, scale=0.4, keys_of="y", name="again"
    )


def _experts(
    routing: Routing, *, given: bool = False, **options: Any
) -> Callable[[GraphBuilder, Value], Value]:
    def build(g: GraphBuilder, x: Value) -> Value:
        logits = g.matmul(x, "router", name="logits")
        chosen = _other(g, "numbers", K) if given else None
        names: dict[str, Any] = {"gate": "gate", "up": "up", "down": "down"} | options
        return experts(g, x, logits, routing, name="y", chosen=chosen, **names)

    return build


def _per_expert(*widths: int) -> tuple[Any, Any, Any]:
    a, b, c = (1 + _random(E, w) if w else 1 + _random(E) for w in widths)
    return a, b, c


def _rope(kind: str, n_rot: int, magnitude: float = 1.0) -> Build:
    frequencies = (100.0 ** -(np.arange(n_rot // 2) * 2 / n_rot)).astype(np.float32)
    rotation = Rotation(kind, frequencies, magnitude)
    return lambda g, x: g.rope(x, rotation, n_heads=HEADS, name="y")


_FUSED: dict[str, Any] = {"up": "fused", "gate": "", "fused": True}
_FOUR: dict[str, Any] = {"gate": "gate4", "up": "up4", "down": "down4"}
_PLAIN: dict[str, Build] = {
    "embed": lambda g, x: _other(g, "odd", 50),
    "embed_positions": lambda g, x: embed_positions(g, "places", width=WIDTH, name="y"),
    "input_rows": lambda g, x: input_rows(g, WIDTH, name="y"),
    "rms_norm": lambda g, x: g.rms_norm(x, "w", eps=1e-5, name="y"),
    "rms_norm of heads": lambda g, x: g.rms_norm(x, "w16", eps=0.1, group=16, name="y"),
    "rms_norm alone": lambda g, x: g.rms_norm(x, "", eps=1e-5, name="y"),
    "layer_norm": lambda g, x: g.layer_norm(x, "w", "b", eps=1e-5, name="y"),
    "layer_norm, no bias": lambda g, x: g.layer_norm(x, "w", "", eps=1e-5, name="y"),
    "head_layer_norm": lambda g, x: head_layer_norm(g, x, n_heads=HEADS, eps=1e-5, name="y"),
    "matmul": lambda g, x: g.matmul(x, "matrix", name="y"),
    "matmul with bias": lambda g, x: g.matmul(x, "matrix", bias="bias", name="y"),
    "matmul of 50 columns": lambda g, x: g.matmul(_other(g, "odd", 50), "thin", name="y"),
    "row_dot": lambda g, x: row_dot(g, x, "w", name="y"),
    "head_matmul": lambda g, x: head_matmul(g, x, "heads", n_heads=HEADS, name="y"),
    "add_bias": lambda g, x: g.add_bias(x, "b", name="y"),
    "add": lambda g, x: g.add(x, _other(g), name="y"),
    "mul": lambda g, x: g.mul(x, _other(g), name="y"),
    "add_row": lambda g, x: add_row(g, x, TENSORS["b"], name="y"),
    "column_scale": lambda g, x: column_scale(g, x, TENSORS["b"], name="y"),
    "gain": lambda g, x: g.node("gain", "y", (x,), "T", WIDTH, (), {"gain": TENSORS["b"]}),
    "scale": lambda g, x: g.scale(x, -1.5, name="y"),
    "soft_cap": lambda g, x: g.soft_cap(x, 2.0, name="y"),
    "clamp": lambda g, x: clamp(g, x, 0.7, name="y"),
    "columns": lambda g, x: g.columns(x, 16, 50, name="y"),
    "columns twice": lambda g, x: g.scale(
        g.columns(g.columns(x, 16, 64, name="a"), 16, 40, name="y"), 2.0, name="z"
    ),
    "head_columns": lambda g, x: head_columns(g, x, 3, 11, n_heads=HEADS, name="y"),
    "join_heads": lambda g, x: join_heads(g, x, _other(g), n_heads=HEADS, name="y"),
    "join_heads, shared": lambda g, x: join_heads(
        g, x, g.columns(_other(g), 0, 5, name="part"), n_heads=HEADS, shared=True, name="y"
    ),
    "rope of pairs": _rope("norm", 16),
    "rope of halves": _rope("neox", 16, 1.3),
    "rope of some pairs": _rope("norm", 10),
    "rope of some halves": _rope("neox", 12),
    "scale_by_position": lambda g, x: g.scale_by_position(
        x, slope=0.3, length=9, offset=1, name="y"
    ),
    "select_outputs": lambda g, x: g.scale(g.select_outputs(x, name="y"), 2.0, name="z"),
    "xielu": lambda g, x: xielu(g, x, alpha_p=0.8, alpha_n=0.9, beta=0.5, eps=-1e-6, name="y"),
    "gaussian_top": lambda g, x: gaussian_top(g, x, deviations=0.4, name="y"),
    "pad_columns": lambda g, x: pad_columns(g, x, 7, -3.5, name="y"),
    "match_rms": lambda g, x: match_rms(g, x, g.columns(_other(g), 0, 16, name="like"), name="y"),
    "weighted_add": lambda g, x: weighted_add(
        g, x, [_other(g), _other(g, "table")], _other(g, "odd", 50), start=3, shift=0.5, name="y"
    ),
    "attention": _attention(),
    "attention, one key head": _attention(1),
    "attention, wide keys": _attention(1, 16, 40),
    "attention, capped": _attention(soft_cap=0.5),
    "attention, sinks": _attention(sinks="sinks"),
    "attention, window": _attention(window=10),
    "attention, chunks": _attention(window=33, chunked=True),
    "attention, slopes": _attention(max_alibi_bias=8.0),
    "attention, table": _attention(table=_random(HEADS, 21) * 8),
    "attention, keys of another": _twice,
    "attention, alone": _attention(cache=False, causal=False),
    "attention, alone and near": _attention(cache=False, causal=False, window=20),
    "attention, alone and behind": _attention(cache=False),
    "experts": _experts(Routing(K)),
    "experts, one": _experts(Routing(1, "sigmoid_topk", norm=False, weigh_input=True)),
    "experts, fused": _experts(Routing(K), **_FUSED),
    "experts without gate": _experts(Routing(K), gate="", act="relu"),
    "experts, softmax of the chosen": _experts(Routing(K, "softmax_topk")),
    "experts, biases": _experts(
        Routing(K, "softmax_topk", norm=False), biases=_per_expert(F, F, WIDTH)
    ),
    "experts, scales": _experts(Routing(K, norm=False), scales=_per_expert(0, 0, 0)),
    "experts, factor": _experts(Routing(K, factor=2.5)),
    "experts, fused with biases": _experts(
        Routing(K), **_FUSED, act="swiglu_oai", bounds=(7.0, 1.702),
        biases=(None, *_per_expert(F, 2 * F, WIDTH)[1:]),
    ),
    "experts, bounds": _experts(
        Routing(K, "sqrt_softplus"), act="swiglu_limit", bounds=(0.5, 0.0)
    ),
    "experts, groups": _experts(Routing(K, "sigmoid", bias="choice", n_group=4, topk_group=2)),
    "experts, input weighed": _experts(Routing(K, "sigmoid", norm=False, weigh_input=True)),
    "experts, shared by groups": _experts(Routing(K, experts_per_group=2), **_FOUR),
    "experts, given": _experts(Routing(K, "sqrt_softplus"), given=True),
}  # fmt: skip


def _activation(act: str) -> Build:
    return lambda g, x: g.activation(x, act=act, name="y")


def _glu(act: str) -> Build:
    return lambda g, x: g.glu(x, _other(g), act=act, name="y")


def _bounded(act: str) -> Build:
    return lambda g, x: bounded_glu(g, x, _other(g), act=act, bounds=(0.7, 1.2), name="y")


def _gated(act: str) -> Build:
    return lambda g, x: gated(
        g, x, g.columns(_other(g), 0, 16, name="gate"), act=act, name="y"
    )  # fmt: skip


def _act_cases() -> dict[str, Build]:
    return {
        **{f"activation {act}": _activation(act) for act in ACTIVATIONS},
        **{f"glu {act}": _glu(act) for act in ACTIVATIONS},
        **{f"bounded_glu {act}": _bounded(act) for act in FORMS},
        **{f"gated {act}": _gated(act) for act in ("sigmoid", "silu", "softplus")},
    }


def _type_cases() -> dict[str, Case]:
    """Products with, and rows of, every tensor type that weights have."""
    made = {}
    for name in sorted(set(formats.weights()) & set(formats.writable())):
        if name != "F32":
            made[f"matmul of {name}"] = Case(_wide, {"wide": name})
            made[f"embed of {name}"] = Case(
                lambda g, x: g.embed("wide", width=256, name="y"), {"wide": name}
            )
    return made


def _wide(g: GraphBuilder, x: Value) -> Value:
    parts = [x] + [g.scale(x, 0.5 * i, name=f"part {i}") for i in range(3)]
    half = join_heads(g, parts[0], parts[1], n_heads=1, name="half")
    other = join_heads(g, parts[2], parts[3], n_heads=1, name="other half")
    return g.matmul(join_heads(g, half, other, n_heads=1, name="whole"), "wide", name="y")


CASES = {name: Case(build) for name, build in (_PLAIN | _act_cases()).items()}
TYPE_CASES = _type_cases()


def graph_of(case: Case) -> Graph:
    """Return the graph of a case; its outputs are those of the operation."""
    g = GraphBuilder(TENSORS, TENSORS.__getitem__, 128)
    y = case.build(g, g.embed("table", width=WIDTH, name="x"))
    if y.rows == "T":
        g.select_outputs(y, name="outputs")
    return g.build()


def weight_of(name: str, type_name: str = "F32") -> Weight:
    """Return a tensor of `TENSORS` in a type."""
    values = TENSORS[name]
    rows = values.reshape(-1, values.shape[-1])
    data = formats.quantize(type_name, rows).reshape(-1).view(np.uint8)
    return Weight(name, type_name, values.shape, data)


def outputs(
    case: Case, device: str, kv_dtype: str = "f32", precision: str = "exact", **options: Any
) -> Floats:
    """Return the rows of two runs: one sequence, then more of it beside another."""
    graph = graph_of(case)
    backend = backends.open_backend(device, precision=precision, **options)
    try:
        for name in {name for node in graph.nodes for name in node.weights if name}:
            backend.add_weight(weight_of(name, case.types.get(name, "F32")))
        backend.new_states((), 1)
        pools = [backend.new_pool(spec, 3, kv_dtype) for spec in graph.caches]
        program = backend.compile(graph, pools, max_tokens=80, taps=frozenset())
        tables = [[np.array(pages, np.int32)] * len(pools) for pages in ([2, 0], [1])]
        first = [Segment(0, LONG, 0, tables[0])]
        second = [Segment(0, MORE, LONG, tables[0]), Segment(MORE, OTHER, 0, tables[1])]
        runs = [program.run(_batch(LONG, first)), program.run(_batch(MORE + OTHER, second))]
        program.close()
        return np.concatenate(runs)
    finally:
        backend.close()


def _batch(rows: int, segments: list[Segment]) -> Batch:
    numbers = np.arange(rows, dtype=np.int32)
    parts = [np.arange(s.rows, dtype=np.int32) + np.int32(s.position) for s in segments]
    hidden = np.sin(np.arange(rows * WIDTH, dtype=np.float32)).reshape(rows, WIDTH)
    tokens = (numbers * 7 + 3 * len(segments)) % V
    chosen = numbers[::2] if rows > LONG // 2 else numbers
    return Batch(tokens.astype(np.int32), np.concatenate(parts), chosen, segments, hidden)
