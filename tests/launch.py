"""Weight kernels as functions of arrays: packs arguments, runs the op, checks what it may write.

All memory starts as 0xFF (NaN as a float); what a kernel writes past the end of a buffer, or leaves
unwritten, shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.kernels import abi, formats, host, packed
from jitllm.kernels import level as levels

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
GUARD = 64
TILE_BLOCKS, TILE_ROWS = levels.current().tile


def run_block(n_tokens: int, **words: int) -> npt.NDArray[np.int64]:
    """Return a run block; `words` are named like the constants of `abi`."""
    run = np.zeros(abi.RUN_WORDS, np.int64)
    run[abi.N_TOKENS] = n_tokens
    for name, value in words.items():
        run[getattr(abi, name)] = value
    return run


class Memory:
    """`n` bytes of 0xFF on a cache line, with a guard behind them."""

    def __init__(self, n: int) -> None:
        self._all = host.aligned(n + GUARD)
        self.bytes, self.at = self._all[:n], int(self._all.ctypes.data)

    def check(self) -> None:
        """Fail if something was written behind the end."""
        assert np.all(self._all[len(self.bytes) :] == 0xFF), "written past the end"


@dataclass(frozen=True)
class Matrix:
    """One or more packed (n, k) matrices."""

    name: str
    n: int
    k: int
    memory: Memory

    @property
    def bytes_each(self) -> int:
        """Bytes of one matrix."""
        return packed.matrix_bytes(self.name, self.n, self.k)


def pack(name: str, data: Bytes, n: int, k: int, *, n_matrices: int = 1) -> Matrix:
    """Repack `data`, blocks as in a file, with the kernel of `abi.REPACK`."""
    size = packed.matrix_bytes(name, n, k)
    memory, source = Memory(n_matrices * size), np.ascontiguousarray(data).reshape(n_matrices, -1)
    for i, part in enumerate(source):
        host.launch(
            abi.REPACK, run_block(1), params={"fmt": name}, source=part.ctypes.data,
            target=memory.at + i * size, n=n, k=k,
        )  # fmt: skip
    memory.check()
    return Matrix(name, n, k, memory)


def rows_of(x: Floats) -> Floats:
    """Copy to rows that start on cache lines and are padded with NaN."""
    rows = host.empty_rows(*x.shape)
    rows[...] = x
    return rows


@dataclass(frozen=True)
class Quantized:
    """Rows for `abi.MATMUL`: tiles of `tile_rows`."""

    memory: Memory
    n_rows: int
    width: int
    tile_rows: int

    def fields(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]:
        """Return int32 words [7, rows, groups] and codes [rows, width], padding rows included."""
        groups, n = self.width // 32, self.tile_rows
        n_tiles = -(-self.n_rows // n)
        shape = n_tiles, groups, packed.RECORD_BYTES_PER_ROW * n
        records = self.memory.bytes[: int(np.prod(shape))].reshape(shape)
        split = 4 * packed.FIELD_CODES * n
        words = np.ascontiguousarray(records[..., :split]).view(np.int32)
        words = words.reshape(n_tiles, groups, packed.FIELD_CODES, n).transpose(2, 0, 3, 1)
        codes = np.ascontiguousarray(records[..., split:]).view(np.int8)
        codes = codes.reshape(n_tiles, groups, 8, n, 4).transpose(0, 3, 1, 2, 4)
        return words.reshape(packed.FIELD_CODES, n_tiles * n, groups), codes.reshape(
            n_tiles * n, self.width
        )


def quantize(x: Floats, *, n_tokens: int | None = None) -> Quantized:
    """Quantize rows of x as a run of `n_tokens` tokens (by default, a token a row) does."""
    rows, n_tokens = rows_of(x), len(x) if n_tokens is None else n_tokens
    tile_rows = 1 if len(x) == 1 or n_tokens == 1 else TILE_ROWS
    memory = Memory(packed.activation_bytes(len(x), x.shape[1], tile_rows))
    run = run_block(n_tokens, N_OUTPUTS=len(x))
    host.launch(
        abi.QUANTIZE, run, params={"tile_rows": TILE_ROWS}, rows=abi.N_OUTPUTS, x=rows.ctypes.data,
        ldx=rows.strides[0], out=memory.at, width=x.shape[1],
    )  # fmt: skip
    memory.check()
    return Quantized(memory, len(x), x.shape[1], tile_rows)


def _scratch(k: int, rows: int, n_threads: int) -> tuple[Memory, int]:
    """Return work memory of exactly what the CPU backend gives."""
    from jitllm.backends._cpu.lower import FLOAT_SPAN_BYTES, UNPACKED_BYTES

    unpacked = TILE_BLOCKS * (k // 32) * (512 + 64 * 4)
    need = max(FLOAT_SPAN_BYTES + 64 * rows, UNPACKED_BYTES, unpacked)
    size = -(-need // 64) * 64
    return Memory(size * n_threads), size


def matmul(
    w: Matrix,
    x: Floats,
    *,
    exact: bool = False,
    bias: Floats | None = None,
    residual: Floats | None = None,
    n_threads: int = 1,
) -> Floats:
    """Return x W^T (+ bias + residual) by MATMUL, or MATMUL_FLOAT if `exact` or w is float."""
    as_float = exact or not formats.get(w.name).planes
    scratch, size = _scratch(w.k, len(x), n_threads)
    y = host.empty_rows(len(x), w.n)
    padded_bias = None if bias is None else np.pad(bias, (0, -len(bias) % 16)).astype(np.float32)
    other = None if residual is None else rows_of(residual)
    values: dict[str, Any] = {
        "rows": abi.N_OUTPUTS, "w": w.memory.at, "n": w.n, "k": w.k, "y": y.ctypes.data,
        "ldy": y.strides[0], "bias": _address(padded_bias), "residual": _address(other),
        "ldr": 0 if other is None else other.strides[0], "scratch": scratch.at,
        "scratch_bytes": size,
    }  # fmt: skip
    run = run_block(len(x), N_OUTPUTS=len(x))
    if as_float:
        rows = rows_of(x)
        values |= {"x": rows.ctypes.data, "ldx": rows.strides[0]}
    else:
        quantized = quantize(x)
        values["x"] = quantized.memory.at
    with host.threads(n_threads):
        op = abi.MATMUL_FLOAT if as_float else abi.MATMUL
        host.launch(op, run, params={"fmt": w.name}, **values)
    scratch.check()
    return y


def _address(x: npt.NDArray[Any] | None) -> int:
    return 0 if x is None else int(x.ctypes.data)


def embed(w: Matrix, tokens: Sequence[int] | npt.NDArray[Any]) -> Floats:
    """Return rows of w by `abi.EMBED`."""
    ids = np.asarray(tokens, np.int32)
    y = host.empty_rows(len(ids), w.k)
    run = run_block(len(ids), TOKENS=ids.ctypes.data)
    host.launch(
        abi.EMBED, run, params={"fmt": w.name}, w=w.memory.at, k=w.k, y=y.ctypes.data,
        ldy=y.strides[0],
    )  # fmt: skip
    return y


def bits(x: Floats) -> npt.NDArray[np.uint32]:
    """Return the bits of float32 numbers, to compare NaN and signs of zeros too."""
    return np.ascontiguousarray(x).view(np.uint32)
