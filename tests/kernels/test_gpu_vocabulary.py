"""What GPU kernels are written with, in the simulator, against NumPy."""

import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gpu_launch import launch_function

from jitllm.kernels.gpu import vocabulary as gpu
from jitllm.kernels.gpu.vocabulary import A, F, U

Floats = npt.NDArray[np.float32]
RNG = np.random.default_rng(11)


def _each(function: Any, *inputs: npt.NDArray[Any], dtype: Any = np.float32) -> npt.NDArray[Any]:
    """Apply a function of loaded elements to arrays of one length, a multiple of 32."""
    loads = {"f": gpu.load_f32, "i": gpu.load_i32}
    load = [loads[x.dtype.kind] for x in inputs]
    store = gpu.store_f32 if dtype == np.float32 else gpu.store_i32
    if len(inputs) == 1:
        (load_a,) = load

        def one(x: A, y: A) -> None:
            at = 4 * (gpu.thread() + 32 * gpu.group_x())
            store(y + at, function(load_a(x + at)))

        kernel: Any = one
    else:
        load_a, load_b = load

        def two(a: A, b: A, y: A) -> None:
            at = 4 * (gpu.thread() + 32 * gpu.group_x())
            store(y + at, function(load_a(a + at), load_b(b + at)))

        kernel = two
    out = np.zeros(len(inputs[0]), dtype)
    launch_function(kernel, 32, [*inputs, out], len(out) // 32)
    return out


# --- numbers -----------------------------------------------------------------------------------


def _ulp(got: Floats, exact: npt.NDArray[np.float64]) -> float:
    spacing = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    return float(np.max(np.abs(got.astype(np.float64) - exact) / spacing))


EDGES = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 1e-38, -1e-45], np.float32)


def _spread(low: float, high: float, n: int = 1 << 14) -> Floats:
    return RNG.uniform(low, high, n).astype(np.float32)


def test_exp() -> None:
    x = _spread(-87, 88)
    exact = np.exp(x.astype(np.float64))
    # The simulator's power of two is rounded well; that of a GPU may be off by 2^-22.
    assert np.max(np.abs(_each(gpu.exp, x) / exact - 1)) < 2.0**-22
    x = np.resize(np.array([np.inf, -np.inf, np.nan, 0, 89, 1000, -104, -1000], np.float32), 32)
    assert np.array_equal(
        _each(gpu.exp, x)[:8], [np.inf, 0, np.nan, 1, np.inf, np.inf, 0, 0], equal_nan=True
    )


def test_log() -> None:
    x = np.exp(_spread(-87, 88).astype(np.float64)).astype(np.float32)
    near = _spread(0.5, 2)
    for part in (x, near):
        assert _ulp(_each(gpu.log, part), np.log(part.astype(np.float64))) < 2
    x = np.resize(np.array([0, -0.0, -1, np.inf, np.nan, 1, 1e-45, -np.inf], np.float32), 32)
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = np.log(x[:8].astype(np.float64))
    assert np.allclose(_each(gpu.log, x)[:8], exact, rtol=2e-7, atol=0, equal_nan=True)


def test_tanh() -> None:
    x = np.concatenate([_spread(-12, 12), _spread(-0.7, 0.7)])
    assert _ulp(_each(gpu.tanh, x), np.tanh(x.astype(np.float64))) < 3
    assert np.array_equal(_each(gpu.tanh, np.resize(EDGES, 32))[2:5], [1, -1, np.nan], True)


def test_erf() -> None:
    x = np.concatenate([_spread(-5, 5), _spread(-1, 1)])
    exact = np.array([math.erf(v) for v in x])
    assert np.max(np.abs(_each(gpu.erf, x) - exact)) < 2e-7
    assert np.array_equal(_each(gpu.erf, np.resize(EDGES, 32))[2:5], [1, -1, np.nan], True)


def test_sigmoid() -> None:
    x = _spread(-60, 60)
    assert np.allclose(_each(gpu.sigmoid, x), 1 / (1 + np.exp(-x.astype(np.float64))), 5e-7, 0)


