"""A few matrix products and row kernels as a memory image and a list of calls.

The same list is run on this machine, and, compiled for ARM, by a small C program under an emulator.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from blocks import random_blocks

from jitllm.kernels import abi, formats, jit, packed
from jitllm.kernels import level as levels

BASE = 0x40_0000_0000  # where the C program maps the image
SIZE = 4 << 20
N, K = 37, 512


class Image:
    """Memory whose byte 0 has address `base`; hands out cache-line aligned pieces."""

    def __init__(self, base: int, memory: np.ndarray) -> None:
        self.base, self.memory, self._used = base, memory, 0
        self.calls: list[tuple[str, int, int]] = []  # kernel, argument block, counter
        self.kernels: dict[str, tuple[str, str, dict[str, Any]]] = {}
        self.results: list[tuple[int, int]] = []  # (start, bytes)

    def room(self, n_bytes: int) -> int:
        """Return the address of fresh bytes."""
        start = self._used
        self._used += -(-n_bytes // 64) * 64
        assert self._used <= SIZE
        return self.base + start

    def put(self, array: np.ndarray) -> int:
        """Copy an array in; returns its address."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        at = self.room(data.nbytes)
        self.memory[at - self.base : at - self.base + data.nbytes] = data
        return at

    def call(self, op: abi.Op, run: int, params: dict[str, Any], **values: Any) -> None:
        """Add a call of an op."""
        name = jit.kernel_name(op.module, op.function, **params)
        self.kernels[name] = op.module, op.function, params
        block = self.put(op.pack(run, **values))
        self.calls.append((name, block, self.put(np.zeros(1, np.int64))))

    def result(self, n_rows: int, width: int) -> int:
        """Return the address of rows to be compared."""
        at = self.room(4 * n_rows * width)
        self.results.append((at - self.base, 4 * n_rows * width))
        return at


def fill(image: Image) -> None:
    """Put the inputs in and list the calls."""
    rng = np.random.default_rng(6)
    tile_rows, wide = levels.current().tile[1], -(-N // 16) * 16
    scratch = image.room(512 << 10)
    for rows in (1, 9):
        words = np.zeros(abi.RUN_WORDS, np.int64)
        words[abi.N_TOKENS] = rows
        run = image.put(words)
        numbers = np.random.default_rng(7).standard_normal((64, K), np.float32)[:rows]
        x = image.put(numbers)
        if rows > 1:
            _row_kernels(image, run, x, rows)
        quantized = image.room(packed.activation_bytes(rows, K, tile_rows))
        image.call(
            abi.QUANTIZE, run, {"tile_rows": tile_rows}, rows=abi.N_TOKENS, x=x, ldx=4 * K,
            out=quantized, width=K,
        )  # fmt: skip
        for name in ("Q4_K", "Q8_0", "Q6_K", "F16"):
            fmt = formats.get(name)
            data = random_blocks(name, N * K // fmt.block_size, rng)
            weights = image.room(packed.matrix_bytes(name, N, K))
            image.call(
                abi.REPACK, run, {"fmt": name}, source=image.put(data), target=weights, n=N, k=K
            )
            values = dict(
                rows=abi.N_TOKENS, w=weights, n=N, k=K, x=quantized, y=image.result(rows, wide),
                ldy=4 * wide, bias=0, residual=0, ldr=0, scratch=scratch, scratch_bytes=0,
            )  # fmt: skip
            if fmt.planes:
                image.call(abi.MATMUL, run, {"fmt": name}, **values)
            else:
                image.call(abi.MATMUL_FLOAT, run, {"fmt": name}, **{**values, "x": x, "ldx": 4 * K})


def _row_kernels(image: Image, run: int, x: int, rows: int) -> None:
    common = dict(rows=abi.N_TOKENS, ldy=4 * K, width=K)
    image.call(
        abi.RMS_NORM, run, {}, x=x, ldx=4 * K, w=0, y=image.result(rows, K), group=K, eps=1e-5,
        **common,
    )  # fmt: skip
    image.call(
        abi.GLU, run, {"act": "silu"}, gate=x, ldg=4 * K, up=x, ldu=4 * K,
        y=image.result(rows, K), **common,
    )  # fmt: skip


def write_program(folder: Path) -> None:
    """Compile the kernels for the current level; write the image, the objects and a C program."""
    image = Image(BASE, np.full(SIZE, 0xFF, np.uint8))
    fill(image)
    image.memory.tofile(folder / "image.bin")
    names = list(image.kernels)
    for i, (module, function, params) in enumerate(image.kernels.values()):
        (folder / f"kernel{i}.o").write_bytes(jit.compile_object(module, function, **params))
    lines = [f"extern void kernel{i}(long, long, long, long);" for i in range(len(names))]
    calls = [
        f"kernel{names.index(k)}({args}L, 0, 1, {counter}L);" for k, args, counter in image.calls
    ]
    main = f"""
    #include <stdio.h>
    #include <sys/mman.h>
    int main(int argc, char **argv) {{
        void *at = (void *){BASE}L;
        if (mmap(at, {SIZE}, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at) return 2;
        FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
        if (!in || !out || fread(at, 1, {SIZE}, in) != {SIZE}) return 3;
        {" ".join(calls)}
        return fwrite(at, 1, {SIZE}, out) == {SIZE} && !fclose(out) ? 0 : 4;
    }}
    """
    (folder / "main.c").write_text("\n".join([*lines, main]))
    (folder / "kernels.json").write_text(json.dumps({"names": names, "results": image.results}))


if __name__ == "__main__":
    write_program(Path(sys.argv[1]))
