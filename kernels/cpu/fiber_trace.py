"""What each thread of one workgroup of a simulated GPU loads and stores, in turn."""

from jitllm.kernels.cpu.fiber_layout import (
    ARRAYS,
    ENTRIES,
    ENTRY_ADDRESS,
    ENTRY_REST,
    ENTRY_SHIFTS,
    ENTRY_WORDS,
    GROUP_X,
    GROUP_Y,
    GROUP_Z,
    GROUPS_X,
    GROUPS_Y,
    MOST_ENTRIES,
    N_ENTRIES,
    THREAD,
    WANTED_GROUP,
    WATCH,
)
from jitllm.kernels.cpu.fibers import get, touch
from jitllm.kernels.simd import store_i64

_THREAD, _BYTES, _IS_SHARED, _WHAT, _PLACE = ENTRY_SHIFTS


def record(state, table, address, n_bytes, alignment, what):
    """Do as `fibers.place`, and keep the access if the workgroup is the wanted one."""
    trace = get(state, WATCH)
    row = get(state, GROUP_Y) + get(state, GROUPS_Y) * get(state, GROUP_Z)
    if get(state, GROUP_X) + get(state, GROUPS_X) * row == get(trace, WANTED_GROUP):
        n = get(trace, N_ENTRIES)
        if n < get(trace, MOST_ENTRIES):
            entry = get(trace, ENTRIES) + 8 * ENTRY_WORDS * n
            rest = get(state, THREAD) | (n_bytes << _BYTES) | (what << _WHAT)
            if table == ARRAYS:
                rest |= 1 << _IS_SHARED
            store_i64(entry + 8 * ENTRY_ADDRESS, address)
            store_i64(entry + 8 * ENTRY_REST, rest)
        store_i64(trace + 8 * N_ENTRIES, n + 1)
    return touch(state, table, address, n_bytes, alignment)
