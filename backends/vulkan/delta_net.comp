// The gated delta rule: state = decay * state, then state += k (beta (v - k^T state))^T, and
// y = q^T state.
#version 450
#include "common.glsl"
#include "run.glsl"
#include "states.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint HEADS = 1;
layout(constant_id = 1) const uint KEY_HEADS = 1;
layout(constant_id = 2) const uint N = 64;
layout(constant_id = 3) const uint COLUMNS = 64;
layout(constant_id = 4) const bool TILED = false;   // head h reads key head h % KEY_HEADS
layout(constant_id = 5) const bool BY_ROW = false;  // a decay for each row of a state
layout(push_constant) uniform Arguments {
    Run run;
    F32 q, k, v, decay, beta, y;
    uint64_t states;  // [HEADS, N, COLUMNS]
    uint ldq, ldk, ldv, ldd, ldb, ldy, slot_bytes;
    float scale;
};
#include "state_columns.glsl"

void main() {
    uint row = gl_WorkGroupID.y, end = end_of_segment(run, row);
    if (row >= end) return;
    uint blocks = (COLUMNS + 15) / 16, segment = segment_of(run, row);
    uint head = group_of_row() / blocks, i = column_of_lane(group_of_row() % blocks);
    uint read = (TILED ? head % KEY_HEADS : head / (HEADS / KEY_HEADS)) * N;
    uint64_t before = state_before(run, segment, states, slot_bytes);
    uint64_t own = uint64_t(head) * N * COLUMNS * 4;
    load_state(before == 0 ? 0 : before + own, i);
    for (uint t = row; t < end; t++) {
        uint keys = t * ldk + read, queries = t * ldq + read;
        float held = 0, total = 0, value = 0, all = BY_ROW ? 1 : decay.v[t * ldd + head];
        if (i < COLUMNS) value = v.v[t * ldv + head * COLUMNS + i];
        [[unroll]] for (uint j = 0; j < PART; j++) {
            if (!has(j)) continue;
            state[j] *= BY_ROW ? decay.v[t * ldd + head * N + row_of(j)] : all;
            held += state[j] * k.v[keys + row_of(j)];
        }
        float change = (value - over_parts(held)) * beta.v[t * ldb + head];
        [[unroll]] for (uint j = 0; j < PART; j++) {
            if (!has(j)) continue;
            state[j] += k.v[keys + row_of(j)] * change;
            total += state[j] * q.v[queries + row_of(j)];
        }
        total = over_parts(total);
        if (is_first_part() && i < COLUMNS)
            y.v[t * ldy + head * COLUMNS + i] = total * scale;
    }
    store_state(state_behind(run, segment, states, slot_bytes) + own, i);
}
