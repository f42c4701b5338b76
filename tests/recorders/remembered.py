"""Records `data/remembered.npz`: what llama.cpp saves of sequences of many kinds of models.

`python -m recorders.remembered FOLDER OUT.npz`, where llama_cpp is installed. The folder has the
models NAME.gguf that `variants/remembered.py` writes.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import llama_cpp as api
import numpy as np
from variants.remembered import N_CTX, N_TOKENS, SAVED, Saved, sampled, tokens

_TYPES = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20,
    "bf16": 30,
}  # fmt: skip


def main(models: str, out: str) -> None:
    """Record every model."""
    arrays = {}
    for name, saved in SAVED.items():
        for key, value in _record(Path(models) / f"{name}.gguf", saved).items():
            arrays[f"{name}/{key}"] = value
    np.savez_compressed(out, **arrays)


def _record(path: Path, saved: Saved) -> dict[str, Any]:
    """Decode, save in both forms, and decode two tokens more."""
    model = api.llama_model_load_from_file(bytes(path), api.llama_model_default_params())
    n_vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
    ids = tokens(n_vocab)
    found: dict[str, Any] = {}
    context = api.llama_init_from_model(model, _settings(saved))
    _decode(context, ids[:N_TOKENS], n_vocab)
    array = (api.llama_token * N_TOKENS)(*ids[:N_TOKENS])
    with tempfile.TemporaryDirectory() as folder:
        files = {form: Path(folder) / form for form in ("ggsq", "ggsn")}
        api.llama_state_seq_save_file(context, bytes(files["ggsq"]), 0, array, N_TOKENS)
        api.llama_state_save_file(context, bytes(files["ggsn"]), array, N_TOKENS)
        for form in saved.forms:
            found[form] = np.frombuffer(files[form].read_bytes(), np.uint8)
        if not saved.forms:
            found["sampled"] = sampled(files["ggsq"].read_bytes())
    found["logits"] = np.stack([_decode(context, [token], n_vocab) for token in ids[N_TOKENS:]])
    api.llama_free(context)
    api.llama_model_free(model)
    return found


def _settings(saved: Saved) -> Any:
    settings = api.llama_context_default_params()
    settings.n_ctx, settings.n_threads, settings.n_threads_batch = N_CTX, 1, 1
    settings.flash_attn_type = int(saved.flash)
    keys, *values = saved.kv_dtype.split("/")
    settings.type_k, settings.type_v = _TYPES[keys], _TYPES[values[0] if values else keys]
    return settings


def _decode(context: Any, ids: list[int], n_vocab: int) -> Any:
    array = (api.llama_token * len(ids))(*ids)
    if code := api.llama_decode(context, api.llama_batch_get_one(array, len(ids))):
        raise RuntimeError(f"llama_decode returned {code}")
    logits = api.llama_get_logits_ith(context, -1)
    return np.ctypeslib.as_array(logits, (n_vocab,)).copy()


if __name__ == "__main__":
    main(*sys.argv[1:])
