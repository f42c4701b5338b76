"""The layout in which compiled kernels read weights: one for all linear tensor types.

A matrix (N, K) is cut into blocks of 16 rows; lanes of a vector are rows. A row block is a run of
units, a unit being 32 weights along K ("d", "dm", "e8m0"), a block of the file (the others), or one
weight ("float"):

    header    d f16 [1, of d16 4][16] | m or dmin f16 [16] | sc u8 [groups][16] | mn u8 [groups][16]
              (the parts that the format has; of e8m0 the exponents u8 [16])
    codes     per 32 weights, per bit plane: vectors of 64 bytes = 16 rows x 4 weights

A chunk is 4 consecutive weights of 16 rows: 64 codes. A plane of b bits packs 8/b chunks into one
vector, chunk 0 in the lowest bits, so 32 weights take b vectors and bytes per weight stay those of
the file (one byte instead of six bits per K-quant scale). Rows past N are zero.
"""

from functools import cache

from jitllm.kernels import formats

ROWS = 16  # rows of a block: lanes of a vector
CHUNK_BYTES = 64


def unit_weights(fmt: formats.Format) -> int:
    """Return how many weights along K share a header."""
    return {"float": 1, "d": 32, "dm": 32, "e8m0": 32}.get(fmt.scales, fmt.block_size)


def header_bytes(fmt: formats.Format) -> int:
    """Return the bytes of a unit before its codes."""
    groups = fmt.block_size // fmt.group
    return {
        "float": 0,
        "d": 2 * ROWS,
        "dm": 4 * ROWS,
        "block": 2 * ROWS,
        "d16": 8 * ROWS,
        "e8m0": ROWS,
        "k_d": (2 + groups) * ROWS,
        "k_dm": (4 + 2 * groups) * ROWS,
    }[fmt.scales]


@cache
def unit_bytes(name: str) -> int:
    """Return the bytes of a unit of 16 rows of the format called `name`."""
    fmt = formats.get(name)
    if fmt.scales == "float":
        return ROWS * fmt.block_bytes
    return header_bytes(fmt) + unit_weights(fmt) // 32 * CHUNK_BYTES * fmt.bits


def row_block_bytes(name: str, k: int) -> int:
    """Return the bytes of 16 rows of `k` weights."""
    return k // unit_weights(formats.get(name)) * unit_bytes(name)


def matrix_bytes(name: str, n: int, k: int) -> int:
    """Return the bytes of a packed (n, k) matrix."""
    return -(-n // ROWS) * row_block_bytes(name, k)


# Activations for quantized weights: tiles of `tile_rows` rows; in a tile, per 32 columns, one
# record of int32 and float32 fields [tile_rows] each, then codes, int8 [8 chunks][tile_rows][4]:
#   n32    -128 * sum of the codes             n_lo, n_hi  the same of each half
#   dx     scale                               sx          dx * sum of the codes
#                                              s_lo, s_hi  the same of each half
# -128 * sum is what an int8 dot product starts from when weight codes are stored plus 128.
FIELD_N, FIELD_D, FIELD_S, FIELD_N_LO, FIELD_N_HI, FIELD_S_LO, FIELD_S_HI, FIELD_CODES = range(8)
RECORD_BYTES_PER_ROW = 4 * FIELD_CODES + 32


def activation_bytes(rows: int, k: int, tile_rows: int) -> int:
    """Return the bytes of `rows` quantized rows of `k` columns."""
    return -(-rows // tile_rows) * tile_rows * -(-k // 32) * RECORD_BYTES_PER_ROW
