"""Every quantized tensor type: its error beside llama.cpp's, and the speed of its products.

`python bench/tensor_types.py --llama libggml-base.so`; the library lies in `llama_cpp/lib` of an
installed llama-cpp-python. Weights are random, half of them normal, half with outliers (a t
distribution of 4 degrees), and so is the importance of their columns. Errors are root mean squares,
with importance weighed by it. A row of the CSV file is appended for each type.
"""

import argparse
import csv
import ctypes
import re
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import machine
import numpy as np
import numpy.typing as npt
import results

from jitllm.backends._cpu.lower import FLOAT_SPAN_BYTES, UNPACKED_BYTES
from jitllm.backends._cpu.memory import mapping, use_huge_pages
from jitllm.backends._cpu.threads import ThreadPool, aligned
from jitllm.kernels import abi, formats, level, packed

FOLDER = results.FOLDER / "types"
K = 2048  # columns of the matrices that are multiplied
PROMPT_ROWS, PROMPT_TOKENS = 1536, 512
REPEATS = 5

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """What was measured of a type; NaN for what was not.

    Attributes
    ----------
    date, machine, commit, type_name : str
    bits : float
        Per weight.
    rms, llama_rms : float
        Error without importance.
    rms_known, llama_rms_known : float
        Error with importance.
    write : float
        Millions of weights a second that one thread quantizes, with importance.
    prompt : float
        1e9 multiply-adds a second, 512 tokens.
    decode : float
        1e9 bytes of the file a second, one token.
    """

    date: str
    machine: str
    commit: str
    type_name: str
    bits: float
    rms: float
    llama_rms: float
    rms_known: float
    llama_rms_known: float
    write: float
    prompt: float
    decode: float


class Ggml:
    """The quantizers of llama.cpp.

    Parameters
    ----------
    path : Path
        Of `libggml-base`.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._quantize = self._library.ggml_quantize_chunk
        self._quantize.restype = ctypes.c_size_t
        self._quantize.argtypes = [
            ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p
        ]  # fmt: skip
        self._needs_importance = self._library.ggml_quantize_requires_imatrix
        self._needs_importance.restype = ctypes.c_bool

    def quantize(self, name: str, x: Floats, importance: Floats | None) -> Bytes | None:
        """Return `x` [n, K] in a format, uint8 [n, bytes]; None without importance it needs."""
        fmt = formats.get(name)
        if importance is None and self._needs_importance(fmt.id):
            return None
        out = np.zeros((len(x), x.shape[1] // fmt.block_size * fmt.block_bytes), np.uint8)
        known = None if importance is None else importance.ctypes.data
        self._quantize(fmt.id, x.ctypes.data, out.ctypes.data, 0, len(x), x.shape[1], known)
        return out


def sample() -> tuple[Floats, Floats]:
    """Return weights [128, 2048] and the importance of their columns."""
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((64, K)), rng.standard_t(4, (64, K))]
    return np.concatenate(parts).astype(np.float32), rng.uniform(0.1, 3, K).astype(np.float32)


def rms(name: str, data: Bytes | None, x: Floats, importance: Floats | float) -> float:
    """Return the error of quantized data; NaN if there is none."""
    if data is None:
        return float("nan")
    off = formats.dequantize(name, data.reshape(-1), x.shape) - x
    return float(np.sqrt(np.mean(importance * off.astype(np.float64) ** 2)))


def errors(name: str, llama: Ggml | None) -> dict[str, float]:
    """Return the errors of a type and the speed of its quantizer."""
    x, importance = sample()
    start = time.perf_counter()
    known = formats.quantize(name, x, importance)
    seconds = time.perf_counter() - start
    theirs = [llama.quantize(name, x, i) if llama else None for i in (None, importance)]
    return {
        "rms": rms(name, formats.quantize(name, x), x, 1),
        "llama_rms": rms(name, theirs[0], x, 1),
        "rms_known": rms(name, known, x, importance),
        "llama_rms_known": rms(name, theirs[1], x, importance),
        "write": x.size / seconds / 1e6,
    }


class Products:
    """Times products of a matrix of one type.

    Parameters
    ----------
    name : str
    pool : ThreadPool
    n_bytes : int
        Of the matrix in a file: more than the caches hold.
    """

    def __init__(self, name: str, pool: ThreadPool, n_bytes: int) -> None:
        fmt = formats.get(name)
        self._name, self._pool = name, pool
        self._row_bytes = K // fmt.block_size * fmt.block_bytes
        self._n = n_bytes // self._row_bytes // 64 * 64
        self._run = aligned(8 * abi.RUN_WORDS).view(np.int64)
        self._weights = mapping(packed.matrix_bytes(name, self._n, K))
        use_huge_pages(self._weights)
        x = np.random.default_rng(1).standard_normal((64, K)).astype(np.float32)
        source = np.tile(formats.quantize(name, x).reshape(-1), self._n // 64)
        self._time(
            abi.REPACK, {"fmt": name}, repeats=1, source=source.ctypes.data,
            target=self._weights.ctypes.data, n=self._n, k=K,
        )  # fmt: skip

    def _time(self, op: abi.Op, params: dict[str, Any], *, repeats: int, **values: Any) -> float:
        """The shortest time of an op, in seconds."""
        block = op.pack(self._run.ctypes.data, **values)
        word = aligned(abi.OP_BYTES).view(np.int64)
        word[abi.OP_KERNEL], word[abi.OP_ARGS] = op.address(**params), block.ctypes.data
        word[abi.OP_BARRIER] = 1
        best = float("inf")
        for _ in range(repeats):
            word[abi.OP_COUNTER] = 0
            start = time.perf_counter()
            self._pool.run(word.ctypes.data, 0, 1)
            best = min(best, time.perf_counter() - start)
        return best

    def seconds(self, n_tokens: int, n_rows: int) -> float:
        """Return the time of `n_tokens` rows times the first `n_rows` rows of the matrix."""
        self._run[abi.N_TOKENS] = n_tokens
        x, y = aligned(4 * n_tokens * K).view(np.float32), aligned(4 * n_tokens * n_rows)
        x[:] = np.random.default_rng(2).standard_normal(len(x))
        blocks, tile_rows = level.current().tile
        span = FLOAT_SPAN_BYTES + 64 * n_tokens
        each = -(-max(span, UNPACKED_BYTES, blocks * (K // 32) * (512 + 64 * 4)) // 64) * 64
        scratch = aligned(each * self._pool.n_threads)
        values: dict[str, Any] = {
            "rows": abi.N_TOKENS, "w": self._weights.ctypes.data, "n": n_rows, "k": K,
            "y": y.ctypes.data, "ldy": 4 * n_rows, "bias": 0, "residual": 0, "ldr": 0,
            "scratch": scratch.ctypes.data, "scratch_bytes": each,
        }  # fmt: skip
        if not formats.get(self._name).planes:
            values |= {"x": x.ctypes.data, "ldx": 4 * K}
            return self._time(abi.MATMUL_FLOAT, {"fmt": self._name}, repeats=REPEATS, **values)
        codes = aligned(packed.activation_bytes(n_tokens, K, tile_rows))
        self._time(
            abi.QUANTIZE, {"tile_rows": tile_rows}, repeats=1, rows=abi.N_TOKENS,
            x=x.ctypes.data, ldx=4 * K, out=codes.ctypes.data, width=K,
        )  # fmt: skip
        values["x"] = codes.ctypes.data
        return self._time(abi.MATMUL, {"fmt": self._name}, repeats=REPEATS, **values)

    def speeds(self) -> dict[str, float]:
        """Return the speeds of a prompt and of one token."""
        prompt = PROMPT_TOKENS * PROMPT_ROWS * K / self.seconds(PROMPT_TOKENS, PROMPT_ROWS)
        decode = self._n * self._row_bytes / self.seconds(1, self._n)
        return {"prompt": prompt / 1e9, "decode": decode / 1e9}


def append(rows: list[Row]) -> Path:
    """Add rows to their machine's file and return its path."""
    slug = re.sub(r"[^a-z0-9]+", "-", rows[0].machine.lower()).strip("-")
    path = FOLDER / f"{slug}.csv"
    is_new = not path.exists()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow([field.name for field in fields(Row)])
        for row in rows:
            writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in astuple(row)])
    return path


