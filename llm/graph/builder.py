"""The words an architecture is written in, and the operations they become.

`GraphBuilder` turns `g.rms_norm(x, ...)`, `g.matmul(x, ...)` into nodes for a backend. Every value
is float32 [rows, width]; every word names its output, and that name is the hook point. A step
inside a name has a suffix after a dot ("blk.0.attn_q.matmul", "output.uncapped").

The operations, all that a backend must know; x is the (first) input, y the output:

================= ========================== ======================================================
op                weights                    attrs; what y is
================= ========================== ======================================================
embed             (table (V, n),)            y[t] = table[tokens[t]]
rms_norm          (w or "",)                 eps, group; y = x / sqrt(mean(x^2) + eps) * w over each
                                             `group` consecutive columns; w has `group` values
layer_norm        (w, b or "")               eps; y = (x - mean) / sqrt(var + eps) * w + b
matmul            (w (N, K), b or "")        y = x w^T + b
add_bias          (b (width,),)              y = x + b
add               ()                         y = x + second input
mul               ()                         y = x * second input
scale             ()                         factor; y = x * factor
soft_cap          ()                         cap; y = cap * tanh(x / cap)
activation        ()                         act; y = act(x)
glu               ()                         act; y = act(x) * second input
columns           ()                         start, stop; y = x[:, start:stop] (may share memory)
rope              ()                         n_heads, head_dim, n_rot, kind, frequencies (float32
                                             [n_rot / 2]), magnitude; per head and pair i of columns
                                             (2i, 2i + 1 for kind "norm"; i, i + n_rot / 2 for
                                             "neox"), turn by a = position * frequencies[i]:
                                             (x0 cos a - x1 sin a, x0 sin a + x1 cos a) * magnitude;
                                             columns of a head from n_rot on are copied
scale_by_position ()                         slope, length, offset; y = x * (1 + slope *
                                             ln(floor((position + offset) / length) + 1))
attention         (sinks (H,) or "",)        cache, layer (its place in that cache), n_heads,
                                             n_kv_heads, head_dim, v_head_dim, scale, window,
                                             soft_cap, causal, chunked, slopes, table, cross; inputs
                                             q, k, v, or q alone. Writes k, v to the cache, then y =
                                             softmax(soft_cap(q k^T * scale)) v; see below
select_outputs    ()                         y = x[output_rows], rows "O"
experts           (gate (E, F, n) or "",     the fields of `words.experts.Routing`, fused, act,
                  up (E, F, n),              bounds, scales, biases; inputs x, router logits
                  down (E, n, F),            [rows, E], perhaps numbers of experts [rows, k];
                  selection bias (E,) or "") y = sum over the k chosen e of weight[e] *
                                             down_e(act(gate_e x) * up_e x), act(up_e x) alone where
                                             there is no gate
================= ========================== ======================================================

`act` is one of ACTIVATIONS; "gelu" is the tanh form. `words.experts` says what the attributes
of experts mean; of equal scores the expert with the lower number is chosen first.

Attention: a query at position p sees the keys of its sequence at p - W + 1 to p, W being `window`;
if `chunked`, those from W * floor(p / W) on; if not `causal`, those from p - floor(W / 2) to
p + floor(W / 2), as far as the run has them. W = 0 hides none of these. Cache -1 is none: the keys
are those of the run's rows. `slopes` is None or float32 [H], of which each head takes its own times
|p - position of the key| off the scores. `table` is None or float32 [H, 2 * R + 1]: column R + d is
added to the score of a key at p + d, for distances beyond R the column at that end. With `cross`
the keys are those that the graph's encoder kept of its text, and all are seen. A sink is one more
logit of its head, in the denominator only.

Taps: besides every value, a backend knows "<name of an attention node>.pattern", the attention
probabilities, float32 [H, rows, keys] per segment, key j at position j; it is called once for each
segment, and what the tap writes is used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jitllm.backends.ir import CacheSpec, Graph, Node, Value
from jitllm.llm.errors import GGUFError
from jitllm.llm.graph.alibi import alibi_slopes
from jitllm.llm.graph.rope import Rotation

Floats = npt.NDArray[np.float32]
CROSS = -1
"""In place of the window of a cache: the one of an encoder's text."""
ACTIVATIONS = (
    "silu", "gelu", "gelu_erf", "gelu_quick", "relu", "relu_squared", "sigmoid", "tanh", "softplus",
)  # fmt: skip


class Shaped(Protocol):
    """What the builder knows of a tensor before its data: its shape in NumPy order."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, K) of a matrix."""


