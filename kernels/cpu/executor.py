"""Run a list of ops on a pool of threads, without the interpreter.

An op is OP_WORDS words: kernel, argument block, whether the next op must wait for it, and (on a
cache line of its own) the counter that hands out its work. Thread 0 walks the list group by group,
a group being ops that need not wait for one another; workers join the current group and take what
work they find. Thread 0 goes on when the group's work is all taken and no worker is inside.

So nobody waits for a thread that the system has put aside, unless it holds a piece of work: on a
busy machine two threads are about as fast as one instead of a hundred times slower, as they are
when all must meet after each op. A worker that comes late finds the counters used up and leaves;
kernels therefore do nothing before they take work.

The first worker, when it has nothing else to do, asks for the memory that the group names as
needed soon (OP_AHEAD: the next weights), so that memory is read while thread 0 is at small ops.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from jitllm.kernels import level as levels
from jitllm.kernels.abi import (
    OP_AHEAD,
    OP_AHEAD_BYTES,
    OP_ARGS,
    OP_BARRIER,
    OP_BYTES,
    OP_COUNTER,
    OP_KERNEL,
    SYNC_ACTIVE,
    SYNC_CURRENT,
    SYNC_DONE,
    SYNC_JOB,
    SYNC_MASK,
    SYNC_OPS,
    SYNC_PARKED,
    SYNC_STOP,
    SYNC_THREADS,
    SYNC_YIELD,
)
from jitllm.kernels.atomics import (
    atomic_add,
    atomic_load,
    atomic_store,
    call_kernel,
    call_word,
    compare_swap,
    prefetch,
)
from jitllm.kernels.cpu.inline import helper
from jitllm.kernels.simd import (
    I32,
    declare,
    load_i64,
    store_i64,
)

SPINS = 2000  # pauses before yielding: about 20 us
AHEAD_STEP = 1024
YIELDS = 4000  # yields before parking: some milliseconds


@intrinsic
def pause(typing_context):
    """Tell the core that this is a waiting loop."""
    kind = levels.processor(levels.current())

    def codegen(context, builder, sig, args):
        if kind == "arm":
            hint = declare(builder, "llvm.aarch64.hint", ir.VoidType(), [I32])
            builder.call(hint, [ir.Constant(I32, 1)])
        elif kind == "x86":
            builder.call(declare(builder, "llvm.x86.sse2.pause", ir.VoidType(), []), [])
        return context.get_dummy_value()

    return types.void(), codegen


@helper
def _group(ops, i, stop, thread, n_threads):
    """Take part in the ops from `i` to the end of its group; returns where the next one starts."""
    while i < stop:
        op = ops + i * OP_BYTES
        kernel, args = load_i64(op + 8 * OP_KERNEL), load_i64(op + 8 * OP_ARGS)
        call_kernel(kernel, args, thread, n_threads, op + 8 * OP_COUNTER)
        i += 1
        if load_i64(op + 8 * OP_BARRIER) != 0:
            return i
    return stop


@helper
def _wait_for_workers(sync):
    spins = 0
    while atomic_load(sync + 8 * SYNC_ACTIVE) > 0:
        spins += 1
        if spins < SPINS:
            pause()
        else:
            call_word(load_i64(sync + 8 * SYNC_YIELD), 0)


def begin(sync, ops, stop, n_threads):
    """Publish a job; leaves a bit mask of the parked threads, to be woken, in SYNC_MASK.

    Without ops it is the end: workers leave.
    """
    store_i64(sync + 8 * SYNC_OPS, ops)
    store_i64(sync + 8 * SYNC_STOP, stop)
    store_i64(sync + 8 * SYNC_THREADS, n_threads)
    job = atomic_load(sync + 8 * SYNC_JOB)
    atomic_store(sync + 8 * SYNC_JOB, job + 1 if ops != 0 else -1)
    mask = 0
    for thread in range(1, n_threads):
        if _unpark(sync, thread):
            mask |= 1 << thread
    store_i64(sync + 8 * SYNC_MASK, mask)
    return mask


@helper
def _unpark(sync, thread):
    """Take the thread's parked mark; whoever takes it first wins."""
    return compare_swap(sync + 8 * (SYNC_PARKED + 8 * thread), 1, 0)


def run_ops(sync, ops, first, stop, n_threads):
    """Run the job that `begin` published; returns when all of it is done."""
    job = atomic_load(sync + 8 * SYNC_JOB)
    i = first
    while i < stop:
        if n_threads > 1:
            atomic_store(sync + 8 * SYNC_CURRENT, (job << 32) | i)
        i = _group(ops, i, stop, 0, n_threads)
        _wait_for_workers(sync)
    atomic_store(sync + 8 * SYNC_CURRENT, -1)
    _wait_for_workers(sync)
    store_i64(sync + 8 * SYNC_DONE, job)
    return 0


@helper
def _read_ahead(sync, current, at, stop):
    """Ask for the memory from `at` to `stop` until the group ends; returns how far it got."""
    while at < stop and atomic_load(sync + 8 * SYNC_CURRENT) == current:
        for line in range(0, AHEAD_STEP, 64):
            prefetch(at + line)
        at += AHEAD_STEP
    return at


def worker_loop(sync, thread, seen):
    """Take part in jobs until there is none for a while.

    Returns the number of the last job seen; the caller then sleeps until it is woken, as it is
    marked parked. Returns -1 at the end.
    """
    idle, last, ahead, at, size = 0, -1, 0, 0, 0
    while True:
        job = atomic_load(sync + 8 * SYNC_JOB)
        if job < 0:
            return -1
        current = atomic_load(sync + 8 * SYNC_CURRENT)
        if current >= 0 and current != last:
            idle, last = 0, current
            atomic_add(sync + 8 * SYNC_ACTIVE, 1)
            if atomic_load(sync + 8 * SYNC_CURRENT) == current:
                ops, stop = load_i64(sync + 8 * SYNC_OPS), load_i64(sync + 8 * SYNC_STOP)
                n_threads = load_i64(sync + 8 * SYNC_THREADS)
                _group(ops, current & 0xFFFFFFFF, stop, thread, n_threads)
                op = ops + (current & 0xFFFFFFFF) * OP_BYTES
                start, size = load_i64(op + 8 * OP_AHEAD), load_i64(op + 8 * OP_AHEAD_BYTES)
                if start != ahead:
                    ahead = at = start
            # from here on thread 0 may end the job, and its plan may be gone
            atomic_add(sync + 8 * SYNC_ACTIVE, -1)
            if thread == 1:
                at = _read_ahead(sync, current, at, ahead + size)
        idle += 1
        if idle < SPINS:
            pause()
        elif idle < SPINS + YIELDS or current >= 0:
            call_word(load_i64(sync + 8 * SYNC_YIELD), 0)
        else:
            atomic_store(sync + 8 * (SYNC_PARKED + 8 * thread), 1)
            if atomic_load(sync + 8 * SYNC_JOB) == job or not _unpark(sync, thread):
                return job
            idle = 0
