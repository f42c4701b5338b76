"""Record what llama.cpp's samplers do into tests/data/sampling_golden.npz.

`python -m recorders.sampling`, where llama_cpp is installed (recorded with 0.3.36). Per case of
`sampling_cases.py` the file holds the tokens, and the ids and probabilities of the candidates after
the first step.
"""

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray
from sampling_cases import CASES, PROMPT, Case, make_logits

DATA = Path(__file__).parents[1] / "data"

PAIR = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


def add(chain: Any, text: str, case: Case) -> bool:
    """Add a sampler in text form to a chain; return whether it selects a token."""
    name, *numbers = text.split(":")
    a = [float(number) for number in numbers]
    seed = case.seed
    keep = int(a[-1]) if len(a) == {"xtc": 3}.get(name, 2) else 0
    makers: dict[str, Any] = {
        "greedy": lambda: llama_cpp.llama_sampler_init_greedy(),
        "dist": lambda: llama_cpp.llama_sampler_init_dist(seed),
        "temperature": lambda: llama_cpp.llama_sampler_init_temp_ext(*a, *(0.0, 1.0)[len(a) - 1 :]),
        "top_k": lambda: llama_cpp.llama_sampler_init_top_k(int(a[0])),
        "top_p": lambda: llama_cpp.llama_sampler_init_top_p(a[0], keep),
        "min_p": lambda: llama_cpp.llama_sampler_init_min_p(a[0], keep),
        "typical_p": lambda: llama_cpp.llama_sampler_init_typical(a[0], keep),
        "top_n_sigma": lambda: llama_cpp.llama_sampler_init_top_n_sigma(a[0]),
        "xtc": lambda: llama_cpp.llama_sampler_init_xtc(a[0], a[1], keep, seed),
        "penalties": lambda: llama_cpp.llama_sampler_init_penalties(
            case.n_vocab, int(a[0]), *a[1:]
        ),
        "dry": lambda: llama_cpp.llama_sampler_init_dry(
            None, a[0], a[1], int(a[2]), int(a[3]), None, 0
        ),
        "adaptive_p": lambda: llama_cpp.llama_sampler_init_adaptive_p(a[0], a[1], seed),
        "mirostat": lambda: llama_cpp.llama_sampler_init_mirostat(case.n_vocab, seed, *a, 100),
        "mirostat_v2": lambda: llama_cpp.llama_sampler_init_mirostat_v2(seed, *a),
    }
    llama_cpp.llama_sampler_chain_add(chain, makers[name]())
    return name in ("greedy", "dist", "adaptive_p", "mirostat", "mirostat_v2")


def record(case: Case) -> tuple[list[int], NDArray[np.void]]:
    """Run a case; return its tokens and the first step's candidates."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    if not any([add(chain, text, case) for text in case.samplers]):
        add(chain, "dist", case)
    for token in PROMPT:
        llama_cpp.llama_sampler_accept(chain, token)
    tokens, first = [], np.zeros(0, dtype=PAIR)
    rows = make_logits(case)
    for step in range(case.n_steps):
        data = np.zeros(case.n_vocab, dtype=PAIR)
        data["id"] = np.arange(case.n_vocab)
        data["logit"] = rows[step % case.n_rows]
        pointer = data.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data))
        array = llama_cpp.llama_token_data_array(pointer, case.n_vocab, -1, False)
        llama_cpp.llama_sampler_apply(chain, ctypes.byref(array))
        left = np.ctypeslib.as_array(array.data, shape=(array.size,)).view(PAIR)
        tokens.append(int(left["id"][array.selected]))
        if step == 0:
            first = left.copy()
        llama_cpp.llama_sampler_accept(chain, tokens[-1])
    llama_cpp.llama_sampler_free(chain)
    return tokens, first


def main() -> None:
    """Write the file."""
    arrays: dict[str, Any] = {}
    for name, case in CASES.items():
        tokens, first = record(case)
        arrays[f"{name}.tokens"] = np.array(tokens, dtype=np.int32)
        arrays[f"{name}.ids"] = first["id"]
        arrays[f"{name}.probs"] = first["p"]
    np.savez_compressed(DATA / "sampling_golden.npz", **arrays)


if __name__ == "__main__":
    main()
