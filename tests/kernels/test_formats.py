"""Every tensor format against numbers written by hand, the gguf package and its own unpacking."""

import struct
from typing import Any

import gguf
import numba
import numpy as np
import numpy.typing as npt
import pytest
from blocks import edge_blocks, quantize, random_blocks

from jitllm.kernels import formats
from jitllm.kernels.formats.ids import TENSOR_TYPES

ALL = formats.names()
QUANTIZED = tuple(name for name in ALL if formats.get(name).planes)
INTEGERS = ("I8", "I16", "I32", "I64")
Bytes = npt.NDArray[np.uint8]


def sample(name: str) -> Bytes:
    """Random and edge blocks."""
    return np.concatenate([random_blocks(name, 60, np.random.default_rng(7)), edge_blocks(name)])


def values(name: str, blocks: Bytes) -> npt.NDArray[np.float32]:
    """Dequantized blocks [n, block_size]."""
    return formats.dequantize(name, blocks, (len(blocks), formats.get(name).block_size))


def bits(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """float32 as the bits that stand for it, so that 0 and -0 differ."""
    return np.ascontiguousarray(x).view(np.uint32)


def unpack(function: Any, name: str, block: Bytes) -> tuple[npt.NDArray[Any], ...]:
    """Call an `unpack_block` into arrays longer than needed, filled with 77."""
    arrays = (
        np.full(260, 77, np.uint8),
        np.full(5, 77, np.uint16),
        np.full(20, 77, np.uint8),
        np.full(20, 77, np.uint8),
    )
    function(block, *arrays)
    return arrays


def test_the_folder_lists_the_formats() -> None:
    expected = "BF16 F16 F32 Q2_K Q3_K Q4_0 Q4_1 Q4_K Q5_0 Q5_1 Q5_K Q6_K Q8_0".split()
    assert set(expected) <= set(ALL)
    assert "IDS" not in ALL and not any(name.startswith("_") for name in ALL)


def test_all_types_of_the_container_are_read() -> None:
    assert set(formats.readable()) == set(TENSOR_TYPES)
    for name in TENSOR_TYPES:
        fmt = formats.get(name)
        assert (fmt.name, fmt.id, fmt.block_size, fmt.block_bytes) == (name, *TENSOR_TYPES[name])
        assert (fmt.scales != "whole") == (name in formats.weights()) == (name not in INTEGERS)
        assert (fmt.scales in ("none", "whole")) == (name not in ALL)
        assert not fmt.planes or name in ALL


@pytest.mark.parametrize("name", [*INTEGERS, "F64"])
def test_numbers(name: str) -> None:
    kind = np.dtype(f"<{name[0].lower()}{int(name[1:]) // 8}")
    numbers = np.array([0, 1, -1, 100, -128, 3.75], np.float64).astype(kind)
    raw = np.concatenate([np.zeros(1, np.uint8), numbers.view(np.uint8)])[1:]  # not aligned
    got = formats.dequantize(name, raw, (2, 3))
    assert got.dtype == np.float32 and got.reshape(-1).tolist() == numbers.tolist()


def test_q8_1_and_q8_k() -> None:
    codes = np.arange(-128, 128, dtype=np.int8)
    block = halves(0.5, 9) + codes[:32].tobytes()
    got = formats.dequantize("Q8_1", np.frombuffer(block, np.uint8), (1, 32))
    assert got.tolist() == [(codes[:32] * 0.5).tolist()]
    block = struct.pack("<f", 1e-9) + codes.tobytes() + bytes(range(32))
    got = formats.dequantize("Q8_K", np.frombuffer(block, np.uint8), (256,))
    assert np.array_equal(got, np.float32(1e-9) * codes.astype(np.float32))


@pytest.mark.parametrize("use", [formats.get, formats.unpack_block])
def test_unknown_name(use: Any) -> None:
    with pytest.raises(ValueError, match=r"one of \(.*'Q4_K'.*got 'Q9_Z'"):
        use("Q9_Z")


@pytest.mark.parametrize("name", ALL)
def test_layout(name: str) -> None:
    fmt = formats.get(name)
    assert (fmt.name, fmt.id, fmt.block_size, fmt.block_bytes) == (name, *TENSOR_TYPES[name])
    assert fmt.block_size % fmt.group == 0 or not fmt.planes
    if fmt.table or name == "TQ1_0":
        return  # the file has numbers of lattice points, or five codes a byte
    groups = fmt.block_size // fmt.group
    scale_bits = {
        "d": 16,
        "dm": 32,
        "block": 16,
        "k_dm": 32 + groups * {16: 8, 32: 12}[fmt.group],
        "k_d": 16 + groups * (6 if name == "Q3_K" else 8),
        "float": 8 * fmt.block_bytes,
    }[fmt.scales]
    assert fmt.block_size * fmt.bits + scale_bits == 8 * fmt.block_bytes


def halves(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}e", *numbers)


# Per format: a block, and {index: value} worked out by hand from the byte map.
HAND: dict[str, tuple[bytes, dict[int, float]]] = {
    "F32": (struct.pack("<f", -1.25), {0: -1.25}),
    "F16": (halves(-1.25), {0: -1.25}),
    "BF16": (b"\xa0\xbf", {0: -1.25}),
    # low nibble 1 -> 1 - 8, high nibble 15 -> 15 - 8
    "Q4_0": (halves(0.5) + b"\xf1" + bytes(15), {0: -3.5, 16: 3.5, 1: -4.0, 31: -4.0}),
    "Q4_1": (halves(0.5, -2) + b"\xf1" + bytes(15), {0: -1.5, 16: 5.5, 1: -2.0, 31: -2.0}),
    # high bits of codes 0 and 31 are set: 1 + 16 - 16; 0 + 16 - 16
    "Q5_0": (halves(2) + b"\1\0\0\x80" + b"\xf1" + bytes(15), {0: 2.0, 16: -2.0, 1: -32.0, 31: 0}),
    "Q5_1": (halves(2, 1) + b"\1\0\0\x80" + b"\xf1" + bytes(15), {0: 35.0, 16: 31.0, 1: 1, 31: 33}),
    "Q8_0": (halves(0.25) + b"\x80\x7f" + bytes(29) + b"\xff", {0: -32, 1: 31.75, 2: 0, 31: -0.25}),
    # byte 16 holds codes 0, 32, 64, 96 = 0, 1, 2, 3; groups 0, 2, 4, 6 have scale 3 and minimum 2
    "Q2_K": (
        b"\x23\0" * 8 + b"\xe4" + bytes(63) + halves(0.5, 0.25),
        {0: -0.5, 32: 1.0, 64: 2.5, 96: 4.0, 1: -0.5, 16: 0.0},
    ),
    # scale 0 is 33 (low 1, upper 2) - 32 = 1, scale 15 is 63 - 32 = 31, others -32; high bits of
    # codes 0 (bit 0) and 224 (bit 7) are set, so their codes are 4 + 2 and 4 + 0
    "Q3_K": (
        b"\x81"
        + bytes(31)
        + b"\x02"
        + bytes(63)
        + b"\x01\0\0\0\0\0\0\xf0"
        + b"\x02\0\0\xc0"
        + halves(0.5),
        {0: 1.0, 1: -2.0, 16: 64.0, 224: 0.0, 255: -62.0},
    ),  # fmt: skip
    # scale 0 = 1, minimum 0 = 2, scale 4 = 3 + 16 * 1, minimum 4 = 5 + 16 * 2
    "Q4_K": (
        halves(2, 0.5) + b"\x41\0\0\0\x82\0\0\0\x53\0\0\0" + b"\x73" + bytes(127),
        {0: 5.0, 1: -1.0, 32: 0.0, 128: -18.5},
    ),
    # as Q4_K, and bit 4 of code 0 (byte 0, bit 0) and of code 128 (bit 4) is set
    "Q5_K": (
        halves(2, 0.5)
        + b"\x41\0\0\0\x82\0\0\0\x53\0\0\0"
        + b"\x11"
        + bytes(31)
        + b"\x73"
        + bytes(127),
        {0: 37.0, 1: -1.0, 32: 0.0, 128: 16 * 38 - 18.5, 129: -18.5},
    ),  # fmt: skip
    # byte 0 of the low bits: codes 0 and 64; of the upper: codes 0, 32, 64, 96 get 0, 1, 2, 3
    "Q6_K": (
        b"\xf1" + bytes(127) + b"\xe4" + bytes(63) + b"\x01\xff\x02" + bytes(13) + halves(0.5),
        {0: -15.5, 16: 16.0, 32: -16.0, 33: -32.0, 64: 0.0},
    ),
    # codes 1, 15 and 0 are -104, 113 and -127
    "IQ4_NL": (halves(0.5) + b"\xf1" + bytes(15), {0: -52.0, 16: 56.5, 1: -63.5}),
    # sc 0 = 3 + 16 * 1 - 32 = -13, sc 1 = 5 - 32 = -27
    "IQ4_XS": (
        halves(0.5) + b"\x01\0" + b"\x53\0\0\0" + b"\xf1" + bytes(127),
        {0: 676.0, 16: -734.5, 32: 1714.5},
    ),
    # 2^(129 - 128) times 1 and -12, twice E2M1's 0.5 and -6
    "MXFP4": (b"\x81" + b"\xf1" + bytes(15), {0: 2.0, 16: -24.0, 1: 0.0}),
    # d of groups 0 and 1 are 1 and 2
    "NVFP4": (b"\x38\x40\0\0" + b"\xf1" + bytes(7) + b"\2" + bytes(23), {0: 0.5, 8: -6.0, 16: 2.0}),
    # a byte of 255 has five codes of 2, one of 0 five of 0
    "TQ1_0": (b"\xff" + bytes(51) + halves(0.5), {0: 0.5, 32: 0.5, 64: 0.5, 128: 0.5, 1: -0.5}),
    "TQ2_0": (b"\xe4" + bytes(63) + halves(0.5), {0: -0.5, 32: 0.0, 64: 0.5, 96: 1.0}),
    "Q1_0": (halves(0.5) + b"\5" + bytes(15), {0: 0.5, 1: -0.5, 2: 0.5, 3: -0.5, 127: -0.5}),
    "Q2_0": (halves(0.5) + b"\xe4" + bytes(15), {0: -0.5, 1: 0.0, 2: 0.5, 3: 1.0, 63: -0.5}),
    # Lattice point 0 has the least of each level: 8, 4, 1 or -1. s of the first group is 1, so
    # (2 s + 1) is 3. Signs number 1 has minuses at 0 and, to make them even, at 7.
    "IQ2_XXS": (halves(1) + bytes(4) + b"\1\0\0\x10" + bytes(56), {0: -3, 1: 3, 7: -3, 32: 1}),
    "IQ2_XS": (halves(1) + b"\0\2" + bytes(62) + b"\x21" + bytes(7), {0: -3, 1: 3, 7: -3, 16: 5}),
    "IQ2_S": (
        halves(1) + bytes(32) + b"\1" + bytes(31) + bytes(8) + b"\x21" + bytes(7),
        {0: -3.0, 1: 3.0, 7: 3.0, 16: 5.0},
    ),
    "IQ3_XXS": (halves(1) + bytes(64) + b"\1\0\0\x10" + bytes(28), {0: -3, 1: 3, 7: -3, 32: 1}),
    "IQ3_S": (
        halves(1) + bytes(64) + bytes(8) + b"\1" + bytes(31) + b"\x21" + bytes(3),
        {0: -3.0, 1: 3.0, 7: 3.0, 32: 5.0},
    ),
    # -1 + 1/8, and in the second group -1 - 1/8
    "IQ1_S": (
        halves(1) + bytes(32) + b"\0\x10\0\x80" + bytes(12),
        {0: -2.625, 31: -2.625, 32: -1.125},
    ),
    # float16 1 is 3c00, spread over four words; the second 8 weights have a minus
    "IQ1_M": (
        bytes(32) + b"\x80" + bytes(15) + b"\1\0\0\0\0\xc0\0\x30",
        {0: -2.625, 8: -3.375, 16: -0.875},
    ),
}


@pytest.mark.parametrize("name", ALL)
def test_block_written_by_hand(name: str) -> None:
    raw, expected = HAND[name]
    got = values(name, np.frombuffer(raw, np.uint8)[None])[0]
    assert {i: got[i] for i in expected} == expected


def test_upper_bits_of_q6_k_reach_all_four_codes() -> None:
    block = np.zeros((1, 210), np.uint8)
    block[0, 128], block[0, 192:208] = 0xE4, 1
    block[0, 208:] = np.frombuffer(halves(1), np.uint8)
    assert values("Q6_K", block)[0, [0, 32, 64, 96]].tolist() == [-32, -16, 0, 16]


@pytest.mark.parametrize("name", ALL)
def test_dequantize_equals_gguf_package(name: str) -> None:
    blocks = sample(name)
    if name in ("Q1_0", "Q2_0"):  # the package does not know them
        bits_of_code = formats.get(name).bits
        raw = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").reshape(
            len(blocks), -1, bits_of_code
        )
        codes = (raw << np.arange(bits_of_code)).sum(axis=-1).astype(np.float32)
        d = blocks[:, :2].copy().view("<f2").astype(np.float32)
        expected = d * (codes - 1 if name == "Q2_0" else 2 * codes - 1)
    else:
        expected = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])
    np.testing.assert_array_equal(bits(values(name, blocks)), bits(expected))


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_all_sixteen_bit_floats(name: str) -> None:
    blocks = np.arange(65536, dtype="<u2").view(np.uint8).reshape(-1, 2)
    expected = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])
    np.testing.assert_array_equal(values(name, blocks), expected)


