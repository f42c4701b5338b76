// The recurrences of RWKV: state = w * state + k v^T, y = r^T state, in the forms of
// gpu_ops/wkv.py: r reads the state before it changes; k is gated by 1 - w; or erase and rate take
// from the state.
#version 450
#include "common.glsl"
#include "run.glsl"
#include "states.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint FORM = 0;
layout(constant_id = 1) const uint HEADS = 1;
layout(constant_id = 2) const uint KEY_HEADS = 1;
layout(constant_id = 3) const uint N = 64;
layout(constant_id = 4) const uint COLUMNS = 64;
layout(push_constant) uniform Arguments {
    Run run;
    F32 r, k, v, w, erase, rate, y;
    uint64_t states;  // [HEADS, N, COLUMNS]
    uint ldr, ldk, ldv, ldw, lde, lda, ldy, slot_bytes;
};
#include "state_columns.glsl"
const uint BEFORE = 0, GATED = 1, DELTA = 2;

void main() {
    uint row = gl_WorkGroupID.y, end = end_of_segment(run, row);
    if (row >= end) return;
    uint blocks = (COLUMNS + 15) / 16, segment = segment_of(run, row);
    uint head = group_of_row() / blocks, i = column_of_lane(group_of_row() % blocks);
    uint key_head = head / (HEADS / KEY_HEADS);
    uint64_t before = state_before(run, segment, states, slot_bytes);
    uint64_t own = uint64_t(head) * N * COLUMNS * 4;
    load_state(before == 0 ? 0 : before + own, i);
    for (uint t = row; t < end; t++) {
        float held = 0, total = 0, value = 0;
        if (i < COLUMNS) value = v.v[t * ldv + key_head * COLUMNS + i];
        if (FORM == DELTA) {
            [[unroll]] for (uint j = 0; j < PART; j++)
                if (has(j)) held += state[j] * erase.v[t * lde + head * N + row_of(j)];
            held = over_parts(held);
        }
        [[unroll]] for (uint j = 0; j < PART; j++) {
            if (!has(j)) continue;
            uint at = head * N + row_of(j);
            float decay = w.v[t * ldw + at], key = k.v[t * ldk + key_head * N + row_of(j)];
            if (FORM == GATED) key *= 1 - decay;
            float next = state[j] * decay + key * value;
            if (FORM == DELTA) next -= rate.v[t * lda + at] * erase.v[t * lde + at] * held;
            total += (FORM == BEFORE ? state[j] : next) * r.v[t * ldr + at];
            state[j] = next;
        }
        total = over_parts(total);
        if (is_first_part() && i < COLUMNS) y.v[t * ldy + head * COLUMNS + i] = total;
    }
    store_state(state_behind(run, segment, states, slot_bytes) + own, i);
}
