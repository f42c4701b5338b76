"""What a run says of its segments, and where their states lie."""

from jitllm.kernels.gpu import inline, load_i32, load_i64

SEGMENT_BYTES = 32
ROW, ROWS, POSITION, CROSS, STATE_IN, STATE_OUT = range(0, 24, 4)  # bytes in a segment's words


@inline
def segment_word(run, segment, word):
    """Return what a run says of a segment; `word` is one of ROW to STATE_OUT."""
    return load_i32(load_i64(run + 8) + SEGMENT_BYTES * segment + word) + 0  # an int64


@inline
def states_of(run, segment, states, slot_bytes):
    """Return the addresses of a segment's states before and behind its rows, 0 for none before."""
    slot, before = segment_word(run, segment, STATE_IN), 0
    if slot >= 0:
        before = states + slot * slot_bytes
    return before, states + segment_word(run, segment, STATE_OUT) * slot_bytes
