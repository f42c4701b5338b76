"""Gates that several columns share: 8 bytes of memory traffic and one product an element."""

from jitllm.kernels.cpu.activation import ACTS
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import load_part, store_part
from jitllm.kernels.simd import load_f32, load_i64, splat_f32


@inline
def _scaled(x, y, n, factor):
    for i in range(0, n, 16):
        store_part(y + 4 * i, load_part(x + 4 * i, n - i) * factor, n - i)


def gated(*, act):
    """Make the kernel of `GATED` of `cpu_ops`: y[t, j] = x[t, j] * act(gate[t, j // group])."""
    function = ACTS[act]

    def kernel(args, thread, n_threads, counter):
        n_rows = row_count(args)
        x, ldx, gate, ldg = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                             load_i64(args + 40))  # fmt: skip
        y, ldy, width, group = (load_i64(args + 48), load_i64(args + 56), load_i64(args + 64),
                                load_i64(args + 72))  # fmt: skip
        row, end = next_rows(counter, n_rows, width)
        while row < end:
            for r in range(row, end):
                for h in range(width // group):
                    factor = function(splat_f32(load_f32(gate + r * ldg + 4 * h)))
                    at = 4 * h * group
                    _scaled(x + r * ldx + at, y + r * ldy + at, group, factor)
            row, end = next_rows(counter, n_rows, width)

    return kernel
