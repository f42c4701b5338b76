"""How arguments reach a compiled kernel: blocks of 64-bit words, and the words that vary per run.

Every op of a CPU plan is one call `kernel(args, thread, n_threads, counter)`. `args` points to the
op's argument block, written once when the plan is built. Word 0 of every block is the address of
the plan's run block, whose words change from run to run (how many tokens, where they lie).
"""

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.kernels import jit
from jitllm.kernels.cache_types import PAGE_TOKENS as PAGE_TOKENS  # for kernels

# Words of the run block.
N_TOKENS = 0  # rows of every "T" value in this run
N_OUTPUTS = 1  # rows of every "O" value: the positions whose logits are wanted
TOKENS = 2  # address of int32 [N_TOKENS] token ids
POSITIONS = 3  # address of int32 [N_TOKENS] positions
OUTPUT_ROWS = 4  # address of int32 [N_OUTPUTS] row numbers
N_SEGMENTS = 5  # sequences in this run
SEGMENTS = 6  # address of int64 [N_SEGMENTS, SEGMENT_WORDS]
N_SLOTS = 7  # rows of values per token-expert pair, set by ROUTE
SEGMENTS_ALONE = 8  # as SEGMENTS; positions count from the run's first row, pages are of the plan
SEGMENTS_CROSS = 9  # as SEGMENTS; positions are such that the last row's is that of the last cell
RUN_WORDS = 10

# Words of a segment: consecutive rows that belong to one sequence.
SEGMENT_ROW = 0  # first row
SEGMENT_ROWS = 1  # number of rows; row i of the segment has position SEGMENT_POSITION + i
SEGMENT_POSITION = 2
SEGMENT_TABLES = 3  # address of int64 [n_caches]: addresses of page tables (int32 page numbers)
SEGMENT_STATE_IN = 4  # slot of the states before the first row, -1: all zero
SEGMENT_STATE_OUT = 5  # slot that gets the states behind the last row
SEGMENT_WORDS = 6

# Words of an op in a plan, and of the block through which threads work together (see
# `cpu/executor.py`). What threads write lies on cache lines of its own.
OP_KERNEL, OP_ARGS, OP_BARRIER, OP_AHEAD, OP_AHEAD_BYTES, OP_COUNTER = 0, 1, 2, 3, 4, 8
OP_WORDS = 16
OP_BYTES = 8 * OP_WORDS
SYNC_JOB = 0  # number of the job; negative: workers end
SYNC_CURRENT = 8  # job << 32 | first op of the group being run; -1 between jobs
SYNC_ACTIVE = 16  # workers inside a group
SYNC_OPS, SYNC_STOP, SYNC_THREADS = 24, 25, 26
SYNC_YIELD, SYNC_MASK, SYNC_DONE = 27, 28, 29
SYNC_PARKED = 32  # one line for each thread

# What a query at p sees of its sequence: all, 0 to p, or (window W) those of 0 to p in its chunk of
# W positions. A window W also hides what is W or more behind from MASK_CAUSAL, and what is further
# than W // 2 from MASK_NONE.
MASK_NONE, MASK_CAUSAL, MASK_CHUNK = 0, 1, 2


@dataclass(frozen=True)
class Op:
    """One kernel and the layout of its argument block.

    Attributes
    ----------
    module, function : str
        Where the kernel stands: `jitllm.kernels.cpu.<module>.<function>`.
    fields : tuple of str
        Names of the words after word 0, in order. A name that ends in `:f32` holds a float32 in
        its low half; all others are int64 (addresses and counts).
    """

    module: str
    function: str
    fields: tuple[str, ...] = field(default=())

    def pack(self, run: int, **values: Any) -> npt.NDArray[np.int64]:
        """Return the argument block; `TypeError` names missing and unknown fields."""
        names = [name.partition(":")[0] for name in self.fields]
        if set(names) != set(values):
            missing, unknown = set(names) - set(values), set(values) - set(names)
            raise TypeError(f"{self.function}: missing {missing}, unknown {unknown}")
        words = [run]
        for name in self.fields:
            key, _, kind = name.partition(":")
            value = values[key]
            words.append(
                struct.unpack("<q", struct.pack("<fi", value, 0))[0]
                if kind == "f32"
                else int(value)
            )
        return np.array(words, np.int64)

    def address(self, **params: Any) -> int:
        """Return the kernel's address, compiling it if needed."""
        return jit.address(self.module, self.function, **params)


