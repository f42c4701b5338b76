"""Matrix products by the CUDA kernels, in the simulator, on NumPy arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gpu_launch import launch
from launch import Matrix

from jitllm.kernels import formats

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Extras:
    """What a product has beside W and x; see `finisher` of `kernels/cuda/_finish.py`."""

    bias: Floats | None = None
    scales: Floats | None = None
    weights: Floats | None = None
    residual: Floats | None = None
    ids: npt.NDArray[np.uint32] | None = None  # expert of each row
    heads: int = 1
    fan: int = 1  # rows of y for a row of x

    @property
    def constants(self) -> tuple[int, ...]:
        """The last constants of the kernels, from `routed` on."""
        given = (self.ids, self.bias, self.scales, self.weights, self.residual)
        return tuple(int(x is not None) for x in given)


NOTHING = Extras()


def poisoned(n: int) -> Bytes:
    """Return n bytes of 0xFF."""
    return np.full(n, 0xFF, np.uint8)


def quantize(x: Floats, width: int | None = None) -> Bytes:
    """Return what the kernel `quantize` makes of the first `width` columns of x."""
    rows, width = len(x), x.shape[1] if width is None else width
    q = poisoned(rows * width // 32 * 40)
    arguments = [np.array([rows], np.uint32), x, q, x.shape[1], width]
    launch("quantize", (), arguments, (-(-width // 256), rows))
    return q


def to_half(x: Floats, order: int) -> Bytes:
    """Return what the kernel `to_half` makes of x."""
    rows, width = x.shape
    h = poisoned(rows * (-(-width // 32) * 64 + 4))
    arguments = [np.array([rows], np.uint32), x, h, width, width]
    launch("to_half", (order,), arguments, (1, rows))
    return h


def groups_of(q: Bytes, rows: int) -> tuple[Any, Any, Any]:
    """Return codes int8 [rows, K], scales [rows, G] and sums of halves int16 [rows, G, 2]."""
    n = len(q) // 40 // rows
    codes = q[: rows * n * 32].view(np.int8).reshape(n, rows, 32).transpose(1, 0, 2)
    heads = q[rows * n * 32 :].reshape(n, rows, 8).transpose(1, 0, 2)
    scales = np.ascontiguousarray(heads[..., :4]).view(np.float32)[..., 0]
    return codes.reshape(rows, -1), scales, np.ascontiguousarray(heads[..., 4:]).view(np.int16)


def tiles_of(ids: npt.NDArray[np.uint32], experts: int, tokens: int) -> tuple[Any, Any]:
    """Return the slots and tiles that `group_rows` makes."""
    most = len(ids) // tokens + min(experts, len(ids))
    slots, tiles = np.full(most * tokens, -2, np.int32), np.full(1 + most, -2, np.int32)
    arguments = [np.array([len(ids)], np.uint32), ids, slots, tiles, experts]
    launch("group_rows", (tokens,), arguments, 1)
    return slots, tiles


def few(
    w: Matrix, x: Floats, *, tile: int = 1, split: int = 2, exact: bool = False,
    extras: Extras = NOTHING,
) -> Floats:  # fmt: skip
    """Return the product by `matvec`, or `matvec_float` if `exact`."""
    blocks = -(-w.n // 16) * extras.heads
    rows = len(x) * extras.fan
    grid = -(-blocks // (8 // split)), -(-rows // tile)
    return _run(w, x, "matvec", (tile, split), grid, exact, extras, ())


def many(
    w: Matrix, x: Floats, *, tokens: int = 32, split: int = 1, exact: bool = False,
    extras: Extras = NOTHING,
) -> Floats:  # fmt: skip
    """Return the product by `matmul`, or `matmul_float` if `exact`."""
    rows, outputs = len(x) * extras.fan, 64 if exact else 32 * 4 // split
    groups = -(-w.n // outputs)
    constants = (tokens,) if exact else (tokens, split)
    tiles, routing = -(-rows // tokens), tuple[Any, ...]((None, None))
    if extras.ids is not None:
        routing = tiles_of(extras.ids, len(w.memory.bytes) // w.bytes_each, tokens)
        tiles = len(routing[1]) - 1
    grid = groups * extras.heads, tiles
    return _run(w, x, "matmul", constants, grid, exact, extras, routing)


def many_half(
    w: Matrix, x: Floats, *, tokens: int = 16, split: int = 2, extras: Extras = NOTHING
) -> Floats:
    """Return the product by `matmul_half`."""
    order = int(not formats.get(w.name).planes)
    grid = -(-w.n // (32 * 4 // split)) * extras.heads, -(-len(x) * extras.fan // tokens)
    source = to_half(x, order)
    return _run(w, x, "matmul_half", (tokens, split), grid, False, extras, (None, None), source)


def _run(
    w: Matrix, x: Floats, name: str, constants: tuple[int, ...], grid: tuple[int, int],
    exact: bool, extras: Extras, routing: tuple[Any, ...], source: Bytes | None = None,
) -> Floats:  # fmt: skip
    rows, width = len(x) * extras.fan, w.n * extras.heads
    y = np.full((rows, width + 3), np.nan, np.float32)  # its rows lie further apart
    residual = extras.residual
    if source is None:
        source = x.view(np.uint8) if exact else quantize(x)
    arguments = [
        np.array([rows], np.uint32), np.array(w.memory.bytes), source, y,
        extras.bias, extras.scales, extras.weights, *(routing or [extras.ids]), residual,
        w.n, w.k, x.shape[1], y.shape[1], 0 if residual is None else residual.shape[1],
        extras.fan, extras.heads,
    ]  # fmt: skip
    name = f"{name}_float" if exact else name
    launch(name, (*constants, *extras.constants), arguments, grid, w.name)
    assert np.isnan(y[:, width:]).all()
    return y[:, :width].copy()