@pytest.mark.parametrize(
    "name, twin",
    [("sqrt", np.sqrt), ("fabs", np.abs), ("floor", np.floor), ("round_even", np.rint)],
)
def test_rounded_functions(name: str, twin: Any) -> None:
    x = np.abs(_spread(-50, 50)) if name == "sqrt" else np.round(_spread(-50, 50) * 4) / 4
    assert np.array_equal(_each(getattr(gpu, name), x), twin(x))


def test_minimum_and_maximum() -> None:
    a, b = _spread(-1, 1, 64), _spread(-1, 1, 64)
    a[3], b[4] = np.nan, np.nan
    assert np.array_equal(_each(gpu.minimum, a, b), np.fmin(a, b))
    assert np.array_equal(_each(gpu.maximum, a, b), np.fmax(a, b))
    i, j = (RNG.integers(-(2**31), 2**31, 64).astype(np.int32) for _ in range(2))
    assert np.array_equal(_each(gpu.minimum, i, j, dtype=np.int32), np.minimum(i, j))


def test_floats_become_integers() -> None:
    x = np.resize(np.array([1.9, -1.9, 3e9, -3e9, np.inf, -np.inf, np.nan, -0.5], np.float32), 32)
    low, high = -(2**31), 2**31 - 1
    got = _each(gpu.to_i32, x, dtype=np.int32)
    assert got[:8].tolist() == [1, -1, high, low, high, low, 0, 0]


def _half_words() -> npt.NDArray[np.int32]:
    halves = RNG.standard_normal(128).astype(np.float16)
    return halves.view(np.int32)


def test_halves_in_a_word() -> None:
    words = _half_words()
    halves = words.view(np.float16).astype(np.float32).reshape(-1, 2)
    assert np.array_equal(_each(gpu.low_f16, words), halves[:, 0])
    assert np.array_equal(_each(gpu.high_f16, words), halves[:, 1])
    low, high = _spread(-70000, 70000, 64), _spread(-1e-5, 1e-5, 64)
    with np.errstate(over="ignore"):
        both = np.stack([low, high], 1).astype(np.float16)
    assert np.array_equal(_each(gpu.pack_f16, low, high, dtype=np.int32), both.view(np.int32)[:, 0])


def test_arithmetic_on_two_halves() -> None:
    a, b = _half_words(), _half_words()
    x, y = a.view(np.float16), b.view(np.float16)
    assert np.array_equal(_each(gpu.add_f16x2, a, b, dtype=np.int32), (x + y).view(np.int32))
    assert np.array_equal(_each(gpu.multiply_f16x2, a, b, dtype=np.int32), (x * y).view(np.int32))


def test_bounds_of_two_halves() -> None:
    x = np.resize(np.array([3, -3, np.inf, -np.inf, np.nan, 0.5, 2, -2], np.float16), 128)
    most = np.resize(np.array([2, 1, 65504, 65504, 2, 2, 2, 2], np.float16), 128)
    got = _each(gpu.bound_f16x2, x.view(np.int32), most.view(np.int32), dtype=np.int32)
    want = np.array([2, -1, 65504, -65504, np.nan, 0.5, 2, -2], np.float16)
    assert np.array_equal(got.view(np.float16)[:8], want, equal_nan=True)


@pytest.mark.parametrize("name, kind", [("dot4_s8", np.int8), ("dot4_u8", np.uint8)])
def test_dot4(name: str, kind: Any) -> None:
    a, b = (RNG.integers(-(2**31), 2**31, 64).astype(np.int32) for _ in range(2))
    dot = getattr(gpu, name)

    @gpu.inline
    def add(x: Any, y: Any) -> Any:
        return dot(x, y, -7)

    exact = (a.view(kind).astype(int) * b.view(np.int8)).reshape(-1, 4).sum(1) - 7
    assert np.array_equal(_each(add, a, b, dtype=np.int32), exact)


def test_permute_bytes() -> None:
    b, which = (RNG.integers(-(2**31), 2**31, 64).astype(np.int32) for _ in range(2))
    digits = which[:, None] >> np.array([0, 4, 8, 12])  # those above the fourth do not count

    @gpu.inline
    def permute(b: Any, which: Any) -> Any:
        return gpu.permute_bytes(0x40302010, b, which)

    both = np.stack([np.full_like(b, 0x40302010), b], 1).view(np.uint8)
    chosen = np.take_along_axis(both, digits & 7, 1)
    chosen = np.where(digits & 8, (chosen >> 7) * np.uint8(255), chosen)
    exact = np.ascontiguousarray(chosen).view(np.int32)[:, 0]
    assert np.array_equal(_each(permute, b, which, dtype=np.int32), exact)