def _op(module: str, function: str, fields: str) -> Op:
    return Op(module, function, tuple(fields.split()))


# Values are float32 [rows, width] arrays. `ld*` is the distance between rows in bytes; every row
# starts on a 64-byte boundary and is padded to 16 floats, the padding being writable and
# unspecified. `rows` words name the run block word (N_TOKENS, N_OUTPUTS) that holds the row count.

# Re-lay n rows of k weights from file blocks at source to the packed layout. Factory parameter fmt.
REPACK = _op("repack", "repack", "source target n k")
# Quantize rows of x for MATMUL (layout: `packed`). A run of one token, or a single row, makes tiles
# of one row, all else tiles of `tile_rows` (factory parameter); width is a multiple of 32.
QUANTIZE = _op("quantize", "quantize", "rows x ldx out width")
# y = x W^T + bias (+ residual): W packed (n, k) at w, x from QUANTIZE; bias is float32 [n padded to
# 16] or 0, residual an address of rows or 0. Factory parameter fmt. The scratch of a thread holds
# SCRATCH_BLOCKS unpacked row blocks.
MATMUL = _op("matmul", "matmul", "rows w n k x y ldy bias residual ldr scratch scratch_bytes")
# The same from float32 rows x: for float formats, and for all formats when activations stay exact.
MATMUL_FLOAT = _op(
    "matmul_float", "matmul", "rows w n k x ldx y ldy bias residual ldr scratch scratch_bytes"
)
# y[t] = W[tokens[t]] from packed weights. Factory parameters fmt and by ("tokens", the default, or
# "positions" for W[positions[t]]).
EMBED = _op("embed", "embed", "w k y ldy")
# y = x / sqrt(mean(x^2) + eps) * w over each `group` columns (group = width, or a head's size).
# w is float32 [group], or 0 for none.
RMS_NORM = _op("norm", "rms_norm", "rows x ldx w y ldy width group eps:f32")
# y = (x - mean) / sqrt(var + eps) * w + b.
LAYER_NORM = _op("norm", "layer_norm", "rows x ldx w b y ldy width eps:f32")
# y = act(gate) * up; factory parameter act: silu, gelu (tanh form), gelu_erf, relu.
GLU = _op("activation", "glu", "rows gate ldg up ldu y ldy width")
# y = act(x).
ACTIVATION = _op("activation", "activation", "rows x ldx y ldy width")
# y = a + b, y = a * b.
ADD = _op("elementwise", "add", "rows a lda b ldb y ldy width")
MUL = _op("elementwise", "mul", "rows a lda b ldb y ldy width")
# y = x * scale.
SCALE = _op("elementwise", "scale", "rows x ldx y ldy width scale:f32")
# y[t] = x[t] * factors[t]; factors are 64 bytes apart.
SCALE_ROWS = _op("elementwise", "scale_rows", "x ldx factors y ldy width")
# y = cap * tanh(x / cap).
SOFT_CAP = _op("elementwise", "soft_cap", "rows x ldx y ldy width cap:f32")
# y[o] = x[output_rows[o]]; rows counted by N_OUTPUTS.
SELECT_ROWS = _op("elementwise", "select_rows", "x ldx y ldy width")
# Rotate heads of x [T, n_heads * head_dim] into y (may be x). Only the first n_rot columns of a
# head turn; the others are copied. table is float32 [n_rot / 2, 2]: per pair the frequency
# (radians per position, all scaling and factors applied) and unused; magnitude multiplies cos and
# sin. Factory parameter kind: norm (pairs 2i, 2i+1) or neox (pairs i, i + n_rot/2).
ROPE = _op("rope", "rope", "x ldx y ldy n_heads head_dim n_rot table magnitude:f32")
# Write k [T, G*dk] and v [T, G*dv] of each segment to its pages. A page of one layer holds, for
# each kv head g: K as [items][64] (one key a column: lanes are keys) then V as [64][items], items
# being numbers, or bytes of quantized blocks.
# `pages` is the address of the layer's page 0, page p is at pages + p * page_bytes; `cache` is the
# number of the cache in SEGMENT_TABLES; window > 0: page numbers are looked up modulo
# table_pages. `segments` names a word of the run block: SEGMENTS, or SEGMENTS_ALONE for pages that
# only this run's rows fill. Factory parameter kv: see `cache_types.spelled`.
KV_WRITE = _op(
    "kv_write",
    "kv_write",
    "k ldk v ldv n_kv_heads dk dv pages page_bytes cache table_pages segments",
)
# out [T, H*dv] = softmax(soft_cap(q k^T * scale) + mask) v; mask is one of MASK_*; soft_cap 0 =
# none; sinks: float32 [H] address or 0 (one more logit per head in the denominator only). `scratch`
# has scratch_bytes per thread. Pages are walked in ascending order, one online-softmax step a page,
# so bits depend on positions alone. Factory parameters kv; alibi (default False): the head's
# slope, float32 [H] at slopes, times the distance of a key is taken off the score (soft_cap 0);
# reach (default 0): float32 [H, table_floats(reach)] at slopes are added to scores (soft_cap 0), by
# the key's position less the query's.
ATTENTION = _op(
    "attention",
    "attention",
    "q ldq out ldo n_heads n_kv_heads dk dv pages page_bytes cache table_pages window mask "
    "scale:f32 soft_cap:f32 sinks slopes segments scratch scratch_bytes",
)
# experts [T, E] logits -> ids int32 [T, k], weights float32 [T, k]; `bias` float32 [E] or 0 is
# added for the choice only, among the experts of the topk_group best of n_group groups. Where
# `chosen` is not 0 its rows hold the expert numbers as float32, and nothing is chosen. The numbers
# are divided by experts_per_group before they choose weights and become ids. Factory parameters
# gating (softmax, sigmoid, sqrt_softplus, softmax_topk, sigmoid_topk), norm.
TOP_K_EXPERTS = _op(
    "moe",
    "top_k_experts",
    "logits ldl bias n_experts k ids weights scale:f32 norm_min:f32 n_group topk_group "
    "experts_per_group chosen ldc",
)
# Sort pairs (t, j) of ids int32 [T, k] by expert into slots: index int32 [slots] (row t of each
# slot, -1 where unused), tile_experts int32 [tiles], slot_of int32 [T, k]; sets N_SLOTS.
# Slots are at most expert_slots(T, k, n_experts, tile_rows). Factory parameter tile_rows.
ROUTE = _op("experts", "route", "ids n_experts k index tile_experts slot_of")
# y[slot] = x[index[slot]], zeros for -1.
GATHER = _op("experts", "gather", "x ldx index y ldy width")
# y[slot_of[t, j]] *= weights[t, j].
WEIGH = _op("experts", "weigh", "slot_of weights k y ldy width")
# y[slot] = W[expert of slot] x[slot] (* scales[expert], float32 [E] or 0) (+ biases[expert],
# float32 [E, n padded to 16] or 0); W is a stack of packed matrices matrix_bytes apart, x from
# QUANTIZE over the slots. Factory parameter fmt.
EXPERT_MATMUL = _op(
    "experts",
    "matmul",
    "w n k x y ldy tile_experts scales matrix_bytes scratch scratch_bytes biases",
)
# The same from float32 rows. Factory parameters fmt, tile_rows.
EXPERT_MATMUL_FLOAT = _op(
    "experts",
    "matmul_float",
    "w n k x ldx y ldy tile_experts scales matrix_bytes scratch scratch_bytes biases",
)
# y[t] = sum over j of weights[t, j] * x[slot_of[t, j]]; weights 0: all are 1.
COMBINE = _op("experts", "combine", "x ldx slot_of weights k y ldy width")


def expert_slots(n_tokens: int, k: int, n_experts: int, tile_rows: int) -> int:
    """Return the most slots that ROUTE makes of `n_tokens` tokens with k experts each."""
    used = min(n_experts, n_tokens * k)
    return -(-(n_tokens * k + used * (tile_rows - 1)) // tile_rows) * tile_rows
