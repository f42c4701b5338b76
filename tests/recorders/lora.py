"""Records `data/lora.npz`: what llama.cpp gives for the models and adapters of `variants/lora.py`.

`python -m recorders.lora FOLDER OUT.npz`, where llama_cpp is installed, after
`python -m variants.lora FOLDER` elsewhere.
"""

import sys
import zlib
from pathlib import Path
from typing import Any

import llama_cpp as api
import numpy as np

SCALES, N_TOKENS, ROWS = (0.75, -0.5), 20, 4


def _rows(model: Any, adapters: list[Any], tokens: list[int], decodes: bool) -> Any:
    options = api.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = 64
    options.type_k = options.type_v = options.flash_attn_type = 0
    options.n_threads = options.n_threads_batch = 1
    options.embeddings, options.pooling_type = not decodes, 0
    context = api.llama_init_from_model(model, options)
    handles = (api.llama_adapter_lora_p_ctypes * len(adapters))(*adapters)
    scales = (api.ctypes.c_float * len(adapters))(*SCALES[: len(adapters)])
    assert api.llama_set_adapters_lora(context, handles, len(adapters), scales) == 0
    batch = api.llama_batch_init(N_TOKENS, 0, 1)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, True
        batch.seq_id[i][0] = 0
    batch.n_tokens = N_TOKENS
    assert (api.llama_decode if decodes else api.llama_encode)(context, batch) == 0
    vocab = api.llama_model_get_vocab(model)
    width = api.llama_vocab_n_tokens(vocab) if decodes else api.llama_model_n_embd(model)
    row = api.llama_get_logits_ith if decodes else api.llama_get_embeddings_ith
    found = [
        np.ctypeslib.as_array(row(context, i), (width,)).copy()
        for i in range(N_TOKENS - ROWS, N_TOKENS)
    ]
    api.llama_free(context)
    return np.stack(found)


def main(folder: str, out: str) -> None:
    """Record all models of a folder."""
    arrays: dict[str, Any] = {}
    for path in sorted(Path(folder).glob("*.gguf")):
        params = api.llama_model_default_params()
        params.use_extra_bufts = False
        model = api.llama_model_load_from_file(str(path).encode(), params)
        n_vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
        rng = np.random.Generator(np.random.Philox(key=[3, zlib.crc32(path.stem.encode())]))
        tokens = [int(token) for token in rng.integers(3, n_vocab, N_TOKENS)]
        adapters = [
            api.llama_adapter_lora_init(model, str(path.with_suffix(f".lora{i}")).encode())
            for i in (0, 1)
        ]
        arrays[f"{path.stem}/tokens"] = np.array(tokens, np.int32)
        parts = [_rows(model, adapters[:n], tokens, "bert" not in path.stem) for n in (0, 1, 2)]
        arrays[f"{path.stem}/rows"] = np.stack(parts)
    np.savez_compressed(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
