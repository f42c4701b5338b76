"""Threads of a simulated GPU: each has a stack, and says here what it waits for.

The threads of a warp go on in turns from one meeting to the next, then the next warp does, until
all warps are where the whole workgroup meets. So who goes on next follows from the place in this
order alone, and a thread changes over to the next directly.
"""

from jitllm.kernels.atomics import call_kernel, call_word
from jitllm.kernels.cpu.fiber_layout import (
    BAD_ADDRESS,
    BAD_BYTES,
    BAD_TABLE,
    BAD_THREAD,
    BAD_X,
    BAD_Y,
    BAD_Z,
    END,
    ENDED,
    EPOCH,
    FOR_WARP,
    FOR_WORDS,
    FRAME_BYTES,
    FRAME_START,
    GROUP_START,
    GROUP_X,
    GROUP_Y,
    GROUP_Z,
    GROUPS_X,
    GROUPS_Y,
    GROUPS_Z,
    HALF,
    KIND,
    MAIN,
    N_THREADS,
    PIECE_WORDS,
    POISON,
    POSITION,
    RECORD_WORDS,
    RECORDS,
    REVERSED,
    RUN_FIBER,
    RUN_THREAD,
    SITE,
    SPARE,
    STACK,
    STACK_BYTES,
    STACKS,
    START,
    SWITCH,
    THREAD,
    TURN,
    USES_FIBERS,
    WARP,
)
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.simd import load_i64, store_i64


@inline
def get(state, word):
    """Return a word of the state."""
    return load_i64(state + 8 * word)


@inline
def _count(address):
    store_i64(address, load_i64(address) + 1)


@inline
def turn(state):
    """Return where the number of times is that the running thread's warp has met."""
    first = get(state, THREAD) // WARP * WARP
    return get(state, RECORDS) + 8 * (RECORD_WORDS * first + TURN)


@inline
def _thread_at(state, position):
    """Thread at a place in the order, which may be reversed."""
    last = get(state, N_THREADS) - 1
    return last - position if get(state, REVERSED) else position


@inline
def _record(state, position):
    return get(state, RECORDS) + 8 * RECORD_WORDS * _thread_at(state, position)


@inline
def _agree(state, first, end, step):
    """Whether the threads at these places wait for the same thing at the same call."""
    one, same = _record(state, first), True
    for position in range(first, end, step):
        other = _record(state, position)
        if load_i64(other + 8 * KIND) != load_i64(one + 8 * KIND):
            same = False
        if load_i64(other + 8 * SITE) != load_i64(one + 8 * SITE):
            same = False
    return same


@inline
def _next(state, position, kind):
    """Place of who goes on: -1 is the one that began the workgroup."""
    if position % WARP != WARP - 1:
        return position + 1
    if not _agree(state, position + 1 - WARP, position + 1, 1):
        return -1
    if kind == FOR_WARP:
        _count(turn(state))
    if kind == FOR_WARP or kind == FOR_WORDS:
        return position + 1 - WARP
    if position + 1 < get(state, N_THREADS):
        return position + 1
    if kind == ENDED or not _agree(state, 0, position + 1, WARP):
        return -1
    _count(state + 8 * EPOCH)
    return 0


def advance(state, kind, site):
    """Note what the running thread waits for; returns where the next one's stack pointer is."""
    position = get(state, POSITION)
    record = _record(state, position)
    store_i64(record + 8 * KIND, kind)
    store_i64(record + 8 * SITE, site)
    following = _next(state, position, kind)
    if following < 0:
        return state + 8 * MAIN
    store_i64(state + 8 * POSITION, following)
    store_i64(state + 8 * THREAD, _thread_at(state, following))
    return _record(state, following) + 8 * STACK


@inline
def _prepare(state):
    """Give every thread a new stack, at whose top it will find where to begin."""
    for thread in range(get(state, N_THREADS)):
        top = get(state, STACKS) + (thread + 1) * get(state, STACK_BYTES)
        frame = top - get(state, FRAME_BYTES)
        for i in range(0, get(state, FRAME_BYTES), 8):
            store_i64(frame + i, 0)
        store_i64(frame + get(state, FRAME_START), get(state, RUN_FIBER))
        record = get(state, RECORDS) + 8 * RECORD_WORDS * thread
        store_i64(record + 8 * STACK, frame)
        store_i64(record + 8 * HALF, 0)


@inline
def _run_group(state):
    """Run a workgroup; returns whether all its threads came to an end."""
    _count(state + 8 * EPOCH)
    store_i64(state + 8 * GROUP_START, get(state, EPOCH))
    if get(state, POISON):
        call_word(get(state, POISON), 0)
    if not get(state, USES_FIBERS):
        for position in range(get(state, N_THREADS)):
            store_i64(state + 8 * THREAD, _thread_at(state, position))
            call_word(get(state, RUN_THREAD), 0)
        return True
    _prepare(state)
    store_i64(state + 8 * POSITION, 0)
    store_i64(state + 8 * THREAD, _thread_at(state, 0))
    call_kernel(get(state, SWITCH), state + 8 * MAIN, _record(state, 0) + 8 * STACK, 0, 0)
    ended = True
    for position in range(get(state, N_THREADS)):
        if load_i64(_record(state, position) + 8 * KIND) != ENDED:
            ended = False
    return ended


@inline
def _is_allowed(state, table, address, n_bytes):
    """Whether bytes are in one piece of a table, which is in ascending order."""
    first, end = 0, get(state, table + 1)
    while first < end:
        middle = (first + end) // 2
        piece = get(state, table) + 8 * PIECE_WORDS * middle
        if address < load_i64(piece + 8 * START):
            end = middle
        elif address >= load_i64(piece + 8 * END):
            first = middle + 1
        else:
            return address + n_bytes <= load_i64(piece + 8 * END)
    return False


@inline
def touch(state, table, address, n_bytes, alignment):
    """Return `address` if a thread may touch it, else where no harm is done; notes the first."""
    if address % alignment == 0 and _is_allowed(state, table, address, n_bytes):
        return address
    if get(state, BAD_BYTES) == 0:
        store_i64(state + 8 * BAD_BYTES, n_bytes)
        store_i64(state + 8 * BAD_ADDRESS, address)
        store_i64(state + 8 * BAD_TABLE, table)
        store_i64(state + 8 * BAD_THREAD, get(state, THREAD))
        store_i64(state + 8 * BAD_X, get(state, GROUP_X))
        store_i64(state + 8 * BAD_Y, get(state, GROUP_Y))
        store_i64(state + 8 * BAD_Z, get(state, GROUP_Z))
    return get(state, SPARE)


def place(state, table, address, n_bytes, alignment, what):
    """Return where a load or store goes to.

    Parameters
    ----------
    state : int
        Where the words of the simulated GPU are.
    table : int
        PIECES or ARRAYS: the memory that it is in.
    address, n_bytes, alignment : int
    what : int
        Twice the number of its place in the source; 1 more for stores.
    """
    return touch(state, table, address, n_bytes, alignment)


def run_groups(state):
    """Run all workgroups of a grid; returns 0, or 1 if the current one's threads went apart."""
    for z in range(get(state, GROUPS_Z)):
        store_i64(state + 8 * GROUP_Z, z)
        for y in range(get(state, GROUPS_Y)):
            store_i64(state + 8 * GROUP_Y, y)
            for x in range(get(state, GROUPS_X)):
                store_i64(state + 8 * GROUP_X, x)
                if not _run_group(state):
                    return 1
    return 0