def measure(name: str, llama: Ggml | None, pool: ThreadPool | None, n_bytes: int) -> Row:
    """Return the row of one type; without a pool its speeds are not measured."""
    fmt = formats.get(name)
    speeds = {"prompt": float("nan"), "decode": float("nan")}
    if pool is not None:
        speeds = Products(name, pool, n_bytes).speeds()
    return Row(
        results.now(), machine.name(), machine.commit(), name,
        8 * fmt.block_bytes / fmt.block_size, **errors(name, llama), **speeds,
    )  # fmt: skip


def main() -> None:
    """Print a row for each type and append it to the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("types", nargs="*", help="default: all")
    parser.add_argument("--llama", type=Path, metavar="LIBGGML_BASE", help="llama.cpp's library")
    parser.add_argument("--no-speed", action="store_true", help="only errors; appends nothing")
    parser.add_argument("--threads", type=int, help="default: all")
    parser.add_argument("--megabytes", type=int, default=120, help="of each matrix, in the file")
    options = parser.parse_args()
    llama = Ggml(options.llama) if options.llama else None
    pool = None if options.no_speed else ThreadPool(options.threads)
    print("| type | bits | rms | llama.cpp | with importance | llama.cpp | write Mw/s "
          "| prompt GMAC/s | decode GB/s |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|")  # fmt: skip
    rows = []
    for name in options.types or sorted(formats.writable(), key=lambda n: formats.get(n).bits):
        row = measure(name, llama, pool, options.megabytes * 1_000_000)
        rows.append(row)
        print(f"| {name} | {row.bits:.4g} | {row.rms:.4f} | {row.llama_rms:.4f} "
              f"| {row.rms_known:.4f} | {row.llama_rms_known:.4f} | {row.write:.3g} "
              f"| {row.prompt:.4g} | {row.decode:.4g} |", flush=True)  # fmt: skip
    if pool is not None:
        pool.close()
        print(f"\nappended to {append(rows)}")


if __name__ == "__main__":
    main()