@pytest.mark.parametrize("name", "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0".split())
def test_what_gguf_quantizes_comes_back(name: str) -> None:
    x = np.random.default_rng(1).standard_normal((3, 96)).astype(np.float32)
    got = formats.dequantize(name, quantize(name, x), x.shape)
    bits_of_code = formats.get(name).bits or 8
    assert np.abs(got - x).max() <= np.abs(x).max() * 2.0 ** (1 - bits_of_code) * 1.01


@pytest.mark.parametrize("name", QUANTIZED)
def test_unpacked_arithmetic_is_dequantize(name: str) -> None:
    fmt, blocks = formats.get(name), sample(name)
    n_groups = fmt.block_size // fmt.group
    result = []
    for block in blocks:
        codes, half, sc, mn = unpack(formats.unpack_block(name), name, block)
        d, m = half[:2].view(np.float16).astype(np.float32)
        code = codes[: fmt.block_size].reshape(n_groups, fmt.group)
        assert code.max() < (len(fmt.table) or 1 << fmt.bits)
        signed = code.astype(np.float32) - np.float32(fmt.center)
        if fmt.table:
            signed = np.array(fmt.table, np.float32)[code]
        scale = np.full(n_groups, d, np.float32)
        if fmt.scales.startswith("k"):
            integers = sc[:n_groups].view(np.int8) if fmt.scales == "k_d" else sc[:n_groups]
            scale = d * np.float32(fmt.factor) * integers.astype(np.float32)
        if fmt.scales == "d16":
            scale = half[:n_groups].view(np.float16).astype(np.float32)
        if fmt.scales == "e8m0":
            scale = np.full(n_groups, 2.0 ** (float(half[0]) - 128), np.float32)
        value = scale[:, None] * signed
        if fmt.scales == "dm":
            value = value + m
        if fmt.scales == "k_dm":
            value = value + -(m * mn[:n_groups].astype(np.float32))[:, None]
        result.append(value.reshape(-1))
    np.testing.assert_array_equal(bits(np.array(result)), bits(values(name, blocks)))


