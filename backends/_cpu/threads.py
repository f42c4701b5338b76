"""The pool: threads that run op lists together, parked when there is nothing to do.

A pool of one thread has no workers. Workers are Python threads that live in compiled code
(`kernels/cpu/executor.py`): they spin briefly for the next job, then yield, then come back to
Python and sleep on a lock, so an idle pool uses no processor time.
"""

import contextlib
import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from jitllm.kernels import abi, jit

MAX_THREADS = 256


def default_threads() -> int:
    """Return how many threads this process may run on: affinity and container limits honoured."""
    if hasattr(os, "sched_getaffinity"):
        n = len(os.sched_getaffinity(0))
    else:
        n = os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        if quota != "max":
            n = min(n, max(1, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        pass  # no such limit on this system
    return min(n, MAX_THREADS)


def checked_threads(n_threads: int | None) -> int:
    """Return how many threads a pool has that is asked for `n_threads`; see `ThreadPool`."""
    n = default_threads() if n_threads is None else n_threads
    if not 1 <= n <= MAX_THREADS:
        raise ValueError(f"n_threads must be from 1 to {MAX_THREADS}, got {n_threads}")
    return n


@cache
def _yield_address() -> int:
    """Return the C function by which a waiting thread gives its core away."""
    if sys.platform == "win32":
        function = ctypes.WinDLL("kernel32").SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def aligned(n_bytes: int) -> npt.NDArray[np.uint8]:
    """Return zeroed bytes that start on a cache line."""
    raw = np.zeros(n_bytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n_bytes]


class ThreadPool:
    """Runs op lists on `n_threads` threads, the calling one included.

    Parameters
    ----------
    n_threads : int or None
        None means as many as this process may use.

    Raises
    ------
    ValueError
        If `n_threads` is below 1 or above 256.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = n = checked_threads(n_threads)
        self._sync = aligned(8 * (abi.SYNC_PARKED + 8 * n)).view(np.int64)
        self._sync[abi.SYNC_YIELD] = _yield_address()
        self._sync[abi.SYNC_CURRENT] = -1
        self._address = self._sync.ctypes.data
        self._begin = jit.function("executor", "begin")
        self._run = jit.function("executor", "run_ops")
        self._locks = [threading.Lock() for _ in range(n)]
        self._busy, self._pid = threading.Lock(), os.getpid()
        self._workers = [self._start(thread) for thread in range(1, n)]
        self._finalizer = weakref.finalize(
            self, _stop, self._begin, self._sync, self._locks, self._workers
        )

    def _start(self, thread: int) -> threading.Thread:
        lock = self._locks[thread]
        lock.acquire()
        loop = jit.function("executor", "worker_loop")
        worker = threading.Thread(
            target=_work, args=(loop, self._sync, thread, lock), daemon=True,
            name=f"jitllm-{thread}",
        )  # fmt: skip
        worker.start()
        return worker

    def run(self, ops: int, first: int, stop: int) -> None:
        """Run ops `first` to `stop` of the list at address `ops`; counters must be zero."""
        if os.getpid() != self._pid:
            raise RuntimeError("threads do not survive a fork: load the model in the child process")
        with self._busy:
            try:
                self._begin(self._address, ops, stop, self.n_threads)
                self._finish(ops, first, stop)
            except BaseException:
                # Ctrl-C came between two calls: the workers wait for this thread's part
                self._finish(ops, first, stop)
                raise

    def _finish(self, ops: int, first: int, stop: int) -> None:
        while self._sync[abi.SYNC_JOB] != self._sync[abi.SYNC_DONE]:
            if self._sync[abi.SYNC_MASK]:
                _wake(self._locks, int(self._sync[abi.SYNC_MASK]))
            self._run(self._address, ops, first, stop, self.n_threads)

    def close(self) -> None:
        """Stop the workers; the pool cannot be used again."""
        self._finalizer()


def _wake(locks: list[threading.Lock], mask: int) -> None:
    """Release the locks of the threads in `mask`; a thread woken twice just looks again."""
    for thread, lock in enumerate(locks):
        if mask >> thread & 1:
            with contextlib.suppress(RuntimeError):
                lock.release()


def _work(
    loop: Callable[..., int], sync: npt.NDArray[np.int64], thread: int, lock: threading.Lock
) -> None:
    """Body of a worker: compiled code while there is work, asleep on its lock otherwise."""
    seen = 0
    while True:
        seen = loop(sync.ctypes.data, thread, seen)
        if seen < 0:
            return
        lock.acquire()


def _stop(
    begin: Callable[..., int],
    sync: npt.NDArray[np.int64],
    locks: list[threading.Lock],
    workers: list[threading.Thread],
) -> None:
    if workers:
        begin(sync.ctypes.data, 0, 0, len(locks))
        _wake(locks, int(sync[abi.SYNC_MASK]))
    for worker in workers:
        worker.join()
