"""`head_matmul` as an op."""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi, formats, packed

_FIELDS = (
    "rows", "w", "n_heads", "n", "k", "x", "ldx", "y", "ldy", "matrix_bytes", "scratch",
    "scratch_bytes",
)  # fmt: skip
# y[t, h] = W[h] x[t, h]: a stack of packed matrices (n, k), matrix_bytes apart. Factory parameter
# fmt. HEAD_MATMUL has x from QUANTIZE, its ldx is unused.
HEAD_MATMUL = abi.Op("head_matmul", "matmul", _FIELDS)
HEAD_MATMUL_FLOAT = abi.Op("head_matmul", "matmul_float", _FIELDS)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the product, from quantized rows where the weights are quantized."""
    (x,), w, n_heads = node.inputs, lowering.weights[node.weights[0]], node.attrs["n_heads"]
    as_float = lowering.exact or formats.get(w.type_name).scales == "float"
    source = lowering.buffer(x) if as_float else lowering.quantize(x)
    y, n = lowering.new(node.outputs[0]), node.outputs[0].width // n_heads
    matrix_bytes = packed.matrix_bytes(w.type_name, n, w.k)
    lowering.planner.emit(
        HEAD_MATMUL_FLOAT if as_float else HEAD_MATMUL, [source], [y],
        cost=n_heads * n * w.k * (4 if as_float else 1),
        constant=(w.address, n_heads * matrix_bytes), params={"fmt": w.type_name},
        rows=ROW_WORDS[x.rows], w=w.address, n_heads=n_heads, n=n, k=w.k, x=source,
        ldx=source.stride, y=y, ldy=y.stride, matrix_bytes=matrix_bytes,
        **lowering.scratch_words(),
    )  # fmt: skip
