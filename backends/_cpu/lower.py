"""From nodes to ops: one method for each operation of the graph.

Fusion: a matmul whose only reader is an addition adds the other operand itself, unless its output
is tapped. The bits are those of the separate operations.
"""

import importlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np

from jitllm.backends._cpu.experts import ExpertOps
from jitllm.backends._cpu.memory import CpuPool, CpuStates, PackedShape
from jitllm.backends._cpu.plan import LINE, Buffer, Plan, Planner
from jitllm.backends._cpu.threads import aligned
from jitllm.backends.base import BackendUnavailable, Floats
from jitllm.backends.ir import Graph, Node, Value
from jitllm.kernels import abi, formats, packed
from jitllm.kernels import level as levels

ROW_WORDS = {"T": abi.N_TOKENS, "O": abi.N_OUTPUTS}
UNPACKED_BYTES = 384 << 10  # of a matrix product's scratch, see kernels/cpu/matmul.py
FLOAT_SPAN_BYTES = 64 * 512


@dataclass(frozen=True, slots=True)
class Cut:
    """A place where a run stops for Python: after op `stop`, with a value that may be changed.

    `inputs` are set where the probabilities of an attention node are wanted.
    """

    stop: int
    node: Node
    buffer: Buffer
    inputs: tuple[Buffer, ...] = ()


