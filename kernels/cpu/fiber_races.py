"""Which threads of a simulated GPU touched a byte, and whether a barrier was between them.

Of each byte is known who wrote it last and two who read it, of all that did those that are
farthest from each other: in two workgroups, else two warps, else two lanes. So a later writer has a
conflict with one of the two if it has one with any. Threads of a workgroup are in order if the
workgroup met between (another epoch), or their warp did; threads of two workgroups never are.
"""

from jitllm.kernels.cpu.fiber_layout import (
    ADDRESS,
    ARRAYS,
    CELL_WORDS,
    EPOCH,
    EPOCH_SHIFT,
    FAR,
    FINDING_WORDS,
    FINDINGS,
    FIRST_SITE,
    FOUND_X,
    FOUND_Y,
    FOUND_Z,
    GROUP_START,
    GROUP_X,
    GROUP_Y,
    GROUP_Z,
    IN_ORDER,
    MOST_FINDINGS,
    MOST_PAGES,
    N_FINDINGS,
    N_PAGES,
    OLDEST,
    OTHER,
    OTHER_GROUP,
    OTHER_LANE,
    OTHER_WARP,
    OWN,
    PAGE_BITS,
    PAGES,
    READ,
    READ_TOO,
    READ_UNWRITTEN,
    READ_WRITTEN,
    SLOTS,
    TABLE_MASK,
    THREAD,
    THREAD_BITS,
    THREAD_SHIFT,
    TURN_BITS,
    TURN_SHIFT,
    WARP,
    WATCH,
    WHAT,
    WRITE_READ,
    WRITE_WRITTEN,
    WRITTEN,
)
from jitllm.kernels.cpu.fibers import get, touch, turn
from jitllm.kernels.cpu.inline import helper, inline
from jitllm.kernels.simd import load_i64, store_i64

_SPREAD = 0x9E3779B97F4A7C1  # times a page's number: slots far from those of its neighbours


def watch(state, table, address, n_bytes, alignment, what):
    """Do as `fibers.place`, and compare with what other threads did to these bytes."""
    there = touch(state, table, address, n_bytes, alignment)
    cell = _cell(get(state, WATCH), address) if there == address else 0
    if cell == 0:
        return there
    own = _own(state, what >> 1)
    for i in range(n_bytes):
        if what & 1:
            _write(state, table, address + i, cell + 8 * CELL_WORDS * i, own)
        else:
            _read(state, table, address + i, cell + 8 * CELL_WORDS * i, own)
    return there


@inline
def _own(state, site):
    """Return the word of the running thread at a place in the source."""
    turns = load_i64(turn(state)) & ((1 << TURN_BITS) - 1)
    place = site + get(get(state, WATCH), FIRST_SITE)
    who = (turns << TURN_SHIFT) | (get(state, THREAD) << THREAD_SHIFT) | place
    return (get(state, EPOCH) << EPOCH_SHIFT) | who


@helper
def _cell(races, address):
    """Return where the cell of a byte is; 0 if there is no place for it."""
    key, mask = (address >> PAGE_BITS) + 1, get(races, TABLE_MASK)
    slot = (key * _SPREAD >> PAGE_BITS) & mask
    at = get(races, SLOTS) + 16 * slot
    while load_i64(at) != key and load_i64(at) != 0:
        slot = (slot + 1) & mask
        at = get(races, SLOTS) + 16 * slot
    if load_i64(at) == 0:
        n = get(races, N_PAGES)
        if n == get(races, MOST_PAGES):
            return 0
        store_i64(races + 8 * N_PAGES, n + 1)
        store_i64(at, key)
        store_i64(at + 8, get(races, PAGES) + ((n * CELL_WORDS * 8) << PAGE_BITS))
    return load_i64(at + 8) + 8 * CELL_WORDS * (address & ((1 << PAGE_BITS) - 1))


@inline
def _since(state, table):
    """Return the word that all who touched this memory after it was new are above."""
    if table == ARRAYS:
        return get(state, GROUP_START) << EPOCH_SHIFT
    return get(get(state, WATCH), OLDEST) << EPOCH_SHIFT


@inline
def _distance(state, since, other, own):
    """Return how far another is that is not in order with the running thread."""
    thread, mask = own >> THREAD_SHIFT, (1 << THREAD_BITS) - 1
    first, second = (other >> THREAD_SHIFT) & mask, thread & mask
    if other < since:
        return IN_ORDER
    if other >> EPOCH_SHIFT < get(state, GROUP_START):
        return OTHER_GROUP
    if other >> EPOCH_SHIFT != own >> EPOCH_SHIFT or first == second:
        return IN_ORDER
    if first // WARP != second // WARP:
        return OTHER_WARP
    return OTHER_LANE if other >> TURN_SHIFT == own >> TURN_SHIFT else IN_ORDER


@inline
def _read(state, table, address, cell, own):
    since = _since(state, table)
    written, one = load_i64(cell + 8 * WRITTEN), load_i64(cell + 8 * READ)
    too = load_i64(cell + 8 * READ_TOO)
    if table == ARRAYS and written < since:
        _note(state, READ_UNWRITTEN, address, own, 0, IN_ORDER)
    far = _distance(state, since, written, own)
    if far:
        _note(state, READ_WRITTEN, address, own, written, far)
    far, far_too = _distance(state, since, one, own), _distance(state, since, too, own)
    if far == OTHER_GROUP:
        store_i64(cell + 8 * READ_TOO, one)
    elif far_too == IN_ORDER:
        store_i64(cell + 8 * READ_TOO, own if far else 0)
    elif far == OTHER_WARP and far_too == OTHER_WARP:
        store_i64(cell + 8 * READ_TOO, own)
    if far == IN_ORDER or far == OTHER_GROUP:
        store_i64(cell + 8 * READ, own)


@inline
def _write(state, table, address, cell, own):
    since = _since(state, table)
    for i in range(CELL_WORDS):
        other = load_i64(cell + 8 * i)
        far = _distance(state, since, other, own)
        if far:
            what = WRITE_WRITTEN if i == WRITTEN else WRITE_READ
            _note(state, what, address, own, other, far)
    store_i64(cell + 8 * WRITTEN, own)


@helper
def _note(state, what, address, own, other, far):
    """Keep a finding, unless there was one of these two places in the source."""
    races, site = get(state, WATCH), (1 << THREAD_SHIFT) - 1
    n = get(races, N_FINDINGS)
    at = get(races, FINDINGS)
    for _ in range(n):
        is_same = load_i64(at + 8 * WHAT) == what and load_i64(at + 8 * FAR) == far
        differ = (load_i64(at + 8 * OWN) ^ own) | (load_i64(at + 8 * OTHER) ^ other)
        if is_same and differ & site == 0:
            return
        at += 8 * FINDING_WORDS
    if n < get(races, MOST_FINDINGS):
        store_i64(races + 8 * N_FINDINGS, n + 1)
        store_i64(at + 8 * WHAT, what)
        store_i64(at + 8 * ADDRESS, address)
        store_i64(at + 8 * OWN, own)
        store_i64(at + 8 * OTHER, other)
        store_i64(at + 8 * FAR, far)
        store_i64(at + 8 * FOUND_X, get(state, GROUP_X))
        store_i64(at + 8 * FOUND_Y, get(state, GROUP_Y))
        store_i64(at + 8 * FOUND_Z, get(state, GROUP_Z))
