// A state space for each head, with one decay: state = exp(a s) state + s b x^T, and
// y = c^T state + d x.
#version 450
#include "common.glsl"
#include "run.glsl"
#include "states.glsl"
#include "activations.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint HEADS = 1;
layout(constant_id = 1) const uint GROUPS = 1;  // of heads that share b and c
layout(constant_id = 2) const uint COLUMNS = 64;
layout(constant_id = 3) const uint N = 16;
layout(constant_id = 4) const bool STEPS = false;
layout(constant_id = 5) const bool SKIP = false;
layout(constant_id = 6) const bool SHIFTED = false;
layout(push_constant) uniform Arguments {
    Run run;
    F32 x, b, c, steps, y, a, d, shift;
    uint64_t states;  // [HEADS, N, COLUMNS]
    uint ldx, ldb, ldc, lds, ldy, slot_bytes;
};
#include "state_columns.glsl"

void main() {
    uint row = gl_WorkGroupID.y, end = end_of_segment(run, row);
    if (row >= end) return;
    uint blocks = (COLUMNS + 15) / 16, segment = segment_of(run, row);
    uint head = group_of_row() / blocks, i = column_of_lane(group_of_row() % blocks);
    uint group = head / (HEADS / GROUPS);
    uint64_t before = state_before(run, segment, states, slot_bytes);
    uint64_t own = uint64_t(head) * N * COLUMNS * 4;
    load_state(before == 0 ? 0 : before + own, i);
    float rate = a.v[head], skip = 0, moved = 0, decay = exp(rate);
    if (SKIP) skip = d.v[head];
    if (SHIFTED) moved = shift.v[head];
    for (uint t = row; t < end; t++) {
        uint keys = t * ldb + group * N, queries = t * ldc + group * N;
        float raw = 0, value, total = 0;
        if (i < COLUMNS) raw = x.v[t * ldx + head * COLUMNS + i];
        value = raw;
        if (STEPS) {
            float time = softplus(steps.v[t * lds + head] + moved);
            value *= time;
            decay = exp(time * rate);
        }
        [[unroll]] for (uint j = 0; j < PART; j++) {
            if (!has(j)) continue;
            state[j] = state[j] * decay + b.v[keys + row_of(j)] * value;
            total += state[j] * c.v[queries + row_of(j)];
        }
        total = over_parts(total);
        if (is_first_part() && i < COLUMNS)
            y.v[t * ldy + head * COLUMNS + i] = total + raw * skip;
    }
    store_state(state_behind(run, segment, states, slot_bytes) + own, i);
}
