"""Attention on CUDA: on tensor cores, with cells in parts where rows are few."""

from contextlib import nullcontext
from typing import TYPE_CHECKING

from jitllm.backends._cuda.rounding import reader_of, rounds
from jitllm.backends._gpu import core as gpu_core
from jitllm.backends._gpu.core import AttentionCall
from jitllm.backends._gpu.dispatch import Form, Place
from jitllm.backends.ir import Node
from jitllm.kernels import cache_types
from jitllm.kernels.cuda._layout import (
    ELEMENTS,
    GROUP,
    MERGED_COLUMNS,
    RECORD,
    blocks_of,
    tokens_of_tile,
)

if TYPE_CHECKING:
    from jitllm.backends._cuda.lower import CudaLowering

BUSY_WARPS = 528  # four for each of 132 multiprocessors
WARPS = 4  # of a workgroup of attention
MOST_PARTS = 128
FEW, STEP = 8, 4  # rows that cells have all parts for; so many times the rows have as much less
RUN = Place("run", 0, 0)


def attention(lowering: "CudaLowering", node: Node) -> None:
    """Emit the write of keys and values, and the attention."""
    attrs, rows = node.attrs, [lowering.place(value) for value in node.inputs]
    q, alone = rows[0], attrs["cache"] < 0
    dk, dv, n_heads = attrs["head_dim"], attrs["v_head_dim"], attrs["n_heads"]
    is_apart = any(x.shift % 16 for x in (rows if alone else [q]))
    if lowering.exact or dk % 16 or dv % 8 or dv > MERGED_COLUMNS or is_apart:
        gpu_core.attention(lowering, node)
        return
    y, call = lowering.new(node.outputs[0]), gpu_core.write_keys(lowering, node)
    if alone:
        lowering.emit_forms([_whole(node, call, q, y)], [y], "T")
        return
    pool, source = lowering.pools[attrs["cache"]], q
    keys, values = cache_types.rows_of(pool.kv_dtype, pool.spec.layers[attrs["layer"]])
    if keys.hadamard:
        source = lowering.take("T", n_heads * dk)
        gpu_core.rotate_heads(lowering, q, source, n_heads, dk, keys.hadamard)
    is_rounded = not values.hadamard and _rounds(lowering, node)
    with lowering.rounding(y, "T", n_heads * dv, 1) if is_rounded else nullcontext() as room:
        _emit(lowering, node, call, source, y, room)
    if values.hadamard:
        gpu_core.rotate_heads(lowering, y, y, n_heads, dv, values.hadamard)
    if source is not q:
        lowering.give(source)


def _rounds(lowering: "CudaLowering", node: Node) -> bool:
    """Whether heads are whole groups of int8 rows, which are made with what a product reads."""
    is_whole = node.attrs["v_head_dim"] % GROUP == 0
    return is_whole and rounds(lowering, reader_of(lowering, node), node.outputs[0].width)


def _emit(
    lowering: "CudaLowering", node: Node, call: AttentionCall, q: Place, y: Place,
    rounded: Place | None,
) -> None:  # fmt: skip
    """Emit the kernel, and what puts its parts together; int8 rows of y too, if these have room."""
    attrs, dv = node.attrs, node.attrs["v_head_dim"]
    n_heads, n_kv_heads = attrs["n_heads"], attrs["n_kv_heads"]
    group, capped = n_heads // n_kv_heads, attrs["soft_cap"] > 0
    blocks = _product(blocks_of(group, dv)) * n_kv_heads
    tokens, sinks = tokens_of_tile(group), call.addresses[2]
    parts = _parts(blocks, lowering.pools[attrs["cache"]].n_pages)
    width = n_heads * parts * (dv + RECORD)  # of a row
    partial = lowering.take_bytes("fixed", 4 * FEW * width)
    tiles, merges, rows, n = list[Form](), list[Form](), 0, parts
    while n >= WARPS:
        apart = width // parts * n
        tiles.append(Form(
            "attention_tile", (*call.constants, group, n, capped),
            (RUN, q, partial, *call.addresses),
            (q.stride, apart, *call.words), blocks * n // WARPS, tokens, rows + 1,
        ))  # fmt: skip
        merges.append(Form(
            "attention_merge", (dv, n, sinks is not None, rounded is not None),
            (RUN, partial, y, sinks, rounded), (apart, y.stride, n_heads * dv), n_heads, 1,
            rows + 1,
        ))  # fmt: skip
        rows = FEW * parts // n
        n = n // STEP if n % (STEP * WARPS) == 0 else 0
    tiles.append(_whole(node, call, q, y, rows + 1))
    lowering.emit_forms(tiles, [y, partial], "T")
    lowering.emit_forms(merges, [y, rounded] if rounded else [y], "T", most=rows)
    if rounded:
        addresses, words = (lowering.count("T"), y, rounded), (y.stride, n_heads * dv)
        groups = -(-n_heads * dv // ELEMENTS)
        form = Form("quantize", (), addresses, words, groups, least=rows + 1)
        lowering.emit_forms([form], [rounded], "T")
    lowering.give(partial)


def _whole(node: Node, call: AttentionCall, q: Place, y: Place, least: int = 1) -> Form:
    """Return the form that takes all cells at once, for `least` rows or more."""
    attrs, n_kv_heads = node.attrs, node.attrs["n_kv_heads"]
    group = attrs["n_heads"] // n_kv_heads
    return Form(
        "attention_tile", (*call.constants, group, 1, attrs["soft_cap"] > 0),
        (RUN, q, y, *call.addresses), (q.stride, y.stride, *call.words),
        _product(blocks_of(group, attrs["v_head_dim"])) * n_kv_heads,
        WARPS * tokens_of_tile(group), least,
    )  # fmt: skip


def _parts(blocks: int, n_pages: int) -> int:
    """Return how many parts cells are cut into for few rows: 4, 16 or 64, or what pages allow."""
    parts = WARPS
    while parts < MOST_PARTS and blocks * parts < BUSY_WARPS and parts < n_pages:
        parts *= 2
    return parts


def _product(numbers: tuple[int, int]) -> int:
    return numbers[0] * numbers[1]
