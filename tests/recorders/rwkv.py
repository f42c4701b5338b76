"""Records the logits that llama.cpp gives for the models of `variants/rwkv.py`.

`python -m recorders.rwkv FOLDER OUT.npz`, where llama_cpp is installed.
"""

import sys
import zlib
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

N_TOKENS, N_SINGLE, N_ROWS = 79, 8, 16


def record(path: Path) -> dict[str, Any]:
    """Tokens, and logits of the last positions: some tokens in one batch, then single ones."""
    model = llama_cpp.Llama(
        str(path), n_ctx=256, n_batch=256, n_ubatch=256, n_threads=1, n_threads_batch=1,
        logits_all=True, flash_attn=False, verbose=False,
    )  # fmt: skip
    rng = np.random.Generator(np.random.Philox(key=[2, zlib.crc32(path.stem.encode())]))
    tokens = rng.integers(0, model.n_vocab(), N_TOKENS).astype(np.int32)
    first = N_TOKENS - N_SINGLE
    for start, stop in [(0, first), *((i, i + 1) for i in range(first, N_TOKENS))]:
        model.eval(tokens[start:stop].tolist())
    logits = np.array(model.scores[N_TOKENS - N_ROWS : N_TOKENS], np.float32)
    return {"tokens": tokens, "logits": logits}


def main(folder: str, target: str) -> None:
    """Record all models of a folder."""
    arrays = {
        f"{path.stem}/{key}": value
        for path in sorted(Path(folder).glob("*.gguf"))
        for key, value in record(path).items()
    }
    np.savez_compressed(target, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
