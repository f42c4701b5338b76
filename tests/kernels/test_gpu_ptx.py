"""The PTX of GPU kernels: what must be in its text, and that NVIDIA's assembler takes it."""

import re
from typing import Any

import gpu_ptx
import numpy as np
import pytest

from jitllm.kernels.gpu import neutral as gpu_neutral
from jitllm.kernels.gpu import ptx as generator
from jitllm.kernels.gpu import vocabulary as gpu
from jitllm.kernels.gpu.vocabulary import A, F, U

HALF = np.float32(0.5)


def _ptx(function: Any, threads: int = 64, cc: tuple[int, int] = (8, 0), **options: Any) -> str:
    neutral = gpu_neutral.of_function(function, threads, **options)
    return generator.generate(neutral, "entry", cc)


def _everything(n: int) -> Any:
    """Return a kernel that uses nearly all of the vocabulary."""

    def kernel(x: A, y: A, width: U, factor: F) -> None:
        sums, at = gpu.registers_f32(n), 4 * (gpu.thread() + 64 * gpu.group_of_row())
        array = gpu.shared(256)
        for k in range(width):
            words = gpu.stream_i32x4(x + 16 * (at + k))
            for i in gpu.unroll(n):
                sums[i] = gpu.fma(gpu.low_f16(words[1]), factor, sums[i])
        for i in gpu.unroll(n):
            gpu.store_shared_f32(array + 4 * gpu.thread(), gpu.warp_sum(sums[i]))
            gpu.sync_threads()
            v = gpu.load_shared_f32(array + 4 * (63 - gpu.thread()))
            gpu.store_f32(y + at, gpu.exp(v) + gpu.tanh(gpu.log(v)) * gpu.erf(v) / gpu.sqrt(v))
            gpu.sync_warp()
        c = gpu.mma_f16(gpu.load_i32x4(x), gpu.load_i32x2(x), gpu.load_f32x4(x))
        d = gpu.mma_s8(gpu.load_i32x4(y), gpu.load_i32x2(y), gpu.load_i32x4(y))
        gpu.store_f32x4(y, c)
        gpu.store_i32x4(x, d)
        gpu.store_i32(x, gpu.dot4_s8(d[0], d[1], gpu.dot4_u8(d[2], d[3], 0)))
        gpu.store_f32(x + 4, gpu.shuffle_f32(gpu.shuffle_xor_f32(c[0], 1), gpu.group_y()))

    return kernel


@pytest.mark.parametrize("cc", [least for least, _ in generator.TARGETS])
def test_instructions(cc: tuple[int, int]) -> None:
    text = _ptx(_everything(4), cc=cc)
    assert f".target sm_{cc[0]}{cc[1]}" in text and ".version 7.4" in text
    kinds = re.findall(r"\.param (\.\w+) entry_param", text)
    assert kinds == [".u64", ".u64", ".u32", ".f32"]
    assert ".visible .entry entry(" in text and ".reqntid 64" in text
    for part in (
        "ld.global.nc.L1::no_allocate.v4.b32", "ld.global.v4", "st.global.v4", "bar.sync",
        "bar.warp.sync", "shfl.sync.bfly", "shfl.sync.idx", "dp4a.s32.s32", "dp4a.u32.s32",
        "ex2.approx.f32", "sqrt.rn.f32", "div.rn.f32", "fma.rn.f32", "st.shared", "cvt.f32.f16",
    ):  # fmt: skip
        assert part in text, part
    shapes = sorted(re.findall(r"mma\.sync\.aligned\.(\w+)", text))
    assert shapes == (
        ["m16n8k16", "m16n8k32"] if cc >= (8, 0) else ["m16n8k8"] * 2 + ["m8n8k16"] * 4
    )
    for part in (".f64", ".local", ".func", "call", "NumbaEnv", "pickle"):
        assert part not in text, part
    assert text.count("fma.rn.f32 ") >= 4 and not re.search(r"(mul|add|sub)\.f32", text)


def test_a_product_and_a_sum_are_not_fused() -> None:
    def kernel(x: A, y: A) -> None:
        gpu.store_f32(y, gpu.load_f32(x) * gpu.load_f32(x + 4) + gpu.load_f32(x + 8))

    text = _ptx(kernel)
    assert "mul.rn.f32" in text and "add.rn.f32" in text and "fma" not in text


def test_a_float_becomes_an_integer_in_one_step() -> None:
    def kernel(x: A, y: A) -> None:
        gpu.store_i32(y, gpu.to_i32(gpu.round_even(gpu.load_f32(x))))

    text = _ptx(kernel)
    assert "cvt.rzi.s32.f32" in text and "setp" not in text


def test_unrolled_loops_are_unrolled_and_others_are_not() -> None:
    def factory(n: int, is_unrolled: int) -> Any:
        def kernel(x: A, y: A) -> None:
            total = HALF
            if is_unrolled:
                for i in gpu.unroll(n):
                    for j in gpu.unroll(2):
                        total = gpu.fma(total, gpu.load_f32(x + 4 * i + 256 * j), HALF)
            else:
                for i in range(n):
                    total = gpu.fma(total, gpu.load_f32(x + 4 * i), HALF)
            gpu.store_f32(y, total)

        return kernel

    assert _ptx(factory(100, 1)).count("fma.rn.f32") == 200
    assert "bra" not in _ptx(factory(100, 1))
    assert _ptx(factory(1000, 0)).count("fma.rn.f32") < 100


