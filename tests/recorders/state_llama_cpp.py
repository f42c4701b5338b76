"""Records `tests/data/state_llama_cpp.npz`: states of stories260K as llama.cpp saves them.

`python -m recorders.state_llama_cpp stories260K.gguf OUT.npz`, where llama_cpp 0.3.36 is.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

TOKENS = [1, 403, 407, 261, 378, 432, 268, 393, 285, 401, 274]
NEXT = 396


def main(model_path: str, out: str) -> None:
    """Decode a few tokens with and without flash attention, and save in both forms."""
    arrays: dict[str, Any] = {"tokens": np.array(TOKENS, np.int32), "next": np.int32(NEXT)}
    model = llama_cpp.llama_model_load_from_file(
        model_path.encode(), llama_cpp.llama_model_default_params()
    )
    ids = (llama_cpp.llama_token * len(TOKENS))(*TOKENS)
    for name, flash in (("plain", 0), ("flash", 1)):
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.flash_attn_type = 128, flash
        context = llama_cpp.llama_init_from_model(model, settings)
        _decode(context, TOKENS)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state"
            llama_cpp.llama_state_seq_save_file(context, bytes(path), 0, ids, len(TOKENS))
            arrays[f"{name}.ggsq"] = np.frombuffer(path.read_bytes(), np.uint8)
            llama_cpp.llama_state_save_file(context, bytes(path), ids, len(TOKENS))
            arrays[f"{name}.ggsn"] = np.frombuffer(path.read_bytes(), np.uint8)
        arrays[f"{name}.logits"] = _decode(context, [NEXT])
        llama_cpp.llama_free(context)
    np.savez_compressed(out, **arrays)


def _decode(context: Any, tokens: list[int]) -> Any:
    ids = (llama_cpp.llama_token * len(tokens))(*tokens)
    batch = llama_cpp.llama_batch_get_one(ids, len(tokens))
    if code := llama_cpp.llama_decode(context, batch):
        raise RuntimeError(f"llama_decode returned {code}")
    vocab = llama_cpp.llama_model_get_vocab(llama_cpp.llama_get_model(context))
    logits = llama_cpp.llama_get_logits_ith(context, -1)
    return np.ctypeslib.as_array(logits, (llama_cpp.llama_vocab_n_tokens(vocab),)).copy()


if __name__ == "__main__":
    main(*sys.argv[1:])
