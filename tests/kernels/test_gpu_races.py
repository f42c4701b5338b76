"""Races of GPU kernels are found; with the barrier that was missing, nothing is."""

import re
from typing import Any

import numpy as np
import pytest
from gpu_launch import launch_function, load_function

from jitllm.backends._cuda.api import Launch
from jitllm.backends._cuda.simulator import Simulator
from jitllm.backends.base import BackendUnavailable
from jitllm.kernels.gpu import vocabulary as gpu
from jitllm.kernels.gpu.races import Races
from jitllm.kernels.gpu.simulator import KernelFault, packed
from jitllm.kernels.gpu.vocabulary import A, U

ONE = np.float32(1)


def _launch(kernel: Any, missing: str, *, threads: int = 64, grid: int = 1) -> str:
    """Launch a kernel of one array; returns what is found, "" if it has what may be missing."""
    x = np.zeros(1024, np.int32)
    if not missing:
        launch_function(kernel, threads, [x], grid)
        return ""
    with pytest.raises(KernelFault, match=missing) as found:
        launch_function(kernel, threads, [x], grid)
    return str(found.value)


def test_what_other_warps_wrote() -> None:
    def factory(barrier: Any) -> Any:
        def kernel(x: A) -> None:
            array, i = gpu.shared(256), gpu.thread()
            gpu.store_shared_i32(array + 4 * i, gpu.to_i32(ONE))
            barrier()
            gpu.store_i32(x + 4 * i, gpu.load_shared_i32(array + 4 * (i ^ 32)))

        return kernel

    _launch(factory(gpu.sync_threads), "")
    text = _launch(factory(gpu.sync_warp), "with no sync_threads between")
    assert re.search(
        r"thread 63 of workgroup \(0, 0, 0\) reads byte 124 of shared array 0 at "
        r"test_gpu_races\.py:\d+, which no thread wrote; .*writes byte 124 of shared array 0 at "
        r"test_gpu_races\.py:\d+, thread 63 of another warp read it at test_gpu_races\.py:\d+, ",
        text,
    )


@pytest.mark.parametrize("how", ["sync_warp", "sync_threads", "shuffle", ""])
def test_what_other_lanes_wrote(how: str) -> None:
    def factory(meets: bool, barrier: Any, shuffles: bool) -> Any:
        def kernel(x: A) -> None:
            array, i = gpu.shared(256), gpu.thread()
            gpu.store_shared_i32(array + 4 * i, gpu.load_i32(x + 4 * i))
            if meets:
                barrier()
            if shuffles:
                gpu.store_f32(x + 4 * i, gpu.shuffle_xor_f32(ONE, 1))
            gpu.store_i32(x + 4 * i, gpu.load_shared_i32(array + 4 * (i ^ 1)))

        return kernel

    is_right = how.startswith("sync")
    kernel = factory(is_right, getattr(gpu, how, gpu.sync_warp), how == "shuffle")
    _launch(kernel, "" if is_right else "lane 3[01] of its warp .* with no sync_warp between")


@pytest.mark.parametrize("barriers", [(True, True), (True, False)])
def test_what_others_still_read(barriers: tuple[bool, bool]) -> None:
    def factory(first: bool, second: bool) -> Any:
        def kernel(x: A) -> None:
            array, i, total = gpu.shared(256), gpu.thread(), 0
            for k in range(3):
                gpu.store_shared_i32(array + 4 * i, gpu.load_i32(x + 4 * (i + k)))
                if first:
                    gpu.sync_threads()
                total += gpu.load_shared_i32(array + 4 * (63 - i))
                if second:
                    gpu.sync_threads()
            gpu.store_i64(x + 1024 + 8 * i, total)

        return kernel

    _launch(factory(*barriers), "" if all(barriers) else "writes .* warp read it .* no sync_thr")


@pytest.mark.parametrize("is_apart", [True, False])
def test_two_workgroups_write(is_apart: bool) -> None:
    def kernel(x: A) -> None:
        at = x + 4 * gpu.thread()
        if is_apart:
            at += 256 * gpu.group_x()
        gpu.store_i32(at, gpu.to_i32(ONE))  # the same number: a race all the same

    missing = "" if is_apart else r"writes memory at 0x.* another workgroup wrote it .* no order"
    _launch(kernel, missing, grid=2)


@pytest.mark.parametrize("reader", [0, 1])
def test_a_workgroup_reads_what_others_write(reader: int) -> None:
    def kernel(x: A) -> None:
        if gpu.group_x() == 1 - reader:
            gpu.store_i32(x + 4 * gpu.thread(), gpu.to_i32(ONE))
        else:
            v = gpu.load_i32(x + 4 * gpu.thread())
            gpu.store_i32(x + 256 + 4 * gpu.thread(), v)

    _launch(kernel, ("workgroup wrote it", "workgroup read it")[1 - reader], grid=2)


def test_bytes_beside_each_other() -> None:
    def kernel(x: A) -> None:
        array, i = gpu.shared(64), gpu.thread()
        gpu.store_shared_u8(array + i, i)
        gpu.store_u8(x + i, gpu.load_shared_u8(array + i))

    _launch(kernel, "")


