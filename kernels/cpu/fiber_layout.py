"""Words that `fibers`, the code of simulated GPU kernels, and the simulator share."""

# The state of a simulated GPU.
(
    THREAD, GROUP_X, GROUP_Y, GROUP_Z, GROUPS_X, GROUPS_Y, GROUPS_Z, ARGUMENTS, N_THREADS, POSITION,
    REVERSED, RECORDS, SCRATCH, MAIN, ADVANCE, SWITCH, EXP2, RUN_THREAD, RUN_FIBER, POISON, STACKS,
    STACK_BYTES, FRAME_BYTES, FRAME_START, USES_FIBERS, PLACE, PIECES, N_PIECES, ARRAYS,
    N_ARRAYS, SPARE, BAD_BYTES, BAD_ADDRESS, BAD_THREAD, BAD_X, BAD_Y, BAD_Z, BAD_TABLE,
    EPOCH, GROUP_START, WATCH, STATE_WORDS,
) = range(42)  # fmt: skip
# EPOCH goes up when a workgroup begins, GROUP_START is what it was then, and when it has met.
# A thread's record: its stack pointer, what it waits for and where, its half of the scratch, how
# often its warp has met to see each other's writes (in the record of the warp's first thread).
STACK, KIND, SITE, HALF, TURN, RECORD_WORDS = range(6)
FOR_GROUP, FOR_WARP, FOR_WORDS, ENDED = range(4)  # for words: that the others tell, no more
# A piece of memory, or a shared array, that kernels may touch: its first byte, and its end.
START, END, PIECE_WORDS = range(3)
SPARE_BYTES = 64
WARP = 32
MAX_THREADS = 1024
PLANE_BYTES = 4 * MAX_THREADS  # scratch: planes of a word for each thread
HALF_BYTES = 6 * PLANE_BYTES  # two halves, in turns: none writes what others still read

# What `fiber_races` knows. OLDEST: what earlier epochs did was before this launch; FIRST_SITE: the
# number of the first place in the source of the running kernel. SLOTS: a hash table of addresses
# of memory >> PAGE_BITS (plus 1) and of cells, TABLE_MASK + 1 of them.
(
    OLDEST, FIRST_SITE, SLOTS, TABLE_MASK, PAGES, N_PAGES, MOST_PAGES, FINDINGS, N_FINDINGS,
    MOST_FINDINGS, RACES_WORDS,
) = range(11)  # fmt: skip
PAGE_BITS = 10
# A byte's cell: who wrote it last, and two who read it. Each is a word: epoch, turn, thread, site.
WRITTEN, READ, READ_TOO, CELL_WORDS = range(4)
SITE_BITS, THREAD_BITS, TURN_BITS = 14, 10, 11
THREAD_SHIFT, TURN_SHIFT = SITE_BITS, SITE_BITS + THREAD_BITS
EPOCH_SHIFT = TURN_SHIFT + TURN_BITS
MAX_EPOCH = (1 << (63 - EPOCH_SHIFT)) - 1
# A finding: what the running thread did to what another, whose word this is, had done.
WHAT, ADDRESS, OWN, OTHER, FAR, FOUND_X, FOUND_Y, FOUND_Z, FINDING_WORDS = range(9)
READ_UNWRITTEN, READ_WRITTEN, WRITE_WRITTEN, WRITE_READ = range(4)
IN_ORDER, OTHER_LANE, OTHER_WARP, OTHER_GROUP = range(4)

# What `fiber_trace` keeps of a workgroup: of each access its address, and all else in a word.
WANTED_GROUP, ENTRIES, N_ENTRIES, MOST_ENTRIES, TRACE_WORDS = range(5)
ENTRY_ADDRESS, ENTRY_REST, ENTRY_WORDS = range(3)
# The rest, from its lowest bit: thread, bytes, whether shared, whether a store, place.
ENTRY_SHIFTS = (0, THREAD_BITS, THREAD_BITS + 5, THREAD_BITS + 6, THREAD_BITS + 7)