def test_unsigned_division() -> None:
    a = RNG.integers(-(2**31), 2**31, 64).astype(np.int32)
    b = RNG.integers(1, 1000, 64).astype(np.int32)
    got = _each(gpu.divide_u32, a, b, dtype=np.int32).view(np.uint32)
    assert np.array_equal(got, a.view(np.uint32) // b.astype(np.uint32))
    got = _each(gpu.remainder_u32, a, b, dtype=np.int32).view(np.uint32)
    assert np.array_equal(got, a.view(np.uint32) % b.astype(np.uint32))


# --- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, dtype",
    [("f16", np.float16), ("i8", np.int8), ("u8", np.uint8), ("i16", np.int16),
     ("u16", np.uint16), ("u32", np.uint32), ("i64", np.int64)],
)  # fmt: skip
def test_scalars(name: str, dtype: Any) -> None:
    load, size, is_float = getattr(gpu, f"load_{name}"), np.dtype(dtype).itemsize, name == "f16"
    store = gpu.store_f32 if is_float else gpu.store_i64

    def kernel(x: A, y: A) -> None:
        i = gpu.thread()
        store(y + (4 if is_float else 8) * i, load(x + size * i))

    x = RNG.integers(0, 256, 32 * size, np.uint8).view(dtype)
    out = np.zeros(32, np.float32 if is_float else np.int64)
    launch_function(kernel, 32, [x, out])
    assert np.array_equal(out, x.astype(out.dtype), equal_nan=is_float)


def _bf16(x: Floats) -> npt.NDArray[np.uint16]:
    bits = x.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), 0x7FC0, rounded).astype(np.uint16)


def test_stores_round_to_nearest_even() -> None:
    def kernel(x: A, f16: A, bf16: A, back: A) -> None:
        i = gpu.thread()
        v = gpu.load_f32(x + 4 * i)
        gpu.store_f16(f16 + 2 * i, v)
        gpu.store_bf16(bf16 + 2 * i, v)
        gpu.store_f32(back + 4 * i, gpu.load_bf16(bf16 + 2 * i))

    x = np.concatenate([EDGES, _spread(-1e6, 1e6, 12), np.array([1 + 2**-8, 1 + 3 * 2**-8] * 6)])
    x = x.astype(np.float32)
    f16, bf16, back = np.zeros(32, np.float16), np.zeros(32, np.uint16), np.zeros(32, np.float32)
    launch_function(kernel, 32, [x, f16, bf16, back])
    with np.errstate(over="ignore"):
        assert np.array_equal(f16, x.astype(np.float16), equal_nan=True)
    assert np.array_equal(bf16, _bf16(x))
    assert np.array_equal(back.view(np.uint32), bf16.astype(np.uint32) << 16)


@pytest.mark.parametrize(
    "kind, is_shared",
    [(kind, False) for kind in ("i32x4", "i32x2", "f32x4", "f32x2", "stream_i32x4")]
    + [(kind, True) for kind in ("i32x4", "i32x2", "f32x4")],
)
def test_vectors(kind: str, is_shared: bool) -> None:
    load = gpu.stream_i32x4 if kind.startswith("stream") else getattr(gpu, f"load_{kind}")
    store = getattr(gpu, f"store_{kind.removeprefix('stream_')}")
    n = int(kind[-1])
    load_shared = getattr(gpu, f"load_shared_{kind}", load)
    store_shared = getattr(gpu, f"store_shared_{kind}", store)
    room = 4 * n * 32

    def kernel(x: A, y: A) -> None:
        at = 4 * n * gpu.thread()
        values = load(x + at)
        if is_shared:
            array = gpu.shared(room)
            store_shared(array + at, values)
            gpu.sync_threads()
            values = load_shared(array + room - 4 * n - at)
        store(y + at, values)

    x = RNG.standard_normal((32, n)).astype(np.float32).view(np.int32)
    y = np.zeros_like(x)
    launch_function(kernel, 32, [x, y])
    assert np.array_equal(y, x[::-1] if is_shared else x)


