"""Models whose sequences llama.cpp saved, one for each kind of memory, and what was saved.

`python -m variants.remembered FOLDER` writes them, and `recorders/remembered.py`, run where
llama_cpp is installed, makes `data/remembered.npz` of them. It holds for each, of llama.cpp 0.5.0
with one thread, what it saved behind `N_TOKENS` tokens, and the logits [2, V] of two more.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tiny import DATA

N_CTX, N_TOKENS = 512, 12
ALL, STEP = 300, 41
"""Of a sampled file the first words, then every so many: words of 4 bytes."""


class Saved(NamedTuple):
    """How a sequence of a model was saved.

    Attributes
    ----------
    kv_dtype : str
        Types of keys and values.
    flash : bool
        Whether llama.cpp ran with flash attention.
    forms : tuple of str
        Of the files recorded whole: "ggsq", "ggsn". The others' words are sampled.
    """

    kv_dtype: str = "f32"
    flash: bool = False
    forms: tuple[str, ...] = ()


BOTH = ("ggsq", "ggsn")
SAVED = {
    "rwkv6": Saved(forms=BOTH),
    "lfm2-windows": Saved("q5_1/iq4_nl", flash=True, forms=BOTH),
    "qwen2vl-dense.gqa": Saved("f16", forms=BOTH),
    "llama-yarn": Saved("q8_0/q4_0", flash=True, forms=("ggsq",)),
    "gemma3-windows": Saved("q4_1", flash=True, forms=("ggsq",)),
    "deepseek2-yarn-groups": Saved("q8_0", flash=True, forms=("ggsq",)),
    "deepseek32-chosen": Saved("f16", forms=("ggsq",)),
    "minimax-m3-blocks": Saved("f16", flash=True, forms=("ggsq",)),
    "qwen35-still-pairs": Saved("bf16", forms=("ggsq",)),
    "mamba-normed": Saved(),
    "mamba2-heads": Saved(),
    "jamba-experts": Saved(),
    "falcon-h1-heads": Saved(),
    "granitehybrid-scales": Saved(),
    "nemotron_h-network": Saved(),
    "plamo2-heads": Saved(),
    "minimax-01-heads": Saved(),
    "qwen3next-one-matrix": Saved(),
    "kimi-linear-heads": Saved(),
    "bailingmoe3-limits": Saved(),
    "rwkv6qwen2": Saved(),
    "rwkv7": Saved(),
    "arwkv7": Saved(),
    "hy_v4-shared": Saved(),
    "dots3note-windows": Saved(),
}


def write_model(name: str, path: Path) -> Path:
    """Write one of the models to `path`, and return `path`."""
    from tiny import conformance_model

    from variants import VARIANTS, variant_model
    from variants.delta import DELTA_VARIANTS, delta_model
    from variants.latent import VARIANTS as LATENT_VARIANTS
    from variants.latent import latent_model
    from variants.recurrent import RECURRENT_VARIANTS, recurrent_model
    from variants.rwkv import RWKV_VARIANTS, rwkv_model

    makers: list[tuple[Any, Any]] = [
        (VARIANTS, variant_model), (DELTA_VARIANTS, delta_model), (RWKV_VARIANTS, rwkv_model),
        (LATENT_VARIANTS, latent_model), (RECURRENT_VARIANTS, recurrent_model),
    ]  # fmt: skip
    make = next((make for names, make in makers if name in names), conformance_model)
    return Path(make(name, path))


def tokens(n_vocab: int) -> list[int]:
    """Tokens before the save, and two behind it."""
    return [int(t) for t in np.random.default_rng(7).integers(0, n_vocab, N_TOKENS + 2)]


def sampled(content: bytes) -> NDArray[np.uint32]:
    """Return the words of a file that are recorded."""
    words = np.frombuffer(content, "<u4")
    return np.concatenate([words[:ALL], words[ALL::STEP]])


def remembered(name: str) -> dict[str, NDArray[Any]]:
    """What is recorded of a model: "ggsq", "ggsn" or "sampled", and "logits"."""
    with np.load(DATA / "remembered.npz") as data:
        return {
            key.removeprefix(f"{name}/"): data[key] for key in data if key.startswith(f"{name}/")
        }


if __name__ == "__main__":
    for model in SAVED:
        write_model(model, Path(sys.argv[1]) / f"{model}.gguf")
