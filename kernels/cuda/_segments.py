"""What a run says of its segments."""

from jitllm.kernels.gpu.vocabulary import inline, load_i32, load_i64

SEGMENT_BYTES = 32
ROW, ROWS, POSITION, CROSS, STATE_IN, STATE_OUT = range(0, 24, 4)  # bytes in a segment's words


@inline
def segment_word(run, segment, word):
    """Return what a run says of a segment; `word` is one of ROW to STATE_OUT."""
    return load_i32(load_i64(run + 8) + SEGMENT_BYTES * segment + word) + 0  # an int64