@pytest.mark.parametrize("writer", [0, 5, 31, 32, 40, 63])
def test_one_of_many_readers_writes(writer: int) -> None:
    def factory(has_barrier: bool) -> Any:
        def kernel(x: A) -> None:
            array, i = gpu.shared(16), gpu.thread()
            if i == 9:
                gpu.store_shared_i32(array, gpu.to_i32(ONE))
            gpu.sync_threads()
            gpu.store_i32(x + 4 * i, gpu.load_shared_i32(array))
            if has_barrier:
                gpu.sync_threads()
            if i == writer:
                gpu.store_shared_i32(array, gpu.to_i32(ONE))

        return kernel

    _launch(factory(True), "")
    assert "another warp" in _launch(factory(False), "no sync_threads between")


@pytest.mark.parametrize("has_barrier", [True, False])
def test_a_warp_that_meets_alone(has_barrier: bool) -> None:
    """What a warp wrote is in order for it, not for the other one."""

    def kernel(x: A) -> None:
        array, i = gpu.shared(128), gpu.thread()
        if gpu.warp() == 0:
            gpu.store_shared_i32(array + 4 * i, gpu.to_i32(ONE))
            gpu.sync_warp()
            gpu.store_i32(x + 4 * i, gpu.load_shared_i32(array + 4 * (31 - i)))
            gpu.sync_warp()
            gpu.store_shared_i32(array + 4 * (31 - i), gpu.to_i32(ONE))
        if has_barrier:
            gpu.sync_threads()
        if gpu.warp() == 1:
            gpu.store_i32(x + 4 * i, gpu.load_shared_i32(array + 4 * (63 - i)))

    _launch(kernel, "" if has_barrier else "another warp .* with no sync_threads between")


@pytest.mark.parametrize("n_written", [32, 31])
def test_shared_memory_that_no_thread_wrote(n_written: int) -> None:
    def kernel(x: A) -> None:
        array, i = gpu.shared(128), gpu.thread()
        if i < n_written:
            gpu.store_shared_i32(array + 4 * i, gpu.to_i32(ONE))
        gpu.sync_threads()
        v = gpu.load_shared_i32(array + 4 * (31 - i))
        gpu.store_i32(x + 4 * i + 128 * gpu.group_x(), v)

    missing = "thread 0 of workgroup .* reads byte 124 of shared array 0 .* no thread wrote"
    _launch(kernel, "" if n_written == 32 else missing, threads=32, grid=2)


def test_shared_memory_is_new_in_each_workgroup() -> None:
    def kernel(x: A, writer: U) -> None:
        array, i = gpu.shared(128), gpu.thread()
        if gpu.group_x() == writer:
            gpu.store_shared_i32(array + 4 * i, gpu.to_i32(ONE))
        v = gpu.load_shared_i32(array + 4 * i)
        gpu.store_i32(x + 4 * i + 128 * gpu.group_x(), v)

    with pytest.raises(KernelFault, match=r"of workgroup \(1, 0, 0\) .* which no thread wrote"):
        launch_function(kernel, 32, [np.zeros(64, np.int32), 0], 2)


@pytest.mark.parametrize("has_barrier", [True, False])
def test_launches_of_a_graph(has_barrier: bool) -> None:
    """What one launch wrote, another reads: right if they are not in the same group."""

    def copy(x: A, y: A) -> None:
        gpu.store_i32(y + 4 * gpu.thread(), gpu.load_i32(x + 4 * gpu.thread()))

    driver, function = Simulator(), load_function(copy, 64)
    x, y, z = (driver.allocate(256) for _ in range(3))
    launches = [Launch(function, packed("AA", pair), (1, 1, 1)) for pair in ([x, y], [y, z])]
    graph = driver.graph([launches[:1], launches[1:]] if has_barrier else [launches])
    driver.upload(x, np.arange(64, dtype=np.int32))
    driver.watcher = Races()
    if not has_barrier:
        with pytest.raises(BackendUnavailable, match="thread 0 of another workgroup read it at"):
            driver.run(graph)
        return
    out = np.zeros(64, np.int32)
    for _ in range(2):
        driver.run(graph)
    driver.download(out, z)
    assert np.array_equal(out, np.arange(64))
    driver.close()


def test_more_memory_than_can_be_watched() -> None:
    def copy(x: A, y: A) -> None:
        at = 4 * (64 * gpu.group_x() + gpu.thread())
        gpu.store_i32(y + at, gpu.load_i32(x + at))

    function, races = load_function(copy, 64), Races(8192)
    x, y = (np.zeros(4096, np.int32) for _ in range(2))
    arguments = packed("AA", [x.ctypes.data, y.ctypes.data])
    everywhere = np.array([(0, 1 << 62)], np.int64)
    for _ in range(5):  # what is known of launches that are over is forgotten
        races.begin()
        function.run(arguments, (8, 1, 1), everywhere, watcher=races)
    with pytest.raises(ValueError, match="more than can be watched"):
        function.run(arguments, (64, 1, 1), everywhere, watcher=races)
