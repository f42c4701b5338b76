"""Words that `fibers`, the code of simulated GPU kernels, and the simulator share."""

# The state of a simulated GPU.
(
    THREAD, GROUP_X, GROUP_Y, GROUP_Z, GROUPS_X, GROUPS_Y, GROUPS_Z, ARGUMENTS, N_THREADS, POSITION,
    REVERSED, RECORDS, SCRATCH, MAIN, ADVANCE, SWITCH, EXP2, RUN_THREAD, RUN_FIBER, POISON, STACKS,
    STACK_BYTES, FRAME_BYTES, FRAME_START, USES_FIBERS, PLACE, PIECES, N_PIECES, ARRAYS,
    N_ARRAYS, SPARE, BAD_BYTES, BAD_ADDRESS, BAD_THREAD, BAD_X, BAD_Y, BAD_Z, BAD_TABLE,
    STATE_WORDS,
) = range(39)  # fmt: skip
# A thread's record: its stack pointer, what it waits for and where, its half of the scratch.
STACK, KIND, SITE, HALF, RECORD_WORDS = range(5)
FOR_GROUP, FOR_WARP, ENDED = range(3)
# A piece of memory, or a shared array, that kernels may touch: its first byte, and its end.
START, END, PIECE_WORDS = range(3)
SPARE_BYTES = 64
WARP = 32
MAX_THREADS = 1024
PLANE_BYTES = 4 * MAX_THREADS  # scratch: planes of a word for each thread
HALF_BYTES = 6 * PLANE_BYTES  # two halves, in turns: none writes what others still read
