"""Tensor formats: one file per GGUF type, found by its lower-case name.

A file declares `FORMAT` (layout and arithmetic, as data), `dequantize(blocks)` in NumPy, the
oracle of every kernel, and, for quantized types, `unpack_block`, plain Python that Numba compiles
when weights are re-laid for the kernels; formats that can be written have
`quantize(x, importance)`, also in NumPy. Nothing here imports Numba.

Every linear type is value = scale * (code - center) + offset with unsigned codes, `scale` and
`offset` shared by `group` weights; a type with a `table` has scale * table[code]. `scales` names
how scales are stored:

======= ====================================== ============== =======================
scales  scale of a group                       offset         types
======= ====================================== ============== =======================
d       d (float16 per 32 weights)             0              Q4_0 Q5_0 Q8_0 IQ4_NL
dm      d                                      m (float16)    Q4_1 Q5_1
block   d (float16 per block)                  0              TQ1_0 TQ2_0 Q1_0 Q2_0
k_dm    d * sc, sc uint8 per group,            -(dmin * mn),  Q2_K Q4_K Q5_K
        d float16 per 256 weights              mn uint8
k_d     d * factor * sc, sc int8 per group     0              Q3_K Q6_K IQ1 IQ2 IQ3 IQ4_XS
d16     d (float16 per 16 weights)             0              NVFP4
e8m0    2^(e - 128), e uint8 per 32 weights    0              MXFP4
float   the code is the value (f32 f16 bf16)   0              F32 F16 BF16
none    weights that kernels do not read       0              Q8_1 Q8_K F64
whole   numbers that are no weights            0              I8 I16 I32 I64
======= ====================================== ============== =======================
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# What `scales` says too; written down because importing all formats takes longer than all else
# that a start does with them.
_WHOLE = ("I8", "I16", "I32", "I64")
_WITHOUT_KERNELS = ("F64", "Q8_1", "Q8_K")


@dataclass(frozen=True)
class Format:
    """Layout and arithmetic of a tensor type.

    Attributes
    ----------
    name : str
        GGUF name, e.g. "Q4_K".
    id : int
        GGUF type number.
    block_size, block_bytes : int
        Weights and bytes of one block in the file.
    planes : tuple of int
        Bit planes of a code, low bits first: (4,), (4, 1), (4, 2), (2,), (2, 1), (8,); empty for
        float types and what kernels do not read.
    group : int
        Weights that share a scale (16 or 32).
    scales : str
        How scales are stored; see the module's table.
    center : int
        Subtracted from every code; a power of two.
    table : tuple of int
        What codes stand for, from -128 to 127, at most 16; () for linear types.
    factor : float
        A power of two in the scales of "k_d".
    """

    name: str
    id: int
    block_size: int
    block_bytes: int
    planes: tuple[int, ...] = ()
    group: int = 32
    scales: str = "float"
    center: int = 0
    table: tuple[int, ...] = ()
    factor: float = 1.0

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return sum(self.planes)

    @property
    def dot_bits(self) -> int:
        """Bits of what is multiplied: of a code, or of a table's entry."""
        return 8 if self.table else self.bits

    @property
    def dot_center(self) -> int:
        """Subtracted from what is multiplied; entries of a table are taken plus 128."""
        return 128 if self.table else self.center


@cache
def readable() -> tuple[str, ...]:
    """Return the upper-case names of all formats that have a file here."""
    stems = (p.stem for p in Path(__file__).parent.glob("*.py"))
    return tuple(sorted(s.upper() for s in stems if not s.startswith("_") and s != "ids"))


@cache
def weights() -> tuple[str, ...]:
    """Return the names of the formats that weights may have; some must become F32 for kernels."""
    return tuple(name for name in readable() if name not in _WHOLE)


@cache
def names() -> tuple[str, ...]:
    """Return the names of the formats that kernels read."""
    return tuple(name for name in weights() if name not in _WITHOUT_KERNELS)


def _module(name: str) -> Any:
    if name not in readable():
        raise ValueError(f"tensor type must be one of {readable()}, got {name!r}")
    return importlib.import_module(f"jitllm.kernels.formats.{name.lower()}")


@cache
def get(name: str) -> Format:
    """Return the format called `name`; `ValueError` lists the known ones."""
    return cast(Format, _module(name).FORMAT)


def dequantize(name: str, data: Bytes, shape: tuple[int, ...]) -> Floats:
    """Return a tensor's values as float32 of `shape` (C order, last dimension in blocks).

    Parameters
    ----------
    name : str
        Format name.
    data : uint8 array
        The tensor's bytes as in the file.
    shape : tuple of int
        NumPy order: the dimension that GGUF lists first comes last.
    """
    fmt = get(name)
    blocks = np.ascontiguousarray(data).reshape(-1, fmt.block_bytes)
    return cast(Floats, _module(name).dequantize(blocks).reshape(shape))


def quantize(name: str, values: Floats, importance: Floats | None = None) -> Bytes:
    """Return values in a format as uint8 [..., bytes of a row].

    Parameters
    ----------
    name : str
        Format name, one of `writable`.
    values : float32 array
        Finite; the last dimension is a whole number of blocks.
    importance : float32 array, optional
        Not negative, broadcast against `values`: how much errors weigh. Formats that are plainly
        rounded have no use for it.

    Raises
    ------
    ValueError
        If the format cannot be written, or rows are not whole blocks.
    """
    if name not in writable():
        raise ValueError(f"a type to write must be one of {writable()}, got {name!r}")
    fmt = get(name)
    if values.shape[-1] % fmt.block_size:
        raise ValueError(
            f"rows of {name} must be whole blocks of {fmt.block_size}, got {values.shape[-1]}"
        )
    blocks = np.ascontiguousarray(values, np.float32).reshape(-1, fmt.block_size)
    weight = None
    if importance is not None:
        weight = np.broadcast_to(importance, values.shape).reshape(blocks.shape)
    data = _module(name).quantize(blocks, weight)
    return cast(Bytes, data.reshape(*values.shape[:-1], -1))


@cache
def writable() -> tuple[str, ...]:
    """Return the names of the formats that have `quantize`."""
    return tuple(name for name in readable() if hasattr(_module(name), "quantize"))


def unpack_block(name: str) -> Callable[..., None]:
    """Return the format's `unpack_block(block, codes, half, sc, mn)`.

    `block` is uint8 [block_bytes]; it fills codes uint8 [block_size], half uint16 [2] (bits of d
    and of m or dmin, 0 where there is none; [4] for d16; the exponent for e8m0), and for k_* scales
    sc, mn uint8 [block_size/group] (sc of k_d as the bits of an int8). Arrays longer than needed
    are left alone past the end.
    """
    return cast("Callable[..., None]", _module(name).unpack_block)
