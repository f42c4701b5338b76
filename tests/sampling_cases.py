"""The cases that tests/data/sampling_golden.npz records, and their logits.

Shared by the recording script (recorders/sampling.py) and the tests, so that both feed the
same numbers. A case is a chain in text form; "penalties" counts the tokens 1 to 9 as a prompt.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PROMPT = (1, 2, 3, 4, 5, 6, 7, 8, 9, 3, 4)
DEFAULT = "top_k:40", "top_p:0.95", "min_p:0.05", "temperature:0.8"


@dataclass(frozen=True)
class Case:
    """One chain, run for `n_steps` tokens on `n_rows` recurring rows of logits."""

    samplers: tuple[str, ...]
    seed: int = 1
    n_vocab: int = 512
    n_steps: int = 24
    n_rows: int = 24
    scale: float = 14.0


def make_logits(case: Case) -> NDArray[np.float32]:
    """Return float32 `[n_rows, V]`: distinct values from integer draws and exact products."""
    rng = np.random.RandomState(case.n_vocab)
    n = case.n_vocab
    rows = [(rng.permutation(n) * 2 + 1) / (2 * n) * 2 - 1 for _ in range(case.n_rows)]
    x = np.array(rows)
    return (case.scale * x * x * x).astype(np.float32)


def _cases() -> dict[str, Case]:
    cases = {
        "dist": Case(()),
        "dist_flat": Case((), scale=2.0),
        "greedy": Case(("greedy",)),
        "temperature_zero": Case(("temperature:0",)),
        "temperature_low": Case(("temperature:0.3",)),
        "temperature_high": Case(("temperature:1.9",)),
        "dynamic": Case(("temperature:0.8:0.5:1.0",)),
        "dynamic_after_top_k": Case(("top_k:20", "temperature:1.0:2.0:0.7")),
        "top_k_1": Case(("top_k:1",)),
        "top_k_9": Case(("top_k:9",)),
        "top_k_200": Case(("top_k:200",)),
        "top_p_small": Case(("top_p:0.1",)),
        "top_p": Case(("top_p:0.9",)),
        "top_p_keep": Case(("top_p:0.1:7",)),
        "top_p_flat_large": Case(("top_p:0.9",), n_vocab=4096, n_steps=6, n_rows=3, scale=3.0),
        "min_p": Case(("min_p:0.05",)),
        "min_p_sorted": Case(("top_k:100", "min_p:0.3")),
        "min_p_keep": Case(("min_p:0.9:11",)),
        "typical_p": Case(("typical_p:0.6",)),
        "typical_p_keep": Case(("typical_p:0.1:9",)),
        "top_n_sigma": Case(("top_n_sigma:1.0",)),
        "top_n_sigma_top_k": Case(("top_n_sigma:0.5", "top_k:40", "temperature:0.9")),
        "xtc": Case(("xtc:0.5:0.05",)),
        "xtc_always": Case(("xtc:1.0:0.02",)),
        "xtc_keep": Case(("xtc:1.0:0.02:510",)),
        "penalties": Case(("penalties:64:1.3:0.2:0.4",), scale=5.0, n_rows=2),
        "penalties_short": Case(("penalties:3:1.7:0:0", "top_k:5"), scale=5.0, n_rows=1),
        "penalties_after_top_k": Case(("top_k:30", "penalties:64:1.5:0.1:0.1"), n_rows=2),
        "penalties_then_greedy": Case(("penalties:64:1.1:0.3:0", "greedy"), scale=5.0, n_rows=1),
        "dry": Case(("dry:0.8:1.75:2:64", "top_k:4"), n_rows=3, n_steps=40),
        "dry_greedy": Case(("dry:0.5:1.5:1:32", "greedy"), n_rows=2, n_steps=60),
        "dry_short": Case(("dry:1.3:2.0:0:8", "top_k:6"), n_rows=2, n_steps=40),
        "adaptive_p": Case(("top_k:40", "adaptive_p:0.3:0.9")),
        "adaptive_p_off": Case(("min_p:0.05", "adaptive_p:-1:0.9")),
        "mirostat": Case(("temperature:0.8", "mirostat:5:0.1")),
        "mirostat_low": Case(("mirostat:1.5:0.3",), n_vocab=4096, n_rows=4),
        "mirostat_v2": Case(("temperature:0.8", "mirostat_v2:5:0.1")),
        "mirostat_v2_low": Case(("mirostat_v2:1.0:0.5",), n_vocab=4096, n_rows=4),
        "large_vocabulary": Case(DEFAULT, n_vocab=32768, n_rows=3, n_steps=12, scale=30.0),
        "everything": Case(
            (
                "penalties:64:1.1:0.1:0.1",
                "dry:0.8:1.75:2:64",
                "top_n_sigma:2.0",
                "top_k:40",
                "typical_p:0.95",
                "top_p:0.95",
                "min_p:0.02",
                "xtc:0.5:0.1",
                "temperature:0.9:0.3:1.0",
            ),
            n_rows=5,
            n_steps=60,
        ),
    }
    for seed in (0, 2, 42, 5489, 2**32 - 2):
        cases[f"default_seed_{seed}"] = Case(DEFAULT, seed=seed)
    return cases


CASES = _cases()
