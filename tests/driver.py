"""Runs a model file on a backend with page tables of its own: no public API needed."""

import os
from collections.abc import Callable, Sequence
from functools import cache

import metal_standin
import numpy as np
import pytest
from numpy.typing import NDArray

from jitllm import backends
from jitllm.backends.base import (
    PAGE_TOKENS,
    BackendUnavailable,
    Batch,
    Pool,
    Program,
    Segment,
    Tap,
)
from jitllm.backends.ir import Graph
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models.loading import open_model

metal_standin.use()
Ints = NDArray[np.int32]
_ALWAYS = {"cpu", "reference"}  # these need no device: that they do not open is a failure
_APART = {"metal", "vulkan"}  # these have tests of their own: software devices are slow


def devices() -> list[str]:
    """Backends that tests of all models run on: those whose device is there."""
    names = (name for name in backends.names() if name not in _APART)
    return [name for name in names if name in _ALWAYS or opens(name)]


def opens(name: str) -> bool:
    """Whether the device of a backend is here."""
    try:
        backends.open_backend(name).close()
    except BackendUnavailable:
        return False
    return True


def simulate_cuda(patch: pytest.MonkeyPatch) -> None:
    """Let the device "cuda" be the simulator where there is no other."""
    if not _has_cuda():
        patch.setenv("JITLLM_CUDA", "simulator")


@cache
def _has_cuda() -> bool:
    return opens("cuda")


class Runner:
    """One model, and one sequence of at most `n_ctx` tokens in the first pages of its caches.

    Its states go from one of two slots to the other at every run; position 0 starts from zeros.

    Parameters
    ----------
    path : path
    device, precision, kv_dtype, n_threads
        As for backends and pools.
    n_ctx : int
        Positions that the caches hold.
    max_tokens : int
        Rows of one run; longer inputs of `forward` are cut.
    taps : iterable of str
        Hook points, passed to `tap` of `forward`.
    edit : callable, optional
        Returns the graph to run in place of the file's.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "reference",
        precision: str = "exact",
        kv_dtype: str = "f32",
        n_threads: int | None = None,
        *,
        n_ctx: int = 256,
        max_tokens: int = 64,
        taps: Sequence[str] = (),
        edit: Callable[[Graph], Graph] = lambda graph: graph,
    ) -> None:
        with GGUFFile(path) as file:
            self.model = open_model(
                file, device, n_ctx=n_ctx, precision=precision, n_threads=n_threads
            )
        self.config, self.graph = self.model.config, edit(self.model.graph)
        self.backend = self.model.backend
        n_pages = -(-n_ctx // PAGE_TOKENS)
        self.tables: list[Ints] = [np.arange(n_pages, dtype=np.int32) for _ in self.graph.caches]
        self.pools: list[Pool] = [
            self.backend.new_pool(spec, n_pages, kv_dtype) for spec in self.graph.caches
        ]
        self.states = self.backend.new_states(self.graph.states, 2) if self.graph.states else None
        self._slots = -1, 0  # of the states so far, and of the next ones
        self.program: Program = self.backend.compile(
            self.graph, self.pools, max_tokens=max_tokens, taps=frozenset(taps)
        )

    def forward(
        self, tokens: Sequence[int] | Ints, n_past: int = 0, tap: Tap | None = None
    ) -> NDArray[np.float32]:
        """Logits [T, V] of all `tokens`, the first of which has position `n_past`."""
        ids = np.asarray(tokens, np.int32)
        step = self.program.max_tokens
        parts = [self._run(ids[i : i + step], n_past + i, tap) for i in range(0, len(ids), step)]
        return np.concatenate(parts)

    def _run(self, ids: Ints, n_past: int, tap: Tap | None) -> NDArray[np.float32]:
        rows = np.arange(len(ids), dtype=np.int32)
        state_in, state_out = self._slots if n_past else (-1, 0)
        segment = Segment(0, len(ids), n_past, self.tables, state_in, state_out)
        logits = self.program.run(Batch(ids, rows + np.int32(n_past), rows, [segment]), tap)
        self._slots = state_out, 1 - state_out
        return logits

    def close(self) -> None:
        """Free everything."""
        self.program.close()
        for pool in self.pools:
            pool.close()
        if self.states:
            self.states.close()
        self.backend.close()

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def nmse(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Sum of squared differences over sum of squares of `expected`."""
    difference = got.astype(np.float64) - expected
    return float((difference**2).sum() / (expected.astype(np.float64) ** 2).sum())