def test_only_the_loop_that_asks_is_unrolled(capfd: pytest.CaptureFixture[str]) -> None:
    """A tuple is indexed by a switch, whose cases are on the way back to the loop's head."""
    places = 0, 2, 1, 3

    def kernel(x: A, y: A, n: U) -> None:
        for k in range(gpu.thread(), n, 64):
            for i in gpu.unroll(4):
                v = gpu.load_f32(x + 4 * (k + places[i]))
                gpu.store_f32(y + 4 * (k + i), v if k + places[i] < n else HALF)

    text = _ptx(kernel)
    assert text.count("ld.global") == 4 and "bra" in text
    assert capfd.readouterr().err == ""  # where LLVM says what it could not do


def test_rolled_loops_are_left_to_no_compiler() -> None:
    def kernel(x: A, y: A) -> None:
        total = HALF
        for i in gpu.rolled(4):
            for j in gpu.unroll(3):
                total = gpu.fma(total, gpu.load_f32(x + 12 * i + 4 * j), HALF)
        gpu.store_f32(y, total)

    text = _ptx(kernel)
    assert text.count("fma.rn.f32") == 3 and text.count('.pragma "nounroll"') == 1


@pytest.mark.parametrize("cc", [least for least, _ in generator.TARGETS])
def test_arithmetic_on_two_float16_is_one_instruction(cc: tuple[int, int]) -> None:
    def kernel(x: A, y: A) -> None:
        both = gpu.multiply_f16x2(gpu.load_i32(x), gpu.load_i32(x + 4))
        gpu.store_i32(y, gpu.add_f16x2(both, gpu.bound_f16x2(both, gpu.load_i32(x + 8))))

    text = _ptx(kernel, cc=cc)
    wanted = ["mul.rn.f16x2", "add.rn.f16x2"]
    wanted += ["min.NaN.f16x2", "max.NaN.f16x2"] if cc >= (8, 0) else []
    assert [text.count(name) for name in wanted] == [1] * len(wanted)


def test_registers_may_be_for_a_number_of_workgroups() -> None:
    def kernel(x: A) -> None:
        gpu.store_f32(x, HALF)

    assert ".minnctapersm" not in _ptx(kernel)
    kernel.groups = 3  # type: ignore[attr-defined]
    assert re.search(r"\.reqntid 64.*\n\.minnctapersm 3\n", _ptx(kernel))


def test_float64_is_refused_where_it_is_not_asked_for() -> None:
    def kernel(x: A, y: A) -> None:
        gpu.store_f32(y, gpu.sqrt(gpu.load_f32(x) / 0.1) + gpu.load_i32(x))

    with pytest.raises(ValueError, match=r"entry computes in float64 \(.*np\.float32"):
        _ptx(kernel)
    assert ".f64" in _ptx(kernel, float64=True)


def test_shared_memory_has_a_limit() -> None:
    def factory(n: int) -> Any:
        def kernel(x: A) -> None:
            gpu.store_shared_f32(gpu.shared(n), gpu.load_f32(x))
            gpu.store_shared_f32(gpu.shared(4), gpu.load_f32(x))

        return kernel

    assert gpu_neutral.of_function(factory(49148), 32).shared == 49152
    with pytest.raises(ValueError, match="at most 49152 bytes shared, got 49153"):
        _ptx(factory(49149), 32)


@pytest.mark.parametrize("threads", [0, 33, 2048])
def test_sizes_of_workgroups_are_checked(threads: int) -> None:
    def kernel(x: A) -> None:
        gpu.store_f32(x, HALF)

    with pytest.raises(ValueError, match=f"THREADS must be a multiple of 32 .*got {threads}"):
        _ptx(kernel, threads)


def test_parameters_must_be_annotated() -> None:
    def unknown(x, n: U) -> None:  # type: ignore[no-untyped-def]
        gpu.store_f32(x, gpu.to_f32(n))

    def disordered(n: U, x: A) -> None:
        gpu.store_f32(x, gpu.to_f32(n))

    with pytest.raises(ValueError, match=r"annotated .* got \{'x': '\?', 'n': 'U'\}"):
        _ptx(unknown)
    with pytest.raises(ValueError, match="annotated with A, then U and F"):
        _ptx(disordered)


def test_sizes_of_arrays_must_be_constants() -> None:
    def kernel(x: A, n: U) -> None:
        gpu.store_shared_f32(gpu.shared(n), gpu.load_f32(x))

    with pytest.raises(Exception, match="must be a number or a variable of the factory"):
        _ptx(kernel)


@pytest.mark.parametrize(
    "cc, least", [((7, 5), (7, 5)), ((8, 0), (8, 0)), ((8, 9), (8, 0)), ((12, 1), (8, 0))]
)
def test_capabilities(cc: tuple[int, int], least: tuple[int, int]) -> None:
    assert generator.target_of(cc) == least


def test_old_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"capability 7\.0 is below 7\.5"):
        generator.target_of((7, 0))


needs_assembler = pytest.mark.skipif(not gpu_ptx.assembler(), reason="there is no ptxas")


@needs_assembler
@pytest.mark.parametrize("cc", gpu_ptx.CAPABILITIES)
def test_the_assembler_takes_the_whole_vocabulary(cc: tuple[int, int]) -> None:
    text = _ptx(_everything(4), cc=generator.target_of(cc))
    usage = gpu_ptx.assemble(text.encode(), cc)
    assert (usage.spills, usage.stack, usage.shared) == (0, 0, 256) and 16 < usage.registers < 128


@needs_assembler
def test_the_assemblers_message_is_shown() -> None:
    text = _ptx(_everything(1)).replace("bar.sync", "bar.sink")
    with pytest.raises(RuntimeError, match="Unknown modifier '.sink'"):
        gpu_ptx.assemble(text.encode(), (8, 0))
