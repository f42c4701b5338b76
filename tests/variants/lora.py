"""Models with LoRA adapters, for `recorders/lora.py` and the tests of what it recorded.

`data/lora.npz` holds of each, by llama.cpp on `tokens` in one batch, with `SCALES` of the adapters,
one thread, F32 caches and flash attention off: NAME/tokens; NAME/rows, the logits (an encoder's
hidden states) of the last ROWS tokens, with the first adapter alone and with both.

Run as a program it writes what `recorders/lora.py` reads: `python -m variants.lora FOLDER`.
"""

import sys
import zlib
from pathlib import Path

import numpy as np
from models import model_path
from tiny import conformance_model

from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.lora import LoraAdapter
from jitllm.llm.lora_graph import EMBEDDINGS, Factors
from variants.encoders import encoder_model

NAMES = ("stories260K", "llama-moe.routed", "gpt-oss-moe.routed", "jina-bert-v3")
SCALES = (0.75, -0.5)
N_TOKENS, ROWS = 20, 4
_RANKS = (3, 5)
_ALPHAS = (8.0, 0.0)


def model_file(name: str, folder: Path) -> Path:
    """Write a model into a folder, or say where it is."""
    if name == "stories260K":
        return model_path(name)
    path = folder / f"{name}.gguf"
    return encoder_model(name, path) if name.startswith("jina") else conformance_model(name, path)


def tokens(name: str, n_vocab: int) -> list[int]:
    """The tokens of a model's record."""
    rng = np.random.Generator(np.random.Philox(key=[3, zlib.crc32(name.encode())]))
    return [int(token) for token in rng.integers(3, n_vocab, N_TOKENS)]


def adapter(path: Path, number: int) -> LoraAdapter:
    """Make an adapter for a model: number 0 of all its matrices, number 1 of attention alone."""
    made = {}
    with GGUFFile(path) as file:
        untied = "output.weight" in file.tensors or "token_embd_norm.weight" in file.tensors
        for name, info in file.tensors.items():
            is_wanted = name.startswith("blk.") or name == "output.weight"
            is_wanted |= name == EMBEDDINGS and untied  # tied ones end llama.cpp's process
            if number == 1:
                is_wanted = ".attn_" in name
            if is_wanted and name.endswith(".weight") and len(info.shape) > 1:
                made[name] = factors(name, info.shape, _RANKS[number])
        architecture = file.get("general.architecture", str)
    return LoraAdapter(architecture, _ALPHAS[number], made)


def factors(name: str, shape: tuple[int, ...], rank: int) -> Factors:
    """Make the factors of one matrix; what they add is about as large as its input."""
    rng = np.random.Generator(np.random.Philox(key=[rank, zlib.crc32(name.encode())]))
    *experts, n, k = shape
    a = rng.standard_normal((*experts, rank, k)) / np.sqrt(k)
    b = rng.standard_normal((*experts, n, rank)) / rank
    if name == EMBEDDINGS:  # rows of a are chosen
        a, b = rng.standard_normal((n, rank)) / 3, rng.standard_normal((k, rank)) / 3
    return Factors(a.astype(np.float32), b.astype(np.float32))


def main(folder: str) -> None:
    """Write all models and adapters."""
    for name in NAMES:
        path = model_file(name, Path(folder))
        target = Path(folder, f"{name}.gguf")
        if path != target:
            target.write_bytes(path.read_bytes())
        for number in (0, 1):
            adapter(path, number).save(Path(folder, f"{name}.lora{number}"))


if __name__ == "__main__":
    main(*sys.argv[1:])
