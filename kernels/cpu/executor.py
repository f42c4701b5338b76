"""Run a list of ops on a pool of threads, without the interpreter.

An op is OP_WORDS words: kernel, argument block, whether all threads must meet after it, and (on a
cache line of its own) the counter that hands out its work. Threads meet by counting arrivals; who
waits spins, then yields. `threads` in `backends/_cpu_threads.py` has the words of the sync block.
"""

import platform

from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

from jitllm.kernels.abi import (
    OP_ARGS,
    OP_BARRIER,
    OP_BYTES,
    OP_COUNTER,
    OP_KERNEL,
    SYNC_ARRIVALS,
    SYNC_BASE,
    SYNC_DONE,
    SYNC_FIRST,
    SYNC_JOB,
    SYNC_MASK,
    SYNC_OPS,
    SYNC_PARKED,
    SYNC_STOP,
    SYNC_THREADS,
    SYNC_YIELD,
)
from jitllm.kernels.simd import (
    I32,
    atomic_add,
    atomic_load,
    atomic_store,
    call_kernel,
    call_word,
    compare_swap,
    declare,
    load_i64,
    store_i64,
    types,
)

SPINS = 2000  # pauses before yielding: about 20 us
YIELDS = 4000  # yields before parking: some milliseconds


@intrinsic
def pause(typing_context):
    """Tell the core that this is a waiting loop."""
    arm = platform.machine() in ("aarch64", "arm64")

    def codegen(context, builder, sig, args):
        if arm:
            hint = declare(builder, "llvm.aarch64.hint", ir.VoidType(), [I32])
            builder.call(hint, [ir.Constant(I32, 1)])
        else:
            builder.call(declare(builder, "llvm.x86.sse2.pause", ir.VoidType(), []), [])
        return context.get_dummy_value()

    return types.void(), codegen


@njit(error_model="numpy")
def _meet(sync, target):
    atomic_add(sync + 8 * SYNC_ARRIVALS, 1)
    spins = 0
    while atomic_load(sync + 8 * SYNC_ARRIVALS) < target:
        spins += 1
        if spins < SPINS:
            pause()
        else:
            call_word(load_i64(sync + 8 * SYNC_YIELD), 0)


@njit(error_model="numpy")
def _run(ops, first, stop, thread, n_threads, sync, base):
    for i in range(first, stop):
        op = ops + i * OP_BYTES
        kernel, args = load_i64(op + 8 * OP_KERNEL), load_i64(op + 8 * OP_ARGS)
        call_kernel(kernel, args, thread, n_threads, op + 8 * OP_COUNTER)
        if n_threads > 1 and (load_i64(op + 8 * OP_BARRIER) != 0 or i == stop - 1):
            base += n_threads
            _meet(sync, base)
    return 0


def begin(sync, ops, first, stop, n_threads):
    """Publish a job; leaves a bit mask of the parked threads, to be woken, in SYNC_MASK."""
    store_i64(sync + 8 * SYNC_OPS, ops)
    store_i64(sync + 8 * SYNC_FIRST, first)
    store_i64(sync + 8 * SYNC_STOP, stop)
    store_i64(sync + 8 * SYNC_THREADS, n_threads)
    store_i64(sync + 8 * SYNC_BASE, atomic_load(sync + 8 * SYNC_ARRIVALS))
    atomic_add(sync + 8 * SYNC_JOB, 1)
    mask = 0
    for thread in range(1, n_threads):
        if _unpark(sync, thread):
            mask |= 1 << thread
    store_i64(sync + 8 * SYNC_MASK, mask)
    return mask


@njit(error_model="numpy")
def _unpark(sync, thread):
    """Take the thread's parked mark; whoever takes it first wins."""
    return compare_swap(sync + 8 * (SYNC_PARKED + 8 * thread), 1, 0)


def run_ops(sync, ops, first, stop, n_threads):
    """Do thread 0's part of the job that `begin` published; returns when all threads are done."""
    _run(ops, first, stop, 0, n_threads, sync, load_i64(sync + 8 * SYNC_BASE))
    store_i64(sync + 8 * SYNC_DONE, load_i64(sync + 8 * SYNC_JOB))
    return 0


def worker_loop(sync, thread, seen):
    """Take part in jobs after number `seen`, until there is none for a while.

    Returns the number of the last job seen; the caller then sleeps until it is woken, as it is
    marked parked. A job without ops means stop: -1 is returned.
    """
    idle = 0
    while True:
        job = atomic_load(sync + 8 * SYNC_JOB)
        if job != seen:
            seen, idle = job, 0
            ops, n_threads = load_i64(sync + 8 * SYNC_OPS), load_i64(sync + 8 * SYNC_THREADS)
            if ops == 0:
                return -1
            first, stop = load_i64(sync + 8 * SYNC_FIRST), load_i64(sync + 8 * SYNC_STOP)
            _run(ops, first, stop, thread, n_threads, sync, load_i64(sync + 8 * SYNC_BASE))
        idle += 1
        if idle < SPINS:
            pause()
        elif idle < SPINS + YIELDS:
            call_word(load_i64(sync + 8 * SYNC_YIELD), 0)
        else:
            atomic_store(sync + 8 * (SYNC_PARKED + 8 * thread), 1)
            if atomic_load(sync + 8 * SYNC_JOB) == seen or not _unpark(sync, thread):
                return seen
            idle = 0
