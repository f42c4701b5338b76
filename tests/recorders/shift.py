"""Records `data/shift.npz`: what llama.cpp gives behind tokens that were taken out of its cache.

`python -m recorders.shift FOLDER OUT.npz`, where llama_cpp is installed. The folder has the models
NAME.gguf that `shifted.write_models` writes.
"""

import sys
from pathlib import Path
from typing import Any

import llama_cpp as api
import numpy as np
from numpy.typing import NDArray
from variants.shifted import MODELS, N_CTX, REMOVED, after, tokens

Floats = NDArray[np.float32]


class Context:
    """A llama.cpp context with one sequence and a float32 cache that keeps all positions."""

    def __init__(self, path: Path) -> None:
        self.model = api.llama_model_load_from_file(
            str(path).encode(), api.llama_model_default_params()
        )
        params = api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = N_CTX
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = params.flash_attn_type = 0
        params.swa_full = True
        self.context = api.llama_init_from_model(self.model, params)
        self.n_vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        self.n_done = 0

    def append(self, ids: list[int]) -> Floats:
        """Run tokens; returns the logits behind the last."""
        batch: Any = api.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i] = token, self.n_done + i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            batch.logits[i] = i == len(ids) - 1
        assert api.llama_decode(self.context, batch) == 0
        api.llama_batch_free(batch)
        self.n_done += len(ids)
        logits = api.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(logits, (self.n_vocab,)).copy()

    def remove(self, start: int, stop: int) -> None:
        """Take tokens out, and move those behind them up."""
        memory = api.llama_get_memory(self.context)
        assert api.llama_memory_can_shift(memory)
        assert api.llama_memory_seq_rm(memory, 0, start, stop)
        api.llama_memory_seq_add(memory, 0, stop, -1, start - stop)
        self.n_done -= stop - start


def main(folder: str, out: str) -> None:
    """Record the logits behind every token that is appended later, of every model."""
    api.llama_backend_init()
    found: dict[str, Any] = {}
    for name in MODELS:
        context = Context(Path(folder) / f"{name}.gguf")
        context.append(tokens(context.n_vocab))
        rows = []
        for start, stop in REMOVED:
            context.remove(start, stop)
            rows += [context.append([token]) for token in after(context.n_vocab)]
        found[name] = np.array(rows, np.float32)
    np.savez_compressed(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
