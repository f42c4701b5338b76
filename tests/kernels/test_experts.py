"""Mixture of experts: routing into slots, products expert by expert, and the sum."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from blocks import random_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from launch import (
    TILE_BLOCKS,
    TILE_ROWS,
    Floats,
    Matrix,
    Memory,
    bits,
    matmul,
    pack,
    rows_of,
    run_block,
)

from jitllm.kernels import abi, formats, host, packed, reference

QUANTIZED = [name for name in formats.names() if formats.get(name).planes]
MODES = [("Q4_K", False), ("Q8_0", False), ("Q6_K", True), ("F16", False), ("F32", False)]
Ints = npt.NDArray[np.int32]


class Routed:
    """The slots of tokens' experts, by `abi.ROUTE`."""

    def __init__(self, ids: Ints, n_experts: int) -> None:
        self.ids = np.ascontiguousarray(ids, np.int32)
        n, self.k = self.ids.shape
        most = abi.expert_slots(n, self.k, n_experts, TILE_ROWS)
        self._index, self._experts = Memory(4 * most), Memory(4 * most)
        self.slot_of = np.full(self.ids.shape, -1, np.int32)
        self.run = run_block(n)
        host.launch(
            abi.ROUTE, self.run, params={"tile_rows": TILE_ROWS}, ids=self.ids.ctypes.data,
            n_experts=n_experts, k=self.k, index=self._index.at, tile_experts=self._experts.at,
            slot_of=self.slot_of.ctypes.data,
        )  # fmt: skip
        self._index.check()
        self._experts.check()
        self.n_slots = int(self.run[abi.N_SLOTS])
        self.tile_rows = 1 if n == 1 else TILE_ROWS
        assert self.n_slots <= most
        self.index = self._index.bytes.view(np.int32)[: self.n_slots]
        self.experts = self._experts.bytes.view(np.int32)[: self.n_slots // self.tile_rows]

    def gather(self, x: Floats) -> Floats:
        """Return the row of x for every slot, zeros for those without."""
        rows, y = rows_of(x), host.empty_rows(self.n_slots, x.shape[1])
        host.launch(
            abi.GATHER, self.run, params={}, x=rows.ctypes.data, ldx=rows.strides[0],
            index=self.index.ctypes.data, y=y.ctypes.data, ldy=y.strides[0], width=x.shape[1],
        )  # fmt: skip
        return y

    def matmul(
        self,
        w: Matrix,
        x: Floats,
        *,
        exact: bool = False,
        scales: Floats | None = None,
        biases: Floats | None = None,
    ) -> Floats:
        """Return y for every slot; x has a row a slot."""
        as_float = exact or not formats.get(w.name).planes
        size = max(384 << 10, TILE_BLOCKS * (w.k // 32) * 768, 64 * (512 + self.n_slots))
        scratch, y = Memory(2 * size), host.empty_rows(self.n_slots, w.n)
        added = None if biases is None else rows_of(biases)
        values: dict[str, Any] = {
            "w": w.memory.at, "n": w.n, "k": w.k, "y": y.ctypes.data, "ldy": y.strides[0],
            "tile_experts": self._experts.at, "matrix_bytes": w.bytes_each, "scratch": scratch.at,
            "scales": 0 if scales is None else scales.ctypes.data, "scratch_bytes": size,
            "biases": 0 if added is None else added.ctypes.data,
        }  # fmt: skip
        params: dict[str, Any] = {"fmt": w.name}
        rows = rows_of(x)
        if as_float:
            values |= {"x": rows.ctypes.data, "ldx": rows.strides[0]}
            params["tile_rows"] = TILE_ROWS
        else:
            kept = self._quantize(rows)
            values["x"] = kept.at
        op = abi.EXPERT_MATMUL_FLOAT if as_float else abi.EXPERT_MATMUL
        host.launch(op, self.run, params=params, **values)
        scratch.check()
        return y

    def _quantize(self, rows: Floats) -> Memory:
        memory = Memory(packed.activation_bytes(self.n_slots, rows.shape[1], self.tile_rows))
        host.launch(
            abi.QUANTIZE, self.run, params={"tile_rows": TILE_ROWS}, rows=abi.N_SLOTS,
            x=rows.ctypes.data, ldx=rows.strides[0], out=memory.at, width=rows.shape[1],
        )  # fmt: skip
        memory.check()
        return memory

    def weigh(self, x: Floats, weights: Floats) -> Floats:
        """Return the slots' rows times their weights."""
        y = rows_of(x)
        host.launch(
            abi.WEIGH, self.run, params={}, slot_of=self.slot_of.ctypes.data, k=self.k,
            weights=weights.ctypes.data, y=y.ctypes.data, ldy=y.strides[0], width=x.shape[1],
        )  # fmt: skip
        return y

    def combine(self, x: Floats, weights: Floats | None) -> Floats:
        """Return the sum of each token's slots, weighted unless `weights` is None."""
        rows, y = rows_of(x), host.empty_rows(len(self.ids), x.shape[1])
        host.launch(
            abi.COMBINE, self.run, params={}, x=rows.ctypes.data, ldx=rows.strides[0],
            slot_of=self.slot_of.ctypes.data, k=self.k,
            weights=0 if weights is None else weights.ctypes.data,
            y=y.ctypes.data, ldy=y.strides[0], width=x.shape[1],
        )  # fmt: skip
        return y


def _ids(n: int, k: int, n_experts: int, seed: int = 0) -> Ints:
    rng = np.random.default_rng([seed, n, k, n_experts])
    return np.stack([rng.permutation(n_experts)[:k] for _ in range(n)]).astype(np.int32)


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(1, 40), n_experts=st.integers(1, 20), k=st.integers(1, 6), seed=st.integers(0, 99)
)
def test_every_pair_has_one_slot_of_its_expert(n: int, n_experts: int, k: int, seed: int) -> None:
    k = min(k, n_experts)
    routed = Routed(_ids(n, k, n_experts, seed), n_experts)
    assert routed.n_slots % routed.tile_rows == 0
    slots = routed.slot_of.reshape(-1)
    assert len(set(slots.tolist())) == n * k and slots.min() >= 0 and slots.max() < routed.n_slots
    assert np.array_equal(routed.index[slots], np.repeat(np.arange(n), k))
    assert np.array_equal(routed.experts[slots // routed.tile_rows], routed.ids.reshape(-1))
    assert (routed.index == -1).sum() == routed.n_slots - n * k
    assert np.all(np.diff(routed.experts) >= 0)


def test_gather_and_combine() -> None:
    rng = np.random.default_rng(0)
    routed, x = Routed(_ids(11, 3, 5), 5), rng.standard_normal((11, 40), np.float32)
    gathered = routed.gather(x)
    assert np.array_equal(gathered[routed.slot_of], np.repeat(x[:, None], 3, axis=1))
    assert not gathered[routed.index == -1].any()
    weights = rng.random((11, 3), np.float32)
    y = rng.standard_normal((routed.n_slots, 40), np.float32)
    y[routed.index == -1] = np.nan  # nobody may use these
    expected = (y[routed.slot_of].astype(np.float64) * weights[..., None]).sum(axis=1)
    np.testing.assert_allclose(routed.combine(y, weights), expected, rtol=1e-5, atol=1e-6)
    for n_threads in (1, 2):
        with host.threads(n_threads):
            weighed = routed.weigh(y, weights)
        np.testing.assert_array_equal(
            weighed[routed.slot_of], y[routed.slot_of] * weights[..., None]
        )
        total = routed.combine(weighed, None)
        np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-6)


def _stack(name: str, shape: tuple[int, int, int]) -> tuple[Matrix, np.ndarray]:
    n_blocks = int(np.prod(shape)) // formats.get(name).block_size
    data = random_blocks(name, n_blocks, np.random.default_rng(3)).reshape(-1)
    return pack(name, data, shape[1], shape[2], n_matrices=shape[0]), data


@pytest.mark.parametrize(("name", "exact"), MODES)
@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_products_equal_the_twin(name: str, exact: bool, n: int) -> None:
    shape = n_experts, width, k = 5, 40, 512
    w, data = _stack(name, shape)
    routed = Routed(_ids(n, 2, n_experts), n_experts)
    x = np.random.default_rng(n).standard_normal((n, k), np.float32)
    y = routed.matmul(w, routed.gather(x), exact=exact)[routed.slot_of]
    precision = "exact" if exact else "fast"
    expected = reference.expert_matmul(x, routed.ids, name, data, shape, precision=precision)
    matrices = formats.dequantize(name, data, (n_experts * width, k)).reshape(shape)
    size = np.einsum("tk,tjnk->tjn", np.abs(x), np.abs(matrices[routed.ids]))
    assert np.all(np.abs(y - expected) <= 2e-6 * size)


@pytest.mark.parametrize(("name", "exact"), MODES)
def test_bits_are_those_of_the_plain_product(name: str, exact: bool) -> None:
    """One token or many, one thread or two: what `matmul` gives for the expert's matrix."""
    shape = n_experts, width, k = 4, 50, 256
    w, data = _stack(name, shape)
    ids, scales = _ids(20, 2, n_experts), np.array([1, 0.5, -3, 0.1], np.float32)
    x = np.random.default_rng(1).standard_normal((20, k), np.float32)
    biases = np.random.default_rng(2).standard_normal((n_experts, width), np.float32)
    products = [
        matmul(pack(name, part, width, k), x, exact=exact) * scale
        for part, scale in zip(data.reshape(n_experts, -1), scales, strict=True)
    ]
    expected = np.stack(products)[ids, np.arange(20)[:, None]]
    for n_threads in (1, 2):
        with host.threads(n_threads):
            for rows in (slice(0, 20), slice(4, 5), slice(5, 7)):
                routed = Routed(ids[rows], n_experts)
                y = routed.matmul(w, routed.gather(x[rows]), exact=exact, scales=scales)
                assert np.array_equal(bits(y[routed.slot_of]), bits(expected[rows]))
                kwargs: dict[str, Any] = {"exact": exact, "scales": scales, "biases": biases}
                y = routed.matmul(w, routed.gather(x[rows]), **kwargs)
                biased = expected[rows] + biases[ids[rows]]
                assert np.array_equal(bits(y[routed.slot_of]), bits(biased))


def test_an_infinite_row_spoils_no_other() -> None:
    w, _ = _stack("Q4_K", (3, 20, 256))
    x = np.random.default_rng(1).standard_normal((9, 256), np.float32)
    routed = Routed(_ids(9, 2, 3), 3)
    clean = routed.matmul(w, routed.gather(x))[routed.slot_of]
    x[4, 100] = np.inf
    y = routed.matmul(w, routed.gather(x))[routed.slot_of]
    assert not np.isfinite(y[4]).any()
    assert np.array_equal(np.delete(y, 4, axis=0), np.delete(clean, 4, axis=0))


@pytest.mark.slow
@pytest.mark.parametrize("name", QUANTIZED)
def test_every_format(name: str) -> None:
    for exact in (False, True):
        test_products_equal_the_twin(name, exact, 9)
        test_bits_are_those_of_the_plain_product(name, exact)