@pytest.mark.parametrize("name", QUANTIZED)
def test_unpack_block_compiles_and_keeps_to_its_bounds(name: str) -> None:
    fmt, plain = formats.get(name), formats.unpack_block(name)
    compiled = numba.njit(plain)
    for block in sample(name)[-20:]:
        expected = unpack(plain, name, block)
        for got, want in zip(unpack(compiled, name, block), expected, strict=True):
            np.testing.assert_array_equal(got, want)
        used = fmt.block_size // fmt.group if fmt.scales.startswith("k") else 0
        n_halves = 4 if fmt.scales == "d16" else 2
        for array, length in zip(expected, (fmt.block_size, n_halves, used, used), strict=True):
            assert (array[length:] == 77).all()


@pytest.mark.parametrize("name", ALL)
def test_no_blocks(name: str) -> None:
    empty = np.zeros((0, formats.get(name).block_bytes), np.uint8)
    assert formats.dequantize(name, empty, (0, 256)).shape == (0, 256)


def test_dequantize_shapes_rows() -> None:
    blocks = random_blocks("Q4_0", 12, np.random.default_rng(3))
    got = formats.dequantize("Q4_0", blocks.reshape(-1), (2, 3, 64))
    np.testing.assert_array_equal(got.reshape(12, 32), values("Q4_0", blocks))


def test_data_need_not_be_aligned() -> None:
    blocks = random_blocks("F32", 5, np.random.default_rng(3))
    shifted = np.concatenate([np.zeros(1, np.uint8), blocks.reshape(-1)])[1:]
    np.testing.assert_array_equal(formats.dequantize("F32", shifted, (5, 1)), values("F32", blocks))
