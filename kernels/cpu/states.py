"""What kernels with states share: where a segment's state is, and how threads divide the columns.

A segment reads the state in one slot and leaves it in another, so that a run that is interrupted
has changed nothing. Columns of a state need nothing of each other: a thread takes some of them, of
one head of one sequence, through all rows.
"""

from jitllm.kernels import abi
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.vmath import ZERO, store_part
from jitllm.kernels.simd import load_i64, splat_f32

BLOCK = 64  # columns of a piece: four vectors


@inline
def segment_rows(segment):
    """Return the first row of a segment, and the one behind its last."""
    first = load_i64(segment + 8 * abi.SEGMENT_ROW)
    return first, first + load_i64(segment + 8 * abi.SEGMENT_ROWS)


@inline
def segment_states(segment, states, slot_bytes):
    """Return the addresses of a segment's states before and behind its rows, 0 for none before."""
    slot = load_i64(segment + 8 * abi.SEGMENT_STATE_IN)
    before = 0
    if slot >= 0:
        before = states + slot * slot_bytes
    return before, states + slot_bytes * load_i64(segment + 8 * abi.SEGMENT_STATE_OUT)


@inline
def state_part(segment, states, slot_bytes, at, stride, rows, columns):
    """Return the addresses of a part of a segment's states before and behind its rows.

    The part is `at` bytes behind the states' beginning: float32 [rows, columns], its rows `stride`
    bytes apart. Where a sequence begins, both are the same and zeros.
    """
    before, behind = segment_states(segment, states, slot_bytes)
    source, target = before + at, behind + at
    if before == 0:
        for i in range(rows):
            for j in range(0, columns, 16):
                store_part(target + i * stride + 4 * j, splat_f32(ZERO), columns - j)
        source = target
    return source, target


def over_columns(piece, *, columns, heads=0, block=BLOCK):
    """Make the kernel that takes the columns of all heads of all segments, `block` at a time.

    Parameters
    ----------
    piece : inline function
        Called with args, segment, head, first column of the head, number of columns.
    columns, heads : int
        Byte offsets in `args` of the number of columns of a head, and of heads (0: one head).
    block : int
    """

    def kernel(args, thread, n_threads, counter):
        run = load_i64(args)
        n_segments, segments = load_i64(run + 8 * abi.N_SEGMENTS), load_i64(run + 8 * abi.SEGMENTS)
        width, n_heads = load_i64(args + columns), 1
        if heads != 0:
            n_heads = load_i64(args + heads)
        n_blocks = (width + block - 1) // block
        unit = atomic_add(counter, 1)
        while unit < n_segments * n_heads * n_blocks:
            segment = segments + 8 * abi.SEGMENT_WORDS * (unit // (n_heads * n_blocks))
            start = block * (unit % n_blocks)
            piece(args, segment, unit // n_blocks % n_heads, start, min(block, width - start))
            unit = atomic_add(counter, 1)

    return kernel
