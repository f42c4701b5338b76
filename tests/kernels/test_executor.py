"""The thread pool and its op lists: order, waiting, Ctrl-C, forks."""

import os
import subprocess
import sys
import threading
import time
import warnings
from typing import Any

import numpy as np
import pytest

from jitllm.backends._cpu.threads import MAX_THREADS, ThreadPool, aligned, default_threads
from jitllm.kernels import abi, host

ROWS, WIDTH, OPS = 48, 640, 24


class Chain:
    """Ops that each read rows the other way round from how the op before wrote them.

    The first row of an op needs the last row of the one before, so a thread that ran ahead would
    read what is not written yet. Each op also adds 1.
    """

    def __init__(self, barrier: bool = True) -> None:
        self._rows = [host.empty_rows(ROWS, WIDTH) for _ in range(2 * OPS + 1)]
        self._reversed = np.arange(ROWS, dtype=np.int32)[::-1].copy()
        ones = aligned(4 * WIDTH).view(np.float32)
        ones[:] = 1
        self._run = np.zeros(abi.RUN_WORDS, np.int64)
        self._run[[abi.N_TOKENS, abi.N_OUTPUTS]] = ROWS
        self._run[abi.OUTPUT_ROWS] = self._reversed.ctypes.data
        self._kept: list[Any] = [ones]
        words = []
        for i, (x, y) in enumerate(zip(self._rows, self._rows[1:], strict=False)):
            op, values = (abi.SELECT_ROWS, {}) if i % 2 else (abi.ADD, {"b": ones.ctypes.data})
            first = "x" if i % 2 else "a"
            values |= {first: x.ctypes.data, f"ld{first}": x.strides[0], "y": y.ctypes.data}
            values |= {"ldy": y.strides[0], "width": WIDTH}
            if not i % 2:
                values |= {"ldb": 0, "rows": abi.N_TOKENS}
            block = op.pack(self._run.ctypes.data, **values)
            self._kept.append(block)
            words.append([op.address(), block.ctypes.data, int(barrier)])
        self.ops = aligned(abi.OP_BYTES * len(words)).view(np.int64).reshape(-1, abi.OP_WORDS)
        self.ops[:, : len(words[0])] = words

    def reset(self) -> int:
        """Make all rows NaN but the first op's; returns the address of the ops."""
        for rows in self._rows[1:]:
            rows[:] = np.nan
        self._rows[0][:] = np.arange(ROWS)[:, None]
        self.ops[:, abi.OP_COUNTER] = 0
        return int(self.ops.ctypes.data)

    def is_right(self) -> bool:
        """Whether the last op left what it should."""
        return np.array_equal(self._rows[-1], self._rows[0] + OPS)  # an even number of reversals


def _run(pool: ThreadPool, chain: Chain) -> bool:
    pool.run(chain.reset(), 0, len(chain.ops))
    return chain.is_right()


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5])
def test_ops_with_barriers_run_in_order(n_threads: int) -> None:
    pool, chain = ThreadPool(n_threads), Chain()
    assert pool.n_threads == n_threads
    for _ in range(150):
        assert _run(pool, chain)
    pool.close()


def test_slices_of_a_list() -> None:
    pool, chain = ThreadPool(2), Chain()
    at = chain.reset()
    for first in range(0, len(chain.ops), 5):
        pool.run(at, first, min(first + 5, len(chain.ops)))
    assert chain.is_right()
    pool.run(chain.reset(), 0, 0)  # nothing to do
    assert not chain.is_right()
    pool.close()


def test_ops_without_a_barrier_do_not_wait() -> None:
    """That barriers are needed at all: without them some run of many goes wrong."""
    pool, chain = ThreadPool(3), Chain(barrier=False)
    tries = 0
    while tries < 20000 and _run(pool, chain):
        tries += 1
    pool.close()
    assert tries < 20000 or default_threads() == 1


def test_parked_threads_use_no_time_and_wake() -> None:
    pool, chain = ThreadPool(3), Chain()
    assert _run(pool, chain)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        start = time.process_time()
        time.sleep(0.3)
        used = time.process_time() - start
        if used < 0.005:
            break
    assert used < 0.005
    for pause in (0.0, 0.001, 0.003, 0.01, 0.05) * 4:
        time.sleep(pause)
        assert _run(pool, chain)
    pool.close()


def test_two_callers_take_turns() -> None:
    pool, results = ThreadPool(2), []

    def call() -> None:
        chain = Chain()
        results.append(all(_run(pool, chain) for _ in range(50)))

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [True] * 3
    pool.close()


def test_several_pools() -> None:
    pools, chain = [ThreadPool(n) for n in (2, 3, 1)], Chain()
    for _ in range(20):
        assert all(_run(pool, chain) for pool in pools)
    for pool in pools:
        pool.close()
        pool.close()  # a second time does nothing


def test_threads_end_with_the_pool() -> None:
    before = threading.active_count()
    for _ in range(5):
        pool = ThreadPool(3)
        assert threading.active_count() == before + 2
        pool.close()
        assert threading.active_count() == before
    pool = ThreadPool(3)
    del pool  # without close
    assert threading.active_count() == before


@pytest.mark.parametrize("n_threads", [0, -1, MAX_THREADS + 1])
def test_wrong_number_of_threads(n_threads: int) -> None:
    with pytest.raises(ValueError, match=rf"n_threads must be from 1 to {MAX_THREADS}, got"):
        ThreadPool(n_threads)


def test_default_is_what_this_process_may_use() -> None:
    assert 1 <= default_threads() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity"):
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(allowed)})
        try:
            assert default_threads() == 1
        finally:
            os.sched_setaffinity(0, allowed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_refused() -> None:
    pool, chain = ThreadPool(2), Chain()
    assert _run(pool, chain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks
        child = os.fork()
    if child == 0:
        code = 1
        try:
            pool.run(chain.reset(), 0, 1)
        except RuntimeError as error:
            code = 0 if "load the model in the child" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _run(pool, chain)
    pool.close()


_INTERRUPTED = """
import random, signal, sys
sys.path.insert(0, {tests!r})
from kernels.test_executor import Chain, _run
from jitllm.backends._cpu.threads import ThreadPool

signal.signal(signal.SIGALRM, signal.default_int_handler)
pool, chain, interrupts, done = ThreadPool(3), Chain(), 0, 0
while interrupts < 400:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1e-3))
        while True:
            at = chain.reset()
            pool.run(at, 0, len(chain.ops))
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        interrupts += 1
    if not _run(pool, chain):
        sys.exit("wrong result after an interrupt")
pool.close()
print(interrupts)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no interval timers")
def test_interrupts_leave_a_working_pool() -> None:
    script = _INTERRUPTED.format(tests=os.path.dirname(os.path.dirname(__file__)))
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout.strip()) == (0, "400"), done.stderr