class Lowering:
    """Makes the plan of one graph.

    Parameters
    ----------
    graph : Graph
    weights : mapping
        Packed matrices by tensor name, or only their sizes where no plan is made.
    vectors : mapping
        float32 vectors by tensor name.
    pools : sequence of CpuPool
    states : CpuStates
    exact : bool
        Keep activations in float32.
    max_tokens, n_threads : int
    taps : frozenset of str
    run : int
        Address of the run block.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, PackedShape],
        vectors: Mapping[str, Floats],
        pools: Sequence[CpuPool],
        states: CpuStates,
        *,
        exact: bool,
        max_tokens: int,
        n_threads: int,
        taps: frozenset[str],
        run: int,
    ) -> None:
        self.graph, self.weights, self.vectors, self.pools = graph, weights, vectors, pools
        self.exact, self.max_tokens, self.n_threads, self.taps = exact, max_tokens, n_threads, taps
        self.states, self.planner = states, Planner(run)
        self.constants: list[Any] = []  # arrays that ops point to
        self.row_factors: list[tuple[float, int, int, Floats]] = []
        self.input_rows: list[Floats] = []  # where the float rows of a run go, [max_tokens, width]
        self.cuts: list[Cut] = []
        self._buffers: dict[int, Buffer] = {}
        self._quantized: dict[int, Buffer] = {}
        self._shares: dict[int, int] = {}  # value whose memory another value uses
        self._readers = Counter(value.id for node in graph.nodes for value in node.inputs)
        self._only_reader = {
            value.id: node for node in graph.nodes for value in node.inputs
            if self._readers[value.id] == 1
        }  # fmt: skip
        self._done: set[str] = set()
        self._tables: dict[bytes, Floats] = {}
        self._scratch: Buffer | None = None

    def plan(self) -> Plan:
        """Lower every node and return the finished plan."""
        self.lower()
        return self.planner.finish()

    def lower(self) -> None:
        """Lower every node: then all sizes are known."""
        self._scratch = self.take(self._scratch_bytes * self.n_threads)
        for node in self.graph.nodes:
            if node.name not in self._done:
                self._lower(node)

    @property
    def kept_bytes(self) -> int:
        """Bytes of what ops point to besides the plan's memory: tables, constants, inputs."""
        factors = [factors for *_, factors in self.row_factors]
        kept = [*self.constants, *factors, *self.input_rows, *self._tables.values()]
        return sum(array.nbytes for array in kept)

    def _lower(self, node: Node) -> None:
        # not getattr: the interpreter's cache of methods would keep every name that is made here
        lower = vars(Lowering).get(f"_op_{node.op}") or self._operation(node.op)
        lower(self, node)
        self._finish(node)

    @staticmethod
    def _operation(op: str) -> Callable[["Lowering", Node], None]:
        """Return `lower` of the operation's own file."""
        path = f"jitllm.backends.cpu_ops.{op}"
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name != path:  # the file is there, and imports what is not
                raise
            raise BackendUnavailable(f"the cpu backend has no operation {op!r}") from None
        return cast("Callable[[Lowering, Node], None]", module.lower)

    def _finish(self, node: Node) -> None:
        """Note taps, and give memory back that nobody reads any more."""
        self._done.add(node.name)
        stop = len(self.planner.ops)
        if f"{node.name}.pattern" in self.taps:
            inputs = tuple(self._buffers[value.id] for value in node.inputs)
            self.cuts.append(Cut(stop, node, self._buffers[node.outputs[0].id], inputs))
        if node.name in self.taps:
            self.cuts.append(Cut(stop, node, self._buffers[node.outputs[0].id]))
        for value in node.inputs:
            self._release(value.id)

    def _release(self, value: int) -> None:
        self._readers[value] -= 1
        if self._readers[value]:
            return
        if value in self._shares:
            self._release(self._shares[value])
        else:
            self.give(self._buffers[value])
        if value in self._quantized:
            self.give(self._quantized[value])

    # --- memory ---

    def buffer(self, value: Value) -> Buffer:
        """Return where the rows of a value are."""
        return self._buffers[value.id]

    def take(self, size: int) -> Buffer:
        """Return memory of the plan."""
        return Buffer(self.planner.arena.take(size), 0, size)

    def give(self, buffer: Buffer) -> None:
        """Let later ops use this memory; barriers keep earlier ops right."""
        self.planner.arena.give(buffer.start, buffer.size)

    def new(self, value: Value) -> Buffer:
        """Return memory for a value's rows; rows are whole cache lines."""
        stride = -(-value.width * 4 // LINE) * LINE
        # every run has fresh memory for the logits, which then belongs to the caller
        size = 0 if value.id == self.graph.output.id else stride * self.max_tokens
        buffer = Buffer(self.planner.arena.take(size), stride, size)
        self._buffers[value.id] = buffer
        return buffer

    @cached_property
    def _scratch_bytes(self) -> int:
        """What a thread needs at most for a matrix product."""
        tile_blocks, tile_rows = levels.current().tile
        rows = max([self.max_tokens, *(
            abi.expert_slots(self.max_tokens, n.attrs["k"], n.inputs[1].width, tile_rows)
            for n in self.graph.nodes if n.op == "experts"
        )])  # fmt: skip
        need = FLOAT_SPAN_BYTES + 64 * rows
        for weight in self.weights.values():
            groups = weight.k // 32 * (512 + 64 * 4)
            need = max(need, UNPACKED_BYTES, tile_blocks * groups)
        return -(-need // LINE) * LINE

    def scratch_words(self) -> dict[str, Any]:
        """Return the words of a matrix product for the threads' work memory."""
        return {"scratch": self._scratch, "scratch_bytes": self._scratch_bytes}

    def quantize(self, value: Value) -> Buffer:
        """Return the quantized rows of a value, made once for all its readers."""
        if value.id not in self._quantized:
            x, tile_rows = self._buffers[value.id], levels.current().tile[1]
            size = packed.activation_bytes(self.max_tokens, value.width, tile_rows)
            out = self._quantized[value.id] = self.take(size)
            self.planner.emit(
                abi.QUANTIZE, [x], [out], cost=8 * value.width, params={"tile_rows": tile_rows},
                rows=ROW_WORDS[value.rows], x=x, ldx=x.stride, out=out, width=value.width,
            )  # fmt: skip
        return self._quantized[value.id]

    def vector(self, name: str) -> int:
        """Return the address of a small weight, 0 for the name ""."""
        return int(self.vectors[name].ctypes.data) if name else 0

    # --- operations ---

    def _op_embed(self, node: Node) -> None:
        w, y = self.weights[node.weights[0]], self.new(node.outputs[0])
        self.planner.emit(
            abi.EMBED, [], [y], cost=32 * w.k, params={"fmt": w.type_name},
            w=w.address, k=w.k, y=y, ldy=y.stride,
        )  # fmt: skip

    def _op_matmul(self, node: Node) -> None:
        (x,), w = node.inputs, self.weights[node.weights[0]]
        addition = self._addition_after(node)
        out = addition.outputs[0] if addition else node.outputs[0]
        other = self._other(addition, node.outputs[0]) if addition else None
        self.product(x, w, out, self.vector(node.weights[1]), other)
        if addition and other:
            self._release(other.id)
            self._done.add(addition.name)
            if addition.name in self.taps:
                stop = len(self.planner.ops)
                self.cuts.append(Cut(stop, addition, self._buffers[out.id]))

    def product(self, x: Value, w: PackedShape, out: Value, bias: int, other: Value | None) -> None:
        """Emit out = x w^T + bias + other; makes the memory of `out`."""
        as_float = self.exact or formats.get(w.type_name).scales == "float"
        source = self._buffers[x.id] if as_float else self.quantize(x)
        y = self.new(out)
        residual = self._buffers[other.id] if other else None
        values: dict[str, Any] = {
            "rows": ROW_WORDS[x.rows], "w": w.address, "n": w.n, "k": w.k, "x": source, "y": y,
            "ldy": y.stride, "bias": bias, "residual": residual or 0,
            "ldr": residual.stride if residual else 0,
            **self.scratch_words(),
        }  # fmt: skip
        if as_float:
            values["ldx"] = source.stride
        self.planner.emit(
            abi.MATMUL_FLOAT if as_float else abi.MATMUL,
            [source, *([residual] if residual else [])], [y],
            cost=w.n * w.k * (4 if as_float else 1), constant=(w.address, w.matrix_bytes),
            params={"fmt": w.type_name}, **values,
        )  # fmt: skip

    def _addition_after(self, node: Node) -> Node | None:
        """Return the addition that can be part of this matmul, if there is one."""
        out = node.outputs[0]
        reader = self._only_reader.get(out.id)
        if reader is None or reader.op != "add" or node.name in self.taps:
            return None
        other = self._other(reader, out)
        return reader if other.id in self._buffers and other.id != out.id else None

    @staticmethod
    def _other(addition: Node, value: Value) -> Value:
        a, b = addition.inputs
        return b if a.id == value.id else a

    def _op_rms_norm(self, node: Node) -> None:
        self._row_wise(
            abi.RMS_NORM, node, 6, w=self.vector(node.weights[0]), group=node.attrs["group"],
            eps=node.attrs["eps"],
        )  # fmt: skip

    def _op_layer_norm(self, node: Node) -> None:
        w, b = (self.vector(name) for name in node.weights)
        self._row_wise(abi.LAYER_NORM, node, 8, w=w, b=b, eps=node.attrs["eps"])

    def _op_scale(self, node: Node) -> None:
        self._row_wise(abi.SCALE, node, 2, scale=node.attrs["factor"])

    def _op_soft_cap(self, node: Node) -> None:
        self._row_wise(abi.SOFT_CAP, node, 20, cap=node.attrs["cap"])

    def _op_activation(self, node: Node) -> None:
        self._row_wise(abi.ACTIVATION, node, 20, params={"act": node.attrs["act"]})

    def _row_wise(
        self, op: abi.Op, node: Node, cost: float, params: dict[str, Any] | None = None,
        **values: Any,
    ) -> None:  # fmt: skip
        """Emit an op that makes each row of y from the same row of x."""
        (x,), x_at = node.inputs, self._buffers[node.inputs[0].id]
        y = self.new(node.outputs[0])
        self.planner.emit(
            op, [x_at], [y], cost=cost * x.width, params=params, rows=ROW_WORDS[x.rows],
            x=x_at, ldx=x_at.stride, y=y, ldy=y.stride, width=x.width, **values,
        )  # fmt: skip

    def _op_glu(self, node: Node) -> None:
        gate, up = (self._buffers[value.id] for value in node.inputs)
        y, width = self.new(node.outputs[0]), node.outputs[0].width
        self.planner.emit(
            abi.GLU, [gate, up], [y], cost=20 * width, params={"act": node.attrs["act"]},
            rows=ROW_WORDS[node.outputs[0].rows], gate=gate, ldg=gate.stride, up=up,
            ldu=up.stride, y=y, ldy=y.stride, width=width,
        )  # fmt: skip

    def _op_add(self, node: Node) -> None:
        self._two_operands(abi.ADD, node, *(self._buffers[value.id] for value in node.inputs))

    def _op_mul(self, node: Node) -> None:
        self._two_operands(abi.MUL, node, *(self._buffers[value.id] for value in node.inputs))

    def _op_add_bias(self, node: Node) -> None:
        bias = self.vector(node.weights[0])  # one row for all: the distance between rows is 0
        self._two_operands(abi.ADD, node, self._buffers[node.inputs[0].id], bias)

    def _two_operands(self, op: abi.Op, node: Node, a: Buffer, b: Buffer | int) -> None:
        out = node.outputs[0]
        y = self.new(out)
        reads: list[Any] = [x for x in (a, b) if isinstance(x, Buffer)]
        self.planner.emit(
            op, reads, [y], cost=2 * out.width, rows=ROW_WORDS[out.rows], a=a, lda=a.stride, b=b,
            ldb=b.stride if isinstance(b, Buffer) else 0, y=y, ldy=y.stride, width=out.width,
        )  # fmt: skip

    def _op_columns(self, node: Node) -> None:
        x, start = node.inputs[0], node.attrs["start"]
        if start % 16:
            raise BackendUnavailable(f"{node.name}: columns must start at a multiple of 16")
        source, out = self._buffers[x.id], node.outputs[0]
        size = source.size - 4 * start
        self._buffers[out.id] = Buffer(source.start + 4 * start, source.stride, size)
        self._shares[out.id] = x.id
        self._readers[x.id] += 1  # until the view's last reader is done

    def _op_select_outputs(self, node: Node) -> None:
        x, y = self._buffers[node.inputs[0].id], self.new(node.outputs[0])
        width = node.outputs[0].width
        self.planner.emit(
            abi.SELECT_ROWS, [x], [y], cost=width, x=x, ldx=x.stride, y=y, ldy=y.stride, width=width
        )

    def _op_rope(self, node: Node) -> None:
        x, y, attrs = self._buffers[node.inputs[0].id], self.new(node.outputs[0]), node.attrs
        table = self._rope_table(attrs["frequencies"])
        sizes = {name: attrs[name] for name in ("n_heads", "head_dim", "n_rot", "magnitude")}
        self.planner.emit(
            abi.ROPE, [x], [y], cost=6 * node.outputs[0].width, params={"kind": attrs["kind"]},
            x=x, ldx=x.stride, y=y, ldy=y.stride, table=table.ctypes.data, **sizes,
        )  # fmt: skip

    def _rope_table(self, frequencies: Floats) -> Floats:
        key = frequencies.tobytes()
        if key not in self._tables:
            table = aligned(8 * len(frequencies)).view(np.float32).reshape(-1, 2)
            table[:, 0] = frequencies
            self._tables[key] = table
        return self._tables[key]

    def _op_scale_by_position(self, node: Node) -> None:
        """Multiply by a factor of each row, which `run` computes from the positions."""
        factors = aligned(64 * self.max_tokens).view(np.float32).reshape(self.max_tokens, 16)
        attrs = node.attrs
        self.row_factors.append((attrs["slope"], attrs["length"], attrs["offset"], factors))
        x, y = self._buffers[node.inputs[0].id], self.new(node.outputs[0])
        width = node.outputs[0].width
        self.planner.emit(
            abi.SCALE_ROWS, [x], [y], cost=width, x=x, ldx=x.stride, factors=factors.ctypes.data,
            y=y, ldy=y.stride, width=width,
        )  # fmt: skip

    def _op_experts(self, node: Node) -> None:
        ExpertOps(self, node).emit(self.new(node.outputs[0]))

    def state_words(self, node: Node) -> dict[str, Any]:
        """Return the words by which a kernel finds the node's state of a slot.

        State = states + slot * slot_bytes, slots being those of the segment.
        """
        index = node.attrs["state"]
        address = self.states.address + self.states.offsets[index]
        return {"states": address, "slot_bytes": self.states.stride}
