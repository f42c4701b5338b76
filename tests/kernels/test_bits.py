"""The same bits at every machine level: digests of kernel outputs, recorded once.

A change of a kernel's arithmetic changes its digest; record it anew then. That all levels agree on
the new one is what the slow test checks, by running the kernels' tests at each level.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jitllm.kernels import host, jit
from jitllm.kernels import level as levels

FILES = ["norm", "activation", "elementwise", "rope", "attention", "moe", "vmath", "bits",
         "decoder_rows", "cache_types"]  # fmt: skip


def _numbers(*shape: int, seed: int = 1, size: float = 4.0) -> np.ndarray:
    """Return float32 in [-size, size], the same on every machine and with every NumPy."""
    hashed = (np.arange(np.prod(shape), dtype=np.uint64) * 2654435761 + seed * 40503) % 2**32
    mixed = (hashed ^ (hashed >> np.uint64(15))) * 2246822519 % 2**32
    return (size * (mixed.astype(np.float64) / 2**31 - 1)).astype(np.float32).reshape(shape)


def _norms() -> list[np.ndarray]:
    x, w, b = _numbers(5, 1000), _numbers(1000, seed=2), _numbers(1000, seed=3)
    return [host.rms_norm(x, w), host.rms_norm(x, w[:50], group=50), host.layer_norm(x, w, b)]


def _activations() -> list[np.ndarray]:
    x, up = _numbers(3, 3000, size=20), _numbers(3, 3000, seed=2)
    acts = ["silu", "gelu", "gelu_erf", "gelu_quick", "relu", "relu_squared", "sigmoid", "tanh"]
    return [host.glu(x, up, act) for act in acts] + [host.soft_cap(x, 7.0)]


def _ropes() -> list[np.ndarray]:
    x, frequencies = _numbers(50, 3 * 40), np.abs(_numbers(16, seed=2))
    positions = np.arange(50) * 20011
    return [
        host.rope(
            x, positions, n_heads=3, head_dim=40, n_rot=32, frequencies=frequencies, kind=kind
        )
        for kind in ("norm", "neox")
    ]


def _attentions() -> list[np.ndarray]:
    q, k, v = _numbers(70, 6 * 40), _numbers(700, 2 * 40, seed=2), _numbers(700, 2 * 72, seed=3)
    at = np.arange(630, 700), np.arange(700)
    options = dict(n_heads=6, n_kv_heads=2, scale=0.2)
    return [
        host.attention(q, k, v, *at, kv=kv, **options, **more)  # type: ignore[arg-type, misc]
        for kv in ("f16", "f32")
        for more in ({}, {"window": 100, "soft_cap": 9.0, "sinks": _numbers(6, seed=4)})
    ]


def _rare_attentions() -> list[np.ndarray]:
    q, k, v = _numbers(70, 6 * 40), _numbers(700, 2 * 40, seed=2), _numbers(700, 2 * 72, seed=3)
    at, slopes = (np.arange(630, 700), np.arange(700)), np.abs(_numbers(6, seed=4, size=0.1))
    forms: list[dict[str, Any]] = [
        {"slopes": slopes},
        {"window": 100, "chunked": True},
        {"window": 101, "causal": False},
        {"slopes": slopes, "causal": False},
    ]
    return [
        host.attention(q, k, v, *at, kv=kv, n_heads=6, n_kv_heads=2, scale=0.2, **form)
        for kv in ("f16", "f32")
        for form in forms
    ]


def _tables_of_distances() -> list[np.ndarray]:
    q, k, v = _numbers(70, 6 * 40), _numbers(700, 2 * 40, seed=2), _numbers(700, 2 * 72, seed=3)
    at, table = (np.arange(630, 700), np.arange(700)), _numbers(6, 257, seed=5)
    return [
        host.attention(
            q, k, v, *at, kv="f16", n_heads=6, n_kv_heads=2, scale=0.2, table=table, causal=causal
        )
        for causal in (True, False)
    ]


def _routing() -> list[np.ndarray]:
    logits = _numbers(30, 60)
    return [
        x
        for gating in ("softmax", "sigmoid", "softmax_topk")
        for x in host.top_k_experts(logits, 4, gating=gating, norm=True)
    ]


RECORDED: dict[Callable[[], list[np.ndarray]], str] = {
    _norms: "83df6ab06d141db5",
    _activations: "2912b0073a91b30c",
    _ropes: "c67bcdb8f81d33a1",
    _attentions: "62b41bca59ae3d4e",
    _rare_attentions: "179f7747edb0adf2",
    _tables_of_distances: "b0c52b95f8e8320d",
    _routing: "78c94c47781038ee",
}


@pytest.mark.parametrize("outputs", RECORDED, ids=lambda f: f.__name__)
def test_outputs_have_the_recorded_bits(outputs: Callable[[], list[np.ndarray]]) -> None:
    digest = hashlib.sha256()
    for array in outputs():
        assert not np.isnan(array).any()
        digest.update(np.ascontiguousarray(array).tobytes())
    assert digest.hexdigest()[:16] == RECORDED[outputs]


@pytest.mark.parametrize(
    ("module", "function", "params"),
    [
        ("norm", "rms_norm", {}),
        ("activation", "glu", {"act": "gelu_erf"}),
        ("rope", "rope", {"kind": "norm"}),
        ("kv_write", "kv_write", {"kv": "f16"}),
        ("moe", "top_k_experts", {"gating": "softmax", "norm": True}),
    ],
)
def test_kernels_call_only_instructions(module: str, function: str, params: Any) -> None:
    """No library: another machine's would round its own way."""
    code = jit.compile_ir(module, function, **params)
    outside = re.findall(r"^declare .*@([\w.$]+)\(", code, re.MULTILINE)
    assert outside and all(name.startswith("llvm.") for name in outside)


@pytest.mark.slow
@pytest.mark.parametrize("level", [x.name for x in levels.available()])
def test_all_tests_pass_at_every_level(level: str) -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [str(here / f"test_{name}.py") for name in FILES]
    environment = {**os.environ, "JITLLM_SIMD": level, "PYTHONSAFEPATH": "1"}
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=here.parents[1]
    )
    assert run.returncode == 0, run.stdout[-4000:]