@pytest.mark.skipif("JITLLM_TEST_GPU" in os.environ, reason="on a GPU it is undefined")
def test_shared_memory_is_nan_at_first_for_every_workgroup() -> None:
    def kernel(y: A) -> None:
        array = gpu.shared(128)
        at = 4 * gpu.thread()
        gpu.store_f32(y + at + 128 * gpu.group_x(), gpu.load_shared_f32(array + at))
        gpu.store_shared_f32(array + at, np.float32(1))

    y = np.zeros(64, np.float32)
    launch_function(kernel, 32, [y], 2, is_watched=False)
    assert np.isnan(y).all()


def test_two_calls_of_shared_are_two_arrays() -> None:
    @gpu.inline
    def swap(x: Any) -> Any:
        array = gpu.shared(256)
        gpu.store_shared_f32(array + 4 * gpu.thread(), x)
        gpu.sync_threads()
        return gpu.load_shared_f32(array + 4 * (63 - gpu.thread()))

    def kernel(x: A, y: A) -> None:
        array = gpu.shared(256)
        at = 4 * gpu.thread()
        gpu.store_shared_f32(array + at, gpu.load_f32(x + at))
        other = swap(gpu.load_f32(x + at) + gpu.load_f32(x + at))
        gpu.store_f32(y + at, other + gpu.load_shared_f32(array + at))

    x, y = _spread(-1, 1, 64), np.zeros(64, np.float32)
    launch_function(kernel, 64, [x, y])
    assert np.array_equal(y, 2 * x[::-1] + x)


# --- threads -----------------------------------------------------------------------------------


