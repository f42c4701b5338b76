"""Read packed weights inside kernels: scales, offsets, and whole groups as bytes or floats.

Each factory returns Numba functions for one format; `packed` has the layout.
"""

import numpy as np

from jitllm.kernels import formats, packed
from jitllm.kernels.cpu.codes import loader, store_chunks
from jitllm.kernels.cpu.half import load_bfloat, load_half
from jitllm.kernels.cpu.inline import helper, inline
from jitllm.kernels.simd import (
    bits_f32,
    load_f32x16,
    load_i8x16,
    load_i32x16,
    shift_left,
    shift_right,
    splat_f32,
    splat_i32,
    stack_bytes,
    store_f32x16,
    to_f32,
    where_gt,
    widen_i8,
    widen_u8,
)

ROWS = packed.ROWS


def scale_reader(fmt: str):
    """Return f(header, group) -> f32x16, the scales of 16 rows."""
    kind, factor = formats.get(fmt).scales, np.float32(formats.get(fmt).factor)
    subs_at = {"k_d": 2, "k_dm": 4}.get(kind, 0) * ROWS
    widen = widen_i8 if kind == "k_d" else widen_u8

    @inline
    def whole(header, group):
        return load_half(header)

    @inline
    def each(header, group):
        return load_half(header + 2 * ROWS * group)

    @inline
    def product(header, group):
        sc = to_f32(widen(load_i8x16(header + subs_at + group * ROWS)))
        d = load_half(header)
        if factor != 1:
            d = d * splat_f32(factor)
        return d * sc

    @inline
    def power(header, group):
        """2^(e - 128): a float32 with the exponent e - 1, subnormal where that is not positive."""
        e = widen_u8(load_i8x16(header))
        normal = shift_left(e - splat_i32(1), 23)
        small = where_gt(e, splat_i32(0), splat_i32(0x00400000), splat_i32(0x00200000))
        return bits_f32(where_gt(e, splat_i32(1), normal, small))

    return {"k_d": product, "k_dm": product, "d16": each, "e8m0": power}.get(kind, whole)


def offset_reader(fmt: str):
    """Return f(header, group) -> f32x16, the offsets of 16 rows; formats without have none."""
    layout = formats.get(fmt)
    subs_at = (4 + 256 // layout.group) * ROWS

    @inline
    def whole(header, group):
        return load_half(header + 2 * ROWS)

    @inline
    def product(header, group):
        mn = to_f32(widen_u8(load_i8x16(header + subs_at + group * ROWS)))
        return splat_f32(-1.0) * (load_half(header + 2 * ROWS) * mn)  # exact, zeros too

    return product if layout.scales == "k_dm" else whole


def float_reader(fmt: str):
    """Return f(address) -> f32x16 for a float format."""
    return {"F32": load_f32x16, "F16": load_half, "BF16": load_bfloat}[fmt]


def value_writer(fmt: str):
    """Return f(weights, target, k0, n): 16 rows of weights k0..k0+n as float32 [n][16].

    `weights` is the address of a row block; k0 and n are multiples of 32 for quantized formats.
    A value is scale * (code - center) + offset, each step rounded, as the formats define it.
    """
    return _float_writer(fmt) if formats.get(fmt).scales == "float" else _code_writer(fmt)


def _float_writer(fmt):
    read, size = float_reader(fmt), packed.unit_bytes(fmt)

    @helper
    def write(weights, target, k0, n):
        for i in range(n):
            store_f32x16(target + 64 * i, read(weights + (k0 + i) * size))

    return write


def _code_writer(fmt):
    layout = formats.get(fmt)
    load_codes, scale_of = loader(layout.planes, table=layout.table), scale_reader(fmt)
    has_offset, center = layout.scales in ("dm", "k_dm"), layout.dot_center
    offset_of = offset_reader(fmt) if has_offset else scale_of
    unit_weights, unit = packed.unit_weights(layout), packed.unit_bytes(fmt)
    header, step = packed.header_bytes(layout), 64 * layout.bits
    chunks_per_group = layout.group // 4

    @helper
    def write(weights, target, k0, n):
        scratch = stack_bytes(512)
        for k in range(k0, k0 + n, 32):
            at = weights + k // unit_weights * unit
            group = k % unit_weights // 32
            store_chunks(load_codes(at + header + group * step), scratch)
            for chunk in range(8):
                index = (group * 8 + chunk) // chunks_per_group
                scale, words = scale_of(at, index), load_i32x16(scratch + 64 * chunk)
                for j in range(4):
                    code = (shift_right(words, 8 * j) & splat_i32(255)) - splat_i32(center)
                    value = scale * to_f32(code)
                    if has_offset:
                        value = value + offset_of(at, index)
                    store_f32x16(target + 64 * j, value)
                target += 256

    return write
