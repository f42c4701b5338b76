"""Records `data/variants_nextn.npz`: what llama.cpp gives for blocks that predict further tokens.

`python -m recorders.nextn FOLDER OUT.npz`, where llama_cpp is installed. The folder has the models
NAME.gguf that `variants_nextn.nextn_model` writes.
"""

import ctypes
import sys
from pathlib import Path
from typing import Any

import llama_cpp as api
import numpy as np
from numpy.typing import NDArray

N_TOKENS, N_CTX, N_LOGITS, N_HIDDEN = 28, 256, 16, 4
MTP = 1  # LLAMA_CONTEXT_TYPE_MTP
Floats = NDArray[np.float32]


def function(name: str, *types: Any, result: Any = None) -> Any:
    """A function of llama-ext.h, which is exported under its C++ name."""
    found = getattr(api.llama_cpp._lib, name)
    found.argtypes, found.restype = types, result
    return found


set_hidden = function(
    "_Z26llama_set_embeddings_nextnP13llama_contextbb", ctypes.c_void_p, ctypes.c_bool,
    ctypes.c_bool,
)  # fmt: skip
get_hidden = function(
    "_Z26llama_get_embeddings_nextnP13llama_context",
    ctypes.c_void_p,
    result=ctypes.POINTER(ctypes.c_float),
)
set_block = function(
    "_Z28llama_set_nextn_layer_offsetP13llama_contexti", ctypes.c_void_p, ctypes.c_int32
)


class Context:
    """The model itself, or one of its blocks."""

    def __init__(self, model: Any, kind: int = 0, block: int = 0) -> None:
        params = api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = N_CTX
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = 0  # float32
        params.flash_attn_type, params.ctx_type = 0, kind
        self.model, self.context = model, api.llama_init_from_model(model, params)
        set_hidden(self.context, True, False)
        if block:
            set_block(self.context, block)

    def run(self, tokens: NDArray[np.int32], hidden: Floats | None = None) -> tuple[Floats, Floats]:
        """Logits [T, V] and hidden rows [T, n] of all tokens."""
        n, width = len(tokens), api.llama_model_n_embd_out(self.model)
        batch = api.llama_batch_init(n, 0, 1)
        batch.n_tokens, rows = n, None
        for i in range(n):
            batch.token[i], batch.pos[i], batch.logits[i] = int(tokens[i]), i, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        if hidden is not None:
            rows = np.ascontiguousarray(hidden, np.float32)
            batch.embd = rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        if api.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        batch.embd = None
        vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        logits = np.ctypeslib.as_array(api.llama_get_logits(self.context), (n, vocabulary))
        return logits.copy(), np.ctypeslib.as_array(get_hidden(self.context), (n, width)).copy()


def record(path: Path) -> dict[str, NDArray[Any]]:
    """Run one model and its blocks."""
    params = api.llama_model_default_params()
    params.load_mtp, params.n_gpu_layers = True, 0
    model = api.llama_model_load_from_file(str(path).encode(), params)
    seed = sum(path.stem.encode())
    tokens = np.random.default_rng(seed).integers(0, 128, N_TOKENS).astype(np.int32)
    hidden = Context(model).run(tokens)[1]
    out = {"tokens": tokens, "hidden": hidden[-N_HIDDEN:]}
    for block in range(api.llama_cpp._lib.llama_model_n_layer_nextn(ctypes.c_void_p(model))):
        before = np.concatenate([np.zeros_like(hidden[:1]), hidden[:-1]])
        logits, hidden = Context(model, MTP, block).run(tokens, before)
        out[f"logits.{block}"], out[f"hidden.{block}"] = logits[-N_LOGITS:], hidden[-N_HIDDEN:]
    return out


if __name__ == "__main__":
    arrays: dict[str, Any] = {}
    for model_path in sorted(Path(sys.argv[1]).glob("*.gguf")):
        for key, value in record(model_path).items():
            arrays[f"{model_path.stem}/{key}"] = value
    np.savez_compressed(sys.argv[2], **arrays)