@dataclass
class GraphBuilder:
    """Collects nodes; `build` returns the graph.

    Parameters
    ----------
    tensors : mapping of str to TensorInfo
        The tensors of the file; only `shape` is read.
    read : callable
        Returns the values of a small tensor as float32, for parameters that become attributes.
    n_ctx : int
        Most positions of a sequence; some models choose rope frequencies by it.
    with_hidden : bool
        Whether blocks that predict further tokens will read hidden rows of this graph.
    nodes : list of Node
        Those so far.
    hidden : str
        See `Graph`.

    Raises
    ------
    GGUFError
        From every word, if a weight is missing or has another shape than its place needs.
    """

    tensors: Mapping[str, Shaped]
    read: Callable[[str], Floats]
    n_ctx: int
    with_hidden: bool = False
    nodes: list[Node] = field(default_factory=list)
    hidden: str = ""
    _names: set[str] = field(default_factory=set)
    _n_values: int = 0
    _caches: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)
    _states: list[int] = field(default_factory=list)
    _encoder: "GraphBuilder | None" = None

    def new_encoder(self) -> "GraphBuilder":
        """Return the builder of the encoder that belongs to this graph, a decoder.

        Its graph ends with the hidden states of a text; what it keeps of them (the word `keep`)
        attention of this graph sees as `cross`. Names differ between the two.
        """
        self._encoder = GraphBuilder(
            self.tensors, self.read, self.n_ctx, _names=self._names, _caches=self._caches
        )
        return self._encoder

    def has(self, name: str) -> bool:
        """Whether the file has a tensor of this name."""
        return name in self.tensors

    def optional(self, name: str) -> str:
        """`name` if the file has such a tensor, else ""."""
        return name if name in self.tensors else ""

    def values(self, name: str, shape: tuple[int, ...]) -> Floats:
        """Return the values of a small tensor, its shape checked."""
        self.weight(name, shape)
        return self.read(name)

    def embed(self, weight: str, *, width: int, name: str) -> Value:
        """Rows of an embedding table (V, n) for the tokens of the run: [T, n]."""
        self.weight(weight, (-1, width))
        return self.node("embed", name, (), "T", width, (weight,))

    def rms_norm(self, x: Value, weight: str, *, eps: float, name: str, group: int = 0) -> Value:
        """x / sqrt(mean(x^2) + eps) * w over each `group` columns (0: all): [rows, width].

        `weight` has `group` values, or is "" for none. Source: Zhang and Sennrich, "Root Mean
        Square Layer Normalization", 2019.
        """
        group = group or x.width
        _divides(name, "group", group, x.width)
        if weight:
            self.weight(weight, (group,))
        attrs = {"eps": eps, "group": group}
        return self.node("rms_norm", name, (x,), x.rows, x.width, (weight,), attrs)

    def layer_norm(self, x: Value, weight: str, bias: str, *, eps: float, name: str) -> Value:
        """(x - mean) / sqrt(var + eps) * w + b: [rows, width]. Source: Ba et al., 2016."""
        for tensor in filter(None, (weight, bias)):
            self.weight(tensor, (x.width,))
        return self.node("layer_norm", name, (x,), x.rows, x.width, (weight, bias), {"eps": eps})

    def matmul(self, x: Value, weight: str, *, name: str, width: int = -1, bias: str = "") -> Value:
        """x w^T + b with w (N, K), K = x.width: [rows, N]. `width` is the N that w must have."""
        n_out = self.weight(weight, (width, x.width))[0]
        if bias:
            self.weight(bias, (n_out,))
        return self.node("matmul", name, (x,), x.rows, n_out, (weight, bias))

    def add_bias(self, x: Value, bias: str, *, name: str) -> Value:
        """x + b: [rows, width]."""
        self.weight(bias, (x.width,))
        return self.node("add_bias", name, (x,), x.rows, x.width, (bias,))

    def add(self, a: Value, b: Value, *, name: str) -> Value:
        """a + b: [rows, width]."""
        return self.node("add", name, _alike(name, a, b), a.rows, a.width)

    def mul(self, a: Value, b: Value, *, name: str) -> Value:
        """a * b: [rows, width]."""
        return self.node("mul", name, _alike(name, a, b), a.rows, a.width)

    def scale(self, x: Value, factor: float, *, name: str) -> Value:
        """x * factor: [rows, width]."""
        return self.node("scale", name, (x,), x.rows, x.width, (), {"factor": float(factor)})

    def soft_cap(self, x: Value, cap: float, *, name: str) -> Value:
        """cap * tanh(x / cap): [rows, width]."""
        return self.node("soft_cap", name, (x,), x.rows, x.width, (), {"cap": float(cap)})

    def activation(self, x: Value, *, act: str, name: str) -> Value:
        """act(x): [rows, width]."""
        _one_of(name, "act", act, ACTIVATIONS)
        return self.node("activation", name, (x,), x.rows, x.width, (), {"act": act})

    def glu(self, gate: Value, up: Value, *, act: str, name: str) -> Value:
        """act(gate) * up: [rows, width]. Source: Shazeer, "GLU Variants", 2020."""
        _one_of(name, "act", act, ACTIVATIONS)
        inputs = _alike(name, gate, up)
        return self.node("glu", name, inputs, gate.rows, gate.width, (), {"act": act})

    def columns(self, x: Value, start: int, stop: int, *, name: str) -> Value:
        """x[:, start:stop]: [rows, stop - start]."""
        if not 0 <= start < stop <= x.width:
            raise ValueError(f"{name}: columns {start}:{stop} of a value of width {x.width}")
        attrs = {"start": start, "stop": stop}
        return self.node("columns", name, (x,), x.rows, stop - start, (), attrs)

    def rope(self, x: Value, rotation: Rotation, *, n_heads: int, name: str) -> Value:
        """Turn pairs of columns of each head by angles that grow with the position: [T, H*D].

        Source: Su et al., "RoFormer", 2021; `jitllm.llm.graph.rope` has the frequencies.
        """
        _divides(name, "n_heads", n_heads, x.width)
        head_dim, n_rot = x.width // n_heads, 2 * len(rotation.frequencies)
        if n_rot > head_dim:
            raise ValueError(f"{name}: {n_rot} columns to turn in heads of {head_dim}")
        attrs = {
            "n_heads": n_heads,
            "head_dim": head_dim,
            "n_rot": n_rot,
            "kind": rotation.kind,
            "frequencies": rotation.frequencies,
            "magnitude": rotation.magnitude,
        }
        return self.node("rope", name, (x,), x.rows, x.width, (), attrs)

    def scale_by_position(
        self, x: Value, *, slope: float, length: int, name: str, offset: int = 0
    ) -> Value:
        """x * (1 + slope * ln(floor((position + offset) / length) + 1)): [T, width].

        Source: the attention temperature of Llama 4 (meta-llama/llama-models, llama4/model.py).
        """
        attrs = {"slope": float(slope), "length": length, "offset": offset}
        return self.node("scale_by_position", name, (x,), x.rows, x.width, (), attrs)

    def attention(
        self,
        q: Value,
        k: Value | None,
        v: Value | None,
        *,
        n_heads: int,
        n_kv_heads: int,
        scale: float,
        name: str,
        window: int = 0,
        soft_cap: float = 0.0,
        sinks: str = "",
        causal: bool = True,
        chunked: bool = False,
        max_alibi_bias: float = 0.0,
        table: Floats | None = None,
        cache: bool = True,
        keys_of: str = "",
        cross: bool = False,
    ) -> Value:
        """Attention of q [T, H*dk] over the cache with k [T, G*dk], v [T, G*dv] added: [T, H*dv].

        Head h reads key head h // (H / G). `window` is the number of positions a query sees,
        itself included, 0 for all; `chunked` counts it in whole chunks; `sinks` a tensor (H,) or
        "". Layers of equal `window` share a cache; without `cache` nothing is remembered. With
        `keys_of`, the name of an earlier attention, that one's keys and values are read, k and v
        being None; with `cross` it names a node `keep` of the encoder. `max_alibi_bias`: see
        `jitllm.llm.graph.alibi`; `table` [H, 2 * R + 1] is added by distance. Source: Vaswani et
        al., 2017; Ainslie et al., "GQA", 2023.
        """
        _divides(name, "n_kv_heads", n_kv_heads, n_heads)
        if bool(max_alibi_bias) + bool(soft_cap) + (table is not None) > 1:
            raise ValueError(f"{name}: scores are capped or lowered by distance, not both")
        if table is not None and (table.shape[0] != n_heads or table.shape[1] % 2 == 0):
            raise ValueError(f"{name}: a table of shape {table.shape} for {n_heads} heads")
        if sinks:
            self.weight(sinks, (n_heads,))
        if k is None or v is None:
            place, sizes = self._cache_of(name, keys_of, CROSS if cross else window)
        else:
            sizes = (n_kv_heads, k.width // n_kv_heads, v.width // n_kv_heads)
            place = self.cache_place(window, sizes) if cache else (-1, 0)
        _, head_dim, v_head_dim = sizes
        if (q.width, sizes[0]) != (n_heads * head_dim, n_kv_heads):
            raise ValueError(
                f"{name}: q has {q.width} columns for {n_heads} heads, k {sizes[0] * head_dim} "
                f"for {n_kv_heads}"
            )
        attrs = {
            "cache": place[0],
            "layer": place[1],
            "n_heads": n_heads,
            "n_kv_heads": n_kv_heads,
            "head_dim": head_dim,
            "v_head_dim": v_head_dim,
            "scale": float(scale),
            "window": window,
            "soft_cap": float(soft_cap),
            "causal": causal and not cross,
            "chunked": chunked,
            "slopes": alibi_slopes(n_heads, max_alibi_bias) if max_alibi_bias else None,
            "table": table,
            "cross": cross,
        }
        inputs = (q,) if k is None or v is None else (q, k, v)
        width = n_heads * v_head_dim
        return self.node("attention", name, inputs, q.rows, width, (sinks,), attrs)

    def cache_place(self, window: int, sizes: tuple[int, int, int]) -> tuple[int, int]:
        """Number of the cache for a window and of a new layer in it; CROSS comes first."""
        if window == CROSS and self._caches and CROSS not in self._caches:
            raise ValueError("an encoder's nodes come before those of its decoder")
        layers = self._caches.setdefault(window, [])
        layers.append(sizes)
        return list(self._caches).index(window), len(layers) - 1

    def _cache_of(
        self, name: str, writer: str, window: int
    ) -> tuple[tuple[int, int], tuple[int, int, int]]:
        """Place and sizes of the keys that the attention `writer` keeps."""
        for node in (self._encoder or self).nodes if window == CROSS else self.nodes:
            cache, layer = (node.attrs.get(key, -1) for key in ("cache", "layer"))
            if node.name == writer and cache >= 0 and node.attrs["window"] == window:
                return (cache, layer), self._caches[window][layer]
        raise ValueError(
            f"{name}: expected k and v, or the name of an earlier attention that keeps its keys, "
            f"with window {window}; got {writer!r}"
        )

    def select_outputs(self, x: Value, *, name: str) -> Value:
        """The rows of x [T, width] whose logits are wanted: [O, width]."""
        return self.node("select_outputs", name, (x,), "O", x.width)

    def build(self) -> Graph:
        """Return the graph; its last value must have rows "O": logits, or an encoder's states."""
        if not self.nodes or self.nodes[-1].outputs[0].rows != "O":
            raise ValueError("a graph ends with the logits or hidden states of the selected rows")
        caches = tuple(
            CacheSpec(max(window, 0), tuple(layers), cross=window == CROSS)
            for window, layers in self._caches.items()
        )
        width = self.nodes[-1].outputs[0].width
        encoder = self._encoder.build() if self._encoder else None
        return Graph(
            tuple(self.nodes), caches, width, tuple(self._states), encoder, self.hidden, self.n_ctx
        )

    def state(self, size: int) -> int:
        """Return the number of a new state of `size` float32, for the attribute `state` of a node.

        A node reads it as it was before the run's first row of a sequence, zeros at the start of
        one, and leaves it as it is behind the last row.
        """
        self._states.append(size)
        return len(self._states) - 1

    def weight(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a tensor, compared with `shape` (-1: any size)."""
        if name not in self.tensors:
            raise GGUFError(
                f"tensor {name!r}: expected one of shape {_show(shape)}, got none; the file is "
                "incomplete, or made for another version of its architecture"
            )
        got = tuple(self.tensors[name].shape)
        if len(got) != len(shape) or any(w not in (-1, g) for w, g in zip(shape, got, strict=True)):
            raise GGUFError(f"tensor {name!r}: expected shape {_show(shape)}, got {_show(got)}")
        return got

    def node(
        self,
        op: str,
        name: str,
        inputs: tuple[Value, ...],
        rows: str,
        width: int,
        weights: tuple[str, ...] = (),
        attrs: Mapping[str, Any] | None = None,
    ) -> Value:
        """Add a node with one output [rows, width]; words outside this class are made of it.

        Such a word is a function of a file in `llm/graph/words`; backends find the operation in
        the file `<op>.py` of their folders.
        """
        if name in self._names:
            raise ValueError(f"two nodes are named {name!r}")
        self._names.add(name)
        value = Value(self._n_values, name, rows, width)
        self._n_values += 1
        self.nodes.append(Node(op, name, inputs, (value,), weights, attrs or {}))
        return value


def _alike(name: str, a: Value, b: Value) -> tuple[Value, Value]:
    if (a.rows, a.width) != (b.rows, b.width):
        raise ValueError(
            f"{name}: expected two values of one shape, got {a.name} [{a.rows}, {a.width}] and "
            f"{b.name} [{b.rows}, {b.width}]"
        )
    return a, b


def _divides(name: str, what: str, part: int, whole: int) -> None:
    if part < 1 or whole % part:
        raise ValueError(f"{name}: {what} = {part} does not divide {whole}")


def _one_of(name: str, what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}: {what} must be one of {known}, got {value!r}")


def _show(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join("any" if size < 0 else str(size) for size in shape) + ")"
