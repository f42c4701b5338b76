"""Models and tokens for tests of taking tokens out of caches, the same for all who compute them."""

from pathlib import Path

import numpy as np

N_CTX, N_TOKENS = 512, 230
REMOVED = (10, 60), (0, 33), (5, 70)
"""Ranges taken out one after the other, each followed by the tokens of `after`."""

MODELS = (
    "llama-frequency-factors", "qwen3", "gemma3-windows", "gptneox-sequential",
    "phi2-partly-turned", "chatglm-half-turned", "bloom", "talkie", "minicpm3-parts",
    "deepseek2-yarn-groups",
)  # fmt: skip


def write_model(name: str, path: Path) -> Path:
    """Write one of the models to `path`, and return `path`."""
    from variants import variant_model
    from variants.latent import VARIANTS, latent_model

    return latent_model(name, path) if name in VARIANTS else variant_model(name, path)


def write_models(folder: Path) -> None:
    """Write the models that `recorders/shift.py` reads."""
    for name in MODELS:
        write_model(name, folder / f"{name}.gguf")


def tokens(n_vocab: int) -> list[int]:
    """Tokens before anything is taken out."""
    return [int(t) for t in np.random.default_rng(8).integers(0, n_vocab, N_TOKENS)]


def after(n_vocab: int) -> list[int]:
    """Tokens appended after each removal."""
    return [int(t) for t in np.random.default_rng(9).integers(0, n_vocab, 2)]