def test_numbers_of_threads() -> None:
    def kernel(y: A, n_y: U, scale: F) -> None:
        group = gpu.group_of_row() * n_y + gpu.group_y()
        at = y + 16 * (group * 64 + gpu.thread())
        first = gpu.to_i32(gpu.to_f32(gpu.lane()) * scale)
        gpu.store_i32x4(at, (first, gpu.warp(), gpu.group_x(), gpu.group_z()))

    y = np.full((6, 2, 64, 4), -1, np.int32)
    launch_function(kernel, 64, [y, 2, 2.0], (3, 2, 2))
    x, row, i = np.meshgrid(np.arange(6), np.arange(2), np.arange(64), indexing="ij")
    assert np.array_equal(y, np.stack([2 * (i % 32), i // 32, x % 3, x // 3], -1))


def test_shuffles() -> None:
    def kernel(x: A, f: A, i: A) -> None:
        at = 4 * gpu.thread()
        v = gpu.load_i32(x + at)
        last = gpu.shuffle_f32(gpu.shuffle_xor_f32(gpu.as_f32(v), 5), 31)
        gpu.store_f32(f + at, last)
        gpu.store_i32(i + at, gpu.shuffle_i32(gpu.shuffle_xor_i32(v, 16), gpu.lane() + 1))

    x = _spread(-1, 1, 64)
    f, i = np.zeros(64, np.float32), np.zeros(64, np.int32)
    launch_function(kernel, 64, [x.view(np.int32), f, i])
    lanes, warps = np.arange(32), x.reshape(2, 32)
    assert np.array_equal(f.reshape(2, 32), warps[:, [31 ^ 5] * 32])
    assert np.array_equal(i.view(np.float32).reshape(2, 32), warps[:, (lanes + 1) % 32 ^ 16])


def _butterfly(x: npt.NDArray[Any], combine: Any) -> npt.NDArray[Any]:
    for distance in (16, 8, 4, 2, 1):
        x = combine(x, x[..., np.arange(32) ^ distance])
    return x


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("name, combine", [("warp_sum", np.add), ("warp_max", np.fmax)])
def test_reductions_have_the_bits_of_a_butterfly(name: str, combine: Any, dtype: Any) -> None:
    x = RNG.standard_normal((2, 32)) * 1000
    got = np.zeros((2, 32), dtype)
    reduce, is_float = getattr(gpu, name), dtype == np.float32
    load, store = (gpu.load_f32, gpu.store_f32) if is_float else (gpu.load_i32, gpu.store_i32)

    def kernel(x: A, y: A) -> None:
        at = 4 * gpu.thread()
        store(y + at, reduce(load(x + at)))

    launch_function(kernel, 64, [x.astype(dtype), got])
    assert np.array_equal(got, _butterfly(x.astype(dtype), combine))


# --- loops and registers -----------------------------------------------------------------------


def test_registers_and_unrolled_loops() -> None:
    def factory(n: int) -> Any:
        def kernel(x: A, y: A) -> None:
            sums, counts = gpu.registers_f32(n), gpu.registers_i32(n)
            for k in range(3):
                v = gpu.load_f32(x + 4 * (gpu.thread() + 32 * k))
                for i in gpu.unroll(n):
                    if i == 1:
                        continue
                    for j in gpu.unroll(i):
                        sums[i] += v
                        counts[j] = counts[j] + 1
            for i in gpu.unroll(n):
                at = y + 8 * (gpu.thread() + 32 * i)
                gpu.store_f32x2(at, (sums[i], gpu.to_f32(counts[i])))

        return kernel

    x = RNG.integers(-9, 9, (3, 32)).astype(np.float32)
    y = np.zeros((4, 32, 2), np.float32)
    launch_function(factory(4), 32, [x, y])
    total = x.sum(0)
    sums = np.stack([0 * total, 0 * total, 2 * total, 3 * total])
    counts = np.array([6, 6, 3, 0])[:, None] + 0 * total
    assert np.array_equal(y, np.stack([sums, counts], -1))


def test_rolled_loops() -> None:
    def kernel(x: A, y: A) -> None:
        total = gpu.to_f32(0)
        for k in gpu.rolled(3):
            for i in gpu.unroll(2):
                total += gpu.load_f32(x + 4 * (gpu.thread() + 32 * (2 * k + i)))
        gpu.store_f32(y + 4 * gpu.thread(), total)

    x, y = RNG.integers(-9, 9, (6, 32)).astype(np.float32), np.zeros(32, np.float32)
    launch_function(kernel, 32, [x, y])
    assert np.array_equal(y, x.sum(0))


# --- tensor cores ------------------------------------------------------------------------------


def _words(matrix: npt.NDArray[Any], rows: int) -> npt.NDArray[np.int32]:
    """Words of each thread: rows g, g + 8 (of `rows` 16), first and second half along k."""
    per_word = 4 // matrix.itemsize
    words = np.ascontiguousarray(matrix).view(np.int32)  # [rows, k / per_word]
    assert words.shape == (rows, matrix.shape[1] // per_word) and words.shape[1] == 8
    out = []
    for thread in range(32):
        g, t = thread // 4, thread % 4
        out.append([words[row, column] for column in (t, t + 4)
                    for row in ((g, g + 8) if rows == 16 else (g,))])  # fmt: skip
    return np.array(out, np.int32)


def _tile(c: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Elements of a 16 x 8 tile that each thread holds."""
    g, t = np.divmod(np.arange(32), 4)
    return np.stack([c[g, 2 * t], c[g, 2 * t + 1], c[g + 8, 2 * t], c[g + 8, 2 * t + 1]], 1)


@pytest.mark.parametrize("name, dtype", [("mma_f16", np.float16), ("mma_s8", np.int8)])
def test_products_of_tiles(name: str, dtype: Any) -> None:
    multiply, is_float = getattr(gpu, name), name == "mma_f16"
    load, store = (
        (gpu.load_f32x4, gpu.store_f32x4) if is_float else (gpu.load_i32x4, gpu.store_i32x4)
    )

    def kernel(a: A, b: A, c: A, d: A) -> None:
        i = gpu.thread()
        words = gpu.load_i32x4(a + 16 * i), gpu.load_i32x2(b + 8 * i)
        store(d + 16 * i, multiply(words[0], words[1], load(c + 16 * i)))

    k, kind = (16, np.float32) if is_float else (32, np.int32)
    a, b, c = (RNG.integers(-99, 99, shape) for shape in ((16, k), (k, 8), (16, 8)))
    out = np.zeros((32, 4), kind)
    words_a, words_b = _words(a.astype(dtype), 16), _words(b.T.astype(dtype), 8)
    launch_function(kernel, 32, [words_a, words_b, _tile(c).astype(kind), out])
    assert np.array_equal(out, _tile(a @ b + c))
