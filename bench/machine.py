"""What the machine is and can do: its name, read bandwidth and int8 products per second."""

import ctypes
import os
import platform
import re
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jitllm.kernels import jit

READ_BYTES = 1 << 30
PEAK_STEPS = 200_000


def name() -> str:
    """Return the processor's name and how many threads this process may use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.M)
        model = match[1] if match else model
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {n} threads"


def commit() -> str:
    """Return the short commit of this checkout, with a plus if files were changed since."""
    git = ["git", "-C", str(Path(__file__).parent)]
    found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    code = [":/", ":(top,exclude)bench/results"]
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *code], capture_output=True)
    return (found.stdout.strip() or "unknown") + ("+" if changed.returncode == 1 else "")


def _address(array: npt.NDArray[np.generic]) -> int:
    return -(-array.ctypes.data // 64) * 64


def _best_seconds(function: str, n: int, data: int, n_threads: int, repeats: int = 5) -> float:
    """Run a kernel of `probe` on threads; returns the shortest time."""
    results = np.zeros(n_threads * 4096 + 64, np.uint8)
    block = np.array([n, data, _address(results)], np.int64)
    kernel = jit.function("probe", function)
    best = float("inf")
    for _ in range(repeats):
        arguments = [(block.ctypes.data, i, n_threads, 0) for i in range(n_threads)]
        workers = [threading.Thread(target=kernel, args=a) for a in arguments]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = min(best, time.perf_counter() - start)
    return best


def read_bandwidth(n_threads: int) -> float:
    """Return the bytes per second that `n_threads` read from a buffer larger than the caches."""
    data = np.ones(READ_BYTES + 64, np.uint8)
    size = READ_BYTES // (256 * n_threads) * 256 * n_threads
    return size / _best_seconds("read_bandwidth", size, _address(data), n_threads)


def int8_peak(n_threads: int) -> float:
    """Return the int8 multiply-adds per second of `n_threads`."""
    from jitllm.kernels.cpu import probe

    data = np.ones(probe.PEAK_BYTES + 64, np.uint8)
    seconds = _best_seconds("int8_peak", PEAK_STEPS, _address(data), n_threads)
    return n_threads * PEAK_STEPS * probe.PRODUCTS / seconds


def resident_bytes() -> int:
    """Return the bytes of this process that lie in memory now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def return_free_memory() -> None:
    """Let the C library give back what it keeps for later, where it knows how (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


if __name__ == "__main__":
    print(name())
    for n in range(1, (os.cpu_count() or 1) + 1):
        print(f"{n} threads: read {read_bandwidth(n) / 1e9:.1f} GB/s, "
              f"int8 {int8_peak(n) / 1e9:.0f} GMAC/s")  # fmt: skip
