"""Records `data/imatrix.npz`: what llama.cpp multiplies the matrices of small models by.

`python -m recorders.imatrix OUT.npz NAME=MODEL.gguf ...`, where llama_cpp is installed. Of each:
NAME/tokens, N_CHUNKS chunks of N_CTX; NAME/TENSOR/sums, of squares, a row for each expert, and
NAME/TENSOR/counts, seen through the callback of evaluation, as llama-imatrix does.
"""

import ctypes
import sys
from typing import Any

import llama_cpp as api
import numpy as np
from numpy.typing import NDArray

N_CTX, N_CHUNKS, MUL_MAT, MUL_MAT_ID = 64, 2, 29, 30


class Tensor(ctypes.Structure):
    """`struct ggml_tensor`."""


Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
]


def _values(tensor: Tensor, dtype: type) -> NDArray[Any]:
    """The values of a tensor [ne2, ne1, ne0], whatever its strides."""
    size = sum((n - 1) * b for n, b in zip(tensor.ne, tensor.nb, strict=True)) + 4
    raw = np.frombuffer(ctypes.string_at(tensor.data, size), np.uint8)
    shape, strides = tensor.ne[2::-1], tensor.nb[2::-1]
    return np.ndarray(shape, dtype, raw.data, strides=strides).copy()


class Recorder:
    """Adds up squares."""

    def __init__(self) -> None:
        self.sums: dict[str, NDArray[np.float64]] = {}
        self.counts: dict[str, NDArray[np.float64]] = {}

    def __call__(self, pointer: int, ask: bool, data: Any) -> bool:
        node = ctypes.cast(pointer, ctypes.POINTER(Tensor)).contents
        if ask:
            return node.op in (MUL_MAT, MUL_MAT_ID)
        weight, x = node.src[0].contents, node.src[1].contents
        name = weight.name.decode()
        if node.op == MUL_MAT_ID:
            ids = _values(node.src[2].contents, np.int32)[0]  # [T, k]
            rows = np.broadcast_to(_values(x, np.float32), (*ids.shape, x.ne[0]))
            self._add(name, weight.ne[2], rows.reshape(-1, x.ne[0]), ids.reshape(-1))
        elif name.startswith("blk.") or name == "output.weight":
            rows = _values(x, np.float32).reshape(-1, x.ne[0])
            self._add(name, 1, rows, np.zeros(len(rows), np.int32))
        return True

    def _add(self, name: str, n: int, rows: NDArray[np.float32], ids: NDArray[np.int32]) -> None:
        sums = self.sums.setdefault(name, np.zeros((n, rows.shape[1])))
        np.add.at(sums, ids, rows.astype(np.float64) ** 2)
        self.counts.setdefault(name, np.zeros(n))[:] += np.bincount(ids, minlength=n)


def record(path: str) -> dict[str, NDArray[Any]]:
    """What llama.cpp does with a model."""
    recorder = Recorder()
    callback = api.ggml_backend_sched_eval_callback(recorder)
    params = api.llama_model_default_params()
    params.use_mmap, params.use_extra_bufts = True, False
    model = api.llama_model_load_from_file(path.encode(), params)
    options = api.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = N_CTX, N_CTX, N_CTX
    options.type_k = options.type_v = 0
    options.n_threads = options.n_threads_batch = 1
    options.flash_attn_type, options.cb_eval = 0, callback
    context = api.llama_init_from_model(model, options)
    vocab = api.llama_model_get_vocab(model)
    rng, n_vocab = np.random.default_rng(5), api.llama_vocab_n_tokens(vocab)
    tokens = rng.integers(3, n_vocab, (N_CHUNKS, N_CTX)).astype(np.int32)
    if api.llama_vocab_get_add_bos(vocab):
        tokens[:, 0] = api.llama_vocab_bos(vocab)
    batch = api.llama_batch_init(N_CTX, 0, 1)
    for chunk in tokens:
        api.llama_memory_clear(api.llama_get_memory(context), True)
        for i, token in enumerate(chunk.tolist()):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, True
            batch.seq_id[i][0] = 0
        batch.n_tokens = N_CTX
        assert api.llama_decode(context, batch) == 0
    arrays: dict[str, NDArray[Any]] = {"tokens": tokens.reshape(-1)}
    for name, sums in recorder.sums.items():
        arrays[f"{name}/sums"] = sums.astype(np.float32)
        arrays[f"{name}/counts"] = recorder.counts[name].astype(np.int32)
    return arrays


def main(out: str, *models: str) -> None:
    """Record all models."""
    arrays: dict[str, Any] = {}
    for model in models:
        name, _, path = model.partition("=")
        arrays |= {f"{name}/{key}": value for key, value in record(path).items()}
    np.savez_compressed(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
