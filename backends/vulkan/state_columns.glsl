// A workgroup's 16 columns of the matrix [N, COLUMNS] that a head has as its state. Four lanes
// share a column, and each keeps a part of its rows. What includes this defines both sizes.
const uint PART = (N + 3) / 4;
float state[PART];
shared float parts[64];

uint column_of_lane(uint block) { return 16 * block + (gl_LocalInvocationID.x & 15); }
uint row_of(uint i) { return PART * (gl_LocalInvocationID.x >> 4) + i; }
bool has(uint i) { return N % 4 == 0 || row_of(i) < N; }
bool is_first_part() { return gl_LocalInvocationID.x < 16; }

// Load the matrix at an address, zeros at 0; a column behind the last one is zeros too.
void load_state(uint64_t at, uint column) {
    [[unroll]] for (uint i = 0; i < PART; i++) {
        state[i] = 0;
        if (at != 0 && has(i) && column < COLUMNS)
            state[i] = F32(at).v[row_of(i) * COLUMNS + column];
    }
}

void store_state(uint64_t at, uint column) {
    [[unroll]] for (uint i = 0; i < PART; i++)
        if (has(i) && column < COLUMNS) F32(at).v[row_of(i) * COLUMNS + column] = state[i];
}

// The sum of what the lanes of a column have, the same for all four.
float over_parts(float x) {
    uint lane = gl_LocalInvocationID.x, first = lane & 15;
    barrier();
    parts[lane] = x;
    barrier();
    return (parts[first] + parts[first + 16]) + (parts[first + 32] + parts[first + 48]);
}
