"""Records what llama.cpp gives for the models of `variants/written.py`.

`python -m recorders.written FOLDER OUT.npz`, where llama_cpp is installed.
"""

import ctypes
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp as api
import numpy as np
from numpy.typing import NDArray

N_CTX, VOCAB, N = 256, 128, 64
Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@api.llama_log_callback
def _log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level >= 4:
        sys.stderr.write(text.decode())


@contextmanager
def _context(model: Any, pooling: int = -1) -> Iterator[Any]:
    params = api.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = N_CTX
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = params.flash_attn_type = 0
    params.offload_kqv = False
    params.embeddings, params.pooling_type = pooling >= 0, pooling
    context = api.llama_init_from_model(model, params)
    yield context
    api.llama_free(context)


def _run(context: Any, run: Any, ids: Ints, n_past: int) -> None:
    batch = api.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = int(token), n_past + i, 1
        batch.seq_id[i][0], batch.logits[i] = 0, 1
    if run(context, batch):
        raise RuntimeError("llama.cpp could not run a batch")
    api.llama_batch_free(batch)


def _rows(context: Any, ids: Ints, n_past: int) -> Floats:
    _run(context, api.llama_decode, ids, n_past)
    rows = [api.llama_get_logits_ith(context, i) for i in range(len(ids))]
    return np.stack([np.ctypeslib.as_array(row, (VOCAB,)).copy() for row in rows])


def _logits(context: Any, tokens: Ints) -> Floats:
    parts = [_rows(context, tokens[:-8], 0)]
    parts += [_rows(context, tokens[i : i + 1], i) for i in range(len(tokens) - 8, len(tokens))]
    return np.concatenate(parts)[-16:]


def _greedy(context: Any, token: int) -> Ints:
    chosen = []
    for i in range(24):
        token = int(_rows(context, np.array([token], np.int32), i)[-1].argmax())
        chosen.append(token)
    return np.array(chosen, np.int32)


def _states(model: Any, tokens: Ints) -> dict[str, Any]:
    out: dict[str, Any] = {"tokens": tokens}
    with _context(model, 0) as context:
        _run(context, api.llama_encode, tokens, 0)
        rows = [api.llama_get_embeddings_ith(context, i) for i in range(len(tokens))]
        out["states"] = np.stack([np.ctypeslib.as_array(row, (N,)).copy() for row in rows])
    with _context(model, 1) as context:
        _run(context, api.llama_encode, tokens, 0)
        mean = api.llama_get_embeddings_seq(context, 0)
        out["mean"] = np.ctypeslib.as_array(mean, (N,)).copy()
    return out


def record(name: str, path: Path) -> dict[str, Any]:
    """Return all arrays of one model."""
    model = api.llama_model_load_from_file(str(path).encode(), api.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp cannot load {path}")
    rng = np.random.Generator(np.random.Philox(key=[2, zlib.crc32(name.encode())]))
    first, second = (rng.integers(3, VOCAB, n).astype(np.int32) for n in (150, 140))
    if not api.llama_model_has_decoder(model):
        return _states(model, first)
    if not api.llama_model_has_encoder(model):
        with _context(model) as context:
            return {"tokens": first[:28], "logits": _logits(context, first[:28])}
    second[0] = api.llama_model_decoder_start_token(model)
    out: dict[str, Any] = {"source": first, "tokens": second}
    with _context(model) as context:
        _run(context, api.llama_encode, first, 0)
        out["logits"] = _logits(context, second)
    with _context(model) as context:
        _run(context, api.llama_encode, first, 0)
        out["greedy"] = _greedy(context, int(second[0]))
    return out


def main(folder: str, target: str) -> None:
    """Record all models of a folder."""
    api.llama_backend_init()
    api.llama_log_set(_log, ctypes.c_void_p())
    arrays = {
        f"{path.stem}/{key}": value
        for path in sorted(Path(folder).glob("*.gguf"))
        for key, value in record(path.stem, path).items()
    }
    np.savez_compressed(target, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
