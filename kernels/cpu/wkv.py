"""The recurrences of RWKV-6 and 7 (Peng et al., 2024 and 2025), one token after the other.

A head keeps a matrix S [dk, dv], rows by key column, each with a decay of its own. Lanes are
columns of S: no lane needs another, and sums run over the rows in ascending order, so bits depend
on the rows of a sequence alone, not on how they are cut into runs. A thread takes 64 columns of one
head of one sequence (16 KiB at dk = 64, which stay in the first-level cache) through all rows. Per
token and 16 numbers of S: a load and a store, a product and two fma; in the form "delta" one more
load and two fma.
"""

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.states import BLOCK, over_columns, segment_rows, state_part
from jitllm.kernels.cpu.vmath import ONE, ZERO, load_part, store_part
from jitllm.kernels.simd import fma, load_f32, load_f32x16, load_i64, splat_f32, store_f32x16


@inline
def _number(address, i):
    """Return element i of an array in every lane."""
    return splat_f32(load_f32(address + 4 * i))


def _tokens(form):
    """Make the steps of one token: of 64 columns of a head, and of up to 16."""
    is_gated, is_delta, reads_before = form == "gated", form == "delta", form == "before"

    @inline
    def key(k, w, i):
        value = _number(k, i)
        if is_gated:
            value = value * (splat_f32(ONE) - _number(w, i))
        return value

    @inline
    def removal(erase, rate, i):
        """Return what row i loses of what S holds along e."""
        value = splat_f32(ZERO)
        if is_delta:
            value = value - _number(rate, i) * _number(erase, i)
        return value

    @inline
    def moved(old, decay, k, value, removed, held):
        new = fma(k, value, old * decay)
        if is_delta:
            new = fma(removed, held, new)
        return new

    @inline
    def read(old, new, reader, total):
        seen = new
        if reads_before:
            seen = old
        return fma(seen, reader, total)

    @inline
    def write(source, target, decay, k, value, removed, held, reader, total):
        old = load_f32x16(source)
        new = moved(old, decay, k, value, removed, held)
        store_f32x16(target, new)
        return read(old, new, reader, total)

    @inline
    def block(source, target, stride, dk, r, k, w, erase, rate, v, y):
        e = f = g = h = splat_f32(ZERO)  # what S holds along e
        if is_delta:
            for i in range(dk):
                at, along = source + i * stride, _number(erase, i)
                e = fma(load_f32x16(at), along, e)
                f = fma(load_f32x16(at + 64), along, f)
                g = fma(load_f32x16(at + 128), along, g)
                h = fma(load_f32x16(at + 192), along, h)
        v0, v1, v2, v3 = (load_f32x16(v), load_f32x16(v + 64), load_f32x16(v + 128),
                          load_f32x16(v + 192))  # fmt: skip
        y0 = y1 = y2 = y3 = splat_f32(ZERO)
        for i in range(dk):
            reader, decay, written = _number(r, i), _number(w, i), key(k, w, i)
            removed, s, t = removal(erase, rate, i), source + i * stride, target + i * stride
            y0 = write(s, t, decay, written, v0, removed, e, reader, y0)
            y1 = write(s + 64, t + 64, decay, written, v1, removed, f, reader, y1)
            y2 = write(s + 128, t + 128, decay, written, v2, removed, g, reader, y2)
            y3 = write(s + 192, t + 192, decay, written, v3, removed, h, reader, y3)
        store_f32x16(y, y0)
        store_f32x16(y + 64, y1)
        store_f32x16(y + 128, y2)
        store_f32x16(y + 192, y3)

    @inline
    def part(source, target, stride, dk, r, k, w, erase, rate, v, y, n):
        held = total = splat_f32(ZERO)
        if is_delta:
            for i in range(dk):
                held = fma(load_part(source + i * stride, n), _number(erase, i), held)
        value = load_part(v, n)
        for i in range(dk):
            old = load_part(source + i * stride, n)
            new = moved(old, _number(w, i), key(k, w, i), value, removal(erase, rate, i), held)
            store_part(target + i * stride, new, n)
            total = read(old, new, _number(r, i), total)
        store_part(y, total, n)

    return block, part


def wkv(*, form):
    """Make the kernel of `WKV` of `cpu_ops`.

    Parameters
    ----------
    form : str
        "before", "gated" or "delta": see `llm/graph/words/wkv.py`.
    """
    block, part = _tokens(form)

    @inline
    def head(args, segment, h, start, columns):
        """Take `columns` columns from `start` on of one head through the rows of a segment."""
        r, ldr, k, ldk = (load_i64(args + 8), load_i64(args + 16), load_i64(args + 24),
                          load_i64(args + 32))  # fmt: skip
        v, ldv, w, ldw = (load_i64(args + 40), load_i64(args + 48), load_i64(args + 56),
                          load_i64(args + 64))  # fmt: skip
        erase, lde, rate, lda = (load_i64(args + 72), load_i64(args + 80), load_i64(args + 88),
                                 load_i64(args + 96))  # fmt: skip
        y, ldy, dk, dv = (load_i64(args + 104), load_i64(args + 112), load_i64(args + 136),
                          load_i64(args + 144))  # fmt: skip
        states, slot_bytes = load_i64(args + 152), load_i64(args + 160)
        key_head = h // (load_i64(args + 120) // load_i64(args + 128))
        stride, at = 4 * dv, 4 * (h * dk * dv + start)
        source, target = state_part(segment, states, slot_bytes, at, stride, dk, columns)
        first, end = segment_rows(segment)
        row, along = 4 * h * dk, 4 * key_head * dk
        for t in range(first, end):
            reader, key, decay = r + t * ldr + row, k + t * ldk + along, w + t * ldw + row
            erased, share = erase + t * lde + row, rate + t * lda + row
            value, result = v + t * ldv + 4 * (key_head * dv + start), y + t * ldy
            result += 4 * (h * dv + start)
            if columns == BLOCK:
                block(source, target, stride, dk, reader, key, decay, erased, share, value, result)
            else:
                for j in range(0, columns, 16):
                    part(source + 4 * j, target + 4 * j, stride, dk, reader, key, decay, erased,
                         share, value + 4 * j, result + 4 * j, min(16, columns - j))  # fmt: skip
            source = target

    return over_columns(head, columns=144, heads=120)
