"""Prints a digest for each of a fixed set of outputs, as JSON: to compare machine levels.

Run as `python level_digest.py small|full`, with `JITLLM_SIMD` set to the level.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from blocks import edge_blocks, random_blocks
from driver import Runner
from launch import embed, matmul, pack
from models import model_path
from quantized import quantized_copy
from variants import variant_model
from variants.recurrent import recurrent_model
from variants.rwkv_trained import trained_model

from jitllm.kernels import formats, host

Arrays = Iterator[np.ndarray]
SMALL = ("Q6_K",)


def _products(name: str, modes: tuple[bool, ...]) -> Arrays:
    """Products of one row and of several with a matrix of format `name`, and its rows."""
    rng, (n, k) = np.random.default_rng(3), (50, 512)
    data = random_blocks(name, n * k // formats.get(name).block_size, rng).reshape(-1)
    matrix = pack(name, data, n, k)
    x = rng.standard_normal((13, k), np.float32)
    for exact in modes:
        yield from (matmul(matrix, x[:rows], exact=exact) for rows in (1, 13))
    yield embed(matrix, np.arange(n))
    if formats.get(name).planes:
        yield _largest_sums(name)


def _largest_sums(name: str) -> np.ndarray:
    """All codes at their limits, times activations at theirs: where narrow sums would overflow."""
    blocks, k = edge_blocks(name), formats.get(name).block_size
    x = np.ones((3, k), np.float32)
    x[1] = -1
    return matmul(pack(name, blocks, len(blocks), k), x)


def _model(path: Path, precision: str) -> Arrays:
    """Logits of a prompt in pieces and of single tokens after it."""
    with Runner(path, "cpu", precision, "f16", 2, max_tokens=32) as runner:
        tokens = np.random.default_rng(4).integers(0, 128, 70).astype(np.int32)
        yield runner.forward(tokens)
        yield runner.forward(tokens[:3], 70)


def _small_model(folder: Path) -> Arrays:
    path = quantized_copy(model_path("stories260K"), folder / "small.gguf", "Q8_0")
    return _model(path, "fast")


def _full(folder: Path) -> Iterator[tuple[str, Callable[[], Arrays]]]:
    for name in formats.names():
        modes = (False, True) if formats.get(name).planes else (False,)
        yield name, lambda name=name, modes=modes: _products(name, modes)  # type: ignore[misc]
    for name, kind in (("gemma3-windows", "Q5_0"), ("llama-routed", "Q4_0"), ("qwen3", "Q3_K")):
        base = variant_model(name, folder / f"{name}.gguf")
        path = quantized_copy(base, folder / f"{name}-{kind}.gguf", kind)
        for precision in ("fast", "exact"):
            yield (
                f"{name} {kind} {precision}",
                (
                    lambda path=path, precision=precision: _model(path, precision)  # type: ignore[misc]
                ),
            )
    base = recurrent_model("jamba-experts", folder / "jamba.gguf")
    hybrid = quantized_copy(base, folder / "jamba-Q4_1.gguf", "Q4_1")
    yield "jamba-experts Q4_1", lambda: _model(hybrid, "fast")
    base = recurrent_model("mamba2-heads", folder / "mamba2.gguf")
    yield "mamba2-heads", lambda: _model(base, "fast")
    trained = trained_model(folder / "rwkv7.gguf")
    rwkv = quantized_copy(trained, folder / "rwkv7-Q8_0.gguf", "Q8_0")
    yield "rwkv7 Q8_0", lambda: _model(rwkv, "fast")
    yield "stories260K", lambda: _model(model_path("stories260K"), "exact")
    x = np.random.default_rng(5).standard_normal((9, 200), np.float32)
    yield "layer_norm", lambda: iter([host.layer_norm(x, x[0], x[1])])


def digests(size: str) -> dict[str, str]:
    """Return a digest of each output by its name."""
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), {}
        cases: list[tuple[str, Callable[[], Arrays]]] = [
            (fmt, lambda fmt=fmt: _products(fmt, (False,)))  # type: ignore[misc]
            for fmt in SMALL
        ]
        cases.append(("stories260K Q8_0", lambda: _small_model(folder)))
        chosen = cases if size == "small" else [*cases, *_full(folder)]
        for case, outputs in chosen:
            digest = hashlib.sha256()
            for array in outputs():
                assert np.isfinite(array).all(), case
                digest.update(np.ascontiguousarray(array).tobytes())
            found[case] = digest.hexdigest()
        return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(digests(sys.argv[1])))
