"""Sectors and bank conflicts of GPU kernels are those that their addresses tell."""

from typing import Any

import numpy as np
import pytest
from gpu_launch import load_function

from jitllm.kernels.gpu import vocabulary as gpu
from jitllm.kernels.gpu.simulator import packed
from jitllm.kernels.gpu.trace import Site, Trace
from jitllm.kernels.gpu.vocabulary import A, U

EVERYWHERE = np.array([(0, 1 << 62)], np.int64)


def _sites(function: Any, *numbers: int, threads: int = 32, group: int = 0) -> list[Site]:
    """Run three workgroups, and return what one of them did."""
    kernel, trace, x = load_function(function, threads), Trace(), np.zeros(1 << 14, np.int32)
    trace.group = group
    at = -(-x.ctypes.data // 128) * 128
    kernel.run(packed(kernel.code.parameters, [at, *numbers]), (3, 1, 1), EVERYWHERE, watcher=trace)
    return trace.sites()


@pytest.mark.parametrize(
    "stride, start, sectors, used",
    [(1, 0, 4, 1.0), (2, 0, 8, 0.5), (3, 0, 12, 1 / 3), (8, 0, 32, 0.125), (9, 0, 32, 0.125),
     (0, 0, 1, 0.125), (1, 1, 5, 0.8)],
)  # fmt: skip
def test_sectors_of_strided_loads(stride: int, start: int, sectors: int, used: float) -> None:
    def kernel(x: A, stride: U, start: U) -> None:
        v = gpu.load_i32(x + 4 * (start + stride * gpu.thread()))
        if v > 0:
            gpu.store_i32(x, v)

    (site,) = _sites(kernel, stride, start)
    assert (site.requests, site.lane_bytes, site.is_store) == (1, 4, False)
    assert site.steps == site.distinct == sectors
    assert site.efficiency == pytest.approx(used)
    assert site.place.startswith("test_gpu_trace.py:")


def test_sectors_of_vectors() -> None:
    def kernel(x: A) -> None:
        gpu.store_i32x4(x + 16 * gpu.thread(), gpu.stream_i32x4(x + 1024 + 32 * gpu.thread()))

    load, store = sorted(_sites(kernel), key=lambda site: site.is_store)
    assert (load.steps, load.efficiency) == (32, 0.5)
    assert (store.steps, store.efficiency, store.lane_bytes) == (16, 1.0, 16)


@pytest.mark.parametrize(
    "stride, passes", [(1, 1), (2, 2), (3, 1), (8, 8), (32, 32), (33, 1), (0, 1)]
)
def test_banks_of_strided_stores(stride: int, passes: int) -> None:
    def kernel(x: A, stride: U) -> None:
        gpu.store_shared_i32(gpu.shared(8192) + 4 * stride * gpu.thread(), gpu.load_i32(x))

    (site,) = (site for site in _sites(kernel, stride) if site.is_shared)
    assert (site.requests, site.steps, site.distinct) == (1, passes, 0)
    assert site.efficiency == 1 / passes


@pytest.mark.parametrize("stride, passes", [(16, 4), (32, 8), (64, 16), (80, 4), (0, 4)])
def test_banks_of_vectors(stride: int, passes: int) -> None:
    def kernel(x: A, stride: U) -> None:
        v = gpu.load_shared_i32x4(gpu.shared(4096) + stride * gpu.thread())
        gpu.store_i32x4(x + 16 * gpu.thread(), v)

    (site,) = (site for site in _sites(kernel, stride) if site.is_shared)
    assert (site.lane_bytes, site.steps, site.efficiency) == (16, passes, 4 / passes)


def test_requests_of_warps_and_turns_of_a_loop() -> None:
    def kernel(x: A) -> None:
        for i in range(gpu.thread(), 160, 64):
            gpu.store_i32(x + 4 * i, gpu.load_i32(x + 4 * (i & 7)))

    load, store = sorted(_sites(kernel, threads=64), key=lambda site: site.is_store)
    assert (load.requests, load.steps, load.distinct) == (5, 5, 1)
    assert (store.requests, store.steps, store.efficiency) == (5, 20, 1.0)


@pytest.mark.parametrize("group", [0, 2])
def test_the_wanted_workgroup(group: int) -> None:
    def kernel(x: A) -> None:
        if gpu.group_x() == 2 and gpu.lane() < 16:
            gpu.store_i32(x + 8 * gpu.thread(), gpu.to_i32(np.float32(1)))

    sites = _sites(kernel, group=group)
    assert [(site.steps, site.efficiency) for site in sites] == ([(4, 0.5)] if group else [])


def test_too_many_accesses() -> None:
    def kernel(x: A) -> None:
        gpu.store_i32(x + 4 * gpu.thread(), gpu.to_i32(np.float32(1)))

    loaded, trace, x = load_function(kernel, 32), Trace(31), np.zeros(32, np.int32)
    loaded.run(packed("A", [x.ctypes.data]), (1, 1, 1), EVERYWHERE, watcher=trace)
    with pytest.raises(ValueError, match="32 accesses, there is room for 31"):
        trace.sites()
